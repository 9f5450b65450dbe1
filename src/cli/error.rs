//! Errors of commands: a stable id, a sentence, an exit. Each id has its paragraph in `docs/errors.md`.

use reknit_core::message::RefuseCode;
use reknit_core::session::SessionError;

use super::Exit;
use crate::format::{ArgumentError, FormatError, LayoutError, Reason};
use crate::node::{HeldFailure, HomeError, NodeError, TicketError};
use crate::store::{EngineError, StoreError};
use crate::transport::{AddressError, TransportError};

/// Why a command could not do what was asked.
#[derive(Debug)]
pub struct CliError {
    /// Stable, for scripts and the documentation.
    pub id: &'static str,
    /// What happened, what changed, what to do.
    pub message: String,
    /// How the program ends.
    pub exit: Exit,
}

impl CliError {
    /// An error that stops a command before it changed anything.
    pub fn new(id: &'static str, message: impl Into<String>) -> CliError {
        CliError { id, message: message.into(), exit: Exit::CannotJudge }
    }

    /// A refusal for safety; says that nothing was written.
    pub fn refused(id: &'static str, message: impl std::fmt::Display) -> CliError {
        CliError { id, message: format!("{message}; wrote 0 records"), exit: Exit::Refused }
    }
}

impl CliError {
    /// Why the other side let no session begin, or could not go on with it.
    pub fn refusal(code: RefuseCode, reason: &str) -> CliError {
        let id = match code {
            RefuseCode::Protocol => "peer.version",
            RefuseCode::Dataset => "session.dataset",
            RefuseCode::Definition => "session.definition",
            RefuseCode::Rights => "peer.rights",
            RefuseCode::OneStore => "session.one-store",
            RefuseCode::Busy => "peer.busy",
            RefuseCode::Store => "peer.store",
            RefuseCode::Brakes => "peer.brakes",
            _ => "session.protocol",
        };
        match code {
            RefuseCode::Busy => CliError { exit: Exit::Undetermined, ..CliError::refused(id, reason) },
            // It failed in the middle: what was applied before stays, and is valid.
            RefuseCode::Store => CliError { exit: Exit::Undetermined, ..CliError::new(id, reason) },
            _ => CliError::refused(id, reason),
        }
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        if let StoreError::Partly { error, .. } = error {
            return CliError::from(*error);
        }
        let id = match &error {
            StoreError::Engine(EngineError::Locked { .. }) => "store.in-use",
            StoreError::Engine(EngineError::Full { .. }) => "store.disk-full",
            StoreError::Engine(EngineError::Corrupt { .. }) | StoreError::Damaged { .. } => "store.damaged",
            StoreError::NotAStore { .. } => "store.none",
            StoreError::Exists { .. } => "store.exists",
            StoreError::Format { .. } => "store.format",
            StoreError::KeyTooLong { .. } => "record.key-too-long",
            StoreError::ValueTooLong { .. } => "record.value-too-long",
            StoreError::NoCollection { .. } => "store.no-collection",
            StoreError::Database { .. } | StoreError::Busy { .. } => "database",
            StoreError::Bare { .. } => "store.index",
            StoreError::NoKeyIndex => "store.no-key-index",
            StoreError::Overtaken => "session.overtaken",
            StoreError::QuarantineFull => "store.quarantine-full",
            StoreError::NoMembers => "store.no-members",
            StoreError::Policy(_) => "store.policy",
            StoreError::Duplicate { .. } => "import.duplicate-key",
            StoreError::NoRun { .. } => "journal.no-run",
            StoreError::NoUndo { .. } => "journal.no-undo",
            StoreError::Undone { .. } => "journal.undone",
            StoreError::BeingUndone { .. } => "journal.being-undone",
            StoreError::Paused { .. } => "journal.paused",
            StoreError::JournalFull { .. } => "journal.full",
            StoreError::Panicked(_) => "defect",
            StoreError::Stopped => "verify.stopped",
            _ => "store.failed",
        };
        match error {
            StoreError::NoUndo { .. }
            | StoreError::Undone { .. }
            | StoreError::BeingUndone { .. }
            | StoreError::Paused { .. } => CliError::refused(id, error),
            StoreError::Stopped => CliError { exit: Exit::Interrupted, ..CliError::new(id, error.to_string()) },
            // What was applied before the journal was full stays.
            StoreError::JournalFull { .. } => CliError { exit: Exit::Refused, ..CliError::new(id, error.to_string()) },
            _ => CliError::new(id, error.to_string()),
        }
    }
}

