//! A seller that behaves like the gateway, as far as a payer sees, unless a test tells it otherwise; it writes down what it
//! is asked. And a payer with an escrow that exists nowhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, U256, keccak256};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, Method};
use micropay_gateway::client::{Builder, Client, Paid};
use micropay_gateway::wire::{
    Advice, Extra, MICROPAY_ESCROW, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, Payload,
    PaymentRequired, PaymentResponse, PaymentSignature, Problem, Requirements, SCHEME, network,
    read_signature,
};
use payer::ticket::{Edges, Limits, Payer};
use protocol::ticket::{
    Amount, Domain, EscrowKey, EscrowRecord, Issued, Nonce, Status, Ticket, Timestamp, WinThreshold,
};
use storage::{MemoryStore, OrderStore, StoreIdentity};
use tokio::net::TcpListener;

/// What a winner of the tests' escrow gets.
pub(crate) const PRIZE: Amount = Amount(1_000_000_000_000_000);
/// What a call costs at first.
pub(crate) const PRICE: u128 = 1_000_000_000_000;

pub(crate) fn domain() -> Domain {
    Domain::new(31_337, Address::repeat_byte(0xc0))
}

pub(crate) fn shop() -> Address {
    Address::repeat_byte(0x5a)
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn random() -> B256 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let drawn = DRAWN.fetch_add(1, Ordering::Relaxed);
    keccak256([nanos.to_be_bytes().as_slice(), &drawn.to_be_bytes()].concat())
}

pub(crate) fn escrow_key() -> EscrowKey {
    EscrowKey::from_bytes(&keccak256("the escrow of the client's tests").0).unwrap()
}

pub(crate) fn record() -> EscrowRecord {
    EscrowRecord {
        payer: Address::repeat_byte(0xaa),
        asset: Address::ZERO,
        prize: PRIZE,
        max_threshold: WinThreshold(U256::MAX),
        ticket_cap: Nonce(1_000_000),
        balance: Amount(PRIZE.0 * 100),
        penalty: Amount(PRIZE.0 * 100),
        status: Status::Open,
        withdraw_at: None,
        cure_by: None,
        debt: U256::ZERO,
        earmarked: Amount::ZERO,
        earmark_until: Timestamp::default(),
        pairs: Default::default(),
        debts: Default::default(),
    }
}

pub(crate) fn store() -> MemoryStore {
    MemoryStore::new(StoreIdentity::payer(domain()))
}

/// A client on a store, with limits.
pub(crate) fn client_on<S: OrderStore + Send + Sync + 'static>(store: S, limits: Limits) -> Builder {
    let edges = Edges { now, random };
    Client::builder(Payer::new(
        domain(),
        Arc::new(escrow_key()),
        record(),
        limits,
        store,
        edges,
    ))
}

/// A client that pays whatever is asked.
pub(crate) fn client() -> Client {
    client_on(store(), Limits::default()).build().unwrap()
}

/// What every answer to a paid call brings.
#[track_caller]
pub(crate) fn paid(answer: &reqwest::Response) -> &Paid {
    answer.extensions().get().unwrap()
}

/// The ticket that paid for an answer.
#[track_caller]
pub(crate) fn ticket_of(answer: &reqwest::Response) -> B256 {
    paid(answer).proof.ticket().unwrap()
}

/// Every ticket in a store.
pub(crate) async fn signed(store: &impl OrderStore) -> usize {
    store.orders(escrow_key().address()).await.unwrap().len()
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) payment: Option<(PaymentSignature, Ticket<Issued>)>,
}

impl Seen {
    pub(crate) fn digest(&self) -> Option<B256> {
        self.payment.as_ref().map(|(_, ticket)| ticket.digest())
    }
}

/// What a test says to a request; `None`: the seller does as it should.
type Script = Box<dyn FnMut(&Seller, &Seen) -> Option<Answer> + Send>;

/// What to do with a request.
pub(crate) enum Answer {
    /// This is the answer.
    Say(Response),
    /// Do as always, and lose the answer.
    Lose,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Say(response)
    }
}

pub(crate) struct Seller {
    pub(crate) address: SocketAddr,
    state: parking_lot::Mutex<Book>,
    script: parking_lot::Mutex<Option<Script>>,
}

struct Book {
    price: u128,
    session: u64,
    floor: u64,
    route: String,
    free: Vec<String>,
    seen: Vec<Seen>,
    /// By nonce: the ticket, and what it paid for.
    sold: HashMap<u64, (B256, String)>,
}

