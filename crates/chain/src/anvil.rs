//! A local chain for tests and the demo: the real anvil, on a free port, killed when dropped. With the helpers that only
//! a local chain has: mine, move time, reorganise.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, io, thread};

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::signers::local::PrivateKeySigner;
use serde_json::{Value, json};
use url::Url;

/// Anvil's chain id unless told otherwise.
pub const DEFAULT_CHAIN_ID: u64 = 31337;

/// Longest wait for anvil to say that it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The keys of anvil's well-known development accounts (mnemonic "test test … junk"). Never send real money to them.
const DEV_KEYS: [&str; 10] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
];

/// Why there is no local chain.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// No executable in any of the usual places.
    #[error("anvil was not found: set MICROPAY_ANVIL, or run `npm ci` at the root of the repository")]
    NotFound,
    /// The executable does not start.
    #[error("{} does not start: {source}", path.display())]
    Start {
        /// The executable.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anvil ended or kept silent instead of listening.
    #[error("anvil did not listen within {} s; it said: {output:?}", waited.as_secs())]
    Silent {
        /// Longest wait.
        waited: Duration,
        /// What it wrote.
        output: String,
    },
    /// Anvil refused one of the local-chain methods.
    #[error("{method}: {message}")]
    Method {
        /// The method.
        method: &'static str,
        /// Anvil's words.
        message: String,
    },
}

/// How to start anvil.
#[derive(Clone, Debug)]
pub struct AnvilOptions {
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Seconds between blocks; `None` mines a block per transaction.
    pub block_time: Option<u64>,
    /// The chain id.
    pub chain_id: u64,
    /// Unix time of the genesis block in seconds; `None` is now.
    pub timestamp: Option<u64>,
    /// More command-line arguments.
    pub args: Vec<String>,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        Self {
            port: 0,
            block_time: None,
            chain_id: DEFAULT_CHAIN_ID,
            timestamp: None,
            args: Vec::new(),
        }
    }
}

/// A running anvil. Dropping it ends the process.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    url: Url,
    chain_id: u64,
    provider: RootProvider,
}

