//! Step `pay`: pays for one order over an open channel. The payment is in the store before it leaves, and the next one
//! stands on it: so one payment of a channel is under way at a time. A lost answer is asked for again with the same bytes.
//! What was refused or failed is replaced under a new order that follows from the old one, at the same index, which costs
//! nothing more.
//!
//! Client and vendor may disagree about the last payment (an answer was lost and given up, a process was killed). Then the
//! vendor names the tag of what it delivered. It is believed only where the tag is one that this client made.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{Address, keccak256};
use parking_lot::Mutex;
use protocol::channel::{
    Acknowledged, Amount, CHECKPOINT_EVERY, Chain, ChainError, ChannelId, ClientChannel, Domain, Index,
    ItemHash, Key, LockTree, Order, PayError as SchemeError, Payment, Permit, Retry, SignedCheckpoint, Tag,
    Timestamp, chain_seed, checkpoint_due,
};
use protocol::ticket::OrderId;
use storage::channel::{ClientChannelRecord, ClientChannelStore, PayRequest, PaymentRecord, PaymentState};
use storage::{Budget, StoreError};
use tokio::sync::Mutex as TurnMutex;
use tracing::{debug, info, warn};

use super::{Answer, ApiError, Edges, LimitError, Limits, VendorApi};

/// Most payments for one purchase in one call, the first included.
const MAX_PAYMENTS: usize = 4;
/// Rules of vendors to which a checkpoint is the answer.
const CHECKPOINT_DUE: &str = "checkpoint-due";
const WORD_NOT_IN_CHAIN: &str = "word-not-in-chain";
/// Why a payment that the vendor does not know is given up. Not a rule of any vendor.
const NOT_TAKEN: &str = "not-taken";

/// A client that pays over channels. Shared by all its purchases; those of one channel take turns.
pub struct ChannelPayer<S> {
    domain: Domain,
    key: Arc<Key>,
    limits: Limits,
    checkpoints: Checkpoints,
    store: S,
    edges: Edges,
    slots: Mutex<HashMap<ChannelId, Arc<TurnMutex<Slot>>>>,
}

/// When the client signs checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoints {
    /// Never: the vendor walks.
    Never,
    /// Every so many units, for the word alone.
    Every(u32),
    /// Every so many units, and for the locks since the last one: a lock that does not open is then a proof against this
    /// client (C-4).
    Accountable(u32),
}

/// What is remembered of a channel between payments; a restart costs hashes and one checkpoint.
#[derive(Default)]
struct Slot {
    chain: Option<Arc<Mutex<Chain>>>,
    /// The last checkpoint that the vendor has; `None`: not known.
    checkpointed: Option<Index>,
}

/// What to buy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchase<I> {
    /// Names the purchase for ever: asking again with this order never pays twice.
    pub order: OrderId,
    /// What is asked for.
    pub item: I,
    /// The same as a receipt has it.
    pub item_hash: ItemHash,
    /// What it costs, atomic units.
    pub price: Amount,
    /// Of this asset; the zero address is the native one.
    pub asset: Address,
}

/// A purchase that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid<G> {
    /// What was bought.
    pub good: G,
    /// The order that was delivered: the purchase's, or the last replacement of it.
    pub order: OrderId,
    /// What paid.
    pub payment: Payment,
    /// What budgets were charged with: units that were not revealed before, atomic units.
    pub charged: Amount,
    /// Refusals and failures on the way, by rule.
    pub refusals: Vec<String>,
}

