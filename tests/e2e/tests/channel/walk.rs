//! Long walks: the contract walks as Rust does, and a vendor takes no word that is too far to close for.

use std::sync::Arc;

use alloy::primitives::keccak256;
use merchant::channel::{Step, WatchFile, Watched, Watcher};
use micropay_e2e::{Market, UNIT, Window};
use payer::channel::{Checkpoints, PayError};
use protocol::channel::{Chain, Index, Seconds, chain_seed};
use storage::channel::{ClientChannelStore, SettlementStep, VendorChannelStore};

use super::{CLIENT, VENDOR, channel, scene};

/// Checkpoints at random indices of a long chain: each is a walk on the deployed contract, from where the last one ended.
#[tokio::test]
async fn the_contract_walks_as_rust_does() {
    const LENGTH: u32 = 20_000;
    let (market, customer, stall, _) = scene("walks").await;
    let channel = channel(&market, &customer, &stall, LENGTH).await;
    let seed = chain_seed(&customer.key, channel, 0, Index(LENGTH));
    let mut chain = Chain::from_seed(seed, channel, Index(LENGTH)).unwrap();
    let stored = customer.store.client_channel(channel).await.unwrap().unwrap();
    let watcher = Watcher::new(market.sender(7), Seconds::DAY);
    let (mut index, mut random) = (0, keccak256("walks"));
    for step in 0.. {
        random = keccak256(random);
        // Short ones and long ones.
        let more = 1 + u32::from_be_bytes(random.0[..4].try_into().unwrap())
            % if step % 2 == 0 { 70 } else { 4_000 };
        index += more;
        if index > LENGTH {
            break;
        }
        let word = chain.word(Index(index)).unwrap();
        let file = |word: protocol::channel::Word| WatchFile {
            chain_id: market.domain.chain_id(),
            contract: market.domain.contract(),
            terms: stored.channel.terms()[0].terms(),
            proof: bindings::channel::Proof {
                index,
                word: word.0,
                signedIndex: 0,
                signedWord: Default::default(),
                locksRoot: Default::default(),
                signature: bindings::channel::Signature {
                    r: Default::default(),
                    s: Default::default(),
                    v: 0,
                },
            },
        };
        let now = market.world.clock.now();
        // The word of the index below has one step too few.
        let wrong = chain.word(Index(index - 1)).unwrap();
        watcher.step(&file(wrong), now).await.unwrap_err();
        let watched = watcher.step(&file(word), now).await.unwrap();
        assert!(matches!(watched, Watched::Checkpointed { .. }), "{watched:?}");
    }
    stall.follow().await;
    assert_eq!(
        market.credit(micropay_e2e::NATIVE, VENDOR).await,
        u128::from(stall.record(channel).settled.0) * UNIT.0
    );
}

/// A client that never signs meets the bound; one that does goes on, and the close is a short walk.
#[tokio::test]
async fn a_word_too_far_to_close_for_needs_a_checkpoint() {
    let (market, _, stall, window) = scene("far").await;
    let customer = market.customer(CLIENT, "far", Checkpoints::Never).await;
    let channel = market.open(&customer, stall.address(), 40_000).await;
    market.finalize(&stall).await;
    // Jumps of four thousand units: the fifth would be a walk of more than 2^14 steps.
    window.price(4_000);
    for number in 1..=9 {
        let paid = customer.buy(&window, channel, number, 4_000).await.unwrap();
        assert_eq!(u64::from(paid.payment.index.0), 4_000 * number);
    }
    let checkpoints = stall.store.checkpoints(channel).await.unwrap();
    let at: Vec<u32> = checkpoints
        .iter()
        .map(|checkpoint| checkpoint.signed.index().0)
        .collect();
    assert_eq!(at, [20_000], "signed when asked for, and no more often");

    // A top-up far up the chain: the vendor moves to it by a signature.
    window.price(1);
    market.top_up(&customer, &stall, channel, 60_000).await;
    for number in 10..=12 {
        customer.buy(&window, channel, number, 1).await.unwrap();
    }
    // Also a process that has just been started.
    let again = market
        .stall_on(micropay_e2e::StallSetup::new(VENDOR), stall.store.clone())
        .await;
    let window = Window::new(&again);
    customer.buy(&window, channel, 13, 1).await.unwrap();
    let opened = customer.steps.deliver_opener(&window, channel).await.unwrap();
    assert_eq!((opened.opened, opened.ends_in_sigma0), (13, true));
    again.ask(channel, SettlementStep::Close);
    let settled = market.settle(&again).await;
    assert_eq!(settled.paid, 36_004 * UNIT.0);
    assert!(settled.gas_used < 200_000, "{}", settled.gas_used);
}

/// Payments of one channel take turns, those of several do not wait for each other.
#[tokio::test]
async fn payments_of_one_channel_take_turns() {
    let market = Market::new().await;
    market.set_reputation(CLIENT, 80).await;
    market.set_reputation(VENDOR, 60).await;
    let customer = Arc::new(market.customer(CLIENT, "turns", Checkpoints::default()).await);
    let stall = market.stall(VENDOR).await;
    let window = Arc::new(Window::new(&stall));
    let mut channels = Vec::new();
    for _ in 0..2 {
        channels.push(channel(&market, &customer, &stall, 100).await);
    }
    let mut tasks = Vec::new();
    for number in 0..80u64 {
        let (customer, window) = (Arc::clone(&customer), Arc::clone(&window));
        let channel = channels[number as usize % 2];
        tasks.push(tokio::spawn(async move {
            customer.buy(&window, channel, number, 1).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for channel in &channels {
        assert_eq!(customer.position(*channel).await, Index(40));
        let opened = customer.steps.deliver_opener(&*window, *channel).await.unwrap();
        assert_eq!((opened.opened, opened.ends_in_sigma0), (40, true));
        stall.ask(*channel, SettlementStep::Close);
    }
    assert!(matches!(stall.step().await, Step::Queued(_, _, both) if both.len() == 2));
    assert_eq!(market.settle(&stall).await.paid, 80 * UNIT.0);
    let over = customer.buy(&window, channels[0], 99, 1).await.unwrap_err();
    assert!(matches!(over, PayError::Refused { .. }), "{over}");
}
