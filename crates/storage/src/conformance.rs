//! What every backend must do, as tests. A backend's test file says how to get a store and calls the suite:
//!
//! ```ignore
//! struct Files(tempfile::TempDir);
//! impl micropay_storage::conformance::Backend for Files { .. }
//! micropay_storage::conformance!(Files);
//! ```
//!
//! Each case is a function here, so that a failure has a name; [`model`] runs random requests against the backend and
//! [`MemoryStore`](crate::MemoryStore) and compares every answer.
#![allow(
    clippy::unwrap_used,
    reason = "these are tests: a failure is to stop them where it happens"
)]

pub mod fixture;
pub mod model;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use alloy_primitives::{Address, B256, U256, aliases::B32};
use protocol::ticket::{Amount, Nonce, Seed, Timestamp, WinThreshold};

use self::fixture::{block, escrow, identity, order, request, sign, transaction, win};
use crate::{
    ClaimId, ClaimStage, ClaimState, ClaimStore, Issue, MirrorStore, OrderFilter, OrderStage, OrderState,
    OrderStore, Outcome, Owner, Result, SeedStore, Store, StoreError, StoreIdentity, Total, WinFilter,
    WinStage, WinState, WinStore,
};

/// How the suite gets stores of one backend.
pub trait Backend: Sized + Send + Sync + 'static {
    /// The store.
    type Store: Store;

    /// Whether a store outlives its handles.
    const KEEPS: bool;

    /// A place for one store, with nothing in it.
    fn place() -> impl Future<Output = Self> + Send;

    /// Opens the store in this place, creates it if there is none.
    fn open(&self, identity: StoreIdentity) -> impl Future<Output = Result<Self::Store>> + Send;

    /// Closes a store, so that it can be opened again as after a restart.
    fn close(&self, store: Self::Store) -> impl Future<Output = Result<()>> + Send;
}

/// Makes a test of every case, for one [`Backend`].
#[macro_export]
macro_rules! conformance {
    ($backend:ty) => {
        $crate::conformance!(@tests $backend:
            first_seed_stays
            boots_count_up
            nonces_start_at_one_and_rise_per_escrow
            known_order_gives_back_its_ticket
            raised_nonce_never_falls
            last_nonce_is_refused
            wrongly_signed_ticket_takes_no_nonce
            panicking_signer_takes_no_nonce
            orders_only_move_forward
            orders_are_listed_and_counted
            concurrent_issues_take_distinct_nonces
            concurrent_issues_of_one_order_make_one_ticket
            impatient_callers_leave_no_gap_in_orders
            win_is_stored_once
            second_win_with_one_nonce_is_refused
            extreme_values_survive
            one_bad_win_does_not_fail_the_others
            claim_runs_from_queue_to_final
            claim_goes_back_on_reorg_and_drop
            dropped_transaction_may_be_mined_after_all
            released_wins_can_be_claimed_again
            illegal_claim_moves_name_both_states
            queue_is_all_or_nothing
            concurrent_claims_never_share_a_win
            floor_never_falls
            outcomes_must_fit_the_claim
            hopeless_win_is_given_up
            transaction_is_of_one_claim
            wins_are_listed_and_totalled
            claims_are_listed
            mirror_moves_forward_only
            everything_survives_a_restart
            store_of_another_identity_is_refused
            random_requests_match_the_model
        );
    };
    (@tests $backend:ty: $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $case() {
            $crate::conformance::$case::<$backend>().await;
        }
    )*};
}

async fn fresh<B: Backend>() -> (B, B::Store) {
    let place = B::place().await;
    let store = place.open(identity()).await.unwrap();
    (place, store)
}

/// The error of a request that must fail.
macro_rules! refused {
    ($result:expr, $error:pat $(if $guard:expr)?) => {
        match $result {
            Err($error) $(if $guard)? => {}
            other => panic!("expected {}, got {other:?}", stringify!($error)),
        }
    };
}

const AT: Timestamp = Timestamp(1_800_000_000);

// ───────────────────────────── Seed ─────────────────────────────

/// Whatever seed a later start brings, the first one counts.
pub async fn first_seed_stays<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    assert_eq!(
        store.seed_or_insert(Seed::new([1; 32])).await.unwrap(),
        Seed::new([1; 32])
    );
    assert_eq!(
        store.seed_or_insert(Seed::new([2; 32])).await.unwrap(),
        Seed::new([1; 32])
    );
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    assert_eq!(
        store.seed_or_insert(Seed::new([3; 32])).await.unwrap(),
        Seed::new([1; 32])
    );
}

/// No two starts have one number, however they come; and counting before there is a seed does not harm it.
pub async fn boots_count_up<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    assert_eq!(store.next_boot().await.unwrap(), 1);
    assert_eq!(
        store.seed_or_insert(Seed::new([1; 32])).await.unwrap(),
        Seed::new([1; 32])
    );
    assert_eq!(store.next_boot().await.unwrap(), 2);
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move { store.next_boot().await.unwrap() }));
    }
    let mut boots = BTreeSet::new();
    for task in tasks {
        boots.insert(task.await.unwrap());
    }
    assert_eq!(boots, (3..23).collect());
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    assert_eq!(store.next_boot().await.unwrap(), 23);
    assert_eq!(
        store.seed_or_insert(Seed::new([3; 32])).await.unwrap(),
        Seed::new([1; 32])
    );
}

// ───────────────────────────── Orders ─────────────────────────────

