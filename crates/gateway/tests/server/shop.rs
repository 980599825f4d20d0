//! A shop without a chain: a merchant on a store in memory, whose mirror shows two payers' escrows, a real gateway before a
//! real upstream, and the payers' tickets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, U256, keccak256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chain::Mirror;
use http::{HeaderMap, Method};
use merchant::channel::{Vendor, VendorConfig};
use merchant::ticket::{Merchant, Price};
use micropay_gateway::server::{
    Charge, Gate, GateConfig, GateLayer, Kinds, ListenLimits, Listing, RateLimits, Route, Sellers, Service,
    Table, Upstream, UpstreamLimits, listen,
};
use micropay_gateway::wire::{ChallengeKey, IDEMPOTENCY_KEY, PAYMENT_SIGNATURE, Payment};
use protocol::ticket::{
    Admission, Amount, BlockRef, Domain, EscrowKey, EscrowRecord, EscrowView, Escrows, Issued, Nonce, Offer,
    Policy, Quote, Seconds, Seed, Session, SessionId, Status, Ticket, Timestamp, WinThreshold, accept, odds,
};
use serde_json::{Value, json};
use storage::conformance::fixture;
use storage::{FleetStore, MemoryStore, Part, SeedStore, WinRecord, WinStage, WinStore};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::Layer;

use super::channel::{self, Like, channel_domain};
use super::purse::{Purse, channel_payment_json};
use super::upstream::Server;

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const RECIPIENT: Address = Address::repeat_byte(0xdd);
/// One ticket in so many wins.
const ONE_IN: u64 = 4;
const PRIZE: Amount = Amount(4_000_000);
const CAP: Nonce = Nonce(1 << 14);

pub(crate) fn price() -> Price {
    Price {
        asset: Address::ZERO,
        price: Amount(PRIZE.0 / u128::from(ONE_IN)),
        min_prize: PRIZE,
        max_prize: PRIZE,
    }
}

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

fn bytes32(name: &str, number: u64) -> B256 {
    keccak256([name.as_bytes(), &number.to_be_bytes()].concat())
}

fn seed() -> Seed {
    Seed::new(bytes32("seed", 0).0)
}

/// The key of one of the two escrows.
pub(crate) fn key(escrow: u64) -> EscrowKey {
    EscrowKey::from_bytes(&bytes32("escrow", escrow).0).unwrap()
}

fn record(escrow: u64) -> EscrowRecord {
    let max_threshold = WinThreshold::one_in(ONE_IN);
    EscrowRecord {
        payer: Address::from_word(bytes32("payer", escrow)),
        asset: Address::ZERO,
        prize: PRIZE,
        max_threshold,
        ticket_cap: CAP,
        balance: PRIZE.saturating_mul(CAP.0),
        penalty: odds::required_penalty(PRIZE, CAP, max_threshold, Policy::default().epsilon),
        status: Status::Open,
        withdraw_at: None,
        cure_by: None,
        debt: U256::ZERO,
        earmarked: Amount::ZERO,
        earmark_until: Timestamp(0),
        pairs: BTreeMap::new(),
        debts: BTreeMap::new(),
    }
}

/// What a shop is like.
pub(crate) struct Setup {
    pub(crate) routes: Vec<Route>,
    pub(crate) default: Charge,
    pub(crate) gate: GateConfig,
    pub(crate) rates: RateLimits,
    pub(crate) listen: ListenLimits,
    pub(crate) idle: Duration,
    /// Another upstream than the usual one.
    pub(crate) upstream: Option<String>,
    /// What is sold by.
    pub(crate) kinds: Kinds,
    /// Channels that the mirror shows, and what the vendor asks of them.
    pub(crate) channels: Vec<Like>,
    pub(crate) vendor: VendorConfig,
    /// That of another process.
    pub(crate) store: Option<MemoryStore>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            routes: vec![
                route("* /free/*", Charge::Free),
                route("* /cheap/*", Charge::Free),
            ],
            default: Charge::Price(price()),
            gate: GateConfig {
                upstream_timeout: Duration::from_secs(2),
                ..GateConfig::default()
            },
            rates: RateLimits::default(),
            listen: ListenLimits {
                header_timeout: Duration::from_secs(1),
                body_idle: Duration::from_secs(1),
                drain: Duration::from_secs(5),
                ..ListenLimits::default()
            },
            idle: Duration::from_secs(2),
            upstream: None,
            kinds: Kinds::TICKET,
            channels: Vec::new(),
            vendor: VendorConfig {
                policy: channel::policy(),
                ..VendorConfig::default()
            },
            store: None,
        }
    }
}

pub(crate) fn route(pattern: &str, charge: Charge) -> Route {
    Route {
        pattern: pattern.parse().unwrap(),
        charge,
        description: Some(format!("what {pattern} sells")),
        kinds: Kinds::ALL,
    }
}

