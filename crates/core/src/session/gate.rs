//! The brakes of a session: what it would lose each side is counted before anything is asked for or sent, and what arrives
//! is counted again as it is written.
//!
//! While the gate is closed, what is to move is only gathered. Where so few keys are in question that no limit can be
//! exceeded, it opens at once, and nothing about the session is other than without brakes.

use std::collections::BTreeMap;

use super::opener::{Opener, Purpose};
use super::responder::{Responder, Stage};
use super::rounds::Phase;
use super::{Direction, Intent, Verdict};
use crate::brakes::{Braked, Brakes, Loss, Losses, Samples};
use crate::dataset::CollectionId;
use crate::difference::{Difference, Resolution, Side};
use crate::message::{Message, Refuse, RefuseCode, Transfer};
use crate::query::{Applied, Incoming, Item, Query};
use crate::range::{Position, places};

/// Differences whose records are gathered while the gate is closed; of more, all are counted first and found again.
const GATHERED_MAX: usize = 65_536;

/// Whether records may move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// They may.
    #[default]
    Open,
    /// They are gathered, and what they would lose is counted.
    Holding,
    /// The same, but there are too many to be gathered.
    Counting,
}

/// What one side may lose, would lose, and has lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// None: as much as may be.
    allowed: Option<Losses>,
    records: u64,
    /// By what was compared in this round.
    foreseen: Losses,
    /// In the rounds before, and in the sessions that count.
    before: Losses,
    samples: Samples,
    /// By what was written; at first what was lost before the session.
    written: Losses,
    /// In the sessions before this one that count.
    earlier: Losses,
    /// By what left quarantine as this session began.
    released: Losses,
}

impl Meter {
    /// What was lost before stays; how much may be is known now.
    fn limited(&self, allowed: Option<Losses>, records: u64) -> Meter {
        let (written, released) = (self.written, self.released);
        Meter { allowed, records, written, earlier: written.without(released), released, ..Meter::default() }
    }

    /// How many keys may still be acted on whatever becomes of them.
    fn room(&self) -> Option<u64> {
        let left = |most: u64, lost: u64| most.saturating_sub(lost);
        let of = |allowed: Losses| {
            left(allowed.deleted, self.before.deleted).min(left(allowed.changed, self.before.changed))
        };
        self.allowed.map(of)
    }

    /// Whether this batch may lose the side more than is left, at worst.
    pub(super) fn doubts(&self, records: &[Incoming]) -> bool {
        let Some(allowed) = self.allowed.filter(|_| self.records > 0) else { return false };
        let mut worst = Losses::default();
        records.iter().for_each(|incoming| worst.add(Loss::feared(incoming)));
        !worst.may_follow(&self.written, &allowed)
    }

    /// What the batch would lose the side in which these items are, if that is too much.
    fn weigh(
        &self,
        c: CollectionId,
        records: &[Incoming],
        there: &[Item],
        digest: &dyn Fn(&[u8]) -> u64,
    ) -> Option<Braked> {
        let (mut losses, mut samples) = (Losses::default(), self.samples.clone());
        let there: BTreeMap<&[u8], &Item> = there.iter().map(|item| (item.key.as_slice(), item)).collect();
        for incoming in records {
            let winner = incoming.record.state.winner();
            let held = there.get(incoming.record.key.as_slice());
            let Some(newest) = held.filter(|item| item.digest.is_some()).and_then(|item| item.versions.first()) else {
                continue;
            };
            let joins = incoming.guard == crate::query::Guard::Join;
            if joins && newest.version.dot() > winner.version.dot() || incoming.guard == crate::query::Guard::Bare {
                continue;
            }
            let after = match &winner.content {
                crate::record::Content::Live(value) => Some(digest(value)),
                crate::record::Content::Tombstone => None,
            };
            let loss = Loss::between(newest.content.map(|content| content.short()), after);
            losses.add(loss);
            loss.into_iter().for_each(|loss| samples.note(loss, c, &incoming.record.key));
        }
        let allowed = self.allowed.filter(|allowed| !losses.may_follow(&self.written, allowed))?;
        let (losses, before) = (self.written.and(losses), self.earlier);
        Some(Braked { side: Side::Mine, records: self.records, losses, before, allowed, shrunken: None, samples })
    }

