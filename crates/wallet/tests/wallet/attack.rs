//! What an owner with full control of the machine around the component can try.

use std::fs;

use alloy_primitives::Address;
use protocol::offline::{
    Amount, Evidence, Hop, Input, LogEntry, LogProof, Output, Path, PathError, PayError, Payer, PayerPolicy,
    Refusal, Transfer, WalletSignature,
};
use protocol::offline::{Attest, Base, LogError};
use storage::{MemoryStore, SqliteStore};
use trusted::{Entry, Head, LogsTransfers as _, MessageDigest, TrustedWallet as _};
use wallet::{DeviceError, Resumed};

use crate::faults::Burn;
use crate::world::{
    DEV_CLASS, ETHER, Home, Kind, START, Wallet, config, domain, hand_over, held, list, registrar, sent,
    sent_path, set_clock,
};

fn keep_a_copy(file: &std::path::Path) {
    fs::copy(file, file.with_extension("old")).unwrap();
}

/// Copy the store, pay, put the copy back, pay again: refused, every time, and the newest files go on.
async fn rollback(kind: Kind) {
    const RUNS: u32 = 100;
    let Some(mut payer_home) = Home::<SqliteStore>::on_disk(kind).await else {
        return;
    };
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payee = payee_home.start().await;
    let mut refused = 0;
    for run in 0..RUNS {
        let mut payer = payer_home.start().await;
        // Two coins, so that an older copy has something to pay with whatever it knows.
        payer.import(&payer_home.coin(10)).await.unwrap();
        payer.import(&payer_home.coin(10)).await.unwrap();
        drop(payer);
        payer_home.reopen(keep_a_copy).await;
        let mut payer = payer_home.start().await;
        hand_over(&mut payer, &mut payee, 10).await;
        drop(payer);
        payer_home
            .reopen(|file| {
                fs::rename(file, file.with_extension("new")).unwrap();
                fs::rename(file.with_extension("old"), file).unwrap();
            })
            .await;
        let mut payer = payer_home.start().await;
        let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
        // It may be read, and holds more than there is.
        assert_eq!(held(&mut payer).await, u128::from(10 * (run + 2)));
        match (payer.pay(&invoice).await.unwrap_err(), kind) {
            (DeviceError::SequenceSetBack { component, books }, Kind::Software) => {
                assert_eq!(component.0, books.0 + 1);
            }
            (DeviceError::LogSetBack { component, books }, Kind::Tpm) => assert_ne!(component, books),
            (error, _) => panic!("{error}"),
        }
        let coin = payer.wallet().await.unwrap().holdings[0].fragment(&domain()).id;
        payer.exit(coin).await.unwrap_err();
        payer.invoice(ETHER, Amount(1)).await.unwrap_err();
        assert_eq!(payer.resume().await.unwrap(), Resumed::Idle, "nothing was chosen");
        refused += 1;
        drop(payer);
        payer_home
            .reopen(|file| fs::rename(file.with_extension("new"), file).unwrap())
            .await;
    }
    assert_eq!(refused, RUNS);
    println!("rollback refused {refused} of {RUNS} times, {kind:?}");
    payer_home.fuse.assert_nothing_twice();
    let mut payer = payer_home.start().await;
    hand_over(&mut payer, &mut payee, 10).await;
}

#[tokio::test]
async fn attack_rollback_snapshot() {
    rollback(Kind::Software).await;
}

#[tokio::test]
async fn attack_rollback_snapshot_on_a_software_tpm() {
    rollback(Kind::Tpm).await;
}

/// A copy from the middle of a payment, put back when two more were made: the chosen transfer is not made again.
#[tokio::test]
async fn attack_rollback_to_a_chosen_payment() {
    let mut home = Home::<SqliteStore>::on_disk(Kind::Software).await.unwrap();
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payee = payee_home.start().await;
    let mut payer = home.start().await;
    payer.import(&home.coin(10)).await.unwrap();
    payer.import(&home.coin(20)).await.unwrap();
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    // Reserved, chosen, and dead at the component.
    home.fuse.set(2, Burn::Before);
    payer.pay(&invoice).await.unwrap_err();
    drop(payer);
    home.reopen(keep_a_copy).await;
    let mut payer = home.start().await;
    assert!(matches!(payer.resume().await.unwrap(), Resumed::Released(_)));
    hand_over(&mut payer, &mut payee, 20).await;
    drop(payer);
    home.reopen(|file| fs::rename(file.with_extension("old"), file).unwrap())
        .await;
    let mut payer = home.start().await;
    let error = payer.resume().await.unwrap_err();
    assert!(matches!(error, DeviceError::SequenceSetBack { .. }), "{error}");
    home.fuse.assert_nothing_twice();
}

