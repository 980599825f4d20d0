//! [`OrderStore`] in SQL.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use alloy_primitives::Address;
use protocol::ticket::{Amount, Domain, Issued, Nonce, OrderId, Ticket};
use sqlx::QueryBuilder;

use super::{
    Connection, Executor, Row, SqlStore,
    columns::{Bind, Fields, push_equal, push_limit},
    database_error, in_time,
    writer::Write,
};
use crate::{
    Issue, OrderFilter, OrderRecord, OrderRequest, OrderStage, OrderState, OrderStore, OrderTotals, Result,
    StoreError,
    orders::{check_move, check_signed, nonce_after},
};

const READING: &str = "reading orders";

impl OrderStore for SqlStore {
    async fn issue<F>(&self, request: OrderRequest, sign: F) -> Result<Issue>
    where
        F: FnOnce(Nonce) -> Ticket<Issued> + Send + 'static,
    {
        self.writer
            .write(IssueOrder {
                domain: *self.domain(),
                request,
                sign,
            })
            .await
    }

    async fn order(&self, id: OrderId) -> Result<Option<OrderRecord>> {
        in_time(async { find(&self.readers, self.domain(), id).await }).await
    }

    async fn resolve(&self, id: OrderId, state: OrderState) -> Result<bool> {
        self.writer
            .write(Resolve {
                domain: *self.domain(),
                id,
                state,
            })
            .await
    }

    async fn raise_nonce(&self, escrow: Address, above: Nonce) -> Result<Nonce> {
        self.writer.write(RaiseNonce { escrow, above }).await
    }

    async fn orders(&self, filter: impl Into<OrderFilter> + Send) -> Result<Vec<OrderRecord>> {
        in_time(async {
            let filter = filter.into();
            let mut sql = QueryBuilder::new("SELECT * FROM orders WHERE TRUE");
            push_equal(&mut sql, "escrow", filter.escrow.as_ref());
            if let Some(stage) = filter.stage {
                sql.push(" AND state = ").push_bind(stage.name());
            }
            // From the end, because a limit keeps the highest nonces.
            sql.push(" ORDER BY escrow DESC, nonce DESC");
            push_limit(&mut sql, filter.limit);
            let rows = sql
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(|error| database_error(READING, error))?;
            rows.iter().rev().map(|row| record(row, self.domain())).collect()
        })
        .await
    }

    async fn next_nonce(&self, escrow: Address) -> Result<Nonce> {
        in_time(async { next_nonce(&self.readers, escrow).await }).await
    }

    async fn spent(&self, account: &str) -> Result<Amount> {
        in_time(async { spent(&self.readers, account).await }).await
    }

    async fn order_totals(&self, escrow: Option<Address>) -> Result<OrderTotals> {
        in_time(async {
            // By price, too: databases cannot add 128-bit numbers, and few prices are in use at a time.
            let mut sql = QueryBuilder::new("SELECT state, price, COUNT(*) AS number FROM orders WHERE TRUE");
            push_equal(&mut sql, "escrow", escrow.as_ref());
            sql.push(" GROUP BY state, price");
            let rows = sql
                .build()
                .fetch_all(&self.readers)
                .await
                .map_err(|error| database_error(READING, error))?;
            let mut totals = OrderTotals::default();
            for row in &rows {
                let fields = Fields::new(row, "orders", "price");
                totals
                    .of_mut(stage(&fields)?)
                    .add(fields.count("number")?, fields.get::<Amount>("price")?)?;
            }
            Ok(totals)
        })
        .await
    }
}

struct IssueOrder<F> {
    domain: Domain,
    request: OrderRequest,
    sign: F,
}

impl<F: FnOnce(Nonce) -> Ticket<Issued> + Send + 'static> Write for IssueOrder<F> {
    type Out = Issue;
    const DOING: &'static str = "issuing a ticket";

    async fn apply(self, conn: &mut Connection) -> Result<Issue> {
        let Self {
            domain,
            request,
            sign,
        } = self;
        if let Some(record) = find(&mut *conn, &domain, request.order).await? {
            return Ok(Issue::Existing(record));
        }
        let mut charged = BTreeMap::new();
        for budget in &request.budgets {
            let before = spent(&mut *conn, &budget.account).await?;
            charged.insert(&budget.account, budget.charge(before, request.price)?);
        }
        let nonce = next_nonce(&mut *conn, request.escrow).await?;
        let after = nonce_after(request.escrow, nonce)?;
        // A panic here would end the writer for everyone.
        let ticket = catch_unwind(AssertUnwindSafe(|| sign(nonce)))
            .map_err(|_| StoreError::SignPanicked(request.order))?;
        check_signed(&domain, &request, nonce, &ticket)?;
        for (account, spent) in charged {
            store_spent(conn, account, spent).await?;
        }
        store_next(conn, request.escrow, after).await?;
        let fields = ticket.fields();
        sqlx::query(
            "INSERT INTO orders (id, digest, escrow, recipient, commitment, r2, win_threshold, expiry, nonce,
                 signature, price, replaces, issued_at, state)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'sent')",
        )
        .blob(&request.order)
        .blob(&ticket.digest())
        .blob(&fields.escrow)
        .blob(&fields.recipient)
        .blob(&fields.commitment)
        .blob(&fields.r2)
        .blob(&fields.winThreshold)
        .blob(&fields.expiry)
        .blob(&fields.nonce)
        .blob(ticket.signature())
        .blob(&request.price)
        .maybe_blob(request.replaces.as_ref())
        .blob(&request.at)
        .execute(conn)
        .await
        .map_err(|error| database_error(Self::DOING, error))?;
        Ok(Issue::Fresh(OrderRecord::new(&request, ticket)))
    }
}

