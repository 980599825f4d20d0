//! A wallet's life in a TPM, against a real swtpm: registration, payments, power cuts, a clone, activation, time.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use p256::ecdsa::SigningKey;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use trusted::swtpm::Emulator;
use trusted::tpm::{EndorsementKey, IndexHandle, KeyArea, LogIndex, Passwords, certificate, make_credential};
use trusted::{
    Certified, Entry, Genesis, Head, Kind, LogsTransfers, MessageDigest, Progress, PublicKey, Tpm,
    TransferDigest, Transfers, TrustedError, TrustedWallet,
};

const GENESIS: Genesis = Genesis([0x6e; 32]);

fn registrar() -> SigningKey {
    SigningKey::from_slice(&[9; 32]).unwrap()
}

fn index() -> LogIndex {
    let registrar = registrar().verifying_key().to_sec1_point(false);
    LogIndex {
        handle: IndexHandle(0x0150_0030),
        registrar: PublicKey(registrar.as_bytes()[1..].try_into().unwrap()),
    }
}

fn create(emulator: &Emulator, folder: &TempDir) -> Tpm {
    Tpm::create(
        emulator.connect().unwrap(),
        folder.path(),
        Passwords::default(),
        index(),
    )
    .unwrap()
}

fn open(emulator: &Emulator, folder: &TempDir) -> Tpm {
    Tpm::open(emulator.connect().unwrap(), folder.path(), Passwords::default()).unwrap()
}

/// A wallet whose log has its first entry.
fn registered(emulator: &Emulator, folder: &TempDir) -> (Tpm, Head) {
    let mut wallet = create(emulator, folder);
    let authorisation = wallet
        .begin()
        .unwrap()
        .authorise(&registrar(), GENESIS, 0)
        .unwrap();
    let head = wallet.write_first(&authorisation).unwrap();
    (wallet, head)
}

fn entry(number: u8) -> Entry {
    Entry::new([number; 32], TransferDigest([number ^ 0xff; 32]))
}

/// By other means than the crate's: bytes, sha2 and p256.
#[track_caller]
fn assert_certifies(
    certified: &Certified,
    key: PublicKey,
    log: &[u8; 34],
    head: Head,
    transfer: TransferDigest,
) {
    use p256::ecdsa::signature::Verifier as _;
    let attest = &certified.attest;
    assert_eq!(attest.len(), 173);
    assert_eq!(attest[..6], [0xff, 0x54, 0x43, 0x47, 0x80, 0x14]);
    assert_eq!(attest[6..10], [0x00, 0x22, 0x00, 0x0b], "qualified signer");
    assert_eq!(attest[42..44], [0x00, 0x20]);
    assert_eq!(attest[44..76], Sha256::digest(transfer.0)[..]);
    assert_eq!(attest[101..103], [0x00, 0x22]);
    assert_eq!(attest[103..137], log[..]);
    assert_eq!(attest[137..141], [0x00, 0x00, 0x00, 0x20]);
    assert_eq!(attest[141..], head.0);

    let mut sec1 = vec![4];
    sec1.extend_from_slice(&key.0);
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&sec1).unwrap();
    let signature = p256::ecdsa::Signature::from_slice(&certified.signature.0).unwrap();
    key.verify(attest, &signature).unwrap();
    assert_eq!(signature.normalize_s(), signature, "low s");
}

#[test]
fn life_of_a_wallet() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut wallet = create(&emulator, &folder);
    assert_eq!(wallet.kind(), Kind::Log);
    let key = wallet.public_key();
    assert_eq!(
        KeyArea::parse(wallet.key_area().as_bytes()).unwrap().public_key(),
        key
    );

    // The Name is known before there is a log with that Name.
    let name = wallet.log_name();
    assert_eq!(wallet.current_name().unwrap(), index().unwritten_name());
    assert_ne!(wallet.current_name().unwrap(), name);

    let authorisation = wallet
        .begin()
        .unwrap()
        .authorise(&registrar(), GENESIS, 300)
        .unwrap();
    let mut head = wallet.write_first(&authorisation).unwrap();
    assert_eq!(
        head.0[..],
        Sha256::digest([[0; 32], Sha256::digest(GENESIS.0).into()].concat())[..]
    );
    assert_eq!(wallet.current_name().unwrap(), name);
    let genesis = wallet.certify_first(GENESIS).unwrap();
    assert_certifies(&genesis, key, &name.0, head, TransferDigest(GENESIS.0));

    // Later entries are free.
    for number in 1..=3 {
        let entry = entry(number);
        let next = wallet.extend(head, entry).unwrap();
        assert_eq!(
            next.0[..],
            Sha256::digest([head.0, Sha256::digest(entry.0).into()].concat())[..]
        );
        assert_eq!(wallet.head().unwrap(), next);
        head = next;
        let certified = wallet.certify(head, entry.transfer()).unwrap();
        assert_certifies(&certified, key, &name.0, head, entry.transfer());
        certified.verify(key, name, head, entry.transfer()).unwrap();
    }

    // A wallet that is opened again is the same one.
    drop(wallet);
    let mut wallet = open(&emulator, &folder);
    assert_eq!(
        (wallet.public_key(), wallet.log_name(), wallet.head().unwrap()),
        (key, name, head)
    );
    drop(wallet);
    let Err(TrustedError::Exists(_)) = Tpm::create(
        emulator.connect().unwrap(),
        folder.path(),
        Passwords::default(),
        index(),
    ) else {
        panic!("a second wallet in one folder");
    };
}

