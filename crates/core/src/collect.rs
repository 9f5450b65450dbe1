//! Collecting tombstones: up to which stamp every member has passed what any of them deleted, as receipts show it.
//!
//! A receipt says that each of two stores has what the other held at its cut. Receipts of one store are put in order by
//! commit numbers, so that what it had from one peer is known to have reached the next (after Golding, "Weak-consistency
//! group communication and membership", 1992, with receipts in the place of acknowledgements). Nothing is written here;
//! how a session carries a [`Horizon`] is in [`crate::session`], what a store does at one is its own concern.

mod catching;
mod caught;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::dataset::Definition;
use crate::life::{Life, Sighting};
use crate::members::Member;
use crate::planted::{Bug, planted};
use crate::receipt::{PeerKey, Receipt, Seat};
use crate::session::Verdict;
use crate::stamp::{Millis, Stamp};

pub use catching::{CatchingUp, Next};
pub use caught::{Base, CaughtUp, Missed, Stands};
pub use standing::standing;

/// How long a tombstone is kept at least, unless told otherwise: 10 days.
pub const GRACE_MILLIS: Millis = 10 * 24 * 3600 * 1000;
/// Stores that a horizon vouches for; no more members than that are waited for.
pub const PASSED_MAX: usize = 1024;

/// Up to where tombstones are collected, and which stores had passed all of them when that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// No tombstone with a stamp up to this is kept any more. It never falls.
    pub stamp: Stamp,
    /// The stores that hold nothing that any of those tombstones deleted.
    pub passed: Vec<Passed>,
}

/// A store that has passed a horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// The life that wrote there.
    pub actor: u64,
    /// The opening and the commit number at which it had what all others held: a store that does not know the one, or has
    /// not come to the other, is another life than the one that is meant.
    pub met: Sighting,
    /// Whatever it held at this commit number and has held ever since, all others have.
    pub everywhere: u64,
    /// The commit at which it last put back what a run had changed, as far as is known: what it held before it need not have
    /// held since.
    pub undone: u64,
}

impl Horizon {
    /// What is said of stores of this actor: of several if one was copied.
    pub fn of(&self, actor: u64) -> impl Iterator<Item = &Passed> {
        self.passed.iter().filter(move |passed| passed.actor == actor)
    }
}

/// What a collector knows.
pub struct Known<'a> {
    /// Who collects.
    pub me: PeerKey,
    /// Its store.
    pub life: Life,
    /// How far that is.
    pub commit: u64,
    /// Its last stamp.
    pub stamp: Stamp,
    /// The commit at which it last put back what a run had changed.
    pub undone: u64,
    /// The commit at which it last took over a horizon that it had not passed, and so dropped what had been deleted elsewhere:
    /// whoever has of it only what it held before may hold that still.
    pub caught_up: u64,
    /// The members of the dataset.
    pub members: &'a [(PeerKey, Member)],
    /// Receipts that are [`standing`].
    pub receipts: &'a [Receipt],
    /// The wall clock.
    pub now: Millis,
    /// How long tombstones are kept at least.
    pub grace: Millis,
}

/// How far a store that is waited for has come, or one that is not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose it is.
    pub peer: PeerKey,
    /// Its life; none of a member of whom no receipt speaks.
    pub actor: Option<u64>,
    /// When it was heard of last, by a clock of another.
    pub heard: Option<Millis>,
    /// When it will not be waited for any more.
    pub lapses: Millis,
    /// Whether that is past.
    pub lapsed: bool,
    /// Up to which stamp it has what all others wrote, and they what it wrote; none where no receipt shows it.
    pub passed: Option<Stamp>,
}

/// What receipts show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Up to where tombstones may be collected: as far as every member has passed and the grace time allows.
    pub horizon: Horizon,
    /// Every store that is waited for, and members that have lapsed.
    pub standings: Vec<Standing>,
}

/// Whether a receipt shows that both sides had all of the dataset that the other held at its cut.
pub fn counts(receipt: &Receipt, definition: &Definition) -> bool {
    let ended = matches!(receipt.verdict, Verdict::InSync | Verdict::Converged) && receipt.tally.left == 0;
    let still = |seat: &Seat| compared_until(receipt, seat) >= seat.undone;
    ended
        && still(&receipt.opener)
        && still(&receipt.responder)
        && receipt.dataset == definition.id
        && receipt.definition == definition.hash()
        && definition.data().all(|(collection, _)| receipt.scope.contains(&collection))
}

/// The commit of one side up to which the other certainly has what it held: where both were in sync, that of its root,
/// otherwise its cut.
pub fn compared_until(receipt: &Receipt, seat: &Seat) -> u64 {
    if receipt.verdict == Verdict::InSync { seat.commit } else { seat.cut }
}

