//! Names, policies and the registrar's authorisation of a log's first entry: pure functions, the same bytes that a TPM hashes.
//!
//! The index's policy is `PolicyOR(PolicySigned(registrar), PolicyNvWritten(set))`. The registrar signs
//!
//! ```text
//! SHA-256( nonceTPM ‖ expiration ‖ cpHash ‖ policyRef )
//! cpHash = SHA-256( TPM_CC_NV_Extend ‖ Name(index) ‖ Name(index) ‖ TPM2B(SHA-256(genesis)) )
//! ```
//!
//! so that the signature is good in one session, for one use (the nonce rolls with it), of this one command, on this index
//! while it is unwritten (writing changes its Name), with this data.

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature as Ecdsa, SigningKey};
use sha2::{Digest as _, Sha256};
use tpm2_protocol::data::{TpmAlgId, TpmCc, TpmEccCurve, TpmRh, TpmaNv, TpmaObject};

use super::certificate::key_bytes;
use super::wire::{Reader, Writer};
use crate::{Genesis, PublicKey, Result, Signature, TrustedError};

/// A TPM's name for an index or a key: algorithm (000b) and SHA-256 of its public area.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name(pub [u8; 34]);

impl Name {
    /// The Name of a `TPMS_NV_PUBLIC` or `TPMT_PUBLIC`: of whatever these bytes are.
    pub(super) fn of(public: &[u8]) -> Self {
        let mut name = [0; 34];
        name[..2].copy_from_slice(&TpmAlgId::Sha256.value().to_be_bytes());
        name[2..].copy_from_slice(&Sha256::digest(public));
        Self(name)
    }

    /// The qualified Name of the key with this Name, made under a primary key of the owner hierarchy.
    pub(super) fn qualified(self, primary: Self) -> Self {
        let primary = [&TpmRh::Owner.value().to_be_bytes(), primary.0.as_slice()].concat();
        Self::of(&[Self::of(&primary).0, self.0].concat())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({self})")
    }
}

/// The handle of an NV index. Those that a machine's owner may use: `0x01000000` to `0x01bfffff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IndexHandle(pub u32);

/// Keeps a registrar's policy key from signing anything but first entries, should it have another use.
pub(super) const POLICY_REF: &[u8] = b"micropay log";

/// What an index is, known to wallet and registrar without asking a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIndex {
    /// Where it is.
    pub handle: IndexHandle,
    /// The registrar's policy key, whose signature the first entry needs.
    pub registrar: PublicKey,
}

impl LogIndex {
    /// The Name once the log has an entry: what certificates carry, and, by its keccak256, `Registration.log`. The attribute
    /// WRITTEN is the only difference to the Name before.
    ///
    /// Equal handles and registrars give equal Names on every TPM: a Name alone says nothing about where the log is. The
    /// certificate does, because a wallet key certifies only what its own TPM holds.
    pub fn name(&self) -> Name {
        Name::of(&self.public(Self::attributes() | TpmaNv::WRITTEN))
    }

    /// The Name before the first entry, which the registrar's signature is bound to.
    pub fn unwritten_name(&self) -> Name {
        Name::of(&self.public(Self::attributes()))
    }

    /// `TPMS_NV_PUBLIC` to define the index.
    pub(super) fn definition(&self) -> Vec<u8> {
        self.public(Self::attributes())
    }

    fn attributes() -> TpmaNv {
        // Anyone on the machine may read; only the policy writes: neither owner nor platform does. No dictionary-attack
        // protection, so that power cuts and wrong passwords never lock the wallet.
        TpmaNv::POLICYWRITE | TpmaNv::AUTHREAD | TpmaNv::OWNERREAD | TpmaNv::NO_DA | TpmaNv::EXTEND
    }

    fn public(&self, attributes: TpmaNv) -> Vec<u8> {
        Writer::default()
            .u32(self.handle.0)
            .u16(TpmAlgId::Sha256.value())
            .u32(attributes.bits())
            .sized(&self.policy())
            .u16(32)
            .done()
    }

