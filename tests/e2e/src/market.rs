//! A market of channels: a bank that admits, vendors with their follower, closer and store, all moved by hand, clients, and a
//! window that hands payments to a vendor without a wire, with faults on request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as PlainMutex};
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use bindings::channel::PaymentChannel;
use chain::{
    At, ChainConfig, Channels, Client, Finality, Follower, FollowerConfig, Mined, Sender, SenderConfig,
    Start, anvil::Anvil, deploy,
};
use merchant::channel::{
    AcceptError, Accountability, Admitted, ClosePolicy, CloseStepError, Closer, Sale, Settled, Step, Vendor,
    VendorConfig,
};
use merchant::follow::follow_once;
use payer::channel::{
    Answer, ApiError, ChannelPayer, ChannelSteps, Checkpoints, Done, Edges, Limits, Paid, PayError, Position,
    Purchase, ReceiptsOpened, TopUpState, VendorApi,
};
use protocol::channel::{
    self as scheme, AdmitPolicy, AdmitRequest, Admitted as Permit, Amount, Chain, ChannelId, ChannelRecord,
    Domain, Index, ItemHash, Key, Opener, Payment, Policy, Reputation, Seconds, Signature, SignedCheckpoint,
    TopUpRequest, chain_seed,
};
use protocol::ticket::OrderId;
use storage::channel::{ChannelDomainStore, ClientChannelStore, SettlementStep};
use storage::{MemoryStore, Store, StoreIdentity};
use tokio::sync::Mutex;

use crate::world::{hash, random, system_now};
use crate::{Clock, Fault, NATIVE, World};

/// What a unit is worth in these tests, atomic units.
pub const UNIT: Amount = Amount(1_000_000_000);
/// The account of the bank.
const BANK: usize = 8;
/// Most steps that any settlement in these tests takes.
const MAX_STEPS: usize = 100;

/// A world with the channels' contract, and a bank.
#[derive(Debug)]
pub struct Market {
    /// The chain, a token, and a clock.
    pub world: World,
    /// A connection to the node, for the channels' contract.
    pub client: Client<Channels>,
    /// The contract's domain.
    pub domain: Domain,
    /// Signs permits.
    pub bank_key: PlainMutex<Arc<Key>>,
}

/// The key of a development account, as the schemes have it.
pub fn account_key(index: usize) -> Key {
    Key::from_bytes(&Anvil::key(index).to_bytes().0).unwrap()
}

impl Market {
    /// A fresh one.
    pub async fn new() -> Self {
        let world = World::new().await;
        let config = ChainConfig::new(world.anvil.chain_id());
        let bare = Client::<Channels>::connect_before_deploy(world.anvil.url(), config.clone())
            .await
            .unwrap();
        deploy::deploy(&sender_on(&bare, 9)).await.unwrap();
        let client = Client::connect(world.anvil.url(), config).await.unwrap();
        Self {
            domain: client.domain(),
            client,
            world,
            bank_key: PlainMutex::new(Arc::new(account_key(BANK))),
        }
    }

    /// Sends from development account `index` to the channels' contract.
    pub fn sender(&self, index: usize) -> Sender<Channels> {
        sender_on(&self.client, index)
    }

    /// The bank's address.
    pub fn bank(&self) -> Address {
        self.sender(BANK).address()
    }

    /// Calls the contract from an account.
    pub async fn call(&self, index: usize, call: impl SolCall) -> Mined<Channels> {
        self.sender(index)
            .send(self.client.contract(), call.abi_encode().into(), U256::ZERO)
            .await
            .unwrap()
    }

    /// The bank says what it thinks of an account.
    pub async fn set_reputation(&self, customer: usize, reputation: u8) {
        let call = PaymentChannel::setReputationCall {
            customer: self.sender(customer).address(),
            reputation,
        };
        self.call(BANK, call).await;
    }

    /// The bank's permits are signed by another key from now on.
    pub async fn rotate_bank_key(&self, name: &str) {
        let key = Key::from_bytes(&hash(name, 0).0).unwrap();
        self.call(BANK, PaymentChannel::setBankKeyCall { key: key.address() })
            .await;
        *self.bank_key.lock().unwrap() = Arc::new(key);
    }

    async fn reputation(&self, customer: Address) -> Reputation {
        self.client
            .reputation_of(self.bank(), customer, At::Latest)
            .await
            .unwrap()
    }

