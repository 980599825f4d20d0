//! EIP-712, as far as every scheme needs it: the separator of a deployed contract, and the hash that is signed under it.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct};

/// The domain separator of the contract at `contract` on the chain with this id.
pub(crate) fn separator(name: &'static str, version: &'static str, chain_id: u64, contract: Address) -> B256 {
    Eip712Domain::new(
        Some(name.into()),
        Some(version.into()),
        Some(U256::from(chain_id)),
        Some(contract),
        None,
    )
    .separator()
}

/// What is signed: `keccak256(0x19 0x01 ‖ separator ‖ struct_hash)`.
pub(crate) fn digest(separator: B256, struct_hash: B256) -> B256 {
    let mut bytes = [0; 2 + 32 + 32];
    bytes[..2].copy_from_slice(&[0x19, 0x01]);
    bytes[2..34].copy_from_slice(separator.as_slice());
    bytes[34..].copy_from_slice(struct_hash.as_slice());
    keccak256(bytes)
}

/// Hash of a struct's type, as the interface declares it.
pub(crate) fn typehash<T: SolStruct>() -> B256 {
    keccak256(T::eip712_encode_type().as_bytes())
}
