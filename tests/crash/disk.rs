//! A disk with files by name, of which a crash keeps what was synced and some of the rest: a prefix of what became of names, as file
//! systems with a journal keep it, and of the bytes of each file anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use reknit::store::engine::conformance::Draw;

use crate::calls::Event;
use crate::process::written;

const SECTOR: usize = 512;

/// The bytes of a file without the zeroes at its end, and its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bytes(Vec<u8>, u64);

#[derive(Clone, Debug)]
enum Change {
    Wrote(u64, Vec<u8>),
    Length(u64),
}

/// A file, whatever its name.
#[derive(Clone, Debug, Default)]
struct Inode {
    solid: Bytes,
    now: Bytes,
    /// What came since it was synced, each with the number of its event.
    since: Vec<(usize, Change)>,
}

type Names = BTreeMap<PathBuf, usize>;

#[derive(Clone, Debug)]
enum Naming {
    Is(PathBuf, usize),
    Gone(PathBuf),
    Renamed(PathBuf, PathBuf),
}

/// What there is, and what of it would outlive a crash.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    inodes: Vec<Inode>,
    solid: Names,
    now: Names,
    /// What became of names since a directory was synced, each with the number of its event.
    since: Vec<(usize, Naming)>,
    dirs: BTreeSet<PathBuf>,
    events: usize,
}

impl Bytes {
    fn write(&mut self, at: u64, bytes: &[u8]) {
        let from = usize::try_from(at).expect("a small file");
        let to = from + bytes.len();
        if self.0.len() < to {
            self.0.resize(to, 0);
        }
        self.0[from..to].copy_from_slice(bytes);
        self.1 = self.1.max(to as u64);
        self.trim();
    }

    fn set_length(&mut self, length: u64) {
        self.0.truncate(usize::try_from(length).expect("a small file"));
        self.1 = length;
        self.trim();
    }

