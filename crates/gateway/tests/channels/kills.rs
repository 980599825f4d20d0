//! Either side dies anywhere: nothing is forgotten, and nothing paid twice.

use std::time::Duration;

use micropay_gateway::client::{Client, ClientError, Paid};
use micropay_gateway::wire::{IDEMPOTENCY_KEY, Kind};
use protocol::channel::Index;
use storage::channel::ClientChannelStore;

use crate::shop::{
    Act, Shop, UNITS, add, both, buy, channels_only, index, like, now, revealed, signed, store,
};

fn named(client: &Client, shop: &Shop, path: &str) -> reqwest_middleware::RequestBuilder {
    client.get(shop.url(path)).header(IDEMPOTENCY_KEY, "the call")
}

/// Killed after its payment left, and began anew on its store.
#[tokio::test]
async fn a_killed_client_asks_again_and_gets_its_good_for_the_same_payment() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    buy(&both(&store).build().unwrap(), &shop, "/first").await;
    let killed = tokio::spawn({
        let request = named(&both(&store).build().unwrap(), &shop, "/gate");
        async move { request.send().await }
    });
    while shop.calls() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    killed.abort();
    shop.upstream.go.notify_one();
    let risen = both(&store).build().unwrap();
    let answer = named(&risen, &shop, "/gate").send().await.unwrap();
    assert_eq!(index(answer.extensions().get::<Paid>().unwrap()), 2 * UNITS);
    assert_eq!((shop.sold("/gate"), signed(&store).await), (1, 0));
    assert_eq!(
        revealed(&store, &channel).await,
        (Index(2 * UNITS), Index(2 * UNITS))
    );
}

/// It forgets the call, and makes another one.
#[tokio::test]
async fn a_killed_client_that_goes_on_pays_for_what_was_delivered_and_not_again() {
    for lost in [true, false] {
        let channel = like(0);
        let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
        let client = channels_only(&store);
        buy(&client, &shop, "/a").await;
        if lost {
            // Delivered, and the answer was lost.
            shop.script(|_, seen| (seen.path == "/b").then_some(Act::Lose));
        } else {
            // It never came.
            shop.script(|_, seen| (seen.path == "/b").then(|| Act::Say(http_502())));
        }
        let failed = client.get(shop.url("/b")).send().await;
        assert!(lost == failed.is_err());
        shop.no_script();
        let next = channels_only(&store);
        let paid = buy(&next, &shop, "/c").await;
        assert_eq!(index(&paid), if lost { 3 * UNITS } else { 2 * UNITS });
        assert_eq!(shop.sold("/b"), usize::from(lost));
    }
}

fn http_502() -> axum::response::Response {
    let mut response = axum::response::Response::new(axum::body::Body::from("no"));
    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
    response
}

/// A gateway that dies with the answer on its way, and its successor on the same store.
#[tokio::test]
async fn a_killed_gateway_s_successor_goes_on() {
    let channel = like(0);
    let (one, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    for n in 0..3 {
        buy(&client, &one, &format!("/{n}")).await;
    }
    let next = Shop::on(one.store.clone(), &[channel]).await;
    for n in 3..6 {
        assert_eq!(
            index(&buy(&client, &next, &format!("/{n}")).await),
            (n + 1) * UNITS
        );
    }
    assert_eq!(
        (one.taken(), next.taken(), signed(&store).await),
        ((0, 3), (0, 3), 0)
    );
}

// ── one kind for an order, for ever ──

#[tokio::test]
async fn what_was_paid_by_channel_is_never_paid_by_ticket() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    buy(&client, &shop, "/a").await;
    shop.script(|_, seen| (seen.path == "/b" && seen.payment.is_some()).then_some(Act::Lose));
    let error = named(&client, &shop, "/b").send().await.unwrap_err();
    assert!(ClientError::of(&error).unwrap().retry(), "{error}");
    // The channel is closed meanwhile, as far as the client knows, and another is open.
    store.close_client_channel(channel.id(), now()).await.unwrap();
    let other = like(1);
    add(&store, &other).await;
    shop.no_script();
    let risen = both(&store).build().unwrap();
    let answer = named(&risen, &shop, "/b").send().await.unwrap();
    assert_eq!(index(answer.extensions().get::<Paid>().unwrap()), 2 * UNITS);
    assert_eq!((signed(&store).await, shop.sold("/b")), (0, 1));
    assert_eq!(revealed(&store, &other).await.0, Index::ZERO);
}

#[tokio::test]
async fn what_was_paid_by_ticket_is_never_paid_by_channel() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[]).await);
    let client = both(&store).build().unwrap();
    shop.script(|_, seen| seen.payment.is_some().then_some(Act::Lose));
    assert!(named(&client, &shop, "/b").send().await.is_err());
    shop.no_script();
    add(&store, &channel).await;
    let risen = both(&store).build().unwrap();
    let answer = named(&risen, &shop, "/b").send().await.unwrap();
    assert_eq!(
        answer.extensions().get::<Paid>().unwrap().proof.kind(),
        Kind::Ticket
    );
    assert_eq!((signed(&store).await, shop.sold("/b")), (1, 1));
    assert_eq!(revealed(&store, &channel).await.0, Index::ZERO);
    // Another call is paid by channel.
    assert_eq!(index(&buy(&risen, &shop, "/c").await), UNITS);
}

/// Calls of one name at the same time come to one payment.
#[tokio::test]
async fn calls_of_one_name_at_once_are_one_payment() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    buy(&client, &shop, "/a").await;
    let calls = (0..8).map(|_| named(&client, &shop, "/slow").send());
    for answer in futures::future::join_all(calls).await {
        let answer = answer.unwrap();
        assert_eq!(answer.text().await.unwrap(), "good of /slow");
    }
    assert_eq!(
        (shop.sold("/slow"), shop.taken(), signed(&store).await),
        (1, (0, 2), 0)
    );
}
