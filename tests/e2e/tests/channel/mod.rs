//! Channels against a real chain.

use std::sync::Arc;

use micropay_e2e::{Customer, Market, Stall, Window};
use payer::channel::Checkpoints;
use protocol::channel::ChannelId;
use storage::{MemoryStore, Store};

mod accountable;
mod differential;
mod faults;
mod happy;
mod reorg;
mod walk;

const CLIENT: usize = 0;
const VENDOR: usize = 1;

/// A market with a client and a vendor in good standing.
async fn scene(name: &str) -> (Market, Customer, Arc<Stall<MemoryStore>>, Window<MemoryStore>) {
    let market = Market::new().await;
    market.set_reputation(CLIENT, 80).await;
    market.set_reputation(VENDOR, 60).await;
    let customer = market.customer(CLIENT, name, Checkpoints::default()).await;
    let stall = market.stall(VENDOR).await;
    let window = Window::new(&stall);
    (market, customer, stall, window)
}

/// A channel of so many units that the vendor takes for final.
async fn channel<S: Store>(market: &Market, customer: &Customer, stall: &Stall<S>, length: u32) -> ChannelId {
    let channel = market.open(customer, stall.address(), length).await;
    market.finalize(stall).await;
    channel
}
