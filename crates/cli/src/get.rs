//! `micropay get`: a curl that pays. The body goes to standard output or a file as it comes; what was paid goes to standard
//! error. Killed and started again with the same `--idempotency-key`, it pays nothing twice.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use alloy::primitives::Address;
use chain::At;
use clap::{Args, ValueEnum};
use eyre::WrapErr;
use gateway::client::{Budgets, Builder, ChannelPolicy, Client, ClientError, Paid, Proof, WouldPay};
use payer::channel::{self as channels, ChannelPayer, Checkpoints};
use payer::ticket::{Edges, Limits, Payer};
use protocol::channel::{ChannelId, Key};
use protocol::ticket::Amount;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Response, Version};
use serde_json::{Value, json};
use storage::SqliteStore;
use storage::channel::{ClientChannelFilter, ClientChannelRecord, ClientChannelStore};
use url::Url;

use crate::channel::{client_channel, client_store, key_of};
use crate::config::Config;
use crate::exit::{self, again, usage};
use crate::output::{Output, count};
use crate::units::Asset;
use crate::{clock, keys, stores};

/// What to fetch, and what it may cost.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Address, http:// or https://
    url: Url,
    /// Method [default: GET, or POST with --data]
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// Header to send, "Name: value"; repeatable
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<Header>,
    /// Body to send, or @FILE, or @- for standard input
    #[arg(short, long)]
    data: Option<String>,
    /// Write the body to a file, which is there whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write status and headers before the body
    #[arg(short, long)]
    include: bool,
    /// Name of this call: the same call under the same name is never paid twice [default: a new one]
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
    /// Highest price of a call
    #[arg(long, value_name = "AMOUNT", default_value = "0.01")]
    max_price: String,
    /// Most for all calls ever to one host [default: any]
    #[arg(long, value_name = "AMOUNT")]
    max_per_host: Option<String>,
    /// Most for all calls of a day, UTC [default: any]
    #[arg(long, value_name = "AMOUNT")]
    max_per_day: Option<String>,
    /// Most for all calls ever [default: any]
    #[arg(long, value_name = "AMOUNT")]
    max_total: Option<String>,
    /// Who may be paid: address or key name; repeatable [default: anybody]
    #[arg(long, value_name = "PAYEE")]
    payee: Vec<String>,
    /// Say what it would cost, and sign nothing
    #[arg(long)]
    dry_run: bool,
    /// Pay over unencrypted connections to other machines, too
    #[arg(long)]
    allow_plain_http: bool,
    /// How to pay: by a channel that is open to the seller, by ticket, or as it goes
    #[arg(long, value_name = "WAY", value_enum, default_value_t)]
    pay_with: PayWith,
    /// Name of the escrow key, for tickets [default: `escrow` of the configuration]
    #[arg(long, value_name = "KEY")]
    escrow: Option<String>,
    /// Name of the key that signs the receipts of channels [default: `receipts` of the configuration]
    #[arg(long, value_name = "KEY")]
    receipts: Option<String>,
}

/// How to pay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PayWith {
    /// By a channel where one is open to the seller, else by ticket
    #[default]
    Auto,
    /// By ticket
    Ticket,
    /// By channel
    Channel,
}

/// `Name: value`.
#[derive(Clone, Debug)]
struct Header(HeaderName, HeaderValue);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a header is written \"Name: value\", got {text:?}");
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self(
            name.trim().parse().map_err(|_| wrong())?,
            value.trim().parse().map_err(|_| wrong())?,
        ))
    }
}

pub(crate) async fn run(get: &Get, config: &Config, out: Output) -> eyre::Result<ExitCode> {
    let channels = match get.pay_with {
        PayWith::Ticket => None,
        PayWith::Auto | PayWith::Channel => Purse::open(get, config).await?,
    };
    let (client, asset) = client(get, config, channels).await?;
    fetch(get, &client, &asset, out).await
}

/// The same, paid over this channel and no other.
pub(crate) async fn over_channel(
    get: &Get,
    channel: Option<&str>,
    config: &Config,
    out: Output,
) -> eyre::Result<ExitCode> {
    if get.pay_with == PayWith::Ticket {
        return Err(usage("a channel is named, and --pay-with ticket: which is it?"));
    }
    let store = client_store(config).await?;
    let record = client_channel(&store, channel).await?;
    let purse = Purse::of(&record, config, store)?;
    let (client, asset) = client(get, config, Some(purse)).await?;
    fetch(get, &client, &asset, out).await
}

