//! Change feeds: how an index follows a table without reading it whole. A feed only marks keys; what they are worth always comes
//! from the rows themselves. Where it has a gap, the index is stale, and the table is read whole again.

use std::time::{SystemTime, UNIX_EPOCH};

use reknit_core::DecodeError;
use reknit_core::canonical::{Reader, put_bytes};
use reknit_core::row::Value;

use super::index::Linked;
use super::kept::KeptScan;
use crate::store::embedded::random;
use crate::store::{ImportProgress, StoreError};

/// The fact of an index that says how its feed stands.
const FACT: &str = "feed";
const FORMAT: u8 = 2;
/// The format before, which knew no positions and no layouts.
const FORMAT_BEFORE: u8 = 1;
/// Bytes of a nonce, and of what tells a layout.
const NONCE_MAX: usize = 32;
const LAYOUT_MAX: usize = 64;
/// Parts in which a feed is read, one after the other, before it is given up as one that brings more than can be read.
const PARTS_MAX: usize = 1 << 16;
/// Where Linux tells the host's name; elsewhere it stays unnamed.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const SECONDS_A_DAY: u64 = 86_400;

/// How a table notes which of its rows change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    /// Triggers that write keys to a table of their own.
    Triggers,
    /// A slot of logical replication, for which the database keeps its log.
    Slot,
}

impl FeedKind {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FeedKind::Triggers => "triggers",
            FeedKind::Slot => "slot",
        }
    }

    fn code(self) -> u8 {
        match self {
            FeedKind::Triggers => 0,
            FeedKind::Slot => 1,
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
    /// Up to where the database's log was read, and where the nonce was told in it, in bytes; 0 where there is no such log.
    pub position: u64,
    /// See [`FeedMark::position`].
    pub told: u64,
    /// What the database knows the table's files and parts by: another one where rows changed without being marked.
    pub layout: String,
}

/// What waits in a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Changes, about; none if counting them would be reading too much.
    pub changes: Option<u64>,
    /// Bytes of its log that the database keeps for the feed.
    pub kept_bytes: Option<u64>,
}

/// What became of reading a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// What it had was taken, up to this mark, and there may be more.
    Read {
        /// How far it was read, once the index says so too.
        mark: FeedMark,
        /// Whether there is more.
        more: bool,
    },
    /// All that it had was taken, and comes again: there was nothing, or it could not be told.
    Untold,
    /// There is a gap, with its reason.
    Lost(String),
}

/// Takes keys that a feed has marked.
pub type Take<'a> = &'a mut dyn FnMut(Vec<Vec<Value>>) -> Result<(), StoreError>;

/// The feed of one table for one index.
pub trait Feed {
    /// The transactions that install it, in order, each its statements.
    fn install_sql(&self) -> Vec<Vec<String>>;

    /// The statements that take away all of it, in order, for one transaction; they do no harm where there is none.
    fn remove_sql(&self) -> Vec<String>;

