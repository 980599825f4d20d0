//! Everything the page and the metrics show, gathered once, as plain data. Amounts are in atomic units, and text in JSON,
//! because JSON numbers are not exact.

use std::collections::HashMap;
use std::fmt::Display;

use alloy_primitives::{Address, B256};
use chain::Mirror;
use protocol::ticket::watch::Watch;
use protocol::ticket::{Amount, EscrowRecord, Seconds, Status, Timestamp};
use serde::{Serialize, Serializer};
use storage::{ClaimRecord, ClaimStore, StoreError, WinRecord, WinStage, WinStore};

use super::amount::Asset;
use super::channels::ChannelsView;
use super::counters::{Counters, ErrorLine, Forgotten, Payer, Point, Taken, Times};
use super::redact::redact;

/// Payers that are shown one by one.
const PAYERS: usize = 25;
/// Claims that are shown.
const CLAIMS: u32 = 20;

/// What does not change while the gateway runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// Version of the program.
    pub version: String,
    /// Where payers find the gateway, to say how to pay.
    pub url: String,
    /// What it stands in front of.
    pub upstream: String,
    /// Who is paid.
    pub recipient: Address,
    /// The contract.
    pub contract: Address,
    /// Its chain (EIP-155).
    pub chain_id: u64,
    /// What is paid in.
    pub asset: Asset,
    /// Nothing is accepted while the view of the chain is older.
    #[serde(serialize_with = "span")]
    pub max_mirror_age: Seconds,
}

/// The state of a gateway at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// What does not change.
    pub facts: Facts,
    /// The moment.
    #[serde(serialize_with = "time")]
    pub at: Timestamp,
    /// Since when this process counts.
    #[serde(serialize_with = "time")]
    pub started: Timestamp,
    /// Why no payment is accepted; `None` if all is well.
    pub not_ready: Option<String>,
    /// All tickets that this process accepted.
    pub total: Tickets,
    /// How wins grew with expectation: (expected, wins).
    pub path: Vec<Point>,
    /// Payers whose own watch has raised the alarm.
    pub flagged: u64,
    /// Payers that are remembered one by one.
    pub known_payers: u64,
    /// Those that matter most: flagged ones, then by revenue.
    pub payers: Vec<PayerLine>,
    /// Those that are not remembered one by one.
    pub forgotten: Forgotten,
    /// What became of the winners of all times; `None` while the store does not answer.
    pub money: Option<Money>,
    /// The latest claims, newest first.
    pub claims: Vec<ClaimLine>,
    /// Refusals by rule.
    pub refusals: Vec<(&'static str, u64)>,
    /// How requests to the upstream ended.
    pub upstream: Vec<(&'static str, u64)>,
    /// Payments answered from the stored answers.
    pub replays: u64,
    /// Bytes of requests' bodies.
    pub bytes_received: u64,
    /// Bytes of answers' bodies.
    pub bytes_sent: u64,
    /// Whole requests.
    pub durations: TimesLine,
    /// What the gateway added.
    pub additions: TimesLine,
    /// The last errors, newest first.
    pub errors: Vec<ErrorLine>,
    /// The view of the chain.
    pub mirror: MirrorLine,
    /// Channels, where these are sold by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<ChannelsView>,
}

/// Tickets and their wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tickets {
    /// Accepted.
    pub accepted: u64,
    /// What they were worth in expectation.
    #[serde(serialize_with = "text")]
    pub revenue: Amount,
    /// Won.
    pub wins: u64,
    /// Wins on average, if all is well.
    pub expected: f64,
    /// Variance of the wins.
    pub variance: f64,
    /// 99 % of honest payers have from so many to so many wins.
    pub band: (u64, u64),
    /// Fewer wins than chance explains.
    pub alarmed: bool,
    /// How near the alarm is: 1 is the alarm, 0 and below speaks for honesty.
    pub suspicion: f64,
}

/// A payer and its escrows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PayerLine {
    /// Who opened the escrows.
    pub payer: Address,
    /// What it paid since the process started.
    pub tickets: Tickets,
    /// The escrows that it paid from, latest first.
    pub escrows: Vec<EscrowLine>,
}

/// An escrow, as at the newest block.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EscrowLine {
    /// Its key's address.
    pub escrow: Address,
    /// What winners are paid from.
    #[serde(serialize_with = "text")]
    pub balance: Amount,
    /// What a winner pays.
    #[serde(serialize_with = "text")]
    pub prize: Amount,
    /// `open`, `withdrawing`, `insolvent`, `closed`, or `unknown` if the chain has none.
    pub status: &'static str,
    /// Winners that are neither final nor refused.
    pub unclaimed: u64,
}

/// A number of winners and the prizes they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Winners.
    pub count: u64,
    /// Prizes, atomic units.
    #[serde(serialize_with = "text")]
    pub amount: Amount,
}

