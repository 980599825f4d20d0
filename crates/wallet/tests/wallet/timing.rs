//! How long a payment computes, payer and payee together: printed, and held to a bound that a busy machine keeps.
//! `cargo test -p micropay-wallet --release timing -- --nocapture` for the numbers that count.

use std::time::{Duration, Instant};

use protocol::offline::Amount;
use storage::{MemoryStore, SqliteStore};
use wallet::Store;

use crate::world::{ETHER, Home, Kind, sent, sent_path};

struct Times(Vec<Duration>);

impl Times {
    fn at(&mut self, percent: usize) -> Duration {
        self.0.sort();
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

/// From the invoice that was read to the acceptance that is ready, without the messages' way.
async fn measure<S: Store + Clone>(name: &str, payer_home: &Home<S>, payee_home: &Home<S>, bound: Duration) {
    const RUNS: usize = 100;
    let (mut payer, mut payee) = (payer_home.start().await, payee_home.start().await);
    let (mut all, mut own) = (Times(Vec::new()), Times(Vec::new()));
    for _ in 0..RUNS {
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
        // Each holding is a message of its own size: what was received goes out again.
        let received = payee.wallet().await.unwrap().holdings[0]
            .fragment(payee.domain())
            .id;
        let exit = payee.exit(received).await.unwrap();
        payee.settled(exit.transfer).await.unwrap();
    }
    println!(
        "{name}: p50 {:?} p95 {:?}, our own code p50 {:?} p95 {:?}",
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

#[tokio::test]
async fn timing_of_a_payment() {
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 5 });
    let payer = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let payee = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    measure("Software, in memory", &payer, &payee, bound).await;
    let payer = Home::<SqliteStore>::on_disk(Kind::Software).await.unwrap();
    let payee = Home::<SqliteStore>::on_disk(Kind::Software).await.unwrap();
    measure("Software, SQLite", &payer, &payee, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn timing_of_a_payment_on_software_tpms() {
    let Some(payer) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let Some(payee) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 50 });
    measure("swtpm, in memory", &payer, &payee, bound).await;
}
