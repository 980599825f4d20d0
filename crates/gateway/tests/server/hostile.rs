//! Ways around the gate: other spellings, other protocols, two requests in one, another's answer.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use micropay_gateway::wire::PAYMENT_SIGNATURE;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw;
use super::shop::{Shop, call, encode, get, key, payment, payment_json, until};

#[tokio::test]
async fn attack_malformed_http_reaches_no_upstream() {
    let shop = Shop::open().await;
    for request in [
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "GET /free/a HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /free/a HTTP/1.1\nHost x\n\n",
        "GET /free/a HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        "GET /free/a HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
        "GET /free/a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET free/a HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST /free/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "POST /free/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /free/a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ] {
        let answer = raw::exchange(shop.address, request).await;
        let status = raw::status(&answer);
        assert!(
            answer.is_empty() || status == 400 || status == 505,
            "{request:?}: {answer}"
        );
    }
    assert_eq!(shop.upstream.calls(), 0);
}

/// What one server takes for the end of a request, another takes for its middle: the rest would be a request that nobody paid
/// for.
#[tokio::test]
async fn attack_no_request_is_smuggled_in_another_s_body() {
    let shop = Shop::open().await;
    let inner = "GET /secret HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    let requests = [
        format!(
            "POST /free/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            chunk(inner)
        ),
        format!(
            "POST /free/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{}",
            chunk(inner)
        ),
        format!(
            "POST /free/echo HTTP/1.1\r\nHost: x\r\nConnection: content-length\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        ),
        format!(
            "POST /free/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n{}",
            chunk(inner)
        ),
        format!(
            "GET /free/echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        ),
    ];
    for request in requests {
        let before = shop.upstream.calls();
        let answer = raw::exchange(shop.address, &request).await;
        assert!(!answer.contains("good of"), "{request}\n{answer}");
        assert!(shop.upstream.calls() - before <= 1, "{request}\n{answer}");
    }
    // Two requests on one connection are two requests, each with its own price.
    let two = format!("GET /free/a HTTP/1.1\r\nHost: x\r\n\r\n{inner}");
    let answer = raw::exchange(shop.address, two).await;
    assert!(
        answer.contains("good of /free/a") && answer.contains("402 Payment Required"),
        "{answer}"
    );
}

/// After an upgrade the gate sees nothing: a client that speaks HTTP/2 to the upstream asks for whatever it likes.
#[tokio::test]
async fn attack_no_tunnel_but_websocket_s() {
    let shop = Shop::open().await;
    for protocol in ["h2c", "TLS/1.0", "websocket, h2c", "HTTP/2.0"] {
        let request = format!(
            "GET /free/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        let answer = raw::exchange(shop.address, request).await;
        assert_eq!(raw::status(&answer), 426, "the upstream saw no upgrade: {answer}");
    }
    for request in [
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = raw::exchange(shop.address, request).await;
        assert!(matches!(raw::status(&answer), 400 | 501), "{answer}");
    }
    assert_eq!(shop.upstream.calls(), 4);
}

#[tokio::test]
async fn a_websocket_on_a_free_route_works_and_on_a_paid_one_is_refused() {
    let shop = Shop::open().await;
    let handshake = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
        )
    };
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    stream
        .write_all(handshake("/free/ws", "").as_bytes())
        .await
        .unwrap();
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).await.unwrap();
    let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
    assert_eq!(raw::status(&head), 101, "{head}");
    stream.write_all(b"there and back").await.unwrap();
    let read = stream.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"there and back");
    drop(stream);
    let paid = format!("Payment-Signature: {}\r\n", payment(&shop.ticket()));
    for more in ["", &paid] {
        let answer = raw::exchange(shop.address, handshake("/ws", more)).await;
        assert_eq!(raw::status(&answer), 501, "{answer}");
        assert!(answer.contains("upgrade-not-sold"));
    }
    assert_eq!(shop.upstream.calls(), 1);
}

#[tokio::test]
async fn attack_another_spelling_of_a_path_is_no_cheaper_over_the_wire() {
    let shop = Shop::open().await;
    for path in [
        "/free/../a",
        "/free/%2e%2e/a",
        "/free/..%2fa",
        "/free/.%2e/a",
        "//a",
        "/free//../a",
        "/%66ree/../a",
        "/free%2f..%2fa",
        "/free/%252e%252e/a",
        "/free\\..\\a",
        "/free/..;/a",
        "/free/a/..;x=1/../../a",
        "/free/%00/../a",
        "http://x/free/../a",
        "http://x/a",
        "*",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(shop.address, request).await;
        let status = raw::status(&answer);
        assert!(matches!(status, 400 | 402), "{path}: {answer}");
    }
}

