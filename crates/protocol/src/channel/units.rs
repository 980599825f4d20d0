//! Names and numbers of the channel scheme; those of every scheme are in `crate::units`. What arrives from outside is
//! parsed strictly, so that a [`Sigma`] has one encoding and a [`Lock`] can never be half a lock.

use core::fmt;

use alloy_primitives::{Address, B256, hex, keccak256};

use super::{ChainError, SigmaError};
use crate::signature::{PublicKey, Signature, recover};

/// Longest chain that the contract takes. Bounds what a walk can cost and what a payer must hash once.
pub const MAX_LENGTH: Index = Index(1 << 20);

/// The least reputation with which a bank's customer opens or sells over a channel (C-14).
pub const MIN_REPUTATION: Reputation = Reputation(50);

/// A channel's name: `keccak256(abi.encode(chainId, contract, client, vendor, salt))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub B256);

/// Units paid over a channel, in all: payment `i` is worth `i × unit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u32);

/// A link of the value chain. `w_i` is worth `i` units to the vendor and nothing to anybody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(pub B256);

/// What is paid for, hashed by whoever knows it: an HTTP call, a piece of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemHash(pub B256);

/// Everything paid for so far, hashed in order; the paper's Tx_i, with content (C-12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transcript(pub B256);

/// Pins the one signature that opens a lock: `keccak256(abi.encode(channelId, index, r, s))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub B256);

/// A signature as it is locked: `r ‖ s`, both scalars other than 0, `s` in the lower half. It has no `v`: the signer is
/// known, and a byte that decides nothing must not change what a lock hides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sigma([u8; 64]);

/// A locked signature: the one before, XOR a mask that the next one makes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lock(pub [u8; 64]);

/// A bank's opinion of a customer, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reputation(u8);

impl Index {
    /// Nothing is paid.
    pub const ZERO: Self = Self(0);

    /// `units` more, unless there is no such index.
    pub fn plus(self, units: u32) -> Option<Self> {
        self.0.checked_add(units).map(Self)
    }

    /// How many units `self` is above `lower`; 0 if it is not above.
    pub fn above(self, lower: Self) -> u32 {
        self.0.saturating_sub(lower.0)
    }
}

impl Tag {
    /// The tag of the signature `sigma` of receipt `index`.
    pub fn of(channel: ChannelId, index: Index, sigma: &Sigma) -> Self {
        Self::of_bytes(channel, index, &sigma.0)
    }

    /// The tag of any 64 bytes, as the contract makes it.
    pub(super) fn of_bytes(channel: ChannelId, index: Index, sigma: &[u8; 64]) -> Self {
        let mut bytes = [0; 4 * 32];
        bytes[..32].copy_from_slice(channel.0.as_slice());
        bytes[60..64].copy_from_slice(&index.0.to_be_bytes());
        bytes[64..].copy_from_slice(sigma);
        Self(keccak256(bytes))
    }
}

impl Sigma {
    /// Length in bytes.
    pub const LENGTH: usize = 64;

    /// Parses `r ‖ s`, strictly: (r, n − s) is a second signature of the same message, which opens nothing (C-6).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SigmaError> {
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| SigmaError::Length {
            got: bytes.len(),
            needed: Self::LENGTH,
        })?;
        let mut with_v = [27; 65];
        with_v[..64].copy_from_slice(&bytes);
        Signature::from_bytes(&with_v)?;
        Ok(Self(bytes))
    }

    /// `r ‖ s`.
    pub fn to_bytes(&self) -> [u8; 64] {
        self.0
    }

    /// `r`.
    pub fn r(&self) -> B256 {
        B256::from_slice(&self.0[..32])
    }

    /// `s`.
    pub fn s(&self) -> B256 {
        B256::from_slice(&self.0[32..])
    }

    /// The signature with its `v` and the key that made it, if that key has the address `signer`.
    pub fn signed_by(&self, digest: B256, signer: Address) -> Option<(Signature, PublicKey)> {
        [27, 28].into_iter().find_map(|v| {
            let signature = self.with_v(v)?;
            let key = recover(digest, &signature).ok()?;
            (key.address() == signer).then_some((signature, key))
        })
    }

    /// Whether `key` made the signature.
    pub fn verify(&self, digest: B256, key: &PublicKey) -> bool {
        // Verification does not look at `v`.
        self.with_v(27)
            .is_some_and(|signature| crate::signature::verify(digest, &signature, key))
    }

    fn with_v(&self, v: u8) -> Option<Signature> {
        // The form is right by construction.
        Signature::from_parts(self.r(), self.s(), v).ok()
    }
}

impl From<&Signature> for Sigma {
    fn from(signature: &Signature) -> Self {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&signature.to_bytes()[..64]);
        Self(bytes)
    }
}

impl Lock {
    /// Length in bytes.
    pub const LENGTH: usize = 64;

    /// Parses a lock. Any 64 bytes are one: whether it opens shows when it is opened.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SigmaError> {
        bytes.try_into().map(Self).map_err(|_| SigmaError::Length {
            got: bytes.len(),
            needed: Self::LENGTH,
        })
    }

    /// The first half, as the contract takes it.
    pub fn r(&self) -> B256 {
        B256::from_slice(&self.0[..32])
    }

    /// The second half.
    pub fn s(&self) -> B256 {
        B256::from_slice(&self.0[32..])
    }
}

impl Reputation {
    /// The best.
    pub const MAX: Self = Self(100);

    /// A reputation, if it is one.
    pub const fn new(got: u8) -> Option<Self> {
        if got <= Self::MAX.0 { Some(Self(got)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Raised, to no more than [`Reputation::MAX`].
    pub const fn raised(self, by: u8) -> Self {
        let raised = self.0.saturating_add(by);
        if raised < Self::MAX.0 {
            Self(raised)
        } else {
            Self::MAX
        }
    }

    /// Lowered, to no less than 0.
    pub const fn lowered(self, by: u8) -> Self {
        Self(self.0.saturating_sub(by))
    }
}

impl TryFrom<u32> for Index {
    type Error = ChainError;

    /// An index that a chain can have.
    fn try_from(got: u32) -> Result<Self, ChainError> {
        if got > MAX_LENGTH.0 {
            return Err(ChainError::LengthOutOfRange {
                got: Self(got),
                low: Self(1),
                high: MAX_LENGTH,
            });
        }
        Ok(Self(got))
    }
}

macro_rules! display_inner {
    ($($unit:ty),*) => {$(
        impl fmt::Display for $unit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

display_inner!(ChannelId, Index, Word, ItemHash, Transcript, Tag, Reputation);

macro_rules! display_hex {
    ($($bytes:ident),*) => {$(
        impl fmt::Display for $bytes {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode_prefixed(self.0))
            }
        }

        impl fmt::Debug for $bytes {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($bytes), "({})"), self)
            }
        }
    )*};
}

display_hex!(Sigma, Lock);
