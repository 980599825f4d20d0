//! A chain, a home folder with keys, and the program as a child process.

pub(crate) mod node;
pub(crate) mod recorder;

use std::io::{BufRead, BufReader, Write};
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
use protocol::ticket::{Domain, EscrowKey};
use serde_json::Value;
use storage::{SqliteStore, StoreIdentity};
use tempfile::TempDir;

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
    command
        .env("HOME", home)
        .env("MICROPAY_HOME", home.join("micropay"))
        .env("MICROPAY_PASSWORD", PASSWORD);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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

    /// The JSON error that ends standard error, with this code; nothing on standard output.
    #[track_caller]
    pub(crate) fn json_error(&self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        // Before it there may be warnings, a JSON value a line.
        let last = self.err.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"));
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
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
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
        Self::with(&AnvilOptions {
            block_time: Some(1),
            ..AnvilOptions::default()
        })
    }

    fn with(options: &AnvilOptions) -> Self {
        let world = Self {
            anvil: Anvil::spawn(options).unwrap(),
            home: TempDir::new().unwrap(),
        };
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
        command
            .env("MICROPAY_RPC_URL", self.anvil.url().as_str())
            .env("MICROPAY_FINALITY", "1");
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
            "escrow",
            "open",
            ESCROW,
            "--from",
            PAYER,
            "--prize",
            "0.001",
            "--balance",
            balance,
            "--tickets",
            &tickets,
            "--rate",
            "1/2",
        ]);
    }

    pub(crate) fn account(&self, index: usize) -> Address {
        Anvil::key(index).address()
    }

    pub(crate) fn shop(&self) -> Address {
        self.account(1)
    }

    pub(crate) fn client(&self) -> ChainClient {
        block_on(ChainClient::connect(
            self.anvil.url(),
            ChainConfig::new(self.anvil.chain_id()),
        ))
        .unwrap()
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

    pub(crate) fn domain(&self) -> Domain {
        Domain::new(self.anvil.chain_id(), chain::deploy::address())
    }

    pub(crate) async fn payer_store(&self) -> SqliteStore {
        self.store("payer.sqlite", StoreIdentity::payer(self.domain()))
            .await
    }

    /// Of the merchant [`SHOP`].
    pub(crate) async fn merchant_store(&self) -> SqliteStore {
        let identity = StoreIdentity::merchant(self.domain(), self.shop());
        self.store(&format!("merchant-{:x}.sqlite", self.shop()), identity)
            .await
    }

    async fn store(&self, file: &str, identity: StoreIdentity) -> SqliteStore {
        let domain = self.domain();
        let folder = format!("micropay/stores/{}-{:x}", domain.chain_id(), domain.contract());
        SqliteStore::open(self.home.path().join(folder).join(file), identity)
            .await
            .unwrap()
    }

    /// A merchant that sells `goods`; `args` come last.
    pub(crate) fn merchant(&self, from: &str, goods: &Path, args: &[&str]) -> Merchant {
        let mut command = self.micropay();
        command
            .args(["--json", "-v", "merchant", "run", "--from", from, "--file"])
            .arg(goods);
        command.args(["--price", "0.00025", "--poll-ms", "100"]);
        for default in [["--listen", "127.0.0.1:0"], ["--claim-batch", "4"]] {
            if !args.contains(&default[0]) {
                command.args(default);
            }
        }
        command.args(args);
        Merchant::start(command)
    }

    /// Buys from `address` to a new file `name`, which also names the purchase.
    pub(crate) fn pay(&self, address: SocketAddr, name: &str) -> Command {
        let mut command = self.micropay();
        command.args([
            "--json",
            "pay",
            &address.to_string(),
            "--escrow",
            ESCROW,
            "--purchase",
            name,
            "--out",
        ]);
        command.arg(self.path(name));
        command
    }

    /// Waits until no winner of [`SHOP`] waits for its money, and gives the last `claim list`.
    pub(crate) fn wait_until_claimed(&self, shop: &str) -> Value {
        let mut list = Value::Null;
        eventually("all winners are final", || {
            list = self.json(&["claim", "list", shop]);
            ["won", "queued", "sent", "mined"]
                .iter()
                .all(|stage| list["wins"][stage] == 0)
        });
        list
    }
}

/// A merchant's process. Killed when dropped.
pub(crate) struct Merchant {
    child: Child,
    /// What it printed first.
    pub(crate) hello: Arc<Mutex<Option<Value>>>,
    /// What it logged.
    pub(crate) log: Arc<Mutex<String>>,
}

impl Merchant {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (hello, log) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(String::new())));
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn({
            let hello = Arc::clone(&hello);
            // Killed in the middle of its line it has said nothing.
            move || {
                out.lines().map_while(Result::ok).for_each(|line| {
                    *hello.lock() = serde_json::from_str(&line).ok();
                });
            }
        });
        let err = BufReader::new(child.stderr.take().unwrap());
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                err.lines().map_while(Result::ok).for_each(|line| {
                    let mut log = log.lock();
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        Self { child, hello, log }
    }

    /// Where it listens, once it does.
    pub(crate) fn try_address(&self) -> Option<SocketAddr> {
        Some(
            self.hello.lock().as_ref()?["listening"]
                .as_str()?
                .parse()
                .unwrap(),
        )
    }

    pub(crate) fn address(&mut self) -> SocketAddr {
        let mut address = None;
        eventually("the merchant listens", || {
            assert!(self.is_running(), "{}", self.log.lock());
            address = self.try_address();
            address.is_some()
        });
        address.unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as a service manager does. Its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        kill(
            Pid::from_raw(self.child.id().try_into().unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        self.child.wait().unwrap().code()
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    #[track_caller]
    pub(crate) fn assert_logged(&self, text: &str) {
        eventually(text, || self.log.lock().contains(text));
    }
}

impl Drop for Merchant {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for what must come true soon.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
