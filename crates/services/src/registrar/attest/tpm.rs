//! Evidence of a TPM 2.0. It is a dialogue, since a TPM never signs with its endorsement key:
//!
//! 1. [`Tpm`] judges the endorsement certificate's chain, the public area of the wallet key, and where the log is.
//! 2. [`Activation`]: a secret that only the TPM with both keys can give back.
//! 3. [`verify_first`]: the certificate that the log has begun with the registration, in the TPM of that key.

use alloy_primitives::{B256, Bytes, hex, keccak256};
use protocol::offline::{RegistrationDigest, Timestamp, WalletKey};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use trusted::{
    Certified, Genesis, Head, PublicKey, Signature, TransferDigest, TrustedError,
    tpm::{Credential, EndorsementKey, IndexHandle, KeyArea, LogIndex, certificate, make_credential},
};

use super::{
    AttestationError, AttestationVerifier, Expected, Facts, Format, Rules,
    chain::{self, Purpose},
    json, malformed,
};

/// tcg-kp-EKCertificate, 2.23.133.8.1.
const ENDORSEMENT: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

/// `SubjectPublicKeyInfo` of a P-256 key, up to its point.
const P256: [u8; 27] = hex!("3059301306072a8648ce3d020106082a8648ce3d03010703420004");

/// Handles of NV indices that a machine's owner may use.
const OWNERS: std::ops::RangeInclusive<u32> = 0x0100_0000..=0x01bf_ffff;

/// What a wallet in a TPM sends first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TpmEvidence {
    /// The maker's certificate of the endorsement key, X.509 DER.
    pub endorsement_certificate: Bytes,
    /// Certificates between it and the maker's root, in any order.
    pub intermediates: Vec<Bytes>,
    /// `TPMT_PUBLIC` of the wallet key.
    pub key_area: Bytes,
    /// Where the log's index is.
    pub index_handle: u32,
}

/// Judges the first step.
#[derive(Clone, Debug)]
pub struct Tpm {
    rules: Rules,
}

/// A challenge that only the right TPM answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// For the wallet.
    pub credential: Credential,
    /// SHA-256 of the secret: what the registrar keeps.
    pub expected: B256,
}

/// What [`Tpm`] has verified, and the next steps need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmFacts {
    /// The endorsement key.
    pub endorsement: EndorsementKey,
    /// The wallet key.
    pub key: KeyArea,
    /// Where the log is.
    pub handle: IndexHandle,
}

impl Tpm {
    /// By the rules of a class.
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }

    /// As [`AttestationVerifier::verify`], with what the dialogue goes on with.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn judge(
        &self,
        evidence: &[u8],
        key: &WalletKey,
        now: Timestamp,
    ) -> Result<TpmFacts, AttestationError> {
        let evidence: TpmEvidence = json(evidence)?;
        let area = KeyArea::parse(&evidence.key_area).map_err(|error| malformed("wallet key", error))?;
        let (got, needed) = (area.public_key(), public_key(key));
        if got != needed {
            return Err(AttestationError::WrongKey {
                got: got.to_string(),
                needed: needed.to_string(),
            });
        }
        if !OWNERS.contains(&evidence.index_handle) {
            return Err(malformed(
                "handle of the log",
                format!("{:#010x} is not in {OWNERS:#010x?}", evidence.index_handle),
            ));
        }
        let leaf = CertificateDer::from(unpadded(&evidence.endorsement_certificate)?);
        let intermediates: Vec<_> = evidence
            .intermediates
            .iter()
            .map(|der| CertificateDer::from(&der[..]))
            .collect();
        if !self.rules.allow_emulated {
            let all = std::iter::once(&leaf)
                .chain(&intermediates)
                .chain(&self.rules.roots);
            all.into_iter().try_for_each(|der| check_real(der))?;
        }
        let what = "endorsement certificate";
        let purpose = Purpose::IfStated(ENDORSEMENT);
        let end = chain::verify(what, &leaf, &intermediates, &self.rules.roots, purpose, now)?;
        Ok(TpmFacts {
            endorsement: endorsement_key(end.subject_public_key_info().as_ref())?,
            key: area,
            handle: IndexHandle(evidence.index_handle),
        })
    }
}

impl AttestationVerifier for Tpm {
    fn format(&self) -> Format {
        Format::Tpm
    }

    /// The first step. That the TPM of the certificate holds the key, and the log, is shown by the next ones.
    fn verify(
        &self,
        evidence: &[u8],
        expected: &Expected,
        now: Timestamp,
    ) -> Result<Facts, AttestationError> {
        let facts = self.judge(evidence, &expected.key, now)?;
        Ok(Facts {
            format: Format::Tpm,
            device: Some(facts.device()),
            measurement: Vec::new(),
            tcb: "certified".to_owned(),
        })
    }
}

