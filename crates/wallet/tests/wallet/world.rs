//! A registrar, coins, and homes of wallets: a folder with the component's files, a store, and maybe a software TPM. A
//! device is a process: it is dropped and started again in its home. The clock is the thread's.

use std::cell::Cell;

use alloy_primitives::{Address, B256, keccak256};
use p256::ecdsa::SigningKey;
use protocol::offline::{
    AcceptedClass, Amount, ClassId, Coin, DepositNonce, DepositReceipt, Domain, IndexName, Key, NameHash,
    Path, PayeePolicy, PayerPolicy, Registration, Seconds, SignedAcceptance, SignedDeposit, SignedInvoice,
    SignedRegistration, SignedRevocationList, Timestamp, WalletId, WalletKey,
};
use storage::{MemoryStore, SqliteStore, StoreIdentity};
use tempfile::TempDir;
use trusted::swtpm::Emulator;
use trusted::tpm::{IndexHandle, LogIndex, Passwords};
use trusted::{Genesis, LogsTransfers as _, PublicKey, Software, Tpm, TrustedWallet as _};
use wallet::{Config, Device, Edges, Store};

use crate::faults::{Chip, Frail, Fuse, Real};

pub(crate) const START: Timestamp = Timestamp(1_800_000_000);
pub(crate) const DEV_CLASS: ClassId = ClassId::dev(7);
pub(crate) const LOG_CLASS: ClassId = ClassId(9);
pub(crate) const ETHER: Address = Address::ZERO;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(START.0) };
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// All devices of this test look at this clock.
pub(crate) fn set_clock(seconds_from_start: i64) {
    NOW.set(START.0.saturating_add_signed(seconds_from_start));
}

fn now() -> Timestamp {
    Timestamp(NOW.get())
}

fn random() -> B256 {
    DRAWN.set(DRAWN.get() + 1);
    keccak256([b"drawn".as_slice(), &DRAWN.get().to_be_bytes()].concat())
}

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

pub(crate) fn registrar() -> Key {
    Key::from_bytes(&[9; 32]).unwrap()
}

pub(crate) fn config() -> Config {
    let classes = [DEV_CLASS, LOG_CLASS]
        .map(|class| AcceptedClass {
            registrar: registrar().address(),
            class,
            asset: ETHER,
            accept_limit: Amount(1_000_000),
            min_fragment: Amount(1),
        })
        .to_vec();
    Config {
        domain: domain(),
        payer: PayerPolicy::default(),
        payee: PayeePolicy {
            classes,
            allow_dev: true,
            ..PayeePolicy::default()
        },
        edges: Edges { now, random },
    }
}

pub(crate) fn list(issued_at: Timestamp, revoked: &[(WalletId, Timestamp)]) -> SignedRevocationList {
    SignedRevocationList::sign(
        &domain(),
        &registrar(),
        issued_at,
        B256::repeat_byte(1),
        revoked,
        &[],
    )
}

pub(crate) fn register(key: WalletKey, class: ClassId, index: Option<IndexName>) -> SignedRegistration {
    register_until(key, class, index, START.plus(Seconds::DAY.times(60)))
}

pub(crate) fn register_until(
    key: WalletKey,
    class: ClassId,
    index: Option<IndexName>,
    valid_until: Timestamp,
) -> SignedRegistration {
    let owner = Address::from_slice(&key.wallet().0[..20]);
    let registration = Registration {
        wallet: key.wallet(),
        owner,
        class,
        log: index.map_or(NameHash::NONE, IndexName::hash),
        valid_until,
    };
    SignedRegistration {
        key,
        owner,
        class,
        index,
        valid_until,
        signature: registration.confirm(&domain(), &registrar()),
        first: None,
    }
}

pub(crate) fn deposit(wallet: WalletId, amount: u128, nonce: u64) -> SignedDeposit {
    let coin = Coin {
        wallet,
        asset: ETHER,
        amount: Amount(amount),
        deposit_nonce: DepositNonce(nonce),
    };
    let settle_by = START.plus(Seconds::DAY.times(60));
    let receipt = DepositReceipt {
        coin: domain().coin_id(&coin),
        wallet,
        asset: coin.asset,
        amount: coin.amount,
        settle_by,
    };
    SignedDeposit {
        coin,
        settle_by,
        signature: receipt.sign(&domain(), &registrar()),
    }
}

/// Where a wallet lives.
pub(crate) struct Home<S> {
    pub(crate) folder: TempDir,
    pub(crate) emulator: Option<Emulator>,
    pub(crate) store: S,
    pub(crate) registration: SignedRegistration,
    pub(crate) fuse: Fuse,
    coins: Cell<u64>,
}

pub(crate) type Wallet<S> = Device<Chip, Frail<S>>;

/// The parts of a home whose wallet has a component and a registration, and no store yet.
struct Bare {
    folder: TempDir,
    emulator: Option<Emulator>,
    registration: SignedRegistration,
}

fn wallet_key(PublicKey(bytes): PublicKey) -> WalletKey {
    WalletKey::new(B256::from_slice(&bytes[..32]), B256::from_slice(&bytes[32..])).unwrap()
}

/// Where a flush costs nothing, if there is such a place: what is measured is computation.
fn in_ram() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

fn software(folder: TempDir) -> Bare {
    let component = Software::create(folder.path()).unwrap();
    let registration = register(wallet_key(component.public_key()), DEV_CLASS, None);
    Bare {
        folder,
        emulator: None,
        registration,
    }
}

