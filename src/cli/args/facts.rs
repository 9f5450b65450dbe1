//! What the rest of the command line asks of a command: what it is called, what it reads, what it works on.
//!
//! What can be typed for it is defined above.

use super::{
    AlertsCommand, Command, ConfigCommand, ConflictsCommand, DatasetCommand, IdCommand, IndexCommand, JobsCommand,
    MembersCommand, PeersCommand, QuarantineCommand, ReceiptsCommand, RunsCommand,
};

impl Command {
    /// What it is called in results: the words that were typed for it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Demo(_) => "demo",
            Command::Run(_) => "run",
            Command::Config(args) => match args.command {
                ConfigCommand::Check => "config check",
                ConfigCommand::Init => "config init",
            },
            Command::Jobs(args) => match args.command {
                JobsCommand::List => "jobs list",
                JobsCommand::Show { .. } => "jobs show",
                JobsCommand::Run { .. } => "jobs run",
                JobsCommand::Pause { .. } => "jobs pause",
                JobsCommand::Resume { .. } => "jobs resume",
                JobsCommand::Cancel { .. } => "jobs cancel",
                JobsCommand::Tune(_) => "jobs tune",
            },
            Command::Alerts(args) => match args.command {
                AlertsCommand::List => "alerts list",
                AlertsCommand::Test => "alerts test",
            },
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
            Command::Id(args) => match args.command {
                None => "id",
                Some(IdCommand::Rotate { .. }) => "id rotate",
                Some(IdCommand::Statement) => "id statement",
            },
            Command::Invite(_) => "invite",
            Command::Join(_) => "join",
            Command::Peers(args) => match args.command {
                PeersCommand::List => "peers list",
                PeersCommand::Add { .. } => "peers add",
                PeersCommand::Succeed { .. } => "peers succeed",
                PeersCommand::Remove { .. } => "peers remove",
            },
            Command::Serve(_) => "serve",
            Command::Check(_) => "check",
            Command::Diff(_) => "diff",
            Command::Drift(_) => "drift",
            Command::Repair(_) => "repair",
            Command::Apply(_) => "apply",
            Command::Status(_) => "status",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }

    /// Whether it looks at what a home has, or asks something of it.
    pub(crate) fn is_of_home(&self) -> bool {
        matches!(self, Command::Status(_) | Command::Jobs(_) | Command::Alerts(_) | Command::Run(_))
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
}
