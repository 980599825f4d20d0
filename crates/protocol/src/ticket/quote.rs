//! Quote: the merchant's answer to "what does it cost?" (section 2.1, "Payment Request"). It carries the commitment to
//! `r1`, the price as a threshold over the escrow's prize, and the windows within which a ticket will be accepted.

use alloy_primitives::{Address, B256};

use super::{Amount, EscrowRecord, Nonce, Policy, QuoteError, Seconds, Session, Timestamp, WinThreshold};

/// What one payment is: a chance of `win_threshold / 2^256` to win `prize` of `asset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// What a winner pays, atomic units. The escrow's prize.
    pub prize: Amount,
    /// A ticket wins iff its draw is below this.
    pub win_threshold: WinThreshold,
}

/// What a payer needs to issue a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The merchant's address, which claims.
    pub recipient: Address,
    /// The recipient's commitment to `r1` for this payer's escrow.
    pub commitment: B256,
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// What a winner pays, atomic units.
    pub prize: Amount,
    /// The ticket's `winThreshold`.
    pub win_threshold: WinThreshold,
    /// What the ticket is worth, atomic units: `prize × win_threshold / 2^256`.
    pub price: Amount,
    /// Longest life of a ticket that will be accepted, counted from its arrival.
    pub ticket_life: Seconds,
    /// Shortest life of a ticket that will be accepted, counted from its arrival.
    pub min_ticket_life: Seconds,
    /// The ticket's nonce must be above this.
    pub nonce_floor: Nonce,
}

/// Quotes one payment under `session`. `nonce_floor` is the highest nonce of this escrow in any claim.
pub fn quote(session: &Session, offer: &Offer, policy: &Policy, nonce_floor: Nonce) -> Quote {
    Quote {
        recipient: session.recipient(),
        commitment: session.commitment(),
        asset: offer.asset,
        prize: offer.prize,
        win_threshold: offer.win_threshold,
        price: offer.win_threshold.price(offer.prize),
        ticket_life: policy.max_ticket_life,
        min_ticket_life: policy.claim_margin,
        nonce_floor,
    }
}

impl Quote {
    /// The payer's check before it signs: the price is what the threshold makes it, the escrow can pay such a ticket, and
    /// a ticket can live long enough. What the price may be at most is the payer's own matter.
    pub fn check(&self, escrow: &EscrowRecord) -> Result<(), QuoteError> {
        let worth = self.win_threshold.price(self.prize);
        if self.price != worth {
            return Err(QuoteError::PriceNotWorth {
                price: self.price,
                worth,
            });
        }
        if self.asset != escrow.asset {
            return Err(QuoteError::WrongAsset {
                got: self.asset,
                escrow: escrow.asset,
            });
        }
        if self.prize != escrow.prize {
            return Err(QuoteError::WrongPrize {
                got: self.prize,
                escrow: escrow.prize,
            });
        }
        if self.win_threshold > escrow.max_threshold {
            return Err(QuoteError::ThresholdAboveMax {
                got: self.win_threshold,
                max: escrow.max_threshold,
            });
        }
        if self.min_ticket_life > self.ticket_life {
            return Err(QuoteError::NoTicketLife {
                min: self.min_ticket_life,
                max: self.ticket_life,
            });
        }
        Ok(())
    }

    /// An expiry for a ticket issued now: the middle of what will be accepted, where a wrong clock on either side and a
    /// slow network harm least.
    pub fn expiry(&self, now: Timestamp) -> Timestamp {
        let slack = self.ticket_life.0.saturating_sub(self.min_ticket_life.0);
        now.plus(self.min_ticket_life).plus(Seconds(slack / 2))
    }
}
