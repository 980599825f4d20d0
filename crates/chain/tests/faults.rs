//! A node that is down, slow, wrong or mad: each its own error, no panic, and the mirror keeps its last good state.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use alloy::primitives::{Address, Bytes, U256};
use micropay_chain::anvil::{Anvil, AnvilOptions};
use micropay_chain::{At, ChainClient, ChainConfig, ChainError, Finality, Follower, FollowerConfig, Start};
use protocol::ticket::BlockRef;
use serde_json::{Value, json};
use support::proxy::{Proxy, Reply};
use support::{NATIVE, PRIZE, World, config, key, sender, world};
use url::Url;

const HTML: &str = "<html><body>Please log in to the hotel network</body></html>";

/// What a node can do wrong, and what we must say.
type Fault = (&'static str, fn(&str) -> Reply, fn(&ChainError) -> bool);

fn raw(status: u16, body: &str) -> Reply {
    Reply::Raw(status, body.to_owned())
}

fn faults() -> Vec<Fault> {
    fn rubbish(error: &ChainError) -> bool {
        matches!(error, ChainError::Rubbish { .. }) && error.retry()
    }
    fn down(error: &ChainError) -> bool {
        matches!(error, ChainError::Unreachable { .. }) && error.retry()
    }
    fn at_blocks(method: &str, reply: Reply) -> Reply {
        if method == "eth_getBlockByNumber" {
            reply
        } else {
            Reply::Pass
        }
    }
    fn at_logs(method: &str, reply: Reply) -> Reply {
        if method == "eth_getLogs" {
            reply
        } else {
            Reply::Pass
        }
    }
    fn edit_block(method: &str, edit: fn(&mut Value)) -> Reply {
        at_blocks(method, Reply::Edit(Box::new(edit)))
    }
    fn edit_logs(method: &str, edit: fn(&mut Vec<Value>)) -> Reply {
        at_logs(
            method,
            Reply::Edit(Box::new(move |logs| edit(logs.as_array_mut().unwrap()))),
        )
    }
    vec![
        ("HTML", |_| raw(200, HTML), rubbish),
        ("no JSON", |_| raw(200, "!§$%&/()=\0"), rubbish),
        ("nothing", |_| raw(200, ""), rubbish),
        ("JSON that is no answer", |_| raw(200, "[[[{}]]]"), rubbish),
        (
            "an answer without result",
            |_| raw(200, r#"{"jsonrpc":"2.0","id":0}"#),
            rubbish,
        ),
        ("deep JSON", |_| raw(200, &"[".repeat(100_000)), rubbish),
        ("null", |_| Reply::Result(Value::Null), rubbish),
        (
            "a wrong type",
            |_| Reply::Result(json!({"a": [1, "2", null]})),
            rubbish,
        ),
        (
            "a number of 100 digits",
            |_| Reply::Result(json!(format!("0x{}", "f".repeat(100)))),
            rubbish,
        ),
        ("a negative number", |_| Reply::Result(json!(-5)), rubbish),
        ("a hung-up connection", |_| Reply::HangUp, down),
        (
            "500",
            |_| raw(500, HTML),
            |error| matches!(error, ChainError::Http { status: 500, .. }) && error.retry(),
        ),
        (
            "429",
            |_| raw(429, "slow down"),
            |error| matches!(error, ChainError::Http { status: 429, .. }) && error.retry(),
        ),
        (
            "404",
            |_| raw(404, "no such path"),
            |error| matches!(error, ChainError::Http { status: 404, .. }) && !error.retry(),
        ),
        (
            "a redirect",
            |_| raw(302, ""),
            |error| matches!(error, ChainError::Http { status: 302, .. }) && !error.retry(),
        ),
        (
            "an unknown method",
            |_| Reply::Error(-32601, "method not found"),
            |error| matches!(error, ChainError::Refused { code: -32601, .. }) && !error.retry(),
        ),
        (
            "a limit",
            |_| Reply::Error(-32005, "limit exceeded"),
            |error| matches!(error, ChainError::Refused { code: -32005, .. }) && error.retry(),
        ),
        (
            "a late answer",
            |_| Reply::Late(Duration::from_secs(2)),
            |error| matches!(error, ChainError::Timeout { .. }) && error.retry(),
        ),
        (
            "another chain",
            |method| {
                if method == "eth_chainId" {
                    Reply::Result(json!("0x1"))
                } else {
                    Reply::Pass
                }
            },
            |error| {
                matches!(
                    error,
                    ChainError::WrongChain {
                        got: 1,
                        expected: 31337
                    }
                ) && !error.retry()
            },
        ),
        (
            "a block without hash",
            |m| edit_block(m, |block| drop(block["hash"].take())),
            rubbish,
        ),
        (
            "a block without parent",
            |m| {
                edit_block(m, |block| {
                    drop(block.as_object_mut().unwrap().remove("parentHash"));
                })
            },
            rubbish,
        ),
        (
            "a block of another height",
            |m| edit_block(m, |block| block["number"] = json!("0x2")),
            |error| {
                matches!(error, ChainError::Rubbish { .. } | ChainError::NodeBehind { .. }) && error.retry()
            },
        ),
        (
            "the highest possible head",
            |m| edit_block(m, |block| block["number"] = json!("0xffffffffffffffff")),
            rubbish,
        ),
        (
            "a head without a past",
            |method| {
                if method == "eth_getBlockByHash" {
                    Reply::Result(Value::Null)
                } else {
                    edit_block(method, |block| {
                        block["hash"] = json!("0x".to_owned() + &"ab".repeat(32));
                        block["parentHash"] = json!("0x".to_owned() + &"cd".repeat(32));
                    })
                }
            },
            |error| error.retry() && matches!(error, ChainError::Unstable { .. }),
        ),
        (
            "a head that falls back",
            |m| edit_block(m, |block| block["number"] = json!("0x0")),
            |error| matches!(error, ChainError::NodeBehind { head: 0, .. }) && error.retry(),
        ),
        ("no logs", |m| at_logs(m, Reply::Result(Value::Null)), rubbish),
        (
            "a log of nothing",
            |m| at_logs(m, Reply::Result(json!([{}]))),
            rubbish,
        ),
        (
            "a log of another contract",
            |m| {
                edit_logs(m, |logs| {
                    logs.iter_mut().for_each(|log| log["address"] = json!(NATIVE));
                })
            },
            rubbish,
        ),
        (
            "a log of another block",
            |m| {
                edit_logs(m, |logs| {
                    logs.iter_mut()
                        .for_each(|log| log["blockHash"] = json!("0x".to_owned() + &"ab".repeat(32)));
                })
            },
            rubbish,
        ),
        (
            "a log without index",
            |m| {
                edit_logs(m, |logs| {
                    logs.iter_mut().for_each(|log| log["logIndex"] = Value::Null);
                })
            },
            rubbish,
        ),
        (
            "a removed log",
            |m| {
                edit_logs(m, |logs| {
                    logs.iter_mut().for_each(|log| log["removed"] = json!(true));
                })
            },
            rubbish,
        ),
        (
            "an unknown event",
            |m| {
                edit_logs(m, |logs| {
                    logs.iter_mut()
                        .for_each(|log| log["topics"][0] = json!("0x".to_owned() + &"ab".repeat(32)));
                })
            },
            rubbish,
        ),
        (
            "an event with too little data",
            |m| {
                edit_logs(m, |logs| {
                    logs.iter_mut().for_each(|log| log["data"] = json!("0x01"));
                })
            },
            rubbish,
        ),
        (
            "a doubled event",
            |m| edit_logs(m, |logs| logs.extend_from_within(..)),
            rubbish,
        ),
        (
            "an event of an escrow that was never opened",
            |m| {
                edit_logs(m, |logs| {
                    let topic = "0x".to_owned() + &"0".repeat(24) + &"ab".repeat(20);
                    logs.iter_mut().for_each(|log| log["topics"][1] = json!(topic));
                })
            },
            |error| matches!(error, ChainError::DoesNotFold { .. }) && error.retry(),
        ),
    ]
}

/// A world behind a proxy, with an escrow that the follower knows and a step that it does not know yet.
async fn behind_proxy(limit: Duration) -> (World, Proxy, ChainClient) {
    let world = world(AnvilOptions::default()).await;
    let proxy = Proxy::start(world.anvil.url()).await;
    let config = ChainConfig {
        request_timeout: limit,
        ..config(31337)
    };
    let client = ChainClient::connect(proxy.url.clone(), config).await.unwrap();
    (world, proxy, client)
}

#[tokio::test]
async fn whatever_the_node_answers_the_mirror_keeps_its_last_good_state() {
    let (world, proxy, client) = behind_proxy(Duration::from_millis(500)).await;
    let key = key("faults");
    world.open(&key, NATIVE, PRIZE).await;
    world.anvil.mine(4).await.unwrap();
    let mut starts = Vec::new();
    // Following (depth 3, one new block) and catching up (depth 0: what is new is final).
    for depth in [3, 0] {
        let config = FollowerConfig::new(Finality::Depth(depth));
        let mut follower = Follower::start(client.clone(), config, Start::Deployed { block: 1 })
            .await
            .unwrap();
        assert_eq!(follower.mirror().age(), None);
        while follower.poll().await.unwrap().behind > 0 {}
        starts.push(follower);
    }
    world.top_up(&world.payer, key.address(), NATIVE, 1).await;
    for follower in &mut starts {
        let mirror = follower.mirror();
        let state = |mirror: &micropay_chain::Mirror| {
            let view = mirror.view(key.address());
            (
                mirror.head(),
                mirror.final_block(),
                mirror.refreshed_at(),
                view.head,
                view.last_final,
            )
        };
        let good = state(&mirror);
        for (name, reply, expected) in faults() {
            proxy.rule(move |method, _| reply(method));
            let before = mirror.age().unwrap();
            let polled = follower.poll().await;
            // A block by range has no other height to compare with.
            let error = match polled {
                Err(error) => error,
                Ok(polled) => panic!("{name}: taken for good: {polled:?}"),
            };
            let ours = expected(&error) || at_range_ends(name, &error);
            assert!(ours, "{name}: {error:?}");
            assert_eq!(state(&mirror), good, "{name} changed the mirror");
            assert!(mirror.age().unwrap() > before, "{name} made the mirror younger");
        }
        proxy.heal();
        let polled = follower.poll().await.unwrap();
        assert_eq!(polled.head, world.client.head().await.unwrap());
        assert!(mirror.refreshed_at() > good.2);
        world.assert_mirrors(&mirror, &[&key]).await;
    }
}

/// Catching up asks for blocks by number only, so that some faults look like a moving chain there.
fn at_range_ends(name: &str, error: &ChainError) -> bool {
    matches!(
        name,
        "a head without a past" | "a log of another block" | "the highest possible head"
    ) && matches!(
        error,
        ChainError::Unstable { .. } | ChainError::FinalityBroken { .. } | ChainError::Rubbish { .. }
    )
}

#[tokio::test]
async fn connecting_to_the_wrong_place_says_what_is_wrong() {
    let world = world(AnvilOptions::default()).await;
    let url = world.anvil.url();
    let error = ChainClient::connect(url.clone(), ChainConfig::new(1))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::WrongChain {
                got: 31337,
                expected: 1
            }
        ),
        "{error}"
    );

    let nowhere = Address::repeat_byte(3);
    let at = |contract| ChainConfig {
        contract: Some(contract),
        ..ChainConfig::new(31337)
    };
    let error = ChainClient::connect(url.clone(), at(nowhere)).await.unwrap_err();
    assert!(
        matches!(error, ChainError::NoContract { address, .. } if address == nowhere),
        "{error}"
    );

    // Another contract; code that answers nothing; code that answers one word; code that only reverts.
    let answer_one = Bytes::from_static(&[0x60, 1, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3]);
    let codes = [
        Bytes::from_static(&[0x00]),
        answer_one,
        Bytes::from_static(&[0x5f, 0x5f, 0xfd]),
    ];
    for code in codes {
        world.anvil.set_code(nowhere, code).await.unwrap();
        let error = ChainClient::connect(url.clone(), at(nowhere)).await.unwrap_err();
        assert!(
            matches!(error, ChainError::WrongContract { .. }) && !error.retry(),
            "{error}"
        );
    }
    let error = ChainClient::connect(url.clone(), at(world.token))
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::WrongContract { .. }), "{error}");

    // The node goes down, and never was there.
    let client = world.client.clone();
    drop(world);
    let error = client.head().await.unwrap_err();
    assert!(
        matches!(error, ChainError::Unreachable { .. }) && error.retry(),
        "{error}"
    );
}

