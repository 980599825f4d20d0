//! Checkpoint: what the client signs now and then. It bounds the walk of a close to the payments since, and in accountable
//! mode it commits to the locks that were sent, so that a bad one becomes a proof on chain (C-4).
//!
//! The tree is OpenZeppelin's `StandardMerkleTree`: leaves are hashed twice and sorted, a parent hashes its children in
//! ascending order. Judgement here is the contract's, to the rule.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolValue;
use bindings::channel::{Checkpoint, LockLeaf, Receipt, SignedLeaf, Terms};

use super::{
    Admitted, Chain, ChannelId, CheckpointError, ClientChannel, Domain, Index, Keccak, Key, LockHash,
    LockedReceipt, NotBadLock, NotDoubleReceipt, PayError, Permit, Sigma, Signature, Tag, Word, recover,
};

/// How many payments there are to a checkpoint, unless the parties agree on another number: the walk that is saved costs
/// as much gas as checking the signature.
pub const CHECKPOINT_EVERY: u32 = 64;

/// A checkpoint with the receipt key's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The fields as signed. Outside accountable mode the root is zero.
    pub fields: Checkpoint,
    /// The signature.
    pub signature: Signature,
}

/// The tree over the locks since the checkpoint before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockTree {
    /// A complete binary tree in an array: the root first, the leaves last, in descending order.
    nodes: Vec<B256>,
}

/// A lock with the path to the root that the client signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProof {
    /// What the client sent.
    pub leaf: LockLeaf,
    /// What it signed for it.
    pub checkpoint: SignedCheckpoint,
    /// The siblings, from the leaf up.
    pub path: Vec<B256>,
}

/// A proof that a lock does not open: the arguments of the contract's `proveBadLock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLock {
    /// Those of the opening.
    pub terms: Terms,
    /// The leaf whose lock does not open.
    pub bad: SignedLeaf,
    /// The leaf before; any one where there is none before.
    pub predecessor: SignedLeaf,
    /// `r` of the opener.
    pub r: B256,
    /// `s` of the opener.
    pub s: B256,
}

/// A proof that a client signed two receipts of one index: the arguments of the contract's `proveDoubleReceipt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoubleReceipt {
    /// Those of the opening.
    pub terms: Terms,
    /// The one receipt, with its signature.
    pub a: (Receipt, Signature),
    /// The other.
    pub b: (Receipt, Signature),
}

/// Whether the client should sign a checkpoint: `every` payments, counted in units, have passed since the last one.
pub fn checkpoint_due(last: Index, acknowledged: Index, every: u32) -> bool {
    acknowledged.above(last) >= every.max(1)
}

/// What accountable mode commits to for a payment. `previous` is the index of the receipt before, 0 if there is none.
pub fn lock_leaf(receipt: &LockedReceipt, previous: Index) -> LockLeaf {
    LockLeaf {
        index: receipt.index.0,
        previous: previous.0,
        lockR: receipt.lock.r(),
        lockS: receipt.lock.s(),
        tag: receipt.tag.0,
    }
}

/// The leaf's hash: twice, so that no inner node is one.
pub fn leaf_hash(leaf: &LockLeaf) -> B256 {
    keccak256(keccak256(leaf.abi_encode()))
}

impl LockTree {
    /// The tree over these leaves.
    pub fn new(leaves: &[LockLeaf]) -> Result<Self, CheckpointError> {
        if leaves.is_empty() {
            return Err(CheckpointError::NoLeaves { got: 0, low: 1 });
        }
        let mut nodes = vec![B256::ZERO; leaves.len() - 1];
        nodes.extend(leaves.iter().map(leaf_hash));
        nodes[leaves.len() - 1..].sort_unstable_by(|a, b| b.cmp(a));
        for i in (0..leaves.len() - 1).rev() {
            nodes[i] = parent(nodes[2 * i + 1], nodes[2 * i + 2]);
        }
        Ok(Self { nodes })
    }

    /// The tree over the locks of these receipts, which follow the receipt of index `last`.
    pub fn over(receipts: &[LockedReceipt], last: Index) -> Result<Self, CheckpointError> {
        Self::new(&leaves(receipts, last))
    }

    /// What the client signs.
    pub fn root(&self) -> B256 {
        self.nodes[0]
    }

    /// The siblings of a leaf from below, if it is one of this tree's.
    pub fn path(&self, leaf: &LockLeaf) -> Option<Vec<B256>> {
        let hash = leaf_hash(leaf);
        let first = self.nodes.len() / 2;
        let mut at = first + self.nodes[first..].iter().position(|node| *node == hash)?;
        let mut path = Vec::new();
        while at > 0 {
            let sibling = if at.is_multiple_of(2) { at - 1 } else { at + 1 };
            path.push(self.nodes[sibling]);
            at = (at - 1) / 2;
        }
        Some(path)
    }
}

