//! [`FleetStore`] in memory. The clock is the process's own, so a fleet here is of tasks.

use std::time::Duration;

use alloy_primitives::Address;
use protocol::ticket::Nonce;

use super::{Member, MemoryStore, Tables};
use crate::{Beat, FleetStore, Part, Result, StoreError};

impl FleetStore for MemoryStore {
    async fn beat(&self, boot: u64, acked: u64, lease: Duration, part: Part) -> Result<Beat> {
        let now = self.born.elapsed();
        let mut tables = self.tables.lock();
        tables.bury(now);
        let round = tables.round();
        let known = tables.members.get(&boot);
        if known.is_some_and(|member| member.lease_end.is_none()) {
            return Err(StoreError::Fenced { boot });
        }
        let acked = acked.min(round).max(known.map_or(0, |member| member.acked));
        let claimer = tables.members.iter().find(|(_, member)| member.claims);
        let claims = part == Part::MayClaim && claimer.is_none_or(|(claimer, _)| *claimer == boot);
        let member = Member {
            acked,
            lease_end: Some(now.saturating_add(lease)),
            claims,
        };
        tables.members.insert(boot, member);
        let floors = tables.floors.iter();
        let floors = floors.filter(|(_, floor)| acked == 0 || floor.round > acked);
        Ok(Beat {
            round,
            floors: floors.map(|(escrow, floor)| (*escrow, floor.nonce)).collect(),
            claims,
        })
    }

    async fn raise_floors(&self, floors: &[(Address, Nonce)]) -> Result<u64> {
        let mut tables = self.tables.lock();
        let round = tables.round() + u64::from(!floors.is_empty());
        for (escrow, nonce) in floors {
            tables.raise_floor(*escrow, *nonce).round = round;
        }
        Ok(round)
    }

    async fn acked(&self, round: u64, except: Option<u64>) -> Result<bool> {
        let now = self.born.elapsed();
        let mut tables = self.tables.lock();
        tables.bury(now);
        Ok(tables.members.iter().all(|(boot, member)| {
            member.lease_end.is_none() || member.acked >= round || Some(*boot) == except
        }))
    }

    async fn leave(&self, boot: u64) -> Result<()> {
        if let Some(member) = self.tables.lock().members.get_mut(&boot) {
            member.end();
        }
        Ok(())
    }
}

impl Tables {
    /// Whose lease has run out by now is out for ever.
    fn bury(&mut self, now: Duration) {
        for member in self.members.values_mut() {
            if member.lease_end.is_some_and(|end| end <= now) {
                member.end();
            }
        }
    }

    fn round(&self) -> u64 {
        self.floors.values().map(|floor| floor.round).max().unwrap_or(0)
    }
}

impl Member {
    fn end(&mut self) {
        self.lease_end = None;
        self.claims = false;
    }
}
