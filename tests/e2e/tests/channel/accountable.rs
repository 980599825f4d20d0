//! Clients that sign for their locks: what does not open is a proof, and moves no money.

use std::sync::Arc;

use chain::At;
use merchant::channel::{AcceptError, Accountability, Admitted, ProveError};
use micropay_e2e::{Customer, Market, NATIVE, Stall, StallSetup, UNIT, Window, hash, purchase};
use payer::channel::{Checkpoints, VendorApi};
use protocol::channel::{
    Chain, ChannelId, ClientChannel, Index, ItemHash, LockTree, LockedReceipt, Opener, Payment, Sigma,
    chain_seed, transcript,
};
use storage::MemoryStore;
use storage::channel::{ClientChannelStore, SettlementStep};

use super::{CLIENT, VENDOR};

const EVERY: u32 = 4;

struct Scene {
    market: Market,
    customer: Customer,
    stall: Arc<Stall<MemoryStore>>,
    window: Window<MemoryStore>,
    channel: ChannelId,
}

async fn scene(name: &str) -> Scene {
    let market = Market::new().await;
    market.set_reputation(CLIENT, 80).await;
    market.set_reputation(VENDOR, 60).await;
    let customer = market
        .customer(CLIENT, name, Checkpoints::Accountable(EVERY))
        .await;
    let mut setup = StallSetup::new(VENDOR);
    setup.accountability = Accountability::Required { every: EVERY };
    let stall = market.stall_with(setup).await;
    let window = Window::new(&stall);
    let channel = market.open(&customer, stall.address(), 40).await;
    market.finalize(&stall).await;
    Scene {
        market,
        customer,
        stall,
        window,
        channel,
    }
}

/// A client by hand: what it sends may be changed on the way.
struct Cheat {
    channel: ClientChannel,
    chain: Chain,
    sent: Vec<LockedReceipt>,
    accounted: usize,
}

impl Cheat {
    async fn new(scene: &Scene) -> Self {
        let stored = scene
            .customer
            .store
            .client_channel(scene.channel)
            .await
            .unwrap()
            .unwrap();
        let seed = chain_seed(&scene.customer.key, scene.channel, 0, Index(40));
        Self {
            channel: stored.channel,
            chain: Chain::from_seed(seed, scene.channel, Index(40)).unwrap(),
            sent: Vec::new(),
            accounted: 0,
        }
    }

