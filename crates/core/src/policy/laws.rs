//! What every policy must keep to, checked on drawn histories: for those who write one of their own.

use super::{Judgement, Policy, named};
use crate::bounds::{POLICY_BYTES_MAX, VALUE_BYTES_MAX, VERSIONS_MAX};
use crate::digest::{DatasetKey, Keys};
use crate::record::{Actor, Content, Keeps, Sibling, State, Version};
use crate::stamp::Stamp;

/// Histories that are drawn for one check.
const HISTORIES: u64 = 300;
const REPLICAS_MAX: u64 = 5;
const STEPS_MAX: u64 = 14;
/// Sets of each size, up to as many versions as may stand side by side.
const CROWDS: u64 = 4;
/// Values that any replica may hold, whatever a policy takes values for.
const ODD: [&[u8]; 5] = [b"", &[0], &[0xff, 0xfe], b"\xc3(", &[0x80; 300]];

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
    /// What was made of the versions is longer than a value may be.
    TooLong(Vec<Sibling>),
    /// The policy has the id of a built-in one, and judges otherwise: stores that do not bring it would show other values.
    NotAsBuiltIn(Vec<Sibling>),
    /// The id, told here, is none: that is a name, a slash, a version in digits and perhaps parameters after a space, at most
    /// [`POLICY_BYTES_MAX`] bytes, the same at each call.
    NoId(String),
}

impl LawBroken {
    /// The versions on which it is broken; none where it is about no versions.
    fn set(&self) -> &[Sibling] {
        match self {
            LawBroken::TwoAnswers(set)
            | LawBroken::NoSuchVersion(set)
            | LawBroken::NotItself(set)
            | LawBroken::TooLong(set)
            | LawBroken::NotAsBuiltIn(set) => set,
            LawBroken::NoId(_) => &[],
        }
    }
}

impl std::fmt::Display for LawBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let law = match self {
            LawBroken::TwoAnswers(_) => "gives two answers for one set of versions",
            LawBroken::NoSuchVersion(_) => "chooses a version that is not in the set",
            LawBroken::NotItself(_) => "does not show a version that stands alone",
            LawBroken::TooLong(_) => "makes a value that is longer than a value may be",
            LawBroken::NotAsBuiltIn(_) => "has the id of a built-in one, which judges otherwise",
            LawBroken::NoId(id) => {
                let id: String = id.chars().take(200).collect();
                return write!(
                    f,
                    "the policy has no id such as largest/1 population, of at most {POLICY_BYTES_MAX} bytes: {id:?}"
                );
            }
        };
        write!(f, "the policy {law}: {:?}", self.set())
    }
}

impl std::error::Error for LawBroken {}

/// Checks a policy's id, and the policy on the sets that replicas come to hold which write these contents, at least one, or any
/// other bytes, delete, and join each other's states in any order; also on as many versions as may stand side by side.
/// Everything drawn follows from `seed`.
///
/// What is drawn once for a process and then stays cannot be told from a part of the policy.
///
/// # Errors
/// The first law that was found broken.
///
/// # Panics
/// Where the policy does.
pub fn policy_laws(policy: &dyn Policy, contents: &[Content], seed: u64) -> Result<(), LawBroken> {
    judged(policy, contents, seed)?.again(policy)
}

/// What a policy said of many sets, so that it can be asked again.
#[derive(Debug)]
pub struct Judged(Vec<(State, Judgement)>);

impl Judged {
    /// Asks again, at another time and in another order.
    ///
    /// # Errors
    /// [`LawBroken::TwoAnswers`] with a set of which the policy says something else now.
    pub fn again(&self, policy: &dyn Policy) -> Result<(), LawBroken> {
        let other = self.0.iter().rev().find(|(state, judged)| policy.judge(state.versions()) != *judged);
        other.map_or(Ok(()), |(state, _)| Err(LawBroken::TwoAnswers(state.versions().to_vec())))
    }
}

/// The same as [`policy_laws`], but that the policy is not asked once more about everything at the end.
///
/// # Errors
/// As for [`policy_laws`].
pub fn judged(policy: &dyn Policy, contents: &[Content], seed: u64) -> Result<Judged, LawBroken> {
    check_id(policy)?;
    let keys = Keys::new(&DatasetKey::from_bytes([0; 32]));
    let contents: Vec<Content> =
        contents.iter().cloned().chain(ODD.map(|value| Content::Live(value.to_vec()))).collect();
    let mut draw = Draw(seed);
    let mut earlier: Vec<(State, Judgement)> = Vec::new();
    let crowds: Vec<usize> = (0..CROWDS).flat_map(|_| 1..=VERSIONS_MAX).collect();
    for nth in 0..HISTORIES {
        let mut states = history(&mut draw, &contents, &keys);
        states.extend(crowds.get(nth as usize).map(|size| crowd(&mut draw, *size, &contents, &keys)));
        for state in states {
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
    Ok(Judged(earlier))
}

fn check_id(policy: &dyn Policy) -> Result<(), LawBroken> {
    let id = policy.id();
    let named = id.split(' ').next().and_then(|first| first.split_once('/'));
    let well = named.is_some_and(|(name, version)| {
        !name.is_empty() && !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit())
    });
    if well && id.len() <= POLICY_BYTES_MAX && policy.id() == id {
        Ok(())
    } else {
        Err(LawBroken::NoId(id.to_string()))
    }
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
        Judgement::Made(Content::Live(value), _) if value.len() > VALUE_BYTES_MAX => {
            return Err(LawBroken::TooLong(versions.to_vec()));
        }
        _ => {}
    }
    if named(policy.id()).is_ok_and(|built_in| built_in.judge(versions) != judged) {
        return Err(LawBroken::NotAsBuiltIn(versions.to_vec()));
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
        let set = broken.set();
        let without = |nth: usize| [&set[..nth], &set[nth + 1..]].concat();
        let smaller = (0..set.len()).filter(|_| set.len() > 1).find_map(|nth| check(policy, &without(nth)).err());
        match smaller {
            Some(smaller) => broken = smaller,
            None => return broken,
        }
    }
}

/// Versions of so many writers that have not seen each other.
fn crowd(draw: &mut Draw, size: usize, contents: &[Content], keys: &Keys) -> State {
    let mut one = |actor: usize| {
        let version = Version::after(Stamp(draw.below(1 << 30)), Actor(actor as u64), []);
        State::single(written(draw, version, contents))
    };
    let first = one(0);
    (1..size).fold(first, |state, actor| state.join(&one(actor), Keeps::All, keys))
}

/// One of the contents, or a tombstone.
fn written(draw: &mut Draw, version: Version, contents: &[Content]) -> Sibling {
    let chosen = contents.get(draw.below(contents.len() as u64 + 1) as usize);
    let content = chosen.cloned().unwrap_or(Content::Tombstone);
    let expires = (draw.below(4) == 0).then(|| draw.below(1000));
    Sibling { version, content, expires }
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
            Some(State::single(written(draw, version, contents)))
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
