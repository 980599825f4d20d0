//! The vendor's rules, one by one: what is refused, with which values, and what the client can do about it.

use alloy_primitives::Address;
use bindings::channel::PaymentChannel::{Checkpointed, Refunded};
use micropay_protocol::channel::{
    Amount, ChannelEvent, Index, Order, Payment, Policy, Refusal, Retry, Seconds, Timestamp, VendorChannel,
    Word, previous,
};

use crate::world::{World, bytes32, item, key, reputation};

/// A world, a payment that is good in it, and its order.
fn good() -> (World, Payment, Order) {
    let mut world = World::new(20);
    world.buy(1, 1);
    world.buy(2, 1);
    let payment = world.pay(3, 1);
    let order = world.order(3, 1);
    (world, payment, order)
}

#[track_caller]
fn refused(change: impl FnOnce(&mut World, &mut Payment, &mut Order), rule: &str, retry: Retry) -> Refusal {
    let (mut world, mut payment, mut order) = good();
    assert!(world.accept(payment, order).is_ok());
    change(&mut world, &mut payment, &mut order);
    let before = world.seller;
    let refusal = world.accept(payment, order).unwrap_err();
    assert_eq!(refusal.rule(), rule, "{refusal}");
    assert_eq!(refusal.retry(), retry, "{refusal}");
    assert_eq!(world.seller, before);
    refusal
}

#[test]
fn a_payment_costs_one_hash_and_no_signature() {
    let (mut world, payment, order) = good();
    let accepted = world.accept(payment, order).unwrap();
    assert_eq!(accepted.hashes(), 1);
    assert_eq!(accepted.confirmed(), None);
    assert_eq!(accepted.payment(), &payment);
    let stored = *accepted.channel();
    assert_eq!(stored.paid.index, Index(3));
    assert_eq!(stored.delivered.index, Index(2), "the good is still to come");
    assert_eq!(stored.pending, Some(payment));
    let delivered = accepted.delivered();
    assert_eq!(delivered.receipt, payment.receipt());
    assert_eq!(delivered.channel.delivered.index, Index(3));
    assert_eq!(delivered.channel.pending, None);
    assert_eq!(accepted.failed().channel, stored);
    // k units, k hashes.
    world.seller = delivered.channel;
    world.payer = world.payer.acknowledge(payment.tag).unwrap();
    let jump = world.pay(4, 7);
    assert_eq!(world.accept(jump, world.order(4, 7)).unwrap().hashes(), 7);
}

