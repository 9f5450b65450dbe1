//! A file of this machine.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::source::{Opened, Source, Version};

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 256 * 1024;

pub(super) struct Local(PathBuf);

impl Local {
    pub(super) fn new(path: &Path) -> Local {
        Local(path.to_path_buf())
    }
}

impl Source for Local {
    fn version(&self) -> io::Result<Version> {
        version(&std::fs::metadata(&self.0)?)
    }

    fn open(&self) -> io::Result<Arc<dyn Opened>> {
        let file = File::open(&self.0)?;
        let version = version(&file.metadata()?)?;
        Ok(Arc::new(LocalFile { file: Mutex::new(file), version }))
    }
}

/// Its size, when it was written and, where there are such, the number of the file under its name.
fn version(metadata: &Metadata) -> io::Result<Version> {
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file; save it as one first"));
    }
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let number = 0;
    let written = metadata.modified()?;
    let written = written
        .duration_since(UNIX_EPOCH)
        .map_or_else(|before| -(before.duration().as_nanos() as i128), |since| since.as_nanos() as i128);
    Ok(Version { bytes: metadata.len(), mark: format!("{number} {written}") })
}

struct LocalFile {
    file: Mutex<File>,
    version: Version,
}

impl Opened for LocalFile {
    fn version(&self) -> &Version {
        &self.version
    }

    fn block(&self) -> usize {
        BLOCK_BYTES
    }

    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.version.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
