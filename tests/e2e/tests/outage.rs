//! The node is down, or hangs: payments go on while the mirror is young enough, claims wait, and all of it recovers.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chain::{ChainClient, ChainConfig, ChainError, Finality, Follower, FollowerConfig, Start};
use merchant::ticket::{AcceptError, ClaimStepError, FollowError, Step, follow_once};
use micropay_e2e::{Counter, Escrow, Mode, NATIVE, Odds, PRIZE, Setup, Switch, World, hash, terms};
use payer::ticket::{PayError, Purchase, Seller};
use protocol::ticket::{BlockRef, Escrows, OrderId, Seconds};
use storage::{MemoryStore, MirrorStore, StoreError, WinStage};

#[tokio::test]
async fn payments_go_on_while_the_mirror_is_young_and_claims_wait() {
    for mode in [Mode::Cut, Mode::Hang] {
        let world = World::new().await;
        let switch = Switch::start(world.anvil.url()).await;
        let config = ChainConfig {
            request_timeout: Duration::from_millis(100),
            ..ChainConfig::new(world.anvil.chain_id())
        };
        let client = ChainClient::connect(switch.url.clone(), config).await.unwrap();
        let escrow = world.open(0, "outage", &terms(NATIVE, 100, 20)).await;
        let mut setup = Setup::new(1).odds(Odds::Sure);
        setup.policy.max_mirror_age = Seconds(2);
        let store = MemoryStore::new(world.merchant_identity(1));
        let shop = world.shop_on(&client, setup, store).await;
        world.finalize(&shop).await;
        let seen = Instant::now();
        let (payer, _) = world.payer(&escrow);
        let seller = Seller::new(Counter::new(&shop));
        let purchase = |item| Purchase {
            order: OrderId(hash("outage", item)),
            item,
        };
        payer.pay(&seller, &purchase(1)).await.unwrap();
        shop.claimer.ask();
        assert!(matches!(shop.step().await, Step::Queued(..)));

        // Down. What is sold is sold from memory; what needs the chain waits where it is.
        switch.set(mode);
        let error = shop.try_follow().await.unwrap_err();
        assert!(
            matches!(&error, FollowError::Chain(error) if error.retry() && is_outage(error)),
            "{error}"
        );
        let error = shop.try_step().await.unwrap_err();
        assert!(
            matches!(&error, ClaimStepError::Chain(chain) if error.retry() && is_outage(chain)),
            "{error}"
        );
        assert_eq!(shop.state_of(1).await.stage(), WinStage::Queued);
        payer.pay(&seller, &purchase(2)).await.unwrap();
        assert!(
            seen.elapsed() < Duration::from_secs(3),
            "too slow a machine to tell"
        );

        // Too long: no ticket is taken any more, none is lost, and the payer is told to come back with the same one.
        tokio::time::sleep(Duration::from_secs(3).saturating_sub(seen.elapsed())).await;
        for _ in 0..2 {
            match payer.pay(&seller, &purchase(3)).await.unwrap_err() {
                PayError::NotNow { rule, message, .. } => {
                    assert_eq!(rule, "mirror-stale");
                    assert!(message.ends_with("old, I accept up to 2 s"), "{message}");
                }
                error => panic!("{error}"),
            }
        }
        assert_eq!(shop.wins().await.len(), 2);

        // Back. The refused order is delivered with the ticket it always had, and everything is claimed.
        switch.set(Mode::Pass);
        while shop.try_follow().await.is_err() {}
        let payment = payer.pay(&seller, &purchase(3)).await.unwrap();
        assert_eq!(payment.order, purchase(3).order);
        let arrived = seller.api().arrived();
        assert_eq!(arrived[arrived.len() - 2..], [arrived[arrived.len() - 1]; 2]);
        let settled = world.settle(&shop).await;
        assert_eq!(
            (settled.claimed, settled.paid, settled.skipped),
            (3, 3 * PRIZE.0, 0)
        );
    }
}

