//! Blocks that go, up to twenty deep, while a block is final with 21 on top: no winner is lost, none is paid twice, and a
//! claim goes back and forth between its states until it is final.

use std::sync::Arc;

use alloy::sol_types::SolError;
use bindings::ticket::{TicketEscrow, Winner};
use merchant::ticket::{AcceptError, Step};
use micropay_e2e::{Escrow, NATIVE, Odds, PRIZE, Setup, Shop, World, terms};
use protocol::ticket::{OrderId, Refusal};
use storage::{MemoryStore, WinStage, WinState, WinStore};

const DEPTH: u64 = 21;
/// Deepest reorg.
const DEEPEST: u64 = 20;

struct Scene {
    world: World,
    escrow: Escrow,
    shop: Arc<Shop<MemoryStore>>,
    sold: u64,
    /// Winners in the claim under way.
    claimed: u32,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let world = World::new().await;
        let escrow = world.open(0, name, &terms(NATIVE, 200, 150)).await;
        let shop = world.shop(Setup::new(1).odds(Odds::Sure).depth(DEPTH)).await;
        world.finalize(&shop).await;
        Self {
            world,
            escrow,
            shop,
            sold: 0,
            claimed: 1,
        }
    }

    /// One winner or two, by turns: a claim of one reverts when it has been paid, a claim of two skips both. Queued and
    /// sent.
    async fn send_claim(&mut self) {
        self.claimed = 3 - self.claimed;
        for _ in 0..self.claimed {
            self.sold += 1;
            assert!(self.shop.sell(&self.escrow, self.sold).await.won);
        }
        self.shop.claimer.ask();
        assert!(matches!(self.shop.step().await, Step::Queued(..)));
        assert!(matches!(self.shop.step().await, Step::Sent(..)));
    }

    async fn mine(&self, blocks: u64) {
        self.world.anvil.mine(blocks).await.unwrap();
        self.shop.follow().await;
    }

    async fn reorg(&self, depth: u64) {
        self.world.anvil.reorg(depth).await.unwrap();
        self.shop.follow().await;
    }

    async fn stage(&self) -> WinStage {
        self.shop.state_of(self.sold).await.stage()
    }

    /// On to the end: everything sold so far is paid, exactly once.
    async fn ends_well(&self) {
        let settled = self.world.settle(&self.shop).await;
        assert_eq!(
            (settled.claimed, settled.skipped, settled.owed),
            (self.claimed, 0, 0)
        );
        assert_eq!(self.shop.stage().await, WinStage::Final);
        let credit = self.world.credit(NATIVE, self.shop.recipient()).await;
        assert_eq!(credit, u128::from(self.sold) * PRIZE.0);
        let record = self.world.escrow(self.escrow.key.clone()).await.record;
        assert_eq!(record.balance.0, self.escrow.record.balance.0 - credit);
    }
}

#[tokio::test]
async fn a_reorg_while_a_claim_waits_in_the_pool_changes_nothing() {
    let mut scene = Scene::new("pool").await;
    for depth in 1..=DEEPEST {
        scene.world.anvil.set_automine(false).await.unwrap();
        scene.send_claim().await;
        scene.reorg(depth).await;
        // A node may forget its pool in a reorg; the claim is sent again then, and is still one.
        assert!(matches!(
            scene.shop.step().await,
            Step::Pending(..) | Step::Sent(..)
        ));
        assert_eq!(scene.stage().await, WinStage::Sent);
        scene.world.anvil.set_automine(true).await.unwrap();
        scene.mine(1).await;
        scene.ends_well().await;
    }
}

#[tokio::test]
async fn a_claim_whose_block_goes_is_sent_again_at_any_depth() {
    let mut scene = Scene::new("mined").await;
    for depth in 1..=DEEPEST {
        scene.send_claim().await;
        scene.shop.follow().await;
        scene.shop.step_until_mined().await;
        // The claim's own block is the last one that goes. At depth 20 it lacks two blocks to be final.
        scene.mine(depth - 1).await;
        assert!(matches!(scene.shop.step().await, Step::Pending(..)));
        assert_eq!(scene.stage().await, WinStage::Mined);
        scene.reorg(depth).await;
        assert!(matches!(scene.shop.step().await, Step::Unmined(..)));
        assert_eq!(scene.stage().await, WinStage::Sent);
        assert!(
            matches!(scene.shop.step().await, Step::Sent(..)),
            "the node forgot it"
        );
        scene.shop.step_until_mined().await;
        scene.ends_well().await;
    }
}

#[tokio::test]
async fn a_claim_whose_block_goes_before_it_was_seen_is_sent_again() {
    let mut scene = Scene::new("unseen").await;
    for depth in 1..=DEEPEST {
        let before = scene.world.client.head().await.unwrap().number;
        scene.send_claim().await;
        while scene.world.client.head().await.unwrap().number == before {}
        scene.world.anvil.mine(depth - 1).await.unwrap();
        scene.reorg(depth).await;
        assert_eq!(scene.stage().await, WinStage::Sent);
        assert!(matches!(scene.shop.step().await, Step::Sent(..)));
        scene.ends_well().await;
    }
}

#[tokio::test]
async fn a_claim_below_the_blocks_that_go_stays_mined() {
    let mut scene = Scene::new("below").await;
    for depth in 1..=DEEPEST {
        scene.send_claim().await;
        scene.shop.step_until_mined().await;
        scene.mine(depth).await;
        scene.reorg(depth).await;
        assert!(matches!(scene.shop.step().await, Step::Pending(..)));
        assert_eq!(scene.stage().await, WinStage::Mined);
        scene.ends_well().await;
    }
}

