//! What is served, to whom, and what it says.

use alloy_primitives::Address;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use micropay_gateway::server::operator::{Live, Source, router};
use protocol::ticket::Amount;
use storage::conformance::fixture;
use storage::{MemoryStore, SqliteStore};
use tower::ServiceExt;

use super::shop::{self, HOSTILE};

/// Asks a shop's listener for a path under the name `host`.
pub(crate) async fn ask(shop: impl Source, host: &str, path: &str) -> (Response<()>, String) {
    let request = Request::get(path)
        .header("host", host)
        .body(Body::empty())
        .unwrap();
    let response = router(shop, ["Shop.Example".into()])
        .oneshot(request)
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (
        Response::from_parts(parts, ()),
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

async fn get(shop: Live<MemoryStore>, path: &str) -> String {
    let (response, body) = ask(shop, "127.0.0.1:9090", path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    body
}

#[tokio::test]
async fn the_page_shows_money_wins_payers_claims_refusals_and_errors() {
    let page = get(shop::busy().await, "/").await;
    for text in [
        "Selling",
        "Expected",
        "Won",
        "In claims",
        "Final",
        "0.55 ETH", // 55 prizes credited
        "0.12 ETH", // 12 in a claim
        "0.06 ETH", // 6 wait
        "Wins against expectation",
        "99 % band",
        "One payer wins too little",
        "Too few wins",
        "withdrawing",
        "insolvent",
        "unclaimed",
        "#3",
        "final",
        "sent",
        "commitment-closed",
        "214",
        "https://mainnet.example/…",
        "0x8d1f0c",
        "× 2",
        "Escrows in the contract",
    ] {
        assert!(page.contains(text), "{text:?} is missing");
    }
    assert!(!page.contains("0123456789abcdef"), "a key of the node's address");
    assert!(page.contains("http-equiv=\"refresh\""));
    assert!(
        !get(shop::busy().await, "/?still")
            .await
            .contains("http-equiv=\"refresh\"")
    );
}

#[tokio::test]
async fn an_empty_page_says_what_to_do() {
    let page = get(shop::empty(), "/").await;
    for text in [
        "micropay get http://127.0.0.1:8402/",
        "Nobody has paid",
        "micropay claim now",
        "No payment has been refused",
        "No request has come yet",
        "None since the start",
    ] {
        assert!(page.contains(text), "{text:?} is missing");
    }
}

#[tokio::test]
async fn what_comes_from_outside_stays_text() {
    let page = get(shop::hostile().await, "/").await;
    assert!(
        !page.contains("<script") && !page.contains("<img"),
        "markup got through"
    );
    // Once, the page's own.
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(page.contains("&lt;script&gt;alert("));
    // In the metrics, labels are ours; in JSON, quotes are escaped.
    let (_, json) = ask(shop::hostile().await, "localhost", "/snapshot.json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["facts"]["asset"]["symbol"], HOSTILE);
}

#[tokio::test]
async fn a_browser_may_only_show_the_page() {
    let (response, _) = ask(shop::empty(), "localhost", "/").await;
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains("script"),
        "{policy}"
    );
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
}

#[tokio::test]
async fn only_those_who_ask_for_our_name_are_answered() {
    for host in [
        "127.0.0.1:9090",
        "127.8.8.8",
        "localhost:9090",
        "LOCALHOST",
        "[::1]:9090",
        "shop.example",
        "shop.example:80",
    ] {
        for path in ["/", "/metrics", "/snapshot.json", "/healthz", "/icon.svg"] {
            let (response, _) = ask(shop::empty(), host, path).await;
            assert_eq!(response.status(), StatusCode::OK, "{host} {path}");
        }
    }
    for host in [
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "localhost.evil.example",
        "",
        "a b",
        "me@evil.example",
    ] {
        for path in ["/", "/metrics", "/snapshot.json", "/healthz", "/nothing"] {
            let (response, body) = ask(shop::busy().await, host, path).await;
            assert_eq!(
                response.status(),
                StatusCode::MISDIRECTED_REQUEST,
                "{host:?} {path}"
            );
            assert!(!body.contains("ETH"));
        }
    }
    // Two names, and none.
    let two = Request::get("/")
        .header("host", "localhost")
        .header("host", "evil.example");
    for request in [two, Request::get("/")] {
        let response = router(shop::empty(), [])
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
    }
}

#[tokio::test]
async fn nothing_can_be_changed_here() {
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "localhost");
        let response = router(shop::empty(), [])
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
}

#[tokio::test]
async fn health_says_why_nothing_is_accepted() {
    let (response, body) = ask(shop::empty(), "localhost", "/healthz").await;
    assert_eq!((response.status(), body.as_str()), (StatusCode::OK, "ok\n"));

    let shop = shop::empty();
    shop.counters.pause("another process has taken over");
    let (response, body) = ask(shop, "localhost", "/healthz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "another process has taken over\n");

    let shop = shop::empty();
    shop.counters.pause("a pause");
    shop.counters.resume();
    assert_eq!(
        ask(shop, "localhost", "/healthz").await.0.status(),
        StatusCode::OK
    );

    // An age of a second is too much where none is allowed.
    let mut shop = shop::empty();
    shop.facts.max_mirror_age = protocol::ticket::Seconds(0);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let (response, body) = ask(shop, "localhost", "/healthz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "the view of the chain is 1 s old, accepted is up to 0 s\n");
}

#[tokio::test]
async fn the_snapshot_has_every_digit() {
    let json: serde_json::Value =
        serde_json::from_str(&get(shop::busy().await, "/snapshot.json").await).unwrap();
    assert_eq!(json["money"]["paid"]["amount"], "550000000000000000");
    assert_eq!(json["money"]["paid"]["count"], 55);
    assert_eq!(json["money"]["sent"]["count"], 12);
    assert_eq!(json["money"]["won"]["amount"], "60000000000000000");
    assert_eq!(json["money"]["open_claims"], serde_json::json!([0, 1, 0]));
    assert_eq!(json["flagged"], 1);
    assert_eq!(json["payers"][0]["tickets"]["alarmed"], true);
    assert_eq!(json["payers"].as_array().unwrap().len(), 13);
    assert_eq!(
        json["claims"][1]["fee"],
        (61_000u64 * 21 * 1_300_000_000).to_string()
    );
}

#[tokio::test]
async fn a_store_that_fails_costs_its_part_of_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("shop.db"), fixture::identity())
        .await
        .unwrap();
    store.close().await.unwrap();
    let broken = async || {
        let Live {
            facts,
            counters,
            mirror,
            clock,
            ..
        } = shop::busy().await;
        let store = store.clone();
        Live {
            facts,
            counters,
            store,
            mirror,
            channels: None,
            clock,
        }
    };
    let (response, page) = ask(broken().await, "localhost", "/").await;
    assert_eq!(response.status(), StatusCode::OK);
    for text in [
        "Not selling",
        "the store does not answer",
        "No payment is accepted",
        "162",
        "Last errors",
    ] {
        assert!(page.contains(text), "{text:?} is missing");
    }
    let (response, _) = ask(broken().await, "localhost", "/healthz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let (_, metrics) = ask(broken().await, "localhost", "/metrics").await;
    assert!(metrics.contains("micropay_ready 0\n"));
    // Nothing is said rather than nothing owned.
    assert!(!metrics.contains("micropay_winners"));
}

#[tokio::test]
async fn too_few_wins_in_all_stand_on_top() {
    let shop = shop::empty();
    for _ in 0..4_000 {
        let (payer, escrow) = (Address::repeat_byte(1), Address::repeat_byte(2));
        shop.counters.accepted(payer, escrow, Amount(1), 0.01, false);
    }
    let page = get(shop, "/").await;
    for text in [
        "Too few wins · Micropay",
        "Fewer wins than chance explains",
        "100 %",
        "unknown",
    ] {
        assert!(page.contains(text), "{text:?} is missing");
    }
}
