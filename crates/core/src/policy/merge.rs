//! The policy that merges versions column by column, from stamps that the record carries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Judgement, Policy, PolicyError, Why, column, rows};
use crate::record::{Content, Sibling};
use crate::row::{Json, Row, Value, encode, put_json_string};

/// Each column of the version that last wrote it, as the stamps column tells; some columns by rules of their own.
/// A live version wins over a tombstone.
#[derive(Debug)]
pub(super) struct Merge {
    id: String,
    stamps: String,
    kinds: BTreeMap<String, Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An object of whole numbers by actor: the greatest of each.
    Counter,
    /// A list: all that is in any.
    Set,
    Maximum,
    Minimum,
}

impl Kind {
    const ALL: [(&str, Kind); 4] =
        [("counter", Kind::Counter), ("set", Kind::Set), ("maximum", Kind::Maximum), ("minimum", Kind::Minimum)];
}

impl Merge {
    /// Reads `STAMPS;COLUMN=KIND;…`; the columns sorted, each once, with a backslash before `;`, `=` and `\` in names.
    pub(super) fn parse(id: &str, parameters: &str) -> Option<Merge> {
        let mut parts = split(parameters, ';')?.into_iter();
        let stamps = plain(parts.next()?)?;
        let mut kinds = BTreeMap::new();
        for part in parts {
            let [name, kind] = split(part, '=')?.try_into().ok()?;
            let kind = Kind::ALL.iter().find(|(known, _)| *known == kind)?.1;
            let name = plain(name)?;
            if name == stamps || kinds.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return None;
            }
            kinds.insert(name, kind);
        }
        Some(Merge { id: id.into(), stamps, kinds })
    }

    fn merge(&self, versions: &[Sibling]) -> Result<Judgement, PolicyError> {
        let rows = rows(versions)?;
        // All are tombstones: the newest.
        let Some((first, _)) = rows.first() else { return Ok(Judgement::Version(0)) };
        let stamped: Vec<BTreeMap<String, Value>> =
            rows.iter().map(|(_, row)| self.stamps(row)).collect::<Result<_, _>>()?;
        let names: BTreeSet<&str> = rows
            .iter()
            .flat_map(|(_, row)| row.columns().map(|(name, _)| name))
            .chain(stamped.iter().flat_map(|stamps| stamps.keys().map(String::as_str)))
            .filter(|name| *name != self.stamps)
            .collect();
        let mut merged = Row::new();
        let mut stamps: BTreeMap<&str, &Value> = BTreeMap::new();
        for name in names {
            let held = || rows.iter().filter_map(|(_, row)| row.get(name)).filter(|value| **value != Value::Null);
            let wrong = |wanted| PolicyError::Column { column: name.to_string(), wanted };
            let value = match self.kinds.get(name) {
                Some(Kind::Counter) => counter(held()).ok_or_else(|| wrong("an object of whole numbers"))?,
                Some(Kind::Set) => set(held()).ok_or_else(|| wrong("a list"))?,
                Some(Kind::Maximum) => held().max_by(|a, b| a.by_size(b)).cloned(),
                Some(Kind::Minimum) => held().min_by(|a, b| a.by_size(b)).cloned(),
                None => last_written(name, versions, &rows, &stamped).cloned(),
            };
            if let Some(value) = value {
                // A union of what rows may hold may be too much for one.
                merged.set(name, value).map_err(|_| wrong("less, so that all columns fit one row,"))?;
            }
            let newest = stamped.iter().filter_map(|stamps| stamps.get(name)).max_by(|a, b| a.by_size(b));
            stamps.extend(newest.map(|stamp| (name, stamp)));
        }
        let stamps = Value::Json(object(stamps.into_iter()));
        merged.set(self.stamps.clone(), stamps).map_err(|_| PolicyError::NoColumn(self.stamps.clone()))?;
        let expires = rows.iter().map(|(nth, _)| versions[*nth].expires);
        // The value stays for as long as any version would have.
        let expires = if expires.clone().any(|at| at.is_none()) { None } else { expires.flatten().max() };
        let content = Content::Live(encode(&merged));
        Ok(match versions[*first].content == content && versions[*first].expires == expires {
            true => Judgement::Version(*first),
            false => Judgement::Made(content, expires),
        })
    }

    /// When each column was last written, as the row tells.
    fn stamps(&self, row: &Row) -> Result<BTreeMap<String, Value>, PolicyError> {
        let wrong = || PolicyError::Column { column: self.stamps.clone(), wanted: "an object of stamps" };
        let Value::Json(json) = column(row, &self.stamps)? else { return Err(wrong()) };
        let columns = Json::columns(json.as_str()).map_err(|_| wrong())?;
        if columns.iter().all(|(_, stamp)| matches!(stamp, Value::Int(_) | Value::Text(_))) {
            Ok(columns.into_iter().collect())
        } else {
            Err(wrong())
        }
    }
}