impl Seller {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seller = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            state: parking_lot::Mutex::new(Book {
                price: PRICE,
                session: 0,
                floor: 0,
                route: "* /*".into(),
                free: Vec::new(),
                seen: Vec::new(),
                sold: HashMap::new(),
            }),
            script: parking_lot::Mutex::default(),
        });
        let app = axum::Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&seller));
        tokio::spawn(async move { axum::serve(listener, app).await });
        seller
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn script(&self, script: impl FnMut(&Self, &Seen) -> Option<Answer> + Send + 'static) {
        *self.script.lock() = Some(Box::new(script));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// Tickets that arrived, in order, copies too.
    pub(crate) fn tickets(&self) -> Vec<B256> {
        self.seen().iter().filter_map(Seen::digest).collect()
    }

    /// Tickets that were taken.
    pub(crate) fn sold(&self) -> usize {
        self.state.lock().sold.len()
    }

    pub(crate) fn set_price(&self, price: u128) {
        self.state.lock().price = price;
    }

    pub(crate) fn set_route(&self, route: &str) {
        self.state.lock().route = route.into();
    }

    pub(crate) fn set_free(&self, path: &str) {
        self.state.lock().free.push(path.into());
    }

    /// Closes the session: tickets for its commitment are refused.
    pub(crate) fn close_session(&self) {
        self.state.lock().session += 1;
    }

    /// Terms of now.
    pub(crate) fn terms(&self) -> Requirements {
        let book = self.state.lock();
        terms(book.price, book.session, book.floor, &book.route)
    }

    /// A 402 with these terms.
    pub(crate) fn required(&self, rule: &str, advice: Advice, terms: Requirements) -> Response {
        let required = PaymentRequired {
            error: rule.into(),
            resource: Default::default(),
            accepts: vec![terms.into()],
        };
        let mut response = problem(402, rule, advice);
        set(&mut response, PAYMENT_REQUIRED, &required.header());
        response
    }

    /// A good with a receipt for what paid, and these terms for the next.
    pub(crate) fn good(&self, seen: &Seen, next: Requirements) -> Response {
        let (payment, ticket) = seen.payment.as_ref().unwrap();
        let Payload::Ticket(payment) = &payment.payment else {
            panic!("{payment:?}")
        };
        let receipt = PaymentResponse::taken(payment, &domain(), ticket.digest(), next.amount, next);
        let mut response = Response::new(Body::from(format!("good of {}", seen.target)));
        set(&mut response, PAYMENT_RESPONSE, &receipt.header());
        response
    }

    /// As the gateway does.
    fn judge(&self, seen: &Seen) -> Response {
        let terms = self.terms();
        let mut book = self.state.lock();
        if book.free.contains(&seen.target) {
            return Response::new(Body::from("free"));
        }
        let Some((_, ticket)) = &seen.payment else {
            drop(book);
            return self.required("payment-required", Advice::NewNonce, terms);
        };
        let what = format!("{} {} {:?}", seen.method, seen.target, seen.body);
        let known = book.sold.get(&ticket.nonce().0).cloned();
        let refused = match known {
            Some((digest, sold)) if digest == ticket.digest() => {
                if sold != what {
                    return problem(409, "nonce-seen", Advice::Stop);
                }
                None
            }
            Some(_) => return problem(409, "nonce-seen", Advice::Stop),
            None if ticket.commitment() != terms.extra.commitment => Some("commitment-closed"),
            None if ticket.win_threshold() != threshold(terms.amount) => Some("wrong-threshold"),
            None if ticket.nonce().0 <= book.floor => Some("nonce-not-above-floor"),
            None => None,
        };
        if let Some(rule) = refused {
            drop(book);
            return self.required(rule, Advice::NewNonce, terms);
        }
        book.sold.insert(ticket.nonce().0, (ticket.digest(), what));
        drop(book);
        self.good(seen, terms)
    }
}

pub(crate) fn terms(price: u128, session: u64, floor: u64, route: &str) -> Requirements {
    Requirements {
        scheme: SCHEME.into(),
        network: network(domain().chain_id()),
        amount: price,
        asset: Address::ZERO,
        pay_to: shop(),
        max_timeout_seconds: 86_400,
        extra: Extra {
            contract: domain().contract(),
            commitment: keccak256(session.to_be_bytes()),
            prize: PRIZE.0,
            win_threshold: threshold(price).0,
            min_prize: PRIZE.0 / 10,
            max_prize: PRIZE.0 * 10,
            opening: None,
            min_ticket_life: 21_600,
            max_ticket_life: 86_400,
            nonce_floor: floor,
            escrow: None,
            route: route.into(),
        },
    }
}

pub(crate) fn threshold(price: u128) -> WinThreshold {
    WinThreshold::for_price(Amount(price), PRIZE).unwrap()
}

pub(crate) fn problem(status: u16, rule: &str, advice: Advice) -> Response {
    let problem = Problem::new(status, rule, advice, format!("the test says {rule}"));
    let mut response = Response::new(Body::from(serde_json::to_vec(&problem).unwrap()));
    *response.status_mut() = status.try_into().unwrap();
    set(
        &mut response,
        http::header::CONTENT_TYPE,
        "application/problem+json",
    );
    response
}

pub(crate) fn set(response: &mut Response, name: HeaderName, value: &str) {
    response.headers_mut().insert(name, value.parse().unwrap());
}

async fn serve(State(seller): State<Arc<Seller>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let payment = parts.headers.get(PAYMENT_SIGNATURE).map(|value| {
        let payment = read_signature(value.to_str().unwrap(), &domain()).unwrap();
        let Payload::Ticket(ticket) = &payment.payment else {
            panic!("{payment:?}")
        };
        let ticket = ticket.ticket(&domain()).unwrap();
        (payment, ticket)
    });
    // A balancer finds the payer there.
    assert!(payment.is_none() || parts.headers.contains_key(MICROPAY_ESCROW));
    let seen = Seen {
        method: parts.method,
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: to_bytes(body, usize::MAX).await.unwrap(),
        payment,
    };
    seller.state.lock().seen.push(seen.clone());
    let scripted = {
        let mut script = seller.script.lock();
        script.as_mut().and_then(|script| script(&seller, &seen))
    };
    match scripted {
        Some(Answer::Say(response)) => response,
        Some(Answer::Lose) => {
            seller.judge(&seen);
            panic!("as the test says: the answer is lost");
        }
        None => seller.judge(&seen),
    }
}
