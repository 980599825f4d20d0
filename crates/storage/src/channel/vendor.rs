//! The vendor's payments: durable before the good leaves. One row per index; value is the highest word, whatever became of its
//! good, and receipts are those of the payments that count.
//!
//! ```text
//!   save_payment ──▶ Taken ──▶ Delivered
//!                      └─────▶ Failed ──save_payment (the same, or another in its place)──▶ Taken
//! ```
//! A payment found `Taken` after a crash counts as taken: its order gets its good again, another order needs the next index.
//! One that another stands on was delivered, whether or not that was noted: its client says so.

use std::{fmt, ops::RangeInclusive};

use protocol::{
    channel::{
        Accepted, Amount, ChannelId, Index, LastDelivered, Opener, Paid, Payment, SignedCheckpoint, Tag,
        Timestamp, Transcript, VendorChannel, Word, transcript,
    },
    ticket::OrderId,
};

use super::SettlementId;
use crate::{Result, StoreError, Total};

/// Channels that pay this vendor.
pub trait VendorChannelStore {
    /// Stores an accepted payment; durable on return. Concurrent calls share one flush to disk. True if it is new, or taken
    /// again after its good failed; false if it is stored already.
    ///
    /// Several processes share one store, so the payment must stand on the last one that is stored and counts; else it was
    /// accepted from an old state: [`PaymentStale`](StoreError::PaymentStale) with both, and the channel is to be loaded
    /// again. One whose good failed does not count, unless this one stands on it. On a channel that is closed, or about to
    /// be, it is [`ChannelClosing`](StoreError::ChannelClosing): the word would never be paid.
    ///
    /// `order` is the purchase, `price` what it costs, atomic units, `at` now.
    fn save_payment(
        &self,
        accepted: &Accepted,
        order: OrderId,
        price: Amount,
        at: Timestamp,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Notes what became of a payment's good. True if this changed it. `Failed` is only for the last payment, since the client
    /// of a later one says that it was delivered: [`PaymentBuried`](StoreError::PaymentBuried). What is delivered or failed
    /// does not become the other: [`VendorPaymentMove`](StoreError::VendorPaymentMove).
    fn mark_payment(
        &self,
        channel: ChannelId,
        tag: Tag,
        fate: PaymentFate,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Goes on where the client says that it stands, after a loss of what was stored since (recovery): payments stand on it from
    /// now on, and `paid` is the word that the client has shown for it. True if it is above what is stored, false if it is
    /// that; anything else is [`PositionBackwards`](StoreError::PositionBackwards). Receipts below it are no part of the chain
    /// any more.
    fn resume_vendor_channel(
        &self,
        channel: ChannelId,
        resumed: Resumed,
        at: Timestamp,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// One channel that has paid.
    fn vendor_channel(
        &self,
        channel: ChannelId,
    ) -> impl Future<Output = Result<Option<VendorChannelRecord>>> + Send;

    /// Every channel that has paid and is not closed for good, by id: what a vendor loads when it starts.
    fn vendor_channels(&self) -> impl Future<Output = Result<Vec<VendorChannelRecord>>> + Send;

    /// The channel was closed or refunded by somebody else, with so much settled: it is not loaded any more. True if it was
    /// not known to be closed.
    fn close_vendor_channel(
        &self,
        channel: ChannelId,
        settled: Index,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Payments that count (taken or delivered) at these indices, in order: the receipts of a channel.
    fn vendor_payments(
        &self,
        channel: ChannelId,
        indices: RangeInclusive<Index>,
    ) -> impl Future<Output = Result<Vec<VendorPayment>>> + Send;

    /// Stores a checkpoint that the client signed. True if it is new. Another one at an index of a chain that has one is
    /// [`CheckpointExists`](StoreError::CheckpointExists).
    fn save_checkpoint(&self, checkpoint: &CheckpointRecord) -> impl Future<Output = Result<bool>> + Send;

    /// A channel's checkpoints, by index.
    fn checkpoints(&self, channel: ChannelId) -> impl Future<Output = Result<Vec<CheckpointRecord>>> + Send;

    /// A channel's checkpoint of the highest index; of two on different chains, that of the later one.
    fn latest_checkpoint(
        &self,
        channel: ChannelId,
    ) -> impl Future<Output = Result<Option<CheckpointRecord>>> + Send;

    /// Stores what an opener opened. True if it is stored: one of a lower index than that which is stored changes nothing.
    fn save_opening(&self, opening: &Opening) -> impl Future<Output = Result<bool>> + Send;

    /// How many payments there are in which state, what they paid, and what was settled on chain.
    fn vendor_totals(&self) -> impl Future<Output = Result<VendorTotals>> + Send;
}

/// A channel as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorChannelRecord {
    /// The channel.
    pub id: ChannelId,
    /// When it paid first, or was closed without having paid.
    pub since: Timestamp,
    /// The highest index that the chain has paid for good, as far as this store knows.
    pub settled: Index,
    /// Where it stands.
    pub phase: ChannelPhase,
    /// The payment with the highest word, which is what a close is worth. Its good may have failed.
    pub highest: Option<VendorPayment>,
    /// The last payment that counts.
    pub last: Option<VendorPayment>,
    /// The payment that [`VendorChannelRecord::last`] stands on.
    pub before: Option<VendorPayment>,
    /// Where it went on after a loss.
    pub resumed: Option<Resumed>,
    /// The latest payment whose good failed and that stands on the last that counts.
    pub failed: Option<VendorPayment>,
    /// The checkpoint of the highest index.
    pub checkpoint: Option<CheckpointRecord>,
    /// What an opener opened.
    pub opening: Option<Opening>,
}

/// Where a channel goes on after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The last receipt, by the client's word.
    pub last: LastDelivered,
    /// `w_index` of it.
    pub word: Word,
    /// Which of the channel's chains the word is on.
    pub chain: u32,
}

/// A checkpoint as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// What the client signed.
    pub signed: SignedCheckpoint,
    /// Which of the channel's chains its word is on.
    pub chain: u32,
}

/// Whether a channel still pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelPhase {
    /// It does.
    Open,
    /// A close is on its way.
    Closing(SettlementId),
    /// It is closed for good.
    Closed,
}

