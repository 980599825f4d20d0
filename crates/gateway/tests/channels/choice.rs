//! Which kind pays.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use micropay_gateway::client::{Budgets, Client, ClientError, Desk, Paid, WouldPay};
use micropay_gateway::wire::{IDEMPOTENCY_KEY, Kind};
use payer::channel::VendorApi;
use protocol::channel::{Amount, Index};

use crate::channel::{Like, channel_domain, client_key, receipt_key};
use crate::shop::{
    Act, PRICE, Shop, UNITS, both, buy, channels_only, index, like, now, revealed, signed, store,
    ticket_payer,
};

#[tokio::test]
async fn an_open_channel_pays_at_once() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    for n in 1..=5 {
        let paid = buy(&client, &shop, &format!("/{n}?q={n}")).await;
        assert_eq!(
            (index(&paid), paid.price, paid.acknowledged),
            (n * UNITS, PRICE, true)
        );
        assert_eq!(paid.requests, if n == 1 { 2 } else { 1 });
    }
    assert_eq!((shop.taken(), signed(&store).await), ((0, 5), 0));
    assert_eq!(
        revealed(&store, &channel).await,
        (Index(5 * UNITS), Index(5 * UNITS))
    );
    // What turns out to be free is free: the word that went with it pays for the next call.
    let free = async || client.get(shop.url("/free/a")).send().await.unwrap();
    assert!(!free().await.extensions().get::<Paid>().unwrap().acknowledged);
    assert!(free().await.extensions().get::<Paid>().is_none());
    assert_eq!(index(&buy(&client, &shop, "/6").await), 6 * UNITS);
    assert_eq!(
        revealed(&store, &channel).await,
        (Index(6 * UNITS), Index(6 * UNITS))
    );
}

#[tokio::test]
async fn a_client_without_an_escrow_pays_and_waits_its_turn() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = channels_only(&store);
    let calls = (0..10).map(|n| {
        let (client, shop) = (&client, &shop);
        async move { index(&buy(client, shop, &format!("/slow/{n}")).await) }
    });
    let mut indices = join_all(calls).await;
    indices.sort_unstable();
    assert_eq!(indices, (1..=10).map(|n| n * UNITS).collect::<Vec<_>>());
    assert_eq!((shop.taken(), shop.calls()), ((0, 10), 10));
}

#[tokio::test]
async fn while_a_channel_is_at_work_tickets_pay() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    buy(&client, &shop, "/first").await;
    let slow = tokio::spawn({
        let (client, url) = (client.clone(), shop.url("/gate"));
        async move { client.get(url).send().await.unwrap() }
    });
    while shop.calls() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for n in 0..3 {
        let paid = buy(&client, &shop, &format!("/{n}")).await;
        assert_eq!(paid.proof.kind(), Kind::Ticket);
    }
    shop.upstream.go.notify_one();
    let slow = slow.await.unwrap();
    assert_eq!(index(slow.extensions().get::<Paid>().unwrap()), 2 * UNITS);
    assert_eq!(index(&buy(&client, &shop, "/last").await), 3 * UNITS);
    assert_eq!(shop.taken(), (3, 3));
}

#[tokio::test]
async fn a_channel_that_cannot_pay_the_price_is_not_used() {
    let odd = Like {
        unit: Amount(300_000),
        ..like(0)
    };
    let short = Like {
        length: Index(UNITS - 1),
        ..like(1)
    };
    let mut late = like(2);
    late.expiry.0 = now().0 + 60;
    let stranger = Like {
        vendor: alloy_primitives::Address::repeat_byte(7),
        ..like(3)
    };
    let all = [odd, short, late, stranger];
    let (shop, store) = (Shop::open(&all).await, store(&all).await);
    let client = both(&store).build().unwrap();
    assert_eq!(buy(&client, &shop, "/a").await.proof.kind(), Kind::Ticket);
    for channel in all {
        assert_eq!(revealed(&store, &channel).await.0, Index::ZERO);
    }
    let alone = channels_only(&store);
    let error = alone.get(shop.url("/a")).send().await.unwrap_err();
    let error = ClientError::of(&error).unwrap();
    assert!(matches!(error, ClientError::NoChannel { .. }), "{error}");
    assert!(!error.retry());
}

#[tokio::test]
async fn a_channel_at_its_end_makes_room_for_tickets() {
    let channel = Like {
        length: Index(2 * UNITS),
        ..like(0)
    };
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    let mut kinds = Vec::new();
    for n in 0..4 {
        kinds.push(buy(&client, &shop, &format!("/{n}")).await.proof.kind());
    }
    assert_eq!(kinds, [Kind::Channel, Kind::Channel, Kind::Ticket, Kind::Ticket]);
    assert_eq!(shop.seen().len(), 5, "one request a call, but for the first");
}

