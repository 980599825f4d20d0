//! Transactions that are dropped, stuck, or whose account nonce somebody else uses.

use std::sync::Arc;

use alloy::primitives::{Bytes, U256};
use bindings::ticket::TicketEscrow;
use chain::{Fees, Prepared};
use merchant::ticket::Step;
use micropay_e2e::{Escrow, NATIVE, Odds, PRIZE, Setup, Shop, World, terms};
use protocol::ticket::Seconds;
use storage::{ClaimRecord, ClaimStage, ClaimStore, MemoryStore, WinStage};

struct Scene {
    world: World,
    escrow: Escrow,
    shop: Arc<Shop<MemoryStore>>,
}

impl Scene {
    /// A shop with `winners` winners whose claim is sent and waits in the pool.
    async fn sent(name: &str, winners: u64) -> Self {
        let world = World::new().await;
        let escrow = world.open(0, name, &terms(NATIVE, 100, 20)).await;
        let mut setup = Setup::new(1).odds(Odds::Sure);
        setup.bump_after = Seconds(60);
        let shop = world.shop(setup).await;
        world.finalize(&shop).await;
        for nonce in 1..=winners {
            shop.sell(&escrow, nonce).await;
        }
        world.anvil.set_automine(false).await.unwrap();
        shop.claimer.ask();
        assert!(matches!(shop.step().await, Step::Queued(..)));
        assert!(matches!(shop.step().await, Step::Sent(..)));
        assert!(matches!(shop.step().await, Step::Pending(..)));
        assert_eq!(shop.stage().await, WinStage::Sent);
        Self { world, escrow, shop }
    }

    async fn claim(&self) -> ClaimRecord {
        self.shop.store.claims(1).await.unwrap().remove(0)
    }

    /// Mines by hand until everything is final, and all winners are paid once.
    async fn ends_well(&self, winners: u64) {
        for _ in 0..50 {
            self.shop.follow().await;
            match self.shop.step().await {
                Step::Final(_, settled) => {
                    assert_eq!((u64::from(settled.claimed), settled.skipped), (winners, 0));
                    assert_eq!(self.shop.stage().await, WinStage::Final);
                    let credit = self.world.credit(NATIVE, self.shop.recipient()).await;
                    assert_eq!(credit, u128::from(winners) * PRIZE.0);
                    return;
                }
                _ => self.world.anvil.mine(1).await.unwrap(),
            }
        }
        panic!("the claim is not final");
    }

