//! `micropay channel bank`: a bank's account keeps a ledger of its customers' reputation on chain, and its permit key signs
//! the permits that open channels. It holds nobody's money.

use std::num::NonZeroU32;
use std::sync::Arc;

use alloy::primitives::Address;
use bindings::channel::PaymentChannel::{setBankKeyCall, setReputationCall};
use chain::{At, BankKey, Channels, Client, Mined, Sender};
use clap::{Args, Subcommand};
use eyre::{WrapErr, ensure};
use protocol::channel::{Key, MIN_REPUTATION, Reputation};
use serde_json::json;
use services::bank::http::{Limits, router, serve};
use services::bank::{Bank as Service, ChainLedger, Policy};
use storage::SqliteStore;
use storage::channel::BankStore;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::{describe_permit, key_of, send};
use crate::config::Config;
use crate::exit::usage;
use crate::output::{Output, date, rows};
use crate::{clock, keys, stores};

/// A bank.
#[derive(Debug, Subcommand)]
pub(crate) enum Bank {
    /// Become a bank: make or take the key that signs permits, and announce it on chain if it is not the account's own
    Init {
        /// Key of the bank's account
        #[arg(long, value_name = "KEY")]
        from: String,
        /// Key that signs permits; made if there is none of that name [default: the account's own]
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
    },
    /// Admit a customer, client or vendor, to channels: give it a reputation of 50 or more
    Admit {
        /// Address or key name of the customer
        customer: String,
        /// Its reputation, 50 to 100; a higher one that it has stays
        #[arg(long, value_name = "N", default_value_t = 60)]
        reputation: u8,
        /// Key of the bank's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
    /// Show a customer's reputation with a bank, 0 to 100, or set it
    Reputation {
        /// Address or key name of the customer
        customer: String,
        /// The bank [default: the account of --from]
        #[arg(long, value_name = "ADDRESS|KEY", required_unless_present = "from")]
        bank: Option<String>,
        /// Set it to this, 0 to 100
        #[arg(long, value_name = "N", requires = "from", conflicts_with = "bank")]
        set: Option<u8>,
        /// Key of the bank's account
        #[arg(long, value_name = "KEY")]
        from: Option<String>,
    },
    /// Sign permits with a new key from now on. What the old key has signed, and nobody has opened yet, is void
    Rotate {
        /// Key of the bank's account
        #[arg(long, value_name = "KEY")]
        from: String,
        /// The new key; made if there is none of that name [default: FROM-permits-EPOCH]
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
    },
    /// Answer clients who ask for permits, over HTTP, until SIGTERM
    Serve(Serve),
    /// List the permits that the bank has signed, newest first
    Permits {
        /// Address or key name of the bank
        bank: String,
        /// Only those of this client
        #[arg(long, value_name = "ADDRESS|KEY")]
        client: Option<String>,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

/// Where to answer.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Key of the bank's account
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8404")]
    listen: String,
    /// Permits that one client may have in an hour; 0: any number
    #[arg(long, value_name = "N", default_value_t = 20)]
    permits_per_hour: u32,
    /// Requests per second of one address; 0: any number
    #[arg(long, value_name = "N", default_value_t = 5)]
    per_ip: u32,
}

pub(crate) async fn run(command: &Bank, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        Bank::Init { from, key } => init(config, from, key.as_deref(), out).await,
        Bank::Admit {
            customer,
            reputation,
            from,
        } => {
            let customer = keys::address_or_name(config, customer)?;
            let reputation = to_reputation(*reputation)?;
            if reputation < MIN_REPUTATION {
                return Err(usage(format!(
                    "a reputation of {reputation} admits nobody, {MIN_REPUTATION} is the least; micropay channel bank \
                     reputation --set {reputation} sets it all the same"
                )));
            }
            let sender = sender(config, from).await?;
            let (reputation, mined) = admit(&sender, customer, reputation).await?;
            said(out, sender.address(), customer, reputation, mined.as_ref())
        }
        Bank::Reputation {
            customer,
            bank,
            set,
            from,
        } => {
            let customer = keys::address_or_name(config, customer)?;
            if let (Some(set), Some(from)) = (set, from) {
                let (reputation, sender) = (to_reputation(*set)?, sender(config, from).await?);
                let mined = set_reputation(&sender, customer, reputation).await?;
                return said(out, sender.address(), customer, reputation, Some(&mined));
            }
            let bank = bank.as_ref().or(from.as_ref()).map_or("", String::as_str);
            let bank = keys::address_or_name(config, bank)?;
            let client = config.connect_channels().await?;
            let reputation = client.reputation_of(bank, customer, At::Latest).await?;
            said(out, bank, customer, reputation, None)
        }
        Bank::Rotate { from, key } => rotate(config, from, key.as_deref(), out).await,
        Bank::Serve(serve) => run_service(serve, config, out).await,
        Bank::Permits { bank, client, limit } => {
            let client = client
                .as_ref()
                .map(|client| keys::address_or_name(config, client))
                .transpose()?;
            permits(config, keys::address_or_name(config, bank)?, client, *limit, out).await
        }
    }
}

fn to_reputation(got: u8) -> eyre::Result<Reputation> {
    Reputation::new(got).ok_or_else(|| usage(format!("a reputation is 0 to {}, got {got}", Reputation::MAX)))
}

async fn sender(config: &Config, from: &str) -> eyre::Result<Sender<Channels>> {
    let client = config.connect_channels().await?;
    Ok(Sender::new(client, keys::account(config, from)?))
}

/// Gives a customer at least this reputation; what it has then, and the transaction if one was needed.
pub(crate) async fn admit(
    bank: &Sender<Channels>,
    customer: Address,
    reputation: Reputation,
) -> eyre::Result<(Reputation, Option<Mined<Channels>>)> {
    let client = bank.client();
    let has = client.reputation_of(bank.address(), customer, At::Latest).await?;
    if has >= reputation {
        return Ok((has, None));
    }
    let mined = set_reputation(bank, customer, reputation).await?;
    Ok((reputation, Some(mined)))
}

async fn set_reputation(
    bank: &Sender<Channels>,
    customer: Address,
    reputation: Reputation,
) -> eyre::Result<Mined<Channels>> {
    let call = setReputationCall {
        customer,
        reputation: reputation.get(),
    };
    Ok(send(bank, call).await?)
}

fn said(
    out: Output,
    bank: Address,
    customer: Address,
    reputation: Reputation,
    mined: Option<&Mined<Channels>>,
) -> eyre::Result<()> {
    let admitted = reputation >= MIN_REPUTATION;
    let value = json!({
        "bank": bank, "customer": customer, "reputation": reputation.get(), "admitted": admitted,
        "transaction": mined.map(|mined| mined.hash), "gas": mined.map(|mined| mined.gas_used),
    });
    let may = if admitted {
        "may open and sell over channels".to_owned()
    } else {
        format!("below {MIN_REPUTATION}: no channel")
    };
    out.answer(
        &value,
        format!("{customer} has reputation {reputation} with bank {bank} ({may})"),
    )
}

async fn init(config: &Config, from: &str, key: Option<&str>, out: Output) -> eyre::Result<()> {
    let sender = sender(config, from).await?;
    let bank = sender.address();
    let announced = sender.client().bank_key_of(bank, At::Latest).await?;
    let (name, made, address) = match key {
        Some(name) => make_or_take(config, name)?,
        None if announced.key == bank => (from.to_owned(), false, bank),
        // It is a bank already, and keeps the key that it has.
        None => (key_of(config, announced.key)?.0, false, announced.key),
    };
    let mined = announce(&sender, address).await?;
    let epoch = sender.client().bank_key_of(bank, At::Latest).await?.epoch;
    let value = json!({
        "bank": bank, "key": address, "keyName": name, "made": made, "epoch": epoch,
        "transaction": mined.as_ref().map(|mined| mined.hash), "gas": mined.as_ref().map(|mined| mined.gas_used),
    });
    let how = match (&mined, address == bank) {
        (Some(mined), _) => format!("{address} ({name}), announced in block {}", mined.block.number),
        (None, true) => format!("{address}, the account's own: nothing to announce"),
        (None, false) => format!("{address} ({name}), announced before"),
    };
    out.answer(
        &value,
        format!(
            "{}\n\nNext, for each client and vendor:\nmicropay channel bank admit ADDRESS --from {from}\n\
             and to answer those who ask for permits:\nmicropay channel bank serve --from {from}",
            rows(&[("bank", bank.to_string()), ("permits signed by", how)])
        ),
    )
}

async fn rotate(config: &Config, from: &str, key: Option<&str>, out: Output) -> eyre::Result<()> {
    let sender = sender(config, from).await?;
    let bank = sender.address();
    let before = sender.client().bank_key_of(bank, At::Latest).await?;
    let name = key.map_or_else(|| format!("{from}-permits-{}", before.epoch + 1), str::to_owned);
    let (name, _, address) = make_or_take(config, &name)?;
    ensure!(
        address != before.key,
        "key {name:?} ({address}) signs permits already, in epoch {}",
        before.epoch
    );
    let mined = announce(&sender, address).await?;
    let after = sender.client().bank_key_of(bank, At::Latest).await?;
    let value = json!({
        "bank": bank, "before": before.key, "key": after.key, "keyName": name, "epoch": after.epoch,
        "transaction": mined.as_ref().map(|mined| mined.hash), "gas": mined.as_ref().map(|mined| mined.gas_used),
    });
    out.answer(
        &value,
        format!(
            "permits of {bank} are signed by {} ({name}, epoch {}) from now on, no longer by {}.\n\
             Tell `micropay channel bank serve`, if it runs: SIGHUP, or start it anew.",
            after.key, after.epoch, before.key
        ),
    )
}

/// The key of this name, made if there is none: name, whether it was made, address.
fn make_or_take(config: &Config, name: &str) -> eyre::Result<(String, bool, Address)> {
    let (made, address) = keys::take_or_make(config, name)?;
    Ok((name.to_owned(), made, address))
}

/// Says on chain who signs permits, unless the chain says so already.
async fn announce(bank: &Sender<Channels>, key: Address) -> eyre::Result<Option<Mined<Channels>>> {
    let known = bank.client().bank_key_of(bank.address(), At::Latest).await?;
    if known.key == key {
        return Ok(None);
    }
    Ok(Some(send(bank, setBankKeyCall { key }).await?))
}

/// The key that the chain says signs permits, from the keystore.
async fn permit_key(
    config: &Config,
    client: &Client<Channels>,
    bank: Address,
) -> eyre::Result<(Key, BankKey)> {
    let announced = client.bank_key_of(bank, At::Latest).await?;
    let (name, _) = key_of(config, announced.key)
        .wrap_err_with(|| format!("who signs permits of bank {bank} in epoch {}", announced.epoch))?;
    Ok((keys::signing_key(config, &name)?, announced))
}

/// A bank that answers.
pub(crate) type BankService = Service<SqliteStore, ChainLedger>;

/// The bank at this address, which signs with this key.
pub(crate) fn bank_service(
    client: Client<Channels>,
    bank: Address,
    key: Key,
    policy: Policy,
    store: SqliteStore,
) -> Arc<BankService> {
    let domain = client.domain();
    Arc::new(Service::new(
        domain,
        bank,
        key,
        policy,
        ChainLedger::new(client, bank),
        store,
    ))
}

/// Answers for ever.
pub(crate) fn start_bank(service: Arc<BankService>, listener: TcpListener) {
    let limits = Limits {
        per_ip: None, // a chain of one's own, for one's own programs
        ..Limits::default()
    };
    let routes = router(service, Arc::new(clock::now), limits);
    tokio::spawn(serve(listener, routes, limits, std::future::pending()));
}

async fn run_service(command: &Serve, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect_channels().await?;
    let bank = keys::address(config, &command.from)?;
    let (key, announced) = permit_key(config, &client, bank).await?;
    let store = stores::bank(&config.home, client.domain(), bank).await?;
    let policy = Policy {
        permits_per_hour: (command.permits_per_hour > 0).then_some(command.permits_per_hour),
        ..Policy::default()
    };
    let limits = Limits {
        per_ip: NonZeroU32::new(command.per_ip),
        ..Limits::default()
    };
    let service = bank_service(client.clone(), bank, key, policy, store);
    let (mut stop, mut rotated) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let listener = TcpListener::bind(&command.listen)
        .await
        .wrap_err_with(|| command.listen.clone())?;
    let address = listener.local_addr()?;
    let value = json!({
        "listening": address.to_string(), "bank": bank, "key": announced.key, "epoch": announced.epoch,
    });
    out.answer(
        &value,
        rows(&[
            ("bank", bank.to_string()),
            ("at", format!("http://{address}")),
            (
                "permits signed by",
                format!("{} (epoch {})", announced.key, announced.epoch),
            ),
        ]),
    )?;
    let (end, ended) = tokio::sync::watch::channel(());
    let mut wait = ended;
    let routes = router(Arc::clone(&service), Arc::new(clock::now), limits);
    let server = tokio::spawn(serve(listener, routes, limits, async move {
        // An error means that the sender is gone, which is a stop, too.
        let _ = wait.changed().await;
    }));
    loop {
        tokio::select! {
            _ = stop.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
            _ = rotated.recv() => match permit_key(config, &client, bank).await {
                Ok((key, announced)) => {
                    info!(key = %announced.key, epoch = announced.epoch, "permits are signed by the key on chain");
                    service.rotate(key);
                }
                Err(error) => error!(%error, "the key stays as it was"),
            },
        }
    }
    drop(end);
    Ok(server.await?)
}

async fn permits(
    config: &Config,
    bank: Address,
    client: Option<Address>,
    limit: u32,
    out: Output,
) -> eyre::Result<()> {
    let store = stores::bank(&config.home, config.channel_domain().await?, bank).await?;
    let permits = store.permits(client, limit).await?;
    let value: Vec<_> = permits
        .iter()
        .map(|record| {
            let mut value = describe_permit(record.admitted.permit(), bank);
            value["generation"] = json!(record.generation);
            value["epoch"] = json!(record.epoch);
            value
        })
        .collect();
    let line = |record: &storage::channel::PermitRecord| {
        let permit = record.admitted.permit();
        format!(
            "{}  {}  {} → {}  {} × {}  until {}{}",
            date(permit.issued_at()),
            permit.channel(),
            permit.client(),
            permit.vendor(),
            permit.length(),
            permit.unit(),
            date(permit.expiry()),
            if record.generation == 0 { "" } else { "  (top-up)" }
        )
    };
    let text = match &permits[..] {
        [] => "no permits yet".to_owned(),
        some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    out.answer(&value, text)
}
