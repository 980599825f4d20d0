//! What is printed of a payment, for payer and payee: who, whom, how much, when, and how far it is. Pure, and from the books
//! alone; a receipt is no proof, the payment's path is.

use std::fmt::Write as _;

use alloy_primitives::{Address, B256};
use protocol::offline::{
    Amount, ConfirmationCode, Domain, InvoiceDigest, Path, Timestamp, TransferDigest, WalletId,
};
use storage::offline::{InvoiceState, OutgoingState, Standing};
use trusted::TrustedWallet;

use crate::device::Store;
use crate::{Device, DeviceError, Result};

/// Columns of a printed receipt: what a till's printer has.
pub const RECEIPT_COLUMNS: usize = 42;

/// A payment, or an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Chain and vault.
    pub domain: Domain,
    /// Names it.
    pub transfer: TransferDigest,
    /// What it pays; `None` of an exit.
    pub invoice: Option<InvoiceDigest>,
    /// Who paid.
    pub payer: WalletId,
    /// Who was paid; the payer itself by an exit.
    pub payee: WalletId,
    /// Token, or the zero address.
    pub asset: Address,
    /// How much, atomic units.
    pub amount: Amount,
    /// When the payer made it.
    pub issued_at: Timestamp,
    /// How far it is.
    pub state: ReceiptState,
}

/// How far a payment is, as far as one of its two wallets knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptState {
    /// The payer has given it out, and no answer came yet.
    Released,
    /// The payee holds it, without a network.
    OfflineAccepted,
    /// Its exit is on its way to the chain.
    Claimed,
    /// The owner has the credit, for good.
    Settled,
}

impl ReceiptState {
    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::OfflineAccepted => "offline-accepted",
            Self::Claimed => "claimed",
            Self::Settled => "settled",
        }
    }

    fn explained(self) -> &'static str {
        match self {
            Self::Released => "given out, no answer yet",
            Self::OfflineAccepted => "held by the payee, not on the chain",
            Self::Claimed => "on its way to the chain",
            Self::Settled => "credited on the chain, for good",
        }
    }
}

impl From<OutgoingState> for ReceiptState {
    fn from(state: OutgoingState) -> Self {
        match state {
            OutgoingState::Released => Self::Released,
            OutgoingState::Accepted(_) => Self::OfflineAccepted,
            OutgoingState::Claimed => Self::Claimed,
            OutgoingState::Settled => Self::Settled,
        }
    }
}

impl From<Standing> for ReceiptState {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::OfflineAccepted => Self::OfflineAccepted,
            Standing::Claimed => Self::Claimed,
            Standing::Settled => Self::Settled,
        }
    }
}

impl Receipt {
    fn new(
        domain: &Domain,
        path: &Path,
        invoice: Option<InvoiceDigest>,
        state: ReceiptState,
    ) -> Option<Self> {
        let hop = path.hops.last()?;
        let transfer = hop.transfer;
        Some(Self {
            domain: *domain,
            transfer: domain.transfer_digest(&transfer),
            invoice,
            payer: path.wallets.get(hop.payer)?.wallet(),
            payee: transfer.payee,
            asset: path.deposit.coin.asset,
            amount: transfer.amount,
            issued_at: transfer.issued_at,
            state,
        })
    }

    /// What both sides show; `None` of an exit.
    pub fn code(&self) -> Option<ConfirmationCode> {
        Some(ConfirmationCode::new(self.invoice?, self.transfer))
    }

    /// Plain text of [`RECEIPT_COLUMNS`] columns. `amount` and `time` are the words of whoever prints: it knows the asset's
    /// unit and the reader's calendar.
    pub fn print(&self, amount: &str, time: &str) -> String {
        let mut text = String::new();
        let rule = "-".repeat(RECEIPT_COLUMNS);
        let title = match self.invoice {
            Some(_) => "OFFLINE PAYMENT",
            None => "EXIT",
        };
        line(&mut text, title);
        line(&mut text, &rule);
        field(&mut text, "amount", amount);
        field(&mut text, "time", time);
        if let Some(code) = self.code() {
            field(&mut text, "code", &code.to_string());
        }
        field(&mut text, "state", self.state.name());
        line(&mut text, &format!("  {}", self.state.explained()));
        line(&mut text, &rule);
        hash(&mut text, "payer", self.payer.0);
        hash(&mut text, "payee", self.payee.0);
        hash(&mut text, "transfer", self.transfer.0);
        if let Some(invoice) = self.invoice {
            hash(&mut text, "invoice", invoice.0);
        }
        line(&mut text, &rule);
        if self.asset != Address::ZERO {
            line(&mut text, "asset");
            line(&mut text, &self.asset.to_string());
        }
        line(&mut text, &format!("vault on chain {}", self.domain.chain_id()));
        line(&mut text, &self.domain.contract().to_string());
        text
    }
}

