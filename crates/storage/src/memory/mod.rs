//! Everything in memory: for tests, simulation and benchmarks. Gone with the process.

mod channel;
mod claims;
mod fleet;
mod offline;
mod orders;
mod wins;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256};
use parking_lot::Mutex;
use protocol::ticket::{Amount, BlockRef, Escrows, Nonce, OrderId, Seed, Ticket, Timestamp, Won};

use crate::{
    ClaimId, ClaimRecord, ClaimState, MirrorStore, OrderRecord, Result, SeedStore, StoreError, StoreIdentity,
    TxRecord, WinFilter, WinRecord, WinState, mirror::check_cursor,
};

/// A store in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    identity: StoreIdentity,
    /// Its clock counts from here.
    born: Instant,
    tables: Arc<Mutex<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    seed: Option<Seed>,
    boot: u64,
    next_nonces: HashMap<Address, Nonce>,
    orders: BTreeMap<(Address, Nonce), OrderRecord>,
    order_keys: HashMap<OrderId, (Address, Nonce)>,
    wins: BTreeMap<(Address, Nonce), Win>,
    win_keys: HashMap<B256, (Address, Nonce)>,
    claims: BTreeMap<ClaimId, Claim>,
    transactions: HashMap<B256, ClaimId>,
    spent: HashMap<String, Amount>,
    floors: BTreeMap<Address, Floor>,
    members: BTreeMap<u64, Member>,
    mirror: Option<(BlockRef, Escrows)>,
    channels: channel::Tables,
    offline: offline::Tables,
}

#[derive(Debug)]
struct Win {
    ticket: Ticket<Won>,
    order: OrderId,
    price: Amount,
    won_at: Timestamp,
    delivered: bool,
    claim: Option<ClaimId>,
    outcome: Option<WinState>,
}

#[derive(Debug)]
struct Claim {
    state: ClaimState,
    queued_at: Timestamp,
    /// With whether they count as dropped.
    transactions: Vec<(TxRecord, bool)>,
}

#[derive(Debug, Default)]
struct Floor {
    nonce: Nonce,
    /// 0: raised by a claim only.
    round: u64,
}

/// A process that lives, or has lived.
#[derive(Debug)]
struct Member {
    acked: u64,
    /// On the store's clock; None once it is over, for ever.
    lease_end: Option<Duration>,
    claims: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(identity: StoreIdentity) -> Self {
        Self {
            identity,
            born: Instant::now(),
            tables: Arc::default(),
        }
    }

    /// What the store is for.
    pub fn identity(&self) -> StoreIdentity {
        self.identity
    }

    /// Moves a claim, with what goes with the move.
    fn step(&self, id: ClaimId, step: impl FnOnce(&mut Claim) -> Result<ClaimState>) -> Result<()> {
        let mut tables = self.tables.lock();
        let claim = tables.claims.get_mut(&id).ok_or(StoreError::UnknownClaim(id))?;
        claim.state = step(claim)?;
        Ok(())
    }
}

impl Tables {
    fn win(&self, win: &Win) -> WinRecord {
        let in_claim = || {
            let id = win.claim?;
            self.claims.get(&id)?.state.win_state(id)
        };
        WinRecord {
            ticket: win.ticket.clone(),
            order: win.order,
            price: win.price,
            won_at: win.won_at,
            delivered: win.delivered,
            claim: win.claim,
            state: win.outcome.or_else(in_claim).unwrap_or(WinState::Won),
        }
    }

    fn wins(&self, filter: WinFilter) -> Vec<WinRecord> {
        self.wins
            .values()
            .map(|win| self.win(win))
            .filter(|win| filter.stage.is_none_or(|stage| win.state.stage() == stage))
            .filter(|win| filter.escrow.is_none_or(|escrow| win.ticket.escrow() == escrow))
            .filter(|win| filter.claim.is_none_or(|claim| win.claim == Some(claim)))
            .take(filter.limit.map_or(usize::MAX, |limit| limit as usize))
            .collect()
    }

    fn claim(&self, id: ClaimId, claim: &Claim) -> ClaimRecord {
        let list = |dropped| {
            let chosen = claim.transactions.iter().filter(|entry| entry.1 == dropped);
            chosen.map(|(transaction, _)| transaction.clone()).collect()
        };
        ClaimRecord {
            id,
            state: claim.state,
            queued_at: claim.queued_at,
            wins: self.wins(WinFilter::from(id)),
            transactions: list(false),
            dropped: list(true),
        }
    }

    fn raise_floor(&mut self, escrow: Address, nonce: Nonce) -> &mut Floor {
        let floor = self.floors.entry(escrow).or_default();
        floor.nonce = nonce.max(floor.nonce);
        floor
    }

    fn next_nonce(&self, escrow: Address) -> Nonce {
        self.next_nonces.get(&escrow).copied().unwrap_or(Nonce(1))
    }
}

impl SeedStore for MemoryStore {
    async fn seed_or_insert(&self, fresh: Seed) -> Result<Seed> {
        Ok(self.tables.lock().seed.get_or_insert(fresh).clone())
    }

    async fn next_boot(&self) -> Result<u64> {
        let mut tables = self.tables.lock();
        tables.boot += 1;
        Ok(tables.boot)
    }
}

impl MirrorStore for MemoryStore {
    async fn load_mirror(&self) -> Result<Option<(BlockRef, Escrows)>> {
        Ok(self.tables.lock().mirror.clone())
    }

    async fn save_mirror(&self, cursor: BlockRef, changed: &Escrows) -> Result<()> {
        let mut tables = self.tables.lock();
        check_cursor(tables.mirror.as_ref().map(|(cursor, _)| *cursor), cursor)?;
        let escrows = match tables.mirror.take() {
            Some((_, mut escrows)) => {
                escrows.extend(changed.iter().map(|(escrow, record)| (*escrow, record.clone())));
                escrows
            }
            None => changed.clone(),
        };
        tables.mirror = Some((cursor, escrows));
        Ok(())
    }

    async fn forget_mirror(&self) -> Result<()> {
        self.tables.lock().mirror = None;
        Ok(())
    }
}
