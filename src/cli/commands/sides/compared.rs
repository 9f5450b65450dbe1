//! What two tables were compared on, as machines read it, and as it tells one comparison of a pair from another.
//!
//! How it comes from what was asked for is said by [`Terms`].

use reknit_core::row::Kind;
use serde_json::{Map, Value, json};

use crate::store::linked::{Shape, Terms};

/// What is compared of two tables, as each of them sees it.
pub(super) fn object(terms: &Terms, [a, b]: &[Shape; 2]) -> Value {
    let column = |(place, (name, kind)): (usize, &(String, Kind))| {
        let zones = [a, b].map(|shape| shape.zone(place).map(ToString::to_string));
        let zones = zones.iter().any(Option::is_some).then(|| json!({ "a": zones[0], "b": zones[1] }));
        let tolerated = terms.tolerances.iter().filter(|(of, _)| of == name).map(|(_, by)| by.to_string());
        let tolerance = Some(tolerated.collect::<Vec<_>>().join(",")).filter(|tolerance| !tolerance.is_empty());
        json!({
            "name": name, "kind": kind.name(), "rounding": a.rounding(place).map(|rounding| rounding.to_string()),
            "zones": zones, "tolerance": tolerance,
        })
    };
    let columns: Vec<Value> = a.columns().iter().enumerate().map(column).collect();
    json!({ "key": a.key().collect::<Vec<_>>(), "columns": columns, "where": a.filter() })
}

/// The same as the name of a comparison, in which zones and tolerances stand only where there are any.
pub(super) fn name(terms: &Terms, shapes: &[Shape; 2]) -> String {
    let mut object = object(terms, shapes);
    let columns = object["columns"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut);
    let plain = |column: &mut Map<String, Value>| {
        column.retain(|name, value| !(["zones", "tolerance"].contains(&name.as_str()) && value.is_null()));
    };
    columns.for_each(plain);
    object.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::TermFlags;
    use crate::store::linked::{Column, Columns};

    fn compared(asked: TermFlags) -> (Terms, [Shape; 2]) {
        let table = |at: Kind| {
            let columns = [("at", at), ("id", Kind::Int), ("n", Kind::Decimal)];
            let column = |(name, kind): (&str, Kind)| Column { name: name.into(), kind, declared: String::new() };
            Columns { columns: columns.map(column).into(), key: vec!["id".into()] }
        };
        let terms = asked.terms().expect("terms");
        let shapes = terms.shapes(("a", &table(Kind::Timestamp)), ("b", &table(Kind::DateTime))).expect("shapes");
        (terms, shapes)
    }

    #[test]
    fn zones_and_tolerances_are_told_of_each_column() {
        let zone = vec!["b=UTC".to_string()];
        let (terms, shapes) =
            compared(TermFlags { zone: zone.clone(), tolerance: vec!["n=0.5".into()], ..TermFlags::default() });
        let told = object(&terms, &shapes).to_string();
        let at = r#"{"name":"at","kind":"timestamp","rounding":null,"zones":{"a":null,"b":"UTC"},"tolerance":null}"#;
        let id = r#"{"name":"id","kind":"int","rounding":null,"zones":null,"tolerance":null}"#;
        let n = r#"{"name":"n","kind":"decimal","rounding":null,"zones":null,"tolerance":"0.5"}"#;
        assert_eq!(told, format!(r#"{{"key":["id"],"columns":[{at},{id},{n}],"where":null}}"#));
        let (plain, at_utc) = compared(TermFlags { zone, ..TermFlags::default() });
        assert_ne!(name(&plain, &at_utc), name(&terms, &shapes));
        let elsewhere = compared(TermFlags { zone: vec!["b=Europe/Berlin".into()], ..TermFlags::default() });
        assert_ne!(name(&plain, &at_utc), name(&elsewhere.0, &elsewhere.1));
    }

    #[test]
    fn a_comparison_keeps_the_name_by_which_what_differed_before_is_found() {
        let ignored = TermFlags { ignore: vec!["at".into()], ..TermFlags::default() };
        let (terms, shapes) = compared(ignored);
        let id = r#"{"name":"id","kind":"int","rounding":null}"#;
        let n = r#"{"name":"n","kind":"decimal","rounding":null}"#;
        assert_eq!(name(&terms, &shapes), format!(r#"{{"key":["id"],"columns":[{id},{n}],"where":null}}"#));
    }
}
