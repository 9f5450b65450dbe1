//! Policies that choose by one column: the largest, the smallest or the newest.

use super::{Judgement, Policy, PolicyError, Why, column, rows};
use crate::record::Sibling;

/// Which end of a column wins. The newest is the largest, by another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Largest,
    Smallest,
}

/// Chooses by one column; equal columns by stamp, actor and content. A live version wins over a tombstone.
#[derive(Debug)]
pub(super) struct ByColumn {
    id: String,
    end: End,
    column: String,
}

impl ByColumn {
    pub(super) fn parse(id: &str, name: &str, column: &str) -> Option<ByColumn> {
        let end = match name {
            "largest/1" | "newest/1" => End::Largest,
            "smallest/1" => End::Smallest,
            _ => return None,
        };
        (!column.is_empty()).then(|| ByColumn { id: id.into(), end, column: column.into() })
    }

    fn choose(&self, versions: &[Sibling]) -> Result<usize, PolicyError> {
        let rows = rows(versions)?;
        let mut chosen = None;
        for (nth, row) in &rows {
            let value = column(row, &self.column)?;
            let wins = chosen.is_none_or(|(_, best)| match self.end {
                // Versions come newest first: of equal ones the first stays.
                End::Largest => value.by_size(best).is_gt(),
                End::Smallest => value.by_size(best).is_lt(),
            });
            if wins {
                chosen = Some((*nth, value));
            }
        }
        Ok(chosen.map_or(0, |(nth, _)| nth))
    }
}

impl Policy for ByColumn {
    fn id(&self) -> &str {
        &self.id
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        if versions.len() == 1 {
            return Judgement::Version(0);
        }
        match self.choose(versions) {
            Ok(nth) => Judgement::Version(nth),
            Err(error) => Judgement::Open { shown: versions.len() - 1, why: Why::Failed(error) },
        }
    }
}
