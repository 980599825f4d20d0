//! Calls to an honest seller: how many requests, how many payments.

use micropay_gateway::client::{Client, WouldPay};
use micropay_gateway::wire::{IDEMPOTENCY_KEY, MICROPAY_ESCROW};
use payer::ticket::Limits;
use protocol::ticket::Amount;
use storage::{OrderState, OrderStore};

use crate::seller::{PRICE, Seller, client, client_on, escrow_key, paid, signed, store, ticket_of};

#[tokio::test]
async fn a_stranger_is_asked_once_and_then_paid_at_once() {
    let (seller, client) = (Seller::start().await, client());
    let answer = client.get(seller.url("/a?x=1")).send().await.unwrap();
    assert_eq!((paid(&answer).price, paid(&answer).requests), (Amount(PRICE), 2));
    assert!(paid(&answer).acknowledged);
    assert_eq!(answer.text().await.unwrap(), "good of /a?x=1");

    let answer = client.get(seller.url("/b")).send().await.unwrap();
    assert_eq!(paid(&answer).requests, 1);

    let seen = seller.seen();
    assert_eq!(seen.len(), 3);
    let escrow = escrow_key().address().to_string();
    assert!(seen.iter().all(|seen| seen.headers[MICROPAY_ESCROW] == *escrow));
    assert!(seen[0].payment.is_none() && !seen[0].headers.contains_key(IDEMPOTENCY_KEY));
    assert_eq!(seen[1].headers[IDEMPOTENCY_KEY].len(), 64);
    assert_ne!(seen[1].headers[IDEMPOTENCY_KEY], seen[2].headers[IDEMPOTENCY_KEY]);
}

#[tokio::test]
async fn what_is_free_is_not_paid_for() {
    let (seller, store) = (Seller::start().await, store());
    seller.set_free("/health");
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let answer = client.get(seller.url("/health")).send().await.unwrap();
    assert!(
        answer
            .extensions()
            .get::<micropay_gateway::client::Paid>()
            .is_none()
    );
    let options = client.request(reqwest::Method::OPTIONS, seller.url("/a"));
    assert_eq!(options.send().await.unwrap().status(), 402, "as the server said");
    assert_eq!(signed(&store).await, 0);
}

/// The seller's pattern says that everything has a price, its price list says otherwise: one ticket finds that out.
#[tokio::test]
async fn a_free_path_under_a_paid_pattern_is_learned() {
    let (seller, store) = (Seller::start().await, store());
    seller.set_free("/health");
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    client.get(seller.url("/a")).send().await.unwrap();
    let answer = client.get(seller.url("/health")).send().await.unwrap();
    assert!(!paid(&answer).acknowledged);
    for _ in 0..3 {
        client.get(seller.url("/health")).send().await.unwrap();
    }
    assert_eq!((signed(&store).await, seller.sold()), (2, 1));
}

#[tokio::test]
async fn another_price_costs_one_402_and_one_payment() {
    let (seller, store) = (Seller::start().await, store());
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    client.get(seller.url("/a")).send().await.unwrap();
    for price in [PRICE * 2, PRICE / 3] {
        seller.set_price(price);
        let answer = client.get(seller.url("/a")).send().await.unwrap();
        assert_eq!((paid(&answer).price.0, paid(&answer).requests), (price, 2));
        let answer = client.get(seller.url("/a")).send().await.unwrap();
        assert_eq!((paid(&answer).price.0, paid(&answer).requests), (price, 1));
    }
    assert_eq!(seller.sold(), 5, "one payment for each call");
    let totals = store.order_totals(None).await.unwrap();
    assert_eq!(
        (totals.delivered.count, totals.refused.count, totals.sent.count),
        (5, 2, 0)
    );
}

#[tokio::test]
async fn a_closed_session_is_answered_with_a_ticket_for_the_new_one() {
    let (seller, client) = (Seller::start().await, client());
    client.get(seller.url("/a")).send().await.unwrap();
    seller.close_session();
    let answer = client
        .post(seller.url("/a"))
        .body("question")
        .send()
        .await
        .unwrap();
    assert_eq!((paid(&answer).requests, seller.sold()), (2, 2));
    let seen = seller.seen();
    assert!(seen[2..].iter().all(|seen| seen.body == "question"));
    assert_eq!(
        seen[2].headers[IDEMPOTENCY_KEY], seen[3].headers[IDEMPOTENCY_KEY],
        "one call has one name"
    );
}

/// A session belongs to merchant and escrow: a renewal on one route serves all of them, at their own prices.
#[tokio::test]
async fn a_new_commitment_holds_for_all_routes_of_the_merchant() {
    let (seller, client) = (Seller::start().await, client());
    for route in ["/a", "/b"] {
        seller.set_route(&format!("GET {route}"));
        let answer = client.get(seller.url(route)).send().await.unwrap();
        assert_eq!(paid(&answer).requests, 2);
    }
    seller.close_session();
    let answer = client.get(seller.url("/b")).send().await.unwrap();
    assert_eq!(paid(&answer).requests, 2);
    seller.set_route("GET /a");
    let answer = client.get(seller.url("/a")).send().await.unwrap();
    assert_eq!(paid(&answer).requests, 1);
}

