//! Plans as files: JSON Lines, each sealed with what stands above it under a secret of the home that wrote them.
//!
//! What a plan says is put together and carried out by the commands.

mod applied;
mod lines;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) use applied::{is_applied, note_applied};
pub(crate) use lines::{Header, Key, Loses, Tally};

use super::CliError;
use super::new_file::NewFile;
use super::records::hex;
use crate::node::Home;

/// The format of the file.
pub(crate) const FORMAT: u64 = 1;
/// What the secret is for.
const PURPOSE: &str = "reknit 2026 v1 plan";
/// Bytes of a line; values that are longer are left out of a plan.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Where the seal of a line begins.
const SEAL: &str = ",\"seal\":\"";
/// Digits of the seals of lines, and of the last one, which seals the file.
const SEAL_DIGITS: usize = 16;
const LAST_SEAL_DIGITS: usize = 64;

/// The secret under which a home seals its plans.
fn secret(home: &Home) -> Result<[u8; 32], CliError> {
    Ok(home.identity()?.derive(PURPOSE))
}

/// A plan that is being written; nothing is left of it unless it is finished.
pub(crate) struct PlanWriter {
    file: NewFile,
    path: PathBuf,
    seal: blake3::Hasher,
}

impl PlanWriter {
    /// Begins a plan at a path where nothing is yet.
    pub(crate) fn create(path: &Path, home: &Home, tell: &mut dyn Write) -> Result<PlanWriter, CliError> {
        let file = NewFile::create(path, tell).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => CliError::new(
                "plan.exists",
                format!("{} is there already, and was not touched; name another file", path.display()),
            ),
            _ => unusable(path, &error),
        })?;
        let seal = blake3::Hasher::new_keyed(&secret(home)?);
        Ok(PlanWriter { file, path: path.into(), seal })
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, object: &Value) -> Result<(), CliError> {
        self.put(object, SEAL_DIGITS)
    }

    fn put(&mut self, object: &Value, digits: usize) -> Result<(), CliError> {
        let text = object.to_string();
        let text = text.strip_suffix('}').unwrap_or(&text);
        self.seal.update(text.as_bytes()).update(b"\n");
        let seal = self.seal.finalize().to_hex();
        let written = writeln!(self.file, "{text}{SEAL}{}\"}}", &seal.as_str()[..digits]);
        written.map_err(|error| unusable(&self.path, &error))
    }

    /// Adds the last line and puts the plan in its place, synced.
    pub(crate) fn finish(mut self, last: &Value) -> Result<(), CliError> {
        self.put(last, LAST_SEAL_DIGITS)?;
        let PlanWriter { file, path, .. } = self;
        file.finish().map_err(|error| unusable(&path, &error))
    }
}

/// A plan that is being read, each line as soon as its seal is known to hold.
pub(crate) struct PlanReader {
    file: BufReader<fs::File>,
    path: PathBuf,
    seal: blake3::Hasher,
    number: u64,
    ended: bool,
}

impl PlanReader {
    pub(crate) fn open(path: &Path, home: &Home) -> Result<PlanReader, CliError> {
        let file = fs::File::open(path).map_err(|error| unusable(path, &error))?;
        let seal = blake3::Hasher::new_keyed(&secret(home)?);
        Ok(PlanReader { file: BufReader::new(file), path: path.into(), seal, number: 0, ended: false })
    }

    /// The first line, before it is known whether its seal holds: it says whose that is.
    pub(crate) fn peek(path: &Path) -> Result<Value, CliError> {
        let file = fs::File::open(path).map_err(|error| unusable(path, &error))?;
        let mut line = Vec::new();
        let read = BufReader::new(file).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        read.map_err(|error| unusable(path, &error))?;
        let no_plan = || CliError::refused("plan.malformed", format!("{} is no plan", path.display()));
        let header: Value = serde_json::from_slice(&line).map_err(|_| no_plan())?;
        match (header["t"].as_str(), header["format"].as_u64()) {
            (Some("plan"), Some(FORMAT)) => Ok(header),
            (Some("plan"), Some(format)) => {
                let message = format!(
                    "{} is a plan of format {format}, of a newer release; carry it out with that",
                    path.display()
                );
                Err(CliError::refused("plan.malformed", message))
            }
            _ => Err(no_plan()),
        }
    }

