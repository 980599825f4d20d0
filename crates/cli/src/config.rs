//! Where settings come from, later ones winning: defaults, the configuration file, the environment, the command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use alloy::primitives::Address;
use chain::{ChainClient, ChainConfig, ChainError, Channels, Client, Finality, Scheme, Tickets, Vaults};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use protocol::channel;
use protocol::ticket::Domain;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use crate::exit::usage;

/// Where `--help` lists the options of every command.
pub(crate) const GLOBAL: &str = "Global options";

/// Settings of every command. In the file under these names; in the environment as `MICROPAY_RPC_URL` and so on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Folder of keys and stores.
    pub(crate) home: PathBuf,
    /// JSON-RPC address of a node.
    pub(crate) rpc_url: Url,
    /// The chain that the node must be on; asked from the node if absent.
    pub(crate) chain_id: Option<u64>,
    /// Address of the ticket escrow contract; the usual one (CREATE2) if absent.
    pub(crate) contract: Option<Address>,
    /// Address of the payment channel contract; the usual one (CREATE2) if absent.
    pub(crate) channel_contract: Option<Address>,
    /// Address of the offline vault; the usual one (CREATE2) if absent.
    pub(crate) offline_contract: Option<Address>,
    /// Blocks that make a block final, or `finalized` to ask the node.
    #[serde(deserialize_with = "text_or_number")]
    pub(crate) finality: String,
    /// Longest wait for an answer of the node, seconds.
    pub(crate) request_timeout_secs: u64,
    /// File with the keystore password in its first line.
    pub(crate) password_file: Option<PathBuf>,
    /// Name of the escrow key that `get` pays with.
    pub(crate) escrow: Option<String>,
    /// Name of the key that signs the receipts of channels; `channel open` makes it.
    pub(crate) receipts: String,
}

/// What the command line says; absent values leave the other sources alone.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
pub(crate) struct Overrides {
    /// Folder of keys and stores [default: ~/.local/share/micropay]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<PathBuf>,
    /// JSON-RPC address of a node [default: http://127.0.0.1:8545]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rpc_url: Option<Url>,
    /// The chain that the node must be on [default: the node's]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<u64>,
    /// The ticket escrow contract [default: its CREATE2 address, the same on every chain]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<Address>,
    /// The payment channel contract [default: its CREATE2 address, the same on every chain]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_contract: Option<Address>,
    /// The offline vault [default: its CREATE2 address, the same on every chain]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_contract: Option<Address>,
    /// Blocks that make a block final, or "finalized" to ask the node [default: finalized]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "N|finalized")]
    #[serde(skip_serializing_if = "Option::is_none")]
    finality: Option<String>,
    /// File with the keystore password in its first line; else MICROPAY_PASSWORD, else asked
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
}

/// `finality = 12` as well as `finality = "finalized"`; the environment makes a number of `12`, too.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrNumber {
        Number(u64),
        Text(String),
    }
    Ok(match TextOrNumber::deserialize(deserializer)? {
        TextOrNumber::Number(number) => number.to_string(),
        TextOrNumber::Text(text) => text,
    })
}

impl Config {
    /// Reads all sources. `file` is the configuration file named on the command line.
    pub(crate) fn load(file: Option<&Path>, overrides: &Overrides) -> eyre::Result<Self> {
        let defaults = Self {
            home: dirs::data_dir()
                .unwrap_or_else(|| PathBuf::from("."))
                .join("micropay"),
            rpc_url: Url::parse("http://127.0.0.1:8545").expect("a constant"),
            chain_id: None,
            contract: None,
            channel_contract: None,
            offline_contract: None,
            finality: "finalized".into(),
            request_timeout_secs: 10,
            password_file: None,
            escrow: None,
            receipts: "receipts".into(),
        };
        let file = match file {
            Some(file) => {
                if !file.exists() {
                    return Err(usage(format!(
                        "there is no configuration file {}",
                        file.display()
                    )));
                }
                Some(file.to_owned())
            }
            None => dirs::config_dir().map(|dir| dir.join("micropay").join("config.toml")),
        };
        let mut figment = Figment::from(Serialized::defaults(defaults));
        if let Some(file) = file {
            figment = figment.merge(Toml::file(file));
        }
        let known = [
            "home",
            "rpc_url",
            "chain_id",
            "contract",
            "channel_contract",
            "offline_contract",
            "finality",
            "request_timeout_secs",
            "password_file",
            "escrow",
            "receipts",
        ];
        let config: Self = figment
            .merge(Env::prefixed("MICROPAY_").only(&known))
            .merge(Serialized::globals(overrides))
            .extract()
            .map_err(|error| usage(format!("configuration: {error}")))?;
        Ok(Self {
            // `MICROPAY_PASSWORD_FILE=` takes it back.
            password_file: config.password_file.filter(|file| !file.as_os_str().is_empty()),
            ..config
        })
    }

