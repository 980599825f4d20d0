//! The channel scheme (CMS) on the vendor's side.
//!
//! ```text
//!   accept ──▶ taken (stored) ──▶ delivered ──▶ open receipts
//!                     └─────────▶ failed: the word stays, and pays for the next order at its index
//!
//!   when to close ──▶ queued ──▶ sent ──▶ mined ──▶ final        the closer, any number of settlements at once
//!                       ▲          │         │
//!                       └──────────┴─────────┘ dropped, superseded, reorganised away
//! ```

mod accept;
mod close;
mod cooperative_close;
mod open_receipts;
mod plan;
mod prove;
mod vendor;
mod watch;

pub use accept::{AcceptError, Admitted, Delivery, Receipt, Sale};
pub use close::{ClosePolicy, CloseStepError, Closer, Settled, Step};
pub use cooperative_close::CooperativeCloseError;
pub use open_receipts::OpenReceiptsError;
pub use prove::ProveError;
pub use vendor::{Accountability, Standing, Vendor, VendorConfig};
pub use watch::{WatchError, WatchFile, Watched, Watcher};
