//! Sessions between two nodes: what is found, what moves, what a budget and a stop leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reknit::core::dataset::Collection;
use reknit::core::difference::{Kind, Side as Seen};
use reknit::core::message::Rights;
use reknit::core::session::{Counts, Direction, Intent, Moves, Options as SessionOptions, Planner, Verdict};
use reknit::core::{DatasetId, Definition};
use reknit::node::{Budget, Progress, SessionReport};
use reknit::store::{Durability, Op, Store};
use tokio::sync::watch;

use super::strangers::opening;
use super::support::*;

const REPAIR: Intent = Intent::Repair(Direction::Both);

#[test]
fn a_check_of_equal_stores_is_one_small_round_trip() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 3000);
        let (mine, theirs) = (Counted::new(&a), Counted::new(&b));
        let two = two(theirs.clone(), Rights::COMPARE);
        let report = two.session(mine.clone(), intent(Intent::Check)).await;
        assert_eq!((report.outcome.verdict, report.outcome.counts.flights), (Verdict::InSync, 2));
        assert!(report.traffic.total() <= 200, "{:?}", report.traffic);
        assert_eq!((mine.asked(), theirs.asked()), (2, 1), "roots alone were read");
    });
}

#[test]
fn differences_are_found_exactly_and_only_they_move() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 3000);
        write(&a, (3000..3020).map(key), "only in a");
        write(&b, (4000..4030).map(key), "only in b");
        write(&a, (0..700).step_by(70).map(key), "newer in a");
        b.batch((1..701).step_by(70).map(|nth| Op::delete(key(nth))).collect(), Durability::Buffered).expect("deleted");
        let expected: BTreeSet<Vec<u8>> =
            (3000..3020).chain(4000..4030).chain((0..700).step_by(70)).chain((1..701).step_by(70)).map(key).collect();
        let (mine, theirs) = (Counted::new(&a), Counted::new(&b));
        let two = two(theirs.clone(), Rights::ALL);
        let mut found = BTreeSet::new();
        let (_never, stop) = watch::channel(false);
        let mut note = |progress| {
            if let Progress::Found(difference) = progress {
                assert!(difference.stable && found.insert(difference.key.clone()), "{difference:?}");
            }
        };
        let (node, address) = (&two.client.node, two.server.address());
        let diff = session_with(node, &address, mine.clone(), intent(Intent::Diff), Budget::default(), stop, &mut note);
        assert_eq!(diff.await.expect("an outcome").outcome.verdict, Verdict::Differs);
        assert_eq!(found, expected);
        let report = two.session(mine.clone(), intent(REPAIR)).await;
        assert_eq!(report.outcome.verdict, Verdict::InSync, "{}", report.outcome.reason);
        let counts = &report.outcome.counts;
        assert_eq!((counts.to_mine.applied, counts.to_theirs.applied), (40, 30));
        for moves in [counts.to_mine, counts.to_theirs] {
            assert_eq!(moves.offered, moves.applied + moves.kept + moves.moved + moves.refused);
            assert_eq!(moves.offered, moves.applied);
        }
        // As the receiving stores counted it.
        assert_eq!((mine.applied(), theirs.applied()), (40, 30));
        assert_eq!(contents(&a), contents(&b));
        assert_sound(&a);
        assert_sound(&b);
    });
}

#[test]
fn one_side_alone_is_written_and_a_mirror_is_the_other_side() {
    run(async {
        for to in [Seen::Mine, Seen::Theirs] {
            let (a, b) = (store(), store());
            plant(&[&a, &b], 500);
            write(&a, (500..520).map(key), "only in a");
            write(&b, (600..630).map(key), "only in b");
            let two = two(Counted::new(&b), Rights::ALL);
            let (root_a, root_b) = (a.root(), b.root());
            let report = two.session(Counted::new(&a), intent(Intent::Repair(Direction::To(to)))).await;
            assert_eq!(report.outcome.verdict, Verdict::Differs);
            let (mine, theirs) = (report.outcome.counts.to_mine.applied, report.outcome.counts.to_theirs.applied);
            assert_eq!((mine, theirs), if to == Seen::Mine { (30, 0) } else { (0, 20) });
            assert_eq!((a.root() == root_a, b.root() == root_b), (to == Seen::Theirs, to == Seen::Mine));
            let source = if to == Seen::Mine { contents(&b) } else { contents(&a) };
            let mirror = SessionOptions { mirror: Some(to), ..intent(REPAIR) };
            let report = two.session(Counted::new(&a), mirror).await;
            assert_eq!(report.outcome.verdict, Verdict::InSync, "{}", report.outcome.reason);
            assert_eq!((contents(&a), contents(&b)), (source.clone(), source));
        }
    });
}

