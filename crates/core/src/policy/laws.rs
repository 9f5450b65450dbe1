//! What every policy must keep to, checked on drawn histories: for those who write one of their own.

use super::{Judgement, Policy};
use crate::digest::{DatasetKey, Keys};
use crate::record::{Actor, Content, Keeps, Sibling, State, Version};
use crate::stamp::Stamp;

/// Histories that are drawn for one check.
const HISTORIES: u64 = 300;
const REPLICAS_MAX: u64 = 5;
const STEPS_MAX: u64 = 14;

/// A law that a policy breaks, and the smallest set of versions found on which it does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LawBroken {
    /// One set was given two answers: replicas would show different values.
    TwoAnswers(Vec<Sibling>),
    /// The answer names a place where there is no version.
    NoSuchVersion(Vec<Sibling>),
    /// A version that stands alone is not what readers see: a write that has seen all others would not win.
    NotItself(Vec<Sibling>),
}

impl std::fmt::Display for LawBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (law, set) = match self {
            LawBroken::TwoAnswers(set) => ("gives two answers for one set of versions", set),
            LawBroken::NoSuchVersion(set) => ("chooses a version that is not in the set", set),
            LawBroken::NotItself(set) => ("does not show a version that stands alone", set),
        };
        write!(f, "the policy {law}: {set:?}")
    }
}

impl std::error::Error for LawBroken {}

/// Checks a policy on the sets that replicas come to hold which write these contents, at least one, delete, and join
/// each other's states in any order. Everything drawn follows from `seed`.
///
/// # Errors
/// The first law that was found broken.
pub fn policy_laws(policy: &dyn Policy, contents: &[Content], seed: u64) -> Result<(), LawBroken> {
    let keys = Keys::new(&DatasetKey::from_bytes([0; 32]));
    let mut draw = Draw(seed);
    let mut earlier: Vec<(State, Judgement)> = Vec::new();
    for _ in 0..HISTORIES {
        for state in history(&mut draw, contents, &keys) {
            let judged = check(policy, state.versions()).map_err(|law| smallest(policy, law))?;
            // Whatever was asked in between, the answer is the same.
            let before = earlier.get(draw.below(earlier.len().max(1) as u64) as usize);
            if before.is_some_and(|(state, judged)| policy.judge(state.versions()) != *judged) {
                let set = before.map(|(state, _)| state.versions().to_vec()).unwrap_or_default();
                return Err(LawBroken::TwoAnswers(set));
            }
            earlier.push((state, judged));
        }
    }
    Ok(())
}

fn check(policy: &dyn Policy, versions: &[Sibling]) -> Result<Judgement, LawBroken> {
    let judged = policy.judge(versions);
    if policy.judge(versions) != judged {
        return Err(LawBroken::TwoAnswers(versions.to_vec()));
    }
    match &judged {
        Judgement::Version(nth) | Judgement::Open { shown: nth, .. } if *nth >= versions.len() => {
            return Err(LawBroken::NoSuchVersion(versions.to_vec()));
        }
        _ => {}
    }
    match versions {
        [one] if judged.is_open() || judged.seen(versions) != (&one.content, one.expires) => {
            Err(LawBroken::NotItself(versions.to_vec()))
        }
        _ => Ok(judged),
    }
}

/// Takes versions away for as long as a law is broken without them.
fn smallest(policy: &dyn Policy, mut broken: LawBroken) -> LawBroken {
    loop {
        let (LawBroken::TwoAnswers(set) | LawBroken::NoSuchVersion(set) | LawBroken::NotItself(set)) = &broken;
        let without = |nth: usize| [&set[..nth], &set[nth + 1..]].concat();
        let smaller = (0..set.len()).filter(|_| set.len() > 1).find_map(|nth| check(policy, &without(nth)).err());
        match smaller {
            Some(smaller) => broken = smaller,
            None => return broken,
        }
    }
}

/// The states that some replicas go through.
fn history(draw: &mut Draw, contents: &[Content], keys: &Keys) -> Vec<State> {
    let replicas = 2 + draw.below(REPLICAS_MAX - 1);
    let mut held: Vec<Option<State>> = vec![None; replicas as usize];
    // Clocks stand apart, so that stamps tell nothing of who had seen whom.
    let skews: Vec<u64> = (0..replicas).map(|_| draw.below(1 << 24)).collect();
    let mut states = Vec::new();
    for step in 0..1 + draw.below(STEPS_MAX) {
        let (at, from) = (draw.below(replicas) as usize, draw.below(replicas) as usize);
        let next = if draw.below(2) == 0 || at == from {
            let seen = held[at].iter().flat_map(State::versions).map(|sibling| &sibling.version);
            let version = Version::after(Stamp(skews[at] + (step << 16)), Actor(at as u64), seen);
            let chosen = contents.get(draw.below(contents.len() as u64 + 1) as usize);
            let content = chosen.cloned().unwrap_or(Content::Tombstone);
            let expires = (draw.below(4) == 0).then(|| draw.below(1000));
            Some(State::single(Sibling { version, content, expires }))
        } else {
            match (&held[at], &held[from]) {
                (Some(mine), Some(theirs)) => Some(mine.join(theirs, Keeps::All, keys)),
                (mine, theirs) => mine.clone().or(theirs.clone()),
            }
        };
        states.extend(next.clone());
        held[at] = next;
    }
    states
}

/// A small generator of numbers (splitmix64, Steele, Lea and Flood, 2014).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit.max(1)
    }
}
