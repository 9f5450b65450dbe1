//! `reknit explain A [B]`: what a table is compared by, who may do what with it, and whether two go together.

use serde_json::{Value, json};

use super::sides::tables;
use crate::cli::args::Explain;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::store::linked::{FeedKind, Probe, Table, probe};

/// Rows that are probed.
pub(crate) const PROBED: usize = 1_000;

pub(crate) fn run(args: &Explain, env: &mut Env) -> Result<Exit, CliError> {
    let a = tables::table(env, &args.a)?;
    let b = args.b.as_ref().map(|b| tables::table(env, b)).transpose()?;
    let mut items: Vec<(String, Value)> = about("a", &*a)?;
    let Some(b) = b else {
        if a.columns().key.is_empty() {
            items.push(line("a", "feed", "none: it is read whole by each command".into()));
            return print(env, &items, Exit::Done, "nothing was written", None);
        }
        let shape = tables::shape(&*a, &*a)?;
        let feed = match a.feed(FeedKind::Triggers, &shape, "index") {
            Ok(feed) => format!(
                "{} statements would install triggers: reknit index build TABLE --feed triggers",
                feed.install_sql().len()
            ),
            Err(error) => error.to_string(),
        };
        items.push(line("a", "feed", feed));
        return print(env, &items, Exit::Done, "nothing was written", None);
    };
    items.extend(about("b", &*b)?);
    let shape = tables::shape(&*a, &*b)?;
    for (name, kind) in shape.columns() {
        let declared = |table: &dyn Table| table.columns().column(name).map(ToString::to_string).unwrap_or_default();
        let told = format!("{name} is compared as {}: {} in a, {} in b", kind.name(), declared(&*a), declared(&*b));
        items.push(line("both", "column", told));
    }
    let probe = probe(&*a, &*b, &shape, PROBED)?;
    let (exit, text) = judged(&probe);
    print(env, &items, exit, &text, Some(&probe))
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
