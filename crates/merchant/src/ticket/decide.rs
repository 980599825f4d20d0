//! When to claim: a pure decision over the winners at hand, with its reason in words for the log.
//!
//! A claim costs gas, so winners wait until the batch is worth it; they never wait past an age, nor past a deadline after
//! which they could not be paid: their own expiry, the escrow's withdrawal, or a balance that others are draining.

use std::collections::BTreeMap;
use std::fmt;

use alloy_primitives::{Address, B256};
use protocol::ticket::{Amount, EscrowRecord, Nonce, Status, Timestamp};

/// What the claimer goes by. Times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimPolicy {
    /// A winner younger than this waits: a ticket with a lower nonce may still be on its way.
    pub settle_secs: u64,
    /// Winners are claimed at the latest at this age.
    pub max_age_secs: u64,
    /// Claim as soon as this many winners are at hand, whatever the gas price.
    pub batch: usize,
    /// Most winners in one transaction.
    pub max_batch: usize,
    /// Claim when the winners are worth this many times the gas of claiming them.
    pub value_over_gas: u32,
    /// Claim this long before a deadline.
    pub deadline_margin_secs: u64,
    /// What one atomic unit of the asset is worth in wei. `None`: gas is not compared with value.
    pub wei_per_unit: Option<u128>,
}

impl Default for ClaimPolicy {
    fn default() -> Self {
        Self {
            settle_secs: 3,
            max_age_secs: 6 * 3600,
            batch: 32,
            max_batch: 256,
            value_over_gas: 20,
            deadline_margin_secs: 6 * 3600,
            wei_per_unit: None,
        }
    }
}

/// A winner that waits to be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The ticket's digest.
    pub digest: B256,
    /// The escrow that pays.
    pub escrow: Address,
    /// The ticket's nonce.
    pub nonce: Nonce,
    /// Last second at which it can be claimed.
    pub expiry: Timestamp,
    /// When it was won.
    pub won_at: Timestamp,
    /// What it pays.
    pub prize: Amount,
}

/// Gas of one claim transaction, measured (`make gas`), rounded up: base with the first ticket, and each further one.
const GAS_BASE: u128 = 90_000;
const GAS_PER_TICKET: u128 = 12_000;
const GAS_PER_ESCROW: u128 = 20_000;

/// Why a claim is made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// Somebody asked for it.
    Asked,
    /// There are enough winners.
    Batch {
        /// Winners at hand.
        got: usize,
        /// The policy's batch.
        needed: usize,
    },
    /// They are worth the gas.
    ValueOverGas {
        /// Their worth in wei.
        value_wei: u128,
        /// What claiming them costs in wei.
        gas_wei: u128,
        /// The policy's factor.
        factor: u32,
    },
    /// The oldest has waited long enough.
    Age {
        /// Its age in seconds.
        got: u64,
        /// The policy's limit in seconds.
        limit: u64,
    },
    /// A winner expires soon.
    Expiry {
        /// When.
        at: Timestamp,
    },
    /// A payer withdraws soon.
    Withdrawal {
        /// Whose escrow.
        escrow: Address,
        /// When.
        at: Timestamp,
    },
    /// An escrow's balance no longer covers what it owes here: who comes first is paid.
    Insolvency {
        /// Which escrow.
        escrow: Address,
        /// What it has.
        balance: Amount,
        /// What its winners here are worth.
        needed: Amount,
    },
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => write!(f, "asked for"),
            Self::Batch { got, needed } => write!(f, "{got} winners wait, a batch is {needed}"),
            Self::ValueOverGas {
                value_wei,
                gas_wei,
                factor,
            } => {
                write!(
                    f,
                    "worth {value_wei} wei, gas {gas_wei} wei, factor wanted {factor}"
                )
            }
            Self::Age { got, limit } => write!(f, "the oldest has waited {got} s, limit {limit} s"),
            Self::Expiry { at } => write!(f, "a winner expires at {at}"),
            Self::Withdrawal { escrow, at } => write!(f, "{escrow} withdraws at {at}"),
            Self::Insolvency {
                escrow,
                balance,
                needed,
            } => {
                write!(f, "{escrow} has {balance}, its winners here need {needed}")
            }
        }
    }
}

