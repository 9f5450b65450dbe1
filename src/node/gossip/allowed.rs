//! What a session that nobody asked for is about: no more than the peer may here (M22), and no more than this node may there.
//!
//! Whoever opens a session is asked by nobody what its peer may; sessions that are opened are checked in the core.

use reknit_core::difference::Side;
use reknit_core::message::Rights;
use reknit_core::session::{Direction, Grant, Intent};
use reknit_core::{CollectionId, Definition};

/// A session that may be held with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) intent: Intent,
    /// The collections that it is about; none named: all.
    pub(super) scope: Vec<CollectionId>,
}

/// The sessions that may be held with a peer that may so much here: one, where it may the same with all collections.
pub(super) fn turns(definition: &Definition, grant: &Grant, repairs: bool) -> Vec<Turn> {
    let all: Vec<CollectionId> = definition.data().map(|(id, _)| id).collect();
    let mut turns: Vec<Turn> = Vec::new();
    for collection in &all {
        let Some(intent) = intent(grant.on(*collection), repairs) else { continue };
        match turns.iter_mut().find(|turn| turn.intent == intent) {
            Some(turn) => turn.scope.push(*collection),
            None => turns.push(Turn { intent, scope: vec![*collection] }),
        }
    }
    if let [turn] = turns.as_mut_slice()
        && turn.scope == all
    {
        turn.scope.clear();
    }
    turns
}

/// Whether a peer may still what it might with the collections of a session when that began, and with members.
pub(super) fn still(definition: &Definition, turn: &Turn, began: &Grant, now: &Grant) -> bool {
    let all = (0..definition.collections.len()).filter_map(|nth| u16::try_from(nth).ok()).map(CollectionId);
    let about = |collection: &CollectionId| turn.scope.is_empty() || turn.scope.contains(collection);
    let of_members =
        now.rights.allow(began.rights.both(Rights::WRITE)) && now.anywhere().allow(began.anywhere().both(Rights::READ));
    of_members && all.filter(about).all(|collection| now.on(collection).allow(began.on(collection)))
}

/// Where members may be written by such a session: to whoever may read anything, and here from whoever may write everything.
pub(super) fn members(grant: &Grant) -> Option<Direction> {
    match (grant.rights.allow(Rights::WRITE), grant.anywhere().allow(Rights::READ)) {
        (true, true) => Some(Direction::Both),
        (true, false) => Some(Direction::To(Side::Mine)),
        (false, true) => Some(Direction::To(Side::Theirs)),
        (false, false) => None,
    }
}

/// What is tried of an intent, one after the other, where the peer does not grant this node all that it takes.
pub(in crate::node) fn less(intent: Intent) -> &'static [Intent] {
    const TO_MINE: Intent = Intent::Repair(Direction::To(Side::Mine));
    const TO_THEIRS: Intent = Intent::Repair(Direction::To(Side::Theirs));
    match intent {
        Intent::Repair(Direction::Both) => &[TO_MINE, TO_THEIRS, Intent::Check],
        Intent::Repair(Direction::To(_)) => &[Intent::Check],
        Intent::Check | Intent::Diff => &[],
    }
}

