//! Why a step does not happen. One variant per rule, with the two values that were compared, and whether trying again can
//! help. Names are stable: client and vendor talk about refusals by [`Refusal::rule`].

use alloy_primitives::{Address, B256, U256};
use thiserror::Error;

use super::{
    Amount, ChannelId, Index, ItemHash, MAX_LENGTH, Reputation, Seconds, SignatureError, Tag, Timestamp,
    UnitError, Word,
};

/// Why bytes are not a signature as it is locked, or not a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SigmaError {
    /// Both have 64 bytes.
    #[error("{got} bytes, needed are {needed}")]
    Length {
        /// Number of bytes.
        got: usize,
        /// What there must be.
        needed: usize,
    },
    /// No strict signature has this form.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Why a chain has no such word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// A chain is empty, or longer than the contract takes.
    #[error("chain of {got} words, not {low} to {high}")]
    LengthOutOfRange {
        /// The length.
        got: Index,
        /// The shortest.
        low: Index,
        /// The longest.
        high: Index,
    },
    /// The chain ends before.
    #[error("index {got} is above the chain's length {length}")]
    IndexAboveLength {
        /// The index.
        got: Index,
        /// The last one.
        length: Index,
    },
}

/// Why a signed permit is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PermitError {
    /// The signature is malformed, or no key's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Another key signed, or the bank's key signed something else.
    #[error("permit is signed by {recovered}, the bank's key is {bank_key}")]
    WrongSigner {
        /// The address that the signature recovers.
        recovered: Address,
        /// The bank's key.
        bank_key: Address,
    },
}

/// Why a bank does not admit a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AdmitRefusal {
    /// A customer is not in good standing.
    #[error("{customer} has a reputation of {got}, needed are {needed}")]
    ReputationTooLow {
        /// Client or vendor.
        customer: Address,
        /// Its reputation.
        got: Reputation,
        /// The least.
        needed: Reputation,
    },
    /// Nobody pays itself.
    #[error("client {client} and vendor {vendor} are one")]
    SameParty {
        /// Who pays.
        client: Address,
        /// Who sells.
        vendor: Address,
    },
    /// No key has the zero address.
    #[error("the receipt key of {client} has the zero address")]
    ReceiptKeyZero {
        /// Who pays.
        client: Address,
    },
    /// A word is worth nothing, or too much.
    #[error("a unit of {got}, not {low} to {high}")]
    UnitOutOfRange {
        /// The unit, atomic units.
        got: Amount,
        /// The least.
        low: Amount,
        /// The most.
        high: Amount,
    },
    /// A chain is empty, not longer than the one before, or too long.
    #[error("a chain of {got} words, not {low} to {high}")]
    LengthOutOfRange {
        /// The length.
        got: Index,
        /// The shortest.
        low: Index,
        /// The longest.
        high: Index,
    },
    /// No contract can hold what the chain can pay.
    #[error("{length} units of {unit} are more than 128 bits hold")]
    DepositTooLarge {
        /// The unit, atomic units.
        unit: Amount,
        /// The length.
        length: Index,
    },
    /// The channel would be over too soon, or too late.
    #[error("an expiry at {got}, not {low} to {high}")]
    ExpiryOutOfRange {
        /// The expiry.
        got: Timestamp,
        /// The soonest.
        low: Timestamp,
        /// The latest.
        high: Timestamp,
    },
    /// A new chain under an old anchor: words of it may be known.
    #[error("a new chain with anchor {got}, which is that of the present one ({current})")]
    AnchorUsed {
        /// The anchor asked for.
        got: Word,
        /// That of the channel's newest chain.
        current: Word,
    },
}

