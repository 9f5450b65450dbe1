//! Golden vectors: every byte that the core writes, in text files that another language can read.
//!
//! Each line is a name, a tab, and hex. `REKNIT_BLESS=1` writes the files anew; a change to a committed
//! line is a change of format. What nodes remember of jobs is in a file of its own.

#[path = "vectors/jobs.rs"]
mod jobs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use reknit_core::canonical::Blob;
use reknit_core::collect::{Horizon, Passed};
use reknit_core::journal::{Before, Filled, JournalEntry, Run, RunEnd, RunHeader, RunId, RunKind, Undoing};
use reknit_core::life::Sighting;
use reknit_core::mark::{Grain, Mark, pack_marks, pack_places};
use reknit_core::members::{LEASE_MILLIS, Member};
use reknit_core::message::*;
use reknit_core::query::{Guard, Incoming, Item, Raising, VersionInfo};
use reknit_core::receipt::{Receipt, Seat, Tally};
use reknit_core::sketch::{Cell, CellRun, Element, Sketch, pack, pack_elements};
use reknit_core::wire::{Body, RangeView, RecordFrame, WireItem, pack_ranges};
use reknit_core::*;

const KEY: [u8; 32] = [0x42; 32];

fn horizon() -> Horizon {
    let passed = Passed { actor: 5, met: Sighting { nonce: 9, commit: 200 }, everywhere: 190, undone: 20 };
    Horizon { stamp: Stamp::at(1_700_000_000_000), passed: vec![passed] }
}

fn compare(file: &str, lines: &[(&str, Vec<u8>)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = lines.iter().fold(String::new(), |mut text, (name, bytes)| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "{name}\t{hex}");
        text
    });
    if std::env::var_os("REKNIT_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the vectors can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("the vectors are committed");
    for (now, then) in text.lines().zip(committed.lines()) {
        assert_eq!(now, then, "a byte of {file} changed");
    }
    assert_eq!(text.lines().count(), committed.lines().count(), "{file} has other lines");
}

fn sibling(stamp: u64, value: Option<&[u8]>) -> Sibling {
    let version = Version::after(Stamp(stamp), Actor(7), []);
    Sibling { version, content: value.map_or(Content::Tombstone, |v| Content::Live(v.to_vec())), expires: None }
}

fn states() -> Vec<(&'static str, State)> {
    let first = Version::after(Stamp(1 << 16), Actor(9), []);
    let second = Version::after(Stamp(2 << 16), Actor(7), [&first]);
    let seen = Sibling { version: second, content: Content::Live(b"v2".to_vec()), expires: Some(1_800_000_000_000) };
    vec![
        ("live", State::single(sibling(1 << 16, Some(b"value")))),
        ("empty_value", State::single(sibling(1 << 16, Some(b"")))),
        ("tombstone", State::single(sibling(1 << 16, None))),
        ("seen_and_expiring", State::single(seen.clone())),
        ("expired", State::single(Sibling { content: Content::Tombstone, ..seen })),
    ]
}

fn entries(n: u64) -> Vec<Entry> {
    let entry = |i: u64| Entry { position: Position(i << 58 | i), digest: Digest([i as u8; 32]) };
    (0..n).map(entry).collect()
}

#[test]
fn digests() {
    let keys = Keys::new(&DatasetKey::from_bytes(KEY));
    let mut lines = Vec::new();
    let place = |key: &[u8]| keys.position("default", key).0.to_be_bytes().to_vec();
    lines.push(("position(default, \"\")", place(b"")));
    lines.push(("position(default, key)", place(b"key")));
    lines.push(("position(other, key)", keys.position("other", b"key").0.to_be_bytes().to_vec()));
    lines.push(("content(value)", keys.content(b"value").0.to_vec()));
    let record = |state: &State| Record { key: b"key".to_vec(), state: state.clone() };
    let states = states();
    let digest = |profile, at: usize| keys.entry(profile, "default", &record(&states[at].1)).map(|d| d.0.to_vec());
    lines.push(("entry(versioned, live)", digest(Profile::Versioned, 0).unwrap_or_default()));
    lines.push(("entry(versioned, empty_value)", digest(Profile::Versioned, 1).unwrap_or_default()));
    lines.push(("entry(versioned, tombstone)", digest(Profile::Versioned, 2).unwrap_or_default()));
    lines.push(("entry(versioned, seen_and_expiring)", digest(Profile::Versioned, 3).unwrap_or_default()));
    lines.push(("entry(versioned, expired)", digest(Profile::Versioned, 4).unwrap_or_default()));
    lines.push(("entry(content, live)", digest(Profile::Content, 0).unwrap_or_default()));
    lines.push(("entry(content, tombstone) is none", digest(Profile::Content, 2).unwrap_or_default()));
    let summary = |s: Summary| [s.count.to_be_bytes().as_slice(), &s.digest.0].concat();
    lines.push(("leaf(all, 0 entries)", summary(keys.leaf(Range::ALL, &[]))));
    lines.push(("leaf(all, 3 entries)", summary(keys.leaf(Range::ALL, &entries(3)))));
    lines.push(("leaf(0*, 3 entries)", summary(keys.leaf(Range::ALL.child(0), &entries(3)))));
    let build = |n| keys.build(Range::ALL, &entries(n), &mut |_, _| {});
    lines.push(("tree(32 entries), a leaf", summary(build(32))));
    lines.push(("tree(33 entries), an inner node", summary(build(33))));
    lines.push(("tree(60 entries)", summary(build(60))));
    let root = keys.root(&[("default", build(33)), ("other", Summary::EMPTY)]);
    lines.push(("root(default: 33 entries, other: none)", summary(root)));
    compare("digests.tsv", &lines);
}

