//! What the request paths count while they work. Everything is since the start of this process; what must outlive it is in
//! the store. A request pays two short locks and a few atomic additions; a reader never holds a lock for long.
//!
//! Payers are remembered one by one up to a bound. The one that has not paid for the longest time makes room, and lives on
//! in a sum, so that totals are exact whatever is forgotten.

use std::array;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use alloy_primitives::Address;
use lru::LruCache;
use parking_lot::Mutex;
use protocol::ticket::watch::Watch;
use protocol::ticket::{Amount, Timestamp};
use serde::Serialize;

use super::redact::redact;
use super::snapshot::{text, time};

/// Payers that are remembered one by one: about 22 MB (`crates/gateway/tests/counters.rs` measures it).
pub const REMEMBERED_PAYERS: NonZeroUsize = NonZeroUsize::new(100_000).expect("is not 0");

/// Errors that are remembered.
const ERRORS: usize = 50;
/// A payer's latest escrows that are remembered.
const ESCROWS: usize = 4;
/// Payers are spread over so many locks: while one part is read for the page, the others go on.
const SHARDS: usize = 16;

/// Upper bounds in seconds, of whole requests.
const DURATION_BOUNDS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Upper bounds in seconds, of what the gateway adds.
const ADDED_BOUNDS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// Shared by everything that serves requests.
#[derive(Debug)]
pub struct Counters {
    started: Timestamp,
    hasher: RandomState,
    payers: [Mutex<Shard>; SHARDS],
    total: Mutex<Total>,
    channels: Mutex<ChannelSum>,
    flagged: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    upstream: [AtomicU64; Upstream::COUNT],
    replayed: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    duration: Histogram,
    added: Histogram,
    errors: Mutex<VecDeque<ErrorLine>>,
    paused: Mutex<Option<String>>,
}

/// How a request to the upstream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// It answered with this HTTP status.
    Status(u16),
    /// No answer: refused, reset, or not HTTP.
    Failed,
    /// No answer in time.
    TimedOut,
}

impl Upstream {
    const COUNT: usize = 7;

    /// What each index means, for people and for labels.
    const NAMES: [&'static str; Self::COUNT] = ["1xx", "2xx", "3xx", "4xx", "5xx", "failed", "timeout"];

    fn index(self) -> usize {
        match self {
            // What is no class counts as the nearest one.
            Self::Status(status) => usize::from((status / 100).clamp(1, 5) - 1),
            Self::Failed => 5,
            Self::TimedOut => 6,
        }
    }
}

/// Tickets that were accepted, of one payer or of many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Tickets.
    pub accepted: u64,
    /// What they were worth together in expectation, atomic units.
    pub revenue: Amount,
    /// Their wins, and the test on them.
    pub watch: Watch,
}

/// Payments by channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelSum {
    /// Delivered since the start.
    pub payments: u64,
    /// What they paid for together, atomic units.
    #[serde(serialize_with = "text")]
    pub revenue: Amount,
}

/// One payer, remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Payer {
    /// Who opened the escrows.
    pub payer: Address,
    /// What it paid.
    pub taken: Taken,
    /// The escrows that it paid from, latest last; only the latest few.
    pub escrows: Vec<Address>,
}

/// Payers that were forgotten one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Forgotten {
    /// Times that a payer was forgotten: one who came back and was forgotten again counts twice.
    pub payers: u64,
    /// Their tickets.
    pub accepted: u64,
    /// What these were worth together, atomic units.
    #[serde(serialize_with = "text")]
    pub revenue: Amount,
    /// Their winning tickets.
    pub wins: u64,
    /// How many should have won.
    pub expected: f64,
}

/// An error as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorLine {
    /// When it last happened.
    #[serde(serialize_with = "time")]
    pub at: Timestamp,
    /// How often in a row.
    pub times: u64,
    /// What failed: `upstream`, `store`, `claim`, …
    pub place: &'static str,
    /// What was wrong, without secrets.
    pub text: String,
}

/// A point on the way: (expected wins, wins).
pub type Point = (f64, u64);

#[derive(Debug)]
struct Shard {
    payers: LruCache<Address, (Taken, Vec<Address>)>,
    forgotten: Forgotten,
}