struct Resolve {
    domain: Domain,
    id: OrderId,
    state: OrderState,
}

impl Write for Resolve {
    type Out = bool;
    // Reads, then writes with one statement.
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "resolving an order";

    async fn apply(self, conn: &mut Connection) -> Result<bool> {
        let record = find(&mut *conn, &self.domain, self.id)
            .await?
            .ok_or(StoreError::UnknownOrder(self.id))?;
        if !check_move(&record, &self.state)? {
            return Ok(false);
        }
        let rule = match &self.state {
            OrderState::Refused { rule } => Some(rule.clone().into_bytes()),
            OrderState::Sent | OrderState::Delivered => None,
        };
        sqlx::query("UPDATE orders SET state = $1, rule = $2 WHERE id = $3")
            .bind(self.state.stage().name())
            .bind(rule)
            .blob(&self.id)
            .execute(conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?;
        Ok(true)
    }
}

struct RaiseNonce {
    escrow: Address,
    above: Nonce,
}

impl Write for RaiseNonce {
    type Out = Nonce;
    const SAVEPOINT: bool = false;
    const DOING: &'static str = "raising a nonce";

    async fn apply(self, conn: &mut Connection) -> Result<Nonce> {
        let next = next_nonce(&mut *conn, self.escrow).await?;
        let raised = nonce_after(self.escrow, self.above)?;
        if raised <= next {
            return Ok(next);
        }
        store_next(conn, self.escrow, raised).await?;
        Ok(raised)
    }
}

async fn next_nonce(executor: impl Executor<'_>, escrow: Address) -> Result<Nonce> {
    let row = sqlx::query("SELECT escrow, next FROM nonces WHERE escrow = $1")
        .blob(&escrow)
        .fetch_optional(executor)
        .await
        .map_err(|error| database_error("reading the next nonce", error))?;
    row.map_or(Ok(Nonce(1)), |row| {
        Fields::new(&row, "nonces", "escrow").get("next")
    })
}

async fn store_next(conn: &mut Connection, escrow: Address, next: Nonce) -> Result<()> {
    sqlx::query(
        "INSERT INTO nonces (escrow, next) VALUES ($1, $2) ON CONFLICT (escrow) DO UPDATE SET next = excluded.next",
    )
    .blob(&escrow)
    .blob(&next)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("storing the next nonce", error))
}

pub(super) async fn spent(executor: impl Executor<'_>, account: &str) -> Result<Amount> {
    let row = sqlx::query("SELECT account, amount FROM spent WHERE account = $1")
        .bind(account.as_bytes().to_vec())
        .fetch_optional(executor)
        .await
        .map_err(|error| database_error("reading what was spent", error))?;
    row.map_or(Ok(Amount(0)), |row| {
        Fields::new(&row, "spent", "account").get("amount")
    })
}

pub(super) async fn store_spent(conn: &mut Connection, account: &str, amount: Amount) -> Result<()> {
    sqlx::query(
        "INSERT INTO spent (account, amount) VALUES ($1, $2)
         ON CONFLICT (account) DO UPDATE SET amount = excluded.amount",
    )
    .bind(account.as_bytes().to_vec())
    .blob(&amount)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("storing what was spent", error))
}

async fn find(executor: impl Executor<'_>, domain: &Domain, id: OrderId) -> Result<Option<OrderRecord>> {
    let row = sqlx::query("SELECT * FROM orders WHERE id = $1")
        .blob(&id)
        .fetch_optional(executor)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.map(|row| record(&row, domain)).transpose()
}

fn record(row: &Row, domain: &Domain) -> Result<OrderRecord> {
    let fields = Fields::new(row, "orders", "id");
    let ticket = fields.issued(domain)?;
    let state = match (stage(&fields)?, fields.maybe_string("rule")?) {
        (OrderStage::Sent, None) => OrderState::Sent,
        (OrderStage::Delivered, None) => OrderState::Delivered,
        (OrderStage::Refused, Some(rule)) => OrderState::Refused { rule },
        (stage, rule) => return Err(fields.corrupt("rule", format!("{rule:?} in state {stage}"))),
    };
    Ok(OrderRecord {
        id: fields.get("id")?,
        recipient: ticket.recipient(),
        ticket,
        price: fields.get("price")?,
        replaces: fields.maybe("replaces")?,
        issued_at: fields.get("issued_at")?,
        state,
    })
}

fn stage(fields: &Fields<'_>) -> Result<OrderStage> {
    let name = fields.text("state")?;
    OrderStage::ALL
        .into_iter()
        .find(|stage| stage.name() == name)
        .ok_or_else(|| fields.corrupt("state", format!("there is no state {name:?}")))
}
