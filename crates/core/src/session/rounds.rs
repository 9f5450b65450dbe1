//! The opener between descents: the opening, settling, looking at live roots again, and the verdict.
//!
//! The rules of the verdicts are promise 1 of the design; each is cited where it is applied.

use super::descent::Step;
use super::opener::{Opener, Purpose};
use super::recheck::Pass;
use super::scope::hint;
use super::{Estimate, Intent, KEEP_MOVING, Output, SessionError, Verdict};
use crate::bounds::ROUNDS_MAX;
use crate::canonical::Blob;
use crate::dataset::CollectionId;
use crate::difference::Side;
use crate::message::{
    Accept, AskRoots, Bye, DatasetIdBytes, Message, Open, OpenMore, PROTOCOL, Refuse, RefuseCode, Rights, Roots,
};
use crate::planted::{Bug, planted};
use crate::query::{Cut, Query};
use crate::range::Range;
use crate::stamp::Millis;
use crate::tree::Summary;
use crate::wire::{Body, RangeView};

/// Where the opener stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The own cut is not known yet.
    Start,
    /// The opening is sent.
    Opening,
    /// It was accepted; who meets is looked at.
    Meeting,
    /// A check waits for the responder's roots or parts.
    Checking,
    /// Ranges are compared and records move.
    Descending,
    /// Nothing is done until differences had time to settle.
    Settling(Millis),
    /// Differences are looked at again.
    Rechecking(Pass),
    /// The live roots are being looked at.
    Looking(Look),
    /// The verdict is given.
    Over,
}

/// The live roots as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    before: Option<Cut>,
    theirs: Option<Roots>,
    /// Whether the differences were looked at again since something moved.
    rechecked: bool,
    /// Whether records were still on their way to the peer when it began.
    early: bool,
}

impl Opener {
    pub(super) fn begin(&mut self, cut: Cut) {
        let root = self.root(&self.scope.roots(&cut));
        self.outcome.cut_mine = cut.clone();
        self.outcome.root_mine = root;
        self.cut = Some(cut);
        if !self.prepare_opening(root.count) {
            self.open_with(Default::default());
        }
    }

    /// Sends the opening, with the cells that it is to show.
    pub(super) fn open_with(&mut self, (cells, counts): (Blob, Blob)) {
        let wants = match self.options.intent {
            Intent::Check | Intent::Diff => Rights::COMPARE,
            Intent::Repair(direction) => {
                let read = if direction.writes(Side::Mine) { Rights::READ } else { Rights::default() };
                let write = if direction.writes(Side::Theirs) { Rights::WRITE } else { Rights::default() };
                Rights::COMPARE.and(read).and(write)
            }
        };
        self.phase = Phase::Opening;
        let members = hint(&self.definition, &self.outcome.cut_mine);
        let Cut { horizon, watermark, .. } = self.outcome.cut_mine;
        let more = OpenMore { receipt: self.signing.is_asked(), members, horizon, watermark };
        let parts = std::mem::take(&mut self.opening_parts);
        self.send(Message::Open(Open {
            protocol: PROTOCOL,
            dataset: DatasetIdBytes(self.definition.id),
            definition: self.definition.short_hash(),
            wants,
            descend: self.options.intent != Intent::Check,
            root: self.outcome.root_mine,
            life: self.life,
            commit: self.outcome.cut_mine.commit,
            scope: self.options.scope.clone(),
            cells,
            counts,
            parts,
            more,
        }));
    }

    /// Whether the first roots of several collections are awaited.
    pub(super) fn awaits_first_roots(&self) -> bool {
        let awaited = matches!(&self.phase, Phase::Looking(look) if look.before.is_some() && look.theirs.is_none());
        awaited && self.counts.rounds == 0
    }

    /// The session begins.
    pub(super) fn accepted(&mut self, accept: &Accept) {
        self.outcome.members_differ = accept.more.members;
        self.outcome.cut_theirs = accept.commit;
        self.outcome.root_theirs = accept.root;
        if accept.root == self.outcome.root_mine {
            // The peer's live root is in the acceptance: what is left is to see that ours stood still.
            let before = self.cut.clone();
            let roots = before.as_ref().map(|cut| self.scope.roots(cut)).unwrap_or_default();
            let theirs = Some(Roots { commit: accept.commit, moved: false, roots, word: None });
            self.phase = Phase::Looking(Look { before, theirs, ..Look::default() });
            return self.ask(Query::Cut, Purpose::CutAfter);
        }
        let check = self.options.intent == Intent::Check;
        self.phase = if check { Phase::Checking } else { Phase::Descending };
        self.set_brakes();
        if let Some(only) = self.scope.only() {
            self.expect_first(only);
            self.close_gate();
            self.list_picked();
        } else if !check {
            self.phase = Phase::Looking(Look { before: self.cut.clone(), ..Look::default() });
        }
    }

