//! `invoice`, `pay`, `accept`, `reject`: the steps of two wallets that have no network. None of them asks a node or a service
//! for anything. Whatever leaves is in the books before, so each may be killed anywhere and made again, and gives out the
//! same message then.

use alloy::primitives::{Address, B256};
use carry::{Message, MessageType};
use clap::Args;
use protocol::offline::{
    Amount, ConfirmationCode, InvoiceDigest, Path, SignedAcceptance, SignedInvoice, SignedRejection,
    Timestamp, TransferDigest,
};
use serde_json::{Value, json};
use storage::offline::{InvoiceRecord, InvoiceState, WalletStore};
use wallet::{Payment, Resumed};

use super::folder::{At, Folder, Wallet};
use super::message::{Read, Write, ask, wrong_type};
use crate::exit::{refused, usage};
use crate::output::{Output, date, rows};
use crate::units::Asset;

/// What is asked for.
#[derive(Debug, Args)]
pub(crate) struct Invoice {
    #[command(flatten)]
    at: At,
    /// How much, e.g. 0.01
    #[arg(long)]
    amount: String,
    /// Token address [default: the native asset]
    #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
    token: Address,
    #[command(flatten)]
    write: Write,
}

/// Which invoice.
#[derive(Debug, Args)]
pub(crate) struct Pay {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    read: Read,
    /// Give out once more the payment of this transfer, which was not accepted yet
    #[arg(long, value_name = "TRANSFER", conflicts_with = "from")]
    again: Option<B256>,
    /// Pay without asking at the terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    write: Write,
}

/// What came from the other wallet.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    read: Read,
    #[command(flatten)]
    write: Write,
}

/// Which invoice.
#[derive(Debug, Args)]
pub(crate) struct Reject {
    #[command(flatten)]
    at: At,
    /// The invoice's digest
    invoice: B256,
    #[command(flatten)]
    write: Write,
}

pub(super) async fn invoice(command: &Invoice, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let asset = folder.asset(command.token);
    if !folder
        .settings
        .accept
        .iter()
        .any(|accept| accept.asset == command.token)
    {
        return Err(refused(format!(
            "wallet {} takes nobody's {}: micropay offline wallet accept",
            folder.id(),
            asset.symbol
        )));
    }
    let amount = asset.parse(&command.amount)?;
    if amount == Amount::ZERO {
        return Err(usage("an invoice asks for more than 0"));
    }
    let mut device = folder.device().await?;
    let signed = device.invoice(command.token, amount).await?;
    let digest = folder.domain().invoice_digest(&signed.invoice);
    let until = device.timeout(&signed);
    // Before the message leaves: whoever gets it may be the wallet's next command, in a pipe.
    drop(device);
    let value = json!({
        "invoice": digest.0, "payee": signed.invoice.payee.0, "asset": command.token,
        "amount": amount.0.to_string(), "issuedAt": signed.invoice.issued_at.0, "waitsUntil": until.0,
    });
    let text = rows(&[
        ("invoice", digest.to_string()),
        ("asks for", asset.show(amount)),
        ("waits until", date(until)),
    ]);
    let message = Message::new(MessageType::Invoice, signed.encode(&folder.domain()))?;
    command.write.message(out, message, value, text).await
}

pub(super) async fn pay(command: &Pay, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    if let Some(transfer) = command.again {
        let mut device = folder.device().await?;
        device.resume().await?;
        let outstanding = device.outstanding().await?;
        let found = outstanding.iter().find(|payment| payment.transfer.0 == transfer);
        let payment = found.ok_or_else(|| {
            refused(format!(
                "transfer {transfer} does not wait to be accepted; {} do",
                outstanding.len()
            ))
        })?;
        let payment = payment.clone();
        drop(device);
        return released(command, &folder, &payment, true, out).await;
    }
    let message = command.read.message()?;
    if message.kind() != MessageType::Invoice {
        return Err(wrong_type(message.kind(), &[MessageType::Invoice]));
    }
    let signed = SignedInvoice::decode(&folder.domain(), message.body())?;
    let digest = folder.domain().invoice_digest(&signed.invoice);
    let mut device = folder.device().await?;
    if let Resumed::Reserved(other) = device.resume().await?
        && *other != signed
    {
        // Whoever was asked about that one is gone: one process has the wallet.
        device.abort().await?;
    }
    let again = device.store().outgoing_for(digest).await?.is_some();
    if !again && !command.yes {
        // Whether it can be paid is known before the owner is asked.
        device.reserve(&signed).await?;
        let asset = folder.asset(signed.invoice.asset);
        let question = format!(
            "{}\nPay?",
            rows(&[
                ("payee", signed.invoice.payee.to_string()),
                ("amount", asset.show_with_address(signed.invoice.amount)),
                (
                    "invoice",
                    format!("{digest} of {}", date(signed.invoice.issued_at))
                ),
            ])
        );
        let answer = ask(&question);
        if !matches!(answer, Ok(true)) {
            device.abort().await?;
            answer?;
            return Err(refused(format!(
                "invoice {digest} is not paid: the answer was no"
            )));
        }
    }
    let payment = device.pay(&signed).await?;
    drop(device);
    released(command, &folder, &payment, again, out).await
}