/// Each escrow counts its own nonces from 1.
pub async fn nonces_start_at_one_and_rise_per_escrow<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    for n in 1..=3 {
        let Issue::Fresh(record) = store.issue(request(n, 0), sign(n, 0)).await.unwrap() else {
            panic!("order {n} is new");
        };
        assert_eq!(record.ticket.nonce(), Nonce(n));
        assert_eq!(record.ticket.escrow(), escrow(0));
        assert_eq!(record.state, OrderState::Sent);
        assert_eq!((record.id, record.price), (order(n), request(n, 0).price));
    }
    let other = store.issue(request(4, 1), sign(4, 1)).await.unwrap();
    assert_eq!(other.record().ticket.nonce(), Nonce(1));
    assert_eq!(store.issued_count(escrow(0)).await.unwrap(), 3);
    assert_eq!(store.issued_count(escrow(1)).await.unwrap(), 1);
    assert_eq!(store.issued_count(escrow(2)).await.unwrap(), 0);
}

/// The same ticket to the byte, whatever the second request says, and nothing is signed.
pub async fn known_order_gives_back_its_ticket<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    let replaces = Some(order(99));
    let first = store
        .issue(
            crate::OrderRequest {
                replaces,
                ..request(1, 0)
            },
            sign(1, 0),
        )
        .await
        .unwrap();
    let again = store
        .issue(
            crate::OrderRequest {
                price: Amount(1),
                ..request(1, 1)
            },
            |_| panic!("signed a known order"),
        )
        .await
        .unwrap();
    assert_eq!(again, Issue::Existing(first.record().clone()));
    assert_eq!(
        again.record().ticket.signature().to_bytes(),
        first.record().ticket.signature().to_bytes()
    );
    assert_eq!(again.record().replaces, replaces);
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    assert_eq!(
        store.order(order(1)).await.unwrap().as_ref(),
        Some(first.record())
    );
    assert_eq!(store.order(order(2)).await.unwrap(), None);
    let next = store.issue(request(2, 0), sign(2, 0)).await.unwrap();
    assert_eq!(
        next.record().ticket.nonce(),
        Nonce(2),
        "the second request took no nonce"
    );
}

/// A merchant's floor lifts the next nonce; a lower floor changes nothing.
pub async fn raised_nonce_never_falls<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    assert_eq!(store.raise_nonce(escrow(0), Nonce(0)).await.unwrap(), Nonce(1));
    assert_eq!(store.raise_nonce(escrow(0), Nonce(41)).await.unwrap(), Nonce(42));
    assert_eq!(store.raise_nonce(escrow(0), Nonce(7)).await.unwrap(), Nonce(42));
    let issued = store.issue(request(1, 0), sign(1, 0)).await.unwrap();
    assert_eq!(issued.record().ticket.nonce(), Nonce(42));
    let other = store.issue(request(2, 1), sign(2, 1)).await.unwrap();
    assert_eq!(other.record().ticket.nonce(), Nonce(1));
}

/// Beyond 63 bits nonces still rise; above the last one there is none, and that is an error.
pub async fn last_nonce_is_refused<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    store.raise_nonce(escrow(0), Nonce(u64::MAX - 2)).await.unwrap();
    let issued = store.issue(request(1, 0), sign(1, 0)).await.unwrap();
    assert_eq!(issued.record().ticket.nonce(), Nonce(u64::MAX - 1));
    refused!(
        store.issue(request(2, 0), sign(2, 0)).await,
        StoreError::NonceExhausted {
            above: Nonce(u64::MAX),
            ..
        }
    );
    refused!(
        store.raise_nonce(escrow(1), Nonce(u64::MAX)).await,
        StoreError::NonceExhausted {
            above: Nonce(u64::MAX),
            ..
        }
    );
    assert_eq!(store.raise_nonce(escrow(1), Nonce(0)).await.unwrap(), Nonce(1));
}

/// The signer must sign what the store asked for.
pub async fn wrongly_signed_ticket_takes_no_nonce<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let other_escrow = store.issue(request(1, 0), sign(1, 1)).await;
    refused!(other_escrow, StoreError::SignedOther { field: "escrow", .. });
    let other_nonce = store
        .issue(request(1, 0), |Nonce(nonce)| sign(1, 0)(Nonce(nonce + 1)))
        .await;
    refused!(other_nonce, StoreError::SignedOther { field: "nonce", .. });
    let other_recipient = crate::OrderRequest {
        recipient: escrow(9),
        ..request(1, 0)
    };
    let other_recipient = store.issue(other_recipient, sign(1, 0)).await;
    refused!(
        other_recipient,
        StoreError::SignedOther {
            field: "recipient",
            ..
        }
    );
    let other_domain = store
        .issue(request(1, 0), |nonce| fixture::issue_elsewhere(1, 0, nonce))
        .await;
    refused!(other_domain, StoreError::SignedOther { field: "digest", .. });
    assert_eq!(store.order(order(1)).await.unwrap(), None);
    let right = store.issue(request(1, 0), sign(1, 0)).await.unwrap();
    assert_eq!(right.record().ticket.nonce(), Nonce(1));
}

/// A panic in the signer is the caller's, not the store's.
pub async fn panicking_signer_takes_no_nonce<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let result = store
        .issue(request(1, 0), |_| panic!("expected by the test"))
        .await;
    refused!(result, StoreError::SignPanicked(id) if id == order(1));
    let right = store.issue(request(1, 0), sign(1, 0)).await.unwrap();
    assert_eq!(right.record().ticket.nonce(), Nonce(1));
}

