//! ECDSA on P-256 as secure elements do it: the message is hashed with SHA-256 once more, `s` is in the lower half, a
//! signature is the 64 bytes `r ‖ s` (§0, row 17 of §2). This file holds all use of the two curve libraries: p256 parses keys
//! and signs (RFC 6979), ring verifies. A public key is a point of the curve by construction.
//!
//! Why two: ring verifies in a fraction of p256's time (`libraries_agree_on_p256` prints both), which is most of what a payment
//! computes; but it signs with nonces of its own.

use core::fmt;

use alloy_primitives::{B256, U256, hex, keccak256};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{SigningKey, VerifyingKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{WalletId, WalletKeyError, WalletSignatureError};

/// The group order n, big-endian.
const ORDER: [u8; 32] = hex!("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
/// n/2, rounded down: the highest `s` that is not malleable.
const HALF_ORDER: [u8; 32] = hex!("7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8");

/// A wallet's public key: a point of P-256, not the identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WalletKey {
    x: B256,
    y: B256,
}

/// A well-formed signature by a wallet's key: both scalars are in range, `s` is at most n/2.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WalletSignature([u8; 64]);

/// A wallet's private key where software holds it: DEV classes, and tests. Wiped when dropped.
#[derive(Clone)]
pub struct SoftwareKey {
    signing: SigningKey,
    public: WalletKey,
}

impl WalletKey {
    /// Length of the compressed form in bytes.
    pub const COMPRESSED: usize = 33;

    /// The key with these coordinates, if it is on the curve.
    pub fn new(x: B256, y: B256) -> Result<Self, WalletKeyError> {
        let key = Self { x, y };
        match VerifyingKey::from_sec1_bytes(&key.uncompressed()) {
            Ok(_) => Ok(key),
            Err(_) => Err(WalletKeyError::NotOnCurve { x, y }),
        }
    }

    /// Parses the compressed form: the parity of `y`, then `x`.
    pub fn from_compressed(bytes: &[u8]) -> Result<Self, WalletKeyError> {
        let (got, needed) = (bytes.len(), Self::COMPRESSED);
        if got != needed {
            return Err(WalletKeyError::Length { got, needed });
        }
        if !matches!(bytes[0], 2 | 3) {
            return Err(WalletKeyError::BadParity { got: bytes[0] });
        }
        let x = B256::from_slice(&bytes[1..]);
        let key = VerifyingKey::from_sec1_bytes(bytes).map_err(|_| WalletKeyError::NoPoint { x })?;
        Ok(Self::from_point(key))
    }

    /// The parity of `y`, then `x`.
    pub fn to_compressed(&self) -> [u8; Self::COMPRESSED] {
        let mut bytes = [2 + (self.y[31] & 1); Self::COMPRESSED];
        bytes[1..].copy_from_slice(self.x.as_slice());
        bytes
    }

    /// The x-coordinate.
    pub fn x(&self) -> B256 {
        self.x
    }

    /// The y-coordinate.
    pub fn y(&self) -> B256 {
        self.y
    }

    /// As the contract takes it.
    pub fn to_sol(&self) -> bindings::offline::Key {
        bindings::offline::Key {
            x: self.x(),
            y: self.y(),
        }
    }

    /// The name of the wallet with this key.
    pub fn wallet(&self) -> WalletId {
        WalletId(keccak256([self.x.0, self.y.0].concat()))
    }

    /// Whether this key signed `message`, whatever its length: ECDSA on its SHA-256.
    pub fn verify(&self, message: &[u8], signature: &WalletSignature) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.uncompressed())
            .verify(message, &signature.0)
            .is_ok()
    }

    fn uncompressed(&self) -> [u8; 65] {
        let mut bytes = [4; 65];
        bytes[1..33].copy_from_slice(self.x.as_slice());
        bytes[33..].copy_from_slice(self.y.as_slice());
        bytes
    }

    fn from_point(key: VerifyingKey) -> Self {
        let point = key.to_sec1_point(false);
        // 65 bytes, the first says "uncompressed": the identity is no VerifyingKey.
        let bytes = point.as_bytes();
        Self {
            x: B256::from_slice(&bytes[1..33]),
            y: B256::from_slice(&bytes[33..65]),
        }
    }
}

