//! The mirror of the chain at its last final block, so that a restart does not read the whole chain again.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U64, U128, U256};
use protocol::ticket::{
    Amount, BlockRef, EscrowRecord, Escrows, Nonce, PairRecord, Status, Timestamp, WinThreshold,
};
use serde::{Deserialize, Serialize};

use crate::{Result, StoreError};

/// Escrows as of a final block. The store's identity says which contract on which chain.
pub trait MirrorStore {
    /// The final block up to which events are folded in, and every escrow as of it. None before the first save.
    fn load_mirror(&self) -> impl Future<Output = Result<Option<(BlockRef, Escrows)>>> + Send;

    /// Moves the cursor and stores the escrows that changed since, atomically. A cursor behind the stored one, or another
    /// block of the same height, is [`CursorBackwards`](crate::StoreError::CursorBackwards): a final block does not change,
    /// so this follower is behind or on another chain.
    fn save_mirror(&self, cursor: BlockRef, changed: &Escrows) -> impl Future<Output = Result<()>> + Send;

    /// Forgets the cursor and every escrow: the way out of a reorg deeper than finality, before a backfill from the start.
    fn forget_mirror(&self) -> impl Future<Output = Result<()>> + Send;
}

/// Whether a follower may move the cursor there.
pub(crate) fn check_cursor(stored: Option<BlockRef>, got: BlockRef) -> Result<()> {
    match stored {
        Some(stored)
            if got.number < stored.number || (got.number == stored.number && got.hash != stored.hash) =>
        {
            Err(StoreError::CursorBackwards { got, stored })
        }
        _ => Ok(()),
    }
}

/// [`EscrowRecord`] as it is stored: JSON with numbers as hexadecimal text, because JSON numbers are not exact.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredEscrow {
    payer: Address,
    asset: Address,
    prize: U128,
    max_threshold: U256,
    ticket_cap: U64,
    balance: U128,
    penalty: U128,
    status: StoredStatus,
    withdraw_at: Option<U64>,
    cure_by: Option<U64>,
    debt: U256,
    earmarked: U128,
    earmark_until: U64,
    pairs: BTreeMap<Address, StoredPair>,
    debts: BTreeMap<Address, U256>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPair {
    last_nonce: U64,
    earmark_prizes: u32,
    earmark_until: U64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredStatus {
    Open,
    Withdrawing,
    Insolvent,
    Closed,
}

impl From<&EscrowRecord> for StoredEscrow {
    fn from(record: &EscrowRecord) -> Self {
        // Every field by name, so that a new one cannot be forgotten here.
        let EscrowRecord {
            payer,
            asset,
            prize,
            max_threshold,
            ticket_cap,
            balance,
            penalty,
            status,
            withdraw_at,
            cure_by,
            debt,
            earmarked,
            earmark_until,
            pairs,
            debts,
        } = record;
        Self {
            payer: *payer,
            asset: *asset,
            prize: U128::from(prize.0),
            max_threshold: max_threshold.0,
            ticket_cap: U64::from(ticket_cap.0),
            balance: U128::from(balance.0),
            penalty: U128::from(penalty.0),
            status: match status {
                Status::Open => StoredStatus::Open,
                Status::Withdrawing => StoredStatus::Withdrawing,
                Status::Insolvent => StoredStatus::Insolvent,
                Status::Closed => StoredStatus::Closed,
            },
            withdraw_at: withdraw_at.map(|at| U64::from(at.0)),
            cure_by: cure_by.map(|at| U64::from(at.0)),
            debt: *debt,
            earmarked: U128::from(earmarked.0),
            earmark_until: U64::from(earmark_until.0),
            pairs: pairs
                .iter()
                .map(|(recipient, pair)| {
                    let PairRecord {
                        last_nonce,
                        earmark_prizes,
                        earmark_until,
                    } = *pair;
                    let stored = StoredPair {
                        last_nonce: U64::from(last_nonce.0),
                        earmark_prizes,
                        earmark_until: U64::from(earmark_until.0),
                    };
                    (*recipient, stored)
                })
                .collect(),
            debts: debts.clone(),
        }
    }
}

impl From<StoredEscrow> for EscrowRecord {
    fn from(stored: StoredEscrow) -> Self {
        let time = |at: U64| Timestamp(at.to());
        Self {
            payer: stored.payer,
            asset: stored.asset,
            prize: Amount(stored.prize.to()),
            max_threshold: WinThreshold(stored.max_threshold),
            ticket_cap: Nonce(stored.ticket_cap.to()),
            balance: Amount(stored.balance.to()),
            penalty: Amount(stored.penalty.to()),
            status: match stored.status {
                StoredStatus::Open => Status::Open,
                StoredStatus::Withdrawing => Status::Withdrawing,
                StoredStatus::Insolvent => Status::Insolvent,
                StoredStatus::Closed => Status::Closed,
            },
            withdraw_at: stored.withdraw_at.map(time),
            cure_by: stored.cure_by.map(time),
            debt: stored.debt,
            earmarked: Amount(stored.earmarked.to()),
            earmark_until: time(stored.earmark_until),
            pairs: stored
                .pairs
                .into_iter()
                .map(|(recipient, pair)| {
                    let pair = PairRecord {
                        last_nonce: Nonce(pair.last_nonce.to()),
                        earmark_prizes: pair.earmark_prizes,
                        earmark_until: time(pair.earmark_until),
                    };
                    (recipient, pair)
                })
                .collect(),
            debts: stored.debts,
        }
    }
}