/// Why a client does not pay, or does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PayError {
    /// A channel has at least the permit that opened it.
    #[error("{got} permits, needed is {needed}")]
    NoTerms {
        /// Number of permits.
        got: usize,
        /// The least.
        needed: usize,
    },
    /// The chain or permit is for another channel.
    #[error("it is of channel {got}, this is {channel}")]
    WrongChannel {
        /// The other channel.
        got: ChannelId,
        /// This channel.
        channel: ChannelId,
    },
    /// The chain is not the one on chain.
    #[error("chain has the anchor {got}, the channel has {anchor}")]
    WrongChain {
        /// The chain's anchor.
        got: Word,
        /// That of the newest permit.
        anchor: Word,
    },
    /// The key is not the channel's.
    #[error("key is {got}, the channel's receipts are signed by {receipt_key}")]
    WrongKey {
        /// Address of the key.
        got: Address,
        /// Address of the receipt key.
        receipt_key: Address,
    },
    /// Nothing to pay.
    #[error("a payment of {got} units, the least is {low}")]
    NoUnits {
        /// The units.
        got: u32,
        /// The least.
        low: u32,
    },
    /// The vendor could not close any more.
    #[error("it is {now}, the channel expires at {expiry}")]
    Expired {
        /// The client's clock.
        now: Timestamp,
        /// The channel's expiry.
        expiry: Timestamp,
    },
    /// The chain is too short: top up.
    #[error("index {needed} is above the chain's length {length}")]
    Exhausted {
        /// Index of the payment.
        needed: Index,
        /// The chain's length.
        length: Index,
    },
    /// The vendor keeps failing: ask it where it stands.
    #[error("{got} payments under way, the most is {limit}")]
    TooManyInFlight {
        /// Number of payments.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// No payment under way has this tag.
    #[error("none of {in_flight} payments under way has the tag {got}")]
    UnknownPayment {
        /// The tag.
        got: Tag,
        /// Number of payments under way.
        in_flight: usize,
    },
    /// The vendor shows a word that is not of this chain.
    #[error("the word of index {index} is {got}, mine is {mine}")]
    NotMyWord {
        /// The index.
        index: Index,
        /// What the vendor shows.
        got: Word,
        /// The chain's word.
        mine: Word,
    },
    /// A top-up has to be longer.
    #[error("a top-up to {got} words, the channel has {length}")]
    NotLonger {
        /// The new length.
        got: Index,
        /// The present one.
        length: Index,
    },
    /// The vendor shows a receipt that this key did not sign.
    #[error("the receipt has the tag {got}, mine has {mine}")]
    NotMyReceipt {
        /// The tag that the vendor shows.
        got: Tag,
        /// The tag of the receipt as this key signs it.
        mine: Tag,
    },
    /// Nothing to sign a checkpoint for.
    #[error("a checkpoint at {got}, the lowest is {low}")]
    NothingPaid {
        /// The index.
        got: Index,
        /// The lowest of a checkpoint.
        low: Index,
    },
    /// The chain has no such word.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Why a vendor does not accept a payment. The variants stand in the order in which the rules are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The payment is of another channel.
    #[error("payment is of channel {got}, this is {mine}")]
    ForeignChannel {
        /// The payment's channel.
        got: ChannelId,
        /// The channel at hand.
        mine: ChannelId,
    },
    /// The vendor has not heard from the chain for too long.
    #[error("my view of the chain is {age} old, I accept up to {limit}")]
    MirrorStale {
        /// Age of the newest block's view.
        age: Seconds,
        /// The highest age at which payments are accepted.
        limit: Seconds,
    },
    /// No such channel at a final block.
    #[error("channel {channel} is not open at a final block")]
    ChannelMissing {
        /// The payment's channel.
        channel: ChannelId,
    },
    /// The channel is over.
    #[error("channel {channel} is closed, it paid {settled} units")]
    ChannelClosed {
        /// The payment's channel.
        channel: ChannelId,
        /// Units paid.
        settled: Index,
    },
    /// The channel pays somebody else.
    #[error("channel pays {got}, I am {me}")]
    WrongVendor {
        /// The channel's vendor.
        got: Address,
        /// This vendor.
        me: Address,
    },
    /// The vendor does not know the bank.
    #[error("bank {got} is none of the {accepted} whose channels I take")]
    BankNotAccepted {
        /// The channel's bank.
        got: Address,
        /// How many banks the vendor takes.
        accepted: usize,
    },
    /// The bank does not think enough of the client.
    #[error("the client's reputation is {got}, I ask for {needed}")]
    ReputationTooLow {
        /// The client's reputation, as signed.
        got: Reputation,
        /// The least.
        needed: Reputation,
    },
    /// The close might not get into the chain before the expiry.
    #[error("it is {now}, the latest I take is {latest}")]
    TooLate {
        /// The vendor's clock.
        now: Timestamp,
        /// Expiry less margin.
        latest: Timestamp,
    },
    /// The channel holds another asset.
    #[error("channel holds asset {got}, the price is in {price}")]
    WrongAsset {
        /// The channel's asset.
        got: Address,
        /// The order's.
        price: Address,
    },
    /// The receipt would be for something else.
    #[error("payment is for item {got}, the order is {order}")]
    WrongItem {
        /// The payment's item.
        got: ItemHash,
        /// What was ordered.
        order: ItemHash,
    },
    /// This payment bought its good already.
    #[error("payment {index} with tag {tag} was delivered")]
    AlreadyDelivered {
        /// The index.
        index: Index,
        /// Its tag.
        tag: Tag,
    },
    /// The index was paid, by another payment. Its tag tells the client which.
    #[error("index {got} is not above {delivered}, which was delivered (tag {tag})")]
    IndexBackwards {
        /// The payment's index.
        got: Index,
        /// The last one delivered.
        delivered: Index,
        /// The tag of that one.
        tag: Tag,
    },
    /// The contract pays no such word.
    #[error("index {got} is above the channel's length {length}")]
    PastLength {
        /// The payment's index.
        got: Index,
        /// The length at the last final block.
        length: Index,
    },
    /// The contract has paid this index, and the vendor does not know for what: it came back from an old backup.
    #[error("index {got} is not above {settled}, which the contract has paid")]
    AlreadySettled {
        /// The payment's index.
        got: Index,
        /// What the contract has credited.
        settled: Index,
    },
    /// Another payment of the channel is being delivered.
    #[error("index {got} has to wait until {delivering} is delivered")]
    Busy {
        /// The payment's index.
        got: Index,
        /// The one under way.
        delivering: Index,
    },
    /// The price is higher.
    #[error("payment is worth {got} units, the price is {price}")]
    PaysTooLittle {
        /// Units above those delivered.
        got: u32,
        /// The price.
        price: u32,
    },
    /// The price is lower, or the client thinks that it got more than was delivered.
    #[error("payment is worth {got} units, the price is only {price}")]
    PaysTooMuch {
        /// Units above those delivered.
        got: u32,
        /// The price.
        price: u32,
    },
    /// A close would have to walk too far. A signed checkpoint mends it.
    #[error("a close would walk {got} steps, I take up to {limit} without a checkpoint")]
    CheckpointNeeded {
        /// Steps from the last signed checkpoint, or from the anchor.
        got: u32,
        /// The most.
        limit: u32,
    },
    /// The word would take too many hashes.
    #[error("the word is {got} away, I walk {limit}")]
    JumpTooFar {
        /// Steps to the next word known.
        got: u32,
        /// The most.
        limit: u32,
    },
    /// The word does not lead to one that is known. It may be of a top-up that is not final yet, or of the chain before it.
    /// The message names neither word: a walk down from the vendor's gives words that only the client has shown.
    #[error("the word of index {index} is none of the channel's")]
    WordNotInChain {
        /// The payment's index.
        index: Index,
        /// Where the walk ended.
        walked: Word,
        /// The word that is there.
        known: Word,
    },
}

