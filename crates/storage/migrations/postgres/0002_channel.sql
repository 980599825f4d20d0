-- Scheme "channel". Blobs as in 0001. Indices of payments and counts fit a database's integers, so that units can be summed.

ALTER TABLE store ADD COLUMN bank BYTEA CHECK (bank IS NULL OR (length(bank) = 20 AND merchant IS NULL)); -- neither: a payer's store

-- The contract of every channel here; written when channels are used first.
CREATE TABLE channel_domain (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    chain_id BYTEA NOT NULL CHECK (length(chain_id) = 8),
    contract BYTEA NOT NULL CHECK (length(contract) = 20)
);

CREATE TABLE channel_cursor (
    one       BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    number    BYTEA NOT NULL CHECK (length(number) = 8),
    hash      BYTEA NOT NULL CHECK (length(hash) = 32),
    timestamp BYTEA NOT NULL CHECK (length(timestamp) = 8)
);

CREATE TABLE channel_mirror (
    channel BYTEA NOT NULL PRIMARY KEY CHECK (length(channel) = 32),
    record  TEXT NOT NULL -- JSON, shape in crates/storage/src/channel/mirror.rs
);

-- Payer.

CREATE TABLE client_channels (
    channel    BYTEA NOT NULL PRIMARY KEY CHECK (length(channel) = 32),
    client     BYTEA NOT NULL CHECK (length(client) = 20),
    vendor     BYTEA NOT NULL CHECK (length(vendor) = 20),
    asset      BYTEA NOT NULL CHECK (length(asset) = 20),
    salt       BYTEA NOT NULL CHECK (length(salt) = 32),
    origin     BYTEA, -- UTF-8
    saved_at   BYTEA NOT NULL CHECK (length(saved_at) = 8),
    revealed   BIGINT NOT NULL CHECK (revealed >= acked), -- highest index whose word may have left
    acked      BIGINT NOT NULL CHECK (acked >= 0),        -- last payment that counts for both, 0: none
    transcript BYTEA NOT NULL CHECK (length(transcript) = 32),
    sigma      BYTEA NOT NULL CHECK (length(sigma) = 64),
    closed_at  BYTEA CHECK (length(closed_at) = 8)
);
CREATE INDEX client_channels_open ON client_channels (vendor, asset) WHERE closed_at IS NULL;

-- The permit of the opening is generation 0, each top-up has the next one.
CREATE TABLE client_permits (
    channel           BYTEA NOT NULL REFERENCES client_channels (channel),
    generation        BIGINT NOT NULL CHECK (generation >= 0),
    digest            BYTEA NOT NULL CHECK (length(digest) = 32),
    receipt_key       BYTEA NOT NULL CHECK (length(receipt_key) = 20),
    unit              BYTEA NOT NULL CHECK (length(unit) = 16),
    length            BIGINT NOT NULL CHECK (length > 0),
    anchor            BYTEA NOT NULL CHECK (length(anchor) = 32),
    client_reputation BIGINT NOT NULL CHECK (client_reputation BETWEEN 0 AND 255),
    vendor_reputation BIGINT NOT NULL CHECK (vendor_reputation BETWEEN 0 AND 255),
    issued_at         BYTEA NOT NULL CHECK (length(issued_at) = 8),
    expiry            BYTEA NOT NULL CHECK (length(expiry) = 8),
    bank              BYTEA NOT NULL CHECK (length(bank) = 20),
    signature         BYTEA NOT NULL CHECK (length(signature) = 65),
    PRIMARY KEY (channel, generation)
);

CREATE TABLE client_payments (
    order_id   BYTEA NOT NULL PRIMARY KEY CHECK (length(order_id) = 32),
    channel    BYTEA NOT NULL REFERENCES client_channels (channel),
    idx        BIGINT NOT NULL,
    previous   BIGINT NOT NULL CHECK (previous >= 0 AND previous < idx),
    word       BYTEA NOT NULL CHECK (length(word) = 32),
    item_hash  BYTEA NOT NULL CHECK (length(item_hash) = 32),
    issued_at  BYTEA NOT NULL CHECK (length(issued_at) = 8),
    transcript BYTEA NOT NULL CHECK (length(transcript) = 32),
    sigma      BYTEA NOT NULL CHECK (length(sigma) = 64),
    lock       BYTEA NOT NULL CHECK (length(lock) = 64),
    tag        BYTEA NOT NULL CHECK (length(tag) = 32),
    price      BYTEA NOT NULL CHECK (length(price) = 16),
    charged    BYTEA NOT NULL CHECK (length(charged) = 16), -- less than the price where value was revealed before
    state      TEXT NOT NULL CHECK (state IN ('sent', 'delivered', 'failed', 'refused')),
    rule       BYTEA CHECK ((rule IS NOT NULL) = (state = 'refused'))
);
CREATE UNIQUE INDEX client_payments_in_flight ON client_payments (channel) WHERE state = 'sent';
CREATE UNIQUE INDEX client_payments_delivered ON client_payments (channel, idx) WHERE state = 'delivered';
CREATE INDEX client_payments_channel ON client_payments (channel, idx);
-- What stands on a position and did not arrive: a few, among as many payments as the channel is long.
CREATE INDEX client_payments_open ON client_payments (channel, previous) WHERE state <> 'delivered';

