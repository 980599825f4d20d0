//! The gateway under faults and hostile input: every row of the list has a defined answer and a test.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

mod bodies;
#[path = "../support/channel.rs"]
mod channel;
mod channels;
mod connections;
mod exactly_once;
mod failures;
mod headers;
mod hostile;
mod limits;
mod payments;
mod purse;
mod raw;
mod shop;
mod upstream;
