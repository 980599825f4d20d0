//! The channel's rows of criterion, what was measured in turns or once, and the targets: one table for people,
//! `target/bench/channel.json` for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use eyre::{Context, ContextCompat, Result};
use serde::Serialize;

use super::durable::Vending;
use crate::ratio::Ratio;
use crate::report::{Target, estimate};

/// Our code for one word, the hash apart, µs, at most.
pub const MAX_ACCEPT_OVER_HASH_US: f64 = 1.0;
/// A receipt signed and locked over a bare signature of its digest, at most.
pub const MAX_LOCK_OVER_SIGN: f64 = 1.3;

/// A row of the table: its name in criterion, and what it does.
pub type Row = (&'static str, &'static str);

/// What criterion does not measure.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// One accepted payment over one link hashed.
    pub accept_over_hash: Ratio,
    /// Signature of a digest, lock and tag over the signature alone.
    pub lock_over_sign: Ratio,
    /// Transcript, digest, signature, lock and tag over the signature alone.
    pub receipt_over_sign: Ratio,
    /// The client's whole step, with word and state, over the signature alone.
    pub pay_over_sign: Ratio,
    /// A prefix of receipts.
    pub open_receipts: OpenReceipts,
    /// The longest chain.
    pub payer: Payer,
    /// The vendor with its store.
    pub vendor: Vending,
}

/// Opening a prefix, for each receipt of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OpenReceipts {
    /// How many there were.
    pub receipts: usize,
    /// On one thread, in time on the processor, over bare verification.
    pub over_verify: Ratio,
    /// On one thread, µs of wall time.
    pub one_thread_us: f64,
    /// On two, µs of wall time.
    pub two_threads_us: f64,
    /// How many times as fast two threads are, wall time, both in turns.
    pub speedup: Ratio,
}

/// What the chain of words costs its client.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Payer {
    /// Words in the chain.
    pub length: u32,
    /// Words that are kept.
    pub nodes: usize,
    /// Memory for them and the rest of the chain's state.
    pub bytes: usize,
    /// Hashes for a payment, mean over the chain.
    pub hashes_mean: f64,
    /// Most hashes for a payment.
    pub hashes_max: u32,
    /// Time for a payment without its signature, mean over the chain, µs.
    pub word_us: f64,
    /// To make the chain, or to rebuild it at its start, ms.
    pub rebuild_ms: f64,
    /// To rebuild it in the middle, ms.
    pub rebuild_middle_ms: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    rows: BTreeMap<&'static str, Timed>,
    compared: Compared,
    /// One accepted payment, less the one hash of it.
    accept_without_hash_us: f64,
    targets: BTreeMap<&'static str, Target>,
    #[serde(skip)]
    order: &'static [Row],
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Timed {
    us: f64,
    /// 95 % confidence interval of it.
    interval_us: [f64; 2],
}

impl Report {
    /// Reads the rows from criterion's folder and judges the targets. `hash`, `accept` and `deliver` are rows.
    ///
    /// # Errors
    /// When a row was not measured.
    pub fn read(criterion: &Path, order: &'static [Row], compared: Compared) -> Result<Self> {
        let mut rows = BTreeMap::new();
        for (name, _) in order {
            // Names of rows are the crate's: those of the ticket's bench lie in the same folder.
            let [us, low, high] = estimate(criterion, &format!("channel_{name}"))?;
            rows.insert(
                *name,
                Timed {
                    us,
                    interval_us: [low, high],
                },
            );
        }
        let hash_us = rows.get("hash").wrap_err("no row hash")?.us;
        let accept_without_hash_us = (compared.accept_over_hash.median - 1.0) * hash_us;
        let targets = BTreeMap::from([
            (
                "accept_without_hash_us",
                Target::at_most(accept_without_hash_us, MAX_ACCEPT_OVER_HASH_US, "µs"),
            ),
            (
                "lock_over_sign",
                Target::at_most(compared.lock_over_sign.median, MAX_LOCK_OVER_SIGN, "x sign"),
            ),
            (
                "receipt_over_sign",
                Target::at_most(compared.receipt_over_sign.median, MAX_LOCK_OVER_SIGN, "x sign"),
            ),
        ]);
        Ok(Self {
            rows,
            compared,
            accept_without_hash_us,
            targets,
            order,
        })
    }

    /// Writes the report for programs.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, json).wrap_err_with(|| format!("{}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<58} {:>10}", "channel, one core, one payment", "µs")?;
        for (name, label) in self.order {
            writeln!(f, "{label:<58} {:>10.3}", self.rows[name].us)?;
        }
        let Compared {
            accept_over_hash,
            lock_over_sign,
            receipt_over_sign,
            pay_over_sign,
            open_receipts,
            payer,
            vendor,
        } = &self.compared;
        writeln!(
            f,
            "\naccept = {:.2} x its one hash: {:.3} µs without it",
            accept_over_hash.median, self.accept_without_hash_us
        )?;
        writeln!(
            f,
            "sign, lock and tag = {:.3} x sign; with transcript and digest {:.3}; the client's whole step {:.3}",
            lock_over_sign.median, receipt_over_sign.median, pay_over_sign.median
        )?;
        writeln!(
            f,
            "open {} receipts: {:.3} x verify each; {:.1} µs each on one thread, {:.1} µs on two ({:.2} times as fast)",
            open_receipts.receipts,
            open_receipts.over_verify.median,
            open_receipts.one_thread_us,
            open_receipts.two_threads_us,
            open_receipts.speedup.median
        )?;
        writeln!(
            f,
            "chain of {} words: {} kept in {} bytes; {:.2} hashes for a payment, at most {}, {:.2} µs; rebuilt in {:.0} ms \
             ({:.0} ms in the middle)",
            payer.length,
            payer.nodes,
            payer.bytes,
            payer.hashes_mean,
            payer.hashes_max,
            payer.word_us,
            payer.rebuild_ms,
            payer.rebuild_middle_ms
        )?;
        writeln!(f, "\n{vendor}\n")?;
        for (name, target) in &self.targets {
            writeln!(f, "{}", target.line(name))?;
        }
        Ok(())
    }
}
