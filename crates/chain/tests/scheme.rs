//! Nothing is left in client, follower, mirror, sender and deployment that only fits ours: they serve a contract that the
//! crate has never heard of, a token whose approvals are the records. And one account sends to two contracts.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::{Eip712Domain, SolCall};
use bindings::test_token::TestToken::{self, TestTokenErrors, TestTokenEvents, approveCall};
use bindings::ticket::TicketEscrow::setOperatorCall;
use futures::future::join_all;
use micropay_chain::anvil::AnvilOptions;
use micropay_chain::{
    ChainError, Client, Finality, Follower, FollowerConfig, Mirror, Records, Scheme, Sender, Start, deploy,
};
use support::{World, config, sender, world};

/// Owner and spender to allowance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Approvals;

#[derive(Debug, thiserror::Error)]
#[error("cannot happen")]
struct NeverWrong;

impl Scheme for Approvals {
    const NAME: &'static str = "test token";

    type Event = TestTokenEvents;
    type Error = TestTokenErrors;
    type Id = (Address, Address);
    type Record = U256;
    type FoldError = NeverWrong;
    type Domain = B256;

    fn creation_code() -> &'static Bytes {
        &TestToken::BYTECODE
    }

    fn domain(chain_id: u64, contract: Address) -> B256 {
        Eip712Domain::new(
            Some(Self::NAME.into()),
            None,
            Some(U256::from(chain_id)),
            Some(contract),
            None,
        )
        .separator()
    }

    fn separator(domain: &B256) -> B256 {
        *domain
    }

    fn id_of(event: &TestTokenEvents) -> Option<(Address, Address)> {
        match event {
            TestTokenEvents::Approval(e) => Some((e.owner, e.spender)),
            TestTokenEvents::Transfer(_) => None,
        }
    }

    fn apply(records: &mut Records<Self>, event: &TestTokenEvents) -> Result<(), NeverWrong> {
        if let TestTokenEvents::Approval(e) = event {
            records.insert((e.owner, e.spender), e.value);
        }
        Ok(())
    }
}

/// The world deploys the token by the factory with salt zero, as `deploy` does.
async fn token_client(world: &World) -> Client<Approvals> {
    let client = Client::connect_before_deploy(world.anvil.url(), config(31337))
        .await
        .unwrap();
    assert_eq!(client.contract(), world.token);
    client
}

fn approve(spender: Address, value: u64) -> approveCall {
    let value = U256::from(value);
    approveCall { spender, value }
}

/// Sends a call; its transaction and how many events of the scheme it had.
async fn act<S: Scheme>(sender: &Sender<S>, to: Address, call: impl SolCall) -> (B256, usize) {
    let data = call.abi_encode().into();
    let mined = sender.send(to, data, U256::ZERO).await.unwrap();
    (mined.hash, mined.events.len())
}

#[tokio::test]
async fn a_contract_is_deployed_at_its_schemes_address_and_found_by_its_own_domain() {
    let world = world(AnvilOptions::default()).await;
    let client = token_client(&world).await;
    let deployed = deploy::deploy(&sender(&client, 6)).await.unwrap();
    assert!(deployed.mined.is_none(), "the world has put it there");
    assert_eq!(deployed.address, deploy::address::<Approvals>());
    assert!(client.deployment_block().await.unwrap() > 1);

    // A token has no domain; and a ticket escrow another.
    let at = |contract| micropay_chain::ChainConfig {
        contract: Some(contract),
        ..config(31337)
    };
    for contract in [world.token, world.contract()] {
        let error = Client::<Approvals>::connect(world.anvil.url(), at(contract))
            .await
            .unwrap_err();
        assert!(matches!(error, ChainError::WrongContract { .. }), "{error}");
        assert!(error.to_string().contains("is no test token"), "{error}");
    }
}

