//! What a command says: one JSON value for programs (`--json`), or text for people. Standard output has nothing else;
//! progress and logs go to standard error.

use std::fmt::Display;
use std::io::{self, Write};

use protocol::ticket::Timestamp;
use serde::Serialize;

/// Where answers go and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON value instead of text.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a command's answer: `value` as JSON, or `text`.
    pub(crate) fn answer(self, value: &impl Serialize, text: impl Display) -> eyre::Result<()> {
        let line = if self.json {
            serde_json::to_string(value)?
        } else {
            plain(&text.to_string())
        };
        print(format!("{line}\n").as_bytes())
    }
}

/// Text as a terminal may show it: whoever sent a part of it must neither move the cursor nor turn letters around. New lines and tabs stay.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\n' | '\t') || is_plain(letter) {
            plain.push(letter);
        } else {
            plain.extend(letter.escape_unicode());
        }
    }
    plain
}

/// Neither a control character nor one that changes the direction of others, or shows nothing.
pub(crate) fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Writes to standard output. That nobody reads it any more (`| head`) is no error.
pub(crate) fn print(bytes: &[u8]) -> eyre::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// A table of two columns, the left one padded.
pub(crate) fn rows(rows: &[(&str, String)]) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:<width$}  {value}");
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `1 winner`, `2 winners`.
pub(crate) fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// A time as people read it, in UTC.
pub(crate) fn date(at: Timestamp) -> String {
    let (days, second) = (at.0 / 86_400, at.0 % 86_400);
    // Days to a date, after Howard Hinnant: years start in March, so that leap days come last; an era has 400 years.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (year, day) = (era * 400 + year + month / 10, day - (153 * month + 2) / 5 + 1);
    let month = (month + 2) % 12 + 1;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A span of time as people say it, to its two largest units.
pub(crate) fn span(seconds: u64) -> String {
    match (
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    ) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// Wei as ether with its unit, exact.
pub(crate) fn ether(wei: impl Into<alloy::primitives::U256>) -> String {
    let text = alloy::primitives::utils::format_ether(wei.into());
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    format!("{} ETH", if trimmed.is_empty() { "0" } else { trimmed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_text_from_elsewhere_moves_no_cursor() {
        assert_eq!(
            plain("gr\u{fc}n\n\u{1b}[2J\r\u{9b}K\u{202e}"),
            "gr\u{fc}n\n\\u{1b}[2J\\u{d}\\u{9b}K\\u{202e}"
        );
    }

    #[test]
    fn times_are_written_for_people() {
        for (at, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (1_893_456_001, "2030-01-01 00:00:01 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(Timestamp(at)), text);
        }
        assert_eq!(
            [span(59), span(61), span(3_660), span(259_200)],
            ["59 s", "1 min 1 s", "1 h 1 min", "3 d 0 h"]
        );
        assert_eq!(
            [count(1u32, "winner"), count(0u32, "winner")],
            ["1 winner", "0 winners"]
        );
    }
}
