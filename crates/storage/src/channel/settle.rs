//! The vendor's transactions: one step on chain for one or more channels, from the decision to the final block. A transaction
//! is saved before it is broadcast, so that none is forgotten and no account nonce is used without being known.
//!
//! ```text
//!               ┌──────────────────────────────┐ add_settlement_transaction, also for a higher fee
//!               │                              ▼
//!   queue ──▶ Queued ◀──requeue── Sent ──▶ Mined ──finalize──▶ Final
//!               │  ▲               ▲ ▲_______│ │
//!      drop ────┘  └───────────────┼─unmined───┘
//!               ▼                  │ (requeue, too)
//!            Dropped
//! ```
//! The steps themselves are idempotent (a second close reverts, a checkpoint only pays what is new), so nothing here keeps the
//! contract from being asked twice; a channel is in one unfinished settlement at a time only so that no gas is wasted.

use std::fmt;

use alloy_primitives::{B256, U256, aliases::B32};
use protocol::channel::{Amount, BlockRef, ChannelId, Index, Timestamp};

use super::ChannelPhase;
use crate::{Result, StoreError, TxRecord};

/// Checkpoints and closes on their way to the chain.
pub trait SettlementStore {
    /// Decides on a step for these channels, each to the index. From a close on they take no more payments, unless it is
    /// dropped or skipped. All or nothing: no channel at all is [`SettlementEmpty`](StoreError::SettlementEmpty), one that is
    /// in an unfinished settlement, also in this one, [`SettlementBusy`](StoreError::SettlementBusy), one that is closed
    /// [`ChannelClosing`](StoreError::ChannelClosing), and a close below what another process has taken meanwhile
    /// [`SettlementStale`](StoreError::SettlementStale).
    fn queue_settlement(
        &self,
        step: SettlementStep,
        channels: &[(ChannelId, Index)],
        at: Timestamp,
    ) -> impl Future<Output = Result<SettlementId>> + Send;

    /// Saves a signed transaction before it is broadcast: `Queued` or `Sent` becomes `Sent`. A dropped transaction that is
    /// added again counts again.
    fn add_settlement_transaction(
        &self,
        settlement: SettlementId,
        transaction: &TxRecord,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Moves a settlement. The same again changes nothing where it names a block; everything that the picture above does not
    /// show is [`SettlementMove`](StoreError::SettlementMove) with both states.
    fn move_settlement(
        &self,
        settlement: SettlementId,
        to: SettlementMove,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The block is final: `Mined` becomes `Final`, every channel gets its outcome, exactly once. A channel that was settled
    /// is so in [`VendorChannelStore`](super::VendorChannelStore), too, in the same transaction, and closed if the step was a
    /// close. `gas_used` in gas, `effective_gas_price` in wei per gas.
    fn finalize_settlement(
        &self,
        settlement: SettlementId,
        outcomes: &[(ChannelId, SettlementOutcome)],
        gas_used: u64,
        effective_gas_price: u128,
    ) -> impl Future<Output = Result<()>> + Send;

    /// One settlement.
    fn settlement(
        &self,
        settlement: SettlementId,
    ) -> impl Future<Output = Result<Option<SettlementRecord>>> + Send;

    /// Settlements that are neither final nor dropped, oldest first: what a vendor loads when it starts.
    fn unfinished_settlements(&self) -> impl Future<Output = Result<Vec<SettlementRecord>>> + Send;

    /// The latest `limit` settlements, newest first.
    fn settlements(&self, limit: u32) -> impl Future<Output = Result<Vec<SettlementRecord>>> + Send;
}

/// Number of a settlement within its store, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettlementId(pub u64);

impl fmt::Display for SettlementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is done on chain; to several channels, it is done by the contract's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettlementStep {
    /// Pays up to the index; the channel goes on.
    Checkpoint,
    /// Pays up to the index and gives the rest back.
    Close,
    /// As [`SettlementStep::Close`], by both parties' signatures.
    CooperativeClose,
}

impl SettlementStep {
    /// Every step.
    pub const ALL: [Self; 3] = [Self::Checkpoint, Self::Close, Self::CooperativeClose];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Close => "close",
            Self::CooperativeClose => "cooperative-close",
        }
    }

    /// Whether the channel is over after it.
    pub fn closes(self) -> bool {
        self != Self::Checkpoint
    }
}

