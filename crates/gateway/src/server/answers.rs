//! Answers that were paid for, kept a while for payers whose connection broke: the same payment for the same request gets
//! the same answer, and is charged once. Bounded in bytes and in time; of an answer too large to keep only the status is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use alloy_primitives::map::FbBuildHasher;
use alloy_primitives::{Address, B256};
use axum::body::{Body, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// What an answer takes besides its head and body, and what a name takes: about, bytes.
const ENTRY_BYTES: u32 = 256;

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
    head: Head,
    /// `None`: too large to keep, or broken off.
    body: OnceLock<Option<Bytes>>,
}

/// Headers in a piece of memory of their own. A copy of the map would hold on to the buffer that they were read into, which
/// is several times as large.
#[derive(Debug)]
struct Head {
    /// Names, each with the end of its value.
    names: Box<[(HeaderName, usize)]>,
    values: Bytes,
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
    by_ticket: Mutex<Shelf<B256, Arc<Answer>, FbBuildHasher<32>>>,
    by_name: Mutex<Shelf<CallName, NamedCall, RandomState>>,
    /// Named calls that are at the upstream.
    begun: Mutex<HashSet<CallName>>,
}

/// Values that are kept for the same time each, as long as all together are not too heavy. The eldest goes first: by any
/// other order a payer that asks for its answers often could keep others' out.
struct Shelf<K, V, H> {
    keep: Duration,
    most: u64,
    weight: u64,
    values: HashMap<K, (Instant, V), H>,
    /// In the order in which they came.
    lines: VecDeque<Line<K>>,
}

/// When a value came, and how heavy it is.
struct Line<K> {
    key: K,
    since: Instant,
    weight: u32,
}

/// A named call that is at the upstream: until this is dropped no other has its name.
pub(super) struct Begun {
    answers: Arc<Answers>,
    name: CallName,
}

impl Answers {
    pub(super) fn new(limits: AnswerLimits) -> Self {
        Self {
            limits,
            by_ticket: Mutex::new(Shelf::new(limits)),
            by_name: Mutex::new(Shelf::new(limits)),
            begun: Mutex::default(),
        }
    }

    /// Keeps an answer whose body is about to pass. It has `length` bytes, as far as that is known.
    pub(super) fn keep(
        &self,
        ticket: B256,
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
    ) -> Arc<Answer> {
        let limit = self.limits.answer_bytes as u64;
        // Beyond the limit nothing but the head is kept.
        let body = length.map_or(limit, |length| if length > limit { 0 } else { length });
        let head = Head::of(headers);
        let weight = u64::from(ENTRY_BYTES) + head.bytes() as u64 + body;
        let answer = Arc::new(Answer {
            status,
            head,
            body: OnceLock::new(),
        });
        self.by_ticket.lock().put(
            ticket,
            Arc::clone(&answer),
            u32::try_from(weight).unwrap_or(u32::MAX),
            Instant::now(),
        );
        answer
    }

    /// Begins a named call; `None` while another with its name is at the upstream.
    pub(super) fn begin(self: &Arc<Self>, name: CallName) -> Option<Begun> {
        let answers = Arc::clone(self);
        let new = self.begun.lock().insert(name);
        new.then_some(Begun { answers, name })
    }

    pub(super) fn named(&self, name: CallName) -> Option<NamedCall> {
        self.by_name.lock().get(&name, Instant::now())
    }

    pub(super) fn get(&self, ticket: B256) -> Option<Arc<Answer>> {
        self.by_ticket.lock().get(&ticket, Instant::now())
    }
}

impl Begun {
    pub(super) fn name(&self) -> CallName {
        self.name
    }

    /// It was paid for.
    pub(super) fn paid(self, call: NamedCall) {
        let mut named = self.answers.by_name.lock();
        named.put(self.name, call, ENTRY_BYTES, Instant::now());
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
                *response.headers_mut() = self.head.map();
                Again::Whole(response)
            }
            Some(None) => Again::Gone(self.status),
            None => Again::Passing,
        }
    }
}

