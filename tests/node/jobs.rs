//! Jobs of nodes that live in a program: when they begin, what ends them, what is told of them.

use std::sync::Arc;
use std::time::Duration;

use reknit::core::agenda::{DayBudget, RunVerdict};
use reknit::core::message::Rights;
use reknit::core::objective::State;
use reknit::core::session::Verdict;
use reknit::node::Node;
use reknit::node::embed::{EmbedError, Job, Running};
use reknit::transport::{Address, BYTES_MIN, RateLimits, Rates};

use super::embed::{HOUR, alone, joined, until};
use super::support::*;

#[test]
fn sessions_and_jobs_of_a_program_keep_to_the_brakes_of_its_node() {
    run(async {
        let desk = alone().await;
        for nth in 0..100u8 {
            desk.put("todo/items", &[nth], b"a value").await.expect("put");
        }
        let (phone, at) = joined(&desk).await;
        // Filling is never braked.
        assert_eq!(phone.sync_at(&at).await.expect("a session").outcome.verdict, Verdict::InSync);
        let delete = async |from: u8, to: u8| {
            for nth in from..to {
                assert!(desk.delete("todo/items", &[nth]).await.expect("deleted"));
            }
        };
        let kept = async || phone.list("todo/items", b"", 200).await.expect("listed").len();
        delete(0, 8).await;
        assert_eq!(phone.sync_at(&at).await.expect("a session").outcome.verdict, Verdict::InSync);
        assert_eq!(kept().await, 92);
        delete(8, 16).await;
        let outcome = phone.sync_at(&at).await.expect("a session").outcome;
        let braked = outcome.braked.expect("told");
        assert_eq!((outcome.verdict, braked.losses.deleted, braked.before.deleted), (Verdict::Refused, 16, 8));
        // A job is no way around it, nor is a pause.
        phone.job("mend", Job::repair(at.clone())).expect("taken up");
        phone.suspend().await.expect("suspended");
        phone.resume().await.expect("resumed");
        assert!(phone.run_job("mend"));
        until(|| !phone.jobs()["mend"].history.is_empty()).await;
        let last = phone.jobs()["mend"].last().expect("a run").clone();
        assert_eq!((last.verdict, last.error.is_some()), (RunVerdict::Refused, true), "{last:?}");
        assert_eq!(kept().await, 92);
        for node in [desk, phone] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn jobs_open_sessions_when_they_are_due_and_tell_what_came_of_them() {
    run(async {
        let desk = alone().await;
        let (phone, at) = joined(&desk).await;
        assert!(matches!(
            phone.job("other", Job::repair(Address { dataset: "other".into(), ..at.clone() })),
            Err(EmbedError::NoDataset { .. })
        ));
        desk.put("todo/items", b"milk", b"two").await.expect("put");
        phone.job("mend", Job::repair(at.clone()).every(Duration::from_secs(1))).expect("taken up");
        phone.job("look", Job::check(at.clone())).expect("taken up");
        let runs = |name: &str| phone.jobs()[name].history.iter().map(|ran| ran.verdict).collect::<Vec<_>>();
        until(|| runs("mend").len() > 1).await;
        assert_eq!(phone.get("todo/items", b"milk").await.expect("read"), Some(b"two".to_vec()));
        assert!(runs("mend").iter().all(|verdict| *verdict == RunVerdict::InSync), "{:?}", phone.jobs());
        assert_eq!(phone.jobs()["mend"].history[0].written, [1, 0]);
        // One without a schedule begins when somebody asks for it.
        assert_eq!((runs("look").len(), phone.jobs()["look"].due), (0, None));
        assert!(phone.run_job("look") && !phone.run_job("nothing"));
        until(|| runs("look") == [RunVerdict::InSync]).await;
        // A peer that is gone is met again later and later.
        assert!(phone.drop_job("mend") && !phone.drop_job("mend"));
        desk.shutdown().await.expect("ended");
        phone.job("again", Job::repair(at).every(Duration::from_secs(1))).expect("taken up");
        until(|| phone.jobs()["again"].failures > 0).await;
        let again = phone.jobs()["again"].clone();
        let last = again.last().expect("a run");
        assert_eq!(last.verdict, RunVerdict::Undetermined, "{last:?}");
        assert!(last.error.is_some() && again.due > Some(last.ended), "{again:?}");
        // None begins while it is suspended, and what was cut short goes on afterwards.
        phone.suspend().await.expect("suspended");
        // What a run that was cut short came to is noted a moment after its session ended.
        until(|| phone.jobs()["again"].running.is_none()).await;
        let begun = phone.jobs()["again"].runs;
        assert!(phone.run_job("again"));
        assert_eq!(phone.jobs()["again"].runs, begun);
        phone.resume().await.expect("resumed");
        until(|| phone.jobs()["again"].runs > begun).await;
        phone.shutdown().await.expect("ended");
    });
}

/// Records of a thousand bytes which nothing makes fewer.
async fn fill(node: &Running, keys: std::ops::Range<u32>) {
    for nth in keys {
        let mut value = [0; 1000];
        blake3::Hasher::new().update(&nth.to_le_bytes()).finalize_xof().fill(&mut value);
        node.put("todo/items", &nth.to_le_bytes(), &value).await.expect("put");
    }
}

#[test]
fn jobs_are_paused_cancelled_and_bounded_and_their_objectives_are_told() {
    const RECORDS: u32 = 300;
    run(async {
        let desk = alone().await;
        fill(&desk, 0..RECORDS).await;
        // So slowly that nobody waits for the end.
        let slow = Rates { bytes: (2 * BYTES_MIN).try_into().ok(), ..Rates::default() };
        let rates = Arc::new(RateLimits::new(slow, Default::default()));
        let phone = Node::builder().without_gossip().rate_limits(rates.clone()).start().await.expect("started");
        let ticket = desk.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
        let at = phone.join(&ticket).await.expect("joined");
        let mend = || Job::repair(at.clone()).within(HOUR);
        phone.job("mend", mend()).expect("taken up");
        let objective = phone.objective("mend").expect("one");
        assert_eq!((objective.state, objective.proven, objective.within), (State::Met, false, 3_600_000));
        assert!(!phone.cancel_job("mend") && phone.objective("nothing").is_none());
        assert!(phone.run_job("mend"));
        until(|| phone.jobs()["mend"].running.is_some()).await;
        assert!(phone.cancel_job("mend"));
        let ended = |runs: usize| phone.jobs()["mend"].history.len() == runs;
        until(|| ended(1)).await;
        let last = || phone.jobs()["mend"].last().cloned().expect("a run");
        assert_eq!(last().verdict, RunVerdict::Cancelled, "{:?}", last());
        // What a pause of the node cuts short goes on afterwards.
        assert!(phone.run_job("mend"));
        until(|| phone.jobs()["mend"].running.is_some()).await;
        phone.suspend().await.expect("suspended");
        until(|| ended(2)).await;
        assert_eq!(last().verdict, RunVerdict::Interrupted, "{:?}", last());
        phone.resume().await.expect("resumed");
        until(|| phone.jobs()["mend"].running.is_some()).await;
        assert!(phone.cancel_job("mend"));
        until(|| ended(3)).await;
        // What is told while the node runs holds for the sessions that begin then.
        rates.set(Rates::default(), Default::default());
        let kept = async || phone.list("todo/items", b"", 1000).await.expect("listed").len() as u64;
        let before = kept().await;
        phone.job("mend", mend().bytes(40_000)).expect("taken up");
        assert!(phone.run_job("mend"));
        until(|| ended(4)).await;
        assert_eq!(last().verdict, RunVerdict::Partial, "{:?}", last());
        assert!(last().bytes >= 40_000, "{:?}", last());
        // What its store was writing by then is counted.
        assert_eq!(last().written, [kept().await - before, 0], "{:?}", last());
        // So it ends where a day's budget does.
        fill(&desk, RECORDS..2 * RECORDS).await;
        let a_day = DayBudget { bytes: Some(40_000), time: None };
        phone.job("mend", mend().a_day(a_day)).expect("taken up");
        assert!(phone.run_job("mend"));
        until(|| ended(5)).await;
        assert_eq!(last().verdict, RunVerdict::Partial, "{:?}", last());
        phone.job("mend", mend()).expect("taken up");
        assert!(phone.pause_job("mend") && !phone.pause_job("mend") && !phone.pause_job("nothing"));
        assert!(phone.jobs()["mend"].paused.is_some());
        // One that is paused runs when somebody asks.
        assert!(phone.run_job("mend"));
        until(|| ended(6)).await;
        assert_eq!(last().verdict, RunVerdict::InSync, "{:?}", last());
        assert!(phone.objective("mend").expect("one").proven);
        assert!(phone.resume_job("mend") && !phone.resume_job("mend"));
        phone.job("mend", mend().every(Duration::from_secs(1))).expect("taken up");
        until(|| phone.jobs()["mend"].history.len() > 6).await;
        for node in [desk, phone] {
            node.shutdown().await.expect("ended");
        }
    });
}
