//! The gateway's settings: a TOML file, and flags, which override it. Every flag is a key of the file.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use alloy::primitives::Address;
use clap::Args;
use eyre::WrapErr;
use gateway::route::Pattern;
use gateway::server::{
    AnswerLimits, Charge, GateConfig, Kinds, ListenLimits, Listing, RateLimits, Route, Service, Table,
};
use gateway::wire::MAX_BANKS;
use http::{Method, Uri};
use merchant::channel::{Accountability, ClosePolicy, VendorConfig};
use merchant::ticket::{ClaimPolicy, Price};
use protocol::channel::{self, WatchPolicy};
use protocol::ticket::{Amount, Policy, Seconds};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::exit::usage;
use crate::keys;
use crate::units::{Asset, parse_span};

/// Everything that a gateway is told. The part that has flags comes first.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The server whose answers are sold, e.g. http://127.0.0.1:3000
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Price of a request that no route names, e.g. 0.0001; without it such requests are free
    #[arg(long)]
    price: Option<String>,
    /// Where to be paid: an address, or the name of a key, which then claims, too
    #[arg(long, value_name = "ADDRESS|KEY")]
    pay_to: Option<String>,
    /// Key of the account that claims, if it is not that of pay-to: an operator of it
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Where to listen [default: 127.0.0.1:8402]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where the operator's page and metrics listen [default: 127.0.0.1:8403]
    #[arg(long, value_name = "HOST:PORT")]
    operator_listen: Option<String>,
    /// More host names under which the operator's page may be asked for
    #[arg(long, value_name = "HOST")]
    #[serde(skip_serializing_if = "Vec::is_empty")] // no flag is no setting
    pub(super) operator_hosts: Vec<String>,
    /// Where the merchant's store is: sqlite:PATH or postgres://… [default: a file in the home folder]
    #[arg(long, value_name = "URL")]
    pub(crate) storage: Option<String>,
    /// Lease of this process among others on one PostgreSQL database: so long may the database be away, and so long do the
    /// others wait for a dead one [default: 30s]
    #[arg(long, value_name = "SPAN")]
    lease: Option<String>,
    /// Token address [default: the native asset]
    #[arg(long)]
    asset: Option<Address>,
    /// Smallest prize to take [default: the highest price]
    #[arg(long)]
    min_prize: Option<String>,
    /// Largest prize to take [default: any]
    #[arg(long)]
    max_prize: Option<String>,
    /// Most unclaimed wins of one payer [default: any number]
    #[arg(long)]
    pub(crate) exposure: Option<u32>,
    /// Accept tickets while the view of the chain is at most this old [default: 15m]
    #[arg(long, value_name = "SPAN")]
    max_mirror_age: Option<String>,
    /// Claim as soon as so many winners wait [default: 32]
    #[arg(long)]
    claim_batch: Option<usize>,
    /// Claim winners at this age at the latest [default: 6h]
    #[arg(long, value_name = "SPAN")]
    claim_age: Option<String>,
    /// Send a claim again with a higher fee after this [default: 1m]
    #[arg(long, value_name = "SPAN")]
    bump_after: Option<String>,
    /// How often to look at the chain, milliseconds [default: 1000]
    #[arg(long)]
    poll_ms: Option<u64>,
    /// Sell by channel, too: a bank whose permits are taken; repeatable. More in the file, under `channels`
    #[arg(long, value_name = "ADDRESS|KEY")]
    #[serde(skip_serializing_if = "Vec::is_empty")] // no flag is no setting
    bank: Vec<String>,
    /// Requests per second of one address [default: any number]
    #[arg(long, value_name = "N")]
    per_ip: Option<NonZeroU32>,
    /// Paid requests per second of one payer [default: any number]
    #[arg(long, value_name = "N")]
    per_payer: Option<NonZeroU32>,
    /// Longest wait for the upstream's first byte [default: 60s]
    #[arg(long, value_name = "SPAN")]
    upstream_timeout: Option<String>,
    /// Let scripts of other origins pay and read [default: true]
    #[arg(long, value_name = "BOOL")]
    cors: Option<bool>,
    /// The last address of X-Forwarded-For is the client's: only behind a proxy of your own [default: false]
    #[arg(long, value_name = "BOOL")]
    behind_proxy: Option<bool>,
    /// The price list; the first line that matches decides.
    #[arg(skip)]
    #[serde(skip_serializing)]
    route: Vec<RouteSetting>,
    #[arg(skip)]
    #[serde(skip_serializing)]
    service: ServiceSetting,
    #[arg(skip)]
    #[serde(skip_serializing)]
    limits: LimitSettings,
    #[arg(skip)]
    #[serde(skip_serializing)]
    channels: ChannelSettings,
}

