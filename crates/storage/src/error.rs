//! Everything that a store refuses, with both values, and whether trying again can help.

use std::{error::Error, path::PathBuf, sync::Arc};

use alloy_primitives::{Address, B256};
use protocol::{
    channel::{ChannelId, Index, PayError, Tag, Timestamp, Word},
    offline::{InvoiceDigest, Sequence, TransferDigest, WalletId},
    ticket::{Amount, BlockRef, Nonce, OrderId},
};

use crate::{
    ClaimId, ClaimStage, ClaimState, OrderState, Owner, StoreIdentity, WinStage, WinState,
    channel::{
        ChannelPhase, OtherChannels, PaymentState, SettlementId, SettlementStage, SettlementState,
        VendorPaymentState,
    },
    offline::{OutgoingStage, WalletVersion},
};

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
    /// Nobody has said which contract the channels here are of.
    #[error("the store was not told which contract its channels are of")]
    ChannelsUnsaid,
    /// The store has channels of another contract or chain.
    #[error("{0}")]
    OtherChannels(Box<OtherChannels>),
    /// No such channel.
    #[error("no channel {0} is stored")]
    UnknownChannel(ChannelId),
    /// The permit is for another channel than its parties and the salt name.
    #[error("the permit is for channel {got}, its parties and the salt name {expected}")]
    WrongChannelId {
        /// The permit's channel.
        got: ChannelId,
        /// That of its parties and the salt.
        expected: ChannelId,
    },
    /// The channel is stored with another permit or origin. Values are the permits' digests.
    #[error("channel {channel} is stored with permit {stored}, not with {got}, or with another origin")]
    ChannelExists {
        /// The channel.
        channel: ChannelId,
        /// Digest of the permit that was to be stored.
        got: B256,
        /// Digest of the one that is.
        stored: B256,
    },
    /// The payer has marked the channel as closed.
    #[error("channel {channel} was closed at {closed_at}")]
    ChannelClosed {
        /// The channel.
        channel: ChannelId,
        /// When.
        closed_at: Timestamp,
    },
    /// A payment of another order is under way; it has to be resolved before the next one.
    #[error("on channel {channel} the payment of order {order} is under way")]
    PaymentInFlight {
        /// The channel.
        channel: ChannelId,
        /// The order.
        order: OrderId,
    },
    /// The scheme's rules do not let this payment, or top-up, be made.
    #[error("channel {channel}: {source}")]
    PayRefused {
        /// The channel.
        channel: ChannelId,
        /// The rule, with its values.
        source: PayError,
    },
    /// A payment only moves forward.
    #[error("the payment of order {order} is {from} and cannot become {to}")]
    PaymentMove {
        /// The order.
        order: OrderId,
        /// What it is.
        from: PaymentState,
        /// What it was to be.
        to: PaymentState,
    },
    /// A position only moves forward.
    #[error("the position of channel {channel} is at {stored} and cannot go to {got}")]
    PositionBackwards {
        /// The channel.
        channel: ChannelId,
        /// Index of the new position.
        got: Index,
        /// Index of the stored one.
        stored: Index,
    },
    /// No such payment.
    #[error("no payment with tag {tag} is stored for channel {channel}")]
    UnknownPayment {
        /// The channel.
        channel: ChannelId,
        /// The payment's tag.
        tag: Tag,
    },
    /// The payment was accepted from an old state of the channel: load it and judge the payment again.
    #[error("the payment stands on index {} of channel {channel} (tag {}), but {}", got.0, got.1, match stored {
        Some((index, tag)) => format!("the last one stored is {index} (tag {tag})"),
        None => "none is stored".to_owned(),
    })]
    PaymentStale {
        /// The channel.
        channel: ChannelId,
        /// What it stands on: index and tag. Index 0 is the opening.
        got: (Index, Tag),
        /// The last stored payment that counts.
        stored: Option<(Index, Tag)>,
    },
    /// This very payment paid for another order.
    #[error("payment {index} of channel {channel} paid for order {stored}, not for {got}")]
    PaymentOfOrder {
        /// The channel.
        channel: ChannelId,
        /// The payment.
        index: Index,
        /// The order that it was now to pay for.
        got: OrderId,
        /// The order that it is stored for.
        stored: OrderId,
    },
    /// Another payment stands on this one, so its good was delivered.
    #[error("payment {got} of channel {channel} cannot fail: payment {above} stands on it")]
    PaymentBuried {
        /// The channel.
        channel: ChannelId,
        /// The payment.
        got: Index,
        /// A later one.
        above: Index,
    },
    /// A payment's good is delivered or not, for good.
    #[error("payment {index} of channel {channel} is {from} and cannot become {to}")]
    VendorPaymentMove {
        /// The channel.
        channel: ChannelId,
        /// The payment.
        index: Index,
        /// What it is.
        from: VendorPaymentState,
        /// What it was to be.
        to: VendorPaymentState,
    },
    /// The channel takes no more payments and starts no more steps.
    #[error("channel {channel} is {phase}")]
    ChannelClosing {
        /// The channel.
        channel: ChannelId,
        /// Where it stands.
        phase: ChannelPhase,
    },
    /// Two checkpoints of one index.
    #[error(
        "channel {channel} has a checkpoint with word {stored} at index {index}; the other one has {got}"
    )]
    CheckpointExists {
        /// The channel.
        channel: ChannelId,
        /// The index.
        index: Index,
        /// The other one's word. Where it is the same, something else differs.
        got: Word,
        /// The stored one's.
        stored: Word,
    },
    /// A settlement has at least one channel.
    #[error("a settlement needs at least one channel, got none")]
    SettlementEmpty,
    /// The channel is in a settlement that is not finished.
    #[error("channel {channel} is in settlement {settlement}, which is not finished")]
    SettlementBusy {
        /// The channel.
        channel: ChannelId,
        /// The settlement.
        settlement: SettlementId,
    },
    /// A close below what was paid would lose the rest.
    #[error("channel {channel} cannot be closed at {got}: {stored} is paid")]
    SettlementStale {
        /// The channel.
        channel: ChannelId,
        /// The index to close at.
        got: Index,
        /// The highest index that is stored.
        stored: Index,
    },
    /// No such settlement.
    #[error("there is no settlement {0}")]
    UnknownSettlement(SettlementId),
    /// The transaction was never added to the settlement.
    #[error("transaction {hash} is not one of settlement {settlement}")]
    UnknownSettlementTransaction {
        /// The settlement asked about.
        settlement: SettlementId,
        /// The transaction.
        hash: B256,
    },
    /// A transaction is of one settlement.
    #[error("transaction {hash} was added to settlement {got}, but is of settlement {stored}")]
    SettlementTransactionTaken {
        /// The transaction.
        hash: B256,
        /// The settlement it was now added to.
        got: SettlementId,
        /// The settlement it is of.
        stored: SettlementId,
    },
    /// A settlement cannot take this step from where it stands.
    #[error("settlement {settlement} is {from} and cannot become {to}")]
    SettlementMove {
        /// The settlement.
        settlement: SettlementId,
        /// Where it stands.
        from: SettlementState,
        /// Where it was to go.
        to: SettlementStage,
    },
    /// Finalizing needs an outcome for every channel.
    #[error("no outcome for channel {channel} of settlement {settlement}")]
    SettlementOutcomeMissing {
        /// The settlement.
        settlement: SettlementId,
        /// The channel.
        channel: ChannelId,
    },
    /// An outcome for a channel that is not in the settlement, or a second one.
    #[error("outcome for channel {channel}, which is not in settlement {settlement} or has one already")]
    SettlementOutcomeStray {
        /// The settlement.
        settlement: SettlementId,
        /// The channel.
        channel: ChannelId,
    },
    /// An epoch has one key.
    #[error("in epoch {epoch} permits are signed with key {stored}, not with {got}")]
    BankKeyTaken {
        /// The epoch.
        epoch: u64,
        /// The other key.
        got: Address,
        /// The key that is known.
        stored: Address,
    },
    /// Epochs only rise.
    #[error("the bank's key is that of epoch {newest}; epoch {got} is over")]
    BankEpochBackwards {
        /// The epoch.
        got: u64,
        /// The newest one.
        newest: u64,
    },
    /// No key to sign permits with was named.
    #[error("the bank has named no key that signs its permits")]
    BankKeyMissing,
    /// The channel has a permit with other terms.
    #[error("channel {channel} has a permit {generation} whose {field} is {stored}, not {got}")]
    PermitExists {
        /// The channel.
        channel: ChannelId,
        /// Number of the permit: 0 opens, others top up.
        generation: u32,
        /// The field that differs.
        field: &'static str,
        /// Its value in the request.
        got: String,
        /// Its value in the permit.
        stored: String,
    },
    /// Permits of a channel come one after the other.
    #[error("the next permit of channel {channel} is number {next}, not {got}")]
    PermitGap {
        /// The channel.
        channel: ChannelId,
        /// Number of the permit asked for.
        got: u32,
        /// The next one.
        next: u32,
    },
    /// The client has had as many permits as it may.
    #[error("{client} has had {issued} of {limit} permits since {since}")]
    PermitQuota {
        /// The client.
        client: Address,
        /// How many it had.
        issued: u64,
        /// How many it may have.
        limit: u32,
        /// Since then.
        since: Timestamp,
    },
    /// The signer returned another permit than the one asked for.
    #[error("the permit of channel {channel} was to be signed with {field} {asked}, but has {signed}")]
    PermitSignedOther {
        /// The channel.
        channel: ChannelId,
        /// What differs.
        field: &'static str,
        /// Its value as signed.
        signed: String,
        /// Its value as asked.
        asked: String,
    },
    /// The signer of a permit panicked.
    #[error("signing a permit of channel {0} panicked")]
    PermitSignPanicked(ChannelId),
    /// The store is not a wallet's.
    #[error("the store is of {0}, not of a wallet")]
    NotOfWallet(Owner),
    /// The wallet's books were never saved.
    #[error("wallet {0} has no books here")]
    NoWallet(WalletId),
    /// The books are another wallet's.
    #[error("the books are of wallet {got}, the store of {owner}")]
    ForeignWallet {
        /// Whose they are.
        got: WalletId,
        /// Whose the store is.
        owner: WalletId,
    },
    /// The step was decided from old books: load them and decide again.
    #[error("the wallet's books are at version {stored}, the step was decided from {got}")]
    WalletStale {
        /// What the step was decided from.
        got: WalletVersion,
        /// What is stored.
        stored: WalletVersion,
    },
    /// A wallet's transfers only become more.
    #[error("the wallet has made {stored} transfers, the books to be saved have {got}")]
    WalletBackwards {
        /// In the books to be saved.
        got: Sequence,
        /// In those that are stored.
        stored: Sequence,
    },
    /// An invoice only moves forward, and its answer stays.
    #[error("invoice {invoice} is {from} and cannot become {to}")]
    InvoiceMove {
        /// The invoice.
        invoice: InvoiceDigest,
        /// What it is.
        from: String,
        /// What it was to be.
        to: String,
    },
    /// A transfer only moves forward.
    #[error("transfer {transfer} is {from} and cannot become {to}")]
    OutgoingMove {
        /// The transfer.
        transfer: TransferDigest,
        /// What it is.
        from: OutgoingStage,
        /// What it was to be.
        to: OutgoingStage,
    },
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
