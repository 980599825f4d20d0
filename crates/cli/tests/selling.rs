//! `micropay merchant`, `pay` and `claim`: a sale, by the merchant itself or through an operator, and who may claim when.

use std::fs;

use crate::support::{OPERATOR, SHOP, World, run};

const PRIZE: u64 = 1_000_000_000_000_000;

/// A claim of so many winners is worth this.
fn assert_paid(world: &World, wins: u64) {
    assert_eq!(
        world.json(&["credit", "show", SHOP])["credit"],
        (wins * PRIZE).to_string()
    );
}

#[test]
fn a_sale_and_its_claims() {
    let world = World::ticking();
    let (goods, content) = world.goods(64 * 1024 + 1);
    let calm = ["--claim-batch", "1000", "--claim-age", "1d"];
    // No escrow yet.
    let mut merchant = world.merchant(SHOP, &goods, &calm);
    let address = merchant.address();
    assert_eq!(merchant.hello.lock().as_ref().unwrap()["pieces"], 65);
    assert!(run(world.pay(address, "x")).json_error(1).contains("no escrow"));

    // The merchant takes tickets once the escrow is final, and until then a payer waits, if it is not for long.
    world.open_escrow("10", 10_000);
    let bought = run(world.pay(address, "copy")).json();
    assert_eq!(
        (bought["bytes"].as_u64(), bought["sha256_ok"].as_bool()),
        (Some(65_537), Some(true))
    );
    assert!(fs::read(world.path("copy")).unwrap() == content);
    // The same purchase again costs nothing; another one does.
    assert_eq!(run(world.pay(address, "copy")).json()["payments"], 0);
    let mut part = world.pay(address, "part");
    part.args(["--pieces", "10"]);
    let part = run(part).json();
    assert_eq!(
        (part["payments"].as_u64(), &part["sha256_ok"]),
        (Some(10), &serde_json::Value::Null)
    );
    assert!(fs::read(world.path("part")).unwrap() == content[..10 * 1024]);
    assert_eq!(run(world.pay(address, "part")).json()["payments"], 55, "the rest");
    assert!(fs::read(world.path("part")).unwrap() == content);

    // Limits of the payer.
    let mut dear = world.pay(address, "dear");
    dear.args(["--max-price", "0.0002"]);
    let error = run(dear).json_error(3);
    assert!(
        error.contains("250000000000000") && error.contains("200000000000000"),
        "{error}"
    );

    // A second process of the merchant would bury its winners.
    let mut second = world.merchant(SHOP, &goods, &[]);
    assert_eq!(second.wait(), Some(1));
    second.assert_logged("is running");

    // The running merchant is told to claim.
    let before = world.json(&["claim", "list", SHOP]);
    let waiting = before["wins"]["won"].as_u64().unwrap();
    let claimed = before["wins"]["final"].as_u64().unwrap();
    assert!(waiting + claimed > 5, "{before}");
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
    run(world.pay(address, "more")).json();
    assert_eq!(merchant.stop(), Some(0));
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
    let mut merchant = world.merchant(SHOP, &goods, &calm);
    assert_eq!(run(world.pay(merchant.address(), "after")).json()["payments"], 65);
}

#[test]
fn an_operator_claims_for_a_merchant() {
    let world = World::ticking();
    let (goods, _) = world.goods(40 * 1024);
    world.open_escrow("10", 10_000);
    let mut stranger = world.merchant(OPERATOR, &goods, &["--pay-to", SHOP]);
    assert_eq!(stranger.wait(), Some(3));
    stranger.assert_logged("no operator");

    let approved = world.json(&["merchant", "operator", OPERATOR, "--from", SHOP]);
    assert_eq!(approved["approved"], true);
    let mut merchant = world.merchant(
        OPERATOR,
        &goods,
        &["--pay-to", SHOP, "--claim-batch", "1000", "--claim-age", "1d"],
    );
    let address = merchant.address();
    run(world.pay(address, "copy")).json();
    world.json(&["claim", "now", "--from", OPERATOR, "--pay-to", SHOP]);
    let list = world.wait_until_claimed(SHOP);
    assert_paid(&world, list["wins"]["final"].as_u64().unwrap());
    assert_eq!(world.json(&["credit", "show", OPERATOR])["credit"], "0");
    assert_eq!(merchant.stop(), Some(0));

    let revoked = world.json(&["merchant", "operator", OPERATOR, "--revoke", "--from", SHOP]);
    assert_eq!(revoked["approved"], false);
    let mut stranger = world.merchant(OPERATOR, &goods, &["--pay-to", SHOP]);
    assert_eq!(stranger.wait(), Some(3));
}

#[test]
fn a_merchant_that_cannot_sell_says_why() {
    let world = World::new();
    let (goods, _) = world.goods(10);
    let fails = |code: i32, word: &str, args: &[&str]| {
        let mut merchant = world.merchant(SHOP, &goods, args);
        assert_eq!(merchant.wait(), Some(code), "{args:?}: {}", merchant.log.lock());
        merchant.assert_logged(word);
    };
    fails(2, "prize", &["--min-prize", "0.0001"]);
    fails(2, "withdrawal", &["--max-mirror-age", "3d"]);
    fails(1, "1.2.3.4", &["--listen", "1.2.3.4:1"]);
    fails(2, "amount", &["--min-prize", "some"]);
    fails(4, "127.0.0.1:1", &["--rpc-url", "http://127.0.0.1:1"]);
    fails(1, "chain 9", &["--chain-id", "9"]);
    fails(2, "finality", &["--finality", "soon"]);
    let mut merchant = world.merchant(SHOP, &world.path("missing"), &[]);
    assert_eq!(merchant.wait(), Some(1));
    merchant.assert_logged("missing");
    let mut merchant = world.merchant("nobody", &goods, &[]);
    assert_eq!(merchant.wait(), Some(1));
    merchant.assert_logged("nobody");
}
