//! `redeem`: what is done online with what was received offline. A wallet leaves what it holds by exits, which it
//! makes without a network; anybody can take an exit to the contract, which pays the wallet's owner and nobody else.

use std::path::PathBuf;
use std::time::Instant;

use alloy::primitives::{Address, B256, U256};
use carry::{Message, MessageType, file};
use chain::{At as Block, ChainError, Client, Mined, Revert, Sender, Vaults};
use clap::Args;
use eyre::WrapErr;
use protocol::offline::{Domain, Input, Path, Seconds, TransferDigest, WalletId};
use serde_json::{Value, json};
use services::registrar::OnChain;
use storage::offline::{OutgoingStage, WalletStore};
use tracing::{info, warn};
use wallet::{Online, OnlineError, Redeemed};

use super::ask::{PAUSE, take_lists};
use super::coins::ensure_domain;
use super::folder::{Folder, Wallet, replace};
use super::message::wrong_type;
use super::pay::shown;
use super::wait_of;
use crate::config::Config;
use crate::exit::{again, refused, usage};
use crate::keys;
use crate::keys::private_folder;
use crate::output::{Output, count, ether};
use crate::units::parse_span;

/// Most paths of one transaction.
const BATCH: usize = 50;
/// Most bytes of its paths, as they travel, which is about their calldata: nodes take 128 KiB.
const BATCH_BYTES: usize = 96 * 1_024;

/// What is redeemed.
#[derive(Debug, Args)]
pub(crate) struct Redeem {
    /// The wallet's folder: it leaves what it holds
    #[arg(
        long = "wallet",
        value_name = "DIR",
        env = "MICROPAY_WALLET",
        required_unless_present = "paths"
    )]
    folder: Option<PathBuf>,
    /// Leave only this coin or fragment [default: everything]
    #[arg(long, value_name = "INPUT", conflicts_with = "paths")]
    input: Option<B256>,
    /// Leave only what is of this token, or of the zero address [default: everything]
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["input", "paths"])]
    token: Option<Address>,
    /// Send nothing, but write the exits into this folder, for anybody to redeem. Needs no network
    #[arg(long, value_name = "DIR", conflicts_with_all = ["from", "paths"])]
    export: Option<PathBuf>,
    /// Redeem these exits, whosever they are: files that --export wrote
    #[arg(long = "path", value_name = "FILE", num_args = 1..)]
    paths: Vec<PathBuf>,
    /// Key of the account that pays the gas: anybody's
    #[arg(long, value_name = "KEY", required_unless_present = "export")]
    from: Option<String>,
    /// Longest wait until it is final; 0s: none. The same command again goes on
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30m")]
    wait: Seconds,
}

/// An exit, as the contract knows it.
#[derive(Clone)]
pub(super) struct Exit {
    transfer: TransferDigest,
    wallet: WalletId,
    path: Path,
}

/// What the chain did with exits.
struct Outcome {
    paid: usize,
    mined: Vec<Mined<Vaults>>,
    skipped: Vec<Refused>,
    /// The newest block when the last was refused.
    head: u64,
}

/// An exit that the contract does not pay.
struct Refused {
    transfer: TransferDigest,
    /// Name of the contract's error.
    error: String,
    /// With its values.
    reason: String,
}

