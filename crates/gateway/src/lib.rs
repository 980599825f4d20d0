//! Paying for HTTP requests: the shapes on the wire, the seller's gateway and the payer's client.

pub mod wire;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "client")]
pub mod client;
