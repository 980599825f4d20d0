//! What a transaction offers per unit of gas (EIP-1559), and how much more it must offer to take the place of one that is
//! stuck. Pure.

/// Fees of one transaction, both in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The most that the transaction pays, base fee included.
    pub max_fee_per_gas: u128,
    /// The part of it that goes to the block's producer.
    pub max_priority_fee_per_gas: u128,
}

impl Fees {
    /// Fees that get into one of the next blocks: twice the base fee (six full blocks in a row cannot outgrow that),
    /// and the median of the tips that `rewards` saw, at least 1 wei.
    #[must_use]
    pub fn market(base_fee_per_gas: u128, rewards: &[u128]) -> Self {
        let mut tips: Vec<u128> = rewards.iter().copied().filter(|tip| *tip > 0).collect();
        tips.sort_unstable();
        let tip = tips.get(tips.len() / 2).copied().unwrap_or(1);
        Self {
            max_fee_per_gas: base_fee_per_gas.saturating_mul(2).saturating_add(tip),
            max_priority_fee_per_gas: tip,
        }
    }
}

/// Fees for the transaction that replaces one with `previous` fees: both at least 12.5 % higher, as nodes demand before
/// they swap (geth 10 %, others up to 12.5 %), and at least what the market asks now.
#[must_use]
pub fn bump(previous: Fees, market: Fees) -> Fees {
    let max_priority_fee_per_gas =
        raised(previous.max_priority_fee_per_gas).max(market.max_priority_fee_per_gas);
    Fees {
        // A tip above the whole fee is invalid.
        max_fee_per_gas: raised(previous.max_fee_per_gas)
            .max(market.max_fee_per_gas)
            .max(max_priority_fee_per_gas),
        max_priority_fee_per_gas,
    }
}

/// One eighth more, rounded up, and never the same.
fn raised(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(8)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn market_takes_the_median_tip() {
        let fees = Fees::market(100, &[0, 7, 3, 5]);
        assert_eq!(
            fees,
            Fees {
                max_fee_per_gas: 205,
                max_priority_fee_per_gas: 5
            }
        );
        assert_eq!(
            Fees::market(0, &[]),
            Fees {
                max_fee_per_gas: 1,
                max_priority_fee_per_gas: 1
            }
        );
    }

    proptest! {
        #[test]
        fn a_bump_is_an_eighth_more_and_never_below_the_market(
            fee in 0..u128::from(u64::MAX), tip in 0..u128::from(u64::MAX),
            market_fee in 0..u128::from(u64::MAX), market_tip in 0..u128::from(u64::MAX),
        ) {
            let previous = Fees { max_fee_per_gas: fee, max_priority_fee_per_gas: tip };
            let market = Fees { max_fee_per_gas: market_fee, max_priority_fee_per_gas: market_tip };
            let bumped = bump(previous, market);
            prop_assert!(bumped.max_fee_per_gas * 8 >= fee * 9);
            prop_assert!(bumped.max_priority_fee_per_gas * 8 >= tip * 9);
            prop_assert!(bumped.max_fee_per_gas > fee && bumped.max_priority_fee_per_gas > tip);
            prop_assert!(bumped.max_fee_per_gas >= market_fee && bumped.max_priority_fee_per_gas >= market_tip);
            prop_assert!(bumped.max_priority_fee_per_gas <= bumped.max_fee_per_gas);
        }
    }

    #[test]
    fn absurd_fees_do_not_overflow() {
        let absurd = Fees {
            max_fee_per_gas: u128::MAX,
            max_priority_fee_per_gas: u128::MAX,
        };
        assert_eq!(bump(absurd, absurd), absurd);
        assert_eq!(Fees::market(u128::MAX, &[u128::MAX]), absurd);
    }
}
