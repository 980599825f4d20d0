//! Many at once: merchants, payers, payments in flight, claims in between. Nothing is lost, doubled or buried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chain::{ChainClient, ChainConfig};
use futures::{StreamExt, stream};
use merchant::ticket::{AcceptError, Step};
use micropay_e2e::{
    Counter, Escrow, Mode, NATIVE, Odds, PRIZE, Setup, Shop, Switch, World, hash, random, terms,
};
use payer::ticket::{PayError, Payer, Purchase, Seller};
use protocol::ticket::{Amount, Nonce, OrderId, Refusal, Retry};
use storage::{ClaimStore, MemoryStore, OrderStore, SqliteStore, Store, WinStage, WinState, WinStore};
use tokio::task::JoinSet;

/// Follows, claims whenever there is something, and mines, until told to stop.
fn run<S: Store>(shop: Arc<Shop<S>>, stop: Arc<AtomicBool>, tasks: &mut JoinSet<()>) {
    tasks.spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            shop.follow().await;
            shop.claimer.ask();
            shop.step().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

fn mine(world: &Arc<World>, stop: Arc<AtomicBool>, tasks: &mut JoinSet<()>) {
    let world = Arc::clone(world);
    tasks.spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            world.anvil.mine(1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
}

/// Pays until it is delivered. Sessions close all the time here, so that a purchase may run out of tickets; a person would
/// order once more.
async fn pay(
    payer: &Payer<MemoryStore>,
    seller: &Seller<Counter<SqliteStore>>,
    purchase: Purchase<u64>,
) -> u64 {
    let mut order = purchase.order;
    for _ in 0..50 {
        match payer.pay(seller, &Purchase { order, ..purchase }).await {
            Ok(payment) => return payment.good,
            Err(PayError::TooManyRefusals { .. }) => order = OrderId(random()),
            Err(error) if error.retry() => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("not delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_merchants_and_two_payers_at_once_conserve_every_wei() {
    const EACH: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(World::new().await);
    let mut escrows = Vec::new();
    for payer in [0, 4] {
        escrows.push(
            world
                .open(payer, &format!("payer {payer}"), &terms(NATIVE, 2_000, 500))
                .await,
        );
    }
    world.anvil.mine(3).await.unwrap();
    let mut shops = Vec::new();
    for account in 1..=3 {
        let file = folder.path().join(format!("{account}.sqlite"));
        let store = SqliteStore::open(file, world.merchant_identity(account))
            .await
            .unwrap();
        shops.push(
            world
                .shop_on(&world.client, Setup::new(account).depth(1), store)
                .await,
        );
    }
    let deposits: u128 = escrows
        .iter()
        .map(|e| e.record.balance.0 + e.record.penalty.0)
        .sum();

    let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    mine(&world, Arc::clone(&stop), &mut tasks);
    for shop in &shops {
        run(Arc::clone(shop), Arc::clone(&stop), &mut tasks);
    }
    let payers: Vec<_> = escrows.iter().map(|escrow| world.payer(escrow)).collect();
    let mut sales = Vec::new();
    for (number, (payer, _)) in payers.iter().enumerate() {
        for shop in &shops {
            sales.push(async move {
                let seller = &Seller::new(Counter::new(shop));
                let goods = stream::iter(0..EACH).map(|item| {
                    let order = OrderId(hash(&format!("{number} {}", shop.recipient()), item));
                    pay(payer, seller, Purchase { order, item })
                });
                let mut goods: Vec<u64> = goods.buffer_unordered(16).collect().await;
                goods.sort_unstable();
                assert_eq!(goods, (0..EACH).collect::<Vec<_>>());
            });
        }
    }
    futures::future::join_all(sales).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }

    // To the end, then count.
    let mut credits = 0;
    for shop in &shops {
        world.settle(shop).await;
        let totals = shop.store.win_totals().await.unwrap();
        assert_eq!(
            (totals.refused.count, totals.owed),
            (0, Amount(0)),
            "no winner is buried"
        );
        assert_eq!(totals.all().unwrap(), totals.settled);
        assert_eq!(totals.paid.0, u128::from(totals.settled.count) * PRIZE.0);
        let credit = world.credit(NATIVE, shop.recipient()).await;
        assert_eq!(credit, totals.paid.0);
        assert!(
            totals.settled.count > EACH / 4,
            "{} of {} won at 1 in 2",
            totals.settled.count,
            2 * EACH
        );
        credits += credit;
    }
    let mut left = 0;
    for escrow in &escrows {
        let record = world.escrow(escrow.key.clone()).await.record;
        left += record.balance.0 + record.penalty.0;
    }
    assert_eq!(credits + left, deposits);
    assert_eq!(world.balance(NATIVE, world.contract()).await, deposits);
    for (payer, orders) in &payers {
        let totals = orders.order_totals(Some(payer.escrow())).await.unwrap();
        assert_eq!(totals.delivered.count, 3 * EACH);
    }
}

/// Nonces arrive in any order while the claimer takes whatever it can: what was accepted is paid, each and every one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_winner_is_buried_by_a_claim_of_a_higher_nonce() {
    const TICKETS: u64 = 4_000;
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(World::new().await);
    let escrow = world.open(0, "buried", &terms(NATIVE, 60_000, 4_000)).await;
    world.anvil.mine(3).await.unwrap();
    let store = SqliteStore::open(folder.path().join("s.sqlite"), world.merchant_identity(1))
        .await
        .unwrap();
    let shop = world.shop_on(&world.client, Setup::new(1).depth(1), store).await;

    let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    mine(&world, Arc::clone(&stop), &mut tasks);
    run(Arc::clone(&shop), Arc::clone(&stop), &mut tasks);
    let nonces = AtomicU64::new(0);
    let accepted = stream::iter(0..TICKETS)
        .map(|item| sell_somehow(&shop, &escrow, &nonces, item))
        .buffer_unordered(32)
        .filter(|won| futures::future::ready(*won))
        .count()
        .await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    world.settle(&shop).await;

    let wins = shop.wins().await;
    assert_eq!(wins.len(), accepted, "what was accepted and won is stored");
    assert!(accepted > 100, "{accepted}");
    let claims = shop.claims().await.len();
    assert!(claims > 5, "the claimer was at work meanwhile: {claims} claims");
    for win in &wins {
        assert_eq!(
            win.state,
            WinState::Final {
                paid: PRIZE,
                owed: Amount(0)
            },
            "nonce {}",
            win.ticket.nonce()
        );
    }
}

/// Issues a ticket, lets it dawdle on its way, and goes on with fresh ones until one is accepted. Whether it won.
async fn sell_somehow<S: Store>(shop: &Shop<S>, escrow: &Escrow, nonces: &AtomicU64, item: u64) -> bool {
    for attempt in 0..200 {
        let nonce = nonces.fetch_add(1, Ordering::Relaxed) + 1;
        let ticket = shop.ticket(escrow, nonce);
        tokio::time::sleep(Duration::from_micros(nonce * 7_919 % 6_000)).await;
        match shop
            .accept(OrderId(hash("somehow", item * 1_000 + attempt)), ticket)
            .await
        {
            Ok(receipt) => return receipt.won,
            Err(AcceptError::Refused(refusal)) if refusal.retry() == Retry::NewQuote => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("never accepted");
}

/// The same by the clock: a lower nonce arrives exactly while the claimer waits for the node's fees. The winner above it has
/// settled, so it is refused before it is drawn, and a payer that counts its nonces down keeps nothing from being claimed.
#[tokio::test]
async fn a_lower_nonce_that_arrives_while_the_claimer_decides_is_refused_and_not_buried() {
    let world = World::new().await;
    let switch = Switch::start(world.anvil.url()).await;
    let client = ChainClient::connect(switch.url.clone(), ChainConfig::new(world.anvil.chain_id()))
        .await
        .unwrap();
    let escrow = world.open(0, "deciding", &terms(NATIVE, 100, 20)).await;
    let store = MemoryStore::new(world.merchant_identity(1));
    let shop = world
        .shop_on(&client, Setup::new(1).odds(Odds::Sure), store)
        .await;
    world.finalize(&shop).await;
    shop.sell(&escrow, 10).await;
    shop.claimer.ask();

    switch.set(Mode::Hang);
    let arrives = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let late = shop
            .accept(OrderId(hash("late", 5)), shop.ticket(&escrow, 5))
            .await;
        let refusal = Refusal::NonceNotAboveFloor {
            nonce: Nonce(5),
            floor: Nonce(10),
        };
        assert!(
            matches!(&late, Err(AcceptError::Refused(got)) if *got == refusal),
            "{late:?}"
        );
        switch.set(Mode::Pass);
    };
    let (step, ()) = tokio::join!(shop.step(), arrives);
    assert!(matches!(step, Step::Queued(..)), "{step:?}");
    world.settle(&shop).await;
    assert_eq!(
        shop.state_of(10).await,
        WinState::Final {
            paid: PRIZE,
            owed: Amount(0)
        }
    );
}

/// The balance covers one prize. However many tickets arrive at once, one is accepted until it is claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_in_flight_do_not_overdraw_an_escrow() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let escrow = world.open(0, "overdrawn", &terms(NATIVE, 100, 1)).await;
    world.anvil.mine(3).await.unwrap();
    let store = SqliteStore::open(folder.path().join("s.sqlite"), world.merchant_identity(1))
        .await
        .unwrap();
    let shop = world
        .shop_on(&world.client, Setup::new(1).odds(Odds::Sure), store)
        .await;
    let mut tasks = JoinSet::new();
    for nonce in 1..=32 {
        let (shop, ticket) = (Arc::clone(&shop), shop.ticket(&escrow, nonce));
        tasks.spawn(async move { shop.accept(OrderId(hash("at once", nonce)), ticket).await });
    }
    let mut accepted = 0;
    for result in tasks.join_all().await {
        match result {
            Ok(receipt) => accepted += u32::from(receipt.won),
            Err(AcceptError::Refused(Refusal::BalanceTooLow { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(accepted, 1);
    let settled = world.settle(&shop).await;
    assert_eq!((settled.claimed, settled.paid, settled.owed), (1, PRIZE.0, 0));
    assert_eq!(shop.stage().await, WinStage::Final);
}

/// A copy of a ticket that is being judged waits for the verdict; it never becomes a second winner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_one_ticket_at_once_are_one_payment() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let escrow = world.open(0, "copies", &terms(NATIVE, 100, 10)).await;
    world.anvil.mine(3).await.unwrap();
    let store = SqliteStore::open(folder.path().join("s.sqlite"), world.merchant_identity(1))
        .await
        .unwrap();
    let shop = world
        .shop_on(&world.client, Setup::new(1).odds(Odds::Sure), store)
        .await;
    for nonce in 1..=5 {
        let (order, ticket) = (OrderId(hash("copies", nonce)), shop.ticket(&escrow, nonce));
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let (shop, ticket) = (Arc::clone(&shop), ticket.clone());
            tasks.spawn(async move { shop.accept(order, ticket).await });
        }
        let mut fresh = 0;
        for result in tasks.join_all().await {
            match result {
                Ok(receipt) => fresh += u32::from(!receipt.repeat),
                Err(AcceptError::Busy(digest)) => assert_eq!(digest, ticket.digest()),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(fresh, 1);
        assert!(shop.accept(order, ticket).await.unwrap().repeat);
    }
    assert_eq!(world.settle(&shop).await.claimed, 5);
}

/// A block has only so much room, whatever has come together.
#[tokio::test]
async fn a_claim_is_never_larger_than_its_bound() {
    let world = World::new().await;
    let escrow = world.open(0, "bound", &terms(NATIVE, 100, 20)).await;
    let mut setup = Setup::new(1).odds(Odds::Sure);
    setup.claims.max_batch = 2;
    let shop = world.shop(setup).await;
    world.finalize(&shop).await;
    for nonce in 1..=5 {
        shop.sell(&escrow, nonce).await;
    }
    assert_eq!(world.settle(&shop).await.claimed, 5);
    let sizes: Vec<_> = shop.store.claims(u32::MAX).await.unwrap();
    let sizes: Vec<_> = sizes.iter().rev().map(|claim| claim.wins.len()).collect();
    assert_eq!(sizes, [2, 2, 1]);
}
