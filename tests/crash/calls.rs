//! What a process asked of the system, as `strace` wrote it down: the calls that change files below a directory, in their order,
//! with what the process said meanwhile. What a disk makes of them is [`crate::disk`]'s concern.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The calls that are written down.
pub(crate) const TRACED: &str = "trace=openat,creat,read,write,pwrite64,writev,lseek,ftruncate,fallocate,rename,renameat,\
                                 renameat2,unlink,unlinkat,mkdir,mkdirat,fsync,fdatasync,close";

/// Something that happened below the directory; names are of there.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A file was opened that is to be made where there is none, and emptied where so asked.
    Opened { name: PathBuf, emptied: bool },
    /// Bytes were written, at the end where no place is told.
    Wrote { name: PathBuf, at: Option<u64>, bytes: Vec<u8> },
    /// A file was made that long.
    Length { name: PathBuf, length: u64 },
    /// A file got another name.
    Renamed { from: PathBuf, to: PathBuf },
    /// A name is gone.
    Removed { name: PathBuf },
    /// A directory was made.
    Directory { name: PathBuf },
    /// A file or a directory was synced: what had happened before this number of events.
    Synced { name: PathBuf, until: usize },
    /// The process said a line.
    Said(String),
}

/// A file that the process has open.
struct Open {
    at: u64,
    appends: bool,
}

/// Reads what was written down of one process and its threads.
pub(crate) fn read(log: &Path, dir: &Path) -> Vec<Event> {
    let mut reader = Reader { dir, events: Vec::new(), open: BTreeMap::new() };
    // A call that others came between stands in two lines; it is what it was when it was over.
    let mut begun: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for line in BufReader::new(File::open(log).expect("the log")).lines() {
        let line = line.expect("text");
        let (thread, text) = line.split_once(' ').expect("a thread");
        let text = text.trim_start();
        if let Some(text) = text.strip_suffix(" <unfinished ...>") {
            begun.insert(thread.into(), (text.into(), reader.events.len()));
        } else if let Some(rest) = text.strip_prefix("<... ") {
            let (_, rest) = rest.split_once(" resumed>").expect("the rest of a call");
            let (head, since) = begun.remove(thread).expect("its beginning");
            reader.call(&(head + rest), since);
        } else {
            let now = reader.events.len();
            reader.call(text, now);
        }
    }
    reader.events
}

struct Reader<'a> {
    dir: &'a Path,
    events: Vec<Event>,
    open: BTreeMap<u64, Open>,
}

