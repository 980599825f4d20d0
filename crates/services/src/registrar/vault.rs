//! What a registrar has to know of the chain: coins and settled logs, final. Whoever puts the service together implements it
//! over a node.

use protocol::offline::{Coin, LogHead, Timestamp, WalletId};

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

/// Logs that the vault has folded.
pub trait FinalLogs: Send + Sync + 'static {
    /// The head that `settleLog` stored for this wallet, final; `None` if it never did.
    fn settled_head(
        &self,
        wallet: WalletId,
    ) -> impl Future<Output = Result<Option<LogHead>, VaultError>> + Send;
}