/// Ten minutes without a node, as the default policy has it, and a payer with a bound on what it may owe. The clock that the
/// mirror ages by is put forward, as is the merchant's, a second at a time with a look at the chain in each.
#[tokio::test]
async fn selling_goes_on_through_ten_minutes_without_a_node() {
    const EXPOSURE: u64 = 12;
    let world = World::new().await;
    let switch = Switch::start(world.anvil.url()).await;
    let config = ChainConfig {
        request_timeout: Duration::from_secs(1),
        ..ChainConfig::new(world.anvil.chain_id())
    };
    let client = ChainClient::connect(switch.url.clone(), config).await.unwrap();
    let opening = terms(NATIVE, 100, 40);
    let (steady, greedy) = (
        world.open(0, "steady", &opening).await,
        world.open(2, "greedy", &opening).await,
    );
    let mut setup = Setup::new(1).odds(Odds::Sure);
    setup.policy.exposure_cap = u32::try_from(EXPOSURE).ok();
    let limit = setup.policy.max_mirror_age.0;
    assert!(limit > 600, "{limit} s");
    let store = MemoryStore::new(world.merchant_identity(1));
    let shop = world.shop_on(&client, setup, store).await;
    world.finalize(&shop).await;

    switch.set(Mode::Cut);
    tokio::time::pause();
    let (down, forwarded) = (tokio::time::Instant::now(), Cell::new(0));
    let age = || shop.merchant.mirror().age().unwrap();
    let wait_until = async |second: u64| {
        let end = Duration::from_secs(second);
        while let Some(left) = end.checked_sub(age()).filter(|left| !left.is_zero()) {
            // A look takes as long as the node may take to answer, too.
            if left > Duration::from_secs(2) {
                let error = shop.try_follow().await.unwrap_err();
                assert!(
                    matches!(&error, FollowError::Chain(error) if is_outage(error)),
                    "{error}"
                );
            }
            tokio::time::advance(left.min(Duration::from_secs(1))).await;
            let seconds = down.elapsed().as_secs();
            world.clock.forward(seconds - forwarded.replace(seconds));
        }
    };
    let buy = async |escrow: &Escrow, nonce: u64| {
        let order = OrderId(hash(
            "outage/order",
            nonce + 1_000 * u64::from(escrow.address()[0]),
        ));
        shop.accept(order, shop.ticket(escrow, nonce)).await
    };
    let rule = |refused: Result<_, AcceptError>| match refused {
        Err(AcceptError::Refused(refusal)) => refusal.rule(),
        other => panic!("{other:?}"),
    };
    // One who pays each minute is served each minute. One who would owe more than it may is not, at any time.
    for nonce in 1..=EXPOSURE {
        buy(&greedy, nonce).await.unwrap();
    }
    for minute in 0..10 {
        wait_until(minute * 60).await;
        assert!(buy(&steady, minute + 1).await.unwrap().won);
        assert_eq!(rule(buy(&greedy, EXPOSURE + 1).await), "exposure-too-high");
    }
    wait_until(600).await;
    assert!(buy(&steady, 11).await.unwrap().won);
    // On both sides of the age.
    wait_until(limit).await;
    assert_eq!(age(), Duration::from_secs(limit));
    assert!(buy(&steady, 12).await.unwrap().won);
    assert_eq!(rule(buy(&steady, 13).await), "exposure-too-high");
    wait_until(limit + 1).await;
    assert_eq!(rule(buy(&steady, 13).await), "mirror-stale");
    assert_eq!(shop.wins().await.len() as u64, 2 * EXPOSURE);

    // The node is back; all that was won is paid, and who owed too much buys again.
    tokio::time::resume();
    switch.set(Mode::Pass);
    while shop.try_follow().await.is_err() {}
    let settled = world.settle(&shop).await;
    assert_eq!(u64::from(settled.claimed), 2 * EXPOSURE);
    buy(&greedy, EXPOSURE + 1).await.unwrap();
}

