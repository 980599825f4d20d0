//! The payer's channels. A payment reveals a word, and a word that was seen is money: so a payment is durable before it
//! leaves, one order has one payment, and one payment of a channel is under way at a time, because the next one stands on it.
//!
//! ```text
//!   pay ──▶ Sent ──▶ Delivered           the position moves up to it
//!             ├────▶ Failed              the position stays: the next payment may have the same index
//!             └────▶ Refused { rule }    as Failed
//! ```
//! The highest index ever revealed only rises, whatever became of the payment: what the vendor can take, it will. An index
//! that was revealed before charges no budget again.

use std::{fmt, ops::RangeInclusive};

use alloy_primitives::{Address, B256};
use protocol::{
    channel::{
        Acknowledged, Admitted, Amount, ChannelId, ClientChannel, Domain, InFlight, Index, Keccak, PayError,
        Payment, Prepared, Sigma, Tag, Timestamp, Transcript, lock, transcript,
    },
    ticket::OrderId,
};

use crate::{Budget, Result, StoreError, Total};

/// Channels that this payer opened, and what was paid over them.
pub trait ClientChannelStore {
    /// Saves a channel before its opening transaction is sent. True if it is new, false if it is stored just so. Another
    /// permit, salt or origin for a channel that is stored is [`ChannelExists`](StoreError::ChannelExists).
    fn save_client_channel(&self, channel: &NewClientChannel) -> impl Future<Output = Result<bool>> + Send;

    /// A top-up: the chain of this permit pays from now on. To be called when it is on chain. True if it is new. A permit of
    /// another channel or one that is no longer than the newest is [`PayRefused`](StoreError::PayRefused).
    fn topped_up(&self, channel: ChannelId, admitted: &Admitted)
    -> impl Future<Output = Result<bool>> + Send;

    /// The channel is closed or refunded, or not used any more: no payment over it. True if it was open.
    fn close_client_channel(
        &self,
        channel: ChannelId,
        at: Timestamp,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// One channel.
    fn client_channel(
        &self,
        channel: ChannelId,
    ) -> impl Future<Output = Result<Option<ClientChannelRecord>>> + Send;

    /// Channels, by id.
    fn client_channels(
        &self,
        filter: ClientChannelFilter,
    ) -> impl Future<Output = Result<Vec<ClientChannelRecord>>> + Send;

    /// The payment of an order. If the order is new, in one transaction: charges the budgets with what was not revealed
    /// before, has the payment signed, stores it, raises what is revealed. On return it is durable and may be sent. A known
    /// order gives back its stored payment, whatever else the request says, and `sign` is not called.
    ///
    /// While a payment of another order is under way on the channel, this is
    /// [`PaymentInFlight`](StoreError::PaymentInFlight) with that order.
    ///
    /// `sign` gets the channel as it is stored. It runs inside the transaction, so it must only compute. It is `'static`
    /// because the transaction outlives a caller who stops waiting. What it refuses is
    /// [`PayRefused`](StoreError::PayRefused), a payment that does not follow from the channel and the request
    /// [`SignedOther`](StoreError::SignedOther), a price beyond a budget [`OverBudget`](StoreError::OverBudget); then
    /// nothing is revealed and no budget charged.
    fn pay<F>(&self, request: PayRequest, sign: F) -> impl Future<Output = Result<Pay>> + Send
    where
        F: FnOnce(&ClientChannel) -> Result<Prepared, PayError> + Send + 'static;

    /// Records how a payment ended. Only forward: `Sent` to one of the others. True if this changed it, false if it said so
    /// already.
    fn resolve_payment(
        &self,
        order: OrderId,
        state: PaymentState,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Takes over a position that the vendor has shown (recovery): from now on payments stand on it. True if it is above
    /// the stored one, false if it is that one; anything else is [`PositionBackwards`](StoreError::PositionBackwards). A
    /// payment under way must be resolved first: [`PaymentInFlight`](StoreError::PaymentInFlight).
    fn acknowledge(
        &self,
        channel: ChannelId,
        position: &Acknowledged,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// The vendor holds the word of this index (recovery): so much counts as revealed. Never lowers. Returns what is revealed.
    fn raise_revealed(&self, channel: ChannelId, index: Index) -> impl Future<Output = Result<Index>> + Send;

    /// The payment of an order, if there is one.
    fn client_payment(&self, order: OrderId) -> impl Future<Output = Result<Option<PaymentRecord>>> + Send;

    /// Payments of a channel at these indices, by index; those of one index by order.
    fn client_payments(
        &self,
        channel: ChannelId,
        indices: RangeInclusive<Index>,
    ) -> impl Future<Output = Result<Vec<PaymentRecord>>> + Send;

    /// How many payments are in which state and what they cost; of one channel or of all.
    fn client_payment_totals(
        &self,
        channel: Option<ChannelId>,
    ) -> impl Future<Output = Result<PaymentTotals>> + Send;
}

/// A channel that is about to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClientChannel {
    /// The permit that opens it, with its bank's signature.
    pub admitted: Admitted,
    /// Made its name new.
    pub salt: B256,
    /// Where the vendor sells (an origin or an address), if the payer wants to know it.
    pub origin: Option<String>,
    /// Now.
    pub at: Timestamp,
}

/// A channel as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientChannelRecord {
    /// Permits, position, what is revealed, and the payments that stand on the position and did not arrive.
    pub channel: ClientChannel,
    /// Made its name new.
    pub salt: B256,
    /// Where the vendor sells.
    pub origin: Option<String>,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// When it was marked as closed.
    pub closed_at: Option<Timestamp>,
}

/// Which channels to list. The default is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientChannelFilter {
    /// Only to this vendor.
    pub vendor: Option<Address>,
    /// Only of this asset.
    pub asset: Option<Address>,
    /// Only those not marked as closed.
    pub open: bool,
}

