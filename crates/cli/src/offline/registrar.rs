//! `micropay offline registrar` and `revoke`: the service that vouches for wallets, and its operator's steps. It has two keys
//! of the keystore: NAME signs (secp256k1) and is its account, NAME-policy authorises the beginnings of TPMs' logs (P-256).

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::Address;
use chain::Sender;
use clap::{Args, Subcommand};
use eyre::WrapErr;
use protocol::offline::{ClassId, Domain, WalletId};
use serde_json::json;
use services::registrar::http::{Limits, limits, router, serve};
use services::registrar::{Keys, OnChain, Policy, Registrar};
use storage::offline::registrar::{RegistrarIdentity, SqliteRegistrarStore};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use wallet::Online;

use super::folder::{parse_class, replace, show_class};
use super::wallet::parse_wallet;
use crate::config::Config;
use crate::exit::{refused, usage};
use crate::output::{Output, date, rows};
use crate::{clock, keys, stores};

/// What a registrar for development takes.
const DEV_POLICY: &str = r#"# What this registrar takes. DEVELOPMENT ONLY: keys in files, which whoever copies them can spend twice.
# docs/offline.md and crates/services/src/registrar/policy.rs say what else there is.

[[class]]
number = 1
dev = true
kind = "signature"
validity = 604800 # seconds: a week
accept = [{ format = "software" }]
"#;

/// What a registrar begins with: nothing.
const POLICY: &str = r#"# What this registrar takes: nothing, until classes are written here. `micropay offline registrar serve` reads it.

# [[class]]
# number = 1
# kind = "log"
# validity = 604800 # seconds: a week
# # In atomic units; assets that are not listed get no receipts.
# caps = [{ asset = "0x0000000000000000000000000000000000000000", coin = "1000000000000000000", wallet = "5000000000000000000" }]
# # Certificates of the TPM makers whose chips are trusted; paths are relative to this file.
# accept = [{ format = "tpm", roots = ["tpm-makers.pem"] }]
"#;

/// A registrar.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistrarCommand {
    /// Make what a registrar needs: its two keys, and a policy file to edit
    Init(Init),
    /// Answer wallets over HTTP, until SIGTERM or Ctrl-C
    Serve(Serve),
}

/// Whose keys.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Name of the registrar's key, made if there is none; NAME-policy is the second one
    #[arg(long, value_name = "NAME", default_value = "registrar")]
    from: String,
    /// The policy file, written if it is not there [default: registrar.toml in the home folder]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// With a class for development, which takes keys in files
    #[arg(long)]
    dev: bool,
}

/// Where and how.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    who: Who,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8406")]
    listen: String,
    /// Requests per second of one address; 0: any number
    #[arg(long, value_name = "N", default_value_t = 5)]
    per_ip: u32,
}

/// Which registrar.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Name of the registrar's key
    #[arg(long, value_name = "NAME", default_value = "registrar")]
    from: String,
    /// The policy file [default: registrar.toml in the home folder]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Allow classes for development
    #[arg(long)]
    allow_dev: bool,
}

/// Whom.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The wallet's id
    #[arg(value_name = "WALLET", value_parser = parse_wallet, required_unless_present = "class")]
    wallet: Option<WalletId>,
    /// All wallets of a class, those to come as well: 1, or dev-1
    #[arg(long, value_name = "N|dev-N", value_parser = parse_class, conflicts_with = "wallet")]
    class: Option<ClassId>,
    /// Name of the registrar's key
    #[arg(long, value_name = "NAME", default_value = "registrar")]
    from: String,
}

type Service = Registrar<SqliteRegistrarStore, OnChain>;

pub(super) async fn run(command: &RegistrarCommand, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        RegistrarCommand::Init(command) => init(command, config, out),
        RegistrarCommand::Serve(command) => run_service(command, config, out).await,
    }
}

fn policy_file(config: &Config, named: Option<&Path>) -> PathBuf {
    named.map_or_else(|| config.home.join("registrar.toml"), Path::to_owned)
}

/// The name of the key that authorises the beginnings of logs.
fn policy_key(name: &str) -> String {
    format!("{name}-policy")
}

fn init(command: &Init, config: &Config, out: Output) -> eyre::Result<()> {
    let (made, address) = keys::take_or_make(config, &command.from)?;
    keys::take_or_make(config, &policy_key(&command.from))?;
    let file = policy_file(config, command.policy.as_deref());
    let written = !file.exists();
    if written {
        replace(&file, if command.dev { DEV_POLICY } else { POLICY }.as_bytes())?;
    }
    let value = json!({ "registrar": address, "key": command.from, "made": made, "policy": file, "written": written });
    let how = if written { "written" } else { "left as it was" };
    let allow = if command.dev { " --allow-dev" } else { "" };
    out.answer(
        &value,
        format!(
            "{}\n\nNext: micropay offline registrar serve --from {}{allow}",
            rows(&[
                ("registrar", address.to_string()),
                (
                    "keys",
                    format!("{} and {}", command.from, policy_key(&command.from))
                ),
                ("policy", format!("{} ({how})", file.display())),
            ]),
            command.from
        ),
    )
}

async fn store(config: &Config, domain: Domain, registrar: Address) -> eyre::Result<SqliteRegistrarStore> {
    let file = stores::registrar_file(&config.home, domain, registrar)?;
    let identity = RegistrarIdentity {
        chain_id: domain.chain_id(),
        contract: domain.contract(),
        registrar,
    };
    SqliteRegistrarStore::open(&file, identity)
        .await
        .wrap_err_with(|| format!("the registrar's store {}", file.display()))
}

