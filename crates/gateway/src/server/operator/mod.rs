//! What the operator sees: a page, metrics, and the watch over wins. Served on a listener of its own, which binds to
//! loopback; it shows, and changes nothing.
//!
//! ```text
//!   request paths ──▶ Counters ─┐
//!                       store ──┼──▶ Snapshot ──▶ /, /metrics, /snapshot.json, /healthz
//!                      mirror ──┘    (at most one a second)
//! ```

mod amount;
mod channels;
mod counters;
mod metrics;
mod page;
mod redact;
mod snapshot;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chain::{Channels, Mirror};
use protocol::ticket::Timestamp;
use storage::channel::{SettlementStore, VendorChannelStore};
use storage::{ClaimStore, WinStore};
use tokio::sync::Mutex;

pub use amount::Asset;
pub use channels::{ChannelLine, ChannelMoney, ChannelsView, SettlementLine};
pub use counters::{
    ChannelSum, Counters, ErrorLine, Forgotten, Payer, Point, REMEMBERED_PAYERS, Taken, Times, Upstream,
};
pub use snapshot::{
    ClaimLine, EscrowLine, Facts, MirrorLine, Money, PayerLine, Snapshot, Sum, Tickets, TimesLine,
};

/// Where snapshots come from.
pub trait Source: Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> Timestamp;

    /// The state at this moment.
    fn gather(&self, now: Timestamp) -> impl Future<Output = Snapshot> + Send;
}

/// A running gateway as a [`Source`].
#[derive(Debug)]
pub struct Live<S> {
    /// What does not change.
    pub facts: Facts,
    /// What the request paths count.
    pub counters: Arc<Counters>,
    /// Winners and claims.
    pub store: S,
    /// The view of the chain.
    pub mirror: Arc<Mirror>,
    /// The view of the channels, where these are sold by.
    pub channels: Option<Arc<Mirror<Channels>>>,
    /// The clock.
    pub clock: fn() -> Timestamp,
}

impl<S> Source for Live<S>
where
    S: WinStore + ClaimStore + VendorChannelStore + SettlementStore + Send + Sync + 'static,
{
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    async fn gather(&self, now: Timestamp) -> Snapshot {
        let (counters, store) = (&self.counters, &self.store);
        let mut snapshot = Snapshot::gather(&self.facts, counters, store, &self.mirror, now).await;
        if let Some(mirror) = &self.channels {
            snapshot.channels = Some(ChannelsView::gather(counters, store, mirror).await);
        }
        snapshot
    }
}

/// The page at `/`, `/metrics`, `/snapshot.json`, and `/healthz`: 200 while payments are accepted, else 503 with the reason.
///
/// `hosts` are names, without port, under which the listener may be asked beside loopback ones: a web site that points its
/// own name at this listener gets nothing to read (DNS rebinding).
pub fn router<T: Source>(source: T, hosts: impl IntoIterator<Item = String>) -> Router {
    let hosts: Arc<[String]> = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
    Router::new()
        .route("/", get(show_page))
        .route("/metrics", get(show_metrics))
        .route("/snapshot.json", get(show_snapshot))
        .route("/healthz", get(show_health))
        .route(
            "/icon.svg",
            get(|| async { ([(CONTENT_TYPE, "image/svg+xml")], page::ICON) }),
        )
        .layer(from_fn_with_state(hosts, only_known_hosts))
        .layer(map_response(with_policy))
        .with_state(Arc::new(Cache {
            source,
            last: Mutex::default(),
        }))
}

/// Gathers at most once a second, however many ask.
struct Cache<T> {
    source: T,
    last: Mutex<Option<Arc<Snapshot>>>,
}

impl<T: Source> Cache<T> {
    async fn snapshot(&self) -> Arc<Snapshot> {
        // Held while gathering: those who come meanwhile share the result.
        let mut last = self.last.lock().await;
        let now = self.source.now();
        match &*last {
            Some(snapshot) if snapshot.at == now => Arc::clone(snapshot),
            _ => {
                let snapshot = Arc::new(self.source.gather(now).await);
                *last = Some(Arc::clone(&snapshot));
                snapshot
            }
        }
    }
}

async fn show_page<T: Source>(State(cache): State<Arc<Cache<T>>>, RawQuery(query): RawQuery) -> Response {
    let still = query.as_deref() == Some("still");
    let html = page::render(&*cache.snapshot().await, still).into_string();
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

async fn show_metrics<T: Source>(State(cache): State<Arc<Cache<T>>>) -> Response {
    match metrics::render(&*cache.snapshot().await) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn show_snapshot<T: Source>(State(cache): State<Arc<Cache<T>>>) -> Response {
    axum::Json(&*cache.snapshot().await).into_response()
}

async fn show_health<T: Source>(State(cache): State<Arc<Cache<T>>>) -> Response {
    match &cache.snapshot().await.not_ready {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Answers only those who ask for loopback, or for a name of ours.
async fn only_known_hosts(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    match asked_host(&request).filter(|host| is_loopback(host) || hosts.contains(host)) {
        Some(_) => next.run(request).await,
        None => {
            let text = "This listener has another name. Ask for 127.0.0.1, or configure the name.\n";
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
    }
}

/// The host that a request names, lower-case and without its port; `None` if it names none or more than one.
fn asked_host(request: &Request) -> Option<String> {
    let mut named = request.headers().get_all(HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok()?.parse::<Uri>().ok()?.host()?.to_owned(),
        // HTTP/2 has it in the URI.
        (None, _) => request.uri().host()?.to_owned(),
        _ => return None,
    };
    Some(host.to_ascii_lowercase())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// Nothing that is shown here may be kept, framed, sniffed, or run.
async fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_str(&page::POLICY).expect("the policy is ASCII");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    response
}
