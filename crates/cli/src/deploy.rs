//! `micropay deploy`: puts the contract at its address, the same on every chain.

use chain::{Sender, deploy};
use serde_json::json;

use crate::config::Config;
use crate::keys;
use crate::output::Output;

pub(crate) async fn run(from: &str, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect_before_deploy().await?;
    let sender = Sender::new(client, keys::account(config, from)?);
    let deployment = deploy::deploy(&sender).await?;
    let mined = deployment.mined.as_ref();
    let value = json!({
        "contract": deployment.address, "deployed": mined.is_some(), "transaction": mined.map(|mined| mined.hash),
        "gas": mined.map(|mined| mined.gas_used),
    });
    let what = if mined.is_some() {
        "deployed"
    } else {
        "already there"
    };
    out.answer(&value, format!("{what}: {}", deployment.address))
}
