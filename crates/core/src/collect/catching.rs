//! Catching up, step by step: the sessions that a side which was away while tombstones were collected holds with the other before
//! it gives anything to anyone, and what each of them has to show.
//!
//! It takes all that the other side has, looks at what differs still, and asks once more whom it looked at. Which of the keys
//! go is the store's concern, as is the horizon that it is raised to then; who holds the sessions that of its driver.

use super::{Missed, Stands};
use crate::brakes::{Braked, Loss, Losses, Samples};
use crate::difference::{Difference, Side};
use crate::session::{Direction, Intent, Options, Other, Outcome, Verdict};

/// Where a side that is behind stands.
#[derive(Clone, Debug)]
pub struct CatchingUp {
    /// How its sessions are held.
    base: Options,
    phase: Phase,
    missed: Vec<Missed>,
    /// Whether everything that it looked at stood still.
    still: bool,
    losses: Losses,
    samples: Samples,
    /// How many records it holds.
    records: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is older here is gone then, and what is left is to be judged.
    Taking,
    Looking,
    /// What the other side put back while it was looked at was not deleted there: so it is asked once more who it is.
    Asking,
}

/// What comes next.
#[derive(Clone, Debug)]
pub enum Next {
    /// The session that [`CatchingUp::session`] tells.
    Session,
    /// The store judges these keys, by what its receipts tell of them and of the side that it catches up with, and then
    /// collects as far as that has.
    Judge(Vec<Missed>, Other),
    /// It stays behind: it could not be compared, or more would go than may.
    NotYet(Option<Braked>),
}

impl CatchingUp {
    /// Begins. All sessions are held as `base` says, but for what they are to do; its brakes hold for all that goes.
    #[must_use]
    pub fn begin(base: Options) -> Self {
        let (losses, samples) = (Losses::default(), Samples::default());
        Self { base, phase: Phase::Taking, missed: Vec::new(), still: true, losses, samples, records: 0 }
    }

    /// The session that is to be held now: the side that is behind opens it. Every difference that it finds is told to
    /// [`found`](Self::found), its end to [`ended`](Self::ended).
    #[must_use]
    pub fn session(&self) -> Options {
        let (intent, brakes) = match self.phase {
            Phase::Taking => (Intent::Repair(Direction::To(Side::Mine)), self.base.brakes),
            Phase::Looking => (Intent::Diff, None),
            Phase::Asking => (Intent::Check, None),
        };
        let catching_up = self.phase == Phase::Taking;
        // What is asked is told at once.
        let settle = if self.phase == Phase::Asking { 0 } else { self.base.settle };
        Options { intent, brakes, catching_up, settle, receipt: false, ..self.base.clone() }
    }

    /// Whether the session that is held now is the one that looks at what differs: what comes to the side from then on was not
    /// looked at.
    #[must_use]
    pub fn looks(&self) -> bool {
        self.phase == Phase::Looking
    }

    /// A difference that the session which is held now has found.
    pub fn found(&mut self, difference: &Difference) {
        if self.phase != Phase::Looking {
            return;
        }
        let Some(one) = Missed::of(difference) else { return };
        // What is newer there comes when it comes.
        self.still &= difference.stable || one.stands == Stands::Below;
        let lost = matches!(one.stands, Stands::Alone | Stands::Above);
        if lost && difference.mine.as_ref().is_some_and(|mine| mine.content.is_some()) {
            self.losses.add(Some(Loss::Deleted));
            self.samples.note(Loss::Deleted, one.collection, &one.key);
        }
        self.missed.push(one);
    }

    /// The session that was held has ended; `before` is what the side has lost otherwise, where that counts.
    pub fn ended(&mut self, outcome: &Outcome, before: Losses) -> Next {
        if let Some(braked) = &outcome.braked {
            return Next::NotYet(Some(braked.clone()));
        }
        // Whether both are equal by now is not what is asked; one that is written all the time would never tell.
        let asked = self.phase == Phase::Asking && outcome.keeps_moving();
        let told = matches!(outcome.verdict, Verdict::InSync | Verdict::Converged | Verdict::Differs) || asked;
        if !told || !self.still {
            return Next::NotYet(None);
        }
        match self.phase {
            Phase::Taking => self.phase = Phase::Looking,
            Phase::Looking => {
                self.records = outcome.root_mine.count;
                self.phase = Phase::Asking;
            }
            Phase::Asking => return self.judge(outcome.other, before),
        }
        Next::Session
    }

    fn judge(&mut self, other: Option<Other>, before: Losses) -> Next {
        // Somebody has collected meanwhile: there is nothing to catch up with, or something else.
        let Some(other) = other else { return Next::NotYet(None) };
        let allowed = self.base.brakes.map(|brakes| Losses::allowed(&brakes, self.records));
        match allowed.filter(|allowed| !self.losses.may_follow(&before, allowed)) {
            Some(allowed) => Next::NotYet(Some(Braked {
                side: Side::Mine,
                records: self.records,
                losses: self.losses.and(before),
                before,
                allowed,
                shrunken: None,
                samples: std::mem::take(&mut self.samples),
            })),
            None => Next::Judge(std::mem::take(&mut self.missed), other),
        }
    }
}

#[cfg(test)]
mod tests;
