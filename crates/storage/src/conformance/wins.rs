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
