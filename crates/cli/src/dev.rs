//! `micropay dev`: a chain to try things on, with everything that a seller and a payer need: the contracts, funded keys, open
//! escrows, and a bank that has admitted both to channels. What to type next is printed ready to paste. Ends, and forgets everything, with Ctrl-C.

use std::path::Path;

use alloy::primitives::Address;
use chain::anvil::{Anvil, AnvilOptions};
use chain::{ChainClient, ChainConfig, Channels, Client, Sender, Vaults, deploy};
use clap::Args;
use eyre::{OptionExt, WrapErr};
use payer::ticket::{EscrowSteps, Opening};
use protocol::channel::Reputation;
use protocol::ticket::{Amount, EscrowKey, Nonce, Policy, WinThreshold, odds};
use serde_json::json;
use tokio::net::TcpListener;

use crate::channel::{admit, bank_service, start_bank};
use crate::config::Config;
use crate::output::Output;
use crate::{clock, keys, stores};

/// What a winner pays: 0.01 ether.
pub(crate) const PRIZE: Amount = Amount(10_000_000_000_000_000);
/// The likeliest ticket that the escrow pays: up to a quarter of the prize a request, 0.0025 ether, so that every price in
/// docs/gateway.md can be paid.
const MOST_ONE_IN: u64 = 4;
/// Bound on the escrow's tickets.
const CAP: Nonce = Nonce(10_000);
/// Blocks that make a block final, at one a second.
const FINALITY: &str = "2";

/// Escrow keys. Two, because two programs that pay from one would sign one nonce twice, which costs the penalty.
const PAYERS: [&str; 2] = ["payer", "payer2"];

/// What the bank says of seller and payer.
const REPUTATION: u8 = 60;

/// Where the chain listens.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Port of the chain [default: a free one]
    #[arg(long)]
    port: Option<u16>,
    /// Port of the bank [default: 8404, or a free one if that is taken]
    #[arg(long)]
    bank_port: Option<u16>,
}

pub(crate) async fn run(dev: &Dev, config: &Config, out: Output) -> eyre::Result<()> {
    let options = AnvilOptions {
        port: dev.port.unwrap_or(0),
        block_time: Some(1),
        ..AnvilOptions::default()
    };
    let anvil = Anvil::spawn(&options)?;
    let client = ChainClient::connect_before_deploy(anvil.url(), ChainConfig::new(anvil.chain_id())).await?;
    let channels =
        Client::<Channels>::connect_before_deploy(anvil.url(), ChainConfig::new(anvil.chain_id())).await?;
    let vault =
        Client::<Vaults>::connect_before_deploy(anvil.url(), ChainConfig::new(anvil.chain_id())).await?;
    let deployer = Sender::new(client.clone(), Anvil::key(9));
    deploy::deploy(&deployer).await?;
    deploy::deploy(&deployer.of(channels.clone())).await?;
    deploy::deploy(&deployer.of(vault.clone())).await?;

    let folder = tempfile::Builder::new()
        .prefix("micropay-dev-")
        .tempdir()
        .wrap_err("a folder for keys and stores")?;
    let own = own_config(config, folder.path())?;
    let (seller, _) = keys::store(&own, "seller", &Anvil::key(1).to_bytes().0)?;
    let (account, _) = keys::store(&own, "account", &Anvil::key(0).to_bytes().0)?;
    let opening = opening(CAP, MOST_ONE_IN)?;
    let steps = EscrowSteps::new(Sender::new(client.clone(), Anvil::key(0)));
    let mut escrows = Vec::new();
    for name in PAYERS {
        let key = EscrowKey::from_bytes(&clock::random().0)?;
        keys::store(&own, name, &key.to_bytes())?;
        steps.open(&key, &opening).await?;
        escrows.push(key.address());
    }

    let bank = Bank::start(dev, &own, channels.clone(), [account, seller]).await?;

    let value = json!({
        "rpc_url": anvil.url(), "chain_id": anvil.chain_id(), "contract": client.contract(),
        "channel_contract": channels.contract(), "offline_contract": vault.contract(), "bank": bank.address, "bank_url": bank.url,
        "home": folder.path(), "password_file": own.password_file, "finality": FINALITY,
        "seller": seller, "escrow": escrows[0], "escrows": escrows, "balance": opening.balance.to_string(),
    });
    out.answer(&value, instructions(&anvil, &own, seller, escrows[0], &bank))?;
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = stop.recv() => Ok(()),
        done = tokio::signal::ctrl_c() => Ok(done?),
    }
}

/// The bank of this chain.
struct Bank {
    address: Address,
    url: String,
}

impl Bank {
    /// Admits these, and answers.
    async fn start(
        dev: &Dev,
        own: &Config,
        client: Client<Channels>,
        customers: [Address; 2],
    ) -> eyre::Result<Self> {
        let account = Anvil::key(2);
        let (address, _) = keys::store(own, "bank", &account.to_bytes().0)?;
        let sender = Sender::new(client.clone(), account);
        for customer in customers {
            admit(
                &sender,
                customer,
                Reputation::new(REPUTATION).ok_or_eyre("a reputation")?,
            )
            .await?;
        }
        let store = stores::bank(&own.home, client.domain(), address).await?;
        let key = keys::signing_key(own, "bank")?;
        let listener = match dev.bank_port {
            Some(port) => TcpListener::bind(("127.0.0.1", port)).await?,
            None => match TcpListener::bind(("127.0.0.1", 8404)).await {
                Ok(listener) => listener,
                Err(_) => TcpListener::bind(("127.0.0.1", 0)).await?,
            },
        };
        let url = format!("http://{}", listener.local_addr()?);
        start_bank(
            bank_service(client, address, key, Default::default(), store),
            listener,
        );
        Ok(Self { address, url })
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

fn instructions(anvil: &Anvil, own: &Config, seller: Address, escrow: Address, bank: &Bank) -> String {
    let (url, home) = (anvil.url(), own.home.display());
    let url = url.as_str().trim_end_matches('/');
    format!(
        "A chain at {url}, with the contracts, a seller {seller}\nand a payer whose escrow {escrow} is open. Ctrl-C ends it.\n\n\
         In every other terminal:\n\
         export MICROPAY_RPC_URL={url} MICROPAY_HOME={home} MICROPAY_FINALITY={FINALITY} MICROPAY_PASSWORD_FILE={home}/password\n\n\
         Sell what a server answers (any server; this one lists a folder):\n\
         python3 -m http.server 3000 --bind 127.0.0.1 &\n\
         micropay serve --upstream http://127.0.0.1:3000 --price 0.0001 --pay-to seller\n\n\
         Buy:\n\
         micropay get http://127.0.0.1:8402/ --escrow payer\n\n\
         Another program that pays must have an escrow of its own: payer2 is one.\n\n\
         Sell and buy over a channel, admitted by the bank {bank} at {bank_url}:\n\
         micropay serve --upstream http://127.0.0.1:3000 --price 0.0001 --pay-to seller --bank {bank}\n\
         micropay channel open --vendor seller --bank {bank_url} --unit 0.0001 --length 1000 --from account --at \
         http://127.0.0.1:8402\n\
         micropay get http://127.0.0.1:8402/ --pay-with channel\n",
        bank = bank.address,
        bank_url = bank.url,
    )
}
