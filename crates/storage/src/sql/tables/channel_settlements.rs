//! [`SettlementStore`] in SQL.

use alloy_primitives::B256;
use protocol::channel::{ChannelId, Index, Timestamp};
use sqlx::{Connection as _, QueryBuilder};

use super::{
    Connection, Db, SqlStore, channel_vendor as vendor,
    columns::{Bind, Fields, push_limit},
    database_error, in_time,
    writer::Write,
};
use crate::{
    Result, StoreError, TxRecord,
    channel::{
        SettlementId, SettlementItem, SettlementMove, SettlementOutcome, SettlementRecord, SettlementStage,
        SettlementState, SettlementStep, SettlementStore, check_settlement, check_settlement_outcomes,
    },
};

const READING: &str = "reading settlements";

impl SettlementStore for SqlStore {
    async fn queue_settlement(
        &self,
        step: SettlementStep,
        channels: &[(ChannelId, Index)],
        at: Timestamp,
    ) -> Result<SettlementId> {
        self.channels()?;
        let channels = channels.to_vec();
        self.writer.write(Queue { step, channels, at }).await
    }

    async fn add_settlement_transaction(
        &self,
        settlement: SettlementId,
        transaction: &TxRecord,
    ) -> Result<()> {
        let kind = MoveKind::Send(transaction.clone());
        self.writer.write(Move { settlement, kind }).await
    }

    async fn move_settlement(&self, settlement: SettlementId, to: SettlementMove) -> Result<()> {
        let kind = MoveKind::Go(to);
        self.writer.write(Move { settlement, kind }).await
    }

    async fn finalize_settlement(
        &self,
        settlement: SettlementId,
        outcomes: &[(ChannelId, SettlementOutcome)],
        gas_used: u64,
        effective_gas_price: u128,
    ) -> Result<()> {
        let kind = MoveKind::Finalize {
            outcomes: outcomes.to_vec(),
            gas_used,
            effective_gas_price,
        };
        self.writer.write(Move { settlement, kind }).await
    }

    async fn settlement(&self, settlement: SettlementId) -> Result<Option<SettlementRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM settlements WHERE id = ");
        sql.push_bind(row_id(settlement)?);
        Ok(self.settlement_records(sql).await?.pop())
    }

    async fn unfinished_settlements(&self) -> Result<Vec<SettlementRecord>> {
        let sql = QueryBuilder::new(
            "SELECT * FROM settlements WHERE state IN ('queued', 'sent', 'mined') ORDER BY id",
        );
        self.settlement_records(sql).await
    }

    async fn settlements(&self, limit: u32) -> Result<Vec<SettlementRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM settlements ORDER BY id DESC");
        push_limit(&mut sql, Some(limit));
        self.settlement_records(sql).await
    }
}

impl SqlStore {
    /// The settlements that a query selects, with their parts, as of one moment.
    async fn settlement_records(&self, mut sql: QueryBuilder<Db>) -> Result<Vec<SettlementRecord>> {
        in_time(async {
            let failed = |error| database_error(READING, error);
            let mut conn = self.readers.acquire().await.map_err(failed)?;
            let mut snapshot = conn.begin().await.map_err(failed)?;
            let rows = sql.build().fetch_all(&mut *snapshot).await.map_err(failed)?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                let fields = Fields::new(row, "settlements", "id");
                let id = SettlementId(fields.count("id")?);
                let (transactions, dropped) = transactions(&mut snapshot, id).await?;
                records.push(SettlementRecord {
                    id,
                    step: step(&fields)?,
                    state: state(&fields)?,
                    queued_at: fields.get("queued_at")?,
                    items: items(&mut snapshot, id).await?,
                    transactions,
                    dropped,
                });
            }
            snapshot.commit().await.map_err(failed)?;
            Ok(records)
        })
        .await
    }
}

struct Queue {
    step: SettlementStep,
    channels: Vec<(ChannelId, Index)>,
    at: Timestamp,
}

impl Write for Queue {
    type Out = SettlementId;
    const DOING: &'static str = "queueing a settlement";

