//! Exit codes, so that a script knows what to do next.

use std::io::Write;
use std::process::ExitCode;

use chain::ChainError;
use payer::ticket::{EscrowError, PayError};
use serde_json::json;
use storage::StoreError;

use crate::output::Output;

/// Part of `--help`.
pub(crate) const HELP: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused by the contract, a merchant or a \
limit (the message has both values); 4 node, merchant or store not available: try again.";

/// Something failed for good.
pub(crate) const FAILED: u8 = 1;
/// Refused by a rule.
pub(crate) const REFUSED: u8 = 3;
/// Trying again can help.
pub(crate) const RETRY: u8 = 4;

/// Prints an error to standard error (as JSON where asked) and gives its exit code.
pub(crate) fn report(error: &eyre::Report, out: Output) -> ExitCode {
    let code = code(error);
    let text = format!("{error:#}");
    let line = if out.json { json!({ "error": text, "code": code }).to_string() } else { format!("micropay: {text}") };
    // Nothing can be done if even that fails.
    let _ = writeln!(std::io::stderr(), "{line}");
    code.into()
}

fn code(error: &eyre::Report) -> u8 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<ChainError>() {
            return match error {
                _ if error.retry() => RETRY,
                ChainError::Reverted(_) => REFUSED,
                _ => FAILED,
            };
        }
        if let Some(error) = cause.downcast_ref::<EscrowError>()
            && let EscrowError::Chain(error) = error
        {
            return match error {
                _ if error.retry() => RETRY,
                ChainError::Reverted(_) => REFUSED,
                _ => FAILED,
            };
        }
        if let Some(error) = cause.downcast_ref::<PayError>() {
            return if error.retry() { RETRY } else { REFUSED };
        }
        if let Some(error) = cause.downcast_ref::<StoreError>() {
            return if error.retry() { RETRY } else { FAILED };
        }
    }
    FAILED
}
