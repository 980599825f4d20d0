//! Binomial odds against `tests/vectors/shared-numbers.json`, which an independent implementation computed exactly.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use std::time::{Duration, Instant};

use common::read_vectors;
use micropay_protocol::ticket::odds::{
    at_most, capacity, interval, more_than, penalty_covers, pmf, quantile, required_penalty,
};
use micropay_protocol::ticket::{Amount, Nonce, WinThreshold};
use proptest::prelude::*;
use serde_json::Value;

/// The vectors have 12 significant digits.
const TOLERANCE: f64 = 1e-11;

fn rho(value: &Value) -> f64 {
    let (numerator, denominator) = value.as_str().unwrap().split_once('/').unwrap();
    numerator.parse::<f64>().unwrap() / denominator.parse::<f64>().unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn expect(what: &str, got: f64, wanted: &Value) {
    let wanted: f64 = wanted.as_str().unwrap().parse().unwrap();
    assert!(
        ((got - wanted) / wanted).abs() < TOLERANCE,
        "{what}: got {got:e}, wanted {wanted:e}"
    );
}

#[test]
fn tails_of_section_4_1() {
    let vectors = read_vectors("shared-numbers.json");
    let rows = vectors["micropay_binomial"]["tails"].as_array().unwrap();
    assert_eq!(rows.len(), 16);
    for row in rows {
        let (n, p) = (number(&row["n"]), rho(&row["rho"]));
        for rule in ["strict", "paper_floor"] {
            let k = number(&row[format!("{rule}_max_wins")]);
            expect(
                &format!("{rule} tail of {n} at {p}"),
                at_most(n, p, k),
                &row[rule],
            );
        }
    }
}

#[test]
fn sawtooth_of_section_4_1() {
    let vectors = read_vectors("shared-numbers.json");
    for row in vectors["micropay_binomial"]["sawtooth"].as_array().unwrap() {
        let (n, p) = (number(&row["n"]), rho(&row["rho"]));
        let (above, below) = match row["fraction"].as_str().unwrap() {
            "4/5" => (4, 5),
            "9/10" => (9, 10),
            other => panic!("fraction {other}"),
        };
        // wins < fraction · n / 128, and wins ≤ its floor, in integers.
        let (num, den) = (u64::from(n) * above, 128 * below);
        let strict = u32::try_from(num.div_ceil(den) - 1).unwrap();
        let floor = u32::try_from(num / den).unwrap();
        expect("strict", at_most(n, p, strict), &row["strict"]);
        expect("floor", at_most(n, p, floor), &row["paper_floor"]);
    }
}

#[test]
fn regions_of_figure_3() {
    let vectors = read_vectors("shared-numbers.json");
    for row in vectors["micropay_binomial"]["fig3_regions"].as_array().unwrap() {
        let (n, p) = (number(&row["n"]), rho(&row["rho"]));
        let (low, high) = interval(n, p, 0.99);
        assert_eq!(
            [low, high],
            [
                number(&row["central99_wins"][0]),
                number(&row["central99_wins"][1])
            ]
        );
        let mass: f64 = row["mass"].as_str().unwrap().parse().unwrap();
        assert!((at_most(n, p, high) - at_most(n, p, low - 1) - mass).abs() < 1e-10);
        for (k, wanted) in row["pmf"].as_object().unwrap() {
            expect(
                &format!("pmf of {k} in {n}"),
                pmf(n, p, k.parse().unwrap()),
                wanted,
            );
        }
    }
}

#[test]
fn capacities_of_escrows() {
    let vectors = read_vectors("shared-numbers.json");
    let rows = vectors["micropay_escrow_capacity"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 42);
    for row in rows {
        let (p, prizes) = (rho(&row["rho"]), number(&row["prizes"]));
        let epsilon = row["eps"].as_f64().unwrap();
        let tickets = capacity(prizes, p, epsilon);
        assert_eq!(tickets, number(&row["max_tickets"]), "{row}");
        // The same edge seen from the other side.
        assert_eq!(quantile(tickets, p, epsilon), prizes);
        assert_eq!(quantile(tickets + 1, p, epsilon), prizes + 1);
    }
}

/// M1-2: 20 prizes for 1,034 tickets.
#[test]
fn penalty_of_the_design() {
    let (prize, threshold) = (Amount(1_000), WinThreshold::one_in(128));
    let required = required_penalty(prize, Nonce(1034), threshold, 1e-4);
    assert_eq!(required, Amount(20_000));
    assert!(penalty_covers(required, prize, Nonce(1034), threshold, 1e-4));
    assert!(!penalty_covers(
        Amount(19_999),
        prize,
        Nonce(1034),
        threshold,
        1e-4
    ));
    assert!(!penalty_covers(required, prize, Nonce(1035), threshold, 1e-4));
}

#[test]
fn degenerate_arguments() {
    assert_eq!(
        (
            pmf(10, 0.0, 0),
            pmf(10, 1.0, 10),
            pmf(10, 0.0, 1),
            pmf(10, 1.0, 9)
        ),
        (1.0, 1.0, 0.0, 0.0)
    );
    assert_eq!((pmf(0, 0.3, 0), pmf(3, 0.3, 4)), (1.0, 0.0));
    assert_eq!(
        (at_most(5, 0.5, 5), more_than(5, 0.5, 5), more_than(0, 0.5, 0)),
        (1.0, 0.0, 0.0)
    );
    assert_eq!(
        (
            quantile(9, 1.0, 0.1),
            quantile(9, 0.0, 0.1),
            quantile(9, 0.5, 0.0)
        ),
        (9, 0, 9)
    );
    assert_eq!((quantile(9, 0.5, 1.0), quantile(0, 0.5, 0.1)), (0, 0));
    assert_eq!(
        (
            capacity(3, 0.0, 0.1),
            capacity(3, 1.0, 0.1),
            capacity(u32::MAX, 0.5, 0.1)
        ),
        (u32::MAX, 3, u32::MAX)
    );
    assert_eq!(interval(9, 1.0, 0.99), (9, 9));
    // Every ticket wins, or a hostile prize: the sum saturates, and nothing covers it but a saturated penalty.
    let always = WinThreshold(alloy_primitives::U256::MAX);
    assert_eq!(required_penalty(Amount(7), Nonce(10), always, 1e-4), Amount(70));
    assert_eq!(
        required_penalty(Amount::MAX, Nonce(u64::MAX), always, 1e-4),
        Amount::MAX
    );
    assert!(penalty_covers(Amount::ZERO, Amount::ZERO, Nonce(5), always, 1e-4));
    // The least likely ticket there is.
    let never = WinThreshold(alloy_primitives::U256::from(1));
    assert_eq!(never.probability(), 2f64.powi(-256));
    assert_eq!(quantile(u32::MAX, never.probability(), 1e-4), 0);
    assert!(
        (more_than(u32::MAX, never.probability(), 0) / (4294967295.0 * 2f64.powi(-256)) - 1.0).abs() < 1e-9
    );
}

/// The largest cap of the contract, at the widest distribution: a hostile escrow must not hold up a merchant.
#[test]
fn largest_cap_is_fast() {
    let start = Instant::now();
    let n = u32::MAX;
    for p in [0.5, 1.0 / 128.0, 1e-6] {
        let k = quantile(n, p, 1e-4);
        assert!(more_than(n, p, k) <= 1e-4 * (1.0 + 1e-9) && more_than(n, p, k - 1) > 1e-4);
        let (low, high) = interval(n, p, 0.99);
        let z = 2.575829303548901;
        let sigma = (f64::from(n) * p * (1.0 - p)).sqrt();
        assert!((f64::from(high) - f64::from(n) * p - z * sigma).abs() < 0.01 * sigma + 5.0);
        assert!((f64::from(low) - f64::from(n) * p + z * sigma).abs() < 0.01 * sigma + 5.0);
    }
    // Debug speed on a shared machine; a release build takes milliseconds.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
}

/// Tails of the largest cap at 4 and 20 standard deviations, by 40-digit arithmetic (mpmath).
#[test]
fn largest_cap_is_exact() {
    for (k, wanted) in [
        (33_577_507, 3.18279208537086e-5),
        (33_669_811, 3.69653741899172e-89),
    ] {
        let got = more_than(u32::MAX, 1.0 / 128.0, k);
        assert!(
            (got / wanted - 1.0).abs() < TOLERANCE,
            "got {got:e}, wanted {wanted:e}"
        );
    }
}

/// Sums of all terms from Pascal's triangle, in plain floating point: a second way to the same numbers.
fn naive(n: u32, p: f64) -> Vec<f64> {
    let mut terms = vec![1.0];
    for _ in 0..n {
        let mut next = vec![0.0; terms.len() + 1];
        for (k, term) in terms.iter().enumerate() {
            next[k] += term * (1.0 - p);
            next[k + 1] += term * p;
        }
        terms = next;
    }
    terms
}

proptest! {
    #[test]
    fn agrees_with_pascals_triangle(n in 0u32..200, p in 0.0f64..=1.0, k in 0u32..200) {
        let k = k.min(n);
        let terms = naive(n, p);
        let close = |got: f64, wanted: f64| {
            prop_assert!((got - wanted).abs() <= 1e-11 * wanted + 1e-290, "got {got:e}, wanted {wanted:e}");
            Ok(())
        };
        close(pmf(n, p, k), terms[k as usize])?;
        let above: f64 = terms[k as usize + 1..].iter().rev().sum();
        let below: f64 = terms[..=k as usize].iter().sum();
        prop_assert!((at_most(n, p, k) - below).abs() <= 1e-11);
        prop_assert!((more_than(n, p, k) - above).abs() <= 1e-11);
        if above < 0.5 && f64::from(k) >= f64::from(n) * p { close(more_than(n, p, k), above)?; }
        if below < 0.5 && f64::from(k) < f64::from(n) * p { close(at_most(n, p, k), below)?; }
    }

    /// The quantile is where the tail crosses epsilon, and the capacity is its inverse.
    #[test]
    fn quantile_and_capacity_are_inverse(
        n in 1u32..2_000_000,
        denominator in 2u64..100_000,
        exponent in 0.1f64..12.0,
    ) {
        let (p, epsilon) = (WinThreshold::one_in(denominator).probability(), 10f64.powf(-exponent));
        let k = quantile(n, p, epsilon);
        prop_assert!(more_than(n, p, k) <= epsilon * (1.0 + 1e-9));
        prop_assert!(k == 0 || more_than(n, p, k - 1) > epsilon * (1.0 - 1e-9));
        let tickets = capacity(k, p, epsilon * (1.0 + 1e-9));
        prop_assert!(tickets >= n);
        let (low, high) = interval(n, p, 1.0 - epsilon);
        prop_assert!(low <= high && high <= n);
    }

    /// A merchant's check and a payer's sum agree, whatever the numbers.
    #[test]
    fn named_penalty_is_accepted(
        prize in 1u128..1u128 << 96,
        cap in 2u64..100_000,
        denominator in 2u64..10_000,
    ) {
        let threshold = WinThreshold::one_in(denominator);
        let required = required_penalty(Amount(prize), Nonce(cap), threshold, 1e-4);
        prop_assert!(penalty_covers(required, Amount(prize), Nonce(cap), threshold, 1e-4));
        let less = Amount(required.0.saturating_sub(1));
        prop_assert!(less == required || !penalty_covers(less, Amount(prize), Nonce(cap), threshold, 1e-4));
    }
}
