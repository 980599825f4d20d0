//! Serves HTTP/1.1 and HTTP/2 on one port, with bounds on how long a client may take, and stops without breaking what is
//! under way.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutWriter;
use tower::{Service, ServiceExt, service_fn};
use tracing::{debug, info, warn};

use super::idle::Idle;
use super::upstream::{Peer, Place};

/// Pause after the system had no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How patient a server is with its clients.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// Connections at a time, those that were upgraded among them; whoever comes then waits.
    pub connections: usize,
    /// Longest time for the head of a request, and of silence between requests.
    pub header_timeout: Duration,
    /// Longest time for which a client takes nothing of an answer.
    pub write_idle: Duration,
    /// Largest head of a request, bytes.
    pub header_bytes: usize,
    /// Longest silence within a request's body.
    pub body_idle: Duration,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_timeout: Duration::from_secs(30),
            write_idle: Duration::from_secs(30),
            header_bytes: 64 * 1024,
            body_idle: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

/// Serves until `stop`, then lets requests under way end.
pub async fn listen<S>(
    listener: TcpListener,
    service: S,
    limits: ListenLimits,
    stop: impl Future<Output = ()> + Send,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout);
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.connections));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = &mut stop => break,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = Place(Arc::new(place));
        let open = watch::Sender::new(0);
        let silence = silence(open.subscribe(), limits.header_timeout);
        let (service, own) = (service.clone(), place.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(|body| match body.is_end_stream() {
                true => Body::empty(),
                false => Body::new(Idle::new(limits.body_idle, body)),
            });
            request.extensions_mut().insert(Peer(peer.ip()));
            request.extensions_mut().insert(own.clone());
            let (open, answer) = (Open::new(&open), service.clone().oneshot(request));
            async move {
                Ok::<_, Infallible>(
                    answer
                        .await?
                        .map(|inner| Body::new(Answer { inner, _open: open })),
                )
            }
        });
        let (builder, watcher) = (Arc::clone(&builder), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let mut stream = TimeoutWriter::new(stream);
            stream.set_timeout(Some(limits.write_idle));
            let io = TokioIo::new(Box::pin(stream));
            let connection = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service));
            // Hyper has no time limit before it knows which version a client speaks, nor for HTTP/2 without requests.
            tokio::select! {
                ended = watcher.watch(connection.into_owned()) => {
                    if let Err(error) = ended {
                        debug!(%peer, %error, "a connection ended");
                    }
                }
                () = silence => debug!(%peer, "a connection was silent for too long"),
            }
        });
    }
    drop(listener);
    info!("no new connections; waiting for requests under way");
    if tokio::time::timeout(limits.drain, graceful.shutdown())
        .await
        .is_err()
    {
        warn!(
            seconds = limits.drain.as_secs(),
            "requests under way are broken off"
        );
    }
}

/// Ends when no request has been open for so long.
async fn silence(mut open: watch::Receiver<usize>, limit: Duration) {
    loop {
        if *open.borrow_and_update() > 0 {
            if open.changed().await.is_err() {
                return;
            }
        } else if tokio::time::timeout(limit, open.changed()).await.is_err() {
            return;
        }
    }
}

/// A request that is not answered to the end.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The body of an answer, which is open until it is gone.
struct Answer {
    inner: Body,
    _open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}
