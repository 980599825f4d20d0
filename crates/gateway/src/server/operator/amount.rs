//! Amounts, addresses, times and spans as the operator reads them.

use std::time::{Duration, UNIX_EPOCH};

use alloy_primitives::{Address, B256};
use protocol::ticket::{Amount, Seconds, Timestamp};
use serde::Serialize;

/// Decimals of a fraction that are shown beyond its leading zeros.
const DIGITS: usize = 6;

/// What prices and prizes are paid in. Symbol and decimals are what a token says of itself: not to be trusted in any way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asset {
    /// Token, or the zero address for the native asset.
    pub address: Address,
    /// `ETH`, `USDC`, …
    pub symbol: String,
    /// How many decimals a whole unit has.
    pub decimals: u8,
}

impl Asset {
    /// The native asset of a chain that calls it ether.
    pub fn ether() -> Self {
        Self {
            address: Address::ZERO,
            symbol: "ETH".into(),
            decimals: 18,
        }
    }

    /// The amount in whole units, for reading: thousands apart, the fraction cut (never rounded up) after six digits that
    /// say something. Small amounts of ether are in gwei or wei.
    pub fn show(&self, amount: Amount) -> String {
        let ether = self.address == Address::ZERO && self.decimals == 18;
        let (unit, decimals) = match amount.0 {
            1..1_000_000_000 if ether => ("wei", 0),
            1_000_000_000..10_000_000_000_000 if ether => ("gwei", 9),
            _ => return format!("{} {}", self.decimal(amount, DIGITS), self.unit()),
        };
        format!("{} {unit}", decimal(amount.0, decimals, DIGITS))
    }

    /// The amount in whole units, every digit of it.
    pub fn exact(&self, amount: Amount) -> String {
        format!("{} {}", self.decimal(amount, usize::MAX), self.unit())
    }

    fn decimal(&self, amount: Amount, digits: usize) -> String {
        let decimals = if self.is_readable() {
            self.decimals.into()
        } else {
            0
        };
        decimal(amount.0, decimals, digits)
    }

    /// Whether whole units are of any use: an amount has at most 39 digits.
    fn is_readable(&self) -> bool {
        self.decimals <= 36
    }

    /// The symbol, as far as it is one: short, and nothing in it that turns the line around.
    fn unit(&self) -> String {
        /// Longer ones are cut.
        const LONGEST: usize = 11;
        let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let mut symbol: String = self
            .symbol
            .chars()
            .filter(|c| !c.is_control() && !turns(*c))
            .collect();
        if let Some((end, _)) = symbol.char_indices().nth(LONGEST) {
            symbol.truncate(end);
            symbol.push('…');
        }
        if self.is_readable() {
            symbol
        } else {
            format!("atomic {symbol}")
        }
    }
}

/// `value / 10^decimals` with at most so many digits of the fraction beyond its leading zeros.
fn decimal(value: u128, decimals: usize, digits: usize) -> String {
    let padded = format!("{value:0>width$}", width = decimals + 1);
    let (whole, fraction) = padded.split_at(padded.len() - decimals);
    let zeros = fraction.len() - fraction.trim_start_matches('0').len();
    // A whole part needs no finer fraction than its own digits are worth.
    let shown = if whole == "0" {
        zeros.saturating_add(digits)
    } else {
        digits
    };
    let fraction = fraction[..shown.min(fraction.len())].trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}", thousands(whole))
}

/// A number with its thousands apart.
pub(crate) fn count(value: u64) -> String {
    thousands(&value.to_string())
}

/// A number that need not be whole, to three digits or so.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => {
            let sign = if value < 0.0 { "−" } else { "" };
            format!("{sign}{}", count(size.round() as u64))
        }
        size if size >= 10.0 => trimmed(format!("{value:.1}")),
        _ => trimmed(format!("{value:.2}")),
    }
}

fn trimmed(mut fraction: String) -> String {
    fraction.truncate(fraction.trim_end_matches('0').trim_end_matches('.').len());
    fraction
}

fn thousands(digits: &str) -> String {
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(value: u64) -> String {
    let mut size = value as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 1_000.0 {
            return format!("{} {unit}", number(size));
        }
        size /= 1_000.0;
    }
    format!("{} TB", number(size))
}

