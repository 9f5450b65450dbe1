//! The file of `repair --sql`: the statements of one table, or of several, those that others refer to first, and what goes last.
//!
//! How databases spell statements is told by the adapters; which rows are written is the command's concern.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::CliError;
use super::new_file::NewFile;
use crate::store::linked::{Compared, Linked, Scripted};

/// A file that the tables of one command are put in; taken out of here once all are.
pub(crate) type SharedSql = Arc<Mutex<Option<SqlFile>>>;

/// A file that is being written; nothing is left of it unless it is finished.
#[derive(Debug)]
pub(crate) struct SqlFile {
    file: NewFile,
    path: PathBuf,
    /// What takes rows away, of each table that has been put in.
    going: Vec<Vec<String>>,
    /// All that was put in.
    all: Scripted,
}

impl SqlFile {
    /// Begins a file at a path where nothing is yet; `tell` hears of what a killed command had begun there.
    pub(crate) fn create(path: &Path, tell: &mut dyn Write) -> Result<SqlFile, CliError> {
        let file = NewFile::create(path, tell).map_err(|error| unusable(path, &error))?;
        Ok(SqlFile { file, path: path.into(), going: Vec::new(), all: Scripted::default() })
    }

    /// Puts in what makes a table hold of these keys what another does, each line of `head` before it; what goes after all that
    /// is put in, if it is to go `later`: a row must not go before those that refer to it.
    pub(crate) fn put(
        &mut self,
        (from, to): (&Linked, &Linked),
        keys: Vec<Compared>,
        (head, later): (&[String], bool),
    ) -> Result<Scripted, CliError> {
        let (wanted, moved) = from.wanted(keys)?;
        head.iter().try_for_each(|line| self.line(&comment(line)))?;
        let (now, going): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|wanted| !later || wanted.row.is_some());
        let mut scripted = to.script(&now, &mut |line: &str| self.line(line))?;
        let mut lines = vec![comment(&format!("What goes of {}", to.table().place()))];
        let gone = to.script(&going, &mut |line: &str| {
            lines.push(line.into());
            Ok::<_, CliError>(())
        })?;
        if gone.statements() > 0 {
            self.going.push(lines);
        }
        scripted.add(gone);
        scripted.left.extend(moved.into_iter().map(|key| (key, "it has changed since it was compared".into())));
        self.all.add(scripted.clone());
        Ok(scripted)
    }

    /// What was put in so far.
    pub(crate) fn scripted(&self) -> &Scripted {
        &self.all
    }

    /// Puts it in its place, if there are statements; says whether there are.
    pub(crate) fn finish(mut self) -> Result<Option<PathBuf>, CliError> {
        for lines in std::mem::take(&mut self.going).into_iter().rev() {
            lines.iter().try_for_each(|line| self.line(line))?;
        }
        if self.all.statements() == 0 {
            return Ok(None);
        }
        let SqlFile { file, path, .. } = self;
        file.finish().map_err(|error| unusable(&path, &error))?;
        Ok(Some(path))
    }

    fn line(&mut self, line: &str) -> Result<(), CliError> {
        writeln!(self.file, "{line}").map_err(|error| unusable(&self.path, &error))
    }
}

/// What is told of statements, and of the file that they are in, if there is one.
pub(crate) fn object(scripted: &Scripted, file: Option<&Path>) -> Value {
    json!({
        "file": file.map(|file| file.display().to_string()),
        "inserts": scripted.inserts, "updates": scripted.updates, "deletes": scripted.deletes,
        "transactions": scripted.batches, "left": scripted.left.len(),
    })
}

/// A line that nothing runs, whatever tables are called.
fn comment(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("-- {text}")
}

fn unusable(path: &Path, error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already, and was not touched; name another file", path.display());
            CliError::new("sql.exists", message)
        }
        _ => CliError::new("sql.file", format!("{} cannot be written: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_table_ends_a_comment() {
        assert_eq!(comment("What goes of t\n\\! id\r\n;"), "-- What goes of t \\! id  ;");
    }
}
