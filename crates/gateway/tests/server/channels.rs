//! Payments by channel: the path of a ticket, with words.

use http::Method;
use merchant::channel::{Accountability, VendorConfig};
use micropay_gateway::server::{Charge, Kinds};
use micropay_gateway::wire::{
    CHANNELS, CloseAnswer, CloseRequest, Contracts, OpenerAnswer, OpenerRequest, PAYMENT_SIGNATURE,
    PositionAnswer, PositionRequest, read_channel_body, read_channel_response, read_required,
};
use protocol::channel::{
    ClientChannel, Index, Lock, Payment, Signature, Timestamp, Word, recover, sign_cooperative_close,
};
use serde_json::{Value, json};
use storage::channel::VendorChannelStore;

use super::channel::{UNIT, channel_domain, client_key, policy, receipt_key, vendor_key};
use super::purse::{Purse, channel_payment_json};
use super::shop::{
    Answer, NOW, Setup, Shop, call, channel_shop, channel_shop_with, domain, encode, get, like, price, route,
    until,
};

/// Units that a call costs.
const UNITS: u32 = 4;

fn position(answer: &Answer) -> Value {
    let problem: Value = serde_json::from_str(&answer.text).unwrap();
    problem["position"].clone()
}

fn json_position(payment: &Payment) -> Value {
    json!({ "index": payment.index.0, "tag": payment.tag.0 })
}

async fn ask(shop: &Shop, channel: &str, what: &str, body: impl Into<Vec<u8>>) -> Answer {
    let path = format!("{CHANNELS}{channel}/{what}");
    shop.send(call(Method::POST, &path).body(body.into())).await
}

