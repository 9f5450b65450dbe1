//! What can be typed of what two tables are compared on.
//!
//! What it means is said in [`crate::store::linked::Terms`].

use clap::Args;
use reknit_core::row::{Decimal, Rounding, Tolerance};
use serde::{Deserialize, Serialize};

use crate::cli::CliError;
use crate::cli::units::parse_duration;
use crate::store::linked::{Terms, Zone, Zoned};

/// What two tables are compared on; all that they have in common, by their keys, unless something is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Of tables")]
pub(crate) struct TermFlags {
    /// The columns that name a row [default: the tables' own key]
    #[arg(long, env = "REKNIT_KEY", value_name = "COL[,COL]", value_delimiter = ',')]
    pub(crate) key: Vec<String>,
    /// Compare only these columns beside the key
    #[arg(long, env = "REKNIT_COLUMNS", value_name = "COL[,COL]", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Leave these columns out
    #[arg(long, env = "REKNIT_IGNORE", value_name = "COL[,COL]", value_delimiter = ',')]
    pub(crate) ignore: Vec<String>,
    /// The column that one side calls FROM is what the other calls TO
    #[arg(long, env = "REKNIT_RENAME", value_name = "FROM=TO", value_delimiter = ',')]
    pub(crate) rename: Vec<String>,
    /// Compare only rows that meet this condition, in the SQL of both databases
    #[arg(long = "where", env = "REKNIT_WHERE", value_name = "SQL")]
    pub(crate) filter: Option<String>,
    /// Compare floating-point numbers by so many significant digits, of one column or of all
    #[arg(long, env = "REKNIT_FLOAT_DIGITS", value_name = "[COL=]N", value_delimiter = ',')]
    pub(crate) float_digits: Vec<String>,
    /// Compare times down to the second (s) or millisecond (ms), of one column or of all
    #[arg(long, env = "REKNIT_TIME_PRECISION", value_name = "[COL=]s|ms", value_delimiter = ',')]
    pub(crate) time_precision: Vec<String>,
    /// Compare text whatever its case is (ci), of one column or of all
    #[arg(long, env = "REKNIT_COLLATE", value_name = "[COL=]ci", value_delimiter = ',')]
    pub(crate) collate: Vec<String>,
    /// Compare JSON by what its numbers are worth, 1 as 1.0, of one column or of all; a column of text that is named holds JSON
    #[arg(long, env = "REKNIT_JSON", value_name = "[COL=]semantic", value_delimiter = ',')]
    pub(crate) json: Vec<String>,
    /// Report rows as tolerated that differ by no more than this: numbers (0.01), times (2s); no part of what is digested
    #[arg(long, env = "REKNIT_TOLERANCE", value_name = "COL=EPS", value_delimiter = ',')]
    pub(crate) tolerance: Vec<String>,
    /// Dates and times of a side that say no zone are of this one: Europe/Berlin, UTC, +02:00
    #[arg(long, env = "REKNIT_ZONE", value_name = "[a|b[.COL]=]ZONE", value_delimiter = ',')]
    pub(crate) zone: Vec<String>,
}

impl TermFlags {
    /// What clap calls them, and the one that goes with them where a table becomes a dataset.
    pub(crate) const IDS: [&str; 12] = [
        "key",
        "columns",
        "ignore",
        "rename",
        "filter",
        "float_digits",
        "time_precision",
        "collate",
        "json",
        "tolerance",
        "zone",
        "kind",
    ];

    /// What was typed, as a comparison takes it.
    pub(crate) fn terms(&self) -> Result<Terms, CliError> {
        let wrong = |message: String| CliError::new("usage.terms", message);
        let mut renames = Vec::new();
        for typed in &self.rename {
            let (from, to) = typed
                .split_once('=')
                .filter(|(from, to)| !from.is_empty() && !to.is_empty())
                .ok_or_else(|| wrong(format!("--rename takes FROM=TO, as in --rename ident=id, not {typed}")))?;
            renames.push((from.to_string(), to.to_string()));
        }
        let mut roundings = Vec::new();
        let digits = |rounding| matches!(rounding, Rounding::Digits(_));
        let time = |rounding| matches!(rounding, Rounding::Seconds | Rounding::Milliseconds);
        let folded = |rounding| rounding == Rounding::Folded;
        let semantic = |rounding| rounding == Rounding::Semantic;
        let fits: [fn(Rounding) -> bool; 4] = [digits, time, folded, semantic];
        let flags = [
            ("--float-digits", &self.float_digits, "a number of digits from 1 to 17"),
            ("--time-precision", &self.time_precision, "s or ms"),
            ("--collate", &self.collate, "ci"),
            ("--json", &self.json, "semantic"),
        ];
        for ((flag, typed, takes), fits) in flags.into_iter().zip(fits) {
            for typed in typed {
                let (column, name) = typed.rsplit_once('=').map_or((None, typed.as_str()), |(c, name)| (Some(c), name));
                let rounding = Rounding::of_name(name).filter(|rounding| fits(*rounding));
                let rounding = rounding
                    .ok_or_else(|| wrong(format!("{flag} takes {takes}, alone or after COLUMN=, not {typed}")))?;
                roundings.push((column.map(String::from), rounding));
            }
        }
        let zones = self.zone.iter().map(|typed| {
            zoned(typed).ok_or_else(|| {
                wrong(format!(
                    "--zone takes the name of a zone (Europe/Berlin, UTC) or an offset (+02:00), alone or after a=, b=, \
                     a.COLUMN= or b.COLUMN=, not {typed}"
                ))
            })
        });
        let zones = zones.collect::<Result<_, CliError>>()?;
        let tolerances = self.tolerance.iter().map(|typed| {
            tolerated(typed).ok_or_else(|| {
                wrong(format!(
                    "--tolerance takes COLUMN=0.01 of numbers, or COLUMN=2s (ms, s, m, h, d) of times, not {typed}"
                ))
            })
        });
        let tolerances = tolerances.collect::<Result<_, CliError>>()?;
        let filter = self.filter.clone().filter(|filter| !filter.trim().is_empty());
        let (key, columns, ignore) = (self.key.clone(), self.columns.clone(), self.ignore.clone());
        Ok(Terms { key, columns, ignore, renames, filter, roundings, zones, tolerances })
    }
}

