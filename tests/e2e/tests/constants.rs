//! Numbers that two languages must agree on.

use alloy::primitives::U256;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use bindings::ticket::TicketEscrow;
use chain::At;
use merchant::ticket::{ClaimPolicy, WITHDRAW_DELAY};
use micropay_e2e::World;
use protocol::ticket::{Policy, WinThreshold};

#[tokio::test]
async fn delays_and_margins_of_the_roles_are_those_of_the_contract() {
    let world = World::new().await;
    assert_eq!(
        ask(&world, TicketEscrow::WITHDRAW_DELAYCall {}).await,
        WITHDRAW_DELAY.0
    );
    let policy = Policy::default();
    policy.check(WITHDRAW_DELAY).unwrap();
    let earmark_margin = ask(&world, TicketEscrow::EARMARK_MARGINCall {}).await;
    assert_eq!(
        earmark_margin, policy.claim_margin.0,
        "an earmark outlives a ticket by the claim margin"
    );
    assert_eq!(earmark_margin, policy.withdraw_margin.0);
    assert!(ClaimPolicy::default().deadline_margin_secs <= policy.claim_margin.0);
    assert_eq!(ask(&world, TicketEscrow::CURE_PERIODCall {}).await, 3 * 24 * 3600);

    let unit = ask(&world, TicketEscrow::THRESHOLD_UNITCall {}).await;
    assert_eq!(WinThreshold(U256::from(1)).to_bound(), Some(WinThreshold(unit)));
    assert_eq!(
        world.domain.separator(),
        ask(&world, TicketEscrow::domainSeparatorCall {}).await
    );
}

async fn ask<C: SolCall>(world: &World, call: C) -> C::Return {
    let request = TransactionRequest::default()
        .to(world.contract())
        .input(call.abi_encode().into());
    let answer = world.client.call(&request, At::Latest).await.unwrap();
    C::abi_decode_returns(&answer).unwrap()
}
