//! What the experiment found: the paper's two tables with ours beside them, bytes by part, the points of its three figures,
//! and what cannot be right in the paper. As text, as JSON and as one CSV row for each step of each run.

use std::fmt::{self, Write};

use serde::Serialize;

use super::figures::{Figure, figures};
use super::paper::{self, Claim, Measured};
use super::phases::{Phase, Step};
use super::size::MessageSize;
use super::{AMOUNTS, Experiment, Profile, Row, Sizes};
use crate::text::{thousands, time};

/// Above this difference between runs, the report warns.
const NOISY: f64 = 0.10;
/// Below this part of a processor, the report warns.
const BUSY: f64 = 0.80;

/// The experiment's results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The experiment's seed.
    pub seed: u64,
    /// How often everything was measured.
    pub runs: u32,
    /// The numbers of transactions.
    pub counts: Vec<u32>,
    /// Medians: what the figures show.
    pub points: Vec<Point>,
    /// Medians by step, for the most transactions of the highest amount.
    pub steps: Vec<StepTime>,
    /// Table 3.
    pub table_3: Vec<Table3>,
    /// Table 4.
    pub table_4: Table4,
    /// Bytes of messages, for each number of transactions.
    pub sizes: Vec<Sizes>,
    /// What the claims are compared with.
    pub measured: Measured,
    /// What cannot be right in the paper.
    pub claims: Vec<Claim>,
    /// The part of the wall's time that this thread had a processor: 1 on a quiet machine.
    pub core_share: f64,
    /// Everything that was measured.
    #[serde(skip)]
    pub rows: Vec<Row>,
}

/// Medians of one point of the figures, seconds on the processor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Hash of the locks.
    pub lock_hash: Profile,
    /// What a transaction was worth, dollars.
    pub dollars: u32,
    /// How many there were.
    pub transactions: u32,
    /// Figure 4.
    pub setup_s: f64,
    /// Figure 5.
    pub transaction_s: f64,
    /// Figure 6.
    pub release_s: f64,
}

/// A step's median, for all transactions together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepTime {
    /// Hash of the locks.
    pub lock_hash: Profile,
    /// The phase.
    pub phase: Phase,
    /// Who does it.
    pub role: &'static str,
    /// What it does.
    pub step: Step,
    /// On the processor.
    pub us: f64,
}

/// A row of Table 3, the paper's and ours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Table3 {
    /// The phase.
    pub phase: Phase,
    /// The paper's time.
    pub paper_s: f64,
    /// The paper's communication, in its own unit.
    pub paper_kb: f64,
    /// Ours, locks by keccak.
    pub keccak_s: f64,
    /// Ours, locks by the paper's hash.
    pub sha3_512_s: f64,
    /// Sent in binary, for all transactions.
    pub binary_bytes: f64,
    /// Sent over HTTP, for all transactions.
    pub http_bytes: f64,
}

/// Table 4 in bytes, for ten transactions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Table4 {
    /// What the paper counts for its client.
    pub paper_client: usize,
    /// What it counts for its vendor.
    pub paper_vendor: usize,
    /// What its protocol has the client send.
    pub printed_client: usize,
    /// What ours sends, with the opener.
    pub client: f64,
    /// What our vendor sends besides goods.
    pub vendor: f64,
    /// Lock, word and tag of ten transactions: what the scheme needs.
    pub client_least: f64,
}

