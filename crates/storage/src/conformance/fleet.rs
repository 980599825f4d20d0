//! Cases for several processes on one store.

use super::*;
use crate::Part::{MayClaim, SellsOnly};

/// Long enough for any test.
const HOUR: Duration = Duration::from_secs(3600);

fn told(round: u64, floors: &[(Address, Nonce)], claims: bool) -> Beat {
    let mut floors = floors.to_vec();
    floors.sort();
    Beat {
        round,
        floors,
        claims,
    }
}

/// A claim waits until every process has taken over its floors.
pub async fn round_is_acked_when_every_process_knows_it<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let (low, high, other) = (
        (escrow(0), Nonce(3)),
        (escrow(0), Nonce(9)),
        (escrow(1), Nonce(u64::MAX)),
    );
    assert!(store.acked(1, None).await.unwrap(), "there is nobody to wait for");
    assert_eq!(store.raise_floors(&[]).await.unwrap(), 0);
    assert_eq!(
        store.beat(1, 0, HOUR, MayClaim).await.unwrap(),
        told(0, &[], true)
    );
    assert_eq!(store.raise_floors(&[low]).await.unwrap(), 1);
    assert_eq!(
        store.beat(2, 0, HOUR, MayClaim).await.unwrap(),
        told(1, &[low], false)
    );
    assert!(!store.acked(1, None).await.unwrap());
    assert!(
        !store.acked(1, Some(1)).await.unwrap(),
        "process 2 was told, and has not said that it knows"
    );
    assert_eq!(
        store.beat(2, 1, HOUR, MayClaim).await.unwrap(),
        told(1, &[], false)
    );
    assert!(store.acked(1, Some(1)).await.unwrap());
    assert!(!store.acked(1, Some(2)).await.unwrap());

    assert_eq!(store.raise_floors(&[other, high]).await.unwrap(), 2);
    assert_eq!(store.raise_floors(&[low]).await.unwrap(), 3);
    assert_eq!(store.raise_floors(&[]).await.unwrap(), 3);
    assert_eq!(
        store.beat(2, 1, HOUR, MayClaim).await.unwrap(),
        told(3, &[high, other], false),
        "never lowered"
    );
    assert_eq!(
        store.beat(2, 2, HOUR, MayClaim).await.unwrap(),
        told(3, &[high], false)
    );
    assert!(store.acked(2, Some(1)).await.unwrap() && !store.acked(3, Some(1)).await.unwrap());
    assert_eq!(
        store.beat(2, 0, HOUR, MayClaim).await.unwrap().floors,
        [high],
        "an ack is not taken back"
    );
    let mut floors = vec![high, other];
    floors.sort();
    assert_eq!(store.floors().await.unwrap(), floors);

    store.beat(2, 99, HOUR, MayClaim).await.unwrap();
    store.raise_floors(&[low]).await.unwrap();
    assert!(
        !store.acked(4, Some(1)).await.unwrap(),
        "a round yet to come cannot be known"
    );
    refused!(
        store.save_win(&win(0, 9, 0), ORDER, Amount(1), AT).await,
        StoreError::BelowFloor {
            nonce: Nonce(9),
            floor: Nonce(9),
            ..
        }
    );
}

/// A claim may raise a floor by itself. Who joins learns it, and so does everyone once a round names it.
pub async fn floor_of_a_claim_reaches_newcomers_and_rounds<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    store.beat(1, 0, HOUR, MayClaim).await.unwrap();
    store.raise_floors(&[(escrow(1), Nonce(1))]).await.unwrap();
    store.beat(1, 1, HOUR, MayClaim).await.unwrap();
    let digests = save(&store, &[5]).await;
    store.queue(&digests, AT).await.unwrap();
    assert_eq!(
        store.beat(1, 1, HOUR, MayClaim).await.unwrap(),
        told(1, &[], true)
    );
    let all = [(escrow(0), Nonce(5)), (escrow(1), Nonce(1))];
    assert_eq!(
        store.beat(2, 0, HOUR, MayClaim).await.unwrap(),
        told(1, &all, false)
    );
    assert_eq!(store.raise_floors(&[(escrow(0), Nonce(4))]).await.unwrap(), 2);
    assert_eq!(
        store.beat(1, 1, HOUR, MayClaim).await.unwrap(),
        told(2, &all[..1], true)
    );
}

