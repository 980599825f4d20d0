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
