//! The bank's decision, rule by rule.

use alloy_primitives::Address;
use micropay_protocol::channel::{
    AdmitPolicy, AdmitRefusal, AdmitRequest, Admitted, Amount, Domain, Index, MAX_LENGTH, Permit,
    PermitError, Reputation, Seconds, Timestamp, TopUpRequest, Word, admit, admit_top_up,
};

use crate::world::{NOW, World, bytes32, key, reputation};

fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

fn request() -> AdmitRequest {
    AdmitRequest {
        client: key("client").address(),
        vendor: key("vendor").address(),
        salt: bytes32("salt", 0),
        receipt_key: key("receipts").address(),
        asset: Address::ZERO,
        unit: Amount(100),
        length: Index(10),
        anchor: Word(bytes32("anchor", 0)),
        expiry: NOW.plus(Seconds::DAY),
    }
}

pub(crate) fn admit_with(client: Reputation, vendor: Reputation) -> Result<Permit, AdmitRefusal> {
    admit(
        &domain(),
        &request(),
        client,
        vendor,
        &AdmitPolicy::default(),
        NOW,
    )
}

#[test]
fn a_permit_says_what_was_asked() {
    let permit = admit_with(reputation(50), reputation(100)).unwrap();
    let request = request();
    let id = domain().channel_id(request.client, request.vendor, request.salt);
    assert_eq!(permit.channel(), id);
    assert_eq!(
        (permit.client(), permit.vendor()),
        (request.client, request.vendor)
    );
    assert_eq!((permit.unit(), permit.length()), (request.unit, request.length));
    assert_eq!(
        (permit.anchor(), permit.expiry()),
        (request.anchor, request.expiry)
    );
    assert_eq!(
        (permit.receipt_key(), permit.asset()),
        (request.receipt_key, request.asset)
    );
    assert_eq!((permit.issued_at(), permit.deposit()), (NOW, Some(Amount(1_000))));
    assert_eq!(
        (permit.fields().clientReputation, permit.fields().vendorReputation),
        (50, 100)
    );
}

/// Each rule has its refusal, with both values.
#[test]
fn each_rule_refuses_by_name() {
    let refuse = |change: &dyn Fn(&mut AdmitRequest, &mut AdmitPolicy)| {
        let (mut request, mut policy) = (request(), AdmitPolicy::default());
        change(&mut request, &mut policy);
        admit(&domain(), &request, reputation(80), reputation(80), &policy, NOW).unwrap_err()
    };
    let me = key("client").address();
    assert_eq!(
        refuse(&|r, _| r.vendor = me),
        AdmitRefusal::SameParty {
            client: me,
            vendor: me
        }
    );
    assert_eq!(
        refuse(&|r, _| r.receipt_key = Address::ZERO),
        AdmitRefusal::ReceiptKeyZero { client: me }
    );
    let (low, high) = (Amount(1), Amount::MAX);
    assert_eq!(
        refuse(&|r, _| r.unit = Amount(0)),
        AdmitRefusal::UnitOutOfRange {
            got: Amount(0),
            low,
            high
        }
    );
    let high = Amount(99);
    assert_eq!(
        refuse(&|_, p| p.max_unit = high),
        AdmitRefusal::UnitOutOfRange {
            got: Amount(100),
            low,
            high
        }
    );
    let length = |got, high| AdmitRefusal::LengthOutOfRange {
        got: Index(got),
        low: Index(1),
        high,
    };
    assert_eq!(refuse(&|r, _| r.length = Index(0)), length(0, MAX_LENGTH));
    assert_eq!(
        refuse(&|r, _| r.length = Index(MAX_LENGTH.0 + 1)),
        length(MAX_LENGTH.0 + 1, MAX_LENGTH)
    );
    assert_eq!(refuse(&|_, p| p.max_length = Index(9)), length(10, Index(9)));
    // A bank cannot allow what the contract refuses.
    let more = Index(u32::MAX);
    assert_eq!(
        refuse(&|r, p| {
            p.max_length = more;
            r.length = more;
        }),
        length(u32::MAX, MAX_LENGTH)
    );
    assert_eq!(
        refuse(&|r, _| r.unit = Amount::MAX),
        AdmitRefusal::DepositTooLarge {
            unit: Amount::MAX,
            length: Index(10)
        }
    );
    let (low, high) = (NOW.plus(Seconds::HOUR), NOW.plus(Seconds::DAY.times(365)));
    for got in [
        Timestamp(0),
        Timestamp(low.0 - 1),
        Timestamp(high.0 + 1),
        Timestamp(u64::MAX),
    ] {
        assert_eq!(
            refuse(&|r, _| r.expiry = got),
            AdmitRefusal::ExpiryOutOfRange { got, low, high }
        );
    }
}

