//! What is no payment, or not one for this shop.

use http::Method;
use protocol::ticket::{Amount, WinThreshold};
use serde_json::{Value, json};

use super::shop::{Setup, Shop, call, domain, draw, encode, get, key, payment, payment_json, price, route};
use micropay_gateway::server::{Charge, Listing, RateLimits, Table};
use micropay_gateway::wire::{PAYMENT_SIGNATURE, read_required};

#[tokio::test]
async fn without_payment_the_answer_is_402_with_terms_and_nothing_reaches_the_upstream() {
    let shop = Shop::open().await;
    for method in [
        Method::GET,
        Method::POST,
        Method::DELETE,
        Method::HEAD,
        Method::PATCH,
    ] {
        let answer = shop.send(call(method.clone(), "/a")).await;
        assert_eq!(answer.status, 402, "{method}");
        let offers = read_required(answer.header("payment-required"), &domain());
        assert_eq!(offers.unwrap().ticket.unwrap().amount, price().price.0);
        assert!(answer.header("www-authenticate").starts_with("Payment id=\""));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(shop.upstream.calls(), 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_400_and_costs_nothing() {
    let shop = Shop::open().await;
    let ticket = shop.ticket();
    let good = payment(&ticket);
    let spoiled = |change: fn(&mut Value)| {
        let mut json = payment_json(&ticket);
        change(&mut json);
        encode(&json)
    };
    let cases = [
        ("nothing", String::new()),
        ("truncated", good[..good.len() / 2].to_owned()),
        ("its last character lost", good[..good.len() - 5].to_owned()),
        ("oversized", "A".repeat(17 * 1024)),
        ("not base64", "!!!! not base64 !!!!".into()),
        ("not ASCII", "gültig".into()),
        ("not JSON", encode(&json!("text"))),
        ("a list", encode(&json!([1, 2, 3]))),
        ("null", encode(&Value::Null)),
        ("deep", encode(&(0..100).fold(json!(1), |deep, _| json!([deep])))),
        ("another version", spoiled(|json| json["x402Version"] = json!(1))),
        (
            "version in words",
            spoiled(|json| json["x402Version"] = json!("2")),
        ),
        (
            "unknown scheme",
            spoiled(|json| json["accepted"]["scheme"] = json!("exact")),
        ),
        (
            "wrong network",
            spoiled(|json| json["accepted"]["network"] = json!("eip155:1")),
        ),
        ("no payload", spoiled(|json| json["payload"] = Value::Null)),
        (
            "a field too many",
            spoiled(|json| json["payload"]["extra"] = json!(1)),
        ),
        (
            "a field too few",
            spoiled(|json| {
                json["payload"].as_object_mut().unwrap().remove("r2");
            }),
        ),
        (
            "a short address",
            spoiled(|json| json["payload"]["escrow"] = json!("0x12")),
        ),
        (
            "a negative nonce",
            spoiled(|json| json["payload"]["nonce"] = json!("-1")),
        ),
        (
            "a nonce beyond u64",
            spoiled(|json| json["payload"]["nonce"] = json!("18446744073709551616")),
        ),
        (
            "a nonce in hex",
            spoiled(|json| json["payload"]["nonce"] = json!("0x1")),
        ),
        (
            "a threshold of 300 bits",
            spoiled(|json| json["payload"]["winThreshold"] = json!("9".repeat(90))),
        ),
        (
            "a short signature",
            spoiled(|json| json["payload"]["signature"] = json!("0x1234")),
        ),
        (
            "a wrong v",
            spoiled(|json| {
                let text = json["payload"]["signature"].as_str().unwrap().to_owned();
                json["payload"]["signature"] = json!(format!("{}63", &text[..text.len() - 2]));
            }),
        ),
        (
            "a name with spaces",
            spoiled(|json| {
                json["extensions"] = json!({ "payment-identifier": { "info": { "id": "a b" } } });
            }),
        ),
    ];
    for (what, header) in cases {
        let answer = shop.send(get("/a").header(PAYMENT_SIGNATURE, header)).await;
        assert_eq!(
            (answer.status, answer.rule().as_str()),
            (400, "payment-malformed"),
            "{what}: {answer:?}"
        );
        assert!(
            answer.text.len() < 2_000,
            "{what}: an answer does not repeat what was sent"
        );
    }
    assert_eq!(shop.upstream.calls(), 0);
    shop.pay("/a", &ticket).await.sold("good of /a");
}

#[tokio::test]
async fn the_payment_scheme_refuses_what_it_did_not_say() {
    let shop = Shop::open().await;
    let asked = shop.send(get("/a")).await;
    let challenge = parameters(asked.header("www-authenticate"));
    let ticket = shop.ticket();
    let credential = |change: fn(&mut Value)| {
        let payload = payment_json(&ticket)["payload"].clone();
        let mut json = json!({ "challenge": challenge, "payload": payload });
        change(&mut json);
        format!("Payment {}", encode(&json))
    };
    for (what, value) in [
        ("nothing", "Payment".to_owned()),
        ("not base64", "Payment ????".to_owned()),
        (
            "another realm",
            credential(|json| json["challenge"]["realm"] = json!("other.example")),
        ),
        (
            "a later end",
            credential(|json| json["challenge"]["expires"] = json!("2999-01-01T00:00:00Z")),
        ),
        (
            "another method",
            credential(|json| json["challenge"]["method"] = json!("evm")),
        ),
        ("no id", credential(|json| json["challenge"]["id"] = json!(""))),
        (
            "a short id",
            credential(|json| json["challenge"]["id"] = json!("AA")),
        ),
        ("no challenge", credential(|json| json["challenge"] = Value::Null)),
    ] {
        let answer = shop.send(get("/a").header("authorization", value)).await;
        assert_eq!(
            (answer.status, answer.rule().as_str()),
            (400, "payment-malformed"),
            "{what}: {answer:?}"
        );
    }
    for name in ["authorization", "payment-authorization"] {
        let answer = shop.send(get("/a").header(name, credential(|_| ()))).await;
        answer.sold("good of /a");
    }
    assert_eq!(
        shop.upstream.calls(),
        1,
        "the same call by another header is the same call"
    );
}

/// The parameters of a challenge.
fn parameters(header: &str) -> Value {
    let fields = header.trim_start_matches("Payment ").split(", ");
    fields
        .map(|field| field.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), json!(value.trim_matches('"'))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn another_seller_s_terms_are_refused_with_ours() {
    let shop = Shop::open().await;
    let mut quote = shop.quote(0);
    quote.recipient = alloy_primitives::Address::repeat_byte(0xee);
    let wrong_recipient = shop.ticket_for(&quote, 0, shop.next_nonce());
    shop.pay("/a", &wrong_recipient).await.is(402, "wrong-recipient");

    let mut quote = shop.quote(0);
    quote.commitment = alloy_primitives::B256::repeat_byte(0xee);
    let wrong_commitment = shop.ticket_for(&quote, 0, shop.next_nonce());
    shop.pay("/a", &wrong_commitment)
        .await
        .is(402, "commitment-unknown");

    // A ticket of another contract has another digest, and so another signer.
    let other = protocol::ticket::Domain::new(31337, alloy_primitives::Address::repeat_byte(0xab));
    let quote = shop.quote(0);
    let wrong_contract = protocol::ticket::Ticket::issue(
        &other,
        &key(0),
        &quote,
        alloy_primitives::B256::repeat_byte(1),
        quote.expiry(super::shop::NOW),
        protocol::ticket::Nonce(shop.next_nonce()),
    );
    shop.pay("/a", &wrong_contract).await.is(402, "wrong-signer");

    // Another payer's escrow, signed with one's own key.
    let mut json = payment_json(&shop.ticket());
    json["payload"]["escrow"] = json!(key(1).address());
    let stolen = shop
        .send(get("/a").header(PAYMENT_SIGNATURE, encode(&json)))
        .await;
    assert_eq!(stolen.status, 402, "{stolen:?}");

    // An escrow that nobody opened.
    json["payload"]["escrow"] = json!(alloy_primitives::Address::repeat_byte(0x77));
    let nobody = shop
        .send(get("/a").header(PAYMENT_SIGNATURE, encode(&json)))
        .await;
    nobody.is(402, "escrow-missing");
    let terms = read_required(nobody.header("payment-required"), &domain())
        .unwrap()
        .ticket
        .unwrap();
    assert_eq!(
        terms.extra.escrow, None,
        "made-up addresses get no terms of their own"
    );
    assert_eq!(shop.upstream.calls(), 0);
}

#[tokio::test]
async fn a_stale_price_is_refused_with_the_new_one_and_the_ticket_is_not_consumed() {
    let shop = Shop::open().await;
    let old = shop.ticket();
    let mut dearer = price();
    dearer.price = Amount(dearer.price.0 / 2);
    let table = Table::new(vec![route("* /a", Charge::Price(dearer))], Charge::Price(price()));
    let listing = Listing::new(&super::shop::service(), table, RateLimits::default());
    shop.gate.set_listing(listing);
    let refused = shop.pay("/a", &old).await;
    refused.is(402, "wrong-threshold");
    let terms = read_required(refused.header("payment-required"), &domain())
        .unwrap()
        .ticket
        .unwrap();
    assert_eq!(terms.amount, dearer.price.0);
    assert_eq!(terms.extra.win_threshold, WinThreshold::one_in(8).0);
    // Where it still is the price it is taken.
    shop.pay("/b", &old).await.sold("good of /b");
}

#[tokio::test]
async fn two_payments_in_one_request_are_one() {
    let shop = Shop::open().await;
    let (one, other) = (shop.ticket(), shop.ticket());
    let both = get("/a").paid(&one).paid(&other);
    shop.send(both).await.sold("good of /a");
    shop.pay("/b", &other).await.sold("good of /b");
}

#[tokio::test]
async fn winners_and_losers_get_the_same_answer() {
    let shop = Shop::with(Setup::default()).await;
    let (winner, loser) = (shop.ticket_that(true), shop.ticket_that(false));
    assert!(draw(&winner) && !draw(&loser));
    let answers = [shop.pay("/a", &winner).await, shop.pay("/a", &loser).await];
    let [names, others] = answers.map(|answer| {
        answer.sold("good of /a");
        let mut names: Vec<_> = answer.headers.keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    });
    assert_eq!(names, others);
    assert_eq!(shop.wins().await.len(), 1);
}
