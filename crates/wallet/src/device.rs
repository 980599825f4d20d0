//! The device: component, store, and how both come together. What it does is in the files beside this one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use protocol::offline::{
    Amount, AnyPayer, Domain, PayeePolicy, Payer, PayerPolicy, RevocationList, SignedRegistration, Timestamp,
    Wallet, WalletId,
};
use storage::offline::{
    Event, EventKind, HistoryRecord, OutgoingRecord, OutgoingStage, OutgoingState, RevocationStore,
    SavedWallet, WalletSave, WalletStore, WalletVersion,
};
use trusted::TrustedWallet;

use crate::exposure::Registrars;
use crate::{DeviceError, Result, bridge};

/// What a device needs of its store.
pub trait Store: WalletStore + RevocationStore + Send + Sync {}

impl<T: WalletStore + RevocationStore + Send + Sync> Store for T {}

/// Time and randomness come from outside.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    /// Unix seconds.
    pub now: fn() -> Timestamp,
    /// 32 fresh uniform bytes from the operating system.
    pub random: fn() -> B256,
}

/// What a device goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// The vault.
    pub domain: Domain,
    /// How far invoices' clocks are trusted.
    pub payer: PayerPolicy,
    /// What is taken for money.
    pub payee: PayeePolicy,
    /// Time and randomness.
    pub edges: Edges,
}

/// What a wallet has of one asset, atomic units, as far as the device knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Coins and fragments that it holds: may be spent, offline. One payment spends one of them.
    pub held: Amount,
    /// In exits that nobody has redeemed yet.
    pub exited: Amount,
    /// In exits that are on their way to the chain.
    pub claimed: Amount,
    /// In exits that were credited to the owner.
    pub settled: Amount,
}

/// One wallet: its component and its store.
pub struct Device<C, S> {
    pub(crate) component: C,
    pub(crate) store: S,
    pub(crate) config: Config,
    /// The books as they were loaded or saved last.
    books: Option<SavedWallet>,
    /// The newest list of each registrar, as the store has them.
    pub(crate) lists: Vec<RevocationList>,
    pub(crate) registrars: Registrars,
}

impl<C: TrustedWallet, S: Store> Device<C, S> {
    /// A wallet that was just registered: saves its first books.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Exists`]; [`DeviceError::OtherComponent`] or [`DeviceError::OtherLog`] if the registration is not of
    /// this component; [`DeviceError::LogSetBack`] or [`DeviceError::SequenceSetBack`] if the component has made transfers.
    pub async fn create(
        mut component: C,
        store: S,
        config: Config,
        registration: SignedRegistration,
    ) -> Result<Self> {
        registration.registrar(&config.domain)?;
        let wallet = Wallet::new(&config.domain, registration);
        check_component(&mut component, &wallet)?;
        bridge::check_in_step(&mut component, &config.domain, &wallet)?;
        if store.wallet_version().await?.is_some() {
            return Err(DeviceError::Exists(wallet.id()));
        }
        let mut device = Self::new(component, store, config);
        let first = WalletSave {
            payer: Some(Arc::new(Payer::new(wallet).into())),
            ..WalletSave::default()
        };
        device.save(first).await?;
        device.lists = device.store.lists().await?;
        Ok(device)
    }

    /// Opens a wallet that is in the store. The payment that was under way waits for [`Device::resume`].
    ///
    /// # Errors
    ///
    /// [`DeviceError::NoBooks`]; [`DeviceError::OtherComponent`] or [`DeviceError::OtherLog`]. Books that were set back can
    /// be opened and read; they do not pay.
    pub async fn open(mut component: C, store: S, config: Config) -> Result<Self> {
        let saved = store.load_wallet().await?;
        let Some(saved) = saved else {
            return Err(DeviceError::NoBooks(bridge::key(&component)?.wallet()));
        };
        check_component(&mut component, saved.payer.wallet())?;
        let mut device = Self::new(component, store, config);
        device.books = Some(saved);
        device.lists = device.store.lists().await?;
        Ok(device)
    }

    fn new(component: C, store: S, config: Config) -> Self {
        Self {
            component,
            store,
            config,
            books: None,
            lists: Vec::new(),
            registrars: HashMap::new(),
        }
    }

    /// The vault.
    pub fn domain(&self) -> &Domain {
        &self.config.domain
    }

    /// What a device goes by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The store, to read.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The component, for what is no payment (registration, renewal).
    pub fn component(&mut self) -> &mut C {
        &mut self.component
    }

    /// Both parts back.
    pub fn into_parts(self) -> (C, S) {
        (self.component, self.store)
    }

