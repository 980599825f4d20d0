//! Numbers of the ticket scheme with a unit; those of every scheme are in `crate::units`.

use core::fmt;

use alloy_primitives::{B256, U256, U512};
use thiserror::Error;

use crate::units::Amount;

/// A ticket's number under its escrow. Payable nonces are above 0 and below the escrow's cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// A ticket wins iff its draw, a uniform 256-bit number, is below this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WinThreshold(pub U256);

/// The payer's name for one purchase. One order is paid with one ticket, however often it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub B256);

/// A number that its unit cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// A ticket cannot be worth more than what it can win.
    #[error("price is {price}, a prize is only {prize}")]
    PriceAbovePrize {
        /// The price, atomic units.
        price: Amount,
        /// The prize, atomic units.
        prize: Amount,
    },
    /// A ticket that never wins pays nothing.
    #[error("a price of 0 makes no ticket (prize {prize})")]
    PriceZero {
        /// The prize, atomic units.
        prize: Amount,
    },
}

impl Nonce {
    /// The nonce after this one, unless there is none.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl WinThreshold {
    /// The contract keeps an escrow's highest threshold in steps of 2^232.
    const UNIT_BITS: usize = 232;

    /// The threshold of a ticket that wins once in `n`, rounded up. With `n = 1` all draws but one win: a ticket that
    /// always wins cannot be written.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn one_in(n: u64) -> Self {
        assert!(n != 0, "one in 0 is no probability");
        let ceil = U512::from(1).wrapping_shl(256).div_ceil(U512::from(n));
        Self(saturating_u256(ceil))
    }

    /// The least threshold at which a ticket is worth at least `price`, given what it can win. The merchant never gets
    /// less than its price in expectation (but for a price equal to the prize: see [`WinThreshold::one_in`]).
    pub fn for_price(price: Amount, prize: Amount) -> Result<Self, UnitError> {
        if price == Amount::ZERO {
            return Err(UnitError::PriceZero { prize });
        }
        if price > prize {
            return Err(UnitError::PriceAbovePrize { price, prize });
        }
        let ceil = U512::from(price.0)
            .wrapping_shl(256)
            .div_ceil(U512::from(prize.0));
        Ok(Self(saturating_u256(ceil)))
    }

    /// What a ticket with this threshold is worth, given what it can win: `prize × threshold / 2^256`, to the nearest
    /// atomic unit.
    pub fn price(self, prize: Amount) -> Amount {
        let product = U512::from(prize.0) * U512::from(self.0);
        let rounded = (product + U512::from(1).wrapping_shl(255)).wrapping_shr(256);
        // At most the prize, since the threshold is below 2^256.
        Amount(u128::try_from(rounded).unwrap_or(prize.0))
    }

    /// The probability to win, exact to the last bit of a double.
    pub fn probability(self) -> f64 {
        // 2^-256 is a power of two, so that only the conversion of the integer rounds.
        f64::from(self.0) * 2f64.powi(-256)
    }

    /// Whether a ticket with this threshold wins with `draw`.
    pub fn wins(self, draw: U256) -> bool {
        draw < self.0
    }

    /// The least bound an escrow can have that allows this threshold: the next multiple of 2^232. `None` if there is no
    /// such 256-bit number.
    pub fn to_bound(self) -> Option<Self> {
        let low_bits = U256::MAX.wrapping_shr(256 - Self::UNIT_BITS);
        self.0.checked_add(low_bits).map(|sum| Self(sum & !low_bits))
    }
}

fn saturating_u256(value: U512) -> U256 {
    value.saturating_to()
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for WinThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#066x}", self.0)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_in_n() {
        assert_eq!(WinThreshold::one_in(128).0, U256::from(1) << 249);
        assert_eq!(WinThreshold::one_in(1).0, U256::MAX);
        assert_eq!(WinThreshold::one_in(128).probability(), 1.0 / 128.0);
        assert_eq!(WinThreshold::one_in(100).probability(), 0.01);
        assert_eq!(WinThreshold::one_in(100).price(Amount(100)), Amount(1));
        assert_eq!(WinThreshold::one_in(1).price(Amount::MAX), Amount::MAX);
        assert_eq!(WinThreshold(U256::ZERO).probability(), 0.0);
    }

    #[test]
    fn prices_have_bounds() {
        let prize = Amount(10);
        assert_eq!(WinThreshold::for_price(prize, prize), Ok(WinThreshold(U256::MAX)));
        assert_eq!(
            WinThreshold::for_price(Amount(11), prize),
            Err(UnitError::PriceAbovePrize {
                price: Amount(11),
                prize
            })
        );
        assert_eq!(
            WinThreshold::for_price(Amount(0), prize),
            Err(UnitError::PriceZero { prize })
        );
        assert_eq!(
            WinThreshold::for_price(Amount(0), Amount(0)),
            Err(UnitError::PriceZero { prize: Amount(0) })
        );
    }

    #[test]
    fn bounds_are_multiples_of_the_contracts_unit() {
        let unit = U256::from(1) << 232;
        assert_eq!(WinThreshold(U256::from(1)).to_bound(), Some(WinThreshold(unit)));
        assert_eq!(WinThreshold(unit).to_bound(), Some(WinThreshold(unit)));
        assert_eq!(
            WinThreshold(unit + U256::from(1)).to_bound(),
            Some(WinThreshold(unit * U256::from(2)))
        );
        assert_eq!(
            WinThreshold(U256::ZERO).to_bound(),
            Some(WinThreshold(U256::ZERO))
        );
        assert_eq!(WinThreshold(U256::MAX).to_bound(), None);
        let highest = WinThreshold(U256::MAX - (unit - U256::from(1)));
        assert_eq!(highest.to_bound(), Some(highest));
    }

    #[test]
    fn nonces_do_not_wrap() {
        assert_eq!(Nonce(u64::MAX).next(), None);
    }

    proptest! {
        /// The threshold for a price is the least that is worth the price, and is worth no more.
        #[test]
        fn price_and_threshold_agree(prize in 1u128.., part in 0.0f64..1.0) {
            let price = Amount(((prize as f64 * part) as u128).clamp(1, prize));
            let prize = Amount(prize);
            let threshold = WinThreshold::for_price(price, prize).unwrap();
            prop_assert_eq!(threshold.price(prize), price);
            if price < prize {
                let worth = |t: U256| U512::from(prize.0) * U512::from(t);
                let wanted = U512::from(price.0) << 256;
                prop_assert!(worth(threshold.0) >= wanted);
                prop_assert!(worth(threshold.0 - U256::from(1)) < wanted);
            }
        }
    }
}
