//! A merchant's secrets. One seed makes the secret `r1` of every session, so that nothing but the seed and a counter of
//! starts is stored.
//!
//! A session is what one commitment serves: one escrow, or any for payers who are not known yet, one run of the merchant's
//! process (`boot`), and one stretch between two claims (`serial`). Closing a session is `serial + 1`, in memory; a crash closes all of them, because the next boot
//! counts one higher. So a revealed `r1` can never accept again, and losers' nonces need no disk: a nonce seen under a
//! closed commitment is refused with the commitment.

use core::fmt;

use alloy_primitives::{Address, B256, keccak256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Domain;

const TAG: &[u8] = b"micropay/ticket/session/v1";

/// The secret that all of a merchant's sessions derive from. Hidden from `Debug`, wiped when dropped, compared in
/// constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

/// Which of a merchant's sessions with one escrow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Which start of the merchant, from a counter that is durably raised before anything is accepted.
    pub boot: u64,
    /// How many sessions with this escrow this start has closed before.
    pub serial: u64,
}

/// An open commitment with its secret: what the merchant quotes, accepts and draws with. `Debug` hides `r1`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Session {
    id: SessionId,
    recipient: Address,
    escrow: Address,
    r1: B256,
    commitment: B256,
}

/// The secret `r1` of a session: a pseudo-random function of the seed at (recipient, escrow, boot, serial). The fields
/// have fixed lengths, so that no two sessions hash one string.
pub fn session_secret(seed: &Seed, recipient: Address, escrow: Address, id: SessionId) -> B256 {
    let mut bytes = [0u8; TAG.len() + 32 + 20 + 20 + 8 + 8];
    let mut rest = &mut bytes[..];
    for part in [
        TAG,
        &seed.0,
        recipient.as_slice(),
        escrow.as_slice(),
        &id.boot.to_be_bytes(),
        &id.serial.to_be_bytes(),
    ] {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    let r1 = keccak256(bytes);
    bytes.zeroize();
    r1
}

impl Seed {
    /// Wraps 32 uniform bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the store that keeps them.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
    }
}

impl Eq for Seed {}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.boot, self.serial)
    }
}

impl Session {
    /// The session `id` of `recipient` with `escrow`.
    pub fn derive(domain: &Domain, seed: &Seed, recipient: Address, escrow: Address, id: SessionId) -> Self {
        let r1 = session_secret(seed, recipient, escrow, id);
        Self {
            id,
            recipient,
            escrow,
            r1,
            commitment: domain.commitment(recipient, r1),
        }
    }

    /// The session `id` of `recipient` with whoever pays: for terms that are given before the payer is known. The draw
    /// hashes the whole ticket, so that payers who share a commitment share nothing else.
    pub fn derive_open(domain: &Domain, seed: &Seed, recipient: Address, id: SessionId) -> Self {
        // No key has the zero address, so that this is no escrow's own session.
        Self::derive(domain, seed, recipient, Address::ZERO, id)
    }

    /// Which session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The merchant's address.
    pub fn recipient(&self) -> Address {
        self.recipient
    }

    /// Whether this escrow may pay under this commitment.
    pub fn serves(&self, escrow: Address) -> bool {
        self.escrow == escrow || self.escrow.is_zero()
    }

    /// The secret half of the coin toss. Nobody may see it while the session accepts tickets.
    pub fn r1(&self) -> B256 {
        self.r1
    }

    /// What the payer signs in place of `r1`.
    pub fn commitment(&self) -> B256 {
        self.commitment
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("recipient", &self.recipient)
            .field("escrow", &self.escrow)
            .field("commitment", &self.commitment)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_the_secret() {
        let seed = Seed::new([7; 32]);
        let id = SessionId { boot: 1, serial: 2 };
        let recipient = Address::repeat_byte(1);
        let escrow = Address::repeat_byte(2);
        let secrets = [
            session_secret(&seed, recipient, escrow, id),
            session_secret(&Seed::new([8; 32]), recipient, escrow, id),
            session_secret(&seed, escrow, escrow, id),
            session_secret(&seed, recipient, recipient, id),
            session_secret(&seed, recipient, escrow, SessionId { boot: 2, ..id }),
            session_secret(&seed, recipient, escrow, SessionId { serial: 1, ..id }),
            session_secret(&seed, recipient, escrow, SessionId { boot: 2, serial: 1 }),
        ];
        for (i, a) in secrets.iter().enumerate() {
            for b in &secrets[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        let seed = Seed::new([0xab; 32]);
        let domain = Domain::new(1, Address::ZERO);
        let session = Session::derive(&domain, &seed, Address::ZERO, Address::ZERO, SessionId::default());
        let shown = format!("{seed:?} {session:?}");
        assert!(!shown.contains("abab") && !shown.contains("171, 171"));
        assert!(!shown.contains(&format!("{:x}", session.r1())));
    }
}
