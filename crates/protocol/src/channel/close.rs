//! Close: what the vendor sends (the paper's Tx_n). A proof is a word and where its walk ends: at the chain's anchor, or at
//! a checkpoint that the client signed. The cheaper one is chosen; both are worth the same.

use alloy_primitives::B256;
use bindings::channel::{LastReceipt, Proof, Signature as SolSignature, Terms};

use super::{
    Admitted, CloseError, Domain, Index, Key, OpenedReceipt, Paid, Permit, Signature, SignedCheckpoint, walk,
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
    /// The cheapest proof of what the vendor was paid.
    ///
    /// `terms` are the channel's permits on chain, the opening one first; `anchor` is the index at which the contract's
    /// anchor of the word's chain stands (`anchorOf`; 0 is always safe to assume where no checkpoint was sent), `settled`
    /// what it has credited. A signed checkpoint of another chain, or one that the word does not lead to, is not used.
    pub fn plan(
        terms: &[Admitted],
        paid: &Paid,
        signed: Option<&SignedCheckpoint>,
        anchor: Index,
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
        let from_anchor = paid.index.above(anchor);
        let from_signed = signed
            .filter(|signed| signed.index() > Index::ZERO && signed.index() <= paid.index)
            .map(|signed| (signed, paid.index.above(signed.index())));
        let cost = |steps: u32| gas.base + u64::from(steps) * gas.per_step;
        if let Some((signed, steps)) = from_signed
            && cost(steps) + gas.signature < cost(from_anchor)
            && walk(paid.word, channel, steps) == signed.word()
        {
            return Ok(Self {
                terms: admitted.terms(),
                proof: Proof {
                    index: paid.index.0,
                    word: paid.word.0,
                    signedIndex: signed.fields.index,
                    signedWord: signed.fields.word,
                    locksRoot: signed.fields.locksRoot,
                    signature: signed.signature.to_sol(),
                },
                evidence: Evidence::Signed,
                steps,
                gas: cost(steps) + gas.signature,
            });
        }
        Ok(Self {
            terms: admitted.terms(),
            proof: Proof {
                index: paid.index.0,
                word: paid.word.0,
                signedIndex: 0,
                signedWord: B256::ZERO,
                locksRoot: B256::ZERO,
                signature: no_signature(),
            },
            evidence: Evidence::Anchor,
            steps: from_anchor,
            gas: cost(from_anchor),
        })
    }
}

/// The last receipt as a close shows it, or none.
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
