//! When a vendor acts: in time, whatever else.

use micropay_protocol::channel::{
    Amount, CloseReason, Index, Seconds, Sighting, Timestamp, WatchDecision, WatchPolicy, when_to_close,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000);

fn sighting() -> Sighting {
    Sighting {
        paid: Index(50),
        settled: Index(10),
        unit: Amount(100),
        expiry: NOW.plus(Seconds::DAY),
        last_payment: NOW,
        closed: false,
        misbehaved: false,
    }
}

fn decide(change: impl Fn(&mut Sighting, &mut WatchPolicy)) -> WatchDecision {
    let (mut sighting, mut policy) = (sighting(), WatchPolicy::default());
    change(&mut sighting, &mut policy);
    when_to_close(&sighting, NOW, &policy)
}

#[test]
fn each_reason_has_its_decision() {
    assert_eq!(decide(|_, _| {}), WatchDecision::Wait);
    assert_eq!(
        decide(|s, _| s.expiry = NOW.plus(Seconds::HOUR.times(6))),
        WatchDecision::Close(CloseReason::Expiry)
    );
    assert_eq!(
        decide(|s, _| s.expiry = NOW.plus(Seconds(21_601))),
        WatchDecision::Wait
    );
    assert_eq!(
        decide(|s, _| s.misbehaved = true),
        WatchDecision::Close(CloseReason::Misbehaviour)
    );
    let idle = |s: &mut Sighting, p: &mut WatchPolicy| {
        s.last_payment = Timestamp(NOW.0 - 3_600);
        p.max_idle = Some(Seconds::HOUR);
    };
    assert_eq!(decide(idle), WatchDecision::Close(CloseReason::Idle));
    assert_eq!(
        decide(|_, p| p.max_unsettled = Amount(3_999)),
        WatchDecision::Checkpoint
    );
    assert_eq!(
        decide(|_, p| p.max_unsettled = Amount(4_000)),
        WatchDecision::Wait
    );
}

#[test]
fn nothing_is_sent_for_nothing() {
    let late = NOW.plus(Seconds(10));
    assert_eq!(
        decide(|s, _| {
            s.expiry = late;
            s.settled = Index(50);
        }),
        WatchDecision::Wait
    );
    assert_eq!(
        decide(|s, _| {
            s.expiry = late;
            s.closed = true;
        }),
        WatchDecision::Wait
    );
    assert_eq!(
        decide(|s, p| {
            s.expiry = late;
            p.min_worth = Amount(4_001);
        }),
        WatchDecision::Wait
    );
    // Too late is too late.
    assert_eq!(
        decide(|s, _| s.expiry = Timestamp(NOW.0 - 1)),
        WatchDecision::Wait
    );
    assert_eq!(
        decide(|s, _| s.expiry = NOW),
        WatchDecision::Close(CloseReason::Expiry)
    );
}

proptest! {
    /// Value in a channel whose expiry is near is never left there.
    #[test]
    fn value_is_never_left_to_expire(
        paid in 1u32..1_000,
        settled in 0u32..1_000,
        left in 0u64..21_600,
        misbehaved: bool,
        unit in 1u128..1_000_000,
    ) {
        let seen = Sighting {
            paid: Index(paid),
            settled: Index(settled),
            unit: Amount(unit),
            expiry: NOW.plus(Seconds(left)),
            misbehaved,
            ..sighting()
        };
        let decision = when_to_close(&seen, NOW, &WatchPolicy::default());
        prop_assert_eq!(decision == WatchDecision::Close(CloseReason::Expiry), paid > settled);
    }
}
