//! [`BankStore`] in SQL.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alloy_primitives::Address;
use protocol::channel::{Admitted, ChannelId, Domain, Permit};
use sqlx::QueryBuilder;

use super::{
    Connection, Executor, Row, SqlStore,
    channel_permit::{admitted, bind_permit},
    columns::{Bind, Fields, push_equal, push_limit},
    database_error, in_time,
    writer::Write,
};
use crate::{
    Result, StoreError,
    channel::{BankStore, IssuedPermit, PermitRecord, PermitRequest, check_bank_key},
};

const READING: &str = "reading permits";

impl BankStore for SqlStore {
    async fn use_bank_key(&self, epoch: u64, key: Address) -> Result<bool> {
        self.channels()?;
        self.writer.write(UseKey { epoch, key }).await
    }

    async fn bank_keys(&self) -> Result<Vec<(u64, Address)>> {
        in_time(async { keys(&self.readers).await }).await
    }

    async fn issue_permit<F>(&self, request: PermitRequest, sign: F) -> Result<IssuedPermit>
    where
        F: FnOnce(Permit) -> Admitted + Send + 'static,
    {
        let domain = self.channels()?;
        self.writer
            .write(IssuePermit {
                domain,
                request,
                sign,
            })
            .await
    }

    async fn permits_of(&self, channel: ChannelId) -> Result<Vec<PermitRecord>> {
        let domain = self.channels()?;
        in_time(async { permits_of(&self.readers, &domain, channel).await }).await
    }

    async fn permits(&self, client: Option<Address>, limit: u32) -> Result<Vec<PermitRecord>> {
        let domain = self.channels()?;
        in_time(async {
            let mut sql = QueryBuilder::new("SELECT * FROM bank_permits WHERE TRUE");
            push_equal(&mut sql, "client", client.as_ref());
            sql.push(" ORDER BY issued_at DESC, channel, generation");
            push_limit(&mut sql, Some(limit));
            let rows = sql
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(|error| database_error(READING, error))?;
            rows.iter().map(|row| record(row, &domain)).collect()
        })
        .await
    }
}

struct UseKey {
    epoch: u64,
    key: Address,
}

impl Write for UseKey {
    type Out = bool;
    // Reads, then writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "noting a bank's key";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let Self { epoch, key } = self;
        let known = keys(&mut *conn).await?;
        let stored = known.iter().find(|(known, _)| *known == epoch);
        let newest = known.last().map(|(epoch, _)| *epoch);
        let new = check_bank_key(epoch, key, stored.map(|(_, key)| *key), newest)?;
        if new {
            sqlx::query("INSERT INTO bank_keys (epoch, address) VALUES ($1, $2)")
                .blob(&epoch)
                .blob(&key)
                .execute(conn)
                .await
                .map_err(|error| database_error(Self::DOING, error))?;
        }
        Ok(new)
    }
}

struct IssuePermit<F> {
    domain: Domain,
    request: PermitRequest,
    sign: F,
}

impl<F: FnOnce(Permit) -> Admitted + Send + 'static> Write for IssuePermit<F> {
    type Out = IssuedPermit;
    // Reads, then writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "issuing a permit";

    async fn apply(self, conn: &mut Connection) -> Result<IssuedPermit> {
        let Self {
            domain,
            request,
            sign,
        } = self;
        let channel = request.channel();
        let mut stored = permits_of(&mut *conn, &domain, channel).await?;
        let known = stored
            .iter()
            .position(|record| record.generation == request.generation);
        if let Some(known) = known {
            let stored = stored.swap_remove(known);
            request.check_stored(&stored)?;
            return Ok(IssuedPermit::Existing(stored));
        }
        request.check_next(stored.len() as u32)?;
        if let Some(quota) = request.quota {
            let row = sqlx::query(
                "SELECT COUNT(*) AS number FROM bank_permits WHERE client = $1 AND issued_at >= $2",
            )
            .blob(&request.permit.client())
            .blob(&quota.since)
            .fetch_one(&mut *conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
            let issued = Fields::new(&row, "bank_permits", "number").count("number")?;
            request.check_quota(quota, issued)?;
        }
        let newest = keys(&mut *conn).await?.pop();
        let (epoch, key) = newest.ok_or(StoreError::BankKeyMissing)?;
        let permit = request.permit.clone();
        // A panic here would end the writer for everyone.
        let admitted = catch_unwind(AssertUnwindSafe(|| sign(permit)))
            .map_err(|_| StoreError::PermitSignPanicked(channel))?;
        request.check_signed(key, &admitted)?;
        let permit = admitted.permit();
        let query = sqlx::query(
            "INSERT INTO bank_permits (channel, generation, client, vendor, asset, epoch, digest, receipt_key, unit, length,
                 anchor, client_reputation, vendor_reputation, issued_at, expiry, bank, signature)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .blob(&channel)
        .bind(i64::from(request.generation))
        .blob(&permit.client())
        .blob(&permit.vendor())
        .blob(&permit.asset())
        .blob(&epoch);
        bind_permit(query, &admitted)
            .execute(conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        Ok(IssuedPermit::Fresh(PermitRecord {
            admitted,
            generation: request.generation,
            epoch,
        }))
    }
}

async fn keys(executor: impl Executor<'_>) -> Result<Vec<(u64, Address)>> {
    let rows = sqlx::query("SELECT epoch, address FROM bank_keys ORDER BY epoch")
        .fetch_all(executor)
        .await
        .map_err(|error| database_error("reading the bank's keys", error))?;
    rows.iter()
        .map(|row| {
            let fields = Fields::new(row, "bank_keys", "epoch");
            Ok((fields.get("epoch")?, fields.get("address")?))
        })
        .collect()
}

async fn permits_of(
    executor: impl Executor<'_>,
    domain: &Domain,
    channel: ChannelId,
) -> Result<Vec<PermitRecord>> {
    let rows = sqlx::query("SELECT * FROM bank_permits WHERE channel = $1 ORDER BY generation")
        .blob(&channel)
        .fetch_all(executor)
        .await
        .map_err(|error| database_error(READING, error))?;
    rows.iter().map(|row| record(row, domain)).collect()
}

fn record(row: &Row, domain: &Domain) -> Result<PermitRecord> {
    let fields = Fields::new(row, "bank_permits", "channel");
    let parties = (fields.get("client")?, fields.get("vendor")?, fields.get("asset")?);
    Ok(PermitRecord {
        admitted: admitted(&fields, domain, fields.get("channel")?, parties)?,
        generation: fields.small("generation", fields.count("generation")?)?,
        epoch: fields.get("epoch")?,
    })
}
