//! The registrar over HTTP. Bounds first: who asks too often, says too much or takes too long is refused before anything is
//! looked at. Refusals are problems (RFC 9457) with the rule's name and both values.

use std::sync::Arc;

use alloy_primitives::B256;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, header},
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::{get, post},
};
use protocol::offline::{Coin, Domain, LogEntry, Sequence, VouchedRegistration, WalletId, WalletSignature};
use storage::offline::registrar::{AuthorisedRecord, RegistrarStore, StageName};
use tracing::warn;

use super::{
    ClassPolicy, FinalDeposits, FinalWallets, Registrar, RegistrarError, RegistrationRequest, RenewalRequest,
    attest::{Format, MAX_EVIDENCE_BYTES},
    log::{LogSegment, MAX_ENTRIES},
    register::{Begun, Offer},
    wire::{
        AuthorisationAnswer, AuthorisationBody, BegunAnswer, BodyError, CapFields, CheckpointBody,
        ClassAnswer, CompletionBody, CredentialFields, DepositBody, KeyFields, Problem, RegistrarAnswer,
        RegistrationBody, RenewalBody, RevocationsAnswer, SignedAnswer,
    },
};
use crate::http::{Bounds, Refusal, nothing_here, only, parse, read_json, within_bounds};

pub use crate::http::{Clock, Limits, serve};

/// What the interface is, for machines.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Every route, as `openapi.json` has them.
pub const ROUTES: [(&str, &str); 10] = [
    ("post", "/v1/registrations"),
    ("get", "/v1/registrations/{wallet}"),
    ("post", "/v1/registrations/{wallet}/authorisation"),
    ("post", "/v1/registrations/{wallet}/completion"),
    ("post", "/v1/registrations/{wallet}/renewal"),
    ("post", "/v1/deposits"),
    ("post", "/v1/checkpoints"),
    ("get", "/v1/revocations"),
    ("get", "/v1/registrar"),
    ("get", "/openapi.json"),
];

/// Evidence and entries in hexadecimal, and what is around them.
const BODY_BYTES: usize = 2 * if MAX_EVIDENCE_BYTES > 64 * MAX_ENTRIES {
    MAX_EVIDENCE_BYTES
} else {
    64 * MAX_ENTRIES
} + 4 * 1024;

struct Server<S, V> {
    registrar: Arc<Registrar<S, V>>,
    clock: Clock,
}

impl<S, V> Clone for Server<S, V> {
    fn clone(&self) -> Self {
        Self {
            registrar: self.registrar.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// What a registrar takes from its clients: as [`Limits::default`], with room for evidence.
pub fn limits() -> Limits {
    Limits {
        body_bytes: BODY_BYTES,
        ..Limits::default()
    }
}

/// The registrar's routes. The peer's address is expected as `ConnectInfo` among the request's extensions, as [`serve`] puts
/// it there; without one there is no limit per address.
pub fn router<S, V>(registrar: Arc<Registrar<S, V>>, clock: Clock, limits: Limits) -> Router
where
    S: RegistrarStore,
    V: FinalDeposits + FinalWallets,
{
    let bounds = Arc::new(Bounds::new(limits));
    let [
        begin,
        one,
        authorisation,
        completion,
        renewal,
        deposits,
        checkpoints,
        revocations,
        about,
        openapi,
    ] = ROUTES.map(|(_, path)| path);
    Router::new()
        .route(begin, only(post(begin_registration)))
        .route(one, only(get(registration)))
        .route(authorisation, only(post(authorise)))
        .route(completion, only(post(complete)))
        .route(renewal, only(post(renew)))
        .route(deposits, only(post(receipt)))
        .route(checkpoints, only(post(checkpoint)))
        .route(revocations, only(get(revocation_list)))
        .route(about, only(get(describe)))
        .route(openapi, only(get(openapi_json)))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(from_fn_with_state(bounds, within_bounds))
        .with_state(Server { registrar, clock })
}

type Body = Result<Bytes, BytesRejection>;
type WalletPath = Result<Path<String>, PathRejection>;
type Answer<T> = Result<Json<T>, Refusal>;

async fn begin_registration<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<BegunAnswer> {
    let body: RegistrationBody = read_json(&headers, body)?;
    let (request, signature): (RegistrationRequest, WalletSignature) = body.try_into()?;
    let now = (server.clock)();
    let begun = server.registrar.begin(&request, &signature, now).await?;
    Ok(Json(begun_answer(server.registrar.domain(), begun)))
}

async fn authorise<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
    path: WalletPath,
    headers: HeaderMap,
    body: Body,
) -> Answer<AuthorisationAnswer> {
    let wallet = wallet(path)?;
    let body: AuthorisationBody = read_json(&headers, body)?;
    let now = (server.clock)();
    let authorised = server
        .registrar
        .authorise(wallet, &body.secret.0, body.nonce, now)
        .await?;
    let AuthorisedRecord {
        valid_until,
        genesis,
        expiration,
        signature,
        ..
    } = authorised;
    Ok(Json(AuthorisationAnswer {
        genesis,
        valid_until,
        expiration,
        signature,
    }))
}

async fn complete<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
    path: WalletPath,
    headers: HeaderMap,
    body: Body,
) -> Answer<SignedAnswer> {
    let wallet = wallet(path)?;
    let body: CompletionBody = read_json(&headers, body)?;
    let now = (server.clock)();
    let registrar = &server.registrar;
    let signed = match (body.log, body.evidence) {
        (Some(log), None) => {
            registrar
                .finish_log(wallet, &log.attest, &log.signature, now)
                .await?
        }
        (None, Some(evidence)) => registrar.finish_evidence(wallet, &evidence, now).await?,
        _ => {
            let detail = "either log or evidence is needed, and not both";
            return Err(Problem::new(400, "malformed-request", false, detail).into());
        }
    };
    Ok(vouched_answer(registrar, &signed))
}

async fn renew<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
    path: WalletPath,
    headers: HeaderMap,
    body: Body,
) -> Answer<SignedAnswer> {
    let wallet = wallet(path)?;
    let body: RenewalBody = read_json(&headers, body)?;
    let (request, signature): (RenewalRequest, WalletSignature) = body.try_into()?;
    let got = request.key.wallet();
    if got != wallet {
        let detail = format!("the key is of wallet {got}, the address of {wallet}");
        return Err(Problem::new(400, "malformed-request", false, detail).into());
    }
    let now = (server.clock)();
    let signed = server.registrar.renew(&request, &signature, now).await?;
    Ok(vouched_answer(&server.registrar, &signed))
}

