//! What the rest of the command line asks of a command: what it is called, what it reads, what it works on.
//!
//! What can be typed for it is defined above.

use std::path::PathBuf;

use super::{
    Command, ConflictsCommand, DatasetCommand, IndexCommand, MembersCommand, PeersCommand, QuarantineCommand,
    ReceiptsCommand, RunsCommand,
};

impl Command {
    /// What it is called in results: the words that were typed for it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Demo(_) => "demo",
            Command::Init(_) => "init",
            Command::Import(_) => "import",
            Command::Export(_) => "export",
            Command::Put(_) => "put",
            Command::Get(_) => "get",
            Command::Delete(_) => "delete",
            Command::List(_) => "list",
            Command::Conflicts(args) => match args.command {
                ConflictsCommand::List { .. } => "conflicts list",
                ConflictsCommand::Show { .. } => "conflicts show",
                ConflictsCommand::Resolve { .. } => "conflicts resolve",
            },
            Command::Quarantine(args) => match args.command {
                QuarantineCommand::List { .. } => "quarantine list",
                QuarantineCommand::Accept { .. } => "quarantine accept",
                QuarantineCommand::Drop { .. } => "quarantine drop",
            },
            Command::Verify(_) => "verify",
            Command::Backup(_) => "backup",
            Command::Restore(_) => "restore",
            Command::Runs(args) => match args.command {
                RunsCommand::List { .. } => "runs list",
                RunsCommand::Show { .. } => "runs show",
                RunsCommand::Undo { .. } => "runs undo",
                RunsCommand::Limit { .. } => "runs limit",
            },
            Command::Members(args) => match args.command {
                MembersCommand::List { .. } => "members list",
                MembersCommand::Add { .. } => "members add",
                MembersCommand::Forget { .. } => "members forget",
            },
            Command::Gc(_) => "gc",
            Command::Receipts(args) => match args.command {
                ReceiptsCommand::List { .. } => "receipts list",
                ReceiptsCommand::Export { .. } => "receipts export",
                ReceiptsCommand::Verify { .. } => "receipts verify",
            },
            Command::Explain(_) => "explain",
            Command::Index(args) => match args.command {
                IndexCommand::Build { .. } => "index build",
                IndexCommand::Status { .. } => "index status",
                IndexCommand::Verify { .. } => "index verify",
                IndexCommand::Drop { .. } => "index drop",
            },
            Command::Resume(_) => "resume",
            Command::History(_) => "history",
            Command::Inspect(_) => "inspect",
            Command::Dataset(args) => match args.command {
                DatasetCommand::Show { .. } => "dataset show",
                DatasetCommand::Export { .. } => "dataset export",
                DatasetCommand::Import { .. } => "dataset import",
            },
            Command::Id(_) => "id",
            Command::Invite(_) => "invite",
            Command::Join(_) => "join",
            Command::Peers(args) => match args.command {
                PeersCommand::List => "peers list",
                PeersCommand::Add { .. } => "peers add",
                PeersCommand::Remove { .. } => "peers remove",
            },
            Command::Serve(_) => "serve",
            Command::Check(_) => "check",
            Command::Diff(_) => "diff",
            Command::Repair(_) => "repair",
            Command::Apply(_) => "apply",
            Command::Status(_) => "status",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }

    /// Whether it reads stdin.
    pub(crate) fn reads_input(&self) -> bool {
        match self {
            Command::Import(args) => args.file.as_os_str() == "-",
            Command::Put(args) => args.value == "-",
            Command::Conflicts(args) => {
                matches!(&args.command, ConflictsCommand::Resolve { by, .. } if by.value.as_deref() == Some("-"))
            }
            _ => false,
        }
    }

    /// The stores on this machine that the command works on.
    pub(crate) fn stores(&self) -> Vec<PathBuf> {
        let side = |text: &String| (!text.contains("://")).then(|| PathBuf::from(text));
        match self {
            Command::Runs(args) => match &args.command {
                RunsCommand::List { store }
                | RunsCommand::Show { store, .. }
                | RunsCommand::Undo { store, .. }
                | RunsCommand::Limit { store, .. } => vec![store.clone()],
            },
            Command::Resume(args) => vec![args.store.clone()],
            Command::History(args) => vec![args.store.clone()],
            Command::Inspect(args) => {
                [Some(&args.store), args.against.as_ref()].into_iter().flatten().filter_map(side).collect()
            }
            Command::Import(args) => vec![args.store.clone()],
            Command::Export(args) => vec![args.store.clone()],
            Command::Put(args) => vec![args.store.clone()],
            Command::Get(args) => vec![args.store.clone()],
            Command::Delete(args) => vec![args.store.clone()],
            Command::List(args) => vec![args.store.clone()],
            Command::Conflicts(args) => match &args.command {
                ConflictsCommand::List { store, .. }
                | ConflictsCommand::Show { store, .. }
                | ConflictsCommand::Resolve { store, .. } => vec![store.clone()],
            },
            Command::Quarantine(args) => match &args.command {
                QuarantineCommand::List { store, .. }
                | QuarantineCommand::Accept { store, .. }
                | QuarantineCommand::Drop { store, .. } => vec![store.clone()],
            },
            Command::Members(args) => match &args.command {
                MembersCommand::List { store }
                | MembersCommand::Add { store, .. }
                | MembersCommand::Forget { store, .. } => vec![store.clone()],
            },
            Command::Receipts(args) => match &args.command {
                ReceiptsCommand::List { store, .. } | ReceiptsCommand::Export { store } => vec![store.clone()],
                ReceiptsCommand::Verify { .. } => Vec::new(),
            },
            Command::Gc(args) => vec![args.store.clone()],
            Command::Verify(args) => vec![args.store.clone()],
            Command::Backup(args) => vec![args.store.clone()],
            Command::Invite(args) => vec![args.store.clone()],
            Command::Init(args) => args.like.clone().into_iter().collect(),
            Command::Dataset(args) => match &args.command {
                DatasetCommand::Show { store } | DatasetCommand::Export { store, .. } => vec![store.clone()],
                DatasetCommand::Import { .. } => Vec::new(),
            },
            Command::Check(args) => [&args.sides.a, &args.sides.b].into_iter().filter_map(side).collect(),
            Command::Diff(args) => [&args.sides.a, &args.sides.b].into_iter().filter_map(side).collect(),
            Command::Repair(args) => [&args.sides.a, &args.sides.b].into_iter().filter_map(side).collect(),
            Command::Apply(args) => [&args.sides.a, &args.sides.b].into_iter().filter_map(side).collect(),
            _ => Vec::new(),
        }
    }
}
