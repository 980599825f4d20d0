//! [`SeedStore`] in SQL.

use protocol::ticket::Seed;

use super::{
    Connection, SqlStore,
    columns::{Bind, Fields},
    database_error,
    writer::Write,
};
use crate::{Result, SeedStore, StoreError};

impl SeedStore for SqlStore {
    async fn seed_or_insert(&self, fresh: Seed) -> Result<Seed> {
        self.writer.write(SeedOrInsert(fresh)).await
    }

    async fn next_boot(&self) -> Result<u64> {
        self.writer.write(NextBoot).await
    }
}

struct SeedOrInsert(Seed);

impl Write for SeedOrInsert {
    type Out = Seed;
    const DOING: &'static str = "storing the seed";

    async fn apply(self, conn: &mut Connection) -> Result<Seed> {
        sqlx::query(
            "INSERT INTO session (one, seed, boot) VALUES (1, $1, $2)
             ON CONFLICT (one) DO UPDATE SET seed = excluded.seed WHERE session.seed IS NULL",
        )
        .bind(self.0.expose().to_vec())
        .blob(&0_u64)
        .execute(&mut *conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        let row = sqlx::query("SELECT one, seed FROM session")
            .fetch_one(conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        let fields = Fields::new(&row, "session", "one");
        let seed = fields.bytes("seed")?;
        let seed = <[u8; 32]>::try_from(seed).map_err(|_| fields.corrupt("seed", "not 32 bytes"))?;
        Ok(Seed::new(seed))
    }
}

struct NextBoot;

impl Write for NextBoot {
    type Out = u64;
    const DOING: &'static str = "counting the start";

    async fn apply(self, conn: &mut Connection) -> Result<u64> {
        let row = sqlx::query("SELECT one, boot FROM session")
            .fetch_optional(&mut *conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        let last: u64 = match &row {
            Some(row) => Fields::new(row, "session", "one").get("boot")?,
            None => 0,
        };
        let boot = last.checked_add(1).ok_or_else(|| StoreError::Corrupt {
            table: "session",
            row: "1".to_owned(),
            column: "boot",
            problem: format!("there is no number above {last}"),
        })?;
        sqlx::query(
            "INSERT INTO session (one, boot) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET boot = excluded.boot",
        )
        .blob(&boot)
        .execute(conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        Ok(boot)
    }
}
