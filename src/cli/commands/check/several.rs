//! `reknit check A B C …`: which of several sides is the odd one out in which ranges, or that no majority is.
//!
//! One side is compared with each of the others, as `diff` does; who agrees with whom follows from that in the core.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use reknit_core::agreement::{Agreement, Groups, Has, KEYS_MAX, Place, SIDES_MAX, SPANS_MAX, Span};
use reknit_core::difference::{Difference, Kind};
use reknit_core::members::MEMBERS;
use reknit_core::session::{Intent, Verdict};
use reknit_core::tree::Summary;
use reknit_core::{Range, drift};
use serde_json::{Value, json};

use crate::cli::args::{Check, Sides};
use crate::cli::commands::sides::{self, Ran, plural, tables};
use crate::cli::env::Env;
use crate::cli::metrics::Measured;
use crate::cli::output::{Printer, fields};
use crate::cli::shared_tables;
use crate::cli::units::{show_bytes, show_count};
use crate::cli::{CliError, Exit};
use crate::store::Side;

/// Hex digits of a position that people are shown.
const SHOWN_DIGITS: usize = 4;

/// One side that could be compared with the centre.
struct Compared {
    /// Its place among all that were typed.
    nth: usize,
    differs: BTreeMap<Place, [Has; 2]>,
    ran: Ran,
}

pub(crate) fn run(args: &Check, env: &mut Env) -> Result<Exit, CliError> {
    let typed: Vec<&String> = [&args.sides.a, &args.sides.b].into_iter().chain(&args.more).collect();
    refuse(env, args, &typed)?;
    // What lies here is read once for all; a peer would have to be asked for it again and again.
    let centre = typed.iter().position(|side| !side.starts_with("quic://")).unwrap_or(0);
    let alone = typed[centre].clone();
    if !alone.contains("://") && !tables::is_table(&alone) {
        // It is opened once for all of its sessions.
        let (dir, store) = (env.path(Path::new(&alone)), env.store(Path::new(&alone))?);
        env.open.insert(dir.canonicalize().unwrap_or(dir), store);
    }
    let (mut compared, mut failed, mut exit) = (Vec::<Compared>::new(), Vec::new(), Exit::Done);
    for (nth, other) in typed.iter().enumerate().filter(|(nth, _)| *nth != centre) {
        let pair = Sides { a: typed[centre].clone(), b: (*other).clone(), ..args.sides.clone() };
        match one(env, &pair, nth) {
            Ok(one) => {
                exit = exit.or(one.ran.interrupted.unwrap_or(Exit::Done));
                match one.ran.report.outcome.verdict {
                    Verdict::InSync | Verdict::Converged | Verdict::Differs => compared.push(one),
                    _ => failed.push((nth, "check.partial", one.ran.verdict(), Exit::Undetermined)),
                }
            }
            Err(error) => failed.push((nth, error.id, error.message, error.exit)),
        }
        if matches!(exit, Exit::Interrupted | Exit::Terminated) {
            break;
        }
    }
    for (nth, id, message, worse) in &failed {
        exit = exit.or(*worse);
        let (side, place) = (name(*nth), sides::full(env, typed[*nth]));
        let told = format!("{side}, {place}, is left out: {message} [{id}]");
        // Where nobody listens any more there is nobody to tell.
        let _ = writeln!(env.err, "reknit: {told}");
        env.failed.get_or_insert((id, told));
    }
    if compared.is_empty() {
        let message = format!("{} could be compared with none of the others", name(centre));
        return Err(CliError { exit, ..CliError::new("check.nobody", message) });
    }
    same_terms(centre, &compared)?;
    let differs: Vec<BTreeMap<Place, [Has; 2]>> =
        compared.iter_mut().map(|one| std::mem::take(&mut one.differs)).collect();
    let mut agreement = Agreement::of(&differs);
    drop(differs);
    leave_out_moved(env, &args.sides, (&alone, typed[compared[0].nth]), &mut agreement, &compared)?;
    let places = typed.iter().map(|side| sides::full(env, side)).collect();
    let left_out = failed.iter().map(|(nth, id, message, _)| (*nth, *id, message.clone())).collect();
    Told { places, centre, compared, agreement, left_out }.print(env, exit)
}

