//! A shop to look at: real counters, a real store in memory, a mirror. Seeded, so that two runs show the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256, keccak256};
use chain::Mirror;
use micropay_gateway::server::operator::{Asset, Counters, Facts, Live, Upstream};
use protocol::channel::Index;
use protocol::ticket::{
    Amount, BlockRef, EscrowRecord, Escrows, Nonce, Seconds, Status, Timestamp, WinThreshold,
};
use storage::channel::{
    ChannelDomainStore, PaymentFate, SettlementStep, SettlementStore, VendorChannelStore,
};
use storage::conformance::{channel_fixture, fixture};
use storage::{ClaimStore, MemoryStore, Outcome, WinStore};

pub(crate) const NOW: Timestamp = Timestamp(1_800_090_000);
const STARTED: Timestamp = Timestamp(1_800_000_000);
const PRICE: Amount = Amount(100_000_000_000_000);
const PRIZE: Amount = Amount(10_000_000_000_000_000);
/// Price over prize.
const ODDS: f64 = 0.01;

pub(crate) fn facts() -> Facts {
    Facts {
        version: "0.1.0".into(),
        url: "http://127.0.0.1:8402/".into(),
        upstream: "http://127.0.0.1:3000".into(),
        recipient: fixture::recipient(),
        contract: address("contract", 0),
        chain_id: 31_337,
        asset: Asset::ether(),
        max_mirror_age: Seconds(120),
    }
}

fn live(facts: Facts, counters: Counters, store: MemoryStore, mirror: Mirror) -> Live<MemoryStore> {
    Live {
        facts,
        counters: Arc::new(counters),
        store,
        mirror: Arc::new(mirror),
        channels: None,
        clock: || NOW,
    }
}

/// Nothing has happened yet.
pub(crate) fn empty() -> Live<MemoryStore> {
    let store = MemoryStore::new(fixture::identity());
    live(
        facts(),
        Counters::new(NOW),
        store,
        Mirror::of(block(0), Escrows::new()),
    )
}

/// A day of trade: a dozen honest payers, and one whose tickets never win.
pub(crate) async fn busy() -> Live<MemoryStore> {
    let counters = Counters::new(STARTED);
    let mut coins = 7;
    for round in 0..1_200u64 {
        for n in 0..12u64 {
            // The first pay most.
            if round % (n + 1) == 0 {
                for _ in 0..4 {
                    let won = uniform(&mut coins) < ODDS;
                    counters.accepted(payer(n), escrow(n), PRICE, ODDS, won);
                    serve(&counters, &mut coins);
                }
            }
        }
        if round % 3 == 0 {
            for _ in 0..8 {
                counters.accepted(payer(12), escrow(12), PRICE, ODDS, false);
                serve(&counters, &mut coins);
            }
        }
    }
    for (rule, times) in [
        ("commitment-closed", 214),
        ("nonce-not-above-floor", 61),
        ("balance-too-low", 17),
        ("escrow-missing", 9),
        ("wrong-signer", 1),
    ] {
        for _ in 0..times {
            counters.refused(rule);
        }
    }
    let fail = |ago: u64, place, text: &str| counters.failed(Timestamp(NOW.0 - ago), place, text);
    fail(
        9_000,
        "chain",
        "error sending request for url (https://mainnet.example/v3/0123456789abcdef)",
    );
    fail(
        4_100,
        "upstream",
        "connect to http://127.0.0.1:3000/reports/7: connection refused",
    );
    fail(
        4_090,
        "upstream",
        "connect to http://127.0.0.1:3000/reports/7: connection refused",
    );
    fail(
        35,
        "claim",
        "transaction 0x8d1f0c6f6a9d4a51b7c30e5b8a2f9e70cc41d7f2a6b358190e4d7c2f1a9b3e60 underpriced: 1000000000 wei, needed 1100000000 wei",
    );

    let mut escrows = Escrows::new();
    for n in 0..13 {
        escrows.insert(escrow(n), record(n));
    }
    live(
        facts(),
        counters,
        winners().await,
        Mirror::of(block(8_123), escrows),
    )
}

/// The same shop, which sells by channels, too: one has settled a part, one is about to close, one ends soon.
pub(crate) async fn with_channels() -> Live<MemoryStore> {
    let mut shop = busy().await;
    let store = &shop.store;
    store.use_channels(channel_fixture::domain()).await.unwrap();
    let mut records = HashMap::new();
    for (c, payments) in [(0, 40), (1, 12), (2, 31), (3, 3)] {
        let mut record = channel_fixture::channel_record(c, 1);
        let mut vendor = channel_fixture::opened(c);
        for index in 1..=payments {
            let accepted = channel_fixture::accepted(&vendor, c, index, 0, false);
            let order = fixture::order(1_000 * (c + 1) + u64::from(index));
            let at = Timestamp(STARTED.0 + 900 * u64::from(index));
            store
                .save_payment(&accepted, order, record.unit(), at)
                .await
                .unwrap();
            store
                .mark_payment(vendor.id, accepted.payment().tag, PaymentFate::Delivered)
                .await
                .unwrap();
            shop.counters.paid_by_channel(record.unit());
            vendor = accepted.delivered().channel;
        }
        if c == 0 {
            record.settled = Index(25);
        }
        record.chains[0].permit.expiry = NOW.0 + 86_400 * (1 + 9 * c) - 3_600;
        records.insert(vendor.id, record);
    }
    let closing = [(channel_fixture::channel(1), Index(12))];
    let settlement = store.queue_settlement(SettlementStep::Close, &closing, Timestamp(NOW.0 - 300));
    let settlement = settlement.await.unwrap();
    let transaction = fixture::transaction(900);
    store
        .add_settlement_transaction(settlement, &transaction)
        .await
        .unwrap();
    shop.channels = Some(Arc::new(Mirror::of(block(8_123), records)));
    shop
}

