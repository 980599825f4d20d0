//! A registrar on a port of its own, with a chain that the test writes, and a maker of TPMs.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy_primitives::{Address, B256, keccak256};
use micropay_services::CallError;
use micropay_services::registrar::{
    FinalDeposit, FinalDeposits, FinalWallet, FinalWallets, Keys, Policy, Registrar, VaultError,
    client::{ClientError, RegistrarClient, Terms},
    http::{Clock, Limits, limits, router, serve},
};
use parking_lot::Mutex;
use protocol::offline::{ClassId, Coin, Domain, Key, LogHead, Timestamp, VouchedRegistration, WalletId};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use storage::offline::registrar::{RegistrarIdentity, RegistrarStore, SqliteRegistrarStore};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use trusted::{
    PublicKey, Tpm,
    swtpm::Emulator,
    tpm::{EndorsementKey, IndexHandle, LogIndex, Passwords},
};

/// Where every test starts.
pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000);
pub(crate) const OWNER: Address = Address::repeat_byte(0x0a);
pub(crate) const CLASS: ClassId = ClassId(1);
const HANDLE: IndexHandle = IndexHandle(0x0150_0042);

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

pub(crate) fn registrar_key() -> Key {
    Key::from_bytes(&keccak256("registrar").0).unwrap()
}

pub(crate) fn policy_signing_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap()
}

pub(crate) fn policy_key() -> PublicKey {
    let point = policy_signing_key().verifying_key().to_sec1_point(false);
    let mut key = [0; 64];
    key.copy_from_slice(&point.as_bytes()[1..]);
    PublicKey(key)
}

pub(crate) fn terms() -> Terms {
    Terms {
        owner: OWNER,
        class: CLASS,
    }
}

/// The chain.
#[derive(Clone, Default)]
pub(crate) struct Chain(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    deposits: HashMap<B256, Timestamp>,
    wallets: HashMap<WalletId, FinalWallet>,
    proven: Vec<WalletId>,
    down: bool,
}

impl Chain {
    pub(crate) fn deposit(&self, coin: &Coin, settle_by: Timestamp) {
        self.0.lock().deposits.insert(domain().coin_id(coin).0, settle_by);
    }

    pub(crate) fn settle(&self, wallet: WalletId, head: LogHead) {
        self.0.lock().wallets.get_mut(&wallet).unwrap().head = head;
    }

    /// As the contract does it, final at once.
    pub(crate) fn register(&self, vouched: &VouchedRegistration) {
        let (registration, digest) = (
            vouched.registration,
            domain().registration_digest(&vouched.registration),
        );
        let registrar = vouched.registrar(&domain()).unwrap();
        let mut book = self.0.lock();
        let known = book.wallets.entry(registration.wallet).or_insert(FinalWallet {
            owner: registration.owner,
            registrar,
            class: registration.class,
            log: registration.log,
            valid_until: registration.valid_until,
            head: LogHead::registered(digest),
            alive: true,
        });
        known.valid_until = registration.valid_until;
    }

    /// The contract stops it, or knows of a double spend.
    pub(crate) fn stop(&self, wallet: WalletId) {
        self.0.lock().wallets.get_mut(&wallet).unwrap().alive = false;
    }

    pub(crate) fn prove(&self, wallet: WalletId) {
        self.0.lock().proven.push(wallet);
    }

    pub(crate) fn forget(&self, wallet: WalletId) {
        self.0.lock().wallets.remove(&wallet);
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.0.lock().down = down;
    }

    fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> Result<T, VaultError> {
        let book = self.0.lock();
        if book.down {
            return Err(VaultError {
                problem: "http://secret.example does not answer".to_owned(),
            });
        }
        Ok(look(&book))
    }
}

impl FinalDeposits for Chain {
    async fn deposit(&self, coin: &Coin) -> Result<Option<FinalDeposit>, VaultError> {
        self.read(|book| {
            let settle_by = book.deposits.get(&domain().coin_id(coin).0);
            settle_by.map(|settle_by| FinalDeposit {
                settle_by: *settle_by,
            })
        })
    }
}

impl FinalWallets for Chain {
    async fn wallet(&self, wallet: WalletId) -> Result<Option<FinalWallet>, VaultError> {
        self.read(|book| book.wallets.get(&wallet).copied())
    }

    async fn equivocated(&self) -> Result<Vec<WalletId>, VaultError> {
        self.read(|book| book.proven.clone())
    }
}

/// A maker of TPMs: a root whose name is its own.
pub(crate) struct Maker {
    pub(crate) root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

struct Endorsement(Vec<u8>);

impl PublicKeyData for Endorsement {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Maker {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = params.self_signed(&key).unwrap();
        Self {
            root: root.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }

