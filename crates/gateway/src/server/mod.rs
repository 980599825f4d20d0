//! The seller's side: a gate that charges, as a tower layer before any service, and a reverse proxy to put behind it.

mod answers;
mod detach;
mod discovery;
mod gate;
mod idle;
mod kind;
mod layer;
mod limits;
mod listen;
mod meter;
pub mod operator;
mod renewal;
mod reply;
mod table;
mod tee;
mod upload;
mod upstream;

pub use answers::AnswerLimits;
pub use discovery::Service;
pub use gate::{Gate, GateConfig, GateStore, Listing, Sellers};
pub use layer::{GateLayer, Gated};
pub use limits::RateLimits;
pub use listen::{ListenLimits, listen};
pub use table::{Charge, Kinds, Listed, PathError, Pricer, Route, Table};
pub use upstream::{Peer, Upstream, UpstreamError, UpstreamLimits};
