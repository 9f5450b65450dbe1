use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::bounds::VALUE_BYTES_MAX;
use crate::record::{Actor, Version};
use crate::row::{Json, encode};
use crate::stamp::Stamp;

fn value(json: &str) -> Vec<u8> {
    let mut row = Row::new();
    for (name, value) in Json::columns(json).expect("columns") {
        row.set(name, value).expect("set");
    }
    encode(&row)
}

fn live(json: &str) -> Content {
    Content::Live(value(json))
}

/// Concurrent versions, the newest first; each of an actor of its own.
fn set(contents: &[Content]) -> Vec<Sibling> {
    let sibling = |(nth, content): (usize, &Content)| {
        let stamp = Stamp::at(1000 * (contents.len() - nth) as u64);
        Sibling { version: Version::after(stamp, Actor(nth as u64), []), content: content.clone(), expires: None }
    };
    contents.iter().enumerate().map(sibling).collect()
}

fn judge(id: &str, contents: &[Content]) -> Judgement {
    named(id).expect("a policy").judge(&set(contents))
}

const MERGE: &str = "merge/1 at;high=maximum;hits=counter;low=minimum;tags=set";

fn all() -> Vec<Arc<dyn Policy>> {
    let ids = [NEWEST, KEEP_BOTH, ASK, "largest/1 n", "smallest/1 n", "newest/1 n", MERGE, "merge/1 at"];
    ids.iter().map(|id| named(id).expect(id)).collect()
}

#[test]
fn policies_have_one_text_each() {
    for policy in all() {
        assert_eq!(named(policy.id()).expect("known").id(), policy.id());
    }
    assert!(named("largest/1 a column; of =any\\ name").is_ok());
    for wrong in [
        "",
        "newest",
        "newest/2",
        "largest/1",
        "largest/1 ",
        "keep-both/1 x",
        "ask/1 ",
        "merge/1",
        "merge/1 ",
        "merge/1 at;",
        "merge/1 at;b=set;a=set",
        "merge/1 at;a=set;a=set",
        "merge/1 at;at=set",
        "merge/1 at;a=list",
        "merge/1 at;a",
        "merge/1 at;a=b=set",
        "merge/1 at\\",
        "merge/1 a\\t",
        "merge/1 a=t",
    ] {
        let refused = named(wrong).expect_err(wrong).to_string();
        assert!(refused.contains("is no policy; there are newest/1"), "{refused}");
    }
    let odd = "merge/1 a\\;t;\\\\=set;b\\=c=counter";
    assert_eq!(named(odd).expect("escaped").id(), odd);
    assert!(named(&format!("largest/1 {}", "x".repeat(POLICY_BYTES_MAX))).is_err());
}