    /// A permit of the bank.
    pub async fn admit(&self, request: &AdmitRequest) -> Permit {
        let policy = AdmitPolicy::default();
        let (client, vendor) = (
            self.reputation(request.client).await,
            self.reputation(request.vendor).await,
        );
        let now = self.world.clock.now();
        let permit = scheme::admit(&self.domain, request, client, vendor, &policy, now).unwrap();
        permit.sign(self.bank(), &self.bank_key.lock().unwrap().clone())
    }

    /// Moves all of an account's credit to it.
    pub async fn withdraw(&self, asset: Address, index: usize) -> u128 {
        let account = self.sender(index).address();
        let amount = self.credit(asset, index).await;
        let call = PaymentChannel::withdrawCreditCall {
            asset,
            to: account,
            amount: U256::from(amount),
        };
        self.call(index, call).await;
        amount
    }

    /// What the contract owes an account.
    pub async fn credit(&self, asset: Address, index: usize) -> u128 {
        let account = self.sender(index).address();
        self.client.credit_of(asset, account, At::Latest).await.unwrap().0
    }

    /// What the contract holds of an asset.
    pub async fn held(&self, asset: Address) -> u128 {
        self.client
            .balance(asset, self.client.contract(), At::Latest)
            .await
            .unwrap()
            .0
    }

    /// The chain and the clock go forward.
    pub async fn forward(&self, seconds: u64) {
        self.world.forward(seconds).await;
    }

    /// Mines what makes the newest block final for a stall, and lets it see.
    pub async fn finalize<S: Store>(&self, stall: &Stall<S>) {
        self.world.anvil.mine(stall.depth + 1).await.unwrap();
        stall.follow().await;
    }

    /// A stall that keeps everything in memory.
    pub async fn stall(&self, index: usize) -> Arc<Stall<MemoryStore>> {
        self.stall_with(StallSetup::new(index)).await
    }

    /// The same, set up otherwise.
    pub async fn stall_with(&self, setup: StallSetup) -> Arc<Stall<MemoryStore>> {
        let store = MemoryStore::new(self.stall_identity(setup.account));
        self.stall_on(setup, store).await
    }

    /// Whose store a stall of this account has.
    pub fn stall_identity(&self, account: usize) -> StoreIdentity {
        StoreIdentity::merchant(self.world.domain, self.sender(account).address())
    }

    /// A stall on a store, caught up with the chain.
    pub async fn stall_on<S: Store>(&self, setup: StallSetup, store: S) -> Arc<Stall<S>> {
        store.use_channels(self.domain).await.unwrap();
        let start = match store.load_channel_mirror().await.unwrap() {
            Some((cursor, records)) => Start::Saved { cursor, records },
            None => Start::Deployed { block: 0 },
        };
        let config = FollowerConfig::new(Finality::Depth(setup.depth));
        let mut follower = Follower::start(self.client.clone(), config, start).await.unwrap();
        while !follow_once(&mut follower, &store).await.unwrap() {}
        let config = VendorConfig {
            policy: Policy {
                banks: vec![self.bank()],
                margin: Seconds::HOUR,
                ..Policy::default()
            },
            accountability: setup.accountability,
            ..VendorConfig::default()
        };
        let recipient = self.sender(setup.account).address();
        let vendor = Vendor::start(self.domain, recipient, config, follower.mirror(), store.clone())
            .await
            .unwrap();
        let sender = self.sender(setup.account);
        let closer = Closer::new(Arc::clone(&vendor), sender, setup.policy, Seconds::DAY);
        Arc::new(Stall {
            vendor,
            closer,
            store,
            key: account_key(setup.account),
            follower: Mutex::new(follower),
            clock: self.world.clock.clone(),
            depth: setup.depth,
        })
    }

    /// A client with an empty store. Its receipt key follows from the name.
    pub async fn customer(&self, account: usize, name: &str, checkpoints: Checkpoints) -> Customer {
        let store = MemoryStore::new(StoreIdentity::payer(self.world.domain));
        store.use_channels(self.domain).await.unwrap();
        let key = Arc::new(Key::from_bytes(&hash(name, 1).0).unwrap());
        let edges = Edges {
            now: system_now,
            random,
        };
        Customer {
            account,
            steps: ChannelSteps::new(self.sender(account), store.clone()),
            payer: ChannelPayer::new(
                self.domain,
                Arc::clone(&key),
                Limits::default(),
                checkpoints,
                store.clone(),
                edges,
            ),
            key,
            store,
        }
    }

