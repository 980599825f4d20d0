//! [`ClientChannelStore`] in memory.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
};

use protocol::{
    channel::{Acknowledged, Admitted, ChannelId, ClientChannel, Index, PayError, Prepared, Timestamp},
    ticket::OrderId,
};

use super::{super::MemoryStore, Client, Tables};
use crate::{
    Result, StoreError,
    channel::{
        ClientChannelFilter, ClientChannelRecord, ClientChannelStore, NewClientChannel, Pay, PayRequest,
        PaymentRecord, PaymentState, PaymentTotals,
    },
};

impl ClientChannelStore for MemoryStore {
    async fn save_client_channel(&self, new: &NewClientChannel) -> Result<bool> {
        let channel = new.check(&self.channels()?)?;
        let mut tables = self.tables.lock();
        if tables.channels.clients.contains_key(&channel) {
            let (stored, _) = tables.channels.client(channel)?;
            return new.check_stored(&stored).map(|()| false);
        }
        let permit = new.admitted.permit();
        let client = Client {
            terms: vec![new.admitted.clone()],
            acknowledged: Acknowledged {
                index: Index::ZERO,
                transcript: permit.transcript(),
                sigma: new.admitted.sigma0(),
            },
            revealed: Index::ZERO,
            salt: new.salt,
            origin: new.origin.clone(),
            saved_at: new.at,
            closed_at: None,
        };
        tables.channels.clients.insert(channel, client);
        Ok(true)
    }