/// A store: whose, and which life.
type Place = (PeerKey, u64);

/// What is held of the writes of one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    commit: u64,
    stamp: Stamp,
}

type Knowledge = BTreeMap<Place, Held>;

/// Works out how far tombstones may be collected. With `r` receipts of `n` stores it takes about `r² n` steps, a few times.
pub fn find(known: &Known<'_>) -> Found {
    let latest = Stamp::at(known.now.saturating_sub(known.grace)).min(known.stamp);
    let here = (known.me, known.life.actor);
    let mut stores = Stores::of(known, here);
    let knowledge = stores.knowledge(known, here);
    stores.standings.iter_mut().for_each(|standing| standing.passed = stores.required.pass(standing, &knowledge));
    let required = &stores.required;
    let all = || required.all.iter().map(|place| required.pass_of(*place, &knowledge));
    let unheard = stores.standings.iter().any(|standing| standing.actor.is_none() && !standing.lapsed);
    let common = if unheard { None } else { all().min().flatten() };
    let early = planted(Bug::TombstoneCollectedEarly);
    let stamp = if early { latest } else { common.unwrap_or_default().min(latest) };
    let passed = required.all.iter().filter_map(|place| {
        let met = stores.met.get(place)?;
        let others = required.all.iter().filter(|other| *other != place);
        let everywhere = others.map(|other| held(&knowledge, *other, *place).map_or(0, |held| held.commit)).min();
        let undone = stores.undone.get(place).copied().unwrap_or_default();
        Some(Passed { actor: place.1, met: *met, everywhere: everywhere.unwrap_or(met.commit), undone })
    });
    let passed = passed.take(PASSED_MAX).collect();
    let stamp = if required.all.len() > PASSED_MAX { Stamp::default() } else { stamp };
    Found { horizon: Horizon { stamp, passed }, standings: stores.standings }
}

/// The stores that all must have passed.
struct Required {
    all: BTreeSet<Place>,
    /// The collector, and the commit of it that all others must have to begin with.
    here: Place,
    caught_up: u64,
}

impl Required {
    /// Up to which stamp a store has the writes of all others, and all others have its own.
    fn pass_of(&self, place: Place, knowledge: &BTreeMap<Place, Knowledge>) -> Option<Stamp> {
        let of_here = held(knowledge, place, self.here).map_or(0, |held| held.commit);
        if place != self.here && of_here < self.caught_up {
            return None;
        }
        let has = |of: Place, by: Place| held(knowledge, by, of).map(|held| held.stamp);
        let others = || self.all.iter().copied().filter(move |other| *other != place);
        let own = has(place, place);
        let both = others().map(|other| has(other, place).and_then(|stamp| Some(stamp.min(has(place, other)?))));
        both.chain([own]).min().flatten()
    }

    fn pass(&self, standing: &Standing, knowledge: &BTreeMap<Place, Knowledge>) -> Option<Stamp> {
        let place = (standing.peer, standing.actor?);
        if self.all.contains(&place) { self.pass_of(place, knowledge) } else { None }
    }
}

fn held(knowledge: &BTreeMap<Place, Knowledge>, by: Place, of: Place) -> Option<Held> {
    knowledge.get(&by)?.get(&of).copied()
}

/// The stores that receipts speak of, and those of members that they do not.
struct Stores {
    required: Required,
    standings: Vec<Standing>,
    /// How far each is known to have come.
    met: BTreeMap<Place, Sighting>,
    /// When each last put back what a run had changed.
    undone: BTreeMap<Place, u64>,
}