/// Patterns overlap, and only the seller knows which comes first: a wrong guess is made once.
#[tokio::test]
async fn a_wrong_guess_among_routes_is_made_once() {
    let (seller, client) = (Seller::start().await, client());
    seller.script(|seller, seen| {
        let (price, route) = match seen.target.as_str() {
            "/dear/x" => (PRICE * 5, "* /*"), // though `/dear/*` matches
            "/dear/y" => (PRICE * 9, "* /dear/*"),
            _ => (PRICE * 5, "* /*"),
        };
        seller.set_price(price);
        seller.set_route(route);
        None
    });
    for path in ["/dear/y", "/z", "/dear/x"] {
        client.get(seller.url(path)).send().await.unwrap();
    }
    for path in ["/dear/x", "/dear/y", "/z", "/dear/x", "/dear/y"] {
        let answer = client.get(seller.url(path)).send().await.unwrap();
        assert_eq!(paid(&answer).requests, 1, "{path}");
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_call_and_paid_once() {
    let (seller, store) = (Seller::start().await, store());
    let ask = |client: &Client, path| {
        let request = client
            .get(seller.url(path))
            .header("Idempotency-Key", "report of monday");
        async move { request.send().await }
    };
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let first = ask(&client, "/report").await.unwrap();
    assert_eq!(paid(&first).key, "report of monday");
    // Another process, which knows nothing but the store.
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let again = ask(&client, "/report").await.unwrap();
    assert_eq!(ticket_of(&again), ticket_of(&first));
    assert_eq!(again.text().await.unwrap(), "good of /report");
    assert_eq!((signed(&store).await, seller.sold()), (1, 1));

    // Another request under the same name is not paid for again, and gets nothing.
    let error = ask(&client, "/other").await.unwrap_err();
    assert!(error.to_string().contains("nonce-seen"), "{error}");
    assert_eq!(signed(&store).await, 1);
    let orders = store.orders(escrow_key().address()).await.unwrap();
    assert_eq!(orders[0].state, OrderState::Delivered);
}

#[tokio::test]
async fn a_dry_run_says_the_price_and_signs_nothing() {
    let (seller, store) = (Seller::start().await, store());
    let client = client_on(store.clone(), Limits::default())
        .dry_run()
        .build()
        .unwrap();
    for _ in 0..2 {
        let answer = client.get(seller.url("/a")).send().await.unwrap();
        assert_eq!(answer.status(), 402);
        let would: &WouldPay = answer.extensions().get().unwrap();
        assert_eq!((would.price, would.route.as_str()), (Amount(PRICE), "* /*"));
    }
    assert_eq!((signed(&store).await, seller.tickets().len()), (0, 0));
    let limits = Limits {
        max_price: Amount(PRICE - 1),
        ..Limits::default()
    };
    let client = client_on(store.clone(), limits).dry_run().build().unwrap();
    let error = client.get(seller.url("/a")).send().await.unwrap_err().to_string();
    assert_eq!(error, format!("the price is {PRICE}, the limit is {}", PRICE - 1));
}

#[tokio::test]
async fn a_head_request_is_paid_although_its_refusals_have_no_words() {
    let (seller, client) = (Seller::start().await, client());
    client.head(seller.url("/a")).send().await.unwrap();
    seller.set_price(PRICE * 2);
    let answer = client.head(seller.url("/a")).send().await.unwrap();
    assert_eq!((paid(&answer).requests, seller.sold()), (2, 2));
}

#[tokio::test]
async fn a_stream_is_sent_once_with_payment_where_terms_are_known() {
    let (seller, store) = (Seller::start().await, store());
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let stream = || {
        let chunks = ["one ", "two"].map(Ok::<_, std::io::Error>);
        reqwest::Body::wrap_stream(futures::stream::iter(chunks))
    };
    let error = client
        .post(seller.url("/a"))
        .body(stream())
        .send()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("make the call again"), "{error}");
    assert_eq!(signed(&store).await, 0);
    let answer = client.post(seller.url("/a")).body(stream()).send().await.unwrap();
    assert_eq!(paid(&answer).requests, 1);
    assert_eq!(seller.seen()[1].body, "one two");
    // The session closed meanwhile: no second ticket is signed that could not be sent.
    seller.close_session();
    let error = client
        .post(seller.url("/a"))
        .body(stream())
        .send()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("make the call again"), "{error}");
    let answer = client.post(seller.url("/a")).body(stream()).send().await.unwrap();
    assert_eq!(paid(&answer).requests, 1);
    assert_eq!((signed(&store).await, seller.sold()), (3, 2));
}