impl Head {
    fn of(headers: &HeaderMap) -> Self {
        let mut values = Vec::with_capacity(headers.values().map(HeaderValue::len).sum());
        let names = headers.iter().map(|(name, value)| {
            values.extend_from_slice(value.as_bytes());
            (name.clone(), values.len())
        });
        Self {
            names: names.collect(),
            values: values.into(),
        }
    }

    fn bytes(&self) -> usize {
        let names = self.names.iter().map(|(name, _)| name.as_str().len());
        names.sum::<usize>() + self.values.len()
    }

    fn map(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.names.len());
        let mut begin = 0;
        for (name, end) in &self.names {
            let value = HeaderValue::from_maybe_shared(self.values.slice(begin..*end));
            headers.append(name, value.expect("it was a header's value"));
            begin = *end;
        }
        headers
    }
}

impl<K: Copy + Eq + Hash, V: Clone, H: BuildHasher + Default> Shelf<K, V, H> {
    fn new(limits: AnswerLimits) -> Self {
        Self {
            keep: limits.keep,
            most: limits.total_bytes,
            weight: 0,
            values: HashMap::default(),
            lines: VecDeque::new(),
        }
    }

    fn get(&self, key: &K, now: Instant) -> Option<V> {
        let (since, value) = self.values.get(key)?;
        self.is_kept(*since, now).then(|| value.clone())
    }

    fn put(&mut self, key: K, value: V, weight: u32, now: Instant) {
        self.values.insert(key, (now, value));
        self.lines.push_back(Line {
            key,
            since: now,
            weight,
        });
        self.weight += u64::from(weight);
        while let Some(eldest) = self.lines.front()
            && (self.weight > self.most || !self.is_kept(eldest.since, now))
        {
            self.weight -= u64::from(eldest.weight);
            // Another value may have taken its place.
            if self
                .values
                .get(&eldest.key)
                .is_some_and(|(since, _)| *since == eldest.since)
            {
                self.values.remove(&eldest.key);
            }
            self.lines.pop_front();
        }
    }

    fn is_kept(&self, since: Instant, now: Instant) -> bool {
        now.duration_since(since) < self.keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(most: u64) -> Shelf<u8, &'static str, RandomState> {
        Shelf::new(AnswerLimits {
            total_bytes: most,
            keep: Duration::from_secs(10),
            ..AnswerLimits::default()
        })
    }

    #[test]
    fn the_eldest_makes_room_however_often_it_is_asked_for() {
        let (mut shelf, now) = (shelf(100), Instant::now());
        for key in 0..4 {
            shelf.put(key, "kept", 30, now);
            assert_eq!(shelf.get(&0, now).is_some(), key < 3);
        }
        assert_eq!((shelf.get(&1, now), shelf.weight), (Some("kept"), 90));
        shelf.put(9, "too heavy", 101, now);
        assert_eq!((shelf.values.len(), shelf.lines.len(), shelf.weight), (0, 0, 0));
    }

    #[test]
    fn nothing_is_kept_for_longer_than_the_rest() {
        let (mut shelf, begun) = (shelf(100), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        shelf.put(1, "first", 30, at(0));
        shelf.put(2, "second", 30, at(5));
        assert_eq!(
            (shelf.get(&1, at(9)), shelf.get(&1, at(10))),
            (Some("first"), None)
        );
        // Put again, it counts from then.
        shelf.put(2, "again", 30, at(11));
        assert_eq!((shelf.values.len(), shelf.weight), (1, 60));
        assert_eq!(shelf.get(&2, at(20)), Some("again"));
        shelf.put(3, "third", 30, at(16));
        assert_eq!((shelf.get(&2, at(16)), shelf.weight), (Some("again"), 60));
    }

    #[test]
    fn headers_come_back_as_they_were() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "a"),
            ("x-own", ""),
            ("set-cookie", "b"),
            ("date", "now"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.append("x-bytes", HeaderValue::from_bytes(b"\xff").unwrap());
        let head = Head::of(&headers);
        assert_eq!(head.map(), headers);
        assert_eq!(head.bytes(), 2 * 10 + 5 + 4 + 7 + 1 + 1 + 3 + 1);
    }
}
