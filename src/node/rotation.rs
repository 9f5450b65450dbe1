//! The keys of a home: a new one takes the place of the old, which may go on beside it for a while, and both state that.
//!
//! Who believes such statements, and what follows for rights, is in [`super::succession`]; how they are shown in
//! [`super::introductions`].

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reknit_core::succession::{self, Lines, OVERLAP_MILLIS_MAX, Statement, Succession};

use super::home::{Home, HomeError, IDENTITY, hex, unhex};
use super::whole_file;
use crate::clock::{millis, now_ms};
use crate::transport::{Former, Identity, IdentityError, PeerId};

/// The key that was made first: what was derived from it stays as it is.
const FIRST: &str = "identity.first.key";
/// The key before this one, until the overlap ends.
const FORMER: &str = "identity.former.key";
const STATEMENTS: &str = "identity.statements";
/// Peers that were shown the statements.
const HEARD: &str = "identity.heard";

/// A key that took the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The key before.
    pub old: PeerId,
    /// The key from now on.
    pub new: PeerId,
    /// When the key before is the peer no more, in milliseconds since 1970.
    pub until_ms: u64,
}

impl Home {
    /// Makes a new key for this home, in the place of the one that it has, which is the same peer for an `overlap` of at most 90
    /// days. No node may run here. None for an overlap ends that of the key before, too.
    ///
    /// # Errors
    /// [`HomeError::InUse`]; [`HomeError::Overlap`] while another overlap goes on, or for one that is too long; what the file
    /// system says, for a home in memory that it has none. Then the old key is the only one, as before.
    pub fn rotate(&self, overlap: Duration) -> Result<Rotated, HomeError> {
        if self.memory().is_some() {
            return Err(self.io(STATEMENTS)(std::io::ErrorKind::Unsupported.into()));
        }
        let _held = self.hold()?;
        let (before, now) = (self.identity()?, now_ms());
        let overlap_ms = millis(overlap);
        if let (Some(former), true) = (before.former(), overlap_ms > 0) {
            return Err(HomeError::Overlap { left_ms: former.until_ms.saturating_sub(now) });
        }
        if overlap_ms > OVERLAP_MILLIS_MAX {
            return Err(HomeError::Disbelieved("an overlap is at most 90 days".into()));
        }
        let identity = loop {
            let identity = Identity::generate()?;
            if identity.peer().is_told_from(&before.peer()) {
                break identity;
            }
        };
        let mut statements = self.statements_of(before.peer());
        if let (Some(former), Some(last)) = (before.former(), statements.last_mut()) {
            // The key before the last is over, too.
            *last = stated(&former.identity, &before, last.succession.made, now.max(last.succession.made));
        }
        let until_ms = now.saturating_add(overlap_ms);
        statements.push(stated(&before, &identity, now, until_ms));
        let saved = |name: &str, identity: &Identity| self.replace(name, identity.secret());
        if !self.dir().join(FIRST).exists() {
            saved(FIRST, &before)?;
        }
        saved(FORMER, &before)?;
        let lines: String = statements.iter().map(|statement| hex(&statement.encode()) + "\n").collect();
        self.replace(STATEMENTS, lines.as_bytes())?;
        self.remove(HEARD)?;
        // From here on it is the new one: what was written before says nothing of any other key.
        saved(IDENTITY, &identity)?;
        if overlap_ms == 0 {
            self.remove(FORMER)?;
        }
        Ok(Rotated { old: before.peer(), new: identity.peer(), until_ms })
    }

    /// Whether this home is this peer, by its key or by one that it had before; nothing if it has no key yet, and none is made.
    ///
    /// # Errors
    /// [`HomeError::Identity`].
    pub fn is_peer(&self, peer: PeerId) -> Result<Option<bool>, HomeError> {
        if !self.dir().join(IDENTITY).exists() {
            return Ok(None);
        }
        let me = self.identity()?.peer();
        Ok(Some(me == peer || self.statements_of(me).iter().any(|stated| stated.succession.old == peer.0)))
    }

    /// An identity with the keys before it.
    pub(super) fn with_keys_before(&self, identity: Identity) -> Result<Identity, HomeError> {
        let statements = self.statements_of(identity.peer());
        let Some(last) = statements.last() else { return Ok(identity) };
        let until_ms = last.succession.until;
        let former = match now_ms() < until_ms {
            true => match Identity::load(&self.dir().join(FORMER)) {
                Ok(former) if former.peer().0 == last.succession.old => Some(Arc::new(former)),
                // It was taken away by hand.
                _ => None,
            },
            false => self.remove(FORMER).map(|()| None)?,
        };
        let first = Identity::load(&self.dir().join(FIRST))?;
        let former = former.map(|identity| Former { identity, until_ms });
        Ok(identity.succeeding(first.secret().to_vec(), succession::encode_all(&statements), former))
    }

    /// Whether a peer was shown what the keys of this home state.
    pub(super) fn has_heard(&self, peer: PeerId) -> bool {
        let peer = peer.to_string();
        fs::read_to_string(self.dir().join(HEARD)).is_ok_and(|heard| heard.lines().any(|line| line == peer))
    }

