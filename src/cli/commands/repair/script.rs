//! `reknit repair A B --to SIDE --sql FILE`: what a repair of tables would write, as statements for somebody else to run.
//!
//! How databases spell them is told by the adapters; what a repair would do is seen by the preview.

use std::io::Write;
use std::path::Path;

use reknit_core::Profile;
use reknit_core::difference::{Difference, Resolution, Side};
use reknit_core::record::Keeps;
use reknit_core::session::Verdict;
use serde_json::{Map, Value, json};

use super::exactly;
use crate::cli::CliError;
use crate::cli::args::{Repair, To};
use crate::cli::commands::sides::brakes::{self, Foreseen, TooMuch};
use crate::cli::commands::sides::{self, Ran};
use crate::cli::env::Env;
use crate::cli::new_file::NewFile;
use crate::cli::units::show_count;
use crate::store::linked::{Compared, Linked, Scripted};

/// Rows that one file may write: they are put in order in memory.
const ROWS_MAX: usize = 1_000_000;
/// Rows that are in no statement and are named.
const NAMED_MAX: usize = 16;

/// The differences that a repair would resolve.
#[derive(Default)]
pub(super) struct Collected {
    keys: Vec<Compared>,
    foreseen: Foreseen,
    /// Whether there are more than a file takes.
    too_many: bool,
}

impl Collected {
    pub(super) fn add(&mut self, args: &Repair, difference: &Difference) {
        let side = written(args);
        let how = Resolution {
            mine: side == Side::Mine,
            theirs: side == Side::Theirs,
            mirror: exactly(args).then_some(side),
            prefer: None,
            profile: Profile::Content,
            keeps: Keeps::Newest,
        };
        if !difference.stable || difference.writes(&how) == (false, false) {
            return;
        }
        if self.keys.len() == ROWS_MAX {
            self.too_many = true;
            return;
        }
        let nth = usize::from(side == Side::Theirs);
        self.foreseen.add(nth, (difference.collection, &difference.key), difference.loss(side, &how));
        let [mine, theirs] = difference.entries;
        let (here, there) = if side == Side::Mine { (theirs, mine) } else { (mine, theirs) };
        self.keys.push(Compared { key: difference.key.clone(), here, there });
    }

    /// What the written side would lose, if that is more than it may.
    pub(super) fn too_much(&self, args: &Repair, ran: &Ran) -> Result<Option<TooMuch>, CliError> {
        Ok(self.foreseen.too_much(&brakes::typed(&args.brakes)?, exactly(args), ran))
    }

    /// Writes the file, and says what is in it.
    pub(super) fn write(
        self,
        args: &Repair,
        env: &mut Env,
        ran: &Ran,
        (text, summary): (&mut String, &mut Map<String, Value>),
    ) -> Result<(), CliError> {
        let (Some(file), Some(pair)) = (&args.sql, &ran.tables) else { return Ok(()) };
        if self.too_many {
            let message = format!(
                "over {} rows are more than a file takes; repair in parts by --where",
                show_count(ROWS_MAX as u64)
            );
            return Err(CliError::refused("repair.sql", message));
        }
        let [a, b] = &**pair;
        let (from, to) = if written(args) == Side::Mine { (b, a) } else { (a, b) };
        let mut scripted = Scripted::default();
        // What is not known for sure is no file, nor is nothing.
        if ran.report.outcome.verdict == Verdict::Differs && !self.keys.is_empty() {
            scripted = put(&env.path(file), (from, to), self.keys, (args, &mut env.err))?;
        }
        let side = if written(args) == Side::Mine { "a" } else { "b" };
        match scripted.statements() {
            0 => text.push_str(&format!("\nno statements for {side}: {} was not written", file.display())),
            n => text.push_str(&format!(
                "\n{} statement{} for {side} in {} transaction{} written to {}: {} rows inserted, {} changed, {} deleted",
                show_count(n),
                sides::plural(n),
                show_count(scripted.batches),
                sides::plural(scripted.batches),
                file.display(),
                show_count(scripted.inserts),
                show_count(scripted.updates),
                show_count(scripted.deletes)
            )),
        }
        for (key, reason) in scripted.left.iter().take(NAMED_MAX) {
            text.push_str(&format!("\nin no statement: {}: {reason}", ran.layouts.first().show_key(key)));
        }
        let path = (scripted.statements() > 0).then(|| env.path(file).display().to_string());
        summary.insert(
            "sql".into(),
            json!({
                "file": path, "inserts": scripted.inserts, "updates": scripted.updates, "deletes": scripted.deletes,
                "transactions": scripted.batches, "left": scripted.left.len(),
            }),
        );
        Ok(())
    }
}

/// The side that is written, seen from the opener, which is `a`.
fn written(args: &Repair) -> Side {
    sides::seen(args.to(), false)
}

fn put(
    path: &Path,
    (from, to): (&Linked, &Linked),
    keys: Vec<Compared>,
    (args, tell): (&Repair, &mut dyn Write),
) -> Result<Scripted, CliError> {
    let unusable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            CliError::new("sql.exists", format!("{} is there already", path.display()))
        }
        _ => CliError::new("sql.file", format!("{} cannot be written: {error}", path.display())),
    };
    let mut file = NewFile::create(path, tell).map_err(unusable)?;
    let (wanted, moved) = from.wanted(keys)?;
    let delete = if exactly(args) { " --delete" } else { "" };
    let head = [
        format!("By these statements {} takes what {} has", to.table().place(), from.table().place()),
        format!("(reknit repair --to {}{delete}). A row is written only if it is still what was", side_of(args)),
        "compared, and if none has come meanwhile. Then: reknit check".into(),
    ];
    for line in head {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(file, "-- {line}").map_err(unusable)?;
    }
    let mut scripted = to.script(&wanted, &mut |line: &str| writeln!(file, "{line}").map_err(unusable))?;
    scripted.left.extend(moved.into_iter().map(|key| (key, "it has changed since it was compared".into())));
    if scripted.statements() > 0 {
        file.finish().map_err(unusable)?;
    }
    Ok(scripted)
}

fn side_of(args: &Repair) -> &'static str {
    if args.to() == To::A { "a" } else { "b" }
}
