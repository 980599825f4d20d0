//! A body that is kept while it passes through. When the client goes away in the middle, a small answer is read to its end,
//! so that the client can ask again; a large one is broken off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use alloy_primitives::B256;
use axum::body::{Body, Bytes, HttpBody};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use super::answers::{Answer, Answers, KeptBody};

/// See the module.
pub(super) struct Tee {
    inner: Body,
    kept: Option<Kept>,
}

struct Kept {
    answers: Arc<Answers>,
    ticket: B256,
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
    /// Still small enough to keep whole.
    whole: bool,
    /// The call's place among those at the upstream.
    _place: OwnedSemaphorePermit,
}

impl Tee {
    pub(super) fn new(
        inner: Body,
        answers: Arc<Answers>,
        ticket: B256,
        status: StatusCode,
        headers: HeaderMap,
        place: OwnedSemaphorePermit,
    ) -> Self {
        // A large answer is known by its length, most of the time.
        let limit = answers.limits().answer_bytes as u64;
        let whole = inner.size_hint().lower() <= limit;
        // Known as paid before the body has passed.
        let passing = Answer {
            status,
            headers: headers.clone(),
            body: KeptBody::Passing,
        };
        answers.keep(ticket, passing);
        Self {
            inner,
            kept: Some(Kept {
                answers,
                ticket,
                status,
                headers,
                bytes: Vec::new(),
                whole,
                _place: place,
            }),
        }
    }

    fn finish(&mut self, complete: bool) {
        if let Some(kept) = self.kept.take() {
            kept.finish(complete);
        }
    }
}

impl Kept {
    fn take(&mut self, data: &Bytes) {
        if self.whole && self.bytes.len() + data.len() <= self.answers.limits().answer_bytes {
            self.bytes.extend_from_slice(data);
        } else {
            self.whole = false;
            self.bytes = Vec::new();
        }
    }

    fn finish(self, complete: bool) {
        let body = if self.whole && complete {
            KeptBody::Whole(self.bytes.into())
        } else {
            KeptBody::Gone
        };
        let (status, headers) = (self.status, self.headers);
        self.answers.keep(
            self.ticket,
            Answer {
                status,
                headers,
                body,
            },
        );
    }
}

/// Reads while it is worth it; true at the end of the body.
async fn read_on(inner: &mut Body, kept: &mut Kept) -> bool {
    while kept.whole {
        match inner.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    kept.take(data);
                }
            }
            end => return end.is_none(),
        }
    }
    false
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(kept), Some(data)) = (&mut self.kept, frame.data_ref()) {
                    kept.take(data);
                }
                // Hyper may never ask for the end of a body whose length it knows.
                if self.inner.is_end_stream() {
                    self.finish(true);
                }
            }
            Some(Err(_)) => self.finish(false),
            None => self.finish(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let Some(mut kept) = self.kept.take() else { return };
        if self.inner.is_end_stream() {
            return kept.finish(true); // an empty body is never polled
        }
        if !kept.whole {
            return kept.finish(false);
        }
        let mut inner = std::mem::take(&mut self.inner);
        // Outside a runtime there is nobody left to ask again.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let limit = kept.answers.limits().keep;
                let read = tokio::time::timeout(limit, read_on(&mut inner, &mut kept));
                let complete = read.await.unwrap_or(false);
                kept.finish(complete);
            });
        }
    }
}
