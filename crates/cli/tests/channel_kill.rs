//! Kill -9 of the gateway and of the paying client, again and again, over one channel. `MICROPAY_KILLS=2000` makes it deep,
//! `MICROPAY_KILL_SEED` repeats a run (as far as a machine's timing repeats).

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::upstream::Upstream;
use crate::support::{Gateway, SHOP, Said, World, eventually, free_port, run};

/// Both sides together.
const KILLS: usize = 60;
/// No machine is that slow.
const LIMIT: Duration = Duration::from_secs(900);

/// A call has its name, and is made again under it until it is over: answered, or given up by the client in its own words
/// (its payment was taken, and the answer is gone with the gateway that had it). One call at a time, a unit each.
///
/// 1. *Nothing that was accepted is lost*: what the vendor can close for is at least what was answered.
/// 2. *Nothing is paid twice*: at no time are more units revealed than calls are over, and one under way.
/// 3. *No answer is sold twice*: the upstream is asked once for a call, and once more for each kill of the gateway meanwhile.
/// 4. The receipts of all that open to the end, and the close pays for what was paid.
#[test]
fn no_kill_loses_a_word_or_pays_anything_twice() {
    let seed = env::var("MICROPAY_KILL_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    let target = env::var("MICROPAY_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    println!("MICROPAY_KILL_SEED={seed}"); // shown when the test fails

    let world = World::ticking();
    let mut bank = world.bank();
    let channel = world.open_channel(bank.address(), "100000", &[]);
    let run_ = Run {
        upstream: Upstream::start(Duration::from_millis(20)),
        // The same for every gateway, as the origin is part of a call's name.
        address: SocketAddr::from(([127, 0, 0, 1], free_port())),
        world: &world,
        channel,
        target,
        gateway_kills: AtomicUsize::new(0),
        client_kills: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        started: Instant::now(),
    };
    let calls = thread::scope(|scope| {
        scope.spawn(|| run_.guarded(|| run_.kill_gateways(StdRng::seed_from_u64(seed))));
        let calls = run_.guarded(|| run_.make_calls(StdRng::seed_from_u64(!seed)));
        run_.over.store(true, Ordering::SeqCst);
        calls
    });
    let killing = run_.started.elapsed();

    // In peace.
    let mut gateway = run_.gateway();
    gateway.address();
    for call in &calls {
        let asked = run_.upstream.asked(&call.path);
        assert!(
            asked <= 1 + call.gateway_kills,
            "{call:?}: the upstream was asked {asked} times"
        );
    }
    let before = run_.position();
    for call in calls.iter().filter(|call| call.answered).rev().step_by(5).take(8) {
        // What is over stays so: the same call again moves nothing.
        let said = run(run_.pay(&call.path));
        assert!(said.code == 0 || said.code == 3, "{said:?}");
    }
    assert_eq!(run_.position(), before, "a call that is over takes no other unit");
    let last = run(run_.pay("/the/last"));
    assert_eq!(last.out, "GET /the/last ", "{last:?}");

    let (mine, theirs) = (run_.position(), run_.vendor());
    let answered = 1 + calls.iter().filter(|call| call.answered).count() as u64;
    let over = 1 + calls.len() as u64;
    let paid = theirs["paid"].as_u64().unwrap();
    assert!(
        (answered..=over).contains(&paid),
        "{answered} answered, {over} over, {paid} paid"
    );
    assert_eq!(mine, (paid, paid), "client and vendor agree");

    let opened = world.json(&["channel", "open-receipts", &run_.channel, "--at", &run_.url("")]);
    assert_eq!(
        (&opened["index"], &opened["endsInSigma0"]),
        (&json!(paid), &json!(true))
    );
    assert_eq!(opened["opened"], json!(paid), "a receipt a unit");
    run_.no_panic(&gateway);
    assert_eq!(gateway.stop(), Some(0));
    let closed = world.json(&["channel", "close", &run_.channel, "--from", SHOP]);
    assert_eq!(closed["index"], json!(paid));
    println!(
        "{} kills of the gateway, {} of the client in {:.0} s; {} calls, {} answered, {paid} units paid",
        run_.gateway_kills.load(Ordering::Relaxed),
        run_.client_kills.load(Ordering::Relaxed),
        killing.as_secs_f32(),
        calls.len(),
        calls.iter().filter(|call| call.answered).count(),
    );
    let ends = calls.iter().fold(BTreeMap::<_, usize>::new(), |mut ends, call| {
        *ends.entry(call.answered).or_default() += 1;
        ends
    });
    assert!(
        ends[&true] * 2 > calls.len(),
        "too little was answered for this to mean much: {ends:?}"
    );
}

struct Run<'w> {
    world: &'w World,
    upstream: Upstream,
    address: SocketAddr,
    channel: String,
    target: usize,
    gateway_kills: AtomicUsize,
    client_kills: AtomicUsize,
    over: AtomicBool,
    started: Instant,
}

/// A call that is over.
#[derive(Debug)]
struct Call {
    path: String,
    /// Kills of the gateway meanwhile, at most.
    gateway_kills: usize,
    answered: bool,
}

