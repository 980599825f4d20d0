//! Lock and unlock: the paper's lockable signatures (section 4.2). A lock is the signature before, XOR a mask that the
//! signature after makes. Who gets one opener opens the whole prefix; who has none has noise.
//!
//! The mask has 64 bytes because a signature has: a 32-byte one leaves `s` in clear, a repeated one gives away `r ⊕ s`
//! (C-5). No value depends on a lock.

use alloy_primitives::keccak256;
use sha3::Digest;

use super::{Lock, Sigma};

/// A hash from the 64 bytes of a signature to a mask of 64 bytes. Not to be used for tags: a lock on the public `sigma_0` shows the mask of
/// `sigma_1` to everybody (C-9).
pub trait LockHash {
    /// The profile's name, in kebab case; never changes.
    const NAME: &str;

    /// The mask that `opener` makes.
    fn mask(opener: &[u8; 64]) -> [u8; 64];
}

/// The profile that channels use, and the contract judges by: `keccak256(0x01 ‖ x) ‖ keccak256(0x02 ‖ x)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keccak;

/// The paper's profile, for its experiment: SHA3-512.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha3_512;

impl LockHash for Keccak {
    const NAME: &str = "keccak";

    fn mask(opener: &[u8; 64]) -> [u8; 64] {
        let mut input = [0; 65];
        input[1..].copy_from_slice(opener);
        let mut mask = [0; 64];
        for (prefix, half) in [1, 2].into_iter().zip(mask.chunks_exact_mut(32)) {
            input[0] = prefix;
            half.copy_from_slice(keccak256(input).as_slice());
        }
        mask
    }
}

impl LockHash for Sha3_512 {
    const NAME: &str = "sha3-512";

    fn mask(opener: &[u8; 64]) -> [u8; 64] {
        sha3::Sha3_512::digest(opener).into()
    }
}

/// Locks the signature of the payment before by that of this one.
pub fn lock<H: LockHash>(previous: &Sigma, current: &Sigma) -> Lock {
    Lock(xor(previous.to_bytes(), H::mask(&current.to_bytes())))
}

/// What a lock hides, if `opener` is the signature that it was made with; noise otherwise. A tag tells which.
pub fn unlock<H: LockHash>(lock: &Lock, opener: &Sigma) -> [u8; 64] {
    xor(lock.0, H::mask(&opener.to_bytes()))
}

fn xor(mut a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
    for (a, b) in a.iter_mut().zip(b) {
        *a ^= b;
    }
    a
}
