//! Words: the value chain, PayWord run backwards and bound to its channel. `w_{j-1} = keccak256(abi.encode(w_j, channelId))`,
//! the anchor `w_0` is on chain, and `w_i` is worth `i` units. Whoever sees `w_i` can hash down and never up (C-2).
//!
//! The payer reveals upwards what it can only hash downwards. [`Chain`] keeps `⌈log2 n⌉` pebbles (Jakobsson's fractal
//! traversal): a payment costs at most `⌈log2 n⌉ + 1` hashes and less than half of that on average, instead of `n` words or
//! `n` hashes. For n = 2^20: 23 words in 800 bytes, at most 19 hashes, 9 on average.
//!
//! ```text
//! level 1:  . ● . . . ● . . . ● . . .      pebble j waits at the next odd multiple of 2^j above the position, having come
//! level 2:  . . . ● . . . . . . . ● .      down from the next multiple of 2^(j+1), two links a step: there it met a
//! level 3:  . . . . . . . ● . . . . .      pebble of a higher level, whose word it copied
//! ```
//!
//! Why the bound: pebble j is on its way while bit j of the position is 1 and bit j − 1 is 0. So no two neighbours move at
//! once: at most half of the levels, two hashes each, and one hash more for the word of an odd index.

use core::fmt;

use alloy_primitives::keccak256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{ChainError, ChannelId, Index, MAX_LENGTH, Word};
use crate::signature::Key;

const TAG: &[u8] = b"micropay/channel/chain/v1";

/// The last word of a chain, from which all others follow. Whoever has it can pay the vendor, and nobody else. Hidden from
/// `Debug`, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ChainSeed([u8; 32]);

/// A payer's chain: gives the word of any index, cheaply for the next one. `Debug` hides the words not yet given.
#[derive(Clone)]
pub struct Chain {
    channel: ChannelId,
    length: Index,
    anchor: Word,
    seed: ChainSeed,
    position: Index,
    /// `w_position`.
    current: Word,
    /// The word of the pebble of level `j + 1`; where it lies follows from the position.
    pebbles: Vec<Word>,
}

/// The word below: `keccak256(abi.encode(word, channel))`.
pub fn previous(word: Word, channel: ChannelId) -> Word {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(word.0.as_slice());
    bytes[32..].copy_from_slice(channel.0.as_slice());
    Word(keccak256(bytes))
}

/// The word `steps` below.
pub fn walk(word: Word, channel: ChannelId, steps: u32) -> Word {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(word.0.as_slice());
    bytes[32..].copy_from_slice(channel.0.as_slice());
    for _ in 0..steps {
        let hash = keccak256(bytes);
        bytes[..32].copy_from_slice(hash.as_slice());
    }
    let mut word = Word::default();
    word.0.copy_from_slice(&bytes[..32]);
    word
}

/// The seed of a channel's chain, so that a payer that lost its store needs only its receipt key. `generation` is 0 for the
/// chain that opens the channel and one more with each top-up.
///
/// Why this is safe: keccak keyed by 32 uniform bytes that nobody else has is a pseudo-random function, and nothing else
/// hashes a string with this tag (RFC 6979 uses HMAC-SHA256, typed data begin with 0x19). So a seed that becomes public,
/// as the last word of a spent chain does, says nothing of the key or of another seed. The length is an input, because two
/// chains of one seed and different lengths would be each other's words: those revealed of the one would spend the other.
pub fn chain_seed(receipt_key: &Key, channel: ChannelId, generation: u32, length: Index) -> ChainSeed {
    let secret = receipt_key.to_bytes();
    let mut bytes = Zeroizing::new([0; TAG.len() + 32 + 32 + 4 + 4]);
    let mut rest = &mut bytes[..];
    for part in [
        TAG,
        &*secret,
        channel.0.as_slice(),
        &generation.to_be_bytes(),
        &length.0.to_be_bytes(),
    ] {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    ChainSeed(keccak256(bytes.as_slice()).0)
}

impl ChainSeed {
    /// Wraps 32 uniform bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ChainSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainSeed(..)")
    }
}

impl Chain {
    /// The chain of `length` words above its anchor whose last word is the seed. Costs `length` hashes, once.
    pub fn from_seed(seed: ChainSeed, channel: ChannelId, length: Index) -> Result<Self, ChainError> {
        Self::at(seed, channel, length, Index::ZERO)
    }