#[tokio::test]
async fn a_claim_whose_broadcast_was_lost_is_sent_again_and_paid_once() {
    let world = World::new().await;
    let switch = Switch::start(world.anvil.url()).await;
    let config = ChainConfig {
        request_timeout: Duration::from_millis(200),
        ..ChainConfig::new(world.anvil.chain_id())
    };
    let client = ChainClient::connect(switch.url.clone(), config).await.unwrap();
    let escrow = world.open(0, "broadcast", &terms(NATIVE, 100, 20)).await;
    let store = MemoryStore::new(world.merchant_identity(1));
    let shop = world
        .shop_on(&client, Setup::new(1).odds(Odds::Sure), store)
        .await;
    world.finalize(&shop).await;

    // Cut at any moment of the step that prepares, saves and broadcasts.
    for round in 1..=8u64 {
        shop.sell(&escrow, round).await;
        shop.claimer.ask();
        assert!(matches!(shop.step().await, Step::Queued(..)));
        let cut = async {
            tokio::time::sleep(Duration::from_micros(700 * round)).await;
            switch.set(Mode::Cut);
        };
        let (step, ()) = tokio::join!(shop.try_step(), cut);
        if let Err(error) = step {
            assert!(error.retry(), "{error}");
        }
        switch.set(Mode::Pass);
        while shop.try_follow().await.is_err() {} // connections that were cut are found out one by one
        let settled = world.settle(&shop).await;
        assert_eq!(
            (settled.claimed, settled.paid, settled.skipped),
            (1, PRIZE.0, 0),
            "round {round}"
        );
    }
    assert_eq!(world.credit(NATIVE, shop.recipient()).await, 8 * PRIZE.0);
}

fn is_outage(error: &ChainError) -> bool {
    matches!(error, ChainError::Unreachable { .. } | ChainError::Timeout { .. })
}

/// A store that is busy for a while.
struct Busy {
    inner: MemoryStore,
    refusals: AtomicU32,
}

impl MirrorStore for Busy {
    async fn load_mirror(&self) -> storage::Result<Option<(BlockRef, Escrows)>> {
        self.inner.load_mirror().await
    }

    async fn save_mirror(&self, cursor: BlockRef, changed: &Escrows) -> storage::Result<()> {
        let busy = |left: u32| left.checked_sub(1);
        if self
            .refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, busy)
            .is_ok()
        {
            return Err(StoreError::Database {
                doing: "saving the mirror",
                source: Arc::new(std::io::Error::other("busy")),
                transient: true,
            });
        }
        self.inner.save_mirror(cursor, changed).await
    }

    async fn forget_mirror(&self) -> storage::Result<()> {
        self.inner.forget_mirror().await
    }
}

/// The follower tells a change once. Were one lost because the store was busy, a restart would go on from a cursor behind
/// which an escrow, a withdrawal or a claim is missing.
#[tokio::test]
async fn a_busy_store_makes_no_hole_in_the_mirror() {
    let world = World::new().await;
    let config = FollowerConfig::new(Finality::Depth(2));
    let start = Start::Deployed { block: 0 };
    let mut follower = Follower::start(world.client.clone(), config, start)
        .await
        .unwrap();
    let store = Busy {
        inner: MemoryStore::new(world.merchant_identity(1)),
        refusals: AtomicU32::new(0),
    };
    for name in ["first", "second"] {
        let escrow = world.open(0, name, &terms(NATIVE, 100, 20)).await;
        world.anvil.mine(3).await.unwrap();
        store.refusals.store(2, Ordering::Relaxed);
        while !follow_once(&mut follower, &store).await.unwrap() {}
        let (cursor, escrows) = store.load_mirror().await.unwrap().unwrap();
        assert_eq!(cursor, follower.mirror().final_block());
        assert!(escrows.contains_key(&escrow.address()), "{name}");
    }
}
