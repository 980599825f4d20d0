//! Accept: the vendor's decision whether a payment is as good as money. One hash for one unit, and no signature: the word
//! is what the contract pays for, the lock is taken as it comes (C-4). Rules stand in the order of their price.
//!
//! ```text
//! Payment ──accept──▶ Accepted ──▶ Delivered    the receipt is the vendor's, one index up
//!                      (store)└──▶ Failed       the word stays; it pays for the next order at this index
//! ```
//!
//! What is due is counted from the last *delivered* index, so that a word whose good failed is not paid twice. A payment
//! that builds on one whose delivery the vendor is not sure of (it was stopped in between) says that the client got it.

use alloy_primitives::Address;

use super::{
    Amount, ChainTerms, ChannelId, ChannelRecord, CheckpointError, Domain, Index, ItemHash, LockedReceipt,
    Payment, Refusal, Reputation, Seconds, SignedCheckpoint, Status, Tag, Timestamp, Transcript, Word,
    previous, transcript, walk,
};

/// What a vendor asks of channels and payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Banks whose channels are taken. Any one address is a bank; so none is taken by default.
    pub banks: Vec<Address>,
    /// The least reputation of a client.
    pub min_reputation: Reputation,
    /// Nothing is taken later than this before the expiry, so that a close gets into the chain (C-15).
    pub margin: Seconds,
    /// Most units that one payment may pay: bounds the hashes that it costs.
    pub max_jump: u32,
    /// Most steps that a close may have to walk: bounds its gas, and the hashes that the first word of a new chain costs.
    /// What is beyond needs a checkpoint that the client signed.
    pub max_walk: u32,
    /// Payments are accepted while the view of the chain's head is at most this old.
    pub max_mirror_age: Seconds,
}

/// One channel at two blocks. Admission judges on the worse of both (rule E10).
#[derive(Clone, Copy, Debug)]
pub struct ChannelView<'a> {
    /// At the last final block; `None` if it was not open by then.
    pub last_final: Option<&'a ChannelRecord>,
    /// At the newest block; `None` if it is not open there.
    pub head: Option<&'a ChannelRecord>,
}

/// What is to be paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it is.
    pub item: ItemHash,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// Its price in units of the channel, at least 1.
    pub units: u32,
}

/// What a payment is judged on, all of it in memory.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// This vendor.
    pub me: Address,
    /// What the vendor has of the channel.
    pub channel: &'a VendorChannel,
    /// What the chain says of it.
    pub view: ChannelView<'a>,
    /// How long ago the head in `view` was seen to be the head.
    pub mirror_age: Seconds,
    /// What the payment has to be for.
    pub order: Order,
    /// Whether a payment of this channel was accepted, and is neither delivered nor failed yet.
    pub in_delivery: bool,
    /// The vendor's clock.
    pub now: Timestamp,
    /// What the vendor asks for.
    pub policy: &'a Policy,
}

/// The highest word that a vendor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// What the contract pays for: `index` units.
    pub index: Index,
    /// `w_index`.
    pub word: Word,
    /// Which of the channel's chains it is on, counted from 0, the chain of the opening.
    pub chain: u32,
    /// Where the walk of a close ends: at the index of the highest signed checkpoint on this chain, or of its anchor.
    pub base: Index,
}

/// Where the receipts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastDelivered {
    /// Units paid for goods that were delivered.
    pub index: Index,
    /// Everything paid for.
    pub transcript: Transcript,
    /// Tag of the last receipt; that of `sigma_0` at the opening.
    pub tag: Tag,
}

/// The vendor's side of a channel: what it must never forget. The receipts are kept beside it, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorChannel {
    /// The channel.
    pub id: ChannelId,
    /// The highest word.
    pub paid: Paid,
    /// The last receipt.
    pub delivered: LastDelivered,
    /// The last payment accepted, if its good is not known to be delivered.
    pub pending: Option<Payment>,
}

/// Accepted: as good as money. To be stored before the good is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    channel: VendorChannel,
    payment: Payment,
    confirmed: Option<LockedReceipt>,
    hashes: u32,
}

/// The good was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The channel, to be stored.
    pub channel: VendorChannel,
    /// The receipt, to be stored after those before.
    pub receipt: LockedReceipt,
}

