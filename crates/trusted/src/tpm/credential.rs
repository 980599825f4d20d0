//! Credential activation: how a registrar learns that a wallet key lives in the TPM of an endorsement key. The registrar
//! encrypts a secret for that endorsement key and that Name; only a TPM that holds both gives the secret back
//! ([`crate::Tpm::activate_credential`]). TPM 2.0 Architecture, section 24; here is the side without a TPM.

use aes::Aes128;
use aes::cipher::KeyIvInit as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::ecdh::diffie_hellman;
use p256::{PublicKey as Point, SecretKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::certificate::{key_bytes, point};
use super::policy::{EndorsementKey, Name, hash};
use super::wire::Writer;
use crate::{PublicKey, Result};

/// A secret that the right TPM gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `TPMS_ID_OBJECT`: integrity and encrypted secret.
    pub blob: Vec<u8>,
    /// `TPMS_ECC_POINT`: the ephemeral key.
    pub encrypted_seed: Vec<u8>,
}

/// Encrypts `secret` for the TPM that holds both `endorsement` and the wallet key of that Name. Draws an ephemeral key.
///
/// # Errors
///
/// [`crate::TrustedError::NotAPoint`] if `endorsement` is none.
pub fn make_credential(endorsement: EndorsementKey, wallet: Name, secret: [u8; 32]) -> Result<Credential> {
    let (seed, encrypted_seed) = shared_seed(endorsement.0, b"IDENTITY\0")?;

    let storage = kdf_a(seed.as_slice(), b"STORAGE\0", &[&wallet.0], 128);
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&storage[..16]);
    let mut identity = Writer::default().sized(&secret).done();
    cfb_mode::Encryptor::<Aes128>::new(&(*key).into(), &[0; 16].into()).encrypt(&mut identity);

    let key = kdf_a(seed.as_slice(), b"INTEGRITY\0", &[], 256);
    let integrity = mac(key.as_slice(), &[&identity, &wallet.0]);
    Ok(Credential {
        blob: Writer::default().sized(&integrity).raw(&identity).done(),
        encrypted_seed,
    })
}

/// A seed that the TPM with that key can find again (KDFe), and the ephemeral point that it needs for it. `label` ends with its
/// zero byte.
pub(super) fn shared_seed(key: PublicKey, label: &[u8]) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>)> {
    let theirs = Point::from(&point(key)?);
    let ephemeral = loop {
        // 32 random bytes are a key, but for one in 2³².
        let bytes = Zeroizing::new(rand::random::<[u8; 32]>());
        if let Ok(key) = SecretKey::from_slice(bytes.as_slice()) {
            break key;
        }
    };
    let ours = key_bytes(&ephemeral.public_key().into());
    let shared = diffie_hellman(ephemeral.to_nonzero_scalar(), theirs.as_affine());
    let (x, y) = ours.0.split_at(32);
    let seed = hash(&[
        &1u32.to_be_bytes(),
        shared.raw_secret_bytes().as_slice(),
        label,
        x,
        &key.0[..32],
    ]);
    Ok((Zeroizing::new(seed), Writer::default().sized(x).sized(y).done()))
}

/// KDFa with SHA-256, for up to 256 bits. `label` ends with its zero byte.
pub(super) fn kdf_a(key: &[u8], label: &[u8], context: &[&[u8]], bits: u32) -> Zeroizing<[u8; 32]> {
    let (counter, bits) = (1u32.to_be_bytes(), bits.to_be_bytes());
    let parts = [&[&counter, label], context, &[&bits]].concat();
    Zeroizing::new(mac(key, &parts))
}

/// HMAC-SHA-256.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // As HMAC does: a key is hashed if it is longer than a block, and padded with zeros.
    let mut block = Zeroizing::new([0; 64]);
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut mac = Hmac::<Sha256>::new(&(*block).into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}