    /// Notes that a peer was shown it. If that fails it is shown again.
    pub(super) fn note_heard(&self, peer: PeerId) {
        let mut file = fs::OpenOptions::new();
        let file = file.create(true).append(true).mode(0o600).open(self.dir().join(HEARD));
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{peer}")) {
            tracing::warn!(%error, "it could not be noted who has heard of the new key");
        }
    }

    /// What leads to a key of this home, the oldest first.
    fn statements_of(&self, peer: PeerId) -> Vec<Statement> {
        let text = fs::read_to_string(self.dir().join(STATEMENTS)).unwrap_or_default();
        let mut all: Vec<Statement> = Vec::new();
        for statement in text.lines().filter_map(|line| Statement::decode(&unhex(line)?).ok()) {
            if all.last().is_some_and(|last| last.succession.new != statement.succession.old) {
                all.clear();
            }
            all.push(statement);
        }
        // A key that was not to be kept in the end has left its statement behind.
        while all.last().is_some_and(|last| last.succession.new != peer.0) {
            all.pop();
        }
        all
    }

    /// Writes a file that is nobody else's, whole.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let (path, new) = (self.dir().join(name), self.dir().join(format!("{name}.new")));
        whole_file::replace(&path, &new, bytes).map_err(self.io(name))
    }

    fn remove(&self, name: &str) -> Result<(), HomeError> {
        match fs::remove_file(self.dir().join(name)) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(self.io(name)(cause)),
            _ => Ok(()),
        }
    }

    fn io(&self, name: &str) -> impl Fn(std::io::Error) -> HomeError {
        let path: PathBuf = Path::join(self.dir(), name);
        move |cause| IdentityError::Io { path: path.clone(), cause }.into()
    }
}

/// The keys that an identity has had, as others know them.
pub(super) fn own_lines(identity: &Identity) -> Lines {
    let shown = succession::decode_all(identity.statements()).unwrap_or_default();
    let mut lines = Lines::default();
    // They follow one another.
    shown.iter().for_each(|statement| _ = lines.take(&statement.succession));
    lines
}

fn stated(old: &Identity, new: &Identity, made: u64, until: u64) -> Statement {
    let succession = Succession { old: old.peer().0, new: new.peer().0, made, until };
    let signed = succession.signed();
    Statement { succession, signatures: (old.sign(&signed), new.sign(&signed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_new_key_takes_the_place_of_the_old_and_changes_no_other_secret() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("opened");
        let first = home.identity().expect("made");
        let rotated = home.rotate(HOUR).expect("rotated");
        let second = home.identity().expect("read");
        assert_eq!((rotated.old, rotated.new), (first.peer(), second.peer()));
        assert_eq!(second.former().expect("it goes on").identity.peer(), first.peer());
        assert_eq!(first.derive("a test"), second.derive("a test"));
        let shown = succession::decode_all(second.statements()).expect("statements");
        assert!(shown[0].holds(|key, signed, by| PeerId(*key).verify(signed, by)));
        assert!(matches!(home.rotate(HOUR), Err(HomeError::Overlap { left_ms }) if left_ms > 3_500_000));
        assert_eq!(home.identity().expect("read").peer(), second.peer());

        // At once: both keys before are over.
        home.note_heard(first.peer());
        home.rotate(Duration::ZERO).expect("rotated");
        let third = home.identity().expect("read");
        assert!(third.former().is_none() && !dir.path().join(FORMER).exists() && !home.has_heard(first.peer()));
        assert_eq!(first.derive("a test"), third.derive("a test"));
        let lines = own_lines(&third);
        assert!(lines.ended(&first.peer().0, now_ms()) && lines.ended(&second.peer().0, now_ms()));
        assert_eq!(lines.line(third.peer().0), [&third, &second, &first].map(|identity| identity.peer().0));
        let shown = succession::decode_all(third.statements()).expect("statements");
        assert!(shown.iter().all(|one| one.holds(|key, signed, by| PeerId(*key).verify(signed, by))));
    }

    #[test]
    fn a_rotation_that_was_cut_short_has_changed_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("opened");
        let first = home.identity().expect("made");
        let key = fs::read(dir.path().join(IDENTITY)).expect("read");
        home.rotate(HOUR).expect("rotated");
        home.replace(IDENTITY, &key).expect("as if it had not come so far");
        let again = home.identity().expect("read");
        assert!(again.peer() == first.peer() && again.former().is_none() && again.statements().is_empty());
        home.rotate(HOUR).expect("rotated");
        assert_eq!(succession::decode_all(home.identity().expect("read").statements()).expect("statements").len(), 1);
        assert!(matches!(home.rotate(Duration::from_secs(91 * 86_400)), Err(HomeError::Overlap { .. })));
        let held = home.hold().expect("held");
        assert!(matches!(home.rotate(Duration::ZERO), Err(HomeError::InUse(_))));
        drop(held);
    }

    #[test]
    fn a_home_without_a_directory_has_no_key_to_replace() {
        assert!(matches!(Home::in_memory().rotate(HOUR), Err(HomeError::Identity(_))));
    }
}
