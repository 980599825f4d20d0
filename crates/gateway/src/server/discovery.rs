//! What is for sale, for machines and for people who have not asked for a price yet: `/openapi.json` with `x-payment-info`,
//! `/.well-known/x402`, `/llms.txt`. All from the price list; an upstream's own `/openapi.json` is not hidden.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use serde_json::{Map, Value, json};

use super::table::{Charge, Kinds, Route, Table};
use crate::wire::{CHANNELS, Kind, METHOD};

/// How the seller calls its service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Name, e.g. "Weather".
    pub name: String,
    /// What it is, in a sentence or two.
    pub description: String,
}

/// Documents about a gate's price list.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    openapi: String,
    llms: String,
}

impl Discovery {
    /// Writes the documents.
    pub(super) fn new(service: &Service, table: &Table, kinds: Kinds) -> Self {
        Self {
            openapi: openapi(service, table, kinds).to_string(),
            llms: llms(service, table, kinds),
        }
    }

    /// The document at this path, if it is one of ours. `/.well-known/x402` changes with the sessions, and is made from
    /// `terms` when it is asked for.
    pub(super) fn find(
        &self,
        method: &Method,
        path: &str,
        terms: impl Fn() -> Value,
    ) -> Option<Response<Body>> {
        if method != Method::GET && method != Method::HEAD {
            return None;
        }
        match path {
            "/openapi.json" => Some(document(
                "application/json",
                "public, max-age=300",
                self.openapi.clone(),
            )),
            "/llms.txt" => Some(document(
                "text/plain; charset=utf-8",
                "public, max-age=300",
                self.llms.clone(),
            )),
            "/.well-known/x402" => Some(document("application/json", "no-store", terms().to_string())),
            _ => None,
        }
    }
}

fn document(kind: &'static str, cache: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

fn openapi(service: &Service, table: &Table, kinds: Kinds) -> Value {
    let mut paths = Map::new();
    for route in table.routes() {
        // Regular expressions have no form in OpenAPI.
        let path = match route.pattern.path() {
            path if path.starts_with('~') => continue,
            path => template(path),
        };
        let item = paths.entry(path).or_insert_with(|| json!({}));
        let named = route.pattern.method().map(Method::as_str);
        let methods = named.map_or(vec!["get", "post"], |one| vec![one]);
        for method in methods {
            let operation = operation(route, kinds);
            if let Some(item) = item.as_object_mut() {
                item.entry(method.to_ascii_lowercase()).or_insert(operation);
            }
        }
    }
    if kinds.channel {
        paths.extend(channel_paths());
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": service.name, "description": service.description, "version": "1" },
        "x-service-info": { "categories": [], "docs": { "llms": "/llms.txt" } },
        "paths": paths,
    })
}

fn operation(route: &Route, kinds: Kinds) -> Value {
    let summary = route.description.clone().unwrap_or_default();
    let answer = json!({ "description": "the upstream's answer" });
    match route.charge {
        Charge::Free => json!({ "summary": summary, "responses": { "default": answer } }),
        Charge::Price(price) => json!({
            "summary": summary,
            "x-payment-info": { "offers": sold_by(route.kinds.and(kinds)).map(|kind| json!({
                "method": METHOD, "intent": kind.intent(), "amount": price.price.to_string(),
                "currency": price.asset.to_checksum(None), "description": summary,
            })).collect::<Vec<_>>() },
            "responses": { "402": { "description": "payment required" }, "default": answer },
        }),
    }
}

fn sold_by(kinds: Kinds) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |kind| kinds.contains(*kind))
}

/// What the parties of a channel ask each other, beside payments.
fn channel_paths() -> [(String, Value); 4] {
    let hex =
        |bytes: usize| json!({ "type": "string", "pattern": format!("^0x[0-9a-fA-F]{{{}}}$", 2 * bytes) });
    let index = || json!({ "type": "integer", "minimum": 0, "maximum": protocol::channel::MAX_LENGTH.0 });
    let decimal = || json!({ "type": "string", "pattern": "^[0-9]+$" });
    let path = |question: &str, summary: &str, asked: Value, answered: Value| {
        let body = |properties: Value| {
            let schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
            json!({ "application/json": { "schema": schema } })
        };
        let operation = json!({
            "summary": summary,
            "parameters": [{ "name": "channel", "in": "path", "required": true, "schema": hex(32) }],
            "requestBody": { "required": true, "content": body(asked) },
            "responses": {
                "200": { "description": "done", "content": body(answered) },
                "default": { "description": "an RFC 9457 problem" },
            },
        });
        (
            format!("{CHANNELS}{{channel}}/{question}"),
            json!({ "post": operation }),
        )
    };
    [
        path(
            "position",
            "Where the vendor stands, for a client that lost its store",
            json!({ "requestedAt": decimal(), "signature": hex(65) }),
            json!({ "channelId": hex(32), "checkpointed": index(), "last": { "type": "object" } }),
        ),
        path(
            "opener",
            "Opens the receipts of a channel",
            json!({ "index": index(), "sigma": hex(64) }),
            json!({ "opened": index(), "endsInSigma0": { "type": "boolean" } }),
        ),
        path(
            "close",
            "The vendor's half of a cooperative close",
            json!({ "index": index(), "clientSignature": hex(65) }),
            json!({ "index": index(), "vendorSignature": hex(65) }),
        ),
        path(
            "payments",
            "Payments that a vendor restored from a backup has lost",
            json!({ "payments": { "type": "array", "items": { "type": "object" } } }),
            json!({ "taken": index() }),
        ),
    ]
}

/// A glob as an OpenAPI path: each wildcard is a parameter.
fn template(path: &str) -> String {
    let mut number = 0;
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| {
            if segment.contains(['*', '?', '[', '{', '\\']) {
                number += 1;
                format!("{{p{number}}}")
            } else {
                segment.to_owned()
            }
        })
        .collect();
    segments.join("/")
}

fn llms(service: &Service, table: &Table, kinds: Kinds) -> String {
    let mut text = format!("# {}\n\n{}\n\n", service.name, service.description);
    let named = |name: fn(Kind) -> &'static str| sold_by(kinds).map(name).collect::<Vec<_>>().join(" or ");
    text.push_str(&format!(
        "Requests are paid for one by one over HTTP 402, by x402 (scheme {}) or the Payment authentication scheme (method \
         {METHOD}, intent {}). Ask without payment to get the terms.\n\n## Prices\n\n",
        named(Kind::scheme),
        named(Kind::intent),
    ));
    for route in table.routes() {
        let price = match route.charge {
            Charge::Free => "free".to_owned(),
            Charge::Price(price) => format!("{} atomic units of asset {}", price.price, price.asset),
        };
        let what = route.description.as_deref().map(|what| format!(" ({what})"));
        text.push_str(&format!(
            "- `{}`{}: {price}\n",
            route.pattern,
            what.unwrap_or_default()
        ));
    }
    text.push_str("\nThe first line that matches decides.\n");
    text
}
