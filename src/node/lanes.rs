//! The lanes of one session as tasks: frames in, frames out, records read from the store as the lane takes them.
//!
//! How a link ended is told by the reader of messages (M27). Any other lane fails too once the peer is done with it, and that may be
//! noticed before the peer's last word, which says why, has been read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit_core::Record;
use reknit_core::message::{Message, Transfer};
use reknit_core::query::Selection;
use reknit_core::session::Guards;
use reknit_core::wire::RecordFrame;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::driver::{Event, Failure};
use super::packing;
use crate::store::answer::Frames;
use crate::store::{Side, StoreError};
use crate::transport::limits::{BACKLOG_BYTES_MAX, STREAMS_WAITING_MAX};
use crate::transport::{FrameReader, FrameWriter, LaneCounts, Link, RateLimit, TransportError};

/// Records to be streamed.
pub(super) struct Job {
    pub(super) transfer: Transfer,
    pub(super) selections: Vec<Selection>,
    pub(super) given: Vec<Record>,
    pub(super) guards: Guards,
}

/// Why records could not be streamed.
enum StreamError {
    /// The store could not read them.
    Store(Failure),
    /// The link could not carry them.
    Transport(TransportError),
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

    /// Both together.
    #[must_use]
    pub fn and(self, other: Traffic) -> Traffic {
        Traffic {
            control_sent: self.control_sent + other.control_sent,
            control_received: self.control_received + other.control_received,
            records_sent: self.records_sent + other.records_sent,
            records_received: self.records_received + other.records_received,
        }
    }

    /// All bytes both ways.
    pub fn total(&self) -> u64 {
        self.control() + self.records_sent + self.records_received
    }
}

/// What was given to the lanes and has not left.
#[derive(Default)]
pub(super) struct Waiting {
    bytes: AtomicU64,
    streams: AtomicU64,
    eased: Notify,
}

impl Waiting {
    /// Until there is room, where there was none.
    pub(super) async fn eased(&self) {
        self.eased.notified().await;
    }

    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) < BACKLOG_BYTES_MAX
            && self.streams.load(Ordering::SeqCst) < STREAMS_WAITING_MAX
    }

    fn left(&self, bytes: u64, streams: u64) {
        // Whoever takes the last that was too much tells of it, whatever was added meanwhile.
        let eases = |before: u64, less: u64, most: u64| before >= most && before - less < most;
        let of_bytes = eases(self.bytes.fetch_sub(bytes, Ordering::SeqCst), bytes, BACKLOG_BYTES_MAX);
        let of_streams = eases(self.streams.fetch_sub(streams, Ordering::SeqCst), streams, STREAMS_WAITING_MAX);
        if of_bytes || of_streams {
            self.eased.notify_one();
        }
    }
}

/// What the driver keeps of its lanes.
pub(super) struct Lanes {
    control: (LaneCounts, LaneCounts),
    records: Arc<std::sync::Mutex<(LaneCounts, LaneCounts)>>,
    waiting: Arc<Waiting>,
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
        self.waiting.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// Notes a stream that was given to the records lane.
    pub(super) fn waits_for_stream(&self) {
        self.waiting.streams.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether little enough waits for the link that more may be made ready for it.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.has_room()
    }

    /// What tells when there is room again.
    pub(super) fn waiting(&self) -> Arc<Waiting> {
        self.waiting.clone()
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
    (messages, frames): (&Arc<Semaphore>, &Arc<Semaphore>),
    opens: bool,
) -> Queues {
    let Link { control, records, closed, rate_limit } = link;
    let counts = (control.reader.counts(), control.writer.counts());
    let (control_sender, control_queue) = mpsc::unbounded_channel();
    let (job_sender, jobs) = mpsc::unbounded_channel();
    let waiting = Arc::new(Waiting::default());
    let (needed, wanted) = oneshot::channel();
    let record_counts = Arc::new(std::sync::Mutex::new((LaneCounts::default(), LaneCounts::default())));
    let mut writers = JoinSet::new();
    let explain = move |error: TransportError| match error {
        TransportError::Lost(_) => closed().unwrap_or(error),
        other => other,
    };
    let reading = read_messages(control.reader, events.clone(), messages.clone(), explain.clone(), rate_limit.clone());
    tasks.spawn(reading);
    let writing = write_messages(
        control.writer,
        control_queue,
        waiting.clone(),
        events.clone(),
        explain.clone(),
        rate_limit.clone(),
    );
    writers.spawn(writing);
    let (side, events, frames, shared) = (side.clone(), events.clone(), frames.clone(), record_counts.clone());
    let of_lanes = waiting.clone();
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
                tell(error, &events, &explain).await;
                return drop_jobs(jobs, &of_lanes).await;
            }
        };
        *shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            (lane.reader.counts(), lane.writer.counts());
        let reading = read_records(lane.reader, events.clone(), frames, explain.clone(), rate_limit.clone());
        let writing = write_records(lane.writer, jobs, (side, of_lanes), events, explain, rate_limit);
        tokio::pin!(writing);
        tokio::select! {
            () = &mut writing => return,
            () = reading => {}
        }
        writing.await;
    });
    let lanes = Lanes { control: counts, records: record_counts, waiting, needed: Some(needed), writers };
    (lanes, control_sender, job_sender)
}