/// `Sent` to `Delivered` or `Refused`; saying it twice is fine, changing it is not.
pub async fn orders_only_move_forward<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let refusal = |rule: &str| OrderState::Refused {
        rule: rule.to_owned(),
    };
    refused!(store.resolve(order(1), OrderState::Delivered).await, StoreError::UnknownOrder(id) if id == order(1));
    for n in [1, 2] {
        let _ = store.issue(request(n, 0), sign(n, 0)).await.unwrap();
    }
    assert!(!store.resolve(order(1), OrderState::Sent).await.unwrap());
    assert!(store.resolve(order(1), OrderState::Delivered).await.unwrap());
    assert!(!store.resolve(order(1), OrderState::Delivered).await.unwrap());
    assert!(store.resolve(order(2), refusal("nonce-seen")).await.unwrap());
    assert!(!store.resolve(order(2), refusal("nonce-seen")).await.unwrap());
    for (id, state) in [
        (1, OrderState::Sent),
        (1, refusal("nonce-seen")),
        (2, OrderState::Sent),
        (2, OrderState::Delivered),
        (2, refusal("escrow-missing")),
    ] {
        let before = store.order(order(id)).await.unwrap().unwrap().state;
        refused!(
            store.resolve(order(id), state.clone()).await,
            StoreError::OrderMove { order: stored, from, to } if stored == order(id) && from == before && to == state
        );
    }
    assert_eq!(
        store.order(order(1)).await.unwrap().unwrap().state,
        OrderState::Delivered
    );
    assert_eq!(
        store.order(order(2)).await.unwrap().unwrap().state,
        refusal("nonce-seen")
    );
}

/// Filters, order, limit, and the sums of prices.
pub async fn orders_are_listed_and_counted<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    for n in 1..=6 {
        let _ = store.issue(request(n, n % 2), sign(n, n % 2)).await.unwrap();
    }
    store.resolve(order(2), OrderState::Delivered).await.unwrap();
    store
        .resolve(
            order(4),
            OrderState::Refused {
                rule: "nonce-seen".to_owned(),
            },
        )
        .await
        .unwrap();
    let ids = |orders: Vec<crate::OrderRecord>| orders.into_iter().map(|order| order.id).collect::<Vec<_>>();
    assert_eq!(
        ids(store.orders(escrow(0)).await.unwrap()),
        [order(2), order(4), order(6)]
    );
    assert_eq!(
        ids(store.orders(OrderStage::Delivered).await.unwrap()),
        [order(2)]
    );
    assert_eq!(store.orders(OrderFilter::default()).await.unwrap().len(), 6);
    let last_two = OrderFilter {
        escrow: Some(escrow(0)),
        limit: Some(2),
        ..OrderFilter::default()
    };
    assert_eq!(ids(store.orders(last_two).await.unwrap()), [order(4), order(6)]);
    let totals = store.order_totals(Some(escrow(0))).await.unwrap();
    let price = |n| request(n, 0).price;
    assert_eq!(
        totals.delivered,
        Total {
            count: 1,
            price: price(2)
        }
    );
    assert_eq!(
        totals.refused,
        Total {
            count: 1,
            price: price(4)
        }
    );
    assert_eq!(
        totals.sent,
        Total {
            count: 1,
            price: price(6)
        }
    );
    let all = store.order_totals(None).await.unwrap().all().unwrap();
    assert_eq!(
        all,
        Total {
            count: 6,
            price: Amount((1..=6).map(|n| price(n).0).sum())
        }
    );
}

/// I: one nonce, one ticket, whoever asks at the same time.
pub async fn concurrent_issues_take_distinct_nonces<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let mut tasks = Vec::new();
    for n in 0..100 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let issued = store.issue(request(n, n % 2), sign(n, n % 2)).await.unwrap();
            (n % 2, issued.record().ticket.nonce().0)
        }));
    }
    let mut seen = BTreeSet::new();
    for task in tasks {
        assert!(seen.insert(task.await.unwrap()), "a nonce was given out twice");
    }
    assert_eq!(seen, (0..2).flat_map(|e| (1..=50).map(move |n| (e, n))).collect());
}

/// II: one order, one ticket, whoever asks at the same time.
pub async fn concurrent_issues_of_one_order_make_one_ticket<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let signed = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for caller in 0..40 {
        let (store, signed) = (store.clone(), signed.clone());
        tasks.push(tokio::spawn(async move {
            store
                .issue(request(1, 0), move |nonce| {
                    signed.fetch_add(1, Ordering::Relaxed);
                    // Another r2 for every caller: two tickets could not be the same.
                    fixture::issue(1000 + caller, 0, nonce)
                })
                .await
                .unwrap()
        }));
    }
    let mut tickets = Vec::new();
    let mut fresh = 0;
    for task in tasks {
        let issued = task.await.unwrap();
        fresh += u32::from(matches!(issued, Issue::Fresh(_)));
        tickets.push(issued.into_record().ticket);
    }
    assert_eq!((fresh, signed.load(Ordering::Relaxed)), (1, 1));
    assert!(tickets.iter().all(|ticket| *ticket == tickets[0]));
    assert_eq!(store.issued_count(escrow(0)).await.unwrap(), 1);
}

/// A caller who stops waiting loses the answer, never the store's consistency.
pub async fn impatient_callers_leave_no_gap_in_orders<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let mut tasks = Vec::new();
    for n in 0..60 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            store.issue(request(n, 0), sign(n, 0)).await.unwrap()
        }));
    }
    for (n, task) in tasks.iter().enumerate() {
        if n % 3 == 0 {
            tokio::task::yield_now().await;
            task.abort();
        }
    }
    let mut answered = HashMap::new();
    for (n, task) in tasks.into_iter().enumerate() {
        if let Ok(issued) = task.await {
            answered.insert(n as u64, issued.into_record().ticket);
        }
    }
    let mut nonces = BTreeSet::new();
    for n in 0..60 {
        let ticket = store
            .issue(request(n, 0), sign(n, 0))
            .await
            .unwrap()
            .into_record()
            .ticket;
        assert!(
            nonces.insert(ticket.nonce()),
            "nonce {} is of two orders",
            ticket.nonce()
        );
        if let Some(answered) = answered.get(&n) {
            assert_eq!(*answered, ticket, "order {n} changed");
        }
    }
    assert_eq!(
        nonces,
        (1..=60).map(Nonce).collect(),
        "an order without a ticket took a nonce"
    );
}

