//! `micropay offline`: two wallets pay each other without a network, and a chain settles later. A file for each group of
//! verbs; here is what they share.
//!
//! ```text
//!   online                          offline                                       online
//!   register, deposit   ──▶   invoice ──▶ pay ──▶ accept ──▶ (accept)   ──▶   redeem, by anybody
//!                                ▲                  └── spend at once ──┐
//!                                └──────────────────────────────────────┘
//! ```
//! Everything in the middle works with chain and registrar gone. Every command may be killed anywhere and made again.

mod ask;
mod books;
mod coin_file;
mod coins;
mod folder;
mod keep;
mod message;
mod pay;
mod prove;
mod redeem;
mod register;
mod registrar;
mod sent;
mod wallet;

use std::time::Duration;

use clap::Subcommand;
use protocol::offline::Seconds;

use crate::config::Config;
use crate::output::Output;

/// Payments without a network.
#[derive(Debug, Subcommand)]
pub(crate) enum Offline {
    /// Wallets: new, show, accept, import, balance, history, backup
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Register a wallet: with its registrar, and on the chain
    Register(register::Register),
    /// Deposit a coin for a wallet, and import it when that is final
    Deposit(coins::Deposit),
    /// Ask for a payment (offline)
    Invoice(pay::Invoice),
    /// Pay an invoice (offline). Again for the same invoice gives out the same payment
    Pay(pay::Pay),
    /// Take what the other wallet sent (offline): a payment, or its acceptance
    Accept(pay::Accept),
    /// Say that an invoice is not to be paid any more (offline)
    Reject(pay::Reject),
    /// Print a receipt of a payment (offline)
    Receipt(books::Receipt),
    /// Leave what a wallet holds, and redeem it; or redeem anybody's exits
    Redeem(redeem::Redeem),
    /// Show the contract two payments of one wallet that exclude each other: anybody may
    Prove(prove::Prove),
    /// Take the newest revocation lists, and see what is settled
    Sync(keep::Sync),
    /// Renew a registration, when half of its time is over
    Renew(keep::Renew),
    /// Have the contract follow a TPM's log, so that payees need not see all of it
    Checkpoint(keep::Checkpoint),
    /// Take back what nobody redeemed of a coin, seven days after its time (depositor)
    Reclaim(coins::Reclaim),
    /// Withdraw a wallet or a class (registrar)
    Revoke(registrar::Revoke),
    /// Registrars: who vouches for wallets
    #[command(subcommand)]
    Registrar(registrar::RegistrarCommand),
}

pub(crate) async fn run(command: &Offline, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        Offline::Wallet(command) => wallet::run(command, config, out).await,
        Offline::Register(command) => register::run(command, config, out).await,
        Offline::Deposit(command) => coins::deposit(command, config, out).await,
        Offline::Invoice(command) => pay::invoice(command, out).await,
        Offline::Pay(command) => pay::pay(command, out).await,
        Offline::Accept(command) => pay::accept(command, out).await,
        Offline::Reject(command) => pay::reject(command, out).await,
        Offline::Receipt(command) => books::receipt(command, out).await,
        Offline::Redeem(command) => redeem::run(command, config, out).await,
        Offline::Prove(command) => prove::run(command, config, out).await,
        Offline::Sync(command) => keep::sync(command, config, out).await,
        Offline::Renew(command) => keep::renew(command, config, out).await,
        Offline::Checkpoint(command) => keep::checkpoint(command, config, out).await,
        Offline::Reclaim(command) => coins::reclaim(command, config, out).await,
        Offline::Revoke(command) => registrar::revoke(command, config, out).await,
        Offline::Registrar(command) => registrar::run(command, config, out).await,
    }
}

fn wait_of(span: Seconds) -> Duration {
    Duration::from_secs(span.0)
}
