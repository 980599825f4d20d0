//! The offline scheme off chain: one file per concern, and the attacks of `offline.md` by their names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod encoding;
mod equivocation;
mod key;
mod log;
mod model;
mod path;
mod pay;
mod revocation;
mod vectors;
mod world;
