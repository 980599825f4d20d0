//! `micropay serve`: a reverse proxy that charges. The gate, its upstream, the merchant behind it, and the signals that
//! people send it.

mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, keccak256};
use clap::Args;
use eyre::{WrapErr, bail};
use gateway::server::operator::{self, Facts, Live};
use gateway::server::{Gate, GateLayer, ListenLimits, Upstream, UpstreamLimits, listen};
use gateway::wire::ChallengeKey;
use merchant::channel::Accountability;
use protocol::ticket::{Amount, Policy, Seed};
use serde_json::{Value, json};
use storage::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tower::Layer;
use tracing::{error, info, warn};

use crate::business::{Business, ChannelSetup, Setup};
use crate::channel::Asks;
use crate::config::Config;
use crate::output::{Output, count, rows, span};
use crate::stores::{self, Locked, Place};
use crate::units::Asset;
use crate::{clock, keys};
use settings::{ChannelTerms, Settings};

/// What to sell, for how much, and to whose benefit.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// File with settings (TOML); flags override it. See docs/gateway.md
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: Settings,
    /// Check the settings, say what they mean, and stop
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(serve: &Serve, config: &Config, out: Output) -> eyre::Result<()> {
    let settings = Settings::load(serve.file.as_deref(), &serve.flags)?;
    let recipient = keys::address_or_name(config, settings.pay_to()?)?;
    let asset = asset(&settings, config).await?;
    if serve.check {
        return check(&settings, &asset, config, recipient, out);
    }
    // What is wrong with the settings is said first, whoever has the lock.
    settings.validate(&asset, config)?;
    // Before the lock, which tells others to send it: unheard, it would end the process.
    let signals = Signals::new()?;
    let domain = config.domain().await?;
    match Place::of(settings.storage.as_deref(), &config.home, domain, recipient)? {
        Place::Database(url) => {
            let lease = settings.lease()?;
            let store = stores::merchant_in(&url, domain, recipient).await?;
            Shop::open(serve, config, settings, recipient, store, Some(lease), out)
                .await?
                .run(signals)
                .await
        }
        Place::File(path) => {
            let _lock = match stores::lock_merchant(&config.home, domain, recipient)? {
                Locked::Ours(lock) => lock,
                Locked::Held { pid } => {
                    let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                    bail!("another process of merchant {recipient} is running{pid}")
                }
            };
            let store = stores::merchant_at(&path, domain, recipient).await?;
            Shop::open(serve, config, settings, recipient, store, None, out)
                .await?
                .run(signals)
                .await
        }
    }
}

async fn asset(settings: &Settings, config: &Config) -> eyre::Result<Asset> {
    let address = settings.asset();
    if address == Address::ZERO {
        return Ok(Asset::ether());
    }
    Ok(Asset::read(&config.connect().await?, address).await?)
}

fn check(
    settings: &Settings,
    asset: &Asset,
    config: &Config,
    recipient: Address,
    out: Output,
) -> eyre::Result<()> {
    settings.validate(asset, config)?;
    let table = settings.table(asset)?;
    let charge = |route: &gateway::server::Route| match route.charge {
        gateway::server::Charge::Free => "free".to_owned(),
        gateway::server::Charge::Price(price) => asset.show(price.price),
    };
    let routes: Vec<(String, String)> = table
        .routes()
        .iter()
        .map(|route| (route.pattern.to_string(), charge(route)))
        .collect();
    let channels = settings.channels(asset, config)?;
    let value = json!({
        "ok": true, "pay_to": recipient, "asset": asset.address,
        "routes": routes.iter().map(|(pattern, price)| json!({ "route": pattern, "price": price })).collect::<Vec<_>>(),
        "channels": channels.as_ref().map(describe_channels),
    });
    let mut lines = vec![("pay to", recipient.to_string())];
    if let Some(channels) = &channels {
        lines.push(("channels", channels_text(channels, asset)));
    }
    lines.extend(
        routes
            .iter()
            .map(|(pattern, price)| (pattern.as_str(), price.clone())),
    );
    out.answer(&value, rows(&lines))
}

fn describe_channels(channels: &ChannelTerms) -> Value {
    let (policy, watch) = (&channels.vendor.policy, &channels.closes.watch);
    json!({
        "banks": policy.banks, "margin": policy.margin.0, "maxJump": policy.max_jump,
        "accountable": matches!(channels.vendor.accountability, Accountability::Required { .. }),
        "checkpointEvery": match channels.vendor.accountability {
            Accountability::Required { every } => Some(every),
            Accountability::Welcome => None,
        },
        "maxUnsettled": (watch.max_unsettled != Amount::MAX).then(|| watch.max_unsettled.0.to_string()),
        "maxIdle": watch.max_idle.map(|idle| idle.0),
    })
}

