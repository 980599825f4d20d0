//! A merchant with its follower, claimer and store, all moved by hand.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use bindings::ticket::Ticket as Fields;
use chain::{ChainClient, Finality, Follower, FollowerConfig, Sender, Start};
use merchant::ticket::{
    AcceptError, ClaimPolicy, ClaimStepError, Claimer, FollowError, Merchant, Price, Receipt, Settled, Step,
    follow_once,
};
use protocol::ticket::{Issued, Nonce, OrderId, Policy, Quote, Refusal, Seconds, Seed, Signature, Ticket};
use storage::{ClaimStage, MemoryStore, Store, StoreIdentity, WinRecord, WinStage, WinState};
use tokio::sync::Mutex;

use crate::world::random;
use crate::{Clock, Escrow, NATIVE, Odds, World};

/// Most steps that any claim in these tests takes.
const MAX_STEPS: usize = 100;

/// How to set a shop up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Development account that is paid.
    pub account: usize,
    /// Development account that sends the claims.
    pub claims_from: usize,
    /// What a ticket costs.
    pub price: Price,
    /// What is asked of tickets.
    pub policy: Policy,
    /// When to claim.
    pub claims: ClaimPolicy,
    /// When a transaction is stuck.
    pub bump_after: Seconds,
    /// Blocks that make a block final.
    pub depth: u64,
}

impl Setup {
    /// A shop of one account: native asset, half of all tickets win, two blocks make a block final, claims only when asked
    /// for (or when a deadline or insolvency says so).
    pub fn new(account: usize) -> Self {
        Self {
            account,
            claims_from: account,
            price: Odds::Half.in_asset(NATIVE),
            policy: Policy::default(),
            claims: ClaimPolicy {
                settle_secs: 0,
                batch: usize::MAX,
                ..ClaimPolicy::default()
            },
            bump_after: Seconds::DAY,
            depth: 2,
        }
    }

    /// The same with other odds.
    pub fn odds(mut self, odds: Odds) -> Self {
        self.price = odds.in_asset(NATIVE);
        self
    }

    /// The same with another depth of finality.
    pub fn depth(mut self, depth: u64) -> Self {
        self.depth = depth;
        self
    }
}

/// A merchant at work, by hand.
pub struct Shop<S> {
    /// Accepts.
    pub merchant: Arc<Merchant<S>>,
    /// Claims.
    pub claimer: Claimer<S>,
    /// Keeps.
    pub store: S,
    /// The account that claims.
    pub account: Sender,
    follower: Mutex<Follower>,
    clock: Clock,
    /// What a ticket costs.
    pub price: Price,
    depth: u64,
}

impl World {
    /// A shop that keeps everything in memory.
    pub async fn shop(&self, setup: Setup) -> Arc<Shop<MemoryStore>> {
        let store = MemoryStore::new(self.merchant_identity(setup.account));
        self.shop_on(&self.client, setup, store).await
    }

    /// Whose store a shop of this account has.
    pub fn merchant_identity(&self, account: usize) -> StoreIdentity {
        StoreIdentity::merchant(self.domain, self.sender(account).address())
    }

    /// A shop on a given connection and store, caught up with the chain.
    pub async fn shop_on<S: Store>(&self, client: &ChainClient, setup: Setup, store: S) -> Arc<Shop<S>> {
        let recipient = self.sender(setup.account).address();
        let start = match store.load_mirror().await.unwrap() {
            Some((cursor, records)) => Start::Saved { cursor, records },
            None => Start::Deployed { block: 0 },
        };
        let config = FollowerConfig::new(Finality::Depth(setup.depth));
        let mut follower = Follower::start(client.clone(), config, start).await.unwrap();
        while !follow_once(&mut follower, &store).await.unwrap() {}
        let account = Self::sender_on(client, setup.claims_from);
        let seed = Seed::new(random().0);
        let mirror = follower.mirror();
        let merchant = Merchant::start(self.domain, recipient, setup.policy, mirror, store.clone(), seed);
        let merchant = merchant.await.unwrap();
        let claimer = Claimer::new(
            Arc::clone(&merchant),
            account.clone(),
            setup.claims,
            setup.bump_after,
        );
        let follower = Mutex::new(follower);
        Arc::new(Shop {
            merchant,
            claimer,
            store,
            account,
            follower,
            clock: self.clock.clone(),
            price: setup.price,
            depth: setup.depth,
        })
    }

    /// Mines what makes the newest block final for a shop, and lets it see.
    pub async fn finalize<S: Store>(&self, shop: &Shop<S>) {
        self.anvil.mine(shop.depth + 1).await.unwrap();
        shop.follow().await;
    }

