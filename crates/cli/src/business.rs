//! A merchant at work, whatever it sells through: follows both contracts, claims winners, settles channels, keeps its place
//! among other processes of the same merchant.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use chain::{ChainClient, Channels, Client, Finality, Follower, FollowerConfig, Scheme, Sender, Start};
use gateway::server::Sellers;
use merchant::channel::{self, ClosePolicy, CloseStepError, Closer, Vendor, VendorConfig};
use merchant::follow::{FollowError, KeepMirror, follow, follow_once};
use merchant::ticket::{ClaimPolicy, ClaimStepError, Claimer, Merchant, Step};
use protocol::channel::Key;
use protocol::ticket::{Policy, Seconds, Seed};
use storage::channel::{ChannelMirrorStore, SettlementStep};
use storage::{MirrorStore, Part, Store};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::clock;
use crate::exit::refused;

/// What a merchant's process is made of.
pub(crate) struct Setup {
    /// Where to be paid.
    pub(crate) recipient: Address,
    /// Sends the claims; without it winners are only kept.
    pub(crate) account: Option<PrivateKeySigner>,
    pub(crate) policy: Policy,
    pub(crate) claims: ClaimPolicy,
    pub(crate) bump_after: Seconds,
    pub(crate) finality: Finality,
    /// How often to look at the chain.
    pub(crate) pause: Duration,
    /// Lease among several processes of this merchant; `None`: this is the only one.
    pub(crate) lease: Option<Duration>,
    /// Sells by channel, too.
    pub(crate) channels: Option<ChannelSetup>,
}

/// What selling by channel takes.
pub(crate) struct ChannelSetup {
    pub(crate) client: Client<Channels>,
    pub(crate) vendor: VendorConfig,
    pub(crate) closes: ClosePolicy,
}

/// A merchant at work.
pub(crate) struct Business<S> {
    pub(crate) merchant: Arc<Merchant<S>>,
    pub(crate) claimer: Option<Arc<Claimer<S>>>,
    /// Where it sells by channel.
    pub(crate) vendor: Option<Arc<Vendor<S>>>,
    pub(crate) closer: Option<Arc<Closer<S>>>,
    /// Signs with clients who want to close at once, where it is the key of who is paid.
    account: Option<Key>,
    pub(crate) store: S,
    /// A task that ends has failed.
    pub(crate) tasks: JoinSet<eyre::Report>,
}

impl<S: Store> Business<S> {
    /// Catches up with the chain, then begins.
    pub(crate) async fn open(setup: Setup, client: ChainClient, store: S) -> eyre::Result<Self> {
        let follower = catch_up(&client, &store, setup.finality).await?;
        let account = setup
            .account
            .as_ref()
            .filter(|account| account.address() == setup.recipient);
        let account = account
            .map(|account| Key::from_bytes(&account.to_bytes().0))
            .transpose()?;
        let sender = match setup.account {
            Some(account) => Some(claim_sender(&client, account, setup.recipient).await?),
            None => None,
        };
        let fresh = Seed::new(clock::random().0);
        let (domain, mirror) = (client.domain(), follower.mirror());
        let merchant = Merchant::start(
            domain,
            setup.recipient,
            setup.policy,
            mirror,
            store.clone(),
            fresh,
        )
        .await?;
        let mut tasks = JoinSet::new();
        let pause = setup.pause;
        if let Some(lease) = setup.lease {
            let part = match sender {
                Some(_) => Part::MayClaim,
                None => Part::SellsOnly,
            };
            merchant.join(lease, part).await?;
            let merchant = Arc::clone(&merchant);
            tasks.spawn(async move { beat_for_ever(&merchant, lease).await });
        }
        tasks.spawn({
            let store = store.clone();
            async move { eyre::Report::from(follow(follower, store, pause).await) }
        });
        let (vendor, closer) = match setup.channels {
            None => (None, None),
            Some(channels) => {
                let finality = setup.finality;
                let follower = follow_channels(&channels.client, &store, finality).await?;
                let domain = channels.client.domain();
                let mirror = follower.mirror();
                let vendor =
                    Vendor::start(domain, setup.recipient, channels.vendor, mirror, store.clone()).await?;
                let kept = store.clone();
                tasks.spawn(async move { eyre::Report::from(follow(follower, kept, pause).await) });
                // Turns are the account's, whichever contract it calls.
                let closer = sender.as_ref().map(|sender| {
                    let sender = sender.of(channels.client.clone());
                    let role = Arc::clone(&vendor);
                    Arc::new(Closer::new(role, sender, channels.closes, setup.bump_after))
                });
                (Some(vendor), closer)
            }
        };
        if let Some(closer) = &closer {
            let (merchant, closer) = (Arc::clone(&merchant), Arc::clone(closer));
            tasks.spawn(async move { close_for_ever(&merchant, &closer, pause).await });
        }
        let claimer = sender.map(|sender| {
            Arc::new(Claimer::new(
                Arc::clone(&merchant),
                sender,
                setup.claims,
                setup.bump_after,
            ))
        });
        if let Some(claimer) = &claimer {
            let (merchant, claimer) = (Arc::clone(&merchant), Arc::clone(claimer));
            tasks.spawn(async move { claim_for_ever(&merchant, &claimer, pause).await });
        }
        Ok(Self {
            merchant,
            claimer,
            vendor,
            closer,
            account,
            store,
            tasks,
        })
    }

