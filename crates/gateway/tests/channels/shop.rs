//! The seller's gateway with its good behind it, and a payer with an escrow, a channel, or both.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, U256};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use chain::Mirror;
use http::request::Parts;
use merchant::channel::{Vendor, VendorConfig};
use merchant::ticket::{Merchant, Price};
use micropay_gateway::client::{Builder, ChannelPolicy, Client, Paid, Proof};
use micropay_gateway::server::{Charge, Gate, GateConfig, Listing, RateLimits, Sellers, Service, Table};
use micropay_gateway::wire::{
    Advice, ChallengeKey, Contracts, Kind, PAYMENT_SIGNATURE, Payload, Position, Problem, read_signature,
};
use payer::channel::{ChannelPayer, Checkpoints};
use payer::ticket::{Edges, Limits, Payer};
use protocol::channel::Index;
use protocol::ticket::{
    Amount, BlockRef, Domain, EscrowKey, EscrowRecord, Nonce, Policy, Seed, Status, Timestamp, WinThreshold,
    odds,
};
use storage::channel::{ChannelDomainStore, ClientChannelStore, NewClientChannel};
use storage::conformance::fixture;
use storage::{MemoryStore, OrderStore, StoreIdentity};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::channel::{Like, channel_domain, hash, mirror, policy, receipt_key, vendor_key};

/// What a call costs: four units, or a ticket that wins once in four.
pub(crate) const PRICE: Amount = Amount(1_000_000);
pub(crate) const UNITS: u32 = 4;
const PRIZE: Amount = Amount(4_000_000);
const CAP: Nonce = Nonce(1 << 14);

pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn random() -> B256 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
    hash(&nanos.to_string(), drawn)
}

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

pub(crate) fn escrow_key() -> EscrowKey {
    EscrowKey::from_bytes(&hash("escrow", 0).0).unwrap()
}

fn record() -> EscrowRecord {
    let max_threshold = WinThreshold(U256::MAX);
    let cheapest = WinThreshold::one_in(4);
    EscrowRecord {
        payer: Address::repeat_byte(0xaa),
        asset: Address::ZERO,
        prize: PRIZE,
        max_threshold,
        ticket_cap: CAP,
        balance: PRIZE.saturating_mul(CAP.0),
        penalty: odds::required_penalty(PRIZE, CAP, cheapest, Policy::default().epsilon).saturating_mul(8),
        status: Status::Open,
        withdraw_at: None,
        cure_by: None,
        debt: U256::ZERO,
        earmarked: Amount::ZERO,
        earmark_until: Timestamp(0),
        pairs: Default::default(),
        debts: Default::default(),
    }
}

fn price(of: u128) -> Price {
    Price {
        asset: Address::ZERO,
        price: Amount(of),
        min_prize: PRIZE,
        max_prize: PRIZE,
    }
}

/// A channel to the shop.
pub(crate) fn like(number: u64) -> Like {
    Like {
        receipts: 0,
        ..Like::to(vendor_key().address(), number, now())
    }
}

/// What to do with a request, in place of what a gateway does.
pub(crate) enum Act {
    Say(Response),
    /// As always, and lose the answer.
    Lose,
    /// As always, without headers of payments.
    Strip,
}

type Script = Box<dyn FnMut(&Shop, &Seen) -> Option<Act> + Send>;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) payment: Option<Payload>,
}

impl Seen {
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.payment.as_ref().map(Payload::kind)
    }
}

pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate<MemoryStore>>,
    pub(crate) store: MemoryStore,
    pub(crate) upstream: Arc<Upstream>,
    seen: parking_lot::Mutex<Vec<Seen>>,
    script: parking_lot::Mutex<Option<Script>>,
}

/// What is sold: paths, each as often as it is asked for.
#[derive(Default)]
pub(crate) struct Upstream {
    pub(crate) calls: AtomicUsize,
    pub(crate) failing: AtomicBool,
    pub(crate) go: Notify,
    sold: parking_lot::Mutex<HashMap<String, usize>>,
}

