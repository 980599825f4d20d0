//! One paid call: the merchant as the payer's steps see it ([`MerchantApi`]), over HTTP. Sends the request with a ticket and
//! says what the answer means for the ticket. What the payer's steps have no word for is noted beside: the HTTP error, how
//! long the server wants us to wait, an answer that was not charged for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use http::Extensions;
use parking_lot::Mutex;
use payer::ticket::{Answer, ApiError, MerchantApi};
use protocol::ticket::{Issued, OrderId, Quote, Retry, Ticket};
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response, ResponseBuilderExt, StatusCode};
use reqwest_middleware::Next;
use tokio::sync::Mutex as AsyncMutex;
use tracing::{debug, warn};

use super::cache::Target;
use super::error::ClientError;
use super::middleware::Terms;
use crate::wire::{
    Advice, IDEMPOTENCY_KEY, MICROPAY_ESCROW, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, Payment,
    PaymentResponse, PaymentSignature, Problem, Requirements, read_response,
};

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

/// See the module.
pub(super) struct Call<'a, 'w> {
    /// Reads and remembers the seller's terms.
    pub(super) terms: &'a dyn Terms,
    pub(super) way: &'a Way<'w>,
    pub(super) target: &'a Target,
    /// Its `Idempotency-Key`.
    pub(super) key: &'a HeaderValue,
    /// Who pays, for balancers: they cannot read a payment, and keep a payer with one of several gateways.
    pub(super) escrow: &'a HeaderValue,
    /// Names it in x402's own field, which takes not every key.
    pub(super) order: OrderId,
    /// The terms that the next ticket answers.
    pub(super) accepted: Mutex<Requirements>,
    pub(super) notes: Notes,
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

impl MerchantApi for Call<'_, '_> {
    type Item = Arc<Replay>;
    type Good = Response;

    /// The terms came with the 402 that began this call, or come with a refusal; there is nothing else to ask.
    async fn quote(&self, _: Address) -> Result<Quote, ApiError> {
        let cause = self.notes.cause.lock().as_ref().map(ToString::to_string);
        Err(ApiError::Malformed(cause.unwrap_or_else(|| {
            "a refusal without terms for another ticket".into()
        })))
    }

    async fn buy(
        &self,
        order: OrderId,
        item: &Arc<Replay>,
        ticket: &Ticket<Issued>,
    ) -> Result<Answer<Response>, ApiError> {
        let spent = || ApiError::Malformed("the request's body is spent".into());
        let mut request = item.copy().ok_or_else(spent)?;
        let payment = PaymentSignature {
            payment: Payment::from(ticket).into(),
            identifier: Some(self.order.to_string()),
        };
        let mut header = HeaderValue::try_from(payment.header(&*self.accepted.lock()))
            .map_err(|error| ApiError::Malformed(error.to_string()))?;
        header.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(PAYMENT_SIGNATURE, header);
        headers.insert(MICROPAY_ESCROW, self.escrow.clone());
        headers.insert(IDEMPOTENCY_KEY, self.key.clone());
        debug!(origin = %self.target.origin, path = self.target.path, %order, ticket = %ticket.digest(), "paying");
        match self.way.send(request).await {
            Ok(answer) => Ok(self.read(answer, item, ticket).await),
            Err(error) => {
                let error = error.without_url(); // which may hold a secret of the caller's
                let text = error.to_string();
                self.notes
                    .give_up
                    .store(!worth_another_try(&error), Ordering::Relaxed);
                *self.notes.failure.lock() = Some(error);
                Err(ApiError::Transport(text))
            }
        }
    }
}

impl Call<'_, '_> {
    async fn read(&self, answer: Response, item: &Replay, ticket: &Ticket<Issued>) -> Answer<Response> {
        let status = answer.status();
        let receipt = self.receipt(&answer, ticket.digest());
        let taken = receipt.as_ref().is_some_and(|receipt| receipt.success);
        if taken || status.is_success() || status.is_redirection() {
            self.notes.acknowledged.store(taken, Ordering::Relaxed);
            let next = receipt.and_then(|receipt| receipt.extra.next);
            return Answer::Delivered {
                good: answer,
                quote: next.and_then(|next| self.terms.renewal(self.target, &next)),
            };
        }
        let fresh = self.fresh_terms(&answer);
        let wait = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        *self.notes.wait.lock() = wait.and_then(|secs| secs.parse().ok()).map(Duration::from_secs);
        let (answer, problem) = read_problem(answer).await;
        match problem {
            Some(problem) => self.refusal(status, problem, fresh, item),
            None if status == StatusCode::PAYMENT_REQUIRED => self.unexplained(fresh, item, ticket),
            None => {
                // The upstream's own answer, with nothing to say that the ticket was taken.
                *self.notes.uncharged.lock() = Some(answer);
                Answer::Refused {
                    rule: "not-charged".into(),
                    message: format!("status {status}, and no word that the ticket was taken"),
                    retry: Retry::Later,
                    quote: None,
                }
            }
        }
    }

