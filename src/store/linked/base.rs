//! Two tables that were equal once: what has changed since on either side is known to their indexes, as long as each table is
//! still the one that it was.
//!
//! What follows from that for what differs is said in [`reknit_core::session::Base`].

use reknit_core::Millis;
use reknit_core::canonical::{Reader, put_bytes};
use reknit_core::session;

use super::{Linked, Standing};
use crate::store::StoreError;
use crate::store::embedded::{Changed, random};

/// The name of the fact that holds where a table stood.
const FACT: &str = "standing";
/// Bytes of what a table is known by.
const IDENTITY_BYTES_MAX: usize = 4_096;

/// What two tables have changed since they were equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// When they were.
    pub at: Millis,
    /// What the keys that either has changed since were then.
    pub base: session::Base,
}

impl Linked {
    /// Whether the table is still what it was when it was last asked, and not gone back. If not, it is not known any more
    /// what has changed since it was equal to others, and why is told, if that was known before.
    ///
    /// # Errors
    /// [`StoreError::Database`], or what the index met.
    pub fn recognise(&self) -> Result<Option<String>, StoreError> {
        let now = self.table().standing()?;
        let before = self.index().fact(FACT)?.and_then(|bytes| decode(&bytes));
        self.index().set_fact(FACT, Some(encode(&now)))?;
        let why = match before {
            Some(before) if before.identity != now.identity => "the database or the table is another than before",
            Some(before) if before.at > now.at => "the database has gone back to an earlier state",
            _ => return Ok(None),
        };
        let known = self.index().drop_bases()?;
        Ok(known.then(|| why.to_string()))
    }

    /// From now on it is known what changes on either side.
    pub fn keep_changes(&self, other: &Linked) {
        [self, other].iter().for_each(|linked| linked.index().keep_changes());
    }

    /// What this table and another have changed since they were proven equal; nothing if they never were, or if that is not
    /// known any more.
    ///
    /// # Errors
    /// What the indexes met.
    pub fn since(&self, other: &Linked) -> Result<Option<Since>, StoreError> {
        let (mine, theirs) = (self.index().base(other.name()), other.index().base(self.name()));
        let (Some(mine), Some(theirs)) = (mine, theirs) else { return Ok(None) };
        if mine.id != theirs.id {
            return Ok(None);
        }
        let here = self.index().changed_since(other.name(), &mine)?;
        let mut was = other.index().changed_since(self.name(), &theirs)?;
        for (key, entry) in here {
            // They were equal then: whatever tells otherwise tells nothing.
            if was.get(&key).is_some_and(|other| *other != entry) {
                was.remove(&key);
            } else {
                was.insert(key, entry);
            }
        }
        Ok(Some(Since { at: mine.at, base: session::Base { was, deletes: false } }))
    }

    /// Notes that at these commits both tables were equal, but for keys of which is told what they were when they were.
    ///
    /// # Errors
    /// What the indexes met.
    pub fn note_equal(&self, other: &Linked, commits: (u64, u64), except: &Changed) -> Result<(), StoreError> {
        let id = random()?;
        let noted = self.index().set_base(other.name(), (id, commits.0), except)?;
        if noted {
            other.index().set_base(self.name(), (id, commits.1), except)?;
        }
        Ok(())
    }
}

fn encode(standing: &Standing) -> Vec<u8> {
    let mut bytes = standing.at.to_be_bytes().to_vec();
    put_bytes(&mut bytes, standing.identity.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Standing> {
    let mut reader = Reader::new(bytes);
    let at = reader.u64().ok()?;
    let identity = reader.bytes("what a table is known by", IDENTITY_BYTES_MAX).ok()?;
    Some(Standing { identity: String::from_utf8(identity.to_vec()).ok()?, at })
}
