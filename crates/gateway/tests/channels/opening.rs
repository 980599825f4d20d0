//! A payer that comes back often gets a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use micropay_gateway::client::{ChannelPolicy, Client, OpenChannel, WantedChannel};
use micropay_gateway::wire::Kind;
use protocol::channel::{Index, Seconds};
use storage::MemoryStore;

use crate::channel::{LENGTH, UNIT, bank};
use crate::shop::{Shop, add, buy, channel_payer, like, store, ticket_payer};

fn policy() -> OpenChannel {
    OpenChannel {
        after: 3,
        length: LENGTH,
        unit: Some(UNIT),
        life: Seconds::DAY,
        bank: bank(),
    }
}

fn client(store: &MemoryStore, when: OpenChannel, opened: &Arc<AtomicUsize>, fails: usize) -> Client {
    let (saved, opened) = (store.clone(), Arc::clone(opened));
    let opener = move |wanted: WantedChannel| {
        let (saved, opened) = (saved.clone(), Arc::clone(&opened));
        async move {
            let channel = like(0);
            assert_eq!(
                (wanted.vendor, wanted.unit, wanted.bank),
                (channel.vendor, UNIT, bank())
            );
            if opened.fetch_add(1, Ordering::SeqCst) < fails {
                return Err("the bank is closed".into());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
            add(&saved, &channel).await;
            Ok(channel.id())
        }
    };
    let policy = ChannelPolicy::opening(when, opener);
    let client = Client::builder(ticket_payer(store)).channels(channel_payer(store), policy);
    client.build().unwrap()
}

#[tokio::test]
async fn after_so_many_tickets_a_channel_is_opened_once_and_pays() {
    let (shop, store, opened) = (Shop::open(&[like(0)]).await, store(&[]).await, Arc::default());
    let client = client(&store, policy(), &opened, 0);
    for n in 0..5 {
        assert_eq!(
            buy(&client, &shop, &format!("/{n}")).await.proof.kind(),
            Kind::Ticket
        );
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for n in 5..10 {
        assert_eq!(
            buy(&client, &shop, &format!("/{n}")).await.proof.kind(),
            Kind::Channel
        );
    }
    assert_eq!((opened.load(Ordering::SeqCst), shop.taken()), (1, (5, 5)));
}

#[tokio::test]
async fn an_opening_that_fails_is_tried_again_after_as_many_tickets() {
    let (shop, store, opened) = (Shop::open(&[like(0)]).await, store(&[]).await, Arc::default());
    let client = client(&store, policy(), &opened, 1);
    for n in 0..6 {
        assert_eq!(
            buy(&client, &shop, &format!("/{n}")).await.proof.kind(),
            Kind::Ticket
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    assert_eq!(buy(&client, &shop, "/last").await.proof.kind(), Kind::Channel);
}

#[tokio::test]
async fn no_channel_is_opened_that_the_seller_would_not_take() {
    let (shop, store) = (Shop::open(&[like(0)]).await, store(&[]).await);
    let cases = [
        OpenChannel {
            bank: alloy_primitives::Address::repeat_byte(1),
            ..policy()
        },
        OpenChannel {
            unit: Some(protocol::channel::Amount(300_000)),
            length: Index(10),
            ..policy()
        },
    ];
    for when in cases {
        let opened = Arc::default();
        let client = client(&store, when, &opened, 0);
        for n in 0..4 {
            buy(&client, &shop, &format!("/{n}")).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(opened.load(Ordering::SeqCst), 0);
    }
}
