//! `reknit gc STORE`: drops tombstones that every member has passed, and says what it waits for.

use reknit_core::Stamp;
use reknit_core::collect::{Found, Standing};
use serde_json::{Map, Value, json};

use super::sides::plural;
use crate::cli::args::Gc;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::{ago, parse_duration, show_count};
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::core::query::Raising;
use crate::store::Store;
use crate::transport::PeerId;

pub(crate) fn run(args: &Gc, env: &mut Env) -> Result<Exit, CliError> {
    let grace = u64::try_from(parse_duration(&args.grace)?.as_millis()).unwrap_or(u64::MAX);
    let (store, now) = (env.store(&args.store)?, now_ms());
    if args.apply {
        // What has expired is a tombstone as any other.
        store.expire_until(None)?;
    }
    let found = env.home()?.collectable(&store, now, grace)?;
    let tombstones = Tombstones::of(&store, &found, Stamp::at(now.saturating_sub(grace)))?;
    let me = env.home()?.identity()?.peer();
    let mut printer = Printer::new(env);
    for standing in &found.standings {
        printer.item(|| line(standing, me, now), || object(standing, me))?;
    }
    let wrote = if args.apply { collect(&store, &found)? } else { 0 };
    let text = tombstones.text(args.apply, wrote);
    let horizon = store.horizon().stamp.millis();
    let mut summary = fields(json!({
        "applied": args.apply, "wrote": wrote, "horizon_ms": horizon, "collectable_ms": found.horizon.stamp.millis(),
    }));
    summary.extend(tombstones.fields());
    printer.end(Exit::Done, &text, summary)
}

/// Collects, and says how many tombstones went.
fn collect(store: &Store, found: &Found) -> Result<u64, CliError> {
    let before = store.stats()?.tombstones;
    match store.raise(&found.horizon, false)? {
        Raising::Raised => Ok(before.saturating_sub(store.stats()?.tombstones)),
        // It is vouched for as it stands, and by its own clock.
        Raising::Behind | Raising::Refused => {
            let message = "the store changed while it was looked at; wrote 0 records, the same command goes on";
            Err(CliError { exit: Exit::Undetermined, ..CliError::new("gc.moved", message) })
        }
    }
}

/// How many tombstones there are, by what they wait for.
struct Tombstones {
    all: u64,
    collectable: u64,
    /// Old enough, and some member may not have passed them.
    waiting: u64,
}

impl Tombstones {
    fn of(store: &Store, found: &Found, old: Stamp) -> Result<Tombstones, CliError> {
        let (all, old) = (store.tombstones_up_to(Stamp(u64::MAX))?, store.tombstones_up_to(old)?);
        let collectable = store.tombstones_up_to(found.horizon.stamp)?;
        Ok(Tombstones { all, collectable, waiting: old.saturating_sub(collectable) })
    }

    fn text(&self, applied: bool, wrote: u64) -> String {
        let Tombstones { all, collectable, waiting } = *self;
        let young = all - collectable - waiting;
        let kept = format!("{} wait for members, {} for the grace time", show_count(waiting), show_count(young));
        match applied {
            true => format!("collected {} of {} tombstone{}; {kept}", show_count(wrote), show_count(all), plural(all)),
            false if all == 0 => "there are no tombstones".into(),
            false => {
                let (n, all) = (show_count(collectable), show_count(all));
                format!("{n} of {all} tombstones can be collected; {kept}; wrote 0 records, add --apply to collect")
            }
        }
    }

    fn fields(&self) -> Map<String, Value> {
        let young = self.all - self.collectable - self.waiting;
        fields(
            json!({ "tombstones": self.all, "collectable": self.collectable, "waiting": self.waiting, "young": young }),
        )
    }
}

fn line(standing: &Standing, me: PeerId, now: u64) -> String {
    let peer = PeerId(standing.peer);
    let heard = match standing.heard {
        _ if peer == me => "this node".to_string(),
        Some(heard) => format!("heard of {}", ago(heard, now)),
        None => "never heard of here".into(),
    };
    let passed = match standing.passed {
        _ if standing.lapsed => format!("its lease ended {}: nothing waits for it", ago(standing.lapses, now)),
        Some(stamp) if stamp > Stamp(0) => format!("has passed what was written until {}", ago(stamp.millis(), now)),
        _ if peer == me => "waits for the others".into(),
        _ => format!(
            "waited for: no receipt shows that it has passed anything; its lease ends {}",
            ago(standing.lapses, now)
        ),
    };
    // Stores of one home have one peer.
    let actor = standing.actor.map(|actor| format!(" as {actor:016x}")).unwrap_or_default();
    format!("{peer}{actor}\t{heard}; {passed}")
}

fn object(standing: &Standing, me: PeerId) -> Value {
    let peer = PeerId(standing.peer);
    json!({
        "t": "standing", "peer": peer.to_string(), "me": peer == me,
        "actor": standing.actor.map(|actor| format!("{actor:016x}")), "heard_ms": standing.heard,
        "lapses_ms": standing.lapses, "lapsed": standing.lapsed, "passed_ms": standing.passed.map(Stamp::millis),
    })
}
