//! The watch over wins: honest payers are left alone, a shortfall is seen, and how soon. Draws are seeded, so that every
//! number printed here is the same on every run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::print_stdout, reason = "its numbers stand in the documentation")]

use std::time::Instant;

use micropay_protocol::ticket::odds::interval;
use micropay_protocol::ticket::watch::{BAND, FALSE_ALARMS, Watch, band};

/// SplitMix64: one line of state, good enough to toss coins.
struct Coins(u64);

impl Coins {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 * 2f64.powi(-53)
    }
}

/// Lets a payer pay tickets of probability `p` that really win with `rate × p`, until it has `wins` expected wins more or
/// the watch alarms. Returns how many expected wins that took.
fn pay(watch: &mut Watch, coins: &mut Coins, p: f64, rate: f64, wins: f64) -> f64 {
    let before = watch.expected();
    while !watch.alarmed() && watch.expected() < before + wins {
        let won = coins.uniform() < rate * p;
        watch.observe(p, won);
    }
    watch.expected() - before
}

/// How many of `payers` honest ones are flagged within `wins` expected wins each.
fn false_alarms(payers: u32, p: f64, wins: f64) -> u32 {
    let mut coins = Coins(1);
    (0..payers)
        .map(|_| {
            let mut watch = Watch::default();
            pay(&mut watch, &mut coins, p, 1.0, wins);
            u32::from(watch.alarmed())
        })
        .sum()
}

