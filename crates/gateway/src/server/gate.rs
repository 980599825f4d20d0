//! The payment path: looks up the price, reads the payment, admits it, asks the upstream, and adds the receipt. No chain
//! call, and no lock while the upstream works.
//!
//! ```text
//!   request ─▶ free? ──────────────────────────────────────────────▶ upstream
//!     └▶ payment? ─no─▶ 402 with terms
//!          └▶ this call was paid before? ─▶ its answer again
//!               └▶ admit (winner on disk) ─▶ upstream ─▶ below 500: consumed, receipt, answer kept
//!                    │                           └─────▶ 5xx, time-out, no answer: not consumed
//!                    └▶ refused: 402 with fresh terms and what to do
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use arc_swap::ArcSwap;
use axum::body::{Body, Bytes, HttpBody};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use merchant::ticket::{AcceptError, Admitted, Delivery, Merchant, Price, Receipt};
use moka::sync::Cache;
use protocol::ticket::{Amount, Issued, OrderId, Quote, Refusal, Ticket, Timestamp, odds, recover};
use sha2::{Digest, Sha256};
use storage::{ClaimStore, SeedStore, WinStore};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::answers::{Again, AnswerLimits, Answers, CallName, NamedCall};
use super::discovery::{Discovery, Service};
use super::limits::{Limiters, RateLimits};
use super::meter::Meter;
use super::operator::{Counters, Upstream as Outcome};
use super::reply::{
    Protocol, add_cors, add_receipt, announced_escrow, payment_required, payment_token, preflight, problem,
    rfc3339, strip_request, strip_response,
};
use super::table::{Charge, Listed, Table};
use super::tee::Tee;
use super::upstream::{Peer, UpstreamError};
use crate::wire::{
    Advice, Challenge, ChallengeKey, Extra, IDEMPOTENCY_KEY, Opening, PAYMENT_AUTHORIZATION,
    PAYMENT_SIGNATURE, Payment, Problem, Requirements, SCHEME, WireError, network, read_credential,
    read_signature,
};

/// Request bodies up to this size are part of what a payment is for; of larger ones only the length is, because they pass
/// through while they arrive.
const FINGERPRINT_BYTES: u64 = 64 * 1024;
/// How long a challenge of the `Payment` scheme can be answered, seconds.
const CHALLENGE_SECONDS: u64 = 600;
/// Prices whose example escrow is remembered.
const PRICES_KEPT: u64 = 1_000;
/// The cap of the escrow that a first 402 names as an example.
const EXAMPLE_CAP: protocol::ticket::Nonce = protocol::ticket::Nonce(10_000);

/// What a gateway's stores must be able to do.
pub trait GateStore: SeedStore + WinStore + ClaimStore + Clone + Send + Sync + 'static {}
impl<S: SeedStore + WinStore + ClaimStore + Clone + Send + Sync + 'static> GateStore for S {}

/// How a gate works, besides its prices.
#[derive(Clone, Copy, Debug)]
pub struct GateConfig {
    /// Largest request body, bytes.
    pub body_bytes: u64,
    /// Longest wait for a small request body, and for the first byte of the upstream's answer.
    pub upstream_timeout: Duration,
    /// Answers kept for payers whose connection broke.
    pub answers: AnswerLimits,
    /// Let scripts of other origins pay and read: answers preflights, adds CORS headers.
    pub cors: bool,
    /// The last address in `X-Forwarded-For` is the client's: only behind a proxy of one's own.
    pub behind_proxy: bool,
}

/// What can change while a gate works.
pub struct Listing {
    table: Table,
    discovery: Discovery,
    limiters: Limiters,
}

impl Listing {
    /// A price list with its documents and limits.
    pub fn new(service: &Service, table: Table, rates: RateLimits) -> Self {
        Self {
            discovery: Discovery::new(service, &table),
            limiters: Limiters::new(rates),
            table,
        }
    }
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 30,
            upstream_timeout: Duration::from_secs(60),
            answers: AnswerLimits::default(),
            cors: true,
            behind_proxy: false,
        }
    }
}

/// Charges for what is behind it. Shared by all requests.
pub struct Gate<S> {
    merchant: Arc<Merchant<S>>,
    listing: ArcSwap<Listing>,
    config: GateConfig,
    answers: Arc<Answers>,
    /// Of the escrows named as examples, by price and prize: a binomial tail takes longer than all the rest.
    penalties: Cache<(Amount, Amount), u128>,
    challenge_key: ChallengeKey,
    counters: Arc<Counters>,
    now: fn() -> Timestamp,
}

