//! The two sides of a session as they were typed: what each of them is, and which of them opens.
//!
//! What is asked of the session is `prepared`'s, how it is held `under_way`'s.

use std::path::Path;

use reknit_core::{CollectionId, Definition};

use super::tables;
use super::with_peer::WithPeer;
use crate::cli::CliError;
use crate::cli::args::{PaceFlags, Sides, TermFlags};
use crate::cli::env::Env;
use crate::cli::patience;
use crate::node::HeldStore;
use crate::store::linked::{Linked, Manner, Shape, Terms};
use crate::store::{Side, Store};
use crate::transport::Address;

/// One side of a session.
pub(super) enum Target {
    Here(Store),
    There(Address),
}

/// Who opens the session, and with whom.
pub(super) enum Pair {
    /// A store here, with the other side.
    Own(Store, Target),
    /// The node of the first address, with that of the second.
    Held(Address, Address),
    /// Two tables of databases.
    Tables(Box<[Linked; 2]>),
    /// A table here, with a peer's.
    Table(Box<WithPeer>),
}

/// What is known here of a pair before its session.
pub(super) struct Known {
    /// Of the opener's store, unless another node holds it.
    pub(super) own: Option<HeldStore>,
    /// The dataset's name.
    pub(super) dataset: String,
    /// The sides that are stores here, in the order opener, responder.
    pub(super) stores: (Option<Store>, Option<Store>),
    /// The collections that were named; none if the session is about all.
    pub(super) scope: Vec<CollectionId>,
}

impl Known {
    /// The names of the opener's collections, as far as they are known.
    pub(super) fn collections(&self) -> &[String] {
        self.own.as_ref().map_or(&[], |own| &own.collections)
    }
}

impl Pair {
    /// Opens the two sides; says whether the second of them opens the session.
    pub(super) fn of(env: &mut Env, sides: &Sides) -> Result<(Pair, bool), CliError> {
        known_schemes(sides)?;
        match [&sides.a, &sides.b].map(|side| tables::is_table(side)) {
            [false, false] if sides.no_scan || sides.pace != PaceFlags::default() => {
                let message = "--no-scan, --max-snapshot, --chunk-time, --readers, --max-rate, --pause-file, --max-active, \
                               --max-replica-lag, --max-load and --scan-from are about reading tables whole; stores are never read so";
                return Err(CliError::new("usage.terms", message));
            }
            [false, false] if sides.terms != TermFlags::default() => {
                let message = "--key, --columns, --ignore, --rename, --where, --float-digits, --time-precision, --collate, \
                               --json, --tolerance and --zone are for two tables; stores compare whole records";
                return Err(CliError::new("usage.terms", message));
            }
            [false, false] => {}
            [true, true] => {
                let pair =
                    tables::open(env, (&sides.a, &sides.b), &sides.terms.terms()?, (!sides.no_scan, &sides.pace))?;
                return Ok((Pair::Tables(Box::new(pair)), false));
            }
            _ => {
                let with = WithPeer::of(env, sides)?.ok_or_else(|| one_table(sides))?;
                let swapped = with.swapped();
                return Ok((Pair::Table(Box::new(with)), swapped));
            }
        }
        let both = || {
            let a = target(env, &sides.a)?;
            if let (Target::Here(_), false) = (&a, sides.b.contains("://"))
                && env.path(Path::new(&sides.a)).canonicalize().ok()
                    == env.path(Path::new(&sides.b)).canonicalize().ok()
            {
                return Err(CliError::refused("session.one-store", "both sides are one store; name two"));
            }
            Ok((a, target(env, &sides.b)?))
        };
        let (opener, other, swapped) = match patience::once_free(env, both)? {
            (Target::Here(a), other) => (a, other, false),
            (Target::There(a), Target::Here(b)) => (b, Target::There(a), true),
            (Target::There(a), Target::There(b)) => return Ok((Pair::Held(a, b), false)),
        };
        if let Target::There(address) = &other {
            let definition = opener.definition();
            if address.dataset != definition.name && address.dataset != definition.id.to_string() {
                let message = format!(
                    "the address names the dataset {}, the store holds {1}; it is to end in /{1}",
                    address.dataset, definition.name
                );
                return Err(CliError::refused("session.dataset", message));
            }
        }
        Ok((Pair::Own(opener, other), swapped))
    }

    /// Has tables written so, if it is of tables.
    pub(super) fn in_manner(&mut self, manner: Manner) {
        if let Pair::Tables(pair) = self {
            pair.iter_mut().for_each(|linked| *linked = linked.clone().in_manner(manner));
        }
    }

