//! One payment, one call, one answer: however often, with whatever, and by whomever it is sent again.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use micropay_gateway::server::{AnswerLimits, GateConfig};
use micropay_gateway::wire::PAYMENT_SIGNATURE;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::shop::{Setup, Shop, call, encode, get, payment, payment_json, until};

const NAME: &str = "call-0123456789abcdef";

#[tokio::test]
async fn the_same_payment_for_the_same_request_gets_the_stored_answer() {
    let shop = Shop::open().await;
    let ticket = shop.ticket();
    let first = shop.pay("/status/201?x=1", &ticket).await;
    assert_eq!(first.status, 201);
    let second = shop.pay("/status/201?x=1", &ticket).await;
    assert_eq!((second.status, &second.text), (201, &first.text));
    for name in [
        "payment-response",
        "payment-receipt",
        "content-type",
        "cache-control",
    ] {
        assert_eq!(first.header(name), second.header(name), "{name}");
    }
    assert_eq!(shop.upstream.calls(), 1);
    assert_eq!(shop.gate.counters().total().accepted, 1);
}

#[tokio::test]
async fn the_same_payment_for_another_request_is_409() {
    let shop = Shop::open().await;
    let ticket = shop.ticket();
    shop.pay("/a", &ticket).await.sold("good of /a");
    shop.pay("/b", &ticket).await.is(409, "nonce-seen");
    shop.pay("/a?x", &ticket).await.is(409, "nonce-seen");
    let post = call(Method::POST, "/a").paid(&ticket);
    shop.send(post).await.is(409, "nonce-seen");
    let with_body = call(Method::GET, "/a").paid(&ticket).body("another");
    shop.send(with_body).await.is(409, "nonce-seen");
    assert_eq!(shop.upstream.calls(), 1);
}

#[tokio::test]
async fn bodies_are_part_of_the_request_whether_or_not_their_length_is_known() {
    let shop = Shop::open().await;
    let chunked = |text: &'static str| {
        let pieces = futures::stream::iter(text.split(' ').map(Ok::<_, std::io::Error>));
        reqwest::Body::wrap_stream(pieces)
    };
    let ticket = shop.ticket();
    let post = |body: reqwest::Body| call(Method::POST, "/echo").paid(&ticket).body(body);
    shop.send(post("one two".into())).await.sold("one two");
    shop.send(post("one two".into())).await.sold("one two");
    shop.send(post("one six".into())).await.is(409, "nonce-seen");
    let ticket = shop.ticket();
    let post = |body: reqwest::Body| call(Method::POST, "/echo").paid(&ticket).body(body);
    shop.send(post(chunked("one two"))).await.sold("onetwo");
    shop.send(post(chunked("one six"))).await.is(409, "nonce-seen");
    shop.send(post("onetwo".into())).await.sold("onetwo");
    assert_eq!(shop.upstream.calls(), 2);
    // Of a large body, the first part and the length count.
    let ticket = shop.ticket();
    let large = |first: u8, bytes: usize| {
        let mut body = vec![b'x'; bytes];
        body[0] = first;
        call(Method::POST, "/drain").paid(&ticket).body(body)
    };
    shop.send(large(b'a', 200_000)).await.sold("200000 bytes");
    shop.send(large(b'a', 200_000)).await.sold("200000 bytes");
    shop.send(large(b'b', 200_000)).await.is(409, "nonce-seen");
    shop.send(large(b'a', 200_001)).await.is(409, "nonce-seen");
    assert_eq!(shop.upstream.calls(), 3);
}

#[tokio::test]
async fn an_answer_that_is_no_longer_kept_is_410() {
    let answers = AnswerLimits {
        keep: Duration::from_millis(200),
        answer_bytes: 1_000,
        ..AnswerLimits::default()
    };
    let gate = GateConfig {
        answers,
        ..Setup::default().gate
    };
    let shop = Shop::with(Setup {
        gate,
        ..Setup::default()
    })
    .await;
    let (ticket, large) = (shop.ticket(), shop.ticket());
    shop.pay("/a", &ticket).await.sold("good of /a");
    shop.pay("/a", &ticket).await.sold("good of /a");
    assert_eq!(shop.pay("/big/5000", &large).await.text.len(), 64 << 10);
    shop.pay("/big/5000", &large).await.is(410, "answer-not-kept");
    tokio::time::sleep(Duration::from_millis(300)).await;
    shop.pay("/a", &ticket).await.is(410, "answer-not-kept");
    assert_eq!(shop.upstream.calls(), 2);
}

#[tokio::test]
async fn copies_that_come_at_once_are_one_call() {
    let shop = Shop::open().await;
    for wins in [true, false] {
        let (ticket, before) = (shop.ticket_that(wins), shop.upstream.calls());
        let copies = join_all((0..20).map(|_| shop.pay("/gate", &ticket)));
        let release = async {
            until(async || shop.upstream.calls() > before).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            shop.upstream.go_on();
        };
        let (answers, ()) = tokio::join!(copies, release);
        let sold = answers.iter().filter(|answer| answer.status == 200).count();
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.is(409, "in-progress");
            assert_eq!(answer.header("retry-after"), "1");
        }
        assert!(sold >= 1);
        assert_eq!(shop.upstream.calls(), before + 1, "wins: {wins}");
        shop.pay("/gate", &ticket).await.sold("went on");
    }
    assert_eq!(shop.gate.counters().total().accepted, 2);
}