/// Why a purchase was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// The price is not acceptable. Nothing was revealed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Another payment of the channel is under way.
    #[error("another payment of channel {channel} is under way")]
    Busy {
        /// The channel.
        channel: ChannelId,
    },
    /// There is no such channel.
    #[error("there is no channel {channel} in the store")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// The vendor took the word, and could not deliver. Asking again with the same purchase pays with the same word.
    #[error("order {order} is paid, and its good failed: {message}")]
    Failed {
        /// The order.
        order: OrderId,
        /// What went wrong, in words.
        message: String,
    },
    /// The vendor refused the payment.
    #[error("order {order} was refused ({rule}): {message}")]
    Refused {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
        /// The refusal in words.
        message: String,
        /// What can help.
        retry: Retry,
    },
    /// The vendor delivered this before, and no longer knows the payment. A second one is not made.
    #[error(
        "order {order} was paid and delivered before, and the vendor has forgotten it ({rule}); to pay again, begin another purchase"
    )]
    DeliveredBefore {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
    },
    /// The vendor took the payment before, and has nothing for this request. A second one is not made.
    #[error("the payment of order {order} was taken before ({rule}): {message}")]
    Taken {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
        /// What happened, in words.
        message: String,
    },
    /// The vendor cannot take the payment now; the same payment may be taken later.
    #[error("order {order} has to wait ({rule}): {message}")]
    NotNow {
        /// The order.
        order: OrderId,
        /// Stable name of the rule.
        rule: String,
        /// The refusal in words.
        message: String,
    },
    /// The vendor stands at a payment that this client did not make.
    #[error("the vendor says that it delivered payment {delivered} with tag {tag}, which is none of mine")]
    NotMine {
        /// The index it names.
        delivered: Index,
        /// The tag it names.
        tag: Tag,
    },
    /// The vendor refused every payment for a reason that a fresh one should have mended.
    #[error("the vendor refused {payments} payments for one purchase, the last by rule {rule}")]
    TooManyRefusals {
        /// Payments made.
        payments: usize,
        /// The last rule.
        rule: String,
    },
    /// No chain of words can be made for the channel.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A checkpoint cannot be signed.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// Making the chain was interrupted: the process ends.
    #[error("the chain of channel {channel} was not made: the process is ending")]
    Interrupted {
        /// The channel.
        channel: ChannelId,
    },
    /// No answer. The payment may have been accepted; ask again with the same order.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The store failed, or does not let this payment be made. Nothing was sent that is not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PayError {
    /// Whether the same purchase can succeed when tried again.
    pub fn retry(&self) -> bool {
        match self {
            Self::Api(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::NotNow { .. } | Self::Busy { .. } | Self::Failed { .. } => true,
            Self::Limit(_)
            | Self::UnknownChannel { .. }
            | Self::Refused { .. }
            | Self::DeliveredBefore { .. }
            | Self::Taken { .. }
            | Self::NotMine { .. }
            | Self::TooManyRefusals { .. }
            | Self::Chain(_)
            | Self::Scheme(_)
            | Self::Interrupted { .. } => false,
        }
    }

    /// Whether the channel is too short, or too near its end: a top-up or another channel helps.
    pub fn needs_top_up(&self) -> bool {
        match self {
            Self::Refused { retry, .. } => *retry == Retry::TopUp,
            Self::Store(StoreError::PayRefused { source, .. }) => {
                matches!(
                    source,
                    SchemeError::Exhausted { .. } | SchemeError::Expired { .. }
                )
            }
            _ => false,
        }
    }
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self::Every(CHECKPOINT_EVERY)
    }
}

impl<S: ClientChannelStore> ChannelPayer<S> {
    /// A client whose channels' receipts are signed with `key`, and whose chains follow from it.
    pub fn new(
        domain: Domain,
        key: Arc<Key>,
        limits: Limits,
        checkpoints: Checkpoints,
        store: S,
        edges: Edges,
    ) -> Self {
        Self {
            domain,
            key,
            limits,
            checkpoints,
            store,
            edges,
            slots: Mutex::default(),
        }
    }

    /// The domain of its channels.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The key that signs receipts.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Where its payments are.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Time and randomness.
    pub fn edges(&self) -> Edges {
        self.edges
    }

    /// Whether this price would be paid over the channel now, and with how many units. Nothing is revealed.
    pub async fn check(
        &self,
        channel: ChannelId,
        price: Amount,
        asset: Address,
        budgets: &[Budget],
    ) -> Result<u32, PayError>
    where
        S: storage::OrderStore,
    {
        let record = self.record(channel).await?;
        let units = self.units(newest(&record.channel), ItemHash::default(), price, asset)?;
        let left = record.channel.left();
        if units > left {
            let acknowledged = record.channel.acknowledged().index;
            return Err(SchemeError::Exhausted {
                needed: acknowledged.plus(units).unwrap_or(Index(u32::MAX)),
                length: newest(&record.channel).length(),
            }
            .into());
        }
        let worth = newest(&record.channel).unit().saturating_mul(units.into());
        for budget in budgets {
            budget.charge(self.store.spent(&budget.account).await?, worth)?;
        }
        Ok(units)
    }

