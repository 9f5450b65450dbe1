//! Exact decimal numbers in one form each: 3000.00, 3e3 and 3000.0 are the same decimal.
//!
//! No arithmetic: a reconciler only tells whether two numbers are the same one.

use std::cmp::Ordering;
use std::fmt;

use crate::canonical::DecodeError;

/// Zeros that printing adds beyond the digits before it turns to an exponent.
const PRINTED_ZEROS_MAX: i64 = 40;

/// An exact decimal number: digits × 10^exponent, without zeros at either end of the digits. Ordered by size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// Reads `-12.50`, `7`, `1e-9`: a sign, digits, a fraction, an exponent. `None` if it is not that, or if the
    /// exponent leaves 32 bits.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (number, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || (number.contains('.') && !is_digits(fraction)) {
            return None;
        }
        Decimal::normal(negative, &format!("{whole}{fraction}"), exponent.checked_sub(fraction.len() as i64)?)
    }

    /// The number of these digits × 10^exponent. `None` if they are not digits, or if the exponent leaves 32 bits.
    pub fn of_digits(negative: bool, digits: &str, exponent: i64) -> Option<Decimal> {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Decimal::normal(negative, digits, exponent))?
    }

    /// Whether the number is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The digits; empty for zero.
    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// What power of ten the last digit counts.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The same number as a whole one, if it is whole and fits.
    pub fn to_int(&self) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let scale = 10i128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}", self.digits).parse::<i128>().ok()?.checked_mul(scale)
    }

    pub(super) fn from_canonical(negative: bool, digits: &str, exponent: i32) -> Result<Decimal, DecodeError> {
        let malformed = DecodeError::Malformed("decimal");
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed);
        }
        let decimal = Decimal::normal(negative, digits, i64::from(exponent)).ok_or(malformed.clone())?;
        let same = decimal.negative == negative && decimal.digits == digits && decimal.exponent == exponent;
        if same { Ok(decimal) } else { Err(malformed) }
    }

    /// The power of ten just above the number: 12.5 and 99 have 2. Zero has none.
    pub(super) fn magnitude(&self) -> i64 {
        self.digits.len() as i64 + i64::from(self.exponent)
    }

    fn normal(negative: bool, digits: &str, exponent: i64) -> Option<Decimal> {
        let leading = digits.trim_start_matches('0');
        let trimmed = leading.trim_end_matches('0');
        if trimmed.is_empty() {
            return Some(Decimal { negative: false, digits: String::new(), exponent: 0 });
        }
        let exponent = exponent.checked_add((leading.len() - trimmed.len()) as i64)?;
        Some(Decimal { negative, digits: trimmed.to_owned(), exponent: i32::try_from(exponent).ok()? })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let side = |d: &Decimal| match (d.digits.is_empty(), d.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        side(self).cmp(&side(other)).then_with(|| {
            let sizes = (self.magnitude(), &self.digits).cmp(&(other.magnitude(), &other.digits));
            if self.negative { sizes.reverse() } else { sizes }
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Plain digits while that adds few zeros, otherwise one digit, a fraction and an exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        if self.negative {
            f.write_str("-")?;
        }
        let (exponent, magnitude) = (i64::from(self.exponent), self.magnitude());
        if (0..=PRINTED_ZEROS_MAX).contains(&exponent) {
            return write!(f, "{}{}", self.digits, "0".repeat(exponent as usize));
        }
        if exponent < 0 && magnitude > 0 {
            let (whole, fraction) = self.digits.split_at(magnitude as usize);
            return write!(f, "{whole}.{fraction}");
        }
        if exponent < 0 && magnitude >= -PRINTED_ZEROS_MAX {
            return write!(f, "0.{}{}", "0".repeat(-magnitude as usize), self.digits);
        }
        let (first, rest) = self.digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        write!(f, "{first}{dot}{rest}e{}", magnitude - 1)
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size: i64 = digits.parse().ok()?;
    Some(if text.starts_with('-') { -size } else { size })
}
