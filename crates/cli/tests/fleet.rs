//! Two gateways of one seller on one PostgreSQL database: both sell, one claims, and what happens to either, or to the
//! database, costs nobody anything.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gateway::client::{Client, ClientError, Paid};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use payer::ticket::PayError;
use storage::conformance::postgres::PostgresCluster;
use storage::{ClaimRecord, ClaimStore, OrderStore, PostgresStore, StoreIdentity, WinFilter, WinStore};

use crate::support::balancer::Balancer;
use crate::support::ledger::audit;
use crate::support::upstream::{Mood, Upstream};
use crate::support::{Gateway, SHOP, World, block_on, eventually};

/// Short, so that the tests need not wait for half a minute.
const LEASE: Duration = Duration::from_secs(3);
/// Longer than a payer needs to ask twice.
const SLOW: Duration = Duration::from_millis(400);
/// Claims only when told to.
const CALM: [&str; 4] = ["--claim-batch", "1000", "--claim-age", "1d"];

struct Fleet {
    world: World,
    upstream: Upstream,
    cluster: PostgresCluster,
    url: String,
    balancer: Balancer,
}

impl Fleet {
    fn new() -> Self {
        let world = World::ticking();
        world.open_escrow("50", 60_000);
        let cluster = PostgresCluster::start();
        Self {
            url: block_on(cluster.database()),
            world,
            upstream: Upstream::start(Duration::ZERO),
            cluster,
            balancer: Balancer::start(),
        }
    }

    fn gateway(&self, pay_to: &str, args: &[&str]) -> (Gateway, SocketAddr) {
        let lease = format!("{}s", LEASE.as_secs());
        let args = [&["--storage", &self.url, "--lease", &lease], args].concat();
        let mut gateway = self.world.serve(&self.upstream, pay_to, &args);
        let address = gateway.address();
        self.world.wait_until_known(address);
        (gateway, address)
    }

    async fn store(&self) -> PostgresStore {
        let identity = StoreIdentity::merchant(self.world.domain(), self.world.shop());
        PostgresStore::open(&self.url, identity).await.unwrap()
    }

    fn unclaimed(&self) -> usize {
        block_on(async { self.store().await.load_unfinished().await.unwrap().len() })
    }

    async fn all_wins(&self) -> usize {
        self.store().await.wins(WinFilter::default()).await.unwrap().len()
    }

    /// A client that takes a new connection for every request, so that the balancer decides about each.
    async fn payer(&self) -> Client {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0);
        self.world.payer_builder().await.http(http).build().unwrap()
    }

    fn path_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.balancer.address)
    }

    /// Tells a gateway to claim, until nothing is left to claim.
    fn claim_all(&self, claimer: &Gateway) {
        eventually("all winners are claimed", || {
            claimer.signal(Signal::SIGUSR1);
            thread::sleep(Duration::from_millis(300));
            self.unclaimed() == 0
        });
    }
}

/// Why a call that was delivered before is not sold again.
fn is_over(error: &reqwest_middleware::Error) -> bool {
    matches!(
        ClientError::of(error),
        Some(ClientError::Pay {
            cause: PayError::DeliveredBefore { .. } | PayError::Taken { .. },
            ..
        })
    )
}

