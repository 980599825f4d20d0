//! The merchant's winners. A loser needs no disk; a winner is money, so it is durable before the good is delivered. From
//! then on its state is that of its claim (see [`claims`](crate::claims)).
//!
//! ```text
//!   save_win ──▶ Won ──queue──▶ Queued ──▶ Sent ──▶ Mined ──finalize──▶ Final { paid, owed }
//!                 │ ▲             │          (with its claim)     └────▶ Refused { reason, got, limit }
//!                 │ └──release────┘                                        ▲
//!                 ├───────────────────────give_up──────────────────────────┘
//!                 └──void──▶ (gone; not if delivered)
//! ```
//! Beside that, [`WinStore::mark_delivered`] notes in any state that the good was delivered.

use std::fmt;

use alloy_primitives::{Address, B256, U256, aliases::B32};
use protocol::ticket::{Amount, OrderId, Ticket, Timestamp, Won};

use crate::{ClaimId, Result, StoreError};

/// Winners, from the draw to the money.
pub trait WinStore {
    /// Stores a winner; durable on return. Concurrent calls share one flush to disk. True if it is new, false if this very
    /// ticket is stored already. Another ticket with the same escrow and nonce is
    /// [`NonceTaken`](crate::StoreError::NonceTaken). A new one at or below the escrow's floor is
    /// [`BelowFloor`](crate::StoreError::BelowFloor): another process has put a higher nonce into a claim, so this one could
    /// never be paid.
    ///
    /// `order` is the purchase that it paid for, `price` what the ticket was worth (prize × win probability, atomic
    /// units), `at` now.
    fn save_win(
        &self,
        ticket: &Ticket<Won>,
        order: OrderId,
        price: Amount,
        at: Timestamp,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Notes that the winner's good was delivered. Saying it again changes nothing.
    fn mark_delivered(&self, digest: B256) -> impl Future<Output = Result<()>> + Send;

    /// The good was not delivered, so the ticket is not consumed: removes the winner, and the same ticket may win again. One
    /// that was delivered or has left `Won` is [`NotVoid`](crate::StoreError::NotVoid). One that is not stored is what was
    /// asked for, so that it can be asked again after a lost answer.
    fn void(&self, digest: B256) -> impl Future<Output = Result<()>> + Send;

    /// One winner by its ticket digest.
    fn win(&self, digest: B256) -> impl Future<Output = Result<Option<WinRecord>>> + Send;

    /// Winners by escrow and rising nonce. A [`WinStage`] or [`ClaimId`] is a filter, too.
    fn wins(
        &self,
        filter: impl Into<WinFilter> + Send,
    ) -> impl Future<Output = Result<Vec<WinRecord>>> + Send;

    /// Winners of an escrow that are neither final nor refused.
    fn unclaimed(&self, escrow: Address) -> impl Future<Output = Result<u32>> + Send;

    /// Every winner that is neither final nor refused, by escrow and rising nonce: what a merchant loads when it starts.
    fn load_unfinished(&self) -> impl Future<Output = Result<Vec<WinRecord>>> + Send;

    /// Marks a winner that can never be paid (expired, escrow gone) and is in no claim: `Won` becomes `Refused`. The
    /// values are those of the contract's error.
    fn give_up(
        &self,
        digest: B256,
        reason: B32,
        got: U256,
        limit: U256,
    ) -> impl Future<Output = Result<()>> + Send;

    /// How many winners are in which state, and what they are worth.
    fn win_totals(&self) -> impl Future<Output = Result<WinTotals>> + Send;
}

/// A winner as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct WinRecord {
    /// The ticket, with its session and `r1`.
    pub ticket: Ticket<Won>,
    /// The purchase that it paid for: a payer whose answer was lost gets its good again, and nothing else.
    pub order: OrderId,
    /// What the ticket was worth, atomic units.
    pub price: Amount,
    /// When it was drawn.
    pub won_at: Timestamp,
    /// Whether its good is known to have been delivered. False also if the process ended in between.
    pub delivered: bool,
    /// The claim that it is or was in.
    pub claim: Option<ClaimId>,
    /// Where it stands.
    pub state: WinState,
}

/// Where a winner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WinState {
    /// Stored, in no claim.
    Won,
    /// In a claim without a transaction.
    Queued(ClaimId),
    /// In a claim whose transaction may be on its way.
    Sent(ClaimId),
    /// In a claim whose transaction is in a block that is not final yet.
    Mined(ClaimId),
    /// Settled for good.
    Final {
        /// Credited to the recipient, atomic units.
        paid: Amount,
        /// Recorded as the escrow's debt, atomic units.
        owed: Amount,
    },
    /// Refused for good, by the contract or as hopeless.
    Refused {
        /// Selector of the contract's error.
        reason: B32,
        /// The error's first value.
        got: U256,
        /// The error's second value.
        limit: U256,
    },
}

impl WinState {
    /// The state without its values.
    pub fn stage(&self) -> WinStage {
        match self {
            Self::Won => WinStage::Won,
            Self::Queued(_) => WinStage::Queued,
            Self::Sent(_) => WinStage::Sent,
            Self::Mined(_) => WinStage::Mined,
            Self::Final { .. } => WinStage::Final,
            Self::Refused { .. } => WinStage::Refused,
        }
    }
}