impl Anvil {
    /// Starts anvil and waits (blocking, a fraction of a second) until it listens. The executable is the
    /// one that `MICROPAY_ANVIL` names, else that of the nearest `node_modules` at or above the current folder or the
    /// running program, else the one on the path.
    pub fn spawn(options: &AnvilOptions) -> Result<Self, AnvilError> {
        let path = find().ok_or(AnvilError::NotFound)?;
        let mut command = Command::new(&path);
        command
            .args([
                "--port",
                &options.port.to_string(),
                "--chain-id",
                &options.chain_id.to_string(),
            ])
            .args(
                options
                    .block_time
                    .iter()
                    .flat_map(|time| ["--block-time".into(), time.to_string()]),
            )
            .args(
                options
                    .timestamp
                    .iter()
                    .flat_map(|time| ["--timestamp".into(), time.to_string()]),
            )
            .args(&options.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| AnvilError::Start { path, source })?;
        let lines = read_lines(&mut child);
        match listening_port(&lines) {
            Ok(port) => {
                let url = Url::parse(&format!("http://127.0.0.1:{port}")).expect("an address with a port");
                let provider = RootProvider::new_http(url.clone());
                Ok(Self {
                    child,
                    url,
                    chain_id: options.chain_id,
                    provider,
                })
            }
            Err(output) => {
                end(&mut child);
                Err(AnvilError::Silent {
                    waited: START_LIMIT,
                    output,
                })
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// Its chain id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Key of development account `index`, 0 to 9, each with 10,000 ether.
    ///
    /// # Panics
    /// When `index` is above 9.
    #[must_use]
    pub fn key(index: usize) -> PrivateKeySigner {
        DEV_KEYS[index].parse().expect("a well-known key")
    }

    /// Mines `count` empty blocks, or with what the pool holds.
    pub async fn mine(&self, count: u64) -> Result<(), AnvilError> {
        // No interval argument: it would set the time between blocks.
        self.request("anvil_mine", json!([U256::from(count)]))
            .await
            .map(drop)
    }

    /// Moves the clock by `seconds` and mines a block, so that the new time can be seen.
    pub async fn increase_time(&self, seconds: u64) -> Result<(), AnvilError> {
        self.request("evm_increaseTime", json!([U256::from(seconds)]))
            .await?;
        self.mine(1).await
    }

    /// The next block gets this Unix time, in seconds.
    pub async fn set_next_timestamp(&self, timestamp: u64) -> Result<(), AnvilError> {
        self.request("evm_setNextBlockTimestamp", json!([timestamp]))
            .await
            .map(drop)
    }

    /// Replaces the newest `depth` blocks by empty ones. Their transactions are gone for good.
    pub async fn reorg(&self, depth: u64) -> Result<(), AnvilError> {
        self.request("anvil_reorg", json!([depth, []])).await.map(drop)
    }

    /// Replaces the newest `depth` blocks, with signed transactions in the new ones: `(raw transaction, index of the new
    /// block)`, index below `depth`.
    pub async fn reorg_with(&self, depth: u64, transactions: &[(Bytes, u64)]) -> Result<(), AnvilError> {
        self.request("anvil_reorg", json!([depth, transactions]))
            .await
            .map(drop)
    }

    /// Takes the newest `depth` blocks away.
    pub async fn rollback(&self, depth: u64) -> Result<(), AnvilError> {
        self.request("anvil_rollback", json!([depth])).await.map(drop)
    }

    /// Sets an account's native balance, in wei.
    pub async fn set_balance(&self, account: Address, wei: U256) -> Result<(), AnvilError> {
        self.request("anvil_setBalance", json!([account, wei]))
            .await
            .map(drop)
    }

    /// Sets the code at an address.
    pub async fn set_code(&self, address: Address, code: Bytes) -> Result<(), AnvilError> {
        self.request("anvil_setCode", json!([address, code]))
            .await
            .map(drop)
    }

    /// Turns mining of a block per transaction on or off.
    pub async fn set_automine(&self, on: bool) -> Result<(), AnvilError> {
        self.request("evm_setAutomine", json!([on])).await.map(drop)
    }

    /// Forgets a pending transaction. Whether there was one.
    pub async fn drop_transaction(&self, hash: B256) -> Result<bool, AnvilError> {
        Ok(!self
            .request("anvil_dropTransaction", json!([hash]))
            .await?
            .is_null())
    }

    /// Base fee of the next block, in wei per gas.
    pub async fn set_next_base_fee(&self, wei: u128) -> Result<(), AnvilError> {
        self.request("anvil_setNextBlockBaseFeePerGas", json!([U256::from(wei)]))
            .await
            .map(drop)
    }

    async fn request(&self, method: &'static str, params: Value) -> Result<Value, AnvilError> {
        self.provider
            .raw_request(method.into(), params)
            .await
            .map_err(|error| AnvilError::Method {
                method,
                message: error.to_string(),
            })
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills and reaps.
fn end(child: &mut Child) {
    // It may have ended by itself; there is nothing more to do then.
    drop(child.kill());
    drop(child.wait());
}

/// Both outputs of anvil, line by line. The threads go on reading to the end, as anvil would block on a full pipe.
fn read_lines(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let outputs: [Option<Box<dyn io::Read + Send>>; 2] = [
        child.stdout.take().map(|output| Box::new(output) as _),
        child.stderr.take().map(|output| Box::new(output) as _),
    ];
    for output in outputs.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                // Nobody listens any more once the port is known.
                drop(sender.send(line));
            }
        });
    }
    receiver
}

/// The port in `Listening on 127.0.0.1:41234`, or all that was written instead.
fn listening_port(lines: &mpsc::Receiver<String>) -> Result<u16, String> {
    let mut output = String::new();
    while let Ok(line) = lines.recv_timeout(START_LIMIT) {
        let port = line
            .strip_prefix("Listening on ")
            .and_then(|address| address.rsplit_once(':'))
            .and_then(|(_, port)| port.trim().parse().ok());
        if let Some(port) = port {
            return Ok(port);
        }
        output.push_str(&line);
        output.push('\n');
    }
    Err(output)
}

fn find() -> Option<PathBuf> {
    if let Some(path) = env::var_os("MICROPAY_ANVIL") {
        return Some(path.into());
    }
    let starts = [env::current_dir().ok(), env::current_exe().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .find_map(in_node_modules)
        .or_else(|| {
            env::split_paths(&env::var_os("PATH")?)
                .map(|dir| dir.join("anvil"))
                .find(|p| p.is_file())
                .map(|found| behind_shim(&found).unwrap_or(found))
        })
}

/// What the npm shim would start: killing the shim leaves that running.
fn behind_shim(found: &Path) -> Option<PathBuf> {
    found.canonicalize().ok()?.ancestors().find_map(in_node_modules)
}

/// The native executable where there is one: the npm shim starts a Node process first.
fn in_node_modules(dir: &Path) -> Option<PathBuf> {
    let modules = dir.join("node_modules");
    let arch = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let os = match env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    [
        modules.join(format!("@foundry-rs/anvil-{os}-{arch}/bin/anvil")),
        modules.join(".bin/anvil"),
    ]
    .into_iter()
    .find(|path| path.is_file())
}
