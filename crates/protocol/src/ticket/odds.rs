//! How often tickets win: exact binomial tails, and what follows from them for escrows. A tail is summed outward from its
//! first term until the rest cannot matter, so that it is exact to about 1e-11 relative however small it is, and costs as
//! many terms as the distribution is wide, not as it is long (rule E12: no normal approximation).
//!
//! The first term is Loader's saddle-point form ("Fast and Accurate Computation of Binomial Probabilities", 2000), which
//! keeps full relative precision where a difference of logarithms of factorials would lose it. Results below 1e-300
//! may come out as 0.
//!
//! Probabilities are arguments between 0 and 1; `p` usually comes from [`WinThreshold::probability`]. Counts are 32 bits,
//! as the contract counts tickets.

use core::f64::consts::PI;

use super::{Amount, Nonce, WinThreshold};

/// P[Bin(n, p) = k]: the probability that of `n` tickets exactly `k` win.
pub fn pmf(n: u32, p: f64, k: u32) -> f64 {
    Binomial::new(n, p).pmf(k)
}

/// P[Bin(n, p) ≤ k]: the probability that of `n` tickets at most `k` win.
pub fn at_most(n: u32, p: f64, k: u32) -> f64 {
    Binomial::new(n, p).at_most(k)
}

/// P[Bin(n, p) > k]: the probability that of `n` tickets more than `k` win.
pub fn more_than(n: u32, p: f64, k: u32) -> f64 {
    Binomial::new(n, p).more_than(k)
}

/// The (1 − `epsilon`) quantile: the least `k` such that of `n` tickets more than `k` win with probability at most
/// `epsilon`.
pub fn quantile(n: u32, p: f64, epsilon: f64) -> u32 {
    Binomial::new(n, p).quantile(epsilon)
}