#[test]
fn one_column_chooses() {
    let (small, large) = (live(r#"{"n":2,"x":"small"}"#), live(r#"{"n":2.5,"x":"large"}"#));
    assert_eq!(judge("largest/1 n", &[small.clone(), large.clone()]), Judgement::Version(1));
    assert_eq!(judge("smallest/1 n", &[small.clone(), large.clone()]), Judgement::Version(0));
    assert_eq!(
        judge("newest/1 n", &[large.clone(), small.clone(), large.clone()]),
        Judgement::Version(0),
        "the newest of equals"
    );
    assert_eq!(judge("largest/1 n", &[Content::Tombstone, small.clone()]), Judgement::Version(1), "live wins");
    assert_eq!(judge("largest/1 n", &[Content::Tombstone, Content::Tombstone]), Judgement::Version(0));
    let open = |why| Judgement::Open { shown: 1, why: Why::Failed(why) };
    let lacks = || PolicyError::NoColumn("n".into());
    assert_eq!(judge("largest/1 n", &[small.clone(), live(r#"{"m":1}"#)]), open(lacks()));
    assert_eq!(judge("largest/1 n", &[live(r#"{"n":null}"#), small.clone()]), open(lacks()));
    assert_eq!(judge("largest/1 n", &[Content::Live(b"bytes".to_vec()), small.clone()]), open(PolicyError::NoRow));
    assert_eq!(judge("largest/1 n", &[live("{}")]), Judgement::Version(0), "alone, it needs no column");
}

#[test]
fn all_are_kept_and_the_newest_live_or_the_oldest_is_shown() {
    let contents = [Content::Tombstone, live(r#"{"n":1}"#), live(r#"{"n":2}"#)];
    assert_eq!(judge(NEWEST, &contents), Judgement::Version(0));
    assert_eq!(judge(KEEP_BOTH, &contents), Judgement::Version(1));
    assert_eq!(judge(ASK, &contents), Judgement::Open { shown: 2, why: Why::Asks });
    assert_eq!(judge(ASK, &contents[..1]), Judgement::Version(0));
}

#[test]
fn columns_are_merged_by_their_stamps_and_kinds() {
    let merged = |contents: &[&str]| {
        let contents: Vec<Content> = contents.iter().map(|json| live(json)).collect();
        let set = set(&contents);
        match named(MERGE).expect("a policy").judge(&set).seen(&set).0 {
            Content::Live(value) => crate::row::decode(value).expect("a row"),
            Content::Tombstone => unreachable!("one is live"),
        }
    };
    let row = |json: &str| crate::row::decode(&value(json)).expect("a row");
    // Each column of who wrote it last; what was removed stays away.
    assert_eq!(
        merged(&[
            r#"{"at":{"name":5,"old":9},"name":"new?","street":"here"}"#,
            r#"{"at":{"name":7,"old":8},"name":"newest","old":"gone"}"#,
        ]),
        row(r#"{"at":{"name":7,"old":9},"name":"newest","street":"here"}"#)
    );
    // A column without a stamp counts with that of its version: 2000 ms and 1000 ms here.
    assert_eq!(
        merged(&[r#"{"at":{},"name":"b"}"#, r#"{"at":{"name":1500},"name":"a"}"#]).get("name"),
        Some(&Value::Text("b".into()))
    );
    assert_eq!(
        merged(&[r#"{"at":{},"name":"b"}"#, r#"{"at":{"name":2500},"name":"a"}"#]).get("name"),
        Some(&Value::Text("a".into()))
    );
    assert_eq!(
        merged(&[
            r#"{"at":{},"high":1,"hits":{"a":3,"b":1},"low":5,"tags":["x","y,]"]}"#,
            r#"{"at":{},"high":1.5,"hits":{"b":4},"low":4,"tags":["w","x"]}"#,
        ]),
        row(r#"{"at":{},"high":1.5,"hits":{"a":3,"b":4},"low":4,"tags":["w","x","y,]"]}"#)
    );
    let wrong = |column: &str, wanted| Judgement::Open {
        shown: 1,
        why: Why::Failed(PolicyError::Column { column: column.into(), wanted }),
    };
    let fine = live(r#"{"at":{}}"#);
    assert_eq!(judge(MERGE, &[fine.clone(), live(r#"{"at":3}"#)]), wrong("at", "an object of stamps"));
    assert_eq!(judge(MERGE, &[fine.clone(), live(r#"{"at":{"x":[1]}}"#)]), wrong("at", "an object of stamps"));
    assert_eq!(
        judge(MERGE, &[fine.clone(), live(r#"{"at":{},"hits":7}"#)]),
        wrong("hits", "an object of whole numbers")
    );
    assert_eq!(judge(MERGE, &[fine.clone(), live(r#"{"at":{},"tags":"x"}"#)]), wrong("tags", "a list"));
    assert_eq!(
        judge(MERGE, &[fine, live("{}")]),
        Judgement::Open { shown: 1, why: Why::Failed(PolicyError::NoColumn("at".into())) }
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn built_in_policies_keep_the_laws(
        drawn in proptest::collection::vec((0i64..4, 0u64..9, 0u64..9, 0u8..8), 1..5), seed: u64,
    ) {
        let content = |(n, a, b, odd): (i64, u64, u64, u8)| match odd {
            0 => Content::Live(vec![1, 2, 3]),
            1 => live(&format!(r#"{{"m":{n}}}"#)),
            _ => live(&format!(
                r#"{{"at":{{"n":{a},"x":{b}}},"high":{a},"hits":{{"p":{a},"q":{b}}},"low":{b},"n":{n},"tags":[{a},{b}],"x":{b}}}"#
            )),
        };
        let contents: Vec<Content> = drawn.into_iter().map(content).collect();
        for policy in all() {
            prop_assert_eq!(policy_laws(&*policy, &contents, seed), Ok(()), "{}", policy.id());
        }
    }

}

proptest! {
    /// What is merged is a function of the set: whoever joins it with its parts again sees the same.
    #[test]
    fn a_merge_of_counters_and_sets_never_shrinks(counts in proptest::collection::vec((0u64..20, 0u64..20), 2..6)) {
        let contents: Vec<Content> =
            counts.iter().map(|(a, b)| live(&format!(r#"{{"at":{{}},"hits":{{"p":{a},"q":{b}}},"tags":[{a},{b}]}}"#))).collect();
        let set = set(&contents);
        let judged = named(MERGE).expect("a policy").judge(&set);
        let Content::Live(value) = judged.seen(&set).0 else { panic!("live") };
        let row = crate::row::decode(value).expect("a row");
        let (p, q) = (counts.iter().map(|c| c.0).max(), counts.iter().map(|c| c.1).max());
        let hits = format!(r#"{{"p":{},"q":{}}}"#, p.expect("some"), q.expect("some"));
        prop_assert_eq!(row.get("hits"), Some(&Value::Json(Json::parse(&hits).expect("json"))));
        let Some(Value::Json(tags)) = row.get("tags") else { panic!("tags") };
        let mut all: Vec<String> = counts.iter().flat_map(|(a, b)| [a.to_string(), b.to_string()]).collect();
        all.sort();
        all.dedup();
        prop_assert_eq!(tags.elements().expect("a list"), all);
    }
}

/// Breaks one law or another.
#[derive(Debug)]
enum Bad {
    /// Remembers what it was asked before.
    Remembers(AtomicUsize),
    /// Chooses beyond the end.
    Beyond,
    /// Always shows a tombstone.
    Forgets,
    /// Has room for six versions.
    Six,
    /// Chooses the sixth of more.
    Beyond6,
    /// Goes by the order of a map that is drawn anew each time.
    Random,
    /// Takes values for text.
    Text,
    /// Makes more than fits.
    Long,
    /// Breaks nothing but is called this.
    Called(&'static str),
}

impl Policy for Bad {
    fn id(&self) -> &str {
        if let Bad::Called(id) = self { id } else { "bad/1" }
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        match self {
            Bad::Remembers(asked) if versions.len() > 1 => {
                Judgement::Version(asked.fetch_add(1, Ordering::Relaxed) % 2)
            }
            Bad::Beyond if versions.len() > 2 => Judgement::Version(versions.len()),
            Bad::Forgets => Judgement::Made(Content::Tombstone, None),
            Bad::Six => Judgement::Version([0, 0, 0, 0, 0, 0][versions.len() - 1]),
            Bad::Beyond6 if versions.len() > 6 => Judgement::Version(32),
            Bad::Random => {
                let random = std::collections::hash_map::RandomState::new();
                let hash = |nth: &usize| std::hash::BuildHasher::hash_one(&random, nth);
                Judgement::Version((0..versions.len()).min_by_key(hash).expect("a version"))
            }
            Bad::Text => {
                let text =
                    |sibling: &Sibling| sibling.value().map(|value| String::from_utf8(value.clone()).expect("text"));
                let texts: Vec<_> = versions.iter().map(text).collect();
                Judgement::Version((0..texts.len()).max_by_key(|nth| &texts[*nth]).expect("a version"))
            }
            Bad::Long if versions.len() > 1 => Judgement::Made(Content::Live(vec![0; VALUE_BYTES_MAX + 1]), None),
            _ => Judgement::Version(0),
        }
    }
}

#[test]
fn each_law_is_seen_broken() {
    let contents = [live(r#"{"n":1}"#), live(r#"{"n":2}"#)];
    let broken = |bad: Bad| policy_laws(&bad, &contents, 1).expect_err("broken");
    assert!(matches!(broken(Bad::Remembers(AtomicUsize::new(0))), LawBroken::TwoAnswers(set) if set.len() == 2));
    assert!(matches!(broken(Bad::Beyond), LawBroken::NoSuchVersion(set) if set.len() == 3));
    assert!(matches!(broken(Bad::Forgets), LawBroken::NotItself(set) if set.len() == 1));
    assert!(matches!(broken(Bad::Beyond6), LawBroken::NoSuchVersion(set) if set.len() == 7));
    assert!(matches!(broken(Bad::Random), LawBroken::TwoAnswers(set) if set.len() > 1));
    assert!(matches!(broken(Bad::Long), LawBroken::TooLong(set) if set.len() == 2));
    for panics in [Bad::Six, Bad::Text] {
        let asked = std::panic::AssertUnwindSafe(|| policy_laws(&panics, &contents, 1));
        assert!(std::panic::catch_unwind(asked).is_err(), "{panics:?}");
    }
}

#[test]
fn an_id_is_a_name_with_a_version_that_is_not_taken() {
    let contents = [live(r#"{"n":1}"#)];
    let laws = |id| policy_laws(&Bad::Called(id), &contents, 1);
    for id in ["mine/1", "mine/12 of two words", "my-own/1 a/b", NEWEST] {
        assert_eq!(laws(id), Ok(()), "{id}");
    }
    let long: &'static str = Box::leak(format!("mine/1 {}", "x".repeat(POLICY_BYTES_MAX)).into_boxed_str());
    for id in ["", "mine", "mine/", "/1", "mine/one", " mine/1", long] {
        assert_eq!(laws(id), Err(LawBroken::NoId(id.to_string())));
    }
    for id in [KEEP_BOTH, ASK, "largest/1 n", MERGE] {
        assert!(matches!(laws(id), Err(LawBroken::NotAsBuiltIn(_))), "{id}");
    }
}

/// What changes between two times is noticed, though it stays the same for as long as it is asked.
#[test]
fn what_depends_on_the_time_is_noticed_later() {
    let contents = [live(r#"{"n":1}"#)];
    let judged = judged(&Hour(0), &contents, 1).expect("it keeps the laws within the hour");
    assert_eq!(judged.again(&Hour(0)), Ok(()));
    assert!(matches!(judged.again(&Hour(1)), Err(LawBroken::TwoAnswers(set)) if set.len() > 1));
}

#[derive(Debug)]
struct Hour(usize);

impl Policy for Hour {
    fn id(&self) -> &str {
        "hour/1"
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        Judgement::Version(self.0 % versions.len())
    }
}

#[test]
fn a_program_may_bring_a_policy() {
    let policies = Policies::default().with(Arc::new(Bad::Beyond));
    assert_eq!(policies.get("bad/1").expect("brought").id(), "bad/1");
    assert_eq!(policies.get(ASK).expect("built in").id(), ASK);
    assert_eq!(policies.get("bad/2").expect_err("unknown").text, "bad/2");
}
