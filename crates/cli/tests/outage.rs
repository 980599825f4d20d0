//! The merchant's node on bad days: it sells while what it knows of the chain is fresh enough and no payer owes it more than
//! it may, then refuses with the rule's name, claims nothing meanwhile, says so in its log, and goes on by itself when the
//! node is back.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use gateway::client::ClientError;
use payer::ticket::PayError;

use crate::support::node::{Node, Weather};
use crate::support::upstream::Upstream;
use crate::support::{ACCOUNTS, Gateway, World, block_on, eventually, run};

/// What the merchant knows may be so old. Instead of the ten minutes that an operator might say, so that the test waits for
/// seconds; the rule compares two numbers.
const FRESH: Duration = Duration::from_secs(20);
/// Most unclaimed wins of the payer.
const EXPOSURE: u64 = 5;

#[test]
fn a_gateway_outlives_its_node() {
    let world = World::ticking();
    world.open_escrow("20", 20_000);
    let upstream = Upstream::start(Duration::ZERO);
    let (world, upstream) = (&world, &upstream);
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
            scope.spawn(move || outage(world, upstream, weather, ACCOUNTS[shop]));
        }
    });
}

fn outage(world: &World, upstream: &Upstream, weather: Weather, shop: &str) {
    let node = Node::in_front_of(&world.anvil.url());
    let mut command = world.micropay();
    command
        .env("MICROPAY_RPC_URL", node.url.as_str())
        .env("MICROPAY_REQUEST_TIMEOUT_SECS", "1");
    command.args([
        "--json",
        "-v",
        "serve",
        "--upstream",
        &upstream.url(),
        "--pay-to",
        shop,
    ]);
    command.args(["--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0"]);
    command.args(["--price", "0.00025", "--poll-ms", "100", "--claim-batch", "1"]);
    command.args(["--max-mirror-age", &format!("{}s", FRESH.as_secs())]);
    command.args(["--exposure", &EXPOSURE.to_string()]);
    let mut gateway = Gateway::start(command);
    let address = gateway.address();
    let wins = |stages: &[&str]| -> u64 {
        let list = world.json(&["claim", "list", shop]);
        stages
            .iter()
            .map(|stage| list["wins"][*stage].as_u64().unwrap())
            .sum()
    };
    let unclaimed = || wins(&["won", "queued", "sent", "mined"]);
    world.wait_until_known(address);
    eventually("the first call is claimed if it won", || unclaimed() == 0);

    // Within the age it sells, until the payer's unclaimed wins are as many as they may be. None can be claimed.
    node.turn(weather);
    let down = Instant::now();
    let (sold, rule) = block_on(sell_until_refused(world, address));
    assert_eq!(rule, "exposure-too-high", "{weather:?}, after {sold} calls");
    assert!(sold >= EXPOSURE, "{weather:?}: {sold} calls");
    assert!(
        down.elapsed() < FRESH,
        "{weather:?}: the machine is too slow for this test"
    );
    assert_eq!(unclaimed(), EXPOSURE, "{weather:?}");
    gateway.assert_logged("cannot read the chain; claims wait");

    // Beyond the age it sells nothing, whatever the exposure.
    thread::sleep((FRESH + Duration::from_secs(2)).saturating_sub(down.elapsed())); // ages are whole seconds
    let stale = || {
        run(world.get(
            address,
            &format!("/{shop}/stale"),
            &["--idempotency-key", &format!("{shop} stale")],
        ))
    };
    let error = stale().json_error(4);
    assert!(error.contains("mirror-stale"), "{weather:?}: {error}");
    assert_eq!(unclaimed(), EXPOSURE, "{weather:?}: claims wait");
    assert!(gateway.is_running(), "{weather:?}: {}", gateway.log.lock());

    // The very call that was refused is sold when the node is back.
    node.turn(Weather::Fine);
    eventually("it sells again", || stale().code == 0);
    gateway.assert_logged("the node answers again");
    let list = world.wait_until_claimed(shop);
    let wins = list["wins"]["final"].as_u64().unwrap();
    assert!(wins >= EXPOSURE, "{weather:?}: {list}");
    assert_eq!(
        world.json(&["credit", "show", shop])["credit"],
        (wins * 1_000_000_000_000_000).to_string()
    );
    assert!(!gateway.log.lock().contains("panicked"));
    assert_eq!(gateway.stop(), Some(0));
}

/// Calls that were answered before the first that was not, and the rule of that one.
async fn sell_until_refused(world: &World, address: SocketAddr) -> (u64, String) {
    let client = world.payer().await;
    for sold in 0.. {
        match client.get(format!("http://{address}/fresh/{sold}")).send().await {
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(error) => match ClientError::of(&error) {
                Some(ClientError::Pay {
                    cause: PayError::NotNow { rule, .. } | PayError::Refused { rule, .. },
                    ..
                }) => return (sold, rule.clone()),
                _ => panic!("{error:?}"),
            },
        }
    }
    unreachable!("the loop has no end")
}
