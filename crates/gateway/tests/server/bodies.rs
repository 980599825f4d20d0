//! Large bodies both ways: they pass through, and are never held.

use std::time::Duration;

use futures::StreamExt;
use http::Method;
use micropay_gateway::server::{GateConfig, ListenLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw;
use super::shop::{Setup, Shop, call, get, payment};

const HUNDRED_MB: usize = 100 << 20;

fn blocks(bytes: usize) -> reqwest::Body {
    let block = axum::body::Bytes::from(vec![b'x'; 64 << 10]);
    let blocks = std::iter::repeat_n(block, bytes >> 16).map(Ok::<_, std::io::Error>);
    reqwest::Body::wrap_stream(futures::stream::iter(blocks))
}

/// Memory of this process, bytes: gateway, upstream and client together.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Other tests run beside it in this process, so that the bound is a coarse one: the body itself does not fit under it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_hundred_megabytes_pass_up_and_down_and_are_not_held() {
    let shop = Shop::open().await;
    shop.pay("/a", &shop.ticket()).await.sold("good of /a");
    let before = resident();
    let mut most = before;
    for path in ["/drain", "/free/echo", "/echo"] {
        let ticket = shop.ticket();
        let request = shop
            .http
            .post(shop.url(path))
            .header("payment-signature", payment(&ticket));
        let response = request.body(blocks(HUNDRED_MB)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let (mut pieces, mut bytes) = (response.bytes_stream(), 0);
        while let Some(piece) = pieces.next().await {
            bytes += piece.unwrap().len();
            most = most.max(resident());
        }
        assert_eq!(
            bytes,
            if path == "/drain" {
                "104857600 bytes".len()
            } else {
                HUNDRED_MB
            },
            "{path}"
        );
    }
    let down = shop.http.get(shop.url(&format!("/big/{HUNDRED_MB}")));
    let response = down
        .header("payment-signature", payment(&shop.ticket()))
        .send()
        .await
        .unwrap();
    let (mut pieces, mut bytes) = (response.bytes_stream(), 0);
    while let Some(piece) = pieces.next().await {
        bytes += piece.unwrap().len();
        most = most.max(resident());
    }
    assert_eq!(bytes, HUNDRED_MB);
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown < 80, "{grown} MB");
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_with_its_length_and_without() {
    let gate = GateConfig {
        body_bytes: 200_000,
        ..Setup::default().gate
    };
    let shop = Shop::with(Setup {
        gate,
        ..Setup::default()
    })
    .await;
    for path in ["/drain", "/free/echo"] {
        let ticket = shop.ticket();
        let known = call(Method::POST, path).paid(&ticket).body(vec![b'x'; 200_001]);
        shop.send(known).await.is(413, "body-too-large");
        let unknown = call(Method::POST, path).paid(&ticket).body(blocks(1 << 20));
        let answer = shop.http.post(shop.url(path));
        let answer = answer
            .header("payment-signature", payment(&ticket))
            .body(unknown.body.unwrap())
            .send()
            .await;
        // The client may still be writing when the answer is there and the connection gone.
        if let Ok(answer) = answer {
            assert!(matches!(answer.status().as_u16(), 200 | 413), "{path} {answer:?}");
            assert!(
                answer.status() == 413 || answer.bytes().await.is_err(),
                "{path}: an echo breaks off"
            );
        }
        let fits = call(Method::POST, path).paid(&ticket).body(vec![b'x'; 200_000]);
        let answer = shop.send(fits).await;
        assert!(
            answer.status == 200 || answer.rule() == "nonce-seen",
            "{answer:?}"
        );
    }
    let small = GateConfig {
        body_bytes: 10,
        ..Setup::default().gate
    };
    let shop = Shop::with(Setup {
        gate: small,
        ..Setup::default()
    })
    .await;
    let ticket = shop.ticket();
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nPayment-Signature: {}\r\n\r\n\
         14\r\nxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n",
        payment(&ticket)
    );
    let answer = raw::exchange(shop.address, request).await;
    assert_eq!(raw::status(&answer), 413, "{answer}");
    shop.send(call(Method::POST, "/echo").paid(&ticket).body("xxxxxxxxxx"))
        .await
        .sold("xxxxxxxxxx");
}

#[tokio::test]
async fn a_head_above_the_limit_is_431_or_the_end() {
    let listen = ListenLimits {
        header_bytes: 16 << 10,
        ..Setup::default().listen
    };
    let shop = Shop::with(Setup {
        listen,
        ..Setup::default()
    })
    .await;
    let long = "x".repeat(20 << 10);
    for request in [
        format!("GET /free/a HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /free/{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!(
            "GET /free/a HTTP/1.1\r\nHost: x\r\n{}\r\n",
            "X: 1\r\n".repeat(200)
        ),
    ] {
        let answer = raw::exchange(shop.address, request).await;
        assert!(
            answer.is_empty() || matches!(raw::status(&answer), 400 | 414 | 431),
            "{answer}"
        );
    }
    let h2 = shop
        .h2()
        .get(shop.url("/free/a"))
        .header("x-long", &long)
        .send()
        .await;
    assert!(h2.is_err() || h2.unwrap().status() == 431);
    assert_eq!(shop.upstream.calls(), 0);
    shop.send(get("/free/a")).await;
}

#[tokio::test]
async fn the_upstream_gets_a_body_as_long_as_it_was_said_to_be() {
    let shop = Shop::open().await;
    for path in ["/headers", "/free/headers"] {
        let answer = shop
            .send(
                call(Method::POST, path)
                    .paid(&shop.ticket())
                    .body(vec![b'x'; 100_000]),
            )
            .await;
        assert!(
            answer.text.contains("\"content-length\",\"100000\""),
            "{answer:?}"
        );
        let answer = shop.send(get(path).paid(&shop.ticket())).await;
        assert!(!answer.text.contains("transfer-encoding"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_in_the_middle_of_its_chunks_is_400_and_its_payment_still_good() {
    let shop = Shop::open().await;
    let ticket = shop.ticket();
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nPayment-Signature: {}\r\n\r\n",
        payment(&ticket)
    );
    for rest in [
        "5\r\nhello\r\nnonsense\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "5;\n\n\nhello\r\n0\r\n\r\n\r\n",
        "-1\r\n\r\n",
    ] {
        let answer = raw::exchange(shop.address, format!("{head}{rest}")).await;
        assert!(
            answer.is_empty() || matches!(raw::status(&answer), 400 | 408),
            "{rest:?}: {answer}"
        );
    }
    // Gone in the middle.
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    stream
        .write_all(format!("{head}5\r\nhel").as_bytes())
        .await
        .unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(shop.upstream.calls(), 0);
    shop.send(call(Method::POST, "/echo").paid(&ticket).body("hello"))
        .await
        .sold("hello");
}

#[tokio::test]
async fn an_answer_streams_piece_by_piece() {
    let shop = Shop::open().await;
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    let head = format!(
        "GET /drip HTTP/1.1\r\nHost: x\r\nPayment-Signature: {}\r\n\r\n",
        payment(&shop.ticket())
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = std::time::Instant::now();
    let mut text = String::new();
    while !text.contains("one") {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(
        !text.contains("two") && begun.elapsed() < Duration::from_millis(600),
        "{:?}",
        begun.elapsed()
    );
}
