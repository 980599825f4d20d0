//! `micropay ticket inspect`: agrees with every coin ticket of the shared vectors, and has an answer to every bad one.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Said, micropay, run, run_with_input};

const VECTORS: &str = include_str!("../../../tests/vectors/shared-ticket.json");

struct Inspector {
    home: TempDir,
    vectors: Value,
}

impl Inspector {
    fn new() -> Self {
        Self {
            home: TempDir::new().unwrap(),
            vectors: serde_json::from_str(VECTORS).unwrap(),
        }
    }

    fn command(&self, file: &str) -> Command {
        let mut command = micropay(self.home.path());
        let (chain, contract) = (
            self.vectors["chainId"].to_string(),
            self.vectors["verifyingContract"].as_str().unwrap(),
        );
        command.args([
            "ticket",
            "inspect",
            "--chain-id",
            &chain,
            "--contract",
            contract,
            file,
        ]);
        command
    }

    fn json(&self, text: &str) -> Said {
        let mut command = self.command("-");
        command.arg("--json");
        run_with_input(command, text)
    }

    /// The vectors' coin tickets as a user has them, and what is to be found.
    fn coins(&self) -> Vec<(Value, &Value)> {
        let tickets = self.vectors["tickets"].as_array().unwrap();
        let coins: Vec<_> = tickets.iter().filter(|ticket| ticket["mode"] == "coin").collect();
        assert!(coins.len() >= 4, "{} coin vectors", coins.len());
        coins
            .into_iter()
            .map(|vector| (self.ticket(vector), vector))
            .collect()
    }

    fn ticket(&self, vector: &Value) -> Value {
        let mut ticket = json!({ "escrow": self.vectors["escrow"], "recipient": self.vectors["recipient"] });
        for field in [
            "commitment",
            "r2",
            "winThreshold",
            "expiry",
            "nonce",
            "signature",
            "r1",
        ] {
            ticket[field] = vector[field].clone();
        }
        ticket
    }
}

fn number(value: &Value) -> alloy::primitives::U256 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn every_coin_vector_is_as_the_vectors_say() {
    let inspector = Inspector::new();
    let mut wins = 0;
    for (mut ticket, vector) in inspector.coins() {
        let found = inspector.json(&ticket.to_string()).json();
        assert_eq!(found["digest"], vector["digest"]);
        assert_eq!(found["signer"], inspector.vectors["escrow"]);
        assert_eq!(found["signerIsEscrow"], true);
        assert_eq!(found["commitmentOpens"], true);
        assert_eq!(found["half"], vector["half"]);
        assert_eq!(number(&found["draw"]), number(&vector["draw"]));
        assert_eq!(found["wins"], vector["win"]);
        wins += u32::from(found["wins"] == true);

        // The same from a file, for people.
        let file = inspector.home.path().join("ticket.json");
        fs::write(&file, ticket.to_string()).unwrap();
        let said = run(inspector.command(file.to_str().unwrap()));
        assert_eq!(said.code, 0);
        assert!(said.out.contains(vector["digest"].as_str().unwrap()), "{said:?}");
        assert!(said.out.contains(vector["draw"].as_str().unwrap()), "{said:?}");

        // Without r1 the digest and the signer are known, the outcome is not.
        ticket.as_object_mut().unwrap().remove("r1");
        let found = inspector.json(&ticket.to_string()).json();
        assert_eq!(found["digest"], vector["digest"]);
        assert_eq!(found["signerIsEscrow"], true);
        for unknown in ["commitmentOpens", "half", "draw", "wins"] {
            assert!(
                found.as_object().unwrap().contains_key(unknown),
                "{unknown} has its key"
            );
            assert_eq!(found[unknown], Value::Null, "{unknown}");
        }
    }
    assert!(wins > 0, "no vector wins");
}

#[test]
fn numbers_may_be_written_in_any_way() {
    let inspector = Inspector::new();
    let (mut ticket, vector) = inspector.coins().remove(0);
    ticket["expiry"] = json!(vector["expiry"].to_string());
    ticket["nonce"] = json!("0x1");
    ticket["winThreshold"] = json!(number(&vector["winThreshold"]).to_string());
    assert_eq!(
        inspector.json(&ticket.to_string()).json()["digest"],
        vector["digest"]
    );
}

