-- Scheme "channel". Blobs as in 0001. Indices of payments and counts fit a database's integers, so that units can be summed.

ALTER TABLE store ADD COLUMN bank BLOB CHECK (bank IS NULL OR (length(bank) = 20 AND merchant IS NULL)); -- neither: a payer's store

-- The contract of every channel here; written when channels are used first.
CREATE TABLE channel_domain (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    chain_id BLOB NOT NULL CHECK (length(chain_id) = 8),
    contract BLOB NOT NULL CHECK (length(contract) = 20)
) STRICT;

CREATE TABLE channel_cursor (
    one       INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number    BLOB NOT NULL CHECK (length(number) = 8),
    hash      BLOB NOT NULL CHECK (length(hash) = 32),
    timestamp BLOB NOT NULL CHECK (length(timestamp) = 8)
) STRICT;

CREATE TABLE channel_mirror (
    channel BLOB NOT NULL PRIMARY KEY CHECK (length(channel) = 32),
    record  TEXT NOT NULL -- JSON, shape in crates/storage/src/channel/mirror.rs
) STRICT;

-- Payer.

CREATE TABLE client_channels (
    channel    BLOB NOT NULL PRIMARY KEY CHECK (length(channel) = 32),
    client     BLOB NOT NULL CHECK (length(client) = 20),
    vendor     BLOB NOT NULL CHECK (length(vendor) = 20),
    asset      BLOB NOT NULL CHECK (length(asset) = 20),
    salt       BLOB NOT NULL CHECK (length(salt) = 32),
    origin     BLOB, -- UTF-8
    saved_at   BLOB NOT NULL CHECK (length(saved_at) = 8),
    revealed   INTEGER NOT NULL CHECK (revealed >= acked), -- highest index whose word may have left
    acked      INTEGER NOT NULL CHECK (acked >= 0),        -- last payment that counts for both, 0: none
    transcript BLOB NOT NULL CHECK (length(transcript) = 32),
    sigma      BLOB NOT NULL CHECK (length(sigma) = 64),
    closed_at  BLOB CHECK (length(closed_at) = 8)
) STRICT;
CREATE INDEX client_channels_open ON client_channels (vendor, asset) WHERE closed_at IS NULL;

-- The permit of the opening is generation 0, each top-up has the next one.
CREATE TABLE client_permits (
    channel           BLOB NOT NULL REFERENCES client_channels (channel),
    generation        INTEGER NOT NULL CHECK (generation >= 0),
    digest            BLOB NOT NULL CHECK (length(digest) = 32),
    receipt_key       BLOB NOT NULL CHECK (length(receipt_key) = 20),
    unit              BLOB NOT NULL CHECK (length(unit) = 16),
    length            INTEGER NOT NULL CHECK (length > 0),
    anchor            BLOB NOT NULL CHECK (length(anchor) = 32),
    client_reputation INTEGER NOT NULL CHECK (client_reputation BETWEEN 0 AND 255),
    vendor_reputation INTEGER NOT NULL CHECK (vendor_reputation BETWEEN 0 AND 255),
    issued_at         BLOB NOT NULL CHECK (length(issued_at) = 8),
    expiry            BLOB NOT NULL CHECK (length(expiry) = 8),
    bank              BLOB NOT NULL CHECK (length(bank) = 20),
    signature         BLOB NOT NULL CHECK (length(signature) = 65),
    PRIMARY KEY (channel, generation)
) STRICT;

CREATE TABLE client_payments (
    order_id   BLOB NOT NULL PRIMARY KEY CHECK (length(order_id) = 32),
    channel    BLOB NOT NULL REFERENCES client_channels (channel),
    idx        INTEGER NOT NULL,
    previous   INTEGER NOT NULL CHECK (previous >= 0 AND previous < idx),
    word       BLOB NOT NULL CHECK (length(word) = 32),
    item_hash  BLOB NOT NULL CHECK (length(item_hash) = 32),
    issued_at  BLOB NOT NULL CHECK (length(issued_at) = 8),
    transcript BLOB NOT NULL CHECK (length(transcript) = 32),
    sigma      BLOB NOT NULL CHECK (length(sigma) = 64),
    lock       BLOB NOT NULL CHECK (length(lock) = 64),
    tag        BLOB NOT NULL CHECK (length(tag) = 32),
    price      BLOB NOT NULL CHECK (length(price) = 16),
    charged    BLOB NOT NULL CHECK (length(charged) = 16), -- less than the price where value was revealed before
    state      TEXT NOT NULL CHECK (state IN ('sent', 'delivered', 'failed', 'refused')),
    rule       BLOB CHECK ((rule IS NOT NULL) = (state = 'refused'))
) STRICT;
CREATE UNIQUE INDEX client_payments_in_flight ON client_payments (channel) WHERE state = 'sent';
CREATE UNIQUE INDEX client_payments_delivered ON client_payments (channel, idx) WHERE state = 'delivered';
CREATE INDEX client_payments_channel ON client_payments (channel, idx);
-- What stands on a position and did not arrive: a few, among as many payments as the channel is long.
CREATE INDEX client_payments_open ON client_payments (channel, previous) WHERE state <> 'delivered';

