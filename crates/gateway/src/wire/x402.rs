//! x402 v2 (`http.md` §2.1): `PAYMENT-REQUIRED`, `PAYMENT-SIGNATURE`, `PAYMENT-RESPONSE`.

use alloy_primitives::{Address, B256};
use protocol::{channel, ticket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::encoding::{checksummed, decimal, from_base64_json, to_padded};
use super::{
    ChannelReceipt, Contracts, Kind, Offers, Payload, Payment, Requirements, Way, WireError, network,
};

const VERSION: u64 = 2;
/// x402's extension for safe retries.
const PAYMENT_IDENTIFIER: &str = "payment-identifier";
/// Most ways to pay that a message names.
const MAX_NAMED: usize = 4;

/// What is paid for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its address.
    pub url: String,
    /// What it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The terms (x402 `PaymentRequired`), as this server gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRequired {
    /// Why, in words or as the name of a rule.
    pub error: String,
    /// What is paid for.
    pub resource: Resource,
    /// Ways to pay; ours.
    pub accepts: Vec<Way>,
}

/// A payment (x402 `PaymentPayload`) as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSignature {
    /// What was paid with.
    pub payment: Payload,
    /// The call's name (`payment-identifier`), if the payer gave one.
    pub identifier: Option<String>,
}

/// What became of a payment (x402 `SettleResponse`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentResponse<E = ResponseExtra> {
    /// Whether it was taken.
    pub success: bool,
    /// The rule that refused it.
    #[serde(rename = "errorReason", default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Who paid: the escrow, or the channel's client.
    #[serde(with = "checksummed")]
    pub payer: Address,
    /// Always empty: a ticket settles later, if it wins, and a channel when it closes.
    pub transaction: String,
    /// CAIP-2 name of the chain.
    pub network: String,
    /// What the payment was worth, atomic units.
    #[serde(with = "decimal")]
    pub amount: u128,
    /// Ours.
    pub extra: E,
}

/// [`PaymentResponse::extra`] of a ticket. (Of a channel it is [`ChannelReceipt`].)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseExtra<N = Requirements> {
    /// Digest of the ticket.
    pub ticket: B256,
    /// Terms of the next payment of this escrow on this route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<N>,
}

impl PaymentRequired {
    /// The header's value.
    pub fn header(&self) -> String {
        to_padded(&self.json())
    }

    /// The JSON in it.
    pub fn json(&self) -> Value {
        let schema = match self.accepts.len() {
            0 | 1 => json!({
                "type": "object",
                "properties": {
                    "required": { "type": "boolean" },
                    "id": { "type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[A-Za-z0-9_-]+$" },
                },
                "required": ["required"],
            }),
            // The room is for the terms.
            _ => json!({ "type": "object" }),
        };
        let identifier = json!({ "info": { "required": false }, "schema": schema });
        json!({
            "x402Version": VERSION, "error": self.error, "resource": self.resource, "accepts": self.accepts,
            "extensions": { PAYMENT_IDENTIFIER: identifier },
        })
    }
}

