//! Kill -9, again and again, at any moment: of the gateway and of the payer, each on its own. Nothing that was promised may
//! be lost, and nothing may happen twice. `MICROPAY_KILLS=2000` makes it deep, `MICROPAY_KILL_SEED` repeats a run (as far
//! as a machine's timing repeats).

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use gateway::client::{Client, ClientError};
use parking_lot::Mutex;
use payer::ticket::PayError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::OrderStore;

use crate::support::ledger::audit;
use crate::support::upstream::Upstream;
use crate::support::{Gateway, SHOP, Said, World, block_on, escrow_key, free_port, run};

const KILLS: usize = 200;
/// Calls at once through the client library, beside the processes that are killed.
const AT_ONCE: usize = 4;
/// Payers that are killed, at once.
const PAYERS: usize = 2;
/// No machine is that slow.
const LIMIT: Duration = Duration::from_secs(900);

/// Every call has its name and is made again under this name until it has its answer. When all is over, [`audit`] holds,
/// and:
///
/// 6. *No answer is sold twice.* The upstream was asked for a call at most once, and once more for each kill of the gateway
///    during the call: only a gateway that has forgotten a call asks anew. Kills of the payer count for nothing: the gateway
///    goes on, and has the answer for whoever comes back.
/// 7. *What was delivered and acknowledged is not computed for another ticket*: a call that was answered, made again under
///    its name after a restart of the gateway, takes no new ticket.
/// 8. *A call stays without its answer only where both sides lost it*: the answer had left the gateway when the payer died
///    or the connection broke, and the gateway's copy died with the gateway before the payer was back. Its ticket is
///    consumed (as a loser for nothing), and no second one is. This is rare, and rarer still for payers that live.
#[test]
fn no_kill_loses_a_winner_or_sells_anything_twice() {
    let seed = env::var("MICROPAY_KILL_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    let target = env::var("MICROPAY_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    println!("MICROPAY_KILL_SEED={seed}"); // shown when the test fails

    let world = World::ticking();
    world.open_escrow("50", 60_000);
    let before = block_on(world.escrow_record());
    let run = Run {
        world: &world,
        upstream: Upstream::start(Duration::from_millis(30)),
        // The same for every gateway, as the origin is part of a call's name.
        address: SocketAddr::from(([127, 0, 0, 1], free_port())),
        target,
        kills_begun: AtomicUsize::new(0),
        kills_done: AtomicUsize::new(0),
        payer_kills: AtomicUsize::new(0),
        workers: AtomicUsize::new(PAYERS + 1),
        failed: AtomicBool::new(false),
        calls: Mutex::default(),
        started: Instant::now(),
    };
    thread::scope(|scope| {
        scope.spawn(|| run.guarded(|| run.kill_gateways(StdRng::seed_from_u64(seed))));
        for payer in 0..PAYERS {
            let (run, random) = (&run, StdRng::seed_from_u64(!seed + payer as u64));
            scope.spawn(move || run.guarded(|| run.kill_payers(payer, random)));
        }
        scope.spawn(|| run.guarded(|| block_on(run.call_without_end())));
    });
    let killing = run.started.elapsed();

    // In peace: nobody waits for an answer any more, and everything is claimed.
    let mut gateway = run.gateway();
    gateway.address();
    for call in run.calls.lock().iter() {
        let asked = run.upstream.asked(&call.path);
        assert!(
            asked <= 1 + call.kills,
            "{call:?}: the upstream was asked {asked} times"
        );
    }
    run.ask_again();
    world.json(&["claim", "now", "--from", SHOP]);
    world.wait_until_claimed(SHOP);
    run.no_panic(&gateway);
    assert_eq!(gateway.stop(), Some(0));

    let calls = run.calls.lock();
    let again = calls
        .iter()
        .filter(|call| run.upstream.asked(&call.path) > 1)
        .count();
    let lost: Vec<_> = calls.iter().filter(|call| call.end != End::Answered).collect();
    let of_the_living = lost.iter().filter(|call| call.path.starts_with("/task")).count();
    let ledger = block_on(async { audit(&world, &world.merchant_store().await, &before).await });
    println!(
        "{} kills of the gateway, {} of payers in {:.0} s; {} calls, {again} of them computed again, {} given up; {ledger}",
        run.kills_done.load(Ordering::Relaxed),
        run.payer_kills.load(Ordering::Relaxed),
        killing.as_secs_f32(),
        calls.len(),
        lost.len(),
    );
    assert!(
        lost.len() <= 1 + calls.len() / 50 && of_the_living <= 1 + target / 40,
        "{lost:?}"
    );
    assert!(
        ledger.won > 50 && ledger.delivered > 300,
        "too little happened for this to mean much"
    );
}

struct Run<'w> {
    world: &'w World,
    upstream: Upstream,
    address: SocketAddr,
    target: usize,
    /// Kills of the gateway that were begun and that were done: a call may have met all that were begun by its end, and not
    /// done by its beginning.
    kills_begun: AtomicUsize,
    kills_done: AtomicUsize,
    payer_kills: AtomicUsize,
    /// Those who still make calls.
    workers: AtomicUsize,
    failed: AtomicBool,
    calls: Mutex<Vec<Call>>,
    started: Instant,
}

