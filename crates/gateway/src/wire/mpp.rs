//! The `Payment` HTTP authentication scheme (`http.md` §2.4): challenge, credential, receipt. The challenge's id binds its
//! parameters by an HMAC, so that the server remembers none of them.

use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::{Address, B256};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::Sha256;

use super::encoding::{from_base64_json, to_url};
use super::{ChannelReceipt, ChannelRequirements, Contracts, Kind, METHOD, Payload, Requirements, WireError};

/// Key of the challenges' ids, 32 secret bytes.
#[derive(Clone)]
pub struct ChallengeKey([u8; 32]);

impl ChallengeKey {
    /// Wraps 32 uniform secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ChallengeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeKey(..)")
    }
}

/// The terms as the `Payment` scheme has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Binds the other parameters.
    pub id: String,
    /// The server's name.
    pub realm: String,
    /// [`METHOD`].
    pub method: String,
    /// Which kind of payment.
    pub intent: String,
    /// The terms, JSON in base64url.
    pub request: String,
    /// RFC 3339.
    pub expires: String,
}

/// A payment as the `Payment` scheme has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What was paid with.
    pub payment: Payload,
    /// When the challenge expires, RFC 3339.
    pub expires: String,
}

/// What became of a ticket (`Payment-Receipt`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt<N = Requirements> {
    /// Always `success`: a refusal is a 402.
    pub status: &'static str,
    /// [`METHOD`].
    pub method: &'static str,
    /// RFC 3339.
    pub timestamp: String,
    /// Digest of the ticket.
    pub reference: B256,
    /// Terms of the next payment of this escrow on this route.
    pub next: N,
}

/// What became of a channel's payment (`Payment-Receipt`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelPaymentReceipt {
    /// Always `success`: a refusal is a 402.
    pub status: &'static str,
    /// [`METHOD`].
    pub method: &'static str,
    /// RFC 3339.
    pub timestamp: String,
    /// The payment's tag.
    pub reference: B256,
    /// Ours.
    pub extra: ChannelReceipt,
}

/// Terms of any kind, as far as a challenge goes.
pub struct Challenged<'t> {
    kind: Kind,
    network: &'t str,
    amount: u128,
    asset: Address,
    pay_to: Address,
    /// `None`: the challenge's own expiry says it.
    max_timeout_seconds: Option<u64>,
    extra: Value,
}

impl<'t> From<&'t Requirements> for Challenged<'t> {
    fn from(terms: &'t Requirements) -> Self {
        Self {
            kind: Kind::Ticket,
            network: &terms.network,
            amount: terms.amount,
            asset: terms.asset,
            pay_to: terms.pay_to,
            max_timeout_seconds: Some(terms.max_timeout_seconds),
            extra: json!(terms.extra),
        }
    }
}

impl<'t> From<&'t ChannelRequirements> for Challenged<'t> {
    fn from(terms: &'t ChannelRequirements) -> Self {
        // Two kinds in two protocols are to fit into one head. Who keeps terms by route reads x402.
        let mut extra = json!(terms.extra);
        if let Some(extra) = extra.as_object_mut() {
            extra.remove("route");
        }
        Self {
            kind: Kind::Channel,
            network: &terms.network,
            amount: terms.amount,
            asset: terms.asset,
            pay_to: terms.pay_to,
            max_timeout_seconds: None,
            extra,
        }
    }
}

impl Challenge {
    /// Makes a challenge for these terms.
    pub fn new<'t>(
        key: &ChallengeKey,
        realm: &str,
        terms: impl Into<Challenged<'t>>,
        expires: String,
    ) -> Self {
        let terms = terms.into();
        let mut details = terms.extra;
        details["network"] = json!(terms.network);
        if let Some(seconds) = terms.max_timeout_seconds {
            details["maxTimeoutSeconds"] = json!(seconds);
        }
        let request = canonical(json!({
            "amount": terms.amount.to_string(), "currency": terms.asset.to_checksum(None),
            "recipient": terms.pay_to.to_checksum(None), "methodDetails": details,
        }));
        let mut challenge = Self {
            id: String::new(),
            realm: realm.to_owned(),
            method: METHOD.to_owned(),
            intent: terms.kind.intent().to_owned(),
            request: to_url(request.to_string().as_bytes()),
            expires,
        };
        challenge.id = to_url(&challenge.mac(key).finalize().into_bytes());
        challenge
    }

    /// The value of `WWW-Authenticate`.
    pub fn header(&self) -> String {
        let Self {
            id,
            realm,
            method,
            intent,
            request,
            expires,
        } = self;
        format!(
            "Payment id=\"{id}\", realm=\"{}\", method=\"{method}\", intent=\"{intent}\", request=\"{request}\", \
             expires=\"{expires}\"",
            realm.replace(['"', '\\'], "")
        )
    }

    fn mac(&self, key: &ChallengeKey) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("any length is a key");
        // Slots of the specification: digest and opaque are not used.
        let slots = [
            &self.realm,
            &self.method,
            &self.intent,
            &self.request,
            &self.expires,
            "",
            "",
        ];
        mac.update(slots.join("|").as_bytes());
        mac
    }

    /// Whether it was made with this key and not changed since. In constant time.
    fn verify(&self, key: &ChallengeKey) -> bool {
        super::encoding::from_base64(&self.id).is_ok_and(|id| self.mac(key).verify_slice(&id).is_ok())
    }
}

/// The canonical form (RFC 8785) of objects, strings and small numbers: names are sorted, in whichever order a build has
/// serde_json keep them. Clients write the terms anew in this form before they send them back.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<String, Value> = map
                .into_iter()
                .map(|(name, value)| (name, canonical(value)))
                .collect();
            sorted.into_iter().collect()
        }
        other => other,
    }
}

/// Reads the token of `Authorization: Payment <token>`, for a gateway that is paid by these contracts.
pub fn read_credential(
    token: &str,
    key: &ChallengeKey,
    contracts: impl Into<Contracts>,
) -> Result<Credential, WireError> {
    #[derive(Deserialize)]
    struct Envelope {
        challenge: Challenge,
        payload: Box<RawValue>,
    }
    let contracts = contracts.into();
    let Envelope { challenge, payload } = from_base64_json(token)?;
    let kind = Kind::of_intent(&challenge.intent).filter(|_| challenge.method == METHOD);
    let Some(kind) = kind else {
        return Err(WireError::Scheme {
            got: format!("{}/{}", challenge.method, challenge.intent),
            expected: contracts.schemes(),
        });
    };
    if !challenge.verify(key) {
        return Err(WireError::Challenge { got: challenge.id });
    }
    let request: Value = from_base64_json(&challenge.request)?;
    let network = request
        .pointer("/methodDetails/network")
        .and_then(Value::as_str)
        .unwrap_or_default();
    contracts.check(Some(kind), kind.scheme(), network)?;
    let payment = Payload::read(kind, payload.get())?;
    Ok(Credential {
        payment,
        expires: challenge.expires,
    })
}

impl ChannelPaymentReceipt {
    /// The header's value.
    pub fn header(&self) -> String {
        to_url(&serde_json::to_vec(self).expect("our shapes are JSON"))
    }
}

impl<N: Serialize> Receipt<N> {
    /// The header's value.
    pub fn header(&self) -> String {
        to_url(&serde_json::to_vec(self).expect("our shapes are JSON"))
    }
}
