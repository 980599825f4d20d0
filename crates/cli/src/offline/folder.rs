//! A wallet is a folder: the component's files (`crates/trusted`), its books (`wallet.sqlite`), and `wallet.toml`: where the
//! component is, whose wallet it is, and whose transfers it takes for money. The settings hold no secret and may be edited.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use clap::Args;
use eyre::WrapErr;
use protocol::offline::{
    AcceptedClass, Amount, ClassId, Domain, PayeePolicy, PayerPolicy, Sequence, WalletId, WalletKey,
};
use serde::{Deserialize, Serialize};
use services::registrar::client::{RegistrarClient, Terms, wallet_key};
use storage::{SqliteStore, StoreIdentity};
use trusted::tpm::transport::Place;
use trusted::tpm::{LogIndex, Passwords};
use trusted::{Software, Tpm, TrustedError, TrustedWallet};
use url::Url;
use wallet::{Device, DeviceError, Edges};

use crate::clock;
use crate::exit::{refused, usage};
use crate::keys::private_folder;
use crate::units::{Asset, decimal};

const SETTINGS: &str = "wallet.toml";
/// The books.
pub(crate) const BOOKS: &str = "wallet.sqlite";
/// The component's name in the settings, where it is no TPM.
const SOFTWARE: &str = "software";

/// A wallet whose component was chosen when it was made.
pub(crate) type Wallet = Device<Box<dyn TrustedWallet>, SqliteStore>;

/// Which wallet is meant.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// The wallet's folder
    #[arg(long = "wallet", value_name = "DIR", env = "MICROPAY_WALLET")]
    path: PathBuf,
}

/// What a wallet goes by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The vault's chain.
    pub(crate) chain_id: u64,
    /// The vault.
    pub(crate) vault: Address,
    /// `software`, the path of a TPM, or `swtpm:ADDRESS:PORT`.
    pub(crate) component: String,
    /// Whether classes for development are taken, which no hardware guards.
    #[serde(default)]
    pub(crate) allow_dev: bool,
    /// The wallet's name, once its component is made.
    pub(crate) wallet: Option<B256>,
    /// Who registers it.
    pub(crate) registrar: Registrar,
    /// What it was registered as, or is being.
    pub(crate) terms: Option<AskedTerms>,
    /// Whose transfers are taken for money.
    #[serde(default)]
    pub(crate) accept: Vec<Accept>,
    /// Tokens as they describe themselves, which is not to be had offline.
    #[serde(default)]
    pub(crate) token: Vec<Token>,
}

/// Who signs, and where it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registrar {
    pub(crate) address: Address,
    pub(crate) url: Url,
}

/// What a wallet asked to be registered as: asked again, it asks for the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedTerms {
    pub(crate) owner: Address,
    pub(crate) class: u32,
}

/// A class that is taken, in one asset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accept {
    pub(crate) registrar: Address,
    /// Where its revocation lists are to be had.
    pub(crate) url: Url,
    pub(crate) class: u32,
    pub(crate) asset: Address,
    /// Most that is held of it, unsettled; atomic units.
    #[serde(with = "decimal")]
    pub(crate) limit: u128,
    /// Least worth of a payment; atomic units.
    #[serde(with = "decimal")]
    pub(crate) least: u128,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) address: Address,
    pub(crate) symbol: String,
    pub(crate) decimals: u8,
}

/// The component, while it is known what it is.
pub(crate) enum Component {
    Software(Software),
    Tpm(Box<Tpm>),
}

/// A wallet's folder with its settings.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) settings: Settings,
}

impl At {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The wallet that is there.
    pub(crate) fn open(&self) -> eyre::Result<Folder> {
        let folder = Folder::open(&self.path)?;
        let folder = folder.filter(|folder| folder.settings.wallet.is_some());
        folder.ok_or_else(|| {
            let path = self.path.display();
            usage(format!(
                "there is no wallet in {path}: micropay offline wallet new --wallet {path} …"
            ))
        })
    }
}

impl Folder {
    /// What is there, whether it was finished or not.
    pub(crate) fn open(path: &Path) -> eyre::Result<Option<Self>> {
        let file = path.join(SETTINGS);
        if !file.exists() {
            return Ok(None);
        }
        let named = || file.display().to_string();
        let text = fs::read_to_string(&file).wrap_err_with(named)?;
        let settings = toml::from_str(&text).map_err(|error| usage(format!("{}: {error}", named())))?;
        Ok(Some(Self {
            path: path.to_owned(),
            settings,
        }))
    }

