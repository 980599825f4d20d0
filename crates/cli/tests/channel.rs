//! A channel from its bank to its last wei: every command once, each with the way it is refused.

use std::fs;

use alloy::primitives::U256;
use chain::anvil::Anvil;
use serde_json::{Value, json};

use crate::support::upstream::Upstream;
use crate::support::{BANK, Gateway, OPERATOR, PAYER, SHOP, World, block_on, eventually, micropay, run};

const UNIT: u128 = 250_000_000_000_000;

fn units(value: &Value) -> u128 {
    value.as_str().unwrap().parse::<u128>().unwrap() / UNIT
}

#[test]
fn a_bank_admits_from_reputation_50_on() {
    let world = World::new();
    let init = world.json(&["channel", "bank", "init", "--from", BANK]);
    assert_eq!(
        (&init["bank"], &init["transaction"]),
        (&init["key"], &Value::Null)
    );

    let reputation = |args: &[&str]| world.json(&[&["channel", "bank", "reputation", PAYER], args].concat());
    assert_eq!(reputation(&["--bank", BANK])["reputation"], 0);
    let admit = ["channel", "bank", "admit", PAYER, "--from", BANK, "--reputation"];
    for (number, words) in [("49", "49"), ("101", "101")] {
        let refused = world.error(2, &[&admit[..], &[number]].concat());
        assert!(refused.contains(words) && refused.contains(if number == "49" { "50" } else { "100" }));
    }
    assert_eq!(world.json(&[&admit[..], &["50"]].concat())["admitted"], true);
    assert_eq!(world.json(&[&admit[..], &["80"]].concat())["reputation"], 80);
    // What it has is not taken away.
    let again = world.json(&[&admit[..], &["60"]].concat());
    assert_eq!(
        (&again["reputation"], &again["transaction"]),
        (&json!(80), &Value::Null)
    );
    world.json(&["channel", "bank", "admit", SHOP, "--from", BANK]);

    let mut bank = world.serve_bank("127.0.0.1:0");
    let url = format!("http://{}", bank.address());
    let open = |length: &str| {
        let open = [
            "channel", "open", "--vendor", SHOP, "--bank", &url, "--unit", "0.00025", "--from", PAYER,
        ];
        [&open[..], &["--length", length]]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let words = |args: &[String]| args.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    for (set, code) in [("49", 3), ("50", 0), ("51", 0)] {
        reputation(&["--from", BANK, "--set", set]);
        let args = open(&format!("1{set}"));
        let said = world.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(said.code, code, "{}: {said:?}", words(&args));
        if code != 0 {
            assert!(said.err.contains("49") && said.err.contains("50"), "{said:?}");
        }
    }
    let permits = world.json(&["channel", "bank", "permits", BANK]);
    // Both may be of one second.
    let mut lengths: Vec<_> = permits
        .as_array()
        .unwrap()
        .iter()
        .map(|permit| permit["length"].as_u64().unwrap())
        .collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [150, 151]);

    // Another key: the bank that runs takes it over when it is told to.
    let rotated = world.json(&["channel", "bank", "rotate", "--from", BANK]);
    assert_eq!(
        (&rotated["epoch"], &rotated["before"]),
        (&json!(1), &rotated["bank"])
    );
    let args = open("77");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let refused = world.error(4, &args);
    assert!(refused.contains("key-superseded"), "{refused}");
    bank.signal(nix::sys::signal::Signal::SIGHUP);
    bank.assert_logged("permits are signed by the key on chain");
    assert_eq!(world.json(&args)["opened"], true);
    // Who is a bank keeps its key.
    let init = world.json(&["channel", "bank", "init", "--from", BANK]);
    assert_eq!(
        (&init["key"], &init["transaction"]),
        (&rotated["key"], &Value::Null)
    );
    assert_eq!(bank.stop(), Some(0));
    assert!(
        world
            .error(
                4,
                &args[..args.len() - 1]
                    .iter()
                    .copied()
                    .chain(["78"])
                    .collect::<Vec<_>>()
            )
            .contains("bank")
    );
}

/// What most of these tests begin with.
struct Market {
    world: World,
    upstream: Upstream,
    bank: Gateway,
    gateway: Gateway,
    channel: String,
}

impl Market {
    fn open(length: &str) -> Self {
        let world = World::ticking();
        let upstream = Upstream::start(std::time::Duration::ZERO);
        let mut bank = world.bank();
        let mut gateway = world.serve_channels(&upstream, &[]);
        let at = format!("http://{}", gateway.address());
        let channel = world.open_channel(bank.address(), length, &["--at", &at]);
        world.wait_until_channel_known(&channel, gateway.address());
        Self {
            world,
            upstream,
            bank,
            gateway,
            channel,
        }
    }