    pub(super) fn refused(&mut self, refuse: Refuse) {
        let verdict = if refuse.code == RefuseCode::Store { Verdict::Undetermined } else { Verdict::Refused };
        let reason = match refuse.code {
            RefuseCode::Protocol => format!("the peer speaks protocol {}, this side {PROTOCOL}", refuse.detail),
            RefuseCode::Dataset => "the peer has no such dataset".to_string(),
            RefuseCode::Definition => self.explain_definition(&refuse),
            RefuseCode::Rights => format!("the peer grants this node no right to {}", refuse.detail),
            RefuseCode::OneStore => "both sides are one store".to_string(),
            RefuseCode::Busy => format!("the peer has {} sessions, its limit", refuse.detail),
            RefuseCode::Message => format!("the peer did not understand this side: {}", refuse.detail),
            RefuseCode::Brakes => self.braked_there(&refuse.detail),
            RefuseCode::Store => format!("the peer's store cannot go on: {}", refuse.detail),
        };
        self.outcome.stuck = self.stuck_there(&refuse).filter(|_| refuse.code == RefuseCode::Store);
        self.outcome.refusal = Some(refuse);
        self.finish(verdict, reason);
    }

    fn explain_definition(&self, refuse: &Refuse) -> String {
        match crate::dataset::Definition::decode(&refuse.definition.0) {
            Ok(theirs) if theirs == *self.definition => {
                "the dataset has not got all collections that were named".into()
            }
            Ok(theirs) => {
                format!("the definitions of the dataset differ in: {}", self.definition.differences(&theirs).join(", "))
            }
            Err(_) => "the definitions of the dataset differ".to_string(),
        }
    }

    /// Called when nothing is under way; says whether there is more to put out at once.
    pub(super) fn next_phase(&mut self) -> bool {
        match self.phase.clone() {
            Phase::Start | Phase::Opening | Phase::Meeting | Phase::Looking(_) | Phase::Over => false,
            Phase::Checking if self.scope.only().is_some() && self.outcome.estimate.is_none() => false,
            Phase::Descending if self.prove() => true,
            Phase::Descending if matches!(self.options.intent, Intent::Repair(_)) => {
                self.look(false);
                true
            }
            Phase::Checking | Phase::Descending => {
                self.phase = Phase::Settling(self.now + self.options.settle);
                self.options.settle == 0
            }
            Phase::Settling(until) if self.now < until => false,
            Phase::Settling(_) => {
                self.look(false);
                true
            }
            Phase::Rechecking(pass) => {
                self.rechecked(pass);
                true
            }
        }
    }

    /// Starts to look at the live roots: ours, theirs, ours again.
    pub(super) fn look(&mut self, rechecked: bool) {
        self.counts.rounds += 1;
        let early = !self.transfers.idle();
        self.transfers.forget_taking();
        self.signing.look_again();
        self.phase = Phase::Looking(Look { rechecked, early, ..Look::default() });
        self.ask(Query::Cut, Purpose::CutBefore);
    }

    pub(super) fn look_at_theirs(&mut self, cut: Cut) {
        if let Phase::Looking(look) = &mut self.phase {
            look.before = Some(cut);
            let after = self.transfers.begun();
            self.send(Message::AskRoots(AskRoots { after }));
        }
    }

    pub(super) fn on_roots(&mut self, roots: Roots) -> Result<(), SessionError> {
        if roots.roots.len() != self.scope.len() {
            return Err(SessionError::Unexpected("roots of another number of collections"));
        }
        match &mut self.phase {
            // What became of all that was sent is told before (M15).
            Phase::Looking(_) if !self.transfers.idle() => {
                Err(SessionError::Unexpected("roots before the outcome of what was sent"))
            }
            Phase::Looking(look) if look.before.is_some() && look.theirs.is_none() => {
                look.theirs = Some(roots.clone());
                self.ask(Query::Cut, Purpose::CutAfter);
                let root = self.root(&roots.roots);
                self.heard_word(roots.commit, root, roots.word.as_ref())
            }
            _ => Err(SessionError::Unexpected("roots that were not asked for")),
        }
    }

