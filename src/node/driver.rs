//! The driver of one session: carries messages, records and answers between a machine, a link and a store.
//!
//! One loop, one [`Event`] enum: everything that can wake a session is visible in one match. What
//! is said, and what follows, is decided in the core.

mod ending;
mod event;
mod machine;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reknit_core::canonical::Blob;
use reknit_core::difference::Side as Seen;
use reknit_core::message::{Message, RefuseCode};
use reknit_core::query::{Answer, Applied, Incoming, Query};
use reknit_core::receipt::Receipt;
use reknit_core::session::{Input, Opener, Outcome, Output, Responder, SessionError, Stuck, Verdict};
use reknit_core::wire::RecordFrame;
use reknit_core::{Definition, Keys};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};

use self::ending::CLOSE_MAX;
pub(super) use self::event::{Event, Failure};
use self::machine::Machine;
use super::NodeError;
use super::brakes::{self, Guarded};
use super::lanes::{self, Job, Traffic};
use super::report::{Budget, Progress, SessionReport};
use crate::clock::millis;
use crate::store::{Side, SideInfo, StoreError, answer};
use crate::transport::limits::SILENCE_MAX;
use crate::transport::{Link, RateLimit, TransportError};

/// Events that may wait; a lane is read no further while they do.
const EVENTS_MAX: usize = 32;
/// Messages that may be under way between a lane and the machine.
const MESSAGES_MAX: usize = 32;
/// Record frames that may be under way between a lane and the store.
const FRAMES_MAX: usize = 2;
/// How long the peer's last word is waited for once a lane is gone.
const LAST_WORD_MAX: Duration = Duration::from_secs(10);
/// How long a side that was told to end waits for a link on which nothing moves. Another waits as long as for a peer that says
/// nothing: a whole frame may take that long where lines are slow or held to a rate.
const PATIENCE_STOPPED: Duration = Duration::from_secs(10);

/// Runs an opener to its outcome. Dropping the future ends the session; what was applied stays valid.
pub(super) async fn open(
    opener: Opener,
    (side, guarded): (Arc<dyn Side>, Guarded),
    link: Link,
    budget: Budget,
    stop: tokio::sync::watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    let begun = Instant::now();
    let mut driver = Driver::new(Machine::Opener(Box::new(opener)), (side, guarded), link, budget, stop);
    let outcome = driver.run(progress).await;
    driver.let_land().await;
    let mut outcome = outcome?.ok_or(NodeError::Session(SessionError::Driver("an opener ended without an outcome")))?;
    outcome.counts.to_mine.wrote(driver.written);
    let lost = match driver.lost.take() {
        // Nothing is known, so that why it was lost says more.
        Some((error, _)) if outcome.verdict == Verdict::Undetermined => return Err(error),
        lost => lost.map(|(error, _)| Arc::new(error)),
    };
    if lost.is_none() {
        driver.end_lanes(if driver.stopped.is_some() { PATIENCE_STOPPED } else { SILENCE_MAX }).await;
    }
    let (traffic, elapsed) = (driver.traffic(), begun.elapsed());
    let (runs, caught_up, strays) = ((None, None), (None, None), (0, 0));
    let report = SessionReport { outcome, traffic, elapsed, runs, caught_up, strays, lost };
    if report.lost.is_none() {
        // Whoever waits for the outcome does not wait for the peer to have heard it.
        tokio::spawn(driver.hear_the_end());
    }
    Ok(report)
}

/// What a responder has of a session that is over.
pub(super) struct Answered {
    /// As the opener told it.
    pub(super) verdict: String,
    /// If both sides signed one.
    pub(super) receipt: Option<Receipt>,
    /// What it moved.
    pub(super) traffic: Traffic,
    /// Why the opener was refused, if it was.
    pub(super) refused: Option<RefuseCode>,
    /// Records that changed the side.
    pub(super) written: u64,
}

