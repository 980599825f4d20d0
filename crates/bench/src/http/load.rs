//! A load generator: so many connections that ask one after another, or at a fixed rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use eyre::{Result, ensure, eyre};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Requests of one kind.
#[derive(Clone)]
pub struct Target {
    /// Where to.
    pub address: SocketAddr,
    /// Path of every request.
    pub path: &'static str,
    /// `PAYMENT-SIGNATURE` of each request in turn; empty: no payment.
    pub payments: Arc<Vec<HeaderValue>>,
    next: Arc<AtomicUsize>,
}

/// How long answers took, sorted.
#[derive(Clone, Debug)]
pub struct Times {
    /// From when it should have been asked to the end of the answer.
    pub each: Vec<Duration>,
    /// All together.
    pub wall: Duration,
}

impl Target {
    /// Requests of this path.
    #[must_use]
    pub fn new(address: SocketAddr, path: &'static str, payments: Vec<HeaderValue>) -> Self {
        Self {
            address,
            path,
            payments: Arc::new(payments),
            next: Arc::default(),
        }
    }

    /// The same requests on another path.
    #[must_use]
    pub fn on(&self, path: &'static str) -> Self {
        Self {
            path,
            next: Arc::default(),
            ..self.clone()
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>> {
        let mut request = Request::get(self.path).header("host", "bench");
        if !self.payments.is_empty() {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let payment = self.payments.get(next).ok_or_else(|| eyre!("no payments left"))?;
            request = request.header("payment-signature", payment);
        }
        Ok(request.body(Empty::new())?)
    }
}

impl Times {
    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.each.len() as f64 / self.wall.as_secs_f64()
    }

    /// The time within which this part of them was answered.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.each.len().saturating_sub(1);
        self.each
            .get(((last as f64) * part).round() as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Several runs as one.
    #[must_use]
    pub fn pooled(runs: Vec<Self>) -> Self {
        let wall = runs.iter().map(|run| run.wall).sum();
        Self::of(runs.into_iter().flat_map(|run| run.each).collect(), wall)
    }

    fn of(mut each: Vec<Duration>, wall: Duration) -> Self {
        each.sort_unstable();
        Self { each, wall }
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, target: &Target) -> Result<()> {
    sender.ready().await?;
    let answer = sender.send_request(target.request()?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(
        status == StatusCode::OK,
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(())
}

/// `requests` requests over `connections` connections, each as soon as the one before is answered.
///
/// # Errors
/// When one is not answered with 200.
pub async fn closed(target: &Target, connections: usize, requests: usize) -> Result<Times> {
    let left = Arc::new(AtomicUsize::new(requests));
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let (target, left) = (target.clone(), Arc::clone(&left));
        workers.spawn(async move {
            let mut sender = connect(target.address).await?;
            let mut each = Vec::new();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let asked = Instant::now();
                ask(&mut sender, &target).await?;
                each.push(asked.elapsed());
            }
            Ok::<_, eyre::Report>(each)
        });
    }
    Ok(Times::of(gather(workers).await?, begun.elapsed()))
}

/// Requests at a fixed rate, whether or not the ones before are answered: counted from when each is due, so that a stall is
/// not hidden by its own delay. A thread of its own keeps the time: tokio's timers have a grain of a millisecond, which would
/// make bursts of all that is due within one.
///
/// # Errors
/// When one is not answered with 200.
pub async fn open(target: &Target, connections: usize, rate: f64, requests: usize) -> Result<Times> {
    let mut workers = JoinSet::new();
    let mut bells = Vec::new();
    for _ in 0..connections {
        let (bell, mut rings) = mpsc::unbounded_channel::<Instant>();
        bells.push(bell);
        let (mut sender, target) = (connect(target.address).await?, target.clone());
        workers.spawn(async move {
            let mut each = Vec::new();
            while let Some(due) = rings.recv().await {
                ask(&mut sender, &target).await?;
                each.push(due.elapsed());
            }
            Ok::<_, eyre::Report>(each)
        });
    }
    let begun = Instant::now();
    thread::spawn(move || {
        for number in 0..requests {
            let due = begun + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // A connection that failed has its error gathered below.
            let _ = bells[number % connections].send(due);
        }
    });
    Ok(Times::of(gather(workers).await?, begun.elapsed()))
}

async fn gather(mut workers: JoinSet<Result<Vec<Duration>>>) -> Result<Vec<Duration>> {
    let mut all = Vec::new();
    while let Some(each) = workers.join_next().await {
        all.extend(each??);
    }
    Ok(all)
}