/// The good was not delivered. The channel is what was stored when the payment was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The channel: it holds the word, and waits for another order at this index.
    pub channel: VendorChannel,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            banks: Vec::new(),
            min_reputation: super::MIN_REPUTATION,
            margin: Seconds::HOUR.times(6),
            max_jump: 1 << 12,
            // Less than a million gas, and some milliseconds of hashing.
            max_walk: 1 << 14,
            max_mirror_age: Seconds::MINUTE.times(5),
        }
    }
}

impl Order {
    /// An order at a price: as many units as cover it, at least one. `None` if no channel has so many.
    pub fn priced(item: ItemHash, asset: Address, price: Amount, unit: Amount) -> Option<Self> {
        let units = price.0.checked_div(unit.0)? + u128::from(!price.0.is_multiple_of(unit.0));
        Some(Self {
            item,
            asset,
            units: u32::try_from(units.max(1)).ok()?,
        })
    }
}

impl VendorChannel {
    /// A channel as it was opened: nothing is paid.
    pub fn open(domain: &Domain, record: &ChannelRecord) -> Self {
        let opening = record.opening();
        let tag0 = Tag::of(
            ChannelId(opening.channelId),
            Index::ZERO,
            &(&record.chains[0].sigma0).into(),
        );
        Self {
            id: ChannelId(opening.channelId),
            paid: Paid {
                index: Index::ZERO,
                word: Word(opening.anchor),
                chain: 0,
                base: Index::ZERO,
            },
            delivered: LastDelivered {
                index: Index::ZERO,
                transcript: Transcript(domain.permit_digest(opening)),
                tag: tag0,
            },
            pending: None,
        }
    }

    /// The channel with its pending payment delivered: what a client says that builds on it, and what a vendor says that
    /// finds out. With the receipt to store.
    pub fn confirm(&self) -> Option<Delivered> {
        let payment = self.pending?;
        Some(self.delivered(&payment))
    }

    /// The channel with a checkpoint that the client signed: a close starts there. One above what was paid pays for it, and
    /// one of a new chain moves the channel there: the signature vouches for a word that would be too far from the anchor to
    /// walk.
    ///
    /// In accountable mode `locks` are the index of the checkpoint before and the receipts since; else `None`. A pending
    /// payment that the checkpoint counts is confirmed first ([`VendorChannel::confirm`]). The caller stores the signed
    /// checkpoint, too.
    pub fn take_checkpoint(
        &self,
        domain: &Domain,
        record: &ChannelRecord,
        signed: &SignedCheckpoint,
        locks: Option<(Index, &[LockedReceipt])>,
    ) -> Result<Self, CheckpointError> {
        signed.check_signature(domain, self.id, record.opening().receiptKey)?;
        signed.check_locks(locks)?;
        let (index, word, held) = (signed.index(), signed.word(), self.paid);
        let mut channel = *self;
        let known = walk(held.word, self.id, held.index.above(index));
        if index > held.base && index <= held.index && word == known {
            channel.paid.base = index;
            return Ok(channel);
        }
        // What is no word of the chain in use may be one of the newest chain, or is above all that was paid.
        let on_newest = held.chain as usize + 1 >= record.chains.len();
        if on_newest && index <= held.base {
            return Err(CheckpointError::IndexNotAboveLast {
                got: index,
                last: held.base,
            });
        }
        if on_newest && index <= held.index {
            return Err(CheckpointError::WrongWord { got: word, known });
        }
        // The contract takes the signature for the walk, so that this word is as good as one that walks.
        if index < held.index || index > record.length() {
            return Err(CheckpointError::IndexOutOfRange {
                got: index,
                low: held.index,
                high: record.length(),
            });
        }
        channel.paid = Paid {
            index,
            word,
            chain: chain_number(record.chains.len() - 1),
            base: index,
        };
        Ok(channel)
    }

    /// The channel of a vendor that came back from a backup, or with nothing, by what its client says of the last good that
    /// it got ([`super::ClientChannel::stand`]). The word is checked as any; the rest is about receipts alone, and those
    /// that are lost stay so: the ones to come end in `last`, not in `sigma_0`.
    pub fn resumed(
        &self,
        record: &ChannelRecord,
        last: LastDelivered,
        word: Word,
        policy: &Policy,
    ) -> Result<Self, Refusal> {
        if last.index <= self.delivered.index {
            return Err(Refusal::IndexBackwards {
                got: last.index,
                delivered: self.delivered.index,
                tag: self.delivered.tag,
            });
        }
        if last.index > record.length() {
            return Err(Refusal::PastLength {
                got: last.index,
                length: record.length(),
            });
        }
        let (paid, _) = check_word(self, last.index, word, record, policy)?;
        Ok(Self {
            paid,
            delivered: last,
            pending: None,
            ..*self
        })
    }

