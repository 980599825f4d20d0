//! Cases for winners.

use super::*;

/// New, then known; and it comes back as it was.
pub async fn win_is_stored_once<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let ticket = win(0, 7, 0);
    assert!(store.save_win(&ticket, ORDER, Amount(5), AT).await.unwrap());
    assert!(
        !store
            .save_win(&ticket, ORDER, Amount(6), Timestamp(1))
            .await
            .unwrap()
    );
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
    assert!(store.save_win(&first, ORDER, Amount(5), AT).await.unwrap());
    refused!(
        store.save_win(&second, ORDER, Amount(5), AT).await,
        StoreError::NonceTaken { nonce: Nonce(7), stored, got, .. }
            if stored == first.digest() && got == second.digest()
    );
    assert!(
        store.save_win(&win(1, 7, 1), ORDER, Amount(5), AT).await.unwrap(),
        "another escrow has its own nonces"
    );
    assert_eq!(store.wins(WinFilter::default()).await.unwrap().len(), 2);
}

/// Another process has put a higher nonce into a claim: the ticket could never be paid, so it must not be accepted.
pub async fn win_at_or_below_the_floor_is_refused<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[3, 7]).await;
    store.queue(&digests[1..], AT).await.unwrap();
    for nonce in [2, 6] {
        refused!(
            store.save_win(&win(0, nonce, 0), ORDER, Amount(1), AT).await,
            StoreError::BelowFloor { escrow: of, nonce: got, floor: Nonce(7) }
                if of == escrow(0) && got == Nonce(nonce)
        );
    }
    refused!(
        store.save_win(&win(0, 7, 1), ORDER, Amount(1), AT).await,
        StoreError::NonceTaken { nonce: Nonce(7), .. }
    );
    for nonce in [3, 7] {
        let known = store.save_win(&win(0, nonce, 0), ORDER, Amount(1), AT).await;
        assert!(!known.unwrap(), "stored before the floor rose");
    }
    assert!(store.save_win(&win(0, 8, 0), ORDER, Amount(1), AT).await.unwrap());
    assert!(
        store.save_win(&win(1, 2, 0), ORDER, Amount(1), AT).await.unwrap(),
        "another escrow"
    );
    store.raise_floors(&[(escrow(1), Nonce(u64::MAX))]).await.unwrap();
    refused!(
        store
            .save_win(&fixture::win(1, u64::MAX, 0), ORDER, Amount(1), AT)
            .await,
        StoreError::BelowFloor {
            floor: Nonce(u64::MAX),
            ..
        }
    );
    assert_eq!(store.wins(WinFilter::default()).await.unwrap().len(), 4);
}

/// In any state, once and again.
pub async fn delivery_is_noted<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2, 3]).await;
    let claim = store.queue(&digests[1..2], AT).await.unwrap();
    for digest in [digests[0], digests[1], digests[0]] {
        store.mark_delivered(digest).await.unwrap();
    }
    refused!(
        store.mark_delivered(B256::ZERO).await,
        StoreError::UnknownWin(B256::ZERO)
    );
    let known = store.save_win(&win(0, 1, 0), ORDER, Amount(10), AT).await;
    assert!(!known.unwrap(), "which does not take the delivery back");
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    let noted = store.load_unfinished().await.unwrap();
    assert!(noted.iter().map(|win| win.delivered).eq([true, true, false]));
    assert_eq!(states(&store, &digests[1..2]).await, [WinState::Queued(claim)]);
}

/// A good that was not delivered costs no ticket: it is as if it had never come. Not so once it was, or may be paid.
pub async fn undelivered_win_can_be_void<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let digests = save(&store, &[1, 2, 3]).await;
    store.void(digests[0]).await.unwrap();
    store.void(digests[0]).await.unwrap();
    assert_eq!(store.win(digests[0]).await.unwrap(), None);
    assert_eq!(store.unclaimed(escrow(0)).await.unwrap(), 2);
    let again = store.save_win(&win(0, 1, 1), ORDER, Amount(1), AT).await;
    assert!(again.unwrap(), "its nonce is free");

    store.mark_delivered(digests[1]).await.unwrap();
    let claim = store.queue(&digests[2..], AT).await.unwrap();
    for (digest, before, noted) in [
        (digests[1], WinState::Won, true),
        (digests[2], WinState::Queued(claim), false),
    ] {
        refused!(
            store.void(digest).await,
            StoreError::NotVoid { digest: of, state, delivered }
                if (of, state, delivered) == (digest, before, noted)
        );
    }
    assert_eq!(store.wins(WinFilter::default()).await.unwrap().len(), 3);
}

/// Nothing is cut to 63 bits or passes through a float; a sum that does not fit is an error.
pub async fn extreme_values_survive<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    let ticket = fixture::extreme_win();
    let price = Amount(u128::MAX);
    assert!(
        store
            .save_win(&ticket, ORDER, price, Timestamp(u64::MAX))
            .await
            .unwrap()
    );
    let account = "zero \0, quote ', snowman \u{2603}".to_owned();
    let huge = crate::OrderRequest {
        price,
        budgets: vec![Budget {
            account: account.clone(),
            limit: price,
        }],
        at: Timestamp(u64::MAX),
        ..request(1, 0)
    };
    let mut issued = store.issue(huge, sign(1, 0)).await.unwrap().into_record();
    // A merchant's word.
    issued.state = OrderState::Refused {
        rule: "zero \0, quote ', snowman \u{2603}".repeat(99),
    };
    store.resolve(order(1), issued.state.clone()).await.unwrap();
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
    assert_eq!(store.spent(&account).await.unwrap(), price);
    let record = store.claim(claim).await.unwrap().unwrap();
    assert_eq!(record.transactions, std::slice::from_ref(&tx));
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
    store.save_win(&win(1, 1, 0), ORDER, Amount(1), AT).await.unwrap();
    refused!(
        store.win_totals().await.unwrap().all(),
        StoreError::SumTooLarge { .. }
    );
}

/// A thousand winners at once, every tenth with a nonce that is taken: the others are stored.
pub async fn one_bad_win_does_not_fail_the_others<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    for nonce in (0..300).step_by(10) {
        assert!(
            store
                .save_win(&win(0, nonce, 0), ORDER, Amount(1), AT)
                .await
                .unwrap()
        );
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
            store.save_win(&win(0, nonce, 1), ORDER, Amount(1), AT).await
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
