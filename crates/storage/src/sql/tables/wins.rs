//! [`WinStore`] in SQL.

use alloy_primitives::{Address, B256, U256, aliases::B32};
use protocol::ticket::{Amount, Domain, Nonce, OrderId, Ticket, Timestamp, Won};
use sqlx::QueryBuilder;

use super::{
    Connection, Db, Executor, Row, SqlStore,
    claims::state as claim_state,
    columns::{Bind, Fields, push_equal, push_limit},
    database_error, in_time,
    writer::Write,
};
use crate::{
    ClaimId, Result, StoreError, WinFilter, WinRecord, WinStage, WinState, WinStore, WinTotals,
    wins::check_void,
};

const READING: &str = "reading winners";

/// A winner with the columns of its claim that its state follows from.
const SELECT: &str =
    "SELECT w.*, c.state, c.mined_hash, c.block_number, c.block_hash, c.block_timestamp, c.gas_used,
        c.effective_gas_price
    FROM wins w LEFT JOIN claims c ON c.id = w.claim WHERE TRUE";

/// Written exactly as in the partial index, so that SQLite uses it.
const UNFINISHED: &str = "w.paid IS NULL AND w.reason IS NULL";

impl WinStore for SqlStore {
    async fn save_win(
        &self,
        ticket: &Ticket<Won>,
        order: OrderId,
        price: Amount,
        at: Timestamp,
    ) -> Result<bool> {
        self.writer
            .write(SaveWin {
                ticket: ticket.clone(),
                order,
                price,
                at,
            })
            .await
    }

    async fn mark_delivered(&self, digest: B256) -> Result<()> {
        self.writer.write(MarkDelivered(digest)).await
    }

    async fn void(&self, digest: B256) -> Result<()> {
        let domain = *self.domain();
        self.writer.write(Void { domain, digest }).await
    }

    async fn win(&self, digest: B256) -> Result<Option<WinRecord>> {
        in_time(async { find(&self.readers, self.domain(), digest).await }).await
    }

    async fn wins(&self, filter: impl Into<WinFilter> + Send) -> Result<Vec<WinRecord>> {
        in_time(async { select(&self.readers, self.domain(), filter.into()).await }).await
    }

    async fn unclaimed(&self, escrow: Address) -> Result<u32> {
        in_time(async {
            let mut sql = QueryBuilder::new("SELECT COUNT(*) AS number FROM wins w WHERE ");
            sql.push(UNFINISHED);
            push_equal(&mut sql, "w.escrow", Some(&escrow));
            let row = sql
                .build()
                .fetch_one(&self.readers)
                .await
                .map_err(|error| database_error(READING, error))?;
            let fields = Fields::new(&row, "wins", "number");
            u32::try_from(fields.count("number")?).map_err(|error| fields.corrupt("number", error))
        })
        .await
    }

    async fn load_unfinished(&self) -> Result<Vec<WinRecord>> {
        in_time(async {
            let mut sql = QueryBuilder::new(SELECT);
            sql.push(" AND ")
                .push(UNFINISHED)
                .push(" ORDER BY w.escrow, w.nonce");
            fetch(&self.readers, self.domain(), sql).await
        })
        .await
    }

    async fn give_up(&self, digest: B256, reason: B32, got: U256, limit: U256) -> Result<()> {
        self.writer
            .write(GiveUp {
                domain: *self.domain(),
                digest,
                reason,
                got,
                limit,
            })
            .await
    }

    async fn win_totals(&self) -> Result<WinTotals> {
        in_time(async {
            // By amounts, too: databases cannot add 128-bit numbers, and few prices are in use at a time.
            let rows = sqlx::query(
                "SELECT CASE WHEN w.paid IS NOT NULL THEN 'final' WHEN w.reason IS NOT NULL THEN 'refused'
                             WHEN w.claim IS NULL THEN 'won' ELSE c.state END AS stage,
                     w.price, w.paid, w.owed, COUNT(*) AS number
                 FROM wins w LEFT JOIN claims c ON c.id = w.claim
                 GROUP BY stage, w.price, w.paid, w.owed",
            )
            .fetch_all(&self.readers)
            .await
            .map_err(|error| database_error(READING, error))?;
            let mut totals = WinTotals::default();
            for row in &rows {
                let fields = Fields::new(row, "wins", "price");
                let name = fields.text("stage")?;
                let stage = WinStage::ALL
                    .into_iter()
                    .find(|stage| stage.name() == name)
                    .ok_or_else(|| fields.corrupt("claim", format!("no outcome, but the claim is {name}")))?;
                let (count, price) = (fields.count("number")?, fields.get("price")?);
                totals.add(stage, count, price)?;
                if let Some(paid) = fields.maybe("paid")? {
                    totals.add_settled(count, paid, fields.get("owed")?)?;
                }
            }
            Ok(totals)
        })
        .await
    }
}