#[test]
fn states_and_definitions() {
    let mut lines = Vec::new();
    for (name, state) in states() {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(State::decode(&bytes), Ok(state));
        lines.push((name, bytes));
    }
    let definition = Definition::simple(DatasetId([1; 16]), "cities");
    lines.push(("definition", definition.encode()));
    lines.push(("definition_hash", definition.hash().0.to_vec()));
    let member = Member { name: "berlin".into(), since: 1_700_000_000_000, lease: LEASE_MILLIS };
    lines.push(("definition, with members", definition.with_members().encode()));
    lines.push(("member, its key", Member::key(&[7; 32])));
    lines.push(("member", member.encode()));
    compare("states.tsv", &lines);
}

#[test]
fn receipts() {
    let seat = |n: u8| Seat {
        undone: u64::from(n),
        peer: [n; 32],
        life: Life { actor: u64::from(n), nonce: 8 },
        cut: 300,
        commit: 301,
        stamp: Stamp(1 << 40),
        root: Summary { count: 3, digest: Digest([5; 32]) },
        time: 1_700_000_000_000,
    };
    let receipt = Receipt {
        dataset: DatasetId([1; 16]),
        definition: Digest([2; 32]),
        scope: vec![CollectionId(0), CollectionId(300)],
        opener: seat(1),
        responder: seat(2),
        verdict: session::Verdict::InSync,
        tally: Tally { differences: 4, left: 0, to_opener: 1, to_responder: 300 },
        signatures: ([6; 64], [7; 64]),
    };
    assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt.clone()));
    let lines = [
        ("the responder's statement", receipt.responder_statement()),
        ("the opener's statement", receipt.opener_statement()),
        ("receipt", receipt.encode()),
    ];
    compare("receipts.tsv", &lines);
}

