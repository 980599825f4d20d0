//! Clients that take their time, take all connections, or go; and a gateway that stops, or changes its prices, meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use micropay_gateway::server::{Charge, ListenLimits, Listing, RateLimits, Table};
use protocol::ticket::Amount;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw;
use super::shop::{Setup, Shop, get, payment, price, service, until};

async fn connect(shop: &Shop) -> TcpStream {
    TcpStream::connect(shop.address).await.unwrap()
}

/// A second for a head, in these tests.
#[tokio::test]
async fn attack_a_client_that_says_nothing_or_too_little_is_dropped() {
    let shop = Shop::open().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice();
    for (what, said) in [
        ("nothing", b"".as_slice()),
        ("what may become HTTP/2", b"PRI * HT"),
        ("half a head", b"GET /a HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        ("HTTP/2 without a request", preface),
        (
            "one request and no more",
            b"GET /free/a HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
    ] {
        let mut stream = connect(&shop).await;
        stream.write_all(said).await.unwrap();
        let closed = raw::closed_after(&mut stream, Duration::from_secs(4)).await;
        assert!(
            closed.is_some_and(|after| after > Duration::from_millis(900)),
            "{what}: {closed:?}"
        );
    }
}

#[tokio::test]
async fn attack_a_head_sent_byte_by_byte_is_dropped() {
    let shop = Shop::open().await;
    let mut stream = connect(&shop).await;
    let begun = std::time::Instant::now();
    for byte in b"GET /a HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".iter() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if stream.write_all(&[*byte]).await.is_err() || begun.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    assert!(
        raw::closed_after(&mut stream, Duration::from_secs(1))
            .await
            .is_some()
    );
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn attack_a_body_that_stalls_is_given_up_before_anything_is_consumed() {
    let shop = Shop::open().await;
    let ticket = shop.ticket_that(true);
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nPayment-Signature: {}\r\n\r\nhalf",
        payment(&ticket)
    );
    let mut stream = connect(&shop).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let answer = raw::read_all(&mut stream).await;
    assert_eq!(raw::status(&answer), 408, "{answer}");
    // A free one never reaches the point where the upstream would answer.
    let mut stream = connect(&shop).await;
    let head = "POST /free/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    let closed = raw::closed_after(&mut stream, Duration::from_secs(5)).await;
    assert!(closed.is_some());
    assert!(shop.wins().await.is_empty());
    assert_eq!(shop.gate.counters().total().accepted, 0);
}

/// It takes nothing of a large answer, and holds a connection here and one at the upstream.
#[tokio::test]
async fn attack_a_client_that_does_not_read_is_dropped() {
    let listen = ListenLimits {
        write_idle: Duration::from_millis(500),
        ..Setup::default().listen
    };
    let shop = Shop::with(Setup {
        listen,
        ..Setup::default()
    })
    .await;
    let mut stream = connect(&shop).await;
    let head = format!(
        "GET /big/100000000 HTTP/1.1\r\nHost: x\r\nPayment-Signature: {}\r\n\r\n",
        payment(&shop.ticket())
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    until(async || shop.upstream.calls() == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        bytes += read;
    }
    assert!(bytes < 50_000_000, "{bytes} bytes of a hundred million came");
}

/// Whoever takes all connections and says nothing keeps others out for no longer than a head may take.
#[tokio::test]
async fn attack_silent_connections_and_tunnels_are_counted_and_the_silent_ones_go() {
    let listen = ListenLimits {
        connections: 4,
        ..Setup::default().listen
    };
    let shop = Shop::with(Setup {
        listen,
        ..Setup::default()
    })
    .await;
    let mut tunnel = connect(&shop).await;
    let handshake = "GET /free/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    tunnel.write_all(handshake.as_bytes()).await.unwrap();
    assert!(tunnel.read(&mut [0; 512]).await.unwrap() > 0);
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(connect(&shop).await);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = std::time::Instant::now();
    shop.send(get("/a")).await.is(402, "payment-required");
    assert!(
        begun.elapsed() > Duration::from_millis(500),
        "the fifth waits: a tunnel counts, too"
    );
    tunnel.write_all(b"still here").await.unwrap();
    assert!(tunnel.read(&mut [0; 512]).await.unwrap() > 0);
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way_and_takes_nothing_new() {
    let mut shop = Shop::open().await;
    let ticket = shop.ticket();
    let request = shop
        .http
        .get(shop.url("/drip"))
        .header("payment-signature", payment(&ticket));
    let response = request.send().await.unwrap();
    let reading = tokio::spawn(response.text());
    let address = shop.address;
    shop.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "no new connections");
    assert_eq!(reading.await.unwrap().unwrap(), "one two three");
}

#[tokio::test]
async fn a_stop_breaks_off_what_takes_too_long() {
    let listen = ListenLimits {
        drain: Duration::from_millis(300),
        ..Setup::default().listen
    };
    let mut shop = Shop::with(Setup {
        listen,
        ..Setup::default()
    })
    .await;
    let ticket = shop.ticket();
    let request = shop
        .http
        .get(shop.url("/stall"))
        .header("payment-signature", payment(&ticket));
    let _response = request.send().await.unwrap();
    let begun = std::time::Instant::now();
    shop.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn prices_change_under_load_and_every_answer_is_by_one_list_or_the_other() {
    let shop = Arc::new(Shop::open().await);
    let over = Arc::new(AtomicBool::new(false));
    let changes = tokio::spawn({
        let (shop, over) = (Arc::clone(&shop), Arc::clone(&over));
        async move {
            for round in 0..100u128 {
                let mut other = price();
                other.price = Amount(other.price.0 / (1 + round % 2));
                let table = Table::new(Vec::new(), Charge::Price(other));
                shop.gate
                    .set_listing(Listing::new(&service(), table, RateLimits::default()));
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            let table = Table::new(Vec::new(), Charge::Price(price()));
            shop.gate
                .set_listing(Listing::new(&service(), table, RateLimits::default()));
            over.store(true, Ordering::SeqCst);
        }
    });
    let (mut sold, mut refused) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        let ticket = shop.ticket();
        let answer = shop.pay("/a", &ticket).await;
        match answer.status {
            200 => sold += 1,
            _ => {
                answer.is(402, "wrong-threshold");
                refused += 1;
            }
        }
    }
    changes.await.unwrap();
    shop.pay("/a", &shop.ticket()).await.sold("good of /a");
    assert!(sold > 0 && refused > 0, "{sold} {refused}");
    assert_eq!(shop.gate.counters().total().accepted, sold + 1);
}
