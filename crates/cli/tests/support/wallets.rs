//! A registrar at work, and offline wallets in folders.

use std::path::{Path, PathBuf};
use std::process::Command;

use alloy::primitives::U256;
use serde_json::Value;

use super::{ACCOUNTS, Gateway, Said, World, block_on, run, run_with_input};

/// A world with a registrar that takes software keys.
pub(crate) struct Market {
    pub(crate) world: World,
    pub(crate) registrar: Gateway,
    /// Where it answers.
    pub(crate) url: String,
    /// The wallets without both.
    pub(crate) alone: Alone,
}

/// A wallet in a folder of the world's home.
#[derive(Clone, Debug)]
pub(crate) struct Purse {
    pub(crate) folder: PathBuf,
    /// Name of the owner's key.
    pub(crate) owner: &'static str,
    pub(crate) id: String,
}

impl Market {
    pub(crate) fn new() -> Self {
        let world = World::ticking();
        let made = world.json(&["offline", "registrar", "init", "--dev"]);
        // It pays for its revocations.
        let account = made["registrar"].as_str().unwrap().parse().unwrap();
        block_on(
            world
                .anvil
                .set_balance(account, U256::from(10).pow(U256::from(18))),
        )
        .unwrap();
        let mut registrar = serve(&world, "127.0.0.1:0", &[]);
        let url = format!("http://{}", registrar.address());
        let alone = Alone(world.home.path().to_owned());
        Self {
            world,
            registrar,
            url,
            alone,
        }
    }

    /// A wallet in files, not registered.
    pub(crate) fn new_purse(&self, name: &str, owner: usize) -> Purse {
        let folder = self.world.path(name);
        let made = self.world.json(&[
            "offline",
            "wallet",
            "new",
            "--wallet",
            folder.to_str().unwrap(),
            "--software",
            "--registrar",
            &self.url,
        ]);
        Purse {
            folder,
            owner: ACCOUNTS[owner],
            id: made["wallet"].as_str().unwrap().to_owned(),
        }
    }

    /// One that is registered, and takes up to 10 ETH of its own class.
    pub(crate) fn purse(&self, name: &str, owner: usize) -> Purse {
        let purse = self.new_purse(name, owner);
        self.json(&purse, &["register", "--from", purse.owner]);
        self.take(&purse, "10");
        purse
    }

    pub(crate) fn take(&self, purse: &Purse, limit: &str) {
        self.json(purse, &["wallet", "accept", "--limit", limit, "--allow-dev"]);
    }

    /// `micropay --json offline …` about a wallet.
    pub(crate) fn command(&self, purse: &Purse, words: &[&str]) -> Command {
        let mut command = self.world.micropay();
        command
            .args(["--json", "offline"])
            .args(words)
            .env("MICROPAY_WALLET", &purse.folder);
        command
    }

    pub(crate) fn run(&self, purse: &Purse, words: &[&str]) -> Said {
        run(self.command(purse, words))
    }

    #[track_caller]
    pub(crate) fn json(&self, purse: &Purse, words: &[&str]) -> Value {
        self.run(purse, words).json()
    }

    #[track_caller]
    pub(crate) fn error(&self, purse: &Purse, code: i32, words: &[&str]) -> String {
        self.run(purse, words).json_error(code)
    }

    pub(crate) fn deposit(&self, purse: &Purse, amount: &str) -> Value {
        self.json(purse, &["deposit", "--amount", amount, "--from", purse.owner])
    }

    /// A wallet's balance of the native asset.
    pub(crate) fn balance(&self, purse: &Purse) -> Value {
        self.json(purse, &["wallet", "balance"])["assets"][0].clone()
    }

    pub(crate) fn held(&self, purse: &Purse) -> u128 {
        wei(&self.balance(purse)["held"])
    }

    pub(crate) fn credit(&self, account: &str) -> u128 {
        wei(&self.world.json(&["credit", "show", account, "--offline"])["credit"])
    }
}

/// Wallets alone: their folders are all that there is.
#[derive(Clone, Debug)]
pub(crate) struct Alone(pub(crate) PathBuf);

impl Alone {
    /// Without any address where something could answer.
    pub(crate) fn command(&self, purse: &Purse, words: &[&str]) -> Command {
        let mut command = self.shown(purse, words);
        command.arg("--json");
        command
    }

    /// The same as people see it.
    pub(crate) fn shown(&self, purse: &Purse, words: &[&str]) -> Command {
        let mut command = super::micropay(&self.0);
        command
            .arg("offline")
            .args(words)
            .env("MICROPAY_WALLET", &purse.folder)
            .env("MICROPAY_RPC_URL", "http://127.0.0.1:9");
        command
    }

    pub(crate) fn path(&self, name: &str) -> String {
        arg(&self.0.join(name)).to_owned()
    }

    /// The answer of an offline step that is given `input` on standard input.
    #[track_caller]
    pub(crate) fn step(&self, purse: &Purse, words: &[&str], input: &str) -> Value {
        run_with_input(self.command(purse, words), input).json()
    }

    /// Its error.
    #[track_caller]
    pub(crate) fn error(&self, purse: &Purse, code: i32, words: &[&str], input: &str) -> String {
        run_with_input(self.command(purse, words), input).json_error(code)
    }

    /// A whole payment over pipes; the payment's answer.
    #[track_caller]
    pub(crate) fn pay(&self, payer: &Purse, payee: &Purse, amount: &str) -> Value {
        let invoice = self.step(payee, &["invoice", "--amount", amount], "");
        let paid = self.step(payer, &["pay", "--yes"], text(&invoice));
        let taken = self.step(payee, &["accept"], text(&paid));
        assert_eq!(
            (&taken["code"], &taken["transfer"]),
            (&paid["code"], &paid["transfer"])
        );
        self.step(payer, &["accept"], text(&taken));
        paid
    }
}

/// A registrar's process.
pub(crate) fn serve(world: &World, listen: &str, words: &[&str]) -> Gateway {
    let mut command = world.micropay();
    command.args([
        "--json",
        "-v",
        "offline",
        "registrar",
        "serve",
        "--allow-dev",
        "--listen",
        listen,
        "--per-ip",
        "0",
    ]);
    command.args(words);
    Gateway::start(command)
}

/// The message in an answer.
#[track_caller]
pub(crate) fn text(answer: &Value) -> &str {
    answer["message"]
        .as_str()
        .unwrap_or_else(|| panic!("no message: {answer}"))
}

#[track_caller]
pub(crate) fn wei(value: &Value) -> u128 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no amount: {value}"))
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