    /// The policy's digest.
    pub fn policy(&self) -> [u8; 32] {
        let [signed, written] = self.branches();
        hash(&[
            &[0; 32],
            &TpmCc::PolicyOr.value().to_be_bytes(),
            &signed,
            &written,
        ])
    }

    /// The two branches of the policy, in order.
    pub(super) fn branches(&self) -> [[u8; 32]; 2] {
        let by = Name::of(&registrar_public(self.registrar));
        let signed = hash(&[&[0; 32], &TpmCc::PolicySigned.value().to_be_bytes(), &by.0]);
        let signed = hash(&[&signed, POLICY_REF]);
        let written = hash(&[&[0; 32], &TpmCc::PolicyNvWritten.value().to_be_bytes(), &[1]]);
        [signed, written]
    }

    /// `cpHash` of the command that writes the first entry.
    pub fn first_extend_hash(&self, genesis: Genesis) -> [u8; 32] {
        let name = self.unwritten_name().0;
        let parameters = Writer::default().sized(&Sha256::digest(genesis.0)).done();
        hash(&[&TpmCc::NvExtend.value().to_be_bytes(), &name, &name, &parameters])
    }
}

/// What the wallet sends to its registrar: in which session of its TPM the first entry waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The index.
    pub index: LogIndex,
    /// `nonceTPM` of the session.
    pub nonce: [u8; 32],
}

/// The registrar's answer: the first entry may be `genesis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorisation {
    /// The entry, the digest of the wallet's registration.
    pub genesis: Genesis,
    /// Seconds since the session began, by the TPM's clock, after which the signature is void. 0: while the session lives.
    pub expiration: u16,
    /// ECDSA by the registrar's policy key over [`Challenge::to_sign`].
    pub signature: Signature,
}

impl Challenge {
    /// What the registrar signs (already hashed).
    pub fn to_sign(&self, genesis: Genesis, expiration: u16) -> [u8; 32] {
        let expiration = u32::from(expiration).to_be_bytes();
        hash(&[
            &self.nonce,
            &expiration,
            &self.index.first_extend_hash(genesis),
            POLICY_REF,
        ])
    }

    /// The registrar's signature.
    ///
    /// **A registrar signs for one wallet key once, or again only when `expiration` of the former one has passed and nothing
    /// was registered.** Two live authorisations are a fork: the owner uses one, undefines the index, defines it again and uses
    /// the other.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Malformed`] if the key does not sign (it always does), or is not the index's registrar.
    pub fn authorise(&self, key: &SigningKey, genesis: Genesis, expiration: u16) -> Result<Authorisation> {
        let registrar = key_bytes(key.verifying_key());
        if registrar != self.index.registrar {
            return Err(TrustedError::Malformed {
                what: "registrar of the index",
                got: self.index.registrar.to_string(),
                expected: registrar.to_string(),
            });
        }
        let signature: Ecdsa = key
            .sign_prehash(&self.to_sign(genesis, expiration))
            .map_err(|error| TrustedError::Malformed {
                what: "the registrar's policy key",
                got: error.to_string(),
                expected: "a signature".to_owned(),
            })?;
        let signature = Signature(signature.normalize_s().to_bytes().into());
        Ok(Authorisation {
            genesis,
            expiration,
            signature,
        })
    }
}

/// The registrar's policy key as a TPM sees it.
pub(super) fn registrar_public(key: PublicKey) -> Vec<u8> {
    let attributes = TpmaObject::USER_WITH_AUTH | TpmaObject::SIGN_ENCRYPT;
    ecc_public(attributes, &[], Symmetric::None, Scheme::Ecdsa, key)
}

/// The wallet key's template: made by the TPM, never leaves it, signs only what the TPM hashed or attests itself.
pub(super) fn wallet_template() -> Vec<u8> {
    ecc_public(
        wallet_attributes(),
        &[],
        Symmetric::None,
        Scheme::Ecdsa,
        PublicKey([0; 64]),
    )
}

