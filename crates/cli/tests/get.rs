//! `micropay get` through a real `micropay serve`: prices, budgets, exit codes.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use storage::OrderStore;

use crate::support::upstream::Upstream;
use crate::support::{Gateway, SHOP, Said, World, block_on, escrow_key, run};

/// Price of a request, atomic units.
const PRICE: &str = "250000000000000";

/// A shop that sells what the upstream says, to an escrow that it knows.
fn serve(world: &World, upstream: &Upstream) -> (Gateway, SocketAddr) {
    let mut shop = world.serve(upstream, SHOP, &["--claim-batch", "32"]);
    let address = shop.address();
    world.wait_until_known(address);
    (shop, address)
}

fn get(world: &World, address: SocketAddr, path: &str, args: &[&str]) -> Said {
    run(world.get(address, path, args))
}

/// The last line of standard error.
fn report(said: &Said) -> Value {
    serde_json::from_str(said.err.lines().last().unwrap()).unwrap()
}

#[test]
fn it_is_a_curl_that_pays() {
    let world = World::ticking();
    world.open_escrow("5", 1_000);
    let upstream = Upstream::start(Duration::ZERO);
    let (_shop, address) = serve(&world, &upstream);
    let get = |path: &str, args: &[&str]| get(&world, address, path, args);

    let said = get("/a?b=c", &[]);
    assert_eq!((said.code, said.out.as_str()), (0, "GET /a?b=c "));
    let report_of = report(&said);
    assert_eq!(report_of["status"], 200);
    assert_eq!(report_of["paid"]["price"], PRICE);
    assert_eq!(report_of["paid"]["requests"], 2);

    let file = world.path("body");
    fs::write(&file, "from a file").unwrap();
    let data = format!("@{}", file.display());
    let said = get("/form", &["-d", &data, "-H", "Content-Type: text/plain", "-i"]);
    assert!(said.out.starts_with("HTTP/1.1 200 OK\r\n"), "{said:?}");
    assert!(said.out.contains("x-good: yes\r\n"), "{said:?}");
    assert!(said.out.ends_with("\r\n\r\nPOST /form from a file"), "{said:?}");
    let out = world.path("out");
    let said = get("/put", &["-X", "PUT", "-d", "x", "-o", out.to_str().unwrap()]);
    assert_eq!(said.json()["bytes"], 10);
    assert_eq!(fs::read_to_string(out).unwrap(), "PUT /put x");
    get("/put", &["-o", "/dev/null"]).json();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    assert_eq!(get("/missing", &[]).code, 1);

    let before = block_on(async { world.payer_store().await.spent("total").await.unwrap() });
    let said = get("/dear", &["--dry-run"]).json();
    assert_eq!(
        (
            said["wouldPay"]["price"].as_str(),
            said["wouldPay"]["route"].as_str()
        ),
        (Some(PRICE), Some("* /*"))
    );
    assert_eq!(said["wouldPay"]["channel"], Value::Null);
    for (args, words) in [
        (
            ["--max-price", "0.0001"],
            "the price is 0.00025 ETH, the limit is 0.0001 ETH",
        ),
        (
            ["--max-total", "0.0003"],
            "ETH of 0.0003 ETH; a price of 0.00025 ETH",
        ),
        (["--max-total", "0.0003"], "\"total\" has spent"),
        (["--max-per-day", "0.0003"], "\"day:"),
        (["--max-per-host", "0.0003"], "\"host:127.0.0.1\" has spent"),
        (["--payee", "operator"], "is not on the list of 1"),
    ] {
        let error = get("/dear", &args).json_error(3);
        assert!(error.contains(words), "{error}");
    }
    let after = block_on(async { world.payer_store().await.spent("total").await.unwrap() });
    assert_eq!(
        (after, upstream.asked("/dear")),
        (before, 0),
        "nothing was signed"
    );

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = self::get(&world, closed, "/", &[]).json_error(4);
    assert!(error.contains(&closed.to_string()), "{error}");
    get("/a", &["-H", "no header"]).json_error(2);
    get("/a", &["--max-price", "much"]).json_error(2);
}

/// A home without an escrow, a channel or the means to get one.
#[test]
fn what_is_free_needs_no_escrow_and_what_is_not_says_its_price() {
    let world = World::new();
    let upstream = Upstream::start(Duration::ZERO);
    let mut shop = world.serve(&upstream, SHOP, &[]);
    let address = shop.address();
    let get = |url: &str, args: &[&str]| world.run(&[&["--json", "get", url], args].concat());

    // A server that sells nothing; asked for a dry run, too.
    for args in [&[][..], &["--dry-run"], &["--pay-with", "channel"]] {
        let said = get(&format!("{}/nothing", upstream.url()), args);
        assert_eq!((said.code, said.out.as_str()), (0, "GET /nothing "), "{said:?}");
        assert_eq!(report(&said)["paid"], Value::Null);
    }
    let url = format!("http://{address}/dear");
    let error = get(&url, &[]).json_error(2);
    assert!(error.contains("--escrow KEY"), "{error}");
    let said = get(&url, &["--dry-run"]).json();
    assert_eq!(
        (&said["wouldPay"]["price"], &said["wouldPay"]["kind"]),
        (&Value::from(PRICE), &Value::from("ticket"))
    );
    let error = get(&url, &["--pay-with", "channel"]).json_error(2);
    assert!(error.contains("micropay channel open"), "{error}");
    // One that is named, and not open yet.
    let error = get(&url, &["--escrow", "escrow"]).json_error(1);
    assert!(error.contains("micropay escrow open"), "{error}");
    let free = format!("{}/nothing", upstream.url());
    assert_eq!(get(&free, &["--escrow", "escrow"]).code, 0);
    assert_eq!(upstream.asked("/dear"), 0);
}

