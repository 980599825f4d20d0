//! What is done on the chain for wallets: their owners register, deposit and reclaim, registrars revoke, and anybody redeems,
//! settles logs, and shows what a broken component did. Each step is one transaction, simulated before it is sent. None
//! needs a component or its store: a path is enough, and whoever sends it gains nothing by it (rule E6).

use std::future::Future;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use bindings::erc20::IERC20;
use bindings::offline::OfflineVault::{self, OfflineVaultEvents};
use chain::{At, ChainError, Client, Mined, Sender, Vaults, deposited};
use protocol::offline::{
    Amount, ClassId, Coin, CoinId, Equivocation, Path, Timestamp, TransferDigest, VouchedRegistration,
    WalletId, WalletSignature,
};

/// Why a step on the chain was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// The registration is nobody's.
    #[error("the registration is not signed: {0}")]
    Registration(#[from] protocol::offline::SignatureError),
    /// The transaction did not do what it is for.
    #[error("transaction {hash} has no event {event}")]
    NoEvent {
        /// The transaction.
        hash: B256,
        /// What was expected of it.
        event: &'static str,
    },
    /// Nothing of the log is unsettled, or the hop is no log's.
    #[error("wallet {wallet} has nothing to settle up to transfer {transfer}")]
    NothingToSettle {
        /// Whose log.
        wallet: WalletId,
        /// The transfer.
        transfer: TransferDigest,
    },
    /// The path has no transfer.
    #[error("the path of coin {coin} has no transfer")]
    NoTransfer {
        /// Its coin.
        coin: CoinId,
    },
    /// The chain, or the contract's refusal.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// What came of a path that was to be redeemed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// Its owner was credited.
    Paid {
        /// How much, atomic units.
        amount: Amount,
    },
    /// The contract left it out.
    Skipped {
        /// Selector of the error that it reverts with alone.
        reason: [u8; 4],
        /// The error's values.
        got: U256,
        /// The error's values.
        limit: U256,
    },
}

/// What a compensation was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compensated {
    /// What was still free of the exit's part of the coin.
    pub from_coin: Amount,
    /// What the offender's collateral gave.
    pub from_collateral: Amount,
}

/// Sends the steps of one account.
#[derive(Clone, Debug)]
pub struct Online {
    sender: Sender<Vaults>,
}

impl Online {
    /// Of the sender's account.
    pub fn new(sender: Sender<Vaults>) -> Self {
        Self { sender }
    }

    /// The chain.
    pub fn client(&self) -> &Client<Vaults> {
        self.sender.client()
    }

    /// Step `register`: by the owner, a wallet that its registrar vouches for; by anyone, a renewal of it. `possession` is the
    /// wallet's own signature on the registration's digest, which a renewal does not need; `collateral` is in wei.
    pub async fn register(
        &self,
        vouched: &VouchedRegistration,
        possession: &WalletSignature,
        collateral: Amount,
    ) -> Result<Mined<Vaults>, OnlineError> {
        let registrar = vouched.registrar(&self.client().domain())?;
        let call = OfflineVault::registerCall {
            registration: vouched.registration.to_sol(),
            key: vouched.key.to_sol(),
            registrar,
            vouched: vouched.signature.to_sol(),
            possession: possession.to_sol(),
        };
        self.send(&call, U256::from(collateral.0)).await
    }

    /// Step `addCollateral`.
    pub async fn add_collateral(
        &self,
        wallet: WalletId,
        asset: Address,
        amount: Amount,
    ) -> Result<Mined<Vaults>, OnlineError> {
        let call = OfflineVault::addCollateralCall {
            wallet: wallet.0,
            asset,
            amount: U256::from(amount.0),
        };
        self.pay_in(asset, amount, &call).await
    }

    /// Step `releaseCollateral`, by the owner, long after the registration ended.
    pub async fn release_collateral(
        &self,
        wallet: WalletId,
        asset: Address,
    ) -> Result<Mined<Vaults>, OnlineError> {
        let call = OfflineVault::releaseCollateralCall {
            wallet: wallet.0,
            asset,
        };
        self.send(&call, U256::ZERO).await
    }