#[tokio::test]
async fn a_changed_price_is_followed_and_paid_once() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = channels_only(&store);
    assert_eq!(index(&buy(&client, &shop, "/a").await), UNITS);
    shop.set_price(2 * PRICE.0);
    let dearer = buy(&client, &shop, "/b").await;
    assert_eq!(
        (index(&dearer), dearer.requests, dearer.price),
        (3 * UNITS, 2, Amount(2 * PRICE.0))
    );
    shop.set_price(PRICE.0 / 2);
    let cheaper = buy(&client, &shop, "/c").await;
    assert_eq!((index(&cheaper), cheaper.requests), (3 * UNITS + UNITS / 2, 2));
    assert_eq!((shop.taken(), shop.calls()), ((0, 3), 3));
    // What was revealed for the old price counts for the next call.
    let (taken, acknowledged) = revealed(&store, &channel).await;
    assert_eq!(
        (taken, acknowledged),
        (Index(5 * UNITS), Index(3 * UNITS + UNITS / 2))
    );
    buy(&client, &shop, "/d").await;
    assert_eq!(
        revealed(&store, &channel).await,
        (Index(5 * UNITS), Index(4 * UNITS))
    );
}

#[tokio::test]
async fn budgets_count_both_kinds_and_what_is_revealed_once() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let budgets = Budgets {
        total: Some(Amount(3 * PRICE.0)),
        ..Budgets::default()
    };
    let client = both(&store).budgets(budgets).build().unwrap();
    buy(&client, &shop, "/a").await;
    shop.upstream.failing.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        // The same units each time.
        let failed = client.get(shop.url("/b")).send().await.unwrap();
        assert_eq!(failed.status(), 500);
    }
    shop.upstream.failing.store(false, Ordering::SeqCst);
    buy(&client, &shop, "/c").await;
    let tickets = Client::builder(ticket_payer(&store))
        .budgets(budgets)
        .build()
        .unwrap();
    assert_eq!(buy(&tickets, &shop, "/d").await.proof.kind(), Kind::Ticket);
    for client in [&client, &tickets] {
        let error = client.get(shop.url("/e")).send().await.unwrap_err();
        assert!(error.to_string().contains("is too much"), "{error}");
    }
    assert_eq!(
        (revealed(&store, &channel).await.0, signed(&store).await),
        (Index(2 * UNITS), 1)
    );
}

#[tokio::test]
async fn a_dry_run_says_which_and_reveals_nothing() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).dry_run().build().unwrap();
    let answer = client.get(shop.url("/a")).send().await.unwrap();
    let would: &WouldPay = answer.extensions().get().unwrap();
    assert_eq!((would.kind, would.price), (Kind::Channel, PRICE));
    assert_eq!(revealed(&store, &channel).await.0, Index::ZERO);
    let without = crate::shop::store(&[]).await;
    let client = both(&without).dry_run().build().unwrap();
    let answer = client.get(shop.url("/a")).send().await.unwrap();
    assert_eq!(answer.extensions().get::<WouldPay>().unwrap().kind, Kind::Ticket);
    assert_eq!(shop.payments(Kind::Ticket) + shop.payments(Kind::Channel), 0);
}

#[tokio::test]
async fn an_answer_without_a_receipt_moves_nothing() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = channels_only(&store);
    buy(&client, &shop, "/a").await;
    shop.script(|_, seen| (seen.path == "/b").then_some(Act::Strip));
    let paid = buy(&client, &shop, "/b").await;
    assert!(!paid.acknowledged);
    // The vendor has it, which the next payment finds out. It costs one more request, and no more money.
    let next = buy(&client, &shop, "/c").await;
    assert_eq!((index(&next), shop.taken()), (3 * UNITS, (0, 3)));
    assert_eq!(
        revealed(&store, &channel).await,
        (Index(3 * UNITS), Index(3 * UNITS))
    );
}

#[tokio::test]
async fn the_same_call_again_is_the_same_payment() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    let call = |path: &str| {
        client
            .get(shop.url(path))
            .header(IDEMPOTENCY_KEY, "one call")
            .send()
    };
    let first = call("/a").await.unwrap();
    let again = call("/a").await.unwrap();
    let proof = |answer: &reqwest::Response| answer.extensions().get::<Paid>().unwrap().proof;
    assert_eq!(proof(&first), proof(&again));
    assert_eq!((shop.calls(), signed(&store).await), (1, 0));
    assert_eq!(revealed(&store, &channel).await.0, Index(UNITS));
}

#[tokio::test]
async fn a_desk_opens_receipts_and_closes_together() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = channels_only(&store);
    for n in 0..3 {
        buy(&client, &shop, &format!("/{n}")).await;
    }
    let origin = shop.url("/").parse().unwrap();
    let key = std::sync::Arc::new(receipt_key(0));
    let desk = Desk::new(reqwest::Client::new(), origin, channel_domain(), key, now);
    let position = desk.position(channel.id()).await.unwrap().unwrap();
    assert_eq!(
        (position.receipt.index, position.held.0),
        (Index(3 * UNITS), Index(3 * UNITS))
    );
    use storage::channel::ClientChannelStore;
    let record = store.client_channel(channel.id()).await.unwrap().unwrap();
    let opened = desk.open_receipts(&record.channel.opener()).await.unwrap();
    assert_eq!((opened.opened, opened.ends_in_sigma0), (3, true));
    assert!(
        desk.cooperative_close(channel.id(), Index(3 * UNITS))
            .await
            .is_err(),
        "no account"
    );
    let desk = desk.closing_with(std::sync::Arc::new(client_key(0)));
    assert!(
        desk.cooperative_close(channel.id(), Index(3 * UNITS))
            .await
            .is_ok()
    );
}
