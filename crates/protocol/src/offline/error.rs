//! Why a step does not happen. One variant per rule, with the values that were compared. Names are stable: wallets, logs and
//! tests talk about refusals by their `rule`.

use alloy_primitives::{Address, B256, U256};
use thiserror::Error;

use super::{
    Amount, ClassId, Input, InvoiceDigest, Kind, LogHead, Previous, Seconds, Sequence, SignatureError,
    SpentRoot, Timestamp, TransferDigest, WalletId,
};

/// Why bytes are not a key of P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WalletKeyError {
    /// No point of the curve has these coordinates.
    #[error("({x}, {y}) is no point of P-256")]
    NotOnCurve {
        /// The x-coordinate.
        x: B256,
        /// The y-coordinate.
        y: B256,
    },
    /// No point of the curve has this x-coordinate.
    #[error("no point of P-256 has x = {x}")]
    NoPoint {
        /// The x-coordinate.
        x: B256,
    },
    /// The compressed form has 33 bytes.
    #[error("key has {got} bytes, not {needed}")]
    Length {
        /// Number of bytes.
        got: usize,
        /// What there must be.
        needed: usize,
    },
    /// The first byte says whether y is even.
    #[error("key starts with {got}, not 2 or 3")]
    BadParity {
        /// The byte.
        got: u8,
    },
    /// A private key is a scalar other than 0.
    #[error("a private key is above 0 and below the group order")]
    SecretOutOfRange,
}

/// Why bytes are not a signature by a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WalletSignatureError {
    /// A signature has 64 bytes.
    #[error("signature has {got} bytes, not {needed}")]
    Length {
        /// Number of bytes.
        got: usize,
        /// What there must be.
        needed: usize,
    },
    /// `r` or `s` is 0, or not below the group order.
    #[error("signature has a scalar {got:#x}, outside 1..{limit:#x}")]
    ScalarOutOfRange {
        /// The value.
        got: U256,
        /// The group order.
        limit: U256,
    },
    /// `s` is above n/2: the malleated twin of a signature.
    #[error("signature has s = {got:#x}, above half the order {limit:#x}")]
    HighS {
        /// The value.
        got: U256,
        /// n/2.
        limit: U256,
    },
}

/// Why bytes are not a TPM's attestation of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// An attestation of a log has 173 bytes.
    #[error("attestation has {got} bytes, not {needed}")]
    Length {
        /// Number of bytes.
        got: usize,
        /// What there must be.
        needed: usize,
    },
    /// A byte that does not vary is wrong.
    #[error("attestation has {got:#04x} at {at}, not {needed:#04x}")]
    Byte {
        /// Position.
        at: usize,
        /// The byte.
        got: u8,
        /// What it must be.
        needed: u8,
    },
    /// An index of another hash.
    #[error("index name is of algorithm {got:#06x}, not {needed:#06x}")]
    NameAlgorithm {
        /// The TPM's number of the hash.
        got: u16,
        /// SHA-256.
        needed: u16,
    },
}

