//! Cases for the mirror and for a store as a whole.

use super::{fixture::recipient, *};

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

/// The first contract that is said stays; nothing is done before it is.
pub async fn channels_are_of_one_contract<B: Backend>() {
    let (place, store) = fresh::<B>().await;
    let right = channel_fixture::domain();
    refused!(
        store.save_client_channel(&channel_fixture::new_channel(0)).await,
        StoreError::ChannelsUnsaid
    );
    refused!(
        store.use_bank_key(0, recipient()).await,
        StoreError::ChannelsUnsaid
    );
    for _ in 0..2 {
        store.use_channels(right).await.unwrap();
    }
    store
        .save_client_channel(&channel_fixture::new_channel(0))
        .await
        .unwrap();
    place.close(store).await.unwrap();
    let store = place.open(identity()).await.unwrap();
    for wrong in [
        protocol::channel::Domain::new(1, right.contract()),
        protocol::channel::Domain::new(right.chain_id(), Address::ZERO),
    ] {
        match store.use_channels(wrong).await {
            Err(error @ StoreError::OtherChannels(_)) => {
                let message = error.to_string();
                for value in [
                    right.chain_id().to_string(),
                    right.contract().to_string(),
                    wrong.chain_id().to_string(),
                    wrong.contract().to_string(),
                ] {
                    assert!(message.contains(&value), "{message}");
                }
            }
            other => panic!("{other:?}"),
        }
    }
    store.use_channels(right).await.unwrap();
    let channel = channel_fixture::channel(0);
    assert!(store.client_channel(channel).await.unwrap().is_some());
}

/// As [`mirror_moves_forward_only`], with a cursor of its own.
pub async fn channel_mirror_moves_forward_only<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    let of = |n| (channel_fixture::channel(n), channel_fixture::full_record(n));
    assert_eq!(store.load_channel_mirror().await.unwrap(), None);
    let mut channels = HashMap::from([of(0), of(1), of(2), of(3)]);
    store.save_channel_mirror(block(5), &channels).await.unwrap();
    store.save_mirror(block(3), &HashMap::new()).await.unwrap();
    let changed = HashMap::from([(of(1).0, channel_fixture::full_record(4))]);
    store.save_channel_mirror(block(9), &changed).await.unwrap();
    channels.extend(changed);
    refused!(
        store.save_channel_mirror(block(8), &HashMap::from([of(0)])).await,
        StoreError::CursorBackwards { got, stored } if got == block(8) && stored == block(9)
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    assert_eq!(
        store.load_channel_mirror().await.unwrap(),
        Some((block(9), channels))
    );
    store.forget_channel_mirror().await.unwrap();
    assert_eq!(store.load_channel_mirror().await.unwrap(), None);
    assert_eq!(
        store.load_mirror().await.unwrap(),
        Some((block(3), HashMap::new()))
    );
}

/// What was answered is there after a restart.
pub async fn everything_survives_a_restart<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
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
    let store = open_channels(&place).await;
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
        StoreIdentity::bank(right.domain.chain_id(), contract, recipient()),
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
    let place = B::place().await;
    let bank = StoreIdentity::bank(31337, contract, recipient());
    place.close(place.open(bank).await.unwrap()).await.unwrap();
    place.close(place.open(bank).await.unwrap()).await.unwrap();
    match place.open(right).await {
        Err(StoreError::OtherStore(other)) => assert_eq!((other.stored, other.wanted), (bank, right)),
        _ => panic!("a bank's store opened as {right}"),
    }
}

/// Random requests: see [`model`].
pub async fn random_requests_match_the_model<B: Backend>() {
    model::random_requests_match::<B>().await;
}

/// Random requests about channels: see [`model`].
pub async fn random_channel_requests_match_the_model<B: Backend>() {
    model::random_channel_requests_match::<B>().await;
}
