//! Two terminals without a network pay each other: by pipe, file, picture and QR code, with chain and registrar gone.

use std::fs;

use crate::support::maker::Maker;
use crate::support::wallets::{Alone, Market, Purse, arg, serve, text, wei};
use crate::support::{Said, World, run, run_with_input};

const ETHER: u128 = 1_000_000_000_000_000_000;

/// QR codes in half blocks on a dark terminal, as PNGs in a folder.
fn photograph_all(shown: &str, folder: &str) {
    // Those of the one before.
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).unwrap();
    for (number, code) in shown.split("\n\n").enumerate() {
        fs::write(format!("{folder}/{number:03}.png"), photograph(code)).unwrap();
    }
}

/// One of them.
fn photograph(shown: &str) -> Vec<u8> {
    const SCALE: usize = 4;
    let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
    let side = lines[0].len();
    let mut pixels = Vec::new();
    for line in &lines {
        assert_eq!(line.len(), side, "a square: {shown}");
        for upper in [true, false] {
            let row: Vec<u8> = line
                .iter()
                .flat_map(|block| {
                    let light = match block {
                        '█' => true,
                        '▀' => upper,
                        '▄' => !upper,
                        _ => false,
                    };
                    [if light { 255 } else { 0 }; SCALE]
                })
                .collect();
            (0..SCALE).for_each(|_| pixels.extend(&row));
        }
    }
    let mut bytes = Vec::new();
    let (width, height) = (side * SCALE, lines.len() * 2 * SCALE);
    let mut encoder = png::Encoder::new(&mut bytes, width.try_into().unwrap(), height.try_into().unwrap());
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Without `--json`, as people see it.
fn shown(alone: &Alone, purse: &Purse, words: &[&str], input: &str) -> Said {
    let said = run_with_input(alone.shown(purse, words), input);
    assert_eq!(said.code, 0, "{said:?}");
    said
}

#[test]
fn two_wallets_pay_each_other_by_every_carrier_with_chain_and_registrar_gone() {
    let market = Market::new();
    let (ada, bob, cyd) = (
        market.purse("ada", 0),
        market.purse("bob", 1),
        market.purse("cyd", 2),
    );
    market.deposit(&ada, "1");
    market.deposit(&bob, "0.5");

    // Nobody is there any more.
    let Market {
        world: World { anvil, home: _home },
        registrar,
        alone,
        ..
    } = market;
    drop((anvil, registrar));
    let deposit = ["deposit", "--amount", "0.1", "--from", "payer", "--wait", "0s"];
    let error = alone.error(&ada, 4, &deposit, "");
    assert!(error.contains("127.0.0.1:9"), "the chain is gone: {error}");

    // By pipe.
    let paid = alone.pay(&ada, &bob, "0.2");
    assert_eq!((&paid["again"], wei(&paid["amount"])), (&false.into(), ETHER / 5));
    assert!(paid["bytes"].as_u64().unwrap() <= 500, "at depth 1: {paid}");
    // What was received is spent at once, whole.
    let on = alone.pay(&bob, &cyd, "0.2");
    assert!(
        wei(&on["change"]) == 0 || wei(&on["change"]) == ETHER * 3 / 10,
        "{on}"
    );
    // And all of it back, in pieces.
    alone.pay(&cyd, &ada, "0.15");

    // By file, in bytes.
    let (asked, given, taken) = (alone.path("asked"), alone.path("given"), alone.path("taken"));
    run(alone.command(&bob, &["invoice", "--amount", "0.01", "--out", &asked])).json();
    let paid = run(alone.command(&ada, &["pay", "--yes", "--in", &asked, "--out", &given])).json();
    let bytes = fs::read(&given).unwrap();
    assert!(bytes.starts_with(&carry::file::MAGIC));
    let code = run(alone.command(&bob, &["accept", "--in", &given, "--out", &taken])).json()["code"].clone();
    assert_eq!(code, paid["code"]);
    run(alone.command(&ada, &["accept", "--in", &taken])).json();

    // By picture, one code each.
    let (asked, given, taken) = (
        alone.path("asked.png"),
        alone.path("given.png"),
        alone.path("taken.png"),
    );
    run(alone.command(&bob, &["invoice", "--amount", "0.02", "--png", &asked])).json();
    let paid = run(alone.command(&ada, &["pay", "--yes", "--in", &asked, "--png", &given])).json();
    run(alone.command(&bob, &["accept", "--in", &given, "--png", &taken])).json();
    let accepted = run(alone.command(&ada, &["accept", "--in", &taken])).json();
    assert_eq!(accepted["transfer"], paid["transfer"]);

    // By a folder of pictures.
    let (asked, given) = (alone.path("asked.d"), alone.path("given.d"));
    run(alone.command(&cyd, &["invoice", "--amount", "0.03", "--pngs", &asked])).json();
    run(alone.command(&ada, &["pay", "--yes", "--in", &asked, "--pngs", &given])).json();
    let taken = run(alone.command(&cyd, &["accept", "--in", &given])).json();
    alone.step(&ada, &["accept"], text(&taken));

    // By what the terminals show, photographed. What people read goes to standard error.
    let photo = alone.path("photos");
    let mut seen = Vec::new();
    for (purse, words) in [
        (&bob, &["invoice", "--amount", "0.04", "--qr"][..]),
        (&ada, &["pay", "--yes", "--qr", "--in", &photo]),
        (&bob, &["accept", "--qr", "--in", &photo]),
        (&ada, &["accept", "--in", &photo]),
    ] {
        let said = shown(&alone, purse, words, "");
        if words.contains(&"--qr") {
            photograph_all(&said.out, &photo);
        }
        seen.push(said.err);
    }
    let code = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("code")).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(code(&seen[1]), code(&seen[2]), "both sides show the same");

    // In one line, as a shell does it.
    let invoice = shown(&alone, &cyd, &["invoice", "--amount", "0.05"], "");
    assert!(
        invoice.out.starts_with("UR:MICROPAY-INVOICE/"),
        "only the message: {}",
        invoice.out
    );
    let payment = shown(&alone, &ada, &["pay", "--yes"], &invoice.out);
    let acceptance = shown(&alone, &cyd, &["accept"], &payment.out);
    shown(&alone, &ada, &["accept"], &acceptance.out);

    // Nothing was made or lost.
    let ada_has = ETHER - ETHER / 5 + ETHER * 15 / 100 - ETHER * (1 + 2 + 3 + 4 + 5) / 100;
    let bob_has = ETHER / 2 + ETHER * (1 + 2 + 4) / 100;
    let cyd_has = ETHER / 20 + ETHER * (3 + 5) / 100;
    for (purse, has) in [(&ada, ada_has), (&bob, bob_has), (&cyd, cyd_has)] {
        let balance = run(alone.command(purse, &["wallet", "balance"])).json();
        let ether = &balance["assets"][0];
        assert_eq!(wei(&ether["held"]), has, "{balance}");
        assert_eq!(
            (&ether["outstandingPayments"], &balance["inStep"]),
            (&0.into(), &true.into())
        );
    }
    let history = run(alone.command(&cyd, &["wallet", "history"])).json();
    let kinds: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["received", "received", "accepted", "paid", "received"]);
}

