//! The text format of Prometheus: families of samples with labels.
//!
//! What is measured is said by those who write it.

use std::fmt::Write as _;

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It rises and falls.
    Gauge,
    /// It rises, and begins anew with the process.
    Counter,
}

/// A text that is being written; a family is followed by its samples.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// Labels of every sample.
    of: String,
    text: String,
    name: String,
}

impl Text {
    /// One of which every sample has these labels.
    pub(crate) fn of(labels: &[(&str, &str)]) -> Text {
        Text { of: listed(labels), ..Text::default() }
    }

    /// Begins a family; it may stay without samples, where nothing is known.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Text {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.name = name.into();
        self
    }

    /// A sample of the family that was begun last.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let _ = writeln!(self.text, "{}{} {value}", self.name, braced(&self.of, &listed(labels)));
    }

    /// What was written.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Labels in braces; nothing if there are none.
pub(super) fn labelled(of: &[(&str, &str)], more: &[(&str, &str)]) -> String {
    braced(&listed(of), &listed(more))
}

fn braced(some: &str, more: &str) -> String {
    let comma = if some.is_empty() || more.is_empty() { "" } else { "," };
    if some.is_empty() && more.is_empty() { String::new() } else { format!("{{{some}{comma}{more}}}") }
}

fn listed(labels: &[(&str, &str)]) -> String {
    let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    all.join(",")
}

/// The value of a label as the format has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The value that a reader of the format makes of an escaped one; nothing where it would end early.
    fn read(escaped: &str) -> Option<String> {
        let mut characters = escaped.chars();
        let mut value = String::new();
        while let Some(character) = characters.next() {
            value.push(match character {
                '"' | '\n' => return None,
                '\\' => match characters.next()? {
                    'n' => '\n',
                    other @ ('\\' | '"') => other,
                    _ => return None,
                },
                other => other,
            });
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn every_value_of_a_label_comes_back(value in "[\\\\\"n\n a-c{}=,é]{0,12}") {
            prop_assert_eq!(read(&escaped(&value)), Some(value));
        }
    }

    #[test]
    fn families_are_followed_by_their_samples() {
        let mut text = Text::of(&[("job", "j")]);
        text.family("x", Kind::Counter, "A thing.").sample(&[], 1.0);
        text.sample(&[("of", "a\"b")], 2.5);
        text.family("y", Kind::Gauge, "Nothing.");
        let written = "# HELP x A thing.\n# TYPE x counter\nx{job=\"j\"} 1\nx{job=\"j\",of=\"a\\\"b\"} 2.5\n\
                       # HELP y Nothing.\n# TYPE y gauge\n";
        assert_eq!(text.finish(), written);
    }
}
