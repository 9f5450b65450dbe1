//! Plans of two tables: what they have in common is known once they are open, and which side a row goes to for each row alone.

use std::collections::BTreeMap;

use reknit_core::difference::Difference;
use reknit_core::session::Intent;

use super::{Made, Values, Writing, begun, empty, ended, header, value};
use crate::cli::args::Repair;
use crate::cli::commands::repair::tables as repair;
use crate::cli::commands::sides;
use crate::cli::env::Env;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::store::linked::Linked;

/// Differences that one plan may hold: they are looked at twice.
const ROWS_MAX: usize = 1_000_000;
/// Rows that are looked up at once.
const ROWS: usize = 1_000;

pub(super) fn run(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    let (mut plan, file) = begun(args, env)?;
    let made_by = env.home()?.identity()?.peer().to_string();
    let mut found: Vec<Difference> = Vec::new();
    let mut too_many = false;
    let mut keep = |difference: &Difference, _: bool| match found.len() < ROWS_MAX {
        true => found.push(difference.clone()),
        false => too_many = true,
    };
    let (tables, since) = (repair::writing(args)?, repair::since(args));
    let asked = sides::Asked { tables, since, newest: args.newest.clone(), ..sides::Asked::default() };
    let ran = sides::run(env, &args.sides, |_| Intent::Diff, asked, &mut keep)?;
    let Some(pair) = &ran.tables else { return Err(CliError::new("defect", "the sides are no tables")) };
    if too_many {
        let message = format!("over {} differences are more than a plan holds", show_count(ROWS_MAX as u64));
        return Err(CliError::refused("plan.rows", format!("{message}; plan in parts by --where")));
    }
    let definition = pair[0].index().definition().clone();
    let mut header = header(args, env, &definition, &made_by)?;
    // Whatever they are called in a configuration, or wherever from.
    (header.a, header.b) = (pair[0].table().place().into(), pair[1].table().place().into());
    header.mirror = super::super::repair::exactly(args);
    plan.line(&value(&header)?)?;
    let mut writing = Writing { plan, tally: empty(), failed: None };
    for some in found.chunks(ROWS) {
        let values = |linked: &Linked| match args.values {
            true => linked.rows_of(&some.iter().map(|difference| difference.key.clone()).collect::<Vec<_>>()),
            false => Ok(BTreeMap::new()),
        };
        let values = Values::Rows(values(&pair[0])?, values(&pair[1])?);
        let made = Made { args, definition: &definition, layouts: &ran.layouts, values };
        for difference in some {
            if repair::is_spared(args, difference) && difference.stable {
                writing.tally.left += 1;
            } else {
                made.put(&mut writing, difference, false)?;
            }
        }
    }
    ended(args, env, &ran, (header, writing), file)
}