#[tokio::test]
async fn both_kinds_are_offered_and_a_word_buys() {
    let (shop, mut purse) = channel_shop().await;
    let asked = shop.send(get("/a")).await;
    let contracts = Contracts {
        ticket: Some(domain()),
        channel: Some(channel_domain()),
    };
    let offers = read_required(asked.header("payment-required"), contracts).unwrap();
    let (ticket, channel) = (offers.ticket.unwrap(), offers.channel.unwrap());
    assert_eq!(
        (ticket.amount, channel.amount),
        (price().price.0, price().price.0)
    );
    assert_eq!(channel.pay_to, vendor_key().address());
    assert!(channel.is_of(&channel_domain()));
    let challenges = asked.headers.get_all("www-authenticate").iter();
    let intents: Vec<_> = challenges
        .map(|value| {
            value
                .to_str()
                .unwrap()
                .split("intent=")
                .nth(1)
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(intents[0].starts_with("\"ticket\"") && intents[1].starts_with("\"channel\""));

    for (n, path) in ["/a", "/b?x=1&y=%20", "/c?"].into_iter().enumerate() {
        let payment = purse.pay(path, UNITS);
        let answer = shop.send(get(path).by_channel(&payment)).await;
        answer.sold(&format!("good of {path}"));
        let receipt = read_channel_response(answer.header("payment-response")).unwrap();
        assert_eq!(receipt.extra, (&payment).into());
        assert_eq!(
            (receipt.amount, receipt.payer),
            (price().price.0, client_key(0).address())
        );
        assert_eq!(answer.header("cache-control"), "private");
        purse.acknowledge(payment.tag);
        let sum = shop.gate.counters().channels();
        assert_eq!(
            (sum.payments, sum.revenue.0),
            (n as u64 + 1, (n as u128 + 1) * price().price.0)
        );
    }
    // Tickets are sold beside.
    shop.pay("/d", &shop.ticket()).await.sold("good of /d");
}

#[tokio::test]
async fn a_gateway_without_channels_says_nothing_of_them() {
    let shop = Shop::open().await;
    let asked = shop.send(get("/a")).await;
    assert_eq!(asked.headers.get_all("www-authenticate").iter().count(), 1);
    let offers = read_required(asked.header("payment-required"), &channel_domain()).unwrap();
    assert!(offers.is_empty());
    let payment = Purse::new(like(0)).pay("/a", UNITS);
    shop.send(get("/a").by_channel(&payment))
        .await
        .is(400, "payment-malformed");
    // Its addresses are the upstream's, and cost what they cost.
    let asked = ask(&shop, &like(0).id().to_string(), "position", "{}").await;
    asked.is(402, "payment-required");
    for path in ["/openapi.json", "/.well-known/x402", "/llms.txt"] {
        let document = shop.send(get(path)).await.text;
        assert!(!document.contains("channel"), "{path}: {document}");
    }
}

#[tokio::test]
async fn channels_are_in_the_documents() {
    let (shop, _) = channel_shop().await;
    let openapi: Value = serde_json::from_str(&shop.send(get("/openapi.json")).await.text).unwrap();
    for what in ["position", "opener", "close", "payments"] {
        let path = format!("{CHANNELS}{{channel}}/{what}");
        assert!(openapi["paths"][path]["post"].is_object(), "{what}");
    }
    let list: Value = serde_json::from_str(&shop.send(get("/.well-known/x402")).await.text).unwrap();
    let address = list["channels"]["position"].as_str().unwrap();
    assert!(address.ends_with("/.well-known/micropay/channels/{channel}/position"));
    assert_eq!(list["items"][0]["accepts"][1]["scheme"], "micropay-channel");
}

#[tokio::test]
async fn the_same_payment_again_gets_the_same_answer_and_no_other() {
    let (shop, mut purse) = channel_shop().await;
    let payment = purse.pay("/a", UNITS);
    for _ in 0..3 {
        shop.send(get("/a").by_channel(&payment)).await.sold("good of /a");
    }
    assert_eq!(shop.upstream.calls(), 1);
    shop.send(get("/b").by_channel(&payment))
        .await
        .is(409, "other-order");
    // Another body is another request, too.
    let paid = purse.pay_for("POST", "/echo", UNITS);
    assert_eq!(paid.index, Index(UNITS), "the first is not acknowledged");
    purse.acknowledge(payment.tag);
    let paid = purse.pay_for("POST", "/echo", UNITS);
    let post = |body: &'static str| call(Method::POST, "/echo").by_channel(&paid).body(body);
    shop.send(post("one")).await.sold("one");
    shop.send(post("one")).await.sold("one");
    shop.send(post("other")).await.is(409, "other-order");
    // Long after, too.
    purse.acknowledge(paid.tag);
    let next = purse.pay("/c", UNITS);
    shop.send(get("/c").by_channel(&next)).await.sold("good of /c");
    shop.send(get("/a").by_channel(&payment)).await.sold("good of /a");
    let elsewhere = shop.send(get("/b").by_channel(&payment)).await;
    assert_eq!(elsewhere.status, 409, "{elsewhere:?}");
    assert_eq!(shop.upstream.calls(), 3);
}

#[tokio::test]
async fn another_gateway_on_the_same_store_sells_nothing_twice_and_goes_on() {
    let (one, mut purse) = channel_shop().await;
    let setup = Setup {
        store: Some(one.merchant.store().clone()),
        ..Setup::default()
    };
    let (other, _) = channel_shop_with(setup).await;
    let mut last = None;
    for n in 0..6 {
        let (here, there) = if n % 2 == 0 {
            (&one, &other)
        } else {
            (&other, &one)
        };
        let path = format!("/{n}");
        let payment = purse.pay(&path, UNITS);
        here.send(get(&path).by_channel(&payment))
            .await
            .sold(&format!("good of {path}"));
        there
            .send(get(&path).by_channel(&payment))
            .await
            .is(410, "answer-not-kept");
        let elsewhere = there.send(get("/elsewhere").by_channel(&payment)).await;
        assert_eq!(elsewhere.status, 409, "{elsewhere:?}");
        purse.acknowledge(payment.tag);
        last = Some(payment);
    }
    assert_eq!(one.upstream.calls() + other.upstream.calls(), 6);
    let stored = one
        .merchant
        .store()
        .vendor_channel(purse.like.id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.highest.unwrap().payment, last.unwrap());
}

#[tokio::test]
async fn an_upstream_s_failure_consumes_nothing_and_its_word_pays_for_the_next() {
    let (shop, mut purse) = channel_shop().await;
    shop.upstream.fail(true);
    let failed = purse.pay("/flaky", UNITS);
    let answer = shop.send(get("/flaky").by_channel(&failed)).await;
    assert_eq!((answer.status, answer.text.as_str()), (500, "flaky good"));
    assert!(!answer.headers.contains_key("payment-response"));
    // Time-outs say what becomes of the word.
    let hangs = purse.pay("/hang", UNITS);
    assert_eq!(hangs.index, failed.index);
    let late = shop.send(get("/hang").by_channel(&hangs)).await;
    late.is(504, "upstream-timeout");
    assert!(late.text.contains("the word is kept"), "{}", late.text);
    // The same again is taken again; or another takes its place.
    shop.upstream.fail(false);
    let instead = purse.pay("/b", UNITS);
    assert_eq!((instead.index, instead.word), (failed.index, failed.word));
    shop.send(get("/b").by_channel(&instead)).await.sold("good of /b");
    let behind = shop.send(get("/flaky").by_channel(&failed)).await;
    behind.is(402, "index-backwards");
    assert_eq!(position(&behind), json_position(&instead));
    let sum = shop.gate.counters().channels();
    assert_eq!((sum.payments, sum.revenue), (1, price().price));
}

#[tokio::test]
async fn a_failed_payment_sent_again_is_taken_again() {
    let (shop, mut purse) = channel_shop().await;
    shop.upstream.fail(true);
    let payment = purse.pay("/flaky", UNITS);
    for _ in 0..3 {
        let answer = shop.send(get("/flaky").by_channel(&payment)).await;
        assert_eq!(answer.status, 500);
    }
    shop.upstream.fail(false);
    shop.send(get("/flaky").by_channel(&payment))
        .await
        .sold("flaky good");
    shop.send(get("/flaky").by_channel(&payment))
        .await
        .sold("flaky good");
    assert_eq!(shop.upstream.calls(), 4);
}

#[tokio::test]
async fn a_price_that_is_no_multiple_of_the_unit_costs_the_next_one() {
    let odd = Like300::like();
    let setup = Setup {
        channels: vec![odd],
        kinds: Kinds::ALL,
        ..Setup::default()
    };
    let shop = Shop::with(setup).await;
    let mut purse = Purse::new(odd);
    let short = purse.pay("/a", 3);
    let refused = shop.send(get("/a").by_channel(&short)).await;
    refused.is(402, "pays-too-little");
    assert!(refused.headers.contains_key("payment-required"));
    assert_eq!(position(&refused)["index"], 0);
    let enough = purse.pay("/a", 4);
    shop.send(get("/a").by_channel(&enough)).await.sold("good of /a");
    let long = {
        purse.acknowledge(enough.tag);
        purse.pay("/b", 5)
    };
    shop.send(get("/b").by_channel(&long))
        .await
        .is(402, "pays-too-much");
}

/// A unit of 300,000 where a call costs 1,000,000.
struct Like300;

impl Like300 {
    fn like() -> super::channel::Like {
        super::channel::Like {
            unit: protocol::channel::Amount(300_000),
            ..like(0)
        }
    }
}

#[tokio::test]
async fn two_at_once_take_turns_and_none_is_lost() {
    let (shop, mut purse) = channel_shop().await;
    let shop = std::sync::Arc::new(shop);
    let (first, second) = (purse.pay("/gate", UNITS), purse.pay("/b", UNITS));
    let slow = tokio::spawn({
        let shop = std::sync::Arc::clone(&shop);
        async move { shop.send(get("/gate").by_channel(&first)).await }
    });
    until(async || shop.upstream.under_way() == 1).await;
    let early = shop.send(get("/b").by_channel(&second)).await;
    early.is(409, "in-progress");
    assert_eq!(early.header("retry-after"), "1");
    shop.send(get("/gate").by_channel(&first))
        .await
        .is(409, "in-progress");
    shop.upstream.go_on();
    slow.await.unwrap().sold("went on");
    let behind = shop.send(get("/b").by_channel(&second)).await;
    behind.is(402, "index-backwards");
    assert_eq!(position(&behind), json_position(&first));
    purse.acknowledge(first.tag);
    let again = purse.pay("/b", UNITS);
    shop.send(get("/b").by_channel(&again)).await.sold("good of /b");
}

#[tokio::test]
async fn payments_never_reach_the_upstream() {
    let (shop, mut purse) = channel_shop().await;
    let payment = purse.pay("/headers", UNITS);
    let answer = shop.send(get("/headers").by_channel(&payment)).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text.contains("payment-signature"), "{}", answer.text);
    purse.acknowledge(payment.tag);
    // Nor can the upstream speak of them.
    let payment = purse.pay("/spoof", UNITS);
    let answer = shop.send(get("/spoof").by_channel(&payment)).await;
    let receipts = answer.headers.get_all("payment-response").iter();
    assert_eq!(receipts.count(), 1);
    assert!(read_channel_response(answer.header("payment-response")).is_ok());
}

#[tokio::test]
async fn the_payment_scheme_pays_by_channel_too() {
    let (shop, mut purse) = channel_shop().await;
    let asked = shop.send(get("/a")).await;
    let challenge = asked.headers.get_all("www-authenticate").iter().nth(1).unwrap();
    let challenge: serde_json::Map<String, Value> = challenge
        .to_str()
        .unwrap()
        .trim_start_matches("Payment ")
        .split(", ")
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), json!(value.trim_matches('"')))
        })
        .collect();
    let payment = purse.pay("/a", UNITS);
    let payload = &channel_payment_json(&payment, None)["payload"];
    let token = encode(&json!({ "challenge": challenge, "payload": payload }));
    let paid = get("/a").header("authorization", format!("Payment {token}"));
    let answer = shop.send(paid).await;
    answer.sold("good of /a");
    let receipt = {
        use base64::Engine;
        let receipt =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(answer.header("payment-receipt"));
        serde_json::from_slice::<Value>(&receipt.unwrap()).unwrap()
    };
    assert_eq!(receipt["reference"], json!(payment.tag.0));
    assert_eq!(
        receipt["extra"],
        json!({
            "channel": payment.channel.0, "index": payment.index.0, "tag": payment.tag.0,
        })
    );
}

