//! `micropay channel open-receipts` and `verify`: the receipts of a channel, from the client's opener to a file that anyone
//! can check without a chain, end to end: every receipt opens the one before it, and the first the bank's own signature.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use alloy::primitives::Address;
use clap::Args;
use eyre::OptionExt;
use payer::channel::VendorApi;
use protocol::channel::{Amount, ChannelId, Domain, Index, ReceiptsFile, Stopped, recover};
use serde_json::{Value, json};
use storage::Store;
use url::Url;

use super::file::{ReceiptsJson, channel_of};
use super::show::vendor_channel;
use super::{client_channel, client_store, place, vendor_at, vendor_store_at, vendor_store_in};
use crate::config::Config;
use crate::exit::{self, refused};
use crate::keys;
use crate::output::{Output, count, rows};
use crate::stores::{Place, Storage};
use crate::units::Asset;

/// Whose step: the client's, or with `--vendor` the vendor's.
#[derive(Debug, Args)]
pub(crate) struct OpenReceipts {
    /// The channel: its id, or as many digits as make it the only one [default: the one that is open]
    channel: Option<String>,
    /// Where the vendor sells [default: where the channel was opened for]
    #[arg(long, value_name = "URL", conflicts_with = "vendor")]
    at: Option<Url>,
    /// Open what this vendor has in its store, with the opener that its client has sent
    #[arg(long, value_name = "ADDRESS|KEY")]
    vendor: Option<String>,
    /// Write the receipts to this file, for `micropay channel verify`
    #[arg(long, value_name = "FILE", requires = "vendor")]
    out: Option<PathBuf>,
    #[command(flatten)]
    storage: Storage,
}

/// What to check, and whom to trust.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A file of `micropay channel open-receipts --out`
    file: PathBuf,
    /// A key that signs the permits of a bank that you trust: the bank's own address, unless it set another, or the name of
    /// a key; repeatable, as a bank changes its keys. Without it the file's own word is taken, and said so
    #[arg(long, value_name = "ADDRESS|KEY")]
    bank: Vec<String>,
}

/// What a check of receipts found.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) channel: ChannelId,
    pub(crate) domain: Domain,
    pub(crate) client: Address,
    pub(crate) vendor: Address,
    pub(crate) asset: Address,
    pub(crate) bank: Address,
    /// Who signed the opening permit; `None`: nobody.
    pub(crate) signer: Option<Address>,
    /// Whether the reader named the signer as one to trust.
    pub(crate) named: bool,
    /// Whether the reader named anybody.
    asked: bool,
    pub(crate) opened: usize,
    pub(crate) ends_in_sigma0: bool,
    /// Units that the last receipt is for.
    pub(crate) index: Index,
    pub(crate) amount: Amount,
    pub(crate) wrong: Option<String>,
}

pub(super) async fn open_receipts(open: &OpenReceipts, config: &Config, out: Output) -> eyre::Result<()> {
    match &open.vendor {
        None => send_opener(open, config, out).await,
        Some(vendor) => {
            let vendor = keys::address_or_name(config, vendor)?;
            let domain = config.channel_domain().await?;
            match place(config, &open.storage, vendor).await? {
                Place::File(path) => {
                    open_stored(
                        open,
                        domain,
                        vendor_store_at(config, &path, vendor).await?,
                        vendor,
                        out,
                    )
                    .await
                }
                Place::Database(url) => {
                    open_stored(
                        open,
                        domain,
                        vendor_store_in(config, &url, vendor).await?,
                        vendor,
                        out,
                    )
                    .await
                }
            }
        }
    }
}

async fn send_opener(open: &OpenReceipts, config: &Config, out: Output) -> eyre::Result<()> {
    let store = client_store(config).await?;
    let record = client_channel(&store, open.channel.as_deref()).await?;
    let id = record.channel.id();
    let vendor = vendor_at(config, &record, open.at.as_ref()).await?;
    let opener = record.channel.opener();
    if opener.index == Index::ZERO {
        return Err(refused(format!(
            "nothing was delivered over channel {id}: there is no receipt"
        )));
    }
    let opened = vendor.open_receipts(&opener).await?;
    let index = opener.index;
    let value = json!({
        "channel": id.0, "index": index.0, "opened": opened.opened, "endsInSigma0": opened.ends_in_sigma0,
    });
    let receipts = count(opened.opened, "receipt");
    let text = if opened.ends_in_sigma0 {
        format!("the vendor opened {receipts} with it, down to the bank's signature")
    } else {
        format!("the vendor opened {receipts} with it, and not all: one of you has lost or changed something")
    };
    out.answer(&value, text)
}

async fn open_stored<S: Store>(
    open: &OpenReceipts,
    domain: Domain,
    store: S,
    vendor: Address,
    out: Output,
) -> eyre::Result<()> {
    let (id, chain) = vendor_channel(&store, vendor, open.channel.as_deref()).await?;
    let stored = store.vendor_channel(id).await?;
    let opening = stored.and_then(|stored| stored.opening);
    let opening = opening.ok_or_else(|| {
        refused(format!(
            "the client of channel {id} has not sent what opens its receipts: micropay channel open-receipts {id}"
        ))
    })?;
    let payments = store
        .vendor_payments(id, Index::ZERO..=opening.opener.index)
        .await?;
    let file = ReceiptsFile {
        terms: chain.admitted(&domain),
        receipts: payments.iter().map(|payment| payment.payment.receipt()).collect(),
        opener: opening.opener,
    };
    let json = ReceiptsJson::new(&domain, &file);
    let verified = Verified::of(&json, &[])?;
    let path = open.out.as_deref();
    if let Some(path) = path {
        json.write(path)?;
    }
    let mut value = verified.describe();
    value["out"] = json!(path);
    let mut text = verified.text();
    if let Some(path) = path {
        text.push_str(&format!("\nwritten to {}", path.display()));
    }
    out.answer(&value, text)
}

