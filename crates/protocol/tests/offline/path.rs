//! Paths: what a payee checks of them, rule by rule, and that nothing in one can be changed.

use alloy_primitives::{Address, B256};
use micropay_protocol::offline::{
    Amount, ClassId, Evidence, Input, InvoiceDigest, Key, MAX_HOPS, Output, Path, PathError, Previous,
    Refusal, Seconds, Sequence, SignedInvoice, Timestamp, WalletId, WalletSignature,
};
use proptest::prelude::*;

use crate::world::{
    Device, LOG_CLASS, NOW, SIGNATURE_CLASS, Shop, bytes32, deposit_signed_by, domain, earlier, hand_over,
    later, list_of, register, registrar,
};

/// A to B to C, with change at each, by wallets of this kind; and C's invoice.
fn three(kind: fn(&str) -> Device) -> (SignedInvoice, Path) {
    let mut devices = [kind("a").funded(1_000), kind("bb"), kind("ccc")];
    let [a, b, c] = &mut devices;
    hand_over(a, b, 600);
    hand_over(b, c, 250)
}

/// A payee gets the upper part of what is spent, a payer keeps the lower.
#[test]
fn a_payment_has_its_place_in_the_coin() {
    let mut a = Device::signature("a").funded(1_000);
    let (mut b, mut c) = (Device::log("bb"), Device::signature("ccc"));
    for (from_a, amount, place) in [
        (true, 600, 400),
        (false, 250, 750),
        (false, 100, 650),
        (true, 100, 300),
        (true, 300, 0),
    ] {
        let (payer, payee) = if from_a {
            (&mut a, &mut b)
        } else {
            (&mut b, &mut c)
        };
        let (_, path) = hand_over(payer, payee, amount);
        assert_eq!(path.place(&domain()), Amount(place), "{amount}");
    }
}