#[tokio::test]
async fn a_claim_that_is_taken_out_again_and_again_is_paid_once() {
    let mut scene = Scene::new("again").await;
    scene.send_claim().await;
    for depth in [1, 20, 7, 19, 2, 13] {
        scene.shop.step_until_mined().await;
        scene.mine(depth - 1).await;
        scene.reorg(depth).await;
        assert!(matches!(scene.shop.step().await, Step::Unmined(..)));
    }
    scene.ends_well().await;
    // One block below final is final with the next one, and then nothing moves it.
    scene.send_claim().await;
    scene.shop.step_until_mined().await;
    scene.mine(DEPTH - 1).await;
    assert!(matches!(scene.shop.step().await, Step::Pending(..)));
    scene.mine(1).await;
    assert!(matches!(scene.shop.step().await, Step::Final(..)));
    scene.reorg(DEEPEST).await;
    assert_eq!(scene.shop.stage().await, WinStage::Final);
    let credit = scene.world.credit(NATIVE, scene.shop.recipient()).await;
    assert_eq!(credit, u128::from(scene.sold) * PRIZE.0);
}

/// Somebody claims the only winner by hand, with another tool. Whether that holds only finality tells.
#[tokio::test]
async fn a_winner_that_was_claimed_by_hand_is_given_up_on_final_ground_only() {
    let mut scene = Scene::new("by hand").await;
    for goes in [true, false] {
        scene.sold += 1;
        scene.shop.sell(&scene.escrow, scene.sold).await;
        scene.shop.claimer.ask();
        assert!(matches!(scene.shop.step().await, Step::Queued(..)));
        let win = scene
            .shop
            .store
            .wins(WinStage::Queued)
            .await
            .unwrap()
            .remove(0)
            .ticket;
        let (recipient, escrow, r1) = (win.recipient(), win.escrow(), win.state().r1);
        let call = TicketEscrow::claimCall {
            recipient,
            escrow,
            r1,
            winner: Winner::from(&win),
        };
        scene.world.call(&scene.shop.account, call).await;
        scene.shop.follow().await;
        assert!(
            matches!(scene.shop.step().await, Step::Pending(..)),
            "it would be refused, for now"
        );
        assert_eq!(scene.stage().await, WinStage::Queued);
        if goes {
            scene.reorg(1).await;
            scene.claimed = 1;
            scene.ends_well().await;
        } else {
            scene.mine(DEPTH - 1).await;
            assert!(matches!(scene.shop.step().await, Step::Pending(..)));
            scene.mine(1).await;
            assert_eq!(scene.shop.step().await, Step::GaveUp(1));
            assert_eq!(scene.stage().await, WinStage::Refused);
            let credit = scene.world.credit(NATIVE, scene.shop.recipient()).await;
            assert_eq!(credit, u128::from(scene.sold) * PRIZE.0);
        }
    }
}

#[tokio::test]
async fn a_winner_that_expires_in_a_claim_is_given_up_and_the_next_one_paid() {
    let mut scene = Scene::new("expires").await;
    for queued in [false, true] {
        scene.sold += 1;
        scene.shop.sell(&scene.escrow, scene.sold).await;
        if queued {
            scene.shop.claimer.ask();
            assert!(matches!(scene.shop.step().await, Step::Queued(..)));
        }
        scene.world.forward(24 * 3600).await;
        scene.shop.follow().await;
        if queued {
            assert!(
                matches!(scene.shop.step().await, Step::Pending(..)),
                "not final yet"
            );
        }
        scene.mine(DEPTH).await;
        assert_eq!(scene.shop.step().await, Step::GaveUp(1));
        match scene.shop.state_of(scene.sold).await {
            WinState::Refused { reason, got, limit } => {
                assert_eq!(reason.0, TicketEscrow::TicketExpired::SELECTOR);
                assert!(got > limit);
            }
            other => panic!("{other}"),
        }
        // It held nothing up: what is sold next is claimed.
        scene.sold += 1;
        scene.shop.sell(&scene.escrow, scene.sold).await;
        assert_eq!(scene.world.settle(&scene.shop).await.claimed, 1);
    }
    assert_eq!(
        scene.world.credit(NATIVE, scene.shop.recipient()).await,
        2 * PRIZE.0
    );
}

#[tokio::test]
async fn an_opening_that_goes_takes_nobody_s_goods_with_it() {
    let world = World::new().await;
    let shop = world.shop(Setup::new(1).odds(Odds::Sure).depth(DEPTH)).await;
    for depth in [1, 2, DEEPEST] {
        let opening = terms(NATIVE, 100, 20);
        let name = format!("gone {depth}");
        let escrow = world.open(0, &name, &opening).await;
        let missing = Refusal::EscrowMissing {
            escrow: escrow.address(),
        };
        world.anvil.mine(depth - 1).await.unwrap();
        shop.follow().await;
        // Seen and quoted, but not final: nothing is delivered for it.
        let early = shop.ticket(&escrow, 1);
        let refused = |result| match result {
            Err(AcceptError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(shop.accept(OrderId::default(), early.clone()).await),
            missing
        );

        world.anvil.reorg(depth).await.unwrap();
        shop.follow().await;
        assert_eq!(shop.merchant.quote(escrow.address(), &shop.price), Err(missing));
        world.anvil.mine(DEPTH).await.unwrap();
        shop.follow().await;
        assert_eq!(
            refused(shop.accept(OrderId::default(), early.clone()).await),
            missing
        );

        // The payer opens it anew, and the very same ticket is good.
        let escrow = world.open(0, &name, &opening).await;
        world.finalize(&shop).await;
        assert!(
            shop.accept(OrderId(escrow.address().into_word()), early)
                .await
                .unwrap()
                .won
        );
        let settled = world.settle(&shop).await;
        assert_eq!((settled.claimed, settled.paid), (1, PRIZE.0));
    }
}
