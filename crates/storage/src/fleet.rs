//! Several processes of one merchant on one store. Each takes tickets of every escrow, and one of them claims. A claim
//! reveals the secrets of the sessions that it closes, so before it does, every process must have taken over the floors
//! that it raises; a process that does not answer is waited for no longer than its lease.
//!
//! ```text
//!            beat (first)              beat
//!   next_boot ──────────▶ member ──┬────────▶ member
//!                                  └─ leave, or the lease runs out ──▶ Fenced, for ever
//!
//!   claimer:  raise_floors ──▶ round ──▶ acked(round)? ──▶ queue, reveal
//!   others:   beat(acked) ──▶ floors of later rounds, taken over ──▶ beat(round)
//! ```
//! Safety needs: a process accepts nothing after its lease has run out **on its own clock, counted from before its last
//! beat was sent**; clocks may differ, but not in speed. Liveness needs: the lease is longer than the time between two
//! beats.

use std::time::Duration;

use alloy_primitives::Address;
use protocol::ticket::Nonce;

use crate::Result;

/// Several processes of one merchant on one store: each lives by a lease on the store's clock, one of them claims, and a
/// floor raised by one is taken over by all before a claim reveals anything.
pub trait FleetStore {
    /// Process `boot` (from [`SeedStore::next_boot`](crate::SeedStore::next_boot)) lives for `lease` from now, on the
    /// store's clock; `acked` is the last round whose floors it has taken over completely. The first call joins, with
    /// `acked` 0.
    ///
    /// Of the processes that may claim one does, see [`Beat::claims`]; one that only sells never does.
    ///
    /// If the process's lease has run out or it left, [`Fenced`](crate::StoreError::Fenced), now and for ever: it must
    /// accept nothing more under this number, and join with another.
    fn beat(
        &self,
        boot: u64,
        acked: u64,
        lease: Duration,
        part: Part,
    ) -> impl Future<Output = Result<Beat>> + Send;

    /// Raises floors (never lowers), durably, all in one round, which every process is then told of, also of a floor that
    /// was so high already. Returns the round's number, from 1 and rising; with nothing to raise that of the last round
    /// (0: there was none).
    fn raise_floors(&self, floors: &[(Address, Nonce)]) -> impl Future<Output = Result<u64>> + Send;

    /// Whether every process whose lease has not run out has acked this round, but for the asking one (`except`). From
    /// then on no process accepts a ticket at or below the round's floors: who has not acked is fenced.
    fn acked(&self, round: u64, except: Option<u64>) -> impl Future<Output = Result<bool>> + Send;

    /// The process ends: its lease is over now. Nothing happens if it never joined.
    fn leave(&self, boot: u64) -> impl Future<Output = Result<()>> + Send;
}

/// What a process of a fleet can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It sells, and claims if it comes to that.
    MayClaim,
    /// It has no key to claim with.
    SellsOnly,
}

/// What [`FleetStore::beat`] tells a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The last round. A process acks it when it has taken over `floors`.
    pub round: u64,
    /// Floors raised in rounds after the one that this process has acked, by escrow; all there are if it has acked none.
    pub floors: Vec<(Address, Nonce)>,
    /// Whether this process is the one that claims: whoever may and was first, and when that one is out, the next to beat.
    pub claims: bool,
}