#[test]
fn an_empty_side_is_filled_and_large_values_travel_in_chunks() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 5000);
        let large: Vec<u8> =
            (0..5_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(5 << 20).collect();
        a.put(b"large", &large).expect("put");
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let report = two.session(Counted::new(&a), intent(REPAIR)).await;
        assert_eq!((report.outcome.verdict, theirs.applied()), (Verdict::InSync, 5001));
        assert!(report.traffic.control() < 900, "an empty side is streamed to without questions: {:?}", report.traffic);
        assert_eq!(b.get(b"large").expect("read"), Some(large));
        assert_sound(&b);
    });
}

#[test]
fn a_budget_and_a_stop_end_with_what_is_known() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 5000);
        write(&a, (0..5000).step_by(9).map(key), "newer");
        let two = two(Counted::new(&b), Rights::ALL);
        let (node, address) = (&two.client.node, two.server.address());
        let (_never, going) = watch::channel(false);
        let mut silent = |_| ();
        let budget = Budget { bytes: Some(6000), ..Budget::default() };
        let ran = session_with(node, &address, Counted::new(&a), intent(REPAIR), budget, going.clone(), &mut silent);
        let outcome = ran.await.expect("an outcome").outcome;
        assert!(matches!(outcome.verdict, Verdict::Partial | Verdict::Undetermined), "{:?}", outcome.verdict);
        assert!(outcome.coverage_millionths < 1_000_000);
        let (stop, stopped) = watch::channel(true);
        let ran =
            session_with(node, &address, Counted::new(&a), intent(REPAIR), Budget::default(), stopped, &mut silent);
        assert_eq!(ran.await.expect("an outcome").outcome.verdict, Verdict::Undetermined);
        drop(stop);
        assert_sound(&b);
        let report = two.session(Counted::new(&a), intent(REPAIR)).await;
        assert_eq!((report.outcome.verdict, contents(&a) == contents(&b)), (Verdict::InSync, true));
    });
}

/// Records that both sides have before they drift.
const PLANTED: usize = 3000;
/// Keys that differ after [`drifted`].
const DIFFERENT: u64 = 5 + 7 + 11 + 13 + 2 + 3;

/// Two sides that drifted apart, a node for each, and how each key differs.
struct Drifted {
    mine: Store,
    theirs: Store,
    near: Arc<Counted>,
    far: Arc<Counted>,
    two: Two,
    kinds: BTreeMap<Vec<u8>, Kind>,
}

fn drifted() -> Drifted {
    let (mine, theirs) = (store(), store());
    plant(&[&mine, &theirs], PLANTED);
    let mut kinds = BTreeMap::new();
    let mut note = |keys: &[Vec<u8>], kind| kinds.extend(keys.iter().map(|key| (key.clone(), kind)));
    let keys = |begin: usize, count: usize| (begin..begin + count).map(key).collect::<Vec<_>>();
    let put = |store: &Store, keys: &[Vec<u8>], value: &str| write(store, keys.iter().cloned(), value);
    for (store, side, begin, only, newer) in [(&mine, Seen::Mine, 0, 5, 11), (&theirs, Seen::Theirs, 100, 7, 13)] {
        let new = keys(10_000 + begin, only);
        put(store, &new, "new");
        note(&new, Kind::Only(side));
        let changed = keys(begin, newer);
        put(store, &changed, "changed");
        note(&changed, Kind::Newer(side));
    }
    let gone = keys(200, 2);
    theirs.batch(gone.iter().cloned().map(Op::delete).collect(), Durability::Buffered).expect("deleted");
    note(&gone, Kind::Newer(Seen::Theirs));
    let both = keys(300, 3);
    put(&mine, &both, "mine");
    put(&theirs, &both, "theirs");
    // Which of the two is newer is for the stores' clocks to say.
    note(&both, Kind::Concurrent(Seen::Mine));
    let (near, far) = (Counted::new(&mine), Counted::new(&theirs));
    let two = two(far.clone(), Rights::ALL);
    Drifted { mine, theirs, near, far, two, kinds }
}

