//! The running peer: its home, its sessions as opener and responder, and what it serves.
//!
//! Policy and protocol are the core's; how a command is typed and printed is the command line's.

pub mod blocking;
mod brakes;
mod catching;
mod collecting;
mod counters;
mod declared;
mod driver;
pub mod embed;
mod gossip;
mod grants;
mod held;
mod home;
mod introductions;
mod invitations;
mod lanes;
mod members;
mod packing;
mod parked;
mod places;
mod receipts;
mod report;
mod rights;
mod rotation;
mod runs;
mod serve;
mod succession;
mod ticket;
mod visits;
pub(crate) mod whole_file;

use std::sync::Arc;
#[cfg(feature = "cli")]
use std::time::Duration;
use std::time::Instant;

use reknit_core::difference::Side as Seen;
use reknit_core::message::{Life, Message, Rights};
use reknit_core::query::Applied;
use reknit_core::session::{Grant, Opener, Options, Responder, SessionError, Stuck};

pub use brakes::NodeBrakes;
pub use counters::{Counted, CountedSessions};
pub use declared::Declared;
use driver::Answered;
pub use gossip::{Apart, Gossip, GossipOptions, Neighbour, ParkedRanges, Waiting};
pub use grants::{Grants, GrantsError};
pub use held::{HeldFailure, HeldStore, HoldRequest};
pub use home::{Authority, Home, HomeError, KnownPeer};
pub use invitations::{Invitation, Welcome};
pub use lanes::Traffic;
pub use members::{follow_keys, member_of};
pub use receipts::RECEIPTS_MAX;
pub use report::{Budget, Progress, SessionReport};
pub use rights::RIGHTS_LOOK;
pub use rotation::Rotated;
pub use serve::{Joined, Node, NodeOptions, Served, Serving};
pub use succession::statements_typed;
pub use ticket::{Ticket, TicketError};

use self::brakes::Guarded;
#[cfg(feature = "cli")]
use self::brakes::Window;
pub(crate) use self::brakes::Windows;
use self::receipts::Signer;
use self::runs::SideRun;
use self::visits::{Asked, Peer, visit};
use crate::store::{Side, StoreError};
use crate::transport::{Link, TransportError};

/// Why a session has no outcome. Everything that was applied before is valid; the same command goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A store failed; the session ended.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A store failed within some ranges; the session ended. One that leaves them out goes on with the rest
    /// ([`reknit_core::session::Parked`]).
    #[error("{error}")]
    Stuck {
        /// What the store met.
        error: StoreError,
        /// Where.
        stuck: Stuck,
    },
    /// The link could not be had, or broke.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The peer broke the protocol; the session ended.
    #[error("{0}; the session was ended")]
    Session(SessionError),
    /// The peer ended the session before its outcome.
    #[error("the peer ended the session before its end; what was applied is valid, the same command goes on")]
    Cut,
    /// The node that was asked to hold the session says that it has no outcome.
    #[error("the node that holds the session says: {message}")]
    Held {
        /// How bad it is.
        failure: HeldFailure,
        /// What it says.
        message: String,
    },
    /// The peer lost rights here that its session used; the session was ended at once.
    #[error("rights of the peer were taken away here, so its session was ended; what was applied is valid")]
    TakenAway,
    /// The home of the node failed.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// What the journal calls a peer of whom a session knows nothing but its link.
const UNNAMED: &str = "a peer on a link";

/// Stops a session early, or all of them: send `true`.
pub type Stop = tokio::sync::watch::Sender<bool>;

/// Opens a session over `link` and runs it to its outcome.
///
/// Dropping the future ends the session at once; what was applied stays valid.
///
/// # Errors
/// [`NodeError`]; the verdict is then unknown.
pub async fn open_session(
    side: Arc<dyn Side>,
    link: Link,
    options: Options,
    budget: Budget,
    stop: tokio::sync::watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    open_with(side, link, Asked::once(options, budget, stop), progress, Whom::unnamed()).await
}

/// Whom a session is with.
struct Whom {
    /// As the journal names it.
    name: String,
    /// Who signs the receipt, where identities are known.
    signer: Option<Arc<Signer>>,
    /// Is over once the session must end, whatever is under way.
    over: Over,
}

/// What is over once a session must end.
type Over = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Whom {
    fn new(name: String, signer: Option<Arc<Signer>>) -> Whom {
        Whom { name, signer, over: Box::pin(std::future::pending()) }
    }

    fn unnamed() -> Whom {
        Whom::new(UNNAMED.into(), None)
    }
}