    /// Whether the server, the table and the user's rights allow it.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what does not, and what to do.
    fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What to set where nothing bounds what the database would keep for it, if nothing does.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn unbounded(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Forgets what it has, and is told a nonce. What is changed from then on is marked. None: it is not there, or not as it was
    /// made, and nothing was done.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn restart(&self, nonce: &str) -> Result<Option<FeedMark>, StoreError>;

    /// Gives the keys that it has marked since, some at a time.
    ///
    /// # Errors
    /// [`StoreError::Database`], or what taking met.
    fn drain(&self, mark: &FeedMark, take: Take<'_>) -> Result<Drained, StoreError>;

    /// Lets the database forget what lies before a mark, which the index has durably.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn release(&self, _: &FeedMark) -> Result<(), StoreError> {
        Ok(())
    }

    /// What waits to be read.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn waiting(&self) -> Result<Waiting, StoreError>;

    /// Bytes of its log that the database keeps for it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn kept_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// What objects of a feed say of themselves in the database: for which table, who made them when, and how they go.
#[must_use]
pub fn feed_comment(table: &str, place: &str) -> String {
    let host = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("an unnamed host").to_string();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / SECONDS_A_DAY;
    let date = Value::Date(i32::try_from(since).unwrap_or(i32::MAX));
    format!(
        "Reknit on {host} notes here since {date} which rows of {table} change. To remove it: reknit index drop {place}"
    )
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
    /// Bytes of its log that the database may keep for it; past that it is dropped.
    pub max_lag: u64,
}

impl FeedState {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT, self.kind.code()];
        put_bytes(&mut bytes, self.stale.as_deref().unwrap_or_default().as_bytes());
        put_bytes(&mut bytes, self.mark.nonce.as_bytes());
        put_bytes(&mut bytes, self.mark.next.as_deref().unwrap_or_default().as_bytes());
        put_bytes(&mut bytes, self.mark.layout.as_bytes());
        for number in [self.mark.position, self.mark.told, self.max_lag] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<FeedState, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8()?;
        if ![FORMAT_BEFORE, FORMAT].contains(&format) {
            return Err(DecodeError::Version(format));
        }
        let code = reader.u8()?;
        let kind = [FeedKind::Triggers, FeedKind::Slot].into_iter().find(|kind| kind.code() == code);
        let kind = kind.ok_or(DecodeError::Malformed("kind of a feed"))?;
        let mut text = |max| {
            let bytes = reader.bytes("bytes of a feed's state", max)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed("state of a feed"))
        };
        let (stale, nonce, next) = (text(usize::from(u16::MAX))?, text(NONCE_MAX)?, text(NONCE_MAX)?);
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let mut mark = FeedMark { nonce, next: some(next), ..FeedMark::default() };
        let mut max_lag = 0;
        if format == FORMAT {
            mark.layout = text(LAYOUT_MAX)?;
            (mark.position, mark.told, max_lag) = (reader.u64()?, reader.u64()?, reader.u64()?);
        }
        reader.end()?;
        Ok(FeedState { kind, stale: some(stale), mark, max_lag })
    }
}

/// What following a table came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Rows that were read.
    pub read: u64,
    /// Those that the index had otherwise, or not, or that had gone.
    pub changed: u64,
    /// Why the table was read whole though it has a feed, or why what was known of it counts no more, if so.
    pub stale: Option<String>,
}

impl Linked {
    /// Why making the index tell what the table holds would be reading the table whole, as far as that is known before its
    /// feed is read.
    ///
    /// # Errors
    /// What the index met.
    pub fn needs_scan(&self) -> Result<Option<String>, StoreError> {
        if self.is_renewed()? {
            return Ok(Some("its index was of an older release and is made anew".into()));
        }
        if let Some(why) = self.outgrown()? {
            return Ok(Some(why));
        }
        Ok(match self.feed_state()? {
            None if self.last_scan()?.is_none() => Some("it has no index yet".into()),
            None => Some("it has no feed, so that it is read by each command".into()),
            Some(FeedState { stale: Some(why), mark, .. }) if !mark.nonce.is_empty() => {
                Some(format!("its feed has a gap: {why}"))
            }
            Some(FeedState { stale: Some(_), .. }) => Some("its feed is new".into()),
            Some(_) => None,
        })
    }

    /// Makes the index tell what the table holds by its feed alone. None: it has no feed, or that has a gap.
    ///
    /// # Errors
    /// [`StoreError::Database`], or what the index met.
    pub fn follow_feed(&self, progress: &mut dyn FnMut(ImportProgress)) -> Result<Option<Followed>, StoreError> {
        if let Some(misfit) = self.misfit() {
            return Err(StoreError::database(
                self.table.place(),
                format!("{misfit}: reknit index drop, then build it anew"),
            ));
        }
        self.bound_feed()?;
        let whole = self.is_renewed()? || self.outgrown()?.is_some();
        let Some(mut state) = self.feed_state()?.filter(|state| state.stale.is_none() && !whole) else {
            return Ok(None);
        };
        let (read, changed) = self.drain(&mut state, progress)?;
        if state.stale.is_none() {
            // No feed tells of what was not changed after all.
            let doubted = self.look_at_doubted()?;
            return Ok(Some(Followed { read, changed: changed + doubted, stale: None }));
        }
        // Whoever is stopped in the middle finds it stale again.
        self.keep_feed(Some(&state))?;
        Ok(None)
    }

