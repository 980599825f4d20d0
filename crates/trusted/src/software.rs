//! A key in a file, for development: whoever reads the file is the wallet. Default policies refuse its class.
//!
//! It keeps the one promise that software can keep against accidents: no sequence is signed for two transfers. The counter is
//! on disk before a signature is made, so a crash between leaves a transfer that is signed again, never another one.

use std::path::{Path, PathBuf};

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature as Ecdsa, SigningKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::files::{self, Lock};
use crate::tpm::certificate::key_bytes;
use crate::{
    MessageDigest, PublicKey, Result, Signature, SignsTransfers, TransferDigest, Transfers, TrustedError,
    TrustedWallet,
};

const KEY: &str = "software-key";
const COUNTER: &str = "software-counter";

/// A wallet in files: `software-key` (32 bytes, mode 0600) and `software-counter` (sequence, 8 bytes, and the digest signed
/// with it). Kind SIGNATURE, class DEV.
pub struct Software {
    key: SigningKey,
    counter: PathBuf,
    last: Last,
    _lock: Lock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    sequence: u64,
    transfer: TransferDigest,
}

impl Software {
    /// Draws a key and writes the files.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Exists`] if the folder has a wallet; [`TrustedError::File`].
    pub fn create(folder: &Path) -> Result<Self> {
        let lock = files::prepare(folder, KEY)?;
        let secret = loop {
            // 32 random bytes are a key, but for one in 2³².
            let secret = Zeroizing::new(rand::random::<[u8; 32]>());
            if SigningKey::from_slice(secret.as_slice()).is_ok() {
                break secret;
            }
        };
        // The key comes last: a wallet with a key has a counter.
        let last = Last {
            sequence: 0,
            transfer: TransferDigest([0; 32]),
        };
        last.save(&folder.join(COUNTER))?;
        files::replace(&folder.join(KEY), secret.as_slice())?;
        Self::load(folder, lock)
    }

    /// Opens the wallet of `folder`.
    ///
    /// # Errors
    ///
    /// [`TrustedError::InUse`], [`TrustedError::File`], [`TrustedError::OpenToOthers`], [`TrustedError::Malformed`].
    pub fn open(folder: &Path) -> Result<Self> {
        Self::load(folder, files::lock(folder)?)
    }

    fn load(folder: &Path, lock: Lock) -> Result<Self> {
        let secret = Zeroizing::new(files::read(&folder.join(KEY))?);
        let key = SigningKey::from_slice(&secret).map_err(|_| TrustedError::Malformed {
            what: "key file",
            got: format!("{} bytes", secret.len()),
            expected: "a P-256 key of 32 bytes".to_owned(),
        })?;
        let counter = folder.join(COUNTER);
        let last = Last::load(&counter)?;
        Ok(Self {
            key,
            counter,
            last,
            _lock: lock,
        })
    }

    fn es256(&self, digest: &[u8; 32]) -> Result<Signature> {
        let prehash = Sha256::digest(digest);
        // Deterministic (RFC 6979), so that a repeated transfer is the same bytes.
        let signature: Ecdsa = self
            .key
            .sign_prehash(&prehash)
            .map_err(|error| TrustedError::Malformed {
                what: "key",
                got: error.to_string(),
                expected: "a signature".to_owned(),
            })?;
        Ok(Signature(signature.normalize_s().to_bytes().into()))
    }
}

impl TrustedWallet for Software {
    fn public_key(&self) -> PublicKey {
        key_bytes(self.key.verifying_key())
    }

    fn sign(&mut self, message: MessageDigest) -> Result<Signature> {
        self.es256(&message.0)
    }

    fn transfers(&mut self) -> Transfers<'_> {
        Transfers::Signature(self)
    }
}

impl SignsTransfers for Software {
    fn next_sequence(&self) -> u64 {
        self.last.sequence.saturating_add(1)
    }

    fn sign_transfer(&mut self, sequence: u64, transfer: TransferDigest) -> Result<Signature> {
        let on_disk = Last::load(&self.counter)?;
        if on_disk != self.last {
            return Err(TrustedError::CounterChanged {
                got: on_disk.sequence,
                expected: self.last.sequence,
            });
        }
        if sequence == self.last.sequence && sequence > 0 {
            if transfer != self.last.transfer {
                let signed = self.last.transfer;
                return Err(TrustedError::SequenceUsed {
                    sequence,
                    got: transfer,
                    signed,
                });
            }
        } else if sequence == self.next_sequence() {
            let next = Last { sequence, transfer };
            next.save(&self.counter)?;
            self.last = next;
        } else {
            return Err(TrustedError::SequenceOutOfOrder {
                got: sequence,
                next: self.next_sequence(),
            });
        }
        self.es256(&transfer.0)
    }
}

impl Last {
    fn save(&self, path: &Path) -> Result<()> {
        let mut bytes = self.sequence.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.transfer.0);
        files::replace(path, &bytes)
    }

    fn load(path: &Path) -> Result<Self> {
        let bytes = files::read(path)?;
        let malformed = || TrustedError::Malformed {
            what: "counter file",
            got: format!("{} bytes", bytes.len()),
            expected: "40 bytes".to_owned(),
        };
        let (sequence, transfer) = bytes.split_first_chunk::<8>().ok_or_else(malformed)?;
        let transfer = transfer.try_into().map_err(|_| malformed())?;
        Ok(Self {
            sequence: u64::from_be_bytes(*sequence),
            transfer: TransferDigest(transfer),
        })
    }
}