impl From<NodeError> for CliError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Store(error) | NodeError::Stuck { error, .. } => error.into(),
            NodeError::Transport(error) => error.into(),
            NodeError::Home(error) => error.into(),
            NodeError::Cut => {
                CliError { exit: Exit::Undetermined, ..CliError::new("session.cut", NodeError::Cut.to_string()) }
            }
            NodeError::Held { failure, .. } => {
                let exit = match failure {
                    HeldFailure::NotBegun => Exit::CannotJudge,
                    HeldFailure::Refused => Exit::Refused,
                    HeldFailure::Undetermined => Exit::Undetermined,
                };
                CliError { exit, ..CliError::new("session.held", error.to_string()) }
            }
            NodeError::Session(SessionError::Driver(_)) => CliError::new("defect", error.to_string()),
            error => CliError { exit: Exit::Undetermined, ..CliError::new("session.protocol", error.to_string()) },
        }
    }
}

impl From<TransportError> for CliError {
    fn from(error: TransportError) -> Self {
        let (id, exit) = match &error {
            TransportError::Unreachable { .. } => ("peer.unreachable", Exit::CannotJudge),
            TransportError::Impostor { .. } => ("peer.impostor", Exit::Refused),
            TransportError::Oneself { .. } => ("peer.oneself", Exit::Refused),
            TransportError::NotAdmitted { .. } => ("peer.not-admitted", Exit::CannotJudge),
            TransportError::CutOff { .. } => ("peer.cut-off", Exit::Undetermined),
            TransportError::Version { .. } => ("peer.version", Exit::CannotJudge),
            TransportError::Busy => ("peer.busy", Exit::Undetermined),
            TransportError::Lost(_) | TransportError::Closed => ("session.lost", Exit::Undetermined),
            TransportError::FrameTooLarge { .. } => ("session.protocol", Exit::Undetermined),
            TransportError::Io { .. } => ("node.address", Exit::CannotJudge),
            _ => ("node.failed", Exit::CannotJudge),
        };
        if exit == Exit::Refused {
            return CliError::refused(id, error.to_string());
        }
        CliError { exit, ..CliError::new(id, error.to_string()) }
    }
}

impl From<HomeError> for CliError {
    fn from(error: HomeError) -> Self {
        let id = match &error {
            HomeError::Io { .. } => "home.file",
            HomeError::Identity(_) => "home.identity",
            HomeError::Malformed { .. } => "home.malformed",
            HomeError::InUse(_) => "home.in-use",
            HomeError::Overlap { .. } => "id.overlap",
            HomeError::Succeeded { .. } => "peers.succeeded",
            HomeError::Disbelieved(_) => "peers.statement",
        };
        CliError::new(id, error.to_string())
    }
}

impl From<FormatError> for CliError {
    fn from(error: FormatError) -> Self {
        let id = match &error.reason {
            Reason::Io(_) => "import.file",
            Reason::NoKeyColumns { .. }
            | Reason::RepeatedKeyColumn { .. }
            | Reason::UnknownKeyColumn { .. }
            | Reason::KeyColumnsOfKv => "import.key-column",
            Reason::KeyTooLong { .. } => "record.key-too-long",
            Reason::ValueTooLong { .. } => "record.value-too-long",
            _ => "import.malformed",
        };
        CliError::new(id, format!("{error}; nothing was imported"))
    }
}

impl From<LayoutError> for CliError {
    fn from(error: LayoutError) -> Self {
        let id = match &error {
            LayoutError::Formats { .. } | LayoutError::Keys { .. } => "import.other-layout",
            _ => "store.layout",
        };
        CliError::new(id, error.to_string())
    }
}

impl From<ArgumentError> for CliError {
    fn from(error: ArgumentError) -> Self {
        let id = match &error {
            ArgumentError::KeyTooLong(_) => "record.key-too-long",
            _ => "usage.record",
        };
        CliError::new(id, format!("{error}; nothing was changed"))
    }
}

impl From<AddressError> for CliError {
    fn from(error: AddressError) -> Self {
        CliError::new("usage.address", error.to_string())
    }
}

impl From<TicketError> for CliError {
    fn from(error: TicketError) -> Self {
        CliError::new("usage.ticket", error.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        let id = if error.kind() == std::io::ErrorKind::BrokenPipe { "output.closed" } else { "output" };
        CliError::new(id, format!("the output cannot be written: {error}"))
    }
}
