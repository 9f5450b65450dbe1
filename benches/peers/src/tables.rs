//! The tables, as Markdown, and where Reknit does not win, worked out from them.

use std::collections::BTreeSet;

use crate::case::Figures;
use crate::medians::Row;
use crate::peers;
use crate::plot;
use crate::workload::Shape;

/// The peer that all others are held against.
const OURS: &str = "reknit";
/// A figure counts as better only if it is so by more than this, in parts of ours: CPU time is not exact.
const TIE_TIME: f64 = 0.10;

/// Everything that stands between the markers.
pub fn markdown(rows: &[Row], figures: &[Figures]) -> String {
    let mut out = head(figures);
    let sizes: BTreeSet<usize> = rows.iter().map(|row| row.records).collect();
    for n in sizes {
        let of = |shape: Shape| rows.iter().filter(|row| row.records == n && row.shape == shape).collect::<Vec<&Row>>();
        let scattered = of(Shape::Scattered);
        if !scattered.is_empty() {
            out += &scattered_tables(n, &scattered);
        }
        let others: Vec<&Row> = Shape::ALL.into_iter().skip(1).flat_map(of).collect();
        if !others.is_empty() {
            out += &other_tables(n, &others);
        }
        let all: Vec<&Row> = rows.iter().filter(|row| row.records == n).collect();
        out += &goal(n, &scattered);
        out += &losses(n, &all);
    }
    out
}

fn head(figures: &[Figures]) -> String {
    let dates: BTreeSet<&str> = figures.iter().map(|f| f.date.as_str()).collect();
    let mut commands: Vec<&str> = figures.iter().map(|f| f.command.as_str()).collect();
    commands.dedup();
    let mut out = format!(
        "Measured {} by the yardstick in [`benches/peers`](../benches/peers/README.md), which writes this part:\n\n```sh\n",
        dates.into_iter().collect::<Vec<_>>().join(", "),
    );
    commands.iter().for_each(|line| out += &format!("reknit-yardstick {line}\n"));
    out += "```\n\n";
    out += "Records have a random 16-byte key, an 8-byte version and a 100-byte value. Of `d` *scattered* differences half are\n\
            missing on A, a quarter on B, a quarter newer on B. *Clustered*: A lost one run of n/256 records that are neighbours\n\
            in the peer's own order. *Tail*: A lacks the newest d records of a log whose keys rise with the versions.\n\
            *All changed*: every record is newer on B. *One empty*: A has nothing. A opens. **Metadata** is everything both ways\n\
            except records, with the ids that are asked for; framing below messages (datagrams, streams, handshakes) is counted\n\
            for no one. **Needless** are records sent that the other side has or would not keep, 124 bytes each. **Flights** are\n\
            one-way, until both sides know what to send. **CPU** is that of one thread for both sides; warm: everything is built;\n\
            cold: with building both sides from ready hashes. Hashing the records themselves is in no figure. All stores are in\n\
            memory. Figures are medians over the seeds. **✗** marks a peer that missed a difference.\n\n";
    out += "| peer | version | what it is |\n|---|---|---|\n";
    let measured: BTreeSet<&str> = figures.iter().map(|f| f.case.peer.as_str()).collect();
    for kind in peers::all().iter().filter(|kind| measured.contains(kind.name)) {
        let versions: Vec<String> = kind.crates.iter().map(|name| format!("`{name}` {}", version(name))).collect();
        let versions = if versions.is_empty() { "–".into() } else { versions.join(", ") };
        out += &format!("| {} | {versions} | {} |\n", label(kind.name), kind.note);
    }
    out + "\n"
}

/// The version of a crate in our lock file.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{name}\"\n")));
    let line = entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = ")));
    line.map_or("?", |version| version.trim_matches('"'))
}

/// How a peer is called in tables.
fn label(peer: &str) -> String {
    match peers::all().iter().find(|kind| kind.name == peer) {
        Some(kind) if kind.oracle => format!("{peer} (d known)"),
        _ if peer == OURS => format!("**{peer}**"),
        _ => peer.replace('-', " ").replace("iroh docs", "iroh-docs"),
    }
}

