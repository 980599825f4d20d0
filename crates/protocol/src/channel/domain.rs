//! The EIP-712 domain of one deployed `PaymentChannel`, the digests signed under it, and the channels' names. Struct types
//! come from the Solidity interface through `bindings`; the receipt is encoded here without allocating, because both
//! parties hash one for each payment.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct;
use bindings::channel::{Checkpoint, CooperativeClose, OpenPermit, Receipt};

use super::{ChannelId, Index};
use crate::typed_data;

static RECEIPT_TYPEHASH: LazyLock<B256> = LazyLock::new(typed_data::typehash::<Receipt>);

typed_data::domain!("PaymentChannel", "Micropay Channel");

impl Domain {
    /// The name of the channel from `client` to `vendor` with this salt.
    pub fn channel_id(&self, client: Address, vendor: Address, salt: B256) -> ChannelId {
        let mut words = [0; 5 * 32];
        words[..32].copy_from_slice(&U256::from(self.chain_id).to_be_bytes::<32>());
        words[32 + 12..64].copy_from_slice(self.contract.as_slice());
        words[64 + 12..96].copy_from_slice(client.as_slice());
        words[96 + 12..128].copy_from_slice(vendor.as_slice());
        words[128..].copy_from_slice(salt.as_slice());
        ChannelId(keccak256(words))
    }

    /// What the bank signs to admit a channel: the paper's Tx_0.
    pub fn permit_digest(&self, permit: &OpenPermit) -> B256 {
        self.typed_data_hash(permit.eip712_hash_struct())
    }

    /// What the receipt key signs for a payment.
    pub fn receipt_digest(&self, receipt: &Receipt) -> B256 {
        let mut words = [0; 7 * 32];
        words[..32].copy_from_slice(RECEIPT_TYPEHASH.as_slice());
        words[32..64].copy_from_slice(receipt.channelId.as_slice());
        words[64 + 28..96].copy_from_slice(&receipt.index.to_be_bytes());
        words[96..128].copy_from_slice(receipt.itemHash.as_slice());
        words[128 + 16..160].copy_from_slice(&receipt.cumulative.to_be_bytes());
        words[160 + 24..192].copy_from_slice(&receipt.issuedAt.to_be_bytes());
        words[192..].copy_from_slice(receipt.transcript.as_slice());
        self.typed_data_hash(keccak256(words))
    }

    /// What the receipt key signs now and then, so that a close is a short walk.
    pub fn checkpoint_digest(&self, checkpoint: &Checkpoint) -> B256 {
        self.typed_data_hash(checkpoint.eip712_hash_struct())
    }

    /// What client and vendor both sign to close at `index` without a walk.
    pub fn cooperative_close_digest(&self, channel: ChannelId, index: Index) -> B256 {
        let close = CooperativeClose {
            channelId: channel.0,
            index: index.0,
        };
        self.typed_data_hash(close.eip712_hash_struct())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Typed again by hand: a typo in the interface cannot cancel itself here.
    #[test]
    fn type_strings_are_the_normative_ones() {
        assert_eq!(
            OpenPermit::eip712_encode_type(),
            "OpenPermit(bytes32 channelId,address client,address vendor,address receiptKey,address asset,\
             uint128 unit,uint32 length,bytes32 anchor,uint8 clientReputation,uint8 vendorReputation,\
             uint64 issuedAt,uint64 expiry)"
        );
        assert_eq!(
            Receipt::eip712_encode_type(),
            "Receipt(bytes32 channelId,uint32 index,bytes32 itemHash,uint128 cumulative,uint64 issuedAt,\
             bytes32 transcript)"
        );
        assert_eq!(
            Checkpoint::eip712_encode_type(),
            "Checkpoint(bytes32 channelId,uint32 index,bytes32 word,bytes32 locksRoot)"
        );
        assert_eq!(
            CooperativeClose::eip712_encode_type(),
            "CooperativeClose(bytes32 channelId,uint32 index)"
        );
    }

    #[test]
    fn encoding_by_hand_equals_the_generated_one() {
        let domain = Domain::new(31337, Address::repeat_byte(0xcc));
        let receipt = Receipt {
            channelId: B256::repeat_byte(1),
            index: u32::MAX - 1,
            itemHash: B256::repeat_byte(2),
            cumulative: u128::MAX - 2,
            issuedAt: u64::MAX - 3,
            transcript: B256::repeat_byte(3),
        };
        assert_eq!(
            domain.receipt_digest(&receipt),
            domain.typed_data_hash(receipt.eip712_hash_struct())
        );
    }
}
