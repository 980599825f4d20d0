#![doc = include_str!("README.md")]

mod certificate;
mod confirmation;
mod deposit;
mod domain;
mod encoding;
mod equivocation;
mod error;
mod invoice;
mod key;
mod log;
mod path;
mod payee;
mod payer;
mod policy;
mod registration;
mod revocation;
mod settle;
mod spent;
mod transfer;
mod units;
mod wallet;

pub use certificate::{ATTEST_LENGTH, Attest, Certificate, IndexName, qualifying_data};
pub use confirmation::ConfirmationCode;
pub use deposit::{Coin, DepositReceipt, SignedDeposit};
pub use domain::Domain;
pub use encoding::{MAX_HISTORY, MAX_PATH_BYTES};
pub use equivocation::{Branch, Equivocation, equivocation};
pub use error::{
    CertificateError, DecodeError, ListError, LogError, PathError, PayError, Refusal, Unbuilt,
    WalletKeyError, WalletSignatureError,
};
pub use invoice::{
    Acceptance, Invoice, InvoiceTerms, Rejection, SignedAcceptance, SignedInvoice, SignedRejection,
};
pub use key::{SoftwareKey, WalletKey, WalletSignature};
pub use log::{Base, LogCheckpoint, LogEntry, LogProof, SignedLogCheckpoint};
pub use path::{Evidence, Fragment, Hop, Path, ProvenPath};
pub use payee::{Credited, Payee, Rejected, Waiting};
pub use payer::{
    AnyPayer, Chosen, Committed, Done, Idle, Outgoing, Payer, PayerPolicy, Proof, Reserved, Step, Stopped,
};
pub use policy::{AcceptedClass, Exposure, GRACE, Judged, PayeePolicy, View, judge};
pub use registration::{Registration, SignedRegistration, VouchedRegistration};
pub use revocation::{MAX_LIST_BYTES, RevocationHeader, RevocationList, SignedRevocationList};
pub use settle::SettledHeads;
pub use spent::{Gap, MAX_GAP_SIBLINGS, SpentRoot, SpentTree};
pub use transfer::Transfer;
pub use units::{
    ClassId, CoinId, DepositNonce, Depth, FragmentId, Input, InvoiceDigest, Kind, LogHead, MAX_HOLDINGS,
    MAX_HOPS, MAX_PAYMENT_BYTES, MAX_TRANSFERS, NameHash, Nonce32, Output, Previous, RegistrationDigest,
    Sequence, TransferDigest, WalletId,
};
pub use wallet::{Holding, PaidInvoice, Wallet, WalletLog};

pub use crate::signature::{Key, KeyError, PublicKey, Signature, SignatureError, recover};
pub use crate::units::{Amount, Seconds, Timestamp, UnitError};