#[tokio::test]
async fn http_1_0_is_served_and_pays_the_same() {
    let shop = Shop::open().await;
    let ask = |more: String| raw::exchange(shop.address, format!("GET /a HTTP/1.0\r\n{more}\r\n"));
    assert_eq!(raw::status(&ask(String::new()).await), 402);
    let paid = ask(format!("Payment-Signature: {}\r\n", payment(&shop.ticket()))).await;
    assert!(
        paid.starts_with("HTTP/1.0 200") && paid.ends_with("good of /a"),
        "{paid}"
    );
    assert!(!paid.to_ascii_lowercase().contains("transfer-encoding"), "{paid}");
}

#[tokio::test]
async fn http_2_pays_the_same_and_a_hundred_at_once_on_one_connection() {
    let shop = Shop::open().await;
    let client = shop.h2();
    let asked = shop.send_by(&client, get("/a")).await;
    assert_eq!(asked.status, 402);
    let paths: Vec<String> = (0..100).map(|n| format!("/many/{n}")).collect();
    let (shop, client) = (&shop, &client);
    let calls = paths.iter().map(|path| async move {
        let answer = shop.send_by(client, get(path).paid(&shop.ticket())).await;
        answer.sold(&format!("good of {path}"));
    });
    join_all(calls).await;
    let ticket = shop.ticket();
    let post = || call(Method::POST, "/echo").paid(&ticket).body("over h2");
    shop.send_by(client, post()).await.sold("over h2");
    shop.send(post()).await.sold("over h2");
    assert_eq!(shop.gate.counters().total().accepted, 101);
}

/// Winning tickets are on the chain, with their signatures, as soon as they are claimed.
#[tokio::test]
async fn attack_who_reads_a_winner_off_the_chain_gets_neither_its_answer_nor_a_named_one() {
    let shop = Shop::open().await;
    let name = "call-0123456789abcdef";
    let winner = shop.ticket_that(true);
    shop.send(get("/a").paid(&winner).named(name))
        .await
        .sold("good of /a");
    shop.pay("/a", &winner).await.sold("good of /a");
    super::shop::claim(&shop).await;
    shop.pay("/a", &winner).await.is(410, "answer-not-kept");
    let stolen = shop.send(get("/a").paid(&winner).named(name)).await;
    assert!(!stolen.text.contains("good of"), "{stolen:?}");
    // Its payer signs a new ticket, and has it.
    let refused = shop.send(get("/a").paid(&shop.ticket()).named(name)).await;
    refused.sold("good of /a");
    assert_eq!(shop.upstream.calls(), 1);
}

/// Anybody can send a ticket in a payer's name. The payer's own, with the same nonce, must not suffer.
#[tokio::test]
async fn attack_forged_tickets_neither_block_nor_burden_a_payer() {
    let shop = Shop::open().await;
    let (good, quote) = (shop.ticket(), shop.quote(0));
    let forged = |commitment: bool| {
        let mut json = payment_json(&shop.ticket_for(&quote, 1, good.nonce().0));
        json["payload"]["escrow"] = json!(key(0).address());
        if commitment {
            json["payload"]["commitment"] = json!(alloy_primitives::B256::repeat_byte(9));
        }
        get("/a").header(PAYMENT_SIGNATURE, encode(&json))
    };
    let flood = join_all((0..100).map(|n| shop.send(forged(n % 2 == 0))));
    let (answers, paid) = tokio::join!(flood, async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        loop {
            let answer = shop.pay("/a", &good).await;
            if answer.status != 409 {
                return answer;
            }
        }
    });
    paid.sold("good of /a");
    assert!(answers.iter().all(|answer| matches!(answer.status, 402 | 409)));
    until(async || shop.upstream.calls() == 1).await;
    assert_eq!(shop.gate.counters().total().accepted, 1);
}

/// Everything about another's payment but its signature.
#[tokio::test]
async fn attack_a_copied_ticket_with_a_forged_signature_gets_no_stored_answer() {
    let shop = Shop::open().await;
    let ticket = shop.ticket();
    shop.pay("/a", &ticket).await.sold("good of /a");
    let mut json = payment_json(&ticket);
    let other = payment_json(&shop.ticket());
    json["payload"]["signature"] = other["payload"]["signature"].clone();
    let answer = shop
        .send(get("/a").header(PAYMENT_SIGNATURE, encode(&json)))
        .await;
    assert!(!answer.text.contains("good of"), "{answer:?}");
}
