//! EIP-712, as far as every scheme needs it: the separator of a deployed contract, and the hash that is signed under it.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct};

/// Declares a scheme's `Domain`: the contract's name, and its name in EIP-712. Each scheme has a type of its own, so that what
/// is signed for one contract is never checked for another.
macro_rules! domain {
    ($contract:literal, $name:literal) => {
        #[doc = concat!("One deployed `", $contract, "`: chain and address, and the separator that both make.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct Domain {
            chain_id: u64,
            contract: alloy_primitives::Address,
            separator: alloy_primitives::B256,
        }

        impl Domain {
            /// Name in the EIP-712 domain.
            pub const NAME: &str = $name;
            /// Version in the EIP-712 domain.
            pub const VERSION: &str = "1";

            /// The domain of the contract at `contract` on the chain with this id.
            pub fn new(chain_id: u64, contract: alloy_primitives::Address) -> Self {
                Self {
                    chain_id,
                    contract,
                    separator: $crate::typed_data::separator(Self::NAME, Self::VERSION, chain_id, contract),
                }
            }

            /// The chain's id.
            pub fn chain_id(&self) -> u64 {
                self.chain_id
            }

            /// The contract's address.
            pub fn contract(&self) -> alloy_primitives::Address {
                self.contract
            }

            /// The EIP-712 domain separator.
            pub fn separator(&self) -> alloy_primitives::B256 {
                self.separator
            }

            fn typed_data_hash(&self, struct_hash: alloy_primitives::B256) -> alloy_primitives::B256 {
                $crate::typed_data::digest(self.separator, struct_hash)
            }
        }
    };
}
pub(crate) use domain;

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
