//! Accept: the merchant's decision whether a ticket is as good as money. The rules stand in the order of the design
//! (`ticket.md` §1.3): what the merchant itself knows, what the chain says, the signature. Nothing here waits, and nothing
//! here looks at the draw, so that the answer cannot depend on whether the ticket wins.

use alloy_primitives::Address;

use super::odds;
use super::{
    Amount, EscrowPublicKey, EscrowRecord, EscrowView, Issued, Nonce, Offer, PolicyError, Refusal, Seconds,
    Session, Status, Ticket, Timestamp, recover, verify,
};

/// What a merchant asks of tickets and escrows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Longest life of a ticket, from its arrival.
    pub max_ticket_life: Seconds,
    /// A ticket must live at least this long, so that a claim gets into the chain.
    pub claim_margin: Seconds,
    /// A withdrawal must not be possible before this long after the ticket's expiry.
    pub withdraw_margin: Seconds,
    /// Probability, above 0 and below 1, that an escrow's tickets win more than its penalty covers.
    pub epsilon: f64,
    /// Most unclaimed wins of one payer, the ticket at hand counted as one. `None`: any number.
    pub exposure_cap: Option<u32>,
    /// Tickets are accepted while the view of the chain's head is at most this old: so long may the node be away. What
    /// other merchants are paid meanwhile is not seen.
    pub max_mirror_age: Seconds,
}

/// What a ticket is judged on, all of it in memory.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// The session under which the ticket was issued if that is live, else the live one for its escrow.
    pub session: &'a Session,
    /// Whether the ticket's commitment is one that this merchant had and closed. Only names the refusal.
    pub commitment_closed: bool,
    /// What the payment costs.
    pub offer: Offer,
    /// Whether a ticket with this escrow and nonce was accepted under the live session.
    pub nonce_seen: bool,
    /// Highest nonce of this escrow in any claim ever queued.
    pub nonce_floor: Nonce,
    /// The merchant's clock.
    pub now: Timestamp,
    /// What the merchant asks for.
    pub policy: &'a Policy,
    /// What the chain says of the ticket's escrow.
    pub escrow: EscrowView<'a>,
    /// How long ago the head in `escrow` was seen to be the head.
    pub mirror_age: Seconds,
    /// This merchant's wins on this escrow that `escrow.head` does not show as paid. Who counts all wins whose claim is
    /// not final is on the safe side, but asks for the money of a mined claim twice until it is final.
    pub unclaimed_wins: u32,
    /// This merchant's wins on any escrow of the same payer whose claim is not final; at least `unclaimed_wins`.
    pub payer_unclaimed_wins: u32,
    /// The escrow's public key, if a ticket of it was accepted before ([`Ticket::key`]): makes the signature check
    /// cheaper. A key of another escrow is ignored.
    pub known_key: Option<&'a EscrowPublicKey>,
}

/// Accepted: as good as money, and its outcome not yet known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub(super) session: Session,
    pub(super) key: EscrowPublicKey,
    pub(super) v_checked: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_ticket_life: Seconds::DAY,
            claim_margin: Seconds::HOUR.times(6),
            withdraw_margin: Seconds::HOUR.times(6),
            epsilon: 1e-4,
            exposure_cap: None,
            max_mirror_age: Seconds::MINUTE.times(15),
        }
    }
}

impl Policy {
    /// Whether the policy is safe with a contract of this withdraw delay: a withdrawal that begins unseen, right after the
    /// view was taken, must not end before the longest-lived ticket is claimed (rule E7).
    pub fn check(&self, withdraw_delay: Seconds) -> Result<(), PolicyError> {
        let window = self
            .max_ticket_life
            .plus(self.withdraw_margin)
            .plus(self.max_mirror_age);
        if window > withdraw_delay {
            return Err(PolicyError::WindowAboveDelay {
                window,
                delay: withdraw_delay,
            });
        }
        if self.claim_margin > self.max_ticket_life {
            return Err(PolicyError::NoTicketLife {
                min: self.claim_margin,
                max: self.max_ticket_life,
            });
        }
        if !(self.epsilon > 0.0 && self.epsilon < 1.0) {
            return Err(PolicyError::EpsilonOutOfRange { got: self.epsilon });
        }
        Ok(())
    }
}

