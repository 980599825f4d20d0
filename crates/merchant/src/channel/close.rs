//! Step `close`, and `checkpoint`: turns stored words into credit on the chain. Any number of settlements is under way at
//! once, each with channels of its own: steps are idempotent on chain, and an expiry does not wait. Each call of
//! [`Closer::step`] looks at where things stand, does one thing, and saves before it sends; a kill between any two
//! statements leaves a state that the next step knows how to go on from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{B256, Bytes, U256};
use chain::{At, ChainError, Channels, Fate, Fees, Mined, Prepared, Sender};
use parking_lot::Mutex;
use protocol::channel::{
    BlockRef, ChannelEvent, ChannelId, ChannelRecord, CloseError, CloseGas, CloseReason, Index, Seconds,
    Sighting, Status, Timestamp, VendorChannel, WatchDecision, WatchPolicy, Word, walk, when_to_close,
};
use storage::channel::{
    ChannelDomainStore, SettlementId, SettlementMove, SettlementOutcome, SettlementRecord, SettlementState,
    SettlementStep, SettlementStore, VendorChannelRecord, VendorChannelStore,
};
use storage::{StoreError, TxRecord};
use tracing::{error, info, warn};

use super::plan::{Known, Part, call_data, is_over, outcomes};
use super::vendor::{Vendor, held};

/// Closes a vendor's channels. One per vendor; two would take each other's account nonces.
pub struct Closer<S> {
    pub(super) vendor: Arc<Vendor<S>>,
    pub(super) sender: Sender<Channels>,
    policy: ClosePolicy,
    bump_after: Seconds,
    asked: Mutex<BTreeMap<ChannelId, SettlementStep>>,
}

/// When to settle, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosePolicy {
    /// When to act on a channel.
    pub watch: WatchPolicy,
    /// Most channels in one transaction.
    pub max_batch: usize,
    /// Most gas that a transaction is planned to use.
    pub max_gas: u64,
    /// Longest walk. What is further away is settled in several steps, the first of them as soon as it is so far: a client
    /// that signs no checkpoints cannot make a close too dear for a block.
    pub max_walk: u32,
    /// A client that asked for a cooperative close and does not send it has so long.
    pub patience: Seconds,
    /// What steps cost.
    pub gas: CloseGas,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do.
    Waited,
    /// Channels became a settlement.
    Queued(SettlementId, SettlementStep, Vec<ChannelId>),
    /// A transaction was sent, for the first time or with a higher fee.
    Sent(SettlementId, B256),
    /// The transaction waits to be mined, or its block to be final; or the client's.
    Pending(SettlementId),
    /// The transaction is in a block.
    Mined(SettlementId, B256),
    /// The block was reorganised away.
    Unmined(SettlementId),
    /// The transaction can no longer be mined; the settlement starts anew.
    Requeued(SettlementId),
    /// The settlement has no object any more: somebody else closed, or settled as much.
    Dropped(SettlementId),
    /// The settlement is final.
    Final(SettlementId, Settled),
    /// A channel was closed by somebody else, for good.
    Gone(ChannelId),
}

/// A settlement that is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Channels settled.
    pub settled: u32,
    /// Channels that the contract left out.
    pub skipped: u32,
    /// Credited, atomic units.
    pub paid: u128,
    /// Gas of the transaction.
    pub gas_used: u64,
}

/// Why a step failed. Everything is as saved; the next step goes on.
#[derive(Debug, thiserror::Error)]
pub enum CloseStepError {
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored words make no proof.
    #[error("channel {channel}: {source}")]
    Plan {
        /// The channel.
        channel: ChannelId,
        /// Why.
        source: CloseError,
    },
    /// The mirror does not have a channel that paid: it has not caught up.
    #[error("channel {channel} paid, and is not in the mirror")]
    NotInMirror {
        /// The channel.
        channel: ChannelId,
    },
    /// A final transaction says nothing of a channel that it should have settled.
    #[error("transaction {hash} is final, but has no event for channel {channel}")]
    NoOutcome {
        /// The transaction.
        hash: B256,
        /// The channel.
        channel: ChannelId,
    },
}

impl CloseStepError {
    /// Whether the same step can succeed later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Chain(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::NotInMirror { .. } => true,
            Self::Plan { .. } | Self::NoOutcome { .. } => false,
        }
    }
}

