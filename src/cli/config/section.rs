//! One table of the configuration: its values by type, and errors that name file, line, and the key that was meant.
//!
//! Which keys there are is said by those who read them.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::CliError;

/// How alike a word must be to one that is known to be taken for it; 1 is the same.
const ALIKE: f64 = 0.8;

/// The text of the configuration, and where it is.
#[derive(Clone, Copy)]
pub(super) struct Source<'t> {
    pub(super) path: &'t Path,
    pub(super) text: &'t str,
}

impl<'t> Source<'t> {
    /// All tables. The text itself, in which there may be a password, is never shown.
    pub(super) fn parse(self) -> Result<Spanned<DeTable<'t>>, CliError> {
        DeTable::parse(self.text).map_err(|error| self.wrong(error.message(), error.span().unwrap_or_default()))
    }

    /// That something is wrong there.
    pub(super) fn wrong(&self, what: impl std::fmt::Display, at: Range<usize>) -> CliError {
        self.wrong_but(what, at, "")
    }

    fn wrong_but(&self, what: impl std::fmt::Display, at: Range<usize>, hint: &str) -> CliError {
        let before = self.text.as_bytes().iter().take(at.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        let path = self.path.display();
        CliError::new("config.malformed", format!("{path}: {what} at line {line}{hint}; nothing was done"))
    }
}

/// A table of the configuration.
pub(super) struct Section<'t> {
    source: Source<'t>,
    /// What it is called, as it is written.
    pub(super) name: String,
    table: &'t DeTable<'t>,
    span: Range<usize>,
}

impl<'t> Section<'t> {
    /// The table of this name, if that is what the value is.
    pub(super) fn of(
        source: Source<'t>,
        name: String,
        value: &'t Spanned<DeValue<'t>>,
    ) -> Result<Section<'t>, CliError> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(source.wrong(format!("{name} is no table"), value.span()));
        };
        Ok(Section { source, name, table, span: value.span() })
    }

    /// The tables that are in it, each with its own name.
    pub(super) fn sections(&self) -> Result<Vec<(&'t str, Section<'t>)>, CliError> {
        let section = |(key, value): (&'t Spanned<_>, &'t Spanned<_>)| {
            let key: &'t std::borrow::Cow<'t, str> = key.get_ref();
            let named = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !named {
                let message = format!("`{key}` in [{}] is no name; letters, digits, - and _ make one", self.name);
                return Err(self.source.wrong(message, value.span()));
            }
            Ok((&**key, Section::of(self.source, format!("{}.{key}", self.name), value)?))
        };
        self.table.iter().map(section).collect()
    }

    /// Refuses keys that are not known; - and _ are one.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), CliError> {
        for (key, _) in self.table {
            let (name, span) = (key.get_ref(), key.span());
            if !known.contains(&&*name.replace('-', "_")) {
                let what = format!("unknown key `{name}` in [{}]", self.name);
                return Err(self.source.wrong_but(what, span, &meant(name, known.iter().copied())));
            }
        }
        Ok(())
    }

    /// Keys as they are written with _, and their values.
    pub(super) fn values(&self) -> impl Iterator<Item = (String, &'t Spanned<DeValue<'t>>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().replace('-', "_"), value))
    }

    /// A text, if the key is there.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'t str>, CliError> {
        let Some((_, value)) = self.values().find(|(name, _)| name == key) else { return Ok(None) };
        let text = value.get_ref().as_str().filter(|text| !text.is_empty());
        text.map(Some).ok_or_else(|| self.wrong_in(key, value, "is a text in quotes"))
    }

    /// Texts, if the key is there: a list of them, or one.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'t str>, CliError> {
        let Some((_, value)) = self.values().find(|(name, _)| name == key) else { return Ok(Vec::new()) };
        let one = |value: &'t Spanned<DeValue<'t>>| value.get_ref().as_str().filter(|text| !text.is_empty());
        let all: Option<Vec<&str>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(one).collect(),
            _ => one(value).map(|text| vec![text]),
        };
        all.ok_or_else(|| self.wrong_in(key, value, "is a text in quotes, or a list of them"))
    }

    /// A whole number in these bounds, if the key is there.
    pub(super) fn number(&self, key: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, CliError> {
        let Some((_, value)) = self.values().find(|(name, _)| name == key) else { return Ok(None) };
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        };
        let must = format!("is a whole number from {} to {}", bounds.start(), bounds.end());
        number.filter(|number| bounds.contains(number)).map(Some).ok_or_else(|| self.wrong_in(key, value, &must))
    }

    /// That something is wrong with the table.
    pub(super) fn wrong(&self, what: impl std::fmt::Display) -> CliError {
        self.source.wrong(format!("[{}] {what}", self.name), self.span.clone())
    }

    /// That a value is not what it must be.
    pub(super) fn wrong_in(&self, key: &str, value: &Spanned<DeValue<'_>>, must: &str) -> CliError {
        self.source.wrong(format!("`{key}` in [{}] {must}; it is not", self.name), value.span())
    }
}

/// A question after the known word that is the most like this one, if any is.
pub(super) fn meant<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let alike = known.map(|known| (strsim::jaro_winkler(word, known), known)).filter(|(alike, _)| *alike >= ALIKE);
    let closest = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    closest.map_or(String::new(), |(_, known)| format!("; did you mean `{known}`?"))
}