#[test]
fn a_price_that_the_escrow_cannot_pay_is_said_in_amounts() {
    let world = World::ticking();
    world.open_escrow("1", 1_000); // a prize of 0.001, every second ticket may win
    let upstream = Upstream::start(Duration::ZERO);
    let sell = |price: &str, args: &[&str]| {
        let mut shop = world.serve(&upstream, SHOP, &[&["--price", price], args].concat());
        let address = shop.address();
        let error = get(&world, address, "/dear", &[]).json_error(3);
        drop(shop);
        error
    };
    let error = sell("0.0006", &[]);
    assert_eq!(
        error,
        "0.0006 ETH needs a ticket that wins 1 in 1.7; this escrow allows 1 in 2, so at most 0.0005 ETH a call: open one \
         with a larger --prize"
    );
    let error = sell("0.0003", &["--min-prize", "0.002"]);
    assert!(
        error.contains("at least 0.002 ETH, with no upper limit") && error.contains("win 0.001 ETH"),
        "{error}"
    );
}

#[test]
fn a_call_of_the_same_name_says_that_it_was_paid_before_and_a_reader_may_leave() {
    let world = World::ticking();
    world.open_escrow("5", 1_000);
    let upstream = Upstream::start(Duration::ZERO);
    let (_shop, address) = serve(&world, &upstream);
    let url = format!("http://{address}/named");
    let ask = [
        "get",
        &url,
        "--escrow",
        "escrow",
        "--idempotency-key",
        "a name",
        "-o",
        "/dev/null",
    ];
    for (number, words) in ["paid 0.00025 ETH", "paid before: 0.00025 ETH"]
        .into_iter()
        .enumerate()
    {
        let said = world.run(&ask);
        assert!(said.err.contains(words), "{number}: {said:?}");
        let said = world.run(&[&["--json"], &ask[..]].concat()).json();
        assert_eq!(said["paid"]["before"], true);
        assert!(!said["paid"]["ticket"].is_null());
    }
    assert_eq!(upstream.asked("/named"), 1);

    // Nobody reads on: no word of a pipe, and what was paid is said all the same.
    let mut child = world.get(address, "/unread", &[]).spawn().unwrap();
    drop(child.stdout.take());
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.err.to_lowercase().contains("pipe"), "{said:?}");
    assert_eq!(report(&said)["paid"]["price"], PRICE);
}

/// Killed whenever, and started again under the same name, before the same gateway: one ticket, one question to the server,
/// the whole answer.
#[test]
fn a_killed_payer_goes_on_with_the_same_ticket() {
    let kills = std::env::var("MICROPAY_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let world = World::ticking();
    world.open_escrow("5", 5_000);
    let upstream = Upstream::start(Duration::from_millis(150));
    let (_shop, address) = serve(&world, &upstream);
    let mut random = StdRng::seed_from_u64(kills);
    let (mut killed, mut calls) = (0, 0);
    while killed < kills {
        let (path, key) = (format!("/call/{calls}"), format!("call {calls}"));
        let out = world.path("out");
        let args = ["--idempotency-key", &key, "-o", out.to_str().unwrap()];
        // Most of a run is the password's; the rest is the call.
        let mut child = world.get(address, &path, &args).spawn().unwrap();
        thread::sleep(Duration::from_millis(random.gen_range(0..600)));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
        let said = get(&world, address, &path, &args).json();
        assert_eq!(said["paid"]["idempotencyKey"], key.as_str());
        assert_eq!(fs::read_to_string(&out).unwrap(), format!("GET {path} "));
        assert_eq!(upstream.asked(&path), 1, "{path} was served once");
        calls += 1;
    }
    let orders = block_on(async {
        let store = world.payer_store().await;
        store.orders(escrow_key().address()).await.unwrap()
    });
    let delivered = orders.iter().filter(|order| order.replaces.is_none()).count();
    println!("{killed} kills, {calls} calls, {} tickets", orders.len());
    // One order for each call, and some for the first, which waits until the escrow is final.
    assert!(
        delivered <= calls as usize + 10,
        "{delivered} orders for {calls} calls"
    );
    let replaced = orders.len() - delivered;
    assert!(
        replaced <= 1 + calls as usize / 10,
        "{replaced} tickets were signed twice"
    );
}
