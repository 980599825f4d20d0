//! [`ClientChannelStore`] in SQL.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
};

use protocol::{
    channel::{
        Acknowledged, Admitted, Amount, ChannelId, ClientChannel, Domain, InFlight, Index, PayError, Payment,
        Prepared, Timestamp,
    },
    ticket::OrderId,
};
use sqlx::{Connection as _, QueryBuilder};

use super::{
    Connection, Db, Executor, Row, SqlStore,
    channel_permit::{admitted, bind_permit},
    columns::{Bind, Fields, push_equal},
    database_error, in_time,
    orders::{spent, store_spent},
    writer::Write,
};
use crate::{
    Result, StoreError,
    channel::{
        ClientChannelFilter, ClientChannelRecord, ClientChannelStore, NewClientChannel, Pay, PayRequest,
        PaymentRecord, PaymentStage, PaymentState, PaymentTotals,
    },
};

const READING: &str = "reading channels";

impl ClientChannelStore for SqlStore {
    async fn save_client_channel(&self, channel: &NewClientChannel) -> Result<bool> {
        let domain = self.channels()?;
        channel.check(&domain)?;
        let channel = channel.clone();
        self.writer.write(Save { domain, channel }).await
    }

    async fn topped_up(&self, channel: ChannelId, admitted: &Admitted) -> Result<bool> {
        let write = TopUp {
            domain: self.channels()?,
            channel,
            admitted: admitted.clone(),
        };
        self.writer.write(write).await
    }

    async fn close_client_channel(&self, channel: ChannelId, at: Timestamp) -> Result<bool> {
        self.channels()?;
        self.writer.write(Close { channel, at }).await
    }

    async fn client_channel(&self, channel: ChannelId) -> Result<Option<ClientChannelRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM client_channels WHERE TRUE");
        push_equal(&mut sql, "channel", Some(&channel));
        Ok(self.client_channel_records(sql).await?.pop())
    }

    async fn client_channels(&self, filter: ClientChannelFilter) -> Result<Vec<ClientChannelRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM client_channels WHERE TRUE");
        push_equal(&mut sql, "vendor", filter.vendor.as_ref());
        push_equal(&mut sql, "asset", filter.asset.as_ref());
        if filter.open {
            sql.push(" AND closed_at IS NULL");
        }
        sql.push(" ORDER BY channel");
        self.client_channel_records(sql).await
    }

    async fn pay<F>(&self, request: PayRequest, sign: F) -> Result<Pay>
    where
        F: FnOnce(&ClientChannel) -> Result<Prepared, PayError> + Send + 'static,
    {
        let domain = self.channels()?;
        self.writer
            .write(PayOrder {
                domain,
                request,
                sign,
            })
            .await
    }

    async fn resolve_payment(&self, order: OrderId, state: PaymentState) -> Result<bool> {
        self.channels()?;
        self.writer.write(Resolve { order, state }).await
    }

    async fn acknowledge(&self, channel: ChannelId, position: &Acknowledged) -> Result<bool> {
        let write = Acknowledge {
            domain: self.channels()?,
            channel,
            position: *position,
        };
        self.writer.write(write).await
    }

    async fn raise_revealed(&self, channel: ChannelId, index: Index) -> Result<Index> {
        let write = RaiseRevealed {
            domain: self.channels()?,
            channel,
            index,
        };
        self.writer.write(write).await
    }

    async fn client_payment(&self, order: OrderId) -> Result<Option<PaymentRecord>> {
        in_time(async { find(&self.readers, order).await }).await
    }

    async fn client_payments(
        &self,
        channel: ChannelId,
        indices: RangeInclusive<Index>,
    ) -> Result<Vec<PaymentRecord>> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT * FROM client_payments WHERE channel = $1 AND idx BETWEEN $2 AND $3 ORDER BY idx, order_id",
            )
            .blob(&channel)
            .bind(i64::from(indices.start().0))
            .bind(i64::from(indices.end().0))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| database_error(READING, error))?;
            rows.iter().map(payment).collect()
        })
        .await
    }

    async fn client_payment_totals(&self, channel: Option<ChannelId>) -> Result<PaymentTotals> {
        in_time(async {
            // By amount, too: databases cannot add 128-bit numbers, and few prices are in use at a time.
            let mut sql = QueryBuilder::new(
                "SELECT state, charged, COUNT(*) AS number FROM client_payments WHERE TRUE",
            );
            push_equal(&mut sql, "channel", channel.as_ref());
            sql.push(" GROUP BY state, charged");
            let rows = sql
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(|error| database_error(READING, error))?;
            let mut totals = PaymentTotals::default();
            for row in &rows {
                let fields = Fields::new(row, "client_payments", "charged");
                totals
                    .of_mut(stage(&fields)?)
                    .add(fields.count("number")?, fields.get("charged")?)?;
            }
            Ok(totals)
        })
        .await
    }
}

