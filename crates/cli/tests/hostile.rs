//! Strangers on either side: a gateway that is sent anything lives on and sells, and a seller that answers anything gets no
//! ticket out of `micropay get`. (What each bad request is answered with is in the gateway's own tests.)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use alloy::primitives::keccak256;
use storage::OrderStore;

use crate::support::upstream::Upstream;
use crate::support::{SHOP, World, block_on, run};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn whatever_is_sent_the_gateway_lives_on() {
    let world = World::ticking();
    world.open_escrow("10", 1_000);
    let mut shop = world.serve(&Upstream::start(Duration::ZERO), SHOP, &[]);
    let address = shop.address();
    world.wait_until_known(address);

    // Many connections that say nothing, for as long as they may.
    let idle: Vec<_> = (0..200).map(|_| connect(address)).collect();
    let garbage: Vec<u8> = (0..8_000u32)
        .flat_map(|seed| keccak256(seed.to_be_bytes()).0)
        .collect();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(50_000)).into_bytes();
    for bytes in [
        &b"\r\n\r\n"[..],
        b"hello\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // somebody tries TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nPAYMENT-SIGNATURE: \xff\xfe\r\n\r\n",
        &garbage,
        &long,
        &many,
    ] {
        let mut stream = connect(address);
        // It may hang up in between, or answer and go on: nothing to report.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }

    // Through all of this it has not stopped selling.
    run(world.get(address, "/good", &["-o", "/dev/null"])).json();
    drop(idle);
    assert!(shop.is_running());
    let log = shop.log.lock().clone();
    assert!(!log.contains("panicked"), "{log}");
}

/// A seller that never ends its line gets no memory, and terms that do not add up no ticket.
#[test]
fn a_hostile_seller_is_recognised_before_anything_is_signed() {
    let world = World::ticking();
    world.open_escrow("10", 100);
    let asks = |terms: &str| {
        format!("HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {terms}\r\nContent-Length: 0\r\n\r\n")
    };
    let (code_failed, code_refused, code_again) = (1, 3, 4);
    for (code, answer) in [
        (code_failed, asks("not base64!")),
        (code_failed, asks("e30=")),     // {}
        (code_failed, asks("bnVsbA==")), // null
        (
            code_refused,
            asks("eyJ4NDAyVmVyc2lvbiI6MiwicmVzb3VyY2UiOnsidXJsIjoieCJ9LCJhY2NlcHRzIjpbXX0="),
        ), // nothing accepted
        (code_again, "<html>\n".to_owned()),
        (
            code_again,
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".to_owned(),
        ),
        (
            code_again,
            format!(
                "HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {}",
                "x".repeat(1 << 20)
            ),
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = answer.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut question = [0; 4096];
                assert!(stream.read(&mut question).unwrap() > 0);
                // The payer may hang up in the middle of it.
                let _ = stream.write_all(bytes.as_bytes());
            }
        });
        let said = run(world.get(address, "/", &["-o", "/dev/null"]));
        assert_eq!(said.code, code, "{answer:.80}: {said:?}");
    }
    let orders = block_on(async {
        let store = world.payer_store().await;
        store.order_totals(None).await.unwrap().all().unwrap().count
    });
    assert_eq!(orders, 0, "no ticket was issued");
}
