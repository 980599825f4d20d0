//! `micropay channel list` and `show`: what a client or a vendor has of its channels, and what the chain says.

use std::path::PathBuf;

use alloy::primitives::Address;
use chain::{At, Channels, Client};
use clap::Args;
use eyre::OptionExt;
use protocol::channel::{ChannelId, ChannelRecord, Index, Status};
use serde_json::{Value, json};
use storage::Store;
use storage::channel::{
    ChannelMirrorStore, ClientChannelFilter, ClientChannelRecord, ClientChannelStore, VendorChannelRecord,
};

use super::open::until;
use super::{
    choose, client_channel, client_store, describe_permit, newest, only_one, place, vendor_store_at,
    vendor_store_in, worth,
};
use crate::config::Config;
use crate::keys;
use crate::output::{Output, date, rows};
use crate::stores::{Place, Storage};
use crate::units::Asset;

/// Whose channels.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those that pay this vendor, from its store [default: those that this client pays with]
    #[arg(long, value_name = "ADDRESS|KEY")]
    vendor: Option<String>,
    #[command(flatten)]
    storage: Storage,
}

/// Which channel, and whose view of it.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The channel: its id, or as many digits as make it the only one [default: the one that is open]
    channel: Option<String>,
    /// As this vendor has it [default: as this client has it]
    #[arg(long, value_name = "ADDRESS|KEY")]
    vendor: Option<String>,
    /// Write what a watcher needs to close the channel in time; it holds no key
    #[arg(long, value_name = "FILE", requires = "vendor")]
    watch_file: Option<PathBuf>,
    #[command(flatten)]
    storage: Storage,
}

/// What the contract says of a channel now.
pub(super) struct OnChain {
    pub(super) status: Option<Status>,
    pub(super) settled: Index,
}

impl OnChain {
    pub(super) async fn read(client: &Client<Channels>, id: ChannelId) -> eyre::Result<Self> {
        let got = client.status_of(id, At::Latest).await?;
        Ok(Self {
            status: got.map(|(status, _)| status),
            settled: got.map_or(Index::ZERO, |(_, settled)| settled),
        })
    }

    fn name(&self) -> &'static str {
        match self.status {
            None => "not opened",
            Some(Status::Open) => "open",
            Some(Status::Closed) => "closed",
        }
    }
}

pub(super) async fn list(list: &List, config: &Config, out: Output) -> eyre::Result<()> {
    match &list.vendor {
        None => list_client(config, out).await,
        Some(vendor) => {
            let vendor = keys::address_or_name(config, vendor)?;
            match place(config, &list.storage, vendor).await? {
                Place::File(path) => {
                    list_vendor(&vendor_store_at(config, &path, vendor).await?, vendor, out).await
                }
                Place::Database(url) => {
                    list_vendor(&vendor_store_in(config, &url, vendor).await?, vendor, out).await
                }
            }
        }
    }
}

async fn list_client(config: &Config, out: Output) -> eyre::Result<()> {
    let store = client_store(config).await?;
    let all = store.client_channels(ClientChannelFilter::default()).await?;
    let value: Vec<_> = all.iter().map(describe_client).collect();
    let line = |record: &ClientChannelRecord| {
        let permit = newest(record);
        let state = match record.closed_at {
            Some(at) => format!("closed {}", date(at)),
            None => format!("until {}", date(permit.expiry())),
        };
        let asset = Asset::offline(permit.asset());
        format!(
            "{}  to {}  {} of {} units of {} left  {state}",
            permit.channel(),
            permit.vendor(),
            record.channel.left(),
            permit.length(),
            asset.show(permit.unit()),
        )
    };
    out.answer(
        &value,
        match &all[..] {
            [] => "no channels yet: micropay channel open".to_owned(),
            some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
        },
    )
}

