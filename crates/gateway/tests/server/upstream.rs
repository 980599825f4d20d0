//! A server to sell: counts what reaches it, and fails in every way there is.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::any;
use axum::{Json, Router};
use futures::{StreamExt, stream};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Shared>);

#[derive(Default)]
struct Shared {
    address: parking_lot::Mutex<Option<SocketAddr>>,
    calls: AtomicUsize,
    /// Calls that ended, whichever way.
    ended: AtomicUsize,
    failing: AtomicBool,
    /// Lets what hangs at `/gate` go on.
    go: Notify,
}

/// Counts its end even where its handler is dropped.
struct Ends(Server);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let server = Self::default();
        let router = Router::new()
            .route("/status/{code}", any(status))
            .route("/hang", any(|| std::future::pending::<()>()))
            .route("/gate", any(gate))
            .route("/flaky", any(flaky))
            .route(
                "/echo",
                any(|request: Request| async { Response::new(request.into_body()) }),
            )
            .route("/drain", any(drain))
            .route("/big/{bytes}", any(big))
            .route("/drip", any(drip))
            .route("/break", any(broken))
            .route("/stall", any(stalled))
            .route("/trailers", any(trailers))
            .route("/headers", any(headers))
            .route("/free/headers", any(headers))
            .route(
                "/free/echo",
                any(|request: Request| async { Response::new(request.into_body()) }),
            )
            .route("/free/ws", any(upgrade))
            .route("/ws", any(upgrade))
            .route("/free/hang", any(|| std::future::pending::<()>()))
            .route("/spoof", any(spoof))
            .route("/free/spoof", any(spoof))
            .route("/cache/{*directives}", any(cache))
            .fallback(any(good))
            .layer(axum::middleware::from_fn_with_state(server.clone(), count))
            .with_state(server.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *server.0.address.lock() = Some(listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        server
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.0.address.lock().unwrap())
    }

    /// Requests that came so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn under_way(&self) -> usize {
        self.calls() - self.0.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::SeqCst);
    }

    pub(crate) fn go_on(&self) {
        self.0.go.notify_one();
    }
}

async fn count(State(server): State<Server>, request: Request, next: axum::middleware::Next) -> Response {
    server.0.calls.fetch_add(1, Ordering::SeqCst);
    let _ends = Ends(server);
    next.run(request).await
}

async fn good(request: Request) -> String {
    format!("good of {}", request.uri())
}

async fn status(Path(code): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(code).unwrap(), format!("status {code}"))
}

async fn gate(State(server): State<Server>) -> &'static str {
    server.0.go.notified().await;
    "went on"
}

async fn flaky(State(server): State<Server>) -> Response {
    let mut response = Response::new(Body::from("flaky good"));
    if server.0.failing.load(Ordering::SeqCst) {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

/// Reads everything, keeps nothing.
async fn drain(request: Request) -> String {
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return "broken".into() };
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    format!("{bytes} bytes")
}

async fn big(Path(bytes): Path<usize>) -> Response {
    let block = Bytes::from(vec![b'x'; 64 << 10]);
    let blocks = (0..bytes.div_ceil(block.len())).map(move |_| Ok::<_, Infallible>(block.clone()));
    Response::new(Body::from_stream(stream::iter(blocks)))
}

/// Three pieces with pauses.
async fn drip() -> Response {
    let pieces = stream::iter(["one ", "two ", "three"]).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok::<_, Infallible>(piece)
    });
    Response::new(Body::from_stream(pieces))
}

/// Half an answer, then the connection breaks.
async fn broken() -> Response {
    let pieces = stream::iter([Ok("half"), Err(std::io::Error::other("broken"))]).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        piece
    });
    Response::new(Body::from_stream(pieces))
}

/// Half an answer, then silence.
async fn stalled() -> Response {
    let half = stream::iter([Ok::<_, Infallible>("half")]).chain(stream::pending());
    Response::new(Body::from_stream(half))
}

async fn trailers() -> Response {
    let mut fields = http::HeaderMap::new();
    fields.insert("x-checksum", "abc".parse().unwrap());
    fields.insert("payment-receipt", "forged".parse().unwrap());
    let body = http_body_util::Full::new(Bytes::from("with trailers"))
        .with_trailers(async { Some(Ok::<_, Infallible>(fields)) });
    Response::builder()
        .header("trailer", "x-checksum, payment-receipt")
        .body(Body::new(body))
        .unwrap()
}

/// What reached it.
async fn headers(request: Request) -> Json<Value> {
    let headers: Vec<Value> = request
        .headers()
        .iter()
        .map(|(name, value)| json!([name.as_str(), value.to_str().unwrap_or("?")]))
        .collect();
    Json(json!({ "method": request.method().as_str(), "uri": request.uri().to_string(), "headers": headers }))
}

/// Answers with everything that only a gateway may say.
async fn spoof() -> Response {
    let mut response = Response::new(Body::from("spoofed"));
    for name in micropay_gateway::wire::PAYMENT_HEADERS {
        response.headers_mut().insert(name, "forged".parse().unwrap());
    }
    let challenges = ["Payment id=\"forged\"", "Basic realm=\"upstream\"", "payment"];
    for challenge in challenges {
        response
            .headers_mut()
            .append("www-authenticate", challenge.parse().unwrap());
    }
    response
}

/// Says of its answer what the path says, piece by piece: `name=value`.
async fn cache(Path(directives): Path<String>) -> Response {
    let mut response = Response::new(Body::from("cached"));
    for piece in directives.split('/') {
        let (name, value) = piece.split_once(':').unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

/// Takes any upgrade, and echoes.
async fn upgrade(mut request: Request) -> Response {
    let Some(protocol) = request.headers().get("upgrade").cloned() else {
        return Response::builder().status(426).body(Body::empty()).unwrap();
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..read]).await.unwrap();
        }
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", protocol)
        .body(Body::empty())
        .unwrap()
}