fn channels_text(channels: &ChannelTerms, asset: &Asset) -> String {
    let (policy, watch) = (&channels.vendor.policy, &channels.closes.watch);
    let banks: Vec<_> = policy.banks.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "of {}; closed {} before they expire",
        banks.join(", "),
        span(policy.margin.0)
    );
    if watch.max_unsettled != Amount::MAX {
        text.push_str(&format!(", settled at {}", asset.show(watch.max_unsettled)));
    }
    if let Some(idle) = watch.max_idle {
        text.push_str(&format!(", closed after {} without a payment", span(idle.0)));
    }
    if let Accountability::Required { every } = channels.vendor.accountability {
        text.push_str(&format!(
            ", clients sign for their locks every {}",
            count(every, "unit")
        ));
    }
    text
}

/// What people tell a running gateway.
struct Signals {
    reload: Signal,
    claim: Signal,
    stop: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            claim: signal(SignalKind::user_defined1())?,
            stop: signal(SignalKind::terminate())?,
        })
    }
}

/// A gateway at work.
struct Shop<S> {
    business: Business<S>,
    gate: Arc<Gate<S>>,
    listener: TcpListener,
    operator: TcpListener,
    facts: Facts,
    upstream: Upstream,
    settings: Settings,
    reload: Option<PathBuf>,
    flags: Settings,
    asset: Asset,
    asks: Asks,
}

