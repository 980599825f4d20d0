//! The payment itself: a signed ticket, the same `payload` in both protocols.

use alloy_primitives::{Address, B256, Bytes, U256};
use bindings::ticket::Ticket as Fields;
use protocol::ticket::{Domain, Issued, Signature, Ticket};
use serde::{Deserialize, Serialize};

use super::WireError;
use super::encoding::decimal;

/// A ticket as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Payment {
    /// Address of the escrow key, which pays.
    pub escrow: Address,
    /// Who is paid.
    pub recipient: Address,
    /// The recipient's commitment.
    pub commitment: B256,
    /// The payer's half of the coin toss.
    pub r2: B256,
    /// The ticket wins iff its draw is below this.
    #[serde(with = "decimal")]
    pub win_threshold: U256,
    /// Last second at which it can be claimed, unix.
    #[serde(with = "decimal")]
    pub expiry: u64,
    /// Its number under the escrow.
    #[serde(with = "decimal")]
    pub nonce: u64,
    /// The escrow key's signature, 65 bytes.
    pub signature: Bytes,
}

impl Payment {
    /// The ticket, with nothing checked but the signature's form.
    pub fn ticket(&self, domain: &Domain) -> Result<Ticket<Issued>, WireError> {
        let fields = Fields {
            escrow: self.escrow,
            recipient: self.recipient,
            commitment: self.commitment,
            r2: self.r2,
            winThreshold: self.win_threshold,
            expiry: self.expiry,
            nonce: self.nonce,
        };
        Ok(Ticket::from_parts(
            domain,
            fields,
            Signature::from_bytes(&self.signature)?,
        ))
    }
}

impl From<&Ticket<Issued>> for Payment {
    fn from(ticket: &Ticket<Issued>) -> Self {
        let fields = ticket.fields();
        Self {
            escrow: fields.escrow,
            recipient: fields.recipient,
            commitment: fields.commitment,
            r2: fields.r2,
            win_threshold: fields.winThreshold,
            expiry: fields.expiry,
            nonce: fields.nonce,
            signature: Bytes::copy_from_slice(&ticket.signature().to_bytes()),
        }
    }
}
