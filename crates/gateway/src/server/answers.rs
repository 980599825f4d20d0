//! Answers that were paid for, kept a while for payers whose connection broke: the same payment for the same request gets
//! the same answer, and is charged once. Bounded in bytes and in time; of an answer too large to keep only the status is.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alloy_primitives::map::FbBuildHasher;
use alloy_primitives::{Address, B256};
use axum::body::{Body, Bytes};
use http::{HeaderMap, Response, StatusCode};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

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

/// An answer as it was given. Its body is known when it has passed.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// `None`: too large to keep, or broken off.
    body: OnceLock<Option<Bytes>>,
    /// Bytes that it may take at most.
    weight: u32,
}

/// What a payer gets who asks again.
pub(super) enum Again {
    /// The answer.
    Whole(Response<Body>),
    /// It is on its way to somebody.
    Passing,
    /// It had this status, and its body was not kept.
    Gone(StatusCode),
}

/// Which call of a payer: a hash of its escrow and the call's name, which may be of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallName(B256);

impl CallName {
    pub(super) fn new(escrow: Address, name: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(escrow).chain_update(name);
        Self(B256::from_slice(&hash.finalize()))
    }
}

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
    by_ticket: Cache<B256, Arc<Answer>, FbBuildHasher<32>>,
    by_name: Cache<CallName, NamedCall>,
    /// Named calls that are at the upstream.
    begun: Mutex<HashSet<CallName>>,
}

/// A named call that is at the upstream: until this is dropped no other has its name.
pub(super) struct Begun {
    answers: Arc<Answers>,
    name: CallName,
}

impl Answers {
    pub(super) fn new(limits: AnswerLimits) -> Self {
        // The eldest goes first. By any other order a payer that asks for its answers often could keep others' out.
        Self {
            limits,
            by_ticket: Cache::builder()
                .weigher(|_: &B256, answer: &Arc<Answer>| answer.weight)
                .max_capacity(limits.total_bytes)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(limits.keep)
                .build_with_hasher(FbBuildHasher::default()),
            // A name is about as heavy as the smallest answer.
            by_name: Cache::builder()
                .max_capacity(limits.total_bytes / 256)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(limits.keep)
                .build(),
            begun: Mutex::default(),
        }
    }

    /// Keeps an answer whose body is about to pass. It has `length` bytes, as far as that is known.
    pub(super) fn keep(
        &self,
        ticket: B256,
        status: StatusCode,
        headers: HeaderMap,
        length: Option<u64>,
    ) -> Arc<Answer> {
        let limit = self.limits.answer_bytes as u64;
        // Beyond the limit nothing but the head is kept.
        let body = length.map_or(limit, |length| if length > limit { 0 } else { length });
        let head: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let answer = Arc::new(Answer {
            status,
            headers,
            body: OnceLock::new(),
            weight: u32::try_from(256 + head as u64 + body).unwrap_or(u32::MAX),
        });
        self.by_ticket.insert(ticket, Arc::clone(&answer));
        answer
    }

    /// Begins a named call; `None` while another with its name is at the upstream.
    pub(super) fn begin(self: &Arc<Self>, name: CallName) -> Option<Begun> {
        let answers = Arc::clone(self);
        let new = self.begun.lock().insert(name);
        new.then_some(Begun { answers, name })
    }

    pub(super) fn named(&self, name: CallName) -> Option<NamedCall> {
        self.by_name.get(&name)
    }

    pub(super) fn get(&self, ticket: B256) -> Option<Arc<Answer>> {
        self.by_ticket.get(&ticket)
    }
}

impl Begun {
    pub(super) fn name(&self) -> CallName {
        self.name
    }

    /// It was paid for.
    pub(super) fn paid(self, call: NamedCall) {
        self.answers.by_name.insert(self.name, call);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.answers.begun.lock().remove(&self.name);
    }
}

impl Answer {
    /// The body has passed, whole, or is not kept. What was said first stays.
    pub(super) fn finish(&self, body: Option<Bytes>) {
        let _ = self.body.set(body);
    }

    /// The answer again.
    pub(super) fn again(&self) -> Again {
        match self.body.get() {
            Some(Some(body)) => {
                let mut response = Response::new(Body::from(body.clone()));
                *response.status_mut() = self.status;
                *response.headers_mut() = self.headers.clone();
                Again::Whole(response)
            }
            Some(None) => Again::Gone(self.status),
            None => Again::Passing,
        }
    }
}
