//! What can wake a session, and what a store that does not answer says.

use reknit_core::message::Message;
use reknit_core::query::{Answer, Applied};
use reknit_core::session::{SessionError, Stuck};
use reknit_core::wire::RecordFrame;

use crate::node::NodeError;
use crate::store::StoreError;
use crate::transport::TransportError;

/// What can wake a session.
pub(in crate::node) enum Event {
    /// A message came.
    Message(Message),
    /// Records came.
    Records(RecordFrame),
    /// Records left quarantine before the session begins.
    Released(Applied),
    /// The store answered.
    Answer(Result<Answer, Failure>),
    /// The store could not read records that were to be streamed.
    Stream(Failure),
    /// The peer closed its side of the control lane.
    Ended,
    /// The link broke.
    Broken(TransportError),
    /// A lane is gone: the peer takes or gives no more, and may have said why.
    Gone(TransportError),
    /// Bytes were not understood.
    Garbled(SessionError),
    /// The link has room again.
    Room,
    /// It is time.
    Time,
    /// A budget is used up, or someone interrupts.
    Stop,
}

/// Why a store did not answer, and where, if it can for other records.
pub(in crate::node) struct Failure {
    pub(super) error: StoreError,
    pub(super) stuck: Option<Stuck>,
}

impl Failure {
    pub(in crate::node) fn of(error: StoreError, stuck: impl FnOnce() -> Option<Stuck>) -> Failure {
        let stuck = if error.is_damage() { stuck().filter(|stuck| !stuck.ranges.is_empty()) } else { None };
        Failure { error, stuck }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure { error, stuck: None }
    }
}

impl From<Failure> for NodeError {
    fn from(Failure { error, stuck }: Failure) -> NodeError {
        match stuck {
            Some(stuck) => NodeError::Stuck { error, stuck },
            None => NodeError::Store(error),
        }
    }
}