impl Policy for Merge {
    fn id(&self) -> &str {
        &self.id
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        if versions.len() == 1 {
            return Judgement::Version(0);
        }
        let open = |error| Judgement::Open { shown: versions.len() - 1, why: Why::Failed(error) };
        self.merge(versions).unwrap_or_else(open)
    }
}

/// What the version holds that wrote a column last; nothing if it took the column away.
fn last_written<'r>(
    name: &str,
    versions: &[Sibling],
    rows: &'r [(usize, Row)],
    stamped: &[BTreeMap<String, Value>],
) -> Option<&'r Value> {
    let mut last: Option<(Value, Option<&Value>)> = None;
    // Newest first: of equal stamps the first stays.
    for ((nth, row), stamps) in rows.iter().zip(stamped) {
        let held = row.get(name);
        let stamp = match (stamps.get(name), held) {
            (Some(stamp), _) => stamp.clone(),
            (None, Some(_)) => Value::Int(i128::from(versions[*nth].version.stamp.millis())),
            // It never had the column.
            (None, None) => continue,
        };
        if last.as_ref().is_none_or(|(best, _)| stamp.by_size(best).is_gt()) {
            last = Some((stamp, held));
        }
    }
    last.and_then(|(_, held)| held)
}

/// The greatest number of each actor; none of these if something else is among them.
fn counter<'r>(held: impl Iterator<Item = &'r Value>) -> Option<Option<Value>> {
    let mut counts: BTreeMap<String, Value> = BTreeMap::new();
    for value in held {
        let Value::Json(json) = value else { return None };
        for (actor, count) in Json::columns(json.as_str()).ok()? {
            let Value::Int(_) = count else { return None };
            let most = counts.entry(actor).or_insert_with(|| count.clone());
            if count > *most {
                *most = count;
            }
        }
    }
    let counts = counts.iter().map(|(actor, count)| (actor.as_str(), count));
    Some(Some(Value::Json(object(counts))))
}

/// All that is in any list, sorted, once each.
fn set<'r>(held: impl Iterator<Item = &'r Value>) -> Option<Option<Value>> {
    let (mut values, mut texts) = (BTreeSet::new(), BTreeSet::new());
    let mut any = (false, false);
    for value in held {
        match value {
            Value::Array(list) => {
                any.0 = true;
                values.extend(list.iter().cloned());
            }
            Value::Json(json) => {
                any.1 = true;
                texts.extend(json.elements()?.into_iter().map(str::to_string));
            }
            _ => return None,
        }
    }
    match any {
        (true, true) => None,
        (true, false) => Some(Some(Value::Array(values.into_iter().collect()))),
        (false, true) => {
            let list = texts.into_iter().collect::<Vec<_>>().join(",");
            Json::parse(&format!("[{list}]")).ok().map(|json| Some(Value::Json(json)))
        }
        (false, false) => Some(None),
    }
}

/// An object of whole numbers and texts, whose names are sorted.
fn object<'v>(members: impl Iterator<Item = (&'v str, &'v Value)>) -> Json {
    let mut out = String::from("{");
    for (name, value) in members {
        if out.len() > 1 {
            out.push(',');
        }
        // Writing into a string cannot fail.
        let _ = put_json_string(&mut out, name);
        out.push(':');
        let _ = match value {
            Value::Text(text) => put_json_string(&mut out, text),
            Value::Int(number) => write!(out, "{number}"),
            _ => Ok(()),
        };
    }
    out.push('}');
    Json::parse(&out).expect("an object of numbers and texts")
}

/// Splits at a mark that no backslash precedes; nothing if a backslash stands alone at the end.
fn split(text: &str, mark: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == mark {
            parts.push(&text[start..at]);
            start = at + 1;
        }
    }
    parts.push(&text[start..]);
    (!escaped).then_some(parts)
}

/// A name without its backslashes; nothing if it is empty, or has a backslash where none is needed or none where one is.
fn plain(name: &str) -> Option<String> {
    let (mut out, mut chars) = (String::new(), name.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, ';' | '=' | '\\'))?),
            ';' | '=' => return None,
            c => out.push(c),
        }
    }
    (!out.is_empty()).then_some(out)
}
