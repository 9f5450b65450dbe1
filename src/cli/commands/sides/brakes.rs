//! Brakes as they are typed and told: limits from flags, and what to say when one stopped a session.

use std::io::Write;

use reknit_core::CollectionId;
use reknit_core::brakes::{Braked, Brakes, Loss, Losses, SAMPLES_MAX};
use reknit_core::difference::Side as Seen;
use reknit_core::session::Outcome;
use serde_json::{Map, Value, json};

use super::{Ran, told_caught_up};
use crate::cli::args::{BrakeFlags, Sides};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::{parse_limit, show_count};
use crate::cli::{CliError, Exit};

/// The brakes that were typed.
pub(crate) fn typed(flags: &BrakeFlags) -> Result<Brakes, CliError> {
    let mut brakes = Brakes::default();
    if let Some(limit) = &flags.max_delete {
        // Whoever says how much may go has seen that a side shrank.
        brakes = Brakes { delete: parse_limit(limit)?, shrunken: true, ..brakes };
    }
    if let Some(limit) = &flags.max_change {
        brakes.change = parse_limit(limit)?;
    }
    Ok(brakes)
}

/// The peer's own brakes have stopped the session.
pub(super) fn by_the_peer(outcome: &Outcome) -> CliError {
    let wrote = show_count(outcome.counts.to_mine.applied + outcome.counts.to_theirs.applied);
    let message = format!(
        "{}; wrote {wrote} records before; there: reknit serve --max-delete N --max-change N lets more pass, or wait",
        outcome.reason
    );
    CliError { exit: Exit::Refused, ..CliError::new("peer.brakes", message) }
}

/// A key, and its collection.
type Sample = (CollectionId, Vec<u8>);

/// What a repair would take from each side, counted before it writes anything.
#[derive(Default)]
pub(crate) struct Foreseen {
    sides: [(Losses, [Vec<Sample>; 2]); 2],
}

impl Foreseen {
    /// Counts what becomes of a key in `a` (0) or in `b`.
    pub(crate) fn add(&mut self, side: usize, (of, key): (CollectionId, &[u8]), loss: Option<Loss>) {
        let (losses, samples) = &mut self.sides[side];
        losses.add(loss);
        if let Some(loss) = loss {
            let samples = &mut samples[usize::from(loss == Loss::Changed)];
            if samples.len() < SAMPLES_MAX {
                samples.push((of, key.to_vec()));
            }
        }
    }

    /// How many records would be deleted.
    pub(crate) fn deleted(&self) -> u64 {
        self.sides.iter().map(|(losses, _)| losses.deleted).sum()
    }

    /// A side that would lose more than it may; `exactly`: it is made the other.
    pub(crate) fn too_much(&self, limits: &Brakes, exactly: bool, ran: &Ran) -> Option<TooMuch> {
        let outcome = &ran.report.outcome;
        let (mine, theirs) = (outcome.root_mine.count, outcome.root_theirs.count);
        let records = if ran.swapped { [theirs, mine] } else { [mine, theirs] };
        ["a", "b"].into_iter().zip(&self.sides).enumerate().find_map(|(nth, (side, (losses, samples)))| {
            let (losses, records, others) = (*losses, records[nth], records[1 - nth]);
            let allowed = Losses::allowed(limits, records);
            let shrank = exactly && !limits.shrunken && others < records.div_ceil(2) && losses != Losses::default();
            let keys = |keys: &[Sample]| keys.iter().map(|(of, key)| ran.layouts.of(*of).show_key(key)).collect();
            (!losses.within(&allowed) || shrank).then(|| TooMuch {
                side,
                records,
                losses,
                before: Losses::default(),
                allowed,
                shrunken: shrank.then_some(others),
                deleted: keys(&samples[0]),
                changed: keys(&samples[1]),
            })
        })
    }
}

/// What one side would lose, as it is told.
pub(crate) struct TooMuch {
    /// `a` or `b`.
    pub(crate) side: &'static str,
    /// How many records it holds.
    pub(crate) records: u64,
    pub(crate) losses: Losses,
    /// What of it was lost in sessions before.
    pub(crate) before: Losses,
    pub(crate) allowed: Losses,
    /// How many records the other side holds, if it shrank.
    pub(crate) shrunken: Option<u64>,
    /// Some of the keys that would be deleted, and that would be overwritten.
    pub(crate) deleted: Vec<String>,
    pub(crate) changed: Vec<String>,
}

impl TooMuch {
    /// What would let it pass: flags with their limits.
    fn lets(&self) -> Vec<(&'static str, u64)> {
        let deletes = self.losses.deleted > self.allowed.deleted || self.shrunken.is_some();
        let changes = self.losses.changed > self.allowed.changed;
        let deletes = deletes.then_some(("max-delete", self.losses.deleted));
        deletes.into_iter().chain(changes.then_some(("max-change", self.losses.changed))).collect()
    }

