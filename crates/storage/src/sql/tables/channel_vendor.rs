//! [`VendorChannelStore`] in SQL.

use std::ops::RangeInclusive;

use alloy_primitives::B256;
use bindings::channel::Checkpoint;
use protocol::{
    channel::{
        Accepted, Amount, ChannelId, Index, LastDelivered, Opener, Payment, SignedCheckpoint, Tag, Timestamp,
    },
    ticket::OrderId,
};
use sqlx::{Connection as _, QueryBuilder};

use super::{
    Connection, Db, Executor, Row, SqlStore,
    columns::{Bind, Fields, push_equal},
    database_error, in_time,
    writer::Write,
};
use crate::{
    Result, StoreError,
    channel::{
        ChannelPhase, CheckpointRecord, Opening, PaymentFate, Resumed, SettlementId, VendorChannelRecord,
        VendorChannelStore, VendorPayment, VendorPaymentState, VendorTotals, check_checkpoint, check_resumed,
    },
};

const READING: &str = "reading payments";

/// No tag: what a channel without a payment has.
const NONE: Tag = Tag(B256::ZERO);

impl VendorChannelStore for SqlStore {
    async fn save_payment(
        &self,
        accepted: &Accepted,
        order: OrderId,
        price: Amount,
        at: Timestamp,
    ) -> Result<bool> {
        self.channels()?;
        let write = SavePayment {
            accepted: *accepted,
            payment: VendorPayment::new(accepted, order, price, at),
        };
        self.writer.write(write).await
    }

    async fn mark_payment(&self, channel: ChannelId, tag: Tag, fate: PaymentFate) -> Result<bool> {
        self.channels()?;
        self.writer.write(Mark { channel, tag, fate }).await
    }

    async fn resume_vendor_channel(
        &self,
        channel: ChannelId,
        resumed: Resumed,
        at: Timestamp,
    ) -> Result<bool> {
        self.channels()?;
        let write = Resume { channel, resumed, at };
        self.writer.write(write).await
    }

    async fn vendor_channel(&self, channel: ChannelId) -> Result<Option<VendorChannelRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM vendor_channels WHERE TRUE");
        push_equal(&mut sql, "channel", Some(&channel));
        Ok(self.vendor_channel_records(sql).await?.pop())
    }

    async fn vendor_channels(&self) -> Result<Vec<VendorChannelRecord>> {
        let sql = QueryBuilder::new("SELECT * FROM vendor_channels WHERE phase <> 'closed' ORDER BY channel");
        self.vendor_channel_records(sql).await
    }

    async fn close_vendor_channel(&self, channel: ChannelId, settled: Index) -> Result<bool> {
        self.channels()?;
        self.writer.write(Close { channel, settled }).await
    }

    async fn vendor_payments(
        &self,
        channel: ChannelId,
        indices: RangeInclusive<Index>,
    ) -> Result<Vec<VendorPayment>> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT * FROM vendor_payments WHERE channel = $1 AND idx BETWEEN $2 AND $3 AND state <> 'failed'
                 ORDER BY idx",
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

    async fn save_checkpoint(&self, checkpoint: &CheckpointRecord) -> Result<bool> {
        self.channels()?;
        self.writer.write(SaveCheckpoint(checkpoint.clone())).await
    }

    async fn checkpoints(&self, channel: ChannelId) -> Result<Vec<CheckpointRecord>> {
        in_time(async {
            let rows = sqlx::query("SELECT * FROM vendor_checkpoints WHERE channel = $1 ORDER BY idx, chain")
                .blob(&channel)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| database_error(READING, error))?;
            rows.iter().map(checkpoint).collect()
        })
        .await
    }

    async fn latest_checkpoint(&self, channel: ChannelId) -> Result<Option<CheckpointRecord>> {
        in_time(async { latest_checkpoint(&self.readers, channel).await }).await
    }

    async fn save_opening(&self, opening: &Opening) -> Result<bool> {
        self.channels()?;
        self.writer.write(SaveOpening(*opening)).await
    }

    async fn vendor_totals(&self) -> Result<VendorTotals> {
        in_time(async {
            let failed = |error| database_error(READING, error);
            let mut conn = self.readers.acquire().await.map_err(failed)?;
            let mut snapshot = conn.begin().await.map_err(failed)?;
            let mut totals = VendorTotals::default();
            let phases = sqlx::query("SELECT phase, COUNT(*) AS number FROM vendor_channels GROUP BY phase")
                .fetch_all(&mut *snapshot)
                .await
                .map_err(failed)?;
            for row in &phases {
                let fields = Fields::new(row, "vendor_channels", "phase");
                let number = fields.count("number")?;
                match fields.text("phase")? {
                    "closed" => totals.closed += number,
                    _ => totals.open += number,
                }
            }
            // By price, too: databases cannot add 128-bit numbers, and few prices are in use at a time.
            let payments = sqlx::query(
                "SELECT state, price, COUNT(*) AS number, CAST(SUM(idx - previous) AS BIGINT) AS units
                 FROM vendor_payments GROUP BY state, price",
            )
            .fetch_all(&mut *snapshot)
            .await
            .map_err(failed)?;
            for row in &payments {
                let fields = Fields::new(row, "vendor_payments", "price");
                totals.of_mut(state(&fields)?).add(
                    fields.count("number")?,
                    fields.get("price")?,
                    fields.count("units")?,
                )?;
            }
            let settled = sqlx::query(
                "SELECT paid, COUNT(*) AS number FROM settlement_items WHERE paid IS NOT NULL GROUP BY paid",
            )
            .fetch_all(&mut *snapshot)
            .await
            .map_err(failed)?;
            for row in &settled {
                let fields = Fields::new(row, "settlement_items", "paid");
                totals.settled.add(fields.count("number")?, fields.get("paid")?)?;
            }
            snapshot.commit().await.map_err(failed)?;
            Ok(totals)
        })
        .await
    }
}

