//! `micropay pay`: buys a file piece by piece over the local transport.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use alloy::primitives::B256;
use chain::At;
use clap::Args;
use eyre::{WrapErr, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use payer::ticket::{Edges, Limits, Payer, Seller};
use protocol::ticket::Amount;
use serde_json::json;

use crate::buyer::{TcpMerchant, buy_file};
use crate::config::Config;
use crate::output::{Output, rows};
use crate::shop::sha256;
use crate::units::Asset;
use crate::{clock, keys, stores};

/// What to buy, and how.
#[derive(Debug, Args)]
pub(crate) struct Pay {
    /// Address of a merchant, HOST:PORT; several are bought from in turn
    #[arg(required = true)]
    merchants: Vec<String>,
    /// Name of the escrow key
    #[arg(long, value_name = "KEY")]
    escrow: String,
    /// Where to write the file
    #[arg(long)]
    out: PathBuf,
    /// Highest price of a piece [default: any]
    #[arg(long)]
    max_price: Option<String>,
    /// Pieces to buy [default: all]
    #[arg(long)]
    pieces: Option<u64>,
    /// Payments in flight at once
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Any text that makes this another purchase of the same file; the same text goes on with the same one
    #[arg(long, default_value = "")]
    purchase: String,
}

pub(crate) async fn run(pay: &Pay, config: &Config, out: Output) -> eyre::Result<()> {
    ensure!(pay.at_once > 0, "--at-once is {}, it must be 1 at least", pay.at_once);
    let client = config.connect().await?;
    let key = keys::escrow_key(config, &pay.escrow)?;
    let record = client.escrow_of(key.address(), At::Latest).await?;
    let record = record.ok_or_else(|| eyre::eyre!("there is no escrow {} yet: micropay escrow open", key.address()))?;
    let asset = Asset::read(&client, record.asset).await?;
    let max_price = pay.max_price.as_deref().map_or(Ok(Amount::MAX), |price| asset.parse(price))?;
    let limits = Limits { max_price, ..Limits::default() };
    let store = stores::payer(&config.home, client.domain()).await?;
    let edges = Edges { now: clock::now, random: clock::random };
    let payer = Payer::new(client.domain(), Arc::new(key), record, limits, store, edges);

    let sellers: Vec<_> = pay.merchants.iter().map(|address| Seller::new(TcpMerchant::new(address.clone()))).collect();
    let catalog = sellers[0].api().catalog().await?;
    for seller in &sellers[1..] {
        let other = seller.api().catalog().await?;
        ensure!(other == catalog, "the merchants sell different files: {} and {}", catalog.sha256, other.sha256);
    }
    let pieces = pay.pieces.unwrap_or(catalog.pieces).min(catalog.pieces);
    let bar = progress_bar(pieces, out);
    let salt = sha256(pay.purchase.as_bytes());
    let bought = buy_file(&payer, &sellers, &catalog, pieces, salt, pay.at_once, |done| bar.set_position(done)).await?;
    bar.finish_and_clear();
    std::fs::write(&pay.out, &bought.bytes).wrap_err_with(|| pay.out.display().to_string())?;
    let got: B256 = sha256(&bought.bytes);
    let whole = pieces == catalog.pieces;
    ensure!(!whole || got == catalog.sha256, "the file's SHA-256 is {got}, the merchants promised {}", catalog.sha256);
    let value = json!({
        "payments": bought.payments, "refused": bought.refused, "bytes": bought.bytes.len(), "sha256": got,
        "sha256_ok": whole.then_some(got == catalog.sha256), "out": pay.out,
    });
    out.answer(&value, rows(&[
        ("pieces", format!("{} of {}", bought.payments, catalog.pieces)),
        ("tickets refused", bought.refused.to_string()),
        ("sha256", format!("{got} ({})", if whole { "as promised" } else { "of a part" })),
        ("file", pay.out.display().to_string()),
    ]))
}

/// On standard error, where it is a terminal and nobody wants JSON.
pub(crate) fn progress_bar(length: u64, out: Output) -> ProgressBar {
    if out.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pieces  {per_sec}  {eta}").expect("a constant");
    ProgressBar::new(length).with_style(style)
}
