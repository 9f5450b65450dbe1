//! A table whose rows refer to rows of others that the same command repairs: what comes and what changes is written before rows go
//! in any of them.
//!
//! In which order tables are gone through is said in `databases`; that the rest goes later is for it to see to.

use reknit_core::Profile;
use reknit_core::difference::{Difference, Resolution, Side};
use reknit_core::record::Keeps;
use reknit_core::session::{Intent, Verdict};
use serde_json::json;

use super::{diff, exactly, tables};
use crate::cli::args::{Preferred, Repair};
use crate::cli::commands::sides::brakes::Foreseen;
use crate::cli::commands::sides::{self, Opened, Ran};
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::{CliError, Exit};

/// Writes all but what is to go, if the whole repair loses no more than it may; notes how much is to go.
pub(super) fn run(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    let limits = sides::brakes::typed(&args.brakes)?;
    let direction = sides::direction(args.to(), false);
    let how = Resolution {
        mine: direction.writes(Side::Mine),
        theirs: direction.writes(Side::Theirs),
        mirror: exactly(args).then(|| sides::seen(args.to(), false)),
        prefer: args.prefer.map(|side| sides::seen(Preferred::side(side), false)),
        profile: Profile::Content,
        keeps: Keeps::Newest,
    };
    let mut foreseen = Foreseen::default();
    let mut found = |difference: &Difference, _: bool| {
        if difference.stable {
            for (nth, side) in [Side::Mine, Side::Theirs].into_iter().enumerate() {
                foreseen.add(nth, (difference.collection, &difference.key), difference.loss(side, &how));
            }
        }
    };
    let (tables, since) = (tables::writing(args)?, tables::since(args));
    let asked = sides::Asked { tables, since, newest: args.newest.clone(), ..sides::Asked::default() };
    let mut ran = sides::run(env, &args.sides, |_| Intent::Diff, asked, &mut found)?;
    if !matches!(ran.report.outcome.verdict, Verdict::InSync | Verdict::Converged | Verdict::Differs) {
        return unknown(env, &ran);
    }
    if let Some(much) = foreseen.too_much(&limits, exactly(args), &ran) {
        return much.tell(env, 0, ran.summary());
    }
    // It was read a moment ago.
    let pair = ran.tables.take().map(|pair| {
        let a = pair[0].anew();
        let b = pair[1].anew().paired(&a);
        Opened { pair: Box::new([a, b]), whole: true }
    });
    let args = Repair { delete: false, mirror: false, no_probe: true, ..args.clone() };
    let exit = super::apply(&args, env, pair)?;
    if let Some(measured) = &mut env.measured {
        measured.later = foreseen.deleted();
    }
    Ok(exit)
}

/// It is not known what differs: nothing is written.
fn unknown(env: &mut Env, ran: &Ran) -> Result<Exit, CliError> {
    let text = format!("{}{} ({}); wrote 0 records", ran.verdict(), diff::described(ran), ran.cost());
    let mut summary = ran.summary();
    summary.insert("applied".into(), json!(false));
    Printer::new(env).end(ran.exit(), &text, summary)
}