/// Winners of all times, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Money {
    /// In no claim yet.
    pub won: Sum,
    /// In a claim without a transaction.
    pub queued: Sum,
    /// In a claim whose transaction may be on its way.
    pub sent: Sum,
    /// In a block that is not final.
    pub mined: Sum,
    /// Settled: credited to the recipient.
    pub paid: Sum,
    /// What escrows recorded as debt instead of paying.
    #[serde(serialize_with = "text")]
    pub owed: Amount,
    /// Winners that were refused for good.
    pub refused: u64,
    /// Claims without a transaction, with one, in a block.
    pub open_claims: [u64; 3],
}

impl Money {
    /// Winners in claims that are not final.
    pub fn in_claims(&self) -> Sum {
        self.queued.plus(self.sent).plus(self.mined)
    }
}

impl Sum {
    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            amount: Amount(self.amount.0.saturating_add(other.amount.0)),
        }
    }

    fn of<'a>(wins: impl IntoIterator<Item = &'a WinRecord>, prizes: &Prizes<'_>) -> Self {
        wins.into_iter().fold(Self::default(), |sum, win| {
            sum.plus(Self {
                count: 1,
                amount: prizes.of(win),
            })
        })
    }
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClaimLine {
    /// Its number.
    pub id: u64,
    /// `queued`, `sent`, `mined`, `final` or `released`.
    pub state: &'static str,
    /// When it was queued.
    #[serde(serialize_with = "time")]
    pub queued_at: Timestamp,
    /// Its winners and their prizes.
    pub wins: Sum,
    /// Of these, refused by the contract.
    pub refused: u64,
    /// Transactions signed for it, given up ones among them.
    pub transactions: u64,
    /// The transaction that is in a block, or the last one sent.
    pub transaction: Option<B256>,
    /// What it cost, wei; once it is final.
    #[serde(serialize_with = "maybe_text")]
    pub fee: Option<Amount>,
}

/// The view of the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MirrorLine {
    /// Newest block.
    pub head: u64,
    /// Its time.
    #[serde(serialize_with = "time")]
    pub head_at: Timestamp,
    /// Last final block.
    pub final_block: u64,
    /// Seconds since the view last equalled the node's newest block; `None` before the first time.
    pub age: Option<f64>,
    /// Escrows of this contract, of all payers.
    pub escrows: u64,
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TimesLine {
    /// How many.
    pub count: u64,
    /// Half took at most so many seconds.
    pub p50: Option<f64>,
    /// 99 in 100 took at most so many seconds.
    pub p99: Option<f64>,
    /// The histogram itself, for the metrics.
    #[serde(skip)]
    pub times: Times,
}

impl Snapshot {
    /// Gathers a snapshot, but for channels. A store that fails costs its part and makes the gateway not ready; the rest is shown.
    pub async fn gather<S>(
        facts: &Facts,
        counters: &Counters,
        store: &S,
        mirror: &Mirror,
        now: Timestamp,
    ) -> Self
    where
        S: WinStore + ClaimStore + Sync,
    {
        let stored = Stored::read(store, mirror).await;
        let mirror_line = MirrorLine::of(mirror);
        let not_ready = counters
            .paused()
            .or_else(|| mirror_line.not_ready(facts.max_mirror_age))
            .or_else(|| {
                stored
                    .as_ref()
                    .err()
                    .map(|error| redact(&format!("the store does not answer: {error}")))
            });
        let stored = stored.ok();
        let unclaimed = |escrow| {
            stored
                .as_ref()
                .map_or(0, |s| s.unclaimed.get(&escrow).copied().unwrap_or(0))
        };
        let (known_payers, forgotten) = counters.payers();
        let (bytes_received, bytes_sent) = counters.bytes();
        Self {
            facts: facts.clone(),
            at: now,
            started: counters.started(),
            not_ready,
            total: (&counters.total()).into(),
            path: counters.path(),
            flagged: counters.flagged(),
            known_payers,
            payers: counters
                .top_payers(PAYERS)
                .into_iter()
                .map(|payer| PayerLine::of(&payer, mirror, &unclaimed))
                .collect(),
            forgotten,
            money: stored.as_ref().map(|s| s.money),
            claims: stored.map(|s| s.claims).unwrap_or_default(),
            refusals: counters.refusals().into_iter().collect(),
            upstream: counters.upstreams(),
            replays: counters.replays(),
            bytes_received,
            bytes_sent,
            durations: counters.durations().into(),
            additions: counters.additions().into(),
            errors: counters.errors(),
            mirror: mirror_line,
            channels: None,
        }
    }
}

/// What the store has to say.
struct Stored {
    money: Money,
    claims: Vec<ClaimLine>,
    unclaimed: HashMap<Address, u64>,
}

