//! The client's step: what it remembers, what it never signs, and how it comes back from a lost store.

use micropay_protocol::channel::{
    Amount, ChainError, ClientChannel, Index, PayError, Seconds, Tag, Timestamp, chain_seed,
};
use micropay_protocol::channel::{Chain, Transcript};

use crate::world::{World, bytes32, item, key};

#[test]
fn a_payment_comes_with_the_state_that_remembers_it() {
    let mut world = World::new(10);
    let before = world.payer.clone();
    let prepared = before
        .pay(&world.domain, &world.key, &mut world.chain, item(1), 2, world.now)
        .unwrap();
    let saved = prepared.channel().clone();
    let (channel, payment) = prepared.send();
    assert_eq!(saved, channel);
    assert_eq!(channel.revealed(), Index(2));
    assert_eq!(channel.in_flight().len(), 1);
    assert_eq!(channel.in_flight()[0].payment, payment);
    assert_eq!(channel.acknowledged(), before.acknowledged());
    assert_eq!(
        (payment.index, payment.worth(Amount(100))),
        (Index(2), Amount(200))
    );

    // What is revealed is never forgotten: not by a cheaper payment, not by an acknowledgement.
    let (channel, cheaper) = channel
        .pay(&world.domain, &world.key, &mut world.chain, item(2), 1, world.now)
        .unwrap()
        .send();
    assert_eq!((cheaper.index, channel.revealed()), (Index(1), Index(2)));
    assert_eq!(channel.in_flight().len(), 2);
    let channel = channel.acknowledge(cheaper.tag).unwrap();
    assert_eq!(
        (channel.acknowledged().index, channel.revealed()),
        (Index(1), Index(2))
    );
    assert!(channel.in_flight().is_empty());
    assert_eq!(channel.left(), 9);
    assert_eq!(
        channel.acknowledge(payment.tag),
        Err(PayError::UnknownPayment {
            got: payment.tag,
            in_flight: 0
        })
    );
}

/// Signatures are deterministic, so that a payment made again is the same payment, and remembered once.
#[test]
fn the_same_payment_is_one_payment() {
    let mut world = World::new(10);
    let first = world.pay(1, 1);
    assert_eq!(world.pay(1, 1), first);
    assert_eq!(world.payer.in_flight().len(), 1);
    world.now = world.now.plus(Seconds(1));
    assert_ne!(world.pay(1, 1).tag, first.tag);
    assert_eq!(world.payer.in_flight().len(), 2);
}

#[test]
fn each_rule_refuses_by_name() {
    let world = World::new(3);
    let pay = |key, chain: Option<Chain>, units, now| {
        let mut chain = chain.unwrap_or_else(|| world.chain.clone());
        world
            .payer
            .pay(&world.domain, key, &mut chain, item(1), units, now)
            .map(|_| ())
    };
    let (right, wrong) = (World::new(3).key, key("stranger"));
    let now = World::new(3).now;
    assert_eq!(pay(&right, None, 3, now), Ok(()));
    assert_eq!(
        pay(&right, None, 0, now),
        Err(PayError::NoUnits { got: 0, low: 1 })
    );
    assert_eq!(
        pay(&right, None, 4, now),
        Err(PayError::Exhausted {
            needed: Index(4),
            length: Index(3)
        })
    );
    assert_eq!(
        pay(&right, None, u32::MAX, now),
        Err(PayError::Exhausted {
            needed: Index(u32::MAX),
            length: Index(3)
        })
    );
    let expiry = now.plus(Seconds::DAY.times(7));
    assert_eq!(pay(&right, None, 1, expiry), Ok(()));
    let late = expiry.plus(Seconds(1));
    assert_eq!(
        pay(&right, None, 1, late),
        Err(PayError::Expired { now: late, expiry })
    );
    assert!(matches!(
        pay(&wrong, None, 1, now),
        Err(PayError::WrongKey { .. })
    ));
    let other = World::of("other", 3);
    assert!(matches!(
        pay(&right, Some(other.chain), 1, now),
        Err(PayError::WrongChannel { .. })
    ));
    let id = World::new(3).payer.id();
    let reseeded = Chain::from_seed(chain_seed(&right, id, 9, Index(3)), id, Index(3)).unwrap();
    assert!(matches!(
        pay(&right, Some(reseeded), 1, now),
        Err(PayError::WrongChain { .. })
    ));
}

#[test]
fn payments_under_way_are_bounded() {
    let mut world = World::new(3);
    for number in 0..ClientChannel::MAX_IN_FLIGHT as u64 {
        world.pay(number, 1);
    }
    let result = world.payer.pay(
        &world.domain,
        &world.key,
        &mut world.chain,
        item(999),
        1,
        world.now,
    );
    assert_eq!(
        result.unwrap_err(),
        PayError::TooManyInFlight { got: 64, limit: 64 }
    );
    assert_eq!(world.payer.revealed(), Index(1), "all of them are worth one unit");
}

/// An opener is only ever of what was acknowledged.
#[test]
fn the_opener_is_of_what_arrived() {
    let mut world = World::new(5);
    assert_eq!(world.payer.opener().sigma, world.opening().sigma0());
    world.buy(1, 1);
    let opener = world.payer.opener();
    let in_flight = world.pay(2, 1);
    assert_eq!(world.payer.opener(), opener);
    assert_ne!(
        Tag::of(opener.channel, in_flight.index, &opener.sigma),
        in_flight.tag
    );
}