    fn begin_round(&mut self) {
        (self.foreseen, self.before) = (Losses::default(), self.written);
    }

    pub(super) fn wrote(&mut self, losses: Losses) {
        self.written = self.written.and(losses);
    }

    fn released(&mut self, losses: Losses) {
        self.released = losses;
        self.wrote(losses);
    }
}

/// The opener's brakes.
#[derive(Default)]
pub(super) struct Guarded {
    pub(super) gate: Gate,
    mine: Meter,
    theirs: Meter,
    /// Keys in which both sides have something that were acted on without looking at them.
    trusted: u64,
    /// So many records has the side of which the other is to become the mirror, if it shrank.
    shrunken: Option<u64>,
    /// The counting was done, and nothing is in the way.
    passed: bool,
}

impl Guarded {
    fn side(&mut self, side: Side) -> &mut Meter {
        if side == Side::Mine { &mut self.mine } else { &mut self.theirs }
    }
}

impl Opener {
    /// What a side has lost so far, in this session and before, as far as that still counts. Said before the session begins, and
    /// as often as records come.
    pub fn note_lost(&mut self, side: Side, losses: Losses) {
        self.guarded.side(side).written = losses;
    }

    /// What left quarantine on a side as the session begins: it was written, and what it lost counts with the rest.
    pub fn note_released(&mut self, side: Side, released: &Applied) {
        self.guarded.side(side).released(released.losses);
        let moves = if side == Side::Mine { &mut self.counts.to_mine } else { &mut self.counts.to_theirs };
        moves.offered += released.applied;
        moves.applied += released.applied;
    }

    fn braked(&self) -> Option<(Brakes, Direction)> {
        match self.options.intent {
            Intent::Repair(direction) => self.options.brakes.map(|brakes| (brakes, direction)),
            _ => None,
        }
    }

    /// Whether this session may write a side, as far as the brakes are concerned: a mirror changes one.
    fn may_lose(&self, direction: Direction, side: Side) -> bool {
        match self.mirroring() {
            Some(mirrored) => mirrored == side,
            None => direction.writes(side),
        }
    }

    /// Sets the limits, once it is known how much both sides have.
    pub(super) fn set_brakes(&mut self) {
        let Some((brakes, direction)) = self.braked() else { return };
        let (mine, theirs) = (self.outcome.root_mine.count, self.outcome.root_theirs.count);
        let allowed = |side, records| self.may_lose(direction, side).then(|| Losses::allowed(&brakes, records));
        let (mine_allowed, theirs_allowed) = (allowed(Side::Mine, mine), allowed(Side::Theirs, theirs));
        self.guarded.mine = self.guarded.mine.limited(mine_allowed, mine);
        self.guarded.theirs = self.guarded.theirs.limited(theirs_allowed, theirs);
        let (target, source) = if self.mirroring() == Some(Side::Mine) { (mine, theirs) } else { (theirs, mine) };
        let shrunken = self.mirroring().is_some() && !brakes.shrunken && source < target.div_ceil(2);
        self.guarded.shrunken = shrunken.then_some(source);
    }

    /// Closes the gate before ranges are compared, unless no limit can be exceeded.
    pub(super) fn close_gate(&mut self) {
        if self.guarded.passed || self.braked().is_none() {
            return;
        }
        // What was found in an earlier round and differs still is found again; what was written then is lost.
        self.guarded.mine.begin_round();
        self.guarded.theirs.begin_round();
        let (mine, theirs) = (self.guarded.mine.records, self.guarded.theirs.records);
        // Only what a side has can be lost: by a mirror all of it, or what the other has deleted; otherwise what the other has too.
        let most = match self.mirroring() {
            Some(Side::Mine) => mine,
            Some(Side::Theirs) => theirs,
            None if self.is_based() => mine.max(theirs),
            None => mine.min(theirs),
        };
        let harmless = self.guarded.shrunken.is_none() && most <= self.free();
        self.guarded.gate = if harmless { Gate::Open } else { Gate::Holding };
    }

    /// Keys that may be acted on whatever is the matter with them.
    fn free(&self) -> u64 {
        let least = self.guarded.mine.room().into_iter().chain(self.guarded.theirs.room()).min();
        least.map_or(u64::MAX, |least| least.saturating_sub(self.guarded.trusted))
    }

