//! Refusals that teach (RFC 9457): the rule, both values, and what to do next.

use protocol::channel;
use protocol::ticket::{Refusal, Retry};
use serde::{Deserialize, Serialize};

use super::Position;

/// Where the problem types are described.
const TYPES: &str = "https://micropay.dev/problems/";

/// What can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// The same request with the same payment, later.
    Retry,
    /// A new payment for the terms that come with this answer.
    NewNonce,
    /// More balance, cap, penalty or length; then the same again.
    TopUp,
    /// The same payment, with a checkpoint at what was revealed.
    Checkpoint,
    /// Nothing, with this escrow, this channel or this request.
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
    /// Where the vendor of the channel stands, if that is why: its client goes on from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
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
            position: None,
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

impl Problem {
    /// The vendor of a channel refuses a payment.
    pub fn refused_channel(refusal: &channel::Refusal) -> Self {
        use channel::Refusal::{AlreadyDelivered, Busy, IndexBackwards, WrongItem};
        let status = match refusal {
            // The same payment with another request, or one that has to wait its turn.
            AlreadyDelivered { .. } | WrongItem { .. } | Busy { .. } => 409,
            _ => 402,
        };
        let advice = match (refusal, refusal.retry()) {
            // A client hashes the same request to the same item again: something on the way changed it.
            (WrongItem { .. }, _) | (_, channel::Retry::Delivered | channel::Retry::Never) => Advice::Stop,
            (_, channel::Retry::NewPayment) => Advice::NewNonce,
            (_, channel::Retry::Later) => Advice::Retry,
            (_, channel::Retry::TopUp) => Advice::TopUp,
            (_, channel::Retry::Checkpoint) => Advice::Checkpoint,
        };
        let position = match refusal {
            AlreadyDelivered { index, tag } => Some((index, tag)),
            IndexBackwards { delivered, tag, .. } => Some((delivered, tag)),
            _ => None,
        };
        Self {
            position: position.map(|(index, tag)| Position {
                index: index.0,
                tag: tag.0,
            }),
            ..Self::new(status, refusal.rule(), advice, refusal.to_string())
        }
    }

    /// With where the vendor stands.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
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
            // No ticket has one.
            Advice::Checkpoint | Advice::Stop => Self::Never,
        }
    }
}
