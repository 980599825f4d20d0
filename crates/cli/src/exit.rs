//! Exit codes, so that a script knows what to do next.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use carry::CarryError;
use chain::ChainError;
use gateway::client::ClientError;
use merchant::channel::{CloseStepError, WatchError};
use merchant::follow::FollowError;
use merchant::ticket::{ClaimStepError, StartError};
use payer::channel::{self, OpenError, RecoverError};
use payer::ticket::{ApiError, EscrowError, PayError};
use protocol::offline::{PayError as OfflinePayError, Refusal};
use serde_json::json;
use services::CallError;
use services::bank::client::ClientError as BankError;
use services::registrar::client::ClientError as RegistrarClientError;
use storage::StoreError;
use trusted::TrustedError;
use wallet::{DeviceError, OnlineError};

use crate::output::{Output, plain};

/// Part of `--help`.
pub(crate) const HELP: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused by the contract, a merchant or a \
limit (the message has both values); 4 node, merchant or store not available: try again.";

/// Something failed for good.
pub(crate) const FAILED: u8 = 1;
/// The command line, the configuration or an amount makes no sense.
const USAGE: u8 = 2;
/// Refused by a rule.
const REFUSED: u8 = 3;
/// Trying again can help.
const RETRY: u8 = 4;

/// What this program itself finds wrong, by its exit code.
#[derive(Debug)]
enum Fault {
    Usage(String),
    Refused(String),
    Again(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Refused(message) | Self::Again(message) => f.write_str(message),
        }
    }
}

impl Error for Fault {}

/// What was asked for makes no sense.
pub(crate) fn usage(message: impl Into<String>) -> eyre::Report {
    Fault::Usage(message.into()).into()
}

/// What was asked for is not possible now, as the contract would say, too.
pub(crate) fn refused(message: impl Into<String>) -> eyre::Report {
    Fault::Refused(message.into()).into()
}

/// What was asked for is not to be had now; the same again can help.
pub(crate) fn again(message: impl Into<String>) -> eyre::Report {
    Fault::Again(message.into()).into()
}

/// Prints an error to standard error (as JSON where asked) and gives its exit code.
pub(crate) fn report(error: &eyre::Report, out: Output) -> ExitCode {
    say(&words(error), code(error), out)
}

/// The error with its causes, each said once: many say their cause themselves.
fn words(error: &eyre::Report) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let more = cause.to_string();
        if text.ends_with(&more) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&more);
    }
    text
}

/// The same for a command line that cannot be read; only asked for where the answer is to be JSON.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    say(error.to_string().trim(), USAGE, Output { json: true })
}

/// What the status of an HTTP answer says.
pub(crate) fn of_status(status: u16) -> ExitCode {
    match status {
        402 => REFUSED.into(),
        429 | 500.. => RETRY.into(),
        400.. => FAILED.into(),
        _ => ExitCode::SUCCESS,
    }
}

fn say(text: &str, code: u8, out: Output) -> ExitCode {
    let line = if out.json {
        json!({ "error": text, "code": code }).to_string()
    } else {
        format!("micropay: {}", plain(text))
    };
    // Nothing can be done if even that fails.
    let _ = writeln!(std::io::stderr(), "{line}");
    code.into()
}

fn code(error: &eyre::Report) -> u8 {
    error.chain().find_map(known).unwrap_or(FAILED)
}

/// The code of an error that says by its type what helps. Transparent errors hide what they hold from the chain of causes,
/// so each of them is looked into.
fn known(cause: &(dyn Error + 'static)) -> Option<u8> {
    if let Some(fault) = cause.downcast_ref() {
        return Some(match fault {
            Fault::Usage(_) => USAGE,
            Fault::Refused(_) => REFUSED,
            Fault::Again(_) => RETRY,
        });
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(chain(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(store(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(api(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            EscrowError::Chain(error) => chain(error),
            EscrowError::DepositTooLarge { .. } => REFUSED,
        });
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(pay(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            ClientError::Pay { cause, .. } => pay(cause),
            ClientError::PayChannel { cause, .. } => pay_channel(cause),
            ClientError::Store { cause, .. } => store(cause),
            ClientError::NoAnswer { .. } | ClientError::BodySpent { .. } => RETRY,
            ClientError::NoCommonWay { .. }
            | ClientError::Terms { .. }
            | ClientError::PlainHttp { .. }
            | ClientError::OtherOrigin { .. }
            | ClientError::NoChannel { .. }
            | ClientError::KindGone { .. } => REFUSED,
            ClientError::Unreadable { .. } | ClientError::TooManyRedirects { .. } => FAILED,
        });
    }
    if let Some(code) = of_channel(cause).or_else(|| of_offline(cause)) {
        return Some(code);
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            ClaimStepError::Chain(error) => chain(error),
            ClaimStepError::Store(error) => store(error),
            ClaimStepError::Claim(_) | ClaimStepError::NoOutcome { .. } => FAILED,
        });
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            FollowError::Chain(error) => chain(error),
            FollowError::Store(error) => store(error),
        });
    }
    Some(match cause.downcast_ref()? {
        StartError::Policy(_) => USAGE,
        StartError::Store(error) => store(error),
    })
}

/// The same for the steps of a channel.
fn of_channel(cause: &(dyn Error + 'static)) -> Option<u8> {
    if let Some(error) = cause.downcast_ref() {
        return Some(open(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            channel::CloseError::Step(error) => open(error),
            channel::CloseError::Api(error) => api(error),
            channel::CloseError::Signature(_) | channel::CloseError::WrongSigner { .. } => FAILED,
            channel::CloseError::WrongKey { .. } => USAGE,
        });
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            RecoverError::Api(error) => api(error),
            RecoverError::Store(error) => store(error),
            RecoverError::Scheme(_) | RecoverError::Chain(_) | RecoverError::SaltUnknown { .. } => REFUSED,
        });
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            CloseStepError::Chain(error) => chain(error),
            CloseStepError::Store(error) => store(error),
            error if error.retry() => RETRY,
            _ => FAILED,
        });
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            _ if BankError::retry(error) => RETRY,
            BankError::Call(CallError::Refused(_)) => REFUSED,
            BankError::Call(CallError::BadAddress(_)) => USAGE,
            _ => FAILED,
        });
    }
    Some(match cause.downcast_ref()? {
        WatchError::Chain(error) => chain(error),
        WatchError::OtherContract { .. } => USAGE,
        WatchError::UnknownChannel { .. } => REFUSED,
    })
}

