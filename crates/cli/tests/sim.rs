//! `micropay sim channel`: the tables, the CSV and the figures are there, and say the same.

use std::fs;

use tempfile::TempDir;

use crate::support::{micropay, run};

#[test]
fn the_channel_papers_experiment() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("a folder").join("of its own");
    let mut command = micropay(home.path());
    command
        .args([
            "sim", "channel", "--json", "--counts", "50,10", "--runs", "2", "--seed", "9", "--out",
        ])
        .arg(&folder);
    let report = run(command).json();
    assert_eq!((&report["seed"], &report["runs"]), (&9.into(), &2.into()));
    assert_eq!(report["counts"], serde_json::json!([10, 50]));
    assert_eq!(report["points"].as_array().unwrap().len(), 2 * 3 * 2);
    assert_eq!(report["table_4"]["client"], 2_140.0);
    assert!(report["claims"].as_array().unwrap().len() >= 8);

    let files: Vec<_> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file.as_str().unwrap())
        .collect();
    assert_eq!(files.len(), 4);
    let csv = fs::read_to_string(folder.join("channel.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(rows.len(), 2 * 2 * 3 * 2 * 14);
    // The table's time is the median of the rows' sums: of two runs, their mean.
    let transaction: f64 = rows
        .iter()
        .filter(|row| row[..3] == ["keccak", "10", "50"] && row[4] == "transaction")
        .map(|row| row[7].parse::<f64>().unwrap())
        .sum();
    let table = &report["table_3"][1];
    assert_eq!(table["phase"], "transaction");
    let median = table["keccak_s"].as_f64().unwrap();
    assert!(
        median > 0.0 && (transaction / 2.0 - median).abs() < 1e-7,
        "{transaction} {table}"
    );
    assert_eq!(table["binary_bytes"], 50.0 * 204.0);
    for name in [
        "figure-4-setup.svg",
        "figure-5-transaction.svg",
        "figure-6-release.svg",
    ] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{files:?}");
        let svg = fs::read_to_string(folder.join(name)).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.matches("<polyline").count() == 6,
            "{svg}"
        );
    }

    let mut command = micropay(home.path());
    command.args(["sim", "channel", "--counts", "10", "--runs", "1"]);
    let said = run(command);
    assert_eq!(said.code, 0, "{said:?}");
    for words in [
        "Table 3.",
        "Table 4.",
        "lock",
        "Figures 4 to 6",
        "What cannot be right",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert!(!home.path().join("micropay").exists(), "nothing is left behind");
}

#[test]
fn an_experiment_without_transactions_is_refused() {
    let home = TempDir::new().unwrap();
    for counts in ["0", "", "4294967295"] {
        let mut command = micropay(home.path());
        command.args(["--json", "sim", "channel", "--counts", counts]);
        assert_eq!(run(command).code, 2, "{counts:?}");
    }
}