#[test]
fn messages_are_signed_with_es256() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut wallet = create(&emulator, &folder);
    for number in 0..32 {
        let signature = wallet.sign(MessageDigest([number; 32])).unwrap();
        // High s comes in half of a TPM's signatures; this refuses it.
        certificate::verify(wallet.public_key(), [number; 32], signature).unwrap();
        let other = certificate::verify(wallet.public_key(), [number ^ 1; 32], signature);
        assert!(matches!(other, Err(TrustedError::BadSignature { .. })));
    }
    // It does not sign what looks like its own word.
    let mut forged = [0x44; 32];
    forged[..4].copy_from_slice(&[0xff, 0x54, 0x43, 0x47]);
    let error = wallet.sign(MessageDigest(forged)).unwrap_err();
    assert!(matches!(error, TrustedError::NotSignable(_)), "{error}");
}

#[test]
fn power_cut_between_extend_and_certify() {
    let Some(mut emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (mut wallet, base) = registered(&emulator, &folder);
    let (key, name) = (wallet.public_key(), wallet.log_name());
    let entry = entry(1);

    emulator.power_cut().unwrap();
    let error = wallet.extend(base, entry).unwrap_err();
    assert!(matches!(error, TrustedError::Transport { .. }), "{error}");
    drop(wallet);
    let mut wallet = open(&emulator, &folder);
    assert_eq!(
        Progress::of(wallet.head().unwrap(), base, entry).unwrap(),
        Progress::NotExtended
    );

    let head = wallet.extend(base, entry).unwrap();
    emulator.power_cut().unwrap();
    drop(wallet);
    let mut wallet = open(&emulator, &folder);
    assert_eq!(
        Progress::of(wallet.head().unwrap(), base, entry).unwrap(),
        Progress::Extended
    );
    // Who forgets to ask does not append twice.
    let error = wallet.extend(base, entry).unwrap_err();
    assert!(matches!(error, TrustedError::HeadMismatch { got, expected } if got == head && expected == base));
    let certified = wallet.certify(head, entry.transfer()).unwrap();
    assert_certifies(&certified, key, &name.0, head, entry.transfer());

    // And after the certificate was lost, once more.
    emulator.power_cut().unwrap();
    drop(wallet);
    let again = open(&emulator, &folder).certify(head, entry.transfer()).unwrap();
    assert_certifies(&again, key, &name.0, head, entry.transfer());
}

/// Whenever the power goes: a wallet that persists its choice before it extends finds back, and never appends twice.
#[test]
fn power_cuts_at_any_moment_of_a_payment() {
    const ROUNDS: u64 = 24;
    let Some(mut emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (mut wallet, mut head) = registered(&emulator, &folder);
    let mut paid = 0u64;
    for round in 0..ROUNDS {
        // What a payer persists: base and entry, before each extend.
        let persisted = Arc::new(Mutex::new((head, None)));
        let payer = std::thread::spawn({
            let persisted = persisted.clone();
            move || {
                let mut base = head;
                for number in paid.. {
                    let transfer = TransferDigest(Sha256::digest(number.to_be_bytes()).into());
                    let entry = Entry::new([1; 32], transfer);
                    *persisted.lock().unwrap() = (base, Some(entry));
                    let extended = wallet.extend(base, entry);
                    let certified = extended.and_then(|head| wallet.certify(head, transfer).map(|_| head));
                    match certified {
                        Ok(head) => base = head,
                        Err(TrustedError::Transport { .. }) => return number,
                        Err(error) => panic!("{error}"),
                    }
                }
                unreachable!("until the power goes")
            }
        });
        std::thread::sleep(Duration::from_micros(900 + 370 * round));
        emulator.power_cut().unwrap();
        paid = payer.join().unwrap();
        wallet = open(&emulator, &folder);
        let (base, entry) = *persisted.lock().unwrap();
        let entry = entry.unwrap();
        head = wallet.head().unwrap();
        if Progress::of(head, base, entry).unwrap() == Progress::NotExtended {
            head = wallet.extend(base, entry).unwrap();
        }
        assert_eq!(head, base.then(entry));
        wallet.certify(head, entry.transfer()).unwrap();
        paid += 1;
    }
}

#[test]
fn power_cut_while_the_registrar_signs() {
    let Some(mut emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut wallet = create(&emulator, &folder);
    let old = wallet
        .begin()
        .unwrap()
        .authorise(&registrar(), GENESIS, 0)
        .unwrap();
    emulator.power_cut().unwrap();
    drop(wallet);
    let mut wallet = open(&emulator, &folder);
    assert!(matches!(wallet.write_first(&old), Err(TrustedError::NotBegun)));
    let challenge = wallet.begin().unwrap();
    assert_eq!(
        wallet.write_first(&old).unwrap_err().refusal().unwrap(),
        "TPM_RC_SIGNATURE"
    );
    wallet
        .write_first(&challenge.authorise(&registrar(), GENESIS, 0).unwrap())
        .unwrap();
}

#[test]
fn files_of_an_older_day_are_noticed() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (mut wallet, base) = registered(&emulator, &folder);
    let head = wallet.extend(base, entry(1)).unwrap();
    let head = wallet.extend(head, entry(2)).unwrap();
    let error = Progress::of(wallet.head().unwrap(), base, entry(1)).unwrap_err();
    assert!(
        matches!(error, TrustedError::HeadMismatch { got, .. } if got == head),
        "{error}"
    );
    let error = wallet.certify(base, entry(1).transfer()).unwrap_err();
    assert!(
        matches!(error, TrustedError::HeadMismatch { got, .. } if got == head),
        "{error}"
    );
}

/// The base case of a software TPM: its log forks, and the two certificates prove it.
#[test]
fn attack_clone_of_a_software_tpm_forks_the_log() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (mut wallet, base) = registered(&emulator, &folder);
    let cloned = emulator.clone_state().unwrap();
    let copy = TempDir::new().unwrap();
    std::fs::copy(folder.path().join("tpm-wallet"), copy.path().join("tpm-wallet")).unwrap();
    let mut clone = open(&cloned, &copy);
    let (key, name) = (wallet.public_key(), wallet.log_name());
    assert_eq!((clone.public_key(), clone.head().unwrap()), (key, base));

    let coin = [7; 32];
    let to_one = Entry::new(coin, TransferDigest([1; 32]));
    let to_other = Entry::new(coin, TransferDigest([2; 32]));
    let one = wallet.extend(base, to_one).unwrap();
    let other = clone.extend(base, to_other).unwrap();
    assert_ne!(one, other);
    let certified = wallet.certify(one, to_one.transfer()).unwrap();
    assert_certifies(&certified, key, &name.0, base.then(to_one), to_one.transfer());
    let certified = clone.certify(other, to_other.transfer()).unwrap();
    assert_certifies(&certified, key, &name.0, base.then(to_other), to_other.transfer());
}

#[test]
fn a_key_of_another_tpm_does_not_load() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let other = Emulator::start().unwrap();
    let folder = TempDir::new().unwrap();
    drop(create(&emulator, &folder));
    let opened = Tpm::open(other.connect().unwrap(), folder.path(), Passwords::default());
    let Err(error) = opened else { panic!("loaded") };
    assert!(
        matches!(error, TrustedError::OtherRoot { got, expected } if got != expected),
        "{error}"
    );
}