/// A payment as it came.
struct Paid {
    payment: Payment,
    ticket: Ticket<Issued>,
    /// The payer's name for the call.
    name: Option<String>,
    protocol: Protocol,
}

/// A payment that was taken, and what for.
struct Sale<S: GateStore> {
    delivery: Box<Delivery<S>>,
    payment: Payment,
    price: Price,
    route: String,
    /// The payer's name for the call, and what the call is.
    name: Option<(CallName, B256)>,
    protocol: Protocol,
    begun: Instant,
}

/// What a request asks for, of which its payment is a part.
struct Call<'a> {
    parts: &'a Parts,
    price: Price,
    listed: Listed<'a>,
}

impl<S: GateStore> Gate<S> {
    /// A gate. `challenge_key` is secret randomness; processes that share a merchant share it, too. `now` is the system's
    /// clock.
    pub fn new(
        merchant: Arc<Merchant<S>>,
        listing: Listing,
        config: GateConfig,
        challenge_key: ChallengeKey,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        let counters = Arc::new(Counters::new(now()));
        Arc::new(Self {
            merchant,
            listing: ArcSwap::from_pointee(listing),
            config,
            answers: Arc::new(Answers::new(config.answers)),
            penalties: Cache::new(PRICES_KEPT),
            challenge_key,
            counters,
            now,
        })
    }

    /// The merchant that it sells for.
    pub fn merchant(&self) -> &Arc<Merchant<S>> {
        &self.merchant
    }

    /// What happened so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Replaces the price list. Requests under way keep the one they began with.
    pub fn set_listing(&self, listing: Listing) {
        self.listing.store(Arc::new(listing));
    }

    /// Answers one request, with the help of `upstream` where it is free or paid for.
    pub async fn answer<U>(self: Arc<Self>, request: Request<Body>, upstream: U) -> Response<Body>
    where
        U: tower::Service<Request<Body>, Response = Response<Body>> + Send + 'static,
        U::Error: Into<axum::BoxError> + Send,
        U::Future: Send,
    {
        let cors = self.config.cors;
        if cors && request.method() == Method::OPTIONS && is_preflight(request.headers()) {
            return preflight(request.headers());
        }
        let meter = Meter::new(Arc::clone(&self.counters));
        let request = request.map(|body| meter.received(body));
        let mut response = self.judge(request, upstream).await;
        if cors {
            add_cors(response.headers_mut());
        }
        response.map(|body| meter.sent(body))
    }

    async fn judge<U>(self: Arc<Self>, request: Request<Body>, upstream: U) -> Response<Body>
    where
        U: tower::Service<Request<Body>, Response = Response<Body>> + Send + 'static,
        U::Error: Into<axum::BoxError> + Send,
        U::Future: Send,
    {
        let begun = Instant::now();
        let (parts, body) = request.into_parts();
        let listing = self.listing.load_full();
        if let Some(ip) = self.client_ip(&parts)
            && !listing.limiters.admits_ip(ip)
        {
            return problem(&too_many(&ip.to_string()));
        }
        let found = listing.discovery.find(&parts.method, parts.uri.path(), || {
            self.well_known(&parts, &listing.table)
        });
        if let Some(document) = found {
            return document;
        }
        let listed = match listing.table.look_up(&parts) {
            Ok(listed) => listed,
            Err(error) => {
                return problem(&Problem::new(
                    400,
                    "path-ambiguous",
                    Advice::Stop,
                    error.to_string(),
                ));
            }
        };
        if let Err(refused) = self.check_length(&body, &parts.headers) {
            return problem(&refused);
        }
        let body = match body.size_hint().exact() {
            Some(_) => body, // its length is within bounds
            None => Body::new(Limited::new(
                body,
                usize::try_from(self.config.body_bytes).unwrap_or(usize::MAX),
            )),
        };
        // A payment is never asked for what only asks what can be asked.
        let price = match listed.charge {
            Charge::Price(price) if parts.method != Method::OPTIONS => price,
            _ => return self.pass(parts, body, upstream).await,
        };
        let call = Call {
            parts: &parts,
            price,
            listed,
        };
        let paid = match self.read_payment(&parts.headers) {
            Ok(Some(paid)) => paid,
            Ok(None) => return self.ask(&call),
            Err(error) => {
                let detail = error.to_string();
                self.counters.refused("payment-malformed");
                return problem(&Problem::new(400, "payment-malformed", Advice::Stop, detail));
            }
        };
        if parts.headers.contains_key(UPGRADE) {
            let detail = "an upgraded connection cannot be paid per request";
            return problem(&Problem::new(501, "upgrade-not-sold", Advice::Stop, detail));
        }
        let (body, fingerprint) = match self.fingerprint(&parts, body).await {
            Ok(known) => known,
            Err(refused) => return problem(&refused),
        };
        if let Some(response) = self.known_call(&call, &paid, fingerprint) {
            return response;
        }
        let order = OrderId(fingerprint);
        let admitted = self
            .merchant
            .admit(order, paid.ticket.clone(), &price, (self.now)())
            .await;
        match admitted {
            Ok(Admitted::Deliver(delivery)) => {
                let payer = delivery.payer();
                if !listing.limiters.admits_payer(payer) {
                    delivery.failed().await; // its ticket is not consumed
                    self.counters.refused("too-many-requests");
                    return problem(&too_many(&format!("payer {payer}")));
                }
                let name = paid.name.map(|name| (paid.payment.escrow, name));
                let sale = Sale {
                    delivery,
                    route: route_of(&call),
                    payment: paid.payment,
                    price,
                    name: name.map(|name| (name, fingerprint)),
                    protocol: paid.protocol,
                    begun,
                };
                self.deliver(Request::from_parts(parts, body), upstream, sale)
                    .await
            }
            Ok(Admitted::Repeat(receipt)) => self.again(receipt.ticket),
            Err(error) => self.refuse(&call, &paid, &error),
        }
    }

