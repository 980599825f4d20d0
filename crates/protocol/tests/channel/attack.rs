//! The paper's weaknesses on the paper's rule, and our repair (`channel.md` §3 and §4).

use alloy_primitives::{B256, keccak256};
use micropay_protocol::channel::{
    AdmitRefusal, Amount, Close, Index, Keccak, LeafProof, Lock, LockHash, LockTree, Refusal, Sigma,
    SigmaError, Stopped, Tag, Transcript, Word, bad_lock, lock, open_receipts, previous, transcript, unlock,
};

use crate::lock::malleate;
use crate::world::{GAS, World, bytes32, item, reputation};

/// C-1: the paper's Lock and Unlock count differently, so that on its rule nothing opens.
#[test]
fn attack_index_mismatch_opens_nothing() {
    let mut world = World::new(10);
    for number in 1..=5 {
        world.buy(number, 1);
    }
    let (opening, opener) = (world.opening(), world.payer.opener());
    let opened = open_receipts(&world.domain, &opening, &world.receipts, &opener, 1).receipts;
    // On the paper's rule: lk_i = σ_{i−1} ⊕ H(σ_i) for i < n, and lk_n := σ_n. Unlock takes lk_{n−1} with σ_n.
    let papers: Vec<Lock> = world.receipts[..4].iter().map(|receipt| receipt.lock).collect();
    let by_unlock = unlock::<Keccak>(&papers[3], &opener.sigma);
    assert!(opened.iter().all(|opened| opened.sigma.to_bytes() != by_unlock));
    // lk_5, which opens to σ_4, was never sent: no lock opens with the only signature there is.
    for lock in &papers {
        let hidden = unlock::<Keccak>(lock, &opener.sigma);
        assert!(opened.iter().all(|opened| opened.sigma.to_bytes() != hidden));
    }
    // On ours there are n locks and an opener beside them.
    assert_eq!(
        unlock::<Keccak>(&world.receipts[4].lock, &opener.sigma),
        opened[3].sigma.to_bytes()
    );
    assert_eq!(
        unlock::<Keccak>(&world.receipts[0].lock, &opened[0].sigma),
        opening.sigma0().to_bytes()
    );
}

/// C-9: everybody who holds σ_0 has the mask of σ_1. It opens nothing, and is no tag.
#[test]
fn attack_first_mask_is_public() {
    let mut world = World::new(10);
    for number in 1..=3 {
        world.buy(number, 1);
    }
    let mask = unlock_with(world.receipts[0].lock, world.opening().sigma0().to_bytes());
    let opened = open_receipts(
        &world.domain,
        &world.opening(),
        &world.receipts,
        &world.payer.opener(),
        1,
    )
    .receipts;
    assert_eq!(
        mask,
        Keccak::mask(&opened[0].sigma.to_bytes()),
        "the mask is public"
    );
    for receipt in &world.receipts {
        assert!(
            mask[..32] != receipt.tag.0[..] && mask[32..] != receipt.tag.0[..],
            "a tag is half of a mask"
        );
    }
    // As an opener, it is a stranger's.
    let as_sigma = Sigma::from_bytes(&mask);
    assert!(
        as_sigma.is_err() || Tag::of(world.payer.id(), Index(1), &as_sigma.unwrap()) != world.receipts[0].tag
    );
    assert_ne!(
        unlock_with(world.receipts[1].lock, Keccak::mask(&mask)),
        opened[0].sigma.to_bytes()
    );
}

fn unlock_with(lock: Lock, mask: [u8; 64]) -> [u8; 64] {
    std::array::from_fn(|i| lock.0[i] ^ mask[i])
}

/// C-12: the paper's Tx_i is a hash of Tx_{i−1} alone, the same whatever was bought. Ours names every item.
#[test]
fn attack_transcript_without_content() {
    let papers = |_items: &[u64]| (0..3).fold(bytes32("Tx", 0), |tx, _| keccak256(tx));
    assert_eq!(
        papers(&[1, 2, 3]),
        papers(&[7, 8, 9]),
        "on the paper's rule all purchases look the same"
    );
    let ours = |items: &[u64]| {
        items.iter().fold(Transcript(bytes32("Tx", 0)), |so_far, number| {
            transcript(so_far, item(*number))
        })
    };
    let all = [
        ours(&[1, 2, 3]),
        ours(&[1, 2]),
        ours(&[2, 1, 3]),
        ours(&[1, 2, 4]),
        ours(&[7, 8, 9]),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(!all[i + 1..].contains(one));
    }
}

