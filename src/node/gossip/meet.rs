//! Sessions with one peer after the other, as the roster says.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::agenda::Trial;
use reknit_core::gossip::{Met, Standing};
use reknit_core::message::{RefuseCode, Rights};
use reknit_core::session::{Grant, Intent, Options, Outcome, Parked, Verdict};
use tokio::sync::watch;

use super::allowed::{self, Turn};
use super::granted::{Granted, Tries};
use super::recalled::Kept;
use super::withheld::Withheld;
use super::{GossipOptions, Shared};
use crate::clock::{now_ms, ticks};
use crate::node::parked::parked;
use crate::node::{Budget, Grants, Node, NodeError, SessionReport};
use crate::store::Store;
use crate::transport::{Address, PeerId, TransportError};

/// How long a session that was told to end may take to say how it stands; then it is let go.
const ENDS: Duration = Duration::from_secs(5);

/// Why there is no verdict; nothing where that is no fault.
type Failed = Option<String>;

/// Meets peers until it is stopped.
pub(super) async fn keep(
    node: Node,
    (store, mut kept): (Store, Kept),
    shared: Arc<Shared>,
    options: GossipOptions,
    mut stop: watch::Receiver<bool>,
) {
    let id = store.definition().id;
    let mut granted = Granted::default();
    loop {
        let ends = tokio::select! {
            () = tokio::time::sleep(options.every) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if ends {
            return kept.update(&store, &shared, true).await;
        }
        for peer in shared.rosters().get_mut(&id).map(|roster| roster.set_right(now_ms())).unwrap_or_default() {
            let dataset = &store.definition().name;
            tracing::warn!(peer = %peer.short(), dataset, "it was noted later than it can be, as by a clock that was set back; that counts from now");
        }
        let next = shared.rosters().get_mut(&id).and_then(|roster| roster.next(ticks()));
        let Some(peer) = next else { continue };
        let Some(at) = shared.up().get(&peer).copied() else { continue };
        let dataset = store.definition().name.clone();
        let address = Address { peer, host: at.ip().to_string(), port: at.port(), dataset };
        // A check asks for no records, so that none is in its way.
        let trial = if options.repair { shared.parked.trial(id, peer, ticks()) } else { Trial::default() };
        let may = May::of(&node, &store, peer);
        let turns = allowed::turns(store.definition(), &may.grant, options.repair);
        let whole = matches!(&turns[..], [turn] if turn.scope.is_empty());
        let (mut met, mut narrows) = (None, false);
        for turn in turns {
            // What is parked is known of the dataset as a whole.
            let parked = parked(&trial, store.definition()).filter(|_| whole);
            let tries = granted.tries(peer, &turn, ticks());
            let asked = (&turn, tries, parked, &may);
            let (held, session) = meet(&node, &store, &address, &options, asked, stop.clone()).await;
            granted.took(peer, &turn, held, ticks());
            narrows |= match &session {
                Ok(ended) if whole && matches!(held, Intent::Repair(_)) => {
                    shared.parked.learn(store.definition(), peer, (&trial, ended), ticks())
                }
                _ => false,
            };
            let one = session.map_err(Some).and_then(judged);
            met = Some(met.map_or(one.clone(), |before| together(before, one)));
        }
        // Whoever may not compare here is told nothing of what there is.
        let met = met.unwrap_or(Err(None));
        match &met {
            Err(Some(why)) => {
                let news = shared.failures().insert((id, peer), why.clone()).is_none_or(|earlier| earlier != *why);
                if news {
                    tracing::warn!(peer = %peer.short(), dataset = address.dataset, why, "a session of gossip has failed");
                }
            }
            _ => drop(shared.failures().remove(&(id, peer))),
        }
        // What is stuck is narrowed down by the next ones.
        let met = met.unwrap_or(if narrows { Met::Partial } else { Met::Failed });
        if met == Met::Equal && whole {
            shared.withheld().get_mut(&id).into_iter().for_each(Withheld::clear);
            // Both sides knew one another as they met. What still keeps them apart is said again with the next word.
            if options.repair {
                shared.apart().remove(&(id, peer));
            }
        }
        if let Some(roster) = shared.rosters().get_mut(&id) {
            roster.met(peer, ticks(), now_ms(), met);
            tell(roster.standing(peer).is_some_and(Standing::is_stalled), peer, &address.dataset);
        }
        kept.update(&store, &shared, false).await;
    }
}

fn tell(stalled: bool, peer: PeerId, dataset: &str) {
    if stalled {
        tracing::warn!(peer = %peer.short(), dataset, "as much differs after each session as before; it is met less often");
    }
}

/// What a peer may here, as of a moment, and how it is noticed that it may no more.
struct May {
    grant: Grant,
    changes: watch::Receiver<u64>,
}

impl May {
    /// What cannot be read gives no right.
    fn of(node: &Node, store: &Store, peer: PeerId) -> May {
        let changes = node.rights().changes();
        let grants = node.home().grants(peer).ok().flatten().unwrap_or_default();
        May { grant: grants.on(store.definition()), changes }
    }
}

/// A session with a peer; or, where none had ended in time, that. Where the peer does not grant what is tried, the next is: with
/// which it was held is told too.
async fn meet(
    node: &Node,
    store: &Store,
    address: &Address,
    options: &GossipOptions,
    (turn, tries, parked, may): (&Turn, Tries, Option<Arc<Parked>>, &May),
    stop: watch::Receiver<bool>,
) -> (Intent, Result<Result<SessionReport, NodeError>, String>) {
    let refused = |session: &Result<Result<SessionReport, NodeError>, String>| {
        let Ok(Ok(report)) = session else { return false };
        report.outcome.refusal.as_ref().is_some_and(|refusal| refusal.code == RefuseCode::Rights)
    };
    let (mut held, less) = tries;
    let mut session = hold(node, store, address, options, (turn, held, parked.clone(), may), stop.clone()).await;
    for less in less {
        if !refused(&session) {
            break;
        }
        held = *less;
        session = hold(node, store, address, options, (turn, held, parked.clone(), may), stop.clone()).await;
    }
    (held, session)
}

async fn hold(
    node: &Node,
    store: &Store,
    address: &Address,
    options: &GossipOptions,
    (turn, intent, parked, may): (&Turn, Intent, Option<Arc<Parked>>, &May),
    stop: watch::Receiver<bool>,
) -> Result<Result<SessionReport, NodeError>, String> {
    let side = Arc::new(store.clone());
    let definition = store.definition().clone();
    let began = &may.grant;
    let members = allowed::members(began);
    // Catching up is about all collections.
    let keeps_horizon = !began.rights.allow(Rights::COMPARE.and(Rights::WRITE));
    let still = |grants: &Grants| allowed::still(&definition, turn, began, &grants.on(&definition));
    let lost = node.rights().lost(may.changes.clone(), address.peer, still);
    // What may not be pushed is not brought by a session either that nobody asked for.
    let brakes = Some(options.brakes.brakes);
    let asked = Options { brakes, parked, scope: turn.scope.clone(), keeps_horizon, ..Options::new(intent) };
    let most = options.session_max;
    let budget = Budget { time: Some(most), ..Budget::default() };
    let asked = (asked, options.brakes.window);
    let session = node.session_by_itself(address, side, asked, members, budget, stop);
    tokio::select! {
        // What was taken away before it began is no more.
        biased;
        () = lost => Ok(Err(NodeError::TakenAway)),
        session = session => Ok(session),
        // A store may be stuck, or a peer let in and then not answered: no other peer waits for it.
        () = tokio::time::sleep(most + ENDS) => Err(format!("it had not ended after {} s", (most + ENDS).as_secs())),
    }
}

/// What two sessions about parts of a dataset say together of the peer.
fn together(one: Result<Met, Failed>, other: Result<Met, Failed>) -> Result<Met, Failed> {
    let (one, other) = match (one, other) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(Some(why)), _) | (_, Err(Some(why))) => return Err(Some(why)),
        _ => return Err(None),
    };
    Ok(match (one, other) {
        (Met::Equal, met) | (met, Met::Equal) => met,
        (Met::Differs(one), Met::Differs(other)) => Met::Differs(one + other),
        (Met::LeftOut(one), Met::LeftOut(other)) => Met::LeftOut(one + other),
        (Met::Differs(one), Met::LeftOut(_)) | (Met::LeftOut(_), Met::Differs(one)) => Met::Differs(one),
        (Met::Failed, _) | (_, Met::Failed) => Met::Failed,
        (Met::Partial, _) | (_, Met::Partial) => Met::Partial,
    })
}

