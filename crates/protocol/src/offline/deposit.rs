//! Coins, and the registrar's receipt for them. A payee without a network cannot see the chain: what counts for it is the
//! signature that the registrar gives only after finality.

use alloy_primitives::Address;

use super::{
    Amount, CoinId, DepositNonce, Domain, Key, Signature, SignatureError, Timestamp, WalletId, recover,
};

/// A deposit: all that its name is made of, but for chain and contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coin {
    /// The wallet that may spend it.
    pub wallet: WalletId,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// Its value, atomic units.
    pub amount: Amount,
    /// Which deposit it was.
    pub deposit_nonce: DepositNonce,
}

/// What the registrar signs when the deposit is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DepositReceipt {
    /// The coin.
    pub coin: CoinId,
    /// The wallet that may spend it.
    pub wallet: WalletId,
    /// Token, or the zero address.
    pub asset: Address,
    /// Its value, atomic units.
    pub amount: Amount,
    /// Until when its fragments are redeemed for certain.
    pub settle_by: Timestamp,
}

/// A coin with its signed receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedDeposit {
    /// The coin.
    pub coin: Coin,
    /// Until when its fragments are redeemed for certain.
    pub settle_by: Timestamp,
    /// The registrar's.
    pub signature: Signature,
}

impl DepositReceipt {
    /// Signed by the registrar.
    pub fn sign(&self, domain: &Domain, registrar: &Key) -> Signature {
        registrar.sign(domain.deposit_receipt_digest(self))
    }
}

impl SignedDeposit {
    /// What the registrar signed.
    pub fn receipt(&self, domain: &Domain) -> DepositReceipt {
        DepositReceipt {
            coin: domain.coin_id(&self.coin),
            wallet: self.coin.wallet,
            asset: self.coin.asset,
            amount: self.coin.amount,
            settle_by: self.settle_by,
        }
    }

    /// Who signed.
    pub fn registrar(&self, domain: &Domain) -> Result<Address, SignatureError> {
        let digest = domain.deposit_receipt_digest(&self.receipt(domain));
        recover(digest, &self.signature).map(|key| key.address())
    }
}