pub(crate) struct Shop {
    pub(crate) merchant: Arc<Merchant<MemoryStore>>,
    pub(crate) gate: Arc<Gate<MemoryStore>>,
    pub(crate) address: SocketAddr,
    pub(crate) upstream: Server,
    pub(crate) http: reqwest::Client,
    nonces: AtomicU64,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let block = BlockRef {
            number: 1,
            hash: bytes32("block", 1),
            timestamp: NOW,
        };
        let escrows: Escrows = (0..2).map(|n| (key(n).address(), record(n))).collect();
        let mirror = Arc::new(Mirror::of(block, escrows));
        let store = setup
            .store
            .unwrap_or_else(|| MemoryStore::new(fixture::identity()));
        let channels = Arc::new(channel::mirror(&setup.channels, NOW));
        let paid_to = channel::vendor_key().address();
        let vendor = Vendor::start(channel_domain(), paid_to, setup.vendor, channels, store.clone());
        let vendor = vendor.await.unwrap();
        let merchant = Merchant::start(domain(), RECIPIENT, Policy::default(), mirror, store, seed())
            .await
            .unwrap();
        let table = Table::new(setup.routes, setup.default);
        let by_channel = || Arc::clone(&vendor);
        let sellers = match setup.kinds {
            Kinds { channel: false, .. } => Sellers::from(Arc::clone(&merchant)),
            Kinds { ticket: false, .. } => Sellers::channels(by_channel()),
            _ => Sellers::from(Arc::clone(&merchant)).and_channels(by_channel()),
        };
        let gate = Gate::new(
            sellers.closing_with(channel::vendor_key()),
            Listing::new(&service(), table, setup.rates),
            setup.gate,
            ChallengeKey::new([7; 32]),
            || NOW,
        );
        let server = Server::start().await;
        let address = setup.upstream.unwrap_or_else(|| server.base());
        let limits = UpstreamLimits {
            connect: Duration::from_secs(1),
            idle: setup.idle,
            body_bytes: setup.gate.body_bytes,
        };
        let upstream = Upstream::new(&address.parse().unwrap(), limits).unwrap();
        let service = GateLayer::new(Arc::clone(&gate)).layer(upstream);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(listen(listener, service, setup.listen, async {
            let _ = stopped.await;
        }));
        Self {
            merchant,
            gate,
            address,
            upstream: server,
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            nonces: AtomicU64::new(0),
            stop: Some(stop),
            serving,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A client that speaks HTTP/2 from the first byte.
    pub(crate) fn h2(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .http2_prior_knowledge()
            .build()
            .unwrap()
    }

    /// No new connections; true if everything under way ended.
    pub(crate) async fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.serving).await.unwrap();
    }

    // ── tickets ──

    pub(crate) fn quote(&self, escrow: u64) -> Quote {
        self.merchant.quote(key(escrow).address(), &price()).unwrap()
    }

    pub(crate) fn next_nonce(&self) -> u64 {
        self.nonces.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A good ticket of the first escrow.
    pub(crate) fn ticket(&self) -> Ticket<Issued> {
        self.ticket_of(0, self.next_nonce())
    }

    pub(crate) fn ticket_of(&self, escrow: u64, nonce: u64) -> Ticket<Issued> {
        self.ticket_for(&self.quote(escrow), escrow, nonce)
    }

    pub(crate) fn ticket_for(&self, quote: &Quote, escrow: u64, nonce: u64) -> Ticket<Issued> {
        let r2 = bytes32("r2", nonce);
        let expiry = quote.expiry(NOW);
        Ticket::issue(&domain(), &key(escrow), quote, r2, expiry, Nonce(nonce))
    }

    /// A good ticket of the first escrow, of which it is known (here alone) whether it wins.
    pub(crate) fn ticket_that(&self, wins: bool) -> Ticket<Issued> {
        loop {
            let ticket = self.ticket();
            if draw(&ticket) == wins {
                return ticket;
            }
        }
    }

    /// Winners in the store.
    pub(crate) async fn wins(&self) -> Vec<WinRecord> {
        self.merchant.store().wins(WinStage::Won).await.unwrap()
    }

    // ── requests ──

    pub(crate) async fn send(&self, call: Call<'_>) -> Answer {
        self.send_by(&self.http, call).await
    }

    pub(crate) async fn send_by(&self, client: &reqwest::Client, call: Call<'_>) -> Answer {
        let mut request = client.request(call.method, self.url(call.path));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(body) = call.body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer {
            status,
            headers,
            text: response.text().await.unwrap(),
        }
    }

    /// A paid `GET`.
    pub(crate) async fn pay(&self, path: &str, ticket: &Ticket<Issued>) -> Answer {
        self.send(get(path).paid(ticket)).await
    }
}

/// A channel to the shop.
pub(crate) fn like(number: u64) -> Like {
    Like::to(channel::vendor_key().address(), number, NOW)
}

