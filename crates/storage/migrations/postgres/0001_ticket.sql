-- Scheme "ticket". Every number that is money, a nonce or a time is an unsigned big-endian blob of fixed width (8 bytes for
-- u64, 16 for amounts, 32 for uint256): the integers of databases are signed 64-bit numbers and would lose values, text does
-- not order by value, and blobs of one width compare as the numbers do.
-- The tables are the same in every database: a test compares the files.

CREATE TABLE store (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    chain_id BYTEA NOT NULL CHECK (length(chain_id) = 8),
    contract BYTEA NOT NULL CHECK (length(contract) = 20),
    merchant BYTEA CHECK (length(merchant) = 20) -- NULL: a payer's store
);

CREATE TABLE session (
    one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    seed BYTEA CHECK (length(seed) = 32),
    boot BYTEA NOT NULL CHECK (length(boot) = 8) -- last number given out
);

-- Payer.

CREATE TABLE nonces (
    escrow BYTEA NOT NULL PRIMARY KEY CHECK (length(escrow) = 20),
    next   BYTEA NOT NULL CHECK (length(next) = 8)
);

CREATE TABLE orders (
    id            BYTEA NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    digest        BYTEA NOT NULL CHECK (length(digest) = 32),
    escrow        BYTEA NOT NULL CHECK (length(escrow) = 20),
    recipient     BYTEA NOT NULL CHECK (length(recipient) = 20),
    commitment    BYTEA NOT NULL CHECK (length(commitment) = 32),
    r2            BYTEA NOT NULL CHECK (length(r2) = 32),
    win_threshold BYTEA NOT NULL CHECK (length(win_threshold) = 32),
    expiry        BYTEA NOT NULL CHECK (length(expiry) = 8),
    nonce         BYTEA NOT NULL CHECK (length(nonce) = 8),
    signature     BYTEA NOT NULL CHECK (length(signature) = 65),
    price         BYTEA NOT NULL CHECK (length(price) = 16),
    replaces      BYTEA CHECK (length(replaces) = 32),
    issued_at     BYTEA NOT NULL CHECK (length(issued_at) = 8),
    state         TEXT NOT NULL CHECK (state IN ('sent', 'delivered', 'refused')),
    rule          BYTEA CHECK ((rule IS NOT NULL) = (state = 'refused')),
    UNIQUE (escrow, nonce)
);

-- What the tickets charged to an account were worth together.
CREATE TABLE spent (
    account BYTEA NOT NULL PRIMARY KEY, -- UTF-8
    amount  BYTEA NOT NULL CHECK (length(amount) = 16)
);

-- Merchant.

CREATE TABLE claims (
    id                  BIGINT NOT NULL PRIMARY KEY,
    state               TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'mined', 'final', 'released')),
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
CREATE INDEX claims_unfinished ON claims (id) WHERE state IN ('queued', 'sent', 'mined');

CREATE TABLE transactions (
    seq                      BIGINT NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    hash                     BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
    claim                    BIGINT NOT NULL REFERENCES claims (id),
    raw                      BYTEA NOT NULL,
    account_nonce            BYTEA NOT NULL CHECK (length(account_nonce) = 8),
    max_fee_per_gas          BYTEA NOT NULL CHECK (length(max_fee_per_gas) = 16),
    max_priority_fee_per_gas BYTEA NOT NULL CHECK (length(max_priority_fee_per_gas) = 16),
    sent_at                  BYTEA NOT NULL CHECK (length(sent_at) = 8),
    dropped                  BIGINT NOT NULL CHECK (dropped IN (0, 1))
);
CREATE INDEX transactions_claim ON transactions (claim);

-- A winner in a claim and without an outcome is in the claim's state: said once, so the two cannot disagree.
CREATE TABLE wins (
    digest        BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    escrow        BYTEA NOT NULL CHECK (length(escrow) = 20),
    recipient     BYTEA NOT NULL CHECK (length(recipient) = 20),
    commitment    BYTEA NOT NULL CHECK (length(commitment) = 32),
    r2            BYTEA NOT NULL CHECK (length(r2) = 32),
    win_threshold BYTEA NOT NULL CHECK (length(win_threshold) = 32),
    expiry        BYTEA NOT NULL CHECK (length(expiry) = 8),
    nonce         BYTEA NOT NULL CHECK (length(nonce) = 8),
    signature     BYTEA NOT NULL CHECK (length(signature) = 65),
    boot          BYTEA NOT NULL CHECK (length(boot) = 8),
    serial        BYTEA NOT NULL CHECK (length(serial) = 8),
    r1            BYTEA NOT NULL CHECK (length(r1) = 32),
    order_id      BYTEA NOT NULL CHECK (length(order_id) = 32),
    price         BYTEA NOT NULL CHECK (length(price) = 16),
    won_at        BYTEA NOT NULL CHECK (length(won_at) = 8),
    delivered     BIGINT NOT NULL CHECK (delivered IN (0, 1)),
    claim         BIGINT REFERENCES claims (id),
    paid          BYTEA CHECK (length(paid) = 16),
    owed          BYTEA CHECK (length(owed) = 16),
    reason        BYTEA CHECK (length(reason) = 4),
    got           BYTEA CHECK (length(got) = 32),
    bound         BYTEA CHECK (length(bound) = 32),
    UNIQUE (escrow, nonce),
    CHECK ((owed IS NOT NULL) = (paid IS NOT NULL)),
    CHECK ((got IS NOT NULL) = (reason IS NOT NULL)),
    CHECK ((bound IS NOT NULL) = (reason IS NOT NULL)),
    CHECK (paid IS NULL OR (reason IS NULL AND claim IS NOT NULL))
);
CREATE INDEX wins_unfinished ON wins (escrow, nonce) WHERE paid IS NULL AND reason IS NULL;
CREATE INDEX wins_claim ON wins (claim) WHERE claim IS NOT NULL;

CREATE TABLE floors (
    escrow BYTEA NOT NULL PRIMARY KEY CHECK (length(escrow) = 20),
    nonce  BYTEA NOT NULL CHECK (length(nonce) = 8),
    round  BYTEA NOT NULL CHECK (length(round) = 8) -- in which it was raised last; 0: by a claim only
);
CREATE INDEX floors_round ON floors (round);

-- Processes of the merchant, by the number of their start. Never deleted: who is out stays out.
CREATE TABLE members (
    boot         BYTEA NOT NULL PRIMARY KEY CHECK (length(boot) = 8),
    acked        BYTEA NOT NULL CHECK (length(acked) = 8), -- last round whose floors it has taken over
    lease_end_ms BIGINT,                                 -- unix time on this database's clock; NULL: out
    claims       BIGINT NOT NULL CHECK (claims = 0 OR (claims = 1 AND lease_end_ms IS NOT NULL))
);
CREATE INDEX members_alive ON members (lease_end_ms) WHERE lease_end_ms IS NOT NULL;
CREATE UNIQUE INDEX members_claimer ON members (claims) WHERE claims = 1;

CREATE TABLE mirror_cursor (
    one       BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    number    BYTEA NOT NULL CHECK (length(number) = 8),
    hash      BYTEA NOT NULL CHECK (length(hash) = 32),
    timestamp BYTEA NOT NULL CHECK (length(timestamp) = 8)
);

CREATE TABLE mirror_escrows (
    escrow BYTEA NOT NULL PRIMARY KEY CHECK (length(escrow) = 20),
    record TEXT NOT NULL -- JSON, shape in crates/storage/src/mirror.rs
);
