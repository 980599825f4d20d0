//! The fold of events into records: each effect of the contract, and every event that cannot follow refused with nothing
//! changed. (That the fold equals `escrowOf` and `pairOf` of a real contract is tested end to end.)
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use alloy_primitives::{Address, U256};
use bindings::ticket::TicketEscrow as Events;
use micropay_protocol::ticket::{
    Amount, EscrowEvent, EscrowRecord, Escrows, FoldError, Nonce, PairRecord, Status, Timestamp,
    WinThreshold, apply, escrow_of, fold,
};
use proptest::prelude::*;

const ESCROW: Address = Address::repeat_byte(1);
const PAYER: Address = Address::repeat_byte(2);
const MERCHANT: Address = Address::repeat_byte(3);
const OTHER: Address = Address::repeat_byte(4);
const PRIZE: u128 = 100;

fn u(amount: u128) -> U256 {
    U256::from(amount)
}

fn opened() -> EscrowEvent {
    EscrowEvent::Opened(Events::Opened {
        escrow: ESCROW,
        payer: PAYER,
        asset: Address::ZERO,
        prize: u(PRIZE),
        maxThreshold: WinThreshold::one_in(128).0,
        ticketCap: 1000,
        balance: u(250),
        penalty: u(900),
    })
}

fn claimed(recipient: Address, nonce: u64, from_earmark: u128, owed: u128) -> EscrowEvent {
    EscrowEvent::Claimed(Events::Claimed {
        escrow: ESCROW,
        recipient,
        nonce,
        fromEarmark: u(from_earmark),
        owed: u(owed),
    })
}

fn earmarked(recipient: Address, prizes: u32, until: u64) -> EscrowEvent {
    EscrowEvent::Earmarked(Events::Earmarked {
        escrow: ESCROW,
        recipient,
        prizes,
        until,
    })
}

fn insolvent(cure_by: u64) -> EscrowEvent {
    EscrowEvent::BecameInsolvent(Events::BecameInsolvent {
        escrow: ESCROW,
        cureBy: cure_by,
    })
}

fn cured(creditor: Address, amount: u128, debt: u128) -> EscrowEvent {
    EscrowEvent::Cured(Events::Cured {
        escrow: ESCROW,
        creditor,
        amount: u(amount),
        debt: u(debt),
    })
}

fn released(recipient: Address, prizes: u32) -> EscrowEvent {
    EscrowEvent::EarmarkReleased(Events::EarmarkReleased {
        escrow: ESCROW,
        recipient,
        prizes,
    })
}

fn topped_up(amount: U256) -> EscrowEvent {
    EscrowEvent::ToppedUp(Events::ToppedUp {
        escrow: ESCROW,
        from: OTHER,
        amount,
    })
}

fn burned(amount: u128) -> EscrowEvent {
    EscrowEvent::Burned(Events::Burned {
        escrow: ESCROW,
        amount: u(amount),
    })
}

fn withdraw_requested(at: u64) -> EscrowEvent {
    EscrowEvent::WithdrawRequested(Events::WithdrawRequested {
        escrow: ESCROW,
        withdrawAt: at,
    })
}

fn withdrawn(amount: u128) -> EscrowEvent {
    EscrowEvent::Withdrawn(Events::Withdrawn {
        escrow: ESCROW,
        payer: PAYER,
        amount: u(amount),
    })
}

#[track_caller]
fn after(events: &[EscrowEvent]) -> EscrowRecord {
    let mut escrows = Escrows::new();
    let mut record = None;
    for event in events {
        apply(&mut escrows, event).unwrap();
        fold(&mut record, event).unwrap();
    }
    assert_eq!(escrows.get(&ESCROW), record.as_ref());
    record.unwrap()
}

