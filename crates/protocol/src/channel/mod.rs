#![doc = include_str!("README.md")]

mod accept;
pub mod advise;
mod checkpoint;
mod close;
mod domain;
mod error;
mod lock;
mod open_receipts;
mod pay;
mod permit;
mod receipt;
mod record;
pub mod reputation;
mod units;
mod watch;
mod word;

pub use accept::{
    Accepted, Admission, ChannelView, Delivered, Failed, LastDelivered, Order, Paid, Policy, VendorChannel,
    accept,
};
pub use checkpoint::{
    BadLock, CHECKPOINT_EVERY, DoubleReceipt, LeafProof, LockTree, SignedCheckpoint, bad_lock,
    checkpoint_due, double_receipt, leaf_hash, lock_leaf,
};
pub use close::{Close, CloseGas, Evidence, last_receipt, sign_cooperative_close};
pub use domain::Domain;
pub use error::{
    AdmitRefusal, ChainError, CheckpointError, CloseError, FoldError, NotBadLock, NotDoubleReceipt, PayError,
    PermitError, ReceiptsError, Refusal, Retry, SigmaError,
};
pub use lock::{Keccak, LockHash, Sha3_512, lock, unlock};
pub use open_receipts::{Opened, OpenedReceipt, ReceiptsFile, Stopped, open_receipts};
pub use pay::{Acknowledged, ClientChannel, InFlight, Opener, Payment, Prepared};
pub use permit::{AdmitPolicy, AdmitRequest, Admitted, Permit, TopUpRequest, admit, admit_top_up};
pub use receipt::{LockedReceipt, transcript};
pub use record::{
    ChainTerms, ChannelEvent, ChannelRecord, Channels, Closing, Status, apply, channel_of, fold,
};
pub use units::{
    ChannelId, Index, ItemHash, Lock, MAX_LENGTH, MIN_REPUTATION, Reputation, Sigma, Tag, Transcript, Word,
};
pub use watch::{CloseReason, Sighting, WatchDecision, WatchPolicy, when_to_close};
pub use word::{Chain, ChainSeed, chain_seed, previous, walk};

pub use crate::block::BlockRef;
pub use crate::signature::{Key, KeyError, PublicKey, Signature, SignatureError, recover, verify};
pub use crate::units::{Amount, Seconds, Timestamp, UnitError};
