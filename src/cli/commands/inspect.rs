//! `reknit inspect STORE KEY [--against B]`: one record as it is compared: its bytes, its digest, its path in the tree, and
//! the first column that differs from another side's.

use reknit_core::row::{self, Value as Field};
use reknit_core::tree::is_leaf;
use reknit_core::{CollectionId, Keys, Position, Range, Record, Sibling, State, Version};
use serde_json::{Value, json};

use super::sides::tables;
use crate::cli::args::Inspect;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{hex, key_fields};
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::format::{Format, Layout};
use crate::store::linked::Linked;
use crate::store::{Side, Store};

/// The first collection of a store, and the only one of a table.
const FIRST: CollectionId = CollectionId(0);
/// Bytes of a record that are printed for people; machines get all.
const SHOWN_BYTES: usize = 64;

/// A record of one side, as it is compared.
struct Inspected {
    side: &'static str,
    place: String,
    /// Its entry in the tree.
    entry: Option<String>,
    /// What is digested; none: there is no record.
    bytes: Option<Vec<u8>>,
    /// Its columns, as far as it is a row.
    columns: Vec<(String, Field)>,
    /// The ranges that hold it, the largest first, with how many records each has and its digest.
    path: Vec<(Range, u64, String)>,
}

pub(crate) fn run(args: &Inspect, env: &mut Env) -> Result<Exit, CliError> {
    let (a, b) = (args.store.as_str(), args.against.as_deref());
    let is_table = tables::is_table(a);
    if b.is_some_and(|b| tables::is_table(b) != is_table) {
        let message = "a table is inspected against another table, a store against another store";
        return Err(CliError::refused("database.pair", message));
    }
    let terms = args.terms.terms()?;
    let (key, layout, sides) = if is_table {
        let (own, other) = match b {
            None => (tables::alone(env, a, None, &terms)?, None),
            Some(b) => {
                let [own, other] = tables::pair(env, (a, b), &terms)?;
                (own, Some(other))
            }
        };
        let layout = tables::layout(own.shape());
        let key = own.shape().key_from(row::decode_key(&layout.encode_key_argument(&args.of)?).unwrap_or_default());
        let mut sides = vec![of_table("a", &own, &key)?];
        sides.extend(other.map(|other| of_table("b", &other, &key)).transpose()?);
        (key, layout, sides)
    } else {
        let own = env.store(std::path::Path::new(a))?;
        let layout = env.layout(&own)?;
        let key = layout.encode_key_argument(&args.of)?;
        let mut sides = vec![of_store("a", &own, &layout, &key)?];
        if let Some(b) = b {
            sides.push(of_store("b", &env.store(std::path::Path::new(b))?, &layout, &key)?);
        }
        (key, layout, sides)
    };
    print(env, (&key, &layout), &sides)
}

fn of_table(side: &'static str, linked: &Linked, key: &[u8]) -> Result<Inspected, CliError> {
    let row = linked.row(key)?;
    let counting = row.as_ref().map(|row| linked.shape().counting(row).into_owned());
    let columns = match &counting {
        Some(row) => linked.shape().row_values(row).unwrap_or_default(),
        None => Vec::new(),
    };
    let columns = linked.shape().columns().iter().map(|(name, _)| name.clone()).zip(columns).collect();
    let state = counting.clone().map(|row| {
        let version = Version::after(reknit_core::Stamp(0), reknit_core::Actor(0), []);
        State::single(Sibling { version, content: reknit_core::Content::Live(row), expires: None })
    });
    Ok(Inspected { side, bytes: counting, columns, ..of_side(side, linked, key, state)? })
}

fn of_store(side: &'static str, store: &Store, layout: &Layout, key: &[u8]) -> Result<Inspected, CliError> {
    let state = store.first().versions(key)?;
    let bytes = state.as_ref().and_then(|state| state.value().map(<[u8]>::to_vec));
    let row = bytes.as_ref().filter(|_| layout.format() != Format::Kv).and_then(|bytes| row::decode(bytes).ok());
    let columns = row.iter().flat_map(|row| row.columns().map(|(name, value)| (name.to_string(), value.clone())));
    Ok(Inspected { bytes, columns: columns.collect(), ..of_side(side, store, key, state)? })
}