/// Accepts a ticket, or says which rule it breaks.
///
/// The caller then remembers the nonce, draws, stores a winner durably, and only then delivers.
pub fn accept(ticket: Ticket<Issued>, admission: &Admission<'_>) -> Result<Ticket<Accepted>, Refusal> {
    check_own(&ticket, admission)?;
    check_escrow(&ticket, admission)?;
    let accepted = check_signature(&ticket, admission)?;
    Ok(ticket.into_state(accepted))
}

impl Ticket<Accepted> {
    /// The escrow's public key, to be passed as [`Admission::known_key`] from now on.
    pub fn key(&self) -> &EscrowPublicKey {
        &self.state.key
    }
}

/// Rule 1: what the merchant itself knows.
fn check_own(ticket: &Ticket<Issued>, admission: &Admission<'_>) -> Result<(), Refusal> {
    let session = admission.session;
    // A commitment of an escrow's own serves that one: claiming from another under it would reveal its `r1` unnoticed.
    if ticket.commitment() != session.commitment() || !session.serves(ticket.escrow()) {
        let (got, live) = (ticket.commitment(), session.commitment());
        return Err(if admission.commitment_closed {
            Refusal::CommitmentClosed { got, live }
        } else {
            Refusal::CommitmentUnknown { got, live }
        });
    }
    if ticket.recipient() != session.recipient() {
        return Err(Refusal::WrongRecipient {
            got: ticket.recipient(),
            me: session.recipient(),
        });
    }
    check_nonce(ticket, admission)?;

    let expiry = ticket.expiry();
    let earliest = admission.now.plus(admission.policy.claim_margin);
    if expiry < earliest {
        return Err(Refusal::TicketExpiresTooSoon { expiry, earliest });
    }
    let latest = admission.now.plus(admission.policy.max_ticket_life);
    if expiry > latest {
        return Err(Refusal::TicketLivesTooLong { expiry, latest });
    }
    let (got, price) = (ticket.win_threshold(), admission.offer.win_threshold);
    if got != price {
        return Err(Refusal::WrongThreshold { got, price });
    }
    Ok(())
}

fn check_nonce(ticket: &Ticket<Issued>, admission: &Admission<'_>) -> Result<(), Refusal> {
    let nonce = ticket.nonce();
    if admission.nonce_seen {
        return Err(Refusal::NonceSeen {
            nonce,
            escrow: ticket.escrow(),
        });
    }
    // What the chain has paid is a floor, too: a merchant that lost its own, or shares its address with another, must not
    // accept what the contract will refuse.
    let paid = |record: &EscrowRecord| record.pair(ticket.recipient()).last_nonce;
    let floor = admission
        .escrow
        .records()
        .map(paid)
        .fold(admission.nonce_floor, Nonce::max);
    if nonce <= floor {
        return Err(Refusal::NonceNotAboveFloor { nonce, floor });
    }
    // Without a record there is no cap; rule 2 will refuse.
    if let Some(cap) = admission.escrow.records().map(|record| record.ticket_cap).min()
        && nonce >= cap
    {
        return Err(Refusal::NonceNotBelowCap { nonce, cap });
    }
    Ok(())
}

/// Rule 2: what the chain says, the worse of the last final and the newest block.
fn check_escrow(ticket: &Ticket<Issued>, admission: &Admission<'_>) -> Result<(), Refusal> {
    let Admission { policy, offer, .. } = admission;
    let (age, limit) = (admission.mirror_age, policy.max_mirror_age);
    if age > limit {
        return Err(Refusal::MirrorStale { age, limit });
    }
    let escrow = ticket.escrow();
    let (Some(last_final), Some(head)) = (admission.escrow.last_final, admission.escrow.head) else {
        return Err(Refusal::EscrowMissing { escrow });
    };
    for record in [last_final, head] {
        if record.asset != offer.asset {
            return Err(Refusal::WrongAsset {
                got: record.asset,
                price: offer.asset,
            });
        }
        if record.prize != offer.prize {
            return Err(Refusal::WrongPrize {
                got: record.prize,
                price: offer.prize,
            });
        }
    }
    for record in [last_final, head] {
        check_status(record, ticket.expiry().plus(policy.withdraw_margin))?;
    }
    let (got, max) = (
        ticket.win_threshold(),
        last_final.max_threshold.min(head.max_threshold),
    );
    if got > max {
        return Err(Refusal::ThresholdAboveMax { got, max });
    }
    check_penalty(last_final, policy)?;
    // A raised cap raises both numbers, so that neither block's is the worse one; nearly always they are the same.
    if (head.penalty, head.ticket_cap) != (last_final.penalty, last_final.ticket_cap) {
        check_penalty(head, policy)?;
    }
    check_cover(ticket, admission, last_final, head)
}

