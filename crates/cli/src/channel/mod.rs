//! `micropay channel`: many payments to one seller over one deposit. A file for each group of verbs; here is what they share.

mod advise;
mod ask;
mod bank;
mod close;
mod file;
mod open;
mod receipts;
mod recover;
mod show;
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;
use chain::{ChainError, Channels, Mined, Sender};
use clap::Subcommand;
use eyre::bail;
use gateway::client::Desk;
use protocol::channel::{Amount, ChannelId, Index, Key, Permit};
use serde_json::{Value, json};
use storage::channel::{ChannelDomainStore, ClientChannelFilter, ClientChannelRecord, ClientChannelStore};
use storage::{PostgresStore, SqliteStore};
use url::Url;

use crate::config::Config;
use crate::exit::usage;
use crate::get;
use crate::output::{Output, ether};
use crate::stores::{self, Place, Storage};
use crate::units::Asset;
use crate::{clock, keys};

pub(crate) use ask::AskedBank;
pub(crate) use bank::{admit, bank_service, start_bank};
pub(crate) use close::Asks;
pub(crate) use file::ReceiptsJson;
pub(crate) use open::{Found, Wish, find_or_ask, key_of};
pub(crate) use receipts::Verified;
pub(crate) use show::mirrored;

/// Longest wait for a connection to a vendor or a bank.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for its answer: opening 10,000 receipts takes a second or two.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Channels.
#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// Banks: who admits clients and vendors to channels
    #[command(subcommand)]
    Bank(bank::Bank),
    /// Open a channel to a vendor: ask a bank for its permit, and deposit. Safe to repeat: it opens one channel
    Open(open::Open),
    /// Make a channel longer, and let it live longer
    TopUp(open::TopUp),
    /// List channels
    List(show::List),
    /// Show a channel: what its client or vendor has of it, and what the chain says
    Show(show::Show),
    /// Buy over this channel: `micropay get`, paid by it and no other
    Pay(Pay),
    /// Open the receipts: the client gives the vendor what opens them, the vendor opens them and writes a file of them
    OpenReceipts(receipts::OpenReceipts),
    /// Check a file of receipts, without a chain, down to the bank's signature. Exit code 1 if it does not hold
    Verify(receipts::Verify),
    /// Settle what was paid so far, and go on (vendor)
    Checkpoint(close::Checkpoint),
    /// Settle, and end the channel: the vendor alone, or the client together with it
    Close(close::Close),
    /// Take back what was not proven by the channel's expiry (client)
    Refund(close::Refund),
    /// Close other people's channels in time, without any of their keys
    Watch(watch::Watch),
    /// Ticket or channel? From how many payments to one seller on a channel is cheaper
    Advise(advise::Advise),
    /// Rebuild a channel of a client that lost its store, from its key, the chain, and what the vendor has
    Recover(recover::Recover),
}

/// What to buy, over which channel.
#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)] // `pay URL`
pub(crate) struct Pay {
    /// The channel: its id, or as many digits as make it the only one [default: the one that is open]
    channel: Option<String>,
    #[command(flatten)]
    get: get::Get,
}

