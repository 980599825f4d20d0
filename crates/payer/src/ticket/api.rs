//! What a payer asks of a merchant, whatever the transport. It lives with its caller; transports implement it, so that
//! payer code is the same over every wire.

use alloy_primitives::Address;
use protocol::ticket::{Issued, OrderId, Quote, Retry, Ticket};

/// A merchant as its payers see it.
pub trait MerchantApi: Send + Sync {
    /// What is asked for: a piece, a path, a query.
    type Item: Send + Sync;
    /// What is delivered.
    type Good: Send;

    /// Terms for tickets of this escrow (section 2.1, "Payment Request").
    fn quote(&self, escrow: Address) -> impl Future<Output = Result<Quote, ApiError>> + Send;

    /// Sends a ticket and waits for the good (section 2.1, "Payment Issuance"). The merchant answers the same ticket for
    /// the same order with the same good.
    fn buy(
        &self,
        order: OrderId,
        item: &Self::Item,
        ticket: &Ticket<Issued>,
    ) -> impl Future<Output = Result<Answer<Self::Good>, ApiError>> + Send;
}

/// A merchant's answer to a ticket. Each may bring the quote for the next ticket.
#[derive(Clone, Debug)]
pub enum Answer<G> {
    /// The ticket was accepted; here is the good.
    Delivered {
        /// What was bought.
        good: G,
        /// Terms of the next ticket.
        quote: Option<Quote>,
    },
    /// The ticket was refused and is not consumed.
    Refused {
        /// Stable name of the rule.
        rule: String,
        /// The refusal in words, with both values.
        message: String,
        /// What can help.
        retry: Retry,
        /// Terms of the next ticket.
        quote: Option<Quote>,
    },
    /// The ticket was accepted before, and this request gets nothing for it: its good is no longer kept, or it went to
    /// another request. A second ticket would be a second payment.
    Taken {
        /// Stable name of the rule.
        rule: String,
        /// What happened, in words.
        message: String,
    },
}

/// Why no answer came. The ticket may or may not have been accepted: only the same ticket may be sent again.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The merchant cannot be reached, or the connection broke.
    #[error("no answer from the merchant: {0}")]
    Transport(String),
    /// The merchant's answer makes no sense.
    #[error("the merchant's answer cannot be read: {0}")]
    Malformed(String),
    /// The good came and could not be kept. The ticket is accepted: the same one brings the good again.
    #[error("the good could not be kept: {0}")]
    NotKept(String),
    /// The merchant gives this escrow no terms.
    #[error("the merchant refuses ({rule}): {message}")]
    Refused {
        /// Stable name of the rule.
        rule: String,
        /// The refusal in words.
        message: String,
        /// What can help.
        retry: Retry,
    },
}

impl ApiError {
    /// Whether asking again can help.
    pub fn retry(&self) -> bool {
        match self {
            Self::Transport(_) | Self::NotKept(_) => true,
            Self::Malformed(_) => false,
            Self::Refused { retry, .. } => *retry == Retry::Later,
        }
    }
}
