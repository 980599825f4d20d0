//! Numbers with a unit. No bare integer with a meaning crosses a module boundary; a seconds value cannot be added to an
//! amount. Arithmetic that hostile input can reach is checked or saturating, never wrapping. Each scheme adds its own.

use core::fmt;

use alloy_primitives::U256;
use thiserror::Error;

/// An amount of an asset, in atomic units (wei for the native asset). A contract may hold them in fewer bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u128);

/// A point in time, Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A span of time in whole seconds, the resolution of block time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u64);

/// A number that its unit cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// An amount beyond 128 bits. No asset that a contract can hold has so much.
    #[error("amount {got} is above the largest {limit}")]
    AmountTooLarge {
        /// The amount, atomic units.
        got: U256,
        /// The largest [`Amount`].
        limit: Amount,
    },
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount; stands for "more than any amount" where a product saturates.
    pub const MAX: Self = Self(u128::MAX);

    /// The sum, unless it overflows.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it is negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `times` this amount, unless it overflows.
    pub fn checked_mul(self, times: u64) -> Option<Self> {
        self.0.checked_mul(u128::from(times)).map(Self)
    }

    /// `times` this amount, or [`Amount::MAX`] where it overflows: for amounts that are only compared against.
    pub fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(u128::from(times)))
    }

    /// The amount as a contract argument.
    pub fn to_u256(self) -> U256 {
        U256::from(self.0)
    }
}

impl TryFrom<U256> for Amount {
    type Error = UnitError;

    fn try_from(got: U256) -> Result<Self, UnitError> {
        u128::try_from(got)
            .map(Self)
            .map_err(|_| UnitError::AmountTooLarge {
                got,
                limit: Self::MAX,
            })
    }
}

impl From<Amount> for U256 {
    fn from(amount: Amount) -> Self {
        amount.to_u256()
    }
}

impl Timestamp {
    /// The time `span` later, or the end of time where that overflows.
    pub fn plus(self, span: Seconds) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }
}

impl Seconds {
    /// One minute.
    pub const MINUTE: Self = Self(60);
    /// One hour.
    pub const HOUR: Self = Self(3_600);
    /// One day.
    pub const DAY: Self = Self(86_400);

    /// `times` this span, saturating.
    pub const fn times(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }

    /// The sum, saturating.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_does_not_wrap() {
        assert_eq!(Amount::MAX.checked_add(Amount(1)), None);
        assert_eq!(Amount(1).checked_sub(Amount(2)), None);
        assert_eq!(Amount::MAX.checked_mul(2), None);
        assert_eq!(Amount::MAX.saturating_mul(2), Amount::MAX);
        assert_eq!(Timestamp(u64::MAX).plus(Seconds(1)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(1).since(Timestamp(2)), Seconds(0));
        let huge = U256::from(u128::MAX) + U256::from(1);
        assert_eq!(
            Amount::try_from(huge),
            Err(UnitError::AmountTooLarge {
                got: huge,
                limit: Amount::MAX
            })
        );
    }
}
