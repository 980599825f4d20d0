//! The ticket scheme (MICROPAY1) on the payer's side.
//!
//! ```text
//!   open ──▶ quote ──▶ issue ──▶ (merchant draws) ──▶ delivered
//!                        ▲  │
//!                        │  └──▶ refused, a fresh ticket can help ──▶ a new order replaces this one
//!                        └────── answer lost: the same ticket again
//! ```

mod api;
mod escrow;
mod limits;
mod pay;

pub use api::{Answer, ApiError, MerchantApi};
pub use escrow::{EscrowError, EscrowSteps, Opening};
pub use limits::{LimitError, Limits};
pub use pay::{Edges, PayError, Payer, Payment, Purchase, Seller};
