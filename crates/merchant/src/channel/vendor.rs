//! The vendor: what it has of each channel, in memory while it is used and in the store for ever. Nothing is locked across
//! channels; the payments of one take turns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use alloy_primitives::Address;
use chain::{Channels, Mirror};
use parking_lot::Mutex;
use protocol::channel::{
    CHECKPOINT_EVERY, ChannelId, ChannelRecord, Domain, Index, LockedReceipt, Policy, Seconds, Tag,
    Transcript, VendorChannel, Word,
};
use protocol::ticket::OrderId;
use storage::StoreError;
use storage::channel::{
    ChannelDomainStore, CheckpointRecord, VendorChannelRecord, VendorChannelStore, VendorPaymentState,
};
use tokio::sync::Mutex as TurnMutex;
use tracing::warn;

/// A vendor that is paid at one address. Shared by all its clients' requests, any number at once.
pub struct Vendor<S> {
    pub(super) domain: Domain,
    pub(super) recipient: Address,
    pub(super) config: VendorConfig,
    pub(super) mirror: Arc<Mirror<Channels>>,
    pub(super) store: S,
    slots: Mutex<HashMap<ChannelId, Arc<Slot>>>,
    /// Clients that signed what is not so, since this process was started.
    misbehaved: Mutex<HashSet<ChannelId>>,
}

/// What a vendor asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorConfig {
    /// Of channels and payments.
    pub policy: Policy,
    /// Whether clients have to sign for their locks.
    pub accountability: Accountability,
    /// About how many channels are kept in memory; beyond, those at rest are read from the store when they pay again.
    pub max_slots: usize,
}

/// Whether clients have to sign for their locks (C-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accountability {
    /// Checkpoints are welcome. A wrong one is not stored.
    Welcome,
    /// Payments this many units after the last checkpoint bring the next one, over all locks since, or are refused.
    Required {
        /// The units.
        every: u32,
    },
}

/// Where a vendor stands in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The last receipt that counts: taken or delivered.
    pub receipt: LockedReceipt,
    /// The transcript before it.
    pub before: Transcript,
    /// Index of the last checkpoint over locks; 0 if there is none.
    pub accounted: Index,
    /// The highest word, with its index: what the client revealed.
    pub held: (Index, Word),
}

/// One channel in memory.
pub(super) struct Slot {
    /// Payments are judged and stored one after another; a good is delivered without holding it.
    pub(super) turn: Arc<TurnMutex<()>>,
    /// `None`: to be loaded.
    pub(super) state: Mutex<Option<State>>,
}

/// What a vendor has of a channel.
pub(super) struct State {
    pub(super) channel: VendorChannel,
    /// Of the payment in `channel.pending`.
    pub(super) pending: Option<Pending>,
    /// The last delivered payment, and what it bought.
    pub(super) last: Option<(OrderId, LockedReceipt)>,
    /// Whether the good of the pending payment is on its way.
    pub(super) in_delivery: bool,
    /// Index of the last checkpoint over locks.
    pub(super) accounted: Index,
    pub(super) loaded_at: Instant,
}

/// A payment whose good is not known to be delivered.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub(super) order: OrderId,
    /// It counts as taken, unless its good failed.
    pub(super) taken: bool,
}

impl Default for VendorConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            accountability: Accountability::Welcome,
            max_slots: 1 << 16,
        }
    }
}

impl Accountability {
    /// Checkpoints as often as clients sign them by default.
    pub const REQUIRED: Self = Self::Required {
        every: CHECKPOINT_EVERY,
    };
}