    /// The books.
    pub async fn wallet(&mut self) -> Result<Wallet> {
        Ok(self.load().await?.payer.wallet().clone())
    }

    /// Its name.
    pub async fn id(&mut self) -> Result<WalletId> {
        Ok(self.load().await?.payer.wallet().id())
    }

    /// Whether the component stands where the books stand; they may differ while a payment is chosen.
    ///
    /// # Errors
    ///
    /// [`DeviceError::LogSetBack`] or [`DeviceError::SequenceSetBack`] if not.
    pub async fn check(&mut self) -> Result<()> {
        let saved = self.load().await?;
        bridge::check_in_step(&mut self.component, &self.config.domain, saved.payer.wallet())
    }

    /// What it has of an asset.
    pub async fn balance(&mut self, asset: Address) -> Result<Balance> {
        let held = self
            .load()
            .await?
            .payer
            .wallet()
            .balance(&self.config.domain, asset);
        let mut balance = Balance {
            held,
            ..Balance::default()
        };
        for record in self
            .exits(&[
                OutgoingStage::Released,
                OutgoingStage::Claimed,
                OutgoingStage::Settled,
            ])
            .await?
        {
            let OutgoingRecord { outgoing, state } = &record;
            let Some(transfer) = record.transfer() else {
                continue;
            };
            if outgoing.payment().deposit.coin.asset != asset {
                continue;
            }
            let part = match state {
                OutgoingState::Released | OutgoingState::Accepted(_) => &mut balance.exited,
                OutgoingState::Claimed => &mut balance.claimed,
                OutgoingState::Settled => &mut balance.settled,
            };
            *part = part.checked_add(transfer.amount).unwrap_or(Amount::MAX);
        }
        Ok(balance)
    }

    /// What happened, the last first; at most `limit`, below the number `before` if there is one.
    pub async fn history(&self, before: Option<u64>, limit: u32) -> Result<Vec<HistoryRecord>> {
        Ok(self.store.history(before, limit).await?)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.config.edges.now)()
    }

    /// The books as they are in the store now. Decoded once: the version tells whether they are those of before.
    pub(crate) async fn load(&mut self) -> Result<SavedWallet> {
        let stored = self.store.wallet_version().await?;
        if let Some(books) = &self.books
            && Some(books.version) == stored
        {
            return Ok(books.clone());
        }
        self.books = None;
        match self.store.load_wallet().await? {
            Some(books) => {
                self.books = Some(books.clone());
                Ok(books)
            }
            None => Err(DeviceError::NoBooks(bridge::key(&self.component)?.wallet())),
        }
    }

    /// Saves a step. Returns the version to decide the next one from.
    pub(crate) async fn save(&mut self, save: WalletSave) -> Result<WalletVersion> {
        // Whether it was saved is not known until the store says so.
        let before = self.books.take();
        let version = self.store.save_wallet(&save).await?;
        let payer = save.payer.or(before.map(|books| books.payer));
        self.books = payer.map(|payer| SavedWallet { version, payer });
        Ok(version)
    }
}

impl<C, S> fmt::Debug for Device<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let books = self.books.as_ref();
        f.debug_struct("Device")
            .field("wallet", &books.map(|books| books.payer.wallet().id()))
            .field("version", &books.map(|books| books.version))
            .finish_non_exhaustive()
    }
}

fn check_component(component: &mut impl TrustedWallet, wallet: &Wallet) -> Result<()> {
    let (got, books) = (bridge::key(component)?.wallet(), wallet.id());
    if got != books {
        return Err(DeviceError::OtherComponent {
            component: got,
            books,
        });
    }
    let (got, books) = (bridge::log(component)?, wallet.registration.index);
    if got != books {
        return Err(DeviceError::OtherLog {
            component: got,
            books,
        });
    }
    Ok(())
}

/// The same payment under way, over changed books.
pub(crate) fn over(payer: &AnyPayer, wallet: Wallet) -> Arc<AnyPayer> {
    Arc::new(match payer {
        AnyPayer::Idle(_) => Payer::new(wallet).into(),
        AnyPayer::Reserved(payer) => Payer::resume(wallet, payer.state().clone()).into(),
        AnyPayer::Chosen(payer) => Payer::resume(wallet, payer.state().clone()).into(),
        AnyPayer::Committed(payer) => Payer::resume(wallet, payer.state().clone()).into(),
    })
}

pub(crate) fn event(
    kind: EventKind,
    at: Timestamp,
    subject: B256,
    asset: Address,
    amount: Amount,
    other: Option<WalletId>,
) -> Event {
    Event {
        at,
        kind,
        subject,
        asset,
        amount,
        other,
    }
}
