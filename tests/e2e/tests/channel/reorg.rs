//! Blocks that go, while a block is final with 21 on top: no word is lost, none is paid twice.

use merchant::channel::Step;
use micropay_e2e::{NATIVE, StallSetup, UNIT, Window};
use payer::channel::{Checkpoints, Done, PayError};
use protocol::channel::Status;
use storage::channel::{ClientChannelStore, SettlementStep};

use super::{CLIENT, VENDOR};
use micropay_e2e::Market;

const DEPTH: u64 = 21;

#[tokio::test]
async fn an_opening_that_goes_takes_nobodys_goods_with_it() {
    let market = Market::new().await;
    market.set_reputation(CLIENT, 80).await;
    market.set_reputation(VENDOR, 60).await;
    market.world.anvil.mine(DEPTH).await.unwrap();
    let customer = market.customer(CLIENT, "gone", Checkpoints::default()).await;
    let mut setup = StallSetup::new(VENDOR);
    setup.depth = DEPTH;
    let stall = market.stall_with(setup).await;
    let window = Window::new(&stall);
    for depth in [1, 20] {
        let channel = market.open(&customer, stall.address(), 20).await;
        market.world.anvil.mine(depth - 1).await.unwrap();
        stall.follow().await;
        // Seen, but not final: nothing is delivered for it.
        let error = customer.buy(&window, channel, depth, 1).await.unwrap_err();
        assert!(
            matches!(&error, PayError::NotNow { rule, .. } if rule == "channel-missing"),
            "{error}"
        );
        market.world.anvil.reorg(depth).await.unwrap();
        stall.follow().await;
        customer.buy(&window, channel, depth, 1).await.unwrap_err();

        // The client opens it anew, with the same permit, and the very same payment is good.
        let stored = customer.store.client_channel(channel).await.unwrap().unwrap();
        let permit = &stored.channel.terms()[0];
        let now = market.world.clock.now();
        let done = customer.steps.open(permit, stored.salt, None, now).await.unwrap();
        assert!(matches!(done, Done::Mined(_)));
        let done = customer.steps.open(permit, stored.salt, None, now).await.unwrap();
        assert!(matches!(done, Done::Already), "never a second deposit");
        market.finalize(&stall).await;
        customer.buy(&window, channel, depth, 1).await.unwrap();
        stall.ask(channel, SettlementStep::Close);
        assert_eq!(market.settle(&stall).await.paid, UNIT.0);
    }
}

#[tokio::test]
async fn a_checkpoint_and_a_close_whose_blocks_go_are_sent_again() {
    let market = Market::new().await;
    market.set_reputation(CLIENT, 80).await;
    market.set_reputation(VENDOR, 60).await;
    let customer = market.customer(CLIENT, "again", Checkpoints::default()).await;
    let mut setup = StallSetup::new(VENDOR);
    setup.depth = DEPTH;
    let stall = market.stall_with(setup).await;
    let window = Window::new(&stall);
    let channel = market.open(&customer, stall.address(), 40).await;
    market.finalize(&stall).await;
    let mut number = 0;
    for (step, depths) in [
        (SettlementStep::Checkpoint, [1, 20]),
        (SettlementStep::Close, [2, 19]),
    ] {
        for _ in 0..5 {
            number += 1;
            customer.buy(&window, channel, number, 1).await.unwrap();
        }
        stall.ask(channel, step);
        stall.step_until_mined().await;
        for depth in depths {
            // Its own block is the last one that goes.
            market.world.anvil.mine(depth - 1).await.unwrap();
            stall.follow().await;
            market.world.anvil.reorg(depth).await.unwrap();
            stall.follow().await;
            assert!(matches!(stall.step().await, Step::Unmined(_)));
            assert!(matches!(stall.step().await, Step::Sent(..)), "the node forgot it");
            stall.step_until_mined().await;
        }
        let settled = market.settle(&stall).await;
        assert_eq!((settled.settled, settled.paid), (1, 5 * UNIT.0));
    }
    assert_eq!(stall.record(channel).status(), Status::Closed);
    assert_eq!(market.credit(NATIVE, VENDOR).await, 10 * UNIT.0);
    assert_eq!(market.credit(NATIVE, CLIENT).await, 30 * UNIT.0);
}
