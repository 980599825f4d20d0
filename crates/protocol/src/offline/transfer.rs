//! Transfer: a wallet splits one input into the payee's part and its own change. An exit is the transfer that a wallet makes
//! to itself so that its fragment can be redeemed; nobody may spend what an exit leaves (D1).

use super::{
    Amount, Input, InvoiceDigest, LogEntry, Previous, Sequence, Timestamp, TransferDigest, WalletId,
};

/// The second message's heart. `amount + change` is the value of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// The coin or fragment that is spent.
    pub input: Input,
    /// Who gets `amount`.
    pub payee: WalletId,
    /// The payee's part, atomic units.
    pub amount: Amount,
    /// What the payer keeps, atomic units.
    pub change: Amount,
    /// Counts the payer's transfers.
    pub sequence: Sequence,
    /// The payer's transfer before, or its first registration.
    pub previous: Previous,
    /// What is paid; [`InvoiceDigest::NONE`] in an exit.
    pub invoice: InvoiceDigest,
    /// By the payer's clock.
    pub issued_at: Timestamp,
}

impl Transfer {
    /// Whether this is an exit of `payer`.
    pub fn is_exit(&self, payer: WalletId) -> bool {
        self.payee == payer && self.change == Amount::ZERO && self.invoice == InvoiceDigest::NONE
    }

    /// As the contract takes it.
    pub fn to_sol(&self) -> bindings::offline::Transfer {
        bindings::offline::Transfer {
            input: self.input.0,
            payee: self.payee.0,
            amount: self.amount.0,
            change: self.change.0,
            sequence: self.sequence.0,
            previous: self.previous.0,
            invoice: self.invoice.0,
            issuedAt: self.issued_at.0,
        }
    }

    /// What the payer's component logs for it.
    pub fn entry(&self, digest: TransferDigest) -> LogEntry {
        LogEntry {
            input: self.input,
            transfer: digest,
        }
    }
}
