//! The paper's experiment for the channel (its section 6): what setup, transaction and release take for some numbers of
//! transactions and three amounts, beside the figures that the paper gives, and what of those cannot be right.

mod figures;
pub mod paper;
pub mod phases;
mod report;
pub mod size;

use std::fmt;

use protocol::channel::{Keccak, LockHash, Sha3_512};
use serde::{Serialize, Serializer};

pub use figures::Figure;
use phases::{Case, DOLLAR, Phase, Run, SimError, Step};
pub use report::{Point, Report, StepTime, Table3, Table4};
use size::MessageSize;

use crate::clock::{Spent, Stopwatch};
use crate::seed::Seed;

/// The paper's range at six fixed numbers, and the number that its tables are about.
pub const COUNTS: [u32; 7] = [10, 50, 100, 200, 500, 1_000, paper::TRANSACTIONS];
/// The paper's amounts of a transaction, dollars.
pub const AMOUNTS: [u32; 3] = [1, 5, 10];
/// How often everything is measured, unless the caller wants another number.
pub const RUNS: u32 = 5;

/// The hash that locks are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// What channels use.
    Keccak,
    /// What the paper used.
    Sha3_512,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experiment {
    /// Numbers of transactions, rising.
    counts: Vec<u32>,
    /// How often.
    runs: u32,
    seed: Seed,
}

/// One channel of one run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// Hash of the locks.
    pub lock_hash: Profile,
    /// What a transaction was worth, dollars.
    pub dollars: u32,
    /// How many there were.
    pub transactions: u32,
    /// In which run.
    pub run: u32,
    /// What each step took, in the order of [`Step::ALL`].
    #[serde(skip)]
    pub spent: [Spent; Step::ALL.len()],
}

/// What messages take, and what was sent in all. The same in every run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sizes {
    /// How many transactions the averages are over.
    pub transactions: u32,
    /// Client to bank.
    pub request: MessageSize,
    /// Bank to client.
    pub permit: MessageSize,
    /// Client to vendor, each transaction.
    pub payment: MessageSize,
    /// Client to vendor, at the end.
    pub opener: MessageSize,
}

impl Experiment {
    /// An experiment with these numbers of transactions, in any order.
    ///
    /// # Errors
    /// Without a number, with one that no chain has, or without a run.
    pub fn new(mut counts: Vec<u32>, runs: u32, seed: Seed) -> Result<Self, SimError> {
        let at_least_one = |what, got| {
            if got == 0 {
                return Err(SimError::TooFew { what, got, low: 1 });
            }
            Ok(())
        };
        counts.sort_unstable();
        counts.dedup();
        at_least_one("numbers of transactions", u32::from(!counts.is_empty()))?;
        at_least_one("transactions", counts[0])?;
        at_least_one("runs", runs)?;
        for count in &counts {
            protocol::channel::Index::try_from(*count)?;
        }
        Ok(Self { counts, runs, seed })
    }

    /// Measures, and reports. `progress` hears which run begins, of how many.
    ///
    /// # Errors
    /// When a role refuses what another did: never, for honest ones.
    pub fn run(
        &self,
        watch: &impl Stopwatch,
        mut progress: impl FnMut(u32, u32),
    ) -> Result<Report, SimError> {
        // Tables are computed once, memory is touched for the first time: that is nobody's step.
        for profile in Profile::ALL {
            profile.run(&self.case(self.counts[0], AMOUNTS[0]), watch)?;
        }
        let mut rows = Vec::new();
        let mut sizes = Vec::new();
        for run in 1..=self.runs {
            progress(run, self.runs);
            // Profiles and amounts take turns, so that a neighbour on the machine disturbs all of them.
            for &transactions in &self.counts {
                for lock_hash in Profile::ALL {
                    for dollars in AMOUNTS {
                        let done = lock_hash.run(&self.case(transactions, dollars), watch)?;
                        if run == 1 {
                            sizes.push((dollars, Sizes::of(transactions, &done)));
                        }
                        rows.push(Row {
                            lock_hash,
                            dollars,
                            transactions,
                            run,
                            spent: done.spent,
                        });
                    }
                }
            }
        }
        Ok(Report::new(self, rows, &sizes))
    }

    /// The numbers of transactions, rising.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    fn case(&self, transactions: u32, dollars: u32) -> Case {
        Case {
            seed: self.seed,
            transactions,
            amount: DOLLAR.saturating_mul(dollars.into()),
        }
    }
}

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Keccak, Self::Sha3_512];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keccak => Keccak::NAME,
            Self::Sha3_512 => Sha3_512::NAME,
        }
    }

    /// One channel with it.
    ///
    /// # Errors
    /// As [`phases::run`].
    pub fn run(self, case: &Case, watch: &impl Stopwatch) -> Result<Run, SimError> {
        match self {
            Self::Keccak => phases::run::<Keccak>(case, watch),
            Self::Sha3_512 => phases::run::<Sha3_512>(case, watch),
        }
    }
}

impl Row {
    /// What a step took.
    pub fn step(&self, step: Step) -> Spent {
        self.spent[step as usize]
    }

    /// What a phase took on the processor, seconds.
    pub fn phase_s(&self, phase: Phase) -> f64 {
        let steps = Step::ALL.into_iter().filter(|step| step.phase() == phase);
        steps.map(|step| self.step(step).cpu.as_secs_f64()).sum()
    }
}

impl Sizes {
    fn of(transactions: u32, run: &Run) -> Self {
        Self {
            transactions,
            request: MessageSize::average([size::request(&run.request)]),
            permit: MessageSize::average([size::permit(&run.admitted)]),
            payment: MessageSize::average(run.payments.iter().map(size::payment)),
            opener: MessageSize::average([size::opener(&run.opener)]),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests;
