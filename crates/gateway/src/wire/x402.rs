//! x402 v2 (`http.md` §2.1): `PAYMENT-REQUIRED`, `PAYMENT-SIGNATURE`, `PAYMENT-RESPONSE`.

use alloy_primitives::{Address, B256};
use protocol::ticket::Domain;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::encoding::{checksummed, decimal, from_base64_json, to_padded};
use super::{Payment, Requirements, WireError, network};

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
    pub accepts: Vec<Requirements>,
}

/// A payment (x402 `PaymentPayload`) as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSignature {
    /// The ticket.
    pub payment: Payment,
    /// The call's name (`payment-identifier`), if the payer gave one.
    pub identifier: Option<String>,
}

/// What became of a payment (x402 `SettleResponse`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentResponse<N = Requirements> {
    /// Whether it was taken.
    pub success: bool,
    /// The rule that refused it.
    #[serde(rename = "errorReason", default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// The escrow that paid.
    #[serde(with = "checksummed")]
    pub payer: Address,
    /// Always empty: a ticket settles later, if it wins.
    pub transaction: String,
    /// CAIP-2 name of the chain.
    pub network: String,
    /// What the ticket was worth, atomic units.
    #[serde(with = "decimal")]
    pub amount: u128,
    /// Ours.
    pub extra: ResponseExtra<N>,
}

/// [`PaymentResponse::extra`].
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
        let identifier = json!({
            "info": { "required": false },
            "schema": {
                "type": "object",
                "properties": {
                    "required": { "type": "boolean" },
                    "id": { "type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[A-Za-z0-9_-]+$" },
                },
                "required": ["required"],
            },
        });
        json!({
            "x402Version": VERSION, "error": self.error, "resource": self.resource, "accepts": self.accepts,
            "extensions": { PAYMENT_IDENTIFIER: identifier },
        })
    }
}

/// Reads a 402: the way to pay that is ours on this chain, if there is one among others.
pub fn read_required(header: &str, domain: &Domain) -> Result<Option<Requirements>, WireError> {
    #[derive(Deserialize)]
    struct Any {
        #[serde(rename = "x402Version")]
        version: u64,
        accepts: Vec<Value>,
    }
    let any: Any = from_base64_json(header)?;
    check_version(any.version)?;
    let text = |value: &Value, field| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let ours = any.accepts.into_iter().find(|value| {
        let (scheme, network) = (text(value, "scheme"), text(value, "network"));
        scheme
            .zip(network)
            .is_some_and(|(scheme, network)| Requirements::check_kind(&scheme, &network, domain).is_ok())
    });
    ours.map(|value| serde_json::from_value(value).map_err(|error| WireError::Json(error.to_string())))
        .transpose()
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
    pub fn header(&self, accepted: &Requirements) -> String {
        let mut value = json!({ "x402Version": VERSION, "accepted": accepted, "payload": self.payment });
        if let Some(id) = &self.identifier {
            value["extensions"] = json!({ PAYMENT_IDENTIFIER: { "info": { "required": false, "id": id } } });
        }
        to_padded(&value)
    }
}

/// Reads a payment for a gateway on this chain.
pub fn read_signature(header: &str, domain: &Domain) -> Result<PaymentSignature, WireError> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "x402Version")]
        version: u64,
        accepted: Accepted,
        payload: Payment,
        #[serde(default)]
        extensions: Option<Value>,
    }
    // The ticket says what is paid; of the echoed terms only the kind matters.
    #[derive(Deserialize)]
    struct Accepted {
        scheme: String,
        network: String,
    }
    let envelope: Envelope = from_base64_json(header)?;
    check_version(envelope.version)?;
    Requirements::check_kind(&envelope.accepted.scheme, &envelope.accepted.network, domain)?;
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
        payment: envelope.payload,
        identifier,
    })
}

impl<N: Serialize> PaymentResponse<N> {
    /// A payment that was taken on this chain.
    pub fn taken(payment: &Payment, domain: &Domain, ticket: B256, price: u128, next: N) -> Self {
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

    /// The header's value.
    pub fn header(&self) -> String {
        to_padded(self)
    }
}

/// Reads what became of a payment.
pub fn read_response(header: &str) -> Result<PaymentResponse, WireError> {
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
