//! The middleware: a request comes in, and goes out with a payment where one is due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy_primitives::{B256, hex, keccak256};
use async_trait::async_trait;
use http::Extensions;
use parking_lot::Mutex;
use payer::ticket::{ApiError, PayError, Payer, Purchase, Seller};
use protocol::ticket::{OrderId, Quote};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode, Url};
use reqwest_middleware::{Middleware, Next};
use storage::{OrderStore, StoreError};
use tracing::{debug, info};
use url::Host;

use super::cache::{Cache, Origin, Target};
use super::call::{Call, Notes, Replay, Way, take_body};
use super::error::ClientError;
use super::{Paid, Settings, WouldPay, redirect};
use crate::wire::{
    IDEMPOTENCY_KEY, MICROPAY_ESCROW, PAYMENT_AUTHORIZATION, PAYMENT_REQUIRED, PAYMENT_SIGNATURE,
    Requirements, SCHEME, WireError, network, offered, read_required,
};

/// Attempts at a paid call where the same ticket may be taken later, with a pause that doubles.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause that a server may ask for within a call.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pays for requests. Part of a [`Client`](super::Client); [`Builder::stack`](super::Builder::stack) puts it among others.
pub struct MicropayMiddleware<S> {
    payer: Arc<Payer<S>>,
    settings: Settings,
    escrow: HeaderValue,
    cache: Cache,
}

/// Reads a seller's terms, and remembers them.
pub(super) trait Terms: Send + Sync {
    /// The terms in a 402, and the quote that they make for our escrow.
    fn read(&self, target: &Target, answer: &Response) -> Result<(Requirements, Quote), ClientError>;

    /// Terms of the next call. `None` if they are not acceptable; the next call finds out why.
    fn renewal(&self, target: &Target, next: &Requirements) -> Option<Quote>;
}

