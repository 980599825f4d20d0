//! `renew`, `checkpoint` and `sync`: what keeps a wallet good, once in a while, online.

use std::time::Instant;

use alloy::primitives::U256;
use alloy::sol_types::SolCall;
use bindings::offline::OfflineVault;
use chain::Sender;
use clap::Args;
use eyre::OptionExt;
use protocol::offline::{Seconds, Sequence};
use serde_json::json;
use services::registrar::OnChain;
use storage::offline::WalletStore;
use trusted::{Head, Transfers, TrustedWallet};
use wallet::{Online, OnlineError};

use super::ask::{PAUSE, take_lists, until};
use super::coins::ensure_domain;
use super::folder::{At, Folder, show_class};
use super::redeem::{open_exits, settle};
use super::sent::{Call, done, send_once};
use super::wait_of;
use crate::config::Config;
use crate::exit::{again, refused};
use crate::output::{Output, count, date};
use crate::units::parse_span;
use crate::{clock, keys};

/// A renewal that is under way, in the wallet's folder.
const SENT: &str = "renew.sent";

/// By whom.
#[derive(Debug, Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    at: At,
    /// Key of the owner's account
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Longest wait until it is final; the same command again goes on
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30m")]
    wait: Seconds,
}

/// By whom.
#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    at: At,
    /// Key of the account that pays the gas: anybody's
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Longest wait until it is final; the same command again goes on
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30m")]
    wait: Seconds,
}

/// Which wallet.
#[derive(Debug, Args)]
pub(crate) struct Sync {
    #[command(flatten)]
    at: At,
}

/// A later end. Payees are shown it when the contract has it for good, and not before: what is paid under an end that the
/// contract does not know is worth nothing.
pub(super) async fn renew(command: &Renew, config: &Config, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let mut device = folder.device().await?;
    device.resume().await?;
    let known = device.wallet().await?.registration;
    let terms = folder.terms().ok_or_eyre("a registered wallet has terms")?;
    let registrar = folder.registrar()?;
    let vouched = registrar.renew(device.component(), terms, clock::now()).await?;
    let wanted = vouched.registration.valid_until;
    if wanted <= known.valid_until {
        let value = json!({ "wallet": folder.id().0, "renewed": false, "validUntil": known.valid_until.0 });
        let text = format!(
            "not yet: half of the time until {} is to go first",
            date(known.valid_until)
        );
        return out.answer(&value, text);
    }
    let client = config.connect_vault().await?;
    ensure_domain(client.domain(), folder.domain())?;
    let on_chain = client.wallet_of(folder.id(), chain::At::Latest).await?;
    if on_chain.is_none_or(|wallet| wallet.validUntil < wanted.0) {
        let sender = Sender::new(client, keys::account(config, &command.from)?);
        let call = OfflineVault::registerCall {
            registration: vouched.registration.to_sol(),
            key: vouched.key.to_sol(),
            registrar: vouched.registrar(&folder.domain())?,
            vouched: vouched.signature.to_sol(),
            // Not read of a renewal.
            possession: bindings::offline::Signature {
                r: Default::default(),
                s: Default::default(),
            },
        };
        let purpose = json!({ "renew": folder.id().0, "until": wanted.0 });
        let file = folder.path.join(SENT);
        send_once(&sender, (&file, config.finality()?), purpose, || Call {
            data: call.abi_encode().into(),
            value: U256::ZERO,
        })
        .await?;
    }
    done(&folder.path.join(SENT))?;
    let wait = wait_of(command.wait);
    let since = Instant::now();
    let renewed = loop {
        let signed = until("the renewal is final", wait, || {
            registrar.registration(&known.key, terms)
        })
        .await?;
        // With the former end as long as the new one is not final.
        if signed.valid_until >= wanted {
            break signed;
        }
        if since.elapsed() >= wait {
            return Err(again(format!(
                "the contract has an end of {} for good, not yet of {}; the same command again goes on",
                date(signed.valid_until),
                date(wanted)
            )));
        }
        tokio::time::sleep(PAUSE).await;
    };
    device.renew(renewed).await?;
    let value = json!({ "wallet": folder.id().0, "renewed": true, "validUntil": renewed.valid_until.0 });
    out.answer(
        &value,
        format!(
            "wallet {} is of class {} until {}",
            folder.id(),
            show_class(terms.class),
            date(renewed.valid_until)
        ),
    )
}

