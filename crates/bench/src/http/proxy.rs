//! A gateway before an upstream, each with a runtime of its own: the gateway with a thread for each core, as it has in
//! service; the upstream, as the load, with one, which is enough to answer several times as much as they are asked. More
//! threads of theirs would only take turns with the gateway's on the same cores.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use eyre::Result;
use gateway::server::{
    Charge, Gate, GateConfig, GateLayer, Kinds, ListenLimits, Listing, RateLimits, Route, Sellers, Service,
    Table, Upstream, UpstreamLimits, listen,
};
use gateway::wire::{ChallengeKey, Payment, PaymentSignature, Requirements, read_required};
use http::HeaderValue;
use merchant::ticket::{Merchant, Price};
use protocol::ticket::{Issued, Ticket, Timestamp};
use storage::{SqliteStore, Store, StoreIdentity};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower::Layer;

use crate::market::Market;

/// Bytes of the upstream's answer.
pub const ANSWER_BYTES: usize = 1024;
/// A free path whose answers have a header as large as a receipt.
pub const FILLED: &str = "/free/filled";
/// Bytes of that header.
const RECEIPT_BYTES: usize = 1156;

/// A runtime of its own, with a thread for each core.
///
/// # Errors
/// When the system gives no thread.
pub fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A runtime of its own, with one thread.
///
/// # Errors
/// When the system gives no thread.
pub fn small_runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?)
}

/// A server that answers everything with the same kilobyte, and on one path with a large header.
///
/// # Errors
/// When it finds no port.
pub async fn upstream() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = || async { axum::body::Bytes::from_static(&[b'x'; ANSWER_BYTES]) };
    let filler = "x".repeat(RECEIPT_BYTES);
    let filled = move || async move { ([("filler", filler)], answer().await) };
    let router = Router::new().route(FILLED, any(filled)).fallback(any(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// The time at which everything happens.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(1_800_000_000)
}

/// A merchant of the market with its winners in a file.
///
/// # Errors
/// When the file cannot be made.
pub async fn merchant(market: &Market, folder: &Path) -> Result<Arc<Merchant<SqliteStore>>> {
    let identity = StoreIdentity::merchant(market.domain, market.recipient);
    market
        .merchant(SqliteStore::open(folder.join("merchant.db"), identity).await?)
        .await
}

/// A gate for everything but `/free/*`.
///
/// # Errors
/// When a pattern is none.
pub fn gate<S: Store>(
    sellers: impl Into<Sellers<S>>,
    price: Price,
    config: GateConfig,
    now: fn() -> Timestamp,
) -> Result<GateLayer<S>> {
    let free = Route {
        pattern: "* /free/*".parse()?,
        charge: Charge::Free,
        description: None,
        kinds: Kinds::ALL,
    };
    let table = Table::new(vec![free], Charge::Price(price));
    let listing = Listing::new(&Service::default(), table, RateLimits::default());
    let key = ChallengeKey::new([7; 32]);
    Ok(GateLayer::new(Gate::new(sellers, listing, config, key, now)))
}

/// A gateway on a free port: everything has the price, but `/free/*`.
///
/// # Errors
/// When it finds no port.
pub async fn gateway<S: Store>(
    sellers: impl Into<Sellers<S>>,
    price: Price,
    upstream: SocketAddr,
    now: fn() -> Timestamp,
) -> Result<SocketAddr> {
    let config = GateConfig::default();
    let limits = UpstreamLimits {
        connect: config.upstream_timeout,
        idle: config.upstream_timeout,
        body_bytes: config.body_bytes,
    };
    let upstream = Upstream::new(&format!("http://{upstream}").parse()?, limits)?;
    let service = gate(sellers, price, config, now)?.layer(upstream);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(listen(
        listener,
        service,
        ListenLimits::default(),
        std::future::pending(),
    ));
    Ok(address)
}

/// Payments as they travel, of all payers in turn: `count` from nonce `first` on.
///
/// # Errors
/// When the merchant gives no terms.
pub fn payments<S: Store>(
    market: &Market,
    merchant: &Arc<Merchant<S>>,
    terms: &Requirements,
    first: u64,
    count: usize,
) -> Result<Vec<HeaderValue>> {
    let quotes = market
        .escrows
        .iter()
        .map(|escrow| merchant.quote(escrow.key.address(), &market.price))
        .collect::<Result<Vec<_>, _>>()?;
    (0..count)
        .map(|number| {
            let (escrow, nonce) = (number % quotes.len(), first + (number / quotes.len()) as u64);
            let payment = header(&market.issue_for(&quotes[escrow], escrow, nonce), terms);
            Ok(HeaderValue::try_from(payment)?)
        })
        .collect()
}

fn header(ticket: &Ticket<Issued>, terms: &Requirements) -> String {
    let payment = Payment::from(ticket);
    PaymentSignature {
        payment: payment.into(),
        identifier: None,
    }
    .header(terms)
}

/// The gateway's own terms, from a 402.
///
/// # Errors
/// When there are none.
pub async fn terms(address: SocketAddr, market: &Market) -> Result<Requirements> {
    let answer = reqwest::get(format!("http://{address}/")).await?;
    let header = answer
        .headers()
        .get("payment-required")
        .map(|value| value.to_str());
    let header = header.transpose()?.unwrap_or_default();
    let offers = read_required(header, &market.domain)?;
    offers
        .ticket
        .ok_or_else(|| eyre::eyre!("no terms of ours in the 402"))
}
