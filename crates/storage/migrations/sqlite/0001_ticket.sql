-- Scheme "ticket". Every number that is money, a nonce or a time is an unsigned big-endian blob of fixed width (8 bytes for
-- u64, 16 for amounts, 32 for uint256): the integers of databases are signed 64-bit numbers and would lose values, text does
-- not order by value, and blobs of one width compare as the numbers do.
-- The tables are the same in every database: a test compares the files.

CREATE TABLE store (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    chain_id BLOB NOT NULL CHECK (length(chain_id) = 8),
    contract BLOB NOT NULL CHECK (length(contract) = 20),
    merchant BLOB CHECK (length(merchant) = 20) -- NULL: a payer's store
) STRICT;

CREATE TABLE session (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seed BLOB CHECK (length(seed) = 32),
    boot BLOB NOT NULL CHECK (length(boot) = 8) -- last number given out
) STRICT;

-- Payer.

CREATE TABLE nonces (
    escrow BLOB NOT NULL PRIMARY KEY CHECK (length(escrow) = 20),
    next   BLOB NOT NULL CHECK (length(next) = 8)
) STRICT;

CREATE TABLE orders (
    id            BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    digest        BLOB NOT NULL CHECK (length(digest) = 32),
    escrow        BLOB NOT NULL CHECK (length(escrow) = 20),
    recipient     BLOB NOT NULL CHECK (length(recipient) = 20),
    commitment    BLOB NOT NULL CHECK (length(commitment) = 32),
    r2            BLOB NOT NULL CHECK (length(r2) = 32),
    win_threshold BLOB NOT NULL CHECK (length(win_threshold) = 32),
    expiry        BLOB NOT NULL CHECK (length(expiry) = 8),
    nonce         BLOB NOT NULL CHECK (length(nonce) = 8),
    signature     BLOB NOT NULL CHECK (length(signature) = 65),
    price         BLOB NOT NULL CHECK (length(price) = 16),
    replaces      BLOB CHECK (length(replaces) = 32),
    issued_at     BLOB NOT NULL CHECK (length(issued_at) = 8),
    state         TEXT NOT NULL CHECK (state IN ('sent', 'delivered', 'refused')),
    rule          BLOB CHECK ((rule IS NOT NULL) = (state = 'refused')),
    UNIQUE (escrow, nonce)
) STRICT;

-- What the tickets charged to an account were worth together.
CREATE TABLE spent (
    account BLOB NOT NULL PRIMARY KEY, -- UTF-8
    amount  BLOB NOT NULL CHECK (length(amount) = 16)
) STRICT;

-- Merchant.

CREATE TABLE claims (
    id                  INTEGER NOT NULL PRIMARY KEY,
    state               TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'mined', 'final', 'released')),
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
CREATE INDEX claims_unfinished ON claims (id) WHERE state IN ('queued', 'sent', 'mined');

CREATE TABLE transactions (
    seq                      INTEGER NOT NULL PRIMARY KEY,
    hash                     BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    claim                    INTEGER NOT NULL REFERENCES claims (id),
    raw                      BLOB NOT NULL,
    account_nonce            BLOB NOT NULL CHECK (length(account_nonce) = 8),
    max_fee_per_gas          BLOB NOT NULL CHECK (length(max_fee_per_gas) = 16),
    max_priority_fee_per_gas BLOB NOT NULL CHECK (length(max_priority_fee_per_gas) = 16),
    sent_at                  BLOB NOT NULL CHECK (length(sent_at) = 8),
    dropped                  INTEGER NOT NULL CHECK (dropped IN (0, 1))
) STRICT;
CREATE INDEX transactions_claim ON transactions (claim);

-- A winner in a claim and without an outcome is in the claim's state: said once, so the two cannot disagree.
CREATE TABLE wins (
    digest        BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    escrow        BLOB NOT NULL CHECK (length(escrow) = 20),
    recipient     BLOB NOT NULL CHECK (length(recipient) = 20),
    commitment    BLOB NOT NULL CHECK (length(commitment) = 32),
    r2            BLOB NOT NULL CHECK (length(r2) = 32),
    win_threshold BLOB NOT NULL CHECK (length(win_threshold) = 32),
    expiry        BLOB NOT NULL CHECK (length(expiry) = 8),
    nonce         BLOB NOT NULL CHECK (length(nonce) = 8),
    signature     BLOB NOT NULL CHECK (length(signature) = 65),
    boot          BLOB NOT NULL CHECK (length(boot) = 8),
    serial        BLOB NOT NULL CHECK (length(serial) = 8),
    r1            BLOB NOT NULL CHECK (length(r1) = 32),
    order_id      BLOB NOT NULL CHECK (length(order_id) = 32),
    price         BLOB NOT NULL CHECK (length(price) = 16),
    won_at        BLOB NOT NULL CHECK (length(won_at) = 8),
    delivered     INTEGER NOT NULL CHECK (delivered IN (0, 1)),
    claim         INTEGER REFERENCES claims (id),
    paid          BLOB CHECK (length(paid) = 16),
    owed          BLOB CHECK (length(owed) = 16),
    reason        BLOB CHECK (length(reason) = 4),
    got           BLOB CHECK (length(got) = 32),
    bound         BLOB CHECK (length(bound) = 32),
    UNIQUE (escrow, nonce),
    CHECK ((owed IS NOT NULL) = (paid IS NOT NULL)),
    CHECK ((got IS NOT NULL) = (reason IS NOT NULL)),
    CHECK ((bound IS NOT NULL) = (reason IS NOT NULL)),
    CHECK (paid IS NULL OR (reason IS NULL AND claim IS NOT NULL))
) STRICT;
CREATE INDEX wins_unfinished ON wins (escrow, nonce) WHERE paid IS NULL AND reason IS NULL;
CREATE INDEX wins_claim ON wins (claim) WHERE claim IS NOT NULL;

CREATE TABLE floors (
    escrow BLOB NOT NULL PRIMARY KEY CHECK (length(escrow) = 20),
    nonce  BLOB NOT NULL CHECK (length(nonce) = 8),
    round  BLOB NOT NULL CHECK (length(round) = 8) -- in which it was raised last; 0: by a claim only
) STRICT;
CREATE INDEX floors_round ON floors (round);

-- Processes of the merchant, by the number of their start. Never deleted: who is out stays out.
CREATE TABLE members (
    boot         BLOB NOT NULL PRIMARY KEY CHECK (length(boot) = 8),
    acked        BLOB NOT NULL CHECK (length(acked) = 8), -- last round whose floors it has taken over
    lease_end_ms INTEGER,                                 -- unix time on this database's clock; NULL: out
    claims       INTEGER NOT NULL CHECK (claims = 0 OR (claims = 1 AND lease_end_ms IS NOT NULL))
) STRICT;
CREATE INDEX members_alive ON members (lease_end_ms) WHERE lease_end_ms IS NOT NULL;
CREATE UNIQUE INDEX members_claimer ON members (claims) WHERE claims = 1;

CREATE TABLE mirror_cursor (
    one       INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number    BLOB NOT NULL CHECK (length(number) = 8),
    hash      BLOB NOT NULL CHECK (length(hash) = 32),
    timestamp BLOB NOT NULL CHECK (length(timestamp) = 8)
) STRICT;

CREATE TABLE mirror_escrows (
    escrow BLOB NOT NULL PRIMARY KEY CHECK (length(escrow) = 20),
    record TEXT NOT NULL -- JSON, shape in crates/storage/src/mirror.rs
) STRICT;