    /// When a block counts as final.
    pub(crate) fn finality(&self) -> eyre::Result<Finality> {
        if self.finality == "finalized" {
            return Ok(Finality::Finalized);
        }
        u64::from_str(&self.finality).map(Finality::Depth).map_err(|_| {
            usage(format!(
                "finality is {:?}, neither a number of blocks nor \"finalized\"",
                self.finality
            ))
        })
    }

    /// Connects to the node and makes sure of chain and ticket contract.
    pub(crate) async fn connect(&self) -> eyre::Result<ChainClient> {
        let client = self.connect_before_deploy().await?;
        client.check_contract().await?;
        Ok(client)
    }

    /// Connects to the node and makes sure of chain and channel contract.
    pub(crate) async fn connect_channels(&self) -> eyre::Result<Client<Channels>> {
        let client = self.connect_channels_before_deploy().await?;
        client.check_contract().await?;
        Ok(client)
    }

    /// Connects to the node and makes sure of chain and offline vault.
    pub(crate) async fn connect_vault(&self) -> eyre::Result<Client<Vaults>> {
        let client = self.connect_vault_before_deploy().await?;
        client.check_contract().await?;
        Ok(client)
    }

    /// Connects to the node and makes sure of the chain.
    pub(crate) async fn connect_before_deploy(&self) -> Result<ChainClient, ChainError> {
        self.client(self.domain().await?.contract()).await
    }

    /// The same for the channel contract.
    pub(crate) async fn connect_channels_before_deploy(&self) -> Result<Client<Channels>, ChainError> {
        self.client(self.channel_domain().await?.contract()).await
    }

    /// The same for the offline vault.
    pub(crate) async fn connect_vault_before_deploy(&self) -> Result<Client<Vaults>, ChainError> {
        self.client(self.vault()).await
    }

    /// The offline vault.
    pub(crate) fn vault(&self) -> Address {
        self.offline_contract
            .unwrap_or_else(chain::deploy::address::<Vaults>)
    }

    async fn client<S: Scheme>(&self, contract: Address) -> Result<Client<S>, ChainError> {
        let mut config = ChainConfig::new(self.ask_chain_id().await?);
        config.contract = Some(contract);
        config.request_timeout = self.request_timeout();
        Client::connect_before_deploy(self.rpc_url.clone(), config).await
    }

    /// The domain of the tickets; asks the node only where the configuration does not name the chain.
    pub(crate) async fn domain(&self) -> Result<Domain, ChainError> {
        let contract = self.contract.unwrap_or_else(chain::deploy::address::<Tickets>);
        Ok(Domain::new(self.ask_chain_id().await?, contract))
    }

    /// The domain of the channels; asks the node only where the configuration does not name the chain.
    pub(crate) async fn channel_domain(&self) -> Result<channel::Domain, ChainError> {
        let contract = self.channel_contract;
        let contract = contract.unwrap_or_else(chain::deploy::address::<Channels>);
        Ok(channel::Domain::new(self.ask_chain_id().await?, contract))
    }

    async fn ask_chain_id(&self) -> Result<u64, ChainError> {
        match self.chain_id {
            Some(chain_id) => Ok(chain_id),
            None => ChainClient::ask_chain_id(self.rpc_url.clone(), self.request_timeout()).await,
        }
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_secs)
    }
}