    /// What a bank is asked for.
    pub async fn request(
        &self,
        customer: &Customer,
        vendor: Address,
        asset: Address,
        length: u32,
        life: u64,
    ) -> (AdmitRequest, B256) {
        let client = customer.address();
        let salt = customer.steps.fresh_salt(&customer.key, vendor).await.unwrap();
        let id = self.domain.channel_id(client, vendor, salt);
        let length = Index(length);
        let chain = Chain::from_seed(chain_seed(&customer.key, id, 0, length), id, length).unwrap();
        let request = AdmitRequest {
            client,
            vendor,
            salt,
            receipt_key: customer.key.address(),
            asset,
            unit: UNIT,
            length,
            anchor: chain.anchor(),
            expiry: self.world.clock.now().plus(Seconds(life)),
        };
        (request, salt)
    }

    /// A channel in the native asset, of so many units, for a day; not final yet.
    pub async fn open(&self, customer: &Customer, vendor: Address, length: u32) -> ChannelId {
        self.open_in(customer, vendor, NATIVE, length, 24 * 3600).await
    }

    /// A channel.
    pub async fn open_in(
        &self,
        customer: &Customer,
        vendor: Address,
        asset: Address,
        length: u32,
        life: u64,
    ) -> ChannelId {
        let (request, salt) = self.request(customer, vendor, asset, length, life).await;
        let permit = self.admit(&request).await;
        let done = customer
            .steps
            .open(&permit, salt, None, self.world.clock.now())
            .await
            .unwrap();
        assert!(matches!(done, Done::Mined(_)));
        permit.permit().channel()
    }

    /// The permit for a top-up to a length, of the chain with this number.
    pub async fn top_up_permit(&self, customer: &Customer, channel: ChannelId, length: u32) -> Permit {
        let stored = customer.store.client_channel(channel).await.unwrap().unwrap();
        let terms = stored.channel.terms();
        let (newest, length) = (terms.last().unwrap().permit(), Index(length));
        let generation = terms.len() as u32;
        let seed = chain_seed(&customer.key, channel, generation, length);
        let request = TopUpRequest {
            length,
            anchor: Chain::from_seed(seed, channel, length).unwrap().anchor(),
            expiry: newest.expiry(),
        };
        let (client, vendor) = (
            self.reputation(newest.client()).await,
            self.reputation(newest.vendor()).await,
        );
        let policy = AdmitPolicy::default();
        let now = self.world.clock.now();
        let permit = scheme::admit_top_up(&self.domain, newest, &request, client, vendor, &policy, now);
        permit
            .unwrap()
            .sign(self.bank(), &self.bank_key.lock().unwrap().clone())
    }

    /// Tops a channel up, to the end.
    pub async fn top_up<S: Store>(
        &self,
        customer: &Customer,
        stall: &Stall<S>,
        channel: ChannelId,
        length: u32,
    ) {
        let permit = self.top_up_permit(customer, channel, length).await;
        customer.steps.top_up(&permit).await.unwrap();
        self.finalize(stall).await;
        let at = At::Block(stall.vendor.mirror().final_block().hash);
        assert_eq!(
            customer.steps.confirm_top_up(&permit, at).await.unwrap(),
            TopUpState::Pays
        );
    }

    /// Settles what was asked for, or is due, to the end.
    pub async fn settle<S: Store>(&self, stall: &Stall<S>) -> Settled {
        let mut total = Settled::default();
        for _ in 0..MAX_STEPS {
            stall.follow().await;
            match stall.step().await {
                Step::Mined(..) | Step::Pending(..) => self.finalize(stall).await,
                Step::Final(_, settled) => {
                    total.settled += settled.settled;
                    total.skipped += settled.skipped;
                    total.paid += settled.paid;
                    total.gas_used += settled.gas_used;
                }
                Step::Waited => return total,
                _ => {}
            }
        }
        panic!("not settled after {MAX_STEPS} steps");
    }
}

/// Sends from development account `index`.
pub fn sender_on(client: &Client<Channels>, index: usize) -> Sender<Channels> {
    let config = SenderConfig {
        poll_interval: Duration::from_millis(20),
        ..SenderConfig::default()
    };
    Sender::with_config(client.clone(), Anvil::key(index), config)
}

