//! The bank over HTTP. Bounds first: who asks too often, says too much or takes too long is refused before anything is looked
//! at. Refusals are problems (RFC 9457) with the rule's name and both values.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use protocol::channel::ChannelId;
use storage::channel::{BankStore, PermitRecord};
use tracing::warn;

use super::{
    Bank, BankError, Ledger, Policy, SignedRequest,
    wire::{BankAnswer, PermitAnswer, PermitBody, PermitsAnswer, PolicyAnswer, Problem, ReputationAnswer},
};
use crate::http::{Bounds, Refusal, nothing_here, only, parse, read_json, within_bounds};

pub use crate::http::{Clock, Limits, serve};

/// What the interface is, for machines.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Every route, as `openapi.json` has them.
pub const ROUTES: [(&str, &str); 5] = [
    ("post", "/v1/permits"),
    ("get", "/v1/permits/{channelId}"),
    ("get", "/v1/bank"),
    ("get", "/v1/reputation/{address}"),
    ("get", "/openapi.json"),
];

struct Server<S, L> {
    bank: Arc<Bank<S, L>>,
    clock: Clock,
}

impl<S, L> Clone for Server<S, L> {
    fn clone(&self) -> Self {
        Self {
            bank: self.bank.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// The bank's routes. The peer's address is expected as `ConnectInfo` among the request's extensions, as [`serve`] and
/// axum's own server put it there; without one there is no limit per address.
pub fn router<S, L>(bank: Arc<Bank<S, L>>, clock: Clock, limits: Limits) -> Router
where
    S: BankStore + Send + Sync + 'static,
    L: Ledger,
{
    let bounds = Arc::new(Bounds::new(limits));
    let [permits, permits_of, about, reputation, openapi] = ROUTES.map(|(_, path)| path);
    Router::new()
        .route(permits, only(post(issue)))
        .route(permits_of, only(get(permits_of_channel)))
        .route(about, only(get(describe)))
        .route(reputation, only(get(reputation_of)))
        .route(openapi, only(get(openapi_json)))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(from_fn_with_state(bounds, within_bounds))
        .with_state(Server { bank, clock })
}

async fn issue<S, L>(
    State(server): State<Server<S, L>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal>
where
    S: BankStore + Send + Sync + 'static,
    L: Ledger,
{
    let body: PermitBody = read_json(&headers, body)?;
    let signed = SignedRequest::try_from(body)
        .map_err(|error| Problem::new(400, "bad-signature", false, error.to_string()))?;
    let permitted = server.bank.permit(&signed, (server.clock)()).await?;
    let status = if permitted.fresh {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let place = format!("/v1/permits/{}", permitted.record.admitted.permit().channel());
    Ok((
        status,
        [(header::LOCATION, place)],
        Json(answer(&permitted.record)),
    )
        .into_response())
}

async fn permits_of_channel<S, L>(
    State(server): State<Server<S, L>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<PermitsAnswer>, Refusal>
where
    S: BankStore + Send + Sync + 'static,
    L: Ledger,
{
    let channel = ChannelId(parse::<B256>(path, "channel id")?);
    let permits = server.bank.permits(channel).await?;
    Ok(Json(PermitsAnswer {
        permits: permits.iter().map(answer).collect(),
    }))
}

async fn describe<S, L>(State(server): State<Server<S, L>>) -> Result<Json<BankAnswer>, Refusal>
where
    S: BankStore + Send + Sync + 'static,
    L: Ledger,
{
    let bank = &server.bank;
    let signer = bank.signer().await?;
    Ok(Json(BankAnswer {
        bank: bank.address(),
        key: signer.key,
        epoch: signer.epoch,
        chain_id: bank.domain().chain_id(),
        contract: bank.domain().contract(),
        policy: policy(bank.policy()),
    }))
}

async fn reputation_of<S, L>(
    State(server): State<Server<S, L>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ReputationAnswer>, Refusal>
where
    S: BankStore + Send + Sync + 'static,
    L: Ledger,
{
    let customer: Address = parse(path, "address")?;
    let (reputation, needed) = server.bank.reputation(customer).await?;
    Ok(Json(ReputationAnswer {
        bank: server.bank.address(),
        customer,
        reputation: reputation.get(),
        needed: needed.get(),
        admitted: reputation >= needed,
    }))
}

async fn openapi_json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

fn answer(record: &PermitRecord) -> PermitAnswer {
    PermitAnswer::new(&record.admitted, record.generation, record.epoch)
}

fn policy(policy: &Policy) -> PolicyAnswer {
    let admit = &policy.admit;
    PolicyAnswer {
        min_reputation: admit.min_reputation.max(protocol::channel::MIN_REPUTATION).get(),
        max_length: admit.max_length.min(protocol::channel::MAX_LENGTH).0,
        min_unit: policy.min_unit.0,
        max_unit: admit.max_unit.0,
        max_deposit: policy.max_deposit.0,
        min_life: admit.min_life.0,
        max_life: admit.max_life.0,
        assets: policy.assets.clone(),
        vendors_listed: policy.vendors.is_some(),
        permits_per_hour: policy.permits_per_hour,
    }
}

impl From<BankError> for Refusal {
    fn from(error: BankError) -> Self {
        if error.status() >= 500 {
            warn!(%error, rule = error.rule(), "no permit");
        }
        let mut problem = Problem::new(error.status(), error.rule(), error.retry(), error.public());
        if let Some((got, needed)) = error.values() {
            (problem.got, problem.needed) = (Some(got), Some(needed));
        }
        Self(problem)
    }
}
