//! The bank of the channel scheme as a service. It looks up the reputation of client and vendor in its ledger (the
//! contract's), applies its policy, and signs the permit that opens a channel, or tops it up. It holds no money.
//!
//! ```text
//!   request, signed by the client's account ──▶ known terms? ── yes ──▶ the stored permit, to the byte
//!                                                    │ no
//!                                                    ▼
//!                     policy ──▶ chain: reputations, the bank's key, the channel ──▶ admit ──▶ save and sign ──▶ permit
//! ```
//! Invariants:
//! 1. **One channel, one permit**, and one for each top-up; the store sees to it in one transaction, whoever asks at the same
//!    time. A top-up is admitted only when the permit before it is on chain.
//! 2. **A permit is durable before it leaves.** Asking again is safe, and answers the same bytes, whatever the parties'
//!    reputation has become.
//! 3. **Nobody asks in another's name**: the request is typed data of the channel's domain, signed by the client. It is good
//!    for five minutes; who replays it within these gets what the client got.
//! 4. **No permit by a key that the contract does not know**: a bank whose key was changed on chain signs nothing until it is
//!    given the new one.
//!
//! Assumptions, for safety: the bank's key is secret, and its clock is right to a few minutes. For liveness: a node, and a
//! store.

#[cfg(feature = "server")]
mod admit;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
mod ledger;
#[cfg(feature = "server")]
mod policy;
mod request;
pub mod wire;

#[cfg(feature = "server")]
pub use admit::{Bank, Permitted};
#[cfg(feature = "server")]
pub use error::{BankError, Result};
#[cfg(feature = "server")]
pub use ledger::{ChainLedger, Ledger, Signer};
#[cfg(feature = "server")]
pub use policy::Policy;
pub use request::{PERMIT_PATH, PermitRequest, REQUEST_LIFE, RequestError, SignedRequest};
