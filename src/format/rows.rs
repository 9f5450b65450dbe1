//! The rows of a CSV or JSON Lines file that is a table: each has the columns that the first line names.
//!
//! Which of them are compared, as what and by which key is the concern of who reads them.

use std::io::BufRead;

use super::lines::Lines;
use super::{FormatError, Reason, csv, jsonl};
use crate::core::row::{Row, Value};

/// The rows of a file, each as values in the order of its columns. Ends after the first error.
pub struct Rows {
    lines: Lines,
    columns: Vec<String>,
    source: Source,
    ended: bool,
}

enum Source {
    Csv(csv::Fields),
    /// The first row, until it is given.
    Jsonl(Option<Vec<Value>>),
}

impl Rows {
    /// Starts reading CSV; `file` is its name in errors.
    ///
    /// # Errors
    /// [`FormatError`] for a file without a header row, or one that names no columns.
    pub fn csv(file: impl Into<String>, input: Box<dyn BufRead + Send>) -> Result<Rows, FormatError> {
        let mut lines = Lines::new(file.into(), input);
        lines.skip_byte_order_mark()?;
        let mut fields = csv::Fields::default();
        let columns = csv::header(&mut fields, &mut lines)?;
        Ok(Rows { lines, columns, source: Source::Csv(fields), ended: false })
    }

    /// Starts reading JSON Lines; `file` is its name in errors.
    ///
    /// # Errors
    /// [`FormatError`] for a file without a line, or whose first line is no object of columns.
    pub fn jsonl(file: impl Into<String>, input: Box<dyn BufRead + Send>) -> Result<Rows, FormatError> {
        let mut lines = Lines::new(file.into(), input);
        lines.skip_byte_order_mark()?;
        let first = lines.next()?.map(jsonl::columns).unwrap_or(Err(Reason::NoLine));
        let (columns, values): (Vec<String>, Vec<Value>) =
            first.map_err(|reason| lines.error_at(1, reason))?.into_iter().unzip();
        for name in &columns {
            Row::new().set(name.as_str(), Value::Null).map_err(|error| lines.error_at(1, error.into()))?;
        }
        Ok(Rows { lines, columns, source: Source::Jsonl(Some(values)), ended: false })
    }

    /// The columns, in the order of the first line.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    fn read(&mut self) -> Result<Option<Vec<Value>>, FormatError> {
        let line = self.lines.number() + 1;
        let values = match &mut self.source {
            Source::Csv(fields) => match fields.read(&mut self.lines)? {
                true => csv::values(fields, &self.columns),
                false => return Ok(None),
            },
            Source::Jsonl(first) => match first.take() {
                Some(values) => return Ok(Some(values)),
                None => match self.lines.next()? {
                    Some(text) => jsonl::columns(text).and_then(|row| in_order(row, &self.columns)),
                    None => return Ok(None),
                },
            },
        };
        values.map(Some).map_err(|reason| self.lines.error_at(line, reason))
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<Value>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The values of exactly these columns, whatever their order in the line.
fn in_order(row: Vec<(String, Value)>, columns: &[String]) -> Result<Vec<Value>, Reason> {
    let same = row.len() == columns.len() && row.iter().zip(columns).all(|((name, _), column)| name == column);
    if same {
        return Ok(row.into_iter().map(|(_, value)| value).collect());
    }
    let mut values = vec![None; columns.len()];
    for (name, value) in row {
        match columns.iter().position(|column| *column == name) {
            Some(place) => values[place] = Some(value),
            None => return Err(Reason::OtherColumn { name }),
        }
    }
    let absent = |name: &String| Reason::AbsentColumn { name: name.clone() };
    values.into_iter().zip(columns).map(|(value, name)| value.ok_or_else(|| absent(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::row::COLUMNS_MAX;

    fn read(rows: Result<Rows, FormatError>) -> Result<Vec<Vec<Value>>, String> {
        rows.and_then(Iterator::collect).map_err(|error| error.to_string())
    }

    fn input(text: &str) -> Box<dyn BufRead + Send> {
        Box::new(std::io::Cursor::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn rows_have_the_columns_of_the_first_line() {
        let text = |text: &str| Value::Text(text.into());
        let csv = Rows::csv("f", input("\u{feff}k,v\n1,\n\"2\n\",\"\"\n"));
        assert_eq!(read(csv), Ok(vec![vec![text("1"), Value::Null], vec![text("2\n"), text("")]]));
        let jsonl = Rows::jsonl("f", input("{\"k\":1,\"v\":null}\n{\"v\":\"x\",\"k\":2}"));
        assert_eq!(read(jsonl), Ok(vec![vec![Value::Int(1), Value::Null], vec![Value::Int(2), text("x")]]));
    }

    #[test]
    fn rows_with_other_columns_are_named_by_their_line() {
        let told = |rows| read(rows).expect_err("an error");
        assert_eq!(told(Rows::csv("f", input("k,v\n\"1\n\",2\n3\n"))), "f:4: 1 fields where the header has 2");
        let absent = told(Rows::jsonl("f", input("{\"k\":1,\"v\":2}\n{\"k\":1}\n")));
        assert!(absent.starts_with("f:2: the column `v`, which the first line has, is absent"), "{absent}");
        let other = told(Rows::jsonl("f", input("{\"k\":1}\n{\"k\":1}\n{\"k\":1,\"w\":2}\n")));
        assert!(other.starts_with("f:3: the column `w` is none of the first line"), "{other}");
        assert!(told(Rows::jsonl("f", input(""))).contains("the file is empty"));
        assert!(told(Rows::csv("f", input(""))).contains("the file is empty"));
    }

    #[test]
    fn more_columns_than_a_row_may_have_are_refused_before_they_are_held() {
        let commas = ",".repeat(1_000_000);
        for (text, line) in [(format!("k,v\n1,2\n{commas}\n"), 3), (format!("k,v\n\"1\n\",2\n\"\n\"{commas}"), 5)] {
            let mut rows = Rows::csv("f", input(&text)).expect("rows");
            assert!(rows.next().is_some_and(|row| row.is_ok()));
            let told = rows.next().expect("an end").expect_err("an error").to_string();
            assert_eq!(told, format!("f:{line}: more than 4096 columns in one row; is a line end missing?"));
            let Source::Csv(fields) = &rows.source else { panic!("it is CSV") };
            assert_eq!(fields.len(), COLUMNS_MAX);
        }
        let header = Rows::csv("f", input(&commas)).err().expect("an error").to_string();
        assert!(header.starts_with("f:1: more than 4096 columns in one row"), "{header}");
        let members: Vec<String> = (0..=COLUMNS_MAX).map(|i| format!("\"{i}\":1")).collect();
        let (most, more) = (members[..COLUMNS_MAX].join(","), members.join(","));
        assert_eq!(
            Rows::jsonl("f", input(&format!("{{{most}}}"))).map(|rows| rows.columns().len()).ok(),
            Some(COLUMNS_MAX)
        );
        // It is noticed where there is one too many, before what follows is read.
        for (text, line) in [(format!("{{{more},]"), 1), (format!("{{\"0\":1}}\n{{{more},]"), 2)] {
            let told = read(Rows::jsonl("f", input(&text))).expect_err("an error");
            assert!(
                told.starts_with(&format!("f:{line}: malformed jsonl: more than 4096 columns in one row")),
                "{told}"
            );
        }
    }
}
