//! What no peer of ours sends: a side refuses it, or does no more for it than for a message that is right.

use super::model::Model;
use crate::CollectionId;
use crate::bounds::{LEVELS_MAX, OPEN_TRANSFERS_MAX};
use crate::canonical::Blob;
use crate::dataset::Profile;
use crate::life::Sighting;
use crate::message::{Compare, Compared, List, Message, Met, Rights, Transfer};
use crate::query::Query;
use crate::range::Range;
use crate::session::planner::Planner;
use crate::session::{Direction, Input, Intent, Opener, Options, Output, Responder, SessionError};
use crate::wire::{Body, RangeView, pack_ranges};

const FIRST: CollectionId = CollectionId(0);

/// A responder that was opened, and its store.
struct Opened {
    side: Model,
    responder: Responder,
    /// Questions to the store.
    asked: Vec<Query>,
}

impl Opened {
    /// Opened by a store that holds something else, with these rights.
    fn new(intent: Intent, rights: Rights) -> Opened {
        let (mut a, side) = two();
        let mut opener = a.opener(Options::new(intent));
        let mut opened = Opened { responder: side.responder(rights), side, asked: Vec::new() };
        while let Some(output) = opener.poll() {
            match output {
                Output::Ask(query) => opener.handle(Input::Answer(a.answer(query)), 0).expect("in order"),
                Output::Send(open) => drop(opened.hand(Input::Message(open)).expect("opened")),
                _ => unreachable!("it has only begun"),
            }
        }
        opened.asked.clear();
        opened
    }

    /// Hands something in; gives what it says to that.
    fn hand(&mut self, input: Input) -> Result<Vec<Message>, SessionError> {
        self.responder.handle(input)?;
        let mut told = Vec::new();
        while let Some(output) = self.responder.poll() {
            match output {
                Output::Ask(query) => {
                    self.asked.push(query.clone());
                    self.responder.handle(Input::Answer(self.side.answer(query)))?;
                }
                Output::Send(message) => told.push(message),
                _ => {}
            }
        }
        Ok(told)
    }
}

fn two() -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(500);
    b.fill(300);
    (a, b)
}

fn view(range: Range, body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    RangeView { range, body }.encode(&mut bytes);
    bytes
}

#[test]
fn only_who_may_move_records_says_which_life_a_store_is_and_says_it_once() {
    let both = Intent::Repair(Direction::Both);
    // A life that it never had: whoever is believed makes it begin another.
    let met = || Input::Message(Message::Met(Met { met: vec![Sighting { nonce: 42, commit: 0 }] }));
    for (intent, rights) in [(Intent::Check, Rights::ALL), (Intent::Check, Rights::COMPARE)] {
        let mut opened = Opened::new(intent, rights);
        let told = opened.hand(met()).expect("answered");
        assert!(matches!(told[..], [Message::Recognised(ref told)] if !told.renewed), "{told:?}");
        assert!(opened.asked.is_empty(), "{:?}", opened.asked);
        assert!(opened.hand(met()).is_err(), "said twice");
    }
    let mut believed = Opened::new(both, Rights::ALL);
    believed.hand(met()).expect("answered");
    assert!(matches!(believed.asked[..], [Query::Recognise(..)]), "{:?}", believed.asked);
}

#[test]
fn a_range_is_compared_or_listed_once_in_a_message() {
    let mut opened = Opened::new(Intent::Diff, Rights::COMPARE);
    let compare = |views: Vec<u8>| Message::Compare(Compare { id: 1, collection: FIRST, views: Blob(views) });
    let list = |ranges: &[Range]| {
        Message::List(List { id: 2, collection: FIRST, ranges: Blob(pack_ranges(ranges)), positions: Vec::new() })
    };
    let part = |digit| view(Range::ALL.child(digit), Body::All(7));
    assert!(opened.hand(Input::Message(compare([part(1), part(2)].concat()))).is_ok());
    assert!(opened.hand(Input::Message(list(&[Range::ALL.child(1), Range::ALL.child(2)]))).is_ok());
    let refused = [
        compare([part(1), part(1)].concat()),
        compare([part(3), view(Range::ALL, Body::All(7))].concat()),
        list(&[Range::ALL.child(4), Range::ALL.child(4)]),
        list(&[Range::ALL.child(4), Range::ALL]),
    ];
    for message in refused {
        let mut opened = Opened::new(Intent::Diff, Rights::COMPARE);
        assert!(opened.hand(Input::Message(message)).is_err());
        assert!(opened.asked.is_empty(), "{:?}", opened.asked);
    }
}

#[test]
fn records_begin_and_end_only_with_the_right_to_write_and_not_without_end() {
    let transfer = |nth| Transfer(nth, FIRST);
    let end = Input::End { transfer: transfer(0), records: 0, moved: 0 };
    let mut reader = Opened::new(Intent::Diff, Rights::COMPARE.and(Rights::READ));
    assert!(reader.hand(end).is_err());
    assert!(reader.asked.is_empty(), "{:?}", reader.asked);
    let mut writer = Opened::new(Intent::Repair(Direction::Both), Rights::ALL);
    let begun = (0..u16::MAX)
        .find(|nth| writer.hand(Input::Records { transfer: transfer(*nth), records: Vec::new() }).is_err());
    assert_eq!(begun, Some(OPEN_TRANSFERS_MAX as u16));
}

/// A responder that tells of one range again and again does not fill the memory of whoever asked.
#[test]
fn an_answer_that_does_not_end_is_given_up() {
    let (mut a, b) = two();
    let planner = Planner { opening: 0, ..Planner::default() };
    let mut opener: Opener = a.opener(Options { planner, ..Options::new(Intent::Diff) });
    let mut opened = Opened { responder: b.responder(Rights::ALL), side: b, asked: Vec::new() };
    let compare = loop {
        match opener.poll().expect("it compares ranges") {
            Output::Ask(query) => opener.handle(Input::Answer(a.answer(query)), 0).expect("in order"),
            Output::Send(Message::Compare(compare)) => break compare,
            Output::Send(message) => {
                for told in opened.hand(Input::Message(message)).expect("answered") {
                    opener.handle(Input::Message(told), 0).expect("in order");
                }
            }
            _ => {}
        }
    };
    let asked = RangeView::unpack(&compare.views.0).expect("views");
    let views = Blob(view(asked[0].range, Body::None));
    let mut again = || {
        let told = Compared { id: compare.id, views: views.clone(), ..Compared::default() };
        opener.handle(Input::Message(Message::Compared(told)), 0)
    };
    let ended = (0..1 << 20).find(|_| again().is_err());
    assert_eq!(ended, Some(asked.len() << (4 * LEVELS_MAX)));
}
