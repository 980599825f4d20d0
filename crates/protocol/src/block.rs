//! Blocks, as far as the mirrors of the schemes need them.

use alloy_primitives::B256;

use crate::units::Timestamp;

/// A block, as far as following the chain needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Hash, which names it across reorganisations.
    pub hash: B256,
    /// The block's own time.
    pub timestamp: Timestamp,
}
