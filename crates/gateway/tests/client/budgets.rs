//! Budgets and lists: each refuses with both values, and nothing is signed.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use micropay_gateway::client::{Budgets, ClientError};
use payer::ticket::{Limits, PayError};
use protocol::ticket::Amount;
use storage::{OrderStore, StoreError};

use crate::seller::{PRICE, Seller, client_on, shop, signed, store};

#[tokio::test]
async fn each_budget_refuses_what_is_beyond_it() {
    let budget = |total: u128, day: u128, host: u128| Budgets {
        per_host: Some(Amount(PRICE * host)),
        per_day: Some(Amount(PRICE * day)),
        total: Some(Amount(PRICE * total)),
    };
    for (name, budgets) in [
        ("total", budget(2, 9, 9)),
        ("day:", budget(9, 2, 9)),
        ("host:127.0.0.1", budget(9, 9, 2)),
    ] {
        let (seller, store) = (Seller::start().await, store());
        let client = client_on(store.clone(), Limits::default()).budgets(budgets);
        let client = client.build().unwrap();
        for _ in 0..2 {
            client.get(seller.url("/a")).send().await.unwrap();
        }
        let error = client.get(seller.url("/a")).send().await.unwrap_err();
        let Some(ClientError::Pay {
            cause:
                PayError::Store(StoreError::OverBudget {
                    account,
                    spent,
                    price,
                    limit,
                }),
            ..
        }) = ClientError::of(&error)
        else {
            panic!("{error}");
        };
        assert!(account.starts_with(name), "{account}");
        assert_eq!((spent.0, price.0, limit.0), (PRICE * 2, PRICE, PRICE * 2));
        assert_eq!((signed(&store).await, seller.sold()), (2, 2));
        assert_eq!(store.spent(account).await.unwrap(), Amount(PRICE * 2));
    }
}

#[tokio::test]
async fn a_call_beyond_the_highest_price_is_refused() {
    let (seller, store) = (Seller::start().await, store());
    let limits = Limits {
        max_price: Amount(PRICE),
        ..Limits::default()
    };
    let client = client_on(store.clone(), limits).build().unwrap();
    client.get(seller.url("/a")).send().await.unwrap();
    seller.set_price(PRICE + 1_000);
    let error = client.get(seller.url("/a")).send().await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the price is {}, the limit is {PRICE}", PRICE + 1_000)
    );
    // Nor later, until the price is right again: then without being told.
    client.get(seller.url("/a")).send().await.unwrap_err();
    seller.set_price(PRICE - 1_000);
    client.get(seller.url("/a")).send().await.unwrap();
    assert_eq!(seller.sold(), 2);
}

#[tokio::test]
async fn only_listed_payees_and_assets_are_paid() {
    let (seller, store) = (Seller::start().await, store());
    let other = Address::repeat_byte(0x77);
    let list = |recipients: &[Address], assets: &[Address]| Limits {
        recipients: recipients.iter().copied().collect::<BTreeSet<_>>(),
        assets: assets.iter().copied().collect(),
        ..Limits::default()
    };
    let ask = |limits| {
        let client = client_on(store.clone(), limits).build().unwrap();
        client.get(seller.url("/a")).send()
    };
    let error = ask(list(&[other], &[])).await.unwrap_err().to_string();
    assert_eq!(error, format!("recipient {} is not on the list of 1", shop()));
    let error = ask(list(&[], &[other])).await.unwrap_err().to_string();
    assert_eq!(error, format!("asset {} is not on the list of 1", Address::ZERO));
    assert_eq!(signed(&store).await, 0);
    ask(list(&[other, shop()], &[Address::ZERO])).await.unwrap();
    assert_eq!(seller.sold(), 1);
}
