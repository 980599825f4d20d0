//! `micropay keys`: encrypted files that only their owner can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use alloy::primitives::Address;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{PASSWORD, Said, micropay, run, run_with_input};

const SECRET: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ADDRESS: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";

fn keys(home: &TempDir, args: &[&str]) -> Said {
    let mut command = micropay(home.path());
    command.args(["--json", "keys"]).args(args);
    run(command)
}

fn import(home: &TempDir, name: &str, secret: &str) -> Said {
    let mut command = micropay(home.path());
    command.args(["--json", "keys", "import", name]);
    run_with_input(command, secret)
}

#[test]
fn a_key_is_made_kept_and_shown() {
    let home = TempDir::new().unwrap();
    assert_eq!(keys(&home, &["list"]).json(), json!([]));
    let made = keys(&home, &["new", "my-key_1.a"]).json();
    let address: Address = made["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        keys(&home, &["show", "my-key_1.a"]).json(),
        json!({ "name": "my-key_1.a", "address": address })
    );

    let imported = import(&home, "dev", &format!("0x{SECRET}\n")).json();
    assert_eq!(imported["address"], ADDRESS);
    let list = keys(&home, &["list"]).json();
    assert_eq!(
        list,
        json!([{ "name": "dev", "address": ADDRESS }, { "name": "my-key_1.a", "address": address }])
    );

    let file = imported["file"].as_str().unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.as_ref()), 0o600);
    assert_eq!(mode(&home.path().join("micropay/keys")), 0o700);
    let text = fs::read_to_string(file).unwrap();
    assert!(
        !text.to_lowercase().contains(SECRET) && text.contains("crypto"),
        "{text}"
    );
    let left: Vec<_> = fs::read_dir(home.path().join("micropay/keys")).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing else is left: {left:?}");
}

#[test]
fn a_key_is_never_replaced() {
    let home = TempDir::new().unwrap();
    import(&home, "dev", SECRET).json();
    assert!(keys(&home, &["new", "dev"]).json_error(1).contains("already"));
    assert!(import(&home, "dev", SECRET).json_error(1).contains("already"));
    assert_eq!(keys(&home, &["show", "dev"]).json()["address"], ADDRESS);
}

#[test]
fn bad_names_and_secrets_are_refused() {
    let home = TempDir::new().unwrap();
    for name in ["", ".", "..", "../up", "a/b", "a b", ".hidden", "ключ", "-x y"] {
        assert!(
            keys(&home, &["new", "--", name]).json_error(2).contains("name"),
            "{name:?}"
        );
    }
    let zero = "0".repeat(64);
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    for secret in [
        "",
        "abc",
        &SECRET[1..],
        &format!("{SECRET}00"),
        &"g".repeat(64),
        &zero,
        order,
    ] {
        let error = import(&home, "bad", secret).json_error(2);
        assert!(error.contains("private key"), "{secret:?}: {error}");
        assert!(
            secret.len() < 10 || !error.contains(secret),
            "the secret is not repeated: {error}"
        );
    }
    assert_eq!(keys(&home, &["list"]).json(), json!([]));
    assert!(keys(&home, &["show", "none"]).json_error(1).contains("none"));
}

/// The password comes from the file of `--password-file`, else from the environment, else from a terminal.
#[test]
fn the_password_is_taken_where_it_is_said_to_be() {
    let home = TempDir::new().unwrap();
    import(&home, "dev", SECRET).json();
    let open = |password: Option<&str>, file: Option<&str>| {
        let mut command = micropay(home.path());
        command.args([
            "--json",
            "doctor",
            "--key",
            "dev",
            "--rpc-url",
            "http://127.0.0.1:1",
        ]);
        match password {
            Some(password) => command.env("MICROPAY_PASSWORD", password),
            None => command.env_remove("MICROPAY_PASSWORD"),
        };
        if let Some(text) = file {
            let file = home.path().join("password");
            fs::write(&file, text).unwrap();
            command.arg("--password-file").arg(file);
        }
        let said = run(command);
        let checks: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let check = checks["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["name"] == "keys")
            .unwrap()
            .clone();
        (
            check["ok"].as_bool().unwrap(),
            check["text"].as_str().unwrap().to_owned(),
        )
    };
    assert!(open(Some(PASSWORD), None).0);
    let (ok, text) = open(Some("wrong"), None);
    assert!(!ok && text.contains("wrong password"), "{text}");
    assert!(!open(Some(""), None).0);
    assert!(
        open(Some("wrong"), Some(&format!("{PASSWORD}\nsecond line\n"))).0,
        "the file comes first"
    );
    assert!(!open(Some(PASSWORD), Some("")).0);
    let (ok, text) = open(None, None);
    assert!(!ok && text.contains("MICROPAY_PASSWORD"), "{text}");
}

#[test]
fn a_damaged_file_is_named() {
    let home = TempDir::new().unwrap();
    import(&home, "dev", SECRET).json();
    fs::write(home.path().join("micropay/keys/dev"), "{").unwrap();
    let error = keys(&home, &["show", "dev"]).json_error(1);
    assert!(error.contains("dev"), "{error}");
    let error = keys(&home, &["list"]).json_error(1);
    assert!(error.contains("dev"), "{error}");
}