    fn client_ip(&self, parts: &Parts) -> Option<IpAddr> {
        let forwarded = || {
            let list = parts.headers.get("x-forwarded-for")?.to_str().ok()?;
            list.rsplit(',').next()?.trim().parse().ok()
        };
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        if self.config.behind_proxy {
            forwarded().or(peer)
        } else {
            peer
        }
    }

    /// `/.well-known/x402`: every route that has a price, with terms that can be paid.
    fn well_known(&self, parts: &Parts, table: &Table) -> serde_json::Value {
        let realm = realm(parts);
        let scheme = parts.uri.scheme_str().unwrap_or("http");
        let resources = table.routes().iter().filter_map(|route| {
            let Charge::Price(price) = route.charge else { return None };
            let terms = self.requirements(&price, Terms::Open, route.pattern.to_string());
            Some(serde_json::json!({
                "resource": format!("{scheme}://{realm}{}", route.pattern.path()), "type": "http", "x402Version": 2,
                "accepts": [terms], "metadata": { "description": route.description },
            }))
        });
        serde_json::json!({ "x402Version": 2, "items": resources.collect::<Vec<_>>() })
    }

    /// Free: what comes from the upstream, without a trace of payments.
    async fn pass<U>(&self, mut parts: Parts, body: Body, upstream: U) -> Response<Body>
    where
        U: tower::Service<Request<Body>, Response = Response<Body>> + Send,
        U::Error: Into<axum::BoxError>,
        U::Future: Send,
    {
        strip_request(&mut parts.headers);
        match upstream.oneshot(Request::from_parts(parts, body)).await {
            Ok(mut response) => {
                self.counters
                    .upstream(Outcome::Status(response.status().as_u16()));
                strip_response(response.headers_mut());
                response
            }
            Err(error) => problem(&self.upstream_failed(&error.into())),
        }
    }

    fn check_length(&self, body: &Body, headers: &HeaderMap) -> Result<(), Problem> {
        let declared = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or_else(|| body.size_hint().lower());
        if declared > self.config.body_bytes {
            return Err(too_large(declared, self.config.body_bytes));
        }
        Ok(())
    }

