//! What the README, docs/gateway.md and docs/offline.md say, typed as they say it, on the chain of `micropay dev`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::upstream::Upstream;
use crate::support::{Gateway, Said, eventually, micropay, run};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(path).unwrap()
}

/// The lines of the `sh` blocks below this heading, up to the next heading.
fn blocks(document: &str, heading: &str) -> Vec<Vec<String>> {
    let mut below = document.lines().skip_while(|line| *line != heading).skip(1);
    let mut blocks = Vec::new();
    while let Some(line) = below.next() {
        if line.starts_with('#') {
            break;
        }
        if line == "```sh" {
            let block = below.by_ref().take_while(|line| *line != "```");
            blocks.push(block.map(ToOwned::to_owned).collect());
        }
    }
    blocks
}

/// `micropay dev`, and a folder to type commands in.
struct Dev {
    folder: TempDir,
    said: Value,
    process: Option<Gateway>,
}

/// In order: killed, it would leave its chain and its folder behind.
impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop();
        }
    }
}

impl Dev {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = micropay(folder.path());
        command.args(["--json", "dev", "--bank-port", "0"]);
        let process = Gateway::start(command);
        let mut said = None;
        eventually("the chain is there", || {
            said = process.hello.lock().clone();
            said.is_some()
        });
        Self {
            folder,
            said: said.unwrap(),
            process: Some(process),
        }
    }

    fn word(&self, key: &str) -> &str {
        self.said[key].as_str().unwrap()
    }

    /// A command after the `export …` line that `micropay dev` prints.
    fn exported(&self, mut command: Command) -> Command {
        command
            .current_dir(self.folder.path())
            .env_remove("MICROPAY_PASSWORD")
            .env("MICROPAY_RPC_URL", self.word("rpc_url"))
            .env("MICROPAY_HOME", self.word("home"))
            .env("MICROPAY_FINALITY", self.word("finality"))
            .env("MICROPAY_PASSWORD_FILE", self.word("password_file"));
        command
    }

    fn micropay(&self, args: &[&str]) -> Command {
        let mut command = self.exported(micropay(self.folder.path()));
        command.args(args);
        command
    }

    /// A line as a shell takes it.
    fn shell(&self, line: &str) -> Said {
        let program = Path::new(env!("CARGO_BIN_EXE_micropay"));
        let mut path = program.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = self.exported(Command::new("sh"));
        command
            .args(["-c", line])
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .stdin(Stdio::null());
        run(command)
    }

    /// `micropay serve` with these words, on free ports.
    fn serve(&self, words: &[&str]) -> Gateway {
        let mut command = self.micropay(&["--json", "-v"]);
        command.args(words);
        command.args(["--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0"]);
        Gateway::start(command)
    }
}

#[test]
fn the_readmes_channel_works_as_it_is_typed() {
    let dev = Dev::start();
    let upstream = Upstream::start(Duration::ZERO);
    let blocks = blocks(&document("README.md"), "### Over a channel");
    let [sell, buy] = &blocks[..] else {
        panic!("one block sells, one buys: {blocks:?}");
    };
    let sell = sell[0].replace("http://127.0.0.1:3000", &upstream.url());
    assert!(
        sell.to_lowercase().contains(dev.word("bank")),
        "{sell}: {}",
        dev.said
    );
    let words: Vec<_> = sell.split_whitespace().skip(1).collect();
    let mut gateway = dev.serve(&words);
    let at = gateway.address().to_string();
    for line in buy {
        let line = line
            .replace("127.0.0.1:8402", &at)
            .replace("http://127.0.0.1:8404", dev.word("bank_url"));
        let mut said = None;
        // Only where the text says that there is something to wait for.
        let mut tries = if line.contains("a few seconds later") {
            60
        } else {
            1
        };
        while tries > 0 {
            let now = dev.shell(&line);
            tries = if now.code == 0 { 0 } else { tries - 1 };
            said = Some(now);
            std::thread::sleep(Duration::from_millis(200));
        }
        let said = said.unwrap();
        assert_eq!(said.code, 0, "{line}: {said:?}");
    }
    // All of it is where it belongs: one unit paid, and the rest withdrawn.
    let credit = |account: &str| {
        let show = ["--json", "credit", "show", account, "--channel"];
        run(dev.micropay(&show)).json()["credit"].clone()
    };
    assert_eq!(
        (credit("seller"), credit("account")),
        (json!("100000000000000"), json!("0"))
    );
    // The channel is over, and still the only one that can be meant.
    let shown = run(dev.micropay(&["--json", "channel", "show"])).json();
    assert_eq!(shown["chain"]["status"], "closed");
}

#[test]
fn two_terminals_pay_each_other_as_it_is_typed() {
    let dev = Dev::start();
    let blocks = blocks(&document("docs/offline.md"), "## Two terminals");
    let [registrar, online, offline, settle] = &blocks[..] else {
        panic!("a registrar, wallets, payments, settlement: {blocks:?}");
    };
    let [init, serve] = &registrar[..] else {
        panic!("init, serve: {registrar:?}");
    };
    let typed = |line: &str| {
        let said = dev.shell(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said
    };
    typed(init);
    let mut words: Vec<_> = serve.split_whitespace().skip(1).collect();
    words.extend(["--listen", "127.0.0.1:0"]);
    let mut command = dev.micropay(&["--json", "-v"]);
    command.args(words);
    let mut service = Gateway::start(command);
    let at = format!("http://{}", service.address());
    for line in online {
        typed(&line.replace("http://127.0.0.1:8406", &at));
    }
    assert_eq!(service.stop(), Some(0));
    for line in offline {
        typed(&format!("export MICROPAY_RPC_URL=http://127.0.0.1:9; {line}"));
    }
    // What bob was paid is his, to the wei.
    for line in settle {
        typed(line);
    }
    let show = ["--json", "offline", "wallet", "balance", "--wallet", "bob"];
    let balance = run(dev.micropay(&show)).json();
    assert_eq!(balance["assets"][0]["settled"], "200000000000000000", "{balance}");
}

#[test]
fn the_settings_of_the_gateways_page_sell_and_the_payer_of_dev_can_buy() {
    let dev = Dev::start();
    let upstream = Upstream::start(Duration::ZERO);
    let page = document("docs/gateway.md");
    let settings = page.split_once("```toml\n").unwrap().1;
    let settings = settings.split_once("```").unwrap().0;
    fs::write(dev.folder.path().join("gateway.toml"), settings).unwrap();
    let checked = run(dev.micropay(&["--json", "serve", "gateway.toml", "--check"])).json();
    assert_eq!(checked["ok"], true);
    let mut gateway = dev.serve(&["serve", "gateway.toml", "--upstream", &upstream.url()]);
    let at = format!("http://{}", gateway.address());
    eventually("the escrow is known, and the dearest route paid", || {
        let buy = [
            "--json",
            "get",
            "-X",
            "POST",
            &format!("{at}/v1/words"),
            "--escrow",
            "payer",
        ];
        let said = run(dev.micropay(&[&buy[..], &["-o", "bought"]].concat()));
        said.code == 0 && said.json()["paid"]["price"] == "2000000000000000"
    });
    // The store is where the settings say, relative to where the gateway was started.
    assert!(dev.folder.path().join("seller.sqlite").exists());
}