fn wallet_attributes() -> TpmaObject {
    TpmaObject::FIXED_TPM
        | TpmaObject::FIXED_PARENT
        | TpmaObject::SENSITIVE_DATA_ORIGIN
        | TpmaObject::USER_WITH_AUTH
        | TpmaObject::NO_DA
        | TpmaObject::RESTRICTED
        | TpmaObject::SIGN_ENCRYPT
}

/// The parent of wallet keys: TCG's template of a storage root key (ECC P-256), the same key each time it is made.
pub(super) fn parent_template() -> Vec<u8> {
    let attributes = TpmaObject::FIXED_TPM
        | TpmaObject::FIXED_PARENT
        | TpmaObject::SENSITIVE_DATA_ORIGIN
        | TpmaObject::USER_WITH_AUTH
        | TpmaObject::NO_DA
        | TpmaObject::RESTRICTED
        | TpmaObject::DECRYPT;
    ecc_public(
        attributes,
        &[],
        Symmetric::Aes128Cfb,
        Scheme::None,
        PublicKey([0; 64]),
    )
}

/// TCG EK Credential Profile, template L-2 (ECC P-256): the key that the maker's certificate is about.
pub(super) fn endorsement_template() -> Vec<u8> {
    let attributes = TpmaObject::FIXED_TPM
        | TpmaObject::FIXED_PARENT
        | TpmaObject::SENSITIVE_DATA_ORIGIN
        | TpmaObject::ADMIN_WITH_POLICY
        | TpmaObject::RESTRICTED
        | TpmaObject::DECRYPT;
    ecc_public(
        attributes,
        &endorsement_policy(),
        Symmetric::Aes128Cfb,
        Scheme::None,
        PublicKey([0; 64]),
    )
}

/// `PolicySecret(endorsement hierarchy)`.
fn endorsement_policy() -> [u8; 32] {
    let hierarchy = TpmRh::Endorsement.value().to_be_bytes();
    let policy = hash(&[&[0; 32], &TpmCc::PolicySecret.value().to_be_bytes(), &hierarchy]);
    hash(&[&policy])
}

#[derive(Clone, Copy)]
enum Symmetric {
    None,
    Aes128Cfb,
}

#[derive(Clone, Copy)]
enum Scheme {
    None,
    Ecdsa,
}

/// `TPMT_PUBLIC` of a P-256 key. In a template `x` and `y` are zero.
fn ecc_public(
    attributes: TpmaObject,
    policy: &[u8],
    symmetric: Symmetric,
    scheme: Scheme,
    key: PublicKey,
) -> Vec<u8> {
    let null = TpmAlgId::Null.value();
    let public = Writer::default()
        .u16(TpmAlgId::Ecc.value())
        .u16(TpmAlgId::Sha256.value())
        .u32(attributes.bits())
        .sized(policy);
    let public = match symmetric {
        Symmetric::None => public.u16(null),
        Symmetric::Aes128Cfb => public
            .u16(TpmAlgId::Aes.value())
            .u16(128)
            .u16(TpmAlgId::Cfb.value()),
    };
    let public = match scheme {
        Scheme::None => public.u16(null),
        Scheme::Ecdsa => public.u16(TpmAlgId::Ecdsa.value()).u16(TpmAlgId::Sha256.value()),
    };
    public
        .u16(TpmEccCurve::NistP256.value())
        .u16(null)
        .sized(&key.0[..32])
        .sized(&key.0[32..])
        .done()
}

/// A wallet key as its TPM shows it: what the registrar is sent, and checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArea(Vec<u8>);

/// The endorsement key as its TPM shows it, or its certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndorsementKey(pub PublicKey);