/// A short time in the unit that suits it.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        v if v < 0.001 => format!("{:.0} µs", v * 1e6),
        v if v < 1.0 => format!("{} ms", number(v * 1e3)),
        v => format!("{} s", number(v)),
    }
}

/// A span in its two largest units.
pub(crate) fn span(span: Seconds) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(size, _)| span.0 >= *size) else {
        return "0 s".into();
    };
    let (size, unit) = units[first];
    let mut text = format!("{} {unit}", span.0 / size);
    if let Some((small, unit)) = units.get(first + 1)
        && span.0 % size >= *small
    {
        text += &format!(" {} {unit}", span.0 % size / small);
    }
    text
}

/// A point in time, written out.
pub(crate) fn date(at: Timestamp) -> String {
    /// Last second of the year 9999, which is as far as dates go.
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at.0.min(LAST)))
}

/// An address that fits on a phone: `0x1234…abcd`.
pub(crate) fn short(address: Address) -> String {
    let text = address.to_string();
    format!("{}…{}", &text[..6], &text[38..])
}

/// A hash that fits on a phone.
pub(crate) fn short_hash(hash: B256) -> String {
    let text = hash.to_string();
    format!("{}…{}", &text[..6], &text[62..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ether_is_readable_and_never_overstated() {
        let ether = Asset::ether();
        for (wei, shown) in [
            (0, "0 ETH"),
            (1, "1 wei"),
            (999_999_999, "999,999,999 wei"),
            (1_500_000_000, "1.5 gwei"),
            (9_999_999_999_999, "9,999.999999 gwei"),
            (100_000_000_000_000, "0.0001 ETH"),
            (100_000_000_999_999, "0.0001 ETH"),
            (123_456_789_012_345_678, "0.123456 ETH"),
            (1_999_999_999_999_999_999, "1.999999 ETH"),
            (1_234_567 * 10u128.pow(18), "1,234,567 ETH"),
        ] {
            assert_eq!(ether.show(Amount(wei)), shown);
        }
        assert_eq!(
            ether.exact(Amount(1_000_000_000_000_000_001)),
            "1.000000000000000001 ETH"
        );
        assert_eq!(ether.show(Amount::MAX), "340,282,366,920,938,463,463.374607 ETH");
    }

    #[test]
    fn tokens_are_shown_as_they_describe_themselves() {
        let token = |decimals| Asset {
            address: Address::repeat_byte(1),
            symbol: "USDC".into(),
            decimals,
        };
        assert_eq!(token(6).show(Amount(1_234_560_000)), "1,234.56 USDC");
        assert_eq!(token(6).show(Amount(1)), "0.000001 USDC");
        assert_eq!(token(0).show(Amount(12)), "12 USDC");
        assert_eq!(
            token(36).exact(Amount::MAX),
            "340.282366920938463463374607431768211455 USDC"
        );
    }

    #[test]
    fn a_token_that_describes_itself_badly_is_shown_in_atomic_units_and_short() {
        let token = |symbol: &str, decimals| Asset {
            address: Address::repeat_byte(1),
            symbol: symbol.into(),
            decimals,
        };
        assert_eq!(token("BAD", 255).show(Amount(1_234)), "1,234 atomic BAD");
        assert_eq!(token("A\u{202e}B\nC", 0).show(Amount(1)), "1 ABC");
        assert_eq!(token("éééééééééééééé", 0).show(Amount(1)), "1 ééééééééééé…");
    }

    #[test]
    fn numbers_and_spans_fit_their_size() {
        assert_eq!(
            [0.0, 1.25, 12.34, 123.4, -1_234.5].map(number),
            ["0", "1.25", "12.3", "123", "−1,235"]
        );
        assert_eq!(
            [0, 59, 60, 3_725, 90_000].map(|s| span(Seconds(s))),
            ["0 s", "59 s", "1 min", "1 h 2 min", "1 d 1 h"]
        );
        assert_eq!([0.000_1, 0.012_3, 2.0].map(seconds), ["100 µs", "12.3 ms", "2 s"]);
        assert_eq!([12, 1_234, 5_600_000].map(bytes), ["12 B", "1.23 kB", "5.6 MB"]);
        assert_eq!(date(Timestamp(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert!(date(Timestamp(u64::MAX)).contains("9999"));
    }
}
