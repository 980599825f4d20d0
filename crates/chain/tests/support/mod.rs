//! A local chain with the contract, a token and funded accounts; tickets that win; and a proxy that can spoil answers.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod proxy;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::SolCall;
use bindings::test_token::TestToken;
use bindings::ticket::TicketEscrow::{claimBatchCall, openCall, topUpCall};
use bindings::ticket::{Group, Opening, Terms, Ticket, Winner};
use micropay_chain::anvil::{Anvil, AnvilOptions};
use micropay_chain::{
    At, ChainClient, ChainConfig, ChainError, Client, Mined, Mirror, Scheme, Sender, SenderConfig, deploy,
};
use protocol::ticket::{Domain, EscrowKey, EscrowRecord, draw};
use url::Url;

pub const PRIZE: u128 = 1_000_000;
pub const PENALTY: u128 = 5_000_000;
pub const CAP: u64 = 1_000;
pub const NATIVE: Address = Address::ZERO;
pub const DAY: u64 = 86_400;

/// Half of all tickets win.
pub fn threshold() -> U256 {
    U256::from(1) << 255
}

pub struct World {
    pub anvil: Anvil,
    pub client: ChainClient,
    pub domain: Domain,
    pub payer: Sender,
    pub merchants: [Sender; 3],
    pub stranger: Sender,
    pub token: Address,
}

pub fn config(chain_id: u64) -> ChainConfig {
    ChainConfig {
        request_timeout: Duration::from_secs(10),
        ..ChainConfig::new(chain_id)
    }
}

pub fn sender_config() -> SenderConfig {
    SenderConfig {
        poll_interval: Duration::from_millis(50),
        bump_after: Duration::from_secs(2),
        give_up_after: Duration::from_secs(20),
        ..SenderConfig::default()
    }
}

pub fn sender<S: Scheme>(client: &Client<S>, account: usize) -> Sender<S> {
    Sender::with_config(client.clone(), Anvil::key(account), sender_config())
}

/// Anvil with the contract and a token, of which the payer and the stranger have plenty and have approved all.
pub async fn world(options: AnvilOptions) -> World {
    let anvil = Anvil::spawn(&options).unwrap();
    let bare = ChainClient::connect_before_deploy(anvil.url(), config(anvil.chain_id()))
        .await
        .unwrap();
    let deployer = sender(&bare, 0);
    deploy::deploy(&deployer).await.unwrap();
    let token = deploy::FACTORY.create2_from_code(B256::ZERO, &TestToken::BYTECODE);
    let data = [B256::ZERO.as_slice(), &TestToken::BYTECODE].concat();
    deployer
        .send(deploy::FACTORY, data.into(), U256::ZERO)
        .await
        .unwrap();

    let client = ChainClient::connect(anvil.url(), config(anvil.chain_id()))
        .await
        .unwrap();
    let world = World {
        domain: client.domain(),
        payer: sender(&client, 1),
        merchants: [sender(&client, 2), sender(&client, 3), sender(&client, 4)],
        stranger: sender(&client, 5),
        token,
        client,
        anvil,
    };
    for owner in [&world.payer, &world.stranger] {
        let mint = TestToken::mintCall {
            to: owner.address(),
            amount: U256::from(u64::MAX),
        };
        owner
            .send(token, mint.abi_encode().into(), U256::ZERO)
            .await
            .unwrap();
        let spender = world.client.contract();
        let approve = TestToken::approveCall {
            spender,
            value: U256::MAX,
        };
        owner
            .send(token, approve.abi_encode().into(), U256::ZERO)
            .await
            .unwrap();
    }
    world
}

pub fn key(name: &str) -> EscrowKey {
    EscrowKey::from_bytes(&keccak256(name).0).unwrap()
}

impl World {
    pub fn contract(&self) -> Address {
        self.client.contract()
    }

    pub async fn client_at(&self, url: Url) -> ChainClient {
        ChainClient::connect(url, config(self.anvil.chain_id()))
            .await
            .unwrap()
    }

    pub async fn now(&self) -> u64 {
        self.client.head().await.unwrap().timestamp.0
    }

    pub async fn try_act(&self, who: &Sender, call: impl SolCall, value: u128) -> Result<Mined, ChainError> {
        who.send(self.contract(), call.abi_encode().into(), U256::from(value))
            .await
    }

    pub async fn act(&self, who: &Sender, call: impl SolCall) -> Mined {
        self.try_act(who, call, 0).await.unwrap()
    }

    pub fn open_call(&self, key: &EscrowKey, asset: Address, balance: u128) -> openCall {
        let escrow = key.address();
        let terms = Terms {
            asset,
            prize: U256::from(PRIZE),
            maxThreshold: threshold(),
            ticketCap: CAP,
            penalty: U256::from(PENALTY),
        };
        let opening = Opening {
            escrow,
            payer: self.payer.address(),
            asset,
            prize: terms.prize,
            maxThreshold: terms.maxThreshold,
            ticketCap: terms.ticketCap,
            penalty: terms.penalty,
        };
        let possession = key.sign(self.domain.opening_digest(&opening)).to_sol();
        openCall {
            escrow,
            terms,
            amount: U256::from(balance + PENALTY),
            possession,
        }
    }

