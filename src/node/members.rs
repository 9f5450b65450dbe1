//! Members of a dataset between nodes: after a repair whose peer knows others, they are compared in a session of their own.
//!
//! Which records they are is the core's concern; so is who may write them.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::difference::Side as Seen;
use reknit_core::members::{LEASE_MILLIS, Member};
use reknit_core::message::{RefuseCode, Rights};
use reknit_core::session::{Direction, Intent, Options, Outcome, Verdict};
use reknit_core::succession::Lines;
use tokio::sync::watch;

use super::rotation::own_lines;
use super::{Home, Joined, Node, NodeError, SessionReport};
use crate::clock::now_ms;
use crate::store::{Side, Store};

/// Makes a peer that joins a member of those stores' datasets on which it may anything.
pub fn member_of<'a>(stores: impl Iterator<Item = &'a Store>) -> Joined {
    let stores: Vec<Store> = stores.filter(|store| store.definition().members().is_some()).cloned().collect();
    Arc::new(move |peer, grants| {
        let may = |store: &&Store| grants.on(store.definition()).anywhere() != Rights::default();
        for store in stores.iter().filter(may) {
            let member = Member { name: String::new(), since: now_ms(), lease: LEASE_MILLIS };
            if let Err(error) = store.add_member(&peer.0, &member) {
                tracing::error!(%error, %peer, "it could not be made a member");
            }
        }
    })
}

/// Members may come, by a session, after the newer key of one of them was heard of: they are looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// Lets the members of those stores' datasets go by the newest keys of their peers, now, whenever a newer one is known and once
/// a second, until it is stopped. Must be called within a tokio runtime.
pub fn follow_keys<'a>(node: &Node, stores: impl Iterator<Item = &'a Store>, mut stop: watch::Receiver<bool>) {
    let stores: Vec<Store> = stores.filter(|store| store.definition().members().is_some()).cloned().collect();
    let (home, own, mut changes) = (node.home().clone(), own_lines(node.identity()), node.rights().changes());
    tokio::spawn(async move {
        let mut failed = None;
        loop {
            let (stores, home, own) = (stores.clone(), home.clone(), own.clone());
            let moving = move || stores.iter().try_for_each(|store| moved(store, &home, &own));
            let done = tokio::task::spawn_blocking(moving);
            let error = done.await.ok().and_then(Result::err).map(|error| error.to_string());
            if let Some(error) = error.as_ref().filter(|_| error != failed) {
                tracing::error!(error, "members could not be told by their newer keys");
            }
            failed = error;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    });
}

/// A member is as before, under another key: what is waited for is what that one has received.
fn moved(store: &Store, home: &Home, own: &Lines) -> Result<(), NodeError> {
    let known = home.lines()?;
    let members = store.members()?;
    for (peer, member) in &members {
        let newest = known.newest(own.newest(*peer));
        if newest == *peer {
            continue;
        }
        if members.iter().all(|(other, _)| *other != newest) {
            store.add_member(&newest, member)?;
        }
        store.forget_member(peer)?;
    }
    Ok(())
}

/// The session that follows, if one does: it writes the sides that the repair might write, as far as members may be written there.
pub(super) fn session_after(
    side: &Arc<dyn Side>,
    (intent, may): (Intent, Option<Direction>),
    outcome: &Outcome,
) -> Option<Options> {
    let Intent::Repair(direction) = intent else { return None };
    let writes = |seen: Seen| direction.writes(seen) && may.is_some_and(|may| may.writes(seen));
    let direction = match (writes(Seen::Mine), writes(Seen::Theirs)) {
        (true, true) => Direction::Both,
        (true, false) => Direction::To(Seen::Mine),
        (false, true) => Direction::To(Seen::Theirs),
        (false, false) => return None,
    };
    let equal = matches!(outcome.verdict, Verdict::InSync | Verdict::Converged);
    let members = side.describe().definition.members().filter(|_| equal && outcome.members_differ)?;
    Some(Options { scope: vec![members], receipt: false, ..Options::new(Intent::Repair(direction)) })
}

/// The same for whoever may only read them there; none if that was not why it was refused.
pub(super) fn reading_only(options: Options, outcome: &Outcome) -> Option<Options> {
    let code = outcome.refusal.as_ref().map(|refusal| refusal.code);
    let both = options.intent == Intent::Repair(Direction::Both);
    let intent = Intent::Repair(Direction::To(Seen::Mine));
    (code == Some(RefuseCode::Rights) && both).then_some(Options { intent, ..options })
}

/// Says what came of it, where that was not as it should be. The repair stands without it.
pub(super) fn note(report: &Result<SessionReport, NodeError>) {
    match report.as_ref().map(|report| &report.outcome) {
        Ok(outcome) if matches!(outcome.verdict, Verdict::InSync | Verdict::Converged | Verdict::Differs) => {}
        // Whoever may not write members there has nothing to say about them.
        Ok(outcome) if outcome.refusal.as_ref().is_some_and(|refusal| refusal.code == RefuseCode::Rights) => {}
        Ok(outcome) => tracing::warn!(verdict = outcome.verdict.name(), reason = outcome.reason, "members"),
        Err(error) => tracing::warn!(%error, "the members could not be compared"),
    }
}
