//! Keys that took the place of others, as a home knows them of its peers: in its file of peers, so that whatever is decided by a
//! key holds for all keys of that peer.
//!
//! What a statement says and who is who by it is the core's concern; a home's own keys are in [`super::rotation`].

use reknit_core::Millis;
use reknit_core::succession::{self, Lines, Next, NotTaken, Statement};

use super::home::{File, Home, HomeError, SuccessionEntry, hex, unhex};
use crate::clock::now_ms;
use crate::transport::PeerId;

/// What statements begin with where they are typed.
const TYPED: &str = "reknit-key-";

/// Statements as they are typed.
pub fn statements_typed(statements: &[u8]) -> String {
    format!("{TYPED}{}", hex(statements))
}

impl File {
    /// Writes down which keys are one peer.
    pub(super) fn keep(&mut self, lines: &Lines) {
        let entry = |(old, next): (&[u8; 32], &Next)| SuccessionEntry {
            old: PeerId(*old).to_string(),
            new: PeerId(next.new).to_string(),
            until_ms: next.until as i64,
        };
        self.succession = lines.all().map(entry).collect();
    }
}

impl Home {
    /// Which keys are one peer, as far as this home was told.
    ///
    /// # Errors
    /// As for [`Home::peers`].
    pub fn lines(&self) -> Result<Lines, HomeError> {
        self.lines_of(&self.read()?)
    }

    /// All keys of the peer that a key stands for, the newest first; that key alone where the home cannot be read.
    pub(super) fn line(&self, key: PeerId) -> Vec<PeerId> {
        self.lines().unwrap_or_default().line(key.0).into_iter().map(PeerId).collect()
    }

    pub(super) fn lines_of(&self, file: &File) -> Result<Lines, HomeError> {
        let key = |text: &str| -> Result<[u8; 32], HomeError> {
            let peer: Result<PeerId, _> = text.parse();
            Ok(peer.map_err(|error| self.malformed(format!("succession of `{text}`: {error}")))?.0)
        };
        let mut all = Vec::new();
        for SuccessionEntry { old, new, until_ms } in &file.succession {
            all.push((key(old)?, Next { new: key(new)?, until: *until_ms as u64 }));
        }
        Lines::new(all).map_err(|error| self.malformed(format!("the successions contradict each other: {error}")))
    }

    /// Believes statements as they are typed, of a peer that is known here; says by which keys it is known now, the newest first.
    ///
    /// # Errors
    /// [`HomeError::Disbelieved`], or as for [`Home::peers`].
    pub fn succeed(&self, typed: &str) -> Result<Vec<PeerId>, HomeError> {
        let bytes = typed.trim().strip_prefix(TYPED).and_then(unhex);
        let whole = "this is not a whole statement; copy all of it, from `reknit-key-` to its end";
        let statements = self.believed(&bytes.ok_or_else(|| HomeError::Disbelieved(whole.into()))?, None)?;
        let newest = statements.last().map(|last| last.succession.new).unwrap_or_default();
        Ok(self.lines()?.line(newest).into_iter().map(PeerId).collect())
    }

    /// Believes statements that were shown by a peer which has proven to have one of their keys. That of an `address` is believed
    /// though it may nothing here.
    pub(super) fn shown(&self, bytes: &[u8], by: PeerId, address: Option<PeerId>) -> Result<(), HomeError> {
        let of = |statement: &Statement| [statement.succession.old, statement.succession.new].contains(&by.0);
        let not_its_own = || HomeError::Disbelieved("whoever showed it has none of its keys".into());
        match succession::decode_all(bytes) {
            Ok(all) if !all.iter().any(of) => Err(not_its_own()),
            _ => self.believed(bytes, address).map(drop),
        }
    }