fn refuse(env: &Env, args: &Check, typed: &[&String]) -> Result<(), CliError> {
    if typed.len() > SIDES_MAX {
        let message = format!("{} sides were typed; at most {SIDES_MAX} are compared at once", typed.len());
        return Err(CliError::new("check.sides", message));
    }
    if !args.sides.map.is_empty() || !args.sides.ignore_tables.is_empty() {
        let message = "of whole databases two are compared at once; of three or more, name a table of each";
        return Err(CliError::new("usage.databases", message));
    }
    let tables = typed.iter().filter(|side| tables::is_table(side)).count();
    let peers = typed.iter().filter(|side| side.starts_with("quic://")).count();
    if tables > 1 && peers > 0 {
        let message = "tables of this machine are compared with each other, or one of them with tables of peers; which of both is \
                       meant is to be typed alone";
        return Err(CliError::refused("database.pair", message));
    }
    let full: Vec<String> = typed.iter().map(|side| sides::full(env, side)).collect();
    for (nth, place) in full.iter().enumerate() {
        if let Some(same) = full[..nth].iter().position(|other| other == place) {
            let message = format!("{} and {} are one place, {place}: it would count twice", name(same), name(nth));
            return Err(CliError::refused("session.one-store", message));
        }
    }
    Ok(())
}

/// Compares the centre, `a` of the pair, with one other side.
fn one(env: &mut Env, pair: &Sides, nth: usize) -> Result<Compared, CliError> {
    let (mut differs, mut many) = (BTreeMap::new(), false);
    let mut keep = |difference: &Difference, swapped: bool| {
        // What may have been in flight, or is held to be none, is no difference.
        if difference.kind == Kind::Tolerated || !difference.stable {
            return;
        }
        let place =
            (difference.collection, difference.position, drift::fingerprint(difference.collection, &difference.key));
        let [mine, theirs] = difference.entries;
        many |= differs.len() >= KEYS_MAX;
        if !many {
            differs.insert(place, if swapped { [theirs, mine] } else { [mine, theirs] });
        }
    };
    let mut ran = sides::run(env, pair, |_| Intent::Diff, sides::Asked::default(), &mut keep)?;
    if many {
        let message = format!("over {} keys differ; compare these two by themselves", show_count(KEYS_MAX as u64));
        return Err(CliError { exit: Exit::Undetermined, ..CliError::new("check.many", message) });
    }
    // An index, or a store, is open once at a time.
    ran.tables = None;
    ran.stores = (None, None);
    Ok(Compared { nth, differs, ran })
}

/// Digests of rows that were compared on other columns say nothing about each other.
fn same_terms(centre: usize, compared: &[Compared]) -> Result<(), CliError> {
    let first = compared[0].ran.compared_on();
    match compared.iter().find(|one| one.ran.compared_on() != first) {
        None => Ok(()),
        Some(other) => {
            let [centre, one, other] = [centre, compared[0].nth, other.nth].map(name);
            let message = format!(
                "{centre} and {one} are compared on other columns, or as other kinds, than {centre} and {other}; leave out with --ignore \
                 what is not alike in all"
            );
            Err(CliError::refused("database.shape", message))
        }
    }
}

/// Leaves out keys that were written at the centre between its sessions: it was not one thing that the others were compared with.
fn leave_out_moved(
    env: &Env,
    sides: &Sides,
    (centre, other): (&str, &str),
    agreement: &mut Agreement,
    compared: &[Compared],
) -> Result<(), CliError> {
    let outcomes: Vec<_> = compared.iter().map(|one| (one.roots().0, one.cut())).collect();
    if outcomes.iter().all(|(root, _)| *root == outcomes[0].0) {
        return Ok(());
    }
    let side: Box<dyn Side> = match tables::is_table(centre) {
        true if other.starts_with("quic://") => Box::new(shared_tables::opened(env, centre)?),
        true => Box::new(tables::alone(env, centre, Some(other), &sides.terms.terms()?)?),
        false if !centre.contains("://") => Box::new(env.store(Path::new(centre))?),
        false => {
            // Of a centre elsewhere nobody tells which keys have changed.
            agreement.leave_out(|_| true);
            return Ok(());
        }
    };
    let since = outcomes.iter().map(|(_, cut)| *cut).min().unwrap_or_default();
    let mut still = std::collections::BTreeSet::new();
    for (collection, position, print) in agreement.keys().keys() {
        for item in side.items(*collection, &[Range::of(*position, reknit_core::range::DEPTH_MAX)])? {
            if item.commit <= since && drift::fingerprint(*collection, &item.key) == *print {
                still.insert((*collection, *position, *print));
            }
        }
    }
    agreement.leave_out(|place| !still.contains(place));
    Ok(())
}

impl Compared {
    /// The roots of the centre and of this side.
    fn roots(&self) -> (Summary, Summary) {
        let outcome = &self.ran.report.outcome;
        let (mine, theirs) = (outcome.root_mine, outcome.root_theirs);
        if self.ran.swapped { (theirs, mine) } else { (mine, theirs) }
    }