    fn read_payment(&self, headers: &HeaderMap) -> Result<Option<Paid>, WireError> {
        let domain = self.merchant.domain();
        let named = headers.get(IDEMPOTENCY_KEY).map(|value| text(value).to_owned());
        if let Some(value) = headers.get(PAYMENT_SIGNATURE) {
            let read = read_signature(text(value), domain)?;
            return Ok(Some(Paid {
                ticket: read.payment.ticket(domain)?,
                payment: read.payment,
                name: read.identifier.or(named),
                protocol: Protocol::X402,
            }));
        }
        let token = [PAYMENT_AUTHORIZATION, AUTHORIZATION]
            .iter()
            .find_map(|name| headers.get(name).and_then(payment_token));
        let Some(token) = token else { return Ok(None) };
        let read = read_credential(token, &self.challenge_key, domain)?;
        Ok(Some(Paid {
            ticket: read.payment.ticket(domain)?,
            payment: read.payment,
            name: named,
            protocol: Protocol::Payment,
        }))
    }

    /// What the payment is for: method, path, query, the call's body where it is small, its length where it is not.
    async fn fingerprint(&self, parts: &Parts, body: Body) -> Result<(Body, B256), Problem> {
        let mut hash = Sha256::new();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        for part in ["micropay/call/v1", parts.method.as_str(), target] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let small = body
            .size_hint()
            .upper()
            .is_some_and(|upper| upper <= FINGERPRINT_BYTES);
        if !small {
            hash.update(body.size_hint().exact().unwrap_or(u64::MAX).to_be_bytes());
            return Ok((body, B256::from_slice(&hash.finalize())));
        }
        if body.is_end_stream() {
            return Ok((body, B256::from_slice(&hash.finalize())));
        }
        let collected = tokio::time::timeout(self.config.upstream_timeout, body.collect()).await;
        let bytes: Bytes = match collected {
            Ok(Ok(bytes)) => bytes.to_bytes(),
            Ok(Err(error)) => {
                return Err(Problem::new(400, "body-broken", Advice::Retry, error.to_string()));
            }
            Err(_) => {
                let seconds = self.config.upstream_timeout.as_secs();
                let detail = format!("the request's body did not arrive within {seconds} s");
                return Err(Problem::new(408, "body-too-slow", Advice::Retry, detail));
            }
        };
        hash.update(&bytes);
        Ok((Body::from(bytes), B256::from_slice(&hash.finalize())))
    }

    /// A call that its payer named, and paid for before with whatever ticket.
    fn known_call(&self, call: &Call<'_>, paid: &Paid, fingerprint: B256) -> Option<Response<Body>> {
        let name = paid.name.clone()?;
        let known = self.answers.named(&(paid.payment.escrow, name.clone()))?;
        // The name alone is nobody's: whoever asks must hold the escrow's key.
        let signer = recover(paid.ticket.digest(), paid.ticket.signature()).map(|key| key.address());
        if signer.ok() != Some(paid.payment.escrow) {
            return None;
        }
        if known.fingerprint != fingerprint {
            let detail = format!("call {name:?} was another request, {}", known.fingerprint);
            return Some(problem(&Problem::new(
                409,
                "call-name-reused",
                Advice::Stop,
                detail,
            )));
        }
        debug!(path = call.parts.uri.path(), ticket = %known.ticket, "a named call again");
        Some(self.again(known.ticket))
    }

    /// The answer that was paid for before.
    fn again(&self, ticket: B256) -> Response<Body> {
        self.counters.replayed();
        let lost = |detail| problem(&Problem::new(410, "answer-not-kept", Advice::Stop, detail));
        match self.answers.get(ticket).map(|answer| answer.again()) {
            Some(Again::Whole(response)) => response,
            Some(Again::Passing) => {
                let detail = format!("the answer that ticket {ticket} paid for is on its way");
                problem(&Problem::new(409, "in-progress", Advice::Retry, detail))
            }
            Some(Again::Lost(status)) => lost(format!(
                "ticket {ticket} paid for an answer with status {}, which was too large to keep, or broke off",
                status.as_u16()
            )),
            None => lost(format!(
                "ticket {ticket} paid for an answer that is no longer kept"
            )),
        }
    }

