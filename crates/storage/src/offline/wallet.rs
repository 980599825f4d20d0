//! The wallet's books, and everything that changes with them.

use std::{fmt, sync::Arc};

use protocol::offline::{AnyPayer, InvoiceDigest, Sequence, TransferDigest, WalletId};

use super::{
    DepositRecord, Event, HistoryRecord, InvoiceRecord, InvoiceStage, OutgoingRecord, OutgoingStage,
};
use crate::{Result, StoreError};

/// One wallet: its books, what it asked for, was paid, and paid.
pub trait WalletStore {
    /// The version of the books; `None` before they are saved first.
    fn wallet_version(&self) -> impl Future<Output = Result<Option<WalletVersion>>> + Send;

    /// The books.
    fn load_wallet(&self) -> impl Future<Output = Result<Option<SavedWallet>>> + Send;

    /// Saves all of it or nothing, and counts the version up. On return it is durable.
    ///
    /// Decided from another version than the stored one, this is [`WalletStale`](StoreError::WalletStale): load again and
    /// decide again. The first save is from [`WalletVersion::NONE`] and has books
    /// ([`NoWallet`](StoreError::NoWallet)). Books are of the store's wallet ([`ForeignWallet`](StoreError::ForeignWallet)),
    /// and their sequence never falls ([`WalletBackwards`](StoreError::WalletBackwards)). An invoice or outgoing transfer
    /// only moves forward ([`InvoiceMove`](StoreError::InvoiceMove), [`OutgoingMove`](StoreError::OutgoingMove)), and an
    /// answer that was saved stays. A deposit that is known changes nothing.
    fn save_wallet(&self, save: &WalletSave) -> impl Future<Output = Result<WalletVersion>> + Send;

    /// An invoice of this wallet.
    fn invoice(&self, invoice: InvoiceDigest) -> impl Future<Output = Result<Option<InvoiceRecord>>> + Send;

    /// The invoice that this transfer was credited to.
    fn invoice_paid_by(
        &self,
        transfer: TransferDigest,
    ) -> impl Future<Output = Result<Option<InvoiceRecord>>> + Send;

    /// Invoices, by the version that made them; of one stage or of all.
    fn invoices(
        &self,
        stage: Option<InvoiceStage>,
    ) -> impl Future<Output = Result<Vec<InvoiceRecord>>> + Send;

    /// A transfer of this wallet.
    fn outgoing(
        &self,
        transfer: TransferDigest,
    ) -> impl Future<Output = Result<Option<OutgoingRecord>>> + Send;

    /// The transfer that pays somebody's invoice.
    fn outgoing_for(
        &self,
        invoice: InvoiceDigest,
    ) -> impl Future<Output = Result<Option<OutgoingRecord>>> + Send;

    /// Transfers of this wallet, in their order; of one stage or of all.
    fn outgoings(
        &self,
        stage: Option<OutgoingStage>,
    ) -> impl Future<Output = Result<Vec<OutgoingRecord>>> + Send;

    /// Coins that were imported, by their import.
    fn deposits(&self) -> impl Future<Output = Result<Vec<DepositRecord>>> + Send;

    /// What happened, the last first; at most `limit`, below the number `before` if there is one.
    fn history(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<HistoryRecord>>> + Send;
}

/// Counts the saves of a wallet, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalletVersion(pub u64);

/// Books as they were saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedWallet {
    /// What the next save is decided from.
    pub version: WalletVersion,
    /// Books, and the payment under way.
    pub payer: Arc<AnyPayer>,
}

/// One step of a wallet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalletSave {
    /// The version that it was decided from.
    pub from: WalletVersion,
    /// The books after it; `None` if they stay.
    pub payer: Option<Arc<AnyPayer>>,
    /// Invoices that are new or move.
    pub invoices: Vec<InvoiceRecord>,
    /// Transfers that are new or move.
    pub outgoing: Vec<OutgoingRecord>,
    /// Coins that are imported.
    pub deposits: Vec<DepositRecord>,
    /// What the owner will read about it.
    pub events: Vec<Event>,
}

impl WalletVersion {
    /// Before the first save.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for WalletVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// What every backend decides alike.

/// What a save is checked against.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WalletMark {
    pub(crate) version: WalletVersion,
    pub(crate) sequence: Sequence,
}

impl WalletSave {
    /// The mark that replaces `stored`.
    pub(crate) fn check(&self, owner: WalletId, stored: WalletMark) -> Result<WalletMark> {
        if self.from != stored.version {
            return Err(StoreError::WalletStale {
                got: self.from,
                stored: stored.version,
            });
        }
        let version = WalletVersion(stored.version.0 + 1);
        let Some(payer) = &self.payer else {
            if stored.version == WalletVersion::NONE {
                return Err(StoreError::NoWallet(owner));
            }
            return Ok(WalletMark { version, ..stored });
        };
        let wallet = payer.wallet();
        if wallet.id() != owner {
            return Err(StoreError::ForeignWallet {
                got: wallet.id(),
                owner,
            });
        }
        let sequence = wallet.sequence;
        if sequence < stored.sequence {
            return Err(StoreError::WalletBackwards {
                got: sequence,
                stored: stored.sequence,
            });
        }
        Ok(WalletMark { version, sequence })
    }
}
