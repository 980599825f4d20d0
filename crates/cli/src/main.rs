//! `micropay`: the command, and the composition root: here the roles meet their stores, their chain, time and randomness.

mod business;
mod channel;
mod claim;
mod clock;
mod config;
mod credit;
mod demo;
mod deploy;
mod dev;
mod doctor;
mod escrow;
mod exit;
mod get;
mod keys;
mod merchant;
mod offline;
mod output;
mod picture;
mod serve;
mod sim;
mod stores;
mod ticket;
mod units;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

use config::{Config, GLOBAL, Overrides};
use output::Output;

/// Serving takes many small pieces of memory from many threads, which the system's allocator is slow at: a paid request costs
/// a tenth more with it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Payments of a hundredth of a cent on an EVM chain.
#[derive(Debug, Parser)]
#[command(name = "micropay", version, after_help = exit::HELP)]
struct Cli {
    /// Answer with one JSON value
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Configuration file [default: ~/.config/micropay/config.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MICROPAY_CONFIG",
        help_heading = GLOBAL
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// Log to standard error: -v what happens, -vv everything (or set MICROPAY_LOG)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keys in encrypted files
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Put the contracts on a chain (does nothing where they are already)
    Deploy {
        /// Key of the account that pays the gas
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Escrows: open, show, top-up, raise-cap, earmark, release, withdraw, cancel, cure
    #[command(subcommand)]
    Escrow(escrow::Escrow),
    /// Sell: a reverse proxy that charges
    Serve(Box<serve::Serve>),
    /// Channels: many payments to one seller over one deposit
    #[command(subcommand)]
    Channel(Box<channel::Channel>),
    /// Payments between two wallets without a network
    #[command(subcommand)]
    Offline(Box<offline::Offline>),
    /// What a merchant does besides selling
    #[command(subcommand)]
    Merchant(merchant::MerchantCommand),
    /// Buy: fetch from an HTTP server, and pay where it asks for it
    Get(Box<get::Get>),
    /// Winners and claims
    #[command(subcommand)]
    Claim(claim::Claim),
    /// What the contract owes an account
    #[command(subcommand)]
    Credit(credit::Credit),
    /// Single tickets
    #[command(subcommand)]
    Ticket(ticket::Ticket),
    /// Look at everything that must be right
    Doctor(doctor::Doctor),
    /// Sell a file piece by piece on a chain of its own
    Demo(demo::Demo),
    /// A chain to try things on, with contracts, seller, payer, escrow and bank
    Dev(dev::Dev),
    /// The papers' experiments with our figures
    #[command(subcommand)]
    Sim(sim::Sim),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // As the command line could not be read, its words say how to answer.
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == "--json") => {
            return exit::report_usage(&error);
        }
        Err(error) => error.exit(),
    };
    log(&cli);
    match run(&cli).await {
        Ok(code) => code,
        Err(error) => exit::report(&error, Output { json: cli.json }),
    }
}

async fn run(cli: &Cli) -> eyre::Result<ExitCode> {
    let out = Output { json: cli.json };
    let config = Config::load(cli.config.as_deref(), &cli.overrides)?;
    match &cli.command {
        Command::Keys(command) => keys::run(command, &config, out)?,
        Command::Deploy { from } => deploy::run(from, &config, out).await?,
        Command::Escrow(command) => escrow::run(command, &config, out).await?,
        Command::Channel(command) => return channel::run(command, &config, out).await,
        Command::Offline(command) => offline::run(command, &config, out).await?,
        Command::Merchant(command) => merchant::run(command, &config, out).await?,
        Command::Serve(serve) => serve::run(serve, &config, out).await?,
        Command::Get(get) => return get::run(get, &config, out).await,
        Command::Claim(command) => claim::run(command, &config, out).await?,
        Command::Credit(command) => credit::run(command, &config, out).await?,
        Command::Ticket(command) => ticket::run(command, config.chain_id, config.contract, out)?,
        Command::Doctor(doctor) => {
            if !doctor::run(doctor, &config, out).await? {
                return Ok(exit::FAILED.into());
            }
        }
        Command::Demo(demo) => demo::run(demo, out).await?,
        Command::Dev(dev) => dev::run(dev, &config, out).await?,
        Command::Sim(command) => sim::run(command, out)?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "micropay", &mut script);
            output::print(&script)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn log(cli: &Cli) {
    let default = match cli.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("MICROPAY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // It logs the node's whole address, which may hold a key.
    let filter = filter.add_directive("alloy_transport_http=warn".parse().expect("a constant"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours())
        .with_writer(std::io::stderr);
    if cli.json {
        subscriber.json().init();
    } else {
        subscriber.init();
    }
}

/// Only for people, and for those who want them (<https://no-color.org>).
fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && std::io::stderr().is_terminal()
}
