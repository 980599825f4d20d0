//! A chain, a home folder with keys, and the program as a child process.

pub(crate) mod balancer;
pub(crate) mod ledger;
pub(crate) mod maker;
pub(crate) mod node;
pub(crate) mod upstream;
pub(crate) mod wallets;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256, keccak256};
use chain::anvil::{Anvil, AnvilOptions};
use chain::{At, ChainClient, ChainConfig, Tickets};
use gateway::client::{Builder, Client};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use payer::ticket::{Edges, Limits, Payer};
use protocol::ticket::{Domain, EscrowKey, EscrowRecord, Timestamp};
use rand::Rng;
use serde_json::Value;
use storage::{SqliteStore, StoreIdentity};
use tempfile::TempDir;
use upstream::Upstream;

pub(crate) const PASSWORD: &str = "correct horse";
/// Names of the keys in a [`World`]'s home: development accounts 0, 1, 2 …, and the escrow key.
pub(crate) const ACCOUNTS: [&str; 6] = ["payer", "shop", "operator", "shop2", "shop3", "shop4"];
pub(crate) const PAYER: &str = ACCOUNTS[0];
pub(crate) const SHOP: &str = ACCOUNTS[1];
pub(crate) const OPERATOR: &str = ACCOUNTS[2];
/// The account of the bank in tests of channels.
pub(crate) const BANK: &str = ACCOUNTS[5];
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
        block_on(self.connect())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain::new(self.anvil.chain_id(), chain::deploy::address::<Tickets>())
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
        let folder = self.home.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap(); // before the first process did
        SqliteStore::open(folder.join(file), identity).await.unwrap()
    }

    /// A gateway that sells what `upstream` answers, paid to the key `pay_to`, for 0.00025 a request; `args` come last.
    pub(crate) fn serve(&self, upstream: &Upstream, pay_to: &str, args: &[&str]) -> Gateway {
        let mut command = self.micropay();
        command.args(["--json", "-v", "serve", "--upstream", &upstream.url()]);
        for default in [
            ["--price", "0.00025"],
            ["--pay-to", pay_to],
            ["--listen", "127.0.0.1:0"],
            ["--operator-listen", "127.0.0.1:0"],
            ["--poll-ms", "100"],
            ["--claim-batch", "4"],
        ] {
            if !args.contains(&default[0]) {
                command.args(default);
            }
        }
        command.args(args);
        Gateway::start(command)
    }

    /// `micropay get` with the escrow of [`World::open_escrow`].
    pub(crate) fn get(&self, address: SocketAddr, path: &str, args: &[&str]) -> Command {
        let mut command = self.micropay();
        command.args([
            "--json",
            "get",
            &format!("http://{address}{path}"),
            "--escrow",
            ESCROW,
        ]);
        command.args(args);
        command
    }

    /// A bank at work that has admitted payer and shop.
    pub(crate) fn bank(&self) -> Gateway {
        for customer in [PAYER, SHOP] {
            self.json(&["channel", "bank", "admit", customer, "--from", BANK]);
        }
        self.serve_bank("127.0.0.1:0")
    }

    pub(crate) fn serve_bank(&self, listen: &str) -> Gateway {
        let mut command = self.micropay();
        command.args([
            "--json", "-v", "channel", "bank", "serve", "--from", BANK, "--listen", listen,
        ]);
        command.args(["--per-ip", "0", "--permits-per-hour", "0"]);
        Gateway::start(command)
    }

    pub(crate) fn bank_address(&self) -> String {
        self.json(&["keys", "show", BANK])["address"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A gateway that sells by channels of the bank, a unit of 0.00025 a request.
    pub(crate) fn serve_channels(&self, upstream: &Upstream, args: &[&str]) -> Gateway {
        let bank = self.bank_address();
        self.serve(upstream, SHOP, &[&["--bank", &bank], args].concat())
    }

    /// Opens a channel from payer to shop; its id.
    pub(crate) fn open_channel(&self, bank: SocketAddr, length: &str, args: &[&str]) -> String {
        let bank = format!("http://{bank}");
        let open = [
            "channel", "open", "--vendor", SHOP, "--bank", &bank, "--unit", "0.00025",
        ];
        let more = ["--length", length, "--from", PAYER];
        let opened = self.json(&[&open, &more[..], args].concat());
        opened["channel"].as_str().unwrap().to_owned()
    }

    /// `micropay channel pay`.
    pub(crate) fn pay(&self, channel: &str, address: SocketAddr, path: &str, args: &[&str]) -> Command {
        let mut command = self.micropay();
        command.args([
            "--json",
            "channel",
            "pay",
            channel,
            &format!("http://{address}{path}"),
        ]);
        command.args(args);
        command
    }

    /// Waits until a gateway takes words of the channel, which it does once its opening is final. That costs a unit.
    pub(crate) fn wait_until_channel_known(&self, channel: &str, address: SocketAddr) {
        eventually("the channel is known", || {
            run(self.pay(channel, address, "/known", &[])).code == 0
        });
    }

    /// Waits until a gateway takes tickets of the escrow, which it does once the opening is final.
    pub(crate) fn wait_until_known(&self, address: SocketAddr) {
        eventually("the escrow is known", || {
            run(self.get(address, "/known", &[])).code == 0
        });
    }

    /// The client library on the payer's store of this world, for many calls. Beside `micropay get` as another process.
    pub(crate) async fn payer(&self) -> Client {
        self.payer_builder().await.build().unwrap()
    }

    /// The same with more to say about it.
    pub(crate) async fn payer_builder(&self) -> Builder {
        let record = self.escrow_record().await;
        let store = self.payer_store().await;
        let edges = Edges { now, random };
        let limits = Limits::default();
        let key = Arc::new(escrow_key());
        Client::builder(Payer::new(self.domain(), key, record, limits, store, edges))
    }

    /// The escrow of [`World::open_escrow`], as it is on the chain now.
    pub(crate) async fn escrow_record(&self) -> EscrowRecord {
        let client = self.connect().await;
        let record = client.escrow_of(escrow_key().address(), At::Latest).await;
        record.unwrap().unwrap()
    }

    pub(crate) async fn connect(&self) -> ChainClient {
        let config = ChainConfig::new(self.anvil.chain_id());
        ChainClient::connect(self.anvil.url(), config).await.unwrap()
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

/// A process of `micropay serve`. Killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    /// What it printed first.
    pub(crate) hello: Arc<Mutex<Option<Value>>>,
    /// What it logged.
    pub(crate) log: Arc<Mutex<String>>,
}

impl Gateway {
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
        eventually("the gateway listens", || {
            assert!(self.is_running(), "{}", self.log.lock());
            address = self.try_address();
            address.is_some()
        });
        address.unwrap()
    }

    /// What the operator's listener answers.
    pub(crate) fn operator(&mut self, path: &str) -> String {
        self.address();
        let hello = self.hello.lock().clone().unwrap();
        let url = format!("http://{}{path}", hello["operator"].as_str().unwrap());
        block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() })
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it as a service manager does. Its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    #[track_caller]
    pub(crate) fn assert_logged(&self, text: &str) {
        eventually(text, || self.log.lock().contains(text));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that is free now, and that the system gives to nobody by itself: for gateways that come back.
pub(crate) fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut some = std::iter::repeat_with(|| rand::thread_rng().gen_range(10_000..30_000));
    some.find(free).unwrap()
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn random() -> B256 {
    B256::from(rand::random::<[u8; 32]>())
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
