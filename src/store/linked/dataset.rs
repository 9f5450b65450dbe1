//! A table as a dataset that nodes share: its definition, its key, and the shape in which all of its tables are compared. The
//! identifier is made of the shape and of the encoding of rows, so that digests of different ones are never compared.
//!
//! Where it is kept, and which table of a home is one of it, is for whoever has them.

use reknit_core::row::{ENCODING, Kind};
use reknit_core::{DatasetId, DatasetKey, Definition, Profile};

use super::{Column, Columns, Shape, ShapeError, Terms};

/// What the identifier of such a dataset is derived for.
const ID: &str = "reknit 2026 v1 dataset of shared tables";
/// What errors call the dataset, beside the place of a table.
const DATASET: &str = "the dataset";

/// A dataset of tables: all that a node needs to know to compare one of them with those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDataset {
    definition: Definition,
    key: DatasetKey,
    /// Without the names and zones that a table has of its own.
    shape: Shape,
}

/// Why a table cannot be one of a dataset, or bytes are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableDatasetError {
    /// They have no shape in common.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// With this table it would be compared otherwise than the dataset says.
    #[error(
        "{place} does not fit the dataset: {}; nothing was changed. Types that tell less are read as those that tell more: make \
         the dataset of the table whose types tell more, and let the other one join it",
        unlike.join("; ")
    )]
    Unlike {
        /// The table.
        place: String,
        /// What differs, column by column.
        unlike: Vec<String>,
    },
    /// It is of another encoding of rows, or was tampered with.
    #[error(
        "the dataset was not made by this release's encoding of rows (version {ENCODING}), or is damaged; nothing was changed. \
         Run the same release on all nodes, or make the dataset anew"
    )]
    Encoding,
}

impl TableDataset {
    /// A new one, for tables of this shape; `key` is random.
    #[must_use]
    pub fn new(name: &str, key: [u8; 32], shape: &Shape) -> TableDataset {
        let shape = shape.without_own();
        let definition = Definition {
            profile: Profile::Content,
            key_index: false,
            ..Definition::simple(id(&key, &shape.to_bytes()), name)
        };
        TableDataset { definition, key: DatasetKey::from_bytes(key), shape }
    }

    /// One that is there, from its parts.
    ///
    /// # Errors
    /// [`TableDatasetError::Encoding`] if they do not belong together.
    pub fn of(definition: Definition, key: DatasetKey, shape: &[u8]) -> Result<TableDataset, TableDatasetError> {
        let shape = Shape::from_bytes(shape).map_err(|_| TableDatasetError::Encoding)?;
        let made = TableDataset::new(&definition.name, *key.as_bytes(), &shape);
        if made.definition == definition { Ok(made) } else { Err(TableDatasetError::Encoding) }
    }

    /// What both sides of a session hold.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Its secret.
    #[must_use]
    pub fn key(&self) -> &DatasetKey {
        &self.key
    }

    /// What is compared of its tables.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The shape as a table has it: `asked` tells what columns are called there, which of its own are left out, and of which
    /// zones they are; all else the dataset says.
    ///
    /// # Errors
    /// [`TableDatasetError`] names the columns that do not fit.
    pub fn shape_of(&self, place: &str, columns: &Columns, asked: &Terms) -> Result<Shape, TableDatasetError> {
        let own = &self.shape;
        let column =
            |(name, kind): &(String, Kind)| Column { name: name.clone(), kind: *kind, declared: String::new() };
        let known =
            Columns { columns: own.columns().iter().map(column).collect(), key: own.key().map(String::from).collect() };
        let rounding = |(place, (name, _)): (usize, &(String, Kind))| Some((Some(name.clone()), own.rounding(place)?));
        let terms = Terms {
            key: known.key.clone(),
            roundings: own.columns().iter().enumerate().filter_map(rounding).collect(),
            filter: own.filter().map(String::from),
            ..asked.clone()
        };
        let [said, meant] = terms.shapes((DATASET, &known), (place, columns))?;
        if said.to_bytes() == own.to_bytes() {
            return Ok(meant);
        }
        let unlike = own.columns().iter().filter_map(|(name, kind)| {
            match said.columns().iter().find(|(other, _)| other == name) {
                None => Some(format!("its column {name} is left out")),
                Some((_, other)) if other == kind => None,
                Some((_, other)) => {
                    let (other, kind) = (other.name(), kind.name());
                    Some(format!("{name} would be compared as {other}, the dataset compares it as {kind}"))
                }
            }
        });
        Err(TableDatasetError::Unlike { place: place.into(), unlike: unlike.collect() })
    }
}

