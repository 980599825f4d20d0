//! A transaction is mined once or its fate is told: stuck, dropped, superseded, reverted, reorganised, lost on the way.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use bindings::ticket::TicketEscrow::{
    TicketEscrowErrors, TicketEscrowEvents, claimCall, requestWithdrawCall, topUpCall, withdrawCall,
};
use micropay_chain::anvil::{Anvil, AnvilOptions};
use micropay_chain::{At, Broadcast, ChainError, Fate, Fees, Prepared, Sender, SenderConfig, Tickets, bump};
use support::proxy::{Proxy, Reply};
use support::{NATIVE, PENALTY, PRIZE, World, call_data, key, sender, sender_config, world};

const TARGET: Address = Address::repeat_byte(0x77);

async fn paid(world: &World) -> u128 {
    world.client.balance(NATIVE, TARGET, At::Latest).await.unwrap().0
}

async fn prepare_payment(sender: &Sender, nonce: Option<u64>, replaces: Option<Fees>) -> Prepared {
    sender
        .prepare(TARGET, Bytes::new(), U256::from(5), nonce, replaces)
        .await
        .unwrap()
}

/// A world that mines on demand only, with the payer as sender.
async fn idle_world() -> World {
    let world = world(AnvilOptions::default()).await;
    world.anvil.set_automine(false).await.unwrap();
    world
}

