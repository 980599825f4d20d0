//! Time and randomness, which enter here and nowhere below.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use protocol::ticket::Timestamp;
use rand::RngCore;
use rand::rngs::OsRng;

/// The system clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// 32 bytes of the operating system's randomness.
pub(crate) fn random() -> B256 {
    let mut bytes = B256::ZERO;
    OsRng.fill_bytes(bytes.as_mut_slice());
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// M1-13: a payer that repeats its half of the coin toss lets the merchant choose the outcome.
    #[test]
    fn every_ticket_has_a_fresh_r2() {
        let drawn: HashSet<B256> = (0..10_000).map(|_| random()).collect();
        assert_eq!(drawn.len(), 10_000);
    }
}
