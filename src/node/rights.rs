//! Rights that are taken away while a peer is connected: the file of peers is looked at, and whoever goes by it hears of each
//! change at once. What a right allows is said elsewhere.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::message::{Open, Rights};
use reknit_core::session::Grant;
use reknit_core::{CollectionId, Definition, Millis};
use tokio::sync::watch;

use super::home::VersionOfPeers;
use super::{Grants, Home};
use crate::clock::now_ms;
use crate::transport::PeerId;

/// How often the file of peers is looked at: a change is known so late at most.
pub const RIGHTS_LOOK: Duration = Duration::from_millis(200);

/// Hears of changes of the file of peers of a home, while a node serves.
#[derive(Clone)]
pub(super) struct InForce {
    home: Home,
    /// The file as it was before anybody went by it.
    known: VersionOfPeers,
    /// When a key in it may no more what it may.
    ends: Option<Millis>,
    changed: Arc<watch::Sender<u64>>,
}

impl InForce {
    pub(super) fn new(home: &Home) -> InForce {
        InForce { home: home.clone(), known: home.version_of_peers(), ends: home.next_end(), changed: Arc::default() }
    }

    /// Looks at the file until it is stopped. What has changed since this was made is told too: who is to hear of it may have gone
    /// by the file before.
    pub(super) async fn look(self, mut stop: watch::Receiver<bool>) {
        // The end of an overlap takes away what a key may, as a change of the file does.
        let (mut known, mut ends) = (self.known, self.ends);
        loop {
            tokio::select! {
                () = tokio::time::sleep(RIGHTS_LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let version = self.home.version_of_peers();
            if version == known && ends.is_none_or(|ends| now_ms() < ends) {
                continue;
            }
            known = version;
            ends = self.home.next_end();
            if let Err(error) = self.home.peers() {
                tracing::error!(%error, "nobody is admitted; who is connected keeps what it could do before");
            }
            self.changed.send_modify(|times| *times += 1);
        }
    }

    /// Changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until a peer has lost what it needs here, as `has` judges its grants; for ever if that never happens. What was so
    /// when the node was made is not judged. A file that cannot be read takes nothing away.
    pub(super) async fn lost(&self, mut changes: watch::Receiver<u64>, peer: PeerId, has: impl Fn(&Grants) -> bool) {
        loop {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            if self.home.grants(peer).is_ok_and(|grants| !has(&grants.unwrap_or_default())) {
                return;
            }
        }
    }
}

/// Whether a grant still allows what a session wanted that began under another.
pub(super) fn still_allows(open: &Open, definition: &Definition, began: &Grant, now: &Grant) -> bool {
    let scope: Vec<CollectionId> = match open.scope.is_empty() {
        true => definition.data().map(|(id, _)| id).collect(),
        false => open.scope.clone(),
    };
    scope.iter().all(|c| now.on(*c).allow(began.on(*c).both(open.wants.and(Rights::COMPARE))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::KnownPeer;

    #[tokio::test(start_paused = true)]
    async fn who_is_added_before_the_first_look_is_told_of() {
        let home = Home::in_memory();
        let rights = InForce::new(&home);
        let mut changes = rights.changes();
        home.add_peer(&KnownPeer { peer: PeerId([7; 32]), may: Grants::default(), name: None }).expect("added");
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(rights.look(stopped));
        changes.changed().await.expect("it is looked at");
    }
}
