//! What one payment costs, and how that becomes a win threshold for an escrow's prize. A fixed price and any prize within
//! bounds: each payer chooses its own prize when it opens its escrow.

use alloy_primitives::Address;
use protocol::ticket::{Amount, EscrowRecord, Offer, UnitError, WinThreshold};

/// Tickets to a win in the example.
const EXAMPLE_TICKETS: u64 = 128;

/// A merchant's price, atomic units of `asset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Token, or the zero address for the native asset.
    pub asset: Address,
    /// What one payment is worth in expectation.
    pub price: Amount,
    /// Smallest prize taken: a winner must be worth the gas of its claim (M1-16).
    pub min_prize: Amount,
    /// Largest prize taken: the larger the prize, the longer luck takes to even out.
    pub max_prize: Amount,
}

/// Bounds that allow no payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// The bounds exclude each other.
    #[error("the smallest prize is {min}, the largest {max}")]
    PrizeRange {
        /// Smallest.
        min: Amount,
        /// Largest.
        max: Amount,
    },
    /// No threshold makes this price of the smallest prize.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

impl Price {
    /// Whether some escrow can pay this price.
    pub fn check(&self) -> Result<(), PriceError> {
        if self.min_prize > self.max_prize {
            return Err(PriceError::PrizeRange {
                min: self.min_prize,
                max: self.max_prize,
            });
        }
        WinThreshold::for_price(self.price, self.min_prize)?;
        Ok(())
    }

    /// A prize within bounds, with its threshold, for a payer who has no escrow yet: one win in about a hundred.
    pub(crate) fn example(&self) -> (Amount, WinThreshold) {
        let prize = self
            .price
            .saturating_mul(EXAMPLE_TICKETS)
            .clamp(self.min_prize, self.max_prize);
        let win_threshold =
            WinThreshold::for_price(self.price, prize).expect("checked for the smallest prize");
        (prize, win_threshold)
    }

    /// The offer to an escrow: its own prize where that is within bounds, else the nearest bound, which the admission rule
    /// then names in its refusal. [`Price::check`] has passed, so that every prize within bounds has a threshold.
    pub(crate) fn offer(&self, escrow: &EscrowRecord) -> Offer {
        let prize = escrow.prize.clamp(self.min_prize, self.max_prize);
        let win_threshold =
            WinThreshold::for_price(self.price, prize).expect("checked for the smallest prize");
        Offer {
            asset: self.asset,
            prize,
            win_threshold,
        }
    }
}