    /// The next line; none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Value>, CliError> {
        self.number += 1;
        let mut line = Vec::new();
        let mut limited = (&mut self.file).take(LINE_BYTES_MAX as u64 + 1024);
        limited.read_until(b'\n', &mut line).map_err(|error| unusable(&self.path, &error))?;
        if line.is_empty() && self.ended {
            return Ok(None);
        }
        let altered = |why: &str| {
            let message =
                format!("{} was altered: line {} {why}; make another with --plan", self.path.display(), self.number);
            CliError::refused("plan.altered", message)
        };
        if line.is_empty() {
            return Err(altered("is missing, the plan has no end"));
        }
        if self.ended {
            return Err(altered("stands after the end"));
        }
        let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        let sealed = text.and_then(|text| text.rsplit_once(SEAL));
        let (text, seal) = sealed.ok_or_else(|| altered("has no seal"))?;
        let seal = seal.strip_suffix("\"}").ok_or_else(|| altered("has no seal"))?;
        self.seal.update(text.as_bytes()).update(b"\n");
        let expected = self.seal.finalize().to_hex();
        let last = seal.len() == LAST_SEAL_DIGITS;
        if !last && seal.len() != SEAL_DIGITS || !same(seal, &expected.as_str()[..seal.len()]) {
            return Err(altered("or what stands above it is not what was written"));
        }
        self.ended = last;
        let value = serde_json::from_str(&format!("{text}}}")).map_err(|_| altered("is not understood"))?;
        Ok(Some(value))
    }
}

/// Whether two texts of one length are equal, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |found, (a, b)| found | (a ^ b)) == 0
}

fn unusable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new("plan.file", format!("the plan {} cannot be read or written: {error}", path.display()))
}

/// A name for a plan.
pub(crate) fn new_id() -> Result<String, CliError> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| CliError::new("randomness", error.to_string()))?;
    Ok(hex(&id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(lines: usize) -> (tempfile::TempDir, Home, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(&dir.path().join("home")).expect("a home");
        let path = dir.path().join("a.plan");
        let mut plan = PlanWriter::create(&path, &home, &mut std::io::sink()).expect("begun");
        plan.line(&json!({ "t": "plan", "format": FORMAT })).expect("written");
        (0..lines)
            .for_each(|n| plan.line(&json!({ "t": "key", "key": format!("\",\"seal\":\"{n}") })).expect("written"));
        plan.finish(&json!({ "t": "end" })).expect("placed");
        (dir, home, path)
    }

    fn read(path: &Path, home: &Home) -> Result<usize, String> {
        let mut plan = PlanReader::open(path, home).map_err(|error| error.message)?;
        let mut lines = 0;
        while plan.next().map_err(|error| error.message)?.is_some() {
            lines += 1;
        }
        Ok(lines)
    }

    #[test]
    fn a_plan_comes_back_and_every_bit_of_it_is_sealed() {
        let (dir, home, path) = written(3);
        assert_eq!(read(&path, &home), Ok(5));
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("there").map(|e| e.expect("an entry").file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        let bytes = fs::read(&path).expect("there");
        let copy = dir.path().join("copy.plan");
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            fs::write(&copy, &altered).expect("written");
            let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
            let told = read(&copy, &home).expect_err("refused");
            assert!(told.contains(&format!("line {line} ")), "{at}: {told}");
        }
        for cut in 0..bytes.len() {
            fs::write(&copy, &bytes[..cut]).expect("written");
            assert!(read(&copy, &home).is_err(), "cut at {cut}");
        }
        fs::write(&copy, [&bytes[..], b"{}\n"].concat()).expect("written");
        assert!(read(&copy, &home).expect_err("refused").contains("after the end"));
        let other = Home::open(&dir.path().join("other")).expect("a home");
        assert!(read(&path, &other).expect_err("refused").contains("line 1 "));
    }

    #[test]
    fn lines_that_were_left_out_repeated_or_exchanged_are_seen() {
        let (dir, home, path) = written(4);
        let text = fs::read_to_string(&path).expect("there");
        let lines: Vec<&str> = text.lines().collect();
        let copy = dir.path().join("copy.plan");
        for order in [vec![0, 1, 3, 4, 5], vec![0, 1, 1, 2, 3, 4, 5], vec![0, 2, 1, 3, 4, 5], vec![0, 5], vec![1, 2, 5]]
        {
            let chosen: String = order.iter().map(|n| format!("{}\n", lines[*n])).collect();
            fs::write(&copy, chosen).expect("written");
            assert!(read(&copy, &home).is_err(), "{order:?}");
        }
    }

    #[test]
    fn a_plan_that_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(&dir.path().join("home")).expect("a home");
        let path = dir.path().join("a.plan");
        let mut plan = PlanWriter::create(&path, &home, &mut std::io::sink()).expect("begun");
        plan.line(&json!({ "t": "plan" })).expect("written");
        drop(plan);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
        fs::write(&path, "mine").expect("written");
        assert!(PlanWriter::create(&path, &home, &mut std::io::sink()).is_err_and(|error| error.id == "plan.exists"));
    }
}
