//! One table of the configuration: its values by type, and errors that name file, line, and the key that was meant.
//!
//! An error is noted, and what it is about left out, so that one reading finds all of them. Which keys there are is said by
//! those who read them.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Errors, line, malformed};

/// How alike a word must be to one that is known to be taken for it; 1 is the same.
const ALIKE: f64 = 0.8;

/// The text of the configuration, where it is, and what is wrong with it.
#[derive(Clone, Copy)]
pub(super) struct Source<'t> {
    pub(super) path: &'t Path,
    pub(super) text: &'t str,
    pub(super) errors: &'t Errors,
    /// Whether the environment says something by a variable, which goes before what is written.
    pub(super) environment: fn(&str) -> bool,
}

impl<'t> Source<'t> {
    /// All tables, as far as they are written as TOML is.
    pub(super) fn parse(self) -> Spanned<DeTable<'t>> {
        let (root, mut errors) = DeTable::parse_recoverable(self.text);
        let at = |error: &toml::de::Error| error.span().unwrap_or_default();
        // What follows on the same line is most often the same.
        errors.dedup_by_key(|error| line(self.text, at(error).start));
        errors.iter().for_each(|error| self.note(("", None), at(error), error.message().to_string()));
        root
    }

    /// Notes that something is wrong there.
    pub(super) fn note(&self, (table, key): (&str, Option<&str>), at: Range<usize>, message: String) {
        self.errors.note(malformed(self.path, (line(self.text, at.start), table, key), message));
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
    pub(super) fn of(source: Source<'t>, name: String, value: &'t Spanned<DeValue<'t>>) -> Option<Section<'t>> {
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("`{name}` is {}; it must be a table, [{name}]", kind(value.get_ref()));
            source.note((&name, None), value.span(), message);
            return None;
        };
        Some(Section { source, name, table, span: value.span() })
    }

    /// The tables that are in it, each with its own name.
    pub(super) fn sections(&self) -> Vec<(&'t str, Section<'t>)> {
        let section = |(key, value): (&'t Spanned<_>, &'t Spanned<_>)| {
            let name: &'t std::borrow::Cow<'t, str> = key.get_ref();
            let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !named {
                let message = format!("`{name}` in [{}] is no name; letters, digits, - and _ make one", self.name);
                self.source.note((&self.name, Some(name)), key.span(), message);
                return None;
            }
            Some((&**name, Section::of(self.source, format!("{}.{name}", self.name), value)?))
        };
        self.table.iter().filter_map(section).collect()
    }

    /// Notes keys that are not known; - and _ are one.
    pub(super) fn only(&self, known: &[&str]) {
        for (key, _) in self.table {
            let name = key.get_ref();
            if !known.contains(&&*name.replace('-', "_")) {
                let message = format!("unknown key `{name}` in [{}]{}", self.name, meant(name, known.iter().copied()));
                self.source.note((&self.name, Some(name)), key.span(), message);
            }
        }
    }

    /// Whether it says something of a key, understood or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Keys as they are written with _, and their values.
    pub(super) fn values(&self) -> impl Iterator<Item = (String, &'t Spanned<DeValue<'t>>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().replace('-', "_"), value))
    }

    /// A text, if the key is there.
    pub(super) fn text(&self, key: &str) -> Option<&'t str> {
        let value = self.value(key)?;
        let text = text_in(value);
        if text.is_none() {
            self.wrong_in(key, value, "a text in quotes");
        }
        text
    }

    /// What a text means, if the key is there.
    pub(super) fn read<T, E: Display>(&self, key: &str, mean: impl FnOnce(&'t str) -> Result<T, E>) -> Option<T> {
        self.mean(key, self.value(key)?.span(), self.text(key)?, mean)
    }

    /// A text that means something, as it is written.
    pub(super) fn typed<T, E: Display>(&self, key: &str, mean: impl FnOnce(&'t str) -> Result<T, E>) -> Option<String> {
        self.read(key, |text| mean(text).map(|_| text.to_string()))
    }

    /// What texts mean, if the key is there: a list of them, or one.
    pub(super) fn read_each<T, E: Display>(&self, key: &str, mean: impl Fn(&'t str) -> Result<T, E>) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let items: Vec<&'t Spanned<DeValue<'t>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        let item = |item: &'t Spanned<DeValue<'t>>| {
            let Some(text) = text_in(item) else {
                self.wrong_in(key, item, "a text in quotes, or a list of them");
                return None;
            };
            self.mean(key, item.span(), text, &mean)
        };
        items.into_iter().filter_map(item).collect()
    }

    /// Texts, if the key is there: a list of them, or one.
    pub(super) fn texts(&self, key: &str) -> Vec<&'t str> {
        self.read_each(key, Ok::<_, std::convert::Infallible>)
    }

    /// A whole number in these bounds, if the key is there.
    pub(super) fn number(&self, key: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| bounds.contains(number));
        if number.is_none() {
            self.wrong_in(key, value, &format!("a whole number from {} to {}", bounds.start(), bounds.end()));
        }
        number
    }

    /// Whether the environment says something by a variable.
    pub(super) fn is_in_environment(&self, variable: &str) -> bool {
        (self.source.environment)(variable)
    }

    /// Notes that something is wrong with the table.
    pub(super) fn wrong(&self, what: impl Display) {
        self.source.note((&self.name, None), self.span.clone(), format!("[{}] {what}", self.name));
    }

    /// Notes that something is wrong with what a key says of the table.
    pub(super) fn wrong_by(&self, key: &str, what: impl Display) {
        let span = self.value(key).map_or(self.span.clone(), Spanned::span);
        self.source.note((&self.name, Some(key)), span, format!("[{}] {what}", self.name));
    }

    /// Notes that a value is not what it must be.
    pub(super) fn wrong_in(&self, key: &str, value: &Spanned<DeValue<'_>>, must: &str) {
        let message = format!("`{key}` in [{}] is {}; it must be {must}", self.name, kind(value.get_ref()));
        self.source.note((&self.name, Some(key)), value.span(), message);
    }

    /// Notes that the text of a key is not understood.
    pub(super) fn wrong_text(&self, key: &str, why: impl Display) {
        let span = self.value(key).map_or(self.span.clone(), Spanned::span);
        self.source.note((&self.name, Some(key)), span, format!("`{key}` in [{}]: {why}", self.name));
    }

    fn mean<T, E: Display>(
        &self,
        key: &str,
        at: Range<usize>,
        text: &'t str,
        mean: impl FnOnce(&'t str) -> Result<T, E>,
    ) -> Option<T> {
        let meant = mean(text);
        meant
            .map_err(|why| self.source.note((&self.name, Some(key)), at, format!("`{key}` in [{}]: {why}", self.name)))
            .ok()
    }

    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.values().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// A question after the known word that is the most like this one, if any is.
pub(super) fn meant<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let alike = known.map(|known| (strsim::jaro_winkler(word, known), known)).filter(|(alike, _)| *alike >= ALIKE);
    let closest = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    closest.map_or(String::new(), |(_, known)| format!("; did you mean `{known}`?"))
}

fn text_in<'t>(value: &'t Spanned<DeValue<'t>>) -> Option<&'t str> {
    value.get_ref().as_str().filter(|text| !text.is_empty())
}

/// What a value is; of a text only that it is one, since there may be a password in it.
fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.is_empty() => "an empty text".into(),
        DeValue::String(_) => "a text".into(),
        DeValue::Integer(number) => number.as_str().to_string(),
        DeValue::Float(number) => number.as_str().to_string(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(_) => "a date or time without quotes".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
