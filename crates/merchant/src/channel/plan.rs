//! What a settlement sends, and what came of it. Decisions only: the closer loads and sends.

use std::collections::BTreeMap;

use super::vendor::held;
use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use bindings::channel::PaymentChannel::{self, PaymentChannelEvents};
use bindings::channel::{CheckpointItem, CloseItem, LastReceipt, Proof, Signature as SolSignature};
use protocol::channel::{
    Admitted, Amount, ChannelId, ChannelRecord, Close, CloseError, CloseGas, Domain, Evidence, Index,
    OpenedReceipt, Paid, SignedCheckpoint, VendorChannel, Word, last_receipt, walk,
};
use storage::channel::{SettlementOutcome, SettlementStep, VendorChannelRecord};

/// The part of one channel.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) close: Close,
    transcript: B256,
    receipt: LastReceipt,
}

/// What is known of a channel when its part is planned.
pub(super) struct Known<'a> {
    pub(super) domain: &'a Domain,
    pub(super) chain: &'a ChannelRecord,
    pub(super) stored: Option<&'a VendorChannelRecord>,
    /// Where the contract's anchor of the word's chain stands, if it has moved.
    pub(super) anchor: Option<(Index, Word)>,
    pub(super) gas: &'a CloseGas,
}

impl Part {
    /// The cheapest proof of `index` units, which the vendor holds a word for. Where that is all settled, or nothing was
    /// ever paid, a close needs none.
    pub(super) fn plan(known: &Known<'_>, step: SettlementStep, index: Index) -> Result<Self, CloseError> {
        let terms = known.chain.admitted(known.domain);
        let paid = known.held().paid;
        let channel = ChannelId(known.chain.opening().channelId);
        let index = index.min(paid.index);
        let paid = Paid {
            index,
            word: walk(paid.word, channel, paid.index.above(index)),
            ..paid
        };
        let settled = known.chain.settled;
        // What somebody else has settled meanwhile the contract leaves out of a batch, and refuses alone.
        let (below, anchor) = match step.closes() {
            true => (settled, known.anchor),
            false => (
                settled.min(Index(index.0.saturating_sub(1))),
                known.anchor.filter(|(at, _)| *at <= index),
            ),
        };
        let close = match Close::plan(&terms, &paid, known.signed(), anchor, below, known.gas) {
            Err(CloseError::NothingPaid { .. }) if step.closes() => nothing_more(&terms, settled, known.gas)?,
            planned => planned?,
        };
        let (transcript, receipt) = known.last_receipt(&terms, Index(close.proof.index));
        Ok(Self {
            close,
            transcript,
            receipt,
        })
    }
}

impl Known<'_> {
    /// What the vendor holds.
    pub(super) fn held(&self) -> VendorChannel {
        held(self.domain, self.chain, self.stored)
    }

    fn signed(&self) -> Option<&SignedCheckpoint> {
        self.stored?
            .checkpoint
            .as_ref()
            .map(|checkpoint| &checkpoint.signed)
    }

    /// Tx_n and the last receipt, if an opener gave it.
    fn last_receipt(&self, terms: &[Admitted], index: Index) -> (B256, LastReceipt) {
        let none = terms.first().map(|opening| opening.permit());
        let Some((opening, last)) = none.zip(self.stored.and_then(|stored| stored.last)) else {
            return (B256::ZERO, no_receipt());
        };
        let receipt = last.payment.receipt();
        let opener = self
            .stored
            .and_then(|stored| stored.opening)
            .map(|opening| opening.opener);
        let opened = opener
            .filter(|opener| opener.index == receipt.index && receipt.index == index)
            .map(|opener| {
                let said = receipt.receipt(opening.channel(), opening.unit(), last.transcript);
                OpenedReceipt {
                    receipt,
                    transcript: last.transcript,
                    digest: self.domain.receipt_digest(&said),
                    sigma: opener.sigma,
                }
            });
        (last.transcript.0, last_receipt(opening, opened.as_ref()))
    }
}

