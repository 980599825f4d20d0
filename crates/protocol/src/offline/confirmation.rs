//! A confirmation code: six digits that both sides show when a payment is under way, so that two people see that it is the
//! same one. A screen in the middle that swaps invoice or transfer shows another code, but for one chance in a million.
//! It guards against a swapped code on a counter, and is no signature.

use core::fmt;

use alloy_primitives::keccak256;

use super::{InvoiceDigest, TransferDigest};

/// Six digits from invoice and transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConfirmationCode(u32);

impl ConfirmationCode {
    /// The code of a payment.
    pub fn new(invoice: InvoiceDigest, transfer: TransferDigest) -> Self {
        let hash = keccak256(
            [
                b"Micropay offline confirmation code".as_slice(),
                invoice.0.as_slice(),
                transfer.0.as_slice(),
            ]
            .concat(),
        );
        let mut number = [0; 8];
        number.copy_from_slice(&hash[..8]);
        // 2^64 is so much more than a million that no code is likelier than another, to 13 digits.
        let code = u64::from_be_bytes(number) % 1_000_000;
        Self(u32::try_from(code).unwrap_or_default())
    }
}

impl fmt::Display for ConfirmationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1_000, self.0 % 1_000)
    }
}
