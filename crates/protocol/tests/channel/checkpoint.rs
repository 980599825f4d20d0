//! Checkpoints, the tree over the locks, and the two proofs: each judged as the contract judges it.

use alloy_primitives::{B256, keccak256};
use alloy_sol_types::SolValue;
use micropay_protocol::channel::{
    CHECKPOINT_EVERY, CheckpointError, Index, LeafProof, LockTree, NotBadLock, NotDoubleReceipt, PayError,
    Sigma, SignedCheckpoint, Tag, bad_lock, checkpoint_due, double_receipt, leaf_hash, lock_leaf,
    open_receipts,
};
use proptest::prelude::*;

use crate::world::{World, bytes32, key};

fn bought(payments: u64) -> World {
    let mut world = World::new(300);
    for number in 1..=payments {
        world.buy(number, 1 + u32::from(number.is_multiple_of(4)));
    }
    world
}

fn sign(world: &mut World, root: B256) -> SignedCheckpoint {
    world
        .payer
        .checkpoint(&world.domain, &world.key, &mut world.chain, root)
        .unwrap()
}

#[test]
fn checkpoints_are_due_every_64_units() {
    assert_eq!(CHECKPOINT_EVERY, 64);
    assert!(!checkpoint_due(Index(0), Index(63), 64));
    assert!(checkpoint_due(Index(0), Index(64), 64));
    assert!(!checkpoint_due(Index(64), Index(127), 64));
    assert!(checkpoint_due(Index(64), Index(200), 64));
    assert!(checkpoint_due(Index(0), Index(1), 0), "every payment, at most");
}