    /// Step `deposit`: a coin for a wallet. It can be imported when the registrar has signed that it is final.
    pub async fn deposit(
        &self,
        wallet: WalletId,
        asset: Address,
        amount: Amount,
        settle_by: Timestamp,
    ) -> Result<(Coin, Mined<Vaults>), OnlineError> {
        let call = OfflineVault::depositCall {
            wallet: wallet.0,
            asset,
            amount: amount.0,
            settleBy: settle_by.0,
        };
        let mined = self.pay_in(asset, amount, &call).await?;
        let coin = mined.events.iter().find_map(deposited);
        let hash = mined.hash;
        let (coin, _) = coin.ok_or(OnlineError::NoEvent {
            hash,
            event: "Deposited",
        })?;
        Ok((coin, mined))
    }

    /// Step `reclaim`, by the depositor, when the coin's time is over: what nobody redeemed.
    pub async fn reclaim(&self, coin: &Coin) -> Result<Mined<Vaults>, OnlineError> {
        let call = OfflineVault::reclaimCall {
            wallet: coin.wallet.0,
            asset: coin.asset,
            amount: coin.amount.0,
            nonce: U256::from(coin.deposit_nonce.0),
        };
        self.send(&call, U256::ZERO).await
    }

    /// Step `redeem`: a path that ends in an exit.
    pub async fn redeem(&self, path: &Path) -> Result<Mined<Vaults>, OnlineError> {
        let path = self.path_to_sol(path).await?;
        self.send(&OfflineVault::redeemCall { path }, U256::ZERO).await
    }

    /// Step `redeemBatch`: what came of each path, in their order.
    pub async fn redeem_batch(&self, paths: &[Path]) -> Result<(Vec<Redeemed>, Mined<Vaults>), OnlineError> {
        let mut calldata = Vec::with_capacity(paths.len());
        for path in paths {
            calldata.push(self.path_to_sol(path).await?);
        }
        let mined = self
            .send(&OfflineVault::redeemBatchCall { paths: calldata }, U256::ZERO)
            .await?;
        // One event a path, in their order.
        let outcomes = mined.events.iter().filter_map(|event| match event {
            OfflineVaultEvents::Redeemed(redeemed) => Some(Redeemed::Paid {
                amount: Amount(redeemed.amount),
            }),
            OfflineVaultEvents::ItemSkipped(skipped) => Some(Redeemed::Skipped {
                reason: skipped.reason.0,
                got: skipped.got,
                limit: skipped.limit,
            }),
            _ => None,
        });
        Ok((outcomes.collect(), mined))
    }

    /// Step `record`: later paths need not prove the hops of this one.
    pub async fn record(&self, path: &Path) -> Result<Mined<Vaults>, OnlineError> {
        let path = self.path_to_sol(path).await?;
        self.send(&OfflineVault::recordCall { path }, U256::ZERO).await
    }

    /// Step `settleLog`: the log of the path's last payer, up to its transfer.
    pub async fn settle_log(&self, path: &Path) -> Result<Mined<Vaults>, OnlineError> {
        let domain = self.client().domain();
        let last = path.hops.last().ok_or(OnlineError::NoTransfer {
            coin: domain.coin_id(&path.deposit.coin),
        })?;
        let payer = &path.wallets[last.payer];
        let heads = self.client().settled_heads(path, At::Latest).await?;
        let (_, stretch) = last
            .stretch(&domain, payer, &heads)
            .ok_or(OnlineError::NothingToSettle {
                wallet: payer.wallet(),
                transfer: domain.transfer_digest(&last.transfer),
            })?;
        let call = OfflineVault::settleLogCall {
            key: payer.key.to_sol(),
            stretch,
        };
        self.send(&call, U256::ZERO).await
    }

