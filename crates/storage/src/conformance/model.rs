//! Random requests to a backend and to [`MemoryStore`], which is the model: the same answers, errors included, the same
//! content at the end, and the same again after a restart.

use std::{collections::HashMap, env, time::Duration};

use alloy_primitives::{B256, U256, aliases::B32};
use parking_lot::Mutex;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use protocol::ticket::{Amount, Nonce, Seed, Timestamp};
use tokio::runtime::Handle;

use super::{
    Backend, channel_fixture,
    channel_model::{self, ChannelOp},
    fixture::{block, escrow, identity, issue, order, record, request, transaction, win},
};
use crate::{
    Budget, ClaimId, ClaimStage, MemoryStore, OrderFilter, OrderRequest, OrderState, Outcome, Part, Store,
    TxRecord, WinFilter, WinStage, channel::ChannelDomainStore,
};

/// A claim, transaction or winner: so many before the latest one, or by number.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Latest(u64),
    Number(u64),
}

/// One request. Names are small numbers, so that requests meet each other.
#[derive(Clone, Debug)]
enum Op {
    Seed(u8),
    Boot,
    Issue {
        order: u64,
        escrow: u64,
    },
    IssueWithin {
        order: u64,
        account: u64,
        limit: u64,
    },
    IssueOther {
        order: u64,
        escrow: u64,
    },
    Resolve {
        order: u64,
        state: u8,
    },
    RaiseNonce {
        escrow: u64,
        above: u64,
    },
    SaveWin {
        escrow: u64,
        nonce: Pick,
        variant: u64,
    },
    MarkDelivered {
        escrow: u64,
        nonce: Pick,
    },
    Void {
        escrow: u64,
        nonce: Pick,
    },
    GiveUp {
        escrow: u64,
        nonce: Pick,
    },
    Queue {
        escrow: u64,
        nonces: Vec<Pick>,
    },
    /// The first winners that are in no claim.
    QueueWon(u32),
    AddTransaction {
        claim: Pick,
        transaction: Pick,
    },
    Mined {
        claim: Pick,
        transaction: Pick,
        block: u64,
    },
    Unmined(Pick),
    Requeue(Pick),
    Release(Pick),
    Finalize {
        claim: Pick,
        refuse: u64,
        leave_out: bool,
    },
    /// The latest claim's next step on the way to `Final`.
    Advance,
    /// For an hour or no time.
    Beat {
        boot: u64,
        acked: u64,
        lives: bool,
    },
    RaiseFloors(Vec<(u64, Pick)>),
    Acked {
        round: u64,
        except: Option<u64>,
    },
    Leave(u64),
    SaveMirror {
        block: u64,
        record: u64,
    },
    ForgetMirror,
    Channel(ChannelOp),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let (order, e) = (0..4u64, 0..2u64);
    // Mostly around the escrow's highest winner, so that floors do not end it all.
    let nonce = || prop_oneof![9 => (0..4u64).prop_map(Pick::Latest), 1 => (0..9u64).prop_map(Pick::Number)];
    // Some leave, so others must come.
    let boot = || 1..12u64;
    // Mostly one of the latest two claims, sometimes any, or none.
    let claim = || prop_oneof![9 => (0..2u64).prop_map(Pick::Latest), 1 => (1..9u64).prop_map(Pick::Number)];
    // Mostly one of the claim's own two.
    let transaction = || {
        (claim(), 0..2u64, prop::bool::weighted(0.9))
            .prop_map(|(claim, n, own)| (claim, if own { Pick::Latest(n) } else { Pick::Number(n) }))
    };
    prop_oneof![
        1 => any::<u8>().prop_map(Op::Seed),
        1 => Just(Op::Boot),
        4 => (order.clone(), e.clone()).prop_map(|(order, escrow)| Op::Issue { order, escrow }),
        3 => (0..9u64, 0..3u64, 1..5u64)
            .prop_map(|(order, account, limit)| Op::IssueWithin { order, account, limit }),
        1 => (order.clone(), e.clone()).prop_map(|(order, escrow)| Op::IssueOther { order, escrow }),
        2 => (order, 0..3u8).prop_map(|(order, state)| Op::Resolve { order, state }),
        1 => (e.clone(), 0..9u64).prop_map(|(escrow, above)| Op::RaiseNonce { escrow, above }),
        14 => (e.clone(), nonce(), prop_oneof![9 => Just(0u64), 1 => Just(1)])
            .prop_map(|(escrow, nonce, variant)| Op::SaveWin { escrow, nonce, variant }),
        4 => (e.clone(), nonce()).prop_map(|(escrow, nonce)| Op::MarkDelivered { escrow, nonce }),
        4 => (e.clone(), nonce()).prop_map(|(escrow, nonce)| Op::Void { escrow, nonce }),
        6 => (e.clone(), nonce()).prop_map(|(escrow, nonce)| Op::GiveUp { escrow, nonce }),
        6 => (0..4u32).prop_map(Op::QueueWon),
        3 => (e.clone(), prop::collection::vec(nonce(), 0..3)).prop_map(|(escrow, nonces)| Op::Queue { escrow, nonces }),
        9 => transaction().prop_map(|(claim, transaction)| Op::AddTransaction { claim, transaction }),
        9 => (transaction(), 0..3u64)
            .prop_map(|((claim, transaction), block)| Op::Mined { claim, transaction, block }),
        5 => claim().prop_map(Op::Unmined),
        2 => claim().prop_map(Op::Requeue),
        4 => claim().prop_map(Op::Release),
        8 => (claim(), 0..6u64, prop::bool::weighted(0.2))
            .prop_map(|(claim, refuse, leave_out)| Op::Finalize { claim, refuse, leave_out }),
        6 => Just(Op::Advance),
        5 => (boot(), 0..5u64, prop::bool::weighted(0.8))
            .prop_map(|(boot, acked, lives)| Op::Beat { boot, acked, lives }),
        2 => prop::collection::vec((e, nonce()), 0..3).prop_map(Op::RaiseFloors),
        3 => (0..5u64, prop::option::of(boot())).prop_map(|(round, except)| Op::Acked { round, except }),
        2 => boot().prop_map(Op::Leave),
        2 => (0..9u64, 0..4u64).prop_map(|(block, record)| Op::SaveMirror { block, record }),
        1 => Just(Op::ForgetMirror),
        1 => Just(Op::Restart),
    ]
}

