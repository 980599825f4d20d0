//! The program as a user has it: real processes, real sockets, a real chain (anvil), kills and faults.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

mod channel;
mod channel_kill;
mod channel_recover;
mod configuration;
mod demo;
mod doctor;
mod fleet;
mod get;
mod hostile;
mod inspect;
mod keys;
mod kill;
mod offline;
mod offline_dispute;
mod offline_hostile;
mod offline_kill;
mod offline_reorg;
mod offline_settle;
mod outage;
mod readme;
mod selling;
mod serve;
mod sim;
mod steps;
mod support;
