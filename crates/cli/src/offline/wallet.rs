//! `micropay offline wallet`: makes a wallet, says whose transfers it takes for money, shows it.

use std::net::SocketAddr;
use std::path::PathBuf;

use alloy::primitives::{Address, U256};
use clap::{Args, Subcommand};
use protocol::offline::{ClassId, Domain, WalletId};
use serde_json::{Value, json};
use services::registrar::client::RegistrarClient;
use trusted::tpm::transport::Place;
use trusted::tpm::{IndexHandle, LogIndex};
use url::Url;

use super::ask::{about, check_vault, names, take_lists};
use super::folder::{Accept, At, Folder, Registrar, Settings, component_name, parse_class, show_class};
use super::{books, coins};
use crate::config::Config;
use crate::exit::{refused, usage};
use crate::output::{Output, rows};
use crate::units::Asset;

/// Where a wallet's log is in a TPM, if nothing else is said.
const INDEX: u32 = 0x0150_0030;

/// A wallet.
#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a wallet: a key in a trusted component, in a folder of its own. Prints its id
    New(New),
    /// Show a wallet: its component, its registrar, what it takes for money
    Show(At),
    /// Take (or take no more) what wallets of a class pay, up to a limit
    Accept(AcceptClass),
    /// Import coins that are final: those of the chain, or one from a coin file
    Import(coins::Import),
    /// What the wallet has: held, offline-accepted, exited, claimed and settled apart
    Balance(books::Balance),
    /// What happened, the last first
    History(books::History),
    /// Copy what may be copied safely into a new folder
    Backup(books::Backup),
}

/// Where the key lives, and who registers it.
#[derive(Debug, Args)]
pub(crate) struct New {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    component: ComponentArgs,
    /// Index of the wallet's log in the TPM, of which each wallet needs its own
    #[arg(long, value_name = "HANDLE", value_parser = parse_handle, default_value = "0x01500030")]
    index: IndexHandle,
    /// Where the wallet's registrar answers
    #[arg(long, value_name = "URL")]
    registrar: Url,
    /// Who must answer there [default: whoever does]
    #[arg(long, value_name = "ADDRESS")]
    registrar_address: Option<Address>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ComponentArgs {
    /// In a TPM 2.0
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, default_missing_value = "/dev/tpmrm0")]
    tpm: Option<PathBuf>,
    /// In a software TPM, which is none: only for development
    #[arg(long, value_name = "ADDRESS:PORT")]
    swtpm: Option<SocketAddr>,
    /// In files, which whoever copies them can spend twice: only for development
    #[arg(long)]
    software: bool,
}

/// A class of wallets whose payments are taken.
#[derive(Debug, Args)]
pub(crate) struct AcceptClass {
    #[command(flatten)]
    at: At,
    /// The class: 1, or dev-1 of one for development [default: the wallet's own]
    #[arg(long, value_name = "N|dev-N", value_parser = parse_class)]
    class: Option<ClassId>,
    /// Where the class's registrar answers [default: the wallet's own]
    #[arg(long, value_name = "URL")]
    registrar: Option<Url>,
    /// Most that is held, unsettled, of what this class paid. It may all be lost if the class is broken
    #[arg(long, value_name = "AMOUNT", required_unless_present = "remove")]
    limit: Option<String>,
    /// Least worth of one payment
    #[arg(long, value_name = "AMOUNT")]
    least: Option<String>,
    /// Token address [default: the native asset]
    #[arg(long, default_value_t = Address::ZERO, hide_default_value = true)]
    token: Address,
    /// Take classes for development, which no hardware guards
    #[arg(long)]
    allow_dev: bool,
    /// Take the class no more
    #[arg(long, conflicts_with_all = ["limit", "least", "allow_dev"])]
    remove: bool,
}

pub(super) async fn run(command: &WalletCommand, config: &Config, out: Output) -> eyre::Result<()> {
    match command {
        WalletCommand::New(new) => make(new, config, out).await,
        WalletCommand::Show(at) => {
            let folder = at.open()?;
            out.answer(&describe(&folder), text(&folder))
        }
        WalletCommand::Accept(accept) => accept_class(accept, config, out).await,
        WalletCommand::Import(import) => coins::import(import, config, out).await,
        WalletCommand::Balance(balance) => books::balance(balance, out).await,
        WalletCommand::History(history) => books::history(history, out).await,
        WalletCommand::Backup(backup) => books::backup(backup, out).await,
    }
}

