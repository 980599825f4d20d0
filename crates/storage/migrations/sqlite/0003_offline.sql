-- Scheme "offline": one wallet. Blobs as in 0001; what is encoded is CBOR, as crates/protocol/src/offline/encoding has it.

ALTER TABLE store ADD COLUMN wallet BLOB CHECK (wallet IS NULL OR (length(wallet) = 32 AND merchant IS NULL AND bank IS NULL));

-- The books with the payment under way. A save names the version that it was decided from.
CREATE TABLE offline_wallet (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version  BLOB NOT NULL CHECK (length(version) = 8),
    sequence BLOB NOT NULL CHECK (length(sequence) = 8), -- of the last transfer
    payer    BLOB NOT NULL                               -- AnyPayer
) STRICT;

-- What this wallet asked for, and what it was paid.
CREATE TABLE offline_invoices (
    digest   BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    number   INTEGER NOT NULL UNIQUE,
    invoice  BLOB NOT NULL, -- SignedInvoice
    state    TEXT NOT NULL CHECK (state IN ('waiting', 'rejected', 'credited')),
    rejected BLOB CHECK (length(rejected) = 8),
    transfer BLOB CHECK (length(transfer) = 32),
    credited BLOB,          -- Payee<Credited>
    standing TEXT CHECK (standing IN ('offline-accepted', 'claimed', 'settled')),
    answer   BLOB,          -- SignedRejection or SignedAcceptance
    CHECK ((state = 'rejected') = (rejected IS NOT NULL)),
    CHECK ((state = 'credited') = (transfer IS NOT NULL)),
    CHECK ((state = 'credited') = (credited IS NOT NULL)),
    CHECK ((state = 'credited') = (standing IS NOT NULL)),
    CHECK (state <> 'waiting' OR answer IS NULL)
) STRICT;
CREATE INDEX offline_invoices_transfer ON offline_invoices (transfer) WHERE transfer IS NOT NULL;
CREATE INDEX offline_invoices_state ON offline_invoices (state, number);

-- What this wallet transferred.
CREATE TABLE offline_outgoing (
    transfer   BLOB NOT NULL PRIMARY KEY CHECK (length(transfer) = 32),
    sequence   BLOB NOT NULL CHECK (length(sequence) = 8),
    invoice    BLOB CHECK (length(invoice) = 32), -- NULL: an exit
    outgoing   BLOB NOT NULL,                     -- Outgoing
    state      TEXT NOT NULL CHECK (state IN ('released', 'accepted', 'claimed', 'settled')),
    acceptance BLOB,                              -- SignedAcceptance
    CHECK ((state = 'accepted') = (acceptance IS NOT NULL))
) STRICT;
CREATE INDEX offline_outgoing_invoice ON offline_outgoing (invoice) WHERE invoice IS NOT NULL;
CREATE INDEX offline_outgoing_state ON offline_outgoing (state, sequence);

CREATE TABLE offline_deposits (
    coin    BLOB NOT NULL PRIMARY KEY CHECK (length(coin) = 32),
    number  INTEGER NOT NULL UNIQUE,
    deposit BLOB NOT NULL, -- SignedDeposit
    imported_at BLOB NOT NULL CHECK (length(imported_at) = 8)
) STRICT;

CREATE TABLE offline_history (
    number  INTEGER NOT NULL PRIMARY KEY CHECK (number > 0),
    happened_at BLOB NOT NULL CHECK (length(happened_at) = 8),
    kind    TEXT NOT NULL,
    subject BLOB NOT NULL CHECK (length(subject) = 32),
    asset   BLOB NOT NULL CHECK (length(asset) = 20),
    amount  BLOB NOT NULL CHECK (length(amount) = 16),
    other   BLOB CHECK (length(other) = 32)
) STRICT;

-- The newest of each registrar.
CREATE TABLE offline_lists (
    registrar BLOB NOT NULL PRIMARY KEY CHECK (length(registrar) = 20),
    issued_at BLOB NOT NULL CHECK (length(issued_at) = 8),
    list      BLOB NOT NULL -- SignedRevocationList
) STRICT;
