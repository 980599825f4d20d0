//! `micropay channel checkpoint`, `close` and `refund`: how a channel's money gets to where it belongs. The vendor settles with
//! its key (a running gateway is told to, as it alone knows what is on its way), the client closes together with the vendor,
//! or waits for the expiry.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use chain::{Channels, Client, Follower, Sender};
use clap::Args;
use eyre::{OptionExt, WrapErr, bail};
use merchant::channel::{ClosePolicy, Closer, Step, Vendor, VendorConfig};
use merchant::follow::follow_once;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use payer::channel::{ChannelSteps, Done};
use protocol::channel::{Amount, ChannelId, Index, Seconds, Status};
use serde_json::json;
use storage::SqliteStore;
use storage::channel::{ClientChannelFilter, ClientChannelStore, SettlementStep, VendorChannelStore};
use url::Url;

use super::show::{OnChain, paid, vendor_channel};
use super::{client_channel, client_store, done, newest, only_one, units, vendor_at, vendor_store, worth};
use crate::business::catch_up_channels;
use crate::config::Config;
use crate::exit::refused;
use crate::output::{Output, date, rows, span};
use crate::stores::{self, Locked};
use crate::units::Asset;
use crate::{clock, keys};

/// Pause between two looks at a settlement under way.
const PAUSE: Duration = Duration::from_millis(300);

/// Which channel, and by whom.
#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    /// The channel: its id, or as many digits as make it the only one [default: the one that is open]
    channel: Option<String>,
    /// Key of the vendor's account, or of an operator of it
    #[arg(long, value_name = "KEY")]
    from: String,
    /// The vendor [default: the account of --from]
    #[arg(long, value_name = "ADDRESS|KEY")]
    vendor: Option<String>,
}

/// Which channel, and by whom.
#[derive(Debug, Args)]
pub(crate) struct Close {
    /// The channel: its id, or as many digits as make it the only one [default: the one that is open]
    channel: Option<String>,
    /// Key of the account of one party, or of an operator of the vendor: the vendor closes alone, the client with the
    /// vendor's signature
    #[arg(long, value_name = "KEY")]
    from: String,
    /// The vendor, where --from is an operator of it
    #[arg(long, value_name = "ADDRESS|KEY")]
    vendor: Option<String>,
    /// Where the vendor sells, for a client [default: where the channel was opened for]
    #[arg(long, value_name = "URL")]
    at: Option<Url>,
}

/// Which channel.
#[derive(Debug, Args)]
pub(crate) struct Refund {
    /// The channel: its id, or as many digits as make it the only one [default: the one that is open]
    channel: Option<String>,
    /// Key of the client's account
    #[arg(long, value_name = "KEY")]
    from: String,
}

pub(super) async fn checkpoint(command: &Checkpoint, config: &Config, out: Output) -> eyre::Result<()> {
    let account = keys::address(config, &command.from)?;
    let vendor = vendor_of(config, command.vendor.as_deref(), account)?;
    settle(
        config,
        &command.from,
        vendor,
        command.channel.as_deref(),
        SettlementStep::Checkpoint,
        out,
    )
    .await
}

pub(super) async fn close(command: &Close, config: &Config, out: Output) -> eyre::Result<()> {
    let account = keys::address(config, &command.from)?;
    if command.vendor.is_none()
        && let Some(id) = own_channel(command.channel.as_deref(), account, config).await?
    {
        return close_together(command, id, config, out).await;
    }
    let vendor = vendor_of(config, command.vendor.as_deref(), account)?;
    settle(
        config,
        &command.from,
        vendor,
        command.channel.as_deref(),
        SettlementStep::Close,
        out,
    )
    .await
}

/// The channel that is meant, if this account is the client of it.
async fn own_channel(
    named: Option<&str>,
    account: Address,
    config: &Config,
) -> eyre::Result<Option<ChannelId>> {
    let store = client_store(config).await?;
    if named.is_some() {
        let record = client_channel(&store, named).await.ok();
        let record = record.filter(|record| newest(record).client() == account);
        return Ok(record.map(|record| record.channel.id()));
    }
    let open = ClientChannelFilter {
        open: true,
        ..ClientChannelFilter::default()
    };
    let open = store.client_channels(open).await?;
    let own = open.iter().filter(|record| newest(record).client() == account);
    let own: Vec<_> = own.map(|record| (record.channel.id(), true)).collect();
    if own.is_empty() {
        return Ok(None);
    }
    only_one(own).map(Some)
}

fn vendor_of(config: &Config, named: Option<&str>, account: Address) -> eyre::Result<Address> {
    named.map_or(Ok(account), |vendor| keys::address_or_name(config, vendor))
}

// ── the client ──

