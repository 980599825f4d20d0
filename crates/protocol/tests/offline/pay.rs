//! Payer and payee, step by step: what a step restores, what is the same each time, and what a crash leaves.

use micropay_protocol::offline::{
    Amount, AnyPayer, Credited, MAX_HOLDINGS, MAX_TRANSFERS, PayError, Payee, Payer, PayerPolicy, Rejection,
    Sequence, SignedInvoice, SignedRejection, Step, Timestamp, Waiting,
};

use crate::world::{Device, NOW, Shop, deposit, domain, hand_over, later};

fn kinds() -> [fn(&str) -> Device; 2] {
    [Device::signature, Device::log]
}

fn reject(payee: &Device, rejection: Rejection) -> SignedRejection {
    SignedRejection {
        rejection,
        signature: payee.key.sign(domain().rejection_digest(&rejection).as_slice()),
    }
}

#[test]
fn abort_restores_exact_state() {
    for kind in kinds() {
        let mut a = kind("a").funded(1_000);
        let mut b = kind("bb");
        hand_over(&mut a, &mut b, 100);
        let idle = Payer::new(a.wallet.clone());
        let saved = AnyPayer::from(idle.clone()).encode(&domain());
        let invoice = b.invoice(300, NOW);
        let reserve = || {
            idle.clone()
                .reserve(&domain(), &invoice, &PayerPolicy::default(), NOW)
                .unwrap()
        };
        assert_eq!(reserve().abort(), idle);
        // The payee's word does the same …
        let (_, rejection) = Payee::<Waiting>::new(invoice.invoice).reject(&domain(), NOW);
        let signed = reject(&b, rejection);
        let back = reserve().rejected(&domain(), &signed).unwrap();
        assert_eq!(back, idle);
        assert_eq!(AnyPayer::from(back).encode(&domain()), saved, "to the bit");
        // … but only the payee's, and only for this invoice.
        let by_another = reject(&a, rejection);
        let stopped = reserve().rejected(&domain(), &by_another).unwrap_err();
        assert_eq!(stopped.error.rule(), "not-signed-by-payee");
        assert_eq!(stopped.payer, reserve());
        let other = b.invoice(300, NOW);
        let (_, rejection) = Payee::<Waiting>::new(other.invoice).reject(&domain(), NOW);
        let stopped = reserve().rejected(&domain(), &reject(&b, rejection)).unwrap_err();
        assert_eq!(stopped.error.rule(), "wrong-invoice");
        // After a restart, too: Reserved is saved, and aborts to the same.
        let AnyPayer::Reserved(resumed) =
            AnyPayer::decode(&domain(), &AnyPayer::from(reserve()).encode(&domain())).unwrap()
        else {
            panic!("what was saved is reserved");
        };
        assert_eq!(resumed.abort(), idle);
    }
}

#[test]
fn idempotent_resend_credits_once() {
    for kind in kinds() {
        let mut a = kind("a").funded(1_000);
        let mut b = kind("bb");
        let invoice = b.invoice(300, NOW);
        let path = a.pay(&invoice, NOW);
        let credited = b.receive(&invoice, &path, &Shop::new()).unwrap();
        let first = b.accept(&credited);
        for _ in 0..3 {
            assert_eq!(credited.again(&domain(), &path).unwrap(), first.acceptance);
            credited.hold(&domain(), &mut b.wallet).unwrap();
            assert_eq!(b.accept(&credited), first, "the same acceptance");
        }
        assert_eq!(b.wallet.balance(&domain(), Default::default()), Amount(300));
        // After a restart, too.
        let saved = credited.encode(&domain());
        let resumed = Payee::<Credited>::decode(&domain(), &saved).unwrap();
        assert_eq!(resumed, credited);
        resumed.hold(&domain(), &mut b.wallet).unwrap();
        assert_eq!(b.wallet.holdings.len(), 1);
        // And after it was spent.
        let mut c = kind("ccc");
        hand_over(&mut b, &mut c, 300);
        resumed.hold(&domain(), &mut b.wallet).unwrap();
        assert!(b.wallet.holdings.is_empty());
        // Another transfer for the same invoice is not taken.
        let mut twice = kind("a").funded(1_000);
        let other = twice.pay(&invoice, later(1));
        assert_eq!(
            resumed.again(&domain(), &other).unwrap_err().rule(),
            "already-paid"
        );
        // A replay to another payee, or another invoice, is none.
        let theirs = c.invoice(300, NOW);
        assert_eq!(
            Shop::new().judge(&theirs, &path).unwrap_err().rule(),
            "wrong-invoice"
        );
        let mine = b.invoice(300, NOW);
        assert_eq!(
            Shop::new().judge(&mine, &path).unwrap_err().rule(),
            "wrong-invoice"
        );
    }
}

