//! [`ClaimStore`] in SQL.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use protocol::ticket::{BlockRef, Domain, Nonce, Timestamp};
use sqlx::{Connection as _, QueryBuilder};

use super::{
    Connection, Db, Row, SqlStore,
    columns::{Bind, Fields, push_limit},
    database_error, in_time, wins,
    writer::Write,
};
use crate::{
    ClaimId, ClaimRecord, ClaimStage, ClaimState, ClaimStore, Outcome, Result, StoreError, TxRecord,
    WinFilter, WinStage, WinState, claims::check_outcomes,
};

const READING: &str = "reading claims";

impl ClaimStore for SqlStore {
    async fn queue(&self, wins: &[B256], now: Timestamp) -> Result<ClaimId> {
        self.writer
            .write(Queue {
                domain: *self.domain(),
                wins: wins.to_vec(),
                now,
            })
            .await
    }

    async fn floors(&self) -> Result<Vec<(Address, Nonce)>> {
        in_time(async {
            let rows = sqlx::query("SELECT escrow, nonce FROM floors ORDER BY escrow")
                .fetch_all(&self.readers)
                .await
                .map_err(|error| database_error("reading floors", error))?;
            rows.iter()
                .map(|row| {
                    let fields = Fields::new(row, "floors", "escrow");
                    Ok((fields.get("escrow")?, fields.get("nonce")?))
                })
                .collect()
        })
        .await
    }

    async fn add_transaction(&self, claim: ClaimId, transaction: &TxRecord) -> Result<()> {
        self.writer
            .write(Step {
                claim,
                step: StepKind::Send(transaction.clone()),
            })
            .await
    }

    async fn mined(&self, claim: ClaimId, hash: B256, block: BlockRef) -> Result<()> {
        self.writer
            .write(Step {
                claim,
                step: StepKind::Mine { hash, block },
            })
            .await
    }

    async fn unmined(&self, claim: ClaimId) -> Result<()> {
        self.writer
            .write(Step {
                claim,
                step: StepKind::Unmine,
            })
            .await
    }

    async fn requeue(&self, claim: ClaimId) -> Result<()> {
        self.writer
            .write(Step {
                claim,
                step: StepKind::Requeue,
            })
            .await
    }

    async fn release(&self, claim: ClaimId) -> Result<()> {
        self.writer
            .write(Step {
                claim,
                step: StepKind::Release,
            })
            .await
    }

    async fn finalize(
        &self,
        claim: ClaimId,
        outcomes: &[(B256, Outcome)],
        gas_used: u64,
        effective_gas_price: u128,
    ) -> Result<()> {
        let step = StepKind::Finalize {
            outcomes: outcomes.to_vec(),
            gas_used,
            effective_gas_price,
        };
        self.writer.write(Step { claim, step }).await
    }

    async fn claim(&self, claim: ClaimId) -> Result<Option<ClaimRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM claims WHERE id = ");
        sql.push_bind(row_id(claim)?);
        Ok(self.records(sql).await?.pop())
    }

    async fn unfinished_claims(&self) -> Result<Vec<ClaimRecord>> {
        let sql =
            QueryBuilder::new("SELECT * FROM claims WHERE state IN ('queued', 'sent', 'mined') ORDER BY id");
        self.records(sql).await
    }

    async fn claims(&self, limit: u32) -> Result<Vec<ClaimRecord>> {
        let mut sql = QueryBuilder::new("SELECT * FROM claims ORDER BY id DESC");
        push_limit(&mut sql, Some(limit));
        self.records(sql).await
    }
}

