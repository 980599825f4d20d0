//! What the gate itself takes of a paid call: called in this process, without sockets, before an upstream that answers at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use eyre::{Result, ensure};
use gateway::server::GateConfig;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use merchant::ticket::Merchant;
use storage::Store;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::proxy::{ANSWER_BYTES, gate, now};
use crate::market::Market;

/// Median time of a paid call less that of a free one. (The mean has the disk in it, which winners wait for.)
///
/// # Errors
/// When a call is not answered.
pub async fn added<S: Store>(
    market: &Market,
    merchant: &Arc<Merchant<S>>,
    payments: &[HeaderValue],
) -> Result<Duration> {
    let upstream = service_fn(|_| async {
        let answer = Body::from(Bytes::from_static(&[b'x'; ANSWER_BYTES]));
        Ok::<_, Infallible>(Response::new(answer))
    });
    let mut service = gate(Arc::clone(merchant), market.price, GateConfig::default(), now)?.layer(upstream);
    let (mut free, mut paid) = (Vec::new(), Vec::new());
    for payment in payments {
        let request = Request::get("/free/x").header("host", "bench");
        free.push(time(&mut service, request.body(Body::empty())?).await?);
        let request = Request::get("/x")
            .header("host", "bench")
            .header("payment-signature", payment);
        paid.push(time(&mut service, request.body(Body::empty())?).await?);
    }
    Ok(median(paid).saturating_sub(median(free)))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn time<G>(gate: &mut G, request: Request<Body>) -> Result<Duration>
where
    G: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let begun = Instant::now();
    let answer = gate.ready().await?.call(request).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    answer.into_body().collect().await?;
    Ok(begun.elapsed())
}
