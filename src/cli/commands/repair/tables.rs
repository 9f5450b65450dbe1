//! What is special in repairs of tables: rows have no versions, so whoever repairs says which side is right, and what is to
//! become of rows that only the other one has.

use crate::cli::args::{Preferred, Repair, To};
use crate::cli::commands::sides::{self, Ran};
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::core::difference::{Difference, Kind, Side};
use crate::core::session::Verdict;

/// What is said of rows that go after those that refer to them.
const LATER: &str = "left until all tables are written";

/// Refuses what cannot be said of tables.
pub(super) fn admit(args: &Repair) -> Result<(), CliError> {
    let directed = args.to.is_some() || args.newest.is_some();
    let written = |side: Preferred| directed && (args.to() == To::Both || args.to() == side.side());
    for (side, other, typed) in [(Preferred::A, "b", &args.sides.a), (Preferred::B, "a", &args.sides.b)] {
        if written(side) && sides::tables::is_file(typed) {
            let what = if typed.starts_with(sides::tables::STORE) { "a store beside a table" } else { "a file" };
            let message =
                format!("{} is {what}, which is read and never written: only --to {other} is possible", side.name());
            return Err(CliError::refused("database.read-only", message));
        }
    }
    if !directed {
        let message = "rows of tables have no versions that tell which side is right: say --to b (b takes what a has), --to a, \
                       --to both (each takes what only the other has), or --newest COLUMN (the row whose column is greater wins)";
        return Err(CliError::refused("repair.direction", message));
    }
    if args.newest.is_some() && (args.to() != To::Both || args.delete || args.mirror) {
        let message = "--newest writes both sides and deletes nothing: leave out --to, --delete and --mirror";
        return Err(CliError::refused("repair.direction", message));
    }
    let written = |side: Preferred| args.to() == side.side();
    if args.sql.is_some() && (args.apply || args.plan.is_some()) {
        let message = "--sql writes the statements for somebody else to run; leave out --apply and --plan";
        return Err(CliError::refused("repair.sql", message));
    }
    if args.sql.is_some() && args.to() == To::Both {
        let message = "--sql makes a file for one database: name the side that is written with --to a or --to b";
        return Err(CliError::refused("repair.sql", message));
    }
    if args.ignore_extra.is_some_and(|side| !written(side)) {
        let message = "--ignore-extra is about rows that only the written side has: name the side of --to";
        return Err(CliError::refused("repair.direction", message));
    }
    Ok(())
}

/// That a repair of both goes by what has changed since they were equal, and whether it deletes.
pub(in crate::cli::commands) fn since(args: &Repair) -> Option<bool> {
    (sides::are_tables(&args.sides) && args.to() == To::Both && args.newest.is_none()).then_some(args.delete)
}

/// How tables are to be written, if the sides are tables.
pub(in crate::cli::commands) fn writing(args: &Repair) -> Result<Option<sides::tables::Writing>, CliError> {
    if !sides::are_tables(&args.sides) {
        return Ok(None);
    }
    Ok(Some(sides::tables::Writing {
        to: args.to(),
        delete: args.deletes(),
        write_replica: args.write_replica,
        probe: !args.no_probe,
        terms: args.sides.terms.terms()?,
        manner: sides::tables::manner(&args.writes)?,
        beside: args.among.tables.clone(),
    }))
}

/// Rows that only the written side has, if they are kept.
pub(super) fn kept(args: &Repair, ran: &Ran) -> u64 {
    let (only_a, only_b, ..) = ran.counted();
    match args.to() {
        _ if !sides::are_tables(&args.sides) || args.deletes() => 0,
        To::A => only_a,
        To::B => only_b,
        To::Both => 0,
    }
}

/// Whether a row stays that one side has deleted.
pub(in crate::cli::commands) fn is_spared(args: &Repair, difference: &Difference) -> bool {
    kept_by(args, difference).is_some()
}

/// Where a row stays that the other side has deleted, if it is one; of two tables the first opens.
fn kept_by(args: &Repair, difference: &Difference) -> Option<Side> {
    if since(args) != Some(false) {
        return None;
    }
    let wins = match difference.kind {
        Kind::Newer(side) => side,
        Kind::Content if args.prefer? == Preferred::A => Side::Mine,
        Kind::Content => Side::Theirs,
        _ => return None,
    };
    match (wins, difference.entries) {
        (Side::Mine, [None, _]) => Some(Side::Theirs),
        (Side::Theirs, [_, None]) => Some(Side::Mine),
        _ => None,
    }
}

/// What is left where both sides were written, as far as it is known what they were.
pub(super) fn told_since(args: &Repair, ran: &Ran, spared: u64, text: &mut String) {
    let apart = ran.report.outcome.counts.content;
    if let (Some(column), None, 1..) = (&args.newest, args.prefer, apart) {
        let (rows, s) = (show_count(apart), sides::plural(apart));
        text.push_str(&format!(
            "\n{rows} row{s} left of which {column} does not tell the newer; --prefer a or --prefer b does"
        ));
    }
    if ran.since.is_none() || since(args).is_none() {
        return;
    }
    if args.prefer.is_none() && apart > 0 {
        let (rows, s) = (show_count(apart), sides::plural(apart));
        text.push_str(&format!("\n{rows} row{s} changed on both sides left; --prefer a or --prefer b says which wins"));
    }
    if spared > 0 && !args.delete {
        let (s, them) = (sides::plural(spared), if spared == 1 { "it" } else { "them" });
        let rows = show_count(spared);
        text.push_str(&match args.among.deletes_later {
            true => format!("\n{rows} row{s} that the other side has deleted {LATER}"),
            false => format!("\n{rows} row{s} that the other side has deleted kept; --delete takes {them} away"),
        });
    }
}

/// What is said of kept rows, and how the command ends if nothing else is left of so many differences.
pub(super) fn with_kept(args: &Repair, ran: &Ran, left: u64, exit: Exit, text: &mut String) -> Exit {
    let kept = kept(args, ran);
    if kept == 0 {
        return exit;
    }
    let side = if args.to() == To::A { "a" } else { "b" };
    let s = sides::plural(kept);
    let them = if kept == 1 { "it" } else { "them" };
    let rows = show_count(kept);
    text.push_str(&match args.among.deletes_later {
        true => format!("\n{rows} row{s} only in {side} {LATER}"),
        false => format!("\n{rows} row{s} only in {side} kept; --delete takes {them} away"),
    });
    let nothing_else = ran.report.outcome.verdict == Verdict::Differs && left == kept;
    if args.ignore_extra.is_some() && nothing_else { Exit::Done } else { exit }
}