/// Reads a 402: the ways to pay that are ours on our chains, the first of each kind, if there are any among others.
pub fn read_required(header: &str, contracts: impl Into<Contracts>) -> Result<Offers, WireError> {
    #[derive(Deserialize)]
    struct Any {
        #[serde(rename = "x402Version")]
        version: u64,
        accepts: Vec<Value>,
    }
    let contracts = contracts.into();
    let any: Any = from_base64_json(header)?;
    check_version(any.version)?;
    let mut offers = Offers::default();
    for way in any.accepts {
        let text = |field| way.get(field).and_then(Value::as_str).unwrap_or_default();
        let scheme = text("scheme");
        match contracts.check(Kind::of_scheme(scheme), scheme, text("network")) {
            Ok(Kind::Ticket) if offers.ticket.is_none() => offers.ticket = Some(read_way(way)?),
            Ok(Kind::Channel) if offers.channel.is_none() => offers.channel = Some(read_way(way)?),
            // Another's, or a second one of ours.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(offers)
}

fn read_way<T: DeserializeOwned>(way: Value) -> Result<T, WireError> {
    serde_json::from_value(way).map_err(|error| WireError::Json(error.to_string()))
}

/// The ways to pay of a 402, in words: `exact on eip155:8453, …`.
pub fn offered(header: &str) -> Result<String, WireError> {
    #[derive(Deserialize)]
    struct Any {
        accepts: Vec<Way>,
    }
    #[derive(Deserialize)]
    struct Way {
        #[serde(default)]
        scheme: String,
        #[serde(default)]
        network: String,
    }
    let Any { accepts } = from_base64_json(header)?;
    if accepts.is_empty() {
        return Ok("nothing".into());
    }
    let ways = accepts.iter().take(MAX_NAMED);
    let mut words: Vec<_> = ways
        .map(|way| format!("{} on {}", way.scheme.escape_debug(), way.network.escape_debug()))
        .collect();
    if accepts.len() > MAX_NAMED {
        words.push(format!("and {} more", accepts.len() - MAX_NAMED));
    }
    Ok(words.join(", "))
}

impl PaymentSignature {
    /// The header's value. `accepted` are the terms as they came.
    pub fn header(&self, accepted: &impl Serialize) -> String {
        let mut value = json!({ "x402Version": VERSION, "accepted": accepted, "payload": self.payment });
        if let Some(id) = &self.identifier {
            value["extensions"] = json!({ PAYMENT_IDENTIFIER: { "info": { "required": false, "id": id } } });
        }
        to_padded(&value)
    }
}

/// Reads a payment for a gateway that is paid by these contracts.
pub fn read_signature(header: &str, contracts: impl Into<Contracts>) -> Result<PaymentSignature, WireError> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "x402Version")]
        version: u64,
        accepted: Accepted,
        payload: Box<RawValue>,
        #[serde(default)]
        extensions: Option<Value>,
    }
    // The payload says what is paid; of the echoed terms only the kind matters.
    #[derive(Deserialize)]
    struct Accepted {
        scheme: String,
        network: String,
    }
    let envelope: Envelope = from_base64_json(header)?;
    check_version(envelope.version)?;
    let Accepted { scheme, network } = &envelope.accepted;
    let kind = contracts.into().check(Kind::of_scheme(scheme), scheme, network)?;
    let identifier = envelope
        .extensions
        .as_ref()
        .and_then(|extensions| extensions.pointer(&format!("/{PAYMENT_IDENTIFIER}/info/id")))
        .map(|id| {
            let id = id.as_str().unwrap_or_default();
            let well_formed = (16..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            well_formed.then(|| id.to_owned()).ok_or_else(|| {
                WireError::Json(format!(
                    "payment-identifier {id:?} is not 16 to 128 of [A-Za-z0-9_-]"
                ))
            })
        })
        .transpose()?;
    Ok(PaymentSignature {
        payment: Payload::read(kind, envelope.payload.get())?,
        identifier,
    })
}

impl<N> PaymentResponse<ResponseExtra<N>> {
    /// A ticket that was taken on this chain.
    pub fn taken(payment: &Payment, domain: &ticket::Domain, ticket: B256, price: u128, next: N) -> Self {
        Self {
            success: true,
            error_reason: None,
            payer: payment.escrow,
            transaction: String::new(),
            network: network(domain.chain_id()),
            amount: price,
            extra: ResponseExtra {
                ticket,
                next: Some(next),
            },
        }
    }
}

impl PaymentResponse<ChannelReceipt> {
    /// A channel's payment that was taken on this chain: `price` of `client`.
    pub fn of_channel(
        client: Address,
        domain: &channel::Domain,
        price: u128,
        receipt: ChannelReceipt,
    ) -> Self {
        Self {
            success: true,
            error_reason: None,
            payer: client,
            transaction: String::new(),
            network: network(domain.chain_id()),
            amount: price,
            extra: receipt,
        }
    }
}

impl<E: Serialize> PaymentResponse<E> {
    /// The header's value.
    pub fn header(&self) -> String {
        to_padded(self)
    }
}

/// Reads what became of a ticket.
pub fn read_response(header: &str) -> Result<PaymentResponse, WireError> {
    from_base64_json(header)
}

/// Reads what became of a channel's payment.
pub fn read_channel_response(header: &str) -> Result<PaymentResponse<ChannelReceipt>, WireError> {
    from_base64_json(header)
}

fn check_version(got: u64) -> Result<(), WireError> {
    if got != VERSION {
        return Err(WireError::Version {
            got,
            expected: VERSION,
        });
    }
    Ok(())
}