/// What a client can do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing was lost: the good is the kept answer of the first time.
    Delivered,
    /// Look where the vendor stands (the refusal says it), acknowledge what it delivered, and pay again.
    NewPayment,
    /// Send the same again when the chain or the vendor has moved on.
    Later,
    /// Sign a checkpoint at what was revealed, and send the same again.
    Checkpoint,
    /// Top the channel up, or open another.
    TopUp,
    /// Nothing, with this channel.
    Never,
}

/// Why a checkpoint or a proof is not what the vendor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// The checkpoint is of another channel.
    #[error("checkpoint is of channel {got}, this is {channel}")]
    WrongChannel {
        /// The checkpoint's channel.
        got: ChannelId,
        /// This channel.
        channel: ChannelId,
    },
    /// The signature is malformed, or no key's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Another key signed.
    #[error("checkpoint is signed by {recovered}, not by the receipt key {receipt_key}")]
    WrongSigner {
        /// The address that the signature recovers.
        recovered: Address,
        /// The channel's receipt key.
        receipt_key: Address,
    },
    /// It is an old one, or of nothing.
    #[error("checkpoint is at {got}, not above {last}")]
    IndexNotAboveLast {
        /// The checkpoint's index.
        got: Index,
        /// The last checkpoint's.
        last: Index,
    },
    /// A checkpoint that pays, or moves to a new chain, is at what was paid or above, and within the chain's length.
    #[error("checkpoint of a new word is at {got}, not {low} to {high}")]
    IndexOutOfRange {
        /// The checkpoint's index.
        got: Index,
        /// What was paid.
        low: Index,
        /// The chain's length.
        high: Index,
    },
    /// Another word than the one that was revealed.
    #[error("checkpoint has the word {got}, revealed was {known}")]
    WrongWord {
        /// The checkpoint's word.
        got: Word,
        /// The word at its index.
        known: Word,
    },
    /// The client commits to other locks than it sent.
    #[error("checkpoint has the root {got}, the locks make {known}")]
    WrongRoot {
        /// The checkpoint's root.
        got: B256,
        /// The root over the vendor's record.
        known: B256,
    },
    /// No checkpoint says nothing: a tree needs a leaf.
    #[error("a tree of {got} leaves, the least is {low}")]
    NoLeaves {
        /// Number of leaves.
        got: usize,
        /// The least.
        low: usize,
    },
    /// The leaf is not under the root.
    #[error("the path leads to {got}, the root is {root}")]
    LeafNotUnderRoot {
        /// Where the path leads.
        got: B256,
        /// The signed root.
        root: B256,
    },
}

