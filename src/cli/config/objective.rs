//! An objective as it is written down: within how long two sides are to be proven equal.
//!
//! How it stands is the core's, who is told of it the daemon's.

use reknit_core::Millis;

use super::section::Section;
use crate::cli::units::parse_duration;
use crate::clock::millis;

/// The key of it.
pub(super) const WITHIN: &str = "proven_equal_within";

/// Reads one of sides that are looked at so often.
pub(super) fn within(section: &Section<'_>, every: Option<Millis>) -> Option<Millis> {
    let within = section.read(WITHIN, parse_duration).map(millis);
    if within.zip(every).is_some_and(|(within, every)| within < every) {
        let words = "is to be proven equal more often, by `proven_equal_within`, than it is looked at, by `every`";
        section.wrong_by(WITHIN, words);
    } else if within == Some(0) {
        section.wrong_text(WITHIN, "nothing is proven equal within no time; \"15m\" is some");
    }
    within
}
