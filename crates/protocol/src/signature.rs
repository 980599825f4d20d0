//! ECDSA on secp256k1, strict: 65 bytes `r ‖ s ‖ v`, `v` 27 or 28, `s` in the lower half (rule E2). This file holds all use
//! of the two curve libraries: k256 signs (RFC 6979) and libsecp256k1 recovers and verifies.
//!
//! Why two: in one run of `make bench`, verifying takes k256 2.3 times as long as libsecp256k1 and recovering 2.1 times,
//! while libsecp256k1 (which re-blinds its context each time) takes 1.5 times as long to sign. Checking a signature is
//! nearly all that a merchant spends on a ticket, so each library does what it is faster at.
//! `tests/signature.rs` holds the two against each other on random and on degenerate signatures.

use core::fmt;

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use k256::ecdsa::SigningKey;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey as Point};
use thiserror::Error;
use zeroize::Zeroizing;

/// The group order n, big-endian.
const ORDER: [u8; 32] = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
/// n/2, rounded down: the highest `s` that is not malleable.
const HALF_ORDER: [u8; 32] = hex!("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0");

/// A well-formed signature: `r` and `s` are scalars other than 0, `s` is at most n/2, `v` is 27 or 28. Every signature
/// that the contract accepts, and no other encoding of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 65]);

/// A private key that signs off-chain promises: an escrow's, a channel's receipt key, a bank's. Hidden from `Debug`, wiped
/// when dropped.
#[derive(Clone)]
pub struct Key {
    signing: SigningKey,
    public: PublicKey,
}

/// A public key, parsed, with its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    key: Point,
    address: Address,
}

/// Why bytes are not a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// A signature has 65 bytes.
    #[error("signature has {got} bytes, not 65")]
    Length {
        /// Number of bytes.
        got: usize,
    },
    /// The recovery byte is 27 or 28.
    #[error("signature has v = {got}, not 27 or 28")]
    BadV {
        /// The byte.
        got: u8,
    },
    /// `r` is 0, or not below the group order.
    #[error("signature has r = {got:#x}, outside 1..{limit:#x}")]
    ROutOfRange {
        /// The value.
        got: U256,
        /// The group order.
        limit: U256,
    },
    /// `s` is 0.
    #[error("signature has s = 0")]
    SZero,
    /// `s` is above n/2: the malleated twin of a signature.
    #[error("signature has s = {got:#x}, above half the order {limit:#x}")]
    HighS {
        /// The value.
        got: U256,
        /// n/2.
        limit: U256,
    },
    /// No point of the curve has this `r` and `v`, or the key would be the identity: no key made this signature.
    #[error("no key made the signature (r = {r}, v = {v})")]
    NoKey {
        /// `r`.
        r: B256,
        /// `v`.
        v: u8,
    },
}

/// Why bytes are not a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a private key is above 0 and below the group order")]
pub struct KeyError;

/// The key that made a signature, by the contract's rule (`ecrecover`).
pub fn recover(digest: B256, signature: &Signature) -> Result<PublicKey, SignatureError> {
    let (rs, v) = signature.parts();
    let no_key = || SignatureError::NoKey { r: signature.r(), v };
    let id = if v == 27 {
        RecoveryId::Zero
    } else {
        RecoveryId::One
    };
    let recoverable = RecoverableSignature::from_compact(rs, id).map_err(|_| no_key())?;
    let key = recoverable
        .recover_ecdsa(Message::from_digest(digest.0))
        .map_err(|_| no_key())?;
    Ok(PublicKey::new(key))
}

/// Whether `key` made the signature. Cheaper than [`recover`] for a key that is known; does not judge `v`.
pub fn verify(digest: B256, signature: &Signature, key: &PublicKey) -> bool {
    let (rs, _) = signature.parts();
    secp256k1::ecdsa::Signature::from_compact(rs)
        .and_then(|parsed| secp256k1::ecdsa::verify(&parsed, Message::from_digest(digest.0), &key.key))
        .is_ok()
}

impl Signature {
    /// Length in bytes.
    pub const LENGTH: usize = 65;

