//! Change feeds: how an index follows a table without reading it whole. A feed only marks keys; what they are worth always comes
//! from the rows themselves. Where it has a gap, the index is stale, and the table is read whole again.

use reknit_core::DecodeError;
use reknit_core::canonical::{Reader, put_bytes};
use reknit_core::row::Value;

use super::index::Linked;
use crate::store::embedded::random;
use crate::store::{ImportProgress, StoreError};

/// The fact of an index that says how its feed stands.
const FACT: &str = "feed";
const FORMAT: u8 = 1;
/// Bytes of a nonce.
const NONCE_MAX: usize = 32;

/// How a table notes which of its rows change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    /// Triggers that write keys to a table of their own.
    Triggers,
}

impl FeedKind {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FeedKind::Triggers => "triggers",
        }
    }
}

/// How far a feed was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedMark {
    /// What the feed was told when it was read last: a database that was put back to an earlier state knows another one.
    pub nonce: String,
    /// What it is being told.
    pub next: Option<String>,
}

/// What became of reading a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All that it had was taken and is forgotten there, and it knows the next nonce.
    Told,
    /// All that it had was taken, and comes again: there was nothing, or it could not be told.
    Untold,
    /// There is a gap, with its reason.
    Lost(String),
}

/// Takes keys that a feed has marked.
pub type Take<'a> = &'a mut dyn FnMut(Vec<Vec<Value>>) -> Result<(), StoreError>;

/// The feed of one table for one index.
pub trait Feed {
    /// The statements that install it, in order.
    fn install_sql(&self) -> Vec<String>;

    /// The statements that take away all of it, in order; they do no harm where there is none.
    fn remove_sql(&self) -> Vec<String>;

    /// Forgets what it has, and is told a nonce. What is changed from then on is marked.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn restart(&self, nonce: &str) -> Result<(), StoreError>;

    /// Gives the keys that it has marked since, some at a time, and forgets them once all are taken.
    ///
    /// # Errors
    /// [`StoreError::Database`], or what taking met.
    fn drain(&self, mark: &FeedMark, take: Take<'_>) -> Result<Drained, StoreError>;

    /// How many changes wait to be read, about.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn waiting(&self) -> Result<u64, StoreError>;
}

/// How the feed of an index stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedState {
    /// Which it is.
    pub kind: FeedKind,
    /// Why the table has to be read whole, if it has to.
    pub stale: Option<String>,
    /// How far it was read.
    pub mark: FeedMark,
}

impl FeedState {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT, 0];
        put_bytes(&mut bytes, self.stale.as_deref().unwrap_or_default().as_bytes());
        put_bytes(&mut bytes, self.mark.nonce.as_bytes());
        put_bytes(&mut bytes, self.mark.next.as_deref().unwrap_or_default().as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<FeedState, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FORMAT => {}
            other => return Err(DecodeError::Version(other)),
        }
        let kind = match reader.u8()? {
            0 => FeedKind::Triggers,
            _ => return Err(DecodeError::Malformed("kind of a feed")),
        };
        let mut text = |max| {
            let bytes = reader.bytes("bytes of a feed's state", max)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed("state of a feed"))
        };
        let (stale, nonce, next) = (text(usize::from(u16::MAX))?, text(NONCE_MAX)?, text(NONCE_MAX)?);
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        reader.end()?;
        Ok(FeedState { kind, stale: some(stale), mark: FeedMark { nonce, next: some(next) } })
    }
}

/// What following a table came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Rows that were read.
    pub read: u64,
    /// Those that the index had otherwise, or not, or that had gone.
    pub changed: u64,
    /// Why the table was read whole though it has a feed, if it was.
    pub stale: Option<String>,
}

impl Linked {
    /// Makes the index tell what the table holds: by its feed, or by reading it whole.
    ///
    /// # Errors
    /// As for [`Linked::refresh`].
    pub fn follow_table(&self, progress: &mut dyn FnMut(ImportProgress)) -> Result<Followed, StoreError> {
        let Some(mut state) = self.feed_state()? else {
            let read = self.refresh(progress)?;
            return Ok(Followed { read: read.records, changed: read.changed, stale: None });
        };
        if state.stale.is_none() {
            let before = self.index().cut().commit;
            let (drained, read) = self.drain(&mut state, progress)?;
            match drained {
                Drained::Lost(why) => state.stale = Some(why),
                Drained::Told | Drained::Untold => {
                    let changed = self.index().cut().commit - before;
                    return Ok(Followed { read, changed, stale: None });
                }
            }
        }
        // Whoever is stopped in the middle finds it stale again.
        // One that was never read has no gap.
        let why = state.stale.clone().filter(|_| !state.mark.nonce.is_empty());
        self.keep_feed(Some(&state))?;
        let nonce = nonce()?;
        self.feed(state.kind)?.restart(&nonce)?;
        let read = self.refresh(progress)?;
        state.stale = None;
        state.mark = FeedMark { nonce, next: None };
        self.keep_feed(Some(&state))?;
        Ok(Followed { read: read.records, changed: read.changed, stale: why })
    }