async fn list_vendor<S: Store>(store: &S, vendor: Address, out: Output) -> eyre::Result<()> {
    let mut all = Vec::new();
    for (id, chain) in mirrored(store, vendor).await? {
        if let Some(record) = store.vendor_channel(id).await? {
            all.push((record, chain));
        }
    }
    let value: Vec<_> = all.iter().map(|(record, _)| describe_vendor(record)).collect();
    let line = |(record, chain): &(VendorChannelRecord, ChannelRecord)| {
        let asset = Asset::offline(chain.newest().asset);
        let worth = |units: Index| asset.show(chain.unit().saturating_mul(units.0.into()));
        format!(
            "{}  paid {}, settled {}, receipts opened {}  {}",
            record.id,
            worth(paid(record)),
            worth(record.settled),
            record.opening.map_or(0, |opening| opening.opened),
            record.phase,
        )
    };
    out.answer(
        &value,
        match &all[..] {
            [] => format!("no channel has paid {vendor} yet"),
            some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
        },
    )
}

/// The channels to a vendor that its store knows from the chain, by id.
pub(crate) async fn mirrored<S: ChannelMirrorStore>(
    store: &S,
    vendor: Address,
) -> eyre::Result<Vec<(ChannelId, ChannelRecord)>> {
    let Some((_, records)) = store.load_channel_mirror().await? else {
        return Ok(Vec::new());
    };
    let mut records: Vec<_> = records
        .into_iter()
        .filter(|(_, record)| record.vendor == vendor)
        .collect();
    records.sort_by_key(|(id, _)| *id);
    Ok(records)
}

pub(super) async fn show(show: &Show, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect_channels().await?;
    match &show.vendor {
        None => {
            let record = client_channel(&client_store(config).await?, show.channel.as_deref()).await?;
            show_client(&client, &record, out).await
        }
        Some(vendor) => {
            let vendor = keys::address_or_name(config, vendor)?;
            match place(config, &show.storage, vendor).await? {
                Place::File(path) => {
                    let store = vendor_store_at(config, &path, vendor).await?;
                    show_stored(show, &client, store, vendor, config, out).await
                }
                Place::Database(url) => {
                    let store = vendor_store_in(config, &url, vendor).await?;
                    show_stored(show, &client, store, vendor, config, out).await
                }
            }
        }
    }
}

async fn show_stored<S: Store>(
    show: &Show,
    client: &Client<Channels>,
    store: S,
    vendor: Address,
    config: &Config,
    out: Output,
) -> eyre::Result<()> {
    let (id, chain) = vendor_channel(&store, vendor, show.channel.as_deref()).await?;
    match &show.watch_file {
        Some(file) => super::watch::export(&store, id, &chain, file, config, out).await,
        None => show_vendor(client, &store, id, &chain, out).await,
    }
}

/// One channel of a vendor's store, by its id, the first digits of it, or as the only open one; with what the chain said of it at the last final block that the vendor read.
pub(super) async fn vendor_channel<S: ChannelMirrorStore>(
    store: &S,
    vendor: Address,
    text: Option<&str>,
) -> eyre::Result<(ChannelId, ChannelRecord)> {
    let mut records = mirrored(store, vendor).await?;
    let ids: Vec<_> = records.iter().map(|(id, _)| *id).collect();
    let id = match text {
        Some(text) => choose(&ids, text)?,
        None => only_one(
            records
                .iter()
                .map(|(id, record)| (*id, record.status() == Status::Open)),
        )?,
    };
    let found = records.iter().position(|(known, _)| *known == id);
    let found = found.ok_or_else(|| {
        eyre::eyre!(
            "there is no channel {id} to {vendor} among the {} that its store knows",
            ids.len()
        )
    })?;
    Ok(records.swap_remove(found))
}

async fn show_client(
    client: &Client<Channels>,
    record: &ClientChannelRecord,
    out: Output,
) -> eyre::Result<()> {
    let permit = newest(record);
    let chain = OnChain::read(client, permit.channel()).await?;
    let asset = Asset::read(client, permit.asset()).await?;
    let now = client.head().await?.timestamp;
    let mut value = describe_client(record);
    value["chain"] = json!({ "status": chain.name(), "settled": chain.settled.0 });
    value["now"] = json!(now.0);
    let position = record.channel.acknowledged();
    let mut text = vec![
        ("channel", permit.channel().to_string()),
        ("client", permit.client().to_string()),
        ("vendor", permit.vendor().to_string()),
        ("bank", record.channel.terms()[0].bank().to_string()),
        ("status", chain.name().to_owned()),
        ("deposit", worth(&asset, permit.unit(), permit.length().0)),
        ("delivered", worth(&asset, permit.unit(), position.index.0)),
        (
            "revealed",
            worth(&asset, permit.unit(), record.channel.revealed().0),
        ),
        ("left", worth(&asset, permit.unit(), record.channel.left())),
        ("settled", worth(&asset, permit.unit(), chain.settled.0)),
        ("until", until(permit.expiry(), now)),
    ];
    if let Some(origin) = &record.origin {
        text.push(("at", origin.clone()));
    }
    if let Some(at) = record.closed_at {
        text.push(("closed here", date(at)));
    }
    out.answer(&value, rows(&text))
}

