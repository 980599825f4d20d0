//! The registrar of the offline scheme as a service: it verifies what a trusted component's maker says of a wallet's key, and
//! signs the wallet into a class. It holds no money; payees choose whose signatures count for them.
//!
//! ```text
//!   wallet with a TPM                               registrar
//!     request, endorsement certificate, key   ──▶   chain, key, index            Begun
//!     credential                              ◀──
//!     secret, nonce of the TPM's session      ──▶   beginning of the log         Authorised
//!     authorisation                           ◀──
//!     certificate of the log                  ──▶   same TPM, this beginning     Registered
//!     registration                            ◀──
//!
//!   wallet in an enclave: request ─▶ challenge ─▶ evidence about key and challenge ─▶ registration
//! ```
//! Invariants:
//! 1. **One wallet key, one first registration**, and renewals of it that change nothing but its end. The store sees to it.
//! 2. **No two authorisations of one key begin a log alike.** Each is for another registration (a later end), so that what is
//!    logged under one that was not finished is worth nothing under the one that was. And a second one is signed only when
//!    the TPM refuses the first as expired.
//! 3. **A registration is signed after the log was seen**, in the TPM of the endorsement certificate.
//! 4. **What is signed is durable before it leaves**; asking again gives the same bytes.
//! 5. **A deposit receipt is signed once, for a coin that is final on chain**, within the caps of its wallet's class.
//! 6. **A checkpoint is signed for a head that the contract has stored for good**, folded from the one before. A log that is
//!    shown to fork is revoked.
//!
//! Assumptions, for safety: both keys are secret, the clock is right to a few minutes, the roots in the policy vouch for
//! nothing but what they say. For liveness: a node, a store.

#[cfg(feature = "server")]
pub mod attest;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
mod log;
#[cfg(feature = "server")]
mod policy;
#[cfg(feature = "server")]
mod register;
mod request;
#[cfg(feature = "server")]
mod revoke;
#[cfg(feature = "server")]
mod vault;
pub mod wire;

#[cfg(feature = "server")]
pub use error::{RegistrarError, Result};
#[cfg(feature = "server")]
pub use log::{LogSegment, MAX_ENTRIES};
#[cfg(feature = "server")]
pub use policy::{Cap, ClassPolicy, MAX_VALIDITY, Policy, PolicyError};
#[cfg(feature = "server")]
pub use register::{Begun, CHALLENGE_LIFE, Keys, Offer, Registrar};
pub use request::{REQUEST_LIFE, RegistrationRequest, RenewalRequest, RequestError};
#[cfg(feature = "server")]
pub use vault::{FinalDeposit, FinalDeposits, FinalWallet, FinalWallets, OnChain, VaultError};