async fn close_together(command: &Close, id: ChannelId, config: &Config, out: Output) -> eyre::Result<()> {
    let store = client_store(config).await?;
    let record = client_channel(&store, Some(&id.to_string())).await?;
    let key = keys::signing_key(config, &command.from)?;
    let api = vendor_at(config, &record, command.at.as_ref()).await?;
    let api = api.closing_with(Arc::new(key.clone()));
    let client = config.connect_channels().await?;
    let sender = Sender::new(client.clone(), keys::account(config, &command.from)?);
    let closed = ChannelSteps::new(sender, store)
        .cooperative_close(&api, &key, id, clock::now())
        .await?;
    let permit = newest(&record);
    let asset = Asset::read(&client, permit.asset()).await?;
    let (unit, rest) = (permit.unit(), permit.length().above(closed.index));
    let value = json!({
        "step": "closed together", "channel": id.0, "index": closed.index.0,
        "paid": unit.saturating_mul(closed.index.0.into()).0.to_string(),
        "refunded": unit.saturating_mul(rest.into()).0.to_string(),
        "transaction": closed.mined.as_ref().map(|mined| mined.hash),
        "gas": closed.mined.as_ref().map(|mined| mined.gas_used),
    });
    let how = closed
        .mined
        .as_ref()
        .map_or("before: nothing was sent".to_owned(), |mined| {
            format!("in block {} (gas {})", mined.block.number, mined.gas_used)
        });
    out.answer(
        &value,
        rows(&[
            ("closed", how),
            ("vendor was paid", worth(&asset, unit, closed.index.0)),
            ("your credit", worth(&asset, unit, rest)),
            (
                "to get it",
                format!("micropay credit withdraw --channel --from {}", command.from),
            ),
        ]),
    )
}

pub(super) async fn refund(command: &Refund, config: &Config, out: Output) -> eyre::Result<()> {
    let store = client_store(config).await?;
    let record = client_channel(&store, command.channel.as_deref()).await?;
    let id = record.channel.id();
    let client = config.connect_channels().await?;
    let (now, expiry) = (client.head().await?.timestamp, newest(&record).expiry());
    let before = OnChain::read(&client, id).await?;
    if now <= expiry && before.status == Some(Status::Open) {
        return Err(refused(format!(
            "the channel is the vendor's to close until {}, in {}; close together with it: micropay channel close",
            date(expiry),
            span(expiry.since(now).0)
        )));
    }
    let sender = Sender::new(client, keys::account(config, &command.from)?);
    let steps = ChannelSteps::new(sender, store);
    let step = steps.refund(id, clock::now()).await?;
    let rest = newest(&record).length().above(before.settled);
    let refunded = newest(&record).unit().saturating_mul(rest.into());
    let value = json!({
        "channel": id.0, "index": before.settled.0, "refunded": refunded.0.to_string(),
    });
    match step {
        Done::Mined(mined) => done(out, "refunded", value, Some(&mined)),
        Done::Already => done(out, "closed", value, None),
    }
}

// ── the vendor ──

async fn settle(
    config: &Config,
    from: &str,
    vendor: Address,
    channel: Option<&str>,
    step: SettlementStep,
    out: Output,
) -> eyre::Result<()> {
    let store = vendor_store(config, vendor).await?;
    let client = config.connect_channels().await?;
    if let Ok((id, _)) = vendor_channel(&store, vendor, channel).await {
        still_open(&client, id).await?;
    }
    // Another `close` may ask this one: it is at it already.
    let _deaf = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1())?;
    let domain = config.domain().await?;
    match stores::lock_merchant(&config.home, domain, vendor)? {
        Locked::Held { pid } => {
            let (id, _) = vendor_channel(&store, vendor, channel).await?;
            let pid = pid.ok_or_eyre("another process has the vendor's lock, but does not say which")?;
            Asks::of(&stores::merchant_file(&config.home, domain, vendor)?).add(id, step)?;
            kill(Pid::from_raw(pid), Signal::SIGUSR1)?;
            let value = json!({ "asked": pid, "channel": id.0, "step": step.name() });
            out.answer(
                &value,
                format!("asked the running gateway (pid {pid}): {} of {id}", step.name()),
            )
        }
        Locked::Ours(_lock) => {
            let sender = Sender::new(client.clone(), keys::account(config, from)?);
            let mut follower = catch_up_channels(&client, &store, config.finality()?).await?;
            let (id, record) = vendor_channel(&store, vendor, channel).await?;
            still_open(&client, id).await?;
            let settled = settle_now(&mut follower, &store, vendor, sender, id, step).await?;
            let asset = Asset::read(&client, record.newest().asset).await?;
            let after = OnChain::read(&client, id).await?;
            let unit = Amount(record.newest().unit);
            let rest = Index(record.newest().length).above(after.settled);
            let value = json!({
                "step": step.name(), "channel": id.0, "index": after.settled.0,
                "paid": settled.paid.to_string(), "transaction": settled.hash, "gas": settled.gas,
                "refunded": if step.closes() { Some(unit.saturating_mul(rest.into()).0.to_string()) } else { None },
            });
            let mut text = vec![
                ("settled", worth(&asset, unit, after.settled.0)),
                ("now", asset.show(Amount(settled.paid))),
                ("gas", settled.gas.to_string()),
            ];
            if step.closes() {
                text.push(("back to the client", worth(&asset, unit, rest)));
            }
            text.push(("to get it", "micropay credit withdraw --channel".to_owned()));
            out.answer(&value, rows(&text))
        }
    }
}

