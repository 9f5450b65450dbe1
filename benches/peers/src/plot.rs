//! Plots of the scattered differences, as SVG.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::medians::Row;
use crate::peers;
use crate::workload::Shape;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 500.0;
/// Edges of the field in which lines are drawn.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 592.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 436.0;

/// How a peer is drawn: a colour of Okabe and Ito's palette, which most eyes tell apart, and a mark.
const STYLES: [(&str, &str, Mark); 7] = [
    ("reknit", "#000000", Mark::Circle),
    ("negentropy", "#d55e00", Mark::Square),
    ("reconcile", "#0072b2", Mark::Up),
    ("mst", "#cc79a7", Mark::Diamond),
    ("cassandra-model", "#009e73", Mark::Down),
    ("minisketch", "#e69f00", Mark::Cross),
    ("iroh-docs", "#56b4e9", Mark::Plus),
];

#[derive(Clone, Copy)]
enum Mark {
    Circle,
    Square,
    Up,
    Down,
    Diamond,
    Cross,
    Plus,
}

/// One plot.
struct Plot {
    file: &'static str,
    title: &'static str,
    axis: &'static str,
    of: fn(&Row) -> f64,
    tick: fn(f64) -> String,
    /// Whether the vertical axis is logarithmic.
    log: bool,
    /// Whether the line of eight bytes a difference is drawn, which no peer that asks by 8-byte ids gets below.
    bound: bool,
}

const PLOTS: [Plot; 4] = [
    Plot {
        file: "bytes",
        title: "Metadata and needless records, both ways",
        axis: "bytes",
        of: Row::with_needless,
        tick: bytes,
        log: true,
        bound: true,
    },
    Plot {
        file: "metadata",
        title: "Metadata alone, both ways",
        axis: "bytes",
        of: |row| row.metadata,
        tick: bytes,
        log: true,
        bound: true,
    },
    Plot {
        file: "flights",
        title: "One-way flights until both sides know what to send",
        axis: "flights",
        of: |row| row.flights,
        tick: |count| format!("{count}"),
        log: false,
        bound: false,
    },
    Plot {
        file: "cpu",
        title: "CPU time of both sides, warm",
        axis: "time",
        of: |row| row.warm_ms,
        tick: time,
        log: true,
        bound: false,
    },
];

/// The files of the plots for sets of so many records, with what they show.
pub fn names(records: usize) -> Vec<(String, &'static str)> {
    PLOTS.iter().map(|plot| (format!("{}-{records}.svg", plot.file), plot.title)).collect()
}

/// Every plot with the name of its file.
pub fn all(rows: &[Row]) -> Vec<(String, String)> {
    let sizes: BTreeSet<usize> =
        rows.iter().filter(|row| row.shape == Shape::Scattered).map(|row| row.records).collect();
    let of = |n: usize| {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.records == n && row.shape == Shape::Scattered).collect();
        let svg = move |(plot, (name, _)): (&Plot, (String, &str))| (name, draw(plot, n, &rows));
        PLOTS.iter().zip(names(n)).map(svg).collect::<Vec<_>>()
    };
    sizes.into_iter().flat_map(of).collect()
}

/// A line of one peer: where it goes, by differences, and where it stands if nothing differs.
struct Line<'a> {
    peer: &'a str,
    zero: Option<(f64, f64)>,
    points: Vec<(f64, f64)>,
}

