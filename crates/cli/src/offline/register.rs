//! `micropay offline register`: the whole of a registration. The registrar looks at the component and vouches for it, the
//! owner takes that to the contract, and when it is there for good the registrar signs again, for payees. Every step is
//! answered alike when it is asked again, so the command may be killed anywhere and made again.

use std::fs;
use std::path::PathBuf;

use alloy::primitives::{Bytes, U256};
use alloy::sol_types::SolCall;
use bindings::offline::OfflineVault;
use chain::{At as Block, Client, Finality, Sender, Vaults};
use clap::Args;
use eyre::{WrapErr, ensure};
use protocol::offline::{ClassId, NameHash, Seconds, VouchedRegistration, WalletSignature};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;
use services::registrar::client::{RegistrarClient, Terms, index_name};
use services::registrar::wire::RegistrarAnswer;
use trusted::{MessageDigest, TrustedWallet};
use wallet::Device;

use super::ask::{names, take_lists, until};
use super::coins::ensure_domain;
use super::folder::{AskedTerms, At, Component, Folder, Wallet, parse_class, show_class};
use super::sent::{Call, done, send_once};
use super::wait_of;
use crate::config::Config;
use crate::exit::{refused, usage};
use crate::output::{Output, date, rows};
use crate::units::{Asset, parse_span};
use crate::{clock, keys};

/// The registration that is under way, in the wallet's folder.
const SENT: &str = "register.sent";

/// As what.
#[derive(Debug, Args)]
pub(crate) struct Register {
    #[command(flatten)]
    at: At,
    /// The class: 1, or dev-1 of one for development [default: the only one that fits]
    #[arg(long, value_name = "N|dev-N", value_parser = parse_class)]
    class: Option<ClassId>,
    /// What is put behind the wallet for those whom it might cheat, in the native asset, e.g. 0.1
    #[arg(long, value_name = "AMOUNT")]
    collateral: Option<String>,
    /// Certificates between the TPM's own and its maker's root (PEM)
    #[arg(long, value_name = "FILE")]
    intermediates: Option<PathBuf>,
    /// Key of the owner's account, which gets what the wallet's exits are worth
    #[arg(long, value_name = "KEY")]
    from: String,
    /// Longest wait until it is final; the same command again goes on
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "30m")]
    wait: Seconds,
}

pub(super) async fn run(command: &Register, config: &Config, out: Output) -> eyre::Result<()> {
    let mut folder = command.at.open()?;
    let mut component = folder.component()?;
    let key = component.key()?;
    ensure!(
        key.wallet() == folder.id(),
        "the component is wallet {}, the folder is of {}",
        key.wallet(),
        folder.id()
    );
    let registrar = folder.registrar()?;
    let owner = keys::address(config, &command.from)?;
    let terms = match folder.terms() {
        Some(terms) => same_terms(&folder, terms, owner, command.class)?,
        None => {
            let class = choose(&registrar.about().await?, &component, command.class)?;
            folder.settings.terms = Some(AskedTerms {
                owner,
                class: class.0,
            });
            // From here on it asks for this and nothing else.
            folder.save()?;
            Terms { owner, class }
        }
    };
    if let Some(registered) = books(&folder).await? {
        ensure!(
            registered == folder.id(),
            "the books are of wallet {registered}, the folder is of {}",
            folder.id()
        );
        // All that may be missing is a list.
        let mut device = Device::open(component.into_dyn(), folder.store().await?, folder.config()).await?;
        take_lists(&folder, &mut device).await?;
        return answer(&folder, &mut device, out).await;
    }
    let vouched = vouch(&registrar, &mut component, command, terms).await?;
    let client = config.connect_vault().await?;
    ensure_domain(client.domain(), folder.domain())?;
    let log = match &component {
        Component::Software(_) => NameHash::NONE,
        Component::Tpm(tpm) => index_name(tpm).hash(),
    };
    if !on_chain(&client, &folder, &terms, log).await? {
        let sender = Sender::new(client, keys::account(config, &command.from)?);
        let finality = config.finality()?;
        submit((&sender, finality), &folder, &mut component, &vouched, command).await?;
    }
    done(&folder.path.join(SENT))?;
    let wait = wait_of(command.wait);
    let registration = until("the registration is final", wait, || {
        registrar.registration(&key, terms)
    })
    .await?;
    let component = component.into_dyn();
    let mut device = Device::create(component, folder.store().await?, folder.config(), registration).await?;
    take_lists(&folder, &mut device).await?;
    answer(&folder, &mut device, out).await
}

/// The wallet that the books are of, if there are any.
async fn books(folder: &Folder) -> eyre::Result<Option<protocol::offline::WalletId>> {
    if !folder.is_registered() {
        return Ok(None);
    }
    let store = folder.store().await?;
    let saved = storage::offline::WalletStore::load_wallet(&store).await?;
    store.close().await?;
    Ok(saved.map(|saved| saved.payer.wallet().id()))
}

fn same_terms(
    folder: &Folder,
    terms: Terms,
    owner: alloy::primitives::Address,
    class: Option<ClassId>,
) -> eyre::Result<Terms> {
    let class = class.unwrap_or(terms.class);
    if (owner, class) == (terms.owner, terms.class) {
        return Ok(terms);
    }
    Err(refused(format!(
        "wallet {} asked for class {} and owner {}, not for class {} and owner {owner}: a wallet registers once",
        folder.id(),
        show_class(terms.class),
        terms.owner,
        show_class(class)
    )))
}