/// Runs a session and gathers what it found.
async fn found(two: &Two, near: Arc<Counted>, options: SessionOptions) -> (SessionReport, BTreeMap<Vec<u8>, Kind>) {
    let mut found = BTreeMap::new();
    let mut note = |progress| {
        if let Progress::Found(difference) = progress {
            let kind = match difference.kind {
                Kind::Concurrent(_) => Kind::Concurrent(Seen::Mine),
                other => other,
            };
            assert_eq!(found.insert(difference.key, kind), None, "each is told once");
        }
    };
    let (_never, stop) = watch::channel(false);
    let address = two.server.address();
    let budget = Budget::default();
    let report = session_with(&two.client.node, &address, near, options, budget, stop, &mut note).await;
    (report.expect("an outcome"), found)
}

fn assert_adds_up(counts: &Counts) {
    for moves in [counts.to_mine, counts.to_theirs] {
        let Moves { offered, applied, kept, moved, refused } = moves;
        assert_eq!(offered, applied + kept + moved + refused, "{counts:?}");
    }
}

#[test]
fn a_check_of_stores_that_differ_estimates_and_changes_nothing() {
    run(async {
        let drifted = drifted();
        let roots = (drifted.mine.root(), drifted.theirs.root());
        let report = drifted.two.session(drifted.near.clone(), intent(Intent::Check)).await;
        let estimate = report.outcome.estimate.expect("an estimate");
        assert_eq!(report.outcome.verdict, Verdict::Differs);
        assert!((estimate.low..=estimate.high).contains(&DIFFERENT), "{estimate:?}");
        assert_eq!((report.outcome.root_mine.count, report.outcome.root_theirs.count), (roots.0.count, roots.1.count));
        assert_eq!((drifted.mine.root(), drifted.theirs.root()), roots);
    });
}

#[test]
fn a_diff_tells_every_difference_once_and_changes_nothing() {
    run(async {
        let drifted = drifted();
        let roots = (drifted.mine.root(), drifted.theirs.root());
        let (report, found) = found(&drifted.two, drifted.near.clone(), intent(Intent::Diff)).await;
        assert_eq!((report.outcome.verdict, report.outcome.coverage_millionths), (Verdict::Differs, 1_000_000));
        assert_eq!(found, drifted.kinds);
        let counts = &report.outcome.counts;
        assert_eq!((counts.only_mine, counts.only_theirs, counts.concurrent), (5, 7, 3));
        assert_eq!((counts.mine_newer + counts.theirs_newer, counts.differences()), (11 + 13 + 2 + 3, DIFFERENT));
        assert_eq!(report.traffic.total(), report.traffic.control(), "no record travels");
        assert_eq!((drifted.mine.root(), drifted.theirs.root()), roots);
        assert_eq!((drifted.near.applied(), drifted.far.applied()), (0, 0));
    });
}

#[test]
fn a_repair_moves_what_differs_and_nothing_else() {
    run(async {
        let drifted = drifted();
        let (report, found) = found(&drifted.two, drifted.near.clone(), intent(REPAIR)).await;
        let counts = &report.outcome.counts;
        assert_eq!(report.outcome.verdict, Verdict::InSync, "{}", report.outcome.reason);
        assert_eq!(drifted.mine.root(), drifted.theirs.root());
        assert_eq!(contents(&drifted.mine), contents(&drifted.theirs));
        assert!(found.iter().all(|(key, kind)| drifted.kinds.get(key) == Some(kind)));
        assert_adds_up(counts);
        assert_eq!((counts.to_mine.applied, counts.to_theirs.applied), (drifted.near.applied(), drifted.far.applied()));
        assert_eq!(counts.to_mine.applied + counts.to_theirs.applied, DIFFERENT);
        assert_eq!(counts.to_mine.offered + counts.to_theirs.offered, DIFFERENT);
        assert_sound(&drifted.mine);
        assert_sound(&drifted.theirs);
        let again = drifted.two.session(drifted.near.clone(), intent(REPAIR)).await;
        assert_eq!((again.outcome.verdict, again.outcome.counts.flights), (Verdict::InSync, 3), "and goodbye");
        assert_eq!((drifted.near.applied() + drifted.far.applied(), again.traffic.records_sent), (DIFFERENT, 0));
    });
}