/// Payees see the entries of a log since its last checkpoint, and take no more than a payment carries: the contract follows
/// the log, and the registrar signs how far.
pub(super) async fn checkpoint(command: &Checkpoint, config: &Config, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let mut device = folder.device().await?;
    device.resume().await?;
    device.check().await?;
    let domain = folder.domain();
    let books = device.wallet().await?;
    let (Some(log), Some(head)) = (&books.log, books.head(&domain)) else {
        return Err(refused(format!(
            "wallet {} is of kind SIGNATURE and has no log",
            folder.id()
        )));
    };
    let Some(last) = log.entries.last() else {
        let value = json!({ "wallet": folder.id().0, "entries": 0, "sequence": books.sequence.0 });
        return out.answer(&value, "nothing was logged since the last checkpoint");
    };
    let record = device.store().outgoing(last.transfer).await?;
    let record = record.ok_or_eyre("the log's last transfer is in the books")?;
    let client = config.connect_vault().await?;
    ensure_domain(client.domain(), domain)?;
    let online = Online::new(Sender::new(client, keys::account(config, &command.from)?));
    let mined = match online.settle_log(record.outgoing.payment()).await {
        Ok(mined) => Some(mined),
        Err(OnlineError::NothingToSettle { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let certified = match device.component().transfers() {
        Transfers::Log(component) => {
            component.certify(Head(head.0.0), trusted::TransferDigest(last.transfer.0.0))?
        }
        Transfers::Signature(_) => eyre::bail!("the component has no log, the books have one"),
    };
    let from = log
        .checkpoint
        .map_or(Sequence::ZERO, |signed| signed.checkpoint.sequence);
    let registrar = folder.registrar()?;
    let signed = until("the log is settled for good", wait_of(command.wait), async || {
        registrar
            .checkpoint(folder.id(), from, &log.entries, &certified)
            .await
    })
    .await?;
    let sequence = signed.checkpoint.sequence;
    device.take_checkpoint(signed).await?;
    let value = json!({
        "wallet": folder.id().0, "entries": log.entries.len(), "sequence": sequence.0,
        "transaction": mined.as_ref().map(|mined| mined.hash), "gas": mined.as_ref().map(|mined| mined.gas_used),
    });
    let entries = u64::try_from(log.entries.len()).unwrap_or(u64::MAX);
    out.answer(
        &value,
        format!(
            "{} settled; payees see those after transfer {sequence}",
            count(entries, "entry").replace("entrys", "entries")
        ),
    )
}

/// Lists of who is withdrawn, and what became of exits that were sent.
pub(super) async fn sync(command: &Sync, config: &Config, out: Output) -> eyre::Result<()> {
    let folder: Folder = command.at.open()?;
    let mut device = folder.device().await?;
    device.resume().await?;
    let lists = take_lists(&folder, &mut device).await?;
    let mut settled = 0;
    if !open_exits(&device, None).await?.is_empty() {
        let client = config.connect_vault().await?;
        ensure_domain(client.domain(), folder.domain())?;
        let known = OnChain::connect(client.clone(), config.finality()?).await?;
        settled = settle(&client, &known, &mut device).await?;
    }
    let value = json!({ "wallet": folder.id().0, "newLists": lists, "settled": settled });
    out.answer(
        &value,
        format!(
            "{} newer, {} settled",
            count(u64::try_from(lists).unwrap_or(u64::MAX), "revocation list"),
            count(u64::try_from(settled).unwrap_or(u64::MAX), "exit")
        ),
    )
}
