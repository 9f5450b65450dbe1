//! The real binary, started, watched by what it reads and writes, and killed at a point of that.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A directory in which commands run; `home` and `far` are the homes of two nodes in it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

/// How a command ended, and what it had said until then.
pub(crate) struct Ended {
    /// None if it was killed.
    pub(crate) exit: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, home: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reknit"));
        command
            .env_clear()
            .current_dir(self.dir.path())
            .env("REKNIT_HOME", self.path(home))
            .env("RUST_LOG", "off")
            .envs(["REKNIT_MAX_CHANGE", "REKNIT_MAX_DELETE"].map(|limit| (limit, "100%")));
        command.args(words.iter().map(OsStr::new));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command of words without spaces to its end.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.run_at("home", line)
    }

    pub(crate) fn run_at(&self, home: &str, line: &str) -> Ended {
        self.start(home, line).wait()
    }

    pub(crate) fn start(&self, home: &str, line: &str) -> Running {
        let words: Vec<&str> = line.split_whitespace().collect();
        Running { child: self.command(home, &words).spawn().expect("the binary") }
    }

    /// The same, to its end, where no file may grow beyond so many blocks.
    pub(crate) fn run_within(&self, blocks: u64, line: &str) -> Ended {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = within(blocks, &self.command("home", &words));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: command.spawn().expect("a shell") }.wait()
    }

    /// Starts a daemon over a store; tells where it can be reached.
    pub(crate) fn serve(&self, store: &str) -> (Running, String) {
        let mut running = self.start("far", &format!("serve {store} --listen 127.0.0.1:0"));
        let mut line = String::new();
        let out = running.child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("readable");
        let address = line.trim_end().rsplit(' ').next().unwrap_or_default().to_owned();
        if !address.starts_with("quic://") {
            panic!("no daemon: {}", running.wait().err);
        }
        (running, address)
    }
}

/// A process on its way.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// How far it is, whatever the clock says: bytes that it has written, and a little for each call that read or wrote.
    pub(crate) fn progress(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        let weigh = |line: &str| {
            let (name, number) = line.split_once(": ")?;
            let weight = match name {
                "wchar" => 1,
                "syscr" | "syscw" => 64,
                _ => 0,
            };
            Some(weight * number.parse::<u64>().ok()?)
        };
        text.lines().filter_map(weigh).sum()
    }

    /// Kills it once it has come so far, or once `other`, which it works for, has ended. Tells how far it was seen to be,
    /// and whether it had not ended by itself.
    pub(crate) fn kill_at(&mut self, point: u64, mut other: Option<&mut Running>) -> (u64, bool) {
        let mut seen = 0;
        loop {
            if self.has_ended() {
                return (seen, false);
            }
            seen = seen.max(self.progress());
            if seen >= point || other.as_mut().is_some_and(|other| other.has_ended()) {
                self.child.kill().expect("a kill");
                return (seen, killed(self.child.wait().expect("its end")));
            }
            std::thread::yield_now();
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("its end");
    }

    pub(crate) fn wait(mut self) -> Ended {
        let mut text = [String::new(), String::new()];
        // What a command of these tests says fits a pipe, so that one can be read after the other.
        if let Some(out) = &mut self.child.stdout {
            out.read_to_string(&mut text[0]).expect("text");
        }
        if let Some(err) = &mut self.child.stderr {
            err.read_to_string(&mut text[1]).expect("text");
        }
        let [out, err] = text;
        Ended { exit: self.child.wait().expect("its end").code(), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(self) -> Ended {
        assert_eq!(self.exit, Some(0), "{}{}", self.out, self.err);
        self
    }
}

/// The same command where no file may grow beyond so many of the shell's blocks of 512 or 1,024 bytes: the system then refuses
/// as for a disk that is full, without a disk having to be filled.
pub(crate) fn within(blocks: u64, inner: &Command) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""));
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(9)
}

/// A directory for files that need not outlive the machine: in memory where the system has such a place, since syncing
/// thousands of images to a disk takes most of their time.
pub(crate) fn quick_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// The bytes of a file without the zeroes at its end.
pub(crate) fn written(path: &Path) -> Vec<u8> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).expect("what it is");
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path).expect("the file");
    // A journal of fjall has a length that is filled later, from its beginning on: the rest is not read.
    let is_journal = path.extension().is_some_and(|suffix| suffix == "jnl");
    let most = if is_journal { meta.blocks() * 512 } else { meta.len() };
    file.by_ref().take(most).read_to_end(&mut bytes).expect("its bytes");
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    bytes
}

/// Makes a directory what another is, in the same files at its top, by which a store knows that it is no copy.
pub(crate) fn put_back(from: &Path, to: &Path) {
    for item in fs::read_dir(to).expect("files") {
        let (path, there) = item.map(|item| (item.path(), from.join(item.file_name()))).expect("a file");
        match path.is_dir() {
            true => fs::remove_dir_all(&path).expect("removed"),
            false if !there.exists() => fs::remove_file(&path).expect("removed"),
            false => {}
        }
    }
    copy(from, to);
}

/// Copies a store.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for item in fs::read_dir(from).expect("files") {
        let item = item.expect("a file");
        let (source, target) = (item.path(), to.join(item.file_name()));
        let meta = item.metadata().expect("what it is");
        if meta.is_dir() {
            copy(&source, &target);
        } else {
            fs::write(&target, written(&source)).expect("a copy");
            let copied = fs::OpenOptions::new().write(true).open(&target).expect("the copy");
            copied.set_len(meta.len()).expect("its length");
            // A key that others may read is not used.
            copied.set_permissions(meta.permissions()).expect("its rights");
        }
    }
}
