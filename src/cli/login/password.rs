//! The password of a store in the configuration: from a file, from the environment, or told by a command.
//!
//! It is asked for once, when it is first needed, and again by a daemon that runs for long. What a command says is never printed,
//! not even where it fails.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::cli::CliError;
use crate::cli::env::Env;
use crate::store::linked::Secret;

/// Bytes of a password.
const PASSWORD_BYTES_MAX: u64 = 4 << 10;
/// How long a command may take to tell it; somebody may have to type something for it.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether a command that has told everything has ended.
const LOOKED_EVERY: Duration = Duration::from_millis(5);

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In a file of its own.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
    /// Printed by a command of the shell.
    Command(String),
}

/// A password that is known once it is needed.
#[derive(Debug)]
pub(crate) struct Password {
    source: Source,
    known: Mutex<Option<Known>>,
}

/// What was told.
#[derive(Debug)]
struct Known {
    secret: Secret,
    at: Instant,
    /// Whether it is to be asked for anew.
    stale: bool,
}

impl Password {
    /// One that is there.
    pub(crate) fn of(source: Source) -> Password {
        Password { source, known: Mutex::default() }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match &self.source {
            Source::File(path) => format!("the file {}", path.display()),
            Source::Env(name) => format!("the variable {name}"),
            // It may say the password itself.
            Source::Command(_) => "its password_command".into(),
        }
    }

    /// Has one asked for anew that was told so long ago: it may be another by now.
    pub(crate) fn forget(&self, after: Duration) {
        // One that is being asked for need not be.
        if let Ok(mut known) = self.known.try_lock()
            && let Some(known) = &mut *known
        {
            known.stale |= known.at.elapsed() >= after;
        }
    }

    /// The password.
    ///
    /// # Errors
    /// `database.password`: it is not there.
    pub(crate) fn get(&self, env: &Env) -> Result<Secret, CliError> {
        // Of several who need it at once one asks.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| !known.stale) {
            return Ok(known.secret.clone());
        }
        let told = match &self.source {
            Source::File(path) => read(path, env),
            Source::Env(name) => std::env::var(name).map_err(|_| "it is not set, or no text".into()),
            Source::Command(command) => ask(command, COMMAND_MAX),
        };
        let told = told.and_then(|text| match text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r') {
            "" => Err("it is empty".into()),
            text => Ok(text.to_string()),
        });
        let wrong = |cause: String| {
            let message = format!("the password is to come from {}, but {cause}; nothing was done", self.place());
            CliError::new("database.password", message)
        };
        let secret = match (told, &*known) {
            (Ok(told), _) => Secret::new(told),
            // The one before may hold on.
            (Err(cause), Some(known)) => {
                env.warn(&wrong(cause).message);
                return Ok(known.secret.clone());
            }
            (Err(cause), None) => return Err(wrong(cause)),
        };
        Ok(known.insert(Known { secret, at: Instant::now(), stale: false }).secret.clone())
    }
}

fn read(path: &PathBuf, env: &Env) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    if file.metadata().is_ok_and(|found| found.mode() & 0o077 != 0) {
        let path = path.display();
        env.warn(&format!("others than its owner may read the password in {path}: chmod 600 {path}"));
    }
    bounded(file)
}

/// What a command of the shell prints.
fn ask(command: &str, max: Duration) -> Result<String, String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = shell.spawn().map_err(|error| format!("it cannot be run: {error}"))?;
    let told = answer(&mut child, Instant::now() + max);
    if told.is_err() {
        // One that has ended cannot be ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    told
}

fn answer(child: &mut Child, until: Instant) -> Result<String, String> {
    let late = || "it did not end in time".to_string();
    let out = child.stdout.take().ok_or("it prints nothing")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(bounded(out)));
    let text = receiver.recv_timeout(until.saturating_duration_since(Instant::now())).map_err(|_| late())??;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(text),
            Some(status) => return Err(format!("it failed ({status}); run it by hand to see why")),
            None if Instant::now() >= until => return Err(late()),
            None => std::thread::sleep(LOOKED_EVERY),
        }
    }
}

fn bounded(from: impl Read) -> Result<String, String> {
    let mut text = String::new();
    let read = from.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(format!("it has more than {PASSWORD_BYTES_MAX} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn a_password_is_asked_for_once_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secret");
        let cli = <Cli as clap::Parser>::try_parse_from(["reknit", "status"]).expect("understood");
        let env = Env::unheard(&cli.global, dir.path().into());
        let password = Password::of(Source::File(file.clone()));
        let told = || password.get(&env).map(|secret| secret == Secret::new("one".to_string()));
        std::fs::write(&file, "one\n").expect("written");
        assert!(told().expect("told"));
        std::fs::write(&file, "two\n").expect("written");
        password.forget(Duration::from_secs(3600));
        assert!(told().expect("known"));
        password.forget(Duration::ZERO);
        assert!(!told().expect("told anew"));
        std::fs::remove_file(&file).expect("removed");
        password.forget(Duration::ZERO);
        assert!(!told().expect("what was known before may hold on"));
    }

    #[test]
    fn a_command_tells_or_fails_and_has_no_more_time_than_it_has() {
        let ask = |command, max| ask(command, Duration::from_secs(max));
        assert_eq!(ask("printf 'se cret\\n'", 60), Ok("se cret\n".into()));
        let failed = ask("echo secret; echo secret >&2; exit 3", 60).expect_err("failed");
        assert!(failed.contains("exit status: 3") && !failed.contains("secret"), "{failed}");
        assert!(ask("yes", 60).expect_err("endless").contains("more than"));
        assert_eq!(ask("cat; sleep 600", 0), Err("it did not end in time".into()));
    }
}