/// The settings are there before the component is made, so that a second call finishes what a first one began.
async fn make(new: &New, config: &Config, out: Output) -> eyre::Result<()> {
    let place = match (&new.component.tpm, new.component.swtpm) {
        (Some(device), _) => Some(Place::Device(device.clone())),
        (_, Some(address)) => Some(Place::Swtpm(address)),
        (None, None) => None,
    };
    let component = component_name(place.as_ref());
    let mut folder = match Folder::open(new.at.path())? {
        Some(folder) if folder.settings.wallet.is_some() => {
            return Err(refused(format!(
                "there is wallet {} in {} already",
                folder.id(),
                folder.path.display()
            )));
        }
        Some(folder) => {
            let known = &folder.settings;
            if (&known.component, &known.registrar.url) != (&component, &new.registrar) {
                return Err(refused(format!(
                    "{} was begun with {} and registrar {}, not with {component} and {}",
                    folder.path.display(),
                    known.component,
                    known.registrar.url,
                    new.registrar
                )));
            }
            folder
        }
        None => begin(new, component, config).await?,
    };
    let index = match place {
        None => None,
        // A log begins with the registrar's word: its key is part of the index.
        Some(_) => Some(LogIndex {
            handle: new.index,
            registrar: folder.registrar()?.policy_key().await?,
        }),
    };
    let made = folder.make_component(index)?;
    folder.settings.wallet = Some(made.key()?.wallet().0);
    drop(made);
    folder.save()?;
    let warning = match (&new.component.tpm, new.component.swtpm) {
        (Some(_), _) => String::new(),
        (None, Some(_)) => {
            "\n\nDEVELOPMENT ONLY: a software TPM is a file, and whoever copies it pays twice. \
                            Registrars and payees refuse it unless they say otherwise."
                .to_owned()
        }
        (None, None) => "\n\nDEVELOPMENT ONLY: the key is in a file, and whoever copies it pays twice. \
                         Registrars and payees refuse it unless they say otherwise."
            .to_owned(),
    };
    let path = folder.path.display();
    out.answer(
        &describe(&folder),
        format!(
            "{}{warning}\n\nNext: micropay offline register --wallet {path} --from KEY",
            text(&folder)
        ),
    )
}

async fn begin(new: &New, component: String, config: &Config) -> eyre::Result<Folder> {
    let answer = about(&new.registrar).await?;
    if let Some(needed) = new.registrar_address
        && answer.registrar != needed
    {
        return Err(refused(format!(
            "the registrar at {} is {}, not {needed}",
            new.registrar, answer.registrar
        )));
    }
    // Whose word it is which chain this is: the configuration's where it has one.
    let chain_id = config.chain_id.unwrap_or(answer.chain_id);
    check_vault(&answer, Domain::new(chain_id, config.vault()))?;
    let folder = Folder {
        path: new.at.path().to_owned(),
        settings: Settings {
            chain_id,
            vault: config.vault(),
            component,
            allow_dev: false,
            wallet: None,
            registrar: Registrar {
                address: answer.registrar,
                url: new.registrar.clone(),
            },
            terms: None,
            accept: Vec::new(),
            token: Vec::new(),
        },
    };
    folder.save()?;
    Ok(folder)
}

