//! Value moves from wallet to wallet, in parts, and is conserved.

use protocol::offline::Amount;
use storage::MemoryStore;
use storage::offline::EventKind;
use wallet::Balance;

use crate::world::{ETHER, Home, Kind, domain, hand_over, held};

const COIN: u128 = 1_000;

/// Ten hops over four wallets, with change at each; then everybody exits.
async fn ten_hops(kind: Kind) {
    let mut homes: Vec<Home<MemoryStore>> = Vec::new();
    for _ in 0..4 {
        let Some(home) = Home::in_memory(kind).await else {
            return;
        };
        homes.push(home);
    }
    let mut wallets = Vec::new();
    for home in &homes {
        wallets.push(home.start().await);
    }
    let coin = homes[0].coin(COIN);
    assert!(wallets[0].import(&coin).await.unwrap());
    for hop in 0..10 {
        let (from, to) = (hop % 4, (hop + 1) % 4);
        let amount = COIN - 50 * (hop as u128 + 1);
        let [payer, payee] = wallets.get_disjoint_mut([from, to]).unwrap();
        let path = hand_over(payer, payee, amount).await;
        assert_eq!(path.hops.len(), hop + 1, "the same money travels on");
        let mut sum = 0;
        for wallet in &mut wallets {
            sum += held(wallet).await;
        }
        assert_eq!(sum, COIN, "hop {hop}");
    }
    let mut settled = 0;
    for (home, wallet) in homes.iter().zip(&mut wallets) {
        let holdings = wallet.wallet().await.unwrap().holdings;
        for holding in holdings {
            let input = holding.fragment(&domain()).id;
            let exit = wallet.exit(input).await.unwrap();
            assert_eq!(wallet.exit(input).await.unwrap(), exit, "asked again");
            assert_eq!(exit.confirmation_code(), None);
            exit.path.prove(&domain()).unwrap();
            assert!(wallet.claimed(exit.transfer).await.unwrap());
            assert!(!wallet.claimed(exit.transfer).await.unwrap());
            assert!(wallet.refused(exit.transfer).await.unwrap());
            assert!(!wallet.refused(exit.transfer).await.unwrap());
            assert_eq!(wallet.balance(ETHER).await.unwrap().claimed, Amount(0));
            assert!(wallet.claimed(exit.transfer).await.unwrap());
            assert!(wallet.settled(exit.transfer).await.unwrap());
            assert!(!wallet.claimed(exit.transfer).await.unwrap());
            assert!(!wallet.refused(exit.transfer).await.unwrap(), "settled for good");
        }
        let balance = wallet.balance(ETHER).await.unwrap();
        assert_eq!(
            balance,
            Balance {
                settled: balance.settled,
                ..Balance::default()
            }
        );
        settled += balance.settled.0;
        home.fuse.assert_nothing_twice();
    }
    assert_eq!(Amount(settled), Amount(COIN));
    let history = wallets[0].history(None, 99).await.unwrap();
    assert_eq!(history.last().unwrap().event.kind, EventKind::Imported);
    let received = history
        .iter()
        .filter(|line| line.event.kind == EventKind::Received);
    assert_eq!(received.count(), 2, "hops 4 and 8");
}

#[tokio::test]
async fn ten_hops_over_four_wallets() {
    ten_hops(Kind::Software).await;
}

#[tokio::test]
async fn ten_hops_over_four_wallets_on_software_tpms() {
    ten_hops(Kind::Tpm).await;
}
