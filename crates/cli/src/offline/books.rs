//! `wallet balance`, `history`, `backup` and `receipt`: what is in the books.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use alloy::primitives::{Address, B256};
use clap::Args;
use eyre::{WrapErr, ensure};
use protocol::offline::{Amount, Sequence, TransferDigest, Wallet as Books, WalletId};
use serde_json::json;
use storage::offline::{HistoryRecord, InvoiceStage, OutgoingStage, WalletStore};

use super::folder::{At, BOOKS, Folder, Wallet, replace, transfers};
use super::pay::shown;
use crate::exit::{refused, usage};
use crate::keys::private_folder;
use crate::output::{Output, count, date, print, rows};

/// Which wallet's.
#[derive(Debug, Args)]
pub(crate) struct Balance {
    #[command(flatten)]
    at: At,
}

/// How much of it.
#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    at: At,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Only those before this number
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
}

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    at: At,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Of which payment.
#[derive(Debug, Args)]
pub(crate) struct Receipt {
    #[command(flatten)]
    at: At,
    /// The transfer: 0x and as many digits as make it the only one
    transfer: String,
    /// Into this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What there is of one asset.
#[derive(Clone, Copy, Default)]
struct Parts {
    held: Amount,
    /// Of what is held: what other wallets paid. Who broke theirs could take it back.
    offline_accepted: Amount,
    exited: Amount,
    claimed: Amount,
    settled: Amount,
    /// Payments that were released and not accepted yet: not held any more.
    outstanding: Amount,
    payments: u64,
}

pub(super) async fn balance(command: &Balance, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let mut device = folder.device().await?;
    // What was chosen is no longer held, and is finished first.
    device.resume().await?;
    let assets = parts(&mut device).await?;
    let waiting = device.store().invoices(Some(InvoiceStage::Waiting)).await?.len();
    let in_step = device.check().await;
    let value = json!({
        "wallet": folder.id().0, "inStep": in_step.is_ok(), "invoicesWaiting": waiting,
        "assets": assets.iter().map(|(asset, parts)| json!({
            "asset": asset, "held": parts.held.0.to_string(), "offlineAccepted": parts.offline_accepted.0.to_string(),
            "exited": parts.exited.0.to_string(), "claimed": parts.claimed.0.to_string(),
            "settled": parts.settled.0.to_string(), "outstanding": parts.outstanding.0.to_string(),
            "outstandingPayments": parts.payments,
        })).collect::<Vec<_>>(),
    });
    let mut lines = vec![("wallet", folder.id().to_string())];
    for (asset, parts) in &assets {
        let show = |amount| shown(&folder, *asset, amount);
        lines.extend([
            ("held", show(parts.held)),
            ("  offline-accepted", show(parts.offline_accepted)),
            ("exited", show(parts.exited)),
            ("claimed", show(parts.claimed)),
            ("settled", show(parts.settled)),
        ]);
        if parts.payments > 0 {
            lines.push((
                "not accepted yet",
                format!(
                    "{} in {}: micropay offline pay --again TRANSFER",
                    show(parts.outstanding),
                    count(parts.payments, "payment")
                ),
            ));
        }
    }
    if let Err(error) = in_step {
        lines.push(("CANNOT PAY", error.to_string()));
    }
    out.answer(&value, rows(&lines))
}

async fn parts(device: &mut Wallet) -> eyre::Result<BTreeMap<Address, Parts>> {
    let domain = *device.domain();
    let wallet = device.wallet().await?;
    let mut assets: BTreeMap<Address, Parts> = BTreeMap::from([(Address::ZERO, Parts::default())]);
    let add = |sum: &mut Amount, amount| *sum = sum.checked_add(amount).unwrap_or(Amount::MAX);
    for holding in &wallet.holdings {
        let fragment = holding.fragment(&domain);
        let parts = assets.entry(fragment.asset).or_default();
        add(&mut parts.held, fragment.value);
        if by_others(&wallet, holding) {
            add(&mut parts.offline_accepted, fragment.value);
        }
    }
    for record in device.store().outgoings(None).await? {
        let parts = assets
            .entry(record.outgoing.payment().deposit.coin.asset)
            .or_default();
        let paid = record.transfer().map_or(Amount::ZERO, |transfer| transfer.amount);
        if record.outgoing.committed().invoice.is_some() && record.state.stage() == OutgoingStage::Released {
            add(&mut parts.outstanding, paid);
            parts.payments += 1;
        }
    }
    for (asset, parts) in &mut assets {
        let balance = device.balance(*asset).await?;
        (parts.exited, parts.claimed, parts.settled) = (balance.exited, balance.claimed, balance.settled);
    }
    Ok(assets)
}

/// Whether another wallet spent on the way to a holding.
fn by_others(wallet: &Books, holding: &protocol::offline::Holding) -> bool {
    let path = &holding.path;
    let payers = path.hops.iter().filter_map(|hop| path.wallets.get(hop.payer));
    payers
        .map(protocol::offline::SignedRegistration::wallet)
        .any(|payer| payer != wallet.id())
}

pub(super) async fn history(command: &History, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let device = folder.device().await?;
    let records = device.history(command.before, command.limit).await?;
    let value: Vec<_> = records
        .iter()
        .map(|HistoryRecord { number, event }| {
            json!({
                "number": number, "at": event.at.0, "kind": event.kind.name(), "subject": event.subject,
                "asset": event.asset, "amount": event.amount.0.to_string(), "other": event.other.map(|other| other.0),
            })
        })
        .collect();
    let line = |HistoryRecord { number, event }: &HistoryRecord| {
        let other = event.other.map_or_else(String::new, |other| {
            let way = match event.kind {
                storage::offline::EventKind::Received | storage::offline::EventKind::ReceivedLate => "from",
                _ => "to",
            };
            format!("  {way} {}", short(other))
        });
        format!(
            "{number:>4}  {}  {:<13}  {}  {}{other}",
            date(event.at),
            event.kind.name(),
            shown(&folder, event.asset, event.amount),
            event.subject
        )
    };
    let text = match &records[..] {
        [] => "nothing happened yet".to_owned(),
        some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    out.answer(&value, text)
}

/// The first digits of a wallet's id, for lists.
fn short(wallet: WalletId) -> String {
    wallet.to_string().chars().take(12).chain(['…']).collect()
}

/// Everything but a key that could be used twice: the settings, the books, and of a TPM the key that only this TPM can load.
pub(super) async fn backup(command: &Backup, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    if command.out.exists() {
        return Err(refused(format!(
            "{} is there already: a backup is a folder of its own",
            command.out.display()
        )));
    }
    let mut device = folder.device().await?;
    device.resume().await?;
    let sequence = device.wallet().await?.sequence;
    // The component stays open, so that nobody writes meanwhile; the closed store is one file.
    let (component, store) = device.into_parts();
    store.close().await?;
    private_folder(&command.out)?;
    let mut files = Vec::new();
    for name in [BOOKS, "wallet.toml", "tpm-wallet"] {
        let from = folder.path.join(name);
        if !from.exists() {
            continue;
        }
        let bytes = fs::read(&from).wrap_err_with(|| from.display().to_string())?;
        replace(&command.out.join(name), &bytes)?;
        files.push(name);
    }
    drop(component);
    let value =
        json!({ "wallet": folder.id().0, "folder": command.out, "files": files, "sequence": sequence.0 });
    out.answer(&value, backup_text(&folder, command, &files, sequence))
}

fn backup_text(folder: &Folder, command: &Backup, files: &[&str], sequence: Sequence) -> String {
    let key = if files.contains(&"tpm-wallet") {
        "The key is wrapped by the TPM, and of use in this TPM only: if that is lost, so is the wallet."
    } else {
        "The software key is not in it: two copies of it could spend the same money twice, and pay the penalty for it."
    };
    format!(
        "{} of wallet {} in {}, after {}.\n\n{key}\n\n\
         Put back beside the component, these files can\n\
         - do everything, if the wallet has made no transfer since;\n\
         - be read, give out again the payments that are in them, and redeem the exits that are in them.\n\
         They cannot\n\
         - pay or ask for payment if it has: the component is ahead, and two transfers of one sequence are a double spend;\n\
         - know what was received since: payers give that out again.\n\
         If the component is lost, what nobody redeemed goes back to who deposited it: micropay offline reclaim, seven days\n\
         after the coin's time.",
        files.join(", "),
        folder.id(),
        command.out.display(),
        transfers(sequence)
    )
}

pub(super) async fn receipt(command: &Receipt, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let mut device = folder.device().await?;
    device.resume().await?;
    let transfer = find(&device, &command.transfer).await?;
    let receipt = device.receipt(transfer).await?;
    let printed = receipt.print(
        &shown(&folder, receipt.asset, receipt.amount),
        &date(receipt.issued_at),
    );
    if let Some(file) = &command.out {
        replace(file, printed.as_bytes())?;
    } else if !out.json {
        return print(printed.as_bytes());
    }
    let value = json!({
        "transfer": receipt.transfer.0, "invoice": receipt.invoice.map(|invoice| invoice.0),
        "payer": receipt.payer.0, "payee": receipt.payee.0, "asset": receipt.asset,
        "amount": receipt.amount.0.to_string(), "issuedAt": receipt.issued_at.0,
        "code": receipt.code().map(|code| code.to_string()), "state": receipt.state.name(),
        "chainId": folder.settings.chain_id, "vault": folder.settings.vault, "receipt": printed, "file": command.out,
    });
    out.answer(
        &value,
        command
            .out
            .as_ref()
            .map_or_else(String::new, |file| format!("written to {}", file.display())),
    )
}

/// The transfer of the books that begins so.
async fn find(device: &Wallet, text: &str) -> eyre::Result<TransferDigest> {
    let digits = text.strip_prefix("0x").unwrap_or(text).to_lowercase();
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(usage(format!(
            "a transfer is named by 0x and up to 64 hexadecimal digits, got {text:?}"
        )));
    }
    let mut known: Vec<B256> = Vec::new();
    for record in device.store().outgoings(None).await? {
        known.push(record.digest(device.domain()).0);
    }
    for record in device.store().invoices(Some(InvoiceStage::Credited)).await? {
        if let storage::offline::InvoiceState::Credited { credited, .. } = &record.state {
            known.push(credited.state().judged.transfer.0);
        }
    }
    known.retain(|digest| format!("{digest:x}").starts_with(&digits));
    ensure!(
        known.len() == 1,
        "{} transfers of this wallet begin with {text}",
        known.len()
    );
    Ok(TransferDigest(known[0]))
}
