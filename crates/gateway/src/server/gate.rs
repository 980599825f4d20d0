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
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use arc_swap::ArcSwap;
use axum::body::{Body, HttpBody};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Limited;
use lru::LruCache;
use merchant::ticket::{AcceptError, Admitted, Delivery, Merchant, Price, Receipt};
use parking_lot::Mutex;
use protocol::ticket::{Amount, Issued, OrderId, Quote, Refusal, Ticket, Timestamp, odds};
use sha2::{Digest, Sha256};
use storage::{ClaimStore, SeedStore, WinStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::answers::{Again, AnswerLimits, Answers, Begun, CallName, NamedCall};
use super::detach::Detach;
use super::discovery::{Discovery, Service};
use super::limits::{Limiters, RateLimits};
use super::meter::Meter;
use super::operator::{Counters, Upstream as Outcome};
use super::renewal::{Basis, Renewals};
use super::reply::{
    Protocol, add_cors, add_receipt, announced_escrow, payment_required, payment_token, preflight, problem,
    rfc3339, strip_request, strip_response,
};
use super::table::{Charge, Listed, Table};
use super::tee::Tee;
use super::upload::{BodyError, Upload, fingerprint};
use super::upstream::{Peer, UpstreamError, upgrade_of};
use crate::wire::{
    Advice, Challenge, ChallengeKey, Extra, IDEMPOTENCY_KEY, Opening, PAYMENT_AUTHORIZATION,
    PAYMENT_SIGNATURE, Payload, Payment, Problem, Requirements, SCHEME, WireError, network, read_credential,
    read_signature,
};

/// How long a challenge of the `Payment` scheme can be answered, seconds.
const CHALLENGE_SECONDS: u64 = 600;
/// Prices whose example escrow is remembered.
const PRICES_KEPT: NonZeroUsize = NonZeroUsize::new(1_000).expect("is not 0");
/// Longest name of a server (253 bytes, and a port).
const REALM_BYTES: usize = 261;
/// Longest pattern, path and description that a 402 repeats, bytes: its headers must pass through proxies that take 4 KB.
const REPEATED_BYTES: usize = 96;
/// A pattern that no path matches.
const NO_OTHER_PATH: &str = r"~[^\s\S]";
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
    /// Longest wait for the beginning of a request's body, and for the first byte of the upstream's answer.
    pub upstream_timeout: Duration,
    /// Paid calls at the upstream at a time, whether or not their payers still wait; whoever comes then is to ask again.
    pub calls: usize,
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
            calls: 4096,
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
    calls: Arc<Semaphore>,
    /// Of the escrows named as examples, by price and prize: a binomial tail takes longer than all the rest.
    penalties: Mutex<LruCache<(Amount, Amount), u128>>,
    renewals: Renewals,
    challenge_key: ChallengeKey,
    counters: Arc<Counters>,
    now: fn() -> Timestamp,
}

/// A payment as it came.
struct Paid {
    payment: Payment,
    ticket: Ticket<Issued>,
    /// The payer's name for the call.
    name: Option<Vec<u8>>,
    protocol: Protocol,
}

/// A payment that was taken, and what for.
struct Sale<S: GateStore> {
    delivery: Box<Delivery<S>>,
    payment: Payment,
    price: Price,
    route: String,
    /// The payer's name for the call, and what the call is.
    name: Option<(Begun, B256)>,
    protocol: Protocol,
    begun: Instant,
    place: OwnedSemaphorePermit,
}

