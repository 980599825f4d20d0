//! The bank over HTTP: what it permits, what it refuses, and what it withstands.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256};
use micropay_services::CallError;
use micropay_services::bank::{
    Policy,
    client::ClientError,
    http::{Limits, OPENAPI, ROUTES},
};
use protocol::channel::{AdmitPolicy, AdmitRequest, Amount, Domain, Index, Signature, Timestamp, Word};
use storage::{MemoryStore, StoreIdentity, channel::ChannelDomainStore};
use support::{Book, NOW, Running, body, channel, client, domain, key, rule, store, terms, vendor};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

async fn memory() -> MemoryStore {
    let domain = domain();
    let bank = key("bank").address();
    let store = MemoryStore::new(StoreIdentity::bank(domain.chain_id(), domain.contract(), bank));
    store.use_channels(domain).await.unwrap();
    store
}

/// For tests that ask often.
fn free() -> Limits {
    Limits {
        per_ip: None,
        ..Limits::default()
    }
}

async fn bank(book: &Book, policy: Policy) -> Running<MemoryStore, Book> {
    Running::start(memory().await, book.clone(), policy, free()).await
}

fn asked(terms: AdmitRequest) -> micropay_services::bank::wire::PermitBody {
    body(terms, &client(), NOW, &domain())
}

fn sign(digest: B256) -> Result<Signature, std::convert::Infallible> {
    Ok(client().sign(digest))
}

#[tokio::test]
async fn permit_is_signed_once_and_given_again_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::new();
    let sqlite = store(folder.path()).await;
    let running = Running::start(sqlite.clone(), book.clone(), Policy::default(), free()).await;
    let bank_key = key("bank").address();
    let granted = running
        .caller()
        .permit(terms("a"), NOW, bank_key, sign)
        .await
        .unwrap();
    assert_eq!((granted.generation, granted.epoch), (0, 0));
    let permit = granted.admitted.permit();
    assert_eq!(
        (permit.channel(), permit.issued_at()),
        (channel(&terms("a")), NOW)
    );
    running.stop().await;
    sqlite.close().await.unwrap();
    // After a restart, at another time, with another reputation: what was signed stays signed.
    book.set_reputation(client().address(), 0);
    let sqlite = store(folder.path()).await;
    let running = Running::start(sqlite, book.clone(), Policy::default(), free()).await;
    let reads = book.reads();
    let later = Timestamp(NOW.0 + 200);
    let again = running.caller().permit(terms("a"), later, bank_key, sign).await;
    assert_eq!(again.unwrap(), granted);
    assert_eq!(book.reads(), reads, "and no node was asked");
    let (status, answer) = running.ask(&asked(terms("a"))).await;
    assert_eq!(status, 200);
    let place = format!("/v1/permits/{}", channel(&terms("a")));
    assert_eq!(
        running.get(&place).await,
        (200, serde_json::json!({ "permits": [answer] }))
    );
    assert_eq!(
        running.caller().permits(channel(&terms("a"))).await.unwrap(),
        [granted]
    );
    let (status, problem) = running
        .get(&format!("/v1/permits/{}", channel(&terms("b"))))
        .await;
    assert_eq!((status, rule(&problem)), (404, "permit-missing"));
}

#[tokio::test]
async fn reputation_49_50_51() {
    let book = Book::new();
    let running = bank(&book, Policy::default()).await;
    for (n, reputation) in [(0, 49), (1, 50), (2, 51)] {
        for (m, party) in [(0, client().address()), (1, vendor())] {
            book.set_reputation(client().address(), 50);
            book.set_reputation(vendor(), 50);
            book.set_reputation(party, reputation);
            let (status, answer) = running.ask(&asked(terms(&format!("{n} {m}")))).await;
            if reputation < 50 {
                assert_eq!((status, rule(&answer)), (403, "reputation-too-low"));
                assert_eq!((&answer["got"], &answer["needed"]), (&"49".into(), &"50".into()));
                assert!(answer["detail"].as_str().unwrap().contains(&party.to_string()));
            } else {
                assert_eq!(status, 201);
                let signed = [
                    &answer["permit"]["clientReputation"],
                    &answer["permit"]["vendorReputation"],
                ];
                assert_eq!(*signed[m], reputation);
                assert_eq!(*signed[1 - m], 50);
            }
            let told = running.caller().reputation(party).await.unwrap();
            let expected = (reputation, 50, reputation >= 50);
            assert_eq!((told.reputation, told.needed, told.admitted), expected);
        }
    }
}

