//! Line charts as SVG, both axes logarithmic. A pure function: the same chart gives the same text.

use std::fmt::Write;

use crate::text::thousands;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
/// Where the axes cross, and where they end.
const LEFT: f64 = 92.0;
const RIGHT: f64 = 670.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 484.0;
const FONT: &str = "font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\"";

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it, large.
    pub title: String,
    /// Below the title, small.
    pub subtitle: String,
    /// Below the horizontal axis.
    pub x_label: String,
    /// Beside the vertical axis.
    pub y_label: String,
    /// How a number on the vertical axis is written.
    pub y_tick: fn(f64) -> String,
    /// The lines, the later ones above the earlier.
    pub series: Vec<Series>,
    /// Single points with their words.
    pub marks: Vec<Mark>,
}

/// A line through points, all above 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// In the legend.
    pub label: String,
    /// A colour as SVG has it.
    pub colour: &'static str,
    /// How its points look.
    pub marker: Marker,
    /// Horizontal and vertical.
    pub points: Vec<(f64, f64)>,
}

/// How a point looks. They differ in size, so that equal points of several series can all be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A large ring.
    Ring,
    /// A square outline, smaller.
    Square,
    /// A filled dot, smallest.
    Dot,
}

/// A single point.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// In the legend.
    pub label: String,
    /// A colour as SVG has it.
    pub colour: &'static str,
    /// Horizontal and vertical.
    pub at: (f64, f64),
}

/// A logarithmic axis, from one power of ten to another, on so many pixels.
#[derive(Clone, Copy)]
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

/// Draws the chart.
pub fn svg(chart: &Chart) -> String {
    let marks = chart.marks.iter().map(|mark| mark.at);
    let all: Vec<(f64, f64)> = chart
        .series
        .iter()
        .flat_map(|series| series.points.iter().copied())
        .chain(marks)
        .collect();
    let x = Axis::over(all.iter().map(|point| point.0), LEFT, RIGHT);
    let y = Axis::over(all.iter().map(|point| point.1), BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\">\n<title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n",
        title = escape(&chart.title)
    );
    text(&mut svg, (LEFT, 36.0), "start", 20, "#111111", &chart.title);
    text(&mut svg, (LEFT, 60.0), "start", 13, "#555555", &chart.subtitle);
    grid(&mut svg, chart, x, y);
    for series in &chart.series {
        line(&mut svg, series, x, y);
    }
    for mark in &chart.marks {
        cross(&mut svg, mark.colour, (x.place(mark.at.0), y.place(mark.at.1)));
    }
    legend(&mut svg, chart);
    svg.push_str("</svg>\n");
    svg
}

impl Axis {
    /// From the power of ten at or below all values to that at or above.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let values = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if !low.is_finite() {
            return Self {
                low: 0,
                high: 1,
                from,
                to,
            };
        }
        // A hair of tolerance, because the logarithm of 1000 is not quite 3.
        let low = (low.log10() + 1e-9).floor() as i32;
        let high = ((high.log10() - 1e-9).ceil() as i32).max(low + 1);
        Self { low, high, from, to }
    }

    fn place(self, value: f64) -> f64 {
        let log = value.max(f64::MIN_POSITIVE).log10();
        let part = (log - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

fn grid(svg: &mut String, chart: &Chart, x: Axis, y: Axis) {
    for power in y.low..=y.high {
        let value = 10f64.powi(power);
        let at = y.place(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>"
        );
        text(
            svg,
            (LEFT - 10.0, at + 4.5),
            "end",
            13,
            "#333333",
            &(chart.y_tick)(value),
        );
    }
    for power in x.low..=x.high {
        let value = 10f64.powi(power);
        let at = x.place(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\" stroke=\"#dddddd\"/>"
        );
        let label = group(value);
        text(svg, (at, BOTTOM + 20.0), "middle", 13, "#333333", &label);
        if power < x.high {
            for minor in [2.0, 5.0] {
                let at = x.place(value * minor);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{at:.1}\" y1=\"{BOTTOM}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#999999\"/>",
                    BOTTOM - 6.0
                );
            }
        }
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#333333\"/>"
    );
    let middle = (LEFT + RIGHT) / 2.0;
    text(
        svg,
        (middle, BOTTOM + 48.0),
        "middle",
        14,
        "#111111",
        &chart.x_label,
    );
    let middle = (TOP + BOTTOM) / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"22\" y=\"{middle}\" transform=\"rotate(-90 22 {middle})\" text-anchor=\"middle\" font-size=\"14\" {FONT} \
         fill=\"#111111\">{}</text>",
        escape(&chart.y_label)
    );
}

