//! `micropay channel watch`: settles channels for vendors that are offline, without any of their keys. What it needs of a
//! channel is a file that `micropay channel show --watch-file` writes; it can pay nobody but the vendor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy::primitives::Address;
use bindings::channel::{Proof, Terms};
use chain::Sender;
use clap::Args;
use eyre::{OptionExt, WrapErr};
use merchant::channel::{ClosePolicy, Vendor, VendorConfig, WatchFile, Watched, Watcher};
use protocol::channel::{ChannelId, ChannelRecord, Seconds};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::Store;
use tracing::{info, warn};

use crate::business::catch_up_channels;
use crate::config::Config;
use crate::exit::refused;
use crate::keys;
use crate::output::{Output, count, date, rows};
use crate::units::parse_span;

/// What to watch.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Files of `micropay channel show --watch-file`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Key of the account that pays the gas: any account
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Settle this long before the expiry
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "6h")]
    margin: Seconds,
    /// How often to look at the chain, seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    every: u64,
    /// Look once, say what is so, and stop
    #[arg(long)]
    once: bool,
}

/// A [`WatchFile`] as it is written: the arguments of the contract's `checkpoint`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WatchJson {
    format: String,
    chain_id: u64,
    contract: Address,
    terms: Terms,
    proof: Proof,
}

const FORMAT: &str = "micropay-watch/1";

pub(super) async fn run(watch: &Watch, config: &Config, out: Output) -> eyre::Result<()> {
    let files = watch
        .files
        .iter()
        .map(|path| read(path))
        .collect::<eyre::Result<Vec<_>>>()?;
    let client = config.connect_channels().await?;
    let sender = Sender::new(client.clone(), keys::account(config, &watch.from)?);
    let watcher = Watcher::new(sender, watch.margin);
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut said = vec![None; files.len()];
    loop {
        let mut over = 0;
        for (file, said) in files.iter().zip(&mut said) {
            let id = ChannelId(file.terms.permit.channelId);
            let now = client.head().await.map(|head| head.timestamp);
            let looked = match now {
                Ok(now) => watcher.step(file, now).await,
                Err(error) => Err(error.into()),
            };
            match looked {
                Ok(watched) => {
                    if watched == Watched::Over {
                        over += 1;
                    }
                    if *said != Some(watched) {
                        info!(channel = %id, "{}", describe(&watched));
                        *said = Some(watched);
                    }
                }
                Err(error) if error.retry() && !watch.once => warn!(channel = %id, %error, "cannot look yet"),
                Err(error) => return Err(error.into()),
            }
        }
        if watch.once || over == files.len() {
            return answer(&files, &said, out);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(watch.every.max(1))) => {}
            _ = stop.recv() => return answer(&files, &said, out),
            _ = tokio::signal::ctrl_c() => return answer(&files, &said, out),
        }
    }
}

fn answer(files: &[WatchFile], said: &[Option<Watched>], out: Output) -> eyre::Result<()> {
    let all: Vec<_> = files
        .iter()
        .zip(said)
        .map(|(file, said)| (ChannelId(file.terms.permit.channelId), *said))
        .collect();
    let value: Vec<_> = all
        .iter()
        .map(|(id, said)| {
            let (state, index, until, hash) = match said {
                None => ("unknown", None, None, None),
                Some(Watched::Waits { until }) => ("waits", None, Some(until.0), None),
                Some(Watched::Settled { settled }) => ("settled", Some(settled.0), None, None),
                Some(Watched::Checkpointed { hash }) => ("checkpointed", None, None, Some(hash)),
                Some(Watched::Over) => ("over", None, None, None),
            };
            json!({ "channel": id.0, "state": state, "settled": index, "until": until, "transaction": hash })
        })
        .collect();
    let line = |(id, said): &(ChannelId, Option<Watched>)| {
        format!(
            "{id}  {}",
            said.as_ref().map_or("not looked at yet".to_owned(), describe)
        )
    };
    out.answer(&value, all.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn describe(watched: &Watched) -> String {
    match watched {
        Watched::Waits { until } => format!("settled in time: not before {}", date(*until)),
        Watched::Settled { settled } => format!(
            "{} settled, as many as the file is for or more",
            count(settled.0, "unit")
        ),
        Watched::Checkpointed { hash } => format!("settled by {hash}"),
        Watched::Over => "over: nothing more to do".to_owned(),
    }
}

/// Writes what a watcher needs.
pub(super) async fn export<S: Store>(
    store: &S,
    id: ChannelId,
    record: &ChannelRecord,
    path: &Path,
    config: &Config,
    out: Output,
) -> eyre::Result<()> {
    let client = config.connect_channels().await?;
    let follower = catch_up_channels(&client, store, config.finality()?).await?;
    let (domain, mirror) = (client.domain(), follower.mirror());
    let vendor = Vendor::start(
        domain,
        record.vendor,
        VendorConfig::default(),
        mirror,
        store.clone(),
    )
    .await?;
    let file = vendor.watch_file(id, &ClosePolicy::default().gas).await?;
    let file = file.ok_or_else(|| {
        refused(format!(
            "nothing is to be watched: all that channel {id} paid is settled ({} units)",
            record.settled
        ))
    })?;
    let json = WatchJson {
        format: FORMAT.to_owned(),
        chain_id: file.chain_id,
        contract: file.contract,
        terms: file.terms,
        proof: file.proof,
    };
    std::fs::write(path, serde_json::to_vec_pretty(&json)?).wrap_err_with(|| path.display().to_string())?;
    let value = json!({ "channel": id.0, "index": json.proof.index, "file": path });
    out.answer(
        &value,
        rows(&[
            ("channel", id.to_string()),
            ("worth", count(json.proof.index, "unit")),
            ("written to", path.display().to_string()),
            (
                "watch it",
                format!("micropay channel watch {} --from ANY_KEY", path.display()),
            ),
        ]),
    )
}

fn read(path: &Path) -> eyre::Result<WatchFile> {
    let named = || path.display().to_string();
    let text = std::fs::read(path).wrap_err_with(named)?;
    let json: WatchJson = serde_json::from_slice(&text).wrap_err_with(named)?;
    (json.format == FORMAT)
        .then_some(())
        .ok_or_eyre(format!("the format is {:?}, known is {FORMAT:?}", json.format))
        .wrap_err_with(named)?;
    Ok(WatchFile {
        chain_id: json.chain_id,
        contract: json.contract,
        terms: json.terms,
        proof: json.proof,
    })
}