#[tokio::test]
async fn a_named_call_is_paid_once_whatever_ticket_comes_with_it() {
    let shop = Shop::open().await;
    let named = |path, ticket: &_| get(path).paid(ticket).named(NAME);
    shop.send(named("/a", &shop.ticket())).await.sold("good of /a");
    let other = shop.ticket();
    shop.send(named("/a", &other)).await.sold("good of /a");
    assert_eq!(
        (shop.upstream.calls(), shop.gate.counters().total().accepted),
        (1, 1)
    );
    shop.send(named("/b", &shop.ticket()))
        .await
        .is(409, "call-name-reused");
    // The ticket that came with the second was not charged.
    shop.pay("/c", &other).await.sold("good of /c");
    // x402 says the same in another place.
    let mut json = payment_json(&shop.ticket());
    json["extensions"] = json!({ "payment-identifier": { "info": { "id": NAME } } });
    let again = get("/a").header(PAYMENT_SIGNATURE, encode(&json));
    shop.send(again).await.sold("good of /a");
    // Another escrow's call of this name is another call.
    let other = shop.ticket_of(1, 1);
    shop.send(named("/a", &other)).await.sold("good of /a");
    assert_eq!(shop.upstream.calls(), 3);
}

#[tokio::test]
async fn a_named_call_under_way_is_not_begun_again_with_another_ticket() {
    let shop = Shop::open().await;
    let named = |ticket: &_| get("/gate").paid(ticket).named(NAME);
    let (one, other) = (shop.ticket(), shop.ticket());
    let first = shop.send(named(&one));
    let second = async {
        until(async || shop.upstream.calls() == 1).await;
        shop.send(named(&other)).await.is(409, "in-progress");
        shop.upstream.go_on();
    };
    let (first, ()) = tokio::join!(first, second);
    first.sold("went on");
    shop.send(named(&other)).await.sold("went on");
    assert_eq!(
        (shop.upstream.calls(), shop.gate.counters().total().accepted),
        (1, 1)
    );
}

#[tokio::test]
async fn names_are_told_apart_whatever_their_bytes_and_length() {
    let shop = Shop::open().await;
    let long = "n".repeat(30_000);
    let names = ["ä", "ö", &long, &format!("{long}x"), ""];
    for name in names {
        shop.send(get("/a").paid(&shop.ticket()).named(name))
            .await
            .sold("good of /a");
    }
    assert_eq!(shop.upstream.calls(), names.len());
}

#[tokio::test]
async fn attack_who_knows_a_call_s_name_but_not_the_escrow_s_key_gets_nothing() {
    let shop = Shop::open().await;
    shop.send(get("/a").paid(&shop.ticket()).named(NAME))
        .await
        .sold("good of /a");
    let mut json = payment_json(&shop.ticket_for(&shop.quote(0), 1, 7));
    json["payload"]["escrow"] = payment_json(&shop.ticket())["payload"]["escrow"].clone();
    let stranger = get("/a").header(PAYMENT_SIGNATURE, encode(&json)).named(NAME);
    let answer = shop.send(stranger).await;
    answer.is(402, "wrong-signer");
    assert!(!answer.text.contains("good of"));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_asks_again_and_gets_it() {
    let shop = Shop::open().await;
    for wins in [true, false] {
        let (ticket, before) = (shop.ticket_that(wins), shop.upstream.calls());
        let mut stream = TcpStream::connect(shop.address).await.unwrap();
        let head = format!(
            "GET /gate HTTP/1.1\r\nHost: x\r\nPayment-Signature: {}\r\n\r\n",
            payment(&ticket)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        until(async || shop.upstream.calls() == before + 1).await;
        drop(stream);
        tokio::time::sleep(Duration::from_millis(50)).await;
        shop.pay("/gate", &ticket).await.is(409, "in-progress");
        shop.upstream.go_on();
        until(async || shop.upstream.under_way() == 0).await;
        until(async || shop.pay("/gate", &ticket).await.status == 200).await;
        assert_eq!(shop.upstream.calls(), before + 1);
    }
    assert_eq!(shop.gate.counters().total().accepted, 2);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_answer_asks_again_and_gets_all_of_it() {
    let shop = Shop::open().await;
    let ticket = shop.ticket();
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    let head = format!(
        "GET /drip HTTP/1.1\r\nHost: x\r\nPayment-Signature: {}\r\n\r\n",
        payment(&ticket)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 64];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    drop(stream);
    // Not all of it is there: to be asked for again, not given up.
    let at_once = shop.pay("/drip", &ticket).await;
    at_once.is(409, "in-progress");
    until(async || shop.pay("/drip", &ticket).await.status == 200).await;
    shop.pay("/drip", &ticket).await.sold("one two three");
    assert_eq!(
        (shop.upstream.calls(), shop.gate.counters().total().accepted),
        (1, 1)
    );
}

#[tokio::test]
async fn the_answer_to_head_is_kept_and_given_again() {
    let shop = Shop::open().await;
    for path in ["/a", "/status/204", "/status/304"] {
        let ticket = shop.ticket();
        let one = shop.send(call(Method::HEAD, path).paid(&ticket)).await;
        let two = shop.send(call(Method::HEAD, path).paid(&ticket)).await;
        assert_eq!(
            (one.status, one.headers.get("content-length")),
            (two.status, two.headers.get("content-length"))
        );
        assert_eq!(one.text, "");
    }
    let ticket = shop.ticket();
    let one = shop.pay("/status/204", &ticket).await;
    assert_eq!(
        (one.status, shop.pay("/status/204", &ticket).await.status),
        (204, 204)
    );
    assert_eq!(shop.upstream.calls(), 4);
}