fn scattered_tables(n: usize, rows: &[&Row]) -> String {
    let mut out = format!("## Scattered differences, n = {}\n\n{}", grouped(n as f64), seeds(rows));
    for (name, what) in plot::names(n) {
        out += &format!("![{what}](performance/{name})\n\n");
    }
    out += "Metadata, bytes a difference:\n\n";
    out += &by_differences(rows, &|row| each(&|row| row.metadata, row));
    out += "\nMetadata and needless records, bytes a difference:\n\n";
    out += &by_differences(rows, &|row| each(&Row::with_needless, row));
    if n == 1_000_000 {
        out += &elsewhere(rows);
    }
    out += "\nNeedless records:\n\n";
    out += &by_differences(rows, &|row| grouped(row.needless));
    out += "\nFlights:\n\n";
    out += &by_differences(rows, &|row| short(row.flights));
    out += "\nCPU, warm, both sides, milliseconds:\n\n";
    out += &by_differences(rows, &|row| short(row.warm_ms));
    out += "\nCPU, cold, both sides, milliseconds:\n\n";
    out += &by_differences(rows, &|row| short(row.cold_ms));
    out += "\nBuilding, updating, holding:\n\n";
    out += "| peer | build, ms a side | update, µs | memory, bytes a record |\n|---|---:|---:|---:|\n";
    for same in by_peer(rows) {
        // What is built does not depend on the differences, except for a peer that is told them: the largest.
        let Some(row) = same.last() else { continue };
        let memory = row.memory.map_or("–".into(), short);
        out += &format!("| {} | {} | {} | {memory} |\n", label(&row.peer), short(row.build_ms), short(row.update_us));
    }
    out + "\n"
}

/// Of how many seeds the figures are medians, by peer where that is not the same.
fn seeds(rows: &[&Row]) -> String {
    let most = rows.iter().map(|row| row.seeds).max().unwrap_or_default();
    let fewer = rows.iter().filter(|row| row.seeds < most).map(|row| (row.peer.as_str(), row.seeds));
    let fewer: BTreeSet<(&str, usize)> = fewer.collect();
    let told: String = fewer.iter().map(|(peer, seeds)| format!(", {peer} {seeds}")).collect();
    format!("Seeds: {most}{told}.\n\n")
}

/// A table with a row for each peer and a column for each number of differences.
fn by_differences(rows: &[&Row], show: &dyn Fn(&Row) -> String) -> String {
    let columns: BTreeSet<u64> = rows.iter().map(|row| row.differences).collect();
    let mut out = String::from("| peer |");
    columns.iter().for_each(|d| out += &format!(" d = {} |", grouped(*d as f64)));
    out += &format!("\n|---|{}\n", "---:|".repeat(columns.len()));
    for same in by_peer(rows) {
        out += &format!("| {} |", label(&same[0].peer));
        for d in &columns {
            let cell = same.iter().find(|row| row.differences == *d);
            out += &format!(" {} |", cell.map_or("–".into(), |row| show(row) + missed(row)));
        }
        out += "\n";
    }
    out
}

/// The rows of each peer, in the order of the peers.
fn by_peer<'a>(rows: &[&'a Row]) -> Vec<Vec<&'a Row>> {
    let of = |name: &str| rows.iter().copied().filter(|row| row.peer == name).collect::<Vec<&Row>>();
    peers::all().iter().map(|kind| of(kind.name)).filter(|same| !same.is_empty()).collect()
}

/// Tools over files, measured once by hand: see the notes below the rows.
fn elsewhere(rows: &[&Row]) -> String {
    let columns: BTreeSet<u64> = rows.iter().map(|row| row.differences).collect();
    let mut out = String::new();
    for (name, known) in [
        ("rsync 3.5.0 †", [(0, "123,000 in all"), (100, "24,500")]),
        ("sqlite3_rsync 3.53.4 †", [(0, "809 in all"), (100, "10,000")]),
    ] {
        out += &format!("| {name} |");
        for d in &columns {
            out += &format!(" {} |", known.iter().find(|(at, _)| at == d).map_or("–", |(_, bytes)| bytes));
        }
        out += "\n";
    }
    out + "\n† Not measured here, but once over the same kind of set: one direction only, bytes on the line less the records that were\n\
           needed, for each needed record. rsync over sorted dumps; sqlite3_rsync over a replica that diverged in place (over the\n\
           same rows loaded afresh it ships the whole file, 133 MB at d = 100).\n"
}

fn other_tables(n: usize, rows: &[&Row]) -> String {
    let mut out = format!("## Other shapes, n = {}\n\n{}", grouped(n as f64), seeds(rows));
    for shape in Shape::ALL {
        let of: Vec<&Row> = rows.iter().copied().filter(|row| row.shape == shape).collect();
        let name = shape.name().replace('-', " ");
        let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        match of.first() {
            None => {}
            Some(_) if shape.takes_differences() => {
                out += &format!("{title}, metadata and needless records, bytes a difference:\n\n");
                out += &by_differences(&of, &|row| each(&Row::with_needless, row));
                out += &format!("\n{title}, flights:\n\n");
                out += &by_differences(&of, &|row| short(row.flights));
                out += &format!("\n{title}, CPU, warm, both sides, milliseconds:\n\n");
                out += &by_differences(&of, &|row| short(row.warm_ms));
                out += "\n";
            }
            Some(first) => {
                out += &format!("{title}, d = {}:\n\n", grouped(first.differences as f64));
                out += &one_task(&of);
            }
        }
    }
    out
}