    fn buy(&mut self, path: &str) {
        let said = run(self.world.pay(&self.channel, self.gateway.address(), path, &[]));
        assert_eq!(
            (said.code, said.out.as_str()),
            (0, format!("GET {path} ").as_str()),
            "{said:?}"
        );
    }

    fn show(&self, args: &[&str]) -> Value {
        self.world
            .json(&[&["channel", "show", &self.channel], args].concat())
    }
}

#[test]
fn a_channel_from_its_opening_to_a_close_by_both() {
    let mut market = Market::open("1000");
    let id = market.channel.clone();
    let bank = format!("http://{}", market.bank.address());
    let address = market.gateway.address();

    // Opening again opens nothing.
    let again = market.world.open_channel(market.bank.address(), "1000", &[]);
    assert_eq!(again, id);
    // Over the channel in every way that there is.
    market.buy("/one");
    let mut command = market.world.micropay();
    command.args([
        "--json",
        "get",
        &format!("http://{address}/two"),
        "--pay-with",
        "channel",
        "-o",
        "/dev/null",
    ]);
    let paid = run(command).json();
    assert_eq!(
        (&paid["paid"]["kind"], &paid["paid"]["channel"]["index"]),
        (&json!("channel"), &json!(3))
    );
    assert_eq!(paid["paid"]["channel"]["channel"], json!(id));
    let mut command = market.world.micropay();
    command.args([
        "--json",
        "get",
        &format!("http://{address}/three"),
        "-o",
        "/dev/null",
    ]);
    assert_eq!(
        run(command).json()["paid"]["kind"],
        "channel",
        "without an escrow there is but one way"
    );
    let dry = run(market.world.pay(&id, address, "/four", &["--dry-run"])).json();
    assert_eq!(dry["wouldPay"]["kind"], "channel");
    assert_eq!(dry["wouldPay"]["channel"], json!(id));
    let said = run(market
        .world
        .pay(&id, address, "/four", &["--max-price", "0.0001"]));
    assert!(said.json_error(3).contains("limit"), "{said:?}");
    let said = run(market.world.pay(&id, address, "/four", &["--pay-with", "ticket"]));
    assert!(said.json_error(2).contains("channel"));
    assert_eq!(market.upstream.asked("/four"), 0);
    // The same call under its name is paid once.
    for _ in 0..2 {
        let said = run(market
            .world
            .pay(&id, address, "/named", &["--idempotency-key", "a name"]));
        assert_eq!(said.out, "GET /named ", "{said:?}");
    }

    let (mine, theirs) = (market.show(&[]), market.show(&["--vendor", SHOP]));
    for (of, index) in [
        (&mine["acknowledged"], 5),
        (&mine["revealed"], 5),
        (&theirs["paid"], 5),
        (&mine["left"], 995),
    ] {
        assert_eq!(of, &json!(index), "{mine} {theirs}");
    }
    let listed = market.world.json(&["channel", "list"]);
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["channel"]),
        (1, &json!(id))
    );
    let said = market.world.run(&["channel", "list"]);
    assert!(
        said.out.contains("995 of 1000 units of 0.00025 ETH left"),
        "{said:?}"
    );
    let listed = market.world.json(&["channel", "list", "--vendor", SHOP]);
    assert_eq!(listed[0]["paid"], 5);
    let said = market.world.run(&["channel", "list", "--vendor", SHOP]);
    assert!(said.out.contains("paid 0.00125 ETH, settled 0 ETH"), "{said:?}");
    // Another store knows of none.
    let elsewhere = tempfile::tempdir().unwrap();
    let storage = format!("sqlite:{}", elsewhere.path().join("other.sqlite").display());
    let of_other = ["--vendor", SHOP, "--storage", &storage];
    let listed = market.world.json(&[&["channel", "list"], &of_other[..]].concat());
    assert_eq!(listed, json!([]));
    let error = market
        .world
        .error(1, &[&["channel", "show", &id], &of_other[..]].concat());
    assert!(error.contains("the 0 that its store knows"), "{error}");
    // A few digits name it, wrong ones do not.
    let short = market.world.json(&["channel", "show", &id[..8]]);
    assert_eq!(short["channel"], json!(id));
    assert!(
        market
            .world
            .error(1, &["channel", "show", "0x0000"])
            .contains("0x0000")
    );
    assert!(
        market
            .world
            .error(2, &["channel", "show", "mine"])
            .contains("mine")
    );

    // Longer.
    let top_up = [
        "channel", "top-up", &id, "--length", "1500", "--bank", &bank, "--from", PAYER,
    ];
    let longer = market.world.json(&top_up);
    assert_eq!(
        (&longer["length"], &longer["generation"]),
        (&json!(1500), &json!(1))
    );
    assert_eq!(market.world.json(&top_up)["transaction"], Value::Null);
    market.buy("/longer");

    // Settled by the running gateway, and it goes on.
    let asked = market.world.json(&["channel", "checkpoint", &id, "--from", SHOP]);
    assert_eq!(asked["step"], "checkpoint");
    eventually("the checkpoint is mined", || {
        market.show(&[])["chain"]["settled"] == 6
    });
    market.buy("/after");

    // Receipts: opened at the vendor's, shown in a file, checked by anybody.
    let receipts = market.world.path("receipts.json");
    let file = receipts.to_str().unwrap();
    let own = ["channel", "open-receipts", &id, "--vendor", SHOP, "--out", file];
    assert!(market.world.error(3, &own).contains("has not sent"));
    let opened = market.world.json(&["channel", "open-receipts", &id]);
    assert_eq!(
        (&opened["opened"], &opened["endsInSigma0"]),
        (&json!(7), &json!(true))
    );
    let opened = market.world.json(&own);
    assert_eq!((&opened["opened"], &opened["holds"]), (&json!(7), &json!(true)));
    verify(&market.world, &receipts);

    // Both close; the client has the rest at once.
    let closed = market.world.json(&["channel", "close", &id, "--from", PAYER]);
    assert_eq!((units(&closed["paid"]), units(&closed["refunded"])), (7, 1493));
    assert_eq!(market.show(&[])["chain"]["status"], "closed");
    let credit =
        |account: &str| market.world.json(&["credit", "show", account, "--channel"])["credit"].clone();
    assert_eq!((units(&credit(SHOP)), units(&credit(PAYER))), (7, 1493));
    let out = market
        .world
        .json(&["credit", "withdraw", "--from", PAYER, "--channel"]);
    assert_eq!(units(&out["amount"]), 1493);
    let said = run(market.world.pay(&id, address, "/late", &[]));
    assert_ne!(said.code, 0, "{said:?}");
    assert!(
        market
            .world
            .error(3, &["channel", "close", &id, "--from", SHOP])
            .contains("closed")
    );
    assert_eq!(market.gateway.stop(), Some(0));
    assert_eq!(market.bank.stop(), Some(0));
}

