//! What the gateway itself answers, and what it changes in what passes through it.

use alloy_primitives::Address;
use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use protocol::channel;
use protocol::ticket::{Domain, Timestamp};

use crate::wire::{
    Advice, CORS_ALLOW, CORS_EXPOSE, Challenge, ChannelPaymentReceipt, ChannelReceipt, PAYMENT_HEADERS,
    PAYMENT_RECEIPT, PAYMENT_REQUIRED, PAYMENT_RESPONSE, Payment, PaymentRequired, PaymentResponse, Problem,
    Receipt, Resource, Way, Written,
};

/// Ask some servers to take a request for one with another method or path than the one that was priced.
const OVERRIDES: [HeaderName; 5] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Room for the terms in the head of a 402, bytes: all of it is to be below 4 KB, and the rest takes up to 530.
const ROOM: usize = 3_565;
/// Seconds after which an answer that asks for patience is worth asking for again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// A problem in words, for machines and people.
pub(super) fn problem(problem: &Problem) -> Response<Body> {
    let body = serde_json::to_vec(problem).expect("our shapes are JSON");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if problem.retry == Advice::Retry {
        headers.insert(RETRY_AFTER, RETRY_SECONDS);
    }
    response
}

/// What was asked for, as a 402 repeats it.
pub(super) struct Asked {
    pub(super) url: String,
    pub(super) description: Option<String>,
}

/// A 402: the problem, and the terms in both protocols. Where names are so long that it would not fit, the description is
/// left out, then the second challenge, which says what x402 says anyhow, and then the second kind.
pub(super) fn payment_required(
    why: &Problem,
    accepts: Vec<Way>,
    challenges: &[Challenge],
    asked: Asked,
) -> Response<Body> {
    let mut response = problem(why);
    let Asked { url, description } = asked;
    let mut required = PaymentRequired {
        error: why.rule.clone(),
        resource: Resource { url, description },
        accepts,
    };
    let mut challenges: Vec<String> = challenges.iter().map(Challenge::header).collect();
    let mut written = required.header();
    while written.len() + challenges.iter().map(String::len).sum::<usize>() > ROOM {
        if required.resource.description.take().is_some() {
            written = required.header();
        } else if challenges.len() > 1 {
            challenges.pop();
        } else if required.accepts.len() > 1 {
            required.accepts.pop();
            written = required.header();
        } else {
            break;
        }
    }
    let headers = response.headers_mut();
    insert(headers, PAYMENT_REQUIRED, written);
    for challenge in challenges {
        if let Ok(value) = HeaderValue::try_from(challenge) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    response
}

/// How a payment came, and so how its receipt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `PAYMENT-SIGNATURE`.
    X402,
    /// `Authorization: Payment`.
    Payment,
}

/// Adds what became of a ticket to an answer that was paid for.
pub(super) fn add_receipt(
    headers: &mut HeaderMap,
    protocol: Protocol,
    payment: &Payment,
    domain: &Domain,
    sold: &merchant::ticket::Receipt,
    next: Written,
    now: Timestamp,
) {
    match protocol {
        Protocol::X402 => {
            let response = PaymentResponse::taken(payment, domain, sold.ticket, sold.price.0, next);
            insert(headers, PAYMENT_RESPONSE, response.header());
        }
        Protocol::Payment => {
            let receipt = Receipt {
                status: "success",
                method: crate::wire::METHOD,
                timestamp: rfc3339(now.0),
                reference: sold.ticket,
                next,
            };
            insert(headers, PAYMENT_RECEIPT, receipt.header());
        }
    }
    make_private(headers);
}