    /// Parses `r ‖ s ‖ v`, strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: [u8; 65] = bytes
            .try_into()
            .map_err(|_| SignatureError::Length { got: bytes.len() })?;
        let [r, s] = [&bytes[..32], &bytes[32..64]];
        if !matches!(bytes[64], 27 | 28) {
            return Err(SignatureError::BadV { got: bytes[64] });
        }
        // Big-endian byte strings of one length compare as their numbers do.
        if *r == [0; 32] || *r >= ORDER[..] {
            return Err(SignatureError::ROutOfRange {
                got: number(r),
                limit: number(&ORDER),
            });
        }
        if *s == [0; 32] {
            return Err(SignatureError::SZero);
        }
        if *s > HALF_ORDER[..] {
            return Err(SignatureError::HighS {
                got: number(s),
                limit: number(&HALF_ORDER),
            });
        }
        Ok(Self(bytes))
    }

    /// `r ‖ s ‖ v`.
    pub fn to_bytes(&self) -> [u8; 65] {
        self.0
    }

    /// As a contract argument.
    pub fn to_sol<T: From<Self>>(&self) -> T {
        (*self).into()
    }

    /// From a contract argument, as strictly as from bytes.
    pub fn from_sol<'a, T>(signature: &'a T) -> Result<Self, SignatureError>
    where
        Self: TryFrom<&'a T, Error = SignatureError>,
    {
        signature.try_into()
    }

    /// From its parts, as strictly as from bytes.
    pub fn from_parts(r: B256, s: B256, v: u8) -> Result<Self, SignatureError> {
        let mut bytes = [v; 65];
        bytes[..32].copy_from_slice(r.as_slice());
        bytes[32..64].copy_from_slice(s.as_slice());
        Self::from_bytes(&bytes)
    }

    /// The same `r` and `s` with the other `v`.
    pub(crate) fn with_other_v(mut self) -> Self {
        self.0[64] = 27 + 28 - self.0[64];
        self
    }

    /// The point's x-coordinate.
    pub fn r(&self) -> B256 {
        B256::from_slice(&self.0[..32])
    }

    /// The scalar, at most n/2.
    pub fn s(&self) -> B256 {
        B256::from_slice(&self.0[32..64])
    }

    /// 27 or 28: the parity of the point.
    pub fn v(&self) -> u8 {
        self.0[64]
    }

    fn parts(&self) -> (&[u8], u8) {
        (&self.0[..64], self.0[64])
    }
}

impl From<Signature> for bindings::ticket::Signature {
    fn from(signature: Signature) -> Self {
        Self {
            r: signature.r(),
            s: signature.s(),
            v: signature.v(),
        }
    }
}

impl TryFrom<&bindings::ticket::Signature> for Signature {
    type Error = SignatureError;

    fn try_from(signature: &bindings::ticket::Signature) -> Result<Self, SignatureError> {
        Self::from_parts(signature.r, signature.s, signature.v)
    }
}

impl From<Signature> for bindings::channel::Signature {
    fn from(signature: Signature) -> Self {
        Self {
            r: signature.r(),
            s: signature.s(),
            v: signature.v(),
        }
    }
}

impl From<Signature> for bindings::offline::RegistrarSignature {
    fn from(signature: Signature) -> Self {
        Self {
            r: signature.r(),
            s: signature.s(),
            v: signature.v(),
        }
    }
}

impl TryFrom<&bindings::channel::Signature> for Signature {
    type Error = SignatureError;

    fn try_from(signature: &bindings::channel::Signature) -> Result<Self, SignatureError> {
        Self::from_parts(signature.r, signature.s, signature.v)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl Key {
    /// Wraps 32 private bytes. Uniform bytes fail with probability 2^-128; draw again then.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let signing = SigningKey::from_slice(bytes).map_err(|_| KeyError)?;
        let point = signing.verifying_key().to_sec1_point(false);
        let key = Point::from_slice(point.as_bytes()).expect("both libraries know the same curve");
        Ok(Self {
            signing,
            public: PublicKey::new(key),
        })
    }

    /// The private bytes, for the keystore that keeps them.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes().into())
    }

    /// The address of the key.
    pub fn address(&self) -> Address {
        self.public.address
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a digest: RFC 6979 nonce, low `s`. One digest has one signature, so that signing a message again leaks
    /// nothing. (A ticket's draw never sees signature bytes; a channel's locks depend on it.)
    pub fn sign(&self, digest: B256) -> Signature {
        let (signature, id) = self.signing.sign_prehash_recoverable(digest.as_slice());
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + u8::from(id.is_y_odd());
        Signature(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.public.address)
    }
}

impl PublicKey {
    /// The address of the key.
    pub fn address(&self) -> Address {
        self.address
    }

    fn new(key: Point) -> Self {
        // The first byte says "uncompressed" and is no part of the key.
        let hash = keccak256(&key.serialize_uncompressed()[1..]);
        Self {
            key,
            address: Address::from_slice(&hash[12..]),
        }
    }
}

fn number(bytes: &[u8]) -> U256 {
    U256::from_be_slice(bytes)
}
