//! `reknit repair A B --to SIDE --sql FILE`: what a repair of tables would write, as statements for somebody else to run.
//!
//! What a repair would do is seen by the preview; how they become a file is said in `sql_file`.

use std::sync::PoisonError;

use reknit_core::Profile;
use reknit_core::difference::{Difference, Resolution, Side};
use reknit_core::record::Keeps;
use reknit_core::session::Verdict;
use serde_json::{Map, Value};

use super::exactly;
use crate::cli::CliError;
use crate::cli::args::{Repair, To};
use crate::cli::commands::sides::brakes::{self, Foreseen, TooMuch};
use crate::cli::commands::sides::{self, Ran};
use crate::cli::env::Env;
use crate::cli::sql_file::{self, SqlFile};
use crate::cli::units::show_count;
use crate::store::linked::{Compared, Linked, Scripted};

/// Rows of a table that a file may write: they are put in order in memory.
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
        let (mut scripted, mut path) = (Scripted::default(), None);
        // What is not known for sure is no file, nor is nothing.
        if ran.report.outcome.verdict == Verdict::Differs && !self.keys.is_empty() {
            let later = args.among.deletes_later;
            let shared = args.among.script.as_ref().map(|all| all.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(mut all) = shared {
                let all = all.as_mut().ok_or_else(|| CliError::new("defect", "the file of statements is gone"))?;
                scripted = all.put((from, to), self.keys, (&head(args, from, to), later))?;
            } else {
                let mut one = SqlFile::create(&env.path(file), &mut env.err)?;
                scripted = one.put((from, to), self.keys, (&head(args, from, to), later))?;
                path = one.finish()?;
            }
        }
        let side = side_of(args);
        let whole = match &args.among.script {
            None => format!(" written to {}", file.display()),
            Some(_) => String::new(),
        };
        match scripted.statements() {
            0 if args.among.script.is_some() => text.push_str(&format!("\nno statements for {side}")),
            0 => text.push_str(&format!("\nno statements for {side}: {} was not written", file.display())),
            n => text.push_str(&format!(
                "\n{} statement{} for {side} in {} transaction{}{whole}: {} rows inserted, {} changed, {} deleted",
                show_count(n),
                sides::plural(n),
                show_count(scripted.batches),
                sides::plural(scripted.batches),
                show_count(scripted.inserts),
                show_count(scripted.updates),
                show_count(scripted.deletes)
            )),
        }
        for (key, reason) in scripted.left.iter().take(NAMED_MAX) {
            text.push_str(&format!("\nin no statement: {}: {reason}", ran.layouts.first().show_key(key)));
        }
        summary.insert("sql".into(), sql_file::object(&scripted, path.as_deref()));
        Ok(())
    }
}

/// The side that is written, seen from the opener, which is `a`.
fn written(args: &Repair) -> Side {
    sides::seen(args.to(), false)
}

/// What is said before the statements of a table.
fn head(args: &Repair, from: &Linked, to: &Linked) -> [String; 3] {
    let delete = if exactly(args) { " --delete" } else { "" };
    [
        format!("By these statements {} takes what {} has", to.table().place(), from.table().place()),
        format!("(reknit repair --to {}{delete}). A row is written only if it is still what was", side_of(args)),
        "compared, and if none has come meanwhile. Then: reknit check".into(),
    ]
}

fn side_of(args: &Repair) -> &'static str {
    if args.to() == To::A { "a" } else { "b" }
}
