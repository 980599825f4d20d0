//! Buys with one line of code: `cargo run -p micropay-gateway --features client --example client -- RPC_URL KEY URL`, where
//! KEY is the escrow's private key in hexadecimal. `micropay dev` starts a chain with an escrow; `micropay serve` sells.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use chain::{At, ChainClient, ChainConfig};
use micropay_gateway::client::{Budgets, Client, Paid};
use payer::ticket::{Edges, Limits, Payer};
use protocol::ticket::{Amount, EscrowKey, Timestamp};
use storage::{SqliteStore, StoreIdentity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [rpc_url, key, url] = words.as_slice() else {
        return Err("RPC_URL KEY URL".into());
    };
    let client = payer_client(rpc_url, key).await?;

    let answer = client.get(url).send().await?; // pays, if it has to

    if let Some(paid) = answer.extensions().get::<Paid>() {
        eprintln!(
            "paid {} atomic units to {} by {}",
            paid.price,
            paid.recipient,
            paid.proof.kind().intent()
        );
    }
    println!("{}", answer.text().await?);
    Ok(())
}

/// Once per program: the escrow, its key, a durable store of its own, and what may be spent.
async fn payer_client(rpc_url: &str, key: &str) -> Result<Client, Box<dyn Error>> {
    let chain_id = ChainClient::ask_chain_id(rpc_url.parse()?, std::time::Duration::from_secs(10)).await?;
    let chain = ChainClient::connect(rpc_url.parse()?, ChainConfig::new(chain_id)).await?;
    let key = EscrowKey::from_bytes(&key.parse::<B256>()?.0)?;
    let escrow = chain
        .escrow_of(key.address(), At::Latest)
        .await?
        .ok_or("no such escrow")?;
    let limits = Limits {
        max_price: Amount(1_000_000_000_000_000), // a call, at most
        ..Limits::default()
    };
    let store = SqliteStore::open("payer.sqlite", StoreIdentity::payer(chain.domain())).await?;
    let edges = Edges { now, random };
    let payer = Payer::new(chain.domain(), Arc::new(key), escrow, limits, store, edges);
    let budgets = Budgets {
        per_day: Some(Amount(20_000_000_000_000_000)),
        ..Budgets::default()
    };
    Ok(Client::builder(payer).budgets(budgets).build()?)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// From the operating system: a payer that repeats itself lets the merchant choose who wins.
fn random() -> B256 {
    B256::random()
}
