//! Buying over HTTP: the client, a real gate before a service, claims on a real chain in between.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::future::join_all;
use gateway::client::{Client, Paid};
use gateway::server::{
    Charge, Gate, GateConfig, GateLayer, ListenLimits, Listing, RateLimits, Service, Table, listen,
};
use gateway::wire::ChallengeKey;
use merchant::ticket::ClaimPolicy;
use micropay_e2e::{Escrow, NATIVE, Odds, Setup, Shop, World, system_now, terms};
use payer::ticket::Payer;
use protocol::ticket::Amount;
use storage::{MemoryStore, OrderStore, WinStore};
use tokio::net::TcpListener;
use tower::Layer;

/// A shop that sells over HTTP.
struct Site {
    shop: Arc<Shop<MemoryStore>>,
    gate: Arc<Gate<MemoryStore>>,
    address: SocketAddr,
    /// Requests that reached the service.
    served: Arc<AtomicU64>,
}

fn listing(price: Odds) -> Listing {
    let table = Table::new(Vec::new(), Charge::Price(price.in_asset(NATIVE)));
    Listing::new(&Service::default(), table, RateLimits::default())
}

impl Site {
    /// It claims winners of this age, seconds: so long a closing session still takes tickets.
    async fn open(world: &World, settle_secs: u64) -> Self {
        let mut setup = Setup::new(1).depth(1);
        setup.claims = ClaimPolicy {
            settle_secs,
            batch: 1,
            ..ClaimPolicy::default()
        };
        let shop = world.shop(setup).await;
        let key = ChallengeKey::new([7; 32]);
        let gate = Gate::new(
            Arc::clone(&shop.merchant),
            listing(Odds::Half),
            GateConfig::default(),
            key,
            system_now,
        );
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        let service = tower::service_fn(move |request: Request| {
            count.fetch_add(1, Ordering::Relaxed);
            let good = format!("good of {}", request.uri().path());
            async move { Ok::<_, std::convert::Infallible>(Response::new(Body::from(good))) }
        });
        let service = GateLayer::new(Arc::clone(&gate)).layer(service);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listen(
            listener,
            service,
            ListenLimits::default(),
            std::future::pending(),
        ));
        Self {
            shop,
            gate,
            address,
            served,
        }
    }

    /// Buys one good; what it cost.
    async fn buy(&self, client: &Client, path: &str) -> Paid {
        let answer = client
            .get(format!("http://{}{path}", self.address))
            .send()
            .await
            .unwrap();
        let paid = answer.extensions().get::<Paid>().unwrap().clone();
        assert_eq!(answer.text().await.unwrap(), format!("good of {path}"));
        paid
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Follows, claims and mines as a merchant does that is always in a hurry, until dropped.
    fn claim_all_the_time(&self, world: &Arc<World>) -> Hurry {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shop, world) = (Arc::clone(&stop), Arc::clone(&self.shop), Arc::clone(world));
        tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                world.anvil.mine(1).await.unwrap();
                shop.follow().await;
                shop.claimer.ask();
                shop.step().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Hurry(stop)
    }
}

struct Hurry(Arc<AtomicBool>);

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn opened(world: &World) -> (Escrow, Payer<MemoryStore>, MemoryStore) {
    let escrow = world.open(0, "http", &terms(NATIVE, 20_000, 2_000)).await;
    world.anvil.mine(3).await.unwrap();
    let (payer, store) = world.payer(&escrow);
    (escrow, payer, store)
}

#[tokio::test]
async fn a_stranger_a_regular_and_another_price() {
    let world = World::new().await;
    let (_, payer, _) = opened(&world).await;
    let site = Site::open(&world, 3).await;
    let client = Client::new(payer).unwrap();
    for (requests, odds) in [
        (2, Odds::Half),
        (1, Odds::Half),
        (2, Odds::Never),
        (1, Odds::Never),
    ] {
        site.gate.set_listing(listing(odds));
        let paid = site.buy(&client, "/a").await;
        assert_eq!((paid.requests, paid.price), (requests, odds.price()));
        assert_eq!(paid.recipient, site.shop.recipient());
        assert!(paid.acknowledged);
    }
    assert_eq!(site.served(), 4, "each once");
}

