//! Kill -9 of every command of an offline wallet, at any moment: registration, deposit, invoice, payment, acceptance, exit.
//! `MICROPAY_KILLS=2000` makes it deep, `MICROPAY_KILL_SEED` repeats a run (as far as a machine's timing repeats).

use std::collections::HashSet;
use std::env;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::primitives::Address;
use chain::{At, ChainConfig, Client, Vaults};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::wallets::{Market, Purse, wei};
use crate::support::{Said, block_on};

/// All of them together.
const KILLS: usize = 210;
/// No machine is that slow.
const LIMIT: Duration = Duration::from_secs(600);
/// What each wallet deposits in a round: 0.1.
const COIN: u128 = 100_000_000_000_000_000;
/// Payments of a round: fewer than a path has hops.
const PAYMENTS: u128 = 12;

/// Three pairs of wallets, each pair by itself: they deposit, pay each other, and leave, in rounds. Every command is made again
/// until it ends by itself.
///
/// 1. *Nothing is lost and nothing made*: what the owners are credited at the end is what was deposited, and each owner has
///    its deposits less what it paid and more than it was paid, to the wei.
/// 2. *Nothing is done twice*: the chain has as many coins of a wallet as it was told to deposit.
/// 3. *What left, leaves again the same*: whatever two runs give out for one invoice is one message.
#[test]
fn no_kill_loses_money_or_pays_twice() {
    let seed = env::var("MICROPAY_KILL_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    let target = env::var("MICROPAY_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    println!("MICROPAY_KILL_SEED={seed}"); // shown when the test fails

    let market = Market::new();
    let run = Run {
        market: &market,
        kills: AtomicUsize::new(0),
        target,
        started: Instant::now(),
    };
    let pairs = thread::scope(|scope| {
        let pairs = [0, 2, 4].map(|first| {
            let (run, random) = (&run, StdRng::seed_from_u64(seed ^ u64::try_from(first).unwrap()));
            scope.spawn(move || run.pair(first, random))
        });
        pairs.map(|pair| pair.join().unwrap())
    });
    let killing = run.started.elapsed();

    let mut deposited = 0;
    for pair in &pairs {
        for (side, purse) in pair.purses.iter().enumerate() {
            let (paid, received) = (pair.paid[side], pair.paid[1 - side]);
            let coins = market.json(purse, &["wallet", "import"]);
            assert_eq!(
                coins.as_array().unwrap().len() as u128,
                pair.rounds,
                "one coin a deposit: {coins}"
            );
            assert!(
                coins
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|coin| coin["imported"] == false),
                "each was imported: {coins}"
            );
            assert_eq!(
                market.credit(purse.owner),
                pair.rounds * COIN + received - paid,
                "{} of {pair:?}",
                purse.owner
            );
            let balance = market.balance(purse);
            assert_eq!(
                (wei(&balance["held"]), wei(&balance["settled"])),
                (0, pair.rounds * COIN + received - paid),
                "{balance}"
            );
            assert_eq!(balance["outstandingPayments"], 0);
            deposited += pair.rounds * COIN;
        }
    }
    assert_eq!(in_vault(&market), deposited, "all of it is somebody's credit");
    println!(
        "{} kills in {:.0} s; {} rounds, {} payments",
        run.kills.load(Ordering::SeqCst),
        killing.as_secs_f32(),
        pairs.iter().map(|pair| pair.rounds).sum::<u128>(),
        pairs.iter().map(|pair| pair.payments).sum::<u32>(),
    );
    assert!(run.kills.load(Ordering::SeqCst) >= target);
}

fn in_vault(market: &Market) -> u128 {
    block_on(async {
        let config = ChainConfig::new(market.world.anvil.chain_id());
        let client = Client::<Vaults>::connect(market.world.anvil.url(), config)
            .await
            .unwrap();
        let held = client.balance(Address::ZERO, client.contract(), At::Latest).await;
        held.unwrap().0
    })
}

struct Run<'m> {
    market: &'m Market,
    kills: AtomicUsize,
    target: usize,
    started: Instant,
}

/// Two wallets, and what they should have.
#[derive(Debug)]
struct Pair {
    purses: [Purse; 2],
    /// By each, to the other.
    paid: [u128; 2],
    rounds: u128,
    payments: u32,
}