    pub async fn open(&self, key: &EscrowKey, asset: Address, balance: u128) {
        let value = if asset == NATIVE { balance + PENALTY } else { 0 };
        self.try_act(&self.payer, self.open_call(key, asset, balance), value)
            .await
            .unwrap();
    }

    pub async fn top_up(&self, who: &Sender, escrow: Address, asset: Address, amount: u128) {
        let value = if asset == NATIVE { amount } else { 0 };
        self.try_act(
            who,
            topUpCall {
                escrow,
                amount: U256::from(amount),
            },
            value,
        )
        .await
        .unwrap();
    }

    /// A ticket whose `r2` is ground until it wins (or loses) under `r1`.
    pub fn ticket(
        &self,
        key: &EscrowKey,
        recipient: Address,
        r1: B256,
        nonce: u64,
        expiry: u64,
        wins: bool,
    ) -> Ticket {
        let commitment = self.domain.commitment(recipient, r1);
        let r2 = B256::ZERO;
        let mut ticket = Ticket {
            escrow: key.address(),
            recipient,
            commitment,
            r2,
            winThreshold: threshold(),
            expiry,
            nonce,
        };
        while (draw(self.domain.ticket_digest(&ticket), r1) < threshold()) != wins {
            ticket.r2 = keccak256(ticket.r2);
        }
        ticket
    }

    pub fn signed(&self, key: &EscrowKey, t: &Ticket) -> Winner {
        let signature = key.sign(self.domain.ticket_digest(t)).to_sol();
        Winner {
            r2: t.r2,
            winThreshold: t.winThreshold,
            expiry: t.expiry,
            nonce: t.nonce,
            signature,
        }
    }

    pub async fn winner(&self, key: &EscrowKey, recipient: Address, nonce: u64) -> Winner {
        let expiry = self.now().await + DAY;
        self.signed(
            key,
            &self.ticket(key, recipient, r1(recipient), nonce, expiry, true),
        )
    }

    /// Claims winners with these nonces in one batch.
    pub async fn claim_batch(&self, key: &EscrowKey, merchant: &Sender, nonces: &[u64]) -> Mined {
        let recipient = merchant.address();
        let mut winners = Vec::new();
        for nonce in nonces {
            winners.push(self.winner(key, recipient, *nonce).await);
        }
        let group = Group {
            escrow: key.address(),
            r1: r1(recipient),
            winners,
        };
        self.act(
            merchant,
            claimBatchCall {
                recipient,
                groups: vec![group],
            },
        )
        .await
    }

    /// The mirror says what the contract says, at the newest and at the final block, for every escrow and account here.
    pub async fn assert_mirrors(&self, mirror: &Mirror, keys: &[&EscrowKey]) {
        let (head, last_final) = (mirror.head(), mirror.final_block());
        for key in keys {
            let escrow = key.address();
            let view = mirror.view(escrow);
            self.assert_record(escrow, view.head.as_deref(), head.hash).await;
            self.assert_record(escrow, view.last_final.as_deref(), last_final.hash)
                .await;
        }
    }

    async fn assert_record(&self, escrow: Address, got: Option<&EscrowRecord>, block: B256) {
        let at = At::Block(block);
        // Before the deployment there is nothing to ask.
        if self.client.check_contract_at(at).await.is_err() {
            assert_eq!(got, None);
            return;
        }
        let bare = |record: &EscrowRecord| EscrowRecord {
            pairs: Default::default(),
            debts: Default::default(),
            ..record.clone()
        };
        assert_eq!(
            got.map(bare),
            self.client.escrow_of(escrow, at).await.unwrap(),
            "escrow at {block}"
        );
        let Some(got) = got else { return };
        for account in self.accounts() {
            let pair = self.client.pair_of(escrow, account, at).await.unwrap();
            assert_eq!(got.pair(account), pair, "pair with {account}");
            let debt = self.client.debt_of(escrow, account, at).await.unwrap();
            assert_eq!(
                got.debts.get(&account).copied().unwrap_or_default(),
                debt,
                "debt to {account}"
            );
        }
    }

    pub fn accounts(&self) -> Vec<Address> {
        let merchants = self.merchants.iter().map(Sender::address);
        merchants
            .chain([self.payer.address(), self.stranger.address()])
            .collect()
    }

    pub fn arc(self) -> Arc<Self> {
        Arc::new(self)
    }
}

/// Asks as of a block whether there is a contract; test only.
pub trait CheckAt {
    fn check_contract_at(&self, at: At) -> impl Future<Output = Result<(), ChainError>>;
}

impl CheckAt for ChainClient {
    async fn check_contract_at(&self, at: At) -> Result<(), ChainError> {
        self.escrow_of(Address::ZERO, at).await.map(drop)
    }
}

/// A recipient's secret in these tests.
pub fn r1(recipient: Address) -> B256 {
    keccak256(recipient)
}

pub fn call_data(call: &impl SolCall) -> Bytes {
    call.abi_encode().into()
}
