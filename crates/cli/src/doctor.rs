//! `micropay doctor`: looks at everything that must be right and says what to do about what is not.

use chain::{ChainClient, Client, Scheme};
use clap::Args;
use serde_json::json;

use crate::config::Config;
use crate::output::{Output, date, span};
use crate::{clock, keys, stores};

/// Block time and our clock may differ by this many seconds.
const CLOCK_TOLERANCE_SECS: u64 = 120;

/// What to look at besides node, contract and clock.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Open this key (asks for its password)
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Open this merchant's store as well as the payer's
    #[arg(long, value_name = "ADDRESS|KEY")]
    merchant: Option<String>,
}

struct Check {
    name: &'static str,
    ok: bool,
    text: String,
}

/// Whether everything is well.
pub(crate) async fn run(doctor: &Doctor, config: &Config, out: Output) -> eyre::Result<bool> {
    let mut checks = Vec::new();
    let client = match config.connect_before_deploy().await {
        Ok(client) => {
            checks.push(good(
                "chain",
                format!("{} is on chain {}", client.node(), client.config().chain_id),
            ));
            Some(client)
        }
        Err(error) => {
            checks.push(bad(
                "chain",
                format!("{error}; is --rpc-url right, and the node up?"),
            ));
            None
        }
    };
    if let Some(client) = &client {
        checks.push(contract("contract", client).await);
        checks.push(match config.connect_channels_before_deploy().await {
            Ok(channels) => contract("channels", &channels).await,
            Err(error) => bad("channels", error.to_string()),
        });
        checks.push(clocks(client).await);
        checks.push(store(
            "payer store",
            stores::payer(&config.home, client.domain()).await.map(drop),
        ));
        if let Some(merchant) = &doctor.merchant {
            let opened = match keys::address_or_name(config, merchant) {
                Ok(merchant) => stores::merchant(&config.home, client.domain(), merchant)
                    .await
                    .map(drop),
                Err(error) => Err(error),
            };
            checks.push(store("merchant store", opened));
        }
    }
    checks.push(match config.finality() {
        Ok(_) => good("finality", config.finality.clone()),
        Err(error) => bad("finality", error.to_string()),
    });
    checks.push(key(doctor, config));
    let healthy = checks.iter().all(|check| check.ok);
    let value = json!({
        "healthy": healthy,
        "checks": checks.iter().map(|c| json!({ "name": c.name, "ok": c.ok, "text": c.text })).collect::<Vec<_>>(),
    });
    let line = |check: &Check| {
        format!(
            "{}  {:<14}  {}",
            if check.ok { "ok  " } else { "FAIL" },
            check.name,
            check.text
        )
    };
    out.answer(&value, checks.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    Ok(healthy)
}

fn good(name: &'static str, text: String) -> Check {
    Check { name, ok: true, text }
}

fn bad(name: &'static str, text: String) -> Check {
    Check {
        name,
        ok: false,
        text,
    }
}

async fn contract<S: Scheme>(name: &'static str, client: &Client<S>) -> Check {
    let address = client.contract();
    match client.check_contract().await {
        Ok(()) => good(name, format!("{address} is a {}", S::NAME)),
        Err(error) => bad(name, format!("{error}; micropay deploy puts it there")),
    }
}

async fn clocks(client: &ChainClient) -> Check {
    match client.head().await {
        Ok(head) => {
            let (ours, theirs) = (clock::now(), head.timestamp);
            let apart = ours.0.abs_diff(theirs.0);
            let text = format!(
                "ours {}, newest block {}: {} apart",
                date(ours),
                date(theirs),
                span(apart)
            );
            if apart <= CLOCK_TOLERANCE_SECS {
                good("clock", text)
            } else {
                bad(
                    "clock",
                    format!("{text}; either a clock is wrong or the node is behind"),
                )
            }
        }
        Err(error) => bad("clock", error.to_string()),
    }
}

fn store(name: &'static str, opened: eyre::Result<()>) -> Check {
    match opened {
        Ok(()) => good(name, "opens, and is for this chain and contract".into()),
        Err(error) => bad(name, format!("{error:#}")),
    }
}

fn key(doctor: &Doctor, config: &Config) -> Check {
    match &doctor.key {
        None => match keys::list(config) {
            Ok(keys) => good("keys", format!("{} in {}", keys.len(), config.home.display())),
            Err(error) => bad("keys", format!("{error:#}")),
        },
        Some(name) => match keys::account(config, name) {
            Ok(account) => good("keys", format!("{name} opens: {}", account.address())),
            Err(error) => bad("keys", format!("{error:#}")),
        },
    }
}