#[test]
fn each_rule_refuses_by_name() {
    use Retry::{Delivered, Later, Never, NewPayment, TopUp};
    let stranger = key("stranger").address();
    let start = Timestamp(1_800_000_000);
    refused(|_, p, _| p.channel.0.0[0] ^= 1, "foreign-channel", Never);
    assert_eq!(
        refused(|w, _, _| w.mirror_age = Seconds(301), "mirror-stale", Later),
        Refusal::MirrorStale {
            age: Seconds(301),
            limit: Seconds(300)
        }
    );
    refused(|w, _, _| w.last_final = None, "channel-missing", Later);
    refused(|w, _, _| w.head = None, "channel-missing", Later);
    let closed = ChannelEvent::Refunded(Refunded {
        channelId: World::new(1).payer.id().0,
        index: 0,
        refunded: alloy_primitives::U256::from(2_000),
    });
    // What is bad counts from the moment it is seen.
    refused(
        |w, _, _| micropay_protocol::channel::fold(&mut w.head, &closed).unwrap(),
        "channel-closed",
        Never,
    );
    refused(
        |w, _, _| w.change(|record| record.vendor = stranger),
        "wrong-vendor",
        Never,
    );
    assert_eq!(
        refused(
            |w, _, _| w.policy.banks = vec![stranger],
            "bank-not-accepted",
            Never
        ),
        Refusal::BankNotAccepted {
            got: World::new(1).bank.address(),
            accepted: 1
        }
    );
    refused(|w, _, _| w.policy.banks.clear(), "bank-not-accepted", Never);
    assert_eq!(
        refused(
            |w, _, _| w.policy.min_reputation = reputation(81),
            "reputation-too-low",
            TopUp
        ),
        Refusal::ReputationTooLow {
            got: reputation(80),
            needed: reputation(81)
        }
    );
    let latest = start
        .plus(Seconds::DAY.times(7 - 1))
        .plus(Seconds::HOUR.times(18));
    assert_eq!(
        refused(|w, _, _| w.now = latest.plus(Seconds(1)), "too-late", TopUp),
        Refusal::TooLate {
            now: latest.plus(Seconds(1)),
            latest
        }
    );
    refused(|_, _, o| o.asset = Address::ZERO, "wrong-asset", Never);
    assert_eq!(
        refused(|_, _, o| o.item = item(4), "wrong-item", NewPayment),
        Refusal::WrongItem {
            got: item(3),
            order: item(4)
        }
    );
    assert_eq!(
        refused(|_, _, o| o.units = 2, "pays-too-little", NewPayment),
        Refusal::PaysTooLittle { got: 1, price: 2 }
    );
    let too_much = |w: &mut World, p: &mut Payment, o: &mut Order| {
        *p = w.pay(5, 3);
        (o.item, o.units) = (p.item, 2);
    };
    assert_eq!(
        refused(too_much, "pays-too-much", NewPayment),
        Refusal::PaysTooMuch { got: 3, price: 2 }
    );
    let past = |w: &mut World, p: &mut Payment, o: &mut Order| {
        p.index = Index(w.record().length().0 + 1);
        o.units = p.index.above(Index(2));
    };
    assert_eq!(
        refused(past, "past-length", TopUp),
        Refusal::PastLength {
            got: Index(21),
            length: Index(20)
        }
    );
    refused(|_, p, _| p.index = Index(u32::MAX), "past-length", Never);
    assert_eq!(
        refused(|w, _, _| w.in_delivery = true, "busy", Later),
        Refusal::Busy {
            got: Index(3),
            delivering: Index(2)
        }
    );
    let jump = |w: &mut World, p: &mut Payment, o: &mut Order| {
        w.policy.max_jump = 4;
        *p = w.pay(5, 5);
        (o.item, o.units) = (p.item, 5);
    };
    assert_eq!(
        refused(jump, "jump-too-far", Never),
        Refusal::JumpTooFar { got: 5, limit: 4 }
    );
    let walked = |w: &mut World, _: &mut Payment, _: &mut Order| w.policy.max_walk = 2;
    assert_eq!(
        refused(walked, "checkpoint-needed", Retry::Checkpoint),
        Refusal::CheckpointNeeded { got: 3, limit: 2 }
    );
    refused(
        |_, p, _| p.word = Word(bytes32("word", 0)),
        "word-not-in-chain",
        Later,
    );
    refused(
        |w, p, _| p.word = previous(p.word, w.payer.id()),
        "word-not-in-chain",
        Later,
    );
    let back = |w: &mut World, p: &mut Payment, _: &mut Order| {
        p.index = Index(1);
        let _ = w;
    };
    let refusal = refused(back, "index-backwards", NewPayment);
    assert!(matches!(
        refusal,
        Refusal::IndexBackwards {
            got: Index(1),
            delivered: Index(2),
            ..
        }
    ));
    let again = |w: &mut World, p: &mut Payment, _: &mut Order| {
        let delivered = w.accept(*p, w.order(3, 1)).unwrap().delivered();
        w.seller = delivered.channel;
    };
    let refusal = refused(again, "already-delivered", Delivered);
    assert!(matches!(
        refusal,
        Refusal::AlreadyDelivered { index: Index(3), .. }
    ));
}

#[test]
fn the_last_second_is_the_margin_before_expiry() {
    let (mut world, payment, order) = good();
    let expiry = world.record().expiry();
    world.now = Timestamp(expiry.0 - world.policy.margin.0);
    assert!(world.accept(payment, order).is_ok());
    world.now = world.now.plus(Seconds(1));
    assert!(world.accept(payment, order).is_err());
    // A margin longer than time itself accepts nothing, and overflows nothing.
    world.policy.margin = Seconds(u64::MAX);
    assert!(world.accept(payment, order).is_err());
}

