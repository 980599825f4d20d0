//! Sells an axum service: the gate as a tower layer, without a proxy.
//!
//! ```sh
//! micropay dev                                    # a chain; export what it prints, then
//! cargo run -p micropay-gateway --features server --example server -- 0xYourAddress
//! micropay get http://127.0.0.1:8402/greeting/Ada --escrow payer
//! ```

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::Address;
use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use chain::{ChainClient, ChainConfig, Finality, Follower, FollowerConfig, Start};
use merchant::ticket::{Merchant, Price, follow, follow_once};
use micropay_gateway::server::{Charge, Gate, GateConfig, GateLayer, Listing, RateLimits, Service, Table};
use micropay_gateway::wire::ChallengeKey;
use protocol::ticket::{Amount, Policy, Seed, Timestamp};
use storage::{MemoryStore, StoreIdentity};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let pay_to: Address = std::env::args().nth(1).ok_or("where to be paid?")?.parse()?;
    let url = std::env::var("MICROPAY_RPC_URL").unwrap_or("http://127.0.0.1:8545".into());
    let client = ChainClient::connect(url.parse()?, ChainConfig::new(31337)).await?;

    // A merchant keeps a store (here in memory; `SqliteStore` for money that matters) and follows the chain.
    let store = MemoryStore::new(StoreIdentity::merchant(client.domain(), pay_to));
    let finality = FollowerConfig::new(Finality::Depth(2));
    let mut follower = Follower::start(client.clone(), finality, Start::Deployed { block: 0 }).await?;
    while !follow_once(&mut follower, &store).await? {}
    let seed = Seed::new(random()?);
    let (domain, policy, mirror) = (client.domain(), Policy::default(), follower.mirror());
    let merchant = Merchant::start(domain, pay_to, policy, mirror, store.clone(), seed).await?;
    tokio::spawn(follow(follower, store, Duration::from_secs(1)));

    // Everything costs a ten-thousandth of an ether, and longer names more.
    let price = |wei| {
        Charge::Price(Price {
            asset: Address::ZERO,
            price: Amount(wei),
            min_prize: Amount(1_000_000_000_000_000),
            max_prize: Amount::MAX,
        })
    };
    let table = Table::new(Vec::new(), price(100_000_000_000_000))
        .with_pricer(move |request| (request.uri.path().len() > 30).then(|| price(200_000_000_000_000)));
    let listing = Listing::new(&Service::default(), table, RateLimits::default());
    let key = ChallengeKey::new(random()?);
    let gate = Gate::new(merchant, listing, GateConfig::default(), key, now);

    let hello = |Path(name): Path<String>| async move { format!("Hello, {name}!\n") };
    let app = Router::new()
        .route("/greeting/{name}", get(hello))
        .layer(GateLayer::new(Arc::clone(&gate)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8402").await?;
    axum::serve(listener, app).await?;
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// 32 bytes of the operating system's randomness.
fn random() -> Result<[u8; 32]> {
    use std::io::Read;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
