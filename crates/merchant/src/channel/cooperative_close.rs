//! Step `cooperative close`: the vendor signs an index at or above everything it has taken, and takes nothing from then on.
//! The decision is durable before the signature leaves. The client sends the transaction; should it not, the closer closes
//! with the word that the vendor has, which is worth as much.

use std::sync::Arc;

use alloy_primitives::Address;
use protocol::channel::{
    ChannelId, ChannelRecord, Index, Key, Permit, Refusal, Signature, Timestamp, sign_cooperative_close,
};
use storage::StoreError;
use storage::channel::{
    ChannelDomainStore, ChannelPhase, SettlementMove, SettlementStep, SettlementStore, VendorChannelStore,
};
use tracing::info;

use super::accept::is_closed;
use super::vendor::{Vendor, held};

/// Why the vendor does not sign.
#[derive(Debug, thiserror::Error)]
pub enum CooperativeCloseError {
    /// The channel is not this vendor's, or not open.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It would give up what was paid.
    #[error("a close at {got}, taken is {taken}")]
    BelowTaken {
        /// The index asked for.
        got: Index,
        /// The highest word's index.
        taken: Index,
    },
    /// More than the channel can pay.
    #[error("a close at {got}, the channel has {length} units")]
    AboveLength {
        /// The index asked for.
        got: Index,
        /// Its length.
        length: Index,
    },
    /// A good of the channel is on its way.
    #[error("a good of channel {channel} is on its way; ask again")]
    Busy {
        /// The channel.
        channel: ChannelId,
    },
    /// The key is not the vendor's.
    #[error("the key is of {got}, the vendor is {vendor}")]
    WrongKey {
        /// Address of the key.
        got: Address,
        /// The vendor.
        vendor: Address,
    },
    /// The store failed, or the channel is being closed otherwise.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S> Vendor<S>
where
    S: ChannelDomainStore + VendorChannelStore + SettlementStore + Clone + Send + Sync + 'static,
{
    /// Signs a close at `index` with the key of the vendor's account. Asked again for the same index it signs again.
    pub async fn sign_cooperative_close(
        self: &Arc<Self>,
        key: &Key,
        channel: ChannelId,
        index: Index,
        now: Timestamp,
    ) -> Result<Signature, CooperativeCloseError> {
        if key.address() != self.recipient {
            return Err(CooperativeCloseError::WrongKey {
                got: key.address(),
                vendor: self.recipient,
            });
        }
        let view = self.mirror.view(channel);
        let record = self.record(channel).ok_or(Refusal::ChannelMissing { channel })?;
        if is_closed(&view) {
            let settled = record.settled;
            return Err(Refusal::ChannelClosed { channel, settled }.into());
        }
        if index > record.length() {
            return Err(CooperativeCloseError::AboveLength {
                got: index,
                length: record.length(),
            });
        }
        // No payment of this process is judged meanwhile.
        let slot = self.slot(channel);
        let _turn = slot.turn.lock().await;
        if slot.state.lock().as_ref().is_some_and(|state| state.in_delivery) {
            return Err(CooperativeCloseError::Busy { channel });
        }
        self.check_taken(channel, index, &record).await?;
        if !self.is_promised(channel, index).await? {
            let step = SettlementStep::CooperativeClose;
            let settlement = self
                .store
                .queue_settlement(step, &[(channel, index)], now)
                .await?;
            // Another process may have taken a payment until this moment, but not after it.
            if let Err(error) = self.check_taken(channel, index, &record).await {
                self.store
                    .move_settlement(settlement, SettlementMove::Drop)
                    .await?;
                return Err(error);
            }
            info!(%channel, %index, %settlement, "closing together with the client");
        }
        *slot.state.lock() = None;
        let permit = Permit::new(&self.domain, record.opening().clone());
        Ok(sign_cooperative_close(&self.domain, key, &permit, index))
    }

    async fn check_taken(
        &self,
        channel: ChannelId,
        got: Index,
        chain: &ChannelRecord,
    ) -> Result<(), CooperativeCloseError> {
        let stored = self.store.vendor_channel(channel).await?;
        let held = held(&self.domain, chain, stored.as_ref());
        let taken = held.paid.index.max(chain.settled);
        if got < taken {
            return Err(CooperativeCloseError::BelowTaken { got, taken });
        }
        Ok(())
    }

    /// Whether the same was signed before.
    async fn is_promised(&self, channel: ChannelId, index: Index) -> Result<bool, StoreError> {
        let stored = self.store.vendor_channel(channel).await?;
        let Some(ChannelPhase::Closing(settlement)) = stored.map(|stored| stored.phase) else {
            return Ok(false);
        };
        let settlement = self.store.settlement(settlement).await?;
        Ok(settlement.is_some_and(|settlement| {
            settlement.step == SettlementStep::CooperativeClose
                && settlement
                    .items
                    .iter()
                    .any(|item| item.channel == channel && item.index == index)
        }))
    }
}
