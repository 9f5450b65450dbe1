//! How much of a column's values counts when they are compared: the values that travel stay as they are.
//!
//! Which column is rounded how is said by what two tables are compared on.

use std::fmt;

use super::{Float, Kind, Value};

/// Digits that tell any two binary floating-point numbers apart.
const DIGITS_MAX: u8 = 17;
const US_PER_SECOND: i64 = 1_000_000;
const US_PER_MILLISECOND: i64 = 1_000;

/// How a column's values are rounded before they are compared. Values that are equal once rounded are equal; NULL stays NULL.
///
/// Two values however near can lie on either side of a boundary: what is rounded is not "equal within".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rounding {
    /// Floating-point numbers to so many significant digits, 1 to 17.
    Digits(u8),
    /// Times to the second before, or at, them.
    Seconds,
    /// Times to the millisecond before, or at, them.
    Milliseconds,
    /// Text to lower case, by Unicode's rules, letter by letter.
    Folded,
    /// JSON documents by what their numbers are worth, however those are spelled; exactly.
    Semantic,
}

impl Rounding {
    /// The rounding of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Rounding> {
        match name {
            "s" => Some(Rounding::Seconds),
            "ms" => Some(Rounding::Milliseconds),
            "ci" => Some(Rounding::Folded),
            "semantic" => Some(Rounding::Semantic),
            _ => {
                let digits = name.parse().ok().filter(|digits| (1..=DIGITS_MAX).contains(digits))?;
                // One name each.
                let rounding = Rounding::Digits(digits);
                (rounding.to_string() == name).then_some(rounding)
            }
        }
    }

    /// Whether values of a kind can be rounded so.
    #[must_use]
    pub fn fits(self, kind: Kind) -> bool {
        match self {
            Rounding::Digits(_) => kind == Kind::Float,
            Rounding::Seconds | Rounding::Milliseconds => {
                matches!(kind, Kind::Timestamp | Kind::DateTime | Kind::Time)
            }
            Rounding::Folded => matches!(kind, Kind::Text | Kind::Any | Kind::Spelled),
            Rounding::Semantic => kind == Kind::Json,
        }
    }

    /// What of a value counts; a value that is none of what can be rounded so is taken whole.
    #[must_use]
    pub fn of(self, value: Value) -> Value {
        match (self, value) {
            (Rounding::Digits(digits), Value::Float(number)) => Value::Float(rounded(number, digits)),
            (Rounding::Seconds, value) => floored(value, US_PER_SECOND),
            (Rounding::Milliseconds, value) => floored(value, US_PER_MILLISECOND),
            (Rounding::Folded, Value::Text(text)) => Value::Text(text.chars().flat_map(char::to_lowercase).collect()),
            (Rounding::Semantic, Value::Json(json)) => Value::Json(json.by_value()),
            (_, value) => value,
        }
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rounding::Digits(digits) => write!(f, "{digits}"),
            Rounding::Seconds => f.write_str("s"),
            Rounding::Milliseconds => f.write_str("ms"),
            Rounding::Folded => f.write_str("ci"),
            Rounding::Semantic => f.write_str("semantic"),
        }
    }
}

fn rounded(number: Float, digits: u8) -> Float {
    let number = number.get();
    let text = format!("{number:.*e}", usize::from(digits).saturating_sub(1));
    // The largest would round up past what there is.
    Float::new(text.parse().ok().filter(|rounded: &f64| rounded.is_finite()).unwrap_or(number))
}

fn floored(value: Value, unit: i64) -> Value {
    let floor = |us: i64| us.checked_sub(us.rem_euclid(unit)).unwrap_or(us);
    match value {
        Value::Timestamp(us) => Value::Timestamp(floor(us)),
        Value::DateTime(us) => Value::DateTime(floor(us)),
        Value::Time(us) => Value::Time(floor(us)),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Rounding; 7] = [
        Rounding::Digits(1),
        Rounding::Digits(6),
        Rounding::Digits(DIGITS_MAX),
        Rounding::Seconds,
        Rounding::Milliseconds,
        Rounding::Folded,
        Rounding::Semantic,
    ];

    #[test]
    fn what_counts_is_kept() {
        let float = |number: f64| Value::Float(Float::new(number));
        let text = |text: &str| Value::Text(text.into());
        for (rounding, value, counts) in [
            (Rounding::Digits(3), float(1234.5), float(1230.0)),
            (Rounding::Digits(3), float(-0.000_123_456), float(-0.000_123)),
            (Rounding::Digits(1), float(0.0), float(0.0)),
            (Rounding::Digits(2), float(f64::INFINITY), float(f64::INFINITY)),
            (Rounding::Digits(17), float(0.1), float(0.1)),
            (Rounding::Seconds, Value::Timestamp(1_999_999), Value::Timestamp(1_000_000)),
            (Rounding::Seconds, Value::DateTime(-1), Value::DateTime(-1_000_000)),
            (Rounding::Seconds, Value::Time(i64::MIN), Value::Time(i64::MIN)),
            (Rounding::Milliseconds, Value::Timestamp(1_999_999), Value::Timestamp(1_999_000)),
            (Rounding::Folded, text("ÄB\u{130}"), text("äbi\u{307}")),
            (Rounding::Folded, Value::Null, Value::Null),
            (Rounding::Seconds, text("A"), text("A")),
            (Rounding::Digits(1), Value::Int(19), Value::Int(19)),
        ] {
            assert_eq!(rounding.of(value.clone()), counts, "{value:?} by {rounding}");
        }
    }

    #[test]
    fn a_rounding_has_one_name() {
        for rounding in ALL {
            assert_eq!(Rounding::of_name(&rounding.to_string()), Some(rounding));
        }
        for none in ["", "0", "18", "06", "+6", "us", "CI", "s "] {
            assert_eq!(Rounding::of_name(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn rounding_again_changes_nothing(number in any::<f64>(), us in any::<i64>(), text in ".*") {
            for rounding in ALL {
                let values = [Value::Float(Float::new(number)), Value::Timestamp(us), Value::Time(us), Value::Text(text.clone())];
                for value in values {
                    let once = rounding.of(value);
                    prop_assert_eq!(rounding.of(once.clone()), once);
                }
            }
        }

        #[test]
        fn what_is_rounded_is_near(number in any::<f64>().prop_filter("finite", |n| n.is_finite()), digits in 1..=DIGITS_MAX) {
            let Value::Float(rounded) = Rounding::Digits(digits).of(Value::Float(Float::new(number))) else { unreachable!() };
            let off = (rounded.get() - number).abs();
            prop_assert!(off <= number.abs() * 10f64.powi(1 - i32::from(digits)), "{number} {digits}");
        }
    }
}