#[tokio::test]
async fn a_route_takes_the_kinds_that_it_names() {
    let mut by_ticket = route("* /ticket", Charge::Price(price()));
    by_ticket.kinds = Kinds::TICKET;
    let mut by_channel = route("* /channel", Charge::Price(price()));
    by_channel.kinds = Kinds::CHANNEL;
    let setup = Setup {
        routes: vec![by_ticket, by_channel],
        ..Setup::default()
    };
    let (shop, mut purse) = channel_shop_with(setup).await;
    let payment = purse.pay("/ticket", UNITS);
    let refused = shop.send(get("/ticket").by_channel(&payment)).await;
    refused.is(402, "kind-not-taken");
    assert_eq!(refused.headers.get_all("www-authenticate").iter().count(), 1);
    assert!(!refused.header("www-authenticate").contains("intent=\"channel\""));
    let refused = shop.pay("/channel", &shop.ticket()).await;
    refused.is(402, "kind-not-taken");
    assert!(refused.header("www-authenticate").contains("intent=\"channel\""));
    // It was never judged, so that it can pay elsewhere.
    let payment = purse.pay("/channel", UNITS);
    shop.send(get("/channel").by_channel(&payment))
        .await
        .sold("good of /channel");
}

// ── hostile payers ──

#[tokio::test]
async fn attack_a_garbage_lock_is_worth_its_money_all_the_same() {
    let (shop, mut purse) = channel_shop().await;
    let payment = Payment {
        lock: Lock([0xaa; 64]),
        ..purse.pay("/a", UNITS)
    };
    shop.send(get("/a").by_channel(&payment)).await.sold("good of /a");
    let stored = shop
        .merchant
        .store()
        .vendor_channel(purse.like.id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.highest.unwrap().payment.index, Index(UNITS));
}

