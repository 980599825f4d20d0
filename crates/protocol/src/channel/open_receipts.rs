//! Open receipts: the vendor's last step. One opener opens the lock that came with it, which gives the opener of the one
//! before, and so on down to the bank's `sigma_0`, which is the check from end to end. Opening is a short chain of hashes;
//! the signatures it yields are checked in parallel.
//!
//! What does not open is reported. No value depends on it: the word of an index is worth the same without its receipt.

use std::thread;

use alloy_primitives::{Address, B256};

use super::{
    Admitted, ChannelId, Domain, Index, Keccak, LockedReceipt, Opener, PublicKey, ReceiptsError, Sigma, Tag,
    Transcript, transcript, unlock,
};

/// A receipt with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedReceipt {
    /// What it says, and the lock it came with.
    pub receipt: LockedReceipt,
    /// Everything paid for up to here.
    pub transcript: Transcript,
    /// What was signed.
    pub digest: B256,
    /// The receipt key's signature.
    pub sigma: Sigma,
}

/// How far an opener got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The receipts that opened and verify, in rising order, up to the opener's.
    pub receipts: Vec<OpenedReceipt>,
    /// Receipts up to the opener's that stay closed, or whose signature is wrong, in rising order.
    pub unopenable: Vec<Index>,
    /// Whether the chain ends in the bank's signature: then nothing is missing, and nothing was exchanged.
    pub ends_in_sigma0: bool,
    /// Why it stopped, unless it reached `sigma_0`.
    pub stopped: Option<Stopped>,
}

/// Why an opener got no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The opener is of another channel.
    WrongChannel {
        /// The opener's channel.
        got: ChannelId,
        /// The receipts'.
        channel: ChannelId,
    },
    /// There is no receipt for the opener, or receipts are out of order.
    NoReceipt {
        /// The opener's index.
        opener: Index,
        /// The nearest receipt at or below.
        nearest: Index,
    },
    /// The signature at hand is not the one that the tag pins: a malleated opener, or a lock that hides something else.
    WrongTag {
        /// Whose tag.
        index: Index,
        /// What the signature makes.
        got: Tag,
        /// What came with the payment (of `sigma_0`, at 0).
        tag: Tag,
    },
    /// What the lock hides is no signature at all.
    NotASignature {
        /// Of which receipt a signature was expected; 0 is the bank's.
        index: Index,
    },
    /// The tag is right, and the signature is not the receipt key's: the client sent a tag of something it never signed.
    NotSigned {
        /// Whose signature.
        index: Index,
    },
}

/// Receipts that anyone can check offline, down to the bank's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptsFile {
    /// The permits on chain, the opening one first.
    pub terms: Vec<Admitted>,
    /// The receipts, in rising order.
    pub receipts: Vec<LockedReceipt>,
    /// The signature of one of them, at best the last.
    pub opener: Opener,
}

/// Opens the receipts up to the opener's, with `threads` threads (at least one). `receipts` are in rising order, the first
/// of the channel first; those above the opener's stay closed, and are not reported.
///
/// `opening` is the permit that opened the channel: a top-up begins no new chain of receipts.
pub fn open_receipts(
    domain: &Domain,
    opening: &Admitted,
    receipts: &[LockedReceipt],
    opener: &Opener,
    threads: usize,
) -> Opened {
    let permit = opening.permit();
    let channel = permit.channel();
    let reachable = receipts.partition_point(|receipt| receipt.index <= opener.index);
    let receipts = &receipts[..reachable];
    let closed = |stopped| Opened {
        receipts: Vec::new(),
        unopenable: receipts.iter().map(|receipt| receipt.index).collect(),
        ends_in_sigma0: false,
        stopped: Some(stopped),
    };
    if opener.channel != channel {
        return closed(Stopped::WrongChannel {
            got: opener.channel,
            channel,
        });
    }
    let nearest = receipts.last().map_or(Index::ZERO, |receipt| receipt.index);
    let rising = receipts.windows(2).all(|pair| pair[0].index < pair[1].index);
    if nearest != opener.index || !rising {
        return closed(Stopped::NoReceipt {
            opener: opener.index,
            nearest,
        });
    }

    // Forwards what was signed, backwards with what.
    let mut opened = digests(domain, opening, receipts, opener.sigma);
    let (lowest, mut stopped) = unlock_down(opening, &mut opened);
    let signed = check_signatures(permit.receipt_key(), &opened[lowest..], threads);
    if let Some(wrong) = signed {
        stopped = Some(Stopped::NotSigned {
            index: opened[lowest + wrong].receipt.index,
        });
    }
    let first = signed.map_or(lowest, |wrong| lowest + wrong + 1);
    Opened {
        receipts: opened.split_off(first),
        unopenable: receipts[..first].iter().map(|receipt| receipt.index).collect(),
        ends_in_sigma0: stopped.is_none(),
        stopped,
    }
}