#[test]
fn a_bank_may_ask_for_more_reputation_and_not_for_less() {
    let with = |needed, client| {
        let policy = AdmitPolicy {
            min_reputation: reputation(needed),
            ..AdmitPolicy::default()
        };
        admit(
            &domain(),
            &request(),
            reputation(client),
            reputation(80),
            &policy,
            NOW,
        )
    };
    assert!(with(70, 70).is_ok());
    let refusal = |got, needed| AdmitRefusal::ReputationTooLow {
        customer: key("client").address(),
        got: reputation(got),
        needed: reputation(needed),
    };
    assert_eq!(with(70, 69), Err(refusal(69, 70)));
    assert_eq!(with(10, 49), Err(refusal(49, 50)));
    assert_eq!(Reputation::new(101), None);
}

#[test]
fn a_top_up_is_longer_and_no_sooner_over() {
    let current = admit_with(reputation(80), reputation(80)).unwrap();
    let good = TopUpRequest {
        length: Index(11),
        anchor: Word(bytes32("anchor", 1)),
        expiry: current.expiry(),
    };
    let ask = |request: TopUpRequest| {
        admit_top_up(
            &domain(),
            &current,
            &request,
            reputation(81),
            reputation(82),
            &AdmitPolicy::default(),
            NOW,
        )
    };
    let permit = ask(good).unwrap();
    assert_eq!(permit.channel(), current.channel());
    assert_eq!((permit.length(), permit.anchor()), (good.length, good.anchor));
    assert_eq!(
        (permit.unit(), permit.receipt_key()),
        (current.unit(), current.receipt_key())
    );
    assert_eq!(permit.fields().clientReputation, 81);
    assert_eq!(
        ask(TopUpRequest {
            length: Index(10),
            ..good
        }),
        Err(AdmitRefusal::LengthOutOfRange {
            got: Index(10),
            low: Index(11),
            high: MAX_LENGTH
        })
    );
    assert_eq!(
        ask(TopUpRequest {
            anchor: current.anchor(),
            ..good
        }),
        Err(AdmitRefusal::AnchorUsed {
            got: current.anchor(),
            current: current.anchor()
        })
    );
    let sooner = Timestamp(current.expiry().0 - 1);
    assert!(matches!(
        ask(TopUpRequest { expiry: sooner, ..good }),
        Err(AdmitRefusal::ExpiryOutOfRange { got, low, .. }) if got == sooner && low == current.expiry()
    ));
}

#[test]
fn a_permit_is_its_banks() {
    let world = World::new(3);
    let admitted = world.opening();
    let (permit, signature) = (admitted.permit().clone(), *admitted.signature());
    let bank = world.bank.address();
    assert_eq!(
        Admitted::from_parts(permit.clone(), bank, signature, bank),
        Ok(admitted)
    );
    let other = key("other").address();
    assert_eq!(
        Admitted::from_parts(permit.clone(), bank, signature, other),
        Err(PermitError::WrongSigner {
            recovered: bank,
            bank_key: other
        })
    );
    // One bit of the permit: another message.
    let mut fields = permit.fields().clone();
    fields.length += 1;
    let changed = Permit::new(&world.domain, fields);
    assert!(Admitted::from_parts(changed, bank, signature, bank).is_err());
    // A rotated key signs for the same bank (C-19).
    let rotated = key("rotated");
    let admitted = permit.sign(bank, &rotated);
    assert_eq!(admitted.bank(), bank);
    assert_eq!(admitted.check(rotated.address()), Ok(()));
    assert!(admitted.check(bank).is_err());
}
