//! [`ClaimStore`] in memory.

use alloy_primitives::{Address, B256};
use protocol::ticket::{BlockRef, Nonce, Timestamp};

use super::{Claim, MemoryStore};
use crate::{
    ClaimId, ClaimRecord, ClaimState, ClaimStore, Outcome, Result, StoreError, TxRecord, WinStage, WinState,
    claims::check_outcomes,
};

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
            tables.raise_floor(key.0, key.1);
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
            .map(|(escrow, floor)| (*escrow, floor.nonce))
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
