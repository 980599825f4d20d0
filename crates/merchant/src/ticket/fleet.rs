//! Several processes of one merchant on one database. Each quotes sessions of its own (its boot number is in their
//! secrets), so that a ticket is judged by the process that quoted it, in memory; anywhere else it is refused with fresh
//! terms. One process claims. Before a claim reveals anything, it raises the floors of the escrows concerned, and waits
//! until every living process has closed its sessions with them and has nothing in flight below.
//!
//! ```text
//!   claimer    raise_floors ──▶ acked by all? ──▶ read winners again ──▶ queue ──▶ send
//!   the others      └──▶ give_way: close sessions, raise floors, wait for flights ──▶ ack
//! ```
//!
//! A process lives by a lease on the database's clock. One that cannot renew it stops accepting by its own clock before
//! the others rule it dead, and begins anew under another boot number. A winner that it was storing meanwhile is refused by
//! the database if it is below a floor.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use parking_lot::Mutex;
use storage::{ClaimStore, FleetStore, Part, SeedStore, StoreError, WinStore};
use tracing::{info, warn};

use super::{AcceptError, Merchant};

/// Renewals in one lease.
const BEATS: u32 = 10;

/// Until when this process may accept, and whether it is the one that claims.
pub(crate) struct Lease {
    state: Mutex<State>,
}

struct State {
    boot: u64,
    /// `None`: there is no fleet, and no lease to keep.
    held: Option<Held>,
}

struct Held {
    /// When the last renewal that succeeded was asked for.
    since: Instant,
    length: Duration,
    part: Part,
    claims: bool,
    /// Round of floors that were taken over completely.
    acked: u64,
}

impl Lease {
    pub(crate) fn new(boot: u64) -> Self {
        Self {
            state: Mutex::new(State { boot, held: None }),
        }
    }

    /// Whether a ticket may be accepted now.
    pub(crate) fn check(&self) -> Result<(), AcceptError> {
        match &self.state.lock().held {
            Some(held) if held.since.elapsed() >= held.length => Err(AcceptError::LeaseOver {
                silent: held.since.elapsed().as_secs(),
                lease: held.length.as_secs(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether this process claims; alone it does.
    pub(crate) fn claims(&self) -> bool {
        let state = self.state.lock();
        state
            .held
            .as_ref()
            .is_none_or(|held| held.claims && held.since.elapsed() < held.length)
    }

    /// Whether there are other processes.
    pub(crate) fn is_shared(&self) -> bool {
        self.state.lock().held.is_some()
    }

    pub(crate) fn boot(&self) -> u64 {
        self.state.lock().boot
    }
}

impl<S> Merchant<S>
where
    S: SeedStore + WinStore + ClaimStore + FleetStore + Clone + Send + Sync + 'static,
{
    /// Joins the fleet with a lease of this length: to be called before anything is accepted, and then [`Self::beat`].
    pub async fn join(&self, lease: Duration, part: Part) -> Result<(), StoreError> {
        let since = Instant::now();
        let beat = self.store.beat(self.lease.boot(), 0, lease, part).await?;
        for (escrow, floor) in beat.floors {
            self.book.raise_floor(escrow, floor);
        }
        self.lease.state.lock().held = Some(Held {
            since,
            length: lease,
            part,
            claims: beat.claims,
            acked: beat.round,
        });
        Ok(())
    }

    /// Renews the lease, takes over what the others raised, and says what all have won. To be called every
    /// [`Self::beat_pause`].
    pub async fn beat(&self) -> Result<(), StoreError> {
        let Some((boot, acked, length, part)) = ({
            let state = self.lease.state.lock();
            state
                .held
                .as_ref()
                .map(|held| (state.boot, held.acked, held.length, held.part))
        }) else {
            return Ok(());
        };
        let since = Instant::now();
        let beat = match self.store.beat(boot, acked, length, part).await {
            Err(StoreError::Fenced { .. }) => return self.rejoin(length, part).await,
            beat => beat?,
        };
        let mut gave_way = true;
        for (escrow, floor) in beat.floors {
            gave_way &= self.book.give_way(escrow, floor);
        }
        {
            let mut state = self.lease.state.lock();
            if let Some(held) = &mut state.held {
                if held.claims != beat.claims {
                    info!(boot, claims = beat.claims, "the claimer of the fleet has changed");
                }
                held.since = since;
                held.claims = beat.claims;
                if gave_way {
                    held.acked = beat.round;
                }
            }
        }
        self.count_unclaimed().await
    }

    /// How often to beat.
    pub fn beat_pause(lease: Duration) -> Duration {
        lease / BEATS
    }

    /// Ends this process's part: it accepts nothing more, and the others need not wait for it.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let boot = {
            let mut state = self.lease.state.lock();
            if let Some(held) = &mut state.held {
                held.length = Duration::ZERO;
            }
            state.boot
        };
        self.store.leave(boot).await
    }

    /// Whether this process claims now. Alone it does.
    pub fn claims(&self) -> bool {
        self.lease.claims()
    }

    /// Ruled dead: whatever it quoted is void, and it begins anew.
    async fn rejoin(&self, lease: Duration, part: Part) -> Result<(), StoreError> {
        let boot = self.store.next_boot().await?;
        warn!(
            old = self.lease.boot(),
            boot, "the lease was over; all sessions begin anew"
        );
        self.book.restart(boot);
        self.lease.state.lock().boot = boot;
        self.join(lease, part).await
    }

    /// Winners of all processes count as this one's exposure: the claim of one settles another's.
    async fn count_unclaimed(&self) -> Result<(), StoreError> {
        let mut unclaimed: HashMap<Address, u32> = HashMap::new();
        for win in self.store.load_unfinished().await? {
            *unclaimed.entry(win.ticket.escrow()).or_default() += 1;
        }
        self.book.set_unclaimed(unclaimed);
        Ok(())
    }
}