    /// All that a verdict needs is known: our root before and after theirs was read (M10).
    pub(super) fn judge_roots(&mut self, after: Cut) {
        let Phase::Looking(Look { before: Some(before), theirs: Some(theirs), rechecked, early }) = self.phase.clone()
        else {
            return;
        };
        let (roots_before, roots_after) = (self.scope.roots(&before), self.scope.roots(&after));
        self.outcome.root_mine = self.root(&roots_after);
        self.outcome.root_theirs = self.root(&theirs.roots);
        self.stand_at(&after);
        let still = before.commit == after.commit;
        if early && !still {
            // Much may have been sent in between: that this side was written meanwhile costs no round.
            self.counts.rounds -= 1;
            return self.look(rechecked);
        }
        if roots_before == theirs.roots || planted(Bug::FinalRootCheckSkipped) && self.counts.rounds > 0 {
            // In sync: the opener's root and commit number were the same before and after.
            if still {
                self.skip_the_rest();
                (self.outcome.cut_mine, self.outcome.cut_theirs) = (after, theirs.commit);
                return self.finish(Verdict::InSync, String::new());
            }
            if self.counts.rounds < ROUNDS_MAX {
                return self.look(false);
            }
            return self.finish(Verdict::Converged, "this side is being written".into());
        }
        if self.counts.rounds == 0 {
            // The first roots of a dataset of several collections.
            return self.descend(&roots_after, &theirs.roots);
        }
        if self.judge_picked() {
            return;
        }
        let moved = self.moved(&after) || theirs.moved;
        match self.options.intent {
            Intent::Check => self.judge_check(after, theirs, moved),
            Intent::Diff => self.judge_diff((roots_after, theirs.roots), moved, rechecked),
            Intent::Repair(_) => self.judge_repair((roots_after, theirs.roots), moved),
        }
    }

    /// Whether anyone but this session wrote to our store since the cut.
    fn moved(&self, after: &Cut) -> bool {
        let own = self.transfers.own_commits();
        self.cut.as_ref().is_some_and(|cut| after.commit.saturating_sub(cut.commit) != own)
    }

    fn judge_check(&mut self, after: Cut, theirs: Roots, moved: bool) {
        if !moved {
            return self.finish(Verdict::Differs, String::new());
        }
        if self.counts.rounds >= ROUNDS_MAX {
            return self.finish(Verdict::Undetermined, KEEP_MOVING.into());
        }
        self.outcome.cut_theirs = theirs.commit;
        self.cut = Some(after);
        self.phase = Phase::Settling(self.now + self.options.settle);
    }

    fn judge_diff(&mut self, roots: (Vec<Summary>, Vec<Summary>), moved: bool, rechecked: bool) {
        if moved && !rechecked && !self.found.is_empty() {
            return self.look_at_found_again();
        }
        if !moved {
            self.found.iter_mut().for_each(|difference| difference.stable = true);
        }
        let stable = self.found.iter().filter(|difference| difference.stable).count() as u64;
        let parked = self.options.parked.is_some();
        let sums = self.counts.differences() > 0 && (moved || parked || self.balance(&roots.0, &roots.1));
        let again = self.counts.rounds < ROUNDS_MAX;
        if stable > 0 && sums || !again && self.counts.differences() > 0 {
            self.counts.in_flight = self.found.len() as u64 - stable;
            let found = std::mem::take(&mut self.found);
            self.outputs.extend(found.into_iter().map(Output::Found));
            let verdict = if stable > 0 { Verdict::Differs } else { Verdict::Undetermined };
            let reason = if stable > 0 { "" } else { "every difference that was found is still moving" };
            self.note_left_out();
            return self.finish(verdict, reason.into());
        }
        if self.found.is_empty() && self.ends_but_for_parked(moved) {
            return;
        }
        if !again {
            return self.finish(Verdict::Undetermined, "the roots differ and no range could be found that does".into());
        }
        // Nothing stood still, or what was found does not explain the roots: again, at full width.
        self.forget_findings();
        self.descend(&roots.0, &roots.1);
    }

    fn judge_repair(&mut self, roots: (Vec<Summary>, Vec<Summary>), moved: bool) {
        if self.unresolved > 0 {
            if self.seek_missed(&roots.0, &roots.1) {
                return;
            }
            let reason = format!("{} differences are left as they are", self.unresolved);
            self.note_left_out();
            return self.finish(Verdict::Differs, reason);
        }
        if self.ends_but_for_parked(moved) {
            return;
        }
        if self.counts.rounds < ROUNDS_MAX {
            self.fresh = 0;
            self.unresolved = 0;
            return self.descend(&roots.0, &roots.1);
        }
        // Converged at the cut: every range was equal or resolved, and somebody is writing.
        self.counts.in_flight = self.fresh;
        if moved {
            return self.finish(Verdict::Converged, "keys written since the cut are in flight".into());
        }
        self.finish(Verdict::Undetermined, "the roots differ though every range was resolved; run `verify`".into());
    }

    /// Whether the records only here and only there explain the difference of the counts.
    fn balance(&self, mine: &[Summary], theirs: &[Summary]) -> bool {
        let count = |roots: &[Summary]| roots.iter().map(|root| root.count).sum::<u64>();
        count(mine) + self.counts.only_theirs == count(theirs) + self.counts.only_mine
    }