    fn trim(&mut self) {
        self.0.truncate(self.0.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Wrote(at, bytes) => self.write(*at, bytes),
            Change::Length(length) => self.set_length(*length),
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Naming::Is(name, inode) => drop(names.insert(name.clone(), *inode)),
            Naming::Gone(name) => drop(names.remove(name)),
            Naming::Renamed(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl Disk {
    /// All files below a directory, synced.
    pub(crate) fn read(dir: &Path) -> Disk {
        let mut disk = Disk::default();
        let mut dirs = vec![dir.to_path_buf()];
        while let Some(next) = dirs.pop() {
            for item in fs::read_dir(next).expect("files") {
                let path = item.expect("a file").path();
                let name = path.strip_prefix(dir).expect("below").to_path_buf();
                if path.is_dir() {
                    disk.dirs.insert(name);
                    dirs.push(path);
                    continue;
                }
                let bytes = Bytes(written(&path), fs::metadata(&path).expect("what it is").len());
                disk.now.insert(name, disk.inodes.len());
                disk.inodes.push(Inode { solid: bytes.clone(), now: bytes, since: Vec::new() });
            }
        }
        disk.solid = disk.now.clone();
        disk
    }

    /// The files that differ from those of another.
    pub(crate) fn other_than(&self, other: &Disk) -> Vec<String> {
        let names: BTreeSet<&PathBuf> = self.now.keys().chain(other.now.keys()).collect();
        let of = |disk: &Disk, name: &PathBuf| disk.now.get(name).map(|inode| disk.inodes[*inode].now.clone());
        let differs = names.into_iter().filter(|name| of(self, name) != of(other, name));
        let shown =
            |bytes: Option<Bytes>| bytes.map_or("none".into(), |bytes| format!("{} of {}", bytes.0.len(), bytes.1));
        let told =
            |name: &PathBuf| format!("{}: {}, {}", name.display(), shown(of(self, name)), shown(of(other, name)));
        differs.map(told).collect()
    }

    /// Lets an event happen.
    pub(crate) fn apply(&mut self, event: &Event) {
        let nth = self.events;
        self.events += 1;
        match event {
            Event::Opened { name, emptied } => match self.now.get(name) {
                Some(_) if *emptied => self.change(nth, name, Change::Length(0)),
                Some(_) => {}
                None => {
                    self.inodes.push(Inode::default());
                    self.name(nth, Naming::Is(name.clone(), self.inodes.len() - 1));
                }
            },
            Event::Wrote { name, at, bytes } => {
                let end = self.now.get(name).map_or(0, |inode| self.inodes[*inode].now.1);
                self.change(nth, name, Change::Wrote(at.unwrap_or(end), bytes.clone()));
            }
            Event::Length { name, length } => self.change(nth, name, Change::Length(*length)),
            Event::Renamed { from, to } => self.name(nth, Naming::Renamed(from.clone(), to.clone())),
            Event::Removed { name } => self.name(nth, Naming::Gone(name.clone())),
            Event::Directory { name } => drop(self.dirs.insert(name.clone())),
            Event::Synced { name, until } => self.sync(name, *until),
            Event::Said(_) => {}
        }
    }

    /// Lets a sync come to nothing.
    pub(crate) fn pass(&mut self) {
        self.events += 1;
    }

    /// Whether a crash now may leave names that were.
    pub(crate) fn is_naming(&self) -> bool {
        !self.since.is_empty()
    }

    fn name(&mut self, nth: usize, naming: Naming) {
        naming.apply(&mut self.now);
        self.since.push((nth, naming));
    }

    /// What is written to a file that has no name any more is nothing to a crash.
    fn change(&mut self, nth: usize, name: &Path, change: Change) {
        let Some(inode) = self.now.get(name) else { return };
        let inode = &mut self.inodes[*inode];
        inode.now.change(&change);
        inode.since.push((nth, change));
    }

    fn sync(&mut self, name: &Path, until: usize) {
        let Some(inode) = self.now.get(name) else {
            let over = self.since.iter().take_while(|(nth, _)| *nth < until).count();
            self.since.drain(..over).for_each(|(_, naming)| naming.apply(&mut self.solid));
            return;
        };
        let Inode { solid, since, .. } = &mut self.inodes[*inode];
        let over = since.iter().take_while(|(nth, _)| *nth < until).count();
        since.drain(..over).for_each(|(_, change)| solid.change(&change));
    }

    /// Lays into a directory what a crash now may leave; says what that is.
    pub(crate) fn image(&self, draw: &mut Draw, dir: &Path) -> String {
        let names_kept = [self.since.len(), draw.below(self.since.len() + 1)][draw.below(2)];
        let mut names = self.solid.clone();
        self.since[..names_kept].iter().for_each(|(_, naming)| naming.apply(&mut names));
        let mut told = vec![format!("{names_kept} of {} names", self.since.len())];
        for name in &self.dirs {
            fs::create_dir_all(dir.join(name)).expect("a directory");
        }
        for (name, inode) in &names {
            let inode = &self.inodes[*inode];
            let mut bytes = inode.solid.clone();
            if !inode.since.is_empty() {
                told.push(format!("{}: {}", name.display(), crashed(&mut bytes, &inode.since, draw)));
            }
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(&path, &bytes.0).expect("written");
            fs::OpenOptions::new().write(true).open(&path).and_then(|open| open.set_len(bytes.1)).expect("its length");
        }
        told.join(", ")
    }
}

/// Some of what came since a file was synced: all, a beginning of it, or some of its sectors.
fn crashed(bytes: &mut Bytes, since: &[(usize, Change)], draw: &mut Draw) -> String {
    let shape = draw.below(4);
    let kept = if shape == 1 { draw.below(since.len() + 1) } else { since.len() };
    for (_, change) in &since[..kept] {
        match change {
            Change::Wrote(at, new) if shape > 1 => {
                // Sectors are there or not, in any order.
                let one_in = if shape == 2 { 2 } else { 6 };
                let (mut start, begin) = (0, usize::try_from(*at).expect("a small file"));
                while start < new.len() {
                    let end = new.len().min((begin + start) / SECTOR * SECTOR + SECTOR - begin);
                    if draw.below(one_in) > 0 {
                        bytes.write(*at + start as u64, &new[start..end]);
                    }
                    start = end;
                }
            }
            change => bytes.change(change),
        }
    }
    if let Some((_, Change::Wrote(at, new))) = since.get(kept) {
        bytes.write(*at, &new[..draw.below(new.len() + 1)]);
    }
    format!("{kept} of {} changes in shape {shape}", since.len())
}
