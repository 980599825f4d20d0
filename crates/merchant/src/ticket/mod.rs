//! The ticket scheme (MICROPAY1) on the merchant's side.
//!
//! ```text
//!   quote ──▶ accept ──▶ draw ──▶ lost: deliver
//!                          └────▶ won: store, then deliver
//!                                  │
//!                                  ▼
//!          won ──▶ queued ──▶ sent ──▶ mined ──▶ final        the claimer, one claim at a time
//!                    ▲          │         │
//!                    └──────────┴─────────┘ dropped, superseded, reorganised away
//! ```

mod accept;
mod book;
mod claim;
mod decide;
mod fleet;
mod price;

pub use crate::follow::{FollowError, follow, follow_once};
pub use accept::{AcceptError, Admitted, Delivery, Merchant, OpenQuote, Receipt, StartError, WITHDRAW_DELAY};
pub use claim::{ClaimStepError, Claimer, Settled, Step};
pub use decide::{Because, ClaimPolicy, Decision, Market, Waiting, decide};
pub use price::{Price, PriceError};