#[tokio::test]
async fn attack_what_no_vendor_takes_is_refused_and_changes_nothing() {
    let vendor = vendor_key().address();
    let foreign = super::channel::Like::to(alloy_primitives::Address::repeat_byte(9), 2, NOW);
    let late = super::channel::Like {
        expiry: Timestamp(NOW.0 + policy().margin.0 - 1),
        ..super::channel::Like::to(vendor, 3, NOW)
    };
    let unknown = super::channel::Like::to(vendor, 4, NOW);
    let setup = Setup {
        kinds: Kinds::ALL,
        channels: vec![like(0), foreign, late],
        vendor: VendorConfig {
            policy: protocol::channel::Policy {
                max_jump: 64,
                ..policy()
            },
            ..VendorConfig::default()
        },
        ..Setup::default()
    };
    let shop = Shop::with(setup).await;
    let pays = |like| Purse::new(like).pay("/a", UNITS);
    let good = pays(like(0));
    let cases = [
        ("channel-missing", 402, pays(unknown)),
        ("wrong-vendor", 402, pays(foreign)),
        ("too-late", 402, pays(late)),
        ("wrong-item", 409, Purse::new(like(0)).pay("/b", UNITS)),
        (
            "past-length",
            402,
            Payment {
                index: Index(super::channel::LENGTH.0 + 1),
                ..good
            },
        ),
        ("pays-too-much", 402, Purse::new(like(0)).pay("/a", 4_000)),
        (
            "word-not-in-chain",
            402,
            Payment {
                word: Word(alloy_primitives::B256::repeat_byte(1)),
                ..good
            },
        ),
    ];
    for (rule, status, payment) in cases {
        let answer = shop.send(get("/a").by_channel(&payment)).await;
        answer.is(status, rule);
        assert_eq!(
            answer.headers.contains_key("payment-required"),
            status == 402,
            "{rule}"
        );
    }
    assert_eq!(shop.upstream.calls(), 0);
    assert_eq!(shop.gate.counters().channels().payments, 0);
    shop.send(get("/a").by_channel(&good)).await.sold("good of /a");
}