// ───────────────────────────── Wins ─────────────────────────────

/// New, then known; and it comes back as it was.
pub async fn win_is_stored_once<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let ticket = win(0, 7, 0);
    assert!(store.save_win(&ticket, Amount(5), AT).await.unwrap());
    assert!(!store.save_win(&ticket, Amount(6), Timestamp(1)).await.unwrap());
    let stored = store.win(ticket.digest()).await.unwrap().unwrap();
    assert_eq!(stored.ticket, ticket);
    assert_eq!(
        (stored.price, stored.won_at),
        (Amount(5), AT),
        "as saved the first time"
    );
    assert_eq!((stored.state, stored.claim), (WinState::Won, None));
    assert_eq!(store.win(B256::ZERO).await.unwrap(), None);
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 1);
    assert_eq!(store.unclaimed(escrow(1)).await.unwrap(), 0);
}

/// Two winning tickets with one nonce: the payer signed twice. The first stays.
pub async fn second_win_with_one_nonce_is_refused<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let (first, second) = (win(0, 7, 0), win(0, 7, 1));
    assert!(store.save_win(&first, Amount(5), AT).await.unwrap());
    refused!(
        store.save_win(&second, Amount(5), AT).await,
        StoreError::NonceTaken { nonce: Nonce(7), stored, got, .. }
            if stored == first.digest() && got == second.digest()
    );
    assert!(
        store.save_win(&win(1, 7, 1), Amount(5), AT).await.unwrap(),
        "another escrow has its own nonces"
    );
    assert_eq!(store.wins(WinFilter::default()).await.unwrap().len(), 2);
}

/// Nothing is cut to 63 bits or passes through a float; a sum that does not fit is an error.
pub async fn extreme_values_survive<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    let ticket = fixture::extreme_win();
    let price = Amount(u128::MAX);
    assert!(store.save_win(&ticket, price, Timestamp(u64::MAX)).await.unwrap());
    let huge = crate::OrderRequest {
        price,
        at: Timestamp(u64::MAX),
        ..request(1, 0)
    };
    let issued = store.issue(huge, sign(1, 0)).await.unwrap().into_record();
    let claim = store
        .queue(&[ticket.digest()], Timestamp(u64::MAX))
        .await
        .unwrap();
    let tx = crate::TxRecord {
        account_nonce: u64::MAX,
        max_fee_per_gas: u128::MAX,
        max_priority_fee_per_gas: u128::MAX,
        sent_at: Timestamp(u64::MAX),
        ..transaction(1)
    };
    store.add_transaction(claim, &tx).await.unwrap();
    let at = protocol::ticket::BlockRef {
        number: u64::MAX,
        timestamp: Timestamp(u64::MAX),
        ..block(1)
    };
    store.mined(claim, tx.hash, at).await.unwrap();
    let outcome = Outcome::Final {
        paid: price,
        owed: price,
    };
    store
        .finalize(claim, &[(ticket.digest(), outcome)], u64::MAX, u128::MAX)
        .await
        .unwrap();
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    let stored = store.win(ticket.digest()).await.unwrap().unwrap();
    assert_eq!(stored.ticket, ticket);
    assert_eq!(stored.ticket.win_threshold(), WinThreshold(U256::MAX));
    assert_eq!((stored.price, stored.won_at), (price, Timestamp(u64::MAX)));
    assert_eq!(
        stored.state,
        WinState::Final {
            paid: price,
            owed: price
        }
    );
    assert_eq!(store.order(order(1)).await.unwrap(), Some(issued));
    let record = store.claim(claim).await.unwrap().unwrap();
    assert_eq!(record.transactions, [tx.clone()]);
    let cost = ClaimState::Final {
        hash: tx.hash,
        block: at,
        gas_used: u64::MAX,
        effective_gas_price: u128::MAX,
    };
    assert_eq!(record.state, cost);
    assert_eq!(
        store.floors().await.unwrap(),
        [(ticket.escrow(), Nonce(u64::MAX))]
    );
    let totals = store.win_totals().await.unwrap();
    assert_eq!(
        (totals.settled.price, totals.paid, totals.owed),
        (price, price, price)
    );
    store.save_win(&win(1, 1, 0), Amount(1), AT).await.unwrap();
    refused!(
        store.win_totals().await.unwrap().all(),
        StoreError::SumTooLarge { .. }
    );
}

/// A thousand winners at once, every tenth with a nonce that is taken: the others are stored.
pub async fn one_bad_win_does_not_fail_the_others<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    for nonce in (0..300).step_by(10) {
        assert!(store.save_win(&win(0, nonce, 0), Amount(1), AT).await.unwrap());
    }
    let mut tasks = Vec::new();
    for nonce in 0..300 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            // A claim that cannot be, amid the winners: it needs a savepoint, they do not.
            if nonce % 7 == 0 {
                refused!(
                    store
                        .queue(&[win(0, 0, 0).digest(), B256::repeat_byte(9)], AT)
                        .await,
                    StoreError::UnknownWin(_)
                );
            }
            store.save_win(&win(0, nonce, 1), Amount(1), AT).await
        }));
    }
    for (nonce, task) in tasks.into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(new) => assert!(new && nonce % 10 != 0),
            Err(StoreError::NonceTaken { .. }) => assert_eq!(nonce % 10, 0),
            Err(error) => panic!("winner {nonce}: {error}"),
        }
    }
    let wins = store.load_unfinished().await.unwrap();
    assert!(
        wins.iter().map(|win| win.ticket.nonce().0).eq(0..300),
        "by rising nonce, all of them"
    );
    assert!(wins.iter().all(|win| win.state == WinState::Won));
}

