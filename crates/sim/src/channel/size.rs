//! Messages as bytes: what each part of a message takes, in binary (every number as wide as its type) and as the JSON of
//! an HTTP header (hexadecimal bytes, decimal numbers, base64 around it, as the gateway writes its payloads).

use protocol::channel::{AdmitRequest, Admitted, Opener, Payment};
use serde::Serialize;

/// One field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its bytes in binary.
    pub binary: Vec<u8>,
    /// Its value in JSON.
    pub text: String,
}

/// What a part of a message takes, on average over the messages of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PartSize {
    /// Its name.
    pub name: &'static str,
    /// In binary.
    pub binary: f64,
    /// In JSON: name, value, quotation marks, colon and comma.
    pub json: f64,
}

/// What one message takes, on average over the messages of a channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MessageSize {
    /// By part.
    pub parts: Vec<PartSize>,
    /// In binary.
    pub binary: f64,
    /// As the payload of an HTTP header: JSON in base64.
    pub http: f64,
}

/// What the client asks its bank.
pub fn request(request: &AdmitRequest) -> Vec<Part> {
    vec![
        hex("client", request.client),
        hex("vendor", request.vendor),
        hex("salt", request.salt),
        hex("receiptKey", request.receipt_key),
        hex("asset", request.asset),
        number("unit", &request.unit.0, request.unit.0.to_be_bytes()),
        number("length", &request.length.0, request.length.0.to_be_bytes()),
        hex("anchor", request.anchor.0),
        number("expiry", &request.expiry.0, request.expiry.0.to_be_bytes()),
    ]
}

/// What the bank answers: the permit with its signature.
pub fn permit(admitted: &Admitted) -> Vec<Part> {
    let fields = admitted.permit().fields();
    vec![
        hex("channelId", fields.channelId),
        hex("client", fields.client),
        hex("vendor", fields.vendor),
        hex("receiptKey", fields.receiptKey),
        hex("asset", fields.asset),
        number("unit", &fields.unit, fields.unit.to_be_bytes()),
        number("length", &fields.length, fields.length.to_be_bytes()),
        hex("anchor", fields.anchor),
        number(
            "clientReputation",
            &fields.clientReputation,
            [fields.clientReputation],
        ),
        number(
            "vendorReputation",
            &fields.vendorReputation,
            [fields.vendorReputation],
        ),
        number("issuedAt", &fields.issuedAt, fields.issuedAt.to_be_bytes()),
        number("expiry", &fields.expiry, fields.expiry.to_be_bytes()),
        hex("bank", admitted.bank()),
        hex("signature", admitted.signature().to_bytes()),
    ]
}

/// A payment.
pub fn payment(payment: &Payment) -> Vec<Part> {
    vec![
        hex("channelId", payment.channel.0),
        number("index", &payment.index.0, payment.index.0.to_be_bytes()),
        hex("word", payment.word.0),
        hex("itemHash", payment.item.0),
        number(
            "issuedAt",
            &payment.issued_at.0,
            payment.issued_at.0.to_be_bytes(),
        ),
        hex("lock", payment.lock.0),
        hex("tag", payment.tag.0),
    ]
}

/// An opener.
pub fn opener(opener: &Opener) -> Vec<Part> {
    vec![
        hex("channelId", opener.channel.0),
        number("index", &opener.index.0, opener.index.0.to_be_bytes()),
        hex("sigma", opener.sigma.to_bytes()),
    ]
}

/// The bytes of a message: its parts in order.
pub fn binary(parts: &[Part]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| part.binary.iter().copied())
        .collect()
}

/// The JSON of a message.
pub fn json(parts: &[Part]) -> String {
    let fields: Vec<_> = parts.iter().map(field).collect();
    format!("{{{}}}", fields.join(","))
}

/// How long `bytes` bytes are in base64 without padding.
pub fn base64(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

impl MessageSize {
    /// The average over messages of one kind.
    pub fn average(messages: impl IntoIterator<Item = Vec<Part>>) -> Self {
        let (mut total, mut http, mut count) = (Vec::<(&'static str, usize, usize)>::new(), 0, 0usize);
        for parts in messages {
            count += 1;
            http += base64(json(&parts).len());
            if total.is_empty() {
                total = parts.iter().map(|part| (part.name, 0, 0)).collect();
            }
            for (sum, part) in total.iter_mut().zip(&parts) {
                sum.1 += part.binary.len();
                sum.2 += field(part).len() + 1;
            }
        }
        let mean = |sum: usize| sum as f64 / count.max(1) as f64;
        let parts: Vec<_> = total
            .into_iter()
            .map(|(name, binary, json)| PartSize {
                name,
                binary: mean(binary),
                json: mean(json),
            })
            .collect();
        Self {
            binary: parts.iter().map(|part| part.binary).sum(),
            http: mean(http),
            parts,
        }
    }
}

fn field(part: &Part) -> String {
    format!("\"{}\":\"{}\"", part.name, part.text)
}

fn hex(name: &'static str, bytes: impl AsRef<[u8]>) -> Part {
    Part {
        name,
        binary: bytes.as_ref().to_vec(),
        text: alloy_primitives::hex::encode_prefixed(bytes),
    }
}

fn number<const N: usize>(name: &'static str, value: &impl ToString, bytes: [u8; N]) -> Part {
    Part {
        name,
        binary: bytes.to_vec(),
        text: value.to_string(),
    }
}
