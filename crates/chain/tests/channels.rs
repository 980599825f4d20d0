//! The payment channel on a real chain: what the mirror says of it through reorgs and restarts, and what the contract says.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::SolCall;
use bindings::channel::PaymentChannel::{
    PaymentChannelErrors, checkpointCall, closeCall, openCall, setBankKeyCall, setOperatorCall,
    setReputationCall,
};
use bindings::channel::{LastReceipt, Proof, Terms};
use micropay_chain::anvil::{Anvil, AnvilOptions};
use micropay_chain::{
    At, BankKey, ChainError, Channels, Client, Finality, Follower, FollowerConfig, Mirror, Polled, Records,
    Scheme, Sender, Start, deploy,
};
use protocol::channel::{
    AdmitPolicy, AdmitRequest, Admitted, Amount, Chain, ChainSeed, ChannelId, ChannelRecord, Index, Key,
    Reputation, Seconds, Status, admit,
};
use support::{config, sender};

const UNIT: Amount = Amount(1_000);
const LENGTH: Index = Index(8);
const NATIVE: Address = Address::ZERO;

/// A chain with the contract, and a bank whose customers both others are.
struct Town {
    anvil: Anvil,
    client: Client<Channels>,
    bank: Sender<Channels>,
    payer: Sender<Channels>,
    vendor: Sender<Channels>,
}

/// A channel as its client opens it.
struct Opening {
    admitted: Admitted,
    salt: B256,
    words: Chain,
}

async fn town() -> Town {
    let anvil = Anvil::spawn(&AnvilOptions::default()).unwrap();
    let bare = Client::<Channels>::connect_before_deploy(anvil.url(), config(31337))
        .await
        .unwrap();
    deploy::deploy(&sender(&bare, 0)).await.unwrap();
    let client = Client::connect(anvil.url(), config(31337)).await.unwrap();
    let town = Town {
        bank: sender(&client, 1),
        payer: sender(&client, 2),
        vendor: sender(&client, 3),
        client,
        anvil,
    };
    for customer in [town.payer.address(), town.vendor.address()] {
        let reputation = 80;
        town.act(&town.bank, setReputationCall { customer, reputation })
            .await;
    }
    town
}

impl Town {
    async fn act(&self, who: &Sender<Channels>, call: impl SolCall) {
        let data = call.abi_encode().into();
        who.send(self.client.contract(), data, U256::ZERO).await.unwrap();
    }

    async fn opening(&self, name: &str) -> Opening {
        let (domain, salt) = (self.client.domain(), keccak256(name));
        let now = self.client.head().await.unwrap().timestamp;
        let (client, vendor) = (self.payer.address(), self.vendor.address());
        let channel = domain.channel_id(client, vendor, salt);
        let words = Chain::from_seed(ChainSeed::new(salt.0), channel, LENGTH).unwrap();
        let request = AdmitRequest {
            client,
            vendor,
            salt,
            receipt_key: Address::repeat_byte(9),
            asset: NATIVE,
            unit: UNIT,
            length: LENGTH,
            anchor: words.anchor(),
            expiry: now.plus(Seconds::DAY),
        };
        let reputation = Reputation::new(80).unwrap();
        let policy = AdmitPolicy::default();
        let permit = admit(&domain, &request, reputation, reputation, &policy, now).unwrap();
        let key = Key::from_bytes(&Anvil::key(1).to_bytes().0).unwrap();
        let admitted = permit.sign(self.bank.address(), &key);
        Opening {
            admitted,
            salt,
            words,
        }
    }

    /// Puts a transaction into a block of its own. By its bytes it can be put into another.
    async fn step(&self, who: &Sender<Channels>, call: Vec<u8>, value: u128) -> Bytes {
        let (contract, value) = (self.client.contract(), U256::from(value));
        let prepared = who
            .prepare(contract, call.into(), value, None, None)
            .await
            .unwrap();
        self.broadcast(who, &prepared.raw).await;
        prepared.raw
    }

    /// The node takes it, and makes a block of it a moment later.
    async fn broadcast(&self, who: &Sender<Channels>, raw: &Bytes) {
        let before = self.client.head().await.unwrap().number;
        who.broadcast(raw).await.unwrap();
        for _ in 0..500 {
            if self.client.head().await.unwrap().number > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no block after {before}");
    }

    /// The mirror says what the contract says, at the newest and at the final block.
    async fn assert_mirrors(&self, mirror: &Mirror<Channels>, terms: &Terms) {
        let channel = ChannelId(terms.permit.channelId);
        let view = mirror.view(channel);
        for (record, block) in [
            (view.head, mirror.head()),
            (view.last_final, mirror.final_block()),
        ] {
            let at = At::Block(block.hash);
            let told = self.client.channel_of(terms, at).await.unwrap().map(|told| {
                let proven = (told.badLockProven, told.doubleReceiptProven);
                (told.settled, told.length, told.expiry, proven)
            });
            let folded = record.as_deref().map(|record: &ChannelRecord| {
                let proven = (record.bad_lock_proven, record.double_receipt_proven);
                (record.settled.0, record.length().0, record.expiry().0, proven)
            });
            assert_eq!(folded, told, "at block {}", block.number);
            let status = self.client.status_of(channel, at).await.unwrap();
            assert_eq!(record.map(|record| (record.status(), record.settled)), status);
        }
    }
}

impl Opening {
    fn terms(&self) -> Terms {
        self.admitted.terms()
    }

