//! What a remembered payer costs, measured in a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "its number stands in the documentation")]

use std::time::Instant;

use alloy_primitives::{Address, U256};
use micropay_gateway::server::operator::{Counters, REMEMBERED_PAYERS};
use protocol::ticket::{Amount, Timestamp};

#[test]
fn a_remembered_payer_takes_a_few_hundred_bytes() {
    let counters = Counters::with_room(Timestamp(0), REMEMBERED_PAYERS);
    let before = resident();
    let many = REMEMBERED_PAYERS.get() as u64;
    // Each shard has its share of the room, so that the fullest ones already forget a few.
    for n in 0..many {
        counters.accepted(address(n), address(n), Amount(100), 0.01, n % 100 == 0);
    }
    let (known, forgotten) = counters.payers();
    let bytes = (resident() - before) / known;
    println!(
        "{known} payers ({} forgotten): {bytes} bytes each",
        forgotten.payers
    );
    assert!(known > many * 95 / 100, "{known}");
    assert!(bytes < 400, "{bytes}");

    // The bound holds whatever comes.
    for n in many..2 * many {
        counters.accepted(address(n), address(n), Amount(100), 0.01, false);
    }
    assert!(counters.payers().0 <= many);
    assert_eq!(counters.total().accepted, 2 * many);

    let start = Instant::now();
    let top = counters.top_payers(50);
    println!("top 50 of {known}: {:?}", start.elapsed());
    assert_eq!(top.len(), 50);

    for threads in [1, 2] {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let counters = &counters;
                scope.spawn(move || {
                    for n in 0..many {
                        let payer = address(n * threads + thread);
                        counters.accepted(payer, payer, Amount(100), 0.01, false);
                    }
                });
            }
        });
        let each = start.elapsed() / (many * threads) as u32;
        println!("one accepted ticket of {threads} threads: {each:?}");
    }
}

fn address(n: u64) -> Address {
    Address::from_word(U256::from(n).into())
}

/// Memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("so it has this");
    let kilobytes: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse().ok())
        .expect("a number");
    kilobytes * 1024
}
