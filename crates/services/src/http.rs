//! What every service's HTTP interface is made of: bounds first, then the router; who asks too often, says too much or takes
//! too long is refused before anything is looked at. Refusals are problems (RFC 9457).

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        ConnectInfo, Path, Request, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use protocol::channel::Timestamp;
use serde::de::DeserializeOwned;
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tower::{ServiceExt as _, service_fn};
use tracing::{info, warn};

use crate::problem::{PROBLEM, Problem};

/// After so many requests the addresses that are idle are forgotten.
const SWEEP: u32 = 10_000;

/// Pause after the system had no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Says what time it is. Time enters at the edge.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How much a server takes from its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of a request, bytes.
    pub body_bytes: usize,
    /// Longest time for the head of a request.
    pub header_timeout: Duration,
    /// Longest time for a request, its body and its answer's making.
    pub request_timeout: Duration,
    /// Requests per second of one address (IPv6: of one /64 network), with bursts of ten times as many; `None`: any number.
    pub per_ip: Option<NonZeroU32>,
    /// Connections at a time; whoever comes then waits.
    pub connections: usize,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 * 1024,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            per_ip: NonZeroU32::new(5),
            connections: 1024,
            drain: Duration::from_secs(20),
        }
    }
}

pub(crate) fn only<T: Clone + Send + Sync + 'static>(route: MethodRouter<T>) -> MethodRouter<T> {
    route.fallback(async || {
        Refusal(Problem::new(
            405,
            "method-not-allowed",
            false,
            "this address takes another method",
        ))
    })
}

/// Serves until `stop`, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout);
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.connections));
    tokio::pin!(stop);
    loop {
        let accepted = async {
            // Never closed.
            let place = room.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        let service = service_fn(move |request: axum::http::Request<_>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let builder = builder.clone();
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let connection =
                builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            // How a client ends its connection is its own affair.
            let _ = watcher.watch(connection).await;
            drop(place);
        });
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        info!("requests were still under way after {:?}", limits.drain);
    }
}

/// The body of a request, as its content type says.
pub(crate) fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    check_json(headers)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(413, "body-too-large", false, rejection.body_text()),
        _ => Problem::new(400, "bad-body", true, rejection.body_text()),
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(400, "malformed-request", false, error.to_string()))
}

/// The answer where there is no route.
pub(crate) async fn nothing_here() -> Refusal {
    Refusal(Problem::new(
        404,
        "not-found",
        false,
        "there is nothing at this address",
    ))
}

/// A form in a browser cannot send JSON across origins without being asked first.
fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media = media.unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = format!("the body is {media:?}, not application/json");
    Err(Problem::new(415, "wrong-media-type", false, detail))
}

pub(crate) fn parse<T: std::str::FromStr>(
    path: Result<Path<String>, PathRejection>,
    what: &str,
) -> Result<T, Refusal> {
    let malformed = |detail: String| Refusal(Problem::new(400, "malformed-request", false, detail));
    let Path(text) = path.map_err(|rejection| malformed(rejection.body_text()))?;
    // One spelling: without the prefix it could be a name.
    if !text.starts_with("0x") {
        return Err(malformed(format!("{text:?} is no {what}: it begins with 0x")));
    }
    text.parse()
        .map_err(|_| malformed(format!("{text:?} is no {what}")))
}

/// An answer that refuses.
pub(crate) struct Refusal(pub(crate) Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

pub(crate) struct Bounds {
    request_timeout: Duration,
    per_ip: Option<DefaultKeyedRateLimiter<IpAddr>>,
    asked: AtomicU32,
}

impl Bounds {
    pub(crate) fn new(limits: Limits) -> Self {
        let quota = |rate: NonZeroU32| {
            let burst = rate.saturating_mul(NonZeroU32::new(10).expect("not zero"));
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        };
        Self {
            request_timeout: limits.request_timeout,
            per_ip: limits.per_ip.map(quota),
            asked: AtomicU32::new(0),
        }
    }

    fn admits(&self, ip: IpAddr) -> bool {
        let Some(limiter) = &self.per_ip else {
            return true;
        };
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            limiter.retain_recent();
        }
        // Who has one IPv6 address has a network of them.
        let network = match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(
                || IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
                IpAddr::V4,
            ),
        };
        limiter.check_key(&network).is_ok()
    }
}

pub(crate) async fn within_bounds(
    State(bounds): State<Arc<Bounds>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if let Some(ConnectInfo(peer)) = peer
        && !bounds.admits(peer.ip())
    {
        let problem = Problem::new(
            429,
            "too-many-requests",
            true,
            "too many requests from this address",
        );
        return Refusal(problem).into_response();
    }
    let mut response = match timeout(bounds.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!(
                "no answer within {:?}; asking again is safe",
                bounds.request_timeout
            );
            Refusal(Problem::new(503, "timed-out", true, detail)).into_response()
        }
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] as [(HeaderName, &'static str); 2]
    {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
