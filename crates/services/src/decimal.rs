//! 128-bit numbers as decimal text, because JSON numbers are not exact: one spelling of each.

use std::borrow::Cow;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    match text.parse() {
        Ok(number) if plain => Ok(number),
        _ => Err(D::Error::custom(format_args!(
            "{text:?} is not a decimal number below 2^128"
        ))),
    }
}