fn check_status(record: &EscrowRecord, needed: Timestamp) -> Result<(), Refusal> {
    match record.status {
        Status::Open => Ok(()),
        Status::Withdrawing => {
            // The fold sets both together; without a time it could be now.
            let withdraw_at = record.withdraw_at.unwrap_or_default();
            if withdraw_at < needed {
                return Err(Refusal::EscrowWithdrawing { withdraw_at, needed });
            }
            Ok(())
        }
        status @ (Status::Insolvent | Status::Closed) => Err(Refusal::EscrowNotOpen { status }),
    }
}

fn check_penalty(record: &EscrowRecord, policy: &Policy) -> Result<(), Refusal> {
    let EscrowRecord {
        penalty,
        prize,
        ticket_cap,
        max_threshold,
        ..
    } = *record;
    if odds::penalty_covers(penalty, prize, ticket_cap, max_threshold, policy.epsilon) {
        return Ok(());
    }
    let required = odds::required_penalty(prize, ticket_cap, max_threshold, policy.epsilon);
    // The two may differ in the last bit of a tail. Who pays what is named is right.
    if penalty >= required {
        return Ok(());
    }
    Err(Refusal::PenaltyTooLow { penalty, required })
}

fn check_cover(
    ticket: &Ticket<Issued>,
    admission: &Admission<'_>,
    last_final: &EscrowRecord,
    head: &EscrowRecord,
) -> Result<(), Refusal> {
    let wins = u64::from(admission.unclaimed_wins) + 1;
    let needed = last_final.prize.saturating_mul(wins);
    let balance = last_final.balance.min(head.balance);
    if balance < needed || needed == Amount::MAX {
        let [a, b] = [last_final, head].map(|record| record.pair(ticket.recipient()));
        let until = a.earmark_until.min(b.earmark_until);
        let prizes = a.earmark_prizes.min(b.earmark_prizes);
        if until < ticket.expiry() || u64::from(prizes) < wins {
            return Err(Refusal::BalanceTooLow { balance, needed });
        }
    }
    let wins = admission
        .payer_unclaimed_wins
        .max(admission.unclaimed_wins)
        .saturating_add(1);
    match admission.policy.exposure_cap {
        Some(cap) if wins > cap => Err(Refusal::ExposureTooHigh { wins, cap }),
        _ => Ok(()),
    }
}

/// Rule 3: the escrow key signed this ticket.
///
/// With a known key the signature is verified, which does not judge `v`; the contract does. That is safe: a ticket's draw
/// never depends on its signature's bytes, so a wrong `v` cannot change the outcome, and `draw` puts `v` right on a winner
/// before it is stored. It is not done here because the merchant's answer, and its time, must be the same for winners and
/// losers (N-9), and because it would cost each ticket what only one in many needs.
fn check_signature(ticket: &Ticket<Issued>, admission: &Admission<'_>) -> Result<Accepted, Refusal> {
    let escrow = ticket.escrow();
    let session = *admission.session;
    if let Some(key) = admission.known_key.filter(|key| key.address() == escrow)
        && verify(ticket.digest(), ticket.signature(), key)
    {
        return Ok(Accepted {
            session,
            key: *key,
            v_checked: false,
        });
    }
    let key = recover(ticket.digest(), ticket.signature())?;
    check_signer(key.address(), escrow)?;
    Ok(Accepted {
        session,
        key,
        v_checked: true,
    })
}

pub(super) fn check_signer(recovered: Address, escrow: Address) -> Result<(), Refusal> {
    if recovered != escrow {
        return Err(Refusal::WrongSigner { recovered, escrow });
    }
    Ok(())
}
