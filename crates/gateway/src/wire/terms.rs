//! What a payment must be: x402's `PaymentRequirements` with ours in `extra` (`http.md` §1.1). Terms for no particular
//! escrow serve any whose prize is within bounds; terms for an escrow bind to it.

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use protocol::ticket::{Amount, Domain, EscrowRecord, Nonce, Quote, Seconds, UnitError, WinThreshold};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::encoding::{checksummed, decimal};
use super::{Contracts, Kind, WireError};

/// One way to pay (x402 `PaymentRequirements`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirements {
    /// [`SCHEME`](super::SCHEME).
    pub scheme: String,
    /// CAIP-2 name of the chain: `eip155:<chain id>`.
    pub network: String,
    /// The price: what a ticket is worth in expectation, atomic units.
    #[serde(with = "decimal")]
    pub amount: u128,
    /// Token, or the zero address for the native asset.
    #[serde(with = "checksummed")]
    pub asset: Address,
    /// Who is paid.
    #[serde(with = "checksummed")]
    pub pay_to: Address,
    /// Longest life of a ticket, as x402 calls it.
    pub max_timeout_seconds: u64,
    /// How the price is paid.
    pub extra: Extra,
}

/// Terms that are written already: nearly every receipt repeats its escrow's, and they seldom change.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Written(Arc<RawValue>);

/// How the price is paid by a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extra {
    /// The ticket escrow contract.
    #[serde(with = "checksummed")]
    pub contract: Address,
    /// The recipient's commitment to its half of the coin toss.
    pub commitment: B256,
    /// What a winner pays, atomic units: the escrow's prize where the terms are for one, else an example.
    #[serde(with = "decimal")]
    pub prize: u128,
    /// The ticket's `winThreshold` for `prize`: the least that is worth the price.
    #[serde(with = "decimal")]
    pub win_threshold: U256,
    /// Smallest prize taken, atomic units.
    #[serde(with = "decimal")]
    pub min_prize: u128,
    /// Largest prize taken, atomic units.
    #[serde(with = "decimal")]
    pub max_prize: u128,
    /// What an escrow must be opened with to be taken; in terms for any escrow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// Shortest life of a ticket, counted from its arrival, seconds.
    pub min_ticket_life: u64,
    /// Longest life of a ticket, counted from its arrival, seconds.
    pub max_ticket_life: u64,
    /// The ticket's nonce must be above this.
    #[serde(with = "decimal")]
    pub nonce_floor: u64,
    /// The escrow that these terms are for; any other is refused. Absent: any escrow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow: Option<Address>,
    /// What the terms are for: `METHOD glob` or `METHOD ~regex` over paths, `*` for any method.
    pub route: String,
}

/// An escrow that would be taken: `prize` as its prize, `winThreshold` as its highest, and these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// Bound on nonces.
    pub ticket_cap: u64,
    /// The least penalty for it, atomic units.
    #[serde(with = "decimal")]
    pub min_penalty: u128,
}

/// Why a payer does not sign these terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Another chain or contract.
    #[error("the terms are for contract {got} on {network}, mine is {contract} on {mine}")]
    OtherContract {
        /// The terms' contract.
        got: Address,
        /// The terms' network.
        network: String,
        /// The payer's contract.
        contract: Address,
        /// The payer's network.
        mine: String,
    },
    /// Bound to another escrow.
    #[error("the terms are for escrow {got}, mine is {escrow}")]
    OtherEscrow {
        /// The terms' escrow.
        got: Address,
        /// The payer's escrow.
        escrow: Address,
    },
    /// The escrow's prize is not taken.
    #[error("the escrow's prize is {prize}, taken are {min} {}", up_to(*max))]
    PrizeOutOfRange {
        /// The escrow's prize.
        prize: Amount,
        /// Smallest taken.
        min: Amount,
        /// Largest taken.
        max: Amount,
    },
    /// The threshold takes more, or less, than the price.
    #[error("the terms ask for threshold {got}, the price is worth {expected}")]
    ThresholdNotPrice {
        /// The terms' threshold.
        got: WinThreshold,
        /// What the price makes it.
        expected: WinThreshold,
    },
    /// No threshold makes the price.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

impl From<&Requirements> for Written {
    fn from(terms: &Requirements) -> Self {
        Self(to_raw_value(terms).expect("our shapes are JSON").into())
    }
}

/// The end of a range of prizes.
fn up_to(max: Amount) -> String {
    if max == Amount::MAX {
        "and more".to_owned()
    } else {
        format!("to {max}")
    }
}

/// CAIP-2 name of a chain.
pub fn network(chain_id: u64) -> String {
    format!("eip155:{chain_id}")
}

impl Requirements {
    /// Whether this is our scheme on this chain.
    pub fn check_kind(scheme: &str, got: &str, domain: &Domain) -> Result<(), WireError> {
        let kind = Kind::of_scheme(scheme);
        Contracts::from(domain).check(kind, scheme, got).map(|_| ())
    }

    /// The quote that `escrow`, with this record, would sign. The threshold follows from the price: a server cannot name
    /// one and take another.
    pub fn quote(
        &self,
        domain: &Domain,
        escrow: Address,
        record: &EscrowRecord,
    ) -> Result<Quote, TermsError> {
        let (extra, mine) = (&self.extra, network(domain.chain_id()));
        if extra.contract != domain.contract() || self.network != mine {
            return Err(TermsError::OtherContract {
                got: extra.contract,
                network: self.network.clone(),
                contract: domain.contract(),
                mine,
            });
        }
        if let Some(got) = extra.escrow.filter(|got| *got != escrow) {
            return Err(TermsError::OtherEscrow { got, escrow });
        }
        let (prize, min, max) = (record.prize, Amount(extra.min_prize), Amount(extra.max_prize));
        if prize < min || prize > max {
            return Err(TermsError::PrizeOutOfRange { prize, min, max });
        }
        let win_threshold = WinThreshold::for_price(Amount(self.amount), prize)?;
        if prize.0 == extra.prize && win_threshold.0 != extra.win_threshold {
            return Err(TermsError::ThresholdNotPrice {
                got: WinThreshold(extra.win_threshold),
                expected: win_threshold,
            });
        }
        Ok(Quote {
            recipient: self.pay_to,
            commitment: extra.commitment,
            asset: self.asset,
            prize,
            win_threshold,
            price: win_threshold.price(prize),
            ticket_life: Seconds(extra.max_ticket_life),
            min_ticket_life: Seconds(extra.min_ticket_life),
            nonce_floor: Nonce(extra.nonce_floor),
        })
    }
}