/// Answers an opener until it ends the session.
pub(super) async fn answer(
    responder: Responder,
    first: Option<Message>,
    (side, guarded): (Arc<dyn Side>, Guarded),
    link: Link,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<Answered, NodeError> {
    let machine = Machine::Responder(Box::new(responder));
    let mut driver = Driver::new(machine, (side, guarded), link, Budget::default(), stop);
    driver.held.extend(first);
    let ran = driver.run(&mut |_| {}).await;
    driver.let_land().await;
    if ran.is_err() {
        // Why is said to the peer, if it still hears.
        let _ = tokio::time::timeout(CLOSE_MAX, driver.end_lanes(CLOSE_MAX)).await;
    }
    ran?;
    driver.end_lanes(SILENCE_MAX).await;
    let (verdict, receipt) = match &driver.machine {
        Machine::Responder(responder) => {
            (responder.verdict().unwrap_or_default().to_string(), responder.receipt().cloned())
        }
        Machine::Opener(_) => (String::new(), None),
    };
    let (traffic, refused, written) = (driver.traffic(), driver.refused, driver.written);
    Ok(Answered { verdict, receipt, traffic, refused, written })
}

struct Driver {
    machine: Machine,
    side: Arc<dyn Side>,
    definition: Arc<Definition>,
    keys: Arc<Keys>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    control: mpsc::UnboundedSender<Vec<u8>>,
    jobs: mpsc::UnboundedSender<Job>,
    messages: Arc<Semaphore>,
    frames: Arc<Semaphore>,
    rate_limit: RateLimit,
    lanes: lanes::Lanes,
    tasks: JoinSet<()>,
    budget: Budget,
    begun: Instant,
    stop: tokio::sync::watch::Receiver<bool>,
    /// When it was told to end.
    stopped: Option<Instant>,
    /// Questions to the store that are open.
    asking: usize,
    /// Whether one of them writes.
    writing: bool,
    /// The next part of a list, while what was listed before waits for the link.
    next_part: Option<Query>,
    /// How the link was lost, and when, if it was.
    lost: Option<(NodeError, Instant)>,
    /// Why a lane is gone, and since when.
    gone: Option<(TransportError, Instant)>,
    applying: usize,
    /// Records that changed the store, heard of by the machine or not.
    written: u64,
    chunks: answer::Chunks,
    held: std::collections::VecDeque<Message>,
    /// What this side may lose by what leaves quarantine, and what it has lost to the other, where that is counted.
    guarded: Guarded,
    /// Why the peer was refused, if it was.
    refused: Option<RefuseCode>,
}

impl Driver {
    fn new(
        machine: Machine,
        (side, guarded): (Arc<dyn Side>, Guarded),
        link: Link,
        budget: Budget,
        stop: tokio::sync::watch::Receiver<bool>,
    ) -> Driver {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (messages, frames) = (Arc::new(Semaphore::new(MESSAGES_MAX)), Arc::new(Semaphore::new(FRAMES_MAX)));
        let mut tasks = JoinSet::new();
        let opens = matches!(machine, Machine::Opener(_));
        let SideInfo { definition, keys, .. } = side.describe();
        let rate_limit = link.rate_limit.clone();
        let (lanes, control, jobs) = lanes::spawn(&mut tasks, link, &side, &sender, (&messages, &frames), opens);
        Driver {
            machine,
            side,
            definition,
            keys,
            events,
            sender,
            control,
            jobs,
            messages,
            frames,
            rate_limit,
            lanes,
            tasks,
            budget,
            begun: Instant::now(),
            stop,
            stopped: None,
            writing: false,
            asking: 0,
            next_part: None,
            lost: None,
            gone: None,
            applying: 0,
            written: 0,
            chunks: answer::Chunks::default(),
            held: Default::default(),
            guarded,
            refused: None,
        }
    }

    /// The loop: puts out what the machine has to say, then waits for the next event.
    async fn run(&mut self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Option<Outcome>, NodeError> {
        loop {
            while let Some(output) = self.machine.poll() {
                match output {
                    Output::Send(message) => self.send(&message),
                    Output::Ask(query) if self.is_to_wait(&query) => self.next_part = Some(query),
                    Output::Ask(query) => self.ask(query),
                    Output::Stream { transfer, selections, given, guards } => {
                        self.lanes.need_records();
                        self.lanes.waits_for_stream();
                        // A closed queue means that the lane is gone, which its own event tells.
                        let _ = self.jobs.send(Job { transfer, selections, given, guards });
                    }
                    Output::Planned(plan) => tracing::debug!(%plan, "planned"),
                    Output::Found(difference) => progress(Progress::Found(Box::new(difference))),
                    Output::Done(outcome) => return Ok(Some(*outcome)),
                }
            }
            match &mut self.machine {
                Machine::Responder(responder) if responder.verdict().is_some() => return Ok(None),
                Machine::Opener(opener) => {
                    let (counts, coverage) = opener.progress();
                    progress(Progress::Counted(Box::new(counts.clone()), coverage));
                }
                Machine::Responder(_) => {}
            }
            if self.has_room()
                && let Some(query) = self.next_part.take()
            {
                self.ask(query);
            }
            if self.machine.takes_messages(self.has_room())
                && let Some(message) = self.held.pop_front()
            {
                self.messages.add_permits(1);
                self.handle(Input::Message(message))?;
                continue;
            }
            if self.asking == 0 && self.lost.is_some() || self.landing() == Some(Duration::ZERO) {
                self.handle(if self.lost.is_some() { Input::Lost } else { Input::Stop })?;
                continue;
            }
            let event = self.next_event().await;
            match event {
                Event::Message(message) => self.held.push_back(message),
                Event::Records(frame) => self.on_records(frame)?,
                Event::Released(released) => self.released(&released),
                Event::Answer(Ok(answer)) => {
                    self.asking -= 1;
                    self.note_written(Ok(&answer));
                    // New versions of a mirror are applied too, without a frame that brought them.
                    if matches!(answer, Answer::Applied(_)) && self.applying > 0 {
                        self.applying -= 1;
                        self.frames.add_permits(1);
                    }
                    self.handle(Input::Answer(answer))?;
                }
                Event::Answer(Err(failure)) => {
                    self.note_written(Err(&failure.error));
                    self.writing = false;
                    return self.fail(failure);
                }
                Event::Stream(failure) => return self.fail(failure),
                Event::Ended => match self.held_bye() {
                    // The last word came behind what there was no room for.
                    Some(bye) => self.handle(Input::Message(bye))?,
                    None if matches!(self.machine, Machine::Responder(_)) && self.applying == 0 => return Ok(None),
                    None => self.lose(NodeError::Cut)?,
                },
                Event::Broken(error) => self.lose(NodeError::Transport(error))?,
                Event::Gone(error) => drop(self.gone.get_or_insert((error, Instant::now()))),
                // M11.
                Event::Garbled(error) => return Err(NodeError::Session(error)),
                Event::Room => {}
                Event::Time => self.handle(Input::Time)?,
                Event::Stop => {
                    self.stopped = Some(Instant::now());
                    self.handle(Input::Stop)?;
                }
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        if self.stopped.is_none() && self.budget.bytes.is_some_and(|bytes| self.traffic().total() >= bytes) {
            return Event::Stop;
        }
        let wake = match &self.machine {
            Machine::Opener(opener) => opener.wake_at().map(Duration::from_millis),
            Machine::Responder(_) => None,
        };
        let wake = wake.map(|at| at.saturating_sub(self.begun.elapsed()));
        let limit =
            self.budget.time.filter(|_| self.stopped.is_none()).map(|time| time.saturating_sub(self.begun.elapsed()));
        // Whoever waits for its own time, or its own store, does not wait for the peer.
        let silence = (wake.is_none() && self.asking == 0).then_some(SILENCE_MAX);
        let stopped = self.stopped.is_some();
        let (wake, limit, waiting) = (sleep(self.landing().or(wake)), sleep(limit), self.lanes.waiting());
        let last_word = sleep(self.gone.as_ref().map(|(_, at)| LAST_WORD_MAX.saturating_sub(at.elapsed())));
        tokio::pin!(wake, limit, last_word);
        loop {
            let passed = self.traffic().total();
            return tokio::select! {
                event = self.events.recv() => event.unwrap_or(Event::Ended),
                () = waiting.eased() => Event::Room,
                () = &mut wake => Event::Time,
                () = &mut limit => Event::Stop,
                () = told(&mut self.stop), if !stopped => Event::Stop,
                () = &mut last_word, if self.gone.is_some() => match self.gone.take() {
                    Some((error, _)) => Event::Broken(error),
                    None => continue,
                },
                () = sleep(silence) => match self.traffic().total() == passed {
                    true => {
                        let silent = format!("the peer said nothing for {} minutes", SILENCE_MAX.as_secs() / 60);
                        Event::Broken(TransportError::Lost(silent))
                    }
                    // A peer that takes in what it is sent has nothing to say meanwhile.
                    false => continue,
                },
            };
        }
    }

    /// Whether more may be made ready for the link: nobody hears it once a lane is gone.
    fn has_room(&self) -> bool {
        self.gone.is_none() && self.lanes.has_room()
    }

    /// Counts what the store has written, also of a batch that it could not write to its end.
    fn note_written(&mut self, answer: Result<&Answer, &StoreError>) {
        let applied = match answer {
            Ok(Answer::Applied(applied)) => applied,
            Err(StoreError::Partly { applied, .. }) => applied,
            Ok(_) | Err(_) => return,
        };
        self.writing = false;
        self.written += applied.applied;
        if let Some(window) = &self.guarded.1 {
            window.note(applied.losses, Instant::now());
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), NodeError> {
        let now = millis(self.begun.elapsed());
        self.machine.handle(input, now).map_err(NodeError::Session)
    }

    fn on_records(&mut self, frame: RecordFrame) -> Result<(), NodeError> {
        let input = match frame {
            RecordFrame::Records { transfer, records } => Input::Records { transfer, records },
            RecordFrame::Chunk { transfer, guard, total, bytes } => {
                let whole = self.chunks.add(transfer, total, &bytes).map_err(NodeError::Session)?;
                let Some(record) = whole else {
                    self.frames.add_permits(1);
                    return Ok(());
                };
                Input::Records { transfer, records: vec![Incoming { record, guard }] }
            }
            RecordFrame::End { transfer, records, moved } => {
                self.frames.add_permits(1);
                return self.handle(Input::End { transfer, records, moved });
            }
        };
        self.applying += 1;
        // Others may have been busy for the same peer, and time has passed.
        if let Some(window) = &self.guarded.1 {
            let lost = window.lost(Instant::now());
            match &mut self.machine {
                Machine::Responder(responder) => responder.note_lost(lost),
                Machine::Opener(opener) => opener.note_lost(Seen::Mine, lost),
            }
        }
        self.handle(input)
    }

    fn send(&mut self, message: &Message) {
        if matches!(message, Message::Want(_) | Message::Offer(_)) {
            self.lanes.need_records();
        }
        if let Message::Refuse(refuse) = message {
            self.refused = Some(refuse.code);
        }
        let frame = message.encode();
        self.lanes.queued(frame.len());
        // A closed queue means that the lane is gone, which its own event tells.
        let _ = self.control.send(frame);
    }

    fn held_bye(&mut self) -> Option<Message> {
        let bye = self.held.iter().position(|message| matches!(message, Message::Bye(_)))?;
        self.held.remove(bye)
    }

    /// Whether a question is the next part of a list of which enough waits for the link: one request may list a whole store.
    fn is_to_wait(&self, query: &Query) -> bool {
        matches!((&self.machine, query), (Machine::Responder(_), Query::List(..))) && !self.has_room()
    }

    fn ask(&mut self, query: Query) {
        // What is done is let go: a session may ask millions of times.
        while self.tasks.try_join_next().is_some() {}
        let (side, sender, rate_limit) = (self.side.clone(), self.sender.clone(), self.rate_limit.clone());
        self.asking += 1;
        self.writing |= matches!(query, Query::Apply(..) | Query::Overwrite(..));
        let stuck = Stuck::asking(&query, &self.definition, &self.keys);
        // Records are to move.
        let begins = matches!(query, Query::Introduce | Query::Meet(..));
        let releases = begins.then(|| self.guarded.clone());
        self.tasks.spawn(async move {
            let work = move || {
                let released = releases.map(|guarded| brakes::release(&*side, &guarded));
                let (released, done) = released.unwrap_or_else(|| (Applied::default(), Ok(())));
                (released, done.and_then(|()| answer::answer(&*side, query)))
            };
            let answered = tokio::task::spawn_blocking(work).await;
            let panicked = |panic: JoinError| (Applied::default(), Err(StoreError::Panicked(panic.to_string())));
            let (released, answer) = answered.unwrap_or_else(panicked);
            if released != Applied::default() {
                let _ = sender.send(Event::Released(released)).await;
            }
            if let Ok(Answer::Items(items) | Answer::Listed(items, _)) = &answer {
                rate_limit.records(items.len()).await;
            }
            let answer = answer.map_err(|error| Failure::of(error, || stuck));
            let _ = sender.send(Event::Answer(answer)).await;
        });
    }

    /// It is counted already, in case nobody is there any more to hear of it.
    fn released(&mut self, released: &Applied) {
        self.written += released.applied;
        match &mut self.machine {
            Machine::Opener(opener) => opener.note_released(Seen::Mine, released),
            Machine::Responder(responder) => responder.note_released(released),
        }
    }

    fn fail(&mut self, failure: Failure) -> Result<Option<Outcome>, NodeError> {
        if matches!(self.machine, Machine::Responder(_)) {
            let code = reknit_core::message::RefuseCode::Store;
            let definition = Blob(failure.stuck.as_ref().map(Stuck::pack).unwrap_or_default());
            let refuse = reknit_core::message::Refuse { code, detail: failure.error.to_string(), definition };
            self.send(&Message::Refuse(refuse));
        }
        Err(failure.into())
    }

    fn traffic(&self) -> Traffic {
        self.lanes.traffic()
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

async fn told(stop: &mut tokio::sync::watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
