//! Cases for claims.

use super::*;

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
    store.save_win(&other, ORDER, Amount(1), AT).await.unwrap();
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
