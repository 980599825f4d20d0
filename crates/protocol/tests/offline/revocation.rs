//! Revocation lists: their size, their rounding, and that one list has one form.

use alloy_primitives::B256;
use micropay_protocol::offline::{ClassId, Key, SignedRevocationList, Timestamp, WalletId};

use crate::world::{NOW, bytes32, domain, earlier, list, registrar};

fn wallets(count: u64) -> Vec<(WalletId, Timestamp)> {
    (0..count)
        .map(|n| (WalletId(bytes32("wallet", n)), earlier(n * 61)))
        .collect()
}

#[test]
fn a_thousand_wallets_are_less_than_10_kb() {
    let revoked = wallets(1_000);
    let list = list(&revoked, &[(ClassId(3), earlier(90))]);
    let bytes = list.signed().encode(&domain());
    println!("1,000 wallets: {} bytes", bytes.len());
    assert!(bytes.len() < 10_000, "{}", bytes.len());
    let read = SignedRevocationList::decode(&domain(), &bytes)
        .unwrap()
        .verify(&domain())
        .unwrap();
    assert_eq!(read, list);
    assert_eq!(read.registrar(), registrar().address());
    for (wallet, at) in &revoked {
        let found = read.revoked_at(*wallet, ClassId(1)).unwrap();
        assert!(found <= *at && at.0 - found.0 < 60, "{found} for {at}");
    }
    let class = read.revoked_at(WalletId(B256::ZERO), ClassId(3)).unwrap();
    assert!(class <= earlier(90) && class >= earlier(120));
    for n in 1_000..20_000 {
        assert_eq!(read.revoked_at(WalletId(bytes32("wallet", n)), ClassId(1)), None);
    }
}

#[test]
fn the_earlier_time_counts() {
    let wallet = WalletId(bytes32("wallet", 0));
    let list = list(
        &[(wallet, earlier(60)), (wallet, earlier(600))],
        &[(ClassId(1), earlier(300))],
    );
    assert_eq!(list.revoked_at(wallet, ClassId(1)), Some(earlier(600)));
    assert_eq!(list.revoked_at(wallet, ClassId(2)), Some(earlier(600)));
    assert_eq!(
        list.revoked_at(WalletId(B256::ZERO), ClassId(1)),
        Some(earlier(300))
    );
    // Longer ago than three bytes of minutes: for ever.
    let old = crate::world::list(&[(wallet, Timestamp(0))], &[]);
    assert_eq!(old.revoked_at(wallet, ClassId(1)), Some(Timestamp(0)));
}

#[test]
fn attack_change_a_list() {
    let signed = list(&wallets(20), &[(ClassId(3), NOW)]).signed().clone();
    let verdict = |change: &dyn Fn(&mut SignedRevocationList)| {
        let mut changed = signed.clone();
        change(&mut changed);
        changed.verify(&domain()).map(|list| list.registrar())
    };
    let mine = registrar().address();
    for change in [
        (&|list: &mut SignedRevocationList| list.issued_at.0 += 1) as &dyn Fn(&mut SignedRevocationList),
        &|list| list.salt.0[0] ^= 1,
        &|list| list.wallets.truncate(9 * 19),
        &|list| list.classes.clear(),
        &|list| list.wallets[8] ^= 1,
        &|list| list.wallets[..18].rotate_left(9),
        &|list| list.wallets.truncate(10),
        &|list| list.signature = Key::from_bytes(&[1; 32]).unwrap().sign(B256::ZERO),
    ] {
        assert_ne!(verdict(change), Ok(mine));
    }
    assert_eq!(verdict(&|_| ()), Ok(mine));
}