impl SqlStore {
    /// The channels that a query selects, with their parts, as of one moment.
    async fn client_channel_records(&self, mut sql: QueryBuilder<Db>) -> Result<Vec<ClientChannelRecord>> {
        let domain = self.channels()?;
        in_time(async {
            let failed = |error| database_error(READING, error);
            let mut conn = self.readers.acquire().await.map_err(failed)?;
            let mut snapshot = conn.begin().await.map_err(failed)?;
            let rows = sql.build().fetch_all(&mut *snapshot).await.map_err(failed)?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                records.push(record(&mut snapshot, &domain, row).await?.0);
            }
            snapshot.commit().await.map_err(failed)?;
            Ok(records)
        })
        .await
    }
}

struct Save {
    domain: Domain,
    channel: NewClientChannel,
}

impl Write for Save {
    type Out = bool;
    const DOING: &'static str = "storing a channel";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let Self { domain, channel: new } = self;
        let permit = new.admitted.permit();
        if let Some((stored, _)) = load(conn, &domain, permit.channel()).await? {
            return new.check_stored(&stored).map(|()| false);
        }
        sqlx::query(
            "INSERT INTO client_channels (channel, client, vendor, asset, salt, origin, saved_at, revealed, acked,
                 transcript, sigma)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $9)",
        )
        .blob(&permit.channel())
        .blob(&permit.client())
        .blob(&permit.vendor())
        .blob(&permit.asset())
        .blob(&new.salt)
        .bind(new.origin.map(String::into_bytes))
        .blob(&new.at)
        .blob(&permit.transcript())
        .blob(&new.admitted.sigma0())
        .execute(&mut *conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        save_permit(conn, 0, &new.admitted).await?;
        Ok(true)
    }
}

struct TopUp {
    domain: Domain,
    channel: ChannelId,
    admitted: Admitted,
}

impl Write for TopUp {
    type Out = bool;
    // Reads, then writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "storing a top-up";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let (stored, _) = load(conn, &self.domain, self.channel)
            .await?
            .ok_or(StoreError::UnknownChannel(self.channel))?;
        let terms = stored.channel.terms();
        if terms.contains(&self.admitted) {
            return Ok(false);
        }
        stored
            .channel
            .topped_up(self.admitted.clone())
            .map_err(|source| StoreError::PayRefused {
                channel: self.channel,
                source,
            })?;
        save_permit(conn, terms.len() as u32, &self.admitted).await?;
        Ok(true)
    }
}

struct Close {
    channel: ChannelId,
    at: Timestamp,
}

impl Write for Close {
    type Out = bool;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "closing a channel";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let failed = |error| database_error(Self::DOING, error);
        let done =
            sqlx::query("UPDATE client_channels SET closed_at = $1 WHERE channel = $2 AND closed_at IS NULL")
                .blob(&self.at)
                .blob(&self.channel)
                .execute(&mut *conn)
                .await
                .map_err(failed)?;
        if done.rows_affected() == 1 {
            return Ok(true);
        }
        sqlx::query("SELECT 1 FROM client_channels WHERE channel = $1")
            .blob(&self.channel)
            .fetch_optional(conn)
            .await
            .map_err(failed)?
            .map(|_| false)
            .ok_or(StoreError::UnknownChannel(self.channel))
    }
}

struct PayOrder<F> {
    domain: Domain,
    request: PayRequest,
    sign: F,
}

