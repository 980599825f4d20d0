//! `micropay deploy`: puts the contracts at their addresses, the same on every chain.

use chain::deploy::Deployment;
use chain::{Scheme, Sender, deploy};
use serde_json::{Value, json};

use crate::config::Config;
use crate::keys;
use crate::output::{Output, rows};

pub(crate) async fn run(from: &str, config: &Config, out: Output) -> eyre::Result<()> {
    let sender = Sender::new(
        config.connect_before_deploy().await?,
        keys::account(config, from)?,
    );
    let channels = sender.of(config.connect_channels_before_deploy().await?);
    let vault = sender.of(config.connect_vault_before_deploy().await?);
    let tickets = deploy::deploy(&sender).await?;
    let channels = deploy::deploy(&channels).await?;
    let vault = deploy::deploy(&vault).await?;
    let mut value = describe(&tickets);
    value["channel"] = describe(&channels);
    value["offline"] = describe(&vault);
    out.answer(
        &value,
        rows(&[
            ("ticket escrow", said(&tickets)),
            ("payment channel", said(&channels)),
            ("offline vault", said(&vault)),
        ]),
    )
}

fn describe<S: Scheme>(deployment: &Deployment<S>) -> Value {
    let mined = deployment.mined.as_ref();
    json!({
        "contract": deployment.address, "deployed": mined.is_some(), "transaction": mined.map(|mined| mined.hash),
        "gas": mined.map(|mined| mined.gas_used),
    })
}

fn said<S: Scheme>(deployment: &Deployment<S>) -> String {
    let what = match deployment.mined {
        Some(_) => "deployed",
        None => "already there",
    };
    format!("{what}: {}", deployment.address)
}