    /// The commit at which the centre was compared, if it opened the session, as a side here does.
    fn cut(&self) -> u64 {
        self.ran.report.outcome.cut_mine.commit
    }
}

/// What came of it.
struct Told {
    places: Vec<String>,
    centre: usize,
    compared: Vec<Compared>,
    agreement: Agreement,
    left_out: Vec<(usize, &'static str, String)>,
}

impl Told {
    /// The side of a place in the agreement: the centre is its first.
    fn nth(&self, side: usize) -> usize {
        side.checked_sub(1).map_or(self.centre, |other| self.compared[other].nth)
    }

    fn names(&self, sides: &[usize]) -> Vec<String> {
        let mut all: Vec<usize> = sides.iter().map(|side| self.nth(*side)).collect();
        all.sort_unstable();
        all.into_iter().map(name).collect()
    }

    /// In words.
    fn who(&self, groups: &Groups) -> String {
        let mut sets: Vec<String> = groups.sets().iter().map(|set| self.names(set).join(", ")).collect();
        sets.sort();
        match (groups.majority(), self.names(&groups.odd())) {
            (Some(most), odd) if odd.len() == 1 => {
                format!("{} is the odd one out; {} agree", odd[0], self.names(&most).join(", "))
            }
            (Some(most), odd) => format!("{} are odd; {} agree", odd.join(", "), self.names(&most).join(", ")),
            (None, _) => format!("no majority: {}", sets.join(" | ")),
        }
    }

    fn print(self, env: &mut Env, failed: Exit) -> Result<Exit, CliError> {
        let agreement = &self.agreement;
        let spans = agreement.spans(SPANS_MAX);
        let keys = agreement.keys().len() as u64;
        let no_majority: u64 =
            agreement.counts().iter().filter(|(groups, _)| groups.majority().is_none()).map(|(_, n)| n).sum();
        let in_sync = self.compared.iter().all(|one| one.ran.report.outcome.verdict == Verdict::InSync);
        let verdict = match (keys, agreement.moved()) {
            (1.., _) => Verdict::Differs,
            (0, 1..) => Verdict::Undetermined,
            _ if in_sync => Verdict::InSync,
            _ => Verdict::Converged,
        };
        let exit = Exit::of_verdict(verdict).or(failed);
        let (trips, bytes) = self.cost();
        env.measured = Some(self.measured(verdict, keys - no_majority, no_majority, bytes));
        let collections = &self.compared[0].ran.collections;
        let mut printer = Printer::new(env);
        for span in &spans {
            printer.item(|| self.line(span, collections), || self.object(span, collections))?;
        }
        let all = self.compared.len() + 1;
        let head = match verdict {
            Verdict::InSync => {
                let root = self.compared[0].roots().0;
                let digest = &root.digest.to_string()[..16];
                format!("in sync: {} records on all {all} sides, root {digest}…", show_count(root.count))
            }
            Verdict::Converged => "converged at the cuts".to_string(),
            Verdict::Undetermined => "undetermined: what differs was written meanwhile".to_string(),
            _ => format!("differs: {} key{} not the same on all {all} sides", show_count(keys), are(keys)),
        };
        let mut counts: Vec<(u64, String)> =
            agreement.counts().into_iter().map(|(groups, n)| (n, self.who(&groups))).collect();
        counts.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        let counts: String =
            counts.iter().map(|(n, who)| format!("\n  {} key{}: {who}", show_count(*n), plural(*n))).collect();
        let sides: String = self.sides().iter().map(|side| format!("{}\n", side.line())).collect();
        let moved = match agreement.moved() {
            0 => String::new(),
            n => format!("; {} written meanwhile", show_count(n)),
        };
        let cost = format!("{trips} round trip{}, {} of messages", plural(trips), show_bytes(bytes));
        let text = format!("{sides}{head}{moved} ({cost}){counts}");
        let sides: Vec<Value> = self.sides().iter().map(SideTold::object).collect();
        let summary = fields(json!({
            "verdict": verdict.name(),
            "scope": self.compared[0].ran.scope,
            "compared": self.compared[0].ran.compared_object(),
            "sides": sides,
            "agreement": {
                "centre": name(self.centre),
                "keys": keys,
                "no_majority": no_majority,
                "moved": agreement.moved(),
                "ranges": spans.len(),
            },
            "round_trips": trips,
            "wrote": 0,
        }));
        printer.end(exit, &text, summary)
    }