fn messages() -> BTreeMap<&'static str, Message> {
    let root = Summary { count: 3, digest: Digest([5; 32]) };
    let life = Life { actor: 7, nonce: 8 };
    let open = Open {
        protocol: PROTOCOL,
        dataset: DatasetIdBytes(DatasetId([1; 16])),
        definition: Blob(vec![2; 16]),
        wants: Rights::COMPARE,
        descend: true,
        root,
        life,
        commit: 300,
        scope: vec![CollectionId(1)],
        cells: Blob(vec![1, 2, 3]),
        counts: Blob(vec![5; 96]),
        parts: Blob(vec![4; 16]),
        more: OpenMore::default(),
    };
    let transfer = Transfer(1, CollectionId(0));
    let mark = |bits, stamp, actor| Mark {
        place: Range::of(Position(bits), 10),
        stamp: Stamp(stamp),
        actor: Actor(actor),
        content: 7,
    };
    let marks = [mark(4 << 24, 1 << 40, 9), mark(5 << 24, 1 << 30, 7)];
    let word = Word { undone: 20, stamp: Stamp(1 << 40), time: 1_700_000_000_000, signature: Blob(vec![6; 64]) };
    let closing = Closing {
        undone: 20,
        commit: 302,
        stamp: Stamp(1 << 41),
        root: None,
        tally: (4, 0, 1, 300),
        time: 1_700_000_000_001,
        signature: Blob(vec![7; 64]),
    };
    let more = |watermark| OpenMore { receipt: true, members: 5 << 40, horizon: Stamp(9), watermark };
    BTreeMap::from([
        ("01 open", Message::Open(open.clone())),
        ("01 open, for a receipt", Message::Open(Open { more: more(0), ..open.clone() })),
        ("01 open, where records expire", Message::Open(Open { more: more(1_700_000_000_000), ..open })),
        (
            "05 roots, signed",
            Message::Roots(Roots { commit: 301, moved: false, roots: vec![root], word: Some(word.clone()) }),
        ),
        ("11 bye, signed", Message::Bye(Bye { verdict: "in_sync".into(), closing: Some(closing) })),
        (
            "02 accept",
            Message::Accept(Accept {
                rights: Rights::ALL,
                root,
                commit: 300,
                life,
                met: Some(Sighting { nonce: 9, commit: 200 }),
                more: AcceptMore::default(),
            }),
        ),
        (
            "02 accept, of another horizon",
            Message::Accept(Accept {
                rights: Rights::ALL,
                root,
                commit: 300,
                life,
                met: None,
                more: AcceptMore { horizon: Some(horizon()), undone: 77, ..AcceptMore::default() },
            }),
        ),
        (
            "03 refuse",
            Message::Refuse(Refuse { code: RefuseCode::Rights, detail: "write".into(), definition: Blob(vec![1]) }),
        ),
        ("04 ask_roots", Message::AskRoots(AskRoots { after: 3 })),
        ("05 roots", Message::Roots(Roots { commit: 301, moved: true, roots: vec![root, Summary::EMPTY], word: None })),
        ("06 compare", Message::Compare(Compare { id: 1, collection: CollectionId(0), views: Blob(vec![1, 2]) })),
        (
            "07 compared",
            Message::Compared(Compared {
                id: 1,
                last: true,
                views: Blob(vec![1]),
                items: Blob(vec![2]),
                lacking: vec![3, 1 << 60],
                alone: vec![8],
            }),
        ),
        (
            "08 list",
            Message::List(List {
                id: 2,
                collection: CollectionId(0),
                ranges: Blob(pack_ranges(&[Range::ALL])),
                positions: vec![5],
            }),
        ),
        (
            "09 want",
            Message::Want(Want {
                transfer,
                ranges: Blob(vec![]),
                entries: vec![(5, 6)],
                elements: Blob(vec![7; 8]),
                bare: vec![(7, 8)],
                versions: vec![(9, true, vec![(Stamp(10), Actor(11))])],
            }),
        ),
        (
            "10 written",
            Message::Written(Written {
                transfer,
                applied: 1,
                kept: 2,
                moved: 3,
                refused: 1,
                deleted: 5,
                changed: 6,
                samples: vec![(Blob(b"k".to_vec()), "why".into())],
            }),
        ),
        ("11 bye", Message::Bye(Bye { verdict: "in_sync".into(), closing: None })),
        (
            "12 differing",
            Message::Differing(Differing {
                mine: Blob(pack_elements(64, &[Element(1 << 20), Element(2 << 60)])),
                theirs: Blob(pack_elements(64, &[Element(3)])),
                marks: Blob(pack_marks(&marks, Grain::Each)),
                unclear: Blob(pack_ranges(&[Range::of(Position(1 << 60), 10)])),
            }),
        ),
        (
            "13 ask_cells",
            Message::AskCells(AskCells {
                id: 3,
                collection: CollectionId(0),
                ranges: Blob(pack_ranges(&[Range::ALL])),
                from: 32,
                to: 300,
            }),
        ),
        ("14 cells", Message::Cells(Cells { id: 3, last: true, runs: Blob(vec![1]) })),
        (
            "15 offer",
            Message::Offer(Offer {
                transfer,
                marks: Blob(pack_marks(&marks, Grain::Sixteen)),
                whole: Blob(pack_ranges(&[Range::ALL.child(2)])),
                apart: Blob(vec![]),
            }),
        ),
        (
            "16 wanted",
            Message::Wanted(Wanted {
                transfer,
                streams: true,
                newer: (5, 6, 7),
                bare: Blob(pack_places(&[2])),
                lacking: Blob(pack_places(&[1])),
                wanted: Blob(pack_places(&[0, 5])),
                unclear: Blob(pack_places(&[300])),
            }),
        ),
        ("17 met", Message::Met(Met { met: vec![Sighting { nonce: 9, commit: 200 }] })),
        ("19 ask_met", Message::AskMet),
        ("18 recognised", Message::Recognised(Recognised { renewed: true })),
        ("20 raise", Message::Raise(horizon())),
        ("21 raised", Message::Raised(Raising::Behind)),
        (
            "22 named",
            Message::Named(Named {
                theirs: Blob(pack_elements(64, &[Element(3)])),
                each: vec![NamedIn {
                    collection: CollectionId(1),
                    mine: Blob(pack_elements(64, &[Element(2 << 60)])),
                    marks: Blob(pack_marks(&marks, Grain::Each)),
                    unclear: Blob(pack_ranges(&[Range::of(Position(1 << 60), 10)])),
                }],
                open: vec![CollectionId(2)],
            }),
        ),
    ])
}