/// The same, with a peer that is known.
async fn open_with(
    side: Arc<dyn Side>,
    link: Link,
    asked: Asked,
    progress: &mut (dyn FnMut(Progress) + Send),
    whom: Whom,
) -> Result<SessionReport, NodeError> {
    let run = SideRun::opener(side, &asked.options, whom.name)?;
    open_in(run, link, asked, progress, whom.signer).await
}

/// The same, in a run that has begun.
async fn open_in(
    run: SideRun,
    link: Link,
    asked: Asked,
    progress: &mut (dyn FnMut(Progress) + Send),
    signer: Option<Arc<Signer>>,
) -> Result<SessionReport, NodeError> {
    let Asked { options, budget, stop, windows: [window, theirs], brakes, released, .. } = asked;
    let side = run.side();
    let info = side.describe();
    let signer = signer.filter(|_| options.receipt);
    let mut opener = Opener::new(info.definition.clone(), info.keys.clone(), life(&*side), options, 0);
    if let Some(signer) = &signer {
        opener = opener.with_witness(signer.clone());
    }
    // Where that is counted in a window, it is there already.
    opener.note_released(Seen::Theirs, &released);
    for (window, of) in [(&window, Seen::Mine), (&theirs, Seen::Theirs)] {
        let lost = window.as_ref().map(|window| window.lost(Instant::now()));
        lost.into_iter().for_each(|lost| opener.note_lost(of, lost));
    }
    let report = driver::open(opener, (side.clone(), (brakes, window)), link, budget, stop, progress).await;
    let ended = run.end(report.as_ref().map_or("undetermined", |report| report.outcome.verdict.name())).await;
    let mut report = report?;
    report.runs.0 = ended?;
    if let (Some(signer), Some(receipt)) = (&signer, &report.outcome.receipt) {
        signer.keep(receipt);
        collecting::forward(side, receipt).await;
    }
    Ok(report)
}

/// A session between two stores of this process; `a` opens it.
///
/// # Errors
/// As for [`open_session`].
pub async fn between(
    a: Arc<dyn Side>,
    b: Arc<dyn Side>,
    options: Options,
    budget: Budget,
    stop: tokio::sync::watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    visit(a, Peer::Store(b, None), Asked::once(options, budget, stop), progress).await
}

/// The same, with a receipt that the home signs for both sides: it has one witness, and says so.
///
/// # Errors
/// As for [`open_session`], or the home has no identity.
pub async fn between_witnessed(
    home: &Home,
    (a, b): (Arc<dyn Side>, Arc<dyn Side>),
    options: Options,
    budget: Budget,
    stop: tokio::sync::watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    let signer = if options.receipt { Some(Signer::alone(home)?) } else { None };
    visit(a, Peer::Store(b, signer), Asked::once(options, budget, stop), progress).await
}

/// The same, of a session that counts what it loses either store with those before it.
///
/// # Errors
/// As for [`between_witnessed`].
#[cfg(feature = "cli")]
pub(crate) async fn between_counted(
    home: &Home,
    (a, b): (Arc<dyn Side>, Arc<dyn Side>),
    (windows, within): (&Arc<Windows>, Duration),
    options: Options,
    budget: Budget,
    stop: tokio::sync::watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    let signer = if options.receipt { Some(Signer::alone(home)?) } else { None };
    let infos = (a.describe(), b.describe());
    let windows = [(&infos.0, &infos.1), (&infos.1, &infos.0)]
        .map(|(one, other)| Some(Window::of_store(within, windows, one, other)));
    visit(a, Peer::Store(b, signer), Asked { windows, ..Asked::once(options, budget, stop) }, progress).await
}

