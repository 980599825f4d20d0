//! A body that is kept while it passes through. When the client goes away in the middle, a small answer is read to its end,
//! so that the client can ask again; a large one is broken off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use super::answers::{Answer, AnswerLimits};

/// See the module.
pub(super) struct Tee {
    inner: Body,
    kept: Option<Kept>,
}

struct Kept {
    answer: Arc<Answer>,
    limits: AnswerLimits,
    bytes: Vec<u8>,
    /// Still small enough to keep whole.
    whole: bool,
    /// The call's place among those at the upstream.
    _place: OwnedSemaphorePermit,
}

impl Tee {
    pub(super) fn new(
        inner: Body,
        answer: Arc<Answer>,
        limits: AnswerLimits,
        place: OwnedSemaphorePermit,
    ) -> Self {
        // A large answer is known by its length, most of the time.
        let length = inner.size_hint();
        let whole = length.lower() <= limits.answer_bytes as u64;
        let exact = length.exact().filter(|_| whole).unwrap_or_default();
        Self {
            inner,
            kept: Some(Kept {
                answer,
                limits,
                bytes: Vec::with_capacity(usize::try_from(exact).unwrap_or_default()),
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
        if self.whole && self.bytes.len() + data.len() <= self.limits.answer_bytes {
            self.bytes.extend_from_slice(data);
        } else {
            self.whole = false;
            self.bytes = Vec::new();
        }
    }

    fn finish(self, complete: bool) {
        let body = (self.whole && complete).then(|| Bytes::from(self.bytes));
        self.answer.finish(body);
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
                let limit = kept.limits.keep;
                let read = tokio::time::timeout(limit, read_on(&mut inner, &mut kept));
                let complete = read.await.unwrap_or(false);
                kept.finish(complete);
            });
        }
    }
}