    fn channel(&self) -> ChannelId {
        self.admitted.permit().channel()
    }

    fn open(&self) -> Vec<u8> {
        openCall {
            permit: self.admitted.permit().fields().clone(),
            salt: self.salt,
            bank: self.admitted.bank(),
            sigma0: self.admitted.signature().to_sol(),
        }
        .abi_encode()
    }

    fn deposit(&self) -> u128 {
        self.admitted.permit().deposit().unwrap().0
    }

    fn proof(&mut self, index: u32) -> Proof {
        Proof {
            index,
            word: self.words.word(Index(index)).unwrap().0,
            ..Proof::default()
        }
    }

    fn checkpoint(&mut self, index: u32) -> Vec<u8> {
        checkpointCall {
            terms: self.terms(),
            proof: self.proof(index),
        }
        .abi_encode()
    }

    fn close(&mut self, index: u32) -> Vec<u8> {
        closeCall {
            terms: self.terms(),
            proof: self.proof(index),
            transcript: keccak256("all of it"),
            receipt: LastReceipt::default(),
        }
        .abi_encode()
    }
}

/// A follower, and what its role has saved.
struct Role {
    follower: Follower<Channels>,
    saved: Records<Channels>,
}

const FOLLOWING: FollowerConfig = FollowerConfig {
    finality: Finality::Depth(3),
    max_range: 100,
};

impl Role {
    async fn new(town: &Town) -> Self {
        let block = town.client.deployment_block().await.unwrap();
        let start = Start::Deployed { block };
        let follower = Follower::start(town.client.clone(), FOLLOWING, start)
            .await
            .unwrap();
        Self {
            follower,
            saved: Records::<Channels>::new(),
        }
    }

    async fn poll(&mut self) -> Polled<Channels> {
        loop {
            let polled = self.follower.poll().await.unwrap();
            self.saved.extend(polled.changed.clone());
            if polled.behind == 0 {
                return polled;
            }
        }
    }

    /// Where the channel stands at the final and at the newest block.
    fn stands(&self, channel: ChannelId) -> [Option<(Status, Index)>; 2] {
        let view = self.follower.mirror().view(channel);
        [view.last_final, view.head].map(|record| record.map(|record| (record.status(), record.settled)))
    }