    /// Buys. Safe to call again with the same purchase, after an error as after a crash: what was revealed is sent again,
    /// byte for byte. Units that are revealed count against each of `budgets`, for ever, whatever became of their good.
    ///
    /// Waits for its turn: one payment of a channel is under way at a time.
    pub async fn pay<V: VendorApi>(
        &self,
        vendor: &V,
        purchase: &Purchase<V::Item>,
        channel: ChannelId,
        budgets: &[Budget],
    ) -> Result<Paid<V::Good>, PayError> {
        let slot = self.slot(channel);
        let mut slot = slot.lock().await;
        self.pay_in_turn(&mut slot, vendor, purchase, channel, budgets)
            .await
    }

    /// [`ChannelPayer::pay`], or [`PayError::Busy`] where it would wait for another payment: for who can pay otherwise.
    pub async fn try_pay<V: VendorApi>(
        &self,
        vendor: &V,
        purchase: &Purchase<V::Item>,
        channel: ChannelId,
        budgets: &[Budget],
    ) -> Result<Paid<V::Good>, PayError> {
        let slot = self.slot(channel);
        let mut slot = slot.try_lock().map_err(|_| PayError::Busy { channel })?;
        self.pay_in_turn(&mut slot, vendor, purchase, channel, budgets)
            .await
    }

    async fn pay_in_turn<V: VendorApi>(
        &self,
        slot: &mut Slot,
        vendor: &V,
        purchase: &Purchase<V::Item>,
        channel: ChannelId,
        budgets: &[Budget],
    ) -> Result<Paid<V::Good>, PayError> {
        let mut refusals = Vec::new();
        let mut order = purchase.order;
        let mut sent = 0;
        while sent < MAX_PAYMENTS {
            let record = match self.store.client_payment(order).await? {
                Some(record) => record,
                None => {
                    self.reveal(slot, vendor, order, purchase, channel, budgets)
                        .await?
                }
            };
            match &record.state {
                // Earlier, perhaps before a crash.
                PaymentState::Refused { rule } => refusals.push(rule.clone()),
                PaymentState::Failed => refusals.push("failed".to_owned()),
                PaymentState::Sent | PaymentState::Delivered => {
                    sent += 1;
                    match self.send(slot, vendor, &record, &purchase.item).await? {
                        Sent::Delivered(good) => {
                            return Ok(Paid {
                                good,
                                order,
                                payment: record.payment,
                                charged: record.charged,
                                refusals,
                            });
                        }
                        Sent::Refused(rule) => refusals.push(rule),
                        Sent::Again => continue,
                    }
                }
            }
            order = replacement(order);
        }
        let rule = refusals.last().cloned().unwrap_or_default();
        Err(PayError::TooManyRefusals { payments: sent, rule })
    }

    // ── load, decide, save ──