/// Others have gone on without it, so it must not come back under its number.
pub async fn process_out_of_time_is_fenced_for_ever<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    store
        .beat(1, 0, Duration::from_millis(20), MayClaim)
        .await
        .unwrap();
    store
        .beat(2, 0, Duration::from_millis(20), MayClaim)
        .await
        .unwrap();
    store.beat(3, 0, HOUR, MayClaim).await.unwrap();
    store.raise_floors(&[(escrow(0), Nonce(1))]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    for _ in 0..2 {
        refused!(
            store.beat(1, 0, HOUR, MayClaim).await,
            StoreError::Fenced { boot: 1 }
        );
    }
    assert!(
        store.acked(1, Some(3)).await.unwrap(),
        "who is out is not waited for"
    );
    refused!(
        store.beat(2, 1, HOUR, MayClaim).await,
        StoreError::Fenced { boot: 2 }
    );
    assert!(store.beat(3, 1, HOUR, MayClaim).await.unwrap().claims);
    assert!(
        !store.beat(4, 0, HOUR, MayClaim).await.unwrap().claims,
        "it may join with another number"
    );
}

/// Leaving is like running out of time, at once.
pub async fn process_that_left_is_not_waited_for<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    store.leave(7).await.unwrap();
    store.beat(7, 0, HOUR, MayClaim).await.unwrap();
    store.beat(8, 0, Duration::MAX, MayClaim).await.unwrap();
    assert_eq!(store.raise_floors(&[(escrow(0), Nonce(1))]).await.unwrap(), 1);
    assert!(!store.acked(1, Some(8)).await.unwrap());
    store.leave(7).await.unwrap();
    store.leave(7).await.unwrap();
    assert!(store.acked(1, Some(8)).await.unwrap());
    refused!(
        store.beat(7, 1, HOUR, MayClaim).await,
        StoreError::Fenced { boot: 7 }
    );
    assert!(store.beat(8, 1, HOUR, MayClaim).await.unwrap().claims);
}

/// The first one, as long as it lives; then the next to beat.
pub async fn one_process_claims_and_the_next_takes_over<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let claims = async |boot| store.beat(boot, 0, HOUR, MayClaim).await.unwrap().claims;
    assert!(claims(5).await);
    assert!(!claims(4).await);
    assert!(!claims(6).await);
    assert!(claims(5).await);
    store.leave(5).await.unwrap();
    assert!(claims(6).await, "the next to beat");
    assert!(!claims(4).await);
    assert!(
        store
            .beat(6, 0, Duration::from_millis(1), MayClaim)
            .await
            .unwrap()
            .claims
    );
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(claims(4).await);
    assert!(!claims(7).await);
}

/// Whoever came first: one that cannot claim keeps nobody from it.
pub async fn process_that_only_sells_never_claims<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    assert!(!store.beat(1, 0, HOUR, SellsOnly).await.unwrap().claims);
    assert!(store.beat(2, 0, HOUR, MayClaim).await.unwrap().claims);
    assert!(!store.beat(1, 0, HOUR, SellsOnly).await.unwrap().claims);
    store.leave(2).await.unwrap();
    assert!(!store.beat(1, 0, HOUR, SellsOnly).await.unwrap().claims);
    store.raise_floors(&[(escrow(0), Nonce(1))]).await.unwrap();
    assert!(
        !store.acked(1, None).await.unwrap(),
        "it is waited for like any other"
    );
}

/// Whoever beats at the same time.
pub async fn concurrent_processes_have_one_claimer<B: Backend>() {
    let (_place, store) = fresh::<B>().await;
    let mut tasks = Vec::new();
    for boot in 1..=24 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let round = store.raise_floors(&[(escrow(0), Nonce(boot))]).await.unwrap();
            (round, store.beat(boot, 0, HOUR, MayClaim).await.unwrap().claims)
        }));
    }
    let (mut rounds, mut claimers) = (BTreeSet::new(), 0);
    for task in tasks {
        let (round, claims) = task.await.unwrap();
        assert!(rounds.insert(round), "round {round} was given out twice");
        claimers += u32::from(claims);
    }
    assert_eq!(claimers, 1);
    assert_eq!(store.floors().await.unwrap(), [(escrow(0), Nonce(24))]);
}

/// Leases, acks and rounds are the store's, not a process's.
pub async fn fleet_survives_a_restart<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    store.beat(1, 0, HOUR, MayClaim).await.unwrap();
    store.beat(2, 0, HOUR, MayClaim).await.unwrap();
    store.raise_floors(&[(escrow(0), Nonce(1))]).await.unwrap();
    store.beat(2, 1, HOUR, MayClaim).await.unwrap();
    store.leave(2).await.unwrap();
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    refused!(
        store.beat(2, 1, HOUR, MayClaim).await,
        StoreError::Fenced { boot: 2 }
    );
    assert!(
        !store.acked(1, None).await.unwrap(),
        "process 1 lives and has not acked"
    );
    assert!(
        !store.beat(3, 0, HOUR, MayClaim).await.unwrap().claims,
        "process 1 claims"
    );
    assert_eq!(store.raise_floors(&[(escrow(0), Nonce(1))]).await.unwrap(), 2);
}