#[test]
fn credential_activation_ties_key_to_endorsement() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut wallet = create(&emulator, &folder);
    let endorsement = wallet.endorsement_key().unwrap();
    assert_eq!(
        wallet.endorsement_key().unwrap(),
        endorsement,
        "always the same key"
    );

    let name = wallet.key_area().name();
    let secret = [0x5e; 32];
    let credential = make_credential(endorsement, name, secret).unwrap();
    assert_eq!(*wallet.activate_credential(&credential).unwrap(), secret);

    let failure = |wallet: &mut Tpm, credential| {
        wallet
            .activate_credential(credential)
            .unwrap_err()
            .refusal()
            .unwrap()
    };
    // For another wallet key,
    let folder_2 = TempDir::new().unwrap();
    drop(wallet);
    let index_2 = LogIndex {
        handle: IndexHandle(0x0150_0031),
        ..index()
    };
    let transport = emulator.connect().unwrap();
    let mut second = Tpm::create(transport, folder_2.path(), Passwords::default(), index_2).unwrap();
    assert_ne!(second.key_area().name(), name);
    assert_eq!(failure(&mut second, &credential), "TPM_RC_INTEGRITY");
    // for another TPM,
    drop(second);
    let mut wallet = open(&emulator, &folder);
    let elsewhere = Emulator::start().unwrap();
    let folder_3 = TempDir::new().unwrap();
    let stranger = create(&elsewhere, &folder_3).endorsement_key().unwrap();
    let foreign = make_credential(stranger, name, secret).unwrap();
    assert_eq!(failure(&mut wallet, &foreign), "TPM_RC_INTEGRITY");
    // and damaged.
    let mut damaged = credential.clone();
    *damaged.blob.last_mut().unwrap() ^= 1;
    assert_eq!(failure(&mut wallet, &damaged), "TPM_RC_INTEGRITY");
    // The good one still works, any time.
    assert_eq!(*wallet.activate_credential(&credential).unwrap(), secret);
    let no_point = make_credential(EndorsementKey(PublicKey([1; 64])), name, secret);
    assert!(matches!(no_point, Err(TrustedError::NotAPoint { .. })));
}

