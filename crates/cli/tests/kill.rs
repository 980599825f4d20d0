//! Kill -9, again and again, at any moment: of the merchant and of the payer, each on its own. Nothing that was promised
//! may be lost, and nothing may happen twice. `MICROPAY_KILLS=2000` makes it deep, `MICROPAY_KILL_SEED` repeats a run (as
//! far as a machine's timing repeats).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256};
use bindings::ticket::TicketEscrow::TicketEscrowEvents;
use chain::At;
use protocol::ticket::{Amount, Seed, Session, SessionId, Signature, Ticket, draw};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use storage::{ClaimState, ClaimStore, OrderStore, SeedStore, WinFilter, WinState, WinStore};

use crate::support::recorder::{Exchange, Recorder};
use crate::support::{Merchant, SHOP, Said, World, block_on, escrow_key};

const KILLS: usize = 100;
const PIECES: usize = 300;
const PRIZE: Amount = Amount(1_000_000_000_000_000);
/// No machine is that slow.
const LIMIT: Duration = Duration::from_secs(900);

#[test]
fn no_kill_loses_a_winner_or_pays_it_twice() {
    let seed = env::var("MICROPAY_KILL_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    let target = env::var("MICROPAY_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    println!("MICROPAY_KILL_SEED={seed}"); // shown when the test fails

    let world = World::ticking();
    world.open_escrow("50", 60_000);
    let (goods, content) = world.goods(PIECES * 1024 - 100);
    let run = Run {
        world: &world,
        goods,
        content,
        recorder: Recorder::start(),
        target,
        merchant_kills: AtomicUsize::new(0),
        payer_kills: AtomicUsize::new(0),
        abandoned: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        started: Instant::now(),
    };
    let purchases = thread::scope(|scope| {
        let merchants = scope.spawn(|| run.guarded(|| run.kill_merchants(StdRng::seed_from_u64(seed))));
        let payers = scope.spawn(|| run.guarded(|| run.kill_payers(StdRng::seed_from_u64(!seed))));
        merchants.join().unwrap();
        payers.join().unwrap()
    });
    let killing = run.started.elapsed();

    // In peace: the purchase under way is finished, and everything claimed.
    let mut merchant = world.merchant(SHOP, &run.goods, &[]);
    run.recorder.forward_to(Some(merchant.address()));
    if !run.finished(purchases, run.pay(purchases)) {
        assert!(
            run.finished(purchases + 1, run.pay(purchases + 1)),
            "nothing is in its way"
        );
    }
    world.json(&["claim", "now", "--from", SHOP]);
    world.wait_until_claimed(SHOP);
    assert_eq!(merchant.stop(), Some(0));
    println!(
        "{} kills of the merchant, {} of the payer in {:.0} s; {} purchases of {PIECES} pieces, {} given up",
        run.merchant_kills.load(Ordering::Relaxed),
        run.payer_kills.load(Ordering::Relaxed),
        killing.as_secs_f32(),
        purchases + 1,
        run.abandoned.load(Ordering::Relaxed),
    );
    println!("{}", block_on(check(&world, &run.recorder.exchanges())));
}

struct Run<'w> {
    world: &'w World,
    goods: PathBuf,
    content: Vec<u8>,
    recorder: Recorder,
    target: usize,
    merchant_kills: AtomicUsize,
    payer_kills: AtomicUsize,
    /// Purchases given up.
    abandoned: AtomicUsize,
    failed: AtomicBool,
    started: Instant,
}

fn name(purchase: usize) -> String {
    format!("purchase-{purchase}")
}

