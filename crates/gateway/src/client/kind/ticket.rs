//! One call paid by ticket: the merchant as the payer's steps see it ([`MerchantApi`]), over HTTP. Sends the request with a
//! ticket and says what the answer means for the ticket.

use std::sync::atomic::Ordering;

use alloy_primitives::{Address, B256};
use parking_lot::Mutex;
use payer::ticket::{Answer, ApiError, MerchantApi};
use protocol::ticket::{Issued, OrderId, Quote, Retry, Ticket};
use reqwest::header::HeaderValue;
use reqwest::{Response, StatusCode};
use tracing::{debug, warn};

use crate::client::cache::Target;
use crate::client::call::{Item, Notes, Replay, Way, read_problem, secret};
use crate::client::middleware::Terms;
use crate::wire::{
    Advice, IDEMPOTENCY_KEY, MICROPAY_ESCROW, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, Payment,
    PaymentResponse, PaymentSignature, Problem, Requirements, read_response,
};

/// See the module.
pub(in crate::client) struct Call<'a, 'w> {
    /// Reads and remembers the seller's terms.
    pub(in crate::client) terms: &'a dyn Terms,
    pub(in crate::client) way: &'a Way<'w>,
    pub(in crate::client) target: &'a Target,
    /// Its `Idempotency-Key`.
    pub(in crate::client) key: &'a HeaderValue,
    /// Who pays, for balancers: they cannot read a payment, and keep a payer with one of several gateways.
    pub(in crate::client) escrow: &'a HeaderValue,
    /// Names it in x402's own field, which takes not every key.
    pub(in crate::client) order: OrderId,
    /// The terms that the next ticket answers.
    pub(in crate::client) accepted: Mutex<Requirements>,
    pub(in crate::client) notes: Notes,
}

impl MerchantApi for Call<'_, '_> {
    type Item = Item;
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
        item: &Item,
        ticket: &Ticket<Issued>,
    ) -> Result<Answer<Response>, ApiError> {
        let spent = || ApiError::Malformed("the request's body is spent".into());
        let mut request = item.copy().ok_or_else(spent)?;
        let payment = PaymentSignature {
            payment: Payment::from(ticket).into(),
            identifier: Some(self.order.to_string()),
        };
        let header = secret(payment.header(&*self.accepted.lock())).map_err(ApiError::Malformed)?;
        let headers = request.headers_mut();
        headers.insert(PAYMENT_SIGNATURE, header);
        headers.insert(MICROPAY_ESCROW, self.escrow.clone());
        headers.insert(IDEMPOTENCY_KEY, self.key.clone());
        debug!(origin = %self.target.origin, path = self.target.path, %order, ticket = %ticket.digest(), "paying");
        match self.way.send(request).await {
            Ok(answer) => Ok(self.read(answer, item, ticket).await),
            Err(error) => Err(ApiError::Transport(self.notes.failed(error))),
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
        self.notes.read_wait(&answer);
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
        match self.terms.ticket(self.target, answer) {
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
        self.notes.judge(status, retry, &self.target.method);
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
