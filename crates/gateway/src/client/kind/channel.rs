//! One call paid by channel: the vendor as the payer's steps see it ([`VendorApi`]), over HTTP. Sends the request with a word
//! and says what the answer means for it. The same steps without a request, as a client closes or recovers a channel:
//! [`Desk`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use payer::channel::{Answer, ApiError, Position, ReceiptsOpened, VendorApi};
use protocol::channel::{
    Amount, ChannelId, Domain, Index, Key, Opener, Payment, Retry, Signature, SignedCheckpoint, Tag,
    Timestamp, Word,
};
use protocol::ticket::OrderId;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::client::cache::Target;
use crate::client::call::{Item, Notes, Replay, Way, read_problem, secret, take_body, words};
use crate::client::middleware::Terms;
use crate::wire::{
    Advice, CHANNELS, ChannelPayment, ChannelRequirements, CloseAnswer, CloseRequest, IDEMPOTENCY_KEY,
    LostPayment, MAX_LOST, OpenerAnswer, OpenerRequest, PAYMENT_REQUIRED, PAYMENT_RESPONSE,
    PAYMENT_SIGNATURE, PaymentSignature, PaymentsAnswer, PaymentsRequest, PositionAnswer, PositionRequest,
    Problem, read_channel_body, read_channel_response,
};

/// Rules by which a vendor says that a payment was delivered before.
const TAKEN: [&str; 3] = ["already-delivered", "other-order", "answer-not-kept"];

/// See the module.
pub(in crate::client) struct Call<'a, 'w> {
    /// Reads and remembers the seller's terms.
    pub(in crate::client) terms: &'a dyn Terms,
    pub(in crate::client) way: &'a Way<'w>,
    pub(in crate::client) target: &'a Target,
    pub(in crate::client) url: &'a Url,
    /// Its `Idempotency-Key`.
    pub(in crate::client) key: &'a HeaderValue,
    pub(in crate::client) signer: &'a Key,
    pub(in crate::client) now: fn() -> Timestamp,
    pub(in crate::client) price: Amount,
    /// The terms that the next payment answers.
    pub(in crate::client) accepted: Mutex<ChannelRequirements>,
    pub(in crate::client) notes: Notes,
    /// What was sent last.
    pub(in crate::client) sent: Mutex<Option<Payment>>,
    /// The price is another one now.
    pub(in crate::client) repriced: Mutex<Option<ChannelRequirements>>,
}

impl VendorApi for Call<'_, '_> {
    type Item = Item;
    type Good = Response;

    async fn pay(
        &self,
        order: OrderId,
        item: &Item,
        payment: &Payment,
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<Answer<Response>, ApiError> {
        let spent = || ApiError::Malformed("the request's body is spent".into());
        let mut request = item.copy().ok_or_else(spent)?;
        let signature = PaymentSignature {
            payment: ChannelPayment::new(payment, checkpoint).into(),
            identifier: None,
        };
        let header = secret(signature.header(&*self.accepted.lock())).map_err(ApiError::Malformed)?;
        let headers = request.headers_mut();
        headers.insert(PAYMENT_SIGNATURE, header);
        headers.insert(IDEMPOTENCY_KEY, self.key.clone());
        *self.sent.lock() = Some(*payment);
        debug!(origin = %self.target.origin, path = self.target.path, %order, channel = %payment.channel,
            index = %payment.index, "paying");
        match self.way.send(request).await {
            Ok(answer) => Ok(self.read(answer, item, payment).await),
            Err(error) => Err(ApiError::Transport(self.notes.failed(error))),
        }
    }

    async fn position(&self, channel: ChannelId) -> Result<Option<Position>, ApiError> {
        let request = PositionRequest::new(self.signer, channel, (self.now)());
        let answer: PositionAnswer = self.ask(channel, "position", &request).await?;
        position(channel, answer)
    }

    async fn open_receipts(&self, opener: &Opener) -> Result<ReceiptsOpened, ApiError> {
        let answer = self
            .ask(opener.channel, "opener", &OpenerRequest::from(opener))
            .await?;
        Ok(opened(answer))
    }

    async fn cooperative_close(&self, _: ChannelId, _: Index) -> Result<Signature, ApiError> {
        Err(ApiError::Malformed("a call closes no channel".into()))
    }

    async fn resend(&self, channel: ChannelId, payments: &[(OrderId, Payment)]) -> Result<(), ApiError> {
        for request in lost(payments) {
            let _: PaymentsAnswer = self.ask(channel, "payments", &request).await?;
        }
        Ok(())
    }
}

impl Call<'_, '_> {
    /// Asks the vendor beside the call, by the same way.
    async fn ask<T: DeserializeOwned>(
        &self,
        channel: ChannelId,
        what: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let request = question(self.url, channel, what, body)?;
        let answer = self.way.send(request).await;
        let answer = answer.map_err(|error| ApiError::Transport(self.notes.failed(error)))?;
        read_answer(answer).await
    }

