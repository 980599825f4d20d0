//! A request's body on its way to the upstream: what of it a payment is for, and whose fault it is when the way breaks.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError};
use sha2::{Digest, Sha256};

/// So much of a request's body is part of what a payment is for, and, where there is more, its length: the rest passes
/// through while it arrives.
const FINGERPRINT_BYTES: usize = 64 * 1024;

/// Why the beginning of a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// More than is taken.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It broke off, or is no body.
    Broken(String),
}

/// Adds a body to a fingerprint, and gives it back.
pub(super) async fn fingerprint(
    hash: &mut Sha256,
    mut body: Body,
    limit: Duration,
) -> Result<Body, BodyError> {
    let length = body.size_hint();
    let mut front = Vec::new();
    let read = async {
        while front.len() <= FINGERPRINT_BYTES {
            let Some(frame) = body.frame().await else {
                return Ok(true);
            };
            if let Some(data) = frame.map_err(|error| body_error(&error))?.data_ref() {
                front.extend_from_slice(data);
            }
        }
        Ok(false)
    };
    let whole = tokio::time::timeout(limit, read)
        .await
        .unwrap_or(Err(BodyError::TooSlow))?;
    hash.update(&front[..front.len().min(FINGERPRINT_BYTES)]);
    if whole {
        return Ok(Body::from(front));
    }
    hash.update(length.exact().unwrap_or(u64::MAX).to_be_bytes());
    Ok(Body::new(Rejoined {
        front: Some(front.into()),
        rest: body,
    }))
}

fn body_error(error: &axum::Error) -> BodyError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return BodyError::TooLarge;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::TimedOut
        {
            return BodyError::TooSlow;
        }
        cause = error.source();
    }
    BodyError::Broken(error.to_string())
}

/// What was read of a body, and the rest.
struct Rejoined {
    front: Option<Bytes>,
    rest: Body,
}

impl HttpBody for Rejoined {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.front.take() {
            Some(front) => Poll::Ready(Some(Ok(Frame::data(front)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, front) = (
            self.rest.size_hint(),
            self.front.as_ref().map_or(0, Bytes::len) as u64,
        );
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(front));
        }
        hint.set_lower(hint.lower().saturating_add(front));
        hint
    }
}

/// How an upload goes.
#[derive(Clone, Default)]
pub(super) struct Upload(Arc<Progress>);

#[derive(Default)]
struct Progress {
    state: AtomicU8,
    bytes: AtomicU64,
}

/// The upstream has all that it asked for.
const QUIET: u8 = 0;
/// The upstream waits for the client.
const WAITING: u8 = 1;
/// The client broke off, or sent too much.
const BROKEN: u8 = 2;

struct Watched {
    inner: Body,
    upload: Upload,
}

impl Upload {
    /// The same body, watched.
    pub(super) fn watch(&self, inner: Body) -> Body {
        let upload = self.clone();
        Body::new(Watched { inner, upload })
    }

    /// The client broke its request off.
    pub(super) fn is_broken(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == BROKEN
    }

    /// The upstream waits for the rest of the request.
    pub(super) fn is_late(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == WAITING
    }

    /// Bytes that passed so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let progress = Arc::clone(&self.upload.0);
        progress.state.store(WAITING, Ordering::Release);
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let state = if matches!(frame, Some(Err(_))) {
            BROKEN
        } else {
            QUIET
        };
        progress.state.store(state, Ordering::Release);
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            progress.bytes.fetch_add(bytes, Ordering::AcqRel);
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