impl Run<'_> {
    /// When one side fails, the other must not go on for ever.
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

    /// Until both have had their share: a payer is killed while its merchant is, and the other way round.
    fn goes_on(&self) -> bool {
        assert!(
            self.started.elapsed() < LIMIT,
            "not done after {} s",
            LIMIT.as_secs()
        );
        let share = |kills: &AtomicUsize| kills.load(Ordering::Relaxed) >= self.target.div_ceil(2);
        let done = share(&self.merchant_kills) && share(&self.payer_kills);
        !done && !self.failed.load(Ordering::Relaxed)
    }

    fn kill_merchants(&self, mut random: StdRng) {
        while self.goes_on() {
            // A claim takes some seconds from queue to final: a few long lives see one through.
            let life = Duration::from_millis(match random.gen_range(0..8) {
                0 => random.gen_range(0..200),
                7 => random.gen_range(2_000..4_000),
                _ => random.gen_range(200..1_200),
            });
            let mut merchant = self.world.merchant(SHOP, &self.goods, &[]);
            let end = Instant::now() + life;
            while Instant::now() < end {
                assert!(
                    merchant.is_running(),
                    "the merchant ended by itself: {}",
                    merchant.log.lock()
                );
                self.recorder.forward_to(merchant.try_address());
                thread::sleep(Duration::from_millis(5).min(end.saturating_duration_since(Instant::now())));
            }
            merchant.kill();
            self.no_panic(&merchant);
            self.merchant_kills.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn no_panic(&self, merchant: &Merchant) {
        let log = merchant.log.lock();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }

    /// Returns the number of the purchase that is under way.
    fn kill_payers(&self, mut random: StdRng) -> usize {
        let mut purchase = 0;
        while self.goes_on() {
            let life = Duration::from_millis(random.gen_range(0..1_500));
            let mut payer = self.pay(purchase);
            let end = Instant::now() + life;
            let mut ended = None;
            while ended.is_none() && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
                ended = payer.try_wait().unwrap();
            }
            match ended.and_then(|status| status.code()) {
                None => {
                    payer.kill().unwrap();
                    payer.wait().unwrap();
                    self.payer_kills.fetch_add(1, Ordering::Relaxed);
                }
                Some(4) => {} // the merchant is dead just now
                Some(_) => {
                    self.finished(purchase, payer);
                    purchase += 1;
                }
            }
        }
        purchase
    }

    /// The purchase brought the file; or one of its pieces met so many dead merchants that the payer suspects them of
    /// fishing for draws and signs no fifth ticket for it.
    fn finished(&self, purchase: usize, payer: Child) -> bool {
        let said = Said::from(payer.wait_with_output().unwrap());
        if said.code == 3 && said.err.contains("refused 4 tickets for one purchase") {
            assert!(
                self.abandoned.fetch_add(1, Ordering::Relaxed) < self.target / 20,
                "{said:?}"
            );
            return false;
        }
        assert_eq!(said.json()["sha256_ok"], true);
        let got = fs::read(self.world.path(&name(purchase))).unwrap();
        assert!(got == self.content, "purchase {purchase} brought another file");
        true
    }

    fn pay(&self, purchase: usize) -> Child {
        let mut command = self.world.pay(self.recorder.address, &name(purchase));
        command.args(["--at-once", "6"]).spawn().unwrap()
    }
}