/// Everything that can be wrong at once, and every text that others choose as hostile as it can be.
pub(crate) async fn hostile() -> Live<MemoryStore> {
    let mut shop = busy().await;
    shop.facts.asset = Asset {
        address: Address::repeat_byte(0x70),
        symbol: HOSTILE.into(),
        decimals: 255,
    };
    shop.facts.url = format!("http://{HOSTILE}");
    shop.facts.upstream = format!("{HOSTILE}{}", "very-long-name-".repeat(20));
    for n in 0..60 {
        shop.counters
            .failed(NOW, "upstream", format!("{n}{HOSTILE} {}", "x".repeat(2_000)));
    }
    shop.counters.pause(HOSTILE);
    shop
}

pub(crate) const HOSTILE: &str =
    r#"</style><script>alert("1")</script><img src=http://evil.example/x onerror='alert(2)'>&amp;"#;

fn serve(counters: &Counters, coins: &mut u64) {
    let upstream = 0.002 + 0.03 * uniform(coins).powi(3);
    let added = 0.000_12 + 0.000_5 * uniform(coins).powi(6);
    counters.added(Duration::from_secs_f64(added));
    counters.finished(Duration::from_secs_f64(upstream + added), 310, 18_400);
    counters.upstream(match uniform(coins) {
        u if u < 0.000_4 => Upstream::TimedOut,
        u if u < 0.001 => Upstream::Failed,
        u if u < 0.004 => Upstream::Status(503),
        u if u < 0.03 => Upstream::Status(404),
        _ => Upstream::Status(200),
    });
    if uniform(coins) < 0.002 {
        counters.replayed();
    }
}

/// Two final claims, one on its way, and winners that wait; of the escrows that the fixtures can sign for.
async fn winners() -> MemoryStore {
    let store = MemoryStore::new(fixture::identity());
    let mut nonce = 0;
    for (count, step) in [(34, 3), (21, 3), (12, 1), (6, 0)] {
        let mut digests = Vec::new();
        for n in 0..count {
            nonce += 1;
            let win = fixture::win(n % 4, nonce, 0);
            store
                .save_win(&win, fixture::order(nonce), PRICE, STARTED)
                .await
                .unwrap();
            digests.push(win.digest());
        }
        if step == 0 {
            continue;
        }
        let claim = store
            .queue(&digests, Timestamp(STARTED.0 + 1_000 * nonce))
            .await
            .unwrap();
        let transaction = fixture::transaction(nonce);
        store.add_transaction(claim, &transaction).await.unwrap();
        if step > 1 {
            store.mined(claim, transaction.hash, block(nonce)).await.unwrap();
            let paid = Outcome::Final {
                paid: PRIZE,
                owed: Amount::ZERO,
            };
            let outcomes: Vec<_> = digests.into_iter().map(|digest| (digest, paid)).collect();
            store
                .finalize(claim, &outcomes, 61_000 * count, 1_300_000_000)
                .await
                .unwrap();
        }
    }
    store
}

/// The first four can sign, and so have winners in the store.
fn escrow(n: u64) -> Address {
    if n < 4 {
        fixture::escrow(n)
    } else {
        address("escrow", n)
    }
}

fn payer(n: u64) -> Address {
    address("payer", n)
}

fn record(n: u64) -> EscrowRecord {
    EscrowRecord {
        payer: payer(n),
        asset: Address::ZERO,
        prize: PRIZE,
        max_threshold: WinThreshold::one_in(64),
        ticket_cap: Nonce(1_000_000),
        balance: Amount(PRIZE.0 * u128::from(3 + n * 7 % 40) + u128::from(n) * 1_234_567_890_123),
        penalty: Amount(PRIZE.0 * 20),
        status: match n {
            5 => Status::Withdrawing,
            9 => Status::Insolvent,
            _ => Status::Open,
        },
        withdraw_at: None,
        cure_by: None,
        debt: U256::ZERO,
        earmarked: Amount::ZERO,
        earmark_until: Timestamp(0),
        pairs: Default::default(),
        debts: Default::default(),
    }
}

fn block(number: u64) -> BlockRef {
    BlockRef {
        number,
        hash: B256::ZERO,
        timestamp: Timestamp(NOW.0 - 7),
    }
}

fn address(what: &str, n: u64) -> Address {
    Address::from_slice(&keccak256(format!("{what} {n}"))[12..])
}

/// SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 * 2f64.powi(-53)
}
