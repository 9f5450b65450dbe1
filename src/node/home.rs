//! The home of a node: its identity, the peers that it knows and what they may. How invitations are taken up is said in
//! [`super::invitations`].
//!
//! Files that people may read and edit; every change is written whole and renamed into place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reknit_core::DatasetId;
use reknit_core::receipt::Receipt;
use reknit_core::succession::Lines;
use serde::{Deserialize, Serialize};

use super::invitations::InvitationEntry;
use super::{Declared, Grants, GrantsError, whole_file};
use crate::clock::now_ms;
use crate::transport::{Identity, IdentityError, PeerId};

pub(super) const IDENTITY: &str = "identity.key";
const PEERS: &str = "peers.toml";
const CONFIG: &str = "config.toml";
const SOCKET: &str = "control.sock";
const LOCK: &str = "lock";
const JOBS: &str = "jobs";
const ALERTS: &str = "alerts";
const DRIFT: &str = "drift";
const TABLES: &str = "tables";
/// Bytes of what people type; a ticket with a definition of many collections is the longest.
const TYPED_BYTES_MAX: usize = 4 << 20;

/// Why a home cannot be used. Nothing was changed unless it is said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// A file of the home cannot be read or written.
    #[error("{path} in the home cannot be used: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file of the home is not understood.
    #[error("{path}: {reason}; mend the file or remove the entry")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Another node runs in this home.
    #[error("another node runs in the home {0}; stop it, or name another home with --home")]
    InUse(PathBuf),
    /// A key goes on beside the one that took its place.
    #[error("the key before this one goes on for {}; wait until then, or end it at once with --overlap 0", left(*.left_ms))]
    Overlap {
        /// For how long, in milliseconds.
        left_ms: u64,
    },
    /// Another key has taken the place of this one.
    #[error("{peer} has the key {by} now; name that one, or remove the peer first")]
    Succeeded {
        /// The peer by the older key.
        peer: PeerId,
        /// Its newest key.
        by: PeerId,
    },
    /// What was stated of keys is not believed.
    #[error("the statement is not believed: {0}; nothing was changed")]
    Disbelieved(String),
}

fn left(left_ms: u64) -> String {
    match left_ms.div_ceil(1000) {
        seconds @ 0..7200 => format!("{seconds} s"),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// A peer as the home knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who it is.
    pub peer: PeerId,
    /// What it may do here.
    pub may: Grants,
    /// A name for people.
    pub name: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peer: Vec<PeerEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) succession: Vec<SuccessionEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) invitation: Vec<InvitationEntry>,
}

/// Which key follows another.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuccessionEntry {
    pub(super) old: String,
    pub(super) new: String,
    pub(super) until_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerEntry {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    may: Vec<String>,
}

/// Decides what a peer may that is not in the file of peers; none: it is not admitted.
pub type Authority = Arc<dyn Fn(PeerId) -> Option<Grants> + Send + Sync>;

/// Which file of peers, how long, and when it was changed, if there is one; and how often others were declared.
pub(super) type VersionOfPeers = (Option<(u64, u64, [i64; 4])>, u64);

/// The directory of a node.
#[derive(Clone)]
pub struct Home {
    dir: PathBuf,
    /// What else would be files, of a home that has no directory.
    memory: Option<Arc<Mutex<Memory>>>,
    authority: Option<Authority>,
    /// What a configuration says of peers.
    pub(super) declared: Option<Arc<Declared>>,
}

/// What a home without a directory holds.
#[derive(Default)]
pub(super) struct Memory {
    peers: String,
    /// How often those were changed.
    changes: u64,
    pub(super) receipts: BTreeMap<DatasetId, Vec<Receipt>>,
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Home").field(&self.dir).finish()
    }
}

/// What a peer was granted, and what is decided of datasets on which it was granted nothing.
pub(super) fn beside(granted: Option<Grants>, decided: Option<Grants>) -> Option<Grants> {
    match (granted, decided) {
        (Some(granted), Some(decided)) => Some(decided.beside(&granted).and(&granted)),
        (granted, decided) => granted.or(decided),
    }
}

