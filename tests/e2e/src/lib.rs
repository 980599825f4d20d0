//! What the end-to-end tests share: a world with a real anvil, shops that follow and claim by hand, a counter that hands
//! tickets to a merchant without a wire, and a switch between node and merchant.
//!
//! Nothing here moves by itself: a test mines, follows and steps, so that it can stop the world between any two events.
#![allow(
    clippy::unwrap_used,
    reason = "test support: a failed unwrap is a failed test, and names its line"
)]

mod counter;
mod market;
mod shop;
mod switch;
mod world;

pub use counter::{Counter, Fault};
pub use market::{
    Customer, Market, Stall, StallSetup, UNIT, Window, account_key, purchase, refusal, sender_on,
};
pub use shop::{Setup, Shop};
pub use switch::{Mode, Switch};
pub use world::{Clock, Escrow, NATIVE, Odds, PRIZE, World, forge, hash, random, system_now, terms};
