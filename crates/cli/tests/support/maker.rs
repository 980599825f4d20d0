//! A maker of TPMs, who certifies their endorsement keys: what software TPMs have none of.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use trusted::swtpm::Emulator;
use trusted::tpm::{IndexHandle, LogIndex, Passwords};
use trusted::{PublicKey, Tpm};

/// tcg-kp-EKCertificate.
const ENDORSES: &[u64] = &[2, 23, 133, 8, 1];
/// An index that no wallet has.
const SPARE: IndexHandle = IndexHandle(0x0150_0099);

pub(crate) struct Maker {
    /// Its certificate, DER.
    pub(crate) root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

struct Endorsement(Vec<u8>);

impl PublicKeyData for Endorsement {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Maker {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = params("a maker of TPMs");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = params.self_signed(&key).unwrap();
        Self {
            root: root.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The certificate of this TPM's endorsement key.
    pub(crate) fn endorse(&self, emulator: &Emulator) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let index = LogIndex {
            handle: SPARE,
            // Any point: nothing is logged there.
            registrar: generator(),
        };
        let connection = emulator.connect().unwrap();
        let mut tpm = Tpm::create(connection, folder.path(), Passwords::default(), index).unwrap();
        let key = tpm.endorsement_key().unwrap();
        tpm.undefine().unwrap();
        let mut params = params("a TPM");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(ENDORSES.to_vec())];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 9], vec![0x30, 0])];
        let point = [&[4][..], &key.0.0].concat();
        let certificate = params.signed_by(&Endorsement(point), &self.issuer).unwrap();
        certificate.der().to_vec()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2035, 1, 1);
    params
}

fn generator() -> PublicKey {
    let mut scalar = [0; 32];
    scalar[31] = 1;
    let key = p256::ecdsa::SigningKey::from_slice(&scalar).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    PublicKey(point.as_bytes()[1..].try_into().unwrap())
}
