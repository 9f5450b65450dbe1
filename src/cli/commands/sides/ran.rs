//! What a session between two sides did: how it ended, what it counted and cost, for people and machines.
//!
//! Running one is its parent's.

use reknit_core::Millis;
use reknit_core::agenda::{OpenKeys, RANGES_KEPT_MAX, Unproven};
use reknit_core::drift::History;
use reknit_core::journal::RunId;
use reknit_core::session::{Counts, Moves, Verdict};
use serde_json::{Map, Value, json};

use super::{compared, pair_of_counts, pair_of_runs, plural, shown};
use crate::cli::layouts::Layouts;
use crate::cli::metrics::Measured;
use crate::cli::units::{show_bytes, show_count};
use crate::cli::{CliError, Exit};
use crate::clock::millis;
use crate::node::SessionReport;
use crate::store::Store;
use crate::store::linked::{Linked, Shape, Terms};

/// What a session between two sides did, with `a` and `b` as they were typed.
pub(crate) struct Ran {
    pub(crate) report: SessionReport,
    /// Whether the opener is `b`.
    pub(crate) swapped: bool,
    /// How keys are shown.
    pub(crate) layouts: Layouts,
    /// The collections' names.
    pub(crate) collections: Vec<String>,
    /// The names of those that the session is about.
    pub(crate) scope: Vec<String>,
    /// The signal that ended it, if one did.
    pub(crate) interrupted: Option<Exit>,
    /// The sides that are stores here, in the order opener, responder.
    pub(crate) stores: (Option<Store>, Option<Store>),
    /// What is to be known of tables that are written.
    pub(crate) notes: Vec<String>,
    /// The sides, if they are tables that were only looked at.
    pub(crate) tables: Option<Box<[Linked; 2]>>,
    /// What two tables were compared on, as each of them sees it.
    pub(super) compared: Option<(Terms, [Shape; 2])>,
    /// Whether it was to write.
    pub(super) writes: bool,
    /// When two tables were equal, if the session went by what has changed since.
    pub(crate) since: Option<Millis>,
    /// What differed before and now, where all of that was looked at.
    pub(crate) history: Result<Option<History>, CliError>,
    /// How the link was lost before the end, if it was.
    pub(crate) lost: Option<CliError>,
}

impl Ran {
    /// How the command ends: an interrupt first, then the verdict; what differs within tolerance alone is no difference.
    pub(crate) fn exit(&self) -> Exit {
        let verdict = Exit::of_verdict(self.report.outcome.verdict);
        self.interrupted.unwrap_or(if self.is_within_tolerance() { Exit::Done } else { verdict })
    }

    /// Whether all that differs, or of a repair all that is left, is tolerated.
    pub(crate) fn is_within_tolerance(&self) -> bool {
        let outcome = &self.report.outcome;
        let counts = &outcome.counts;
        let moved = counts.to_mine.moved + counts.to_theirs.moved + counts.in_flight;
        let left = if self.writes { counts.left } else { counts.differences() };
        outcome.verdict == Verdict::Differs && counts.tolerated > 0 && left == counts.tolerated && moved == 0
    }

    /// What was counted, with `a` first.
    pub(crate) fn counted(&self) -> (u64, u64, u64, u64) {
        let Counts { only_mine, only_theirs, mine_newer, theirs_newer, .. } = self.report.outcome.counts;
        match self.swapped {
            false => (only_mine, only_theirs, mine_newer, theirs_newer),
            true => (only_theirs, only_mine, theirs_newer, mine_newer),
        }
    }

    /// What became of records sent to `a`, and to `b`.
    pub(crate) fn moves(&self) -> (Moves, Moves) {
        let Counts { to_mine, to_theirs, .. } = self.report.outcome.counts;
        if self.swapped { (to_theirs, to_mine) } else { (to_mine, to_theirs) }
    }

    /// The runs that changed `a` and `b`, of stores here.
    pub(crate) fn runs(&self) -> (Option<RunId>, Option<RunId>) {
        let (mine, theirs) = self.report.runs;
        if self.swapped { (theirs, mine) } else { (mine, theirs) }
    }

