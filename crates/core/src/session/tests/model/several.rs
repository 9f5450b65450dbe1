//! A model of several collections: one store holds the others.

use super::Model;
use crate::dataset::CollectionId;
use crate::query::{Answer, Query};

impl Model {
    /// Holds another collection, of this name, which is empty.
    pub(in super::super) fn beside(mut self, name: &str) -> Model {
        let mut other = Model::new(self.life.actor, self.definition.profile, 64);
        other.name = name.into();
        other.definition.collections[0].name = name.into();
        self.definition.collections.push(other.definition.collections[0].clone());
        self.beside.push(other);
        self
    }

    /// A collection, as a store of its own.
    pub(in super::super) fn of(&self, collection: CollectionId) -> &Model {
        usize::from(collection.0).checked_sub(1).map_or(self, |nth| &self.beside[nth])
    }

    /// The same, to be written.
    pub(in super::super) fn of_mut(&mut self, collection: CollectionId) -> &mut Model {
        match usize::from(collection.0).checked_sub(1) {
            Some(nth) => &mut self.beside[nth],
            None => self,
        }
    }

    pub(in super::super) fn answer(&mut self, mut query: Query) -> Answer {
        // Each commit of a store has a number of its own.
        self.commit = self.beside.iter().fold(self.commit, |commit, other| commit.max(other.commit));
        let mut whole = CollectionId(0);
        let about = match &mut query {
            Query::Views(c, _) | Query::Items(c, _) | Query::Sketches(c, ..) | Query::Rests(c, _) => c,
            Query::List(c, ..) | Query::Apply(c, _) | Query::Overwrite(c, _) => c,
            _ => &mut whole,
        };
        let collection = std::mem::take(about);
        if collection == CollectionId(0) {
            return self.answer_alone(query);
        }
        let commit = self.commit;
        let other = self.of_mut(collection);
        other.commit = commit;
        let answer = other.answer_alone(query);
        self.commit = self.of(collection).commit;
        answer
    }
}