/// A line of the price list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteSetting {
    /// A glob over paths. Either this or `regex`.
    path: Option<String>,
    /// A regular expression over paths.
    regex: Option<String>,
    /// Methods; any if absent.
    #[serde(default)]
    methods: Vec<String>,
    price: Option<String>,
    #[serde(default)]
    free: bool,
    /// What it can be paid with, `ticket` and `channel`; everything that is sold by if absent.
    kinds: Option<Vec<KindSetting>>,
    description: Option<String>,
}

/// A kind of payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindSetting {
    Ticket,
    Channel,
}

/// How the seller calls its service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServiceSetting {
    name: String,
    description: String,
}

/// How to sell by channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ChannelSettings {
    /// Whose permits are taken; the same as `bank`.
    banks: Vec<String>,
    /// No payment is taken, and every channel is closed, this long before it expires.
    margin: Option<String>,
    /// Most units that one payment may pay.
    max_jump: Option<u32>,
    /// Units after which an accountable client brings the next checkpoint.
    checkpoint_every: Option<u32>,
    /// Clients sign for their locks.
    accountable: bool,
    /// What one channel may have paid and not settled.
    max_unsettled: Option<String>,
    /// A channel without a payment for so long is closed.
    max_idle: Option<String>,
}

/// What selling by channel is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelTerms {
    pub(super) vendor: VendorConfig,
    pub(super) closes: ClosePolicy,
}

/// Bounds; see the gateway's documentation for the defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitSettings {
    body_bytes: Option<u64>,
    header_bytes: Option<usize>,
    connections: Option<usize>,
    header_timeout: Option<String>,
    body_idle: Option<String>,
    write_idle: Option<String>,
    calls: Option<usize>,
    drain: Option<String>,
    answers_bytes: Option<u64>,
    answer_bytes: Option<usize>,
    answers_keep: Option<String>,
}

impl Settings {
    /// The file's settings, overridden by the flags.
    pub(super) fn load(file: Option<&Path>, flags: &Self) -> eyre::Result<Self> {
        let Some(file) = file else {
            return Ok(flags.clone());
        };
        let text = std::fs::read_to_string(file).wrap_err_with(|| file.display().to_string())?;
        let wrong = |error: toml::de::Error| usage(format!("{}: {error}", file.display()));
        // Read by itself first: then a mistake has a line number.
        let own: Self = toml::from_str(&text).map_err(wrong)?;
        let mut table: toml::Table = toml::from_str(&text).map_err(wrong)?;
        table.extend(toml::Table::try_from(flags)?);
        let merged: Self = table.try_into().map_err(wrong)?;
        Ok(Self {
            route: own.route,
            ..merged
        })
    }

    /// Whether all of it makes sense.
    pub(super) fn validate(&self, asset: &Asset, config: &Config) -> eyre::Result<()> {
        self.upstream()?;
        self.max_mirror_age()?;
        self.lease()?;
        self.bump_after()?;
        self.claim_policy()?;
        self.claims_from(config)?;
        self.channels(asset, config)?;
        self.gate()?;
        self.listen_limits()?;
        self.listing(asset).map(drop)
    }

    pub(super) fn pay_to(&self) -> eyre::Result<&str> {
        self.pay_to
            .as_deref()
            .ok_or_else(|| usage("where to be paid? --pay-to ADDRESS, or the name of a key"))
    }

    pub(super) fn upstream(&self) -> eyre::Result<Uri> {
        let text = self
            .upstream
            .as_deref()
            .ok_or_else(|| usage("whose answers are sold? --upstream URL"))?;
        text.parse()
            .map_err(|error| usage(format!("upstream {text:?}: {error}")))
    }

    pub(super) fn asset(&self) -> Address {
        self.asset.unwrap_or_default()
    }

    /// The key that claims: named, or that of pay-to where that names one.
    pub(super) fn claims_from(&self, config: &Config) -> eyre::Result<Option<String>> {
        let own = self.pay_to.clone().filter(|name| !name.starts_with("0x"));
        let name = self.from.clone().or(own);
        if let Some(name) = &name {
            keys::address(config, name)?;
        }
        Ok(name)
    }

