//! Everything in memory: for tests, simulation and benchmarks. Gone with the process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use alloy_primitives::{Address, B256, U256, aliases::B32};
use parking_lot::Mutex;
use protocol::ticket::{Amount, BlockRef, Escrows, Issued, Nonce, OrderId, Seed, Ticket, Timestamp, Won};

use crate::{
    ClaimId, ClaimRecord, ClaimState, ClaimStore, Issue, MirrorStore, OrderFilter, OrderRecord, OrderRequest,
    OrderState, OrderStore, OrderTotals, Outcome, Result, SeedStore, StoreError, StoreIdentity, TxRecord,
    WinFilter, WinRecord, WinStage, WinState, WinStore, WinTotals,
    claims::check_outcomes,
    mirror::check_cursor,
    orders::{check_move, check_signed, nonce_after},
};

/// A store in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    identity: StoreIdentity,
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
    floors: BTreeMap<Address, Nonce>,
    mirror: Option<(BlockRef, Escrows)>,
}

#[derive(Debug)]
struct Win {
    ticket: Ticket<Won>,
    order: OrderId,
    price: Amount,
    won_at: Timestamp,
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

impl MemoryStore {
    /// An empty store.
    pub fn new(identity: StoreIdentity) -> Self {
        Self {
            identity,
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

impl OrderStore for MemoryStore {
    async fn issue<F>(&self, request: OrderRequest, sign: F) -> Result<Issue>
    where
        F: FnOnce(Nonce) -> Ticket<Issued> + Send + 'static,
    {
        let mut tables = self.tables.lock();
        if let Some(key) = tables.order_keys.get(&request.order) {
            return Ok(Issue::Existing(tables.orders[key].clone()));
        }
        let nonce = tables.next_nonce(request.escrow);
        let after = nonce_after(request.escrow, nonce)?;
        let ticket = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sign(nonce)))
            .map_err(|_| StoreError::SignPanicked(request.order))?;
        check_signed(&self.identity.domain, &request, nonce, &ticket)?;
        let record = OrderRecord::new(&request, ticket);
        let key = (request.escrow, nonce);
        tables.next_nonces.insert(request.escrow, after);
        tables.order_keys.insert(request.order, key);
        tables.orders.insert(key, record.clone());
        Ok(Issue::Fresh(record))
    }

    async fn order(&self, id: OrderId) -> Result<Option<OrderRecord>> {
        let tables = self.tables.lock();
        Ok(tables.order_keys.get(&id).map(|key| tables.orders[key].clone()))
    }

    async fn resolve(&self, id: OrderId, state: OrderState) -> Result<bool> {
        let mut tables = self.tables.lock();
        let key = *tables.order_keys.get(&id).ok_or(StoreError::UnknownOrder(id))?;
        let record = tables.orders.get_mut(&key).ok_or(StoreError::UnknownOrder(id))?;
        let changes = check_move(record, &state)?;
        record.state = state;
        Ok(changes)
    }

    async fn raise_nonce(&self, escrow: Address, above: Nonce) -> Result<Nonce> {
        let mut tables = self.tables.lock();
        let next = nonce_after(escrow, above)?.max(tables.next_nonce(escrow));
        tables.next_nonces.insert(escrow, next);
        Ok(next)
    }

    async fn orders(&self, filter: impl Into<OrderFilter> + Send) -> Result<Vec<OrderRecord>> {
        let filter = filter.into();
        let tables = self.tables.lock();
        let chosen = tables
            .orders
            .values()
            .rev()
            .filter(|order| filter.escrow.is_none_or(|escrow| order.ticket.escrow() == escrow))
            .filter(|order| filter.stage.is_none_or(|stage| order.state.stage() == stage));
        let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut orders: Vec<_> = chosen.take(limit).cloned().collect();
        orders.reverse();
        Ok(orders)
    }

    async fn next_nonce(&self, escrow: Address) -> Result<Nonce> {
        Ok(self.tables.lock().next_nonce(escrow))
    }

    async fn order_totals(&self, escrow: Option<Address>) -> Result<OrderTotals> {
        let mut totals = OrderTotals::default();
        for order in self.tables.lock().orders.values() {
            if escrow.is_none_or(|escrow| order.ticket.escrow() == escrow) {
                totals.of_mut(order.state.stage()).add(1, order.price)?;
            }
        }
        Ok(totals)
    }
}

impl WinStore for MemoryStore {
    async fn save_win(
        &self,
        ticket: &Ticket<Won>,
        order: OrderId,
        price: Amount,
        at: Timestamp,
    ) -> Result<bool> {
        let mut tables = self.tables.lock();
        let key = (ticket.escrow(), ticket.nonce());
        let got = ticket.digest();
        if let Some(win) = tables.wins.get(&key) {
            let stored = win.ticket.digest();
            if stored == got {
                return Ok(false);
            }
            return Err(StoreError::NonceTaken {
                escrow: key.0,
                nonce: key.1,
                stored,
                got,
            });
        }
        let win = Win {
            ticket: ticket.clone(),
            order,
            price,
            won_at: at,
            claim: None,
            outcome: None,
        };
        tables.wins.insert(key, win);
        tables.win_keys.insert(got, key);
        Ok(true)
    }