fn draw(plot: &Plot, records: usize, rows: &[&Row]) -> String {
    let differences: Vec<u64> = rows.iter().map(|row| row.differences).collect::<BTreeSet<_>>().into_iter().collect();
    let across = Across::new(&differences);
    let up = Up::new(plot, rows);
    let mut lines: Vec<Line> = Vec::new();
    for (peer, _, _) in STYLES {
        let of = |zero: bool| rows.iter().filter(move |row| row.peer == peer && (row.differences == 0) == zero);
        let point = |row: &&Row| (across.at(row.differences), up.at((plot.of)(row)));
        let line = Line { peer, zero: of(true).map(point).next(), points: of(false).map(point).collect() };
        if line.zero.is_some() || !line.points.is_empty() {
            lines.push(line);
        }
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\">\n\
         <title>{}, n = {records}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
        plot.title
    );
    let count = thousands(records as u64);
    text(&mut out, LEFT, 28.0, "start", "font-size=\"17\" font-weight=\"bold\"", plot.title);
    text(
        &mut out,
        LEFT,
        48.0,
        "start",
        "fill=\"#555555\"",
        &format!("n = {count} records, d scattered differences; lower is better"),
    );
    up.grid(&mut out, plot);
    across.grid(&mut out, &differences);
    if plot.bound {
        bound(&mut out, &across, &up, &differences);
    }
    // Reknit is drawn last, over the others.
    for line in lines.iter().rev() {
        path(&mut out, line);
    }
    legend(&mut out, lines);
    out.push_str("</svg>\n");
    out
}

fn style(peer: &str) -> (&'static str, Mark) {
    let known = STYLES.iter().find(|(name, _, _)| *name == peer);
    known.map_or(("#999999", Mark::Circle), |(_, colour, mark)| (colour, *mark))
}

/// How a peer's line is drawn: ours broad, one that is told the differences dashed.
fn stroke(peer: &str) -> String {
    let (colour, _) = style(peer);
    let width = if peer == "reknit" { 3.2 } else { 1.8 };
    let dashes = if oracle(peer) { " stroke-dasharray=\"6 4\"" } else { "" };
    format!("stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}")
}

fn oracle(peer: &str) -> bool {
    peers::all().iter().any(|kind| kind.name == peer && kind.oracle)
}

/// The horizontal axis: decades, and nothing at all one step left of one.
struct Across {
    decades: f64,
    zero: bool,
}

impl Across {
    fn new(differences: &[u64]) -> Across {
        let most = differences.last().copied().unwrap_or(1).max(10);
        Across { decades: (most as f64).log10(), zero: differences.first() == Some(&0) }
    }

    fn at(&self, differences: u64) -> f64 {
        let left = if self.zero { 1.0 } else { 0.0 };
        let place = if differences == 0 { 0.0 } else { left + (differences as f64).log10() };
        LEFT + 14.0 + (RIGHT - LEFT - 28.0) * place / (left + self.decades)
    }

    fn grid(&self, out: &mut String, differences: &[u64]) {
        for d in differences {
            let x = self.at(*d);
            rule(out, (x, TOP), (x, BOTTOM), "stroke=\"#eeeeee\"");
            text(out, x, BOTTOM + 20.0, "middle", "", &thousands(*d));
        }
        rule(out, (LEFT, BOTTOM), (RIGHT, BOTTOM), "stroke=\"#333333\"");
        if self.zero && differences.len() > 1 {
            // Two strokes say that the axis is broken between nothing and one.
            let x = (self.at(0) + self.at(1)) / 2.0;
            for dx in [-3.0, 3.0] {
                rule(out, (x + dx - 3.0, BOTTOM + 6.0), (x + dx + 3.0, BOTTOM - 6.0), "stroke=\"#333333\"");
            }
        }
        text(out, (LEFT + RIGHT) / 2.0, BOTTOM + 44.0, "middle", "", "differences (d)");
    }
}

/// The vertical axis.
struct Up {
    low: f64,
    high: f64,
    log: bool,
}

impl Up {
    fn new(plot: &Plot, rows: &[&Row]) -> Up {
        let values = rows.iter().map(|row| (plot.of)(row)).filter(|value| *value > 0.0);
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if plot.log {
            Up { low: low.log10().floor(), high: high.log10().ceil(), log: true }
        } else {
            Up { low: 0.0, high: (high / 2.0).ceil() * 2.0, log: false }
        }
    }