impl TpmFacts {
    /// Which TPM it is: the hash of its endorsement key.
    pub fn device(&self) -> B256 {
        keccak256(self.endorsement.0.0)
    }

    /// The log's index, whose first entry the registrar with this policy key authorises.
    pub fn index(&self, registrar: PublicKey) -> LogIndex {
        LogIndex {
            handle: self.handle,
            registrar,
        }
    }

    /// Hides `secret`, which must be random, from every other TPM.
    ///
    /// # Errors
    ///
    /// [`AttestationError::Malformed`] if the endorsement key is no point; it was checked.
    pub fn activation(&self, secret: [u8; 32]) -> Result<Activation, AttestationError> {
        let credential = make_credential(self.endorsement, self.key.name(), secret)
            .map_err(|error| malformed("endorsement key", error))?;
        Ok(Activation {
            credential,
            expected: answer_hash(&secret),
        })
    }
}

/// What the registrar keeps of a secret.
pub fn answer_hash(secret: &[u8; 32]) -> B256 {
    B256::new(Sha256::digest(secret).into())
}

/// Judges the last step: the log of `key` is `index`, has begun with `genesis`, and has no other entry.
///
/// # Errors
///
/// The first field that differs, or the signature.
pub fn verify_first(
    key: &WalletKey,
    index: LogIndex,
    genesis: RegistrationDigest,
    attest: &[u8],
    signature: &[u8],
) -> Result<(), AttestationError> {
    let genesis = Genesis(genesis.0.0);
    let certified = Certified {
        attest: attest.try_into().map_err(|_| {
            malformed(
                "certificate of the log",
                format!("{} bytes, not {}", attest.len(), certificate::LENGTH),
            )
        })?,
        signature: Signature(
            signature
                .try_into()
                .map_err(|_| malformed("signature", format!("{} bytes, not 64", signature.len())))?,
        ),
    };
    certified
        .verify(
            public_key(key),
            index.name(),
            Head::first(genesis),
            TransferDigest(genesis.0),
        )
        .map_err(|error| match error {
            TrustedError::CertificateMismatch { field, got, expected } => AttestationError::BadSignature {
                what: "certificate of the log",
                problem: format!("{field} is {got}, not {expected}"),
            },
            other => AttestationError::BadSignature {
                what: "certificate of the log",
                problem: other.to_string(),
            },
        })
}

/// A wallet's key as trusted components have it.
pub fn public_key(key: &WalletKey) -> PublicKey {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(key.x().as_slice());
    bytes[32..].copy_from_slice(key.y().as_slice());
    PublicKey(bytes)
}

fn endorsement_key(info: &[u8]) -> Result<EndorsementKey, AttestationError> {
    let point = info
        .strip_prefix(&P256)
        .and_then(|point| <[u8; 64]>::try_from(point).ok())
        .ok_or_else(|| malformed("endorsement key", "it is no uncompressed key on P-256"))?;
    WalletKey::new(B256::from_slice(&point[..32]), B256::from_slice(&point[32..]))
        .map_err(|error| malformed("endorsement key", error))?;
    Ok(EndorsementKey(PublicKey(point)))
}

/// Some makers fill the index with zeros after the certificate.
fn unpadded(der: &[u8]) -> Result<&[u8], AttestationError> {
    let [0x30, 0x82, high, low, ..] = *der else {
        return Err(malformed("endorsement certificate", "it is no DER sequence"));
    };
    let length = 4 + usize::from(u16::from_be_bytes([high, low]));
    let (certificate, padding) = der
        .split_at_checked(length)
        .ok_or_else(|| malformed("endorsement certificate", "it is cut off"))?;
    if padding.iter().any(|byte| !matches!(byte, 0 | 0xff)) {
        return Err(malformed("endorsement certificate", "something follows it"));
    }
    Ok(certificate)
}

/// swtpm says who it is, in the names of its authority (`swtpm-localca`) and of its model (`swtpm`). A root with another name
/// is not in a class by accident.
fn check_real(der: &[u8]) -> Result<(), AttestationError> {
    const NAME: &[u8] = b"swtpm";
    match der
        .windows(NAME.len())
        .any(|part| part.eq_ignore_ascii_case(NAME))
    {
        false => Ok(()),
        true => Err(AttestationError::Emulated {
            got: "swtpm".to_owned(),
        }),
    }
}

/// Whether a certificate is of a software TPM's authority.
pub fn is_emulators(der: &[u8]) -> bool {
    check_real(der).is_err()
}