    /// The runs by which `a` and `b` caught up before it, of stores here.
    pub(crate) fn caught_up(&self) -> (Option<RunId>, Option<RunId>) {
        let (mine, theirs) = self.report.caught_up;
        if self.swapped { (theirs, mine) } else { (mine, theirs) }
    }

    /// Records of `a` and `b` that were set apart then.
    pub(crate) fn strays(&self) -> (u64, u64) {
        let (mine, theirs) = self.report.strays;
        if self.swapped { (theirs, mine) } else { (mine, theirs) }
    }

    /// Where nothing was proven, by the names of collections.
    pub(crate) fn unproven(&self) -> Unproven {
        let unproven = &self.report.outcome.unproven;
        let name = |id: usize| self.collections.get(id).cloned().unwrap_or_default();
        let ranges = unproven.ranges.iter().map(|(collection, range)| (name(usize::from(collection.0)), *range));
        Unproven { ranges: ranges.collect(), more: unproven.more }
    }

    /// What is measured of it; a check lists no differences.
    pub(super) fn measured(&self, check: bool, seen: Option<OpenKeys>) -> Measured {
        let (outcome, traffic) = (&self.report.outcome, self.report.traffic);
        let (only_a, only_b, a_newer, b_newer) = self.counted();
        let (mine, theirs) = (outcome.root_mine.count, outcome.root_theirs.count);
        let (to_a, to_b) = self.moves();
        let differences = [
            ("only_a", only_a),
            ("only_b", only_b),
            ("a_newer", a_newer),
            ("b_newer", b_newer),
            ("versions", outcome.counts.versions),
            ("content", outcome.counts.content),
            ("tolerated", outcome.counts.tolerated),
        ];
        Measured {
            verdict: outcome.verdict,
            differences: if check { Vec::new() } else { differences.into() },
            estimate: outcome.estimate.filter(|_| check).map(|estimate| estimate.likely),
            estimated: check && outcome.estimate.is_some_and(|estimate| !estimate.is_exact()),
            records: if self.swapped { [theirs, mine] } else { [mine, theirs] },
            written: [to_a.applied, to_b.applied],
            refused: to_a.refused + to_b.refused,
            later: 0,
            bytes: [("messages", traffic.control()), ("records", traffic.records_sent + traffic.records_received)],
            seen,
            unproven: self.unproven(),
            left_out: outcome.left_out,
            verified: match outcome.verdict {
                Verdict::InSync | Verdict::Converged => u16::MAX,
                // Of a check it is not known where.
                Verdict::Differs if !check => !outcome.unproven.sixteenths,
                Verdict::Partial => !outcome.unproven.sixteenths,
                _ => 0,
            },
        }
    }

    /// What two tables were compared on, as machines read it.
    pub(crate) fn compared_object(&self) -> Option<Value> {
        self.compared.as_ref().map(|(terms, shapes)| compared::object(terms, shapes))
    }

    /// What two tables have in common, whatever else was asked for of the two: the bytes of their shape.
    pub(crate) fn compared_on(&self) -> Option<Vec<u8>> {
        self.compared.as_ref().map(|(_, [shape, _])| shape.to_bytes())
    }

    /// One line on what the session cost.
    pub(crate) fn cost(&self) -> String {
        let traffic = self.report.traffic;
        let trips = self.report.outcome.counts.flights.div_ceil(2);
        let records = match traffic.records_sent + traffic.records_received {
            0 => String::new(),
            bytes => format!(" and {} of records", show_bytes(bytes)),
        };
        format!("{trips} round trip{}, {} of messages{records}", plural(trips), show_bytes(traffic.control()))
    }

