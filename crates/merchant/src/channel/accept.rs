//! Step `accept`: judges a payment on what is in memory, and has it on disk before the caller may deliver. No chain call and
//! no signature stands on the path of a payment, except where it brings a checkpoint.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, keccak256};
use chain::{Channels, MirrorView};
use protocol::channel::{
    Accepted, Admission, Amount, ChannelId, ChannelRecord, CheckpointError, Index, Order, Paid, Payment,
    Refusal, Retry, SignedCheckpoint, Status, Tag, Timestamp, VendorChannel, accept, checkpoint_due, walk,
};
use protocol::ticket::OrderId;
use storage::StoreError;
use storage::channel::{ChannelDomainStore, CheckpointRecord, PaymentFate, VendorChannelStore};
use tokio::sync::OwnedMutexGuard;
use tracing::{debug, info, warn};

use super::vendor::{Accountability, Pending, Slot, State, Vendor};

/// How often a channel is read again on the word of somebody who does not show a word of it.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// How often a payment is judged: once, once more where another process has moved the channel on.
const ATTEMPTS: usize = 3;

/// What is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sale {
    /// The client's name of the purchase, and what is bought: the same payment buys nothing else.
    pub order: OrderId,
    /// What it is, as a receipt has it.
    pub item: protocol::channel::ItemHash,
    /// What it costs, atomic units.
    pub price: Amount,
    /// Of this asset; the zero address is the native one.
    pub asset: Address,
}

/// What came of a payment that is taken.
#[must_use = "a payment that is taken is delivered only by `delivered`"]
pub enum Admitted<S: VendorChannelStore + Clone + Send + Sync + 'static> {
    /// Deliver, and say what came of it.
    Deliver(Delivery<S>),
    /// The good of this very payment and order was delivered before.
    Repeat(Receipt),
}

/// A payment that is on disk, whose good is on its way. Until it is known what came of it no other payment of the channel
/// is taken. Dropped, it is kept, as by [`Delivery::kept`].
pub struct Delivery<S: VendorChannelStore + Clone + Send + Sync + 'static> {
    vendor: Arc<Vendor<S>>,
    /// Taken when it is known what came of it.
    slot: Option<Arc<Slot>>,
    receipt: Receipt,
}

/// What a client gets for its payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The channel.
    pub channel: ChannelId,
    /// Who pays.
    pub client: Address,
    /// The purchase.
    pub order: OrderId,
    /// Units paid with it, in all.
    pub index: Index,
    /// Pins the client's signature.
    pub tag: Tag,
    /// What the good costs, atomic units.
    pub price: Amount,
    /// Of this asset.
    pub asset: Address,
    /// Whether its good was delivered before, for this same order.
    pub repeat: bool,
}

/// Why a payment is not accepted. Nothing was stored, and the payment can be sent again where that can help.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It breaks an admission rule.
    #[error("{refusal}")]
    Refused {
        /// The rule, with its values.
        refusal: Refusal,
        /// The last payment that counts, where that helps the client.
        position: Option<(Index, Tag)>,
    },
    /// The payment bought something else.
    #[error("payment {index} with tag {tag} paid for another order than {got}")]
    OtherOrder {
        /// The payment.
        index: Index,
        /// Its tag.
        tag: Tag,
        /// The order that it was now to pay for.
        got: OrderId,
        /// The order that it paid for.
        stored: OrderId,
    },
    /// The good of this payment is on its way, for an earlier request.
    #[error("payment {index} is being delivered; ask again")]
    Busy {
        /// The payment.
        index: Index,
    },
    /// The checkpoint that came with it is wrong.
    #[error("the checkpoint is wrong: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It came without the checkpoint that is due.
    #[error(
        "a checkpoint is due: the last one is at {last}, delivered is {delivered}, the limit is {every} units"
    )]
    CheckpointDue {
        /// Index of the last one.
        last: Index,
        /// Units delivered.
        delivered: Index,
        /// Units from one to the next.
        every: u32,
    },
    /// It could not be stored: it is not accepted.
    #[error("the payment could not be stored: {0}")]
    Store(#[from] StoreError),
    /// The process ends.
    #[error("payment {index} was not stored: the process is ending")]
    Interrupted {
        /// The payment.
        index: Index,
    },
}