    async fn read(&self, answer: Response, item: &Replay, payment: &Payment) -> Answer<Response> {
        let status = answer.status();
        if self.is_taken(&answer, payment) {
            self.notes.acknowledged.store(true, Ordering::Relaxed);
            return Answer::Delivered { good: answer };
        }
        if status.is_success() || status.is_redirection() {
            // Perhaps it was free. The next payment takes this one's place, unless the vendor says that it has it.
            *self.notes.uncharged.lock() = Some(answer);
            return Answer::Failed {
                message: "an answer without a receipt".into(),
            };
        }
        self.fresh_terms(&answer);
        self.notes.read_wait(&answer);
        let (answer, problem) = read_problem(answer).await;
        match problem {
            Some(problem) => self.refusal(status, problem, item),
            None if status == StatusCode::PAYMENT_REQUIRED => self.refused(
                Retry::Never,
                Problem::new(402, "payment-required", Advice::Stop, "refused without a reason"),
                item,
            ),
            None => {
                // The upstream's own answer, with nothing to say that the payment was taken.
                *self.notes.uncharged.lock() = Some(answer);
                Answer::Failed {
                    message: format!("status {status}, and no word that the payment was taken"),
                }
            }
        }
    }

    /// Whether the server says that it took the payment. A receipt for another, or one that cannot be read, says nothing.
    fn is_taken(&self, answer: &Response, payment: &Payment) -> bool {
        let Some(header) = answer.headers().get(PAYMENT_RESPONSE) else {
            return false;
        };
        match read_channel_response(header.to_str().unwrap_or_default()) {
            Ok(receipt) if receipt.success && receipt.extra == payment.into() => return true,
            Ok(receipt) => {
                warn!(origin = %self.target.origin, tag = %payment.tag, got = %receipt.extra.tag, "a receipt for another payment");
            }
            Err(error) => warn!(origin = %self.target.origin, %error, "a receipt that cannot be read"),
        }
        false
    }

    /// Terms that came with a refusal: the price may be another one now.
    fn fresh_terms(&self, answer: &Response) {
        if !answer.headers().contains_key(PAYMENT_REQUIRED) {
            return;
        }
        let offers = match self.terms.learn(self.target, answer) {
            Ok(offers) => offers,
            Err(error) => {
                *self.notes.cause.lock() = Some(error);
                return;
            }
        };
        let Some(fresh) = offers.channel else { return };
        let mut accepted = self.accepted.lock();
        let same_seller = (fresh.pay_to, fresh.asset) == (accepted.pay_to, accepted.asset);
        if same_seller && fresh.amount != self.price.0 {
            *self.repriced.lock() = Some(fresh.clone());
        }
        *accepted = fresh;
    }

    fn refusal(&self, status: StatusCode, problem: Problem, item: &Replay) -> Answer<Response> {
        let advice = problem.retry;
        if TAKEN.contains(&problem.rule.as_str()) {
            return Answer::Taken {
                rule: problem.rule,
                message: problem.detail,
            };
        }
        self.notes.judge(status, advice, &self.target.method);
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            return Answer::Failed {
                message: problem.detail,
            };
        }
        let retry = match advice {
            // Only what the vendor says of the payment is mended by another one, and not what it says of its kind.
            Advice::NewNonce if problem.rule != "kind-not-taken" => Retry::NewPayment,
            Advice::NewNonce | Advice::Stop => Retry::Never,
            Advice::Retry => Retry::Later,
            Advice::TopUp => Retry::TopUp,
            Advice::Checkpoint => Retry::Checkpoint,
        };
        self.refused(retry, problem, item)
    }

    /// A refusal. Final where another payment would be for another price, which is then begun with, or could not be sent.
    fn refused(&self, mut retry: Retry, problem: Problem, item: &Replay) -> Answer<Response> {
        let mut message = problem.detail;
        if retry == Retry::NewPayment && !item.again() {
            retry = Retry::Never;
            message.push_str("; the body is a stream that cannot be sent twice, make the call again");
        }
        if retry == Retry::NewPayment && self.repriced.lock().is_some() {
            retry = Retry::Never;
        }
        Answer::Refused {
            rule: problem.rule,
            message,
            retry,
            position: problem
                .position
                .map(|position| (Index(position.index), Tag(position.tag))),
        }
    }
}

/// A vendor beside any call, at a gateway's well-known addresses: where it stands, opening receipts, closing together. It
/// sells nothing.
#[derive(Clone, Debug)]
pub struct Desk {
    http: reqwest::Client,
    origin: Url,
    domain: Domain,
    receipt_key: Arc<Key>,
    account: Option<Arc<Key>>,
    now: fn() -> Timestamp,
}

impl Desk {
    /// The desk of the gateway at `origin` (whose path is not looked at), for channels whose receipts are signed by
    /// `receipt_key`.
    pub fn new(
        http: reqwest::Client,
        origin: Url,
        domain: Domain,
        receipt_key: Arc<Key>,
        now: fn() -> Timestamp,
    ) -> Self {
        Self {
            http,
            origin,
            domain,
            receipt_key,
            account: None,
            now,
        }
    }

