//! One form for each message: round trips, cut-off and changed bytes, and how long a payment is.

use alloy_primitives::Address;
use micropay_protocol::offline::{
    Amount, AnyPayer, ClassId, DecodeError, InvoiceTerms, Path, Payee, Payer, SignedAcceptance,
    SignedDeposit, SignedInvoice, SignedLogCheckpoint, SignedRegistration, SignedRevocationList, Waiting,
};
use proptest::prelude::*;

use crate::world::{Device, NOW, Shop, domain, hand_over, list, registrar};

/// Payments at depths 1 to `depth`, each of a fragment with change.
fn chain(kind: fn(&str) -> Device, depth: usize, amount: u128) -> Vec<Path> {
    let mut payer = kind("w").funded(amount);
    (1..=depth)
        .map(|at| {
            let mut payee = kind(&"w".repeat(at + 1));
            let value = payer.wallet.holdings[0].fragment(&domain()).value.0;
            let (_, path) = hand_over(&mut payer, &mut payee, value - 1);
            payer = payee;
            path
        })
        .collect()
}

#[test]
fn bytes_by_depth() {
    for (name, kind, limit) in [
        ("SIGNATURE", Device::signature as fn(&str) -> Device, 500),
        ("LOG", Device::log, 800),
    ] {
        // 18 decimals: some hundred units.
        let amount = 900_000_000_000_000_000_000;
        let mut wide = Shop::new();
        wide.policy
            .classes
            .iter_mut()
            .for_each(|class| class.accept_limit = Amount::MAX);
        let paths = chain_with(kind, 16, amount, &wide);
        let bytes: Vec<usize> = paths.iter().map(|path| path.encode(&domain()).len()).collect();
        println!("{name}: {bytes:?} bytes at depths 1 to 16");
        assert!(bytes[0] <= limit, "{name}: {} bytes at depth 1", bytes[0]);
        for path in &paths {
            assert_eq!(&Path::decode(&domain(), &path.encode(&domain())).unwrap(), path);
        }
    }
    let mut a = Device::log("a").funded(1_000);
    let mut b = Device::log("bb");
    let lengths: Vec<usize> = (0..4)
        .map(|_| hand_over(&mut a, &mut b, 10).1.encode(&domain()).len())
        .collect();
    println!("LOG, change spent again: {lengths:?} bytes");
    a.wallet
        .take_checkpoint(&domain(), registrar().address(), a.checkpoint())
        .unwrap();
    let (_, path) = hand_over(&mut a, &mut b, 10);
    println!(
        "LOG, after a checkpoint of 4: {} bytes",
        path.encode(&domain()).len()
    );
    assert_eq!(Path::decode(&domain(), &path.encode(&domain())).unwrap(), path);
}

