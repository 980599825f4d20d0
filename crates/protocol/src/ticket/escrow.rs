//! What the chain says about an escrow, rebuilt from the contract's events alone. The fold mirrors the contract's effects
//! to the unit: for each event, the same additions and subtractions on the same fields. An event that does not fit is an
//! error, never a guess: the node is wrong, or a block was missed.

use std::collections::{BTreeMap, HashMap};

use alloy_primitives::{Address, U256};
use bindings::ticket::TicketEscrow::{self, TicketEscrowEvents};

use super::{Amount, FoldError, Nonce, Timestamp, WinThreshold};

/// An event of the contract.
pub type EscrowEvent = TicketEscrowEvents;

/// Escrows by the address of their key.
pub type Escrows = HashMap<Address, EscrowRecord>;

/// Life of an escrow; the diagram is in `ITicketEscrow.sol`. An escrow that was never opened has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Pays, and can be changed by its payer.
    Open,
    /// Pays; its payer may withdraw at [`EscrowRecord::withdraw_at`].
    Withdrawing,
    /// Owes more than it has; earmarks still pay.
    Insolvent,
    /// Over; earmarks of a burned escrow still pay.
    Closed,
}

/// An escrow at some block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowRecord {
    /// Who opened it and gets back what is left.
    pub payer: Address,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// What a winner pays, atomic units.
    pub prize: Amount,
    /// Highest `winThreshold` of a payable ticket.
    pub max_threshold: WinThreshold,
    /// Nonces of payable tickets are below this.
    pub ticket_cap: Nonce,
    /// What winners are paid from, atomic units.
    pub balance: Amount,
    /// What is burned if the escrow cheats or stays insolvent, atomic units.
    pub penalty: Amount,
    /// Where it stands.
    pub status: Status,
    /// When the payer can withdraw; only while withdrawing.
    pub withdraw_at: Option<Timestamp>,
    /// Last second to cure; only while insolvent, or burned.
    pub cure_by: Option<Timestamp>,
    /// What winners are owed beyond the balance, atomic units. A whole word: sham recipients can pile up any debt.
    pub debt: U256,
    /// What is set aside for single recipients, outside the balance, atomic units.
    pub earmarked: Amount,
    /// Latest end of any earmark ever made; 0 without one.
    pub earmark_until: Timestamp,
    /// What is kept per recipient. A recipient without an entry has the default one.
    pub pairs: BTreeMap<Address, PairRecord>,
    /// What each creditor is owed, atomic units, above 0.
    pub debts: BTreeMap<Address, U256>,
}

/// What is kept per escrow and recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairRecord {
    /// Highest nonce paid; only higher ones can still be claimed.
    pub last_nonce: Nonce,
    /// Prizes set aside for this recipient alone.
    pub earmark_prizes: u32,
    /// The payer cannot take them back before the contract's margin after this.
    pub earmark_until: Timestamp,
}

/// One escrow at two blocks. Admission judges on the worse of both (rule E10): what is good must be final, and what is bad
/// counts from the moment it is seen.
#[derive(Clone, Copy, Debug)]
pub struct EscrowView<'a> {
    /// At the last final block; `None` if it was not open by then.
    pub last_final: Option<&'a EscrowRecord>,
    /// At the newest block; `None` if it is not open there.
    pub head: Option<&'a EscrowRecord>,
}

impl EscrowRecord {
    /// What is kept for a recipient.
    pub fn pair(&self, recipient: Address) -> PairRecord {
        self.pairs.get(&recipient).copied().unwrap_or_default()
    }
}

impl<'a> EscrowView<'a> {
    /// Both records, as far as there are any.
    pub(super) fn records(self) -> impl Iterator<Item = &'a EscrowRecord> {
        self.last_final.into_iter().chain(self.head)
    }
}

/// The escrow that an event changes, or `None` for one that changes none.
pub fn escrow_of(event: &EscrowEvent) -> Option<Address> {
    match event {
        EscrowEvent::Opened(e) => Some(e.escrow),
        EscrowEvent::ToppedUp(e) => Some(e.escrow),
        EscrowEvent::CapRaised(e) => Some(e.escrow),
        EscrowEvent::Earmarked(e) => Some(e.escrow),
        EscrowEvent::EarmarkReleased(e) => Some(e.escrow),
        EscrowEvent::Claimed(e) => Some(e.escrow),
        EscrowEvent::BecameInsolvent(e) => Some(e.escrow),
        EscrowEvent::Cured(e) => Some(e.escrow),
        EscrowEvent::Burned(e) => Some(e.escrow),
        EscrowEvent::EquivocationProven(e) => Some(e.escrow),
        EscrowEvent::WithdrawRequested(e) => Some(e.escrow),
        EscrowEvent::WithdrawCancelled(e) => Some(e.escrow),
        EscrowEvent::Withdrawn(e) => Some(e.escrow),
        // A skipped ticket changes nothing, operators and credit belong to accounts.
        EscrowEvent::TicketSkipped(_)
        | EscrowEvent::OperatorSet(_)
        | EscrowEvent::CreditWithdrawn(_)
        | EscrowEvent::EIP712DomainChanged(_) => None,
    }
}

