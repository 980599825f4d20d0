//! One payer's calls over the client library, on a real chain: in parallel, in sequence, at many sellers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, keccak256};
use chain::anvil::Anvil;
use chain::{
    At, ChainClient, ChainConfig, Finality, Follower, FollowerConfig, Mirror, Sender, Start, deploy,
};
use eyre::{Result, ensure, eyre};
use futures::{StreamExt, TryStreamExt, stream};
use gateway::client::{Client, Paid};
use merchant::ticket::{Merchant, Price, follow_once};
use payer::ticket::{Edges, EscrowSteps, Limits, Opening, Payer};
use protocol::ticket::{Amount, Domain, EscrowKey, Nonce, Policy, Seed, Timestamp, WinThreshold, odds};
use storage::{MemoryStore, OrderStore, SqliteStore, StoreIdentity};

use super::proxy;

const PRIZE: Amount = Amount(10_000_000_000_000_000);
const ONE_IN: u64 = 128;
const CAP: Nonce = Nonce(8_192);

/// A chain with one payer, whose one escrow is final, and a view of it for any number of merchants.
pub struct World {
    _anvil: Anvil,
    client: ChainClient,
    mirror: Arc<Mirror>,
    key: Arc<EscrowKey>,
    domain: Domain,
    folder: tempfile::TempDir,
}

/// What some calls took.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// Calls that were answered and paid.
    pub paid: u64,
    /// Orders that the payer's store has for them: one each, and those that a refused ticket made necessary.
    pub tickets: u64,
    /// HTTP requests.
    pub requests: u64,
}

/// The system's clock.
#[must_use]
pub fn system_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// Different in each call; good enough to measure with.
fn random() -> B256 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    keccak256([since.as_nanos().to_be_bytes().as_slice(), &count.to_be_bytes()].concat())
}

impl World {
    /// Starts anvil, opens the escrow, follows until it is final.
    ///
    /// # Errors
    /// When the chain does not do as it should.
    pub async fn new() -> Result<Self> {
        let anvil = Anvil::spawn(&chain::anvil::AnvilOptions::default())?;
        let client =
            ChainClient::connect_before_deploy(anvil.url(), ChainConfig::new(anvil.chain_id())).await?;
        deploy::deploy(&Sender::new(client.clone(), Anvil::key(9))).await?;
        let key = EscrowKey::from_bytes(&keccak256("bench/escrow").0).map_err(|error| eyre!(error))?;
        let max_threshold = WinThreshold::one_in(ONE_IN)
            .to_bound()
            .ok_or_else(|| eyre!("a rate near 1"))?;
        let penalty = odds::required_penalty(PRIZE, CAP, max_threshold, Policy::default().epsilon);
        let opening = Opening {
            asset: Address::ZERO,
            prize: PRIZE,
            max_threshold,
            ticket_cap: CAP,
            penalty,
            balance: penalty.saturating_mul(2),
        };
        EscrowSteps::new(Sender::new(client.clone(), Anvil::key(0)))
            .open(&key, &opening)
            .await?;
        anvil.mine(3).await?;
        let config = FollowerConfig::new(Finality::Depth(2));
        let mut follower = Follower::start(client.clone(), config, Start::Deployed { block: 0 }).await?;
        let domain = client.domain();
        let scratch = MemoryStore::new(StoreIdentity::merchant(domain, Address::ZERO));
        while !follow_once(&mut follower, &scratch).await? {}
        Ok(Self {
            mirror: follower.mirror(),
            _anvil: anvil,
            client,
            key: Arc::new(key),
            domain,
            folder: tempfile::tempdir()?,
        })
    }

    /// Transactions that the payer has sent so far.
    ///
    /// # Errors
    /// When the node does not say.
    pub async fn payer_transactions(&self) -> Result<u64> {
        use alloy_provider::Provider;
        let payer = Anvil::key(0).address();
        Ok(self.client.provider().get_transaction_count(payer).await?)
    }

    /// A seller with a gateway of its own. `number` is its name.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn seller(&self, number: u64, upstream: SocketAddr) -> Result<SocketAddr> {
        let recipient = Address::from_word(keccak256(number.to_be_bytes()));
        let store = MemoryStore::new(StoreIdentity::merchant(self.domain, recipient));
        let seed = Seed::new(keccak256([b"seed".as_slice(), &number.to_be_bytes()].concat()).0);
        let mirror = Arc::clone(&self.mirror);
        let merchant =
            Merchant::start(self.domain, recipient, Policy::default(), mirror, store, seed).await?;
        let price = Price {
            asset: Address::ZERO,
            price: WinThreshold::one_in(ONE_IN).price(PRIZE),
            min_prize: PRIZE,
            max_prize: PRIZE,
        };
        proxy::gateway(merchant, price, upstream, system_now).await
    }

    /// Has the payer make these calls, `at_once` at a time, with one client whose store is on disk.
    ///
    /// # Errors
    /// When a call is not answered and paid.
    pub async fn call(&self, name: &str, urls: Vec<String>, at_once: usize) -> Result<Calls> {
        // A store of its own for each run would sign its nonces again.
        let path = self.folder.path().join("payer.db");
        let store = SqliteStore::open(path, StoreIdentity::payer(self.domain)).await?;
        let before = store.order_totals(None).await?.all()?.count;
        let record = self
            .client
            .escrow_of(self.key.address(), At::Latest)
            .await?
            .ok_or_else(|| eyre!("the escrow is gone"))?;
        let edges = Edges {
            now: system_now,
            random,
        };
        let key = Arc::clone(&self.key);
        let payer = Payer::new(self.domain, key, record, Limits::default(), store.clone(), edges);
        let client = Client::new(payer)?;
        let count = urls.len() as u64;
        let paid: Vec<Paid> = stream::iter(urls)
            .map(|url| {
                let client = &client;
                async move {
                    let answer = client.get(&url).send().await?.error_for_status()?;
                    let paid = answer.extensions().get::<Paid>().cloned();
                    let length = answer.bytes().await?.len();
                    ensure!(length > 0, "an empty answer from {url}");
                    paid.ok_or_else(|| eyre!("nothing was paid at {url}"))
                }
            })
            .buffer_unordered(at_once)
            .try_collect()
            .await?;
        ensure!(
            paid.len() as u64 == count,
            "{name}: {} of {count} calls",
            paid.len()
        );
        let tickets = store.order_totals(None).await?.all()?.count - before;
        store.close().await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(Calls {
            paid: count,
            tickets,
            requests: paid.iter().map(|paid| u64::from(paid.requests)).sum(),
        })
    }
}