impl Shop {
    /// A shop that knows these channels.
    pub(crate) async fn open(channels: &[Like]) -> Arc<Self> {
        Self::on(MemoryStore::new(fixture::identity()), channels).await
    }

    pub(crate) async fn on(store: MemoryStore, channels: &[Like]) -> Arc<Self> {
        let block = BlockRef {
            number: 1,
            hash: hash("block", 1),
            timestamp: now(),
        };
        let escrows = [(escrow_key().address(), record())].into_iter().collect();
        let (paid_to, seed) = (vendor_key().address(), Seed::new(hash("seed", 0).0));
        let tickets = Arc::new(Mirror::of(block, escrows));
        let merchant = Merchant::start(domain(), paid_to, Policy::default(), tickets, store.clone(), seed);
        let config = VendorConfig {
            policy: policy(),
            ..VendorConfig::default()
        };
        let channels = Arc::new(mirror(channels, now()));
        let vendor = Vendor::start(channel_domain(), paid_to, config, channels, store.clone());
        let sellers = Sellers::from(merchant.await.unwrap()).and_channels(vendor.await.unwrap());
        let config = GateConfig {
            upstream_timeout: Duration::from_secs(5),
            ..GateConfig::default()
        };
        let gate = Gate::new(
            sellers.closing_with(vendor_key()),
            listing(PRICE.0),
            config,
            ChallengeKey::new([7; 32]),
            now,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shop = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            gate,
            store,
            upstream: Arc::default(),
            seen: parking_lot::Mutex::default(),
            script: parking_lot::Mutex::default(),
        });
        let app = axum::Router::new().fallback(serve).with_state(Arc::clone(&shop));
        tokio::spawn(async { axum::serve(listener, app).await });
        shop
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn set_price(&self, price: u128) {
        self.gate.set_listing(listing(price));
    }

    pub(crate) fn script(&self, script: impl FnMut(&Self, &Seen) -> Option<Act> + Send + 'static) {
        *self.script.lock() = Some(Box::new(script));
    }

    pub(crate) fn no_script(&self) {
        *self.script.lock() = None;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Payments that came, by kind, copies too.
    pub(crate) fn payments(&self, kind: Kind) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.kind() == Some(kind))
            .count()
    }

    pub(crate) fn calls(&self) -> usize {
        self.upstream.calls.load(Ordering::SeqCst)
    }

    /// Payments that were taken: by ticket, by channel.
    pub(crate) fn taken(&self) -> (u64, u64) {
        let counters = self.gate.counters();
        (counters.total().accepted, counters.channels().payments)
    }

    /// How often a path was sold.
    pub(crate) fn sold(&self, path: &str) -> usize {
        self.upstream.sold.lock().get(path).copied().unwrap_or_default()
    }
}

fn listing(of: u128) -> Listing {
    let free = micropay_gateway::server::Route {
        pattern: "* /free/*".parse().unwrap(),
        charge: Charge::Free,
        description: None,
        kinds: micropay_gateway::server::Kinds::ALL,
    };
    let table = Table::new(vec![free], Charge::Price(price(of)));
    Listing::new(&Service::default(), table, RateLimits::default())
}

async fn serve(State(shop): State<Arc<Shop>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        path: parts.uri.to_string(),
        payment: payment(&parts),
    };
    shop.seen.lock().push(seen.clone());
    let act = {
        let mut script = shop.script.lock();
        script.as_mut().and_then(|script| script(&shop, &seen))
    };
    if let Some(Act::Say(response)) = act {
        return response;
    }
    let upstream = Arc::clone(&shop.upstream);
    let good = tower::service_fn(move |request: Request| {
        let upstream = Arc::clone(&upstream);
        async move { Ok::<_, std::convert::Infallible>(good(&upstream, request).await) }
    });
    let request = Request::from_parts(parts, body);
    let mut answer = Arc::clone(&shop.gate).answer(request, good).await;
    match act {
        Some(Act::Lose) => {
            axum::body::to_bytes(answer.into_body(), usize::MAX)
                .await
                .unwrap();
            panic!("as the test says: the answer is lost");
        }
        Some(Act::Strip) => {
            answer.headers_mut().remove("payment-response");
            answer
        }
        _ => answer,
    }
}

