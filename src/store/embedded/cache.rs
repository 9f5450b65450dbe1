//! Parts of the trees kept in memory between commits, so that a write need not read what the last one wrote.
//! It belongs to the writer and always shows the last commit; which parts are worth keeping is decided by use alone.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use reknit_core::tree::{Summary, Update, is_leaf};
use reknit_core::{CollectionId, Entry, Range};

/// A part of a tree as of the last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The children of an inner node.
    Family(Box<[Summary; 16]>),
    /// All entries of a leaf, sorted.
    Leaf(Vec<Entry>),
}

impl Held {
    fn bytes(&self) -> usize {
        /// What a map and an allocation add, about.
        const OVERHEAD: usize = 64;
        OVERHEAD
            + match self {
                Self::Family(_) => size_of::<[Summary; 16]>(),
                Self::Leaf(entries) => entries.capacity() * size_of::<Entry>(),
            }
    }
}

/// Parts that one batch touched, by range.
pub(super) type Touched = HashMap<Range, Held, Placed>;

/// Ranges lie where a keyed hash put their records, so nobody can choose them to collide, and mixing them is enough.
type Placed = BuildHasherDefault<Mix>;

#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, part: u8) {
        self.write_u64(u64::from(part));
    }

    fn write_u16(&mut self, part: u16) {
        self.write_u64(u64::from(part));
    }

    fn write_u64(&mut self, part: u64) {
        self.0 = (self.0 ^ part ^ (part >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// A bounded set of parts. When it is full, any part makes room: which ranges are written next is as good as random,
/// so no order of use would tell.
pub(super) struct Cache {
    parts: Vec<((CollectionId, Range), Held)>,
    places: HashMap<(CollectionId, Range), usize, Placed>,
    bytes: usize,
    bytes_max: usize,
    /// Picks what makes room.
    draw: u64,
}

impl Cache {
    /// A cache of at most about `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { parts: Vec::new(), places: HashMap::default(), bytes: 0, bytes_max, draw: 1 }
    }

    /// Forgets all parts.
    #[cfg(feature = "embedded-redb")]
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// Takes a part out. Whoever changes it puts it back when the change is committed, so that it is never stale.
    pub(super) fn take(&mut self, collection: CollectionId, range: Range) -> Option<Held> {
        let place = self.places.remove(&(collection, range))?;
        Some(self.remove(place))
    }

    pub(super) fn put(&mut self, collection: CollectionId, range: Range, held: Held) {
        self.take(collection, range);
        self.bytes += held.bytes();
        self.places.insert((collection, range), self.parts.len());
        self.parts.push(((collection, range), held));
        while self.bytes > self.bytes_max && !self.parts.is_empty() {
            // A generator of full period; only its upper bits are used.
            self.draw = self.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = usize::try_from(self.draw >> 33).unwrap_or(0) % self.parts.len();
            self.places.remove(&self.parts[place].0);
            self.remove(place);
        }
    }

    /// Removes the part at a place that no range is known by any more; the last one moves there.
    fn remove(&mut self, place: usize) -> Held {
        let (_, held) = self.parts.swap_remove(place);
        if let Some((moved, _)) = self.parts.get(place) {
            self.places.insert(*moved, place);
        }
        self.bytes -= held.bytes().min(self.bytes);
        held
    }

    /// Puts back what a batch touched, as it is after the batch was committed, and forgets what is gone.
    pub(super) fn absorb(&mut self, collection: CollectionId, mut touched: Touched, update: &Update) {
        let leaves: Vec<Range> =
            touched.iter().filter(|(_, held)| matches!(held, Held::Leaf(_))).map(|(range, _)| *range).collect();
        for range in leaves {
            if let Some(Held::Leaf(mut entries)) = touched.remove(&range) {
                lay(&mut entries, in_range(update, range));
                put_leaves(&mut touched, range, entries);
            }
        }
        // In order of depth: a parent is settled before its children are.
        for (range, summary) in &update.nodes {
            let Some(parent) = range.parent() else { continue };
            let Some(summary) = summary else {
                touched.remove(range);
                self.take(collection, *range);
                if let Some(Held::Family(family)) = touched.get_mut(&parent) {
                    family[place(parent, *range)] = Summary::EMPTY;
                }
                continue;
            };
            let family = touched.entry(parent).or_insert_with(|| Held::Family(Box::new([Summary::EMPTY; 16])));
            if let Held::Family(family) = family {
                family[place(parent, *range)] = *summary;
            }
            if is_leaf(*range, summary.count) && !touched.contains_key(range) {
                // It was vacant before, so all of its entries are new.
                let mut entries = Vec::new();
                lay(&mut entries, in_range(update, *range));
                if entries.len() as u64 == summary.count {
                    touched.insert(*range, Held::Leaf(entries));
                }
            }
        }
        self.put_back(collection, touched);
    }

    /// Puts back what was taken and not changed.
    pub(super) fn put_back(&mut self, collection: CollectionId, touched: Touched) {
        for (range, held) in touched {
            self.put(collection, range, held);
        }
    }
}

fn place(parent: Range, child: Range) -> usize {
    usize::from(parent.digit(child.first()))
}

/// The changed positions of a range, each with all digests that are there now.
fn in_range(update: &Update, range: Range) -> &[(reknit_core::Position, Vec<reknit_core::Digest>)] {
    let all = &update.positions;
    let start = all.partition_point(|(position, _)| *position < range.first());
    let end = all.partition_point(|(position, _)| *position <= range.last());
    &all[start..end]
}

/// Replaces all entries at the changed positions, in place: a leaf is small, and most changes are of one entry.
fn lay(entries: &mut Vec<Entry>, changed: &[(reknit_core::Position, Vec<reknit_core::Digest>)]) {
    /// Room that a leaf gets when it grows, so that it does not grow with every entry nor double.
    const ROOM: usize = 4;
    for (position, digests) in changed {
        let start = entries.partition_point(|entry| entry.position < *position);
        let end = start + entries[start..].partition_point(|entry| entry.position == *position);
        let there = digests.iter().map(|digest| Entry { position: *position, digest: *digest });
        if end - start == digests.len() {
            entries[start..end].iter_mut().zip(there).for_each(|(old, new)| *old = new);
            continue;
        }
        if entries.capacity() < entries.len() + digests.len() {
            entries.reserve_exact(digests.len() + ROOM);
        }
        entries.splice(start..end, there);
    }
}

/// Puts a range's entries in as the leaves that they make.
fn put_leaves(touched: &mut Touched, range: Range, entries: Vec<Entry>) {
    if is_leaf(range, entries.len() as u64) {
        // A vacant range is never asked for, so a part kept for it would go stale.
        if !entries.is_empty() {
            touched.insert(range, Held::Leaf(entries));
        }
        return;
    }
    let mut rest = entries.as_slice();
    for digit in 0..16 {
        let part = range.child(digit);
        let (mine, others) = rest.split_at(rest.partition_point(|entry| part.contains(entry.position)));
        rest = others;
        if !mine.is_empty() {
            put_leaves(touched, part, mine.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_stays_within_its_bound_and_gives_back_what_it_holds() {
        let mut cache = Cache::new(20 * 800);
        let (collection, family) =
            (CollectionId(0), |n| Held::Family(Box::new([Summary { count: n, ..Summary::EMPTY }; 16])));
        let range = |nth: u64| Range::of(reknit_core::Position(nth << 40), 6);
        for nth in 0..1000 {
            cache.put(collection, range(nth), family(nth));
            assert!(cache.bytes <= 20 * 800 && cache.parts.len() == cache.places.len());
        }
        let held: Vec<u64> =
            (0..1000).filter(|nth| cache.take(collection, range(*nth)) == Some(family(*nth))).collect();
        assert!(held.len() > 10, "{held:?}");
        assert!(cache.bytes == 0 && cache.parts.is_empty() && cache.places.is_empty());
    }
}
