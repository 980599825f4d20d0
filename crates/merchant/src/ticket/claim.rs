//! Step `claim`: turns stored winners into credit on the chain. One claim is under way at a time, from `queue` to `final`,
//! so that nonces are paid in rising order whatever is dropped or reorganised. Each call of [`Claimer::step`] looks at
//! where things stand, does one thing, and saves before it sends; a kill between any two statements leaves a state that
//! the next step knows how to go on from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy_primitives::{Address, B256, Bytes, U256, aliases::B32};
use alloy_sol_types::{SolCall, SolError};
use bindings::ticket::TicketEscrow::{self, TicketEscrowEvents};
use bindings::ticket::Winner;
use chain::{ChainError, Fate, Fees, Mined, Prepared, Sender};
use parking_lot::Mutex;
use protocol::ticket::{Amount, ClaimError, EscrowRecord, Nonce, Seconds, Status, Timestamp, groups};
use storage::{
    ClaimId, ClaimRecord, ClaimState, ClaimStore, FleetStore, Outcome, SeedStore, StoreError, TxRecord,
    WinRecord, WinStage, WinStore,
};
use tracing::{error, info, warn};

use super::{ClaimPolicy, Decision, Market, Merchant, Waiting, decide};

/// Claims a merchant's winners. One per merchant address; two would take each other's account nonces.
pub struct Claimer<S> {
    merchant: Arc<Merchant<S>>,
    sender: Sender,
    policy: ClaimPolicy,
    bump_after: Seconds,
    asked: AtomicBool,
    /// Floors that were raised for the next claim.
    closing: Mutex<Option<Closing>>,
}

/// A claim in the making.
#[derive(Clone)]
struct Closing {
    /// When every process has taken over this round, nothing at or below the floors can be accepted any more.
    round: u64,
    floors: BTreeMap<Address, Nonce>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do, for the reason given.
    Waited(Decision),
    /// Winners that can never be paid were given up.
    GaveUp(usize),
    /// Winners became a claim.
    Queued(ClaimId, Decision),
    /// A transaction was sent, for the first time or with a higher fee.
    Sent(ClaimId, B256),
    /// The transaction waits to be mined, or its block to be final.
    Pending(ClaimId),
    /// The transaction is in a block.
    Mined(ClaimId, B256),
    /// The block was reorganised away.
    Unmined(ClaimId),
    /// The transaction can no longer be mined; the claim starts anew.
    Requeued(ClaimId),
    /// The claim is settled.
    Final(ClaimId, Settled),
}

/// A settled claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Winners paid, in full or with a rest as debt.
    pub claimed: u32,
    /// Winners that the contract left out.
    pub skipped: u32,
    /// Credited, atomic units.
    pub paid: u128,
    /// Recorded as debt, atomic units.
    pub owed: u128,
    /// Gas of the transaction.
    pub gas_used: u64,
}

/// Why a step failed. Everything is as saved; the next step goes on.
#[derive(Debug, thiserror::Error)]
pub enum ClaimStepError {
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored winners make no claim.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A final transaction says nothing of a winner that it should have claimed.
    #[error(
        "transaction {hash} is final, but has no event for ticket {digest} (escrow {escrow}, nonce {nonce})"
    )]
    NoOutcome {
        /// The transaction.
        hash: B256,
        /// The ticket.
        digest: B256,
        /// Its escrow.
        escrow: Address,
        /// Its nonce.
        nonce: Nonce,
    },
}

impl ClaimStepError {
    /// Whether the same step can succeed later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Chain(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::Claim(_) | Self::NoOutcome { .. } => false,
        }
    }
}