#[derive(Debug, Default)]
struct Total {
    taken: Taken,
    path: Path,
}

impl Counters {
    /// Counts from `now`, with room for [`REMEMBERED_PAYERS`].
    pub fn new(now: Timestamp) -> Self {
        Self::with_room(now, REMEMBERED_PAYERS)
    }

    /// Counts from `now`, and remembers about so many payers: the room is split evenly and rounded up.
    pub fn with_room(now: Timestamp, payers: NonZeroUsize) -> Self {
        let each = NonZeroUsize::new(payers.get().div_ceil(SHARDS)).unwrap_or(NonZeroUsize::MIN);
        Self {
            started: now,
            hasher: RandomState::new(),
            payers: array::from_fn(|_| {
                Mutex::new(Shard {
                    payers: LruCache::sparse(each),
                    forgotten: Forgotten::default(),
                })
            }),
            total: Mutex::default(),
            channels: Mutex::default(),
            flagged: AtomicU64::new(0),
            refused: Mutex::default(),
            upstream: array::from_fn(|_| AtomicU64::new(0)),
            replayed: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            duration: Histogram::new(DURATION_BOUNDS),
            added: Histogram::new(ADDED_BOUNDS),
            errors: Mutex::default(),
            paused: Mutex::default(),
        }
    }

    // ── the request paths ──

    /// A ticket was accepted for the first time: `payer` opened `escrow`, the ticket was worth `price` (atomic units), it
    /// won with probability `p`, and it won or not. Not for a repeat, which was counted when it first came.
    pub fn accepted(&self, payer: Address, escrow: Address, price: Amount, p: f64, won: bool) {
        self.total.lock().add(price, p, won);
        let flagged = self.shard(payer).lock().add(payer, escrow, price, p, won);
        if flagged {
            self.flagged.fetch_add(1, Relaxed);
        }
    }

    /// A payment of a channel was delivered: `price` (atomic units). Not for a repeat.
    pub fn paid_by_channel(&self, price: Amount) {
        let mut sum = self.channels.lock();
        sum.payments += 1;
        sum.revenue = Amount(sum.revenue.0.saturating_add(price.0));
    }

    /// A payment was refused; `rule` is its stable name (see `Refusal::rule`).
    pub fn refused(&self, rule: &'static str) {
        *self.refused.lock().entry(rule).or_default() += 1;
    }

    /// The upstream answered, or did not.
    pub fn upstream(&self, outcome: Upstream) {
        self.upstream[outcome.index()].fetch_add(1, Relaxed);
    }

    /// A payment that came again was answered from the stored answers.
    pub fn replayed(&self) {
        self.replayed.fetch_add(1, Relaxed);
    }