/// How long a payment takes both sides, signatures and encoding included (in a debug build, with optimised curves).
#[test]
fn compute_of_a_payment() {
    for (name, kind) in [
        ("SIGNATURE", Device::signature as fn(&str) -> Device),
        ("LOG", Device::log),
    ] {
        let a = kind("a").funded(1_000);
        let mut b = kind("bb");
        let invoice = b.invoice(300, NOW);
        let mut times: Vec<_> = (0..20)
            .map(|_| {
                let start = std::time::Instant::now();
                let bytes = a.clone().pay(&invoice, NOW).encode(&domain());
                let path = Path::decode(&domain(), &bytes).unwrap();
                let credited = b.clone().receive(&invoice, &path, &Shop::new()).unwrap();
                b.accept(&credited);
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{name}: {:?} in the middle of 20 payments at depth 1", times[10]);
    }
}

fn chain_with(kind: fn(&str) -> Device, depth: usize, amount: u128, shop: &Shop) -> Vec<Path> {
    let mut payer = kind("w").funded(amount);
    (1..=depth)
        .map(|at| {
            let mut payee = kind(&"w".repeat(at + 1));
            let value = payer.wallet.holdings[0].fragment(&domain()).value.0;
            let invoice = payee.invoice(value - 1, NOW);
            let path = payer.pay(&invoice, NOW);
            payee.receive(&invoice, &path, shop).unwrap();
            payer = payee;
            path
        })
        .collect()
}

/// Paths of every shape: to and fro between three wallets, change and exits among them.
fn shapes(kind: fn(&str) -> Device) -> Vec<Path> {
    let mut devices = [kind("a").funded(100_000), kind("bb"), kind("ccc")];
    let mut paths = vec![devices[0].wallet.holdings[0].path.clone()];
    for (from, to, amount) in [
        (0, 1, 50_000),
        (1, 0, 40_000),
        (0, 2, 30_000),
        (2, 0, 5_000),
        (0, 1, 49_000),
        (1, 2, 7),
    ] {
        let mut payer = devices[from].clone();
        paths.push(hand_over(&mut payer, &mut devices[to], amount).1);
        devices[from] = payer;
    }
    for device in &mut devices {
        let ids: Vec<_> = device
            .wallet
            .holdings
            .iter()
            .map(|holding| holding.fragment(&domain()).id)
            .collect();
        for id in ids {
            paths.push(device.exit(id, NOW));
        }
    }
    paths
}

#[test]
fn every_shape_of_path_comes_back() {
    for kind in [Device::signature as fn(&str) -> Device, Device::log] {
        for path in shapes(kind) {
            let bytes = path.encode(&domain());
            let read = Path::decode(&domain(), &bytes).unwrap();
            assert_eq!(read, path);
            assert!(read.prove(&domain()).is_ok());
        }
    }
}

#[test]
fn a_hop_of_nobody_does_not_decode() {
    let mut path = chain(Device::signature, 1, 1_000).remove(0);
    path.hops[0].payer = 7;
    assert!(Path::decode(&domain(), &path.encode(&domain())).is_err());
}

#[test]
fn every_message_has_one_form() {
    let mut a = Device::log("a").funded(1_000);
    let mut b = Device::signature("b");
    let invoice = b.invoice(u128::from(u64::MAX) + 1, NOW);
    let small = b.invoice(300, NOW);
    let path = a.pay(&small, NOW);
    let credited = b.receive(&small, &path, &Shop::new()).unwrap();
    let domain = &domain();
    strict(&invoice.encode(domain), |bytes| {
        SignedInvoice::decode(domain, bytes).map(|x| x.encode(domain))
    });
    strict(&path.encode(domain), |bytes| {
        Path::decode(domain, bytes).map(|x| x.encode(domain))
    });
    strict(&b.accept(&credited).encode(domain), |bytes| {
        SignedAcceptance::decode(domain, bytes).map(|x| x.encode(domain))
    });
    strict(&a.wallet.registration.encode(domain), |bytes| {
        SignedRegistration::decode(domain, bytes).map(|x| x.encode(domain))
    });
    strict(&path.deposit.encode(domain), |bytes| {
        SignedDeposit::decode(domain, bytes).map(|x| x.encode(domain))
    });
    strict(&a.checkpoint().encode(domain), |bytes| {
        SignedLogCheckpoint::decode(domain, bytes).map(|x| x.encode(domain))
    });
    let list = list(&[(a.id(), NOW)], &[]);
    strict(&list.signed().encode(domain), |bytes| {
        SignedRevocationList::decode(domain, bytes).map(|x| x.encode(domain))
    });
    strict(
        &AnyPayer::from(Payer::new(a.wallet.clone())).encode(domain),
        |bytes| AnyPayer::decode(domain, bytes).map(|x| x.encode(domain)),
    );
    assert_eq!(
        SignedInvoice::decode(domain, &invoice.encode(domain)).unwrap(),
        invoice
    );
    // One message is no other.
    assert!(matches!(
        SignedInvoice::decode(domain, &path.encode(domain)),
        Err(DecodeError::TooLong { .. } | DecodeError::WrongMessage { .. })
    ));
    assert!(matches!(
        Path::decode(domain, &invoice.encode(domain)),
        Err(DecodeError::WrongMessage { got: 1, needed: 2 })
    ));
}

/// Cut off or longer, it is nothing; changed in any byte, it is nothing or another one, but never a second form.
fn strict(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<Vec<u8>, DecodeError>) {
    assert_eq!(decode(bytes).unwrap(), bytes);
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "cut off at {length}");
    }
    let longer = [bytes, &[0]].concat();
    assert!(matches!(
        decode(&longer),
        Err(DecodeError::TrailingBytes { .. } | DecodeError::TooLong { .. })
    ));
    for at in 0..bytes.len() {
        for change in [1, 0x20, 0x80, 0xff] {
            let mut changed = bytes.to_vec();
            changed[at] ^= change;
            if let Ok(again) = decode(&changed) {
                assert_eq!(again, changed, "a second form at {at}");
            }
        }
    }
}

