//! The value chain, and the payer's walk up it: the same words as the whole chain has, from a handful of pebbles.

use alloy_primitives::B256;
use micropay_protocol::channel::{
    Chain, ChainError, ChainSeed, ChannelId, Index, MAX_LENGTH, Word, chain_seed, previous, walk,
};
use proptest::prelude::*;

use crate::world::{bytes32, key};

fn id() -> ChannelId {
    ChannelId(bytes32("channel", 0))
}

fn seed(number: u64) -> ChainSeed {
    ChainSeed::new(bytes32("seed", number).0)
}

fn chain(length: u32) -> Chain {
    Chain::from_seed(seed(length.into()), id(), Index(length)).unwrap()
}

/// All words of the chain, from the anchor up.
fn naive(length: u32) -> Vec<Word> {
    let mut word = Word(bytes32("seed", length.into()));
    let mut words = vec![word];
    for _ in 0..length {
        word = previous(word, id());
        words.push(word);
    }
    words.reverse();
    words
}

/// `⌈log2 n⌉`, another way.
fn log2(length: u32) -> u32 {
    (0..).find(|&bits| 1u64 << bits >= u64::from(length)).unwrap()
}

/// Hashes that giving every word of a chain may take: half a hash for each level and index, and one for every other index.
fn bound(length: u32) -> u64 {
    let (length, levels) = (u64::from(length), u64::from(log2(length)));
    length * levels / 2 + length / 2 + 1
}

#[test]
fn pebbles_give_what_the_whole_chain_has() {
    for length in 1..=2_000 {
        let words = naive(length);
        let mut chain = chain(length);
        assert_eq!(chain.anchor(), words[0], "n = {length}");
        assert_eq!(chain.nodes() as u32, log2(length) + 3);
        let mut total = 0;
        for (index, word) in words.iter().enumerate() {
            let index = u32::try_from(index).unwrap();
            let (got, hashes) = chain.word_counted(Index(index)).unwrap();
            assert_eq!(got, *word, "w_{index} of {length}");
            assert!(
                hashes <= log2(length).max(1) + 1,
                "{hashes} hashes for w_{index} of {length}, the bound is one a level"
            );
            total += u64::from(hashes);
        }
        assert!(total <= bound(length), "{total} hashes for {length} words");
    }
}

/// The longest chain, all of it: 20 pebbles, 23 nodes, and never more than 21 hashes for one payment.
#[test]
fn bounds_of_the_longest_chain() {
    let mut chain = chain(MAX_LENGTH.0);
    assert_eq!(chain.nodes(), 23);
    assert!(chain.bytes() <= 1_024, "{} bytes", chain.bytes());
    let (mut most, mut total) = (0, 0u64);
    let mut last = chain.anchor();
    for index in 1..=MAX_LENGTH.0 {
        let (word, hashes) = chain.word_counted(Index(index)).unwrap();
        most = most.max(hashes);
        total += u64::from(hashes);
        if index.is_multiple_of(257) {
            assert_eq!(previous(word, id()), last);
        }
        last = word;
    }
    assert_eq!(last, Word(bytes32("seed", MAX_LENGTH.0.into())));
    println!(
        "n = 2^20: {} nodes, {} bytes, at most {most} hashes a payment, {:.2} on average",
        chain.nodes(),
        chain.bytes(),
        total as f64 / f64::from(MAX_LENGTH.0)
    );
    assert!(most <= 21, "{most} hashes for one payment");
    assert!(total <= bound(MAX_LENGTH.0), "{total} hashes in all");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever a chain begins, and however it jumps, its words are those of the whole chain.
    #[test]
    fn pebbles_begin_and_jump_anywhere(
        bits in 1u32..=20,
        part in 0.0f64..1.0,
        starts in prop::collection::vec(0.0f64..=1.0, 2),
        jumps in prop::collection::vec(1u32..3_000, 1..40),
    ) {
        let length = ((f64::from(1u32 << bits) * part) as u32).max(1);
        let words = naive(length);
        for start in starts {
            let start = (f64::from(length) * start) as u32;
            let mut chain = Chain::at(seed(length.into()), id(), Index(length), Index(start)).unwrap();
            prop_assert_eq!(chain.anchor(), words[0]);
            prop_assert_eq!(chain.position(), Index(start));
            let mut at = start;
            for jump in &jumps {
                at = (at + jump).min(length);
                prop_assert_eq!(chain.word(Index(at)).unwrap(), words[at as usize], "w_{} of {}", at, length);
                // And down again, without losing the place.
                let low = at.saturating_sub(jump / 2);
                prop_assert_eq!(chain.word(Index(low)).unwrap(), words[low as usize]);
                prop_assert_eq!(chain.position(), Index(at));
            }
        }
    }
}

#[test]
fn chains_have_bounds() {
    let of = |length| Chain::from_seed(seed(0), id(), Index(length));
    let out_of_range = |got| ChainError::LengthOutOfRange {
        got: Index(got),
        low: Index(1),
        high: MAX_LENGTH,
    };
    assert_eq!(of(0).unwrap_err(), out_of_range(0));
    assert_eq!(of(MAX_LENGTH.0 + 1).unwrap_err(), out_of_range(MAX_LENGTH.0 + 1));
    let above = ChainError::IndexAboveLength {
        got: Index(4),
        length: Index(3),
    };
    assert_eq!(of(3).unwrap().word(Index(4)).unwrap_err(), above);
    assert_eq!(Chain::at(seed(0), id(), Index(3), Index(4)).unwrap_err(), above);
    assert_eq!(Index::try_from(MAX_LENGTH.0), Ok(MAX_LENGTH));
    assert!(Index::try_from(MAX_LENGTH.0 + 1).is_err());
}

#[test]
fn walking_is_hashing_so_often() {
    let word = Word(B256::repeat_byte(7));
    let mut by_steps = word;
    for steps in 0..20 {
        assert_eq!(walk(word, id(), steps), by_steps);
        by_steps = previous(by_steps, id());
    }
    assert_ne!(previous(word, id()), previous(word, ChannelId(B256::ZERO)));
}

/// Every input makes another seed; above all the length, whose words would be another chain's.
#[test]
fn seeds_have_nothing_in_common() {
    let bottom = |seed, length| Chain::from_seed(seed, id(), Index(length)).unwrap().anchor();
    let (a, b) = (key("a"), key("b"));
    let other = ChannelId(B256::ZERO);
    let anchors = [
        bottom(chain_seed(&a, id(), 0, Index(9)), 9),
        bottom(chain_seed(&b, id(), 0, Index(9)), 9),
        bottom(chain_seed(&a, other, 0, Index(9)), 9),
        bottom(chain_seed(&a, id(), 1, Index(9)), 9),
        bottom(chain_seed(&a, id(), 0, Index(10)), 9),
    ];
    for (i, one) in anchors.iter().enumerate() {
        assert!(!anchors[i + 1..].contains(one));
    }
    assert_eq!(anchors[0], bottom(chain_seed(&a, id(), 0, Index(9)), 9));
}

#[test]
fn words_to_come_stay_out_of_debug() {
    let chain = chain(8);
    let shown = format!("{chain:?} {:?}", seed(8));
    for word in &naive(8)[1..] {
        assert!(!shown.contains(&format!("{:x}", word.0)), "{shown}");
    }
    assert!(shown.contains("ChainSeed(..)"));
}
