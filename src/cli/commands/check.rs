//! `reknit check A B`: the roots, a verdict, and an estimate if they differ; of more sides, who agrees with whom.

mod several;

use reknit_core::session::{Intent, Verdict};

use super::{diff, sides};
use crate::cli::args::Check;
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Check, env: &mut Env) -> Result<Exit, CliError> {
    if !args.more.is_empty() {
        return several::run(args, env);
    }
    // What is tolerated is judged of keys, which are listed for that.
    let intent = if args.sides.terms.tolerance.is_empty() { Intent::Check } else { Intent::Diff };
    let ran = sides::run(env, &args.sides, |_| intent, sides::Asked::default(), &mut |_, _| {})?;
    let outcome = &ran.report.outcome;
    let estimate = match outcome.estimate {
        _ if intent == Intent::Diff => diff::described(&ran),
        Some(e) if outcome.verdict == Verdict::Differs && e.is_exact() => {
            format!(": {} keys", show_count(e.likely))
        }
        Some(e) if outcome.verdict == Verdict::Differs => {
            let (likely, low, high) = (show_count(e.likely), show_count(e.low), show_count(e.high));
            format!(": about {likely} keys (between {low} and {high})")
        }
        _ => String::new(),
    };
    let text = format!("{}{estimate} ({})", ran.verdict(), ran.cost());
    Printer::new(env).end(ran.exit(), &text, ran.summary())
}
