//! AWS Nitro enclaves: a COSE_Sign1 document under AWS's root. Read here, over the CBOR and X.509 that are in the tree anyway:
//! crate `nitro_attest` takes any certificate for an authority, has AWS's root compiled in, and needs `serde_cbor`, which
//! nobody maintains.

use std::collections::BTreeMap;

use alloy_primitives::hex;
use minicbor::{Decoder, data::Type};
use protocol::offline::Timestamp;
use rustls_pki_types::CertificateDer;

use super::{
    AttestationError, AttestationVerifier, Expected, Facts, Format, Rules,
    chain::{self, MAX_INTERMEDIATES, Purpose},
    check_length, malformed,
};

const MAX_DOCUMENT_BYTES: usize = 16 * 1024;
/// `{1: -35}`: ES384.
const ES384: &[u8] = &[0xa1, 0x01, 0x38, 0x22];
const MAX_REGISTERS: u64 = 32;

/// Judges documents.
#[derive(Clone, Debug)]
pub struct Nitro {
    rules: Rules,
}

/// What a document says, once its signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The enclave's module.
    pub module: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// Platform configuration registers.
    pub registers: BTreeMap<u64, Vec<u8>>,
    /// What the enclave put into it.
    pub user_data: Vec<u8>,
    certificate: Vec<u8>,
    bundle: Vec<Vec<u8>>,
}

impl Nitro {
    /// By the rules of a class. What is measured: PCR0, the image.
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }

    /// Checks certificates and signature, and reads the document.
    ///
    /// # Errors
    ///
    /// What does not verify.
    pub fn open(&self, evidence: &[u8], now: Timestamp) -> Result<Document, AttestationError> {
        check_length(evidence, MAX_DOCUMENT_BYTES)?;
        let signed = Signed::read(evidence).map_err(|error| malformed("document", error))?;
        if signed.protected != ES384 {
            return Err(malformed(
                "document",
                format!(
                    "its header is {}, not that of ES384",
                    hex::encode(signed.protected)
                ),
            ));
        }
        let document = Document::read(signed.payload)?;
        let leaf = CertificateDer::from(&document.certificate[..]);
        let bundle: Vec<_> = document
            .bundle
            .iter()
            .map(|der| CertificateDer::from(&der[..]))
            .collect();
        let what = "certificate of the enclave";
        let end = chain::verify(what, &leaf, &bundle, &self.rules.roots, Purpose::Any, now)?;
        let bad = |problem: String| AttestationError::BadSignature {
            what: "document",
            problem,
        };
        let signature = der_signature(signed.signature)
            .ok_or_else(|| bad(format!("{} bytes, not 96", signed.signature.len())))?;
        end.verify_signature(
            webpki::aws_lc_rs::ECDSA_P384_SHA384,
            &signed.message(),
            &signature,
        )
        .map_err(|error| bad(error.to_string()))?;
        Ok(document)
    }
}

impl AttestationVerifier for Nitro {
    fn format(&self) -> Format {
        Format::Nitro
    }

    fn verify(
        &self,
        evidence: &[u8],
        expected: &Expected,
        now: Timestamp,
    ) -> Result<Facts, AttestationError> {
        let document = self.open(evidence, now)?;
        if document.made_at > now {
            return Err(AttestationError::OutOfTime {
                what: "document",
                from: document.made_at,
                until: Timestamp(u64::MAX),
                now,
            });
        }
        self.rules.check_age("document", document.made_at, now)?;
        let image = document.registers.get(&0).map(Vec::as_slice).unwrap_or_default();
        // A debug enclave has zeros there.
        if image.iter().all(|byte| *byte == 0) {
            return Err(AttestationError::DebugMode {
                got: format!("PCR0 {}", hex::encode(image)),
                needed: "the hash of an image",
            });
        }
        self.rules.check_measurement(image)?;
        if document.user_data != expected.report_data[..32] {
            return Err(AttestationError::WrongReportData {
                got: hex::encode(&document.user_data),
                needed: hex::encode(&expected.report_data[..32]),
            });
        }
        Ok(Facts {
            format: Format::Nitro,
            device: None,
            measurement: image.to_vec(),
            tcb: document.module,
        })
    }
}