/// Why a lock cannot be proven bad. The rules are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotBadLock {
    /// A leaf that the client did not commit to.
    #[error(transparent)]
    Leaf(#[from] CheckpointError),
    /// The opener is not the one that the tag pins: the vendor's fault, or a malleated one.
    #[error("opener has the tag {got}, the leaf has {tag}")]
    OpenerNotTagged {
        /// Tag of the opener.
        got: Tag,
        /// Tag of the leaf.
        tag: Tag,
    },
    /// The leaf before is of another payment.
    #[error("predecessor is {got}, needed is {needed}")]
    WrongPredecessor {
        /// Index of the leaf at hand.
        got: Index,
        /// Index that the bad leaf names.
        needed: Index,
    },
    /// The lock is good.
    #[error("the lock opens to {tag}")]
    LockOpens {
        /// The tag of what it hides.
        tag: Tag,
    },
}

/// Why two receipts are no proof. The rules are the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotDoubleReceipt {
    /// A receipt is of another channel.
    #[error("receipt is of channel {got}, this is {channel}")]
    WrongChannel {
        /// The receipt's channel.
        got: ChannelId,
        /// This channel.
        channel: ChannelId,
    },
    /// The receipts are of two payments, or one and the same.
    #[error("receipts {a} of index {index_a} and {b} of index {index_b} do not contradict each other")]
    NoContradiction {
        /// Digest of the one.
        a: B256,
        /// Its index.
        index_a: Index,
        /// Digest of the other.
        b: B256,
        /// Its index.
        index_b: Index,
    },
    /// Another key signed, or none.
    #[error("receipt {digest} is not signed by {receipt_key}")]
    NotSigned {
        /// Digest of the receipt.
        digest: B256,
        /// The channel's receipt key.
        receipt_key: Address,
    },
}