/// A payment as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorPayment {
    /// The payment as it came.
    pub payment: Payment,
    /// The index that it stands on.
    pub previous: Index,
    /// Which of the channel's chains the word is on.
    pub chain: u32,
    /// The transcript with it.
    pub transcript: Transcript,
    /// The purchase: a client whose answer was lost gets its good again, and nothing else.
    pub order: OrderId,
    /// What that cost, atomic units.
    pub price: Amount,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// What became of the good.
    pub state: VendorPaymentState,
}

/// What became of the good of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VendorPaymentState {
    /// Nothing else is known.
    Taken,
    /// It is with the client.
    Delivered,
    /// It is not; the word stays.
    Failed,
}

/// What can be said of a good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PaymentFate {
    /// It is with the client.
    Delivered,
    /// It is not.
    Failed,
}

/// What an opener opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The opener.
    pub opener: Opener,
    /// How many receipts it opened.
    pub opened: u32,
    /// Whether the last of them was locked to the bank's own signature.
    pub ends_in_sigma0: bool,
    /// When it was tried.
    pub at: Timestamp,
}

/// Payments by state, and what was settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VendorTotals {
    /// Channels that have paid and are not closed.
    pub open: u64,
    /// Channels that are closed.
    pub closed: u64,
    /// Payments whose good may or may not have left.
    pub taken: PaymentSum,
    /// Payments that were delivered.
    pub delivered: PaymentSum,
    /// Payments whose good failed.
    pub failed: PaymentSum,
    /// Steps settled on chain, and what they credited.
    pub settled: Total,
}

/// Some payments together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaymentSum {
    /// How many, and what their orders cost.
    pub total: Total,
    /// Units that they paid.
    pub units: u64,
}

impl VendorPaymentState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Taken, Self::Delivered, Self::Failed];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Whether the payment counts, so that the next one stands on it.
    pub fn counts(self) -> bool {
        self != Self::Failed
    }
}

impl fmt::Display for VendorPaymentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<PaymentFate> for VendorPaymentState {
    fn from(fate: PaymentFate) -> Self {
        match fate {
            PaymentFate::Delivered => Self::Delivered,
            PaymentFate::Failed => Self::Failed,
        }
    }
}

impl VendorTotals {
    pub(crate) fn of_mut(&mut self, state: VendorPaymentState) -> &mut PaymentSum {
        match state {
            VendorPaymentState::Taken => &mut self.taken,
            VendorPaymentState::Delivered => &mut self.delivered,
            VendorPaymentState::Failed => &mut self.failed,
        }
    }
}

impl PaymentSum {
    pub(crate) fn add(&mut self, count: u64, price: Amount, units: u64) -> Result<()> {
        self.total.add(count, price)?;
        self.units = self.units.saturating_add(units);
        Ok(())
    }
}

impl VendorChannelRecord {
    /// The vendor's state, given that of the channel as it was opened.
    pub fn restore(&self, opened: VendorChannel) -> VendorChannel {
        let mut channel = opened;
        if let Some(highest) = &self.highest {
            channel.paid = Paid {
                index: highest.payment.index,
                word: highest.payment.word,
                chain: highest.chain,
                base: Index::ZERO,
            };
        }
        if let Some(Resumed { last, word, chain }) = &self.resumed
            && last.index > channel.paid.index
        {
            (channel.paid.index, channel.paid.word, channel.paid.chain) = (last.index, *word, *chain);
        }
        if let Some(CheckpointRecord { signed, chain }) = &self.checkpoint {
            let (index, paid) = (signed.index(), &mut channel.paid);
            if *chain > paid.chain || index > paid.index {
                // It moved the channel to a new chain; nothing was paid above it since.
                (paid.index, paid.word, paid.chain) = (index, signed.word(), *chain);
            }
            if *chain == paid.chain {
                paid.base = index;
            }
        }
        let delivered = match &self.last {
            Some(last) if last.state == VendorPaymentState::Taken && last.payment.index > self.from() => {
                channel.pending = Some(last.payment);
                self.before.as_ref()
            }
            last => {
                channel.pending = self.failed.map(|failed| failed.payment);
                last.as_ref()
            }
        };
        let delivered = delivered.filter(|payment| payment.payment.index > self.from());
        if let Some(payment) = delivered {
            channel.delivered = payment.receipt();
        } else if let Some(resumed) = &self.resumed {
            channel.delivered = resumed.last;
        }
        channel
    }