    async fn apply(self, conn: &mut Connection) -> Result<SettlementId> {
        let failed = |error| database_error(Self::DOING, error);
        if self.channels.is_empty() {
            return Err(StoreError::SettlementEmpty);
        }
        // Settlements are never deleted, so the next number is free.
        let row = sqlx::query(
            "INSERT INTO settlements (id, step, state, queued_at)
             SELECT COALESCE(MAX(id), 0) + 1, $1, 'queued', $2 FROM settlements RETURNING id",
        )
        .bind(self.step.name())
        .blob(&self.at)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
        let id = SettlementId(Fields::new(&row, "settlements", "id").count("id")?);
        for (channel, index) in self.channels {
            // Also finds a channel that is named twice.
            let busy = sqlx::query(
                "SELECT s.id FROM settlement_items i JOIN settlements s ON s.id = i.settlement
                 WHERE i.channel = $1 AND s.state IN ('queued', 'sent', 'mined')",
            )
            .blob(&channel)
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?;
            if let Some(busy) = busy {
                let settlement = SettlementId(Fields::new(&busy, "settlements", "id").count("id")?);
                return Err(StoreError::SettlementBusy { channel, settlement });
            }
            let (phase, highest) = vendor::standing(conn, channel).await?;
            check_settlement(self.step, (channel, index), phase, highest)?;
            if self.step.closes() {
                vendor::closing(conn, channel, row_id(id)?, self.at).await?;
            }
            sqlx::query("INSERT INTO settlement_items (settlement, channel, idx) VALUES ($1, $2, $3)")
                .bind(row_id(id)?)
                .blob(&channel)
                .bind(i64::from(index.0))
                .execute(&mut *conn)
                .await
                .map_err(failed)?;
        }
        Ok(id)
    }
}

/// One move of a settlement's life.
struct Move {
    settlement: SettlementId,
    kind: MoveKind,
}

enum MoveKind {
    Send(TxRecord),
    Go(SettlementMove),
    Finalize {
        outcomes: Vec<(ChannelId, SettlementOutcome)>,
        gas_used: u64,
        effective_gas_price: u128,
    },
}

impl Write for Move {
    type Out = ();
    const DOING: &'static str = "moving a settlement";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        let Self { settlement: id, kind } = self;
        let failed = |error| database_error(Self::DOING, error);
        let row = sqlx::query("SELECT * FROM settlements WHERE id = $1")
            .bind(row_id(id)?)
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?
            .ok_or(StoreError::UnknownSettlement(id))?;
        let fields = Fields::new(&row, "settlements", "id");
        let from = state(&fields)?;
        let to = match kind {
            MoveKind::Send(transaction) => {
                let to = from.send(id)?;
                save_transaction(conn, id, &transaction).await?;
                to
            }
            MoveKind::Go(to) => {
                let mut revived = false;
                if let SettlementMove::Mined { hash, .. } = to {
                    let known = known_transaction(conn, hash).await?;
                    let (_, dropped) = known
                        .filter(|(of, _)| *of == id)
                        .ok_or(StoreError::UnknownSettlementTransaction { settlement: id, hash })?;
                    revived = dropped;
                }
                let state = from.go(id, to, revived)?;
                match to {
                    SettlementMove::Mined { hash, .. } => revive(conn, hash).await?,
                    SettlementMove::Requeue => {
                        sqlx::query("UPDATE settlement_transactions SET dropped = 1 WHERE settlement = $1")
                            .bind(row_id(id)?)
                            .execute(&mut *conn)
                            .await
                            .map_err(failed)?;
                    }
                    SettlementMove::Drop => vendor::reopened(conn, row_id(id)?, None).await?,
                    SettlementMove::Unmined => {}
                }
                state
            }
            MoveKind::Finalize {
                outcomes,
                gas_used,
                effective_gas_price,
            } => {
                let to = from.finalize(id, gas_used, effective_gas_price)?;
                let channels: Vec<_> = items(conn, id).await?.iter().map(|item| item.channel).collect();
                check_settlement_outcomes(id, &channels, &outcomes)?;
                let step = step(&fields)?;
                for (channel, outcome) in outcomes {
                    settle(conn, id, step, channel, outcome).await?;
                }
                to
            }
        };
        store_state(conn, id, to).await
    }
}

