//! [`VendorChannelStore`] in memory.

use std::ops::RangeInclusive;

use protocol::{
    channel::{Accepted, Amount, ChannelId, Index, Tag, Timestamp},
    ticket::OrderId,
};

use super::{super::MemoryStore, Tables, Vendor};
use crate::{
    Result, StoreError,
    channel::{
        ChannelPhase, CheckpointRecord, Opening, PaymentFate, Resumed, SettlementId, SettlementOutcome,
        VendorChannelRecord, VendorChannelStore, VendorPayment, VendorPaymentState, VendorTotals,
        check_checkpoint, check_resumed,
    },
};

impl VendorChannelStore for MemoryStore {
    async fn save_payment(
        &self,
        accepted: &Accepted,
        order: OrderId,
        price: Amount,
        at: Timestamp,
    ) -> Result<bool> {
        self.channels()?;
        let row = VendorPayment::new(accepted, order, price, at);
        let (channel, index) = (row.payment.channel, row.payment.index);
        let base = accepted.channel().delivered;
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        let resumed = tables.vendors.get(&channel).and_then(|vendor| vendor.resumed);
        let from = tables.from(channel);
        let last = tables
            .payments_of(channel)
            .filter(|payment| payment.payment.index > from)
            .rfind(|payment| payment.state.counts() || payment.payment.tag == base.tag);
        let last = last
            .map(|last| last.payment.tag)
            .or(resumed.map(|resumed| resumed.last.tag));
        let stands = match last {
            Some(last) => base.index != Index::ZERO && last == base.tag,
            None => base.index == Index::ZERO,
        };
        let phase = tables.phase(channel);
        let there = tables.vendor_payments.get(&(channel, index));
        let free = there.is_none_or(|there| !there.state.counts());
        if !(stands && free && phase == ChannelPhase::Open) {
            return row.refused(base.tag, phase, there, tables.last(channel, None));
        }
        if let Some(confirmed) = accepted.confirmed()
            && let Some(before) = tables.vendor_payments.get_mut(&(channel, confirmed.index))
            && before.payment.tag == confirmed.tag
        {
            before.state = VendorPaymentState::Delivered;
        }
        tables.vendor_payments.insert((channel, index), row);
        if row.previous == Index::ZERO {
            tables.vendors.entry(channel).or_insert(Vendor {
                since: at,
                settled: Index::ZERO,
                phase: ChannelPhase::Open,
                resumed: None,
                opening: None,
            });
        }
        Ok(true)
    }

    async fn mark_payment(&self, channel: ChannelId, tag: Tag, fate: PaymentFate) -> Result<bool> {
        self.channels()?;
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        let stored = *tables
            .payments_of(channel)
            .find(|payment| payment.payment.tag == tag)
            .ok_or(StoreError::UnknownPayment { channel, tag })?;
        let index = stored.payment.index;
        let last = tables.last(channel, None).map(|last| last.payment.index);
        let last = last.max(Some(tables.from(channel)));
        if !stored.check_fate(fate, last.filter(|last| *last > index))? {
            return Ok(false);
        }
        if let Some(payment) = tables.vendor_payments.get_mut(&(channel, index)) {
            payment.state = fate.into();
        }
        Ok(true)
    }

    async fn resume_vendor_channel(
        &self,
        channel: ChannelId,
        resumed: Resumed,
        at: Timestamp,
    ) -> Result<bool> {
        self.channels()?;
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        let stored = tables.vendors.get(&channel).and_then(|vendor| vendor.resumed);
        let highest = tables.last(channel, None).map(|last| last.payment.index);
        if !check_resumed(channel, &resumed, stored.as_ref(), highest)? {
            return Ok(false);
        }
        let vendor = tables.vendors.entry(channel).or_insert(Vendor {
            since: at,
            settled: Index::ZERO,
            phase: ChannelPhase::Open,
            resumed: None,
            opening: None,
        });
        vendor.resumed = Some(resumed);
        Ok(true)
    }

