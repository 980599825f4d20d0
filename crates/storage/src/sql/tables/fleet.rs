//! [`FleetStore`] in SQL. Leases are on the database's clock, so that the clocks of processes on several machines need not
//! agree.

use std::time::Duration;

use alloy_primitives::Address;
use protocol::ticket::Nonce;

use super::{
    Connection, NOW, Row, SqlStore,
    columns::{Bind, Fields},
    database_error,
    writer::Write,
};
use crate::{Beat, FleetStore, Part, Result, StoreError};

impl FleetStore for SqlStore {
    async fn beat(&self, boot: u64, acked: u64, lease: Duration, part: Part) -> Result<Beat> {
        let beat = BeatOnce {
            boot,
            acked,
            lease,
            part,
        };
        self.writer.write(beat).await
    }

    async fn raise_floors(&self, floors: &[(Address, Nonce)]) -> Result<u64> {
        self.writer.write(RaiseFloors(floors.to_vec())).await
    }

    async fn acked(&self, round: u64, except: Option<u64>) -> Result<bool> {
        self.writer.write(Acked { round, except }).await
    }

    async fn leave(&self, boot: u64) -> Result<()> {
        self.writer.write(Leave(boot)).await
    }
}

struct BeatOnce {
    boot: u64,
    acked: u64,
    lease: Duration,
    part: Part,
}

impl Write for BeatOnce {
    type Out = Beat;
    // A refusal undoes nothing: whose lease has run out stays out.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "beating";

    async fn apply(self, conn: &mut Connection) -> Result<Beat> {
        let failed = |error| database_error(Self::DOING, error);
        let now_ms = bury(conn).await?;
        let round = last_round(conn).await?;
        let known = sqlx::query("SELECT boot, acked, lease_end_ms FROM members WHERE boot = $1")
            .blob(&self.boot)
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?;
        let before = known.as_ref().map(member).transpose()?;
        if before.as_ref().is_some_and(|before| !before.lives) {
            return Err(StoreError::Fenced { boot: self.boot });
        }
        let acked = self.acked.min(round).max(before.map_or(0, |before| before.acked));
        let claimer = sqlx::query("SELECT boot FROM members WHERE claims = 1")
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?;
        let free = match &claimer {
            Some(row) => Fields::new(row, "members", "boot").get::<u64>("boot")? == self.boot,
            None => true,
        };
        let claims = free && self.part == Part::MayClaim;
        let lease_ms = i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX);
        sqlx::query(
            "INSERT INTO members (boot, acked, lease_end_ms, claims) VALUES ($1, $2, $3, $4)
             ON CONFLICT (boot) DO UPDATE SET acked = excluded.acked, lease_end_ms = excluded.lease_end_ms,
                 claims = excluded.claims",
        )
        .blob(&self.boot)
        .blob(&acked)
        .bind(now_ms.saturating_add(lease_ms))
        .bind(i64::from(claims))
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
        // Who has acked no round gets the floors of claims, too, which have round 0.
        let from = if acked == 0 { 0 } else { acked + 1 };
        let rows = sqlx::query("SELECT escrow, nonce FROM floors WHERE round >= $1 ORDER BY escrow")
            .blob(&from)
            .fetch_all(conn)
            .await
            .map_err(failed)?;
        let floors = rows.iter().map(|row| {
            let fields = Fields::new(row, "floors", "escrow");
            Ok((fields.get("escrow")?, fields.get("nonce")?))
        });
        Ok(Beat {
            round,
            floors: floors.collect::<Result<_>>()?,
            claims,
        })
    }
}

struct RaiseFloors(Vec<(Address, Nonce)>);

impl Write for RaiseFloors {
    type Out = u64;
    const DOING: &'static str = "raising floors";

    async fn apply(self, conn: &mut Connection) -> Result<u64> {
        let last = last_round(conn).await?;
        if self.0.is_empty() {
            return Ok(last);
        }
        let round = last + 1;
        for (escrow, nonce) in self.0 {
            // One that is so high already may have been raised by a claim, which no process was told of.
            sqlx::query(
                "INSERT INTO floors (escrow, nonce, round) VALUES ($1, $2, $3)
                 ON CONFLICT (escrow) DO UPDATE SET round = excluded.round,
                     nonce = CASE WHEN floors.nonce < excluded.nonce THEN excluded.nonce ELSE floors.nonce END",
            )
            .blob(&escrow)
            .blob(&nonce)
            .blob(&round)
            .execute(&mut *conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        }
        Ok(round)
    }
}

/// Writes, too: who is not waited for must be out for ever.
struct Acked {
    round: u64,
    except: Option<u64>,
}

impl Write for Acked {
    type Out = bool;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "asking who knows of a round";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        bury(conn).await?;
        let rows =
            sqlx::query("SELECT boot, acked, lease_end_ms FROM members WHERE lease_end_ms IS NOT NULL")
                .fetch_all(conn)
                .await
                .map_err(|error| database_error(Self::DOING, error))?;
        for row in &rows {
            let member = member(row)?;
            if member.acked < self.round && Some(member.boot) != self.except {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

struct Leave(u64);

impl Write for Leave {
    type Out = ();
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "leaving the fleet";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        sqlx::query("UPDATE members SET lease_end_ms = NULL, claims = 0 WHERE boot = $1")
            .blob(&self.0)
            .execute(conn)
            .await
            .map(drop)
            .map_err(|error| database_error(Self::DOING, error))
    }
}

/// Whose lease has run out is out for ever, even if the clock is set back. Returns the time, in unix milliseconds.
async fn bury(conn: &mut Connection) -> Result<i64> {
    let failed = |error| database_error("ending leases", error);
    let row = sqlx::query(NOW).fetch_one(&mut *conn).await.map_err(failed)?;
    let now_ms = sqlx::Row::try_get(&row, "now_ms").map_err(failed)?;
    sqlx::query("UPDATE members SET lease_end_ms = NULL, claims = 0 WHERE lease_end_ms <= $1")
        .bind(now_ms)
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(now_ms)
}

/// The number of the last round; 0 if there was none.
async fn last_round(conn: &mut Connection) -> Result<u64> {
    let row = sqlx::query("SELECT escrow, round FROM floors ORDER BY round DESC LIMIT 1")
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error("reading floors", error))?;
    row.map_or(Ok(0), |row| Fields::new(&row, "floors", "escrow").get("round"))
}

struct Member {
    boot: u64,
    acked: u64,
    lives: bool,
}

fn member(row: &Row) -> Result<Member> {
    let fields = Fields::new(row, "members", "boot");
    Ok(Member {
        boot: fields.get("boot")?,
        acked: fields.get("acked")?,
        lives: fields.maybe_count("lease_end_ms")?.is_some(),
    })
}
