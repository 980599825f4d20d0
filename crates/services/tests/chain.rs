//! The bank with its real ledger: what it permits opens on chain, and what is on chain decides what it permits.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use alloy_primitives::{B256, U256, keccak256};
use alloy_sol_types::SolCall;
use bindings::channel::PaymentChannel::{openCall, setBankKeyCall, setReputationCall, topUpCall};
use chain::{
    ChainConfig, Channels, Client, Sender, SenderConfig,
    anvil::{Anvil, AnvilOptions},
    deploy,
};
use micropay_services::CallError;
use micropay_services::bank::{ChainLedger, Policy, client::ClientError, http::Limits};
use protocol::channel::{AdmitRequest, Amount, Chain, Index, Key, Seconds, Signature, Timestamp, chain_seed};
use storage::{MemoryStore, StoreIdentity, channel::ChannelDomainStore};
use support::{Running, key};

fn account(n: usize) -> Key {
    Key::from_bytes(&Anvil::key(n).to_bytes().0).unwrap()
}

fn sender(client: &Client<Channels>, n: usize) -> Sender<Channels> {
    let config = SenderConfig {
        poll_interval: Duration::from_millis(50),
        ..SenderConfig::default()
    };
    Sender::with_config(client.clone(), Anvil::key(n), config)
}

fn sign(digest: B256) -> Result<Signature, std::convert::Infallible> {
    Ok(account(2).sign(digest))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permit_opens_and_tops_up_on_chain() {
    let anvil = Anvil::spawn(&AnvilOptions::default()).unwrap();
    let bare = Client::<Channels>::connect_before_deploy(anvil.url(), ChainConfig::new(31337))
        .await
        .unwrap();
    deploy::deploy(&sender(&bare, 0)).await.unwrap();
    let client = Client::<Channels>::connect(anvil.url(), ChainConfig::new(31337))
        .await
        .unwrap();
    let (bank, payer) = (sender(&client, 1), sender(&client, 2));
    let (vendor, domain) = (account(3).address(), client.domain());
    let act = async |who: &Sender<Channels>, call: Vec<u8>, value: u128| {
        let value = U256::from(value);
        who.send(client.contract(), call.into(), value).await.unwrap();
    };
    let reputation = async |customer, reputation| {
        act(&bank, setReputationCall { customer, reputation }.abi_encode(), 0).await;
    };
    let identity = StoreIdentity::bank(domain.chain_id(), domain.contract(), bank.address());
    let store = MemoryStore::new(identity);
    store.use_channels(domain).await.unwrap();
    let now = client.head().await.unwrap().timestamp;
    let running = Running::start_as(
        domain,
        bank.address(),
        account(1),
        store,
        ChainLedger::new(client.clone(), bank.address()),
        Policy::default(),
        Limits::default(),
        now,
    )
    .await;
    let caller = running.caller();
    let (salt, receipt_key) = (keccak256("salt"), key("receipts"));
    let channel = domain.channel_id(payer.address(), vendor, salt);
    let terms = |generation, length| {
        let length = Index(length);
        let seed = chain_seed(&receipt_key, channel, generation, length);
        AdmitRequest {
            client: payer.address(),
            vendor,
            salt,
            receipt_key: receipt_key.address(),
            asset: alloy_primitives::Address::ZERO,
            unit: Amount(7),
            length,
            anchor: Chain::from_seed(seed, channel, length).unwrap().anchor(),
            expiry: now.plus(Seconds::DAY),
        }
    };
    let ask = async |generation, length, bank_key| {
        caller
            .permit(terms(generation, length), Timestamp(now.0 + 1), bank_key, sign)
            .await
    };
    let own = bank.address();

    // Nobody is a customer yet.
    assert!(matches!(
        ask(0, 8, own).await,
        Err(ClientError::Call(CallError::Refused(problem))) if problem.rule == "reputation-too-low" && problem.got.as_deref() == Some("0")
    ));
    reputation(payer.address(), 50).await;
    reputation(vendor, 51).await;
    let first = ask(0, 8, own).await.unwrap();
    assert!(matches!(
        ask(1, 16, own).await,
        Err(ClientError::Call(CallError::Refused(problem))) if problem.rule == "permit-exists"
    ));
    let open = openCall {
        permit: first.admitted.permit().fields().clone(),
        salt,
        bank: own,
        sigma0: first.admitted.signature().to_sol(),
    };
    act(&payer, open.abi_encode(), 56).await;

    // From now on another key signs.
    let next = key("next");
    act(&bank, setBankKeyCall { key: next.address() }.abi_encode(), 0).await;
    assert!(matches!(
        ask(1, 16, next.address()).await,
        Err(ClientError::Call(CallError::Refused(problem))) if problem.rule == "key-superseded"
    ));
    running.bank.rotate(next.clone());
    let second = ask(1, 16, next.address()).await.unwrap();
    assert_eq!((second.generation, second.epoch), (1, 1));
    let top_up = topUpCall {
        terms: first.admitted.terms(),
        permit: second.admitted.permit().fields().clone(),
        sigma0: second.admitted.signature().to_sol(),
    };
    act(&payer, top_up.abi_encode(), 56).await;
    assert_eq!(ask(0, 8, own).await.unwrap(), first);
    assert_eq!(ask(2, 32, next.address()).await.unwrap().generation, 2);
    let about = caller.about().await.unwrap();
    assert_eq!((about.key, about.epoch), (next.address(), 1));
    running.stop().await;
}
