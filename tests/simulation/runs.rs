//! Runs of seeds: many at once until a count or a time is reached, one again with all that happens, and the proof that the
//! same seed does the same.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::shape::Shape;
use crate::tally::Tally;
use crate::world::World;

/// Seeds of a run that nobody asked for more of.
const SEEDS: u64 = 300;
/// So many seeds must have done everything that there is to be done.
const TELLING: u64 = 2_000;
/// One of so many seeds is run twice.
const TWICE: u64 = 100;

/// What a seed did, or how it failed.
pub(crate) struct Ran {
    tally: Tally,
    trace: blake3::Hash,
}

/// Runs a seed to its end, or until something does not hold.
pub(crate) fn run(seed: u64, loud: bool) -> Result<Ran, String> {
    let world = |loud| {
        let mut world = World::new(Shape::of(seed), loud);
        world.run();
        world
    };
    match catch_unwind(AssertUnwindSafe(|| world(loud))) {
        Ok(world) => Ok(Ran { trace: world.trace(), tally: world.tally }),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_string()));
            Err(said.unwrap_or_else(|| "a panic without a word".into()))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// `REKNIT_SEEDS` and `REKNIT_MINUTES` say how much is run, `REKNIT_FIRST_SEED` where it begins.
#[test]
fn nothing_acknowledged_is_lost_and_everything_converges() {
    let (seeds, minutes) = (number("REKNIT_SEEDS").unwrap_or(SEEDS), number("REKNIT_MINUTES"));
    let first = number("REKNIT_FIRST_SEED").unwrap_or(0);
    let (began, next) = (Instant::now(), AtomicU64::new(first));
    let deadline = minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    let (total, failed) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let work = || {
        while deadline.is_none_or(|deadline| Instant::now() < deadline) && failed.lock().expect("sound").is_empty() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                break;
            }
            match run(seed, false) {
                Ok(ran) => {
                    if seed % TWICE == 0 {
                        let again = run(seed, false).map(|ran| ran.trace);
                        assert_eq!(again, Ok(ran.trace), "I21: seed {seed} does not do the same twice");
                    }
                    total.lock().expect("sound").join(&ran.tally);
                }
                Err(error) => failed.lock().expect("sound").push((seed, error)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let done = next.load(Ordering::Relaxed).min(first + seeds) - first;
    let (total, seconds) = (total.into_inner().expect("sound"), began.elapsed().as_secs_f64());
    println!("{done} seeds from {first} in {seconds:.0} s on {threads} threads: {:.1} a second", done as f64 / seconds);
    print!("{total}");
    let failed = failed.into_inner().expect("sound");
    if let Some((seed, error)) = failed.first() {
        panic!(
            "{error}\n{:?}\nREKNIT_SEED={seed} cargo test --test simulation replay -- --nocapture",
            Shape::of(*seed)
        );
    }
    match done >= TELLING {
        true => assert_eq!(total.lacking(), Vec::<String>::new(), "no seed did this"),
        false => println!("fewer than {TELLING} seeds: what they did not reach is not judged"),
    }
}

/// `REKNIT_SEED` names the seed; everything that happens is told.
#[test]
fn replay() {
    let Some(seed) = number("REKNIT_SEED") else { return };
    eprintln!("{:#?}", Shape::of(seed));
    if let Err(error) = run(seed, true) {
        panic!("{error}");
    }
}