impl SqlStore {
    /// The channels that a query selects, with their parts, as of one moment.
    async fn vendor_channel_records(&self, mut sql: QueryBuilder<Db>) -> Result<Vec<VendorChannelRecord>> {
        in_time(async {
            let failed = |error| database_error(READING, error);
            let mut conn = self.readers.acquire().await.map_err(failed)?;
            let mut snapshot = conn.begin().await.map_err(failed)?;
            let rows = sql.build().fetch_all(&mut *snapshot).await.map_err(failed)?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                records.push(record(&mut snapshot, row).await?);
            }
            snapshot.commit().await.map_err(failed)?;
            Ok(records)
        })
        .await
    }
}

struct SavePayment {
    accepted: Accepted,
    payment: VendorPayment,
}

impl Write for SavePayment {
    type Out = bool;
    // What is refused is refused by the first statement, which is all that there is of nearly every payment.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "storing a payment";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let failed = |error| database_error(Self::DOING, error);
        let Self {
            accepted,
            payment: row,
        } = self;
        let Payment { channel, index, .. } = row.payment;
        let base = accepted.channel().delivered;
        // At the opening there is no payment to stand on.
        let stands_on = if base.index == Index::ZERO { NONE } else { base.tag };
        let done = sqlx::query(
            "INSERT INTO vendor_payments (channel, idx, previous, chain, word, item_hash, issued_at, transcript, lock, tag,
                 order_id, price, taken_at, state)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'taken'
             WHERE COALESCE((SELECT tag FROM vendor_payments WHERE channel = $1 AND (state <> 'failed' OR tag = $14)
                                 AND idx > COALESCE((SELECT from_idx FROM vendor_channels WHERE channel = $1), 0)
                             ORDER BY idx DESC LIMIT 1),
                            (SELECT from_tag FROM vendor_channels WHERE channel = $1), $15) = $14
                 AND NOT EXISTS (SELECT * FROM vendor_channels WHERE channel = $1 AND phase <> 'open')
             ON CONFLICT (channel, idx) DO UPDATE SET previous = excluded.previous, chain = excluded.chain,
                 word = excluded.word, item_hash = excluded.item_hash, issued_at = excluded.issued_at,
                 transcript = excluded.transcript, lock = excluded.lock, tag = excluded.tag, order_id = excluded.order_id,
                 price = excluded.price, taken_at = excluded.taken_at, state = excluded.state
             WHERE vendor_payments.state = 'failed'",
        )
        .blob(&channel)
        .bind(i64::from(index.0))
        .bind(i64::from(row.previous.0))
        .bind(i64::from(row.chain))
        .blob(&row.payment.word)
        .blob(&row.payment.item)
        .blob(&row.payment.issued_at)
        .blob(&row.transcript)
        .blob(&row.payment.lock)
        .blob(&row.payment.tag)
        .blob(&row.order)
        .blob(&row.price)
        .blob(&row.taken_at)
        .blob(&stands_on)
        .blob(&NONE)
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 0 {
            let phase = phase_of(conn, channel).await?;
            let there = at_index(conn, channel, index).await?;
            let last = last(conn, channel, None).await?;
            return row.refused(base.tag, phase, there.as_ref(), last.as_ref());
        }
        if let Some(confirmed) = accepted.confirmed() {
            sqlx::query(
                "UPDATE vendor_payments SET state = 'delivered' WHERE channel = $1 AND idx = $2 AND tag = $3",
            )
            .blob(&channel)
            .bind(i64::from(confirmed.index.0))
            .blob(&confirmed.tag)
            .execute(&mut *conn)
            .await
            .map_err(failed)?;
        }
        if row.previous == Index::ZERO {
            sqlx::query(
                "INSERT INTO vendor_channels (channel, since, settled, phase) VALUES ($1, $2, 0, 'open')
                 ON CONFLICT DO NOTHING",
            )
            .blob(&channel)
            .blob(&row.taken_at)
            .execute(conn)
            .await
            .map_err(failed)?;
        }
        Ok(true)
    }
}

