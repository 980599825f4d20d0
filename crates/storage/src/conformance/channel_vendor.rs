//! Cases for the vendor's payments.

use protocol::channel::{Accepted, Index, LastDelivered, Tag, VendorChannel};

use super::{
    channel_fixture::{accepted, channel, checkpoint, opened, opening, payment},
    *,
};
use crate::channel::{
    ChannelPhase, PaymentFate, PaymentSum, Resumed, SettlementStep, VendorChannelRecord, VendorPaymentState,
    VendorTotals,
};

const ALL: std::ops::RangeInclusive<Index> = Index(0)..=Index(u32::MAX);

async fn save(store: &impl Store, accepted: &Accepted) -> Result<bool> {
    store.save_payment(accepted, ORDER, Amount(10), AT).await
}

async fn stored(store: &impl Store, c: u64) -> VendorChannelRecord {
    store.vendor_channel(channel(c)).await.unwrap().unwrap()
}

/// The vendor's state as a restart finds it.
async fn restored(store: &impl Store, c: u64) -> VendorChannel {
    match store.vendor_channel(channel(c)).await.unwrap() {
        Some(record) => record.restore(opened(c)),
        None => opened(c),
    }
}

/// Takes and delivers the next payment.
async fn deliver(store: &impl Store, c: u64, index: u32) {
    let accepted = accepted(&restored(store, c).await, c, index, 0, false);
    assert!(save(store, &accepted).await.unwrap());
    let tag = accepted.payment().tag;
    assert!(
        store
            .mark_payment(channel(c), tag, PaymentFate::Delivered)
            .await
            .unwrap()
    );
}

/// Once; the same for another order is not the same.
pub async fn payment_is_stored_once<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    assert_eq!(store.vendor_channel(channel(0)).await.unwrap(), None);
    let first = accepted(&opened(0), 0, 1, 0, false);
    assert!(save(&store, &first).await.unwrap());
    assert!(!save(&store, &first).await.unwrap());
    refused!(
        store.save_payment(&first, order(1), Amount(10), AT).await,
        StoreError::PaymentOfOrder { index: Index(1), got, stored, .. } if got == order(1) && stored == ORDER
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let record = stored(&store, 0).await;
    let last = record.last.unwrap();
    assert_eq!(last.payment, payment(0, 1, 0));
    assert_eq!(
        (last.order, last.price, last.taken_at, last.state, last.chain),
        (ORDER, Amount(10), AT, VendorPaymentState::Taken, 0)
    );
    assert_eq!(
        (record.since, record.settled, record.phase),
        (AT, Index(0), ChannelPhase::Open)
    );
    assert_eq!(
        (record.highest, record.before, record.failed),
        (Some(last), None, None)
    );
    assert_eq!(restored(&store, 0).await, *first.channel());
}

/// A payment found taken after a crash counts: its order gets its good again, the next one stands on it.
pub async fn taken_payment_counts_after_a_restart<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    deliver(&store, 0, 2).await;
    let before = restored(&store, 0).await;
    assert_eq!((before.delivered.index, before.pending), (Index(2), None));
    let second = accepted(&before, 0, 3, 0, false);
    assert!(save(&store, &second).await.unwrap());
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let state = restored(&store, 0).await;
    assert_eq!(state, *second.channel());
    // Another one in its place: it counts, so there is none.
    let replacement = accepted(&state, 0, 3, 1, false);
    let tag = |n| payment(0, n, 0).tag;
    refused!(
        save(&store, &replacement).await,
        StoreError::PaymentStale { got, stored, .. } if got == (Index(2), tag(2)) && stored == Some((Index(3), tag(3)))
    );
    let third = accepted(&state, 0, 4, 0, true);
    assert_eq!(third.confirmed().map(|receipt| receipt.tag), Some(tag(3)));
    assert!(save(&store, &third).await.unwrap());
    let payments = store.vendor_payments(channel(0), ALL).await.unwrap();
    let states: Vec<_> = payments
        .iter()
        .map(|row| (row.payment.index.0, row.previous.0, row.state))
        .collect();
    let (delivered, taken) = (VendorPaymentState::Delivered, VendorPaymentState::Taken);
    assert_eq!(states, [(2, 0, delivered), (3, 2, delivered), (4, 3, taken)]);
    assert_eq!(restored(&store, 0).await, *third.channel());
    let some = store
        .vendor_payments(channel(0), Index(3)..=Index(3))
        .await
        .unwrap();
    assert_eq!(some, payments[1..2]);
}