/// How many tickets an escrow of `prizes` can back: the greatest `n` such that of `n` tickets more than `prizes` win with
/// probability at most `epsilon`. Never below `prizes`; at most the highest cap of the contract.
pub fn capacity(prizes: u32, p: f64, epsilon: f64) -> u32 {
    let fits = |n: u32| more_than(n, p, prizes) <= epsilon;
    // More tickets win more: the answer is where `fits` turns false. `low` fits always.
    let (mut low, mut high) = (prizes, u32::MAX);
    if fits(high) {
        return high;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

/// The central interval of wins that holds at least `mass`: (lowest, highest), with at most (1 − `mass`)/2 below the
/// lowest and as much above the highest.
pub fn interval(n: u32, p: f64, mass: f64) -> (u32, u32) {
    let wins = Binomial::new(n, p);
    let outside = (1.0 - mass) / 2.0;
    (n - wins.losses().quantile(outside), wins.quantile(outside))
}

/// The least penalty, in atomic units, that makes it unprofitable for a payer to win its own escrow empty against honest
/// winners (M1-2): a prize for each win that `ticket_cap` tickets have but for a probability of `epsilon`.
/// [`Amount::MAX`] if that is beyond any amount.
pub fn required_penalty(
    prize: Amount,
    ticket_cap: Nonce,
    max_threshold: WinThreshold,
    epsilon: f64,
) -> Amount {
    prize.saturating_mul(quantile(count(ticket_cap), max_threshold.probability(), epsilon).into())
}

/// Whether `penalty` is at least [`required_penalty`]. One tail instead of a search.
pub fn penalty_covers(
    penalty: Amount,
    prize: Amount,
    ticket_cap: Nonce,
    max_threshold: WinThreshold,
    epsilon: f64,
) -> bool {
    let cap = count(ticket_cap);
    // A prize of 0 cannot be lost. The contract knows none.
    let Some(prizes) = penalty.0.checked_div(prize.0) else {
        return true;
    };
    match u32::try_from(prizes) {
        Ok(prizes) => more_than(cap, max_threshold.probability(), prizes) <= epsilon,
        Err(_) => true, // more prizes than any cap has tickets
    }
}

fn count(ticket_cap: Nonce) -> u32 {
    u32::try_from(ticket_cap.0).unwrap_or(u32::MAX)
}

/// Wins of `n` tickets. Both probabilities are kept: 1 − p cannot be undone for a small p.
#[derive(Clone, Copy)]
struct Binomial {
    n: u32,
    p: f64,
    q: f64,
}

impl Binomial {
    /// What is left of a tail may be this part of it.
    const NEGLIGIBLE: f64 = 1e-17;

    fn new(n: u32, p: f64) -> Self {
        debug_assert!((0.0..=1.0).contains(&p), "{p} is no probability");
        Self { n, p, q: 1.0 - p }
    }

    /// The same tickets, counting the other outcome.
    fn losses(self) -> Self {
        Self {
            n: self.n,
            p: self.q,
            q: self.p,
        }
    }

    fn mean(self) -> f64 {
        f64::from(self.n) * self.p
    }

    fn pmf(self, k: u32) -> f64 {
        if k > self.n {
            return 0.0;
        }
        let (n, k) = (f64::from(self.n), f64::from(k));
        let rest = n - k;
        if rest == 0.0 {
            return power(self.p, self.q, n);
        }
        if k == 0.0 {
            return power(self.q, self.p, n);
        }
        if self.p == 0.0 || self.q == 0.0 {
            return 0.0;
        }
        let exponent = stirling_error(n) - stirling_error(k) - stirling_error(rest) - self.divergence(k);
        exponent.exp() * (n / (2.0 * PI * k * rest)).sqrt()
    }

    /// n times the relative entropy of k/n against p: e to minus this bounds the tail from `k` on (Chernoff), and is most
    /// of the probability of `k`.
    fn divergence(self, k: f64) -> f64 {
        let n = f64::from(self.n);
        deviance(k, n * self.p) + deviance(n - k, n * self.q)
    }

    fn more_than(self, k: u32) -> f64 {
        if k >= self.n {
            return 0.0;
        }
        let first = k + 1;
        if f64::from(first) > self.mean() {
            self.sum_up(first)
        } else {
            1.0 - self.losses().sum_up(self.n - k)
        }
    }

    fn at_most(self, k: u32) -> f64 {
        if k >= self.n {
            return 1.0;
        }
        if f64::from(k) < self.mean() {
            self.losses().sum_up(self.n - k)
        } else {
            1.0 - self.sum_up(k + 1)
        }
    }

    /// The probability of `first` and all above. `first` is above the mean, so that terms fall, ever faster.
    fn sum_up(self, first: u32) -> f64 {
        let mut term = self.pmf(first);
        let mut sum = term;
        for k in first..self.n {
            let ratio = f64::from(self.n - k) * self.p / (f64::from(k + 1) * self.q);
            // The rest is below a geometric series of this ratio.
            if term * ratio <= sum * Self::NEGLIGIBLE * (1.0 - ratio) {
                break;
            }
            term *= ratio;
            sum += term;
        }
        sum.min(1.0)
    }

    fn quantile(self, epsilon: f64) -> u32 {
        if epsilon >= 1.0 || self.p == 0.0 {
            return 0;
        }
        if epsilon <= 0.0 || self.q == 0.0 {
            return self.n;
        }
        // From a k that is surely high enough, down while the tail stays small enough: additions only, so that the tail
        // keeps its precision.
        let mut k = self.chernoff(epsilon);
        let mut tail = self.more_than(k);
        let mut term = self.pmf(k);
        while k > 0 && tail + term <= epsilon {
            tail += term;
            term *= f64::from(k) * self.q / (f64::from(self.n - k + 1) * self.p);
            k -= 1;
        }
        k
    }

    /// The least `k`, not below the mean, whose tail the Chernoff bound keeps below `epsilon`.
    fn chernoff(self, epsilon: f64) -> u32 {
        let needed = -epsilon.ln();
        // The mean is below n, so that the cast keeps it.
        let (mut low, mut high) = (self.mean() as u32, self.n);
        while low < high {
            let middle = low + (high - low) / 2;
            let next = f64::from(middle) + 1.0;
            if next > self.mean() && self.divergence(next) >= needed {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

/// `base^n`, where `complement` is 1 − `base` and, where it is small, knows `base` better.
fn power(base: f64, complement: f64, n: f64) -> f64 {
    if n == 0.0 {
        return 1.0;
    }
    let ln = if complement < 0.5 {
        (-complement).ln_1p()
    } else {
        base.ln()
    };
    (n * ln).exp()
}

/// x·ln(x/m) + m − x, without the cancellation where x is near m.
fn deviance(x: f64, m: f64) -> f64 {
    if x == 0.0 {
        return m;
    }
    let difference = x - m;
    if difference.abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() - difference;
    }
    let v = difference / (x + m);
    let mut sum = difference * v;
    let mut power = 2.0 * x * v;
    for odd in (3..).step_by(2) {
        power *= v * v;
        let next = sum + power / f64::from(odd);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// ln(n!) minus Stirling's formula for it.
fn stirling_error(n: f64) -> f64 {
    /// For n = 0 to 15, where the series is too short.
    const SMALL: [f64; 16] = [
        0.0,
        0.081_061_466_795_327_26,
        0.041_340_695_955_409_3,
        0.027_677_925_684_998_34,
        0.020_790_672_103_765_093,
        0.016_644_691_189_821_193,
        0.013_876_128_823_070_748,
        0.011_896_709_945_891_77,
        0.010_411_265_261_972_096,
        0.009_255_462_182_712_733,
        0.008_330_563_433_362_87,
        0.007_573_675_487_951_841,
        0.006_942_840_107_209_53,
        0.006_408_994_188_004_207,
        0.005_951_370_112_758_847_5,
        0.005_554_733_551_962_801,
    ];
    if n < 16.0 {
        return SMALL[n as usize];
    }
    // Five terms of the series, the sixth is below 1e-16 from here on.
    let inverse = 1.0 / n;
    let x = inverse * inverse;
    inverse * (1.0 / 12.0 - x * (1.0 / 360.0 - x * (1.0 / 1260.0 - x * (1.0 / 1680.0 - x / 1188.0))))
}