/// One session between two stores of this process.
async fn with_store(
    signer: Option<Arc<Signer>>,
    (a, b): (Arc<dyn Side>, Arc<dyn Side>),
    asked: Asked,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    let infos = (a.describe(), b.describe());
    let theirs = SideRun::other(b, &asked.options, infos.0.place)?;
    let ours = match SideRun::opener(a, &asked.options, infos.1.place) {
        Ok(ours) => ours,
        Err(error) => return theirs.end("undetermined").await.and(Err(error)),
    };
    // The opener must know of it, since it says what the other side may lose. Of two datasets nothing is written.
    let released = match infos.0.definition == infos.1.definition {
        true => theirs.release((asked.brakes, asked.windows[1].clone())).await,
        false => Ok(Applied::default()),
    };
    let released = match released {
        Ok(released) => released,
        Err(error) => {
            let ended = (ours.end("undetermined").await, theirs.end("undetermined").await);
            return ended.0.and(ended.1).and(Err(error));
        }
    };
    let let_out = released.applied;
    let asked = Asked { released, ..asked };
    let (near, far) = Link::pair();
    // Only the opener is told to stop: it ends the session with what it knows, and the other side with it.
    let (_never, unstopped) = tokio::sync::watch::channel(false);
    let grant = Grant::everywhere(Rights::ALL);
    // How much it may lose is the opener's concern; what it lost is counted where it is written.
    let guarded = (None, asked.windows[1].clone());
    let answering = tokio::spawn(answer_on(theirs.side(), far, grant, None, unstopped, (guarded, signer.clone())));
    let report = open_in(ours, near, asked, progress, signer).await;
    let answered = answering.await;
    let verdict = report.as_ref().map_or("undetermined", |report| report.outcome.verdict.name());
    let ended = theirs.end(verdict).await;
    let written = if let Ok(Ok(answered)) = &answered { answered.written } else { 0 };
    let mut report = match (report, answered) {
        // The other store's own failure says more than what a peer is told of it; where that is, whoever asked knows.
        (report, Ok(Err(NodeError::Stuck { error, stuck }))) => {
            let stuck = report.ok().and_then(|report| report.outcome.stuck).unwrap_or(stuck);
            return Err(NodeError::Stuck { error, stuck });
        }
        (_, Ok(Err(error @ NodeError::Store(_)))) => return Err(error),
        // So does whatever ended the other half, where this one only saw the link end.
        (Err(NodeError::Transport(_) | NodeError::Cut), Ok(Err(error))) => return Err(error),
        (Ok(report), Ok(Err(error))) if report.lost.is_some() => {
            SessionReport { lost: Some(Arc::new(error)), ..report }
        }
        (report, _) => report?,
    };
    // The opener hears of whole transfers; one that was cut short has written all the same.
    report.outcome.counts.to_theirs.wrote(written + let_out);
    report.runs.1 = ended?;
    Ok(report)
}

/// Answers the opener at the other end of `link`, whose first message may have been read already; gives
/// the verdict that it told.
///
/// # Errors
/// As for [`open_session`].
pub async fn answer_session(
    side: Arc<dyn Side>,
    link: Link,
    grant: Grant,
    first: Option<Message>,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<String, NodeError> {
    Ok(answer_with(side, link, grant, first, stop, Whom::unnamed(), (None, None)).await?.verdict)
}

/// The same, with a peer that is known, and that may lose the side only so much.
async fn answer_with(
    side: Arc<dyn Side>,
    link: Link,
    grant: Grant,
    first: Option<Message>,
    stop: tokio::sync::watch::Receiver<bool>,
    whom: Whom,
    guarded: Guarded,
) -> Result<Answered, NodeError> {
    let run = SideRun::responder(side.clone(), whom.name)?;
    let answering = answer_on(run.side(), link, grant, first, stop, (guarded, whom.signer.clone()));
    let answered = tokio::select! {
        biased;
        () = whom.over => Err(NodeError::TakenAway),
        answered = answering => answered,
    };
    let ended = run.end(answered.as_ref().map_or("undetermined", |answered| answered.verdict.as_str())).await;
    let answered = answered?;
    ended?;
    if let (Some(signer), Some(receipt)) = (whom.signer, &answered.receipt) {
        signer.keep(receipt);
        // What an opener says of members may not be taken, so this side says it too.
        collecting::forward(side, receipt).await;
    }
    Ok(answered)
}

async fn answer_on(
    side: Arc<dyn Side>,
    link: Link,
    grant: Grant,
    first: Option<Message>,
    stop: tokio::sync::watch::Receiver<bool>,
    (guarded, signer): (Guarded, Option<Arc<Signer>>),
) -> Result<Answered, NodeError> {
    let info = side.describe();
    // What is never written grants nobody to write it.
    let grant = if info.writable { grant } else { grant.at_most(Rights::COMPARE.and(Rights::READ)) };
    let mut responder = Responder::new(info.definition.clone(), info.keys.clone(), life(&*side), grant);
    if let Some(brakes) = guarded.0 {
        responder = responder.with_brakes(brakes);
    }
    if let Some(signer) = signer {
        responder = responder.with_witness(signer);
    }
    driver::answer(responder, first, (side, guarded), link, stop).await
}

fn life(side: &dyn Side) -> Life {
    let info = side.describe();
    Life { actor: info.actor.0, nonce: info.nonce }
}

#[cfg(test)]
mod tests;