struct SaveWin {
    ticket: Ticket<Won>,
    order: OrderId,
    price: Amount,
    at: Timestamp,
}

impl Write for SaveWin {
    type Out = bool;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "storing a winner";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let fields = self.ticket.fields();
        let won = self.ticket.state();
        let done = sqlx::query(
            // One statement, so that winners need no savepoint.
            "INSERT INTO wins (digest, escrow, recipient, commitment, r2, win_threshold, expiry, nonce, signature, boot,
                 serial, r1, order_id, price, won_at, delivered)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 0
             WHERE NOT EXISTS (SELECT * FROM floors WHERE escrow = $2 AND nonce >= $8) ON CONFLICT DO NOTHING",
        )
        .blob(&self.ticket.digest())
        .blob(&fields.escrow)
        .blob(&fields.recipient)
        .blob(&fields.commitment)
        .blob(&fields.r2)
        .blob(&fields.winThreshold)
        .blob(&fields.expiry)
        .blob(&fields.nonce)
        .blob(self.ticket.signature())
        .blob(&won.session.boot)
        .blob(&won.session.serial)
        .blob(&won.r1)
        .blob(&self.order)
        .blob(&self.price)
        .blob(&self.at)
        .execute(&mut *conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        if done.rows_affected() == 1 {
            return Ok(true);
        }
        // The digest holds escrow and nonce, so a row with the digest is the one with the nonce.
        let row = sqlx::query("SELECT digest FROM wins WHERE escrow = $1 AND nonce = $2")
            .blob(&fields.escrow)
            .blob(&fields.nonce)
            .fetch_optional(&mut *conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        let Some(row) = row else {
            return Err(StoreError::BelowFloor {
                escrow: self.ticket.escrow(),
                nonce: self.ticket.nonce(),
                floor: floor(conn, self.ticket.escrow()).await?,
            });
        };
        let stored: B256 = Fields::new(&row, "wins", "digest").get("digest")?;
        if stored == self.ticket.digest() {
            return Ok(false);
        }
        Err(StoreError::NonceTaken {
            escrow: self.ticket.escrow(),
            nonce: self.ticket.nonce(),
            stored,
            got: self.ticket.digest(),
        })
    }
}

struct MarkDelivered(B256);

impl Write for MarkDelivered {
    type Out = ();
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "noting a delivery";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        let done = sqlx::query("UPDATE wins SET delivered = 1 WHERE digest = $1")
            .blob(&self.0)
            .execute(conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::UnknownWin(self.0));
        }
        Ok(())
    }
}

struct Void {
    domain: Domain,
    digest: B256,
}

impl Write for Void {
    type Out = ();
    // Reads, then writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "voiding a winner";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        let Some(win) = find(&mut *conn, &self.domain, self.digest).await? else {
            return Ok(());
        };
        check_void(&win)?;
        sqlx::query("DELETE FROM wins WHERE digest = $1")
            .blob(&self.digest)
            .execute(conn)
            .await
            .map(drop)
            .map_err(|error| database_error(Self::DOING, error))
    }
}

struct GiveUp {
    domain: Domain,
    digest: B256,
    reason: B32,
    got: U256,
    limit: U256,
}

impl Write for GiveUp {
    type Out = ();
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "giving up a winner";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        let to = WinState::Refused {
            reason: self.reason,
            got: self.got,
            limit: self.limit,
        };
        let win = find(&mut *conn, &self.domain, self.digest)
            .await?
            .ok_or(StoreError::UnknownWin(self.digest))?;
        if win.state != WinState::Won {
            return Err(StoreError::WinMove {
                digest: self.digest,
                from: win.state,
                to: to.stage(),
            });
        }
        settle(conn, self.digest, to).await
    }
}

