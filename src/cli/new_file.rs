//! Files that are there whole or not at all, readable by their owner alone, and never in place of another.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is being written; nothing is left of it unless it is finished.
pub(crate) struct NewFile {
    file: BufWriter<fs::File>,
    path: PathBuf,
    part: Option<PathBuf>,
}

impl NewFile {
    /// Begins a file at a path where nothing is yet.
    pub(crate) fn create(path: &Path) -> io::Result<NewFile> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
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
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(dir)?.sync_all()
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