/// Expected wins from the onset of a shortfall to the alarm: average and 90 % quantile over `payers` that were honest for
/// `honest` expected wins before. Payers that are flagged while honest are left out.
fn delay(payers: u32, p: f64, honest: f64, rate: f64) -> (f64, f64) {
    let mut coins = Coins(2);
    let mut delays: Vec<f64> = (0..payers)
        .filter_map(|_| {
            let mut watch = Watch::default();
            pay(&mut watch, &mut coins, p, 1.0, honest);
            (!watch.alarmed()).then(|| pay(&mut watch, &mut coins, p, rate, 1e6))
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    let average = delays.iter().sum::<f64>() / delays.len() as f64;
    let ninety = delays[delays.len() * 9 / 10];
    println!(
        "{:.0} % short from win {honest}, 1 in {:.0}: average {average:.0}, 90 % within {ninety:.0}, worst {:.0} of {}",
        (1.0 - rate) * 100.0,
        1.0 / p,
        delays.last().unwrap(),
        delays.len(),
    );
    (average, ninety)
}

#[test]
fn honest_payers_are_flagged_one_in_a_hundred_at_most() {
    let (payers, wins) = (1_000, 500.0);
    let alarms = false_alarms(payers, 0.05, wins);
    println!("{alarms} of {payers} honest payers flagged within {wins} expected wins");
    // Three standard deviations above the bound.
    let bound = f64::from(payers) * FALSE_ALARMS;
    assert!(
        f64::from(alarms) <= bound + 3.0 * bound.sqrt(),
        "{alarms}, bound {bound}"
    );
}

#[test]
fn a_fifth_of_the_wins_missing_is_seen_within_300_expected_wins() {
    let (average, ninety) = delay(300, 0.01, 0.0, 0.8);
    assert!(average < 300.0, "{average}");
    assert!(ninety < 600.0, "{ninety}");
}

#[test]
fn a_shortfall_that_begins_late_is_seen_too() {
    let (average, ninety) = delay(100, 0.05, 2_000.0, 0.8);
    assert!(average < 700.0, "{average}");
    assert!(ninety < 1_000.0, "{ninety}");
}

#[test]
fn half_of_the_wins_missing_is_seen_much_sooner() {
    let (average, ninety) = delay(300, 0.01, 0.0, 0.5);
    assert!(average < 80.0, "{average}");
    assert!(ninety < 120.0, "{ninety}");
}

#[test]
fn one_who_never_wins_is_seen_at_once_and_stays_flagged() {
    let mut watch = Watch::default();
    let mut coins = Coins(3);
    let taken = pay(&mut watch, &mut coins, 0.01, 0.0, 1e6);
    println!("no win at all: seen after {taken:.1} expected wins");
    assert!(taken < 30.0, "{taken}");
    for _ in 0..1_000 {
        watch.observe(0.01, true);
    }
    assert!(watch.alarmed());
    assert_eq!(watch.wins(), 1_000);
    assert_eq!(watch.suspicion(), 1.0);
}

#[test]
fn a_loser_that_could_not_lose_is_an_alarm() {
    let mut watch = Watch::default();
    watch.observe(1.0, true);
    assert!(!watch.alarmed());
    watch.observe(1.0, false);
    assert!(watch.alarmed());
}

#[test]
fn tickets_of_different_odds_share_one_watch() {
    let (mut honest, mut short) = (0, 0);
    let mut coins = Coins(4);
    for _ in 0..200 {
        for (rate, flagged) in [(1.0, &mut honest), (0.8, &mut short)] {
            let mut watch = Watch::default();
            while watch.expected() < 800.0 {
                for p in [0.5, 0.125, 0.002] {
                    watch.observe(p, coins.uniform() < rate * p);
                }
            }
            *flagged += u32::from(watch.alarmed());
        }
    }
    println!("of 200 payers with mixed tickets: {honest} honest ones flagged, {short} of those 20 % short");
    assert!(honest <= 6, "{honest}");
    assert!(short >= 195, "{short}");
}

#[test]
fn the_band_of_one_kind_of_ticket_is_the_exact_one() {
    for (n, p) in [
        (10, 0.01),
        (300, 0.01),
        (5_000, 0.004),
        (64, 0.5),
        (100_000, 0.02),
        (3, 1.0),
    ] {
        let mut watch = Watch::default();
        for _ in 0..n {
            watch.observe(p, false);
        }
        let (low, high) = interval(n, p, BAND);
        assert_eq!(watch.band(), (low.into(), high.into()), "{n} tickets of {p}");
    }
    assert_eq!(Watch::default().band(), (0, 0));
}

#[test]
fn the_band_of_mixed_tickets_is_close_to_the_exact_one() {
    // How many wins off at most: more where some tickets are almost certain and others rare.
    let mixes: [(u64, &[(usize, f64)]); 5] = [
        (1, &[(400, 0.01), (20, 0.5)]),
        (1, &[(1_000, 0.001), (1_000, 0.02), (100, 0.25)]),
        (1, &[(2_000, 0.05), (200, 0.5)]),
        (2, &[(1, 0.9), (1, 0.1)]),
        (2, &[(30, 0.05), (3, 0.999)]),
    ];
    for (off, mix) in mixes {
        let ps: Vec<f64> = mix.iter().flat_map(|&(n, p)| std::iter::repeat_n(p, n)).collect();
        let (low, high) = exact_band(&ps);
        let got = band(ps.iter().sum(), ps.iter().map(|p| p * (1.0 - p)).sum());
        assert!(
            got.0.abs_diff(low) <= off && got.1.abs_diff(high) <= off,
            "{mix:?}: got {got:?}, exact ({low}, {high})"
        );
    }
}

#[test]
fn the_band_of_billions_is_close_to_the_exact_one() {
    // Just below and just above where the approximation begins.
    let p = 1e-3;
    let at = |n: f64| band(n * p, n * p * (1.0 - p));
    let (exact, close) = (at(4_294_967_000.0), at(4_294_968_000.0));
    assert!(
        exact.0.abs_diff(close.0) <= 3 && exact.1.abs_diff(close.1) <= 3,
        "{exact:?} {close:?}"
    );
    // Very many, very unlikely ones: five expected wins.
    assert_eq!(band(5.0, 5.0 * (1.0 - 1e-12)), band(5.0, 5.0 * (1.0 - 1e-7)));
}

/// By convolution: every ticket added to the distribution of the number of wins.
fn exact_band(ps: &[f64]) -> (u64, u64) {
    let mut mass = vec![1.0];
    for p in ps {
        mass.push(0.0);
        for k in (1..mass.len()).rev() {
            mass[k] = mass[k] * (1.0 - p) + mass[k - 1] * p;
        }
        mass[0] *= 1.0 - p;
    }
    let outside = (1.0 - BAND) / 2.0;
    let tail = |masses: &mut dyn Iterator<Item = &f64>| {
        let mut sum = 0.0;
        masses
            .take_while(|m| {
                sum += **m;
                sum <= outside
            })
            .count()
    };
    let low = tail(&mut mass.iter());
    let high = mass.len() - 1 - tail(&mut mass.iter().rev());
    (low as u64, high as u64)
}

/// The numbers in the module's documentation.
#[test]
#[ignore = "minutes: cargo test --release -p micropay-protocol --test watch -- --ignored --nocapture"]
fn table_of_the_documentation() {
    for rate in [0.8, 0.5] {
        for honest in [0.0, 2_000.0, 20_000.0] {
            delay(1_000, 0.01, honest, rate);
        }
    }
    for p in [0.001, 0.25] {
        delay(1_000, p, 0.0, 0.8);
    }
    let (payers, wins) = (2_000, 20_000.0);
    let alarms = false_alarms(payers, 0.05, wins);
    println!("{alarms} of {payers} honest payers flagged within {wins} expected wins");
    assert!(
        f64::from(alarms) <= f64::from(payers) * FALSE_ALARMS + 14.0,
        "{alarms}"
    );

    let mut watch = Watch::default();
    let count = 20_000_000;
    let start = Instant::now();
    for i in 0..count {
        watch.observe(std::hint::black_box(0.01), i % 100 == 0);
    }
    let each = start.elapsed().as_secs_f64() / f64::from(count) * 1e9;
    println!(
        "observe: {each:.1} ns, {} bytes, {}",
        size_of::<Watch>(),
        watch.suspicion()
    );
}