fn intent(rights: Rights, repairs: bool) -> Option<Intent> {
    let (reads, writes) = (rights.allow(Rights::READ), rights.allow(Rights::WRITE));
    Some(match (reads, writes) {
        _ if !rights.allow(Rights::COMPARE) => return None,
        (true, true) if repairs => Intent::Repair(Direction::Both),
        (true, false) if repairs => Intent::Repair(Direction::To(Side::Theirs)),
        (false, true) if repairs => Intent::Repair(Direction::To(Side::Mine)),
        _ => Intent::Check,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::DatasetId;
    use reknit_core::dataset::Collection;

    const READS: Rights = Rights(3);
    const WRITES: Rights = Rights(5);
    const BOTH: Rights = Rights(7);
    const TO_BOTH: Intent = Intent::Repair(Direction::Both);
    const TO_MINE: Intent = Intent::Repair(Direction::To(Side::Mine));
    const TO_THEIRS: Intent = Intent::Repair(Direction::To(Side::Theirs));

    fn shop() -> Definition {
        let names = ["users", "orders", "logs"];
        let collections = names.map(|name| Collection { name: name.into(), policy: "newest/1".into() });
        Definition { collections: collections.into(), ..Definition::simple(DatasetId([1; 16]), "shop") }.with_members()
    }

    fn held(grant: &Grant, repairs: bool) -> Vec<(Intent, Vec<u16>)> {
        let turns = turns(&shop(), grant, repairs);
        turns.into_iter().map(|turn| (turn.intent, turn.scope.iter().map(|one| one.0).collect())).collect()
    }

    #[test]
    fn one_session_is_held_where_a_peer_may_the_same_with_all_collections() {
        for (rights, intent) in [
            (Rights::ALL, Some(TO_BOTH)),
            (BOTH, Some(TO_BOTH)),
            (READS, Some(TO_THEIRS)),
            (WRITES, Some(TO_MINE)),
            (Rights::COMPARE, Some(Intent::Check)),
            (Rights::READ.and(Rights::WRITE), None),
        ] {
            let grant = Grant::everywhere(rights);
            assert_eq!(held(&grant, true), intent.map(|intent| (intent, vec![])).into_iter().collect::<Vec<_>>());
            let checks = intent.map(|_| (Intent::Check, vec![]));
            assert_eq!(held(&grant, false), checks.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_a_peer_may_with_some_collections_ends_at_their_edge() {
        let some = |everywhere: Rights, there: &[(u16, Rights)]| {
            let collections = there.iter().map(|(nth, rights)| (CollectionId(*nth), *rights)).collect();
            Grant { collections, ..Grant::everywhere(everywhere) }
        };
        assert_eq!(held(&some(Rights::default(), &[(1, BOTH)]), true), [(TO_BOTH, vec![1])]);
        assert_eq!(held(&some(READS, &[(1, WRITES)]), true), [(TO_THEIRS, vec![0, 2]), (TO_BOTH, vec![1])]);
        assert_eq!(members(&some(READS, &[(1, WRITES)])), Some(Direction::To(Side::Theirs)));
        assert_eq!(members(&some(Rights::COMPARE, &[])), None);
        assert_eq!(members(&some(BOTH, &[])), Some(Direction::Both));
        assert_eq!(held(&some(Rights::default(), &[]), true), []);
    }

    #[test]
    fn each_intent_comes_to_a_check_by_what_both_sides_may_allow() {
        assert_eq!(less(TO_BOTH), [TO_MINE, TO_THEIRS, Intent::Check]);
        // What the peer may not here is not tried.
        assert_eq!((less(TO_MINE), less(TO_THEIRS)), (&[Intent::Check][..], &[Intent::Check][..]));
        assert_eq!(less(Intent::Check), []);
    }

    #[test]
    fn a_session_goes_on_while_the_peer_may_what_it_might() {
        let some = |everywhere: Rights, there: Rights| Grant {
            collections: [(CollectionId(1), there)].into(),
            ..Grant::everywhere(everywhere)
        };
        let began = some(READS, BOTH);
        let orders = Turn { intent: TO_BOTH, scope: vec![CollectionId(1)] };
        let all = Turn { intent: TO_BOTH, scope: Vec::new() };
        for (now, goes_on) in [(&began, true), (&some(BOTH, BOTH), true), (&some(READS, READS), false)] {
            assert_eq!(still(&shop(), &orders, &began, now), goes_on, "{now:?}");
        }
        assert!(still(&shop(), &orders, &began, &some(Rights::default(), BOTH)), "the others are not what it is about");
        assert!(!still(&shop(), &all, &began, &some(Rights::default(), BOTH)));
        // Members were to come from one that may write all.
        assert!(!still(&shop(), &orders, &some(BOTH, BOTH), &began));
    }
}