fn payment(parts: &Parts) -> Option<Payload> {
    let contracts = Contracts {
        ticket: Some(domain()),
        channel: Some(channel_domain()),
    };
    let header = parts.headers.get(PAYMENT_SIGNATURE)?;
    Some(
        read_signature(header.to_str().unwrap(), contracts)
            .unwrap()
            .payment,
    )
}

async fn good(upstream: &Upstream, request: Request) -> Response {
    upstream.calls.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().to_string();
    if path.starts_with("/gate") {
        upstream.go.notified().await;
    }
    if path.starts_with("/slow") {
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let mut response = Response::new(Body::from(format!("good of {path}")));
    if upstream.failing.load(Ordering::SeqCst) {
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    }
    *upstream.sold.lock().entry(path).or_default() += 1;
    response
}

/// A refusal as a gateway writes it, without terms.
pub(crate) fn refuse(status: u16, rule: &str, advice: Advice, position: Option<Position>) -> Response {
    let mut problem = Problem::new(status, rule, advice, format!("the test says {rule}"));
    problem.position = position;
    let mut response = Response::new(Body::from(serde_json::to_vec(&problem).unwrap()));
    *response.status_mut() = status.try_into().unwrap();
    let kind = http::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

// ── the payer ──

pub(crate) fn edges() -> Edges {
    Edges { now, random }
}

/// A store with these channels.
pub(crate) async fn store(channels: &[Like]) -> MemoryStore {
    let store = MemoryStore::new(StoreIdentity::payer(domain()));
    store.use_channels(channel_domain()).await.unwrap();
    for like in channels {
        add(&store, like).await;
    }
    store
}

pub(crate) async fn add(store: &MemoryStore, like: &Like) {
    let new = NewClientChannel {
        admitted: like.admitted(),
        salt: like.salt(),
        origin: None,
        at: now(),
    };
    store.save_client_channel(&new).await.unwrap();
}

pub(crate) fn channel_payer(store: &MemoryStore) -> ChannelPayer<MemoryStore> {
    ChannelPayer::new(
        channel_domain(),
        Arc::new(receipt_key(0)),
        payer::channel::Limits::default(),
        Checkpoints::default(),
        store.clone(),
        edges(),
    )
}

pub(crate) fn ticket_payer(store: &MemoryStore) -> Payer<MemoryStore> {
    let limits = Limits::default();
    Payer::new(
        domain(),
        Arc::new(escrow_key()),
        record(),
        limits,
        store.clone(),
        edges(),
    )
}

/// A client with an escrow and the store's channels.
pub(crate) fn both(store: &MemoryStore) -> Builder {
    Client::builder(ticket_payer(store)).channels(channel_payer(store), ChannelPolicy::default())
}

/// A client with the store's channels alone.
pub(crate) fn channels_only(store: &MemoryStore) -> Client {
    Client::by_channels(channel_payer(store), ChannelPolicy::default())
        .build()
        .unwrap()
}

/// What paid for an answer, which is the good.
pub(crate) async fn buy(client: &Client, shop: &Shop, path: &str) -> Paid {
    let answer = client.get(shop.url(path)).send().await.unwrap();
    let paid = answer.extensions().get::<Paid>().unwrap().clone();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), format!("good of {path}"));
    paid
}

#[track_caller]
pub(crate) fn index(paid: &Paid) -> u32 {
    match paid.proof {
        Proof::Channel { index, .. } => index.0,
        Proof::Ticket { ticket } => panic!("paid by ticket {ticket}"),
    }
}

/// Units that the vendor of a channel can take, and those whose goods arrived.
pub(crate) async fn revealed(store: &MemoryStore, like: &Like) -> (Index, Index) {
    let record = store.client_channel(like.id()).await.unwrap().unwrap();
    (record.channel.revealed(), record.channel.acknowledged().index)
}

/// Tickets that were signed.
pub(crate) async fn signed(store: &MemoryStore) -> usize {
    store.orders(escrow_key().address()).await.unwrap().len()
}
