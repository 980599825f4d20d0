//! What a registrar must not forget: whom it authorised, what it signed, which coins it gave a receipt for, how far it has
//! folded a wallet's log, and whom it revoked. It is a database of its own, a registrar's, with one version for each wallet:
//! a save says from which version it was decided, so that two requests at the same time cannot both go on from one.
//!
//! ```text
//!   registration:  Begun ──▶ Authorised ──▶ Registered ──▶ Registered (renewed)
//!                    │  ▲         │ another session, later, with another beginning
//!                    └──┘         └──▶ Authorised
//! ```
//!
//! Safety needs: what was answered stays. Liveness needs the file.

#[cfg(feature = "conformance")]
pub mod conformance;
mod memory;
mod sqlite;

use std::{error::Error, sync::Arc};

use alloy_primitives::{Address, B256, Bytes};
use protocol::offline::{
    Amount, ClassId, CoinId, LogEntry, LogHead, RegistrationDigest, Sequence, Timestamp, WalletId,
};
use serde::{Deserialize, Serialize};

pub use memory::MemoryRegistrarStore;
pub use sqlite::SqliteRegistrarStore;

/// What a registrar's store answers.
pub type Result<T, E = RegistrarStoreError> = std::result::Result<T, E>;

/// Why nothing was stored.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrarStoreError {
    /// Another request came first: load and decide again.
    #[error("wallet {wallet} was decided from version {got}, and is at {stored}")]
    WalletStale {
        /// The wallet.
        wallet: WalletId,
        /// Decided from.
        got: u64,
        /// What is stored.
        stored: u64,
    },
    /// A stage is never left backwards, and what was authorised or signed is not forgotten.
    #[error("wallet {wallet} is {from:?}, and does not become {to:?}")]
    WalletMove {
        /// The wallet.
        wallet: WalletId,
        /// Its stage.
        from: StageName,
        /// What it was to become.
        to: StageName,
    },
    /// The beginning of a log was authorised before, or an earlier one.
    #[error("wallet {wallet} would be valid until {got}, authorised before was {stored}")]
    BeginningNotNew {
        /// The wallet.
        wallet: WalletId,
        /// The end of the new registration.
        got: Timestamp,
        /// The latest end that was authorised.
        stored: Timestamp,
    },
    /// The device has as many wallets as it may have.
    #[error("device {device} has {got} wallets, the most is {limit}")]
    DeviceQuota {
        /// The device.
        device: B256,
        /// Its wallets.
        got: u32,
        /// The most.
        limit: u32,
    },
    /// A receipt would bring the wallet above its class's cap.
    #[error("wallet {wallet} has receipts for {held}, with {got} more it is above {limit}")]
    ReceiptCap {
        /// The wallet.
        wallet: WalletId,
        /// What it has, atomic units.
        held: Amount,
        /// The coin's amount.
        got: Amount,
        /// The cap.
        limit: Amount,
    },
    /// The log was folded further, or not so far.
    #[error("the log of wallet {wallet} is checkpointed at {stored}, the request is from {got}")]
    CheckpointStale {
        /// The wallet.
        wallet: WalletId,
        /// Decided from.
        got: Sequence,
        /// What is stored.
        stored: Sequence,
    },
    /// A list is newer than this one.
    #[error("the list of {got} is not newer than that of {stored}")]
    ListBackwards {
        /// The new list's time.
        got: Timestamp,
        /// The stored one's.
        stored: Timestamp,
    },
    /// The file belongs to another vault or registrar.
    #[error("the store is of {stored}, not of {wanted}")]
    OtherRegistrar {
        /// What the file says.
        stored: String,
        /// Who opens it.
        wanted: String,
    },
    /// A row is damaged. Nothing was changed.
    #[error("damaged row {row} of table {table}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong.
        problem: String,
    },
    /// The database failed. If it failed while writing, the request may or may not be stored; asking again is safe.
    #[error("{doing}: {source}")]
    Database {
        /// What the store was doing.
        doing: &'static str,
        /// The database's own words.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl RegistrarStoreError {
    /// Whether the same request can succeed later without anything being repaired.
    pub fn retry(&self) -> bool {
        matches!(
            self,
            Self::WalletStale { .. }
                | Self::CheckpointStale { .. }
                | Self::ListBackwards { .. }
                | Self::Database { .. }
        )
    }
}

/// Whose store it is: one registrar, for one vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrarIdentity {
    /// Chain id.
    pub chain_id: u64,
    /// The vault.
    pub contract: Address,
    /// The registrar's address.
    pub registrar: Address,
}

