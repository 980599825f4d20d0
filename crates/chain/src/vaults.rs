//! The offline vault: its scheme, and what one reads from it. It keeps no records here: wallets are offline, and whoever is
//! online asks the contract for the few that it has to do with.

use std::convert::Infallible;

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::SolEvent;
use bindings::offline::OfflineVault::{self, OfflineVaultErrors, OfflineVaultEvents};
use bindings::offline::{Coin, Wallet};
use protocol::offline::{
    Amount, Coin as DepositedCoin, CoinId, DepositNonce, Domain, Input, LogHead, Path, Sequence,
    SettledHeads, TransferDigest, WalletId,
};

use crate::{At, ChainError, Client, Records, Scheme};

/// Most blocks that a node is asked about at once.
const MOST_BLOCKS: u64 = 10_000;

/// The offline scheme (`contracts/offline`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vaults;

impl Scheme for Vaults {
    const NAME: &'static str = "offline vault";

    type Event = OfflineVaultEvents;
    type Error = OfflineVaultErrors;
    type Id = CoinId;
    type Record = Infallible;
    type FoldError = Infallible;
    type Domain = Domain;

    fn creation_code() -> &'static Bytes {
        &OfflineVault::BYTECODE
    }

    fn domain(chain_id: u64, contract: Address) -> Domain {
        Domain::new(chain_id, contract)
    }

    fn separator(domain: &Domain) -> B256 {
        domain.separator()
    }

    fn id_of(_event: &OfflineVaultEvents) -> Option<CoinId> {
        None
    }

    fn apply(_records: &mut Records<Self>, _event: &OfflineVaultEvents) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The coin of a deposit, and who made it; `None` of another event. Its amount is what arrived: a token may keep a part.
pub fn deposited(event: &OfflineVaultEvents) -> Option<(DepositedCoin, Address)> {
    let OfflineVaultEvents::Deposited(made) = event else {
        return None;
    };
    let coin = DepositedCoin {
        wallet: WalletId(made.wallet),
        asset: made.asset,
        amount: Amount(made.amount),
        deposit_nonce: DepositNonce(u64::try_from(made.nonce).ok()?),
    };
    Some((coin, made.depositor))
}

impl Client<Vaults> {
    /// A wallet as the contract knows it; `None` if it was never registered.
    pub async fn wallet_of(&self, wallet: WalletId, at: At) -> Result<Option<Wallet>, ChainError> {
        let call = OfflineVault::walletOfCall { wallet: wallet.0 };
        let got = self.view(call, at).await?;
        Ok((got.validUntil != 0).then_some(got))
    }

    /// A coin as the contract knows it; `None` if it was never deposited.
    pub async fn coin_of(&self, coin: CoinId, at: At) -> Result<Option<Coin>, ChainError> {
        let got = self.view(OfflineVault::coinOfCall { coin: coin.0 }, at).await?;
        Ok((got.settleBy != 0).then_some(got))
    }

    /// Wallets whose equivocation was proven in the blocks `from` to `to`.
    pub async fn equivocated(&self, from: u64, to: u64) -> Result<Vec<WalletId>, ChainError> {
        let topics = [Some(OfflineVault::Equivocated::SIGNATURE_HASH)];
        let events = self.vault_events(&topics, from, to).await?;
        let proven = events.into_iter().filter_map(|event| match event {
            OfflineVaultEvents::Equivocated(proven) => Some(WalletId(proven.wallet)),
            _ => None,
        });
        Ok(proven.collect())
    }

    /// The deposits of a wallet's coins, the first one first, and who made them.
    pub async fn deposits_of(&self, wallet: WalletId) -> Result<Vec<(DepositedCoin, Address)>, ChainError> {
        self.deposits([
            Some(OfflineVault::Deposited::SIGNATURE_HASH),
            None,
            Some(wallet.0),
        ])
        .await
    }

    /// The deposit of the coin of this name, and who made it; `None` if there is none.
    pub async fn deposit_of(&self, coin: CoinId) -> Result<Option<(DepositedCoin, Address)>, ChainError> {
        let found = self
            .deposits([Some(OfflineVault::Deposited::SIGNATURE_HASH), Some(coin.0), None])
            .await?;
        Ok(found.into_iter().next())
    }

    async fn deposits(&self, topics: [Option<B256>; 3]) -> Result<Vec<(DepositedCoin, Address)>, ChainError> {
        let (deployed, head) = (self.deployment_block().await?, self.head().await?.number);
        let events = self.vault_events(&topics, deployed, head).await?;
        Ok(events.iter().filter_map(deposited).collect())
    }

    /// The events with these topics in the blocks `from` to `to`, as many requests as that takes.
    async fn vault_events(
        &self,
        topics: &[Option<B256>],
        mut from: u64,
        to: u64,
    ) -> Result<Vec<OfflineVaultEvents>, ChainError> {
        let mut found = Vec::new();
        while from <= to {
            let last = to.min(from + MOST_BLOCKS - 1);
            let events = self.events_about(topics, from, last).await?;
            found.extend(events.into_iter().map(|event| event.event));
            from = last + 1;
        }
        Ok(found)
    }

    /// Whether an exit of a wallet with this sequence was paid. A component gives a sequence to one transfer.
    pub async fn is_redeemed(
        &self,
        wallet: WalletId,
        sequence: Sequence,
        at: At,
    ) -> Result<bool, ChainError> {
        let call = OfflineVault::isRedeemedCall {
            wallet: wallet.0,
            sequence: sequence.0,
        };
        self.view(call, at).await
    }

    /// Where the free part of a coin begins that holds `place`, or the next one below.
    pub async fn free_part_of(
        &self,
        coin: CoinId,
        place: Amount,
        at: At,
    ) -> Result<(Amount, Amount), ChainError> {
        let call = OfflineVault::freePartOfCall {
            coin: coin.0,
            place: place.0,
        };
        let got = self.view(call, at).await?;
        Ok((Amount(got.start), Amount(got.end)))
    }

    /// What is behind a wallet, atomic units of `asset`.
    pub async fn collateral_of(
        &self,
        wallet: WalletId,
        asset: Address,
        at: At,
    ) -> Result<Amount, ChainError> {
        let call = OfflineVault::collateralOfCall {
            wallet: wallet.0,
            asset,
        };
        let got = self.view(call, at).await?;
        // More than fits is more than any coin.
        Ok(Amount(u128::try_from(got).unwrap_or(u128::MAX)))
    }

    /// The transfer by which a wallet is recorded to have spent `input`.
    pub async fn spent_by(
        &self,
        wallet: WalletId,
        input: Input,
        at: At,
    ) -> Result<Option<TransferDigest>, ChainError> {
        let call = OfflineVault::spentByCall {
            wallet: wallet.0,
            input: input.0,
        };
        let got = self.view(call, at).await?;
        Ok((!got.is_zero()).then_some(TransferDigest(got)))
    }

    /// Where the contract has followed the logs of a path's wallets to. One that is proven to have two logs is left out: what
    /// was settled orders nothing any more, and its transfers are shown whole.
    pub async fn settled_heads(&self, path: &Path, at: At) -> Result<SettledHeads, ChainError> {
        let mut heads = SettledHeads::new();
        for registration in path.wallets.iter().filter(|wallet| wallet.index.is_some()) {
            let wallet = registration.wallet();
            if let Some(known) = self.wallet_of(wallet, at).await?
                && !known.equivocated
            {
                heads.insert(wallet, LogHead(known.head));
            }
        }
        Ok(heads)
    }
}
