//! How far apart two values of a column may be without that being worth mention. It is no equality: what is near to its
//! neighbour may be far from its neighbour's, so it is no part of what is digested; it is judged of two values alone.

use std::fmt;

use super::{Decimal, Float, Kind, Value};

const US_PER_DAY: i128 = 86_400_000_000;

/// How far apart two values may be, bound included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// Numbers, by their difference.
    Number(Decimal),
    /// Times, dates and timestamps, by so many microseconds.
    Span(u64),
}

impl Tolerance {
    /// Whether values of a kind can be that far apart.
    #[must_use]
    pub fn fits(&self, kind: Kind) -> bool {
        match self {
            Tolerance::Number(_) => matches!(kind, Kind::Int | Kind::Decimal | Kind::Float),
            Tolerance::Span(_) => matches!(kind, Kind::Timestamp | Kind::DateTime | Kind::Date | Kind::Time),
        }
    }

    /// Whether two values are as near as that. Binary numbers count as the shortest decimals that spell them, and the
    /// difference is exact as long as it has at most 38 digits. Values of two kinds, NULL and what is no number are near to
    /// nothing but themselves.
    #[must_use]
    pub fn is_kept(&self, a: &Value, b: &Value) -> bool {
        if a == b {
            return true;
        }
        match self {
            Tolerance::Number(most) => match (number(a), number(b)) {
                (Some(a), Some(b)) => are_near(&a, &b, most),
                _ => false,
            },
            Tolerance::Span(most) => match (us(a), us(b)) {
                (Some((kind, a)), Some((other, b))) => kind == other && a.abs_diff(b) <= u128::from(*most),
                _ => false,
            },
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tolerance::Number(most) => write!(f, "{most}"),
            Tolerance::Span(us) if us % 1_000_000 == 0 => write!(f, "{}s", us / 1_000_000),
            Tolerance::Span(us) => write!(f, "{}ms", us / 1_000),
        }
    }
}

fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(number) => Decimal::parse(&number.to_string()),
        Value::Decimal(number) => Some(number.clone()),
        Value::Float(number) => Decimal::parse(&Float::get(*number).to_string()),
        _ => None,
    }
}

/// A time in microseconds, and what it is counted from.
fn us(value: &Value) -> Option<(u8, i128)> {
    match value {
        Value::Timestamp(us) => Some((0, i128::from(*us))),
        Value::DateTime(us) => Some((1, i128::from(*us))),
        Value::Date(days) => Some((2, i128::from(*days) * US_PER_DAY)),
        Value::Time(us) => Some((3, i128::from(*us))),
        _ => None,
    }
}

fn are_near(a: &Decimal, b: &Decimal, most: &Decimal) -> bool {
    let all = [a, b, most];
    let nonzero = all.iter().filter(|number| !number.digits().is_empty());
    let unit = nonzero.map(|number| number.exponent()).min().unwrap_or(0);
    let scaled = |number: &Decimal| -> Option<i128> {
        if number.digits().is_empty() {
            return Some(0);
        }
        let zeros = u32::try_from(number.exponent().checked_sub(unit)?).ok()?;
        let digits = number.digits().parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(zeros)?)?;
        Some(if number.is_negative() { -digits } else { digits })
    };
    if let [Some(a), Some(b), Some(most)] = all.map(scaled)
        && let Some(apart) = a.checked_sub(b)
    {
        return apart.unsigned_abs() <= most.unsigned_abs() && most >= 0;
    }
    let binary = |number: &Decimal| number.to_string().parse::<f64>().unwrap_or(f64::NAN);
    (binary(a) - binary(b)).abs() <= binary(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_near_as_that_is_kept_and_nothing_else() {
        let decimal = |text: &str| Value::Decimal(Decimal::parse(text).expect("a decimal"));
        let float = |number: f64| Value::Float(Float::new(number));
        let number = |text: &str| Tolerance::Number(Decimal::parse(text).expect("a decimal"));
        for (tolerance, a, b, kept) in [
            (number("0.01"), decimal("1.00"), decimal("1.01"), true),
            (number("0.01"), decimal("1.00"), decimal("1.0100000001"), false),
            (number("0.1"), float(1.1), float(1.0), true),
            (number("0.1"), float(-0.05), float(0.05), true),
            (number("0.1"), float(1.0), float(1.11), false),
            (number("1"), Value::Int(7), decimal("8"), true),
            (number("1"), Value::Int(i128::MAX), Value::Int(i128::MIN), false),
            (number("0"), float(1e300), float(1e300), true),
            (number("1"), float(1e300), float(1e-300), false),
            (number("1e299"), float(1e300), float(1.05e300), true),
            (number("1"), float(f64::INFINITY), float(1.0), false),
            (number("1"), float(f64::NAN), float(f64::NAN), true),
            (number("1"), Value::Null, Value::Int(0), false),
            (number("1"), Value::Null, Value::Null, true),
            (number("1"), Value::Text("1".into()), Value::Int(1), false),
            (Tolerance::Span(2), Value::Timestamp(-1), Value::Timestamp(1), true),
            (Tolerance::Span(2), Value::Timestamp(-1), Value::Timestamp(2), false),
            (Tolerance::Span(2), Value::Timestamp(0), Value::DateTime(0), false),
            (Tolerance::Span(86_400_000_000), Value::Date(1), Value::Date(2), true),
            (Tolerance::Span(u64::MAX), Value::Time(i64::MIN), Value::Time(i64::MAX), true),
            (Tolerance::Span(1), Value::Int(1), Value::Int(2), false),
        ] {
            assert_eq!(tolerance.is_kept(&a, &b), kept, "{a:?} and {b:?} by {tolerance}");
            assert_eq!(tolerance.is_kept(&b, &a), kept);
        }
        assert!(number("1").fits(Kind::Float) && !number("1").fits(Kind::Date) && !Tolerance::Span(1).fits(Kind::Int));
        let names = [
            number("0.50").to_string(),
            Tolerance::Span(2_000_000).to_string(),
            Tolerance::Span(1_500_000).to_string(),
        ];
        assert_eq!(names, ["0.5", "2s", "1500ms"]);
    }
}