/// Applies an event to the escrow it changes. On an error nothing is changed.
pub fn apply(escrows: &mut Escrows, event: &EscrowEvent) -> Result<(), FoldError> {
    let Some(escrow) = escrow_of(event) else {
        return Ok(());
    };
    match escrows.get_mut(&escrow) {
        Some(record) => record.apply(escrow, event),
        None => {
            let mut record = None;
            fold(&mut record, event)?;
            escrows.extend(record.map(|record| (escrow, record)));
            Ok(())
        }
    }
}

/// Applies an event to one escrow's record, `None` before it is opened. The caller has chosen the record by [`escrow_of`].
/// On an error nothing is changed.
pub fn fold(record: &mut Option<EscrowRecord>, event: &EscrowEvent) -> Result<(), FoldError> {
    let Some(escrow) = escrow_of(event) else {
        return Ok(());
    };
    match (record, event) {
        (Some(record), event) => record.apply(escrow, event),
        (empty, EscrowEvent::Opened(opened)) => {
            *empty = Some(EscrowRecord::opened(opened)?);
            Ok(())
        }
        (None, _) => Err(FoldError::EscrowMissing { escrow }),
    }
}

impl EscrowRecord {
    fn opened(event: &TicketEscrow::Opened) -> Result<Self, FoldError> {
        Ok(Self {
            payer: event.payer,
            asset: event.asset,
            prize: event.prize.try_into()?,
            max_threshold: WinThreshold(event.maxThreshold),
            ticket_cap: ticket_cap(event.ticketCap)?,
            balance: event.balance.try_into()?,
            penalty: event.penalty.try_into()?,
            status: Status::Open,
            withdraw_at: None,
            cure_by: None,
            debt: U256::ZERO,
            earmarked: Amount::ZERO,
            earmark_until: Timestamp(0),
            pairs: BTreeMap::new(),
            debts: BTreeMap::new(),
        })
    }

    /// Each arm computes what can fail before it changes anything.
    fn apply(&mut self, escrow: Address, event: &EscrowEvent) -> Result<(), FoldError> {
        match event {
            EscrowEvent::Opened(_) => return Err(FoldError::EscrowExists { escrow }),
            EscrowEvent::ToppedUp(e) => {
                self.balance = add(escrow, self.balance, e.amount.try_into()?)?;
            }
            EscrowEvent::CapRaised(e) => {
                let penalty = e.penalty.try_into()?;
                self.ticket_cap = ticket_cap(e.ticketCap)?;
                self.penalty = penalty;
            }
            EscrowEvent::Earmarked(e) => self.earmark(escrow, e)?,
            EscrowEvent::EarmarkReleased(e) => self.release_earmark(escrow, e)?,
            EscrowEvent::Claimed(e) => self.claim(escrow, e)?,
            EscrowEvent::BecameInsolvent(e) => {
                self.status = Status::Insolvent;
                self.withdraw_at = None;
                self.cure_by = Some(Timestamp(e.cureBy));
            }
            EscrowEvent::Cured(e) => self.cure(escrow, e)?,
            EscrowEvent::Burned(e) => {
                same(escrow, e.amount, self.balance.to_u256() + self.penalty.to_u256())?;
                self.balance = Amount::ZERO;
                self.penalty = Amount::ZERO;
                self.status = Status::Closed;
            }
            EscrowEvent::EquivocationProven(e) => {
                same(escrow, e.burned.saturating_add(e.reward), self.penalty.to_u256())?;
                self.penalty = Amount::ZERO;
            }
            EscrowEvent::WithdrawRequested(e) => {
                self.status = Status::Withdrawing;
                self.withdraw_at = Some(Timestamp(e.withdrawAt));
            }
            EscrowEvent::WithdrawCancelled(_) => {
                self.status = Status::Open;
                self.withdraw_at = None;
            }
            EscrowEvent::Withdrawn(e) => {
                let left = self.balance.to_u256() + self.penalty.to_u256() + self.earmarked.to_u256();
                same(escrow, e.amount, left)?;
                // The pairs still name their earmarks, as on chain; with nothing earmarked they pay nothing.
                self.balance = Amount::ZERO;
                self.penalty = Amount::ZERO;
                self.earmarked = Amount::ZERO;
                self.status = Status::Closed;
                self.withdraw_at = None;
            }
            EscrowEvent::TicketSkipped(_)
            | EscrowEvent::OperatorSet(_)
            | EscrowEvent::CreditWithdrawn(_)
            | EscrowEvent::EIP712DomainChanged(_) => {}
        }
        Ok(())
    }

