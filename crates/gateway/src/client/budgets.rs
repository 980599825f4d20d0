//! Budgets over many calls. Accounts in the payer's store sum up what every signed ticket was worth, refused or not: a
//! merchant that refuses a ticket can still claim it. The accounts count where there is no limit yet, too, so that a limit
//! set later knows the past.

use std::time::{Duration, UNIX_EPOCH};

use alloy_primitives::Address;
use protocol::ticket::{Amount, Timestamp};
use storage::Budget;

/// Of the year 9999; dates end here.
const LAST_SECOND: u64 = 253_402_300_799;

/// Most that may be signed away, in expectation, atomic units of the escrow's asset. `None`: without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// For all calls to one host, ever.
    pub per_host: Option<Amount>,
    /// For all calls of one day (UTC).
    pub per_day: Option<Amount>,
    /// For all calls, ever.
    pub total: Option<Amount>,
}

impl Budgets {
    /// The accounts that a call to `host` counts against: `total`, `day:2026-11-20`, `host:api.example`. Those of a token
    /// end with its address, so that no sum mixes assets.
    pub fn accounts(&self, host: &str, asset: Address, now: Timestamp) -> Vec<Budget> {
        let unit = if asset.is_zero() {
            String::new()
        } else {
            format!("@{asset}")
        };
        [
            ("total".to_owned(), self.total),
            (format!("day:{}", day_of(now)), self.per_day),
            (format!("host:{host}"), self.per_host),
        ]
        .map(|(account, limit)| Budget {
            account: account + &unit,
            limit: limit.unwrap_or(Amount::MAX),
        })
        .into()
    }
}

/// The day of a time in UTC: `2026-11-20`.
pub fn day_of(at: Timestamp) -> String {
    let seconds = at.0.min(LAST_SECOND);
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate("2026-11-20".len());
    text
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;

    #[test]
    fn days_are_those_of_utc() {
        for (at, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_795_132_800, "2026-11-20"),
            (1_798_761_599, "2026-12-31"),
            (1_798_761_600, "2027-01-01"),
            (u64::MAX, "9999-12-31"),
        ] {
            assert_eq!(day_of(Timestamp(at)), day);
        }
    }

    #[test]
    fn every_call_counts_against_three_accounts_of_its_asset() {
        let names = |asset| {
            let budgets = Budgets {
                total: Some(Amount(9)),
                ..Budgets::default()
            };
            let accounts = budgets.accounts("api.example", asset, Timestamp(0));
            assert_eq!(
                accounts.iter().map(|budget| budget.limit.0).collect::<Vec<_>>(),
                [9, u128::MAX, u128::MAX]
            );
            accounts
                .into_iter()
                .map(|budget| budget.account)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(Address::ZERO),
            ["total", "day:1970-01-01", "host:api.example"]
        );
        let token = Address::repeat_byte(0x11);
        assert_eq!(names(token)[0], format!("total@{token}"));
    }
}