impl Reader<'_> {
    /// Takes in a call that began when there were so many events.
    fn call(&mut self, text: &str, since: usize) {
        let Some((name, rest)) = text.split_once('(') else { return };
        // What a process ends with is no call.
        let Some((args, result)) = rest.rsplit_once(" = ") else { return };
        let Ok(result) = result.split([' ', '<']).next().unwrap_or_default().parse::<u64>() else { return };
        let args: Vec<&str> = args.trim_end().trim_end_matches(')').split(", ").collect();
        match name {
            "openat" | "creat" => self.opened(name, &args, result),
            "close" => drop(self.open.remove(&number(args[0]))),
            "read" => self.moved(number(args[0]), result),
            "lseek" => {
                if let Some(open) = self.open.get_mut(&number(args[0])) {
                    open.at = result;
                }
            }
            "write" | "writev" => self.wrote(&args, result),
            "pwrite64" => {
                let at = args[3].parse().expect("a place");
                self.below(args[0]).into_iter().for_each(|name| self.put(name, Some(at), strings(args[1]), result));
            }
            "ftruncate" => {
                let length = args[1].parse().expect("a length");
                self.events.extend(self.below(args[0]).map(|name| Event::Length { name, length }));
            }
            // Room that is asked for lengthens a file unless it is told not to.
            "fallocate" => panic!("not looked at: {text}"),
            "rename" | "renameat" | "renameat2" => {
                let mut names = args.iter().filter(|arg| arg.starts_with('"')).map(|arg| self.name(&strings(arg)));
                if let (Some(Some(from)), Some(Some(to))) = (names.next(), names.next()) {
                    self.events.push(Event::Renamed { from, to });
                }
            }
            "unlink" | "unlinkat" => {
                assert!(!text.contains("AT_FDCWD") || !relative(&args), "not looked at: {text}");
                self.events.extend(self.told(&args).map(|name| Event::Removed { name }));
            }
            "mkdir" | "mkdirat" => self.events.extend(self.told(&args).map(|name| Event::Directory { name })),
            "fsync" | "fdatasync" => {
                let name = self.below(args[0]);
                self.events.extend(name.map(|name| Event::Synced { name, until: since }));
            }
            _ => {}
        }
    }

    fn opened(&mut self, call: &str, args: &[&str], file: u64) {
        let flags = if call == "creat" { "O_CREAT|O_TRUNC" } else { args[2] };
        self.open.insert(file, Open { at: 0, appends: flags.contains("O_APPEND") });
        if let Some(name) = self.told(args).filter(|_| flags.contains("O_CREAT") || flags.contains("O_TRUNC")) {
            self.events.push(Event::Opened { name, emptied: flags.contains("O_TRUNC") });
        }
    }

    fn wrote(&mut self, args: &[&str], result: u64) {
        let file = number(args[0]);
        if file == 1 {
            let said = String::from_utf8_lossy(&strings(&args[1..].join(", "))).into_owned();
            return self.events.extend(said.lines().map(|line| Event::Said(line.into())));
        }
        let at = self.open.get(&file).filter(|open| !open.appends).map(|open| open.at);
        self.moved(file, result);
        let bytes = || strings(&args[1..].join(", "));
        self.below(args[0]).into_iter().for_each(|name| self.put(name, at, bytes(), result));
    }

    fn put(&mut self, name: PathBuf, at: Option<u64>, mut bytes: Vec<u8>, written: u64) {
        let written = usize::try_from(written).expect("what was in memory");
        assert!(bytes.len() >= written, "strace left out some of what was written to {}", name.display());
        bytes.truncate(written);
        self.events.push(Event::Wrote { name, at, bytes });
    }

    fn moved(&mut self, file: u64, by: u64) {
        if let Some(open) = self.open.get_mut(&file) {
            open.at += by;
        }
    }

    /// The file that an argument like `5</a/file>` stands for, if it is one of those.
    fn below(&self, arg: &str) -> Option<PathBuf> {
        let (_, path) = arg.split_once('<')?;
        self.name(&unescaped(path.trim_end_matches('>')))
    }

    /// The file that is named among the arguments.
    fn told(&self, args: &[&str]) -> Option<PathBuf> {
        self.name(&strings(args.iter().find(|arg| arg.starts_with('"'))?))
    }

    fn name(&self, path: &[u8]) -> Option<PathBuf> {
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        path.strip_prefix(self.dir).ok().map(Path::to_path_buf)
    }
}

/// Whether the first name among the arguments is none that begins at the root.
fn relative(args: &[&str]) -> bool {
    args.iter().find(|arg| arg.starts_with('"')).is_some_and(|arg| !strings(arg).starts_with(b"/"))
}

fn number(arg: &str) -> u64 {
    arg.split('<').next().and_then(|number| number.parse().ok()).expect("a file")
}

/// All that stands between quotes, in which each byte is written as `\x2f`.
fn strings(arg: &str) -> Vec<u8> {
    arg.split('"').skip(1).step_by(2).flat_map(unescaped).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let digit = |digit: u8| (digit as char).to_digit(16).map(|digit| digit as u8);
    let byte = |four: &[u8]| match four {
        [b'\\', b'x', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(4).map(|four| byte(four).expect("strace writes each byte as two digits")).collect()
}