    pub(super) fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or("127.0.0.1:8402")
    }

    pub(super) fn operator_listen(&self) -> &str {
        self.operator_listen.as_deref().unwrap_or("127.0.0.1:8403")
    }

    pub(super) fn poll_ms(&self) -> u64 {
        self.poll_ms.unwrap_or(1000)
    }

    pub(super) fn max_mirror_age(&self) -> eyre::Result<Seconds> {
        span(
            "max-mirror-age",
            self.max_mirror_age.as_deref(),
            Policy::default().max_mirror_age,
        )
    }

    pub(super) fn lease(&self) -> eyre::Result<Duration> {
        let lease = duration("lease", self.lease.as_deref(), Duration::from_secs(30))?;
        if lease.is_zero() {
            return Err(usage("lease: a process with a lease of 0s is always dead"));
        }
        Ok(lease)
    }

    pub(super) fn bump_after(&self) -> eyre::Result<Seconds> {
        span("bump-after", self.bump_after.as_deref(), Seconds::MINUTE)
    }

    pub(super) fn claim_policy(&self) -> eyre::Result<ClaimPolicy> {
        let default = ClaimPolicy::default();
        let age = span(
            "claim-age",
            self.claim_age.as_deref(),
            Seconds(default.max_age_secs),
        )?;
        Ok(ClaimPolicy {
            batch: self.claim_batch.unwrap_or(default.batch),
            max_age_secs: age.0,
            wei_per_unit: (self.asset() == Address::ZERO).then_some(1),
            ..default
        })
    }

    /// How to sell by channel, if a bank is named.
    pub(super) fn channels(&self, asset: &Asset, config: &Config) -> eyre::Result<Option<ChannelTerms>> {
        let (own, policy, closes) = (&self.channels, channel::Policy::default(), ClosePolicy::default());
        let banks = self.bank.iter().chain(&own.banks);
        let banks: Vec<Address> = banks
            .map(|bank| keys::address_or_name(config, bank))
            .collect::<eyre::Result<_>>()?;
        if banks.is_empty() {
            return Ok(None);
        }
        if banks.len() > MAX_BANKS {
            return Err(usage(format!(
                "{} banks are named, a 402 has room for {MAX_BANKS}",
                banks.len()
            )));
        }
        let accountability = match (own.accountable, own.checkpoint_every) {
            (false, None) => Accountability::Welcome,
            (true, None) => Accountability::REQUIRED,
            (true, Some(every)) if every > 0 => Accountability::Required { every },
            (true, Some(every)) => {
                return Err(usage(format!(
                    "channels.checkpoint_every is at least 1, got {every}"
                )));
            }
            (false, Some(every)) => {
                return Err(usage(format!(
                    "channels.checkpoint_every = {every} asks for checkpoints, which only accountable = true can"
                )));
            }
        };
        let margin = span("channels.margin", own.margin.as_deref(), policy.margin)?;
        let max_unsettled = own.max_unsettled.as_deref();
        let max_idle = own.max_idle.as_deref();
        Ok(Some(ChannelTerms {
            vendor: VendorConfig {
                policy: channel::Policy {
                    banks,
                    margin,
                    max_jump: own.max_jump.unwrap_or(policy.max_jump),
                    max_mirror_age: self.max_mirror_age()?,
                    ..policy
                },
                accountability,
                ..VendorConfig::default()
            },
            closes: ClosePolicy {
                watch: WatchPolicy {
                    margin,
                    max_unsettled: max_unsettled.map_or(Ok(Amount::MAX), |text| asset.parse(text))?,
                    max_idle: max_idle
                        .map(|text| span("channels.max_idle", Some(text), Seconds::DAY))
                        .transpose()?,
                    ..closes.watch
                },
                ..closes
            },
        }))
    }

    pub(super) fn gate(&self) -> eyre::Result<GateConfig> {
        let (default, limits) = (GateConfig::default(), &self.limits);
        Ok(GateConfig {
            body_bytes: limits.body_bytes.unwrap_or(default.body_bytes),
            upstream_timeout: duration(
                "upstream-timeout",
                self.upstream_timeout.as_deref(),
                default.upstream_timeout,
            )?,
            calls: limits.calls.unwrap_or(default.calls),
            answers: AnswerLimits {
                total_bytes: limits.answers_bytes.unwrap_or(default.answers.total_bytes),
                answer_bytes: limits.answer_bytes.unwrap_or(default.answers.answer_bytes),
                keep: duration(
                    "limits.answers_keep",
                    limits.answers_keep.as_deref(),
                    default.answers.keep,
                )?,
            },
            cors: self.cors.unwrap_or(default.cors),
            behind_proxy: self.behind_proxy.unwrap_or(default.behind_proxy),
        })
    }

    pub(super) fn listen_limits(&self) -> eyre::Result<ListenLimits> {
        let (default, limits) = (ListenLimits::default(), &self.limits);
        let header = limits.header_timeout.as_deref();
        Ok(ListenLimits {
            connections: limits.connections.unwrap_or(default.connections),
            header_timeout: duration("limits.header_timeout", header, default.header_timeout)?,
            header_bytes: limits.header_bytes.unwrap_or(default.header_bytes),
            body_idle: duration("limits.body_idle", limits.body_idle.as_deref(), default.body_idle)?,
            write_idle: duration(
                "limits.write_idle",
                limits.write_idle.as_deref(),
                default.write_idle,
            )?,
            drain: duration("limits.drain", limits.drain.as_deref(), default.drain)?,
        })
    }

    /// The price list with its documents and rates.
    pub(super) fn listing(&self, asset: &Asset) -> eyre::Result<Listing> {
        let service = Service {
            name: self.service.name.clone(),
            description: self.service.description.clone(),
        };
        let rates = RateLimits {
            per_ip: self.per_ip,
            per_payer: self.per_payer,
        };
        Ok(Listing::new(&service, self.table(asset)?, rates))
    }

    /// The price list.
    pub(super) fn table(&self, asset: &Asset) -> eyre::Result<Table> {
        let mut prices = Vec::new();
        for text in self
            .route
            .iter()
            .filter_map(|route| route.price.as_ref())
            .chain(&self.price)
        {
            prices.push(asset.parse(text)?);
        }
        let highest = prices.iter().copied().max().unwrap_or(Amount(1));
        let bound =
            |text: &Option<String>, default| text.as_deref().map_or(Ok(default), |text| asset.parse(text));
        let (min_prize, max_prize) = (
            bound(&self.min_prize, highest)?,
            bound(&self.max_prize, Amount::MAX)?,
        );
        let charge = |text: &str| -> eyre::Result<Charge> {
            let price = Price {
                asset: asset.address,
                price: asset.parse(text)?,
                min_prize,
                max_prize,
            };
            price
                .check()
                .map_err(|error| usage(format!("price {text}: {error}")))?;
            Ok(Charge::Price(price))
        };
        let mut routes = Vec::new();
        for route in &self.route {
            let charge = match (&route.price, route.free) {
                (Some(price), false) => charge(price)?,
                (None, true) => Charge::Free,
                _ => {
                    return Err(usage(format!(
                        "route {}: either price or free = true",
                        route.name()
                    )));
                }
            };
            let kinds = route.kinds(self.sold_by())?;
            for pattern in route.patterns()? {
                routes.push(Route {
                    pattern,
                    charge,
                    description: route.description.clone(),
                    kinds,
                });
            }
        }
        let default = self.price.as_deref().map_or(Ok(Charge::Free), charge)?;
        if default == Charge::Free && routes.iter().all(|route| route.charge == Charge::Free) {
            return Err(usage("nothing has a price: --price, or a route with one"));
        }
        Ok(Table::new(routes, default))
    }

    /// Tickets always, channels where a bank is named.
    fn sold_by(&self) -> Kinds {
        Kinds {
            ticket: true,
            channel: !(self.bank.is_empty() && self.channels.banks.is_empty()),
        }
    }

    /// What people are told of the prices.
    pub(super) fn price_text(&self, asset: &Asset) -> String {
        let listed = self.route.iter().filter(|route| route.price.is_some()).count();
        let default = self.price.as_ref().map_or("free".to_owned(), |price| {
            let price = asset.parse(price).map(|price| asset.show(price));
            format!("{} a request", price.unwrap_or_default()) // it was read before
        });
        match listed {
            0 => default,
            _ => format!("{default}, {listed} routes with prices of their own"),
        }
    }
}

