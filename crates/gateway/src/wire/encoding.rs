//! Base64 in both alphabets, decimal numbers, checksummed addresses.

use alloy_primitives::Address;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MAX_HEADER_BYTES;

/// Why something from outside could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The header is longer than any payment.
    #[error("the header has {got} bytes, at most {limit} are read")]
    TooLong {
        /// Bytes.
        got: usize,
        /// See [`MAX_HEADER_BYTES`].
        limit: usize,
    },
    /// Not base64 in either alphabet.
    #[error("not base64: {0}")]
    Base64(String),
    /// Not the JSON that belongs here.
    #[error("not the expected JSON: {0}")]
    Json(String),
    /// Another version of x402.
    #[error("x402Version is {got}, I speak {expected}")]
    Version {
        /// What it says.
        got: u64,
        /// What is spoken here.
        expected: u64,
    },
    /// A way to pay that is not taken here.
    #[error("the payment's scheme is {got:?}, I take {expected}")]
    Scheme {
        /// What it says.
        got: String,
        /// What is taken here.
        expected: String,
    },
    /// Another chain.
    #[error("the payment is on network {got:?}, I take {expected:?}")]
    Network {
        /// What it says.
        got: String,
        /// What is taken here.
        expected: String,
    },
    /// The echoed challenge is not one that was made here, or was changed.
    #[error("challenge {got:?} was not made here")]
    Challenge {
        /// Its id.
        got: String,
    },
    /// The signature has no form that a key could have made.
    #[error(transparent)]
    Signature(#[from] protocol::ticket::SignatureError),
}

/// Room for the JSON of a receipt, which need not grow then.
const USUAL_BYTES: usize = 1024;
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(false);
const PADDED: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT.with_encode_padding(false));

/// x402's encoding: JSON in base64 with padding.
pub(super) fn to_padded(value: &impl Serialize) -> String {
    let mut json = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut json, value).expect("our shapes are JSON");
    PADDED.encode(json)
}

/// The `Payment` scheme's encoding: JSON in base64url without padding.
pub(super) fn to_url(bytes: &[u8]) -> String {
    URL.encode(bytes)
}

/// Bytes in either alphabet, with padding or without.
pub(super) fn from_base64(text: &str) -> Result<Vec<u8>, WireError> {
    if text.len() > MAX_HEADER_BYTES {
        return Err(WireError::TooLong {
            got: text.len(),
            limit: MAX_HEADER_BYTES,
        });
    }
    let text = text.trim();
    PADDED
        .decode(text)
        .or_else(|_| URL.decode(text))
        .map_err(|error| WireError::Base64(error.to_string()))
}

/// JSON in base64 of either alphabet.
pub(super) fn from_base64_json<T: DeserializeOwned>(text: &str) -> Result<T, WireError> {
    serde_json::from_slice(&from_base64(text)?).map_err(|error| WireError::Json(error.to_string()))
}

/// Numbers as decimal strings, which JSON's readers do not round. Plain numbers are read, too.
pub(super) mod decimal {
    use std::fmt::{self, Display};
    use std::marker::PhantomData;
    use std::str::FromStr;

    use serde::de::{Error, Visitor};

    use super::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        deserializer.deserialize_any(Digits(PhantomData))
    }

    struct Digits<T>(PhantomData<T>);

    impl<T: FromStr<Err: Display>> Visitor<'_> for Digits<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a decimal number")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_str<E: Error>(self, digits: &str) -> Result<T, E> {
            // The readers of numbers take signs, underscores and hexadecimal; the wire does not.
            if digits.is_empty() || digits.len() > 78 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(E::custom(format_args!("{digits:?} is not a decimal number")));
            }
            digits
                .parse()
                .map_err(|error| E::custom(format_args!("{digits}: {error}")))
        }
    }
}

/// Addresses with their checksum, as x402 has them; read in any case.
pub(super) mod checksummed {
    use super::{Address, Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&address.to_checksum_buffer(None).as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        Address::deserialize(deserializer)
    }
}