async fn fetch(get: &Get, client: &Client, asset: &Asset, out: Output) -> eyre::Result<ExitCode> {
    let answer = request(get, client)?.send().await.map_err(failed)?;
    let status = answer.status();
    let would: Option<WouldPay> = answer.extensions().get().cloned();
    if let Some(would) = would {
        let value = json!({
            "wouldPay": { "price": would.price.0.to_string(), "recipient": would.recipient, "asset": would.asset,
                "kind": would.kind.intent(), "route": would.route },
        });
        let (price, recipient) = (asset.show(would.price), would.recipient);
        out.answer(
            &value,
            format!("would pay {price} to {recipient} for {}", would.route),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let paid: Option<Paid> = answer.extensions().get().cloned();
    let bytes = write(get, answer, paid.as_ref()).await?;

    let words = match &paid {
        Some(paid) => {
            let requests = count(paid.requests, "request");
            let unsure = if paid.acknowledged {
                ""
            } else {
                ", and the server did not say that it took it"
            };
            let (price, recipient) = (asset.show(paid.price), paid.recipient);
            format!(
                "paid {price} to {recipient} ({requests}, {}{unsure})",
                proof_words(&paid.proof)
            )
        }
        None => "not charged".into(),
    };
    let value = json!({
        "status": status.as_u16(), "bytes": bytes, "paid": paid.as_ref().map(paid_json), "out": get.output,
    });
    // Standard output has nothing but the answer to the command: the body, or what is said of one in a file.
    match (&get.output, out.json) {
        (Some(_), true) => out.answer(&value, words)?,
        (_, true) => writeln!(io::stderr(), "{value}")?,
        (_, false) => writeln!(io::stderr(), "micropay: status {}, {words}", status.as_u16())?,
    }
    Ok(exit::of_status(status.as_u16()))
}

/// What paid, in words.
fn proof_words(proof: &Proof) -> String {
    match proof {
        Proof::Ticket { ticket } => format!("ticket {ticket}"),
        Proof::Channel { channel, index, .. } => format!("unit {index} of channel {channel}"),
    }
}

fn paid_json(paid: &Paid) -> Value {
    let channel = match paid.proof {
        Proof::Ticket { .. } => None,
        Proof::Channel { channel, index, tag } => {
            Some(json!({ "channel": channel.0, "index": index.0, "tag": tag.0 }))
        }
    };
    json!({
        "price": paid.price.0.to_string(), "recipient": paid.recipient, "asset": paid.asset,
        "kind": paid.proof.kind().intent(), "ticket": paid.proof.ticket(), "channel": channel,
        "order": paid.order.0, "idempotencyKey": paid.key, "requests": paid.requests,
        "acknowledged": paid.acknowledged,
    })
}

/// Channels that can pay: those of one receipt key, or a single one.
struct Purse {
    store: SqliteStore,
    key: Key,
    asset: Address,
    only: Option<ChannelId>,
}

impl Purse {
    /// Those of the receipt key, if there are any; an error if there have to be.
    async fn open(get: &Get, config: &Config) -> eyre::Result<Option<Self>> {
        let name = get.receipts.as_deref().unwrap_or(&config.receipts);
        let must = get.pay_with == PayWith::Channel || get.receipts.is_some();
        let signer = match keys::address(config, name) {
            Ok(signer) => signer,
            Err(error) if must => return Err(error.wrap_err("no channel to pay with: micropay channel open")),
            Err(_) => return Ok(None),
        };
        let store = client_store(config).await?;
        let filter = ClientChannelFilter {
            open: true,
            ..ClientChannelFilter::default()
        };
        let open = store.client_channels(filter).await?;
        let of_key =
            |record: &&ClientChannelRecord| record.channel.terms()[0].permit().receipt_key() == signer;
        match open.iter().find(of_key) {
            Some(record) => Ok(Some(Self {
                key: keys::signing_key(config, name)?,
                asset: record.channel.terms()[0].permit().asset(),
                store,
                only: None,
            })),
            None if must => Err(usage(format!(
                "no channel to pay with whose receipts {name} ({signer}) signs: micropay channel open"
            ))),
            None => Ok(None),
        }
    }

    fn of(record: &ClientChannelRecord, config: &Config, store: SqliteStore) -> eyre::Result<Self> {
        let permit = record.channel.terms()[0].permit();
        let (name, _) = key_of(config, permit.receipt_key())?;
        Ok(Self {
            key: keys::signing_key(config, &name)?,
            asset: permit.asset(),
            only: Some(record.channel.id()),
            store,
        })
    }

    async fn asset(&self, config: &Config) -> eyre::Result<Asset> {
        if self.asset == Address::ZERO {
            return Ok(Asset::ether());
        }
        Ok(Asset::read(&config.connect_channels().await?, self.asset).await?)
    }

    async fn payer(
        self,
        config: &Config,
        limits: &Limits,
    ) -> eyre::Result<(ChannelPayer<SqliteStore>, ChannelPolicy)> {
        let policy = match self.only {
            Some(channel) => ChannelPolicy::only(channel),
            None => ChannelPolicy::default(),
        };
        let limits = channels::Limits {
            max_price: limits.max_price,
            vendors: limits.recipients.clone(),
            assets: BTreeSet::from([self.asset]),
        };
        let domain = config.channel_domain().await?;
        let payer = ChannelPayer::new(
            domain,
            Arc::new(self.key),
            limits,
            Checkpoints::default(),
            self.store,
            edges(),
        );
        Ok((payer, policy))
    }
}

/// A client that pays over this channel and in no other way.
pub(crate) fn channel_client(
    payer: ChannelPayer<SqliteStore>,
    channel: ChannelId,
) -> reqwest::Result<Client> {
    Client::by_channels(payer, ChannelPolicy::only(channel)).build()
}

fn edges() -> Edges {
    Edges {
        now: clock::now,
        random: clock::random,
    }
}

async fn client(get: &Get, config: &Config, channels: Option<Purse>) -> eyre::Result<(Client, Asset)> {
    let only = channels.as_ref().is_some_and(|channels| channels.only.is_some());
    let escrow = get.escrow.as_ref().or(config.escrow.as_ref());
    let escrow = escrow.filter(|_| !only && get.pay_with != PayWith::Channel);
    let (mut builder, asset) = match (escrow, channels) {
        (Some(name), channels) => {
            let chain = config.connect().await?;
            let key = keys::escrow_key(config, name)?;
            let record = chain.escrow_of(key.address(), At::Latest).await?;
            let record = record.ok_or_else(|| {
                eyre::eyre!("there is no escrow {} yet: micropay escrow open", key.address())
            })?;
            let asset = Asset::read(&chain, record.asset).await?;
            let limits = limits(get, config, &asset)?;
            let store = stores::payer(&config.home, chain.domain()).await?;
            let payer = Payer::new(
                chain.domain(),
                Arc::new(key),
                record,
                limits.clone(),
                store,
                edges(),
            );
            let builder = Client::builder(payer);
            // Amounts on the command line are of one asset.
            match channels.filter(|channels| channels.asset == asset.address) {
                Some(channels) => {
                    let (payer, policy) = channels.payer(config, &limits).await?;
                    (builder.channels(payer, policy), asset)
                }
                None => (builder, asset),
            }
        }
        (None, Some(channels)) => {
            let asset = channels.asset(config).await?;
            let limits = limits(get, config, &asset)?;
            let (payer, policy) = channels.payer(config, &limits).await?;
            (Client::by_channels(payer, policy), asset)
        }
        (None, None) => {
            return Err(usage(
                "no escrow to pay with: --escrow KEY, or escrow = \"KEY\" in the configuration; nor a channel: micropay \
                 channel open",
            ));
        }
    };
    builder = budgets(get, builder, &asset)?;
    if get.dry_run {
        builder = builder.dry_run();
    }
    if get.allow_plain_http {
        builder = builder.allow_plain_http();
    }
    Ok((builder.build()?, asset))
}

fn limits(get: &Get, config: &Config, asset: &Asset) -> eyre::Result<Limits> {
    let recipients = get.payee.iter().map(|payee| keys::address_or_name(config, payee));
    Ok(Limits {
        max_price: asset.parse(&get.max_price)?,
        recipients: recipients.collect::<eyre::Result<BTreeSet<_>>>()?,
        ..Limits::default()
    })
}

fn budgets(get: &Get, builder: Builder, asset: &Asset) -> eyre::Result<Builder> {
    let amount = |text: &Option<String>| -> eyre::Result<Option<Amount>> {
        text.as_deref().map(|text| asset.parse(text)).transpose()
    };
    Ok(builder.budgets(Budgets {
        per_host: amount(&get.max_per_host)?,
        per_day: amount(&get.max_per_day)?,
        total: amount(&get.max_total)?,
    }))
}

fn request(get: &Get, client: &Client) -> eyre::Result<reqwest_middleware::RequestBuilder> {
    let default = if get.data.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let method = get.method.clone().unwrap_or(default);
    let mut request = client.request(method, get.url.clone());
    if let Some(data) = &get.data {
        if !get.headers.iter().any(|Header(name, _)| *name == CONTENT_TYPE) {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        request = request.body(body(data)?);
    }
    for Header(name, value) in &get.headers {
        request = request.header(name, value);
    }
    if let Some(key) = &get.idempotency_key {
        request = request.header("Idempotency-Key", key);
    }
    Ok(request)
}

/// Read as a whole, so that it can be sent again.
fn body(data: &str) -> eyre::Result<Vec<u8>> {
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Some(file) => std::fs::read(file).wrap_err_with(|| file.to_owned()),
    }
}

/// Writes what came, as it comes. Returns the bytes of the body.
async fn write(get: &Get, mut answer: Response, paid: Option<&Paid>) -> eyre::Result<u64> {
    let mut target = Target::open(get.output.as_deref())?;
    let out = &mut target.out;
    if get.include {
        write_head(out, &answer)?;
    }
    let mut bytes = 0;
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                out.write_all(&chunk)?;
                out.flush()?;
                bytes += chunk.len() as u64;
            }
            Ok(None) => break,
            Err(error) => {
                let error = error.without_url();
                let hint = paid.map_or(String::new(), |paid| hint(&paid.key));
                return Err(again(format!(
                    "the answer broke off after {bytes} bytes: {error}{hint}"
                )));
            }
        }
    }
    target.finish()?;
    Ok(bytes)
}