/// What must have been granted and refused in some run: runs that refuse everything would agree, too.
const MUST: [&str; 19] = [
    "Issue",
    "IssueWithin",
    "SaveWin",
    "QueueWon",
    "AddTransaction",
    "Mined",
    "Finalize",
    "Resolve",
    "GiveUp",
    "MarkDelivered",
    "Void",
    "Beat",
    "RaiseFloors",
    "Acked",
    "Leave",
    "Unmined",
    "Requeue",
    "Release",
    "SaveMirror",
];

/// Runs 32 random sequences of requests that have nothing to do with channels (or as many as `PROPTEST_CASES` says).
pub async fn random_requests_match<B: Backend>() {
    random_match::<B>(&prop::collection::vec(op(), 40..140), 32, &MUST);
}

/// Runs 16 random sequences of requests about channels, with tickets among them: accounts are shared.
pub async fn random_channel_requests_match<B: Backend>() {
    let ticket = (0..9u64, 0..3u64, 1..5u64).prop_map(|(order, account, limit)| Op::IssueWithin {
        order,
        account,
        limit,
    });
    let op = prop_oneof![
        60 => channel_model::op().prop_map(Op::Channel),
        2 => ticket,
        1 => Just(Op::Restart),
    ];
    random_match::<B>(&prop::collection::vec(op, 80..160), 16, &channel_model::MUST);
}

