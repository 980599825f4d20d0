//! Whose store this is. A nonce, a floor or a session is only meaningful for one contract on one chain and one owner; a
//! store that was made for another is refused instead of mixed up with this one.

use std::fmt;

use alloy_primitives::Address;
use protocol::{offline::WalletId, ticket::Domain};

/// What a store was created for. It never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Chain and contract of every ticket in the store. A bank has no tickets: of its store this is the contract whose
    /// channels it admits to; of a wallet's, the vault.
    pub domain: Domain,
    /// The role whose promises it keeps.
    pub owner: Owner,
}

/// The role that a store belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A payer, with any number of escrows.
    Payer,
    /// The merchant who is paid at this address.
    Merchant(Address),
    /// The bank with this account.
    Bank(Address),
    /// The offline wallet with this key.
    Wallet(WalletId),
}

impl StoreIdentity {
    /// A payer's store.
    pub fn payer(domain: Domain) -> Self {
        Self {
            domain,
            owner: Owner::Payer,
        }
    }

    /// A merchant's store; `recipient` is where it is paid.
    pub fn merchant(domain: Domain, recipient: Address) -> Self {
        Self {
            domain,
            owner: Owner::Merchant(recipient),
        }
    }

    /// The store of a bank that admits to the channels of this contract.
    pub fn bank(chain_id: u64, contract: Address, bank: Address) -> Self {
        Self {
            domain: Domain::new(chain_id, contract),
            owner: Owner::Bank(bank),
        }
    }

    /// The store of an offline wallet whose coins are in this vault.
    pub fn wallet(chain_id: u64, vault: Address, wallet: WalletId) -> Self {
        Self {
            domain: Domain::new(chain_id, vault),
            owner: Owner::Wallet(wallet),
        }
    }
}

impl fmt::Display for StoreIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "chain {}, contract {}, {}",
            self.domain.chain_id(),
            self.domain.contract(),
            self.owner
        )
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payer => f.write_str("payer"),
            Self::Merchant(recipient) => write!(f, "merchant {recipient}"),
            Self::Bank(bank) => write!(f, "bank {bank}"),
            Self::Wallet(wallet) => write!(f, "wallet {wallet}"),
        }
    }
}