impl fmt::Display for WinState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Won => f.write_str("won"),
            Self::Queued(claim) | Self::Sent(claim) | Self::Mined(claim) => {
                write!(f, "{} in claim {claim}", self.stage())
            }
            Self::Final { paid, owed } => write!(f, "final (paid {paid}, owed {owed})"),
            Self::Refused { reason, got, limit } => {
                write!(f, "refused (reason {reason}, got {got}, limit {limit})")
            }
        }
    }
}

/// [`WinState`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WinStage {
    /// See [`WinState::Won`].
    Won,
    /// See [`WinState::Queued`].
    Queued,
    /// See [`WinState::Sent`].
    Sent,
    /// See [`WinState::Mined`].
    Mined,
    /// See [`WinState::Final`].
    Final,
    /// See [`WinState::Refused`].
    Refused,
}

impl WinStage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::Won,
        Self::Queued,
        Self::Sent,
        Self::Mined,
        Self::Final,
        Self::Refused,
    ];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Mined => "mined",
            Self::Final => "final",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for WinStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which winners to list. The default is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WinFilter {
    /// Only in this state.
    pub stage: Option<WinStage>,
    /// Only of this escrow.
    pub escrow: Option<Address>,
    /// Only of this claim.
    pub claim: Option<ClaimId>,
    /// At most so many, the first in order.
    pub limit: Option<u32>,
}

impl From<WinStage> for WinFilter {
    fn from(stage: WinStage) -> Self {
        Self {
            stage: Some(stage),
            ..Self::default()
        }
    }
}

impl From<ClaimId> for WinFilter {
    fn from(claim: ClaimId) -> Self {
        Self {
            claim: Some(claim),
            ..Self::default()
        }
    }
}

impl From<Address> for WinFilter {
    fn from(escrow: Address) -> Self {
        Self {
            escrow: Some(escrow),
            ..Self::default()
        }
    }
}

/// A number of tickets, or of payments, and what they were worth together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many.
    pub count: u64,
    /// Sum of their prices, atomic units.
    pub price: Amount,
}

impl Total {
    /// The sum of two totals.
    pub fn plus(self, other: Self) -> Result<Self> {
        let sum = || {
            Some(Self {
                count: self.count.checked_add(other.count)?,
                price: Amount(self.price.0.checked_add(other.price.0)?),
            })
        };
        sum().ok_or(StoreError::SumTooLarge {
            a: self.price,
            b: other.price,
        })
    }

    /// Adds `count` tickets of `price` each.
    pub(crate) fn add(&mut self, count: u64, price: Amount) -> Result<()> {
        let worth = price
            .0
            .checked_mul(u128::from(count))
            .ok_or(StoreError::SumTooLarge {
                a: price,
                b: Amount(u128::from(count)),
            })?;
        *self = self.plus(Self {
            count,
            price: Amount(worth),
        })?;
        Ok(())
    }
}

/// Winners by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WinTotals {
    /// In no claim.
    pub won: Total,
    /// In a claim without a transaction.
    pub queued: Total,
    /// In a claim whose transaction may be on its way.
    pub sent: Total,
    /// In a block that is not final.
    pub mined: Total,
    /// Settled.
    pub settled: Total,
    /// Refused for good.
    pub refused: Total,
    /// What the settled ones were credited with, atomic units.
    pub paid: Amount,
    /// What the settled ones are or were owed by their escrows, atomic units.
    pub owed: Amount,
}

impl WinTotals {
    /// Winners in any state.
    pub fn all(&self) -> Result<Total> {
        self.unfinished()?.plus(self.settled)?.plus(self.refused)
    }

    /// Winners that are neither final nor refused.
    pub fn unfinished(&self) -> Result<Total> {
        self.won.plus(self.queued)?.plus(self.sent)?.plus(self.mined)
    }

    /// The winners of one stage.
    pub fn of(&self, stage: WinStage) -> Total {
        match stage {
            WinStage::Won => self.won,
            WinStage::Queued => self.queued,
            WinStage::Sent => self.sent,
            WinStage::Mined => self.mined,
            WinStage::Final => self.settled,
            WinStage::Refused => self.refused,
        }
    }

    /// Adds `count` winners of `price` each in this stage.
    pub(crate) fn add(&mut self, stage: WinStage, count: u64, price: Amount) -> Result<()> {
        let total = match stage {
            WinStage::Won => &mut self.won,
            WinStage::Queued => &mut self.queued,
            WinStage::Sent => &mut self.sent,
            WinStage::Mined => &mut self.mined,
            WinStage::Final => &mut self.settled,
            WinStage::Refused => &mut self.refused,
        };
        total.add(count, price)
    }

    /// Adds what `count` winners were settled with each.
    pub(crate) fn add_settled(&mut self, count: u64, paid: Amount, owed: Amount) -> Result<()> {
        for (sum, each) in [(&mut self.paid, paid), (&mut self.owed, owed)] {
            let mut total = Total {
                count: 0,
                price: *sum,
            };
            total.add(count, each)?;
            *sum = total.price;
        }
        Ok(())
    }
}

/// Whether a winner may be forgotten as if its ticket had never come.
pub(crate) fn check_void(win: &WinRecord) -> Result<()> {
    if win.state == WinState::Won && !win.delivered {
        return Ok(());
    }
    Err(StoreError::NotVoid {
        digest: win.ticket.digest(),
        state: win.state,
        delivered: win.delivered,
    })
}
