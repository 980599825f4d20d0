//! `micropay serve`, `get` and `claim`: a sale, by the merchant itself or through an operator, and who may claim when.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::upstream::Upstream;
use crate::support::{Gateway, OPERATOR, SHOP, World, block_on, run};

const PRIZE: u64 = 1_000_000_000_000_000;
/// Claims only when told to.
const CALM: [&str; 4] = ["--claim-batch", "1000", "--claim-age", "1d"];

/// A claim of so many winners is worth this.
fn assert_paid(world: &World, wins: u64) {
    assert_eq!(
        world.json(&["credit", "show", SHOP])["credit"],
        (wins * PRIZE).to_string()
    );
}

/// Calls of one client, paid one after the other. A quarter of them wins.
fn buy(world: &World, address: SocketAddr, name: &str, calls: usize) {
    block_on(async {
        let client = world.payer().await;
        for call in 0..calls {
            let path = format!("/{name}/{call}");
            let answer = client
                .get(format!("http://{address}{path}"))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.text().await.unwrap(), format!("GET {path} "));
        }
    });
}

#[test]
fn a_sale_and_its_claims() {
    let world = World::ticking();
    let upstream = Upstream::start(Duration::ZERO);
    // No escrow yet.
    let mut shop = world.serve(&upstream, SHOP, &CALM);
    let address = shop.address();
    let hello = shop.hello.lock().clone().unwrap();
    assert_eq!(
        (&hello["upstream"], &hello["recipient"]),
        (
            &format!("{}/", upstream.url()).into(),
            &format!("{:?}", world.shop()).into()
        )
    );
    let error = run(world.get(address, "/x", &[])).json_error(1);
    assert!(error.contains("no escrow"), "{error}");

    // The gateway takes tickets once the escrow is final.
    world.open_escrow("10", 10_000);
    world.wait_until_known(address);
    buy(&world, address, "piece", 40);

    // A second process of the merchant would bury its winners.
    let mut second = world.serve(&upstream, SHOP, &[]);
    assert_eq!(second.wait(), Some(1));
    second.assert_logged("is running");

    // The running merchant is told to claim.
    let before = world.json(&["claim", "list", SHOP]);
    let waiting = before["wins"]["won"].as_u64().unwrap();
    let claimed = before["wins"]["final"].as_u64().unwrap();
    assert!(waiting + claimed > 2, "{before}"); // P[2 or fewer of 40] < 10^-3
    assert!(
        world.json(&["claim", "now", "--from", SHOP])["asked"]
            .as_u64()
            .unwrap()
            > 0
    );
    let list = world.wait_until_claimed(SHOP);
    let wins = list["wins"]["final"].as_u64().unwrap();
    assert!(wins >= waiting);
    assert_paid(&world, wins);
    let said = world.run(&["claim", "list", SHOP]);
    assert!(
        said.out.contains("final in block") && said.out.contains("UTC"),
        "{said:?}"
    );

    // Once it has gone, `claim now` claims by itself.
    assert!(
        world
            .error(1, &["merchant", "resync", SHOP])
            .contains("is running")
    );
    buy(&world, address, "more", 20);
    assert_eq!(shop.stop(), Some(0));
    let left = world.json(&["claim", "list", SHOP])["wins"]["final"]
        .as_u64()
        .unwrap();
    let now = world.json(&["claim", "now", "--from", SHOP]);
    let list = world.wait_until_claimed(SHOP);
    let wins = list["wins"]["final"].as_u64().unwrap();
    assert_eq!(now["claimed"].as_u64().unwrap(), wins - left);
    assert_paid(&world, wins);
    let said = world.run(&["claim", "now", "--from", SHOP]);
    assert!(
        said.code == 0 && said.out.contains("no winner to claim"),
        "{said:?}"
    );
    world.json(&["credit", "withdraw", "--from", SHOP]);
    assert_paid(&world, 0);

    // A merchant that has forgotten the chain reads it anew, and sells on.
    assert_eq!(world.json(&["merchant", "resync", SHOP])["forgotten"], true);
    let mut shop = world.serve(&upstream, SHOP, &CALM);
    buy(&world, shop.address(), "after", 5);
}

#[test]
fn an_operator_claims_for_a_merchant() {
    let world = World::ticking();
    let upstream = Upstream::start(Duration::ZERO);
    world.open_escrow("10", 10_000);
    let through =
        |args: &[&str]| -> Gateway { world.serve(&upstream, SHOP, &[&["--from", OPERATOR], args].concat()) };
    let mut stranger = through(&[]);
    assert_eq!(stranger.wait(), Some(3));
    stranger.assert_logged("no operator");

    let approved = world.json(&["merchant", "operator", OPERATOR, "--from", SHOP]);
    assert_eq!(approved["approved"], true);
    let mut shop = through(&CALM);
    let address = shop.address();
    world.wait_until_known(address);
    buy(&world, address, "call", 40);
    world.json(&["claim", "now", "--from", OPERATOR, "--pay-to", SHOP]);
    let list = world.wait_until_claimed(SHOP);
    let wins = list["wins"]["final"].as_u64().unwrap();
    assert!(wins > 2, "{list}");
    assert_paid(&world, wins);
    assert_eq!(world.json(&["credit", "show", OPERATOR])["credit"], "0");
    assert_eq!(shop.stop(), Some(0));

    let revoked = world.json(&["merchant", "operator", OPERATOR, "--revoke", "--from", SHOP]);
    assert_eq!(revoked["approved"], false);
    assert_eq!(through(&[]).wait(), Some(3));
}

#[test]
fn a_gateway_that_cannot_sell_says_why() {
    let world = World::new();
    let upstream = Upstream::start(Duration::ZERO);
    let fails = |code: i32, word: &str, args: &[&str]| {
        let mut shop = world.serve(&upstream, SHOP, args);
        assert_eq!(shop.wait(), Some(code), "{args:?}: {}", shop.log.lock());
        shop.assert_logged(word);
    };
    fails(2, "prize", &["--min-prize", "0.0001"]);
    fails(2, "withdrawal", &["--max-mirror-age", "3d"]);
    fails(1, "1.2.3.4", &["--listen", "1.2.3.4:1"]);
    fails(1, "1.2.3.4", &["--operator-listen", "1.2.3.4:1"]);
    fails(2, "amount", &["--min-prize", "some"]);
    fails(2, "span", &["--claim-age", "long"]);
    fails(4, "127.0.0.1:1", &["--rpc-url", "http://127.0.0.1:1"]);
    fails(1, "chain 9", &["--chain-id", "9"]);
    fails(2, "finality", &["--finality", "soon"]);
    fails(2, "redis:", &["--storage", "redis://x"]);
    fails(
        4,
        "PostgreSQL",
        &["--storage", "postgres://nobody@127.0.0.1:1/none"],
    );
    fails(1, "nobody", &["--pay-to", "nobody"]);
    fails(1, "missing.toml", &["missing.toml"]);
    for args in [
        &["--price", "0.1"][..],
        &["--price", "0.1", "--upstream", "http://127.0.0.1:1"],
    ] {
        let mut command = world.micropay();
        command.args(["--json", "serve"]).args(args);
        let error = run(command).json_error(2);
        assert!(error.contains("--pay-to"), "{error}");
    }
    let mut command = world.micropay();
    command.args(["--json", "serve", "--pay-to", SHOP, "--upstream", &upstream.url()]);
    let error = run(command).json_error(2);
    assert!(error.contains("nothing has a price"), "{error}");
}
