//! Sellers that lie. Whatever they say, a call is paid once: the units of one price, and no ticket beside.

use alloy_primitives::B256;
use micropay_gateway::client::ClientError;
use micropay_gateway::wire::{Advice, CHANNELS, Kind, Position};
use protocol::channel::Index;

use crate::shop::{Act, Shop, UNITS, both, buy, channels_only, index, like, refuse, revealed, signed, store};

/// Every rule and advice that a refusal can have, for ever.
#[tokio::test]
async fn attack_who_refuses_for_ever_gets_one_payment() {
    let lie = Position {
        index: UNITS,
        tag: B256::repeat_byte(9),
    };
    let cases = [
        (402, "index-backwards", Advice::NewNonce, Some(lie)),
        (402, "index-backwards", Advice::NewNonce, None),
        (
            402,
            "pays-too-little",
            Advice::NewNonce,
            Some(Position { index: 0, ..lie }),
        ),
        (
            402,
            "pays-too-much",
            Advice::NewNonce,
            Some(Position { index: 40, ..lie }),
        ),
        (402, "made-up", Advice::NewNonce, None),
        (402, "made-up", Advice::Stop, Some(lie)),
        (402, "too-late", Advice::TopUp, None),
        (402, "checkpoint-needed", Advice::Checkpoint, None),
        (409, "already-delivered", Advice::Stop, Some(lie)),
        (409, "other-order", Advice::Stop, None),
        (409, "wrong-item", Advice::Stop, None),
        (410, "answer-not-kept", Advice::Stop, None),
        (400, "payment-malformed", Advice::Stop, None),
        (402, "kind-not-taken", Advice::NewNonce, None),
    ];
    for (status, rule, advice, position) in cases {
        let channel = like(0);
        let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
        let client = both(&store).build().unwrap();
        shop.script(move |_, seen| {
            let pays = seen.kind() == Some(Kind::Channel);
            pays.then(|| Act::Say(refuse(status, rule, advice, position)))
        });
        let error = client.get(shop.url("/a")).send().await.unwrap_err();
        let error = ClientError::of(&error).unwrap();
        assert!(error.key().is_some(), "{rule}: {error}");
        assert_eq!(signed(&store).await, 0, "{rule}: no ticket beside");
        assert_eq!(
            revealed(&store, &channel).await.0,
            Index(UNITS),
            "{rule}: the units of one price"
        );
        let sent = shop.payments(Kind::Channel);
        assert!(sent <= 8, "{rule}: {sent} payments");
        assert_eq!(shop.payments(Kind::Ticket), 0, "{rule}");
    }
}

/// A position that is above what was ever paid, with a tag that nobody made.
#[tokio::test]
async fn attack_a_made_up_position_is_not_believed() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = channels_only(&store);
    buy(&client, &shop, "/a").await;
    let lie = Position {
        index: 1_000,
        tag: B256::repeat_byte(9),
    };
    shop.script(move |_, seen| {
        let pays = seen.path == "/b" && seen.payment.is_some();
        pays.then(|| Act::Say(refuse(402, "index-backwards", Advice::NewNonce, Some(lie))))
    });
    let error = client.get(shop.url("/b")).send().await.unwrap_err();
    assert!(
        ClientError::of(&error)
            .unwrap()
            .to_string()
            .contains("none of mine"),
        "{error}"
    );
    assert_eq!(revealed(&store, &channel).await, (Index(2 * UNITS), Index(UNITS)));
    // Who thinks better of it is paid with the same units.
    shop.no_script();
    let fresh = channels_only(&store);
    assert_eq!(index(&buy(&fresh, &shop, "/c").await), 2 * UNITS);
    assert_eq!(
        revealed(&store, &channel).await,
        (Index(2 * UNITS), Index(2 * UNITS))
    );
}

/// A gateway whose desk answers nonsense cannot make a client pay twice, nor stop it for good.
#[tokio::test]
async fn attack_a_desk_that_lies_costs_a_call_and_no_money() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    buy(&client, &shop, "/a").await;
    // A payment without an answer, whose caller gave up.
    shop.script(|_, seen| (seen.path == "/b").then_some(Act::Lose));
    assert!(client.get(shop.url("/b")).send().await.is_err());
    shop.script(|_, seen| {
        let asks = seen.path.starts_with(CHANNELS);
        asks.then(|| Act::Say(refuse(404, "channel-missing", Advice::Stop, None)))
    });
    // It cannot be settled, so that a ticket pays.
    let paid = buy(&client, &shop, "/c").await;
    assert_eq!(paid.proof.kind(), Kind::Ticket);
    shop.no_script();
    assert_eq!(index(&buy(&client, &shop, "/d").await), 3 * UNITS);
    assert_eq!((shop.sold("/b"), shop.sold("/c"), shop.sold("/d")), (1, 1, 1));
}

#[tokio::test]
async fn attack_a_price_that_never_stands_still_is_followed_a_few_times() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = channels_only(&store);
    buy(&client, &shop, "/a").await;
    let mut price = 1_000_000;
    shop.script(move |shop, seen| {
        if seen.payment.is_some() {
            price += 250_000;
            shop.set_price(price);
        }
        None
    });
    let error = client.get(shop.url("/b")).send().await.unwrap_err();
    assert!(ClientError::of(&error).is_some(), "{error}");
    // No more than the dearest of them.
    let (revealed, acknowledged) = revealed(&store, &channel).await;
    assert_eq!(acknowledged, Index(UNITS));
    assert!(revealed.0 <= UNITS + 8, "{revealed}");
    assert_eq!(shop.sold("/b"), 0);
}