/// What to do with the winners at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Claim these.
    Claim {
        /// Digests of the winners, of one or many escrows.
        winners: Vec<B256>,
        /// Why now.
        because: Because,
    },
    /// Wait, for this reason.
    Wait {
        /// Winners that could be claimed.
        ready: usize,
        /// Winners too young.
        settling: usize,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { winners, because } => write!(f, "claim {} winners: {because}", winners.len()),
            Self::Wait { ready, settling } => {
                write!(f, "wait: {ready} winners ready, {settling} settling")
            }
        }
    }
}

/// What the decision looks at besides the winners.
#[derive(Clone, Debug)]
pub struct Market<'a> {
    /// Unix seconds.
    pub now: Timestamp,
    /// Wei per gas a claim would pay now; `None` where the node did not say.
    pub wei_per_gas: Option<u128>,
    /// Escrows as of the newest block.
    pub escrows: &'a BTreeMap<Address, EscrowRecord>,
    /// Whether somebody asked for a claim now.
    pub asked: bool,
}

/// Decides whether to claim, and which. Escrows take turns, the one whose winners expire first in front, so that one with
/// many winners does not keep the others waiting; of one escrow always the lowest nonces, because a paid nonce makes lower
/// ones unclaimable.
pub fn decide(waiting: &[Waiting], market: &Market<'_>, policy: &ClaimPolicy) -> Decision {
    let (ready, settling) = ready(waiting, market, policy);
    let Some(because) = because(&ready, market, policy) else {
        return Decision::Wait {
            ready: ready.len(),
            settling,
        };
    };
    let winners = ready
        .into_iter()
        .take(policy.max_batch)
        .map(|w| w.digest)
        .collect();
    Decision::Claim { winners, because }
}

/// Splits off those that must settle. Within an escrow nothing above an unsettled nonce is ready either: claiming it would
/// bury the lower one.
fn ready<'w>(waiting: &'w [Waiting], market: &Market<'_>, policy: &ClaimPolicy) -> (Vec<&'w Waiting>, usize) {
    let mut by_escrow: BTreeMap<Address, Vec<&Waiting>> = BTreeMap::new();
    for winner in waiting {
        by_escrow.entry(winner.escrow).or_default().push(winner);
    }
    let mut groups: Vec<Vec<&Waiting>> = by_escrow.into_values().collect();
    for group in &mut groups {
        group.sort_by_key(|w| w.nonce);
        let settled = group
            .iter()
            .position(|w| w.won_at.0.saturating_add(policy.settle_secs) > market.now.0)
            .unwrap_or(group.len());
        group.truncate(settled);
    }
    groups.retain(|group| !group.is_empty());
    groups.sort_by_key(|group| group.iter().map(|w| w.expiry).min());
    let longest = groups.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| groups.iter().filter_map(move |group| group.get(turn).copied()));
    let ready: Vec<&Waiting> = turns.collect();
    let settling = waiting.len() - ready.len();
    (ready, settling)
}

fn because(ready: &[&Waiting], market: &Market<'_>, policy: &ClaimPolicy) -> Option<Because> {
    if ready.is_empty() {
        return None;
    }
    if market.asked {
        return Some(Because::Asked);
    }
    deadline(ready, market, policy)
        .or_else(|| insolvency(ready, market))
        .or_else(|| age(ready, market, policy))
        .or_else(|| {
            (ready.len() >= policy.batch).then_some(Because::Batch {
                got: ready.len(),
                needed: policy.batch,
            })
        })
        .or_else(|| value_over_gas(ready, market, policy))
}

