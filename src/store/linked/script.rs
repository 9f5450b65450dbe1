//! Changes of a table as statements of SQL, for somebody else to run: each over what was compared alone, what others refer to
//! first. Nothing is written here but the text.
//!
//! How a database spells values and names is its adapter's concern ([`Script`]), where the text goes that of the caller.

use std::collections::BTreeMap;

use super::changing::{Fate, Wanted};
use super::looking::Held;
use super::references::Ends;
use super::{Access, Change, Linked, Shape};
use crate::store::StoreError;

/// Rows that are looked up at once.
const ROWS_PER_LOOK: usize = 1_000;

/// How a database spells changes. Each text is one line.
pub trait Script {
    /// What comes before all else.
    fn opens(&self) -> Vec<String>;

    /// What begins a transaction.
    fn begins(&self) -> Vec<String>;

    /// One change. In place of where a row is comes all that it holds, in the order of the shape's columns: the row is to be
    /// written only if that is what it still holds.
    ///
    /// # Errors
    /// Why it cannot be said in SQL.
    fn statement(&mut self, shape: &Shape, change: Change<'_>) -> Result<String, String>;

    /// What comes after all else.
    fn closes(&self) -> Vec<String>;
}

/// What became of rows that were to be put in statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scripted {
    /// Rows that statements insert, change and delete.
    pub inserts: u64,
    /// See there.
    pub updates: u64,
    /// See there.
    pub deletes: u64,
    /// Transactions that hold them.
    pub batches: u64,
    /// Keys of rows that are in none, with the reason.
    pub left: Vec<(Vec<u8>, String)>,
}

impl Scripted {
    /// Puts together what became of some and of others.
    pub fn add(&mut self, other: Scripted) {
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.batches += other.batches;
        self.left.extend(other.left);
    }

    /// How many statements there are.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }
}

/// A key of two tables that were compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The key, encoded.
    pub key: Vec<u8>,
    /// Its entry in this table then, by [`reknit_core::Digest::short`].
    pub here: Option<u64>,
    /// And in the other one.
    pub there: Option<u64>,
}

impl Linked {
    /// What another table is to hold of these keys to be as this one; and those that have moved here since they were compared.
    ///
    /// # Errors
    /// As for [`Linked::row`].
    pub fn wanted(&self, keys: Vec<Compared>) -> Result<(Vec<Wanted>, Vec<Vec<u8>>), StoreError> {
        let (mut wanted, mut moved) = (Vec::with_capacity(keys.len()), Vec::new());
        for some in keys.chunks(ROWS_PER_LOOK) {
            let mut rows = self.rows_of(&some.iter().map(|compared| compared.key.clone()).collect::<Vec<_>>())?;
            for Compared { key, here, there } in some {
                let row = rows.remove(key);
                if row.as_ref().map(|row| self.entry(key, row)) == *here {
                    wanted.push(Wanted { key: key.clone(), expected: *there, row });
                } else {
                    moved.push(key.clone());
                }
            }
        }
        Ok((wanted, moved))
    }

    /// Hands over, line by line, the statements that make rows what they are wanted to be.
    ///
    /// # Errors
    /// [`StoreError::Database`], or what whoever takes the lines met.
    pub fn script<E: From<StoreError>>(
        &self,
        wanted: &[Wanted],
        line: &mut dyn FnMut(&str) -> Result<(), E>,
    ) -> Result<Scripted, E> {
        let mut script = self.table.script(self.manner.wait)?;
        let mut scripted = Scripted::default();
        let mut held: BTreeMap<Vec<u8>, Held> = BTreeMap::new();
        for some in wanted.chunks(ROWS_PER_LOOK) {
            let keys: Vec<Vec<u8>> = some.iter().map(|wanted| wanted.key.clone()).collect();
            let mut transaction = self.table.begin(Access::Read, self.manner.wait)?;
            held.extend(self.held(&mut *transaction, &keys, &|_| true)?);
            transaction.commit()?;
        }
        let mut open = Vec::new();
        for wanted in wanted {
            match self.decide(wanted, held.get(&wanted.key)) {
                Fate::Open => open.push(wanted),
                Fate::Refused(reason) => scripted.left.push((wanted.key.clone(), reason)),
                Fate::Moved => scripted.left.push((wanted.key.clone(), "it has changed since it was compared".into())),
                // Nobody is asked to wait here: whoever runs the statements does.
                Fate::Busy(_) => open.push(wanted),
                Fate::Applied | Fate::Kept => {}
            }
        }
        let ends: Vec<Ends> = open.iter().map(|wanted| self.ends(wanted, held.get(&wanted.key))).collect();
        let mut lines = Vec::new();
        let mut begun = false;
        for nth in self.references()?.order(&ends) {
            let (wanted, held) = (open[nth], held.get(&open[nth].key));
            let values = self.values(wanted)?;
            let given = values.as_deref().map(|values| self.shape.given(values));
            let differing;
            let change = match (held, &values, &given) {
                (None, Some(_), Some(given)) => Change::Insert(given),
                (Some(held), Some(new), Some(given)) => {
                    let places = self.differing(held, new)?;
                    differing = places.into_iter().map(|(nth, _)| (nth, &given[nth])).collect::<Vec<_>>();
                    Change::Update(&held.values, &differing)
                }
                (Some(held), None, _) => Change::Delete(&held.values),
                _ => continue,
            };
            match script.statement(&self.shape, change) {
                Ok(statement) => lines.push(statement),
                Err(reason) => {
                    scripted.left.push((wanted.key.clone(), reason));
                    continue;
                }
            }
            *(match change {
                Change::Insert(_) => &mut scripted.inserts,
                Change::Update(..) => &mut scripted.updates,
                Change::Delete(_) => &mut scripted.deletes,
            }) += 1;
            if lines.len() == self.manner.batch {
                put(&*script, &mut begun, &mut lines, &mut scripted, line)?;
            }
        }
        put(&*script, &mut begun, &mut lines, &mut scripted, line)?;
        if scripted.statements() > 0 {
            script.closes().iter().try_for_each(|text| line(text))?;
        }
        Ok(scripted)
    }
}

/// Hands over one transaction.
fn put<E>(
    script: &dyn Script,
    begun: &mut bool,
    lines: &mut Vec<String>,
    scripted: &mut Scripted,
    line: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    if lines.is_empty() {
        return Ok(());
    }
    if !std::mem::replace(begun, true) {
        script.opens().iter().try_for_each(|text| line(text))?;
    }
    script.begins().iter().try_for_each(|text| line(text))?;
    lines.drain(..).try_for_each(|text| line(&text))?;
    scripted.batches += 1;
    line("COMMIT;")
}