/// What is to be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayRequest {
    /// The purchase; the payer's choice, unique for ever in its store.
    pub order: OrderId,
    /// Pays.
    pub channel: ChannelId,
    /// What the good costs, atomic units.
    pub price: Amount,
    /// Units to pay, from the position.
    pub units: u32,
    /// Accounts of the payer that what is newly revealed is charged to, in full to each. One named twice is charged once.
    pub budgets: Vec<Budget>,
    /// Now.
    pub at: Timestamp,
}

/// What [`ClientChannelStore::pay`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pay {
    /// The order was new; this payment was just signed and stored.
    Fresh(PaymentRecord),
    /// The order was known; this is its payment as stored.
    Existing(PaymentRecord),
}

impl Pay {
    /// The payment, new or not.
    pub fn record(&self) -> &PaymentRecord {
        match self {
            Self::Fresh(record) | Self::Existing(record) => record,
        }
    }

    /// The payment, new or not.
    pub fn into_record(self) -> PaymentRecord {
        match self {
            Self::Fresh(record) | Self::Existing(record) => record,
        }
    }
}

/// A payment as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The purchase.
    pub order: OrderId,
    /// What is sent.
    pub payment: Payment,
    /// The index that it stands on.
    pub previous: Index,
    /// The transcript with it.
    pub transcript: Transcript,
    /// The receipt's signature: not to be shown before it is delivered.
    pub sigma: Sigma,
    /// What the good cost, atomic units.
    pub price: Amount,
    /// What the budgets were charged with, atomic units: the units that were not revealed before.
    pub charged: Amount,
    /// What became of it.
    pub state: PaymentState,
}

/// What became of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// It is durable and may have reached the vendor. Nothing else is known.
    Sent,
    /// The vendor took it and delivered.
    Delivered,
    /// The vendor took the word and could not deliver; the next payment replaces this one.
    Failed,
    /// The vendor refused the payment; the next one replaces it.
    Refused {
        /// Stable name of the rule.
        rule: String,
    },
}

/// [`PaymentState`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaymentStage {
    /// See [`PaymentState::Sent`].
    Sent,
    /// See [`PaymentState::Delivered`].
    Delivered,
    /// See [`PaymentState::Failed`].
    Failed,
    /// See [`PaymentState::Refused`].
    Refused,
}

impl PaymentState {
    /// The state without its values.
    pub fn stage(&self) -> PaymentStage {
        match self {
            Self::Sent => PaymentStage::Sent,
            Self::Delivered => PaymentStage::Delivered,
            Self::Failed => PaymentStage::Failed,
            Self::Refused { .. } => PaymentStage::Refused,
        }
    }
}

impl PaymentStage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Delivered, Self::Failed, Self::Refused];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for PaymentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { rule } => write!(f, "refused ({rule})"),
            other => f.write_str(other.stage().name()),
        }
    }
}

/// Payments by state; what they cost is what the budgets were charged with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaymentTotals {
    /// Outcome unknown.
    pub sent: Total,
    /// Paid and delivered.
    pub delivered: Total,
    /// Paid and not delivered.
    pub failed: Total,
    /// Refused by the vendor.
    pub refused: Total,
}

impl PaymentTotals {
    /// Payments in any state.
    pub fn all(&self) -> Result<Total> {
        self.sent
            .plus(self.delivered)?
            .plus(self.failed)?
            .plus(self.refused)
    }

    pub(crate) fn of_mut(&mut self, stage: PaymentStage) -> &mut Total {
        match stage {
            PaymentStage::Sent => &mut self.sent,
            PaymentStage::Delivered => &mut self.delivered,
            PaymentStage::Failed => &mut self.failed,
            PaymentStage::Refused => &mut self.refused,
        }
    }
}

// What every backend decides alike.

impl NewClientChannel {
    /// Whether the permit is for the channel that its parties and the salt name; then that channel.
    pub(crate) fn check(&self, domain: &Domain) -> Result<ChannelId> {
        let permit = self.admitted.permit();
        let expected = domain.channel_id(permit.client(), permit.vendor(), self.salt);
        if permit.channel() != expected {
            return Err(StoreError::WrongChannelId {
                got: permit.channel(),
                expected,
            });
        }
        Ok(expected)
    }