    pub(super) fn gate_is_open(&self) -> bool {
        self.guarded.gate == Gate::Open
    }

    /// Takes it on trust that acting on so many keys loses no side too much; false if it might.
    pub(super) fn trust(&mut self, keys: u64) -> bool {
        let seen = |meter: &Meter| meter.foreseen.deleted + meter.foreseen.changed;
        let seen = seen(&self.guarded.mine).max(seen(&self.guarded.theirs));
        if self.guarded.shrunken.is_some() || keys.saturating_add(seen) > self.free() {
            return false;
        }
        self.guarded.trusted += keys;
        true
    }

    /// Counts what resolving a difference will lose the sides.
    pub(super) fn foresee(&mut self, difference: &Difference, mine: Option<&Item>) {
        let Some((_, direction)) = self.braked() else { return };
        if self.overruled(difference, mine).is_some_and(|overruled| self.spares(overruled, difference)) {
            return;
        }
        let how = Resolution {
            mine: direction.writes(Side::Mine),
            theirs: direction.writes(Side::Theirs),
            mirror: self.mirroring(),
            prefer: self.preferring(),
            profile: self.definition.profile,
            keeps: self.definition.keeps(difference.collection),
        };
        for side in [Side::Mine, Side::Theirs] {
            let Some(loss) = difference.loss(side, &how) else { continue };
            let meter = self.guarded.side(side);
            meter.foreseen.add(Some(loss));
            meter.samples.note(loss, difference.collection, &difference.key);
        }
    }

    /// Forgets what is gathered if it is much: all is counted, then found again.
    pub(super) fn bound_gathered(&mut self) {
        let overwrites = || self.overwrites.values().map(Vec::len).sum::<usize>();
        if self.guarded.gate == Gate::Holding && self.transfers.gathered() + overwrites() > GATHERED_MAX {
            self.guarded.gate = Gate::Counting;
        }
        if self.guarded.gate == Gate::Counting {
            self.transfers.forget_gathered();
            self.overwrites.clear();
        }
    }

    /// Called while the gate is closed and nothing is under way; says whether there is more to do.
    pub(super) fn release(&mut self) -> bool {
        if self.phase != Phase::Descending {
            return false;
        }
        if !self.named.is_empty() {
            self.act_on_named();
            return true;
        }
        if let Some(braked) = self.exceeded() {
            self.brake(braked);
            return true;
        }
        let gate = std::mem::take(&mut self.guarded.gate);
        if gate == Gate::Counting {
            self.guarded.passed = true;
            self.look_from_the_start();
        } else {
            self.flush_overwrites();
        }
        true
    }

    /// A side that would lose more than it may.
    fn exceeded(&self) -> Option<Braked> {
        let shrunken = self.guarded.shrunken;
        let of = |side: Side, meter: &Meter| {
            let allowed = meter.allowed?;
            let lost = meter.foreseen.deleted + meter.foreseen.changed > 0;
            let braked = !meter.foreseen.may_follow(&meter.before, &allowed) || shrunken.is_some() && lost;
            braked.then(|| Braked {
                side,
                records: meter.records,
                losses: meter.before.and(meter.foreseen),
                before: meter.earlier,
                allowed,
                shrunken,
                samples: meter.samples.clone(),
            })
        };
        of(Side::Mine, &self.guarded.mine).or_else(|| of(Side::Theirs, &self.guarded.theirs))
    }

    /// The same of what was acted on in trust: what a sketch took for one key may have been several that share a place.
    pub(super) fn overran(&self) -> Option<Braked> {
        let trusts = self.gate_is_open() && self.guarded.trusted > 0 && !self.guarded.passed;
        if trusts { self.exceeded() } else { None }
    }

    pub(super) fn brake(&mut self, braked: Braked) {
        self.outcome.braked = Some(braked);
        self.counts.to_mine.offered = self.counts.to_mine.applied;
        self.finish(Verdict::Refused, "it would lose a side more records than it may".into());
    }

