//! What a registrar has to know of the chain: coins and wallets, final. [`OnChain`] asks a node.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::Address;
use chain::{At, ChainError, Client, Finality, Vaults};
use parking_lot::Mutex;
use protocol::block::BlockRef;
use protocol::offline::{ClassId, Coin, LogHead, NameHash, Timestamp, WalletId};

/// No reorganisation is deeper.
const REORG: u64 = 128;

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
    /// The contract lets it pay, and knows of no double spend by it.
    pub alive: bool,
}

/// Wallets of the vault.
pub trait FinalWallets: Send + Sync + 'static {
    /// The wallet as the contract has it, final; `None` if it is not registered, or not for good.
    fn wallet(
        &self,
        wallet: WalletId,
    ) -> impl Future<Output = Result<Option<FinalWallet>, VaultError>> + Send;

    /// All wallets that are proven to have double-spent, of every registrar. Not only in final blocks: a proof is one.
    fn equivocated(&self) -> impl Future<Output = Result<Vec<WalletId>, VaultError>> + Send;
}

/// The vault at a node, at the newest block that is final.
#[derive(Clone, Debug)]
pub struct OnChain {
    client: Client<Vaults>,
    finality: Finality,
    /// The first block with the contract.
    deployed: u64,
    proven: Arc<Mutex<Proven>>,
}

/// Double spends that were proven, as far as the chain was read. One that a reorganisation undoes is a proof all the same.
#[derive(Debug, Default)]
struct Proven {
    wallets: BTreeSet<WalletId>,
    /// Up to this block.
    read: u64,
}

impl OnChain {
    /// Of this node's chain. A block is final as `finality` says.
    pub async fn connect(client: Client<Vaults>, finality: Finality) -> Result<Self, VaultError> {
        let deployed = client.deployment_block().await?;
        Ok(Self {
            client,
            finality,
            deployed,
            proven: Arc::default(),
        })
    }

    /// The newest block that is final; `None`: none with the contract is yet.
    ///
    /// # Errors
    ///
    /// The node's.
    pub async fn final_block(&self) -> Result<Option<At>, ChainError> {
        Ok(self.final_ref().await?.map(|block| At::Block(block.hash)))
    }

    /// The same, with its number.
    pub async fn final_ref(&self) -> Result<Option<BlockRef>, ChainError> {
        let block = match self.finality {
            Finality::Finalized => self.client.finalized().await?,
            Finality::Depth(depth) => {
                let head = self.client.head().await?;
                match head.number.checked_sub(depth) {
                    Some(number) => self.client.block(number).await?,
                    None => None,
                }
            }
        };
        Ok(block.filter(|block| block.number >= self.deployed))
    }
}

impl FinalDeposits for OnChain {
    async fn deposit(&self, coin: &Coin) -> Result<Option<FinalDeposit>, VaultError> {
        let Some(at) = self.final_block().await? else {
            return Ok(None);
        };
        let id = self.client.domain().coin_id(coin);
        let known = self.client.coin_of(id, at).await?;
        Ok(known.map(|known| FinalDeposit {
            settle_by: Timestamp(known.settleBy),
        }))
    }
}

impl FinalWallets for OnChain {
    async fn wallet(&self, wallet: WalletId) -> Result<Option<FinalWallet>, VaultError> {
        let Some(at) = self.final_block().await? else {
            return Ok(None);
        };
        let known = self.client.wallet_of(wallet, at).await?;
        Ok(known.map(|known| FinalWallet {
            owner: known.owner,
            registrar: known.registrar,
            class: ClassId(known.class),
            log: NameHash(known.log),
            valid_until: Timestamp(known.validUntil),
            head: LogHead(known.head),
            alive: known.revokedAt == 0 && known.killedAt == 0 && !known.equivocated,
        }))
    }

    async fn equivocated(&self) -> Result<Vec<WalletId>, VaultError> {
        let head = self.client.head().await?.number;
        // The last blocks again: they may have become others.
        let from = self.proven.lock().read.saturating_sub(REORG).max(self.deployed);
        let found = self.client.equivocated(from, head).await?;
        let mut proven = self.proven.lock();
        proven.wallets.extend(found);
        proven.read = proven.read.max(head);
        Ok(proven.wallets.iter().copied().collect())
    }
}

impl From<ChainError> for VaultError {
    fn from(error: ChainError) -> Self {
        Self {
            problem: error.to_string(),
        }
    }
}