/// The word of a good that failed pays for the next one: same index, other item, no hash.
#[test]
fn a_failed_good_is_paid_once() {
    let (mut world, payment, order) = good();
    let accepted = world.accept(payment, order).unwrap();
    world.seller = accepted.failed().channel;
    let other = world.pay(4, 1);
    assert_eq!((other.index, other.word), (payment.index, payment.word));
    assert_ne!(other.tag, payment.tag);
    let accepted = world.accept(other, world.order(4, 1)).unwrap();
    assert_eq!(accepted.hashes(), 0);
    world.store(&accepted);
    world.deliver(accepted);
    assert_eq!(
        world.receipts.last(),
        Some(&other.receipt()),
        "the receipt is of what was delivered"
    );
    assert_eq!(world.payout(), Amount(300));
}

/// A dear order fails, a cheap one follows: what was paid too much stays for the orders to come.
#[test]
fn a_failed_jump_is_credit() {
    let mut world = World::new(20);
    let dear = world.pay(1, 5);
    let accepted = world.accept(dear, world.order(1, 5)).unwrap();
    world.seller = accepted.failed().channel;
    for (number, index) in (2..=6).zip(1..) {
        let cheap = world.buy(number, 1);
        assert_eq!(cheap.index, Index(index));
        assert_eq!(world.payout(), Amount(500), "five units were revealed, no more");
        assert_eq!(world.payer.revealed(), Index(5));
    }
    world.buy(7, 1);
    assert_eq!(world.payout(), Amount(600));
}

/// The vendor stopped before it knew that the good had arrived. The client's next payment says so.
#[test]
fn a_pending_payment_is_confirmed_by_the_next() {
    let (mut world, payment, order) = good();
    let accepted = world.accept(payment, order).unwrap();
    world.store(&accepted);
    world.payer = world.payer.acknowledge(payment.tag).unwrap();
    let next = world.pay(4, 2);
    let accepted = world.accept(next, world.order(4, 2)).unwrap();
    assert_eq!(accepted.confirmed(), Some(&payment.receipt()));
    assert_eq!(accepted.channel().delivered.index, payment.index);
    world.store(&accepted);
    world.deliver(accepted);
    assert_eq!(world.receipts.len(), 4);
    world.payer = world.payer.acknowledge(next.tag).unwrap();
    let opener = world.payer.opener();
    let opened = micropay_protocol::channel::open_receipts(
        &world.domain,
        &world.opening(),
        &world.receipts,
        &opener,
        1,
    );
    assert!(opened.ends_in_sigma0);
}

/// After a top-up both chains pay; the vendor changes with the first word of the new one, and stays there.
#[test]
fn the_newest_chain_takes_over() {
    let mut world = World::new(10);
    for number in 1..=4 {
        world.buy(number, 1);
    }
    let on_old = world.pay(5, 1);
    world.top_up(30);
    // A payment under way on the old chain is good.
    let accepted = world.accept(on_old, world.order(5, 1)).unwrap();
    assert_eq!((accepted.channel().paid.chain, accepted.hashes()), (0, 1));
    world.store(&accepted);
    world.deliver(accepted);
    world.payer = world.payer.acknowledge(on_old.tag).unwrap();
    // The first on the new one is walked down to its anchor, the next ones are a step.
    let first = world.pay(6, 1);
    let accepted = world.accept(first, world.order(6, 1)).unwrap();
    assert_eq!(
        (accepted.channel().paid.chain, accepted.channel().paid.base),
        (1, Index(0))
    );
    assert_eq!(accepted.hashes(), 1 + 6);
    world.store(&accepted);
    world.deliver(accepted);
    world.payer = world.payer.acknowledge(first.tag).unwrap();
    let second = world.pay(7, 1);
    assert_eq!(world.accept(second, world.order(7, 1)).unwrap().hashes(), 1);
    assert_eq!(world.payout(), Amount(600));
    // Before the top-up is final, the new chain is unknown.
    let mut young = world.clone();
    young.change(|record| record.chains.truncate(1));
    young.seller.paid = VendorChannel::open(&young.domain, young.record()).paid;
    assert!(young.accept(second, young.order(7, 1)).is_err());
}