    /// What the server says became of the ticket. A receipt for another ticket, or one that cannot be read, says nothing.
    fn receipt(&self, answer: &Response, digest: B256) -> Option<PaymentResponse> {
        let header = answer.headers().get(PAYMENT_RESPONSE)?;
        let text = header.to_str().unwrap_or_default();
        match read_response(text) {
            Ok(receipt) if receipt.extra.ticket == digest => return Some(receipt),
            Ok(receipt) => {
                warn!(origin = %self.target.origin, ticket = %digest, got = %receipt.extra.ticket, "a receipt for another ticket");
            }
            Err(error) => warn!(origin = %self.target.origin, %error, "a receipt that cannot be read"),
        }
        None
    }

    /// Terms that came with a refusal. What is wrong with them is noted, for when another ticket is needed.
    fn fresh_terms(&self, answer: &Response) -> Option<Quote> {
        answer.headers().get(PAYMENT_REQUIRED)?;
        match self.terms.read(self.target, answer) {
            Ok((terms, quote)) => {
                *self.accepted.lock() = terms;
                Some(quote)
            }
            Err(error) => {
                *self.notes.cause.lock() = Some(error);
                None
            }
        }
    }

    fn refusal(
        &self,
        status: StatusCode,
        problem: Problem,
        quote: Option<Quote>,
        item: &Replay,
    ) -> Answer<Response> {
        let Problem {
            rule, detail, retry, ..
        } = problem;
        let conflict = matches!(status, StatusCode::CONFLICT | StatusCode::GONE);
        if conflict && retry == Advice::Stop {
            return Answer::Taken {
                rule,
                message: detail,
            };
        }
        // More balance is for the payer's owner to see to. And an upstream that may have begun on a request is not asked to
        // do the same again unless HTTP says that it may be. (503: it was not asked.)
        let may_have_begun = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        if retry == Advice::TopUp || (may_have_begun && !is_idempotent(&self.target.method)) {
            self.notes.give_up.store(true, Ordering::Relaxed);
        }
        refused(rule, detail, retry.into(), quote, item)
    }

    /// A 402 whose body says nothing, as that of a HEAD. If the terms have changed, that is why.
    fn unexplained(&self, quote: Option<Quote>, item: &Replay, ticket: &Ticket<Issued>) -> Answer<Response> {
        let changed = quote.is_some_and(|quote| {
            (quote.recipient, quote.commitment, quote.win_threshold)
                != (ticket.recipient(), ticket.commitment(), ticket.win_threshold())
                || quote.nonce_floor >= ticket.nonce()
        });
        let (retry, message) = if changed {
            (Retry::NewQuote, "the terms have changed")
        } else {
            (Retry::Never, "refused without a reason")
        };
        refused("payment-required".into(), message.into(), retry, quote, item)
    }
}

/// A refusal; final where the request cannot be sent again, so that no ticket is signed that cannot be sent.
fn refused(
    rule: String,
    mut message: String,
    mut retry: Retry,
    quote: Option<Quote>,
    item: &Replay,
) -> Answer<Response> {
    if retry == Retry::NewQuote && !item.again() {
        retry = Retry::Never;
        message.push_str("; the body is a stream that cannot be sent twice, make the call again");
    }
    Answer::Refused {
        rule,
        message,
        retry,
        quote,
    }
}

/// Our problem body, if it is one; else the answer as it came.
async fn read_problem(answer: Response) -> (Response, Option<Problem>) {
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
