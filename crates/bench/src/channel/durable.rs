//! The vendor on one core, as payments of many channels come in: the word and all other rules, then the store, before the
//! payment is answered. The same payments without a store, with one in memory, and with a SQLite file on disk that flushes
//! what is under way together.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use eyre::{Result, ensure};
use protocol::channel::{Index, Payment};
use protocol::ticket::OrderId;
use serde::Serialize;
use storage::channel::{ChannelDomainStore, VendorChannelStore};
use storage::{MemoryStore, SqliteStore, StoreIdentity};
use tokio::task::JoinSet;

use super::{Opened, Town, UNIT};
use crate::durable::{Spent, Start, on_one_core};

/// One payment of each is under way at any time.
const CHANNELS: u64 = 128;
const PAYMENTS: u32 = 100;
/// Without a store a round is over too soon to be measured.
const REPEATS: u32 = 10;

/// What one core does.
#[derive(Clone, Debug, Serialize)]
pub struct Vending {
    /// Whether all threads were held on one core. Only Linux can.
    pub pinned: bool,
    /// Payments accepted, with each store.
    pub payments: u64,
    /// Accepted and forgotten.
    pub without_store: Rate,
    /// Accepted and kept in memory.
    pub memory: Rate,
    /// Accepted and on disk.
    pub sqlite: Rate,
    /// Flushes of the disk for all of them: payments under way share one.
    pub flushes: u64,
}

/// Payments per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Of wall time, with whatever else the core had to do.
    pub per_s: f64,
    /// That the core spent on it, in any thread and in the kernel.
    pub per_core_s: f64,
}

/// Accepts payments with each store; the file is in `folder`, which should be on the disk that matters.
///
/// # Errors
/// When a payment is refused or not found in the store.
pub fn run(folder: &Path) -> Result<Vending> {
    on_one_core(|pinned| measure(folder, pinned))
}

async fn measure(folder: &Path, pinned: bool) -> Result<Vending> {
    let town = Arc::new(Town::default());
    let channels = (0..CHANNELS)
        .map(|number| {
            let mut opened = town.open(number, PAYMENTS)?;
            let payments = opened.payments(&town, PAYMENTS)?;
            Ok((opened, payments))
        })
        .collect::<Result<Vec<_>>>()?;
    let payments = CHANNELS * u64::from(PAYMENTS);

    let start = Start::now();
    for _ in 0..REPEATS {
        for (opened, payments) in &channels {
            let mut channel = opened.vendor;
            for payment in payments {
                channel = *town.accept(&opened.record, &channel, *payment)?.channel();
            }
            ensure!(channel.paid.index == Index(PAYMENTS), "a channel was not paid");
        }
    }
    let without_store = Rate::of(payments * u64::from(REPEATS), start.spent());

    let ticket = protocol::ticket::Domain::new(31_337, town.domain.contract());
    let identity = StoreIdentity::merchant(ticket, town.vendor);
    let store = MemoryStore::new(identity);
    let memory = Rate::of(payments, sell(&town, &channels, &store).await?);

    let folder = tempfile::tempdir_in(folder)?;
    let store = SqliteStore::open(folder.path().join("store.db"), identity).await?;
    let before = store.stats().commits;
    let sqlite = Rate::of(payments, sell(&town, &channels, &store).await?);
    let flushes = store.stats().commits - before;
    let totals = store.vendor_totals().await?;
    let stored = totals.taken.total.count + totals.delivered.total.count;
    ensure!(
        stored == payments,
        "{payments} payments were made, {stored} are in the store"
    );
    store.close().await?;
    Ok(Vending {
        pinned,
        payments,
        without_store,
        memory,
        sqlite,
        flushes,
    })
}

/// All channels at once, each a payment at a time.
async fn sell<S>(town: &Arc<Town>, channels: &[(Opened, Vec<Payment>)], store: &S) -> Result<Spent>
where
    S: VendorChannelStore + ChannelDomainStore + Clone + Send + Sync + 'static,
{
    store.use_channels(town.domain).await?;
    let mut tasks = JoinSet::new();
    for (opened, payments) in channels.iter().cloned() {
        let (town, store) = (town.clone(), store.clone());
        tasks.spawn(async move {
            let mut channel = opened.vendor;
            for payment in payments {
                let accepted = town.accept(&opened.record, &channel, payment)?;
                let order = OrderId(B256::from(U256::from(payment.index.0)));
                let new = store.save_payment(&accepted, order, UNIT, town.now).await?;
                ensure!(new, "payment {} was stored before", payment.index);
                // It is delivered; the next payment says so.
                channel = *accepted.channel();
                // Where a server would wait for the next request.
                tokio::task::yield_now().await;
            }
            Ok::<_, eyre::Report>(())
        });
    }
    // Tasks begin to run here.
    let start = Start::now();
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(start.spent())
}

impl Rate {
    fn of(payments: u64, spent: Spent) -> Self {
        Self {
            per_s: payments as f64 / spent.wall_s,
            per_core_s: payments as f64 / spent.core_s,
        }
    }
}

impl fmt::Display for Vending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = if self.pinned {
            "one core"
        } else {
            "not held on one core"
        };
        writeln!(
            f,
            "vendor, {core}, {CHANNELS} channels at once: {} payments on disk with {} flushes",
            self.payments, self.flushes
        )?;
        writeln!(
            f,
            "  payments per second      {:>10} {:>10} {:>10}",
            "no store", "memory", "SQLite"
        )?;
        let rates = [self.without_store, self.memory, self.sqlite];
        let [a, b, c] = rates.map(|rate| rate.per_s);
        writeln!(f, "  of wall time             {a:>10.0} {b:>10.0} {c:>10.0}")?;
        let [a, b, c] = rates.map(|rate| rate.per_core_s);
        write!(f, "  of the core's own time   {a:>10.0} {b:>10.0} {c:>10.0}")
    }
}
