//! The sessions that belong to one that was asked for: the same again once a horizon was raised, catching up before it where
//! a side missed one, and one about members after it. What each of them does is decided in the core.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::brakes::{Brakes, Limit};
use reknit_core::query::Applied;
use reknit_core::session::{Direction, Intent, Options};
use tokio::sync::watch;

use super::brakes::{Window, Windows};
use super::receipts::Signer;
use super::{Budget, Node, NodeError, Progress, SessionReport, Whom, catching, members, open_with, with_store};
use crate::store::Side;
use crate::transport::{Address, Connection, PeerId};

/// Sessions of one intent that may be needed before one of them is over: both sides may have to be raised, and to catch up.
const TIMES_MAX: usize = 5;

/// What is asked of a session.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) options: Options,
    pub(super) budget: Budget,
    pub(super) stop: watch::Receiver<bool>,
    /// Where it counts what it loses this side, and the other where that is a store of this process too.
    pub(super) windows: [Option<Window>; 2],
    /// What may be lost by what leaves quarantine as it begins.
    pub(super) brakes: Option<Brakes>,
    /// What left it in that other store.
    pub(super) released: Applied,
    /// Where members may be written by a session that follows.
    pub(super) members: Option<Direction>,
}

impl Asked {
    /// What counts for this session alone.
    pub(super) fn once(options: Options, budget: Budget, stop: watch::Receiver<bool>) -> Asked {
        let (brakes, released) = (options.brakes, Applied::default());
        Asked { options, budget, stop, windows: [None, None], brakes, released, members: Some(Direction::Both) }
    }

    /// The same of a session that follows, as which nothing more leaves quarantine that somebody would lose something by.
    fn after(self) -> Asked {
        let nothing = Limit::records(0);
        Asked { brakes: Some(Brakes { delete: nothing, change: nothing, shrunken: false }), ..self }
    }
}

/// Whom sessions are with.
#[derive(Clone)]
pub(super) enum Peer<'a> {
    /// Another store of this process, and who signs for both.
    Store(Arc<dyn Side>, Option<Arc<Signer>>),
    /// A node at the end of a connection.
    Node(&'a Connection, String, Arc<Signer>),
}

impl Peer<'_> {
    /// One session.
    pub(super) async fn session(
        &self,
        side: Arc<dyn Side>,
        asked: Asked,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<SessionReport, NodeError> {
        match self {
            Peer::Store(other, signer) => with_store(signer.clone(), (side, other.clone()), asked, progress).await,
            Peer::Node(connection, name, signer) => {
                let whom = Whom::new(name.clone(), Some(signer.clone()));
                open_with(side, connection.open().await?, asked, progress, whom).await
            }
        }
    }

    /// What the journal calls it.
    pub(super) fn name(&self) -> String {
        match self {
            Peer::Store(other, _) => other.describe().place,
            Peer::Node(_, name, _) => name.clone(),
        }
    }

    /// Who signs the receipts of sessions with it.
    pub(super) fn signer(&self) -> Option<&Arc<Signer>> {
        match self {
            Peer::Store(_, signer) => signer.as_ref(),
            Peer::Node(_, _, signer) => Some(signer),
        }
    }
}

impl Node {
    /// Counts what is lost with others of this process.
    #[must_use]
    pub(crate) fn with_windows(mut self, windows: Arc<Windows>) -> Node {
        self.windows = windows;
        self
    }

    /// As [`Node::session`], of a session that nobody waits for: what it loses the store counts with all that was lost to that peer
    /// within so long, so that a row of small losses comes to no more than one large one may.
    pub(crate) async fn session_counted(
        &self,
        address: &Address,
        side: Arc<dyn Side>,
        (options, within): (Options, Duration),
        budget: Budget,
        stop: watch::Receiver<bool>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<SessionReport, NodeError> {
        let windows = [Some(self.window(within, &*side, address.peer)), None];
        self.visit(address, side, Asked { windows, ..Asked::once(options, budget, stop) }, progress).await
    }

    /// The same of one that this node holds by itself: members are written there alone, whatever else is repaired.
    pub(super) async fn session_by_itself(
        &self,
        address: &Address,
        side: Arc<dyn Side>,
        (options, within): (Options, Duration),
        members: Option<Direction>,
        budget: Budget,
        stop: watch::Receiver<bool>,
    ) -> Result<SessionReport, NodeError> {
        let windows = [Some(self.window(within, &*side, address.peer)), None];
        self.visit(address, side, Asked { windows, members, ..Asked::once(options, budget, stop) }, &mut |_| {}).await
    }

    /// Where is counted what a side loses to a peer: to all keys of it together.
    pub(super) fn window(&self, within: Duration, side: &dyn Side, peer: PeerId) -> Window {
        let newest = PeerId(self.home().lines().unwrap_or_default().newest(peer.0));
        Window::of_peer(within, &self.windows, &side.describe(), newest)
    }
}

/// The session that was asked for, with all that belongs to it.
pub(super) async fn visit(
    side: Arc<dyn Side>,
    peer: Peer<'_>,
    asked: Asked,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    let intent = asked.options.intent;
    let mut report = peer.session(side.clone(), asked.clone(), progress).await?;
    let asked = asked.after();
    for _ in 1..TIMES_MAX {
        let ready = match report.outcome.behind.clone() {
            None => report.outcome.raised,
            Some(behind) => match catching::catch_up(&side, &peer, &behind, &asked, &mut report).await? {
                catching::Caught::Up => true,
                catching::Caught::NotYet => false,
            },
        };
        if !ready {
            break;
        }
        let mut again = peer.session(side.clone(), asked.clone(), progress).await?;
        let (before, counts) = (&report.outcome.counts, &mut again.outcome.counts);
        counts.to_mine = counts.to_mine.and(before.to_mine);
        counts.to_theirs = counts.to_theirs.and(before.to_theirs);
        let traffic = report.traffic.and(again.traffic);
        let elapsed = report.elapsed + again.elapsed;
        let (caught_up, strays) = (report.caught_up, report.strays);
        report = SessionReport { traffic, elapsed, caught_up, strays, ..again };
    }
    about_members(&side, &peer, intent, &asked, &report).await;
    Ok(report)
}

/// The session about members that follows, if one does. The one before stands without it.
async fn about_members(side: &Arc<dyn Side>, peer: &Peer<'_>, intent: Intent, asked: &Asked, report: &SessionReport) {
    let mut next = members::session_after(side, (intent, asked.members), &report.outcome);
    while let Some(options) = next.take() {
        let about = Asked { options: options.clone(), ..asked.clone() };
        let ran = peer.session(side.clone(), about, &mut |_| {}).await;
        next = ran.as_ref().ok().and_then(|report| members::reading_only(options, &report.outcome));
        if next.is_none() {
            members::note(&ran);
        }
    }
}