/// Another process has taken a payment meanwhile: the state that this one was accepted from is old.
pub async fn payment_from_an_old_state_is_stale<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    let old = restored(&store, 0).await;
    deliver(&store, 0, 1).await;
    for index in [1, 2] {
        let late = accepted(&old, 0, index, 7, false);
        refused!(
            save(&store, &late).await,
            StoreError::PaymentStale { got: (Index(0), _), stored: Some((Index(1), tag)), .. }
                if tag == payment(0, 1, 0).tag
        );
    }
    // A state that the store has never been in.
    let ahead = accepted(&opened(1), 1, 1, 0, false).delivered().channel;
    let next = accepted(&ahead, 1, 2, 0, false);
    refused!(
        save(&store, &next).await,
        StoreError::PaymentStale {
            got: (Index(1), _),
            stored: None,
            ..
        }
    );
    assert_eq!(store.vendor_channel(channel(1)).await.unwrap(), None);
    assert_eq!(stored(&store, 0).await.last.unwrap().payment, payment(0, 1, 0));
}

/// The word of a failed one stays; at its index there may be another payment, which may fail, too. A delivered one is never
/// replaced.
pub async fn failed_payment_gives_its_place_delivered_never<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    let tag = |index, variant| payment(0, index, variant).tag;
    let failed = async |index: u32, variant: u64| {
        let accepted = accepted(&restored(&store, 0).await, 0, index, variant, false);
        assert!(save(&store, &accepted).await.unwrap());
        let marked = store.mark_payment(channel(0), tag(index, variant), PaymentFate::Failed);
        assert!(marked.await.unwrap());
    };
    deliver(&store, 0, 1).await;
    failed(3, 0).await;
    failed(2, 0).await;
    let record = stored(&store, 0).await;
    assert_eq!(record.highest.unwrap().payment.index, Index(3), "value stays");
    assert_eq!(record.last.unwrap().payment.index, Index(1));
    assert_eq!(restored(&store, 0).await.paid.index, Index(3));
    assert_eq!(store.vendor_payments(channel(0), ALL).await.unwrap().len(), 1);
    // The very one again, and another.
    failed(2, 0).await;
    failed(3, 1).await;
    assert_eq!(restored(&store, 0).await.pending.unwrap().tag, tag(3, 1));
    deliver(&store, 0, 2).await;
    let last = stored(&store, 0).await.last.unwrap();
    assert_eq!((last.payment, last.previous), (payment(0, 2, 0), Index(1)));
    for fate in [PaymentFate::Failed, PaymentFate::Delivered] {
        let again = store.mark_payment(channel(0), tag(2, 0), fate).await;
        if fate == PaymentFate::Failed {
            refused!(
                again,
                StoreError::VendorPaymentMove { index: Index(2), from: VendorPaymentState::Delivered, to, .. }
                    if to == VendorPaymentState::Failed
            );
        } else {
            assert!(!again.unwrap());
        }
    }
    refused!(
        store
            .mark_payment(channel(0), Tag(B256::ZERO), PaymentFate::Failed)
            .await,
        StoreError::UnknownPayment {
            tag: Tag(B256::ZERO),
            ..
        }
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    assert_eq!(restored(&store, 0).await.paid.index, Index(3));
    deliver(&store, 0, 3).await;
}

/// The client says that it got what this vendor took for failed.
pub async fn payment_that_stands_on_a_failed_one_confirms_it<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    let first = accepted(&opened(0), 0, 1, 0, false);
    assert!(save(&store, &first).await.unwrap());
    let tag = first.payment().tag;
    store
        .mark_payment(channel(0), tag, PaymentFate::Failed)
        .await
        .unwrap();
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let state = restored(&store, 0).await;
    assert_eq!(state, first.failed().channel);
    let second = accepted(&state, 0, 2, 0, true);
    assert!(save(&store, &second).await.unwrap());
    let payments = store.vendor_payments(channel(0), ALL).await.unwrap();
    let states: Vec<_> = payments
        .iter()
        .map(|row| (row.payment.index.0, row.state))
        .collect();
    assert_eq!(
        states,
        [(1, VendorPaymentState::Delivered), (2, VendorPaymentState::Taken)]
    );
    assert_eq!(restored(&store, 0).await, *second.channel());
}

