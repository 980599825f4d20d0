//! Claims: winners on their way to the chain. A claim is a batch that stays together; its transactions are saved before
//! they are broadcast, and a reorg or a drop moves it back, never its winners into another claim while a transaction of
//! this one may still be mined.
//!
//! ```text
//!                add_transaction          mined               finalize
//!   queue ──▶ Queued ──────────▶ Sent ────────────▶ Mined ──────────────▶ Final
//!              │ ▲ ▲              │ ▲                │ │
//!      release │ │ └───requeue────┘ └────unmined─────┘ │
//!              ▼ └──────────────requeue────────────────┘
//!           Released                        Sent ──add_transaction──▶ Sent (higher fee)
//! ```
//! Every other move is refused with both states.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes, U256, aliases::B32};
use protocol::ticket::{Amount, BlockRef, Nonce, Timestamp};

use crate::{Result, StoreError, WinRecord, WinState};

/// Claims, their transactions, and the floors that they raise.
pub trait ClaimStore {
    /// Puts winners into a new claim, in one transaction: each must be `Won`. Raises the durable floor of each escrow to
    /// the highest nonce among them: a ticket at or below it could no longer be claimed.
    fn queue(&self, wins: &[B256], now: Timestamp) -> impl Future<Output = Result<ClaimId>> + Send;

    /// The highest nonce ever queued, per escrow, by escrow address. A merchant refuses tickets at or below it.
    fn floors(&self) -> impl Future<Output = Result<Vec<(Address, Nonce)>>> + Send;

    /// Saves a signed transaction before it is broadcast: `Queued` or `Sent` becomes `Sent`. A dropped transaction that is
    /// added again counts again.
    fn add_transaction(
        &self,
        claim: ClaimId,
        transaction: &TxRecord,
    ) -> impl Future<Output = Result<()>> + Send;

    /// One of the claim's transactions is in a block: `Sent` becomes `Mined`. Also from `Queued`, by a transaction that was
    /// thought dropped; it then counts again. The same again changes nothing.
    fn mined(&self, claim: ClaimId, hash: B256, block: BlockRef) -> impl Future<Output = Result<()>> + Send;

    /// A reorg took the block away: `Mined` becomes `Sent`.
    fn unmined(&self, claim: ClaimId) -> impl Future<Output = Result<()>> + Send;

    /// The transactions were dropped, superseded or mined without effect: `Sent` or `Mined` becomes `Queued`, with the same
    /// winners. The transactions are kept as [`ClaimRecord::dropped`], because one may turn up in a block after all.
    fn requeue(&self, claim: ClaimId) -> impl Future<Output = Result<()>> + Send;

    /// Dissolves a claim: `Queued` becomes `Released`, its winners `Won`. Floors stay. Only for a claim whose dropped
    /// transactions, if any, can never be mined (their account nonce is used).
    fn release(&self, claim: ClaimId) -> impl Future<Output = Result<()>> + Send;

    /// The block is final: `Mined` becomes `Final`, every winner gets its outcome. `outcomes` has each winner of the claim
    /// exactly once. `gas_used` in gas, `effective_gas_price` in wei per gas.
    fn finalize(
        &self,
        claim: ClaimId,
        outcomes: &[(B256, Outcome)],
        gas_used: u64,
        effective_gas_price: u128,
    ) -> impl Future<Output = Result<()>> + Send;

    /// One claim.
    fn claim(&self, claim: ClaimId) -> impl Future<Output = Result<Option<ClaimRecord>>> + Send;

    /// Claims that are neither final nor released, oldest first: what a merchant loads when it starts.
    fn unfinished_claims(&self) -> impl Future<Output = Result<Vec<ClaimRecord>>> + Send;

    /// The latest `limit` claims, newest first.
    fn claims(&self, limit: u32) -> impl Future<Output = Result<Vec<ClaimRecord>>> + Send;
}

/// Number of a claim within its store, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u64);

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A claim as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRecord {
    /// Its number.
    pub id: ClaimId,
    /// Where it stands.
    pub state: ClaimState,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// Its winners by escrow and rising nonce; none once released.
    pub wins: Vec<WinRecord>,
    /// Transactions that may be mined, in the order in which they were first added.
    pub transactions: Vec<TxRecord>,
    /// Transactions given up by a requeue.
    pub dropped: Vec<TxRecord>,
}

/// A signed transaction, saved before it is broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxRecord {
    /// Transaction hash.
    pub hash: B256,
    /// The signed transaction as it goes to the node, to broadcast it again.
    pub raw: Bytes,
    /// The sender's account nonce.
    pub account_nonce: u64,
    /// Wei per gas.
    pub max_fee_per_gas: u128,
    /// Wei per gas.
    pub max_priority_fee_per_gas: u128,
    /// When it was signed.
    pub sent_at: Timestamp,
}

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
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
    /// Dissolved; its winners went back.
    Released,
}

impl ClaimState {
    /// The state without its values.
    pub fn stage(&self) -> ClaimStage {
        match self {
            Self::Queued => ClaimStage::Queued,
            Self::Sent => ClaimStage::Sent,
            Self::Mined { .. } => ClaimStage::Mined,
            Self::Final { .. } => ClaimStage::Final,
            Self::Released => ClaimStage::Released,
        }
    }