    async fn topped_up(&self, channel: ChannelId, admitted: &Admitted) -> Result<bool> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let (stored, _) = tables.channels.client(channel)?;
        if stored.channel.terms().contains(admitted) {
            return Ok(false);
        }
        let longer = stored.channel.topped_up(admitted.clone());
        let longer = longer.map_err(|source| StoreError::PayRefused { channel, source })?;
        tables.channels.client_mut(channel)?.terms = longer.terms().to_vec();
        Ok(true)
    }

    async fn close_client_channel(&self, channel: ChannelId, at: Timestamp) -> Result<bool> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let client = tables.channels.client_mut(channel)?;
        let was_open = client.closed_at.is_none();
        client.closed_at.get_or_insert(at);
        Ok(was_open)
    }

    async fn client_channel(&self, channel: ChannelId) -> Result<Option<ClientChannelRecord>> {
        self.channels()?;
        match self.tables.lock().channels.client(channel) {
            Ok((record, _)) => Ok(Some(record)),
            Err(StoreError::UnknownChannel(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn client_channels(&self, filter: ClientChannelFilter) -> Result<Vec<ClientChannelRecord>> {
        self.channels()?;
        let tables = self.tables.lock();
        let mut records = Vec::new();
        for channel in tables.channels.clients.keys() {
            let (record, _) = tables.channels.client(*channel)?;
            let chosen = record.channel.terms().first().is_some_and(|admitted| {
                let permit = admitted.permit();
                filter.vendor.is_none_or(|vendor| permit.vendor() == vendor)
                    && filter.asset.is_none_or(|asset| permit.asset() == asset)
            });
            if chosen && !(filter.open && record.closed_at.is_some()) {
                records.push(record);
            }
        }
        Ok(records)
    }

    async fn pay<F>(&self, request: PayRequest, sign: F) -> Result<Pay>
    where
        F: FnOnce(&ClientChannel) -> Result<Prepared, PayError> + Send + 'static,
    {
        self.channels()?;
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        if let Some(record) = tables.channels.client_payments.get(&request.order) {
            return Ok(Pay::Existing(record.clone()));
        }
        let channel = request.channel;
        let (stored, in_flight) = tables.channels.client(channel)?;
        let (index, charged) = stored.check_pay(&request, in_flight)?;
        let mut spent = HashMap::with_capacity(request.budgets.len());
        for budget in &request.budgets {
            let before = tables.spent.get(&budget.account).copied().unwrap_or_default();
            spent.insert(budget.account.clone(), budget.charge(before, charged)?);
        }
        let prepared = catch_unwind(AssertUnwindSafe(|| sign(&stored.channel)))
            .map_err(|_| StoreError::SignPanicked(request.order))?
            .map_err(|source| StoreError::PayRefused { channel, source })?;
        let made = stored.check_signed(&request, index, prepared)?;
        let previous = stored.channel.acknowledged().index;
        let record = PaymentRecord::new(&request, previous, charged, &made);
        tables.spent.extend(spent);
        tables
            .channels
            .client_payments
            .insert(request.order, record.clone());
        let client = tables.channels.client_mut(channel)?;
        client.revealed = client.revealed.max(index);
        Ok(Pay::Fresh(record))
    }

    async fn resolve_payment(&self, order: OrderId, state: PaymentState) -> Result<bool> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let payments = &mut tables.channels.client_payments;
        let record = payments.get_mut(&order).ok_or(StoreError::UnknownOrder(order))?;
        if !record.check_move(&state)? {
            return Ok(false);
        }
        record.state = state;
        if record.state == PaymentState::Delivered {
            let (channel, position) = (record.payment.channel, record.position());
            tables.channels.client_mut(channel)?.acknowledged = position;
        }
        Ok(true)
    }

    async fn acknowledge(&self, channel: ChannelId, position: &Acknowledged) -> Result<bool> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let (stored, in_flight) = tables.channels.client(channel)?;
        let moves = stored.check_position(channel, position, in_flight)?;
        if moves {
            let client = tables.channels.client_mut(channel)?;
            client.acknowledged = *position;
            client.revealed = client.revealed.max(position.index);
        }
        Ok(moves)
    }

    async fn raise_revealed(&self, channel: ChannelId, index: Index) -> Result<Index> {
        self.channels()?;
        let mut tables = self.tables.lock();
        let client = tables.channels.client_mut(channel)?;
        client.revealed = client.revealed.max(index);
        Ok(client.revealed)
    }

    async fn client_payment(&self, order: OrderId) -> Result<Option<PaymentRecord>> {
        Ok(self.tables.lock().channels.client_payments.get(&order).cloned())
    }

    async fn client_payments(
        &self,
        channel: ChannelId,
        indices: RangeInclusive<Index>,
    ) -> Result<Vec<PaymentRecord>> {
        let tables = self.tables.lock();
        let payments = tables.channels.client_payments.values();
        let chosen = payments
            .filter(|record| record.payment.channel == channel && indices.contains(&record.payment.index));
        let mut records: Vec<_> = chosen.cloned().collect();
        records.sort_by_key(|record| (record.payment.index, record.order));
        Ok(records)
    }

    async fn client_payment_totals(&self, channel: Option<ChannelId>) -> Result<PaymentTotals> {
        let mut totals = PaymentTotals::default();
        for record in self.tables.lock().channels.client_payments.values() {
            if channel.is_none_or(|channel| record.payment.channel == channel) {
                totals.of_mut(record.state.stage()).add(1, record.charged)?;
            }
        }
        Ok(totals)
    }
}

impl Tables {
    fn client_mut(&mut self, channel: ChannelId) -> Result<&mut Client> {
        self.clients
            .get_mut(&channel)
            .ok_or(StoreError::UnknownChannel(channel))
    }

    /// A channel, and the order whose payment is under way.
    fn client(&self, channel: ChannelId) -> Result<(ClientChannelRecord, Option<OrderId>)> {
        let client = self
            .clients
            .get(&channel)
            .ok_or(StoreError::UnknownChannel(channel))?
            .clone();
        let payments = self.client_payments.values();
        let mut open: Vec<_> = payments
            .filter(|record| record.payment.channel == channel)
            .filter(|record| record.previous == client.acknowledged.index)
            .filter(|record| record.state != PaymentState::Delivered)
            .collect();
        open.sort_by_key(|record| (record.payment.index, record.order));
        let sent = open.iter().find(|record| record.state == PaymentState::Sent);
        let sent = sent.map(|record| record.order);
        let in_flight = open.into_iter().map(PaymentRecord::in_flight).collect();
        let restored = ClientChannel::restore(client.terms, client.acknowledged, client.revealed, in_flight);
        let record = ClientChannelRecord {
            channel: restored.map_err(|source| StoreError::PayRefused { channel, source })?,
            salt: client.salt,
            origin: client.origin,
            saved_at: client.saved_at,
            closed_at: client.closed_at,
        };
        Ok((record, sent))
    }
}