/// All that must be true, from the stores, the chain and the wire. Returns what was found, in words.
async fn check(world: &World, exchanges: &[Exchange]) -> String {
    let (domain, shop, escrow) = (world.domain(), world.shop(), escrow_key().address());
    let store = world.merchant_store().await;

    // Every winner that was ever stored is paid, in full.
    let wins = store.wins(WinFilter::default()).await.unwrap();
    for win in &wins {
        assert_eq!(
            win.state,
            WinState::Final {
                paid: PRIZE,
                owed: Amount::ZERO
            },
            "nonce {}",
            win.ticket.nonce()
        );
    }
    let stored: BTreeSet<u64> = wins.iter().map(|win| win.ticket.nonce().0).collect();
    assert_eq!(stored.len(), wins.len());

    // The chain has paid exactly these, each once.
    let client =
        chain::ChainClient::connect(world.anvil.url(), chain::ChainConfig::new(world.anvil.chain_id()));
    let client = client.await.unwrap();
    let head = client.head().await.unwrap().number;
    let mut claimed = BTreeSet::new();
    for event in client.events(0, head).await.unwrap() {
        match event.event {
            TicketEscrowEvents::Claimed(paid) => {
                assert_eq!((paid.escrow, paid.recipient), (escrow, shop));
                assert!(claimed.insert(paid.nonce), "nonce {} was paid twice", paid.nonce);
            }
            TicketEscrowEvents::TicketSkipped(skipped) => {
                panic!(
                    "the contract left out nonce {} ({})",
                    skipped.nonce, skipped.reason
                );
            }
            _ => {}
        }
    }
    assert_eq!(claimed, stored, "paid on chain, and stored");
    let credit = client.credit_of(Address::ZERO, shop, At::Latest).await.unwrap();
    assert_eq!(credit.0, PRIZE.0 * claimed.len() as u128);
    let claims = store.claims(u32::MAX).await.unwrap();
    assert!(
        claims
            .iter()
            .all(|claim| matches!(claim.state, ClaimState::Final { .. })),
        "an unfinished claim"
    );

    // One ticket for an order, one for a nonce, and none that was not stored before it was sent.
    let orders = world.payer_store().await.orders(escrow).await.unwrap();
    let orders: HashMap<B256, _> = orders.into_iter().map(|order| (order.id.0, order)).collect();
    let mut by_nonce: BTreeMap<u64, B256> = BTreeMap::new();
    let mut delivered = BTreeMap::new();
    let mut sent = 0;
    for exchange in exchanges
        .iter()
        .filter(|exchange| exchange.request["type"] == "buy")
    {
        let ticket = ticket(world, &exchange.request["ticket"]);
        let order: B256 = exchange.request["order"].as_str().unwrap().parse().unwrap();
        let stored = orders
            .get(&order)
            .unwrap_or_else(|| panic!("order {order} was sent and is not stored"));
        assert_eq!(stored.ticket, ticket, "order {order} has another ticket");
        let first = *by_nonce.entry(ticket.nonce().0).or_insert(ticket.digest());
        assert_eq!(
            first,
            ticket.digest(),
            "two tickets with nonce {}",
            ticket.nonce()
        );
        if exchange
            .reply
            .as_ref()
            .is_some_and(|reply| reply["type"] == "piece")
        {
            delivered.insert(ticket.digest(), ticket);
        }
        sent += 1;
    }

    // Whatever was delivered for a winner is paid: the draw is made again, with the secrets that follow from the seed.
    let seed = store.seed_or_insert(Seed::new([0; 32])).await.unwrap();
    let boots = store.next_boot().await.unwrap();
    let session = |boot, serial| Session::derive(&domain, &seed, shop, escrow, SessionId { boot, serial });
    let serials = claims.len() as u64 + 8;
    let secrets: HashMap<B256, B256> = (1..boots)
        .flat_map(|boot| (0..serials).map(move |serial| (boot, serial)))
        .map(|(boot, serial)| session(boot, serial))
        .map(|session| (session.commitment(), session.r1()))
        .collect();
    let mut won = 0;
    for ticket in delivered.values() {
        let r1 = secrets
            .get(&ticket.commitment())
            .expect("delivered under a commitment of this merchant");
        if draw(ticket.digest(), *r1) < ticket.win_threshold().0 {
            assert!(
                claimed.contains(&ticket.nonce().0),
                "nonce {} won, was delivered, and is lost",
                ticket.nonce()
            );
            won += 1;
        }
    }
    let summary = format!(
        "{sent} tickets sent, {} delivered, {won} of them won, {} winners paid in {} claims, {boots} starts",
        delivered.len(),
        claimed.len(),
        claims.len(),
    );
    assert!(
        won > 50 && delivered.len() > 300,
        "too little happened for this to mean much"
    );
    summary
}

fn ticket(world: &World, json: &Value) -> Ticket<protocol::ticket::Issued> {
    let text = |field: &str| {
        json[field]
            .as_str()
            .unwrap_or_else(|| panic!("{field} of {json}"))
            .to_owned()
    };
    let fields = bindings::ticket::Ticket {
        escrow: text("escrow").parse().unwrap(),
        recipient: text("recipient").parse().unwrap(),
        commitment: text("commitment").parse().unwrap(),
        r2: text("r2").parse().unwrap(),
        winThreshold: text("winThreshold").parse().unwrap(),
        expiry: json["expiry"].as_u64().unwrap(),
        nonce: json["nonce"].as_u64().unwrap(),
    };
    let signature = alloy::hex::decode(text("signature")).unwrap();
    Ticket::from_parts(
        &world.domain(),
        fields,
        Signature::from_bytes(&signature).unwrap(),
    )
}