    fn at(&self, value: f64) -> f64 {
        let place = if self.log { value.log10().max(self.low) } else { value };
        BOTTOM - (BOTTOM - TOP) * (place - self.low) / (self.high - self.low).max(f64::EPSILON)
    }

    fn grid(&self, out: &mut String, plot: &Plot) {
        let step = if self.log || self.high <= 12.0 { 1.0 } else { 2.0 };
        let steps = ((self.high - self.low) / step) as u32;
        for i in 0..=steps {
            let place = self.low + f64::from(i) * step;
            let value = if self.log { 10f64.powf(place) } else { place };
            let y = self.at(value);
            rule(out, (LEFT, y), (RIGHT, y), "stroke=\"#dddddd\"");
            text(out, LEFT - 8.0, y + 4.5, "end", "", &(plot.tick)(value));
        }
        rule(out, (LEFT, TOP), (LEFT, BOTTOM), "stroke=\"#333333\"");
        let y = (TOP + BOTTOM) / 2.0;
        let turned = format!("transform=\"rotate(-90 18 {y})\"");
        text(out, 18.0, y, "middle", &turned, plot.axis);
    }
}

fn bound(out: &mut String, across: &Across, up: &Up, differences: &[u64]) {
    let inside = |d: &&u64| **d > 0 && (8.0 * **d as f64).log10() >= up.low;
    let mut ends = differences.iter().filter(inside);
    if let (Some(first), Some(last)) = (ends.next(), ends.next_back()) {
        let place = |d: u64| (across.at(d), up.at(8.0 * d as f64));
        rule(out, place(*first), place(*last), "stroke=\"#888888\" stroke-dasharray=\"3 4\" stroke-width=\"1.5\"");
        let (x, y) = place(*last);
        text(out, x, y + 50.0, "end", "fill=\"#666666\" font-size=\"12\"", "8 B × d");
    }
}

fn path(out: &mut String, line: &Line) {
    let (colour, mark) = style(line.peer);
    let how = stroke(line.peer);
    let points: Vec<String> = line.points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" {how} stroke-linejoin=\"round\"/>", points.join(" "));
    line.zero.iter().chain(&line.points).for_each(|point| put_mark(out, *point, colour, mark));
}

fn put_mark(out: &mut String, (x, y): (f64, f64), colour: &str, mark: Mark) {
    let shape = match mark {
        Mark::Circle => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.6\" fill=\"{colour}\"/>"),
        Mark::Square => {
            format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8.4\" height=\"8.4\" fill=\"{colour}\"/>", x - 4.2, y - 4.2)
        }
        Mark::Up => polygon(colour, &[(x, y - 5.4), (x + 5.2, y + 4.0), (x - 5.2, y + 4.0)]),
        Mark::Down => polygon(colour, &[(x, y + 5.4), (x + 5.2, y - 4.0), (x - 5.2, y - 4.0)]),
        Mark::Diamond => polygon(colour, &[(x, y - 5.8), (x + 5.8, y), (x, y + 5.8), (x - 5.8, y)]),
        Mark::Cross => strokes(colour, &[(x - 4.2, y - 4.2, x + 4.2, y + 4.2), (x - 4.2, y + 4.2, x + 4.2, y - 4.2)]),
        Mark::Plus => strokes(colour, &[(x - 5.4, y, x + 5.4, y), (x, y - 5.4, x, y + 5.4)]),
    };
    out.push_str(&shape);
    out.push('\n');
}

fn polygon(colour: &str, corners: &[(f64, f64)]) -> String {
    let points: Vec<String> = corners.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!("<polygon points=\"{}\" fill=\"{colour}\"/>", points.join(" "))
}

fn strokes(colour: &str, lines: &[(f64, f64, f64, f64)]) -> String {
    let d: String = lines.iter().map(|(x, y, u, v)| format!("M{x:.1} {y:.1}L{u:.1} {v:.1}")).collect();
    format!("<path d=\"{d}\" stroke=\"{colour}\" stroke-width=\"2.4\" fill=\"none\"/>")
}

