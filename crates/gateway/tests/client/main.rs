//! The client against sellers that this suite can make do anything: what it signs, what it sends, to whom, how often.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is to stop them where it happens"
)]

mod budgets;
mod calls;
mod crowd;
mod faults;
mod hostile;
mod redirects;
mod seller;