/// A call that is over.
#[derive(Debug)]
struct Call {
    path: String,
    /// Kills of the gateway meanwhile, at most.
    kills: usize,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Answered,
    /// The payer signs no further ticket, in its own words.
    GivenUp(String),
}

impl Run<'_> {
    /// When one side fails, the others must not go on for ever.
    fn guarded<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Guard<'r>(&'r AtomicBool);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
        }
        let _guard = Guard(&self.failed);
        work()
    }

    /// Until both have had their share: a payer is killed while its gateway is, and the other way round.
    fn goes_on(&self) -> bool {
        let limit = LIMIT.max(Duration::from_secs(2 * self.target as u64));
        assert!(
            self.started.elapsed() < limit,
            "not done after {} s",
            limit.as_secs()
        );
        let share = |kills: &AtomicUsize| kills.load(Ordering::Relaxed) >= self.target.div_ceil(2);
        let done = share(&self.kills_done) && share(&self.payer_kills);
        !done && !self.failed.load(Ordering::Relaxed)
    }

    fn gateway(&self) -> Gateway {
        let address = self.address.to_string();
        self.world.serve(&self.upstream, SHOP, &["--listen", &address])
    }

    fn kill_gateways(&self, mut random: StdRng) {
        while self.goes_on() {
            // A claim takes some seconds from queue to final: a few long lives see one through.
            let life = Duration::from_millis(match random.gen_range(0..12) {
                0 => random.gen_range(0..200),
                11 => random.gen_range(3_000..6_000),
                _ => random.gen_range(200..1_000),
            });
            let mut gateway = self.gateway();
            let end = Instant::now() + life;
            while Instant::now() < end {
                assert!(
                    gateway.is_running(),
                    "the gateway ended by itself: {}",
                    gateway.log.lock()
                );
                thread::sleep(Duration::from_millis(5).min(end.saturating_duration_since(Instant::now())));
            }
            self.kills_begun.fetch_add(1, Ordering::SeqCst);
            gateway.kill();
            self.kills_done.fetch_add(1, Ordering::SeqCst);
            self.no_panic(&gateway);
        }
        // The last calls are finished in peace.
        let mut gateway = self.gateway();
        gateway.address();
        while !self.failed.load(Ordering::Relaxed) && self.workers.load(Ordering::Relaxed) > 0 {
            thread::sleep(Duration::from_millis(20));
        }
        self.no_panic(&gateway);
    }

    fn no_panic(&self, gateway: &Gateway) {
        let log = gateway.log.lock();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }

    /// Calls of a payer that is killed again and again.
    fn kill_payers(&self, payer: usize, mut random: StdRng) {
        let out = self.world.path(&format!("payer-{payer}"));
        let mut usual = Duration::from_millis(300);
        for number in 0.. {
            if !self.goes_on() {
                break;
            }
            let path = format!("/payer/{payer}/{number}");
            let args = ["--idempotency-key", &path, "-o", out.to_str().unwrap()];
            self.call(path.clone(), || {
                let begun = Instant::now();
                let mut child = self.world.get(self.address, &path, &args).spawn().unwrap();
                // Most of its time goes to the password; up to a little after its usual end.
                let life = usual.mul_f64(random.gen_range(0.3..1.5));
                while self.goes_on() && child.try_wait().unwrap().is_none() && begun.elapsed() < life {
                    thread::sleep(Duration::from_millis(2));
                }
                if self.goes_on() && child.try_wait().unwrap().is_none() {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    self.payer_kills.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                let said = Said::from(child.wait_with_output().unwrap());
                match said.code {
                    0 => {
                        usual = (usual * 3 + begun.elapsed()) / 4;
                        assert_eq!(fs::read_to_string(&out).unwrap(), format!("GET {path} "));
                        Some(End::Answered)
                    }
                    3 => Some(End::GivenUp(said.json_error(3))),
                    _ => {
                        said.json_error(4);
                        None
                    }
                }
            });
        }
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls of a payer that lives through it.
    async fn call_without_end(&self) {
        let client = self.world.payer().await;
        let task = async |task: usize| {
            for number in 0.. {
                if !self.goes_on() {
                    break;
                }
                let path = format!("/task/{task}/{number}");
                let kills_before = self.kills_done.load(Ordering::SeqCst);
                let end = loop {
                    if let Some(end) = self.try_call(&client, &path).await {
                        break end;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                };
                self.over(path, kills_before, end);
            }
        };
        join_all((0..AT_ONCE).map(task)).await;
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    async fn try_call(&self, client: &Client, path: &str) -> Option<End> {
        assert!(!self.failed.load(Ordering::Relaxed), "another part has failed");
        let url = format!("http://{}{path}", self.address);
        let answer = match client.get(url).header("Idempotency-Key", path).send().await {
            Ok(answer) => answer,
            Err(error) => {
                return match ClientError::of(&error) {
                    Some(ClientError::Pay {
                        cause:
                            cause @ (PayError::DeliveredBefore { .. }
                            | PayError::Taken { .. }
                            | PayError::TooManyRefusals { .. }),
                        ..
                    }) => Some(End::GivenUp(cause.to_string())),
                    Some(other) => {
                        assert!(other.retry(), "{other}");
                        None
                    }
                    None => None, // there is no gateway just now
                };
            }
        };
        // Killed in the middle of it.
        let text = answer.text().await.ok()?;
        assert_eq!(text, format!("GET {path} "));
        Some(End::Answered)
    }

    /// One call, made again until it is over.
    fn call(&self, path: String, mut once: impl FnMut() -> Option<End>) {
        let kills_before = self.kills_done.load(Ordering::SeqCst);
        let end = loop {
            assert!(!self.failed.load(Ordering::Relaxed), "another part has failed");
            if let Some(end) = once() {
                break end;
            }
        };
        self.over(path, kills_before, end);
    }

    fn over(&self, path: String, kills_before: usize, end: End) {
        let kills = self.kills_begun.load(Ordering::SeqCst) - kills_before;
        self.calls.lock().push(Call { path, kills, end });
    }

    /// Calls that were answered, made once more, after a restart of the gateway.
    fn ask_again(&self) {
        let tickets = || {
            block_on(async {
                let store = self.world.payer_store().await;
                store.orders(escrow_key().address()).await.unwrap().len()
            })
        };
        let before = tickets();
        for call in self.calls.lock().iter().rev().step_by(7).take(20) {
            let asked = self.upstream.asked(&call.path);
            let said = run(self
                .world
                .get(self.address, &call.path, &["--idempotency-key", &call.path]));
            match said.code {
                // A winner whose good is not known to have been delivered is honoured: computed again, for its own ticket.
                0 => assert_eq!(said.out, format!("GET {} ", call.path)),
                _ => {
                    said.json_error(3);
                    assert_eq!(self.upstream.asked(&call.path), asked, "{call:?}");
                }
            }
        }
        assert_eq!(tickets(), before, "a call that is over takes no other ticket");
    }
}