/// Nobody else, at no other time, for no other contract, and nothing but what was signed.
#[tokio::test]
async fn attack_request_of_another_is_refused() {
    let book = Book::new();
    let running = bank(&book, Policy::default()).await;
    let other_chain = Domain::new(1, domain().contract());
    let other_contract = Domain::new(31337, Address::ZERO);
    let mut changed = asked(terms("a"));
    changed.anchor = B256::repeat_byte(1);
    let mut salted = asked(terms("a"));
    salted.salt = B256::repeat_byte(1);
    for (body, expected) in [
        (body(terms("a"), &key("mallory"), NOW, &domain()), "wrong-signer"),
        (body(terms("a"), &client(), NOW, &other_chain), "wrong-signer"),
        (body(terms("a"), &client(), NOW, &other_contract), "wrong-signer"),
        (changed, "wrong-signer"),
        (salted, "wrong-signer"),
        (
            body(terms("a"), &client(), Timestamp(NOW.0 - 301), &domain()),
            "request-out-of-time",
        ),
        (
            body(terms("a"), &client(), Timestamp(NOW.0 + 301), &domain()),
            "request-out-of-time",
        ),
    ] {
        let (status, problem) = running.ask(&body).await;
        assert_eq!((status, rule(&problem)), (401, expected));
        assert!(problem["got"].is_string() && problem["needed"].is_string());
    }
    assert_eq!(book.reads(), 0, "no node was asked for them");
    // The malleated twin of the signature.
    let mut twin = asked(terms("a"));
    let mut bytes = twin.signature.to_vec();
    let order = alloy_primitives::U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let high = order - alloy_primitives::U256::from_be_slice(&bytes[32..64]);
    bytes[32..64].copy_from_slice(&high.to_be_bytes::<32>());
    bytes[64] ^= 27 ^ 28;
    twin.signature = bytes.into();
    let (status, problem) = running.ask(&twin).await;
    assert_eq!((status, rule(&problem)), (400, "bad-signature"));
}

#[tokio::test]
async fn attack_malformed_requests_are_told_what_is_wrong() {
    let running = bank(&Book::new(), Policy::default()).await;
    let good = serde_json::to_value(asked(terms("a"))).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("salt");
    for body in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        "[".repeat(4000),
        without.to_string(),
        with("more", 1.into()),
        with("unit", 10.into()),
        with("unit", "010".into()),
        with("unit", "+1".into()),
        with("unit", "-1".into()),
        with("unit", "".into()),
        with("unit", "340282366920938463463374607431768211456".into()),
        with("length", 4_294_967_296_u64.into()),
        with("length", "1".into()),
        with("expiry", (-1).into()),
        with("client", "0x00".into()),
        with("client", serde_json::Value::Null),
    ] {
        let (status, problem) = running.post(body.clone()).await;
        assert_eq!((status, rule(&problem)), (400, "malformed-request"), "{body}");
    }
    for signature in ["0x", "0x00", &format!("0x{}", "00".repeat(65))] {
        let (status, problem) = running.post(with("signature", signature.into())).await;
        assert_eq!((status, rule(&problem)), (400, "bad-signature"), "{signature}");
    }
    for size in [8 * 1024 + 1, 1 << 20] {
        let (status, problem) = running.post(" ".repeat(size)).await;
        assert_eq!((status, rule(&problem)), (413, "body-too-large"));
    }
    for media in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
    ] {
        let (status, problem) = running
            .send("POST", "/v1/permits", media, good.to_string().into())
            .await;
        assert_eq!((status, rule(&problem)), (415, "wrong-media-type"));
    }
    for (method, path, status, expected) in [
        ("DELETE", "/v1/permits", 405, "method-not-allowed"),
        ("POST", "/v1/bank", 405, "method-not-allowed"),
        ("GET", "/", 404, "not-found"),
        ("GET", "/v1/permits/0x00", 400, "malformed-request"),
        ("GET", "/v1/permits/%ff", 400, "malformed-request"),
        ("GET", "/v1/reputation/bank", 400, "malformed-request"),
    ] {
        let answer = running.send(method, path, None, reqwest::Body::default()).await;
        assert_eq!((answer.0, rule(&answer.1)), (status, expected), "{method} {path}");
    }
    let json = Some("application/json; charset=utf-8");
    let answer = running
        .send("POST", "/v1/permits", json, good.to_string().into())
        .await;
    assert_eq!(answer.0, 201);
}