/// The log is extended, and the power goes, in the TPM, too: the same transfer comes of it.
#[tokio::test]
async fn power_cut_between_log_and_certificate() {
    let Some(mut home) = Home::<SqliteStore>::on_disk(Kind::Tpm).await else {
        return;
    };
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payee = payee_home.start().await;
    let mut payer = home.start().await;
    payer.import(&home.coin(10)).await.unwrap();
    let invoice = payee.invoice(ETHER, Amount(7)).await.unwrap();
    // Reserved, chosen, extended.
    home.fuse.set(2, Burn::After);
    payer.pay(&invoice).await.unwrap_err();
    drop(payer);
    let logged = home.fuse.logged();
    assert_eq!(logged.len(), 1, "extended");
    home.emulator.as_mut().unwrap().power_cut().unwrap();
    home.reopen(|_| {}).await;
    let mut payer = home.start().await;
    // Later by its clock: the transfer is nevertheless the one that was chosen.
    set_clock(60);
    let error = payer.abort().await.unwrap_err();
    assert!(
        matches!(error, DeviceError::NothingReserved { state: "chosen" }),
        "{error}"
    );
    let Resumed::Released(payment) = payer.resume().await.unwrap() else {
        panic!("it was chosen");
    };
    assert_eq!(logged[0].transfer().0, payment.transfer.0.0);
    assert_eq!(payment.path.hops[0].transfer.issued_at, START);
    assert_eq!(home.fuse.logged().len(), 1, "not extended again");
    let acceptance = payee.receive(&sent_path(&payment.path)).await.unwrap();
    payer.accepted(&acceptance).await.unwrap();
    // And again at the certificate, with the log extended in an earlier life.
    let invoice = payee.invoice(ETHER, Amount(3)).await.unwrap();
    home.fuse.set(3, Burn::Before);
    payer.pay(&invoice).await.unwrap_err();
    drop(payer);
    home.emulator.as_mut().unwrap().power_cut().unwrap();
    let mut payer = home.start().await;
    let payment = payer.pay(&invoice).await.unwrap();
    payee.receive(&payment.path).await.unwrap();
    assert_eq!(home.fuse.logged().len(), 2);
}

/// The transfer that a cheat would make of a holding, past the device.
fn transfer(books: &protocol::offline::Wallet, invoice: &protocol::offline::SignedInvoice) -> Transfer {
    Payer::new(books.clone())
        .reserve(&domain(), invoice, &PayerPolicy::default(), START)
        .unwrap()
        .commit(&domain(), START)
        .unwrap()
        .state()
        .transfer
}

fn spend(books: &protocol::offline::Wallet, transfer: Transfer, evidence: Evidence) -> Path {
    let mut path = books.holdings[0].path.clone();
    path.hops.push(Hop {
        payer: 0,
        transfer,
        evidence,
    });
    path
}

