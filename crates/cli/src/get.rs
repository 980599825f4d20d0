//! `micropay get`: a curl that pays. The body goes to standard output or a file as it comes; what was paid goes to standard
//! error. Killed and started again with the same `--idempotency-key`, it pays nothing twice.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use chain::At;
use clap::{Args, ValueEnum};
use eyre::WrapErr;
use gateway::client::{Budgets, Builder, ChannelPolicy, Client, ClientError, Kind, Paid, Proof, WouldPay};
use gateway::wire::{Contracts, Offers, PAYMENT_REQUIRED, TermsError, read_required};
use payer::channel::{self as channels, ChannelPayer, Checkpoints};
use payer::ticket::{Edges, LimitError, Limits, PayError, Payer};
use protocol::channel::{ChannelId, Key};
use protocol::ticket::{Amount, EscrowRecord, QuoteError, UnitError, WinThreshold};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Version};
use reqwest_middleware::ClientWithMiddleware;
use serde_json::{Value, json};
use storage::channel::{ClientChannelFilter, ClientChannelRecord, ClientChannelStore};
use storage::{SqliteStore, StoreError};
use url::Url;

use crate::channel::{client_channel, client_store, key_of};
use crate::config::Config;
use crate::exit::{self, again, refused, usage};
use crate::output::{Output, count};
use crate::units::Asset;
use crate::{clock, keys, stores};

/// Longest wait for a connection, where nothing is paid.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of such an answer.
const READ_LIMIT: Duration = Duration::from_secs(60);

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
    match means(get, config, channels).await? {
        Means::Some(client, money) => fetch(get, &client, &money, out).await,
        Means::None(missing) => fetch_free(get, config, missing, out).await,
    }
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
    match means(get, config, Some(purse)).await? {
        Means::Some(client, money) => fetch(get, &client, &money, out).await,
        Means::None(missing) => Err(missing),
    }
}

async fn fetch(get: &Get, client: &Client, money: &Money, out: Output) -> eyre::Result<ExitCode> {
    let answer = request(get, client)?.send().await;
    let answer = answer.map_err(|error| failed(error, &get.url, money))?;
    if let Some(would) = answer.extensions().get() {
        return say_would(would, &money.asset, out);
    }
    finish(get, answer, &money.asset, out).await
}

/// Asks without anything to pay with: what is free is had, and only where a payment is asked for does it matter what is
/// missing.
async fn fetch_free(
    get: &Get,
    config: &Config,
    missing: eyre::Report,
    out: Output,
) -> eyre::Result<ExitCode> {
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(READ_LIMIT)
        .build()?;
    let http = reqwest_middleware::ClientBuilder::new(http).build();
    let money = Money {
        asset: Asset::ether(),
        escrow: None,
    };
    let answer = request(get, &http)?.send().await;
    let answer = answer.map_err(|error| failed(error, &get.url, &money))?;
    let terms = answer.headers().get(PAYMENT_REQUIRED);
    let terms = terms.filter(|_| answer.status() == StatusCode::PAYMENT_REQUIRED);
    let Some(terms) = terms.and_then(|terms| terms.to_str().ok()) else {
        return finish(get, answer, &money.asset, out).await;
    };
    if !get.dry_run {
        return Err(missing);
    }
    let contracts = Contracts {
        ticket: Some(config.domain().await?),
        channel: Some(config.channel_domain().await?),
    };
    let offers = read_required(terms, contracts)?;
    let Some(would) = asked_for(get, offers) else {
        return Err(missing);
    };
    let asset = if would.asset == Address::ZERO {
        Asset::ether()
    } else {
        Asset::read(&config.connect_before_deploy().await?, would.asset).await?
    };
    say_would(&would, &asset, out)
}

/// What these offers ask for, from anybody.
fn asked_for(get: &Get, offers: Offers) -> Option<WouldPay> {
    let ticket = offers.ticket.map(|terms| WouldPay {
        kind: Kind::Ticket,
        price: Amount(terms.amount),
        asset: terms.asset,
        recipient: terms.pay_to,
        route: terms.extra.route,
        channel: None,
    });
    let channel = offers.channel.map(|terms| WouldPay {
        kind: Kind::Channel,
        price: Amount(terms.amount),
        asset: terms.asset,
        recipient: terms.pay_to,
        route: terms.extra.route,
        channel: None,
    });
    match get.pay_with {
        PayWith::Auto => ticket.or(channel),
        PayWith::Ticket => ticket,
        PayWith::Channel => channel,
    }
}

