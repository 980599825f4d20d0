//! A merchant at work, whatever it sells through: follows the chain, claims winners, keeps its place among other processes of
//! the same merchant.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use chain::{ChainClient, Finality, Follower, FollowerConfig, Sender, Start};
use merchant::ticket::{
    ClaimPolicy, ClaimStepError, Claimer, FollowError, Merchant, Step, follow, follow_once,
};
use protocol::ticket::{Policy, Seconds, Seed};
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
}

/// A merchant at work.
pub(crate) struct Business<S> {
    pub(crate) merchant: Arc<Merchant<S>>,
    pub(crate) claimer: Option<Arc<Claimer<S>>>,
    pub(crate) store: S,
    /// A task that ends has failed.
    pub(crate) tasks: JoinSet<eyre::Report>,
}

impl<S: Store> Business<S> {
    /// Catches up with the chain, then begins.
    pub(crate) async fn open(setup: Setup, client: ChainClient, store: S) -> eyre::Result<Self> {
        let follower = catch_up(&client, &store, setup.finality).await?;
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
            store,
            tasks,
        })
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

/// A follower that has read the chain up to its newest block.
pub(crate) async fn catch_up(
    client: &ChainClient,
    store: &(impl MirrorStore + Sync),
    finality: Finality,
) -> eyre::Result<Follower> {
    let start = match store.load_mirror().await? {
        Some((cursor, records)) => Start::Saved { cursor, records },
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
