//! A ticket as it arrives, in two forms: ABI words with the signature behind them, and the JSON object of
//! `micropay ticket inspect`. No transport with a form of its own exists yet; these bound what decoding costs.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolValue;
use bindings::ticket::Ticket as Fields;
use eyre::{ContextCompat, Result};
use protocol::ticket::{Domain, Issued, Signature, Ticket};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TicketJson {
    escrow: Address,
    recipient: Address,
    commitment: B256,
    r2: B256,
    win_threshold: U256,
    expiry: u64,
    nonce: u64,
    signature: Bytes,
}

/// The seven fields as ABI words, then `r ‖ s ‖ v`.
#[must_use]
pub fn to_abi(ticket: &Ticket<Issued>) -> Vec<u8> {
    [
        ticket.fields().abi_encode(),
        ticket.signature().to_bytes().to_vec(),
    ]
    .concat()
}

/// Reads [`to_abi`], strictly.
///
/// # Errors
/// When a field is out of range, or the signature not well-formed.
pub fn from_abi(domain: &Domain, bytes: &[u8]) -> Result<Ticket<Issued>> {
    let (fields, signature) = bytes
        .split_last_chunk::<{ Signature::LENGTH }>()
        .wrap_err("too short for a signature")?;
    let fields = Fields::abi_decode_validate(fields)?;
    Ok(Ticket::from_parts(
        domain,
        fields,
        Signature::from_bytes(signature)?,
    ))
}

/// A JSON object, as `micropay ticket inspect` reads it.
///
/// # Errors
/// None in practice: every ticket can be written.
pub fn to_json(ticket: &Ticket<Issued>) -> Result<Vec<u8>> {
    let fields = ticket.fields();
    Ok(serde_json::to_vec(&TicketJson {
        escrow: fields.escrow,
        recipient: fields.recipient,
        commitment: fields.commitment,
        r2: fields.r2,
        win_threshold: fields.winThreshold,
        expiry: fields.expiry,
        nonce: fields.nonce,
        signature: Bytes::copy_from_slice(&ticket.signature().to_bytes()),
    })?)
}

/// Reads [`to_json`], strictly.
///
/// # Errors
/// When it is not that object, or the signature not well-formed.
pub fn from_json(domain: &Domain, json: &[u8]) -> Result<Ticket<Issued>> {
    let ticket: TicketJson = serde_json::from_slice(json)?;
    let signature = Signature::from_bytes(&ticket.signature)?;
    let fields = Fields {
        escrow: ticket.escrow,
        recipient: ticket.recipient,
        commitment: ticket.commitment,
        r2: ticket.r2,
        winThreshold: ticket.win_threshold,
        expiry: ticket.expiry,
        nonce: ticket.nonce,
    };
    Ok(Ticket::from_parts(domain, fields, signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Market;

    #[test]
    fn both_forms_keep_the_ticket() {
        let market = Market::new(1);
        let ticket = market.issue(0, 1);
        let domain = &market.domain;
        assert_eq!(from_abi(domain, &to_abi(&ticket)).unwrap(), ticket);
        assert_eq!(from_json(domain, &to_json(&ticket).unwrap()).unwrap(), ticket);
        assert!(from_abi(domain, &to_abi(&ticket)[1..]).is_err());
    }
}
