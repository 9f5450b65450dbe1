//! The lanes of one session as tasks: frames in, frames out, records read from the store as the lane takes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit_core::bounds::{KEY_BYTES_MAX, RECORD_FRAME_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::canonical::Reader;
use reknit_core::message::{Message, Transfer};
use reknit_core::query::{Guard, Incoming, Page, Selection};
use reknit_core::session::{Guards, SessionError};
use reknit_core::wire::RecordFrame;
use reknit_core::{Keys, Position, Record};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::driver::{Event, StreamError};
use super::packing;
use crate::store::{Side, StoreError};
use crate::transport::{FrameReader, FrameWriter, LaneCounts, Link, TransportError};

/// Bytes of records that are read from the store at once.
const PAGE_BYTES: usize = RECORD_FRAME_BYTES_MAX / 2;
/// Bytes of a record that is sent whole; a larger one is cut into chunks.
const WHOLE_BYTES_MAX: usize = RECORD_FRAME_BYTES_MAX / 2;
/// Large records that may be half received at once.
const CHUNKED_MAX: usize = 2;

/// Records to be streamed.
pub(super) struct Job {
    pub(super) transfer: Transfer,
    pub(super) selections: Vec<Selection>,
    pub(super) given: Vec<Record>,
    pub(super) guards: Guards,
}

/// What a session cost on its lanes, in frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes of messages sent.
    pub control_sent: u64,
    /// Bytes of messages received.
    pub control_received: u64,
    /// Bytes of records sent, as packed.
    pub records_sent: u64,
    /// Bytes of records received, as packed.
    pub records_received: u64,
}

impl Traffic {
    /// Bytes of messages both ways.
    pub fn control(&self) -> u64 {
        self.control_sent + self.control_received
    }

    /// All bytes both ways.
    pub fn total(&self) -> u64 {
        self.control() + self.records_sent + self.records_received
    }
}

/// What the driver keeps of its lanes.
pub(super) struct Lanes {
    control: (LaneCounts, LaneCounts),
    records: Arc<std::sync::Mutex<(LaneCounts, LaneCounts)>>,
    queued: Arc<AtomicU64>,
    needed: Option<oneshot::Sender<()>>,
    writers: JoinSet<()>,
}

impl Lanes {
    pub(super) fn traffic(&self) -> Traffic {
        let records = self.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Traffic {
            control_sent: self.control.1.bytes(),
            control_received: self.control.0.bytes(),
            records_sent: records.1.bytes(),
            records_received: records.0.bytes(),
        }
    }