fn id(key: &[u8; 32], shape: &[u8]) -> DatasetId {
    let mut hasher = blake3::Hasher::new_derive_key(ID);
    hasher.update(key).update(&[ENCODING]).update(shape);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    DatasetId(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::row::Rounding;

    fn table(columns: &[(&str, Kind)], key: &[&str]) -> Columns {
        let column =
            |(name, kind): &(&str, Kind)| Column { name: (*name).into(), kind: *kind, declared: String::new() };
        Columns { columns: columns.iter().map(column).collect(), key: key.iter().map(|name| (*name).into()).collect() }
    }

    fn dataset(columns: &[(&str, Kind)], terms: &Terms) -> TableDataset {
        let table = table(columns, &["id"]);
        let [shape, _] = terms.shapes(("a", &table), ("a", &table)).expect("a shape");
        TableDataset::new("t", [7; 32], &shape)
    }

    const TYPED: [(&str, Kind); 3] = [("id", Kind::Int), ("at", Kind::DateTime), ("name", Kind::Text)];

    #[test]
    fn the_identifier_tells_all_that_digests_depend_on() {
        let one = dataset(&TYPED, &Terms::default());
        assert_eq!(
            one.definition().id.to_string(),
            "eafd11588a215bb42b2cea52d7b776de",
            "pinned: nodes of two releases meet by it"
        );
        let rounded = Terms { roundings: vec![(Some("name".into()), Rounding::Folded)], ..Terms::default() };
        let other = dataset(&TYPED, &rounded);
        assert_ne!(one.definition().id, other.definition().id);
        let (definition, key) = (one.definition().clone(), one.key().clone());
        assert_eq!(TableDataset::of(definition.clone(), key.clone(), &one.shape().to_bytes()), Ok(one.clone()));
        let other = TableDataset::of(definition, key, &other.shape().to_bytes());
        assert_eq!(other, Err(TableDatasetError::Encoding));
    }

    #[test]
    fn a_table_whose_types_tell_less_fits_and_one_whose_types_tell_more_is_told() {
        let typed = dataset(&TYPED, &Terms::default());
        let loose = [("id", Kind::Spelled), ("at", Kind::Spelled), ("name", Kind::Spelled)];
        let shape = typed.shape_of("csv:x", &table(&loose, &[]), &Terms::default()).expect("it fits");
        assert_eq!(shape.to_bytes(), typed.shape().to_bytes());
        let error = dataset(&loose, &Terms::default()).shape_of("pg", &table(&TYPED, &["id"]), &Terms::default());
        let told = error.expect_err("refused").to_string();
        assert!(told.contains("at would be compared as datetime, the dataset compares it as spelled"), "{told}");
        assert!(told.contains("id would be") && told.contains("name would be"), "{told}");
    }

    #[test]
    fn what_a_table_has_of_its_own_is_renamed_or_left_out_or_told() {
        let typed = dataset(&TYPED, &Terms::default());
        let own =
            table(&[("id", Kind::Int), ("at", Kind::Text), ("called", Kind::Text), ("extra", Kind::Int)], &["id"]);
        let asked = |ignore: &[&str]| Terms {
            renames: vec![("called".into(), "name".into())],
            ignore: ignore.iter().map(|name| (*name).into()).collect(),
            ..Terms::default()
        };
        let shape = typed.shape_of("b", &own, &asked(&["extra"])).expect("it fits");
        assert_eq!(shape.sources(), ["at", "id", "called"]);
        let told = |asked: &Terms| typed.shape_of("b", &own, asked).expect_err("refused").to_string();
        assert!(told(&asked(&[])).contains("the dataset has no column extra"));
        assert!(told(&asked(&["extra", "at"])).contains("its column at is left out"));
        assert!(told(&Terms { ignore: vec!["extra".into()], ..Terms::default() }).contains("column"));
    }

    #[test]
    fn what_the_dataset_rounds_and_leaves_out_counts_for_whoever_joins() {
        let terms = Terms {
            roundings: vec![(Some("name".into()), Rounding::Folded)],
            filter: Some("id > 1".into()),
            ..Terms::default()
        };
        let rounding = dataset(&TYPED, &terms);
        let shape = rounding.shape_of("b", &table(&TYPED, &["id"]), &Terms::default()).expect("it fits");
        assert_eq!((shape.filter(), shape.to_bytes()), (Some("id > 1"), rounding.shape().to_bytes()));
    }
}
