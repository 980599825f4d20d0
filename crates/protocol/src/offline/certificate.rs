//! Certificate: what a TPM's restricted key signs to say "this index holds this head" (TPM2_NV_Certify, a TPMS_ATTEST of 173
//! bytes). Only what varies is carried; the payee writes the rest itself, so that a certificate of something else has a bad
//! signature. A whole one is parsed strictly, and gives the same parts.
//!
//! ```text
//! ff544347 8014 │ 0022 qualifiedSigner 34 │ 0020 extraData 32 │ clockInfo 17 │ firmwareVersion 8 │
//! 0022 indexName 34 │ offset 0000 │ 0020 nvContents 32
//! ```

use alloy_primitives::{B256, keccak256};
use sha2::{Digest, Sha256};

use super::{CertificateError, LogHead, NameHash, TransferDigest, WalletKey, WalletSignature};

/// Length of the attestation in bytes.
pub const ATTEST_LENGTH: usize = 173;

const MAGIC: [u8; 4] = [0xff, b'T', b'C', b'G'];
const NV_CERTIFY: [u8; 2] = [0x80, 0x14];
const NAME_LENGTH: [u8; 2] = [0x00, 0x22];
const HASH_LENGTH: [u8; 2] = [0x00, 0x20];
const NAME_SHA256: [u8; 2] = [0x00, 0x0b];

/// The TPM Name of an NV index, without its algorithm, which is SHA-256: the hash of its public area, written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexName(pub B256);

/// What varies in an attestation, and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// Name of the key and of its parents.
    pub qualified_signer: [u8; 34],
    /// Clock, reset count, restart count, safe.
    pub clock_info: [u8; 17],
    /// The TPM's.
    pub firmware_version: [u8; 8],
    /// By the wallet's key, on the SHA-256 of the whole.
    pub signature: WalletSignature,
}

/// A whole attestation, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attest {
    /// Name of the key and of its parents.
    pub qualified_signer: [u8; 34],
    /// What the caller of the TPM gave: SHA-256 of a transfer's digest.
    pub extra_data: B256,
    /// Clock, reset count, restart count, safe.
    pub clock_info: [u8; 17],
    /// The TPM's.
    pub firmware_version: [u8; 8],
    /// The index.
    pub index: IndexName,
    /// What it holds.
    pub head: LogHead,
}

impl IndexName {
    /// The 34 bytes of the TPM.
    pub fn to_bytes(self) -> [u8; 34] {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&NAME_SHA256);
        bytes[2..].copy_from_slice(self.0.as_slice());
        bytes
    }

    /// From the 34 bytes of the TPM.
    pub fn from_bytes(bytes: &[u8; 34]) -> Result<Self, CertificateError> {
        let (algorithm, hash) = bytes.split_at(2);
        if *algorithm != NAME_SHA256 {
            return Err(CertificateError::NameAlgorithm {
                got: u16::from_be_bytes([algorithm[0], algorithm[1]]),
                needed: u16::from_be_bytes(NAME_SHA256),
            });
        }
        Ok(Self(B256::from_slice(hash)))
    }

    /// As a Registration names it.
    pub fn hash(self) -> NameHash {
        NameHash(keccak256(self.to_bytes()))
    }
}

impl Attest {
    /// Parses a whole attestation, strictly: every byte that does not vary is what it has to be, and none is left over.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() != ATTEST_LENGTH {
            return Err(CertificateError::Length {
                got: bytes.len(),
                needed: ATTEST_LENGTH,
            });
        }
        let mut rest = Reader { bytes, at: 0 };
        rest.expect(&MAGIC)?;
        rest.expect(&NV_CERTIFY)?;
        rest.expect(&NAME_LENGTH)?;
        let qualified_signer = rest.take();
        rest.expect(&HASH_LENGTH)?;
        let extra_data = B256::new(rest.take());
        let clock_info = rest.take();
        let firmware_version = rest.take();
        rest.expect(&NAME_LENGTH)?;
        let index = IndexName::from_bytes(&rest.take())?;
        rest.expect(&[0, 0])?;
        rest.expect(&HASH_LENGTH)?;
        let head = LogHead(B256::new(rest.take()));
        Ok(Self {
            qualified_signer,
            extra_data,
            clock_info,
            firmware_version,
            index,
            head,
        })
    }

    /// The bytes that the TPM signed.
    pub fn to_bytes(&self) -> [u8; ATTEST_LENGTH] {
        let mut bytes = [0; ATTEST_LENGTH];
        let mut at = 0;
        for part in [
            &MAGIC[..],
            &NV_CERTIFY,
            &NAME_LENGTH,
            &self.qualified_signer,
            &HASH_LENGTH,
            self.extra_data.as_slice(),
            &self.clock_info,
            &self.firmware_version,
            &NAME_LENGTH,
            &self.index.to_bytes(),
            &[0, 0],
            &HASH_LENGTH,
            self.head.0.as_slice(),
        ] {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        bytes
    }

    /// What of it has to be carried, with its signature.
    pub fn certificate(&self, signature: WalletSignature) -> Certificate {
        Certificate {
            qualified_signer: self.qualified_signer,
            clock_info: self.clock_info,
            firmware_version: self.firmware_version,
            signature,
        }
    }
}

impl Certificate {
    /// The attestation that the TPM must have signed, if the log with this name ends in this transfer.
    pub fn attest(&self, index: IndexName, head: LogHead, transfer: TransferDigest) -> Attest {
        Attest {
            qualified_signer: self.qualified_signer,
            extra_data: qualifying_data(transfer),
            clock_info: self.clock_info,
            firmware_version: self.firmware_version,
            index,
            head,
        }
    }

    /// Whether `key` certified that the log with this name, folded to `head`, ends in this transfer.
    pub fn verify(&self, key: &WalletKey, index: IndexName, head: LogHead, transfer: TransferDigest) -> bool {
        key.verify(&self.attest(index, head, transfer).to_bytes(), &self.signature)
    }
}

/// What the TPM is given to certify a transfer with.
pub fn qualifying_data(transfer: TransferDigest) -> B256 {
    B256::new(Sha256::digest(transfer.0).into())
}

/// Takes fixed lengths from bytes whose length is checked before.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        part
    }

    fn expect<const N: usize>(&mut self, needed: &[u8; N]) -> Result<(), CertificateError> {
        let at = self.at;
        let got: [u8; N] = self.take();
        match got.iter().zip(needed).position(|(got, needed)| got != needed) {
            None => Ok(()),
            Some(offset) => Err(CertificateError::Byte {
                at: at + offset,
                got: got[offset],
                needed: needed[offset],
            }),
        }
    }
}