struct Mark {
    channel: ChannelId,
    tag: Tag,
    fate: PaymentFate,
}

impl Write for Mark {
    type Out = bool;
    // Reads, then writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "noting a payment's fate";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let Self { channel, tag, fate } = self;
        let failed = |error| database_error(Self::DOING, error);
        let row = sqlx::query("SELECT * FROM vendor_payments WHERE channel = $1 AND tag = $2")
            .blob(&channel)
            .blob(&tag)
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?
            .ok_or(StoreError::UnknownPayment { channel, tag })?;
        let stored = payment(&row)?;
        let index = stored.payment.index;
        let last = last(conn, channel, None).await?;
        let resumed = resumed_at(conn, channel).await?.map(|resumed| resumed.last.index);
        let above = last.map(|last| last.payment.index).max(resumed);
        let above = above.filter(|above| *above > index);
        if !stored.check_fate(fate, above)? {
            return Ok(false);
        }
        sqlx::query("UPDATE vendor_payments SET state = $1 WHERE channel = $2 AND idx = $3")
            .bind(VendorPaymentState::from(fate).name())
            .blob(&channel)
            .bind(i64::from(index.0))
            .execute(conn)
            .await
            .map_err(failed)?;
        Ok(true)
    }
}

struct Resume {
    channel: ChannelId,
    resumed: Resumed,
    at: Timestamp,
}

impl Write for Resume {
    type Out = bool;
    // Reads, then writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "going on after a loss";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let Self { channel, resumed, at } = self;
        let stored = resumed_at(conn, channel).await?;
        let highest = last(conn, channel, None).await?.map(|last| last.payment.index);
        if !check_resumed(channel, &resumed, stored.as_ref(), highest)? {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO vendor_channels (channel, since, settled, phase, from_idx, from_chain, from_word, transcript, from_tag)
             VALUES ($1, $2, 0, 'open', $3, $4, $5, $6, $7)
             ON CONFLICT (channel) DO UPDATE SET from_idx = excluded.from_idx, from_chain = excluded.from_chain,
                 from_word = excluded.from_word, transcript = excluded.transcript, from_tag = excluded.from_tag",
        )
        .blob(&channel)
        .blob(&at)
        .bind(i64::from(resumed.last.index.0))
        .bind(i64::from(resumed.chain))
        .blob(&resumed.word)
        .blob(&resumed.last.transcript)
        .blob(&resumed.last.tag)
        .execute(conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        Ok(true)
    }
}