#[track_caller]
fn refusal(error: &DeviceError) -> &PathError {
    match error {
        DeviceError::Refused(refusal) => match refusal.as_ref() {
            Refusal::Path(error) => error,
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

/// A LOG wallet's bare signature is worth nothing, whatever the key signed.
#[tokio::test]
async fn attack_transfer_signed_but_not_logged() {
    let Some(home) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payee = payee_home.start().await;
    let mut payer = home.start().await;
    payer.import(&home.coin(10)).await.unwrap();
    let invoice = payee.invoice(ETHER, Amount(7)).await.unwrap();
    let books = payer.wallet().await.unwrap();
    let transfer = transfer(&books, &invoice);
    let digest = domain().transfer_digest(&transfer);
    let signed = payer.component().sign(MessageDigest(digest.0.0)).unwrap();
    let signature = WalletSignature::from_bytes(&signed.0).unwrap();
    let path = spend(&books, transfer, Evidence::Signature(signature));
    let error = payee.receive(&path).await.unwrap_err();
    assert!(
        matches!(refusal(&error), PathError::WrongEvidence { hop: 0, .. }),
        "{error}"
    );
    assert_eq!(held(&mut payee).await, 0);
    // The wallet itself has not spent: the right payment is taken.
    let payment = payer.pay(&invoice).await.unwrap();
    payee.receive(&payment.path).await.unwrap();
}

/// A TPM logs an input twice if it is told to; the payee sees both, and refuses the second.
#[tokio::test]
async fn attack_input_spent_twice_in_one_log() {
    let Some(home) = Home::<MemoryStore>::in_memory(Kind::Tpm).await else {
        return;
    };
    let payee_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut payee = payee_home.start().await;
    let mut payer = home.start().await;
    payer.import(&home.coin(10)).await.unwrap();
    let books = payer.wallet().await.unwrap();
    hand_over(&mut payer, &mut payee, 10).await;
    let invoice = payee.invoice(ETHER, Amount(10)).await.unwrap();
    let after = payer.wallet().await.unwrap();
    let history: Vec<LogEntry> = after.log.as_ref().unwrap().entries.clone();
    let second = Transfer {
        sequence: after.sequence.plus(1).unwrap(),
        previous: after.previous,
        ..transfer(&books, &invoice)
    };
    let digest = domain().transfer_digest(&second);
    let chip = payer.component();
    let base = chip.head().unwrap();
    let entry = Entry(second.entry(digest).to_bytes());
    let head: Head = chip.extend(base, entry).unwrap();
    let certified = chip.certify(head, trusted::TransferDigest(digest.0.0)).unwrap();
    let signature = WalletSignature::from_bytes(&certified.signature.0).unwrap();
    let proof = LogProof {
        base: Base::Registration,
        history: history.clone(),
        certificate: Attest::parse(&certified.attest).unwrap().certificate(signature),
    };
    let honest = spend(&books, second, Evidence::Log(Box::new(proof.clone())));
    let error = payee.receive(&honest).await.unwrap_err();
    let PathError::Log { error: log, .. } = refusal(&error) else {
        panic!("{error}");
    };
    assert!(matches!(log, LogError::InputSpentEarlier { .. }), "{error}");
    // Without the first entry the head is not the certified one.
    let hidden = LogProof {
        history: Vec::new(),
        ..proof
    };
    let error = payee
        .receive(&spend(&books, second, Evidence::Log(Box::new(hidden))))
        .await
        .unwrap_err();
    assert!(matches!(refusal(&error), PathError::Log { .. }), "{error}");
    assert_eq!(held(&mut payee).await, 10);
    // Such a wallet has an entry that its books do not know: it pays no more.
    let error = payer.check().await.unwrap_err();
    assert!(matches!(error, DeviceError::LogSetBack { .. }), "{error}");
}

/// A payment to somebody else, a second payment of one invoice, and a copy of a paid invoice.
#[tokio::test]
async fn attack_replayed_messages() {
    let a_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let c_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let b_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut a, mut b, mut c) = (a_home.start().await, b_home.start().await, c_home.start().await);
    for home in [&a_home, &c_home] {
        let device = if std::ptr::eq(home, &a_home) {
            &mut a
        } else {
            &mut c
        };
        assert!(device.import(&home.coin(10)).await.unwrap());
    }
    assert!(
        !a.import(&crate::world::deposit(a_home.id(), 10, 0))
            .await
            .unwrap(),
        "once"
    );
    let error = a.import(&c_home.coin(10)).await.unwrap_err();
    assert!(matches!(error, DeviceError::Pay(_)), "{error}");
    let invoice = sent(&b.invoice(ETHER, Amount(7)).await.unwrap());
    let payment = a.pay(&invoice).await.unwrap();
    // To another payee.
    let error = c.receive(&payment.path).await.unwrap_err();
    assert!(matches!(error, DeviceError::UnknownInvoice(_)), "{error}");
    // Another wallet paid the same invoice: the first counts, the second may go back.
    let other = c.pay(&invoice).await.unwrap();
    b.receive(&payment.path).await.unwrap();
    let error = b.receive(&other.path).await.unwrap_err();
    let DeviceError::Refused(refused) = &error else {
        panic!("{error}")
    };
    assert!(matches!(**refused, Refusal::AlreadyPaid { .. }), "{error}");
    assert_eq!(held(&mut b).await, 7);
    // The coin comes again after it was spent.
    assert!(
        !a.import(&crate::world::deposit(a_home.id(), 10, 0))
            .await
            .unwrap()
    );
    assert_eq!(held(&mut a).await, 3);
    // An acceptance by somebody else.
    let forged = {
        let mut acceptance = b.receive(&payment.path).await.unwrap();
        acceptance.acceptance.transfer = other.transfer;
        acceptance
    };
    let error = c.accepted(&forged).await.unwrap_err();
    let DeviceError::Pay(pay) = &error else {
        panic!("{error}")
    };
    assert!(matches!(**pay, PayError::NotSignedByPayee { .. }), "{error}");
}

/// A revoked payer is refused as soon as the list is here; an older list does not take its place.
#[tokio::test]
async fn attack_older_revocation_list() {
    let a_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let b_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut a, mut b) = (a_home.start().await, b_home.start().await);
    a.import(&a_home.coin(10)).await.unwrap();
    set_clock(100);
    let newer = list(
        START.plus(protocol::offline::Seconds(60)),
        &[(a_home.id(), START)],
    );
    assert!(b.take_revocations(newer).await.unwrap());
    assert!(!b.take_revocations(list(START, &[])).await.unwrap());
    let invoice = b.invoice(ETHER, Amount(7)).await.unwrap();
    let payment = a.pay(&invoice).await.unwrap();
    for _ in 0..2 {
        let error = b.receive(&payment.path).await.unwrap_err();
        let DeviceError::Refused(refused) = &error else {
            panic!("{error}")
        };
        assert!(matches!(**refused, Refusal::Revoked { .. }), "{error}");
        drop(b);
        b = b_home.start().await;
    }
}

/// A payee's loss by one class is bounded by what it holds unsettled of it: spent or settled, there is room again.
#[tokio::test]
async fn per_payee_loss_bound() {
    let a_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let b_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let mut a = a_home.start().await;
    let mut strict = config();
    for class in &mut strict.payee.classes {
        class.accept_limit = Amount(10);
    }
    let mut b: Wallet<MemoryStore> = b_home.start_with(strict.clone()).await;
    for _ in 0..4 {
        a.import(&a_home.coin(6)).await.unwrap();
    }
    // Asked while there was room.
    let invoice = b.invoice(Address::ZERO, Amount(6)).await.unwrap();
    hand_over(&mut a, &mut b, 6).await;
    let payment = a.pay(&invoice).await.unwrap();
    let above = |error: &DeviceError| match error {
        DeviceError::Refused(refused) => matches!(
            **refused,
            Refusal::AboveAcceptLimit {
                got: Amount(6),
                held: Amount(6),
                limit: Amount(10)
            }
        ),
        _ => false,
    };
    let error = b.receive(&payment.path).await.unwrap_err();
    assert!(above(&error), "{error}");
    // A new invoice does not let the class pay any more; for less it does.
    let (six, four) = (Amount(6), Amount(4));
    for (amount, takes) in [(six, false), (four, true)] {
        let terms = b.invoice(Address::ZERO, amount).await.unwrap().terms;
        assert_eq!(terms.takes(registrar().address(), DEV_CLASS), takes);
    }
    // An exit is not money yet.
    let input: Input = b.wallet().await.unwrap().holdings[0].fragment(&domain()).id;
    let exit = b.exit(input).await.unwrap();
    drop(b);
    let mut b = b_home.start_with(strict).await;
    let error = b.receive(&payment.path).await.unwrap_err();
    assert!(above(&error), "{error}");
    b.settled(exit.transfer).await.unwrap();
    b.receive(&payment.path).await.unwrap();
    assert_eq!(held(&mut b).await, 6);
    assert_eq!(payment.path.fragment(&domain(), Output::Payee).value, Amount(6));
}

/// A payer that reserves and aborts for ever keeps nothing of the payee's from others: an invoice waits for whoever pays it,
/// and costs the payee a line in its store, which it wrote because it asked.
#[tokio::test]
async fn attack_reserve_and_abort_for_ever() {
    let a_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let b_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let c_home = Home::<MemoryStore>::in_memory(Kind::Software).await.unwrap();
    let (mut a, mut b, mut c) = (a_home.start().await, b_home.start().await, c_home.start().await);
    for (wallet, home) in [(&mut a, &a_home), (&mut c, &c_home)] {
        wallet.import(&home.coin(1_000_000)).await.unwrap();
    }
    let (books_of_a, books_of_b) = (a.wallet().await.unwrap(), b.wallet().await.unwrap());
    // All that the payee's limit leaves room for, each time.
    let all = Amount(1_000_000);
    let mut invoices = Vec::new();
    for _ in 0..100 {
        let invoice = sent(&b.invoice(ETHER, all).await.unwrap());
        a.reserve(&invoice).await.unwrap();
        a.abort().await.unwrap();
        invoices.push(invoice);
    }
    assert_eq!(a.wallet().await.unwrap(), books_of_a);
    assert_eq!(b.wallet().await.unwrap(), books_of_b);
    let payment = c.pay(&invoices[0]).await.unwrap();
    b.receive(&payment.path).await.unwrap();
    assert_eq!(held(&mut b).await, all.0);
}