/// Far up, the walk to a new anchor would cost too much, on chain above all: a signed checkpoint takes its place.
#[test]
fn a_checkpoint_moves_a_channel_to_its_new_chain() {
    let mut world = World::new(40);
    world.policy.max_walk = 16;
    for number in 1..=3 {
        world.buy(number, 4);
        world.checkpoint();
    }
    world.top_up(60);
    let payment = world.pay(4, 5);
    let order = world.order(4, 5);
    assert_eq!(
        world.accept(payment, order).unwrap_err(),
        Refusal::CheckpointNeeded { got: 17, limit: 16 }
    );
    let signed = world
        .payer
        .checkpoint_revealed(&world.domain, &world.key, &mut world.chain)
        .unwrap();
    assert_eq!(signed.index(), payment.index);
    world.seller = world
        .seller
        .take_checkpoint(&world.domain, world.record(), &signed, None)
        .unwrap();
    world.signed.push(signed);
    assert_eq!(world.seller.paid.chain, 1);
    let accepted = world.accept(payment, order).unwrap();
    assert_eq!(accepted.hashes(), 0);
    world.store(&accepted);
    world.deliver(accepted);
    world.payer = world.payer.acknowledge(payment.tag).unwrap();
    world.buy(5, 1);
    assert_eq!(world.payout(), Amount(1_800));
}

/// Between two chains nothing hangs: a payment made again at an index that a checkpoint of the old chain covers gets
/// through by a checkpoint of the new one.
#[test]
fn a_replaced_payment_crosses_to_the_new_chain() {
    let mut world = World::new(10);
    world.policy.max_walk = 4;
    world.buy(1, 4);
    world.checkpoint();
    let failed = world.pay(2, 3);
    let accepted = world.accept(failed, world.order(2, 3)).unwrap();
    world.seller = accepted.failed().channel;
    let signed = world
        .payer
        .checkpoint_revealed(&world.domain, &world.key, &mut world.chain)
        .unwrap();
    world.seller = world
        .seller
        .take_checkpoint(&world.domain, world.record(), &signed, None)
        .unwrap();
    assert_eq!(world.seller.paid.base, failed.index);
    world.top_up(30);
    let again = world.pay(3, 3);
    assert_eq!(again.index, failed.index);
    let refusal = world.accept(again, world.order(3, 3)).unwrap_err();
    assert!(matches!(refusal, Refusal::CheckpointNeeded { .. }), "{refusal}");
    let signed = world
        .payer
        .checkpoint_revealed(&world.domain, &world.key, &mut world.chain)
        .unwrap();
    world.seller = world
        .seller
        .take_checkpoint(&world.domain, world.record(), &signed, None)
        .unwrap();
    world.signed.push(signed);
    assert_eq!(
        world
            .accept(again, world.order(3, 3))
            .unwrap()
            .channel()
            .paid
            .chain,
        1
    );
    assert_eq!(world.payout(), Amount(700));
}

/// A checkpoint that went into the chain shortens the walk as a signed one does.
#[test]
fn an_anchor_that_moved_is_where_a_walk_ends() {
    let mut world = World::new(40);
    world.policy.max_walk = 8;
    for number in 1..=8 {
        world.buy(number, 1);
    }
    let payment = world.pay(9, 1);
    assert!(matches!(
        world.accept(payment, world.order(9, 1)),
        Err(Refusal::CheckpointNeeded { .. })
    ));
    world.happen(&ChannelEvent::Checkpointed(Checkpointed {
        channelId: world.payer.id().0,
        index: 8,
        word: world.seller.paid.word.0,
        paid: alloy_primitives::U256::from(800),
    }));
    world.seller.paid.base = Index(8); // the vendor's own checkpoint
    assert!(world.accept(payment, world.order(9, 1)).is_ok());
}