    /// Writes the settings.
    pub(crate) fn save(&self) -> eyre::Result<()> {
        private_folder(&self.path)?;
        replace(
            &self.path.join(SETTINGS),
            toml::to_string(&self.settings)?.as_bytes(),
        )
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain::new(self.settings.chain_id, self.settings.vault)
    }

    /// Which wallet.
    pub(crate) fn id(&self) -> WalletId {
        WalletId(self.settings.wallet.unwrap_or_default())
    }

    /// Its registrar.
    pub(crate) fn registrar(&self) -> eyre::Result<RegistrarClient> {
        let Registrar { address, url } = &self.settings.registrar;
        Ok(RegistrarClient::new(url.clone(), self.domain(), *address)?)
    }

    /// An asset as far as this wallet knows it without a chain.
    pub(crate) fn asset(&self, address: Address) -> Asset {
        let known = self.settings.token.iter().find(|token| token.address == address);
        known.map_or_else(
            || Asset::offline(address),
            |token| Asset::token(address, &token.symbol, token.decimals),
        )
    }

    /// Remembers how a token describes itself.
    pub(crate) fn learn(&mut self, asset: &Asset) -> eyre::Result<()> {
        if asset.address == Address::ZERO || self.asset(asset.address) == *asset {
            return Ok(());
        }
        self.settings.token.retain(|token| token.address != asset.address);
        self.settings.token.push(Token {
            address: asset.address,
            symbol: asset.symbol.clone(),
            decimals: asset.decimals,
        });
        self.save()
    }

    /// Whether it has books: it is registered.
    pub(crate) fn is_registered(&self) -> bool {
        self.path.join(BOOKS).exists()
    }

    /// Opens the component. One process at a time has it.
    pub(crate) fn component(&self) -> eyre::Result<Component> {
        let text = &self.settings.component;
        if text == SOFTWARE {
            return Ok(Component::Software(Software::open(&self.path)?));
        }
        let tpm = Tpm::open(connect(&place(text)?)?, &self.path, Passwords::default())?;
        Ok(Component::Tpm(Box::new(tpm)))
    }

    /// Makes the component, or opens the one that an interrupted call made. `index` is for a TPM.
    pub(crate) fn make_component(&self, index: Option<LogIndex>) -> eyre::Result<Component> {
        let (made, index) = match index {
            None => (Software::create(&self.path).map(Component::Software), None),
            Some(index) => {
                let transport = connect(&place(&self.settings.component)?)?;
                let made = Tpm::create(transport, &self.path, Passwords::default(), index);
                (made.map(|tpm| Component::Tpm(Box::new(tpm))), Some(index))
            }
        };
        match made {
            Err(TrustedError::Exists(_)) => {}
            made => return Ok(made?),
        }
        let mut component = self.component()?;
        if let (Component::Tpm(tpm), Some(_)) = (&mut component, index) {
            // The file was written, and the index may not have been.
            match tpm.define() {
                Err(error) if error.refusal().as_deref() == Some("TPM_RC_NV_DEFINED") => {}
                defined => defined?,
            }
        }
        Ok(component)
    }

    /// What the device goes by.
    pub(crate) fn config(&self) -> wallet::Config {
        let classes = self.settings.accept.iter().map(|accept| AcceptedClass {
            registrar: accept.registrar,
            class: ClassId(accept.class),
            asset: accept.asset,
            accept_limit: Amount(accept.limit),
            min_fragment: Amount(accept.least),
        });
        wallet::Config {
            domain: self.domain(),
            payer: PayerPolicy::default(),
            payee: PayeePolicy {
                classes: classes.collect(),
                allow_dev: self.settings.allow_dev,
                ..PayeePolicy::default()
            },
            edges: Edges {
                now: clock::now,
                random: clock::random,
            },
        }
    }

    /// The books. Made if there are none.
    pub(crate) async fn store(&self) -> eyre::Result<SqliteStore> {
        let identity = StoreIdentity::wallet(self.settings.chain_id, self.settings.vault, self.id());
        let file = self.path.join(BOOKS);
        SqliteStore::open(&file, identity)
            .await
            .wrap_err_with(|| format!("the wallet's books {}", file.display()))
    }

    /// The wallet at work.
    pub(crate) async fn device(&self) -> eyre::Result<Wallet> {
        let unregistered = || {
            refused(format!(
                "wallet {} is not registered: micropay offline register --wallet {} --from KEY",
                self.id(),
                self.path.display()
            ))
        };
        if !self.is_registered() {
            return Err(unregistered());
        }
        // The component first: who has it has the folder.
        let component = self.component()?.into_dyn();
        match Device::open(component, self.store().await?, self.config()).await {
            // A registration that was interrupted.
            Err(DeviceError::NoBooks(_)) => Err(unregistered()),
            opened => Ok(opened?),
        }
    }

