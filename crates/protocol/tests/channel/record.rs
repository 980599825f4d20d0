//! The fold of the contract's events: amounts conserve, order is the contract's, and a lost store can be rebuilt from it.

use alloy_primitives::{B256, U256};
use bindings::channel::PaymentChannel::{
    BadLockProven, Checkpointed, Closed, CooperativelyClosed, DoubleReceiptProven, ItemSkipped, ReceiptShown,
    Refunded,
};
use micropay_protocol::channel::{
    Amount, ChannelEvent, ChannelId, ChannelRecord, Channels, Closing, FoldError, Index, Status, Transcript,
    VendorChannel, Word, apply, channel_of, fold,
};
use proptest::prelude::*;

use crate::world::{World, bytes32, opened_event, topped_up_event};

fn checkpointed(id: ChannelId, index: u32, paid: u64) -> ChannelEvent {
    ChannelEvent::Checkpointed(Checkpointed {
        channelId: id.0,
        index,
        word: bytes32("word", index.into()),
        paid: U256::from(paid),
    })
}

fn closed(id: ChannelId, index: u32, paid: u64, refunded: u64) -> ChannelEvent {
    ChannelEvent::Closed(Closed {
        channelId: id.0,
        index,
        paid: U256::from(paid),
        refunded: U256::from(refunded),
        transcript: bytes32("transcript", 0),
    })
}

fn cooperative(id: ChannelId, index: u32, paid: u64, refunded: u64) -> ChannelEvent {
    ChannelEvent::CooperativelyClosed(CooperativelyClosed {
        channelId: id.0,
        index,
        paid: U256::from(paid),
        refunded: U256::from(refunded),
    })
}

fn refunded(id: ChannelId, index: u32, refunded: u64) -> ChannelEvent {
    ChannelEvent::Refunded(Refunded {
        channelId: id.0,
        index,
        refunded: U256::from(refunded),
    })
}

fn bad_lock(id: ChannelId) -> ChannelEvent {
    ChannelEvent::BadLockProven(BadLockProven {
        channelId: id.0,
        index: 1,
    })
}

/// A channel of 10 units of 100.
fn opened() -> (ChannelId, Option<ChannelRecord>) {
    let world = World::new(10);
    (world.payer.id(), world.last_final)
}

#[test]
fn a_channel_lives_and_ends() {
    let (id, mut record) = opened();
    let now = |record: &Option<ChannelRecord>| record.clone().unwrap();
    assert_eq!(now(&record).status(), Status::Open);
    assert_eq!(
        (now(&record).length(), now(&record).unit()),
        (Index(10), Amount(100))
    );
    fold(&mut record, &checkpointed(id, 4, 400)).unwrap();
    assert_eq!(now(&record).settled, Index(4));
    assert_eq!(
        now(&record).checkpointed,
        Some((Index(4), Word(bytes32("word", 4))))
    );
    fold(&mut record, &closed(id, 7, 300, 300)).unwrap();
    let transcript = Transcript(bytes32("transcript", 0));
    let closing = Closing::Closed {
        paid: Amount(300),
        refunded: Amount(300),
        transcript,
    };
    assert_eq!(now(&record).closing, Some(closing));
    assert_eq!(now(&record).status(), Status::Closed);
    // After the end there are only receipts and proofs.
    let shown = ChannelEvent::ReceiptShown(ReceiptShown {
        channelId: id.0,
        index: 7,
        receiptDigest: B256::repeat_byte(1),
    });
    fold(&mut record, &shown).unwrap();
    fold(&mut record, &bad_lock(id)).unwrap();
    let double = ChannelEvent::DoubleReceiptProven(DoubleReceiptProven {
        channelId: id.0,
        index: 2,
    });
    fold(&mut record, &double).unwrap();
    let record = record.unwrap();
    assert_eq!(record.receipt_shown, Some(B256::repeat_byte(1)));
    assert!(record.bad_lock_proven && record.double_receipt_proven);
}

#[test]
fn events_that_do_not_fit_are_errors_and_change_nothing() {
    let (id, record) = opened();
    let world = World::new(10);
    let refuse = |before: &[ChannelEvent], event: &ChannelEvent| {
        let mut record = record.clone();
        for event in before {
            fold(&mut record, event).unwrap();
        }
        let known = record.clone();
        let error = fold(&mut record, event).unwrap_err();
        assert_eq!(record, known, "{error}");
        error
    };
    assert_eq!(
        refuse(&[], &opened_event(&world.opening())),
        FoldError::ChannelExists { channel: id }
    );
    assert_eq!(
        fold(&mut None, &closed(id, 0, 0, 1_000)),
        Err(FoldError::ChannelMissing { channel: id })
    );
    let mismatch = |got, known| FoldError::Mismatch {
        channel: id,
        got: U256::from(got),
        known: U256::from(known),
    };
    assert_eq!(refuse(&[], &checkpointed(id, 4, 401)), mismatch(401, 400));
    assert_eq!(refuse(&[], &closed(id, 4, 400, 601)), mismatch(601, 600));
    assert_eq!(
        refuse(&[checkpointed(id, 4, 400)], &closed(id, 4, 400, 600)),
        mismatch(400, 0)
    );
    assert_eq!(refuse(&[], &refunded(id, 1, 900)), mismatch(1, 0));
    assert_eq!(refuse(&[], &cooperative(id, 5, 500, 400)), mismatch(400, 500));
    let out = |got, low| FoldError::IndexOutOfRange {
        channel: id,
        got: Index(got),
        low: Index(low),
        high: Index(10),
    };
    assert_eq!(refuse(&[], &checkpointed(id, 11, 1_100)), out(11, 1));
    assert_eq!(
        refuse(&[checkpointed(id, 4, 400)], &checkpointed(id, 4, 0)),
        out(4, 5)
    );
    assert_eq!(
        refuse(&[checkpointed(id, 4, 400)], &closed(id, 3, 0, 700)),
        out(3, 4)
    );
    let end = [closed(id, 1, 100, 900)];
    for event in [
        checkpointed(id, 2, 100),
        closed(id, 1, 0, 900),
        refunded(id, 1, 900),
        cooperative(id, 1, 0, 900),
    ] {
        assert_eq!(refuse(&end, &event), FoldError::ChannelClosed { channel: id });
    }
    assert_eq!(
        refuse(&[bad_lock(id)], &bad_lock(id)),
        FoldError::ProvenTwice { channel: id }
    );
    let shown = ChannelEvent::ReceiptShown(ReceiptShown {
        channelId: id.0,
        index: 1,
        receiptDigest: B256::ZERO,
    });
    assert_eq!(refuse(&[], &shown), FoldError::NotClosed { channel: id });
    assert_eq!(
        refuse(&[refunded(id, 0, 1_000)], &shown),
        FoldError::NotClosed { channel: id }
    );
}

