//! A chain, a home folder with keys, and the program as a child process.

pub(crate) mod node;
pub(crate) mod recorder;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, keccak256};
use chain::anvil::{Anvil, AnvilOptions};
use chain::{ChainClient, ChainConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use protocol::ticket::EscrowKey;
use serde_json::Value;
use storage::{SqliteStore, StoreIdentity};
use tempfile::TempDir;
use url::Url;

pub(crate) const PASSWORD: &str = "correct horse";
/// Names of the keys in a [`World`]'s home: development accounts 0, 1, 2 …, and the escrow key.
pub(crate) const ACCOUNTS: [&str; 6] = ["payer", "shop", "operator", "shop2", "shop3", "shop4"];
pub(crate) const PAYER: &str = ACCOUNTS[0];
pub(crate) const SHOP: &str = ACCOUNTS[1];
pub(crate) const OPERATOR: &str = ACCOUNTS[2];
pub(crate) const ESCROW: &str = "escrow";

/// The program, away from everything that the machine's user has configured.
pub(crate) fn micropay(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_micropay"));
    command.env_clear();
    for kept in ["PATH", "MICROPAY_ANVIL"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.env("HOME", home).env("MICROPAY_HOME", home.join("micropay")).env("MICROPAY_PASSWORD", PASSWORD);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// The one JSON value on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The one JSON error on standard error, with this code; nothing on standard output.
    #[track_caller]
    pub(crate) fn json_error(&self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        let error: Value = serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(error["code"], code, "{self:?}");
        error["error"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn run(mut command: Command) -> Said {
    command.output().unwrap().into()
}

pub(crate) fn run_with_input(mut command: Command, input: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

/// Runs futures of a test that is not asynchronous itself.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The escrow key of every world, known so that tests can sign with it, too.
pub(crate) fn escrow_key() -> EscrowKey {
    EscrowKey::from_bytes(&keccak256("the escrow of the tests").0).unwrap()
}

/// A chain with the contract, and a home with keys.
pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) home: TempDir,
}

impl World {
    /// With a block per transaction.
    pub(crate) fn new() -> Self {
        Self::with(&AnvilOptions::default())
    }

    /// With a block every second, so that blocks become final by themselves.
    pub(crate) fn ticking() -> Self {
        Self::with(&AnvilOptions { block_time: Some(1), ..AnvilOptions::default() })
    }

    fn with(options: &AnvilOptions) -> Self {
        let world = Self { anvil: Anvil::spawn(options).unwrap(), home: TempDir::new().unwrap() };
        for (index, name) in ACCOUNTS.iter().enumerate() {
            world.import(name, &Anvil::key(index).to_bytes().to_string());
        }
        world.import(ESCROW, &alloy::hex::encode(*escrow_key().to_bytes()));
        world.json(&["deploy", "--from", PAYER]);
        world
    }

    fn import(&self, name: &str, secret: &str) {
        let mut command = self.micropay();
        command.args(["keys", "import", name]);
        assert_eq!(run_with_input(command, secret).code, 0);
    }

    pub(crate) fn micropay(&self) -> Command {
        let mut command = micropay(self.home.path());
        command.env("MICROPAY_RPC_URL", self.anvil.url().as_str()).env("MICROPAY_FINALITY", "1");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let mut command = self.micropay();
        command.args(args);
        run(command)
    }

    /// The answer of a command that succeeds.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.run(&[&["--json"], args].concat()).json()
    }

    /// The error of a command that fails with this code.
    #[track_caller]
    pub(crate) fn error(&self, code: i32, args: &[&str]) -> String {
        self.run(&[&["--json"], args].concat()).json_error(code)
    }

    /// Opens the escrow: prize 0.001, every second ticket may win.
    pub(crate) fn open_escrow(&self, balance: &str, tickets: u32) {
        let tickets = tickets.to_string();
        self.json(&[
            "escrow", "open", ESCROW, "--from", PAYER, "--prize", "0.001", "--balance", balance, "--tickets", &tickets,
            "--rate", "1/2",
        ]);
    }

    pub(crate) fn account(&self, index: usize) -> Address {
        Anvil::key(index).address()
    }

    pub(crate) fn shop(&self) -> Address {
        self.account(1)
    }

    pub(crate) fn client(&self) -> ChainClient {
        block_on(ChainClient::connect(self.anvil.url(), ChainConfig::new(self.anvil.chain_id()))).unwrap()
    }

    /// A file to sell.
    pub(crate) fn goods(&self, bytes: usize) -> (PathBuf, Vec<u8>) {
        let path = self.home.path().join("goods.bin");
        let mut content = Vec::with_capacity(bytes + 32);
        while content.len() < bytes {
            content.extend_from_slice(keccak256((content.len() as u64).to_be_bytes()).as_slice());
        }
        content.truncate(bytes);
        std::fs::write(&path, &content).unwrap();
        (path, content)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn stores(&self) -> PathBuf {
        let domain = self.client().domain();
        self.home.path().join(format!("micropay/stores/{}-{:x}", domain.chain_id(), domain.contract()))
    }

    pub(crate) async fn payer_store(&self) -> SqliteStore {
        let (folder, domain) = (self.stores_async(), self.domain());
        SqliteStore::open(folder.join("payer.sqlite"), StoreIdentity::payer(domain)).await.unwrap()
    }

    pub(crate) async fn merchant_store(&self) -> SqliteStore {
        let (folder, domain, shop) = (self.stores_async(), self.domain(), self.shop());
        let file = folder.join(format!("merchant-{shop:x}.sqlite"));
        SqliteStore::open(file, StoreIdentity::merchant(domain, shop)).await.unwrap()
    }
}
