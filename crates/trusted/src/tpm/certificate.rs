//! The certificate of a log: `TPMS_ATTEST` of type NV, 173 bytes, signed by the wallet key.
//!
//! ```text
//!   0  magic ff544347                      76  clock, reset and restart count, safe: 17 bytes
//!   4  type 8014 (NV)                      93  firmware version: 8 bytes
//!   6  0022, the signer's qualified Name  101  0022, the index's Name
//!  42  0020, SHA-256(transfer digest)     137  offset 0000
//!                                         139  0020, the head
//! ```

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature as Ecdsa, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::policy::{Name, hex};
use crate::{Certified, Head, PublicKey, Result, Signature, TransferDigest, TrustedError};

/// Bytes of an attestation with SHA-256 Names and 32 bytes of qualifying data.
pub const LENGTH: usize = 173;

const MAGIC_AND_TYPE: &[u8] = &[0xff, b'T', b'C', b'G', 0x80, 0x14, 0x00, 0x22];

impl Certified {
    /// Checks that the certificate is about this log with this head, for this transfer, by this key. (The contract and a payee
    /// check the same with their own code; this is for the wallet itself and the registrar.)
    ///
    /// # Errors
    ///
    /// [`TrustedError::CertificateMismatch`] with the first field that differs, [`TrustedError::BadSignature`].
    pub fn verify(&self, key: PublicKey, log: Name, head: Head, transfer: TransferDigest) -> Result<()> {
        self.check(log, head, transfer)?;
        verify_prehash(key, &Sha256::digest(self.attest).into(), self.signature)
    }

    fn check(&self, log: Name, head: Head, transfer: TransferDigest) -> Result<()> {
        self.field("magic and type", 0, MAGIC_AND_TYPE)?;
        self.field("length of qualifying data", 42, &[0x00, 0x20])?;
        self.field("qualifying data", 44, &Sha256::digest(transfer.0))?;
        self.field("length of the Name", 101, &[0x00, 0x22])?;
        self.field("Name of the log", 103, &log.0)?;
        self.field("offset and length of the head", 137, &[0x00, 0x00, 0x00, 0x20])?;
        self.field("head", 141, &head.0)
    }

    /// Checks, of a certificate that verifies, that the wallet key was made under the storage root of that Name: a TPM signs
    /// under which parents its key is. Whoever showed the wallet another root cannot change that.
    pub(super) fn check_signer(&self, root: Name, key: Name) -> Result<()> {
        self.field(
            "signer, under the pinned storage root,",
            8,
            &key.qualified(root).0,
        )
    }

    fn field(&self, field: &'static str, at: usize, expected: &[u8]) -> Result<()> {
        let got = &self.attest[at..at + expected.len()];
        if got == expected {
            return Ok(());
        }
        Err(TrustedError::CertificateMismatch {
            field,
            got: hex(got),
            expected: hex(expected),
        })
    }

    /// The head that is certified; unchecked.
    pub fn head(&self) -> Head {
        let mut head = [0; 32];
        head.copy_from_slice(&self.attest[141..]);
        Head(head)
    }
}

/// Checks an ES256 signature over a message's digest. High `s` is refused.
///
/// # Errors
///
/// [`TrustedError::BadSignature`], or [`TrustedError::NotAPoint`] for the key.
pub fn verify(key: PublicKey, message: MessageBytes, signature: Signature) -> Result<()> {
    verify_prehash(key, &Sha256::digest(message).into(), signature)
}

/// The 32 bytes of a digest.
pub type MessageBytes = [u8; 32];

fn verify_prehash(key: PublicKey, prehash: &[u8; 32], signature: Signature) -> Result<()> {
    let bad = || TrustedError::BadSignature { signature, key };
    let ecdsa = Ecdsa::from_slice(&signature.0).map_err(|_| bad())?;
    if ecdsa.normalize_s() != ecdsa {
        return Err(bad());
    }
    point(key)?.verify_prehash(prehash, &ecdsa).map_err(|_| bad())
}

pub(crate) fn point(key: PublicKey) -> Result<VerifyingKey> {
    let mut sec1 = [4; 65];
    sec1[1..].copy_from_slice(&key.0);
    VerifyingKey::from_sec1_bytes(&sec1).map_err(|_| TrustedError::NotAPoint { got: key })
}

pub(crate) fn key_bytes(key: &VerifyingKey) -> PublicKey {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(&key.to_sec1_point(false).as_bytes()[1..]);
    PublicKey(bytes)
}