    fn believed(&self, bytes: &[u8], address: Option<PeerId>) -> Result<Vec<Statement>, HomeError> {
        // (M26)
        let disbelieved = |why: &dyn std::fmt::Display| HomeError::Disbelieved(why.to_string());
        let statements = succession::decode_all(bytes).map_err(|error| disbelieved(&error))?;
        if !statements.iter().all(|one| one.holds(|key, signed, by| PeerId(*key).verify(signed, by))) {
            return Err(disbelieved(&"a signature does not hold"));
        }
        let authority = self.authority();
        // Looked at beforehand: what is known costs no writing.
        let (file, mut lines) = (self.read()?, self.lines()?);
        let taken = self.entered(&file, &mut lines, &statements, (address, authority.as_ref()));
        match taken? {
            news if news.is_empty() => return Ok(statements),
            _ => {}
        }
        let news = self.change(|file| {
            let mut lines = self.lines_of(file)?;
            let news = self.entered(file, &mut lines, &statements, (address, authority.as_ref()))?;
            for statement in &news {
                let (old, new) = (PeerId(statement.succession.old), PeerId(statement.succession.new));
                self.rename(file, old, new)?;
            }
            file.keep(&lines);
            Ok(news)
        })?;
        for Statement { succession, .. } in news {
            let (old, new) = (PeerId(succession.old), PeerId(succession.new));
            tracing::info!(peer = %old, by = %new, until_ms = succession.until, "a peer has a new key");
        }
        Ok(statements)
    }

    /// Enters those statements that follow on a key which is known; gives those that were news.
    fn entered(
        &self,
        file: &File,
        lines: &mut Lines,
        statements: &[Statement],
        (address, authority): (Option<PeerId>, Option<&super::Authority>),
    ) -> Result<Vec<Statement>, HomeError> {
        let mut known = false;
        let mut news = Vec::new();
        for statement in statements {
            let old = PeerId(statement.succession.old);
            known = known
                || address == Some(old)
                || lines.line(old.0).len() > 1
                || self.granted(file, lines, old)?.is_some()
                || authority.is_some_and(|authority| authority(old).is_some());
            if !known {
                continue;
            }
            match lines.take(&statement.succession) {
                Ok(true) => news.push(statement.clone()),
                Ok(false) => {}
                Err(error) => {
                    if let NotTaken::Another { known } = error {
                        tracing::warn!(peer = %old, known = %PeerId(known), by = %PeerId(statement.succession.new), "{error}");
                    }
                    return Err(HomeError::Disbelieved(error.to_string()));
                }
            }
        }
        // Whoever is known by the newest key alone has nothing to tell.
        let newest = statements.last().map(|last| PeerId(last.succession.new));
        let admitted = |key: PeerId| -> Result<bool, HomeError> {
            let granted = self.granted(file, lines, key)?.is_some();
            Ok(granted || address == Some(key) || authority.is_some_and(|authority| authority(key).is_some()))
        };
        match known || newest.map(admitted).transpose()? == Some(true) {
            true => Ok(news),
            false => Err(HomeError::Disbelieved("it is of no peer that is known here".into())),
        }
    }