#[test]
fn the_same_invoice_is_paid_once_and_the_same_payment_taken_once() {
    let market = Market::new();
    let (ada, bob) = (market.purse("ada", 0), market.purse("bob", 1));
    market.deposit(&ada, "1");
    let invoice = market.alone.step(&bob, &["invoice", "--amount", "0.25"], "");
    let paid = market.alone.step(&ada, &["pay", "--yes"], text(&invoice));
    // Sent again by invoice, and by name: the same bytes.
    let again = market.alone.step(&ada, &["pay"], text(&invoice));
    assert_eq!(
        (text(&again), &again["again"], &paid["again"]),
        (text(&paid), &true.into(), &false.into())
    );
    let transfer = paid["transfer"].as_str().unwrap();
    let named = market.alone.step(&ada, &["pay", "--again", transfer], "");
    assert_eq!(text(&named), text(&paid));
    assert_eq!(
        market.balance(&ada)["outstanding"],
        (ETHER / 4).to_string(),
        "not accepted yet"
    );

    let printed = |purse: &Purse| market.json(purse, &["receipt", &transfer[..12]]);
    assert_eq!(printed(&ada)["state"], "released");
    let taken = market.alone.step(&bob, &["accept"], text(&paid));
    let twice = market.alone.step(&bob, &["accept"], text(&paid));
    assert_eq!((text(&taken), &twice["again"]), (text(&twice), &true.into()));
    assert_eq!(market.held(&bob), ETHER / 4);
    assert_eq!(market.alone.step(&ada, &["accept"], text(&taken))["new"], true);
    assert_eq!(market.alone.step(&ada, &["accept"], text(&taken))["new"], false);
    let error = market.error(&ada, 3, &["pay", "--again", transfer]);
    assert!(error.contains("does not wait"), "{error}");

    // Both print the same but for nothing.
    let (payers, payees) = (printed(&ada), printed(&bob));
    assert_eq!(payers["receipt"], payees["receipt"]);
    assert_eq!(
        (&payers["state"], &payers["code"]),
        (&"offline-accepted".into(), &paid["code"])
    );
    let file = market.alone.path("receipt.txt");
    market.json(&bob, &["receipt", transfer, "--out", &file]);
    let receipt = fs::read_to_string(&file).unwrap();
    assert!(
        receipt.lines().all(|line| line.chars().count() <= 42),
        "{receipt}"
    );
    assert!(
        receipt.contains("0.25 ETH") && receipt.contains(&ada.id[2..34]),
        "{receipt}"
    );

    // A rejected invoice is paid late all the same, once it was paid.
    let invoice = market.alone.step(&bob, &["invoice", "--amount", "0.1"], "");
    let paid = market.alone.step(&ada, &["pay", "--yes"], text(&invoice));
    market.json(&bob, &["reject", invoice["invoice"].as_str().unwrap()]);
    let taken = market.alone.step(&bob, &["accept"], text(&paid));
    assert_eq!(taken["late"], true);
}