/// After a loss of what was stored since, the client says where it stands; from there on it is as before.
pub async fn vendor_goes_on_where_its_client_stands<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    deliver(&store, 0, 1).await;
    // What a backup does not have: payments 2 to 4.
    let lost = accepted(&restored(&store, 0).await, 0, 4, 0, false)
        .delivered()
        .channel;
    let resume = async |store: &B::Store, c, state: &VendorChannel, index| {
        let resumed = Resumed {
            last: LastDelivered {
                index: Index(index),
                ..state.delivered
            },
            word: state.paid.word,
            chain: 0,
        };
        store.resume_vendor_channel(channel(c), resumed, AT).await
    };
    let next = accepted(&lost, 0, 5, 0, false);
    refused!(
        save(&store, &next).await,
        StoreError::PaymentStale {
            got: (Index(4), _),
            ..
        }
    );
    assert!(resume(&store, 0, &lost, 4).await.unwrap());
    assert!(!resume(&store, 0, &lost, 4).await.unwrap());
    refused!(
        resume(&store, 0, &lost, 3).await,
        StoreError::PositionBackwards {
            got: Index(3),
            stored: Index(4),
            ..
        }
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    assert_eq!(restored(&store, 0).await, lost);
    refused!(
        store
            .queue_settlement(SettlementStep::Close, &[(channel(0), Index(3))], AT)
            .await,
        StoreError::SettlementStale { stored: Index(4), .. }
    );
    assert!(save(&store, &next).await.unwrap());
    assert_eq!(restored(&store, 0).await, *next.channel());
    let marked = store.mark_payment(channel(0), next.payment().tag, PaymentFate::Delivered);
    assert!(marked.await.unwrap());
    deliver(&store, 0, 6).await;
    refused!(
        resume(&store, 0, &lost, 5).await,
        StoreError::PositionBackwards {
            got: Index(5),
            stored: Index(6),
            ..
        }
    );
    // One that never paid here.
    let elsewhere = accepted(&opened(1), 1, 2, 0, false).delivered().channel;
    assert!(resume(&store, 1, &elsewhere, 2).await.unwrap());
    assert_eq!(restored(&store, 1).await, elsewhere);
    deliver(&store, 1, 3).await;
}

/// What another payment stands on was delivered, because its client says so.
pub async fn buried_payment_cannot_fail<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    let first = accepted(&opened(0), 0, 1, 0, false);
    assert!(save(&store, &first).await.unwrap());
    let second = accepted(&first.delivered().channel, 0, 2, 0, false);
    assert!(
        save(&store, &second).await.unwrap(),
        "nothing need be marked in between"
    );
    let tag = first.payment().tag;
    refused!(
        store.mark_payment(channel(0), tag, PaymentFate::Failed).await,
        StoreError::PaymentBuried {
            got: Index(1),
            above: Index(2),
            ..
        }
    );
    assert!(
        store
            .mark_payment(channel(0), tag, PaymentFate::Delivered)
            .await
            .unwrap()
    );
}

/// From the decision to close on, a word would never be paid; from the last word on, a close below it is refused.
pub async fn closing_channel_takes_no_payment<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    deliver(&store, 0, 2).await;
    let state = restored(&store, 0).await;
    let close = async |index| {
        store
            .queue_settlement(SettlementStep::Close, &[(channel(0), Index(index))], AT)
            .await
    };
    refused!(
        close(1).await,
        StoreError::SettlementStale {
            got: Index(1),
            stored: Index(2),
            ..
        }
    );
    let settlement = close(2).await.unwrap();
    let next = accepted(&state, 0, 3, 0, false);
    refused!(
        save(&store, &next).await,
        StoreError::ChannelClosing { phase: ChannelPhase::Closing(id), .. } if id == settlement
    );
    store
        .move_settlement(settlement, crate::channel::SettlementMove::Drop)
        .await
        .unwrap();
    assert!(save(&store, &next).await.unwrap());
    assert!(store.close_vendor_channel(channel(0), Index(2)).await.unwrap());
    assert!(!store.close_vendor_channel(channel(0), Index(3)).await.unwrap());
    assert!(!store.close_vendor_channel(channel(3), Index(3)).await.unwrap());
    let record = stored(&store, 0).await;
    assert_eq!((record.phase, record.settled), (ChannelPhase::Closed, Index(2)));
    assert_eq!(store.vendor_channels().await.unwrap(), []);
    let later = accepted(&next.delivered().channel, 0, 4, 0, false);
    refused!(
        save(&store, &later).await,
        StoreError::ChannelClosing {
            phase: ChannelPhase::Closed,
            ..
        }
    );
    refused!(
        close(9).await,
        StoreError::ChannelClosing {
            phase: ChannelPhase::Closed,
            ..
        }
    );
}

/// Whatever several processes accept at the same time, one payment stands on one.
pub async fn concurrent_payments_of_one_channel_take_turns<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    let mut tasks = Vec::new();
    for variant in 0..20 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            match save(&store, &accepted(&opened(0), 0, 1, variant, false)).await {
                Ok(new) => new,
                Err(StoreError::PaymentStale { .. }) => false,
                Err(error) => panic!("{error}"),
            }
        }));
    }
    let mut taken = 0;
    for task in tasks {
        taken += u32::from(task.await.unwrap());
    }
    assert_eq!(taken, 1);
    assert_eq!(store.vendor_payments(channel(0), ALL).await.unwrap().len(), 1);
}

