//! What a configuration lets peers do, beside the file of peers of a home: neither widens what the other says of a peer.
//!
//! Where it is written down is for whoever reads the configuration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reknit_core::succession::Lines;

use super::{Grants, Home, KnownPeer};
use crate::transport::PeerId;

/// Peers that are declared, by their names for people, and what they may; others can be declared while a node serves.
#[derive(Debug, Default)]
pub struct Declared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    peers: Vec<KnownPeer>,
    /// How often that was another.
    changes: u64,
}

impl Declared {
    /// These peers.
    pub fn new(peers: Vec<KnownPeer>) -> Arc<Declared> {
        Arc::new(Declared(Mutex::new(State { peers, changes: 0 })))
    }

    fn set(&self, peers: Vec<KnownPeer>) {
        let mut state = self.lock();
        if state.peers != peers {
            *state = State { peers, changes: state.changes + 1 };
        }
    }

    /// What is declared of a peer, by any of its keys; by several of them, what all allow.
    fn of(&self, line: &[[u8; 32]]) -> Option<KnownPeer> {
        let state = self.lock();
        let all = state.peers.iter().filter(|known| line.contains(&known.peer.0)).cloned();
        all.reduce(|one, other| KnownPeer { may: one.may.both(&other.may), ..one })
    }

    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    /// The same home, where peers are declared. One that is in the file of peers too may what both allow, one that is not what is
    /// declared; and one that was removed nothing, until it is added again.
    #[must_use]
    pub fn with_declared(mut self, declared: Arc<Declared>) -> Home {
        self.declared = Some(declared);
        self
    }

    /// Has these peers declared from now on, and no others, where peers are declared.
    pub fn declare(&self, peers: Vec<KnownPeer>) {
        if let Some(declared) = &self.declared {
            declared.set(peers);
        }
    }

    /// What is declared of a peer, by any of its keys.
    pub fn declared(&self, peer: PeerId) -> Option<Grants> {
        let line: Vec<[u8; 32]> = self.line(peer).into_iter().map(|key| key.0).collect();
        Some(self.declared.as_ref()?.of(&line)?.may)
    }

    /// All peers that are declared, as they are declared.
    pub fn all_declared(&self) -> Vec<KnownPeer> {
        self.declared.as_ref().map(|declared| declared.lock().peers.clone()).unwrap_or_default()
    }

    /// Peers as the file has them, with what follows for each from what is declared; also those that may nothing.
    pub(super) fn with_those_declared(&self, listed: Vec<KnownPeer>, lines: &Lines) -> Vec<KnownPeer> {
        let Some(declared) = &self.declared else { return listed };
        let in_line = |known: &KnownPeer, key: &PeerId| lines.line(known.peer.0).contains(&key.0);
        let alone: Vec<PeerId> = {
            let alone = |known: &&KnownPeer| !listed.iter().any(|listed| in_line(listed, &known.peer));
            declared.lock().peers.iter().filter(alone).map(|known| PeerId(lines.newest(known.peer.0))).collect()
        };
        let alone = alone.into_iter().filter_map(|peer| Some(KnownPeer { peer, ..declared.of(&lines.line(peer.0))? }));
        let bound = |known: KnownPeer| match declared.of(&lines.line(known.peer.0)) {
            Some(declared) => {
                KnownPeer { may: known.may.both(&declared.may), name: known.name.or(declared.name), ..known }
            }
            None => known,
        };
        listed.into_iter().map(bound).chain(alone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::message::Rights;

    fn known(peer: PeerId, may: &str) -> KnownPeer {
        KnownPeer { peer, may: may.parse::<Grants>().expect("rights"), name: None }
    }

    #[test]
    fn neither_the_file_of_peers_nor_what_is_declared_widens_what_the_other_allows() {
        let dir = tempfile::tempdir().expect("a directory");
        let [declared, listed, both, stranger] = [1, 2, 3, 4].map(|byte| PeerId([byte; 32]));
        let state = Declared::new(vec![known(declared, "compare"), known(both, "shop=read")]);
        let home = Home::open(dir.path()).expect("opened").with_declared(state.clone());
        let may = |peer| home.grants(peer).expect("read").map(|grants| grants.names().join(","));
        home.add_peer(&known(listed, "read")).expect("added");
        home.add_peer(&known(both, "read,write")).expect("added");
        let of_all = || [declared, listed, both, stranger].map(may);
        let some = |text: &str| Some(text.to_string());
        assert_eq!(of_all(), [some("compare"), some("read"), some("shop=read"), None]);
        assert_eq!(home.peers().expect("read").len(), 3);
        // Who was removed stays out, whatever is declared of it, now or later.
        let before = home.version_of_peers();
        assert!(home.remove_peer(declared).expect("removed") && home.remove_peer(listed).expect("removed"));
        assert!(!home.remove_peer(declared).expect("removed") && !home.remove_peer(stranger).expect("removed"));
        let between = home.version_of_peers();
        state.set(vec![known(declared, "write"), known(listed, "write"), known(both, "write")]);
        assert!(before != between && between != home.version_of_peers(), "who goes by it hears of each change");
        assert_eq!(of_all(), [None, None, some("write"), None]);
        assert_eq!(home.peers().expect("read").len(), 1);
        // Until it is added again, or invited.
        home.add_peer(&known(declared, "read,write")).expect("added");
        home.grant(listed, &Rights::ALL.into()).expect("granted");
        assert_eq!(of_all(), [some("write"), some("write"), some("write"), None]);
        // Who is barred can be removed, and stays out once nothing bars it.
        state.set(vec![known(both, "")]);
        assert_eq!(may(both), None);
        assert!(home.remove_peer(both).expect("removed"));
        state.set(Vec::new());
        assert_eq!(may(both), None);
        home.add_peer(&known(both, "read,write")).expect("added");
        assert_eq!(of_all()[..3], [some("read,write"), some("compare,read,write,operate"), some("read,write")]);
    }
}