#[tokio::test]
async fn two_mirrors_of_one_chain_follow_a_reorg_each_by_its_own_events() {
    let world = world(AnvilOptions::default()).await;
    let client = token_client(&world).await;
    let following = FollowerConfig::new(Finality::Depth(3));
    let start = Start::Deployed { block: 0 };
    let mut tokens = Follower::start(client.clone(), following, start).await.unwrap();
    let start = Start::Deployed { block: 0 };
    let mut tickets = Follower::start(world.client.clone(), following, start)
        .await
        .unwrap();
    let (owner, spender) = (world.stranger.of(client.clone()), Address::repeat_byte(5));
    let id = (owner.address(), spender);
    let value = |mirror: &Mirror<Approvals>| {
        let view = mirror.view(id);
        (view.last_final.map(|value| *value), view.head.map(|value| *value))
    };

    assert_eq!(act(&owner, world.token, approve(spender, 1)).await.1, 1);
    world.anvil.mine(3).await.unwrap();
    let polled = tokens.poll().await.unwrap();
    assert_eq!(polled.changed[&id], U256::from(1));
    let saved = (polled.final_block, polled.changed);
    act(&owner, world.token, approve(spender, 2)).await;
    assert!(tokens.poll().await.unwrap().changed.is_empty());
    tickets.poll().await.unwrap();
    let mirror = tokens.mirror();
    assert_eq!(value(&mirror), (Some(U256::from(1)), Some(U256::from(2))));

    world.anvil.reorg(1).await.unwrap();
    assert_eq!(tokens.poll().await.unwrap().rolled_back, 1);
    assert_eq!(tickets.poll().await.unwrap().rolled_back, 1);
    assert_eq!(value(&mirror), (Some(U256::from(1)), Some(U256::from(1))));
    assert!(tickets.mirror().is_empty());

    let (cursor, records) = saved;
    let mut again = Follower::start(client, following, Start::Saved { cursor, records })
        .await
        .unwrap();
    again.poll().await.unwrap();
    let finals = |mirror: &Mirror<Approvals>| mirror.records().into_iter().collect::<HashMap<_, _>>();
    assert_eq!(finals(&again.mirror()), finals(&mirror));
}

#[tokio::test]
async fn one_account_sends_to_two_contracts_without_a_collision() {
    const EACH: u8 = 8;
    let world = world(AnvilOptions {
        block_time: Some(1),
        ..Default::default()
    })
    .await;
    let tickets = &world.payer;
    let tokens: Sender<Approvals> = tickets.of(token_client(&world).await);
    assert_eq!(tokens.address(), tickets.address());

    // The turn of one is the turn of the other.
    let turn = tickets.turn().await;
    let waited = tokio::time::timeout(Duration::from_millis(50), tokens.turn()).await;
    assert!(waited.is_err(), "two senders of one account were at it at once");
    drop(turn);
    drop(tokens.turn().await);

    let account = tickets.address();
    let first = world
        .client
        .account_nonce(account, micropay_chain::At::Latest)
        .await
        .unwrap();
    let (contract, token) = (world.contract(), world.token);
    let to_tickets = (1..=EACH).map(|n| {
        let operator = Address::repeat_byte(n);
        let approved = true;
        act(tickets, contract, setOperatorCall { operator, approved })
    });
    let to_tokens = (1..=EACH).map(|n| act(&tokens, token, approve(Address::repeat_byte(n), 1)));
    let (to_tickets, to_tokens) = futures::join!(join_all(to_tickets), join_all(to_tokens));
    let mined: Vec<(B256, usize)> = to_tickets.into_iter().chain(to_tokens).collect();
    assert!(mined.iter().all(|(_, events)| *events == 1), "{mined:?}");
    let hashes: BTreeSet<B256> = mined.into_iter().map(|(hash, _)| hash).collect();
    assert_eq!(hashes.len(), 2 * usize::from(EACH));
    let next = world
        .client
        .account_nonce(account, micropay_chain::At::Latest)
        .await
        .unwrap();
    assert_eq!(next, first + 2 * u64::from(EACH));
}
