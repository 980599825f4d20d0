//! Channels after a loss: a client without its store, a vendor with an old one, a bank and an opening client that are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};

use crate::support::upstream::Upstream;
use crate::support::{BANK, PAYER, SHOP, Said, World, block_on, free_port, run};

/// The files of this world's stores whose names begin so.
fn store_files(world: &World, begins: &str) -> Vec<PathBuf> {
    let stores = world.home.path().join("micropay").join("stores");
    let folders = fs::read_dir(stores).unwrap().map(|entry| entry.unwrap().path());
    let files = folders
        .filter(|path| path.is_dir())
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(begins) && name.contains(".sqlite")
    };
    files.filter(named).collect()
}

fn copy_to(files: &[PathBuf], folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    fs::create_dir_all(folder).unwrap();
    let copy = |file: &PathBuf| {
        let copy = folder.join(file.file_name().unwrap());
        fs::copy(file, &copy).unwrap();
        (copy, file.clone())
    };
    files.iter().map(copy).collect()
}

#[test]
fn a_client_that_lost_its_store_goes_on() {
    let world = World::ticking();
    let upstream = Upstream::start(Duration::ZERO);
    let mut bank = world.bank();
    let mut gateway = world.serve_channels(&upstream, &[]);
    let at = format!("http://{}", gateway.address());
    let id = world.open_channel(bank.address(), "100", &["--at", &at]);
    world.wait_until_channel_known(&id, gateway.address());
    for path in ["/a", "/b"] {
        assert_eq!(run(world.pay(&id, gateway.address(), path, &[])).code, 0);
    }
    let before = world.json(&["channel", "show", &id]);
    assert_eq!(before["acknowledged"], 3);

    // Lost, all of it but the keys.
    for file in store_files(&world, "payer") {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(world.json(&["channel", "list"]), json!([]));
    let wrong = world.error(1, &["channel", "recover", "0xab", "--at", &at, "--from", PAYER]);
    assert!(wrong.contains("0xab"), "{wrong}");
    let recovered = world.json(&["channel", "recover", "--at", &at, "--from", PAYER]);
    assert_eq!(
        recovered["recovered"],
        json!([{ "channel": id, "index": 3, "left": 97 }])
    );
    let again = world.json(&["channel", "recover", "--at", &at, "--from", PAYER]);
    assert_eq!(
        (&again["recovered"], again["leftOut"].as_array().unwrap().len()),
        (&json!([]), 1)
    );

    // It pays on where it was, and ends as any other.
    let said = run(world.pay(&id, gateway.address(), "/c", &[]));
    assert_eq!(said.out, "GET /c ", "{said:?}");
    assert_eq!(world.json(&["channel", "show", &id, "--vendor", SHOP])["paid"], 4);
    let closed = world.json(&["channel", "close", &id, "--from", PAYER, "--at", &at]);
    assert_eq!(closed["index"], 4);
}

#[test]
fn a_vendor_with_an_old_store_gets_back_what_it_lost() {
    let world = World::ticking();
    let upstream = Upstream::start(Duration::ZERO);
    let mut bank = world.bank();
    let listen = format!("127.0.0.1:{}", free_port());
    let serve = || world.serve_channels(&upstream, &["--listen", &listen]);
    let mut gateway = serve();
    let address = gateway.address();
    let id = world.open_channel(bank.address(), "100", &["--at", &format!("http://{address}")]);
    world.wait_until_channel_known(&id, address);
    let buy = |path: &str| {
        let said = run(world.pay(&id, address, path, &[]));
        assert_eq!(said.out, format!("GET {path} "), "{said:?}");
    };
    buy("/a");
    assert_eq!(gateway.stop(), Some(0));
    let backup = copy_to(&store_files(&world, "merchant"), &world.path("backup"));

    let mut gateway = serve();
    gateway.address();
    for path in ["/b", "/c", "/d"] {
        buy(path);
    }
    assert_eq!(gateway.stop(), Some(0));
    for file in store_files(&world, "merchant") {
        fs::remove_file(file).unwrap();
    }
    for (copy, file) in &backup {
        fs::copy(copy, file).unwrap();
    }
    let paid = || world.json(&["channel", "show", &id, "--vendor", SHOP])["paid"].clone();
    assert_eq!(paid(), 2, "the copy is old");

    let mut gateway = serve();
    gateway.address();
    buy("/e");
    assert_eq!(paid(), 6, "the client sent again what was lost");
    assert_eq!(upstream.asked("/b"), 1, "and nothing was delivered twice");
    let opened = world.json(&["channel", "open-receipts", &id]);
    assert_eq!(
        (&opened["opened"], &opened["endsInSigma0"]),
        (&json!(6), &json!(true))
    );
    assert_eq!(gateway.stop(), Some(0));
    let closed = world.json(&["channel", "close", &id, "--from", SHOP]);
    assert_eq!(closed["index"], 6);
}

#[test]
fn an_opening_that_is_killed_is_one_opening() {
    let world = World::ticking();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let mut bank = world.bank();
    bank.kill();
    let url = format!("http://{listen}");
    let open = || {
        let mut command = world.micropay();
        let open = [
            "--json", "channel", "open", "--vendor", SHOP, "--bank", &url, "--unit", "0.00025",
        ];
        command.args(open).args(["--length", "64", "--from", PAYER]);
        command
    };
    // Away, there, and gone in the middle of it.
    assert!(run(open()).json_error(4).contains("bank"));
    let mut random = rand::thread_rng();
    let mut kills = 0;
    let said: Said = loop {
        let mut bank = world.serve_bank(&listen);
        bank.address();
        let mut child = open().spawn().unwrap();
        let client_first = random.gen_bool(0.7);
        thread::sleep(Duration::from_millis(random.gen_range(0..1_500)));
        if kills < 12 {
            kills += 1;
            if client_first {
                child.kill().unwrap();
            }
            bank.kill();
            child.wait().unwrap();
            continue;
        }
        break child.wait_with_output().unwrap().into();
    };
    let opened = said.json();
    let mut bank = world.serve_bank(&listen);
    bank.address();
    let listed = world.json(&["channel", "list"]);
    let on_chain = |channel: &Value| {
        let id = channel["channel"].as_str().unwrap();
        world.json(&["channel", "show", id])["chain"]["status"] == "open"
    };
    let open: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|channel| on_chain(channel))
        .collect();
    assert_eq!(open.len(), 1, "{listed}");
    assert_eq!(open[0]["channel"], opened["channel"]);
    // One deposit, whatever was begun.
    let client = world.client();
    let held = block_on(async {
        use alloy::providers::Provider;
        let contract = chain::deploy::address::<chain::Channels>();
        client.provider().get_balance(contract).await.unwrap()
    });
    assert_eq!(held.to::<u128>(), 64 * 250_000_000_000_000);
    // And one permit a channel.
    let permits = world.json(&["channel", "bank", "permits", BANK, "--limit", "100"]);
    let mut ids: Vec<_> = permits
        .as_array()
        .unwrap()
        .iter()
        .map(|permit| permit["channel"].to_string())
        .collect();
    let signed = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), signed, "{permits}");
}
