//! All randomness of a simulation: hashes of its seed. Nothing here is secret.

use alloy_primitives::{B256, keccak256};
use protocol::channel::Key;

/// The seed of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// 32 bytes for a purpose and a number.
    pub fn bytes(self, purpose: &str, number: u32) -> B256 {
        let parts = [
            b"micropay/sim".as_slice(),
            &self.0.to_be_bytes(),
            &number.to_be_bytes(),
            purpose.as_bytes(),
        ];
        keccak256(parts.concat())
    }

    /// A private key for a purpose.
    ///
    /// # Panics
    /// Never in practice: one hash in 2^128 is no key.
    pub fn key(self, purpose: &str) -> Key {
        Key::from_bytes(&self.bytes(purpose, 0).0).expect("a hash is a private key")
    }
}
