//! The payee's words: an Invoice asks for money, an Acceptance says that it is held, a Rejection that it is not wanted.
//! All three are signed by the payee's wallet key.

use alloy_primitives::{Address, B256, Keccak256};

use super::{
    Amount, ClassId, Domain, InvoiceDigest, Nonce32, Timestamp, TransferDigest, WalletId, WalletKey,
    WalletSignature,
};

/// The first message: what is asked for. The nonce makes it the payee's own, and the transfer contains its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Invoice {
    /// The wallet to pay.
    pub payee: WalletId,
    /// Token, or the zero address.
    pub asset: Address,
    /// How much, atomic units.
    pub amount: Amount,
    /// Random, never used before by this wallet.
    pub nonce: Nonce32,
    /// By the payee's clock.
    pub issued_at: Timestamp,
}

/// Whose wallets the payee lets pay an invoice. A payment that is committed and then refused is lost to its payer until the
/// coin's time is over; so a payer is told before. The invoice's nonce is the hash of these terms: who signed the one signed
/// the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvoiceTerms {
    /// Random, never used before by this wallet.
    pub salt: B256,
    /// Registrars and their classes whose wallets may be on the path, the payer's included.
    pub classes: Vec<(Address, ClassId)>,
}

/// An invoice as it travels. `payee` follows from the key, `nonce` from the terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedInvoice {
    /// The payee's key.
    pub key: WalletKey,
    /// What is asked for.
    pub invoice: Invoice,
    /// Of whom.
    pub terms: InvoiceTerms,
    /// The payee's.
    pub signature: WalletSignature,
}

/// The third message: the payee holds the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Acceptance {
    /// What it accepts.
    pub transfer: TransferDigest,
    /// The wallet that was paid.
    pub payee: WalletId,
    /// By the payee's clock.
    pub issued_at: Timestamp,
}

/// An acceptance as it travels. The payee is the invoice's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedAcceptance {
    /// What is said.
    pub acceptance: Acceptance,
    /// The payee's.
    pub signature: WalletSignature,
}

/// The payee does not want the money any more. Frees the payer that has not committed; means nothing to one that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// What is not to be paid.
    pub invoice: InvoiceDigest,
    /// The wallet that asked.
    pub payee: WalletId,
    /// By the payee's clock.
    pub issued_at: Timestamp,
}

/// A rejection as it travels. The payee is the invoice's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedRejection {
    /// What is said.
    pub rejection: Rejection,
    /// The payee's.
    pub signature: WalletSignature,
}

impl InvoiceTerms {
    /// Bytes of a class: its registrar, and its number.
    pub(super) const CLASS_LENGTH: usize = Address::len_bytes() + size_of::<u32>();
    /// More classes do not travel: an invoice is one QR code.
    pub const MOST_CLASSES: usize = 8;

    /// `keccak256(salt ‖ registrar ‖ class ‖ …)`
    pub fn nonce(&self) -> Nonce32 {
        let mut hash = Keccak256::new();
        hash.update(self.salt);
        hash.update(self.classes_to_bytes());
        Nonce32(hash.finalize())
    }

    /// Whether wallets of this class may pay.
    pub fn takes(&self, registrar: Address, class: ClassId) -> bool {
        self.classes.contains(&(registrar, class))
    }

    pub(super) fn classes_to_bytes(&self) -> Vec<u8> {
        let classes = self.classes.iter();
        classes
            .flat_map(|(registrar, class)| registrar.iter().copied().chain(class.0.to_be_bytes()))
            .collect()
    }
}

impl SignedInvoice {
    /// Whether the key is the payee's and signed the invoice with these terms.
    pub fn verify(&self, domain: &Domain) -> bool {
        self.key.wallet() == self.invoice.payee
            && self.terms.nonce() == self.invoice.nonce
            && self
                .key
                .verify(domain.invoice_digest(&self.invoice).0.as_slice(), &self.signature)
    }
}

impl SignedAcceptance {
    /// Whether `payee` signed it.
    pub fn verify(&self, domain: &Domain, payee: &WalletKey) -> bool {
        self.acceptance.payee == payee.wallet()
            && payee.verify(
                domain.acceptance_digest(&self.acceptance).as_slice(),
                &self.signature,
            )
    }
}

impl SignedRejection {
    /// Whether `payee` signed it.
    pub fn verify(&self, domain: &Domain, payee: &WalletKey) -> bool {
        self.rejection.payee == payee.wallet()
            && payee.verify(
                domain.rejection_digest(&self.rejection).as_slice(),
                &self.signature,
            )
    }
}