/// How to set a stall up.
#[derive(Clone, Debug)]
pub struct StallSetup {
    /// Development account that is paid, and closes.
    pub account: usize,
    /// Whether clients sign for their locks.
    pub accountability: Accountability,
    /// When to close.
    pub policy: ClosePolicy,
    /// Blocks that make a block final.
    pub depth: u64,
}

impl StallSetup {
    /// Two blocks make a block final, closes only when asked for or due.
    pub fn new(account: usize) -> Self {
        Self {
            account,
            accountability: Accountability::Welcome,
            policy: ClosePolicy::default(),
            depth: 2,
        }
    }
}

/// A vendor at work, by hand.
pub struct Stall<S> {
    /// Accepts.
    pub vendor: Arc<Vendor<S>>,
    /// Closes.
    pub closer: Closer<S>,
    /// Keeps.
    pub store: S,
    /// Of the vendor's account.
    pub key: Key,
    follower: Mutex<Follower<Channels>>,
    clock: Clock,
    /// Blocks that make a block final.
    pub depth: u64,
}

impl<S: Store> Stall<S> {
    /// Where it is paid.
    pub fn address(&self) -> Address {
        self.vendor.recipient()
    }

    /// Looks at the chain until caught up.
    pub async fn follow(&self) {
        let mut follower = self.follower.lock().await;
        while !follow_once(&mut *follower, &self.store).await.unwrap() {}
    }

    /// One step of the closer, which works.
    pub async fn step(&self) -> Step {
        self.try_step().await.unwrap()
    }

    /// One step of the closer.
    pub async fn try_step(&self) -> Result<Step, CloseStepError> {
        self.closer.step(self.clock.now()).await
    }