type Tamper = (&'static str, fn(&mut Path));

/// Every field of a path, changed.
const TAMPER: &[Tamper] = &[
    ("coin's wallet", |path| path.deposit.coin.wallet.0[0] ^= 1),
    ("coin's asset", |path| {
        path.deposit.coin.asset = Address::repeat_byte(1);
    }),
    ("coin's amount", |path| path.deposit.coin.amount.0 += 1),
    ("coin's nonce", |path| path.deposit.coin.deposit_nonce.0 += 1),
    ("settleBy", |path| path.deposit.settle_by.0 += 1),
    ("receipt's signature", |path| {
        path.deposit.signature = Key::from_bytes(&[9; 32]).unwrap().sign(B256::ZERO);
    }),
    ("owner", |path| path.wallets[0].owner = Address::repeat_byte(1)),
    ("class", |path| path.wallets[0].class.0 += 1),
    ("registration's end", |path| path.wallets[1].valid_until.0 += 1),
    ("key", |path| path.wallets[1].key = path.wallets[0].key),
    ("first registration", |path| {
        path.wallets[0].first = Some(Default::default());
    }),
    ("registration's signature", |path| {
        path.wallets[0].signature = path.wallets[1].signature;
    }),
    ("hop's payer", |path| path.hops[1].payer = 0),
    ("no such payer", |path| path.hops[1].payer = 7),
    ("input", |path| path.hops[1].transfer.input = Input(B256::ZERO)),
    ("payee of the first", |path| path.hops[0].transfer.payee.0[0] ^= 1),
    ("payee of the last", |path| path.hops[1].transfer.payee.0[0] ^= 1),
    ("amount", |path| path.hops[0].transfer.amount.0 += 1),
    ("change", |path| path.hops[0].transfer.change.0 += 1),
    ("both, with the same sum", |path| {
        path.hops[1].transfer.amount.0 += 1;
        path.hops[1].transfer.change.0 -= 1;
    }),
    ("sequence", |path| path.hops[0].transfer.sequence = Sequence(2)),
    ("sequence 0", |path| path.hops[0].transfer.sequence = Sequence(0)),
    ("previous", |path| {
        path.hops[0].transfer.previous = Previous(B256::ZERO);
    }),
    ("invoice", |path| {
        path.hops[0].transfer.invoice = InvoiceDigest(B256::ZERO);
    }),
    ("invoice of the last", |path| {
        path.hops[1].transfer.invoice = InvoiceDigest(B256::ZERO);
    }),
    ("time", |path| path.hops[0].transfer.issued_at.0 += 1),
    ("time of the last", |path| path.hops[1].transfer.issued_at.0 += 1),
    ("evidence", |path| {
        path.hops[0].evidence = path.hops[1].evidence.clone();
    }),
    ("order", |path| path.hops.swap(0, 1)),
    ("a hop twice", |path| path.hops.push(path.hops[1].clone())),
    ("a hop left out", |path| drop(path.hops.remove(0))),
    ("the last left out", |path| drop(path.hops.pop())),
    ("no hops", |path| path.hops.clear()),
    ("no wallets", |path| path.wallets.clear()),
];

const TAMPER_LOG: &[Tamper] = &[
    ("index", |path| path.wallets[0].index = path.wallets[1].index),
    ("no index", |path| path.wallets[0].index = None),
    ("signer", |path| certificate(path).qualified_signer[5] ^= 1),
    ("clock", |path| certificate(path).clock_info[5] ^= 1),
    ("firmware", |path| certificate(path).firmware_version[5] ^= 1),
    ("bare signature", |path| {
        let signature = certificate(path).signature;
        path.hops[0].evidence = Evidence::Signature(signature);
    }),
    ("history", |path| {
        if let Evidence::Log(proof) = &mut path.hops[0].evidence {
            proof.history.push(micropay_protocol::offline::LogEntry {
                input: Input(B256::ZERO),
                transfer: micropay_protocol::offline::TransferDigest(B256::ZERO),
            });
        }
    }),
];

fn certificate(path: &mut Path) -> &mut micropay_protocol::offline::Certificate {
    match &mut path.hops[0].evidence {
        Evidence::Log(proof) => &mut proof.certificate,
        Evidence::Signature(_) => panic!("a log wallet has log evidence"),
    }
}

#[test]
fn forged_hop_rejected() {
    for (kind, more) in [
        (Device::signature as fn(&str) -> Device, &[][..]),
        (Device::log, TAMPER_LOG),
    ] {
        let (invoice, path) = three(kind);
        assert!(Shop::new().judge(&invoice, &path).is_ok());
        for (what, tamper) in TAMPER.iter().chain(more) {
            let mut forged = path.clone();
            tamper(&mut forged);
            if forged == path {
                // Evidence of a SIGNATURE path has no more fields.
                continue;
            }
            let refused = Shop::new().judge(&invoice, &forged);
            assert!(refused.is_err(), "{what} can be changed: {refused:?}");
        }
    }
}

#[test]
fn unfinalized_deposit_rejected() {
    let mut a = Device::signature("a");
    let mut b = Device::signature("b");
    // The coin is there, but the registrar has signed no receipt for it; somebody else has.
    let stranger = Key::from_bytes(&bytes32("stranger", 0).0).unwrap();
    let unfinal = deposit_signed_by(&stranger, a.id(), 1_000, 0);
    let refused = a.wallet.import(&domain(), unfinal).unwrap_err();
    assert_eq!(refused.rule(), "receipt-signer");
    let mut a = a.funded(1_000);
    let invoice = b.invoice(600, NOW);
    let mut path = a.pay(&invoice, NOW);
    path.deposit = unfinal;
    assert_eq!(
        Shop::new().judge(&invoice, &path),
        Err(Refusal::Path(PathError::ReceiptSigner {
            got: stranger.address(),
            needed: registrar().address(),
        }))
    );
    // An encoded payment without a receipt is none.
    let bytes = path.encode(&domain());
    assert!(Path::decode(&domain(), &bytes).is_ok());
}

#[test]
fn hop_limit() {
    for kind in [Device::signature as fn(&str) -> Device, Device::log] {
        let mut devices: Vec<Device> = (1..=MAX_HOPS + 2).map(|n| kind(&"w".repeat(n))).collect();
        devices[0] = devices[0].clone().funded(1_000);
        for at in 0..MAX_HOPS {
            let [payer, payee] = &mut devices[at..at + 2] else {
                unreachable!()
            };
            hand_over(payer, payee, 1_000 - at as u128);
        }
        // The sixteenth payee holds it, and cannot pay on; but it can leave.
        let [last, next] = &mut devices[MAX_HOPS..] else {
            unreachable!()
        };
        let invoice = next.invoice(1, NOW);
        let stopped = micropay_protocol::offline::Payer::new(last.wallet.clone())
            .reserve(&domain(), &invoice, &Default::default(), NOW)
            .unwrap_err();
        assert_eq!(stopped.error.rule(), "no-input");
        let held = last.wallet.holdings[0].fragment(&domain());
        assert_eq!(held.depth.0, MAX_HOPS);
        let exit = last.exit(held.id, NOW);
        assert_eq!(exit.hops.len(), MAX_HOPS + 1);
        assert!(exit.prove(&domain()).is_ok());
        // One more that is no exit is too many.
        let mut long = exit.clone();
        long.hops[MAX_HOPS].transfer.change = Amount(1);
        assert_eq!(
            long.prove(&domain()).unwrap_err(),
            PathError::TooLong {
                got: MAX_HOPS + 1,
                limit: MAX_HOPS
            }
        );
        // A payee's own limit may be lower.
        let (invoice, path) = three(kind);
        let mut shop = Shop::new();
        shop.policy.max_hops = 1;
        assert_eq!(
            shop.judge(&invoice, &path),
            Err(Refusal::TooManyHops { got: 2, limit: 1 })
        );
    }
}

#[test]
fn an_exit_is_the_end() {
    let mut a = Device::signature("a").funded(1_000);
    let mut b = Device::signature("b");
    let input = a.wallet.holdings[0].fragment(&domain()).id;
    let before = a.clone();
    let exit = a.exit(input, NOW);
    let fragment = exit.prove(&domain()).unwrap().fragment(&domain(), Output::Payee);
    assert!(fragment.exited && fragment.wallet == a.id() && fragment.value == Amount(1_000));
    assert!(a.wallet.holdings.is_empty());
    // Somebody who spends it nevertheless is refused.
    let invoice = b.invoice(1_000, NOW);
    let mut forger = before;
    let mut spends = forger.pay(&invoice, NOW).hops[0].transfer;
    spends.input = fragment.id;
    spends.sequence = Sequence(2);
    let mut path = exit;
    let signature = forger.key.sign(domain().transfer_digest(&spends).0.as_slice());
    path.hops.push(micropay_protocol::offline::Hop {
        payer: 0,
        transfer: spends,
        evidence: Evidence::Signature(signature),
    });
    let refused = Shop::new().judge(&invoice, &path).unwrap_err();
    assert_eq!(refused.rule(), "after-exit");
}

#[test]
fn clock_boundaries() {
    // The payer's clock is off by so much; the payee takes it if and only if that is at most ε + Δ.
    let window = Shop::new().policy.window().0;
    assert_eq!(window, 150);
    let mut a = Device::signature("a").funded(1_000_000);
    let mut b = Device::signature("b");
    for skew in (-3_600..=3_600_i64)
        .step_by(60)
        .chain([-151, -150, -149, 149, 150, 151])
    {
        let invoice = b.invoice(1, NOW);
        let theirs = Timestamp(NOW.0.checked_add_signed(skew).unwrap());
        let path = signed_at(&mut a, &invoice, theirs);
        let verdict = Shop::new().judge(&invoice, &path);
        let taken = skew.unsigned_abs() <= window;
        assert_eq!(verdict.is_ok(), taken, "{skew} s: {verdict:?}");
        if !taken {
            let rule = verdict.unwrap_err().rule();
            assert_eq!(rule, if skew > 0 { "from-future" } else { "stale" });
        }
    }
}

/// What a payer with a wrong clock makes, that its own check of the invoice would have kept from it.
fn signed_at(payer: &mut Device, invoice: &SignedInvoice, at: Timestamp) -> Path {
    let before = payer.clone();
    let mut path = payer.pay(invoice, NOW);
    path.hops[0].transfer.issued_at = at;
    let digest = domain().transfer_digest(&path.hops[0].transfer);
    path.hops[0].evidence = Evidence::Signature(payer.key.sign(digest.0.as_slice()));
    *payer = before;
    path
}

#[test]
fn each_end_has_its_margin() {
    let (invoice, path) = three(Device::signature);
    let settle_by = path.deposit.settle_by;
    // A late payment: what counts is when it was made. Then nothing but the margin is near.
    let mut shop = Shop::at(Timestamp(settle_by.0 - 86_400));
    shop.lists = vec![list_of(shop.now, &[], &[])];
    assert!(shop.judge(&invoice, &path).is_ok());
    shop.now.0 += 1;
    assert_eq!(shop.judge(&invoice, &path).unwrap_err().rule(), "settle-too-soon");

    // The registration's end: the second itself counts.
    for (over, rule) in [(0, None), (1, Some("registration-expired"))] {
        let mut a = Device::signature("a").funded(1_000);
        let mut b = Device::signature("b");
        a.wallet.registration = register(&a.key, SIGNATURE_CLASS, None, NOW);
        let invoice = b.invoice(600, NOW);
        // A renewal starts where the first registration did.
        a.wallet.registration.first = Some(micropay_protocol::offline::RegistrationDigest(
            a.wallet.previous.0,
        ));
        let path = signed_at_or_after(&mut a, &invoice, later(over));
        let got = Shop::new().judge(&invoice, &path).err().map(|error| error.rule());
        assert_eq!(got, rule);
    }
}

fn signed_at_or_after(payer: &mut Device, invoice: &SignedInvoice, at: Timestamp) -> Path {
    let mut path = payer.pay(invoice, NOW);
    path.hops[0].transfer.issued_at = at;
    let digest = domain().transfer_digest(&path.hops[0].transfer);
    path.hops[0].evidence = Evidence::Signature(payer.key.sign(digest.0.as_slice()));
    path
}

#[test]
fn policy_rules_one_by_one() {
    let (invoice, path) = three(Device::signature);
    let rule = |change: &dyn Fn(&mut Shop, &mut SignedInvoice, &mut Path)| {
        let (mut shop, mut invoice, mut path) = (Shop::new(), invoice.clone(), path.clone());
        change(&mut shop, &mut invoice, &mut path);
        shop.judge(&invoice, &path).unwrap_err().rule()
    };
    assert_eq!(
        rule(&|shop, _, _| shop.policy.classes.clear()),
        "class-not-accepted"
    );
    assert_eq!(
        rule(&|shop, _, _| shop.policy = Default::default()),
        "class-not-accepted",
        "nothing is taken by default"
    );
    assert_eq!(
        rule(&|shop, _, _| shop.policy.classes[0].registrar = Address::ZERO),
        "class-not-accepted"
    );
    assert_eq!(
        rule(&|shop, _, _| shop.policy.classes[0].asset = Address::repeat_byte(1)),
        "class-not-accepted"
    );
    assert_eq!(
        rule(&|shop, _, _| shop.policy.classes[0].min_fragment = Amount(251)),
        "fragment-too-small"
    );
    assert_eq!(
        rule(&|shop, _, _| shop.policy.classes[0].accept_limit = Amount(249)),
        "above-accept-limit"
    );
    assert_eq!(rule(&|shop, _, _| shop.lists.clear()), "no-revocation-list");
    assert_eq!(
        rule(&|shop, _, _| shop.lists = vec![list_of(earlier(7 * 86_400 + 1), &[], &[])]),
        "list-too-old"
    );
    assert_eq!(
        rule(&|shop, _, _| shop.lists = vec![list_of(later(121), &[], &[])]),
        "list-from-future"
    );
    assert_eq!(
        rule(&|_, invoice, _| invoice.invoice.nonce.0[0] ^= 1),
        "wrong-invoice"
    );
    assert_eq!(rule(&|_, _, path| path.hops.clear()), "no-transfer");
    assert_eq!(
        rule(&|_, _, path| path.hops[1].transfer.payee = WalletId(B256::ZERO)),
        "not-payee"
    );
    assert_eq!(
        rule(&|_, _, path| path.hops[1].transfer.amount = Amount(1)),
        "wrong-amount"
    );
    assert_eq!(
        rule(&|_, _, path| path.deposit.coin.asset = Address::repeat_byte(1)),
        "wrong-asset"
    );
}

#[test]
fn dev_classes_are_refused_by_default() {
    let class = ClassId::dev(3);
    let mut a = Device::new("a", class, None).funded(1_000);
    let mut b = Device::signature("b");
    let invoice = b.invoice(600, NOW);
    let path = a.pay(&invoice, NOW);
    let mut shop = Shop::new();
    shop.policy.classes[0].class = class;
    assert_eq!(shop.judge(&invoice, &path).unwrap_err().rule(), "dev-class");
    shop.policy.allow_dev = true;
    assert!(shop.judge(&invoice, &path).is_ok());
}

#[test]
fn revocation_counts_from_its_time_and_for_a_grace() {
    let (invoice, path) = three(Device::signature);
    let [a, b] = [path.wallets[0].wallet(), path.wallets[1].wallet()];
    let verdict = |wallets: &[(WalletId, Timestamp)], classes: &[(ClassId, Timestamp)]| {
        let mut shop = Shop::new();
        shop.lists = vec![list_of(later(60), wallets, classes)];
        shop.judge(&invoice, &path).err().map(|error| error.rule())
    };
    assert_eq!(verdict(&[], &[]), None);
    // An earlier payer, revoked after it paid: good. Before: not.
    assert_eq!(verdict(&[(a, later(0))], &[]), None);
    assert_eq!(verdict(&[(a, earlier(60))], &[]), Some("revoked"));
    // The payer itself: never, whatever time its transfer says.
    assert_eq!(verdict(&[(b, later(60))], &[]), Some("revoked"));
    assert_eq!(verdict(&[], &[(SIGNATURE_CLASS, later(0))]), Some("revoked"));
    assert_eq!(verdict(&[], &[(LOG_CLASS, earlier(9_999))]), None);
    // Revoked after it paid, but long ago.
    let mut shop = Shop::at(later(6 * 86_400));
    shop.lists = vec![list_of(shop.now, &[(a, NOW)], &[])];
    assert!(shop.judge(&invoice, &path).is_ok());
    shop.now.0 += 1;
    assert_eq!(shop.judge(&invoice, &path).unwrap_err().rule(), "grace-too-short");
}

#[test]
fn mitm_substituted_payee_rejected() {
    let mut a = Device::signature("a").funded(1_000);
    let mut b = Device::signature("b");
    let mut mallory = Device::signature("mallory");
    let invoice = b.invoice(600, NOW);
    // Mallory's key under B's invoice, B's under Mallory's, and B's invoice with one field changed.
    let mut swapped = invoice.clone();
    swapped.key = *mallory.key.public_key();
    let mut own = mallory.sign_invoice(invoice.invoice, invoice.terms.clone());
    own.key = invoice.key;
    let mut more = invoice.clone();
    more.invoice.amount = Amount(900);
    let mut other = invoice.clone();
    other.invoice.payee = mallory.id();
    let mut asset = invoice.clone();
    asset.invoice.asset = Address::repeat_byte(1);
    for forged in [swapped, own, more, other] {
        let stopped = micropay_protocol::offline::Payer::new(a.wallet.clone())
            .reserve(&domain(), &forged, &Default::default(), NOW)
            .unwrap_err();
        assert_eq!(stopped.error.rule(), "invoice-signature");
        assert_eq!(*stopped.payer.wallet(), a.wallet);
    }
    assert!(!asset.verify(&domain()));
    // What A pays to Mallory's own invoice, B does not take; nor another contract or chain.
    let theirs = mallory.invoice(600, NOW);
    let path = a.pay(&theirs, NOW);
    assert_eq!(
        Shop::new().judge(&invoice, &path).unwrap_err().rule(),
        "wrong-invoice"
    );
    for elsewhere in [
        micropay_protocol::offline::Domain::new(1, Address::repeat_byte(0xcc)),
        micropay_protocol::offline::Domain::new(31337, Address::repeat_byte(0xcd)),
    ] {
        assert!(path.prove(&elsewhere).is_err());
        assert!(!theirs.verify(&elsewhere));
    }
    // Both sides would have seen another code.
    let code = |invoice: &SignedInvoice, path: &Path| {
        micropay_protocol::offline::ConfirmationCode::new(
            domain().invoice_digest(&invoice.invoice),
            domain().transfer_digest(&path.hops[0].transfer),
        )
        .to_string()
    };
    assert_eq!(code(&theirs, &path), code(&theirs, &path.clone()));
    assert_ne!(code(&invoice, &path), code(&theirs, &path));
    assert_eq!(code(&theirs, &path).len(), 7);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a coin is split, and by whom: what all wallets hold sums up to it.
    #[test]
    fn conservation_tree(
        steps in proptest::collection::vec((0..4_usize, 0..4_usize, 1..400_u128), 1..20),
        logged in any::<bool>(),
    ) {
        let kind = if logged { Device::log } else { Device::signature };
        let mut devices: Vec<Device> = ["a", "bb", "ccc", "dddd"].map(kind).into();
        devices[0] = devices[0].clone().funded(1_000);
        let mut hops = 0;
        for (from, to, amount) in steps {
            let largest = devices[from].wallet.holdings.iter().map(|holding| holding.fragment(&domain()))
                .filter(|fragment| fragment.depth.0 < MAX_HOPS).map(|fragment| fragment.value.0).max();
            if from == to || largest.is_none_or(|largest| largest < amount) {
                continue;
            }
            let mut payer = devices[from].clone();
            hand_over(&mut payer, &mut devices[to], amount);
            devices[from] = payer;
            hops += 1;
            let held: u128 = devices.iter()
                .map(|device| device.wallet.balance(&domain(), Address::ZERO).0).sum();
            prop_assert_eq!(held, 1_000, "after {} hops", hops);
        }
    }

    /// A broken class of wallets takes at most the accept limit from a payee, however many coins it spends how often.
    #[test]
    fn per_payee_loss_bound(
        payments in proptest::collection::vec((0..3_usize, 1..300_u128), 1..30),
        limit in 1..1_000_u128,
    ) {
        let honest_coin = 1_000;
        let thieves: Vec<Device> = ["a", "bb", "ccc"].map(|name| Device::signature(name).funded(honest_coin)).into();
        let mut payee = Device::signature("payee");
        let mut shop = Shop::new();
        shop.policy.classes[0].accept_limit = Amount(limit);
        let mut taken = 0;
        for (thief, amount) in payments {
            // Each time from the same coin, set back: none of it may ever be redeemed.
            let mut clone = thieves[thief].clone();
            let invoice = payee.invoice(amount, NOW);
            let path = clone.pay(&invoice, NOW);
            if let Ok(judged) = shop.judge(&invoice, &path) {
                shop.exposure.add(&judged);
                taken += amount;
            }
            prop_assert!(taken <= limit, "{} of {}", taken, limit);
            prop_assert_eq!(shop.exposure.of(registrar().address(), SIGNATURE_CLASS, Address::ZERO), Amount(taken));
        }
    }
}

#[test]
fn a_signature_of_something_else_is_none() {
    let (invoice, mut path) = three(Device::signature);
    path.hops[1].evidence =
        Evidence::Signature(WalletSignature::from_bytes(&invoice.signature.to_bytes()).unwrap());
    assert_eq!(
        Shop::new().judge(&invoice, &path).unwrap_err().rule(),
        "bad-signature"
    );
    assert_eq!(
        Seconds(30).times(2).plus(Seconds(120)),
        Shop::new().policy.timeout()
    );
}