fn random_match<B: Backend>(sequences: &impl Strategy<Value = Vec<Op>>, cases: u32, must: &[&str]) {
    let cases = env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(cases);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let handle = Handle::current();
    let seen = Mutex::new(HashMap::new());
    tokio::task::block_in_place(|| {
        let result = TestRunner::new(config).run(sequences, |ops| handle.block_on(compare::<B>(&ops, &seen)));
        if let Err(failure) = result {
            panic!("{failure}");
        }
        let seen = seen.into_inner();
        let done = |kind: &str| seen.get(&(kind.to_owned(), true)).copied().unwrap_or(0_u32);
        // Nothing refuses these.
        let free = ["Issue", "RaiseFloors", "Acked", "Leave"];
        let refused_or_free =
            |kind: &str| free.contains(&kind) || seen.contains_key(&(kind.to_owned(), false));
        for kind in must {
            assert!(
                done(kind) > 0 && refused_or_free(kind),
                "{kind}: {seen:?} in {cases} runs"
            );
        }
    });
}

/// Requests by kind, and whether they were granted.
type Seen = Mutex<HashMap<(String, bool), u32>>;

async fn compare<B: Backend>(ops: &[Op], seen: &Seen) -> Result<(), TestCaseError> {
    let place = B::place().await;
    let mut store = open(&place).await?;
    let model = MemoryStore::new(identity());
    model
        .use_channels(channel_fixture::domain())
        .await
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    for (n, op) in ops.iter().enumerate() {
        if matches!(op, Op::Restart) {
            store = restart(&place, store).await?;
            continue;
        }
        let op = &match op {
            Op::Advance => next_step(&model).await,
            Op::Channel(ChannelOp::AdvanceSettlement) => Op::Channel(channel_model::next_step(&model).await),
            op => op.clone(),
        };
        let (expected, got) = (apply(&model, op).await, apply(&store, op).await);
        prop_assert_eq!(&expected, &got, "request {}: {:?}", n, op);
        let kind = match op {
            Op::Channel(op) => format!("{op:?}"),
            op => format!("{op:?}"),
        };
        let kind = kind.chars().take_while(|letter| letter.is_alphabetic()).collect();
        *seen.lock().entry((kind, expected.is_ok())).or_default() += 1;
    }
    let expected = dump(&model).await;
    prop_assert_eq!(&expected, &dump(&store).await);
    let store = restart(&place, store).await?;
    prop_assert_eq!(&expected, &dump(&store).await);
    Ok(())
}

async fn restart<B: Backend>(place: &B, store: B::Store) -> Result<B::Store, TestCaseError> {
    let failed = |error: crate::StoreError| TestCaseError::fail(error.to_string());
    place.close(store).await.map_err(failed)?;
    open(place).await
}

async fn open<B: Backend>(place: &B) -> Result<B::Store, TestCaseError> {
    let failed = |error: crate::StoreError| TestCaseError::fail(error.to_string());
    let store = place.open(identity()).await.map_err(failed)?;
    store
        .use_channels(channel_fixture::domain())
        .await
        .map_err(failed)?;
    Ok(store)
}

async fn next_step(model: &impl Store) -> Op {
    let latest = model.claims(1).await.unwrap_or_default();
    let (claim, transaction) = (Pick::Latest(0), Pick::Latest(0));
    match latest.first().map(|claim| claim.state.stage()) {
        Some(ClaimStage::Queued) => Op::AddTransaction { claim, transaction },
        Some(ClaimStage::Sent) => Op::Mined {
            claim,
            transaction,
            block: 1,
        },
        Some(ClaimStage::Mined) => Op::Finalize {
            claim,
            refuse: 1,
            leave_out: false,
        },
        Some(ClaimStage::Final | ClaimStage::Released) | None => Op::QueueWon(3),
    }
}