    /// Claims whatever a shop has won, to the end. On a chain that mines each transaction.
    pub async fn settle<S: Store>(&self, shop: &Shop<S>) -> Settled {
        shop.claimer.ask();
        let mut total = Settled::default();
        for _ in 0..MAX_STEPS {
            shop.follow().await;
            match shop.step().await {
                Step::Mined(..) | Step::Pending(..) => self.finalize(shop).await,
                Step::Final(_, settled) => {
                    total.claimed += settled.claimed;
                    total.skipped += settled.skipped;
                    total.paid += settled.paid;
                    total.owed += settled.owed;
                    total.gas_used += settled.gas_used;
                    shop.claimer.ask();
                }
                Step::Waited(_) if shop.store.load_unfinished().await.unwrap().is_empty() => return total,
                Step::Waited(decision) => panic!("winners are left, but the claimer waits: {decision}"),
                _ => {}
            }
        }
        panic!("claims are not settled after {MAX_STEPS} steps");
    }
}

impl<S: Store> Shop<S> {
    /// Where it is paid.
    pub fn recipient(&self) -> Address {
        self.merchant.recipient()
    }

    /// Looks at the chain until caught up.
    pub async fn follow(&self) {
        while !self.try_follow().await.unwrap() {}
    }

    /// Looks at the chain once.
    pub async fn try_follow(&self) -> Result<bool, FollowError> {
        follow_once(&mut *self.follower.lock().await, &self.store).await
    }

    /// One step of the claimer, which works.
    pub async fn step(&self) -> Step {
        self.try_step().await.unwrap()
    }

    /// Steps until the claim is in a block, which a node that mines each transaction needs a moment for.
    pub async fn step_until_mined(&self) {
        for _ in 0..MAX_STEPS {
            match self.step().await {
                Step::Mined(..) => return,
                Step::Pending(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Step::Sent(..) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("the claim is not mined after {MAX_STEPS} steps");
    }

    /// One step of the claimer.
    pub async fn try_step(&self) -> Result<Step, ClaimStepError> {
        self.claimer.step(self.clock.now()).await
    }

    /// Terms for an escrow.
    pub fn quote(&self, escrow: &Escrow) -> Quote {
        self.merchant.quote(escrow.address(), &self.price).unwrap()
    }

    /// A ticket for the terms of now, with a nonce of the test's choice.
    pub fn ticket(&self, escrow: &Escrow, nonce: u64) -> Ticket<Issued> {
        escrow.ticket(
            self.merchant.domain(),
            &self.quote(escrow),
            nonce,
            self.clock.now(),
        )
    }

    /// A ticket arrives.
    pub async fn accept(&self, order: OrderId, ticket: Ticket<Issued>) -> Result<Receipt, AcceptError> {
        self.merchant
            .accept(order, ticket, &self.price, self.clock.now())
            .await
    }

    /// A ticket arrives as bytes, as over any wire.
    pub async fn deliver(
        &self,
        order: OrderId,
        fields: Fields,
        signature: &[u8],
    ) -> Result<Receipt, AcceptError> {
        let signature = Signature::from_bytes(signature).map_err(Refusal::from)?;
        self.accept(
            order,
            Ticket::from_parts(self.merchant.domain(), fields, signature),
        )
        .await
    }

    /// Sells one ticket with a nonce of the test's choice, for an order of that number.
    pub async fn sell(&self, escrow: &Escrow, nonce: u64) -> Receipt {
        let order = OrderId(crate::hash("order", nonce));
        self.accept(order, self.ticket(escrow, nonce)).await.unwrap()
    }

    /// All winners ever.
    pub async fn wins(&self) -> Vec<WinRecord> {
        self.store.wins(storage::WinFilter::default()).await.unwrap()
    }

    /// The one stage that all winners are in.
    pub async fn stage(&self) -> WinStage {
        let wins = self.wins().await;
        let stage = wins.first().unwrap().state.stage();
        assert!(wins.iter().all(|win| win.state.stage() == stage), "{wins:?}");
        stage
    }

    /// Where a winner stands.
    pub async fn state_of(&self, nonce: u64) -> WinState {
        let wins = self.wins().await;
        wins.iter()
            .find(|win| win.ticket.nonce() == Nonce(nonce))
            .unwrap()
            .state
    }

    /// Stages of all claims, oldest first.
    pub async fn claims(&self) -> Vec<ClaimStage> {
        let claims = self.store.claims(u32::MAX).await.unwrap();
        claims.iter().rev().map(|claim| claim.state.stage()).collect()
    }
}
