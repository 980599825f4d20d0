//! Watch: when a vendor has to act. A channel that is forgotten pays its client back, so that somebody has to look at it
//! now and then: the vendor, or for checkpoints a watcher without a key.

use super::{Amount, Index, Seconds, Timestamp};

/// What a vendor is willing to leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchPolicy {
    /// A close is sent this long before the expiry. At least the margin at which payments are no longer accepted.
    pub margin: Seconds,
    /// Most that may be paid and not settled, atomic units.
    pub max_unsettled: Amount,
    /// A channel without a payment for so long is closed. `None`: only its expiry closes it.
    pub max_idle: Option<Seconds>,
    /// Least that is worth a transaction, atomic units. Less is given up, but for a channel that pays nothing it costs.
    pub min_worth: Amount,
}

/// What is known of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Index of the highest word.
    pub paid: Index,
    /// What the contract has credited, at the newest block.
    pub settled: Index,
    /// What one unit is worth, atomic units.
    pub unit: Amount,
    /// Last second in which the vendor can close.
    pub expiry: Timestamp,
    /// When the last payment was accepted.
    pub last_payment: Timestamp,
    /// Whether the channel is over at the newest block.
    pub closed: bool,
    /// Whether a lock did not open, a checkpoint was wrong, or two receipts contradict each other.
    pub misbehaved: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchDecision {
    /// Nothing, yet.
    Wait,
    /// Settle what was paid, and go on.
    Checkpoint,
    /// Settle, and end the channel.
    Close(CloseReason),
}

/// Why a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It expires.
    Expiry,
    /// The client does not keep to the protocol.
    Misbehaviour,
    /// Nothing is bought any more.
    Idle,
}

impl Default for WatchPolicy {
    fn default() -> Self {
        Self {
            margin: Seconds::HOUR.times(6),
            max_unsettled: Amount::MAX,
            max_idle: None,
            min_worth: Amount::ZERO,
        }
    }
}

/// Decides for one channel. Time first: whatever else is wrong, the expiry does not wait.
pub fn when_to_close(sighting: &Sighting, now: Timestamp, policy: &WatchPolicy) -> WatchDecision {
    let unsettled = sighting
        .unit
        .saturating_mul(sighting.paid.above(sighting.settled).into());
    if sighting.closed || now > sighting.expiry {
        // Over: a late close only costs gas.
        return WatchDecision::Wait;
    }
    if unsettled == Amount::ZERO || unsettled < policy.min_worth {
        return WatchDecision::Wait;
    }
    if now.plus(policy.margin) >= sighting.expiry {
        return WatchDecision::Close(CloseReason::Expiry);
    }
    if sighting.misbehaved {
        return WatchDecision::Close(CloseReason::Misbehaviour);
    }
    if policy
        .max_idle
        .is_some_and(|idle| now.since(sighting.last_payment) >= idle)
    {
        return WatchDecision::Close(CloseReason::Idle);
    }
    if unsettled > policy.max_unsettled {
        return WatchDecision::Checkpoint;
    }
    WatchDecision::Wait
}