fn describe_client(record: &ClientChannelRecord) -> Value {
    let mut value = describe_permit(newest(record), record.channel.terms()[0].bank());
    value["topUps"] = json!(record.channel.terms().len() - 1);
    value["acknowledged"] = json!(record.channel.acknowledged().index.0);
    value["revealed"] = json!(record.channel.revealed().0);
    value["inFlight"] = json!(record.channel.in_flight().len());
    value["left"] = json!(record.channel.left());
    value["origin"] = json!(record.origin);
    value["closedAt"] = json!(record.closed_at.map(|at| at.0));
    value
}

async fn show_vendor<S: Store>(
    client: &Client<Channels>,
    store: &S,
    id: ChannelId,
    chain: &ChannelRecord,
    out: Output,
) -> eyre::Result<()> {
    let asset = Asset::read(client, chain.newest().asset).await?;
    let now = client.head().await?.timestamp;
    let on_chain = OnChain::read(client, id).await?;
    let stored = store.vendor_channel(id).await?;
    let checkpoint = store
        .latest_checkpoint(id)
        .await?
        .map(|checkpoint| checkpoint.signed.index());
    let terms = chain.admitted(&client.domain());
    let permit = terms.last().ok_or_eyre("a channel has terms")?.permit();
    let mut value = describe_permit(permit, chain.bank);
    if let Some(stored) = &stored {
        merge(&mut value, describe_vendor(stored));
    }
    value["checkpoint"] = json!(checkpoint.map(|index| index.0));
    value["chain"] = json!({ "status": on_chain.name(), "settled": on_chain.settled.0 });
    value["now"] = json!(now.0);
    let unit = permit.unit();
    let highest = stored.as_ref().map_or(Index::ZERO, paid);
    let mut text = vec![
        ("channel", id.to_string()),
        ("client", chain.client.to_string()),
        ("vendor", chain.vendor.to_string()),
        ("bank", chain.bank.to_string()),
        ("status", on_chain.name().to_owned()),
        ("deposit", worth(&asset, unit, permit.length().0)),
        ("paid", worth(&asset, unit, highest.0)),
        ("settled", worth(&asset, unit, on_chain.settled.0)),
        (
            "not settled",
            worth(&asset, unit, highest.above(on_chain.settled)),
        ),
        (
            "checkpoint",
            checkpoint.map_or("none".to_owned(), |index| format!("signed at {index}")),
        ),
        ("until", until(permit.expiry(), now)),
    ];
    if let Some(opening) = stored.and_then(|stored| stored.opening) {
        let end = if opening.ends_in_sigma0 {
            "down to the bank's signature"
        } else {
            "not down to the bank's signature"
        };
        text.push(("receipts", format!("{} opened, {end}", opening.opened)));
    }
    out.answer(&value, rows(&text))
}

fn describe_vendor(record: &VendorChannelRecord) -> Value {
    json!({
        "channel": record.id.0, "since": record.since.0, "phase": record.phase.to_string(),
        "paid": paid(record).0, "delivered": record.last.map_or(0, |last| last.payment.index.0),
        "settled": record.settled.0, "receiptsOpened": record.opening.map(|opening| opening.opened),
        "endsInSigma0": record.opening.map(|opening| opening.ends_in_sigma0),
    })
}

/// The highest index whose word the vendor has.
pub(super) fn paid(record: &VendorChannelRecord) -> Index {
    record
        .highest
        .map_or(Index::ZERO, |highest| highest.payment.index)
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
