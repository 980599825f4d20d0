//! Paying for HTTP requests: the shapes on the wire, the seller's gateway and the payer's client.

#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "client", feature = "server"))]
pub mod route;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;
