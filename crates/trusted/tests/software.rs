//! The software component: it never signs two transfers with one sequence, whatever happens between.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use trusted::tpm::certificate::verify;
use trusted::{
    Entry, Head, Kind, MessageDigest, SignsTransfers, Software, TransferDigest, Transfers, TrustedError,
    TrustedWallet,
};

const ONE: TransferDigest = TransferDigest([1; 32]);
const OTHER: TransferDigest = TransferDigest([2; 32]);

#[test]
fn a_sequence_is_signed_once() {
    let folder = TempDir::new().unwrap();
    let mut wallet = Software::create(folder.path()).unwrap();
    assert_eq!((wallet.kind(), wallet.next_sequence()), (Kind::Signature, 1));
    let signature = wallet.sign_transfer(1, ONE).unwrap();
    verify(wallet.public_key(), ONE.0, signature).unwrap();

    let error = wallet.sign_transfer(1, OTHER).unwrap_err();
    assert!(
        matches!(
            error,
            TrustedError::SequenceUsed {
                sequence: 1,
                got: OTHER,
                signed: ONE
            }
        ),
        "{error}"
    );
    for got in [0, 3, u64::MAX] {
        let error = wallet.sign_transfer(got, OTHER).unwrap_err();
        assert!(
            matches!(error, TrustedError::SequenceOutOfOrder { next: 2, .. }),
            "{error}"
        );
    }
    // The same transfer again, after a crash say, is the same signature.
    assert_eq!(wallet.sign_transfer(1, ONE).unwrap(), signature);
    wallet.sign_transfer(2, OTHER).unwrap();
    let error = wallet.sign_transfer(1, ONE).unwrap_err();
    assert!(
        matches!(error, TrustedError::SequenceOutOfOrder { got: 1, next: 3 }),
        "{error}"
    );

    drop(wallet);
    let mut wallet = Software::open(folder.path()).unwrap();
    assert_eq!(wallet.next_sequence(), 3);
    let error = wallet.sign_transfer(2, ONE).unwrap_err();
    assert!(matches!(error, TrustedError::SequenceUsed { .. }), "{error}");
}

#[test]
fn messages_do_not_count() {
    let folder = TempDir::new().unwrap();
    let mut wallet = Software::create(folder.path()).unwrap();
    let signature = wallet.sign(MessageDigest([3; 32])).unwrap();
    verify(wallet.public_key(), [3; 32], signature).unwrap();
    assert_eq!(wallet.next_sequence(), 1);
    assert!(matches!(wallet.transfers(), Transfers::Signature(_)));
}

#[test]
fn a_wallet_is_open_once() {
    let folder = TempDir::new().unwrap();
    let mut wallet = Software::create(folder.path()).unwrap();
    wallet.sign_transfer(1, ONE).unwrap();
    let twin = Software::open(folder.path());
    assert!(matches!(twin, Err(TrustedError::InUse(_))));
    drop(wallet);
    Software::open(folder.path())
        .unwrap()
        .sign_transfer(1, ONE)
        .unwrap();
}

#[test]
fn a_counter_file_that_is_put_back_under_a_running_wallet_is_noticed() {
    let folder = TempDir::new().unwrap();
    let mut wallet = Software::create(folder.path()).unwrap();
    let counter = folder.path().join("software-counter");
    let old = fs::read(&counter).unwrap();
    wallet.sign_transfer(1, ONE).unwrap();
    fs::write(&counter, old).unwrap();
    let error = wallet.sign_transfer(2, OTHER).unwrap_err();
    assert!(
        matches!(error, TrustedError::CounterChanged { got: 0, expected: 1 }),
        "{error}"
    );
}

