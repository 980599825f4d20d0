//! Refusals that teach (RFC 9457): the rule, both values, and what to do next.

use protocol::ticket::{Refusal, Retry};
use serde::{Deserialize, Serialize};

/// Where the problem types are described.
const TYPES: &str = "https://micropay.dev/problems/";

/// What can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// The same request with the same payment, later.
    Retry,
    /// A new ticket for the terms that come with this answer.
    NewNonce,
    /// More balance, cap or penalty; then the same again.
    TopUp,
    /// Nothing, with this escrow or this request.
    Stop,
}

/// An `application/problem+json` body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Address of the rule's description.
    pub r#type: String,
    /// The rule in a few words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, with both values.
    pub detail: String,
    /// Stable name of the rule.
    pub rule: String,
    /// What can help.
    pub retry: Advice,
}

impl Problem {
    /// A refusal by `rule`.
    pub fn new(status: u16, rule: &str, advice: Advice, detail: impl Into<String>) -> Self {
        let mut title = rule.replace('-', " ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self {
            r#type: format!("{TYPES}{rule}"),
            title,
            status,
            detail: detail.into(),
            rule: rule.to_owned(),
            retry: advice,
        }
    }

    /// The merchant refuses a ticket.
    pub fn refused(refusal: &Refusal) -> Self {
        let status = match refusal {
            // The same payment with another request.
            Refusal::NonceSeen { .. } => 409,
            Refusal::Signature(_) => 400,
            _ => 402,
        };
        Self::new(status, refusal.rule(), Advice::from(refusal), refusal.to_string())
    }
}

impl From<&Refusal> for Advice {
    fn from(refusal: &Refusal) -> Self {
        match (refusal, refusal.retry()) {
            (
                Refusal::NonceNotBelowCap { .. }
                | Refusal::PenaltyTooLow { .. }
                | Refusal::BalanceTooLow { .. },
                _,
            ) => Self::TopUp,
            (_, Retry::NewQuote) => Self::NewNonce,
            (_, Retry::Later) => Self::Retry,
            (_, Retry::Never) => Self::Stop,
        }
    }
}

impl From<Advice> for Retry {
    fn from(advice: Advice) -> Self {
        match advice {
            Advice::NewNonce => Self::NewQuote,
            Advice::Retry | Advice::TopUp => Self::Later,
            Advice::Stop => Self::Never,
        }
    }
}
