//! `micropay doctor`: says what is well, and of each thing that is not what to do.

use std::fs;

use serde_json::Value;

use crate::support::{PAYER, SHOP, World, run};

fn checks(world: &World, args: &[&str]) -> (i32, Value) {
    let mut command = world.micropay();
    command.args(["--json", "doctor"]).args(args);
    let said = run(command);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer["healthy"], said.code == 0, "{said:?}");
    (said.code, answer["checks"].clone())
}

#[track_caller]
fn fails(world: &World, args: &[&str], name: &str, word: &str) {
    let (code, checks) = checks(world, args);
    assert_eq!(code, 1);
    let bad: Vec<_> = checks
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .collect();
    assert_eq!(bad.len(), 1, "{checks}");
    assert_eq!(bad[0]["name"], name, "{checks}");
    assert!(bad[0]["text"].as_str().unwrap().contains(word), "{checks}");
}

#[test]
fn each_illness_is_found() {
    let world = World::new();
    let (code, all) = checks(&world, &["--key", PAYER, "--merchant", SHOP]);
    assert_eq!(code, 0, "{all}");
    let names: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "chain",
            "contract",
            "channels",
            "clock",
            "payer store",
            "merchant store",
            "finality",
            "keys"
        ]
    );

    fails(&world, &["--rpc-url", "http://127.0.0.1:1"], "chain", "--rpc-url");
    fails(&world, &["--chain-id", "1"], "chain", "31337");
    let shop = world.shop().to_string();
    fails(&world, &["--contract", &shop], "contract", "micropay deploy");
    fails(&world, &["--finality", "soon"], "finality", "soon");
    fails(&world, &["--key", "nobody"], "keys", "nobody");
    fails(&world, &["--merchant", "nobody"], "merchant store", "nobody");
    let mut command = world.micropay();
    command
        .args(["--json", "doctor", "--key", PAYER])
        .env("MICROPAY_PASSWORD", "wrong");
    let said = run(command);
    assert!(said.code == 1 && said.out.contains("wrong password"), "{said:?}");

    // A store that is none.
    let store = world.home.path().join("micropay/stores");
    let folder = fs::read_dir(&store).unwrap().next().unwrap().unwrap().path();
    for file in fs::read_dir(&folder).unwrap() {
        let file = file.unwrap().path();
        if file
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("payer.sqlite")
        {
            fs::remove_file(file).unwrap();
        }
    }
    fs::write(
        folder.join("payer.sqlite"),
        "this is no database, however long it goes on",
    )
    .unwrap();
    fails(&world, &[], "payer store", "payer.sqlite");
    fs::remove_file(folder.join("payer.sqlite")).unwrap();

    // A node that lives in another time.
    crate::support::block_on(world.anvil.increase_time(3_660)).unwrap();
    fails(&world, &[], "clock", "1 h");

    let said = world.run(&["doctor"]);
    assert!(said.code == 1 && said.out.contains("FAIL  clock"), "{said:?}");
}