/// A table with a row for each peer, all over the same differences.
fn one_task(rows: &[&Row]) -> String {
    let head = ["metadata, bytes", "a difference", "needless records", "flights", "CPU warm, ms", "cold, ms"];
    let mut out = format!("| peer | {} |\n|---|{}\n", head.join(" | "), "---:|".repeat(head.len()));
    for row in rows {
        let cells = [
            grouped(row.metadata),
            short(row.metadata / row.differences.max(1) as f64),
            grouped(row.needless),
            short(row.flights),
            short(row.warm_ms),
            short(row.cold_ms),
        ];
        out += &format!("| {}{} | {} |\n", label(&row.peer), missed(row), cells.join(" | "));
    }
    out + "\n"
}

/// Bytes for each difference, or in all if there is none.
fn each(bytes: &dyn Fn(&Row) -> f64, row: &Row) -> String {
    match row.differences {
        0 => format!("{} in all", grouped(bytes(row))),
        d => short(bytes(row) / d as f64),
    }
}

fn missed(row: &Row) -> &'static str {
    if row.missed > 0 { " ✗" } else { "" }
}

/// Peers that recurse over ranges, which ours is not to be slower than.
const ALIKE: [&str; 3] = ["negentropy", "reconcile", "iroh-docs"];

/// Whether the goal is reached: between 10 differences and a tenth of the set the fewest bytes of all who are not told
/// the number, and flights and CPU no worse than those of peers that recurse over ranges.
fn goal(n: usize, rows: &[&Row]) -> String {
    let ours = rows.iter().filter(|row| row.peer == OURS && (10..=n as u64 / 10).contains(&row.differences));
    let ours: Vec<&&Row> = ours.collect();
    if ours.is_empty() {
        return String::new();
    }
    let told = |row: &Row| peers::all().iter().any(|kind| kind.name == row.peer && kind.oracle);
    let alike = |row: &Row| ALIKE.contains(&row.peer.as_str());
    let mut out = format!(
        "### Is the goal reached? n = {}\n\n\
         From 10 differences to a tenth of the set: the fewest bytes (metadata and needless records) of all peers that are not\n\
         told how many records differ; flights, and warm CPU but for a tenth, no worse than {}.\n\n\
         | d | fewest bytes | flights | warm CPU |\n|---:|---|---|---|\n",
        grouped(n as f64),
        ALIKE.join(", ")
    );
    for row in ours {
        let verdict = |measure: &Measure, counts: &dyn Fn(&Row) -> bool| {
            let others: Vec<&Row> = rows.iter().copied().filter(|other| counts(other)).collect();
            let found = winners(measure, row, &others);
            if found.is_empty() { "yes".to_string() } else { format!("no: {} ({})", found, ours_of(measure, row)) }
        };
        out += &format!(
            "| {} | {} | {} | {} |\n",
            grouped(row.differences as f64),
            verdict(&MEASURES[1], &|other| !told(other)),
            verdict(&MEASURES[2], &alike),
            verdict(&MEASURES[3], &alike)
        );
    }
    out + "\n"
}

/// One figure that can be better or worse.
struct Measure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Row) -> Option<f64>,
    /// How much better another must be, in parts of ours.
    tie: f64,
    /// Whether it is the same whatever the differences are.
    fixed: bool,
}

const MEASURES: [Measure; 8] = [
    Measure { name: "Metadata", unit: "B", of: |row| Some(row.metadata), tie: 0.0, fixed: false },
    Measure {
        name: "Metadata and needless records",
        unit: "B",
        of: |row| Some(row.with_needless()),
        tie: 0.0,
        fixed: false,
    },
    Measure { name: "Flights", unit: "", of: |row| Some(row.flights), tie: 0.0, fixed: false },
    Measure { name: "CPU warm", unit: "ms", of: |row| Some(row.warm_ms), tie: TIE_TIME, fixed: false },
    Measure { name: "CPU cold", unit: "ms", of: |row| Some(row.cold_ms), tie: TIE_TIME, fixed: false },
    Measure { name: "Building", unit: "ms", of: |row| Some(row.build_ms), tie: TIE_TIME, fixed: true },
    Measure { name: "An update", unit: "µs", of: |row| Some(row.update_us), tie: TIE_TIME, fixed: true },
    Measure { name: "Memory", unit: "B a record", of: |row| row.memory, tie: TIE_TIME, fixed: true },
];