/// Why a file of receipts proves nothing at all. What it proves in part is said by `Opened`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReceiptsError {
    /// A channel has at least the permit that opened it.
    #[error("{got} permits, needed is {needed}")]
    NoTerms {
        /// Number of permits.
        got: usize,
        /// The least.
        needed: usize,
    },
    /// A signature of the bank is malformed, or no key's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A permit is signed by somebody else than a bank that the reader trusts.
    #[error("permit is signed by {got}, none of the {trusted} keys that are trusted")]
    BankNotTrusted {
        /// The address that the signature recovers.
        got: Address,
        /// How many keys are trusted.
        trusted: usize,
    },
    /// Parts of two channels.
    #[error("file is of channel {channel}, a part of it of {got}")]
    WrongChannel {
        /// The part's channel.
        got: ChannelId,
        /// That of the first permit.
        channel: ChannelId,
    },
    /// A top-up changes what it must leave, or is no longer.
    #[error("permit {number} is no top-up of the one before: {got} words after {before}")]
    NotTopUp {
        /// Which permit, from 0.
        number: usize,
        /// Its length.
        got: Index,
        /// The length before.
        before: Index,
    },
    /// More was paid than was ever deposited.
    #[error("receipts up to {got}, the permits allow {length}")]
    PastLength {
        /// The last receipt.
        got: Index,
        /// The longest chain.
        length: Index,
    },
}

/// Why there is nothing to close with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CloseError {
    /// The vendor's word is on a chain that the contract does not have.
    #[error("the word is on chain {got}, the channel has {known}")]
    ChainMissing {
        /// Which chain, from 0.
        got: u32,
        /// Number of chains.
        known: usize,
    },
    /// Nothing new to claim.
    #[error("paid is {paid}, settled is {settled}")]
    NothingPaid {
        /// The highest word's index.
        paid: Index,
        /// What the contract has credited.
        settled: Index,
    },
    /// The word does not lead to where the contract starts.
    #[error("the word leads to {walked}, the anchor is {anchor}")]
    WordNotInChain {
        /// Where the walk ends.
        walked: Word,
        /// The anchor.
        anchor: Word,
    },
}

/// Why an event does not fit what was known: the node is wrong, or an earlier event was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// A channel was opened that is open, or was.
    #[error("channel {channel} is opened a second time")]
    ChannelExists {
        /// The channel.
        channel: ChannelId,
    },
    /// Something happened to a channel that was not opened.
    #[error("event of channel {channel}, which was not opened")]
    ChannelMissing {
        /// The channel.
        channel: ChannelId,
    },
    /// Something happened to a channel that is over.
    #[error("event of channel {channel}, which is closed")]
    ChannelClosed {
        /// The channel.
        channel: ChannelId,
    },
    /// A last receipt of a channel that the vendor did not close.
    #[error("receipt of channel {channel}, which its vendor has not closed")]
    NotClosed {
        /// The channel.
        channel: ChannelId,
    },
    /// A number is beyond what the contract can hold.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The bank's signature is malformed: the contract would not have taken it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The event names a value that follows from what was known, and names another.
    #[error("channel {channel}: the event says {got}, known was {known}")]
    Mismatch {
        /// The channel.
        channel: ChannelId,
        /// What the event says.
        got: U256,
        /// What it should say.
        known: U256,
    },
    /// An index is below what was settled, or above what the deposit covers.
    #[error("channel {channel}: index {got}, not {low} to {high}")]
    IndexOutOfRange {
        /// The channel.
        channel: ChannelId,
        /// The event's index.
        got: Index,
        /// The lowest.
        low: Index,
        /// The highest.
        high: Index,
    },
    /// A top-up is not longer.
    #[error("channel {channel}: a top-up to {got}, known was {known}")]
    NotLonger {
        /// The channel.
        channel: ChannelId,
        /// The new length.
        got: Index,
        /// The one before.
        known: Index,
    },
    /// A top-up ends sooner.
    #[error("channel {channel}: a top-up until {got}, known was {known}")]
    ExpiryBackwards {
        /// The channel.
        channel: ChannelId,
        /// The new expiry.
        got: Timestamp,
        /// The one before.
        known: Timestamp,
    },
    /// A bank set what is no reputation.
    #[error("{customer} has a reputation of {got}, the highest is {high}")]
    ReputationOutOfRange {
        /// The bank's customer.
        customer: Address,
        /// Its reputation.
        got: u8,
        /// The highest.
        high: Reputation,
    },
    /// A change of a bank's key was missed.
    #[error("bank {bank} has its key of epoch {got}, known was {known}")]
    EpochSkipped {
        /// The bank.
        bank: Address,
        /// The event's epoch.
        got: u64,
        /// The one before.
        known: u64,
    },
    /// Reputation falls once for each kind of proof.
    #[error("channel {channel}: proven a second time")]
    ProvenTwice {
        /// The channel.
        channel: ChannelId,
    },
}