/// C-2: the paper's coins run forwards, so that the first one makes all.
#[test]
fn attack_forward_chain_predicts_coins() {
    // On the paper's rule: f_i = H(f_{i-1}), and f_1 is spent.
    let coins: Vec<B256> = std::iter::successors(Some(bytes32("f", 0)), |coin| Some(keccak256(coin)))
        .take(101)
        .collect();
    let forged = (1..100).fold(coins[1], |coin, _| keccak256(coin));
    assert_eq!(
        forged, coins[100],
        "from the first coin anybody makes the hundredth"
    );

    // Ours runs backwards: from what is spent only what was spent before can be made.
    let mut world = World::new(100);
    let spent = world.buy(1, 1);
    let stolen = previous(spent.word, world.payer.id());
    assert_eq!(stolen, world.chain.anchor());
    let honest = world.pay(2, 1);
    for guess in [
        spent.word,
        stolen,
        Word(keccak256(spent.word.0)),
        Word(B256::ZERO),
    ] {
        let mut forged = honest;
        forged.word = guess;
        let refusal = world.accept(forged, world.order(2, 1)).unwrap_err();
        assert!(matches!(refusal, Refusal::WordNotInChain { .. }), "{refusal}");
    }
    assert!(world.accept(honest, world.order(2, 1)).is_ok());
}

/// C-3: whoever stops at i, the vendor has i units. (Histories of failures and retries are in `histories.rs`.)
#[test]
fn attack_abort_at_every_index() {
    let mut world = World::new(300);
    for i in 0..=300u32 {
        // On the paper's rule: i locks and no opener but the bank's signature, which opens none. Nothing was paid.
        let (id, sigma0) = (world.payer.id(), world.opening().sigma0());
        let mut tag_before = world.opening().tag0();
        for receipt in &world.receipts[world.receipts.len().saturating_sub(3)..] {
            let hidden = unlock::<Keccak>(&receipt.lock, &sigma0);
            let opens = Sigma::from_bytes(&hidden)
                .is_ok_and(|sigma| Tag::of(id, Index(receipt.index.0 - 1), &sigma) == tag_before);
            assert!(!opens, "a lock opened without its opener at {i}");
            tag_before = receipt.tag;
        }

        // On ours: the word is worth i units.
        assert_eq!(world.payout(), Amount(100 * u128::from(i)), "at index {i}");
        if i < 300 {
            world.buy(i.into(), 1);
        }
    }
}

/// C-4: a client that locks with garbage costs the vendor its receipts and nothing else; in accountable mode it signs the
/// proof itself.
#[test]
fn attack_garbage_lock_value_unaffected() {
    let mut world = World::new(20);
    for number in 1..=4 {
        world.buy(number, 1);
    }
    // The fifth lock hides nothing that the client signed. The vendor cannot see that.
    let mut payment = world.pay(5, 1);
    payment.lock = Lock([0x5a; 64]);
    let accepted = world.accept(payment, world.order(5, 1)).unwrap();
    world.store(&accepted);
    world.deliver(accepted);
    world.payer = world.payer.acknowledge(payment.tag).unwrap();
    world.buy(6, 1);
    world.buy(7, 1);
    assert_eq!(
        world.payout(),
        Amount(700),
        "a lock is worth nothing, and costs nothing"
    );

    // Opened: 7, 6 and 5, whose lock hides no signature of 4.
    let opening = world.opening();
    let opener = world.payer.opener();
    let opened = open_receipts(&world.domain, &opening, &world.receipts, &opener, 2);
    let indices = |from: &[u32]| from.iter().copied().map(Index).collect::<Vec<_>>();
    assert_eq!(
        opened
            .receipts
            .iter()
            .map(|r| r.receipt.index)
            .collect::<Vec<_>>(),
        indices(&[5, 6, 7])
    );
    assert_eq!(opened.unopenable, indices(&[1, 2, 3, 4]));
    assert!(!opened.ends_in_sigma0);
    let stopped = opened.stopped.unwrap();
    assert!(
        matches!(
            stopped,
            Stopped::NotASignature { index: Index(4) } | Stopped::WrongTag { index: Index(4), .. }
        ),
        "{stopped:?}"
    );

    // Accountable mode: the client signed the root of all seven locks.
    let root = LockTree::over(&world.receipts, Index::ZERO).unwrap().root();
    let signed = world
        .payer
        .checkpoint(&world.domain, &world.key, &mut world.chain, root)
        .unwrap();
    let locks = Some((Index::ZERO, &world.receipts[..]));
    world
        .seller
        .take_checkpoint(&world.domain, world.record(), &signed, locks)
        .unwrap();
    let leaf = |index| LeafProof::of(Index(index), &world.receipts, Index::ZERO, &signed).unwrap();
    let opener = opened.receipts[0].sigma.to_bytes();
    let proof = bad_lock(&world.domain, &opening, &leaf(5), Some(&leaf(4)), opener).unwrap();
    assert_eq!(proof.bad.leaf.index, 5);
    assert_eq!(proof.predecessor.leaf.index, 4);

    // The honest locks are no proof.
    let honest = bad_lock(
        &world.domain,
        &opening,
        &leaf(6),
        Some(&leaf(5)),
        opened.receipts[1].sigma.to_bytes(),
    );
    assert!(honest.is_err());
}