fn line(svg: &mut String, series: &Series, x: Axis, y: Axis) {
    let places: Vec<(f64, f64)> = series
        .points
        .iter()
        .map(|point| (x.place(point.0), y.place(point.1)))
        .collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
        path.join(" "),
        series.colour
    );
    for place in places {
        marker(svg, series, place);
    }
}

fn marker(svg: &mut String, series: &Series, (x, y): (f64, f64)) {
    let colour = series.colour;
    let _ = match series.marker {
        Marker::Ring => writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        ),
        Marker::Square => writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            x - 4.5,
            y - 4.5
        ),
        Marker::Dot => writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
        ),
    };
}

fn cross(svg: &mut String, colour: &str, (x, y): (f64, f64)) {
    let (left, right, top, bottom) = (x - 7.0, x + 7.0, y - 7.0, y + 7.0);
    let _ = writeln!(
        svg,
        "<path d=\"M{left:.1} {top:.1}L{right:.1} {bottom:.1}M{left:.1} {bottom:.1}L{right:.1} {top:.1}\" \
         stroke=\"{colour}\" stroke-width=\"3\"/>"
    );
}

fn legend(svg: &mut String, chart: &Chart) {
    let (x, mut y) = (RIGHT + 38.0, TOP + 12.0);
    for series in &chart.series {
        let _ = writeln!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{}\" stroke-width=\"1.5\"/>",
            x - 12.0,
            x + 12.0,
            series.colour
        );
        marker(svg, series, (x, y));
        text(svg, (x + 22.0, y + 4.5), "start", 13, "#111111", &series.label);
        y += 26.0;
    }
    for mark in &chart.marks {
        y += 8.0;
        cross(svg, mark.colour, (x, y));
        for part in mark.label.split('\n') {
            text(svg, (x + 22.0, y + 4.5), "start", 13, "#111111", part);
            y += 18.0;
        }
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, colour: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" {FONT} fill=\"{colour}\">{}</text>",
        escape(words)
    );
}

/// 10000 as 10,000; below 1 as it is.
fn group(value: f64) -> String {
    if value < 1.0 {
        return value.to_string();
    }
    thousands(value.round() as u64)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        Chart {
            title: "a < b & c".into(),
            subtitle: String::new(),
            x_label: "x".into(),
            y_label: "y".into(),
            y_tick: |value| value.to_string(),
            series: vec![Series {
                label: "one".into(),
                colour: "#000000",
                marker: Marker::Dot,
                points: vec![(10.0, 1.0), (100.0, 10.0), (1000.0, 100.0)],
            }],
            marks: vec![Mark {
                label: "two\nlines".into(),
                colour: "#000000",
                at: (1000.0, 1.0),
            }],
        }
    }

    #[test]
    fn a_power_law_is_a_straight_line_from_corner_to_corner() {
        let svg = svg(&chart());
        let middle = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        let line = format!(
            "points=\"{LEFT:.1},{BOTTOM:.1} {:.1},{:.1} {RIGHT:.1},{TOP:.1}\"",
            middle.0, middle.1
        );
        assert!(svg.contains(&line), "{line} in {svg}");
    }

    #[test]
    fn words_are_escaped_and_long_labels_broken() {
        let svg = svg(&chart());
        assert!(svg.contains("a &lt; b &amp; c") && !svg.contains("a < b"));
        assert!(svg.contains(">two</text>") && svg.contains(">lines</text>"));
    }

    #[test]
    fn nothing_to_draw_is_drawn() {
        let svg = svg(&Chart {
            series: Vec::new(),
            marks: Vec::new(),
            ..chart()
        });
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }
}
