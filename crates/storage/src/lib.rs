#![doc = include_str!("../README.md")]

pub mod channel;
pub mod claims;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
pub mod fleet;
mod identity;
mod memory;
pub mod mirror;
pub mod offline;
pub mod orders;
pub mod seed;
mod sql;
pub mod wins;

pub use channel::ChannelStore;
pub use claims::{ClaimId, ClaimRecord, ClaimStage, ClaimState, ClaimStore, Outcome, TxRecord};
pub use error::{Result, StoreError};
pub use fleet::{Beat, FleetStore, Part};
pub use identity::{Owner, StoreIdentity};
pub use memory::MemoryStore;
pub use mirror::MirrorStore;
pub use offline::OfflineStore;
pub use orders::{
    Budget, Issue, OrderFilter, OrderRecord, OrderRequest, OrderStage, OrderState, OrderStore, OrderTotals,
};
pub use seed::SeedStore;
pub use sql::{PostgresStore, SqliteStore, WriteStats};
pub use wins::{Total, WinFilter, WinRecord, WinStage, WinState, WinStore, WinTotals};

/// Every capability at once: what a backend is. Roles ask for the capabilities that they need.
pub trait Store:
    SeedStore
    + OrderStore
    + WinStore
    + ClaimStore
    + MirrorStore
    + FleetStore
    + ChannelStore
    + OfflineStore
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Store for T where
    T: SeedStore
        + OrderStore
        + WinStore
        + ClaimStore
        + MirrorStore
        + FleetStore
        + ChannelStore
        + OfflineStore
        + Clone
        + Send
        + Sync
        + 'static
{
}