#[test]
fn open_fixes_the_terms() {
    let record = after(&[opened()]);
    assert_eq!(
        (record.payer, record.asset, record.prize),
        (PAYER, Address::ZERO, Amount(PRIZE))
    );
    assert_eq!(record.max_threshold, WinThreshold::one_in(128));
    assert_eq!(
        (record.ticket_cap, record.balance, record.penalty),
        (Nonce(1000), Amount(250), Amount(900))
    );
    assert_eq!(
        (record.status, record.withdraw_at, record.cure_by),
        (Status::Open, None, None)
    );
    assert_eq!(record.pair(MERCHANT), PairRecord::default());
}

#[test]
fn top_up_and_cap_raise_only_what_they_name() {
    let raised = EscrowEvent::CapRaised(Events::CapRaised {
        escrow: ESCROW,
        ticketCap: 2000,
        penalty: u(1500),
    });
    let record = after(&[opened(), withdraw_requested(50), topped_up(u(7)), raised]);
    assert_eq!(record.balance, Amount(257));
    assert_eq!((record.ticket_cap, record.penalty), (Nonce(2000), Amount(1500)));
    assert_eq!(
        (record.status, record.withdraw_at),
        (Status::Withdrawing, Some(Timestamp(50)))
    );
}

#[test]
fn claim_pays_the_earmark_first_then_the_balance_then_owes() {
    let mut events = vec![
        opened(),
        earmarked(MERCHANT, 1, 77),
        claimed(MERCHANT, 5, PRIZE, 0),
    ];
    let record = after(&events);
    assert_eq!((record.balance, record.earmarked), (Amount(150), Amount(0)));
    assert_eq!(
        record.pair(MERCHANT),
        PairRecord {
            last_nonce: Nonce(5),
            earmark_prizes: 0,
            earmark_until: Timestamp(77)
        }
    );

    events.extend([
        claimed(MERCHANT, 6, 0, 0),
        claimed(MERCHANT, 7, 0, 50),
        insolvent(99),
    ]);
    let record = after(&events);
    assert_eq!((record.balance, record.debt), (Amount(0), u(50)));
    assert_eq!(
        (record.status, record.cure_by),
        (Status::Insolvent, Some(Timestamp(99)))
    );

    events.push(claimed(OTHER, 8, 0, PRIZE));
    let record = after(&events);
    assert_eq!(record.debt, u(150));
    assert_eq!(
        record.debts.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>(),
        [(MERCHANT, u(50)), (OTHER, u(100))]
    );

    // Half a cure leaves it insolvent, the other half opens it.
    events.push(cured(OTHER, 100, 50));
    assert_eq!(after(&events).status, Status::Insolvent);
    events.push(cured(MERCHANT, 50, 0));
    let record = after(&events);
    assert_eq!(
        (record.status, record.cure_by, record.debt),
        (Status::Open, None, U256::ZERO)
    );
    assert!(record.debts.is_empty());
    assert_eq!(record.pair(MERCHANT).last_nonce, Nonce(7));
}

#[test]
fn insolvency_cancels_a_withdrawal() {
    let record = after(&[
        opened(),
        withdraw_requested(50),
        claimed(MERCHANT, 1, 0, 0),
        insolvent(60),
    ]);
    assert_eq!((record.status, record.withdraw_at), (Status::Insolvent, None));
}

#[test]
fn burn_keeps_debt_and_earmarks() {
    let events = [
        opened(),
        earmarked(OTHER, 2, 70),
        claimed(MERCHANT, 1, 0, 50),
        insolvent(60),
        burned(900),
        claimed(OTHER, 2, PRIZE, 0),
        released(OTHER, 1),
    ];
    let record = after(&events);
    assert_eq!(
        (record.status, record.balance, record.penalty),
        (Status::Closed, Amount(0), Amount(0))
    );
    assert_eq!((record.debt, record.cure_by), (u(50), Some(Timestamp(60))));
    assert_eq!(
        (record.earmarked, record.pair(OTHER).earmark_prizes),
        (Amount(0), 0)
    );
}