impl Report {
    pub(super) fn new(experiment: &Experiment, rows: Vec<Row>, sizes: &[(u32, Sizes)]) -> Self {
        let most = *experiment.counts().last().expect("at least one number");
        let points = points(experiment, &rows);
        let steps = steps(&rows, most);
        let at_most = |sizes: &&(u32, Sizes)| sizes.1.transactions == most;
        let payment_bytes = AMOUNTS.map(|dollars| {
            let size = sizes
                .iter()
                .filter(at_most)
                .find(|(amount, _)| *amount == dollars);
            size.map_or(0.0, |(_, sizes)| sizes.payment.binary)
        });
        let [.., highest] = AMOUNTS;
        let sizes: Vec<Sizes> = experiment
            .counts()
            .iter()
            .filter_map(|count| {
                let of_count =
                    |(dollars, sizes): &&(u32, Sizes)| *dollars == highest && sizes.transactions == *count;
                sizes.iter().find(of_count).map(|(_, sizes)| sizes.clone())
            })
            .collect();
        let last = sizes.last().expect("at least one number");
        let us = |profile, step| {
            let found = steps
                .iter()
                .find(|time| time.lock_hash == profile && time.step == step);
            found.map_or(0.0, |time| time.us / f64::from(most))
        };
        let measured = Measured {
            receipt_us: us(Profile::Keccak, Step::Receipt),
            unlock_us: us(Profile::Sha3_512, Step::Unlock),
            verify_us: us(Profile::Keccak, Step::Verify),
            between_amounts: between_amounts(&points, most),
            between_runs: between_runs(&rows, most),
            payment_bytes,
            setup_bytes: last.request.binary + last.permit.binary,
        };
        let (cpu, wall) = rows
            .iter()
            .flat_map(|row| row.spent)
            .fold((0.0, 0.0), |(cpu, wall), spent| {
                (cpu + spent.cpu.as_secs_f64(), wall + spent.wall.as_secs_f64())
            });
        Self {
            seed: experiment.seed.0,
            runs: experiment.runs,
            counts: experiment.counts().to_vec(),
            table_3: table_3(&points, last),
            table_4: table_4(last),
            claims: paper::claims(&measured),
            points,
            steps,
            sizes,
            measured,
            core_share: if wall > 0.0 { cpu / wall } else { 1.0 },
            rows,
        }
    }

    /// The most transactions that were measured: what the tables are about.
    pub fn most(&self) -> u32 {
        *self.counts.last().expect("at least one number")
    }

    /// Every step of every run.
    pub fn csv(&self) -> String {
        let mut csv = String::from(
            "lock_hash,dollars,transactions,run,phase,role,step,cpu_s,wall_s,binary_bytes,http_bytes\n",
        );
        for row in &self.rows {
            let sizes = self
                .sizes
                .iter()
                .find(|sizes| sizes.transactions == row.transactions);
            for (step, spent) in Step::ALL.into_iter().zip(row.spent) {
                let (binary, http) = sizes.map_or((0.0, 0.0), |sizes| sizes.sent_by(step));
                let _ = writeln!(
                    csv,
                    "{},{},{},{},{},{},{},{:.9},{:.9},{binary:.0},{http:.0}",
                    row.lock_hash,
                    row.dollars,
                    row.transactions,
                    row.run,
                    step.phase().name(),
                    step.role(),
                    step.name(),
                    spent.cpu.as_secs_f64(),
                    spent.wall.as_secs_f64(),
                );
            }
        }
        csv
    }

    /// The paper's Figures 4 to 6.
    pub fn figures(&self) -> Vec<Figure> {
        figures(self)
    }

    /// Why the times are to be doubted, if they are.
    pub fn warning(&self) -> Option<String> {
        let (runs, share) = (self.measured.between_runs, self.core_share);
        (runs > NOISY || share < BUSY).then(|| {
            format!(
                "the machine was busy: runs differ by up to {:.0} %, and this thread had {:.0} % of a processor. Times are \
                 its own, but caches and clock speed were shared",
                runs * 100.0,
                share * 100.0
            )
        })
    }
}

impl Point {
    /// The median of a phase.
    pub fn phase_s(&self, phase: Phase) -> f64 {
        match phase {
            Phase::Setup => self.setup_s,
            Phase::Transaction => self.transaction_s,
            Phase::Release => self.release_s,
        }
    }
}

impl Sizes {
    /// What is sent at the end of a step, in binary and over HTTP, for all transactions.
    fn sent_by(&self, step: Step) -> (f64, f64) {
        let all = |size: &MessageSize, times: f64| (size.binary * times, size.http * times);
        match step {
            Step::Chain => all(&self.request, 1.0),
            Step::SignPermit => all(&self.permit, 1.0),
            Step::Tag => all(&self.payment, self.transactions.into()),
            // The client's opener arrives.
            Step::Digest => all(&self.opener, 1.0),
            _ => (0.0, 0.0),
        }
    }