/// The class that is asked for, or the only one whose evidence the component can give.
fn choose(
    registrar: &RegistrarAnswer,
    component: &Component,
    asked: Option<ClassId>,
) -> eyre::Result<ClassId> {
    let format = component.format();
    let fits: Vec<_> = registrar
        .classes
        .iter()
        .filter(|class| class.formats.iter().any(|known| known == format))
        .collect();
    match (asked, &fits[..]) {
        (Some(asked), _) if fits.iter().any(|class| class.class == asked.0) => Ok(asked),
        (None, [only]) => Ok(ClassId(only.class)),
        (asked, _) => Err(refused(format!(
            "registrar {} takes {format} into {}: {}",
            registrar.registrar,
            names(fits.iter().copied()),
            asked.map_or_else(
                || "--class says which".to_owned(),
                |asked| format!("not into {}", show_class(asked))
            )
        ))),
    }
}

async fn vouch(
    registrar: &RegistrarClient,
    component: &mut Component,
    command: &Register,
    terms: Terms,
) -> eyre::Result<VouchedRegistration> {
    let now = clock::now();
    Ok(match component {
        // Software has nothing to show.
        Component::Software(software) => {
            registrar
                .register_evidence(software, terms, "software", |_| Bytes::new(), now)
                .await?
        }
        Component::Tpm(tpm) => {
            let intermediates = match &command.intermediates {
                None => Vec::new(),
                Some(file) => certificates(file)?,
            };
            registrar.register_tpm(tpm, terms, intermediates, now).await?
        }
    })
}

fn certificates(file: &PathBuf) -> eyre::Result<Vec<Bytes>> {
    let named = || file.display().to_string();
    let text = fs::read(file).wrap_err_with(named)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| usage(format!("{}: {error}", named())))?;
    Ok(found
        .into_iter()
        .map(|certificate| Bytes::copy_from_slice(&certificate))
        .collect())
}

/// Whether the contract has the wallet already, and as it should.
async fn on_chain(
    client: &Client<Vaults>,
    folder: &Folder,
    terms: &Terms,
    log: NameHash,
) -> eyre::Result<bool> {
    let Some(known) = client.wallet_of(folder.id(), Block::Latest).await? else {
        return Ok(false);
    };
    let got = (
        known.owner,
        known.registrar,
        ClassId(known.class),
        NameHash(known.log),
    );
    let needed = (terms.owner, folder.settings.registrar.address, terms.class, log);
    if got == needed {
        return Ok(true);
    }
    Err(refused(format!(
        "the contract has wallet {} with owner, registrar, class and log {got:?}, not {needed:?}",
        folder.id()
    )))
}

async fn submit(
    (sender, finality): (&Sender<Vaults>, Finality),
    folder: &Folder,
    component: &mut Component,
    vouched: &VouchedRegistration,
    command: &Register,
) -> eyre::Result<()> {
    let domain = folder.domain();
    let collateral = match &command.collateral {
        Some(text) => Asset::ether().parse(text)?.0,
        None => 0,
    };
    let digest = MessageDigest(domain.registration_digest(&vouched.registration).0.0);
    let possession = match component {
        Component::Software(software) => software.sign(digest)?,
        Component::Tpm(tpm) => tpm.sign(digest)?,
    };
    let possession = WalletSignature::normalised(&possession.0)?;
    let call = OfflineVault::registerCall {
        registration: vouched.registration.to_sol(),
        key: vouched.key.to_sol(),
        registrar: vouched.registrar(&domain)?,
        vouched: vouched.signature.to_sol(),
        possession: possession.to_sol(),
    };
    let purpose = json!({ "register": folder.id().0, "collateral": collateral.to_string() });
    let file = folder.path.join(SENT);
    send_once(sender, (&file, finality), purpose, || Call {
        data: call.abi_encode().into(),
        value: U256::from(collateral),
    })
    .await?;
    Ok(())
}

async fn answer(folder: &Folder, device: &mut Wallet, out: Output) -> eyre::Result<()> {
    let wallet = device.wallet().await?;
    let registration = wallet.registration;
    let value = json!({
        "wallet": folder.id().0, "owner": registration.owner, "class": show_class(registration.class),
        "kind": registration.kind().to_string(), "registrar": folder.settings.registrar.address,
        "validUntil": registration.valid_until.0,
    });
    let path = folder.path.display();
    let next = if folder.settings.accept.is_empty() {
        format!(
            "\n\nIt takes nobody's payments yet: micropay offline wallet accept --wallet {path} --limit AMOUNT"
        )
    } else {
        String::new()
    };
    out.answer(
        &value,
        format!(
            "{}{next}",
            rows(&[
                ("wallet", folder.id().to_string()),
                ("owner", registration.owner.to_string()),
                (
                    "class",
                    format!(
                        "{} ({}) of {}",
                        show_class(registration.class),
                        registration.kind(),
                        folder.settings.registrar.address
                    ),
                ),
                ("until", date(registration.valid_until)),
            ])
        ),
    )
}