    /// Steps until a settlement is in a block.
    pub async fn step_until_mined(&self) {
        for _ in 0..MAX_STEPS {
            match self.step().await {
                Step::Mined(..) => return,
                Step::Pending(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Step::Queued(..) | Step::Sent(..) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("not mined after {MAX_STEPS} steps");
    }

    /// The channel as the chain has it, at the newest block.
    pub fn record(&self, channel: ChannelId) -> Arc<ChannelRecord> {
        self.vendor.mirror().view(channel).head.unwrap()
    }

    /// Asks for a step by hand.
    pub fn ask(&self, channel: ChannelId, step: SettlementStep) {
        self.closer.ask(channel, step);
    }
}

/// A client.
pub struct Customer {
    /// Its development account.
    pub account: usize,
    /// Signs receipts.
    pub key: Arc<Key>,
    /// On chain.
    pub steps: ChannelSteps<MemoryStore>,
    /// Pays.
    pub payer: ChannelPayer<MemoryStore>,
    /// Keeps.
    pub store: MemoryStore,
}

impl Customer {
    /// Its address.
    pub fn address(&self) -> Address {
        self.steps.sender().address()
    }

    /// Buys number `number` for so many units.
    pub async fn buy<S: Store>(
        &self,
        window: &Window<S>,
        channel: ChannelId,
        number: u64,
        units: u32,
    ) -> Result<Paid<u64>, PayError> {
        let asset = self.asset(channel).await;
        let purchase = purchase(number, units, asset);
        self.payer.pay(window, &purchase, channel, &[]).await
    }

    async fn asset(&self, channel: ChannelId) -> Address {
        let stored = self.store.client_channel(channel).await.unwrap();
        stored.map_or(NATIVE, |stored| stored.channel.terms()[0].permit().asset())
    }

    /// Where it stands.
    pub async fn position(&self, channel: ChannelId) -> Index {
        let stored = self.store.client_channel(channel).await.unwrap().unwrap();
        stored.channel.acknowledged().index
    }
}

/// What to buy.
pub fn purchase(number: u64, units: u32, asset: Address) -> Purchase<u64> {
    Purchase {
        order: OrderId(hash("channel order", number)),
        item: number,
        item_hash: ItemHash(hash("item", number)),
        price: UNIT.saturating_mul(units.into()),
        asset,
    }
}

/// A vendor as its clients see it. Sells numbers: the good of item `n` is `n`, and a price is what the client says.
pub struct Window<S> {
    stall: Arc<Stall<S>>,
    faults: PlainMutex<VecDeque<Fault>>,
    /// Units that an item costs; 0: whatever is paid.
    units: PlainMutex<u32>,
    /// Goods that left, in order.
    pub delivered: PlainMutex<Vec<u64>>,
}

impl<S: Store> Window<S> {
    /// The window of a stall.
    pub fn new(stall: &Arc<Stall<S>>) -> Self {
        Self {
            stall: Arc::clone(stall),
            faults: PlainMutex::default(),
            units: PlainMutex::new(1),
            delivered: PlainMutex::default(),
        }
    }

    /// The next message suffers this.
    pub fn fail(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// From now on an item costs so many units.
    pub fn price(&self, units: u32) {
        *self.units.lock().unwrap() = units;
    }

    /// A payment arrives.
    pub async fn admit(
        &self,
        order: OrderId,
        item: u64,
        payment: &Payment,
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<Admitted<S>, AcceptError> {
        let asset = self
            .stall
            .vendor
            .record(payment.channel)
            .map_or(NATIVE, |record| record.opening().asset);
        let units = *self.units.lock().unwrap();
        let sale = Sale {
            order,
            item: ItemHash(hash("item", item)),
            price: UNIT.saturating_mul(units.into()),
            asset,
        };
        let now = self.stall.clock.now();
        self.stall
            .vendor
            .admit(sale, *payment, checkpoint.cloned(), now)
            .await
    }
}

/// An answer to what is refused.
pub fn refusal<G>(error: &AcceptError) -> Answer<G> {
    Answer::Refused {
        rule: error.rule().to_owned(),
        message: error.to_string(),
        retry: error.retry(),
        position: error.position(),
    }
}

fn api(rule: &str, error: &impl ToString) -> ApiError {
    ApiError::Refused {
        rule: rule.to_owned(),
        message: error.to_string(),
        retry: protocol::ticket::Retry::Never,
    }
}

impl<S: Store> VendorApi for Window<S> {
    type Item = u64;
    type Good = u64;

    async fn pay(
        &self,
        order: OrderId,
        item: &u64,
        payment: &Payment,
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<Answer<u64>, ApiError> {
        let fault = self.faults.lock().unwrap().pop_front();
        let lost = || Err(ApiError::Transport("as the test wishes".into()));
        if fault == Some(Fault::LoseRequest) {
            return lost();
        }
        let answer = match self.admit(order, *item, payment, checkpoint).await {
            Ok(Admitted::Deliver(delivery)) if fault == Some(Fault::LoseGood) => {
                delivery.failed().await;
                Answer::Failed {
                    message: "as the test wishes".into(),
                }
            }
            Ok(Admitted::Deliver(delivery)) if fault == Some(Fault::Keep) => {
                delivery.kept();
                return lost();
            }
            Ok(Admitted::Deliver(delivery)) => {
                delivery.delivered(|_| ()).await;
                self.delivered.lock().unwrap().push(*item);
                Answer::Delivered { good: *item }
            }
            Ok(Admitted::Repeat(_)) => Answer::Delivered { good: *item },
            Err(error) => refusal(&error),
        };
        if fault == Some(Fault::LoseAnswer) {
            lost()
        } else {
            Ok(answer)
        }
    }

    async fn position(&self, channel: ChannelId) -> Result<Option<Position>, ApiError> {
        let standing = self.stall.vendor.standing(channel).await;
        let standing = standing.map_err(|error| ApiError::Transport(error.to_string()))?;
        Ok(standing.map(|standing| Position {
            receipt: standing.receipt,
            before: standing.before,
            accounted: standing.accounted,
            held: standing.held,
        }))
    }

    async fn open_receipts(&self, opener: &Opener) -> Result<ReceiptsOpened, ApiError> {
        let opened = self
            .stall
            .vendor
            .open_receipts(*opener, 2, self.stall.clock.now())
            .await;
        let opened = opened.map_err(|error| api("opener", &error))?;
        Ok(ReceiptsOpened {
            opened: opened.receipts.len() as u32,
            ends_in_sigma0: opened.ends_in_sigma0,
        })
    }

    async fn cooperative_close(&self, channel: ChannelId, index: Index) -> Result<Signature, ApiError> {
        let (vendor, key, now) = (&self.stall.vendor, &self.stall.key, self.stall.clock.now());
        let signed = vendor.sign_cooperative_close(key, channel, index, now).await;
        signed.map_err(|error| api("cooperative-close", &error))
    }

    async fn resend(&self, _channel: ChannelId, payments: &[(OrderId, Payment)]) -> Result<(), ApiError> {
        let taken = self.stall.vendor.restore(payments, self.stall.clock.now()).await;
        taken.map(drop).map_err(|error| api("restore", &error))
    }
}
