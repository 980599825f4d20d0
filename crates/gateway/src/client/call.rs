//! One paid call over HTTP, as far as it is the same for every kind of payment: a request that can be sent again, the way
//! out, and what the payer's steps have no word for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http::Extensions;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response, ResponseBuilderExt, StatusCode};
use reqwest_middleware::Next;
use tokio::sync::Mutex as AsyncMutex;

use super::error::ClientError;
use crate::wire::{Advice, Problem};

/// What is asked for, as the payer's steps hand it through.
pub(super) type Item = Arc<Replay>;

/// Longest body of a refusal that is read.
const MAX_PROBLEM: usize = 64 * 1024;

/// A request that is sent again where that is possible.
#[derive(Debug)]
pub(super) struct Replay {
    request: Mutex<Option<Request>>,
    again: bool,
}

impl Replay {
    pub(super) fn new(request: Request) -> Self {
        Self {
            again: request.try_clone().is_some(),
            request: Mutex::new(Some(request)),
        }
    }

    /// Whether it can be sent more than once.
    pub(super) fn again(&self) -> bool {
        self.again
    }

    /// Whether there is nothing left to send.
    pub(super) fn spent(&self) -> bool {
        self.request.lock().is_none()
    }

    /// A copy to send; of a stream the only one. `None`: it is gone.
    pub(super) fn copy(&self) -> Option<Request> {
        let mut request = self.request.lock();
        match request.as_ref().and_then(Request::try_clone) {
            Some(copy) => Some(copy),
            None => request.take(),
        }
    }
}

/// The way out of one request, through the middleware below.
pub(super) struct Way<'a> {
    next: Next<'a>,
    extensions: AsyncMutex<&'a mut Extensions>,
    requests: AtomicU32,
}

impl<'a> Way<'a> {
    pub(super) fn new(next: Next<'a>, extensions: &'a mut Extensions) -> Self {
        Self {
            next,
            extensions: AsyncMutex::new(extensions),
            requests: AtomicU32::new(0),
        }
    }

    pub(super) async fn send(&self, request: Request) -> reqwest_middleware::Result<Response> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut extensions = self.extensions.lock().await;
        self.next.clone().run(request, &mut extensions).await
    }

    /// HTTP requests so far.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What the payer's steps have no word for.
#[derive(Default)]
pub(super) struct Notes {
    /// The error itself, where the payer's steps only have its words.
    pub(super) cause: Mutex<Option<ClientError>>,
    /// The HTTP client's error.
    pub(super) failure: Mutex<Option<reqwest_middleware::Error>>,
    /// How long the server wants us to wait.
    pub(super) wait: Mutex<Option<Duration>>,
    /// An answer for which the ticket was not taken: the upstream's own failure.
    pub(super) uncharged: Mutex<Option<Response>>,
    /// The server said that it took the ticket.
    pub(super) acknowledged: AtomicBool,
    /// Trying again is not for us to decide.
    pub(super) give_up: AtomicBool,
}

impl Notes {
    /// How long the server wants us to wait.
    pub(super) fn read_wait(&self, answer: &Response) {
        let wait = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        *self.wait.lock() = wait.and_then(|secs| secs.parse().ok()).map(Duration::from_secs);
    }

    /// The request failed on its way. Its words for the payer's steps.
    pub(super) fn failed(&self, error: reqwest_middleware::Error) -> String {
        let error = error.without_url(); // which may hold a secret of the caller's
        let text = words(&error);
        self.give_up.store(!worth_another_try(&error), Ordering::Relaxed);
        *self.failure.lock() = Some(error);
        text
    }

    /// More balance is for the payer's owner to see to. And an upstream that may have begun on a request is not asked to do
    /// the same again unless HTTP says that it may be. (503: it was not asked.)
    pub(super) fn judge(&self, status: StatusCode, advice: Advice, method: &Method) {
        let may_have_begun = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        if advice == Advice::TopUp || (may_have_begun && !is_idempotent(method)) {
            self.give_up.store(true, Ordering::Relaxed);
        }
    }
}

/// An error with its causes: what connects says why it did not only in these.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// A header that is not for logs.
pub(super) fn secret(value: String) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Our problem body, if it is one; else the answer as it came.
pub(super) async fn read_problem(answer: Response) -> (Response, Option<Problem>) {
    let kind = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/problem+json"))
        || answer
            .content_length()
            .is_some_and(|length| length > MAX_PROBLEM as u64)
    {
        return (answer, None);
    }
    let url = answer.url().clone();
    let (mut answer, body) = take_body(answer).await;
    match serde_json::from_slice(&body) {
        Ok(problem) => (answer, Some(problem)),
        Err(_) => {
            // The upstream's: put together again.
            let mut whole = http::Response::builder()
                .url(url)
                .body(body)
                .expect("no header is set");
            *whole.status_mut() = answer.status();
            std::mem::swap(whole.headers_mut(), answer.headers_mut());
            whole
                .extensions_mut()
                .extend(std::mem::take(answer.extensions_mut()));
            (whole.into(), None)
        }
    }
}

/// Reads an answer's body, within bounds; so the connection can be used again, too.
pub(super) async fn take_body(mut answer: Response) -> (Response, Vec<u8>) {
    let mut body = Vec::new();
    while body.len() < MAX_PROBLEM
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    (answer, body)
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::TRACE,
    ]
    .contains(method)
}

/// Whether a connection failed in a way that may be over in a moment. A time limit of the caller's is the caller's.
fn worth_another_try(error: &reqwest_middleware::Error) -> bool {
    !(error.is_middleware() || error.is_timeout() || error.is_builder() || error.is_redirect())
}