/// Where a key lies in a side's tree, and what its record is worth there.
fn of_side(side: &'static str, of: &dyn Side, key: &[u8], state: Option<State>) -> Result<Inspected, CliError> {
    let info = of.describe();
    let name = &info.definition.collections[usize::from(FIRST.0)].name;
    let keys: &Keys = &info.keys;
    let position: Position = keys.position(name, key);
    let entry = state.and_then(|state| keys.entry(info.definition.profile, name, &Record { key: key.to_vec(), state }));
    let mut path = Vec::new();
    for depth in 0..=reknit_core::range::DEPTH_MAX {
        let range = Range::of(position, depth);
        let Some(summary) = of.rests(FIRST, &[(range, Vec::new())])?.pop() else { break };
        path.push((range, summary.count, summary.digest.to_string()));
        if is_leaf(range, summary.count) {
            break;
        }
    }
    let entry = entry.map(|digest| digest.to_string());
    Ok(Inspected { side, place: info.place, entry, bytes: None, columns: Vec::new(), path })
}

/// The first column that two records do not hold alike.
fn first_that_differs(a: &Inspected, b: &Inspected) -> Option<String> {
    let of =
        |side: &Inspected, name: &str| side.columns.iter().find(|(column, _)| column == name).map(|(_, v)| v.clone());
    let names = a.columns.iter().chain(&b.columns).map(|(name, _)| name);
    names.into_iter().find(|name| of(a, name) != of(b, name)).cloned()
}

fn print(env: &mut Env, (key, layout): (&[u8], &Layout), sides: &[Inspected]) -> Result<Exit, CliError> {
    let mut printer = Printer::new(env);
    for side in sides {
        printer.item(|| side.text(), || side.object())?;
    }
    let found = sides.iter().all(|side| side.bytes.is_some());
    let (mut equal, mut differs) = (None, None);
    let mut text = String::new();
    if let [a, b] = sides {
        equal = Some(a.entry == b.entry && a.bytes == b.bytes);
        differs = first_that_differs(a, b);
        text = match (equal, &differs) {
            (Some(true), _) => "equal on both sides".into(),
            (_, Some(name)) if found => {
                let of = |side: &Inspected| {
                    let value = side.columns.iter().find(|(column, _)| column == name);
                    value.map_or_else(|| "absent".into(), |(_, value)| told(value))
                };
                format!("{name} differs first: {} in a, {} in b", of(a), of(b))
            }
            _ if found => "their versions or bytes differ".into(),
            _ => "not on both sides".into(),
        };
    } else if !found {
        text = "there is no such record".into();
    }
    let exit = if found && equal != Some(false) { Exit::Done } else { Exit::Differs };
    let mut summary = fields(json!({ "found": found, "equal": equal, "differs_first": differs }));
    summary.extend(key_fields(layout, key));
    printer.end(exit, &text, summary)
}

/// A value with its kind, NULL too.
fn told(value: &Field) -> String {
    match value {
        Field::Null => "NULL".into(),
        Field::Text(text) => format!("{text:?}"),
        value => format!("{value}"),
    }
}

impl Inspected {
    fn text(&self) -> String {
        let mut lines = vec![format!("{}\t{}", self.side, self.place)];
        for (range, count, digest) in &self.path {
            lines.push(format!("\trange {}\t{} records\t{}…", prefix(*range), show_count(*count), &digest[..16]));
        }
        if let Some(entry) = &self.entry {
            lines.push(format!("\tentry\t{entry}"));
        }
        match &self.bytes {
            None => lines.push("\tno record".into()),
            Some(bytes) => {
                let more = if bytes.len() > SHOWN_BYTES { "…" } else { "" };
                let some = &bytes[..bytes.len().min(SHOWN_BYTES)];
                lines.push(format!("\tbytes\t{}\t{}{more}", bytes.len(), hex(some)));
            }
        }
        lines.extend(self.columns.iter().map(|(name, value)| format!("\t{name}\t{}", told(value))));
        lines.join("\n")
    }

    fn object(&self) -> Value {
        let range = |(range, count, digest): &(Range, u64, String)| json!({ "range": prefix(*range), "count": count, "digest": digest });
        let column = |(name, value): &(String, Field)| {
            let text = (*value != Field::Null).then(|| value.to_string());
            json!({ "name": name, "value": text })
        };
        json!({
            "t": "inspected", "side": self.side, "place": self.place, "entry": self.entry,
            "bytes_hex": self.bytes.as_ref().map(|bytes| hex(bytes)),
            "columns": self.columns.iter().map(column).collect::<Vec<_>>(),
            "path": self.path.iter().map(range).collect::<Vec<_>>(),
        })
    }
}

/// The hex prefix of a range; that of all is a dot.
fn prefix(range: Range) -> String {
    let digits = format!("{:016x}", range.bits());
    match usize::from(range.depth()) {
        0 => ".".into(),
        depth => digits[..depth].into(),
    }
}