/// All receipts with what was signed; `filler` stands for the signatures that are not known yet.
fn digests(
    domain: &Domain,
    opening: &Admitted,
    receipts: &[LockedReceipt],
    filler: Sigma,
) -> Vec<OpenedReceipt> {
    let permit = opening.permit();
    let mut so_far = permit.transcript();
    receipts
        .iter()
        .map(|receipt| {
            so_far = transcript(so_far, receipt.item);
            OpenedReceipt {
                receipt: *receipt,
                transcript: so_far,
                digest: domain.receipt_digest(&receipt.receipt(permit.channel(), permit.unit(), so_far)),
                sigma: filler,
            }
        })
        .collect()
}

/// Opens lock after lock from the last receipt, whose signature is known, and checks each against its tag. Answers the
/// lowest receipt that opened, and why it went no further; all of them and nothing if it ends in `sigma_0`.
fn unlock_down(opening: &Admitted, receipts: &mut [OpenedReceipt]) -> (usize, Option<Stopped>) {
    let channel = opening.permit().channel();
    let Some(last) = receipts.last() else {
        return (0, None);
    };
    let mut sigma = last.sigma;
    for i in (0..receipts.len()).rev() {
        let receipt = receipts[i].receipt;
        let got = Tag::of(channel, receipt.index, &sigma);
        if got != receipt.tag {
            let stopped = Stopped::WrongTag {
                index: receipt.index,
                got,
                tag: receipt.tag,
            };
            return (i + 1, Some(stopped));
        }
        receipts[i].sigma = sigma;
        let index = match i {
            0 => Index::ZERO,
            _ => receipts[i - 1].receipt.index,
        };
        match Sigma::from_bytes(&unlock::<Keccak>(&receipt.lock, &sigma)) {
            Ok(hidden) => sigma = hidden,
            Err(_) => return (i, Some(Stopped::NotASignature { index })),
        }
    }
    let (got, tag) = (Tag::of(channel, Index::ZERO, &sigma), opening.tag0());
    if got != tag {
        let index = Index::ZERO;
        return (0, Some(Stopped::WrongTag { index, got, tag }));
    }
    (0, None)
}

/// The highest of the receipts whose signature is not of the key with this address, if there is one.
fn check_signatures(signer: Address, receipts: &[OpenedReceipt], threads: usize) -> Option<usize> {
    let last = receipts.last()?;
    let Some((_, key)) = last.sigma.signed_by(last.digest, signer) else {
        return Some(receipts.len() - 1);
    };
    let rest = &receipts[..receipts.len() - 1];
    let size = rest.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let key = &key;
        let mut chunks: Vec<_> = rest
            .chunks(size)
            .enumerate()
            .map(|(number, chunk)| (number * size, chunk))
            .collect();
        // This thread is one of them.
        let own = chunks.pop();
        let others: Vec<_> = chunks
            .into_iter()
            .map(|(start, chunk)| scope.spawn(move || highest_wrong(key, start, chunk)))
            .collect();
        let own = own.and_then(|(start, chunk)| highest_wrong(key, start, chunk));
        others
            .into_iter()
            .map(|thread| thread.join().expect("checking a signature does not panic"))
            .chain([own])
            .flatten()
            .max()
    })
}

fn highest_wrong(key: &PublicKey, start: usize, receipts: &[OpenedReceipt]) -> Option<usize> {
    receipts
        .iter()
        .rposition(|opened| !opened.sigma.verify(opened.digest, key))
        .map(|at| start + at)
}

impl ReceiptsFile {
    /// Checks the file against a bank that the reader trusts, and opens it. `bank_keys` are the keys that signed for the bank
    /// at any time (C-19).
    pub fn verify(
        &self,
        domain: &Domain,
        bank_keys: &[Address],
        threads: usize,
    ) -> Result<Opened, ReceiptsError> {
        let length = self.check_terms(bank_keys)?;
        let opening = &self.terms[0];
        let channel = opening.permit().channel();
        if self.opener.channel != channel {
            return Err(ReceiptsError::WrongChannel {
                got: self.opener.channel,
                channel,
            });
        }
        if self.opener.index > length {
            return Err(ReceiptsError::PastLength {
                got: self.opener.index,
                length,
            });
        }
        Ok(open_receipts(
            domain,
            opening,
            &self.receipts,
            &self.opener,
            threads,
        ))
    }

    fn check_terms(&self, bank_keys: &[Address]) -> Result<Index, ReceiptsError> {
        let mut length = Index::ZERO;
        for (number, admitted) in self.terms.iter().enumerate() {
            let signer = admitted.signer()?;
            if !bank_keys.contains(&signer) {
                return Err(ReceiptsError::BankNotTrusted {
                    got: signer,
                    trusted: bank_keys.len(),
                });
            }
            let (permit, opening) = (admitted.permit(), self.terms[0].permit());
            if permit.channel() != opening.channel() {
                return Err(ReceiptsError::WrongChannel {
                    got: permit.channel(),
                    channel: opening.channel(),
                });
            }
            let kept = permit.unit() == opening.unit() && permit.receipt_key() == opening.receipt_key();
            if permit.length() <= length || !kept {
                return Err(ReceiptsError::NotTopUp {
                    number,
                    got: permit.length(),
                    before: length,
                });
            }
            length = permit.length();
        }
        if self.terms.is_empty() {
            return Err(ReceiptsError::NoTerms { got: 0, needed: 1 });
        }
        Ok(length)
    }
}
