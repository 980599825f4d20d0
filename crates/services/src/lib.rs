//! Servers' logic: roles that are neither payer nor merchant. Each service loads, decides (by `protocol`), saves and sends,
//! and has the shapes, the router and the client of its own HTTP interface beside that.
//!
//! - [`bank`]: admits channels by reputation and signs their permits.
//! - [`registrar`]: admits wallets of the offline scheme by the evidence of their trusted components.

pub mod bank;
#[cfg(feature = "client")]
mod caller;
mod decimal;
#[cfg(feature = "server")]
mod http;
mod problem;
pub mod registrar;

#[cfg(feature = "client")]
pub use caller::CallError;
