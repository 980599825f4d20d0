//! The roles against a real chain, one story a test: payers and merchants in this process, the chain in anvil.
#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, and names its line"
)]

mod admission;
mod channel;
mod constants;
mod crowd;
mod differential;
mod happy;
mod http;
mod insolvency;
mod operator;
mod outage;
mod payer;
mod reorg;
mod restart;
mod stuck;
