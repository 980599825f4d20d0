//! Everything that goes wrong and costs nobody more than it should.

use merchant::channel::{AcceptError, Admitted, ClosePolicy, Step, Watched, Watcher};
use micropay_e2e::{Fault, NATIVE, StallSetup, UNIT, Window, account_key, purchase};
use payer::channel::{Checkpoints, PayError, recover};
use protocol::channel::{Amount, Closing, Index, Lock, Payment, Refusal, Seconds, Status, Tag, Word};
use protocol::ticket::OrderId;
use storage::channel::{ClientChannelStore, SettlementStep, SettlementStore};
use storage::conformance::postgres::PostgresCluster;
use storage::{Budget, PostgresStore};

use super::{CLIENT, VENDOR, channel, scene};

const DAY: u64 = 24 * 3600;

#[tokio::test]
async fn refund_only_after_expiry() {
    let (market, customer, stall, window) = scene("refund").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=5 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    let now = market.world.clock.now();
    customer.steps.refund(channel, now).await.unwrap_err();
    // The vendor sleeps.
    market.forward(DAY + 10).await;
    customer.steps.refund(channel, now).await.unwrap();
    assert_eq!(market.credit(NATIVE, CLIENT).await, 20 * UNIT.0);
    // Late, it sees that there is nothing to be had.
    market.finalize(&stall).await;
    assert_eq!(stall.step().await, Step::Gone(channel));
    assert_eq!(stall.step().await, Step::Waited);
    assert_eq!(market.credit(NATIVE, VENDOR).await, 0);
}

#[tokio::test]
async fn a_late_payment_is_refused_and_the_closer_closes_before_expiry() {
    let (market, customer, stall, window) = scene("late").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=7 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    assert_eq!(stall.step().await, Step::Waited);
    market.forward(DAY - 1800).await;
    market.finalize(&stall).await;
    let error = customer.buy(&window, channel, 8, 1).await.unwrap_err();
    assert!(
        matches!(&error, PayError::Refused { rule, .. } if rule == "too-late"),
        "{error}"
    );
    assert!(error.needs_top_up());
    let settled = market.settle(&stall).await;
    assert_eq!((settled.settled, settled.paid), (1, 7 * UNIT.0));
    assert_eq!(market.credit(NATIVE, CLIENT).await, 13 * UNIT.0);
}

#[tokio::test]
async fn a_watcher_without_the_vendors_key_saves_an_offline_vendor() {
    let (market, customer, stall, window) = scene("watcher").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=9 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    let gas = ClosePolicy::default().gas;
    let file = stall.vendor.watch_file(channel, &gas).await.unwrap().unwrap();
    let watcher = || Watcher::new(market.sender(7), Seconds::HOUR.times(2));
    let look = async || watcher().step(&file, market.world.clock.now()).await.unwrap();
    assert!(matches!(look().await, Watched::Waits { .. }));
    market.forward(DAY - 3600).await;
    assert!(matches!(look().await, Watched::Checkpointed { .. }));
    assert_eq!(look().await, Watched::Settled { settled: Index(9) });
    // A reorg takes it away, and the watcher does it again.
    market.world.anvil.reorg(1).await.unwrap();
    assert!(matches!(look().await, Watched::Checkpointed { .. }));
    market.forward(3700).await;
    assert_eq!(look().await, Watched::Over);
    customer
        .steps
        .refund(channel, market.world.clock.now())
        .await
        .unwrap();
    assert_eq!(market.credit(NATIVE, VENDOR).await, 9 * UNIT.0);
    assert_eq!(market.credit(NATIVE, CLIENT).await, 11 * UNIT.0);
}

#[tokio::test]
async fn attack_abort_at_i_vendor_paid_i() {
    const LENGTH: u32 = 8;
    let (market, customer, stall, window) = scene("abort").await;
    let mut channels = Vec::new();
    for _ in 0..=LENGTH {
        channels.push(market.open(&customer, stall.address(), LENGTH).await);
    }
    market.finalize(&stall).await;
    let mut number = 0;
    for (i, channel) in channels.iter().enumerate() {
        for _ in 0..i {
            number += 1;
            customer.buy(&window, *channel, number, 1).await.unwrap();
        }
        stall.ask(*channel, SettlementStep::Close);
    }
    // All in one transaction.
    let settled = market.settle(&stall).await;
    assert_eq!((settled.settled, settled.skipped), (LENGTH + 1, 0));
    for (i, channel) in channels.iter().enumerate() {
        let record = stall.record(*channel);
        let Some(Closing::Closed { paid, refunded, .. }) = record.closing else {
            panic!("{:?}", record.closing);
        };
        assert_eq!(paid, UNIT.saturating_mul(i as u64), "abort at {i}");
        assert_eq!(refunded, UNIT.saturating_mul(u64::from(LENGTH) - i as u64));
    }
}