    /// Steps `proveEquivocation` and `proveFork`.
    pub async fn prove(&self, proof: &Equivocation) -> Result<Mined<Vaults>, OnlineError> {
        match proof {
            Equivocation::Log {
                key,
                index,
                base,
                branches,
            } => {
                let [one, other] = branches.each_ref().map(|branch| branch.to_sol(*index, *base));
                let call = OfflineVault::proveForkCall {
                    key: key.to_sol(),
                    base: base.0,
                    one,
                    other,
                };
                self.send(&call, U256::ZERO).await
            }
            Equivocation::Signature { key, transfers } => {
                let [(one, first), (other, second)] = transfers;
                let call = OfflineVault::proveEquivocationCall {
                    key: key.to_sol(),
                    one: one.to_sol(),
                    signatureOfOne: first.to_sol(),
                    other: other.to_sol(),
                    signatureOfOther: second.to_sol(),
                };
                self.send(&call, U256::ZERO).await
            }
        }
    }

    /// Step `compensate`: an exit whose part of the coin went to somebody else, because the wallet at hop `offender`
    /// double-spent. `paid` are the exits that were paid of the exit's group of sequences, in their order. Says what this call
    /// gave; while that and what was given before are less than the exit holds, further calls may give more: with another
    /// offender, with collateral that was added, or since a call visits 64 free parts of the coin.
    pub async fn compensate(
        &self,
        path: &Path,
        offender: usize,
        paid: &[TransferDigest],
    ) -> Result<(Compensated, Mined<Vaults>), OnlineError> {
        let call = OfflineVault::compensateCall {
            path: self.path_to_sol(path).await?,
            offender: U256::from(offender),
            paid: paid.iter().map(|exit| exit.0).collect(),
        };
        let mined = self.send(&call, U256::ZERO).await?;
        let found = mined.events.iter().find_map(|event| match event {
            OfflineVaultEvents::Compensated(compensated) => Some(Compensated {
                from_coin: Amount(u128::try_from(compensated.fromCoin).ok()?),
                from_collateral: Amount(u128::try_from(compensated.fromCollateral).ok()?),
            }),
            _ => None,
        });
        let hash = mined.hash;
        let found = found.ok_or(OnlineError::NoEvent {
            hash,
            event: "Compensated",
        })?;
        Ok((found, mined))
    }

    /// Step `revoke`, by the wallet's registrar.
    pub async fn revoke(&self, wallet: WalletId) -> Result<Mined<Vaults>, OnlineError> {
        self.send(&OfflineVault::revokeCall { wallet: wallet.0 }, U256::ZERO)
            .await
    }

    /// Step `killClass`, by the registrar.
    pub async fn kill_class(&self, class: ClassId) -> Result<Mined<Vaults>, OnlineError> {
        self.send(&OfflineVault::killClassCall { class: class.0 }, U256::ZERO)
            .await
    }

    /// The path, with what the contract has not seen of its logs, and where it finds the exit's part of the coin.
    async fn path_to_sol(&self, path: &Path) -> Result<bindings::offline::Path, OnlineError> {
        let client = self.client();
        let domain = client.domain();
        let heads = client.settled_heads(path, At::Latest).await?;
        let coin = domain.coin_id(&path.deposit.coin);
        let (near, _) = client.free_part_of(coin, path.place(&domain), At::Latest).await?;
        Ok(path.to_sol(&domain, near, &heads))
    }

    /// A call that takes `amount` of `asset` from the sender, with its approval first where the asset is a token.
    async fn pay_in(
        &self,
        asset: Address,
        amount: Amount,
        call: &impl SolCall,
    ) -> Result<Mined<Vaults>, OnlineError> {
        let wanted = U256::from(amount.0);
        if asset == Address::ZERO {
            return self.send(call, wanted).await;
        }
        let client = self.client();
        let spender = client.contract();
        let allowance = client.allowance(asset, self.sender.address(), spender).await?;
        if allowance < wanted {
            let approve = IERC20::approveCall {
                spender,
                amount: wanted,
            };
            self.sender
                .send(asset, approve.abi_encode().into(), U256::ZERO)
                .await?;
        }
        self.send(call, U256::ZERO).await
    }

    fn send(
        &self,
        call: &impl SolCall,
        value: U256,
    ) -> impl Future<Output = Result<Mined<Vaults>, OnlineError>> {
        let data = Bytes::from(call.abi_encode());
        async move { Ok(self.sender.send(self.client().contract(), data, value).await?) }
    }
}