impl From<Refusal> for AcceptError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused {
            refusal,
            position: None,
        }
    }
}

impl AcceptError {
    /// The rule's name, in kebab case; never changes.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } => refusal.rule(),
            Self::OtherOrder { .. } => "other-order",
            Self::Busy { .. } => "busy",
            Self::Checkpoint(_) => "wrong-checkpoint",
            Self::CheckpointDue { .. } => "checkpoint-due",
            Self::Store(_) | Self::Interrupted { .. } => "try-later",
        }
    }

    /// What the client can do about it.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused { refusal, .. } => refusal.retry(),
            Self::OtherOrder { .. } => Retry::Never,
            Self::Checkpoint(_) | Self::CheckpointDue { .. } => Retry::NewPayment,
            Self::Busy { .. } | Self::Store(_) | Self::Interrupted { .. } => Retry::Later,
        }
    }

    /// The last payment that counts, where that helps the client.
    pub fn position(&self) -> Option<(Index, Tag)> {
        match self {
            Self::Refused { position, .. } => *position,
            _ => None,
        }
    }
}

/// What memory says of a payment.
enum Judged {
    Accepted(Box<Accepted>),
    /// Taken by an earlier process, or its client broke off.
    Again,
    /// Delivered.
    Repeat,
    Error(AcceptError),
}

/// A checkpoint that is good, and what the vendor holds with it.
struct Kept {
    checkpoint: CheckpointRecord,
    paid: Paid,
}

/// What a payment is judged on, besides the channel's state.
struct Case<'a> {
    payment: Payment,
    checkpoint: Option<SignedCheckpoint>,
    sale: Sale,
    order: Order,
    view: &'a MirrorView<Channels>,
    record: &'a ChannelRecord,
    now: Timestamp,
}