struct Close {
    channel: ChannelId,
    settled: Index,
}

impl Write for Close {
    type Out = bool;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "noting that a channel is closed";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE vendor_channels SET phase = 'closed', closing = NULL,
                 settled = CASE WHEN settled < $1 THEN $1 ELSE settled END
             WHERE channel = $2 AND phase <> 'closed'",
        )
        .bind(i64::from(self.settled.0))
        .blob(&self.channel)
        .execute(conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        Ok(done.rows_affected() == 1)
    }
}

struct SaveCheckpoint(CheckpointRecord);

impl Write for SaveCheckpoint {
    type Out = bool;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "storing a checkpoint";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let failed = |error| database_error(Self::DOING, error);
        let checkpoint = self.0;
        let (channel, index) = (checkpoint.channel(), checkpoint.signed.index());
        let done = sqlx::query(
            "INSERT INTO vendor_checkpoints (channel, idx, chain, word, locks_root, signature)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .blob(&channel)
        .bind(i64::from(index.0))
        .bind(i64::from(checkpoint.chain))
        .blob(&checkpoint.signed.fields.word)
        .blob(&checkpoint.signed.fields.locksRoot)
        .blob(&checkpoint.signed.signature)
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 1 {
            return Ok(true);
        }
        let row =
            sqlx::query("SELECT * FROM vendor_checkpoints WHERE channel = $1 AND idx = $2 AND chain = $3")
                .blob(&channel)
                .bind(i64::from(index.0))
                .bind(i64::from(checkpoint.chain))
                .fetch_one(conn)
                .await
                .map_err(failed)?;
        check_checkpoint(&checkpoint, &self::checkpoint(&row)?).map(|()| false)
    }
}

struct SaveOpening(Opening);

impl Write for SaveOpening {
    type Out = bool;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "storing an opening";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let failed = |error| database_error(Self::DOING, error);
        let Opening {
            opener,
            opened,
            ends_in_sigma0,
            at,
        } = self.0;
        let done = sqlx::query(
            "UPDATE vendor_channels SET opener_at = $1, opener = $2, opened = $3, in_sigma0 = $4, checked_at = $5
             WHERE channel = $6 AND (opener_at IS NULL OR opener_at <= $1)",
        )
        .bind(i64::from(opener.index.0))
        .blob(&opener.sigma)
        .bind(i64::from(opened))
        .bind(i64::from(ends_in_sigma0))
        .blob(&at)
        .blob(&opener.channel)
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 1 {
            return Ok(true);
        }
        sqlx::query("SELECT channel FROM vendor_channels WHERE channel = $1")
            .blob(&opener.channel)
            .fetch_optional(conn)
            .await
            .map_err(failed)?
            .map(|_| false)
            .ok_or(StoreError::UnknownChannel(opener.channel))
    }
}

/// A step on chain went through for this channel.
pub(super) async fn settled(
    conn: &mut Connection,
    channel: ChannelId,
    index: Index,
    closed: bool,
) -> Result<()> {
    let sql = if closed {
        "UPDATE vendor_channels SET settled = CASE WHEN settled < $1 THEN $1 ELSE settled END, phase = 'closed',
             closing = NULL WHERE channel = $2"
    } else {
        "UPDATE vendor_channels SET settled = CASE WHEN settled < $1 THEN $1 ELSE settled END WHERE channel = $2"
    };
    sqlx::query(sql)
        .bind(i64::from(index.0))
        .blob(&channel)
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error("storing what is settled", error))
}

/// A close is on its way for this channel: it takes no more payments.
pub(super) async fn closing(
    conn: &mut Connection,
    channel: ChannelId,
    settlement: i64,
    at: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO vendor_channels (channel, since, settled, phase, closing) VALUES ($1, $2, 0, 'closing', $3)
         ON CONFLICT (channel) DO UPDATE SET phase = excluded.phase, closing = excluded.closing",
    )
    .blob(&channel)
    .blob(&at)
    .bind(settlement)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("noting that a channel is being closed", error))
}

