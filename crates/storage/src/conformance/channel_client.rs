//! Cases for the payer's channels.

use protocol::channel::{Acknowledged, Index, PayError, Prepared};

use super::{
    channel_fixture::{
        NOW, UNIT, admitted, channel, client, domain, item, length, new_channel, pay_request, position, salt,
        sign_payment,
    },
    fixture::recipient,
    *,
};
use crate::channel::{
    ClientChannelFilter, ClientChannelRecord, NewClientChannel, Pay, PayRequest, PaymentRecord, PaymentState,
    PaymentTotals,
};

const ALL: std::ops::RangeInclusive<Index> = Index(0)..=Index(u32::MAX);

/// A store with channel `0` saved in it.
async fn with_channel<B: Backend>() -> (B, B::Store) {
    let (place, store) = fresh_channels::<B>().await;
    assert!(store.save_client_channel(&new_channel(0)).await.unwrap());
    (place, store)
}

async fn pay(store: &impl Store, n: u64, c: u64, units: u32) -> Result<PaymentRecord> {
    let paid = store
        .pay(pay_request(n, c, units), sign_payment(n, c, units))
        .await?;
    Ok(paid.into_record())
}

async fn resolve(store: &impl Store, n: u64, state: PaymentState) -> Result<bool> {
    store.resolve_payment(pay_request(n, 0, 1).order, state).await
}

async fn stored(store: &impl Store, c: u64) -> ClientChannelRecord {
    store.client_channel(channel(c)).await.unwrap().unwrap()
}

fn at(index: u32) -> Index {
    Index(index)
}

fn with_budgets(mut request: PayRequest, budgets: &[(&str, u128)]) -> PayRequest {
    let budget = |(account, limit): &(&str, u128)| Budget {
        account: (*account).to_owned(),
        limit: Amount(*limit),
    };
    request.budgets = budgets.iter().map(budget).collect();
    request
}