    /// What it is registered as.
    pub(crate) fn terms(&self) -> Option<Terms> {
        self.settings.terms.map(|terms| Terms {
            owner: terms.owner,
            class: ClassId(terms.class),
        })
    }
}

impl Component {
    pub(crate) fn key(&self) -> eyre::Result<WalletKey> {
        let key = match self {
            Self::Software(software) => software.public_key(),
            Self::Tpm(tpm) => tpm.public_key(),
        };
        Ok(wallet_key(key)?)
    }

    pub(crate) fn into_dyn(self) -> Box<dyn TrustedWallet> {
        match self {
            Self::Software(software) => Box::new(software),
            Self::Tpm(tpm) => tpm,
        }
    }

    /// Name of the evidence's format that a registrar is given.
    pub(crate) fn format(&self) -> &'static str {
        match self {
            Self::Software(_) => "software",
            Self::Tpm(_) => "tpm",
        }
    }
}

/// How the settings name a component.
pub(crate) fn component_name(place: Option<&Place>) -> String {
    place.map_or_else(|| SOFTWARE.to_owned(), Place::to_string)
}

fn place(text: &str) -> eyre::Result<Place> {
    text.parse()
        .map_err(|error| usage(format!("the component {text:?} is no TPM's place: {error}")))
}

fn connect(place: &Place) -> eyre::Result<Box<dyn trusted::tpm::transport::Transport>> {
    place
        .connect()
        .map_err(|error| crate::exit::again(format!("no TPM answers at {place}: {error}")))
}

/// A class as people write it: `1`, or `dev-1` of one that no hardware guards.
pub(crate) fn parse_class(text: &str) -> Result<ClassId, String> {
    let (dev, number) = match text.strip_prefix("dev-") {
        Some(number) => (true, number),
        None => (false, text),
    };
    match number.parse::<u32>() {
        Ok(number) if number >= ClassId::DEV => Err(format!(
            "class {number} is not below {}: a class for development is written dev-{}",
            ClassId::DEV,
            number & !ClassId::DEV
        )),
        Ok(number) if dev => Ok(ClassId::dev(number)),
        Ok(number) => Ok(ClassId(number)),
        Err(_) => Err(format!("a class is written 1, or dev-1, got {text:?}")),
    }
}

/// The inverse of [`parse_class`].
pub(crate) fn show_class(class: ClassId) -> String {
    if class.is_dev() {
        format!("dev-{}", class.0 & !ClassId::DEV)
    } else {
        class.to_string()
    }
}

/// Replaces a file that only its owner reads: after a crash it is the old or the new one, after the return the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> eyre::Result<()> {
    let named = || path.display().to_string();
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&part).wrap_err_with(named)?;
    file.write_all(content).wrap_err_with(named)?;
    file.sync_all().wrap_err_with(named)?;
    fs::rename(&part, path).wrap_err_with(named)?;
    sync_folder(path)
}

/// Removes a file for good.
pub(crate) fn remove(path: &Path) -> eyre::Result<()> {
    fs::remove_file(path).wrap_err_with(|| path.display().to_string())?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> eyre::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?)
}

/// Number of a wallet's transfers, for people.
pub(crate) fn transfers(sequence: Sequence) -> String {
    crate::output::count(sequence.0, "transfer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_written_as_they_are_read() {
        for class in [ClassId(0), ClassId(7), ClassId::dev(1), ClassId::dev(0)] {
            assert_eq!(parse_class(&show_class(class)), Ok(class));
        }
        for wrong in ["", "dev", "dev-", "dev-x", "-1", "2147483649", "dev-2147483649"] {
            assert!(parse_class(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        let url: Url = "http://127.0.0.1:8406".parse().expect("a constant");
        let settings = Settings {
            chain_id: 31_337,
            vault: Address::repeat_byte(1),
            component: SOFTWARE.to_owned(),
            allow_dev: true,
            wallet: Some(B256::repeat_byte(2)),
            registrar: Registrar {
                address: Address::repeat_byte(3),
                url: url.clone(),
            },
            terms: Some(AskedTerms {
                owner: Address::repeat_byte(4),
                class: ClassId::dev(1).0,
            }),
            accept: vec![Accept {
                registrar: Address::repeat_byte(3),
                url,
                class: 1,
                asset: Address::ZERO,
                limit: u128::MAX,
                least: 0,
            }],
            token: vec![Token {
                address: Address::repeat_byte(5),
                symbol: "TST".to_owned(),
                decimals: 6,
            }],
        };
        let text = toml::to_string(&settings).expect("settings");
        assert_eq!(toml::from_str::<Settings>(&text).expect("settings"), settings);
    }
}
