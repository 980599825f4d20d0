//! The main road: open, pay, win, claim, collect, take back the rest. Every account to the wei.

use alloy::primitives::Address;
use micropay_e2e::{Counter, NATIVE, Odds, PRIZE, Setup, World, hash, terms};
use payer::ticket::{Purchase, Seller};
use protocol::ticket::OrderId;
use storage::{OrderStore, WinStage};

const PAYER: usize = 0;
const MERCHANT: usize = 1;
const PAYMENTS: u64 = 40;

#[tokio::test]
async fn a_sale_in_the_native_asset_adds_up_to_the_wei() {
    let world = World::new().await;
    let payer_account = world.sender(PAYER);
    let before = Money::of(&world, NATIVE).await;

    let opening = terms(NATIVE, 100, 60);
    let escrow = world.open(PAYER, "native", &opening).await;
    assert_eq!(
        world.balance(NATIVE, world.contract()).await,
        opening.balance.0 + opening.penalty.0
    );
    let shop = world.shop(Setup::new(MERCHANT)).await;
    world.finalize(&shop).await;
    let won = sell(&world, &escrow, &shop).await;

    // The rest goes back after the delay, and everybody collects.
    let steps = world.steps(PAYER);
    steps.request_withdraw(escrow.address()).await.unwrap();
    steps.withdraw(escrow.address()).await.unwrap_err();
    world.forward(merchant::ticket::WITHDRAW_DELAY.0).await;
    steps.withdraw(escrow.address()).await.unwrap();
    assert_eq!(world.withdraw_credit(NATIVE, &shop.account).await, won * PRIZE.0);
    let rest = opening.balance.0 + opening.penalty.0 - won * PRIZE.0;
    assert_eq!(world.withdraw_credit(NATIVE, &payer_account).await, rest);

    let after = Money::of(&world, NATIVE).await;
    assert_eq!(after.contract, 0);
    assert_eq!(after.payer + after.payer_gas, before.payer - won * PRIZE.0);
    assert_eq!(
        after.merchant + after.merchant_gas,
        before.merchant + won * PRIZE.0
    );
}

#[tokio::test]
async fn a_sale_in_a_token_adds_up_to_the_atomic_unit() {
    let world = World::new().await;
    let opening = terms(world.token, 100, 60);
    let deposit = opening.balance.0 + opening.penalty.0;
    world.mint(PAYER, deposit + 5).await;
    let before = Money::of(&world, world.token).await;
    assert_eq!(before.payer, deposit + 5);

    let escrow = world.open(PAYER, "token", &opening).await;
    let mut setup = Setup::new(MERCHANT);
    setup.price = Odds::Half.in_asset(world.token);
    let shop = world.shop(setup).await;
    world.finalize(&shop).await;
    let won = sell(&world, &escrow, &shop).await;

    let steps = world.steps(PAYER);
    steps.request_withdraw(escrow.address()).await.unwrap();
    world.forward(merchant::ticket::WITHDRAW_DELAY.0).await;
    steps.withdraw(escrow.address()).await.unwrap();
    world.withdraw_credit(world.token, &shop.account).await;
    world.withdraw_credit(world.token, &world.sender(PAYER)).await;

    let after = Money::of(&world, world.token).await;
    assert_eq!((after.contract, after.merchant), (0, won * PRIZE.0));
    assert_eq!(after.payer, before.payer - won * PRIZE.0);
    // No ether moved but for gas.
    assert_eq!(world.balance(NATIVE, world.contract()).await, 0);
}

/// Forty payments, one order each; returns how many won. All winners are claimed and credited.
async fn sell(
    world: &World,
    escrow: &micropay_e2e::Escrow,
    shop: &std::sync::Arc<micropay_e2e::Shop<storage::MemoryStore>>,
) -> u128 {
    let (payer, orders) = world.payer(escrow);
    let seller = Seller::new(Counter::new(shop));
    for item in 0..PAYMENTS {
        let purchase = Purchase {
            order: OrderId(hash("happy", item)),
            item,
        };
        let payment = payer.pay(&seller, &purchase).await.unwrap();
        assert_eq!(
            (payment.good, payment.order, payment.price),
            (item, purchase.order, Odds::Half.price())
        );
        assert!(payment.refusals.is_empty());
    }
    let totals = orders.order_totals(None).await.unwrap();
    assert_eq!(
        (totals.delivered.count, totals.all().unwrap().count),
        (PAYMENTS, PAYMENTS)
    );

    let won = shop.wins().await.len();
    assert!(
        (5..=35).contains(&won),
        "{won} of {PAYMENTS} at 1 in 2 is less likely than 10^-6"
    );
    assert_eq!(shop.stage().await, WinStage::Won);
    let settled = world.settle(shop).await;
    let won = won as u128;
    assert_eq!((u128::from(settled.claimed), settled.skipped), (won, 0));
    assert_eq!((settled.paid, settled.owed), (won * PRIZE.0, 0));
    assert_eq!(
        world.credit(escrow.record.asset, shop.recipient()).await,
        won * PRIZE.0
    );
    shop.follow().await;
    let now = world.escrow(escrow.key.clone()).await;
    assert_eq!(now.record.balance.0, escrow.record.balance.0 - won * PRIZE.0);
    won
}

/// Who has what, and what gas has cost.
struct Money {
    payer: u128,
    merchant: u128,
    contract: u128,
    payer_gas: u128,
    merchant_gas: u128,
}

impl Money {
    async fn of(world: &World, asset: Address) -> Self {
        let [payer, merchant] = [PAYER, MERCHANT].map(|index| world.sender(index).address());
        let gas = world.gas_paid().await;
        let gas = |account| gas.get(&account).copied().unwrap_or_default();
        Self {
            payer: world.balance(asset, payer).await,
            merchant: world.balance(asset, merchant).await,
            contract: world.balance(asset, world.contract()).await,
            payer_gas: gas(payer),
            merchant_gas: gas(merchant),
        }
    }
}