    async fn vendor_channel(&self, channel: ChannelId) -> Result<Option<VendorChannelRecord>> {
        let tables = self.tables.lock();
        let vendor = tables.channels.vendors.get(&channel);
        Ok(vendor.map(|vendor| tables.channels.vendor(channel, vendor)))
    }

    async fn vendor_channels(&self) -> Result<Vec<VendorChannelRecord>> {
        let tables = self.tables.lock();
        let vendors = tables.channels.vendors.iter();
        let live = vendors.filter(|(_, vendor)| vendor.phase != ChannelPhase::Closed);
        Ok(live
            .map(|(channel, vendor)| tables.channels.vendor(*channel, vendor))
            .collect())
    }

    async fn close_vendor_channel(&self, channel: ChannelId, settled: Index) -> Result<bool> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let Some(vendor) = tables.channels.vendors.get_mut(&channel) else {
            return Ok(false);
        };
        if vendor.phase == ChannelPhase::Closed {
            return Ok(false);
        }
        vendor.phase = ChannelPhase::Closed;
        vendor.settled = vendor.settled.max(settled);
        Ok(true)
    }

    async fn vendor_payments(
        &self,
        channel: ChannelId,
        indices: RangeInclusive<Index>,
    ) -> Result<Vec<VendorPayment>> {
        let tables = self.tables.lock();
        let payments = tables.channels.payments_of(channel);
        let chosen =
            payments.filter(|payment| payment.state.counts() && indices.contains(&payment.payment.index));
        Ok(chosen.copied().collect())
    }

    async fn save_checkpoint(&self, checkpoint: &CheckpointRecord) -> Result<bool> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let key = (checkpoint.channel(), checkpoint.signed.index(), checkpoint.chain);
        if let Some(stored) = tables.channels.checkpoints.get(&key) {
            return check_checkpoint(checkpoint, stored).map(|()| false);
        }
        tables.channels.checkpoints.insert(key, checkpoint.clone());
        Ok(true)
    }

    async fn checkpoints(&self, channel: ChannelId) -> Result<Vec<CheckpointRecord>> {
        let tables = self.tables.lock();
        Ok(tables.channels.checkpoints_of(channel).cloned().collect())
    }

    async fn latest_checkpoint(&self, channel: ChannelId) -> Result<Option<CheckpointRecord>> {
        Ok(self.checkpoints(channel).await?.pop())
    }

    async fn save_opening(&self, opening: &Opening) -> Result<bool> {
        self.channels()?;
        let channel = opening.opener.channel;
        let mut tables = self.tables.lock();
        let vendor = tables
            .channels
            .vendors
            .get_mut(&channel)
            .ok_or(StoreError::UnknownChannel(channel))?;
        let lower = |stored: &Opening| opening.opener.index < stored.opener.index;
        if vendor.opening.as_ref().is_some_and(lower) {
            return Ok(false);
        }
        vendor.opening = Some(*opening);
        Ok(true)
    }

    async fn vendor_totals(&self) -> Result<VendorTotals> {
        let tables = self.tables.lock();
        let mut totals = VendorTotals::default();
        for vendor in tables.channels.vendors.values() {
            match vendor.phase {
                ChannelPhase::Closed => totals.closed += 1,
                ChannelPhase::Open | ChannelPhase::Closing(_) => totals.open += 1,
            }
        }
        for payment in tables.channels.vendor_payments.values() {
            totals
                .of_mut(payment.state)
                .add(1, payment.price, payment.units())?;
        }
        for settlement in tables.channels.settlements.values() {
            for item in settlement.items.values() {
                if let Some(SettlementOutcome::Settled { paid, .. }) = item.outcome {
                    totals.settled.add(1, paid)?;
                }
            }
        }
        Ok(totals)
    }
}