#[tokio::test]
async fn a_transaction_goes_from_pending_to_mined_and_back_after_a_reorg() {
    let world = idle_world().await;
    let prepared = prepare_payment(&world.payer, None, None).await;
    let fate = || {
        world
            .payer
            .fate(std::slice::from_ref(&prepared.hash), prepared.account_nonce)
    };
    assert!(matches!(fate().await.unwrap(), Fate::Unknown));
    assert_eq!(
        world.payer.broadcast(&prepared.raw).await.unwrap(),
        Broadcast::Sent
    );
    assert_eq!(
        world.payer.broadcast(&prepared.raw).await.unwrap(),
        Broadcast::AlreadyKnown
    );
    assert!(matches!(fate().await.unwrap(), Fate::Pending));
    world.anvil.mine(1).await.unwrap();
    let Fate::Mined(mined) = fate().await.unwrap() else {
        panic!("not mined")
    };
    assert_eq!(
        (mined.hash, mined.success, mined.gas_used),
        (prepared.hash, true, 21_000)
    );
    assert_eq!(mined.block, world.client.head().await.unwrap());
    assert!(mined.fee() > 0 && mined.effective_gas_price <= prepared.max_fee_per_gas);
    assert!(matches!(
        world.payer.broadcast(&prepared.raw).await.unwrap(),
        Broadcast::NonceUsed | Broadcast::AlreadyKnown
    ));

    world.anvil.reorg(1).await.unwrap();
    assert!(matches!(fate().await.unwrap(), Fate::Unknown | Fate::Pending));
    world.payer.broadcast(&prepared.raw).await.unwrap();
    world.anvil.mine(1).await.unwrap();
    assert!(matches!(fate().await.unwrap(), Fate::Mined(_)));
    assert_eq!(paid(&world).await, 5);
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_and_one_of_both_is_mined() {
    let world = idle_world().await;
    let first = prepare_payment(&world.payer, None, None).await;
    world.payer.broadcast(&first.raw).await.unwrap();
    let second = prepare_payment(&world.payer, Some(first.account_nonce), Some(first.fees())).await;
    assert_eq!(second.account_nonce, first.account_nonce);
    assert!(second.max_fee_per_gas * 8 >= first.max_fee_per_gas * 9);
    assert!(second.max_priority_fee_per_gas * 8 >= first.max_priority_fee_per_gas * 9);
    assert_eq!(world.payer.broadcast(&second.raw).await.unwrap(), Broadcast::Sent);
    let hashes = [first.hash, second.hash];
    assert!(matches!(
        world.payer.fate(&hashes, first.account_nonce).await.unwrap(),
        Fate::Pending
    ));
    // What is too low to replace is an error of its own.
    let low = prepare_payment(&world.payer, Some(first.account_nonce), None).await;
    if low.hash != first.hash {
        let error = world.payer.broadcast(&low.raw).await.unwrap_err();
        assert!(matches!(error, ChainError::Underpriced { .. }), "{error}");
        assert!(error.retry());
    }
    world.anvil.mine(3).await.unwrap();
    let Fate::Mined(mined) = world.payer.fate(&hashes, first.account_nonce).await.unwrap() else {
        panic!("not mined");
    };
    assert_eq!(mined.hash, second.hash);
    assert_eq!(paid(&world).await, 5);
}

#[tokio::test]
async fn send_bumps_a_stuck_transaction_until_it_is_mined_once() {
    let world = idle_world().await;
    let config = SenderConfig {
        bump_after: Duration::from_millis(300),
        ..sender_config()
    };
    let hasty = Sender::with_config(world.client.clone(), Anvil::key(6), config);
    let sent = Arc::new(Mutex::new(Vec::<Prepared>::new()));
    let task = tokio::spawn({
        let (hasty, sent) = (hasty.clone(), Arc::clone(&sent));
        async move {
            let save = |prepared: &Prepared| {
                sent.lock().unwrap().push(prepared.clone());
                Ok(())
            };
            hasty.send_saving(TARGET, Bytes::new(), U256::from(5), save).await
        }
    });
    let sent_at_least = async |count: usize| {
        while sent.lock().unwrap().len() < count {
            assert!(
                !task.is_finished(),
                "ended with {} of {count} sent",
                sent.lock().unwrap().len()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Wait for the first, then let the market run away from it.
    sent_at_least(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let first = sent.lock().unwrap()[0].clone();
    world
        .anvil
        .set_next_base_fee(first.max_fee_per_gas * 5)
        .await
        .unwrap();
    world.anvil.mine(1).await.unwrap();
    sent_at_least(2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.anvil.mine(1).await.unwrap();
    let mined = task.await.unwrap().unwrap();
    let hashes: Vec<B256> = sent
        .lock()
        .unwrap()
        .iter()
        .map(|prepared| prepared.hash)
        .collect();
    assert!(mined.hash != hashes[0] && hashes.contains(&mined.hash));
    assert_eq!(paid(&world).await, 5);
    assert_eq!(
        world
            .client
            .account_nonce(hasty.address(), At::Latest)
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_dropped_transaction_is_unknown_and_can_be_sent_again() {
    let world = idle_world().await;
    let prepared = prepare_payment(&world.payer, None, None).await;
    world.payer.broadcast(&prepared.raw).await.unwrap();
    assert!(world.anvil.drop_transaction(prepared.hash).await.unwrap());
    let fate = || {
        world
            .payer
            .fate(std::slice::from_ref(&prepared.hash), prepared.account_nonce)
    };
    assert!(matches!(fate().await.unwrap(), Fate::Unknown));
    assert_eq!(
        world.payer.broadcast(&prepared.raw).await.unwrap(),
        Broadcast::Sent
    );
    world.anvil.mine(1).await.unwrap();
    assert!(matches!(fate().await.unwrap(), Fate::Mined(_)));
}

#[tokio::test]
async fn a_process_killed_after_saving_goes_on_with_what_it_saved() {
    let world = idle_world().await;
    let sent = Mutex::new(Vec::<Prepared>::new());
    // Saving is the last thing it does.
    let error = world
        .payer
        .send_saving(TARGET, Bytes::new(), U256::from(5), |prepared| {
            sent.lock().unwrap().push(prepared.clone());
            Err("killed".into())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::NotSaved(_)), "{error}");
    let sent = sent.into_inner().unwrap();
    assert!(matches!(
        world
            .payer
            .fate(&[sent[0].hash], sent[0].account_nonce)
            .await
            .unwrap(),
        Fate::Unknown
    ));
    world.anvil.set_automine(true).await.unwrap();
    let again = sender(&world.client, 1);
    let hash = sent[0].hash;
    let mined = again
        .confirm(TARGET, Bytes::new(), U256::from(5), sent, |_| Ok(()))
        .await
        .unwrap();
    assert_eq!(mined.hash, hash);
    assert_eq!(paid(&world).await, 5);
}

#[tokio::test]
async fn another_transaction_with_the_same_account_nonce_supersedes() {
    let world = idle_world().await;
    let ours = prepare_payment(&world.payer, None, None).await;
    world.payer.broadcast(&ours.raw).await.unwrap();
    let nonce = Some(ours.account_nonce);
    let other = world
        .payer
        .prepare(
            Address::repeat_byte(1),
            Bytes::new(),
            U256::ZERO,
            nonce,
            Some(ours.fees()),
        )
        .await
        .unwrap();
    world.payer.broadcast(&other.raw).await.unwrap();
    world.anvil.mine(1).await.unwrap();
    let fate = world.payer.fate(&[ours.hash], ours.account_nonce).await.unwrap();
    assert!(matches!(fate, Fate::Superseded), "{fate:?}");
    assert_eq!(
        world.payer.broadcast(&ours.raw).await.unwrap(),
        Broadcast::NonceUsed
    );
    let error = world
        .payer
        .confirm(TARGET, Bytes::new(), U256::from(5), vec![ours], |_| Ok(()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ChainError::Superseded { .. }) && !error.retry(),
        "{error}"
    );
    assert_eq!(paid(&world).await, 0);
}

#[tokio::test]
async fn a_revert_is_found_before_sending_and_named_with_its_values() {
    let world = world(AnvilOptions::default()).await;
    let before = world
        .client
        .account_nonce(world.payer.address(), At::Latest)
        .await
        .unwrap();
    let escrow = key("nobody").address();
    let error = world
        .try_act(
            &world.payer,
            topUpCall {
                escrow,
                amount: U256::from(3),
            },
            3,
        )
        .await
        .unwrap_err();
    let revert = error.revert().unwrap();
    assert_eq!(
        (revert.name.as_str(), revert.text.as_str()),
        ("WrongStatus", "WrongStatus { got: 0, needed: 1 }")
    );
    assert!(!error.retry() && error.to_string().contains("WrongStatus { got: 0, needed: 1 }"));

    let key = key("reverts");
    world.open(&key, NATIVE, PRIZE).await;
    let recipient = world.merchants[0].address();
    let mut winner = world.winner(&key, recipient, 4).await;
    winner.expiry = 17;
    let claim = claimCall {
        recipient,
        escrow: key.address(),
        r1: support::r1(recipient),
        winner,
    };
    let error = world.try_act(&world.merchants[0], claim, 0).await.unwrap_err();
    let Some(TicketEscrowErrors::TicketExpired(expired)) = error.revert().unwrap().error_of::<Tickets>()
    else {
        panic!("{error}");
    };
    assert_eq!(expired.expiry, U256::from(17));

    // A token's own error comes through, too.
    let poor = sender(&world.client, 8);
    let mut open = world.open_call(&support::key("poor"), world.token, PRIZE);
    open.possession.v = 27;
    let error = world.try_act(&poor, open, 0).await.unwrap_err();
    assert_eq!(error.revert().unwrap().name, "WrongSigner", "{error}");
    let top_up = topUpCall {
        escrow: support::key("token").address(),
        amount: U256::from(PENALTY),
    };
    world.open(&support::key("token"), world.token, PRIZE).await;
    let error = world.try_act(&poor, top_up, 0).await.unwrap_err();
    assert!(
        error.to_string().contains("ERC20InsufficientAllowance"),
        "{error}"
    );

    // Nothing of that cost gas or an account nonce.
    let after = world
        .client
        .account_nonce(world.payer.address(), At::Latest)
        .await
        .unwrap();
    assert_eq!(after, before + 2);
}

#[tokio::test]
async fn a_transaction_that_fails_when_mined_is_told_with_its_reason() {
    let world = world(AnvilOptions::default()).await;
    let key = key("fails");
    world.open(&key, NATIVE, PRIZE).await;
    world.anvil.set_automine(false).await.unwrap();
    let data = call_data(&requestWithdrawCall {
        escrow: key.address(),
    });
    let mut sent = Vec::new();
    // Both pass the simulation, as neither is mined.
    for _ in 0..2 {
        let prepared = world
            .payer
            .prepare(world.contract(), data.clone(), U256::ZERO, None, None)
            .await
            .unwrap();
        world.payer.broadcast(&prepared.raw).await.unwrap();
        sent.push(prepared);
    }
    world.anvil.mine(1).await.unwrap();
    let second = sent.pop().unwrap();
    let Fate::Mined(mined) = world
        .payer
        .fate(&[sent[0].hash], sent[0].account_nonce)
        .await
        .unwrap()
    else {
        panic!("not mined");
    };
    assert!(mined.success && matches!(mined.events[..], [TicketEscrowEvents::WithdrawRequested(_)]));
    let error = world
        .payer
        .confirm(world.contract(), data, U256::ZERO, vec![second.clone()], |_| {
            Ok(())
        })
        .await
        .unwrap_err();
    let ChainError::Failed { hash, reason, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*hash, second.hash);
    assert_eq!(reason, "WrongStatus { got: 2, needed: 1 }");
    // Too early to withdraw: found by the simulation.
    let error = world
        .try_act(
            &world.payer,
            withdrawCall {
                escrow: key.address(),
            },
            0,
        )
        .await
        .unwrap_err();
    assert_eq!(error.revert().unwrap().name, "WithdrawTooEarly");
}

#[tokio::test]
async fn what_an_account_cannot_pay_is_told_with_both_amounts() {
    let world = world(AnvilOptions::default()).await;
    let poor = sender(&world.client, 9);
    let have = U256::from(1_000_000_000_000_u64);
    world.anvil.set_balance(poor.address(), have).await.unwrap();
    for value in [have + U256::from(1), have] {
        let error = poor.send(TARGET, Bytes::new(), value).await.unwrap_err();
        let ChainError::InsufficientFunds { have: got, need, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*got, have);
        assert!(*need > have && !error.retry());
    }
    // Poor only after it was prepared.
    world
        .anvil
        .set_balance(poor.address(), have * have)
        .await
        .unwrap();
    let prepared = prepare_payment(&poor, None, None).await;
    world.anvil.set_balance(poor.address(), have).await.unwrap();
    let error = poor.broadcast(&prepared.raw).await.unwrap_err();
    let ChainError::InsufficientFunds { have: got, need, .. } = &error else {
        panic!("{error}")
    };
    let fee = u128::from(prepared.gas_limit) * prepared.max_fee_per_gas;
    assert_eq!((*got, *need), (have, U256::from(fee + 5)));
}

#[tokio::test]
async fn no_fee_above_the_cap_is_offered() {
    let world = world(AnvilOptions::default()).await;
    let config = SenderConfig {
        fee_cap: 1_000,
        ..sender_config()
    };
    let thrifty = Sender::with_config(world.client.clone(), Anvil::key(6), config);
    let error = thrifty.send(TARGET, Bytes::new(), U256::ZERO).await.unwrap_err();
    assert!(
        matches!(error, ChainError::FeeAboveCap { cap: 1_000, needed } if needed > 1_000),
        "{error}"
    );
    assert!(error.retry());
    let market = world.client.market_fees().await.unwrap();
    assert_eq!(
        bump(
            Fees {
                max_fee_per_gas: 0,
                max_priority_fee_per_gas: 0
            },
            market
        ),
        market
    );
}

#[tokio::test]
async fn concurrent_sends_of_one_account_do_not_collide() {
    let world = world(AnvilOptions {
        args: vec!["--block-time".into(), "1".into()],
        ..Default::default()
    })
    .await;
    let sends = (0..12).map(|_| world.payer.send(TARGET, Bytes::new(), U256::from(5)));
    for mined in futures::future::join_all(sends).await {
        assert!(mined.unwrap().success);
    }
    assert_eq!(paid(&world).await, 60);
}

#[tokio::test]
async fn an_answer_lost_on_the_way_sends_nothing_twice() {
    let world = world(AnvilOptions::default()).await;
    let proxy = Proxy::start(world.anvil.url()).await;
    let mut config = support::config(31337);
    config.request_timeout = Duration::from_millis(400);
    let client = micropay_chain::ChainClient::connect(proxy.url.clone(), config)
        .await
        .unwrap();
    let payer = sender(&client, 1);
    let before = client.account_nonce(payer.address(), At::Latest).await.unwrap();

    // The node takes the transaction, but its answer comes too late; then the next looks fail, too.
    let mut looks = 0;
    proxy.rule(move |method, _| match method {
        "eth_sendRawTransaction" => Reply::Late(Duration::from_millis(600)),
        "eth_getTransactionReceipt" => {
            looks += 1;
            match looks {
                1 => Reply::HangUp,
                2 => Reply::Raw(502, "<html>Bad Gateway</html>".to_owned()),
                3 => Reply::Raw(200, "<html>Welcome</html>".to_owned()),
                _ => Reply::Pass,
            }
        }
        _ => Reply::Pass,
    });
    assert!(
        payer
            .send(TARGET, Bytes::new(), U256::from(5))
            .await
            .unwrap()
            .success
    );
    assert_eq!(paid(&world).await, 5);

    // The node never gets the first broadcast.
    let mut broadcasts = 0;
    proxy.rule(move |method, _| {
        broadcasts += u32::from(method == "eth_sendRawTransaction");
        if method == "eth_sendRawTransaction" && broadcasts == 1 {
            Reply::HangUp
        } else {
            Reply::Pass
        }
    });
    assert!(
        payer
            .send(TARGET, Bytes::new(), U256::from(5))
            .await
            .unwrap()
            .success
    );
    assert_eq!(paid(&world).await, 10);
    assert_eq!(
        client.account_nonce(payer.address(), At::Latest).await.unwrap(),
        before + 2
    );

    // Another hash than ours is rubbish.
    proxy.rule(|method, _| match method {
        "eth_sendRawTransaction" => Reply::Result(format!("{:?}", B256::repeat_byte(1)).into()),
        _ => Reply::Pass,
    });
    let prepared = prepare_payment(&payer, None, None).await;
    let error = payer.broadcast(&prepared.raw).await.unwrap_err();
    assert!(matches!(error, ChainError::Rubbish { .. }), "{error}");

    // A node that loses everything: told after the time given, with the hashes to look for.
    let config = SenderConfig {
        give_up_after: Duration::from_millis(500),
        ..sender_config()
    };
    let patient = Sender::with_config(client.clone(), Anvil::key(1), config);
    proxy.rule(|method, _| {
        if method == "eth_sendRawTransaction" {
            Reply::HangUp
        } else {
            Reply::Pass
        }
    });
    let error = patient
        .send(TARGET, Bytes::new(), U256::from(5))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ChainError::NotMined { hashes, .. } if hashes.len() == 1),
        "{error}"
    );
}