impl Home {
    /// The home at `dir`, created (0700) if it is not there.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn open(dir: &Path) -> Result<Home, HomeError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|cause| HomeError::Io { path: dir.into(), cause })?;
        Ok(Home { dir: dir.into(), memory: None, authority: None, declared: None })
    }

    /// A home without a directory: what it knows is gone with its last clone, and each time that it is asked for its identity
    /// it has another.
    pub fn in_memory() -> Home {
        Home { dir: PathBuf::from("memory"), memory: Some(Arc::default()), authority: None, declared: None }
    }

    /// The same home, where somebody decides what peers may that are not in its file. It is asked at each session, and each
    /// second of gossip with such a peer, from async threads: it must not take long.
    #[must_use]
    pub fn with_authority(self, authority: Authority) -> Home {
        Home { authority: Some(authority), ..self }
    }

    pub(super) fn memory(&self) -> Option<MutexGuard<'_, Memory>> {
        Some(self.memory.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who decides on peers that are not in the file, whichever of their keys it knows.
    pub(super) fn authority(&self) -> Option<Authority> {
        let (authority, lines) = (self.authority.clone()?, self.lines().unwrap_or_default());
        Some(Arc::new(move |peer| match lines.ended(&peer.0, now_ms()) {
            true => None,
            false => authority(peer).or_else(|| lines.line(peer.0).into_iter().find_map(|key| authority(PeerId(key)))),
        }))
    }

    /// What tells what peers may now from what they might before.
    pub(super) fn version_of_peers(&self) -> VersionOfPeers {
        let declared = self.declared.as_ref().map_or(0, |declared| declared.changes());
        if let Some(memory) = self.memory() {
            return (Some((0, memory.changes, [0; 4])), declared);
        }
        let of = |facts: fs::Metadata| {
            (facts.ino(), facts.len(), [facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()])
        };
        (fs::metadata(self.peers_file()).ok().map(of), declared)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where commands reach the node that holds this home.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Where peers and what they may are written down.
    pub fn peers_file(&self) -> PathBuf {
        self.dir.join(PEERS)
    }

    /// Where people write down names and jobs.
    pub fn config(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// Where a file for each job tells what is remembered of it.
    pub fn jobs(&self) -> PathBuf {
        self.dir.join(JOBS)
    }

    /// What operators were told of.
    pub fn alerts(&self) -> PathBuf {
        self.dir.join(ALERTS)
    }

    /// Where what differed between two sides is remembered, a file of each pair.
    pub fn drift(&self) -> PathBuf {
        self.dir.join(DRIFT)
    }

    /// Where a file for each table that is shared tells of which dataset it is.
    pub fn tables(&self) -> PathBuf {
        self.dir.join(TABLES)
    }

    /// The identity of this home, made at its first use.
    ///
    /// # Errors
    /// [`HomeError::Identity`].
    pub fn identity(&self) -> Result<Identity, HomeError> {
        if self.memory.is_some() {
            return Ok(Identity::generate()?);
        }
        let identity = Identity::load_or_create(&self.dir.join(IDENTITY))?;
        self.with_keys_before(identity)
    }

    /// Holds the home for one node, until the file is dropped.
    ///
    /// # Errors
    /// [`HomeError::InUse`].
    pub fn hold(&self) -> Result<fs::File, HomeError> {
        let path = self.dir.join(LOCK);
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|cause| HomeError::Io { path, cause })?;
        file.try_lock().map_err(|_| HomeError::InUse(self.dir.clone()))?;
        Ok(file)
    }

    /// The peers that may something, in the order in which they were added, then those that are declared alone.
    ///
    /// # Errors
    /// [`HomeError::Malformed`] names the entry.
    pub fn peers(&self) -> Result<Vec<KnownPeer>, HomeError> {
        let file = self.read()?;
        let lines = self.lines_of(&file)?;
        self.peers_in(&file, &lines)
    }

    fn peers_in(&self, file: &File, lines: &Lines) -> Result<Vec<KnownPeer>, HomeError> {
        let listed = file.peer.iter().map(|entry| self.peer(entry)).collect::<Result<Vec<_>, _>>()?;
        let all = self.with_those_declared(listed, lines);
        Ok(all.into_iter().filter(|known| !known.may.is_empty()).collect())
    }

    /// What a peer may do here, by any of its keys that is not over; nobody may anything until added.
    ///
    /// # Errors
    /// As for [`Home::peers`].
    pub fn grants(&self, peer: PeerId) -> Result<Option<Grants>, HomeError> {
        let file = self.read()?;
        let lines = self.lines_of(&file)?;
        if lines.ended(&peer.0, now_ms()) {
            return Ok(None);
        }
        let granted = self.granted(&file, &lines, peer)?;
        // Who was removed is let in by nobody else.
        if granted.is_none() && self.was_removed(&file, &lines, peer) {
            return Ok(None);
        }
        Ok(beside(granted, self.authority().and_then(|authority| authority(peer))))
    }

    /// All keys that are admitted by the file, each with what it may.
    pub(super) fn admitted(&self) -> Result<Vec<KnownPeer>, HomeError> {
        let lines = self.lines()?;
        let keys = |known: KnownPeer| {
            let line = lines.line(known.peer.0).into_iter().filter(|key| !lines.ended(key, now_ms()));
            line.map(move |key| KnownPeer { peer: PeerId(key), ..known.clone() }).collect::<Vec<_>>()
        };
        Ok(self.peers()?.into_iter().flat_map(keys).collect())
    }

    /// What the file grants a peer, by whichever of its keys it is listed.
    pub(super) fn granted(&self, file: &File, lines: &Lines, peer: PeerId) -> Result<Option<Grants>, HomeError> {
        let line = lines.line(peer.0);
        Ok(self.peers_in(file, lines)?.into_iter().find(|known| line.contains(&known.peer.0)).map(|known| known.may))
    }

    /// Whether the file lists a peer without any right.
    fn was_removed(&self, file: &File, lines: &Lines, peer: PeerId) -> bool {
        let line = lines.line(peer.0);
        file.peer
            .iter()
            .any(|entry| entry.may.is_empty() && entry.id.parse().is_ok_and(|id: PeerId| line.contains(&id.0)))
    }

    /// Lists a peer by its newer key from now on.
    pub(super) fn rename(&self, file: &mut File, old: PeerId, new: PeerId) -> Result<(), HomeError> {
        let Some(at) = file.peer.iter().position(|entry| entry.id.parse() == Ok(old)) else { return Ok(()) };
        if file.peer.iter().all(|entry| entry.id.parse() != Ok(new)) {
            file.peer[at].id = new.to_string();
            return Ok(());
        }
        let before = file.peer.remove(at);
        let may = self.rights_named(&before.may)?;
        self.grant_in(file, new, &may)
    }

    /// Adds a peer, or changes what it may.
    ///
    /// # Errors
    /// As for [`Home::peers`], [`HomeError::Succeeded`] for an older key, or the file could not be written.
    pub fn add_peer(&self, peer: &KnownPeer) -> Result<(), HomeError> {
        self.change(|file| {
            let by = PeerId(self.lines_of(file)?.newest(peer.peer.0));
            if by != peer.peer {
                return Err(HomeError::Succeeded { peer: peer.peer, by });
            }
            file.peer.retain(|entry| entry.id.parse() != Ok(peer.peer));
            let may = peer.may.names();
            file.peer.push(PeerEntry { id: peer.peer.to_string(), name: peer.name.clone(), may });
            Ok(())
        })
    }

    /// Lets a peer do more than it may already.
    ///
    /// # Errors
    /// As for [`Home::peers`], or the file could not be written.
    pub fn grant(&self, peer: PeerId, more: &Grants) -> Result<(), HomeError> {
        self.change(|file| {
            let newest = PeerId(self.lines_of(file)?.newest(peer.0));
            self.grant_in(file, newest, more)
        })
    }

    /// Removes a peer, by any of its keys, with all of them; says whether it might anything. Where peers
    /// are declared, what is declared of it lets it in no more, until it is added again.
    ///
    /// # Errors
    /// As for [`Home::peers`], or the file could not be written.
    pub fn remove_peer(&self, peer: PeerId) -> Result<bool, HomeError> {
        self.change(|file| {
            let mut lines = self.lines_of(file)?;
            let line = lines.line(peer.0);
            let in_line = |entry: &PeerEntry| entry.id.parse().is_ok_and(|id: PeerId| line.contains(&id.0));
            let listed = file.peer.iter().any(|entry| in_line(entry) && !entry.may.is_empty());
            let known = listed || self.granted(file, &lines, peer)?.is_some() || line.len() > 1;
            // Whoever reads this home may go by declarations that are no longer those here.
            if known || self.declared.is_some() {
                file.peer.retain(|entry| !in_line(entry));
                // A peer that is listed without rights is one that was removed: nothing that is declared lets it in.
                let removed = |key| PeerEntry { id: PeerId(key).to_string(), name: None, may: Vec::new() };
                file.peer.extend(line.into_iter().filter(|_| self.declared.is_some()).map(removed));
            }
            lines.forget(peer.0);
            file.keep(&lines);
            Ok(known)
        })
    }

    pub(super) fn grant_in(&self, file: &mut File, peer: PeerId, more: &Grants) -> Result<(), HomeError> {
        match file.peer.iter_mut().find(|entry| entry.id.parse() == Ok(peer)) {
            Some(entry) => entry.may = self.rights_named(&entry.may)?.and(more).names(),
            None => file.peer.push(PeerEntry { id: peer.to_string(), name: None, may: more.names() }),
        }
        Ok(())
    }

    fn peer(&self, entry: &PeerEntry) -> Result<KnownPeer, HomeError> {
        let peer = entry.id.parse().map_err(|error| self.malformed(format!("peer `{}`: {error}", entry.id)))?;
        Ok(KnownPeer { peer, may: self.rights_named(&entry.may)?, name: entry.name.clone() })
    }

    pub(super) fn rights_named(&self, names: &[String]) -> Result<Grants, HomeError> {
        names.join(",").parse().map_err(|error: GrantsError| self.malformed(error.to_string()))
    }

    pub(super) fn malformed(&self, reason: String) -> HomeError {
        HomeError::Malformed { path: self.dir.join(PEERS), reason }
    }

    pub(super) fn read(&self) -> Result<File, HomeError> {
        if let Some(memory) = self.memory() {
            return toml::from_str(&memory.peers).map_err(|error| self.malformed(error.to_string()));
        }
        let path = self.dir.join(PEERS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
            Err(cause) => return Err(HomeError::Io { path, cause }),
        };
        toml::from_str(&text).map_err(|error| self.malformed(error.to_string()))
    }

    /// Changes the file of peers; one process at a time.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut File) -> Result<T, HomeError>) -> Result<T, HomeError> {
        if let Some(mut memory) = self.memory() {
            let mut file = toml::from_str(&memory.peers).map_err(|error| self.malformed(error.to_string()))?;
            let changed = change(&mut file)?;
            memory.peers = toml::to_string_pretty(&file).map_err(|error| self.malformed(error.to_string()))?;
            memory.changes += 1;
            return Ok(changed);
        }
        let path = self.dir.join(PEERS);
        let io = |cause| HomeError::Io { path: path.clone(), cause };
        let guard = self.dir.join("peers.lock");
        let guard = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(guard);
        let guard = guard.map_err(io)?;
        guard.lock().map_err(io)?;
        let mut file = self.read()?;
        let changed = change(&mut file)?;
        let text = toml::to_string_pretty(&file).map_err(|error| self.malformed(error.to_string()))?;
        // Who was removed must not be let in again because a machine stopped.
        whole_file::replace(&path, &self.dir.join("peers.toml.new"), text.as_bytes()).map_err(io)?;
        Ok(changed)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * TYPED_BYTES_MAX {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    digits.chunks(2).map(|pair| Some((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Invitation, Welcome};
    use reknit_core::message::Rights;

    #[test]
    fn nobody_may_anything_until_added_and_an_invitation_is_used_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("opened");
        let (alice, bob) = (PeerId([1; 32]), PeerId([2; 32]));
        assert_eq!(home.grants(alice).expect("read"), None);
        home.add_peer(&KnownPeer { peer: alice, may: Rights::COMPARE.into(), name: Some("alice".into()) })
            .expect("added");
        home.add_peer(&KnownPeer { peer: alice, may: Rights::ALL.into(), name: None }).expect("changed");
        assert_eq!(home.peers().expect("read").len(), 1);
        assert_eq!(home.grants(alice).expect("read"), Some(Rights::ALL.into()));
        let token_hash = *blake3::hash(b"token").as_bytes();
        home.invite(&Invitation { token_hash, may: Rights::READ.into(), expires: 100 }).expect("invited");
        assert_eq!(home.take_up(b"other", bob, 50).expect("read"), None);
        assert_eq!(home.take_up(b"token", bob, 150).expect("read"), None, "too late");
        let first = Welcome { may: Rights::READ.into(), again: false };
        assert_eq!(home.take_up(b"token", bob, 50).expect("read"), Some(first));
        assert_eq!(home.take_up(b"token", PeerId([3; 32]), 50).expect("read"), None, "used up");
        assert_eq!(home.grants(bob).expect("read"), Some(Rights::READ.into()));
        assert!(home.remove_peer(alice).expect("removed") && !home.remove_peer(alice).expect("removed"));
        let held = home.hold().expect("held");
        assert!(matches!(home.hold(), Err(HomeError::InUse(_))));
        drop(held);
        fs::write(dir.path().join(PEERS), "[[peer]]\nid = \"abc\"\nmay = []\n").expect("written");
        assert!(matches!(home.peers(), Err(HomeError::Malformed { .. })));
    }
}
