//! Amounts, rates and times as people write them.

use std::str::FromStr;

use alloy::primitives::utils::{format_units, parse_units};
use alloy::primitives::{Address, U256};
use chain::{ChainError, Client, Scheme};
use protocol::ticket::{Amount, WinThreshold};

use crate::exit::usage;
use crate::output::is_plain;

/// Longest symbol of a token that is shown, in characters.
const MAX_SYMBOL: usize = 16;

/// An asset with what is needed to write its amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    pub(crate) address: Address,
    pub(crate) symbol: String,
    pub(crate) decimals: u8,
}

impl Asset {
    /// The native asset.
    pub(crate) fn ether() -> Self {
        Self {
            address: Address::ZERO,
            symbol: "ETH".into(),
            decimals: 18,
        }
    }

    /// The native asset, or a token as it describes itself.
    pub(crate) async fn read<S: Scheme>(client: &Client<S>, address: Address) -> Result<Self, ChainError> {
        if address == Address::ZERO {
            return Ok(Self::ether());
        }
        let (symbol, decimals) = client.token(address).await?;
        Ok(Self::token(address, &symbol, decimals))
    }

    /// A token as it describes itself, as far as that can be shown: anybody makes a token with any symbol.
    pub(crate) fn token(address: Address, symbol: &str, decimals: u8) -> Self {
        let symbol = symbol.chars().filter(|letter| is_plain(*letter));
        Self {
            address,
            symbol: symbol.take(MAX_SYMBOL).collect(),
            decimals,
        }
    }

    /// An amount with the address of its token: a symbol is nobody's alone.
    pub(crate) fn show_with_address(&self, amount: impl Into<U256>) -> String {
        if self.address == Address::ZERO || *self == Self::offline(self.address) {
            return self.show(amount);
        }
        format!("{} of token {}", self.show(amount), self.address)
    }

    /// An asset as far as it is known without a chain: of a token only its atomic units.
    pub(crate) fn offline(address: Address) -> Self {
        if address == Address::ZERO {
            return Self::ether();
        }
        Self {
            address,
            symbol: format!("atomic units of {address}"),
            decimals: 0,
        }
    }

    /// Reads an amount in whole units of the asset: `0.01`; or in atomic units: `10000000000wei`.
    pub(crate) fn parse(&self, text: &str) -> eyre::Result<Amount> {
        let wrong = || {
            let (symbol, decimals) = (&self.symbol, self.decimals);
            usage(format!(
                "the amount {text:?} is neither {symbol} (0.01, up to {decimals} decimals) nor atomic units (100wei)"
            ))
        };
        let value: U256 = match text.strip_suffix("wei") {
            Some(atomic) => U256::from_str_radix(atomic.trim(), 10)
                .ok()
                .filter(|_| !atomic.is_empty()),
            None if text.is_empty() || text.starts_with('-') => None,
            // parse_units drops digits that are too many: that would be another amount.
            None if text
                .split_once('.')
                .is_some_and(|(_, part)| part.len() > self.decimals.into()) =>
            {
                None
            }
            None => parse_units(text, self.decimals)
                .ok()
                .map(|value| value.get_absolute()),
        }
        .ok_or_else(wrong)?;
        Amount::try_from(value).map_err(|error| usage(format!("the amount {text:?}: {error}")))
    }

    /// Writes an amount exactly, in whole units.
    pub(crate) fn show(&self, amount: impl Into<U256>) -> String {
        let text = format_units(amount.into(), self.decimals).unwrap_or_default();
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        format!("{text} {}", self.symbol)
    }
}

/// A win rate: `1/128` or `0.0078125`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) WinThreshold);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("1/")
            .ok_or_else(|| format!("a rate is written 1/N, got {text:?}"))?;
        match rest.parse() {
            Ok(n) if n > 1 => Ok(Self(WinThreshold::one_in(n))),
            _ => Err(format!("a rate is written 1/N with N above 1, got {text:?}")),
        }
    }
}

/// A span of time: `90s`, `15m`, `24h`, `3d`.
pub(crate) fn parse_span(text: &str) -> Result<protocol::ticket::Seconds, String> {
    let unit = text.chars().last().unwrap_or(' ');
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(format!("a span is written 90s, 15m, 24h or 3d, got {text:?}")),
    };
    let number: u64 = text[..text.len() - 1]
        .parse()
        .map_err(|_| format!("no number in the span {text:?}"))?;
    number
        .checked_mul(factor)
        .map(protocol::ticket::Seconds)
        .ok_or_else(|| format!("the span {text:?} is too long"))
}

/// Numbers that JSON and TOML do not hold exactly, as decimal text.
pub(crate) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| de::Error::custom(format_args!("{text:?} is no decimal number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ether() -> Asset {
        Asset {
            address: Address::ZERO,
            symbol: "ETH".into(),
            decimals: 18,
        }
    }

    #[test]
    fn attack_a_token_with_a_symbol_that_writes_to_the_terminal() {
        let address = Address::repeat_byte(7);
        let token = Asset::token(address, "ETH\u{1b}[2J\n\u{202e}and much more of it", 2);
        assert_eq!(token.symbol, "ETH[2Jand much m");
        assert_eq!(
            token.show_with_address(U256::from(150)),
            format!("1.5 ETH[2Jand much m of token {address}")
        );
    }

    #[test]
    fn amounts_are_read_and_written_exactly() {
        assert_eq!(
            ether().parse("0.01").expect("an amount"),
            Amount(10_000_000_000_000_000)
        );
        assert_eq!(ether().parse("7wei").expect("an amount"), Amount(7));
        assert_eq!(
            ether().show(U256::from(10_000_000_000_000_001u64)),
            "0.010000000000000001 ETH"
        );
        assert_eq!(ether().show(U256::ZERO), "0 ETH");
        assert_eq!(
            Asset {
                decimals: 0,
                ..ether()
            }
            .show(U256::from(100)),
            "100 ETH"
        );
    }

    #[test]
    fn bad_amounts_are_refused() {
        for text in ["", "-1", "1e3", "0x10", "1.0000000000000000001", "wei", "-1wei"] {
            assert!(ether().parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn rates_and_spans() {
        assert_eq!(
            "1/128".parse::<Rate>().expect("a rate").0,
            WinThreshold::one_in(128)
        );
        assert!(
            "1/0".parse::<Rate>().is_err()
                && "1/1".parse::<Rate>().is_err()
                && "128".parse::<Rate>().is_err()
        );
        assert_eq!(parse_span("3d").expect("a span").0, 259_200);
        assert!(parse_span("3").is_err() && parse_span("d").is_err() && parse_span("").is_err());
    }
}