/// A file that holds, and many that do not.
fn verify(world: &World, path: &std::path::Path) {
    let bank = world.bank_address();
    // Offline: without a chain, a configuration or a key.
    let check = |args: &[&str]| {
        let home = tempfile::TempDir::new().unwrap();
        let mut command = micropay(home.path());
        command.args(["--json", "channel", "verify"]).args(args);
        run(command)
    };
    let file = path.to_str().unwrap();
    let holds = check(&[file, "--bank", &bank]).json();
    assert_eq!(
        (&holds["holds"], &holds["opened"], &holds["ends_in_sigma0"]),
        (&json!(true), &json!(7), &json!(true))
    );
    assert_eq!((&holds["bankNamed"], units(&holds["amount"])), (&json!(true), 7));
    assert_eq!(check(&[file]).json()["bankNamed"], false);
    assert_eq!(
        world.json(&["channel", "verify", file, "--bank", BANK])["bankNamed"],
        true
    );

    let refuses = |args: &[&str], why: &str| {
        let said = check(args);
        let found: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(
            (said.code, &found["holds"]),
            (1, &json!(false)),
            "{why}: {said:?}"
        );
        assert!(found["wrong"].as_str().unwrap().contains(why), "{why}: {found}");
    };
    let shop = world.shop().to_string();
    refuses(&[file, "--bank", &shop], "none of the 1 keys");
    // Another key was named, and that is not said of the one that signed.
    let said = check(&[file, "--bank", &shop]);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(found["bankNamed"], false);
    let said = world.run(&["channel", "verify", file, "--bank", SHOP]);
    assert!(
        said.out.contains("whom you did not name") && !said.out.contains("you named"),
        "{said:?}"
    );
    let good: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let bad = world.path("bad.json");
    let tampered = |change: &dyn Fn(&mut Value), why: &str| {
        let mut file = good.clone();
        change(&mut file);
        fs::write(&bad, file.to_string()).unwrap();
        refuses(&[bad.to_str().unwrap(), "--bank", &bank], why);
    };
    tampered(
        &|file| file["receipts"][3]["itemHash"] = json!(format!("0x{:064x}", 1)),
        "not signed",
    );
    tampered(&|file| file["receipts"][6]["issuedAt"] = json!(1), "not signed");
    tampered(
        &|file| drop(file["receipts"].as_array_mut().unwrap().remove(2)),
        "not signed",
    );
    tampered(
        &|file| drop(file["receipts"].as_array_mut().unwrap().pop()),
        "nearest",
    );
    tampered(
        &|file| file["receipts"].as_array_mut().unwrap().swap(1, 2),
        "order",
    );
    tampered(
        &|file| file["receipts"][2]["tag"] = json!(format!("0x{:064x}", 1)),
        "tag",
    );
    tampered(&|file| file["terms"][0]["unit"] = json!("1"), "");
    tampered(&|file| file["chainId"] = json!(1), "");
    fs::write(&bad, "{}").unwrap();
    assert!(check(&[bad.to_str().unwrap()]).json_error(1).contains("bad.json"));
}