impl<S: OrderStore + Send + Sync + 'static> MicropayMiddleware<S> {
    pub(super) fn new(payer: Payer<S>, settings: Settings) -> Self {
        let escrow = HeaderValue::try_from(payer.escrow().to_string()).expect("an address is ASCII");
        Self {
            payer: Arc::new(payer),
            settings,
            escrow,
            cache: Cache::default(),
        }
    }

    /// One request, without what it redirects to. `asked` is the origin that the caller meant.
    async fn call(
        &self,
        request: Request,
        key: &HeaderValue,
        asked: &Origin,
        way: &Way<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let target = Target::from(&request);
        let call = Asked {
            secure: is_secure(request.url()),
            order: order_of(&target, key),
            target,
            key,
        };
        let request = Arc::new(Replay::new(request));
        if !self.settings.dry_run
            && call.target.origin == *asked
            && let Some(terms) = self.cache.find(&call.target)
        {
            let quote = self.quote(&call.target, &terms);
            let before = way.requests();
            let paid = match quote {
                Ok(quote) => self.pay(&call, &request, terms.clone(), quote, way).await,
                Err(error) => Err(error.into()),
            };
            match paid {
                // Not what we would sign: perhaps no longer what it asks for, either.
                Err(error) if way.requests() == before && is_about_terms(&error) => {
                    debug!(origin = %call.target.origin, %error, "remembered terms are not acceptable");
                    self.cache.forget(&call.target, &terms);
                }
                done => return done,
            }
        }

        let mut plain = request.copy().expect("not sent yet");
        plain.headers_mut().insert(MICROPAY_ESCROW, self.escrow.clone());
        let mut answer = way.send(plain).await?;
        if answer.status() != StatusCode::PAYMENT_REQUIRED || !answer.headers().contains_key(PAYMENT_REQUIRED)
        {
            return Ok(answer); // free, or sold in a way that is no concern of ours
        }
        if call.target.origin != *asked {
            return Err(ClientError::OtherOrigin {
                from: asked.to_string(),
                to: call.target.origin.to_string(),
            }
            .into());
        }
        let (terms, quote) = self.read(&call.target, &answer)?;
        if self.settings.dry_run {
            let would = self.would_pay(&call, &terms, &quote).await?;
            answer.extensions_mut().insert(would);
            return Ok(answer);
        }
        take_body(answer).await;
        if request.spent() {
            return Err(ClientError::BodySpent {
                origin: call.target.origin.to_string(),
            }
            .into());
        }
        self.pay(&call, &request, terms, quote, way).await
    }

    /// Pays, and asks again with the same ticket while that can help.
    async fn pay(
        &self,
        asked: &Asked<'_>,
        request: &Arc<Replay>,
        terms: Requirements,
        quote: Quote,
        way: &Way<'_>,
    ) -> reqwest_middleware::Result<Response> {
        self.check_secure(asked)?;
        let (asset, recipient) = (quote.asset, quote.recipient);
        let budgets = self.budgets(asked, &quote);
        let call = Call {
            terms: self,
            way,
            target: &asked.target,
            key: asked.key,
            escrow: &self.escrow,
            order: asked.order,
            accepted: Mutex::new(terms),
            notes: Notes::default(),
        };
        let seller = Seller::with_quote(call, quote);
        let notes = &seller.api().notes;
        let purchase = Purchase {
            order: asked.order,
            item: Arc::clone(request),
        };
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match self.payer.pay_within(&seller, &purchase, &budgets).await {
                Ok(payment) => {
                    let mut answer = payment.good;
                    let acknowledged = notes.acknowledged.load(Ordering::Relaxed);
                    if !acknowledged {
                        self.cache.learn_free(&asked.target);
                    }
                    answer.extensions_mut().insert(Paid {
                        ticket: payment.ticket,
                        price: payment.price,
                        asset,
                        recipient,
                        order: payment.order,
                        key: asked.key_text(),
                        requests: way.requests(),
                        acknowledged,
                    });
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let Some(answer) = notes.uncharged.lock().take() {
                return Ok(answer);
            }
            let give_up = notes.give_up.load(Ordering::Relaxed) || attempt >= ATTEMPTS || !request.again();
            if give_up || !error.retry() {
                return Err(asked.explain(error, notes).into());
            }
            let wait = notes.wait.lock().take().unwrap_or(pause).min(LONGEST_PAUSE);
            info!(origin = %asked.target.origin, path = asked.target.path, %error, wait_ms = wait.as_millis(), "trying again");
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
        unreachable!("the attempts are counted")
    }

    async fn would_pay(
        &self,
        asked: &Asked<'_>,
        terms: &Requirements,
        quote: &Quote,
    ) -> Result<WouldPay, ClientError> {
        self.check_secure(asked)?;
        let budgets = self.budgets(asked, quote);
        self.payer
            .check(quote, &budgets)
            .await
            .map_err(|error| asked.explain(error, &Notes::default()))?;
        Ok(WouldPay {
            price: quote.price,
            asset: quote.asset,
            recipient: quote.recipient,
            route: terms.extra.route.clone(),
        })
    }

    fn budgets(&self, asked: &Asked<'_>, quote: &Quote) -> Vec<storage::Budget> {
        let now = (self.payer.edges().now)();
        self.settings
            .budgets
            .accounts(&asked.target.host, quote.asset, now)
    }

    fn check_secure(&self, asked: &Asked<'_>) -> Result<(), ClientError> {
        if asked.secure || self.settings.plain_http {
            return Ok(());
        }
        Err(ClientError::PlainHttp {
            origin: asked.target.origin.to_string(),
        })
    }

    fn quote(&self, target: &Target, terms: &Requirements) -> Result<Quote, ClientError> {
        terms
            .quote(self.payer.domain(), self.payer.escrow(), self.payer.record())
            .map_err(|cause| ClientError::Terms {
                origin: target.origin.to_string(),
                cause,
            })
    }
}

impl<S: OrderStore + Send + Sync + 'static> Terms for MicropayMiddleware<S> {
    fn read(&self, target: &Target, answer: &Response) -> Result<(Requirements, Quote), ClientError> {
        let unreadable = |cause| ClientError::Unreadable {
            origin: target.origin.to_string(),
            cause,
        };
        let header = answer.headers().get(PAYMENT_REQUIRED);
        let header = header
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| unreadable(WireError::Base64("bytes that are no text".into())))?;
        let domain = self.payer.domain();
        let Some(terms) = read_required(header, domain).map_err(unreadable)?.ticket else {
            return Err(ClientError::NoCommonWay {
                origin: target.origin.to_string(),
                offered: offered(header).map_err(unreadable)?,
                mine: format!("{SCHEME} on {}", network(domain.chain_id())),
            });
        };
        let quote = self.quote(target, &terms)?;
        if !self.cache.learn(target, &terms) {
            debug!(origin = %target.origin, route = terms.extra.route, "terms for another route than the one asked");
        }
        Ok((terms, quote))
    }

    fn renewal(&self, target: &Target, next: &Requirements) -> Option<Quote> {
        let domain = self.payer.domain();
        Requirements::check_kind(&next.scheme, &next.network, domain).ok()?;
        let quote = self.quote(target, next).ok()?;
        self.cache.learn(target, next).then_some(quote)
    }
}

