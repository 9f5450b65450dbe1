//! The machine of either side, as one: what it takes, and when.

use reknit_core::session::{Input, Opener, Output, Responder, SessionError};

pub(super) enum Machine {
    Opener(Box<Opener>),
    Responder(Box<Responder>),
}

impl Machine {
    pub(super) fn handle(&mut self, input: Input, now: u64) -> Result<(), SessionError> {
        match self {
            Machine::Opener(opener) => opener.handle(input, now),
            Machine::Responder(responder) => responder.handle(input),
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        match self {
            Machine::Opener(opener) => opener.poll(),
            Machine::Responder(responder) => responder.poll(),
        }
    }

    /// Whether it takes a message, where the link has room or not for what follows. Only one of two may wait for the link, else
    /// each would wait for the other; an opener waits for its own store alone.
    pub(super) fn takes_messages(&self, has_room: bool) -> bool {
        match self {
            Machine::Opener(opener) => opener.has_room(),
            Machine::Responder(responder) => responder.has_room() && has_room,
        }
    }
}
