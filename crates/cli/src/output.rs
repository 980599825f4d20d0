//! What a command says: one JSON value for programs (`--json`), or text for people. Standard output has nothing else;
//! progress and logs go to standard error.

use std::fmt::Display;
use std::io::{self, Write};

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
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, value)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{text}")?;
        }
        Ok(out.flush()?)
    }
}

/// A table of two columns, the left one padded.
pub(crate) fn rows(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:<width$}  {value}");
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Wei as ether with its unit, exact.
pub(crate) fn ether(wei: impl Into<alloy::primitives::U256>) -> String {
    let text = alloy::primitives::utils::format_ether(wei.into());
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    format!("{} ETH", if trimmed.is_empty() { "0" } else { trimmed })
}