    async fn win(&self, digest: B256) -> Result<Option<WinRecord>> {
        let tables = self.tables.lock();
        Ok(tables
            .win_keys
            .get(&digest)
            .map(|key| tables.win(&tables.wins[key])))
    }

    async fn wins(&self, filter: impl Into<WinFilter> + Send) -> Result<Vec<WinRecord>> {
        Ok(self.tables.lock().wins(filter.into()))
    }

    async fn unclaimed(&self, escrow: Address) -> Result<u32> {
        let tables = self.tables.lock();
        let open = tables
            .wins
            .iter()
            .filter(|((of, _), win)| *of == escrow && win.outcome.is_none());
        Ok(open.count() as u32)
    }

    async fn load_unfinished(&self) -> Result<Vec<WinRecord>> {
        let tables = self.tables.lock();
        let open = tables.wins.values().filter(|win| win.outcome.is_none());
        Ok(open.map(|win| tables.win(win)).collect())
    }

    async fn give_up(&self, digest: B256, reason: B32, got: U256, limit: U256) -> Result<()> {
        let mut tables = self.tables.lock();
        let key = *tables
            .win_keys
            .get(&digest)
            .ok_or(StoreError::UnknownWin(digest))?;
        let from = tables.win(&tables.wins[&key]).state;
        if from != WinState::Won {
            return Err(StoreError::WinMove {
                digest,
                from,
                to: WinStage::Refused,
            });
        }
        if let Some(win) = tables.wins.get_mut(&key) {
            win.outcome = Some(WinState::Refused { reason, got, limit });
        }
        Ok(())
    }

    async fn win_totals(&self) -> Result<WinTotals> {
        let tables = self.tables.lock();
        let mut totals = WinTotals::default();
        for win in tables.wins.values() {
            let state = tables.win(win).state;
            totals.add(state.stage(), 1, win.price)?;
            if let WinState::Final { paid, owed } = state {
                totals.add_settled(1, paid, owed)?;
            }
        }
        Ok(totals)
    }
}

impl ClaimStore for MemoryStore {
    async fn queue(&self, wins: &[B256], now: Timestamp) -> Result<ClaimId> {
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        if wins.is_empty() {
            return Err(StoreError::ClaimEmpty);
        }
        let id = ClaimId(tables.claims.len() as u64 + 1);
        // Judge all of them before changing any.
        let mut keys = Vec::with_capacity(wins.len());
        for &digest in wins {
            let key = *tables
                .win_keys
                .get(&digest)
                .ok_or(StoreError::UnknownWin(digest))?;
            let from = match tables.win(&tables.wins[&key]).state {
                WinState::Won if keys.contains(&key) => WinState::Queued(id),
                from => from,
            };
            if from != WinState::Won {
                return Err(StoreError::WinMove {
                    digest,
                    from,
                    to: WinStage::Queued,
                });
            }
            keys.push(key);
        }
        for key in keys {
            if let Some(win) = tables.wins.get_mut(&key) {
                win.claim = Some(id);
            }
            let floor = tables.floors.entry(key.0).or_default();
            *floor = key.1.max(*floor);
        }
        let claim = Claim {
            state: ClaimState::Queued,
            queued_at: now,
            transactions: Vec::new(),
        };
        tables.claims.insert(id, claim);
        Ok(id)
    }