/// A backup is read, and gives out what is in it; it pays only while the component made nothing since.
#[test]
fn a_restored_backup_does_not_spend_what_was_spent() {
    let market = Market::new();
    let (ada, bob) = (market.purse("ada", 0), market.purse("bob", 1));
    market.deposit(&ada, "1");
    let invoice = market.alone.step(&bob, &["invoice", "--amount", "0.25"], "");
    let paid = market.alone.step(&ada, &["pay", "--yes"], text(&invoice));
    let place = market.alone.path("backup");
    let backup = market.json(&ada, &["wallet", "backup", "--out", &place]);
    assert_eq!(
        backup["files"],
        serde_json::json!(["wallet.sqlite", "wallet.toml"])
    );
    assert!(
        market
            .error(&ada, 3, &["wallet", "backup", "--out", &place])
            .contains("there already")
    );

    let restore = |purse: &Purse| {
        for stale in ["wallet.sqlite-wal", "wallet.sqlite-shm"] {
            // Not there after an orderly end.
            let _ = fs::remove_file(purse.folder.join(stale));
        }
        for name in ["wallet.sqlite", "wallet.toml"] {
            fs::copy(format!("{place}/{name}"), purse.folder.join(name)).unwrap();
        }
    };
    // Nothing was made since: all is well.
    restore(&ada);
    market.alone.pay(&ada, &bob, "0.125");
    // Now something was.
    restore(&ada);
    let invoice2 = market.alone.step(&bob, &["invoice", "--amount", "0.125"], "");
    let error = market.alone.error(&ada, 3, &["pay", "--yes"], text(&invoice2));
    assert!(error.contains("set back"), "{error}");
    let balance = market.json(&ada, &["wallet", "balance"]);
    assert_eq!(balance["inStep"], false, "{balance}");
    // What was given out is given out again.
    let again = market.alone.step(&ada, &["pay"], text(&invoice));
    assert_eq!(text(&again), text(&paid));
    assert!(arg(&ada.folder).ends_with("ada"));
}

/// On a software TPM, by the log: credential activation, the log's beginning, payments, settlement.
#[test]
fn a_wallet_in_a_tpm_registers_pays_and_redeems() {
    let Some(emulator) = trusted::swtpm::Emulator::for_test() else {
        return;
    };
    let maker = Maker::new();
    emulator
        .install_endorsement_certificate(&maker.endorse(&emulator))
        .unwrap();
    let mut market = Market::new();
    // The registrar also takes TPMs of this maker.
    let policy = market.world.home.path().join("micropay/registrar.toml");
    fs::write(policy.with_file_name("maker.crt"), &maker.root).unwrap();
    let more = "\n[[class]]\nnumber = 2\ndev = true\nkind = \"log\"\nvalidity = 604800\n\
                accept = [{ format = \"tpm\", roots = [\"maker.crt\"] }]\n";
    fs::write(&policy, fs::read_to_string(&policy).unwrap() + more).unwrap();
    let listen = market.registrar.address().to_string();
    market.registrar.kill();
    market.registrar = serve(&market.world, &listen, &[]);
    market.registrar.address();

    let bob = market.purse("bob", 1);
    let folder = market.world.path("ada");
    let address = emulator.address().to_string();
    let made = market.world.json(&[
        "offline",
        "wallet",
        "new",
        "--wallet",
        arg(&folder),
        "--swtpm",
        &address,
        "--registrar",
        &market.url,
    ]);
    let ada = Purse {
        folder,
        owner: "payer",
        id: made["wallet"].as_str().unwrap().to_owned(),
    };
    let registered = market.json(&ada, &["register", "--from", "payer"]);
    assert_eq!(
        (&registered["kind"], &registered["class"]),
        (&"LOG".into(), &"dev-2".into())
    );
    for (class, purse) in [("dev-2", &bob), ("dev-1", &ada), ("dev-2", &ada)] {
        market.json(
            purse,
            &[
                "wallet",
                "accept",
                "--class",
                class,
                "--limit",
                "1",
                "--allow-dev",
            ],
        );
    }
    market.deposit(&ada, "0.5");
    let paid = market.alone.pay(&ada, &bob, "0.2");
    assert!(paid["bytes"].as_u64().unwrap() <= 800, "{paid}");
    market.alone.pay(&bob, &ada, "0.05");
    // Payees need not see what the contract has followed.
    let settled = market.json(&ada, &["checkpoint", "--from", "operator"]);
    assert_eq!(
        (&settled["entries"], &settled["sequence"]),
        (&1.into(), &1.into()),
        "{settled}"
    );
    let again = market.json(&ada, &["checkpoint", "--from", "operator"]);
    assert_eq!(again["entries"], 0);
    let error = market.error(&bob, 3, &["checkpoint", "--from", "operator"]);
    assert!(error.contains("no log"), "{error}");
    market.alone.pay(&ada, &bob, "0.01");
    for purse in [&ada, &bob] {
        market.json(purse, &["redeem", "--from", purse.owner]);
    }
    assert_eq!(
        (market.credit("payer"), market.credit("shop")),
        (ETHER * 34 / 100, ETHER * 16 / 100)
    );
}
