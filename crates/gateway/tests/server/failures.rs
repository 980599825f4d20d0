//! The upstream fails: the ticket is not consumed, and the same call can be asked for again.

use std::time::Duration;

use http::Method;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::shop::{Setup, Shop, call, get, until};

#[tokio::test]
async fn a_5xx_consumes_nothing_and_the_same_ticket_is_taken_again() {
    let shop = Shop::open().await;
    for wins in [true, false] {
        let ticket = shop.ticket_that(wins);
        shop.upstream.fail(true);
        for _ in 0..3 {
            let failed = shop.pay("/flaky", &ticket).await;
            assert_eq!((failed.status, failed.header("payment-response")), (500, ""));
        }
        until(async || shop.wins().await.len() == usize::from(!wins)).await;
        shop.upstream.fail(false);
        shop.pay("/flaky", &ticket).await.sold("flaky good");
        assert_eq!(shop.wins().await.len(), 1, "wins: {wins}");
    }
    assert_eq!(shop.gate.counters().total().accepted, 2);
}

#[tokio::test]
async fn below_500_is_an_answer_and_is_paid_for() {
    let shop = Shop::open().await;
    for status in [200, 204, 301, 304, 400, 401, 403, 404, 429, 451] {
        let ticket = shop.ticket();
        let path = format!("/status/{status}");
        let answer = shop.pay(&path, &ticket).await;
        assert_eq!(answer.status, status);
        assert!(answer.headers.contains_key("payment-response"), "{status}");
    }
    assert_eq!(shop.gate.counters().total().accepted, 10);
}

#[tokio::test]
async fn an_upstream_that_refuses_is_502() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let upstream = Some(format!("http://{closed}"));
    let shop = Shop::with(Setup {
        upstream,
        ..Setup::default()
    })
    .await;
    for wins in [true, false] {
        let ticket = shop.ticket_that(wins);
        for _ in 0..2 {
            shop.pay("/a", &ticket).await.is(502, "upstream-failed");
        }
    }
    shop.send(get("/free/a")).await.is(502, "upstream-failed");
    assert_eq!(shop.gate.counters().total().accepted, 0);
    until(async || shop.wins().await.is_empty()).await;
}

#[tokio::test]
async fn an_upstream_that_resets_before_the_head_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Some(format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 512]).await;
            stream.set_zero_linger().unwrap();
        }
    });
    let shop = Shop::with(Setup {
        upstream,
        ..Setup::default()
    })
    .await;
    let ticket = shop.ticket_that(true);
    for _ in 0..3 {
        shop.pay("/a", &ticket).await.is(502, "upstream-failed");
    }
    until(async || shop.wins().await.is_empty()).await;
}

#[tokio::test]
async fn an_upstream_that_is_no_http_server_is_502() {
    use tokio::io::AsyncWriteExt;
    for nonsense in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 200",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Some(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream.write_all(nonsense.as_bytes()).await;
            }
        });
        let shop = Shop::with(Setup {
            upstream,
            ..Setup::default()
        })
        .await;
        let answer = shop.pay("/a", &shop.ticket()).await;
        assert_eq!(
            (answer.status, answer.rule().as_str()),
            (502, "upstream-failed"),
            "{nonsense}: {answer:?}"
        );
        assert_eq!(shop.gate.counters().total().accepted, 0);
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_is_504_paid_or_free() {
    let shop = Shop::open().await;
    let ticket = shop.ticket_that(true);
    let (paid, free) = tokio::join!(shop.pay("/hang", &ticket), shop.send(get("/free/hang")));
    paid.is(504, "upstream-timeout");
    free.is(504, "upstream-timeout");
    until(async || shop.wins().await.is_empty()).await;
    assert_eq!(
        shop.upstream.under_way(),
        0,
        "nobody waits at the upstream any more"
    );
    assert_eq!(shop.gate.counters().total().accepted, 0);
}

/// Its head was an answer: it is paid for. The client sees that it is broken, and so does whoever asks again.
#[tokio::test]
async fn an_answer_that_breaks_or_stalls_is_broken_for_the_client_and_410_when_asked_for_again() {
    let shop = Shop::with(Setup {
        idle: Duration::from_millis(300),
        ..Setup::default()
    })
    .await;
    for path in ["/break", "/stall"] {
        let ticket = shop.ticket();
        let request = shop.http.get(shop.url(path));
        let request = request.header("payment-signature", super::shop::payment(&ticket));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.text().await.is_err(), "{path}");
        shop.pay(path, &ticket).await.is(410, "answer-not-kept");
    }
    assert_eq!(shop.upstream.calls(), 2);
}

/// A ticket that failed is bound to its call. Else a payer could find out by the clock whether it won, on calls that it knows
/// to fail, and pay with the losers alone.
#[tokio::test]
async fn attack_a_ticket_whose_call_failed_buys_no_other_call() {
    let shop = Shop::open().await;
    shop.upstream.fail(true);
    for wins in [true, false] {
        let ticket = shop.ticket_that(wins);
        assert_eq!(shop.pay("/flaky", &ticket).await.status, 500);
        until(async || shop.wins().await.is_empty()).await;
        shop.pay("/a", &ticket).await.is(409, "nonce-seen");
        let same_nonce = shop.ticket_for(&shop.quote(0), 0, ticket.nonce().0);
        shop.pay("/a", &same_nonce).await.is(409, "nonce-seen");
    }
    assert_eq!(shop.upstream.calls(), 2);
}

/// The payer itself broke its request off: a winner stays one, and gets its good when asked for again.
#[tokio::test]
async fn attack_a_payer_that_breaks_its_own_upload_does_not_get_its_winner_back() {
    let limits = super::shop::Setup::default();
    let gate = micropay_gateway::server::GateConfig {
        body_bytes: 300_000,
        ..limits.gate
    };
    let shop = Shop::with(Setup { gate, ..limits }).await;
    let ticket = shop.ticket_that(true);
    let pieces = |count: usize| {
        let piece = Ok::<_, std::io::Error>(vec![b'x'; 50_000]);
        let pieces = std::iter::repeat_with(move || Ok::<_, std::io::Error>(piece.as_ref().unwrap().clone()));
        reqwest::Body::wrap_stream(futures::stream::iter(pieces.take(count)))
    };
    let upload = |count| call(Method::POST, "/drain").paid(&ticket).body(pieces(count));
    shop.send(upload(8)).await.is(413, "body-too-large");
    assert_eq!(shop.wins().await.len(), 1, "it counts");
    shop.send(upload(4)).await.sold("200000 bytes");
    assert_eq!(shop.wins().await.len(), 1, "once");
}