/// Why a log does not prove a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// The wallet is of a SIGNATURE class.
    #[error("wallet {wallet} has no log")]
    NoLog {
        /// The wallet.
        wallet: WalletId,
    },
    /// The log goes on after the transfer: it is proven by what comes later, not now.
    #[error("transfer {transfer} is not the last entry")]
    NotLastEntry {
        /// The transfer.
        transfer: TransferDigest,
    },
    /// An earlier entry spends the same input.
    #[error("input {input} is spent earlier, by {by}")]
    InputSpentEarlier {
        /// What is spent.
        input: Input,
        /// The earlier transfer.
        by: TransferDigest,
    },
    /// The log has another number of transfers.
    #[error("sequence {got}, the log has {needed}")]
    WrongSequence {
        /// The transfer's.
        got: Sequence,
        /// The log's.
        needed: Sequence,
    },
    /// The log's last transfer is another.
    #[error("previous {got}, the log has {needed}")]
    WrongPrevious {
        /// The transfer's.
        got: Previous,
        /// The log's.
        needed: Previous,
    },
    /// The wallet's key did not certify this head with this transfer.
    #[error("head {head} with transfer {transfer} is not certified")]
    NotCertified {
        /// What the entries fold to.
        head: LogHead,
        /// The transfer.
        transfer: TransferDigest,
    },
    /// The checkpoint is of another wallet.
    #[error("checkpoint is of wallet {got}, not {needed}")]
    ForeignCheckpoint {
        /// The checkpoint's.
        got: WalletId,
        /// The payer.
        needed: WalletId,
    },
    /// Not the registrar of the wallet signed the checkpoint.
    #[error("checkpoint is signed by {got}, the registrar is {needed}")]
    CheckpointSigner {
        /// Who signed.
        got: Address,
        /// The wallet's registrar.
        needed: Address,
    },
    /// The checkpoint's signature is no key's.
    #[error(transparent)]
    CheckpointSignature(#[from] SignatureError),
    /// The gap does not show that the input was not spent.
    #[error("input {input} is not between {low} and {high}")]
    NotInGap {
        /// What is spent.
        input: Input,
        /// The gap's lower end.
        low: B256,
        /// Its higher end.
        high: B256,
    },
    /// The proof of the gap is longer than any.
    #[error("gap has {got} siblings, above {limit}")]
    GapTooDeep {
        /// Number of siblings.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// The gap is not the checkpoint's.
    #[error("gap is under {got}, the checkpoint has {root}")]
    GapNotUnderRoot {
        /// What the gap leads to.
        got: SpentRoot,
        /// The checkpoint's root.
        root: SpentRoot,
    },
    /// The wallet spent the input before the checkpoint.
    #[error("input {input} is spent up to transfer {sequence}")]
    SpentBefore {
        /// What would be spent.
        input: Input,
        /// The checkpoint's.
        sequence: Sequence,
    },
    /// The component's log is neither before the entry nor after it: it was set back, copied, or used by others.
    #[error("component has head {got}, not {before} or {after}")]
    UnknownHead {
        /// The component's.
        got: LogHead,
        /// Before the entry.
        before: LogHead,
        /// After it.
        after: LogHead,
    },
    /// The checkpoint is at no place of the wallet's log.
    #[error("checkpoint is at {got}, which is not in the log up to {head}")]
    CheckpointNotMine {
        /// The checkpoint's.
        got: LogHead,
        /// The wallet's.
        head: LogHead,
    },
    /// The registrar counts other inputs as spent.
    #[error("checkpoint has spent {got}, the wallet has {needed}")]
    CheckpointSpent {
        /// The checkpoint's.
        got: SpentRoot,
        /// The wallet's.
        needed: SpentRoot,
    },
}

/// Why a path proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// More transfers than any contract follows.
    #[error("{got} transfers, above {limit}")]
    TooLong {
        /// Number of transfers, without an exit.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// More wallets than transfers.
    #[error("{got} wallets, above {limit}")]
    TooManyWallets {
        /// Number of wallets.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// A hop names a wallet that the path does not have.
    #[error("hop {hop} is by wallet {got} of {wallets}")]
    NoSuchWallet {
        /// Position in the path, from 0.
        hop: usize,
        /// Position of the wallet.
        got: usize,
        /// Number of wallets.
        wallets: usize,
    },
    /// No key signed the registration.
    #[error("registration of wallet {wallet}: {error}")]
    Registration {
        /// Position of the wallet.
        wallet: usize,
        /// What is wrong.
        error: SignatureError,
    },
    /// The first wallet is not the coin's.
    #[error("first wallet is {got}, the coin is of {needed}")]
    WrongCoinWallet {
        /// The path's first wallet.
        got: WalletId,
        /// The coin's.
        needed: WalletId,
    },
    /// No key signed the deposit receipt.
    #[error("deposit receipt: {0}")]
    Receipt(SignatureError),
    /// Not the registrar of the coin's wallet signed the deposit receipt: the deposit is not final.
    #[error("deposit receipt is signed by {got}, the registrar is {needed}")]
    ReceiptSigner {
        /// Who signed.
        got: Address,
        /// The registrar.
        needed: Address,
    },
    /// A hop spends something else.
    #[error("hop {hop} spends {got}, the path leads to {needed}")]
    WrongInput {
        /// Position in the path, from 0.
        hop: usize,
        /// What it spends.
        got: Input,
        /// The payee's part before it.
        needed: Input,
    },
    /// Somebody else spends.
    #[error("hop {hop} is by {got}, its input is of {owner}")]
    NotOwner {
        /// Position in the path, from 0.
        hop: usize,
        /// Who spends.
        got: WalletId,
        /// Who may.
        owner: WalletId,
    },
    /// The payee gets nothing.
    #[error("hop {hop} pays {amount} and keeps {change}")]
    NothingPaid {
        /// Position in the path, from 0.
        hop: usize,
        /// The payee's part.
        amount: Amount,
        /// The payer's part.
        change: Amount,
    },
    /// The parts are not the whole.
    #[error("hop {hop} makes {got} of {value}")]
    WrongSum {
        /// Position in the path, from 0.
        hop: usize,
        /// Sum of the parts.
        got: Amount,
        /// Value of the input.
        value: Amount,
    },
    /// What an exit left was spent.
    #[error("hop {hop} spends what exit {exit} left")]
    AfterExit {
        /// Position in the path, from 0.
        hop: usize,
        /// The exit.
        exit: TransferDigest,
    },
    /// A wallet's transfers do not count up.
    #[error("hop {hop} has sequence {got}, not above {last}")]
    SequenceNotAbove {
        /// Position in the path, from 0.
        hop: usize,
        /// Its number.
        got: Sequence,
        /// The wallet's number before.
        last: Sequence,
    },
    /// A wallet's first transfer does not name its registration.
    #[error("hop {hop} has previous {got}, the wallet starts at {needed}")]
    WrongPrevious {
        /// Position in the path, from 0.
        hop: usize,
        /// What it names.
        got: Previous,
        /// The first registration.
        needed: Previous,
    },
    /// The wallet's registration was over.
    #[error("hop {hop} was made at {issued_at}, the registration ends at {valid_until}")]
    RegistrationExpired {
        /// Position in the path, from 0.
        hop: usize,
        /// The transfer's time.
        issued_at: Timestamp,
        /// The registration's end.
        valid_until: Timestamp,
    },
    /// The payer's key did not sign the transfer.
    #[error("hop {hop}: {wallet} did not sign transfer {transfer}")]
    BadSignature {
        /// Position in the path, from 0.
        hop: usize,
        /// The transfer.
        transfer: TransferDigest,
        /// The payer.
        wallet: WalletId,
    },
    /// A LOG wallet's signature, or a SIGNATURE wallet's log.
    #[error("hop {hop} has {got} evidence, needed is {needed}")]
    WrongEvidence {
        /// Position in the path, from 0.
        hop: usize,
        /// What it has.
        got: Kind,
        /// The wallet's kind.
        needed: Kind,
    },
    /// The log does not prove the transfer.
    #[error("hop {hop}: {error}")]
    Log {
        /// Position in the path, from 0.
        hop: usize,
        /// What is wrong.
        error: LogError,
    },
}

/// Why a payee does not take a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A coin alone pays nobody.
    #[error("{depth} transfers, needed is {needed}")]
    NoTransfer {
        /// Number of transfers.
        depth: usize,
        /// The least.
        needed: usize,
    },
    /// It pays another invoice.
    #[error("pays invoice {got}, asked was {needed}")]
    WrongInvoice {
        /// What it pays.
        got: InvoiceDigest,
        /// The payee's.
        needed: InvoiceDigest,
    },
    /// It pays somebody else.
    #[error("pays {got}, not {me}")]
    NotPayee {
        /// Who is paid.
        got: WalletId,
        /// The payee.
        me: WalletId,
    },
    /// It pays in another asset.
    #[error("pays in {got}, asked was {needed}")]
    WrongAsset {
        /// The coin's.
        got: Address,
        /// The invoice's.
        needed: Address,
    },
    /// It pays another amount.
    #[error("pays {got}, asked was {needed}")]
    WrongAmount {
        /// What it pays.
        got: Amount,
        /// The invoice's.
        needed: Amount,
    },
    /// It was made later than the clocks allow.
    #[error("made at {issued_at}, more than {window} after {now}")]
    FromFuture {
        /// The transfer's time.
        issued_at: Timestamp,
        /// The payee's clock.
        now: Timestamp,
        /// ε + Δ.
        window: Seconds,
    },
    /// It was made earlier than the clocks allow, and not when the invoice was young.
    #[error("made at {issued_at}, more than {window} before {now}")]
    Stale {
        /// The transfer's time.
        issued_at: Timestamp,
        /// The payee's clock.
        now: Timestamp,
        /// ε + Δ.
        window: Seconds,
    },
    /// More transfers than the payee follows.
    #[error("{got} transfers, above {limit}")]
    TooManyHops {
        /// Number of transfers.
        got: usize,
        /// The policy's.
        limit: usize,
    },
    /// It could not be redeemed in time.
    #[error("to be settled by {settle_by}, less than {margin} after {now}")]
    SettleTooSoon {
        /// The coin's.
        settle_by: Timestamp,
        /// The payee's clock.
        now: Timestamp,
        /// The policy's.
        margin: Seconds,
    },
    /// The path proves nothing.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No hardware guards the payer's key.
    #[error("class {class} of {registrar} is for development")]
    DevClass {
        /// The registrar.
        registrar: Address,
        /// Its class.
        class: ClassId,
    },
    /// The payee does not take what this class spent, in this asset.
    #[error("class {class} of {registrar} is not accepted in {asset}")]
    ClassNotAccepted {
        /// The registrar.
        registrar: Address,
        /// Its class.
        class: ClassId,
        /// The coin's.
        asset: Address,
    },
    /// The payee takes nothing in this asset from anybody.
    #[error("none of the {classes} accepted classes is accepted in {asset}")]
    NoClassAccepted {
        /// What was to be asked for.
        asset: Address,
        /// How many classes are accepted, in any asset.
        classes: usize,
    },
    /// The payment is longer than a payee reads again and again: its payer needs a checkpoint.
    #[error("{got} bytes, at most {limit}")]
    TooLarge {
        /// Its bytes.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// It is worth less than its gas.
    #[error("{got}, less than {needed}")]
    FragmentTooSmall {
        /// What it pays.
        got: Amount,
        /// The least.
        needed: Amount,
    },
    /// The payee would hold too much that depends on one class.
    #[error("{got} with the {held} held is above {limit}")]
    AboveAcceptLimit {
        /// What it pays.
        got: Amount,
        /// What is held.
        held: Amount,
        /// The most.
        limit: Amount,
    },
    /// The payee has no list of this registrar.
    #[error("no revocation list of {registrar}")]
    NoRevocationList {
        /// The registrar.
        registrar: Address,
    },
    /// The list is from later than now: the payee's clock is wrong.
    #[error("list of {issued_at} is more than {skew} after {now}")]
    ListFromFuture {
        /// The list's time.
        issued_at: Timestamp,
        /// The payee's clock.
        now: Timestamp,
        /// ε.
        skew: Seconds,
    },
    /// The payee's list is too old.
    #[error("list is {age} old, above {limit}")]
    ListTooOld {
        /// Its age.
        age: Seconds,
        /// The policy's.
        limit: Seconds,
    },
    /// The payer is revoked; or an earlier one was, before it paid.
    #[error("{wallet} paid at {issued_at}, revoked at {revoked_at}")]
    Revoked {
        /// The wallet.
        wallet: WalletId,
        /// The transfer's time.
        issued_at: Timestamp,
        /// The list's.
        revoked_at: Timestamp,
    },
    /// What a revoked wallet paid before can not be redeemed in time.
    #[error("grace of {wallet} ends at {end}, less than {margin} after {now}")]
    GraceTooShort {
        /// The wallet.
        wallet: WalletId,
        /// When it ends.
        end: Timestamp,
        /// The payee's clock.
        now: Timestamp,
        /// The policy's.
        margin: Seconds,
    },
    /// Another transfer has paid this invoice.
    #[error("transfer {got}, the invoice was paid by {first}")]
    AlreadyPaid {
        /// This transfer.
        got: TransferDigest,
        /// The one that is credited.
        first: TransferDigest,
    },
}

/// Why a payer does not pay, or does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PayError {
    /// The payee did not sign the invoice.
    #[error("invoice {invoice} is not signed by {payee}")]
    InvoiceSignature {
        /// The invoice.
        invoice: InvoiceDigest,
        /// Who is named in it.
        payee: WalletId,
    },
    /// Nobody pays itself.
    #[error("invoice of {payee}, the payer is {payer}")]
    OwnInvoice {
        /// Who asks.
        payee: WalletId,
        /// Who would pay.
        payer: WalletId,
    },
    /// The invoice is a copy of one that was paid.
    #[error("invoice {invoice} of {issued_at} is paid")]
    AlreadyPaid {
        /// The invoice.
        invoice: InvoiceDigest,
        /// Its time.
        issued_at: Timestamp,
    },
    /// The invoice is for nothing.
    #[error("invoice {invoice} asks for {amount}")]
    NothingAsked {
        /// The invoice.
        invoice: InvoiceDigest,
        /// What it asks for.
        amount: Amount,
    },
    /// The invoice is later than the clocks allow.
    #[error("invoice of {issued_at}, more than {skew} after {now}")]
    InvoiceFromFuture {
        /// Its time.
        issued_at: Timestamp,
        /// The payer's clock.
        now: Timestamp,
        /// ε.
        skew: Seconds,
    },
    /// The invoice is older than the clocks allow.
    #[error("invoice of {issued_at}, more than {window} before {now}")]
    InvoiceStale {
        /// Its time.
        issued_at: Timestamp,
        /// The payer's clock.
        now: Timestamp,
        /// ε + Δ.
        window: Seconds,
    },
    /// The payer's own registration is over.
    #[error("registration ended at {valid_until}, now is {now}")]
    RegistrationExpired {
        /// Its end.
        valid_until: Timestamp,
        /// The payer's clock.
        now: Timestamp,
    },
    /// This wallet, or its class, was stopped: what it pays is void, and what it keeps of that coin with it.
    #[error("wallet {wallet} is revoked since {since}: leave with what it holds")]
    Stopped {
        /// This wallet.
        wallet: WalletId,
        /// Since when, by its registrar's list.
        since: Timestamp,
    },
    /// The payee does not let this wallet pay: its class is none of those that it accepts, or may owe it no more.
    #[error("class {class} of {registrar} is none of the {accepted} that {payee} lets pay")]
    ClassNotTaken {
        /// Who vouches for this wallet.
        registrar: Address,
        /// This wallet's class.
        class: ClassId,
        /// Who asks.
        payee: WalletId,
        /// How many classes may pay.
        accepted: usize,
    },
    /// No coin or fragment is large enough. Inputs are not joined.
    #[error("asked is {needed}, the largest is {largest}")]
    NoInput {
        /// What is asked for.
        needed: Amount,
        /// The largest that can be spent now.
        largest: Amount,
    },
    /// The wallet does not hold this.
    #[error("the wallet does not hold {input}, but {held} others")]
    NoSuchHolding {
        /// What was named.
        input: Input,
        /// Number of what it holds.
        held: usize,
    },
    /// A coin or fragment of another wallet.
    #[error("{input} is of {owner}, not {me}")]
    NotMine {
        /// Its name.
        input: Input,
        /// Whose it is.
        owner: WalletId,
        /// This wallet.
        me: WalletId,
    },
    /// The wallet has no room for another coin or fragment: it has to leave with some first.
    #[error("the wallet holds {held} coins and fragments, at most {limit}: redeem some")]
    TooManyHoldings {
        /// How many it holds.
        held: usize,
        /// The most.
        limit: usize,
    },
    /// The wallet's numbers are used up: it can leave with what it holds, no more.
    #[error("the wallet made {made} transfers, at most {limit}")]
    Exhausted {
        /// How many.
        made: Sequence,
        /// The most.
        limit: u64,
    },
    /// It is about another invoice.
    #[error("about invoice {got}, not {needed}")]
    WrongInvoice {
        /// What it is about.
        got: InvoiceDigest,
        /// What is being paid.
        needed: InvoiceDigest,
    },
    /// It is about another transfer.
    #[error("about transfer {got}, not {needed}")]
    WrongTransfer {
        /// What it is about.
        got: TransferDigest,
        /// What was paid.
        needed: TransferDigest,
    },
    /// The payee did not sign it.
    #[error("not signed by {payee}, but says {got}")]
    NotSignedByPayee {
        /// Whom it names.
        got: WalletId,
        /// Who was to sign.
        payee: WalletId,
    },
    /// Nobody accepts an exit.
    #[error("transfer {transfer} is an exit: there is no invoice but {none}")]
    NoAcceptance {
        /// The exit.
        transfer: TransferDigest,
        /// None.
        none: InvoiceDigest,
    },
    /// The own path proves nothing.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The component's log is not the wallet's.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why bytes are not a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ListError {
    /// More than a payee stores.
    #[error("list has {got} bytes, above {limit}")]
    TooLong {
        /// Number of bytes.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// The last entry is cut off.
    #[error("list has {got} bytes, not a multiple of {entry}")]
    PartialEntry {
        /// Number of bytes.
        got: usize,
        /// Length of an entry.
        entry: usize,
    },
    /// Entries are in order, and none twice.
    #[error("entry {at} is not below entry {next}")]
    NotInOrder {
        /// Position.
        at: usize,
        /// The one after.
        next: usize,
    },
    /// No key signed the list.
    #[error("{0}")]
    Signature(SignatureError),
}

/// Why bytes are not one of our messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More bytes than any such message has.
    #[error("{got} bytes, above {limit}")]
    TooLong {
        /// Number of bytes.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// Not CBOR, not the shortest form of it, or cut off.
    #[error("malformed at byte {at}")]
    Malformed {
        /// Position.
        at: usize,
    },
    /// Another message, or another version.
    #[error("message {got}, not {needed}")]
    WrongMessage {
        /// Its number.
        got: u64,
        /// What was to come.
        needed: u64,
    },
    /// A key that this map does not have, or not here: keys go up.
    #[error("key {got} at byte {at}")]
    UnknownKey {
        /// The key.
        got: u64,
        /// Position.
        at: usize,
    },
    /// A key that this map must have.
    #[error("key {needed} is missing at byte {at}")]
    MissingKey {
        /// The key.
        needed: u64,
        /// Position.
        at: usize,
    },
    /// Bytes of a fixed length, or their multiples.
    #[error("{got} bytes at byte {at}, not {needed}")]
    WrongLength {
        /// Number of bytes.
        got: usize,
        /// What there must be.
        needed: usize,
        /// Position.
        at: usize,
    },
    /// More of something than is taken.
    #[error("{got} at byte {at}, above {limit}")]
    TooMany {
        /// How many.
        got: u64,
        /// The most.
        limit: u64,
        /// Position.
        at: usize,
    },
    /// A number that its unit cannot hold, or in two forms.
    #[error("number at byte {at} is out of range")]
    OutOfRange {
        /// Position.
        at: usize,
    },
    /// Something follows the message.
    #[error("{got} bytes, the message has {needed}")]
    TrailingBytes {
        /// Number of bytes.
        got: usize,
        /// Where the message ends.
        needed: usize,
    },
    /// What is left out does not follow from what is there.
    #[error("hop {hop} cannot be rebuilt: {reason}")]
    NotRebuilt {
        /// Position in the path.
        hop: usize,
        /// What is wrong.
        reason: Unbuilt,
    },
    /// Not a point of the curve.
    #[error(transparent)]
    Key(#[from] WalletKeyError),
    /// Not a strict signature of P-256.
    #[error(transparent)]
    WalletSignature(#[from] WalletSignatureError),
    /// Not a strict signature of secp256k1.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Not a list.
    #[error(transparent)]
    List(#[from] ListError),
    /// What was saved as credited proves nothing.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Why a hop does not follow from what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unbuilt {
    /// It pays more than there is.
    #[error("it pays {got} of {value}")]
    AboveInput {
        /// What it pays.
        got: Amount,
        /// The input's value.
        value: Amount,
    },
    /// Its wallet is listed out of order.
    #[error("wallet {got}, the next new one is {next}")]
    WalletOrder {
        /// Position of the wallet.
        got: usize,
        /// The first that was not used.
        next: usize,
    },
    /// Its wallet is not listed.
    #[error("wallet {got} of {wallets}")]
    NoWallet {
        /// Position of the wallet.
        got: usize,
        /// Number of wallets.
        wallets: usize,
    },
    /// A wallet is listed that nobody uses.
    #[error("{got} wallets, {used} are used")]
    UnusedWallet {
        /// Number of wallets.
        got: usize,
        /// How many spend.
        used: usize,
    },
}

impl LogError {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NoLog { .. } => "no-log",
            Self::NotLastEntry { .. } => "not-last-entry",
            Self::InputSpentEarlier { .. } => "input-spent-earlier",
            Self::WrongSequence { .. } => "wrong-sequence",
            Self::WrongPrevious { .. } => "wrong-previous",
            Self::NotCertified { .. } => "not-certified",
            Self::ForeignCheckpoint { .. } => "foreign-checkpoint",
            Self::CheckpointSigner { .. } => "checkpoint-signer",
            Self::CheckpointSignature(_) => "checkpoint-signature",
            Self::NotInGap { .. } => "not-in-gap",
            Self::GapTooDeep { .. } => "gap-too-deep",
            Self::GapNotUnderRoot { .. } => "gap-not-under-root",
            Self::SpentBefore { .. } => "spent-before",
            Self::UnknownHead { .. } => "unknown-head",
            Self::CheckpointNotMine { .. } => "checkpoint-not-mine",
            Self::CheckpointSpent { .. } => "checkpoint-spent",
        }
    }
}

impl PathError {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too-long",
            Self::TooManyWallets { .. } => "too-many-wallets",
            Self::NoSuchWallet { .. } => "no-such-wallet",
            Self::Registration { .. } => "registration",
            Self::WrongCoinWallet { .. } => "wrong-coin-wallet",
            Self::Receipt(_) => "receipt",
            Self::ReceiptSigner { .. } => "receipt-signer",
            Self::WrongInput { .. } => "wrong-input",
            Self::NotOwner { .. } => "not-owner",
            Self::NothingPaid { .. } => "nothing-paid",
            Self::WrongSum { .. } => "wrong-sum",
            Self::AfterExit { .. } => "after-exit",
            Self::SequenceNotAbove { .. } => "sequence-not-above",
            Self::WrongPrevious { .. } => "wrong-previous",
            Self::RegistrationExpired { .. } => "registration-expired",
            Self::BadSignature { .. } => "bad-signature",
            Self::WrongEvidence { .. } => "wrong-evidence",
            Self::Log { error, .. } => error.rule(),
        }
    }
}

impl Refusal {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NoTransfer { .. } => "no-transfer",
            Self::WrongInvoice { .. } => "wrong-invoice",
            Self::NotPayee { .. } => "not-payee",
            Self::WrongAsset { .. } => "wrong-asset",
            Self::WrongAmount { .. } => "wrong-amount",
            Self::FromFuture { .. } => "from-future",
            Self::Stale { .. } => "stale",
            Self::TooLarge { .. } => "too-large",
            Self::TooManyHops { .. } => "too-many-hops",
            Self::SettleTooSoon { .. } => "settle-too-soon",
            Self::Path(error) => error.rule(),
            Self::DevClass { .. } => "dev-class",
            Self::NoClassAccepted { .. } => "no-class-accepted",
            Self::ClassNotAccepted { .. } => "class-not-accepted",
            Self::FragmentTooSmall { .. } => "fragment-too-small",
            Self::AboveAcceptLimit { .. } => "above-accept-limit",
            Self::NoRevocationList { .. } => "no-revocation-list",
            Self::ListFromFuture { .. } => "list-from-future",
            Self::ListTooOld { .. } => "list-too-old",
            Self::Revoked { .. } => "revoked",
            Self::GraceTooShort { .. } => "grace-too-short",
            Self::AlreadyPaid { .. } => "already-paid",
        }
    }
}

