//! `micropay channel open` and `top-up`: the client's steps that cost a deposit. Each asks a bank for a permit, checks it,
//! saves it and sends one transaction; each can be repeated after a kill, and then does what is left.

use alloy::primitives::{Address, B256};
use chain::{At, Channels, Client, Finality, Follower, FollowerConfig, Sender, Start};
use clap::Args;
use payer::channel::{ChannelSteps, Done, TopUpState, channel_salt};
use protocol::channel::{
    AdmitRequest, Admitted, Amount, Chain, ChannelId, ChannelRecord, Index, Key, Seconds, Status, Timestamp,
    chain_seed,
};
use serde_json::json;
use storage::SqliteStore;
use storage::channel::{ClientChannelFilter, ClientChannelRecord, ClientChannelStore};
use tracing::warn;
use url::Url;

use super::ask::{AskedBank, Permitted};
use super::{client_channel, client_store, describe_permit, newest, worth};
use crate::config::Config;
use crate::exit::refused;
use crate::output::{Output, date, rows, span};
use crate::units::{Asset, parse_span};
use crate::{clock, keys};

/// How many of a client's channels to one vendor are looked through for a name that is free.
const MOST_CHANNELS: u32 = 1 << 12;
/// Pause between two looks at a block that is not final yet.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// What kind of channel, to whom, by whose permit.
#[derive(Debug, Args)]
pub(crate) struct Open {
    /// Who is paid: address or key name
    #[arg(long, value_name = "ADDRESS|KEY")]
    vendor: String,
    /// Where the bank answers
    #[arg(long, value_name = "URL")]
    bank: Url,
    /// What one unit pays, in whole units of the asset (0.0001) or atomic ones (100wei): the smallest price
    #[arg(long, value_name = "AMOUNT")]
    unit: String,
    /// How many units the channel can pay, 1 to 1048576. The deposit is length × unit
    #[arg(long, value_name = "UNITS")]
    length: u32,
    /// For how long; what is not spent by then comes back
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30d")]
    life: Seconds,
    /// Token address [default: the native asset]
    #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
    asset: Address,
    /// Key of the account that pays, and gets back what is left
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Key that signs receipts; made if there is none of that name [default: `receipts` of the configuration]
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Where the vendor sells, to be remembered for closing and recovering
    #[arg(long, value_name = "URL")]
    at: Option<Url>,
    /// Open one more, though there is one just like it
    #[arg(long)]
    another: bool,
}

/// How much longer.
#[derive(Debug, Args)]
pub(crate) struct TopUp {
    /// The channel: its id, or as many digits as make it the only one
    channel: String,
    /// How many units the channel can pay then, those already paid counted
    #[arg(long, value_name = "UNITS")]
    length: u32,
    /// For how long from now; never shorter than it is
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30d")]
    life: Seconds,
    /// Where the bank answers
    #[arg(long, value_name = "URL")]
    bank: Url,
    /// Key of the account that pays
    #[arg(long, value_name = "KEY")]
    from: String,
}

/// A channel that a client wants to have.
pub(crate) struct Wish {
    pub(crate) vendor: Address,
    pub(crate) asset: Address,
    pub(crate) unit: Amount,
    pub(crate) length: Index,
    pub(crate) life: Seconds,
    /// Whether one that is there does not count.
    pub(crate) another: bool,
}

/// A permit for a channel that may not be open yet.
pub(crate) struct Found {
    pub(crate) admitted: Admitted,
    pub(crate) salt: B256,
    /// As it is in the store, where it was there before.
    pub(crate) origin: Option<Option<String>>,
}

