//! The scheme "channel" in memory.

mod bank;
mod client;
mod settle;
mod vendor;

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, B256};
use protocol::{
    channel::{Acknowledged, Admitted, BlockRef, ChannelId, Channels, Domain, Index, Timestamp},
    ticket::OrderId,
};

use super::MemoryStore;
use crate::{
    Result, StoreError, TxRecord,
    channel::{
        ChannelDomainStore, ChannelMirrorStore, ChannelPhase, CheckpointRecord, Opening, OtherChannels,
        PaymentRecord, PermitRecord, Resumed, SettlementId, SettlementItem, SettlementState, SettlementStep,
        VendorPayment,
    },
    mirror::check_cursor,
};

#[derive(Debug, Default)]
pub(super) struct Tables {
    domain: Option<Domain>,
    mirror: Option<(BlockRef, Channels)>,
    clients: BTreeMap<ChannelId, Client>,
    client_payments: BTreeMap<OrderId, PaymentRecord>,
    vendors: BTreeMap<ChannelId, Vendor>,
    vendor_payments: BTreeMap<(ChannelId, Index), VendorPayment>,
    checkpoints: BTreeMap<(ChannelId, Index, u32), CheckpointRecord>,
    settlements: BTreeMap<SettlementId, Settlement>,
    transactions: HashMap<B256, SettlementId>,
    bank_keys: BTreeMap<u64, Address>,
    permits: BTreeMap<(ChannelId, u32), PermitRecord>,
}

#[derive(Clone, Debug)]
struct Client {
    terms: Vec<Admitted>,
    acknowledged: Acknowledged,
    revealed: Index,
    salt: B256,
    origin: Option<String>,
    saved_at: Timestamp,
    closed_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Vendor {
    since: Timestamp,
    settled: Index,
    phase: ChannelPhase,
    resumed: Option<Resumed>,
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Settlement {
    step: SettlementStep,
    state: SettlementState,
    queued_at: Timestamp,
    items: BTreeMap<ChannelId, SettlementItem>,
    /// With whether they count as dropped.
    transactions: Vec<(TxRecord, bool)>,
}

impl MemoryStore {
    /// The contract of the channels.
    fn channels(&self) -> Result<Domain> {
        self.tables
            .lock()
            .channels
            .domain
            .ok_or(StoreError::ChannelsUnsaid)
    }
}

impl ChannelDomainStore for MemoryStore {
    async fn use_channels(&self, wanted: Domain) -> Result<()> {
        let stored = *self.tables.lock().channels.domain.get_or_insert(wanted);
        if stored == wanted {
            return Ok(());
        }
        Err(StoreError::OtherChannels(Box::new(OtherChannels {
            stored,
            wanted,
        })))
    }
}

impl ChannelMirrorStore for MemoryStore {
    async fn load_channel_mirror(&self) -> Result<Option<(BlockRef, Channels)>> {
        Ok(self.tables.lock().channels.mirror.clone())
    }

    async fn save_channel_mirror(&self, cursor: BlockRef, changed: &Channels) -> Result<()> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let mirror = &mut tables.channels.mirror;
        check_cursor(mirror.as_ref().map(|(cursor, _)| *cursor), cursor)?;
        let (at, channels) = mirror.get_or_insert_with(|| (cursor, Channels::new()));
        *at = cursor;
        channels.extend(changed.iter().map(|(channel, record)| (*channel, record.clone())));
        Ok(())
    }

    async fn forget_channel_mirror(&self) -> Result<()> {
        self.tables.lock().channels.mirror = None;
        Ok(())
    }
}