    /// Round trips and bytes of messages of all sessions.
    fn cost(&self) -> (u64, u64) {
        let of = |one: &Compared| (one.ran.report.outcome.counts.flights.div_ceil(2), one.ran.report.traffic.control());
        self.compared.iter().map(of).fold((0, 0), |(trips, bytes), (t, b)| (trips + t, bytes + b))
    }

    fn measured(&self, verdict: Verdict, majority: u64, no_majority: u64, bytes: u64) -> Measured {
        let (centre, other) = self.compared[0].roots();
        Measured {
            verdict,
            differences: vec![("majority", majority), ("no_majority", no_majority)],
            estimate: None,
            estimated: false,
            records: [centre.count, other.count],
            written: [0; 2],
            refused: 0,
            later: 0,
            bytes: [("messages", bytes), ("records", 0)],
            seen: None,
            unproven: Default::default(),
            left_out: 0,
            verified: if matches!(verdict, Verdict::InSync | Verdict::Converged) { u16::MAX } else { 0 },
        }
    }

    fn line(&self, span: &Span, collections: &[String]) -> String {
        let digits = |at: u64| format!("{at:016x}")[..SHOWN_DIGITS].to_string();
        let collection = match collections.iter().filter(|name| *name != MEMBERS).count() {
            0 | 1 => String::new(),
            _ => collections.get(usize::from(span.collection.0)).map_or(String::new(), |name| format!("{name}\t")),
        };
        let mixed = if span.mixed { " (of all of it together)" } else { "" };
        format!(
            "{collection}{}…{}…\t{}\t{} key{}\t{}{mixed}",
            digits(span.first.0),
            digits(span.last.0),
            percent(span.share()),
            show_count(span.keys),
            plural(span.keys),
            self.who(&span.groups)
        )
    }

    fn object(&self, span: &Span, collections: &[String]) -> Value {
        let mut groups: Vec<Vec<String>> = span.groups.sets().iter().map(|set| self.names(set)).collect();
        groups.sort();
        json!({
            "t": "agreement",
            "collection": collections.get(usize::from(span.collection.0)),
            "first": format!("{:016x}", span.first.0),
            "last": format!("{:016x}", span.last.0),
            "share": span.share(),
            "keys": span.keys,
            "groups": groups,
            "majority": span.groups.majority().is_some(),
            "odd": self.names(&span.groups.odd()),
            "mixed": span.mixed,
        })
    }

    /// Every side that was typed, in that order.
    fn sides(&self) -> Vec<SideTold<'_>> {
        let odd = self.agreement.odd();
        let told = |nth: usize| {
            let side = (0..=self.compared.len()).find(|side| self.nth(*side) == nth);
            let root = side.map(|side| {
                side.checked_sub(1).map_or_else(|| self.compared[0].roots().0, |other| self.compared[other].roots().1)
            });
            let failed = self.left_out.iter().find(|(left, ..)| *left == nth);
            SideTold { name: name(nth), place: &self.places[nth], root, odd: side.map(|side| odd[side]), failed }
        };
        (0..self.places.len()).map(told).collect()
    }
}

/// One side, as it is told of.
struct SideTold<'a> {
    name: String,
    place: &'a str,
    root: Option<Summary>,
    odd: Option<u64>,
    failed: Option<&'a (usize, &'static str, String)>,
}

impl SideTold<'_> {
    fn line(&self) -> String {
        let SideTold { name, place, .. } = self;
        match (self.root, self.odd) {
            (Some(root), Some(odd)) => {
                let (records, digest) = (show_count(root.count), &root.digest.to_string()[..16]);
                format!(
                    "{name}\t{records} records, odd in {} key{}, root {digest}…\t{place}",
                    show_count(odd),
                    plural(odd)
                )
            }
            _ => format!("{name}\tleft out\t{place}"),
        }
    }

    fn object(&self) -> Value {
        json!({
            "side": self.name,
            "place": self.place,
            "root": self.root.map(|root| json!({ "count": root.count, "digest": root.digest.to_string() })),
            "odd": self.odd,
            "error": self.failed.map(|(_, id, _)| id),
            "message": self.failed.map(|(_, _, message)| message),
        })
    }
}

/// The letter of a side, in the order in which they were typed.
fn name(nth: usize) -> String {
    char::from(b'a' + u8::try_from(nth).unwrap_or(25).min(25)).to_string()
}

fn are(n: u64) -> &'static str {
    if n == 1 { " is" } else { "s are" }
}

fn percent(share: f64) -> String {
    if share < 1e-4 { "< 0.01 %".into() } else { format!("{:.2} %", share * 100.0) }
}
