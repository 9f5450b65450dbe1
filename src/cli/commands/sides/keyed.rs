//! Two tables of which some keys alone are looked at: those of a plan. A table whose rows are found by their keys is read for
//! nothing else; any other is made to tell what it holds, once.
//!
//! Which keys, and what becomes of them, is for whoever asks.

use super::{scans, tables};
use crate::cli::CliError;
use crate::cli::args::Sides;
use crate::cli::env::Env;
use crate::store::linked::Linked;

pub(crate) struct Keyed {
    pair: [Linked; 2],
    /// Of which of them the keys alone are looked at.
    by_key: [bool; 2],
}

impl Keyed {
    /// Takes two tables with their indexes as they were left.
    ///
    /// # Errors
    /// As for reading a table whole, where one has to be.
    pub(crate) fn of(env: &mut Env, sides: &Sides, pair: [Linked; 2]) -> Result<Keyed, CliError> {
        let typed = (sides.a.as_str(), sides.b.as_str());
        sides.pace.pace()?;
        scans::brakes(&sides.pace, &[typed.0, typed.1])?;
        let by_key =
            |linked: &Linked| Ok::<_, CliError>(!tables::is_file(linked.table().place()) && linked.finds_by_key()?);
        let by_key = [by_key(&pair[0])?, by_key(&pair[1])?];
        tables::bring_up(env, typed, &pair, (!sides.no_scan, &sides.pace), by_key.map(|by_key| !by_key))?;
        // However many sessions it takes, it is one thing that is done.
        Ok(Keyed { pair: pair.map(Linked::in_one_run), by_key })
    }

    /// Looks at these keys; the sides of a session about them.
    ///
    /// # Errors
    /// What a database or an index met.
    pub(crate) fn look(&self, keys: &[Vec<u8>]) -> Result<Opened, CliError> {
        for (linked, _) in self.pair.iter().zip(self.by_key).filter(|(_, by_key)| *by_key) {
            linked.look(keys)?;
        }
        let a = self.pair[0].anew();
        let b = self.pair[1].anew().paired(&a);
        Ok(Opened { pair: Box::new([a, b]), whole: self.by_key == [false, false] })
    }
}

/// Two tables that were opened before a session.
pub(crate) struct Opened {
    pub(crate) pair: Box<[Linked; 2]>,
    /// Whether their indexes tell what all of them holds.
    pub(crate) whole: bool,
}
