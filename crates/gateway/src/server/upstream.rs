//! The reverse proxy behind the gate: passes a request to one upstream server and its answer back, bodies unbuffered both
//! ways, over pooled connections.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http::header::{CONNECTION, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::LengthLimitError;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::OwnedSemaphorePermit;
use tower::Service;
use tracing::debug;

use super::idle::Idle;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Headers that are between two neighbours only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Who sent a request; in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// A request's connection among those that a server takes at a time; in its extensions. Held for as long as the connection
/// lives, upgraded or not.
#[derive(Clone, Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "is held")] pub(super) Arc<OwnedSemaphorePermit>);

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The upstream's address is no base of addresses.
    #[error("{0} is not an http or https address with a host")]
    Address(String),
    /// The request's body is larger than is taken.
    #[error("the body has more than {limit} bytes")]
    BodyTooLarge {
        /// The most that is taken, bytes.
        limit: u64,
    },
    /// It cannot be reached, or broke off.
    #[error("{0}")]
    Transport(String),
    /// The request cannot be passed on.
    #[error("the request cannot be passed on: {0}")]
    Request(String),
}

/// One upstream server. Clones share its connections.
#[derive(Clone)]
pub struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    scheme: Scheme,
    authority: Authority,
    /// Path before every request's.
    base: String,
    limits: UpstreamLimits,
}

/// How patient a gateway is with its upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest silence within an answer's body.
    pub idle: Duration,
    /// Largest request body, bytes; only for the words of an error.
    pub body_bytes: u64,
}

impl Upstream {
    /// The server at `address`, e.g. `http://127.0.0.1:3000`.
    pub fn new(address: &Uri, limits: UpstreamLimits) -> Result<Self, UpstreamError> {
        let wrong = || UpstreamError::Address(address.to_string());
        let scheme = address.scheme().cloned().ok_or_else(wrong)?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(wrong());
        }
        let authority = address.authority().cloned().ok_or_else(wrong)?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(limits.connect));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        // Named, because a program with more than one provider has no default.
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)
            .map_err(|error| UpstreamError::Transport(error.to_string()))?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Ok(Self {
            client,
            scheme,
            authority,
            base: address.path().trim_end_matches('/').to_owned(),
            limits,
        })
    }

    fn prepare(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Request<Body>, Option<HeaderValue>), UpstreamError> {
        let wrong = |error: http::Error| UpstreamError::Request(error.to_string());
        let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{target}", self.base))
            .build()
            .map_err(wrong)?;
        let host = request
            .headers()
            .get(HOST)
            .cloned()
            .or_else(|| HeaderValue::from_str(request.uri().authority()?.as_str()).ok());
        *request.uri_mut() = uri;
        // The upstream's connection has its own version.
        *request.version_mut() = Version::HTTP_11;
        let peer = request.extensions().get::<Peer>().copied();
        let headers = request.headers_mut();
        let upgrade = upgrade_of(headers);
        remove_hop_by_hop(headers);
        headers.remove(HOST);
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        headers
            .entry(FORWARDED_PROTO)
            .or_insert(HeaderValue::from_static("http"));
        if let Some(Peer(address)) = peer {
            let before = headers.get_all(FORWARDED_FOR).iter();
            let before = before.filter_map(|value| value.to_str().ok()).map(str::to_owned);
            let list: Vec<String> = before.chain([address.to_string()]).collect();
            if let Ok(list) = HeaderValue::from_str(&list.join(", ")) {
                headers.insert(FORWARDED_FOR, list);
            }
        }
        if let Some(protocol) = &upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        Ok((request, upgrade))
    }

    async fn ask(self, mut request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        let downstream = hyper::upgrade::on(&mut request);
        let place = request.extensions_mut().remove::<Place>();
        let (request, upgrade) = self.prepare(request)?;
        let mut response = self.client.request(request).await.map_err(|error| {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            let mut words = Vec::new();
            while let Some(error) = cause {
                if error.is::<LengthLimitError>() {
                    return UpstreamError::BodyTooLarge {
                        limit: self.limits.body_bytes,
                    };
                }
                words.push(error.to_string());
                cause = error.source();
            }
            UpstreamError::Transport(words.join(": "))
        })?;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switches && upgrade.is_none() {
            let problem = "it changes to a protocol that nobody asked for";
            return Err(UpstreamError::Transport(problem.to_owned()));
        }
        if switches {
            let upstream = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                let _place = place;
                let (Ok(downstream), Ok(upstream)) = (downstream.await, upstream.await) else {
                    return;
                };
                let (mut one, mut other) = (TokioIo::new(downstream), TokioIo::new(upstream));
                if let Err(error) = tokio::io::copy_bidirectional(&mut one, &mut other).await {
                    debug!(%error, "an upgraded connection broke");
                }
            });
        } else {
            remove_hop_by_hop(response.headers_mut());
        }
        // The client's connection has its own version.
        *response.version_mut() = Version::HTTP_11;
        Ok(response.map(|body| Body::new(Idle::new(self.limits.idle, body))))
    }
}

/// The protocol that a request wants to go on with, where that is WebSocket. Any other is not passed on: over HTTP/2, say
/// (`h2c`), a client would go on to ask the upstream for whatever it likes, past the gate.
pub(super) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    let mut protocols = headers.get_all(UPGRADE).iter();
    let protocol = protocols.next().filter(|_| wanted)?;
    let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    (websocket && protocols.next().is_none()).then(|| protocol.clone())
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // `Connection` may name more of them.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().ask(request))
    }
}