#[test]
fn a_top_up_changes_nothing_but_length_anchor_and_expiry() {
    let mut world = World::new(10);
    let (id, record) = opened();
    world.top_up(20);
    let admitted = world.terms().remove(1);
    let event = |change: &dyn Fn(&mut bindings::channel::OpenPermit)| {
        let mut permit = admitted.permit().fields().clone();
        change(&mut permit);
        let permit = micropay_protocol::channel::Permit::new(&world.domain, permit);
        topped_up_event(&permit.sign(world.bank.address(), &world.bank))
    };
    let apply_to = |event: &ChannelEvent| {
        let mut record = record.clone();
        fold(&mut record, event).map(|()| record.unwrap())
    };
    let topped = apply_to(&event(&|_| {})).unwrap();
    assert_eq!((topped.length(), topped.chains.len()), (Index(20), 2));
    assert_eq!(&topped, world.record());
    let stranger = world.bank.address();
    for change in [
        (&|p: &mut bindings::channel::OpenPermit| p.unit += 1) as &dyn Fn(&mut bindings::channel::OpenPermit),
        &|p| p.client = stranger,
        &|p| p.vendor = stranger,
        &|p| p.receiptKey = stranger,
        &|p| p.asset = stranger,
    ] {
        assert!(matches!(
            apply_to(&event(change)),
            Err(FoldError::Mismatch { .. })
        ));
    }
    let shorter = FoldError::NotLonger {
        channel: id,
        got: Index(10),
        known: Index(10),
    };
    assert_eq!(apply_to(&event(&|p| p.length = 10)), Err(shorter));
    assert!(matches!(
        apply_to(&event(&|p| p.expiry -= 1)),
        Err(FoldError::ExpiryBackwards { .. })
    ));
}

/// Everything that a vendor or client needs to go on is in the events.
#[test]
fn a_lost_store_is_rebuilt_from_the_events() {
    let mut world = World::new(10);
    world.top_up(20);
    let mut channels = Channels::new();
    for (number, admitted) in world.terms().iter().enumerate() {
        let event = if number == 0 {
            opened_event(admitted)
        } else {
            topped_up_event(admitted)
        };
        assert_eq!(channel_of(&event), Some(world.payer.id()));
        apply(&mut channels, &event).unwrap();
    }
    let record = &channels[&world.payer.id()];
    assert_eq!(record, world.record());
    assert_eq!(record.admitted(&world.domain), world.payer.terms());
    assert_eq!(VendorChannel::open(&world.domain, record), world.seller);
    // An item that was skipped changes nothing.
    let skipped = ChannelEvent::ItemSkipped(ItemSkipped {
        channelId: world.payer.id().0,
        reason: [1, 2, 3, 4].into(),
        got: U256::ZERO,
        limit: U256::ZERO,
    });
    assert_eq!(channel_of(&skipped), None);
    let before = channels.clone();
    apply(&mut channels, &skipped).unwrap();
    assert_eq!(channels, before);
}

proptest! {
    /// Whatever is settled in whatever order, vendor and client together get the deposit.
    #[test]
    fn conservation(steps in prop::collection::vec(1u32..4, 0..4), ending in 0u8..3, last in 0u32..4) {
        let (id, mut record) = opened();
        let (mut settled, mut paid) = (0u32, 0u64);
        for step in steps {
            settled += step;
            if settled > 10 {
                return Ok(());
            }
            fold(&mut record, &checkpointed(id, settled, u64::from(step) * 100)).unwrap();
            paid += u64::from(step) * 100;
        }
        let index = (settled + last).min(10);
        let (more, rest) = (u64::from(index - settled) * 100, u64::from(10 - index) * 100);
        let refunded = match ending {
            0 => {
                fold(&mut record, &closed(id, index, more, rest)).unwrap();
                rest
            }
            1 => {
                fold(&mut record, &cooperative(id, index, more, rest)).unwrap();
                rest
            }
            _ => {
                let rest = u64::from(10 - settled) * 100;
                fold(&mut record, &self::refunded(id, settled, rest)).unwrap();
                rest
            }
        };
        let total = match record.unwrap().closing.unwrap() {
            Closing::Closed { paid: last, refunded, .. } | Closing::Cooperative { paid: last, refunded } => {
                paid + u64::try_from(last.0 + refunded.0).unwrap()
            }
            Closing::Refunded { refunded } => paid + u64::try_from(refunded.0).unwrap(),
        };
        prop_assert_eq!(total, 1_000, "paid and refunded make the deposit ({} refunded)", refunded);
    }
}
