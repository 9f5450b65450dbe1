//! Sessions with peers of earlier releases: what those said, byte for byte, is taken and answered as it was then, by either side,
//! and ends with the same verdict and the same records.

use super::party::{Machine, Party, Said};
use super::world::{OPENER, RESPONDER, Signer};
use super::*;
use crate::message::Rights;

/// What each release said in all [`cases`]; the newest last. What is there is never written again.
const RELEASES: [(&str, &str); 1] = [("0.1.0", include_str!("../../../tests/vectors/sessions-0.1.0.tsv"))];

/// Two sides, and what the first asks of the second.
struct Case {
    name: &'static str,
    a: Model,
    b: Model,
    options: Options,
    signed: bool,
}

impl Case {
    fn opener(&mut self) -> Party {
        let opener = self.a.opener(self.options.clone());
        let signer = Signer { me: OPENER, peer: RESPONDER, forges: false };
        let opener = if self.signed { opener.with_witness(Arc::new(signer)) } else { opener };
        Party::new(std::mem::replace(&mut self.a, empty(1)), Machine::Opener(Box::new(opener)))
    }

    fn responder(&mut self) -> Party {
        let responder = self.b.responder(Rights::ALL);
        let signer = Signer { me: RESPONDER, peer: OPENER, forges: false };
        let responder = if self.signed { responder.with_witness(Arc::new(signer)) } else { responder };
        Party::new(std::mem::replace(&mut self.b, empty(2)), Machine::Responder(Box::new(responder)))
    }
}

fn empty(actor: u64) -> Model {
    Model::new(actor, Profile::Versioned, 64)
}

/// The same records on both sides, then some that only one has written, deleted or written later.
fn apart(records: u32, differences: u32) -> (Model, Model) {
    let (mut a, mut b) = (empty(1), empty(2));
    a.fill(records);
    b.copy_from(&a);
    for n in 0..differences {
        let shared = (n * (records / differences.max(1))).to_be_bytes();
        match n % 5 {
            0 => a.write(&(records + n).to_be_bytes(), Some(vec![1; 30])),
            1 => b.write(&(records + n).to_be_bytes(), Some(vec![2; 30])),
            2 => a.write(&shared, Some(vec![3; 30])),
            3 => b.write(&shared, None),
            _ => {
                a.write(&shared, Some(vec![4; 30]));
                b.write(&shared, Some(vec![5; 30]));
            }
        }
    }
    (a, b)
}

fn cases() -> Vec<Case> {
    let case = |name, (a, b), intent| Case { name, a, b, options: Options::new(intent), signed: false };
    let both = Intent::Repair(Direction::Both);
    let kept = |(a, b): (Model, Model)| (a.with_policy("keep-both/1"), b.with_policy("keep-both/1"));
    let mut full = empty(2);
    full.fill(90);
    vec![
        case("check of equal sides", apart(300, 0), Intent::Check),
        case("check", apart(300, 7), Intent::Check),
        case("diff of one in two thousand", apart(2000, 1), Intent::Diff),
        case("diff", apart(300, 40), Intent::Diff),
        case("repair", apart(300, 10), both),
        case("repair of much", apart(120, 100), both),
        case("repair of versions that are kept", kept(apart(100, 20)), both),
        case("repair of one side", apart(200, 15), Intent::Repair(Direction::To(Side::Mine))),
        case("repair of an empty side", (empty(1), full), both),
        Case { signed: true, ..case("repair with receipts", apart(60, 6), both) },
    ]
}

/// A session to its end, as a line for what came of it and a line for each frame.
fn recorded(mut case: Case) -> String {
    let (mut opener, mut responder, mut text) = (case.opener(), case.responder(), String::new());
    while let Some(said) = opener.next().or_else(|| responder.next()) {
        if said.by_opener {
            responder.hear(&said)
        } else {
            opener.hear(&said)
        }
        let (who, lane) =
            (if said.by_opener { "opener" } else { "responder" }, if said.records { "records" } else { "control" });
        let hex: String = said.frame.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{who}\t{lane}\t{hex}\n");
    }
    let verdict = opener.verdict.expect("it ends");
    let [a, b] = [&opener, &responder].map(|side| side.model.root().digest);
    format!("session\t{}\t{}\t{a}\t{b}\n{text}", case.name, verdict.name())
}

/// Each session of a recording: its name, what came of it, and what was said.
fn sessions(recording: &str) -> Vec<([&str; 4], Vec<Said>)> {
    let mut sessions: Vec<([&str; 4], Vec<Said>)> = Vec::new();
    for line in recording.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["session", name, verdict, a, b] => sessions.push(([name, verdict, a, b], Vec::new())),
            [who, lane, hex] => {
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
                let frame = (0..hex.len()).step_by(2).map(byte).collect();
                let said = Said { by_opener: who == "opener", records: lane == "records", frame };
                sessions.last_mut().expect("a session").1.push(said);
            }
            _ => panic!("{line}"),
        }
    }
    sessions
}

/// The newest recording is what this release says: a change there is a change of the protocol, and is to be explained.
#[test]
fn what_this_release_says_is_what_is_recorded() {
    let text: String = cases().into_iter().map(recorded).collect();
    let (release, newest) = RELEASES[RELEASES.len() - 1];
    assert_eq!(release, env!("CARGO_PKG_VERSION"), "each release is recorded");
    assert_eq!(text, newest, "as it is now:\n{text}");
}

#[test]
fn openers_of_earlier_releases_are_answered() {
    for (release, recording) in RELEASES {
        for ([name, _, _, root], said) in sessions(recording) {
            let mut case = cases().into_iter().find(|case| case.name == name).expect("a case of this name");
            let mut responder = case.responder();
            for said in said {
                match said.by_opener {
                    true => responder.hear(&said),
                    false => assert_eq!(responder.next(), Some(said), "{release}, {name}"),
                }
            }
            assert_eq!((responder.next(), responder.model.root().digest.to_string()), (None, root.into()), "{name}");
        }
    }
}

#[test]
fn responders_of_earlier_releases_are_understood() {
    for (release, recording) in RELEASES {
        for ([name, verdict, root, _], said) in sessions(recording) {
            let mut case = cases().into_iter().find(|case| case.name == name).expect("a case of this name");
            let mut opener = case.opener();
            for said in said {
                match said.by_opener {
                    true => assert_eq!(opener.next(), Some(said), "{release}, {name}"),
                    false => opener.hear(&said),
                }
            }
            let ended = opener.verdict.map(Verdict::name);
            assert_eq!((ended, opener.model.root().digest.to_string()), (Some(verdict), root.into()), "{name}");
        }
    }
}