impl<S> Vendor<S>
where
    S: ChannelDomainStore + VendorChannelStore + Clone + Send + Sync + 'static,
{
    /// Step `accept`. On `Ok` the payment is on disk; it is stored to the end even if the caller stops waiting.
    pub async fn admit(
        self: &Arc<Self>,
        sale: Sale,
        payment: Payment,
        checkpoint: Option<SignedCheckpoint>,
        now: Timestamp,
    ) -> Result<Admitted<S>, AcceptError> {
        // The channel must exist and be this vendor's before anything is remembered of it: made-up ids cost nothing.
        let view = self.mirror.view(payment.channel);
        let record = view.last_final.as_deref().or(view.head.as_deref());
        let record = record.ok_or(Refusal::ChannelMissing {
            channel: payment.channel,
        })?;
        if record.vendor != self.recipient {
            return Err(Refusal::WrongVendor {
                got: record.vendor,
                me: self.recipient,
            }
            .into());
        }
        let order = Order::priced(sale.item, sale.asset, sale.price, record.unit());
        let order = order.ok_or(Refusal::PaysTooLittle {
            got: payment.index.0,
            price: u32::MAX,
        })?;
        let case = Case {
            payment,
            checkpoint,
            sale,
            order,
            view: &view,
            record,
            now,
        };
        let slot = self.slot(payment.channel);
        let (mut fresh, mut bridged) = (false, false);
        for attempt in 1.. {
            let turn = Arc::clone(&slot.turn).lock_owned().await;
            if slot.state.lock().is_none() {
                self.load(&slot, record).await?;
                fresh = true;
            }
            let error = match self.judge(&slot, &case) {
                Judged::Accepted(accepted) => match self.take(&slot, turn, *accepted, &case).await {
                    Ok(Some(delivery)) => return Ok(Admitted::Deliver(delivery)),
                    // Another process has moved the channel on, or has this very payment.
                    Ok(None) if attempt < ATTEMPTS => continue,
                    Ok(None) => AcceptError::Busy { index: payment.index },
                    Err(error) => error,
                },
                Judged::Again => {
                    if let Some(state) = &mut *slot.state.lock() {
                        state.in_delivery = true;
                    }
                    debug!(channel = %payment.channel, index = %payment.index, "delivering again");
                    return Ok(Admitted::Deliver(self.delivery(&slot, &case)));
                }
                Judged::Repeat => return Ok(Admitted::Repeat(receipt(&case, true))),
                Judged::Error(error) if !bridged && needs_checkpoint(&error) && case.checkpoint.is_some() => {
                    bridged = true;
                    if self.bridge(&slot, &case).await? {
                        continue;
                    }
                    error
                }
                Judged::Error(error) => error,
            };
            if !fresh && self.may_be_stale(&slot, &case, &error) {
                *slot.state.lock() = None;
                continue;
            }
            return self.earlier(&slot, &case, error).await;
        }
        Err(AcceptError::Busy { index: payment.index })
    }

    /// Takes back payments that a vendor restored from a backup has lost, in order: their goods were delivered, so that
    /// whatever they say is what was ordered. Answers how many are new.
    ///
    /// The orders are the client's word, and what they cost is not known any more. So each is stored under a name that no
    /// request has: none can redeem it, here or at another process that sees it before it is marked as delivered.
    pub async fn restore(
        self: &Arc<Self>,
        payments: &[(OrderId, Payment)],
        now: Timestamp,
    ) -> Result<usize, AcceptError> {
        let mut taken = 0;
        for (order, payment) in payments {
            let record = self.record(payment.channel);
            let record = record.ok_or(Refusal::ChannelMissing {
                channel: payment.channel,
            })?;
            let standing = self.standing(payment.channel).await?;
            let last = standing.map_or(Index::ZERO, |standing| standing.receipt.index);
            let sale = Sale {
                order: restored(*order),
                item: payment.item,
                price: record.unit().saturating_mul(payment.index.above(last).into()),
                asset: record.opening().asset,
            };
            match self.admit(sale, *payment, None, now).await {
                Ok(Admitted::Deliver(delivery)) => {
                    delivery.delivered(|_| ()).await;
                    taken += 1;
                }
                // Not lost at all.
                Ok(Admitted::Repeat(_)) | Err(AcceptError::OtherOrder { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        info!(payments = taken, "took payments back that were lost");
        Ok(taken)
    }

    /// Load is done; decide.
    fn judge(&self, slot: &Slot, case: &Case<'_>) -> Judged {
        let mut state = slot.state.lock();
        let Some(state) = &mut *state else {
            return Judged::Error(AcceptError::Busy {
                index: case.payment.index,
            });
        };
        if let Some(known) = known(state, case, self.config.policy.max_jump) {
            return known;
        }
        let admission = Admission {
            me: self.recipient,
            channel: &state.channel,
            view: case.view.as_view(),
            mirror_age: self.mirror_age(),
            order: case.order,
            in_delivery: state.in_delivery,
            now: case.now,
            policy: &self.config.policy,
        };
        match accept(case.payment, &admission) {
            Ok(accepted) => self
                .check_due(state, case, &accepted)
                .map_or_else(Judged::Error, |()| Judged::Accepted(Box::new(accepted))),
            Err(refusal) => Judged::Error(refused(
                state,
                &case.payment,
                self.config.policy.max_jump,
                refusal,
            )),
        }
    }

    fn check_due(&self, state: &State, case: &Case<'_>, accepted: &Accepted) -> Result<(), AcceptError> {
        let Accountability::Required { every } = self.config.accountability else {
            return Ok(());
        };
        let (last, delivered) = (state.accounted, accepted.channel().delivered.index);
        let over_locks = |checkpoint: &SignedCheckpoint| !checkpoint.fields.locksRoot.is_zero();
        if !case.checkpoint.as_ref().is_some_and(over_locks) && checkpoint_due(last, delivered, every) {
            return Err(AcceptError::CheckpointDue {
                last,
                delivered,
                every,
            });
        }
        Ok(())
    }

    /// Save. `None`: another process was faster, and the channel has to be read again.
    async fn take(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        turn: OwnedMutexGuard<()>,
        accepted: Accepted,
        case: &Case<'_>,
    ) -> Result<Option<Delivery<S>>, AcceptError> {
        let kept = self.check_checkpoint(slot, accepted.channel(), case).await?;
        let (vendor, slot) = (Arc::clone(self), Arc::clone(slot));
        let delivery = self.delivery(&slot, case);
        let (sale, index, now, settled) = (case.sale, case.payment.index, case.now, case.record.settled);
        // To the end, whoever stops waiting: what is in the store must be in memory.
        let saved = tokio::spawn(async move {
            let _turn = turn;
            let stored = vendor
                .store
                .save_payment(&accepted, sale.order, sale.price, now)
                .await;
            match stored {
                Ok(true) => {}
                Ok(false) | Err(StoreError::PaymentStale { .. }) => {
                    delivery.forget();
                    return Ok(None);
                }
                Err(error) => {
                    // It may be stored all the same.
                    let channel = accepted.channel().id;
                    delivery.forget();
                    return Err(match error {
                        StoreError::ChannelClosing { .. } => {
                            Refusal::ChannelClosed { channel, settled }.into()
                        }
                        StoreError::PaymentOfOrder {
                            index, got, stored, ..
                        } => AcceptError::OtherOrder {
                            index,
                            tag: accepted.payment().tag,
                            got,
                            stored,
                        },
                        error => AcceptError::Store(error),
                    });
                }
            }
            if let Some(state) = &mut *slot.state.lock() {
                state.taken(&accepted, sale.order);
            }
            if let Some(kept) = kept {
                vendor.keep_checkpoint(&slot, &kept).await;
            }
            Ok(Some(delivery))
        });
        saved.await.map_err(|_| AcceptError::Interrupted { index })?
    }

    /// The checkpoint that came along, if it is good, and the channel with it. A wrong one is a refusal where clients sign for
    /// their locks.
    async fn check_checkpoint(
        &self,
        slot: &Slot,
        channel: &VendorChannel,
        case: &Case<'_>,
    ) -> Result<Option<Kept>, AcceptError> {
        let Some(checkpoint) = &case.checkpoint else {
            return Ok(None);
        };
        let id = channel.id;
        let last = slot
            .state
            .lock()
            .as_ref()
            .map_or(Index::ZERO, |state| state.accounted);
        // Without locks it only shortens a walk.
        let over_locks = !checkpoint.fields.locksRoot.is_zero();
        let mut receipts = Vec::new();
        if over_locks {
            let after = last.plus(1).unwrap_or(last);
            let payments = self.store.vendor_payments(id, after..=checkpoint.index()).await?;
            receipts = payments.iter().map(|payment| payment.payment.receipt()).collect();
        }
        let locks = over_locks.then_some((last, receipts.as_slice()));
        let error = match channel.take_checkpoint(&self.domain, case.record, checkpoint, locks) {
            Ok(taken) => {
                return Ok(Some(Kept {
                    checkpoint: CheckpointRecord {
                        signed: checkpoint.clone(),
                        chain: taken.paid.chain,
                    },
                    paid: taken.paid,
                }));
            }
            Err(error) => error,
        };
        match error {
            // An old one is no offence: an answer was lost.
            CheckpointError::IndexNotAboveLast { .. } | CheckpointError::IndexOutOfRange { .. } => {
                debug!(channel = %id, %error, "a checkpoint says nothing new");
                return Ok(None);
            }
            // Anybody may sign a checkpoint that is not the client's.
            CheckpointError::Signature(_) | CheckpointError::WrongSigner { .. } => {}
            _ => self.note_misbehaviour(id),
        }
        warn!(channel = %id, %error, "a client's checkpoint is wrong");
        if self.config.accountability == Accountability::Welcome {
            Ok(None)
        } else {
            Err(error.into())
        }
    }

    /// Takes a checkpoint before the payment that needs it. Whether it helps.
    async fn bridge(&self, slot: &Slot, case: &Case<'_>) -> Result<bool, AcceptError> {
        let channel = slot.state.lock().as_ref().map(|state| state.channel);
        let Some(channel) = channel else {
            return Ok(false);
        };
        let Some(kept) = self.check_checkpoint(slot, &channel, case).await? else {
            return Ok(false);
        };
        // It may be worth more than any payment: so it is stored first.
        self.store.save_checkpoint(&kept.checkpoint).await?;
        if let Some(state) = &mut *slot.state.lock() {
            state.keep(&kept);
        }
        Ok(true)
    }

    async fn keep_checkpoint(&self, slot: &Slot, kept: &Kept) {
        if let Err(error) = self.store.save_checkpoint(&kept.checkpoint).await {
            warn!(%error, "a checkpoint could not be stored; closing takes a longer walk");
            return;
        }
        if let Some(state) = &mut *slot.state.lock() {
            state.keep(kept);
        }
    }

    /// Whether the refusal may come from what another process has taken meanwhile. Whoever shows the next word is a client;
    /// a stranger makes the store work once in a while.
    fn may_be_stale(&self, slot: &Slot, case: &Case<'_>, error: &AcceptError) -> bool {
        let AcceptError::Refused { refusal, .. } = error else {
            return false;
        };
        let behind = matches!(
            refusal,
            Refusal::PaysTooMuch { .. }
                | Refusal::PaysTooLittle { .. }
                | Refusal::JumpTooFar { .. }
                | Refusal::WordNotInChain { .. }
                | Refusal::CheckpointNeeded { .. }
        );
        let state = slot.state.lock();
        behind
            && state.as_ref().is_some_and(|state| {
                !state.in_delivery
                    && (state.loaded_at.elapsed() >= RELOAD_PAUSE
                        || shows_word(state, &case.payment, self.config.policy.max_jump))
            })
    }

    /// A client whose answer was lost may ask again long after. Only who shows the word may make the store work.
    async fn earlier(
        &self,
        slot: &Slot,
        case: &Case<'_>,
        error: AcceptError,
    ) -> Result<Admitted<S>, AcceptError> {
        let backwards = matches!(
            error,
            AcceptError::Refused {
                refusal: Refusal::IndexBackwards { .. }
                    | Refusal::ChannelClosed { .. }
                    | Refusal::TooLate { .. },
                ..
            }
        );
        let shown = slot
            .state
            .lock()
            .as_ref()
            .is_some_and(|state| shows_word(state, &case.payment, self.config.policy.max_jump));
        if !backwards || !shown {
            return Err(error);
        }
        let index = case.payment.index;
        let there = self
            .store
            .vendor_payments(case.payment.channel, index..=index)
            .await?;
        match there
            .first()
            .filter(|there| there.payment.receipt() == case.payment.receipt())
        {
            Some(there) if there.order == case.sale.order => Ok(Admitted::Repeat(receipt(case, true))),
            Some(there) => Err(AcceptError::OtherOrder {
                index,
                tag: case.payment.tag,
                got: case.sale.order,
                stored: there.order,
            }),
            None => Err(error),
        }
    }

    fn delivery(self: &Arc<Self>, slot: &Arc<Slot>, case: &Case<'_>) -> Delivery<S> {
        Delivery {
            vendor: Arc::clone(self),
            slot: Some(Arc::clone(slot)),
            receipt: receipt(case, false),
        }
    }
}

impl State {
    /// The checkpoint is on disk.
    fn keep(&mut self, kept: &Kept) {
        self.channel.paid = kept.paid;
        let signed = &kept.checkpoint.signed;
        if !signed.fields.locksRoot.is_zero() {
            self.accounted = self.accounted.max(signed.index());
        }
    }

    /// The payment is on disk, and its good on its way.
    fn taken(&mut self, accepted: &Accepted, order: OrderId) {
        if let Some(receipt) = accepted.confirmed() {
            self.last = self.pending.map(|pending| (pending.order, *receipt));
        }
        self.channel = *accepted.channel();
        self.pending = Some(Pending { order, taken: true });
        self.in_delivery = true;
    }
}

impl<S> Delivery<S>
where
    S: VendorChannelStore + Clone + Send + Sync + 'static,
{
    /// What the client gets, once it is delivered.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The good leaves. `keep` is called before anybody who asks again is told so: what it keeps is there for them.
    pub async fn delivered(mut self, keep: impl FnOnce(&Receipt)) -> Receipt {
        keep(&self.receipt);
        let receipt = self.receipt;
        if let Some(slot) = self.slot.take()
            && let Some(state) = &mut *slot.state.lock()
        {
            state.delivered(receipt.tag);
        }
        // The next payment says the same: nobody waits for it.
        let store = self.vendor.store.clone();
        tokio::spawn(async move {
            let marked = store
                .mark_payment(receipt.channel, receipt.tag, PaymentFate::Delivered)
                .await;
            if let Err(error) = marked {
                // After a restart a client that asks again gets its good twice.
                warn!(channel = %receipt.channel, index = %receipt.index, %error, "cannot note that a good was delivered");
            }
        });
        receipt
    }

    /// There is no good: the word stays, and another order may have it, at the same index.
    pub async fn failed(mut self) {
        let Some(slot) = self.slot.take() else { return };
        let (store, receipt) = (self.vendor.store.clone(), self.receipt);
        // To the end, whoever stops waiting: memory and store must say the same.
        let done = tokio::spawn(async move {
            let marked = store
                .mark_payment(receipt.channel, receipt.tag, PaymentFate::Failed)
                .await;
            let mut state = slot.state.lock();
            match (marked, &mut *state) {
                (Ok(_), Some(state)) => state.failed(),
                (Ok(_), None) => {}
                (Err(error), _) => {
                    warn!(channel = %receipt.channel, index = %receipt.index, %error, "cannot note that a good failed");
                    *state = None;
                }
            }
        });
        if done.await.is_err() {
            debug!("the process is ending");
        }
    }

    /// The client broke off what it asked for: it is taken, and the same order may ask again.
    pub fn kept(mut self) {
        self.keep();
    }

    fn keep(&mut self) {
        if let Some(slot) = self.slot.take()
            && let Some(state) = &mut *slot.state.lock()
        {
            state.in_delivery = false;
        }
    }

    /// It did not come to a delivery, and memory may be wrong.
    fn forget(mut self) {
        if let Some(slot) = self.slot.take() {
            *slot.state.lock() = None;
        }
    }
}

impl<S> Drop for Delivery<S>
where
    S: VendorChannelStore + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.keep();
    }
}

/// The name of a purchase whose payment was taken back.
fn restored(order: OrderId) -> OrderId {
    OrderId(keccak256(
        [b"micropay/channel/restored/v1".as_slice(), order.0.as_slice()].concat(),
    ))
}

/// What is to be said of a payment that was there before; `None`: it is to be judged.
fn known(state: &State, case: &Case<'_>, max_jump: u32) -> Option<Judged> {
    let (payment, order) = (&case.payment, case.sale.order);
    let other_order = |stored| {
        Judged::Error(AcceptError::OtherOrder {
            index: payment.index,
            tag: payment.tag,
            got: order,
            stored,
        })
    };
    let delivered = state.channel.delivered;
    // Index, tag and order are no secrets, and words are on the chain once they are settled. The lock is neither: only the
    // client has it, and gets the answer again.
    if let Some((last, receipt)) = state.last
        && receipt.tag == delivered.tag
        && receipt == payment.receipt()
    {
        return Some(if last == order {
            Judged::Repeat
        } else {
            other_order(last)
        });
    }
    let (pending, fate) = (state.channel.pending.as_ref()?, state.pending?);
    // The word may be that of a longer chain by now.
    if pending.receipt() == payment.receipt() {
        if fate.order != order {
            return Some(other_order(fate.order));
        }
        return match (state.in_delivery, fate.taken) {
            (true, _) => Some(Judged::Error(AcceptError::Busy { index: payment.index })),
            // Another item than the one it was taken for is judged, and refused.
            (false, true) if payment.item == case.sale.item => Some(Judged::Again),
            (false, true) => None,
            (false, false) => None, // it failed, and is taken again
        };
    }
    // At or below a payment that is taken another one cannot stand. The client learns which it is.
    (fate.taken && !state.in_delivery && payment.index > delivered.index && payment.index <= pending.index)
        .then(|| {
            let refusal = Refusal::IndexBackwards {
                got: payment.index,
                delivered: pending.index,
                tag: pending.tag,
            };
            Judged::Error(refused(state, payment, max_jump, refusal))
        })
}

/// A refusal. Where the channel stands, and the tag of its last payment, only who shows a word learns.
fn refused(state: &State, payment: &Payment, max_jump: u32, refusal: Refusal) -> AcceptError {
    if !shows_word(state, payment, max_jump) {
        let refusal = match refusal {
            Refusal::IndexBackwards { got: index, .. } | Refusal::AlreadyDelivered { index, .. } => {
                Refusal::WordNotInChain {
                    index,
                    walked: payment.word,
                    known: payment.word,
                }
            }
            refusal => refusal,
        };
        return AcceptError::Refused {
            refusal,
            position: None,
        };
    }
    let position = match refusal {
        Refusal::IndexBackwards { delivered, tag, .. } => Some((delivered, tag)),
        Refusal::PaysTooMuch { .. } | Refusal::PaysTooLittle { .. } | Refusal::JumpTooFar { .. } => {
            Some(state.standing())
        }
        _ => None,
    };
    AcceptError::Refused { refusal, position }
}

/// Whether a checkpoint helps, if it is the client's.
fn needs_checkpoint(error: &AcceptError) -> bool {
    matches!(
        error,
        AcceptError::Refused {
            refusal: Refusal::CheckpointNeeded { .. }
                | Refusal::WordNotInChain { .. }
                | Refusal::JumpTooFar { .. },
            ..
        }
    )
}

/// Whether the payment's word is one of the words that only the client and this vendor know, or leads to one.
fn shows_word(state: &State, payment: &Payment, max_walk: u32) -> bool {
    let held = state.channel.paid;
    let (upper, lower) = if payment.index > held.index {
        ((payment.index, payment.word), (held.index, held.word))
    } else {
        ((held.index, held.word), (payment.index, payment.word))
    };
    let steps = upper.0.above(lower.0);
    steps <= max_walk && walk(upper.1, payment.channel, steps) == lower.1
}

fn receipt(case: &Case<'_>, repeat: bool) -> Receipt {
    Receipt {
        channel: case.payment.channel,
        client: case.record.client,
        order: case.sale.order,
        index: case.payment.index,
        tag: case.payment.tag,
        price: case.sale.price,
        asset: case.sale.asset,
        repeat,
    }
}

/// Whether the chain says that the channel is over, at the newest block.
pub(super) fn is_closed(view: &MirrorView<Channels>) -> bool {
    [&view.head, &view.last_final]
        .into_iter()
        .flatten()
        .any(|record| record.status() == Status::Closed)
}
