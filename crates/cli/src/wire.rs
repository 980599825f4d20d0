//! JSON shapes of the local transport and of `ticket inspect`, and the only place that knows them. One line, one message.

use alloy::primitives::{Address, B256, Bytes, U256};
use protocol::ticket::{
    Amount, Domain, Issued, Nonce, Quote, Retry, Seconds, Signature, SignatureError, Ticket, UnitError,
    WinThreshold,
};
use serde::{Deserialize, Serialize};

/// A ticket. `expiry` and `nonce` are numbers or strings, `winThreshold` decimal or hexadecimal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TicketJson {
    pub(crate) escrow: Address,
    pub(crate) recipient: Address,
    pub(crate) commitment: B256,
    pub(crate) r2: B256,
    pub(crate) win_threshold: U256,
    #[serde(deserialize_with = "lenient_u64")]
    pub(crate) expiry: u64,
    #[serde(deserialize_with = "lenient_u64")]
    pub(crate) nonce: u64,
    pub(crate) signature: Bytes,
    /// The recipient's secret, once revealed; only for inspection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) r1: Option<B256>,
}

impl TicketJson {
    pub(crate) fn fields(&self) -> bindings::ticket::Ticket {
        bindings::ticket::Ticket {
            escrow: self.escrow,
            recipient: self.recipient,
            commitment: self.commitment,
            r2: self.r2,
            winThreshold: self.win_threshold,
            expiry: self.expiry,
            nonce: self.nonce,
        }
    }

    pub(crate) fn to_ticket(&self, domain: &Domain) -> Result<Ticket<Issued>, SignatureError> {
        Ok(Ticket::from_parts(
            domain,
            self.fields(),
            Signature::from_bytes(&self.signature)?,
        ))
    }
}

impl From<&Ticket<Issued>> for TicketJson {
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
            r1: None,
        }
    }
}

/// A number, or a string with a decimal or `0x` number.
fn lenient_u64<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = U256::deserialize(deserializer)?;
    u64::try_from(value).map_err(|_| serde::de::Error::custom(format!("{value} is above {}", u64::MAX)))
}

/// A merchant's terms. Amounts in atomic units, times in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuoteJson {
    recipient: Address,
    commitment: B256,
    asset: Address,
    prize: U256,
    win_threshold: U256,
    price: U256,
    ticket_life: u64,
    min_ticket_life: u64,
    nonce_floor: u64,
}

impl From<&Quote> for QuoteJson {
    fn from(quote: &Quote) -> Self {
        Self {
            recipient: quote.recipient,
            commitment: quote.commitment,
            asset: quote.asset,
            prize: quote.prize.into(),
            win_threshold: quote.win_threshold.0,
            price: quote.price.into(),
            ticket_life: quote.ticket_life.0,
            min_ticket_life: quote.min_ticket_life.0,
            nonce_floor: quote.nonce_floor.0,
        }
    }
}

impl TryFrom<QuoteJson> for Quote {
    type Error = UnitError;

    fn try_from(json: QuoteJson) -> Result<Self, UnitError> {
        Ok(Self {
            recipient: json.recipient,
            commitment: json.commitment,
            asset: json.asset,
            prize: Amount::try_from(json.prize)?,
            win_threshold: WinThreshold(json.win_threshold),
            price: Amount::try_from(json.price)?,
            ticket_life: Seconds(json.ticket_life),
            min_ticket_life: Seconds(json.min_ticket_life),
            nonce_floor: Nonce(json.nonce_floor),
        })
    }
}

/// Payer to merchant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Request {
    /// What is for sale?
    Catalog,
    /// Terms for tickets of this escrow?
    Quote { escrow: Address },
    /// This piece for this ticket.
    Buy {
        order: B256,
        piece: u64,
        ticket: Box<TicketJson>,
    },
}

/// Merchant to payer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Reply {
    /// The file for sale.
    Catalog {
        name: String,
        bytes: u64,
        pieces: u64,
        piece_bytes: u64,
        sha256: B256,
        recipient: Address,
    },
    /// Terms of the next ticket.
    Quote { quote: QuoteJson },
    /// The piece.
    Piece {
        piece: u64,
        data: Bytes,
        quote: QuoteJson,
    },
    /// The ticket is refused and not consumed.
    Refused {
        rule: String,
        message: String,
        retry: RetryJson,
        quote: Option<QuoteJson>,
    },
}

/// What can help a refused ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RetryJson {
    /// A new ticket for a new quote.
    NewQuote,
    /// The same ticket, later.
    Later,
    /// Nothing.
    Never,
}

impl From<Retry> for RetryJson {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::NewQuote => Self::NewQuote,
            Retry::Later => Self::Later,
            Retry::Never => Self::Never,
        }
    }
}

impl From<RetryJson> for Retry {
    fn from(retry: RetryJson) -> Self {
        match retry {
            RetryJson::NewQuote => Self::NewQuote,
            RetryJson::Later => Self::Later,
            RetryJson::Never => Self::Never,
        }
    }
}
