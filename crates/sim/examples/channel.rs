//! The channel paper's experiment without the command around it: `cargo run --release -p micropay-sim --example channel`
//! prints the report, and writes figures and CSV to the folder that is named, if one is.
#![allow(clippy::print_stdout, reason = "the report is the point")]

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use micropay_sim::channel::{COUNTS, Experiment, RUNS};
use micropay_sim::clock::Stopwatch;
use micropay_sim::seed::Seed;
use nix::time::ClockId;

struct ThreadTime(Instant);

impl Stopwatch for ThreadTime {
    fn cpu(&self) -> Duration {
        let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
        time.map_or(Duration::ZERO, Duration::from)
    }

    fn wall(&self) -> Duration {
        self.0.elapsed()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let experiment = Experiment::new(COUNTS.to_vec(), RUNS, Seed(0))?;
    let report = experiment.run(&ThreadTime(Instant::now()), |_, _| {})?;
    println!("{report}");
    if let Some(folder) = env::args_os().nth(1).map(PathBuf::from) {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("channel.csv"), report.csv())?;
        for figure in report.figures() {
            fs::write(folder.join(figure.file), figure.svg)?;
        }
    }
    Ok(())
}