// ───────────────────────────── Claims ─────────────────────────────

/// Stores winners `nonces` of escrow 0 and returns their digests.
async fn save(store: &impl Store, nonces: &[u64]) -> Vec<B256> {
    let mut digests = Vec::new();
    for &nonce in nonces {
        let ticket = win(0, nonce, 0);
        assert!(store.save_win(&ticket, Amount(10), AT).await.unwrap());
        digests.push(ticket.digest());
    }
    digests
}

fn paid(digests: &[B256]) -> Vec<(B256, Outcome)> {
    digests
        .iter()
        .map(|digest| {
            (
                *digest,
                Outcome::Final {
                    paid: Amount(100),
                    owed: Amount(0),
                },
            )
        })
        .collect()
}

async fn states(store: &impl Store, digests: &[B256]) -> Vec<WinState> {
    let mut states = Vec::new();
    for digest in digests {
        states.push(store.win(*digest).await.unwrap().unwrap().state);
    }
    states
}

/// The whole life, with a fee bump, and the winners follow their claim.
pub async fn claim_runs_from_queue_to_final<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[5, 3]).await;
    let claim = store.queue(&digests, AT).await.unwrap();
    assert_eq!(claim, ClaimId(1));
    assert_eq!(states(&store, &digests).await, [WinState::Queued(claim); 2]);
    assert_eq!(store.floors().await.unwrap(), [(escrow(0), Nonce(5))]);

    store.add_transaction(claim, &transaction(1)).await.unwrap();
    assert_eq!(states(&store, &digests).await, [WinState::Sent(claim); 2]);
    store.add_transaction(claim, &transaction(2)).await.unwrap();
    store.mined(claim, transaction(2).hash, block(7)).await.unwrap();
    store.mined(claim, transaction(2).hash, block(7)).await.unwrap();
    assert_eq!(states(&store, &digests).await, [WinState::Mined(claim); 2]);
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 2);

    let record = store.claim(claim).await.unwrap().unwrap();
    assert_eq!(
        record.state,
        ClaimState::Mined {
            hash: transaction(2).hash,
            block: block(7)
        }
    );
    assert_eq!(record.transactions, [transaction(1), transaction(2)]);
    assert!(
        record.wins.iter().map(|win| win.ticket.nonce().0).eq([3, 5]),
        "by rising nonce"
    );
    assert_eq!(record.queued_at, AT);

    let refusal = Outcome::Refused {
        reason: B32::repeat_byte(7),
        got: U256::MAX,
        limit: U256::from(1),
    };
    let owed = Outcome::Final {
        paid: Amount(60),
        owed: Amount(40),
    };
    store
        .finalize(claim, &[(digests[1], refusal), (digests[0], owed)], 54_000, 9)
        .await
        .unwrap();
    assert_eq!(
        states(&store, &digests).await,
        [
            WinState::Final {
                paid: Amount(60),
                owed: Amount(40)
            },
            WinState::Refused {
                reason: B32::repeat_byte(7),
                got: U256::MAX,
                limit: U256::from(1)
            },
        ]
    );
    let state = store.claim(claim).await.unwrap().unwrap().state;
    assert_eq!(state.fee(), Some(Amount(486_000)));
    assert!(store.unfinished_claims().await.unwrap().is_empty());
    assert!(store.load_unfinished().await.unwrap().is_empty());
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 0);
}

/// Back to `Sent` when the block is gone, back to `Queued` when the transactions are.
pub async fn claim_goes_back_on_reorg_and_drop<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1]).await;
    let claim = store.queue(&digests, AT).await.unwrap();
    store.add_transaction(claim, &transaction(1)).await.unwrap();
    store.mined(claim, transaction(1).hash, block(7)).await.unwrap();
    store.unmined(claim).await.unwrap();
    assert_eq!(states(&store, &digests).await, [WinState::Sent(claim)]);
    store.mined(claim, transaction(1).hash, block(8)).await.unwrap();
    store.requeue(claim).await.unwrap();
    assert_eq!(states(&store, &digests).await, [WinState::Queued(claim)]);
    let record = store.claim(claim).await.unwrap().unwrap();
    assert_eq!(
        (record.transactions, record.dropped),
        (vec![], vec![transaction(1)])
    );
    // The same bytes again, and a new one.
    store.add_transaction(claim, &transaction(1)).await.unwrap();
    store.add_transaction(claim, &transaction(2)).await.unwrap();
    store.requeue(claim).await.unwrap();
    store.add_transaction(claim, &transaction(2)).await.unwrap();
    let record = store.claim(claim).await.unwrap().unwrap();
    assert_eq!(record.transactions, [transaction(2)]);
    assert_eq!(record.dropped, [transaction(1)]);
    assert_eq!(record.state, ClaimState::Sent);
}

/// A transaction that no node knew any more turns up in a block.
pub async fn dropped_transaction_may_be_mined_after_all<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1]).await;
    let claim = store.queue(&digests, AT).await.unwrap();
    refused!(
        store.mined(claim, transaction(1).hash, block(7)).await,
        StoreError::UnknownTransaction { hash, .. } if hash == transaction(1).hash
    );
    store.add_transaction(claim, &transaction(1)).await.unwrap();
    store.requeue(claim).await.unwrap();
    store.mined(claim, transaction(1).hash, block(7)).await.unwrap();
    let record = store.claim(claim).await.unwrap().unwrap();
    assert_eq!(record.state.stage(), ClaimStage::Mined);
    assert_eq!(
        (record.transactions, record.dropped),
        (vec![transaction(1)], vec![])
    );
    store.finalize(claim, &paid(&digests), 1, 1).await.unwrap();
}