    /// When the next old key is over.
    pub(super) fn next_end(&self) -> Option<Millis> {
        self.lines().ok()?.next_end(now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::KnownPeer;
    use crate::transport::Identity;
    use reknit_core::message::Rights;
    use reknit_core::succession::Succession;

    fn stated(old: &Identity, new: &Identity, until: Millis) -> Vec<u8> {
        let succession = Succession { old: old.peer().0, new: new.peer().0, made: until.saturating_sub(9), until };
        let signed = succession.signed();
        Statement { succession, signatures: (old.sign(&signed), new.sign(&signed)) }.encode()
    }

    fn identities<const N: usize>() -> [Identity; N] {
        std::array::from_fn(|_| Identity::generate().expect("randomness"))
    }

    #[test]
    fn all_keys_of_a_peer_may_the_same_until_the_old_ones_are_over_and_are_taken_away_together() {
        let home = Home::in_memory();
        let [old, new, newer, stranger] = identities();
        let add = |peer| home.add_peer(&KnownPeer { peer, may: Rights::READ.into(), name: Some("bern".into()) });
        add(old.peer()).expect("added");
        let far = now_ms() + 1_000_000;
        home.shown(&stated(&old, &new, far), new.peer(), None).expect("believed");
        let may = |of: &Identity| home.grants(of.peer()).expect("read");
        assert_eq!((may(&old), may(&new)), (Some(Rights::READ.into()), Some(Rights::READ.into())));
        let listed = home.peers().expect("read");
        assert_eq!((listed.len(), listed[0].peer, listed[0].name.as_deref()), (1, new.peer(), Some("bern")));
        assert!(matches!(add(old.peer()), Err(HomeError::Succeeded { .. })));
        // What is said later is never longer, but may be shorter.
        home.shown(&stated(&old, &new, 5), new.peer(), None).expect("believed");
        assert_eq!((may(&old), may(&new)), (None, Some(Rights::READ.into())));
        let both = [stated(&old, &new, 5), stated(&new, &newer, far)].concat();
        assert_eq!(home.succeed(&statements_typed(&both)).expect("believed"), [&newer, &new, &old].map(Identity::peer));
        assert_eq!(home.admitted().expect("read").len(), 2);
        assert!(home.remove_peer(new.peer()).expect("removed"));
        assert_eq!((may(&old), may(&new), may(&newer), may(&stranger)), (None, None, None, None));
        assert!(home.lines().expect("read").all().next().is_none());
    }

    #[test]
    fn what_no_known_key_has_signed_is_not_believed() {
        let home = Home::in_memory();
        let [old, new, other] = identities();
        let far = now_ms() + 1_000_000;
        let good = stated(&old, &new, far);
        let refused = |bytes: &[u8], by: &Identity| {
            assert!(matches!(home.shown(bytes, by.peer(), None), Err(HomeError::Disbelieved(_))));
        };
        refused(&good, &new);
        home.add_peer(&KnownPeer { peer: old.peer(), may: Rights::READ.into(), name: None }).expect("added");
        refused(&good, &other);
        let mut forged = good.clone();
        *forged.last_mut().expect("bytes") ^= 1;
        refused(&forged, &new);
        refused(&good[1..], &new);
        assert_eq!(home.grants(new.peer()).expect("read"), None);
        home.shown(&good, new.peer(), None).expect("believed");
        // Whoever has stolen the old key cannot name another.
        refused(&stated(&old, &other, far), &other);
        assert_eq!(home.grants(other.peer()).expect("read"), None);
        // Nor can a peer make another its successor: that one has to sign.
        let by_one = |succession: Succession| {
            let signed = succession.signed();
            Statement { succession, signatures: (new.sign(&signed), new.sign(&signed)) }.encode()
        };
        refused(&by_one(Succession { old: new.peer().0, new: other.peer().0, made: far, until: far }), &new);
    }

    #[test]
    fn whoever_is_known_by_the_newest_key_alone_has_nothing_to_tell() {
        let home = Home::in_memory();
        let [old, new] = identities();
        home.add_peer(&KnownPeer { peer: new.peer(), may: Rights::READ.into(), name: None }).expect("added");
        home.shown(&stated(&old, &new, now_ms() + 1_000_000), new.peer(), None).expect("nothing is wrong");
        assert_eq!(home.grants(old.peer()).expect("read"), None, "no stranger's old key is let in");
        assert!(home.lines().expect("read").all().next().is_none());
        let elsewhere = Home::in_memory();
        elsewhere.shown(&stated(&old, &new, 5), new.peer(), Some(new.peer())).expect("nothing is wrong");
        assert!(elsewhere.lines().expect("read").all().next().is_none());
    }

    #[test]
    fn the_peer_of_an_address_is_followed_though_it_may_nothing_here() {
        let home = Home::in_memory();
        let [old, new] = identities();
        home.shown(&stated(&old, &new, 5), old.peer(), Some(old.peer())).expect("believed");
        assert_eq!(home.lines().expect("read").newest(old.peer().0), new.peer().0);
        assert_eq!((home.grants(old.peer()).expect("read"), home.grants(new.peer()).expect("read")), (None, None));
    }
}