    /// What it sells by, for a gate.
    pub(crate) fn sellers(&self) -> Sellers<S> {
        let mut sellers = Sellers::from(Arc::clone(&self.merchant));
        if let Some(vendor) = &self.vendor {
            sellers = sellers.and_channels(Arc::clone(vendor));
        }
        match &self.account {
            Some(account) => sellers.closing_with(account.clone()),
            None => sellers,
        }
    }

    /// Settles all that was paid over channels and is not settled.
    pub(crate) async fn settle_all(&self) -> eyre::Result<()> {
        let Some(closer) = &self.closer else {
            return Ok(());
        };
        for record in self.store.vendor_channels().await? {
            closer.ask(record.id, SettlementStep::Checkpoint);
        }
        Ok(())
    }
}

/// The account that claims, if it may.
async fn claim_sender(
    client: &ChainClient,
    account: PrivateKeySigner,
    recipient: Address,
) -> eyre::Result<Sender> {
    let sender = Sender::new(client.clone(), account);
    if sender.address() != recipient {
        let allowed = client
            .is_operator(recipient, sender.address(), chain::At::Latest)
            .await?;
        if !allowed {
            let sender = sender.address();
            return Err(refused(format!(
                "{sender} is no operator of {recipient}: its claims would be refused"
            )));
        }
    }
    Ok(sender)
}

/// Renews the lease. While the store cannot be reached nothing is renewed, and the merchant stops accepting by itself.
pub(crate) async fn beat_for_ever<S: Store>(merchant: &Merchant<S>, lease: Duration) -> eyre::Report {
    loop {
        tokio::time::sleep(Merchant::<S>::beat_pause(lease)).await;
        if let Err(error) = merchant.beat().await {
            if !error.retry() {
                return error.into();
            }
            warn!(%error, "the lease is not renewed");
        }
    }
}

/// A follower of the tickets that has read the chain up to its newest block.
pub(crate) async fn catch_up(
    client: &ChainClient,
    store: &(impl MirrorStore + Sync),
    finality: Finality,
) -> eyre::Result<Follower> {
    let saved = store.load_mirror().await?;
    let start = saved.map(|(cursor, records)| Start::Saved { cursor, records });
    read_up(client, store, finality, start).await
}

/// The same of the channels.
pub(crate) async fn catch_up_channels(
    client: &Client<Channels>,
    store: &(impl ChannelMirrorStore + Sync),
    finality: Finality,
) -> eyre::Result<Follower<Channels>> {
    let saved = store.load_channel_mirror().await?;
    let start = saved.map(|(cursor, records)| Start::Saved { cursor, records });
    read_up(client, store, finality, start).await
}

/// The same, where nothing says yet which contract the store's channels are of.
async fn follow_channels(
    client: &Client<Channels>,
    store: &impl Store,
    finality: Finality,
) -> eyre::Result<Follower<Channels>> {
    store.use_channels(client.domain()).await?;
    catch_up_channels(client, store, finality).await
}

async fn read_up<S: Scheme>(
    client: &Client<S>,
    store: &impl KeepMirror<S>,
    finality: Finality,
    start: Option<Start<S>>,
) -> eyre::Result<Follower<S>> {
    let start = start.unwrap_or(Start::Deployed { block: 0 });
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
async fn claim_for_ever<S: Store>(
    merchant: &Merchant<S>,
    claimer: &Claimer<S>,
    pause: Duration,
) -> eyre::Report {
    let mut last = String::new();
    loop {
        if !merchant.claims() {
            // Another process of this merchant does.
            tokio::time::sleep(pause).await;
            continue;
        }
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

/// Steps the closer until it fails for good.
async fn close_for_ever<S: Store>(
    merchant: &Merchant<S>,
    closer: &Closer<S>,
    pause: Duration,
) -> eyre::Report {
    loop {
        if !merchant.claims() {
            // Another process of this merchant does.
            tokio::time::sleep(pause).await;
            continue;
        }
        match closer.step(clock::now()).await {
            Ok(channel::Step::Waited) => tokio::time::sleep(pause).await,
            Ok(channel::Step::Pending(settlement)) => {
                debug!(%settlement, "pending");
                tokio::time::sleep(pause).await;
            }
            Ok(step) => debug!(?step, "settlement step"),
            Err(error @ CloseStepError::NoOutcome { .. }) => return error.into(),
            Err(error) if error.retry() => {
                warn!(%error, "settlements wait");
                tokio::time::sleep(pause.max(Duration::from_secs(1))).await;
            }
            Err(error) => {
                // Selling goes on: words are safe in the store, and what is wrong may be set right outside.
                error!(%error, "cannot settle");
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        }
    }
}