#[test]
fn withdrawal_empties_everything() {
    let record = after(&[
        opened(),
        earmarked(OTHER, 1, 10),
        withdraw_requested(50),
        withdrawn(1150),
    ]);
    assert_eq!((record.status, record.withdraw_at), (Status::Closed, None));
    assert_eq!(
        (record.balance, record.penalty, record.earmarked),
        (Amount(0), Amount(0), Amount(0))
    );

    let cancelled = EscrowEvent::WithdrawCancelled(Events::WithdrawCancelled { escrow: ESCROW });
    let record = after(&[opened(), withdraw_requested(50), cancelled]);
    assert_eq!((record.status, record.withdraw_at), (Status::Open, None));
}

#[test]
fn earmarks_add_up_and_are_released_whole() {
    let events = [
        opened(),
        earmarked(OTHER, 1, 90),
        earmarked(OTHER, 1, 95),
        earmarked(MERCHANT, 0, 20),
    ];
    let record = after(&events);
    assert_eq!((record.balance, record.earmarked), (Amount(50), Amount(200)));
    assert_eq!(record.earmark_until, Timestamp(95));
    assert_eq!(record.pair(OTHER).earmark_prizes, 2);
    assert_eq!(record.pair(MERCHANT).earmark_until, Timestamp(20));

    let record = after(&[&events[..], &[released(OTHER, 2)]].concat());
    assert_eq!((record.balance, record.earmarked), (Amount(250), Amount(0)));
}

#[test]
fn equivocation_takes_the_penalty_and_nothing_else() {
    let proven = EscrowEvent::EquivocationProven(Events::EquivocationProven {
        escrow: ESCROW,
        reporter: OTHER,
        nonce: 3,
        burned: u(810),
        reward: u(90),
    });
    let record = after(&[opened(), proven]);
    assert_eq!(
        (record.penalty, record.balance, record.status),
        (Amount(0), Amount(250), Status::Open)
    );
}

#[test]
fn events_of_accounts_change_no_escrow() {
    let skipped = EscrowEvent::TicketSkipped(Events::TicketSkipped {
        escrow: ESCROW,
        recipient: MERCHANT,
        nonce: 1,
        reason: [0; 4].into(),
        got: U256::ZERO,
        limit: U256::ZERO,
    });
    let operator = EscrowEvent::OperatorSet(Events::OperatorSet {
        recipient: MERCHANT,
        operator: OTHER,
        approved: true,
    });
    for event in [skipped, operator] {
        assert_eq!(escrow_of(&event), None);
        assert_eq!(after(&[opened(), event.clone()]), after(&[opened()]));
        assert_eq!(fold(&mut None, &event), Ok(()));
    }
    assert_eq!(escrow_of(&opened()), Some(ESCROW));
}