    /// Asks the upstream for what was paid for. Goes on to the end whether or not the payer waits: what was paid for can be
    /// asked for again.
    async fn deliver<U>(
        self: Arc<Self>,
        mut request: Request<Body>,
        upstream: U,
        sale: Sale<S>,
    ) -> Response<Body>
    where
        U: tower::Service<Request<Body>, Response = Response<Body>> + Send + 'static,
        U::Error: Into<axum::BoxError> + Send,
        U::Future: Send,
    {
        strip_request(request.headers_mut());
        let gate = Arc::clone(&self);
        let work = tokio::spawn(async move {
            let limit = gate.config.upstream_timeout;
            let asked_at = Instant::now();
            let refusal = match tokio::time::timeout(limit, upstream.oneshot(request)).await {
                Ok(Ok(response)) if !response.status().is_server_error() => {
                    let added = sale.begun.elapsed().saturating_sub(asked_at.elapsed());
                    gate.counters.added(added);
                    gate.counters
                        .upstream(Outcome::Status(response.status().as_u16()));
                    return gate.sold(response, sale).await;
                }
                Ok(Ok(mut failed)) => {
                    gate.counters.upstream(Outcome::Status(failed.status().as_u16()));
                    strip_response(failed.headers_mut());
                    failed
                }
                Ok(Err(error)) => problem(&gate.upstream_failed(&error.into())),
                Err(_) => {
                    gate.counters.upstream(Outcome::TimedOut);
                    let seconds = limit.as_secs();
                    let detail =
                        format!("the upstream did not answer within {seconds} s; the ticket is not consumed");
                    problem(&Problem::new(504, "upstream-timeout", Advice::Retry, detail))
                }
            };
            sale.delivery.failed().await;
            refusal
        });
        match work.await {
            Ok(response) => response,
            Err(error) => {
                warn!(%error, "a paid request failed inside");
                let detail = "the gateway failed; ask again with the same payment";
                problem(&Problem::new(500, "internal", Advice::Retry, detail))
            }
        }
    }

    /// The upstream answered: the ticket is consumed, and its receipt goes with the answer.
    async fn sold(&self, response: Response<Body>, sale: Sale<S>) -> Response<Body> {
        let Sale {
            delivery,
            payment,
            price,
            route,
            name,
            protocol,
            begun: _,
        } = sale;
        let (mut head, body) = response.into_parts();
        strip_response(&mut head.headers);
        let length = body.size_hint().exact();
        let mut answer = None;
        let keep = |receipt: &Receipt| {
            let next = self.requirements(&price, Terms::Known(payment.escrow, receipt.quote), route);
            add_receipt(&mut head.headers, protocol, &payment, receipt, next, (self.now)());
            let ticket = receipt.ticket;
            if let Some((name, fingerprint)) = name {
                self.answers.name(name, NamedCall { ticket, fingerprint });
            }
            answer = Some(
                self.answers
                    .keep(ticket, head.status, head.headers.clone(), length),
            );
        };
        let receipt = delivery.delivered(keep).await;
        self.counters.accepted(
            receipt.payer,
            payment.escrow,
            receipt.price,
            receipt.probability,
            receipt.won,
        );
        let answer = answer.expect("kept");
        let body = Tee::new(body, answer, self.config.answers);
        Response::from_parts(head, Body::new(body))
    }

    /// What a request is answered whose upstream gave nothing.
    fn upstream_failed(&self, error: &axum::BoxError) -> Problem {
        if let Some(UpstreamError::BodyTooLarge { limit }) = error.downcast_ref::<UpstreamError>() {
            return too_large(limit.saturating_add(1), *limit);
        }
        warn!(%error, "the upstream failed");
        self.counters.upstream(Outcome::Failed);
        self.counters.failed((self.now)(), "upstream", error);
        let detail = "the upstream gave no answer; the ticket is not consumed";
        Problem::new(502, "upstream-failed", Advice::Retry, detail)
    }

    /// 402 for a request without payment.
    fn ask(&self, call: &Call<'_>) -> Response<Body> {
        let detail = format!("this costs {} of asset {}", call.price.price, call.price.asset);
        let why = Problem::new(402, "payment-required", Advice::NewNonce, detail);
        let escrow = announced_escrow(&call.parts.headers).filter(|escrow| self.merchant.knows(*escrow));
        let known = escrow.and_then(|escrow| Some((escrow, self.merchant.quote(escrow, &call.price).ok()?)));
        let terms = known.map_or(Terms::Open, |(escrow, quote)| Terms::Known(escrow, quote));
        self.required(call, &why, terms)
    }

