//! A path as the contract takes it. What the contract works out by itself is left out, and what it knows already: a log
//! that was settled up to a transfer, or beyond, is not shown again (`IOfflineVault.Path`, `.Stretch`).

use std::collections::HashMap;

use alloy_primitives::U256;
use bindings::offline as sol;

use super::{
    Amount, Branch, Certificate, Domain, Evidence, Hop, IndexName, LogEntry, LogHead, Output, Path,
    SignedRegistration, TransferDigest, WalletId,
};

// A hop's tag, as the contract has it.
const RECORDED: u8 = 0;
const SIGNATURE: u8 = 1;
const LOG: u8 = 2;
const CHANGE: u8 = 4;
const EXIT: u8 = 8;

/// Where the contract has followed the logs of LOG wallets to, by wallet. One that is missing was not followed beyond what
/// it was registered with.
pub type SettledHeads = HashMap<WalletId, LogHead>;

impl Path {
    /// Where in its coin what the path gives its payee begins: a payee gets the upper part of an input, the payer keeps the
    /// lower. The path need not have been proven; sums that are wrong give some place.
    pub fn place(&self, domain: &Domain) -> Amount {
        let mut place = 0_u128;
        for (at, hop) in self.hops.iter().enumerate() {
            let change = domain.transfer_digest(&hop.transfer).fragment(Output::Change);
            let next = self.hops.get(at + 1);
            if next.is_none_or(|next| next.transfer.input != change.into()) {
                place = place.saturating_add(hop.transfer.change.0);
            }
        }
        Amount(place)
    }

    /// For `redeem`, `record` and `compensate`. `near` is where the free part of the coin begins that holds the exit; 0
    /// always works, and costs a walk over the parts below. The path need not have been proven: the contract does.
    pub fn to_sol(&self, domain: &Domain, near: Amount, settled: &SettledHeads) -> sol::Path {
        let coin = &self.deposit.coin;
        let mut hops = Vec::new();
        if let Some(wallet) = self.wallets.first() {
            push_key(&mut hops, wallet);
        }
        for (at, hop) in self.hops.iter().enumerate() {
            self.push_hop(&mut hops, domain, at, hop, settled);
        }
        sol::Path {
            asset: coin.asset,
            amount: coin.amount.0,
            nonce: U256::from(coin.deposit_nonce.0),
            near: near.0,
            hops: hops.into(),
        }
    }

    fn push_hop(&self, out: &mut Vec<u8>, domain: &Domain, at: usize, hop: &Hop, settled: &SettledHeads) {
        let Some(payer) = self.wallets.get(hop.payer) else {
            return; // refused by `prove`, and by the contract
        };
        let transfer = &hop.transfer;
        let digest = domain.transfer_digest(transfer);
        // Who pays next: the payee with its part, or the payer with its change. The last names its payee.
        let next = self.hops.get(at + 1);
        let payee = next
            .filter(|next| next.transfer.input == digest.fragment(Output::Payee).into())
            .and_then(|next| self.wallets.get(next.payer));
        let exit = transfer.is_exit(payer.wallet());
        let kind = match (exit, payee) {
            (true, _) => EXIT,
            (false, Some(_)) => 0,
            (false, None) => CHANGE,
        };
        let mut proof = Vec::new();
        let tag = push_evidence(&mut proof, domain, payer, hop, settled);
        out.push(kind | tag);
        out.extend(transfer.sequence.0.to_be_bytes());
        out.extend(transfer.previous.0);
        out.extend(transfer.issued_at.0.to_be_bytes());
        if !exit {
            out.extend(transfer.amount.0.to_be_bytes());
            out.extend(transfer.invoice.0);
            match payee {
                Some(payee) => push_key(out, payee),
                None => out.extend(transfer.payee.0),
            }
        }
        out.extend(proof);
    }
}

impl Hop {
    /// What the contract has not seen yet of the log that proves this transfer of `wallet`, for `settleLog`: where it
    /// starts, and the stretch. `None`: all is settled, or a signature proves it.
    pub fn stretch(
        &self,
        domain: &Domain,
        wallet: &SignedRegistration,
        settled: &SettledHeads,
    ) -> Option<(LogHead, sol::Stretch)> {
        let (Evidence::Log(proof), Some(index)) = (&self.evidence, wallet.index) else {
            return None;
        };
        let digest = domain.transfer_digest(&self.transfer);
        let start = proof.start_head(domain, wallet);
        let (base, history) = rest(start, &proof.history, settled.get(&wallet.wallet()).copied())?;
        let entries = [history, &[self.transfer.entry(digest)]].concat();
        Some((base, stretch(index, base, &entries, digest, &proof.certificate)))
    }
}

impl Branch {
    /// As `proveFork` takes it: a branch of the log `index` that goes on from `base`.
    pub fn to_sol(&self, index: IndexName, base: LogHead) -> sol::Stretch {
        stretch(index, base, &self.entries, self.transfer, &self.certificate)
    }
}

/// Entries of a log from `base` on, and the certificate of where they end.
fn stretch(
    index: IndexName,
    base: LogHead,
    entries: &[LogEntry],
    last: TransferDigest,
    certificate: &Certificate,
) -> sol::Stretch {
    let attest = certificate.attest(index, base.folded(entries), last);
    sol::Stretch {
        entries: entries.iter().flat_map(LogEntry::to_bytes).collect(),
        certificate: attest.to_bytes().to_vec().into(),
        signature: certificate.signature.to_sol(),
    }
}

/// The entries after what is settled; `None` where the transfer that follows them is settled, too.
fn rest(base: LogHead, entries: &[LogEntry], settled: Option<LogHead>) -> Option<(LogHead, &[LogEntry])> {
    let Some(settled) = settled else {
        return Some((base, entries));
    };
    let mut head = base;
    for (at, entry) in entries.iter().enumerate() {
        if head == settled {
            return Some((head, &entries[at..]));
        }
        head = head.folded(core::slice::from_ref(entry));
    }
    (head == settled).then_some((head, &[]))
}

fn push_key(out: &mut Vec<u8>, wallet: &SignedRegistration) {
    out.extend(wallet.key.x());
    out.extend(wallet.key.y());
}

fn push_evidence(
    out: &mut Vec<u8>,
    domain: &Domain,
    payer: &SignedRegistration,
    hop: &Hop,
    settled: &SettledHeads,
) -> u8 {
    if let Evidence::Signature(signature) = &hop.evidence {
        out.extend(signature.to_bytes());
        return SIGNATURE;
    }
    let Some((base, stretch)) = hop.stretch(domain, payer, settled) else {
        return RECORDED;
    };
    // Nobody takes a path of so many entries; shown to the contract, it is refused there.
    let count = u16::try_from(stretch.entries.len() / LogEntry::LENGTH).unwrap_or(u16::MAX);
    out.extend(base.0);
    out.extend(count.to_be_bytes());
    out.extend(stretch.entries);
    out.extend(stretch.certificate);
    out.extend(stretch.signature.r);
    out.extend(stretch.signature.s);
    LOG
}