#[test]
fn the_operator_sees_what_channels_pay() {
    let mut market = Market::open("100");
    market.buy("/one");
    // A snapshot is of one second.
    eventually("the snapshot has both payments", || {
        let snapshot: Value = serde_json::from_str(&market.gateway.operator("/snapshot.json")).unwrap();
        snapshot["channels"]["lines"][0]["paid"] == (2 * UNIT).to_string()
    });
    let snapshot: Value = serde_json::from_str(&market.gateway.operator("/snapshot.json")).unwrap();
    let channels = &snapshot["channels"];
    assert_eq!(channels["lines"][0]["channel"], market.channel);
    assert_eq!(
        (&channels["money"]["open"], units(&channels["money"]["unsettled"])),
        (&json!(1), 2),
        "{channels}"
    );
    let metrics = market.gateway.operator("/metrics");
    let expiry = channels["lines"][0]["expiry"].as_u64().unwrap();
    for line in [
        "micropay_channel_payments_total 2".to_owned(),
        "micropay_channels{state=\"open\"} 1".to_owned(),
        "micropay_settlements{state=\"sent\"} 0".to_owned(),
        format!("micropay_channel_next_expiry_seconds {expiry}"),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert!(market.gateway.operator("/?still").contains(&market.channel[..8]));
    // A gateway without a bank has none.
    let mut plain = market.world.serve(&market.upstream, OPERATOR, &[]);
    assert!(!plain.operator("/metrics").contains("micropay_channel"));
}

#[test]
fn a_channel_need_not_be_named_where_one_is_open() {
    let mut market = Market::open("100");
    let at = format!("http://{}/unnamed", market.gateway.address());
    let paid = run({
        let mut command = market.world.micropay();
        command.args(["channel", "pay", &at]);
        command
    });
    assert_eq!((paid.code, paid.out.as_str()), (0, "GET /unnamed "), "{paid:?}");
    let world = &market.world;
    for of in [&["channel", "show"][..], &["channel", "show", "--vendor", SHOP]] {
        assert_eq!(world.json(of)["channel"], json!(market.channel));
    }
    assert_eq!(
        world.json(&["channel", "checkpoint", "--from", SHOP])["channel"],
        json!(market.channel)
    );
    // Of two, the error names both.
    let other = world.open_channel(market.bank.address(), "50", &[]);
    for ask in [
        &["channel", "show"][..],
        &["channel", "open-receipts"],
        &["channel", "refund", "--from", PAYER],
        &["channel", "close", "--from", PAYER],
        &["channel", "pay", &at],
    ] {
        let error = world.error(2, ask);
        assert!(
            error.contains("2 are open") && error.contains(&market.channel) && error.contains(&other),
            "{error}"
        );
    }
}

#[test]
fn a_vendor_settles_alone_and_what_expires_comes_back() {
    let mut market = Market::open("100");
    let id = market.channel.clone();
    market.buy("/one");
    // Another, that nothing is paid over; and one to be watched.
    let short = market
        .world
        .open_channel(market.bank.address(), "50", &["--life", "2h"]);
    let refused = market
        .world
        .error(3, &["channel", "refund", &short, "--from", PAYER]);
    assert!(refused.contains("until"), "{refused}");
    assert_eq!(market.gateway.stop(), Some(0));

    // The vendor is away; whoever has the file can settle for it, and only for it.
    let world = &market.world;
    let file = world.path("watch.json");
    let file = file.to_str().unwrap();
    let exported = world.json(&["channel", "show", &id, "--vendor", SHOP, "--watch-file", file]);
    assert_eq!(exported["index"], 2);
    assert!(
        !fs::read_to_string(file)
            .unwrap()
            .contains(&Anvil::key(1).to_bytes().to_string()[2..])
    );
    let watch = ["channel", "watch", file, "--from", OPERATOR, "--once"];
    assert_eq!(world.json(&watch)[0]["state"], "waits");
    assert_eq!(
        world.json(&[&watch[..], &["--margin", "40d"]].concat())[0]["state"],
        "checkpointed"
    );
    assert_eq!(world.json(&watch)[0]["state"], "settled");
    assert_eq!(
        units(&world.json(&["credit", "show", SHOP, "--channel"])["credit"]),
        2
    );

    // By itself, without a gateway: nothing new to settle, and then the end.
    let refused = world.error(3, &["channel", "checkpoint", &id, "--from", SHOP]);
    assert!(refused.contains("nothing to settle"), "{refused}");
    let closed = world.json(&["channel", "close", &id, "--from", SHOP]);
    assert_eq!((&closed["index"], units(&closed["refunded"])), (&json!(2), 98));
    assert!(
        world
            .error(3, &["channel", "close", &id, "--from", SHOP])
            .contains("closed")
    );
    assert_eq!(world.json(&watch)[0]["state"], "over");

    // The time lock.
    block_on(world.anvil.increase_time(3 * 3_600)).unwrap();
    let back = world.json(&["channel", "refund", &short, "--from", PAYER]);
    assert_eq!(
        (&back["step"], units(&back["refunded"])),
        (&json!("refunded"), 50)
    );
    assert_eq!(
        units(&world.json(&["credit", "show", PAYER, "--channel"])["credit"]),
        148
    );
    // All of it is somebody's.
    let client = world.client();
    let contract = block_on(async {
        use alloy::providers::Provider;
        let channels = chain::deploy::address::<chain::Channels>();
        client.provider().get_balance(channels).await.unwrap()
    });
    assert_eq!(contract, U256::from(150 * UNIT));
}

#[test]
fn advice_follows_from_the_gas_that_was_measured() {
    let world = World::new();
    let advice = |args: &[&str]| world.json(&[&["channel", "advise"], args].concat());
    let often = advice(&["--per-day", "1000"]);
    assert_eq!(often["cheaper"], "channel");
    let rarely = advice(&["--per-day", "0.1"]);
    assert_eq!(
        (&rarely["cheaper"], &rarely["breakEven"]),
        (&json!("ticket"), &often["breakEven"])
    );
    assert!(often["gasPrice"].is_string() && often["channelShare"].is_null());
    let share = advice(&["--price", "0.01"])["channelShare"].as_f64().unwrap();
    assert!(share > 0.0 && share < 0.1, "{share}");
    assert!(
        world
            .error(2, &["channel", "advise", "--per-day", "0"])
            .contains("above 0")
    );
    // Without a node there is no price of gas, and all the rest.
    let offline = advice(&["--rpc-url", "http://127.0.0.1:1"]);
    assert_eq!(
        (&offline["gasPrice"], offline["breakEven"].is_u64()),
        (&Value::Null, true)
    );
}

#[test]
fn tickets_and_channels_side_by_side() {
    let mut market = Market::open("10");
    market.world.open_escrow("1", 1_000);
    let address = market.gateway.address();
    eventually("the escrow is known", || {
        run(market.world.get(address, "/known", &["--pay-with", "ticket"])).code == 0
    });
    let get = |path: &str, way: &str| {
        run(market
            .world
            .get(address, path, &["--pay-with", way, "-o", "/dev/null"]))
        .json()["paid"]["kind"]
            .clone()
    };
    assert_eq!(get("/a", "auto"), "channel", "an open channel comes first");
    assert_eq!(get("/b", "ticket"), "ticket");
    assert_eq!(get("/c", "channel"), "channel");
    // A channel that is used up leaves tickets.
    for call in 0..7 {
        assert_eq!(get(&format!("/d/{call}"), "auto"), "channel");
    }
    assert_eq!(get("/e", "auto"), "ticket");
    let said = run(market.world.pay(&market.channel, address, "/f", &[]));
    assert_eq!(said.code, 3, "{said:?}");
}
