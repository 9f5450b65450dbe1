//! `reknit explain A [B]`: what a table is compared by, who may do what with it, and whether two go together.

use serde_json::{Value, json};

use super::index;
use super::sides::scans::Expected;
use super::sides::tables;
use crate::cli::args::{AskedPurpose, Explain};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::{show_bytes, show_count};
use crate::cli::{CliError, Exit};
use crate::store::linked::{FeedKind, Probe, Purpose, Shape, Table, probe};

/// Rows that are probed.
pub(crate) const PROBED: usize = 1_000;

pub(crate) fn run(args: &Explain, env: &mut Env) -> Result<Exit, CliError> {
    if let Some(asked) = args.grants {
        return grants(args, asked.purpose(), env);
    }
    let a = tables::table(env, &args.a)?;
    let b = args.b.as_ref().map(|b| tables::table(env, b)).transpose()?;
    let terms = args.terms.terms()?;
    let mut items: Vec<(String, Value)> = about("a", &*a)?;
    let (Some(typed), Some(b)) = (&args.b, b) else {
        if a.columns().key.is_empty() && terms.key.is_empty() {
            items.push(line("a", "feed", "none: it is read whole by each command".into()));
            return print(env, &items, Exit::Done, "nothing was written", None);
        }
        let [shape, _] = tables::shapes(&terms, &*a, &*a)?;
        items.extend(costs("a", (&args.a, &*a), &shape, env)?);
        for kind in [FeedKind::Triggers, FeedKind::Slot] {
            items.push(line("a", "feed", feed(&*a, &shape, kind)));
        }
        return print(env, &items, Exit::Done, "nothing was written", None);
    };
    items.extend(about("b", &*b)?);
    let (terms, zoneless) = terms.with_zones_for((&*a, &*b));
    let [of_a, of_b] = tables::shapes(&terms, &*a, &*b)?;
    items.extend(costs("a", (&args.a, &*a), &of_a, env)?);
    items.extend(costs("b", (typed, &*b), &of_b, env)?);
    for (place, (name, kind)) in of_a.columns().iter().enumerate() {
        let declared = |table: &dyn Table, shape: &Shape| {
            let source = shape.source(place);
            let declared = table.columns().column(source).map(ToString::to_string).unwrap_or_default();
            if source == name { declared } else { format!("{source} {declared}") }
        };
        let rounded = of_a.rounding(place).map(|rounding| format!(" by {rounding}")).unwrap_or_default();
        let of_zone = |shape: &Shape| shape.zone(place).map(|zone| format!(" of zone {zone}")).unwrap_or_default();
        let in_a = declared(&*a, &of_a) + &of_zone(&of_a);
        let in_b = declared(&*b, &of_b) + &of_zone(&of_b);
        let told = format!("{name} is compared as {}{rounded}: {in_a} in a, {in_b} in b", kind.name());
        items.push(line("both", "column", told));
    }
    if let Some(filter) = of_a.filter() {
        items.push(line("both", "rows", format!("only those that meet {filter}")));
    }
    let probe = probe(&terms, (&*a, &of_a), (&*b, &of_b), PROBED)?;
    let (mut exit, mut text) = judged(&probe);
    // Of what no zone is said nothing is compared; what would do was tried.
    for (column, zone) in &zoneless {
        let differs = probe.columns.iter().find(|probed| probed.name == *column);
        if exit == Exit::Done || probe.suspicious().all(|probed| probed.name != *column) {
            let shared = probe.shared;
            let fits = shared - differs.map_or(0, |probed| probed.differs);
            let rows = format!("{fits} of {shared} probed rows fit --zone {zone}");
            text = format!(
                "{column} says no zone on one side, and nothing is compared until that is said: {rows}; {text}"
            );
        }
        exit = Exit::Refused;
    }
    print(env, &items, exit, &text, Some(&probe))
}

/// The statements that give users what they lack.
fn grants(args: &Explain, purpose: Purpose, env: &mut Env) -> Result<Exit, CliError> {
    let mut all = tables::lacking(env, &args.a, purpose)?;
    if let Some(b) = &args.b {
        all.extend(tables::lacking(env, b, purpose)?);
    }
    let text = match all.len() {
        0 => format!("no right is lacking to {}", purpose_in_words(purpose)),
        n => format!(
            "{n} statements, for whoever may grant rights there, would let the user {}; nothing was run",
            purpose_in_words(purpose)
        ),
    };
    index::print_sql(&all, false, &text, env)
}

fn purpose_in_words(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Compare => "compare the table",
        Purpose::Repair => "repair the table",
        Purpose::Triggers => "install triggers on the table",
        Purpose::Slot => "follow the table by a slot",
    }
}

/// Whether a feed can be had, and how.
fn feed(table: &dyn Table, shape: &Shape, kind: FeedKind) -> String {
    let sql =
        table.feed(kind, shape, "index").and_then(|feed| feed.ready().map(|()| feed.install_sql().concat().len()));
    match sql {
        Ok(n) => format!("{n} statements would install {0}: reknit index build TABLE --feed {0}", kind.name()),
        Err(error) => format!("{} cannot be had: {error}", kind.name()),
    }
}