impl Stored {
    async fn read<S>(store: &S, mirror: &Mirror) -> Result<Self, StoreError>
    where
        S: WinStore + ClaimStore + Sync,
    {
        let totals = store.win_totals().await?;
        let unfinished = store.load_unfinished().await?;
        let prizes = Prizes { mirror };
        let of = |stage| {
            Sum::of(
                unfinished.iter().filter(|win| win.state.stage() == stage),
                &prizes,
            )
        };
        let mut open_claims = [0; 3];
        for claim in store.unfinished_claims().await? {
            // The first three stages are the unfinished ones.
            if let Some(count) = open_claims.get_mut(claim.state.stage() as usize) {
                *count += 1;
            }
        }
        let money = Money {
            won: of(WinStage::Won),
            queued: of(WinStage::Queued),
            sent: of(WinStage::Sent),
            mined: of(WinStage::Mined),
            paid: Sum {
                count: totals.settled.count,
                amount: totals.paid,
            },
            owed: totals.owed,
            refused: totals.refused.count,
            open_claims,
        };
        let claims = store.claims(CLAIMS).await?;
        let claims = claims.iter().map(|claim| ClaimLine::of(claim, &prizes)).collect();
        let mut unclaimed = HashMap::new();
        for win in &unfinished {
            *unclaimed.entry(win.ticket.escrow()).or_default() += 1;
        }
        Ok(Self {
            money,
            claims,
            unclaimed,
        })
    }
}

/// What a winner is for: the store knows what its ticket was worth, the escrow what it pays.
struct Prizes<'a> {
    mirror: &'a Mirror,
}

impl Prizes<'_> {
    /// The prize; of an escrow that the mirror does not know, the least it can be.
    fn of(&self, win: &WinRecord) -> Amount {
        let view = self.mirror.view(win.ticket.escrow());
        view.head
            .or(view.last_final)
            .map_or(win.price, |record| record.prize)
    }
}

impl ClaimLine {
    fn of(claim: &ClaimRecord, prizes: &Prizes<'_>) -> Self {
        let mined = match claim.state {
            storage::ClaimState::Mined { hash, .. } | storage::ClaimState::Final { hash, .. } => Some(hash),
            _ => claim.transactions.last().map(|transaction| transaction.hash),
        };
        let refused = claim
            .wins
            .iter()
            .filter(|win| win.state.stage() == WinStage::Refused);
        Self {
            id: claim.id.0,
            state: claim.state.stage().name(),
            queued_at: claim.queued_at,
            wins: Sum::of(&claim.wins, prizes),
            refused: refused.count() as u64,
            transactions: (claim.transactions.len() + claim.dropped.len()) as u64,
            transaction: mined,
            fee: claim.state.fee(),
        }
    }
}

impl PayerLine {
    fn of(payer: &Payer, mirror: &Mirror, unclaimed: &impl Fn(Address) -> u64) -> Self {
        let line = |escrow: &Address| {
            let view = mirror.view(*escrow);
            let record = view.head.or(view.last_final);
            EscrowLine::of(*escrow, record.as_deref(), unclaimed(*escrow))
        };
        Self {
            payer: payer.payer,
            tickets: (&payer.taken).into(),
            escrows: payer.escrows.iter().rev().map(line).collect(),
        }
    }
}

impl EscrowLine {
    fn of(escrow: Address, record: Option<&EscrowRecord>, unclaimed: u64) -> Self {
        Self {
            escrow,
            balance: record.map_or(Amount::ZERO, |record| record.balance),
            prize: record.map_or(Amount::ZERO, |record| record.prize),
            status: match record.map(|record| record.status) {
                Some(Status::Open) => "open",
                Some(Status::Withdrawing) => "withdrawing",
                Some(Status::Insolvent) => "insolvent",
                Some(Status::Closed) => "closed",
                None => "unknown",
            },
            unclaimed,
        }
    }
}

impl MirrorLine {
    fn of(mirror: &Mirror) -> Self {
        let head = mirror.head();
        Self {
            head: head.number,
            head_at: head.timestamp,
            final_block: mirror.final_block().number,
            age: mirror.age().map(|age| age.as_secs_f64()),
            escrows: mirror.len() as u64,
        }
    }

    /// Why no ticket is accepted on this view of the chain.
    fn not_ready(&self, limit: Seconds) -> Option<String> {
        match self.age {
            None => Some("the chain has not been read to its newest block yet".into()),
            // As admission does: whole seconds.
            Some(age) if age as u64 > limit.0 => Some(format!(
                "the view of the chain is {age:.0} s old, accepted is up to {limit}"
            )),
            Some(_) => None,
        }
    }
}

impl From<&Taken> for Tickets {
    fn from(taken: &Taken) -> Self {
        let watch: Watch = taken.watch;
        Self {
            accepted: taken.accepted,
            revenue: taken.revenue,
            wins: watch.wins(),
            expected: watch.expected(),
            variance: watch.variance(),
            band: watch.band(),
            alarmed: watch.alarmed(),
            suspicion: watch.suspicion(),
        }
    }
}

impl From<Times> for TimesLine {
    fn from(times: Times) -> Self {
        Self {
            count: times.count(),
            p50: times.quantile(0.5),
            p99: times.quantile(0.99),
            times,
        }
    }
}

pub(super) fn text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(super) fn maybe_text<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

pub(super) fn time<S: Serializer>(value: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.0)
}

fn span<S: Serializer>(value: &Seconds, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.0)
}