    /// Receipts begin above this index.
    fn from(&self) -> Index {
        self.resumed.map_or(Index::ZERO, |resumed| resumed.last.index)
    }
}

impl CheckpointRecord {
    /// The channel.
    pub fn channel(&self) -> ChannelId {
        ChannelId(self.signed.fields.channelId)
    }
}

impl VendorPayment {
    /// Where the receipts stand with it.
    pub fn receipt(&self) -> LastDelivered {
        LastDelivered {
            index: self.payment.index,
            transcript: self.transcript,
            tag: self.payment.tag,
        }
    }
}

// What every backend decides alike.

impl VendorPayment {
    pub(crate) fn new(accepted: &Accepted, order: OrderId, price: Amount, at: Timestamp) -> Self {
        let (payment, channel) = (*accepted.payment(), accepted.channel());
        Self {
            payment,
            previous: channel.delivered.index,
            chain: channel.paid.chain,
            transcript: transcript(channel.delivered.transcript, payment.item),
            order,
            price,
            taken_at: at,
            state: VendorPaymentState::Taken,
        }
    }

    /// Units that it paid.
    pub(crate) fn units(&self) -> u64 {
        self.payment.index.above(self.previous).into()
    }

    /// Why a payment was not stored: false if because it is (at its index is `there`); else the error. `last` is the last
    /// payment that counts.
    pub(crate) fn refused(
        &self,
        base: Tag,
        phase: ChannelPhase,
        there: Option<&Self>,
        last: Option<&Self>,
    ) -> Result<bool> {
        let (channel, index) = (self.payment.channel, self.payment.index);
        // The tag pins the receipt; a payment that is sent again after a top-up has a word of the new chain.
        if let Some(there) = there.filter(|there| there.payment.tag == self.payment.tag) {
            if there.order == self.order {
                return Ok(false);
            }
            return Err(StoreError::PaymentOfOrder {
                channel,
                index,
                got: self.order,
                stored: there.order,
            });
        }
        if phase != ChannelPhase::Open {
            return Err(StoreError::ChannelClosing { channel, phase });
        }
        Err(StoreError::PaymentStale {
            channel,
            got: (self.previous, base),
            stored: last.map(|last| (last.payment.index, last.payment.tag)),
        })
    }

    /// Whether the fate changes anything. `above`: the index of a later payment that counts.
    pub(crate) fn check_fate(&self, fate: PaymentFate, above: Option<Index>) -> Result<bool> {
        let (channel, index) = (self.payment.channel, self.payment.index);
        let to = VendorPaymentState::from(fate);
        match (self.state, above) {
            (from, _) if from == to => Ok(false),
            (VendorPaymentState::Taken, Some(above)) if fate == PaymentFate::Failed => {
                Err(StoreError::PaymentBuried {
                    channel,
                    got: index,
                    above,
                })
            }
            (VendorPaymentState::Taken, _) => Ok(true),
            (from, _) => Err(StoreError::VendorPaymentMove {
                channel,
                index,
                from,
                to,
            }),
        }
    }
}

/// Whether a channel may go on there; false if it does already. `highest`: the last payment that counts.
pub(crate) fn check_resumed(
    channel: ChannelId,
    got: &Resumed,
    stored: Option<&Resumed>,
    highest: Option<Index>,
) -> Result<bool> {
    if stored == Some(got) {
        return Ok(false);
    }
    let from = stored.map_or(Index::ZERO, |stored| stored.last.index);
    let stored = from.max(highest.unwrap_or_default());
    if got.last.index > stored {
        return Ok(true);
    }
    Err(StoreError::PositionBackwards {
        channel,
        got: got.last.index,
        stored,
    })
}

/// Whether a checkpoint is the one that is stored.
pub(crate) fn check_checkpoint(got: &CheckpointRecord, stored: &CheckpointRecord) -> Result<()> {
    if got == stored {
        return Ok(());
    }
    Err(StoreError::CheckpointExists {
        channel: got.channel(),
        index: got.signed.index(),
        got: got.signed.word(),
        stored: stored.signed.word(),
    })
}

impl fmt::Display for ChannelPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Closing(settlement) => write!(f, "being closed by settlement {settlement}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}
