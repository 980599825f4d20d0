//! A deposit on a chain that changes its mind, behind a node that lies, and beside coins that nobody asked for.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use alloy::primitives::{Address, U256};
use alloy::sol_types::SolCall;
use bindings::offline::OfflineVault;
use chain::anvil::Anvil;
use chain::{ChainConfig, Client, Sender, Vaults};
use serde_json::Value;

use crate::support::node::{Node, Weather};
use crate::support::wallets::{Market, Purse, arg, serve};
use crate::support::{block_on, eventually, run};

const ETHER: u128 = 1_000_000_000_000_000_000;

/// The registrar again, with other words.
fn again(market: &mut Market, words: &[&str]) {
    let listen = market.registrar.address().to_string();
    market.registrar.kill();
    market.registrar = serve(&market.world, &listen, words);
    market.registrar.address();
}

fn coins(market: &Market, purse: &Purse) -> Vec<Value> {
    let coins = market.json(purse, &["wallet", "import"]);
    coins.as_array().unwrap().clone()
}

#[test]
fn a_reorg_takes_no_deposit_and_makes_none_twice() {
    let mut market = Market::new();
    let (ada, bob) = (market.purse("ada", 0), market.purse("bob", 1));
    block_on(market.world.anvil.mine(12)).unwrap();
    again(&mut market, &["--finality", "10"]);
    let file = market.alone.path("gift.json");
    let own = ["deposit", "--amount", "0.5", "--from", "payer", "--wait", "0s"];
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
        "0.25",
        "--from",
        "operator",
        "--wait",
        "0s",
    ];
    // In the other order after the reorg: each gets the other's deposit nonce.
    market.error(&ada, 4, &own);
    market.world.error(4, &gift);
    let made = ada.folder.join("deposit.json");
    let files = || [fs::read_to_string(&made), fs::read_to_string(&file)].map(Result::unwrap);
    let before = files();
    block_on(market.world.anvil.reorg(8)).unwrap();
    market.world.error(4, &gift);
    market.error(&ada, 4, &own);
    for (before, after) in before.iter().zip(files()) {
        assert_ne!(*before, after, "it is another coin now");
    }
    block_on(market.world.anvil.mine(12)).unwrap();
    market.json(&ada, &[&own[..6], &["1m"]].concat());
    // Whoever repairs by hand does not pay twice.
    fs::remove_file(&file).unwrap();
    market.world.json(&[&gift[..13], &["1m"]].concat());
    market.world.json(&[&gift[..13], &["1m"]].concat());
    market.alone.step(&bob, &["wallet", "import", "--in", &file], "");
    assert_eq!(
        [&ada, &bob].map(|purse| (coins(&market, purse).len(), market.held(purse))),
        [(1, ETHER / 2), (1, ETHER / 4)]
    );
    assert!(!made.exists() && !ada.folder.join("deposit.sent").exists());
    assert!(!fs::exists(format!("{file}.sent")).unwrap());
}

#[test]
fn attack_a_node_that_denies_what_it_took_makes_no_second_deposit() {
    let market = Market::new();
    let bob = market.purse("bob", 1);
    let node = Node::in_front_of(&market.world.anvil.url());
    node.turn(Weather::Denying);
    let file = market.alone.path("gift.json");
    let gift = [
        "--json",
        "offline",
        "deposit",
        "--to",
        &bob.id,
        "--registrar",
        &market.url,
        "--out",
        &file,
        "--amount",
        "0.25",
        "--from",
        "payer",
    ];
    let deposit = || {
        let mut command = market.world.micropay();
        command.args(gift).env("MICROPAY_RPC_URL", node.url.as_str());
        run(command)
    };
    assert_ne!(deposit().code, 0);
    deposit().json();
    assert_eq!(coins(&market, &bob).len(), 1);
}

#[test]
fn attack_a_coin_that_nobody_asked_for_keeps_no_other_out() {
    let mut market = Market::new();
    let ada = market.purse("ada", 0);
    let policy = market.world.home.path().join("micropay/registrar.toml");
    let cap = format!(
        "caps = [{{ asset = \"{:?}\", coin = \"1000\", wallet = \"2000\" }}]\n",
        Address::ZERO
    );
    fs::write(&policy, fs::read_to_string(&policy).unwrap() + &cap).unwrap();
    again(&mut market, &[]);
    let gift = |amount: u128| {
        block_on(async {
            let config = ChainConfig::new(market.world.anvil.chain_id());
            let client = Client::<Vaults>::connect(market.world.anvil.url(), config)
                .await
                .unwrap();
            let (vault, sender) = (client.contract(), Sender::new(client, Anvil::key(5)));
            let now = sender.client().head().await.unwrap().timestamp;
            let call = OfflineVault::depositCall {
                wallet: ada.id.parse().unwrap(),
                asset: Address::ZERO,
                amount,
                settleBy: now.0 + 86_400,
            };
            let (data, value) = (call.abi_encode().into(), U256::from(amount));
            sender.send(vault, data, value).await.unwrap();
        });
    };
    gift(1_001);
    // Alone it is said to be refused, once it is final.
    eventually("refused", || {
        let said = market.run(&ada, &["wallet", "import"]);
        said.code == 3 && said.json_error(3).contains("1001")
    });
    gift(900);
    eventually("imported", || market.run(&ada, &["wallet", "import"]).code == 0);
    let found = coins(&market, &ada);
    let refused: Vec<_> = found.iter().filter(|coin| coin["refused"].is_string()).collect();
    assert_eq!((found.len(), refused.len()), (2, 1), "{found:?}");
    assert!(
        refused[0]["refused"].as_str().unwrap().contains("1000"),
        "{refused:?}"
    );
    assert_eq!(market.held(&ada), 900);
    assert!(arg(&ada.folder).ends_with("ada"));
}

/// A service that answers everything like this.
fn fake(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            // Whoever has enough leaves.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn attack_a_registrar_that_writes_to_the_terminal_redirects_or_never_ends() {
    let market = Market::new();
    let http = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let problem =
        r#"{"type":"x","title":"x","status":403,"detail":"no \u001b[2J\u001b[H","rule":"x","retry":false}"#;
    let moved = format!("302 Found\r\nlocation: {}/v1/registrar", market.url);
    for (answer, says) in [
        (http("403 Forbidden", problem), "no \\u{1b}[2J\\u{1b}[H"),
        (http(&moved, ""), "302"),
        (http("200 OK", &" ".repeat(6 << 20)), "5242880"),
    ] {
        let url = fake(answer);
        let mut command = market.world.micropay();
        command.args(["offline", "wallet", "new", "--software", "--registrar", &url]);
        command.args(["--wallet", &market.alone.path("new")]);
        let said = run(command);
        assert_ne!(said.code, 0, "{said:?}");
        assert!(
            said.err.contains(says) && !said.err.contains('\u{1b}'),
            "{said:?}"
        );
    }
}