/// The close did not come about; of one channel or of all that the settlement has.
pub(super) async fn reopened(
    conn: &mut Connection,
    settlement: i64,
    channel: Option<ChannelId>,
) -> Result<()> {
    let mut sql =
        QueryBuilder::new("UPDATE vendor_channels SET phase = 'open', closing = NULL WHERE closing = ");
    sql.push_bind(settlement);
    push_equal(&mut sql, "channel", channel.as_ref());
    sql.build()
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error("noting that a channel goes on", error))
}

/// The phase of a channel, and the highest index that it paid, or signed for.
pub(super) async fn standing(conn: &mut Connection, channel: ChannelId) -> Result<(ChannelPhase, Index)> {
    let paid = highest(conn, channel).await?;
    let paid = paid.map_or(Index::ZERO, |highest| highest.payment.index);
    let signed = latest_checkpoint(&mut *conn, channel).await?;
    let signed = signed.map_or(Index::ZERO, |checkpoint| checkpoint.signed.index());
    let resumed = resumed_at(conn, channel).await?;
    let resumed = resumed.map_or(Index::ZERO, |resumed| resumed.last.index);
    Ok((phase_of(conn, channel).await?, paid.max(signed).max(resumed)))
}

async fn resumed_at(conn: &mut Connection, channel: ChannelId) -> Result<Option<Resumed>> {
    let row = sqlx::query("SELECT * FROM vendor_channels WHERE channel = $1")
        .blob(&channel)
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    match row {
        Some(row) => resumed(&Fields::new(&row, "vendor_channels", "channel")),
        None => Ok(None),
    }
}

fn resumed(fields: &Fields<'_>) -> Result<Option<Resumed>> {
    let Some(index) = fields.maybe_index("from_idx")? else {
        return Ok(None);
    };
    Ok(Some(Resumed {
        last: LastDelivered {
            index,
            transcript: fields.get("transcript")?,
            tag: fields.get("from_tag")?,
        },
        word: fields.get("from_word")?,
        chain: fields.index("from_chain")?.0,
    }))
}

async fn latest_checkpoint(
    executor: impl Executor<'_>,
    channel: ChannelId,
) -> Result<Option<CheckpointRecord>> {
    let row = sqlx::query(
        "SELECT * FROM vendor_checkpoints WHERE channel = $1 ORDER BY idx DESC, chain DESC LIMIT 1",
    )
    .blob(&channel)
    .fetch_optional(executor)
    .await
    .map_err(|error| database_error(READING, error))?;
    row.as_ref().map(checkpoint).transpose()
}

async fn phase_of(conn: &mut Connection, channel: ChannelId) -> Result<ChannelPhase> {
    let row = sqlx::query("SELECT channel, phase, closing FROM vendor_channels WHERE channel = $1")
        .blob(&channel)
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.map_or(Ok(ChannelPhase::Open), |row| {
        phase(&Fields::new(&row, "vendor_channels", "channel"))
    })
}

async fn at_index(conn: &mut Connection, channel: ChannelId, index: Index) -> Result<Option<VendorPayment>> {
    let row = sqlx::query("SELECT * FROM vendor_payments WHERE channel = $1 AND idx = $2")
        .blob(&channel)
        .bind(i64::from(index.0))
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.as_ref().map(payment).transpose()
}

async fn highest(conn: &mut Connection, channel: ChannelId) -> Result<Option<VendorPayment>> {
    let row = sqlx::query("SELECT * FROM vendor_payments WHERE channel = $1 ORDER BY idx DESC LIMIT 1")
        .blob(&channel)
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.as_ref().map(payment).transpose()
}

/// The last payment that counts; below an index, if there is one.
async fn last(
    conn: &mut Connection,
    channel: ChannelId,
    below: Option<Index>,
) -> Result<Option<VendorPayment>> {
    let row = sqlx::query(
        "SELECT * FROM vendor_payments WHERE channel = $1 AND state <> 'failed' AND idx < $2 ORDER BY idx DESC LIMIT 1",
    )
    .blob(&channel)
    .bind(below.map_or(i64::MAX, |below| i64::from(below.0)))
    .fetch_optional(conn)
    .await
    .map_err(|error| database_error(READING, error))?;
    row.as_ref().map(payment).transpose()
}