async fn read_messages(
    mut reader: FrameReader,
    events: mpsc::Sender<Event>,
    messages: Arc<Semaphore>,
    explain: impl Fn(TransportError) -> TransportError,
    rate_limit: RateLimit,
) {
    loop {
        let Ok(permit) = messages.acquire().await else { return };
        permit.forget();
        let event = match reader.read().await {
            Ok(Some(frame)) => {
                // What came has come: the peer sends no more than fits until the next is read.
                rate_limit.bytes(frame.len()).await;
                match Message::decode(&frame) {
                    Ok(message) => Event::Message(message),
                    Err(error) => Event::Garbled(error.into()),
                }
            }
            // Whoever was closed for a reason may have read to a clean end all the same.
            Ok(None) => match explain(TransportError::Lost(String::new())) {
                named @ (TransportError::CutOff { .. } | TransportError::NotAdmitted { .. } | TransportError::Busy) => {
                    Event::Broken(named)
                }
                _ => Event::Ended,
            },
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
    waiting: Arc<Waiting>,
    events: mpsc::Sender<Event>,
    explain: impl Fn(TransportError) -> TransportError,
    rate_limit: RateLimit,
) {
    while let Some(frame) = queue.recv().await {
        rate_limit.bytes(frame.len()).await;
        let written = writer.write(&frame).await;
        waiting.left(frame.len() as u64, 0);
        if let Err(error) = written {
            tell(error, &events, &explain).await;
            // What nobody takes any more holds up nothing.
            while let Some(frame) = queue.recv().await {
                waiting.left(frame.len() as u64, 0);
            }
            return;
        }
    }
    // The peer may be gone already; all that it needed it has.
    let _ = writer.finish().await;
}

/// Tells what ended a lane: that it is gone says little yet.
async fn tell(
    error: TransportError,
    events: &mpsc::Sender<Event>,
    explain: &impl Fn(TransportError) -> TransportError,
) {
    let event = match error {
        TransportError::Lost(_) => Event::Gone(explain(error)),
        other => Event::Broken(other),
    };
    let _ = events.send(event).await;
}

async fn drop_jobs(mut jobs: mpsc::UnboundedReceiver<Job>, waiting: &Waiting) {
    while jobs.recv().await.is_some() {
        waiting.left(0, 1);
    }
}

async fn read_records(
    mut reader: FrameReader,
    events: mpsc::Sender<Event>,
    frames: Arc<Semaphore>,
    explain: impl Fn(TransportError) -> TransportError,
    rate_limit: RateLimit,
) {
    loop {
        let Ok(permit) = frames.acquire().await else { return };
        permit.forget();
        let event = match reader.read().await {
            Ok(Some(frame)) => {
                rate_limit.bytes(frame.len()).await;
                match packing::unpack(&frame) {
                    Ok(frame) => Event::Records(frame),
                    Err(error) => Event::Garbled(error.into()),
                }
            }
            Ok(None) => return,
            Err(error) => return tell(error, &events, &explain).await,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

async fn write_records(
    mut writer: FrameWriter,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    (side, waiting): (Arc<dyn Side>, Arc<Waiting>),
    events: mpsc::Sender<Event>,
    explain: impl Fn(TransportError) -> TransportError,
    rate_limit: RateLimit,
) {
    while let Some(job) = jobs.recv().await {
        let streamed = stream(&mut writer, job, &side, &rate_limit).await;
        waiting.left(0, 1);
        match streamed {
            Ok(()) => {}
            Err(StreamError::Store(failure)) => return drop(events.send(Event::Stream(failure)).await),
            Err(StreamError::Transport(error)) => {
                tell(error, &events, &explain).await;
                return drop_jobs(jobs, &waiting).await;
            }
        }
    }
    let _ = writer.finish().await;
}

/// Streams one job: pages from the store, frames to the lane, no faster than the lane takes them.
async fn stream(
    writer: &mut FrameWriter,
    job: Job,
    side: &Arc<dyn Side>,
    rate_limit: &RateLimit,
) -> Result<(), StreamError> {
    let Job { transfer, selections, given, guards } = job;
    let mut frames = Frames::new(side.describe().keys, transfer, selections, given, guards);
    loop {
        let side = side.clone();
        let next = move || {
            let frame = frames.next(&*side);
            (frames, frame)
        };
        let step = tokio::task::spawn_blocking(next).await;
        let panicked =
            |panic: tokio::task::JoinError| StreamError::Store(StoreError::Panicked(panic.to_string()).into());
        let (rest, frame) = step.map_err(panicked)?;
        frames = rest;
        match frame.map_err(|error| StreamError::Store(Failure::of(error, || frames.reading())))? {
            Some(frame) => send(writer, &frame, rate_limit).await?,
            None => return Ok(()),
        }
    }
}

async fn send(writer: &mut FrameWriter, frame: &RecordFrame, rate_limit: &RateLimit) -> Result<(), StreamError> {
    if let RecordFrame::Records { records, .. } = frame {
        rate_limit.records(records.len()).await;
    }
    let packed = packing::pack(frame);
    rate_limit.bytes(packed.len()).await;
    writer.write(&packed).await.map_err(StreamError::Transport)
}