    /// A request is over: how long it took from its first to its last byte, and the bytes of its body and of its answer's.
    pub fn finished(&self, duration: Duration, received: u64, sent: u64) {
        self.duration.observe(duration);
        self.received.fetch_add(received, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
    }

    /// How much longer a request took than its upstream did.
    pub fn added(&self, latency: Duration) {
        self.added.observe(latency);
    }

    // ── what the operator must know ──

    /// Something failed. Addresses of servers lose their passwords, paths and queries, and long secrets all but their
    /// first digits, before they are remembered. The same again is counted, not listed again.
    pub fn failed(&self, at: Timestamp, place: &'static str, error: impl Display) {
        let text = redact(&error.to_string());
        let mut errors = self.errors.lock();
        if let Some(last) = errors
            .back_mut()
            .filter(|last| last.place == place && last.text == text)
        {
            last.at = at;
            last.times += 1;
            return;
        }
        if errors.len() == ERRORS {
            errors.pop_front();
        }
        errors.push_back(ErrorLine {
            at,
            times: 1,
            place,
            text,
        });
    }

    /// From now on nothing is accepted, for this reason: the page and `/healthz` say so.
    pub fn pause(&self, reason: impl Display) {
        *self.paused.lock() = Some(redact(&reason.to_string()));
    }

    /// Payments are accepted again.
    pub fn resume(&self) {
        *self.paused.lock() = None;
    }

    // ── what the page reads ──

    /// Since when.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// Why nothing is accepted, if so.
    pub fn paused(&self) -> Option<String> {
        self.paused.lock().clone()
    }

    /// All payers together.
    pub fn total(&self) -> Taken {
        self.total.lock().taken.clone()
    }

    /// Payments by channel together.
    pub fn channels(&self) -> ChannelSum {
        *self.channels.lock()
    }

    /// How wins and expectation grew, in a bounded number of points.
    pub fn path(&self) -> Vec<Point> {
        let total = self.total.lock();
        let now = (total.taken.watch.expected(), total.taken.watch.wins());
        let mut points = total.path.points.clone();
        points.push(now);
        points
    }

    /// How many payers have been flagged by their own watch.
    pub fn flagged(&self) -> u64 {
        self.flagged.load(Relaxed)
    }

    /// How many payers are remembered, and the sum of those that are not.
    pub fn payers(&self) -> (u64, Forgotten) {
        let mut known = 0;
        let mut sum = Forgotten::default();
        for shard in &self.payers {
            let shard = shard.lock();
            known += shard.payers.len() as u64;
            sum.payers += shard.forgotten.payers;
            sum.accepted += shard.forgotten.accepted;
            sum.revenue = Amount(sum.revenue.0.saturating_add(shard.forgotten.revenue.0));
            sum.wins += shard.forgotten.wins;
            sum.expected += shard.forgotten.expected;
        }
        (known, sum)
    }

    /// The payers that matter most: flagged ones first, then by revenue.
    pub fn top_payers(&self, count: usize) -> Vec<Payer> {
        let mut top: Vec<Payer> = Vec::new();
        for shard in &self.payers {
            let shard = shard.lock();
            let mut all: Vec<_> = shard.payers.iter().collect();
            if all.len() > count {
                all.select_nth_unstable_by(count, |(_, (a, _)), (_, (b, _))| a.rank().cmp(&b.rank()));
                all.truncate(count);
            }
            top.extend(all.into_iter().map(|(payer, (taken, escrows))| Payer {
                payer: *payer,
                taken: taken.clone(),
                escrows: escrows.clone(),
            }));
        }
        // The address makes the order certain.
        top.sort_by_key(|payer| (payer.taken.rank(), payer.payer));
        top.truncate(count);
        top
    }

    /// Refusals by rule.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().clone()
    }

    /// How requests to the upstream ended: status class, `failed` or `timeout`.
    pub fn upstreams(&self) -> Vec<(&'static str, u64)> {
        let count = |i: usize| self.upstream[i].load(Relaxed);
        Upstream::NAMES
            .iter()
            .enumerate()
            .map(|(i, name)| (*name, count(i)))
            .collect()
    }

    /// Payments answered from the stored answers.
    pub fn replays(&self) -> u64 {
        self.replayed.load(Relaxed)
    }

    /// Bytes of requests' bodies, and of answers'.
    pub fn bytes(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// Seconds of whole requests.
    pub fn durations(&self) -> Times {
        self.duration.read()
    }

    /// Seconds that the gateway added.
    pub fn additions(&self) -> Times {
        self.added.read()
    }

    /// The last errors, newest first.
    pub fn errors(&self) -> Vec<ErrorLine> {
        self.errors.lock().iter().rev().cloned().collect()
    }

    fn shard(&self, payer: Address) -> &Mutex<Shard> {
        &self.payers[self.hasher.hash_one(payer) as usize % SHARDS]
    }
}

impl Taken {
    fn add(&mut self, price: Amount, p: f64, won: bool) {
        self.accepted += 1;
        self.revenue = Amount(self.revenue.0.saturating_add(price.0));
        self.watch.observe(p, won);
    }