/// Also where the answer to the first was lost and where the process is another: here, the second client knows nothing but
/// the store.
#[tokio::test]
async fn the_same_call_again_is_neither_paid_nor_served_again() {
    let world = World::new().await;
    let (escrow, payer, store) = opened(&world).await;
    let site = Site::open(&world, 3).await;
    let call = async |client: Client, path: &str| {
        let request = client.post(format!("http://{}{path}", site.address));
        let request = request.header("Idempotency-Key", "the one").body("data");
        request.send().await
    };
    let first = call(Client::new(payer).unwrap(), "/a").await.unwrap();
    let edges = payer::ticket::Edges {
        now: system_now,
        random: micropay_e2e::random,
    };
    let again = || {
        let (key, record) = (Arc::clone(&escrow.key), escrow.record.clone());
        let payer = Payer::new(
            world.domain,
            key,
            record,
            Default::default(),
            store.clone(),
            edges,
        );
        Client::new(payer).unwrap()
    };
    let second = call(again(), "/a").await.unwrap();
    let ticket = |answer: &reqwest::Response| answer.extensions().get::<Paid>().unwrap().proof;
    assert_eq!(ticket(&second), ticket(&first));
    assert_eq!(second.text().await.unwrap(), "good of /a");
    let error = call(again(), "/b").await.unwrap_err();
    assert!(error.to_string().contains("taken before"), "{error}");
    assert_eq!(site.served(), 1);
    assert_eq!(store.orders(escrow.address()).await.unwrap().len(), 1);
}

/// Half of all tickets win, and every other second a claim closes a session: the renewal in each answer keeps pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_take_at_most_1010_requests_although_sessions_close() {
    let world = Arc::new(World::new().await);
    let (escrow, payer, store) = opened(&world).await;
    let site = Site::open(&world, 1).await;
    let client = Client::new(payer).unwrap();
    let hurry = site.claim_all_the_time(&world);
    let mut requests = 0;
    for n in 0..1_000 {
        requests += site.buy(&client, &format!("/{n}")).await.requests;
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(500)).await; // so that there are claims in between
        }
    }
    drop(hurry);
    let claims = site.shop.claims().await.len();
    assert!(claims >= 3, "{claims} claims are too few for this to mean much");
    assert!(requests <= 1_010, "{requests} requests for 1,000 calls");
    assert_eq!(site.served(), 1_000);
    let totals = store.order_totals(Some(escrow.address())).await.unwrap();
    assert_eq!((totals.delivered.count, totals.sent.count), (1_000, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_and_five_hundred_calls_at_once_all_succeed_while_sessions_close() {
    let world = Arc::new(World::new().await);
    let (escrow, payer, store) = opened(&world).await;
    let site = Site::open(&world, 3).await;
    let client = Client::new(payer).unwrap();
    let hurry = site.claim_all_the_time(&world);
    let mut tickets = HashSet::new();
    for crowd in [50, 500] {
        let calls = (0..crowd).map(|n| {
            let (site, client) = (&site, &client);
            async move { site.buy(client, &format!("/{crowd}/{n}")).await.proof }
        });
        tickets.extend(join_all(calls).await);
    }
    drop(hurry);
    assert_eq!(tickets.len(), 550, "a ticket for each");
    assert_eq!(site.served(), 550, "each served once");
    let totals = store.order_totals(Some(escrow.address())).await.unwrap();
    assert_eq!((totals.delivered.count, totals.sent.count), (550, 0));

    // To the end: what was won is paid, and nothing else.
    let mut steps = 0;
    while !site.shop.store.load_unfinished().await.unwrap().is_empty() {
        world.forward(10).await;
        world.finalize(&site.shop).await;
        site.shop.claimer.ask();
        site.shop.step().await;
        steps += 1;
        assert!(steps < 100, "not settled after {steps} steps");
    }
    let wins = site.shop.store.win_totals().await.unwrap();
    assert_eq!((wins.refused.count, wins.owed), (0, Amount(0)));
    assert_eq!(wins.all().unwrap(), wins.settled);
}