/// Writes a winner's outcome.
pub(super) async fn settle(conn: &mut Connection, digest: B256, outcome: WinState) -> Result<()> {
    let (paid, owed, reason, got, limit) = match outcome {
        WinState::Final { paid, owed } => (Some(paid), Some(owed), None, None, None),
        WinState::Refused { reason, got, limit } => (None, None, Some(reason), Some(got), Some(limit)),
        _ => (None, None, None, None, None),
    };
    sqlx::query("UPDATE wins SET paid = $1, owed = $2, reason = $3, got = $4, bound = $5 WHERE digest = $6")
        .maybe_blob(paid.as_ref())
        .maybe_blob(owed.as_ref())
        .maybe_blob(reason.as_ref())
        .maybe_blob(got.as_ref())
        .maybe_blob(limit.as_ref())
        .blob(&digest)
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error("storing a winner's outcome", error))
}

/// The floor of an escrow that has one.
async fn floor(conn: &mut Connection, escrow: Address) -> Result<Nonce> {
    let row = sqlx::query("SELECT escrow, nonce FROM floors WHERE escrow = $1")
        .blob(&escrow)
        .fetch_one(conn)
        .await
        .map_err(|error| database_error("reading floors", error))?;
    Fields::new(&row, "floors", "escrow").get("nonce")
}

pub(super) async fn find(
    executor: impl Executor<'_>,
    domain: &Domain,
    digest: B256,
) -> Result<Option<WinRecord>> {
    let mut sql = QueryBuilder::new(SELECT);
    push_equal(&mut sql, "w.digest", Some(&digest));
    Ok(fetch(executor, domain, sql).await?.pop())
}

pub(super) async fn select(
    executor: impl Executor<'_>,
    domain: &Domain,
    filter: WinFilter,
) -> Result<Vec<WinRecord>> {
    let mut sql = QueryBuilder::new(SELECT);
    push_equal(&mut sql, "w.escrow", filter.escrow.as_ref());
    if let Some(claim) = filter.claim {
        sql.push(" AND w.claim = ")
            .push_bind(super::claims::row_id(claim)?);
    }
    if let Some(stage) = filter.stage {
        sql.push(" AND ");
        match stage {
            WinStage::Won => sql.push(UNFINISHED).push(" AND w.claim IS NULL"),
            WinStage::Queued | WinStage::Sent | WinStage::Mined => sql
                .push(UNFINISHED)
                .push(" AND c.state = ")
                .push_bind(stage.name()),
            WinStage::Final => sql.push("w.paid IS NOT NULL"),
            WinStage::Refused => sql.push("w.reason IS NOT NULL"),
        };
    }
    sql.push(" ORDER BY w.escrow, w.nonce");
    push_limit(&mut sql, filter.limit);
    fetch(executor, domain, sql).await
}

async fn fetch(
    executor: impl Executor<'_>,
    domain: &Domain,
    mut sql: QueryBuilder<Db>,
) -> Result<Vec<WinRecord>> {
    let rows = sql
        .build()
        .fetch_all(executor)
        .await
        .map_err(|error| database_error(READING, error))?;
    rows.iter().map(|row| record(row, domain)).collect()
}

fn record(row: &Row, domain: &Domain) -> Result<WinRecord> {
    let fields = Fields::new(row, "wins", "digest");
    Ok(WinRecord {
        ticket: fields.won(domain)?,
        order: fields.get("order_id")?,
        price: fields.get("price")?,
        won_at: fields.get("won_at")?,
        delivered: fields.flag("delivered")?,
        claim: fields.maybe_count("claim")?.map(ClaimId),
        state: state(&fields)?,
    })
}

fn state(fields: &Fields<'_>) -> Result<WinState> {
    if let Some(paid) = fields.maybe("paid")? {
        return Ok(WinState::Final {
            paid,
            owed: fields.get("owed")?,
        });
    }
    if let Some(reason) = fields.maybe("reason")? {
        return Ok(WinState::Refused {
            reason,
            got: fields.get("got")?,
            limit: fields.get("bound")?,
        });
    }
    let Some(claim) = fields.maybe_count("claim")?.map(ClaimId) else {
        return Ok(WinState::Won);
    };
    let claim_state = claim_state(&fields.of("claims", "claim"))?;
    claim_state
        .win_state(claim)
        .ok_or_else(|| fields.corrupt("claim", format!("no outcome, but claim {claim} is {claim_state}")))
}
