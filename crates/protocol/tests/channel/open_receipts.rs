//! Opening: one signature opens exactly its prefix, down to the bank's, on any number of threads. Whatever is wrong is
//! reported at its place.

use micropay_protocol::channel::{
    Index, Keccak, Lock, LockedReceipt, Opener, ReceiptsError, ReceiptsFile, Sigma, Stopped, Tag, lock,
    open_receipts,
};
use proptest::prelude::*;

use crate::world::{World, bytes32, item, key};

fn bought(payments: u64) -> World {
    let mut world = World::new(200);
    for number in 1..=payments {
        world.buy(number, 1 + u32::from(number % 3 == 0));
    }
    world
}

fn indices(opened: &[micropay_protocol::channel::OpenedReceipt]) -> Vec<Index> {
    opened.iter().map(|opened| opened.receipt.index).collect()
}

#[test]
fn opener_i_opens_exactly_prefix() {
    let mut world = World::new(60);
    let mut openers = Vec::new();
    for number in 1..=30 {
        world.buy(number, 2);
        openers.push(world.payer.opener());
    }
    let all: Vec<Index> = world.receipts.iter().map(|receipt| receipt.index).collect();
    for (i, opener) in openers.iter().enumerate() {
        let opened = open_receipts(&world.domain, &world.opening(), &world.receipts, opener, 2);
        assert_eq!(indices(&opened.receipts), all[..=i], "opener of {}", opener.index);
        assert!(
            opened.ends_in_sigma0 && opened.unopenable.is_empty(),
            "{:?}",
            opened.stopped
        );
        // What is above stays closed: the opener is not the signature that the next lock was made with.
        if let Some(next) = world.receipts.get(i + 1) {
            let above = Opener {
                index: next.index,
                ..*opener
            };
            let opened = open_receipts(&world.domain, &world.opening(), &world.receipts, &above, 2);
            assert!(opened.receipts.is_empty());
            assert!(matches!(opened.stopped, Some(Stopped::WrongTag { index, .. }) if index == next.index));
        }
    }
}

#[test]
fn chain_ends_in_sigma0() {
    let world = bought(40);
    let opening = world.opening();
    for threads in [0, 1, 2, 3, 7, 40, 1_000] {
        let opened = open_receipts(
            &world.domain,
            &opening,
            &world.receipts,
            &world.payer.opener(),
            threads,
        );
        assert_eq!(opened.receipts.len(), 40);
        assert!(opened.ends_in_sigma0 && opened.stopped.is_none());
        for opened in &opened.receipts {
            assert_eq!(Sigma::from(&world.key.sign(opened.digest)), opened.sigma);
        }
    }
    // The lowest lock is on the bank's signature, and another bank's is not it.
    let first = world.receipts[0];
    let opened = open_receipts(&world.domain, &opening, &world.receipts, &world.payer.opener(), 1);
    assert_eq!(
        lock::<Keccak>(&opening.sigma0(), &opened.receipts[0].sigma),
        first.lock
    );
    let stranger = opening.permit().clone().sign(opening.bank(), &key("stranger"));
    let opened = open_receipts(
        &world.domain,
        &stranger,
        &world.receipts,
        &world.payer.opener(),
        1,
    );
    assert!(!opened.ends_in_sigma0);
    assert!(matches!(
        opened.stopped,
        Some(Stopped::WrongTag { index: Index(0), .. })
    ));
    assert_eq!(
        opened.receipts.len(),
        40,
        "the client's signatures are good all the same"
    );
}

