//! In which order the tables of two databases are repaired: parents before children, by the foreign keys of what is written.
//!
//! The order itself is the core's; that a row which others refer to stays is the adapters' concern.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use reknit_core::order::Order;

use super::Todo;
use crate::cli::args::{Among, Repair, To};
use crate::cli::commands::sides::tables;
use crate::cli::env::Env;
use crate::store::linked::Kin;

/// Puts tables in the order in which rows come, and notes for each what is repaired beside it. Where rows are to be deleted,
/// those of tables that refer to each other go later. Circles are told.
pub(super) fn in_order(env: &mut Env, repair: &Repair, todo: Vec<Todo>) -> Vec<Todo> {
    let mut pairs = Vec::new();
    let sides = [repair.to() != To::B, repair.to() != To::A];
    let [a, b] = [0, 1].map(|side| {
        if !sides[side] {
            return BTreeSet::new();
        }
        // What cannot be opened is told by its command.
        let typed = |todo: &Todo| if side == 0 { todo.sides.a.clone() } else { todo.sides.b.clone() };
        let kin = |todo: &Todo| tables::table(env, &typed(todo)).ok()?.kin().ok();
        let all: Vec<Option<Kin>> = todo.iter().map(kin).collect();
        let place = |name: &String| all.iter().position(|kin| kin.as_ref().is_some_and(|kin| kin.name == *name));
        for (child, kin) in all.iter().enumerate() {
            let parents = kin.iter().flat_map(|kin| &kin.parents).filter_map(place);
            pairs.extend(parents.map(|parent| (child, parent)));
        }
        all.iter().flatten().map(|kin| kin.name.clone()).collect()
    });
    let (names, order) = ([Arc::new(a), Arc::new(b)], Order::of(todo.len(), &pairs));
    for circle in &order.circles {
        let circle: Vec<&str> = circle.iter().map(|place| todo[*place].name.as_str()).collect();
        let _ = writeln!(
            env.err,
            "reknit: {} refer to one another in a circle: none of them comes first, and {}",
            circle.join(", "),
            match &repair.sql {
                None => "rows that are refused are tried again",
                Some(_) => "some of the statements may be refused, unless they are run once more",
            }
        );
    }
    let related: BTreeSet<usize> = pairs.iter().flat_map(|(child, parent)| [*child, *parent]).collect();
    let later = (repair.apply || repair.sql.is_some()) && repair.deletes();
    let mut todo: Vec<Option<Todo>> = todo.into_iter().map(Some).collect();
    let put = order.parents_first.into_iter().filter_map(|place| {
        let todo = todo.get_mut(place)?.take()?;
        let deletes_later = later && related.contains(&place);
        Some(Todo { among: Among { tables: names.clone(), deletes_later, ..todo.among }, ..todo })
    });
    put.collect()
}