impl Run<'_> {
    fn goes_on(&self) -> bool {
        assert!(
            self.started.elapsed() < LIMIT,
            "not done after {} s",
            LIMIT.as_secs()
        );
        self.kills.load(Ordering::SeqCst) < self.target
    }

    /// The wallets of the accounts `first` and the one after.
    fn pair(&self, first: usize, mut random: StdRng) -> Pair {
        let purses = [0, 1].map(|side| {
            let purse = self
                .market
                .new_purse(&format!("wallet-{}", first + side), first + side);
            let register = ["register", "--from", purse.owner];
            self.until_done(&purse, &register, None, &mut random);
            self.market.take(&purse, "100");
            purse
        });
        let mut pair = Pair {
            purses,
            paid: [0; 2],
            rounds: 0,
            payments: 0,
        };
        let mut coins = HashSet::new();
        while self.goes_on() || pair.rounds == 0 {
            pair.rounds += 1;
            for purse in &pair.purses {
                let deposit = ["deposit", "--amount", "0.1", "--from", purse.owner];
                // Killed between its answer and its end, a deposit gives the same answer once more.
                loop {
                    let answer = self.until_done(purse, &deposit, None, &mut random);
                    if coins.insert(answer["coin"].to_string()) {
                        break;
                    }
                }
            }
            for number in 0..PAYMENTS {
                let payer = random.gen_range(0..2);
                // Each of another amount, so that none can stand for another; all together less than a coin.
                let amount = COIN / 40 + 1_000 * pair.rounds + number;
                self.pay(&mut pair, payer, amount, &mut random);
            }
            for purse in &pair.purses {
                self.until_done(purse, &["redeem", "--from", purse.owner], None, &mut random);
            }
        }
        pair
    }

    fn pay(&self, pair: &mut Pair, payer: usize, amount: u128, random: &mut StdRng) {
        let [payer_purse, payee] = [payer, 1 - payer].map(|side| pair.purses[side].clone());
        let wanted = format!("{amount}wei");
        // An invoice that was killed is nothing: another is made.
        let invoice = self.until_done(&payee, &["invoice", "--amount", &wanted], None, random);
        let paid = self.until_done(&payer_purse, &["pay", "--yes"], Some(&invoice), random);
        if random.gen_ratio(1, 4) {
            let again = self.until_done(&payer_purse, &["pay", "--yes"], Some(&invoice), random);
            assert_eq!(again["message"], paid["message"], "the same transfer");
        }
        let taken = self.until_done(&payee, &["accept"], Some(&paid), random);
        assert_eq!(
            (&taken["transfer"], &taken["code"]),
            (&paid["transfer"], &paid["code"])
        );
        if random.gen_ratio(1, 4) {
            let again = self.until_done(&payee, &["accept"], Some(&paid), random);
            assert_eq!(
                (&again["message"], &again["again"]),
                (&taken["message"], &json!(true))
            );
        }
        self.until_done(&payer_purse, &["accept"], Some(&taken), random);
        pair.paid[payer] += amount;
        pair.payments += 1;
    }

    /// Makes a command, with a message on standard input, until it ends by itself. The last runs in peace.
    fn until_done(&self, purse: &Purse, words: &[&str], input: Option<&Value>, random: &mut StdRng) -> Value {
        let online = matches!(words[0], "register" | "deposit" | "redeem");
        // What it takes in peace, about: the password takes most of what is online, then blocks do.
        let usual = Duration::from_millis(if online { 2_500 } else { 120 });
        let mut kills = 0;
        loop {
            let mut command = self.market.command(purse, words);
            command.stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            });
            let mut child = command.spawn().unwrap();
            if let Some(message) = input {
                use std::io::Write;
                let mut pipe = child.stdin.take().unwrap();
                // Killed, it reads nothing.
                let _ = pipe.write_all(message["message"].as_str().unwrap().as_bytes());
            }
            // Never for ever: each step gets its chance.
            if self.goes_on() && kills < 6 && random.gen_ratio(2, 3) {
                let life = usual.mul_f64(random.gen_range(0.02..1.1));
                let end = Instant::now() + life;
                while Instant::now() < end && child.try_wait().unwrap().is_none() {
                    thread::sleep(Duration::from_millis(1));
                }
                if child.try_wait().unwrap().is_none() {
                    child.kill().unwrap();
                    let said = child.wait_with_output().unwrap().stdout;
                    self.kills.fetch_add(1, Ordering::SeqCst);
                    kills += 1;
                    // Whoever has the answer does not ask again.
                    match serde_json::from_slice(&said) {
                        Ok(answer) => return answer,
                        Err(_) => continue,
                    }
                }
            }
            let said = Said::from(child.wait_with_output().unwrap());
            assert!(!said.err.contains("panicked"), "{words:?}: {said:?}");
            return said.json();
        }
    }
}