/// Adds what became of a channel's payment to an answer that was paid for.
pub(super) fn add_channel_receipt(
    headers: &mut HeaderMap,
    protocol: Protocol,
    domain: &channel::Domain,
    sold: &merchant::channel::Receipt,
    now: Timestamp,
) {
    let extra = ChannelReceipt {
        channel: sold.channel.0,
        index: sold.index.0,
        tag: sold.tag.0,
    };
    match protocol {
        Protocol::X402 => {
            let response = PaymentResponse::of_channel(sold.client, domain, sold.price.0, extra);
            insert(headers, PAYMENT_RESPONSE, response.header());
        }
        Protocol::Payment => {
            let receipt = ChannelPaymentReceipt {
                status: "success",
                method: crate::wire::METHOD,
                timestamp: rfc3339(now.0),
                reference: extra.tag,
                extra,
            };
            insert(headers, PAYMENT_RECEIPT, receipt.header());
        }
    }
    make_private(headers);
}

/// What was paid for is for the payer alone: `private` takes the place of `public` and of what shared caches may do, and
/// nothing is said to a certain kind of shared cache (RFC 9213 and its forerunners).
fn make_private(headers: &mut HeaderMap) {
    let targeted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.ends_with("cdn-cache-control") || matches!(name, "surrogate-control" | "x-accel-expires")
        })
        .cloned()
        .collect();
    for name in targeted {
        headers.remove(name);
    }
    let stored = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    let kept = stored.filter(|directive| {
        let name = directive
            .split('=')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        !name.is_empty()
            && !matches!(
                name.as_str(),
                "public" | "private" | "s-maxage" | "proxy-revalidate"
            )
    });
    let merged = std::iter::once("private")
        .chain(kept)
        .collect::<Vec<_>>()
        .join(", ");
    insert(headers, CACHE_CONTROL, merged);
}

/// Takes everything of payment protocols out of a request on its way to the upstream.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    for name in PAYMENT_HEADERS {
        headers.remove(name);
    }
    retain(headers, &AUTHORIZATION, |value| payment_token(value).is_none());
    // @x402/fetch sends this answer header with its requests.
    headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    for name in OVERRIDES {
        headers.remove(name);
    }
}

/// Takes everything of payment protocols out of an upstream's answer: who sells is the gateway.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    for name in PAYMENT_HEADERS {
        headers.remove(name);
    }
    retain(headers, &WWW_AUTHENTICATE, |value| payment_token(value).is_none());
}

/// Takes everything of payment protocols out of the trailers of either.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    for name in PAYMENT_HEADERS
        .into_iter()
        .chain([AUTHORIZATION, WWW_AUTHENTICATE])
    {
        trailers.remove(name);
    }
}

fn retain(headers: &mut HeaderMap, name: &HeaderName, keep: impl Fn(&HeaderValue) -> bool) {
    if headers.get_all(name).iter().all(&keep) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(name)
        .iter()
        .filter(|value| keep(value))
        .cloned()
        .collect();
    headers.remove(name);
    for value in kept {
        headers.append(name, value);
    }
}

/// What follows the scheme `Payment` in a value of `Authorization` or `WWW-Authenticate`.
pub(super) fn payment_token(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    scheme.eq_ignore_ascii_case("payment").then(|| rest.trim())
}

/// The answer to a browser that asks whether a script may send a payment.
pub(super) fn preflight(request: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let asked = |name| request.get(name).cloned();
    // Whatever else a page asks for is the upstream's to judge when the request itself comes.
    let mut allowed = CORS_ALLOW.to_owned();
    if let Some(more) = asked(http::header::ACCESS_CONTROL_REQUEST_HEADERS)
        && let Ok(more) = more.to_str()
    {
        allowed = format!("{allowed}, {more}");
    }
    insert(headers, ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    let method = asked(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        method.unwrap_or(HeaderValue::from_static("GET")),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    add_cors(headers);
    response
}

/// Lets scripts of any origin read the answer and its payment headers, unless the upstream said whose.
pub(super) fn add_cors(headers: &mut HeaderMap) {
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    headers.append(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(CORS_EXPOSE),
    );
    headers.append(VARY, HeaderValue::from_static("Payment-Signature, Authorization"));
}

/// Unix seconds as RFC 3339.
pub(super) fn rfc3339(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The escrow that a request without payment says it will pay from.
pub(super) fn announced_escrow(headers: &HeaderMap) -> Option<Address> {
    headers
        .get(crate::wire::MICROPAY_ESCROW)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Our own values are ASCII.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