/// One wallet, from the first request to its registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletRecord {
    /// The wallet.
    pub wallet: B256,
    /// Counts the saves, from 1; that of a record to be saved is the one that it was decided from, 0 before the first.
    pub version: u64,
    /// The wallet's key, `x ‖ y`.
    pub key: Bytes,
    /// Who gets the credit.
    pub owner: Address,
    /// Its class.
    pub class: u32,
    /// Name of the evidence's format.
    pub format: String,
    /// The device that vouches, where the format names one.
    pub device: Option<B256>,
    /// Handle and Name of the log's index, in a LOG class.
    pub index: Option<LogIndexRecord>,
    /// When it was begun.
    pub begun_at: u64,
    /// What the wallet has to answer to: SHA-256 of the activated secret, or the challenge that its evidence is bound to.
    pub expected: B256,
    /// What was answered when it was begun, to be answered again.
    pub offer: Bytes,
    /// The latest end of a registration that was authorised or signed; 0 for none. Two authorisations never have the same,
    /// so that two logs never have the same beginning.
    pub last_valid_until: u64,
    /// How far it is.
    pub stage: Stage,
}

/// A LOG wallet's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIndexRecord {
    /// Its handle.
    pub handle: u32,
    /// SHA-256 of its public area, written.
    pub name: B256,
}

/// How far a registration is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The wallet was given a challenge.
    Begun,
    /// The log's beginning was authorised, for one session of the TPM.
    Authorised(AuthorisedRecord),
    /// The registration was signed.
    Registered(RegisteredRecord),
}

/// A stage without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    /// See [`Stage::Begun`].
    Begun,
    /// See [`Stage::Authorised`].
    Authorised,
    /// See [`Stage::Registered`].
    Registered,
}

/// An authorisation, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorisedRecord {
    /// The TPM's nonce of the session.
    pub nonce: B256,
    /// The end of the registration that it begins.
    pub valid_until: u64,
    /// The log's first entry: the registration's digest.
    pub genesis: B256,
    /// When it was signed.
    pub at: u64,
    /// Seconds after which the TPM refuses it.
    pub expiration: u16,
    /// The policy key's signature.
    pub signature: Bytes,
}

/// A registration, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredRecord {
    /// Its end.
    pub valid_until: u64,
    /// The registrar's signature.
    pub signature: Bytes,
    /// Digest of the first registration, if this one renews it.
    pub first: Option<B256>,
    /// When it was signed.
    pub at: u64,
    /// The end of the newest registration that the contract has for good; `None`: it has none yet.
    pub confirmed_until: Option<u64>,
}

/// A coin that has its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// The coin.
    pub coin: CoinId,
    /// Whose it is.
    pub wallet: WalletId,
    /// Token, or the zero address.
    pub asset: Address,
    /// Its value, atomic units.
    pub amount: Amount,
    /// Until when its fragments are redeemed for certain.
    pub settle_by: Timestamp,
    /// The signed deposit, encoded.
    pub signed: Vec<u8>,
}

/// The most that a wallet may hold receipts for, in one asset: of coins whose `settle_by` is not before `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptCap {
    /// Coins that were to be settled earlier do not count.
    pub since: Timestamp,
    /// The cap, atomic units.
    pub limit: Amount,
}

/// How far a wallet's log was folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The wallet.
    pub wallet: WalletId,
    /// The head.
    pub head: LogHead,
    /// Number of transfers.
    pub sequence: Sequence,
    /// The signed checkpoint, encoded.
    pub signed: Vec<u8>,
}

/// What was withdrawn, and when. A withdrawal stays, with its earliest time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Wallets.
    pub wallets: Vec<(WalletId, Timestamp)>,
    /// Classes.
    pub classes: Vec<(ClassId, Timestamp)>,
}

/// A signed revocation list, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRecord {
    /// By the registrar's clock.
    pub issued_at: Timestamp,
    /// The list.
    pub signed: Vec<u8>,
}

