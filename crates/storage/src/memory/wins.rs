//! [`WinStore`] in memory.

use alloy_primitives::{Address, B256, U256, aliases::B32};
use protocol::ticket::{Amount, OrderId, Ticket, Timestamp, Won};

use super::{MemoryStore, Win};
use crate::{
    Result, StoreError, WinFilter, WinRecord, WinStage, WinState, WinStore, WinTotals, wins::check_void,
};

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
        if let Some(floor) = tables.floors.get(&key.0)
            && key.1 <= floor.nonce
        {
            return Err(StoreError::BelowFloor {
                escrow: key.0,
                nonce: key.1,
                floor: floor.nonce,
            });
        }
        let win = Win {
            ticket: ticket.clone(),
            order,
            price,
            won_at: at,
            delivered: false,
            claim: None,
            outcome: None,
        };
        tables.wins.insert(key, win);
        tables.win_keys.insert(got, key);
        Ok(true)
    }

    async fn mark_delivered(&self, digest: B256) -> Result<()> {
        let mut guard = self.tables.lock();
        let tables = &mut *guard;
        let key = tables.win_keys.get(&digest);
        let win = key.and_then(|key| tables.wins.get_mut(key));
        win.ok_or(StoreError::UnknownWin(digest))?.delivered = true;
        Ok(())
    }

    async fn void(&self, digest: B256) -> Result<()> {
        let mut tables = self.tables.lock();
        let Some(&key) = tables.win_keys.get(&digest) else {
            return Ok(());
        };
        check_void(&tables.win(&tables.wins[&key]))?;
        tables.win_keys.remove(&digest);
        tables.wins.remove(&key);
        Ok(())
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
