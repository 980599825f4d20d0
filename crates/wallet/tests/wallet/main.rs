//! Wallets as devices: two stores, two components, messages as bytes, and every way to stop.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: a failure is to stop them where it happens, and times are to be read"
)]

mod attack;
mod clock;
mod faults;
mod hops;
mod kill;
mod life;
mod terms;
mod timing;
mod world;