async fn record(conn: &mut Connection, row: &Row) -> Result<VendorChannelRecord> {
    let fields = Fields::new(row, "vendor_channels", "channel");
    let id: ChannelId = fields.get("channel")?;
    let last = last(conn, id, None).await?;
    let resumed = resumed(&fields)?;
    let position = last.map_or(Index::ZERO, |last| last.payment.index);
    let position = position.max(resumed.map_or(Index::ZERO, |resumed| resumed.last.index));
    let before = match &last {
        Some(last) => self::last(conn, id, Some(last.payment.index)).await?,
        None => None,
    };
    let failed = sqlx::query(
        "SELECT * FROM vendor_payments WHERE channel = $1 AND previous = $2 AND state = 'failed' AND idx > $2
         ORDER BY taken_at DESC, idx DESC LIMIT 1",
    )
    .blob(&id)
    .bind(i64::from(position.0))
    .fetch_optional(&mut *conn)
    .await
    .map_err(|error| database_error(READING, error))?;
    Ok(VendorChannelRecord {
        id,
        since: fields.get("since")?,
        settled: fields.index("settled")?,
        phase: phase(&fields)?,
        highest: highest(conn, id).await?,
        last,
        before,
        resumed,
        failed: failed.as_ref().map(payment).transpose()?,
        checkpoint: latest_checkpoint(&mut *conn, id).await?,
        opening: opening(&fields, id)?,
    })
}

fn opening(fields: &Fields<'_>, channel: ChannelId) -> Result<Option<Opening>> {
    let Some(index) = fields.maybe_index("opener_at")? else {
        return Ok(None);
    };
    Ok(Some(Opening {
        opener: Opener {
            channel,
            index,
            sigma: fields.get("opener")?,
        },
        opened: fields.index("opened")?.0,
        ends_in_sigma0: fields.flag("in_sigma0")?,
        at: fields.get("checked_at")?,
    }))
}

fn phase(fields: &Fields<'_>) -> Result<ChannelPhase> {
    match (fields.text("phase")?, fields.maybe_count("closing")?) {
        ("open", None) => Ok(ChannelPhase::Open),
        ("closing", Some(settlement)) => Ok(ChannelPhase::Closing(SettlementId(settlement))),
        ("closed", None) => Ok(ChannelPhase::Closed),
        (name, closing) => Err(fields.corrupt("phase", format!("{name:?} with settlement {closing:?}"))),
    }
}

fn payment(row: &Row) -> Result<VendorPayment> {
    let fields = Fields::new(row, "vendor_payments", "channel");
    Ok(VendorPayment {
        payment: Payment {
            channel: fields.get("channel")?,
            index: fields.index("idx")?,
            word: fields.get("word")?,
            item: fields.get("item_hash")?,
            issued_at: fields.get("issued_at")?,
            lock: fields.get("lock")?,
            tag: fields.get("tag")?,
        },
        previous: fields.index("previous")?,
        chain: fields.index("chain")?.0,
        transcript: fields.get("transcript")?,
        order: fields.get("order_id")?,
        price: fields.get("price")?,
        taken_at: fields.get("taken_at")?,
        state: state(&fields)?,
    })
}

fn state(fields: &Fields<'_>) -> Result<VendorPaymentState> {
    let name = fields.text("state")?;
    VendorPaymentState::ALL
        .into_iter()
        .find(|state| state.name() == name)
        .ok_or_else(|| fields.corrupt("state", format!("there is no state {name:?}")))
}

fn checkpoint(row: &Row) -> Result<CheckpointRecord> {
    let fields = Fields::new(row, "vendor_checkpoints", "channel");
    let signed = SignedCheckpoint {
        fields: Checkpoint {
            channelId: fields.get("channel")?,
            index: fields.index("idx")?.0,
            word: fields.get("word")?,
            locksRoot: fields.get("locks_root")?,
        },
        signature: fields.get("signature")?,
    };
    Ok(CheckpointRecord {
        signed,
        chain: fields.index("chain")?.0,
    })
}