/// Once, with everything that belongs to it; with anything else in it, it is another one, and refused.
pub async fn channel_is_saved_once<B: Backend>() {
    let (place, store) = with_channel::<B>().await;
    let new = new_channel(0);
    assert!(!store.save_client_channel(&new).await.unwrap());
    let other_permit = NewClientChannel {
        admitted: channel_fixture::permit(0, 0, 1)
            .sign(channel_fixture::bank(), &channel_fixture::bank_key(0)),
        ..new.clone()
    };
    let other_origin = NewClientChannel {
        origin: None,
        ..new.clone()
    };
    for other in [&other_permit, &other_origin] {
        refused!(
            store.save_client_channel(other).await,
            StoreError::ChannelExists { got, stored, .. }
                if got == other.admitted.permit().digest() && stored == new.admitted.permit().digest()
        );
    }
    let other_salt = NewClientChannel {
        salt: salt(1),
        ..new.clone()
    };
    refused!(
        store.save_client_channel(&other_salt).await,
        StoreError::WrongChannelId { got, expected }
            if got == channel(0) && expected == domain().channel_id(client(0), recipient(), salt(1))
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let record = stored(&store, 0).await;
    assert_eq!(record.channel.terms(), std::slice::from_ref(&new.admitted));
    assert_eq!(record.channel.acknowledged().sigma, new.admitted.sigma0());
    assert_eq!((record.salt, record.origin), (new.salt, new.origin));
    assert_eq!((record.saved_at, record.closed_at), (new.at, None));
    assert_eq!(store.client_channel(channel(1)).await.unwrap(), None);
}

/// By vendor, asset and whether they are open.
pub async fn client_channels_are_listed<B: Backend>() {
    let (_place, store) = with_channel::<B>().await;
    store.save_client_channel(&new_channel(1)).await.unwrap();
    assert!(
        store
            .close_client_channel(channel(1), Timestamp(7))
            .await
            .unwrap()
    );
    assert!(
        !store
            .close_client_channel(channel(1), Timestamp(8))
            .await
            .unwrap()
    );
    refused!(store.close_client_channel(channel(2), Timestamp(8)).await, StoreError::UnknownChannel(id) if id == channel(2));
    let ids = async |filter| {
        let records = store.client_channels(filter).await.unwrap();
        records
            .iter()
            .map(|record| record.channel.id())
            .collect::<BTreeSet<_>>()
    };
    let (all, none) = (BTreeSet::from([channel(0), channel(1)]), BTreeSet::new());
    let default = ClientChannelFilter::default();
    assert_eq!(ids(default).await, all);
    let open = ClientChannelFilter {
        open: true,
        ..default
    };
    assert_eq!(ids(open).await, [channel(0)].into());
    let vendor = |vendor| ClientChannelFilter {
        vendor: Some(vendor),
        ..default
    };
    assert_eq!(ids(vendor(recipient())).await, all);
    assert_eq!(ids(vendor(Address::ZERO)).await, none);
    let asset = |asset| ClientChannelFilter {
        asset: Some(asset),
        ..default
    };
    assert_eq!(ids(asset(Address::ZERO)).await, all);
    assert_eq!(ids(asset(recipient())).await, none);
    refused!(
        pay(&store, 1, 1, 1).await,
        StoreError::ChannelClosed { channel: closed, closed_at: Timestamp(7) } if closed == channel(1)
    );
}

/// The same payment to the byte, whatever the second request says, and nothing is signed.
pub async fn known_channel_order_gives_back_its_payment<B: Backend>() {
    let (place, store) = with_channel::<B>().await;
    let first = pay(&store, 1, 0, 1).await.unwrap();
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let other = PayRequest {
        order: first.order,
        ..pay_request(2, 3, 7)
    };
    let again = store
        .pay(other, |_| panic!("signed a known order"))
        .await
        .unwrap();
    assert_eq!(again, Pay::Existing(first.clone()));
    assert_eq!(
        store.client_payment(first.order).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(store.client_payment(order(9)).await.unwrap(), None);
    assert_eq!(store.client_payments(channel(0), ALL).await.unwrap(), [first]);
    assert_eq!(store.client_payments(channel(1), ALL).await.unwrap(), []);
}

/// Each payment stands on the delivered one: its index, transcript and signature.
pub async fn payment_stands_on_the_delivered_one<B: Backend>() {
    let (place, mut store) = with_channel::<B>().await;
    let mut transcript = admitted(0, 0).permit().transcript();
    let mut index = 0;
    for (n, units) in [(1, 1), (2, 3), (3, 2)] {
        let made = pay(&store, n, 0, units).await.unwrap();
        index += units;
        transcript = protocol::channel::transcript(transcript, item(n));
        assert_eq!((made.payment.index, made.transcript), (at(index), transcript));
        assert_eq!(made.previous, at(index - units));
        assert_eq!(made.charged, Amount(u128::from(units) * UNIT.0));
        assert!(resolve(&store, n, PaymentState::Delivered).await.unwrap());
        place.close(store).await.unwrap();
        store = open_channels(&place).await;
        let record = stored(&store, 0).await.channel;
        let position = Acknowledged {
            index: at(index),
            transcript,
            sigma: made.sigma,
        };
        assert_eq!((record.acknowledged(), record.revealed()), (&position, at(index)));
        assert_eq!(record.in_flight(), []);
    }
    let payments = store.client_payments(channel(0), at(2)..=at(6)).await.unwrap();
    let indices: Vec<_> = payments.iter().map(|record| record.payment.index.0).collect();
    assert_eq!(indices, [4, 6]);
    let totals = store.client_payment_totals(Some(channel(0))).await.unwrap();
    let paid = Total {
        count: 3,
        price: Amount(60),
    };
    assert_eq!(totals.delivered, paid);
    assert_eq!(totals.all().unwrap(), paid);
    let none = store.client_payment_totals(Some(channel(1))).await.unwrap();
    assert_eq!(none, PaymentTotals::default());
}

/// What was revealed is lost to the vendor, so it is paid for once; the position stays, and what is above is charged.
pub async fn failed_payment_is_replaced_without_a_second_charge<B: Backend>() {
    let (place, store) = with_channel::<B>().await;
    let charged = async |n: u64, units: u32| {
        let request = with_budgets(pay_request(n, 0, units), &[("agent", 1000), ("day", 1000)]);
        let made = store.pay(request, sign_payment(n, 0, units)).await.unwrap();
        (made.record().payment.index.0, made.record().charged.0)
    };
    assert_eq!(charged(1, 3).await, (3, 30));
    resolve(&store, 1, PaymentState::Failed).await.unwrap();
    assert_eq!(charged(2, 3).await, (3, 0), "paid before");
    let refusal = PaymentState::Refused {
        rule: "busy\0".to_owned(),
    };
    resolve(&store, 2, refusal.clone()).await.unwrap();
    assert_eq!(charged(3, 1).await, (1, 0), "less than was paid");
    resolve(&store, 3, PaymentState::Failed).await.unwrap();
    assert_eq!(stored(&store, 0).await.channel.in_flight().len(), 3);
    assert_eq!(charged(4, 5).await, (5, 20), "the rest");
    let record = stored(&store, 0).await.channel;
    assert_eq!((record.acknowledged().index, record.revealed()), (at(0), at(5)));
    resolve(&store, 4, PaymentState::Delivered).await.unwrap();
    assert_eq!(charged(5, 1).await, (6, 10));
    for account in ["agent", "day"] {
        assert_eq!(store.spent(account).await.unwrap(), Amount(60));
    }
    let all = store.client_payment_totals(None).await.unwrap();
    assert_eq!(all.all().unwrap().price, Amount(60));
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let record = stored(&store, 0).await.channel;
    assert_eq!((record.acknowledged().index, record.revealed()), (at(5), at(6)));
    assert_eq!(record.in_flight().len(), 1);
    let second = store.client_payment(pay_request(2, 0, 3).order).await.unwrap();
    assert_eq!(second.unwrap().state, refusal);
}

/// The next one stands on it, so it has to be known what became of it. Another channel is another matter.
pub async fn one_payment_is_under_way_per_channel<B: Backend>() {
    let (_place, store) = with_channel::<B>().await;
    store.save_client_channel(&new_channel(1)).await.unwrap();
    let first = pay(&store, 1, 0, 1).await.unwrap();
    refused!(
        store.pay(pay_request(2, 0, 1), |_| panic!("signed")).await,
        StoreError::PaymentInFlight { channel: id, order } if id == channel(0) && order == first.order
    );
    pay(&store, 3, 1, 1).await.unwrap();
    resolve(&store, 1, PaymentState::Delivered).await.unwrap();
    pay(&store, 2, 0, 1).await.unwrap();
}

/// A signer that refuses, panics, or signs something else: nothing is revealed, charged or stored.
pub async fn wrongly_signed_payment_changes_nothing<B: Backend>() {
    let (_place, store) = with_channel::<B>().await;
    store.save_client_channel(&new_channel(1)).await.unwrap();
    let request = || with_budgets(pay_request(1, 0, 1), &[("agent", 1000)]);
    refused!(
        store.pay(request(), |_| Err(PayError::NoUnits { got: 0, low: 1 })).await,
        StoreError::PayRefused { channel: id, source: PayError::NoUnits { .. } } if id == channel(0)
    );
    refused!(
        store.pay(request(), |_| panic!("expected by the test")).await,
        StoreError::SignPanicked(_)
    );
    refused!(
        store.pay(request(), sign_payment(1, 0, 2)).await,
        StoreError::SignedOther { field: "index", .. }
    );
    let other = stored(&store, 1).await.channel;
    refused!(
        store.pay(request(), move |_| sign_payment(1, 1, 1)(&other)).await,
        StoreError::SignedOther { field: "channel", .. }
    );
    // Signed on another position: its transcript, and so its lock, is another.
    let elsewhere = move |client: &protocol::channel::ClientChannel| -> Result<Prepared, PayError> {
        let position = Acknowledged {
            index: Index::ZERO,
            ..position(0, 9)
        };
        let client = protocol::channel::ClientChannel::restore(
            client.terms().to_vec(),
            position,
            Index::ZERO,
            Vec::new(),
        )?;
        sign_payment(1, 0, 1)(&client)
    };
    refused!(
        store.pay(request(), elsewhere).await,
        StoreError::SignedOther {
            field: "transcript",
            ..
        }
    );
    let beyond = length(0).0 + 1;
    refused!(
        pay(&store, 1, 0, beyond).await,
        StoreError::PayRefused { source: PayError::Exhausted { needed, .. }, .. } if needed == at(beyond)
    );
    refused!(
        pay(&store, 1, 0, u32::MAX).await,
        StoreError::PayRefused {
            source: PayError::Exhausted { .. },
            ..
        }
    );
    refused!(pay(&store, 1, 2, 1).await, StoreError::UnknownChannel(id) if id == channel(2));
    assert_eq!(store.spent("agent").await.unwrap(), Amount(0));
    assert_eq!(store.client_payments(channel(0), ALL).await.unwrap(), []);
    assert_eq!(stored(&store, 0).await.channel.revealed(), at(0));
    assert_eq!(pay(&store, 1, 0, 1).await.unwrap().payment.index, at(1));
}

/// Tickets and channels share their accounts.
pub async fn payment_over_budget_changes_nothing<B: Backend>() {
    let (_place, store) = with_channel::<B>().await;
    let ticket = crate::OrderRequest {
        price: Amount(15),
        budgets: vec![Budget {
            account: "agent".to_owned(),
            limit: Amount(40),
        }],
        ..request(1, 0)
    };
    let _ = store.issue(ticket, sign(1, 0)).await.unwrap();
    let charged = |n, units| with_budgets(pay_request(n, 0, units), &[("day", 100), ("agent", 40)]);
    refused!(
        store.pay(charged(1, 3), |_| panic!("signed beyond a budget")).await,
        StoreError::OverBudget { account, spent: Amount(15), price: Amount(30), limit: Amount(40) } if account == "agent"
    );
    assert_eq!(store.spent("day").await.unwrap(), Amount(0));
    let _ = store.pay(charged(1, 2), sign_payment(1, 0, 2)).await.unwrap();
    let spent = (
        store.spent("agent").await.unwrap(),
        store.spent("day").await.unwrap(),
    );
    assert_eq!(spent, (Amount(35), Amount(20)));
}

/// `Sent` to one of the others; saying it twice is fine, changing it is not.
pub async fn payments_only_move_forward<B: Backend>() {
    let (_place, store) = with_channel::<B>().await;
    let refusal = |rule: &str| PaymentState::Refused {
        rule: rule.to_owned(),
    };
    refused!(
        resolve(&store, 1, PaymentState::Failed).await,
        StoreError::UnknownOrder(_)
    );
    for (n, state) in [
        (1, PaymentState::Delivered),
        (2, PaymentState::Failed),
        (3, refusal("busy")),
    ] {
        pay(&store, n, 0, 1).await.unwrap();
        assert!(!resolve(&store, n, PaymentState::Sent).await.unwrap());
        assert!(resolve(&store, n, state.clone()).await.unwrap());
        assert!(!resolve(&store, n, state.clone()).await.unwrap());
        let others = [
            PaymentState::Sent,
            PaymentState::Delivered,
            PaymentState::Failed,
            refusal("busy"),
        ];
        for to in others.into_iter().filter(|other| *other != state) {
            refused!(
                resolve(&store, n, to.clone()).await,
                StoreError::PaymentMove { from, to: refused, .. } if from == state && refused == to
            );
        }
    }
    assert_eq!(stored(&store, 0).await.channel.acknowledged().index, at(1));
}

/// Recovery: what the vendor has is taken over, if it is more than what is here and nothing is under way.
pub async fn position_moves_forward_only<B: Backend>() {
    let (place, store) = with_channel::<B>().await;
    refused!(store.acknowledge(channel(1), &position(1, 1)).await, StoreError::UnknownChannel(id) if id == channel(1));
    pay(&store, 1, 0, 1).await.unwrap();
    refused!(
        store.acknowledge(channel(0), &position(0, 5)).await,
        StoreError::PaymentInFlight { .. }
    );
    resolve(&store, 1, PaymentState::Failed).await.unwrap();
    assert!(store.acknowledge(channel(0), &position(0, 5)).await.unwrap());
    assert!(!store.acknowledge(channel(0), &position(0, 5)).await.unwrap());
    for lower in [
        position(0, 4),
        Acknowledged {
            index: at(5),
            ..position(0, 6)
        },
    ] {
        refused!(
            store.acknowledge(channel(0), &lower).await,
            StoreError::PositionBackwards { got, stored, .. } if got == lower.index && stored == at(5)
        );
    }
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let record = stored(&store, 0).await.channel;
    assert_eq!(
        (record.acknowledged(), record.revealed()),
        (&position(0, 5), at(5))
    );
    assert_eq!(
        record.in_flight(),
        [],
        "the failed one stands on another position"
    );
    let next = pay(&store, 2, 0, 1).await.unwrap();
    assert_eq!((next.payment.index, next.charged), (at(6), UNIT));
}

/// What the vendor can take is not charged again, and was not before: the client had lost it.
pub async fn shown_word_raises_what_is_revealed<B: Backend>() {
    let (place, store) = with_channel::<B>().await;
    refused!(store.raise_revealed(channel(1), at(1)).await, StoreError::UnknownChannel(id) if id == channel(1));
    assert_eq!(store.raise_revealed(channel(0), at(3)).await.unwrap(), at(3));
    assert_eq!(store.raise_revealed(channel(0), at(2)).await.unwrap(), at(3));
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let next = pay(&store, 1, 0, 4).await.unwrap();
    assert_eq!((next.payment.index, next.charged), (at(4), UNIT));
}

/// The index goes on; the words are the new chain's.
pub async fn topped_up_channel_pays_from_the_new_chain<B: Backend>() {
    let (place, store) = with_channel::<B>().await;
    pay(&store, 1, 0, 1).await.unwrap();
    resolve(&store, 1, PaymentState::Delivered).await.unwrap();
    refused!(store.topped_up(channel(1), &admitted(1, 1)).await, StoreError::UnknownChannel(id) if id == channel(1));
    refused!(
        store.topped_up(channel(0), &admitted(1, 1)).await,
        StoreError::PayRefused { source: PayError::WrongChannel { got, .. }, .. } if got == channel(1)
    );
    assert!(store.topped_up(channel(0), &admitted(0, 1)).await.unwrap());
    assert!(!store.topped_up(channel(0), &admitted(0, 1)).await.unwrap());
    let shorter =
        channel_fixture::permit(0, 0, 5).sign(channel_fixture::bank(), &channel_fixture::bank_key(0));
    refused!(
        store.topped_up(channel(0), &shorter).await,
        StoreError::PayRefused {
            source: PayError::NotLonger { .. },
            ..
        }
    );
    place.close(store).await.unwrap();
    let store = open_channels(&place).await;
    let next = pay(&store, 2, 0, 1).await.unwrap().payment;
    assert_eq!(next.index, at(2));
    assert_eq!(next.word, channel_fixture::chain(0, 1).word(at(2)).unwrap());
    assert_eq!(
        stored(&store, 0).await.channel.terms(),
        [admitted(0, 0), admitted(0, 1)]
    );
}

/// One order, one payment; and a channel's payments one after the other, whoever asks at the same time.
pub async fn concurrent_payments_never_share_an_index<B: Backend>() {
    let (_place, store) = with_channel::<B>().await;
    let mut tasks = Vec::new();
    for n in 0..40_u64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            // Two callers for each order.
            let n = n / 2;
            match pay(&store, n, 0, 1).await {
                Ok(made) => {
                    resolve(&store, n, PaymentState::Delivered).await.unwrap();
                    Some((n, made.payment))
                }
                Err(StoreError::PaymentInFlight { .. }) => None,
                Err(error) => panic!("order {n}: {error}"),
            }
        }));
    }
    let mut made = HashMap::new();
    for task in tasks {
        if let Some((n, payment)) = task.await.unwrap() {
            assert_eq!(
                *made.entry(n).or_insert(payment),
                payment,
                "order {n} was paid twice"
            );
        }
    }
    let mut indices: Vec<_> = made.values().map(|payment| payment.index.0).collect();
    indices.sort_unstable();
    assert_eq!(indices, (1..=made.len() as u32).collect::<Vec<_>>());
    assert_eq!(stored(&store, 0).await.channel.revealed().0, made.len() as u32);
    let _ = NOW;
}