    async fn reveal<V: VendorApi>(
        &self,
        slot: &mut Slot,
        vendor: &V,
        order: OrderId,
        purchase: &Purchase<V::Item>,
        channel: ChannelId,
        budgets: &[Budget],
    ) -> Result<PaymentRecord, PayError> {
        let mut settled = false;
        loop {
            let stored = self.record(channel).await?;
            let permit = newest(&stored.channel);
            let units = self.units(permit, purchase.item_hash, purchase.price, purchase.asset)?;
            let chain = self.chain(slot, &stored.channel).await?;
            let now = (self.edges.now)();
            let request = PayRequest {
                order,
                channel,
                price: purchase.price,
                units,
                budgets: budgets.to_vec(),
                at: now,
            };
            let (domain, key, item) = (self.domain, Arc::clone(&self.key), purchase.item_hash);
            let sign = move |channel: &ClientChannel| {
                let at = issued_at(channel, item, now);
                channel.pay(&domain, &key, &mut chain.lock(), item, units, at)
            };
            match self.store.pay(request, sign).await {
                Ok(paid) => return Ok(paid.into_record()),
                // Nobody in this process is waiting for it.
                Err(StoreError::PaymentInFlight { order: other, .. }) if !settled => {
                    settled = true;
                    self.settle(vendor, channel, other).await?;
                }
                Err(StoreError::PaymentInFlight { .. }) => return Err(PayError::Busy { channel }),
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn record(&self, channel: ChannelId) -> Result<ClientChannelRecord, PayError> {
        let record = self.store.client_channel(channel).await?;
        record.ok_or(PayError::UnknownChannel { channel })
    }

    fn units(
        &self,
        permit: &Permit,
        item: ItemHash,
        price: Amount,
        asset: Address,
    ) -> Result<u32, LimitError> {
        self.limits.check(permit, price, asset)?;
        let unit = permit.unit();
        let order = Order::priced(item, asset, price, unit);
        Ok(order.ok_or(LimitError::TooManyUnits { price, unit })?.units)
    }

    /// The chain that pays now: made once, and again after a top-up.
    async fn chain(&self, slot: &mut Slot, channel: &ClientChannel) -> Result<Arc<Mutex<Chain>>, PayError> {
        let permit = newest(channel);
        let (id, length) = (permit.channel(), permit.length());
        if let Some(chain) = &slot.chain
            && chain.lock().length() == length
        {
            return Ok(Arc::clone(chain));
        }
        let generation = u32::try_from(channel.terms().len() - 1).unwrap_or(u32::MAX);
        let seed = chain_seed(&self.key, id, generation, length);
        let position = channel.acknowledged().index;
        // As many hashes as the chain is long.
        let made = tokio::task::spawn_blocking(move || Chain::at(seed, id, length, position)).await;
        let chain = made.map_err(|_| PayError::Interrupted { channel: id })??;
        let chain = Arc::new(Mutex::new(chain));
        slot.chain = Some(Arc::clone(&chain));
        Ok(chain)
    }

    // ── send, and save what came of it ──

    async fn send<V: VendorApi>(
        &self,
        slot: &mut Slot,
        vendor: &V,
        record: &PaymentRecord,
        item: &V::Item,
    ) -> Result<Sent<V::Good>, PayError> {
        let (order, index, channel) = (record.order, record.payment.index, record.payment.channel);
        let (mut payment, mut checkpoint) = (record.payment, None);
        if record.state == PaymentState::Sent {
            checkpoint = self.checkpoint(slot, vendor, channel).await?;
            payment = self.as_of_now(slot, record).await?;
        }
        let mut answer = vendor.pay(order, item, &payment, checkpoint.as_ref()).await?;
        if record.state == PaymentState::Sent && wants_checkpoint(&answer) {
            // Nothing of the payment changes: the checkpoint is for what was revealed with it.
            checkpoint = Some(self.checkpoint_revealed(slot, channel).await?);
            answer = vendor.pay(order, item, &payment, checkpoint.as_ref()).await?;
        }
        if let Some(checkpoint) = &checkpoint {
            let over_locks = !checkpoint.fields.locksRoot.is_zero();
            // One without locks is none of those that accountable mode counts.
            if over_locks || !matches!(self.checkpoints, Checkpoints::Accountable(_)) {
                slot.noted(checkpoint, matches!(answer, Answer::Refused { .. }));
            }
        } else if matches!(&answer, Answer::Refused { rule, .. } if rule == CHECKPOINT_DUE) {
            slot.checkpointed = None;
        }
        match answer {
            Answer::Delivered { good } => {
                self.delivered(record).await?;
                debug!(%order, %index, "delivered");
                Ok(Sent::Delivered(good))
            }
            Answer::Taken { rule, message } => {
                warn!(%order, %index, %rule, %message, "taken before");
                self.delivered(record).await?;
                Err(PayError::Taken { order, rule, message })
            }
            Answer::Failed { message } => {
                if record.state == PaymentState::Sent {
                    self.store.resolve_payment(order, PaymentState::Failed).await?;
                }
                info!(%order, %index, %message, "the word was taken, the good failed");
                Err(PayError::Failed { order, message })
            }
            Answer::Refused {
                rule,
                message,
                retry,
                position,
            } => {
                let refused = Refused {
                    rule,
                    message,
                    retry,
                    position,
                };
                self.refused(vendor, record, refused).await
            }
        }
    }

    /// The good is here. Where the store has it otherwise (another process of this client gave the payment up), the position
    /// is put right.
    async fn delivered(&self, record: &PaymentRecord) -> Result<(), PayError> {
        match self
            .store
            .resolve_payment(record.order, PaymentState::Delivered)
            .await
        {
            Err(StoreError::PaymentMove { order, from, .. }) => {
                warn!(%order, %from, "a payment that was given up was delivered");
                let position = Acknowledged {
                    index: record.payment.index,
                    transcript: record.transcript,
                    sigma: record.sigma,
                };
                match self.store.acknowledge(record.payment.channel, &position).await {
                    Ok(_)
                    | Err(StoreError::PositionBackwards { .. } | StoreError::PaymentInFlight { .. }) => {
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                }
            }
            resolved => {
                resolved?;
                Ok(())
            }
        }
    }

    async fn refused<V: VendorApi>(
        &self,
        vendor: &V,
        record: &PaymentRecord,
        refused: Refused,
    ) -> Result<Sent<V::Good>, PayError> {
        let (order, channel) = (record.order, record.payment.channel);
        let Refused {
            rule,
            message,
            retry,
            position,
        } = refused;
        match retry {
            Retry::NewPayment => debug!(%order, %rule, %message, "refused, a fresh payment will do"),
            Retry::Later => info!(%order, %rule, %message, "refused for now"),
            _ => warn!(%order, %rule, %message, "refused"),
        }
        if retry == Retry::Delivered {
            self.delivered(record).await?;
            return Err(PayError::Taken { order, rule, message });
        }
        // A vendor that stands below what it delivered was restored from a backup.
        if let Some(position) = position
            && self.resend(vendor, channel, position).await?
        {
            return Ok(Sent::Again);
        }
        if retry == Retry::Later {
            // The same payment may still be accepted: it stays as it is.
            return Err(PayError::NotNow { order, rule, message });
        }
        if record.state == PaymentState::Delivered {
            // Never a second payment.
            return Err(PayError::DeliveredBefore { order, rule });
        }
        let state = PaymentState::Refused { rule: rule.clone() };
        self.store.resolve_payment(order, state).await?;
        if retry != Retry::NewPayment {
            return Err(PayError::Refused {
                order,
                rule,
                message,
                retry,
            });
        }
        if let Some((delivered, tag)) = position {
            self.move_to(channel, delivered, tag).await?;
        }
        Ok(Sent::Refused(rule))
    }

    // ── where client and vendor disagree ──

    /// What became of a payment that nobody is waiting for.
    async fn settle<V: VendorApi>(
        &self,
        vendor: &V,
        channel: ChannelId,
        order: OrderId,
    ) -> Result<(), PayError> {
        let Some(record) = self.store.client_payment(order).await? else {
            return Ok(());
        };
        let position = vendor.position(channel).await?;
        let at = position.map(|position| (position.receipt.index, position.receipt.tag));
        info!(%channel, %order, index = %record.payment.index, vendor = ?at, "settling a payment without an answer");
        if at.is_some_and(|(_, tag)| tag == record.payment.tag) {
            return self.delivered(&record).await;
        }
        let state = PaymentState::Refused {
            rule: NOT_TAKEN.to_owned(),
        };
        self.store.resolve_payment(order, state).await?;
        match at {
            Some((delivered, tag)) => self.move_to(channel, delivered, tag).await,
            None => Ok(()),
        }
    }

    /// Takes over that the vendor delivered the payment with this tag, if that is one of those under way.
    async fn move_to(&self, channel: ChannelId, delivered: Index, tag: Tag) -> Result<(), PayError> {
        let stored = self.record(channel).await?;
        let acknowledged = stored.channel.acknowledged();
        if delivered <= acknowledged.index {
            return Ok(());
        }
        let made = stored.channel.in_flight().iter();
        let Some(made) = made.clone().find(|made| made.payment.tag == tag) else {
            return Err(PayError::NotMine { delivered, tag });
        };
        let position = Acknowledged {
            index: made.payment.index,
            transcript: made.transcript,
            sigma: made.sigma,
        };
        self.store.acknowledge(channel, &position).await?;
        info!(%channel, index = %delivered, "the vendor had delivered what was given up");
        Ok(())
    }

    /// Sends delivered payments again that a vendor has lost, if the one at which it stands is this client's. Whether there
    /// were any.
    async fn resend<V: VendorApi>(
        &self,
        vendor: &V,
        channel: ChannelId,
        (at, tag): (Index, Tag),
    ) -> Result<bool, PayError> {
        let stored = self.record(channel).await?;
        let mine = stored.channel.acknowledged().index;
        if at >= mine {
            return Ok(false);
        }
        let known = self.delivered_payments(channel, at, mine).await?;
        let opening = &stored.channel.terms()[0];
        let stands = if at == Index::ZERO {
            opening.tag0() == tag
        } else {
            self.delivered_at(channel, at)
                .await?
                .is_some_and(|record| record.payment.tag == tag)
        };
        // Without a gap, else the vendor cannot follow.
        let first = known.first().map(|record| record.previous);
        if !stands || first != Some(at) {
            return Ok(false);
        }
        let lost: Vec<_> = known
            .iter()
            .map(|record| (record.order, record.payment))
            .collect();
        warn!(%channel, from = %at, payments = lost.len(), "the vendor has lost payments; sending them again");
        vendor.resend(channel, &lost).await?;
        Ok(true)
    }

    async fn delivered_at(
        &self,
        channel: ChannelId,
        index: Index,
    ) -> Result<Option<PaymentRecord>, PayError> {
        let all = self.store.client_payments(channel, index..=index).await?;
        Ok(all
            .into_iter()
            .find(|record| record.state == PaymentState::Delivered))
    }

    /// Payments above `after` up to `upto` that are delivered, in order.
    async fn delivered_payments(
        &self,
        channel: ChannelId,
        after: Index,
        upto: Index,
    ) -> Result<Vec<PaymentRecord>, PayError> {
        let from = after.plus(1).unwrap_or(after);
        let mut all = self.store.client_payments(channel, from..=upto).await?;
        all.retain(|record| record.state == PaymentState::Delivered);
        Ok(all)
    }

    // ── checkpoints ──

    /// A payment under way as it is sent now: after a top-up with the word of the newest chain.
    async fn as_of_now(&self, slot: &mut Slot, record: &PaymentRecord) -> Result<Payment, PayError> {
        let stored = self.record(record.payment.channel).await?;
        if stored.channel.terms().len() == 1 {
            return Ok(record.payment);
        }
        let chain = self.chain(slot, &stored.channel).await?;
        let mut chain = chain.lock();
        Ok(stored.channel.send_again(&mut chain, record.payment.tag)?)
    }

    /// A checkpoint at the highest index revealed: it saves the vendor a walk that it does not take.
    async fn checkpoint_revealed(
        &self,
        slot: &mut Slot,
        channel: ChannelId,
    ) -> Result<SignedCheckpoint, PayError> {
        let stored = self.record(channel).await?;
        let chain = self.chain(slot, &stored.channel).await?;
        let mut chain = chain.lock();
        Ok(stored
            .channel
            .checkpoint_revealed(&self.domain, &self.key, &mut chain)?)
    }

    /// The checkpoint that is due, at the acknowledged index.
    async fn checkpoint<V: VendorApi>(
        &self,
        slot: &mut Slot,
        vendor: &V,
        channel: ChannelId,
    ) -> Result<Option<SignedCheckpoint>, PayError> {
        let (every, accountable) = match self.checkpoints {
            Checkpoints::Never => return Ok(None),
            Checkpoints::Every(every) => (every, false),
            Checkpoints::Accountable(every) => (every, true),
        };
        let stored = self.record(channel).await?;
        let acknowledged = stored.channel.acknowledged().index;
        if !checkpoint_due(slot.checkpointed.unwrap_or_default(), acknowledged, every) {
            return Ok(None);
        }
        let mut root = alloy_primitives::B256::ZERO;
        if accountable {
            let last = match slot.checkpointed {
                Some(last) => last,
                None => self.known_checkpoint(vendor, channel).await?,
            };
            slot.checkpointed = Some(last);
            if !checkpoint_due(last, acknowledged, every) {
                return Ok(None);
            }
            let records = self.delivered_payments(channel, last, acknowledged).await?;
            let receipts: Vec<_> = records.iter().map(|record| record.payment.receipt()).collect();
            // A leaf that names the wrong predecessor would be a proof against its signer.
            let follow =
                |last, record: &PaymentRecord| (record.previous == last).then_some(record.payment.index);
            let end = records.iter().try_fold(last, follow);
            if end != Some(acknowledged) {
                debug!(%channel, %last, %acknowledged, "no checkpoint: not all locks since the last one are known");
                return Ok(None);
            }
            root = LockTree::over(&receipts, last)
                .map_err(|_| SchemeError::NothingPaid {
                    got: acknowledged,
                    low: Index(1),
                })?
                .root();
        }
        let chain = self.chain(slot, &stored.channel).await?;
        let mut chain = chain.lock();
        Ok(Some(stored.channel.checkpoint(
            &self.domain,
            &self.key,
            &mut chain,
            root,
        )?))
    }

    /// The vendor's last checkpoint, if it is at a payment that this client made; else the opening.
    async fn known_checkpoint<V: VendorApi>(
        &self,
        vendor: &V,
        channel: ChannelId,
    ) -> Result<Index, PayError> {
        let position = vendor.position(channel).await?;
        let last = position.map_or(Index::ZERO, |position| position.accounted);
        if last == Index::ZERO || self.delivered_at(channel, last).await?.is_some() {
            return Ok(last);
        }
        Ok(Index::ZERO)
    }

    fn slot(&self, channel: ChannelId) -> Arc<TurnMutex<Slot>> {
        Arc::clone(self.slots.lock().entry(channel).or_default())
    }
}

impl Slot {
    /// The vendor has seen a checkpoint. Where it refused it may be for the checkpoint's sake, so that it will be asked what it
    /// has.
    fn noted(&mut self, checkpoint: &SignedCheckpoint, refused: bool) {
        self.checkpointed = (!refused).then(|| checkpoint.index());
    }
}

/// Whether the vendor takes the word with a checkpoint: a close would walk too far, or the channel has a longer chain.
fn wants_checkpoint<G>(answer: &Answer<G>) -> bool {
    match answer {
        Answer::Refused { rule, retry, .. } => *retry == Retry::Checkpoint || rule == WORD_NOT_IN_CHAIN,
        _ => false,
    }
}

enum Sent<G> {
    Delivered(G),
    Refused(String),
    /// The vendor has caught up: the same payment once more.
    Again,
}

struct Refused {
    rule: String,
    message: String,
    retry: Retry,
    position: Option<(Index, Tag)>,
}

fn newest(channel: &ClientChannel) -> &Permit {
    // A channel has terms.
    channel.terms()[channel.terms().len() - 1].permit()
}

/// Now, or later than any payment under way for the same item: a payment that takes the place of another is another.
fn issued_at(channel: &ClientChannel, item: ItemHash, now: Timestamp) -> Timestamp {
    channel
        .in_flight()
        .iter()
        .filter(|made| made.payment.item == item)
        .map(|made| Timestamp(made.payment.issued_at.0.saturating_add(1)))
        .fold(now, Timestamp::max)
}

/// The order that takes the place of one that failed or was refused. It follows from it, so that a client that was killed in
/// between comes to the same.
fn replacement(order: OrderId) -> OrderId {
    OrderId(keccak256(
        [b"micropay/channel/replacement/v1".as_slice(), order.0.as_slice()].concat(),
    ))
}