async fn accept_class(command: &AcceptClass, config: &Config, out: Output) -> eyre::Result<()> {
    let mut folder = command.at.open()?;
    let own = folder.settings.terms.map(|terms| ClassId(terms.class));
    let class = command.class.or(own).ok_or_else(|| {
        usage("which class? --class N, as the wallet has none itself before micropay offline register")
    })?;
    let registrar = match &command.registrar {
        None => folder.settings.registrar.clone(),
        Some(url) => {
            let answer = about(url).await?;
            check_vault(&answer, folder.domain())?;
            Registrar {
                address: answer.registrar,
                url: url.clone(),
            }
        }
    };
    let same = |accept: &Accept| {
        (accept.registrar, accept.class, accept.asset) == (registrar.address, class.0, command.token)
    };
    if command.remove {
        let before = folder.settings.accept.len();
        folder.settings.accept.retain(|accept| !same(accept));
        if folder.settings.accept.len() == before {
            return Err(refused(format!(
                "class {} of {} is not taken anyway",
                show_class(class),
                registrar.address
            )));
        }
        folder.save()?;
        return out.answer(&describe(&folder), text(&folder));
    }
    if class.is_dev() && !(folder.settings.allow_dev || command.allow_dev) {
        return Err(refused(format!(
            "class {} of {} is for development: its owners can spend twice; --allow-dev takes it all the same",
            show_class(class),
            registrar.address
        )));
    }
    let client = RegistrarClient::new(registrar.url.clone(), folder.domain(), registrar.address)?;
    let known = client.about().await?.classes;
    if !known.iter().any(|known| known.class == class.0) {
        return Err(refused(format!(
            "registrar {} has no class {}, but {}",
            registrar.address,
            show_class(class),
            names(&known)
        )));
    }
    let asset = match command.token {
        Address::ZERO => Asset::ether(),
        token => Asset::read(&config.connect_vault_before_deploy().await?, token).await?,
    };
    let amount = |text: &Option<String>| match text {
        Some(text) => asset.parse(text).map(|amount| amount.0),
        None => Ok(0),
    };
    let accept = Accept {
        registrar: registrar.address,
        url: registrar.url.clone(),
        class: class.0,
        asset: command.token,
        limit: amount(&command.limit)?,
        least: amount(&command.least)?,
    };
    folder.learn(&asset)?;
    folder.settings.accept.retain(|accept| !same(accept));
    folder.settings.accept.push(accept);
    folder.settings.allow_dev |= command.allow_dev;
    folder.save()?;
    if folder.is_registered() {
        // Nothing of a registrar is taken without its list of who is withdrawn.
        take_lists(&folder, &mut folder.device().await?).await?;
    }
    out.answer(&describe(&folder), text(&folder))
}

fn describe(folder: &Folder) -> Value {
    let settings = &folder.settings;
    json!({
        "wallet": folder.id().0, "folder": folder.path, "chainId": settings.chain_id, "vault": settings.vault,
        "component": settings.component, "registered": folder.is_registered(),
        "registrar": settings.registrar.address, "registrarUrl": settings.registrar.url,
        "owner": settings.terms.map(|terms| terms.owner),
        "class": settings.terms.map(|terms| show_class(ClassId(terms.class))),
        "allowDev": settings.allow_dev,
        "accepts": settings.accept.iter().map(|accept| json!({
            "registrar": accept.registrar, "class": show_class(ClassId(accept.class)), "asset": accept.asset,
            "limit": accept.limit.to_string(), "least": accept.least.to_string(),
        })).collect::<Vec<_>>(),
    })
}

fn text(folder: &Folder) -> String {
    let settings = &folder.settings;
    let registered = match settings.terms {
        Some(terms) if folder.is_registered() => {
            format!(
                "class {}, owner {}",
                show_class(ClassId(terms.class)),
                terms.owner
            )
        }
        Some(terms) => format!(
            "begun, for class {}, owner {}",
            show_class(ClassId(terms.class)),
            terms.owner
        ),
        None => "not yet".to_owned(),
    };
    let mut lines = vec![
        ("wallet", folder.id().to_string()),
        ("component", settings.component.clone()),
        (
            "vault",
            format!("{} on chain {}", settings.vault, settings.chain_id),
        ),
        (
            "registrar",
            format!("{} at {}", settings.registrar.address, settings.registrar.url),
        ),
        ("registered", registered),
    ];
    if settings.accept.is_empty() {
        lines.push(("takes", "nothing: micropay offline wallet accept".to_owned()));
    }
    for accept in &settings.accept {
        let asset = folder.asset(accept.asset);
        lines.push((
            "takes",
            format!(
                "up to {} of class {} of {}, {} at least",
                asset.show(U256::from(accept.limit)),
                show_class(ClassId(accept.class)),
                accept.registrar,
                asset.show(U256::from(accept.least))
            ),
        ));
    }
    rows(&lines)
}

fn parse_handle(text: &str) -> Result<IndexHandle, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u32::from_str_radix(digits, 16) {
        Ok(handle) if handle >> 24 == INDEX >> 24 => Ok(IndexHandle(handle)),
        _ => Err(format!(
            "an index is 0x01000000 to 0x01ffffff, the usual one {INDEX:#010x}, got {text:?}"
        )),
    }
}

/// A wallet's id, as `wallet new` prints it.
pub(crate) fn parse_wallet(text: &str) -> Result<WalletId, String> {
    text.parse()
        .map(WalletId)
        .map_err(|_| format!("a wallet's id is 0x and 64 hexadecimal digits, got {text:?}"))
}
