//! Close: what the vendor sends (the paper's Tx_n). A proof is a word and where its walk ends: at the chain's anchor, or at
//! a checkpoint that the client signed. The cheaper one is chosen; both are worth the same.

use alloy_primitives::B256;
use bindings::channel::{LastReceipt, Proof, Signature as SolSignature, Terms};

use super::{
    Admitted, CloseError, Domain, Index, Key, OpenedReceipt, Paid, Permit, Signature, SignedCheckpoint, Word,
    walk,
};

/// What steps of a close cost, in gas: measured, and passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseGas {
    /// A close, or checkpoint, without any walk.
    pub base: u64,
    /// One step of a walk.
    pub per_step: u64,
    /// Checking a signed checkpoint.
    pub signature: u64,
}

/// Where a walk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// At the anchor of the word's chain.
    Anchor,
    /// At a checkpoint that the client signed.
    Signed,
}

/// The arguments of the contract's `close` or `checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Those of the chain that the word is on.
    pub terms: Terms,
    /// The word.
    pub proof: Proof,
    /// Where the walk ends.
    pub evidence: Evidence,
    /// How long it is.
    pub steps: u32,
    /// What it will cost, gas.
    pub gas: u64,
}

impl Close {
    /// The cheapest proof of what the vendor was paid, among those that the contract takes.
    ///
    /// `terms` are the channel's permits on chain, the opening one first. `anchor` is where the contract's anchor of the
    /// word's chain stands, if a checkpoint has moved it; `settled` is what the contract has credited. The walk of either
    /// proof is gone here first: a word that a checkpoint vouches for need not lead to the anchor.
    pub fn plan(
        terms: &[Admitted],
        paid: &Paid,
        signed: Option<&SignedCheckpoint>,
        anchor: Option<(Index, Word)>,
        settled: Index,
        gas: &CloseGas,
    ) -> Result<Self, CloseError> {
        let admitted = terms.get(paid.chain as usize).ok_or(CloseError::ChainMissing {
            got: paid.chain,
            known: terms.len(),
        })?;
        if paid.index <= settled {
            return Err(CloseError::NothingPaid {
                paid: paid.index,
                settled,
            });
        }
        let channel = admitted.permit().channel();
        let (at, anchor) = anchor.unwrap_or((Index::ZERO, admitted.permit().anchor()));
        let from_anchor = paid.index.above(at);
        let cost = |steps: u32| gas.base + u64::from(steps) * gas.per_step;
        let make = |proof: Proof, evidence, steps, gas| Self {
            terms: admitted.terms(),
            proof,
            evidence,
            steps,
            gas,
        };
        let by_signature = signed
            .filter(|signed| signed.index() > Index::ZERO && signed.index() <= paid.index)
            .map(|signed| (signed, paid.index.above(signed.index())))
            .filter(|(signed, steps)| walk(paid.word, channel, *steps) == signed.word())
            .map(|(signed, steps)| {
                let proof = Proof {
                    index: paid.index.0,
                    word: paid.word.0,
                    signedIndex: signed.fields.index,
                    signedWord: signed.fields.word,
                    locksRoot: signed.fields.locksRoot,
                    signature: signed.signature.to_sol(),
                };
                make(proof, Evidence::Signed, steps, cost(steps) + gas.signature)
            });
        if let Some(close) = &by_signature
            && close.gas < cost(from_anchor)
        {
            return Ok(close.clone());
        }
        let walked = walk(paid.word, channel, from_anchor);
        if walked == anchor {
            let proof = Proof {
                index: paid.index.0,
                word: paid.word.0,
                signedIndex: 0,
                signedWord: B256::ZERO,
                locksRoot: B256::ZERO,
                signature: no_signature(),
            };
            return Ok(make(proof, Evidence::Anchor, from_anchor, cost(from_anchor)));
        }
        by_signature.ok_or(CloseError::WordNotInChain { walked, anchor })
    }
}

/// The last receipt as a close shows it, or none. The contract takes one of the index that is closed at, and no other: while
/// a payment is pending there is none to show.
pub fn last_receipt(permit: &Permit, opened: Option<&OpenedReceipt>) -> LastReceipt {
    let shown = opened.and_then(|opened| {
        let (signature, _) = opened.sigma.signed_by(opened.digest, permit.receipt_key())?;
        Some(LastReceipt {
            itemHash: opened.receipt.item.0,
            issuedAt: opened.receipt.issued_at.0,
            sigma: signature.to_sol(),
        })
    });
    shown.unwrap_or(LastReceipt {
        itemHash: B256::ZERO,
        issuedAt: 0,
        sigma: no_signature(),
    })
}

/// One party's half of a cooperative close. What the client signs for must not be above what it acknowledged, nor what the
/// vendor signs for below what it was paid.
pub fn sign_cooperative_close(domain: &Domain, key: &Key, permit: &Permit, index: Index) -> Signature {
    key.sign(domain.cooperative_close_digest(permit.channel(), index))
}

fn no_signature() -> SolSignature {
    SolSignature {
        r: B256::ZERO,
        s: B256::ZERO,
        v: 0,
    }
}