/// The leaves of receipts that follow the receipt of index `last`.
fn leaves(receipts: &[LockedReceipt], last: Index) -> Vec<LockLeaf> {
    let before = [last]
        .into_iter()
        .chain(receipts.iter().map(|receipt| receipt.index));
    receipts
        .iter()
        .zip(before)
        .map(|(receipt, previous)| lock_leaf(receipt, previous))
        .collect()
}

fn parent(a: B256, b: B256) -> B256 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let mut words = [0; 64];
    words[..32].copy_from_slice(low.as_slice());
    words[32..].copy_from_slice(high.as_slice());
    keccak256(words)
}

impl ClientChannel {
    /// Signs a checkpoint at the acknowledged index. `locks_root` is the [`LockTree`]'s over the receipts since the last
    /// checkpoint in accountable mode, else zero.
    pub fn checkpoint(
        &self,
        domain: &Domain,
        key: &Key,
        chain: &mut Chain,
        locks_root: B256,
    ) -> Result<SignedCheckpoint, PayError> {
        self.sign_checkpoint(domain, key, chain, self.acknowledged().index, locks_root)
    }

    /// Signs a checkpoint at the highest index revealed, without locks: after a top-up it moves the vendor to the new
    /// chain, however far the channel has come.
    pub fn checkpoint_revealed(
        &self,
        domain: &Domain,
        key: &Key,
        chain: &mut Chain,
    ) -> Result<SignedCheckpoint, PayError> {
        self.sign_checkpoint(domain, key, chain, self.revealed(), B256::ZERO)
    }

    /// The signature alone is worth `index` units to the vendor: it never stands above what was revealed.
    fn sign_checkpoint(
        &self,
        domain: &Domain,
        key: &Key,
        chain: &mut Chain,
        index: Index,
        locks_root: B256,
    ) -> Result<SignedCheckpoint, PayError> {
        self.check(key, chain)?;
        if index == Index::ZERO {
            return Err(PayError::NothingPaid {
                got: index,
                low: Index(1),
            });
        }
        let fields = Checkpoint {
            channelId: self.id().0,
            index: index.0,
            word: chain.word(index)?.0,
            locksRoot: locks_root,
        };
        let signature = key.sign(domain.checkpoint_digest(&fields));
        Ok(SignedCheckpoint { fields, signature })
    }
}

impl SignedCheckpoint {
    /// Units that it is worth.
    pub fn index(&self) -> Index {
        Index(self.fields.index)
    }

    /// The word at that index.
    pub fn word(&self) -> Word {
        Word(self.fields.word)
    }

    /// Whether the key at `receipt_key` signed it, for this channel.
    pub fn check_signature(
        &self,
        domain: &Domain,
        channel: ChannelId,
        receipt_key: Address,
    ) -> Result<(), CheckpointError> {
        if self.fields.channelId != channel.0 {
            return Err(CheckpointError::WrongChannel {
                got: ChannelId(self.fields.channelId),
                channel,
            });
        }
        let recovered = recover(domain.checkpoint_digest(&self.fields), &self.signature)?.address();
        if recovered != receipt_key {
            return Err(CheckpointError::WrongSigner {
                recovered,
                receipt_key,
            });
        }
        Ok(())
    }

    /// Whether the root is that of the locks which the vendor got: those of `receipts` up to the checkpoint's index, after
    /// the checkpoint of index `last`. Outside accountable mode (`None`) it is zero.
    pub fn check_locks(&self, locks: Option<(Index, &[LockedReceipt])>) -> Result<(), CheckpointError> {
        let known = match locks {
            None => B256::ZERO,
            Some((last, receipts)) => {
                let upto = receipts.partition_point(|receipt| receipt.index <= self.index());
                LockTree::over(&receipts[..upto], last)?.root()
            }
        };
        if self.fields.locksRoot != known {
            return Err(CheckpointError::WrongRoot {
                got: self.fields.locksRoot,
                known,
            });
        }
        Ok(())
    }
}

impl LeafProof {
    /// The leaf of the receipt of `index` among those of a checkpoint, which follow the receipt of index `last`.
    pub fn of(
        index: Index,
        receipts: &[LockedReceipt],
        last: Index,
        checkpoint: &SignedCheckpoint,
    ) -> Option<Self> {
        let leaves = leaves(receipts, last);
        let leaf = leaves.iter().find(|leaf| leaf.index == index.0)?;
        let path = LockTree::new(&leaves).ok()?.path(leaf)?;
        Some(Self {
            leaf: leaf.clone(),
            checkpoint: checkpoint.clone(),
            path,
        })
    }