impl fmt::Display for SettlementStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A settlement as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SettlementRecord {
    /// Its number.
    pub id: SettlementId,
    /// What it does.
    pub step: SettlementStep,
    /// Where it stands.
    pub state: SettlementState,
    /// When it was decided.
    pub queued_at: Timestamp,
    /// Its channels, by id.
    pub items: Vec<SettlementItem>,
    /// Transactions that may be mined, in the order in which they were first added.
    pub transactions: Vec<TxRecord>,
    /// Transactions given up by a requeue. Their account nonces may still be used by them.
    pub dropped: Vec<TxRecord>,
}

/// One channel of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlementItem {
    /// The channel.
    pub channel: ChannelId,
    /// The index to settle.
    pub index: Index,
    /// What the contract did; once it is final.
    pub outcome: Option<SettlementOutcome>,
}

/// What became of one channel of a settlement, as the contract's events say at a final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementOutcome {
    /// `Checkpointed`, `Closed` or `CooperativelyClosed`.
    Settled {
        /// The index that was settled.
        index: Index,
        /// Credited to the vendor by this step, atomic units.
        paid: Amount,
    },
    /// `ItemSkipped`.
    Skipped {
        /// Selector of the contract's error.
        reason: B32,
        /// The error's first value.
        got: U256,
        /// The error's second value.
        limit: U256,
    },
}

/// Where a settlement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementState {
    /// No transaction on its way.
    Queued,
    /// A transaction may be on its way.
    Sent,
    /// A transaction is in a block that is not final.
    Mined {
        /// The transaction.
        hash: B256,
        /// The block.
        block: BlockRef,
    },
    /// Settled for good.
    Final {
        /// The transaction.
        hash: B256,
        /// The block.
        block: BlockRef,
        /// What the transaction used.
        gas_used: u64,
        /// Wei per gas.
        effective_gas_price: u128,
    },
    /// Given up.
    Dropped,
}

/// Moves that need nothing but themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementMove {
    /// One of its transactions is in a block: `Sent` becomes `Mined`. Also from `Queued`, by a transaction that was thought
    /// dropped; it then counts again.
    Mined {
        /// The transaction.
        hash: B256,
        /// The block.
        block: BlockRef,
    },
    /// A reorg took the block away: `Mined` becomes `Sent`.
    Unmined,
    /// The transactions were dropped, superseded or mined without effect: `Sent` or `Mined` becomes `Queued`.
    Requeue,
    /// Not wanted any more: `Queued` becomes `Dropped`. Only where dropped transactions, if any, can never be mined (their
    /// account nonce is used).
    Drop,
}

impl SettlementState {
    /// The state without its values.
    pub fn stage(&self) -> SettlementStage {
        match self {
            Self::Queued => SettlementStage::Queued,
            Self::Sent => SettlementStage::Sent,
            Self::Mined { .. } => SettlementStage::Mined,
            Self::Final { .. } => SettlementStage::Final,
            Self::Dropped => SettlementStage::Dropped,
        }
    }

    /// Whether the settlement still needs its vendor.
    pub fn is_unfinished(&self) -> bool {
        self.stage() < SettlementStage::Final
    }

    /// What it cost, wei; once it is final. None if it does not fit, which no real fee does.
    pub fn fee(&self) -> Option<Amount> {
        match self {
            Self::Final {
                gas_used,
                effective_gas_price,
                ..
            } => Amount(*effective_gas_price).checked_mul(*gas_used),
            _ => None,
        }
    }

    // The state machine. Both backends ask here, so that they cannot differ.

    pub(crate) fn send(self, id: SettlementId) -> Result<Self> {
        match self {
            Self::Queued | Self::Sent => Ok(Self::Sent),
            _ => Err(self.no_way(id, SettlementStage::Sent)),
        }
    }