/// Writes what became of a channel, and what that means for it.
async fn settle(
    conn: &mut Connection,
    id: SettlementId,
    step: SettlementStep,
    channel: ChannelId,
    outcome: SettlementOutcome,
) -> Result<()> {
    let failed = |error| database_error("storing a settlement's outcome", error);
    match outcome {
        SettlementOutcome::Settled { index, paid } => {
            sqlx::query(
                "UPDATE settlement_items SET paid_at = $1, paid = $2 WHERE settlement = $3 AND channel = $4",
            )
            .bind(i64::from(index.0))
            .blob(&paid)
            .bind(row_id(id)?)
            .blob(&channel)
            .execute(&mut *conn)
            .await
            .map_err(failed)?;
            vendor::settled(conn, channel, index, step.closes()).await
        }
        SettlementOutcome::Skipped { reason, got, limit } => {
            sqlx::query(
                "UPDATE settlement_items SET reason = $1, got = $2, bound = $3 WHERE settlement = $4 AND channel = $5",
            )
            .blob(&reason)
            .blob(&got)
            .blob(&limit)
            .bind(row_id(id)?)
            .blob(&channel)
            .execute(&mut *conn)
            .await
            .map_err(failed)?;
            vendor::reopened(conn, row_id(id)?, Some(channel)).await
        }
    }
}

async fn store_state(conn: &mut Connection, id: SettlementId, state: SettlementState) -> Result<()> {
    let mined = match &state {
        SettlementState::Mined { hash, block } | SettlementState::Final { hash, block, .. } => {
            Some((hash, block))
        }
        SettlementState::Queued | SettlementState::Sent | SettlementState::Dropped => None,
    };
    let cost = match &state {
        SettlementState::Final {
            gas_used,
            effective_gas_price,
            ..
        } => Some((gas_used, effective_gas_price)),
        _ => None,
    };
    sqlx::query(
        "UPDATE settlements SET state = $1, mined_hash = $2, block_number = $3, block_hash = $4, block_timestamp = $5,
             gas_used = $6, effective_gas_price = $7 WHERE id = $8",
    )
    .bind(state.stage().name())
    .maybe_blob(mined.map(|(hash, _)| hash))
    .maybe_blob(mined.map(|(_, block)| &block.number))
    .maybe_blob(mined.map(|(_, block)| &block.hash))
    .maybe_blob(mined.map(|(_, block)| &block.timestamp))
    .maybe_blob(cost.map(|(gas, _)| gas))
    .maybe_blob(cost.map(|(_, price)| price))
    .bind(row_id(id)?)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("storing a settlement's state", error))
}

async fn save_transaction(conn: &mut Connection, id: SettlementId, transaction: &TxRecord) -> Result<()> {
    let hash = transaction.hash;
    match known_transaction(conn, hash).await? {
        Some((stored, _)) if stored == id => return revive(conn, hash).await,
        Some((stored, _)) => {
            return Err(StoreError::SettlementTransactionTaken {
                hash,
                got: id,
                stored,
            });
        }
        None => {}
    }
    sqlx::query(
        "INSERT INTO settlement_transactions (hash, settlement, raw, account_nonce, max_fee_per_gas,
             max_priority_fee_per_gas, sent_at, dropped)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
    )
    .blob(&hash)
    .bind(row_id(id)?)
    .bind(transaction.raw.to_vec())
    .blob(&transaction.account_nonce)
    .blob(&transaction.max_fee_per_gas)
    .blob(&transaction.max_priority_fee_per_gas)
    .blob(&transaction.sent_at)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("storing a transaction", error))
}

/// The settlement of a transaction, and whether it counts as dropped.
async fn known_transaction(conn: &mut Connection, hash: B256) -> Result<Option<(SettlementId, bool)>> {
    let row = sqlx::query("SELECT hash, settlement, dropped FROM settlement_transactions WHERE hash = $1")
        .blob(&hash)
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.map(|row| {
        let fields = Fields::new(&row, "settlement_transactions", "hash");
        Ok((SettlementId(fields.count("settlement")?), fields.flag("dropped")?))
    })
    .transpose()
}

