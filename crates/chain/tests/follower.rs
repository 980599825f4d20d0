//! The mirror equals the contract after every step and every reorganisation.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use bindings::ticket::TicketEscrow::*;
use bindings::ticket::{Group, Winner};
use micropay_chain::anvil::AnvilOptions;
use micropay_chain::{ChainError, Finality, Follower, FollowerConfig, Mirror, Polled, Sender, Start};
use protocol::ticket::{EscrowKey, Escrows, Status, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::proxy::{Proxy, Reply};
use support::{CAP, DAY, NATIVE, PENALTY, PRIZE, World, key, r1, world};

/// A follower with what a role would have saved.
struct Role {
    follower: Follower,
    saved: Escrows,
    rolled_back: u64,
}

impl Role {
    async fn start(world: &World, finality: Finality) -> Self {
        let config = FollowerConfig::new(finality);
        let follower = Follower::start(world.client.clone(), config, Start::Deployed { block: 1 })
            .await
            .unwrap();
        Self {
            follower,
            saved: Escrows::new(),
            rolled_back: 0,
        }
    }

    async fn poll(&mut self) -> Polled {
        loop {
            let polled = self.follower.poll().await.unwrap();
            self.saved.extend(polled.changed.clone());
            self.rolled_back += polled.rolled_back;
            if polled.behind == 0 {
                return polled;
            }
        }
    }

    /// Polls and compares with the contract.
    async fn check(&mut self, world: &World, keys: &[&EscrowKey]) -> Polled {
        let polled = self.poll().await;
        let mirror = self.follower.mirror();
        assert_eq!(polled.head, world.client.head().await.unwrap());
        assert_eq!(
            (polled.head, polled.final_block),
            (mirror.head(), mirror.final_block())
        );
        world.assert_mirrors(&mirror, keys).await;
        self.assert_saved(&mirror);
        polled
    }

    /// What was saved equals the final view.
    fn assert_saved(&self, mirror: &Mirror) {
        let finals: BTreeMap<Address, _> = mirror.records().into_iter().collect();
        assert_eq!(self.saved.len(), finals.len());
        for (escrow, record) in &self.saved {
            assert_eq!(record, &*finals[escrow], "saved record of {escrow}");
        }
    }
}

fn status(mirror: &Mirror, key: &EscrowKey) -> Status {
    mirror.view(key.address()).head.unwrap().status
}

/// Opens, pays, earmarks and claims, in one asset, checking after each step.
async fn steps_of_an_escrow(world: &World, role: &mut Role, key: &EscrowKey, asset: Address) {
    let escrow = key.address();
    let [first, second, _] = &world.merchants;
    world.open(key, asset, 20 * PRIZE).await;
    role.check(world, &[key]).await;
    world.top_up(&world.stranger, escrow, asset, 3 * PRIZE).await;
    role.check(world, &[key]).await;

    let value = if asset == NATIVE { PENALTY } else { 0 };
    let raise = raiseCapCall {
        escrow,
        ticketCap: CAP + 5,
        amount: U256::from(PENALTY),
    };
    world.try_act(&world.payer, raise, value).await.unwrap();
    let until = world.now().await + DAY;
    for prizes in [2, 1] {
        let earmark = earmarkCall {
            escrow,
            recipient: first.address(),
            prizes,
            until: until + DAY,
        };
        world.act(&world.payer, earmark).await;
        role.check(world, &[key]).await;
    }
    let earmark = earmarkCall {
        escrow,
        recipient: second.address(),
        prizes: 2,
        until,
    };
    world.act(&world.payer, earmark).await;

    // One by one, then in batches: out of order, over the earmark, and with losers, repeated and capped nonces.
    let winner = world.winner(key, second.address(), 7).await;
    let claim = claimCall {
        recipient: second.address(),
        escrow,
        r1: r1(second.address()),
        winner,
    };
    world.act(second, claim).await;
    role.check(world, &[key]).await;
    let mined = world
        .claim_batch(key, first, &[1, 2, 2, 9, 5, 11, 12, CAP + 5])
        .await;
    let skipped = |event: &TicketEscrowEvents| matches!(event, TicketEscrowEvents::TicketSkipped(_));
    assert_eq!(mined.events.iter().filter(|event| skipped(event)).count(), 3);
    role.check(world, &[key]).await;
    let expiry = world.now().await + DAY;
    let recipient = second.address();
    let winners: Vec<Winner> = [(8, true), (9, false), (10, true)]
        .map(|(nonce, wins)| world.ticket(key, recipient, r1(recipient), nonce, expiry, wins))
        .iter()
        .map(|ticket| world.signed(key, ticket))
        .collect();
    // An operator claims for the recipient; one group has the wrong secret.
    let operator = world.stranger.address();
    world
        .act(
            second,
            setOperatorCall {
                operator,
                approved: true,
            },
        )
        .await;
    let groups = vec![
        Group {
            escrow,
            r1: B256::ZERO,
            winners: winners.clone(),
        },
        Group {
            escrow,
            r1: r1(recipient),
            winners,
        },
    ];
    world
        .act(&world.stranger, claimBatchCall { recipient, groups })
        .await;
    role.check(world, &[key]).await;
    let credit = world
        .client
        .credit_of(asset, recipient, micropay_chain::At::Latest)
        .await
        .unwrap();
    let withdraw = withdrawCreditCall {
        asset,
        to: Address::repeat_byte(9),
        amount: credit.to_u256(),
    };
    world.act(second, withdraw).await;
    role.check(world, &[key]).await;
}

async fn withdraw_cycle(world: &World, role: &mut Role, key: &EscrowKey) {
    let escrow = key.address();
    let recipient = world.merchants[0].address();
    world.act(&world.payer, requestWithdrawCall { escrow }).await;
    role.check(world, &[key]).await;
    world.act(&world.payer, cancelWithdrawCall { escrow }).await;
    role.check(world, &[key]).await;
    let until = world.now().await + 10;
    world
        .act(
            &world.payer,
            earmarkCall {
                escrow,
                recipient,
                prizes: 1,
                until: until + 2 * DAY,
            },
        )
        .await;
    world.anvil.increase_time(3 * DAY).await.unwrap();
    world
        .act(&world.payer, releaseEarmarkCall { escrow, recipient })
        .await;
    role.check(world, &[key]).await;
    // An earmark that is over, but not released, returns with the withdrawal.
    let until = world.now().await + DAY;
    world
        .act(
            &world.payer,
            earmarkCall {
                escrow,
                recipient,
                prizes: 2,
                until,
            },
        )
        .await;
    world.act(&world.payer, requestWithdrawCall { escrow }).await;
    world.claim_batch(key, &world.merchants[1], &[500]).await;
    role.check(world, &[key]).await;
    world.anvil.increase_time(3 * DAY).await.unwrap();
    world.act(&world.payer, withdrawCall { escrow }).await;
    role.check(world, &[key]).await;
    assert_eq!(status(&role.follower.mirror(), key), Status::Closed);
}

async fn insolvency(world: &World, role: &mut Role, asset: Address, cured: &EscrowKey, burned: &EscrowKey) {
    let [first, second, third] = &world.merchants;
    let keys = [cured, burned];
    for key in keys {
        world.open(key, asset, 9 * PRIZE / 2).await;
        let until = world.now().await + 5 * DAY;
        let earmark = earmarkCall {
            escrow: key.address(),
            recipient: third.address(),
            prizes: 3,
            until,
        };
        world.act(&world.payer, earmark).await;
        world
            .act(
                &world.payer,
                requestWithdrawCall {
                    escrow: key.address(),
                },
            )
            .await;
        world.claim_batch(key, first, &[3]).await;
        role.check(world, &keys).await;
        world.claim_batch(key, second, &[5, 6, 7]).await;
        role.check(world, &keys).await;
        assert_eq!(status(&role.follower.mirror(), key), Status::Insolvent);
        // Insolvent, it still takes a top-up and pays what it can.
        world
            .top_up(&world.stranger, key.address(), asset, PRIZE / 4)
            .await;
        world.claim_batch(key, first, &[8]).await;
        role.check(world, &keys).await;
    }
    let escrow = cured.address();
    let debt = world
        .client
        .escrow_of(escrow, micropay_chain::At::Latest)
        .await
        .unwrap()
        .unwrap()
        .debt;
    let owed = world
        .client
        .debt_of(escrow, second.address(), micropay_chain::At::Latest)
        .await
        .unwrap();
    for (creditors, amount) in [
        (vec![second.address(), second.address(), third.address()], owed),
        (vec![first.address()], debt - owed + U256::from(7)),
    ] {
        let value = if asset == NATIVE { amount.to() } else { 0 };
        world
            .try_act(
                &world.stranger,
                cureCall {
                    escrow,
                    creditors,
                    amount,
                },
                value,
            )
            .await
            .unwrap();
        role.check(world, &keys).await;
    }
    assert_eq!(status(&role.follower.mirror(), cured), Status::Open);

    world.anvil.increase_time(3 * DAY + 1).await.unwrap();
    world
        .act(
            &world.stranger,
            burnCall {
                escrow: burned.address(),
            },
        )
        .await;
    role.check(world, &keys).await;
    // The earmark of a burned escrow still pays, and what is left of it is burned.
    world.claim_batch(burned, third, &[20, 21]).await;
    role.check(world, &keys).await;
    world.anvil.increase_time(3 * DAY).await.unwrap();
    world
        .act(
            &world.payer,
            releaseEarmarkCall {
                escrow: burned.address(),
                recipient: third.address(),
            },
        )
        .await;
    role.check(world, &keys).await;
    assert_eq!(status(&role.follower.mirror(), burned), Status::Closed);
}

async fn equivocation(world: &World, role: &mut Role, key: &EscrowKey, asset: Address) {
    world.open(key, asset, 2 * PRIZE).await;
    let recipient = world.merchants[0].address();
    let expiry = world.now().await + DAY;
    let [a, b] = [true, false].map(|wins| world.ticket(key, recipient, r1(recipient), 5, expiry, wins));
    let [a_signature, b_signature] =
        [&a, &b].map(|ticket| key.sign(world.domain.ticket_digest(ticket)).to_sol());
    let proof = proveEquivocationCall {
        a,
        signatureA: a_signature,
        b,
        signatureB: b_signature,
    };
    world.act(&world.stranger, proof).await;
    role.check(world, &[key]).await;
    world.claim_batch(key, &world.merchants[0], &[1, 2, 3]).await;
    role.check(world, &[key]).await;
}

#[tokio::test]
async fn the_mirror_equals_the_contract_after_every_step() {
    let world = world(AnvilOptions::default()).await;
    let mut role = Role::start(&world, Finality::Depth(4)).await;
    let mut keys = Vec::new();
    for asset in [NATIVE, world.token] {
        let named = |name: &str| key(&format!("{name} {asset}"));
        let [plain, cured, burned, cheat] = ["plain", "cured", "burned", "cheat"].map(named);
        steps_of_an_escrow(&world, &mut role, &plain, asset).await;
        withdraw_cycle(&world, &mut role, &plain).await;
        insolvency(&world, &mut role, asset, &cured, &burned).await;
        equivocation(&world, &mut role, &cheat, asset).await;
        keys.extend([plain, cured, burned, cheat]);
    }
    let keys: Vec<&EscrowKey> = keys.iter().collect();
    world.anvil.mine(4).await.unwrap();
    let polled = role.check(&world, &keys).await;
    assert!(polled.changed.contains_key(&keys[7].address()));
    assert_eq!(role.rolled_back, 0);
    assert_eq!(role.saved.len(), 8);

    // From nothing, in ranges of every size: the same.
    for max_range in [1, 3, 7, 1000] {
        let config = FollowerConfig {
            finality: Finality::Depth(4),
            max_range,
        };
        let follower = Follower::start(world.client.clone(), config, Start::Deployed { block: 0 })
            .await
            .unwrap();
        let mut again = Role {
            follower,
            saved: Escrows::new(),
            rolled_back: 0,
        };
        again.check(&world, &keys).await;
        assert_eq!(again.saved, role.saved);
    }
    // The finalized tag of anvil is 64 blocks back.
    let mut finalized = Role::start(&world, Finality::Finalized).await;
    let polled = finalized.check(&world, &keys).await;
    assert_eq!(polled.final_block.number + 64, polled.head.number);
}

#[tokio::test]
async fn a_reorg_of_any_depth_rolls_the_head_back_and_never_the_final_view() {
    let world = world(AnvilOptions::default()).await;
    let key = key("reorg");
    let escrow = key.address();
    world.open(&key, NATIVE, PRIZE).await;
    world.anvil.mine(24).await.unwrap();
    let mut role = Role::start(&world, Finality::Depth(20)).await;
    role.check(&world, &[&key]).await;
    for depth in 1..=20 {
        let before = world.client.balance_of_escrow(escrow).await;
        for _ in 0..depth {
            world.top_up(&world.payer, escrow, NATIVE, depth.into()).await;
        }
        let seen = role.check(&world, &[&key]).await;
        world.anvil.reorg(depth).await.unwrap();
        let polled = role.check(&world, &[&key]).await;
        assert_eq!(polled.rolled_back, depth);
        assert_eq!(polled.final_block, seen.final_block);
        assert_eq!(
            role.follower.mirror().view(escrow).head.unwrap().balance.0,
            before
        );
    }
}

trait BalanceOf {
    fn balance_of_escrow(&self, escrow: Address) -> impl Future<Output = u128>;
}

impl BalanceOf for micropay_chain::ChainClient {
    async fn balance_of_escrow(&self, escrow: Address) -> u128 {
        self.escrow_of(escrow, micropay_chain::At::Latest)
            .await
            .unwrap()
            .unwrap()
            .balance
            .0
    }
}

#[tokio::test]
async fn an_opening_that_a_reorg_takes_away_is_gone_from_the_head_view() {
    let world = world(AnvilOptions::default()).await;
    let key = key("gone");
    let mut role = Role::start(&world, Finality::Depth(10)).await;
    role.poll().await;
    world.open(&key, NATIVE, PRIZE).await;
    role.check(&world, &[&key]).await;
    let view = role.follower.mirror().view(key.address());
    assert!(view.head.is_some() && view.last_final.is_none());
    assert!(view.as_view().head.is_some());
    world.anvil.reorg(1).await.unwrap();
    role.check(&world, &[&key]).await;
    assert!(role.follower.mirror().view(key.address()).head.is_none());
    // The chain may get shorter, too.
    world.anvil.mine(5).await.unwrap();
    role.check(&world, &[&key]).await;
    world.anvil.rollback(3).await.unwrap();
    let polled = role.check(&world, &[&key]).await;
    assert_eq!(polled.rolled_back, 3);
}

#[tokio::test]
async fn random_steps_reorgs_and_restarts() {
    let world = world(AnvilOptions::default()).await;
    let keys = [key("a"), key("b"), key("c")];
    let keys: Vec<&EscrowKey> = keys.iter().collect();
    // Below any reorg: what they stand on never goes.
    for key in &keys {
        world.open(key, world.token, 100 * PRIZE).await;
    }
    world.anvil.mine(30).await.unwrap();
    let seed = 20_261_120;
    let mut random = StdRng::seed_from_u64(seed);
    let finality = Finality::Depth(20);
    let mut role = Role::start(&world, finality).await;
    let mut finals: Vec<protocol::ticket::BlockRef> = Vec::new();
    let (mut reorgs, mut restarts, mut far) = (0, 0, 0);
    for round in 0..120 {
        for _ in 0..random.random_range(0..4) {
            random_step(&world, &mut random, &keys, round).await;
        }
        match random.random_range(0..10) {
            0..4 => {
                world.anvil.reorg(random.random_range(1..=20)).await.unwrap();
                reorgs += 1;
            }
            4 => {
                world.anvil.mine(random.random_range(1..=60)).await.unwrap();
                far += 1;
            }
            5 => {
                // Killed and started again from what was saved.
                let cursor = role.follower.mirror().final_block();
                let records = role.saved.clone();
                let config = FollowerConfig {
                    finality,
                    max_range: random.random_range(1..50),
                };
                role.follower =
                    Follower::start(world.client.clone(), config, Start::Saved { cursor, records })
                        .await
                        .unwrap();
                restarts += 1;
            }
            _ => {}
        }
        if random.random_bool(0.7) {
            let polled = role.check(&world, &keys).await;
            if finals.last() != Some(&polled.final_block) {
                finals.push(polled.final_block);
            }
        }
    }
    assert!(
        reorgs > 20 && restarts > 3 && far > 3,
        "seed {seed} covered too little"
    );
    assert!(
        finals.windows(2).all(|pair| pair[0].number < pair[1].number),
        "the final block went back"
    );
    for block in finals {
        assert_eq!(
            world.client.block(block.number).await.unwrap(),
            Some(block),
            "a final block is gone"
        );
    }
}

async fn random_step(world: &World, random: &mut StdRng, keys: &[&EscrowKey], round: u64) {
    let key = keys[random.random_range(0..keys.len())];
    let escrow = key.address();
    let merchant = &world.merchants[random.random_range(0..3)];
    match random.random_range(0..4) {
        0 => {
            world
                .top_up(&world.stranger, escrow, world.token, random.random_range(1..1000))
                .await;
        }
        1 => {
            // A nonce may be used up already: then it is skipped.
            let nonce = 1 + 5 * round + random.random_range(0..5);
            world.claim_batch(key, merchant, &[nonce]).await;
        }
        2 => {
            let until = world.now().await + DAY * (1 + round);
            let call = earmarkCall {
                escrow,
                recipient: merchant.address(),
                prizes: 1,
                until,
            };
            // May be before the end promised earlier.
            world.try_act(&world.payer, call, 0).await.ok();
        }
        _ => {
            world
                .try_act(&world.payer, requestWithdrawCall { escrow }, 0)
                .await
                .ok();
            if random.random_bool(0.7) {
                world
                    .try_act(&world.payer, cancelWithdrawCall { escrow }, 0)
                    .await
                    .ok();
            }
        }
    }
}

#[tokio::test]
async fn a_reorg_below_the_final_block_is_an_error_that_says_what_to_do() {
    let world = world(AnvilOptions::default()).await;
    let key = key("deep");
    world.open(&key, NATIVE, PRIZE).await;
    world.anvil.mine(20).await.unwrap();
    let mut role = Role::start(&world, Finality::Depth(3)).await;
    let good = role.check(&world, &[&key]).await;

    world.anvil.reorg(6).await.unwrap();
    let error = role.follower.poll().await.unwrap_err();
    let ChainError::FinalityBroken {
        ours,
        theirs: Some(theirs),
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*ours, good.final_block);
    assert_eq!(
        Some(*theirs),
        world
            .client
            .block(ours.number)
            .await
            .unwrap()
            .map(|block| block.hash)
    );
    assert!(!error.retry() && error.to_string().contains("greater depth"));
    assert_eq!(role.follower.mirror().final_block(), good.final_block);

    // The same after a restart, next to the head or far behind it.
    for ahead in [0, 50] {
        world.anvil.mine(ahead).await.unwrap();
        let start = Start::Saved {
            cursor: good.final_block,
            records: role.saved.clone(),
        };
        let config = FollowerConfig::new(Finality::Depth(3));
        let mut again = Follower::start(world.client.clone(), config, start)
            .await
            .unwrap();
        let error = again.poll().await.unwrap_err();
        assert!(matches!(error, ChainError::FinalityBroken { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_range_that_the_node_refuses_is_halved() {
    let world = world(AnvilOptions::default()).await;
    let key = key("ranges");
    world.open(&key, NATIVE, PRIZE).await;
    for _ in 0..30 {
        world.top_up(&world.payer, key.address(), NATIVE, 1).await;
    }
    let proxy = Proxy::start(world.anvil.url()).await;
    let number = |value: &serde_json::Value| {
        value
            .as_str()
            .map(|hex| u64::from_str_radix(&hex[2..], 16).unwrap())
    };
    proxy.rule(move |method, params| {
        match (number(&params[0]["fromBlock"]), number(&params[0]["toBlock"])) {
            (Some(from), Some(to)) if method == "eth_getLogs" && to - from >= 5 => {
                Reply::Error(-32005, "query returned more than 5 results")
            }
            _ => Reply::Pass,
        }
    });
    let config = FollowerConfig {
        finality: Finality::Depth(2),
        max_range: 1000,
    };
    let client = world.client_at(proxy.url.clone()).await;
    let mut follower = Follower::start(client, config, Start::Deployed { block: 0 })
        .await
        .unwrap();
    let (mut polls, mut events) = (0, 0);
    loop {
        let polled = follower.poll().await.unwrap();
        polls += 1;
        events += polled.newly_final.len();
        if polled.behind == 0 {
            break;
        }
        assert_eq!(
            follower.mirror().refreshed_at(),
            None,
            "not fresh before it has caught up"
        );
    }
    assert!(polls > 4 && events >= 28, "{polls} polls, {events} events");
    world.assert_mirrors(&follower.mirror(), &[&key]).await;
    assert!(follower.mirror().age().is_some());
}

#[tokio::test]
async fn a_cancelled_poll_loses_nothing() {
    let world = world(AnvilOptions::default()).await;
    let key = key("cancel");
    world.open(&key, NATIVE, PRIZE).await;
    let config = FollowerConfig {
        finality: Finality::Depth(3),
        max_range: 4,
    };
    let mut follower = Follower::start(world.client.clone(), config, Start::Deployed { block: 0 })
        .await
        .unwrap();
    let mut role = Role::start(&world, Finality::Depth(3)).await;
    let mut events = 0;
    let mut saved = Escrows::new();
    let mut random = StdRng::seed_from_u64(7);
    for amount in 1..=40 {
        world.top_up(&world.payer, key.address(), NATIVE, amount).await;
        let limit = std::time::Duration::from_micros(random.random_range(0..8000));
        if let Ok(polled) = tokio::time::timeout(limit, follower.poll()).await {
            let polled = polled.unwrap();
            events += polled.newly_final.len();
            saved.extend(polled.changed);
        }
    }
    loop {
        let polled = follower.poll().await.unwrap();
        events += polled.newly_final.len();
        saved.extend(polled.changed);
        if polled.behind == 0 {
            break;
        }
    }
    let expected = role.poll().await;
    assert_eq!(expected.final_block, follower.mirror().final_block());
    assert_eq!(events, 41 - 3);
    assert_eq!(saved, role.saved);
    world.assert_mirrors(&follower.mirror(), &[&key]).await;
}

#[tokio::test]
async fn the_pending_state_can_be_read() {
    let world = world(AnvilOptions::default()).await;
    let key = key("pending");
    world.open(&key, NATIVE, PRIZE).await;
    world.anvil.set_automine(false).await.unwrap();
    let call = support::call_data(&requestWithdrawCall {
        escrow: key.address(),
    });
    let sender: &Sender = &world.payer;
    let prepared = sender
        .prepare(world.contract(), call, U256::ZERO, None, None)
        .await
        .unwrap();
    sender.broadcast(&prepared.raw).await.unwrap();
    let at = |at| world.client.escrow_of(key.address(), at);
    assert_eq!(
        at(micropay_chain::At::Latest).await.unwrap().unwrap().status,
        Status::Open
    );
    let pending = at(micropay_chain::At::Pending).await.unwrap().unwrap();
    assert_eq!(pending.status, Status::Withdrawing);
    assert!(pending.withdraw_at > Some(Timestamp(0)));
}