impl Tables {
    /// A channel's payments, by index.
    fn payments_of(&self, channel: ChannelId) -> impl DoubleEndedIterator<Item = &VendorPayment> {
        let all = (channel, Index::ZERO)..=(channel, Index(u32::MAX));
        self.vendor_payments.range(all).map(|(_, payment)| payment)
    }

    /// The last payment that counts; below an index, if there is one.
    fn last(&self, channel: ChannelId, below: Option<Index>) -> Option<&VendorPayment> {
        let mut payments = self.payments_of(channel).rev();
        payments
            .find(|payment| payment.state.counts() && below.is_none_or(|below| payment.payment.index < below))
    }

    /// A channel's checkpoints, by index.
    fn checkpoints_of(&self, channel: ChannelId) -> impl DoubleEndedIterator<Item = &CheckpointRecord> {
        let all = (channel, Index::ZERO, 0)..=(channel, Index(u32::MAX), u32::MAX);
        self.checkpoints.range(all).map(|(_, checkpoint)| checkpoint)
    }

    /// The highest index that a channel paid, or signed for.
    pub(super) fn highest(&self, channel: ChannelId) -> Index {
        let paid = self.payments_of(channel).next_back();
        let paid = paid.map_or(Index::ZERO, |highest| highest.payment.index);
        let signed = self.checkpoints_of(channel).next_back();
        paid.max(signed.map_or(Index::ZERO, |checkpoint| checkpoint.signed.index()))
            .max(self.from(channel))
    }

    /// A channel's receipts begin above this index.
    fn from(&self, channel: ChannelId) -> Index {
        let resumed = self.vendors.get(&channel).and_then(|vendor| vendor.resumed);
        resumed.map_or(Index::ZERO, |resumed| resumed.last.index)
    }

    pub(super) fn phase(&self, channel: ChannelId) -> ChannelPhase {
        let vendor = self.vendors.get(&channel);
        vendor.map_or(ChannelPhase::Open, |vendor| vendor.phase)
    }

    fn vendor(&self, id: ChannelId, vendor: &Vendor) -> VendorChannelRecord {
        let last = self.last(id, None).copied();
        let position = last.map_or(Index::ZERO, |last| last.payment.index);
        let position = position.max(self.from(id));
        let failed = self
            .payments_of(id)
            .filter(|payment| !payment.state.counts() && payment.previous == position);
        VendorChannelRecord {
            id,
            since: vendor.since,
            settled: vendor.settled,
            phase: vendor.phase,
            highest: self.payments_of(id).next_back().copied(),
            last,
            before: last.and_then(|last| self.last(id, Some(last.payment.index)).copied()),
            resumed: vendor.resumed,
            failed: failed
                .max_by_key(|payment| (payment.taken_at, payment.payment.index))
                .copied(),
            checkpoint: self.checkpoints_of(id).next_back().cloned(),
            opening: vendor.opening,
        }
    }

    /// A step on chain went through for this channel.
    pub(super) fn settled(&mut self, channel: ChannelId, index: Index, closed: bool) {
        if let Some(vendor) = self.vendors.get_mut(&channel) {
            vendor.settled = vendor.settled.max(index);
            if closed {
                vendor.phase = ChannelPhase::Closed;
            }
        }
    }

    /// A close is on its way for this channel.
    pub(super) fn closing(&mut self, channel: ChannelId, settlement: SettlementId, at: Timestamp) {
        let vendor = self.vendors.entry(channel).or_insert(Vendor {
            since: at,
            settled: Index::ZERO,
            phase: ChannelPhase::Open,
            resumed: None,
            opening: None,
        });
        vendor.phase = ChannelPhase::Closing(settlement);
    }

    /// The close did not come about.
    pub(super) fn reopened(&mut self, channel: ChannelId, settlement: SettlementId) {
        if let Some(vendor) = self.vendors.get_mut(&channel)
            && vendor.phase == ChannelPhase::Closing(settlement)
        {
            vendor.phase = ChannelPhase::Open;
        }
    }
}
