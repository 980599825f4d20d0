//! How long a request took and how many bytes passed, counted when the last of it is gone. What may not pass as a header
//! does not pass as a trailer either.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use super::operator::Counters;
use super::reply::strip_trailers;

/// One request; reports when nobody holds it any more.
pub(super) struct Meter {
    counters: Arc<Counters>,
    begun: Instant,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A body whose bytes are counted.
struct Metered {
    inner: Body,
    meter: Arc<Meter>,
    count: fn(&Meter) -> &AtomicU64,
}

impl Meter {
    pub(super) fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            counters,
            begun: Instant::now(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        })
    }

    /// The request's body.
    pub(super) fn received(self: &Arc<Self>, inner: Body) -> Body {
        self.metered(inner, |meter| &meter.received)
    }

    /// The answer's body.
    pub(super) fn sent(self: &Arc<Self>, inner: Body) -> Body {
        self.metered(inner, |meter| &meter.sent)
    }

    fn metered(self: &Arc<Self>, inner: Body, count: fn(&Self) -> &AtomicU64) -> Body {
        if inner.is_end_stream() {
            return inner; // nothing to count
        }
        let meter = Arc::clone(self);
        Body::new(Metered { inner, meter, count })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let (received, sent) = (*self.received.get_mut(), *self.sent.get_mut());
        self.counters.finished(self.begun.elapsed(), received, sent);
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                (self.count)(&self.meter).fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            if let Some(trailers) = frame.trailers_mut() {
                strip_trailers(trailers);
            }
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
