//! The journals that a command means: that of a store, or those of a table, of which each index has one.

use std::path::Path;

use reknit_core::journal::RunId;

use super::sides::tables;
use crate::cli::env::Env;
use crate::cli::layouts::Layouts;
use crate::cli::{CliError, Exit};
use crate::store::linked::Linked;
use crate::store::{Skipped, Store, StoreError, Undo, Undone};

/// A store that has a journal, and how its keys are shown.
pub(crate) struct Kept {
    pub(crate) store: Store,
    pub(crate) layouts: Layouts,
    /// The table, if the store is its index.
    table: Option<Linked>,
}

impl Kept {
    /// Undoes a run, where what it changed is.
    pub(crate) fn undo(
        &self,
        run: RunId,
        how: Undo,
        skipped: &mut dyn FnMut(Skipped),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Undone, CliError> {
        match &self.table {
            None => Ok(self.store.undo(run, how, skipped, progress)?),
            Some(table) if how == Undo::Here => Ok(table.undo(run, skipped, progress)?),
            Some(_) => {
                let message = "rows of tables have no versions that could win elsewhere: undo it without --everywhere";
                Err(CliError::refused("database.everywhere", message))
            }
        }
    }
}

/// All journals of a side.
pub(crate) fn open(env: &Env, typed: &Path) -> Result<Vec<Kept>, CliError> {
    let Some(address) = typed.to_str().filter(|typed| tables::is_table(typed)) else {
        let store = env.store(typed)?;
        return Ok(vec![Kept { layouts: Layouts::of_store(&store)?, store, table: None }]);
    };
    let kept = |table: Linked| Kept {
        store: table.index().clone(),
        layouts: Layouts::one(tables::layout(table.shape())),
        table: Some(table),
    };
    Ok(tables::indexes(env, address)?.into_iter().map(kept).collect())
}

/// The journal that has a run.
pub(crate) fn of_run(env: &Env, typed: &Path, run: RunId) -> Result<Kept, CliError> {
    let mut all = open(env, typed)?;
    if all.len() > 1 {
        all.retain(|kept| kept.store.run(run).is_ok());
    }
    if all.len() > 1 {
        let columns = |kept: &Kept| kept.table.as_ref().map_or(0, |table| table.shape().columns().len());
        let shapes: Vec<String> = all.iter().map(|kept| format!("of {} columns", columns(kept))).collect();
        let message = format!(
            "{} was compared with tables of several shapes, and there is a run {run} under each: {}",
            tables::shown(&typed.display().to_string()),
            shapes.join(", ")
        );
        return Err(CliError { exit: Exit::Refused, ..CliError::new("database.run", message) });
    }
    all.pop().ok_or_else(|| StoreError::NoRun { run: run.0 }.into())
}
