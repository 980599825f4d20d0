//! The scheme "offline" in memory.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::Address;
use protocol::offline::{AnyPayer, CoinId, InvoiceDigest, RevocationList, Sequence, TransferDigest};

use super::MemoryStore;
use crate::{
    Result,
    offline::{
        DepositRecord, HistoryRecord, InvoiceRecord, InvoiceStage, OutgoingRecord, OutgoingStage,
        RevocationStore, SavedWallet, WalletMark, WalletSave, WalletStore, WalletVersion,
    },
};

#[derive(Debug, Default)]
pub(super) struct Tables {
    mark: WalletMark,
    payer: Option<Arc<AnyPayer>>,
    /// With their places.
    invoices: BTreeMap<InvoiceDigest, (usize, InvoiceRecord)>,
    outgoing: BTreeMap<TransferDigest, (Sequence, OutgoingRecord)>,
    deposits: BTreeMap<CoinId, (usize, DepositRecord)>,
    history: Vec<HistoryRecord>,
    lists: BTreeMap<Address, RevocationList>,
}

fn in_order<K: Ord + Copy, R>(records: impl Iterator<Item = (K, R)>) -> Vec<R> {
    let mut records: Vec<_> = records.collect();
    records.sort_by_key(|(place, _)| *place);
    records.into_iter().map(|(_, record)| record).collect()
}

impl WalletStore for MemoryStore {
    async fn wallet_version(&self) -> Result<Option<WalletVersion>> {
        self.identity.of_wallet()?;
        let version = self.tables.lock().offline.mark.version;
        Ok((version != WalletVersion::NONE).then_some(version))
    }

    async fn load_wallet(&self) -> Result<Option<SavedWallet>> {
        self.identity.of_wallet()?;
        let tables = self.tables.lock();
        let version = tables.offline.mark.version;
        Ok(tables
            .offline
            .payer
            .clone()
            .map(|payer| SavedWallet { version, payer }))
    }

    async fn save_wallet(&self, save: &WalletSave) -> Result<WalletVersion> {
        let (domain, owner) = self.identity.of_wallet()?;
        let mut guard = self.tables.lock();
        let tables = &mut guard.offline;
        let mark = save.check(owner, tables.mark)?;
        for record in &save.invoices {
            let digest = record.digest(&domain);
            if let Some((_, stored)) = tables.invoices.get(&digest) {
                stored.mark(&domain).check_next(digest, &record.mark(&domain))?;
            }
        }
        for record in &save.outgoing {
            let digest = record.digest(&domain);
            if let Some((_, stored)) = tables.outgoing.get(&digest) {
                stored.mark().check_next(digest, &record.mark())?;
            }
        }
        // From here on nothing fails.
        tables.mark = mark;
        if let Some(payer) = &save.payer {
            tables.payer = Some(payer.clone());
        }
        for record in &save.invoices {
            let place = tables.invoices.len();
            let entry = tables.invoices.entry(record.digest(&domain));
            entry.or_insert((place, record.clone())).1 = record.clone();
        }
        for record in &save.outgoing {
            let place = record.mark().sequence;
            let entry = tables.outgoing.entry(record.digest(&domain));
            entry.or_insert((place, record.clone())).1 = record.clone();
        }
        for record in &save.deposits {
            let place = tables.deposits.len();
            let coin = domain.coin_id(&record.deposit.coin);
            tables.deposits.entry(coin).or_insert((place, *record));
        }
        for event in &save.events {
            let number = tables.history.len() as u64 + 1;
            tables.history.push(HistoryRecord {
                number,
                event: *event,
            });
        }
        Ok(mark.version)
    }

    async fn invoice(&self, invoice: InvoiceDigest) -> Result<Option<InvoiceRecord>> {
        self.identity.of_wallet()?;
        let tables = self.tables.lock();
        Ok(tables
            .offline
            .invoices
            .get(&invoice)
            .map(|(_, record)| record.clone()))
    }

    async fn invoice_paid_by(&self, transfer: TransferDigest) -> Result<Option<InvoiceRecord>> {
        let (domain, _) = self.identity.of_wallet()?;
        let tables = self.tables.lock();
        let mut records = tables.offline.invoices.values().map(|(_, record)| record);
        Ok(records
            .find(|record| record.mark(&domain).transfer == Some(transfer))
            .cloned())
    }

    async fn invoices(&self, stage: Option<InvoiceStage>) -> Result<Vec<InvoiceRecord>> {
        self.identity.of_wallet()?;
        let tables = self.tables.lock();
        let records = tables.offline.invoices.values();
        let chosen = records.filter(|(_, record)| stage.is_none_or(|stage| record.state.stage() == stage));
        Ok(in_order(chosen.cloned()))
    }

    async fn outgoing(&self, transfer: TransferDigest) -> Result<Option<OutgoingRecord>> {
        self.identity.of_wallet()?;
        let tables = self.tables.lock();
        Ok(tables
            .offline
            .outgoing
            .get(&transfer)
            .map(|(_, record)| record.clone()))
    }

    async fn outgoing_for(&self, invoice: InvoiceDigest) -> Result<Option<OutgoingRecord>> {
        let (domain, _) = self.identity.of_wallet()?;
        let tables = self.tables.lock();
        let mut records = tables.offline.outgoing.values().map(|(_, record)| record);
        Ok(records
            .find(|record| record.invoice(&domain) == Some(invoice))
            .cloned())
    }

    async fn outgoings(&self, stage: Option<OutgoingStage>) -> Result<Vec<OutgoingRecord>> {
        self.identity.of_wallet()?;
        let tables = self.tables.lock();
        let records = tables.offline.outgoing.values();
        let chosen = records.filter(|(_, record)| stage.is_none_or(|stage| record.state.stage() == stage));
        Ok(in_order(chosen.cloned()))
    }

    async fn deposits(&self) -> Result<Vec<DepositRecord>> {
        self.identity.of_wallet()?;
        Ok(in_order(self.tables.lock().offline.deposits.values().copied()))
    }

    async fn history(&self, before: Option<u64>, limit: u32) -> Result<Vec<HistoryRecord>> {
        self.identity.of_wallet()?;
        let tables = self.tables.lock();
        let records = tables.offline.history.iter().rev();
        Ok(records
            .filter(|record| before.is_none_or(|before| record.number < before))
            .take(limit as usize)
            .copied()
            .collect())
    }
}

impl RevocationStore for MemoryStore {
    async fn save_list(&self, list: &RevocationList) -> Result<bool> {
        self.identity.of_wallet()?;
        let mut tables = self.tables.lock();
        let lists = &mut tables.offline.lists;
        let known = lists.get(&list.registrar());
        if known.is_some_and(|known| known.issued_at() >= list.issued_at()) {
            return Ok(false);
        }
        lists.insert(list.registrar(), list.clone());
        Ok(true)
    }

    async fn lists(&self) -> Result<Vec<RevocationList>> {
        self.identity.of_wallet()?;
        Ok(self.tables.lock().offline.lists.values().cloned().collect())
    }
}