/// Both sell, whoever is asked. A payer that comes to the other gateway with each call pays for it with one corrective
/// request, as each gateway has its own sessions, and with no more. What was sold by one is not sold by the other. The first
/// claims for both, in one go; killed, it is followed by the second within its lease.
#[test]
fn two_gateways_sell_and_one_claims() {
    let fleet = Fleet::new();
    let before = block_on(fleet.world.escrow_record());
    let (mut first, a) = fleet.gateway(SHOP, &CALM);
    let (second, b) = fleet.gateway(SHOP, &CALM);
    block_on(async {
        let client = fleet.payer().await;
        let mut requests = Vec::new();
        for call in 0..120 {
            fleet.balancer.turn_to(&[[a, b][call % 2]]);
            let path = format!("/turn/{call}");
            let answer = client
                .get(fleet.path_url(&path))
                .header("Idempotency-Key", &path)
                .send()
                .await
                .unwrap();
            requests.push(answer.extensions().get::<Paid>().unwrap().requests);
            assert_eq!(answer.text().await.unwrap(), format!("GET {path} "));
        }
        let all: u32 = requests.iter().sum();
        println!(
            "alternating: {:.2} requests per call, at most {}",
            f64::from(all) / 120.0,
            requests.iter().max().unwrap()
        );
        // A claim that closes sessions in between costs one more.
        assert!(
            all <= 2 * 120 + 6 && requests.iter().all(|requests| *requests <= 3),
            "{requests:?}"
        );

        // The same calls at the other gateway: what won is in the database, what lost is unknown there; nothing is sold.
        let orders = fleet
            .world
            .payer_store()
            .await
            .order_totals(None)
            .await
            .unwrap()
            .all()
            .unwrap()
            .count;
        for call in 0..40 {
            fleet.balancer.turn_to(&[[b, a][call % 2]]);
            let path = format!("/turn/{call}");
            let error = client
                .get(fleet.path_url(&path))
                .header("Idempotency-Key", &path)
                .send()
                .await
                .unwrap_err();
            assert!(is_over(&error), "{error:?}");
            assert_eq!(fleet.upstream.asked(&path), 1);
        }
        let after = fleet
            .world
            .payer_store()
            .await
            .order_totals(None)
            .await
            .unwrap()
            .all()
            .unwrap()
            .count;
        assert_eq!(after, orders, "no other ticket was signed");

        // Two addresses instead of one: the terms of each are known, and nothing is to be corrected.
        let mut requests = 0;
        for call in 0..60 {
            let url = format!("http://{}/own/{call}", [a, b][call % 2]);
            let answer = client.get(url).send().await.unwrap();
            requests += answer.extensions().get::<Paid>().unwrap().requests;
        }
        println!(
            "two addresses: {:.2} requests per call",
            f64::from(requests) / 60.0
        );
        assert!(
            requests <= 62 + 6,
            "{requests} requests for 60 calls, two of them the first at their gateway, and few after a claim"
        );
    });

    // Who is not the claimer is asked in vain; the claimer takes the winners of both. (Where gas has become cheap, it may
    // have begun by itself.)
    assert!(block_on(fleet.all_wins()) > 10);
    second.signal(Signal::SIGUSR1);
    thread::sleep(LEASE);
    first.signal(Signal::SIGUSR1);
    eventually("all winners are claimed", || fleet.unclaimed() == 0);
    assert!(!second.log.lock().contains("claim sent"), "only one claims");
    block_on(async {
        let claims = fleet.store().await.claims(u32::MAX).await.unwrap();
        let boots = |claim: &ClaimRecord| {
            let boots: BTreeSet<u64> = claim
                .wins
                .iter()
                .map(|win| win.ticket.state().session.boot)
                .collect();
            boots.len()
        };
        assert!(
            claims.iter().any(|claim| boots(claim) == 2),
            "in one go: {claims:?}"
        );
    });

    // The claimer dies; the other sells on, and claims.
    first.kill();
    let died = Instant::now();
    block_on(async {
        let client = fleet.payer().await;
        for call in 0..40 {
            client
                .get(format!("http://{b}/after/{call}"))
                .send()
                .await
                .unwrap();
        }
    });
    assert!(fleet.unclaimed() > 2);
    second.assert_logged("the claimer of the fleet has changed");
    let took = died.elapsed();
    println!("taken over after {:.1} s", took.as_secs_f32());
    assert!(took < LEASE * 2, "{took:?}");
    fleet.claim_all(&second);
    let ledger = block_on(async { audit(&fleet.world, &fleet.store().await, &before).await });
    println!("{ledger}");
    assert_eq!(second.stop(), Some(0));
}