impl<S: Store> Shop<S> {
    async fn open(
        serve: &Serve,
        config: &Config,
        settings: Settings,
        recipient: Address,
        store: S,
        lease: Option<Duration>,
        out: Output,
    ) -> eyre::Result<Self> {
        let client = config.connect().await?;
        let asset = Asset::read(&client, settings.asset()).await?;
        let account = settings
            .claims_from(config)?
            .map(|name| keys::account(config, &name))
            .transpose()?;
        if account.is_none() {
            warn!("no key to claim with: winners are kept, and claimed by a process that has --from KEY");
        }
        let setup = Setup {
            recipient,
            account,
            policy: Policy {
                max_mirror_age: settings.max_mirror_age()?,
                exposure_cap: settings.exposure,
                ..Policy::default()
            },
            claims: settings.claim_policy()?,
            bump_after: settings.bump_after()?,
            finality: config.finality()?,
            pause: Duration::from_millis(settings.poll_ms()),
            lease,
            channels: match settings.channels(&asset, config)? {
                None => None,
                Some(terms) => Some(ChannelSetup {
                    client: config.connect_channels().await?,
                    vendor: terms.vendor,
                    closes: terms.closes,
                }),
            },
        };
        let listing = settings.listing(&asset)?;
        let gate_config = settings.gate()?;
        let limits = UpstreamLimits {
            connect: gate_config.upstream_timeout.min(Duration::from_secs(10)),
            idle: gate_config.upstream_timeout,
            body_bytes: gate_config.body_bytes,
        };
        let upstream = Upstream::new(&settings.upstream()?, limits)?;
        let address = settings.listen();
        let listener = TcpListener::bind(address)
            .await
            .wrap_err_with(|| address.to_owned())?;
        let operator = settings.operator_listen();
        let operator = TcpListener::bind(operator)
            .await
            .wrap_err_with(|| operator.to_owned())?;
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            url: format!("http://{}", listener.local_addr()?),
            upstream: settings.upstream()?.to_string(),
            recipient,
            contract: client.contract(),
            chain_id: client.domain().chain_id(),
            asset: operator::Asset {
                address: asset.address,
                symbol: asset.symbol.clone(),
                decimals: asset.decimals,
            },
            max_mirror_age: setup.policy.max_mirror_age,
        };
        let business = Business::open(setup, client, store).await?;
        let seed = business
            .store
            .seed_or_insert(Seed::new(clock::random().0))
            .await?;
        // The same for all processes of a merchant, so that a challenge of one can be answered at another.
        let key = keccak256([b"micropay/challenge/v1".as_slice(), seed.expose()].concat());
        let gate = Gate::new(
            business.sellers(),
            listing,
            gate_config,
            ChallengeKey::new(key.0),
            clock::now,
        );
        let shop = Self {
            business,
            gate,
            listener,
            operator,
            facts,
            upstream,
            settings,
            reload: serve.file.clone(),
            flags: serve.flags.clone(),
            asset,
            asks: Asks::of(&stores::merchant_file(
                &config.home,
                config.domain().await?,
                recipient,
            )?),
        };
        shop.announce(recipient, out)?;
        Ok(shop)
    }

    /// A line that tells programs where to connect to, and people that it works.
    fn announce(&self, recipient: Address, out: Output) -> eyre::Result<()> {
        let address: SocketAddr = self.listener.local_addr()?;
        let upstream = self.settings.upstream()?.to_string();
        let operator = self.operator.local_addr()?;
        let price = self.settings.price_text(&self.asset);
        let value = json!({
            "listening": address.to_string(), "recipient": recipient, "upstream": upstream,
            "operator": operator.to_string(),
        });
        out.answer(
            &value,
            rows(&[
                ("selling", upstream),
                ("at", format!("http://{address}")),
                ("for", price),
                ("paid to", recipient.to_string()),
                ("operator's page", format!("http://{operator}")),
            ]),
        )
    }

    async fn run(mut self, mut signals: Signals) -> eyre::Result<()> {
        let (stop, stopped) = watch::channel(());
        let service = GateLayer::new(Arc::clone(&self.gate)).layer(self.upstream.clone());
        let limits = self.settings.listen_limits()?;
        let mut wait = stopped.clone();
        let mut server = tokio::spawn(listen(self.listener, service, limits, async move {
            // An error means that the sender is gone, which is a stop, too.
            let _ = wait.changed().await;
        }));
        let page = operator::router(
            Live {
                facts: self.facts,
                counters: Arc::clone(self.gate.counters()),
                store: self.business.store.clone(),
                mirror: Arc::clone(self.business.merchant.mirror()),
                channels: self
                    .business
                    .vendor
                    .as_ref()
                    .map(|vendor| Arc::clone(vendor.mirror())),
                clock: clock::now,
            },
            self.settings.operator_hosts.clone(),
        );
        let mut wait = stopped;
        let page = tokio::spawn(listen(self.operator, page, ListenLimits::default(), async move {
            let _ = wait.changed().await;
        }));
        let mut look = tokio::time::interval(Duration::from_secs(1));
        let ended = loop {
            tokio::select! {
                _ = look.tick() => match self.business.merchant.ready() {
                    Ok(()) => self.gate.counters().resume(),
                    Err(error) => self.gate.counters().pause(error),
                },
                ended = self.business.tasks.join_next() => {
                    break Err(ended.expect("tasks run for ever")?);
                }
                ended = &mut server => { ended?; break Ok(()); }
                _ = signals.claim.recv() => claim(&self.business, &self.asks).await,
                _ = signals.reload.recv() => reload(&self.gate, self.reload.as_deref(), &self.flags, &self.asset),
                _ = signals.stop.recv() => break Ok(()),
                _ = tokio::signal::ctrl_c() => break Ok(()),
            }
        };
        drop(stop);
        page.abort();
        if !server.is_finished()
            && let Err(error) = server.await
        {
            error!(%error, "the server failed");
        }
        if let Err(error) = self.business.merchant.leave().await {
            warn!(%error, "could not say that this process leaves");
        }
        ended
    }
}

/// Claims winners and settles channels: those that were named, or all.
async fn claim<S: Store>(business: &Business<S>, asks: &Asks) {
    let Some(claimer) = &business.claimer else {
        warn!("asked to claim, but there is no key to claim with");
        return;
    };
    match (asks.take(), &business.closer) {
        (Ok(named), Some(closer)) if !named.is_empty() => {
            for (channel, step) in named {
                info!(%channel, %step, "asked for");
                closer.ask(channel, step);
            }
        }
        (Ok(_), _) => {
            claimer.ask();
            if let Err(error) = business.settle_all().await {
                warn!(%error, "cannot settle channels now");
            }
        }
        (Err(error), _) => error!(%error, "cannot read what is asked for"),
    }
}

/// Reads the settings again. Prices, free routes, documents and rates change at once; the rest takes a restart.
fn reload<S: Store>(gate: &Gate<S>, file: Option<&Path>, flags: &Settings, asset: &Asset) {
    let listing = Settings::load(file, flags).and_then(|settings| settings.listing(asset));
    match listing {
        Ok(listing) => {
            gate.set_listing(listing);
            info!("the price list was read again");
        }
        // A mistake in the file must not stop the sale.
        Err(error) => error!(%error, "the price list stays as it was"),
    }
}
