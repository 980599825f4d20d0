//! Answers that were paid for, kept a while for payers whose connection broke: the same payment for the same request gets
//! the same answer, and is charged once. Bounded in bytes and in time; of an answer too large to keep only the status is.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use axum::body::{Body, Bytes};
use http::{HeaderMap, Response, StatusCode};
use moka::sync::Cache;

/// Bounds of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Bytes of all answers together.
    pub total_bytes: u64,
    /// Largest answer that is kept whole, bytes.
    pub answer_bytes: usize,
    /// How long answers are kept.
    pub keep: Duration,
}

impl Default for AnswerLimits {
    fn default() -> Self {
        Self {
            total_bytes: 64 << 20,
            answer_bytes: 256 << 10,
            keep: Duration::from_secs(600),
        }
    }
}

/// An answer as it was given.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// `None`: too large to keep, or broken off.
    pub(super) body: Option<Bytes>,
}

/// Which call of a payer: its escrow and the call's name.
pub(super) type CallName = (Address, String);

/// A named call that was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamedCall {
    /// Digest of the ticket that paid.
    pub(super) ticket: B256,
    /// What was asked for.
    pub(super) fingerprint: B256,
}

pub(super) struct Answers {
    limits: AnswerLimits,
    by_ticket: Cache<B256, Arc<Answer>>,
    by_name: Cache<CallName, NamedCall>,
}

impl Answers {
    pub(super) fn new(limits: AnswerLimits) -> Self {
        let weigh = |_: &B256, answer: &Arc<Answer>| {
            let headers: usize = answer
                .headers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum();
            let bytes = 256 + headers + answer.body.as_ref().map_or(0, Bytes::len);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            limits,
            by_ticket: Cache::builder()
                .weigher(weigh)
                .max_capacity(limits.total_bytes)
                .time_to_live(limits.keep)
                .build(),
            // A name is about as heavy as the smallest answer.
            by_name: Cache::builder()
                .max_capacity(limits.total_bytes / 256)
                .time_to_live(limits.keep)
                .build(),
        }
    }

    pub(super) fn limits(&self) -> AnswerLimits {
        self.limits
    }

    pub(super) fn keep(&self, ticket: B256, answer: Answer) {
        self.by_ticket.insert(ticket, Arc::new(answer));
    }

    pub(super) fn name(&self, name: CallName, call: NamedCall) {
        self.by_name.insert(name, call);
    }

    pub(super) fn named(&self, name: &CallName) -> Option<NamedCall> {
        self.by_name.get(name)
    }

    pub(super) fn get(&self, ticket: B256) -> Option<Arc<Answer>> {
        self.by_ticket.get(&ticket)
    }
}

impl Answer {
    /// The answer again, if it was kept whole.
    pub(super) fn response(&self) -> Option<Response<Body>> {
        let mut response = Response::new(Body::from(self.body.clone()?));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        Some(response)
    }
}
