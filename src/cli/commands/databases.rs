//! Two whole databases: one command table by table, those that have one name or were said to be one. What is done with a pair of
//! tables is the command's, in which order they are repaired is said in `turns`.

mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use reknit_core::session::Verdict;
use serde_json::json;

use super::sides::{plural, tables};
use crate::cli::args::{Among, Repair, Sides, TermFlags};
use crate::cli::env::Env;
use crate::cli::metrics::Measured;
use crate::cli::output::{self, Printer, fields};
use crate::cli::sql_file::{self, SharedSql, SqlFile};
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::store::linked::{Columns, Postgres, ShapeError, Sqlite};

/// Times that tables are repaired in which rows were refused: each time rows that others refer to may have come.
const PASSES_MAX: usize = 8;

/// A database, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Database {
    /// Its address.
    address: String,
    /// Which tables: `*`, or `SCHEMA.*`.
    pattern: String,
    /// Whether all of it is meant for sure: a file of SQLite may have one table that is.
    whole: bool,
}

/// A table as it is called, and as an address has it.
type Named = (String, String);
/// Two databases with their tables.
type Both = ([Database; 2], [Vec<Named>; 2]);

/// Two tables to be compared, with what they are called.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    name: String,
    tables: [String; 2],
}

/// Two tables that are to be gone through.
struct Todo {
    name: String,
    sides: Sides,
    among: Among,
}

/// What is known of the tables that were gone through.
#[derive(Default)]
struct Through {
    exits: BTreeMap<String, Exit>,
    measured: BTreeMap<String, Measured>,
    /// Why tables could not be gone through to their end: an id, and what it says.
    failed: BTreeMap<String, (&'static str, String)>,
    items: Vec<serde_json::Value>,
}

/// Runs a command on two sides, or on each pair of tables of two databases, one after the other; of databases the exit is the
/// worst, and tables that cannot be judged are named. Those of a repair are gone through with parents first, where rows are to
/// be deleted once more with children first, and those in which rows were refused again, since rows may refer to rows of others.
pub(crate) fn each(
    env: &mut Env,
    sides: &Sides,
    repair: Option<&Repair>,
    mut run: impl FnMut(Sides, Among, &mut Env) -> Result<Exit, CliError>,
) -> Result<Exit, CliError> {
    let Some(([a, b], tables)) = databases(env, sides)? else {
        if !sides.map.is_empty() || !sides.ignore_tables.is_empty() {
            let message = "--map and --ignore-table are for two databases: postgres://USER@HOST/DB, postgres://USER@HOST/DB/SCHEMA.* \
                           or sqlite:FILE, without a table";
            return Err(CliError::new("usage.databases", message));
        }
        return run(sides.clone(), Among::default(), env);
    };
    let (pairs, alone) = paired(tables, &sides.map, &sides.ignore_tables)?;
    if pairs.is_empty() {
        let message = "the two databases have no table in common; --map a.TABLE=b.TABLE says which are the same";
        return Err(CliError::new("database.none", message));
    }
    let mut todo = Vec::new();
    for pair in pairs {
        let [at_a, at_b] = [(&a, &pair.tables[0]), (&b, &pair.tables[1])]
            .map(|(database, table)| tables::with_table(&database.address, table));
        let sides = Sides { a: at_a, b: at_b, ..sides.clone() };
        todo.push(Todo { name: pair.name, sides, among: Among::default() });
    }
    fit_terms(env, sides, &mut todo)?;
    let mut script = None;
    if let Some(repair) = repair {
        script = statements(env, repair, &mut todo)?;
        todo = turns::in_order(env, repair, todo);
    }
    let mut through = Through::default();
    let repairs = repair.is_some_and(|repair| repair.apply);
    let order: Vec<(String, Sides, Among)> =
        todo.iter().filter(|todo| todo.among.deletes_later).map(Todo::parts).collect();
    if through.pass(env, todo, repairs, &mut run) {
        // What is to go, children before parents; only where all else was written as far as it could be.
        let later = order.into_iter().rev().filter(|(name, ..)| through.deletes_wait(name));
        let later =
            later.map(|(name, sides, among)| Todo { name, sides, among: Among { deletes_later: false, ..among } });
        let later = later.collect();
        through.pass(env, later, repairs, &mut run);
    }
    end(env, through, &alone, script)
}

/// Begins the file for the statements of all tables, if that is what is asked for.
fn statements(env: &mut Env, repair: &Repair, todo: &mut [Todo]) -> Result<Option<SharedSql>, CliError> {
    if repair.plan.is_some() {
        let message = "a plan is of one table: name it; --sql writes the statements for several";
        return Err(CliError::refused("plan.several", message));
    }
    // What speaks against it is told of each.
    let Some(path) = repair.sql.as_ref().filter(|_| !repair.apply) else { return Ok(None) };
    let file = Arc::new(Mutex::new(Some(SqlFile::create(&env.path(path), &mut env.err)?)));
    todo.iter_mut().for_each(|todo| todo.among.script = Some(Arc::clone(&file)));
    Ok(Some(file))
}

impl Todo {
    fn parts(&self) -> (String, Sides, Among) {
        (self.name.clone(), self.sides.clone(), self.among.clone())
    }
}

impl Through {
    /// Goes through tables, and again through those in which rows were refused, if it `repairs`; says whether it came to the end.
    fn pass(
        &mut self,
        env: &mut Env,
        mut todo: Vec<Todo>,
        repairs: bool,
        run: &mut impl FnMut(Sides, Among, &mut Env) -> Result<Exit, CliError>,
    ) -> bool {
        for _ in 0..PASSES_MAX {
            let (mut refused, mut wrote) = (Vec::new(), 0);
            for todo in todo {
                (env.measured, env.failed) = (None, None);
                env.table = Some(output::OfTable::new(todo.name.clone()));
                let exit = run(todo.sides.clone(), todo.among.clone(), env).unwrap_or_else(|error| {
                    env.failed = Some((error.id, error.message.clone()));
                    output::print_table_error(env, &error)
                });
                match env.failed.take() {
                    Some(failed) => drop(self.failed.insert(todo.name.clone(), failed)),
                    None => drop(self.failed.remove(&todo.name)),
                }
                self.items.extend(env.table.take().map(|of| of.items).unwrap_or_default());
                self.exits.insert(todo.name.clone(), exit);
                if let Some(of_it) = env.measured.take() {
                    wrote += of_it.written.iter().sum::<u64>();
                    let refuses = repairs && of_it.refused > 0;
                    let all = match self.measured.remove(&todo.name) {
                        Some(before) => before.then(of_it),
                        None => of_it,
                    };
                    self.measured.insert(todo.name.clone(), all);
                    refused.extend(refuses.then_some(todo));
                }
                if matches!(exit, Exit::Interrupted | Exit::Terminated) {
                    return false;
                }
            }
            if refused.is_empty() || wrote == 0 {
                break;
            }
            todo = refused;
        }
        true
    }