#[test]
fn a_top_up_keeps_what_is_under_way() {
    let mut world = World::new(5);
    world.buy(1, 2);
    let under_way = world.pay(2, 1);
    world.top_up(9);
    // Sent again it is the same receipt, with a word that the vendor finds on either chain.
    let again = world.payer.send_again(&mut world.chain, under_way.tag).unwrap();
    assert_eq!(again.receipt(), under_way.receipt());
    assert_ne!(again.word, under_way.word);
    for sent in [under_way, again] {
        assert!(world.accept(sent, world.order(2, 1)).is_ok());
    }
    assert_eq!(world.payer.terms().len(), 2);
    assert_eq!(world.payer.left(), 7);
    world.payer = world.payer.acknowledge(under_way.tag).unwrap();
    let next = world.pay(3, 6);
    assert_eq!(next.index, Index(9));
    assert_eq!(next.word, world.chain.word(Index(9)).unwrap());
    // Not longer, or of another channel: no top-up.
    let same = world.payer.terms()[1].clone();
    assert_eq!(
        world.payer.topped_up(same),
        Err(PayError::NotLonger {
            got: Index(9),
            length: Index(9)
        })
    );
    let foreign = World::of("other", 50).opening();
    assert!(matches!(
        world.payer.topped_up(foreign),
        Err(PayError::WrongChannel { .. })
    ));
}

/// All that a client needs is its key, the chain, and what the vendor shows of the last payment.
#[test]
fn a_client_comes_back_from_a_lost_store() {
    let mut world = World::new(20);
    for number in 1..=6 {
        world.buy(number, 2);
    }
    let (last, before) = (*world.receipts.last().unwrap(), {
        let opened = micropay_protocol::channel::open_receipts(
            &world.domain,
            &world.opening(),
            &world.receipts,
            &world.payer.opener(),
            1,
        );
        opened.receipts[4].transcript
    });
    // The chain from the key alone, ready at the vendor's index; its anchor says that it is the right one.
    let id = world.payer.id();
    let seed = chain_seed(&world.key, id, 0, Index(20));
    let mut chain = Chain::at(seed, id, Index(20), last.index).unwrap();
    assert_eq!(chain.anchor(), world.chain.anchor());
    assert_eq!(
        chain.word(last.index).unwrap(),
        world.seller.paid.word,
        "the vendor shows a word of mine"
    );

    let recovered =
        ClientChannel::recover(&world.domain, &world.key, world.terms(), Some((last, before))).unwrap();
    assert_eq!(&recovered, &world.payer);
    world.payer = recovered;
    world.chain = chain;
    world.buy(7, 1);
    assert_eq!(world.payout(), Amount(1_300));

    // The vendor's word says how much is revealed; no other than the client can have made it.
    let index = Index(world.payer.acknowledged().index.0 + 2);
    let word = world.chain.word(index).unwrap();
    let shown = world.payer.shown(&mut world.chain, index, word).unwrap();
    assert_eq!(shown.revealed(), index);
    let bogus = world.payer.shown(&mut world.chain, Index(2), word);
    assert!(matches!(bogus, Err(PayError::NotMyWord { index: Index(2), .. })));

    // A vendor that shows a receipt which the client never signed learns nothing.
    let mut forged = last;
    forged.item = item(999);
    let refusal = ClientChannel::recover(&world.domain, &world.key, world.terms(), Some((forged, before)));
    assert!(matches!(refusal, Err(PayError::NotMyReceipt { .. })));
    let other_past = Some((last, Transcript(bytes32("another past", 0))));
    assert!(ClientChannel::recover(&world.domain, &world.key, world.terms(), other_past).is_err());
    // Nothing was delivered yet.
    let fresh = ClientChannel::recover(&world.domain, &world.key, world.terms(), None).unwrap();
    assert_eq!(fresh.acknowledged().index, Index(0));
    assert_eq!(
        ClientChannel::recover(&world.domain, &world.key, Vec::new(), None),
        Err(PayError::NoTerms { got: 0, needed: 1 })
    );
}

#[test]
fn a_stored_channel_is_restored_as_it_was() {
    let mut world = World::new(20);
    world.buy(1, 2);
    world.pay(2, 1);
    let payer = &world.payer;
    let restored = ClientChannel::restore(
        payer.terms().to_vec(),
        *payer.acknowledged(),
        payer.revealed(),
        payer.in_flight().to_vec(),
    );
    assert_eq!(restored.as_ref(), Ok(payer));
    let empty = ClientChannel::restore(Vec::new(), *payer.acknowledged(), payer.revealed(), Vec::new());
    assert_eq!(empty, Err(PayError::NoTerms { got: 0, needed: 1 }));
}

#[test]
fn chain_errors_reach_the_client() {
    let error = PayError::from(ChainError::IndexAboveLength {
        got: Index(2),
        length: Index(1),
    });
    assert_eq!(error.to_string(), "index 2 is above the chain's length 1");
    assert!(Timestamp(0) < World::new(1).now);
}
