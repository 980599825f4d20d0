//! The merchant's node on bad days: it sells while what it knows of the chain is fresh enough, then refuses with the rule's
//! name, claims nothing meanwhile, says so in its log, and goes on by itself when the node is back.

use std::thread;
use std::time::Duration;

use crate::support::node::{Node, Weather};
use crate::support::{ACCOUNTS, World, eventually, run};

/// What the merchant knows may be so old.
const FRESH: Duration = Duration::from_secs(5);

#[test]
fn a_merchant_outlives_its_node() {
    let world = World::ticking();
    world.open_escrow("20", 20_000);
    let (goods, _) = world.goods(24 * 1024);
    let world = &world;
    thread::scope(|scope| {
        // Each kind of trouble has its merchant.
        for (weather, shop) in [
            Weather::Refusing,
            Weather::Hanging,
            Weather::Html,
            Weather::WrongChain,
        ]
        .into_iter()
        .zip([1, 3, 4, 5])
        {
            let goods = &goods;
            scope.spawn(move || outage(world, weather, ACCOUNTS[shop], goods));
        }
    });
}

fn outage(world: &World, weather: Weather, shop: &str, goods: &std::path::Path) {
    let node = Node::in_front_of(&world.anvil.url());
    let mut command = world.micropay();
    command
        .env("MICROPAY_RPC_URL", node.url.as_str())
        .env("MICROPAY_REQUEST_TIMEOUT_SECS", "1");
    command.args([
        "--json",
        "-v",
        "merchant",
        "run",
        "--from",
        shop,
        "--listen",
        "127.0.0.1:0",
    ]);
    command
        .arg("--file")
        .arg(goods)
        .args(["--price", "0.00025", "--poll-ms", "100", "--claim-batch", "1"]);
    command.args(["--max-mirror-age", &format!("{}s", FRESH.as_secs())]);
    let mut merchant = crate::support::Merchant::start(command);
    let address = merchant.address();
    let pay = |name: &str| run(world.pay(address, &format!("{shop}-{name}")));
    let finals = || {
        world.json(&["claim", "list", shop])["wins"]["final"]
            .as_u64()
            .unwrap()
    };
    eventually("the escrow is final", || pay("before").code == 0);

    node.turn(weather);
    assert_eq!(
        pay("fresh").json()["sha256_ok"],
        true,
        "{weather:?}: what it knows is fresh"
    );
    merchant.assert_logged("cannot read the chain; claims wait");
    thread::sleep(FRESH + Duration::from_secs(1)); // ages are whole seconds
    let claimed = finals();
    let error = pay("stale").json_error(4);
    assert!(error.contains("mirror-stale"), "{weather:?}: {error}");
    assert_eq!(finals(), claimed, "{weather:?}: claims wait");
    assert!(merchant.is_running(), "{weather:?}: {}", merchant.log.lock());

    node.turn(Weather::Fine);
    eventually("it sells again", || pay("stale").code == 0);
    merchant.assert_logged("the node answers again");
    let list = world.wait_until_claimed(shop);
    let wins = list["wins"]["final"].as_u64().unwrap();
    assert!(wins > claimed, "{weather:?}: {list}");
    assert_eq!(
        world.json(&["credit", "show", shop])["credit"],
        (wins * 1_000_000_000_000_000).to_string()
    );
    assert!(!merchant.log.lock().contains("panicked"));
    assert_eq!(merchant.stop(), Some(0));
}
