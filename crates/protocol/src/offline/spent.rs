//! Everything that a log spent before a checkpoint, as one hash. A checkpoint hides the entries before it, and with them a
//! coin that was spent there: without this, a payer that is given a checkpoint pays the same coin once more, and its log
//! proves it. The leaves are the gaps between the spent inputs in order; who shows the gap that an input falls into, shows
//! that it was not spent.
//!
//! ```text
//! leaf = keccak256(0x00 ‖ low ‖ high)          low, high: neighbours, from 0x00… to 0xff…
//! node = keccak256(0x01 ‖ lower ‖ higher)      an odd one moves up as it is
//! ```

use core::fmt;

use alloy_primitives::{B256, keccak256};

use super::{Input, LogError};

/// Most siblings of a gap: more than any log has entries.
pub const MAX_GAP_SIBLINGS: usize = 32;

/// The root over everything that a log spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpentRoot(pub B256);

/// That nothing between two spent inputs was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The spent input below, or zero.
    pub low: B256,
    /// The spent input above, or the highest number.
    pub high: B256,
    /// From the leaf up.
    pub siblings: Vec<B256>,
}

/// The tree over all gaps. Made by the wallet and by its registrar alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentTree {
    /// In order, with both ends.
    bounds: Vec<B256>,
    /// Leaves first.
    levels: Vec<Vec<B256>>,
}

impl SpentTree {
    /// The tree over these inputs, in any order.
    pub fn new(spent: impl IntoIterator<Item = Input>) -> Self {
        let mut bounds: Vec<B256> = spent.into_iter().map(|input| input.0).collect();
        bounds.extend([B256::ZERO, B256::repeat_byte(0xff)]);
        bounds.sort_unstable();
        bounds.dedup();
        let mut levels = vec![bounds.windows(2).map(|pair| leaf(pair[0], pair[1])).collect()];
        while let Some(below) = levels.last().filter(|level: &&Vec<B256>| level.len() > 1) {
            let above = below
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(*left, *right),
                    alone => alone[0],
                })
                .collect();
            levels.push(above);
        }
        Self { bounds, levels }
    }

    /// The root.
    pub fn root(&self) -> SpentRoot {
        // There is at least one gap, and so one level, which has at least one node.
        SpentRoot(self.levels[self.levels.len() - 1][0])
    }

    /// That `input` was not spent; `None` if it was.
    pub fn gap(&self, input: Input) -> Option<Gap> {
        let above = self.bounds.binary_search(&input.0).err()?;
        let mut at = above - 1;
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(at ^ 1));
            at /= 2;
        }
        Some(Gap {
            low: self.bounds[above - 1],
            high: self.bounds[above],
            siblings,
        })
    }
}

impl Gap {
    /// Whether `input` is in this gap, and the gap under `root`.
    pub fn check(&self, input: Input, root: SpentRoot) -> Result<(), LogError> {
        if !(self.low < input.0 && input.0 < self.high) {
            return Err(LogError::NotInGap {
                input,
                low: self.low,
                high: self.high,
            });
        }
        if self.siblings.len() > MAX_GAP_SIBLINGS {
            return Err(LogError::GapTooDeep {
                got: self.siblings.len(),
                limit: MAX_GAP_SIBLINGS,
            });
        }
        let got = self.root();
        if got != root {
            return Err(LogError::GapNotUnderRoot { got, root });
        }
        Ok(())
    }

    /// The root that this gap is under.
    pub fn root(&self) -> SpentRoot {
        let leaf = leaf(self.low, self.high);
        SpentRoot(
            self.siblings
                .iter()
                .fold(leaf, |below, sibling| node(below, *sibling)),
        )
    }
}

fn leaf(low: B256, high: B256) -> B256 {
    keccak256([&[0][..], low.as_slice(), high.as_slice()].concat())
}

fn node(one: B256, other: B256) -> B256 {
    let (lower, higher) = if one < other { (one, other) } else { (other, one) };
    keccak256([&[1][..], lower.as_slice(), higher.as_slice()].concat())
}

impl fmt::Display for SpentRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_input_has_a_gap_and_no_spent_one() {
        for count in 0..=33_u64 {
            let spent: Vec<Input> = (0..count).map(|n| Input(keccak256(n.to_be_bytes()))).collect();
            let tree = SpentTree::new(spent.iter().rev().copied());
            for n in 0..count + 5 {
                let input = Input(keccak256(n.to_be_bytes()));
                let gap = tree.gap(input);
                assert_eq!(gap.is_none(), n < count, "{n} of {count}");
                if let Some(gap) = gap {
                    assert_eq!(gap.check(input, tree.root()), Ok(()), "{n} of {count}");
                    for other in &spent {
                        assert!(gap.check(*other, tree.root()).is_err());
                    }
                }
            }
        }
    }
}