    /// Notes bytes that were given to the control lane.
    pub(super) fn queued(&self, bytes: usize) {
        self.queued.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that the control lane has not taken yet.
    pub(super) fn backlog(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Records are about to travel: the opener opens the lane.
    pub(super) fn need_records(&mut self) {
        if let Some(needed) = self.needed.take() {
            let _ = needed.send(());
        }
    }

    /// Waits until everything that was given to the lanes has left.
    pub(super) async fn finished(&mut self) {
        self.needed = None;
        while self.writers.join_next().await.is_some() {}
    }
}

type Queues = (Lanes, mpsc::UnboundedSender<Vec<u8>>, mpsc::UnboundedSender<Job>);

/// Starts the tasks of a link.
pub(super) fn spawn(
    tasks: &mut JoinSet<()>,
    link: Link,
    side: &Arc<dyn Side>,
    events: &mpsc::Sender<Event>,
    frames: &Arc<Semaphore>,
    opens: bool,
) -> Queues {
    let Link { control, records, closed } = link;
    let counts = (control.reader.counts(), control.writer.counts());
    let (control_sender, control_queue) = mpsc::unbounded_channel();
    let (job_sender, jobs) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicU64::new(0));
    let (needed, wanted) = oneshot::channel();
    let record_counts = Arc::new(std::sync::Mutex::new((LaneCounts::default(), LaneCounts::default())));
    let mut writers = JoinSet::new();
    let explain = move |error: TransportError| match error {
        TransportError::Lost(_) => closed().unwrap_or(error),
        other => other,
    };
    tasks.spawn(read_messages(control.reader, events.clone(), explain.clone()));
    writers.spawn(write_messages(control.writer, control_queue, queued.clone(), events.clone(), explain.clone()));
    let (side, events, frames, shared) = (side.clone(), events.clone(), frames.clone(), record_counts.clone());
    writers.spawn(async move {
        let lane = if opens {
            match wanted.await {
                Ok(()) => records.await,
                Err(_) => return,
            }
        } else {
            tokio::pin!(records);
            tokio::select! {
                lane = &mut records => lane,
                needed = wanted => match needed {
                    // There is something to stream before the opener's lane has arrived: it is on its way.
                    Ok(()) => records.await,
                    Err(_) => return,
                },
            }
        };
        let lane = match lane {
            Ok(lane) => lane,
            Err(error) => {
                let _ = events.send(Event::Broken(explain(error))).await;
                return;
            }
        };
        *shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            (lane.reader.counts(), lane.writer.counts());
        let reading = read_records(lane.reader, events.clone(), frames, explain.clone());
        let writing = write_records(lane.writer, jobs, side, events, explain);
        tokio::pin!(writing);
        tokio::select! {
            () = &mut writing => return,
            () = reading => {}
        }
        writing.await;
    });
    let lanes = Lanes { control: counts, records: record_counts, queued, needed: Some(needed), writers };
    (lanes, control_sender, job_sender)
}

async fn read_messages(
    mut reader: FrameReader,
    events: mpsc::Sender<Event>,
    explain: impl Fn(TransportError) -> TransportError,
) {
    loop {
        let event = match reader.read().await {
            Ok(Some(frame)) => match Message::decode(&frame) {
                Ok(message) => Event::Message(message),
                Err(error) => Event::Garbled(error.into()),
            },
            Ok(None) => Event::Ended,
            Err(error) => match explain(error) {
                TransportError::Closed => Event::Ended,
                error => Event::Broken(error),
            },
        };
        let last = !matches!(event, Event::Message(_));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

async fn write_messages(
    mut writer: FrameWriter,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
    explain: impl Fn(TransportError) -> TransportError,
) {
    while let Some(frame) = queue.recv().await {
        let written = writer.write(&frame).await;
        queued.fetch_sub(frame.len() as u64, Ordering::Relaxed);
        if let Err(error) = written {
            let _ = events.send(Event::Broken(explain(error))).await;
            return;
        }
    }
    // The peer may be gone already; all that it needed it has.
    let _ = writer.finish().await;
}

async fn read_records(
    mut reader: FrameReader,
    events: mpsc::Sender<Event>,
    frames: Arc<Semaphore>,
    explain: impl Fn(TransportError) -> TransportError,
) {
    loop {
        let Ok(permit) = frames.acquire().await else { return };
        permit.forget();
        let event = match reader.read().await {
            Ok(Some(frame)) => match packing::unpack(&frame) {
                Ok(frame) => Event::Records(frame),
                Err(error) => Event::Garbled(error.into()),
            },
            Ok(None) => return,
            Err(error) => Event::Broken(explain(error)),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

async fn write_records(
    mut writer: FrameWriter,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    side: Arc<dyn Side>,
    events: mpsc::Sender<Event>,
    explain: impl Fn(TransportError) -> TransportError,
) {
    while let Some(job) = jobs.recv().await {
        if let Err(error) = stream(&mut writer, job, &side).await {
            let error = match error {
                StreamError::Transport(error) => StreamError::Transport(explain(error)),
                other => other,
            };
            let _ = events.send(Event::Stream(error)).await;
            return;
        }
    }
    let _ = writer.finish().await;
}

/// Streams one job: pages from the store, frames to the lane, no faster than the lane takes them.
async fn stream(writer: &mut FrameWriter, job: Job, side: &Arc<dyn Side>) -> Result<(), StreamError> {
    let Job { transfer, selections, given, guards } = job;
    let keys = side.describe().keys;
    let mut filling = Filling { writer, transfer, guards, keys, records: Vec::new(), bytes: 0, sent: 0 };
    let mut moved = 0;
    for selection in selections {
        let selection = Arc::new(selection);
        let mut after: Option<(Position, Vec<u8>)> = None;
        loop {
            let page = read_page(side, transfer, &selection, after).await.map_err(StreamError::Store)?;
            moved += page.moved;
            let bare = matches!(*selection, Selection::Bare(_) | Selection::Versions { bare: true, .. });
            for record in page.records {
                filling.put(record, bare).await?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    for record in given {
        filling.put(record, false).await?;
    }
    filling.flush().await?;
    let records = filling.sent;
    send(writer, &RecordFrame::End { transfer, records, moved }).await
}

/// Records on their way into frames.
struct Filling<'w> {
    writer: &'w mut FrameWriter,
    transfer: Transfer,
    guards: Guards,
    keys: Arc<Keys>,
    records: Vec<Incoming>,
    bytes: usize,
    sent: u64,
}

impl Filling<'_> {
    /// Adds a record, without its contents if the receiver holds them.
    async fn put(&mut self, mut record: Record, bare: bool) -> Result<(), StreamError> {
        let guard = match &self.guards {
            Guards::Join if bare => {
                record.strip(&self.keys);
                Guard::Bare
            }
            Guards::Join => Guard::Join,
            Guards::Compared(guards) => Guard::IfShort(guards.get(&record.key).copied().flatten()),
        };
        let incoming = Incoming { guard, record };
        self.sent += 1;
        let weight = packing::weight(&incoming);
        if weight > WHOLE_BYTES_MAX {
            return send_chunks(self.writer, self.transfer, &incoming).await;
        }
        self.bytes += weight;
        self.records.push(incoming);
        if self.bytes >= PAGE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), StreamError> {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return Ok(());
        }
        send(self.writer, &RecordFrame::Records { transfer: self.transfer, records }).await
    }
}

async fn read_page(
    side: &Arc<dyn Side>,
    transfer: Transfer,
    selection: &Arc<Selection>,
    after: Option<(Position, Vec<u8>)>,
) -> Result<Page, StoreError> {
    let (side, selection) = (side.clone(), selection.clone());
    let read = move || side.read(transfer.1, &selection, after, PAGE_BYTES);
    let page = tokio::task::spawn_blocking(read).await;
    page.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string())))
}

async fn send(writer: &mut FrameWriter, frame: &RecordFrame) -> Result<(), StreamError> {
    writer.write(&packing::pack(frame)).await.map_err(StreamError::Transport)
}

async fn send_chunks(writer: &mut FrameWriter, transfer: Transfer, incoming: &Incoming) -> Result<(), StreamError> {
    let mut whole = Vec::new();
    incoming.record.encode(&mut whole);
    let (guard, total) = (incoming.guard, whole.len() as u64);
    for bytes in whole.chunks(PAGE_BYTES) {
        send(writer, &RecordFrame::Chunk { transfer, guard, total, bytes: bytes.to_vec() }).await?;
    }
    Ok(())
}

/// Large records that come in chunks, put together again.
#[derive(Default)]
pub(super) struct Chunks(BTreeMap<Transfer, Vec<u8>>);

impl Chunks {
    /// Adds a chunk; gives the record once it is whole. Grows by what came, never by what is claimed.
    pub(super) fn add(&mut self, transfer: Transfer, total: u64, bytes: &[u8]) -> Result<Option<Record>, SessionError> {
        if total > (VALUE_BYTES_MAX + KEY_BYTES_MAX + 4096) as u64 || self.0.len() > CHUNKED_MAX {
            return Err(SessionError::Unexpected("a record above the largest that is allowed"));
        }
        let so_far = self.0.entry(transfer).or_default();
        so_far.extend_from_slice(bytes);
        match (so_far.len() as u64).cmp(&total) {
            std::cmp::Ordering::Less => Ok(None),
            std::cmp::Ordering::Greater => Err(SessionError::Unexpected("more bytes of a record than it has")),
            std::cmp::Ordering::Equal => {
                let whole = self.0.remove(&transfer).unwrap_or_default();
                let mut reader = Reader::new(&whole);
                let record = Record::decode(&mut reader)?;
                reader.end()?;
                Ok(Some(record))
            }
        }
    }
}