    /// Whether a channel that is stored is this one.
    pub(crate) fn check_stored(&self, stored: &ClientChannelRecord) -> Result<()> {
        let opening = stored.channel.terms().first();
        if opening == Some(&self.admitted) && stored.origin == self.origin {
            return Ok(());
        }
        Err(StoreError::ChannelExists {
            channel: self.admitted.permit().channel(),
            got: self.admitted.permit().digest(),
            stored: opening.map_or(B256::ZERO, |admitted| admitted.permit().digest()),
        })
    }
}

impl ClientChannelRecord {
    /// Whether the channel may pay; then the index that the payment will have, and what the budgets are charged with.
    pub(crate) fn check_pay(
        &self,
        request: &PayRequest,
        in_flight: Option<OrderId>,
    ) -> Result<(Index, Amount)> {
        let channel = request.channel;
        if let Some(closed_at) = self.closed_at {
            return Err(StoreError::ChannelClosed { channel, closed_at });
        }
        if let Some(order) = in_flight {
            return Err(StoreError::PaymentInFlight { channel, order });
        }
        let from = self.channel.acknowledged().index;
        // A chain that long does not exist, which the signer says.
        let index = from.plus(request.units).unwrap_or(Index(u32::MAX));
        let unit = self
            .channel
            .terms()
            .last()
            .map_or(Amount::ZERO, |admitted| admitted.permit().unit());
        let fresh = index.above(self.channel.revealed());
        Ok((index, unit.saturating_mul(fresh.into())))
    }

    /// Whether the signer signed what it was asked to: the payment that follows from this channel.
    pub(crate) fn check_signed(
        &self,
        request: &PayRequest,
        index: Index,
        prepared: Prepared,
    ) -> Result<InFlight> {
        let order = request.order;
        let differs = |field, signed: String, asked: String| {
            Err(StoreError::SignedOther {
                order,
                field,
                signed,
                asked,
            })
        };
        let (channel, payment) = prepared.send();
        let from = self.channel.acknowledged();
        let mut made = channel.in_flight().iter();
        let Some(made) = made.find(|made| made.payment == payment) else {
            return differs("payment", "nothing".to_owned(), payment.tag.to_string());
        };
        if payment.channel != request.channel {
            return differs(
                "channel",
                payment.channel.to_string(),
                request.channel.to_string(),
            );
        }
        if payment.index != index {
            return differs("index", payment.index.to_string(), index.to_string());
        }
        let expected = transcript(from.transcript, payment.item);
        if made.transcript != expected {
            return differs("transcript", made.transcript.to_string(), expected.to_string());
        }
        let expected = Tag::of(payment.channel, payment.index, &made.sigma);
        if payment.tag != expected {
            return differs("tag", payment.tag.to_string(), expected.to_string());
        }
        let expected = lock::<Keccak>(&from.sigma, &made.sigma);
        if payment.lock != expected {
            return differs("lock", payment.lock.to_string(), expected.to_string());
        }
        Ok(*made)
    }

    /// Whether the position moves there; an error if it would not be forward.
    pub(crate) fn check_position(
        &self,
        channel: ChannelId,
        got: &Acknowledged,
        in_flight: Option<OrderId>,
    ) -> Result<bool> {
        let stored = self.channel.acknowledged();
        if got == stored {
            return Ok(false);
        }
        if got.index <= stored.index {
            return Err(StoreError::PositionBackwards {
                channel,
                got: got.index,
                stored: stored.index,
            });
        }
        match in_flight {
            Some(order) => Err(StoreError::PaymentInFlight { channel, order }),
            None => Ok(true),
        }
    }
}

impl PaymentRecord {
    pub(crate) fn new(request: &PayRequest, previous: Index, charged: Amount, made: &InFlight) -> Self {
        Self {
            order: request.order,
            payment: made.payment,
            previous,
            transcript: made.transcript,
            sigma: made.sigma,
            price: request.price,
            charged,
            state: PaymentState::Sent,
        }
    }

    /// The payment as the channel's state has it.
    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight {
            payment: self.payment,
            transcript: self.transcript,
            sigma: self.sigma,
        }
    }

    /// The position that stands on this payment.
    pub(crate) fn position(&self) -> Acknowledged {
        Acknowledged {
            index: self.payment.index,
            transcript: self.transcript,
            sigma: self.sigma,
        }
    }

    /// Whether the tag is the signature's, as text: what a damaged row is told by.
    pub(crate) fn check_tag(&self) -> Result<(), String> {
        let Payment {
            channel, index, tag, ..
        } = self.payment;
        let computed = Tag::of(channel, index, &self.sigma);
        if tag == computed {
            return Ok(());
        }
        Err(format!("{tag} stored, {computed} computed"))
    }

    /// Whether the move changes anything; an error if it is not forward.
    pub(crate) fn check_move(&self, to: &PaymentState) -> Result<bool> {
        match (&self.state, to) {
            (from, to) if from == to => Ok(false),
            (
                PaymentState::Sent,
                PaymentState::Delivered | PaymentState::Failed | PaymentState::Refused { .. },
            ) => Ok(true),
            (from, to) => Err(StoreError::PaymentMove {
                order: self.order,
                from: from.clone(),
                to: to.clone(),
            }),
        }
    }
}