    fn refuse(&self, call: &Call<'_>, paid: &Paid, error: &AcceptError) -> Response<Body> {
        let refusal = match error {
            AcceptError::Refused(refusal) => refusal,
            AcceptError::Busy(_) => {
                self.counters.refused("in-progress");
                return problem(&Problem::new(
                    409,
                    "in-progress",
                    Advice::Retry,
                    error.to_string(),
                ));
            }
            AcceptError::Store(_) | AcceptError::LeaseOver { .. } => {
                warn!(%error, "a ticket cannot be accepted now");
                self.counters.refused("cannot-accept-now");
                self.counters.failed((self.now)(), "accept", error);
                return problem(&Problem::new(
                    503,
                    "cannot-accept-now",
                    Advice::Retry,
                    error.to_string(),
                ));
            }
        };
        debug!(rule = refusal.rule(), %refusal, escrow = %paid.payment.escrow, "refused");
        self.counters.refused(refusal.rule());
        let why = Problem::refused(refusal);
        if why.status != 402 {
            return problem(&why);
        }
        let quote = match refusal {
            // Anybody can make up an address; only what is on the chain gets terms of its own.
            Refusal::EscrowMissing { .. } => None,
            _ => self.merchant.quote(paid.payment.escrow, &call.price).ok(),
        };
        let terms = quote.map_or(Terms::Open, |quote| Terms::Known(paid.payment.escrow, quote));
        self.required(call, &why, terms)
    }

    fn required(&self, call: &Call<'_>, why: &Problem, terms: Terms) -> Response<Body> {
        let requirements = self.requirements(&call.price, terms, route_of(call));
        let realm = realm(call.parts);
        let expires = rfc3339((self.now)().0 + CHALLENGE_SECONDS);
        let challenge = Challenge::new(&self.challenge_key, &realm, &requirements, expires);
        let scheme = call.parts.uri.scheme_str().unwrap_or("http");
        let url = format!("{scheme}://{realm}{}", call.parts.uri.path());
        let description = call.listed.route.and_then(|route| route.description.clone());
        payment_required(why, requirements, url, &challenge, description)
    }

    /// The terms of a price, as they travel.
    fn requirements(&self, price: &Price, terms: Terms, route: String) -> Requirements {
        let (domain, policy) = (self.merchant.domain(), self.merchant.policy());
        let (escrow, commitment, prize, win_threshold, nonce_floor) = match terms {
            Terms::Open => {
                let open = self.merchant.open_quote(price);
                (None, open.commitment, open.prize, open.win_threshold, 0)
            }
            Terms::Known(escrow, quote) => (
                Some(escrow),
                quote.commitment,
                quote.prize,
                quote.win_threshold,
                quote.nonce_floor.0,
            ),
        };
        let opening = escrow.is_none().then(|| Opening {
            ticket_cap: EXAMPLE_CAP.0,
            min_penalty: self.penalties.get_with((price.price, prize), || {
                odds::required_penalty(prize, EXAMPLE_CAP, win_threshold, policy.epsilon).0
            }),
        });
        Requirements {
            scheme: SCHEME.to_owned(),
            network: network(domain.chain_id()),
            amount: price.price.0,
            asset: price.asset,
            pay_to: self.merchant.recipient(),
            max_timeout_seconds: policy.max_ticket_life.0,
            extra: Extra {
                contract: domain.contract(),
                commitment,
                prize: prize.0,
                win_threshold: win_threshold.0,
                min_prize: price.min_prize.0,
                max_prize: price.max_prize.0,
                opening,
                min_ticket_life: policy.claim_margin.0,
                max_ticket_life: policy.max_ticket_life.0,
                nonce_floor,
                escrow,
                route,
            },
        }
    }
}

/// Whom the terms are for.
#[derive(Clone, Copy)]
enum Terms {
    /// Any escrow.
    Open,
    /// This one.
    Known(Address, Quote),
}

fn route_of(call: &Call<'_>) -> String {
    match call.listed.route {
        Some(route) => route.pattern.to_string(),
        // A pricer looks at more than the path: its answer is for this request alone.
        None => format!("{} {}", call.parts.method, escaped(call.parts.uri.path())),
    }
}

/// A path as a pattern that matches itself only.
fn escaped(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        if "*?[]{}\\!".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

fn realm(parts: &Parts) -> String {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    host.or(parts.uri.host()).unwrap_or("localhost").to_owned()
}

/// What is not text is no payment.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn too_large(got: u64, limit: u64) -> Problem {
    let detail = format!("the body has {got} bytes, at most {limit} are taken");
    Problem::new(413, "body-too-large", Advice::Stop, detail)
}

fn too_many(whose: &str) -> Problem {
    let detail = format!("{whose} asks too often; wait a moment");
    Problem::new(429, "too-many-requests", Advice::Retry, detail)
}