#[test]
fn numbers_and_maps_are_in_their_shortest_form() {
    let invoice = Device::signature("b").invoice(300, NOW);
    let bytes = invoice.encode(&domain());
    // The message's number in two bytes: 0x18 0x01.
    let mut longer = bytes.clone();
    longer.splice(2..3, [0x18, 1]);
    assert!(SignedInvoice::decode(&domain(), &longer).is_err());
    // The map without a length, ended by a break.
    let mut endless = bytes.clone();
    endless[0] = 0xbf;
    endless.push(0xff);
    assert!(SignedInvoice::decode(&domain(), &endless).is_err());
    // A key twice, and an announced length that is not there.
    let mut twice = bytes.clone();
    twice[0] += 1;
    twice.splice(1..1, [0, 1]);
    assert!(SignedInvoice::decode(&domain(), &twice).is_err());
    let huge = [
        &bytes[..4],
        &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    assert!(SignedInvoice::decode(&domain(), &huge).is_err());
    for amount in [0, 23, 24, u64::MAX.into(), u128::from(u64::MAX) + 1, u128::MAX] {
        let mut sized = invoice.clone();
        sized.invoice.amount = Amount(amount);
        sized.invoice.asset = Address::repeat_byte(3);
        let bytes = sized.encode(&domain());
        assert_eq!(SignedInvoice::decode(&domain(), &bytes).unwrap(), sized);
    }
}

#[test]
fn an_invoice_has_room_for_eight_classes() {
    let mut invoice = Device::signature("b").invoice(300, NOW);
    for count in 0..=InvoiceTerms::MOST_CLASSES + 1 {
        invoice.terms.classes = (0..count)
            .map(|class| (Address::repeat_byte(7), ClassId(u32::MAX - class as u32)))
            .collect();
        invoice.invoice.nonce = invoice.terms.nonce();
        let read = SignedInvoice::decode(&domain(), &invoice.encode(&domain()));
        if count <= InvoiceTerms::MOST_CLASSES {
            assert_eq!(read.unwrap(), invoice);
        } else {
            assert!(matches!(
                read.unwrap_err(),
                DecodeError::TooMany { got: 9, limit: 8, .. }
            ));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is done to a payment's bytes: it is not taken, or it is the same payment.
    #[test]
    fn mutated_payments_are_not_taken(
        logged in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let kind = if logged { Device::log } else { Device::signature };
        let mut a = kind("a").funded(1_000);
        let mut b = kind("bb");
        let mut c = kind("ccc");
        hand_over(&mut a, &mut b, 600);
        let invoice = c.invoice(300, NOW);
        let path = b.pay(&invoice, NOW);
        let bytes = path.encode(&domain());
        let mut changed = bytes.clone();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        if let Some(cut) = cut {
            changed.truncate(cut.index(bytes.len()));
        }
        if let Ok(read) = Path::decode(&domain(), &changed) {
            prop_assert_eq!(&read.encode(&domain()), &changed);
            let waiting = Payee::<Waiting>::new(invoice.invoice);
            if waiting.receive(&domain(), &read, &Shop::new().view()).is_ok() {
                // The TPM's clock and firmware are the only bytes that nobody compares; they are signed.
                prop_assert_eq!(changed, bytes);
            }
        }
    }

    #[test]
    fn noise_is_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Path::decode(&domain(), &bytes).is_err());
        prop_assert!(SignedInvoice::decode(&domain(), &bytes).is_err());
        prop_assert!(AnyPayer::decode(&domain(), &bytes).is_err());
    }
}

#[test]
fn a_payment_without_a_receipt_is_none() {
    let path = chain(Device::signature, 1, 1_000).remove(0);
    let bytes = path.encode(&domain());
    // The deposit's last field, its signature, taken out: key 5 and 67 bytes; and one entry less.
    let signature = path.deposit.signature.to_bytes();
    let at = bytes.windows(65).position(|window| window == signature).unwrap();
    let mut without = bytes.clone();
    without.drain(at - 3..at + 65);
    // After the message's number, and its own key.
    without[4] -= 1;
    assert!(matches!(
        Path::decode(&domain(), &without),
        Err(DecodeError::MissingKey { needed: 5, .. })
    ));
}