fn deadline(ready: &[&Waiting], market: &Market<'_>, policy: &ClaimPolicy) -> Option<Because> {
    let soon = market.now.0.saturating_add(policy.deadline_margin_secs);
    let expiry = ready.iter().map(|w| w.expiry).min()?;
    if expiry.0 <= soon {
        return Some(Because::Expiry { at: expiry });
    }
    ready.iter().find_map(|w| {
        let at = market.escrows.get(&w.escrow)?.withdraw_at?;
        (at.0 <= soon).then_some(Because::Withdrawal { escrow: w.escrow, at })
    })
}

fn insolvency(ready: &[&Waiting], market: &Market<'_>) -> Option<Because> {
    let mut needed: BTreeMap<Address, u128> = BTreeMap::new();
    for winner in ready {
        let sum = needed.entry(winner.escrow).or_default();
        *sum = sum.saturating_add(winner.prize.0);
    }
    needed.into_iter().find_map(|(escrow, needed)| {
        let record = market.escrows.get(&escrow)?;
        // One prize of room: the next winner of somebody else must not be the one that empties it.
        let scarce = record.balance.0 < needed.saturating_add(record.prize.0);
        (record.status == Status::Insolvent || scarce).then_some(Because::Insolvency {
            escrow,
            balance: record.balance,
            needed: Amount(needed),
        })
    })
}

fn age(ready: &[&Waiting], market: &Market<'_>, policy: &ClaimPolicy) -> Option<Because> {
    let oldest = ready.iter().map(|w| w.won_at).min()?;
    let got = market.now.0.saturating_sub(oldest.0);
    (got >= policy.max_age_secs).then_some(Because::Age {
        got,
        limit: policy.max_age_secs,
    })
}

fn value_over_gas(ready: &[&Waiting], market: &Market<'_>, policy: &ClaimPolicy) -> Option<Because> {
    let batch = &ready[..ready.len().min(policy.max_batch)];
    let escrows = batch
        .iter()
        .map(|w| w.escrow)
        .collect::<std::collections::BTreeSet<_>>()
        .len();
    let gas = GAS_BASE + GAS_PER_TICKET * batch.len() as u128 + GAS_PER_ESCROW * escrows as u128;
    let gas_wei = gas.saturating_mul(market.wei_per_gas?);
    let units = batch.iter().fold(0u128, |sum, w| sum.saturating_add(w.prize.0));
    let value_wei = units.saturating_mul(policy.wei_per_unit?);
    (value_wei >= gas_wei.saturating_mul(u128::from(policy.value_over_gas))).then_some(
        Because::ValueOverGas {
            value_wei,
            gas_wei,
            factor: policy.value_over_gas,
        },
    )
}

#[cfg(test)]
mod tests {
    use protocol::ticket::WinThreshold;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const PRIZE: u128 = 1_000_000_000_000_000;

