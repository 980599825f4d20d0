//! Attacks on a log by who owns the TPM, against a real swtpm: each needs the registrar, who signs once.
#![allow(clippy::unwrap_used, reason = "tests")]

use p256::ecdsa::SigningKey;
use tempfile::TempDir;

use super::certificate::key_bytes;
use super::*;
use crate::swtpm::Emulator;

pub(super) const GENESIS: Genesis = Genesis([0x6e; 32]);
const INDEX: IndexHandle = IndexHandle(0x0150_0030);

pub(super) struct Bench {
    pub(super) emulator: Emulator,
    pub(super) folder: TempDir,
    registrar: SigningKey,
}

impl Bench {
    pub(super) fn new() -> Option<(Self, Tpm)> {
        let emulator = Emulator::for_test()?;
        let folder = TempDir::new().unwrap();
        let registrar = SigningKey::from_slice(&[9; 32]).unwrap();
        let index = LogIndex {
            handle: INDEX,
            registrar: key_bytes(registrar.verifying_key()),
        };
        let wallet = Tpm::create(
            emulator.connect().unwrap(),
            folder.path(),
            Passwords::default(),
            index,
        )
        .unwrap();
        Some((
            Self {
                emulator,
                folder,
                registrar,
            },
            wallet,
        ))
    }

    pub(super) fn authorise(&self, challenge: Challenge, genesis: Genesis) -> Authorisation {
        challenge.authorise(&self.registrar, genesis, 0).unwrap()
    }

    fn reopen(&self) -> Tpm {
        Tpm::open(
            self.emulator.connect().unwrap(),
            self.folder.path(),
            Passwords::default(),
        )
        .unwrap()
    }
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T>, code: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.refusal().as_deref(), Some(code), "{error}");
}

pub(super) fn entry(number: u8) -> Entry {
    Entry::new([number; 32], TransferDigest([number ^ 0xff; 32]))
}

#[test]
fn attack_first_entry_without_registrar() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    // The free branch is for written logs.
    refused(wallet.append(&GENESIS.0), "TPM_RC_POLICY_FAIL");
    // Neither password nor ownership writes.
    let Tpm { device, index, .. } = &mut wallet;
    refused(
        device.nv_extend_as(index.handle.0, index.handle.0, &GENESIS.0),
        "TPM_RC_AUTH_UNAVAILABLE",
    );
    refused(
        device.nv_extend_as(TpmRh::Owner.value(), index.handle.0, &GENESIS.0),
        "TPM_RC_NV_AUTHORIZATION",
    );
    // Another key than the registrar's.
    let challenge = wallet.begin().unwrap();
    let mut authorisation = bench.authorise(challenge, GENESIS);
    let signed = challenge.to_sign(GENESIS, 0);
    let other = SigningKey::from_slice(&[8; 32]).unwrap();
    let signature: p256::ecdsa::Signature =
        p256::ecdsa::signature::hazmat::PrehashSigner::sign_prehash(&other, &signed).unwrap();
    let good = std::mem::replace(
        &mut authorisation.signature,
        Signature(signature.to_bytes().into()),
    );
    refused(wallet.write_first(&authorisation), "TPM_RC_SIGNATURE");
    // The session has outlived it.
    authorisation.signature = good;
    assert_eq!(wallet.write_first(&authorisation).unwrap(), Head::first(GENESIS));
    assert_eq!(wallet.head().unwrap(), Head::first(GENESIS));
}

#[test]
fn attack_old_signature_in_a_new_session() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    let old = bench.authorise(wallet.begin().unwrap(), GENESIS);
    wallet.begin().unwrap();
    refused(wallet.write_first(&old), "TPM_RC_SIGNATURE");
    // Nor after a restart, with a TPM whose sessions are gone.
    drop(wallet);
    let mut wallet = bench.reopen();
    assert!(matches!(wallet.write_first(&old), Err(TrustedError::NotBegun)));
    // Nor by telling the TPM the old nonce.
    let old_nonce = [1; 32];
    let (session, _) = wallet.device.start_policy().unwrap();
    wallet.begun = Some((session, old_nonce));
    refused(wallet.write_first(&old), "TPM_RC_NONCE");
}

#[test]
fn attack_signature_for_other_data() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    let other = Genesis([0x77; 32]);
    // Told the data that it extends, the TPM sees another signature …
    let mut authorisation = bench.authorise(wallet.begin().unwrap(), GENESIS);
    authorisation.genesis = other;
    refused(wallet.write_first(&authorisation), "TPM_RC_SIGNATURE");
    // … and told the data that was signed, another command.
    let authorisation = bench.authorise(wallet.begin().unwrap(), GENESIS);
    refused(
        wallet.write_first_as(&authorisation, &other.0),
        "TPM_RC_POLICY_FAIL",
    );
    refused(wallet.head(), "TPM_RC_NV_UNINITIALIZED");
}