#[test]
fn sketches() {
    let entry =
        |i: u64| Entry { position: Position(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)), digest: Digest([i as u8; 32]) };
    let (mut lines, mut sketch) = (Vec::new(), Sketch::new(40));
    let elements: Vec<Element> = (1..=100).map(|i| Element::of(&entry(i))).collect();
    elements.iter().for_each(|element| sketch.add(*element));
    lines.push(("an element", elements[0].0.to_be_bytes().to_vec()));
    let mut lone = Sketch::new(1000);
    lone.add(elements[0]);
    let places = (0u16..).zip(lone.cells()).filter(|(_, cell)| cell.count == 1);
    lines.push(("the cells among 1000 that it falls in", places.flat_map(|(place, _)| place.to_be_bytes()).collect()));
    let run = |range, from: usize, cells: &[Cell]| {
        let mut bytes = Vec::new();
        CellRun::new(range, 100, from, cells).encode(&mut bytes);
        bytes
    };
    lines.push(("the first 40 cells of 100 elements", run(Range::ALL, 0, sketch.cells())));
    let mut counted = Vec::new();
    CellRun::counted(Range::ALL, 100, &sketch.cells()[..3]).encode(&mut counted);
    lines.push(("the first 3 of them, counted", counted));
    lines.push((
        "four elements by 40 bits",
        pack_elements(40, &[1, 2, 3 << 30, 1 << 39].map(|place| Element(place << 24 | 0xab))),
    ));
    let range = Range::of(entry(1).position, 3);
    lines.push(("two cells of a range", run(range, 7, &lone.cells()[..2])));
    let mut kept = Vec::new();
    pack(&mut kept, range, 2, 7, &lone.cells()[..2]);
    lines.push(("two cells of a range, kept", kept));
    compare("sketches.tsv", &lines);
}

#[test]
fn frames() {
    let mut lines = Vec::new();
    for (name, message) in messages() {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message));
        lines.push((name, bytes));
    }
    let range = Range::ALL.child(10).child(11).child(12);
    let mut digests = vec![None; 16];
    digests[3] = Some(Digest([9; 32]).cut(6));
    let entry = (Position(range.bits() | 5), Digest([8; 32]).cut(6));
    let views = [
        ("view none", Body::None),
        ("view all", Body::All(300)),
        ("view parts", Body::Parts { levels: 1, width: 6, digests }),
        ("view entries", Body::Entries { width: 6, entries: vec![entry] }),
        ("view rest", Body::Rest { parts: vec![Range::of(entry.0, 10), range.child(4)], digest: Digest([7; 32]) }),
    ];
    for (name, body) in views {
        let (view, mut bytes) = (RangeView { range, body }, Vec::new());
        view.encode(&mut bytes);
        assert_eq!(RangeView::unpack(&bytes), Ok(vec![view]));
        lines.push((name, bytes));
    }
    let version = Version::after(Stamp(1 << 16), Actor(7), []);
    let live = VersionInfo { version, content: Some(Digest([4; 32]).cut(8)), bytes: 5, expires: Some(9) };
    let digest = Some(Digest([6; 32]).cut(8));
    let item = Item { position: Position(5), key: b"key".to_vec(), digest, versions: vec![live], commit: 0 };
    let (item, mut bytes) = (WireItem { item, fresh: true }, Vec::new());
    item.encode(&mut bytes);
    assert_eq!(WireItem::unpack(&bytes), Ok(vec![item]));
    lines.push(("item", bytes));
    let transfer = Transfer(1, CollectionId(0));
    let record = Record { key: b"key".to_vec(), state: State::single(sibling(1 << 16, Some(b"value"))) };
    let guards = [Guard::Join, Guard::IfShort(None), Guard::IfShort(Some(5))];
    let records = guards.map(|guard| Incoming { record: record.clone(), guard }).to_vec();
    let frames = [
        ("records", RecordFrame::Records { transfer, records }),
        ("chunk", RecordFrame::Chunk { transfer, guard: Guard::Join, total: 9, bytes: b"part".to_vec() }),
        ("end", RecordFrame::End { transfer, records: 3, moved: 1 }),
    ];
    for (name, frame) in frames {
        let bytes = frame.encode();
        assert_eq!(RecordFrame::decode(&bytes), Ok(frame));
        lines.push((name, bytes));
    }
    compare("frames.tsv", &lines);
}