/// The same for the steps of an offline wallet.
fn of_offline(cause: &(dyn Error + 'static)) -> Option<u8> {
    if let Some(error) = cause.downcast_ref() {
        return Some(device(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(component(error));
    }
    if cause.is::<Refusal>() || cause.is::<OfflinePayError>() {
        return Some(REFUSED);
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            OnlineError::Chain(error) => chain(error),
            _ => FAILED,
        });
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(match error {
            _ if RegistrarClientError::retry(error) => RETRY,
            RegistrarClientError::Call(CallError::Refused(_)) => REFUSED,
            RegistrarClientError::Call(CallError::BadAddress(_)) => USAGE,
            RegistrarClientError::Component(error) => component(error),
            _ => FAILED,
        });
    }
    Some(match cause.downcast_ref()? {
        CarryError::WrongType { .. } => USAGE,
        _ => FAILED,
    })
}

fn device(error: &DeviceError) -> u8 {
    match error {
        DeviceError::Store(error) => store(error),
        DeviceError::Component(error) => component(error),
        DeviceError::Pay(_)
        | DeviceError::Refused(_)
        | DeviceError::LogSetBack { .. }
        | DeviceError::SequenceSetBack { .. }
        | DeviceError::LogTooLong { .. }
        | DeviceError::PaymentTooLarge { .. }
        | DeviceError::UnderWay { .. }
        | DeviceError::NothingReserved { .. }
        | DeviceError::UnknownInvoice(_)
        | DeviceError::UnknownTransfer(_)
        | DeviceError::NotAnExit(_)
        | DeviceError::PaidAlready { .. } => REFUSED,
        _ => FAILED,
    }
}

fn component(error: &TrustedError) -> u8 {
    match error {
        // Another process has the wallet, or the TPM is not there now.
        TrustedError::InUse(_) | TrustedError::Transport { .. } => RETRY,
        _ => FAILED,
    }
}

fn open(error: &OpenError) -> u8 {
    match error {
        OpenError::Chain(error) => chain(error),
        OpenError::Store(error) => store(error),
        OpenError::UnknownChannel { .. } => FAILED,
        OpenError::WrongAccount { .. } => USAGE,
        OpenError::Scheme(_) | OpenError::Closed { .. } | OpenError::DepositTooLarge { .. } => REFUSED,
    }
}

fn chain(error: &ChainError) -> u8 {
    match error {
        _ if error.retry() => RETRY,
        ChainError::Reverted(_) => REFUSED,
        _ => FAILED,
    }
}

fn store(error: &StoreError) -> u8 {
    match error {
        StoreError::OverBudget { .. } | StoreError::PayRefused { .. } | StoreError::ChannelClosed { .. } => {
            REFUSED
        }
        _ if error.retry() => RETRY,
        _ => FAILED,
    }
}

fn pay(error: &PayError) -> u8 {
    match error {
        PayError::Limit(_)
        | PayError::Refused { .. }
        | PayError::DeliveredBefore { .. }
        | PayError::Taken { .. }
        | PayError::TooManyRefusals { .. } => REFUSED,
        PayError::NotNow { .. } => RETRY,
        PayError::Api(error) => api(error),
        PayError::Store(error) => store(error),
    }
}

fn pay_channel(error: &channel::PayError) -> u8 {
    use channel::PayError;
    match error {
        PayError::Api(error) => api(error),
        PayError::Store(error) => store(error),
        _ if error.retry() => RETRY,
        PayError::Limit(_)
        | PayError::Refused { .. }
        | PayError::DeliveredBefore { .. }
        | PayError::Taken { .. }
        | PayError::NotMine { .. }
        | PayError::TooManyRefusals { .. } => REFUSED,
        _ => FAILED,
    }
}

fn api(error: &ApiError) -> u8 {
    match error {
        _ if error.retry() => RETRY,
        ApiError::Refused { .. } => REFUSED,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = eyre::Report::new(StoreError::Database {
            doing: "creating the store",
            source: Arc::new(io::Error::other("no such folder")),
            transient: false,
        });
        assert_eq!(
            words(&error.wrap_err("store /there")),
            "store /there: creating the store: no such folder"
        );
    }
}
