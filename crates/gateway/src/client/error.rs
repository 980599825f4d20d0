//! Why a call was not made or not paid for. Inside a [`reqwest_middleware::Error::Middleware`]; [`ClientError::of`] finds it.

use alloy_primitives::Address;
use payer::{channel, ticket::PayError};
use storage::StoreError;

use crate::wire::{TermsError, WireError};

/// Why a call was not made or not paid for. Nothing was signed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server sells, but takes none of my payments.
    #[error("{origin} takes {offered}, I pay with {mine}")]
    NoCommonWay {
        /// Who was asked.
        origin: String,
        /// Ways to pay it takes: scheme and network of each.
        offered: String,
        /// The scheme and network of mine.
        mine: String,
    },
    /// The server's terms cannot be read.
    #[error("the terms of {origin} cannot be read: {cause}")]
    Unreadable {
        /// Who was asked.
        origin: String,
        /// Why.
        cause: WireError,
    },
    /// The server's terms are not for this escrow, contract or chain, or contradict themselves.
    #[error("the terms of {origin} are not acceptable: {cause}")]
    Terms {
        /// Who was asked.
        origin: String,
        /// Why.
        cause: TermsError,
    },
    /// The connection is not encrypted.
    #[error("{origin} wants a payment over plain HTTP, and payments go over HTTPS only, or to this machine")]
    PlainHttp {
        /// Who was asked.
        origin: String,
    },
    /// The request was redirected to another origin, which wants a payment.
    #[error("{from} redirects to {to}, which wants a payment that was not asked of it: call it yourself")]
    OtherOrigin {
        /// Who was asked.
        from: String,
        /// Where it led.
        to: String,
    },
    /// More redirects than are followed.
    #[error("more than {limit} redirects")]
    TooManyRedirects {
        /// Most that are followed.
        limit: usize,
    },
    /// The body is a stream, and it went out with a request that turned out to need a payment. The terms are known now: the
    /// same call again is paid at once.
    #[error(
        "{origin} wants a payment, and the request's body is a stream that cannot be sent twice: make the call again"
    )]
    BodySpent {
        /// Who was asked.
        origin: String,
    },
    /// A payment was sent, and no answer came, however often the same was asked. The call with this `Idempotency-Key` can be
    /// made again later, and is not paid again.
    #[error("no answer to a paid call (Idempotency-Key {key}): {cause}")]
    NoAnswer {
        /// The call's name.
        key: String,
        /// The last failure.
        cause: Box<reqwest_middleware::Error>,
    },
    /// The payer did not pay, or the merchant did not take it.
    #[error("{cause}")]
    Pay {
        /// The call's name: with this `Idempotency-Key`, the call goes on where it was.
        key: String,
        /// Why.
        cause: PayError,
    },
    /// The payer did not pay by channel, or the vendor did not take it.
    #[error("{cause}")]
    PayChannel {
        /// The call's name: with this `Idempotency-Key`, the call goes on where it was.
        key: String,
        /// Why.
        cause: Box<channel::PayError>,
    },
    /// The server takes channels, and none is open that could pay it.
    #[error("no channel is open to {vendor} that could pay {origin}")]
    NoChannel {
        /// Who was asked.
        origin: String,
        /// Who would be paid.
        vendor: Address,
    },
    /// The call was paid before in a way that the server does not take any more. In another way it would be paid twice.
    #[error("the call (Idempotency-Key {key}) was paid by {kind}, which {origin} does not take now")]
    KindGone {
        /// Who was asked.
        origin: String,
        /// The call's name.
        key: String,
        /// The way it was paid.
        kind: &'static str,
    },
    /// The payer's store does not say whether the call was paid before.
    #[error("the store does not answer: {cause}")]
    Store {
        /// The call's name.
        key: String,
        /// Why.
        cause: StoreError,
    },
}

impl ClientError {
    /// This crate's error in a middleware's.
    pub fn of(error: &reqwest_middleware::Error) -> Option<&Self> {
        match error {
            reqwest_middleware::Error::Middleware(error) => error.downcast_ref(),
            reqwest_middleware::Error::Reqwest(_) => None,
        }
    }

    /// Whether the same call, with the same `Idempotency-Key`, can succeed when made again.
    pub fn retry(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::BodySpent { .. } => true,
            Self::Pay { cause, .. } => cause.retry(),
            Self::PayChannel { cause, .. } => cause.retry(),
            Self::Store { cause, .. } => cause.retry(),
            _ => false,
        }
    }

    /// The name of the call, where a payment was begun: with this `Idempotency-Key` it goes on where it was.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::NoAnswer { key, .. }
            | Self::Pay { key, .. }
            | Self::PayChannel { key, .. }
            | Self::KindGone { key, .. }
            | Self::Store { key, .. } => Some(key),
            _ => None,
        }
    }
}

impl From<ClientError> for reqwest_middleware::Error {
    fn from(error: ClientError) -> Self {
        Self::middleware(error)
    }
}