    /// The chain, ready to give the word after `position`: what a payer makes after it was started again, or has lost its
    /// store. Costs `length` hashes.
    pub fn at(
        seed: ChainSeed,
        channel: ChannelId,
        length: Index,
        position: Index,
    ) -> Result<Self, ChainError> {
        if length == Index::ZERO || length > MAX_LENGTH {
            return Err(ChainError::LengthOutOfRange {
                got: length,
                low: Index(1),
                high: MAX_LENGTH,
            });
        }
        if position > length {
            return Err(ChainError::IndexAboveLength {
                got: position,
                length,
            });
        }
        let levels = levels(length);
        let last = Word(seed.0.into());
        let mut chain = Self {
            channel,
            length,
            anchor: last,
            seed,
            position,
            current: last,
            pebbles: vec![last; levels],
        };
        // One pass down the chain drops every pebble where it belongs.
        let mut places: Vec<(u32, usize)> = (0..levels)
            .map(|level| (place(level, position.0).min(length.0), level))
            .collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        let (mut word, mut at) = (last, length.0);
        for (place, level) in places {
            word = walk(word, channel, at - place);
            at = place;
            chain.pebbles[level] = word;
        }
        chain.current = walk(word, channel, at - position.0);
        chain.anchor = walk(chain.current, channel, position.0);
        Ok(chain)
    }

    /// The channel that the words pay.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// `w_0`, which is on chain.
    pub fn anchor(&self) -> Word {
        self.anchor
    }

    /// How many units the chain can pay.
    pub fn length(&self) -> Index {
        self.length
    }

    /// The highest index whose word was given.
    pub fn position(&self) -> Index {
        self.position
    }

    /// How many words are kept: the pebbles, the seed, the current word and the anchor.
    pub fn nodes(&self) -> usize {
        self.pebbles.len() + 3
    }

    /// Memory that the chain takes, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.pebbles.capacity() * size_of::<Word>()
    }

    /// The word of `index`. Above the position the traversal goes on, at most `⌈log2 n⌉ + 1` hashes for each index; at or
    /// below it, the current word is hashed down.
    pub fn word(&mut self, index: Index) -> Result<Word, ChainError> {
        Ok(self.word_counted(index)?.0)
    }

    /// The word of `index`, and how many hashes it took.
    pub fn word_counted(&mut self, index: Index) -> Result<(Word, u32), ChainError> {
        if index > self.length {
            return Err(ChainError::IndexAboveLength {
                got: index,
                length: self.length,
            });
        }
        if index <= self.position {
            let steps = self.position.above(index);
            return Ok((walk(self.current, self.channel, steps), steps));
        }
        let mut hashes = 0;
        while self.position < index {
            hashes += self.step();
        }
        Ok((self.current, hashes))
    }

    /// Goes up one index; answers how many hashes that took.
    fn step(&mut self) -> u32 {
        let (from, at) = (self.position.0, self.position.0 + 1);
        let length = self.length.0;
        // Even indices have a pebble of the level that their factors of two say, odd ones are one below an even one.
        let level = at.trailing_zeros() as usize;
        let mut hashes = 0;
        for (i, word) in self.pebbles.iter_mut().enumerate() {
            // The pebble that lies at `at` waits for what is below; others come down by two until they rest.
            let above_rest = on_its_way(i, from);
            if i + 1 != level && above_rest > 0 {
                let before = rest(i, from) + above_rest;
                let steps = before.min(length) - (before - 2).min(length);
                *word = walk(*word, self.channel, steps);
                hashes += steps;
            }
        }
        if level == 0 {
            let above = (at + 1).min(length);
            self.current = walk(self.resting(above), self.channel, above - at);
            hashes += above - at;
        } else {
            self.current = self.resting(at);
            // It goes on to where a pebble of a higher level has come to rest, or to the end of the chain.
            self.pebbles[level - 1] = self.resting(place(level - 1, at));
        }
        self.position = Index(at);
        hashes
    }

    /// The word at an even place above the position where some pebble rests, or of the end of the chain for any place from
    /// there on.
    fn resting(&self, place: u32) -> Word {
        if place >= self.length.0 {
            return Word(self.seed.0.into());
        }
        self.pebbles[place.trailing_zeros() as usize - 1]
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("channel", &self.channel)
            .field("length", &self.length)
            .field("anchor", &self.anchor)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // Pebbles are money, too, until the chain is spent.
        for pebble in &mut self.pebbles {
            pebble.0.0.zeroize();
        }
    }
}

/// How many pebbles a chain has: `⌈log2 length⌉`.
fn levels(length: Index) -> usize {
    length.0.next_power_of_two().trailing_zeros() as usize
}

/// Where the pebble of level `i + 1` lies after `position` was given, on a chain without end.
fn place(i: usize, position: u32) -> u32 {
    rest(i, position) + on_its_way(i, position)
}

/// Where it rests: the next odd multiple of `step = 2^(i + 1)`.
fn rest(i: usize, position: u32) -> u32 {
    let step = 2 << i;
    step + 2 * step * ((position + step) / (2 * step))
}

/// How far above it still is: it starts `step` above its rest when that of before was passed, and comes down two links for
/// each index given. It is there after a quarter of its time, so that others find a word where they are to start.
fn on_its_way(i: usize, position: u32) -> u32 {
    let step: u32 = 2 << i;
    let age = position + 2 * step - rest(i, position);
    step.saturating_sub(2 * age)
}