    fn escrow(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn winner(n: u8, nonce: u64, age: u64) -> Waiting {
        Waiting {
            digest: alloy_primitives::keccak256([&[n], nonce.to_be_bytes().as_slice()].concat()),
            escrow: escrow(n),
            nonce: Nonce(nonce),
            expiry: Timestamp(NOW + 15 * 3600),
            won_at: Timestamp(NOW - age),
            prize: Amount(PRIZE),
        }
    }

    fn record(prizes: u128) -> EscrowRecord {
        EscrowRecord {
            payer: Address::ZERO,
            asset: Address::ZERO,
            prize: Amount(PRIZE),
            max_threshold: WinThreshold::one_in(128),
            ticket_cap: Nonce(1_000),
            balance: Amount(prizes * PRIZE),
            penalty: Amount(20 * PRIZE),
            status: Status::Open,
            withdraw_at: None,
            cure_by: None,
            debt: alloy_primitives::U256::ZERO,
            earmarked: Amount(0),
            earmark_until: Timestamp(0),
            pairs: BTreeMap::new(),
            debts: BTreeMap::new(),
        }
    }

    /// Decides with escrows 1 and 2 as given, at `wei_per_gas`.
    fn ask(
        waiting: &[Waiting],
        change: impl Fn(&mut EscrowRecord),
        policy: &ClaimPolicy,
        wei_per_gas: u128,
    ) -> Decision {
        let mut one = record(100);
        change(&mut one);
        let escrows = BTreeMap::from([(escrow(1), one), (escrow(2), record(100))]);
        let market = Market {
            now: Timestamp(NOW),
            wei_per_gas: Some(wei_per_gas),
            escrows: &escrows,
            asked: false,
        };
        decide(waiting, &market, policy)
    }

    fn reason(decision: Decision) -> Option<Because> {
        match decision {
            Decision::Claim { because, .. } => Some(because),
            Decision::Wait { .. } => None,
        }
    }

    fn policy() -> ClaimPolicy {
        ClaimPolicy {
            wei_per_unit: Some(1),
            ..ClaimPolicy::default()
        }
    }

    #[test]
    fn one_small_winner_waits() {
        let decision = ask(&[winner(1, 5, 60)], |_| (), &policy(), 10_000_000_000);
        assert_eq!(
            decision,
            Decision::Wait {
                ready: 1,
                settling: 0
            }
        );
        assert_eq!(decision.to_string(), "wait: 1 winners ready, 0 settling");
    }

    /// M1-16: claiming what costs more than it brings loses money, and gas moves.
    #[test]
    fn winners_worth_their_gas_are_claimed_and_the_reason_has_both_numbers() {
        let cheap = 100_000_000; // wei per gas: 122,000 gas cost 1.2e13 wei, the prize is 1e15
        let because = reason(ask(&[winner(1, 5, 60)], |_| (), &policy(), cheap));
        let gas_wei = (GAS_BASE + GAS_PER_TICKET + GAS_PER_ESCROW) * cheap;
        assert_eq!(
            because,
            Some(Because::ValueOverGas {
                value_wei: PRIZE,
                gas_wei,
                factor: 20
            })
        );
        assert_eq!(
            reason(ask(&[winner(1, 5, 60)], |_| (), &policy(), cheap * 10)),
            None
        );
        let no_rate = ClaimPolicy {
            wei_per_unit: None,
            ..policy()
        };
        assert_eq!(reason(ask(&[winner(1, 5, 60)], |_| (), &no_rate, cheap)), None);
    }

    #[test]
    fn enough_winners_are_a_batch() {
        let all: Vec<_> = (1..=32).map(|nonce| winner(1, nonce, 60)).collect();
        let gwei = 1_000_000_000_000;
        assert_eq!(
            reason(ask(&all, |_| (), &policy(), gwei)),
            Some(Because::Batch { got: 32, needed: 32 })
        );
        assert_eq!(reason(ask(&all[1..], |_| (), &policy(), gwei)), None);
    }

    #[test]
    fn the_oldest_waits_no_longer_than_the_age() {
        let limit = policy().max_age_secs;
        let at = |age| reason(ask(&[winner(1, 5, age)], |_| (), &policy(), u128::MAX));
        assert_eq!(at(limit), Some(Because::Age { got: limit, limit }));
        assert_eq!(at(limit - 1), None);
    }

    #[test]
    fn deadlines_go_before_gas() {
        let margin = policy().deadline_margin_secs;
        let expiring = Waiting {
            expiry: Timestamp(NOW + margin),
            ..winner(1, 5, 60)
        };
        let because = reason(ask(&[expiring], |_| (), &policy(), u128::MAX));
        assert_eq!(
            because,
            Some(Because::Expiry {
                at: Timestamp(NOW + margin)
            })
        );

        let at = Timestamp(NOW + margin);
        let withdrawing = |record: &mut EscrowRecord| record.withdraw_at = Some(at);
        let because = reason(ask(&[winner(1, 5, 60)], withdrawing, &policy(), u128::MAX));
        assert_eq!(
            because,
            Some(Because::Withdrawal {
                escrow: escrow(1),
                at
            })
        );
        let later = |record: &mut EscrowRecord| record.withdraw_at = Some(Timestamp(NOW + margin + 1));
        assert_eq!(
            reason(ask(&[winner(1, 5, 60)], later, &policy(), u128::MAX)),
            None
        );
    }

    #[test]
    fn a_balance_that_others_drain_is_claimed_from_at_once() {
        let two = [winner(1, 5, 60), winner(1, 6, 60)];
        let poor = |record: &mut EscrowRecord| record.balance = Amount(3 * PRIZE - 1);
        let because = reason(ask(&two, poor, &policy(), u128::MAX));
        let needed = Amount(2 * PRIZE);
        assert_eq!(
            because,
            Some(Because::Insolvency {
                escrow: escrow(1),
                balance: Amount(3 * PRIZE - 1),
                needed
            })
        );
        let enough = |record: &mut EscrowRecord| record.balance = Amount(3 * PRIZE);
        assert_eq!(reason(ask(&two, enough, &policy(), u128::MAX)), None);
        let insolvent = |record: &mut EscrowRecord| record.status = Status::Insolvent;
        assert!(reason(ask(&two, insolvent, &policy(), u128::MAX)).is_some());
    }

    /// A paid nonce makes lower ones unclaimable, so nothing is claimed over one that has not settled.
    #[test]
    fn nothing_is_claimed_above_a_winner_that_settles() {
        let young = winner(1, 5, 1);
        let old = winner(1, 6, 60);
        let other = winner(2, 9, 60);
        let ready = winner(1, 4, 60);
        let all = [old.clone(), young, other.clone(), ready.clone()];
        let market = |asked| Market {
            now: Timestamp(NOW),
            wei_per_gas: None,
            escrows: Box::leak(Box::new(BTreeMap::new())),
            asked,
        };
        let Decision::Claim { winners, because } = decide(&all, &market(true), &policy()) else {
            panic!("asked for");
        };
        assert_eq!(because, Because::Asked);
        assert_eq!(winners.len(), 2);
        assert!(winners.contains(&ready.digest) && winners.contains(&other.digest));
        assert!(!winners.contains(&old.digest));
        assert_eq!(
            decide(&all, &market(false), &policy()),
            Decision::Wait {
                ready: 2,
                settling: 2
            }
        );
    }

    /// Nobody's many winners keep another's from being claimed in time.
    #[test]
    fn escrows_take_turns_and_the_one_that_expires_first_goes_first() {
        let policy = ClaimPolicy {
            batch: 2,
            max_batch: 4,
            ..policy()
        };
        let mut all: Vec<_> = (1..=100).map(|nonce| winner(1, nonce, 600)).collect();
        let urgent = Waiting {
            expiry: Timestamp(NOW + 10),
            ..winner(2, 7, 60)
        };
        all.push(urgent.clone());
        let Decision::Claim { winners, because } = ask(&all, |_| (), &policy, 1) else {
            panic!("a deadline")
        };
        assert_eq!(because, Because::Expiry { at: urgent.expiry });
        let first: Vec<_> = (1..=3).map(|nonce| winner(1, nonce, 600).digest).collect();
        assert_eq!((winners[0], &winners[1..]), (urgent.digest, first.as_slice()));
    }

    #[test]
    fn a_batch_is_bounded_and_takes_the_lowest_nonces() {
        let policy = ClaimPolicy {
            batch: 2,
            max_batch: 3,
            ..policy()
        };
        let all: Vec<_> = (1..=9).rev().map(|nonce| winner(1, nonce, 60)).collect();
        let Decision::Claim { winners, .. } = ask(&all, |_| (), &policy, 1) else {
            panic!("a batch")
        };
        let lowest: Vec<_> = (1..=3).map(|nonce| winner(1, nonce, 60).digest).collect();
        assert_eq!(winners, lowest);
    }
}
