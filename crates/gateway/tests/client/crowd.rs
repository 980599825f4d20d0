//! Many calls: at once on one escrow, and one after the other.

use std::collections::HashSet;

use futures::future::join_all;
use payer::ticket::Limits;
use storage::{OrderStore, SqliteStore, StoreIdentity};

use crate::seller::{PRICE, Seller, client_on, domain, escrow_key, store, ticket_of};

/// Half of them while prices and sessions change under them.
async fn crowd(calls: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("payer.sqlite"), StoreIdentity::payer(domain()));
    let store = store.await.unwrap();
    let seller = Seller::start().await;
    let client = client_on(store.clone(), Limits::default()).build().unwrap();
    let call = |n: usize| {
        let request = client.get(seller.url(&format!("/{n}")));
        async move {
            let answer = request.send().await.unwrap();
            let ticket = ticket_of(&answer);
            assert_eq!(answer.text().await.unwrap(), format!("good of /{n}"));
            ticket
        }
    };
    let tickets: HashSet<_> = join_all((0..calls).map(call)).await.into_iter().collect();
    assert_eq!((tickets.len(), seller.sold()), (calls, calls));
    let changes = async {
        seller.set_price(PRICE * 2);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        seller.close_session();
    };
    let (tickets, ()) = futures::join!(join_all((calls..2 * calls).map(call)), changes);
    let tickets: HashSet<_> = tickets.into_iter().collect();
    assert_eq!(
        (tickets.len(), seller.sold()),
        (calls, 2 * calls),
        "each call is paid once"
    );
    let totals = store.order_totals(Some(escrow_key().address())).await.unwrap();
    assert_eq!((totals.delivered.count, totals.sent.count), (2 * calls as u64, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_calls_at_once_all_succeed() {
    crowd(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_calls_at_once_all_succeed() {
    crowd(500).await;
}

#[tokio::test]
async fn a_thousand_calls_take_at_most_1010_requests() {
    let seller = Seller::start().await;
    let client = client_on(store(), Limits::default()).build().unwrap();
    for n in 0..1_000 {
        let answer = client.get(seller.url(&format!("/{n}"))).send().await.unwrap();
        answer.bytes().await.unwrap();
    }
    let requests = seller.seen().len();
    assert!(requests <= 1_010, "{requests} requests for 1,000 calls");
    assert_eq!(seller.sold(), 1_000);
}