#[tokio::test]
async fn answers_that_are_lost_and_goods_that_fail_are_not_paid_twice() {
    let (market, customer, stall, window) = scene("faults").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    customer.buy(&window, channel, 1, 1).await.unwrap();

    // Lost either way: the same payment again.
    for (number, fault) in [(2, Fault::LoseRequest), (3, Fault::LoseAnswer), (4, Fault::Keep)] {
        window.fail(fault);
        assert!(matches!(
            customer.buy(&window, channel, number, 1).await,
            Err(PayError::Api(_))
        ));
        let paid = customer.buy(&window, channel, number, 1).await.unwrap();
        assert_eq!(u64::from(paid.payment.index.0), number, "{fault:?}");
    }
    // And again, long after.
    let again = customer.buy(&window, channel, 2, 1).await.unwrap();
    assert_eq!(again.payment.index, Index(2));
    assert_eq!(*window.delivered.lock().unwrap(), [1, 2, 3, 4]);

    // The good fails twice: another payment at the same index, which charges nothing.
    let budget = || Budget {
        account: "task".into(),
        limit: UNIT,
    };
    for _ in 0..2 {
        window.fail(Fault::LoseGood);
        let failed = customer
            .payer
            .pay(&window, &purchase(5, 1, NATIVE), channel, &[budget()])
            .await;
        assert!(matches!(failed, Err(PayError::Failed { .. })), "{failed:?}");
    }
    let paid = customer
        .payer
        .pay(&window, &purchase(5, 1, NATIVE), channel, &[budget()])
        .await
        .unwrap();
    assert_eq!((paid.payment.index, paid.charged), (Index(5), Amount::ZERO));

    // An answer is lost, and its order given up: another order goes on.
    for (number, fault) in [(6, Fault::LoseAnswer), (8, Fault::LoseRequest), (10, Fault::Keep)] {
        window.fail(fault);
        customer.buy(&window, channel, number, 1).await.unwrap_err();
        customer.buy(&window, channel, number + 1, 1).await.unwrap();
    }
    let position = customer.position(channel).await;
    assert_eq!(
        position,
        Index(10),
        "6, 7, 9, 10 and 11 were paid for, and 8 never arrived"
    );

    // Every receipt opens all the same.
    let opened = customer.steps.deliver_opener(&window, channel).await.unwrap();
    assert_eq!((opened.opened, opened.ends_in_sigma0), (10, true));
    stall.ask(channel, SettlementStep::Close);
    assert_eq!(market.settle(&stall).await.paid, 10 * UNIT.0);
}

#[tokio::test]
async fn a_payment_buys_one_order_and_a_stale_index_nothing() {
    let (market, customer, stall, window) = scene("stale").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    let first = customer.buy(&window, channel, 1, 1).await.unwrap().payment;
    for number in 2..=5 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    let last = customer.buy(&window, channel, 6, 1).await.unwrap().payment;
    let thief = OrderId(micropay_e2e::hash("thief", 1));
    let theft = window.admit(thief, 6, &last, None).await;
    assert!(matches!(theft, Err(AcceptError::OtherOrder { .. })));
    let theft = window.admit(thief, 1, &first, None).await;
    assert!(matches!(theft, Err(AcceptError::OtherOrder { .. })));
    // A made-up payment of an old index learns where the vendor stands, and no more.
    let mut made_up = first;
    made_up.tag = last.tag;
    match window.admit(thief, 1, &made_up, None).await {
        Err(AcceptError::Refused {
            refusal: Refusal::IndexBackwards { delivered, .. },
            ..
        }) => assert_eq!(delivered, Index(6)),
        other => panic!("{:?}", other.err()),
    }
    // The same order gets its good again.
    let order = purchase(1, 1, NATIVE).order;
    assert!(matches!(
        window.admit(order, 1, &first, None).await,
        Ok(Admitted::Repeat(_))
    ));
}

