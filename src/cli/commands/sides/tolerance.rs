//! Which rows of two tables differ by no more than is tolerated: all that differ are listed first, and looked at in both tables.

use std::sync::Arc;

use reknit_core::Millis;
use reknit_core::difference::Difference;
use reknit_core::session::Tolerated;

use super::listed;
use crate::cli::CliError;
use crate::cli::env::Env;
use crate::store::linked::{Linked, Terms};

/// Rows that are looked up at once.
const ROWS: usize = 1_000;

/// The keys whose rows differ by no more than the terms tolerate; none where they tolerate nothing.
pub(super) fn tolerated(
    env: &mut Env,
    pair: &[Linked; 2],
    terms: &Terms,
    settle: Millis,
) -> Result<Option<Arc<Tolerated>>, CliError> {
    if terms.tolerances.is_empty() {
        return Ok(None);
    }
    let [a, b] = pair;
    let mut tolerated = Tolerated::default();
    let found = listed::differing(env, pair, settle)?;
    let both: Vec<&Difference> = found.iter().filter(|found| found.entries.iter().all(Option::is_some)).collect();
    for some in both.chunks(ROWS) {
        let keys: Vec<Vec<u8>> = some.iter().map(|difference| difference.key.clone()).collect();
        let (mine, theirs) = (a.rows_of(&keys)?, b.rows_of(&keys)?);
        for difference in some {
            let key = &difference.key;
            let (Some(here), Some(there)) = (mine.get(key), theirs.get(key)) else { continue };
            let values = (a.shape().row_values(here), b.shape().row_values(there));
            let (Ok(in_a), Ok(in_b)) = values else { continue };
            if terms.tolerates(a.shape(), &in_a, &in_b) {
                let entries = [Some(a.entry(key, here)), Some(b.entry(key, there))];
                tolerated.keys.insert((difference.collection, key.clone()), entries);
            }
        }
    }
    Ok(Some(Arc::new(tolerated)))
}
