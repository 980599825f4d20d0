//! The chain as the roles see it: an HTTP node that may be slow, down, wrong or lying about what is final, and our contracts
//! on it.
//!
//! - [`Scheme`]: what sets one contract apart from another; everything below is written once, for all of them.
//!   [`Tickets`] is the ticket escrow, and what a type is for that does not say otherwise; [`Channels`] is the payment
//!   channel, [`Vaults`] the offline vault.
//! - [`Client`]: typed reads; every answer is checked before it is believed. Errors say what was compared and whether
//!   trying again can help ([`ChainError::retry`]).
//! - [`Follower`] keeps a [`Mirror`] of all records (escrows, say) from the contract's events, at the last final block and at the newest
//!   one. Admission reads the mirror, never the node.
//! - [`Sender`]: prepares a transaction (simulated, priced, signed) so that it can be saved before it is sent, tells what
//!   became of it, and replaces it when it is stuck.
//! - [`deploy`](mod@deploy): a contract's address, the same on every chain, and how it gets there.
//! - [`anvil`] (feature `anvil`): a local chain for tests and the demo.
//!
//! A follower's life:
//!
//! ```text
//!                 gap closed                    new blocks, each linked to the one before by its parent hash;
//!   CATCHING UP ─────────────▶ FOLLOWING ◀──┐   a block deep enough (or finalized) becomes final and is reported
//!    │   ▲  ▲                   │ │ │       │
//!    └───┘  └───────────────────┘ │ └───────┘   reorg above the final block: drop what is gone, fetch what replaced it
//!    one range       outage       │
//!    per poll                     └──────────▶ BROKEN: a final block is gone ([`ChainError::FinalityBroken`])
//! ```
//!
//! A failed poll changes nothing: the mirror keeps its last good state and grows older ([`Mirror::age`]).

#[cfg(feature = "anvil")]
pub mod anvil;
mod channels;
mod client;
pub mod deploy;
mod error;
mod fees;
mod follower;
mod mirror;
mod rpc;
mod scheme;
mod sender;
mod tickets;
mod vaults;

pub use channels::{BankKey, Channels};
pub use client::{At, ChainConfig, ChainEvent, Client};
pub use error::{ChainError, Revert};
pub use fees::{Fees, bump};
pub use follower::{Finality, Follower, FollowerConfig, Polled, Start};
pub use mirror::{Mirror, MirrorView};
pub use scheme::{Records, Scheme};
pub use sender::{Broadcast, Fate, Mined, Prepared, Sender, SenderConfig, Turn};
pub use tickets::Tickets;
pub use vaults::{Vaults, deposited};

/// A client of the ticket escrow.
pub type ChainClient = Client<Tickets>;
