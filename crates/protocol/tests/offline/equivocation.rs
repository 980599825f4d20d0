//! A wallet that spent twice is proven by whoever holds both paths; an honest one never is.

use micropay_protocol::offline::{Equivocation, Path, equivocation};

use crate::world::{Device, domain, hand_over, registrar};

fn proof(one: &Path, other: &Path) -> Option<Equivocation> {
    let domain = domain();
    let forth = equivocation(
        &domain,
        &one.prove(&domain).unwrap(),
        &other.prove(&domain).unwrap(),
    );
    let back = equivocation(
        &domain,
        &other.prove(&domain).unwrap(),
        &one.prove(&domain).unwrap(),
    );
    assert_eq!(forth.is_some(), back.is_some());
    forth
}

#[test]
fn attack_clone_is_proven_by_both_branches() {
    for kind in [Device::signature as fn(&str) -> Device, Device::log] {
        let mut a = kind("a").funded(1_000);
        let (mut b, mut c) = (kind("bb"), kind("ccc"));
        hand_over(&mut a, &mut b, 100);
        // Component and books, copied together: each copy goes on as if there were no other.
        let mut clone = a.clone();
        let (_, one) = hand_over(&mut a, &mut b, 300);
        let (_, other) = hand_over(&mut clone, &mut c, 300);
        match proof(&one, &other).expect("the coin was spent twice") {
            Equivocation::Signature { key, transfers } => {
                assert_eq!(transfers[0].0.input, transfers[1].0.input);
                for (transfer, signature) in transfers {
                    assert!(key.verify(domain().transfer_digest(&transfer).0.as_slice(), &signature));
                }
            }
            Equivocation::Log {
                key,
                index,
                base,
                branches,
            } => {
                assert_ne!(branches[0].entries[0], branches[1].entries[0]);
                for branch in branches {
                    let head = base.folded(&branch.entries);
                    assert!(branch.certificate.verify(&key, index, head, branch.transfer));
                }
            }
        }
        // A payment later, the fork is still there.
        let mut d = kind("dddd");
        let (_, third) = hand_over(&mut b, &mut d, 250);
        assert!(proof(&third, &other).is_some());
    }
}

#[test]
fn an_honest_wallet_is_never_proven_against() {
    for kind in [Device::signature as fn(&str) -> Device, Device::log] {
        let mut a = kind("a").funded(1_000);
        let (mut b, mut c) = (kind("bb"), kind("ccc"));
        let mut paths = Vec::new();
        for turn in 0..4 {
            paths.push(hand_over(&mut a, &mut b, 50 + turn).1);
            paths.push(hand_over(&mut b, &mut c, 20 + turn).1);
            if turn == 1 && a.index.is_some() {
                a.wallet
                    .take_checkpoint(&domain(), registrar().address(), a.checkpoint())
                    .unwrap();
            }
        }
        for one in &paths {
            for other in &paths {
                assert_eq!(proof(one, other), None);
            }
        }
    }
}