/// A vendor that lost its store, or has an old one, goes on from what its client and the chain say.
#[test]
fn a_vendor_comes_back_from_a_backup() {
    let mut world = World::new(40);
    for number in 1..=3 {
        world.buy(number, 2);
    }
    let backup = world.seller;
    for number in 4..=8 {
        world.buy(number, 2);
    }
    let lost = world.seller;
    for old in [backup, VendorChannel::open(&world.domain, world.record())] {
        world.seller = old;
        // As it is, the two do not come together.
        let payment = world.pay(9, 2);
        let order = world.order(9, 2);
        assert!(matches!(
            world.accept(payment, order),
            Err(Refusal::PaysTooMuch { .. })
        ));
        // The client says where it stands, with the word that proves it.
        let (last, word) = world.payer.stand(&mut world.chain).unwrap();
        world.seller = world
            .seller
            .resumed(world.record(), last, word, &world.policy)
            .unwrap();
        assert_eq!(world.seller, lost);
        assert!(world.accept(payment, order).is_ok());
        // A word that is none, or a stand that is behind, is refused.
        world.seller = old;
        let bogus = Word(bytes32("word", 0));
        let refusal = world
            .seller
            .resumed(world.record(), last, bogus, &world.policy)
            .unwrap_err();
        assert!(matches!(refusal, Refusal::WordNotInChain { .. }));
    }
    world.seller = lost;
    let (last, word) = world.payer.stand(&mut world.chain).unwrap();
    let refusal = world
        .seller
        .resumed(world.record(), last, word, &world.policy)
        .unwrap_err();
    assert!(matches!(refusal, Refusal::IndexBackwards { .. }));
}

/// What the contract has paid, a vendor with an old backup does not deliver for once more.
#[test]
fn settled_words_buy_nothing() {
    let mut world = World::new(10);
    let backup = world.seller;
    let spent = world.buy(1, 1);
    world.happen(&ChannelEvent::Checkpointed(Checkpointed {
        channelId: world.payer.id().0,
        index: 1,
        word: spent.word.0,
        paid: alloy_primitives::U256::from(100),
    }));
    let good = world.pay(2, 1);
    assert!(world.accept(good, world.order(2, 1)).is_ok());
    world.seller = backup;
    let refusal = world.accept(spent, world.order(1, 1)).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::AlreadySettled {
            got: Index(1),
            settled: Index(1)
        }
    );
    assert_eq!(
        (refusal.rule(), refusal.retry()),
        ("already-settled", Retry::NewPayment)
    );
}

/// Credit from a failed jump stays credit when it was settled.
#[test]
fn settled_credit_is_credit() {
    let mut world = World::new(10);
    let dear = world.pay(1, 3);
    let accepted = world.accept(dear, world.order(1, 3)).unwrap();
    world.seller = accepted.failed().channel;
    world.happen(&ChannelEvent::Checkpointed(Checkpointed {
        channelId: world.payer.id().0,
        index: 3,
        word: dear.word.0,
        paid: alloy_primitives::U256::from(300),
    }));
    world.seller.paid.base = Index(3); // the vendor's own checkpoint
    for number in 2..=5 {
        world.buy(number, 1);
    }
    assert_eq!(world.seller.delivered.index, Index(4));
}

#[test]
fn prices_become_units() {
    let asset = Address::ZERO;
    let units =
        |price, unit| Order::priced(item(1), asset, Amount(price), Amount(unit)).map(|order| order.units);
    assert_eq!(units(100, 100), Some(1));
    assert_eq!(units(101, 100), Some(2), "never less than the price");
    assert_eq!(units(1, 100), Some(1));
    assert_eq!(units(0, 100), Some(1), "nothing is free over a channel");
    assert_eq!(units(1, 0), None);
    assert_eq!(units(u128::MAX, 1), None);
    assert_eq!(units(u128::MAX, u128::MAX), Some(1));
}

#[test]
fn no_bank_is_taken_by_default() {
    let policy = Policy::default();
    assert!(policy.banks.is_empty());
    assert_eq!(policy.min_reputation, reputation(50));
}
