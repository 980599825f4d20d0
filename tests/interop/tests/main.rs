//! Crates `mpp`, `x402-types` and `x402-reqwest`, unmodified, read what `wire` writes and pay what it asks for.
//!
//! Crate `mpp` has serde_json keep the order of names in the whole build: what must not depend on it is tested here, too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod mpp;
mod seller;
mod x402;