/// A shop that sells by both kinds, and a client with a channel to it.
pub(crate) async fn channel_shop() -> (Shop, Purse) {
    channel_shop_with(Setup::default()).await
}

pub(crate) async fn channel_shop_with(setup: Setup) -> (Shop, Purse) {
    let shop = Shop::with(Setup {
        kinds: Kinds::ALL,
        channels: vec![like(0), like(1)],
        ..setup
    });
    (shop.await, Purse::new(like(0)))
}

/// Whether a ticket of the first session wins.
pub(crate) fn draw(ticket: &Ticket<Issued>) -> bool {
    let escrow = ticket.escrow();
    let id = SessionId { boot: 1, serial: 0 };
    let session = Session::derive(&domain(), &seed(), RECIPIENT, escrow, id);
    let number = (0..2).find(|n| key(*n).address() == escrow).unwrap();
    let record = record(number);
    let admission = Admission {
        session: &session,
        commitment_closed: false,
        offer: Offer {
            asset: Address::ZERO,
            prize: PRIZE,
            win_threshold: WinThreshold::one_in(ONE_IN),
        },
        nonce_seen: false,
        nonce_floor: Nonce(0),
        now: NOW,
        policy: &Policy::default(),
        escrow: EscrowView {
            last_final: Some(&record),
            head: Some(&record),
        },
        mirror_age: Seconds(1),
        unclaimed_wins: 0,
        payer_unclaimed_wins: 0,
        known_key: None,
    };
    let drawn = accept(ticket.clone(), &admission).unwrap().draw().unwrap();
    drawn.won().is_some()
}

pub(crate) fn service() -> Service {
    Service {
        name: "Faults".into(),
        description: "Sells anything".into(),
    }
}

/// A payment as x402 has it, in JSON, to be spoiled before it is encoded.
pub(crate) fn payment_json(ticket: &Ticket<Issued>) -> Value {
    json!({
        "x402Version": 2,
        "accepted": { "scheme": "micropay-ticket", "network": "eip155:31337" },
        "payload": Payment::from(ticket),
    })
}

pub(crate) fn encode(json: &Value) -> String {
    STANDARD.encode(json.to_string())
}

pub(crate) fn payment(ticket: &Ticket<Issued>) -> String {
    encode(&payment_json(ticket))
}

/// A request in the making.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<reqwest::Body>,
}

pub(crate) fn get(path: &str) -> Call<'_> {
    call(Method::GET, path)
}

pub(crate) fn call(method: Method, path: &str) -> Call<'_> {
    Call {
        method,
        path,
        headers: Vec::new(),
        body: None,
    }
}

impl Call<'_> {
    pub(crate) fn header(mut self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        self.headers.push((name.as_ref().to_owned(), value.into()));
        self
    }

    pub(crate) fn paid(self, ticket: &Ticket<Issued>) -> Self {
        self.header(PAYMENT_SIGNATURE, payment(ticket))
    }

    pub(crate) fn by_channel(self, payment: &protocol::channel::Payment) -> Self {
        let header = encode(&channel_payment_json(payment, None));
        self.header(PAYMENT_SIGNATURE, header)
    }

    pub(crate) fn named(self, name: &str) -> Self {
        self.header(IDEMPOTENCY_KEY, name)
    }

    pub(crate) fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The rule of a refusal, else what was sold.
    pub(crate) fn rule(&self) -> String {
        let problem: Option<Value> = serde_json::from_str(&self.text).ok();
        problem
            .and_then(|problem| Some(problem.get("rule")?.as_str()?.to_owned()))
            .unwrap_or_default()
    }

    pub(crate) fn is(&self, status: u16, rule: &str) -> &Self {
        assert_eq!((self.status, self.rule().as_str()), (status, rule), "{self:?}");
        self
    }

    pub(crate) fn sold(&self, text: &str) -> &Self {
        assert_eq!((self.status, self.text.as_str()), (200, text), "{self:?}");
        let receipts = ["payment-response", "payment-receipt"];
        let receipts = receipts.iter().filter(|name| self.headers.contains_key(**name));
        assert_eq!(receipts.count(), 1, "{self:?}");
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Another process of the merchant is about to claim everything so far: the sessions close, as for a claim of its own.
pub(crate) async fn claim(shop: &Shop) {
    let (store, lease) = (shop.merchant.store(), Duration::from_secs(60));
    shop.merchant.join(lease, Part::MayClaim).await.unwrap();
    let other = store.next_boot().await.unwrap();
    store.beat(other, 0, lease, Part::MayClaim).await.unwrap();
    let floors = [(key(0).address(), Nonce(shop.next_nonce()))];
    store.raise_floors(&floors).await.unwrap();
    shop.merchant.beat().await.unwrap();
}

/// Waits until it is so, at most a few seconds.
pub(crate) async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for nothing");
}
