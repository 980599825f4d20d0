//! The channel scheme (CMS) on the client's side.
//!
//! ```text
//!   (permit of a bank) ──▶ open ──▶ pay ──▶ delivered ─┐        top up: a longer chain, the same channel
//!                                   ▲  │               │
//!                                   │  ├──▶ failed, refused: another order, at the same index
//!                                   │  └──▶ answer lost: the same payment again
//!                                   └──────────────────┘
//!                          close: opener ──▶ cooperative close, or the vendor's close, or refund after expiry
//! ```

mod api;
mod close;
mod limits;
mod open;
mod pay;
mod recover;

pub use crate::ticket::{ApiError, Edges};
pub use api::{Answer, Position, ReceiptsOpened, VendorApi};
pub use close::{CloseError, CooperativelyClosed};
pub use limits::{LimitError, Limits};
pub use open::{ChannelSteps, Done, OpenError, TopUpState, channel_salt};
pub use pay::{ChannelPayer, Checkpoints, Paid, PayError, Purchase};
pub use recover::{RecoverError, Recovered, recover};