#[async_trait]
impl<S: OrderStore + Send + Sync + 'static> Middleware for MicropayMiddleware<S> {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if request.method() == Method::OPTIONS || has_payment(&request) {
            return next.run(request, extensions).await;
        }
        let way = Way::new(next, extensions);
        let asked = Origin::of(request.url());
        let mut key = match request.headers().get(IDEMPOTENCY_KEY) {
            Some(key) => key.clone(),
            None => hex_key((self.payer.edges().random)()),
        };
        for hop in 0.. {
            let copy = request.try_clone();
            let answer = self.call(request, &key, &asked, &way).await?;
            let limit = self.settings.redirects;
            let Some(mut led_to) = redirect::next(&answer, copy).filter(|_| limit > 0) else {
                return Ok(answer);
            };
            if hop == limit {
                return Err(ClientError::TooManyRedirects { limit }.into());
            }
            debug!(from = %asked, to = %Origin::of(led_to.url()), path = led_to.url().path(), "redirected");
            // Another call, whose name follows from this one's, so that the same call made again comes to the same.
            let url = led_to.url().as_str().as_bytes();
            let tag = b"micropay/http/redirect/v1".as_slice();
            key = hex_key(keccak256([tag, key.as_bytes(), b"\0", url].concat()));
            led_to.headers_mut().remove(IDEMPOTENCY_KEY);
            take_body(answer).await;
            request = led_to;
        }
        unreachable!("the redirects are counted")
    }
}

/// A call as the caller means it.
struct Asked<'a> {
    target: Target,
    /// Whether nobody can listen.
    secure: bool,
    key: &'a HeaderValue,
    order: OrderId,
}

impl Asked<'_> {
    fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_bytes()).into_owned()
    }

    /// The caller's error for one of the payer's steps.
    fn explain(&self, error: PayError, notes: &Notes) -> ClientError {
        let key = self.key_text();
        if let PayError::Api(api) = &error {
            if let (ApiError::Transport(_), Some(cause)) = (api, notes.failure.lock().take()) {
                let cause = Box::new(cause);
                return ClientError::NoAnswer { key, cause };
            }
            if let (ApiError::Malformed(_), Some(cause)) = (api, notes.cause.lock().take()) {
                return cause;
            }
        }
        ClientError::Pay { key, cause: error }
    }
}

/// Whether other terms could be acceptable.
fn is_about_terms(error: &reqwest_middleware::Error) -> bool {
    match ClientError::of(error) {
        Some(ClientError::Terms { .. }) => true,
        Some(ClientError::Pay { cause, .. }) => {
            matches!(
                cause,
                PayError::Limit(_) | PayError::Store(StoreError::OverBudget { .. })
            )
        }
        _ => false,
    }
}

/// Names a call: the same key for the same origin and method is the same purchase, for ever.
fn order_of(target: &Target, key: &HeaderValue) -> OrderId {
    let parts = [
        target.origin.as_str().as_bytes(),
        target.method.as_str().as_bytes(),
        key.as_bytes(),
    ];
    let mut bytes = b"micropay/http/call/v1".to_vec();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    OrderId(keccak256(bytes))
}

fn hex_key(bytes: B256) -> HeaderValue {
    HeaderValue::try_from(hex::encode(bytes)).expect("hexadecimal is ASCII")
}

/// Whether a connection is encrypted, or does not leave this machine.
fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

/// Whether the caller pays by itself.
fn has_payment(request: &Request) -> bool {
    let headers = request.headers();
    let authorization = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '));
    headers.contains_key(PAYMENT_SIGNATURE)
        || headers.contains_key(PAYMENT_AUTHORIZATION)
        || authorization.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("payment"))
}
