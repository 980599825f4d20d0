//! One chain with the contract and a token, ten rich accounts, and a clock that tests can put forward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::Provider;
use alloy::sol_types::SolCall;
use bindings::test_token::TestToken;
use bindings::ticket::{Ticket as Fields, TicketEscrow, Winner};
use chain::anvil::{Anvil, AnvilOptions};
use chain::{At, ChainClient, ChainConfig, Mined, Sender, SenderConfig, deploy};
use merchant::ticket::Price;
use payer::ticket::{Edges, EscrowSteps, Limits, Opening, Payer};
use protocol::ticket::{
    Amount, Domain, EscrowKey, EscrowRecord, Issued, Nonce, Policy, Quote, Ticket, Timestamp, WinThreshold,
    draw, odds,
};
use storage::{MemoryStore, StoreIdentity};

/// The native asset's place in the asset type.
pub const NATIVE: Address = Address::ZERO;
/// What a winner pays in these tests, atomic units: 2^24 gwei, so that the prices below are exact.
pub const PRIZE: Amount = Amount((1 << 24) * 1_000_000_000);

/// How often tickets of a price win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odds {
    /// All but one in 2^24: the highest threshold that an escrow can allow.
    Sure,
    /// One in two.
    Half,
    /// One in 10^16.
    Never,
}

impl Odds {
    /// What a ticket of this kind is worth.
    pub fn price(self) -> Amount {
        match self {
            Self::Sure => Amount(PRIZE.0 - (PRIZE.0 >> 24)),
            Self::Half => Amount(PRIZE.0 / 2),
            Self::Never => Amount(1),
        }
    }

    /// The threshold that makes the price.
    pub fn threshold(self) -> WinThreshold {
        WinThreshold::for_price(self.price(), PRIZE).unwrap()
    }

    /// A merchant's price in an asset.
    pub fn in_asset(self, asset: Address) -> Price {
        Price {
            asset,
            price: self.price(),
            min_prize: PRIZE,
            max_prize: PRIZE,
        }
    }
}

/// Terms with the penalty that merchants ask for, for any odds.
pub fn terms(asset: Address, ticket_cap: u64, prizes: u64) -> Opening {
    let max_threshold = Odds::Sure.threshold();
    let ticket_cap = Nonce(ticket_cap);
    let penalty = odds::required_penalty(PRIZE, ticket_cap, max_threshold, Policy::default().epsilon);
    Opening {
        asset,
        prize: PRIZE,
        max_threshold,
        ticket_cap,
        penalty,
        balance: PRIZE.saturating_mul(prizes),
    }
}

/// The system's time, and what tests have put it forward by.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Unix seconds.
    pub fn now(&self) -> Timestamp {
        Timestamp(system_now().0 + self.0.load(Ordering::Relaxed))
    }

    /// From now on it is later.
    pub fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// The system's time.
pub fn system_now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// 32 bytes that no other call returns.
pub fn random() -> B256 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    keccak256([count.to_be_bytes().as_slice(), &time.to_be_bytes()].concat())
}

/// 32 bytes that follow from a name and a number.
pub fn hash(name: &str, number: u64) -> B256 {
    keccak256([name.as_bytes(), &number.to_be_bytes()].concat())
}

/// An escrow with its key.
#[derive(Clone, Debug)]
pub struct Escrow {
    /// Signs tickets.
    pub key: Arc<EscrowKey>,
    /// As it was opened.
    pub record: EscrowRecord,
}

impl Escrow {
    /// Its name on chain.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// A ticket for a quote, as a payer makes it, with a nonce of the test's choice.
    pub fn ticket(&self, domain: &Domain, quote: &Quote, nonce: u64, now: Timestamp) -> Ticket<Issued> {
        Ticket::issue(
            domain,
            &self.key,
            quote,
            random(),
            quote.expiry(now),
            Nonce(nonce),
        )
    }

    /// A winner that the escrow's holder makes for a recipient whose `r1` it knows: itself, under another name.
    pub fn sybil_winner(
        &self,
        domain: &Domain,
        recipient: Address,
        r1: B256,
        nonce: u64,
        expiry: Timestamp,
    ) -> Winner {
        let mut fields = Fields {
            escrow: self.address(),
            recipient,
            commitment: domain.commitment(recipient, r1),
            r2: B256::ZERO,
            winThreshold: self.record.max_threshold.0,
            expiry: expiry.0,
            nonce,
        };
        while draw(domain.ticket_digest(&fields), r1) >= fields.winThreshold {
            fields.r2 = keccak256(fields.r2);
        }
        let signature = self.key.sign(domain.ticket_digest(&fields)).to_sol();
        Winner {
            r2: fields.r2,
            winThreshold: fields.winThreshold,
            expiry: fields.expiry,
            nonce,
            signature,
        }
    }
}

/// A ticket with these fields, signed by this key for this domain, whatever they say.
pub fn forge(domain: &Domain, key: &EscrowKey, fields: Fields) -> Ticket<Issued> {
    let signature = key.sign(domain.ticket_digest(&fields));
    Ticket::from_parts(domain, fields, signature)
}

/// The chain and what everybody needs of it.
#[derive(Debug)]
pub struct World {
    /// The node.
    pub anvil: Anvil,
    /// A connection to it.
    pub client: ChainClient,
    /// The contract's domain.
    pub domain: Domain,
    /// An ERC-20 that anyone may mint.
    pub token: Address,
    /// The time that shops go by.
    pub clock: Clock,
}

