//! The proof that the simulation notices: each planted bug is caught within a thousand seeds.

use reknit::core::planted::{Bug, plant};

use crate::runs::run;

/// Seeds within which every bug is caught.
const SEEDS: u64 = 1_000;

/// The first seed that notices a bug, and what it says.
fn caught(bug: Bug) -> Option<(u64, String)> {
    plant(Some(bug));
    let found = (0..SEEDS).find_map(|seed| run(seed, false).err().map(|error| (seed, error)));
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_caught() {
    // A panic is how a run says what it noticed.
    std::panic::set_hook(Box::new(|_| ()));
    // `REKNIT_BUG` names the only one to look for.
    let only = std::env::var("REKNIT_BUG").ok();
    let bugs: Vec<Bug> =
        Bug::ALL.into_iter().filter(|bug| only.is_none() || only == Some(format!("{bug:?}"))).collect();
    let (left, right) = bugs.split_at(bugs.len() / 2);
    let found: Vec<(Bug, Option<(u64, String)>)> = std::thread::scope(|scope| {
        let half = |bugs: &[Bug]| bugs.iter().map(|bug| (*bug, caught(*bug))).collect::<Vec<_>>();
        let other = scope.spawn(move || half(right));
        let mut found = half(left);
        found.extend(other.join().expect("the other half"));
        found
    });
    drop(std::panic::take_hook());
    for (bug, found) in &found {
        match found {
            Some((seed, error)) => {
                let short: String = error.chars().take(120).collect();
                println!("{bug:?}: seed {seed}: {short}");
            }
            None => println!("{bug:?}: NOT CAUGHT"),
        }
    }
    let missed: Vec<Bug> = found.iter().filter(|(_, found)| found.is_none()).map(|(bug, _)| *bug).collect();
    assert!(missed.is_empty(), "not caught within {SEEDS} seeds: {missed:?}");
}
