//! What is settled of a session before it begins, by the flags of its command and by what is known of the pair.

use std::sync::Arc;

use reknit_core::agenda::{Named, Trial};
use reknit_core::session::{Intent, Options, Parked};
use reknit_core::{CollectionId, Range};

use super::handed::Handed;
use super::pair::{Known, Pair};
use super::under_way::Terms;
use super::{Asked, limits, newest, seen, tables, tolerance};
use crate::cli::CliError;
use crate::cli::args::Sides;
use crate::cli::config::bandwidth;
use crate::cli::env::Env;
use crate::clock::millis;
use crate::store::linked::{self, Shape, Since};

/// A budget of bytes below which a session asks for one thing at a time.
const SMALL_BUDGET_BYTES: u64 = 4 << 20;

/// A session that may begin.
pub(super) struct Prepared {
    pub(super) terms: Terms,
    pub(super) known: Known,
    /// What is to be known of tables that are written.
    pub(super) notes: Vec<String>,
    /// What has changed since two tables were equal, if it goes by that.
    pub(super) since: Option<Since>,
    /// What tables are compared on, as `a` and `b` see it.
    pub(super) compared: Option<(linked::Terms, [Shape; 2])>,
    /// What one store is to take from the other after a repair.
    pub(super) handed: Handed,
}

impl Prepared {
    /// # Errors
    /// What was typed that is not for such a pair, or what reading stores and tables met. Nothing was compared.
    pub(super) fn of(
        env: &mut Env,
        sides: &Sides,
        pair: &mut Pair,
        (intent, swapped): (Intent, bool),
        asked: &Asked,
    ) -> Result<Prepared, CliError> {
        if let Some(writing) = &asked.tables {
            pair.in_manner(writing.manner);
        }
        let (settle, budget) = limits(sides)?;
        if sides.bandwidth.is_some() && !pair.goes_through_a_link() {
            let message =
                "--bandwidth is about sessions of a store or a table here with a peer; none of that kind was named";
            return Err(CliError::new("usage.bandwidth", message));
        }
        let rate_limits = match pair.dials() {
            true => env.rate_limits(sides.bandwidth.as_deref().map(bandwidth).transpose()?)?,
            // Who compares stores and tables here needs no configuration.
            false => Arc::default(),
        };
        let mut options = Options::new(intent);
        options.settle = millis(settle);
        options.receipt |= sides.receipt;
        options.brakes = asked.brakes;
        options.picked = asked.picked.as_ref().map(|picked| picked(swapped));
        options.mirror = asked.mirror.map(|to| seen(to, swapped));
        options.prefer = asked.prefer.map(|to| seen(to, swapped));
        // What was asked for arrives, however small the budget is: ask for little at once.
        if budget.bytes.is_some_and(|bytes| bytes < SMALL_BUDGET_BYTES) {
            options.requests = 1;
        }
        let (mut notes, mut since) = (Vec::new(), None);
        if let Some(tables) = pair.tables() {
            if let Some(writing) = &asked.tables {
                notes = tables::cautions(tables, writing)?;
            }
            since = tables::since(env, tables, asked.since)?;
        }
        if asked.since == Some(true) && since.is_none() {
            let message = "--delete with --to both takes away what one side has deleted, but it is not known of when these two were \
                           equal, so a row that one side lacks may be new on the other; make them equal first, or name the side \
                           with --to a or --to b";
            return Err(CliError::refused("repair.base", message));
        }
        options.base = since.as_ref().map(|since| Arc::new(since.base.clone()));
        if let Some(tables) = pair.tables() {
            if let Some(column) = &asked.newest {
                options.base = Some(Arc::new(newest::base(env, tables, column, options.settle)?));
            }
            options.tolerated = tolerance::tolerated(env, tables, &sides.terms.terms()?, options.settle)?;
        }
        let compared = pair.compared(sides)?;
        let known = pair.known(&sides.collections)?;
        options.scope.clone_from(&known.scope);
        let handed = match intent {
            Intent::Repair(direction) => Handed::between(&known.stores, direction, &options.scope)?,
            _ => Handed::default(),
        };
        options.parked = parked(&env.trial, known.collections());
        let terms = Terms { options, budget, rate_limits, collections: sides.collections.clone() };
        Ok(Prepared { terms, known, notes, since, compared, handed })
    }
}

/// What a session of these collections leaves out and tries of what is parked; nothing if none of it is theirs.
fn parked(trial: &Trial, names: &[String]) -> Option<Arc<Parked>> {
    let here = |of: &Named| -> Vec<(CollectionId, Range)> {
        let id = |name: &String| Some(CollectionId(u16::try_from(names.iter().position(|one| one == name)?).ok()?));
        of.iter().filter_map(|(name, range)| Some((id(name)?, *range))).collect()
    };
    let (out, tried) = (here(&trial.out), here(&trial.tried));
    (!(out.is_empty() && tried.is_empty())).then(|| Arc::new(Parked::new(out, tried)))
}