#[tokio::test]
async fn attack_malformed_payments_are_400() {
    let (shop, mut purse) = channel_shop().await;
    let payment = purse.pay("/a", UNITS);
    let spoiled = |change: fn(&mut Value)| {
        let mut json = channel_payment_json(&payment, None);
        change(&mut json["payload"]);
        encode(&json)
    };
    let cases = [
        spoiled(|payload| payload["index"] = json!(0)),
        spoiled(|payload| payload["index"] = json!(u64::MAX)),
        spoiled(|payload| payload["index"] = json!(-1)),
        spoiled(|payload| payload["index"] = json!((1 << 20) + 1)),
        spoiled(|payload| payload["lock"] = json!("0x12")),
        spoiled(|payload| payload["lock"] = json!("0x".to_owned() + &"zz".repeat(64))),
        spoiled(|payload| payload["lock"] = json!("0x".to_owned() + &"00".repeat(65))),
        spoiled(|payload| payload["word"] = json!(null)),
        spoiled(|payload| payload["tag"] = json!("0x")),
        spoiled(|payload| payload["issuedAt"] = json!("1e3")),
        spoiled(|payload| payload["more"] = json!(1)),
        spoiled(|payload| payload["checkpoint"] = json!({ "index": 1 })),
        spoiled(|payload| *payload = json!([])),
        spoiled(|payload| payload["lock"] = json!("0x".to_owned() + &"00".repeat(20_000))),
    ];
    for (n, header) in cases.into_iter().enumerate() {
        let answer = shop.send(get("/a").header(PAYMENT_SIGNATURE, header)).await;
        assert_eq!(
            (answer.status, answer.rule()),
            (400, "payment-malformed".into()),
            "{n}"
        );
    }
    assert_eq!(shop.upstream.calls(), 0);
    shop.send(get("/a").by_channel(&payment)).await.sold("good of /a");
}

#[tokio::test]
async fn attack_a_stranger_s_words_do_not_disturb_a_channel() {
    let (shop, mut purse) = channel_shop().await;
    for n in 0..20 {
        let path = format!("/{n}");
        let payment = purse.pay(&path, UNITS);
        let forged = Payment {
            word: Word(super::channel::hash("forged", n)),
            tag: protocol::channel::Tag(super::channel::hash("forged tag", n)),
            ..payment
        };
        shop.send(get(&path).by_channel(&forged))
            .await
            .is(402, "word-not-in-chain");
        shop.send(get(&path).by_channel(&payment))
            .await
            .sold(&format!("good of {path}"));
        purse.acknowledge(payment.tag);
    }
}