    async fn floors(&self) -> Result<Vec<(Address, Nonce)>> {
        Ok(self
            .tables
            .lock()
            .floors
            .iter()
            .map(|(escrow, nonce)| (*escrow, *nonce))
            .collect())
    }

    async fn add_transaction(&self, id: ClaimId, transaction: &TxRecord) -> Result<()> {
        let hash = transaction.hash;
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        let claim = tables.claims.get_mut(&id).ok_or(StoreError::UnknownClaim(id))?;
        let to = claim.state.send(id)?;
        match tables.transactions.get(&hash) {
            Some(&stored) if stored != id => {
                return Err(StoreError::TransactionTaken {
                    hash,
                    got: id,
                    stored,
                });
            }
            Some(_) => claim.revive(hash),
            None => {
                tables.transactions.insert(hash, id);
                claim.transactions.push((transaction.clone(), false));
            }
        }
        claim.state = to;
        Ok(())
    }

    async fn mined(&self, id: ClaimId, hash: B256, block: BlockRef) -> Result<()> {
        self.step(id, |claim| {
            let known = claim.transactions.iter().find(|entry| entry.0.hash == hash);
            let (_, dropped) = known.ok_or(StoreError::UnknownTransaction { claim: id, hash })?;
            let to = claim.state.mine(id, hash, block, *dropped)?;
            claim.revive(hash);
            Ok(to)
        })
    }

    async fn unmined(&self, id: ClaimId) -> Result<()> {
        self.step(id, |claim| claim.state.unmine(id))
    }

    async fn requeue(&self, id: ClaimId) -> Result<()> {
        self.step(id, |claim| {
            let to = claim.state.requeue(id)?;
            for (_, dropped) in &mut claim.transactions {
                *dropped = true;
            }
            Ok(to)
        })
    }

    async fn release(&self, id: ClaimId) -> Result<()> {
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        let claim = tables.claims.get_mut(&id).ok_or(StoreError::UnknownClaim(id))?;
        claim.state = claim.state.release(id)?;
        for win in tables.wins.values_mut().filter(|win| win.claim == Some(id)) {
            win.claim = None;
        }
        Ok(())
    }

    async fn finalize(
        &self,
        id: ClaimId,
        outcomes: &[(B256, Outcome)],
        gas_used: u64,
        effective_gas_price: u128,
    ) -> Result<()> {
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        let claim = tables.claims.get_mut(&id).ok_or(StoreError::UnknownClaim(id))?;
        let to = claim.state.finalize(id, gas_used, effective_gas_price)?;
        let wins = tables.wins.values().filter(|win| win.claim == Some(id));
        check_outcomes(
            id,
            &wins.map(|win| win.ticket.digest()).collect::<Vec<_>>(),
            outcomes,
        )?;
        claim.state = to;
        for (digest, outcome) in outcomes {
            if let Some(win) = tables
                .win_keys
                .get(digest)
                .and_then(|key| tables.wins.get_mut(key))
            {
                win.outcome = Some((*outcome).into());
            }
        }
        Ok(())
    }

    async fn claim(&self, id: ClaimId) -> Result<Option<ClaimRecord>> {
        let tables = self.tables.lock();
        Ok(tables.claims.get(&id).map(|claim| tables.claim(id, claim)))
    }

    async fn unfinished_claims(&self) -> Result<Vec<ClaimRecord>> {
        let tables = self.tables.lock();
        let open = tables
            .claims
            .iter()
            .filter(|(_, claim)| claim.state.is_unfinished());
        Ok(open.map(|(id, claim)| tables.claim(*id, claim)).collect())
    }

    async fn claims(&self, limit: u32) -> Result<Vec<ClaimRecord>> {
        let tables = self.tables.lock();
        let latest = tables.claims.iter().rev().take(limit as usize);
        Ok(latest.map(|(id, claim)| tables.claim(*id, claim)).collect())
    }
}

impl Claim {
    fn revive(&mut self, hash: B256) {
        for (transaction, dropped) in &mut self.transactions {
            if transaction.hash == hash {
                *dropped = false;
            }
        }
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
