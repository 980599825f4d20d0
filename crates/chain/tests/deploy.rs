//! Each contract gets to the same address everywhere, once.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use alloy::primitives::{Address, Bytes};
use micropay_chain::anvil::{Anvil, AnvilOptions};
use micropay_chain::{ChainClient, ChainError, Channels, Client, Scheme, Tickets, deploy};
use support::{config, sender};

#[tokio::test]
async fn deploying_twice_and_elsewhere_gives_the_same_address() {
    assert_ne!(deployed::<Tickets>().await, deployed::<Channels>().await);
}

async fn deployed<S: Scheme>() -> Address {
    let mut addresses = Vec::new();
    for (chain_id, account) in [(31337, 0), (10, 7)] {
        let anvil = Anvil::spawn(&AnvilOptions {
            chain_id,
            ..Default::default()
        })
        .unwrap();
        let client = Client::<S>::connect_before_deploy(anvil.url(), config(chain_id))
            .await
            .unwrap();
        let error = Client::<S>::connect(anvil.url(), config(chain_id))
            .await
            .unwrap_err();
        assert!(matches!(error, ChainError::NoContract { .. }), "{error}");

        let first = deploy::deploy(&sender(&client, account)).await.unwrap();
        assert!(first.mined.is_some_and(|mined| mined.success));
        let again = deploy::deploy(&sender(&client, account + 1)).await.unwrap();
        assert!(again.mined.is_none());
        assert_eq!(again.address, first.address);
        Client::<S>::connect(anvil.url(), config(chain_id)).await.unwrap();
        addresses.push(first.address);

        let block = client.deployment_block().await.unwrap();
        assert_eq!(block, 1);
    }
    assert_eq!(addresses, [deploy::address::<S>(); 2]);
    addresses[0]
}

#[tokio::test]
async fn without_the_factory_the_error_says_so() {
    let anvil = Anvil::spawn(&AnvilOptions::default()).unwrap();
    anvil.set_code(deploy::FACTORY, Bytes::new()).await.unwrap();
    let client = ChainClient::connect_before_deploy(anvil.url(), config(31337))
        .await
        .unwrap();
    let error = deploy::deploy(&sender(&client, 0)).await.unwrap_err();
    assert!(
        matches!(error, ChainError::NoFactory { chain_id: 31337, .. }),
        "{error}"
    );
    assert!(!error.retry());
}
