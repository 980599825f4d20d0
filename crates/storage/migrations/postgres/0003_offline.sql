-- Scheme "offline": one wallet. Blobs as in 0001; what is encoded is CBOR, as crates/protocol/src/offline/encoding has it.

ALTER TABLE store ADD COLUMN wallet BYTEA CHECK (wallet IS NULL OR (length(wallet) = 32 AND merchant IS NULL AND bank IS NULL));

-- The books with the payment under way. A save names the version that it was decided from.
CREATE TABLE offline_wallet (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    version  BYTEA NOT NULL CHECK (length(version) = 8),
    sequence BYTEA NOT NULL CHECK (length(sequence) = 8), -- of the last transfer
    payer    BYTEA NOT NULL                               -- AnyPayer
);

-- What this wallet asked for, and what it was paid.
CREATE TABLE offline_invoices (
    digest   BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    number   BIGINT NOT NULL UNIQUE,
    invoice  BYTEA NOT NULL, -- SignedInvoice
    state    TEXT NOT NULL CHECK (state IN ('waiting', 'rejected', 'credited')),
    rejected BYTEA CHECK (length(rejected) = 8),
    transfer BYTEA CHECK (length(transfer) = 32),
    credited BYTEA,          -- Payee<Credited>
    standing TEXT CHECK (standing IN ('offline-accepted', 'claimed', 'settled')),
    answer   BYTEA,          -- SignedRejection or SignedAcceptance
    CHECK ((state = 'rejected') = (rejected IS NOT NULL)),
    CHECK ((state = 'credited') = (transfer IS NOT NULL)),
    CHECK ((state = 'credited') = (credited IS NOT NULL)),
    CHECK ((state = 'credited') = (standing IS NOT NULL)),
    CHECK (state <> 'waiting' OR answer IS NULL)
);
CREATE INDEX offline_invoices_transfer ON offline_invoices (transfer) WHERE transfer IS NOT NULL;
CREATE INDEX offline_invoices_state ON offline_invoices (state, number);

-- What this wallet transferred.
CREATE TABLE offline_outgoing (
    transfer   BYTEA NOT NULL PRIMARY KEY CHECK (length(transfer) = 32),
    sequence   BYTEA NOT NULL CHECK (length(sequence) = 8),
    invoice    BYTEA CHECK (length(invoice) = 32), -- NULL: an exit
    outgoing   BYTEA NOT NULL,                     -- Outgoing
    state      TEXT NOT NULL CHECK (state IN ('released', 'accepted', 'claimed', 'settled')),
    acceptance BYTEA,                              -- SignedAcceptance
    CHECK ((state = 'accepted') = (acceptance IS NOT NULL))
);
CREATE INDEX offline_outgoing_invoice ON offline_outgoing (invoice) WHERE invoice IS NOT NULL;
CREATE INDEX offline_outgoing_state ON offline_outgoing (state, sequence);

CREATE TABLE offline_deposits (
    coin    BYTEA NOT NULL PRIMARY KEY CHECK (length(coin) = 32),
    number  BIGINT NOT NULL UNIQUE,
    deposit BYTEA NOT NULL, -- SignedDeposit
    imported_at BYTEA NOT NULL CHECK (length(imported_at) = 8)
);

CREATE TABLE offline_history (
    number  BIGINT NOT NULL PRIMARY KEY CHECK (number > 0),
    happened_at BYTEA NOT NULL CHECK (length(happened_at) = 8),
    kind    TEXT NOT NULL,
    subject BYTEA NOT NULL CHECK (length(subject) = 32),
    asset   BYTEA NOT NULL CHECK (length(asset) = 20),
    amount  BYTEA NOT NULL CHECK (length(amount) = 16),
    other   BYTEA CHECK (length(other) = 32)
);

-- The newest of each registrar.
CREATE TABLE offline_lists (
    registrar BYTEA NOT NULL PRIMARY KEY CHECK (length(registrar) = 20),
    issued_at BYTEA NOT NULL CHECK (length(issued_at) = 8),
    list      BYTEA NOT NULL -- SignedRevocationList
);
