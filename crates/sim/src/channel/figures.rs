//! The paper's Figures 4 to 6 with our times, and the figure of its Table 3 where the text puts it. The paper prints the
//! three figures as pictures and gives no values of theirs in words.

use super::paper;
use super::phases::Phase;
use super::report::Report;
use super::{AMOUNTS, Profile};
use crate::chart::{Chart, Mark, Marker, Series, svg};
use crate::text::time;

/// A figure as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its number in the paper.
    pub number: u32,
    /// Its name: `figure-4-setup.svg`.
    pub file: String,
    /// The picture.
    pub svg: String,
}

pub(super) fn figures(report: &Report) -> Vec<Figure> {
    let phases = Phase::ALL.into_iter().zip(4..).zip(paper::SECONDS);
    phases
        .map(|((phase, number), paper_s)| Figure {
            number,
            file: format!("figure-{number}-{}.svg", phase.name()),
            svg: svg(&chart(report, phase, number, paper_s)),
        })
        .collect()
}

fn chart(report: &Report, phase: Phase, number: u32, paper_s: f64) -> Chart {
    let mut series = Vec::new();
    for profile in Profile::ALL {
        for (dollars, marker) in AMOUNTS
            .into_iter()
            .zip([Marker::Ring, Marker::Square, Marker::Dot])
        {
            let of_series = report
                .points
                .iter()
                .filter(|point| (point.lock_hash, point.dollars) == (profile, dollars));
            series.push(Series {
                label: format!(
                    "{profile}, {dollars} dollar{}",
                    if dollars == 1 { "" } else { "s" }
                ),
                colour: match profile {
                    Profile::Keccak => "#1f5fbf",
                    Profile::Sha3_512 => "#d9730d",
                },
                marker,
                points: of_series
                    .map(|point| (f64::from(point.transactions), point.phase_s(phase)))
                    .collect(),
            });
        }
    }
    Chart {
        title: format!("Figure {number}. The time cost of the {} phase", phase.name()),
        subtitle: format!(
            "time on the processor, all roles on one thread, median of {} runs",
            report.runs
        ),
        x_label: "number of transactions".into(),
        y_label: "time for all of them".into(),
        y_tick: |seconds| time(seconds).replace(".00", "").replace(".0", ""),
        series,
        marks: vec![Mark {
            label: format!("the paper's Table 3:\n{paper_s:.3} s, said to be\nfor 10,000 (Python, M1)"),
            colour: "#b00020",
            at: (f64::from(paper::TRANSACTIONS), paper_s),
        }],
    }
}