-- Vendor.

CREATE TABLE vendor_channels (
    channel    BYTEA NOT NULL PRIMARY KEY CHECK (length(channel) = 32),
    since      BYTEA NOT NULL CHECK (length(since) = 8), -- its first payment
    settled    BIGINT NOT NULL CHECK (settled >= 0),   -- highest index that the chain has paid for good
    phase      TEXT NOT NULL CHECK (phase IN ('open', 'closing', 'closed')),
    closing    BIGINT CHECK ((closing IS NOT NULL) = (phase = 'closing')), -- the settlement
    from_idx   BIGINT CHECK (from_idx > 0), -- receipts begin above it: what was before is lost, the client said so
    from_chain BIGINT CHECK (from_chain >= 0),
    from_word  BYTEA CHECK (length(from_word) = 32),
    transcript BYTEA CHECK (length(transcript) = 32),
    from_tag   BYTEA CHECK (length(from_tag) = 32),
    opener_at  BIGINT, -- index of the opener
    opener     BYTEA CHECK (length(opener) = 64),
    opened     BIGINT, -- receipts that it opened
    in_sigma0  BIGINT CHECK (in_sigma0 IN (0, 1)),
    checked_at BYTEA CHECK (length(checked_at) = 8),
    CHECK ((from_chain IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((from_word IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((transcript IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((from_tag IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((opener IS NOT NULL) = (opener_at IS NOT NULL)),
    CHECK ((opened IS NOT NULL) = (opener_at IS NOT NULL)),
    CHECK ((in_sigma0 IS NOT NULL) = (opener_at IS NOT NULL)),
    CHECK ((checked_at IS NOT NULL) = (opener_at IS NOT NULL))
);
CREATE INDEX vendor_channels_live ON vendor_channels (channel) WHERE phase <> 'closed';

-- One row per index whose word was taken. Where its good failed, the next payment stands on the one before it, and may take
-- its place.
CREATE TABLE vendor_payments (
    channel    BYTEA NOT NULL CHECK (length(channel) = 32),
    idx        BIGINT NOT NULL,
    previous   BIGINT NOT NULL CHECK (previous >= 0 AND previous < idx),
    chain      BIGINT NOT NULL CHECK (chain >= 0), -- of the channel's, the one that the word is on
    word       BYTEA NOT NULL CHECK (length(word) = 32),
    item_hash  BYTEA NOT NULL CHECK (length(item_hash) = 32),
    issued_at  BYTEA NOT NULL CHECK (length(issued_at) = 8),
    transcript BYTEA NOT NULL CHECK (length(transcript) = 32),
    lock       BYTEA NOT NULL CHECK (length(lock) = 64),
    tag        BYTEA NOT NULL CHECK (length(tag) = 32),
    order_id   BYTEA NOT NULL CHECK (length(order_id) = 32),
    price      BYTEA NOT NULL CHECK (length(price) = 16),
    taken_at   BYTEA NOT NULL CHECK (length(taken_at) = 8),
    state      TEXT NOT NULL CHECK (state IN ('taken', 'delivered', 'failed')),
    PRIMARY KEY (channel, idx)
);
CREATE INDEX vendor_payments_failed ON vendor_payments (channel, previous) WHERE state = 'failed';

CREATE TABLE vendor_checkpoints (
    channel    BYTEA NOT NULL CHECK (length(channel) = 32),
    idx        BIGINT NOT NULL,
    chain      BIGINT NOT NULL CHECK (chain >= 0),
    word       BYTEA NOT NULL CHECK (length(word) = 32),
    locks_root BYTEA NOT NULL CHECK (length(locks_root) = 32),
    signature  BYTEA NOT NULL CHECK (length(signature) = 65),
    PRIMARY KEY (channel, idx, chain)
);

CREATE TABLE settlements (
    id                  BIGINT NOT NULL PRIMARY KEY,
    step                TEXT NOT NULL CHECK (step IN ('checkpoint', 'close', 'cooperative-close')),
    state               TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'mined', 'final', 'dropped')),
    queued_at           BYTEA NOT NULL CHECK (length(queued_at) = 8),
    mined_hash          BYTEA CHECK (length(mined_hash) = 32),
    block_number        BYTEA CHECK (length(block_number) = 8),
    block_hash          BYTEA CHECK (length(block_hash) = 32),
    block_timestamp     BYTEA CHECK (length(block_timestamp) = 8),
    gas_used            BYTEA CHECK (length(gas_used) = 8),
    effective_gas_price BYTEA CHECK (length(effective_gas_price) = 16),
    CHECK ((mined_hash IS NOT NULL) = (state IN ('mined', 'final'))),
    CHECK ((block_number IS NOT NULL) = (mined_hash IS NOT NULL)),
    CHECK ((block_hash IS NOT NULL) = (mined_hash IS NOT NULL)),
    CHECK ((block_timestamp IS NOT NULL) = (mined_hash IS NOT NULL)),
    CHECK ((gas_used IS NOT NULL) = (state = 'final')),
    CHECK ((effective_gas_price IS NOT NULL) = (state = 'final'))
);
CREATE INDEX settlements_unfinished ON settlements (id) WHERE state IN ('queued', 'sent', 'mined');

CREATE TABLE settlement_items (
    settlement BIGINT NOT NULL REFERENCES settlements (id),
    channel    BYTEA NOT NULL CHECK (length(channel) = 32),
    idx        BIGINT NOT NULL CHECK (idx >= 0),
    paid_at    BIGINT, -- index that was settled
    paid       BYTEA CHECK (length(paid) = 16),
    reason     BYTEA CHECK (length(reason) = 4),
    got        BYTEA CHECK (length(got) = 32),
    bound      BYTEA CHECK (length(bound) = 32),
    PRIMARY KEY (settlement, channel),
    CHECK ((paid_at IS NOT NULL) = (paid IS NOT NULL)),
    CHECK ((got IS NOT NULL) = (reason IS NOT NULL)),
    CHECK ((bound IS NOT NULL) = (reason IS NOT NULL)),
    CHECK (paid IS NULL OR reason IS NULL)
);
CREATE INDEX settlement_items_channel ON settlement_items (channel);

CREATE TABLE settlement_transactions (
    seq                      BIGINT NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    hash                     BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
    settlement               BIGINT NOT NULL REFERENCES settlements (id),
    raw                      BYTEA NOT NULL,
    account_nonce            BYTEA NOT NULL CHECK (length(account_nonce) = 8),
    max_fee_per_gas          BYTEA NOT NULL CHECK (length(max_fee_per_gas) = 16),
    max_priority_fee_per_gas BYTEA NOT NULL CHECK (length(max_priority_fee_per_gas) = 16),
    sent_at                  BYTEA NOT NULL CHECK (length(sent_at) = 8),
    dropped                  BIGINT NOT NULL CHECK (dropped IN (0, 1))
);
CREATE INDEX settlement_transactions_of ON settlement_transactions (settlement);

-- Bank.

CREATE TABLE bank_keys (
    epoch   BYTEA NOT NULL PRIMARY KEY CHECK (length(epoch) = 8),
    address BYTEA NOT NULL CHECK (length(address) = 20)
);

CREATE TABLE bank_permits (
    channel           BYTEA NOT NULL CHECK (length(channel) = 32),
    generation        BIGINT NOT NULL CHECK (generation >= 0),
    digest            BYTEA NOT NULL CHECK (length(digest) = 32),
    client            BYTEA NOT NULL CHECK (length(client) = 20),
    vendor            BYTEA NOT NULL CHECK (length(vendor) = 20),
    receipt_key       BYTEA NOT NULL CHECK (length(receipt_key) = 20),
    asset             BYTEA NOT NULL CHECK (length(asset) = 20),
    unit              BYTEA NOT NULL CHECK (length(unit) = 16),
    length            BIGINT NOT NULL CHECK (length > 0),
    anchor            BYTEA NOT NULL CHECK (length(anchor) = 32),
    client_reputation BIGINT NOT NULL CHECK (client_reputation BETWEEN 0 AND 255),
    vendor_reputation BIGINT NOT NULL CHECK (vendor_reputation BETWEEN 0 AND 255),
    issued_at         BYTEA NOT NULL CHECK (length(issued_at) = 8),
    expiry            BYTEA NOT NULL CHECK (length(expiry) = 8),
    bank              BYTEA NOT NULL CHECK (length(bank) = 20),
    signature         BYTEA NOT NULL CHECK (length(signature) = 65),
    epoch             BYTEA NOT NULL REFERENCES bank_keys (epoch),
    PRIMARY KEY (channel, generation)
);
CREATE INDEX bank_permits_client ON bank_permits (client, issued_at);
