//! A merchant's process ends and another begins on the same store.

use std::collections::BTreeSet;

use merchant::ticket::AcceptError;
use micropay_e2e::{NATIVE, Odds, PRIZE, Setup, World, hash, terms};
use protocol::ticket::{Nonce, OrderId, Refusal};
use storage::{SqliteStore, WinStage, WinStore};

#[tokio::test]
async fn a_restart_honours_winners_refuses_old_commitments_and_keeps_floors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("merchant.sqlite");
    let world = World::new().await;
    let identity = world.merchant_identity(1);
    let setup = Setup::new(1).odds(Odds::Sure);
    let escrow = world.open(0, "restart", &terms(NATIVE, 100, 20)).await;
    world.anvil.mine(3).await.unwrap();

    // First life: two winners claimed to the end, one stored and not claimed, one ticket never delivered.
    let store = SqliteStore::open(&file, identity).await.unwrap();
    let shop = world.shop_on(&world.client, setup.clone(), store).await;
    let (paid_order, paid) = (OrderId(hash("restart", 1)), shop.ticket(&escrow, 1));
    assert!(shop.accept(paid_order, paid.clone()).await.unwrap().won);
    shop.sell(&escrow, 2).await;
    assert_eq!(world.settle(&shop).await.claimed, 2);
    let (order, winner) = (OrderId(hash("restart", 3)), shop.ticket(&escrow, 3));
    assert!(shop.accept(order, winner.clone()).await.unwrap().won);
    let late = shop.ticket(&escrow, 4);
    let mut commitments = BTreeSet::from([winner.commitment()]);
    shop.store.close().await.unwrap();
    drop(shop);

    // Later lives.
    let mut shop = world
        .shop_on(
            &world.client,
            setup.clone(),
            SqliteStore::open(&file, identity).await.unwrap(),
        )
        .await;
    for life in 2..=4 {
        let quote = shop.quote(&escrow);
        assert!(
            commitments.insert(quote.commitment),
            "r1 is used a second time in life {life}"
        );
        assert_eq!(quote.nonce_floor, Nonce(2), "the floor of the first life");

        // Who bought with the winner gets its good, again and again; nobody else does, not even who comes first.
        let thief = shop.accept(OrderId(hash("thief", life)), winner.clone()).await;
        assert!(matches!(thief, Err(AcceptError::Refused(_))), "{thief:?}");
        for _ in 0..2 {
            let receipt = shop.accept(order, winner.clone()).await.unwrap();
            assert!(receipt.repeat);
        }

        // Also with a winner that is paid and final long since: its payer must not have to pay again.
        assert!(shop.accept(paid_order, paid.clone()).await.unwrap().repeat);
        let thief = shop.accept(OrderId(hash("thief", life)), paid.clone()).await;
        assert!(matches!(thief, Err(AcceptError::Refused(_))), "{thief:?}");

        // A ticket of an earlier life is refused: its session died with the process.
        match shop.accept(OrderId(hash("late", 4)), late.clone()).await {
            Err(AcceptError::Refused(Refusal::CommitmentUnknown { got, live })) => {
                assert_eq!((got, live), (late.commitment(), quote.commitment));
            }
            other => panic!("{other:?}"),
        }
        // And floors hold for fresh tickets.
        match shop
            .accept(OrderId(hash("floor", life)), shop.ticket(&escrow, 2))
            .await
        {
            Err(AcceptError::Refused(Refusal::NonceNotAboveFloor { nonce, floor })) => {
                assert_eq!((nonce, floor), (Nonce(2), Nonce(2)));
            }
            other => panic!("{other:?}"),
        }
        shop.store.close().await.unwrap();
        shop = world
            .shop_on(
                &world.client,
                setup.clone(),
                SqliteStore::open(&file, identity).await.unwrap(),
            )
            .await;
    }

    // The last life claims what the first one won, and what it sells itself.
    shop.sell(&escrow, 5).await;
    let settled = world.settle(&shop).await;
    assert_eq!((settled.claimed, settled.paid), (2, 2 * PRIZE.0));
    assert_eq!(shop.stage().await, WinStage::Final);
    assert_eq!(shop.store.win_totals().await.unwrap().settled.count, 4);
    assert_eq!(world.credit(NATIVE, shop.recipient()).await, 4 * PRIZE.0);
}

#[tokio::test]
async fn a_claim_goes_on_where_the_last_process_left_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let setup = Setup::new(1).odds(Odds::Sure);
    let escrow = world.open(0, "stages", &terms(NATIVE, 100, 20)).await;
    world.anvil.mine(3).await.unwrap();
    let file = folder.path().join("merchant.sqlite");
    let open = || SqliteStore::open(&file, world.merchant_identity(1));

    for (nonce, stage) in [WinStage::Won, WinStage::Queued, WinStage::Sent, WinStage::Mined]
        .into_iter()
        .enumerate()
    {
        let nonce = nonce as u64 + 1;
        let shop = world
            .shop_on(&world.client, setup.clone(), open().await.unwrap())
            .await;
        shop.sell(&escrow, nonce).await;
        shop.claimer.ask();
        while shop.state_of(nonce).await.stage() != stage {
            shop.step().await;
        }
        shop.store.close().await.unwrap();

        let shop = world
            .shop_on(&world.client, setup.clone(), open().await.unwrap())
            .await;
        assert_eq!(shop.state_of(nonce).await.stage(), stage);
        let settled = world.settle(&shop).await;
        assert_eq!(
            (settled.claimed, settled.skipped),
            (1, 0),
            "restarted as {}",
            stage.name()
        );
        assert_eq!(
            world.credit(NATIVE, shop.recipient()).await,
            u128::from(nonce) * PRIZE.0
        );
        shop.store.close().await.unwrap();
    }
}
