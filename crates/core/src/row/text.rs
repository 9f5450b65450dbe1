//! Values as people and files spell them: plain text, and JSON.
//!
//! Reading text back is the formats' concern: a plain text has no type, so this way is one-way for most kinds.

use std::fmt::{self, Write};

use super::{Value, json};

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

/// Plain text: nothing for NULL, digits for numbers, `\x…` for bytes, ISO 8601 for times, JSON for lists.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Bool(yes) => write!(f, "{yes}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Decimal(number) => write!(f, "{number}"),
            Value::Float(number) => match number.get() {
                n if n.is_nan() => f.write_str("NaN"),
                n if n.is_infinite() => f.write_str(if n > 0.0 { "Infinity" } else { "-Infinity" }),
                n => write!(f, "{n:?}"),
            },
            Value::Text(text) => f.write_str(text),
            Value::Bytes(bytes) => {
                f.write_str("\\x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Value::Timestamp(us) => {
                put_date(f, us.div_euclid(US_PER_DAY))?;
                f.write_char('T')?;
                put_time(f, us.rem_euclid(US_PER_DAY))?;
                f.write_char('Z')
            }
            Value::DateTime(us) => {
                put_date(f, us.div_euclid(US_PER_DAY))?;
                f.write_char('T')?;
                put_time(f, us.rem_euclid(US_PER_DAY))
            }
            Value::Date(days) => put_date(f, i64::from(*days)),
            Value::Time(us) => put_time(f, *us),
            Value::Interval(interval) => {
                let seconds = interval.us.unsigned_abs() / US_PER_SECOND as u64;
                let fraction = interval.us.unsigned_abs() % US_PER_SECOND as u64;
                let sign = if interval.us < 0 { "-" } else { "" };
                write!(f, "P{}M{}DT{sign}{seconds}", interval.months, interval.days)?;
                put_fraction(f, fraction)?;
                f.write_char('S')
            }
            Value::Uuid(uuid) => uuid.iter().enumerate().try_for_each(|(i, byte)| {
                f.write_str(if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" })?;
                write!(f, "{byte:02x}")
            }),
            Value::Json(json) => f.write_str(json.as_str()),
            Value::Array(_) => self.put_json(f),
            Value::Other { text, .. } => f.write_str(text),
        }
    }
}

impl Value {
    /// Appends the value as JSON: null, truth values, numbers, JSON and lists as such, all else as a string.
    ///
    /// # Errors
    /// What `out` says.
    pub fn put_json(&self, out: &mut impl Write) -> fmt::Result {
        match self {
            Value::Null => out.write_str("null"),
            Value::Bool(_) | Value::Int(_) | Value::Json(_) => write!(out, "{self}"),
            Value::Decimal(number) => json::put_decimal(out, number),
            Value::Float(number) if number.get().is_finite() => write!(out, "{self}"),
            Value::Text(text) | Value::Other { text, .. } => json::put_string(out, text),
            Value::Array(items) => {
                out.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    out.write_str(if i > 0 { "," } else { "" })?;
                    item.put_json(out)?;
                }
                out.write_char(']')
            }
            _ => json::put_string(out, &self.to_string()),
        }
    }
}

/// Appends `text` as a JSON string: quotes, and escapes only where JSON demands them.
///
/// # Errors
/// What `out` says.
pub fn put_json_string(out: &mut impl Write, text: &str) -> fmt::Result {
    json::put_string(out, text)
}

fn put_date(f: &mut impl Write, days: i64) -> fmt::Result {
    // Days to the proleptic Gregorian calendar, in eras of 400 years that start on 1 March.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let sign = if year < 0 { "-" } else { "" };
    write!(f, "{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs())
}

fn put_time(f: &mut impl Write, us: i64) -> fmt::Result {
    let (size, sign) = (us.unsigned_abs(), if us < 0 { "-" } else { "" });
    let seconds = size / US_PER_SECOND as u64;
    write!(f, "{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    put_fraction(f, size % US_PER_SECOND as u64)
}

fn put_fraction(f: &mut impl Write, us: u64) -> fmt::Result {
    if us == 0 {
        return Ok(());
    }
    write!(f, ".{}", format!("{us:06}").trim_end_matches('0'))
}