async fn revive(conn: &mut Connection, hash: B256) -> Result<()> {
    sqlx::query("UPDATE settlement_transactions SET dropped = 0 WHERE hash = $1")
        .blob(&hash)
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error("storing a transaction", error))
}

async fn transactions(conn: &mut Connection, id: SettlementId) -> Result<(Vec<TxRecord>, Vec<TxRecord>)> {
    let rows = sqlx::query("SELECT * FROM settlement_transactions WHERE settlement = $1 ORDER BY seq")
        .bind(row_id(id)?)
        .fetch_all(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    let (mut live, mut dropped) = (Vec::new(), Vec::new());
    for row in &rows {
        let fields = Fields::new(row, "settlement_transactions", "hash");
        let list = if fields.flag("dropped")? {
            &mut dropped
        } else {
            &mut live
        };
        list.push(transaction(&fields)?);
    }
    Ok((live, dropped))
}

fn transaction(fields: &Fields<'_>) -> Result<TxRecord> {
    Ok(TxRecord {
        hash: fields.get("hash")?,
        raw: fields.bytes("raw")?.to_vec().into(),
        account_nonce: fields.get("account_nonce")?,
        max_fee_per_gas: fields.get("max_fee_per_gas")?,
        max_priority_fee_per_gas: fields.get("max_priority_fee_per_gas")?,
        sent_at: fields.get("sent_at")?,
    })
}

async fn items(conn: &mut Connection, id: SettlementId) -> Result<Vec<SettlementItem>> {
    let rows = sqlx::query("SELECT * FROM settlement_items WHERE settlement = $1 ORDER BY channel")
        .bind(row_id(id)?)
        .fetch_all(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    rows.iter()
        .map(|row| {
            let fields = Fields::new(row, "settlement_items", "channel");
            let outcome = match (fields.maybe_index("paid_at")?, fields.maybe("reason")?) {
                (Some(index), None) => Some(SettlementOutcome::Settled {
                    index,
                    paid: fields.get("paid")?,
                }),
                (None, Some(reason)) => Some(SettlementOutcome::Skipped {
                    reason,
                    got: fields.get("got")?,
                    limit: fields.get("bound")?,
                }),
                (None, None) => None,
                (Some(index), Some(reason)) => {
                    return Err(
                        fields.corrupt("reason", format!("settled at {index} and skipped for {reason}"))
                    );
                }
            };
            Ok(SettlementItem {
                channel: fields.get("channel")?,
                index: fields.index("idx")?,
                outcome,
            })
        })
        .collect()
}

fn step(fields: &Fields<'_>) -> Result<SettlementStep> {
    let name = fields.text("step")?;
    SettlementStep::ALL
        .into_iter()
        .find(|step| step.name() == name)
        .ok_or_else(|| fields.corrupt("step", format!("there is no step {name:?}")))
}

fn state(fields: &Fields<'_>) -> Result<SettlementState> {
    let name = fields.text("state")?;
    let stage = SettlementStage::ALL
        .into_iter()
        .find(|stage| stage.name() == name)
        .ok_or_else(|| fields.corrupt("state", format!("there is no state {name:?}")))?;
    let block = || fields.block("block_number", "block_hash", "block_timestamp");
    Ok(match stage {
        SettlementStage::Queued => SettlementState::Queued,
        SettlementStage::Sent => SettlementState::Sent,
        SettlementStage::Mined => SettlementState::Mined {
            hash: fields.get("mined_hash")?,
            block: block()?,
        },
        SettlementStage::Final => SettlementState::Final {
            hash: fields.get("mined_hash")?,
            block: block()?,
            gas_used: fields.get("gas_used")?,
            effective_gas_price: fields.get("effective_gas_price")?,
        },
        SettlementStage::Dropped => SettlementState::Dropped,
    })
}

/// Databases number rows with signed integers; a number beyond them is no settlement's.
fn row_id(id: SettlementId) -> Result<i64> {
    i64::try_from(id.0).map_err(|_| StoreError::UnknownSettlement(id))
}
