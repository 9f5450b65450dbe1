//! Repairs that prefer a side: each new version that one writes is looked at, as it is written.
//! That it wins everywhere, and that the journal has what it replaced, is checked of all that sessions write.

use reknit::core::difference::Side as Which;
use reknit::core::policy::named;
use reknit::core::session::{Direction, Intent, Options};
use reknit::core::{Content, Millis, State};

use crate::oracle::{KeyId, Step, WriteId};
use crate::session::Session;
use crate::world::World;

impl World {
    /// Lets a repair both ways prefer a side now and then.
    pub(crate) fn may_prefer(&mut self, options: &mut Options) {
        let both = options.intent == Intent::Repair(Direction::Both) && options.mirror.is_none();
        if self.shape.prefers && both && self.draw.below(2) == 0 {
            options.prefer = Some([Which::Mine, Which::Theirs][self.draw.below(2)]);
        }
    }

    /// What a session has written anew where both sides had been written apart stands for both of them: it has seen all
    /// versions of both, and holds what readers of the preferred side saw.
    pub(crate) fn preferred_rightly(&mut self, session: &Session, half: usize, steps: &[Step], fresh: &[WriteId]) {
        let Some(preferred) = session.options.prefer else { return };
        let made = |step: &&Step| {
            let ids = step.new.iter().flat_map(|state| state.versions()).map(|made| self.oracle.find(step.key, made));
            ids.flatten().any(|id| fresh.contains(&id))
        };
        let mut won = 0;
        for step in steps.iter().filter(made) {
            let number = session.number;
            assert!(half == 0, "session {number} wrote a version of its own at the side that answers: {step:?}");
            let (Some(mine), Some(new)) = (&step.old, &step.new) else {
                panic!("session {number} preferred a side where only one had something: {step:?}")
            };
            let far = &session.halves[1];
            let (theirs, now) = (&far.at_start.states, &self.peers[far.peer].held.states);
            // An undo may have brought back what was there at the start, and the session have read what stood there before it.
            let calm = far.upheavals == self.peers[far.peer].upheavals;
            let theirs = theirs.get(&step.key).filter(|state| calm && now.get(&step.key) == Some(state));
            let made = new.winner();
            let known = [Some(mine), theirs].into_iter().flatten();
            let mut known = known.flat_map(|state| state.versions()).map(|had| &had.version);
            // A vector that is full may have forgotten some.
            let seen = made.version.seen.is_full() || known.all(|had| made.version.has_seen(had));
            let single = new.versions().len() == 1;
            assert!(single && seen, "session {number} left {new:?} for {mine:?} and {theirs:?} of key {}", step.key);
            let source = if preferred == Which::Mine { Some(mine) } else { theirs };
            if let Some(source) = source {
                let (shown, expires) = self.shown_of(step.key, source);
                // It may have been due already where it was written.
                let right = made.content == shown || made.has_expired() && made.expires == expires;
                assert!(
                    right,
                    "session {number} preferred {preferred:?} of key {} and made {made:?}, not {shown:?}",
                    step.key
                );
                won += 1;
            }
        }
        self.tally.add("preferred", won);
    }

    /// What readers see of a state, and when it expires.
    pub(crate) fn shown_of(&self, key: KeyId, state: &State) -> (Content, Option<Millis>) {
        let policy = self.shape.policies[usize::from(self.oracle.keys[key as usize].0.0)];
        let judged = named(policy).expect("one of ours").judge(state.versions());
        let (content, expires) = judged.seen(state.versions());
        (content.clone(), expires)
    }
}