#[test]
fn a_ticket_of_somebody_else_is_seen_through() {
    let inspector = Inspector::new();
    let (ticket, vector) = inspector.coins().remove(0);
    let change = |field: &str, value: Value| {
        let mut changed = ticket.clone();
        changed[field] = value;
        inspector.json(&changed.to_string()).json()
    };
    // Another secret opens nothing, and so wins nothing, whatever it would draw.
    let found = change("r1", json!(alloy::primitives::B256::repeat_byte(7)));
    assert_eq!(
        (&found["commitmentOpens"], &found["wins"]),
        (&json!(false), &json!(false))
    );
    // Another nonce is another digest, which the escrow has not signed.
    let found = change("nonce", json!(77));
    assert_ne!(found["digest"], vector["digest"]);
    assert_eq!(found["signerIsEscrow"], false);
    // Another recipient is not who has committed.
    let found = change("recipient", inspector.vectors["escrow"].clone());
    assert_eq!(found["commitmentOpens"], false);
    // On another chain it is another ticket.
    let mut command = inspector.command("-");
    command.args(["--json", "--chain-id"]); // given twice
    command.arg("1");
    assert_eq!(run_with_input(command, &ticket.to_string()).code, 2);
    let mut command = micropay(inspector.home.path());
    let contract = inspector.vectors["verifyingContract"].as_str().unwrap();
    command.args([
        "--json",
        "ticket",
        "inspect",
        "-",
        "--chain-id",
        "1",
        "--contract",
        contract,
    ]);
    let found = run_with_input(command, &ticket.to_string()).json();
    assert_eq!(
        (found["digest"] == vector["digest"], &found["signerIsEscrow"]),
        (false, &json!(false))
    );
    assert_eq!(found["commitmentOpens"], false);
}

#[test]
fn a_bad_signature_is_named() {
    let inspector = Inspector::new();
    let (ticket, vector) = inspector.coins().remove(0);
    let bytes = alloy::hex::decode(vector["signature"].as_str().unwrap()).unwrap();
    let high_s = {
        let order: alloy::primitives::U256 =
            "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
                .parse()
                .unwrap();
        let s = order - alloy::primitives::U256::from_be_slice(&bytes[32..64]);
        [&bytes[..32], &s.to_be_bytes::<32>(), &[27 + 28 - bytes[64]]].concat()
    };
    let zero_v = [&bytes[..64], &[0]].concat();
    for (bad, word) in [
        (bytes[..64].to_vec(), "64"),
        (high_s, "s"),
        (zero_v, "v"),
        (vec![], "0"),
        (vec![0; 65], ""),
    ] {
        let mut ticket = ticket.clone();
        ticket["signature"] = json!(alloy::primitives::Bytes::from(bad));
        let found = inspector.json(&ticket.to_string()).json();
        assert_eq!(
            (&found["signer"], &found["signerIsEscrow"]),
            (&Value::Null, &json!(false)),
            "{found}"
        );
        assert!(
            found["signatureError"].as_str().unwrap().contains(word),
            "{found}"
        );
        assert_eq!(
            found["digest"], vector["digest"],
            "the rest is known all the same"
        );
    }
}

#[test]
fn what_is_no_ticket_is_refused_with_its_reason() {
    let inspector = Inspector::new();
    let (ticket, _) = inspector.coins().remove(0);
    let mut without = ticket.clone();
    without.as_object_mut().unwrap().remove("r2");
    let changed = |field: &str, value: Value| {
        let mut changed = ticket.clone();
        changed[field] = value;
        changed.to_string()
    };
    for (text, word) in [
        (String::new(), "EOF"),
        ("ticket".to_owned(), "expected"),
        ("[]".to_owned(), ""),
        (without.to_string(), "r2"),
        (changed("colour", json!("red")), "colour"),
        (
            changed("nonce", json!("18446744073709551616")),
            "18446744073709551616",
        ),
        (changed("nonce", json!(-1)), ""),
        (changed("nonce", json!(1.5)), ""),
        (changed("escrow", json!("0x12")), ""),
        (changed("signature", json!("zz")), ""),
        (
            changed("winThreshold", json!(format!("0x1{}", "0".repeat(64)))),
            "",
        ),
        (format!("{ticket}{ticket}"), "trailing"),
    ] {
        let error = inspector.json(&text).json_error(1);
        assert!(
            error.contains("not a ticket") && error.contains(word),
            "{text}: {error}"
        );
    }
    let mut command = inspector.command("/nowhere/ticket.json");
    command.arg("--json");
    assert!(run(command).json_error(1).contains("/nowhere/ticket.json"));
    let mut command = micropay(inspector.home.path());
    command.args(["--json", "ticket", "inspect", "-"]);
    assert!(run(command).json_error(2).contains("--chain-id"));
}
