//! A file of a home, replaced whole by one writer at a time: there is what was there or what is new, whenever a machine stops.
//!
//! What is in it, and who may write it, is the concern of whoever keeps it.

#[cfg(feature = "cli")]
use std::fs::TryLockError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
#[cfg(feature = "cli")]
use std::time::{Duration, Instant};

/// How long a writer waits for others, and how often it looks.
#[cfg(feature = "cli")]
const LOCKED_WITHIN: Duration = Duration::from_secs(10);
#[cfg(feature = "cli")]
const LOCKED_LOOK: Duration = Duration::from_millis(2);

/// Replaces a file by way of a draft in the same directory, which nobody else writes meanwhile.
///
/// # Errors
/// What the system says. The file is as it was, unless it was the last step that failed: then it is new, but may not stay so.
pub(crate) fn replace(path: &Path, draft: &Path, bytes: &[u8]) -> io::Result<()> {
    write_draft(draft, bytes)?;
    put_in_place(draft, path)
}

/// The first half of that: the draft is whole on disk before it takes the place of anything.
pub(crate) fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The second half.
pub(crate) fn put_in_place(draft: &Path, path: &Path) -> io::Result<()> {
    fs::rename(draft, path)?;
    // The name is to last as the bytes do.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    match File::open(dir.unwrap_or(Path::new(".")))?.sync_all() {
        // There are file systems that know no such thing; the change is made.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// Holds a file for one of those that read, change and write what it stands for, until it is dropped. They may be several
/// processes, and several threads of one.
///
/// # Errors
/// What the system says, or that others hold it for too long.
#[cfg(feature = "cli")]
pub(crate) fn hold(path: &Path) -> io::Result<File> {
    let guard = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let since = Instant::now();
    // Not every file system has locks: there nobody is waited for.
    while let Err(TryLockError::WouldBlock) = guard.try_lock() {
        if since.elapsed() >= LOCKED_WITHIN {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let message = format!("another process holds {name} for more than {} s", LOCKED_WITHIN.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(LOCKED_LOOK);
    }
    Ok(guard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_what_it_was_or_what_is_new_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, draft) = (dir.path().join("file"), dir.path().join("file.new"));
        fs::write(&draft, "what a crash has left, which is longer").expect("written");
        for text in ["old", "new"] {
            replace(&path, &draft, text.as_bytes()).expect("replaced");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
            assert!(!draft.exists());
        }
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        replace(&path, &dir.path().join("nowhere/file.new"), b"newer").expect_err("no draft");
        assert_eq!(fs::read_to_string(&path).expect("read"), "new");
    }
}