impl SqlStore {
    /// The claims that a query selects, with their parts, as of one moment.
    async fn records(&self, mut sql: QueryBuilder<Db>) -> Result<Vec<ClaimRecord>> {
        in_time(async {
            let failed = |error| database_error(READING, error);
            let mut conn = self.readers.acquire().await.map_err(failed)?;
            let mut snapshot = conn.begin().await.map_err(failed)?;
            let rows = sql.build().fetch_all(&mut *snapshot).await.map_err(failed)?;
            let mut records = Vec::with_capacity(rows.len());
            for row in &rows {
                let fields = Fields::new(row, "claims", "id");
                let id = ClaimId(fields.count("id")?);
                let (transactions, dropped) = transactions(&mut snapshot, id).await?;
                records.push(ClaimRecord {
                    id,
                    state: state(&fields)?,
                    queued_at: fields.get("queued_at")?,
                    wins: wins::select(&mut *snapshot, self.domain(), WinFilter::from(id)).await?,
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
    domain: Domain,
    wins: Vec<B256>,
    now: Timestamp,
}

impl Write for Queue {
    type Out = ClaimId;
    const DOING: &'static str = "queueing a claim";

    async fn apply(self, conn: &mut Connection) -> Result<ClaimId> {
        let failed = |error| database_error(Self::DOING, error);
        if self.wins.is_empty() {
            return Err(StoreError::ClaimEmpty);
        }
        // Claims are never deleted, so the next number is free; a sequence would leave gaps where a claim was refused.
        let row = sqlx::query(
            "INSERT INTO claims (id, state, queued_at) SELECT COALESCE(MAX(id), 0) + 1, 'queued', $1 FROM claims
             RETURNING id",
        )
        .blob(&self.now)
        .fetch_one(&mut *conn)
        .await
        .map_err(failed)?;
        let claim = ClaimId(Fields::new(&row, "claims", "id").count("id")?);
        let mut floors = BTreeMap::<Address, Nonce>::new();
        for digest in self.wins {
            let win = wins::find(&mut *conn, &self.domain, digest)
                .await?
                .ok_or(StoreError::UnknownWin(digest))?;
            if win.state != WinState::Won {
                return Err(StoreError::WinMove {
                    digest,
                    from: win.state,
                    to: WinStage::Queued,
                });
            }
            sqlx::query("UPDATE wins SET claim = $1 WHERE digest = $2")
                .bind(row_id(claim)?)
                .blob(&digest)
                .execute(&mut *conn)
                .await
                .map_err(failed)?;
            let floor = floors.entry(win.ticket.escrow()).or_default();
            *floor = win.ticket.nonce().max(*floor);
        }
        for (escrow, nonce) in floors {
            // Blobs of one width order as numbers do. The processes of a fleet are told of a new floor in no round.
            sqlx::query(
                "INSERT INTO floors (escrow, nonce, round) VALUES ($1, $2, $3)
                 ON CONFLICT (escrow) DO UPDATE SET nonce = excluded.nonce WHERE floors.nonce < excluded.nonce",
            )
            .blob(&escrow)
            .blob(&nonce)
            .blob(&0_u64)
            .execute(&mut *conn)
            .await
            .map_err(failed)?;
        }
        Ok(claim)
    }
}

/// One step of a claim's life.
struct Step {
    claim: ClaimId,
    step: StepKind,
}

enum StepKind {
    Send(TxRecord),
    Mine {
        hash: B256,
        block: BlockRef,
    },
    Unmine,
    Requeue,
    Release,
    Finalize {
        outcomes: Vec<(B256, Outcome)>,
        gas_used: u64,
        effective_gas_price: u128,
    },
}

impl Write for Step {
    type Out = ();
    const DOING: &'static str = "moving a claim";

    async fn apply(self, conn: &mut Connection) -> Result<()> {
        let Self { claim, step } = self;
        let row = sqlx::query("SELECT * FROM claims WHERE id = $1")
            .bind(row_id(claim)?)
            .fetch_optional(&mut *conn)
            .await
            .map_err(|error| database_error(Self::DOING, error))?
            .ok_or(StoreError::UnknownClaim(claim))?;
        let from = state(&Fields::new(&row, "claims", "id"))?;
        let to = match step {
            StepKind::Send(transaction) => {
                let to = from.send(claim)?;
                save_transaction(conn, claim, &transaction).await?;
                to
            }
            StepKind::Mine { hash, block } => {
                let (_, dropped) = known_transaction(conn, hash)
                    .await?
                    .filter(|(stored, _)| *stored == claim)
                    .ok_or(StoreError::UnknownTransaction { claim, hash })?;
                let to = from.mine(claim, hash, block, dropped)?;
                revive(conn, hash).await?;
                to
            }
            StepKind::Unmine => from.unmine(claim)?,
            StepKind::Requeue => {
                let to = from.requeue(claim)?;
                sqlx::query("UPDATE transactions SET dropped = 1 WHERE claim = $1")
                    .bind(row_id(claim)?)
                    .execute(&mut *conn)
                    .await
                    .map_err(|error| database_error(Self::DOING, error))?;
                to
            }
            StepKind::Release => {
                let to = from.release(claim)?;
                sqlx::query("UPDATE wins SET claim = NULL WHERE claim = $1")
                    .bind(row_id(claim)?)
                    .execute(&mut *conn)
                    .await
                    .map_err(|error| database_error(Self::DOING, error))?;
                to
            }
            StepKind::Finalize {
                outcomes,
                gas_used,
                effective_gas_price,
            } => {
                let to = from.finalize(claim, gas_used, effective_gas_price)?;
                check_outcomes(claim, &digests(conn, claim).await?, &outcomes)?;
                for (digest, outcome) in outcomes {
                    wins::settle(conn, digest, outcome.into()).await?;
                }
                to
            }
        };
        store_state(conn, claim, to).await
    }
}

async fn store_state(conn: &mut Connection, claim: ClaimId, state: ClaimState) -> Result<()> {
    let mined = match &state {
        ClaimState::Mined { hash, block } | ClaimState::Final { hash, block, .. } => Some((hash, block)),
        ClaimState::Queued | ClaimState::Sent | ClaimState::Released => None,
    };
    let cost = match &state {
        ClaimState::Final {
            gas_used,
            effective_gas_price,
            ..
        } => Some((gas_used, effective_gas_price)),
        _ => None,
    };
    sqlx::query(
        "UPDATE claims SET state = $1, mined_hash = $2, block_number = $3, block_hash = $4, block_timestamp = $5, gas_used = $6,
             effective_gas_price = $7 WHERE id = $8",
    )
    .bind(state.stage().name())
    .maybe_blob(mined.map(|(hash, _)| hash))
    .maybe_blob(mined.map(|(_, block)| &block.number))
    .maybe_blob(mined.map(|(_, block)| &block.hash))
    .maybe_blob(mined.map(|(_, block)| &block.timestamp))
    .maybe_blob(cost.map(|(gas, _)| gas))
    .maybe_blob(cost.map(|(_, price)| price))
    .bind(row_id(claim)?)
    .execute(conn)
    .await
    .map(drop)
    .map_err(|error| database_error("storing a claim's state", error))
}

async fn save_transaction(conn: &mut Connection, claim: ClaimId, transaction: &TxRecord) -> Result<()> {
    let hash = transaction.hash;
    match known_transaction(conn, hash).await? {
        Some((stored, _)) if stored == claim => return revive(conn, hash).await,
        Some((stored, _)) => {
            return Err(StoreError::TransactionTaken {
                hash,
                got: claim,
                stored,
            });
        }
        None => {}
    }
    sqlx::query(
        "INSERT INTO transactions (hash, claim, raw, account_nonce, max_fee_per_gas, max_priority_fee_per_gas, sent_at,
             dropped)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
    )
    .blob(&hash)
    .bind(row_id(claim)?)
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

/// The claim of a transaction, and whether it counts as dropped.
async fn known_transaction(conn: &mut Connection, hash: B256) -> Result<Option<(ClaimId, bool)>> {
    let row = sqlx::query("SELECT hash, claim, dropped FROM transactions WHERE hash = $1")
        .blob(&hash)
        .fetch_optional(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    row.map(|row| {
        let fields = Fields::new(&row, "transactions", "hash");
        Ok((ClaimId(fields.count("claim")?), fields.flag("dropped")?))
    })
    .transpose()
}

async fn revive(conn: &mut Connection, hash: B256) -> Result<()> {
    sqlx::query("UPDATE transactions SET dropped = 0 WHERE hash = $1")
        .blob(&hash)
        .execute(conn)
        .await
        .map(drop)
        .map_err(|error| database_error("storing a transaction", error))
}

async fn transactions(conn: &mut Connection, claim: ClaimId) -> Result<(Vec<TxRecord>, Vec<TxRecord>)> {
    let rows = sqlx::query("SELECT * FROM transactions WHERE claim = $1 ORDER BY seq")
        .bind(row_id(claim)?)
        .fetch_all(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    let (mut live, mut dropped) = (Vec::new(), Vec::new());
    for row in &rows {
        let fields = Fields::new(row, "transactions", "hash");
        let list = if fields.flag("dropped")? {
            &mut dropped
        } else {
            &mut live
        };
        list.push(transaction(row)?);
    }
    Ok((live, dropped))
}

fn transaction(row: &Row) -> Result<TxRecord> {
    let fields = Fields::new(row, "transactions", "hash");
    Ok(TxRecord {
        hash: fields.get("hash")?,
        raw: fields.bytes("raw")?.to_vec().into(),
        account_nonce: fields.get("account_nonce")?,
        max_fee_per_gas: fields.get("max_fee_per_gas")?,
        max_priority_fee_per_gas: fields.get("max_priority_fee_per_gas")?,
        sent_at: fields.get("sent_at")?,
    })
}

async fn digests(conn: &mut Connection, claim: ClaimId) -> Result<Vec<B256>> {
    let rows = sqlx::query("SELECT digest FROM wins WHERE claim = $1")
        .bind(row_id(claim)?)
        .fetch_all(conn)
        .await
        .map_err(|error| database_error(READING, error))?;
    rows.iter()
        .map(|row| Fields::new(row, "wins", "digest").get("digest"))
        .collect()
}

/// A claim's state from its columns.
pub(super) fn state(fields: &Fields<'_>) -> Result<ClaimState> {
    let name = fields.text("state")?;
    let stage = ClaimStage::ALL
        .into_iter()
        .find(|stage| stage.name() == name)
        .ok_or_else(|| fields.corrupt("state", format!("there is no state {name:?}")))?;
    let block = || fields.block("block_number", "block_hash", "block_timestamp");
    Ok(match stage {
        ClaimStage::Queued => ClaimState::Queued,
        ClaimStage::Sent => ClaimState::Sent,
        ClaimStage::Mined => ClaimState::Mined {
            hash: fields.get("mined_hash")?,
            block: block()?,
        },
        ClaimStage::Final => ClaimState::Final {
            hash: fields.get("mined_hash")?,
            block: block()?,
            gas_used: fields.get("gas_used")?,
            effective_gas_price: fields.get("effective_gas_price")?,
        },
        ClaimStage::Released => ClaimState::Released,
    })
}

/// Databases number rows with signed integers; a number beyond them is no claim's.
pub(super) fn row_id(claim: ClaimId) -> Result<i64> {
    i64::try_from(claim.0).map_err(|_| StoreError::UnknownClaim(claim))
}
