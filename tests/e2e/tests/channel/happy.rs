//! The main road: open, pay, checkpoint, top up, pay, open the receipts, close, collect. Every account to the wei.

use alloy::primitives::Address;
use micropay_e2e::{Customer, Market, NATIVE, UNIT, Window};
use payer::channel::Checkpoints;
use protocol::channel::{Closing, Index};
use storage::channel::SettlementStep;

use super::{CLIENT, VENDOR};

const PAYMENTS: u64 = 300;

async fn admitted(market: &Market, name: &str) -> Customer {
    market.set_reputation(CLIENT, 80).await;
    market.set_reputation(VENDOR, 60).await;
    market.customer(CLIENT, name, Checkpoints::default()).await
}

async fn a_sale_adds_up(market: &Market, asset: Address) {
    let customer = admitted(market, "happy").await;
    let stall = market.stall(VENDOR).await;
    let window = Window::new(&stall);
    let channel = market
        .open_in(&customer, stall.address(), asset, 400, 24 * 3600)
        .await;
    assert_eq!(market.held(asset).await, 400 * UNIT.0);
    market.finalize(&stall).await;

    // Three hundred payments; every tenth one is for three units.
    let mut units = 0;
    for number in 1..=PAYMENTS {
        let price = if number % 10 == 0 { 3 } else { 1 };
        window.price(price);
        let paid = customer.buy(&window, channel, number, price).await.unwrap();
        units += price;
        assert_eq!((paid.good, paid.payment.index), (number, Index(units)));
        assert_eq!(paid.charged, UNIT.saturating_mul(price.into()));
    }
    assert_eq!(units, 360);

    // The vendor settles, and the channel goes on.
    stall.ask(channel, SettlementStep::Checkpoint);
    let settled = market.settle(&stall).await;
    assert_eq!((settled.settled, settled.paid), (1, 360 * UNIT.0));
    assert_eq!(stall.record(channel).settled, Index(360));
    assert_eq!(market.credit(asset, VENDOR).await, 360 * UNIT.0);

    // A longer chain, which the vendor takes up with the next payment.
    window.price(1);
    market.top_up(&customer, &stall, channel, 600).await;
    for number in PAYMENTS + 1..=PAYMENTS + 100 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    assert_eq!(customer.position(channel).await, Index(460));
    assert_eq!(market.held(asset).await, 600 * UNIT.0);

    // Every receipt opens, down to the bank's signature.
    let opened = customer.steps.deliver_opener(&window, channel).await.unwrap();
    assert_eq!((opened.opened, opened.ends_in_sigma0), (400, true));
    let file = stall.vendor.receipts_file(channel).await.unwrap().unwrap();
    assert!(
        file.verify(&market.domain, &[market.bank()], 2)
            .unwrap()
            .ends_in_sigma0
    );

    // Closed with the last receipt, which raises both parties' reputation.
    stall.ask(channel, SettlementStep::Close);
    let settled = market.settle(&stall).await;
    assert_eq!((settled.settled, settled.paid), (1, 100 * UNIT.0));
    let record = stall.record(channel);
    let Some(Closing::Closed { paid, refunded, .. }) = record.closing else {
        panic!("{:?}", record.closing);
    };
    assert_eq!((paid.0, refunded.0), (100 * UNIT.0, 140 * UNIT.0));
    assert!(record.receipt_shown.is_some());
    assert_eq!(market.withdraw(asset, VENDOR).await, 460 * UNIT.0);
    assert_eq!(market.withdraw(asset, CLIENT).await, 140 * UNIT.0);
    assert_eq!(market.held(asset).await, 0);
}

#[tokio::test]
async fn a_channel_in_the_native_asset_adds_up_to_the_wei() {
    let market = Market::new().await;
    a_sale_adds_up(&market, NATIVE).await;
}

#[tokio::test]
async fn a_channel_in_a_token_adds_up_to_the_atomic_unit() {
    let market = Market::new().await;
    market.world.mint(CLIENT, 600 * UNIT.0).await;
    a_sale_adds_up(&market, market.world.token).await;
    assert_eq!(
        market
            .world
            .balance(market.world.token, market.sender(CLIENT).address())
            .await,
        140 * UNIT.0
    );
}