impl<F> Write for PayOrder<F>
where
    F: FnOnce(&ClientChannel) -> Result<Prepared, PayError> + Send + 'static,
{
    type Out = Pay;
    const DOING: &'static str = "paying over a channel";

    async fn apply(self, conn: &mut Connection) -> Result<Pay> {
        let Self {
            domain,
            request,
            sign,
        } = self;
        if let Some(record) = find(&mut *conn, request.order).await? {
            return Ok(Pay::Existing(record));
        }
        let (stored, in_flight) = load(conn, &domain, request.channel)
            .await?
            .ok_or(StoreError::UnknownChannel(request.channel))?;
        let (index, charged) = stored.check_pay(&request, in_flight)?;
        let mut accounts = BTreeMap::new();
        for budget in &request.budgets {
            let before = spent(&mut *conn, &budget.account).await?;
            accounts.insert(&budget.account, budget.charge(before, charged)?);
        }
        // A panic here would end the writer for everyone.
        let prepared = catch_unwind(AssertUnwindSafe(|| sign(&stored.channel)))
            .map_err(|_| StoreError::SignPanicked(request.order))?
            .map_err(|source| StoreError::PayRefused {
                channel: request.channel,
                source,
            })?;
        let made = stored.check_signed(&request, index, prepared)?;
        for (account, spent) in accounts {
            store_spent(conn, account, spent).await?;
        }
        let previous = stored.channel.acknowledged().index;
        let record = PaymentRecord::new(&request, previous, charged, &made);
        insert(conn, &record).await?;
        sqlx::query("UPDATE client_channels SET revealed = $1 WHERE channel = $2 AND revealed < $1")
            .bind(i64::from(index.0))
            .blob(&request.channel)
            .execute(conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        Ok(Pay::Fresh(record))
    }
}

struct Resolve {
    order: OrderId,
    state: PaymentState,
}

impl Write for Resolve {
    type Out = bool;
    const DOING: &'static str = "resolving a payment";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let record = find(&mut *conn, self.order)
            .await?
            .ok_or(StoreError::UnknownOrder(self.order))?;
        if !record.check_move(&self.state)? {
            return Ok(false);
        }
        let rule = match &self.state {
            PaymentState::Refused { rule } => Some(rule.clone().into_bytes()),
            PaymentState::Sent | PaymentState::Delivered | PaymentState::Failed => None,
        };
        sqlx::query("UPDATE client_payments SET state = $1, rule = $2 WHERE order_id = $3")
            .bind(self.state.stage().name())
            .bind(rule)
            .blob(&self.order)
            .execute(&mut *conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        if self.state == PaymentState::Delivered {
            store_position(conn, record.payment.channel, &record.position()).await?;
        }
        Ok(true)
    }
}

struct Acknowledge {
    domain: Domain,
    channel: ChannelId,
    position: Acknowledged,
}

impl Write for Acknowledge {
    type Out = bool;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "taking over a position";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let (stored, in_flight) = load(conn, &self.domain, self.channel)
            .await?
            .ok_or(StoreError::UnknownChannel(self.channel))?;
        let moves = stored.check_position(self.channel, &self.position, in_flight)?;
        if moves {
            store_position(conn, self.channel, &self.position).await?;
        }
        Ok(moves)
    }
}

struct RaiseRevealed {
    domain: Domain,
    channel: ChannelId,
    index: Index,
}

impl Write for RaiseRevealed {
    type Out = Index;
    // Writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "raising what is revealed";

    async fn apply(self, conn: &mut Connection) -> Result<Index> {
        sqlx::query("UPDATE client_channels SET revealed = $1 WHERE channel = $2 AND revealed < $1")
            .bind(i64::from(self.index.0))
            .blob(&self.channel)
            .execute(&mut *conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        let stored = load(conn, &self.domain, self.channel).await?;
        let (stored, _) = stored.ok_or(StoreError::UnknownChannel(self.channel))?;
        Ok(stored.channel.revealed())
    }
}

/// Moves the position, and what is revealed where that was lower.
async fn store_position(conn: &mut Connection, channel: ChannelId, position: &Acknowledged) -> Result<()> {
    sqlx::query(
        "UPDATE client_channels SET acked = $1, transcript = $2, sigma = $3,
             revealed = CASE WHEN revealed < $1 THEN $1 ELSE revealed END WHERE channel = $4",
    )
    .bind(i64::from(position.index.0))
    .blob(&position.transcript)
    .blob(&position.sigma)
    .blob(&channel)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("storing a position", error))
}

async fn save_permit(conn: &mut Connection, generation: u32, admitted: &Admitted) -> Result<()> {
    let query = sqlx::query(
        "INSERT INTO client_permits (channel, generation, digest, receipt_key, unit, length, anchor, client_reputation,
             vendor_reputation, issued_at, expiry, bank, signature)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .blob(&admitted.permit().channel())
    .bind(i64::from(generation));
    bind_permit(query, admitted)
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error("storing a permit", error))
}

async fn insert(conn: &mut Connection, record: &PaymentRecord) -> Result<()> {
    let payment = &record.payment;
    sqlx::query(
        "INSERT INTO client_payments (order_id, channel, idx, previous, word, item_hash, issued_at, transcript, sigma,
             lock, tag, price, charged, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'sent')",
    )
    .blob(&record.order)
    .blob(&payment.channel)
    .bind(i64::from(payment.index.0))
    .bind(i64::from(record.previous.0))
    .blob(&payment.word)
    .blob(&payment.item)
    .blob(&payment.issued_at)
    .blob(&record.transcript)
    .blob(&record.sigma)
    .blob(&payment.lock)
    .blob(&payment.tag)
    .blob(&record.price)
    .blob(&record.charged)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("storing a payment", error))
}

