//! Watches wins against expectation. A payer that can steer its draws, or a merchant's own fault that loses winners, shows
//! as too few wins; plain bad luck shows the same for a while. This test tells the two apart while tickets come in, and may
//! be asked after every single one.
//!
//! Each accepted ticket won with probability p_i if all is well (H0), and with [`SHORTFALL`]'s part less if not (H1). The
//! logarithm of the likelihood ratio gains ln((1 − 0.8 p)/(1 − p)) with a loser and ln 0.8 with a winner.
//!
//! ```text
//!            ratio ≥ ln(1/α_k)                  α_k = α / ((k+1)(k+2)),  Σ α_k = α = FALSE_ALARMS
//!   epoch k ───────────────────▶ alarm (for good)
//!      │
//!      └── ratio ≤ −ln(1/α) ──▶ epoch k + 1, ratio 0
//! ```
//! *False alarms.* Under H0 the likelihood ratio is a martingale that begins at 1: it ever reaches 1/α_k with probability
//! at most α_k (Ville's inequality). So an honest payer is flagged with probability at most α in its whole life, however
//! often one looks. *Late changes.* An epoch that has shown honesty ends, so that it is no credit for what comes after. The
//! price is the growing limit; it grows with the logarithm of the number of epochs, because α is shared out by 1/k², not
//! by 1/2^k.
//!
//! How soon it is seen, in wins that were expected, for tickets that win once in 100
//! (`cargo test --release -p micropay-protocol --test watch -- --ignored --nocapture`):
//!
//! | wins short | after honest wins | average | 90 % within |
//! |---|---|---|---|
//! | 20 % | 0 | 248 | 437 |
//! | 20 % | 2,000 | 476 | 758 |
//! | 20 % | 20,000 | 672 | 987 |
//! | 50 % | 0 | 60 | 79 |
//! | 50 % | 2,000 | 121 | 157 |
//! | 50 % | 20,000 | 169 | 208 |
//!
//! Rarer tickets (1 in 1,000) need as many: 250 and 445 for a fifth from the start. Likelier ones (1 in 4) need fewer: 187
//! and 330. Of 2,000 honest payers, 20 were flagged within 20,000 expected wins each. The same command prints all of these,
//! and the time of one observation (14 ns).

use super::odds;

/// The part of wins that is missing if something is wrong: what the test is made for. A larger shortfall is seen sooner, a
/// smaller one later; below a half of this it may never be.
pub const SHORTFALL: f64 = 0.2;

/// Bound on the probability that a watch on honest wins ever alarms.
pub const FALSE_ALARMS: f64 = 0.01;

/// Probability that honest wins are inside [`Watch::band`].
pub const BAND: f64 = 0.99;

/// The standard normal's quantile of (1 + [`BAND`])/2.
const BAND_DEVIATIONS: f64 = 2.575_829_303_548_901;

/// Wins of one payer, or of all, and the state of the test on them. Small, and cheap to update: two additions and a
/// logarithm per ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watch {
    /// Σ p.
    expected: f64,
    /// Σ p².
    squares: f64,
    wins: u64,
    /// Logarithm of the likelihood ratio of this epoch.
    ratio: f64,
    epoch: u32,
    alarmed: bool,
}

impl Watch {
    /// Counts a ticket that won, or did not, with probability `p` (see [`super::WinThreshold::probability`]).
    pub fn observe(&mut self, p: f64, won: bool) {
        debug_assert!((0.0..=1.0).contains(&p), "{p} is no probability");
        self.expected += p;
        self.squares += p * p;
        self.wins += u64::from(won);
        if self.alarmed {
            return;
        }
        if won {
            self.ratio += (-SHORTFALL).ln_1p();
            if self.ratio <= FALSE_ALARMS.ln() {
                self.epoch = self.epoch.saturating_add(1);
                self.ratio = 0.0;
            }
        } else {
            // ln((1 − 0.8 p)/(1 − p)), to full precision for small p. A loser that could not lose proves H0 wrong: infinite.
            self.ratio += (SHORTFALL * p / (1.0 - p)).ln_1p();
            self.alarmed = self.ratio >= self.limit();
        }
    }

    /// Whether wins were too few for chance. Stays so: what follows is counted, not tested.
    pub fn alarmed(&self) -> bool {
        self.alarmed
    }

    /// How many tickets won.
    pub fn wins(&self) -> u64 {
        self.wins
    }

    /// How many should have won on average: Σ p.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// Variance of the number of wins: Σ p (1 − p).
    pub fn variance(&self) -> f64 {
        self.expected - self.squares
    }

    /// How much more the wins of this epoch speak for a shortfall than against it, as a part of what raises the alarm: 1
    /// and above is an alarm, 0 and below speaks for honesty.
    pub fn suspicion(&self) -> f64 {
        if self.alarmed {
            1.0
        } else {
            self.ratio / self.limit()
        }
    }

    /// See [`band`].
    pub fn band(&self) -> (u64, u64) {
        band(self.expected, self.variance())
    }

    /// ln(1/α_k).
    fn limit(&self) -> f64 {
        let k = f64::from(self.epoch);
        ((k + 1.0) * (k + 2.0)).ln() - FALSE_ALARMS.ln()
    }
}

/// The central interval of wins that holds at least [`BAND`]: (lowest, highest), for independent tickets with Σ p =
/// `expected` and Σ p (1 − p) = `variance`.
///
/// Of tickets with one p it is exact: their number and p follow from the two sums. Of mixed tickets it is that of the
/// binomial distribution with the same mean and variance (its number of tickets rounded); tests hold it to the exact one
/// within a win where no ticket is likelier than 1 in 2, within two otherwise. Above 2^32 tickets and 100,000 expected wins it is the normal approximation, less than two
/// wins off where the band is more than 1,600 wide.
pub fn band(expected: f64, variance: f64) -> (u64, u64) {
    /// From here on the normal distribution is close enough, and few tickets are not many.
    const MANY: f64 = 100_000.0;
    let squares = expected - variance;
    if expected <= 0.0 || squares <= 0.0 {
        return (0, 0);
    }
    // Σp = n p and Σp² = n p². Never fewer tickets than wins.
    let tickets = (expected / squares * expected)
        .round()
        .max(expected.floor())
        .max(1.0);
    if tickets > f64::from(u32::MAX) && expected > MANY {
        let deviations = BAND_DEVIATIONS * variance.max(0.0).sqrt();
        // The casts saturate.
        return (
            (expected - deviations).floor() as u64,
            (expected + deviations).ceil() as u64,
        );
    }
    let tickets = tickets.min(f64::from(u32::MAX)) as u32;
    let p = (expected / f64::from(tickets)).min(1.0);
    let (low, high) = odds::interval(tickets, p, BAND);
    (low.into(), high.into())
}
