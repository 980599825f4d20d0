//! [`MirrorStore`] in SQL.

use protocol::ticket::{BlockRef, Escrows};
use sqlx::Connection as _;

use super::{
    Connection, SqlStore,
    columns::{Bind, Fields},
    database_error, in_time,
    writer::Write,
};
use crate::{
    MirrorStore, Result, StoreError,
    mirror::{StoredEscrow, check_cursor},
};

const READING: &str = "reading the mirror";

impl MirrorStore for SqlStore {
    async fn load_mirror(&self) -> Result<Option<(BlockRef, Escrows)>> {
        in_time(async {
            let failed = |error| database_error(READING, error);
            let mut conn = self.readers.acquire().await.map_err(failed)?;
            // One snapshot: cursor and escrows belong together.
            let mut snapshot = conn.begin().await.map_err(failed)?;
            let Some(cursor) = cursor(&mut snapshot).await? else {
                return Ok(None);
            };
            let rows = sqlx::query("SELECT escrow, record FROM mirror_escrows")
                .fetch_all(&mut *snapshot)
                .await
                .map_err(failed)?;
            snapshot.commit().await.map_err(failed)?;
            let mut escrows = Escrows::with_capacity(rows.len());
            for row in &rows {
                let fields = Fields::new(row, "mirror_escrows", "escrow");
                let stored = serde_json::from_str::<StoredEscrow>(fields.text("record")?)
                    .map_err(|error| fields.corrupt("record", error))?;
                escrows.insert(fields.get("escrow")?, stored.into());
            }
            Ok(Some((cursor, escrows)))
        })
        .await
    }

    async fn save_mirror(&self, cursor: BlockRef, changed: &Escrows) -> Result<()> {
        let mut escrows = Vec::with_capacity(changed.len());
        for (escrow, record) in changed {
            let json =
                serde_json::to_string(&StoredEscrow::from(record)).map_err(|error| StoreError::Corrupt {
                    table: "mirror_escrows",
                    row: escrow.to_string(),
                    column: "record",
                    problem: error.to_string(),
                })?;
            escrows.push((escrow.to_vec(), json));
        }
        self.writer.write(SaveMirror { cursor, escrows }).await
    }

    async fn forget_mirror(&self) -> Result<()> {
        self.writer.write(ForgetMirror).await
    }
}

struct SaveMirror {
    cursor: BlockRef,
    escrows: Vec<(Vec<u8>, String)>,
}

impl Write for SaveMirror {
    type Out = ();
    const DOING: &'static str = "storing the mirror";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        let failed = |error| database_error(Self::DOING, error);
        check_cursor(cursor(conn).await?, self.cursor)?;
        for (escrow, record) in self.escrows {
            sqlx::query(
                "INSERT INTO mirror_escrows (escrow, record) VALUES ($1, $2)
                 ON CONFLICT (escrow) DO UPDATE SET record = excluded.record",
            )
            .bind(escrow)
            .bind(record)
            .execute(&mut *conn)
            .await
            .map_err(failed)?;
        }
        sqlx::query(
            "INSERT INTO mirror_cursor (one, number, hash, timestamp) VALUES (1, $1, $2, $3)
             ON CONFLICT (one) DO UPDATE SET number = excluded.number, hash = excluded.hash, timestamp = excluded.timestamp",
        )
        .blob(&self.cursor.number)
        .blob(&self.cursor.hash)
        .blob(&self.cursor.timestamp)
        .execute(conn)
        .await
        .map(drop)
        .map_err(failed)
    }
}

struct ForgetMirror;

impl Write for ForgetMirror {
    type Out = ();
    const DOING: &'static str = "forgetting the mirror";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        for sql in ["DELETE FROM mirror_escrows", "DELETE FROM mirror_cursor"] {
            sqlx::query(sql)
                .execute(&mut *conn)
                .await
                .map_err(|error| database_error(Self::DOING, error))?;
        }
        Ok(())
    }
}

async fn cursor(conn: &mut Connection) -> Result<Option<BlockRef>> {
    let row = sqlx::query("SELECT one, number, hash, timestamp FROM mirror_cursor")
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.map(|row| Fields::new(&row, "mirror_cursor", "one").block("number", "hash", "timestamp"))
        .transpose()
}