    /// With the key of the client's account, to close together.
    #[must_use]
    pub fn closing_with(mut self, account: Arc<Key>) -> Self {
        self.account = Some(account);
        self
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        channel: ChannelId,
        what: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let request = question(&self.origin, channel, what, body)?;
        let answer = self.http.execute(request).await;
        let answer = answer.map_err(|error| {
            let origin = self.origin.origin().ascii_serialization();
            ApiError::Transport(format!("{origin}: {}", words(&error.without_url())))
        })?;
        read_answer(answer).await
    }
}

impl VendorApi for Desk {
    type Item = ();
    type Good = ();

    async fn pay(
        &self,
        _: OrderId,
        (): &(),
        _: &Payment,
        _: Option<&SignedCheckpoint>,
    ) -> Result<Answer<()>, ApiError> {
        Err(ApiError::Malformed("nothing is sold at a desk".into()))
    }

    async fn position(&self, channel: ChannelId) -> Result<Option<Position>, ApiError> {
        let request = PositionRequest::new(&self.receipt_key, channel, (self.now)());
        position(channel, self.ask(channel, "position", &request).await?)
    }

    async fn open_receipts(&self, opener: &Opener) -> Result<ReceiptsOpened, ApiError> {
        let answer = self
            .ask(opener.channel, "opener", &OpenerRequest::from(opener))
            .await?;
        Ok(opened(answer))
    }

    async fn cooperative_close(&self, channel: ChannelId, index: Index) -> Result<Signature, ApiError> {
        let Some(account) = &self.account else {
            return Err(ApiError::Malformed(
                "the client's account has to sign first".into(),
            ));
        };
        let digest = self.domain.cooperative_close_digest(channel, index);
        let request = CloseRequest {
            index: index.0,
            client_signature: account.sign(digest).to_bytes().to_vec().into(),
        };
        let answer: CloseAnswer = self.ask(channel, "close", &request).await?;
        if answer.index != index.0 {
            let text = format!("asked to close at {index}, answered for {}", answer.index);
            return Err(ApiError::Malformed(text));
        }
        Signature::from_bytes(&answer.vendor_signature)
            .map_err(|error| ApiError::Malformed(error.to_string()))
    }

    async fn resend(&self, channel: ChannelId, payments: &[(OrderId, Payment)]) -> Result<(), ApiError> {
        for request in lost(payments) {
            let _: PaymentsAnswer = self.ask(channel, "payments", &request).await?;
        }
        Ok(())
    }
}

fn question(url: &Url, channel: ChannelId, what: &str, body: &impl Serialize) -> Result<Request, ApiError> {
    let malformed = |error: &dyn std::fmt::Display| ApiError::Malformed(error.to_string());
    let url = url
        .join(&format!("{CHANNELS}{channel}/{what}"))
        .map_err(|error| malformed(&error))?;
    let body = serde_json::to_vec(body).map_err(|error| malformed(&error))?;
    let mut request = Request::new(Method::POST, url);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.into());
    Ok(request)
}

async fn read_answer<T: DeserializeOwned>(answer: Response) -> Result<T, ApiError> {
    let status = answer.status();
    if status.is_success() {
        let (_, body) = take_body(answer).await;
        return read_channel_body(&body).map_err(|error| ApiError::Malformed(error.to_string()));
    }
    let (_, problem) = read_problem(answer).await;
    let Some(problem) = problem else {
        return Err(ApiError::Malformed(format!("status {status}, and no word why")));
    };
    Err(ApiError::Refused {
        rule: problem.rule,
        message: problem.detail,
        retry: problem.retry.into(),
    })
}

fn position(channel: ChannelId, answer: PositionAnswer) -> Result<Option<Position>, ApiError> {
    if answer.channel_id != channel.0 {
        let text = format!("asked for channel {channel}, answered for {}", answer.channel_id);
        return Err(ApiError::Malformed(text));
    }
    Ok(answer.last.map(|last| {
        let (receipt, before) = last.parts();
        Position {
            receipt,
            before,
            accounted: Index(last.accounted),
            held: (Index(last.held.index), Word(last.held.word)),
        }
    }))
}

fn opened(answer: OpenerAnswer) -> ReceiptsOpened {
    ReceiptsOpened {
        opened: answer.opened,
        ends_in_sigma0: answer.ends_in_sigma0,
    }
}

/// So many at a time as fit a body.
fn lost(payments: &[(OrderId, Payment)]) -> impl Iterator<Item = PaymentsRequest> {
    payments.chunks(MAX_LOST).map(|some| PaymentsRequest {
        payments: some
            .iter()
            .map(|(order, payment)| LostPayment {
                order: order.0,
                payment: ChannelPayment::new(payment, None),
            })
            .collect(),
    })
}