#[test]
fn a_late_transfer_is_credited() {
    let mut a = Device::signature("a").funded(1_000);
    let mut b = Device::signature("b");
    let invoice = b.invoice(300, NOW);
    let path = a.pay(&invoice, later(100));
    let timeout = Payee::<Waiting>::new(invoice.invoice).timeout(&Shop::new().policy);
    assert_eq!(timeout, later(180));
    for (now, late) in [(later(180), false), (later(181), true), (later(86_400), true)] {
        let waiting = Payee::<Waiting>::new(invoice.invoice);
        let credited = waiting.receive(&domain(), &path, &Shop::at(now).view()).unwrap();
        assert_eq!(credited.state().late, late, "at {now}");
        // A payee that has said no gets it nevertheless, and has nothing to deliver.
        let (rejected, _) = waiting.reject(&domain(), later(90));
        let credited = rejected.receive(&domain(), &path, &Shop::at(now).view()).unwrap();
        assert!(credited.state().late);
    }
    // A rejection after the commit means nothing: there is no such step. The payment waits until it is accepted.
}

#[test]
fn a_crash_anywhere_is_healed_by_the_component() {
    let mut a = Device::log("a").funded(1_000);
    let mut b = Device::log("bb");
    let invoice = b.invoice(300, NOW);
    let chosen = Payer::new(a.wallet.clone())
        .reserve(&domain(), &invoice, &PayerPolicy::default(), NOW)
        .unwrap()
        .commit(&domain(), NOW)
        .unwrap();
    let saved = AnyPayer::from(chosen.clone()).encode(&domain());
    let resume = || match AnyPayer::decode(&domain(), &saved).unwrap() {
        AnyPayer::Chosen(payer) => payer,
        other => panic!("saved was a choice, found {other:?}"),
    };
    assert_eq!(resume(), chosen);
    // Before the extend: extend. After it, as often as one asks: certify.
    let step = resume().next_step(&domain(), a.component_head()).unwrap();
    assert!(matches!(step, Step::Extend(_)));
    assert!(a.perform(step).is_none());
    let mut payments = Vec::new();
    for _ in 0..3 {
        let step = resume().next_step(&domain(), a.component_head()).unwrap();
        assert!(matches!(step, Step::Certify(_)));
        let proof = a.perform(step).unwrap();
        let committed = resume().prove(&domain(), proof).unwrap();
        payments.push(committed.payment().clone());
        let saved = AnyPayer::from(committed.clone()).encode(&domain());
        assert_eq!(
            AnyPayer::decode(&domain(), &saved).unwrap(),
            AnyPayer::Committed(committed)
        );
    }
    payments.dedup();
    assert_eq!(payments.len(), 1);
    // A proof of something else is refused, and the choice stands.
    let step = resume().next_step(&domain(), a.component_head()).unwrap();
    let proof = a.perform(step).unwrap();
    a.head = a.head.extended(b"something else");
    let stopped = resume().prove(&domain(), a.perform(step).unwrap()).unwrap_err();
    assert_eq!(stopped.error.rule(), "not-certified");
    assert_eq!(stopped.payer, chosen);
    assert!(resume().prove(&domain(), proof).is_ok());
    assert_eq!(
        resume()
            .next_step(&domain(), a.component_head())
            .unwrap_err()
            .rule(),
        "unknown-head"
    );
}

#[test]
fn an_acceptance_ends_it_and_only_the_right_one() {
    for kind in kinds() {
        let mut a = kind("a").funded(1_000);
        let (mut b, c) = (kind("bb"), kind("ccc"));
        let invoice = b.invoice(300, NOW);
        let payer = Payer::new(a.wallet.clone())
            .reserve(&domain(), &invoice, &PayerPolicy::default(), NOW)
            .unwrap()
            .commit(&domain(), NOW)
            .unwrap();
        let proof = loop {
            let step = payer.next_step(&domain(), a.component_head()).unwrap();
            if let Some(proof) = a.perform(step) {
                break proof;
            }
        };
        let payer = payer.prove(&domain(), proof).unwrap();
        let credited = b.receive(&invoice, payer.payment(), &Shop::new()).unwrap();
        let right = b.accept(&credited);
        let stopped = payer
            .clone()
            .accepted(&domain(), &c.accept(&credited))
            .unwrap_err();
        assert_eq!(stopped.error.rule(), "not-signed-by-payee");
        let mut other = right;
        other.acceptance.transfer.0[0] ^= 1;
        let stopped = payer.clone().accepted(&domain(), &other).unwrap_err();
        assert_eq!(stopped.error.rule(), "wrong-transfer");
        let (idle, outgoing) = payer.clone().set_aside();
        assert!(outgoing.is_accepted(&domain(), &right).is_ok());
        assert!(outgoing.is_accepted(&domain(), &other).is_err());
        let saved = outgoing.encode(&domain());
        assert_eq!(
            micropay_protocol::offline::Outgoing::decode(&domain(), &saved).unwrap(),
            outgoing
        );
        let done = payer.accepted(&domain(), &right).unwrap();
        assert_eq!(done.next(), idle);
        assert_eq!(idle.wallet().balance(&domain(), Default::default()), Amount(700));
    }
}

