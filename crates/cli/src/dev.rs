//! `micropay dev`: a chain to try things on, with everything that a seller and a payer need: the contract, funded keys, open
//! escrows. What to type next is printed ready to paste. Ends, and forgets everything, with Ctrl-C.

use std::path::Path;

use alloy::primitives::Address;
use chain::anvil::{Anvil, AnvilOptions};
use chain::{ChainClient, ChainConfig, Sender, deploy};
use clap::Args;
use eyre::{OptionExt, WrapErr};
use payer::ticket::{EscrowSteps, Opening};
use protocol::ticket::{Amount, EscrowKey, Nonce, Policy, WinThreshold, odds};
use serde_json::json;

use crate::config::Config;
use crate::output::Output;
use crate::{clock, keys};

/// What a winner pays: 0.01 ether.
pub(crate) const PRIZE: Amount = Amount(10_000_000_000_000_000);
/// The likeliest ticket that the escrow pays: up to a 16th of the prize a request.
const MOST_ONE_IN: u64 = 16;
/// Bound on the escrow's tickets.
const CAP: Nonce = Nonce(10_000);
/// Blocks that make a block final, at one a second.
const FINALITY: &str = "2";

/// Escrow keys. Two, because two programs that pay from one would sign one nonce twice, which costs the penalty.
const PAYERS: [&str; 2] = ["payer", "payer2"];

/// Where the chain listens.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Port of the chain [default: a free one]
    #[arg(long)]
    port: Option<u16>,
}

pub(crate) async fn run(dev: &Dev, config: &Config, out: Output) -> eyre::Result<()> {
    let options = AnvilOptions {
        port: dev.port.unwrap_or(0),
        block_time: Some(1),
        ..AnvilOptions::default()
    };
    let anvil = Anvil::spawn(&options)?;
    let client = ChainClient::connect_before_deploy(anvil.url(), ChainConfig::new(anvil.chain_id())).await?;
    deploy::deploy(&Sender::new(client.clone(), Anvil::key(9))).await?;

    let folder = tempfile::Builder::new()
        .prefix("micropay-dev-")
        .tempdir()
        .wrap_err("a folder for keys and stores")?;
    let own = own_config(config, folder.path())?;
    let (seller, _) = keys::store(&own, "seller", &Anvil::key(1).to_bytes().0)?;
    keys::store(&own, "account", &Anvil::key(0).to_bytes().0)?;
    let opening = opening(CAP, MOST_ONE_IN)?;
    let steps = EscrowSteps::new(Sender::new(client.clone(), Anvil::key(0)));
    let mut escrows = Vec::new();
    for name in PAYERS {
        let key = EscrowKey::from_bytes(&clock::random().0)?;
        keys::store(&own, name, &key.to_bytes())?;
        steps.open(&key, &opening).await?;
        escrows.push(key.address());
    }

    let value = json!({
        "rpc_url": anvil.url(), "chain_id": anvil.chain_id(), "contract": client.contract(),
        "home": folder.path(), "password_file": own.password_file, "finality": FINALITY,
        "seller": seller, "escrow": escrows[0], "escrows": escrows, "balance": opening.balance.to_string(),
    });
    out.answer(&value, instructions(&anvil, &own, seller, escrows[0]))?;
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = stop.recv() => Ok(()),
        done = tokio::signal::ctrl_c() => Ok(done?),
    }
}

/// The same settings with a home of its own, and a password in a file.
fn own_config(config: &Config, home: &Path) -> eyre::Result<Config> {
    let password = home.join("password");
    std::fs::write(&password, "dev\n")?;
    Ok(Config {
        home: home.to_owned(),
        password_file: Some(password),
        ..config.clone()
    })
}

/// An escrow with this cap whose tickets win once in so many at most, with the penalty that merchants ask for it and a
/// balance that all wins there may be can be paid from.
pub(crate) fn opening(ticket_cap: Nonce, one_in: u64) -> eyre::Result<Opening> {
    let max_threshold = WinThreshold::one_in(one_in)
        .to_bound()
        .ok_or_eyre("the rate is too close to 1")?;
    let penalty = odds::required_penalty(PRIZE, ticket_cap, max_threshold, Policy::default().epsilon);
    let balance = penalty.checked_mul(2).ok_or_eyre("the balance is too large")?;
    Ok(Opening {
        asset: Address::ZERO,
        prize: PRIZE,
        max_threshold,
        ticket_cap,
        penalty,
        balance,
    })
}

fn instructions(anvil: &Anvil, own: &Config, seller: Address, escrow: Address) -> String {
    let (url, home) = (anvil.url(), own.home.display());
    let url = url.as_str().trim_end_matches('/');
    format!(
        "A chain at {url}, with the contract, a seller {seller}\nand a payer whose escrow {escrow} is open. Ctrl-C ends it.\n\n\
         In every other terminal:\n\
         export MICROPAY_RPC_URL={url} MICROPAY_HOME={home} MICROPAY_FINALITY={FINALITY} MICROPAY_PASSWORD_FILE={home}/password\n\n\
         Sell what a server answers (any server; this one lists a folder):\n\
         python3 -m http.server 3000 --bind 127.0.0.1 &\n\
         micropay serve --upstream http://127.0.0.1:3000 --price 0.0001 --pay-to seller\n\n\
         Buy:\n\
         micropay get http://127.0.0.1:8402/ --escrow payer\n\n\
         Another program that pays must have an escrow of its own: payer2 is one.\n"
    )
}
