//! Makes the seeds from what our own writers write: `cargo test -p micropay-gateway --features server --test decoders -- --ignored`.

use std::fs;

use alloy_primitives::{B256, U256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use micropay_gateway::wire::{
    Advice, Challenge, Payment, PaymentRequired, PaymentResponse, PaymentSignature, Problem, Resource,
};
use protocol::ticket::{Amount, EscrowKey, Nonce, Quote, Seconds, Ticket, Timestamp, WinThreshold};
use serde_json::json;

use super::checks::{challenge_key, domain, terms};

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
        payment: payment(),
        identifier: identifier.map(str::to_owned),
    };
    let challenge = Challenge::new(
        &challenge_key(),
        "127.0.0.1:8402",
        &terms(),
        "2027-01-15T08:10:00Z".into(),
    );
    let credential = |challenge: &Challenge| {
        let json =
            json!({ "challenge": challenge, "source": "did:pkh:eip155:31337:0x01", "payload": payment() });
        URL_SAFE_NO_PAD.encode(json.to_string())
    };
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
    let seeds: Vec<(&str, &str, String)> = vec![
        ("required", "good", required(vec![terms()]).header()),
        ("required", "bad-foreign", encode(&foreign)),
        (
            "required",
            "bad-truncated",
            required(vec![terms()]).header()[..300].to_owned(),
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
    for (name, file, bytes) in seeds {
        let folder = super::folder(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), bytes).unwrap();
    }
}
