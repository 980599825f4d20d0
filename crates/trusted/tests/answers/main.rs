//! Answers of a TPM as a stranger might give them: those that a real swtpm once gave, changed in any place.
#![allow(clippy::unwrap_used, reason = "tests")]

mod checks;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use trusted::swtpm::Emulator;
use trusted::tpm::transport::Transport;
use trusted::tpm::{IndexHandle, LogIndex, Passwords, make_credential};
use trusted::{
    Genesis, Head, LogsTransfers as _, MessageDigest, PublicKey, Tpm, TransferDigest, TrustedWallet as _,
};

fn seed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/tpm_answers/life")
}

#[test]
fn attack_answers_that_a_stranger_made_up() {
    let folder = TempDir::new().unwrap();
    let life = std::fs::read(seed()).unwrap();
    checks::answers(folder.path(), &life);
    for at in (0..life.len()).step_by(3) {
        let mut changed = life.clone();
        changed[at] ^= 1 << (at % 8);
        checks::answers(folder.path(), &changed);
    }
    for length in (0..life.len()).step_by(20) {
        checks::answers(folder.path(), &life[..length]);
    }
}

struct Recorder {
    tpm: Box<dyn Transport>,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl Transport for Recorder {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let answer = self.tpm.transact(command)?;
        self.answers.lock().unwrap().extend_from_slice(&answer);
        Ok(answer)
    }

    fn managed(&self) -> bool {
        self.tpm.managed()
    }
}

#[test]
#[ignore = "writes the seed and its wallet anew"]
fn record() {
    let emulator = Emulator::for_test().unwrap();
    let folder = TempDir::new().unwrap();
    let registrar = p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let point = registrar.verifying_key().to_sec1_point(false);
    let index = LogIndex {
        handle: IndexHandle(0x0150_0030),
        registrar: PublicKey(point.as_bytes()[1..].try_into().unwrap()),
    };
    let passwords = Passwords::default();
    let connection = emulator.connect().unwrap();
    drop(Tpm::create(connection, folder.path(), passwords.clone(), index).unwrap());

    let answers = Arc::new(Mutex::new(Vec::new()));
    let recorder = Recorder {
        tpm: emulator.connect().unwrap(),
        answers: answers.clone(),
    };
    let mut wallet = Tpm::open(Box::new(recorder), folder.path(), passwords).unwrap();
    // The order of the check.
    let genesis = Genesis([7; 32]);
    let challenge = wallet.begin().unwrap();
    wallet.head().unwrap_err();
    wallet.sign(MessageDigest([7; 32])).unwrap();
    let authorisation = challenge.authorise(&registrar, genesis, 0).unwrap();
    let head = wallet.write_first(&authorisation).unwrap();
    assert_eq!(head, Head::first(genesis));
    wallet.certify(head, TransferDigest([7; 32])).unwrap();
    let endorsement = wallet.endorsement_key().unwrap();
    let credential = make_credential(endorsement, wallet.key_area().name(), [7; 32]).unwrap();
    wallet.activate_credential(&credential).unwrap();
    drop(wallet);
    std::fs::write(seed(), &*answers.lock().unwrap()).unwrap();
    let file = std::fs::read(folder.path().join("tpm-wallet")).unwrap();
    std::fs::write(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/answers/wallet"),
        file,
    )
    .unwrap();
}
