//! `micropay pay`: buys a file piece by piece over the local transport.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::B256;
use chain::At;
use clap::Args;
use eyre::{WrapErr, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use payer::ticket::{Edges, Limits, Payer, Seller};
use protocol::ticket::Amount;
use serde_json::json;
use storage::{OrderStore, SqliteStore};

use crate::buyer::{Bought, Catalog, TcpMerchant, buy_file, order_id};
use crate::config::Config;
use crate::output::{Output, rows};
use crate::parts::{Keeping, Parts};
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
    /// Buy the first N pieces only; the rest can be bought later [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pieces: Option<u64>,
    /// Payments in flight at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// Any text that makes this another purchase of the same file; the same text goes on with the same one
    #[arg(long, default_value = "")]
    purchase: String,
}

pub(crate) async fn run(pay: &Pay, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect().await?;
    let key = keys::escrow_key(config, &pay.escrow)?;
    let record = client.escrow_of(key.address(), At::Latest).await?;
    let record = record
        .ok_or_else(|| eyre::eyre!("there is no escrow {} yet: micropay escrow open", key.address()))?;
    let asset = Asset::read(&client, record.asset).await?;
    let max_price = pay
        .max_price
        .as_deref()
        .map_or(Ok(Amount::MAX), |price| asset.parse(price))?;
    let limits = Limits {
        max_price,
        ..Limits::default()
    };
    let store = stores::payer(&config.home, client.domain()).await?;
    let edges = Edges {
        now: clock::now,
        random: clock::random,
    };
    let merchants: Vec<_> = pay
        .merchants
        .iter()
        .map(|address| TcpMerchant::new(address.clone()))
        .collect();
    let catalog = merchants[0].catalog().await?;
    for merchant in &merchants[1..] {
        let other = merchant.catalog().await?;
        ensure!(
            other == catalog,
            "the merchants sell different files: {} and {}",
            catalog.sha256,
            other.sha256
        );
    }
    let pieces = pay.pieces.unwrap_or(catalog.pieces).min(catalog.pieces);
    // With the escrow: what one of them has begun is not what another pays for.
    let salt = sha256(
        &[
            sha256(pay.purchase.as_bytes()).as_slice(),
            key.address().as_slice(),
        ]
        .concat(),
    );

    let bought = if let Some(bytes) = finished(pay, &store, &catalog, pieces, salt).await? {
        Bought {
            bytes,
            payments: 0,
            refused: 0,
        }
    } else {
        let (parts, got) = Parts::open(&pay.out, order_id(salt, catalog.sha256, u64::MAX).0)?;
        let parts = Arc::new(parts);
        let keep = |merchant| {
            Seller::new(Keeping {
                merchant,
                parts: Arc::clone(&parts),
            })
        };
        let sellers: Vec<_> = merchants.into_iter().map(keep).collect();
        let payer = Payer::new(client.domain(), Arc::new(key), record, limits, store, edges);
        let bar = progress_bar(pieces, out);
        let progress = |done| bar.set_position(done);
        let bought = buy_file(
            &payer,
            &sellers,
            &catalog,
            pieces,
            got,
            salt,
            pay.at_once.into(),
            progress,
        )
        .await?;
        bar.finish_and_clear();
        write_whole(&pay.out, &bought.bytes).wrap_err_with(|| pay.out.display().to_string())?;
        if pieces == catalog.pieces {
            parts.remove()?; // else the rest can be bought later
        }
        bought
    };
    let got: B256 = sha256(&bought.bytes);
    let whole = pieces == catalog.pieces;
    ensure!(
        !whole || got == catalog.sha256,
        "the file's SHA-256 is {got}, the merchants promised {}",
        catalog.sha256
    );
    let value = json!({
        "payments": bought.payments, "refused": bought.refused, "pieces": pieces, "bytes": bought.bytes.len(),
        "sha256": got, "sha256_ok": whole.then_some(got == catalog.sha256), "out": pay.out,
    });
    let before = pieces - bought.payments;
    out.answer(
        &value,
        rows(&[
            ("pieces", format!("{pieces} of {}", catalog.pieces)),
            (
                "payments",
                if before == 0 {
                    pieces.to_string()
                } else {
                    format!("{} ({before} before)", bought.payments)
                },
            ),
            ("tickets refused", bought.refused.to_string()),
            (
                "sha256",
                format!("{got} ({})", if whole { "as promised" } else { "of a part" }),
            ),
            ("file", pay.out.display().to_string()),
        ]),
    )
}

/// The file, if this very purchase of it was finished before.
async fn finished(
    pay: &Pay,
    store: &SqliteStore,
    catalog: &Catalog,
    pieces: u64,
    salt: B256,
) -> eyre::Result<Option<Vec<u8>>> {
    let last = order_id(salt, catalog.sha256, pieces.saturating_sub(1));
    if pieces < catalog.pieces || Parts::exist(&pay.out) || store.order(last).await?.is_none() {
        return Ok(None);
    }
    Ok(std::fs::read(&pay.out)
        .ok()
        .filter(|bytes| sha256(bytes) == catalog.sha256))
}

/// Writes a file that is there whole or not at all, even when killed.
fn write_whole(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, file)
}

/// On standard error, where it is a terminal and nobody wants JSON.
pub(crate) fn progress_bar(length: u64, out: Output) -> ProgressBar {
    if out.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} pieces  {per_sec}  {eta}").expect("a constant");
    ProgressBar::new(length).with_style(style)
}
