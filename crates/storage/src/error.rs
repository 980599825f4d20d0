//! Everything that a store refuses, with both values, and whether trying again can help.

use std::{error::Error, path::PathBuf, sync::Arc};

use alloy_primitives::{Address, B256};
use protocol::ticket::{Amount, BlockRef, Nonce, OrderId};

use crate::{ClaimId, ClaimStage, ClaimState, OrderState, StoreIdentity, WinStage, WinState};

/// What a store answers.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why a store did not do what it was asked to. Nothing of the request was stored, unless a variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No such order.
    #[error("order {0} was never issued")]
    UnknownOrder(OrderId),
    /// No such winner.
    #[error("no winner with ticket digest {0} is stored")]
    UnknownWin(B256),
    /// No such claim.
    #[error("there is no claim {0}")]
    UnknownClaim(ClaimId),
    /// The transaction was never added to the claim.
    #[error("transaction {hash} is not one of claim {claim}")]
    UnknownTransaction {
        /// The claim asked about.
        claim: ClaimId,
        /// The transaction.
        hash: B256,
    },
    /// A transaction settles one claim.
    #[error("transaction {hash} was added to claim {got}, but is of claim {stored}")]
    TransactionTaken {
        /// The transaction.
        hash: B256,
        /// The claim it was now added to.
        got: ClaimId,
        /// The claim it is of.
        stored: ClaimId,
    },
    /// An order only moves forward.
    #[error("order {order} is {from} and cannot become {to}")]
    OrderMove {
        /// The order.
        order: OrderId,
        /// What it is.
        from: OrderState,
        /// What it was to be.
        to: OrderState,
    },
    /// A winner cannot take this step from where it stands.
    #[error("winner {digest} is {from} and cannot become {to}")]
    WinMove {
        /// The ticket digest.
        digest: B256,
        /// Where it stands.
        from: WinState,
        /// Where it was to go.
        to: WinStage,
    },
    /// Only a winner in no claim whose good was not delivered can be void.
    #[error("winner {digest} is {state}{}, so its ticket is consumed and cannot be void", if *.delivered { " and delivered" } else { "" })]
    NotVoid {
        /// The ticket digest.
        digest: B256,
        /// Where it stands.
        state: WinState,
        /// Whether its good was delivered.
        delivered: bool,
    },
    /// A claim cannot take this step from where it stands.
    #[error("claim {claim} is {from} and cannot become {to}")]
    ClaimMove {
        /// The claim.
        claim: ClaimId,
        /// Where it stands.
        from: ClaimState,
        /// Where it was to go.
        to: ClaimStage,
    },
    /// A claim has at least one winner.
    #[error("a claim needs at least one winner, got none")]
    ClaimEmpty,
    /// Finalizing needs an outcome for every winner.
    #[error("no outcome for winner {digest} of claim {claim}")]
    OutcomeMissing {
        /// The claim.
        claim: ClaimId,
        /// The ticket digest.
        digest: B256,
    },
    /// An outcome for a ticket that is not in the claim, or a second one.
    #[error("outcome for ticket {digest}, which is not in claim {claim} or has one already")]
    OutcomeStray {
        /// The claim.
        claim: ClaimId,
        /// The ticket digest.
        digest: B256,
    },
    /// Two winning tickets with one nonce: the payer equivocated, or signs on two devices.
    #[error("nonce {nonce} of escrow {escrow} won with ticket {stored}; ticket {got} has the same nonce")]
    NonceTaken {
        /// The escrow.
        escrow: Address,
        /// The nonce.
        nonce: Nonce,
        /// Digest of the ticket that is stored.
        stored: B256,
        /// Digest of the other one.
        got: B256,
    },
    /// The escrow's tickets up to the floor are or may be claimed already, so this one could never be.
    #[error("nonce {nonce} of escrow {escrow} is not above the floor {floor}")]
    BelowFloor {
        /// The escrow.
        escrow: Address,
        /// The ticket's nonce.
        nonce: Nonce,
        /// The highest nonce that can no longer be claimed.
        floor: Nonce,
    },
    /// The process's lease has run out, or it left; others have gone on without it.
    #[error(
        "process {boot} is out: its lease has run out or it left; it must accept nothing more under this number"
    )]
    Fenced {
        /// The process's number.
        boot: u64,
    },
    /// The order would take an account of the payer beyond its limit.
    #[error("{account:?} has spent {spent} of {limit}; a price of {price} is too much")]
    OverBudget {
        /// The account.
        account: String,
        /// What its tickets were worth so far, atomic units.
        spent: Amount,
        /// What this one is worth, atomic units.
        price: Amount,
        /// The account's limit, atomic units.
        limit: Amount,
    },
    /// The escrow has no nonce left.
    #[error("escrow {escrow} has no nonce above {above}")]
    NonceExhausted {
        /// The escrow.
        escrow: Address,
        /// The highest nonce there is.
        above: Nonce,
    },
    /// The signer returned another ticket than the one asked for.
    #[error("order {order} was to be signed with {field} {asked}, but the ticket has {signed}")]
    SignedOther {
        /// The order.
        order: OrderId,
        /// The field that differs.
        field: &'static str,
        /// Its value in the ticket.
        signed: String,
        /// Its value in the request.
        asked: String,
    },
    /// The signer panicked.
    #[error("signing for order {0} panicked")]
    SignPanicked(OrderId),
    /// A final block does not change.
    #[error("the mirror is at block {} ({}), and cannot go to block {} ({})", stored.number, stored.hash, got.number, got.hash)]
    CursorBackwards {
        /// The new cursor.
        got: BlockRef,
        /// The stored cursor.
        stored: BlockRef,
    },
    /// A sum of money beyond 128 bits.
    #[error("the sum of {a} and {b} is beyond 128 bits")]
    SumTooLarge {
        /// One part.
        a: Amount,
        /// The other.
        b: Amount,
    },
    /// The store was made for another chain, contract or owner.
    #[error("the store is for {}, not for {}", .0.stored, .0.wanted)]
    OtherStore(Box<OtherStore>),
    /// The file is something else.
    #[error("{} is not a Micropay store: application id {got:#010x} instead of {expected:#010x}", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// Its SQLite application id.
        got: u32,
        /// A store's.
        expected: u32,
    },
    /// The database is in use for something else.
    #[error(
        "the database has a table {0:?} and none called \"store\": a store needs a database or a schema of its own"
    )]
    ForeignTable(String),
    /// The store was written by a newer version of this program.
    #[error("the store has schema version {got}, this program knows {known}; use a newer program")]
    NewerSchema {
        /// The store's version.
        got: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A stored row is damaged. Nothing was changed; restore a backup or repair the row.
    #[error("damaged row {row} of table {table}: {column}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The database failed. If it failed while writing, the request may or may not be stored; asking again is safe.
    #[error("{doing}: {source}")]
    Database {
        /// What the store was doing.
        doing: &'static str,
        /// The database's own words.
        source: Arc<dyn Error + Send + Sync>,
        /// Whether it may work in a moment (the database is busy, or restarting).
        transient: bool,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// See [`StoreError::OtherStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherStore {
    /// What the store was created for.
    pub stored: StoreIdentity,
    /// What it was opened for.
    pub wanted: StoreIdentity,
}

impl StoreError {
    /// Whether the same request can succeed later without anything being repaired.
    pub fn retry(&self) -> bool {
        matches!(self, Self::Database { transient: true, .. })
    }
}
