//! The stores, tables and peers that a command works on, and the file that its metrics go to.
//!
//! What their names stand for is known by the configuration.

use std::path::{Path, PathBuf};

use super::{
    Apply, Check, Command, ConflictsCommand, DatasetCommand, Diff, Drift, Index, IndexCommand, MembersCommand,
    QuarantineCommand, ReceiptsCommand, Repair, RunsCommand, Sides,
};

/// What an address begins with that names the records of a store beside a table.
pub(crate) const STORE: &str = "store:";

/// Where a store, a table or a peer was typed.
pub(crate) enum Place<'a> {
    /// As a path, that of a directory unless it is an address.
    Path(&'a mut PathBuf),
    /// As an address, or the path of a directory.
    Text(&'a mut String),
}

impl Place<'_> {
    /// What was typed; nothing if it is a path that is no text.
    pub(crate) fn typed(&self) -> Option<&str> {
        match self {
            Place::Path(path) => path.to_str(),
            Place::Text(text) => Some(text),
        }
    }

    /// Puts an address in the place of a name.
    pub(crate) fn set(self, address: String) {
        match self {
            Place::Path(path) => *path = address.into(),
            Place::Text(text) => *text = address,
        }
    }
}

/// The directory of a store that is named, also beside a table.
pub(crate) fn store_in(typed: &str) -> PathBuf {
    let dir = typed.strip_prefix(STORE).unwrap_or(typed);
    let collection = dir.rsplit_once('#').filter(|_| !Path::new(dir).exists());
    collection.map_or(dir, |(dir, _)| dir).into()
}

