//! A running `micropay serve` and its operator: the price list checked, read again, and the end of a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use gateway::client::{Client, Paid};
use nix::sys::signal::Signal;
use protocol::ticket::Amount;
use serde_json::json;

use crate::support::upstream::{Mood, Upstream};
use crate::support::{SHOP, World, block_on, eventually, run};

const LIST: &str = "
upstream = \"UPSTREAM\"
pay_to = \"shop\"
price = \"0.00025\"

[[route]]
path = \"/free/**\"
free = true

[[route]]
path = \"/dear/*\"
methods = [\"GET\", \"HEAD\"]
price = \"0.0004\"
";

async fn buy(client: &Client, address: SocketAddr, path: &str) -> Option<(Amount, u32)> {
    let answer = client
        .get(format!("http://{address}{path}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let paid = answer.extensions().get::<Paid>().cloned();
    assert_eq!(answer.text().await.unwrap(), format!("GET {path} "));
    paid.map(|paid| (paid.price, paid.requests))
}

/// The price within the rounding of a win threshold.
fn about(wei: u128) -> Amount {
    Amount(wei)
}

#[test]
fn settings_are_judged_before_the_lock() {
    let world = World::new();
    let upstream = Upstream::start(Duration::ZERO);
    let mut gateway = world.serve(&upstream, SHOP, &[]);
    gateway.address();
    let url = upstream.url();
    let again = ["serve", "--upstream", &url, "--pay-to", SHOP, "--price"];
    for (price, code, words) in [("much", 2, "\"much\""), ("0.1", 1, "another process")] {
        let error = world.error(code, &[&again[..], &[price]].concat());
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_route_is_sold_by_channel_where_a_bank_is_named() {
    let world = World::new();
    let path = world.path("shop.toml");
    let list = LIST.replace("methods", "kinds = [\"channel\"]\nmethods");
    fs::write(&path, list.replace("UPSTREAM", "http://127.0.0.1:1")).unwrap();
    let check = ["serve", "--check", path.to_str().unwrap()];
    let error = world.error(2, &check);
    assert!(error.contains("/dear/*") && error.contains("kinds"), "{error}");
    // By the name of its key.
    let checked = world.json(&[&check[..], &["--bank", "shop2"]].concat());
    assert_eq!(checked["channels"]["banks"], json!([world.account(3)]));
    let error = world.error(1, &[&check[..], &["--bank", "nobody"]].concat());
    assert!(error.contains("nobody"), "{error}");
    // An amount is shown as one, however it was written.
    let upstream = Upstream::start(Duration::ZERO);
    let gateway = {
        let mut command = world.micropay();
        command.args(["serve", "--upstream", &upstream.url(), "--pay-to", SHOP]);
        command.args(["--price", "250000000000000wei", "--listen", "127.0.0.1:0"]);
        command.args(["--operator-listen", "127.0.0.1:0"]);
        command
    };
    let mut child = { gateway }.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let price = lines.find(|line| line.as_ref().unwrap().starts_with("for "));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(price.unwrap().unwrap().ends_with("0.00025 ETH a request"));
}

#[test]
fn a_price_list_is_checked_before_anything_is_sold() {
    let world = World::new();
    let path = world.path("shop.toml");
    let check = |text: &str| {
        fs::write(&path, text.replace("UPSTREAM", "http://127.0.0.1:1")).unwrap();
        let mut command = world.micropay();
        command.args(["--json", "serve", "--check", path.to_str().unwrap()]);
        run(command)
    };
    let checked = check(LIST).json();
    assert_eq!(checked["ok"], true);
    assert_eq!(
        checked["routes"],
        json!([
            { "route": "* /free/**", "price": "free" },
            { "route": "GET /dear/*", "price": "0.0004 ETH" },
            { "route": "HEAD /dear/*", "price": "0.0004 ETH" },
            { "route": "* /*", "price": "0.00025 ETH" },
        ])
    );
    for (was, is, words) in [
        ("free = true", "free = maybe", &["line 8", "shop.toml"][..]),
        ("free = true", "colour = \"red\"", &["line 8", "colour"]),
        ("[[route]]", "[[route]", &["line 6"]),
        ("price = \"0.0004\"", "price = 4", &["line 13"]),
        ("price = \"0.0004\"", "price = \"much\"", &["amount", "much"]),
        (
            "price = \"0.0004\"",
            "free = true\nprice = \"1\"",
            &["/dear/*", "either price or free"],
        ),
        ("\"GET\"", "\"G T\"", &["/dear/*", "G T"]),
        ("/dear/*", "/dear/[", &["/dear/["]),
        ("\"shop\"", "\"nobody\"", &["nobody"]),
        ("upstream =", "upstraem =", &["line 2", "upstraem"]),
    ] {
        let said = check(&LIST.replacen(was, is, 1));
        assert!(said.code == 2 || is == "\"nobody\"", "{is}: {said:?}");
        let error = said.json_error(said.code);
        for word in words {
            assert!(error.contains(word), "{is}: {word} is not in {error}");
        }
    }
    assert!(
        world
            .error(1, &["serve", "--check", "/nowhere.toml"])
            .contains("/nowhere.toml")
    );
}

/// A changed price reaches a payer who knows the old one with one corrective answer, once. A mistake in the file changes
/// nothing, and is said.
#[test]
fn a_price_list_is_read_again() {
    let world = World::ticking();
    world.open_escrow("10", 1_000);
    let upstream = Upstream::start(Duration::ZERO);
    let path = world.path("shop.toml");
    let list = LIST.replace("UPSTREAM", &upstream.url());
    fs::write(&path, &list).unwrap();
    let mut command = world.micropay();
    command.args([
        "--json",
        "-v",
        "serve",
        path.to_str().unwrap(),
        "--poll-ms",
        "100",
    ]);
    command.args(["--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0"]);
    let mut shop = crate::support::Gateway::start(command);
    let address = shop.address();
    world.wait_until_known(address);
    block_on(async {
        let client = world.payer().await;
        assert_eq!(
            buy(&client, address, "/dear/1").await,
            Some((about(400_000_000_000_000), 2))
        );
        assert_eq!(
            buy(&client, address, "/dear/2").await,
            Some((about(400_000_000_000_000), 1))
        );
        assert_eq!(buy(&client, address, "/free/1").await, None);

        fs::write(&path, list.replace("0.0004", "0.0003")).unwrap();
        shop.signal(Signal::SIGHUP);
        shop.assert_logged("the price list was read again");
        assert_eq!(
            buy(&client, address, "/dear/3").await,
            Some((about(300_000_000_000_000), 2))
        );
        for call in 4..8 {
            let path = format!("/dear/{call}");
            assert_eq!(
                buy(&client, address, &path).await,
                Some((about(300_000_000_000_000), 1))
            );
        }
        assert_eq!(
            (3..8)
                .map(|call| upstream.asked(&format!("/dear/{call}")))
                .sum::<usize>(),
            5
        );

        fs::write(&path, list.replace("0.0004", "a lot")).unwrap();
        shop.signal(Signal::SIGHUP);
        shop.assert_logged("the price list stays as it was");
        assert_eq!(
            buy(&client, address, "/dear/8").await,
            Some((about(300_000_000_000_000), 1))
        );
    });
    assert_eq!(shop.stop(), Some(0));
}

/// Told to end, a gateway takes no more calls, and finishes what it was paid for.
#[test]
fn a_slow_answer_is_finished_before_the_end() {
    let world = World::ticking();
    world.open_escrow("10", 1_000);
    let upstream = Upstream::start(Duration::ZERO);
    let mut shop = world.serve(&upstream, SHOP, &[]);
    let address = shop.address();
    world.wait_until_known(address);
    upstream.turn(Mood::Fine(Duration::from_secs(2)));
    thread::scope(|scope| {
        let slow = scope.spawn(|| run(world.get(address, "/slow", &[])));
        eventually("it is asked for", || upstream.asked("/slow") == 1);
        let told = Instant::now();
        shop.signal(Signal::SIGTERM);
        eventually("no more connections are taken", || {
            std::net::TcpStream::connect(address).is_err()
        });
        assert!(shop.is_running(), "{}", shop.log.lock());
        assert_eq!(shop.wait(), Some(0));
        assert!(told.elapsed() > Duration::from_secs(1), "it did not wait");
        let said = slow.join().unwrap();
        assert_eq!((said.code, said.out.as_str()), (0, "GET /slow "), "{said:?}");
        // Asked for once and paid for: the payer knows it as delivered.
        assert_eq!(upstream.asked("/slow"), 1);
    });

    // One that never answers is not waited for without end: `limits.drain`.
    let file = world.path("hasty.toml");
    fs::write(&file, "[limits]\ndrain = \"1s\"\n").unwrap();
    let mut shop = world.serve(&upstream, SHOP, &[file.to_str().unwrap()]);
    let address = shop.address();
    upstream.turn(Mood::Hanging);
    let mut payer = world.get(address, "/never", &[]).spawn().unwrap();
    eventually("it is asked for", || upstream.asked("/never") == 1);
    let told = Instant::now();
    shop.signal(Signal::SIGTERM);
    assert_eq!(shop.wait(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    payer.kill().unwrap();
    payer.wait().unwrap();
}
