//! How long a payment computes, payer and payee together: printed, and held to a bound that a busy machine keeps.
//! `cargo test -p micropay-wallet --release timing -- --nocapture` for the numbers that count.

use std::time::{Duration, Instant};

use protocol::offline::Amount;
use storage::{MemoryStore, SqliteStore};
use wallet::Store;

use crate::world::{ETHER, Home, Kind, hand_over, sent, sent_path};

struct Times(Vec<Duration>);

impl Times {
    fn at(&mut self, percent: usize) -> Duration {
        self.0.sort();
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

/// From the invoice that was read to the acceptance that is ready, without the messages' way; the payee holds `held` others.
async fn measure<S: Store + Clone>(
    name: &str,
    payer_home: &Home<S>,
    payee_home: &Home<S>,
    held: usize,
    bound: Duration,
) {
    let runs = if held == 0 { 200 } else { 30 };
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    for _ in 0..held {
        payer.import(&payer_home.coin(10)).await.unwrap();
        hand_over(&mut payer, &mut payee, 10).await;
    }
    let (mut all, mut own) = (Times(Vec::new()), Times(Vec::new()));
    for _ in 0..runs {
        payer.import(&payer_home.coin(10)).await.unwrap();
        let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
        payer_home.fuse.take_outside();
        payee_home.fuse.take_outside();
        let start = Instant::now();
        let payment = payer.pay(&sent(&invoice)).await.unwrap();
        let acceptance = payee.receive(&sent_path(&payment.path)).await.unwrap();
        let elapsed = start.elapsed();
        let outside = payer_home.fuse.take_outside() + payee_home.fuse.take_outside();
        all.0.push(elapsed);
        own.0.push(elapsed.saturating_sub(outside));
        payer.accepted(&acceptance).await.unwrap();
        if held == 0 {
            // What was received goes out again, so that each run finds the same books.
            let received = payee.wallet().await.unwrap().holdings[0]
                .fragment(payee.domain())
                .id;
            let exit = payee.exit(received).await.unwrap();
            payee.settled(exit.transfer).await.unwrap();
        }
    }
    // Of that, signatures that are verified: the invoice's, and the payment's on both sides; registration and deposit twice.
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        assert!(invoice.verify(payee.domain()));
    }
    let verify = start.elapsed() / 20;
    let start = Instant::now();
    for _ in 0..20 {
        payer_home.registration.registrar(payee.domain()).unwrap();
    }
    let recover = start.elapsed() / 20;
    println!(
        "{name}: of that, 3 P-256 checks of {verify:?} and 4 recoveries of {recover:?} are {:?}",
        3 * verify + 4 * recover
    );
    println!(
        "{name}, {held} held: p50 {:?} p95 {:?}; without component and store p50 {:?} p95 {:?}",
        all.at(50),
        all.at(95),
        own.at(50),
        own.at(95)
    );
    assert!(
        all.at(50) < bound,
        "{name}: p50 {:?}, bound {bound:?}",
        all.at(50)
    );
}

/// Unoptimised code, and other tests beside it.
const SLACK: u32 = if cfg!(debug_assertions) { 20 } else { 1 };

#[tokio::test]
async fn timing_of_a_payment() {
    let bound = Duration::from_millis(5) * SLACK;
    let payer = Home::<MemoryStore>::in_memory(Kind::SoftwareInRam).await.unwrap();
    let payee = Home::<MemoryStore>::in_memory(Kind::SoftwareInRam).await.unwrap();
    measure("Software, all in memory", &payer, &payee, 0, bound).await;
    measure("Software, all in memory", &payer, &payee, 100, bound).await;
    let payer = Home::<SqliteStore>::on_disk(Kind::Software).await.unwrap();
    let payee = Home::<SqliteStore>::on_disk(Kind::Software).await.unwrap();
    measure(
        "Software, flushed to disk",
        &payer,
        &payee,
        0,
        Duration::from_secs(1),
    )
    .await;
}

#[tokio::test]
async fn timing_of_a_payment_on_software_tpms() {
    let Some(payer) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let Some(payee) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    measure("swtpm", &payer, &payee, 0, Duration::from_millis(50) * SLACK).await;
}