impl Default for ClosePolicy {
    fn default() -> Self {
        Self {
            watch: WatchPolicy::default(),
            max_batch: 50,
            max_gas: 6_000_000,
            max_walk: 1 << 15,
            patience: Seconds::HOUR,
            gas: CloseGas {
                base: 62_000,
                per_step: 80,
                signature: 7_000,
            },
        }
    }
}

impl<S> Closer<S>
where
    S: ChannelDomainStore + VendorChannelStore + SettlementStore + Clone + Send + Sync + 'static,
{
    /// A closer that sends from `sender`: the vendor's own account or one it approved as operator. A transaction that waits
    /// longer than `bump_after` is sent again with a higher fee.
    pub fn new(
        vendor: Arc<Vendor<S>>,
        sender: Sender<Channels>,
        policy: ClosePolicy,
        bump_after: Seconds,
    ) -> Self {
        Self {
            vendor,
            sender,
            policy,
            bump_after,
            asked: Mutex::default(),
        }
    }

    /// Asks for a step by hand: at the next that is possible, whatever it is worth.
    pub fn ask(&self, channel: ChannelId, step: SettlementStep) {
        self.asked.lock().insert(channel, step);
    }

    /// Does one thing that can be done now. What one settlement suffers does not hold up the others.
    pub async fn step(&self, now: Timestamp) -> Result<Step, CloseStepError> {
        let unfinished = self.vendor.store.unfinished_settlements().await?;
        let (mut pending, mut failed) = (None, None);
        for settlement in &unfinished {
            match self.advance(settlement, now).await {
                Ok(Step::Pending(id)) => pending = pending.or(Some(id)),
                Ok(step) => return Ok(step),
                Err(error) => {
                    warn!(settlement = %settlement.id, %error, "a settlement cannot go on");
                    failed = failed.or(Some(error));
                }
            }
        }
        match self.consider(&unfinished, now).await? {
            Step::Waited => match (failed, pending) {
                (Some(error), _) => Err(error),
                (None, Some(id)) => Ok(Step::Pending(id)),
                (None, None) => Ok(Step::Waited),
            },
            step => Ok(step),
        }
    }

    async fn advance(&self, settlement: &SettlementRecord, now: Timestamp) -> Result<Step, CloseStepError> {
        match settlement.state {
            SettlementState::Queued => self.send(settlement, now).await,
            SettlementState::Sent => self.watch(settlement, now).await,
            SettlementState::Mined { hash, block } => self.finish(settlement, hash, block).await,
            SettlementState::Final { .. } | SettlementState::Dropped => Ok(Step::Pending(settlement.id)),
        }
    }

    // ── when to close → queued ──

    async fn consider(
        &self,
        unfinished: &[SettlementRecord],
        now: Timestamp,
    ) -> Result<Step, CloseStepError> {
        let busy: BTreeSet<ChannelId> = unfinished
            .iter()
            .flat_map(|settlement| settlement.items.iter().map(|item| item.channel))
            .collect();
        let stored = self.vendor.store.vendor_channels().await?;
        let mut wanted: BTreeMap<SettlementStep, Vec<(ChannelId, Index, u64)>> = BTreeMap::new();
        let asked = self.asked.lock().clone();
        let known: BTreeSet<ChannelId> = stored.iter().map(|record| record.id).collect();
        for record in stored.iter().filter(|record| !busy.contains(&record.id)) {
            let view = self.vendor.mirror.view(record.id);
            if let Some(closed) = view.last_final.filter(|record| record.status() == Status::Closed) {
                self.vendor
                    .store
                    .close_vendor_channel(record.id, closed.settled)
                    .await?;
                self.asked.lock().remove(&record.id);
                info!(channel = %record.id, settled = %closed.settled, "closed by somebody else");
                return Ok(Step::Gone(record.id));
            }
            match self.decide(record, asked.get(&record.id), now).await {
                Ok(Some((step, index, gas))) => wanted.entry(step).or_default().push((record.id, index, gas)),
                Ok(None) => {}
                // A node that fails fails for all.
                Err(error @ CloseStepError::Chain(_)) => return Err(error),
                Err(error) => {
                    error!(channel = %record.id, %error, "cannot decide for a channel; the others go on");
                }
            }
        }
        // By hand, also what never paid.
        for (channel, step) in asked.iter().filter(|(channel, _)| !known.contains(channel)) {
            if step.closes()
                && let Some(chain) = self.head(*channel)
                && chain.status() == Status::Open
            {
                let gas = self.policy.gas.base;
                wanted
                    .entry(*step)
                    .or_default()
                    .push((*channel, chain.settled, gas));
            }
        }
        // What ends a channel goes first: it may be its last chance.
        for step in [
            SettlementStep::Close,
            SettlementStep::CooperativeClose,
            SettlementStep::Checkpoint,
        ] {
            if let Some(wanted) = wanted.remove(&step) {
                return self.queue(step, wanted, now).await;
            }
        }
        Ok(Step::Waited)
    }

    /// What to do for a channel, at which index, and what that costs.
    async fn decide(
        &self,
        record: &VendorChannelRecord,
        asked: Option<&SettlementStep>,
        now: Timestamp,
    ) -> Result<Option<(SettlementStep, Index, u64)>, CloseStepError> {
        let view = self.vendor.mirror.view(record.id);
        let (Some(chain), Some(highest)) = (self.head(record.id), record.highest) else {
            return Ok(None);
        };
        let held = held(&self.vendor.domain, &chain, Some(record));
        let expiry = view.last_final.map_or(chain.expiry(), |last_final| {
            last_final.expiry().min(chain.expiry()) // a top-up may be reorganised away
        });
        let paid = held.paid.index;
        let sighting = Sighting {
            paid,
            settled: chain.settled,
            unit: chain.unit(),
            expiry,
            last_payment: highest
                .taken_at
                .max(record.last.map_or(highest.taken_at, |last| last.taken_at)),
            closed: chain.status() == Status::Closed,
            misbehaved: self.vendor.has_misbehaved(record),
        };
        let decision = match (when_to_close(&sighting, now, &self.policy.watch), asked) {
            (decision @ WatchDecision::Close(_), _) => decision,
            (_, Some(step)) if !sighting.closed && step.closes() => WatchDecision::Close(CloseReason::Idle),
            (_, Some(_)) if !sighting.closed && paid > chain.settled => WatchDecision::Checkpoint,
            (decision, _) => decision,
        };
        if sighting.closed || now > expiry {
            return Ok(None);
        }
        let far = paid.above(chain.settled) > self.policy.max_walk;
        let step = match decision {
            WatchDecision::Close(_) => SettlementStep::Close,
            WatchDecision::Checkpoint => SettlementStep::Checkpoint,
            WatchDecision::Wait if far => SettlementStep::Checkpoint,
            WatchDecision::Wait => return Ok(None),
        };
        let part = self.part(record.id, step, paid, Some(record)).await?;
        if part.close.steps <= self.policy.max_walk {
            if decision == WatchDecision::Wait {
                return Ok(None); // far, but a signed checkpoint makes it near
            }
            return Ok(Some((step, paid, part.close.gas)));
        }
        // Up to it step by step; every one moves the anchor.
        let from = paid.above(Index(part.close.steps));
        let index =
            Index(from.saturating_add(self.policy.max_walk)).max(chain.settled.plus(1).unwrap_or(paid));
        let part = self
            .part(record.id, SettlementStep::Checkpoint, index, Some(record))
            .await?;
        Ok(Some((SettlementStep::Checkpoint, index, part.close.gas)))
    }

    async fn queue(
        &self,
        step: SettlementStep,
        wanted: Vec<(ChannelId, Index, u64)>,
        now: Timestamp,
    ) -> Result<Step, CloseStepError> {
        let mut gas = 0u64;
        let mut chosen = Vec::new();
        for (channel, index, cost) in wanted.into_iter().take(self.policy.max_batch.max(1)) {
            gas = gas.saturating_add(cost);
            if gas > self.policy.max_gas && !chosen.is_empty() {
                break;
            }
            chosen.push((channel, index));
        }
        // One that is paid more meanwhile, or that another process was faster with, holds up none of the others: it is left
        // to the next look.
        let settlement = loop {
            if chosen.is_empty() {
                return Ok(Step::Waited);
            }
            match self.vendor.store.queue_settlement(step, &chosen, now).await {
                Ok(settlement) => break settlement,
                Err(
                    StoreError::SettlementStale { channel, .. }
                    | StoreError::SettlementBusy { channel, .. }
                    | StoreError::ChannelClosing { channel, .. },
                ) => {
                    let before = chosen.len();
                    chosen.retain(|(other, _)| *other != channel);
                    if chosen.len() == before {
                        return Ok(Step::Waited);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        let channels: Vec<ChannelId> = chosen.into_iter().map(|(channel, _)| channel).collect();
        for channel in &channels {
            self.asked.lock().remove(channel);
        }
        info!(%settlement, %step, channels = channels.len(), "queued");
        Ok(Step::Queued(settlement, step, channels))
    }

    // ── queued → sent ──

    async fn send(&self, settlement: &SettlementRecord, now: Timestamp) -> Result<Step, CloseStepError> {
        // A transaction that was given up for dropped may have made it after all.
        if let Some(mined) = self.mined_of(&settlement.dropped).await?.into_iter().next() {
            return self.mined(settlement, &mined).await;
        }
        if let Some(step) = self.over(settlement).await? {
            return Ok(step);
        }
        let waits = settlement.step == SettlementStep::CooperativeClose
            && settlement.transactions.is_empty()
            && settlement
                .items
                .iter()
                .all(|item| !self.is_due(item.channel, settlement.queued_at, now));
        if waits {
            return Ok(Step::Pending(settlement.id));
        }
        let _turn = self.sender.turn().await;
        match self.prepare(settlement, None, None).await {
            Ok(prepared) => self.save_and_broadcast(settlement, &prepared, now).await,
            Err(CloseStepError::Chain(ChainError::Reverted(revert))) if is_over(&revert.data) => {
                warn!(settlement = %settlement.id, %revert, "it would be refused now; waiting for that to be final");
                Ok(Step::Pending(settlement.id))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a client has had its time to send a cooperative close.
    fn is_due(&self, channel: ChannelId, since: Timestamp, now: Timestamp) -> bool {
        let expiry = self
            .head(channel)
            .map_or(Timestamp::default(), |chain| chain.expiry());
        now >= since.plus(self.policy.patience) || now.plus(self.policy.watch.margin) >= expiry
    }

    /// Drops a settlement that can do nothing any more for any of its channels, at a final block.
    async fn over(&self, settlement: &SettlementRecord) -> Result<Option<Step>, CloseStepError> {
        let final_time = self.vendor.mirror.final_block().timestamp;
        let mut closed = Vec::new();
        for item in &settlement.items {
            let Some(chain) = self.vendor.mirror.view(item.channel).last_final else {
                return Ok(None);
            };
            let settled = !settlement.step.closes() && chain.settled >= item.index;
            match chain.status() {
                Status::Closed => closed.push((item.channel, chain.settled)),
                Status::Open if settled => {}
                Status::Open if final_time > chain.expiry() => {
                    error!(channel = %item.channel, index = %item.index, settled = %chain.settled,
                        "too late: what was paid is lost");
                }
                Status::Open => return Ok(None),
            }
        }
        // Closed before dropped: in between no payment may be taken.
        for (channel, settled) in closed {
            self.vendor.store.close_vendor_channel(channel, settled).await?;
        }
        self.vendor
            .store
            .move_settlement(settlement.id, SettlementMove::Drop)
            .await?;
        info!(settlement = %settlement.id, "dropped: somebody else was faster, or it is too late");
        Ok(Some(Step::Dropped(settlement.id)))
    }

    async fn prepare(
        &self,
        settlement: &SettlementRecord,
        account_nonce: Option<u64>,
        replaces: Option<Fees>,
    ) -> Result<Prepared, CloseStepError> {
        let mut parts = Vec::with_capacity(settlement.items.len());
        for item in &settlement.items {
            let stored = self.vendor.store.vendor_channel(item.channel).await?;
            parts.push(
                self.part(item.channel, settlement.step, item.index, stored.as_ref())
                    .await?,
            );
        }
        let data: Bytes = call_data(settlement.step, parts, account_nonce.is_some());
        let contract = self.vendor.domain.contract();
        Ok(self
            .sender
            .prepare(contract, data, U256::ZERO, account_nonce, replaces)
            .await?)
    }

    /// The part of a settlement for one channel.
    pub(super) async fn part(
        &self,
        channel: ChannelId,
        step: SettlementStep,
        index: Index,
        stored: Option<&VendorChannelRecord>,
    ) -> Result<Part, CloseStepError> {
        let chain = self
            .head(channel)
            .ok_or(CloseStepError::NotInMirror { channel })?;
        let mut known = Known {
            domain: &self.vendor.domain,
            chain: &chain,
            stored,
            anchor: None,
            gas: &self.policy.gas,
        };
        known.anchor = self.anchor(&known.held(), &chain).await?;
        Part::plan(&known, step, index).map_err(|source| CloseStepError::Plan { channel, source })
    }

    /// Where the contract's anchor of the word's chain stands, if it has moved. A proof by signature moves none, so that events
    /// do not tell.
    async fn anchor(
        &self,
        held: &VendorChannel,
        chain: &ChannelRecord,
    ) -> Result<Option<(Index, Word)>, CloseStepError> {
        let terms = chain.admitted(&self.vendor.domain);
        let (Some((at, _)), Some(admitted)) = (chain.checkpointed, terms.get(held.paid.chain as usize))
        else {
            return Ok(None);
        };
        let (index, start) = self
            .sender
            .client()
            .anchor_of(&admitted.terms(), At::Latest)
            .await?;
        if index == Index::ZERO || index > held.paid.index || index > at {
            return Ok(None);
        }
        // The contract knows the upper 224 bits.
        let word = walk(held.paid.word, held.id, held.paid.index.above(index));
        let known = word.0.starts_with(start.as_slice());
        Ok(Some((index, if known { word } else { Word::default() })))
    }

    fn head(&self, channel: ChannelId) -> Option<Arc<ChannelRecord>> {
        let view = self.vendor.mirror.view(channel);
        view.head.or(view.last_final)
    }

    async fn save_and_broadcast(
        &self,
        settlement: &SettlementRecord,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Step, CloseStepError> {
        let transaction = TxRecord {
            hash: prepared.hash,
            raw: prepared.raw.clone(),
            account_nonce: prepared.account_nonce,
            max_fee_per_gas: prepared.max_fee_per_gas,
            max_priority_fee_per_gas: prepared.max_priority_fee_per_gas,
            sent_at: now,
        };
        self.vendor
            .store
            .add_settlement_transaction(settlement.id, &transaction)
            .await?;
        self.sender.broadcast(&prepared.raw).await?;
        info!(settlement = %settlement.id, step = %settlement.step, hash = %prepared.hash, "sent");
        Ok(Step::Sent(settlement.id, prepared.hash))
    }

    // ── sent → mined, or back to queued ──

    async fn watch(&self, settlement: &SettlementRecord, now: Timestamp) -> Result<Step, CloseStepError> {
        let newest = settlement
            .transactions
            .last()
            .expect("a settlement that was sent has a transaction");
        let hashes: Vec<B256> = settlement.transactions.iter().map(|tx| tx.hash).collect();
        match self.sender.fate(&hashes, newest.account_nonce).await? {
            Fate::Mined(mined) if mined.success => self.mined(settlement, &mined).await,
            Fate::Mined(mined) => {
                warn!(settlement = %settlement.id, hash = %mined.hash, gas = mined.gas_used, "reverted, to be sent anew");
                self.requeue(settlement).await
            }
            Fate::Superseded => {
                warn!(settlement = %settlement.id, nonce = newest.account_nonce, "superseded, to be sent anew");
                self.requeue(settlement).await
            }
            // Also when the node does not know it: some throw out of their pool what pays too little.
            Fate::Pending | Fate::Unknown if now.since(newest.sent_at) >= self.bump_after => {
                let fees = Fees {
                    max_fee_per_gas: newest.max_fee_per_gas,
                    max_priority_fee_per_gas: newest.max_priority_fee_per_gas,
                };
                match self
                    .prepare(settlement, Some(newest.account_nonce), Some(fees))
                    .await
                {
                    Ok(higher) => {
                        warn!(settlement = %settlement.id, old = %newest.hash, "stuck; sending it with a higher fee");
                        self.save_and_broadcast(settlement, &higher, now).await
                    }
                    Err(error) => {
                        // Too dear, or more than the account has: then the one there is must do, if the node forgot it.
                        warn!(settlement = %settlement.id, hash = %newest.hash, %error, "stuck and cannot be replaced");
                        self.sender.broadcast(&newest.raw).await?;
                        Ok(Step::Pending(settlement.id))
                    }
                }
            }
            Fate::Unknown => {
                self.sender.broadcast(&newest.raw).await?;
                warn!(settlement = %settlement.id, hash = %newest.hash, "the node had forgotten it; sent again");
                Ok(Step::Sent(settlement.id, newest.hash))
            }
            Fate::Pending => Ok(Step::Pending(settlement.id)),
        }
    }

    async fn requeue(&self, settlement: &SettlementRecord) -> Result<Step, CloseStepError> {
        self.vendor
            .store
            .move_settlement(settlement.id, SettlementMove::Requeue)
            .await?;
        Ok(Step::Requeued(settlement.id))
    }

    async fn mined(
        &self,
        settlement: &SettlementRecord,
        mined: &Mined<Channels>,
    ) -> Result<Step, CloseStepError> {
        let (hash, block) = (mined.hash, mined.block);
        self.vendor
            .store
            .move_settlement(settlement.id, SettlementMove::Mined { hash, block })
            .await?;
        info!(settlement = %settlement.id, %hash, block = block.number, "mined");
        Ok(Step::Mined(settlement.id, hash))
    }

    /// Those of these transactions that are in a block and did something.
    async fn mined_of<'t>(
        &self,
        transactions: impl IntoIterator<Item = &'t TxRecord>,
    ) -> Result<Vec<Mined<Channels>>, CloseStepError> {
        let mut by_nonce: BTreeMap<u64, Vec<B256>> = BTreeMap::new();
        for tx in transactions {
            by_nonce.entry(tx.account_nonce).or_default().push(tx.hash);
        }
        let mut found = Vec::new();
        for (nonce, hashes) in by_nonce {
            if let Fate::Mined(mined) = self.sender.fate(&hashes, nonce).await?
                && mined.success
            {
                found.push(mined);
            }
        }
        Ok(found)
    }

    /// Events of the settlement's transactions other than `hash`: a reorg may bring one that was superseded back beside the
    /// one that took its place. Then one settles, and the other skips. `None` while one of them is not final.
    async fn other_events(
        &self,
        settlement: &SettlementRecord,
        hash: B256,
    ) -> Result<Option<Vec<ChannelEvent>>, CloseStepError> {
        if settlement.dropped.is_empty() {
            return Ok(Some(Vec::new())); // the rest share one account nonce
        }
        let others = settlement
            .transactions
            .iter()
            .chain(&settlement.dropped)
            .filter(|tx| tx.hash != hash);
        let mined = self.mined_of(others).await?;
        let last_final = self.vendor.mirror.final_block().number;
        let all_final = mined.iter().all(|mined| mined.block.number <= last_final);
        Ok(all_final.then(|| mined.into_iter().flat_map(|mined| mined.events).collect()))
    }

    // ── mined → final, or back to sent ──

    async fn finish(
        &self,
        settlement: &SettlementRecord,
        hash: B256,
        block: BlockRef,
    ) -> Result<Step, CloseStepError> {
        let id = settlement.id;
        let canonical = self.sender.client().block(block.number).await?;
        if canonical.is_none_or(|found| found.hash != block.hash) {
            warn!(settlement = %id, %hash, block = block.number, "the block was reorganised away");
            self.vendor
                .store
                .move_settlement(id, SettlementMove::Unmined)
                .await?;
            return Ok(Step::Unmined(id));
        }
        if self.vendor.mirror.final_block().number < block.number {
            return Ok(Step::Pending(id));
        }
        let mut all = settlement.transactions.iter().chain(&settlement.dropped);
        let account_nonce = all.find(|tx| tx.hash == hash).map_or(0, |tx| tx.account_nonce);
        let Fate::Mined(mined) = self.sender.fate(&[hash], account_nonce).await? else {
            return Ok(Step::Pending(id)); // the chain moved between two looks
        };
        if mined.block.hash != block.hash {
            return Ok(Step::Pending(id));
        }
        let Some(others) = self.other_events(settlement, hash).await? else {
            return Ok(Step::Pending(id));
        };
        let found = outcomes(mined.events.iter().chain(&others));
        let mut list = Vec::with_capacity(settlement.items.len());
        let mut settled = Settled {
            gas_used: mined.gas_used,
            ..Settled::default()
        };
        for item in &settlement.items {
            let channel = item.channel;
            let outcome = *found
                .get(&channel)
                .ok_or(CloseStepError::NoOutcome { hash, channel })?;
            match outcome {
                SettlementOutcome::Settled { paid, .. } => {
                    settled.settled += 1;
                    settled.paid = settled.paid.saturating_add(paid.0);
                }
                SettlementOutcome::Skipped { reason, got, limit } => {
                    settled.skipped += 1;
                    error!(%channel, %reason, %got, %limit, "the contract left out a channel");
                }
            }
            list.push((channel, outcome));
        }
        self.vendor
            .store
            .finalize_settlement(id, &list, mined.gas_used, mined.effective_gas_price)
            .await?;
        info!(settlement = %id, settled = settled.settled, skipped = settled.skipped, paid = settled.paid,
            gas = settled.gas_used, "final");
        Ok(Step::Final(id, settled))
    }
}
