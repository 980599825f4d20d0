//! The whole merchant on one core, as tickets come in: decode, `Merchant::accept` over the mirror, the book and a SQLite
//! file on disk that flushes every winner before it is answered. Checks alone are timed in turns with it on the same core,
//! which tells what bookkeeping and storing cost on top.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use eyre::{Result, ensure, eyre};
use merchant::ticket::Merchant;
use protocol::ticket::OrderId;
use serde::Serialize;
use storage::{SqliteStore, StoreIdentity, WinStore};
use tokio::task::JoinSet;

use crate::clock::process_time;
use crate::market::{Market, ONE_IN};
use crate::ratio::Ratio;
use crate::wire;

/// Tickets come from so many payers in turn.
const PAYERS: u64 = 8;
/// So many payments are under way at any time.
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 6;
const TICKETS_PER_ROUND: usize = 10_000;
const CHECKS_PER_ROUND: usize = 2_560;

/// What one core does.
#[derive(Clone, Debug, Serialize)]
pub struct Durable {
    /// Whether all threads were held on one core. Only Linux can.
    pub pinned: bool,
    /// Tickets accepted.
    pub tickets: usize,
    /// Winners, each flushed to disk before its payer was answered, and counted in the file afterwards.
    pub wins: usize,
    /// Flushes for them: payments in flight share one.
    pub commits: u64,
    /// Tickets accepted per second of wall time, winners stored: what this core did, with whatever else it had to do.
    pub tickets_per_s: f64,
    /// Tickets checked per second of wall time, nothing else done.
    pub checks_per_s: f64,
    /// Tickets accepted per second that the core spent on it, in any thread and in the kernel.
    pub tickets_per_core_s: f64,
    /// Tickets checked per second that the core spent on it.
    pub checks_per_core_s: f64,
    /// Time that the core spends on a ticket, over that on a check.
    pub accept_over_check: Ratio,
    /// The part of the wall time that the core was ours, by the checks, which never wait: 1 on a quiet machine. Only then
    /// do the rates per second of wall time mean much.
    pub core_share: f64,
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = if self.pinned {
            "one core"
        } else {
            "not held on one core"
        };
        writeln!(
            f,
            "durable, {core}, {IN_FLIGHT} payments in flight: {} tickets, {} winners on disk with {} flushes",
            self.tickets, self.wins, self.commits
        )?;
        writeln!(f, "  per second               {:>8} {:>8}", "accepted", "checked")?;
        writeln!(
            f,
            "  of wall time             {:>8.0} {:>8.0}   {:.0} % of the core was ours",
            self.tickets_per_s,
            self.checks_per_s,
            self.core_share * 100.0
        )?;
        write!(
            f,
            "  of the core's own time   {:>8.0} {:>8.0}   accept = {:.3} x check",
            self.tickets_per_core_s, self.checks_per_core_s, self.accept_over_check.median
        )
    }
}

/// Accepts tickets for some seconds with a store in `folder`, which should be on the disk that matters.
///
/// # Errors
/// When a ticket is refused or a winner not found in the store.
pub fn run(folder: &Path) -> Result<Durable> {
    on_one_core(|pinned| measure(folder, pinned))
}

/// Runs a future on a thread of its own, held on one core where the system can (the argument says so).
pub(crate) fn on_one_core<T: Send, F: Future<Output = Result<T>>>(
    measure: impl FnOnce(bool) -> F + Send,
) -> Result<T> {
    let work = || {
        // Threads inherit it, above all the one in which SQLite runs.
        let pinned = pin_to_one_core();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(measure(pinned))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("one-core".into())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .map_err(|_| eyre!("the measuring thread panicked"))?
    })
}