impl World {
    /// An anvil that mines a block per transaction, with the contract and a token deployed by the last account.
    pub async fn new() -> Self {
        Self::with_args(&[]).await
    }

    /// As [`World::new`], with more arguments for anvil.
    pub async fn with_args(args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        let anvil = Anvil::spawn(&AnvilOptions {
            args,
            ..AnvilOptions::default()
        })
        .unwrap();
        let config = ChainConfig::new(anvil.chain_id());
        let bare = ChainClient::connect_before_deploy(anvil.url(), config.clone())
            .await
            .unwrap();
        let deployer = Self::sender_on(&bare, 9);
        deploy::deploy(&deployer).await.unwrap();
        let token = deploy::FACTORY.create2_from_code(B256::ZERO, &TestToken::BYTECODE);
        let code = [B256::ZERO.as_slice(), &TestToken::BYTECODE].concat();
        deployer
            .send(deploy::FACTORY, code.into(), U256::ZERO)
            .await
            .unwrap();
        let client = ChainClient::connect(anvil.url(), config).await.unwrap();
        Self {
            domain: client.domain(),
            client,
            anvil,
            token,
            clock: Clock::default(),
        }
    }

    /// Sends from development account `index` over some connection.
    pub fn sender_on(client: &ChainClient, index: usize) -> Sender {
        let config = SenderConfig {
            poll_interval: Duration::from_millis(20),
            ..SenderConfig::default()
        };
        Sender::with_config(client.clone(), Anvil::key(index), config)
    }

    /// Sends from development account `index`.
    pub fn sender(&self, index: usize) -> Sender {
        Self::sender_on(&self.client, index)
    }

    /// The payer's steps from development account `index`.
    pub fn steps(&self, index: usize) -> EscrowSteps {
        EscrowSteps::new(self.sender(index))
    }

    /// The contract's address.
    pub fn contract(&self) -> Address {
        self.client.contract()
    }

    /// Calls the contract in a transaction.
    pub async fn call(&self, from: &Sender, call: impl SolCall) -> Mined {
        from.send(self.contract(), call.abi_encode().into(), U256::ZERO)
            .await
            .unwrap()
    }

    /// Gives account `index` tokens.
    pub async fn mint(&self, index: usize, amount: u128) {
        let to = self.sender(index);
        let mint = TestToken::mintCall {
            to: to.address(),
            amount: U256::from(amount),
        };
        to.send(self.token, Bytes::from(mint.abi_encode()), U256::ZERO)
            .await
            .unwrap();
    }

    /// Opens an escrow from account `index`. The key follows from the name.
    pub async fn open(&self, index: usize, name: &str, opening: &Opening) -> Escrow {
        let key = Arc::new(EscrowKey::from_bytes(&keccak256(name).0).unwrap());
        self.steps(index).open(&key, opening).await.unwrap();
        self.escrow(key).await
    }

    /// An escrow that is open already.
    pub async fn escrow(&self, key: Arc<EscrowKey>) -> Escrow {
        let record = self
            .client
            .escrow_of(key.address(), At::Latest)
            .await
            .unwrap()
            .unwrap();
        Escrow { key, record }
    }

    /// A payer that signs whatever it is quoted, with its store.
    pub fn payer(&self, escrow: &Escrow) -> (Payer<MemoryStore>, MemoryStore) {
        self.payer_with(escrow, Limits::default())
    }

    /// A payer with its store.
    pub fn payer_with(&self, escrow: &Escrow, limits: Limits) -> (Payer<MemoryStore>, MemoryStore) {
        let store = MemoryStore::new(StoreIdentity::payer(self.domain));
        let edges = Edges {
            now: system_now,
            random,
        };
        let key = Arc::clone(&escrow.key);
        (
            Payer::new(
                self.domain,
                key,
                escrow.record.clone(),
                limits,
                store.clone(),
                edges,
            ),
            store,
        )
    }

    /// Puts both the chain and the shops' clocks forward.
    pub async fn forward(&self, seconds: u64) {
        self.anvil.increase_time(seconds).await.unwrap();
        self.clock.forward(seconds);
    }

    /// What the contract owes an account.
    pub async fn credit(&self, asset: Address, account: Address) -> u128 {
        self.client.credit_of(asset, account, At::Latest).await.unwrap().0
    }

    /// What an account has.
    pub async fn balance(&self, asset: Address, account: Address) -> u128 {
        self.client.balance(asset, account, At::Latest).await.unwrap().0
    }

    /// Moves all of an account's credit to it.
    pub async fn withdraw_credit(&self, asset: Address, account: &Sender) -> u128 {
        let amount = self.credit(asset, account.address()).await;
        let call = TicketEscrow::withdrawCreditCall {
            asset,
            to: account.address(),
            amount: U256::from(amount),
        };
        self.call(account, call).await;
        amount
    }

    /// What every account has paid for gas so far, from the receipts of every block.
    pub async fn gas_paid(&self) -> BTreeMap<Address, u128> {
        let provider = self.client.provider();
        let mut paid = BTreeMap::new();
        for number in 1..=self.client.head().await.unwrap().number {
            let receipts = provider
                .get_block_receipts(BlockNumberOrTag::Number(number).into())
                .await
                .unwrap();
            for receipt in receipts.unwrap_or_default() {
                *paid.entry(receipt.from).or_default() +=
                    u128::from(receipt.gas_used) * receipt.effective_gas_price;
            }
        }
        paid
    }
}