    fn flags(&self) -> String {
        let flags: Vec<String> = self.lets().iter().map(|(flag, n)| format!("--{flag} {n}")).collect();
        flags.join(" ")
    }

    /// The same as a job says it, which takes no such flags.
    fn keys_of(&self, job: &str) -> String {
        let keys: Vec<String> =
            self.lets().iter().map(|(flag, n)| format!("{} = {n}", flag.replace('-', "_"))).collect();
        format!("{} in [job.{job}]", keys.join(" and "))
    }

    fn keys(&self) -> Vec<&str> {
        let deleted = self.losses.deleted > self.allowed.deleted || self.shrunken.is_some();
        let changed = self.losses.changed > self.allowed.changed;
        let of = |counts: bool, keys: &'_ [String]| if counts { keys.len() } else { 0 };
        let deleted = self.deleted[..of(deleted, &self.deleted)].iter();
        let keys = deleted.chain(&self.changed[..of(changed, &self.changed)]);
        keys.take(SAMPLES_MAX).map(String::as_str).collect()
    }

    /// What would happen, to which keys, and how to let it: of a job by its keys.
    pub(crate) fn message(&self, job: Option<&str>, wrote: u64) -> String {
        let mut found = Vec::new();
        let kinds = [
            (self.losses.deleted, self.before.deleted, self.allowed.deleted, "deleted", self.shrunken.is_some()),
            (self.losses.changed, self.before.changed, self.allowed.changed, "overwritten", false),
        ];
        for (n, before, most, word, always) in kinds {
            if n > before && n > most || always {
                let word = match before {
                    0 => word.to_string(),
                    before => format!("{word}, with {} by sessions of a while before", show_count(before)),
                };
                let bound = if n > most { format!(", at most {} may be", show_count(most)) } else { String::new() };
                found.push(format!("{} would be {word}{bound}", show_count(n)));
            }
        }
        let other = if self.side == "a" { "b" } else { "a" };
        let why = match self.shrunken {
            Some(n) => format!("{other} holds {} records, fewer than half as many; ", show_count(n)),
            None => String::new(),
        };
        let named = match self.keys() {
            keys if keys.is_empty() => String::new(),
            keys => format!("; for example {}", keys.join(", ")),
        };
        let (records, found, wrote) = (show_count(self.records), found.join(" and "), show_count(wrote));
        let flags = job.map_or_else(|| self.flags(), |job| self.keys_of(job));
        format!(
            "of the {records} records of {} {found}{named}; {why}to let it pass: {flags}; wrote {wrote} records",
            self.side
        )
    }

    /// The same for machines.
    pub(crate) fn object(&self) -> Value {
        json!({
            "side": self.side, "records": self.records, "shrunken": self.shrunken, "keys": self.keys(),
            "flags": self.flags(), "deleted": self.losses.deleted, "max_delete": self.allowed.deleted,
            "changed": self.losses.changed, "max_change": self.allowed.changed,
        })
    }

    /// Says so, with what else is known of the session.
    pub(crate) fn tell(&self, env: &mut Env, wrote: u64, mut summary: Map<String, Value>) -> Result<Exit, CliError> {
        let message = self.message(env.job.as_deref(), wrote);
        let table = env.table.as_ref().map(|of| format!("{}: ", of.name())).unwrap_or_default();
        writeln!(env.err, "reknit: {table}{message} [repair.braked]")?;
        env.failed = Some(("repair.braked", message.clone()));
        if env.text() {
            return Ok(Exit::Refused);
        }
        summary.extend(fields(json!({
            "verdict": "refused", "wrote": wrote, "error": "repair.braked", "message": message, "braked": self.object(),
        })));
        Printer::new(env).end(Exit::Refused, "", summary)
    }
}

/// Tells that a brake has stopped the session, what it would have lost, and which flags would let it pass; `wrote` records
/// were written by sessions before it.
pub(crate) fn stopped(
    env: &mut Env,
    (sides, ran): (&Sides, &Ran),
    braked: &Braked,
    wrote: u64,
) -> Result<Exit, CliError> {
    let keys = |loss| braked.samples.of(loss).iter().map(|(of, key)| ran.layouts.of(*of).show_key(key)).collect();
    let counts = &ran.report.outcome.counts;
    let much = TooMuch {
        side: if (braked.side == Seen::Mine) != ran.swapped { "a" } else { "b" },
        records: braked.records,
        losses: braked.losses,
        before: braked.before,
        allowed: braked.allowed,
        shrunken: braked.shrunken,
        deleted: keys(Loss::Deleted),
        changed: keys(Loss::Changed),
    };
    let exit = much.tell(env, wrote + counts.to_mine.applied + counts.to_theirs.applied, ran.summary())?;
    if env.text() {
        told_caught_up(sides, ran.caught_up(), ran.strays()).iter().try_for_each(|line| writeln!(env.err, "{line}"))?;
    }
    Ok(exit)
}
