//! A merchant on the open network: whatever is sent to it is answered with a refusal, and it lives on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use protocol::ticket::EscrowKey;
use serde_json::{Value, json};
use storage::OrderStore;

use crate::support::{PAYER, SHOP, World, block_on, escrow_key, eventually, run, run_with_input};

/// Not the escrow of the payer's program, whose nonces these tests would take.
fn raw_key() -> EscrowKey {
    EscrowKey::from_bytes(&[8; 32]).unwrap()
}

struct Wire(BufReader<TcpStream>);

impl Wire {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{request}\n").as_bytes());
        self.reply()
    }

    fn is_closed(&mut self) -> bool {
        // Unread input makes the end a reset.
        matches!(self.0.get_mut().read(&mut [0]), Ok(0) | Err(_))
    }
}

#[track_caller]
fn assert_refused(reply: &Value, rule: &str, retry: &str) {
    assert_eq!(
        (&reply["type"], &reply["rule"], &reply["retry"]),
        (&json!("refused"), &json!(rule), &json!(retry)),
        "{reply}"
    );
    assert!(!reply["message"].as_str().unwrap().is_empty());
}

/// A ticket for a quote, as JSON.
fn ticket(
    world: &World,
    key: &EscrowKey,
    quote: &Value,
    change: impl FnOnce(&mut bindings::ticket::Ticket),
) -> Value {
    let mut fields = bindings::ticket::Ticket {
        escrow: raw_key().address(),
        recipient: quote["recipient"].as_str().unwrap().parse().unwrap(),
        commitment: quote["commitment"].as_str().unwrap().parse().unwrap(),
        r2: B256::repeat_byte(2),
        winThreshold: quote["winThreshold"].as_str().unwrap().parse().unwrap(),
        expiry: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + 43_200,
        nonce: 1,
    };
    change(&mut fields);
    let signature = key.sign(world.domain().ticket_digest(&fields)).to_bytes();
    json!({
        "escrow": fields.escrow, "recipient": fields.recipient, "commitment": fields.commitment, "r2": fields.r2,
        "winThreshold": fields.winThreshold, "expiry": fields.expiry, "nonce": fields.nonce,
        "signature": Bytes::copy_from_slice(&signature),
    })
}

#[test]
fn whatever_is_sent_the_merchant_lives_on() {
    let world = World::ticking();
    let (goods, content) = world.goods(20 * 1024);
    world.open_escrow("10", 1_000);
    let mut import = world.micropay();
    import.args(["keys", "import", "raw"]);
    assert_eq!(run_with_input(import, &"08".repeat(32)).code, 0);
    let terms = [
        "--prize",
        "0.001",
        "--balance",
        "10",
        "--tickets",
        "1000",
        "--rate",
        "1/2",
    ];
    world.json(&[&["escrow", "open", "raw", "--from", PAYER], &terms[..]].concat());
    let mut merchant = world.merchant(SHOP, &goods, &[]);
    let address = merchant.address();
    let quote_request = json!({ "type": "quote", "escrow": raw_key().address() });
    eventually("the escrow is known", || {
        Wire::to(address).ask(&quote_request)["type"] == "quote"
    });

    what_is_no_message(address, &quote_request);
    // Many connections that say nothing.
    let idle: Vec<_> = (0..200).map(|_| Wire::to(address)).collect();
    tickets_that_break_a_rule(&world, address, &quote_request);
    drop(idle);

    // Through all of this it has not stopped selling.
    let mut pay = world.pay(address, "copy");
    pay.args(["--at-once", "3"]);
    run(pay).json();
    assert!(std::fs::read(world.path("copy")).unwrap() == content);
    assert!(merchant.is_running());
    assert!(
        !merchant.log.lock().contains("panicked"),
        "{}",
        merchant.log.lock()
    );
}