#[tokio::test]
async fn no_error_shows_the_key_in_a_nodes_address() {
    let secret = "s3cr3t";
    let url = Url::parse(&format!(
        "http://user:{secret}@127.0.0.1:1/v3/{secret}?key={secret}"
    ))
    .unwrap();
    let error = ChainClient::connect(url.clone(), ChainConfig::new(1))
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");

    let anvil = Anvil::spawn(&AnvilOptions::default()).unwrap();
    let proxy = Proxy::start(anvil.url()).await;
    let mut url = proxy.url.clone();
    url.set_path(&format!("/v3/{secret}"));
    let client = ChainClient::connect_before_deploy(url, config(31337))
        .await
        .unwrap();
    assert!(!format!("{client:?} {}", client.node()).contains(secret));
    for (name, reply, _) in faults() {
        proxy.rule(move |method, _| reply(method));
        if let Err(error) = client.head().await {
            assert!(
                !format!("{error} {error:?}").contains(secret),
                "{name}: {error:?}"
            );
        }
    }
    let sender = sender(&client, 0);
    assert!(!format!("{sender:?}").contains("ac0974"));
}

#[tokio::test]
async fn typed_reads_survive_any_answer() {
    let (world, proxy, client) = behind_proxy(Duration::from_millis(500)).await;
    let key = key("reads");
    world.open(&key, NATIVE, PRIZE).await;
    let (escrow, account) = (key.address(), world.payer.address());
    let payer = sender(&client, 1);
    for (name, reply, _) in faults() {
        proxy.rule(move |method, _| match reply(method) {
            // Aimed at blocks or logs: let the calls be hit as well.
            Reply::Pass => Reply::Result(json!("0x".to_owned() + &"ff".repeat(32 * 13))),
            reply => reply,
        });
        // No panic; and nothing that makes no sense is taken for an answer.
        client.escrow_of(escrow, At::Latest).await.expect_err(name);
        client
            .balance(world.token, account, At::Latest)
            .await
            .expect_err(name);
        client.token(world.token).await.expect_err(name);
        client.market_fees().await.expect_err(name);
        client.deployment_block().await.err();
        client.events(0, 3).await.err();
        client.finalized().await.err();
        payer
            .prepare(account, Bytes::new(), U256::ZERO, None, None)
            .await
            .expect_err(name);
        payer
            .fate(
                &[BlockRef {
                    number: 0,
                    hash: Default::default(),
                    timestamp: Default::default(),
                }
                .hash],
                0,
            )
            .await
            .expect_err(name);
    }
}