    /// Lower is more important.
    fn rank(&self) -> (bool, std::cmp::Reverse<Amount>) {
        (!self.watch.alarmed(), std::cmp::Reverse(self.revenue))
    }
}

impl Shard {
    /// Returns whether this ticket raised the payer's alarm.
    fn add(&mut self, payer: Address, escrow: Address, price: Amount, p: f64, won: bool) -> bool {
        if !self.payers.contains(&payer)
            && let Some((_, (oldest, _))) = self.payers.push(payer, Default::default())
        {
            self.forgotten.add(&oldest);
        }
        let (taken, escrows) = self.payers.get_or_insert_mut(payer, Default::default);
        if escrows.last() != Some(&escrow) {
            escrows.retain(|known| *known != escrow);
            if escrows.len() == ESCROWS {
                escrows.remove(0);
            }
            // Most payers have one.
            escrows.reserve_exact(1);
            escrows.push(escrow);
        }
        let before = taken.watch.alarmed();
        taken.add(price, p, won);
        taken.watch.alarmed() && !before
    }
}

impl Forgotten {
    fn add(&mut self, taken: &Taken) {
        self.payers += 1;
        self.accepted += taken.accepted;
        self.revenue = Amount(self.revenue.0.saturating_add(taken.revenue.0));
        self.wins += taken.watch.wins();
        self.expected += taken.watch.expected();
    }
}

impl Total {
    fn add(&mut self, price: Amount, p: f64, won: bool) {
        self.taken.add(price, p, won);
        self.path
            .reach((self.taken.watch.expected(), self.taken.watch.wins()));
    }
}

/// Points at even steps of expectation. When there are too many, every other one goes and steps double.
#[derive(Debug)]
struct Path {
    points: Vec<Point>,
    step: f64,
}

impl Path {
    const POINTS: usize = 128;

    fn reach(&mut self, (expected, wins): Point) {
        if expected < self.points.last().map_or(0.0, |(last, _)| *last) + self.step {
            return;
        }
        if self.points.len() == Self::POINTS {
            let mut odd = false;
            self.points.retain(|_| {
                odd = !odd;
                !odd
            });
            self.step *= 2.0;
        }
        self.points.push((expected, wins));
    }
}

impl Default for Path {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            step: 0.1,
        }
    }
}

/// Times by their size.
#[derive(Debug)]
struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: what is above all of them.
    counts: Vec<AtomicU64>,
    nanos: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            nanos: AtomicU64::new(0),
        }
    }

    fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Relaxed);
        // 64 bits of nanoseconds are 584 years.
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    fn read(&self) -> Times {
        Times {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            seconds: self.nanos.load(Relaxed) as f64 / 1e9,
        }
    }
}

/// A histogram, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// Upper bounds of the buckets, seconds, rising.
    pub bounds: &'static [f64],
    /// How many were at most the bound and above the one before; the last count is of those above all bounds.
    pub counts: Vec<u64>,
    /// Sum of all, seconds.
    pub seconds: f64,
}