/// A chain of receipts runs on through top-ups.
#[test]
fn top_up_begins_no_new_chain_of_receipts() {
    let mut world = World::new(3);
    for number in 1..=3 {
        world.buy(number, 1);
    }
    world.top_up(10);
    for number in 4..=8 {
        world.buy(number, 1);
    }
    let opener = world.payer.opener();
    let opened = open_receipts(&world.domain, &world.opening(), &world.receipts, &opener, 2);
    assert!(opened.ends_in_sigma0);
    assert_eq!(opened.receipts.len(), 8);
    let file = ReceiptsFile {
        terms: world.terms(),
        receipts: world.receipts.clone(),
        opener,
    };
    assert_eq!(file.verify(&world.domain, &[world.bank.address()], 2), Ok(opened));
    // Without the top-up's permit, nobody knows that so much was ever deposited.
    let file = ReceiptsFile {
        terms: vec![world.opening()],
        ..file
    };
    assert_eq!(
        file.verify(&world.domain, &[world.bank.address()], 2),
        Err(ReceiptsError::PastLength {
            got: Index(8),
            length: Index(3)
        })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One thing is wrong at one place: everything above opens, nothing below, and the place is named.
    #[test]
    fn what_is_wrong_is_named(at in 0usize..12, what in 0u8..4, threads in 1usize..4) {
        let world = bought(12);
        let mut receipts = world.receipts.clone();
        let mut opening = world.opening();
        match what {
            0 => receipts[at].lock.0[at] ^= 1,
            1 => receipts[at].item = item(999),
            2 => receipts[at].tag = Tag(bytes32("tag", 1)),
            _ => opening = opening.permit().clone().sign(opening.bank(), &key("stranger")),
        }
        let opened = open_receipts(&world.domain, &opening, &receipts, &world.payer.opener(), threads);
        prop_assert!(!opened.ends_in_sigma0);
        let first = match what {
            // The lock of `at` hides the signature of the one before.
            0 => at,
            // Another item changes this digest and all above: only the signatures can tell.
            1 => 12,
            2 => at + 1,
            _ => 0,
        };
        prop_assert_eq!(indices(&opened.receipts), receipts[first..].iter().map(|r| r.index).collect::<Vec<_>>());
        prop_assert_eq!(opened.unopenable, receipts[..first].iter().map(|r| r.index).collect::<Vec<_>>());
        let place = |at: usize| if at == 0 { Index::ZERO } else { receipts[at - 1].index };
        match (what, opened.stopped.unwrap()) {
            (0, Stopped::WrongTag { index, .. } | Stopped::NotASignature { index }) => {
                prop_assert_eq!(index, place(at));
            }
            (1, Stopped::NotSigned { index }) => prop_assert_eq!(index, receipts[11].index),
            (2, Stopped::WrongTag { index, .. }) => prop_assert_eq!(index, receipts[at].index),
            (3, Stopped::WrongTag { index, .. }) => prop_assert_eq!(index, Index::ZERO),
            (_, other) => prop_assert!(false, "{:?}", other),
        }
    }

    /// Nothing that arrives makes it panic.
    #[test]
    fn garbage_is_reported(
        raw in prop::collection::vec((any::<u32>(), any::<u64>(), any::<[u8; 32]>()), 0..12),
        index in any::<u32>(),
    ) {
        let world = bought(1);
        let receipts: Vec<LockedReceipt> = raw
            .into_iter()
            .map(|(index, issued_at, bytes)| LockedReceipt {
                index: Index(index),
                item: item(issued_at),
                issued_at: micropay_protocol::channel::Timestamp(issued_at),
                lock: Lock([bytes, bytes].concat().try_into().unwrap()),
                tag: Tag(bytes.into()),
            })
            .collect();
        let opener = Opener { index: Index(index), ..world.payer.opener() };
        let opened = open_receipts(&world.domain, &world.opening(), &receipts, &opener, 2);
        prop_assert!(opened.receipts.is_empty() && !opened.ends_in_sigma0 && opened.stopped.is_some());
    }
}

/// A tag of something that the client never signed opens, and is no receipt.
#[test]
fn a_tagged_forgery_is_not_signed() {
    let mut world = bought(3);
    let honest = world.pay(4, 1);
    let forged = Sigma::from(&key("stranger").sign(bytes32("anything", 0)));
    let before = world.payer.acknowledged().sigma;
    let mut payment = honest;
    payment.lock = lock::<Keccak>(&before, &forged);
    payment.tag = Tag::of(payment.channel, payment.index, &forged);
    let accepted = world.accept(payment, world.order(4, 1)).unwrap();
    world.store(&accepted);
    world.deliver(accepted);
    let opener = Opener {
        channel: payment.channel,
        index: payment.index,
        sigma: forged,
    };
    let opened = open_receipts(&world.domain, &world.opening(), &world.receipts, &opener, 2);
    assert_eq!(opened.stopped, Some(Stopped::NotSigned { index: payment.index }));
    assert!(opened.receipts.is_empty());
    assert_eq!(opened.unopenable.len(), 4);
}

#[test]
fn a_file_proves_down_to_the_banks_signature() {
    let world = bought(5);
    let file = ReceiptsFile {
        terms: world.terms(),
        receipts: world.receipts.clone(),
        opener: world.payer.opener(),
    };
    let bank = world.bank.address();
    assert!(file.verify(&world.domain, &[bank], 1).unwrap().ends_in_sigma0);
    // Another bank than the one the reader trusts.
    let stranger = key("stranger").address();
    assert_eq!(
        file.verify(&world.domain, &[stranger], 1),
        Err(ReceiptsError::BankNotTrusted {
            got: bank,
            trusted: 1
        })
    );
    // A bank that changed its key is trusted by both.
    assert!(file.verify(&world.domain, &[stranger, bank], 1).is_ok());
    let empty = ReceiptsFile {
        terms: Vec::new(),
        ..file.clone()
    };
    assert_eq!(
        empty.verify(&world.domain, &[bank], 1),
        Err(ReceiptsError::NoTerms { got: 0, needed: 1 })
    );
    // A permit twice is no top-up.
    let twice = ReceiptsFile {
        terms: [world.terms(), world.terms()].concat(),
        ..file.clone()
    };
    assert!(matches!(
        twice.verify(&world.domain, &[bank], 1),
        Err(ReceiptsError::NotTopUp { number: 1, .. })
    ));
    // Parts of two channels.
    let other = World::of("other", 5);
    let mixed = ReceiptsFile {
        opener: other.payer.opener(),
        ..file
    };
    assert!(matches!(
        mixed.verify(&world.domain, &[bank], 1),
        Err(ReceiptsError::WrongChannel { .. })
    ));
}
