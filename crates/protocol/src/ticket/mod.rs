#![doc = include_str!("README.md")]

mod accept;
mod claim;
mod domain;
mod draw;
mod error;
mod escrow;
mod issue;
pub mod odds;
pub mod paper;
mod quote;
mod session;
mod units;
pub mod watch;

pub use accept::{Accepted, Admission, Policy, accept};
pub use claim::groups;
pub use domain::Domain;
pub use draw::{Drawn, Lost, NotWon, Won, draw};
pub use error::{ClaimError, FoldError, PolicyError, QuoteError, Refusal, Retry};
pub use escrow::{
    EscrowEvent, EscrowRecord, EscrowView, Escrows, PairRecord, Status, apply, escrow_of, fold,
};
pub use issue::{Issued, Ticket};
pub use quote::{Offer, Quote, quote};
pub use session::{Seed, Session, SessionId, session_secret};
pub use units::{Nonce, OrderId, UnitError, WinThreshold};

pub use crate::block::BlockRef;
pub use crate::signature::{
    Key as EscrowKey, KeyError, PublicKey as EscrowPublicKey, Signature, SignatureError, recover, verify,
};
pub use crate::units::{Amount, Seconds, Timestamp};