impl Refusal {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::ForeignChannel { .. } => "foreign-channel",
            Self::MirrorStale { .. } => "mirror-stale",
            Self::ChannelMissing { .. } => "channel-missing",
            Self::ChannelClosed { .. } => "channel-closed",
            Self::WrongVendor { .. } => "wrong-vendor",
            Self::BankNotAccepted { .. } => "bank-not-accepted",
            Self::ReputationTooLow { .. } => "reputation-too-low",
            Self::TooLate { .. } => "too-late",
            Self::WrongAsset { .. } => "wrong-asset",
            Self::WrongItem { .. } => "wrong-item",
            Self::AlreadyDelivered { .. } => "already-delivered",
            Self::IndexBackwards { .. } => "index-backwards",
            Self::PastLength { .. } => "past-length",
            Self::AlreadySettled { .. } => "already-settled",
            Self::Busy { .. } => "busy",
            Self::PaysTooLittle { .. } => "pays-too-little",
            Self::PaysTooMuch { .. } => "pays-too-much",
            Self::CheckpointNeeded { .. } => "checkpoint-needed",
            Self::JumpTooFar { .. } => "jump-too-far",
            Self::WordNotInChain { .. } => "word-not-in-chain",
        }
    }

    /// What the client can do about it.
    pub fn retry(&self) -> Retry {
        match self {
            Self::AlreadyDelivered { .. } => Retry::Delivered,
            // What the refusal says mends the next payment.
            Self::WrongItem { .. }
            | Self::IndexBackwards { .. }
            | Self::AlreadySettled { .. }
            | Self::PaysTooLittle { .. }
            | Self::PaysTooMuch { .. } => Retry::NewPayment,
            // A block, a delivery, or a top-up that becomes final helps.
            Self::MirrorStale { .. }
            | Self::ChannelMissing { .. }
            | Self::Busy { .. }
            | Self::WordNotInChain { .. } => Retry::Later,
            // More length, more time, or a reputation that rose.
            Self::PastLength { got, .. } if *got <= MAX_LENGTH => Retry::TopUp,
            Self::TooLate { .. } | Self::ReputationTooLow { .. } => Retry::TopUp,
            Self::CheckpointNeeded { .. } => Retry::Checkpoint,
            // These never change.
            Self::ForeignChannel { .. }
            | Self::ChannelClosed { .. }
            | Self::WrongVendor { .. }
            | Self::BankNotAccepted { .. }
            | Self::WrongAsset { .. }
            | Self::PastLength { .. }
            | Self::JumpTooFar { .. } => Retry::Never,
        }
    }
}
