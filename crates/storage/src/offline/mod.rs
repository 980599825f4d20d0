//! The scheme "offline": what one wallet must not forget. A wallet is a device, and its store is a file of its own
//! ([`StoreIdentity::wallet`](crate::StoreIdentity::wallet)); whatever else a backend can do, this is the same code.
//!
//! The wallet's books, with the payment that is under way, are one record with a version. Everything that changes with them
//! is one save, and a save says from which version it was decided: two processes of one wallet cannot both go on from one.
//!
//! ```text
//!   invoice:   Waiting ──▶ Rejected ──▶ Credited (offline-accepted ──▶ claimed ──▶ settled)
//!                 └──────────────────────▲
//!   outgoing:  Released ──▶ Accepted                      a payment
//!              Released ◀─▶ Claimed ──▶ Settled           an exit; back when the chain refused it, and so its invoice
//! ```

pub mod lists;
pub mod records;
pub mod registrar;
pub mod wallet;

pub use lists::RevocationStore;
pub use records::{
    DepositRecord, Event, EventKind, HistoryRecord, InvoiceRecord, InvoiceStage, InvoiceState,
    OutgoingRecord, OutgoingStage, OutgoingState, Standing,
};
pub use wallet::{SavedWallet, WalletSave, WalletStore, WalletVersion};

pub(crate) use records::{InvoiceMark, OutgoingMark};
pub(crate) use wallet::WalletMark;

use protocol::offline::{Domain, WalletId};

use crate::{Owner, Result, StoreError, StoreIdentity};

/// Every capability of the scheme at once.
pub trait OfflineStore: WalletStore + RevocationStore {}

impl<T: WalletStore + RevocationStore> OfflineStore for T {}

impl StoreIdentity {
    /// The wallet that the store is of, and the vault that its coins are in.
    pub(crate) fn of_wallet(&self) -> Result<(Domain, WalletId)> {
        match self.owner {
            Owner::Wallet(wallet) => {
                let domain = Domain::new(self.domain.chain_id(), self.domain.contract());
                Ok((domain, wallet))
            }
            owner => Err(StoreError::NotOfWallet(owner)),
        }
    }
}