pub(crate) async fn run(command: &Channel, config: &Config, out: Output) -> eyre::Result<ExitCode> {
    match command {
        Channel::Bank(command) => bank::run(command, config, out).await?,
        Channel::Open(open) => open::open(open, config, out).await?,
        Channel::TopUp(top_up) => open::top_up(top_up, config, out).await?,
        Channel::List(list) => show::list(list, config, out).await?,
        Channel::Show(show) => show::show(show, config, out).await?,
        Channel::Pay(pay) => return get::over_channel(&pay.get, pay.channel.as_deref(), config, out).await,
        Channel::OpenReceipts(open) => receipts::open_receipts(open, config, out).await?,
        Channel::Verify(verify) => return receipts::verify(verify, config, out),
        Channel::Checkpoint(checkpoint) => close::checkpoint(checkpoint, config, out).await?,
        Channel::Close(close) => close::close(close, config, out).await?,
        Channel::Refund(refund) => close::refund(refund, config, out).await?,
        Channel::Watch(watch) => watch::run(watch, config, out).await?,
        Channel::Advise(advise) => advise::run(advise, config, out).await?,
        Channel::Recover(recover) => recover::run(recover, config, out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The client's store, which knows whose channels it has.
pub(crate) async fn client_store(config: &Config) -> eyre::Result<SqliteStore> {
    let store = stores::payer(&config.home, config.domain().await?).await?;
    store.use_channels(config.channel_domain().await?).await?;
    Ok(store)
}

/// The vendor's store, as `serve` keeps it beside its tickets.
pub(crate) async fn vendor_store(config: &Config, vendor: Address) -> eyre::Result<SqliteStore> {
    let file = stores::merchant_file(&config.home, config.domain().await?, vendor)?;
    vendor_store_at(config, &file, vendor).await
}

/// Where the store is that a vendor's command names.
async fn place(config: &Config, storage: &Storage, vendor: Address) -> eyre::Result<Place> {
    storage.place(&config.home, config.domain().await?, vendor)
}

async fn vendor_store_at(config: &Config, file: &Path, vendor: Address) -> eyre::Result<SqliteStore> {
    let store = stores::merchant_at(file, config.domain().await?, vendor).await?;
    store.use_channels(config.channel_domain().await?).await?;
    Ok(store)
}

async fn vendor_store_in(config: &Config, url: &str, vendor: Address) -> eyre::Result<PostgresStore> {
    let store = stores::merchant_in(url, config.domain().await?, vendor).await?;
    store.use_channels(config.channel_domain().await?).await?;
    Ok(store)
}

/// The vendor of a client's channel, at its gateway.
async fn vendor_at(config: &Config, record: &ClientChannelRecord, at: Option<&Url>) -> eyre::Result<Desk> {
    let origin = match (at, record.origin.as_deref()) {
        (Some(at), _) => at.clone(),
        (None, Some(stored)) => Url::parse(stored)?,
        (None, None) => return Err(usage("where does the vendor sell? --at URL")),
    };
    let (name, _) = open::key_of(config, newest(record).receipt_key())?;
    vendor_desk(config, origin, keys::signing_key(config, &name)?).await
}

/// The vendor that sells at this address.
async fn vendor_desk(config: &Config, origin: Url, receipt_key: Key) -> eyre::Result<Desk> {
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(ANSWER_LIMIT)
        .build()?;
    let domain = config.channel_domain().await?;
    Ok(Desk::new(http, origin, domain, Arc::new(receipt_key), clock::now))
}

/// One channel of the client's store, by its id, the first digits of it, or as the only open one.
pub(crate) async fn client_channel(
    store: &SqliteStore,
    text: Option<&str>,
) -> eyre::Result<ClientChannelRecord> {
    let all = store.client_channels(ClientChannelFilter::default()).await?;
    let ids: Vec<ChannelId> = all.iter().map(|record| record.channel.id()).collect();
    let found = match text {
        Some(text) => choose(&ids, text)?,
        None => only_one(
            all.iter()
                .map(|record| (record.channel.id(), record.closed_at.is_none())),
        )?,
    };
    let mut all = all.into_iter();
    match all.find(|record| record.channel.id() == found) {
        Some(record) => Ok(record),
        None => bail!("there is no channel {found} in this client's store"),
    }
}

/// The channel that is meant where none is named: the one that is open; where none is, the only one that there is.
fn only_one(channels: impl IntoIterator<Item = (ChannelId, bool)>) -> eyre::Result<ChannelId> {
    let (open, over): (Vec<_>, Vec<_>) = channels.into_iter().partition(|(_, open)| *open);
    match (&open[..], &over[..]) {
        ([(id, _)], _) | ([], [(id, _)]) => Ok(*id),
        ([], []) => Err(usage("which channel? There is none in this store")),
        ([], _) => Err(usage(format!(
            "which channel? None is open, and {} are not: {}",
            over.len(),
            names(&over)
        ))),
        _ => Err(usage(format!(
            "which channel? {} are open: {}",
            open.len(),
            names(&open)
        ))),
    }
}

fn names(channels: &[(ChannelId, bool)]) -> String {
    let names: Vec<_> = channels.iter().map(|(id, _)| id.to_string()).collect();
    names.join(", ")
}

/// The one of these that begins so; or a whole id, whether it is one of them or not.
fn choose(ids: &[ChannelId], text: &str) -> eyre::Result<ChannelId> {
    if let Ok(id) = text.parse() {
        return Ok(ChannelId(id));
    }
    let hex = text.strip_prefix("0x").unwrap_or(text).to_lowercase();
    if hex.is_empty() || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(usage(format!(
            "a channel is named by 0x and up to 64 hexadecimal digits, got {text:?}"
        )));
    }
    let begins = |id: &&ChannelId| format!("{:x}", id.0).starts_with(&hex);
    let found: Vec<_> = ids.iter().filter(begins).collect();
    match found[..] {
        [id] => Ok(*id),
        [] => bail!(
            "no channel begins with {text}; there are {} in this store",
            ids.len()
        ),
        _ => bail!("{} channels begin with {text}: give more digits", found.len()),
    }
}

/// The permit whose chain pays now.
fn newest(record: &ClientChannelRecord) -> &Permit {
    let terms = record.channel.terms();
    terms[terms.len() - 1].permit()
}

/// So many units in whole units of the asset, and how many they are.
fn worth(asset: &Asset, unit: Amount, units: impl Into<u64>) -> String {
    let units = units.into();
    format!(
        "{} ({units} × {})",
        asset.show(unit.saturating_mul(units)),
        asset.show(unit)
    )
}

/// What a permit says, as every command that shows one has it.
fn describe_permit(permit: &Permit, bank: Address) -> Value {
    json!({
        "channel": permit.channel().0, "client": permit.client(), "vendor": permit.vendor(), "bank": bank,
        "receiptKey": permit.receipt_key(), "asset": permit.asset(), "unit": permit.unit().0.to_string(),
        "length": permit.length().0, "anchor": permit.anchor().0, "issuedAt": permit.issued_at().0,
        "expiry": permit.expiry().0,
        "deposit": permit.deposit().unwrap_or(Amount::MAX).0.to_string(),
    })
}

/// Sends a call to the channel contract.
async fn send(sender: &Sender<Channels>, call: impl SolCall) -> Result<Mined<Channels>, ChainError> {
    let contract = sender.client().contract();
    sender
        .send(contract, Bytes::from(call.abi_encode()), U256::ZERO)
        .await
}

/// The answer of a step of one transaction.
fn done(out: Output, what: &str, value: Value, mined: Option<&Mined<Channels>>) -> eyre::Result<()> {
    let mut value = value;
    value["step"] = json!(what);
    value["transaction"] = json!(mined.map(|mined| mined.hash));
    value["gas"] = json!(mined.map(|mined| mined.gas_used));
    let text = match mined {
        Some(mined) => format!(
            "{what} in block {} (gas {}, fee {})",
            mined.block.number,
            mined.gas_used,
            ether(U256::from(mined.fee()))
        ),
        None => format!("{what} already: nothing was sent"),
    };
    out.answer(&value, text)
}

/// Index `index` of a channel with this unit, for people.
fn units(index: Index) -> String {
    crate::output::count(index.0, "unit")
}
