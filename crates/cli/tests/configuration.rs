//! Settings by file, environment and command line; wrong usage; completions.

use std::fs;

use tempfile::TempDir;

use crate::support::{micropay, run};

/// Which node is asked, and with what finality, as `doctor` tells.
fn seen(home: &TempDir, environment: &[(&str, &str)], args: &[&str]) -> (String, String) {
    let mut command = micropay(home.path());
    command
        .env_remove("MICROPAY_HOME")
        .envs(environment.iter().copied())
        .args(["--json", "doctor"])
        .args(args);
    let said = run(command);
    assert_eq!(said.code, 1, "no node there: {said:?}");
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let text = |name: &str| {
        let checks = answer["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap()["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    (text("chain"), text("finality"))
}

#[test]
fn later_sources_win() {
    let home = TempDir::new().unwrap();
    // Nothing at all: the defaults.
    let (chain, finality) = seen(&home, &[], &[]);
    assert!(
        chain.contains("127.0.0.1:8545") || chain.contains("chain"),
        "{chain}"
    );
    assert_eq!(finality, "finalized");
    // The file of the user.
    let folder = home.path().join(".config/micropay");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("config.toml"),
        "rpc_url = \"http://127.0.0.1:2\"\nfinality = 12\n",
    )
    .unwrap();
    let (chain, finality) = seen(&home, &[], &[]);
    assert!(chain.contains("127.0.0.1:2"), "{chain}");
    assert_eq!(finality, "12");
    // Another file, named by environment or command line.
    let other = home.path().join("other.toml");
    fs::write(
        &other,
        "rpc_url = \"http://127.0.0.1:3\"\nfinality = \"finalized\"\n",
    )
    .unwrap();
    let other = other.to_str().unwrap();
    assert!(
        seen(&home, &[("MICROPAY_CONFIG", other)], &[])
            .0
            .contains("127.0.0.1:3")
    );
    assert!(seen(&home, &[], &["--config", other]).0.contains("127.0.0.1:3"));
    // The environment, then the command line.
    let environment = [
        ("MICROPAY_RPC_URL", "http://127.0.0.1:4"),
        ("MICROPAY_FINALITY", "20"),
    ];
    let (chain, finality) = seen(&home, &environment, &["--config", other]);
    assert!(chain.contains("127.0.0.1:4"), "{chain}");
    assert_eq!(finality, "20");
    let flags = [
        "--config",
        other,
        "--rpc-url",
        "http://127.0.0.1:5",
        "--finality",
        "3",
    ];
    let (chain, finality) = seen(&home, &environment, &flags);
    assert!(chain.contains("127.0.0.1:5"), "{chain}");
    assert_eq!(finality, "3");
}

#[test]
fn the_home_folder_is_where_it_is_said_to_be() {
    let home = TempDir::new().unwrap();
    let file = |args: &[&str], environment: &[(&str, &str)]| {
        let mut command = micropay(home.path());
        command
            .env_remove("MICROPAY_HOME")
            .envs(environment.iter().copied());
        command.args(["--json", "keys", "new", "k"]).args(args);
        run(command).json()["file"].as_str().unwrap().to_owned()
    };
    let (a, b) = (home.path().join("a"), home.path().join("b"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    assert!(file(&[], &[]).starts_with(home.path().join(".local/share/micropay").to_str().unwrap()));
    assert!(file(&[], &[("MICROPAY_HOME", a)]).starts_with(a));
    assert!(file(&["--home", b], &[("MICROPAY_HOME", a)]).starts_with(b));
}

#[test]
fn a_wrong_setting_is_named() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("config.toml");
    let path = file.to_str().unwrap();
    for (text, word) in [
        ("colour = 1", "colour"),
        ("rpc_url = \"no address\"", "rpc_url"),
        ("chain_id = \"one\"", "chain_id"),
        ("contract = \"0x12\"", "contract"),
        ("finality = [1]", "finality"),
        ("rpc_url = ", ""),
    ] {
        fs::write(&file, text).unwrap();
        let mut command = micropay(home.path());
        command.args(["--json", "--config", path, "keys", "list"]);
        let error = run(command).json_error(2);
        assert!(
            error.contains("configuration") && error.contains(word),
            "{text}: {error}"
        );
    }
    let mut command = micropay(home.path());
    command.args(["--json", "--config", "/nowhere.toml", "keys", "list"]);
    assert!(run(command).json_error(2).contains("/nowhere.toml"));
}

#[test]
fn wrong_usage_ends_with_code_2() {
    let home = TempDir::new().unwrap();
    for args in [
        &["dance"][..],
        &["keys"],
        &["keys", "new"],
        &["get"],
        &["get", "no address", "--escrow", "e"],
        &["get", "http://127.0.0.1:1/", "--escrow", "e", "-H", "no header"],
        &["serve", "--per-ip", "0"],
        &["serve", "--asset", "0x12"],
        &["demo", "--payments", "0"],
        &[
            "escrow", "earmark", "e", "r", "1", "--life", "week", "--from", "p",
        ],
        &[
            "escrow",
            "open",
            "e",
            "--from",
            "p",
            "--prize",
            "1",
            "--balance",
            "1",
            "--tickets",
            "9",
            "--rate",
            "1/0",
        ],
        &["--chain-id", "x", "keys", "list"],
    ] {
        let mut command = micropay(home.path());
        command.args(args);
        let said = run(command);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}: {said:?}");
        assert!(!said.err.is_empty());
        let mut command = micropay(home.path());
        command.arg("--json").args(args);
        run(command).json_error(2);
    }
}

#[test]
fn help_names_the_exit_codes_and_completions_are_scripts() {
    let home = TempDir::new().unwrap();
    let said = |args: &[&str]| {
        let mut command = micropay(home.path());
        command.args(args);
        let said = run(command);
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    let help = said(&["--help"]);
    for code in ["0 done", "1 failed", "2 wrong usage", "3 refused", "4 node"] {
        assert!(help.contains(code), "{help}");
    }
    assert!(said(&["--version"]).starts_with("micropay "));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&["completions", shell]);
        assert!(
            script.contains("micropay") && script.contains("earmark"),
            "{shell}"
        );
    }
}

#[test]
fn options_of_every_command_have_their_own_heading() {
    let home = TempDir::new().unwrap();
    let mut command = micropay(home.path());
    command.args(["get", "--help"]);
    let help = run(command).out;
    let (own, global) = help.split_once("Global options:").unwrap();
    for (text, option) in [(own, "--max-price"), (global, "--rpc-url"), (global, "--json")] {
        assert!(text.contains(option), "{option}: {help}");
    }
    assert!(!own.contains("--rpc-url"), "{help}");
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let home = TempDir::new().unwrap();
    for args in [&["completions", "bash"][..], &["keys", "list"]] {
        let mut command = micropay(home.path());
        command.args(args);
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let said = crate::support::Said::from(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn an_empty_password_file_is_none_and_logs_have_no_colours_in_a_file() {
    let home = TempDir::new().unwrap();
    let mut command = micropay(home.path());
    command
        .env("MICROPAY_PASSWORD_FILE", "")
        .args(["keys", "new", "mine"]);
    assert_eq!(run(command).code, 0, "MICROPAY_PASSWORD counts");
    let mut command = micropay(home.path());
    command
        .env("MICROPAY_LOG", "trace")
        .args(["--rpc-url", "http://127.0.0.1:1", "doctor"]);
    let said = run(command);
    assert!(
        said.err.contains("TRACE") && !said.err.contains('\u{1b}'),
        "{said:?}"
    );
}