/// A dissolved claim gives its winners back; the floor stays where it was.
pub async fn released_wins_can_be_claimed_again<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2]).await;
    let claim = store.queue(&digests, AT).await.unwrap();
    store.release(claim).await.unwrap();
    assert_eq!(states(&store, &digests).await, [WinState::Won; 2]);
    let record = store.claim(claim).await.unwrap().unwrap();
    assert_eq!((record.state, record.wins.len()), (ClaimState::Released, 0));
    assert_eq!(store.floors().await.unwrap(), [(escrow(0), Nonce(2))]);
    let second = store.queue(&digests[..1], AT).await.unwrap();
    assert_eq!(second, ClaimId(2), "claim numbers are never used again");
    assert_eq!(
        states(&store, &digests).await,
        [WinState::Queued(second), WinState::Won]
    );
    assert_eq!(store.floors().await.unwrap(), [(escrow(0), Nonce(2))]);
}

/// Every move outside the diagram is refused with both states, and changes nothing.
pub async fn illegal_claim_moves_name_both_states<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let claims = {
        let mut claims = Vec::new();
        for (n, stage) in ClaimStage::ALL.into_iter().enumerate() {
            let digests = save(&store, &[n as u64]).await;
            let claim = store.queue(&digests, AT).await.unwrap();
            let tx = transaction(n as u64);
            if stage != ClaimStage::Queued && stage != ClaimStage::Released {
                store.add_transaction(claim, &tx).await.unwrap();
            }
            if stage == ClaimStage::Mined || stage == ClaimStage::Final {
                store.mined(claim, tx.hash, block(1)).await.unwrap();
            }
            match stage {
                ClaimStage::Final => store.finalize(claim, &paid(&digests), 1, 1).await.unwrap(),
                ClaimStage::Released => store.release(claim).await.unwrap(),
                _ => {}
            }
            claims.push((claim, stage, tx, digests));
        }
        claims
    };
    let mut legal = Vec::new();
    for (claim, stage, tx, digests) in claims {
        let moves = [
            (
                ClaimStage::Sent,
                "add",
                store.add_transaction(claim, &transaction(50 + claim.0)).await,
            ),
            (ClaimStage::Sent, "unmine", store.unmined(claim).await),
            (ClaimStage::Queued, "requeue", store.requeue(claim).await),
            (
                ClaimStage::Mined,
                "mine",
                store.mined(claim, tx.hash, block(2)).await,
            ),
            (
                ClaimStage::Final,
                "finalize",
                store.finalize(claim, &paid(&digests), 2, 2).await,
            ),
            (ClaimStage::Released, "release", store.release(claim).await),
        ];
        // Legal moves among these change the claim, so only the first refusal of each is compared with `stage`; what
        // matters is that the ends stay ends.
        for (to, name, result) in moves {
            match result {
                Ok(()) => legal.push((stage, name)),
                Err(StoreError::ClaimMove {
                    claim: of,
                    from,
                    to: wanted,
                }) => {
                    assert_eq!((of, wanted), (claim, to));
                    if matches!(stage, ClaimStage::Final | ClaimStage::Released) {
                        assert_eq!(from.stage(), stage);
                    }
                }
                Err(StoreError::UnknownTransaction { .. }) => assert_eq!(name, "mine"),
                Err(error) => panic!("{stage} {name}: {error}"),
            }
        }
    }
    use ClaimStage::{Mined, Queued, Sent};
    assert_eq!(
        legal,
        [
            (Queued, "add"),
            (Queued, "requeue"),
            (Queued, "release"),
            (Sent, "add"),
            (Sent, "requeue"),
            (Sent, "mine"),
            (Sent, "finalize"),
            (Mined, "unmine"),
            (Mined, "requeue"),
            (Mined, "mine"),
            (Mined, "finalize"),
        ]
    );
    let nowhere = ClaimId(77);
    refused!(
        store.unmined(nowhere).await,
        StoreError::UnknownClaim(ClaimId(77))
    );
    refused!(
        store.requeue(nowhere).await,
        StoreError::UnknownClaim(ClaimId(77))
    );
    refused!(
        store.finalize(nowhere, &[], 1, 1).await,
        StoreError::UnknownClaim(ClaimId(77))
    );
    refused!(
        store.release(ClaimId(u64::MAX)).await,
        StoreError::UnknownClaim(ClaimId(u64::MAX))
    );
}

/// One winner that cannot be claimed, and no claim is made, no winner moved, no floor raised.
pub async fn queue_is_all_or_nothing<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2]).await;
    refused!(store.queue(&[], AT).await, StoreError::ClaimEmpty);
    let unknown = B256::repeat_byte(3);
    refused!(
        store.queue(&[digests[0], unknown], AT).await,
        StoreError::UnknownWin(digest) if digest == unknown
    );
    refused!(
        store.queue(&[digests[0], digests[1], digests[0]], AT).await,
        StoreError::WinMove { digest, from: WinState::Queued(_), to: WinStage::Queued } if digest == digests[0]
    );
    assert!(store.floors().await.unwrap().is_empty());
    assert!(store.claims(10).await.unwrap().is_empty());
    assert_eq!(states(&store, &digests).await, [WinState::Won; 2]);
    let claim = store.queue(&digests[..1], AT).await.unwrap();
    refused!(
        store.queue(&[digests[1], digests[0]], AT).await,
        StoreError::WinMove { digest, from, .. } if digest == digests[0] && from == WinState::Queued(claim)
    );
    assert_eq!(
        states(&store, &digests).await,
        [WinState::Queued(claim), WinState::Won]
    );
    assert_eq!(store.floors().await.unwrap(), [(escrow(0), Nonce(1))]);
}