/// Names beside the field, from the highest line at its end to the lowest, so that eyes can follow.
fn legend(out: &mut String, mut lines: Vec<Line>) {
    let end = |line: &Line| line.points.last().or(line.zero.as_ref()).map_or(0.0, |point| point.1);
    lines.sort_by(|a, b| end(a).total_cmp(&end(b)));
    for (i, line) in lines.iter().enumerate() {
        let (x, y) = (RIGHT + 22.0, TOP + 18.0 + 26.0 * i as f64);
        let (colour, mark) = style(line.peer);
        rule(out, (x, y), (x + 28.0, y), &stroke(line.peer));
        put_mark(out, (x + 14.0, y), colour, mark);
        let weight = if line.peer == "reknit" { "font-weight=\"bold\"" } else { "" };
        let name = if oracle(line.peer) { format!("{} (d known)", line.peer) } else { line.peer.to_string() };
        text(out, x + 36.0, y + 4.5, "start", weight, &name);
    }
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64), how: &str) {
    let _ =
        writeln!(out, "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {how}/>", from.0, from.1, to.0, to.1);
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, how: &str, what: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {how}>{what}</text>");
}

fn bytes(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.0} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.0} MB", v / 1e6),
        v if v >= 1e3 => format!("{:.0} kB", v / 1e3),
        v => format!("{v:.0} B"),
    }
}

/// A time in milliseconds.
fn time(value: f64) -> String {
    match value {
        v if v >= 999.0 => format!("{:.0} s", v / 1e3),
        v if v >= 0.999 => format!("{v:.0} ms"),
        v if v >= 0.000999 => format!("{:.0} µs", v * 1e3),
        v => format!("{:.0} ns", v * 1e6),
    }
}

fn thousands(number: u64) -> String {
    match number {
        n if n >= 1_000_000 && n.is_multiple_of(100_000) => format!("{} M", n as f64 / 1e6),
        n if n >= 1_000 && n.is_multiple_of(100) => format!("{} k", n as f64 / 1e3),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medians::{rows, tests::figures};

    #[test]
    fn every_peer_has_a_style_of_its_own() {
        let known: BTreeSet<&str> = STYLES.iter().map(|(name, _, _)| *name).collect();
        let colours: BTreeSet<&str> = STYLES.iter().map(|(_, colour, _)| *colour).collect();
        assert!(peers::all().iter().all(|kind| known.contains(kind.name)));
        assert_eq!(colours.len(), STYLES.len());
    }

    #[test]
    fn axes_rise_and_stay_in_the_field() {
        let differences = [0, 1, 10, 10_000];
        let across = Across::new(&differences);
        let xs: Vec<f64> = differences.iter().map(|d| across.at(*d)).collect();
        assert!(xs.windows(2).all(|two| two[0] < two[1]) && xs[0] >= LEFT && xs[3] <= RIGHT);
        let all = [figures("mst", Shape::Scattered, 0, 1, 32), figures("mst", Shape::Scattered, 100, 1, 60_000)];
        let rows = rows(&all);
        let up = Up::new(&PLOTS[1], &rows.iter().collect::<Vec<_>>());
        assert!(up.at(60_000.0) < up.at(32.0) && up.at(32.0) <= BOTTOM && up.at(60_000.0) >= TOP);
    }

    #[test]
    fn a_plot_names_every_peer_and_closes_what_it_opens() {
        let all = [figures("mst", Shape::Scattered, 10, 1, 32), figures("reknit", Shape::Scattered, 10, 1, 60)];
        let plots = super::all(&rows(&all));
        assert_eq!(plots.len(), PLOTS.len());
        for (name, svg) in plots {
            assert!(name.ends_with("-1000.svg") && svg.contains(">mst<") && svg.contains(">reknit<"));
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        }
    }
}