pub(super) async fn open(open: &Open, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect_channels().await?;
    let asset = Asset::read(&client, open.asset).await?;
    let wish = Wish {
        vendor: keys::address_or_name(config, &open.vendor)?,
        asset: open.asset,
        unit: asset.parse(&open.unit)?,
        length: Index(open.length),
        life: open.life,
        another: open.another,
    };
    let account = keys::signing_key(config, &open.from)?;
    let sender = Sender::new(client, keys::account(config, &open.from)?);
    let name = open.key.as_deref().unwrap_or(&config.receipts);
    let (made, _) = keys::take_or_make(config, name)?;
    let receipt_key = keys::signing_key(config, name)?;
    let steps = ChannelSteps::new(sender, client_store(config).await?);
    let bank = AskedBank::at(&open.bank, steps.sender().client()).await?;
    let store = client_store(config).await?;
    let found = find_or_ask(&steps, &store, &bank, &account, &receipt_key, &wish).await?;
    let origin = found
        .origin
        .clone()
        .unwrap_or_else(|| open.at.as_ref().map(|at| at.origin().ascii_serialization()));
    let done = steps
        .open(&found.admitted, found.salt, origin, clock::now())
        .await?;
    let permit = found.admitted.permit();
    let mined = match &done {
        Done::Mined(mined) => Some(mined),
        Done::Already => None,
    };
    let mut value = describe_permit(permit, found.admitted.bank());
    value["opened"] = json!(mined.is_some());
    value["key"] = json!(name);
    value["transaction"] = json!(mined.map(|mined| mined.hash));
    value["gas"] = json!(mined.map(|mined| mined.gas_used));
    let mut text = vec![
        ("channel", permit.channel().to_string()),
        ("vendor", permit.vendor().to_string()),
        ("bank", found.admitted.bank().to_string()),
        ("deposit", worth(&asset, permit.unit(), permit.length().0)),
        ("until", date(permit.expiry())),
        (
            "receipts signed by",
            format!(
                "{} ({name}{})",
                permit.receipt_key(),
                if made { ", new" } else { "" }
            ),
        ),
    ];
    match mined {
        Some(mined) => text.extend([
            ("transaction", mined.hash.to_string()),
            ("gas", mined.gas_used.to_string()),
        ]),
        None => text.push((
            "open",
            "already: nothing was sent (--another opens one more)".to_owned(),
        )),
    }
    out.answer(&value, rows(&text))
}

/// A channel as wished that this client has, open or about to be; else a permit for a new one.
pub(crate) async fn find_or_ask(
    steps: &ChannelSteps<SqliteStore>,
    store: &SqliteStore,
    bank: &AskedBank,
    account: &Key,
    receipt_key: &Key,
    wish: &Wish,
) -> eyre::Result<Found> {
    let client = steps.sender().client();
    let now = client.head().await?.timestamp.max(clock::now());
    if !wish.another
        && let Some(found) = find(client, store, account.address(), receipt_key, wish, now).await?
    {
        return Ok(found);
    }
    let domain = client.domain();
    for number in 0..MOST_CHANNELS {
        let salt = channel_salt(receipt_key, account.address(), wish.vendor, number);
        let id = domain.channel_id(account.address(), wish.vendor, salt);
        let taken =
            store.client_channel(id).await?.is_some() || client.status_of(id, At::Latest).await?.is_some();
        if taken {
            continue;
        }
        let request = AdmitRequest {
            client: account.address(),
            vendor: wish.vendor,
            salt,
            receipt_key: receipt_key.address(),
            asset: wish.asset,
            unit: wish.unit,
            length: wish.length,
            anchor: Chain::from_seed(chain_seed(receipt_key, id, 0, wish.length), id, wish.length)?.anchor(),
            expiry: now.plus(wish.life),
        };
        match bank.permit(account, request).await? {
            Permitted::Granted(admitted) => {
                return Ok(Found {
                    admitted: *admitted,
                    salt,
                    origin: None,
                });
            }
            // Signed for a client that was killed before it could save: that costs a name, and nothing else.
            Permitted::Other => {}
        }
    }
    Err(refused(format!(
        "the first {MOST_CHANNELS} names of channels from {} to {} are taken",
        account.address(),
        wish.vendor
    )))
}