    /// Makes the index tell what the table holds: by its feed, or by reading it whole.
    ///
    /// # Errors
    /// As for [`Linked::refresh`].
    pub fn follow_table(&self, progress: &mut dyn FnMut(ImportProgress)) -> Result<Followed, StoreError> {
        let outgrown = self.outgrown()?;
        outgrown.iter().try_for_each(|why| self.give_up(why))?;
        if let Some(followed) = self.follow_feed(progress)? {
            return Ok(followed);
        }
        let Some(mut state) = self.feed_state()? else {
            let read = self.refresh(progress)?;
            return Ok(Followed { read: read.records, changed: read.changed, stale: outgrown });
        };
        let never_read = state.mark.nonce.is_empty();
        if let Some(kept) = self.kept_scan(&state)? {
            self.pace.tell(format!("goes on behind {} rows that an earlier command has read", kept.sorted.read));
            let mark = kept.mark.clone();
            let (read, _) = self.read_whole(Some(kept), progress)?;
            let mut fed = FeedState { stale: None, mark, ..state.clone() };
            // What was written since that command began it has, or nothing counts that was read then.
            self.drain(&mut fed, progress)?;
            self.forget_scan()?;
            if fed.stale.is_none() {
                self.keep_feed(Some(&fed))?;
                let why = state.stale.filter(|_| !never_read);
                return Ok(Followed { read: read.records, changed: read.changed, stale: why });
            }
            self.keep_feed(Some(&fed))?;
        }
        self.forget_scan()?;
        let restarted = self.feed(state.kind)?.restart(&nonce()?)?;
        // One that was never read has no gap.
        let why = state.stale.clone().filter(|_| !never_read || restarted.is_none());
        let kept = restarted.clone().map(|mark| KeptScan::new(&state, mark));
        let (read, sliced) = self.read_whole(kept, progress)?;
        // One that is not there any more stays stale.
        if let Some(mark) = restarted {
            state = FeedState { stale: None, mark, ..state };
            if sliced {
                // What was written between two slices it has.
                self.drain(&mut state, progress)?;
            }
            self.keep_feed(Some(&state))?;
        }
        self.forget_scan()?;
        Ok(Followed { read: read.records, changed: read.changed, stale: why })
    }

    /// What of the table is no longer as the index has it, if anything is; no feed makes up for that.
    #[must_use]
    pub fn misfit(&self) -> Option<String> {
        let misfit = self.shape().misfit(self.table.columns(), self.fit);
        misfit.map(|why| format!("the table was changed since its index {} was made: {why}", self.name))
    }

