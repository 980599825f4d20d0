//! Starts a local chain, deploys the contract, opens an escrow and follows it until that is final.
//!
//! `cargo run -p micropay-chain --example follow`
#![allow(clippy::print_stdout, reason = "an example talks")]

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use bindings::ticket::TicketEscrow::openCall;
use bindings::ticket::{Opening, Terms};
use micropay_chain::anvil::{Anvil, AnvilOptions};
use micropay_chain::{ChainClient, ChainConfig, Finality, Follower, FollowerConfig, Sender, Start, deploy};
use protocol::ticket::EscrowKey;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let anvil = Anvil::spawn(&AnvilOptions::default())?;
    let config = ChainConfig::new(anvil.chain_id());
    let bare = ChainClient::connect_before_deploy(anvil.url(), config.clone()).await?;
    let contract = deploy::deploy(&Sender::new(bare, Anvil::key(0))).await?.address;
    println!("contract {contract} on {}", anvil.url());

    let client = ChainClient::connect(anvil.url(), config).await?;
    let block = client.deployment_block().await?;
    let following = FollowerConfig::new(Finality::Depth(3));
    let mut follower = Follower::start(client.clone(), following, Start::Deployed { block }).await?;
    let mirror = follower.mirror();

    let payer = Sender::new(client, Anvil::key(1));
    let key = EscrowKey::from_bytes(&B256::repeat_byte(7).0)?;
    let open = open_call(&key, &payer);
    let mined = payer
        .send(contract, open.abi_encode().into(), open.amount)
        .await?;
    println!(
        "opened escrow {} in block {}, {} gas",
        key.address(),
        mined.block.number,
        mined.gas_used
    );

    // What a role does in a loop: poll, save `changed` and `final_block` together, go on.
    loop {
        let polled = follower.poll().await?;
        let view = mirror.view(key.address());
        println!(
            "head {}, final {}: balance {:?} at the head, {:?} for sure",
            polled.head.number,
            polled.final_block.number,
            view.head.map(|record| record.balance),
            view.last_final.as_ref().map(|record| record.balance),
        );
        if view.last_final.is_some() {
            return Ok(());
        }
        anvil.mine(1).await?;
    }
}

fn open_call(key: &EscrowKey, payer: &Sender) -> openCall {
    let terms = Terms {
        asset: Address::ZERO,
        prize: U256::from(1_000_000),
        maxThreshold: U256::from(1) << 249,
        ticketCap: 1_000,
        penalty: U256::from(20_000_000),
    };
    let opening = Opening {
        escrow: key.address(),
        payer: payer.address(),
        asset: terms.asset,
        prize: terms.prize,
        maxThreshold: terms.maxThreshold,
        ticketCap: terms.ticketCap,
        penalty: terms.penalty,
    };
    let possession = key
        .sign(payer.client().domain().opening_digest(&opening))
        .to_sol();
    openCall {
        escrow: key.address(),
        terms,
        amount: U256::from(30_000_000),
        possession,
    }
}
