//! `micropay demo`: the main job, end to end, as anybody runs it.

use std::fs;

use tempfile::TempDir;

use crate::support::{micropay, run};

#[test]
fn the_demo_sells_and_accounts_for_every_wei() {
    let home = TempDir::new().unwrap();
    let mut command = micropay(home.path());
    command.args(["demo", "--json", "--payments", "300"]);
    let report = run(command).json();
    for key in [
        "payments",
        "accepted",
        "refused",
        "won",
        "claimed",
        "expected_wins",
        "interval_99",
        "prize",
        "paid_out",
        "payer_spent",
        "merchants_received",
        "gas_per_claim",
        "gas_per_payment",
        "sha256_ok",
        "conserved",
        "elapsed_s",
        "payments_per_s",
    ] {
        assert!(
            report.get(key).is_some_and(|value| !value.is_null()),
            "{key} is missing: {report}"
        );
    }
    assert_eq!(report["payments"], 300);
    assert_eq!(report["bytes"], 300 * 1024);
    assert_eq!(
        (report["sha256_ok"].as_bool(), report["conserved"].as_bool()),
        (Some(true), Some(true))
    );
    assert!(report["accepted"].as_u64().unwrap() >= 300);
    assert_eq!(report["won"], report["claimed"]);
    let wei = |key: &str| report[key].as_str().unwrap().parse::<u128>().unwrap();
    assert_eq!(
        wei("paid_out"),
        report["won"].as_u64().unwrap() as u128 * wei("prize")
    );
    assert_eq!(
        (wei("payer_spent"), wei("merchants_received")),
        (wei("paid_out"), wei("paid_out"))
    );
    // 300 tickets at 1/128: P[more than 14 wins] < 10^-7.
    assert!(report["won"].as_u64().unwrap() <= 14, "{report}");
    assert!(
        !home.path().join("micropay").exists(),
        "the demo leaves nothing behind"
    );
}

#[test]
fn any_file_arrives_as_it_was() {
    let home = TempDir::new().unwrap();
    let (file, copy) = (home.path().join("a file.txt"), home.path().join("copy"));
    let content: Vec<u8> = (0..7 * 1024 + 1)
        .map(|index: u32| (index * index) as u8)
        .collect();
    fs::write(&file, &content).unwrap();
    let mut command = micropay(home.path());
    command
        .arg("demo")
        .arg("--file")
        .arg(&file)
        .arg("--out")
        .arg(&copy)
        .args(["--payments", "1000"]);
    let said = run(command);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(fs::read(&copy).unwrap() == content);
    for words in ["8", "SHA-256", "payer", "merchant 3", "conserved"] {
        assert!(
            said.out.to_lowercase().contains(&words.to_lowercase()),
            "{words}: {}",
            said.out
        );
    }

    fs::write(&file, "").unwrap();
    let mut command = micropay(home.path());
    command.args(["--json", "demo", "--file"]).arg(&file);
    assert!(run(command).json_error(1).contains("empty"));
    let mut command = micropay(home.path());
    command.args(["--json", "demo", "--file", "/nowhere"]);
    assert!(run(command).json_error(1).contains("/nowhere"));
    let mut command = micropay(home.path());
    command
        .args(["--json", "demo"])
        .env("MICROPAY_ANVIL", "/no/anvil");
    assert!(run(command).json_error(1).contains("/no/anvil"));
}

#[test]
fn a_file_over_one_channel_to_the_last_wei() {
    let home = TempDir::new().unwrap();
    let (receipts, copy) = (home.path().join("receipts.json"), home.path().join("copy.bmp"));
    let mut command = micropay(home.path());
    command.args(["demo", "channel", "--json", "--pieces", "300"]);
    command.arg("--receipts").arg(&receipts).arg("--out").arg(&copy);
    let said = run(command);
    let report = said.json();
    // In this order, before all others.
    let keys = [
        "payments",
        "closed_index",
        "paid",
        "refunded",
        "receipts_opened",
        "ends_in_sigma0",
        "gas_open",
        "gas_close",
        "conserved",
        "elapsed_s",
    ];
    let places: Vec<_> = keys.map(|key| said.out.find(&format!("\"{key}\":"))).into();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?}"
    );
    assert!(said.out.starts_with("{\"payments\":300,"));
    assert_eq!(
        (&report["closed_index"], &report["receipts_opened"]),
        (&300.into(), &300.into())
    );
    for key in ["ends_in_sigma0", "conserved", "sha256_ok"] {
        assert_eq!(report[key], true, "{report}");
    }
    let wei = |key: &str| report[key].as_str().unwrap().parse::<u128>().unwrap();
    assert_eq!(
        (wei("paid"), wei("refunded")),
        (300 * wei("unit"), 100 * wei("unit"))
    );
    assert!(
        report["gas_open"].as_u64().unwrap() <= 120_000 && report["gas_close"].as_u64().unwrap() <= 120_000
    );
    assert!(report["checkpoint_signed"].as_u64().unwrap() >= 192, "{report}");
    assert_eq!(
        fs::read(&copy).unwrap().len() as u64,
        report["bytes"].as_u64().unwrap()
    );

    let mut command = micropay(home.path());
    command.args(["--json", "channel", "verify"]).arg(&receipts);
    assert_eq!(run(command).json()["opened"], 300);
}

/// On real software TPMs: ten hops, a power cut in the middle of a payment, a copy that spends twice.
#[test]
fn the_demo_pays_without_a_network() {
    if trusted::swtpm::Emulator::for_test().is_none() {
        return;
    }
    let home = TempDir::new().unwrap();
    let mut command = micropay(home.path());
    command.args(["demo", "offline", "--json"]);
    let report = run(command).json();
    for (key, value) in [
        ("wallets", 4),
        ("hops", 10),
        ("rejected", 1),
        ("equivocations_proven", 1),
        ("bytes_per_history_entry", 64),
    ] {
        assert_eq!(report[key], value, "{key}: {report}");
    }
    assert_eq!(report["conserved"], true, "{report}");
    assert_eq!(report["slashed"], "20000000000000000");
    assert!(report["bytes_depth_1"].as_u64().unwrap() <= 800, "{report}");
    assert!(report["redeemed"].as_u64().unwrap() >= 4, "{report}");
    assert!(
        report["transfers"].as_u64().unwrap() > 12 && report["elapsed_s"].as_f64().unwrap() > 0.0,
        "{report}"
    );
}