    fn delivered(&self, payment: &Payment) -> Delivered {
        let mut channel = *self;
        channel.pending = None;
        channel.delivered = LastDelivered {
            index: payment.index,
            transcript: transcript(self.delivered.transcript, payment.item),
            tag: payment.tag,
        };
        Delivered {
            channel,
            receipt: payment.receipt(),
        }
    }
}

/// Accepts a payment, or says which rule it breaks. The caller then stores the channel (and what it confirms) durably, and
/// only then delivers; one payment of a channel at a time.
pub fn accept(payment: Payment, admission: &Admission<'_>) -> Result<Accepted, Refusal> {
    let record = check_channel(&payment, admission)?;
    check_order(&payment, admission)?;
    let (channel, confirmed) = check_index(&payment, admission, record)?;
    let Payment { index, word, .. } = payment;
    let (paid, hashes) = check_word(admission.channel, index, word, record, admission.policy)?;
    Ok(Accepted {
        channel: VendorChannel {
            paid,
            pending: Some(payment),
            ..channel
        },
        payment,
        confirmed,
        hashes,
    })
}

impl Accepted {
    /// The channel that holds the word. To be stored first.
    pub fn channel(&self) -> &VendorChannel {
        &self.channel
    }

    /// The receipt of the payment before, if it was pending: this payment says that its good arrived. To be stored, too.
    pub fn confirmed(&self) -> Option<&LockedReceipt> {
        self.confirmed.as_ref()
    }

    /// What was accepted.
    pub fn payment(&self) -> &Payment {
        &self.payment
    }

    /// How many hashes the word took.
    pub fn hashes(&self) -> u32 {
        self.hashes
    }

    /// The good is with the client.
    pub fn delivered(self) -> Delivered {
        self.channel.delivered(&self.payment)
    }

    /// The good is not: the client may order another one for the same word.
    pub fn failed(self) -> Failed {
        Failed {
            channel: self.channel,
        }
    }
}

/// Rule 1: the channel is mine, open at both blocks, and good enough.
fn check_channel<'a>(payment: &Payment, admission: &Admission<'a>) -> Result<&'a ChannelRecord, Refusal> {
    let policy = admission.policy;
    if payment.channel != admission.channel.id {
        return Err(Refusal::ForeignChannel {
            got: payment.channel,
            mine: admission.channel.id,
        });
    }
    let (age, limit) = (admission.mirror_age, policy.max_mirror_age);
    if age > limit {
        return Err(Refusal::MirrorStale { age, limit });
    }
    let (Some(last_final), Some(head)) = (admission.view.last_final, admission.view.head) else {
        return Err(Refusal::ChannelMissing {
            channel: payment.channel,
        });
    };
    if last_final.status() == Status::Closed || head.status() == Status::Closed {
        return Err(Refusal::ChannelClosed {
            channel: payment.channel,
            settled: head.settled.max(last_final.settled),
        });
    }
    if last_final.vendor != admission.me {
        return Err(Refusal::WrongVendor {
            got: last_final.vendor,
            me: admission.me,
        });
    }
    if !policy.banks.contains(&last_final.bank) {
        return Err(Refusal::BankNotAccepted {
            got: last_final.bank,
            accepted: policy.banks.len(),
        });
    }
    let (got, needed) = (
        last_final.client_reputation().min(head.client_reputation()),
        policy.min_reputation,
    );
    if got < needed {
        return Err(Refusal::ReputationTooLow { got, needed });
    }
    let latest = Timestamp(last_final.expiry().0.saturating_sub(policy.margin.0));
    if admission.now > latest {
        return Err(Refusal::TooLate {
            now: admission.now,
            latest,
        });
    }
    Ok(last_final)
}

/// Rule 2: it pays for what was ordered.
fn check_order(payment: &Payment, admission: &Admission<'_>) -> Result<(), Refusal> {
    let order = admission.order;
    // Both records have it, or neither: it never changes.
    if let Some(record) = admission.view.last_final
        && record.opening().asset != order.asset
    {
        return Err(Refusal::WrongAsset {
            got: record.opening().asset,
            price: order.asset,
        });
    }
    if payment.item != order.item {
        return Err(Refusal::WrongItem {
            got: payment.item,
            order: order.item,
        });
    }
    Ok(())
}

