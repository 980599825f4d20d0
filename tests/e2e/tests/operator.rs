//! Who may claim.

use bindings::ticket::TicketEscrow;
use chain::ChainError;
use merchant::ticket::{ClaimStepError, Step};
use micropay_e2e::{NATIVE, Odds, PRIZE, Setup, World, terms};
use storage::WinStage;

#[tokio::test]
async fn an_operator_claims_for_a_merchant_and_a_stranger_cannot() {
    let world = World::new().await;
    let escrow = world.open(0, "operator", &terms(NATIVE, 100, 10)).await;
    let mut setup = Setup::new(1).odds(Odds::Sure);
    setup.claims_from = 5;
    let shop = world.shop(setup).await;
    world.finalize(&shop).await;
    for nonce in 1..=3 {
        shop.sell(&escrow, nonce).await;
    }

    // A stranger: refused before anything is sent, and nothing is lost.
    shop.claimer.ask();
    assert!(matches!(shop.step().await, Step::Queued(..)));
    for _ in 0..2 {
        match shop.try_step().await.unwrap_err() {
            ClaimStepError::Chain(ChainError::Reverted(revert)) => assert_eq!(revert.name, "NotOperator"),
            error => panic!("{error}"),
        }
        assert_eq!(shop.stage().await, WinStage::Queued);
    }

    // Approved, the same claim goes on. The merchant is paid, not the operator.
    let operator = shop.account.address();
    let merchant = world.sender(1);
    world
        .call(
            &merchant,
            TicketEscrow::setOperatorCall {
                operator,
                approved: true,
            },
        )
        .await;
    let settled = world.settle(&shop).await;
    assert_eq!((settled.claimed, settled.paid), (3, 3 * PRIZE.0));
    assert_eq!(world.credit(NATIVE, merchant.address()).await, 3 * PRIZE.0);
    assert_eq!(world.credit(NATIVE, operator).await, 0);

    // And when the right is taken away, it is gone.
    world
        .call(
            &merchant,
            TicketEscrow::setOperatorCall {
                operator,
                approved: false,
            },
        )
        .await;
    shop.sell(&escrow, 4).await;
    shop.claimer.ask();
    assert!(matches!(shop.step().await, Step::Queued(..)));
    shop.try_step().await.unwrap_err();
    assert_eq!(shop.state_of(4).await.stage(), WinStage::Queued);
}