    fn drain(
        &self,
        state: &mut FeedState,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<(Drained, u64), StoreError> {
        // One that is there already may have been told, by whoever was stopped then.
        if state.mark.next.is_none() {
            state.mark.next = Some(nonce()?);
            self.keep_feed(Some(state))?;
        }
        let mut so_far = ImportProgress::default();
        let drained = self.feed(state.kind)?.drain(&state.mark, &mut |keys| {
            so_far.read += keys.len() as u64;
            let mut taken: Vec<Vec<u8>> = keys.iter().map(|key| self.key_of(key)).collect();
            taken.sort_unstable();
            taken.dedup();
            self.look(&taken)?;
            progress(so_far);
            // What the feed forgets is durable here.
            self.index().sync()
        })?;
        if drained == Drained::Told {
            state.mark = FeedMark { nonce: state.mark.next.take().unwrap_or_default(), next: None };
            self.keep_feed(Some(state))?;
        }
        Ok((drained, so_far.read))
    }

    /// The key, encoded, of its values as the table has them.
    fn key_of(&self, values: &[Value]) -> Vec<u8> {
        self.shape().key_from(values.to_vec())
    }

    /// How the feed of this index stands, if it has one.
    ///
    /// # Errors
    /// What the index met.
    pub fn feed_state(&self) -> Result<Option<FeedState>, StoreError> {
        let Some(bytes) = self.index().fact(FACT)? else { return Ok(None) };
        let damaged = |error| StoreError::damaged(format!("the state of an index's feed: {error}"));
        FeedState::from_bytes(&bytes).map(Some).map_err(damaged)
    }

    fn keep_feed(&self, state: Option<&FeedState>) -> Result<(), StoreError> {
        self.index().set_fact(FACT, state.map(FeedState::to_bytes))
    }

    /// The feed of this index, installed or not.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the table cannot have one, with the reason.
    pub fn feed(&self, kind: FeedKind) -> Result<Box<dyn Feed + '_>, StoreError> {
        if let Some(word) = self.shape().moving_word() {
            let message = format!(
                "rows may come to meet the condition, or no longer meet it, without being changed ({word}): no feed notices \
                 that; without a feed the table is read whole each time"
            );
            return Err(StoreError::database(self.table.place(), message));
        }
        self.table.feed(kind, self.shape(), &self.name)
    }

    /// Installs a feed. The table is read whole once more when the index follows it next.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then nothing was installed.
    pub fn install_feed(&self, kind: FeedKind) -> Result<(), StoreError> {
        let feed = self.feed(kind)?;
        self.table.run(&[feed.remove_sql(), feed.install_sql()].concat())?;
        let stale = Some("it was just installed".into());
        self.keep_feed(Some(&FeedState { kind, stale, mark: FeedMark::default() }))
    }

    /// Takes the feed away, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn remove_feed(&self) -> Result<(), StoreError> {
        if let Some(state) = self.feed_state()? {
            let feed = self.feed(state.kind)?;
            self.table.run(&feed.remove_sql())?;
            self.keep_feed(None)?;
        }
        Ok(())
    }
}

fn nonce() -> Result<String, StoreError> {
    Ok(format!("{:016x}", random()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_these_bytes() {
        let mark = FeedMark { nonce: "ab".into(), next: None };
        let state = FeedState { kind: FeedKind::Triggers, stale: Some("x".into()), mark };
        let bytes = state.to_bytes();
        assert_eq!(bytes, [1, 0, 1, b'x', 2, b'a', b'b', 0]);
        assert_eq!(FeedState::from_bytes(&bytes), Ok(state));
        for cut in 0..bytes.len() {
            assert!(FeedState::from_bytes(&bytes[..cut]).is_err());
        }
    }
}