async fn measure(folder: &Path, pinned: bool) -> Result<Durable> {
    let market = Arc::new(Market::new(PAYERS));
    let identity = StoreIdentity::merchant(market.domain, market.recipient);
    let folder = tempfile::tempdir_in(folder)?;
    let store = SqliteStore::open(folder.path().join("store.db"), identity).await?;
    let merchant = market.merchant(store.clone()).await?;
    let messages = Arc::new(messages(&market, &merchant)?);
    let checks: Vec<Vec<u8>> = market
        .tickets(CHECKS_PER_ROUND / ONE_IN as usize)?
        .iter()
        .map(wire::to_abi)
        .collect();

    let (mut wins, mut accepting, mut checking) = (0, Spent::default(), Spent::default());
    let mut ratios = Vec::new();
    let before = store.stats();
    for round in 0..ROUNDS {
        let start = Start::now();
        for message in &checks {
            market.check(wire::from_abi(&market.domain, message)?, true)?;
        }
        let checked = start.spent();

        let start = Start::now();
        let range = round * TICKETS_PER_ROUND..(round + 1) * TICKETS_PER_ROUND;
        wins += accept(&market, &merchant, &messages, range).await?;
        let accepted = start.spent();

        ratios.push((accepted.core_s / TICKETS_PER_ROUND as f64) / (checked.core_s / checks.len() as f64));
        checking = checking.plus(checked);
        accepting = accepting.plus(accepted);
    }
    let commits = store.stats().commits - before.commits;
    let stored = store.win_totals().await?.won.count;
    ensure!(
        stored == wins as u64,
        "{wins} tickets won, {stored} are in the store"
    );
    store.close().await?;
    let (tickets, checked) = (messages.len() as f64, (ROUNDS * checks.len()) as f64);
    Ok(Durable {
        pinned,
        tickets: messages.len(),
        wins,
        commits,
        tickets_per_s: tickets / accepting.wall_s,
        checks_per_s: checked / checking.wall_s,
        tickets_per_core_s: tickets / accepting.core_s,
        checks_per_core_s: checked / checking.core_s,
        accept_over_check: Ratio::of(ratios),
        core_share: checking.core_s / checking.wall_s,
    })
}

/// When something began, on both clocks.
pub(crate) struct Start {
    wall: Instant,
    core: Duration,
}

/// What something took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) wall_s: f64,
    pub(crate) core_s: f64,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self {
            wall: Instant::now(),
            core: process_time(),
        }
    }

    pub(crate) fn spent(&self) -> Spent {
        Spent {
            wall_s: self.wall.elapsed().as_secs_f64(),
            core_s: (process_time() - self.core).as_secs_f64(),
        }
    }
}

impl Spent {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            wall_s: self.wall_s + other.wall_s,
            core_s: self.core_s + other.core_s,
        }
    }
}

/// Signed tickets as they arrive, of all payers in turn.
fn messages(market: &Market, merchant: &Arc<Merchant<SqliteStore>>) -> Result<Vec<Vec<u8>>> {
    let quotes: Vec<_> = market
        .escrows
        .iter()
        .map(|escrow| merchant.quote(escrow.key.address(), &market.price))
        .collect::<Result<_, _>>()?;
    Ok((0..ROUNDS * TICKETS_PER_ROUND)
        .map(|number| {
            let (nonce, escrow) = (number / quotes.len() + 1, number % quotes.len());
            wire::to_abi(&market.issue_for(&quotes[escrow], escrow, nonce as u64))
        })
        .collect())
}

/// Has the messages of a range accepted, several at a time; the number of winners.
async fn accept(
    market: &Arc<Market>,
    merchant: &Arc<Merchant<SqliteStore>>,
    messages: &Arc<Vec<Vec<u8>>>,
    range: Range<usize>,
) -> Result<usize> {
    let next = Arc::new(AtomicUsize::new(range.start));
    let mut payments = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (market, merchant, messages) = (market.clone(), merchant.clone(), messages.clone());
        let (next, end) = (next.clone(), range.end);
        payments.spawn(async move {
            let mut wins = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok::<_, eyre::Report>(wins);
                }
                let ticket = wire::from_abi(&market.domain, &messages[number])?;
                let order = OrderId(B256::from(U256::from(number)));
                let receipt = merchant.accept(order, ticket, &market.price, market.now).await?;
                ensure!(!receipt.repeat, "ticket {number} was accepted before");
                wins += usize::from(receipt.won);
                // Where a server would wait for the next request.
                tokio::task::yield_now().await;
            }
        });
    }
    let mut wins = 0;
    while let Some(payment) = payments.join_next().await {
        wins += payment??;
    }
    Ok(wins)
}

#[cfg(target_os = "linux")]
fn pin_to_one_core() -> bool {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    let this = Pid::from_raw(0);
    let pin = || {
        let allowed = sched_getaffinity(this)?;
        let last = (0..CpuSet::count()).rfind(|core| allowed.is_set(*core) == Ok(true));
        let mut one = CpuSet::new();
        one.set(last.unwrap_or_default())?;
        sched_setaffinity(this, &one)
    };
    pin().is_ok()
}

#[cfg(not(target_os = "linux"))]
fn pin_to_one_core() -> bool {
    false
}