#[test]
fn the_certificate_of_the_maker_is_read_whole() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut wallet = create(&emulator, &folder);
    assert_eq!(
        wallet.endorsement_certificate().unwrap(),
        None,
        "a new swtpm has none"
    );
    drop(wallet);
    // Longer than two reads of an index.
    let certificate: Vec<u8> = (0..1_300u32).map(|number| (number % 251) as u8).collect();
    emulator.install_endorsement_certificate(&certificate).unwrap();
    let mut wallet = open(&emulator, &folder);
    assert_eq!(wallet.endorsement_certificate().unwrap(), Some(certificate));
}

#[test]
fn a_wallet_is_open_once() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let _wallet = create(&emulator, &folder);
    let twin = Tpm::open(emulator.connect().unwrap(), folder.path(), Passwords::default());
    assert!(matches!(twin, Err(TrustedError::InUse(_))));
}

#[test]
fn a_stranger_does_not_authorise() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let challenge = create(&emulator, &folder).begin().unwrap();
    let stranger = SigningKey::from_slice(&[8; 32]).unwrap();
    assert!(matches!(
        challenge.authorise(&stranger, GENESIS, 0),
        Err(TrustedError::Malformed { .. })
    ));
}

#[test]
fn a_forged_certificate_is_refused() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (mut wallet, base) = registered(&emulator, &folder);
    let head = wallet.extend(base, entry(1)).unwrap();
    let certified = wallet.certify(head, entry(1).transfer()).unwrap();
    let (key, name, transfer) = (wallet.public_key(), wallet.log_name(), entry(1).transfer());
    for position in 0..certified.attest.len() {
        let mut forged = certified;
        forged.attest[position] ^= 1;
        forged.verify(key, name, head, transfer).unwrap_err();
    }
    certified.verify(key, name, base, transfer).unwrap_err();
    certified
        .verify(key, index().unwritten_name(), head, transfer)
        .unwrap_err();
    certified
        .verify(key, name, head, TransferDigest([0; 32]))
        .unwrap_err();
    certified.verify(key, name, head, transfer).unwrap();
}

/// The kinds behind the one trait: a caller gets to a transfer's evidence by way of its kind.
#[test]
fn a_wallet_is_used_without_knowing_which() {
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (wallet, base) = registered(&emulator, &folder);
    let mut wallet: Box<dyn TrustedWallet> = Box::new(wallet);
    let Transfers::Log(log) = wallet.transfers() else {
        panic!("a TPM logs")
    };
    let head = log.extend(base, entry(1)).unwrap();
    log.certify(head, entry(1).transfer()).unwrap();
}

/// `cargo test -p micropay-trusted --test tpm -- --ignored --nocapture`, with `--release` for the numbers that count.
#[test]
#[ignore = "measures, and proves nothing"]
fn time_of_a_payment() {
    const PAYMENTS: usize = 300;
    let Some(emulator) = Emulator::for_test() else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (mut wallet, mut head) = registered(&emulator, &folder);
    let mut times = [vec![], vec![], vec![], vec![]];
    for number in 0..PAYMENTS {
        let transfer = TransferDigest(Sha256::digest(number.to_be_bytes()).into());
        let start = Instant::now();
        head = wallet.extend(head, Entry::new([1; 32], transfer)).unwrap();
        let extended = start.elapsed();
        wallet.certify(head, transfer).unwrap();
        let certified = start.elapsed();
        wallet.sign(MessageDigest(transfer.0)).unwrap();
        let signed = start.elapsed();
        times[0].push(extended);
        times[1].push(certified - extended);
        times[2].push(certified);
        times[3].push(signed - certified);
    }
    for (what, times) in ["extend", "certify", "payment", "sign"].iter().zip(&mut times) {
        times.sort();
        println!(
            "{what}: p50 {:?}, p95 {:?}",
            times[PAYMENTS / 2],
            times[PAYMENTS * 95 / 100]
        );
    }
    drop(wallet);
    let start = Instant::now();
    let mut wallet = open(&emulator, &folder);
    println!("open: {:?}", start.elapsed());
    let start = Instant::now();
    wallet.endorsement_key().unwrap();
    println!("endorsement key: {:?}", start.elapsed());
}
