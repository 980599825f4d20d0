//! What the other side, or one's own mistake, can bring: each has its own refusal and exit code, and changes nothing.

use std::fs;

use alloy::primitives::Address;
use protocol::offline::{ClassId, Domain, Evidence, Path, SignedInvoice, SoftwareKey};
use serde_json::Value;

use crate::support::wallets::{Market, Purse, arg, text, wei};
use crate::support::{run, run_with_input};

const ETHER: u128 = 1_000_000_000_000_000_000;

/// All that a wallet says of itself.
fn everything(market: &Market, purse: &Purse) -> [Value; 2] {
    [
        market.alone.step(purse, &["wallet", "balance"], ""),
        market.alone.step(purse, &["wallet", "history"], ""),
    ]
}

#[test]
fn a_wrong_message_is_refused_and_changes_nothing() {
    let market = Market::new();
    let alone = &market.alone;
    let (ada, bob, cyd) = (
        market.purse("ada", 0),
        market.purse("bob", 1),
        market.purse("cyd", 2),
    );
    market.deposit(&ada, "1");
    let invoice = alone.step(&bob, &["invoice", "--amount", "0.1"], "");
    let other = alone.step(&bob, &["invoice", "--amount", "0.2"], "");
    let paid = alone.step(&ada, &["pay", "--yes"], text(&invoice));
    let before = [&ada, &bob, &cyd].map(|purse| everything(&market, purse));
    let refused = |purse: &Purse, code: i32, words: &[&str], input: &str, says: &[&str]| {
        let error = alone.error(purse, code, words, input);
        for word in says {
            assert!(error.contains(word), "{word}: {error}");
        }
    };

    // The wrong message at the right place.
    let accept = &["accept"][..];
    let pay = &["pay", "--yes"][..];
    refused(
        &bob,
        2,
        accept,
        text(&invoice),
        &["micropay-invoice", "micropay-payment"],
    );
    refused(
        &ada,
        2,
        pay,
        text(&paid),
        &["micropay-payment", "micropay-invoice"],
    );
    // No message.
    refused(&ada, 1, pay, "hello", &["hello"]);
    refused(&ada, 1, pay, "", &["0 of 0"]);
    let half = &text(&paid)[..text(&paid).len() / 2];
    refused(&bob, 1, accept, half, &["damaged"]);
    refused(&bob, 2, &["accept", "--in", "/nowhere"], "", &["/nowhere"]);
    // A payment of somebody else's invoice; an acceptance of somebody else's payment; one's own invoice.
    refused(&cyd, 3, accept, text(&paid), &["is not of this wallet"]);
    refused(&bob, 3, pay, text(&other), &[&bob.id]);
    let mine = alone.step(&cyd, &["invoice", "--amount", "0.1"], "");
    refused(
        &ada,
        3,
        &["pay", "--yes", "--again", mine["invoice"].as_str().unwrap()],
        "",
        &["does not wait"],
    );
    // More than there is.
    let much = alone.step(&bob, &["invoice", "--amount", "7"], "");
    refused(
        &ada,
        3,
        pay,
        text(&much),
        &["7000000000000000000", "900000000000000000"],
    );
    // Amounts and receipts that are none.
    refused(&bob, 2, &["invoice", "--amount", "0"], "", &["more than 0"]);
    refused(&bob, 2, &["invoice", "--amount", "1e3"], "", &["1e3"]);
    refused(&bob, 1, &["receipt", "0xabcdef"], "", &["0 transfers"]);
    refused(&bob, 2, &["receipt", "here"], "", &["here"]);
    refused(
        &bob,
        3,
        &[
            "reject",
            other["invoice"].as_str().unwrap().replace('a', "b").as_str(),
        ],
        "",
        &["is not of this wallet"],
    );
    // Nobody to ask.
    refused(&ada, 2, &["pay"], text(&other), &["--yes"]);
    refused(&ada, 2, &["pay", "--yes", "--qr"], text(&invoice), &["--json"]);

    // Signed for another vault, by the payer and by the payee.
    let elsewhere = Domain::new(market.world.anvil.chain_id(), Address::repeat_byte(7));
    let key = |purse: &Purse| {
        let bytes = fs::read(purse.folder.join("software-key")).unwrap();
        SoftwareKey::from_bytes(&bytes.try_into().unwrap()).unwrap()
    };
    let mut path = Path::decode(&domain(&market), &body(text(&paid))).unwrap();
    let digest = elsewhere.transfer_digest(&path.hops[0].transfer);
    path.hops[0].evidence = Evidence::Signature(key(&ada).sign(digest.0.as_slice()));
    let message = carry::Message::new(carry::MessageType::Payment, path.encode(&domain(&market))).unwrap();
    refused(&bob, 3, accept, &carry::file::to_text(&message), &["sign"]);
    let mut asked = SignedInvoice::decode(&domain(&market), &body(text(&other))).unwrap();
    let digest = elsewhere.invoice_digest(&asked.invoice);
    asked.signature = key(&bob).sign(digest.0.as_slice());
    let message = carry::Message::new(carry::MessageType::Invoice, asked.encode(&domain(&market))).unwrap();
    refused(
        &ada,
        3,
        pay,
        &carry::file::to_text(&message),
        &["is not signed by", &bob.id],
    );
    // Books of one chain, settings of another.
    let place = market.world.path("elsewhere-wallet");
    copy(&bob.folder, &place);
    let settings = fs::read_to_string(place.join("wallet.toml")).unwrap();
    fs::write(
        place.join("wallet.toml"),
        settings.replace("chain_id = 31337", "chain_id = 31338"),
    )
    .unwrap();
    let moved = Purse {
        folder: place,
        ..bob.clone()
    };
    let error = alone.error(&moved, 1, accept, text(&paid));
    assert!(error.contains("31337") && error.contains("31338"), "{error}");
    // Every byte of a payment counts.
    let body = body(text(&paid));
    for at in (0..body.len()).step_by(29) {
        let mut wrong = body.clone();
        wrong[at] ^= 1;
        let message = carry::Message::new(carry::MessageType::Payment, wrong).unwrap();
        let said = run_with_input(alone.command(&bob, accept), &carry::file::to_text(&message));
        assert!([1, 3].contains(&said.code), "byte {at}: {said:?}");
        said.json_error(said.code);
    }

    // The two invoices, and what was asked of cyd, wait; nothing else happened.
    for (purse, before) in [&ada, &bob, &cyd].into_iter().zip(before) {
        let [mut balance, history] = everything(&market, purse);
        let [mut old, old_history] = before;
        for balance in [&mut balance, &mut old] {
            balance["invoicesWaiting"] = Value::Null;
        }
        assert_eq!((balance, history), (old, old_history));
    }
    // And the right one is still taken.
    alone.step(&bob, accept, text(&paid));
    assert_eq!(market.held(&bob), ETHER / 10);
}