async fn run_service(command: &Serve, config: &Config, out: Output) -> eyre::Result<()> {
    let Who {
        from,
        policy,
        allow_dev,
    } = &command.who;
    // Everything that may be wrong with the settings is said before anything is opened.
    let file = policy_file(config, policy.as_deref());
    let policy = load(&file, *allow_dev)?;
    let finality = config.finality()?;
    let registrar = keys::address(config, from)?;
    let limits = Limits {
        per_ip: NonZeroU32::new(command.per_ip),
        ..limits()
    };
    let keys = Keys {
        registrar: keys::signing_key(config, from)?,
        policy: keys::p256_key(config, &policy_key(from))?,
    };
    let client = config.connect_vault().await?;
    let domain = client.domain();
    let vault = OnChain::connect(client, finality).await?;
    let store = store(config, domain, registrar).await?;
    let classes: Vec<_> = policy
        .classes()
        .iter()
        .map(|class| show_class(class.id))
        .collect();
    let service: Arc<Service> = Arc::new(Registrar::new(domain, keys, policy, vault, store.clone()));
    let mut stop = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(&command.listen)
        .await
        .wrap_err_with(|| command.listen.clone())?;
    let address = listener.local_addr()?;
    let value = json!({
        "listening": address.to_string(), "registrar": registrar, "chainId": domain.chain_id(),
        "vault": domain.contract(), "classes": classes,
    });
    let shown = if classes.is_empty() {
        format!("none: write them into {}", file.display())
    } else {
        classes.join(", ")
    };
    out.answer(
        &value,
        rows(&[
            ("registrar", registrar.to_string()),
            ("at", format!("http://{address}")),
            (
                "vault",
                format!("{} on chain {}", domain.contract(), domain.chain_id()),
            ),
            ("classes", shown),
        ]),
    )?;
    let stopped = async move {
        tokio::select! {
            _ = stop.recv() => {}
            // An error means that nobody can press it, which is no reason to end.
            Ok(()) = tokio::signal::ctrl_c() => {}
        }
    };
    serve(
        listener,
        router(service, Arc::new(clock::now), limits),
        limits,
        stopped,
    )
    .await;
    store.close().await;
    Ok(())
}

fn load(file: &Path, allow_dev: bool) -> eyre::Result<Policy> {
    if !file.exists() {
        return Err(usage(format!(
            "there is no policy {}: micropay offline registrar init",
            file.display()
        )));
    }
    Policy::load(file, allow_dev).map_err(|error| usage(format!("{}: {error}", file.display())))
}

/// The registrar's list first, which payees see; then the contract. Both stay as they are if they are asked again.
pub(super) async fn revoke(command: &Revoke, config: &Config, out: Output) -> eyre::Result<()> {
    let client = config.connect_vault().await?;
    let domain = client.domain();
    let account = keys::account(config, &command.from)?;
    let sender = Sender::new(client.clone(), account);
    let registrar = sender.address();
    if let Some(wallet) = command.wallet {
        let known = client.wallet_of(wallet, chain::At::Latest).await?;
        let known = known.ok_or_else(|| refused(format!("wallet {wallet} is not registered")))?;
        if known.registrar != registrar {
            return Err(refused(format!(
                "wallet {wallet} is registered by {}, not by {registrar}",
                known.registrar
            )));
        }
    }
    let keys = Keys {
        registrar: keys::signing_key(config, &command.from)?,
        policy: keys::p256_key(config, &policy_key(&command.from))?,
    };
    // Its rules do not matter here.
    let policy = Policy::parse("", Path::new("."), false)?;
    let vault = OnChain::connect(client, config.finality()?).await?;
    let store = store(config, domain, registrar).await?;
    let service: Service = Registrar::new(domain, keys, policy, vault, store.clone());
    let online = Online::new(sender);
    let now = clock::now();
    let (what, since, sent) = match (command.wallet, command.class) {
        (Some(wallet), _) => {
            let since = service.revoke(wallet, now).await?;
            (format!("wallet {wallet}"), since, online.revoke(wallet).await)
        }
        (None, Some(class)) => {
            let since = service.kill_class(class, now).await?;
            let name = format!("class {} of {registrar}", show_class(class));
            (name, since, online.kill_class(class).await)
        }
        (None, None) => return Err(usage("whom? WALLET or --class N")),
    };
    store.close().await;
    let mined = match sent {
        Ok(mined) => Some(mined),
        Err(wallet::OnlineError::Chain(error)) if is_stopped(&error) => None,
        Err(error) => {
            return Err(eyre::Report::from(error).wrap_err(format!(
                "{what} is in the list since {}, and the contract does not have it: the same command again goes on",
                date(since)
            )));
        }
    };
    let value = json!({
        "wallet": command.wallet.map(|wallet| wallet.0), "class": command.class.map(show_class), "registrar": registrar,
        "since": since.0, "transaction": mined.as_ref().map(|mined| mined.hash),
        "gas": mined.as_ref().map(|mined| mined.gas_used),
    });
    let chain = match &mined {
        Some(mined) => format!("the contract has it in block {}", mined.block.number),
        None => "the contract had it before".to_owned(),
    };
    out.answer(
        &value,
        format!(
            "{what} is withdrawn since {}; {chain}. Whoever paid before can leave for seven days more.",
            date(since)
        ),
    )
}

fn is_stopped(error: &chain::ChainError) -> bool {
    error
        .revert()
        .is_some_and(|revert| revert.to_string().contains("AlreadyStopped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_can_be_served() {
        let nothing = Policy::parse(POLICY, Path::new("."), false).expect("a policy");
        assert!(nothing.classes().is_empty());
        let dev = Policy::parse(DEV_POLICY, Path::new("."), true).expect("a policy");
        assert_eq!(dev.classes().len(), 1);
        assert!(Policy::parse(DEV_POLICY, Path::new("."), false).is_err());
    }
}