/// What may be done with a table, how it is read, and what an index of it takes.
fn costs(
    side: &str,
    (typed, table): (&str, &dyn Table),
    shape: &Shape,
    env: &Env,
) -> Result<Vec<(String, Value)>, CliError> {
    let (mut may, mut lacks, mut never) = (Vec::new(), Vec::new(), Vec::new());
    for purpose in Purpose::ALL {
        match table.lacking(purpose) {
            Ok(lacking) if lacking.is_empty() => may.push(purpose.name()),
            Ok(_) => lacks.push(purpose.name()),
            Err(_) => never.push(purpose.name()),
        }
    }
    let mut told = format!("enough for {}", may.join(", "));
    if !lacks.is_empty() {
        told += &format!("; not for {} (--grants tells what is lacking)", lacks.join(", "));
    }
    if !never.is_empty() {
        told += &format!("; no {} there", never.join(", "));
    }
    let mut lines = vec![line(side, "rights", told)];
    let cost = table.cost(shape)?;
    let last = tables::known(env, typed, table, shape)?.map(|linked| linked.last_scan()).transpose()?.flatten();
    lines.push(line(side, "cost", format!("reading it whole: {}", Expected::of(&cost, last))));
    lines.push(line(side, "scan", cost.sql));
    let (bytes, basis) = tables::bytes_a_row(env, typed);
    lines.push(line(
        side,
        "rows",
        match cost.rows {
            None => format!("unknown until they are read; an index takes {bytes} B a row, {basis}"),
            Some(rows) => format!(
                "about {}, as the database counted last; an index takes about {} ({bytes} B a row, {basis})",
                show_count(rows),
                show_bytes(rows.saturating_mul(bytes))
            ),
        },
    ));
    Ok(lines)
}

/// How a probe is judged, in words.
pub(crate) fn judged(probe: &Probe) -> (Exit, String) {
    let suspicious: Vec<String> = probe.suspicious().map(|column| column.told(probe.shared)).collect();
    if !suspicious.is_empty() {
        let text = format!("{}; that is how it is read or declared, hardly drift", suspicious.join("; "));
        return (Exit::Refused, format!("{text}; wrote 0 records"));
    }
    let shared = show_count(probe.shared);
    let some: Vec<String> = probe.columns.iter().map(|column| column.told(probe.shared)).collect();
    let differs = if some.is_empty() { "none differs".to_string() } else { some.join("; ") };
    (Exit::Done, format!("{shared} shared rows were probed: {differs}; nothing was written"))
}

fn line(side: &str, what: &str, told: String) -> (String, Value) {
    let object = json!({ "t": "explained", "side": side, "what": what, "told": told });
    (format!("{side}\t{what}\t{told}"), object)
}

/// What is to be known of one table.
fn about(side: &str, table: &dyn Table) -> Result<Vec<(String, Value)>, CliError> {
    let columns = table.columns();
    let key = if columns.key.is_empty() { "that of the other side".into() } else { columns.key.join(", ") };
    let all: Vec<String> = columns.columns.iter().map(|column| format!("{} {column}", column.name)).collect();
    let mut lines = vec![
        line(side, "table", table.place().to_string()),
        line(side, "key", key),
        line(side, "columns", all.join(", ")),
    ];
    let cautions = table.cautions()?;
    if let Some(why) = cautions.kept {
        lines.push(line(side, "kept", format!("{why}; a repair writes it only with --write-replica")));
    }
    if !cautions.triggers.is_empty() {
        lines.push(line(side, "triggers", format!("run when it is written: {}", cautions.triggers.join(", "))));
    }
    if !cautions.cascades.is_empty() {
        let others = cautions.cascades.join(", ");
        lines.push(line(
            side,
            "cascades",
            format!("deleting rows deletes or changes rows of {others}; --delete is refused"),
        ));
    }
    for (column, other) in cautions.follows.iter().filter(|(column, _)| !table.columns().key.contains(column)) {
        lines.push(line(
            side,
            "cascades",
            format!("changing {column} changes rows of {other}; a repair needs --ignore {column}"),
        ));
    }
    Ok(lines)
}

fn print(
    env: &mut Env,
    items: &[(String, Value)],
    exit: Exit,
    text: &str,
    probe: Option<&Probe>,
) -> Result<Exit, CliError> {
    let mut printer = Printer::new(env);
    for (line, object) in items {
        printer.item(|| line.clone(), || object.clone())?;
    }
    let column = |column: &crate::store::linked::ProbedColumn| json!({ "name": column.name, "differs": column.differs, "how": column.how });
    let probe = probe.map(
        |probe| json!({ "shared": probe.shared, "columns": probe.columns.iter().map(column).collect::<Vec<_>>() }),
    );
    printer.end(exit, text, fields(json!({ "probe": probe })))
}

impl AskedPurpose {
    fn purpose(self) -> Purpose {
        match self {
            AskedPurpose::Compare => Purpose::Compare,
            AskedPurpose::Repair => Purpose::Repair,
            AskedPurpose::Triggers => Purpose::Triggers,
            AskedPurpose::Slot => Purpose::Slot,
        }
    }
}