fn what_is_no_message(address: SocketAddr, good: &Value) {
    // Lines that are no message: refused, and the connection goes on.
    let mut wire = Wire::to(address);
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let long_number = format!("{{\"type\":\"quote\",\"escrow\":{}}}", "9".repeat(5_000));
    for line in [
        "",
        "hello",
        "{}",
        "[]",
        "null",
        "{\"type\":\"dance\"}",
        "{\"type\":\"quote\"}",
        "{\"type\":\"quote\",\"escrow\":\"0x12\"}",
        "{\"type\":\"buy\",\"order\":\"0x00\",\"piece\":-1}",
        "{\"type\":\"catalog\"",
        "{\"type\":\"catalog\"} {}",
        "\u{0}\u{1}",
        "GET / HTTP/1.1\r",
        &nested,
        &long_number,
    ] {
        wire.send(format!("{line}\n").as_bytes());
        assert_refused(&wire.reply(), "malformed", "never");
        assert_eq!(wire.ask(good)["type"], "quote", "after {line:.40?}");
    }
    wire.send(b"\xff\xfe\x00\x80\n");
    assert_refused(&wire.reply(), "malformed", "never");

    // Too long a line: refused, and closed, as the rest of it is no message.
    let mut wire = Wire::to(address);
    wire.send(&vec![b'x'; 20_000]);
    assert_refused(&wire.reply(), "malformed", "never");
    assert!(wire.is_closed());
    // A gigabyte that never ends is not collected: the write fails long before.
    let mut wire = Wire::to(address);
    let flood = vec![b'['; 1 << 20];
    assert!((0..1_000).any(|_| wire.0.get_mut().write_all(&flood).is_err()));

    // Cut short, and closed from our side in every way.
    let mut wire = Wire::to(address);
    wire.send(b"{\"type\":\"cata");
    wire.0.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_refused(&wire.reply(), "malformed", "never");
    assert!(wire.is_closed());
    let mut wire = Wire::to(address);
    wire.send(b"{\"type\":\"catalog\"}\n{\"type\":\"catalog\"}\n");
    drop(wire); // nobody reads the answers
    let mut wire = Wire::to(address);
    let garbage: Vec<u8> = (0..8_000u32)
        .flat_map(|seed| keccak256(seed.to_be_bytes()).0)
        .collect();
    drop(wire.0.get_mut().write_all(&garbage)); // it may hang up in between
    drop(wire);

    // Two messages at once are two answers.
    let mut wire = Wire::to(address);
    wire.send(format!("{good}\n{good}\n").as_bytes());
    assert_eq!(
        (&wire.reply()["type"], &wire.reply()["type"]),
        (&json!("quote"), &json!("quote"))
    );
}

fn tickets_that_break_a_rule(world: &World, address: SocketAddr, quote_request: &Value) {
    let mut wire = Wire::to(address);
    let stranger = Address::repeat_byte(9);
    assert_refused(
        &wire.ask(&json!({ "type": "quote", "escrow": stranger })),
        "escrow-missing",
        "later",
    );
    let quote = wire.ask(quote_request)["quote"].clone();
    let buy = |wire: &mut Wire, order: u8, piece: u64, ticket: &Value| {
        wire.ask(
            &json!({ "type": "buy", "order": B256::repeat_byte(order), "piece": piece, "ticket": ticket }),
        )
    };
    // Terms are given as soon as the escrow is there, tickets taken once it is final.
    let other = EscrowKey::from_bytes(&[7; 32]).unwrap();
    let forged = ticket(world, &other, &quote, |_| {});
    eventually("the escrow is final", || {
        buy(&mut wire, 1, 0, &forged)["rule"] != "escrow-missing"
    });
    assert_refused(&buy(&mut wire, 1, 0, &forged), "wrong-signer", "never");
    let key = raw_key();
    let good = ticket(world, &key, &quote, |_| {});
    let with_signature = |signature: Vec<u8>| {
        let mut ticket = good.clone();
        ticket["signature"] = json!(Bytes::from(signature));
        ticket
    };
    let bytes = alloy::hex::decode(good["signature"].as_str().unwrap()).unwrap();

    assert_refused(&buy(&mut wire, 1, 20, &good), "piece-missing", "never");
    assert_refused(&buy(&mut wire, 1, u64::MAX, &good), "piece-missing", "never");
    let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse()
        .unwrap();
    let high_s = order - U256::from_be_slice(&bytes[32..64]);
    let high_s = [&bytes[..32], &high_s.to_be_bytes::<32>(), &[27 + 28 - bytes[64]]].concat();
    let bad_v = [&bytes[..64], &[29]].concat();
    for bad in [
        bytes[..64].to_vec(),
        [&bytes[..], &[0]].concat(),
        vec![],
        high_s,
        bad_v,
        vec![0; 65],
        vec![0xff; 65],
    ] {
        assert_refused(
            &buy(&mut wire, 1, 0, &with_signature(bad)),
            "signature-malformed",
            "never",
        );
    }
    type Change = fn(&mut bindings::ticket::Ticket);
    let rules: [(Change, &str, &str); 9] = [
        (
            |ticket| ticket.commitment = B256::repeat_byte(3),
            "commitment-unknown",
            "new-quote",
        ),
        (
            |ticket| ticket.recipient = Address::repeat_byte(3),
            "wrong-recipient",
            "new-quote",
        ),
        (
            |ticket| ticket.escrow = Address::repeat_byte(3),
            "escrow-missing",
            "later",
        ),
        (|ticket| ticket.nonce = 0, "nonce-not-above-floor", "new-quote"),
        (|ticket| ticket.nonce = u64::MAX, "nonce-not-below-cap", "later"),
        (|ticket| ticket.expiry = 1, "ticket-expires-too-soon", "new-quote"),
        (
            |ticket| ticket.expiry = u64::MAX,
            "ticket-lives-too-long",
            "new-quote",
        ),
        (
            |ticket| ticket.winThreshold = U256::MAX,
            "wrong-threshold",
            "new-quote",
        ),
        (
            |ticket| ticket.winThreshold -= U256::from(1),
            "wrong-threshold",
            "new-quote",
        ),
    ];
    for (change, rule, retry) in rules {
        let reply = buy(&mut wire, 1, 0, &ticket(world, &key, &quote, change));
        assert_refused(&reply, rule, retry);
        assert_eq!(
            reply["quote"].is_object(),
            retry == "new-quote",
            "fresh terms where they help: {reply}"
        );
    }

    // None of that has used up anything: the good ticket is good, once.
    let sold = buy(&mut wire, 1, 0, &good);
    assert_eq!(
        (&sold["type"], &sold["piece"]),
        (&json!("piece"), &json!(0)),
        "{sold}"
    );
    let again = buy(&mut wire, 1, 0, &good);
    assert_eq!(
        again["data"], sold["data"],
        "the same order and ticket: the same good"
    );
    assert_refused(&buy(&mut wire, 2, 1, &good), "nonce-seen", "never");
    // One ticket buys one piece, whatever order it comes with (found in review: it once bought the whole file).
    for piece in 1..20 {
        assert_refused(&buy(&mut wire, 1, piece, &good), "nonce-seen", "never");
    }
    let second = ticket(world, &key, &quote, |ticket| ticket.r2 = B256::repeat_byte(9));
    assert_refused(&buy(&mut wire, 1, 0, &second), "nonce-seen", "never");
}