#[tokio::test]
async fn checkpoints_come_along_and_are_asked_for_where_they_must() {
    let setup = Setup {
        vendor: VendorConfig {
            policy: policy(),
            accountability: Accountability::Required { every: 8 },
            ..VendorConfig::default()
        },
        ..Setup::default()
    };
    let (shop, mut purse) = channel_shop_with(setup).await;
    let mut receipts = Vec::new();
    for path in ["/a", "/b"] {
        let payment = purse.pay(path, UNITS);
        shop.send(get(path).by_channel(&payment))
            .await
            .sold(&format!("good of {path}"));
        purse.acknowledge(payment.tag);
        receipts.push(payment.receipt());
    }
    let payment = purse.pay("/c", UNITS);
    let due = shop.send(get("/c").by_channel(&payment)).await;
    due.is(402, "checkpoint-due");
    // One that does not commit to the locks will not do.
    let bare = encode(&channel_payment_json(&payment, Some(&purse.checkpoint())));
    let refused = shop.send(get("/c").header(PAYMENT_SIGNATURE, bare)).await;
    assert_eq!(refused.status, 402, "{refused:?}");
    let root = protocol::channel::LockTree::over(&receipts, Index::ZERO)
        .unwrap()
        .root();
    let signed = purse.checkpoint_over(root);
    let header = encode(&channel_payment_json(&payment, Some(&signed)));
    shop.send(get("/c").header(PAYMENT_SIGNATURE, header))
        .await
        .sold("good of /c");
}

// ── beside payments ──

#[tokio::test]
async fn a_client_that_lost_its_store_learns_where_it_stands() {
    let (shop, mut purse) = channel_shop().await;
    let id = purse.like.id();
    let asked = |signer: u64, at: u64| {
        let request = PositionRequest::new(&receipt_key(signer), id, Timestamp(at));
        serde_json::to_vec(&request).unwrap()
    };
    let nothing = ask(&shop, &id.to_string(), "position", asked(0, NOW.0)).await;
    let nothing: PositionAnswer = read_channel_body(nothing.text.as_bytes()).unwrap();
    assert_eq!(nothing.last, None);
    for path in ["/a", "/b"] {
        let payment = purse.pay(path, UNITS);
        shop.send(get(path).by_channel(&payment))
            .await
            .sold(&format!("good of {path}"));
        purse.acknowledge(payment.tag);
    }
    let answer = ask(&shop, &id.to_string(), "position", asked(0, NOW.0 + 299)).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    let answer: PositionAnswer = read_channel_body(answer.text.as_bytes()).unwrap();
    let last = answer.last.unwrap();
    assert_eq!((last.held.index, last.accounted), (2 * UNITS, 0));
    let terms = vec![purse.like.admitted()];
    let recovered = ClientChannel::recover(&channel_domain(), &receipt_key(0), terms, Some(last.parts()));
    assert_eq!(recovered.unwrap().acknowledged(), purse.channel.acknowledged());

    let who = |answer: Answer| (answer.status, answer.rule());
    let id = id.to_string();
    assert_eq!(
        who(ask(&shop, &id, "position", asked(1, NOW.0)).await),
        (403, "wrong-signer".into())
    );
    for at in [NOW.0 - 301, NOW.0 + 301, 0, u64::MAX] {
        assert_eq!(
            who(ask(&shop, &id, "position", asked(0, at)).await),
            (400, "request-stale".into())
        );
    }
    assert_eq!(
        who(ask(&shop, &id, "position", "{").await),
        (400, "request-malformed".into())
    );
    assert_eq!(
        who(ask(&shop, &id, "position", vec![b' '; 5_000]).await),
        (413, "body-too-large".into())
    );
    let other = like(7).id().to_string();
    assert_eq!(
        who(ask(&shop, &other, "position", asked(0, NOW.0)).await),
        (404, "channel-missing".into())
    );
    assert_eq!(
        who(ask(&shop, "0x12", "position", "").await),
        (404, "no-such-question".into())
    );
    assert_eq!(
        who(ask(&shop, &id, "anything", "").await),
        (404, "no-such-question".into())
    );
    let path = format!("{CHANNELS}{id}/position");
    assert_eq!(who(shop.send(get(&path)).await), (405, "method-not-taken".into()));
    assert_eq!(shop.upstream.calls(), 2, "none of this is the upstream's");
}

#[tokio::test]
async fn receipts_are_opened_down_to_the_bank_and_by_nobody_else() {
    let (shop, mut purse) = channel_shop().await;
    let id = purse.like.id().to_string();
    for n in 0..5 {
        let path = format!("/{n}");
        let payment = purse.pay(&path, UNITS);
        shop.send(get(&path).by_channel(&payment))
            .await
            .sold(&format!("good of {path}"));
        purse.acknowledge(payment.tag);
    }
    let request = OpenerRequest::from(&purse.channel.opener());
    let mut forged = request.clone();
    forged.index = UNITS;
    let forged = ask(&shop, &id, "opener", serde_json::to_vec(&forged).unwrap()).await;
    assert_eq!((forged.status, forged.rule()), (403, "not-the-opener".into()));
    let opened = ask(&shop, &id, "opener", serde_json::to_vec(&request).unwrap()).await;
    let opened: OpenerAnswer = read_channel_body(opened.text.as_bytes()).unwrap();
    assert_eq!((opened.opened, opened.ends_in_sigma0), (5, true));
}

