//! Why a device does not do a step, with the values that were compared.

use alloy_primitives::Address;
use protocol::offline::{
    CertificateError, IndexName, InvoiceDigest, ListError, LogError, LogHead, PayError, Refusal, Seconds,
    Sequence, SignatureError, Timestamp, TransferDigest, WalletId, WalletKeyError, WalletSignatureError,
};
use storage::StoreError;
use trusted::TrustedError;

/// What a device answers.
pub type Result<T, E = DeviceError> = std::result::Result<T, E>;

/// Why a device did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The store failed, or refused. If it failed while saving, the step may have been done: resume.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// The component failed, or refused. A payment that was chosen goes on with resume.
    #[error(transparent)]
    Component(Box<TrustedError>),
    /// The scheme does not let this be paid.
    #[error(transparent)]
    Pay(Box<PayError>),
    /// The log, or a checkpoint of it, is not as it should be.
    #[error(transparent)]
    Log(Box<LogError>),
    /// A payment is not taken.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// A revocation list is not well formed.
    #[error(transparent)]
    List(#[from] ListError),
    /// What the component calls its key is none.
    #[error(transparent)]
    Key(#[from] WalletKeyError),
    /// What the component signed is no signature.
    #[error(transparent)]
    Signature(#[from] WalletSignatureError),
    /// What the component certified is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Nobody signed the registration.
    #[error(transparent)]
    Registration(#[from] SignatureError),
    /// The store has a wallet already.
    #[error("the store has the books of wallet {0} already")]
    Exists(WalletId),
    /// The store has no wallet.
    #[error("the store has no books of wallet {0}")]
    NoBooks(WalletId),
    /// The component has another wallet's key.
    #[error("the component is wallet {component}, the books are of {books}")]
    OtherComponent {
        /// The component's.
        component: WalletId,
        /// The books'.
        books: WalletId,
    },
    /// The component has another log than the registration, or one has none.
    #[error("the component's log is {component:?}, the registration's {books:?}")]
    OtherLog {
        /// The component's.
        component: Option<IndexName>,
        /// The registration's.
        books: Option<IndexName>,
    },
    /// The component has logged what the books do not know: they were set back. The wallet cannot pay from them.
    #[error("the component's log is at {component}, the books at {books}: were they set back?")]
    LogSetBack {
        /// The component's head.
        component: LogHead,
        /// The books'.
        books: LogHead,
    },
    /// The component has signed what the books do not know: they were set back. The wallet cannot pay from them.
    #[error("the component signs transfer {component} next, the books {books}: were they set back?")]
    SequenceSetBack {
        /// The component's next sequence.
        component: Sequence,
        /// The books'.
        books: Sequence,
    },
    /// The wallet's log has more entries than a payment carries: it needs a checkpoint before it pays.
    #[error("{got} entries since the last checkpoint, a payment carries at most {limit}: take a checkpoint")]
    LogTooLong {
        /// Entries that payees would have to see, the next one not counted.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// The payment would be larger than payees read.
    #[error("the payment would have about {got} bytes, at most {limit} are read: take a checkpoint")]
    PaymentTooLarge {
        /// About.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// Another payment is under way: resume or abort it first.
    #[error("{doing} is under way: resume it, or abort it, before {asked}")]
    UnderWay {
        /// What the wallet is at.
        doing: String,
        /// What was asked for.
        asked: String,
    },
    /// There is nothing to abort: nothing is reserved, or it is chosen already.
    #[error("nothing is reserved: the wallet is {state}")]
    NothingReserved {
        /// The payer's state.
        state: &'static str,
    },
    /// Not an invoice of this wallet.
    #[error("invoice {0} is not of this wallet")]
    UnknownInvoice(InvoiceDigest),
    /// Not a transfer of this wallet.
    #[error("transfer {0} is not of this wallet")]
    UnknownTransfer(TransferDigest),
    /// Not an exit.
    #[error("transfer {0} is no exit")]
    NotAnExit(TransferDigest),
    /// The money is here.
    #[error("invoice {invoice} is paid by {transfer} and cannot be rejected")]
    PaidAlready {
        /// The invoice.
        invoice: InvoiceDigest,
        /// What paid it.
        transfer: TransferDigest,
    },
    /// Nobody whose wallets are taken here.
    #[error("{0} is no registrar of this wallet's policy")]
    UnknownRegistrar(Address),
    /// A list that is not issued yet would hide those that are.
    #[error("the revocation list is of {issued_at}, now is {now}, clocks are at most {skew} apart")]
    ListFromFuture {
        /// The list's time.
        issued_at: Timestamp,
        /// This device's.
        now: Timestamp,
        /// What clocks may differ by.
        skew: Seconds,
    },
    /// A renewal changes nothing but the end.
    #[error("the renewal has {field} {got}, needed {needed}")]
    Renewal {
        /// What differs.
        field: &'static str,
        /// In the renewal.
        got: String,
        /// What it must be.
        needed: String,
    },
}

macro_rules! boxed {
    ($($variant:ident($error:ty)),*) => {$(
        impl From<$error> for DeviceError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        }
    )*};
}
boxed!(
    Store(StoreError),
    Component(TrustedError),
    Pay(PayError),
    Log(LogError),
    Refused(Refusal)
);