/// Gives a payment out.
async fn released(
    command: &Pay,
    folder: &Folder,
    payment: &Payment,
    again: bool,
    out: Output,
) -> eyre::Result<()> {
    let domain = folder.domain();
    let last = payment.path.hops.last().map(|hop| hop.transfer);
    let last = last.ok_or_else(|| eyre::eyre!("the payment has no transfer"))?;
    let address = payment.path.deposit.coin.asset;
    let asset = folder.asset(address);
    let code = payment.confirmation_code().map(|code| code.to_string());
    let value = json!({
        "transfer": payment.transfer.0, "invoice": payment.invoice.map(|invoice| invoice.0),
        "payee": last.payee.0, "asset": address, "amount": last.amount.0.to_string(),
        "change": last.change.0.to_string(), "code": code, "again": again,
    });
    let text = rows(&[
        (
            if again { "paid before" } else { "paid" },
            asset.show(last.amount),
        ),
        ("payee", last.payee.to_string()),
        ("transfer", payment.transfer.to_string()),
        ("code", code.unwrap_or_default()),
    ]);
    let message = Message::new(MessageType::Payment, payment.path.encode(&domain))?;
    command.write.message(out, message, value, text).await
}

pub(super) async fn accept(command: &Accept, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let domain = folder.domain();
    let message = command.read.message()?;
    match message.kind() {
        MessageType::Payment => {
            let payment = Path::decode(&domain, message.body())?;
            take(command, &folder, &payment, out).await
        }
        MessageType::Acceptance => {
            let acceptance = SignedAcceptance::decode(&domain, message.body())?;
            let mut device = folder.device().await?;
            let new = device.accepted(&acceptance).await?;
            let transfer = acceptance.acceptance.transfer;
            let value = json!({ "type": message.kind().ur_type(), "transfer": transfer.0, "new": new });
            let how = if new { "is accepted" } else { "was accepted before" };
            out.answer(&value, format!("transfer {transfer} {how}"))
        }
        MessageType::Rejection => {
            let rejection = SignedRejection::decode(&domain, message.body())?;
            let mut device = folder.device().await?;
            device.rejected(&rejection).await?;
            let invoice = rejection.rejection.invoice;
            let value = json!({ "type": message.kind().ur_type(), "invoice": invoice.0 });
            out.answer(
                &value,
                format!("invoice {invoice} is not wanted any more: nothing is reserved"),
            )
        }
        MessageType::Invoice => Err(wrong_type(
            message.kind(),
            &[
                MessageType::Payment,
                MessageType::Acceptance,
                MessageType::Rejection,
            ],
        )),
    }
}

/// The payee's side.
async fn take(command: &Accept, folder: &Folder, payment: &Path, out: Output) -> eyre::Result<()> {
    let domain = folder.domain();
    let mut device = folder.device().await?;
    let transfer = payment
        .hops
        .last()
        .map(|hop| domain.transfer_digest(&hop.transfer));
    let again = match transfer {
        Some(transfer) => device.store().invoice_paid_by(transfer).await?.is_some(),
        None => false,
    };
    let acceptance = device.receive(payment).await?;
    let taken = Taken::of(&mut device, acceptance.acceptance.transfer).await?;
    drop(device);
    let asset = folder.asset(taken.asset);
    let value = taken.value(again);
    let mut text = vec![
        (
            if again { "taken before" } else { "taken" },
            asset.show(taken.amount),
        ),
        ("transfer", taken.transfer.to_string()),
        ("code", taken.code.to_string()),
    ];
    if taken.late {
        text.push((
            "late",
            "it came after its time, or after a rejection: pay it back if nothing was delivered".to_owned(),
        ));
    }
    let message = Message::new(MessageType::Acceptance, acceptance.encode(&domain))?;
    command.write.message(out, message, value, rows(&text)).await
}

/// A payment that is in the books.
struct Taken {
    transfer: TransferDigest,
    invoice: InvoiceDigest,
    asset: Address,
    amount: Amount,
    code: ConfirmationCode,
    at: Timestamp,
    late: bool,
    hops: usize,
}

impl Taken {
    async fn of(device: &mut Wallet, transfer: TransferDigest) -> eyre::Result<Self> {
        let domain = *device.domain();
        let record = device.store().invoice_paid_by(transfer).await?;
        let Some(InvoiceRecord {
            invoice,
            state: InvoiceState::Credited { credited, .. },
        }) = record
        else {
            return Err(eyre::eyre!(
                "transfer {transfer} was taken and is not in the books"
            ));
        };
        let digest = domain.invoice_digest(&invoice.invoice);
        let state = credited.state();
        Ok(Self {
            transfer,
            invoice: digest,
            asset: invoice.invoice.asset,
            amount: invoice.invoice.amount,
            code: ConfirmationCode::new(digest, transfer),
            at: state.at,
            late: state.late,
            hops: state.path.hops.len(),
        })
    }

    fn value(&self, again: bool) -> Value {
        json!({
            "transfer": self.transfer.0, "invoice": self.invoice.0, "asset": self.asset,
            "amount": self.amount.0.to_string(), "code": self.code.to_string(), "at": self.at.0,
            "late": self.late, "hops": self.hops, "again": again,
        })
    }
}

pub(super) async fn reject(command: &Reject, out: Output) -> eyre::Result<()> {
    let folder = command.at.open()?;
    let mut device = folder.device().await?;
    let rejection = device.reject(InvoiceDigest(command.invoice)).await?;
    drop(device);
    let value = json!({ "invoice": command.invoice });
    let text = format!(
        "invoice {} is rejected: a payment of it that was made already is still taken, late",
        command.invoice
    );
    let message = Message::new(MessageType::Rejection, rejection.encode(&folder.domain()))?;
    command.write.message(out, message, value, text).await
}

/// An asset's amount, for those who have only the folder.
pub(super) fn shown(folder: &Folder, asset: Address, amount: Amount) -> String {
    let asset: Asset = folder.asset(asset);
    asset.show(amount)
}
