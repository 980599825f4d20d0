//! `cargo xtask <task>`: what the repository does to itself. Each task is a module of the library beside this file;
//! the test suite calls the same functions (`tests/house.rs`).

use clap::{Parser, Subcommand};
use eyre::{Result, ensure};
use micropay_xtask::{bindings, root, tidy};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Micropay repository", version)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compile the contracts and write crates/bindings/abi/*.json
    Bindings {
        /// Write nothing; fail when a committed file differs from what the contracts compile to
        #[arg(long)]
        check: bool,
    },
    /// Check the house rules: layers, step table, tests of contracts, documents
    Tidy,
}

fn main() -> ExitCode {
    match run(&Args::parse().task) {
        Ok(lines) => {
            print(&lines);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(&[format!("error: {error:#}")]);
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<Vec<String>> {
    match task {
        Task::Bindings { check: true } => bindings::check(&root()).map(|()| vec![]),
        Task::Bindings { check: false } => Ok(bindings::write(&root())?
            .into_iter()
            .map(|file| format!("wrote {file}"))
            .collect()),
        Task::Tidy => {
            let findings = tidy::run(&root())?;
            let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
            ensure!(list.is_empty(), "{} finding(s)\n{}", list.len(), list.join("\n"));
            Ok(vec![])
        }
    }
}

#[allow(clippy::print_stdout, reason = "a command line tool")]
fn print(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}
