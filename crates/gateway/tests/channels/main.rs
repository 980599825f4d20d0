//! A client and a gateway, both real, with a channel between them; what one of them does wrong is in a script.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

#[path = "../support/channel.rs"]
mod channel;
mod choice;
mod crowd;
mod hostile;
mod kills;
mod opening;
mod shop;
