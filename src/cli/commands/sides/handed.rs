//! How rows are laid out, handed from one store of this process to the other in a repair: to one that was made before the first import.
//!
//! Sessions with peers do not tell it: there it is said what is missing, and `import` takes it from a file.

use reknit_core::difference::Side as Seen;
use reknit_core::session::Direction;
use reknit_core::{CollectionId, Definition};

use crate::cli::CliError;
use crate::cli::env::Env;
use crate::cli::layouts::{fitted, lacks_one, of_collection};
use crate::node::HeldStore;
use crate::store::{Collection, Store};

/// What is to be handed, and what to look at where nothing can be.
#[derive(Default)]
pub(super) struct Handed {
    layouts: Vec<(Collection, Vec<u8>)>,
    /// Collections that a peer may fill with rows.
    filled: Vec<Collection>,
}

impl Handed {
    /// What each store that is written may take from the other, as both are before the session: it holds no records in another form.
    pub(super) fn between(
        (opener, responder): &(Option<Store>, Option<Store>),
        direction: Direction,
        scope: &[CollectionId],
    ) -> Result<Handed, CliError> {
        let mut handed = Handed::default();
        let Some(opener) = opener else { return Ok(handed) };
        for id in ids(opener.definition(), scope) {
            let name = &opener.definition().collections[usize::from(id.0)].name;
            let mine = opener.collection(name)?;
            let Some(responder) = responder else {
                if direction.writes(Seen::Mine) && mine.layout()?.is_none() {
                    handed.filled.push(mine);
                }
                continue;
            };
            if responder.definition() != opener.definition() {
                return Ok(handed);
            }
            let theirs = responder.collection(name)?;
            for (written, into, from) in [(Seen::Mine, &mine, &theirs), (Seen::Theirs, &theirs, &mine)] {
                if direction.writes(written) && into.layout()?.is_none() && from.layout()?.is_some() {
                    let fitted = fitted(into, &of_collection(from)?)?;
                    handed.layouts.extend(fitted.map(|layout| (into.clone(), layout.to_bytes())));
                }
            }
        }
        Ok(handed)
    }

    /// Hands it over; says what is to be told of the opener now, if that is anything new.
    pub(super) fn take(
        self,
        env: &Env,
        (opener, _): &(Option<Store>, Option<Store>),
    ) -> Result<Option<HeldStore>, CliError> {
        for collection in &self.filled {
            if lacks_one(collection)? {
                env.warn(&format!(
                    "{} holds rows of a file and does not know how they are laid out, which a peer does not tell: keys are shown as \
                     bytes until such a file is imported here once, of which the head is enough",
                    collection.name()
                ));
            }
        }
        let new = !self.layouts.is_empty();
        for (collection, layout) in self.layouts {
            // An import may have come meanwhile.
            if collection.layout()?.is_none() {
                collection.set_layout(Some(layout))?;
            }
        }
        Ok(opener.as_ref().filter(|_| new).map(|opener| HeldStore::of(opener)).transpose()?)
    }
}

/// The collections that a session is about; none named: all, but that of the members.
fn ids(definition: &Definition, scope: &[CollectionId]) -> Vec<CollectionId> {
    definition.data().map(|(id, _)| id).filter(|id| scope.is_empty() || scope.contains(id)).collect()
}
