//! Where a redirect leads. Followed here and not in the HTTP client below, which would take the payment along.

use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
};
use reqwest::{Method, Request, Response, StatusCode};

use super::cache::Origin;

/// The request that an answer redirects to, as browsers understand it: a POST becomes a GET on 301, 302 and 303, and what
/// authenticates to one origin is not shown to another. `None`: the answer is no redirect, or one that cannot be followed.
pub(super) fn next(answer: &Response, asked: Option<Request>) -> Option<Request> {
    let status = answer.status();
    let keeps_body = matches!(
        status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    );
    if !keeps_body
        && !matches!(
            status,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER
        )
    {
        return None;
    }
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let url = answer.url().join(location).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let mut request = asked?; // a stream is gone
    let becomes_get = match (status, request.method()) {
        (_, &Method::GET | &Method::HEAD) => false,
        (StatusCode::SEE_OTHER, _) => true,
        (_, &Method::POST) => !keeps_body,
        _ => false,
    };
    if becomes_get {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
        for header in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
            request.headers_mut().remove(header);
        }
    }
    if Origin::of(&url) != Origin::of(request.url()) {
        for header in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
            request.headers_mut().remove(header);
        }
    }
    *request.url_mut() = url;
    Some(request)
}
