//! What a wallet makes of a TPM's answers, whatever they are. Run by `main.rs` on mutations, and by libFuzzer (`make fuzz`).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use trusted::tpm::transport::Transport;
use trusted::tpm::{Credential, Passwords};
use trusted::{
    Entry, Genesis, Head, LogsTransfers as _, MessageDigest, Tpm, TransferDigest, TrustedWallet as _,
};

/// The file of the wallet whose TPM gave the answers of the seeds.
const WALLET: &[u8] = include_bytes!("wallet");

/// A TPM that answers from a script: frames one after another, each with its length in its header.
struct Script {
    frames: Vec<u8>,
    at: usize,
}

impl Transport for Script {
    fn transact(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
        let rest = &self.frames[self.at..];
        let Some(header) = rest.first_chunk::<10>() else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
        let length = usize::try_from(length).map_or(rest.len(), |length| length.clamp(10, rest.len()));
        self.at += length;
        // "Ask again later" would be answered by waiting.
        if matches!(header[6..], [0, 0, 0x09, 0x22 | 0x0a | 0x08 | 0x20]) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(rest[..length].to_vec())
    }

    fn managed(&self) -> bool {
        false
    }
}

/// Whoever made these answers does not know the session's key: nothing panics, and none of it is believed.
///
/// `folder` is for the wallet's file; one caller at a time.
pub(crate) fn answers(folder: &Path, data: &[u8]) {
    let file = folder.join("tpm-wallet");
    if !file.exists() {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(&file, WALLET).expect("the wallet's file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its mode");
    }
    let script = Script {
        frames: data.to_vec(),
        at: 0,
    };
    let Ok(mut wallet) = Tpm::open(Box::new(script), folder, Passwords::default()) else {
        return;
    };
    let digest = [7; 32];
    let credential = Credential {
        blob: vec![0; 66],
        encrypted_seed: vec![0; 68],
    };
    drop(wallet.begin());
    assert!(wallet.head().is_err(), "a head was believed");
    assert!(
        wallet.sign(MessageDigest(digest)).is_err(),
        "a signature was believed"
    );
    let certified = wallet.certify(Head::first(Genesis(digest)), TransferDigest(digest));
    assert!(certified.is_err(), "a certificate was believed");
    assert!(
        wallet.activate_credential(&credential).is_err(),
        "a secret was believed"
    );
    let entry = Entry::new(digest, TransferDigest(digest));
    assert!(
        wallet.extend(Head::EMPTY, entry).is_err(),
        "an entry was believed"
    );
    drop(wallet.endorsement_key());
    drop(wallet.endorsement_certificate());
}