impl Times {
    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time that the part `q` of all was at most, in seconds, as well as buckets can tell; above all bounds it is the
    /// highest bound. `None` without any.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let wanted = self.count() as f64 * q;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                return Some(lower + (bound - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = *bound;
        }
        (self.count() > 0).then_some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn address(n: u64) -> Address {
        Address::from_word(alloy_primitives::U256::from(n).into())
    }

    #[test]
    fn totals_stay_exact_when_payers_are_forgotten() {
        let counters = Counters::with_room(NOW, NonZeroUsize::new(32).unwrap());
        for n in 0..1_000 {
            counters.accepted(address(n), address(n), Amount(u128::from(n)), 0.25, n % 4 == 0);
        }
        let total = counters.total();
        assert_eq!(total.accepted, 1_000);
        assert_eq!(total.revenue, Amount(499_500));
        assert_eq!((total.watch.wins(), total.watch.expected()), (250, 250.0));

        let (known, forgotten) = counters.payers();
        assert!(known <= 32, "{known}");
        assert_eq!(known + forgotten.payers, 1_000);
        let top = counters.top_payers(100);
        assert_eq!(top.len() as u64, known);
        let sum = |of: fn(&Payer) -> u128| top.iter().map(of).sum::<u128>();
        assert_eq!(
            sum(|p| p.taken.accepted.into()) + u128::from(forgotten.accepted),
            1_000
        );
        assert_eq!(sum(|p| p.taken.revenue.0) + forgotten.revenue.0, 499_500);
        assert_eq!(
            sum(|p| p.taken.watch.wins().into()) + u128::from(forgotten.wins),
            250
        );
    }

    #[test]
    fn the_one_who_pays_stays() {
        let counters = Counters::with_room(NOW, NonZeroUsize::new(16).unwrap());
        for n in 1..1_000 {
            counters.accepted(address(0), address(0), Amount(1), 0.5, false);
            // One at a time may push out only those who have not paid for longer.
            if n % 2 == 0 {
                counters.accepted(address(n), address(n), Amount(1), 0.5, false);
                counters.accepted(address(0), address(0), Amount(1), 0.5, false);
            }
        }
        // One place per shard: it was pushed out by those of its own shard, and came back at once.
        let top = counters.top_payers(1);
        assert_eq!(top[0].payer, address(0));
    }

    #[test]
    fn flagged_payers_come_first_and_revenue_decides_then() {
        let counters = Counters::new(NOW);
        for _ in 0..4_000 {
            counters.accepted(address(1), address(11), Amount(1), 0.01, false);
        }
        counters.accepted(address(2), address(12), Amount(9_000), 0.01, true);
        counters.accepted(address(3), address(13), Amount(8_000), 0.01, true);
        assert_eq!(counters.flagged(), 1);
        let order: Vec<_> = counters.top_payers(3).iter().map(|p| p.payer).collect();
        assert_eq!(order, [address(1), address(2), address(3)]);
        assert_eq!(counters.top_payers(2).len(), 2);
    }

    #[test]
    fn the_latest_escrows_of_a_payer_are_known() {
        let counters = Counters::new(NOW);
        for escrow in [1, 2, 3, 1, 4, 5] {
            counters.accepted(address(9), address(escrow), Amount(1), 0.5, false);
        }
        let latest = &counters.top_payers(1)[0].escrows;
        assert_eq!(latest, &[3, 1, 4, 5].map(address));
    }

    #[test]
    fn errors_are_bounded_counted_and_without_secrets() {
        let counters = Counters::new(NOW);
        for n in 0..60 {
            counters.failed(Timestamp(n), "upstream", format!("error {n}"));
        }
        counters.failed(
            Timestamp(60),
            "store",
            "postgres://me:hunter2@db.example/pay?key=1 is gone",
        );
        counters.failed(
            Timestamp(61),
            "store",
            "postgres://me:hunter2@db.example/pay?key=1 is gone",
        );
        let errors = counters.errors();
        assert_eq!(errors.len(), 50);
        assert_eq!((errors[0].at, errors[0].times), (Timestamp(61), 2));
        assert_eq!(errors[0].text, "postgres://db.example/… is gone");
        assert_eq!(errors[1].text, "error 59");
    }

    #[test]
    fn times_fall_into_their_buckets() {
        let counters = Counters::new(NOW);
        assert_eq!(counters.durations().quantile(0.5), None);
        for millis in [1, 2, 2, 2, 90_000] {
            counters.finished(Duration::from_millis(millis), 10, 100);
        }
        let times = counters.durations();
        assert_eq!((times.count(), times.counts[0], times.counts[1]), (5, 1, 3));
        assert_eq!(times.counts.last(), Some(&1));
        assert!((times.seconds - 90.007).abs() < 1e-9);
        let median = times.quantile(0.5).unwrap();
        assert!((0.001..=0.0025).contains(&median), "{median}");
        assert_eq!(times.quantile(1.0), Some(60.0));
        assert_eq!(counters.bytes(), (50, 500));
    }

    #[test]
    fn the_path_is_bounded_and_keeps_its_order() {
        let counters = Counters::new(NOW);
        for n in 0..100_000u32 {
            counters.accepted(address(1), address(1), Amount(1), 0.01, n % 100 == 0);
        }
        let path = counters.path();
        assert!((64..=129).contains(&path.len()), "{}", path.len());
        assert!(path.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        assert!((path.last().unwrap().0 - 1_000.0).abs() < 1e-6);
    }

    #[test]
    fn upstream_outcomes_have_their_names() {
        let counters = Counters::new(NOW);
        for outcome in [
            Upstream::Status(200),
            Upstream::Status(204),
            Upstream::Status(503),
            Upstream::Status(7),
            Upstream::Failed,
            Upstream::TimedOut,
        ] {
            counters.upstream(outcome);
        }
        let counts: Vec<_> = counters.upstreams().into_iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(
            counts,
            [("1xx", 1), ("2xx", 2), ("5xx", 1), ("failed", 1), ("timeout", 1)]
        );
    }
}