    /// Whether a node speaks with one elsewhere.
    pub(super) fn dials(&self) -> bool {
        !matches!(self, Pair::Own(_, Target::Here(_)) | Pair::Tables(_))
    }

    /// Whether a store or a table that is here goes through a link, which may be held to a rate.
    pub(super) fn goes_through_a_link(&self) -> bool {
        matches!(self, Pair::Own(_, Target::There(_)) | Pair::Table(_))
    }

    /// The sides, if both are tables.
    pub(super) fn tables(&self) -> Option<&[Linked; 2]> {
        if let Pair::Tables(pair) = self { Some(pair) } else { None }
    }

    /// What tables are compared on, as `a` and `b` see it.
    pub(super) fn compared(&self, sides: &Sides) -> Result<Option<(Terms, [Shape; 2])>, CliError> {
        Ok(match self {
            Pair::Tables(pair) => Some((sides.terms.terms()?, pair.each_ref().map(|linked| linked.shape().clone()))),
            Pair::Table(with) => Some(with.compared()),
            Pair::Own(..) | Pair::Held(..) => None,
        })
    }

    /// What is known of it; a session is to be about the collections `named`.
    pub(super) fn known(&self, named: &[String]) -> Result<Known, CliError> {
        match self {
            Pair::Own(opener, other) => {
                let definition = opener.definition();
                let responder = if let Target::Here(store) = other { Some(store.clone()) } else { None };
                Ok(Known {
                    own: Some(HeldStore::of(opener)?),
                    dataset: definition.name.clone(),
                    stores: (Some(opener.clone()), responder),
                    scope: scope(definition, named)?,
                })
            }
            // The names are told to the node that holds the session.
            Pair::Held(a, _) => {
                Ok(Known { own: None, dataset: a.dataset.clone(), stores: (None, None), scope: Vec::new() })
            }
            Pair::Tables(pair) => of_table(&pair[0], named),
            Pair::Table(with) => of_table(&with.linked, named),
        }
    }
}

/// Whether both sides are tables.
pub(crate) fn are_tables(sides: &Sides) -> bool {
    [&sides.a, &sides.b].iter().all(|side| tables::is_table(side))
}

/// Refuses sides of which only one is a table.
pub(crate) fn refuse_one_table(sides: &Sides) -> Result<(), CliError> {
    known_schemes(sides)?;
    let tables = [&sides.a, &sides.b].map(|side| tables::is_table(side));
    if tables[0] == tables[1] { Ok(()) } else { Err(one_table(sides)) }
}

/// That each side is spelled as one is.
fn known_schemes(sides: &Sides) -> Result<(), CliError> {
    [&sides.a, &sides.b].into_iter().try_for_each(|side| tables::known_scheme(side))
}

/// A table beside what is none: a directory that is there was taken for a store of rows before.
fn one_table(sides: &Sides) -> CliError {
    let other = [&sides.a, &sides.b].into_iter().find(|side| !tables::is_table(side) && !side.contains("://"));
    let message = match other {
        Some(other) => {
            format!("there is no directory {other} with a store whose rows could be compared with a table's")
        }
        None => {
            "a table and a peer's are compared, with reknit check and reknit diff, and not repaired; repair where both databases \
                 can be reached: reknit repair TABLE TABLE"
                .into()
        }
    };
    CliError::refused("database.pair", message)
}

/// The collections of these names.
fn scope(definition: &Definition, names: &[String]) -> Result<Vec<CollectionId>, CliError> {
    let one = |name: &String| {
        let known = || definition.collections.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || format!("the dataset has no collection {name}; it has: {}", known());
        definition.collection(name).ok_or_else(|| CliError::new("store.no-collection", unknown()))
    };
    names.iter().map(one).collect()
}

/// What is known of a table, which opens the session.
fn of_table(linked: &Linked, named: &[String]) -> Result<Known, CliError> {
    let definition = linked.describe().definition;
    let collections = definition.collections.iter().map(|c| c.name.clone()).collect();
    let layout = Some(tables::layout(linked.shape()).to_bytes());
    Ok(Known {
        own: Some(HeldStore { collections, layout, others: Vec::new() }),
        dataset: definition.name.clone(),
        stores: (None, None),
        scope: scope(&definition, named)?,
    })
}

fn target(env: &Env, typed: &str) -> Result<Target, CliError> {
    if typed.starts_with("quic://") {
        return Ok(Target::There(typed.parse()?));
    }
    Ok(Target::Here(env.store(Path::new(typed))?))
}
