//! Receipt: what the client says it paid for. It signs one per payment, and the vendor holds each signature locked by the
//! next one until it has an opener. What is hashed into an item is the caller's: an HTTP call, a piece of a file.

use alloy_primitives::keccak256;
use bindings::channel::Receipt;

use super::{Amount, ChannelId, Index, ItemHash, Lock, Tag, Timestamp, Transcript};

/// `keccak256(abi.encode(previous, item))`. The transcript of index 0 is the digest of the first permit.
pub fn transcript(previous: Transcript, item: ItemHash) -> Transcript {
    let mut words = [0; 64];
    words[..32].copy_from_slice(previous.0.as_slice());
    words[32..].copy_from_slice(item.0.as_slice());
    Transcript(keccak256(words))
}

/// A receipt that the vendor cannot show yet: all of it but the signature, which is under a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedReceipt {
    /// Units paid with it, in all.
    pub index: Index,
    /// What it is for.
    pub item: ItemHash,
    /// When the client signed it, by its own clock.
    pub issued_at: Timestamp,
    /// The signature of the receipt before, locked by this one's.
    pub lock: Lock,
    /// Pins this one's signature.
    pub tag: Tag,
}

impl LockedReceipt {
    /// What was signed, given the transcript up to here and what a unit is worth.
    pub fn receipt(&self, channel: ChannelId, unit: Amount, transcript: Transcript) -> Receipt {
        Receipt {
            channelId: channel.0,
            index: self.index.0,
            itemHash: self.item.0,
            // The contract holds 128 bits; a product that saturates belongs to no channel that could be opened.
            cumulative: unit.saturating_mul(self.index.0.into()).0,
            issuedAt: self.issued_at.0,
            transcript: transcript.0,
        }
    }
}
