//! One side of a session with its store, by the bytes of its frames. What carries them, and what becomes of them, is for others.

use std::collections::VecDeque;

use super::*;
use crate::message::Message;
use crate::wire::RecordFrame;

/// A frame of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) by_opener: bool,
    /// On the lane of records.
    pub(super) records: bool,
    pub(super) frame: Vec<u8>,
}

pub(super) enum Machine {
    Opener(Box<Opener>),
    Responder(Box<Responder>),
}

/// A side with its store, and what it has said that nobody heard yet.
pub(super) struct Party {
    pub(super) model: Model,
    machine: Machine,
    now: Millis,
    says: VecDeque<Said>,
    pub(super) verdict: Option<Verdict>,
}

impl Party {
    pub(super) fn new(model: Model, machine: Machine) -> Party {
        let mut party = Party { model, machine, now: 0, says: VecDeque::new(), verdict: None };
        party.go_on();
        party
    }

    pub(super) fn hear(&mut self, said: &Said) {
        let input = match said.records {
            false => Input::Message(Message::decode(&said.frame).expect("it is understood")),
            true => match RecordFrame::decode(&said.frame).expect("it is understood") {
                RecordFrame::Records { transfer, records } => Input::Records { transfer, records },
                RecordFrame::End { transfer, records, moved } => Input::End { transfer, records, moved },
                RecordFrame::Chunk { .. } => panic!("no record here is so large"),
            },
        };
        self.handle(input);
        self.go_on();
    }

    fn handle(&mut self, input: Input) {
        match &mut self.machine {
            Machine::Opener(opener) => opener.handle(input, self.now),
            Machine::Responder(responder) => responder.handle(input),
        }
        .expect("it is in order");
    }

    /// Until it has to hear something, or to wait.
    fn go_on(&mut self) {
        let by_opener = matches!(self.machine, Machine::Opener(_));
        loop {
            let output = match &mut self.machine {
                Machine::Opener(opener) => opener.poll(),
                Machine::Responder(responder) => responder.poll(),
            };
            match output {
                None => return,
                Some(Output::Send(message)) => {
                    self.says.push_back(Said { by_opener, records: false, frame: message.encode() });
                }
                Some(Output::Ask(query)) => {
                    let answer = self.model.answer(query);
                    self.handle(Input::Answer(answer));
                }
                Some(Output::Stream { transfer, selections, given, guards }) => {
                    let (records, moved) = self.model.stream(&selections, given, &guards);
                    let end = RecordFrame::End { transfer, records: records.len() as u64, moved };
                    let some = records.chunks(40).map(<[_]>::to_vec);
                    let frames = some.map(|records| RecordFrame::Records { transfer, records }).chain([end]);
                    self.says.extend(frames.map(|frame| Said { by_opener, records: true, frame: frame.encode() }));
                }
                Some(Output::Done(outcome)) => self.verdict = Some(outcome.verdict),
                Some(Output::Planned(_) | Output::Found(_)) => {}
            }
        }
    }

    /// What it says next, however long it waits before; nothing if it is done, or waits for the other.
    pub(super) fn next(&mut self) -> Option<Said> {
        loop {
            let said = self.says.pop_front();
            let Machine::Opener(opener) = &self.machine else { return said };
            let (None, None, Some(at)) = (&said, self.verdict, opener.wake_at()) else { return said };
            self.now = at;
            self.handle(Input::Time);
            self.go_on();
        }
    }
}
