//! Equivocation: what two paths that met say against a wallet that is in both (`proveEquivocation`, D7). A SIGNATURE wallet
//! signed two transfers with one input, or with one number; a LOG wallet's TPM certified two heads that fork, which a copied
//! software TPM can. Whoever holds both paths has the proof; offline nobody does, which is why accept limits bound the loss.

use super::{
    Certificate, Domain, Evidence, Hop, IndexName, LogEntry, LogHead, LogProof, ProvenPath,
    SignedRegistration, Transfer, TransferDigest, WalletKey, WalletSignature,
};

/// A proof that a wallet's component is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Equivocation {
    /// Two transfers, each signed.
    Signature {
        /// Whose.
        key: WalletKey,
        /// The one and the other.
        transfers: [(Transfer, WalletSignature); 2],
    },
    /// Two branches of one log, each certified.
    Log {
        /// Whose.
        key: WalletKey,
        /// Which log.
        index: IndexName,
        /// The last head that both have.
        base: LogHead,
        /// The one and the other. Their first entries differ.
        branches: [Branch; 2],
    },
}

/// A log from where it forks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// From the fork to the certified head; at least one.
    pub entries: Vec<LogEntry>,
    /// The last of them, whose digest the certificate qualifies.
    pub transfer: TransferDigest,
    /// Over the head that the entries fold to.
    pub certificate: Certificate,
}

/// What two paths prove against a wallet, if anything.
pub fn equivocation(domain: &Domain, one: &ProvenPath<'_>, other: &ProvenPath<'_>) -> Option<Equivocation> {
    one.path().hops.iter().enumerate().find_map(|(at, hop)| {
        let wallet = &one.path().wallets[hop.payer];
        let others = other.path().hops.iter().enumerate();
        others
            .filter(|(_, theirs)| other.path().wallets[theirs.payer].key == wallet.key)
            .find_map(|(place, theirs)| {
                let digests = [one.digests()[at], other.digests()[place]];
                between(domain, wallet, [hop, theirs], digests)
            })
    })
}

fn between(
    domain: &Domain,
    wallet: &SignedRegistration,
    [one, other]: [&Hop; 2],
    digests: [TransferDigest; 2],
) -> Option<Equivocation> {
    if digests[0] == digests[1] {
        return None;
    }
    match (&one.evidence, &other.evidence) {
        (Evidence::Signature(first), Evidence::Signature(second)) => {
            let (a, b) = (one.transfer, other.transfer);
            (a.input == b.input || a.sequence == b.sequence).then_some(Equivocation::Signature {
                key: wallet.key,
                transfers: [(a, *first), (b, *second)],
            })
        }
        (Evidence::Log(first), Evidence::Log(second)) => {
            let first = Log::new(domain, wallet, first, one.transfer.entry(digests[0]));
            let second = Log::new(domain, wallet, second, other.transfer.entry(digests[1]));
            fork(wallet, &first, &second)
        }
        // One wallet is of one kind.
        _ => None,
    }
}

/// A proven log: all heads, and the entries between them.
struct Log<'a> {
    heads: Vec<LogHead>,
    entries: Vec<LogEntry>,
    proof: &'a LogProof,
}

impl<'a> Log<'a> {
    fn new(domain: &Domain, wallet: &SignedRegistration, proof: &'a LogProof, last: LogEntry) -> Self {
        let mut entries = proof.history.clone();
        entries.push(last);
        let mut heads = vec![proof.start_head(domain, wallet)];
        for (at, entry) in entries.iter().enumerate() {
            heads.push(heads[at].extended(&entry.to_bytes()));
        }
        Self {
            heads,
            entries,
            proof,
        }
    }

    fn branch(&self, from: usize) -> Option<Branch> {
        let entries = self.entries[from..].to_vec();
        Some(Branch {
            transfer: entries.last()?.transfer,
            entries,
            certificate: self.proof.certificate,
        })
    }
}

/// After the last head that both have, each must go on: else one is the other's beginning.
fn fork(wallet: &SignedRegistration, one: &Log<'_>, other: &Log<'_>) -> Option<Equivocation> {
    let (at, place) = one.heads.iter().enumerate().rev().find_map(|(at, head)| {
        let place = other.heads.iter().position(|theirs| theirs == head)?;
        Some((at, place))
    })?;
    Some(Equivocation::Log {
        key: wallet.key,
        index: wallet.index?,
        base: one.heads[at],
        branches: [one.branch(at)?, other.branch(place)?],
    })
}
