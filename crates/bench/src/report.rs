//! Brings together what criterion has measured (`target/criterion/<row>/new/estimates.json`), the paper's table and the
//! targets: one table for people, `target/bench/report.json` for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use eyre::{Context, ContextCompat, Result};
use serde::Serialize;
use serde_json::Value;

use crate::durable::Durable;
use crate::ratio::Ratio;

/// Check over bare verification of the same library, at most.
pub const MAX_CHECK_OVER_VERIFY: f64 = 1.15;
/// A quote in µs, at most.
pub const MAX_QUOTE_US: f64 = 5.0;

/// A row of the table: a benchmark of criterion.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, under which criterion keeps it.
    pub name: &'static str,
    /// What it does.
    pub label: &'static str,
    /// The paper's time of this step, µs.
    pub paper_us: Option<f64>,
    /// How many tickets it is for.
    pub tickets: u32,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    rows: BTreeMap<&'static str, Timed>,
    over_verify: BTreeMap<&'static str, Ratio>,
    durable: Durable,
    targets: BTreeMap<&'static str, Target>,
    #[serde(skip)]
    order: &'static [Row],
}

/// A row with its time.
#[derive(Clone, Copy, Debug, Serialize)]
struct Timed {
    /// Time for one ticket.
    us: f64,
    /// 95 % confidence interval of it.
    interval_us: [f64; 2],
    /// Time for all tickets of the row, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paper_us: Option<f64>,
    /// In units of libsecp256k1's verification: measured in turns with it where it matters, else the quotient of both
    /// rows, between which the processor's speed may have changed.
    over_verify: f64,
}

/// Something promised, and what came of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Target {
    got: f64,
    limit: f64,
    unit: &'static str,
    /// Whether more is better.
    #[serde(skip)]
    at_least: bool,
    met: bool,
    /// Distance to the limit as a part of it, positive on the good side.
    margin: f64,
}

/// What criterion does not measure.
#[derive(Debug)]
pub struct Compared {
    /// Rows over bare verification, measured in turns. `check` is among them.
    pub over_verify: BTreeMap<&'static str, Ratio>,
    /// The merchant on one core.
    pub durable: Durable,
}

impl Report {
    /// Reads the rows from criterion's folder and judges the targets. `verify` and `quote` are rows.
    ///
    /// # Errors
    /// When a row was not measured.
    pub fn read(criterion: &Path, order: &'static [Row], compared: Compared) -> Result<Self> {
        let median = |name: &str| estimate(criterion, name);
        let [verify_us, ..] = median("libsecp256k1_verify")?;
        let mut rows = BTreeMap::new();
        for row in order {
            let measured = median(row.name)?;
            let [us, low, high] = measured.map(|us| us / f64::from(row.tickets));
            let timed = Timed {
                us,
                interval_us: [low, high],
                batch_us: (row.tickets > 1).then_some(measured[0]),
                paper_us: row.paper_us,
                over_verify: compared
                    .over_verify
                    .get(row.name)
                    .map_or(us / verify_us, |ratio| ratio.median),
            };
            rows.insert(row.name, timed);
        }
        let Compared { over_verify, durable } = compared;
        let quote_us = rows.get("quote").wrap_err("no row quote")?.us;
        let check = over_verify
            .get("check")
            .wrap_err("check was not compared")?
            .median;
        // The rate of a check that takes all it may, if there were nothing else to do.
        let promised = durable.checks_per_core_s * check / MAX_CHECK_OVER_VERIFY;
        let targets = BTreeMap::from([
            (
                "check_over_verify",
                Target::at_most(check, MAX_CHECK_OVER_VERIFY, "x verify"),
            ),
            ("quote_us", Target::at_most(quote_us, MAX_QUOTE_US, "µs")),
            (
                "durable_tickets_per_core_s",
                Target::at_least(durable.tickets_per_core_s, promised, "per second of the core"),
            ),
        ]);
        Ok(Self {
            rows,
            over_verify,
            durable,
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

impl Target {
    pub(crate) fn at_most(got: f64, limit: f64, unit: &'static str) -> Self {
        Self {
            got,
            limit,
            unit,
            at_least: false,
            met: got <= limit,
            margin: 1.0 - got / limit,
        }
    }

    pub(crate) fn at_least(got: f64, limit: f64, unit: &'static str) -> Self {
        Self {
            got,
            limit,
            unit,
            at_least: true,
            met: got >= limit,
            margin: got / limit - 1.0,
        }
    }

    /// The target of this name and what came of it, in words.
    pub(crate) fn line(&self, name: &str) -> String {
        let Self {
            got,
            limit,
            unit,
            at_least,
            met,
            margin,
        } = self;
        let (word, sign) = (
            if *met { "met" } else { "MISSED" },
            if *at_least { '≥' } else { '≤' },
        );
        let digits = if *limit > 100.0 { 0 } else { 3 };
        format!(
            "{word:<7} {name}: {got:.digits$} {sign} {limit:.digits$} {unit}, {:.1} % {}",
            margin.abs() * 100.0,
            if *met { "to spare" } else { "short" }
        )
    }
}

/// What criterion has measured for a row, µs: the median, and its interval of 95 %.
pub(crate) fn estimate(criterion: &Path, name: &str) -> Result<[f64; 3]> {
    let path = criterion.join(name).join("new/estimates.json");
    let text = fs::read_to_string(&path).wrap_err_with(|| format!("{}", path.display()))?;
    let json: Value = serde_json::from_str(&text)?;
    let number = |pointer: &str| {
        let nanoseconds = json.pointer(pointer).and_then(Value::as_f64);
        nanoseconds
            .map(|ns| ns / 1000.0)
            .wrap_err_with(|| format!("{name}: no {pointer}"))
    };
    Ok([
        number("/median/point_estimate")?,
        number("/median/confidence_interval/lower_bound")?,
        number("/median/confidence_interval/upper_bound")?,
    ])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<44} {:>10} {:>10} {:>9}",
            "one core, one ticket", "µs", "paper µs", "x verify"
        )?;
        for row in self.order {
            let timed = &self.rows[row.name];
            let paper = timed.paper_us.map_or(String::new(), |us| format!("{us:.1}"));
            write!(
                f,
                "{:<44} {:>10.2} {paper:>10} {:>9.3}",
                row.label, timed.us, timed.over_verify
            )?;
            if let Some(batch_us) = timed.batch_us {
                write!(f, "   ({batch_us:.1} µs for {})", row.tickets)?;
            }
            f.write_char('\n')?;
        }
        writeln!(f, "\n{}\n", self.durable)?;
        for (name, target) in &self.targets {
            writeln!(f, "{}", target.line(name))?;
        }
        Ok(())
    }
}