#[tokio::test]
async fn answers_in_random_pieces_never_panic() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let (world, proxy, client) = behind_proxy(Duration::from_millis(500)).await;
    let key = key("fuzz");
    world.open(&key, NATIVE, PRIZE).await;
    let config = FollowerConfig::new(Finality::Depth(3));
    let mut follower = Follower::start(client.clone(), config, Start::Deployed { block: 1 })
        .await
        .unwrap();
    let mut random = StdRng::seed_from_u64(42);
    let mut failed = 0;
    for round in 0..150 {
        if round % 10 == 0 {
            world.top_up(&world.payer, key.address(), NATIVE, 1).await;
        }
        let seed: u64 = random.random();
        let mut inner = StdRng::seed_from_u64(seed);
        proxy.rule(move |_, _| {
            if inner.random_bool(0.6) {
                return Reply::Pass;
            }
            let mut inner = StdRng::seed_from_u64(inner.random());
            Reply::Edit(Box::new(move |answer| spoil(answer, &mut inner)))
        });
        failed += u32::from(follower.poll().await.is_err());
    }
    assert!(failed > 50, "only {failed} of 150 polls met a spoiled answer");
    // Whatever it believed meanwhile (a plausible lie cannot be told from the truth), an honest node can be followed.
    proxy.heal();
    let start = Start::Deployed { block: 1 };
    let mut honest = Follower::start(client, config, start).await.unwrap();
    while honest.poll().await.unwrap().behind > 0 {}
    world.assert_mirrors(&honest.mirror(), &[&key]).await;
}

/// Changes one random part of an answer.
fn spoil(value: &mut Value, random: &mut impl rand::RngExt) {
    match value {
        Value::Object(map) if !map.is_empty() && random.random_bool(0.95) => {
            let index = random.random_range(0..map.len());
            let name = map.keys().nth(index).unwrap().clone();
            if random.random_bool(0.2) {
                map.remove(&name);
            } else {
                spoil(&mut map[&name], random);
            }
        }
        Value::Array(items) if !items.is_empty() && random.random_bool(0.95) => {
            let index = random.random_range(0..items.len());
            spoil(&mut items[index], random);
        }
        other => {
            *other = match random.random_range(0..6) {
                0 => Value::Null,
                1 => json!("0x"),
                2 => json!("0xffffffffffffffff"),
                3 => json!(random.random::<u64>()),
                4 => json!(["0x1", {}]),
                _ => json!("0x".to_owned() + &"ef".repeat(32)),
            }
        }
    }
}