#[test]
fn a_payee_takes_only_what_it_said() {
    let market = Market::new();
    let alone = &market.alone;
    let (ada, bob) = (market.purse("ada", 0), market.new_purse("bob", 1));
    market.json(&bob, &["register", "--from", "shop"]);
    market.deposit(&ada, "1");
    let dev = ClassId::dev(1);
    // Nothing by default: it does not even ask.
    let error = alone.error(&bob, 3, &["invoice", "--amount", "0.1"], "");
    assert!(error.contains("takes nobody's"), "{error}");
    // A class for development only with so many words; a class that is not there not at all.
    let accept = ["wallet", "accept", "--limit", "0.15"];
    let error = market.error(&bob, 3, &accept);
    assert!(
        error.contains("for development") && error.contains("dev-1"),
        "{error}"
    );
    let error = market.error(&bob, 3, &[&accept[..], &["--class", "7"]].concat());
    assert!(error.contains("no class 7") && error.contains("dev-1"), "{error}");
    market.json(&bob, &[&accept[..], &["--allow-dev", "--least", "0.01"]].concat());

    let ask = |amount: &str| alone.step(&bob, &["invoice", "--amount", amount], "");
    let pay = |invoice: &Value| alone.step(&ada, &["pay", "--yes"], text(invoice));
    // Asked while there was room for either.
    let (first, second) = (ask("0.1"), ask("0.06"));
    alone.step(&bob, &["accept"], text(&pay(&first)));
    // Above the limit with what is held: not taken, and not asked for again; too small.
    let second = pay(&second);
    let again = ["invoice", "--amount", "0.06"];
    for error in [
        alone.error(&bob, 3, &["accept"], text(&second)),
        alone.error(&bob, 3, &again, ""),
    ] {
        for value in ["60000000000000000", "100000000000000000", "150000000000000000"] {
            assert!(error.contains(value), "{value}: {error}");
        }
    }
    let error = alone.error(&bob, 3, &["invoice", "--amount", "0.001"], "");
    assert!(
        error.contains("1000000000000000") && error.contains("10000000000000000"),
        "{error}"
    );
    assert_eq!(market.held(&bob), ETHER / 10);
    // Settled, there is room again: the payment that was refused is taken.
    market.json(&bob, &["redeem", "--from", "shop"]);
    alone.step(&bob, &["accept"], text(&second));
    assert_eq!(market.held(&bob), ETHER * 6 / 100);
    // Whose class is not taken any more.
    market.json(&bob, &["wallet", "accept", "--remove"]);
    let settings = bob.folder.join("wallet.toml");
    let text_of = fs::read_to_string(&settings).unwrap();
    assert!(!text_of.contains("[[accept]]"), "{text_of}");
    market.json(&bob, &["wallet", "accept", "--limit", "1"]);
    let third = pay(&ask("0.02"));
    // As if it had changed its mind in between.
    let kept = fs::read_to_string(&settings).unwrap();
    fs::write(
        &settings,
        kept.replace(&format!("class = {}\nasset", dev.0), "class = 9\nasset"),
    )
    .unwrap();
    let error = alone.error(&bob, 3, &["accept"], text(&third));
    assert!(
        error.contains("not accepted") && error.contains(&dev.to_string()),
        "{error}"
    );
    fs::write(&settings, kept.replace("allow_dev = true", "allow_dev = false")).unwrap();
    let error = alone.error(&bob, 3, &["accept"], text(&third));
    assert!(error.contains("for development"), "{error}");
    fs::write(&settings, kept).unwrap();
    alone.step(&bob, &["accept"], text(&third));
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_done() {
    let market = Market::new();
    let world = &market.world;
    let wallet = market.alone.path("new");
    let new = [
        "offline",
        "wallet",
        "new",
        "--wallet",
        &wallet,
        "--registrar",
        &market.url,
    ];
    assert!(world.error(2, &new).contains("--software"));
    let wrong = "0x00000000000000000000000000000000000000aa";
    let error = world.error(
        3,
        &[&new[..], &["--software", "--registrar-address", wrong]].concat(),
    );
    assert!(error.to_lowercase().contains(wrong), "{error}");
    let error = world.error(
        3,
        &[&new[..], &["--software", "--offline-contract", wrong]].concat(),
    );
    assert!(error.to_lowercase().contains(wrong), "{error}");
    let error = world.error(4, &[&new[..], &["--swtpm", "127.0.0.1:9"]].concat());
    assert!(error.contains("127.0.0.1:9"), "{error}");
    // What was begun is finished as it was begun.
    let error = world.error(3, &[&new[..], &["--software"]].concat());
    assert!(
        error.contains("swtpm:127.0.0.1:9") && error.contains("software"),
        "{error}"
    );
    fs::remove_dir_all(&wallet).unwrap();
    world.json(&[&new[..], &["--software"]].concat());
    let error = world.error(3, &[&new[..], &["--software"]].concat());
    assert!(error.contains("already"), "{error}");

    let purse = Purse {
        folder: world.path("new"),
        owner: "payer",
        id: String::new(),
    };
    for words in [
        &["wallet", "balance"][..],
        &["invoice", "--amount", "1"],
        &["deposit", "--amount", "1", "--from", "payer"],
        &["redeem", "--from", "payer"],
    ] {
        let said = run(market.command(&purse, words));
        assert_eq!(said.code, 3, "{words:?}: {said:?}");
    }
    let error = market.error(&purse, 3, &["register", "--from", "payer", "--class", "3"]);
    assert!(error.contains("dev-1") && error.contains('3'), "{error}");
    let nowhere = Purse {
        folder: world.path("nowhere"),
        ..purse.clone()
    };
    assert!(
        market
            .error(&nowhere, 2, &["wallet", "balance"])
            .contains("nowhere")
    );

    // A coin above the registrar's cap would get no receipt.
    let ada = market.purse("ada", 0);
    let policy = world.home.path().join("micropay/registrar.toml");
    let cap = "caps = [{ asset = \"0x0000000000000000000000000000000000000000\", coin = \"1000\", wallet = \"2000\" }]\n";
    fs::write(&policy, fs::read_to_string(&policy).unwrap() + cap).unwrap();
    let mut market = market;
    let listen = market.registrar.address().to_string();
    market.registrar.kill();
    market.registrar = crate::support::wallets::serve(&market.world, &listen, &[]);
    market.registrar.address();
    let error = market.error(&ada, 3, &["deposit", "--amount", "1001wei", "--from", "payer"]);
    assert!(
        error.contains("0.000000000000001001 ETH") && error.contains("0.000000000000001 ETH"),
        "{error}"
    );
    let coin = market.deposit(&ada, "1000wei");
    assert_eq!(wei(&coin["held"]), 1_000);
    assert!(arg(&ada.folder).ends_with("ada"));
}

fn domain(market: &Market) -> Domain {
    Domain::new(
        market.world.anvil.chain_id(),
        chain::deploy::address::<chain::Vaults>(),
    )
}

fn body(message: &str) -> Vec<u8> {
    carry::file::read(message.as_bytes()).unwrap().into_body()
}

pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