    /// What the claim cost, wei; once it is final. None if it does not fit, which no real fee does.
    pub fn fee(&self) -> Option<Amount> {
        match self {
            Self::Final {
                gas_used,
                effective_gas_price,
                ..
            } => effective_gas_price.checked_mul(u128::from(*gas_used)).map(Amount),
            _ => None,
        }
    }

    /// Whether the claim still needs the claimer.
    pub fn is_unfinished(&self) -> bool {
        self.stage() < ClaimStage::Final
    }

    /// The state of a winner without an outcome that is in this claim.
    pub(crate) fn win_state(&self, claim: ClaimId) -> Option<WinState> {
        match self {
            Self::Queued => Some(WinState::Queued(claim)),
            Self::Sent => Some(WinState::Sent(claim)),
            Self::Mined { .. } => Some(WinState::Mined(claim)),
            Self::Final { .. } | Self::Released => None,
        }
    }

    // The state machine. Both backends ask here, so that they cannot differ.

    pub(crate) fn send(self, claim: ClaimId) -> Result<Self> {
        match self {
            Self::Queued | Self::Sent => Ok(Self::Sent),
            _ => Err(self.no_way(claim, ClaimStage::Sent)),
        }
    }

    /// `revived`: the transaction had been dropped.
    pub(crate) fn mine(self, claim: ClaimId, hash: B256, block: BlockRef, revived: bool) -> Result<Self> {
        let to = Self::Mined { hash, block };
        match self {
            Self::Sent => Ok(to),
            Self::Queued if revived => Ok(to),
            Self::Mined { .. } if self == to => Ok(to),
            _ => Err(self.no_way(claim, ClaimStage::Mined)),
        }
    }

    pub(crate) fn unmine(self, claim: ClaimId) -> Result<Self> {
        match self {
            Self::Mined { .. } => Ok(Self::Sent),
            _ => Err(self.no_way(claim, ClaimStage::Sent)),
        }
    }

    pub(crate) fn requeue(self, claim: ClaimId) -> Result<Self> {
        match self {
            Self::Sent | Self::Mined { .. } => Ok(Self::Queued),
            _ => Err(self.no_way(claim, ClaimStage::Queued)),
        }
    }

    pub(crate) fn release(self, claim: ClaimId) -> Result<Self> {
        match self {
            Self::Queued => Ok(Self::Released),
            _ => Err(self.no_way(claim, ClaimStage::Released)),
        }
    }

    pub(crate) fn finalize(self, claim: ClaimId, gas_used: u64, effective_gas_price: u128) -> Result<Self> {
        match self {
            Self::Mined { hash, block } => Ok(Self::Final {
                hash,
                block,
                gas_used,
                effective_gas_price,
            }),
            _ => Err(self.no_way(claim, ClaimStage::Final)),
        }
    }

    fn no_way(self, claim: ClaimId, to: ClaimStage) -> StoreError {
        StoreError::ClaimMove {
            claim,
            from: self,
            to,
        }
    }
}

impl fmt::Display for ClaimState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mined { block, .. } | Self::Final { block, .. } => {
                write!(f, "{} in block {}", self.stage(), block.number)
            }
            _ => write!(f, "{}", self.stage()),
        }
    }
}

/// [`ClaimState`] without its values, in the order of a claim's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimStage {
    /// See [`ClaimState::Queued`].
    Queued,
    /// See [`ClaimState::Sent`].
    Sent,
    /// See [`ClaimState::Mined`].
    Mined,
    /// See [`ClaimState::Final`].
    Final,
    /// See [`ClaimState::Released`].
    Released,
}

impl ClaimStage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Sent, Self::Mined, Self::Final, Self::Released];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Mined => "mined",
            Self::Final => "final",
            Self::Released => "released",
        }
    }
}

impl fmt::Display for ClaimStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a winner ended, as the contract's events say at a final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `Claimed`.
    Final {
        /// Credited to the recipient, atomic units.
        paid: Amount,
        /// Recorded as debt, atomic units.
        owed: Amount,
    },
    /// `TicketSkipped`.
    Refused {
        /// Selector of the contract's error.
        reason: B32,
        /// The error's first value.
        got: U256,
        /// The error's second value.
        limit: U256,
    },
}

impl From<Outcome> for WinState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Final { paid, owed } => Self::Final { paid, owed },
            Outcome::Refused { reason, got, limit } => Self::Refused { reason, got, limit },
        }
    }
}

/// Whether the outcomes name each winner of the claim exactly once.
pub(crate) fn check_outcomes(claim: ClaimId, wins: &[B256], outcomes: &[(B256, Outcome)]) -> Result<()> {
    let mut missing: std::collections::HashSet<B256> = wins.iter().copied().collect();
    for (digest, _) in outcomes {
        if !missing.remove(digest) {
            return Err(StoreError::OutcomeStray {
                claim,
                digest: *digest,
            });
        }
    }
    // The lowest one, so that every backend names the same.
    match missing.into_iter().min() {
        Some(digest) => Err(StoreError::OutcomeMissing { claim, digest }),
        None => Ok(()),
    }
}
