//! Paths. Of a hop there is left out what follows: its input (the coin, or one part of the hop before), its change (what is
//! left of the input), who pays (the coin's wallet, the payee before, or the payer before), the payee that spends on, an
//! exit's payee, and the transfer before, where log or registration say it. A checkpoint's root follows from the gap.
//!
//! Only a path that proves itself survives: what is left out of another one is rebuilt to what it would have to be.

use alloy_primitives::B256;

use super::cbor::{Fields, MapWriter};
use super::messages::{read_deposit, write_deposit};
use super::{Encoded, message};
use crate::offline::{
    Amount, Base, Certificate, DecodeError, Domain, Evidence, Gap, Hop, Input, InvoiceDigest, LogCheckpoint,
    LogEntry, LogHead, LogProof, MAX_GAP_SIBLINGS, MAX_HOPS, Output, Path, Previous, Sequence,
    SignedLogCheckpoint, SignedRegistration, Timestamp, Transfer, Unbuilt, WalletId,
};

/// Most entries of a history. Payments have fewer, by [`MAX_PAYMENT_BYTES`](crate::offline::MAX_PAYMENT_BYTES); exits of
/// everything that a wallet holds come on top.
pub const MAX_HISTORY: usize = 1 << 13;

/// Most bytes of a path.
pub const MAX_PATH_BYTES: usize = 1 << 20;

message!(Path, 2, MAX_PATH_BYTES);

const HIGHEST: B256 = B256::repeat_byte(0xff);

impl Encoded for Path {
    fn write(&self, domain: &Domain, map: &mut MapWriter) {
        map.nested(1, |map| write_deposit(&self.deposit, domain, map));
        map.list(2, &self.wallets, |_, wallet, map| wallet.write(domain, map));
        let outputs = self.outputs(domain);
        let mut seated = 1;
        map.list(3, &self.hops, |at, hop, map| {
            // A hop of nobody is written as nothing, and does not decode.
            let Some(wallet) = self.wallets.get(hop.payer) else {
                return;
            };
            let spends = outputs[at];
            let sits = hop.payer == seated;
            if at > 0 && spends == Output::Payee {
                if sits {
                    seated += 1;
                } else {
                    map.uint(1, hop.payer as u64);
                }
            }
            if spends == Output::Change {
                map.uint(2, 1);
            }
            let paid_on = outputs.get(at + 1) == Some(&Output::Payee);
            if !paid_on && hop.transfer.payee != wallet.wallet() {
                map.bytes(3, hop.transfer.payee.0.as_slice());
            }
            write_hop(domain, wallet, hop, map);
        });
    }

