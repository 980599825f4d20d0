//! Cases for seeds and orders: the promises that leave the store.

use super::*;

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
    assert_eq!(store.next_nonce(escrow(0)).await.unwrap(), Nonce(4));
    assert_eq!(store.next_nonce(escrow(1)).await.unwrap(), Nonce(2));
    assert_eq!(store.next_nonce(escrow(2)).await.unwrap(), Nonce(1));
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

fn charged(n: u64, budgets: &[(&str, u128)]) -> crate::OrderRequest {
    let budget = |(account, limit): &(&str, u128)| Budget {
        account: (*account).to_owned(),
        limit: Amount(*limit),
    };
    crate::OrderRequest {
        budgets: budgets.iter().map(budget).collect(),
        price: Amount(10),
        ..request(n, 0)
    }
}

/// Every account in full, with the ticket, once per order; and whatever became of the ticket.
pub async fn budgets_are_charged_with_the_ticket<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    let both = charged(1, &[("agent", 30), ("day", 20), ("agent", 30)]);
    for _ in 0..2 {
        let _ = store.issue(both.clone(), sign(1, 0)).await.unwrap();
    }
    let spent = async |store: &B::Store| {
        (
            store.spent("agent").await.unwrap().0,
            store.spent("day").await.unwrap().0,
            store.spent("").await.unwrap().0,
        )
    };
    assert_eq!(spent(&store).await, (10, 10, 0));
    let refusal = OrderState::Refused {
        rule: "nonce-seen".to_owned(),
    };
    store.resolve(order(1), refusal).await.unwrap();
    assert_eq!(
        spent(&store).await,
        (10, 10, 0),
        "a refused ticket may be claimed all the same"
    );
    let one = charged(2, &[("agent", 20), ("", 10)]);
    let _ = store.issue(one, sign(2, 0)).await.unwrap();
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    assert_eq!(spent(&store).await, (20, 10, 10));
}

/// One account without enough left, and no nonce is taken, no other account charged, nothing signed.
pub async fn order_over_budget_changes_nothing<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let _ = store
        .issue(charged(1, &[("agent", 10)]), sign(1, 0))
        .await
        .unwrap();
    for limit in [19, 10, 9, 0] {
        let request = charged(2, &[("day", 50), ("agent", limit), ("month", 50)]);
        refused!(
            store.issue(request, |_| panic!("signed beyond a budget")).await,
            StoreError::OverBudget { account, spent: Amount(10), price: Amount(10), limit: got }
                if account == "agent" && got == Amount(limit)
        );
    }
    let huge = crate::OrderRequest {
        price: Amount(u128::MAX),
        ..charged(2, &[("agent", u128::MAX)])
    };
    refused!(store.issue(huge, sign(2, 0)).await, StoreError::OverBudget { .. });
    let wrong = store.issue(charged(2, &[("day", 50)]), sign(2, 1)).await;
    refused!(wrong, StoreError::SignedOther { .. });
    assert_eq!(store.order(order(2)).await.unwrap(), None);
    assert_eq!(store.next_nonce(escrow(0)).await.unwrap(), Nonce(2));
    for (account, spent) in [("agent", 10), ("day", 0), ("month", 0)] {
        assert_eq!(store.spent(account).await.unwrap(), Amount(spent));
    }
    let known = store
        .issue(charged(1, &[("agent", 0)]), sign(1, 0))
        .await
        .unwrap();
    assert!(matches!(known, Issue::Existing(_)), "its ticket is paid for");
}

/// However many orders come at the same time.
pub async fn concurrent_orders_never_exceed_a_budget<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let mut tasks = Vec::new();
    for n in 0..40 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            match store.issue(charged(n, &[("agent", 75)]), sign(n, 0)).await {
                Ok(_) => 1,
                Err(StoreError::OverBudget { spent, .. }) => {
                    assert_eq!(spent, Amount(70));
                    0
                }
                Err(error) => panic!("order {n}: {error}"),
            }
        }));
    }
    let mut issued = 0;
    for task in tasks {
        issued += task.await.unwrap();
    }
    assert_eq!((issued, store.spent("agent").await.unwrap()), (7, Amount(70)));
    assert_eq!(store.next_nonce(escrow(0)).await.unwrap(), Nonce(8));
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
    assert_eq!(store.next_nonce(escrow(0)).await.unwrap(), Nonce(2));
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