/// However many ask at the same time, and whatever happens in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_two_permits_for_one_channel_raced() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::new();
    let mut given = BTreeSet::new();
    for round in 0..2 {
        let sqlite = store(folder.path()).await;
        let policy = Policy {
            permits_per_hour: None,
            ..Policy::default()
        };
        let running = Running::start(sqlite.clone(), book.clone(), policy, free()).await;
        let mut tasks = JoinSet::new();
        for n in 0..50 {
            let caller = running.caller();
            let terms = AdmitRequest {
                length: Index(100 + 50 * round + n),
                ..terms("a")
            };
            tasks.spawn(async move { caller.permit(terms, NOW, key("bank").address(), sign).await });
        }
        let mut refused = 0;
        while let Some(answer) = tasks.join_next().await {
            match answer.unwrap() {
                Ok(granted) => {
                    given.insert(granted.admitted.signature().to_bytes().to_vec());
                }
                Err(ClientError::Call(CallError::Refused(problem))) if problem.rule == "permit-exists" => {
                    assert_eq!(problem.status, 409);
                    assert!(problem.got.is_some() && problem.needed.is_some());
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((given.len(), refused), (1, 49 + u32::from(round == 1)));
        running.stop().await;
        sqlite.close().await.unwrap();
    }
}

#[tokio::test]
async fn policy_refuses_with_both_values() {
    let book = Book::new();
    let policy = Policy {
        admit: AdmitPolicy {
            max_length: Index(200),
            max_unit: Amount(1000),
            ..AdmitPolicy::default()
        },
        assets: Some(vec![Address::ZERO]),
        vendors: Some(vec![vendor(), key("vendor 2").address()]),
        min_unit: Amount(2),
        max_deposit: Amount(50_000),
        permits_per_hour: Some(2),
    };
    let running = bank(&book, policy).await;
    let a = terms("a");
    for (terms, expected) in [
        (AdmitRequest { asset: vendor(), ..a }, "asset-not-accepted"),
        (
            AdmitRequest {
                vendor: key("vendor 3").address(),
                ..a
            },
            "vendor-not-accepted",
        ),
        (AdmitRequest { unit: Amount(1), ..a }, "unit-out-of-range"),
        (
            AdmitRequest {
                unit: Amount(1001),
                length: Index(1),
                ..a
            },
            "unit-out-of-range",
        ),
        (
            AdmitRequest {
                length: Index(0),
                ..a
            },
            "length-out-of-range",
        ),
        (
            AdmitRequest {
                length: Index(201),
                ..a
            },
            "length-out-of-range",
        ),
        (
            AdmitRequest {
                unit: Amount(501),
                ..a
            },
            "deposit-too-large",
        ),
        (
            AdmitRequest {
                unit: Amount(u128::MAX),
                ..a
            },
            "deposit-too-large",
        ),
        (AdmitRequest { expiry: NOW, ..a }, "expiry-out-of-range"),
        (
            AdmitRequest {
                expiry: Timestamp(u64::MAX),
                ..a
            },
            "expiry-out-of-range",
        ),
        (
            AdmitRequest {
                receipt_key: Address::ZERO,
                ..a
            },
            "receipt-key-zero",
        ),
    ] {
        let (status, problem) = running.ask(&asked(terms)).await;
        assert_eq!((status, rule(&problem)), (403, expected), "{problem}");
        assert!(
            problem["got"].is_string() || expected == "receipt-key-zero",
            "{problem}"
        );
    }
    for (name, expected) in [("a", 201), ("b", 201), ("a", 200), ("c", 429)] {
        let (status, answer) = running.ask(&asked(terms(name))).await;
        assert_eq!(status, expected, "{answer}");
        if status == 429 {
            assert_eq!(
                (rule(&answer), &answer["retry"]),
                ("too-many-permits", &true.into())
            );
        }
    }
    let about = running.caller().about().await.unwrap();
    assert_eq!(about.policy.max_deposit, 50_000);
    assert_eq!(
        (about.policy.max_length, about.policy.vendors_listed),
        (200, true)
    );
    assert_eq!((about.key, about.epoch), (key("bank").address(), 0));
}

/// A key that the contract does not know signs nothing; what the old one signed is still given to whom it was given.
#[tokio::test]
async fn key_rotation_by_epoch() {
    let book = Book::new();
    let running = bank(&book, Policy::default()).await;
    let caller = running.caller();
    let (old, new) = (key("bank").address(), key("bank 2").address());
    let first = caller.permit(terms("a"), NOW, old, sign).await.unwrap();
    book.set_signer(new, 1);
    let (status, problem) = running.ask(&asked(terms("b"))).await;
    assert_eq!((status, rule(&problem)), (503, "key-superseded"));
    assert_eq!(
        (&problem["got"], &problem["needed"]),
        (&old.to_string().into(), &new.to_string().into())
    );
    running.bank.rotate(key("bank 2"));
    let second = caller.permit(terms("b"), NOW, new, sign).await.unwrap();
    assert_eq!((first.epoch, second.epoch), (0, 1));
    assert_eq!(second.admitted.bank(), running.bank.address());
    // The client goes by the contract's word for the key, not by the bank's.
    assert!(matches!(
        caller.permit(terms("c"), NOW, old, sign).await,
        Err(ClientError::Permit(_))
    ));
    assert_eq!(caller.permit(terms("a"), NOW, old, sign).await.unwrap(), first);
    // A node that has fallen behind.
    book.set_signer(old, 0);
    running.bank.rotate(key("bank"));
    let (status, problem) = running.ask(&asked(terms("d"))).await;
    assert_eq!((status, rule(&problem)), (503, "key-superseded"));
    book.set_signer(key("bank 0").address(), 0);
    running.bank.rotate(key("bank 0"));
    let (status, problem) = running.ask(&asked(terms("d"))).await;
    assert_eq!(
        (status, rule(&problem)),
        (500, "store-failed"),
        "another chain's node"
    );
    assert!(!problem.to_string().contains(&old.to_string()), "{problem}");
}

#[tokio::test]
async fn top_up_is_permitted_when_the_permit_before_is_on_chain() {
    let book = Book::new();
    let running = bank(&book, Policy::default()).await;
    let (caller, bank_key) = (running.caller(), key("bank").address());
    let first = caller.permit(terms("a"), NOW, bank_key, sign).await.unwrap();
    let longer = |length, anchor: &str| AdmitRequest {
        length: Index(length),
        anchor: Word(alloy_primitives::keccak256(anchor)),
        ..terms("a")
    };
    let (status, problem) = running.ask(&asked(longer(200, "second"))).await;
    assert_eq!(
        (status, rule(&problem)),
        (409, "permit-exists"),
        "it is not open yet"
    );
    book.take(&first.admitted);
    let second = caller
        .permit(longer(200, "second"), NOW, bank_key, sign)
        .await
        .unwrap();
    assert_eq!(second.generation, 1);
    let (status, problem) = running.ask(&asked(longer(300, "third"))).await;
    assert_eq!(
        (status, rule(&problem)),
        (409, "permit-exists"),
        "the top-up is not on chain yet"
    );
    book.take(&second.admitted);
    for (terms, status, expected) in [
        (longer(200, "third"), 403, "length-out-of-range"),
        (longer(300, "second"), 403, "anchor-used"),
        (
            AdmitRequest {
                unit: Amount(11),
                ..longer(300, "third")
            },
            409,
            "top-up-changes-terms",
        ),
        (
            AdmitRequest {
                receipt_key: vendor(),
                ..longer(300, "third")
            },
            409,
            "top-up-changes-terms",
        ),
    ] {
        let answer = running.ask(&asked(terms)).await;
        assert_eq!((answer.0, rule(&answer.1)), (status, expected));
    }
    let third = caller
        .permit(longer(300, "third"), NOW, bank_key, sign)
        .await
        .unwrap();
    let again = caller
        .permit(longer(200, "second"), NOW, bank_key, sign)
        .await
        .unwrap();
    assert_eq!(again, second, "of any generation");
    assert_eq!(
        caller.permits(channel(&terms("a"))).await.unwrap(),
        [first, second, third]
    );
    book.close(channel(&terms("a")));
    let (status, problem) = running.ask(&asked(longer(400, "fourth"))).await;
    assert_eq!((status, rule(&problem)), (409, "channel-closed"));
    // A channel that this store knows nothing of, because it was lost.
    let other = bank(&book, Policy::default()).await;
    let (status, problem) = other.ask(&asked(longer(400, "fourth"))).await;
    assert_eq!((status, rule(&problem)), (409, "permit-lost"));
}

/// No node, no permit; and nothing of the node's address is told.
#[tokio::test]
async fn bank_without_a_node_says_so() {
    let book = Book::new();
    let limits = Limits {
        request_timeout: Duration::from_millis(300),
        ..free()
    };
    let running = Running::start(memory().await, book.clone(), Policy::default(), limits).await;
    book.set_down(true);
    let (status, problem) = running.ask(&asked(terms("a"))).await;
    assert_eq!((status, rule(&problem)), (503, "ledger-unreadable"));
    assert!(!problem.to_string().contains("secret"), "{problem}");
    book.set_down(false);
    book.set_delay(Duration::from_secs(60));
    let (status, problem) = running.ask(&asked(terms("a"))).await;
    assert_eq!((status, rule(&problem)), (503, "timed-out"));
    book.set_delay(Duration::ZERO);
    let (status, _) = running.ask(&asked(terms("a"))).await;
    assert_eq!(status, 201);
}

#[tokio::test]
async fn attack_flood_of_one_address_is_held_off() {
    let limits = Limits {
        per_ip: NonZeroU32::new(1),
        ..Limits::default()
    };
    let running = Running::start(memory().await, Book::new(), Policy::default(), limits).await;
    let mut refused = 0;
    for _ in 0..40 {
        let (status, answer) = running.get("/openapi.json").await;
        if status == 429 {
            assert_eq!(rule(&answer), "too-many-requests");
            refused += 1;
        }
    }
    assert!((25..=30).contains(&refused), "{refused}");
}

/// Who says nothing does not keep its place, and who says a head slowly neither.
#[tokio::test]
async fn attack_slow_heads_are_cut_off() {
    let limits = Limits {
        header_timeout: Duration::from_millis(200),
        request_timeout: Duration::from_millis(300),
        connections: 2,
        ..free()
    };
    let running = Running::start(memory().await, Book::new(), Policy::default(), limits).await;
    let address = running.url.socket_addrs(|| None).unwrap()[0];
    let mut slow = Vec::new();
    for head in [
        "POST /v1/permits HTTP/1.1\r\n",
        "POST /v1/permits HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let begun = Instant::now();
    assert_eq!(running.get("/v1/bank").await.0, 200);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut answer = String::new();
    slow[1].read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn stop_lets_requests_under_way_end() {
    let book = Book::new();
    let running = bank(&book, Policy::default()).await;
    book.set_delay(Duration::from_millis(150));
    let (caller, address) = (running.caller(), running.url.clone());
    let under_way =
        tokio::spawn(async move { caller.permit(terms("a"), NOW, key("bank").address(), sign).await });
    while book.reads() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
    under_way.await.unwrap().unwrap();
    assert!(
        reqwest::get(address).await.is_err(),
        "and none is taken after that"
    );
}

/// A bank that lies is found out.
#[tokio::test]
async fn attack_client_believes_only_what_it_can_check() {
    let book = Book::new();
    let running = bank(&book, Policy::default()).await;
    let url = running.url.clone();
    let client_of =
        |domain, bank| micropay_services::bank::client::BankClient::new(url.clone(), domain, bank).unwrap();
    let other = client_of(domain(), vendor());
    assert!(matches!(
        other.about().await,
        Err(ClientError::OtherBank { field: "address", .. })
    ));
    let elsewhere = client_of(Domain::new(1, domain().contract()), running.bank.address());
    assert!(matches!(
        elsewhere.about().await,
        Err(ClientError::OtherBank { field: "chain", .. })
    ));
    assert!(matches!(
        elsewhere.permit(terms("a"), NOW, key("bank").address(), sign).await,
        Err(ClientError::Call(CallError::Refused(problem))) if problem.rule == "wrong-signer"
    ));
    let wrong_key = running.caller().permit(terms("a"), NOW, vendor(), sign).await;
    assert!(matches!(wrong_key, Err(ClientError::Permit(_))));
}

/// The document names every route, and every route answers as it says.
#[tokio::test]
async fn openapi_says_what_there_is() {
    let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let written: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| (method.clone(), path.clone()))
        })
        .collect();
    let routes = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(written, BTreeSet::from(routes));

    let book = Book::new();
    let running = bank(&book, Policy::default()).await;
    let (status, permit) = running.ask(&asked(terms("a"))).await;
    conforms(&document, "/v1/permits", "post", status, &permit);
    let request = serde_json::to_value(asked(terms("a"))).unwrap();
    fits(
        &document,
        &document["components"]["schemas"]["PermitRequest"],
        &request,
        "request",
    );
    for (path, real) in [
        (
            "/v1/permits/{channelId}",
            format!("/v1/permits/{}", channel(&terms("a"))),
        ),
        ("/v1/bank", "/v1/bank".to_owned()),
        ("/v1/reputation/{address}", format!("/v1/reputation/{}", vendor())),
        ("/openapi.json", "/openapi.json".to_owned()),
    ] {
        let (status, answer) = running.get(&real).await;
        assert_eq!(status, 200);
        conforms(&document, path, "get", status, &answer);
    }
    for terms in [
        AdmitRequest {
            length: Index(0),
            ..terms("b")
        },
        AdmitRequest {
            length: Index(7),
            ..terms("a")
        },
    ] {
        let (status, answer) = running.ask(&asked(terms)).await;
        conforms(&document, "/v1/permits", "post", status, &answer);
    }
}

fn conforms(document: &serde_json::Value, path: &str, method: &str, status: u16, answer: &serde_json::Value) {
    let said = &document["paths"][path][method]["responses"][status.to_string()];
    assert!(
        said.is_object(),
        "{path} does not say that it answers {status}: {answer}"
    );
    let (media, content) = said["content"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(media == "application/problem+json", status >= 400);
    fits(document, &content["schema"], answer, path);
}

/// As much of JSON Schema as the document uses.
fn fits(document: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_object(), "{at}: there is no schema {name}");
        return fits(document, schema, value, at);
    }
    let types: Vec<&str> = match &schema["type"] {
        serde_json::Value::Array(types) => types.iter().map(|of| of.as_str().unwrap()).collect(),
        of => vec![of.as_str().unwrap()],
    };
    let is = match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(_) => "integer",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    };
    assert!(types.contains(&is), "{at}: {value} is none of {types:?}");
    if let Some(properties) = schema["properties"].as_object() {
        let value = value.as_object().unwrap();
        for required in schema["required"].as_array().unwrap() {
            let name = required.as_str().unwrap();
            assert!(value.contains_key(name), "{at}: {name} is missing");
        }
        for (name, inner) in value {
            let inner_schema = properties
                .get(name)
                .unwrap_or_else(|| panic!("{at}: {name} is not written down"));
            fits(document, inner_schema, inner, &format!("{at}.{name}"));
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for inner in values {
            fits(document, items, inner, at);
        }
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str()) {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        assert_eq!(pattern.starts_with("^0x"), text.starts_with("0x"), "{at}: {text}");
        if let Some(length) = pattern
            .split(['{', '}'])
            .nth(1)
            .filter(|_| text.starts_with("0x"))
        {
            assert_eq!(digits.len().to_string(), length, "{at}: {text}");
        }
    }
    if let (Some(highest), Some(number)) = (schema["maximum"].as_u64(), value.as_u64()) {
        assert!(number <= highest, "{at}: {number}");
    }
}