/// Never two payments: a winner is in at most one claim, whoever queues at the same time.
pub async fn concurrent_claims_never_share_a_win<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &(1..=12).collect::<Vec<_>>()).await;
    let mut tasks = Vec::new();
    for n in 0..24 {
        let (store, wins) = (store.clone(), digests[n % 12..(n % 12 + 3).min(12)].to_vec());
        tasks.push(tokio::spawn(async move {
            store.queue(&wins, AT).await.ok().map(|claim| (claim, wins))
        }));
    }
    let mut claimed = HashMap::new();
    for task in tasks {
        if let Some((claim, wins)) = task.await.unwrap() {
            for digest in wins {
                assert_eq!(claimed.insert(digest, claim), None, "a winner is in two claims");
            }
        }
    }
    assert!(!claimed.is_empty());
    for digest in digests {
        let state = store.win(digest).await.unwrap().unwrap().state;
        assert_eq!(
            state,
            claimed
                .get(&digest)
                .map_or(WinState::Won, |claim| WinState::Queued(*claim))
        );
    }
}

/// A lower winner that is queued later leaves the floor.
pub async fn floor_never_falls<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    let digests = save(&store, &[9, 300, 4]).await;
    let other = win(1, u64::MAX, 0);
    store.save_win(&other, Amount(1), AT).await.unwrap();
    let mut floors = vec![(escrow(0), Nonce(9))];
    store.queue(&digests[..1], AT).await.unwrap();
    assert_eq!(store.floors().await.unwrap(), floors);
    store.queue(&[digests[1], other.digest()], AT).await.unwrap();
    floors = vec![(escrow(0), Nonce(300)), (escrow(1), Nonce(u64::MAX))];
    floors.sort();
    assert_eq!(store.floors().await.unwrap(), floors);
    store.queue(&digests[2..], AT).await.unwrap();
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    assert_eq!(store.floors().await.unwrap(), floors);
}

/// Every winner of the claim once, and no other.
pub async fn outcomes_must_fit_the_claim<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2, 3]).await;
    let claim = store.queue(&digests[..2], AT).await.unwrap();
    store.add_transaction(claim, &transaction(1)).await.unwrap();
    store.mined(claim, transaction(1).hash, block(1)).await.unwrap();
    refused!(
        store.finalize(claim, &paid(&digests[..1]), 1, 1).await,
        StoreError::OutcomeMissing { digest, .. } if digest == digests[1]
    );
    refused!(
        store.finalize(claim, &paid(&digests), 1, 1).await,
        StoreError::OutcomeStray { digest, .. } if digest == digests[2]
    );
    let twice = paid(&[digests[0], digests[1], digests[0]]);
    refused!(
        store.finalize(claim, &twice, 1, 1).await,
        StoreError::OutcomeStray { digest, .. } if digest == digests[0]
    );
    assert_eq!(states(&store, &digests[..2]).await, [WinState::Mined(claim); 2]);
    store.finalize(claim, &paid(&digests[..2]), 1, 1).await.unwrap();
}

/// A winner whose ticket has expired unclaimed is closed without a claim; one in a claim is not.
pub async fn hopeless_win_is_given_up<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2]).await;
    let (reason, got, limit) = (B32::repeat_byte(1), U256::from(10), U256::from(9));
    store.give_up(digests[0], reason, got, limit).await.unwrap();
    let refusal = WinState::Refused { reason, got, limit };
    assert_eq!(states(&store, &digests[..1]).await, [refusal]);
    let claim = store.queue(&digests[1..], AT).await.unwrap();
    for (digest, before) in [(digests[0], refusal), (digests[1], WinState::Queued(claim))] {
        refused!(
            store.give_up(digest, reason, got, limit).await,
            StoreError::WinMove { from, to: WinStage::Refused, .. } if from == before
        );
    }
    refused!(store.queue(&digests[..1], AT).await, StoreError::WinMove { from, .. } if from == refusal);
    refused!(
        store.give_up(B256::ZERO, reason, got, limit).await,
        StoreError::UnknownWin(B256::ZERO)
    );
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 1);
}

/// A transaction settles one claim.
pub async fn transaction_is_of_one_claim<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2]).await;
    let first = store.queue(&digests[..1], AT).await.unwrap();
    let second = store.queue(&digests[1..], AT).await.unwrap();
    store.add_transaction(first, &transaction(1)).await.unwrap();
    refused!(
        store.add_transaction(second, &transaction(1)).await,
        StoreError::TransactionTaken { got, stored, .. } if (got, stored) == (second, first)
    );
    store.add_transaction(second, &transaction(2)).await.unwrap();
    refused!(
        store.mined(second, transaction(1).hash, block(1)).await,
        StoreError::UnknownTransaction { claim, .. } if claim == second
    );
}

