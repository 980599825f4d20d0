//! A coin in a file: what it is made of, and the registrar's word that it is final. With both a wallet imports it without a
//! network. No secret: it is good for its own wallet only.

use std::fs;
use std::path::Path;

use alloy::primitives::{Address, B256, Bytes};
use eyre::{WrapErr, ensure};
use protocol::offline::{Amount, Coin, DepositNonce, Domain, SignedDeposit, WalletId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::coins::ensure_domain;
use super::folder::replace;
use crate::units::decimal;

/// Says what the file is, for whoever finds it.
const FORMAT: &str = "micropay-coin/1";

/// A coin file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CoinFile {
    format: String,
    chain_id: u64,
    vault: Address,
    wallet: B256,
    asset: Address,
    #[serde(with = "decimal")]
    amount: u128,
    deposit_nonce: u64,
    /// The registrar's word that it is final: CBOR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<Bytes>,
}

impl CoinFile {
    pub(super) fn new(domain: Domain, coin: &Coin, receipt: Option<&SignedDeposit>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            chain_id: domain.chain_id(),
            vault: domain.contract(),
            wallet: coin.wallet.0,
            asset: coin.asset,
            amount: coin.amount.0,
            deposit_nonce: coin.deposit_nonce.0,
            receipt: receipt.map(|receipt| receipt.encode(&domain).into()),
        }
    }

    pub(super) fn read(path: &Path) -> eyre::Result<Self> {
        let named = || path.display().to_string();
        let text = fs::read(path).wrap_err_with(named)?;
        let file: Self = serde_json::from_slice(&text).wrap_err_with(named)?;
        ensure!(
            file.format == FORMAT,
            "{}: the format is {:?}, known is {FORMAT:?}",
            named(),
            file.format
        );
        Ok(file)
    }

    pub(super) fn write(&self, path: &Path) -> eyre::Result<()> {
        let value: Value = serde_json::to_value(self)?;
        replace(path, format!("{value:#}\n").as_bytes())
    }

    pub(super) fn coin(&self, domain: Domain) -> eyre::Result<Coin> {
        ensure_domain(Domain::new(self.chain_id, self.vault), domain)
            .wrap_err("the coin file is of another vault")?;
        Ok(Coin {
            wallet: WalletId(self.wallet),
            asset: self.asset,
            amount: Amount(self.amount),
            deposit_nonce: DepositNonce(self.deposit_nonce),
        })
    }

    pub(super) fn receipt(&self, domain: Domain) -> eyre::Result<Option<SignedDeposit>> {
        let signed = self.receipt.as_ref();
        Ok(signed
            .map(|signed| SignedDeposit::decode(&domain, signed))
            .transpose()?)
    }
}