/// Closes at what is settled.
fn nothing_more(terms: &[Admitted], settled: Index, gas: &CloseGas) -> Result<Close, CloseError> {
    let newest = terms
        .last()
        .ok_or(CloseError::ChainMissing { got: 0, known: 0 })?;
    Ok(Close {
        terms: newest.terms(),
        proof: Proof {
            index: settled.0,
            word: B256::ZERO,
            signedIndex: 0,
            signedWord: B256::ZERO,
            locksRoot: B256::ZERO,
            signature: no_signature(),
        },
        evidence: Evidence::Anchor,
        steps: 0,
        gas: gas.base,
    })
}

/// The call that does it. A single step reverts with the reason where it cannot be done, which the simulation shows; a
/// batch leaves it out, and goes through whatever has become of it.
pub(super) fn call_data(step: SettlementStep, mut parts: Vec<Part>, batch: bool) -> Bytes {
    if let [_] = parts.as_slice()
        && !batch
    {
        let Part {
            close: Close { terms, proof, .. },
            transcript,
            receipt,
            ..
        } = parts.remove(0);
        let data = match step.closes() {
            true => PaymentChannel::closeCall {
                terms,
                proof,
                transcript,
                receipt,
            }
            .abi_encode(),
            false => PaymentChannel::checkpointCall { terms, proof }.abi_encode(),
        };
        return data.into();
    }
    // Vendor and asset of neighbours are compared by the contract, which writes credit once for a run of the same.
    let parts = parts.into_iter();
    match step.closes() {
        true => {
            let items = parts.map(|part| CloseItem {
                terms: part.close.terms,
                proof: part.close.proof,
                transcript: part.transcript,
                receipt: part.receipt,
            });
            PaymentChannel::batchCloseCall {
                items: items.collect(),
            }
            .abi_encode()
            .into()
        }
        false => {
            let items = parts.map(|part| CheckpointItem {
                terms: part.close.terms,
                proof: part.close.proof,
            });
            PaymentChannel::batchCheckpointCall {
                items: items.collect(),
            }
            .abi_encode()
            .into()
        }
    }
}

/// What events say of channels. What was settled by one transaction was settled, whatever another one skipped.
pub(super) fn outcomes<'e>(
    events: impl IntoIterator<Item = &'e PaymentChannelEvents>,
) -> BTreeMap<ChannelId, SettlementOutcome> {
    let mut found = BTreeMap::new();
    for (channel, outcome) in events.into_iter().filter_map(outcome) {
        let known = found.entry(channel).or_insert(outcome);
        if let SettlementOutcome::Settled { .. } = outcome {
            *known = outcome;
        }
    }
    found
}

fn outcome(event: &PaymentChannelEvents) -> Option<(ChannelId, SettlementOutcome)> {
    let settled = |channel, index, paid: U256| {
        let outcome = SettlementOutcome::Settled {
            index: Index(index),
            paid: Amount(paid.saturating_to()),
        };
        Some((ChannelId(channel), outcome))
    };
    match event {
        PaymentChannelEvents::Checkpointed(e) => settled(e.channelId, e.index, e.paid),
        PaymentChannelEvents::Closed(e) => settled(e.channelId, e.index, e.paid),
        PaymentChannelEvents::CooperativelyClosed(e) => settled(e.channelId, e.index, e.paid),
        PaymentChannelEvents::ItemSkipped(e) => {
            let outcome = SettlementOutcome::Skipped {
                reason: e.reason,
                got: e.got,
                limit: e.limit,
            };
            Some((ChannelId(e.channelId), outcome))
        }
        _ => None,
    }
}

/// Why the contract will never do a step, if a revert says so: it is closed, too late, or settled already.
pub(super) fn is_over(data: &Bytes) -> bool {
    use PaymentChannel::{IndexNotAboveSettled, TooLate, WrongStatus};
    let over = [
        WrongStatus::SELECTOR,
        TooLate::SELECTOR,
        IndexNotAboveSettled::SELECTOR,
    ];
    data.get(..4)
        .is_some_and(|selector| over.iter().any(|known| known == selector))
}

fn no_receipt() -> LastReceipt {
    LastReceipt {
        itemHash: B256::ZERO,
        issuedAt: 0,
        sigma: no_signature(),
    }
}

fn no_signature() -> SolSignature {
    SolSignature {
        r: B256::ZERO,
        s: B256::ZERO,
        v: 0,
    }
}
