//! `micropay merchant`: sells a file over the local transport, follows the chain, claims winners. And the same in one
//! process for the demo.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use chain::{ChainClient, Finality, Follower, FollowerConfig, Sender, Start};
use clap::{Args, Subcommand};
use eyre::{WrapErr, bail};
use merchant::ticket::{
    ClaimPolicy, ClaimStepError, Claimer, FollowError, Merchant, Price, Step, follow, follow_once,
};
use protocol::ticket::{Amount, Policy, Seconds, Seed};
use serde_json::json;
use storage::{MirrorStore, SqliteStore};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::exit::refused;
use crate::output::Output;
use crate::shop::{Counts, Goods, Shop};
use crate::stores::{self, Locked};
use crate::units::{Asset, parse_span};
use crate::{clock, keys};

/// The merchant.
#[derive(Debug, Subcommand)]
pub(crate) enum MerchantCommand {
    /// Sell a file piece by piece, claim winners
    Run(Run),
    /// Forget the copy of the chain, to be read anew: the way out when a final block was reorganised away
    Resync {
        /// Address or key name of the merchant
        merchant: String,
    },
    /// Let another account claim for this merchant, or no longer
    Operator {
        /// Address or key name of the account that may claim
        operator: String,
        /// Take the right away
        #[arg(long)]
        revoke: bool,
        /// Key of the merchant's account
        #[arg(long, value_name = "KEY")]
        from: String,
    },
}

/// How to sell.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Key of the account that sends claims: the merchant, or an operator of it
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Where to be paid [default: the account of --from]
    #[arg(long, value_name = "ADDRESS|KEY")]
    pay_to: Option<String>,
    /// The file to sell
    #[arg(long)]
    file: PathBuf,
    /// Price of a piece of 1 KiB, e.g. 0.0001
    #[arg(long)]
    price: String,
    /// Smallest prize to take [default: the price]
    #[arg(long)]
    min_prize: Option<String>,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:4021")]
    listen: String,
    /// Token address [default: the native asset]
    #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
    asset: Address,
    /// Accept tickets while the view of the chain is at most this old
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "5m")]
    max_mirror_age: Seconds,
    /// Most unclaimed wins of one payer [default: any number]
    #[arg(long)]
    exposure: Option<u32>,
    /// Claim as soon as so many winners wait
    #[arg(long, default_value_t = 32)]
    claim_batch: usize,
    /// Claim winners at this age at the latest
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "6h")]
    claim_age: Seconds,
    /// Send a claim again with a higher fee after this
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "1m")]
    bump_after: Seconds,
    /// How often to look at the chain, milliseconds
    #[arg(long, default_value_t = 1000)]
    poll_ms: u64,
}

pub(crate) async fn run(command: &MerchantCommand, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        MerchantCommand::Run(run) => serve(run, config, out).await,
        MerchantCommand::Resync { merchant } => {
            let recipient = keys::address_or_name(config, merchant)?;
            let domain = config.domain().await?;
            let Locked::Ours(_lock) = stores::lock_merchant(&config.home, domain, recipient)? else {
                bail!("merchant {recipient} is running; stop it first");
            };
            stores::merchant(&config.home, domain, recipient)
                .await?
                .forget_mirror()
                .await?;
            out.answer(
                &json!({ "merchant": recipient, "forgotten": true }),
                "forgotten: the next start reads the chain anew",
            )
        }
        MerchantCommand::Operator {
            operator,
            revoke,
            from,
        } => {
            let client = config.connect().await?;
            let operator = keys::address_or_name(config, operator)?;
            let sender = Sender::new(client, keys::account(config, from)?);
            set_operator(&sender, operator, !revoke).await?;
            let value = json!({ "recipient": sender.address(), "operator": operator, "approved": !revoke });
            out.answer(
                &value,
                format!(
                    "{operator} may {}claim for {}",
                    if *revoke { "no longer " } else { "" },
                    sender.address()
                ),
            )
        }
    }
}

async fn set_operator(sender: &Sender, operator: Address, approved: bool) -> eyre::Result<()> {
    use alloy::sol_types::SolCall;
    let call = bindings::ticket::TicketEscrow::setOperatorCall { operator, approved };
    let contract = sender.client().config().contract;
    sender
        .send(contract, call.abi_encode().into(), alloy::primitives::U256::ZERO)
        .await?;
    Ok(())
}

async fn serve(run: &Run, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect().await?;
    let account = keys::account(config, &run.from)?;
    let recipient = match &run.pay_to {
        Some(recipient) => keys::address_or_name(config, recipient)?,
        None => account.address(),
    };
    let domain = client.domain();
    // Before the lock, which tells others to send it: unheard, it would end the process.
    let mut ask = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1())?;
    let _lock = match stores::lock_merchant(&config.home, domain, recipient)? {
        Locked::Ours(lock) => lock,
        Locked::Held { pid } => {
            let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            bail!("another process of merchant {recipient} is running{pid}")
        }
    };
    let asset = Asset::read(&client, run.asset).await?;
    let price = asset.parse(&run.price)?;
    let setup = Setup {
        recipient,
        account,
        price: Price {
            asset: run.asset,
            price,
            min_prize: run
                .min_prize
                .as_deref()
                .map_or(Ok(price), |prize| asset.parse(prize))?,
            max_prize: Amount::MAX,
        },
        policy: Policy {
            max_mirror_age: run.max_mirror_age,
            exposure_cap: run.exposure,
            ..Policy::default()
        },
        claims: ClaimPolicy {
            batch: run.claim_batch,
            max_age_secs: run.claim_age.0,
            wei_per_unit: (run.asset == Address::ZERO).then_some(1),
            ..ClaimPolicy::default()
        },
        bump_after: run.bump_after,
        finality: config.finality()?,
        pause: Duration::from_millis(run.poll_ms),
    };
    let store = stores::merchant(&config.home, domain, recipient).await?;
    let listener = TcpListener::bind(&run.listen)
        .await
        .wrap_err_with(|| run.listen.clone())?;
    let address = listener.local_addr()?;
    let goods = Goods::read(&run.file)?;
    let mut business = Business::open(setup, client, store, goods, listener).await?;
    // A line that tells programs where to connect to, and people that it works.
    let value = json!({
        "listening": address.to_string(), "recipient": recipient, "pieces": business.shop.goods.pieces(),
        "sha256": business.shop.goods.sha256(), "price": price.0.to_string(),
    });
    out.answer(
        &value,
        format!(
            "selling {} pieces at {} on {address}, paid to {recipient}",
            business.shop.goods.pieces(),
            asset.show(price)
        ),
    )?;
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            ended = business.tasks.join_next() => {
                let ended = ended.expect("tasks run for ever");
                return Err(ended?);
            }
            _ = ask.recv() => business.claimer.ask(),
            _ = stop.recv() => return Ok(()),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// What a merchant's process is made of.