    fn sent_in(&self, phase: Phase) -> (f64, f64) {
        Step::ALL
            .into_iter()
            .filter(|step| step.phase() == phase)
            .map(|step| self.sent_by(step))
            .fold((0.0, 0.0), |sum, sent| (sum.0 + sent.0, sum.1 + sent.1))
    }
}

fn points(experiment: &Experiment, rows: &[Row]) -> Vec<Point> {
    let mut points = Vec::new();
    for lock_hash in Profile::ALL {
        for dollars in AMOUNTS {
            for &transactions in experiment.counts() {
                let median_of = |phase| {
                    let of_point = rows.iter().filter(|row| {
                        (row.lock_hash, row.dollars, row.transactions) == (lock_hash, dollars, transactions)
                    });
                    median(of_point.map(|row| row.phase_s(phase)).collect())
                };
                points.push(Point {
                    lock_hash,
                    dollars,
                    transactions,
                    setup_s: median_of(Phase::Setup),
                    transaction_s: median_of(Phase::Transaction),
                    release_s: median_of(Phase::Release),
                });
            }
        }
    }
    points
}

fn steps(rows: &[Row], most: u32) -> Vec<StepTime> {
    let [.., highest] = AMOUNTS;
    let mut steps = Vec::new();
    for lock_hash in Profile::ALL {
        for step in Step::ALL {
            let of_step = rows
                .iter()
                .filter(|row| (row.lock_hash, row.dollars, row.transactions) == (lock_hash, highest, most));
            steps.push(StepTime {
                lock_hash,
                phase: step.phase(),
                role: step.role(),
                step,
                us: median(
                    of_step
                        .map(|row| row.step(step).cpu.as_secs_f64() * 1e6)
                        .collect(),
                ),
            });
        }
    }
    steps
}

fn table_3(points: &[Point], sizes: &Sizes) -> Vec<Table3> {
    let [.., highest] = AMOUNTS;
    let time = |profile, phase| {
        let found = points.iter().find(|point| {
            (point.lock_hash, point.dollars, point.transactions) == (profile, highest, sizes.transactions)
        });
        found.map_or(0.0, |point| point.phase_s(phase))
    };
    let rows = Phase::ALL.into_iter().zip(paper::SECONDS).zip(paper::KILO);
    rows.map(|((phase, paper_s), paper_kb)| {
        let (binary_bytes, http_bytes) = sizes.sent_in(phase);
        Table3 {
            phase,
            paper_s,
            paper_kb,
            keccak_s: time(Profile::Keccak, phase),
            sha3_512_s: time(Profile::Sha3_512, phase),
            binary_bytes,
            http_bytes,
        }
    })
    .collect()
}

fn table_4(sizes: &Sizes) -> Table4 {
    let transactions = f64::from(paper::TABLE_4_TRANSACTIONS);
    let needed = sizes
        .payment
        .parts
        .iter()
        .filter(|part| ["lock", "word", "tag"].contains(&part.name));
    Table4 {
        paper_client: paper::table_4_ours(),
        paper_vendor: paper::TABLE_4_TRANSACTIONS as usize * paper::HASH_BYTES,
        printed_client: paper::protocol_as_printed(),
        client: transactions * sizes.payment.binary + sizes.opener.binary,
        vendor: 0.0,
        client_least: transactions * needed.map(|part| part.binary).sum::<f64>(),
    }
}

/// The most that a phase's median differs between amounts, as a part of the least.
fn between_amounts(points: &[Point], most: u32) -> f64 {
    let groups = Profile::ALL
        .into_iter()
        .flat_map(|profile| Phase::ALL.map(|phase| (profile, phase)));
    let spreads = groups.map(|(profile, phase)| {
        let of_group = points
            .iter()
            .filter(|point| (point.lock_hash, point.transactions) == (profile, most));
        spread(of_group.map(|point| point.phase_s(phase)))
    });
    spreads.fold(0.0, f64::max)
}

