//! How many times as long one thing takes as another. Both are measured in turns, a few milliseconds each, so that a
//! processor that changes its speed, or a neighbour on the machine, changes both.

use std::time::Duration;

use serde::Serialize;

use crate::clock::thread_time;

/// A ratio of two times, by the rounds in which both were measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// Half of the rounds are below.
    pub median: f64,
    /// A quarter of the rounds is below.
    pub lower_quartile: f64,
    /// A quarter of the rounds is above.
    pub upper_quartile: f64,
}

/// Runs both in turns and compares.
pub fn measure(rounds: usize, mut numerator: impl FnMut(), mut denominator: impl FnMut()) -> Ratio {
    let time = |run: &mut dyn FnMut()| -> Duration {
        let start = thread_time();
        run();
        thread_time() - start
    };
    // The first round warms up.
    let ratios = (0..=rounds)
        .map(|_| time(&mut numerator).as_secs_f64() / time(&mut denominator).as_secs_f64())
        .skip(1);
    Ratio::of(ratios.collect())
}

impl Ratio {
    /// Of one ratio per round.
    ///
    /// # Panics
    /// Without a round.
    #[must_use]
    pub fn of(mut rounds: Vec<f64>) -> Self {
        assert!(!rounds.is_empty(), "nothing was measured");
        rounds.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| rounds[part * (rounds.len() - 1) / 4];
        Self {
            median: at(2),
            lower_quartile: at(1),
            upper_quartile: at(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles() {
        let ratio = Ratio::of(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(
            (ratio.lower_quartile, ratio.median, ratio.upper_quartile),
            (2.0, 3.0, 4.0)
        );
        assert_eq!(Ratio::of(vec![1.5]).median, 1.5);
    }
}