    fn read(domain: &Domain, fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError> {
        let mut deposit = fields.nested(1, |fields| read_deposit(fields, WalletId::default()))?;
        let wallets = fields.list(2, MAX_HOPS + 1, |_, fields| {
            SignedRegistration::read(domain, fields)
        })?;
        let first = wallets.first().ok_or(DecodeError::NotRebuilt {
            hop: 0,
            reason: Unbuilt::NoWallet { got: 0, wallets: 0 },
        })?;
        deposit.coin.wallet = first.wallet();
        let mut seats = Seats {
            wallets: wallets.len(),
            used: 1,
            last: 0,
        };
        let read = fields.list(3, MAX_HOPS + 1, |at, fields| {
            let (payer, spends) = seats.read(at, fields)?;
            let payee = fields.optional_word(3)?.map(WalletId);
            let bare = read_hop(domain, &wallets[payer], fields)?;
            Ok((payer, spends, payee, bare))
        })?;
        if seats.used != wallets.len() {
            return Err(DecodeError::NotRebuilt {
                hop: read.len(),
                reason: Unbuilt::UnusedWallet {
                    got: wallets.len(),
                    used: seats.used,
                },
            });
        }
        // Who is paid on is known by the next hop, so from here on both ends of a hop are.
        let payees: Vec<WalletId> = (0..read.len())
            .map(|at| {
                let paid_on = read
                    .get(at + 1)
                    .filter(|(_, spends, ..)| *spends == Output::Payee);
                match (read[at].2, paid_on) {
                    (Some(payee), _) => payee,
                    (None, Some((next, ..))) => wallets[*next].wallet(),
                    (None, None) => wallets[read[at].0].wallet(),
                }
            })
            .collect();
        let mut path = Self {
            deposit,
            wallets,
            hops: Vec::with_capacity(read.len()),
        };
        for (at, ((payer, spends, _, bare), payee)) in read.into_iter().zip(payees).enumerate() {
            let input = path.fragment(domain, spends);
            let change = input
                .value
                .checked_sub(bare.amount)
                .ok_or(DecodeError::NotRebuilt {
                    hop: at,
                    reason: Unbuilt::AboveInput {
                        got: bare.amount,
                        value: input.value,
                    },
                })?;
            path.hops.push(bare.complete(payer, input.id, payee, change));
        }
        Ok(path)
    }
}

impl Path {
    /// Which part each hop spends; the coin counts as the payee's.
    fn outputs(&self, domain: &Domain) -> Vec<Output> {
        let mut outputs = vec![Output::Payee; self.hops.len()];
        for (pair, output) in self.hops.windows(2).zip(&mut outputs[1.min(self.hops.len())..]) {
            let digest = domain.transfer_digest(&pair[0].transfer);
            if Input::from(digest.fragment(Output::Change)) == pair[1].transfer.input {
                *output = Output::Change;
            }
        }
        outputs
    }
}

/// Who pays: wallets are listed in the order in which they first do.
struct Seats {
    wallets: usize,
    used: usize,
    last: usize,
}

impl Seats {
    fn read(&mut self, hop: usize, fields: &mut Fields<'_, '_>) -> Result<(usize, Output), DecodeError> {
        let got = if fields.has(1)? {
            Some(usize::try_from(fields.value()?).unwrap_or(usize::MAX))
        } else {
            None
        };
        let change = fields.has(2)?;
        if change && fields.value()? != 1 {
            return Err(DecodeError::OutOfRange {
                at: fields.position(),
            });
        }
        let payer = match (got, change) {
            (None, true) => self.last,
            (None, false) if hop == 0 => 0,
            (None, false) => {
                self.used += 1;
                self.used - 1
            }
            (Some(got), _) if got < self.used => got,
            (Some(got), _) => {
                return Err(DecodeError::NotRebuilt {
                    hop,
                    reason: Unbuilt::WalletOrder { got, next: self.used },
                });
            }
        };
        if payer >= self.wallets {
            return Err(DecodeError::NotRebuilt {
                hop,
                reason: Unbuilt::NoWallet {
                    got: payer,
                    wallets: self.wallets,
                },
            });
        }
        self.last = payer;
        Ok((payer, if change { Output::Change } else { Output::Payee }))
    }
}

/// A hop without what follows from the ones beside it.
struct BareHop {
    amount: Amount,
    sequence: Sequence,
    previous: Previous,
    invoice: InvoiceDigest,
    issued_at: Timestamp,
    evidence: Evidence,
}

impl BareHop {
    fn complete(self, payer: usize, input: Input, payee: WalletId, change: Amount) -> Hop {
        Hop {
            payer,
            transfer: Transfer {
                input,
                payee,
                amount: self.amount,
                change,
                sequence: self.sequence,
                previous: self.previous,
                invoice: self.invoice,
                issued_at: self.issued_at,
            },
            evidence: self.evidence,
        }
    }
}

fn write_hop(domain: &Domain, wallet: &SignedRegistration, hop: &Hop, map: &mut MapWriter) {
    let transfer = &hop.transfer;
    let history = history_of(&hop.evidence);
    map.amount(4, transfer.amount);
    map.uint(5, transfer.sequence.0);
    if known_previous(domain, wallet, transfer.sequence, history) != Some(transfer.previous) {
        map.bytes(6, transfer.previous.0.as_slice());
    }
    map.word_unless_zero(7, transfer.invoice.0);
    map.time(8, transfer.issued_at);
    match &hop.evidence {
        Evidence::Signature(signature) => map.bytes(9, &signature.to_bytes()),
        Evidence::Log(proof) => map.nested(10, |map| write_log(proof, map)),
    }
}

fn read_hop(
    domain: &Domain,
    wallet: &SignedRegistration,
    fields: &mut Fields<'_, '_>,
) -> Result<BareHop, DecodeError> {
    let amount = fields.amount(4)?;
    let sequence = Sequence(fields.uint(5)?);
    let said = fields.optional_word(6)?.map(Previous);
    let invoice = InvoiceDigest(fields.optional_word(7)?.unwrap_or_default());
    let issued_at = fields.time(8)?;
    let at = fields.position();
    let evidence = if fields.has(9)? {
        Evidence::Signature(fields.wallet_signature_value()?)
    } else {
        fields.nested(10, |fields| read_log(wallet.wallet(), fields))?
    };
    let history = history_of(&evidence);
    let previous = said
        .or_else(|| known_previous(domain, wallet, sequence, history))
        .ok_or(DecodeError::MissingKey { needed: 6, at })?;
    Ok(BareHop {
        amount,
        sequence,
        previous,
        invoice,
        issued_at,
        evidence,
    })
}

fn history_of(evidence: &Evidence) -> &[LogEntry] {
    match evidence {
        Evidence::Signature(_) => &[],
        Evidence::Log(proof) => &proof.history,
    }
}

/// The transfer before, where something else says it.
fn known_previous(
    domain: &Domain,
    wallet: &SignedRegistration,
    sequence: Sequence,
    history: &[LogEntry],
) -> Option<Previous> {
    if let Some(entry) = history.last() {
        return Some(entry.transfer.into());
    }
    (sequence == Sequence::FIRST).then(|| wallet.origin(domain).into())
}

fn write_log(proof: &LogProof, map: &mut MapWriter) {
    let history: Vec<[u8; LogEntry::LENGTH]> = proof.history.iter().map(LogEntry::to_bytes).collect();
    map.bytes_unless_empty(1, history.as_flattened());
    map.bytes(2, &proof.certificate.qualified_signer);
    map.bytes(3, &proof.certificate.clock_info);
    map.bytes(4, &proof.certificate.firmware_version);
    map.bytes(5, &proof.certificate.signature.to_bytes());
    if let Base::Checkpoint(signed, gap) = &proof.base {
        map.nested(6, |map| {
            map.bytes(1, signed.checkpoint.head.0.as_slice());
            map.uint(2, signed.checkpoint.sequence.0);
            map.time(3, signed.checkpoint.issued_at);
            map.bytes(4, &signed.signature.to_bytes());
            map.word_unless_zero(5, gap.low);
            if gap.high != HIGHEST {
                map.bytes(6, gap.high.as_slice());
            }
            let siblings: Vec<[u8; 32]> = gap.siblings.iter().map(|sibling| sibling.0).collect();
            map.bytes_unless_empty(7, siblings.as_flattened());
        });
    }
}

fn read_log(wallet: WalletId, fields: &mut Fields<'_, '_>) -> Result<Evidence, DecodeError> {
    let history = fields.pieces(1, MAX_HISTORY)?;
    let certificate = Certificate {
        qualified_signer: fields.fixed(2)?,
        clock_info: fields.fixed(3)?,
        firmware_version: fields.fixed(4)?,
        signature: fields.wallet_signature(5)?,
    };
    let base = if fields.has(6)? {
        let (signed, gap) = fields.map_value(|fields| read_checkpoint(wallet, fields))?;
        Base::Checkpoint(Box::new(signed), gap)
    } else {
        Base::Registration
    };
    Ok(Evidence::Log(Box::new(LogProof {
        base,
        history: history.iter().map(LogEntry::from_bytes).collect(),
        certificate,
    })))
}

fn read_checkpoint(
    wallet: WalletId,
    fields: &mut Fields<'_, '_>,
) -> Result<(SignedLogCheckpoint, Gap), DecodeError> {
    let head = LogHead(fields.word(1)?);
    let sequence = Sequence(fields.uint(2)?);
    let issued_at = fields.time(3)?;
    let signature = fields.signature(4)?;
    let gap = Gap {
        low: fields.optional_word(5)?.unwrap_or_default(),
        high: fields.optional_word(6)?.unwrap_or(HIGHEST),
        siblings: fields
            .pieces::<32>(7, MAX_GAP_SIBLINGS)?
            .iter()
            .map(|sibling| B256::new(*sibling))
            .collect(),
    };
    let checkpoint = LogCheckpoint {
        wallet,
        head,
        sequence,
        spent: gap.root(),
        issued_at,
    };
    Ok((
        SignedLogCheckpoint {
            checkpoint,
            signature,
        },
        gap,
    ))
}