    /// Has a batch that came written, once it is known that it loses this side no more than it may.
    pub(super) fn apply(&mut self, collection: CollectionId, records: Vec<Incoming>) {
        if self.guarded.mine.doubts(&records) {
            let positions = self.positions_of(collection, &records);
            return self.ask(Query::Items(collection, places(&positions)), Purpose::Weigh(collection, records));
        }
        self.ask(Query::Apply(collection, records), Purpose::Apply(collection));
    }

    pub(super) fn weighed(&mut self, collection: CollectionId, records: Vec<Incoming>, there: &[Item]) {
        let digest = |value: &[u8]| self.keys.content(value).short();
        match self.guarded.mine.weigh(collection, &records, there, &digest) {
            Some(braked) => self.brake(braked),
            None => self.ask(Query::Apply(collection, records), Purpose::Apply(collection)),
        }
    }

    pub(super) fn wrote_here(&mut self, losses: Losses) {
        self.guarded.mine.wrote(losses);
    }

    pub(super) fn wrote_there(&mut self, losses: Losses) {
        self.guarded.theirs.wrote(losses);
    }

    fn positions_of(&self, collection: CollectionId, records: &[Incoming]) -> Vec<Position> {
        let name = &self.definition.collections[usize::from(collection.0)].name;
        let mut positions: Vec<Position> =
            records.iter().map(|incoming| self.keys.position(name, &incoming.record.key)).collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

impl Responder {
    /// Lets whoever opens the session lose this side no more records than that, by its count at the cut.
    #[must_use]
    pub fn with_brakes(mut self, brakes: Brakes) -> Responder {
        self.brakes = Some(brakes);
        self
    }

    /// What the opener has lost this side so far, in this session and before, as far as that still counts.
    pub fn note_lost(&mut self, losses: Losses) {
        self.meter.written = losses;
    }

    /// What left quarantine here as the session begins: it was written, and what it lost counts with the rest.
    pub fn note_released(&mut self, released: &Applied) {
        self.meter.released(released.losses);
        self.wrote += released.applied;
    }

    /// What the opener has lost this side, in all that was counted.
    pub fn lost(&self) -> Losses {
        self.meter.written
    }

    pub(super) fn set_brakes(&mut self) {
        let allowed = self.brakes.map(|brakes| Losses::allowed(&brakes, self.root_count));
        self.meter = self.meter.limited(allowed, self.root_count);
    }

    /// Has a batch that came written, once it is known that it loses this side no more than it may (M17).
    pub(super) fn apply(&mut self, transfer: Transfer, records: Vec<Incoming>) {
        if self.meter.doubts(&records) {
            let name = &self.definition.collections[usize::from(transfer.1.0)].name;
            let mut positions: Vec<Position> =
                records.iter().map(|incoming| self.keys.position(name, &incoming.record.key)).collect();
            positions.sort_unstable();
            positions.dedup();
            return self.ask(Query::Items(transfer.1, places(&positions)), Stage::Weigh(transfer, records));
        }
        self.ask(Query::Apply(transfer.1, records), Stage::Apply(transfer));
    }

    pub(super) fn weighed(&mut self, transfer: Transfer, records: Vec<Incoming>, there: &[Item]) {
        let digest = |value: &[u8]| self.keys.content(value).short();
        let Some(braked) = self.meter.weigh(transfer.1, &records, there, &digest) else {
            return self.ask(Query::Apply(transfer.1, records), Stage::Apply(transfer));
        };
        let wrote = self.wrote;
        let (losses, allowed) = (braked.losses, braked.allowed);
        let numbers = [losses.deleted, allowed.deleted, losses.changed, allowed.changed, wrote];
        let detail = numbers.map(|number| number.to_string()).join(" ");
        self.end("refused");
        self.send(Message::Refuse(Refuse { code: RefuseCode::Brakes, detail, definition: Default::default() }));
    }
}

impl Opener {
    /// The peer's own brakes have stopped us: what it says of that, and what it had written before.
    pub(super) fn braked_there(&mut self, detail: &str) -> String {
        let numbers: Vec<u64> = detail.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [deleted, may_delete, changed, may_change, wrote] = numbers[..] else {
            return "the peer's brakes".into();
        };
        self.counts.to_theirs.applied = self.counts.to_theirs.applied.max(wrote);
        format!(
            "the peer's brakes: this node would have deleted {deleted} of at most {may_delete} records there, and \
             changed {changed} of at most {may_change}"
        )
    }
}