/// A wallet in a TPM, registered; `None` without swtpm.
fn tpm() -> Option<Bare> {
    let emulator = Emulator::for_test()?;
    let folder = TempDir::new().unwrap();
    let policy = SigningKey::from_slice(&[9; 32]).unwrap();
    let point = policy.verifying_key().to_sec1_point(false);
    let index = LogIndex {
        handle: IndexHandle(0x0150_0030),
        registrar: PublicKey(point.as_bytes()[1..].try_into().unwrap()),
    };
    let mut component = Tpm::create(
        emulator.connect().unwrap(),
        folder.path(),
        Passwords::default(),
        index,
    )
    .unwrap();
    let name = IndexName::from_bytes(&component.log_name().0).unwrap();
    let registration = register(wallet_key(component.public_key()), LOG_CLASS, Some(name));
    let genesis = Genesis(registration.origin(&domain()).0.0);
    let challenge = component.begin().unwrap();
    let authorisation = challenge.authorise(&policy, genesis, 0).unwrap();
    component.write_first(&authorisation).unwrap();
    drop(component);
    Some(Bare {
        folder,
        emulator: Some(emulator),
        registration,
    })
}

/// Which component the wallets of a test have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Software,
    SoftwareInRam,
    Tpm,
}

impl Kind {
    fn bare(self) -> Option<Bare> {
        match self {
            Self::Software => Some(software(TempDir::new().unwrap())),
            Self::SoftwareInRam => Some(software(in_ram())),
            Self::Tpm => tpm(),
        }
    }
}

impl Home<MemoryStore> {
    /// In memory; `None` if there is no swtpm.
    pub(crate) async fn in_memory(kind: Kind) -> Option<Self> {
        let bare = kind.bare()?;
        let store = MemoryStore::new(identity(&bare.registration));
        Some(Self::furnished(bare, store).await)
    }
}

impl Home<SqliteStore> {
    /// In a file.
    pub(crate) async fn on_disk(kind: Kind) -> Option<Self> {
        let bare = kind.bare()?;
        let file = bare.folder.path().join("wallet.db");
        let store = SqliteStore::open(file, identity(&bare.registration))
            .await
            .unwrap();
        Some(Self::furnished(bare, store).await)
    }

    /// Closes the file, does something to it, and opens it again.
    pub(crate) async fn reopen(&mut self, act: impl FnOnce(&std::path::Path)) {
        self.store.close().await.unwrap();
        let file = self.folder.path().join("wallet.db");
        act(&file);
        self.store = SqliteStore::open(file, identity(&self.registration))
            .await
            .unwrap();
    }
}

fn identity(registration: &SignedRegistration) -> StoreIdentity {
    StoreIdentity::wallet(domain().chain_id(), domain().contract(), registration.wallet())
}

impl<S: Store + Clone> Home<S> {
    async fn furnished(bare: Bare, store: S) -> Self {
        let home = Self {
            folder: bare.folder,
            emulator: bare.emulator,
            store,
            registration: bare.registration,
            fuse: Fuse::default(),
            coins: Cell::new(0),
        };
        let mut device = home.start().await;
        device.take_revocations(list(START, &[])).await.unwrap();
        home
    }

    pub(crate) fn id(&self) -> WalletId {
        self.registration.wallet()
    }

    /// A new process: opens the component, and the store.
    pub(crate) async fn start(&self) -> Wallet<S> {
        self.start_with(config()).await
    }

    pub(crate) async fn start_with(&self, config: Config) -> Wallet<S> {
        self.fuse.mend();
        let folder = self.folder.path();
        let real = match &self.emulator {
            None => Real::Software(Box::new(Software::open(folder).unwrap())),
            Some(emulator) => {
                let transport = emulator.connect().unwrap();
                Real::Tpm(Box::new(
                    Tpm::open(transport, folder, Passwords::default()).unwrap(),
                ))
            }
        };
        let component = Chip {
            real,
            fuse: self.fuse.clone(),
        };
        let store = Frail {
            store: self.store.clone(),
            fuse: self.fuse.clone(),
        };
        let known = self.store.wallet_version().await.unwrap();
        match known {
            Some(_) => Device::open(component, store, config).await.unwrap(),
            None => Device::create(component, store, config, self.registration)
                .await
                .unwrap(),
        }
    }

    /// One more coin of this wallet.
    pub(crate) fn coin(&self, amount: u128) -> SignedDeposit {
        let nonce = self.coins.get();
        self.coins.set(nonce + 1);
        deposit(self.id(), amount, nonce)
    }
}

pub(crate) async fn held<S: Store>(device: &mut Wallet<S>) -> u128 {
    device.balance(ETHER).await.unwrap().held.0
}

/// As messages travel: encoded, and decoded again.
pub(crate) fn sent(invoice: &SignedInvoice) -> SignedInvoice {
    SignedInvoice::decode(&domain(), &invoice.encode(&domain())).unwrap()
}

pub(crate) fn sent_path(path: &Path) -> Path {
    Path::decode(&domain(), &path.encode(&domain())).unwrap()
}

pub(crate) fn sent_back(acceptance: &SignedAcceptance) -> SignedAcceptance {
    SignedAcceptance::decode(&domain(), &acceptance.encode(&domain())).unwrap()
}

/// The three messages.
pub(crate) async fn hand_over<S: Store, T: Store>(
    payer: &mut Wallet<S>,
    payee: &mut Wallet<T>,
    amount: u128,
) -> Path {
    let invoice = payee.invoice(ETHER, Amount(amount)).await.unwrap();
    let payment = payer.pay(&sent(&invoice)).await.unwrap();
    let acceptance = payee.receive(&sent_path(&payment.path)).await.unwrap();
    assert!(payer.accepted(&sent_back(&acceptance)).await.unwrap());
    payment.path
}
