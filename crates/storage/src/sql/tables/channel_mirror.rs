//! [`ChannelMirrorStore`] in SQL.

use protocol::channel::{BlockRef, ChannelRecord, Channels};
use sqlx::Connection as _;

use super::{
    Connection, SqlStore,
    columns::{Bind, Fields},
    database_error, in_time,
    writer::Write,
};
use crate::{
    Result, StoreError,
    channel::{ChannelMirrorStore, mirror::StoredChannel},
    mirror::check_cursor,
};

const READING: &str = "reading the channels' mirror";

impl ChannelMirrorStore for SqlStore {
    async fn load_channel_mirror(&self) -> Result<Option<(BlockRef, Channels)>> {
        in_time(async {
            let failed = |error| database_error(READING, error);
            let mut conn = self.readers.acquire().await.map_err(failed)?;
            // One snapshot: cursor and channels belong together.
            let mut snapshot = conn.begin().await.map_err(failed)?;
            let Some(cursor) = cursor(&mut snapshot).await? else {
                return Ok(None);
            };
            let rows = sqlx::query("SELECT channel, record FROM channel_mirror")
                .fetch_all(&mut *snapshot)
                .await
                .map_err(failed)?;
            snapshot.commit().await.map_err(failed)?;
            let mut channels = Channels::with_capacity(rows.len());
            for row in &rows {
                let fields = Fields::new(row, "channel_mirror", "channel");
                let stored = serde_json::from_str::<StoredChannel>(fields.text("record")?)
                    .map_err(|error| fields.corrupt("record", error))?;
                let record = ChannelRecord::try_from(stored);
                let record = record.map_err(|problem| fields.corrupt("record", problem))?;
                channels.insert(fields.get("channel")?, record);
            }
            Ok(Some((cursor, channels)))
        })
        .await
    }

    async fn save_channel_mirror(&self, cursor: BlockRef, changed: &Channels) -> Result<()> {
        self.channels()?;
        let mut channels = Vec::with_capacity(changed.len());
        for (channel, record) in changed {
            let json =
                serde_json::to_string(&StoredChannel::from(record)).map_err(|error| StoreError::Corrupt {
                    table: "channel_mirror",
                    row: channel.to_string(),
                    column: "record",
                    problem: error.to_string(),
                })?;
            channels.push((channel.0.to_vec(), json));
        }
        self.writer.write(SaveMirror { cursor, channels }).await
    }

    async fn forget_channel_mirror(&self) -> Result<()> {
        self.writer.write(ForgetMirror).await
    }
}

struct SaveMirror {
    cursor: BlockRef,
    channels: Vec<(Vec<u8>, String)>,
}

impl Write for SaveMirror {
    type Out = ();
    const DOING: &'static str = "storing the channels' mirror";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        let failed = |error| database_error(Self::DOING, error);
        check_cursor(cursor(conn).await?, self.cursor)?;
        for (channel, record) in self.channels {
            sqlx::query(
                "INSERT INTO channel_mirror (channel, record) VALUES ($1, $2)
                 ON CONFLICT (channel) DO UPDATE SET record = excluded.record",
            )
            .bind(channel)
            .bind(record)
            .execute(&mut *conn)
            .await
            .map_err(failed)?;
        }
        sqlx::query(
            "INSERT INTO channel_cursor (one, number, hash, timestamp) VALUES (1, $1, $2, $3)
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
    const DOING: &'static str = "forgetting the channels' mirror";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        for sql in ["DELETE FROM channel_mirror", "DELETE FROM channel_cursor"] {
            sqlx::query(sql)
                .execute(&mut *conn)
                .await
                .map_err(|error| database_error(Self::DOING, error))?;
        }
        Ok(())
    }
}

async fn cursor(conn: &mut Connection) -> Result<Option<BlockRef>> {
    let row = sqlx::query("SELECT one, number, hash, timestamp FROM channel_cursor")
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.map(|row| Fields::new(&row, "channel_cursor", "one").block("number", "hash", "timestamp"))
        .transpose()
}
