//! Runs the binary in a directory and a home of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A directory with a home in it; commands run there, and see no variable of whoever runs the tests.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) vars: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Option<i32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("a directory"), vars: Vec::new() }
    }

    /// A place with an empty store `s`.
    pub(crate) fn with_store() -> Place {
        let place = Place::new();
        place.run("init s").ok();
        place
    }

    /// A place with a store `s` that holds a file.
    pub(crate) fn with_file(name: &str, content: &str, import: &str) -> Place {
        let place = Place::with_store();
        place.file(name, content);
        place.run(&format!("import s {name} {import}")).ok();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        path
    }

    /// A file that nobody but its owner may read.
    pub(crate) fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        let path = self.file(name, content);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("rights");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reknit"));
        command.env_clear().current_dir(self.dir.path());
        command.env("REKNIT_HOME", self.path("home")).envs(self.vars.iter().map(|(name, value)| (name, value)));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command of words without spaces.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn run_args(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("the binary"))
    }

    /// Runs a command that prints JSON Lines.
    pub(crate) fn json(&self, line: &str) -> Ran {
        let mut command = self.command(&line.split_whitespace().collect::<Vec<_>>());
        Ran::of(command.env("REKNIT_FORMAT", "jsonl").output().expect("the binary"))
    }

    /// Runs a command with this on stdin.
    pub(crate) fn feed(&self, line: &str, input: &[u8]) -> Ran {
        self.feed_to(self.command(&line.split_whitespace().collect::<Vec<_>>()), input)
    }

    /// Runs a command that prints JSON Lines with this on stdin.
    pub(crate) fn feed_json(&self, line: &str, input: &[u8]) -> Ran {
        let mut command = self.command(&line.split_whitespace().collect::<Vec<_>>());
        command.env("REKNIT_FORMAT", "jsonl");
        self.feed_to(command, input)
    }

    fn feed_to(&self, mut child: Command, input: &[u8]) -> Ran {
        let mut child = child.stdin(Stdio::piped()).spawn().expect("the binary");
        let mut stdin = child.stdin.take().expect("its stdin");
        std::thread::scope(|scope| {
            // A command that refuses early does not read everything.
            scope.spawn(move || stdin.write_all(input).is_ok());
            Ran::of(child.wait_with_output().expect("its end"))
        })
    }

    /// The root of a store, which tells whether anything in it changed.
    pub(crate) fn root(&self, store: &str) -> String {
        let summary = self.run(&format!("dataset show {store} --format jsonl")).ok().summary();
        summary["root"].as_str().expect("a root").to_owned()
    }

    /// What a directory holds, which tells whether a refused command left anything behind.
    pub(crate) fn names(&self, dir: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { exit: output.status.code(), out: text(&output.stdout), err: text(&output.stderr), bytes: output.stdout }
    }

    #[track_caller]
    pub(crate) fn exits(self, exit: i32) -> Ran {
        assert_eq!(self.exit, Some(exit), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Ran {
        self.exits(0)
    }

    /// Ended with exit 2 and the error of this id, and printed no result.
    #[track_caller]
    pub(crate) fn fails(self, id: &str) -> Ran {
        let ran = self.exits(2);
        assert!(ran.err.contains(&format!("[{id}]")), "{ran:?}");
        assert_eq!(ran.out, "", "an error goes to stderr");
        ran
    }

    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Ran {
        for word in words {
            assert!(self.out.contains(word) || self.err.contains(word), "no {word:?} in {self:?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, out: &str) -> Ran {
        assert_eq!(self.out, out, "{:?}", self.err);
        self
    }

    /// All objects of JSON Lines.
    #[track_caller]
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }

    /// The summary, the last object of JSON Lines.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        let last = self.objects().pop().expect("a summary");
        assert_eq!((&last["t"], &last["schema"]), (&Value::from("summary"), &Value::from("reknit/1")));
        last
    }
}
