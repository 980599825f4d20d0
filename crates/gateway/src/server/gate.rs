//! The payment path: looks up the price, reads the payment, admits it, asks the upstream, and adds the receipt. No chain
//! call, and no lock while the upstream works. It is one path for every kind of payment; what differs is in `kind`.
//!
//! ```text
//!   request ─▶ free? ──────────────────────────────────────────────▶ upstream
//!     └▶ payment? ─no─▶ 402 with terms
//!          └▶ this call was paid before? ─▶ its answer again
//!               └▶ admit (winner, word on disk) ─▶ upstream ─▶ below 500: consumed, receipt, answer kept
//!                    │                                 └─────▶ 5xx, time-out, no answer: not consumed
//!                    └▶ refused: 402 with fresh terms and what to do
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use arc_swap::ArcSwap;
use axum::body::{Body, HttpBody};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Limited;
use merchant::channel::Vendor;
use merchant::ticket::{Merchant, Price};
use protocol::channel::Key;
use protocol::ticket::{OrderId, Quote, Timestamp};
use sha2::{Digest, Sha256};
use storage::channel::{ChannelDomainStore, SettlementStore, VendorChannelStore};
use storage::{ClaimStore, SeedStore, WinStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::answers::{Again, AnswerLimits, Answers, Begun, CallName, NamedCall};
use super::detach::Detach;
use super::discovery::{Discovery, Service};
use super::kind::ticket::Terms;
use super::kind::{ChannelSeller, Desks, Goods, Paying, Refused, Sold, Taken, Target, TicketSeller};
use super::limits::{Limiters, RateLimits};
use super::meter::Meter;
use super::operator::{Counters, Upstream as Outcome};
use super::reply::{
    Asked, Protocol, add_cors, announced_escrow, payment_required, payment_token, preflight, problem,
    rfc3339, strip_request, strip_response,
};
use super::table::{Charge, Kinds, Listed, Table};
use super::tee::Tee;
use super::upload::{BodyError, Upload, fingerprint};
use super::upstream::{Peer, UpstreamError, upgrade_of};
use crate::wire::{
    Advice, CHANNELS, Challenge, ChallengeKey, Contracts, IDEMPOTENCY_KEY, PAYMENT_AUTHORIZATION,
    PAYMENT_SIGNATURE, Payload, Problem, Way, WireError, read_credential, read_signature,
};

/// What is said of payment where none was made.
const UNPAID: &str = "nothing is charged";
/// How long a challenge of the `Payment` scheme can be answered, seconds.
const CHALLENGE_SECONDS: u64 = 600;
/// Longest name of a server (253 bytes, and a port).
const REALM_BYTES: usize = 261;
/// Longest pattern, path and description that a 402 repeats, bytes: its headers must pass through proxies that take 4 KB.
const REPEATED_BYTES: usize = 96;
/// A pattern that no path matches.
const NO_OTHER_PATH: &str = r"~[^\s\S]";

/// What a gateway's stores must be able to do.
pub trait GateStore:
    SeedStore
    + WinStore
    + ClaimStore
    + ChannelDomainStore
    + VendorChannelStore
    + SettlementStore
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GateStore for S where
    S: SeedStore
        + WinStore
        + ClaimStore
        + ChannelDomainStore
        + VendorChannelStore
        + SettlementStore
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Who is behind a gate: what it sells by.
pub struct Sellers<S> {
    tickets: Option<Arc<Merchant<S>>>,
    channels: Option<Arc<Vendor<S>>>,
    account: Option<Key>,
}

impl<S> Sellers<S> {
    /// Nobody yet.
    fn none() -> Self {
        Self {
            tickets: None,
            channels: None,
            account: None,
        }
    }

    /// By channels alone.
    pub fn channels(vendor: Arc<Vendor<S>>) -> Self {
        Self::none().and_channels(vendor)
    }

    /// By channels, too.
    #[must_use]
    pub fn and_channels(mut self, vendor: Arc<Vendor<S>>) -> Self {
        self.channels = Some(vendor);
        self
    }

    /// With the key of the account that is paid, channels are closed together with their clients when these ask for it.
    #[must_use]
    pub fn closing_with(mut self, account: Key) -> Self {
        self.account = Some(account);
        self
    }
}

impl<S> From<Arc<Merchant<S>>> for Sellers<S> {
    /// By tickets.
    fn from(merchant: Arc<Merchant<S>>) -> Self {
        Self {
            tickets: Some(merchant),
            ..Self::none()
        }
    }
}

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
    service: Service,
    table: Table,
    discovery: Discovery,
    limiters: Limiters,
}

