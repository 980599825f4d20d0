//! [`SettlementStore`] in memory.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use protocol::channel::{ChannelId, Index, Timestamp};

use super::{super::MemoryStore, Settlement, Tables};
use crate::{
    Result, StoreError, TxRecord,
    channel::{
        SettlementId, SettlementItem, SettlementMove, SettlementOutcome, SettlementRecord, SettlementState,
        SettlementStep, SettlementStore, check_settlement, check_settlement_outcomes,
    },
};

impl SettlementStore for MemoryStore {
    async fn queue_settlement(
        &self,
        step: SettlementStep,
        channels: &[(ChannelId, Index)],
        at: Timestamp,
    ) -> Result<SettlementId> {
        self.channels()?;
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        if channels.is_empty() {
            return Err(StoreError::SettlementEmpty);
        }
        let id = SettlementId(tables.settlements.len() as u64 + 1);
        // Judge all of them before changing any.
        let mut items = BTreeMap::new();
        for &(channel, index) in channels {
            let busy = if items.contains_key(&channel) {
                Some(id)
            } else {
                tables.unfinished(channel)
            };
            if let Some(settlement) = busy {
                return Err(StoreError::SettlementBusy { channel, settlement });
            }
            check_settlement(
                step,
                (channel, index),
                tables.phase(channel),
                tables.highest(channel),
            )?;
            let item = SettlementItem {
                channel,
                index,
                outcome: None,
            };
            items.insert(channel, item);
        }
        if step.closes() {
            for channel in items.keys() {
                tables.closing(*channel, id, at);
            }
        }
        let settlement = Settlement {
            step,
            state: SettlementState::Queued,
            queued_at: at,
            items,
            transactions: Vec::new(),
        };
        tables.settlements.insert(id, settlement);
        Ok(id)
    }

    async fn add_settlement_transaction(&self, id: SettlementId, transaction: &TxRecord) -> Result<()> {
        let hash = transaction.hash;
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        let settlement = tables
            .settlements
            .get_mut(&id)
            .ok_or(StoreError::UnknownSettlement(id))?;
        let to = settlement.state.send(id)?;
        match tables.transactions.get(&hash) {
            Some(&stored) if stored != id => {
                return Err(StoreError::SettlementTransactionTaken {
                    hash,
                    got: id,
                    stored,
                });
            }
            Some(_) => settlement.revive(hash),
            None => {
                tables.transactions.insert(hash, id);
                settlement.transactions.push((transaction.clone(), false));
            }
        }
        settlement.state = to;
        Ok(())
    }

    async fn move_settlement(&self, id: SettlementId, to: SettlementMove) -> Result<()> {
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        let settlement = tables
            .settlements
            .get_mut(&id)
            .ok_or(StoreError::UnknownSettlement(id))?;
        let mut revived = false;
        if let SettlementMove::Mined { hash, .. } = to {
            let mut known = settlement.transactions.iter();
            let known = known.find(|entry| entry.0.hash == hash);
            revived = known
                .ok_or(StoreError::UnknownSettlementTransaction { settlement: id, hash })?
                .1;
        }
        settlement.state = settlement.state.go(id, to, revived)?;
        match to {
            SettlementMove::Mined { hash, .. } => settlement.revive(hash),
            SettlementMove::Requeue => {
                for (_, dropped) in &mut settlement.transactions {
                    *dropped = true;
                }
            }
            SettlementMove::Drop => {
                let channels: Vec<_> = settlement.items.keys().copied().collect();
                for channel in channels {
                    tables.reopened(channel, id);
                }
            }
            SettlementMove::Unmined => {}
        }
        Ok(())
    }

    async fn finalize_settlement(
        &self,
        id: SettlementId,
        outcomes: &[(ChannelId, SettlementOutcome)],
        gas_used: u64,
        effective_gas_price: u128,
    ) -> Result<()> {
        let mut guard = self.tables.lock();
        let tables = &mut guard.channels;
        let settlement = tables
            .settlements
            .get_mut(&id)
            .ok_or(StoreError::UnknownSettlement(id))?;
        let to = settlement.state.finalize(id, gas_used, effective_gas_price)?;
        let channels: Vec<_> = settlement.items.keys().copied().collect();
        check_settlement_outcomes(id, &channels, outcomes)?;
        settlement.state = to;
        let closes = settlement.step.closes();
        for (channel, outcome) in outcomes {
            if let Some(item) = settlement.items.get_mut(channel) {
                item.outcome = Some(*outcome);
            }
        }
        for (channel, outcome) in outcomes {
            match outcome {
                SettlementOutcome::Settled { index, .. } => tables.settled(*channel, *index, closes),
                SettlementOutcome::Skipped { .. } => tables.reopened(*channel, id),
            }
        }
        Ok(())
    }

    async fn settlement(&self, id: SettlementId) -> Result<Option<SettlementRecord>> {
        let tables = self.tables.lock();
        let settlement = tables.channels.settlements.get(&id);
        Ok(settlement.map(|settlement| settlement.record(id)))
    }

    async fn unfinished_settlements(&self) -> Result<Vec<SettlementRecord>> {
        let tables = self.tables.lock();
        let all = tables.channels.settlements.iter();
        let open = all.filter(|(_, settlement)| settlement.state.is_unfinished());
        Ok(open.map(|(id, settlement)| settlement.record(*id)).collect())
    }

    async fn settlements(&self, limit: u32) -> Result<Vec<SettlementRecord>> {
        let tables = self.tables.lock();
        let latest = tables.channels.settlements.iter().rev().take(limit as usize);
        Ok(latest.map(|(id, settlement)| settlement.record(*id)).collect())
    }
}

impl Tables {
    /// The unfinished settlement that a channel is in.
    fn unfinished(&self, channel: ChannelId) -> Option<SettlementId> {
        let mut settlements = self.settlements.iter();
        settlements
            .find(|(_, settlement)| {
                settlement.state.is_unfinished() && settlement.items.contains_key(&channel)
            })
            .map(|(id, _)| *id)
    }
}

impl Settlement {
    fn record(&self, id: SettlementId) -> SettlementRecord {
        let list = |dropped| {
            let chosen = self.transactions.iter().filter(|entry| entry.1 == dropped);
            chosen.map(|(transaction, _)| transaction.clone()).collect()
        };
        SettlementRecord {
            id,
            step: self.step,
            state: self.state,
            queued_at: self.queued_at,
            items: self.items.values().copied().collect(),
            transactions: list(false),
            dropped: list(true),
        }
    }

    fn revive(&mut self, hash: B256) {
        for (transaction, dropped) in &mut self.transactions {
            if transaction.hash == hash {
                *dropped = false;
            }
        }
    }
}