/// C-6: a malleated opener verifies in a lax library, and opens garbage. The tag and the strict form stop it.
#[test]
fn attack_malleated_opener() {
    let mut world = World::new(10);
    for number in 1..=5 {
        world.buy(number, 1);
    }
    let opener = world.payer.opener();
    let twin = malleate(&opener.sigma);
    // On the paper's rule: it is a signature of the same message, and the lock opens to something else.
    let last = world.receipts[4];
    let before = Sigma::from_bytes(&unlock::<Keccak>(&last.lock, &opener.sigma)).unwrap();
    assert_eq!(lock::<Keccak>(&before, &opener.sigma), last.lock);
    // On ours it is not even read.
    assert!(matches!(Sigma::from_bytes(&twin), Err(SigmaError::Signature(_))));
    assert!(open_receipts(&world.domain, &world.opening(), &world.receipts, &opener, 1).ends_in_sigma0);
}

/// A coin names its channel by what it hashes to.
#[test]
fn coin_of_other_channel_rejected() {
    let (mut mine, mut other) = (World::of("mine", 10), World::of("other", 10));
    let foreign = other.pay(1, 1);
    let refusal = mine.accept(foreign, mine.order(1, 1)).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::ForeignChannel {
            got: other.payer.id(),
            mine: mine.payer.id()
        }
    );
    // Relabelled, it does not walk.
    let mut relabelled = foreign;
    relabelled.channel = mine.payer.id();
    let refusal = mine.accept(relabelled, mine.order(1, 1)).unwrap_err();
    assert!(matches!(refusal, Refusal::WordNotInChain { .. }), "{refusal}");
    // Nor does the same seed serve two channels.
    let word = mine.pay(1, 1).word;
    assert_ne!(previous(word, mine.payer.id()), previous(word, other.payer.id()));
}

/// C-14: 50 is enough, for the bank and for the vendor, who may ask for more.
#[test]
fn reputation_49_50_51() {
    for (client, vendor, admitted) in [
        (49, 80, false),
        (50, 80, true),
        (51, 80, true),
        (80, 49, false),
        (80, 50, true),
        (80, 51, true),
    ] {
        let result = crate::permit::admit_with(reputation(client), reputation(vendor));
        match result {
            Ok(_) => assert!(admitted, "{client} and {vendor} were admitted"),
            Err(AdmitRefusal::ReputationTooLow { got, needed, .. }) => {
                assert!(!admitted);
                assert_eq!((got, needed), (reputation(client.min(vendor)), reputation(50)));
            }
            Err(other) => panic!("{other}"),
        }
    }
    let mut world = World::new(5);
    let payment = world.pay(1, 1);
    for (asked, accepted) in [(79, true), (80, true), (81, false)] {
        world.policy.min_reputation = reputation(asked);
        let result = world.accept(payment, world.order(1, 1));
        assert_eq!(result.is_ok(), accepted, "a client of 80 where {asked} is asked");
    }
}

/// Two ways to the same total: from the anchor, and from a signed checkpoint.
#[test]
fn checkpoint_then_close_same_total() {
    let mut world = World::new(500);
    for number in 1..=40 {
        world.buy(number, 3);
        if number == 30 {
            world.checkpoint();
        }
    }
    let plan = |signed| {
        Close::plan(
            &world.terms(),
            &world.seller.paid,
            signed,
            None,
            Index::ZERO,
            &GAS,
        )
        .unwrap()
    };
    let (long, short) = (plan(None), plan(world.signed.last()));
    assert_eq!((long.steps, short.steps), (120, 30));
    assert_eq!(world.contract_pays(&long), world.contract_pays(&short));
    assert_eq!(world.contract_pays(&short), Ok(Amount(12_000)));
}

/// The signature of a replaced payment never leaves: one index, one receipt (C-14).
#[test]
fn attack_two_receipts_for_a_retry() {
    let mut world = World::new(10);
    world.buy(1, 1);
    let failed = world.pay(2, 1);
    let accepted = world.accept(failed, world.order(2, 1)).unwrap();
    world.store(&accepted);
    world.seller = accepted.failed().channel;
    // Another item at the same index, with the same word.
    let replaced = world.pay(3, 1);
    assert_eq!((replaced.index, replaced.word), (failed.index, failed.word));
    let accepted = world.accept(replaced, world.order(3, 1)).unwrap();
    world.store(&accepted);
    world.deliver(accepted);
    world.payer = world.payer.acknowledge(replaced.tag).unwrap();
    world.buy(4, 1);
    // All that an opener opens are the receipts of what was delivered.
    let opened = open_receipts(
        &world.domain,
        &world.opening(),
        &world.receipts,
        &world.payer.opener(),
        1,
    );
    assert!(opened.ends_in_sigma0);
    let tags: Vec<Tag> = opened
        .receipts
        .iter()
        .map(|r| Tag::of(world.payer.id(), r.receipt.index, &r.sigma))
        .collect();
    assert!(!tags.contains(&failed.tag));
    assert_eq!(tags.len(), 3);
}
