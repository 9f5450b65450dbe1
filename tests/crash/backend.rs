//! A disk in memory that remembers what was written to it and when it was told to sync, and what a crash may leave of
//! that: any of the writes since the last sync lost, or torn at sectors, so that later ones are there without earlier ones.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use reknit::store::engine::conformance::Draw;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// One thing that happened to the disk, or above it.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write(usize, Arc<[u8]>),
    Length(usize),
    Sync,
    /// A commit was acknowledged as synced.
    Acknowledged(u64),
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// What happened, if that is kept.
    events: Option<Vec<Event>>,
    syncs: u64,
    /// The syncs that nothing comes of, counted from 0.
    ignored: Option<u64>,
}

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// One that holds these bytes.
    pub(crate) fn of(bytes: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    /// Keeps what happens from now on; the sync of that number comes to nothing.
    pub(crate) fn record(self, ignored: Option<u64>) -> Disk {
        {
            let mut state = self.state();
            (state.events, state.ignored) = (Some(Vec::new()), ignored);
        }
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("the disk")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.state().events.clone().unwrap_or_default()
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub(crate) fn acknowledged(&self, commit: u64) {
        self.state().note(Event::Acknowledged(commit));
    }
}

impl State {
    fn note(&mut self, event: Event) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a disk of {} bytes", self.state().bytes.len())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        let start = place(offset);
        let bytes = state.bytes.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.state();
        state.bytes.resize(place(len), 0);
        state.note(Event::Length(place(len)));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.state();
        if state.ignored != Some(state.syncs) {
            state.note(Event::Sync);
        }
        state.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state();
        let start = place(offset);
        let bytes = state.bytes.get_mut(start..start + data.len());
        bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?.copy_from_slice(data);
        state.note(Event::Write(start, data.into()));
        Ok(())
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("fits")
}

/// Applies an event whole.
pub(crate) fn apply(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write(start, data) => {
            // Beyond the end, since the length was lost, there is nothing to be written to.
            let end = bytes.len().min(start + data.len());
            if *start < end {
                bytes[*start..end].copy_from_slice(&data[..end - start]);
            }
        }
        Event::Length(length) => bytes.resize(*length, 0),
        Event::Sync | Event::Acknowledged(_) => {}
    }
}

/// What a crash leaves of a disk that held `solid` at its last sync, and to which this was done since.
pub(crate) fn image(solid: &[u8], since: &[&Event], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = solid.to_vec();
    let shape = draw.below(6);
    let last = draw.below(since.len().max(1));
    for (nth, event) in since.iter().enumerate() {
        match shape {
            // The process died, the system did not.
            0 => apply(&mut bytes, event),
            // In order, up to one that is torn.
            1 if nth < last => apply(&mut bytes, event),
            1 if nth == last => tear(&mut bytes, event, draw),
            1 => {}
            // All but one.
            2 if nth != last => apply(&mut bytes, event),
            2 => {}
            // The later ones alone.
            3 if nth >= last => apply(&mut bytes, event),
            3 => {}
            // Any of them.
            4 if draw.below(2) == 0 => apply(&mut bytes, event),
            4 => {}
            _ => tear(&mut bytes, event, draw),
        }
    }
    bytes
}

/// Applies any of the sectors that a write touches.
fn tear(bytes: &mut Vec<u8>, event: &Event, draw: &mut Draw) {
    let Event::Write(start, data) = event else {
        if draw.below(2) == 0 {
            apply(bytes, event);
        }
        return;
    };
    let mut from = 0;
    while from < data.len() {
        let to = data.len().min((start + from) / SECTOR * SECTOR + SECTOR - start);
        if draw.below(2) == 0 {
            apply(bytes, &Event::Write(start + from, data[from..to].into()));
        }
        from = to;
    }
}