impl WalletSignature {
    /// Length in bytes.
    pub const LENGTH: usize = 64;

    /// Parses `r ‖ s`, strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WalletSignatureError> {
        let signature = Self::in_range(bytes)?;
        let s = &signature.0[32..];
        if *s > HALF_ORDER[..] {
            return Err(WalletSignatureError::HighS {
                got: U256::from_be_slice(s),
                limit: U256::from_be_bytes(HALF_ORDER),
            });
        }
        Ok(signature)
    }

    /// Takes what a component signed, and brings a high `s` into the lower half. For the wallet's own component only:
    /// what arrives from outside is parsed by [`WalletSignature::from_bytes`].
    pub fn normalised(bytes: &[u8]) -> Result<Self, WalletSignatureError> {
        let mut signature = Self::in_range(bytes)?;
        if signature.0[32..] > HALF_ORDER[..] {
            let s = U256::from_be_bytes(ORDER) - U256::from_be_slice(&signature.0[32..]);
            signature.0[32..].copy_from_slice(&s.to_be_bytes::<32>());
        }
        Ok(signature)
    }

    /// `r ‖ s`.
    pub fn to_bytes(&self) -> [u8; 64] {
        self.0
    }

    /// As the contract takes it.
    pub fn to_sol(&self) -> bindings::offline::Signature {
        bindings::offline::Signature {
            r: self.r(),
            s: self.s(),
        }
    }

    /// `r`, as a contract argument.
    pub fn r(&self) -> B256 {
        B256::from_slice(&self.0[..32])
    }

    /// `s`, as a contract argument.
    pub fn s(&self) -> B256 {
        B256::from_slice(&self.0[32..])
    }

    fn in_range(bytes: &[u8]) -> Result<Self, WalletSignatureError> {
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| WalletSignatureError::Length {
            got: bytes.len(),
            needed: Self::LENGTH,
        })?;
        for scalar in [&bytes[..32], &bytes[32..]] {
            // Big-endian byte strings of one length compare as their numbers do.
            if *scalar == [0; 32] || *scalar >= ORDER[..] {
                return Err(WalletSignatureError::ScalarOutOfRange {
                    got: U256::from_be_slice(scalar),
                    limit: U256::from_be_bytes(ORDER),
                });
            }
        }
        Ok(Self(bytes))
    }
}

impl SoftwareKey {
    /// Wraps 32 private bytes. Uniform bytes fail with probability 2^-32; draw again then.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, WalletKeyError> {
        let signing = SigningKey::from_slice(bytes).map_err(|_| WalletKeyError::SecretOutOfRange)?;
        let public = WalletKey::from_point(*signing.verifying_key());
        Ok(Self { signing, public })
    }

    /// The private bytes, for the keystore that keeps them.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes().into())
    }

    /// The public half.
    pub fn public_key(&self) -> &WalletKey {
        &self.public
    }

    /// Signs a message: ECDSA on its SHA-256, RFC 6979 nonce, low `s`.
    pub fn sign(&self, message: &[u8]) -> WalletSignature {
        let signature: p256::ecdsa::Signature = self
            .signing
            .sign_prehash(&Sha256::digest(message))
            .expect("a SHA-256 digest is as long as the curve needs");
        WalletSignature(signature.normalize_s().to_bytes().into())
    }
}

impl fmt::Debug for WalletKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalletKey({}, {})", self.x, self.y)
    }
}

impl fmt::Debug for WalletSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalletSignature({self})")
    }
}

impl fmt::Display for WalletSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareKey({})", self.public.wallet())
    }
}
