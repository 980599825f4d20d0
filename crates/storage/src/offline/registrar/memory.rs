//! A registrar's memory that is gone with its process: tests, demos.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use protocol::offline::{Amount, ClassId, CoinId, LogEntry, Sequence, Timestamp, WalletId};

use super::{
    ListRecord, LogRecord, ReceiptCap, ReceiptRecord, RegistrarStore, RegistrarStoreError, Result,
    Revocations, WalletRecord, check_cap, check_move,
};

/// See the module. Clones share what they hold.
#[derive(Clone, Debug, Default)]
pub struct MemoryRegistrarStore(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    wallets: BTreeMap<WalletId, WalletRecord>,
    receipts: BTreeMap<CoinId, ReceiptRecord>,
    logs: BTreeMap<WalletId, (LogRecord, Vec<LogEntry>)>,
    revoked: BTreeMap<WalletId, Timestamp>,
    killed: BTreeMap<ClassId, Timestamp>,
    list: Option<ListRecord>,
}

impl RegistrarStore for MemoryRegistrarStore {
    async fn wallet(&self, wallet: WalletId) -> Result<Option<WalletRecord>> {
        Ok(self.0.lock().wallets.get(&wallet).cloned())
    }

    async fn save_wallet(&self, record: &WalletRecord, device_limit: Option<u32>) -> Result<u64> {
        let mut tables = self.0.lock();
        check_move(tables.wallets.get(&record.id()), record)?;
        if let (Some(device), Some(limit)) = (record.device, device_limit) {
            let others = tables.wallets.values();
            let others = others.filter(|other| other.device == Some(device) && other.wallet != record.wallet);
            let got = u32::try_from(others.count()).unwrap_or(u32::MAX);
            if got >= limit {
                return Err(RegistrarStoreError::DeviceQuota { device, got, limit });
            }
        }
        let version = record.version + 1;
        let record = WalletRecord {
            version,
            ..record.clone()
        };
        tables.wallets.insert(record.id(), record);
        Ok(version)
    }

    async fn receipt(&self, coin: CoinId) -> Result<Option<ReceiptRecord>> {
        Ok(self.0.lock().receipts.get(&coin).cloned())
    }

    async fn add_receipt(&self, record: &ReceiptRecord, cap: Option<ReceiptCap>) -> Result<ReceiptRecord> {
        let mut tables = self.0.lock();
        if let Some(stored) = tables.receipts.get(&record.coin) {
            return Ok(stored.clone());
        }
        let since = cap.map_or(Timestamp(0), |cap| cap.since);
        let held = tables
            .receipts
            .values()
            .filter(|other| (other.wallet, other.asset) == (record.wallet, record.asset))
            .filter(|other| other.settle_by >= since)
            .fold(Amount::ZERO, |sum, other| {
                sum.checked_add(other.amount).unwrap_or(Amount::MAX)
            });
        check_cap(held, record, cap)?;
        tables.receipts.insert(record.coin, record.clone());
        Ok(record.clone())
    }

    async fn log(&self, wallet: WalletId) -> Result<Option<LogRecord>> {
        Ok(self.0.lock().logs.get(&wallet).map(|(record, _)| record.clone()))
    }

    async fn log_entries(&self, wallet: WalletId) -> Result<Vec<LogEntry>> {
        let tables = self.0.lock();
        Ok(tables
            .logs
            .get(&wallet)
            .map(|(_, entries)| entries.clone())
            .unwrap_or_default())
    }

    async fn save_log(&self, from: Sequence, entries: &[LogEntry], record: &LogRecord) -> Result<()> {
        let mut tables = self.0.lock();
        let stored = tables.logs.get(&record.wallet);
        let at = stored.map_or(Sequence::ZERO, |(record, _)| record.sequence);
        if at != from {
            return Err(RegistrarStoreError::CheckpointStale {
                wallet: record.wallet,
                got: from,
                stored: at,
            });
        }
        let mut all = stored.map(|(_, entries)| entries.clone()).unwrap_or_default();
        all.extend_from_slice(entries);
        tables.logs.insert(record.wallet, (record.clone(), all));
        Ok(())
    }

    async fn revoke(&self, wallet: WalletId, at: Timestamp) -> Result<Timestamp> {
        Ok(earliest(self.0.lock().revoked.entry(wallet).or_insert(at), at))
    }

    async fn kill_class(&self, class: ClassId, at: Timestamp) -> Result<Timestamp> {
        Ok(earliest(self.0.lock().killed.entry(class).or_insert(at), at))
    }

    async fn revocations(&self) -> Result<Revocations> {
        let tables = self.0.lock();
        Ok(Revocations {
            wallets: tables.revoked.iter().map(|(wallet, at)| (*wallet, *at)).collect(),
            classes: tables.killed.iter().map(|(class, at)| (*class, *at)).collect(),
        })
    }

    async fn list(&self) -> Result<Option<ListRecord>> {
        Ok(self.0.lock().list.clone())
    }

    async fn save_list(&self, record: &ListRecord) -> Result<()> {
        let mut tables = self.0.lock();
        if let Some(stored) = &tables.list
            && stored.issued_at >= record.issued_at
        {
            return Err(RegistrarStoreError::ListBackwards {
                got: record.issued_at,
                stored: stored.issued_at,
            });
        }
        tables.list = Some(record.clone());
        Ok(())
    }
}

fn earliest(stored: &mut Timestamp, at: Timestamp) -> Timestamp {
    *stored = (*stored).min(at);
    *stored
}