#[test]
fn invoices_are_checked_before_anything() {
    let a = Device::signature("a").funded(1_000);
    let mut b = Device::signature("b");
    let rule = |invoice: &SignedInvoice, now: Timestamp| {
        Payer::new(a.wallet.clone())
            .reserve(&domain(), invoice, &PayerPolicy::default(), now)
            .err()
            .map(|stopped| stopped.error.rule())
    };
    let invoice = b.invoice(300, NOW);
    assert_eq!(rule(&invoice, later(150)), None);
    assert_eq!(rule(&invoice, later(151)), Some("invoice-stale"));
    assert_eq!(rule(&invoice, Timestamp(NOW.0 - 120)), None);
    assert_eq!(
        rule(&invoice, Timestamp(NOW.0 - 121)),
        Some("invoice-from-future")
    );
    assert_eq!(rule(&b.invoice(1_001, NOW), NOW), Some("no-input"));
    assert_eq!(rule(&b.invoice(0, NOW), NOW), Some("nothing-asked"));
    assert_eq!(rule(&a.clone().invoice(1, NOW), NOW), Some("own-invoice"));
    let over = Timestamp(a.wallet.registration.valid_until.0 + 1);
    assert_eq!(rule(&b.invoice(1, over), over), Some("registration-expired"));
}

#[test]
fn attack_a_copy_of_an_invoice_is_not_paid_again() {
    for kind in kinds() {
        let mut a = kind("a").funded(1_000);
        let mut b = kind("bb");
        let (invoice, _) = hand_over(&mut a, &mut b, 300);
        // After a restart, too.
        let saved = AnyPayer::from(Payer::new(a.wallet.clone())).encode(&domain());
        let AnyPayer::Idle(payer) = AnyPayer::decode(&domain(), &saved).unwrap() else {
            panic!("what was saved is idle");
        };
        assert_eq!(*payer.wallet(), a.wallet);
        let stopped = payer
            .reserve(&domain(), &invoice, &PayerPolicy::default(), later(9))
            .unwrap_err();
        assert_eq!(stopped.error.rule(), "already-paid");
        // Forgotten when it is stale by far.
        let next = b.invoice(1, later(86_401));
        a.pay(&next, later(86_401));
        assert_eq!(a.wallet.paid.len(), 1);
    }
}

#[test]
fn a_coin_is_imported_once() {
    for kind in kinds() {
        let mut a = kind("a").funded(1_000);
        let mut b = kind("bb");
        let deposit = a.wallet.holdings[0].path.deposit;
        a.wallet.import(&domain(), deposit).unwrap();
        assert_eq!(a.wallet.holdings.len(), 1);
        hand_over(&mut a, &mut b, 1_000);
        a.wallet.import(&domain(), deposit).unwrap();
        assert!(a.wallet.holdings.is_empty());
        assert!(b.wallet.import(&domain(), deposit).is_err());
    }
}

/// A wallet that holds as much as it may takes no more, and what it saves can be read; when it has left with some, it goes on.
#[test]
fn a_wallet_that_is_full_takes_no_more() {
    let mut a = Device::signature("a").funded(1_000);
    let coin = a.wallet.holdings[0].clone();
    a.wallet.holdings = vec![coin.clone(); MAX_HOLDINGS];
    let another = deposit(a.id(), 1, 7);
    let held = MAX_HOLDINGS;
    let full = PayError::TooManyHoldings { held, limit: held };
    assert_eq!(a.wallet.import(&domain(), another).unwrap_err(), full);
    assert_eq!(a.wallet.holdings.len(), held);
    let books = AnyPayer::from(Payer::new(a.wallet.clone()));
    assert_eq!(
        AnyPayer::decode(&domain(), &books.encode(&domain())).unwrap(),
        books
    );
    a.wallet.holdings.pop();
    a.wallet.import(&domain(), another).unwrap();
}

/// A wallet's last numbers are kept for exits: what it holds then is not stuck.
#[test]
fn the_last_transfers_are_exits() {
    let mut a = Device::signature("a").funded(1_000);
    let invoice = Device::signature("b").invoice(10, NOW);
    let payments = MAX_TRANSFERS - MAX_HOLDINGS as u64;
    for (made, pays, leaves) in [
        (payments - 1, true, true),
        (payments, false, true),
        (MAX_TRANSFERS - 1, false, true),
        (MAX_TRANSFERS, false, false),
        (u64::MAX, false, false),
    ] {
        a.wallet.sequence = Sequence(made);
        let payer = Payer::new(a.wallet.clone());
        let input = a.wallet.holdings[0].fragment(&domain()).id;
        let paid = payer
            .clone()
            .reserve(&domain(), &invoice, &PayerPolicy::default(), NOW);
        let left = payer.exit(&domain(), input, NOW);
        assert_eq!((paid.is_ok(), left.is_ok()), (pays, leaves), "{made}");
        if let Err(stopped) = paid {
            let made = Sequence(made);
            assert_eq!(
                stopped.error,
                PayError::Exhausted {
                    made,
                    limit: payments
                }
            );
        }
    }
}