impl Stores {
    fn of(known: &Known<'_>, here: Place) -> Stores {
        let mut heard: BTreeMap<Place, Millis> = BTreeMap::new();
        let mut met: BTreeMap<Place, Sighting> = BTreeMap::new();
        let mut undone: BTreeMap<Place, u64> = BTreeMap::new();
        let mut together: BTreeSet<Place> = BTreeSet::new();
        for receipt in known.receipts {
            for (seat, other) in [(&receipt.opener, &receipt.responder), (&receipt.responder, &receipt.opener)] {
                let last = heard.entry(place(seat)).or_default();
                *last = (*last).max(other.time);
                let sighting = Sighting { nonce: seat.life.nonce, commit: seat.commit };
                let furthest = met.entry(place(seat)).or_insert(sighting);
                if furthest.commit <= sighting.commit {
                    *furthest = sighting;
                }
                let latest = undone.entry(place(seat)).or_default();
                *latest = (*latest).max(seat.undone);
                // Two stores of one home; otherwise a home's older lives are gone with its newest.
                together.extend((seat.peer == other.peer).then(|| place(seat)));
            }
        }
        undone.insert(here, known.undone);
        heard.insert(here, known.now);
        met.insert(here, Sighting { nonce: known.life.nonce, commit: known.commit });
        let newest = |peer: &PeerKey| heard.iter().filter(|((who, _), _)| who == peer).max_by_key(|(_, last)| **last);
        let mut standings = Vec::new();
        let mine = (known.me, Member { name: String::new(), since: 0, lease: crate::members::LEASE_MILLIS });
        let unlisted = known.members.iter().all(|(peer, _)| *peer != known.me).then_some(&mine);
        for (peer, member) in known.members.iter().chain(unlisted) {
            let stands = |actor, last: Option<Millis>| {
                let lapses = last.unwrap_or(0).max(member.since).saturating_add(member.lease);
                let lapsed = lapses < known.now && Some((*peer, actor)) != Some((here.0, Some(here.1)));
                Standing { peer: *peer, actor, heard: last, lapses, lapsed, passed: None }
            };
            let of_peer = heard.iter().filter(|((who, _), _)| who == peer);
            let newest = newest(peer).map(|(place, _)| *place);
            let counted =
                of_peer.filter(|(place, _)| Some(**place) == newest || **place == here || together.contains(*place));
            let before = standings.len();
            standings.extend(counted.map(|((_, actor), last)| stands(Some(*actor), Some(*last))));
            if standings.len() == before {
                standings.push(stands(None, None));
            }
        }
        let waited = standings.iter().filter(|standing| !standing.lapsed);
        let required = waited.filter_map(|standing| Some((standing.peer, standing.actor?))).collect();
        Stores { required: Required { all: required, here, caught_up: known.caught_up }, standings, met, undone }
    }

    /// What each store has of the writes of each, after its last receipt.
    fn knowledge(&self, known: &Known<'_>, here: Place) -> BTreeMap<Place, Knowledge> {
        let seats = |receipt: &Receipt| [receipt.opener, receipt.responder];
        let own = |receipt: &Receipt, seat: &Seat| {
            (place(seat), Held { commit: compared_until(receipt, seat), stamp: seat.stamp })
        };
        let both = |receipt: &Receipt| seats(receipt).iter().map(|seat| own(receipt, seat)).collect();
        let mut after: Vec<Knowledge> = known.receipts.iter().map(both).collect();
        // Which receipts a receipt follows: those of one of its stores that were over when that one began to compare.
        let mut follows: Vec<Vec<usize>> = vec![Vec::new(); after.len()];
        for (nth, later) in known.receipts.iter().enumerate() {
            for (before, earlier) in known.receipts.iter().enumerate().filter(|(before, _)| *before != nth) {
                let over = |then: &Seat, now: &Seat| {
                    let in_order = now.undone <= then.commit && then.commit <= compared_until(later, now);
                    place(then) == place(now) && (in_order || planted(Bug::ReceiptOfAnotherCut))
                };
                if seats(later).iter().any(|now| seats(earlier).iter().any(|then| over(then, now))) {
                    follows[nth].push(before);
                }
            }
        }
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for (nth, earlier) in follows.iter().enumerate() {
                for before in earlier {
                    let more: Vec<(Place, Held)> = after[*before].iter().map(|(place, held)| (*place, *held)).collect();
                    changed |=
                        more.into_iter().fold(false, |any, (place, held)| raise(&mut after[nth], place, held) || any);
                }
            }
        }
        let mut knowledge: BTreeMap<Place, Knowledge> = BTreeMap::new();
        for (receipt, after) in known.receipts.iter().zip(&after) {
            // What was put back since has taken what a store had then.
            let stands = |seat: &Seat| self.undone.get(&place(seat)).is_none_or(|undone| *undone <= seat.commit);
            for seat in seats(receipt).into_iter().filter(stands) {
                let all = knowledge.entry(place(&seat)).or_default();
                after.iter().for_each(|(place, held)| {
                    raise(all, *place, *held);
                });
            }
        }
        let mine = Held { commit: known.commit, stamp: known.stamp };
        raise(knowledge.entry(here).or_default(), here, mine);
        knowledge
    }
}

fn place(seat: &Seat) -> Place {
    (seat.peer, seat.life.actor)
}

/// Notes that more is held; says whether that was news.
fn raise(knowledge: &mut Knowledge, place: Place, held: Held) -> bool {
    let before = knowledge.entry(place).or_default();
    let more = held > *before;
    if more {
        *before = held;
    }
    more
}

#[cfg(test)]
mod tests;
