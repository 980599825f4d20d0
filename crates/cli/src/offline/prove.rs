//! `prove`: two payments that exclude each other show that a wallet double-spent. Whoever holds both may show it to the
//! contract, which has its collateral for those whom it cheated, and lets it neither renew nor get coins. Its registrar, which
//! hears of it there, stops it.

use std::path::PathBuf;

use alloy::primitives::U256;
use chain::{At, Sender};
use clap::Args;
use eyre::WrapErr;
use protocol::offline::{Equivocation, equivocation};
use serde_json::json;
use wallet::Online;

use super::redeem::read_path;
use crate::config::Config;
use crate::exit::refused;
use crate::keys;
use crate::output::{Output, ether};

/// What excludes each other.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// A payment or an exit, in a file
    one: PathBuf,
    /// Another that excludes it
    other: PathBuf,
    /// Key of the account that pays the gas: anybody's
    #[arg(long, value_name = "KEY")]
    from: String,
}

pub(super) async fn run(command: &Prove, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect_vault().await?;
    let domain = client.domain();
    let paths = [
        read_path(&domain, &command.one)?,
        read_path(&domain, &command.other)?,
    ];
    let one = paths[0]
        .prove(&domain)
        .wrap_err_with(|| command.one.display().to_string())?;
    let other = paths[1]
        .prove(&domain)
        .wrap_err_with(|| command.other.display().to_string())?;
    let last = [&one, &other].map(|path| path.digests().last().map(ToString::to_string).unwrap_or_default());
    let proof = equivocation(&domain, &one, &other).ok_or_else(|| {
        refused(format!(
            "transfers {} and {} do not exclude each other, nor do those before them",
            last[0], last[1]
        ))
    })?;
    let (key, kind, digests) = match &proof {
        Equivocation::Signature { key, transfers } => {
            let digests = transfers.each_ref().map(|(made, _)| domain.transfer_digest(made));
            (key, "signature", digests)
        }
        Equivocation::Log { key, branches, .. } => {
            (key, "log", branches.each_ref().map(|branch| branch.transfer))
        }
    };
    let wallet = key.wallet();
    let known = client.wallet_of(wallet, At::Latest).await?;
    let mut value = json!({
        "wallet": wallet.0, "kind": kind, "transfers": digests.map(|digest| digest.0),
        "transaction": null, "new": false,
    });
    let what = format!("wallet {wallet} made {} and {}", digests[0], digests[1]);
    if known.is_some_and(|known| known.equivocated) {
        return out.answer(&value, format!("{what}: proven before"));
    }
    let sender = Sender::new(client, keys::account(config, &command.from)?);
    let mined = Online::new(sender).prove(&proof).await?;
    (value["transaction"], value["new"]) = (json!(mined.hash), json!(true));
    let fee = ether(U256::from(mined.fee()));
    out.answer(
        &value,
        format!(
            "{what}, which exclude each other: the contract knows, by transaction {}, fee {fee}",
            mined.hash
        ),
    )
}
