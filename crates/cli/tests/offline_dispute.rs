//! A copied wallet pays twice, and whom it cheated finds out when it redeems.

use serde_json::Value;

use crate::offline_hostile::copy;
use crate::support::wallets::{Alone, Market, Purse, wei};

const MILLI: u128 = 1_000_000_000_000_000;

/// Ada and a copy of her wallet pay bob and cyd with one input.
fn double_spend(market: &Market, coin: &str, amount: &str) -> (Purse, Purse) {
    let alone: &Alone = &market.alone;
    let (ada, bob, cyd) = (
        market.purse("ada", 0),
        market.purse("bob", 1),
        market.purse("cyd", 2),
    );
    market.deposit(&ada, coin);
    let twin = Purse {
        folder: market.world.path("twin"),
        ..ada.clone()
    };
    copy(&ada.folder, &twin.folder);
    alone.pay(&ada, &bob, amount);
    alone.pay(&twin, &cyd, amount);
    (bob, cyd)
}

fn states(market: &Market, purse: &Purse) -> [u128; 4] {
    let balance = market.balance(purse);
    ["held", "exited", "claimed", "settled"].map(|part| wei(&balance[part]))
}

fn kinds(market: &Market, purse: &Purse) -> Vec<String> {
    let history = market.json(purse, &["wallet", "history"]);
    let lines = history.as_array().unwrap().iter();
    lines
        .map(|line: &Value| line["kind"].as_str().unwrap().to_owned())
        .collect()
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn an_exit_that_lost_to_a_double_spend_is_claimed_no_more() {
    let market = Market::new();
    let (bob, cyd) = double_spend(&market, "1", "0.4");
    let export = |purse: &Purse, name: &str| {
        let made = market
            .alone
            .step(purse, &["redeem", "--export", &market.alone.path(name)], "");
        made["files"][0].as_str().unwrap().to_owned()
    };
    let (one, other) = (export(&bob, "one"), export(&cyd, "other"));
    market.json(&bob, &["redeem", "--from", "shop"]);
    assert_eq!(market.credit("shop"), 400 * MILLI);

    // Alone: the contract says what stands in its way, with both values.
    let redeem = ["redeem", "--from", "operator"];
    let error = market.error(&cyd, 3, &redeem);
    assert!(
        error.contains("NotFree")
            && error.contains(&(1_000 * MILLI).to_string())
            && error.contains(&(600 * MILLI).to_string()),
        "{error}"
    );
    assert_eq!(states(&market, &cyd), [0, 400 * MILLI, 0, 0]);
    assert_eq!(kinds(&market, &cyd)[..2], ["refused", "claimed"]);

    // In a batch with a good one: that one is paid, and the same is said of the other.
    let dan = market.purse("dan", 0);
    market.deposit(&dan, "1");
    market.alone.pay(&dan, &cyd, "0.2");
    let error = market.error(&cyd, 3, &redeem);
    assert!(
        error.contains("NotFree") && error.contains(&(600 * MILLI).to_string()),
        "{error}"
    );
    assert_eq!(states(&market, &cyd), [0, 400 * MILLI, 0, 200 * MILLI]);
    assert_eq!(market.credit("operator"), 200 * MILLI);

    // Who has both shows them to the contract; one path excludes nothing.
    let prove =
        |one: &str, other: &str| ["offline", "prove", one, other, "--from", "shop"].map(str::to_owned);
    let error = market.world.error(3, &words(&prove(&one, &one)));
    assert!(error.contains("do not exclude"), "{error}");
    let proven = market.world.json(&words(&prove(&one, &other)));
    assert_eq!(
        (&proven["new"], &proven["kind"]),
        (&true.into(), &"signature".into())
    );
    assert!(proven["transaction"].is_string(), "{proven}");
    let again = market.world.json(&words(&prove(&other, &one)));
    assert_eq!(
        (&again["new"], &again["wallet"]),
        (&false.into(), &proven["wallet"])
    );
}
