//! What a registrar has to know of the chain: coins and wallets, final. Whoever puts the service together implements it
//! over a node.

use alloy_primitives::Address;
use protocol::offline::{ClassId, Coin, LogHead, NameHash, Timestamp, WalletId};

/// The chain cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the chain cannot be read: {problem}")]
pub struct VaultError {
    /// What the node said.
    pub problem: String,
}

/// A coin in a block that will not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalDeposit {
    /// Until when its fragments are redeemed for certain.
    pub settle_by: Timestamp,
}

/// Coins of the vault.
pub trait FinalDeposits: Send + Sync + 'static {
    /// The deposit of this coin, exactly, if it is final; `None` if there is none, or not for good.
    fn deposit(&self, coin: &Coin) -> impl Future<Output = Result<Option<FinalDeposit>, VaultError>> + Send;
}

/// A wallet in a block that will not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalWallet {
    /// Who gets the credit.
    pub owner: Address,
    /// Whose class it is in.
    pub registrar: Address,
    /// The class.
    pub class: ClassId,
    /// Its log; [`NameHash::NONE`] of a SIGNATURE wallet.
    pub log: NameHash,
    /// Last second of its transfers.
    pub valid_until: Timestamp,
    /// Where the contract has followed its log to.
    pub head: LogHead,
}

/// Wallets of the vault.
pub trait FinalWallets: Send + Sync + 'static {
    /// The wallet as the contract has it, final; `None` if it is not registered, or not for good.
    fn wallet(
        &self,
        wallet: WalletId,
    ) -> impl Future<Output = Result<Option<FinalWallet>, VaultError>> + Send;
}