/// Where another peer is better, by the figures.
fn losses(n: usize, rows: &[&Row]) -> String {
    let mut out = String::new();
    for measure in &MEASURES {
        let mut ours: Vec<&Row> = rows.iter().copied().filter(|row| row.peer == OURS).collect();
        if measure.fixed {
            // The same whatever differs: the largest scattered case speaks for all.
            ours = ours.into_iter().rfind(|row| row.shape == Shape::Scattered).into_iter().collect();
        }
        let mut places = String::new();
        for row in ours {
            let found = winners(measure, row, rows);
            let shape = row.shape.name().replace('-', " ");
            let place = match row.shape.takes_differences() {
                _ if measure.fixed => String::new(),
                true => format!("{shape}, d = {}: ", grouped(row.differences as f64)),
                false => format!("{shape}: "),
            };
            if !found.is_empty() {
                places += &format!("  - {place}{found} ({})\n", ours_of(measure, row));
            }
        }
        if !places.is_empty() {
            out += &format!("- {}\n{places}", measure.name);
        }
    }
    if out.is_empty() {
        return out;
    }
    format!(
        "### Where Reknit does not win, n = {}\n\n\
         Every figure that another peer has better (times and memory: by more than a tenth), best first, ours in parentheses.\n\n{out}\n",
        grouped(n as f64)
    )
}

/// Who is better than `ours` at the same task, with their figures.
fn winners(measure: &Measure, ours: &Row, rows: &[&Row]) -> String {
    let Some(own) = (measure.of)(ours) else { return String::new() };
    let same = |row: &&&Row| row.shape == ours.shape && row.differences == ours.differences && row.missed == 0;
    let figure = |row: &&Row| Some(((measure.of)(row)?, row.peer.clone()));
    let mut others: Vec<(f64, String)> = rows.iter().filter(same).filter_map(figure).collect();
    others.retain(|(value, _)| *value < own * (1.0 - measure.tie));
    others.sort_by(|a, b| a.0.total_cmp(&b.0));
    let names: Vec<String> = others.iter().map(|(value, peer)| format!("{} {}", label(peer), short(*value))).collect();
    names.join(", ")
}

fn ours_of(measure: &Measure, row: &Row) -> String {
    let own = (measure.of)(row).map_or("–".into(), short);
    if measure.unit.is_empty() { own } else { format!("{own} {}", measure.unit) }
}

/// A number with a comma between thousands, rounded.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number to three digits.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 || number.fract() == 0.0 => grouped(number),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 0.995 => format!("{number:.2}"),
        size if size >= 0.01 => format!("{number:.3}"),
        _ => format!("{number:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medians::{rows, tests::figures};

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (7.0, "7"),
            (0.00053, "0.0005"),
            (0.0812, "0.081"),
            (3.2851, "3.29"),
            (47.8, "47.8"),
            (999.4, "999"),
            (2_097_136.0, "2,097,136"),
        ];
        for (number, expected) in cases {
            assert_eq!(short(number), expected);
        }
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!((version("negentropy"), version("rsos"), version("no such crate")), ("0.5.3", "0.5.3", "?"));
    }

    #[test]
    fn where_reknit_does_not_win_follows_from_the_figures() {
        let all = [
            figures("reknit", Shape::Scattered, 8, 1, 500),
            figures("negentropy", Shape::Scattered, 8, 1, 400),
            figures("mst", Shape::Scattered, 8, 1, 600),
            figures("reknit", Shape::Tail, 8, 1, 500),
            figures("mst", Shape::Tail, 8, 1, 500),
        ];
        let rows = rows(&all);
        let said = losses(1000, &rows.iter().collect::<Vec<_>>());
        assert!(said.contains("- Metadata\n  - scattered, d = 8: negentropy 400 (500 B)\n"), "{said}");
        assert!(!said.contains("mst") && !said.contains("Flights"), "{said}");
    }

    #[test]
    fn the_goal_is_held_against_those_who_are_not_told() {
        let all = [
            figures("reknit", Shape::Scattered, 100, 1, 500),
            figures("negentropy", Shape::Scattered, 100, 1, 600),
            figures("minisketch", Shape::Scattered, 100, 1, 400),
        ];
        let reached = rows(&all);
        let said = goal(1000, &reached.iter().collect::<Vec<_>>());
        assert!(said.contains("| 100 | yes | yes | yes |"), "{said}");
        let mut faster = all.to_vec();
        faster[1].flights = 2;
        let missed = rows(&faster);
        let said = goal(1000, &missed.iter().collect::<Vec<_>>());
        assert!(said.contains("| 100 | yes | no: negentropy 2 (3) | yes |"), "{said}");
    }

    #[test]
    fn a_peer_that_missed_something_wins_nothing_and_is_marked() {
        let mut wrong = figures("mst", Shape::Scattered, 8, 1, 1);
        wrong.missed = 2;
        let all = [figures("reknit", Shape::Scattered, 8, 1, 500), wrong];
        let rows = rows(&all);
        let rows: Vec<&Row> = rows.iter().collect();
        assert_eq!(losses(1000, &rows), "");
        assert!(scattered_tables(1000, &rows).contains("0.125 ✗"));
    }
}