/// Where a body goes.
struct Target {
    out: Box<dyn Write>,
    /// What it is written to first, and where that belongs.
    file: Option<(PathBuf, PathBuf)>,
}

impl Target {
    fn open(output: Option<&Path>) -> eyre::Result<Self> {
        let Some(path) = output else {
            return Ok(Self {
                out: Box::new(io::stdout()),
                file: None,
            });
        };
        // A device or a pipe is written to; only a file can be put in the place of another.
        let special = std::fs::metadata(path).is_ok_and(|found| !found.is_file());
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = if special {
            path.to_owned()
        } else {
            PathBuf::from(new)
        };
        let file = std::fs::File::create(&new).wrap_err_with(|| new.display().to_string())?;
        Ok(Self {
            out: Box::new(file),
            file: (!special).then(|| (new, path.to_owned())),
        })
    }

    /// All of it has come.
    fn finish(self) -> eyre::Result<()> {
        drop(self.out);
        if let Some((new, path)) = self.file {
            std::fs::rename(new, &path).wrap_err_with(|| path.display().to_string())?;
        }
        Ok(())
    }
}

fn write_head(out: &mut dyn Write, answer: &Response) -> io::Result<()> {
    let version = match answer.version() {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    writeln!(out, "{version} {}\r", answer.status())?;
    for (name, value) in answer.headers() {
        write!(out, "{name}: ")?;
        out.write_all(value.as_bytes())?;
        writeln!(out, "\r")?;
    }
    writeln!(out, "\r")
}

/// The error in its own type, so that its exit code can be found, and without the address, which may hold a secret.
fn failed(error: reqwest_middleware::Error) -> eyre::Report {
    match error {
        reqwest_middleware::Error::Middleware(error) => match error.downcast::<ClientError>() {
            Ok(error) => match error.key() {
                Some(key) if error.retry() => {
                    let hint = hint(key);
                    eyre::Report::new(error).wrap_err(format!("not done{hint}"))
                }
                _ => error.into(),
            },
            Err(error) => eyre::eyre!("{error:#}"),
        },
        reqwest_middleware::Error::Reqwest(error) => {
            let error = error.without_url();
            if error.is_builder() {
                return eyre::Report::new(error); // no such request can be made
            }
            again(format!("{:#}", eyre::Report::new(error)))
        }
    }
}

fn hint(key: &str) -> String {
    format!("; the same call with --idempotency-key '{key}' is not paid again")
}
