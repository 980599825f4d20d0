//! The metrics, and the dashboard that shows them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http::ask;
use super::shop;

async fn metrics() -> String {
    let (response, text) = ask(shop::busy().await, "localhost", "/metrics").await;
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    text
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {series}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn metrics_are_what_the_counters_say() {
    let text = metrics().await;
    for (series, expected) in [
        ("micropay_ready", 1.0),
        ("micropay_build_info{version=\"0.1.0\"}", 1.0),
        ("micropay_watch_alarm{scope=\"payers\"}", 1.0),
        ("micropay_refusals_total{rule=\"commitment-closed\"}", 214.0),
        ("micropay_winners{state=\"final\"}", 55.0),
        ("micropay_prizes_atomic{state=\"won\"}", 6e16),
        ("micropay_claims{state=\"sent\"}", 1.0),
        ("micropay_mirror_block{block=\"newest\"}", 8_123.0),
        ("micropay_payers_known", 13.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    let accepted = value(&text, "micropay_tickets_accepted_total");
    assert!((value(&text, "micropay_revenue_expected_atomic") / (accepted * 1e14) - 1.0).abs() < 1e-12);
    assert_eq!(value(&text, "micropay_request_duration_seconds_count"), accepted);
    assert_eq!(
        value(&text, "micropay_request_duration_seconds_bucket{le=\"+Inf\"}"),
        accepted
    );
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn metrics_know_channels() {
    let (_, text) = ask(shop::with_channels().await, "localhost", "/metrics").await;
    for (series, expected) in [
        ("micropay_channel_payments_total", 86.0),
        ("micropay_channels{state=\"open\"}", 4.0),
        ("micropay_channels{state=\"closed\"}", 0.0),
        ("micropay_settlements{state=\"sent\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    let unit = value(&text, "micropay_channel_revenue_atomic") / 86.0;
    // 25 of 86 units are settled, as far as the chain says.
    assert_eq!(
        value(&text, "micropay_channel_money_atomic{state=\"unsettled\"}"),
        61.0 * unit
    );
    assert!(value(&text, "micropay_channel_next_expiry_seconds") > 1.8e9);
    assert!(
        !metrics().await.contains("micropay_channel"),
        "where none is sold by"
    );
}

#[tokio::test]
async fn a_scrape_is_well_formed_and_names_no_payer() {
    let text = metrics().await;
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(of.to_owned()), "{of} twice");
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("micropay_"), "{line}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
    }
    assert!(!text.contains("0x"), "an address");
    assert!(text.lines().count() < 200, "{}", text.lines().count());
}

#[tokio::test]
async fn the_dashboard_uses_exported_metrics_only() {
    let (_, text) = ask(shop::with_channels().await, "localhost", "/metrics").await;
    let exported: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grafana.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut used = BTreeSet::new();
    expressions(&dashboard, &mut |expression| {
        let names = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        used.extend(
            names
                .filter(|name| name.starts_with("micropay_"))
                .map(str::to_owned),
        );
    });
    assert!(used.len() > 15, "{used:?}");
    for name in &used {
        assert!(exported.contains(name.as_str()), "{name} is not exported");
    }
    // A metric that nobody looks at: say so here, or show it.
    let unused = exported
        .iter()
        .filter(|name| !used.contains(**name) && !name.ends_with("_sum") && !name.ends_with("_count"));
    assert_eq!(
        unused.collect::<Vec<_>>(),
        [&"micropay_payers_forgotten_total", &"micropay_start_time_seconds",]
    );
}

fn expressions(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found(text),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}