/// Rule 3: it pays the price, on top of what was delivered. Answers the channel that it builds on.
fn check_index(
    payment: &Payment,
    admission: &Admission<'_>,
    record: &ChannelRecord,
) -> Result<(VendorChannel, Option<LockedReceipt>), Refusal> {
    let channel = admission.channel;
    let (index, last) = (payment.index, channel.delivered);
    if index == last.index && payment.tag == last.tag {
        return Err(Refusal::AlreadyDelivered {
            index,
            tag: payment.tag,
        });
    }
    if index <= last.index {
        return Err(Refusal::IndexBackwards {
            got: index,
            delivered: last.index,
            tag: last.tag,
        });
    }
    if index > record.length() {
        return Err(Refusal::PastLength {
            got: index,
            length: record.length(),
        });
    }
    // A vendor that came back from an old backup must not deliver for what the contract has paid.
    let settled = admission
        .view
        .head
        .map_or(record.settled, |head| head.settled.max(record.settled));
    if settled > channel.paid.index && index <= settled {
        return Err(Refusal::AlreadySettled { got: index, settled });
    }
    if admission.in_delivery {
        return Err(Refusal::Busy {
            got: index,
            delivering: channel.pending.map_or(last.index, |pending| pending.index),
        });
    }
    // Nothing is free: an order of no units would be a second receipt for one index.
    let price = admission.order.units.max(1);
    let got = index.above(last.index);
    if got == price {
        return Ok((*channel, None));
    }
    if let Some(confirmed) = channel.confirm()
        && index.above(confirmed.channel.delivered.index) == price
    {
        return Ok((confirmed.channel, Some(confirmed.receipt)));
    }
    Err(if got < price {
        Refusal::PaysTooLittle { got, price }
    } else {
        Refusal::PaysTooMuch { got, price }
    })
}

/// Rule 4: the word is in a chain of the channel.
fn check_word(
    channel: &VendorChannel,
    index: Index,
    word: Word,
    record: &ChannelRecord,
    policy: &Policy,
) -> Result<(Paid, u32), Refusal> {
    let held = channel.paid;
    let (upper, lower) = if index > held.index {
        ((index, word), (held.index, held.word))
    } else {
        // Paid already, for a good that failed: one of the words below.
        ((held.index, held.word), (index, word))
    };
    let steps = upper.0.above(lower.0);
    let newest = record.chains.len() - 1;
    let on_newest = held.chain as usize >= newest;
    let mut hashes = 0;
    let mut walked = word;
    if index <= length(record, held.chain) && steps <= policy.max_jump {
        walked = match steps {
            1 => previous(upper.1, channel.id),
            _ => walk(upper.1, channel.id, steps),
        };
        hashes = steps;
        if walked == lower.1 {
            let paid = Paid {
                index: upper.0,
                word: upper.1,
                ..held
            };
            return check_walk(paid, policy).map(|paid| (paid, hashes));
        }
    } else if on_newest {
        return Err(Refusal::JumpTooFar {
            got: steps,
            limit: policy.max_jump,
        });
    }
    // The first word of a new chain comes all the way down from it.
    if !on_newest {
        if index.0 > policy.max_walk {
            return Err(Refusal::CheckpointNeeded {
                got: index.0,
                limit: policy.max_walk,
            });
        }
        walked = walk(word, channel.id, index.0);
        hashes += index.0;
        if walked.0 == record.chains[newest].permit.anchor {
            let paid = if index >= held.index {
                Paid {
                    index,
                    word,
                    chain: chain_number(newest),
                    base: Index::ZERO,
                }
            } else {
                held
            };
            return Ok((paid, hashes));
        }
    }
    Err(Refusal::WordNotInChain {
        index,
        walked,
        known: lower.1,
    })
}

/// What cannot be closed for is no money: the walk must fit a transaction, and cost less than it brings.
fn check_walk(paid: Paid, policy: &Policy) -> Result<Paid, Refusal> {
    let got = paid.index.above(paid.base);
    if got > policy.max_walk {
        return Err(Refusal::CheckpointNeeded {
            got,
            limit: policy.max_walk,
        });
    }
    Ok(paid)
}

fn chain_number(position: usize) -> u32 {
    // A channel has at most one chain for each length.
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn length(record: &ChannelRecord, chain: u32) -> Index {
    record
        .chains
        .get(chain as usize)
        .map_or(Index::ZERO, |ChainTerms { permit, .. }| Index(permit.length))
}
