//! Channels as the operator sees them: what was paid over them, what of it the chain has settled, and how long there is
//! time.

use alloy_primitives::{Address, B256};
use chain::{Channels, Mirror};
use protocol::channel::{Amount, ChannelRecord, Index, Timestamp};
use serde::Serialize;
use storage::StoreError;
use storage::channel::{
    ChannelPhase, SettlementOutcome, SettlementRecord, SettlementStore, VendorChannelRecord,
    VendorChannelStore,
};

use super::counters::{ChannelSum, Counters};
use super::snapshot::{maybe_text, text, time};

/// Channels that are shown one by one.
const CHANNELS: usize = 25;
/// Settlements that are shown.
const SETTLEMENTS: u32 = 20;

/// Everything about channels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelsView {
    /// Delivered since this process started.
    pub since_start: ChannelSum,
    /// Of all times; `None` while the store does not answer.
    pub money: Option<ChannelMoney>,
    /// Those in which most is unsettled.
    pub lines: Vec<ChannelLine>,
    /// The latest closes and checkpoints, newest first.
    pub settlements: Vec<SettlementLine>,
    /// Channels of the contract, of all vendors.
    pub known: u64,
    /// Seconds since the view of the channels last equalled the node's newest block; `None` before the first time.
    pub age: Option<f64>,
}

/// What channels have paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelMoney {
    /// Channels that have paid and are not closed.
    pub open: u64,
    /// Channels that are closed.
    pub closed: u64,
    /// Paid over open channels and not settled on chain, atomic units: lost if nothing is settled before they expire.
    #[serde(serialize_with = "text")]
    pub unsettled: Amount,
    /// Credited by the contract, atomic units.
    #[serde(serialize_with = "text")]
    pub settled: Amount,
    /// When the first open channel that has something unsettled expires.
    #[serde(serialize_with = "maybe_time")]
    pub next_expiry: Option<Timestamp>,
    /// Settlements without a transaction, with one, in a block.
    pub under_way: [u64; 3],
}

/// A channel that has paid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelLine {
    /// Its name.
    pub channel: B256,
    /// Who pays.
    pub client: Address,
    /// What the highest word is worth.
    #[serde(serialize_with = "text")]
    pub paid: Amount,
    /// What the contract has credited.
    #[serde(serialize_with = "text")]
    pub settled: Amount,
    /// What it can pay.
    #[serde(serialize_with = "text")]
    pub deposit: Amount,
    /// Last second in which it can be closed.
    #[serde(serialize_with = "time")]
    pub expiry: Timestamp,
    /// When it paid last.
    #[serde(serialize_with = "maybe_time")]
    pub last_payment: Option<Timestamp>,
    /// `open`, `closing`, `closed`, or `unknown` if the chain has none.
    pub state: &'static str,
}

/// A close or a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SettlementLine {
    /// Its number.
    pub id: u64,
    /// `checkpoint`, `close` or `cooperative-close`.
    pub step: &'static str,
    /// `queued`, `sent`, `mined`, `final` or `dropped`.
    pub state: &'static str,
    /// When it was decided.
    #[serde(serialize_with = "time")]
    pub queued_at: Timestamp,
    /// Its channels.
    pub channels: u64,
    /// Of these, skipped by the contract.
    pub skipped: u64,
    /// What it credited; once it is final.
    #[serde(serialize_with = "text")]
    pub paid: Amount,
    /// The last transaction.
    pub transaction: Option<B256>,
    /// What it cost, wei; once it is final.
    #[serde(serialize_with = "maybe_text")]
    pub fee: Option<Amount>,
}

impl ChannelsView {
    /// Gathers it. A store that fails costs its part.
    pub(super) async fn gather<S>(counters: &Counters, store: &S, mirror: &Mirror<Channels>) -> Self
    where
        S: VendorChannelStore + SettlementStore + Sync,
    {
        let stored = Stored::read(store, mirror).await.ok();
        let (money, lines, settlements) = match stored {
            Some(stored) => (Some(stored.money), stored.lines, stored.settlements),
            None => Default::default(),
        };
        Self {
            since_start: counters.channels(),
            money,
            lines,
            settlements,
            known: mirror.len() as u64,
            age: mirror.age().map(|age| age.as_secs_f64()),
        }
    }
}

