//! `reknit export STORE`: writes the records of a store in key order.
//!
//! To stdout the records are all there is, whatever `--format` and `--quiet` say; the report goes to stderr.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::args::Export;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::progress::Progress;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::format::{Format, Layout, WriteError, Writer};
use crate::store::Scan;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

pub(crate) fn run(args: &Export, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let (from, layout) = env.collection(&store, &args.of)?;
    let named = args.output.as_deref().and_then(Format::of_path);
    let format = args.file_format.map(Format::from).or(named).unwrap_or(layout.format());
    let export = Work { total: from.counts().0, rows: from.scan(b"")?, format, layout };
    let Some(typed) = &args.output else {
        return to_stdout(export, env);
    };
    let target = Target::of(&env.path(typed))?;
    let written = match target.file() {
        Ok(file) => to_file(export, file, target.packed, env),
        Err(error) => Err(failed(typed, &error)),
    };
    let records = written.and_then(|records| target.keep().map(|()| records).map_err(|error| failed(typed, &error)));
    let records = records.inspect_err(|_| target.discard())?;
    let text = format!("exported {} records to {}", show_count(records), typed.display());
    let summary =
        json!({ "records": records, "file": env.path(typed).display().to_string(), "as": format.to_string() });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

fn to_stdout(export: Work, env: &mut Env) -> Result<Exit, CliError> {
    env.out_is_data = true;
    let mut out = std::mem::replace(&mut env.out, Box::new(io::sink()));
    let format = export.format.to_string();
    let written = export.run(BufWriter::with_capacity(WRITE_BYTES, &mut out), env).map(|(records, _)| records);
    env.out = out;
    let records = match written {
        // Whoever reads has seen enough.
        Err(Failure::Write(error)) if error.is_broken_pipe() => return Ok(Exit::Done),
        written => written.map_err(|failure| failure.told("stdout"))?,
    };
    Printer::new(env).end(Exit::Done, "", fields(json!({ "records": records, "as": format })))
}

fn to_file(export: Work, file: fs::File, packed: bool, env: &mut Env) -> Result<u64, CliError> {
    let name = "the file";
    let output = |error: io::Error| Failure::Write(error.into()).told(name);
    if packed {
        let packer = zstd::stream::write::Encoder::new(file, 0).map_err(output)?;
        let out = BufWriter::with_capacity(WRITE_BYTES, packer);
        let (records, out) = export.run(out, env).map_err(|failure| failure.told(name))?;
        let packer = out.into_inner().map_err(|error| output(error.into_error()))?;
        packer.finish().and_then(|file| file.sync_all()).map_err(output)?;
        return Ok(records);
    }
    let (records, out) =
        export.run(BufWriter::with_capacity(WRITE_BYTES, file), env).map_err(|failure| failure.told(name))?;
    match out.get_ref().sync_all() {
        // A pipe or a device cannot be synced, and need not be.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(output(error)),
        _ => Ok(records),
    }
}

/// What is to be written.
struct Work {
    total: u64,
    rows: Scan,
    format: Format,
    layout: Layout,
}

impl Work {
    fn run<W: Write>(self, out: W, env: &mut Env) -> Result<(u64, W), Failure> {
        let mut progress = Progress::new(env, "exporting records");
        let mut writer = Writer::new(out, self.format, self.layout).map_err(Failure::Write)?;
        let mut records = 0;
        for row in self.rows {
            let (key, value) = row.map_err(|error| Failure::Store(error.into()))?;
            writer.write(&key, &value).map_err(Failure::Write)?;
            records += 1;
            if records % 1000 == 0 {
                progress.at(records, Some(self.total));
            }
        }
        Ok((records, writer.finish().map_err(Failure::Write)?))
    }
}

enum Failure {
    Store(CliError),
    Write(WriteError),
}

impl Failure {
    fn told(self, to: &str) -> CliError {
        match self {
            Failure::Store(error) => error,
            Failure::Write(WriteError::Io(error)) => {
                CliError::new("output", format!("{to} cannot be written: {error}; the store was not changed"))
            }
            Failure::Write(error) => CliError::new("export.row", error.to_string()),
        }
    }
}

fn failed(typed: &Path, error: &io::Error) -> CliError {
    CliError::new("output", format!("{} cannot be written: {error}; the store was not changed", typed.display()))
}

/// The file to be written: beside it first, so that what was there stays whole until the new one is.
struct Target {
    path: PathBuf,
    draft: Option<PathBuf>,
    packed: bool,
}

impl Target {
    fn of(typed: &Path) -> Result<Target, CliError> {
        let packed = typed.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zst"));
        // A link stays one: what it leads to is replaced. A pipe or a device cannot be replaced.
        let path = typed.canonicalize().unwrap_or_else(|_| typed.to_path_buf());
        if path.exists() && !path.is_file() && !path.is_dir() {
            return Ok(Target { path, draft: None, packed });
        }
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            let message = format!("{} is a directory; name a file; nothing was written", typed.display());
            return Err(CliError::new("output", message));
        };
        let mut draft = name.to_os_string();
        draft.push(format!(".{}.new", std::process::id()));
        Ok(Target { draft: Some(path.with_file_name(draft)), path, packed })
    }

    fn file(&self) -> io::Result<fs::File> {
        match &self.draft {
            Some(draft) => fs::File::create(draft),
            None => fs::OpenOptions::new().write(true).open(&self.path),
        }
    }

    fn keep(&self) -> io::Result<()> {
        self.draft.as_ref().map_or(Ok(()), |draft| fs::rename(draft, &self.path))
    }

    fn discard(&self) {
        if let Some(draft) = &self.draft {
            // It may never have been made; what is left would only take room.
            let _ = fs::remove_file(draft);
        }
    }
}