/// What software cannot prevent, and why its class is DEV: the chain punishes it.
#[test]
fn attack_restored_files_of_a_software_wallet_equivocate() {
    let folder = TempDir::new().unwrap();
    let copy = TempDir::new().unwrap();
    let mut wallet = Software::create(folder.path()).unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let mut clone = Software::open(copy.path()).unwrap();
    wallet.sign_transfer(1, ONE).unwrap();
    clone.sign_transfer(1, OTHER).unwrap();
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(Software::create(folder.path()).unwrap());
    assert!(matches!(
        Software::create(folder.path()),
        Err(TrustedError::Exists(_))
    ));
    let key = folder.path().join("software-key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let opened = Software::open(folder.path());
    assert!(matches!(
        opened,
        Err(TrustedError::OpenToOthers {
            got: 0o640,
            expected: 0o600,
            ..
        })
    ));
}

/// Kill -9 at any moment: the sequence that was signed last is never signed for another transfer. The test starts itself as
/// the victim, which signs as fast as it can and says each sequence before and after.
#[test]
fn a_killed_wallet_goes_on_where_it_was() {
    const ROUNDS: u64 = 20;
    let folder = TempDir::new().unwrap();
    drop(Software::create(folder.path()).unwrap());
    let mut last = 0;
    for round in 0..ROUNDS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "victim_of_the_kill"])
            .env("MICROPAY_VICTIM", folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(30 + 7 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let signed: u64 = match fs::read_to_string(folder.path().join("signed")) {
            Ok(signed) => signed
                .lines()
                .filter_map(|line| line.parse().ok())
                .next_back()
                .unwrap_or(0),
            Err(_) => 0,
        };
        let mut wallet = Software::open(folder.path()).unwrap();
        let counter = wallet.next_sequence() - 1;
        // What was released is counted; at most the one in hand is counted and not released.
        assert!(
            counter >= signed && counter <= signed + 1,
            "counter {counter}, released {signed}"
        );
        assert!(counter >= last);
        if counter > 0 {
            let error = wallet.sign_transfer(counter, OTHER).unwrap_err();
            assert!(matches!(error, TrustedError::SequenceUsed { .. }), "{error}");
        }
        last = counter;
        // The next victim says its sequences anew.
        fs::write(folder.path().join("signed"), format!("{counter}\n")).unwrap();
    }
    assert!(last > 0, "no victim lived long enough to sign");
}

#[test]
#[ignore = "is killed by a_killed_wallet_goes_on_where_it_was"]
fn victim_of_the_kill() {
    use std::io::Write as _;
    let Some(folder) = std::env::var_os("MICROPAY_VICTIM").map(std::path::PathBuf::from) else {
        return;
    };
    let mut signed = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("signed"))
        .unwrap();
    let mut wallet = Software::open(&folder).unwrap();
    loop {
        let sequence = wallet.next_sequence();
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&sequence.to_be_bytes());
        wallet.sign_transfer(sequence, TransferDigest(digest)).unwrap();
        writeln!(signed, "{sequence}").unwrap();
    }
}

/// `logOfA` of the golden vectors (offline.json): the fold that contract, payee and TPM agree on.
#[test]
fn the_fold_is_that_of_the_vectors() {
    let head = Head(bytes(
        "b8af4cfc0dcad0e325a67ceb93d1f80aafcd0232415981c6156d16db378913f4",
    ));
    let first = Entry::new(
        bytes("6098ef99ab772af550313e0e68d383c5ce398ed59b2226e5864e4a8b01813512"),
        TransferDigest(bytes(
            "342938202d5c20c81750a7e6e46e0e0db1c2d2b9c5a91335cea67bdcbd82f043",
        )),
    );
    let second = Entry::new(
        bytes("f528250abccd4491cd8d8ffc982c38e3c42ef4984024238cdf545678b065916d"),
        TransferDigest(bytes(
            "c1872433cf73cef9e6d92a5c66951ea2a7ec1792d710ceb4ce3da378da1303c2",
        )),
    );
    let head = head.then(first);
    assert_eq!(
        head,
        Head(bytes(
            "1d727b302ddfa4cdb1cac9a6f000e7314c199d196794243e49c0db3ce63c8aa3"
        ))
    );
    assert_eq!(
        head.then(second),
        Head(bytes(
            "7762a1813b0d11d8bfc0121a5de5e607b70d691b53b8efaf9b912a49433af2f2"
        ))
    );
    assert_eq!(second.transfer().to_string()[..8], *"c1872433");
}

fn bytes(hex: &str) -> [u8; 32] {
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}