struct Stored {
    money: ChannelMoney,
    lines: Vec<ChannelLine>,
    settlements: Vec<SettlementLine>,
}

impl Stored {
    async fn read<S>(store: &S, mirror: &Mirror<Channels>) -> Result<Self, StoreError>
    where
        S: VendorChannelStore + SettlementStore + Sync,
    {
        let totals = store.vendor_totals().await?;
        let mut lines: Vec<_> = store
            .vendor_channels()
            .await?
            .iter()
            .map(|stored| ChannelLine::of(stored, mirror))
            .collect();
        let unsettled = lines.iter().map(ChannelLine::unsettled);
        let unsettled = unsettled.fold(Amount::ZERO, |sum, one| Amount(sum.0.saturating_add(one.0)));
        let due = lines.iter().filter(|line| line.unsettled() > Amount::ZERO);
        let next_expiry = due.map(|line| line.expiry).min();
        let mut under_way = [0; 3];
        for settlement in store.unfinished_settlements().await? {
            if let Some(count) = under_way.get_mut(settlement.state.stage() as usize) {
                *count += 1;
            }
        }
        let settlements = store.settlements(SETTLEMENTS).await?;
        lines.sort_by_key(|line| (std::cmp::Reverse(line.unsettled()), line.expiry, line.channel));
        lines.truncate(CHANNELS);
        Ok(Self {
            money: ChannelMoney {
                open: totals.open,
                closed: totals.closed,
                unsettled,
                settled: totals.settled.price,
                next_expiry,
                under_way,
            },
            lines,
            settlements: settlements.iter().map(SettlementLine::of).collect(),
        })
    }
}

impl ChannelLine {
    fn of(stored: &VendorChannelRecord, mirror: &Mirror<Channels>) -> Self {
        let view = mirror.view(stored.id);
        let record = view.head.or(view.last_final);
        let record: Option<&ChannelRecord> = record.as_deref();
        let worth = |units: Index| {
            let unit = record.map_or(Amount::ZERO, ChannelRecord::unit);
            unit.saturating_mul(units.0.into())
        };
        let settled = record.map_or(stored.settled, |record| record.settled.max(stored.settled));
        let highest = stored.highest.as_ref();
        Self {
            channel: stored.id.0,
            client: record.map_or(Address::ZERO, |record| record.client),
            paid: worth(highest.map_or(settled, |highest| highest.payment.index)),
            settled: worth(settled),
            deposit: worth(record.map_or(Index::ZERO, ChannelRecord::length)),
            expiry: record.map_or(Timestamp(0), ChannelRecord::expiry),
            last_payment: highest.map(|highest| highest.taken_at),
            state: match (stored.phase, record) {
                (_, None) => "unknown",
                (ChannelPhase::Open, Some(_)) => "open",
                (ChannelPhase::Closing(_), Some(_)) => "closing",
                (ChannelPhase::Closed, Some(_)) => "closed",
            },
        }
    }

    fn unsettled(&self) -> Amount {
        Amount(self.paid.0.saturating_sub(self.settled.0))
    }
}

impl SettlementLine {
    fn of(settlement: &SettlementRecord) -> Self {
        let outcomes = settlement.items.iter().filter_map(|item| item.outcome);
        let mut paid = Amount::ZERO;
        let mut skipped = 0;
        for outcome in outcomes {
            match outcome {
                SettlementOutcome::Settled { paid: one, .. } => paid = Amount(paid.0.saturating_add(one.0)),
                SettlementOutcome::Skipped { .. } => skipped += 1,
            }
        }
        Self {
            id: settlement.id.0,
            step: settlement.step.name(),
            state: settlement.state.stage().name(),
            queued_at: settlement.queued_at,
            channels: settlement.items.len() as u64,
            skipped,
            paid,
            transaction: settlement.transactions.last().map(|transaction| transaction.hash),
            fee: settlement.state.fee(),
        }
    }
}

fn maybe_time<S: serde::Serializer>(value: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_u64(value.0),
        None => serializer.serialize_none(),
    }
}
