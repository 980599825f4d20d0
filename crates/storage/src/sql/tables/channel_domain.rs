//! [`ChannelDomainStore`] in SQL.

use protocol::channel::Domain;

use super::{
    Connection, SqlStore,
    columns::{Bind, Fields},
    database_error,
    writer::Write,
};
use crate::{
    Result, StoreError,
    channel::{ChannelDomainStore, OtherChannels},
};

impl ChannelDomainStore for SqlStore {
    async fn use_channels(&self, wanted: Domain) -> Result<()> {
        let stored = self.writer.write(UseChannels(wanted)).await?;
        if stored != wanted {
            return Err(StoreError::OtherChannels(Box::new(OtherChannels {
                stored,
                wanted,
            })));
        }
        // The stored one never changes, so who was first does not matter.
        let _ = self.channels.set(stored);
        Ok(())
    }
}

impl SqlStore {
    /// The contract of the channels.
    pub(super) fn channels(&self) -> Result<Domain> {
        self.channels.get().copied().ok_or(StoreError::ChannelsUnsaid)
    }
}

struct UseChannels(Domain);

impl Write for UseChannels {
    type Out = Domain;
    const DOING: &'static str = "storing the channels' contract";

    async fn apply(self, conn: &mut Connection) -> Result<Domain> {
        let failed = |error| database_error(Self::DOING, error);
        sqlx::query(
            "INSERT INTO channel_domain (one, chain_id, contract) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
        )
        .blob(&self.0.chain_id())
        .blob(&self.0.contract())
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
        let row = sqlx::query("SELECT one, chain_id, contract FROM channel_domain")
            .fetch_one(conn)
            .await
            .map_err(failed)?;
        let fields = Fields::new(&row, "channel_domain", "one");
        Ok(Domain::new(fields.get("chain_id")?, fields.get("contract")?))
    }
}