impl PayError {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::InvoiceSignature { .. } => "invoice-signature",
            Self::OwnInvoice { .. } => "own-invoice",
            Self::AlreadyPaid { .. } => "already-paid",
            Self::NothingAsked { .. } => "nothing-asked",
            Self::InvoiceFromFuture { .. } => "invoice-from-future",
            Self::InvoiceStale { .. } => "invoice-stale",
            Self::RegistrationExpired { .. } => "registration-expired",
            Self::Stopped { .. } => "stopped",
            Self::ClassNotTaken { .. } => "class-not-taken",
            Self::NoInput { .. } => "no-input",
            Self::NoSuchHolding { .. } => "no-such-holding",
            Self::NotMine { .. } => "not-mine",
            Self::TooManyHoldings { .. } => "too-many-holdings",
            Self::Exhausted { .. } => "exhausted",
            Self::WrongInvoice { .. } => "wrong-invoice",
            Self::WrongTransfer { .. } => "wrong-transfer",
            Self::NotSignedByPayee { .. } => "not-signed-by-payee",
            Self::NoAcceptance { .. } => "no-acceptance",
            Self::Path(error) => error.rule(),
            Self::Log(error) => error.rule(),
        }
    }
}

impl DecodeError {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too-long",
            Self::Malformed { .. } => "malformed",
            Self::WrongMessage { .. } => "wrong-message",
            Self::UnknownKey { .. } => "unknown-key",
            Self::MissingKey { .. } => "missing-key",
            Self::WrongLength { .. } => "wrong-length",
            Self::TooMany { .. } => "too-many",
            Self::OutOfRange { .. } => "out-of-range",
            Self::TrailingBytes { .. } => "trailing-bytes",
            Self::NotRebuilt { .. } => "not-rebuilt",
            Self::Key(_) => "key",
            Self::WalletSignature(_) => "wallet-signature",
            Self::Signature(_) => "signature",
            Self::List(_) => "list",
            Self::Path(error) => error.rule(),
        }
    }
}