impl KeyArea {
    /// Reads a `TPMT_PUBLIC` and checks that it is a wallet key: P-256, made by a TPM, bound to it for ever (`fixedTPM`,
    /// `fixedParent`, `sensitiveDataOrigin`), and restricted, so that its certificates are a TPM's word.
    ///
    /// That a real TPM holds it is shown by [`super::credential::make_credential`] with its Name.
    ///
    /// # Errors
    ///
    /// [`TrustedError::Malformed`] with both sides.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let key = public_point(bytes)?;
        let expected = ecc_public(wallet_attributes(), &[], Symmetric::None, Scheme::Ecdsa, key);
        if bytes == expected {
            Ok(Self(bytes.to_vec()))
        } else {
            Err(TrustedError::Malformed {
                what: "public area of a wallet key",
                got: hex(bytes),
                expected: hex(&expected),
            })
        }
    }

    /// The bytes, `TPMT_PUBLIC`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key.
    pub fn public_key(&self) -> PublicKey {
        let mut key = [0; 64];
        // `parse` has seen two sized coordinates of 32 bytes at the end.
        let at = self.0.len() - 68;
        key[..32].copy_from_slice(&self.0[at + 2..at + 34]);
        key[32..].copy_from_slice(&self.0[at + 36..]);
        PublicKey(key)
    }

    /// The key's Name.
    pub fn name(&self) -> Name {
        Name::of(&self.0)
    }
}

/// The point at the end of a `TPMT_PUBLIC` of a P-256 key.
pub(super) fn public_point(bytes: &[u8]) -> Result<PublicKey> {
    let mut reader = Reader::new("public area", bytes);
    reader.expect(TpmAlgId::Ecc.value())?;
    reader.expect(TpmAlgId::Sha256.value())?;
    reader.u32()?;
    reader.sized()?;
    if reader.u16()? != TpmAlgId::Null.value() {
        reader.take(4)?;
    }
    if reader.u16()? != TpmAlgId::Null.value() {
        reader.u16()?;
    }
    reader.expect(TpmEccCurve::NistP256.value())?;
    reader.expect(TpmAlgId::Null.value())?;
    let (x, y) = (reader.scalar()?, reader.scalar()?);
    reader.end()?;
    let mut key = [0; 64];
    key[..32].copy_from_slice(&x);
    key[32..].copy_from_slice(&y);
    super::certificate::point(PublicKey(key))?;
    Ok(PublicKey(key))
}

pub(super) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    parts
        .iter()
        .fold(Sha256::new(), |hasher, part| hasher.chain_update(part))
        .finalize()
        .into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endorsement_policy_is_the_one_of_the_profile() {
        // TCG EK Credential Profile, B.6 (policy A, SHA-256).
        let expected = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
        assert_eq!(hex(&endorsement_policy()), expected);
    }

    #[test]
    fn a_key_that_could_leave_its_tpm_is_no_wallet_key() {
        let key = key_bytes(SigningKey::from_slice(&[7; 32]).unwrap().verifying_key());
        let wallet = ecc_public(wallet_attributes(), &[], Symmetric::None, Scheme::Ecdsa, key);
        assert_eq!(KeyArea::parse(&wallet).unwrap().public_key(), key);
        for (bit, why) in [
            (1, "fixedTPM"),
            (4, "fixedParent"),
            (5, "sensitiveDataOrigin"),
            (16, "restricted"),
        ] {
            let mut other = wallet.clone();
            let attributes = u32::from_be_bytes(other[4..8].try_into().unwrap()) ^ (1 << bit);
            other[4..8].copy_from_slice(&attributes.to_be_bytes());
            assert!(
                matches!(KeyArea::parse(&other), Err(TrustedError::Malformed { .. })),
                "without {why}"
            );
        }
        let mut off_curve = wallet;
        *off_curve.last_mut().unwrap() ^= 1;
        assert!(matches!(
            KeyArea::parse(&off_curve),
            Err(TrustedError::NotAPoint { .. })
        ));
    }
}