/// A registrar's memory. Whatever a call wrote is durable when it returns.
pub trait RegistrarStore: Send + Sync + 'static {
    /// The wallet's record.
    fn wallet(&self, wallet: WalletId) -> impl Future<Output = Result<Option<WalletRecord>>> + Send;

    /// Saves a record that was decided from `record.version`, and gives it the next one. `device_limit`: the most wallets of
    /// its device, itself included, whatever their stage.
    ///
    /// Refused: a stage backwards or a second first registration ([`RegistrarStoreError::WalletMove`]), an authorisation
    /// whose beginning is not new ([`RegistrarStoreError::BeginningNotNew`]).
    fn save_wallet(
        &self,
        record: &WalletRecord,
        device_limit: Option<u32>,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// The receipt of a coin.
    fn receipt(&self, coin: CoinId) -> impl Future<Output = Result<Option<ReceiptRecord>>> + Send;

    /// Stores a receipt, unless the coin has one; gives what is stored.
    fn add_receipt(
        &self,
        record: &ReceiptRecord,
        cap: Option<ReceiptCap>,
    ) -> impl Future<Output = Result<ReceiptRecord>> + Send;

    /// The newest checkpoint of a wallet's log.
    fn log(&self, wallet: WalletId) -> impl Future<Output = Result<Option<LogRecord>>> + Send;

    /// Everything in the log up to its newest checkpoint, in order.
    fn log_entries(&self, wallet: WalletId) -> impl Future<Output = Result<Vec<LogEntry>>> + Send;

    /// Stores a checkpoint that was folded from the one at `from`, with the entries in between.
    fn save_log(
        &self,
        from: Sequence,
        entries: &[LogEntry],
        record: &LogRecord,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Withdraws a wallet. The earliest time stays; it is given back.
    fn revoke(&self, wallet: WalletId, at: Timestamp) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Withdraws a class. The earliest time stays; it is given back.
    fn kill_class(&self, class: ClassId, at: Timestamp) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Everything withdrawn, in order of its name.
    fn revocations(&self) -> impl Future<Output = Result<Revocations>> + Send;

    /// The newest list.
    fn list(&self) -> impl Future<Output = Result<Option<ListRecord>>> + Send;

    /// Stores a list that is newer than the stored one.
    fn save_list(&self, record: &ListRecord) -> impl Future<Output = Result<()>> + Send;
}

impl WalletRecord {
    /// The wallet.
    pub fn id(&self) -> WalletId {
        WalletId(self.wallet)
    }

    /// The first registration's digest, if one was signed under this record by `digest_of_this`.
    pub fn origin(&self, digest_of_this: RegistrationDigest) -> RegistrationDigest {
        match &self.stage {
            Stage::Registered(RegisteredRecord {
                first: Some(first), ..
            }) => RegistrationDigest(*first),
            _ => digest_of_this,
        }
    }
}

impl Stage {
    /// Which stage.
    pub fn name(&self) -> StageName {
        match self {
            Self::Begun => StageName::Begun,
            Self::Authorised(_) => StageName::Authorised,
            Self::Registered(_) => StageName::Registered,
        }
    }
}

impl RegistrarStoreError {
    fn database(doing: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Database {
            doing,
            source: Arc::new(source),
        }
    }
}

/// Whether `next` may follow `stored`: the rule of every backend.
fn check_move(stored: Option<&WalletRecord>, next: &WalletRecord) -> Result<()> {
    let wallet = next.id();
    let version = stored.map_or(0, |record| record.version);
    if version != next.version {
        return Err(RegistrarStoreError::WalletStale {
            wallet,
            got: next.version,
            stored: version,
        });
    }
    let Some(stored) = stored else {
        return Ok(());
    };
    let (from, to) = (stored.stage.name(), next.stage.name());
    let moved = RegistrarStoreError::WalletMove { wallet, from, to };
    let same_terms = (stored.owner, stored.class, &stored.key, stored.index)
        == (next.owner, next.class, &next.key, next.index);
    match (&stored.stage, &next.stage) {
        (Stage::Begun, _) => {}
        (Stage::Authorised(one), Stage::Authorised(other)) => {
            if other.valid_until <= stored.last_valid_until {
                return Err(RegistrarStoreError::BeginningNotNew {
                    wallet,
                    got: Timestamp(other.valid_until),
                    stored: Timestamp(stored.last_valid_until),
                });
            }
            if one.genesis == other.genesis || !same_terms {
                return Err(moved);
            }
        }
        (Stage::Authorised(one), Stage::Registered(other)) => {
            if one.valid_until != other.valid_until || other.first.is_some() || !same_terms {
                return Err(moved);
            }
        }
        (Stage::Registered(one), Stage::Registered(other)) => {
            let renews = other.first.is_some()
                && other.valid_until > one.valid_until
                && one.first.is_none_or(|first| other.first == Some(first))
                && one.confirmed_until == other.confirmed_until;
            // The contract has it: nothing else changes.
            let confirms = other.confirmed_until == Some(one.valid_until)
                && *one
                    == RegisteredRecord {
                        confirmed_until: one.confirmed_until,
                        ..other.clone()
                    };
            if !(renews || confirms) || !same_terms {
                return Err(moved);
            }
        }
        (Stage::Authorised(_) | Stage::Registered(_), _) => return Err(moved),
    }
    if next.last_valid_until < stored.last_valid_until {
        return Err(RegistrarStoreError::BeginningNotNew {
            wallet,
            got: Timestamp(next.last_valid_until),
            stored: Timestamp(stored.last_valid_until),
        });
    }
    Ok(())
}

fn check_cap(held: Amount, record: &ReceiptRecord, cap: Option<ReceiptCap>) -> Result<()> {
    let Some(cap) = cap else {
        return Ok(());
    };
    if held.checked_add(record.amount).is_none_or(|sum| sum > cap.limit) {
        return Err(RegistrarStoreError::ReceiptCap {
            wallet: record.wallet,
            held,
            got: record.amount,
            limit: cap.limit,
        });
    }
    Ok(())
}