impl Command {
    /// Where stores, tables and peers are named that are there already.
    pub(crate) fn places(&mut self) -> Vec<Place<'_>> {
        match self {
            Command::Check(Check { sides, more }) => {
                [&mut sides.a, &mut sides.b].into_iter().chain(more).map(Place::Text).collect()
            }
            Command::Diff(Diff { sides, .. })
            | Command::Drift(Drift { sides, .. })
            | Command::Repair(Repair { sides, .. })
            | Command::Apply(Apply { sides, .. }) => vec![Place::Text(&mut sides.a), Place::Text(&mut sides.b)],
            Command::Explain(args) => {
                [Some(&mut args.a), args.b.as_mut()].into_iter().flatten().map(Place::Text).collect()
            }
            Command::Index(args) => match &mut args.command {
                IndexCommand::Build(args) => {
                    [Some(&mut args.table), args.with.as_mut()].into_iter().flatten().map(Place::Text).collect()
                }
                IndexCommand::Status { table } | IndexCommand::Verify { table } | IndexCommand::Drop { table, .. } => {
                    vec![Place::Text(table)]
                }
            },
            Command::Inspect(args) => {
                [Some(&mut args.store), args.against.as_mut()].into_iter().flatten().map(Place::Text).collect()
            }
            Command::Serve(args) => args.stores.iter_mut().map(Place::Path).collect(),
            Command::Init(args) => {
                [Some(&mut args.dir), args.like.as_mut()].into_iter().flatten().map(Place::Path).collect()
            }
            _ => self.store().into_iter().map(Place::Path).collect(),
        }
    }

    /// Takes directories that are named beside a table for stores whose records are rows.
    pub(crate) fn take_stores_for_tables(&mut self, is_table: fn(&str) -> bool, is_dir: impl Fn(&str) -> bool) {
        // Served, each is by itself.
        if matches!(self, Command::Serve(_)) {
            return;
        }
        let places = self.places();
        let typed = |place: &Place<'_>| place.typed().map(String::from);
        if !places.iter().filter_map(typed).any(|typed| is_table(&typed)) {
            return;
        }
        for place in places {
            let Some(dir) = typed(&place).filter(|typed| !is_table(typed) && is_dir(typed)) else { continue };
            place.set(format!("{STORE}{dir}"));
        }
    }

    /// Where a replica is named that is to be read in place of a table.
    pub(crate) fn replica(&mut self) -> Option<Place<'_>> {
        let pace = match self {
            Command::Check(Check { sides, .. })
            | Command::Diff(Diff { sides, .. })
            | Command::Drift(Drift { sides, .. })
            | Command::Repair(Repair { sides, .. })
            | Command::Apply(Apply { sides, .. }) => &mut sides.pace,
            Command::Index(Index { command: IndexCommand::Build(args) }) => &mut args.pace,
            _ => return None,
        };
        pace.scan_from.as_mut().map(Place::Text)
    }

    /// The one store that the command works on, if there is one.
    fn store(&mut self) -> Option<&mut PathBuf> {
        match self {
            Command::Runs(args) => match &mut args.command {
                RunsCommand::List { store }
                | RunsCommand::Show { store, .. }
                | RunsCommand::Undo { store, .. }
                | RunsCommand::Limit { store, .. } => Some(store),
            },
            Command::Conflicts(args) => match &mut args.command {
                ConflictsCommand::List { store, .. }
                | ConflictsCommand::Show { store, .. }
                | ConflictsCommand::Resolve { store, .. } => Some(store),
            },
            Command::Quarantine(args) => match &mut args.command {
                QuarantineCommand::List { store, .. }
                | QuarantineCommand::Accept { store, .. }
                | QuarantineCommand::Drop { store, .. } => Some(store),
            },
            Command::Members(args) => match &mut args.command {
                MembersCommand::List { store }
                | MembersCommand::Add { store, .. }
                | MembersCommand::Forget { store, .. } => Some(store),
            },
            Command::Receipts(args) => match &mut args.command {
                ReceiptsCommand::List { store, .. } | ReceiptsCommand::Export { store, .. } => Some(store),
                ReceiptsCommand::Verify { .. } => None,
            },
            Command::Dataset(args) => match &mut args.command {
                DatasetCommand::Show { store } | DatasetCommand::Export { store, .. } => Some(store),
                DatasetCommand::Import { .. } => None,
            },
            Command::Resume(args) => Some(&mut args.store),
            Command::History(args) => Some(&mut args.store),
            Command::Import(args) => Some(&mut args.store),
            Command::Export(args) => Some(&mut args.store),
            Command::Put(args) => Some(&mut args.store),
            Command::Get(args) => Some(&mut args.store),
            Command::Delete(args) => Some(&mut args.store),
            Command::List(args) => Some(&mut args.store),
            Command::Gc(args) => Some(&mut args.store),
            Command::Verify(args) => Some(&mut args.store),
            Command::Backup(args) => Some(&mut args.store),
            Command::Invite(args) => Some(&mut args.store),
            Command::Join(args) => Some(&mut args.dir),
            _ => None,
        }
    }

    /// The directories of stores on this machine that a daemon may hold, for this command to be run there.
    pub(crate) fn held(&mut self) -> Vec<PathBuf> {
        // Whoever is to serve a store finds out by itself that another does.
        if matches!(self, Command::Serve(_)) {
            return Vec::new();
        }
        let path = |place: Place<'_>| match place {
            Place::Path(path) => Some(path.clone()),
            Place::Text(text) if text.contains("://") => None,
            Place::Text(text) => Some(store_in(text)),
        };
        self.places().into_iter().filter_map(path).collect()
    }

    /// The two sides of a session.
    pub(crate) fn sides(&self) -> Option<&Sides> {
        match self {
            Command::Check(Check { sides, .. })
            | Command::Diff(Diff { sides, .. })
            | Command::Drift(Drift { sides, .. })
            | Command::Repair(Repair { sides, .. })
            | Command::Apply(Apply { sides, .. }) => Some(sides),
            _ => None,
        }
    }

    /// Where its metrics go, if that was said.
    pub(crate) fn metrics_file(&self) -> Option<&Path> {
        match self {
            Command::Run(args) => args.metrics_file.as_deref(),
            _ => self.sides()?.metrics_file.as_deref(),
        }
    }

    /// Says where its metrics go, by what is said so far.
    pub(crate) fn send_metrics(&mut self, file: impl FnOnce(Option<PathBuf>) -> Option<PathBuf>) {
        if let Command::Check(Check { sides, .. })
        | Command::Diff(Diff { sides, .. })
        | Command::Drift(Drift { sides, .. })
        | Command::Repair(Repair { sides, .. }) = self
        {
            sides.metrics_file = file(sides.metrics_file.take());
        }
    }
}
