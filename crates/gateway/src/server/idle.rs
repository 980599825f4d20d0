//! A body that breaks off when nothing comes for a while. (That of `tower-http` 0.6 forgets how long the body is: a request
//! without a body would be sent on in chunks, and no body would be small enough to be part of what a payment is for.)

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Fails when the next frame takes longer than the limit.
pub(super) struct Idle<B> {
    inner: B,
    limit: Duration,
    /// Runs while a frame is waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<B> Idle<B> {
    pub(super) fn new(limit: Duration, inner: B) -> Self {
        Self {
            inner,
            limit,
            sleep: None,
        }
    }
}

impl<B: Body<Error: Into<BoxError>> + Unpin> Body for Idle<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.sleep = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        let waiting = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        let seconds = limit.as_secs();
        let error = std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("nothing of the body came for {seconds} s"),
        );
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::{Body as AnyBody, Bytes};
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_keeps_its_length_and_its_end() {
        let body = Idle::new(Duration::from_secs(9), Full::new(Bytes::from("four")));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "four");
        assert!(Idle::new(Duration::from_secs(9), AnyBody::empty()).is_end_stream());
    }

    /// One frame, then silence.
    struct Half(Option<&'static str>);

    impl Body for Half {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.take() {
                Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(text))))),
                None => Poll::Pending,
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_broken_off() {
        let mut body = Idle::new(Duration::from_millis(30), Half(Some("half")));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("nothing of the body came"), "{error}");
    }
}