/// What a request asks for, of which its payment is a part.
struct Call<'a> {
    parts: &'a Parts,
    realm: &'a str,
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
            calls: Arc::new(Semaphore::new(config.calls)),
            penalties: Mutex::new(LruCache::new(PRICES_KEPT)),
            renewals: Renewals::new(),
            challenge_key,
            counters,
            now,
        })
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
        let Some(realm) = realm(&parts) else {
            let detail = "the request names no server, or more than one";
            return problem(&Problem::new(400, "host-malformed", Advice::Stop, detail));
        };
        if parts.method == Method::CONNECT {
            let detail = "this is no proxy for connections";
            return problem(&Problem::new(501, "connect-not-served", Advice::Stop, detail));
        }
        let found = listing.discovery.find(&parts.method, parts.uri.path(), || {
            self.well_known(&parts, &realm, &listing.table)
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
        let price = match listed.charge {
            Charge::Free => return self.pass(parts, body, upstream).await,
            // A payment is never asked for what only asks what can be asked.
            Charge::Price(_) if parts.method == Method::OPTIONS => {
                return self.options(parts, upstream).await;
            }
            Charge::Price(price) => price,
        };
        let call = Call {
            parts: &parts,
            realm: &realm,
            price,
            listed,
        };
        if upgrade_of(&parts.headers).is_some() {
            let detail = "an upgraded connection cannot be paid per request";
            return problem(&Problem::new(501, "upgrade-not-sold", Advice::Stop, detail));
        }
        let paid = match self.read_payment(&parts.headers) {
            Ok(Some(paid)) => paid,
            Ok(None) => return self.ask(&call),
            Err(error) => {
                let detail = error.to_string();
                self.counters.refused("payment-malformed");
                return problem(&Problem::new(400, "payment-malformed", Advice::Stop, detail));
            }
        };
        // Before anything is drawn: a payer must not learn of tickets that it can take back.
        if let Err(refused) = self.check_share(&listing, &paid) {
            return problem(&refused);
        }
        let (body, fingerprint) = match self.fingerprint(&parts, body).await {
            Ok(known) => known,
            Err(refused) => return problem(&refused),
        };
        if let Some(response) = self.known_call(&call, &paid, fingerprint) {
            return response;
        }
        let Ok(place) = Arc::clone(&self.calls).try_acquire_owned() else {
            self.counters.refused("too-many-calls");
            let detail = format!("{} calls are under way; wait a moment", self.config.calls);
            return problem(&Problem::new(503, "too-many-calls", Advice::Retry, detail));
        };
        let order = OrderId(fingerprint);
        let admitted = self
            .merchant
            .admit(order, paid.ticket.clone(), &price, (self.now)())
            .await;
        match admitted {
            Ok(Admitted::Deliver(delivery)) => {
                let begun_call = match &paid.name {
                    None => None,
                    Some(name) => match self.begin(CallName::new(paid.payment.escrow, name)) {
                        Some(begun) => Some((begun, fingerprint)),
                        None => {
                            delivery.failed().await; // its ticket is not consumed
                            self.counters.refused("in-progress");
                            let detail = "this call is under way with another ticket; ask again";
                            return problem(&Problem::new(409, "in-progress", Advice::Retry, detail));
                        }
                    },
                };
                let sale = Sale {
                    delivery,
                    route: route_of(&call),
                    payment: paid.payment,
                    price,
                    name: begun_call,
                    protocol: paid.protocol,
                    begun,
                    place,
                };
                self.deliver(Request::from_parts(parts, body), upstream, sale)
                    .await
            }
            Ok(Admitted::Repeat(receipt)) if receipt.public => {
                let ticket = receipt.ticket;
                let detail = format!("ticket {ticket} won and is being claimed: it is no secret any more");
                problem(&Problem::new(410, "answer-not-kept", Advice::Stop, detail))
            }
            Ok(Admitted::Repeat(receipt)) => self.again(receipt.ticket),
            Err(error) => self.refuse(&call, &paid, &error),
        }
    }

    fn client_ip(&self, parts: &Parts) -> Option<IpAddr> {
        let forwarded = || {
            // Some proxies add a line of their own to what the client sent.
            let list = parts.headers.get_all("x-forwarded-for").iter().next_back()?;
            list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
        };
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        if self.config.behind_proxy {
            forwarded().or(peer)
        } else {
            peer
        }
    }

    /// `/.well-known/x402`: every route that has a price, with terms that can be paid.
    fn well_known(&self, parts: &Parts, realm: &str, table: &Table) -> serde_json::Value {
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
        let upload = Upload::default();
        let request = Request::from_parts(parts, upload.watch(body));
        let limit = self.config.upstream_timeout;
        let mut answer = std::pin::pin!(upstream.oneshot(request));
        let mut passed = 0;
        let answer = loop {
            match tokio::time::timeout(limit, &mut answer).await {
                // A long upload is no silence.
                Err(_) if upload.bytes() > passed => passed = upload.bytes(),
                answer => break answer,
            }
        };
        match answer {
            Ok(Ok(mut response)) => {
                self.counters
                    .upstream(Outcome::Status(response.status().as_u16()));
                strip_response(response.headers_mut());
                response
            }
            Ok(Err(error)) => problem(&self.upstream_failed(&error.into(), &upload)),
            Err(_) => problem(&self.timed_out(&upload)),
        }
    }

    /// What can be asked of something that has a price. Servers that take every method alike would answer with the good
    /// itself: only the head of the answer is given.
    async fn options<U>(&self, mut parts: Parts, upstream: U) -> Response<Body>
    where
        U: tower::Service<Request<Body>, Response = Response<Body>> + Send,
        U::Error: Into<axum::BoxError>,
        U::Future: Send,
    {
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        let mut answer = self.pass(parts, Body::empty(), upstream).await;
        for name in [CONTENT_LENGTH, CONTENT_ENCODING] {
            answer.headers_mut().remove(name);
        }
        answer.map(|_| Body::empty())
    }

    /// A payer's share of requests. It is counted where the payer itself signed, or one could use up another's.
    fn check_share(&self, listing: &Listing, paid: &Paid) -> Result<(), Problem> {
        if !listing.limiters.limit_payers() {
            return Ok(());
        }
        match self.merchant.payer(paid.payment.escrow) {
            Some(payer)
                if self.merchant.is_of_payer(&paid.ticket) && !listing.limiters.admits_payer(payer) =>
            {
                self.counters.refused("too-many-requests");
                Err(too_many(&format!("payer {payer}")))
            }
            _ => Ok(()),
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
        let named = headers.get(IDEMPOTENCY_KEY).map(|name| name.as_bytes().to_vec());
        if let Some(value) = headers.get(PAYMENT_SIGNATURE) {
            let read = read_signature(value.to_str().unwrap_or_default(), domain)?;
            let Payload::Ticket(payment) = read.payment else {
                unreachable!("only tickets are read")
            };
            return Ok(Some(Paid {
                ticket: payment.ticket(domain)?,
                payment,
                name: read.identifier.map(String::into_bytes).or(named),
                protocol: Protocol::X402,
            }));
        }
        let token = [PAYMENT_AUTHORIZATION, AUTHORIZATION]
            .iter()
            .find_map(|name| headers.get(name).and_then(payment_token));
        let Some(token) = token else { return Ok(None) };
        let read = read_credential(token, &self.challenge_key, domain)?;
        let Payload::Ticket(payment) = read.payment else {
            unreachable!("only tickets are read")
        };
        Ok(Some(Paid {
            ticket: payment.ticket(domain)?,
            payment,
            name: named,
            protocol: Protocol::Payment,
        }))
    }

    /// What the payment is for: method, path, query, the beginning of the body, and its length.
    async fn fingerprint(&self, parts: &Parts, body: Body) -> Result<(Body, B256), Problem> {
        let mut hash = Sha256::new();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        for part in ["micropay/call/v1", parts.method.as_str(), target] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let limit = self.config.upstream_timeout;
        match fingerprint(&mut hash, body, limit).await {
            Ok(body) => Ok((body, B256::from_slice(&hash.finalize()))),
            Err(BodyError::TooLarge) => {
                let limit = self.config.body_bytes;
                Err(too_large(limit.saturating_add(1), limit))
            }
            Err(BodyError::TooSlow) => Err(too_slow(limit)),
            Err(BodyError::Broken(error)) => Err(Problem::new(400, "body-broken", Advice::Retry, error)),
        }
    }

    /// A call that its payer named, and paid for before with whatever ticket.
    fn known_call(&self, call: &Call<'_>, paid: &Paid, fingerprint: B256) -> Option<Response<Body>> {
        let name = paid.name.as_ref()?;
        let known = self.answers.named(CallName::new(paid.payment.escrow, name))?;
        // The name alone is nobody's, and old winners with their signatures are on the chain.
        if !self.merchant.is_of_payer(&paid.ticket) {
            return None;
        }
        if known.fingerprint != fingerprint {
            let detail = format!("a call of this name was another request, {}", known.fingerprint);
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

    /// Begins a named call, unless one of its name is under way, or was paid for since it was looked for.
    fn begin(&self, name: CallName) -> Option<Begun> {
        let begun = self.answers.begin(name)?;
        self.answers.named(begun.name()).is_none().then_some(begun)
    }

    /// The answer that was paid for before.
    fn again(&self, ticket: B256) -> Response<Body> {
        let gone = |detail| problem(&Problem::new(410, "answer-not-kept", Advice::Stop, detail));
        let Some(answer) = self.answers.get(ticket) else {
            return gone(format!(
                "ticket {ticket} paid for an answer that is no longer kept"
            ));
        };
        match answer.again() {
            Again::Whole(response) => {
                self.counters.replayed();
                response
            }
            Again::Passing => {
                let detail = format!("the answer that ticket {ticket} paid for is still on its way");
                problem(&Problem::new(409, "in-progress", Advice::Retry, detail))
            }
            Again::Gone(status) => gone(format!(
                "ticket {ticket} paid for an answer with status {}, which broke off or was too large to keep",
                status.as_u16()
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
        let upload = Upload::default();
        let request = request.map(|body| upload.watch(body));
        let work = Detach::new(async move {
            let limit = gate.config.upstream_timeout;
            let asked_at = Instant::now();
            // Whoever breaks off its own request does not get a winner back for it.
            let (payer_failed, refusal) = match tokio::time::timeout(limit, upstream.oneshot(request)).await {
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
                    (false, failed)
                }
                Ok(Err(error)) => (
                    upload.is_broken(),
                    problem(&gate.upstream_failed(&error.into(), &upload)),
                ),
                Err(_) => (upload.is_late(), problem(&gate.timed_out(&upload))),
            };
            if payer_failed {
                sale.delivery.kept();
            } else {
                sale.delivery.failed().await;
            }
            refusal
        });
        work.await
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
            place,
        } = sale;
        let (mut head, body) = response.into_parts();
        strip_response(&mut head.headers);
        let length = body.size_hint().exact();
        let mut answer = None;
        let keep = |receipt: &Receipt| {
            let (escrow, quote) = (payment.escrow, receipt.quote);
            let basis = Basis { quote, price, route };
            let next = self.renewals.find(escrow, basis, |basis| {
                self.requirements(&price, Terms::Known(escrow, quote), basis.route.clone())
            });
            let (domain, now) = (self.merchant.domain(), (self.now)());
            add_receipt(&mut head.headers, protocol, &payment, domain, receipt, next, now);
            let ticket = receipt.ticket;
            answer = Some(self.answers.keep(ticket, head.status, &head.headers, length));
            if let Some((begun, fingerprint)) = name {
                begun.paid(NamedCall { ticket, fingerprint });
            }
        };
        let receipt = delivery.delivered(keep).await;
        let (payer, escrow, worth) = (receipt.payer, payment.escrow, receipt.price);
        self.counters
            .accepted(payer, escrow, worth, receipt.probability, receipt.won);
        let answer = answer.expect("kept");
        let body = Tee::new(body, answer, self.config.answers, place);
        Response::from_parts(head, Body::new(body))
    }

    /// What a request is answered whose upstream did not answer in time.
    fn timed_out(&self, upload: &Upload) -> Problem {
        let limit = self.config.upstream_timeout;
        if upload.is_late() {
            return too_slow(limit);
        }
        self.counters.upstream(Outcome::TimedOut);
        let seconds = limit.as_secs();
        let detail = format!("the upstream did not answer within {seconds} s; no ticket is consumed");
        Problem::new(504, "upstream-timeout", Advice::Retry, detail)
    }

    /// What a request is answered whose upstream gave nothing.
    fn upstream_failed(&self, error: &axum::BoxError, upload: &Upload) -> Problem {
        if let Some(UpstreamError::BodyTooLarge { limit }) = error.downcast_ref::<UpstreamError>() {
            return too_large(limit.saturating_add(1), *limit);
        }
        if upload.is_broken() {
            debug!(%error, "a request broke off");
            let detail = "the request's body broke off";
            return Problem::new(400, "body-broken", Advice::Retry, detail);
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
        let expires = rfc3339((self.now)().0 + CHALLENGE_SECONDS);
        let challenge = Challenge::new(&self.challenge_key, call.realm, &requirements, expires);
        let scheme = call.parts.uri.scheme_str().unwrap_or("http");
        let url = format!("{scheme}://{}{}", call.realm, beginning(call.parts.uri.path()));
        let description = call.listed.route.and_then(|route| route.description.as_deref());
        let description = description.map(|text| beginning(text).to_owned());
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
            min_penalty: *self.penalties.lock().get_or_insert((price.price, prize), || {
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

/// What the terms are for. A pricer looks at more than the path, so that its answer is for this request alone.
fn route_of(call: &Call<'_>) -> String {
    let pattern = call.listed.route.map(|route| route.pattern.to_string());
    let own = || format!("{} {}", call.parts.method, escaped(call.parts.uri.path()));
    let short = |pattern: &String| pattern.len() <= REPEATED_BYTES;
    pattern
        .filter(short)
        .or_else(|| Some(own()).filter(short))
        .unwrap_or_else(|| format!("{} {NO_OTHER_PATH}", call.parts.method))
}

/// So much of a text as a 402 repeats.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(REPEATED_BYTES)]
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

/// The server's name, as the client has it. `None` where it is no name: it goes into headers and documents.
fn realm(parts: &Parts) -> Option<String> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let named = hosts.next().map_or_else(
        || Some(parts.uri.authority().map_or("", |authority| authority.as_str())),
        |host| host.to_str().ok(),
    )?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let is_one = hosts.next().is_none() && named.len() <= REALM_BYTES && named.bytes().all(is_name);
    let name = if named.is_empty() { "localhost" } else { named };
    is_one.then(|| name.to_owned())
}

fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn too_large(got: u64, limit: u64) -> Problem {
    let detail = format!("the body has {got} bytes, at most {limit} are taken");
    Problem::new(413, "body-too-large", Advice::Stop, detail)
}

fn too_slow(limit: Duration) -> Problem {
    let seconds = limit.as_secs();
    let detail = format!("the request's body did not arrive within {seconds} s");
    Problem::new(408, "body-too-slow", Advice::Retry, detail)
}

fn too_many(whose: &str) -> Problem {
    let detail = format!("{whose} asks too often; wait a moment");
    Problem::new(429, "too-many-requests", Advice::Retry, detail)
}