#[test]
fn a_repair_of_one_side_leaves_the_other_as_it_is() {
    run(async {
        for side in [Seen::Mine, Seen::Theirs] {
            let drifted = drifted();
            let (written, other) = match side {
                Seen::Mine => (&drifted.mine, &drifted.theirs),
                Seen::Theirs => (&drifted.theirs, &drifted.mine),
            };
            let (root, before) = (other.root(), contents(other));
            let report = drifted.two.session(drifted.near.clone(), intent(Intent::Repair(Direction::To(side)))).await;
            let counts = &report.outcome.counts;
            assert_eq!(other.root(), root);
            assert_eq!(report.outcome.verdict, Verdict::Differs, "what the other side lacks is left");
            assert_adds_up(counts);
            let applied = (drifted.near.applied(), drifted.far.applied());
            assert_eq!(applied, (counts.to_mine.applied, counts.to_theirs.applied));
            assert_eq!(applied.0 + applied.1 + counts.left, DIFFERENT, "{counts:?}");
            // All that the other side has newer is there, and only what it lacks or has older is not as there.
            let after = contents(written);
            let differing = before.iter().filter(|(key, value)| after.get(*key) != Some(value)).count();
            let extra = after.keys().filter(|key| !before.contains_key(*key)).count();
            assert_eq!((differing + extra) as u64, counts.left);
            assert_sound(written);
            let back = if side == Seen::Mine { Seen::Theirs } else { Seen::Mine };
            let report = drifted.two.session(drifted.near.clone(), intent(Intent::Repair(Direction::To(back)))).await;
            assert_eq!(report.outcome.verdict, Verdict::InSync);
            assert_eq!(drifted.near.applied() + drifted.far.applied(), DIFFERENT);
        }
    });
}

#[test]
fn a_mirror_is_exactly_the_other_side() {
    run(async {
        for side in [Seen::Mine, Seen::Theirs] {
            let drifted = drifted();
            let (mirror, source) = match side {
                Seen::Mine => (&drifted.mine, &drifted.theirs),
                Seen::Theirs => (&drifted.theirs, &drifted.mine),
            };
            let before = contents(source);
            assert_ne!(contents(mirror), before);
            let options = SessionOptions { mirror: Some(side), ..intent(REPAIR) };
            let report = drifted.two.session(drifted.near.clone(), options).await;
            assert_eq!(report.outcome.verdict, Verdict::InSync, "{}", report.outcome.reason);
            assert_adds_up(&report.outcome.counts);
            assert!(contents(source) == before && contents(mirror) == before, "{side:?}");
            assert_eq!(drifted.mine.root(), drifted.theirs.root());
            assert_sound(&drifted.mine);
            assert_sound(&drifted.theirs);
        }
    });
}

#[test]
fn an_empty_side_is_filled_and_two_empty_sides_are_equal() {
    run(async {
        for (here, there) in [(PLANTED, 0), (0, PLANTED), (0, 0)] {
            let (mine, theirs) = (store(), store());
            plant(&[&mine], here);
            plant(&[&theirs], there);
            let two = two(Counted::new(&theirs), Rights::ALL);
            let report = two.session(Counted::new(&mine), intent(REPAIR)).await;
            let counts = &report.outcome.counts;
            assert_eq!((report.outcome.verdict, mine.root()), (Verdict::InSync, theirs.root()));
            assert_eq!((counts.only_mine, counts.only_theirs), (here as u64, there as u64));
            assert_eq!((counts.to_theirs.applied, counts.to_mine.applied), (here as u64, there as u64));
            assert_adds_up(counts);
            assert_eq!(contents(&mine).len(), here + there);
        }
    });
}