    /// A process that was killed and comes back to the same chain.
    async fn restarted(&self, town: &Town) -> Self {
        let start = Start::Saved {
            cursor: self.follower.mirror().final_block(),
            records: self.saved.clone(),
        };
        let follower = Follower::start(town.client.clone(), FOLLOWING, start)
            .await
            .unwrap();
        Self {
            follower,
            saved: self.saved.clone(),
        }
    }
}

#[tokio::test]
async fn opening_checkpoint_and_close_go_with_a_reorg_and_come_back() {
    let town = town().await;
    let mut role = Role::new(&town).await;
    let mut opening = town.opening("channel").await;
    let (channel, terms, deposit) = (opening.channel(), opening.terms(), opening.deposit());
    let steps = [
        (&town.payer, opening.open(), deposit, Status::Open, Index(0)),
        (&town.vendor, opening.checkpoint(3), 0, Status::Open, Index(3)),
        (&town.vendor, opening.close(5), 0, Status::Closed, Index(5)),
    ];
    let mut before = None;
    for (who, call, value, status, settled) in steps {
        let after = Some((status, settled));
        let sent = town.step(who, call, value).await;
        role.poll().await;
        assert_eq!(role.stands(channel), [before, after]);
        town.assert_mirrors(&role.follower.mirror(), &terms).await;

        town.anvil.reorg(1).await.unwrap();
        assert_eq!(role.poll().await.rolled_back, 1);
        assert_eq!(role.stands(channel), [before, before]);
        town.assert_mirrors(&role.follower.mirror(), &terms).await;

        town.broadcast(who, &sent).await;
        role.poll().await;
        assert_eq!(role.stands(channel), [before, after]);
        // Not yet final: a restart finds it on the chain again.
        let mut again = role.restarted(&town).await;
        again.poll().await;
        assert_eq!(again.stands(channel), [before, after]);

        town.anvil.mine(3).await.unwrap();
        assert!(role.poll().await.changed.contains_key(&channel));
        assert_eq!(role.stands(channel), [after, after]);
        town.assert_mirrors(&role.follower.mirror(), &terms).await;
        role = role.restarted(&town).await;
        role.poll().await;
        assert_eq!(role.stands(channel), [after, after]);
        before = after;
    }
    let credit = |account| town.client.credit_of(NATIVE, account, At::Latest);
    assert_eq!(credit(town.vendor.address()).await.unwrap(), Amount(5 * UNIT.0));
    assert_eq!(credit(town.payer.address()).await.unwrap(), Amount(3 * UNIT.0));
}

#[tokio::test]
async fn a_reorg_may_keep_a_checkpoint_and_lose_the_close_after_it() {
    let town = town().await;
    let mut role = Role::new(&town).await;
    let mut opening = town.opening("channel").await;
    let channel = opening.channel();
    town.step(&town.payer, opening.open(), opening.deposit()).await;
    town.anvil.mine(3).await.unwrap();
    let first = town.step(&town.vendor, opening.checkpoint(2), 0).await;
    town.step(&town.vendor, opening.checkpoint(4), 0).await;
    town.step(&town.vendor, opening.close(6), 0).await;
    let opened = Some((Status::Open, Index(0)));
    let closed = Some((Status::Closed, Index(6)));
    // A busy node may tell of a receipt before it tells of the block.
    for _ in 0..50 {
        role.poll().await;
        if role.stands(channel)[1] == closed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(role.stands(channel), [opened, closed]);

    town.anvil.reorg_with(3, &[(first, 1)]).await.unwrap();
    assert_eq!(role.poll().await.rolled_back, 3);
    let paid_two = Some((Status::Open, Index(2)));
    assert_eq!(role.stands(channel), [opened, paid_two]);
    town.anvil.mine(3).await.unwrap();
    let polled = role.poll().await;
    assert_eq!(polled.newly_final.len(), 1);
    assert_eq!(role.stands(channel), [paid_two, paid_two]);
    town.assert_mirrors(&role.follower.mirror(), &opening.terms())
        .await;
}

#[tokio::test]
async fn what_the_contract_keeps_of_banks_and_operators_can_be_read() {
    let town = town().await;
    let (bank, vendor) = (town.bank.address(), town.vendor.address());
    let reputation = |customer| town.client.reputation_of(bank, customer, At::Latest);
    assert_eq!(reputation(vendor).await.unwrap(), Reputation::new(80).unwrap());
    assert_eq!(reputation(bank).await.unwrap(), Reputation::default());

    let own = town.client.bank_key_of(bank, At::Latest).await.unwrap();
    assert_eq!(own, BankKey { key: bank, epoch: 0 });
    let key = Address::repeat_byte(4);
    town.act(&town.bank, setBankKeyCall { key }).await;
    let set = town.client.bank_key_of(bank, At::Latest).await.unwrap();
    assert_eq!(set, BankKey { key, epoch: 1 });

    let operator = Address::repeat_byte(5);
    let may = || town.client.is_operator(vendor, operator, At::Latest);
    assert!(!may().await.unwrap());
    let approved = true;
    town.act(&town.vendor, setOperatorCall { operator, approved })
        .await;
    assert!(may().await.unwrap());

    let unknown = town.opening("never opened").await;
    let status = town.client.status_of(unknown.channel(), At::Latest).await;
    assert_eq!(status.unwrap(), None);
    let told = town.client.channel_of(&unknown.terms(), At::Latest).await;
    assert_eq!(told.unwrap(), None);
}

#[tokio::test]
async fn a_channels_errors_are_named_with_their_values() {
    let town = town().await;
    let opening = town.opening("channel").await;
    let (data, value) = (Bytes::from(opening.open()), opening.deposit());
    let send = || {
        let contract = town.client.contract();
        town.payer.send(contract, data.clone(), U256::from(value))
    };
    send().await.unwrap();
    let error = send().await.unwrap_err();
    let revert = error.revert().unwrap();
    assert_eq!(revert.name, "ChannelExists");
    assert!(revert.text.contains(&opening.channel().to_string()), "{revert}");
    assert!(matches!(
        revert.error_of::<Channels>(),
        Some(PaymentChannelErrors::ChannelExists(_))
    ));
    assert!(revert.error_of::<micropay_chain::Tickets>().is_none());
}

#[tokio::test]
async fn a_ticket_escrow_is_no_payment_channel() {
    let world = support::world(AnvilOptions::default()).await;
    let at = micropay_chain::ChainConfig {
        contract: Some(world.contract()),
        ..config(31337)
    };
    let error = Client::<Channels>::connect(world.anvil.url(), at)
        .await
        .unwrap_err();
    let ChainError::WrongContract { scheme, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*scheme, Channels::NAME);
}