impl Listing {
    /// A price list with its documents and limits.
    pub fn new(service: &Service, table: Table, rates: RateLimits) -> Self {
        Self {
            discovery: Discovery::new(service, &table, Kinds::TICKET),
            limiters: Limiters::new(rates),
            service: service.clone(),
            table,
        }
    }

    /// The documents say what the gate sells by.
    fn sold_by(mut self, kinds: Kinds) -> Self {
        self.discovery = Discovery::new(&self.service, &self.table, kinds);
        self
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
    desks: Desks<S>,
    contracts: Contracts,
    listing: ArcSwap<Listing>,
    config: GateConfig,
    answers: Arc<Answers>,
    calls: Arc<Semaphore>,
    challenge_key: ChallengeKey,
    counters: Arc<Counters>,
    now: fn() -> Timestamp,
}

/// A payment as it came.
struct Paid<S> {
    paying: Paying<S>,
    /// The payer's name for the call.
    name: Option<Vec<u8>>,
    protocol: Protocol,
}

/// A payment that was taken, and what for.
struct Sale<S: GateStore> {
    goods: Goods<S>,
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
    /// What it can be paid with.
    kinds: Kinds,
}

impl<S: GateStore> Gate<S> {
    /// A gate before these sellers. `challenge_key` is secret randomness; processes that share a seller share it, too. `now` is the system's
    /// clock.
    pub fn new(
        sellers: impl Into<Sellers<S>>,
        listing: Listing,
        config: GateConfig,
        challenge_key: ChallengeKey,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        let counters = Arc::new(Counters::new(now()));
        let Sellers {
            tickets,
            channels,
            account,
        } = sellers.into();
        let desks = Desks {
            tickets: tickets.map(TicketSeller::new),
            channels: channels.map(|vendor| ChannelSeller::new(vendor, account)),
        };
        Arc::new(Self {
            contracts: desks.contracts(),
            listing: ArcSwap::from_pointee(listing.sold_by(desks.kinds())),
            desks,
            config,
            answers: Arc::new(Answers::new(config.answers)),
            calls: Arc::new(Semaphore::new(config.calls)),
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
        self.listing.store(Arc::new(listing.sold_by(self.desks.kinds())));
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
        if let Some(channels) = &self.desks.channels
            && let Some(question) = parts.uri.path().strip_prefix(CHANNELS)
        {
            let limit = self.config.upstream_timeout;
            let now = (self.now)();
            return channels.desk(&parts.method, question, body, limit, now).await;
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
            kinds: listed.kinds().and(self.desks.kinds()),
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
        let kind = paid.paying.kind();
        if !call.kinds.contains(kind) {
            self.counters.refused("kind-not-taken");
            let detail = format!("{} is not taken for this", kind.scheme());
            let why = Problem::new(402, "kind-not-taken", Advice::NewNonce, detail);
            return self.required(&call, &why, None);
        }
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
        let target = Target {
            method: parts.method.as_str(),
            target: parts.uri.path_and_query().map_or("/", |target| target.as_str()),
        };
        let (order, now) = (OrderId(fingerprint), (self.now)());
        let goods = match paid.paying.admit(order, &target, &price, now).await {
            Ok(Taken::Deliver(goods)) => goods,
            Ok(Taken::Repeat(answer)) => return self.again(answer),
            Err(refused) => return self.refuse(&call, *refused),
        };
        let begun_call = match paid.call() {
            None => None,
            Some(name) => match self.begin(name) {
                Some(begun) => Some((begun, fingerprint)),
                None => {
                    goods.failed().await; // its ticket is not consumed
                    self.counters.refused("in-progress");
                    let detail = "this call is under way with another ticket; ask again";
                    return problem(&Problem::new(409, "in-progress", Advice::Retry, detail));
                }
            },
        };
        let sale = Sale {
            goods,
            route: route_of(&call),
            price,
            name: begun_call,
            protocol: paid.protocol,
            begun,
            place,
        };
        self.deliver(Request::from_parts(parts, body), upstream, sale)
            .await
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
            let kinds = route.kinds.and(self.desks.kinds());
            let ways = self.desks.ways(kinds, &price, None, route.pattern.to_string());
            Some(serde_json::json!({
                "resource": format!("{scheme}://{realm}{}", route.pattern.path()), "type": "http", "x402Version": 2,
                "accepts": ways, "metadata": { "description": route.description },
            }))
        });
        let mut document = serde_json::json!({ "x402Version": 2, "items": resources.collect::<Vec<_>>() });
        if self.desks.channels.is_some() {
            let address = |question| format!("{scheme}://{realm}{CHANNELS}{{channel}}/{question}");
            document["channels"] = serde_json::json!({
                "position": address("position"), "opener": address("opener"), "close": address("close"),
                "payments": address("payments"),
            });
        }
        document
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
            Ok(Err(error)) => problem(&self.upstream_failed(&error.into(), &upload, UNPAID)),
            Err(_) => problem(&self.timed_out(&upload, UNPAID)),
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
    fn check_share(&self, listing: &Listing, paid: &Paid<S>) -> Result<(), Problem> {
        if !listing.limiters.limit_payers() {
            return Ok(());
        }
        match paid.paying.signer() {
            Some(payer) if !listing.limiters.admits_payer(payer) => {
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

    fn read_payment(&self, headers: &HeaderMap) -> Result<Option<Paid<S>>, WireError> {
        let named = headers.get(IDEMPOTENCY_KEY).map(|name| name.as_bytes().to_vec());
        if let Some(value) = headers.get(PAYMENT_SIGNATURE) {
            let read = read_signature(value.to_str().unwrap_or_default(), self.contracts)?;
            return Ok(Some(Paid {
                paying: self.desks.read(read.payment)?,
                name: read.identifier.map(String::into_bytes).or(named),
                protocol: Protocol::X402,
            }));
        }
        let token = [PAYMENT_AUTHORIZATION, AUTHORIZATION]
            .iter()
            .find_map(|name| headers.get(name).and_then(payment_token));
        let Some(token) = token else { return Ok(None) };
        let read = read_credential(token, &self.challenge_key, self.contracts)?;
        Ok(Some(Paid {
            paying: self.desks.read(read.payment)?,
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
    fn known_call(&self, call: &Call<'_>, paid: &Paid<S>, fingerprint: B256) -> Option<Response<Body>> {
        let known = self.answers.named(paid.call()?)?;
        // The name alone is nobody's, and old winners with their signatures are on the chain.
        paid.paying.signer()?;
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
    fn again(&self, payment: B256) -> Response<Body> {
        let gone = |detail| problem(&Problem::new(410, "answer-not-kept", Advice::Stop, detail));
        let Some(answer) = self.answers.get(payment) else {
            return gone(format!(
                "payment {payment} paid for an answer that is no longer kept"
            ));
        };
        match answer.again() {
            Again::Whole(response) => {
                self.counters.replayed();
                response
            }
            Again::Passing => {
                let detail = format!("the answer that payment {payment} paid for is still on its way");
                problem(&Problem::new(409, "in-progress", Advice::Retry, detail))
            }
            Again::Gone(status) => gone(format!(
                "payment {payment} paid for an answer with status {}, which broke off or was too large to keep",
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
                    problem(&gate.upstream_failed(&error.into(), &upload, sale.goods.fate())),
                ),
                Err(_) => (
                    upload.is_late(),
                    problem(&gate.timed_out(&upload, sale.goods.fate())),
                ),
            };
            if payer_failed {
                sale.goods.kept();
            } else {
                sale.goods.failed().await;
            }
            refusal
        });
        work.await
    }

    /// The upstream answered: the payment is consumed, and its receipt goes with the answer.
    async fn sold(&self, response: Response<Body>, sale: Sale<S>) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        strip_response(&mut head.headers);
        let length = body.size_hint().exact();
        let mut answer = None;
        let keep = |payment: B256, headers: &HeaderMap| {
            answer = Some(self.answers.keep(payment, head.status, headers, length));
            if let Some((begun, fingerprint)) = sale.name {
                let ticket = payment;
                begun.paid(NamedCall { ticket, fingerprint });
            }
        };
        let sold = Sold {
            price: &sale.price,
            route: sale.route,
            protocol: sale.protocol,
            now: (self.now)(),
        };
        sale.goods
            .delivered(sold, &mut head.headers, &self.counters, keep)
            .await;
        let answer = answer.expect("kept");
        let body = Tee::new(body, answer, self.config.answers, sale.place);
        Response::from_parts(head, Body::new(body))
    }

    /// What a request is answered whose upstream did not answer in time.
    fn timed_out(&self, upload: &Upload, fate: &str) -> Problem {
        let limit = self.config.upstream_timeout;
        if upload.is_late() {
            return too_slow(limit);
        }
        self.counters.upstream(Outcome::TimedOut);
        let seconds = limit.as_secs();
        let detail = format!("the upstream did not answer within {seconds} s; {fate}");
        Problem::new(504, "upstream-timeout", Advice::Retry, detail)
    }

    /// What a request is answered whose upstream gave nothing.
    fn upstream_failed(&self, error: &axum::BoxError, upload: &Upload, fate: &str) -> Problem {
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
        let detail = format!("the upstream gave no answer; {fate}");
        Problem::new(502, "upstream-failed", Advice::Retry, detail)
    }

    /// 402 for a request without payment.
    fn ask(&self, call: &Call<'_>) -> Response<Body> {
        let detail = format!("this costs {} of asset {}", call.price.price, call.price.asset);
        let why = Problem::new(402, "payment-required", Advice::NewNonce, detail);
        let escrow = announced_escrow(&call.parts.headers);
        let tickets = self.desks.tickets.as_ref();
        let known = tickets.and_then(|tickets| tickets.known(escrow?, &call.price));
        self.required(call, &why, known)
    }

    fn refuse(&self, call: &Call<'_>, refused: Refused) -> Response<Body> {
        self.counters.refused(refused.rule);
        if let Some(failure) = refused.failure {
            self.counters.failed((self.now)(), "accept", failure);
        }
        if refused.why.status != 402 {
            return problem(&refused.why);
        }
        self.required(call, &refused.why, refused.known)
    }

    fn required(&self, call: &Call<'_>, why: &Problem, known: Option<(Address, Quote)>) -> Response<Body> {
        let ways = self.desks.ways(call.kinds, &call.price, known, route_of(call));
        let expires = rfc3339((self.now)().0 + CHALLENGE_SECONDS);
        let challenge = |way: &Way| {
            let (key, expires) = (&self.challenge_key, expires.clone());
            match way {
                Way::Ticket(terms) => Challenge::new(key, call.realm, &**terms, expires),
                Way::Channel(terms) => Challenge::new(key, call.realm, &**terms, expires),
            }
        };
        let challenges: Vec<_> = ways.iter().map(challenge).collect();
        let scheme = call.parts.uri.scheme_str().unwrap_or("http");
        let url = format!("{scheme}://{}{}", call.realm, beginning(call.parts.uri.path()));
        let description = call.listed.route.and_then(|route| route.description.as_deref());
        let asked = Asked {
            url,
            description: description.map(|text| beginning(text).to_owned()),
        };
        payment_required(why, ways, &challenges, asked)
    }
}

impl<S: GateStore> Paid<S> {
    /// Which call it is, if its payer named it.
    fn call(&self) -> Option<CallName> {
        self.paying.call(self.name.as_ref()?)
    }
}

impl<S: GateStore> Desks<S> {
    fn kinds(&self) -> Kinds {
        Kinds {
            ticket: self.tickets.is_some(),
            channel: self.channels.is_some(),
        }
    }

    fn contracts(&self) -> Contracts {
        Contracts {
            ticket: self.tickets.as_ref().map(|seller| *seller.domain()),
            channel: self.channels.as_ref().map(|seller| *seller.domain()),
        }
    }

    /// The terms of a price, of these kinds. `known` is the escrow that will pay by ticket.
    fn ways(&self, kinds: Kinds, price: &Price, known: Option<(Address, Quote)>, route: String) -> Vec<Way> {
        let mut ways = Vec::with_capacity(2);
        if let Some(seller) = self.tickets.as_ref().filter(|_| kinds.ticket) {
            let terms = known.map_or(Terms::Open, |(escrow, quote)| Terms::Known(escrow, quote));
            ways.push(seller.requirements(price, terms, route.clone()).into());
        }
        if let Some(seller) = self.channels.as_ref().filter(|_| kinds.channel) {
            ways.push(seller.requirements(price, route).into());
        }
        ways
    }

    /// A payment for who takes its kind. Only what is sold by is read.
    fn read(&self, payload: Payload) -> Result<Paying<S>, WireError> {
        let none = |kind: crate::wire::Kind| WireError::Scheme {
            got: kind.scheme().to_owned(),
            expected: String::new(),
        };
        let kind = payload.kind();
        match payload {
            Payload::Ticket(payment) => {
                let seller = self.tickets.as_ref().ok_or_else(|| none(kind))?;
                seller.read(payment).map(Paying::Ticket)
            }
            Payload::Channel(payment) => {
                let seller = self.channels.as_ref().ok_or_else(|| none(kind))?;
                seller.read(&payment).map(Paying::Channel)
            }
        }
    }
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