    /// `revived`: the transaction that was mined had been dropped.
    pub(crate) fn go(self, id: SettlementId, to: SettlementMove, revived: bool) -> Result<Self> {
        match (self, to) {
            (Self::Sent, SettlementMove::Mined { hash, block }) => Ok(Self::Mined { hash, block }),
            (Self::Queued, SettlementMove::Mined { hash, block }) if revived => {
                Ok(Self::Mined { hash, block })
            }
            (Self::Mined { hash, block }, SettlementMove::Mined { hash: h, block: b })
                if (hash, block) == (h, b) =>
            {
                Ok(self)
            }
            (Self::Mined { .. }, SettlementMove::Unmined) => Ok(Self::Sent),
            (Self::Sent | Self::Mined { .. }, SettlementMove::Requeue) => Ok(Self::Queued),
            (Self::Queued, SettlementMove::Drop) => Ok(Self::Dropped),
            (_, to) => Err(self.no_way(id, to.stage())),
        }
    }

    pub(crate) fn finalize(self, id: SettlementId, gas_used: u64, effective_gas_price: u128) -> Result<Self> {
        match self {
            Self::Mined { hash, block } => Ok(Self::Final {
                hash,
                block,
                gas_used,
                effective_gas_price,
            }),
            _ => Err(self.no_way(id, SettlementStage::Final)),
        }
    }

    fn no_way(self, settlement: SettlementId, to: SettlementStage) -> StoreError {
        StoreError::SettlementMove {
            settlement,
            from: self,
            to,
        }
    }
}

impl SettlementMove {
    fn stage(self) -> SettlementStage {
        match self {
            Self::Mined { .. } => SettlementStage::Mined,
            Self::Unmined => SettlementStage::Sent,
            Self::Requeue => SettlementStage::Queued,
            Self::Drop => SettlementStage::Dropped,
        }
    }
}

impl fmt::Display for SettlementState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mined { block, .. } | Self::Final { block, .. } => {
                write!(f, "{} in block {}", self.stage(), block.number)
            }
            _ => write!(f, "{}", self.stage()),
        }
    }
}

/// [`SettlementState`] without its values, in the order of a settlement's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettlementStage {
    /// See [`SettlementState::Queued`].
    Queued,
    /// See [`SettlementState::Sent`].
    Sent,
    /// See [`SettlementState::Mined`].
    Mined,
    /// See [`SettlementState::Final`].
    Final,
    /// See [`SettlementState::Dropped`].
    Dropped,
}

impl SettlementStage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Sent, Self::Mined, Self::Final, Self::Dropped];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Mined => "mined",
            Self::Final => "final",
            Self::Dropped => "dropped",
        }
    }
}

impl fmt::Display for SettlementStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a step may be taken for a channel that stands so. `highest`: the highest index that it paid.
pub(crate) fn check_settlement(
    step: SettlementStep,
    (channel, got): (ChannelId, Index),
    phase: ChannelPhase,
    highest: Index,
) -> Result<()> {
    match phase {
        ChannelPhase::Open => {}
        ChannelPhase::Closing(settlement) => return Err(StoreError::SettlementBusy { channel, settlement }),
        ChannelPhase::Closed => return Err(StoreError::ChannelClosing { channel, phase }),
    }
    // What both parties sign may be less than what was paid; what the vendor does alone would lose the rest.
    if step == SettlementStep::Close && got < highest {
        return Err(StoreError::SettlementStale {
            channel,
            got,
            stored: highest,
        });
    }
    Ok(())
}

/// Whether the outcomes name each channel of the settlement exactly once. `channels` in order.
pub(crate) fn check_outcomes(
    settlement: SettlementId,
    channels: &[ChannelId],
    outcomes: &[(ChannelId, SettlementOutcome)],
) -> Result<()> {
    let mut missing: std::collections::BTreeSet<ChannelId> = channels.iter().copied().collect();
    for (channel, _) in outcomes {
        if !missing.remove(channel) {
            return Err(StoreError::SettlementOutcomeStray {
                settlement,
                channel: *channel,
            });
        }
    }
    match missing.first() {
        Some(&channel) => Err(StoreError::SettlementOutcomeMissing { settlement, channel }),
        None => Ok(()),
    }
}
