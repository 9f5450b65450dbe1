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

/// Seeds that failed once: by faults of the store (the first nine), and by mistakes of what judges it.
const ONCE: [u64; 35] = [
    75_193, 76_731, 82_394, 93_831, 107_400, 144_664, 193_354, 296_192, 361_159, 65_806, 69_506, 71_187, 73_782,
    79_471, 83_921, 99_163, 100_843, 110_580, 127_178, 127_508, 128_551, 154_360, 187_011, 190_111, 214_497, 272_750,
    307_755, 317_915, 328_316, 336_553, 343_777, 380_749, 406_544, 438_736, 485_509,
];

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

/// `REKNIT_SEEDS` and `REKNIT_MINUTES` say how much is run, `REKNIT_FIRST_SEED` where it begins, `REKNIT_FAILURES` after how many
/// seeds that fail it ends: one, if nothing is said.
#[test]
fn nothing_acknowledged_is_lost_and_everything_converges() {
    let (seeds, minutes) = (number("REKNIT_SEEDS").unwrap_or(SEEDS), number("REKNIT_MINUTES"));
    let first = number("REKNIT_FIRST_SEED").unwrap_or(0);
    let failures = number("REKNIT_FAILURES").unwrap_or(1) as usize;
    let (began, next) = (Instant::now(), AtomicU64::new(first));
    let deadline = minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    let (total, failed) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let work = || {
        let goes_on = || failed.lock().expect("sound").len() < failures;
        while deadline.is_none_or(|deadline| Instant::now() < deadline) && goes_on() {
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
    let mut failed = failed.into_inner().expect("sound");
    failed.sort_unstable();
    for (seed, error) in &failed {
        println!("failed: {seed}: {}", error.lines().next().unwrap_or_default());
    }
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

/// As long as nothing else is drawn from them, they tell whether what they found is back.
#[test]
fn nothing_acknowledged_is_lost_where_a_seed_once_found_something() {
    for seed in ONCE {
        if let Err(error) = run(seed, false) {
            panic!("seed {seed}: {error}");
        }
    }
}

/// `REKNIT_SEED` names the seed, 0 if nothing does; everything that happens is told.
#[test]
fn replay() {
    let seed = number("REKNIT_SEED").unwrap_or(0);
    eprintln!("{:#?}", Shape::of(seed));
    if let Err(error) = run(seed, true) {
        panic!("{error}");
    }
}