impl RouteSetting {
    /// What it can be paid with.
    fn kinds(&self, sold_by: Kinds) -> eyre::Result<Kinds> {
        let Some(named) = &self.kinds else {
            return Ok(Kinds::ALL);
        };
        let kinds = Kinds {
            ticket: named.contains(&KindSetting::Ticket),
            channel: named.contains(&KindSetting::Channel),
        };
        if kinds.and(sold_by).is_empty() {
            return Err(usage(format!(
                "route {}: kinds names nothing that this gateway sells by",
                self.name()
            )));
        }
        Ok(kinds)
    }

    fn name(&self) -> &str {
        self.path
            .as_deref()
            .or(self.regex.as_deref())
            .unwrap_or("without a path")
    }

    fn patterns(&self) -> eyre::Result<Vec<Pattern>> {
        let path = match (&self.path, &self.regex) {
            (Some(path), None) => path.clone(),
            (None, Some(regex)) => format!("~{regex}"),
            _ => return Err(usage(format!("route {}: either path or regex", self.name()))),
        };
        let pattern = |method| Pattern::new(method, &path).map_err(|error| usage(error.to_string()));
        if self.methods.is_empty() {
            return Ok(vec![pattern(None)?]);
        }
        let method = |name: &String| {
            let method: Method = name
                .parse()
                .map_err(|_| usage(format!("route {path}: {name:?} is not an HTTP method")))?;
            pattern(Some(method))
        };
        self.methods.iter().map(method).collect()
    }
}

fn span(name: &str, text: Option<&str>, default: Seconds) -> eyre::Result<Seconds> {
    text.map_or(Ok(default), |text| {
        parse_span(text).map_err(|error| usage(format!("{name}: {error}")))
    })
}

fn duration(name: &str, text: Option<&str>, default: Duration) -> eyre::Result<Duration> {
    span(name, text, Seconds(default.as_secs())).map(|seconds| Duration::from_secs(seconds.0))
}
