//! The offline wallet's role: a [`Device`] is one trusted component with one store. It pays and is paid without a network,
//! and may be stopped at any moment. Every step reads load, decide, save, send.
//!
//! ```text
//!  payer   Idle ─reserve─▶ (save) Reserved ─commit─▶ (save) Chosen ─log or sign─▶ prove ─▶ (save) Idle + outgoing ─▶ release
//!            ▲                       │                  │                                            │
//!            └──── abort, rejected ──┘                  └── resume: the component says how far ──────┘   released again and
//!                                                                                                        again until accepted
//!  payee   invoice ─▶ judge ─▶ (save) Credited, and the holding ─▶ sign ─▶ (save) the acceptance ─▶ release
//! ```
//!
//! Invariants
//! - **D1 saved before sent.** Nothing leaves that the store does not have; an answer is saved once and repeated to the byte.
//! - **D2 one step from one version.** A step that was decided from old books is refused by the store.
//! - **D3 the component is ahead of no books.** Before a transfer is chosen, head or sequence of the component must be
//!   those of the books: a wallet whose files were set back does not pay ([`DeviceError::LogSetBack`],
//!   [`DeviceError::SequenceSetBack`]).
//! - **D4 what is chosen is finished.** From `Chosen` on there is one transfer; nothing else is signed or logged until it is
//!   proven.
//!
//! Safety needs: the component keeps its promise (of a SIGNATURE wallet: its counter is not set back together with the
//! files), and a save that returned is durable. Liveness needs: the component works, and the newest books are there.
//!
//! Calls to the component block, as [`trusted::TrustedWallet`] says. One device is one process: components lock their folder.

mod bridge;
mod device;
mod error;
mod exposure;
#[cfg(feature = "online")]
mod online;
mod pay;
mod receipt;
mod receive;
mod settle;

pub use device::{Balance, Config, Device, Edges, Store};
pub use error::{DeviceError, Result};
#[cfg(feature = "online")]
pub use online::{Compensated, Online, OnlineError, Redeemed};
pub use pay::{Payment, Resumed};
pub use receipt::{RECEIPT_COLUMNS, Receipt, ReceiptState};