async fn find(executor: impl Executor<'_>, order: OrderId) -> Result<Option<PaymentRecord>> {
    let row = sqlx::query("SELECT * FROM client_payments WHERE order_id = $1")
        .blob(&order)
        .fetch_optional(executor)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.as_ref().map(payment).transpose()
}

/// A channel, and the order whose payment is under way.
async fn load(
    conn: &mut Connection,
    domain: &Domain,
    channel: ChannelId,
) -> Result<Option<(ClientChannelRecord, Option<OrderId>)>> {
    let row = sqlx::query("SELECT * FROM client_channels WHERE channel = $1")
        .blob(&channel)
        .fetch_optional(&mut *conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    match row {
        Some(row) => record(conn, domain, &row).await.map(Some),
        None => Ok(None),
    }
}

async fn record(
    conn: &mut Connection,
    domain: &Domain,
    row: &Row,
) -> Result<(ClientChannelRecord, Option<OrderId>)> {
    let failed = |error| database_error(READING, error);
    let fields = Fields::new(row, "client_channels", "channel");
    let id: ChannelId = fields.get("channel")?;
    let permits = sqlx::query("SELECT * FROM client_permits WHERE channel = $1 ORDER BY generation")
        .blob(&id)
        .fetch_all(&mut *conn)
        .await
        .map_err(failed)?;
    let parties = (fields.get("client")?, fields.get("vendor")?, fields.get("asset")?);
    let terms: Vec<Admitted> = permits
        .iter()
        .map(|row| {
            admitted(
                &Fields::new(row, "client_permits", "channel"),
                domain,
                id,
                parties,
            )
        })
        .collect::<Result<_>>()?;
    let position = Acknowledged {
        index: fields.index("acked")?,
        transcript: fields.get("transcript")?,
        sigma: fields.get("sigma")?,
    };
    let open = sqlx::query(
        "SELECT * FROM client_payments WHERE channel = $1 AND previous = $2 AND state <> 'delivered'",
    )
    .blob(&id)
    .bind(i64::from(position.index.0))
    .fetch_all(conn)
    .await
    .map_err(failed)?;
    let mut open: Vec<PaymentRecord> = open.iter().map(payment).collect::<Result<_>>()?;
    // Not in the query: SQLite would take the index that sorts, and read the whole channel.
    open.sort_by_key(|record| (record.payment.index, record.order));
    let sent = open.iter().find(|payment| payment.state == PaymentState::Sent);
    let in_flight: Vec<InFlight> = open.iter().map(PaymentRecord::in_flight).collect();
    let channel = ClientChannel::restore(terms, position, fields.index("revealed")?, in_flight)
        .map_err(|error| fields.corrupt("channel", error))?;
    let record = ClientChannelRecord {
        channel,
        salt: fields.get("salt")?,
        origin: fields.maybe_string("origin")?,
        saved_at: fields.get("saved_at")?,
        closed_at: fields.maybe("closed_at")?,
    };
    Ok((record, sent.map(|payment| payment.order)))
}

fn payment(row: &Row) -> Result<PaymentRecord> {
    let fields = Fields::new(row, "client_payments", "order_id");
    let state = match (stage(&fields)?, fields.maybe_string("rule")?) {
        (PaymentStage::Sent, None) => PaymentState::Sent,
        (PaymentStage::Delivered, None) => PaymentState::Delivered,
        (PaymentStage::Failed, None) => PaymentState::Failed,
        (PaymentStage::Refused, Some(rule)) => PaymentState::Refused { rule },
        (stage, rule) => {
            return Err(fields.corrupt("rule", format!("{rule:?} in state {}", stage.name())));
        }
    };
    let payment = Payment {
        channel: fields.get("channel")?,
        index: fields.index("idx")?,
        word: fields.get("word")?,
        item: fields.get("item_hash")?,
        issued_at: fields.get("issued_at")?,
        lock: fields.get("lock")?,
        tag: fields.get("tag")?,
    };
    let record = PaymentRecord {
        order: fields.get("order_id")?,
        payment,
        previous: fields.index("previous")?,
        transcript: fields.get("transcript")?,
        sigma: fields.get("sigma")?,
        price: fields.get("price")?,
        charged: fields.get::<Amount>("charged")?,
        state,
    };
    record
        .check_tag()
        .map_err(|problem| fields.corrupt("tag", problem))?;
    Ok(record)
}

fn stage(fields: &Fields<'_>) -> Result<PaymentStage> {
    let name = fields.text("state")?;
    PaymentStage::ALL
        .into_iter()
        .find(|stage| stage.name() == name)
        .ok_or_else(|| fields.corrupt("state", format!("there is no state {name:?}")))
}
