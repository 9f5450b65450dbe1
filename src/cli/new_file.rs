//! Files that are there whole or not at all, readable by their owner alone, and never in place of another.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What stands behind the name of a file that is being written, after the number of the process that writes it.
const PART: &str = ".part";

/// A file that is being written; nothing is left of it unless it is finished. What a process that was killed has left of it
/// goes when the same file is begun again.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: BufWriter<fs::File>,
    path: PathBuf,
    part: Option<PathBuf>,
}

impl NewFile {
    /// Begins a file at a path where nothing is yet; `tell` hears of what others had begun there, and is removed.
    pub(crate) fn create(path: &Path, tell: &mut dyn Write) -> io::Result<NewFile> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let name = path.file_name().unwrap_or_default();
        for left in abandoned(path, name) {
            fs::remove_file(&left)?;
            writeln!(tell, "reknit: removed {}, left by a command that was killed", left.display())?;
        }
        let mut part = name.to_os_string();
        part.push(format!(".{}{PART}", std::process::id()));
        let part = path.with_file_name(part);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        // Held until the process ends: who can have it knows that nobody writes. Not every file system has locks.
        let _ = file.try_lock();
        Ok(NewFile { file: BufWriter::new(file), path: path.into(), part: Some(part) })
    }

    /// Puts it in its place, synced.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        if let Some(part) = &self.part {
            // Nobody's file is replaced, not even one that came meanwhile.
            fs::hard_link(part, &self.path)?;
            fs::remove_file(part)?;
        }
        self.part = None;
        fs::File::open(dir_of(&self.path))?.sync_all()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // What is left of it is half of something.
            let _ = fs::remove_file(part);
        }
    }
}

/// Files that others began to write in place of this one, and that nobody writes any more.
fn abandoned(path: &Path, name: &OsStr) -> Vec<PathBuf> {
    let of_it = |found: &OsStr| {
        let rest = found.to_str()?.strip_prefix(name.to_str()?)?;
        let process = rest.strip_prefix('.')?.strip_suffix(PART)?;
        (!process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
    };
    let free = |part: &PathBuf| fs::File::open(part).is_ok_and(|file| file.try_lock().is_ok());
    let entries = fs::read_dir(dir_of(path)).into_iter().flatten().flatten();
    let parts = entries.filter(|entry| of_it(&entry.file_name()).is_some()).map(|entry| entry.path());
    parts.filter(free).collect()
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_another_writes_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let others = ["b.sql.part", "b.sql.1x.part", "b.sql.7.part.old", "a.sql.7.part"];
        for name in others.into_iter().chain(["b.sql.7.part"]) {
            fs::write(at(name), "half").expect("written");
        }
        let busy = fs::File::create(at("b.sql.8.part")).expect("made");
        busy.lock().expect("held");
        let mut told = Vec::new();
        let mut file = NewFile::create(&at("b.sql"), &mut told).expect("begun");
        let told = String::from_utf8(told).expect("words");
        assert!(told.contains("b.sql.7.part, left by") && told.lines().count() == 1, "{told}");
        for name in others.into_iter().chain(["b.sql.8.part"]) {
            assert!(at(name).exists(), "{name}");
        }
        // One that is begun is held.
        assert!(!abandoned(&at("b.sql"), OsStr::new("b.sql")).contains(file.part.as_ref().expect("a part")));
        file.write_all(b"whole").expect("written");
        file.finish().expect("placed");
        assert_eq!(fs::read(at("b.sql")).expect("there"), b"whole");
    }
}