    /// What a maker puts into its TPMs.
    pub(crate) fn certify(&self, key: EndorsementKey, purpose: &[u64]) -> Vec<u8> {
        let mut params = params("a TPM");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(purpose.to_vec())];
        // As makers do: the names of maker and model as subject alternative name would stand here, critical.
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 9], vec![0x30, 0])];
        let point = [&[4][..], &key.0.0].concat();
        let certificate = params.signed_by(&Endorsement(point), &self.issuer).unwrap();
        certificate.der().to_vec()
    }
}

pub(crate) const ENDORSES: &[u64] = &[2, 23, 133, 8, 1];

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2035, 1, 1);
    params
}

/// A machine with a TPM, and a wallet in it.
pub(crate) struct Machine {
    pub(crate) emulator: Emulator,
    pub(crate) folder: TempDir,
}

impl Machine {
    /// With a certificate by `maker`; none without swtpm.
    pub(crate) fn new(maker: &Maker) -> Option<Self> {
        let machine = Self {
            emulator: Emulator::for_test()?,
            folder: tempfile::tempdir().unwrap(),
        };
        let index = LogIndex {
            handle: HANDLE,
            registrar: policy_key(),
        };
        let connection = machine.emulator.connect().unwrap();
        let mut wallet = Tpm::create(connection, machine.folder.path(), Passwords::default(), index).unwrap();
        let endorsement = wallet.endorsement_key().unwrap();
        drop(wallet);
        let certificate = maker.certify(endorsement, ENDORSES);
        machine
            .emulator
            .install_endorsement_certificate(&certificate)
            .unwrap();
        Some(machine)
    }

    pub(crate) fn wallet(&self) -> Tpm {
        let connection = self.emulator.connect().unwrap();
        Tpm::open(connection, self.folder.path(), Passwords::default()).unwrap()
    }
}

/// A registrar that serves.
pub(crate) struct Running {
    pub(crate) base: String,
    pub(crate) registrar: Arc<Registrar<SqliteRegistrarStore, Chain>>,
    pub(crate) chain: Chain,
    pub(crate) store: SqliteRegistrarStore,
    time: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

pub(crate) fn policy(folder: &Path, maker: &Maker, more: &str) -> Policy {
    std::fs::write(folder.join("maker.crt"), &maker.root).unwrap();
    let text = format!(
        r#"
        wallets_per_device = 3
        authorisation_life = 60
        [[class]]
        number = 1
        kind = "log"
        validity = 604800
        accept = [{{ format = "tpm", roots = ["maker.crt"] }}]
        caps = [{{ asset = "{}", coin = "100", wallet = "150" }}]
        [[class]]
        number = 1
        dev = true
        kind = "signature"
        validity = 3600
        accept = [{{ format = "software" }}]
        {more}"#,
        Address::ZERO
    );
    Policy::parse(&text, folder, true).unwrap()
}

pub(crate) async fn store(folder: &Path) -> SqliteRegistrarStore {
    let identity = RegistrarIdentity {
        chain_id: domain().chain_id(),
        contract: domain().contract(),
        registrar: registrar_key().address(),
    };
    SqliteRegistrarStore::open(folder.join("registrar.db"), identity)
        .await
        .unwrap()
}

impl Running {
    pub(crate) async fn start(folder: &Path, maker: &Maker, chain: &Chain) -> Self {
        let unbounded = Limits {
            per_ip: None,
            ..limits()
        };
        Self::bounded(folder, maker, chain, unbounded).await
    }

    pub(crate) async fn bounded(folder: &Path, maker: &Maker, chain: &Chain, limits: Limits) -> Self {
        let store = store(folder).await;
        let keys = Keys {
            registrar: registrar_key(),
            policy: policy_signing_key(),
        };
        let policy = policy(folder, maker, "");
        let registrar = Arc::new(Registrar::new(
            domain(),
            keys,
            policy,
            chain.clone(),
            store.clone(),
        ));
        let time = Arc::new(AtomicU64::new(NOW.0));
        let hand = time.clone();
        let clock: Clock = Arc::new(move || Timestamp(hand.load(Ordering::SeqCst)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = router(registrar.clone(), clock, limits);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, router, limits, async {
            drop(stopped.await);
        }));
        Self {
            base,
            registrar,
            chain: chain.clone(),
            store,
            time,
            stop,
            task,
        }
    }

    pub(crate) fn caller(&self) -> RegistrarClient {
        RegistrarClient::new(self.base.parse().unwrap(), domain(), registrar_key().address()).unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::SeqCst))
    }

    pub(crate) fn later(&self, seconds: u64) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }

    /// As a crash: nothing is flushed or closed in order.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }

    pub(crate) async fn wallets(&self, wallet: WalletId) -> Option<String> {
        let record = self.store.wallet(wallet).await.unwrap()?;
        Some(format!("{:?}", record.stage.name()))
    }
}

/// The rule by which it was refused.
pub(crate) fn rule<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    match answer {
        Err(ClientError::Call(CallError::Refused(problem))) => problem.rule,
        other => format!("{other:?}"),
    }
}
