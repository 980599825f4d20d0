//! Offline payments reach the chain, and every wei is accounted for.

use std::fs;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use bindings::test_token::TestToken;
use chain::anvil::Anvil;
use chain::{At, ChainConfig, Client, Sender, Vaults, deploy};
use serde_json::{Value, json};

use crate::support::wallets::{Alone, Market, Purse, arg, serve, text, wei};
use crate::support::{ACCOUNTS, block_on, run};

const ETHER: u128 = 1_000_000_000_000_000_000;
const MILLI: u128 = ETHER / 1_000;

/// What the vault has of an asset.
fn in_vault(market: &Market, asset: Address) -> u128 {
    block_on(async {
        let config = ChainConfig::new(market.world.anvil.chain_id());
        let client = Client::<Vaults>::connect(market.world.anvil.url(), config)
            .await
            .unwrap();
        client
            .balance(asset, client.contract(), At::Latest)
            .await
            .unwrap()
            .0
    })
}

fn states(market: &Market, purse: &Purse) -> [u128; 5] {
    let balance = market.balance(purse);
    ["held", "offlineAccepted", "exited", "claimed", "settled"].map(|part| wei(&balance[part]))
}

#[test]
fn what_was_paid_offline_is_settled_to_the_wei() {
    let market = Market::new();
    let alone = &market.alone;
    let (ada, bob, cyd) = (
        market.purse("ada", 0),
        market.purse("bob", 1),
        market.purse("cyd", 2),
    );
    let coin = market.deposit(&ada, "1.000000000000000001");
    assert_eq!(states(&market, &ada), [ETHER + 1, 0, 0, 0, 0]);

    let paid = alone.pay(&ada, &bob, "0.3");
    alone.pay(&bob, &cyd, "0.1");
    assert_eq!(states(&market, &bob), [200 * MILLI, 200 * MILLI, 0, 0, 0]);

    // Bob leaves without a network; somebody else brings it to the chain.
    let place = alone.path("exits");
    let exported = alone.step(&bob, &["redeem", "--export", &place], "");
    let [exit] = &exported["files"].as_array().unwrap()[..] else {
        panic!("one exit: {exported}");
    };
    assert_eq!(states(&market, &bob), [0, 0, 200 * MILLI, 0, 0]);
    let receipt = market.json(&bob, &["receipt", exported["exits"][0].as_str().unwrap()]);
    assert!(
        receipt["receipt"].as_str().unwrap().starts_with("EXIT"),
        "{receipt}"
    );
    let file = exit.as_str().unwrap();
    let redeem = ["offline", "redeem", "--path", file, "--from", "operator"];
    let redeemed = market.world.json(&redeem);
    assert_eq!(
        (&redeemed["redeemed"], &redeemed["unsettled"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(market.world.json(&redeem)["redeemed"], 0, "again it does nothing");
    assert_eq!(market.credit("shop"), 200 * MILLI);
    // Bob learns it when he is online again.
    assert_eq!(market.json(&bob, &["sync"])["settled"], 1);
    assert_eq!(states(&market, &bob), [0, 0, 0, 0, 200 * MILLI]);

    // A payment is no exit.
    let invoice = alone.step(&bob, &["invoice", "--amount", "0.1"], "");
    let payment = alone.path("payment");
    alone.step(&ada, &["pay", "--yes", "--out", &payment], text(&invoice));
    let error = market.world.error(
        3,
        &["offline", "redeem", "--path", &payment, "--from", "operator"],
    );
    assert!(error.contains("only an exit"), "{error}");
    alone.step(&bob, &["accept", "--in", &payment], "");

    // The rest leaves by itself, one claimed before it is settled.
    let sent = market.json(&cyd, &["redeem", "--from", "operator", "--wait", "0s"]);
    assert_eq!(sent["redeemed"], 1);
    let [held, accepted, exited, claimed, settled] = states(&market, &cyd);
    assert_eq!(
        (held, accepted, exited, claimed + settled),
        (0, 0, 0, 100 * MILLI)
    );
    for purse in [&ada, &bob, &cyd] {
        let done = market.json(purse, &["redeem", "--from", purse.owner]);
        assert_eq!(done["unsettled"], 0, "{done}");
    }
    let standing =
        |purse: &Purse| market.json(purse, &["receipt", paid["transfer"].as_str().unwrap()])["state"].clone();
    assert_eq!(
        (standing(&ada), standing(&bob)),
        (json!("offline-accepted"), json!("offline-accepted")),
        "it was spent on in parts, so no exit has it whole"
    );
    let credits = ["payer", "shop", "operator"].map(|account| market.credit(account));
    assert_eq!(credits, [600 * MILLI + 1, 300 * MILLI, 100 * MILLI]);
    assert_eq!(in_vault(&market, Address::ZERO), ETHER + 1);
    for account in ["payer", "shop", "operator"] {
        market
            .world
            .json(&["credit", "withdraw", "--from", account, "--offline"]);
    }
    assert_eq!(in_vault(&market, Address::ZERO), 0);

    // The coin is not imported twice.
    let again = market.json(&ada, &["wallet", "import"]);
    assert_eq!(
        (&again[0]["coin"], &again[0]["imported"]),
        (&coin["coin"], &json!(false))
    );
}

/// A token of one's own, 1,000 of it for each account.
fn token(market: &Market) -> Address {
    block_on(async {
        let sender = Sender::new(market.world.connect().await, Anvil::key(0));
        let token = deploy::FACTORY.create2_from_code(B256::ZERO, &TestToken::BYTECODE);
        let code = [B256::ZERO.as_slice(), &TestToken::BYTECODE].concat();
        sender
            .send(deploy::FACTORY, code.into(), U256::ZERO)
            .await
            .unwrap();
        let mint = TestToken::mintCall {
            to: market.world.account(0),
            amount: U256::from(1_000 * ETHER),
        };
        sender
            .send(token, mint.abi_encode().into(), U256::ZERO)
            .await
            .unwrap();
        token
    })
}

#[test]
fn tokens_travel_as_ether_does() {
    let market = Market::new();
    let (ada, bob) = (market.purse("ada", 0), market.purse("bob", 1));
    let token = token(&market);
    let name = token.to_string();
    let deposit = ["deposit", "--amount", "5", "--token", &name, "--from", "payer"];
    market.json(&ada, &deposit);
    // Not before bob says so.
    let invoice = ["invoice", "--amount", "1.5", "--token", &name];
    let error = market.error(&bob, 3, &invoice);
    assert!(error.contains("takes nobody's"), "{error}");
    market.json(&bob, &["wallet", "accept", "--limit", "3", "--token", &name]);
    let asked = market.alone.step(&bob, &invoice, "");
    let paid = market.alone.step(&ada, &["pay", "--yes"], text(&asked));
    let taken = market.alone.step(&bob, &["accept"], text(&paid));
    market.alone.step(&ada, &["accept"], text(&taken));
    // Both know its name and decimals without a chain.
    let shown = run(market.alone.shown(&bob, &["wallet", "balance"]));
    let symbol = &market
        .world
        .json(&["credit", "show", "shop", "--offline", "--asset", &name]);
    assert_eq!(symbol["credit"], "0");
    assert!(!shown.out.contains("atomic units"), "{}", shown.out);
    let balance = market.json(&bob, &["wallet", "balance"]);
    assert_eq!(
        balance["assets"][1]["held"],
        (15 * ETHER / 10).to_string(),
        "{balance}"
    );
    for purse in [&ada, &bob] {
        market.json(purse, &["redeem", "--from", purse.owner]);
    }
    let credit = |account: &str| {
        wei(&market
            .world
            .json(&["credit", "show", account, "--offline", "--asset", &name])["credit"])
    };
    assert_eq!(
        (credit("payer"), credit("shop")),
        (35 * ETHER / 10, 15 * ETHER / 10)
    );
    assert_eq!(in_vault(&market, token), 5 * ETHER);
}

#[test]
fn a_coin_of_somebody_else_is_imported_once_and_reclaimed_in_time() {
    let market = Market::new();
    let bob = market.purse("bob", 1);
    let file = market.alone.path("gift.json");
    let gift = [
        "offline",
        "deposit",
        "--to",
        &bob.id,
        "--registrar",
        &market.url,
        "--out",
        &file,
        "--amount",
        "0.5",
        "--settle-within",
        "1h",
        "--from",
        "payer",
    ];
    let made = market.world.json(&gift);
    // Made again, it is the same coin.
    assert_eq!(market.world.json(&gift)["coin"], made["coin"]);
    let coin = made["coin"].as_str().unwrap().to_owned();
    // With its receipt it needs no network.
    let imported = market.alone.step(&bob, &["wallet", "import", "--in", &file], "");
    assert_eq!(imported[0]["imported"], true, "{imported}");
    for words in [
        &["wallet", "import", "--in", &file][..],
        &["wallet", "import", "--coin", &coin],
        &["wallet", "import"],
    ] {
        assert_eq!(market.json(&bob, words)[0]["imported"], false, "{words:?}");
    }
    assert_eq!(market.held(&bob), ETHER / 2);
    // Another's it is not.
    let cyd = market.purse("cyd", 2);
    let error = market
        .alone
        .error(&cyd, 3, &["wallet", "import", "--in", &file], "");
    assert!(error.contains(&bob.id) && error.contains(&cyd.id), "{error}");

    let reclaim = ["offline", "reclaim", "--coin", &coin, "--from", "payer"];
    assert!(market.world.error(3, &reclaim).contains("TooEarly"));
    block_on(market.world.anvil.increase_time(3_600 + 7 * 86_400 + 60)).unwrap();
    block_on(market.world.anvil.mine(1)).unwrap();
    assert!(
        market
            .world
            .error(3, &["offline", "reclaim", "--in", &file, "--from", "shop"])
            .contains("NotDepositor")
    );
    assert_eq!(wei(&market.world.json(&reclaim)["amount"]), ETHER / 2);
    assert_eq!(market.credit("payer"), ETHER / 2);
}

#[test]
fn who_is_revoked_is_not_paid_with_any_more() {
    let market = Market::new();
    let alone = &market.alone;
    let (ada, bob) = (market.purse("ada", 0), market.purse("bob", 1));
    market.deposit(&ada, "1");
    alone.pay(&ada, &bob, "0.25");
    let revoke = ["offline", "revoke", &ada.id];
    let first = market.world.json(&revoke);
    assert!(first["transaction"].is_string(), "{first}");
    let again = market.world.json(&revoke);
    assert_eq!(
        (&again["transaction"], &again["since"]),
        (&Value::Null, &first["since"])
    );
    // The registrar that runs has it at once, and bob when he asks.
    assert_eq!(market.json(&bob, &["sync"])["newLists"], 1);
    std::thread::sleep(std::time::Duration::from_secs(2)); // a transfer of the same second counts
    let invoice = alone.step(&bob, &["invoice", "--amount", "0.25"], "");
    let paid = alone.step(&ada, &["pay", "--yes"], text(&invoice));
    let error = alone.error(&bob, 3, &["accept"], text(&paid));
    assert!(error.contains(&ada.id) && error.contains("revoked"), "{error}");
    assert_eq!(market.held(&bob), ETHER / 4);
    // What bob was paid before is his: his exit is his own.
    market.json(&bob, &["redeem", "--from", "shop"]);
    assert_eq!(market.credit("shop"), ETHER / 4);

    // The whole class: nothing is registered into it any more.
    market.world.json(&["offline", "revoke", "--class", "dev-1"]);
    let cyd = market.new_purse("cyd", 2);
    let error = market.error(&cyd, 3, &["register", "--from", "operator"]);
    assert!(error.contains("revoked"), "{error}");
}

/// A registrar that comes back has everything, and says of its settings what is wrong before it opens anything.
#[test]
fn a_registrar_comes_back_and_its_settings_are_judged_first() {
    let mut market = Market::new();
    let ada = market.new_purse("ada", 0);
    let address = market.registrar.address().to_string();
    let listen = address.as_str();
    // In the middle of a registration.
    let register = ["register", "--from", "payer", "--wait", "0s"];
    let _ = market.run(&ada, &register);
    market.registrar.kill();
    let error = market.error(&ada, 4, &["register", "--from", "payer", "--wait", "0s"]);
    assert!(error.contains(listen), "{error}");
    market.registrar = serve(&market.world, listen, &[]);
    market.registrar.address();
    let registered = market.json(&ada, &["register", "--from", "payer"]);
    assert_eq!(registered["wallet"], ada.id.as_str());
    assert_eq!(
        market.json(&ada, &["register", "--from", "payer"]),
        registered,
        "again it is the same"
    );
    let error = market.error(&ada, 3, &["register", "--from", "shop"]);
    assert!(
        error.contains(&market.world.account(0).to_string())
            && error.contains(&market.world.account(1).to_string()),
        "{error}"
    );

    let serve_with = |words: &[&str]| {
        let all = [
            &["offline", "registrar", "serve", "--listen", "127.0.0.1:0"],
            words,
        ]
        .concat();
        market.world.error(2, &all)
    };
    let error = serve_with(&[]);
    assert!(error.contains("development"), "{error}");
    let error = serve_with(&["--policy", "/nowhere.toml"]);
    assert!(error.contains("/nowhere.toml"), "{error}");
    let policy = market.alone.path("wrong.toml");
    fs::write(
        &policy,
        "[[class]]\nnumber = 1\nkind = \"log\"\nvalidity = 5\naccept = []\n",
    )
    .unwrap();
    let error = serve_with(&["--policy", &policy]);
    assert!(error.contains("validity") && error.contains('5'), "{error}");
    let stores = Alone(market.world.home.path().join("micropay/stores"));
    assert!(fs::exists(&stores.0).unwrap());
    assert_eq!(market.registrar.stop(), Some(0), "SIGTERM is an orderly end");
    assert!(arg(&ada.folder).ends_with("ada") && ACCOUNTS.len() > 2);
}

#[test]
fn a_registration_is_renewed_in_its_second_half() {
    let mut market = Market::new();
    let policy = market.world.home.path().join("micropay/registrar.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("validity = 604800", "validity = 60")).unwrap();
    let listen = market.registrar.address().to_string();
    market.registrar.kill();
    market.registrar = serve(&market.world, &listen, &[]);
    market.registrar.address();
    let (ada, bob) = (market.purse("ada", 0), market.purse("bob", 1));
    let renew = ["renew", "--from", "payer"];
    let early = market.json(&ada, &renew);
    assert_eq!(early["renewed"], false);
    market.deposit(&ada, "1");
    let half = early["validUntil"].as_u64().unwrap() - 29;
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_secs()
    };
    while now() < half {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let renewed = market.json(&ada, &renew);
    assert_eq!(renewed["renewed"], true, "{renewed}");
    assert!(renewed["validUntil"].as_u64() > early["validUntil"].as_u64());
    // What is paid under it counts on the chain.
    market.alone.pay(&ada, &bob, "0.5");
    market.json(&bob, &["redeem", "--from", "shop"]);
    assert_eq!(market.credit("shop"), ETHER / 2);
}
