//! How many winners a second a merchant can make durable, by how many deliveries wait at the same time.
//!
//! `cargo run --release -p micropay-storage --features conformance --example save_win [FOLDER] [WINS]`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{error::Error, path::PathBuf, sync::Arc, time::Instant};

use micropay_storage::{
    SqliteStore, WinStore,
    conformance::fixture::{identity, win},
};
use protocol::ticket::{Amount, Timestamp};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let count: u64 = args.next().map_or(Ok(4096), |count| count.parse())?;
    println!(
        "{:>10} {:>10} {:>10} {:>12} {:>14}",
        "waiting", "wins", "seconds", "wins/s", "wins/commit"
    );
    for waiting in [1, 4, 16, 64, 256, 1024] {
        let folder = tempfile::tempdir_in(&parent)?;
        let store = SqliteStore::open(folder.path().join("merchant.db"), identity()).await?;
        // One at a time costs a flush each; fewer are enough to see it.
        let count = count.min(waiting * 256);
        let wins = Arc::new(
            (0..count)
                .map(|nonce| win(nonce % 4, nonce, 0))
                .collect::<Vec<_>>(),
        );
        let before = store.stats();
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..waiting {
            let (store, wins) = (store.clone(), wins.clone());
            tasks.spawn(async move {
                for ticket in wins.iter().skip(lane as usize).step_by(waiting as usize) {
                    // Only after this may the good be delivered.
                    store
                        .save_win(
                            ticket,
                            micropay_storage::conformance::fixture::order(1),
                            Amount(1),
                            Timestamp(0),
                        )
                        .await?;
                }
                Ok::<_, micropay_storage::StoreError>(())
            });
        }
        while let Some(result) = tasks.join_next().await {
            result??;
        }
        let seconds = start.elapsed().as_secs_f64();
        let commits = store.stats().commits - before.commits;
        println!(
            "{waiting:>10} {count:>10} {seconds:>10.3} {:>12.0} {:>14.1}",
            count as f64 / seconds,
            count as f64 / commits as f64
        );
        store.close().await?;
    }
    Ok(())
}
