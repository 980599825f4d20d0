//! Makes the seeds from what our own writers write: `cargo test -p micropay-gateway --features server --test decoders -- --ignored`.

use std::fs;

use alloy_primitives::{B256, U256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use micropay_gateway::wire::{
    Advice, Challenge, ChannelPayment, ChannelReceipt, CloseAnswer, CloseRequest, LastReceipt, LostPayment,
    OpenerAnswer, OpenerRequest, Payload, Payment, PaymentRequired, PaymentResponse, PaymentSignature,
    PaymentsRequest, Position, PositionAnswer, PositionRequest, Problem, Resource, Way,
};
use protocol::channel::{
    ChannelId, Index, ItemHash, Key, Lock, Sigma, SignedCheckpoint, Tag, Transcript, Word,
};
use protocol::ticket::{Amount, EscrowKey, Nonce, Quote, Seconds, Ticket, Timestamp, WinThreshold};
use serde_json::json;

use super::checks::{challenge_key, channel_domain, channel_terms, domain, terms};

fn payment() -> Payment {
    let key = EscrowKey::from_bytes(&[1; 32]).unwrap();
    let quote = Quote {
        recipient: terms().pay_to,
        commitment: terms().extra.commitment,
        asset: terms().asset,
        prize: Amount(4_000_000),
        win_threshold: WinThreshold(U256::MAX >> 2),
        price: Amount(1_000_000),
        ticket_life: Seconds::DAY,
        min_ticket_life: Seconds::HOUR,
        nonce_floor: Nonce(0),
    };
    let expiry = quote.expiry(Timestamp(1_800_000_000));
    Payment::from(&Ticket::issue(
        &domain(),
        &key,
        &quote,
        B256::repeat_byte(2),
        expiry,
        Nonce(1),
    ))
}

fn encode(json: &serde_json::Value) -> String {
    STANDARD.encode(json.to_string())
}

fn channel() -> ChannelId {
    ChannelId(B256::repeat_byte(0x11))
}

fn channel_key() -> Key {
    Key::from_bytes(&[2; 32]).unwrap()
}

fn channel_payment() -> protocol::channel::Payment {
    protocol::channel::Payment {
        channel: channel(),
        index: Index(64),
        word: Word(B256::repeat_byte(0x22)),
        item: ItemHash(B256::repeat_byte(0x33)),
        issued_at: Timestamp(1_800_000_000),
        lock: Lock([0x44; 64]),
        tag: Tag(B256::repeat_byte(0x55)),
    }
}

fn checkpoint() -> SignedCheckpoint {
    let fields = bindings::channel::Checkpoint {
        channelId: channel().0,
        index: 64,
        word: B256::repeat_byte(0x22),
        locksRoot: B256::repeat_byte(0x66),
    };
    let signature = channel_key().sign(channel_domain().checkpoint_digest(&fields));
    SignedCheckpoint { fields, signature }
}

/// Bodies about a channel, after the name of each.
fn channel_bodies() -> Vec<(&'static str, &'static str, String)> {
    let position = PositionRequest::new(&channel_key(), channel(), Timestamp(1_800_000_000));
    let (before, held) = (Transcript(B256::repeat_byte(0x77)), channel_payment());
    let last = LastReceipt::new(&held.receipt(), before, Index(64), (held.index, held.word));
    let answer = |last| PositionAnswer {
        channel_id: channel().0,
        last,
    };
    let signature = channel_key().sign(channel_domain().cooperative_close_digest(channel(), Index(64)));
    let sigma = Sigma::from(&signature).to_bytes().into();
    let opener = OpenerRequest { index: 64, sigma };
    let opened = OpenerAnswer {
        opened: 64,
        ends_in_sigma0: true,
    };
    let close = CloseRequest {
        index: 0,
        client_signature: signature.to_bytes().to_vec().into(),
    };
    let closed = CloseAnswer {
        index: 64,
        vendor_signature: signature.to_bytes().to_vec().into(),
    };
    let lost = LostPayment {
        order: B256::repeat_byte(0x88),
        payment: ChannelPayment::new(&channel_payment(), None),
    };
    let lost = PaymentsRequest { payments: vec![lost] };
    let body = |name: &str, json: serde_json::Value| format!("{name}\n{json}");
    let mut malleated = json!(opener);
    malleated["sigma"] = json!(format!("0x{}", "ff".repeat(64)));
    vec![
        ("channel_body", "good-position", body("position", json!(position))),
        (
            "channel_body",
            "good-position-answer",
            body("position-answer", json!(answer(Some(last)))),
        ),
        (
            "channel_body",
            "good-position-nothing",
            body("position-answer", json!(answer(None))),
        ),
        ("channel_body", "good-opener", body("opener", json!(opener))),
        ("channel_body", "bad-opener", body("opener", malleated)),
        (
            "channel_body",
            "good-opener-answer",
            body("opener-answer", json!(opened)),
        ),
        ("channel_body", "good-close", body("close", json!(close))),
        ("channel_body", "good-payments", body("payments", json!(lost))),
        (
            "channel_body",
            "good-close-answer",
            body("close-answer", json!(closed)),
        ),
        ("channel_body", "bad-name", body("closed", json!(close))),
    ]
}

/// A channel's payment, spoiled.
fn spoiled(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut json = json!({
        "x402Version": 2,
        "accepted": channel_terms(),
        "payload": ChannelPayment::new(&channel_payment(), None),
    });
    change(&mut json);
    encode(&json)
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn write_seeds() {
    let required = |accepts| PaymentRequired {
        error: "payment-required".into(),
        resource: Resource {
            url: "http://127.0.0.1:8402/v1/a".into(),
            description: Some("A completion".into()),
        },
        accepts,
    };
    let signature = |identifier: Option<&str>| PaymentSignature {
        payment: payment().into(),
        identifier: identifier.map(str::to_owned),
    };
    let by_channel = |checkpoint: Option<&SignedCheckpoint>| PaymentSignature {
        payment: ChannelPayment::new(&channel_payment(), checkpoint).into(),
        identifier: Some("call-0123456789abcdef".into()),
    };
    let channel_challenge = Challenge::new(
        &challenge_key(),
        "127.0.0.1:8402",
        &channel_terms(),
        "2027-01-15T08:10:00Z".into(),
    );
    let of_channel = PaymentResponse::of_channel(
        alloy_primitives::Address::repeat_byte(0xc1),
        &channel_domain(),
        1_000_000,
        ChannelReceipt::from(&channel_payment()),
    );
    let challenge = Challenge::new(
        &challenge_key(),
        "127.0.0.1:8402",
        &terms(),
        "2027-01-15T08:10:00Z".into(),
    );
    let credential_of = |challenge: &Challenge, payload: Payload| {
        let json =
            json!({ "challenge": challenge, "source": "did:pkh:eip155:31337:0x01", "payload": payload });
        URL_SAFE_NO_PAD.encode(json.to_string())
    };
    let credential = |challenge: &Challenge| credential_of(challenge, payment().into());
    let forged = Challenge {
        realm: "other.example".into(),
        ..challenge.clone()
    };
    let response = PaymentResponse::taken(&payment(), &domain(), B256::repeat_byte(9), 1_000_000, terms());
    let foreign = json!({ "x402Version": 2, "accepts": [
        { "scheme": "exact", "network": "eip155:8453", "amount": "1000", "asset": "0x00", "payTo": "0x00" }] });
    let problem = Problem::new(
        402,
        "wrong-threshold",
        Advice::NewNonce,
        "threshold is 1, the price is 2",
    );
    let at = Problem::new(402, "index-backwards", Advice::NewNonce, "index 3 is not above 3").at(Position {
        index: 3,
        tag: B256::repeat_byte(0x55),
    });
    let both: Vec<Way> = vec![terms().into(), channel_terms().into()];
    let mut many_banks = json!(channel_terms());
    many_banks["extra"]["banks"] = json!(vec![alloy_primitives::Address::ZERO; 5]);
    let many_banks = json!({ "x402Version": 2, "accepts": [many_banks] });
    let mut seeds: Vec<(&str, &str, String)> = vec![
        ("required", "good", required(vec![terms().into()]).header()),
        ("required", "good-both", required(both).header()),
        (
            "required",
            "good-channel",
            required(vec![channel_terms().into()]).header(),
        ),
        ("required", "bad-banks", encode(&many_banks)),
        (
            "signature",
            "good-channel",
            by_channel(None).header(&channel_terms()),
        ),
        (
            "signature",
            "good-checkpoint",
            by_channel(Some(&checkpoint())).header(&channel_terms()),
        ),
        (
            "signature",
            "bad-lock",
            spoiled(|json| json["payload"]["lock"] = json!(format!("0x{}", "44".repeat(63)))),
        ),
        (
            "signature",
            "bad-index",
            spoiled(|json| json["payload"]["index"] = json!(0)),
        ),
        (
            "signature",
            "bad-length",
            spoiled(|json| json["payload"]["index"] = json!((1 << 20) + 1)),
        ),
        (
            "signature",
            "bad-field",
            spoiled(|json| json["payload"]["sigma"] = json!("0x")),
        ),
        (
            "credential",
            "good-channel",
            credential_of(
                &channel_challenge,
                ChannelPayment::new(&channel_payment(), None).into(),
            ),
        ),
        (
            "credential",
            "bad-kind",
            credential_of(&channel_challenge, payment().into()),
        ),
        ("channel_response", "good", of_channel.header()),
        ("channel_response", "bad-ticket", response.header()),
        ("problem", "good-position", serde_json::to_string(&at).unwrap()),
        ("required", "bad-foreign", encode(&foreign)),
        (
            "required",
            "bad-truncated",
            required(vec![terms().into()]).header()[..300].to_owned(),
        ),
        ("signature", "good", signature(None).header(&terms())),
        (
            "signature",
            "good-named",
            signature(Some("call-0123456789abcdef")).header(&terms()),
        ),
        ("signature", "bad-name", signature(Some("short")).header(&terms())),
        ("credential", "good", credential(&challenge)),
        ("credential", "bad-realm", credential(&forged)),
        ("response", "good", response.header()),
        ("response", "bad-json", encode(&json!({ "success": true }))),
        ("pattern", "good-glob", "GET /v1/*\n/v1/a/b".into()),
        ("pattern", "good-regex", "* ~^/items/[0-9]+$\n/items/17".into()),
        (
            "pattern",
            "good-classes",
            "POST /{a,b}/[c-e]?/**/x\\*\n/a/c1/x*".into(),
        ),
        (
            "pattern",
            "bad-size",
            "* ~((((a{1,99}){1,99}){1,99}){1,99})\n/".into(),
        ),
        ("problem", "good", serde_json::to_string(&problem).unwrap()),
        (
            "problem",
            "bad-status",
            r#"{"type":"x","title":"x","status":99999,"detail":"","rule":"","retry":"stop"}"#.into(),
        ),
        ("path", "good", "/dear/a;v=1/%2561//B%2f".into()),
        ("path", "bad-dots", "/free/%2e%2e/dear/a".into()),
        ("path", "bad-control", "/free/a%0d%0a".into()),
        ("spelling", "good-plain", "\0".into()),
        (
            "spelling",
            "good-encoded",
            "\u{1}\u{0}\u{1}\u{2}\u{3}\u{4}\u{2}".into(),
        ),
        (
            "spelling",
            "good-slashes",
            "\u{4}\u{6}\u{4}\u{1}\u{2}\u{3}\u{7}\u{1}\u{8}\u{1}\u{9}".into(),
        ),
        ("spelling", "bad-nothing", String::new()),
    ];
    seeds.extend(channel_bodies());
    for (name, file, bytes) in seeds {
        let folder = super::folder(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), bytes).unwrap();
    }
}