/// The answer as text, so that errors compare, too.
async fn apply(store: &impl Store, op: &Op) -> Result<String, String> {
    let at = Timestamp(7);
    match op.clone() {
        Op::Seed(n) => show(
            store
                .seed_or_insert(Seed::new([n; 32]))
                .await
                .map(|seed| *seed.expose()),
        ),
        Op::Boot => show(store.next_boot().await),
        Op::Issue { order, escrow } => {
            let sign = move |nonce| issue(order, escrow, nonce);
            show(store.issue(request(order, escrow), sign).await)
        }
        Op::IssueWithin {
            order,
            account,
            limit,
        } => {
            let price = request(order, 0).price;
            let budget = |n: u64| Budget {
                account: account_name(n),
                limit: Amount(price.0 * u128::from(limit)),
            };
            let request = OrderRequest {
                budgets: vec![budget(account), budget(account + 1)],
                ..request(order, 0)
            };
            show(store.issue(request, move |nonce| issue(order, 0, nonce)).await)
        }
        Op::IssueOther { order, escrow } => {
            let sign = move |Nonce(nonce)| issue(order, escrow, Nonce(nonce + 1));
            show(store.issue(request(order, escrow), sign).await)
        }
        Op::Resolve { order: n, state } => {
            let state = match state {
                0 => OrderState::Sent,
                1 => OrderState::Delivered,
                _ => OrderState::Refused {
                    rule: "nonce-seen".to_owned(),
                },
            };
            show(store.resolve(order(n), state).await)
        }
        Op::RaiseNonce { escrow: e, above } => show(store.raise_nonce(escrow(e), Nonce(above)).await),
        Op::SaveWin {
            escrow,
            nonce,
            variant,
        } => {
            let nonce = pick_nonce(store, escrow, nonce).await;
            let price = Amount(u128::from(nonce));
            show(
                store
                    .save_win(&win(escrow, nonce, variant), order(nonce), price, at)
                    .await,
            )
        }
        Op::MarkDelivered { escrow, nonce } => {
            let digest = pick_win(store, escrow, nonce).await;
            show(store.mark_delivered(digest).await)
        }
        Op::Void { escrow, nonce } => {
            let digest = pick_win(store, escrow, nonce).await;
            show(store.void(digest).await)
        }
        Op::GiveUp { escrow, nonce } => {
            let digest = pick_win(store, escrow, nonce).await;
            show(
                store
                    .give_up(digest, B32::repeat_byte(1), U256::from(2), U256::from(3))
                    .await,
            )
        }
        Op::Queue { escrow, nonces } => {
            let mut digests = Vec::new();
            for nonce in nonces {
                digests.push(pick_win(store, escrow, nonce).await);
            }
            show(store.queue(&digests, at).await)
        }
        Op::QueueWon(limit) => {
            let filter = WinFilter {
                limit: Some(limit),
                ..WinStage::Won.into()
            };
            let wins = store.wins(filter).await.unwrap_or_default();
            let digests: Vec<_> = wins.iter().map(|win| win.ticket.digest()).collect();
            show(store.queue(&digests, at).await)
        }
        Op::AddTransaction { claim, transaction } => {
            let claim = pick(store, claim).await;
            show(
                store
                    .add_transaction(claim, &pick_transaction(claim, transaction))
                    .await,
            )
        }
        Op::Mined {
            claim,
            transaction,
            block: number,
        } => {
            let claim = pick(store, claim).await;
            show(
                store
                    .mined(claim, pick_transaction(claim, transaction).hash, block(number))
                    .await,
            )
        }
        Op::Unmined(claim) => show(store.unmined(pick(store, claim).await).await),
        Op::Requeue(claim) => show(store.requeue(pick(store, claim).await).await),
        Op::Release(claim) => show(store.release(pick(store, claim).await).await),
        Op::Finalize {
            claim,
            refuse,
            leave_out,
        } => {
            let claim = pick(store, claim).await;
            let wins = store.wins(claim).await.unwrap_or_default();
            let outcomes: Vec<_> = wins
                .iter()
                .skip(usize::from(leave_out))
                .map(|win| {
                    let outcome = if win.ticket.nonce().0 == refuse {
                        Outcome::Refused {
                            reason: B32::ZERO,
                            got: U256::MAX,
                            limit: U256::ZERO,
                        }
                    } else {
                        Outcome::Final {
                            paid: Amount(10),
                            owed: Amount(u128::from(refuse)),
                        }
                    };
                    (win.ticket.digest(), outcome)
                })
                .collect();
            show(store.finalize(claim, &outcomes, 21_000, 1 << 100).await)
        }
        Op::Beat { boot, acked, lives } => {
            let lease = Duration::from_secs(if lives { 3600 } else { 0 });
            show(store.beat(boot, acked, lease, Part::MayClaim).await)
        }
        Op::RaiseFloors(raised) => {
            let mut floors = Vec::new();
            for (e, nonce) in raised {
                // Below the next winner.
                let below = pick_nonce(store, e, nonce).await.saturating_sub(2);
                floors.push((escrow(e), Nonce(below)));
            }
            show(store.raise_floors(&floors).await)
        }
        Op::Acked { round, except } => show(store.acked(round, except).await),
        Op::Leave(boot) => show(store.leave(boot).await),
        Op::SaveMirror {
            block: number,
            record: n,
        } => {
            let changed = HashMap::from([(escrow(n), record(n))]);
            show(store.save_mirror(block(number), &changed).await)
        }
        Op::ForgetMirror => show(store.forget_mirror().await),
        Op::Channel(op) => channel_model::apply(store, &op).await,
        Op::Advance | Op::Restart => Ok(String::new()),
    }
}