    /// Whether the peer is told how the session ended: not if it knows.
    pub(super) fn says_bye(&self) -> bool {
        let refused = self.outcome.verdict == Verdict::Refused && self.outcome.braked.is_none();
        (self.options.intent != Intent::Check || self.signing.is_asked()) && !refused
    }

    /// Looks at the roots as if nothing had been compared yet.
    pub(super) fn look_from_the_start(&mut self) {
        self.forget_findings();
        (self.unresolved, self.fresh, self.counts.left) = (0, 0, 0);
        self.counts.to_mine.offered = self.counts.to_mine.applied;
        self.look(false);
        self.counts.rounds -= 1;
    }

    fn forget_findings(&mut self) {
        self.found.clear();
        self.moving = None;
        let counts = &mut self.counts;
        counts.only_mine = 0;
        counts.only_theirs = 0;
        counts.mine_newer = 0;
        counts.theirs_newer = 0;
        counts.concurrent = 0;
        counts.versions = 0;
        counts.content = 0;
        counts.tolerated = 0;
    }

    /// Goes down into the collections whose roots differ; from the second round on at full width.
    pub(super) fn descend(&mut self, mine: &[Summary], theirs: &[Summary]) {
        if self.counts.rounds > 0 {
            self.width = 32;
        }
        self.phase = Phase::Descending;
        // Whatever was only likely is compared again, or shown by roots that are equal now.
        self.unconfirmed.clear();
        self.aside.due = false;
        self.close_gate();
        if self.is_picked() {
            return self.list_picked();
        }
        let collections: Vec<CollectionId> = self.scope.iter().collect();
        for (collection, (ours, other)) in collections.into_iter().zip(mine.iter().zip(theirs)) {
            let small = ours.count.min(other.count);
            if ours != other && !(self.counts.rounds == 0 && self.sketch_root(collection, small)) {
                let queue = self.open.entry(collection).or_default();
                queue.push_back((Range::ALL, ours.count.max(other.count)));
            }
        }
    }

    /// Estimates the number of differences from how many of the root's parts differ.
    ///
    /// `d` differences thrown at `m` parts leave `k` of them touched; the likely `d` and its variance
    /// are those of linear counting (Whang, Vander-Zanden, Taylor, 1990).
    pub(super) fn estimate(&mut self, theirs: &[RangeView], steps: &[Step]) {
        let (mine, other) = (self.outcome.root_mine.count, self.outcome.root_theirs.count);
        let low = mine.abs_diff(other).max(1);
        let high = (mine + other).max(low);
        let parts = theirs.iter().find_map(|view| match &view.body {
            Body::Parts { digests, .. } => Some(digests.len() as f64),
            _ => None,
        });
        let exact = steps.iter().find_map(|step| match step {
            Step::Leaf { mine, theirs, both } => Some((mine.len() + theirs.len() + both.len()) as u64),
            _ => None,
        });
        let estimate = |likely: f64, margin: f64| {
            let bound = |value: f64| (value.max(0.0) as u64).clamp(low, high);
            Estimate { likely: bound(likely), low: bound(likely - margin), high: bound(likely + margin) }
        };
        let touched = steps.len() as f64;
        self.outcome.estimate = Some(match (parts, exact) {
            (None, Some(n)) => Estimate { likely: n, low: n, high: n },
            (Some(m), _) if touched < m => {
                let load = -(1.0 - touched / m).ln();
                estimate(m * load, 1.96 * (m * (load.exp() - load - 1.0)).sqrt() + 1.0)
            }
            (Some(m), _) => {
                Estimate { low: ((m * m.ln() / 2.0) as u64).clamp(low, high), ..estimate(m * m.ln(), high as f64) }
            }
            (None, None) => Estimate { likely: low, low, high },
        });
    }

    fn root(&self, roots: &[Summary]) -> Summary {
        self.scope.root(&self.keys, &self.definition, roots)
    }

    pub(super) fn finish(&mut self, verdict: Verdict, reason: String) {
        let proven = matches!(verdict, Verdict::InSync | Verdict::Converged | Verdict::Differs);
        self.finish_at(verdict, reason, if proven { 1_000_000 } else { 0 });
    }

    pub(super) fn finish_at(&mut self, verdict: Verdict, reason: String, coverage_millionths: u32) {
        self.outcome.verdict = verdict;
        if self.says_bye() {
            let closing = self.close_receipt();
            self.send(Message::Bye(Bye { verdict: verdict.name().into(), closing }));
        }
        self.phase = Phase::Over;
        self.outcome.reason = reason;
        self.outcome.coverage_millionths = coverage_millionths;
        self.outcome.counts = self.counts.clone();
        self.outputs.push_back(Output::Done(Box::new(self.outcome.clone())));
    }
}