/// The most that a phase differs between runs of the same channel, as a part of the least.
fn between_runs(rows: &[Row], most: u32) -> f64 {
    let groups = Profile::ALL.into_iter().flat_map(|profile| {
        AMOUNTS
            .into_iter()
            .flat_map(move |dollars| Phase::ALL.map(|phase| (profile, dollars, phase)))
    });
    let spreads = groups.map(|(profile, dollars, phase)| {
        let of_group = rows
            .iter()
            .filter(|row| (row.lock_hash, row.dollars, row.transactions) == (profile, dollars, most));
        spread(of_group.map(|row| row.phase_s(phase)))
    });
    spreads.fold(0.0, f64::max)
}

fn spread(values: impl Iterator<Item = f64>) -> f64 {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > 0.0 && low.is_finite() {
        high / low - 1.0
    } else {
        0.0
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_table_3(f)?;
        self.write_steps(f)?;
        self.write_table_4(f)?;
        self.write_bytes(f)?;
        self.write_points(f)?;
        writeln!(f, "\nWhat cannot be right in the paper")?;
        for (number, claim) in (1..).zip(&self.claims) {
            wrapped(f, &format!("{number:>2}. "), &claim.to_string())?;
        }
        write!(
            f,
            "\nMedians of {} runs, seed {}, on one thread, in time on the processor ({:.0} % of the wall's).",
            self.runs,
            self.seed,
            self.core_share * 100.0
        )?;
        if let Some(warning) = self.warning() {
            write!(f, "\nWARNING: {warning}.")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_table_3(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [.., highest] = AMOUNTS;
        let most = self.most();
        writeln!(
            f,
            "Table 3. The costs of {} transactions of {highest} dollars; each: shared by them",
            thousands(most.into())
        )?;
        if most != paper::TRANSACTIONS {
            writeln!(
                f,
                "(the paper's are said to be for {})",
                thousands(paper::TRANSACTIONS.into())
            )?;
        }
        writeln!(
            f,
            "{:<12} {:>8} {:>7}  {:>10} {:>9}  {:>10} {:>9}  {:>11} {:>11}",
            "", "paper", "", "keccak", "each", "sha3-512", "each", "binary", "HTTP"
        )?;
        for row in &self.table_3 {
            let each = |seconds: f64| time(seconds / f64::from(most));
            writeln!(
                f,
                "{:<12} {:>6.3} s {:>4.0} kb  {:>10} {:>9}  {:>10} {:>9}  {:>9} B {:>9} B",
                row.phase.name(),
                row.paper_s,
                row.paper_kb,
                time(row.keccak_s),
                each(row.keccak_s),
                time(row.sha3_512_s),
                each(row.sha3_512_s),
                thousands(row.binary_bytes.round() as u64),
                thousands(row.http_bytes.round() as u64),
            )?;
        }
        Ok(())
    }

    fn write_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.most();
        writeln!(f, "\nBy step, the same transactions")?;
        writeln!(
            f,
            "{:<12} {:<7} {:<14} {:>10} {:>9}  {:>10} {:>9}",
            "", "", "", "keccak", "each", "sha3-512", "each"
        )?;
        let (keccak, sha3) = self.steps.split_at(Step::ALL.len());
        for (keccak, sha3) in keccak.iter().zip(sha3) {
            write!(
                f,
                "{:<12} {:<7} {:<14}",
                keccak.phase.name(),
                keccak.role,
                keccak.step.name()
            )?;
            for us in [keccak.us, sha3.us] {
                // Once for the channel, not for a transaction.
                let once = keccak.phase == Phase::Setup && keccak.step != Step::Chain;
                let each = if once {
                    String::new()
                } else {
                    time(us / 1e6 / f64::from(most))
                };
                write!(f, " {:>10} {each:>9} ", time(us / 1e6))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_table_4(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Table4 {
            paper_client,
            paper_vendor,
            printed_client,
            client,
            vendor,
            client_least,
        } = self.table_4;
        let payment = self.sizes.last().map_or(0.0, |sizes| sizes.payment.binary);
        writeln!(
            f,
            "\nTable 4. Bytes sent for {} transactions (sig {}, f {}, s {}, h {})",
            paper::TABLE_4_TRANSACTIONS,
            paper::SIGNATURE_BYTES,
            paper::HASH_BYTES,
            paper::SERIAL_BYTES,
            paper::HASH_BYTES
        )?;
        writeln!(f, "{:<28} {:<34} {:>7}  {:<12}", "", "client", "", "vendor")?;
        let h = paper::HASH_BYTES;
        for (whose, formula, client, vendor) in [
            (
                "paper, scheme [38]",
                "sig + 10f + s + 10h + m",
                format!("{} + m", paper_client + h),
                format!("10f = {paper_vendor}"),
            ),
            (
                "paper, its own",
                "sig + 10f + s + 9h",
                paper_client.to_string(),
                format!("10f = {paper_vendor}"),
            ),
            (
                "the paper's section 4.3",
                "10 × {f, Tx, lk}",
                printed_client.to_string(),
                "0".into(),
            ),
            (
                "here",
                "10 payments and the opener",
                format!("{client:.0}"),
                format!("{vendor:.0}"),
            ),
            (
                "here, what the scheme needs",
                "10 × {lock, word, tag}",
                format!("{client_least:.0}"),
                "0".into(),
            ),
        ] {
            writeln!(f, "{whose:<28} {formula:<34} {client:>7}  {vendor:<12}")?;
        }
        writeln!(
            f,
            "(a payment here has {payment:.0} bytes: it also says what it pays for, when, and in which channel)"
        )
    }

    fn write_bytes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(sizes) = self.sizes.last() else {
            return Ok(());
        };
        writeln!(
            f,
            "\nBytes of a payment, mean of {}; HTTP: its JSON in base64, as a header has it",
            thousands(sizes.transactions.into())
        )?;
        writeln!(f, "{:<12} {:>8} {:>8} {:>8}", "", "binary", "JSON", "HTTP")?;
        for part in &sizes.payment.parts {
            writeln!(f, "{:<12} {:>8.1} {:>8.1}", part.name, part.binary, part.json)?;
        }
        for (name, message) in [
            ("payment", &sizes.payment),
            ("opener", &sizes.opener),
            ("request", &sizes.request),
            ("permit", &sizes.permit),
        ] {
            let json: f64 = message.parts.iter().map(|part| part.json).sum::<f64>() + 1.0;
            writeln!(
                f,
                "{name:<12} {:>8.1} {json:>8.1} {:>8.1}",
                message.binary, message.http
            )?;
        }
        Ok(())
    }

    fn write_points(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for profile in Profile::ALL {
            writeln!(
                f,
                "\nFigures 4 to 6, locks by {profile}: time for all transactions of 1, 5 and 10 dollars"
            )?;
            writeln!(
                f,
                "{:>12}  {:^29}  {:^29}  {:^29}",
                "transactions", "setup", "transaction", "release"
            )?;
            for count in &self.counts {
                write!(f, "{:>12}", thousands((*count).into()))?;
                for phase in Phase::ALL {
                    f.write_char(' ')?;
                    for dollars in AMOUNTS {
                        let point = self.points.iter().find(|point| {
                            (point.lock_hash, point.dollars, point.transactions) == (profile, dollars, *count)
                        });
                        write!(
                            f,
                            " {:>9}",
                            point.map_or(String::new(), |point| time(point.phase_s(phase)))
                        )?;
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A paragraph of at most 110 columns, hanging behind its first word.
fn wrapped(f: &mut fmt::Formatter<'_>, head: &str, text: &str) -> fmt::Result {
    let (indent, mut column) = (head.chars().count(), head.chars().count());
    f.write_str(head)?;
    for (number, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if number > 0 && column + 1 + width > 110 {
            write!(f, "\n{:indent$}", "")?;
            column = indent;
        } else if number > 0 {
            f.write_char(' ')?;
            column += 1;
        }
        f.write_str(word)?;
        column += width;
    }
    f.write_char('\n')
}