/// Each committed line of `invalid.tsv` is refused: by which reader, and why, is in its name.
#[test]
fn what_is_not_understood_is_refused() {
    let deep = [&[7u8][..], &[0x91; 2000]].concat();
    let lines = [
        ("message: empty", vec![]),
        ("message: kind 0", vec![0]),
        ("message: kind 12", vec![12, 0x90]),
        ("message: ask_roots without fields", vec![4]),
        ("message: accept without fields", vec![2, 0x90]),
        ("message: nested beyond reason", deep),
        ("view: depth 17", vec![17, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("view: a digit beyond its depth", vec![1, 0xab]),
        ("view: parts of no level", vec![2 << 5, 6, 0, 0]),
        ("view: parts of width 0", vec![2 << 5, 1 << 6, 0, 0]),
        ("view: entries out of order", [&[3 << 5, 1, 2][..], &[9; 8], &[1], &[8; 8], &[1]].concat()),
        ("view: entries that end early", vec![3 << 5, 1, 200, 1]),
        ("item: unknown flags", [&[0; 8][..], &[0, 8, 0]].concat()),
        ("item: no version", [&[0; 8][..], &[0, 0, 0]].concat()),
        ("item: key beyond its bound", [&[0; 8][..], &[0xff, 0xff, 0xff, 0x7f]].concat()),
        ("frame: kind 3", vec![3, 1, 0]),
        ("frame: end with more behind it", vec![2, 1, 0, 1, 0, 0]),
        ("frame: unknown guard", vec![0, 1, 0, 9]),
        ("state: version 2", vec![2, 1]),
        ("state: no version of a key", vec![1, 0]),
        ("state: unknown flags", [&[1, 1][..], &[0; 16], &[0, 4]].concat()),
        ("definition: version 9", vec![9, 0x90]),
        ("definition: not one", vec![1, 0x90]),
    ];
    for (name, bytes) in &lines {
        let refused = match name.split(':').next() {
            Some("message") => Message::decode(bytes).is_err(),
            Some("view") => RangeView::unpack(bytes).is_err(),
            Some("item") => WireItem::unpack(bytes).is_err(),
            Some("frame") => RecordFrame::decode(bytes).is_err(),
            Some("state") => State::decode(bytes).is_err(),
            _ => Definition::decode(bytes).is_err(),
        };
        assert!(refused, "{name}");
    }
    compare("invalid.tsv", &lines);
}

#[test]
fn journal() {
    let header = |kind| RunHeader { kind, peer: "peer".into(), opener: true, policy: "both".into(), started: 300 };
    let begun = Run::new(header(RunKind::Repair));
    let mut ended = Run::new(header(RunKind::UndoEverywhere(RunId(1))));
    ended.end = Some(RunEnd { ended: 301, verdict: "undone".into() });
    (ended.entries, ended.overwritten, ended.bytes, ended.dropped) = (3, 2, 400, true);
    ended.undone = Some(Undoing { by: RunId(5), at: Some((6, 7)), restored: 2, skipped: 1, done: true });
    let entry = |before: Option<State>, after| {
        let before = before.map(|state| Before { commit: 300, state });
        let mut bytes = Vec::new();
        let (collection, position) = (CollectionId(1), Position(1 << 40));
        JournalEntry { collection, position, key: b"key".to_vec(), before, after }.encode(&mut bytes);
        bytes
    };
    let before = states().remove(0).1;
    let mut filled = Vec::new();
    let (first, last) = (Position(5), Position(1 << 40));
    Filled { collection: CollectionId(1), first, last, count: 300 }.encode(&mut filled);
    let lines = [
        ("run(begun)", begun.encode()),
        ("run(ended and undone)", ended.encode()),
        ("run(of a plan)", Run::new(header(RunKind::Apply)).encode()),
        ("run(of ordinary writes)", Run::new(header(RunKind::Written)).encode()),
        ("run(catching up)", Run::new(header(RunKind::CatchUp)).encode()),
        ("run(of pushes)", Run::new(header(RunKind::Pushed)).encode()),
        ("run(of what was accepted)", Run::new(header(RunKind::Accepted)).encode()),
        ("entry(inserted)", entry(None, Some(7))),
        ("entry(overwrote)", entry(Some(before.clone()), Some(7))),
        ("entry(removed)", entry(Some(before), None)),
        ("filled", filled),
    ];
    for (_, bytes) in &lines[..3] {
        assert_eq!(Run::decode(bytes).map(|run| run.encode()), Ok(bytes.clone()));
    }
    compare("journal.tsv", &lines);
}
