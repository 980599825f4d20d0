//! What passes as a header, what does not, and what the gateway says itself.

use http::Method;
use micropay_gateway::wire::PAYMENT_HEADERS;
use serde_json::Value;

use super::raw;
use super::shop::{Answer, Setup, Shop, call, get, payment, route};
use micropay_gateway::server::{Charge, Kinds, Table};

/// What reached the upstream.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let json: Value = serde_json::from_str(&answer.text).unwrap();
    let pairs = json["headers"].as_array().unwrap().iter();
    pairs
        .filter(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn payment_headers_never_reach_the_upstream_and_others_do() {
    let shop = Shop::open().await;
    for path in ["/headers", "/free/headers"] {
        let ticket = shop.ticket();
        let mut request = get(path).header("x-own", "kept").header("cookie", "a=b");
        for name in PAYMENT_HEADERS.iter().filter(|name| *name != "payment-signature") {
            request = request.header(name, "anything");
        }
        request = request
            .header("authorization", "Bearer kept")
            .header("authorization", "payment dropped")
            .header("access-control-expose-headers", "PAYMENT-RESPONSE")
            .paid(&ticket);
        let answer = shop.send(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for name in PAYMENT_HEADERS {
            assert!(seen(&answer, name.as_str()).is_empty(), "{path} {name}");
        }
        assert!(seen(&answer, "access-control-expose-headers").is_empty());
        assert_eq!(seen(&answer, "authorization"), ["Bearer kept"], "{path}");
        assert_eq!(
            (seen(&answer, "x-own"), seen(&answer, "cookie")),
            (vec!["kept".into()], vec!["a=b".into()])
        );
    }
}

#[tokio::test]
async fn an_upstream_cannot_speak_of_payments() {
    let shop = Shop::open().await;
    for (path, own) in [("/spoof", 1), ("/free/spoof", 0)] {
        let answer = shop.pay(path, &shop.ticket()).await;
        assert_eq!(answer.text, "spoofed");
        for name in PAYMENT_HEADERS {
            let values: Vec<_> = answer.headers.get_all(&name).iter().collect();
            assert!(values.iter().all(|value| *value != "forged"), "{path} {name}");
            let ours = name == "payment-response";
            assert_eq!(values.len(), if ours { own } else { 0 }, "{path} {name}");
        }
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges, ["Basic realm=\"upstream\""], "{path}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_end_here() {
    let shop = Shop::open().await;
    let request = "GET /free/headers HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive, x-secret, close\r\n\
        Keep-Alive: timeout=5\r\nX-Secret: 1\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\nX-Kept: 1\r\n\r\n";
    let answer = raw::exchange(shop.address, request).await;
    assert_eq!(raw::status(&answer), 200, "{answer}");
    for gone in ["keep-alive", "x-secret", "\"te\"", "proxy-connection"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    assert!(
        answer.contains("x-kept") && answer.contains("x-forwarded-host") && answer.contains("shop.example")
    );
}

/// Servers that take these for the real path or method would give one thing for another's price.
#[tokio::test]
async fn attack_headers_that_rewrite_a_request_do_not_reach_the_upstream() {
    let shop = Shop::open().await;
    for name in [
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ] {
        let answer = shop.send(get("/free/headers").header(name, "/a")).await;
        assert!(seen(&answer, name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn each_proxy_s_line_of_forwarded_addresses_is_kept_in_order() {
    let shop = Shop::open().await;
    let request = get("/free/headers")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-forwarded-for", "10.0.0.2");
    let answer = shop.send(request).await;
    assert_eq!(
        seen(&answer, "x-forwarded-for"),
        ["10.0.0.1, 10.0.0.2, 127.0.0.1"]
    );
}

#[tokio::test]
async fn paid_answers_are_private_and_refusals_are_not_stored() {
    let shop = Shop::open().await;
    for (said, expected) in [
        ("x-none:1", "private"),
        ("cache-control:public, max-age=60", "private, max-age=60"),
        (
            "cache-control:s-maxage=600, no-transform",
            "private, no-transform",
        ),
        ("cache-control:no-store", "private, no-store"),
        (
            "cache-control:max-age=1/cache-control:PUBLIC",
            "private, max-age=1",
        ),
        ("cache-control:proxy-revalidate,,private=\"x\"", "private"),
    ] {
        let path = format!("/cache/{}", said.replace(' ', "%20").replace('"', "%22"));
        let answer = shop.pay(&path, &shop.ticket()).await;
        assert_eq!(answer.text, "cached", "{answer:?}");
        let values: Vec<_> = answer.headers.get_all("cache-control").iter().collect();
        assert_eq!(values, [expected], "{said}");
        // Every refusal.
        let again = shop.send(get("/b").paid(&shop.ticket_of(0, 1))).await;
        assert_eq!(
            (again.status >= 400, again.header("cache-control")),
            (true, "no-store")
        );
    }
}

/// Shared caches that have a header of their own would not look at `Cache-Control`.
#[tokio::test]
async fn attack_no_shared_cache_is_told_to_keep_a_paid_answer() {
    let shop = Shop::open().await;
    let path = "/cache/cdn-cache-control:max-age=600/surrogate-control:max-age=600/cloudflare-cdn-cache-control:max-age=9/\
        x-accel-expires:600";
    let answer = shop.pay(path, &shop.ticket()).await;
    answer.sold("cached");
    let told: Vec<_> = answer
        .headers
        .keys()
        .filter(|name| {
            name.as_str().contains("surrogate") || name.as_str().contains("cdn") || *name == "x-accel-expires"
        })
        .collect();
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(answer.header("cache-control"), "private");
}

#[tokio::test]
async fn a_preflight_is_answered_and_options_never_costs() {
    let shop = Shop::open().await;
    let preflight = call(Method::OPTIONS, "/a")
        .header("origin", "https://page.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-own");
    let answer = shop.send(preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-methods"), "POST");
    let allowed = answer.header("access-control-allow-headers").to_ascii_lowercase();
    for name in [
        "payment-signature",
        "payment-authorization",
        "authorization",
        "idempotency-key",
        "x-own",
    ] {
        assert!(allowed.contains(name), "{name}: {allowed}");
    }
    assert_eq!(shop.upstream.calls(), 0);
    for path in ["/a", "/free/a"] {
        let answer = shop.send(call(Method::OPTIONS, path)).await;
        assert_eq!(answer.status, 200, "the upstream's to answer");
    }
    let readable = shop.pay("/a", &shop.ticket()).await;
    assert!(
        readable
            .header("access-control-expose-headers")
            .contains("PAYMENT-RESPONSE")
    );
}

/// A server that takes every method alike gives its goods away on `OPTIONS`, which nobody is asked to pay for.
#[tokio::test]
async fn attack_options_does_not_get_the_good() {
    let shop = Shop::open().await;
    for path in ["/a", "/echo"] {
        let answer = shop.send(call(Method::OPTIONS, path).body("work on this")).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
    }
    let text = raw::exchange(shop.address, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(
        (200..500).contains(&raw::status(&text)) && !text.contains("good of"),
        "{text}"
    );
}

#[tokio::test]
async fn the_headers_of_a_402_fit_into_4_kb_whatever_is_asked() {
    let mut routes = vec![route(
        &format!("* /{}/*", "r".repeat(490)),
        Charge::Price(super::shop::price()),
    )];
    routes[0].description = Some("d".repeat(2_000));
    let mut setup = Setup {
        routes,
        kinds: Kinds::ALL,
        ..Setup::default()
    };
    // The longest terms of a channel that there can be.
    let policy = &mut setup.vendor.policy;
    policy.banks = (0..9).map(alloy_primitives::Address::repeat_byte).collect();
    policy.margin = protocol::channel::Seconds(u64::MAX);
    policy.max_jump = u32::MAX;
    setup.vendor.accountability = merchant::channel::Accountability::Required { every: u32::MAX };
    let shop = Shop::with(setup).await;
    let table = Table::new(Vec::new(), Charge::Free).with_pricer(|request| {
        let priced = request.uri.path().starts_with("/priced");
        priced.then(|| Charge::Price(super::shop::price()))
    });
    let host = format!("{}.example:8402", "h".repeat(240));
    let long = format!("/{}/{}", "r".repeat(490), "p".repeat(20_000));
    let ask = async |path: &str| -> usize {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(shop.address, request).await;
        assert_eq!(raw::status(&answer), 402, "{answer}");
        let head = answer.split("\r\n\r\n").next().unwrap().len();
        assert!(head < 4_096, "{head} bytes for {} of path", path.len());
        assert!(answer.contains("payment-required: "));
        answer.matches("www-authenticate: ").count()
    };
    ask(&long).await;
    ask("/short").await;
    let listing = micropay_gateway::server::Listing::new(&super::shop::service(), table, Default::default());
    shop.gate.set_listing(listing);
    ask(&format!("/priced/{}", "*".repeat(20_000))).await;
    ask(&format!("/priced/{}", "q".repeat(200))).await;
}

/// What sellers usually have: every challenge is there.
#[tokio::test]
async fn the_usual_402_offers_both_kinds_in_both_protocols_below_4_kb() {
    let mut usual = route("* /v1/completions/*", Charge::Price(super::shop::price()));
    usual.description = Some("A completion of a text of up to four thousand words".into());
    for (kinds, offered) in [(Kinds::TICKET, 1), (Kinds::CHANNEL, 1), (Kinds::ALL, 2)] {
        let mut setup = Setup {
            routes: vec![usual.clone()],
            kinds,
            ..Setup::default()
        };
        setup.vendor.policy.banks = (0..2).map(alloy_primitives::Address::repeat_byte).collect();
        let shop = Shop::with(setup).await;
        let request =
            "GET /v1/completions/2026/a?b=c HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
        let answer = raw::exchange(shop.address, request).await;
        let head = answer.split("\r\n\r\n").next().unwrap();
        let lines = |name: &str| {
            head.lines()
                .filter(|line| line.starts_with(name))
                .map(str::len)
                .collect()
        };
        let (terms, challenges): (Vec<usize>, Vec<usize>) =
            (lines("payment-required"), lines("www-authenticate"));
        println!(
            "{kinds:?}: head {} bytes, terms {terms:?}, challenges {challenges:?}",
            head.len()
        );
        assert!(head.len() < 4_096);
        assert_eq!((terms.len(), challenges.len()), (1, offered));
    }
}

#[tokio::test]
async fn attack_a_host_header_is_a_name_and_nothing_else() {
    let shop = Shop::open().await;
    for host in [
        "a\", method=\"evil",
        "a b",
        "evil.example/path?",
        "user@evil.example",
        "a\tb",
        "a,b",
        "<script>",
        "ü.example",
        &"h".repeat(300),
    ] {
        for path in ["/a", "/.well-known/x402", "/free/headers"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = raw::exchange(shop.address, request).await;
            assert_eq!(raw::status(&answer), 400, "{host}: {answer}");
        }
    }
    let two = "GET /a HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\nConnection: close\r\n\r\n";
    assert_eq!(raw::status(&raw::exchange(shop.address, two).await), 400);
    for host in ["shop.example", "shop.example:8402", "[::1]:8402", "127.0.0.1", ""] {
        let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(shop.address, request).await;
        assert_eq!(raw::status(&answer), 402, "{host}");
        let realm = if host.is_empty() { "localhost" } else { host };
        assert!(answer.contains(&format!("realm=\"{realm}\"")), "{answer}");
    }
}

#[tokio::test]
async fn trailers_pass_without_payments_in_them() {
    let shop = Shop::open().await;
    let ticket = shop.ticket();
    for _ in 0..2 {
        shop.pay("/trailers", &ticket).await.sold("with trailers");
    }
    let ticket = shop.ticket();
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: payment-receipt\r\nConnection: close\r\n\
         Payment-Signature: {}\r\n\r\n5\r\nhello\r\n0\r\nPayment-Receipt: forged\r\nX-Sum: 1\r\n\r\n",
        payment(&ticket)
    );
    let answer = raw::exchange(shop.address, chunked).await;
    assert_eq!(raw::status(&answer), 200, "{answer}");
    assert!(answer.contains("hello") && !answer.contains("forged"), "{answer}");
}

#[tokio::test]
async fn discovery_says_what_the_price_list_says() {
    let shop = Shop::open().await;
    let openapi: Value = serde_json::from_str(&shop.send(get("/openapi.json")).await.text).unwrap();
    let offer = &openapi["paths"]["/{p1}"]["get"]["x-payment-info"]["offers"][0];
    assert_eq!(offer["amount"], super::shop::price().price.to_string());
    assert!(
        openapi["paths"]["/free/{p1}"]["get"]
            .get("x-payment-info")
            .is_none()
    );
    let known: Value = serde_json::from_str(&shop.send(get("/.well-known/x402")).await.text).unwrap();
    let items = known["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "what is free is not for sale");
    assert_eq!(
        items[0]["accepts"][0]["amount"],
        super::shop::price().price.to_string()
    );
    let llms = shop.send(get("/llms.txt")).await;
    assert!(
        llms.text.contains("sells): free") && llms.text.contains("`* /*`: 1000000 atomic units"),
        "{}",
        llms.text
    );
    assert_eq!(shop.upstream.calls(), 0);
}
