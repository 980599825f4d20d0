//! Many calls at once, of one payer with one channel and one escrow.

use futures::future::join_all;
use micropay_gateway::wire::Kind;
use protocol::channel::Index;

use crate::shop::{Shop, UNITS, both, buy, like, revealed, signed, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_calls_at_once_all_succeed_and_each_is_paid_once() {
    let channel = like(0);
    let (shop, store) = (Shop::open(&[channel]).await, store(&[channel]).await);
    let client = both(&store).build().unwrap();
    let calls = (0..50).map(|n| {
        let (client, shop) = (&client, &shop);
        async move { buy(client, shop, &format!("/slow/{n}")).await.proof }
    });
    let proofs = join_all(calls).await;
    let by_channel = proofs
        .iter()
        .filter(|proof| proof.kind() == Kind::Channel)
        .count();
    assert!((1..50).contains(&by_channel), "{by_channel} by channel");
    assert_eq!(shop.taken(), ((50 - by_channel) as u64, by_channel as u64));
    assert_eq!((shop.calls(), signed(&store).await), (50, 50 - by_channel));
    for n in 0..50 {
        assert_eq!(shop.sold(&format!("/slow/{n}")), 1);
    }
    let units = Index(UNITS * by_channel as u32);
    assert_eq!(revealed(&store, &channel).await, (units, units));
}
