//! `micropay channel recover`: a client that lost its store rebuilds its channels from its receipt key, the contract's events,
//! and what the vendor has of the last payment.

use clap::Args;
use eyre::bail;
use protocol::channel::{ChannelId, ChannelRecord, Status};
use serde_json::json;
use storage::channel::ClientChannelStore;
use url::Url;

use super::open::{key_of, read_all};
use super::{choose, client_store, vendor_desk};
use crate::config::Config;
use crate::output::{Output, count};
use crate::{clock, keys};

/// Which channel.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The channel: its id, or as many digits as make it the only one [default: every open channel of the account to the
    /// vendor at --at]
    channel: Option<String>,
    /// Where the vendor sells
    #[arg(long, value_name = "URL")]
    at: Url,
    /// The client's account: address or key name
    #[arg(long, value_name = "ADDRESS|KEY")]
    from: String,
}

pub(super) async fn run(recover: &Recover, config: &Config, out: Output) -> eyre::Result<()> {
    let account = keys::address_or_name(config, &recover.from)?;
    let client = config.connect_channels().await?;
    let store = client_store(config).await?;
    let follower = read_all(&client, config.finality()?).await?;
    let mut records: Vec<(ChannelId, ChannelRecord)> = follower
        .mirror()
        .records()
        .into_iter()
        .filter(|(_, record)| record.client == account && record.status() == Status::Open)
        .map(|(id, record)| (id, (*record).clone()))
        .collect();
    records.sort_by_key(|(id, _)| *id);
    if let Some(text) = &recover.channel {
        let ids: Vec<_> = records.iter().map(|(id, _)| *id).collect();
        let wanted = choose(&ids, text)?;
        records.retain(|(id, _)| *id == wanted);
        if records.is_empty() {
            bail!("{account} has no open channel {wanted} on this chain that is final");
        }
    }
    let domain = client.domain();
    let mut recovered = Vec::new();
    let mut left_out = Vec::new();
    for (id, record) in &records {
        if store.client_channel(*id).await?.is_some() {
            left_out.push(format!("{id}  is in the store already"));
            continue;
        }
        let Ok((name, _)) = key_of(config, record.opening().receiptKey) else {
            left_out.push(format!(
                "{id}  its receipts are signed by {}, whose key is not here",
                record.opening().receiptKey
            ));
            continue;
        };
        let key = keys::signing_key(config, &name)?;
        let api = vendor_desk(config, recover.at.clone(), key.clone()).await?;
        let done = payer::channel::recover(&domain, &key, record, &api, &store, clock::now()).await;
        match done {
            Ok(done) => recovered.push(done.channel),
            // Another vendor's, most likely.
            Err(error) if recover.channel.is_none() => left_out.push(format!("{id}  {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    let value = json!({
        "recovered": recovered.iter().map(|channel| json!({
            "channel": channel.id().0, "index": channel.acknowledged().index.0, "left": channel.left(),
        })).collect::<Vec<_>>(),
        "leftOut": left_out,
    });
    let mut text = vec![format!("{} recovered", count(recovered.len() as u64, "channel"))];
    text.extend(recovered.iter().map(|channel| {
        format!(
            "{}  at {}, {} left",
            channel.id(),
            super::units(channel.acknowledged().index),
            channel.left()
        )
    }));
    text.extend(left_out);
    if !recovered.is_empty() {
        text.push(
            "Close them and open new ones: a vendor that showed an older receipt than the last would get two of one index."
                .to_owned(),
        );
    }
    out.answer(&value, text.join("\n"))
}
