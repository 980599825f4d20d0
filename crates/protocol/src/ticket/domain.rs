//! The EIP-712 domain of one deployed contract, and the digests signed under it. A signature for one contract on one chain
//! means nothing anywhere else (rule E1). Struct types come from the Solidity interface through `bindings`; this file
//! encodes them without allocating, because each ticket is hashed once by payer and merchant.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolStruct;
use bindings::ticket::{CoinCommitment, Opening, Ticket};

use crate::typed_data;

static TICKET_TYPEHASH: LazyLock<B256> = LazyLock::new(typed_data::typehash::<Ticket>);
static COIN_COMMITMENT_TYPEHASH: LazyLock<B256> = LazyLock::new(typed_data::typehash::<CoinCommitment>);

typed_data::domain!("TicketEscrow", "Micropay Ticket Escrow");

impl Domain {
    /// What the escrow key signs to pay. Equals `TicketEscrow.ticketDigest`.
    pub fn ticket_digest(&self, ticket: &Ticket) -> B256 {
        let mut words = [0u8; 8 * 32];
        words[..32].copy_from_slice(TICKET_TYPEHASH.as_slice());
        words[32 + 12..64].copy_from_slice(ticket.escrow.as_slice());
        words[64 + 12..96].copy_from_slice(ticket.recipient.as_slice());
        words[96..128].copy_from_slice(ticket.commitment.as_slice());
        words[128..160].copy_from_slice(ticket.r2.as_slice());
        words[160..192].copy_from_slice(&ticket.winThreshold.to_be_bytes::<32>());
        words[192 + 24..224].copy_from_slice(&ticket.expiry.to_be_bytes());
        words[224 + 24..].copy_from_slice(&ticket.nonce.to_be_bytes());
        self.typed_data_hash(keccak256(words))
    }

    /// The commitment of `recipient` to `r1`. Equals `TicketEscrow.commitmentOf`.
    pub fn commitment(&self, recipient: Address, r1: B256) -> B256 {
        let mut words = [0u8; 3 * 32];
        words[..32].copy_from_slice(COIN_COMMITMENT_TYPEHASH.as_slice());
        words[32 + 12..64].copy_from_slice(recipient.as_slice());
        words[64..].copy_from_slice(r1.as_slice());
        self.typed_data_hash(keccak256(words))
    }

    /// What the escrow key signs to prove that the payer who opens the escrow holds it. Equals
    /// `TicketEscrow.openingDigest`.
    pub fn opening_digest(&self, opening: &Opening) -> B256 {
        self.typed_data_hash(opening.eip712_hash_struct())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, address, b256};

    use super::*;

    /// Typed again by hand: a typo in the interface cannot cancel itself here.
    #[test]
    fn type_strings_are_the_normative_ones() {
        assert_eq!(
            Ticket::eip712_encode_type(),
            "Ticket(address escrow,address recipient,bytes32 commitment,bytes32 r2,uint256 winThreshold,\
             uint64 expiry,uint64 nonce)"
        );
        assert_eq!(
            CoinCommitment::eip712_encode_type(),
            "CoinCommitment(address recipient,bytes32 r1)"
        );
        assert_eq!(
            Opening::eip712_encode_type(),
            "Opening(address escrow,address payer,address asset,uint256 prize,uint256 maxThreshold,\
             uint64 ticketCap,uint256 penalty)"
        );
    }

    #[test]
    fn encoding_by_hand_equals_the_generated_one() {
        let contract = address!("5fbdb2315678afecb367f032d93f642f64180aa3");
        let domain = Domain::new(31337, contract);
        let ticket = Ticket {
            escrow: address!("465534b727e86b9d2d6175b4558501da04497c79"),
            recipient: address!("eabd3e35e4dc359d34facabfc5c3476a6d364106"),
            commitment: b256!("860015df08e6d03a187a4acbab7459cd75c8eb8f3d389b4f6ec90f765897f9b7"),
            r2: b256!("5414948199edafa31a1f4dd7a2ff9d4a7ab15a54c0399a4e55c22d8f920f189d"),
            winThreshold: U256::MAX - U256::from(1),
            expiry: u64::MAX - 2,
            nonce: u64::MAX - 3,
        };
        assert_eq!(
            domain.ticket_digest(&ticket),
            domain.typed_data_hash(ticket.eip712_hash_struct())
        );
        let coin = CoinCommitment {
            recipient: ticket.recipient,
            r1: ticket.r2,
        };
        assert_eq!(
            domain.commitment(coin.recipient, coin.r1),
            domain.typed_data_hash(coin.eip712_hash_struct())
        );
    }
}