impl Run<'_> {
    /// When one side fails, the other must not go on for ever.
    fn guarded<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Guard<'r>(&'r AtomicBool);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
        }
        let _guard = Guard(&self.over);
        work()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn gateway(&self) -> Gateway {
        let address = self.address.to_string();
        self.world.serve_channels(&self.upstream, &["--listen", &address])
    }

    fn pay(&self, path: &str) -> std::process::Command {
        self.world
            .pay(&self.channel, self.address, path, &["--idempotency-key", path])
    }

    /// Acknowledged and revealed, as the client has it.
    fn position(&self) -> (u64, u64) {
        let shown = self.world.json(&["channel", "show", &self.channel]);
        let number = |key: &str| shown[key].as_u64().unwrap();
        (number("acknowledged"), number("revealed"))
    }

    fn vendor(&self) -> Value {
        self.world
            .json(&["channel", "show", &self.channel, "--vendor", SHOP])
    }

    fn no_panic(&self, gateway: &Gateway) {
        let log = gateway.log.lock();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }

    fn is_over(&self) -> bool {
        assert!(
            self.started.elapsed() < LIMIT,
            "not done after {} s",
            LIMIT.as_secs()
        );
        self.over.load(Ordering::SeqCst)
    }

    /// Until both have had their share.
    fn goes_on(&self) -> bool {
        let share = |kills: &AtomicUsize| kills.load(Ordering::SeqCst) >= self.target.div_ceil(2);
        let done = share(&self.gateway_kills) && share(&self.client_kills);
        !done && !self.is_over()
    }

    fn kill_gateways(&self, mut random: StdRng) {
        while self.goes_on() {
            let mut gateway = self.gateway();
            eventually("the gateway listens", || {
                gateway.try_address().is_some() || self.over.load(Ordering::SeqCst)
            });
            let life = Duration::from_millis(match random.gen_range(0..8) {
                0 => random.gen_range(0..100),
                _ => random.gen_range(300..2_500),
            });
            let end = Instant::now() + life;
            while Instant::now() < end && self.goes_on() {
                assert!(
                    gateway.is_running(),
                    "the gateway ended by itself: {}",
                    gateway.log.lock()
                );
                thread::sleep(Duration::from_millis(5));
            }
            // Counted before, so that a call that met it counts it.
            self.gateway_kills.fetch_add(1, Ordering::SeqCst);
            gateway.kill();
            self.no_panic(&gateway);
        }
        // The last call is finished in peace.
        let mut gateway = self.gateway();
        while !self.is_over() {
            assert!(
                gateway.is_running(),
                "the gateway ended by itself: {}",
                gateway.log.lock()
            );
            thread::sleep(Duration::from_millis(20));
        }
        self.no_panic(&gateway);
    }

    fn make_calls(&self, mut random: StdRng) -> Vec<Call> {
        let mut calls = Vec::new();
        let mut usual = Duration::from_millis(600);
        while self.goes_on() {
            let path = format!("/call/{}", calls.len());
            // A gateway that is being killed counts, too.
            let kills_before = self.gateway_kills.load(Ordering::SeqCst).saturating_sub(1);
            let answered = loop {
                if let Some(answered) = self.try_call(&path, &mut usual, &mut random) {
                    break answered;
                }
                assert!(!self.is_over(), "the other side has failed");
            };
            let gateway_kills = self.gateway_kills.load(Ordering::SeqCst) - kills_before;
            calls.push(Call {
                path,
                gateway_kills,
                answered,
            });
            if calls.len().is_multiple_of(8) {
                let (acknowledged, revealed) = self.position();
                let over = calls.len() as u64;
                assert!(
                    revealed <= acknowledged + 1 && revealed <= over + 1,
                    "{revealed} revealed, {acknowledged}, {over} over"
                );
            }
        }
        calls
    }

    /// One attempt, which may be killed. `None`: to be made again.
    fn try_call(&self, path: &str, usual: &mut Duration, random: &mut StdRng) -> Option<bool> {
        let begun = Instant::now();
        let mut child = self.pay(path).spawn().unwrap();
        // Most of its time goes to the password; up to a little after its usual end.
        let life = usual.mul_f64(random.gen_range(0.3..1.6));
        while self.goes_on() && child.try_wait().unwrap().is_none() && begun.elapsed() < life {
            thread::sleep(Duration::from_millis(2));
        }
        if self.goes_on() && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            self.client_kills.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        let said = Said::from(child.wait_with_output().unwrap());
        match said.code {
            0 => {
                *usual = (*usual * 3 + begun.elapsed()) / 4;
                assert_eq!(said.out, format!("GET {path} "));
                Some(true)
            }
            3 => {
                said.json_error(3);
                // Before the opening is final no channel is known.
                (!said.err.contains("channel-missing") && !said.err.contains("not-final")).then_some(false)
            }
            _ => {
                assert_eq!(said.code, 4, "{said:?}");
                None
            }
        }
    }
}