    /// Whether rows of a table are to go yet, and nothing speaks against that.
    fn deletes_wait(&self, name: &str) -> bool {
        let judged = matches!(self.exits.get(name), Some(Exit::Done | Exit::Differs));
        judged && self.measured.get(name).is_some_and(|measured| measured.later > 0)
    }
}

fn end(env: &mut Env, through: Through, alone: &[Vec<String>; 2], script: Option<SharedSql>) -> Result<Exit, CliError> {
    let Through { exits, measured, failed, items } = through;
    let measured = measured.into_values().reduce(Measured::and);
    let ended = |exit: Exit| exits.values().filter(|of| **of == exit).count() as u64;
    let kinds = [
        ("in_sync", ended(Exit::Done), "in sync"),
        ("differ", ended(Exit::Differs), "with differences"),
        ("undetermined", ended(Exit::Undetermined), "undetermined"),
        ("refused", ended(Exit::Refused), "refused"),
        ("failed", ended(Exit::CannotJudge), "not to be judged"),
    ];
    let told: Vec<String> =
        kinds.iter().filter(|(_, n, _)| *n > 0).map(|(_, n, words)| format!("{} {words}", show_count(*n))).collect();
    let s = if exits.len() == 1 { "" } else { "s" };
    let mut text = format!("{} table{s}: {}", show_count(exits.len() as u64), told.join(", "));
    for (side, names) in ["a", "b"].iter().zip(alone) {
        if !names.is_empty() {
            text += &format!("\nonly in {side}: {}; --map or --ignore-table", names.join(", "));
        }
    }
    let missing = if alone.iter().all(Vec::is_empty) { Exit::Done } else { Exit::CannotJudge };
    let exit = exits.values().fold(missing, |worst, exit| worst.or(*exit));
    let mut counts = fields(json!({}));
    kinds.iter().for_each(|(name, n, _)| drop(counts.insert((*name).into(), json!(n))));
    counts.insert("only_a".into(), json!(alone[0]));
    counts.insert("only_b".into(), json!(alone[1]));
    let wrote = measured.as_ref().map_or(0, |measured| measured.written.iter().sum());
    if wrote > 0 {
        text += &format!("\nwrote {} records in all", show_count(wrote));
    }
    let script = script.and_then(|file| file.lock().unwrap_or_else(PoisonError::into_inner).take());
    let mut sql = None;
    if let Some(file) = script {
        let (whole, scripted) =
            (exits.values().all(|of| matches!(of, Exit::Done | Exit::Differs)), file.scripted().clone());
        // Rows of one table may refer to rows of another.
        let path = if whole { file.finish()? } else { None };
        text += &match (&path, whole) {
            (Some(path), _) => format!(
                "\n{} statement{} in all written to {}",
                show_count(scripted.statements()),
                plural(scripted.statements()),
                path.strip_prefix(&env.dir).unwrap_or(path).display()
            ),
            (None, true) => "\nno statements: no file was written".into(),
            (None, false) => {
                "\nno file was written, since not all tables could be put in it; --ignore-table leaves one out".into()
            }
        };
        sql = Some(sql_file::object(&scripted, path.as_deref()));
    }
    let verdict = match exit {
        Exit::Done => Verdict::InSync,
        Exit::Differs => Verdict::Differs,
        Exit::Refused => Verdict::Refused,
        // Of some it is not known.
        Exit::CannotJudge | Exit::Interrupted | Exit::Terminated => Verdict::Partial,
        Exit::Undetermined => Verdict::Undetermined,
    };
    let scope: Vec<&String> = exits.keys().collect();
    // That some are equal says nothing of the databases.
    env.measured = measured.map(|measured| match exit {
        Exit::Done | Exit::Differs | Exit::Undetermined => measured,
        Exit::Refused => Measured { verdict, ..measured },
        Exit::CannotJudge | Exit::Interrupted | Exit::Terminated => {
            let known = measured.verdict == Verdict::Partial || ended(Exit::Done) + ended(Exit::Differs) > 0;
            Measured { verdict: if known { Verdict::Partial } else { Verdict::Undetermined }, ..measured }
        }
    });
    env.failed = why(&failed, alone);
    let mut summary = fields(json!({ "verdict": verdict.name(), "scope": scope, "tables": counts, "wrote": wrote }));
    summary.extend(sql.map(|sql| ("sql".into(), sql)));
    Printer::with(env, items).end(exit, &text, summary)
}

/// Why of two databases nothing, or not all, can be said: the first table that could not be judged, and those that have no other.
fn why(failed: &BTreeMap<String, (&'static str, String)>, alone: &[Vec<String>; 2]) -> Option<(&'static str, String)> {
    let mut told = Vec::new();
    if let Some((name, (_, message))) = failed.first_key_value() {
        told.push(format!("{name}: {message}"));
        let more = failed.len() - 1;
        told.extend((more > 0).then(|| {
            format!("{} other table{} could not be judged either", show_count(more as u64), plural(more as u64))
        }));
    }
    let sides = ["a", "b"].iter().zip(alone).filter(|(_, names)| !names.is_empty());
    told.extend(sides.map(|(side, names)| format!("only in {side}: {}; --map or --ignore-table", names.join(", "))));
    let id = failed.first_key_value().map_or("database.alone", |(_, (id, _))| id);
    (!told.is_empty()).then(|| (id, told.join("; ")))
}

/// The two databases with their tables, if that is what was typed.
fn databases(env: &Env, sides: &Sides) -> Result<Option<Both>, CliError> {
    let (Some(a), Some(b)) = (database(env, &sides.a), database(env, &sides.b)) else {
        let one = [&sides.a, &sides.b].into_iter().find(|typed| database(env, typed).is_some_and(|of| of.whole));
        return one.map_or(Ok(None), |one| {
            let message = format!(
                "{} is a whole database, and the other side is none; name one of its tables: {}/TABLE",
                tables::shown(one),
                tables::shown(one).trim_end_matches("/*")
            );
            Err(CliError::new("usage.databases", message))
        });
    };
    let listed = [tables_of(env, &a)?, tables_of(env, &b)?];
    let several = listed.iter().any(|tables| tables.len() != 1);
    let meant = a.whole || b.whole || several || !sides.map.is_empty() || !sides.ignore_tables.is_empty();
    Ok(meant.then_some(([a, b], listed)))
}

/// The database that a side names without a table.
fn database(env: &Env, typed: &str) -> Option<Database> {
    let star = |table: &str| table.is_empty() || table == "*" || table.ends_with(".*");
    if tables::is_postgres(typed) {
        let (bare, options) = typed.split_once('?').map_or((typed, None), |(bare, options)| (bare, Some(options)));
        let (scheme, rest) = bare.split_once("://")?;
        let mut parts = rest.splitn(3, '/');
        let (host, name) = (parts.next()?, parts.next().filter(|name| !name.is_empty())?);
        let pattern = parts.next().unwrap_or("*");
        let options = options.map(|options| format!("?{options}")).unwrap_or_default();
        return star(pattern).then(|| Database {
            address: format!("{scheme}://{host}/{name}{options}"),
            pattern: if pattern.is_empty() { "*".into() } else { pattern.into() },
            whole: true,
        });
    }
    let (scheme, file) = tables::file_of(typed).filter(|(scheme, _)| *scheme == tables::SQLITE)?;
    let (file, whole) = file.strip_suffix("/*").map_or((file, false), |file| (file, true));
    let there = env.path(Path::new(file)).is_file();
    (there || whole).then(|| Database { address: format!("{scheme}{file}"), pattern: "*".into(), whole })
}

fn tables_of(env: &Env, database: &Database) -> Result<Vec<Named>, CliError> {
    if tables::is_postgres(&database.address) {
        let address = tables::with_table(&database.address, &database.pattern);
        return Ok(Postgres::tables(&crate::cli::login::address(env, &address)?)?);
    }
    let file = database.address.strip_prefix(tables::SQLITE).unwrap_or(&database.address);
    let names = Sqlite::tables(&env.path(Path::new(file)))?;
    Ok(names.into_iter().map(|name| (name.clone(), name)).collect())
}

/// Which tables go together, and which are on one side alone.
fn paired(
    [of_a, of_b]: [Vec<Named>; 2],
    map: &[String],
    ignore: &[String],
) -> Result<(Vec<Pair>, [Vec<String>; 2]), CliError> {
    let wrong = |message: String| CliError::new("usage.databases", message);
    let all = || of_a.iter().chain(&of_b);
    if let Some(name) = ignore.iter().find(|name| all().all(|(table, _)| table != *name)) {
        return Err(wrong(format!("--ignore-table {name}: neither database has such a table; nothing was compared")));
    }
    let (mut pairs, mut taken) = (Vec::new(), [BTreeSet::new(), BTreeSet::new()]);
    for typed in map {
        let parts = typed.split_once('=').and_then(|(a, b)| Some((a.strip_prefix("a.")?, b.strip_prefix("b.")?)));
        let (a, b) = parts.ok_or_else(|| {
            wrong(format!("--map takes a.TABLE=b.TABLE, as in --map a.orders=b.orders_old, not {typed}"))
        })?;
        let found = |side: &str, tables: &[Named], name: &str| {
            let found = tables.iter().find(|(table, address)| table == name || address == name).cloned();
            found.ok_or_else(|| wrong(format!("--map {typed}: {side} has no table {name}; nothing was compared")))
        };
        let (a, b) = (found("a", &of_a, a)?, found("b", &of_b, b)?);
        if !taken[0].insert(a.0.clone()) | !taken[1].insert(b.0.clone()) {
            return Err(wrong(format!("--map {typed}: one of the two is said to be another table too")));
        }
        pairs.push(Pair { name: a.0, tables: [a.1, b.1] });
    }
    let free = |side: usize, name: &String| !taken[side].contains(name) && !ignore.contains(name);
    let (mut alone, mut met) = ([Vec::new(), Vec::new()], BTreeSet::new());
    for (name, address) in of_a.iter().filter(|(name, _)| free(0, name)) {
        let here = || of_b.iter().filter(|(name, _)| free(1, name) && !met.contains(name));
        // Engines differ in what they make of case.
        let other = here()
            .find(|(other, _)| other == name)
            .or_else(|| here().find(|(other, _)| other.eq_ignore_ascii_case(name)));
        match other {
            Some((other, at)) => {
                pairs.push(Pair { name: name.clone(), tables: [address.clone(), at.clone()] });
                met.insert(other.clone());
            }
            None => alone[0].push(name.clone()),
        }
    }
    alone[1].extend(of_b.iter().map(|(name, _)| name).filter(|name| free(1, name) && !met.contains(*name)).cloned());
    pairs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((pairs, alone))
}

/// Leaves to each pair of tables what is said of columns that it has; what no pair has is an error.
fn fit_terms(env: &Env, sides: &Sides, todo: &mut [Todo]) -> Result<(), CliError> {
    if sides.terms == TermFlags::default() {
        return Ok(());
    }
    // What is wrong with what was typed is told once.
    sides.terms.terms()?;
    let mut used = BTreeSet::new();
    for Todo { sides, .. } in todo {
        // What cannot be opened is told by its command.
        let (Ok(a), Ok(b)) = (tables::table(env, &sides.a), tables::table(env, &sides.b)) else { continue };
        sides.terms = fitting(&sides.terms, a.columns(), b.columns());
        used.extend(of_columns(&sides.terms).into_iter().flat_map(|(_, typed)| typed.iter().cloned()));
    }
    let all =
        of_columns(&sides.terms).into_iter().flat_map(|(flag, typed)| typed.iter().map(move |typed| (flag, typed)));
    match all.into_iter().find(|(_, typed)| !used.contains(*typed)) {
        Some((flag, typed)) => {
            let message = format!("{flag} {typed}: no table has that column; nothing was compared");
            Err(CliError::new("usage.terms", message))
        }
        None => Ok(()),
    }
}

/// What is said of single columns, by flag.
fn of_columns(terms: &TermFlags) -> [(&'static str, &Vec<String>); 8] {
    [
        ("--ignore", &terms.ignore),
        ("--rename", &terms.rename),
        ("--float-digits", &terms.float_digits),
        ("--time-precision", &terms.time_precision),
        ("--collate", &terms.collate),
        ("--json", &terms.json),
        ("--tolerance", &terms.tolerance),
        ("--zone", &terms.zone),
    ]
}

/// What of the terms is about columns of two tables.
fn fitting(terms: &TermFlags, a: &Columns, b: &Columns) -> TermFlags {
    let mut fits = terms.clone();
    let own = |name: &str| a.column(name).is_some() || b.column(name).is_some();
    fits.rename.retain(|typed| own(typed.split('=').next().unwrap_or_default()));
    let renamed: Vec<String> = fits.rename.iter().filter_map(|typed| Some(typed.split_once('=')?.1.into())).collect();
    let known = |name: &str| own(name) || renamed.iter().any(|renamed| renamed == name);
    fits.ignore.retain(|name| known(name));
    for list in [
        &mut fits.float_digits,
        &mut fits.time_precision,
        &mut fits.collate,
        &mut fits.json,
        &mut fits.tolerance,
        &mut fits.zone,
    ] {
        let of = |typed: &String| typed.rsplit_once('=').map(|(of, _)| of.to_string());
        // Of a zone it is a side, and maybe a column.
        let of = |typed: &String| of(typed).map(|of| of.trim_start_matches("a.").trim_start_matches("b.").to_string());
        list.retain(|typed| of(typed).is_none_or(|of| known(&of) || of == "a" || of == "b"));
    }
    // A zone is for tables that have something of which it tells more.
    while let Ok(typed) = fits.terms() {
        let Err(ShapeError::Zone { zone }) = typed.shapes(("a", a), ("b", b)) else { break };
        let Some(nth) = typed.zones.iter().position(|zoned| zoned.to_string() == zone) else { break };
        fits.zone.remove(nth);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<Named> {
        names.iter().map(|name| ((*name).to_string(), format!("s.{name}"))).collect()
    }

    fn list(typed: &[&str]) -> Vec<String> {
        typed.iter().map(|typed| (*typed).to_string()).collect()
    }

    #[test]
    fn tables_go_together_by_name_or_as_is_said() {
        let tables = || [named(&["Users", "orders", "old", "z"]), named(&["orders", "users", "new", "y"])];
        let (pairs, alone) = paired(tables(), &list(&["a.old=b.new"]), &list(&["z"])).expect("pairs");
        let told: Vec<(&str, &str, &str)> =
            pairs.iter().map(|pair| (&*pair.name, &*pair.tables[0], &*pair.tables[1])).collect();
        assert_eq!(
            told,
            [("Users", "s.Users", "s.users"), ("old", "s.old", "s.new"), ("orders", "s.orders", "s.orders")]
        );
        assert_eq!(alone, [list(&[]), list(&["y"])]);
        for (map, ignore, words) in [
            (&["old=new"][..], &[][..], "takes a.TABLE=b.TABLE"),
            (&["a.none=b.new"], &[], "a has no table none"),
            (&["a.old=b.none"], &[], "b has no table none"),
            (&["a.old=b.new", "a.z=b.new"], &[], "another table too"),
            (&[], &["none"], "neither database has such a table"),
        ] {
            let error = paired(tables(), &list(map), &list(ignore)).expect_err("an error");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