    /// Pays for an item, with a checkpoint where it is due.
    async fn pay(&mut self, scene: &Scene, number: u64, change: impl FnOnce(&mut Payment)) {
        let key = &scene.customer.key;
        let domain = &scene.market.domain;
        let last = self
            .accounted
            .checked_sub(1)
            .map_or(Index::ZERO, |at| self.sent[at].index);
        let mut checkpoint = None;
        if self.channel.acknowledged().index.above(last) >= EVERY {
            let root = LockTree::over(&self.sent[self.accounted..], last).unwrap().root();
            checkpoint = Some(
                self.channel
                    .checkpoint(domain, key, &mut self.chain, root)
                    .unwrap(),
            );
            self.accounted = self.sent.len();
        }
        let item = ItemHash(hash("item", number));
        let now = scene.market.world.clock.now();
        let prepared = self
            .channel
            .pay(domain, key, &mut self.chain, item, 1, now)
            .unwrap();
        let (channel, mut payment) = prepared.send();
        self.channel = channel.acknowledge(payment.tag).unwrap();
        change(&mut payment);
        self.sent.push(payment.receipt());
        let order = purchase(number, 1, NATIVE).order;
        match scene
            .window
            .admit(order, number, &payment, checkpoint.as_ref())
            .await
        {
            Ok(Admitted::Deliver(delivery)) => drop(delivery.delivered(|_| ()).await),
            Ok(Admitted::Repeat(_)) => panic!("a repeat"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn clients_that_sign_for_good_locks_are_served_and_cannot_be_accused() {
    let scene = scene("good").await;
    for number in 1..=14 {
        scene
            .customer
            .buy(&scene.window, scene.channel, number, 1)
            .await
            .unwrap();
    }
    let position = scene.window.position(scene.channel).await.unwrap().unwrap();
    assert_eq!(position.accounted, Index(12));
    let opened = scene
        .customer
        .steps
        .deliver_opener(&scene.window, scene.channel)
        .await
        .unwrap();
    assert!(opened.ends_in_sigma0);
    let proof = scene.stall.closer.prove_bad_lock(scene.channel).await;
    assert!(
        matches!(proof, Err(ProveError::AllOpen { opened: 14, .. })),
        "{proof:?}"
    );
}

#[tokio::test]
async fn who_does_not_sign_for_its_locks_is_not_served_for_long() {
    let scene = scene("silent").await;
    let mut cheat = Cheat::new(&scene).await;
    for number in 1..=u64::from(EVERY) {
        cheat.pay(&scene, number, |_| ()).await;
    }
    let (domain, key) = (&scene.market.domain, &scene.customer.key);
    let item = ItemHash(hash("item", 5));
    let now = scene.market.world.clock.now();
    let (_, payment) = cheat
        .channel
        .pay(domain, key, &mut cheat.chain, item, 1, now)
        .unwrap()
        .send();
    let order = purchase(5, 1, NATIVE).order;
    let silent = scene.window.admit(order, 5, &payment, None).await;
    assert!(matches!(silent, Err(AcceptError::CheckpointDue { .. })));
    let wrong = cheat
        .channel
        .checkpoint(domain, key, &mut cheat.chain, hash("root", 1))
        .unwrap();
    let wrong = scene.window.admit(order, 5, &payment, Some(&wrong)).await;
    assert!(matches!(wrong, Err(AcceptError::Checkpoint(_))));
}

#[tokio::test]
async fn attack_garbage_lock_value_unaffected() {
    let scene = scene("garbage").await;
    let mut cheat = Cheat::new(&scene).await;
    for number in 1..=9 {
        // The lock of payment 6 opens nothing.
        cheat
            .pay(&scene, number, |payment| {
                if payment.index == Index(6) {
                    payment.lock.0[7] ^= 1;
                }
            })
            .await;
    }
    let opener = cheat.channel.opener();
    let mut forged = opener.sigma.to_bytes();
    forged[0] ^= 1;
    if let Ok(sigma) = Sigma::from_bytes(&forged) {
        let forged = Opener { sigma, ..opener };
        scene.window.open_receipts(&forged).await.unwrap_err();
    }
    let now = scene.market.world.clock.now();
    let opened = scene.stall.vendor.open_receipts(opener, 2, now).await.unwrap();
    assert_eq!((opened.receipts.len(), opened.unopenable.len()), (4, 5));
    assert!(!opened.ends_in_sigma0);

    // It costs the client its reputation, once.
    let client = scene.customer.address();
    let reputation = async || {
        let bank = scene.market.bank();
        scene
            .market
            .client
            .reputation_of(bank, client, At::Latest)
            .await
            .unwrap()
            .get()
    };
    assert_eq!(reputation().await, 80);
    scene.stall.closer.prove_bad_lock(scene.channel).await.unwrap();
    assert_eq!(reputation().await, 65);
    scene
        .stall
        .closer
        .prove_bad_lock(scene.channel)
        .await
        .unwrap_err();

    // The vendor closes such a channel by itself, for all that was paid.
    let settled = scene.market.settle(&scene.stall).await;
    assert_eq!((settled.settled, settled.paid), (1, 9 * UNIT.0));
}

#[tokio::test]
async fn two_receipts_of_one_index_are_a_proof() {
    let scene = scene("double").await;
    let (market, channel) = (&scene.market, scene.channel);
    scene.customer.buy(&scene.window, channel, 1, 1).await.unwrap();
    let stored = scene
        .customer
        .store
        .client_channel(channel)
        .await
        .unwrap()
        .unwrap();
    let start = stored.channel.terms()[0].permit().transcript();
    let receipt = |number: u64| {
        let item = ItemHash(hash("item", number));
        let locked = LockedReceipt {
            index: Index(2),
            item,
            issued_at: market.world.clock.now(),
            lock: protocol::channel::Lock([0; 64]),
            tag: protocol::channel::Tag::default(),
        };
        let fields = locked.receipt(channel, UNIT, transcript(start, item));
        let sigma = Sigma::from(&scene.customer.key.sign(market.domain.receipt_digest(&fields)));
        (fields, sigma)
    };
    let (a, b) = (receipt(2), receipt(3));
    let closer = &scene.stall.closer;
    closer
        .prove_double_receipt(channel, (&a.0, &a.1), (&a.0, &a.1))
        .await
        .unwrap_err();
    closer
        .prove_double_receipt(channel, (&a.0, &a.1), (&b.0, &b.1))
        .await
        .unwrap();
    let reputation = market
        .client
        .reputation_of(market.bank(), scene.customer.address(), At::Latest);
    assert_eq!(reputation.await.unwrap().get(), 50);
    scene.stall.ask(channel, SettlementStep::Close);
    assert_eq!(market.settle(&scene.stall).await.paid, UNIT.0);
}