async fn registration<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
    path: WalletPath,
) -> Answer<SignedAnswer> {
    let now = (server.clock)();
    let signed = server.registrar.registration(wallet(path)?, now).await?;
    Ok(Json(SignedAnswer {
        signed: signed.encode(server.registrar.domain()).into(),
    }))
}

async fn receipt<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<SignedAnswer> {
    let coin: Coin = read_json::<DepositBody>(&headers, body)?.into();
    let now = (server.clock)();
    let signed = server.registrar.receipt(&coin, now).await?;
    Ok(Json(SignedAnswer {
        signed: signed.encode(server.registrar.domain()).into(),
    }))
}

async fn checkpoint<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<SignedAnswer> {
    let body: CheckpointBody = read_json(&headers, body)?;
    let (entries, rest) = body.entries.as_chunks::<{ LogEntry::LENGTH }>();
    if !rest.is_empty() {
        let detail = format!(
            "entries of {} bytes are no multiple of {}",
            body.entries.len(),
            LogEntry::LENGTH
        );
        return Err(Problem::new(400, "malformed-request", false, detail).into());
    }
    let segment = LogSegment {
        wallet: WalletId(body.wallet),
        from: Sequence(body.from),
        entries: entries.iter().map(LogEntry::from_bytes).collect(),
        attest: body.log.attest.to_vec(),
        signature: WalletSignature::from_bytes(&body.log.signature).map_err(BodyError::from)?,
    };
    let now = (server.clock)();
    let signed = server.registrar.checkpoint(&segment, now).await?;
    Ok(Json(SignedAnswer {
        signed: signed.encode(server.registrar.domain()).into(),
    }))
}

async fn revocation_list<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
) -> Answer<RevocationsAnswer> {
    let now = (server.clock)();
    let list = server.registrar.revocation_list(now).await?;
    Ok(Json(RevocationsAnswer {
        issued_at: list.issued_at.0,
        age: now.since(list.issued_at).0,
        signed: list.encode(server.registrar.domain()).into(),
    }))
}

async fn describe<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    State(server): State<Server<S, V>>,
) -> Json<RegistrarAnswer> {
    let registrar = &server.registrar;
    let key = registrar.policy_key();
    Json(RegistrarAnswer {
        registrar: registrar.address(),
        policy_key: KeyFields {
            x: B256::from_slice(&key.0[..32]),
            y: B256::from_slice(&key.0[32..]),
        },
        chain_id: registrar.domain().chain_id(),
        contract: registrar.domain().contract(),
        classes: registrar.policy().classes().iter().map(class).collect(),
    })
}

async fn openapi_json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

fn wallet(path: WalletPath) -> Result<WalletId, Refusal> {
    parse::<B256>(path, "wallet").map(WalletId)
}

fn class(class: &ClassPolicy) -> ClassAnswer {
    ClassAnswer {
        class: class.id.0,
        dev: class.id.is_dev(),
        kind: class.kind.to_string(),
        validity: class.validity.0,
        formats: class.formats().map(|format: Format| format.to_string()).collect(),
        caps: class
            .caps
            .iter()
            .map(|cap| CapFields {
                asset: cap.asset,
                coin: cap.coin,
                wallet: cap.wallet,
            })
            .collect(),
    }
}

fn begun_answer(domain: &Domain, begun: Begun) -> BegunAnswer {
    let stage = match begun.stage {
        StageName::Begun => "begun",
        StageName::Authorised => "authorised",
        StageName::Registered => "registered",
    };
    let (credential, challenge) = match begun.offer {
        Offer::Credential(blob, encrypted_seed) => (Some(CredentialFields { blob, encrypted_seed }), None),
        Offer::Challenge(challenge) => (None, Some(challenge)),
    };
    BegunAnswer {
        wallet: begun.wallet.0,
        stage: stage.to_owned(),
        credential,
        challenge,
        genesis: begun.genesis,
        vouched: begun.vouched.map(|vouched| vouched.encode(domain).into()),
    }
}

fn vouched_answer<S: RegistrarStore, V: FinalDeposits + FinalWallets>(
    registrar: &Registrar<S, V>,
    vouched: &VouchedRegistration,
) -> Json<SignedAnswer> {
    Json(SignedAnswer {
        signed: vouched.encode(registrar.domain()).into(),
    })
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Key(error) => RegistrarError::Key(error).into(),
            BodyError::Signature(error) => RegistrarError::Signature(error).into(),
        }
    }
}

impl From<RegistrarError> for Refusal {
    fn from(error: RegistrarError) -> Self {
        if error.status() >= 500 {
            warn!(%error, rule = error.rule(), "the registrar signs nothing");
        }
        let mut problem = Problem::new(error.status(), error.rule(), error.retry(), error.public());
        if let Some((got, needed)) = error.values() {
            (problem.got, problem.needed) = (Some(got), Some(needed));
        }
        Self(problem)
    }
}
