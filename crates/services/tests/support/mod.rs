//! A bank on a port of its own, with a ledger that the test writes.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::{Address, B256, keccak256};
use chain::ChainError;
use micropay_services::bank::{
    Bank, Ledger, PermitRequest, Policy, Signer,
    client::BankClient,
    http::{Clock, Limits, router, serve},
    wire::{PermitBody, Problem},
};
use parking_lot::Mutex;
use protocol::channel::{
    AdmitRequest, Admitted, Amount, ChannelId, Domain, Index, Key, Reputation, Signature, Status, Timestamp,
    Word,
};
use storage::{
    SqliteStore, StoreIdentity,
    channel::{BankStore, ChannelDomainStore},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use url::Url;

/// Now, for every bank here.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);

pub(crate) fn domain() -> Domain {
    Domain::new(31337, Address::repeat_byte(0xcc))
}

pub(crate) fn key(name: &str) -> Key {
    Key::from_bytes(&keccak256(name).0).unwrap()
}

pub(crate) fn client() -> Key {
    key("client")
}

pub(crate) fn vendor() -> Address {
    key("vendor").address()
}

/// Terms of a channel of the client; each name is another channel.
pub(crate) fn terms(name: &str) -> AdmitRequest {
    AdmitRequest {
        client: client().address(),
        vendor: vendor(),
        salt: keccak256(name),
        receipt_key: key("receipts").address(),
        asset: Address::ZERO,
        unit: Amount(10),
        length: Index(100),
        anchor: Word(keccak256("anchor")),
        expiry: Timestamp(NOW.0 + 86_400),
    }
}

pub(crate) fn channel(terms: &AdmitRequest) -> ChannelId {
    domain().channel_id(terms.client, terms.vendor, terms.salt)
}

/// The body that asks for these terms, signed by `key` at `at` for `domain`.
pub(crate) fn body(terms: AdmitRequest, key: &Key, at: Timestamp, domain: &Domain) -> PermitBody {
    let request = PermitRequest {
        terms,
        requested_at: at,
    };
    let signed = request.sign(domain, |digest| Ok::<Signature, String>(key.sign(digest)));
    PermitBody::from(&signed.unwrap())
}

/// What the contract says.
#[derive(Clone)]
pub(crate) struct Book(Arc<Mutex<Page>>);

struct Page {
    reputations: HashMap<Address, u8>,
    signer: Signer,
    statuses: HashMap<ChannelId, Status>,
    known: HashSet<B256>,
    delay: Duration,
    down: bool,
    reads: u32,
}

impl Book {
    /// Both parties are in good standing, and the bank signs with its own key.
    pub(crate) fn new() -> Self {
        let signer = Signer {
            key: key("bank").address(),
            epoch: 0,
        };
        Self(Arc::new(Mutex::new(Page {
            reputations: HashMap::from([(client().address(), 50), (vendor(), 50)]),
            signer,
            statuses: HashMap::new(),
            known: HashSet::new(),
            delay: Duration::ZERO,
            down: false,
            reads: 0,
        })))
    }

    pub(crate) fn set_reputation(&self, customer: Address, reputation: u8) {
        self.0.lock().reputations.insert(customer, reputation);
    }

    pub(crate) fn set_signer(&self, key: Address, epoch: u64) {
        self.0.lock().signer = Signer { key, epoch };
    }

    /// The permit opened its channel, or topped it up.
    pub(crate) fn take(&self, permit: &Admitted) {
        let mut page = self.0.lock();
        page.known.insert(permit.permit().digest());
        page.statuses.insert(permit.permit().channel(), Status::Open);
    }

    pub(crate) fn close(&self, channel: ChannelId) {
        self.0.lock().statuses.insert(channel, Status::Closed);
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.0.lock().delay = delay;
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.0.lock().down = down;
    }

    /// How often it was looked into.
    pub(crate) fn reads(&self) -> u32 {
        self.0.lock().reads
    }

    async fn read<T>(&self, look: impl FnOnce(&Page) -> T) -> Result<T, ChainError> {
        let delay = self.0.lock().delay;
        tokio::time::sleep(delay).await;
        let mut page = self.0.lock();
        page.reads += 1;
        if page.down {
            return Err(ChainError::Unreachable {
                method: "eth_call",
                node: "http://secret.example".to_owned(),
                message: "it is down".to_owned(),
            });
        }
        Ok(look(&page))
    }
}

impl Ledger for Book {
    async fn reputation(&self, customer: Address) -> Result<Reputation, ChainError> {
        self.read(|page| Reputation::new(page.reputations.get(&customer).copied().unwrap_or(0)).unwrap())
            .await
    }

    async fn signer(&self) -> Result<Signer, ChainError> {
        self.read(|page| page.signer).await
    }

    async fn status(&self, channel: ChannelId) -> Result<Option<Status>, ChainError> {
        self.read(|page| page.statuses.get(&channel).copied()).await
    }

    async fn knows(&self, permit: &Admitted) -> Result<bool, ChainError> {
        self.read(|page| page.known.contains(&permit.permit().digest()))
            .await
    }
}

/// A running bank.
pub(crate) struct Running<S, L> {
    pub(crate) bank: Arc<Bank<S, L>>,
    pub(crate) url: Url,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl<S: BankStore + Send + Sync + 'static, L: Ledger> Running<S, L> {
    pub(crate) async fn start(store: S, ledger: L, policy: Policy, limits: Limits) -> Self {
        let bank = key("bank");
        Self::start_as(domain(), bank.address(), bank, store, ledger, policy, limits, NOW).await
    }

    #[allow(clippy::too_many_arguments, reason = "everything that a bank is made of")]
    pub(crate) async fn start_as(
        domain: Domain,
        address: Address,
        key: Key,
        store: S,
        ledger: L,
        policy: Policy,
        limits: Limits,
        now: Timestamp,
    ) -> Self {
        let bank = Arc::new(Bank::new(domain, address, key, policy, ledger, store));
        let clock: Clock = Arc::new(move || now);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let router = router(bank.clone(), clock, limits);
        let served = tokio::spawn(async move {
            serve(listener, router, limits, async {
                let _ = stopped.await;
            })
            .await;
        });
        Self {
            bank,
            url: url.parse().unwrap(),
            stop: Some(stop),
            served,
        }
    }

    /// Stops gracefully.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.served.await.unwrap();
    }

    pub(crate) fn caller(&self) -> BankClient {
        BankClient::new(self.url.clone(), *self.bank.domain(), self.bank.address()).unwrap()
    }

    /// Sends a body as it is.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, serde_json::Value) {
        self.send("POST", "/v1/permits", Some("application/json"), body.into())
            .await
    }

    pub(crate) async fn ask(&self, body: &PermitBody) -> (u16, serde_json::Value) {
        self.post(serde_json::to_vec(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        self.send("GET", path, None, reqwest::Body::default()).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        media: Option<&str>,
        body: reqwest::Body,
    ) -> (u16, serde_json::Value) {
        let url = self.url.join(path).unwrap();
        let mut request = reqwest::Client::new()
            .request(method.parse().unwrap(), url)
            .body(body);
        if let Some(media) = media {
            request = request.header("content-type", media);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let media = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        if status >= 400 {
            assert_eq!(media, "application/problem+json");
            let problem: Problem = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(problem.status, status);
        }
        (status, body)
    }
}

/// A new store in this folder, or the one that is there.
pub(crate) async fn store(folder: &std::path::Path) -> SqliteStore {
    let domain = domain();
    let identity = StoreIdentity::bank(domain.chain_id(), domain.contract(), key("bank").address());
    let store = SqliteStore::open(folder.join("bank.db"), identity).await.unwrap();
    store.use_channels(domain).await.unwrap();
    store
}

/// The rule of a refusal.
pub(crate) fn rule(body: &serde_json::Value) -> &str {
    body["rule"].as_str().unwrap()
}
