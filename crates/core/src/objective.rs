//! What an operator wants to hold: both sides of a job proven equal within some time, met, at risk or broken since when.
//!
//! What proves them equal is a run's; who is told is for [`crate::alert`].

use crate::stamp::Millis;

/// Of the time that may pass, so much of four passes until it is at risk.
const AT_RISK_QUARTERS: u64 = 3;

/// How an objective stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They were proven equal in time.
    Met,
    /// Nearly all of the time has passed.
    AtRisk,
    /// It has passed.
    Broken,
}

impl State {
    /// As it is written for machines.
    pub fn name(self) -> &'static str {
        match self {
            State::Met => "met",
            State::AtRisk => "at_risk",
            State::Broken => "broken",
        }
    }
}

/// An objective at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// How long may pass between two proofs.
    pub within: Millis,
    /// When both sides were last proven equal; if they never were, when the objective was first known.
    pub from: Millis,
    /// Whether they ever were.
    pub proven: bool,
    /// How it stands.
    pub state: State,
}

impl Objective {
    /// How one stands that has been known for a while.
    pub fn at(within: Millis, known: Millis, proven: Option<Millis>, now: Millis) -> Objective {
        let from = proven.unwrap_or(known);
        let state = match now.saturating_sub(from) {
            passed if passed > within => State::Broken,
            passed if passed >= within / 4 * AT_RISK_QUARTERS && passed > 0 => State::AtRisk,
            _ => State::Met,
        };
        Objective { within, from, proven: proven.is_some(), state }
    }

    /// From when on it is broken, unless they are proven equal before.
    pub fn breaks(&self) -> Millis {
        self.from.saturating_add(self.within)
    }

    /// Since when it is broken, if it is.
    pub fn broken_since(&self) -> Option<Millis> {
        (self.state == State::Broken).then(|| self.breaks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_met_then_at_risk_then_broken_and_a_proof_begins_anew(
            within in 4u64..1_000_000, known in 0u64..1_000_000, proven in prop::option::of(0u64..1_000_000),
            passed in 0u64..3_000_000,
        ) {
            let from = proven.unwrap_or(known);
            let at = |now| Objective::at(within, known, proven, now);
            let now = at(from + passed);
            prop_assert_eq!(now.state == State::Broken, passed > within);
            prop_assert_eq!(now.broken_since(), (passed > within).then_some(from + within));
            // It never gets better by waiting.
            let order = |state| [State::Met, State::AtRisk, State::Broken].iter().position(|s| *s == state);
            prop_assert!(order(now.state) <= order(at(from + passed + 1).state));
            prop_assert_eq!(at(from).state, State::Met);
            prop_assert_eq!(at(from + within).state, State::AtRisk);
            // A clock that is put back breaks nothing.
            prop_assert_eq!(at(from.saturating_sub(passed)).state, State::Met);
            let again = Objective::at(within, known, Some(from + passed), from + passed);
            prop_assert_eq!(again.state, State::Met);
        }
    }
}