    fn earmark(&mut self, escrow: Address, event: &TicketEscrow::Earmarked) -> Result<(), FoldError> {
        let amount = self.prizes(escrow, event.prizes)?;
        let balance = sub(escrow, self.balance, amount)?;
        let earmarked = add(escrow, self.earmarked, amount)?;
        let until = Timestamp(event.until);
        let mut pair = self.pair(event.recipient);
        pair.earmark_prizes =
            pair.earmark_prizes
                .checked_add(event.prizes)
                .ok_or_else(|| FoldError::Overflow {
                    escrow,
                    held: U256::from(pair.earmark_prizes),
                    added: U256::from(event.prizes),
                })?;
        pair.earmark_until = until;
        self.pairs.insert(event.recipient, pair);
        self.balance = balance;
        self.earmarked = earmarked;
        self.earmark_until = self.earmark_until.max(until);
        Ok(())
    }

    fn release_earmark(
        &mut self,
        escrow: Address,
        event: &TicketEscrow::EarmarkReleased,
    ) -> Result<(), FoldError> {
        let mut pair = self.pair(event.recipient);
        same(escrow, U256::from(event.prizes), U256::from(pair.earmark_prizes))?;
        let amount = self.prizes(escrow, event.prizes)?;
        let earmarked = sub(escrow, self.earmarked, amount)?;
        // Of a closed escrow it is burned.
        let balance = match self.status {
            Status::Closed => self.balance,
            Status::Open | Status::Withdrawing | Status::Insolvent => add(escrow, self.balance, amount)?,
        };
        pair.earmark_prizes = 0;
        self.pairs.insert(event.recipient, pair);
        self.earmarked = earmarked;
        self.balance = balance;
        Ok(())
    }

    fn claim(&mut self, escrow: Address, event: &TicketEscrow::Claimed) -> Result<(), FoldError> {
        let from_earmark = Amount::try_from(event.fromEarmark)?;
        let owed = Amount::try_from(event.owed)?;
        let earmarked = sub(escrow, self.earmarked, from_earmark)?;
        let from_balance = sub(escrow, sub(escrow, self.prize, from_earmark)?, owed)?;
        let balance = sub(escrow, self.balance, from_balance)?;
        let mut pair = self.pair(event.recipient);
        if from_earmark != Amount::ZERO {
            // A prize is earmarked whole.
            same(escrow, event.fromEarmark, self.prize.to_u256())?;
            pair.earmark_prizes = pair.earmark_prizes.checked_sub(1).ok_or(FoldError::Overspent {
                escrow,
                available: U256::ZERO,
                needed: U256::from(1),
            })?;
        }
        pair.last_nonce = Nonce(event.nonce);
        let overflow = |held| FoldError::Overflow {
            escrow,
            held,
            added: event.owed,
        };
        let debt = self
            .debt
            .checked_add(event.owed)
            .ok_or_else(|| overflow(self.debt))?;
        if owed != Amount::ZERO {
            // At most the debt of all creditors, which fits.
            let owed_to = self.debts.entry(event.recipient).or_default();
            *owed_to = owed_to.saturating_add(event.owed);
        }
        self.debt = debt;
        self.earmarked = earmarked;
        self.balance = balance;
        self.pairs.insert(event.recipient, pair);
        Ok(())
    }

    fn cure(&mut self, escrow: Address, event: &TicketEscrow::Cured) -> Result<(), FoldError> {
        same(
            escrow,
            event.amount,
            self.debts.get(&event.creditor).copied().unwrap_or_default(),
        )?;
        // Each creditor's debt is part of the whole.
        same(escrow, event.debt, self.debt.saturating_sub(event.amount))?;
        self.debts.remove(&event.creditor);
        self.debt = event.debt;
        if self.debt.is_zero() {
            self.status = Status::Open;
            self.cure_by = None;
        }
        Ok(())
    }

    fn prizes(&self, escrow: Address, prizes: u32) -> Result<Amount, FoldError> {
        self.prize
            .checked_mul(u64::from(prizes))
            .ok_or_else(|| FoldError::Overflow {
                escrow,
                held: self.prize.to_u256(),
                added: U256::from(prizes),
            })
    }
}

fn ticket_cap(got: u64) -> Result<Nonce, FoldError> {
    let cap = u32::try_from(got).map_err(|_| FoldError::CapTooLarge { got, limit: u32::MAX })?;
    Ok(Nonce(cap.into()))
}

/// Redundant values of an event are a check on everything before it.
fn same(escrow: Address, got: U256, known: U256) -> Result<(), FoldError> {
    if got == known {
        Ok(())
    } else {
        Err(FoldError::Mismatch { escrow, got, known })
    }
}

fn add(escrow: Address, held: Amount, added: Amount) -> Result<Amount, FoldError> {
    held.checked_add(added).ok_or_else(|| FoldError::Overflow {
        escrow,
        held: held.to_u256(),
        added: added.to_u256(),
    })
}

fn sub(escrow: Address, available: Amount, needed: Amount) -> Result<Amount, FoldError> {
    available.checked_sub(needed).ok_or_else(|| FoldError::Overspent {
        escrow,
        available: available.to_u256(),
        needed: needed.to_u256(),
    })
}