impl<S> Vendor<S>
where
    S: ChannelDomainStore + VendorChannelStore + Clone + Send + Sync + 'static,
{
    /// Starts. Channels are read from the store when they pay.
    pub async fn start(
        domain: Domain,
        recipient: Address,
        config: VendorConfig,
        mirror: Arc<Mirror<Channels>>,
        store: S,
    ) -> Result<Arc<Self>, StoreError> {
        store.use_channels(domain).await?;
        Ok(Arc::new(Self {
            domain,
            recipient,
            config,
            mirror,
            store,
            slots: Mutex::default(),
            misbehaved: Mutex::default(),
        }))
    }

    /// The domain of the channels that pay it.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Where it is paid.
    pub fn recipient(&self) -> Address {
        self.recipient
    }

    /// What it asks for.
    pub fn config(&self) -> &VendorConfig {
        &self.config
    }

    /// Its copy of the chain.
    pub fn mirror(&self) -> &Arc<Mirror<Channels>> {
        &self.mirror
    }

    /// Its store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// A channel that pays this vendor, as it is at the last final block, or else at the newest one.
    pub fn record(&self, channel: ChannelId) -> Option<Arc<ChannelRecord>> {
        let view = self.mirror.view(channel);
        view.last_final
            .or(view.head)
            .filter(|record| record.vendor == self.recipient)
    }

    /// Where the vendor stands; `None` if nothing was paid.
    pub async fn standing(&self, channel: ChannelId) -> Result<Option<Standing>, StoreError> {
        let (Some(chain), Some(stored)) = (self.record(channel), self.store.vendor_channel(channel).await?)
        else {
            return Ok(None);
        };
        let Some(last) = stored.last else {
            return Ok(None);
        };
        let opened = VendorChannel::open(&self.domain, &chain);
        let before = stored.before.map_or(opened.delivered, |before| before.receipt());
        let checkpoints = self.store.checkpoints(channel).await?;
        let held = held(&self.domain, &chain, Some(&stored));
        Ok(Some(Standing {
            receipt: last.payment.receipt(),
            before: before.transcript,
            accounted: accounted(&checkpoints),
            held: (held.paid.index, held.paid.word),
        }))
    }

    /// Whether the client of a channel signed what is not so: a lock that does not open, a wrong checkpoint.
    pub(super) fn has_misbehaved(&self, record: &VendorChannelRecord) -> bool {
        record.opening.is_some_and(|opening| !opening.ends_in_sigma0)
            || self.misbehaved.lock().contains(&record.id)
    }

    pub(super) fn note_misbehaviour(&self, channel: ChannelId) {
        self.misbehaved.lock().insert(channel);
    }

    /// How old the newest block's view is; never refreshed is older than any limit.
    pub(super) fn mirror_age(&self) -> Seconds {
        self.mirror
            .age()
            .map_or(Seconds(u64::MAX), |age| Seconds(age.as_secs()))
    }

    pub(super) fn slot(&self, channel: ChannelId) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if slots.len() >= self.config.max_slots && !slots.contains_key(&channel) {
            // Whoever uses one has a reference, and got it under this lock.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let slot = slots.entry(channel).or_insert_with(|| {
            Arc::new(Slot {
                turn: Arc::default(),
                state: Mutex::new(None),
            })
        });
        Arc::clone(slot)
    }

    /// Reads a channel from the store, in its turn, unless its good is on its way.
    pub(super) async fn load(&self, slot: &Slot, record: &ChannelRecord) -> Result<(), StoreError> {
        let channel = ChannelId(record.opening().channelId);
        let stored = self.store.vendor_channel(channel).await?;
        let checkpoints = self.store.checkpoints(channel).await?;
        let held = held(&self.domain, record, stored.as_ref());
        let mut state = slot.state.lock();
        if state.as_ref().is_none_or(|state| !state.in_delivery) {
            *state = Some(State::restore(held, stored.as_ref(), accounted(&checkpoints)));
        }
        Ok(())
    }
}

/// What a vendor has of a channel, put together: payments, and the checkpoint of the highest index.
pub(super) fn held(
    domain: &Domain,
    chain: &ChannelRecord,
    stored: Option<&VendorChannelRecord>,
) -> VendorChannel {
    let opened = VendorChannel::open(domain, chain);
    // What the client checkpointed on chain by itself does not count: a proof by signature moves no anchor, the event does not
    // say which it was, and a close has to walk from where the contract starts.
    stored.map_or(opened, |stored| stored.restore(opened))
}

/// Index of the last checkpoint over locks.
fn accounted(checkpoints: &[CheckpointRecord]) -> Index {
    checkpoints
        .iter()
        .rfind(|checkpoint| !checkpoint.signed.fields.locksRoot.is_zero())
        .map_or(Index::ZERO, |checkpoint| checkpoint.signed.index())
}

impl State {
    fn restore(channel: VendorChannel, stored: Option<&VendorChannelRecord>, accounted: Index) -> Self {
        let last = stored.and_then(|stored| stored.last);
        let taken = last.filter(|last| last.state == VendorPaymentState::Taken);
        let failed = stored.and_then(|stored| stored.failed);
        let (pending, delivered) = match (taken, stored) {
            (Some(taken), Some(stored)) => (Some((taken, true)), stored.before),
            _ => (failed.map(|failed| (failed, false)), last),
        };
        Self {
            channel,
            pending: pending.map(|(payment, taken)| Pending {
                order: payment.order,
                taken,
            }),
            last: delivered.map(|delivered| (delivered.order, delivered.payment.receipt())),
            in_delivery: false,
            accounted,
            loaded_at: Instant::now(),
        }
    }

    /// The last payment that counts, as clients are told.
    pub(super) fn standing(&self) -> (Index, Tag) {
        match (&self.channel.pending, self.pending) {
            (Some(payment), Some(Pending { taken: true, .. })) => (payment.index, payment.tag),
            _ => (self.channel.delivered.index, self.channel.delivered.tag),
        }
    }

    /// The good of the pending payment is with the client.
    pub(super) fn delivered(&mut self, tag: Tag) {
        self.in_delivery = false;
        let Some(pending) = self.channel.pending.filter(|pending| pending.tag == tag) else {
            warn!(%tag, "a payment was delivered that is not pending");
            return;
        };
        if let Some(delivered) = self.channel.confirm() {
            debug_assert_eq!(delivered.receipt, pending.receipt());
            self.channel = delivered.channel;
            self.last = self
                .pending
                .take()
                .map(|pending| (pending.order, delivered.receipt));
        }
    }

    /// There is no good.
    pub(super) fn failed(&mut self) {
        self.in_delivery = false;
        if let Some(pending) = &mut self.pending {
            pending.taken = false;
        }
    }
}