    /// The summary object that every session ends with.
    pub(crate) fn summary(&self) -> Map<String, Value> {
        let outcome = &self.report.outcome;
        let counts = &outcome.counts;
        let (only_a, only_b, a_newer, b_newer) = self.counted();
        let (to_a, to_b) = self.moves();
        let root =
            |summary: reknit_core::Summary| json!({ "count": summary.count, "digest": summary.digest.to_string() });
        let cuts = (json!(outcome.cut_mine.commit), json!(outcome.cut_theirs));
        let roots = (root(outcome.root_mine), root(outcome.root_theirs));
        let order = |(mine, theirs)| if self.swapped { (theirs, mine) } else { (mine, theirs) };
        let ((cut_a, cut_b), (root_a, root_b)) = (order(cuts), order(roots));
        let moved = |m: Moves| json!({ "offered": m.offered, "applied": m.applied, "kept": m.kept, "moved": m.moved, "refused": m.refused });
        let traffic = self.report.traffic;
        let fields = json!({
            "verdict": outcome.verdict.name(),
            "reason": outcome.reason,
            "within_tolerance": self.is_within_tolerance(),
            "scope": self.scope,
            "equal_ms": self.since,
            "compared": self.compared_object(),
            "coverage": f64::from(outcome.coverage_millionths) / 1e6,
            "unproven": shown::unproven_object(&self.unproven()),
            "cuts": { "a": cut_a, "b": cut_b },
            "roots": { "a": root_a, "b": root_b },
            "counts": {
                "only_a": only_a, "only_b": only_b, "a_newer": a_newer, "b_newer": b_newer,
                "concurrent": counts.concurrent, "versions": counts.versions, "content": counts.content,
                "tolerated": counts.tolerated, "in_flight": counts.in_flight, "left": counts.left,
            },
            "estimate": outcome.estimate.map(|e| json!({ "likely": e.likely, "low": e.low, "high": e.high })),
            "to_a": moved(to_a),
            "to_b": moved(to_b),
            "wrote": to_a.applied + to_b.applied,
            "bytes": {
                "control_sent": traffic.control_sent, "control_received": traffic.control_received,
                "records_sent": traffic.records_sent, "records_received": traffic.records_received,
            },
            "round_trips": counts.flights.div_ceil(2),
            "messages": counts.messages,
            "rounds": counts.rounds,
            "elapsed_ms": millis(self.report.elapsed),
            "run": self.runs().0.or(self.runs().1).map(|run| run.to_string()),
            "runs": pair_of_runs(self.runs()),
            "caught_up": pair_of_runs(self.caught_up()),
            "strays": pair_of_counts(self.strays()),
        });
        let mut map = match fields {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        if let Some(error) = &self.lost {
            map.insert("error".into(), json!(error.id));
            map.insert("message".into(), json!(error.message));
        }
        map
    }

    /// The verdict in words, for people.
    pub(crate) fn verdict(&self) -> String {
        let outcome = &self.report.outcome;
        let root = &outcome.root_mine.digest.to_string()[..16];
        let reason = if outcome.reason.is_empty() { String::new() } else { format!(": {}", outcome.reason) };
        let asked = self.compared.as_ref().map(|(terms, _)| terms.to_string()).unwrap_or_default();
        let asked = if asked.is_empty() { asked } else { format!(" [{asked}]") };
        let verdict = match outcome.verdict {
            Verdict::InSync => {
                format!("in sync: {} records on both sides, root {root}…", show_count(outcome.root_mine.count))
            }
            Verdict::Differs if self.is_within_tolerance() => "in sync within tolerance".into(),
            Verdict::Converged => format!("converged at the cut{reason}"),
            Verdict::Differs => format!("differs{reason}"),
            Verdict::Partial => {
                let percent = f64::from(outcome.coverage_millionths) / 1e4;
                let left = shown::unproven(&self.unproven().at_most(RANGES_KEPT_MAX));
                let left = if left.is_empty() { left } else { format!("; unproven: {left}") };
                format!("partial: {percent:.1} % of the dataset was compared{reason}{left}")
            }
            Verdict::Refused => format!("refused{reason}; wrote 0 records"),
            _ => format!("undetermined{reason}"),
        };
        verdict + &asked
    }
}