async fn pick(store: &impl Store, pick: Pick) -> ClaimId {
    match pick {
        Pick::Number(number) => ClaimId(number),
        Pick::Latest(back) => {
            let latest = store.claims(1).await.unwrap_or_default();
            ClaimId(latest.first().map_or(0, |claim| claim.id.0.saturating_sub(back)))
        }
    }
}

/// A nonce of the escrow; the latest is the one above its highest winner.
async fn pick_nonce(store: &impl Store, e: u64, pick: Pick) -> u64 {
    match pick {
        Pick::Number(number) => number,
        Pick::Latest(back) => {
            let wins = store.wins(escrow(e)).await.unwrap_or_default();
            let next = wins.last().map_or(1, |win| win.ticket.nonce().0 + 1);
            next.saturating_sub(back)
        }
    }
}

async fn pick_win(store: &impl Store, e: u64, pick: Pick) -> B256 {
    win(e, pick_nonce(store, e, pick).await, 0).digest()
}

pub(super) fn account_name(n: u64) -> String {
    format!("account {n}")
}

fn pick_transaction(claim: ClaimId, pick: Pick) -> TxRecord {
    match pick {
        Pick::Number(number) => transaction(number),
        Pick::Latest(back) => transaction(2 * claim.0 + back),
    }
}

/// Everything that can be read from a store, as text.
pub async fn dump(store: &impl Store) -> String {
    let mut lines = vec![
        show(store.orders(OrderFilter::default()).await),
        show(store.order_totals(None).await),
        show(store.wins(WinFilter::default()).await),
        show(store.load_unfinished().await),
        show(store.win_totals().await),
        show(store.claims(u32::MAX).await),
        show(store.unfinished_claims().await),
        show(store.floors().await),
    ];
    for n in 0..4 {
        let escrow = escrow(n);
        lines.push(show(store.unclaimed(escrow).await));
        lines.push(show(store.next_nonce(escrow).await));
    }
    for n in 0..4 {
        lines.push(show(store.spent(&account_name(n)).await));
    }
    let mirror = store.load_mirror().await.map(|mirror| {
        mirror.map(|(cursor, escrows)| {
            (
                cursor,
                escrows.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            )
        })
    });
    lines.push(show(mirror));
    lines.extend(channel_model::dump(store).await);
    lines
        .into_iter()
        .map(|line| line.unwrap_or_else(|error| error))
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn show<T: std::fmt::Debug>(result: crate::Result<T>) -> Result<String, String> {
    result
        .map(|value| format!("{value:?}"))
        .map_err(|error| error.to_string())
}