pub(super) fn verify(verify: &Verify, config: &Config, out: Output) -> eyre::Result<ExitCode> {
    let banks = verify.bank.iter();
    let banks = banks.map(|bank| keys::address_or_name(config, bank));
    let banks = banks.collect::<eyre::Result<Vec<_>>>()?;
    let verified = Verified::of(&ReceiptsJson::read(&verify.file)?, &banks)?;
    out.answer(&verified.describe(), verified.text())?;
    Ok(if verified.holds() {
        ExitCode::SUCCESS
    } else {
        exit::FAILED.into()
    })
}

impl Verified {
    /// Checks a file, end to end, against the keys of the banks that the reader trusts, or, without any, against whoever
    /// signed its first permit.
    pub(crate) fn of(json: &ReceiptsJson, bank_keys: &[Address]) -> eyre::Result<Self> {
        let (domain, file) = (json.domain(), json.parse()?);
        let opening = file.terms.first().ok_or_eyre("0 permits, at least 1 is needed")?;
        let permit = opening.permit();
        let signer = recover(permit.digest(), opening.signature()).ok();
        let signer = signer.map(|key| key.address());
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut found = Self {
            channel: channel_of(&file),
            domain,
            client: permit.client(),
            vendor: permit.vendor(),
            asset: permit.asset(),
            bank: opening.bank(),
            signer,
            named: signer.is_some_and(|signer| bank_keys.contains(&signer)),
            asked: !bank_keys.is_empty(),
            opened: 0,
            ends_in_sigma0: false,
            index: file.opener.index,
            amount: permit.unit().saturating_mul(file.opener.index.0.into()),
            wrong: None,
        };
        let said = [signer.unwrap_or(opening.bank())];
        let trusted = if bank_keys.is_empty() { &said } else { bank_keys };
        match file.verify(&domain, trusted, threads) {
            Ok(opened) => {
                found.opened = opened.receipts.len();
                found.ends_in_sigma0 = opened.ends_in_sigma0;
                found.wrong = opened.stopped.map(|stopped| why(&stopped));
            }
            Err(error) => found.wrong = Some(error.to_string()),
        }
        Ok(found)
    }

    /// Whether every receipt opened, down to the bank's signature.
    pub(crate) fn holds(&self) -> bool {
        self.wrong.is_none() && self.ends_in_sigma0
    }

    pub(crate) fn describe(&self) -> Value {
        json!({
            "holds": self.holds(), "opened": self.opened, "ends_in_sigma0": self.ends_in_sigma0,
            "channel": self.channel.0, "chainId": self.domain.chain_id(), "contract": self.domain.contract(),
            "client": self.client, "vendor": self.vendor, "bank": self.bank, "bankKey": self.signer,
            "bankNamed": self.named, "asset": self.asset, "index": self.index.0,
            "amount": self.amount.0.to_string(), "wrong": self.wrong,
        })
    }

    pub(crate) fn text(&self) -> String {
        let bank = match (self.signer, self.named) {
            (Some(signer), true) => format!("{}, whose key {signer} you named", self.bank),
            (Some(signer), false) if self.asked => {
                format!(
                    "{}, as the file says; {signer} signed, whom you did not name",
                    self.bank
                )
            }
            (Some(signer), false) => {
                format!(
                    "{}, as the file says; {signer} signed. Whom do you trust? --bank ADDRESS",
                    self.bank
                )
            }
            (None, _) => format!("{}, and nobody's signature", self.bank),
        };
        let mut lines = vec![
            (
                "receipts",
                if self.holds() {
                    "hold".to_owned()
                } else {
                    "DO NOT HOLD".to_owned()
                },
            ),
            ("opened", self.opened.to_string()),
            (
                "ends in sigma_0",
                if self.ends_in_sigma0 {
                    "yes".to_owned()
                } else {
                    "NO".to_owned()
                },
            ),
            ("paid by", self.client.to_string()),
            ("paid to", self.vendor.to_string()),
            (
                "how much",
                format!(
                    "{} ({})",
                    Asset::offline(self.asset).show(self.amount),
                    super::units(self.index)
                ),
            ),
            ("channel", self.channel.to_string()),
            (
                "contract",
                format!("{} on chain {}", self.domain.contract(), self.domain.chain_id()),
            ),
            ("bank", bank),
        ];
        if let Some(wrong) = &self.wrong {
            lines.push(("because", wrong.clone()));
        }
        rows(&lines)
    }
}

/// Why receipts did not open, for people.
fn why(stopped: &Stopped) -> String {
    match stopped {
        Stopped::WrongChannel { got, channel } => {
            format!("the opener is of channel {got}, the receipts of {channel}")
        }
        Stopped::NoReceipt { opener, nearest } if opener == nearest => {
            "receipts are missing or out of order".to_owned()
        }
        Stopped::NoReceipt { opener, nearest } => {
            format!("the opener is of receipt {opener}, the nearest that is there is {nearest}")
        }
        Stopped::WrongTag { index, got, tag } => {
            format!("the signature of receipt {index} has tag {got}, and {tag} came with the payment")
        }
        Stopped::NotASignature { index } => format!("what the lock of receipt {index} hides is no signature"),
        Stopped::NotSigned { index } => format!("receipt {index} is not signed by the receipt key"),
    }
}