/// A payer loses its patience with one gateway while its call is computed there, and asks the other. Whatever the draw, it
/// is charged once: a winner is in the database, and is honoured; a loser cost nothing. And if the other one has no answer,
/// it does not take back what the first is about to deliver.
#[test]
fn an_impatient_payer_is_charged_once() {
    let fleet = Fleet::new();
    let before = block_on(fleet.world.escrow_record());
    let (first, a) = fleet.gateway(SHOP, &CALM);
    let (_second, b) = fleet.gateway(SHOP, &CALM);
    block_on(async {
        let client = fleet.payer().await;
        for call in 0..32 {
            let path = format!("/call/{call}");
            let get = || {
                client
                    .get(fleet.path_url(&path))
                    .header("Idempotency-Key", &path)
                    .send()
            };
            let brings = async |answer: reqwest::Response| {
                assert_eq!(answer.text().await.unwrap(), format!("GET {path} "));
            };
            fleet.balancer.turn_to(&[a]);
            fleet.upstream.turn(Mood::Fine(SLOW));
            let patient = get();
            let impatient = async {
                tokio::time::sleep(SLOW / 2).await;
                fleet.balancer.turn_to(&[b]);
                match call % 2 {
                    // There it is not to be had just now.
                    0 => fleet.upstream.turn(Mood::Failing),
                    _ => fleet.upstream.turn(Mood::Fine(Duration::ZERO)),
                }
                get().await
            };
            // The store of the payer has one word for both, the first that comes.
            let (first_answer, second_answer) = tokio::join!(patient, impatient);
            if call % 2 == 1 {
                brings(second_answer.unwrap()).await;
            } else if let Ok(answer) = first_answer {
                brings(answer).await;
            }
        }
    });
    fleet.claim_all(&first);
    let ledger = block_on(async { audit(&fleet.world, &fleet.store().await, &before).await });
    println!("{ledger}");
}

/// A gateway without a key to claim with leaves the claims to one that has a key, whoever came first.
#[test]
fn a_gateway_without_a_key_leaves_the_claims_to_another() {
    let fleet = Fleet::new();
    let address = fleet.world.shop().to_string();
    let (_keyless, a) = fleet.gateway(&address, &CALM);
    let (keyed, b) = fleet.gateway(SHOP, &CALM);
    block_on(async {
        let client = fleet.payer().await;
        for call in 0..40 {
            let url = format!("http://{}/call/{call}", [a, b][call % 2]);
            client.get(url).send().await.unwrap();
        }
    });
    assert!(fleet.unclaimed() > 2);
    fleet.claim_all(&keyed);
}

/// `claim list` and `claim now` see what the gateways on a database won. While one of these claims, `claim now` leaves it to
/// that one; among gateways that only sell it claims itself, and these sell on.
#[test]
fn winners_in_a_database_are_listed_and_claimed_by_hand() {
    let fleet = Fleet::new();
    let sell = |address: SocketAddr, calls: usize| {
        block_on(async {
            let client = fleet.payer().await;
            for call in 0..calls {
                client
                    .get(format!("http://{address}/by-hand/{call}"))
                    .send()
                    .await
                    .unwrap();
            }
        });
    };
    let storage = ["--storage", fleet.url.as_str()];
    let list = || {
        fleet
            .world
            .json(&[&["claim", "list", SHOP][..], &storage].concat())
    };
    let now = [&["claim", "now", "--from", SHOP][..], &storage].concat();

    let (keyed, a) = fleet.gateway(SHOP, &CALM);
    sell(a, 40);
    let won = fleet.unclaimed();
    assert!(won > 2);
    assert_eq!(list()["wins"]["won"], won);
    let error = fleet.world.error(4, &now);
    assert!(
        error.contains("another process on this database claims"),
        "{error}"
    );
    assert_eq!(fleet.unclaimed(), won);
    assert_eq!(keyed.stop(), Some(0));

    let address = fleet.world.shop().to_string();
    let (_keyless, b) = fleet.gateway(&address, &CALM);
    sell(b, 40);
    let won = fleet.unclaimed();
    assert_eq!(fleet.world.json(&now)["claimed"], won);
    let listed = list();
    assert_eq!(
        (&listed["wins"]["won"], &listed["wins"]["final"]),
        (&0.into(), &won.into())
    );
    assert_eq!(listed["claims"][0]["state"], "final");
    sell(b, 8);
}