#[test]
fn attack_undefine_and_redefine() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    let used = bench.authorise(wallet.begin().unwrap(), GENESIS);
    let begun = wallet.begun;
    let base = wallet.write_first(&used).unwrap();
    wallet.extend(base, entry(1)).unwrap();

    wallet.undefine().unwrap();
    refused(wallet.head(), "TPM_RC_HANDLE");
    wallet.define().unwrap();
    // An empty log of the same Name, and no way to begin it: not freely, …
    assert_eq!(wallet.current_name().unwrap(), wallet.index().unwritten_name());
    refused(wallet.append(&entry(2).0), "TPM_RC_POLICY_FAIL");
    // … not with the signature that began the first, whose session ended with its use (its slot has another now), …
    wallet.begun = begun;
    refused(wallet.write_first(&used), "TPM_RC_HANDLE");
    wallet.begun = None;
    wallet.begin().unwrap();
    refused(wallet.write_first(&used), "TPM_RC_SIGNATURE");
    // … but with a new one: the registrar must not give it.
    let second = bench.authorise(wallet.begin().unwrap(), GENESIS);
    assert_eq!(wallet.write_first(&second).unwrap(), Head::first(GENESIS));
}

/// Why a registrar signs once: two live authorisations are a fork.
#[test]
fn attack_two_live_authorisations_fork_a_log() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    let first = bench.authorise(wallet.begin().unwrap(), GENESIS);
    let kept = wallet.begun.take();
    let second = bench.authorise(wallet.begin().unwrap(), GENESIS);
    let base = wallet.write_first(&second).unwrap();
    let one = wallet.extend(base, entry(1)).unwrap();
    wallet.certify(one, entry(1).transfer()).unwrap();

    wallet.undefine().unwrap();
    wallet.define().unwrap();
    wallet.begun = kept;
    let base = wallet.write_first(&first).unwrap();
    let other = wallet.extend(base, entry(2)).unwrap();
    wallet.certify(other, entry(2).transfer()).unwrap();
    assert_ne!(one, other);
}

#[test]
fn an_authorisation_expires_by_the_clock_of_the_tpm() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    let challenge = wallet.begin().unwrap();
    let late = challenge.authorise(&bench.registrar, GENESIS, 1).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    refused(wallet.write_first(&late), "TPM_RC_EXPIRED");
    // The time is signed, too.
    refused(
        wallet.write_first(&Authorisation {
            expiration: 0,
            ..late
        }),
        "TPM_RC_SIGNATURE",
    );
    let challenge = wallet.begin().unwrap();
    let timely = challenge.authorise(&bench.registrar, GENESIS, 60).unwrap();
    wallet.write_first(&timely).unwrap();
}

#[test]
fn attack_signature_used_twice() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    let authorisation = bench.authorise(wallet.begin().unwrap(), GENESIS);
    let begun = wallet.begun;
    let base = wallet.write_first(&authorisation).unwrap();
    wallet.begun = begun;
    refused(wallet.write_first(&authorisation), "TPM_RC_REFERENCE_H1");
    // A signature given after the log has begun is for an index that is no more: writing changed its Name.
    let late = bench.authorise(wallet.begin().unwrap(), GENESIS);
    refused(wallet.write_first(&late), "TPM_RC_POLICY_FAIL");
    assert_eq!(wallet.head().unwrap(), base);
}

#[test]
fn hierarchies_have_passwords() {
    let Some((bench, mut wallet)) = Bench::new() else {
        return;
    };
    wallet.device.set_password(TpmRh::Owner, b"owner's").unwrap();
    wallet
        .device
        .set_password(TpmRh::Endorsement, b"maker's")
        .unwrap();
    refused(wallet.undefine(), "TPM_RC_BAD_AUTH");
    refused(wallet.endorsement_key(), "TPM_RC_BAD_AUTH");
    drop(wallet);
    let opened = Tpm::open(
        bench.emulator.connect().unwrap(),
        bench.folder.path(),
        Passwords::default(),
    );
    refused(opened.map(drop), "TPM_RC_BAD_AUTH");

    let passwords = Passwords {
        owner: Zeroizing::new(b"owner's".to_vec()),
        endorsement: Zeroizing::new(b"maker's".to_vec()),
    };
    let mut wallet = Tpm::open(bench.emulator.connect().unwrap(), bench.folder.path(), passwords).unwrap();
    // Payments need none.
    let challenge = wallet.begin().unwrap();
    // Three sessions at once are all that a TPM must have: the one that waits, the salted one, and the policy's.
    let endorsement = wallet.endorsement_key().unwrap();
    let credential = make_credential(endorsement, wallet.key_area().name(), [4; 32]).unwrap();
    assert_eq!(*wallet.activate_credential(&credential).unwrap(), [4; 32]);
    wallet.write_first(&bench.authorise(challenge, GENESIS)).unwrap();
    wallet.undefine().unwrap();
    wallet.define().unwrap();
    let authorisation = bench.authorise(wallet.begin().unwrap(), GENESIS);
    let base = wallet.write_first(&authorisation).unwrap();
    let head = wallet.extend(base, entry(1)).unwrap();
    wallet.certify(head, entry(1).transfer()).unwrap();
    let endorsement = wallet.endorsement_key().unwrap();
    let credential = make_credential(endorsement, wallet.key_area().name(), [5; 32]).unwrap();
    assert_eq!(*wallet.activate_credential(&credential).unwrap(), [5; 32]);
    wallet.undefine().unwrap();
}
