//! `micropay sim`: the papers' experiments with our figures, all roles in this process. Needs no chain, no keys and no
//! configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use eyre::WrapErr;
use indicatif::ProgressBar;
use nix::time::ClockId;
use serde::Serialize;
use sim::channel::{COUNTS, Experiment, RUNS, Report};
use sim::clock::Stopwatch;
use sim::seed::Seed;

use crate::exit::usage;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Channels with lockable signatures: Tables 3 and 4 and Figures 4 to 6 of their paper
    Channel(ChannelSim),
}

#[derive(Debug, Args)]
pub(crate) struct ChannelSim {
    /// Write channel.csv and the figures as SVG to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Numbers of transactions
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = COUNTS)]
    counts: Vec<u32>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    runs: u32,
    /// Decides keys, words and items
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// The report, and where its files are.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    report: &'a Report,
    files: Vec<PathBuf>,
    warning: Option<String>,
}

/// This thread's time on the processor beside the wall's.
struct ThreadTime {
    started: Instant,
}

pub(crate) fn run(command: &Sim, out: Output) -> eyre::Result<()> {
    match command {
        Sim::Channel(channel) => channel.run(out),
    }
}

impl ChannelSim {
    fn run(&self, out: Output) -> eyre::Result<()> {
        let experiment = Experiment::new(self.counts.clone(), self.runs, Seed(self.seed))
            .map_err(|error| usage(format!("nothing to simulate: {error}")))?;
        // The folder first: a minute's work should not be lost to a wrong path.
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder).wrap_err_with(|| folder.display().to_string())?;
        }
        let progress = if out.json {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(self.runs.into())
        };
        let report = experiment.run(&ThreadTime::new()?, |run, _| {
            progress.set_position(u64::from(run - 1));
        })?;
        progress.finish_and_clear();
        let files = match &self.out {
            Some(folder) => write(&report, folder)?,
            None => Vec::new(),
        };
        let mut text = report.to_string();
        for file in &files {
            text += &format!("\n{}", file.display());
        }
        let answer = Answer {
            report: &report,
            files,
            warning: report.warning(),
        };
        out.answer(&answer, text)
    }
}

fn write(report: &Report, folder: &Path) -> eyre::Result<Vec<PathBuf>> {
    let figures = report
        .figures()
        .into_iter()
        .map(|figure| (figure.file, figure.svg));
    [("channel.csv".into(), report.csv())]
        .into_iter()
        .chain(figures)
        .map(|(name, content)| {
            let file = folder.join(name);
            fs::write(&file, content).wrap_err_with(|| file.display().to_string())?;
            Ok(file)
        })
        .collect()
}

impl ThreadTime {
    fn new() -> eyre::Result<Self> {
        ClockId::CLOCK_THREAD_CPUTIME_ID
            .now()
            .wrap_err("the system does not count the time of threads")?;
        Ok(Self {
            started: Instant::now(),
        })
    }
}

impl Stopwatch for ThreadTime {
    fn cpu(&self) -> Duration {
        // It counted when this was made.
        ClockId::CLOCK_THREAD_CPUTIME_ID
            .now()
            .map_or(Duration::ZERO, Duration::from)
    }

    fn wall(&self) -> Duration {
        self.started.elapsed()
    }
}
