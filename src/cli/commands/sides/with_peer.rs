//! A table here and one that a peer serves, as the sides of a session: both are of one dataset that nodes share.

use super::{scans, tables};
use crate::cli::CliError;
use crate::cli::args::{Sides, TermFlags};
use crate::cli::env::Env;
use crate::cli::shared_tables::SharedTable;
use crate::store::linked::{Linked, Shape, Terms};
use crate::transport::Address;

/// A table here that is compared with a peer's.
pub(super) struct WithPeer {
    pub(super) linked: Linked,
    pub(super) address: Address,
    swapped: bool,
}

impl WithPeer {
    /// Opens the table, and makes its index tell what it holds; nothing if the sides are no such pair.
    ///
    /// # Errors
    /// What was typed that is not for such a pair, `database.no-dataset`, `session.dataset`, or what reading the table met.
    pub(super) fn of(env: &mut Env, sides: &Sides) -> Result<Option<WithPeer>, CliError> {
        let (typed, address, swapped) = match (sides.a.as_str(), sides.b.as_str()) {
            (a, b) if tables::is_table(a) && is_peer(b) => (a, b, false),
            (a, b) if is_peer(a) && tables::is_table(b) => (b, a, true),
            _ => return Ok(None),
        };
        let address: Address = address.parse()?;
        if sides.terms != TermFlags::default() {
            let message = "what is compared of a table and a peer's is part of their dataset, so that --key, --columns, --ignore, \
                           --rename, --where, --zone, roundings and tolerances cannot be asked for here; nothing was compared";
            return Err(CliError::new("usage.terms", message));
        }
        // What is typed wrongly is told before anything is read.
        sides.pace.pace()?;
        scans::brakes(&sides.pace, &[typed])?;
        let table = tables::table(env, typed)?;
        let shared = SharedTable::required(env, &*table)?;
        let definition = shared.dataset.definition();
        if address.dataset != definition.name && address.dataset != definition.id.to_string() {
            let (asked, own) = (&address.dataset, &definition.name);
            let message = format!("the address names the dataset {asked}, the table is of {own}");
            return Err(CliError::refused("session.dataset", message));
        }
        let linked = shared.linked(env, typed, table)?;
        if sides.no_scan {
            if linked.follow_feed(&mut |_| {})?.is_none() {
                return Err(scans::refused(
                    &scans::Needed::of(&linked, sides.pace.pace()?.rate)?.into_iter().collect::<Vec<_>>(),
                ));
            }
        } else {
            let replica = scans::replicated(env, &sides.pace, &[(typed, &linked)])?;
            scans::follow(env, &linked, &sides.pace, replica.as_ref().map(|(_, from)| from.as_str()))?;
        }
        Ok(Some(WithPeer { linked, address, swapped }))
    }

    /// Whether the table is `b`.
    pub(super) fn swapped(&self) -> bool {
        self.swapped
    }

    /// What is compared, as `a` and `b` see it; of the peer's table nothing is known but what both have in common.
    pub(super) fn compared(&self) -> (Terms, [Shape; 2]) {
        let (own, theirs) = (self.linked.shape().clone(), self.linked.shape().without_own());
        (Terms::default(), if self.swapped { [theirs, own] } else { [own, theirs] })
    }
}

fn is_peer(typed: &str) -> bool {
    typed.starts_with("quic://")
}