async fn still_open(client: &Client<Channels>, id: ChannelId) -> eyre::Result<()> {
    let found = OnChain::read(client, id).await?;
    if found.status == Some(Status::Closed) {
        let settled = units(found.settled);
        return Err(refused(format!("channel {id} is closed, with {settled} paid")));
    }
    Ok(())
}

/// What came of a settlement.
#[derive(Debug, Default)]
struct SettledNow {
    paid: u128,
    gas: u64,
    hash: Option<B256>,
}

/// Settles one channel and waits until that is final.
async fn settle_now(
    follower: &mut Follower<Channels>,
    store: &SqliteStore,
    vendor: Address,
    sender: Sender<Channels>,
    id: ChannelId,
    step: SettlementStep,
) -> eyre::Result<SettledNow> {
    let domain = sender.client().domain();
    let mirror = follower.mirror();
    let role = Vendor::start(domain, vendor, VendorConfig::default(), mirror, store.clone()).await?;
    let closer = Closer::new(role, sender, ClosePolicy::default(), Seconds::MINUTE);
    closer.ask(id, step);
    let mut found = SettledNow::default();
    let mut queued = None;
    loop {
        match closer.step(clock::now()).await? {
            Step::Queued(settlement, _, channels) if channels.contains(&id) => queued = Some(settlement),
            Step::Mined(settlement, hash) if queued.is_none_or(|ours| ours == settlement) => {
                found.hash = Some(hash);
            }
            Step::Final(settlement, settled) if queued == Some(settlement) => {
                found.paid = settled.paid;
                found.gas = settled.gas_used;
                return Ok(found);
            }
            Step::Dropped(settlement) if queued == Some(settlement) => {
                return Err(refused(format!(
                    "channel {id} was settled by somebody else meanwhile"
                )));
            }
            Step::Waited if queued.is_none() => {
                let stored = store.vendor_channel(id).await?;
                let highest = stored.as_ref().map_or(Index::ZERO, paid);
                return Err(refused(format!(
                    "nothing to settle on channel {id}: paid are {highest} units, and as many are settled"
                )));
            }
            Step::Waited | Step::Pending(_) => {
                follow_once(follower, store).await?;
                tokio::time::sleep(PAUSE).await;
            }
            _ => {}
        }
    }
}

/// What a running gateway is asked to settle, in a file beside its store: a signal has no words.
pub(crate) struct Asks {
    file: PathBuf,
}

impl Asks {
    /// Those of the vendor with this store.
    pub(crate) fn of(store: &Path) -> Self {
        Self {
            file: store.with_extension("asks"),
        }
    }

    fn add(&self, channel: ChannelId, step: SettlementStep) -> eyre::Result<()> {
        let mut file = fs::File::options().append(true).create(true).open(&self.file)?;
        // One write, so that two who ask do not mix their lines.
        file.write_all(format!("{} {channel}\n", step.name()).as_bytes())?;
        Ok(())
    }

    /// Takes what was asked for.
    pub(crate) fn take(&self) -> eyre::Result<Vec<(ChannelId, SettlementStep)>> {
        let mut taken = self.file.as_os_str().to_owned();
        taken.push(".taken");
        match fs::rename(&self.file, &taken) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            renamed => renamed?,
        }
        let text = fs::read_to_string(&taken).wrap_err_with(|| self.file.display().to_string())?;
        text.lines().map(parse_ask).collect()
    }
}

fn parse_ask(line: &str) -> eyre::Result<(ChannelId, SettlementStep)> {
    let parsed = line.split_once(' ').and_then(|(step, channel)| {
        let step = SettlementStep::ALL
            .into_iter()
            .find(|known| known.name() == step)?;
        Some((ChannelId(channel.parse().ok()?), step))
    });
    match parsed {
        Some(ask) => Ok(ask),
        None => bail!("a line reads \"checkpoint|close CHANNEL\", got {line:?}"),
    }
}