async fn find(
    client: &Client<Channels>,
    store: &SqliteStore,
    account: Address,
    receipt_key: &Key,
    wish: &Wish,
    now: Timestamp,
) -> eyre::Result<Option<Found>> {
    let filter = ClientChannelFilter {
        vendor: Some(wish.vendor),
        asset: Some(wish.asset),
        open: true,
    };
    for record in store.client_channels(filter).await? {
        let opening = record.channel.terms()[0].clone();
        let permit = opening.permit();
        let wished = permit.client() == account
            && permit.receipt_key() == receipt_key.address()
            && permit.unit() == wish.unit
            && permit.length() == wish.length
            && newest(&record).expiry() > now;
        if wished
            && client
                .status_of(permit.channel(), At::Latest)
                .await?
                .map(|(status, _)| status)
                != Some(Status::Closed)
        {
            return Ok(Some(Found {
                admitted: opening,
                salt: record.salt,
                origin: Some(record.origin),
            }));
        }
    }
    Ok(None)
}

// ── a longer chain ──

pub(super) async fn top_up(top_up: &TopUp, config: &Config, out: Output) -> eyre::Result<()> {
    let store = client_store(config).await?;
    let record = client_channel(&store, Some(&top_up.channel)).await?;
    let id = record.channel.id();
    let client = config.connect_channels().await?;
    let asset = Asset::read(&client, newest(&record).asset()).await?;
    let length = Index(top_up.length);
    let record = take_over(&client, &store, record, config.finality()?).await?;
    if newest(&record).length() >= length {
        return answer(out, &asset, &record, None);
    }
    let account = keys::signing_key(config, &top_up.from)?;
    let (name, _) = key_of(config, newest(&record).receipt_key())?;
    let receipt_key = keys::signing_key(config, &name)?;
    let bank = AskedBank::at(&top_up.bank, &client).await?;
    let generation = u32::try_from(record.channel.terms().len())?;
    let admitted = match bank.signed(id, generation, length).await? {
        // Of a top-up whose client was killed.
        Some(admitted) => admitted,
        None => {
            let now = client.head().await?.timestamp.max(clock::now());
            let permit = newest(&record);
            let request = AdmitRequest {
                client: permit.client(),
                vendor: permit.vendor(),
                salt: record.salt,
                receipt_key: permit.receipt_key(),
                asset: permit.asset(),
                unit: permit.unit(),
                length,
                anchor: Chain::from_seed(chain_seed(&receipt_key, id, generation, length), id, length)?
                    .anchor(),
                expiry: permit.expiry().max(now.plus(top_up.life)),
            };
            match bank.permit(&account, request).await? {
                Permitted::Granted(admitted) => *admitted,
                Permitted::Other => {
                    return Err(refused(format!(
                        "the bank has signed a top-up of channel {id} to another length than {length}, and it is not \
                         on chain: finish that one first"
                    )));
                }
            }
        }
    };
    let steps = ChannelSteps::new(
        Sender::new(client.clone(), keys::account(config, &top_up.from)?),
        client_store(config).await?,
    );
    let done = steps.top_up(&admitted).await?;
    wait_until_final(&steps, &admitted, config.finality()?, out).await?;
    let record = client_channel(&store, Some(&id.to_string())).await?;
    answer(out, &asset, &record, Some(&done))
}

fn answer(out: Output, asset: &Asset, record: &ClientChannelRecord, done: Option<&Done>) -> eyre::Result<()> {
    let terms = record.channel.terms();
    let permit = newest(record);
    let mined = match done {
        Some(Done::Mined(mined)) => Some(mined),
        _ => None,
    };
    let mut value = describe_permit(permit, terms[0].bank());
    value["generation"] = json!(terms.len() - 1);
    value["transaction"] = json!(mined.map(|mined| mined.hash));
    value["gas"] = json!(mined.map(|mined| mined.gas_used));
    let how = mined.map_or("already: nothing was sent".to_owned(), |mined| {
        format!("in block {} (gas {})", mined.block.number, mined.gas_used)
    });
    out.answer(
        &value,
        rows(&[
            ("channel", permit.channel().to_string()),
            ("deposit", worth(asset, permit.unit(), permit.length().0)),
            ("left", worth(asset, permit.unit(), record.channel.left())),
            ("until", date(permit.expiry())),
            ("topped up", how),
        ]),
    )
}