fn line(text: &mut String, words: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{words}");
}

/// A name and its value at the right edge, or below where both do not fit.
fn field(text: &mut String, name: &str, value: &str) {
    let room = RECEIPT_COLUMNS.saturating_sub(name.len() + 1);
    if value.chars().count() <= room {
        line(text, &format!("{name} {value:>room$}"));
        return;
    }
    line(text, name);
    let letters: Vec<char> = value.chars().collect();
    for part in letters.chunks(RECEIPT_COLUMNS) {
        line(text, &part.iter().collect::<String>());
    }
}

/// 64 digits are two lines.
fn hash(text: &mut String, name: &str, value: B256) {
    let digits = format!("{value:x}");
    let (first, second) = digits.split_at(32);
    line(text, name);
    line(text, &format!("  0x{first}"));
    line(text, &format!("    {second}"));
}

impl<C: TrustedWallet, S: Store> Device<C, S> {
    /// The receipt of a payment that this wallet made or took, or of an exit.
    ///
    /// # Errors
    ///
    /// [`DeviceError::UnknownTransfer`].
    pub async fn receipt(&mut self, transfer: TransferDigest) -> Result<Receipt> {
        let domain = *self.domain();
        let unknown = DeviceError::UnknownTransfer(transfer);
        if let Some(record) = self.store.outgoing(transfer).await? {
            let invoice = record.invoice(&domain);
            let receipt = Receipt::new(&domain, record.outgoing.payment(), invoice, record.state.into());
            return receipt.ok_or(unknown);
        }
        let record = self.store.invoice_paid_by(transfer).await?;
        let Some(record) = record else {
            return Err(unknown);
        };
        let digest = record.digest(&domain);
        match record.state {
            InvoiceState::Credited {
                credited, standing, ..
            } => {
                let path = &credited.state().path;
                Receipt::new(&domain, path, Some(digest), standing.into()).ok_or(unknown)
            }
            InvoiceState::Waiting | InvoiceState::Rejected { .. } => Err(unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(invoice: Option<InvoiceDigest>, asset: Address, state: ReceiptState) -> Receipt {
        Receipt {
            domain: Domain::new(31_337, Address::repeat_byte(0xaa)),
            transfer: TransferDigest(B256::repeat_byte(1)),
            invoice,
            payer: WalletId(B256::repeat_byte(2)),
            payee: WalletId(B256::repeat_byte(3)),
            asset,
            amount: Amount(5),
            issued_at: Timestamp(1_764_332_400),
            state,
        }
    }

    #[test]
    fn a_receipt_says_everything_in_its_columns() {
        let invoice = Some(InvoiceDigest(B256::repeat_byte(4)));
        for (state, words) in [
            (ReceiptState::Released, "given out"),
            (ReceiptState::OfflineAccepted, "not on the chain"),
            (ReceiptState::Claimed, "on its way"),
            (ReceiptState::Settled, "for good"),
        ] {
            let printed = receipt(invoice, Address::repeat_byte(0xbb), state)
                .print("0.000000000000000005 ETH", "2025-11-28 12:20:00 UTC");
            assert!(
                printed
                    .lines()
                    .all(|line| line.chars().count() <= RECEIPT_COLUMNS),
                "{printed}"
            );
            let code = ConfirmationCode::new(
                InvoiceDigest(B256::repeat_byte(4)),
                TransferDigest(B256::repeat_byte(1)),
            );
            for needed in [
                "0.000000000000000005 ETH",
                "2025-11-28 12:20:00 UTC",
                state.name(),
                words,
                &code.to_string(),
                "0x01010101010101010101010101010101",
                "0x02020202020202020202020202020202",
                "0x03030303030303030303030303030303",
                "chain 31337",
                &Address::repeat_byte(0xaa).to_string(),
                &Address::repeat_byte(0xbb).to_string(),
            ] {
                assert!(printed.contains(needed), "{needed}: {printed}");
            }
        }
        let long = receipt(invoice, Address::ZERO, ReceiptState::Settled)
            .print(&"9".repeat(60), "2025-11-28 12:20:00 UTC");
        assert!(long.lines().all(|line| line.len() <= RECEIPT_COLUMNS), "{long}");
        let exit =
            receipt(None, Address::ZERO, ReceiptState::Claimed).print("5 wei", "2025-11-28 12:20:00 UTC");
        assert!(exit.starts_with("EXIT") && !exit.contains("code"), "{exit}");
    }
}