/// The column of an argument, and what of it is tolerated.
fn tolerated(typed: &str) -> Option<(String, Tolerance)> {
    let (column, most) = typed.rsplit_once('=').filter(|(column, _)| !column.is_empty())?;
    let number = || Decimal::parse(most).filter(|most| !most.is_negative()).map(Tolerance::Number);
    let span = || u64::try_from(parse_duration(most).ok()?.as_micros()).ok().map(Tolerance::Span);
    Some((column.to_string(), number().or_else(span)?))
}

/// Of what an argument says the zone, and which.
fn zoned(typed: &str) -> Option<Zoned> {
    let Some((place, name)) = typed.rsplit_once('=') else {
        return Some(Zoned { side: None, column: None, zone: Zone::of_name(typed)? });
    };
    let (side, column) = place.split_once('.').map_or((place, None), |(side, column)| (side, Some(column)));
    let side = ["a", "b"].iter().position(|known| *known == side)?;
    let column = column.map(String::from);
    if column.as_deref() == Some("") {
        return None;
    }
    Some(Zoned { side: Some(side), column, zone: Zone::of_name(name)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_taken_or_refused_by_its_flag() {
        let list = |typed: &str| vec![typed.to_string()];
        let flags = TermFlags {
            rename: list("a=b"),
            float_digits: list("6"),
            time_precision: list("at=ms"),
            collate: list("x=y=ci"),
            filter: Some(" ".into()),
            tolerance: vec!["price=0.010".into(), "at=1500ms".into()],
            zone: vec!["b=europe/berlin".into(), "a.at=+02".into(), "UTC".into()],
            ..TermFlags::default()
        };
        let terms = flags.terms().expect("terms");
        assert_eq!((terms.renames, terms.filter), (vec![("a".into(), "b".into())], None));
        let roundings = [
            (None, Rounding::Digits(6)),
            (Some("at".into()), Rounding::Milliseconds),
            (Some("x=y".into()), Rounding::Folded),
        ];
        assert_eq!(terms.roundings, roundings);
        let tolerated: Vec<String> = terms.tolerances.iter().map(|(of, by)| format!("{of} {by}")).collect();
        assert_eq!(tolerated, ["price 0.01", "at 1500ms"]);
        let zones: Vec<String> = terms.zones.iter().map(ToString::to_string).collect();
        assert_eq!(zones, ["b in Europe/Berlin", "a.at in +02:00", "UTC"]);
        for (flags, told) in [
            (TermFlags { rename: list("a="), ..TermFlags::default() }, "--rename"),
            (TermFlags { float_digits: list("18"), ..TermFlags::default() }, "--float-digits"),
            (TermFlags { time_precision: list("at=ci"), ..TermFlags::default() }, "--time-precision"),
            (TermFlags { collate: list("x"), ..TermFlags::default() }, "--collate"),
            (TermFlags { json: list("ci"), ..TermFlags::default() }, "--json"),
            (TermFlags { tolerance: list("0.1"), ..TermFlags::default() }, "--tolerance"),
            (TermFlags { tolerance: list("v=-1"), ..TermFlags::default() }, "--tolerance"),
            (TermFlags { zone: list("b=Nowhere"), ..TermFlags::default() }, "--zone"),
            (TermFlags { zone: list("at=UTC"), ..TermFlags::default() }, "--zone"),
            (TermFlags { zone: list("a.=UTC"), ..TermFlags::default() }, "--zone"),
        ] {
            let error = flags.terms().expect_err("an error");
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
