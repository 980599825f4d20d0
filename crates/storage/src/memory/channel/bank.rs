//! [`BankStore`] in memory.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alloy_primitives::Address;
use protocol::channel::{Admitted, ChannelId, Permit};

use super::{super::MemoryStore, Tables};
use crate::{
    Result, StoreError,
    channel::{BankStore, IssuedPermit, PermitRecord, PermitRequest, check_bank_key},
};

impl BankStore for MemoryStore {
    async fn use_bank_key(&self, epoch: u64, key: Address) -> Result<bool> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let keys = &mut tables.channels.bank_keys;
        let newest = keys.last_key_value().map(|(epoch, _)| *epoch);
        let new = check_bank_key(epoch, key, keys.get(&epoch).copied(), newest)?;
        keys.insert(epoch, key);
        Ok(new)
    }

    async fn bank_keys(&self) -> Result<Vec<(u64, Address)>> {
        let tables = self.tables.lock();
        let keys = tables.channels.bank_keys.iter();
        Ok(keys.map(|(epoch, key)| (*epoch, *key)).collect())
    }

    async fn issue_permit<F>(&self, request: PermitRequest, sign: F) -> Result<IssuedPermit>
    where
        F: FnOnce(Permit) -> Admitted + Send + 'static,
    {
        self.channels()?;
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        let channel = request.channel();
        if let Some(stored) = tables.permits.get(&(channel, request.generation)) {
            request.check_stored(stored)?;
            return Ok(IssuedPermit::Existing(stored.clone()));
        }
        request.check_next(tables.permits_of(channel).count() as u32)?;
        if let Some(quota) = request.quota {
            let all = tables.permits.values().map(|record| record.admitted.permit());
            let issued = all.filter(|permit| {
                permit.client() == request.permit.client() && permit.issued_at() >= quota.since
            });
            request.check_quota(quota, issued.count() as u64)?;
        }
        let newest = tables.bank_keys.last_key_value();
        let (&epoch, &key) = newest.ok_or(StoreError::BankKeyMissing)?;
        let permit = request.permit.clone();
        let admitted = catch_unwind(AssertUnwindSafe(|| sign(permit)))
            .map_err(|_| StoreError::PermitSignPanicked(channel))?;
        request.check_signed(key, &admitted)?;
        let record = PermitRecord {
            admitted,
            generation: request.generation,
            epoch,
        };
        tables
            .permits
            .insert((channel, request.generation), record.clone());
        Ok(IssuedPermit::Fresh(record))
    }

    async fn permits_of(&self, channel: ChannelId) -> Result<Vec<PermitRecord>> {
        self.channels()?;
        let tables = self.tables.lock();
        Ok(tables.channels.permits_of(channel).cloned().collect())
    }

    async fn permits(&self, client: Option<Address>, limit: u32) -> Result<Vec<PermitRecord>> {
        self.channels()?;
        let tables = self.tables.lock();
        let all = tables.channels.permits.values();
        let own =
            all.filter(|record| client.is_none_or(|client| record.admitted.permit().client() == client));
        let mut records: Vec<_> = own.cloned().collect();
        // By channel and generation where it is the same second, which the map's order is.
        records.sort_by_key(|record| std::cmp::Reverse(record.admitted.permit().issued_at()));
        records.truncate(limit as usize);
        Ok(records)
    }
}

impl Tables {
    /// A channel's permits, by generation.
    fn permits_of(&self, channel: ChannelId) -> impl Iterator<Item = &PermitRecord> {
        let all = (channel, 0)..=(channel, u32::MAX);
        self.permits.range(all).map(|(_, record)| record)
    }
}