/// A node that lies, or a block that was missed: refused, and the record is as before.
#[test]
fn events_that_cannot_follow_change_nothing() {
    let base = [opened(), earmarked(OTHER, 1, 90)];
    let before = after(&base);
    let huge = U256::from(u128::MAX) + u(1);
    let cases = [
        opened(),
        topped_up(huge),
        topped_up(u(u128::MAX)),
        earmarked(MERCHANT, 2, 100),
        earmarked(OTHER, u32::MAX, 100),
        released(OTHER, 2),
        claimed(MERCHANT, 1, PRIZE + 1, 0),
        claimed(MERCHANT, 1, 0, PRIZE + 1),
        claimed(MERCHANT, 1, PRIZE, 0), // the earmark is another's
        claimed(OTHER, 1, PRIZE - 1, 0),
        released(OTHER, 0),
        burned(949),
        withdrawn(1149),
        EscrowEvent::EquivocationProven(Events::EquivocationProven {
            escrow: ESCROW,
            reporter: OTHER,
            nonce: 3,
            burned: U256::MAX,
            reward: u(901),
        }),
        cured(MERCHANT, 10, 0),
        cured(MERCHANT, 0, 1),
        EscrowEvent::CapRaised(Events::CapRaised {
            escrow: ESCROW,
            ticketCap: 1 << 32,
            penalty: u(1),
        }),
        EscrowEvent::CapRaised(Events::CapRaised {
            escrow: ESCROW,
            ticketCap: 5,
            penalty: huge,
        }),
    ];
    for event in cases {
        let mut record = Some(before.clone());
        let mut escrows = Escrows::from([(ESCROW, before.clone())]);
        assert!(fold(&mut record, &event).is_err(), "{event:?}");
        assert!(apply(&mut escrows, &event).is_err());
        assert_eq!(
            (record.as_ref(), escrows.get(&ESCROW)),
            (Some(&before), Some(&before)),
            "{event:?}"
        );
    }
    // Two claims spend what was there for two; the third finds nothing and does not say so.
    let mut record = Some(before);
    fold(&mut record, &claimed(MERCHANT, 1, 0, 0)).unwrap();
    assert!(matches!(
        fold(&mut record, &claimed(MERCHANT, 2, 0, 0)),
        Err(FoldError::Overspent { available, needed, .. }) if available == u(50) && needed == u(100)
    ));

    let mut none = None;
    assert_eq!(
        fold(&mut none, &topped_up(u(1))),
        Err(FoldError::EscrowMissing { escrow: ESCROW })
    );
    assert_eq!(none, None);
    let mut opening = Events::Opened {
        ticketCap: u64::MAX,
        ..match opened() {
            EscrowEvent::Opened(event) => event,
            _ => unreachable!(),
        }
    };
    assert!(matches!(
        fold(&mut none, &EscrowEvent::Opened(opening.clone())),
        Err(FoldError::CapTooLarge { got: u64::MAX, .. })
    ));
    opening.ticketCap = 5;
    opening.balance = huge;
    assert!(matches!(
        fold(&mut none, &EscrowEvent::Opened(opening)),
        Err(FoldError::Unit(_))
    ));
    assert_eq!(none, None);
}

fn events() -> impl Strategy<Value = EscrowEvent> {
    let who = || prop_oneof![Just(MERCHANT), Just(OTHER)];
    let amount = || prop_oneof![4 => 0u128..300, 1 => Just(u128::MAX)];
    prop_oneof![
        amount().prop_map(|amount| topped_up(u(amount))),
        (who(), 0u32..3, any::<u64>()).prop_map(|(who, prizes, until)| earmarked(who, prizes, until)),
        (who(), 0u32..3).prop_map(|(who, prizes)| released(who, prizes)),
        (
            who(),
            1u64..1000,
            prop_oneof![Just(0), Just(PRIZE)],
            prop_oneof![Just(0), 0..=PRIZE]
        )
            .prop_map(|(who, nonce, earmark, owed)| claimed(who, nonce, earmark, owed)),
        (who(), amount(), amount()).prop_map(|(who, amount, debt)| cured(who, amount, debt)),
        any::<u64>().prop_map(insolvent),
        amount().prop_map(burned),
        any::<u64>().prop_map(withdraw_requested),
        prop_oneof![amount(), Just(1150)].prop_map(withdrawn),
    ]
}

proptest! {
    /// Whatever a node says: no panic, an error changes nothing, and the sums hold.
    #[test]
    fn any_events_keep_the_sums(events in prop::collection::vec(events(), 0..60)) {
        let mut record = None;
        fold(&mut record, &opened()).unwrap();
        // After a withdrawal the pairs still name earmarks that are gone.
        let mut withdrawn_once = false;
        for event in &events {
            let before = record.clone();
            if fold(&mut record, event).is_err() {
                prop_assert_eq!(&record, &before);
            }
            let record = record.as_ref().unwrap();
            let debts = record.debts.values().fold(U256::ZERO, |sum, debt| sum + debt);
            prop_assert_eq!(debts, record.debt);
            prop_assert!(record.debts.values().all(|debt| !debt.is_zero()));
            let prizes: u128 = record.pairs.values().map(|pair| u128::from(pair.earmark_prizes)).sum();
            withdrawn_once |= matches!(event, EscrowEvent::Withdrawn(_)) && record.earmarked == Amount::ZERO;
            if !withdrawn_once {
                prop_assert_eq!(record.earmarked.0, prizes * PRIZE);
            }
        }
    }
}
