//! What a wallet asks of registrars, and how long it waits for the chain.

use std::time::{Duration, Instant};

use eyre::{WrapErr, eyre};
use protocol::offline::{ClassId, Domain};
use services::CallError;
use services::registrar::client::{ClientError, RegistrarClient, ask_who};
use services::registrar::wire::{ClassAnswer, RegistrarAnswer};
use tracing::info;
use url::Url;

use super::folder::{Folder, Wallet, show_class};
use crate::exit::{again, refused, usage};

/// Pause between two questions whether something is final.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// Who answers at this address, as it says itself.
pub(crate) async fn about(url: &Url) -> eyre::Result<RegistrarAnswer> {
    ask_who(url.clone()).await.map_err(|error| match error {
        CallError::BadAddress(url) => usage(format!("{url} is not the address of a service")),
        error if error.retry() => again(format!("the registrar at {url} {error}")),
        error => eyre!("the registrar at {url} {error}"),
    })
}

/// The classes that a registrar signs wallets into, for people.
pub(crate) fn names<'a>(classes: impl IntoIterator<Item = &'a ClassAnswer>) -> String {
    let names: Vec<_> = classes
        .into_iter()
        .map(|class| show_class(ClassId(class.class)))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Asks until there is an answer, or a refusal that stays, or `wait` is over.
pub(crate) async fn until<T>(
    what: &str,
    wait: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, ClientError>,
) -> eyre::Result<T> {
    let since = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if !error.retry() => return Err(error.into()),
            Err(error) if since.elapsed() >= wait => {
                return Err(again(format!(
                    "{what}: not within {} s ({error}); the same command again goes on",
                    wait.as_secs()
                )));
            }
            Err(error) => info!(%error, "waiting: {what}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes the newest revocation list of the wallet's registrar, and of every other whose wallets are taken. A registrar that
/// cannot be reached is said, and the others are asked: `Err` at the end.
pub(crate) async fn take_lists(folder: &Folder, device: &mut Wallet) -> eyre::Result<usize> {
    let domain = folder.domain();
    let own = &folder.settings.registrar;
    let accepted = folder.settings.accept.iter();
    let accepted = accepted.map(|accept| (accept.registrar, &accept.url));
    let mut asked = Vec::new();
    let (mut new, mut failed) = (0, None);
    for (registrar, url) in std::iter::once((own.address, &own.url)).chain(accepted) {
        if asked.contains(&registrar) {
            continue;
        }
        asked.push(registrar);
        let answer = list(url, domain, registrar, device).await;
        match answer.wrap_err_with(|| format!("the revocation list of {registrar}")) {
            Ok(taken) => new += usize::from(taken),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(new),
    }
}

async fn list(
    url: &Url,
    domain: Domain,
    registrar: alloy::primitives::Address,
    device: &mut Wallet,
) -> eyre::Result<bool> {
    let client = RegistrarClient::new(url.clone(), domain, registrar)?;
    let list = client.revocations().await?;
    Ok(device.take_revocations(list.signed().clone()).await?)
}

/// Whether a registrar answers for the vault that is meant. Nothing else is taken from its word.
pub(crate) fn check_vault(got: &RegistrarAnswer, needed: Domain) -> eyre::Result<()> {
    if (got.chain_id, got.contract) == (needed.chain_id(), needed.contract()) {
        return Ok(());
    }
    Err(refused(format!(
        "registrar {} is of vault {} on chain {}, not of {} on chain {} (--offline-contract, --chain-id)",
        got.registrar,
        got.contract,
        got.chain_id,
        needed.contract(),
        needed.chain_id()
    )))
}