-- Vendor.

CREATE TABLE vendor_channels (
    channel    BLOB NOT NULL PRIMARY KEY CHECK (length(channel) = 32),
    since      BLOB NOT NULL CHECK (length(since) = 8), -- its first payment
    settled    INTEGER NOT NULL CHECK (settled >= 0),   -- highest index that the chain has paid for good
    phase      TEXT NOT NULL CHECK (phase IN ('open', 'closing', 'closed')),
    closing    INTEGER CHECK ((closing IS NOT NULL) = (phase = 'closing')), -- the settlement
    from_idx   INTEGER CHECK (from_idx > 0), -- receipts begin above it: what was before is lost, the client said so
    from_chain INTEGER CHECK (from_chain >= 0),
    from_word  BLOB CHECK (length(from_word) = 32),
    transcript BLOB CHECK (length(transcript) = 32),
    from_tag   BLOB CHECK (length(from_tag) = 32),
    opener_at  INTEGER, -- index of the opener
    opener     BLOB CHECK (length(opener) = 64),
    opened     INTEGER, -- receipts that it opened
    in_sigma0  INTEGER CHECK (in_sigma0 IN (0, 1)),
    checked_at BLOB CHECK (length(checked_at) = 8),
    CHECK ((from_chain IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((from_word IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((transcript IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((from_tag IS NOT NULL) = (from_idx IS NOT NULL)),
    CHECK ((opener IS NOT NULL) = (opener_at IS NOT NULL)),
    CHECK ((opened IS NOT NULL) = (opener_at IS NOT NULL)),
    CHECK ((in_sigma0 IS NOT NULL) = (opener_at IS NOT NULL)),
    CHECK ((checked_at IS NOT NULL) = (opener_at IS NOT NULL))
) STRICT;
CREATE INDEX vendor_channels_live ON vendor_channels (channel) WHERE phase <> 'closed';

-- One row per index whose word was taken. Where its good failed, the next payment stands on the one before it, and may take
-- its place.
CREATE TABLE vendor_payments (
    channel    BLOB NOT NULL CHECK (length(channel) = 32),
    idx        INTEGER NOT NULL,
    previous   INTEGER NOT NULL CHECK (previous >= 0 AND previous < idx),
    chain      INTEGER NOT NULL CHECK (chain >= 0), -- of the channel's, the one that the word is on
    word       BLOB NOT NULL CHECK (length(word) = 32),
    item_hash  BLOB NOT NULL CHECK (length(item_hash) = 32),
    issued_at  BLOB NOT NULL CHECK (length(issued_at) = 8),
    transcript BLOB NOT NULL CHECK (length(transcript) = 32),
    lock       BLOB NOT NULL CHECK (length(lock) = 64),
    tag        BLOB NOT NULL CHECK (length(tag) = 32),
    order_id   BLOB NOT NULL CHECK (length(order_id) = 32),
    price      BLOB NOT NULL CHECK (length(price) = 16),
    taken_at   BLOB NOT NULL CHECK (length(taken_at) = 8),
    state      TEXT NOT NULL CHECK (state IN ('taken', 'delivered', 'failed')),
    PRIMARY KEY (channel, idx)
) STRICT;
CREATE INDEX vendor_payments_failed ON vendor_payments (channel, previous) WHERE state = 'failed';

CREATE TABLE vendor_checkpoints (
    channel    BLOB NOT NULL CHECK (length(channel) = 32),
    idx        INTEGER NOT NULL,
    chain      INTEGER NOT NULL CHECK (chain >= 0),
    word       BLOB NOT NULL CHECK (length(word) = 32),
    locks_root BLOB NOT NULL CHECK (length(locks_root) = 32),
    signature  BLOB NOT NULL CHECK (length(signature) = 65),
    PRIMARY KEY (channel, idx, chain)
) STRICT;

CREATE TABLE settlements (
    id                  INTEGER NOT NULL PRIMARY KEY,
    step                TEXT NOT NULL CHECK (step IN ('checkpoint', 'close', 'cooperative-close')),
    state               TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'mined', 'final', 'dropped')),
    queued_at           BLOB NOT NULL CHECK (length(queued_at) = 8),
    mined_hash          BLOB CHECK (length(mined_hash) = 32),
    block_number        BLOB CHECK (length(block_number) = 8),
    block_hash          BLOB CHECK (length(block_hash) = 32),
    block_timestamp     BLOB CHECK (length(block_timestamp) = 8),
    gas_used            BLOB CHECK (length(gas_used) = 8),
    effective_gas_price BLOB CHECK (length(effective_gas_price) = 16),
    CHECK ((mined_hash IS NOT NULL) = (state IN ('mined', 'final'))),
    CHECK ((block_number IS NOT NULL) = (mined_hash IS NOT NULL)),
    CHECK ((block_hash IS NOT NULL) = (mined_hash IS NOT NULL)),
    CHECK ((block_timestamp IS NOT NULL) = (mined_hash IS NOT NULL)),
    CHECK ((gas_used IS NOT NULL) = (state = 'final')),
    CHECK ((effective_gas_price IS NOT NULL) = (state = 'final'))
) STRICT;
CREATE INDEX settlements_unfinished ON settlements (id) WHERE state IN ('queued', 'sent', 'mined');

CREATE TABLE settlement_items (
    settlement INTEGER NOT NULL REFERENCES settlements (id),
    channel    BLOB NOT NULL CHECK (length(channel) = 32),
    idx        INTEGER NOT NULL CHECK (idx >= 0),
    paid_at    INTEGER, -- index that was settled
    paid       BLOB CHECK (length(paid) = 16),
    reason     BLOB CHECK (length(reason) = 4),
    got        BLOB CHECK (length(got) = 32),
    bound      BLOB CHECK (length(bound) = 32),
    PRIMARY KEY (settlement, channel),
    CHECK ((paid_at IS NOT NULL) = (paid IS NOT NULL)),
    CHECK ((got IS NOT NULL) = (reason IS NOT NULL)),
    CHECK ((bound IS NOT NULL) = (reason IS NOT NULL)),
    CHECK (paid IS NULL OR reason IS NULL)
) STRICT;
CREATE INDEX settlement_items_channel ON settlement_items (channel);

CREATE TABLE settlement_transactions (
    seq                      INTEGER NOT NULL PRIMARY KEY,
    hash                     BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    settlement               INTEGER NOT NULL REFERENCES settlements (id),
    raw                      BLOB NOT NULL,
    account_nonce            BLOB NOT NULL CHECK (length(account_nonce) = 8),
    max_fee_per_gas          BLOB NOT NULL CHECK (length(max_fee_per_gas) = 16),
    max_priority_fee_per_gas BLOB NOT NULL CHECK (length(max_priority_fee_per_gas) = 16),
    sent_at                  BLOB NOT NULL CHECK (length(sent_at) = 8),
    dropped                  INTEGER NOT NULL CHECK (dropped IN (0, 1))
) STRICT;
CREATE INDEX settlement_transactions_of ON settlement_transactions (settlement);

-- Bank.

CREATE TABLE bank_keys (
    epoch   BLOB NOT NULL PRIMARY KEY CHECK (length(epoch) = 8),
    address BLOB NOT NULL CHECK (length(address) = 20)
) STRICT;

CREATE TABLE bank_permits (
    channel           BLOB NOT NULL CHECK (length(channel) = 32),
    generation        INTEGER NOT NULL CHECK (generation >= 0),
    digest            BLOB NOT NULL CHECK (length(digest) = 32),
    client            BLOB NOT NULL CHECK (length(client) = 20),
    vendor            BLOB NOT NULL CHECK (length(vendor) = 20),
    receipt_key       BLOB NOT NULL CHECK (length(receipt_key) = 20),
    asset             BLOB NOT NULL CHECK (length(asset) = 20),
    unit              BLOB NOT NULL CHECK (length(unit) = 16),
    length            INTEGER NOT NULL CHECK (length > 0),
    anchor            BLOB NOT NULL CHECK (length(anchor) = 32),
    client_reputation INTEGER NOT NULL CHECK (client_reputation BETWEEN 0 AND 255),
    vendor_reputation INTEGER NOT NULL CHECK (vendor_reputation BETWEEN 0 AND 255),
    issued_at         BLOB NOT NULL CHECK (length(issued_at) = 8),
    expiry            BLOB NOT NULL CHECK (length(expiry) = 8),
    bank              BLOB NOT NULL CHECK (length(bank) = 20),
    signature         BLOB NOT NULL CHECK (length(signature) = 65),
    epoch             BLOB NOT NULL REFERENCES bank_keys (epoch),
    PRIMARY KEY (channel, generation)
) STRICT;
CREATE INDEX bank_permits_client ON bank_permits (client, issued_at);