fn judged(session: Result<SessionReport, NodeError>) -> Result<Met, Failed> {
    match session {
        Ok(report) => met(&report),
        // As many sessions as it allows are no fault of its.
        Err(NodeError::Transport(TransportError::Busy)) => Err(None),
        Err(error) => Err(Some(error.to_string())),
    }
}

/// What a session with an outcome says of the peer.
fn met(report: &SessionReport) -> Result<Met, Failed> {
    let outcome = &report.outcome;
    let moved = outcome.counts.to_mine.applied + outcome.counts.to_theirs.applied;
    match outcome.verdict {
        Verdict::InSync | Verdict::Converged => Ok(Met::Equal),
        Verdict::Differs => Ok(Met::Differs(found(outcome))),
        // All but what is parked was compared to its end; where nothing was written, it is there that both differ.
        Verdict::Partial if outcome.left_out > 0 && moved == 0 => Ok(Met::LeftOut(outcome.left_out)),
        Verdict::Partial if outcome.left_out > 0 => Ok(Met::Partial),
        Verdict::Partial | Verdict::Undetermined if report.lost.is_none() && moved > 0 => Ok(Met::Partial),
        _ => match outcome.refusal.as_ref().map(|refusal| refusal.code) {
            // It may have other datasets in common with this node, or be busy with others for a moment.
            Some(RefuseCode::Dataset | RefuseCode::Busy) => Err(None),
            _ => Err(Some(outcome.reason.clone())),
        },
    }
}

/// How many keys differ, or about: a check lists none.
fn found(outcome: &Outcome) -> u64 {
    outcome.estimate.map_or(outcome.counts.differences(), |estimate| estimate.likely).max(1)
}