/// What `claim list` and a restart read.
pub async fn wins_are_listed_and_totalled<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2, 3, 4, 5, 6]).await;
    let mut claims = Vec::new();
    for digest in &digests[1..5] {
        claims.push(store.queue(&[*digest], AT).await.unwrap());
    }
    for (n, claim) in claims.iter().enumerate().skip(1) {
        let tx = transaction(n as u64);
        store.add_transaction(*claim, &tx).await.unwrap();
        if n > 1 {
            store.mined(*claim, tx.hash, block(1)).await.unwrap();
        }
    }
    let settled = Outcome::Final {
        paid: Amount(70),
        owed: Amount(30),
    };
    store
        .finalize(claims[3], &[(digests[4], settled)], 1, 1)
        .await
        .unwrap();
    store
        .give_up(digests[5], B32::ZERO, U256::ZERO, U256::ZERO)
        .await
        .unwrap();

    let totals = store.win_totals().await.unwrap();
    for (stage, digest) in WinStage::ALL.into_iter().zip(&digests) {
        let listed = store.wins(stage).await.unwrap();
        assert_eq!(listed.len(), 1, "{stage}");
        assert_eq!(
            (listed[0].ticket.digest(), listed[0].state.stage()),
            (*digest, stage)
        );
        assert_eq!(
            totals.of(stage),
            Total {
                count: 1,
                price: Amount(10)
            }
        );
    }
    assert_eq!((totals.paid, totals.owed), (Amount(70), Amount(30)));
    assert_eq!(
        totals.all().unwrap(),
        Total {
            count: 6,
            price: Amount(60)
        }
    );
    assert_eq!(totals.unfinished().unwrap().count, 4);
    assert_eq!(store.load_unfinished().await.unwrap().len(), 4);
    assert_eq!(
        store.wins(claims[0]).await.unwrap()[0].ticket.digest(),
        digests[1]
    );
    assert_eq!(store.wins(escrow(0)).await.unwrap().len(), 6);
    assert!(store.wins(escrow(1)).await.unwrap().is_empty());
    let two = store
        .wins(WinFilter {
            limit: Some(2),
            ..WinFilter::default()
        })
        .await
        .unwrap();
    assert!(two.iter().map(|win| win.ticket.nonce().0).eq([1, 2]));
}

/// Newest first for people, oldest first for the claimer.
pub async fn claims_are_listed<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2, 3]).await;
    for digest in &digests {
        store.queue(&[*digest], AT).await.unwrap();
    }
    store.release(ClaimId(2)).await.unwrap();
    let ids =
        |claims: Vec<crate::ClaimRecord>| claims.into_iter().map(|claim| claim.id.0).collect::<Vec<_>>();
    assert_eq!(ids(store.claims(2).await.unwrap()), [3, 2]);
    assert_eq!(ids(store.claims(u32::MAX).await.unwrap()), [3, 2, 1]);
    assert_eq!(ids(store.unfinished_claims().await.unwrap()), [1, 3]);
    assert_eq!(store.claim(ClaimId(4)).await.unwrap(), None);
}

// ───────────────────────────── Mirror ─────────────────────────────

/// A save replaces what changed and keeps the rest; the cursor never goes back.
pub async fn mirror_moves_forward_only<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    assert_eq!(store.load_mirror().await.unwrap(), None);
    let mut escrows = HashMap::from([(escrow(0), fixture::record(0)), (escrow(1), fixture::record(1))]);
    store.save_mirror(block(5), &escrows).await.unwrap();
    assert_eq!(
        store.load_mirror().await.unwrap(),
        Some((block(5), escrows.clone()))
    );
    let changed = HashMap::from([(escrow(1), fixture::record(2))]);
    store.save_mirror(block(9), &changed).await.unwrap();
    escrows.extend(changed);
    let same_height = protocol::ticket::BlockRef {
        hash: B256::ZERO,
        ..block(9)
    };
    for got in [block(8), same_height] {
        refused!(
            store.save_mirror(got, &HashMap::from([(escrow(0), fixture::record(3))])).await,
            StoreError::CursorBackwards { got: refused, stored } if refused == got && stored == block(9)
        );
    }
    store.save_mirror(block(9), &HashMap::new()).await.unwrap();
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    assert_eq!(store.load_mirror().await.unwrap(), Some((block(9), escrows)));
    store.forget_mirror().await.unwrap();
    assert_eq!(store.load_mirror().await.unwrap(), None);
    store.save_mirror(block(1), &HashMap::new()).await.unwrap();
    assert_eq!(
        store.load_mirror().await.unwrap(),
        Some((block(1), HashMap::new()))
    );
}

// ───────────────────────────── All ─────────────────────────────

/// What was answered is there after a restart.
pub async fn everything_survives_a_restart<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    for n in 0..5 {
        let _ = store.issue(request(n, 0), sign(n, 0)).await.unwrap();
    }
    let digests = save(&store, &[1, 2, 3]).await;
    let claim = store.queue(&digests[..2], AT).await.unwrap();
    store.add_transaction(claim, &transaction(1)).await.unwrap();
    store.mined(claim, transaction(1).hash, block(3)).await.unwrap();
    store
        .save_mirror(block(3), &HashMap::from([(escrow(0), fixture::record(0))]))
        .await
        .unwrap();
    let before = model::dump(&store).await;
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    assert_eq!(model::dump(&store).await, before);
    store.unmined(claim).await.unwrap();
}

/// Chain, contract, role and recipient must be the ones that the store was made for; the error has both.
pub async fn store_of_another_identity_is_refused<B: Backend>() {
    if !B::KEEPS {
        return;
    }
    let (place, store) = fresh::<B>().await;
    store.next_boot().await.unwrap();
    place.close(store).await.unwrap();
    let right = identity();
    let domain = |chain_id, contract| protocol::ticket::Domain::new(chain_id, contract);
    let contract = right.domain.contract();
    for wrong in [
        StoreIdentity {
            domain: domain(1, contract),
            ..right
        },
        StoreIdentity {
            domain: domain(right.domain.chain_id(), Address::repeat_byte(1)),
            ..right
        },
        StoreIdentity {
            owner: Owner::Payer,
            ..right
        },
        StoreIdentity {
            owner: Owner::Merchant(Address::repeat_byte(1)),
            ..right
        },
    ] {
        match place.open(wrong).await {
            Err(error @ StoreError::OtherStore(_)) => {
                let message = error.to_string();
                assert!(message.contains(&right.to_string()), "{message}");
                assert!(message.contains(&wrong.to_string()), "{message}");
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("opened as {wrong}"),
        }
    }
    assert_eq!(place.open(right).await.unwrap().next_boot().await.unwrap(), 2);
}

/// Random requests: see [`model`].
pub async fn random_requests_match_the_model<B: Backend>() {
    model::random_requests_match::<B>().await;
}