    /// Whether the client committed to the leaf: the contract's rule.
    pub fn check(&self, domain: &Domain, permit: &Permit) -> Result<(), CheckpointError> {
        self.checkpoint
            .check_signature(domain, permit.channel(), permit.receipt_key())?;
        let got = self
            .path
            .iter()
            .fold(leaf_hash(&self.leaf), |node, sibling| parent(node, *sibling));
        let root = self.checkpoint.fields.locksRoot;
        if got != root {
            return Err(CheckpointError::LeafNotUnderRoot { got, root });
        }
        Ok(())
    }

    /// As a contract argument.
    pub fn to_sol(&self) -> SignedLeaf {
        SignedLeaf {
            leaf: self.leaf.clone(),
            checkpoint: self.checkpoint.fields.clone(),
            signature: self.checkpoint.signature.to_sol(),
            path: self.path.clone(),
        }
    }
}

/// The proof that a lock does not open, if the contract would take it. `opener` is any 64 bytes: a client may have sent
/// the tag of something that is no signature.
///
/// `predecessor` is the leaf of `bad.leaf.previous`; not needed where that is 0.
pub fn bad_lock(
    domain: &Domain,
    opening: &Admitted,
    bad: &LeafProof,
    predecessor: Option<&LeafProof>,
    opener: [u8; 64],
) -> Result<BadLock, NotBadLock> {
    let permit = opening.permit();
    let channel = permit.channel();
    bad.check(domain, permit)?;
    let (index, before) = (Index(bad.leaf.index), Index(bad.leaf.previous));
    let (got, tag) = (Tag::of_bytes(channel, index, &opener), Tag(bad.leaf.tag));
    if got != tag {
        return Err(NotBadLock::OpenerNotTagged { got, tag });
    }
    let expected = if before == Index::ZERO {
        opening.tag0()
    } else {
        let got = predecessor.map_or(Index::ZERO, |leaf| Index(leaf.leaf.index));
        let Some(predecessor) = predecessor.filter(|_| got == before) else {
            return Err(NotBadLock::WrongPredecessor { got, needed: before });
        };
        predecessor.check(domain, permit)?;
        Tag(predecessor.leaf.tag)
    };
    let mut hidden = Keccak::mask(&opener);
    for (byte, lock) in hidden
        .iter_mut()
        .zip(bad.leaf.lockR.iter().chain(&bad.leaf.lockS))
    {
        *byte ^= lock;
    }
    if Tag::of_bytes(channel, before, &hidden) == expected {
        return Err(NotBadLock::LockOpens { tag: expected });
    }
    Ok(BadLock {
        terms: opening.terms(),
        bad: bad.to_sol(),
        predecessor: predecessor.map_or_else(SignedLeaf::default, LeafProof::to_sol),
        r: B256::from_slice(&opener[..32]),
        s: B256::from_slice(&opener[32..]),
    })
}

/// The proof that a client signed two receipts of one index, if the contract would take it.
pub fn double_receipt(
    domain: &Domain,
    opening: &Admitted,
    a: (&Receipt, &Sigma),
    b: (&Receipt, &Sigma),
) -> Result<DoubleReceipt, NotDoubleReceipt> {
    let permit = opening.permit();
    let channel = permit.channel();
    for (receipt, _) in [a, b] {
        if receipt.channelId != channel.0 {
            return Err(NotDoubleReceipt::WrongChannel {
                got: ChannelId(receipt.channelId),
                channel,
            });
        }
    }
    let [digest_a, digest_b] = [a.0, b.0].map(|receipt| domain.receipt_digest(receipt));
    if a.0.index != b.0.index || digest_a == digest_b {
        return Err(NotDoubleReceipt::NoContradiction {
            a: digest_a,
            index_a: Index(a.0.index),
            b: digest_b,
            index_b: Index(b.0.index),
        });
    }
    let sign = |digest: B256, sigma: &Sigma| {
        sigma
            .signed_by(digest, permit.receipt_key())
            .map(|(signature, _)| signature)
            .ok_or(NotDoubleReceipt::NotSigned {
                digest,
                receipt_key: permit.receipt_key(),
            })
    };
    Ok(DoubleReceipt {
        terms: opening.terms(),
        a: (a.0.clone(), sign(digest_a, a.1)?),
        b: (b.0.clone(), sign(digest_b, b.1)?),
    })
}