fn say_would(would: &WouldPay, asset: &Asset, out: Output) -> eyre::Result<ExitCode> {
    let value = json!({
        "wouldPay": { "price": would.price.0.to_string(), "recipient": would.recipient, "asset": would.asset,
            "kind": would.kind.intent(), "route": would.route, "channel": would.channel.map(|channel| channel.0) },
    });
    let way = match (would.kind, would.channel) {
        (Kind::Ticket, _) => "by ticket".to_owned(),
        (Kind::Channel, None) => "over a channel".to_owned(),
        (Kind::Channel, Some(channel)) => format!("over channel {channel}"),
    };
    let (price, recipient, route) = (asset.show(would.price), would.recipient, &would.route);
    out.answer(
        &value,
        format!("would pay {price} to {recipient} for {route}, {way}"),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the answer, and says what it cost.
async fn finish(get: &Get, answer: Response, asset: &Asset, out: Output) -> eyre::Result<ExitCode> {
    let status = answer.status();
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
            let paid_when = if paid.before { "paid before:" } else { "paid" };
            format!(
                "{paid_when} {price} to {recipient} ({requests}, {}{unsure})",
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
        "acknowledged": paid.acknowledged, "before": paid.before,
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
    /// Those of the receipt key, if there are any.
    async fn open(get: &Get, config: &Config) -> eyre::Result<Option<Self>> {
        let name = get.receipts.as_deref().unwrap_or(&config.receipts);
        let Ok(signer) = keys::address(config, name) else {
            return Ok(None);
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

/// What there is to pay with.
enum Means {
    Some(Client, Box<Money>),
    /// Nothing. The error, should it be needed.
    None(eyre::Report),
}

/// What amounts are of.
struct Money {
    asset: Asset,
    escrow: Option<EscrowRecord>,
}

async fn means(get: &Get, config: &Config, channels: Option<Purse>) -> eyre::Result<Means> {
    if channels.is_none() && (get.pay_with == PayWith::Channel || get.receipts.is_some()) {
        let name = get.receipts.as_deref().unwrap_or(&config.receipts);
        return Ok(Means::None(usage(format!(
            "no channel to pay with whose receipts the key {name:?} signs: micropay channel open"
        ))));
    }
    let only = channels.as_ref().is_some_and(|channels| channels.only.is_some());
    let escrow = get.escrow.as_ref().or(config.escrow.as_ref());
    let escrow = escrow.filter(|_| !only && get.pay_with != PayWith::Channel);
    let (mut builder, money) = match (escrow, channels) {
        (Some(name), channels) => {
            let chain = config.connect().await?;
            let key = keys::escrow_key(config, name)?;
            let record = chain.escrow_of(key.address(), At::Latest).await?;
            let Some(record) = record else {
                let escrow = key.address();
                return Ok(Means::None(eyre::eyre!(
                    "there is no escrow {escrow} yet: micropay escrow open"
                )));
            };
            let asset = Asset::read(&chain, record.asset).await?;
            let limits = limits(get, config, &asset)?;
            let store = stores::payer(&config.home, chain.domain()).await?;
            let payer = Payer::new(
                chain.domain(),
                Arc::new(key),
                record.clone(),
                limits.clone(),
                store,
                edges(),
            );
            let builder = Client::builder(payer);
            // Amounts on the command line are of one asset.
            let builder = match channels.filter(|channels| channels.asset == asset.address) {
                Some(channels) => {
                    let (payer, policy) = channels.payer(config, &limits).await?;
                    builder.channels(payer, policy)
                }
                None => builder,
            };
            let escrow = Some(record);
            (builder, Money { asset, escrow })
        }
        (None, Some(channels)) => {
            let asset = channels.asset(config).await?;
            let limits = limits(get, config, &asset)?;
            let (payer, policy) = channels.payer(config, &limits).await?;
            let escrow = None;
            (Client::by_channels(payer, policy), Money { asset, escrow })
        }
        (None, None) => {
            return Ok(Means::None(usage(
                "no escrow to pay with: --escrow KEY, or escrow = \"KEY\" in the configuration; nor a channel: micropay \
                 channel open",
            )));
        }
    };
    builder = budgets(get, builder, &money.asset)?;
    if get.dry_run {
        builder = builder.dry_run();
    }
    if get.allow_plain_http {
        builder = builder.allow_plain_http();
    }
    Ok(Means::Some(builder.build()?, Box::new(money)))
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

fn request(get: &Get, client: &ClientWithMiddleware) -> eyre::Result<reqwest_middleware::RequestBuilder> {
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
    let mut head = Vec::new();
    if get.include {
        write_head(&mut head, &answer)?;
    }
    if !put(out, &head)? {
        return Ok(0);
    }
    let mut bytes = 0;
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                if !put(out, &chunk)? {
                    break;
                }
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

/// Writes; false if nobody reads it any more (`| head`), which is no error.
fn put(out: &mut dyn Write, bytes: &[u8]) -> io::Result<bool> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
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

/// The error in its own type, so that its exit code can be found, and without path and query of the address, which may hold
/// a secret.
fn failed(error: reqwest_middleware::Error, url: &Url, money: &Money) -> eyre::Report {
    match error {
        reqwest_middleware::Error::Middleware(error) => match error.downcast::<ClientError>() {
            Ok(error) => match (in_words(&error, money), error.key()) {
                (Some(words), _) => refused(words),
                (None, Some(key)) if error.retry() => {
                    let (origin, hint) = (origin(url), hint(key));
                    eyre::Report::new(error).wrap_err(format!("{origin}: not done{hint}"))
                }
                _ => error.into(),
            },
            Err(error) => eyre::eyre!("{error:#}"),
        },
        reqwest_middleware::Error::Reqwest(error) => {
            let origin = origin(error.url().unwrap_or(url));
            let error = error.without_url();
            if error.is_builder() {
                return eyre::Report::new(error); // no such request can be made
            }
            again(format!("{origin}: {:#}", eyre::Report::new(error)))
        }
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// What the libraries say in atomic units and thresholds, in whole units of the asset, with what helps. Only of refusals.
fn in_words(error: &ClientError, money: &Money) -> Option<String> {
    let show = |amount: &Amount| money.asset.show(*amount);
    let too_dear = |price, limit| {
        format!(
            "the price is {}, the limit is {} (--max-price)",
            show(price),
            show(limit)
        )
    };
    let spent = |error: &StoreError| match error {
        StoreError::OverBudget {
            account,
            spent,
            price,
            limit,
        } => Some(format!(
            "{account:?} has spent {} of {}; a price of {} is too much",
            show(spent),
            show(limit),
            show(price)
        )),
        _ => None,
    };
    match error {
        ClientError::Pay { cause, .. } => match cause {
            PayError::Limit(LimitError::PriceTooHigh { price, limit }) => Some(too_dear(price, limit)),
            PayError::Limit(LimitError::Quote(QuoteError::ThresholdAboveMax { got, max })) => {
                let escrow = money.escrow.as_ref()?;
                Some(too_likely(*got, *max, escrow.prize, &money.asset))
            }
            PayError::Store(error) => spent(error),
            _ => None,
        },
        ClientError::PayChannel { cause, .. } => match &**cause {
            channels::PayError::Limit(channels::LimitError::PriceTooHigh { price, limit }) => {
                Some(too_dear(price, limit))
            }
            channels::PayError::Store(error) => spent(error),
            _ => None,
        },
        ClientError::Terms { origin, cause } => match cause {
            TermsError::PrizeOutOfRange { prize, min, max } => {
                let most = if *max == Amount::MAX {
                    "with no upper limit".to_owned()
                } else {
                    format!("and at most {}", show(max))
                };
                Some(format!(
                    "{origin} takes tickets that win at least {}, {most}; those of this escrow win {}: open one with another \
                     --prize",
                    show(min),
                    show(prize)
                ))
            }
            TermsError::Unit(UnitError::PriceAbovePrize { price, prize }) => Some(format!(
                "{origin} asks {}, and a ticket of this escrow wins {}: open one with a larger --prize",
                show(price),
                show(prize)
            )),
            _ => None,
        },
        _ => None,
    }
}

/// A price that this escrow cannot pay, because its tickets may not win so often.
fn too_likely(got: WinThreshold, max: WinThreshold, prize: Amount, asset: &Asset) -> String {
    let odds = |threshold: WinThreshold| {
        let n = 1.0 / threshold.probability();
        format!("1 in {}", (n * 10.0).round() / 10.0)
    };
    // The next 1/N above it. A ticket wins once in 2 at most.
    let next = (1.0 / got.probability() - 1e-9).ceil() - 1.0;
    let helps = if next < 2.0 {
        "a larger --prize".to_owned()
    } else {
        format!("--rate 1/{next} or a larger --prize")
    };
    format!(
        "{} needs a ticket that wins {}; this escrow allows {}, so at most {} a call: open one with {helps}",
        asset.show(got.price(prize)),
        odds(got),
        odds(max),
        asset.show(max.price(prize)),
    )
}

fn hint(key: &str) -> String {
    format!("; the same call with --idempotency-key '{key}' is not paid again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_escrow_cannot_pay_is_said_with_what_helps() {
        let prize = Amount(10_000_000_000_000_000);
        let said = |price: u128, one_in| {
            let got = WinThreshold::for_price(Amount(price), prize).expect("a price");
            let max = WinThreshold::one_in(one_in).to_bound().expect("a bound");
            too_likely(got, max, prize, &Asset::ether())
        };
        assert_eq!(
            said(2_000_000_000_000_000, 16),
            "0.002 ETH needs a ticket that wins 1 in 5; this escrow allows 1 in 16, so at most 0.000625 ETH a call: open \
             one with --rate 1/4 or a larger --prize"
        );
        assert!(said(3_000_000_000_000_000, 128).contains("wins 1 in 3.3;"));
        assert!(said(3_000_000_000_000_000, 128).contains("--rate 1/3 or"));
        assert!(said(6_000_000_000_000_000, 16).ends_with("open one with a larger --prize"));
    }
}