/// The database is restarted as by a crash, and is away for longer than a lease; gateways are killed, the claimer first of
/// all. All under load, and every call gets its answer.
#[test]
fn neither_a_lost_database_nor_a_lost_gateway_loses_anything() {
    let fleet = Fleet::new();
    let before = block_on(fleet.world.escrow_record());
    let (first, a) = fleet.gateway(SHOP, &[]);
    let (second, b) = fleet.gateway(SHOP, &[]);
    fleet.balancer.turn_to(&[a, b]);
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let given_up = Mutex::new(Vec::new());
    let (mut gateways, mut addresses) = ([first, second], [a, b]);
    thread::scope(|scope| {
        let (fleet, over, answered, given_up) = (&fleet, &over, &answered, &given_up);
        scope.spawn(move || block_on(load(fleet, over, answered, given_up)));
        let since = |before: usize| answered.load(Ordering::Relaxed) - before;
        let sells = |what: &str| {
            let before = answered.load(Ordering::Relaxed);
            eventually(what, || since(before) >= 20);
        };
        sells("it sells");
        for _ in 0..2 {
            fleet.cluster.restart();
            sells("it sells after a restart of the database");
        }
        // Both are ruled dead, and begin anew.
        fleet.cluster.stop();
        thread::sleep(LEASE + Duration::from_secs(1));
        fleet.cluster.resume();
        sells("it sells after the database was away");
        for victim in [0, 1, 0, 1] {
            gateways[victim].kill();
            fleet.balancer.turn_to(&[addresses[1 - victim]]);
            sells("the other one sells");
            (gateways[victim], addresses[victim]) = fleet.gateway(SHOP, &[]);
            fleet.balancer.turn_to(&addresses);
            sells("both sell");
        }
        over.store(true, Ordering::Relaxed);
    });
    // Whoever claims now.
    eventually("all winners are claimed", || {
        gateways
            .iter()
            .for_each(|gateway| gateway.signal(Signal::SIGUSR1));
        thread::sleep(Duration::from_millis(300));
        fleet.unclaimed() == 0
    });
    let ledger = block_on(async { audit(&fleet.world, &fleet.store().await, &before).await });
    let given_up = given_up.into_inner();
    println!(
        "{} calls answered, {} given up; {ledger}",
        answered.load(Ordering::Relaxed),
        given_up.len()
    );
    // A balancer that sends every request elsewhere makes a call fail now and then: no more than four tickets are signed.
    assert!(
        given_up.len() * 10 <= answered.load(Ordering::Relaxed),
        "{given_up:?}"
    );
    for gateway in gateways {
        let log = gateway.log.lock().clone();
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(gateway.stop(), Some(0));
    }
}

/// Calls through the balancer, each made again under its name until it has its answer.
async fn load(fleet: &Fleet, over: &AtomicBool, answered: &AtomicUsize, given_up: &Mutex<Vec<String>>) {
    let client = fleet.payer().await;
    let task = async |task: usize| {
        for call in 0.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let path = format!("/load/{task}/{call}");
            loop {
                match client
                    .get(fleet.path_url(&path))
                    .header("Idempotency-Key", &path)
                    .send()
                    .await
                {
                    Ok(answer) if answer.status() == 200 => {
                        if answer
                            .text()
                            .await
                            .is_ok_and(|text| text == format!("GET {path} "))
                        {
                            answered.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    }
                    Ok(answer) => panic!("{answer:?}"),
                    Err(error) => {
                        let retry = ClientError::of(&error).is_none_or(ClientError::retry);
                        if !retry {
                            given_up.lock().push(format!("{path}: {error}"));
                            break;
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    join_all((0..4).map(task)).await;
}