impl<S> Claimer<S>
where
    S: SeedStore + WinStore + ClaimStore + FleetStore + Clone + Send + Sync + 'static,
{
    /// A claimer that sends from `sender`: the merchant's own account or one it approved as operator. A transaction that
    /// waits longer than `bump_after` is sent again with a higher fee.
    pub fn new(merchant: Arc<Merchant<S>>, sender: Sender, policy: ClaimPolicy, bump_after: Seconds) -> Self {
        Self {
            merchant,
            sender,
            policy,
            bump_after,
            asked: AtomicBool::new(false),
            closing: Mutex::new(None),
        }
    }

    /// Asks for a claim at the next step, however small.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Does the one thing that can be done now.
    pub async fn step(&self, now: Timestamp) -> Result<Step, ClaimStepError> {
        match self.merchant.store.unfinished_claims().await?.into_iter().next() {
            None => self.consider(now).await,
            Some(claim) => match claim.state {
                ClaimState::Queued => self.send(&claim, now).await,
                ClaimState::Sent => self.watch(&claim, now).await,
                ClaimState::Mined { hash, block } => self.finish(&claim, hash, block).await,
                ClaimState::Final { .. } | ClaimState::Released => Ok(Step::Pending(claim.id)),
            },
        }
    }

    // ── won → queued ──

    async fn consider(&self, now: Timestamp) -> Result<Step, ClaimStepError> {
        let store = &self.merchant.store;
        let won = store.wins(WinStage::Won).await?;
        let gone = self.give_up_expired(&won).await?;
        if gone > 0 {
            return Ok(Step::GaveUp(gone));
        }
        if won.is_empty() {
            self.asked.store(false, Ordering::Relaxed);
            return Ok(Step::Waited(Decision::Wait {
                ready: 0,
                settling: 0,
            }));
        }
        self.raise_floors(&won, now);
        let escrows = self.escrows(&won);
        let waiting: Vec<Waiting> = won.iter().filter_map(|win| waiting(win, &escrows)).collect();
        let market = Market {
            now,
            // Unknown fees only mean that value is not weighed against gas.
            wei_per_gas: self
                .sender
                .client()
                .market_fees()
                .await
                .ok()
                .map(|fees| fees.max_fee_per_gas),
            escrows: &escrows,
            asked: self.asked.load(Ordering::Relaxed),
        };
        let decision = decide(&waiting, &market, &self.policy);
        let Decision::Claim { winners, .. } = &decision else {
            return Ok(Step::Waited(decision));
        };
        let settling = || {
            Step::Waited(Decision::Wait {
                ready: 0,
                settling: waiting.len(),
            })
        };
        let begun = self.closing.lock().clone();
        let closing = match begun {
            Some(closing) => closing,
            None => {
                let chosen: BTreeSet<B256> = winners.iter().copied().collect();
                let chosen: Vec<&WinRecord> = won
                    .iter()
                    .filter(|win| chosen.contains(&win.ticket.digest()))
                    .collect();
                if !self.retire_sessions(&chosen, now) {
                    return Ok(settling()); // payers at work learn the next commitments first
                }
                let floors = self.raise_below_flight(&chosen);
                if floors.is_empty() {
                    return Ok(settling()); // lower nonces are being judged this very moment
                }
                let floors: Vec<(Address, Nonce)> = floors.into_iter().collect();
                let round = store.raise_floors(&floors).await?;
                let closing = Closing {
                    round,
                    floors: floors.into_iter().collect(),
                };
                *self.closing.lock() = Some(closing.clone());
                closing
            }
        };
        if !store
            .acked(closing.round, Some(self.merchant.lease.boot()))
            .await?
        {
            return Ok(settling()); // other processes of this merchant have tickets in flight below the floors
        }
        // Read again: winners with lower nonces may have been stored since. Left out, they would be buried. The floors keep
        // further ones away.
        let won = store.wins(WinStage::Won).await?;
        let below = |win: &&WinRecord| {
            closing
                .floors
                .get(&win.ticket.escrow())
                .is_some_and(|floor| win.ticket.nonce() <= *floor)
        };
        // By escrow and rising nonce, so that what the bound cuts off is above what it leaves.
        let below: Vec<&WinRecord> = won.iter().filter(below).take(self.policy.max_batch).collect();
        *self.closing.lock() = None;
        if below.is_empty() {
            return Ok(settling()); // given up meanwhile
        }
        self.close_sessions(&below);
        let digests: Vec<B256> = below.iter().map(|win| win.ticket.digest()).collect();
        let claim = store.queue(&digests, now).await?;
        self.asked.store(false, Ordering::Relaxed);
        info!(%claim, winners = digests.len(), "{decision}");
        Ok(Step::Queued(claim, decision))
    }

    /// A winner that has settled lets nothing below it in any more. Otherwise a payer that counts its nonces down, and wins
    /// every few seconds, would keep all its winners waiting for the youngest until they expire.
    fn raise_floors(&self, won: &[WinRecord], now: Timestamp) {
        let settle = Seconds(self.policy.settle_secs);
        for win in won.iter().filter(|win| win.won_at.plus(settle) <= now) {
            self.merchant
                .book
                .raise_floor(win.ticket.escrow(), win.ticket.nonce());
        }
    }

    /// Whether the sessions whose `r1` a claim of these would reveal have been quoted no more for long enough. Else they
    /// are not from now on.
    fn retire_sessions(&self, chosen: &[&WinRecord], now: Timestamp) -> bool {
        let grace = Seconds(self.policy.settle_secs);
        let book = &self.merchant.book;
        // All of them, so that they wait at the same time.
        by_escrow(chosen).into_iter().fold(true, |ready, (escrow, wins)| {
            book.retire(escrow, &commitments(&wins), now, grace) && ready
        })
    }

    /// Raises the floor of each escrow to the highest nonce to claim, which nothing in flight is below.
    fn raise_below_flight(&self, chosen: &[&WinRecord]) -> BTreeMap<Address, Nonce> {
        let raise = |(escrow, wins): (Address, Vec<&WinRecord>)| {
            let nonces = wins.into_iter().map(|win| win.ticket.nonce());
            Some((escrow, self.merchant.book.raise_below_flight(escrow, nonces)?))
        };
        by_escrow(chosen).into_iter().filter_map(raise).collect()
    }

    /// Closes the sessions whose `r1` the claim will reveal.
    fn close_sessions(&self, wins: &[&WinRecord]) {
        for (escrow, wins) in by_escrow(wins) {
            self.merchant.book.close(escrow, &commitments(&wins));
        }
    }

    /// Winners whose time is over at a final block can never be paid.
    async fn give_up_expired(&self, won: &[WinRecord]) -> Result<usize, ClaimStepError> {
        let final_time = self.merchant.mirror.final_block().timestamp;
        let mut gone = 0;
        for win in won.iter().filter(|win| win.ticket.expiry() < final_time) {
            let (got, limit) = (U256::from(final_time.0), U256::from(win.ticket.expiry().0));
            self.give_up(win, TicketEscrow::TicketExpired::SELECTOR.into(), got, limit)
                .await?;
            gone += 1;
        }
        Ok(gone)
    }

    async fn give_up(
        &self,
        win: &WinRecord,
        reason: B32,
        got: U256,
        limit: U256,
    ) -> Result<(), ClaimStepError> {
        self.merchant
            .store
            .give_up(win.ticket.digest(), reason, got, limit)
            .await?;
        self.merchant.book.settled(win.ticket.escrow(), 1);
        error!(ticket = %win.ticket.digest(), escrow = %win.ticket.escrow(), nonce = %win.ticket.nonce(),
            %reason, %got, %limit, "a winner is lost");
        Ok(())
    }

    /// The escrows of these winners as of the newest block.
    fn escrows(&self, wins: &[WinRecord]) -> BTreeMap<Address, EscrowRecord> {
        let addresses: BTreeSet<Address> = wins.iter().map(|win| win.ticket.escrow()).collect();
        let record = |escrow: Address| {
            let view = self.merchant.mirror.view(escrow);
            Some((escrow, (*view.head.or(view.last_final)?).clone()))
        };
        addresses.into_iter().filter_map(record).collect()
    }

    // ── queued → sent ──

    async fn send(&self, claim: &ClaimRecord, now: Timestamp) -> Result<Step, ClaimStepError> {
        // A transaction that was given up for dropped may have made it after all.
        if let Some(mined) = self.revived(claim).await? {
            return self.mined(claim, &mined).await;
        }
        let _turn = self.sender.turn().await;
        match self.prepare(claim, None, None).await {
            Ok(prepared) => self.save_and_broadcast(claim, &prepared, now).await,
            Err(ChainError::Reverted(revert)) => {
                // Only a claim of one winner reverts for the winner's sake (a batch leaves it out).
                if let [win] = claim.wins.as_slice()
                    && let Some((reason, got, limit)) = refusal(&revert.data)
                {
                    if !self.is_final(win, reason) {
                        warn!(claim = %claim.id, %revert, "the claim would be refused now; waiting for that to be final");
                        return Ok(Step::Pending(claim.id));
                    }
                    self.merchant.store.release(claim.id).await?;
                    self.give_up(win, reason, got, limit).await?;
                    return Ok(Step::GaveUp(1));
                }
                Err(ChainError::Reverted(revert).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the refusal of a winner can no longer be undone by a reorg, nor be the work of a transaction of our own whose
    /// receipt the node does not show yet.
    fn is_final(&self, win: &WinRecord, reason: B32) -> bool {
        use TicketEscrow::{EscrowNotPaying, NonceNotAboveLast, TicketExpired};
        let record = self.merchant.mirror.view(win.ticket.escrow()).last_final;
        match reason.0 {
            TicketExpired::SELECTOR => win.ticket.expiry() < self.merchant.mirror.final_block().timestamp,
            NonceNotAboveLast::SELECTOR => record
                .is_some_and(|record| win.ticket.nonce() <= record.pair(win.ticket.recipient()).last_nonce),
            EscrowNotPaying::SELECTOR => record.is_some_and(|record| record.status == Status::Closed),
            _ => true, // follows from the ticket and the escrow's terms alone
        }
    }

    async fn prepare(
        &self,
        claim: &ClaimRecord,
        account_nonce: Option<u64>,
        replaces: Option<Fees>,
    ) -> Result<Prepared, ChainError> {
        let tickets: Vec<_> = claim.wins.iter().map(|win| win.ticket.clone()).collect();
        let recipient = self.merchant.recipient;
        let data: Bytes = match tickets.as_slice() {
            // Reverts with the reason where it cannot be paid, which the simulation shows. A replacement must go through
            // whatever has become of the winner, or the account nonce stays blocked: a batch leaves it out instead.
            [win] if account_nonce.is_none() => TicketEscrow::claimCall {
                recipient,
                escrow: win.escrow(),
                r1: win.state().r1,
                winner: Winner::from(win),
            }
            .abi_encode()
            .into(),
            _ => {
                let groups = groups(&tickets).expect("stored winners are one recipient's, one per nonce");
                TicketEscrow::claimBatchCall { recipient, groups }
                    .abi_encode()
                    .into()
            }
        };
        let contract = self.merchant.domain().contract();
        self.sender
            .prepare(contract, data, U256::ZERO, account_nonce, replaces)
            .await
    }

    async fn save_and_broadcast(
        &self,
        claim: &ClaimRecord,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Step, ClaimStepError> {
        let transaction = TxRecord {
            hash: prepared.hash,
            raw: prepared.raw.clone(),
            account_nonce: prepared.account_nonce,
            max_fee_per_gas: prepared.max_fee_per_gas,
            max_priority_fee_per_gas: prepared.max_priority_fee_per_gas,
            sent_at: now,
        };
        self.merchant
            .store
            .add_transaction(claim.id, &transaction)
            .await?;
        self.sender.broadcast(&prepared.raw).await?;
        info!(claim = %claim.id, hash = %prepared.hash, max_fee = prepared.max_fee_per_gas, "claim sent");
        Ok(Step::Sent(claim.id, prepared.hash))
    }

    // ── sent → mined, or back to queued ──

    async fn watch(&self, claim: &ClaimRecord, now: Timestamp) -> Result<Step, ClaimStepError> {
        let newest = claim.transactions.last().expect("a sent claim has a transaction");
        let hashes: Vec<B256> = claim.transactions.iter().map(|tx| tx.hash).collect();
        match self.sender.fate(&hashes, newest.account_nonce).await? {
            Fate::Mined(mined) if mined.success => self.mined(claim, &mined).await,
            Fate::Mined(mined) => {
                warn!(claim = %claim.id, hash = %mined.hash, gas = mined.gas_used, "claim reverted, to be sent anew");
                self.requeue(claim).await
            }
            Fate::Superseded => {
                warn!(claim = %claim.id, nonce = newest.account_nonce, "claim superseded, to be sent anew");
                self.requeue(claim).await
            }
            // Also when the node does not know it: some throw out of their pool what pays too little.
            Fate::Pending | Fate::Unknown if now.since(newest.sent_at) >= self.bump_after => {
                let fees = Fees {
                    max_fee_per_gas: newest.max_fee_per_gas,
                    max_priority_fee_per_gas: newest.max_priority_fee_per_gas,
                };
                let higher = match self.prepare(claim, Some(newest.account_nonce), Some(fees)).await {
                    Ok(higher) => higher,
                    Err(error) => {
                        // Too dear, or more than the account has: then the one there is must do, if the node forgot it.
                        warn!(claim = %claim.id, hash = %newest.hash, %error, "claim is stuck and cannot be replaced");
                        self.sender.broadcast(&newest.raw).await?;
                        return Ok(Step::Pending(claim.id));
                    }
                };
                warn!(claim = %claim.id, old = %newest.hash, "claim is stuck; sending it with a higher fee");
                self.save_and_broadcast(claim, &higher, now).await
            }
            Fate::Unknown => {
                self.sender.broadcast(&newest.raw).await?;
                warn!(claim = %claim.id, hash = %newest.hash, "the node had forgotten the claim; sent again");
                Ok(Step::Sent(claim.id, newest.hash))
            }
            Fate::Pending => Ok(Step::Pending(claim.id)),
        }
    }

    async fn requeue(&self, claim: &ClaimRecord) -> Result<Step, ClaimStepError> {
        self.merchant.store.requeue(claim.id).await?;
        Ok(Step::Requeued(claim.id))
    }

    async fn mined(&self, claim: &ClaimRecord, mined: &Mined) -> Result<Step, ClaimStepError> {
        self.merchant
            .store
            .mined(claim.id, mined.hash, mined.block)
            .await?;
        info!(claim = %claim.id, hash = %mined.hash, block = mined.block.number, "claim mined");
        Ok(Step::Mined(claim.id, mined.hash))
    }

    /// Looks for dropped transactions of a claim that are in a block.
    async fn revived(&self, claim: &ClaimRecord) -> Result<Option<Mined>, ClaimStepError> {
        Ok(self.mined_of(&claim.dropped).await?.into_iter().next())
    }

    /// Those of these transactions that are in a block and did something.
    async fn mined_of<'t>(
        &self,
        transactions: impl IntoIterator<Item = &'t TxRecord>,
    ) -> Result<Vec<Mined>, ClaimStepError> {
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

    /// Events of the claim's transactions other than `hash`: a reorg may bring one that was superseded back beside the one
    /// that took its place. Then one pays, and the other skips what is paid. `None` while one of them is not final.
    async fn other_events(
        &self,
        claim: &ClaimRecord,
        hash: B256,
    ) -> Result<Option<Vec<TicketEscrowEvents>>, ClaimStepError> {
        if claim.dropped.is_empty() {
            return Ok(Some(Vec::new())); // the rest share one account nonce
        }
        let others = claim
            .transactions
            .iter()
            .chain(&claim.dropped)
            .filter(|tx| tx.hash != hash);
        let mined = self.mined_of(others).await?;
        let last_final = self.merchant.mirror.final_block().number;
        let settled = mined.iter().all(|mined| mined.block.number <= last_final);
        Ok(settled.then(|| mined.into_iter().flat_map(|mined| mined.events).collect()))
    }

    // ── mined → final, or back to sent ──

    async fn finish(
        &self,
        claim: &ClaimRecord,
        hash: B256,
        block: protocol::ticket::BlockRef,
    ) -> Result<Step, ClaimStepError> {
        let canonical = self.sender.client().block(block.number).await?;
        if canonical.is_none_or(|found| found.hash != block.hash) {
            warn!(claim = %claim.id, %hash, block = block.number, "the claim's block was reorganised away");
            self.merchant.store.unmined(claim.id).await?;
            return Ok(Step::Unmined(claim.id));
        }
        if self.merchant.mirror.final_block().number < block.number {
            return Ok(Step::Pending(claim.id));
        }
        let all = claim.transactions.iter().chain(&claim.dropped);
        let account_nonce = all
            .clone()
            .find(|tx| tx.hash == hash)
            .map_or(0, |tx| tx.account_nonce);
        let Fate::Mined(mined) = self.sender.fate(&[hash], account_nonce).await? else {
            return Ok(Step::Pending(claim.id)); // the chain moved between two looks
        };
        if mined.block.hash != block.hash {
            return Ok(Step::Pending(claim.id));
        }
        let Some(others) = self.other_events(claim, hash).await? else {
            return Ok(Step::Pending(claim.id));
        };
        let outcomes = outcomes(claim, &mined, &others, &self.escrows(&claim.wins))?;
        let settled = settled(&outcomes, mined.gas_used);
        self.merchant
            .store
            .finalize(claim.id, &outcomes, mined.gas_used, mined.effective_gas_price)
            .await?;
        for win in &claim.wins {
            self.merchant.book.settled(win.ticket.escrow(), 1);
        }
        info!(claim = %claim.id, claimed = settled.claimed, skipped = settled.skipped, paid = settled.paid,
            owed = settled.owed, gas = settled.gas_used, "claim final");
        Ok(Step::Final(claim.id, settled))
    }
}

/// What an event says of a winner.
fn outcome_of(
    event: &TicketEscrowEvents,
    escrows: &BTreeMap<Address, EscrowRecord>,
) -> Option<((Address, u64), Outcome)> {
    match event {
        TicketEscrowEvents::Claimed(claimed) => {
            let prize = escrows
                .get(&claimed.escrow)
                .map_or(Amount::ZERO, |record| record.prize);
            let owed = Amount(claimed.owed.saturating_to());
            let paid = prize.checked_sub(owed).unwrap_or_default();
            Some(((claimed.escrow, claimed.nonce), Outcome::Final { paid, owed }))
        }
        TicketEscrowEvents::TicketSkipped(skipped) => {
            let outcome = Outcome::Refused {
                reason: skipped.reason,
                got: skipped.got,
                limit: skipped.limit,
            };
            Some(((skipped.escrow, skipped.nonce), outcome))
        }
        _ => None,
    }
}

fn by_escrow<'w>(wins: &[&'w WinRecord]) -> BTreeMap<Address, Vec<&'w WinRecord>> {
    let mut groups: BTreeMap<Address, Vec<&WinRecord>> = BTreeMap::new();
    for win in wins {
        groups.entry(win.ticket.escrow()).or_default().push(win);
    }
    groups
}

fn commitments(wins: &[&WinRecord]) -> BTreeSet<B256> {
    wins.iter().map(|win| win.ticket.commitment()).collect()
}

fn waiting(win: &WinRecord, escrows: &BTreeMap<Address, EscrowRecord>) -> Option<Waiting> {
    let ticket = &win.ticket;
    Some(Waiting {
        digest: ticket.digest(),
        escrow: ticket.escrow(),
        nonce: ticket.nonce(),
        expiry: ticket.expiry(),
        won_at: win.won_at,
        prize: escrows.get(&ticket.escrow())?.prize,
    })
}

/// The reason and values of a ticket error: all have the shape (got, limit).
fn refusal(data: &Bytes) -> Option<(B32, U256, U256)> {
    use TicketEscrow::{
        DrawNotBelowThreshold, EscrowNotPaying, NonceNotAboveLast, NonceNotBelowCap, ThresholdAboveMax,
        TicketExpired, TicketNotSigned,
    };
    let known = [
        EscrowNotPaying::SELECTOR,
        TicketExpired::SELECTOR,
        NonceNotBelowCap::SELECTOR,
        NonceNotAboveLast::SELECTOR,
        ThresholdAboveMax::SELECTOR,
        DrawNotBelowThreshold::SELECTOR,
        TicketNotSigned::SELECTOR,
    ];
    let (selector, values) = data.split_first_chunk::<4>()?;
    let (got, limit) = values.split_at_checked(32)?;
    known.contains(selector).then(|| {
        Some((
            B32::from(*selector),
            U256::try_from_be_slice(got)?,
            U256::try_from_be_slice(limit)?,
        ))
    })?
}

/// What the events of a claim's transactions say of each of its winners. A winner that one of them skipped because another
/// had paid it was paid.
fn outcomes(
    claim: &ClaimRecord,
    mined: &Mined,
    others: &[TicketEscrowEvents],
    escrows: &BTreeMap<Address, EscrowRecord>,
) -> Result<Vec<(B256, Outcome)>, ClaimStepError> {
    let mut found: BTreeMap<(Address, u64), Outcome> = BTreeMap::new();
    for (ticket, outcome) in mined
        .events
        .iter()
        .chain(others)
        .filter_map(|event| outcome_of(event, escrows))
    {
        let known = found.entry(ticket).or_insert(outcome);
        if matches!(outcome, Outcome::Final { .. }) {
            *known = outcome;
        }
    }
    let outcome = |win: &WinRecord| {
        let (digest, escrow, nonce) = (win.ticket.digest(), win.ticket.escrow(), win.ticket.nonce());
        let outcome = found.get(&(escrow, nonce.0));
        let outcome = outcome.ok_or(ClaimStepError::NoOutcome {
            hash: mined.hash,
            digest,
            escrow,
            nonce,
        })?;
        if let Outcome::Refused { reason, got, limit } = outcome {
            error!(ticket = %digest, %escrow, %nonce, %reason, %got, %limit, "the contract left out a winner");
        }
        Ok((digest, *outcome))
    };
    claim.wins.iter().map(outcome).collect()
}

fn settled(outcomes: &[(B256, Outcome)], gas_used: u64) -> Settled {
    let mut settled = Settled {
        gas_used,
        ..Settled::default()
    };
    for (_, outcome) in outcomes {
        match outcome {
            Outcome::Final { paid, owed } => {
                settled.claimed += 1;
                settled.paid = settled.paid.saturating_add(paid.0);
                settled.owed = settled.owed.saturating_add(owed.0);
            }
            Outcome::Refused { .. } => settled.skipped += 1,
        }
    }
    settled
}