pub(super) async fn run(command: &Redeem, config: &Config, out: Output) -> eyre::Result<()> {
    if !command.paths.is_empty() {
        return of_anybody(command, config, out).await;
    }
    let path = command
        .folder
        .as_ref()
        .ok_or_else(|| usage("whose? --wallet DIR"))?;
    let folder =
        Folder::open(path)?.ok_or_else(|| usage(format!("there is no wallet in {}", path.display())))?;
    let mut device = folder.device().await?;
    device.resume().await?;
    leave(command, &folder, &mut device).await?;
    let open = open_exits(&device, command.input).await?;
    if let Some(place) = &command.export {
        return export(&folder, &open, place, out);
    }
    let (client, sender) = connect(command, config).await?;
    ensure_domain(client.domain(), folder.domain())?;
    let known = OnChain::connect(client.clone(), config.finality()?).await?;
    for exit in &open {
        // Saved before it is sent.
        device.claimed(exit.transfer).await?;
    }
    let outcome = redeem(&Online::new(sender), &open).await?;
    let deadline = Instant::now() + wait_of(command.wait);
    let mut settled = 0;
    loop {
        settled += settle(&client, &known, &mut device).await?;
        let back = step_back(&client, &known, &mut device, &open, &outcome).await?;
        let left = open_exits(&device, command.input).await?;
        let paid = left.iter().all(|exit| outcome.refuses(exit));
        if paid && back || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let left = open_exits(&device, command.input).await?.len();
    if let Err(error) = take_lists(&folder, &mut device).await {
        warn!(%error, "a revocation list could not be had: micropay offline sync");
    }
    let mut value = describe(&outcome);
    value["wallet"] = json!(folder.id().0);
    value["exits"] = json!(
        open.iter()
            .map(|exit| json!({
                "transfer": exit.transfer.0, "asset": exit.path.deposit.coin.asset,
                "amount": exit.path.hops.last().map(|hop| hop.transfer.amount.0.to_string()),
            }))
            .collect::<Vec<_>>()
    );
    value["settled"] = json!(settled);
    value["unsettled"] = json!(left);
    refuse(&outcome)?;
    in_time(command, left)?;
    finish(out, &folder, &open, &value, &outcome, settled, left)
}

/// Exits of what is held. Those that were made before are in the books.
async fn leave(command: &Redeem, folder: &Folder, device: &mut Wallet) -> eyre::Result<()> {
    let domain = folder.domain();
    let held = device.wallet().await?.holdings;
    let held = held.iter().map(|holding| holding.fragment(&domain));
    let wanted = held.filter(|fragment| command.token.is_none_or(|token| token == fragment.asset));
    let inputs: Vec<Input> = match command.input {
        Some(input) => vec![Input(input)],
        None => wanted.map(|fragment| fragment.id).collect(),
    };
    for input in inputs {
        device.exit(input).await?;
    }
    Ok(())
}

/// Exits that are not settled, for good.
pub(super) async fn open_exits(device: &Wallet, input: Option<B256>) -> eyre::Result<Vec<Exit>> {
    let mut exits = Vec::new();
    for stage in [OutgoingStage::Released, OutgoingStage::Claimed] {
        for record in device.store().outgoings(Some(stage)).await? {
            let Some(transfer) = record.transfer() else {
                continue;
            };
            let wanted = input.is_none_or(|input| transfer.input.0 == input);
            if record.outgoing.committed().invoice.is_none() && wanted {
                exits.push(Exit {
                    transfer: record.digest(device.domain()),
                    wallet: transfer.payee,
                    path: record.outgoing.payment().clone(),
                });
            }
        }
    }
    Ok(exits)
}

/// Marks what the chain has for good. How many that were.
pub(super) async fn settle(
    client: &Client<Vaults>,
    known: &OnChain,
    device: &mut Wallet,
) -> eyre::Result<usize> {
    let Some(block) = known.final_block().await? else {
        return Ok(0);
    };
    let mut settled = 0;
    for exit in open_exits(device, None).await? {
        if is_paid(client, &exit, block).await? {
            settled += usize::from(device.settled(exit.transfer).await?);
        }
    }
    Ok(settled)
}

/// Releases again what the chain refused, once the block of the refusal is final and has not paid it. True if nothing waits.
async fn step_back(
    client: &Client<Vaults>,
    known: &OnChain,
    device: &mut Wallet,
    exits: &[Exit],
    outcome: &Outcome,
) -> eyre::Result<bool> {
    if outcome.skipped.is_empty() {
        return Ok(true);
    }
    let block = known.final_ref().await?;
    let Some(block) = block.filter(|block| block.number >= outcome.head) else {
        return Ok(false);
    };
    for exit in exits.iter().filter(|exit| outcome.refuses(exit)) {
        if !is_paid(client, exit, Block::Block(block.hash)).await? {
            device.refused(exit.transfer).await?;
        }
    }
    Ok(true)
}

impl Outcome {
    fn refuses(&self, exit: &Exit) -> bool {
        self.skipped
            .iter()
            .any(|refused| refused.transfer == exit.transfer)
    }

    fn refused(&mut self, exit: &Exit, error: String, reason: String) {
        self.skipped.push(Refused {
            transfer: exit.transfer,
            error,
            reason,
        });
    }
}

async fn is_paid(client: &Client<Vaults>, exit: &Exit, at: Block) -> Result<bool, ChainError> {
    let sequence = exit.path.hops.last().map(|hop| hop.transfer.sequence);
    match sequence {
        Some(sequence) => client.is_redeemed(exit.wallet, sequence, at).await,
        None => Ok(false),
    }
}

/// Sends the exits that the chain has not paid yet. What it refuses is told apart from what somebody else sent meanwhile.
async fn redeem(online: &Online, exits: &[Exit]) -> eyre::Result<Outcome> {
    let client = online.client();
    let mut outcome = Outcome {
        paid: 0,
        mined: Vec::new(),
        skipped: Vec::new(),
        head: 0,
    };
    let mut new = Vec::new();
    for exit in exits {
        if !is_paid(client, exit, Block::Latest).await? {
            new.push(exit);
        }
    }
    let domain = client.domain();
    for batch in batches(new, |exit| exit.path.encode(&domain).len()) {
        if let [one] = *batch {
            match online.redeem(&one.path).await {
                Ok(mined) => {
                    outcome.paid += 1;
                    outcome.mined.push(mined);
                }
                Err(OnlineError::Chain(error @ (ChainError::Reverted(_) | ChainError::Failed { .. }))) => {
                    if !is_paid(client, one, Block::Latest).await? {
                        let name = error
                            .revert()
                            .map_or_else(|| "Failed".to_owned(), |revert| revert.name.clone());
                        outcome.refused(one, name, error.to_string());
                    }
                }
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        let paths: Vec<Path> = batch.iter().map(|exit| exit.path.clone()).collect();
        let (outcomes, mined) = online.redeem_batch(&paths).await?;
        outcome.mined.push(mined);
        for (exit, came) in batch.iter().zip(&outcomes) {
            match came {
                Redeemed::Paid { amount } => {
                    info!(transfer = %exit.transfer, %amount, "redeemed");
                    outcome.paid += 1;
                }
                Redeemed::Skipped { .. } if is_paid(client, exit, Block::Latest).await? => {}
                Redeemed::Skipped { reason, got, limit } => {
                    // What it reverts with alone.
                    let [got, limit] = [got, limit].map(|value| value.to_be_bytes::<32>());
                    let revert = Revert::decode::<Vaults>([&reason[..], &got, &limit].concat().into());
                    info!(transfer = %exit.transfer, reason = %revert, "left out of the batch");
                    outcome.refused(
                        exit,
                        revert.name.clone(),
                        format!("the contract refused: {revert}"),
                    );
                }
            }
        }
    }
    if !outcome.skipped.is_empty() {
        outcome.head = client.head().await?.number;
    }
    Ok(outcome)
}

/// A payment or an exit in a file.
pub(super) fn read_path(domain: &Domain, path: &std::path::Path) -> eyre::Result<Path> {
    let named = || path.display().to_string();
    let opened = std::fs::File::open(path).map_err(|error| usage(format!("{}: {error}", named())))?;
    let message = file::read_from(opened).wrap_err_with(named)?;
    if message.kind() != MessageType::Payment {
        return Err(wrong_type(message.kind(), &[MessageType::Payment]).wrap_err(named()));
    }
    Path::decode(domain, message.body()).wrap_err_with(named)
}

async fn of_anybody(command: &Redeem, config: &Config, out: Output) -> eyre::Result<()> {
    let (client, sender) = connect(command, config).await?;
    let domain = client.domain();
    let mut exits = Vec::new();
    for path in &command.paths {
        let named = || path.display().to_string();
        let read = read_path(&domain, path)?;
        let last = read
            .hops
            .last()
            .and_then(|hop| Some((hop.transfer, read.wallets.get(hop.payer)?.wallet())));
        let exit = last.filter(|(transfer, payer)| transfer.is_exit(*payer));
        let Some((transfer, wallet)) = exit else {
            return Err(refused(format!(
                "{} is a payment, and only an exit is redeemed: its payee makes it by redeem --export",
                named()
            )));
        };
        exits.push(Exit {
            transfer: domain.transfer_digest(&transfer),
            wallet,
            path: read,
        });
    }
    let outcome = redeem(&Online::new(sender), &exits).await?;
    let known = OnChain::connect(client.clone(), config.finality()?).await?;
    let deadline = Instant::now() + wait_of(command.wait);
    let left = loop {
        let mut left = 0;
        let block = known.final_block().await?;
        for exit in &exits {
            let refused = outcome.refuses(exit);
            let paid = match block {
                Some(block) => is_paid(&client, exit, block).await?,
                None => false,
            };
            left += usize::from(!paid && !refused);
        }
        if left == 0 || Instant::now() >= deadline {
            break left;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let mut value = describe(&outcome);
    value["unsettled"] = json!(left + outcome.skipped.len());
    refuse(&outcome)?;
    in_time(command, left)?;
    let text = format!(
        "{} redeemed for {} ({} were before){}",
        count(outcome.paid as u64, "exit"),
        count(exits.len() as u64, "file"),
        exits.len() - outcome.paid,
        spent(&outcome)
    );
    out.answer(&value, text)
}

async fn connect(command: &Redeem, config: &Config) -> eyre::Result<(Client<Vaults>, Sender<Vaults>)> {
    let from = command
        .from
        .as_deref()
        .ok_or_else(|| usage("whose gas? --from KEY"))?;
    let client = config.connect_vault().await?;
    let sender = Sender::new(client.clone(), keys::account(config, from)?);
    Ok((client, sender))
}

/// A file for each exit, named by its transfer.
fn export(folder: &Folder, exits: &[Exit], place: &std::path::Path, out: Output) -> eyre::Result<()> {
    private_folder(place)?;
    let mut files = Vec::new();
    for exit in exits {
        let message = Message::new(MessageType::Payment, exit.path.encode(&folder.domain()))?;
        let path = place.join(format!("{:x}.exit", exit.transfer.0));
        replace(&path, &file::to_bytes(&message))?;
        files.push(path);
    }
    let value = json!({
        "wallet": folder.id().0, "folder": place, "files": files,
        "exits": exits.iter().map(|exit| exit.transfer.0).collect::<Vec<_>>(),
    });
    out.answer(
        &value,
        format!(
            "{} in {}: micropay offline redeem --path FILE --from KEY, by anybody",
            count(files.len() as u64, "exit"),
            place.display()
        ),
    )
}

fn describe(outcome: &Outcome) -> Value {
    json!({
        "redeemed": outcome.paid,
        "transactions": outcome.mined.iter().map(|mined| mined.hash).collect::<Vec<_>>(),
        "gas": outcome.mined.iter().map(|mined| mined.gas_used).sum::<u64>(),
        "refused": outcome.skipped.iter().map(|refused| json!({
            "transfer": refused.transfer.0, "error": refused.error, "reason": refused.reason,
        })).collect::<Vec<_>>(),
    })
}

/// As many of each as one transaction takes; what is too large by itself is by itself.
fn batches<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let more = size(&item);
        match batches.last_mut() {
            Some(last) if last.len() < BATCH && bytes + more <= BATCH_BYTES => {
                bytes += more;
                last.push(item);
            }
            _ => {
                bytes = more;
                batches.push(vec![item]);
            }
        }
    }
    batches
}

fn spent(outcome: &Outcome) -> String {
    if outcome.mined.is_empty() {
        return String::new();
    }
    let gas: u64 = outcome.mined.iter().map(|mined| mined.gas_used).sum();
    let fee: u128 = outcome.mined.iter().map(Mined::fee).sum();
    format!(", gas {gas}, fee {}", ether(U256::from(fee)))
}

fn refuse(outcome: &Outcome) -> eyre::Result<()> {
    if outcome.skipped.is_empty() {
        return Ok(());
    }
    let each: Vec<_> = outcome
        .skipped
        .iter()
        .map(|refused| format!("exit {}: {}", refused.transfer, refused.reason))
        .collect();
    Err(refused(each.join("; ")))
}

/// Who waits wants it settled.
fn in_time(command: &Redeem, left: usize) -> eyre::Result<()> {
    if left == 0 || command.wait.0 == 0 {
        return Ok(());
    }
    Err(again(format!(
        "{} not final within {} s; the same command again goes on",
        count(left as u64, "exit"),
        command.wait
    )))
}

fn finish(
    out: Output,
    folder: &Folder,
    exits: &[Exit],
    value: &Value,
    outcome: &Outcome,
    settled: usize,
    left: usize,
) -> eyre::Result<()> {
    let mut lines: Vec<String> = exits
        .iter()
        .filter_map(|exit| {
            let amount = exit.path.hops.last()?.transfer.amount;
            let amount = shown(folder, exit.path.deposit.coin.asset, amount);
            Some(format!("exit {} of {amount}", exit.transfer))
        })
        .collect();
    lines.push(format!(
        "{} sent, {settled} settled, {left} not final yet{}",
        count(outcome.paid as u64, "exit"),
        spent(outcome)
    ));
    out.answer(value, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fit_into_transactions() {
        let sizes = |sizes: &[usize]| -> Vec<usize> {
            let batches = batches(sizes.to_vec(), |size| *size);
            assert_eq!(batches.concat(), sizes);
            batches.iter().map(Vec::len).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[700; 101]), [50, 50, 1]);
        assert_eq!(sizes(&[BATCH_BYTES / 2; 3]), [2, 1]);
        // An exit of a very long log.
        assert_eq!(sizes(&[10, 2 * BATCH_BYTES, 10, 10]), [1, 1, 2]);
    }
}