/// More connections than there are places, all silent: they are closed in time, and who means to buy is served.
#[test]
fn silent_connections_take_no_place_for_long() {
    let world = World::ticking();
    let (goods, content) = world.goods(2 * 1024);
    world.open_escrow("10", 100);
    let mut merchant = world.merchant(SHOP, &goods, &[]);
    let address = merchant.address();
    eventually("the escrow is known", || {
        let quote = json!({ "type": "quote", "escrow": escrow_key().address() });
        Wire::to(address).ask(&quote)["type"] == "quote"
    });
    let idle: Vec<_> = (0..150).map(|_| Wire::to(address)).collect();
    run(world.pay(address, "bought")).json();
    assert!(std::fs::read(world.path("bought")).unwrap() == content);
    drop(idle);
}

/// A merchant that never ends its line gets no memory, and a catalog that does not add up no money.
#[test]
fn a_hostile_merchant_is_recognised_before_anything_is_paid() {
    let world = World::ticking();
    world.open_escrow("10", 100);
    let catalog = |pieces: u64, piece_bytes: u64| {
        let catalog = json!({
            "type": "catalog", "name": "x", "bytes": 2_048, "pieces": pieces, "pieceBytes": piece_bytes,
            "sha256": B256::ZERO, "recipient": world.shop(),
        });
        format!("{catalog}\n").into_bytes()
    };
    let answers = [
        ("bytes or more", vec![b'x'; 1 << 20]),
        ("catalog of 18446744073709551615 pieces", catalog(u64::MAX, 1_024)),
        ("catalog of 2 pieces of 1 bytes", catalog(2, 1)),
        ("cannot be read", b"<html>\n".to_vec()),
    ];
    for (words, answer) in answers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let merchant = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 64];
            let asked = stream.read(&mut question).unwrap();
            // The payer may hang up in the middle of it.
            let _ = stream.write_all(&answer);
            asked
        });
        let said = run(world.pay(address, "never"));
        assert_ne!(said.code, 0);
        let error = said.json_error(said.code);
        assert!(error.contains(words), "{error}");
        assert!(merchant.join().unwrap() > 0);
    }
    let orders = block_on(async {
        let store = world.payer_store().await;
        store.order_totals(None).await.unwrap().all().unwrap().count
    });
    assert_eq!(orders, 0, "no ticket was issued");
}