/// OpenZeppelin's verifier: hash pairs in ascending order from the leaf up.
fn process_proof(path: &[B256], leaf: B256) -> B256 {
    path.iter().fold(leaf, |node, sibling| {
        let (low, high) = if node < *sibling {
            (node, *sibling)
        } else {
            (*sibling, node)
        };
        keccak256([low.0, high.0].concat())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_leaf_is_under_the_root(count in 1usize..140) {
        let leaves: Vec<_> = (0..count as u64)
            .map(|number| bindings::channel::LockLeaf {
                index: number as u32 + 1,
                previous: number as u32,
                lockR: bytes32("r", number),
                lockS: bytes32("s", number),
                tag: bytes32("tag", number),
            })
            .collect();
        let tree = LockTree::new(&leaves).unwrap();
        for leaf in &leaves {
            let path = tree.path(leaf).unwrap();
            prop_assert!(path.len() <= 8);
            prop_assert_eq!(process_proof(&path, leaf_hash(leaf)), tree.root());
            let words = [
                B256::left_padding_from(&leaf.index.to_be_bytes()),
                B256::left_padding_from(&leaf.previous.to_be_bytes()),
                leaf.lockR,
                leaf.lockS,
                leaf.tag,
            ];
            prop_assert_eq!(leaf_hash(leaf), keccak256(keccak256(words.concat())));
            prop_assert_eq!(leaf.abi_encode(), words.concat());
        }
        let mut stranger = leaves[0].clone();
        stranger.index += 1_000;
        prop_assert_eq!(tree.path(&stranger), None);
    }
}

/// Roots that `@openzeppelin/merkle-tree` makes of the same leaves: `StandardMerkleTree.of(rows, ["uint32", "uint32",
/// "bytes32", "bytes32", "bytes32"]).root`, here by its algorithm written down once more.
#[test]
fn the_tree_is_openzeppelins() {
    let leaf = |number: u64| bindings::channel::LockLeaf {
        index: number as u32 + 1,
        previous: number as u32,
        lockR: bytes32("r", number),
        lockS: bytes32("s", number),
        tag: bytes32("tag", number),
    };
    for count in 1..=9u64 {
        let leaves: Vec<_> = (0..count).map(leaf).collect();
        let mut hashes: Vec<B256> = leaves.iter().map(leaf_hash).collect();
        hashes.sort();
        let n = hashes.len();
        let mut tree = vec![B256::ZERO; 2 * n - 1];
        for (i, hash) in hashes.iter().enumerate() {
            tree[2 * n - 2 - i] = *hash;
        }
        for i in (0..n - 1).rev() {
            tree[i] = process_proof(&[tree[2 * i + 1]], tree[2 * i + 2]);
        }
        assert_eq!(LockTree::new(&leaves).unwrap().root(), tree[0]);
    }
    assert_eq!(
        LockTree::new(&[]),
        Err(CheckpointError::NoLeaves { got: 0, low: 1 })
    );
}

#[test]
fn a_checkpoint_is_checked_against_the_record() {
    let mut world = bought(10);
    let good = sign(&mut world, B256::ZERO);
    let take = |world: &World, signed: &SignedCheckpoint| {
        world
            .seller
            .take_checkpoint(&world.domain, world.record(), signed, None)
    };
    let taken = take(&world, &good).unwrap();
    assert_eq!(taken.paid.base, Index(12));
    let resign = |world: &World, change: &dyn Fn(&mut bindings::channel::Checkpoint)| {
        let mut fields = good.fields.clone();
        change(&mut fields);
        let signature = world.key.sign(world.domain.checkpoint_digest(&fields));
        SignedCheckpoint { fields, signature }
    };
    // Another channel, another key, another word, another root.
    let foreign = resign(&world, &|fields| fields.channelId = bytes32("channel", 9));
    assert!(matches!(
        take(&world, &foreign),
        Err(CheckpointError::WrongChannel { .. })
    ));
    let stranger = SignedCheckpoint {
        signature: key("stranger").sign(world.domain.checkpoint_digest(&good.fields)),
        ..good.clone()
    };
    assert!(matches!(
        take(&world, &stranger),
        Err(CheckpointError::WrongSigner { .. })
    ));
    let word = resign(&world, &|fields| fields.word = bytes32("word", 9));
    assert!(matches!(
        take(&world, &word),
        Err(CheckpointError::WrongWord { .. })
    ));
    let root = resign(&world, &|fields| fields.locksRoot = bytes32("root", 9));
    assert!(matches!(
        take(&world, &root),
        Err(CheckpointError::WrongRoot { .. })
    ));
    let nothing = resign(&world, &|fields| fields.index = 0);
    assert!(matches!(
        take(&world, &nothing),
        Err(CheckpointError::IndexNotAboveLast { .. })
    ));
    let too_far = resign(&world, &|fields| fields.index = 301);
    assert!(matches!(
        take(&world, &too_far),
        Err(CheckpointError::IndexOutOfRange { .. })
    ));
    // The same once more says nothing new.
    world.seller = taken;
    assert_eq!(
        take(&world, &good),
        Err(CheckpointError::IndexNotAboveLast {
            got: Index(12),
            last: Index(12)
        })
    );
    // One above what was paid is money: the contract takes it.
    let gift = resign(&world, &|fields| {
        fields.index = 13;
        fields.word = world.chain.clone().word(Index(13)).unwrap().0;
    });
    assert_eq!(take(&world, &gift).unwrap().paid.index, Index(13));
}

#[test]
fn a_client_signs_no_checkpoint_of_nothing() {
    let mut world = World::new(5);
    let result = world
        .payer
        .checkpoint(&world.domain, &world.key, &mut world.chain, B256::ZERO);
    assert_eq!(
        result,
        Err(PayError::NothingPaid {
            got: Index(0),
            low: Index(1)
        })
    );
    // Under way is not acknowledged, and revealed all the same.
    let payment = world.pay(1, 2);
    assert!(
        world
            .payer
            .checkpoint(&world.domain, &world.key, &mut world.chain, B256::ZERO)
            .is_err()
    );
    let revealed = world
        .payer
        .checkpoint_revealed(&world.domain, &world.key, &mut world.chain)
        .unwrap();
    assert_eq!((revealed.index(), revealed.word()), (payment.index, payment.word));
}

/// Accountable mode: each checkpoint commits to the locks since the one before.
#[test]
fn roots_are_over_the_locks_since_the_last_checkpoint() {
    let mut world = bought(10);
    let root = LockTree::over(&world.receipts, Index::ZERO).unwrap().root();
    let first = sign(&mut world, root);
    let locks = Some((Index::ZERO, &world.receipts[..]));
    world.seller = world
        .seller
        .take_checkpoint(&world.domain, world.record(), &first, locks)
        .unwrap();
    let last = first.index();
    for number in 11..=15 {
        world.buy(number, 1);
    }
    let since = &world.receipts[10..].to_vec();
    let root = LockTree::over(since, last).unwrap().root();
    let second = sign(&mut world, root);
    assert_eq!(second.check_locks(Some((last, since))), Ok(()));
    // Receipts after the checkpoint are not in it.
    world.buy(16, 1);
    assert_eq!(second.check_locks(Some((last, &world.receipts[10..]))), Ok(()));
    // One missing, or the wrong beginning: another root.
    assert!(second.check_locks(Some((last, &since[1..]))).is_err());
    assert!(second.check_locks(Some((Index::ZERO, since))).is_err());
    assert!(second.check_locks(None).is_err());
}

#[test]
fn a_good_lock_is_no_proof() {
    let mut world = bought(8);
    let root = LockTree::over(&world.receipts, Index::ZERO).unwrap().root();
    let signed = sign(&mut world, root);
    let opening = world.opening();
    let opened = open_receipts(&world.domain, &opening, &world.receipts, &world.payer.opener(), 1).receipts;
    let leaf =
        |at: usize| LeafProof::of(world.receipts[at].index, &world.receipts, Index::ZERO, &signed).unwrap();
    for (at, opened) in opened.iter().enumerate() {
        let before = at.checked_sub(1).map(leaf);
        let sigma = opened.sigma.to_bytes();
        let judged = bad_lock(&world.domain, &opening, &leaf(at), before.as_ref(), sigma);
        assert!(matches!(judged, Err(NotBadLock::LockOpens { .. })), "{judged:?}");
    }
    let judge = |bad: &LeafProof, before: Option<&LeafProof>, opener| {
        bad_lock(&world.domain, &opening, bad, before, opener).unwrap_err()
    };
    // The wrong opener is the vendor's own fault.
    let wrong = judge(&leaf(3), Some(&leaf(2)), opened[2].sigma.to_bytes());
    assert!(matches!(wrong, NotBadLock::OpenerNotTagged { .. }));
    // The wrong predecessor would make a good lock look bad.
    let sigma = opened[3].sigma.to_bytes();
    let needed = world.receipts[2].index;
    assert_eq!(
        judge(&leaf(3), Some(&leaf(1)), sigma),
        NotBadLock::WrongPredecessor {
            got: world.receipts[1].index,
            needed
        }
    );
    assert_eq!(
        judge(&leaf(3), None, sigma),
        NotBadLock::WrongPredecessor {
            got: Index(0),
            needed
        }
    );
    // A leaf that the client did not sign.
    let mut forged = leaf(3);
    forged.leaf.lockR = bytes32("r", 9);
    assert!(matches!(
        judge(&forged, Some(&leaf(2)), sigma),
        NotBadLock::Leaf(CheckpointError::LeafNotUnderRoot { .. })
    ));
    let mut unsigned = leaf(3);
    unsigned.checkpoint.signature = key("stranger").sign(world.domain.checkpoint_digest(&signed.fields));
    assert!(matches!(
        judge(&unsigned, Some(&leaf(2)), sigma),
        NotBadLock::Leaf(CheckpointError::WrongSigner { .. })
    ));
}

/// The first lock hides the bank's signature, and nothing else.
#[test]
fn a_bad_first_lock_is_proven_against_sigma0() {
    let mut world = bought(1);
    world.receipts[0].lock.0[7] ^= 1;
    let root = LockTree::over(&world.receipts, Index::ZERO).unwrap().root();
    let signed = sign(&mut world, root);
    let leaf = LeafProof::of(Index(1), &world.receipts, Index::ZERO, &signed).unwrap();
    let opener = world.payer.opener().sigma;
    let proof = bad_lock(&world.domain, &world.opening(), &leaf, None, opener.to_bytes()).unwrap();
    assert_eq!(proof.terms, world.opening().terms());
    assert_eq!((proof.r, proof.s), (opener.r(), opener.s()));
    assert_eq!(proof.bad.leaf, lock_leaf(&world.receipts[0], Index::ZERO));
    assert_eq!(proof.predecessor, bindings::channel::SignedLeaf::default());
}

#[test]
fn two_receipts_of_one_index_are_a_proof() {
    let world = bought(2);
    let opening = world.opening();
    let opened = open_receipts(&world.domain, &opening, &world.receipts, &world.payer.opener(), 1).receipts;
    let (id, unit) = (world.payer.id(), world.unit);
    let mut a = opened[1].receipt.receipt(id, unit, opened[1].transcript);
    let honest = (a.clone(), opened[1].sigma);
    a.itemHash = bytes32("another item", 0);
    let sigma = Sigma::from(&world.key.sign(world.domain.receipt_digest(&a)));
    let judge = |a: (&bindings::channel::Receipt, &Sigma), b: (&bindings::channel::Receipt, &Sigma)| {
        double_receipt(&world.domain, &opening, a, b)
    };
    let proof = judge((&a, &sigma), (&honest.0, &honest.1)).unwrap();
    assert_eq!((proof.a.0, proof.b.0), (a.clone(), honest.0.clone()));
    // One and the same, or of two indices: no contradiction.
    let same = judge((&honest.0, &honest.1), (&honest.0, &honest.1));
    assert!(matches!(same, Err(NotDoubleReceipt::NoContradiction { .. })));
    let first = opened[0].receipt.receipt(id, unit, opened[0].transcript);
    assert!(matches!(
        judge((&first, &opened[0].sigma), (&honest.0, &honest.1)),
        Err(NotDoubleReceipt::NoContradiction { .. })
    ));
    // Not signed, or of another channel.
    assert!(matches!(
        judge((&a, &honest.1), (&honest.0, &honest.1)),
        Err(NotDoubleReceipt::NotSigned { .. })
    ));
    let mut foreign = a.clone();
    foreign.channelId = bytes32("channel", 9);
    assert!(matches!(
        judge((&foreign, &sigma), (&honest.0, &honest.1)),
        Err(NotDoubleReceipt::WrongChannel { .. })
    ));
    assert_eq!(Tag::of(id, Index(a.index), &honest.1), world.receipts[1].tag);
}