    /// Drops a feed for which the database keeps more of its log than it may; whether it did.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn bound_feed(&self) -> Result<bool, StoreError> {
        let slot = self.feed_state()?.filter(|state| state.kind == FeedKind::Slot);
        let Some(mut state) = slot else { return Ok(false) };
        let feed = self.feed(state.kind)?;
        let kept = feed.kept_bytes()?;
        if kept <= state.max_lag {
            return Ok(false);
        }
        self.table.run(&feed.remove_sql())?;
        state.stale = Some(format!(
            "the server kept {} MiB of its log for the feed, more than --max-feed-lag allows ({} MiB), so it was dropped; \
             reknit index build --feed {} --apply makes it anew",
            kept >> 20,
            state.max_lag >> 20,
            state.kind.name()
        ));
        self.keep_feed(Some(&state))?;
        Ok(true)
    }

    /// Reads a feed to its end, or until it is known to be stale; says how many keys it had, and how many rows the index
    /// had otherwise.
    fn drain(&self, state: &mut FeedState, progress: &mut dyn FnMut(ImportProgress)) -> Result<(u64, u64), StoreError> {
        let feed = self.feed(state.kind)?;
        let (mut so_far, mut changed) = (ImportProgress::default(), 0);
        for _ in 0..PARTS_MAX {
            // One that is there already may have been told, by whoever was stopped then.
            if state.mark.next.is_none() {
                state.mark.next = Some(nonce()?);
                self.keep_feed(Some(state))?;
            }
            let drained = feed.drain(&state.mark, &mut |keys| {
                so_far.read += keys.len() as u64;
                let mut taken: Vec<Vec<u8>> = keys.iter().map(|key| self.key_of(key)).collect();
                taken.sort_unstable();
                taken.dedup();
                changed += self.look(&taken)?;
                progress(so_far);
                // What the feed forgets is durable here.
                self.index().sync()
            })?;
            match drained {
                Drained::Read { mark, more } => {
                    state.mark = mark;
                    self.keep_feed(Some(state))?;
                    feed.release(&state.mark)?;
                    if !more {
                        return Ok((so_far.read, changed));
                    }
                }
                Drained::Untold => return Ok((so_far.read, changed)),
                Drained::Lost(why) => {
                    state.stale = Some(why);
                    return Ok((so_far.read, changed));
                }
            }
        }
        state.stale = Some("more comes than is read".into());
        Ok((so_far.read, changed))
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

    /// Has the table read whole when it is followed next, if it has a feed.
    pub(super) fn mark_stale(&self, why: &str) -> Result<(), StoreError> {
        match self.feed_state()? {
            Some(state) => self.keep_feed(Some(&FeedState { stale: Some(why.into()), ..state })),
            None => Ok(()),
        }
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

    /// Installs a feed in place of the one that there is; of its log the database may keep so many bytes for it. The table is
    /// read whole once more when the index follows it next.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then nothing was installed.
    pub fn install_feed(&self, kind: FeedKind, max_lag: u64) -> Result<(), StoreError> {
        let feed = self.feed(kind)?;
        feed.ready()?;
        self.remove_feed()?;
        self.table.run(&feed.remove_sql())?;
        for transaction in feed.install_sql() {
            if let Err(error) = self.table.run(&transaction) {
                // What those before it made is nothing without it.
                self.table.run(&feed.remove_sql())?;
                return Err(error);
            }
        }
        let stale = Some("it was just installed".into());
        self.keep_feed(Some(&FeedState { kind, stale, mark: FeedMark::default(), max_lag }))
    }

    /// Takes the feed away, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn remove_feed(&self) -> Result<(), StoreError> {
        if let Some(state) = self.feed_state()? {
            let feed = self.feed(state.kind)?;
            self.table.run(&feed.remove_sql())?;
            self.keep_feed(None)?;
            self.forget_scan()?;
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
        let mark = FeedMark { nonce: "ab".into(), layout: "l".into(), position: 2, told: 3, ..FeedMark::default() };
        let state = FeedState { kind: FeedKind::Slot, stale: Some("x".into()), mark, max_lag: 4 };
        let bytes = state.to_bytes();
        let numbers = [[0, 0, 0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 3], [0, 0, 0, 0, 0, 0, 0, 4]].concat();
        assert_eq!(bytes, [[2, 1, 1, b'x', 2, b'a', b'b', 0, 1, b'l'].as_slice(), &numbers].concat());
        assert_eq!(FeedState::from_bytes(&bytes), Ok(state));
        for cut in 0..bytes.len() {
            assert!(FeedState::from_bytes(&bytes[..cut]).is_err());
        }
        let before = FeedState::from_bytes(&[1, 0, 1, b'x', 2, b'a', b'b', 0]).expect("a state of the format before");
        assert_eq!(
            (before.kind, before.mark.nonce.as_str(), before.mark.layout.as_str()),
            (FeedKind::Triggers, "ab", "")
        );
    }
}