/// Channel, index and tag are on the chain or guessed, and so is the request. Word and lock are not.
#[tokio::test]
async fn a_stranger_gets_neither_answer_nor_position() {
    let (market, customer, stall, window) = scene("stranger").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=3 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    let last = customer.buy(&window, channel, 4, 1).await.unwrap().payment;
    let order = purchase(4, 1, NATIVE).order;
    let mut copy = last;
    copy.word = Word(micropay_e2e::hash("junk", 1));
    copy.lock = Lock([7; 64]);
    let mut probe = copy;
    (probe.index, probe.tag) = (Index(1), Tag::default());
    for attempt in [copy, probe] {
        match window.admit(order, 4, &attempt, None).await {
            Err(
                error @ AcceptError::Refused {
                    refusal: Refusal::WordNotInChain { .. },
                    position: None,
                },
            ) => {
                let text = error.to_string();
                assert!(!text.contains(&last.word.to_string()), "{text}");
                assert!(!text.contains(&last.tag.to_string()), "{text}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
    // A checkpoint shows the word to everybody; the lock it leaves hidden.
    let mut known_word = last;
    known_word.lock = Lock([7; 64]);
    for attempt in [
        known_word,
        Payment {
            index: Index(1),
            ..known_word
        },
    ] {
        let refused = window.admit(order, 4, &attempt, None).await;
        assert!(
            matches!(refused, Err(AcceptError::Refused { .. })),
            "{:?}",
            refused.err()
        );
    }
    assert!(matches!(
        window.admit(order, 4, &last, None).await,
        Ok(Admitted::Repeat(_))
    ));
}

/// What is sent again after a restore was delivered already, its client says: it buys nothing, whatever its price was.
#[tokio::test]
async fn a_payment_sent_again_after_a_restore_buys_nothing() {
    let (market, customer, stall, window) = scene("resent").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    customer.buy(&window, channel, 1, 1).await.unwrap();
    window.fail(Fault::LoseRequest);
    customer.buy(&window, channel, 2, 1).await.unwrap_err();
    let order = purchase(2, 1, NATIVE).order;
    let payment = customer
        .store
        .client_payment(order)
        .await
        .unwrap()
        .unwrap()
        .payment;
    let now = market.world.clock.now();
    assert_eq!(stall.vendor.restore(&[(order, payment)], now).await.unwrap(), 1);
    assert_eq!(
        stall.vendor.restore(&[(order, payment)], now).await.unwrap(),
        0,
        "once"
    );
    for item in [2, 3] {
        let refused = window.admit(order, item, &payment, None).await;
        assert!(
            matches!(refused, Err(AcceptError::OtherOrder { .. })),
            "{:?}",
            refused.err()
        );
    }
}

#[tokio::test]
async fn coin_of_other_channel_rejected() {
    let (market, customer, stall, window) = scene("foreign").await;
    let mine = channel(&market, &customer, &stall, 20).await;
    let payment = customer.buy(&window, mine, 1, 1).await.unwrap().payment;
    // At another vendor.
    market.set_reputation(2, 80).await;
    let other = market.stall(2).await;
    let foreign = Window::new(&other)
        .admit(OrderId::default(), 1, &payment, None)
        .await;
    assert!(matches!(
        foreign,
        Err(AcceptError::Refused {
            refusal: Refusal::WrongVendor { .. },
            ..
        })
    ));
    // Under the name of another channel of the same vendor.
    let second = channel(&market, &customer, &stall, 20).await;
    let mut renamed = payment;
    renamed.channel = second;
    let refused = window.admit(OrderId::default(), 1, &renamed, None).await;
    assert!(matches!(
        refused,
        Err(AcceptError::Refused {
            refusal: Refusal::WordNotInChain { .. },
            ..
        })
    ));
    // And of one that never was.
    renamed.channel.0.0[0] ^= 1;
    let refused = window.admit(OrderId::default(), 1, &renamed, None).await;
    assert!(matches!(
        refused,
        Err(AcceptError::Refused {
            refusal: Refusal::ChannelMissing { .. },
            ..
        })
    ));
}

#[tokio::test]
async fn a_client_that_lost_its_store_rebuilds_it_from_its_keys() {
    let (market, customer, stall, window) = scene("lost").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=6 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    drop(customer);
    let customer = market.customer(CLIENT, "lost", Checkpoints::default()).await;
    let record = stall.vendor.record(channel).unwrap();
    let now = market.world.clock.now();
    let recovered = recover(
        &market.domain,
        &customer.key,
        &record,
        &window,
        &customer.store,
        now,
    )
    .await
    .unwrap();
    assert_eq!(recovered.channel.acknowledged().index, Index(6));
    let paid = customer.buy(&window, channel, 7, 1).await.unwrap();
    assert_eq!(paid.payment.index, Index(7));
    // Together they end it at once.
    let closed = customer
        .steps
        .cooperative_close(&window, &account_key(CLIENT), channel, now)
        .await
        .unwrap();
    assert_eq!(closed.index, Index(7));
    assert_eq!(market.credit(NATIVE, CLIENT).await, 13 * UNIT.0);
    assert_eq!(market.credit(NATIVE, VENDOR).await, 7 * UNIT.0);
}

#[tokio::test]
async fn a_vendor_restored_from_a_backup_gets_what_it_lost_from_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let (file, copy) = (
        folder.path().join("vendor.sqlite"),
        folder.path().join("copy.sqlite"),
    );
    let (market, customer, _, _) = scene("backup").await;
    let identity = market.stall_identity(VENDOR);
    let store = storage::SqliteStore::open(&file, identity).await.unwrap();
    let stall = market.stall_on(StallSetup::new(VENDOR), store).await;
    let window = Window::new(&stall);
    let channel = market.open(&customer, stall.address(), 20).await;
    market.finalize(&stall).await;
    for number in 1..=3 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    stall.store.close().await.unwrap();
    std::fs::copy(&file, &copy).unwrap();
    drop((window, stall));

    let store = storage::SqliteStore::open(&file, identity).await.unwrap();
    let stall = market.stall_on(StallSetup::new(VENDOR), store).await;
    let window = Window::new(&stall);
    for number in 4..=8 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    stall.store.close().await.unwrap();
    drop((window, stall));

    // The disk fails; the copy is of payment 3.
    let store = storage::SqliteStore::open(&copy, identity).await.unwrap();
    let stall = market.stall_on(StallSetup::new(VENDOR), store).await;
    let window = Window::new(&stall);
    let paid = customer.buy(&window, channel, 9, 1).await.unwrap();
    assert_eq!(paid.payment.index, Index(9));
    assert_eq!(
        *window.delivered.lock().unwrap(),
        [9],
        "nothing is delivered twice"
    );
    let opened = customer.steps.deliver_opener(&window, channel).await.unwrap();
    assert_eq!((opened.opened, opened.ends_in_sigma0), (9, true));
    stall.ask(channel, SettlementStep::Close);
    assert_eq!(market.settle(&stall).await.paid, 9 * UNIT.0);
}

#[tokio::test]
async fn two_processes_of_one_vendor_take_turns_on_one_database() {
    let (market, customer, _, _) = scene("two").await;
    let url = PostgresCluster::shared().database().await;
    let open = async || {
        PostgresStore::open(&url, market.stall_identity(VENDOR))
            .await
            .unwrap()
    };
    let stall = market.stall_on(StallSetup::new(VENDOR), open().await).await;
    let window = Window::new(&stall);
    let channel = channel(&market, &customer, &stall, 40).await;
    let other = market.stall_on(StallSetup::new(VENDOR), open().await).await;
    let second = Window::new(&other);
    for number in 1..=20 {
        let window = if number % 3 == 0 { &second } else { &window };
        let paid = customer.buy(window, channel, number, 1).await.unwrap();
        assert_eq!(u64::from(paid.payment.index.0), number);
    }
    let opened = customer.steps.deliver_opener(&second, channel).await.unwrap();
    assert_eq!((opened.opened, opened.ends_in_sigma0), (20, true));
    // One of them closes: the other takes nothing more.
    stall.ask(channel, SettlementStep::Close);
    assert!(matches!(stall.step().await, Step::Queued(..)));
    let error = customer.buy(&second, channel, 21, 1).await.unwrap_err();
    assert!(
        matches!(&error, PayError::Refused { rule, .. } if rule == "channel-closed"),
        "{error}"
    );
    assert_eq!(market.settle(&stall).await.paid, 20 * UNIT.0);
}

#[tokio::test]
async fn a_cooperative_close_takes_no_word_back_and_lets_none_follow() {
    let (market, customer, stall, window) = scene("together").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=4 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    let now = market.world.clock.now();
    let sign = async |index| {
        stall
            .vendor
            .sign_cooperative_close(&stall.key, channel, Index(index), now)
            .await
    };
    sign(3).await.unwrap_err();
    customer.buy(&window, channel, 5, 1).await.unwrap();
    sign(5).await.unwrap();
    assert_eq!(sign(5).await.unwrap(), sign(5).await.unwrap());
    sign(6).await.unwrap_err();
    let error = customer.buy(&window, channel, 6, 1).await.unwrap_err();
    assert!(matches!(error, PayError::Refused { .. }), "{error}");
    // The client lets it lie; the vendor closes with its word.
    assert!(matches!(stall.step().await, Step::Pending(_)));
    market.forward(3700).await;
    assert_eq!(market.settle(&stall).await.paid, 5 * UNIT.0);
}

#[tokio::test]
async fn a_closer_that_was_killed_between_save_and_send_goes_on() {
    let (market, customer, stall, window) = scene("killed").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=4 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    market.world.anvil.set_automine(false).await.unwrap();
    stall.ask(channel, SettlementStep::Close);
    assert!(matches!(stall.step().await, Step::Queued(..)));
    let Step::Sent(id, hash) = stall.step().await else {
        panic!("not sent");
    };
    // As if it had never left.
    market.world.anvil.drop_transaction(hash).await.unwrap();
    let stall = market
        .stall_on(StallSetup::new(VENDOR), stall.store.clone())
        .await;
    assert_eq!(stall.step().await, Step::Sent(id, hash));
    market.world.anvil.set_automine(true).await.unwrap();
    market.world.anvil.mine(1).await.unwrap();
    assert_eq!(market.settle(&stall).await.paid, 4 * UNIT.0);
    assert_eq!(stall.store.settlements(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_top_up_in_front_of_a_close_goes_back_with_the_rest() {
    let (market, customer, stall, window) = scene("race").await;
    let channel = channel(&market, &customer, &stall, 20).await;
    for number in 1..=4 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    stall.ask(channel, SettlementStep::Close);
    assert!(matches!(stall.step().await, Step::Queued(..)));
    // The vendor has not seen it when it closes.
    let permit = market.top_up_permit(&customer, channel, 50).await;
    customer.steps.top_up(&permit).await.unwrap();
    assert!(matches!(stall.step().await, Step::Sent(..)));
    assert_eq!(market.settle(&stall).await.paid, 4 * UNIT.0);
    assert_eq!(market.credit(NATIVE, CLIENT).await, 46 * UNIT.0);
    // Behind a close it is refused.
    let permit = market.top_up_permit(&customer, channel, 60).await;
    customer.steps.top_up(&permit).await.unwrap_err();
    assert_eq!(stall.record(channel).status(), Status::Closed);
}

#[tokio::test]
async fn permits_of_a_rotated_key_open_nothing() {
    let (market, customer, stall, window) = scene("rotated").await;
    let old = channel(&market, &customer, &stall, 20).await;
    let (request, salt) = market.request(&customer, stall.address(), NATIVE, 20, DAY).await;
    let signed_before = market.admit(&request).await;
    market.rotate_bank_key("second key").await;
    let now = market.world.clock.now();
    customer
        .steps
        .open(&signed_before, salt, None, now)
        .await
        .unwrap_err();
    // What is open goes on, and can be topped up with the new key.
    customer.buy(&window, old, 1, 1).await.unwrap();
    market.top_up(&customer, &stall, old, 30).await;
    customer.buy(&window, old, 2, 1).await.unwrap();
    let opened = customer.steps.deliver_opener(&window, old).await.unwrap();
    assert!(opened.ends_in_sigma0);
}

#[tokio::test]
async fn reputation_49_50_51() {
    let (market, customer, stall, window) = scene("standing").await;
    for (number, reputation) in [(1, 49), (2, 50), (3, 51)] {
        market.set_reputation(CLIENT, 90).await;
        let (request, salt) = market.request(&customer, stall.address(), NATIVE, 20, DAY).await;
        let mut permit = market.admit(&request).await;
        market.set_reputation(CLIENT, reputation).await;
        if reputation >= 50 {
            permit = market.admit(&request).await;
        } else {
            // A bank that signs what its own rules forbid.
            let mut fields = permit.permit().fields().clone();
            fields.clientReputation = reputation;
            let key = market.bank_key.lock().unwrap().clone();
            permit = protocol::channel::Permit::new(&market.domain, fields).sign(market.bank(), &key);
        }
        let now = market.world.clock.now();
        let opened = customer.steps.open(&permit, salt, None, now).await;
        assert_eq!(opened.is_ok(), reputation >= 50, "{reputation}: {opened:?}");
        if opened.is_ok() {
            market.finalize(&stall).await;
            let channel = permit.permit().channel();
            customer.buy(&window, channel, number, 1).await.unwrap();
        } else {
            customer
                .store
                .close_client_channel(permit.permit().channel(), now)
                .await
                .unwrap();
        }
    }
}