/// What the chain has of a channel and its client's store does not: a top-up whose client was killed.
async fn take_over(
    client: &Client<Channels>,
    store: &SqliteStore,
    record: ClientChannelRecord,
    finality: Finality,
) -> eyre::Result<ClientChannelRecord> {
    let id = record.channel.id();
    let known = record.channel.terms().len();
    let Some((on_chain, _)) = final_record(client, id, finality).await? else {
        return Ok(record);
    };
    for admitted in on_chain.admitted(&client.domain()).iter().skip(known) {
        store.topped_up(id, admitted).await?;
    }
    client_channel(store, Some(&id.to_string())).await
}

/// A channel as the contract's events have it, at a final block, and at the newest one.
pub(super) async fn final_record(
    client: &Client<Channels>,
    id: ChannelId,
    finality: Finality,
) -> eyre::Result<Option<(ChannelRecord, ChannelRecord)>> {
    let view = read_all(client, finality).await?.mirror().view(id);
    let (Some(last_final), Some(head)) = (view.last_final, view.head) else {
        return Ok(None);
    };
    Ok(Some(((*last_final).clone(), (*head).clone())))
}

/// Reads every event of the contract.
pub(super) async fn read_all(
    client: &Client<Channels>,
    finality: Finality,
) -> eyre::Result<Follower<Channels>> {
    // Nodes that have forgotten old states cannot say when it was deployed.
    let block = client.deployment_block().await.unwrap_or(0);
    let start = Start::Deployed { block };
    let mut follower = Follower::start(client.clone(), FollowerConfig::new(finality), start).await?;
    while follower.poll().await?.behind > 0 {}
    Ok(follower)
}

/// A vendor takes words of a longer chain once its top-up is final.
async fn wait_until_final(
    steps: &ChannelSteps<SqliteStore>,
    admitted: &Admitted,
    finality: Finality,
    out: Output,
) -> eyre::Result<()> {
    let client = steps.sender().client();
    let mut said = false;
    loop {
        let head = client.head().await?;
        let block = match finality {
            Finality::Depth(depth) => client.block(head.number.saturating_sub(depth)).await?,
            Finality::Finalized => client.finalized().await?,
        };
        if let Some(block) = block {
            match steps.confirm_top_up(admitted, At::Block(block.hash)).await {
                Ok(TopUpState::Pays) => return Ok(()),
                Ok(TopUpState::NotYet) => {}
                Err(error) if error.retry() => {
                    warn!(%error, "cannot see yet whether the top-up is final");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !said && !out.json {
            use std::io::Write;
            // Nobody minds if nobody listens.
            let _ = writeln!(
                std::io::stderr(),
                "· waiting until it is final; it is safe to break off and repeat"
            );
            said = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The key file with this address.
pub(crate) fn key_of(config: &Config, wanted: Address) -> eyre::Result<(String, Address)> {
    let keys = keys::list(config)?;
    let count = keys.len();
    let mut keys = keys.into_iter();
    keys.find(|(_, address)| *address == wanted).ok_or_else(|| {
        eyre::eyre!(
            "{wanted} is none of the {count} keys in {}",
            config.home.display()
        )
    })
}

/// How long until an expiry, for people.
pub(super) fn until(expiry: Timestamp, now: Timestamp) -> String {
    match expiry.since(now).0 {
        0 => format!("{}, over", date(expiry)),
        left => format!("{}, in {}", date(expiry), span(left)),
    }
}