    /// A transaction of the merchant's account that has nothing to do with claims: ether to itself.
    async fn other(&self, account_nonce: Option<u64>, fees: Option<Fees>) -> Prepared {
        let account = &self.shop.account;
        let value = U256::from(1);
        account
            .prepare(account.address(), Bytes::new(), value, account_nonce, fees)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_dropped_transaction_is_sent_again_as_it_is() {
    let scene = Scene::sent("dropped", 1).await;
    let sent = scene.claim().await.transactions;
    for _ in 0..3 {
        assert!(scene.world.anvil.drop_transaction(sent[0].hash).await.unwrap());
        assert_eq!(
            scene.shop.step().await,
            Step::Sent(scene.claim().await.id, sent[0].hash)
        );
        assert!(matches!(scene.shop.step().await, Step::Pending(..)));
    }
    assert_eq!(
        scene.claim().await.transactions,
        sent,
        "no second transaction was made"
    );
    scene.ends_well(1).await;
}

#[tokio::test]
async fn a_stuck_transaction_is_sent_again_with_a_higher_fee() {
    let scene = Scene::sent("stuck", 2).await;
    for bumps in 1..=3 {
        assert!(matches!(scene.shop.step().await, Step::Pending(..)), "not yet");
        scene.world.clock.forward(60);
        assert!(matches!(scene.shop.step().await, Step::Sent(..)));
        let sent = scene.claim().await.transactions;
        assert_eq!(sent.len(), bumps + 1);
        let [old, new] = [&sent[bumps - 1], &sent[bumps]];
        assert_eq!(
            old.account_nonce, new.account_nonce,
            "one of them is mined at most"
        );
        assert!(
            new.max_fee_per_gas * 10 >= old.max_fee_per_gas * 11,
            "nodes ask for a tenth more"
        );
        assert!(new.max_priority_fee_per_gas > old.max_priority_fee_per_gas);
    }
    scene.ends_well(2).await;
    assert_eq!(scene.shop.claims().await, [ClaimStage::Final]);
}

#[tokio::test]
async fn a_claim_whose_account_nonce_was_used_by_another_is_sent_under_the_next() {
    let scene = Scene::sent("superseded", 2).await;
    let first = scene.claim().await.transactions[0].clone();
    let fees = Fees {
        max_fee_per_gas: first.max_fee_per_gas,
        max_priority_fee_per_gas: first.max_priority_fee_per_gas,
    };
    let other = scene.other(Some(first.account_nonce), Some(fees)).await;
    scene.shop.account.broadcast(&other.raw).await.unwrap();
    scene.world.anvil.mine(1).await.unwrap();

    assert!(matches!(scene.shop.step().await, Step::Requeued(..)));
    assert_eq!(scene.shop.stage().await, WinStage::Queued);
    assert!(matches!(scene.shop.step().await, Step::Sent(..)));
    let claim = scene.claim().await;
    assert_eq!(claim.dropped, std::slice::from_ref(&first));
    assert_eq!(claim.transactions[0].account_nonce, first.account_nonce + 1);
    scene.ends_well(2).await;
}

/// Both transactions of a claim are mined: the second one finds all its winners paid, and pays nothing.
#[tokio::test]
async fn a_superseded_transaction_that_a_reorg_brings_back_pays_once_and_counts() {
    for winners in [1, 2] {
        let scene = Scene::sent("brought back", winners).await;
        let anvil = &scene.world.anvil;
        let first = scene.claim().await.transactions[0].clone();
        let fees = Fees {
            max_fee_per_gas: first.max_fee_per_gas,
            max_priority_fee_per_gas: first.max_priority_fee_per_gas,
        };
        let other = scene.other(Some(first.account_nonce), Some(fees)).await;
        scene.shop.account.broadcast(&other.raw).await.unwrap();
        anvil.mine(1).await.unwrap();
        assert!(matches!(scene.shop.step().await, Step::Requeued(..)));
        assert!(matches!(scene.shop.step().await, Step::Sent(..)));
        let second = scene.claim().await.transactions[0].clone();
        anvil.mine(1).await.unwrap();
        assert!(matches!(scene.shop.step().await, Step::Mined(..)));

        // The other one goes, the first one comes back, and the second behind it.
        anvil
            .reorg_with(2, &[(first.raw.clone(), 0), (second.raw.clone(), 1)])
            .await
            .unwrap();
        scene.ends_well(winners).await;
    }
}

/// The claimer's own account sends something else between two claims, all the time.
#[tokio::test]
async fn other_transactions_of_the_same_account_do_no_harm() {
    let scene = Scene::sent("neighbour", 1).await;
    scene.world.anvil.set_automine(true).await.unwrap();
    scene.ends_well(1).await;
    for nonce in 2..=4 {
        scene.shop.sell(&scene.escrow, nonce).await;
        let other = scene.other(None, None).await;
        scene.shop.account.broadcast(&other.raw).await.unwrap();
        assert_eq!(scene.world.settle(&scene.shop).await.claimed, 1);
    }
    assert_eq!(
        scene.world.credit(NATIVE, scene.shop.recipient()).await,
        4 * PRIZE.0
    );
}

/// Its replacement would revert for ever, and the account nonce would stay blocked, with every other winner behind it.
#[tokio::test]
async fn a_lone_winner_that_expires_in_the_pool_blocks_nobody() {
    let scene = Scene::sent("lone", 1).await;
    let first = scene.claim().await.transactions[0].clone();
    assert!(scene.world.anvil.drop_transaction(first.hash).await.unwrap());
    scene.world.forward(24 * 3600).await;
    assert!(
        matches!(scene.shop.step().await, Step::Sent(..)),
        "replaced, whatever has become of the winner"
    );
    assert_eq!(scene.claim().await.transactions.len(), 2);
    let mut skipped = None;
    for _ in 0..50 {
        scene.shop.follow().await;
        if let Step::Final(_, settled) = scene.shop.step().await {
            skipped = Some((settled.claimed, settled.skipped));
            break;
        }
        scene.world.anvil.mine(1).await.unwrap();
    }
    assert_eq!(skipped, Some((0, 1)));

    scene.world.anvil.set_automine(true).await.unwrap();
    scene.shop.sell(&scene.escrow, 2).await;
    assert_eq!(scene.world.settle(&scene.shop).await.claimed, 1);
}

/// A replacement can be impossible for a while (too dear, account empty, operator's right revoked). The transaction there is
/// may still make it, so the node gets it back when it has forgotten it.
#[tokio::test]
async fn a_claim_that_cannot_be_replaced_is_given_back_to_the_node() {
    let world = World::new().await;
    let escrow = world.open(0, "irreplaceable", &terms(NATIVE, 100, 20)).await;
    let mut setup = Setup::new(1).odds(Odds::Sure);
    (setup.claims_from, setup.bump_after) = (5, Seconds(60));
    let shop = world.shop(setup).await;
    let operator = shop.account.address();
    let merchant = world.sender(1);
    let allow = |approved| TicketEscrow::setOperatorCall { operator, approved };
    world.call(&merchant, allow(true)).await;
    world.finalize(&shop).await;
    for nonce in 1..=2 {
        shop.sell(&escrow, nonce).await;
    }
    world.anvil.set_automine(false).await.unwrap();
    shop.claimer.ask();
    assert!(matches!(shop.step().await, Step::Queued(..)));
    assert!(matches!(shop.step().await, Step::Sent(..)));
    let sent = shop.store.claims(1).await.unwrap().remove(0).transactions;
    assert!(world.anvil.drop_transaction(sent[0].hash).await.unwrap());
    world.anvil.set_automine(true).await.unwrap();
    world.call(&merchant, allow(false)).await;
    world.anvil.set_automine(false).await.unwrap();

    world.clock.forward(60);
    let client = shop.account.client();
    assert!(!client.knows_transaction(sent[0].hash).await.unwrap());
    assert!(matches!(shop.step().await, Step::Pending(..)));
    assert!(client.knows_transaction(sent[0].hash).await.unwrap());
    let claim = shop.store.claims(1).await.unwrap().remove(0);
    assert_eq!(claim.transactions, sent, "no replacement was made");
}
