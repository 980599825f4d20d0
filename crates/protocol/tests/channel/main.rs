//! The channel scheme off chain: one file per step, and the attacks of `channel.md` §4 by their names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod accept;
mod advise;
mod attack;
mod checkpoint;
mod close;
mod histories;
mod lock;
mod open_receipts;
mod pay;
mod permit;
mod record;
mod reputation;
mod vectors;
mod watch;
mod word;
mod world;