#[tokio::test]
async fn both_close_together_and_nothing_is_taken_from_then_on() {
    let (shop, mut purse) = channel_shop().await;
    let id = purse.like.id();
    let payment = purse.pay("/a", UNITS);
    shop.send(get("/a").by_channel(&payment)).await.sold("good of /a");
    purse.acknowledge(payment.tag);
    let admitted = purse.like.admitted();
    let request = |key: protocol::channel::Key, index: u32| {
        let half = sign_cooperative_close(&channel_domain(), &key, admitted.permit(), Index(index));
        let request = CloseRequest {
            index,
            client_signature: half.to_bytes().to_vec().into(),
        };
        serde_json::to_vec(&request).unwrap()
    };
    let id_text = id.to_string();
    let stranger = ask(&shop, &id_text, "close", request(client_key(1), UNITS)).await;
    assert_eq!((stranger.status, stranger.rule()), (403, "wrong-signer".into()));
    let below = ask(&shop, &id_text, "close", request(client_key(0), UNITS - 1)).await;
    assert_eq!((below.status, below.rule()), (409, "close-below-taken".into()));
    let closed = ask(&shop, &id_text, "close", request(client_key(0), UNITS)).await;
    let closed: CloseAnswer = read_channel_body(closed.text.as_bytes()).unwrap();
    let half = Signature::from_bytes(&closed.vendor_signature).unwrap();
    let digest = channel_domain().cooperative_close_digest(id, Index(UNITS));
    assert_eq!(recover(digest, &half).unwrap().address(), vendor_key().address());
    let payment = purse.pay("/b", UNITS);
    shop.send(get("/b").by_channel(&payment))
        .await
        .is(402, "channel-closed");
    assert_eq!(UNIT.0 * u128::from(UNITS), price().price.0);
}

// ── kills ──

/// A process that dies between the store and the good: its successor delivers to the same request, and to no other.
#[tokio::test]
async fn a_word_that_was_stored_is_good_for_its_request_after_a_kill() {
    let (shop, mut purse) = channel_shop().await;
    let shop = std::sync::Arc::new(shop);
    let payment = purse.pay("/gate", UNITS);
    let cut = tokio::spawn({
        let shop = std::sync::Arc::clone(&shop);
        async move { shop.send(get("/gate").by_channel(&payment)).await }
    });
    until(async || shop.upstream.under_way() == 1).await;
    // Nobody says what came of it.
    let setup = Setup {
        store: Some(shop.merchant.store().clone()),
        ..Setup::default()
    };
    let (next, _) = channel_shop_with(setup).await;
    next.send(get("/b").by_channel(&payment))
        .await
        .is(409, "other-order");
    let other = purse.pay("/b", UNITS);
    let behind = next.send(get("/b").by_channel(&other)).await;
    behind.is(402, "index-backwards");
    assert_eq!(position(&behind), json_position(&payment));
    next.upstream.go_on();
    next.send(get("/gate").by_channel(&payment)).await.sold("went on");
    cut.abort();
    purse.acknowledge(payment.tag);
    let other = purse.pay("/b", UNITS);
    next.send(get("/b").by_channel(&other)).await.sold("good of /b");
}

#[tokio::test]
async fn a_channel_goes_on_after_a_restart() {
    let (shop, mut purse) = channel_shop().await;
    let store = shop.merchant.store().clone();
    let mut shop = shop;
    for n in 0..4 {
        let path = format!("/{n}");
        let payment = purse.pay(&path, UNITS);
        shop.send(get(&path).by_channel(&payment))
            .await
            .sold(&format!("good of {path}"));
        purse.acknowledge(payment.tag);
        let setup = Setup {
            store: Some(store.clone()),
            ..Setup::default()
        };
        shop = channel_shop_with(setup).await.0;
        shop.send(get(&path).by_channel(&payment))
            .await
            .is(410, "answer-not-kept");
    }
}
