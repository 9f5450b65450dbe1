//! `reknit import STORE FILE`: loads a file of records, all of it or, if something is wrong with it, nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::cli::args::Import;
use crate::cli::env::Env;
use crate::cli::layouts::fitted;
use crate::cli::output::{Printer, fields};
use crate::cli::progress::Progress;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::format::{self, Format, FormatError, Layout, Reader};
use crate::store::{Collection, ImportError, StoreError};

pub(crate) fn run(args: &Import, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let (into, _) = env.collection(&store, &args.of)?;
    let began = Instant::now();
    let known = known_layout(&into)?;
    let source = Source::of(args, known.as_ref())?;
    let mut reader = source.reader(source.input(env)?)?;
    let kept = into.layout()?;
    // Rows that came by a repair before the first import here have a layout that nobody told.
    let told = match (&kept, &known) {
        (None, Some(_)) => fitted(&into, &reader.layout())?,
        _ => None,
    };
    let known = told.or(known);
    // What does not go together is told before a long file is read.
    joined(known.as_ref(), &reader.layout())?;
    let mut saved = None;
    let imported = {
        let mut progress = Progress::new(env, "reading records");
        let mut ended = false;
        // The layout is saved once every line was read and understood and before the first record is written. A kill
        // in between leaves a layout that speaks of records to come, which the same import brings. The other order
        // would leave rows in a store that takes itself for one of raw records, and lets raw records in.
        let rows = std::iter::from_fn(|| match reader.next() {
            _ if ended => None,
            Some(row) => Some(row.map_err(CliError::from)),
            None => {
                ended = true;
                save_layout(&into, (known.as_ref(), kept.as_ref()), &reader.layout(), &mut saved).err().map(Err)
            }
        });
        into.import(rows, &mut |so_far| {
            if so_far.written > 0 {
                progress.turn_to("writing records");
                progress.at(so_far.written, Some(so_far.read));
            } else {
                progress.at(so_far.read, None);
            }
        })
    };
    let imported = match imported {
        Ok(imported) => imported,
        Err(ImportError::Source(error)) => return Err(error),
        Err(ImportError::Store(StoreError::Duplicate { key, first, second })) => {
            // Nothing was imported, so nothing of the file stays; unless another import has gone on from its layout.
            if saved.is_some() && into.layout()? == saved {
                into.set_layout(kept)?;
            }
            return Err(source.duplicate(env, &key, first, second));
        }
        Err(ImportError::Store(error)) => return Err(error.into()),
    };
    let seconds = began.elapsed().as_secs_f64();
    let rate = (imported.records as f64 / seconds.max(0.001)) as u64;
    let unchanged = imported.records - imported.changed;
    let text = format!(
        "read {} records, wrote {}, {} were there already: {seconds:.1} s, {} records/s",
        show_count(imported.records),
        show_count(imported.changed),
        show_count(unchanged),
        show_count(rate)
    );
    let summary = json!({
        "read": imported.records,
        "wrote": imported.changed,
        "unchanged": unchanged,
        "records": into.counts().0,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "records_per_second": rate,
    });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

/// The collection's layout; none if it is free to take the file's.
fn known_layout(into: &Collection) -> Result<Option<Layout>, CliError> {
    if let Some(bytes) = into.layout()? {
        return Ok(Some(Layout::from_bytes(&bytes)?));
    }
    Ok((into.counts() != (0, 0)).then(Layout::raw))
}

fn joined(known: Option<&Layout>, file: &Layout) -> Result<Layout, CliError> {
    Ok(known.map_or_else(|| Ok(file.clone()), |known| known.joined(file))?)
}

fn save_layout(
    into: &Collection,
    (known, kept): (Option<&Layout>, Option<&Vec<u8>>),
    file: &Layout,
    saved: &mut Option<Vec<u8>>,
) -> Result<(), CliError> {
    let layout = joined(known, file)?;
    let bytes = layout.to_bytes();
    if kept != Some(&bytes) && layout != Layout::raw() {
        into.set_layout(Some(bytes.clone()))?;
        *saved = Some(bytes);
    }
    Ok(())
}

/// Where the records come from.
struct Source<'a> {
    file: &'a Path,
    name: String,
    format: Format,
    key: Vec<String>,
}

impl<'a> Source<'a> {
    fn of(args: &'a Import, known: Option<&Layout>) -> Result<Source<'a>, CliError> {
        let stdin = args.file == Path::new("-");
        let name = if stdin { "stdin".to_string() } else { args.file.display().to_string() };
        let of_store = || stdin.then(|| known.map(Layout::format)).flatten();
        let format = args.file_format.map(Format::from).or_else(|| Format::of_path(&args.file)).or_else(of_store);
        let format = format.ok_or_else(|| {
            let message = format!("what is {name}? Say --format csv, jsonl or kv; nothing was imported");
            CliError::new("usage.format", message)
        })?;
        let key = match known {
            Some(known) if args.key.is_empty() && format != Format::Kv => known.key_columns().to_vec(),
            _ => args.key.clone(),
        };
        Ok(Source { file: &args.file, name, format, key })
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    fn input(&self, env: &mut Env) -> Result<Box<dyn BufRead + Send>, CliError> {
        if self.is_stdin() {
            let stdin = std::mem::replace(&mut env.input, Box::new(std::io::empty()));
            return Ok(Box::new(BufReader::with_capacity(256 << 10, stdin)));
        }
        Ok(format::open(&env.path(self.file)).map_err(|error| FormatError { file: self.name.clone(), ..error })?)
    }

    fn reader(&self, input: Box<dyn BufRead + Send>) -> Result<Reader, CliError> {
        Ok(Reader::new(self.name.clone(), input, self.format, &self.key)?)
    }

    /// Names the two lines, which a second reading finds; the store only counted records.
    fn duplicate(&self, env: &mut Env, key: &str, first: u64, second: u64) -> CliError {
        let found = if self.is_stdin() { None } else { self.lines(env, first, second) };
        let (what, first, second, key) = match found {
            Some((first, second, key)) => ("lines", first, second, key),
            None => ("records", first, second, key.to_string()),
        };
        let name = &self.name;
        let message =
            format!("{name}: {what} {first} and {second} have the same key {key}; nothing was imported; remove one");
        CliError::new("import.duplicate-key", message)
    }

    fn lines(&self, env: &mut Env, first: u64, second: u64) -> Option<(u64, u64, String)> {
        let mut reader = self.reader(self.input(env).ok()?).ok()?;
        let (mut nth, mut line) = (0, None);
        while let Some(row) = reader.next() {
            let (key, _) = row.ok()?;
            nth += 1;
            if nth == first {
                line = Some(reader.line());
            } else if nth == second {
                return Some((line?, reader.line(), reader.layout().show_key(&key)));
            }
        }
        None
    }
}