#[test]
fn large_values_travel_in_pieces_both_ways() {
    run(async {
        let (mine, theirs) = (store(), store());
        // Of a kind that does not compress, so that the bytes on the lanes tell what travelled.
        let noise = |seed: u64| {
            let mut hash = reknit::core::DatasetKey::from_bytes([seed as u8; 32]).as_bytes().to_vec();
            let mut state = seed;
            hash.resize_with(5 << 20, || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            hash
        };
        let values = [noise(1), noise(2), noise(3)];
        mine.put(b"large", &values[0]).expect("written");
        theirs.put(b"larger", &values[1]).expect("written");
        theirs.put(b"another", &values[2]).expect("written");
        plant(&[&mine], 100);
        let two = two(Arc::new(theirs.clone()), Rights::ALL);
        let report = two.session(Arc::new(mine.clone()), intent(REPAIR)).await;
        assert_eq!((report.outcome.verdict, mine.root()), (Verdict::InSync, theirs.root()));
        assert_adds_up(&report.outcome.counts);
        assert_eq!((report.outcome.counts.to_mine.applied, report.outcome.counts.to_theirs.applied), (2, 101));
        for store in [&mine, &theirs] {
            for (key, value) in ["large", "larger", "another"].iter().zip(&values) {
                assert!(store.get(key.as_bytes()).expect("read").as_ref() == Some(value), "{key}");
            }
        }
        let traffic = report.traffic;
        assert!(traffic.records_received >= 10 << 20 && traffic.records_received < 11 << 20, "{traffic:?}");
        assert!(traffic.records_sent >= 5 << 20 && traffic.records_sent < 6 << 20, "{traffic:?}");
    });
}

#[test]
fn several_collections_are_repaired_each_in_itself() {
    run(async {
        let names = ["users", "orders", "logs", "empty"];
        let collections = names.map(|name| Collection { name: name.into(), policy: "newest/1".into() });
        let shop = Definition { collections: collections.into(), ..Definition::simple(DatasetId([3; 16]), "shop") };
        let (mine, theirs) = (store_of(shop.clone()), store_of(shop));
        let put = |store: &Store, name: &str, count: usize| {
            let ops = (0..count).map(|nth| Op::put(key(nth), name)).collect();
            store.collection(name).expect("there").batch(ops, Durability::Buffered).expect("written");
        };
        put(&mine, "users", 300);
        put(&theirs, "orders", 200);
        put(&theirs, "users", 1);
        put(&mine, "logs", 40);
        let (near, far) = (Counted::new(&mine), Counted::new(&theirs));
        let two = two(far.clone(), Rights::ALL);
        let check = two.session(near.clone(), intent(Intent::Check)).await;
        assert_eq!(check.outcome.verdict, Verdict::Differs);
        let diff = two.session(near.clone(), intent(Intent::Diff)).await;
        let counts = &diff.outcome.counts;
        assert_eq!((counts.only_mine, counts.only_theirs), (299 + 40, 200));
        assert_eq!((counts.versions, counts.differences()), (1, 540), "one key has one value under two versions");
        let repair = two.session(near.clone(), intent(REPAIR)).await;
        assert_eq!((repair.outcome.verdict, mine.root()), (Verdict::InSync, theirs.root()));
        assert_eq!(near.applied() + far.applied(), 540);
        assert_adds_up(&repair.outcome.counts);
        for (name, count) in names.iter().zip([300, 200, 40, 0]) {
            let rows = |store: &Store| -> Vec<_> {
                let rows = store.collection(name).expect("there").scan(b"").expect("scanned");
                rows.map(|row| row.expect("a row")).collect()
            };
            assert_eq!(rows(&mine).len(), count, "{name}");
            assert!(rows(&mine) == rows(&theirs), "{name}");
        }
        let check = two.session(near, intent(Intent::Check)).await;
        assert_eq!((check.outcome.verdict, check.outcome.counts.flights), (Verdict::InSync, 2));
    });
}

#[test]
fn a_budget_of_bytes_ends_a_session_with_what_is_proven() {
    run(async {
        // Ranges are compared, so that what is proven grows bit by bit.
        let planner = Planner { opening: 0, ..Planner::default() };
        let by_ranges = |intended| SessionOptions { planner, ..intent(intended) };
        const BYTES: u64 = 30_000;
        let (mine, theirs) = (store(), store());
        plant(&[&mine, &theirs], 20_000);
        write(&theirs, (0..20_000).step_by(40).map(key), "changed");
        let two = two(Arc::new(theirs.clone()), Rights::ALL);
        let address = two.server.address();
        let run = async |intended, bytes| {
            let (_never, stop) = watch::channel(false);
            let budget = Budget { bytes: Some(bytes), ..Budget::default() };
            let side = Arc::new(mine.clone());
            let report =
                session_with(&two.client.node, &address, side, by_ranges(intended), budget, stop, &mut |_| ()).await;
            report.expect("an outcome")
        };
        for intended in [Intent::Diff, REPAIR] {
            let report = run(intended, BYTES).await;
            let coverage = report.outcome.coverage_millionths;
            assert_eq!(report.outcome.verdict, Verdict::Partial);
            assert!(coverage > 0 && coverage < 1_000_000, "{coverage}");
            assert!(report.traffic.total() >= BYTES);
            assert_ne!(mine.root(), theirs.root());
            assert_sound(&mine);
        }
        assert_eq!(run(REPAIR, u64::MAX).await.outcome.verdict, Verdict::InSync);
        assert_eq!(mine.root(), theirs.root());
    });
}

#[test]
fn a_session_that_is_stopped_says_how_far_it_came() {
    run(async {
        let (mine, theirs) = (store(), store());
        plant(&[&mine, &theirs], 20_000);
        write(&theirs, (0..20_000).step_by(3).map(key), "changed");
        let two = two(Arc::new(theirs.clone()), Rights::ALL);
        let address = two.server.address();
        // At once, and at the first difference.
        for at_once in [true, false] {
            let (stop, stopped) = watch::channel(at_once);
            let mut differences = 0;
            let mut progress = |progress| {
                if let Progress::Counted(counts, _) = progress {
                    differences = counts.differences();
                }
                if differences > 0 {
                    stop.send_replace(true);
                }
            };
            let (side, budget) = (Arc::new(mine.clone()), Budget::default());
            let report =
                session_with(&two.client.node, &address, side, intent(REPAIR), budget, stopped, &mut progress).await;
            let outcome = report.expect("an outcome").outcome;
            if at_once {
                assert_eq!((outcome.verdict, outcome.coverage_millionths), (Verdict::Undetermined, 0));
                assert_eq!(outcome.counts.to_mine, Moves::default());
            } else {
                assert_eq!(outcome.verdict, Verdict::Partial);
                assert!(outcome.coverage_millionths < 1_000_000);
            }
            assert_ne!(mine.root(), theirs.root());
        }
        let report = two.session(Arc::new(mine.clone()), intent(REPAIR)).await;
        assert_eq!((report.outcome.verdict, mine.root()), (Verdict::InSync, theirs.root()));
    });
}

#[test]
fn a_node_that_stops_says_so() {
    run(async {
        let server = peer(true);
        let (serving, stop) = serve(&server.node, Counted::new(&store()));
        let client = peer(false);
        server.admit(client.node.peer(), Rights::ALL);
        let connection = client.node.connect(&server.address()).await.expect("connected");
        let mut link = connection.open().await.expect("opened");
        // The node has taken up the first link, which says no more.
        link.control.writer.write(&opening(&store()).encode()).await.expect("written");
        assert!(link.control.reader.read().await.expect("accepted").is_some());
        let second = connection.open().await.expect("opened");
        let (_keep, running) = tokio::sync::watch::channel(false);
        let side: Arc<dyn reknit::store::Side> = Arc::new(store());
        reknit::node::open_session(side, second, intent(Intent::Check), Budget::default(), running, &mut |_| {})
            .await
            .expect("a report");
        stop.send(true).expect("it serves");
        serving.await.expect("ended").expect("served to the end");
        connection.closed().await;
        let why = (link.closed)().map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("shut down"), "{why}");
    });
}