pub(crate) struct Setup {
    /// Where to be paid.
    pub(crate) recipient: Address,
    /// Sends the claims.
    pub(crate) account: PrivateKeySigner,
    pub(crate) price: Price,
    pub(crate) policy: Policy,
    pub(crate) claims: ClaimPolicy,
    pub(crate) bump_after: Seconds,
    pub(crate) finality: Finality,
    /// How often to look at the chain.
    pub(crate) pause: Duration,
}

/// A merchant at work: three tasks that sell, follow the chain and claim.
pub(crate) struct Business {
    pub(crate) shop: Arc<Shop>,
    pub(crate) claimer: Arc<Claimer<SqliteStore>>,
    pub(crate) store: SqliteStore,
    /// A task that ends has failed.
    pub(crate) tasks: JoinSet<eyre::Report>,
}

impl Business {
    /// Catches up with the chain, then opens.
    pub(crate) async fn open(
        setup: Setup,
        client: ChainClient,
        store: SqliteStore,
        goods: Goods,
        listener: TcpListener,
    ) -> eyre::Result<Self> {
        let follower = catch_up(&client, &store, setup.finality).await?;
        let sender = Sender::new(client.clone(), setup.account);
        if sender.address() != setup.recipient {
            let allowed = client
                .is_operator(setup.recipient, sender.address(), chain::At::Latest)
                .await?;
            if !allowed {
                let (sender, recipient) = (sender.address(), setup.recipient);
                return Err(refused(format!(
                    "{sender} is no operator of {recipient}: its claims would be refused"
                )));
            }
        }
        let fresh = Seed::new(clock::random().0);
        let (domain, mirror) = (client.domain(), follower.mirror());
        let merchant = Merchant::start(
            domain,
            setup.recipient,
            setup.price,
            setup.policy,
            mirror,
            store.clone(),
            fresh,
        )
        .await?;
        let claimer = Arc::new(Claimer::new(
            Arc::clone(&merchant),
            sender,
            setup.claims,
            setup.bump_after,
        ));
        let shop = Arc::new(Shop {
            merchant,
            goods,
            counts: Counts::default(),
        });

        let mut tasks = JoinSet::new();
        let pause = setup.pause;
        tasks.spawn({
            let store = store.clone();
            async move { eyre::Report::from(follow(follower, store, pause).await) }
        });
        tasks.spawn({
            let claimer = Arc::clone(&claimer);
            async move { claim_for_ever(&claimer, pause).await }
        });
        tasks.spawn({
            let shop = Arc::clone(&shop);
            async move {
                shop.serve(listener).await;
                eyre::eyre!("the shop closed")
            }
        });
        Ok(Self {
            shop,
            claimer,
            store,
            tasks,
        })
    }
}

/// A follower that has read the chain up to its newest block.
pub(crate) async fn catch_up(
    client: &ChainClient,
    store: &impl MirrorStore,
    finality: Finality,
) -> eyre::Result<Follower> {
    let start = match store.load_mirror().await? {
        Some((cursor, escrows)) => Start::Saved { cursor, escrows },
        None => Start::Deployed { block: 0 },
    };
    let config = FollowerConfig::new(finality);
    let mut follower = Follower::start(client.clone(), config, start).await?;
    loop {
        match follow_once(&mut follower, store).await {
            Ok(true) => return Ok(follower),
            Ok(false) => {}
            Err(FollowError::Chain(error)) if error.retry() => {
                warn!(%error, "cannot read the chain yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Steps the claimer until it fails for good.
async fn claim_for_ever(claimer: &Claimer<SqliteStore>, pause: Duration) -> eyre::Report {
    let mut last = String::new();
    loop {
        match claimer.step(clock::now()).await {
            Ok(Step::Waited(decision)) => {
                // Said once, not every second.
                let text = decision.to_string();
                if text != last {
                    info!("{text}");
                    last = text;
                }
                tokio::time::sleep(pause).await;
            }
            Ok(Step::Pending(claim)) => {
                debug!(%claim, "pending");
                tokio::time::sleep(pause).await;
            }
            Ok(step) => debug!(?step, "claim step"),
            Err(error @ ClaimStepError::NoOutcome { .. }) => return error.into(),
            Err(error) if error.retry() => {
                warn!(%error, "claims wait");
                tokio::time::sleep(pause.max(Duration::from_secs(1))).await;
            }
            Err(error) => {
                // Selling goes on: winners are safe in the store, and what is wrong may be set right outside.
                error!(%error, "cannot claim");
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        }
    }
}
