//! Where the stores are: one SQLite file per payer, per merchant and per bank, under the home folder, named by
//! chain and contract. A
//! lock file beside it keeps a second process away, which could otherwise bury a winner that the first is judging. Several
//! processes of one merchant share a PostgreSQL database, where leases take the lock's place.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use clap::Args;
use eyre::WrapErr;
use protocol::ticket::Domain;
use protocol::{channel, offline};
use storage::channel::ChannelDomainStore;
use storage::{PostgresStore, SqliteStore, StoreIdentity};

use crate::exit::usage;
use crate::keys::private_folder;

/// Which of a merchant's stores is meant.
#[derive(Debug, Args)]
pub(crate) struct Storage {
    /// Where the seller's store is, as `micropay serve` has it: sqlite:PATH or postgres://… [default: a file in the home
    /// folder]
    #[arg(long, value_name = "URL")]
    storage: Option<String>,
}

impl Storage {
    pub(crate) fn place(&self, home: &Path, domain: Domain, recipient: Address) -> eyre::Result<Place> {
        Place::of(self.storage.as_deref(), home, domain, recipient)
    }
}

/// Where a merchant's store is.
pub(crate) enum Place {
    /// An SQLite file.
    File(PathBuf),
    /// The address of a PostgreSQL database, with its password.
    Database(String),
}

impl Place {
    /// What `--storage` says; without it the file in the home folder.
    pub(crate) fn of(
        storage: Option<&str>,
        home: &Path,
        domain: Domain,
        recipient: Address,
    ) -> eyre::Result<Self> {
        let Some(text) = storage else {
            return Ok(Self::File(merchant_file(home, domain, recipient)?));
        };
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return Ok(Self::Database(text.to_owned()));
        }
        let path = text
            .strip_prefix("sqlite:")
            .ok_or_else(|| usage(format!("storage is sqlite:PATH or postgres://…, got {text:?}")))?;
        Ok(Self::File(path.into()))
    }
}

/// The payer's store.
pub(crate) async fn payer(home: &Path, domain: Domain) -> eyre::Result<SqliteStore> {
    open(
        &folder(home, domain.chain_id(), domain.contract())?.join("payer.sqlite"),
        StoreIdentity::payer(domain),
    )
    .await
}

/// The store of a bank that admits to the channels of this contract.
pub(crate) async fn bank(home: &Path, domain: channel::Domain, bank: Address) -> eyre::Result<SqliteStore> {
    let (chain_id, contract) = (domain.chain_id(), domain.contract());
    let folder = folder(home, chain_id, contract)?;
    let file = folder.join(format!("bank-{bank:x}.sqlite"));
    let store = open(&file, StoreIdentity::bank(chain_id, contract, bank)).await?;
    store.use_channels(domain).await?;
    Ok(store)
}

/// The file of a registrar's store.
pub(crate) fn registrar_file(
    home: &Path,
    domain: offline::Domain,
    registrar: Address,
) -> eyre::Result<PathBuf> {
    let folder = folder(home, domain.chain_id(), domain.contract())?;
    Ok(folder.join(format!("registrar-{registrar:x}.sqlite")))
}

/// A merchant's store.
pub(crate) async fn merchant(home: &Path, domain: Domain, recipient: Address) -> eyre::Result<SqliteStore> {
    open(
        &merchant_file(home, domain, recipient)?,
        StoreIdentity::merchant(domain, recipient),
    )
    .await
}

/// A merchant's store in a file of one's choice.
pub(crate) async fn merchant_at(
    file: &Path,
    domain: Domain,
    recipient: Address,
) -> eyre::Result<SqliteStore> {
    if let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
    {
        private_folder(folder)?;
    }
    open(file, StoreIdentity::merchant(domain, recipient)).await
}

/// A merchant's store in a PostgreSQL database, which its processes on several machines can share.
pub(crate) async fn merchant_in(
    url: &str,
    domain: Domain,
    recipient: Address,
) -> eyre::Result<PostgresStore> {
    let identity = StoreIdentity::merchant(domain, recipient);
    PostgresStore::open(url, identity)
        .await
        .wrap_err("the PostgreSQL store") // without the address: it has a password
}

/// The file of a merchant's store.
pub(crate) fn merchant_file(home: &Path, domain: Domain, recipient: Address) -> eyre::Result<PathBuf> {
    Ok(folder(home, domain.chain_id(), domain.contract())?.join(format!("merchant-{recipient:x}.sqlite")))
}

fn folder(home: &Path, chain_id: u64, contract: Address) -> eyre::Result<PathBuf> {
    let folder = home.join("stores").join(format!("{chain_id}-{contract:x}"));
    private_folder(&folder)?;
    Ok(folder)
}

async fn open(file: &Path, identity: StoreIdentity) -> eyre::Result<SqliteStore> {
    SqliteStore::open(file, identity)
        .await
        .wrap_err_with(|| format!("store {}", file.display()))
}

/// The right to be the one process that accepts and claims for a merchant. Held until dropped.
#[derive(Debug)]
pub(crate) struct MerchantLock {
    _file: File,
}

/// Whether the lock was free.
pub(crate) enum Locked {
    /// It is ours now.
    Ours(MerchantLock),
    /// This process has it.
    Held {
        /// Its process id, if it could be read.
        pid: Option<i32>,
    },
}

/// Takes the merchant's lock, if it is free.
pub(crate) fn lock_merchant(home: &Path, domain: Domain, recipient: Address) -> eyre::Result<Locked> {
    let path = merchant_file(home, domain, recipient)?.with_extension("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            write!(file, "{}", std::process::id())?;
            file.flush()?;
            Ok(Locked::Ours(MerchantLock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Locked::Held {
                pid: text.trim().parse().ok(),
            })
        }
        Err(TryLockError::Error(error)) => Err(error).wrap_err_with(|| path.display().to_string()),
    }
}
