//! Pictures of wins against expectation, as inline SVG. They hold shapes alone: words stand beside them, so that they keep
//! their size on a phone. Colours come from the style sheet by class, because the policy allows no inline style.

use std::fmt::Write;

use maud::{Markup, html};
use protocol::ticket::watch::band;

use super::super::amount::number;
use super::super::snapshot::{Snapshot, Tickets};

/// The picture's own units; it is stretched to its place.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 200.0;
/// Points at which the band is worked out.
const STEPS: u32 = 64;

/// How wins went: to the right what was expected, upward how many more there were than that; the 99 % band behind.
pub(super) fn funnel(snapshot: &Snapshot) -> Markup {
    let total = &snapshot.total;
    let spread = total.variance / total.expected;
    let bands: Vec<_> = (0..=STEPS)
        .map(|step| {
            let expected = total.expected * f64::from(step) / f64::from(STEPS);
            let (low, high) = band(expected, expected * spread);
            (expected, low as f64 - expected, high as f64 - expected)
        })
        .collect();
    let path: Vec<_> = snapshot
        .path
        .iter()
        .map(|(expected, wins)| (*expected, *wins as f64 - expected))
        .collect();
    let reach = bands
        .iter()
        .flat_map(|(_, low, high)| [*low, *high])
        .chain(path.iter().map(|(_, more)| *more))
        .fold(1.0, |reach: f64, more| reach.max(more.abs() * 1.05))
        .ceil();
    let x = |expected: f64| expected / total.expected * (WIDTH - 8.0);
    let y = |more: f64| HEIGHT / 2.0 - more / reach * HEIGHT / 2.0;

    let upper = bands.iter().map(|(at, _, high)| (x(*at), y(*high)));
    let lower = bands.iter().rev().map(|(at, low, _)| (x(*at), y(*low)));
    let area = line(upper.chain(lower)) + "Z";
    let way = line(
        [(0.0, y(0.0))]
            .into_iter()
            .chain(path.iter().map(|(at, more)| (x(*at), y(*more)))),
    );
    let (end_x, end_y) = path.last().map_or((0.0, y(0.0)), |(at, more)| (x(*at), y(*more)));
    let (low, high) = total.band;
    let said = format!(
        "{} wins, {} expected, 99 % band from {low} to {high}",
        total.wins,
        number(total.expected)
    );
    html! {
        figure class=[total.alarmed.then_some("alarmed")] {
            div.chart {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(said) {
                    path.band d=(area) {}
                    path.axis d=(line([(0.0, y(0.0)), (WIDTH, y(0.0))])) vector-effect="non-scaling-stroke" {}
                    path.path d=(way) vector-effect="non-scaling-stroke" {}
                    // A line of no length with round ends is a dot that is not stretched.
                    path.dot d=(format!("M{end_x:.1} {end_y:.1}h.01")) vector-effect="non-scaling-stroke" {}
                }
                span.up { "+" (number(reach)) " wins" }
                span.zero { "as expected" }
                span.down { "−" (number(reach)) " wins" }
            }
            figcaption {
                span { span.key {} "99 % of honest outcomes" }
                span { span.key.line {} "wins more or fewer than expected" }
                span { "0 to " (number(total.expected)) " expected wins →" }
            }
        }
    }
}

/// One payer's wins on one line: the band, a tick where wins were expected, a mark where they are.
pub(super) fn bullet(tickets: &Tickets) -> Markup {
    const WIDTH: f64 = 110.0;
    let (low, high) = (tickets.band.0 as f64, tickets.band.1 as f64);
    let wins = tickets.wins as f64;
    let reach = high.max(wins).max(1.0) * 1.06;
    // Room for the mark at both ends.
    let x = |value: f64| 4.0 + value / reach * (WIDTH - 8.0);
    let said = format!(
        "{wins} wins, {} expected, 99 % band from {low} to {high}",
        number(tickets.expected)
    );
    html! {
        svg viewBox="0 0 110 16" role="img" aria-label=(said) {
            rect.track x="0" y="4" width="110" height="8" rx="4" {}
            rect.band x=(format!("{:.1}", x(low) - 2.0)) y="4" width=(format!("{:.1}", x(high) - x(low) + 4.0)) height="8" rx="4" {}
            path.tick d=(format!("M{:.1} 1v14", x(tickets.expected))) {}
            circle.mark cx=(format!("{:.1}", x(wins))) cy="8" r="4" {}
        }
    }
}

/// A bar as long as its part of the longest.
pub(super) fn bar(value: u64, longest: u64) -> Markup {
    let part = value as f64 / longest.max(1) as f64 * 100.0;
    html! {
        svg viewBox="0 0 100 5" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="100" height="5" {}
            rect.bar width=(format!("{:.1}", part.max(0.5))) height="5" {}
        }
    }
}

fn line(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (i, (x, y)) in points.into_iter().enumerate() {
        let step = if i == 0 { 'M' } else { 'L' };
        write!(d, "{step}{x:.1} {y:.1}").expect("a String takes everything");
    }
    d
}