/// A COSE_Sign1, in its parts.
struct Signed<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, minicbor::decode::Error> {
        let mut cbor = Decoder::new(bytes);
        if cbor.datatype()? == Type::Tag {
            cbor.tag()?;
        }
        if cbor.array()? != Some(4) {
            return Err(minicbor::decode::Error::message("no array of four"));
        }
        let protected = cbor.bytes()?;
        if cbor.map()? != Some(0) {
            return Err(minicbor::decode::Error::message("unprotected headers"));
        }
        let (payload, signature) = (cbor.bytes()?, cbor.bytes()?);
        if cbor.position() != bytes.len() {
            return Err(minicbor::decode::Error::message("something follows"));
        }
        Ok(Self {
            protected,
            payload,
            signature,
        })
    }

    /// `Sig_structure` of RFC 9052.
    fn message(&self) -> Vec<u8> {
        let mut message = vec![0x84];
        message.extend([0x6a]);
        message.extend(b"Signature1");
        for part in [self.protected, &[], self.payload] {
            head(&mut message, part.len());
            message.extend(part);
        }
        message
    }
}

/// The head of a CBOR byte string.
fn head(out: &mut Vec<u8>, length: usize) {
    match length {
        0..=23 => out.push(0x40 | u8::try_from(length).unwrap_or_default()),
        24..=0xff => out.extend([0x58, u8::try_from(length).unwrap_or_default()]),
        _ => {
            // A document has at most 16 KiB.
            out.push(0x59);
            out.extend(u16::try_from(length).unwrap_or_default().to_be_bytes());
        }
    }
}

impl Document {
    fn read(payload: &[u8]) -> Result<Self, AttestationError> {
        Self::parse(payload).map_err(|error| malformed("document", error))
    }

    fn parse(payload: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let message = minicbor::decode::Error::message;
        let mut cbor = Decoder::new(payload);
        let fields = cbor.map()?.ok_or_else(|| message("a map without length"))?;
        let mut document = Self {
            module: String::new(),
            made_at: Timestamp(0),
            registers: BTreeMap::new(),
            user_data: Vec::new(),
            certificate: Vec::new(),
            bundle: Vec::new(),
        };
        let mut seen = Vec::new();
        for _ in 0..fields {
            let name = cbor.str()?;
            if seen.contains(&name) {
                return Err(message("a field twice"));
            }
            seen.push(name);
            match name {
                "module_id" => document.module = cbor.str()?.to_owned(),
                "timestamp" => document.made_at = Timestamp(cbor.u64()? / 1000),
                "digest" => {
                    if cbor.str()? != "SHA384" {
                        return Err(message("registers of another hash than SHA-384"));
                    }
                }
                "pcrs" => {
                    let count = cbor.map()?.filter(|count| *count <= MAX_REGISTERS);
                    for _ in 0..count.ok_or_else(|| message("too many registers"))? {
                        document.registers.insert(cbor.u64()?, cbor.bytes()?.to_vec());
                    }
                }
                "certificate" => document.certificate = cbor.bytes()?.to_vec(),
                "cabundle" => {
                    let most = u64::try_from(MAX_INTERMEDIATES).unwrap_or_default();
                    let count = cbor.array()?.filter(|count| *count <= most);
                    for _ in 0..count.ok_or_else(|| message("too many certificates"))? {
                        document.bundle.push(cbor.bytes()?.to_vec());
                    }
                }
                "user_data" => {
                    if cbor.datatype()? == Type::Null {
                        cbor.null()?;
                    } else {
                        document.user_data = cbor.bytes()?.to_vec();
                    }
                }
                _ => cbor.skip()?,
            }
        }
        for needed in [
            "module_id",
            "timestamp",
            "digest",
            "pcrs",
            "certificate",
            "cabundle",
        ] {
            if !seen.contains(&needed) {
                return Err(message(needed));
            }
        }
        Ok(document)
    }
}

/// `r ‖ s` as X.509 writes it.
fn der_signature(fixed: &[u8]) -> Option<Vec<u8>> {
    if fixed.len() != 96 {
        return None;
    }
    let mut numbers = Vec::new();
    for number in fixed.chunks(48) {
        let start = number.iter().position(|byte| *byte != 0)?;
        let number = &number[start..];
        let sign = usize::from(number[0] >= 0x80);
        numbers.extend([2, u8::try_from(number.len() + sign).ok()?]);
        numbers.extend(&[0][..sign]);
        numbers.extend(number);
    }
    let mut der = vec![0x30, u8::try_from(numbers.len()).ok()?];
    der.extend(numbers);
    Some(der)
}