/// All of them, the latest one, and one for an index.
pub async fn checkpoints_are_kept<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    assert_eq!(store.latest_checkpoint(channel(0)).await.unwrap(), None);
    for index in [64, 8, 256] {
        assert!(store.save_checkpoint(&checkpoint(0, index, 0)).await.unwrap());
        assert!(!store.save_checkpoint(&checkpoint(0, index, 0)).await.unwrap());
    }
    refused!(
        store.save_checkpoint(&checkpoint(0, 64, 1)).await,
        StoreError::CheckpointExists { index: Index(64), .. }
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let all = store.checkpoints(channel(0)).await.unwrap();
    assert_eq!(all, [8, 64, 256].map(|index| checkpoint(0, index, 0)));
    let latest = store.latest_checkpoint(channel(0)).await.unwrap();
    assert_eq!(latest.as_ref(), all.last());
    assert_eq!(store.checkpoints(channel(1)).await.unwrap(), []);
}

/// A checkpoint is worth its index: a close below it is refused, a restart finds the walk's end, and one on a new chain moves
/// the channel there.
pub async fn checkpoint_bounds_the_walk_and_moves_the_chain<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    deliver(&store, 0, 3).await;
    store.save_checkpoint(&checkpoint(0, 2, 0)).await.unwrap();
    let before = restored(&store, 0).await;
    assert_eq!((before.paid.index, before.paid.base), (Index(3), Index(2)));
    let moved = crate::channel::CheckpointRecord {
        chain: 1,
        ..checkpoint(0, 4, 0)
    };
    store.save_checkpoint(&moved).await.unwrap();
    let paid = restored(&store, 0).await.paid;
    assert_eq!((paid.index, paid.base, paid.chain), (Index(4), Index(4), 1));
    assert_eq!(paid.word, moved.signed.word());
    assert_eq!(restored(&store, 0).await.delivered, before.delivered);
    // The same index on the chain before: of two, the later chain's is the one that counts.
    assert!(store.save_checkpoint(&checkpoint(0, 4, 0)).await.unwrap());
    assert_eq!(store.checkpoints(channel(0)).await.unwrap().len(), 3);
    assert_eq!(store.latest_checkpoint(channel(0)).await.unwrap(), Some(moved));
    refused!(
        store
            .queue_settlement(SettlementStep::Close, &[(channel(0), Index(3))], AT)
            .await,
        StoreError::SettlementStale {
            got: Index(3),
            stored: Index(4),
            ..
        }
    );
}

/// The best one.
pub async fn opening_result_is_kept<B: Backend>() {
    let (place, store) = fresh_channels::<B>().await;
    refused!(store.save_opening(&opening(0, 1, 1)).await, StoreError::UnknownChannel(id) if id == channel(0));
    deliver(&store, 0, 5).await;
    assert!(store.save_opening(&opening(0, 5, 2)).await.unwrap());
    assert!(!store.save_opening(&opening(0, 4, 4)).await.unwrap());
    assert_eq!(stored(&store, 0).await.opening, Some(opening(0, 5, 2)));
    assert!(store.save_opening(&opening(0, 5, 5)).await.unwrap());
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    assert_eq!(stored(&store, 0).await.opening, Some(opening(0, 5, 5)));
}

/// Payments, units and money, by what became of them.
pub async fn payments_are_totalled<B: Backend>() {
    let (_place, store) = fresh_channels::<B>().await;
    assert_eq!(store.vendor_totals().await.unwrap(), VendorTotals::default());
    deliver(&store, 0, 2).await;
    deliver(&store, 0, 3).await;
    assert!(save(&store, &accepted(&opened(1), 1, 4, 0, false)).await.unwrap());
    let third = accepted(&opened(2), 2, 5, 0, false);
    assert!(save(&store, &third).await.unwrap());
    store
        .mark_payment(channel(2), third.payment().tag, PaymentFate::Failed)
        .await
        .unwrap();
    store.close_vendor_channel(channel(2), Index(5)).await.unwrap();
    let sum = |count, units| PaymentSum {
        total: Total {
            count,
            price: Amount(10 * u128::from(count)),
        },
        units,
    };
    let totals = VendorTotals {
        open: 2,
        closed: 1,
        delivered: sum(2, 3),
        taken: sum(1, 4),
        failed: sum(1, 5),
        settled: Total::default(),
    };
    assert_eq!(store.vendor_totals().await.unwrap(), totals);
    let loaded = store.vendor_channels().await.unwrap();
    let ids: BTreeSet<_> = loaded.iter().map(|record| record.id).collect();
    assert_eq!(ids, [channel(0), channel(1)].into());
}
