//! Parents before children: in which order things that refer to one another are written, and which of them refer to one another
//! in circles, so that no order is right for all of those.
//!
//! What refers to what, and what is done in that order, is for whoever asks.

/// An order in which whatever is referred to comes before what refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The numbers of all things. Those of a circle stand next to each other, the lowest first.
    pub parents_first: Vec<usize>,
    /// Those that refer to one another in a circle, at least two each, in the same order.
    pub circles: Vec<Vec<usize>>,
}

impl Order {
    /// The order of so many things, numbered from 0, of which each first of a pair refers to the second. What refers to
    /// itself waits for nothing; numbers that there are not are of no account.
    ///
    /// Takes time and room in proportion to things and pairs, however they lie.
    #[must_use]
    pub fn of(count: usize, pairs: &[(usize, usize)]) -> Order {
        let mut children = vec![Vec::new(); count];
        let mut parents = vec![Vec::new(); count];
        for (child, parent) in pairs.iter().filter(|(child, parent)| *child.max(parent) < count) {
            children[*parent].push(*child);
            parents[*child].push(*parent);
        }
        // Kosaraju's: in the reverse of the order in which walks down to children end, each walk up to parents that were not
        // met yet is one circle, or one thing.
        let (mut met, mut ended) = (vec![false; count], Vec::with_capacity(count));
        for root in (0..count).rev() {
            walk(root, &children, &mut met, &mut ended);
        }
        let mut order = Order::default();
        met.fill(false);
        for root in ended.into_iter().rev() {
            let mut circle = Vec::new();
            walk(root, &parents, &mut met, &mut circle);
            circle.sort_unstable();
            order.parents_first.extend(&circle);
            if circle.len() > 1 {
                order.circles.push(circle);
            }
        }
        order
    }
}

/// Walks to all that is to be reached and was not met, and notes each once what lies behind it was.
fn walk(root: usize, to: &[Vec<usize>], met: &mut [bool], ended: &mut Vec<usize>) {
    let mut path = Vec::new();
    if !std::mem::replace(&mut met[root], true) {
        path.push((root, 0));
    }
    while let Some((at, next)) = path.last_mut() {
        match to[*at].get(*next) {
            Some(one) => {
                *next += 1;
                if !std::mem::replace(&mut met[*one], true) {
                    path.push((*one, 0));
                }
            }
            None => {
                ended.push(*at);
                path.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn order(count: usize, pairs: &[(usize, usize)]) -> Vec<usize> {
        Order::of(count, pairs).parents_first
    }

    #[test]
    fn what_refers_to_nothing_stays_where_it_was() {
        assert_eq!(order(0, &[]), Vec::<usize>::new());
        assert_eq!(order(4, &[(2, 2), (9, 1), (1, 9)]), [0, 1, 2, 3]);
        assert_eq!(order(4, &[(0, 1), (1, 3)]), [2, 3, 1, 0]);
    }

    #[test]
    fn circles_stand_between_what_they_refer_to_and_what_refers_to_them() {
        let found = Order::of(5, &[(0, 1), (1, 2), (2, 1), (1, 4), (3, 3)]);
        assert_eq!(found.circles, [[1, 2]]);
        assert_eq!(found.parents_first, [3, 4, 1, 2, 0]);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let count = 1_000_000;
        let pairs: Vec<(usize, usize)> = (1..count).map(|child| (child - 1, child)).collect();
        assert!(order(count, &pairs).into_iter().eq((0..count).rev()));
    }

    proptest! {
        #[test]
        fn all_come_once_and_parents_before_children_but_in_circles(
            count in 0usize..24,
            pairs in prop::collection::vec((0usize..24, 0usize..24), 0..60),
        ) {
            let found = Order::of(count, &pairs);
            let mut all = found.parents_first.clone();
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            // Whether the one refers to the other, through however many.
            let mut refers: BTreeSet<(usize, usize)> =
                pairs.into_iter().filter(|(child, parent)| *child.max(parent) < count).collect();
            for over in 0..count {
                let of = |one: usize| refers.contains(&(one, over));
                let to = |one: usize| refers.contains(&(over, one));
                let through: Vec<(usize, usize)> = (0..count)
                    .filter(|child| of(*child))
                    .flat_map(|child| (0..count).filter(|parent| to(*parent)).map(move |parent| (child, parent)))
                    .collect();
                refers.extend(through);
            }
            let circle = |one: usize| found.circles.iter().position(|circle| circle.contains(&one));
            let place = |one: usize| found.parents_first.iter().position(|other| *other == one);
            for child in 0..count {
                for parent in (0..count).filter(|parent| *parent != child) {
                    let (there, back) = (refers.contains(&(child, parent)), refers.contains(&(parent, child)));
                    let together = there && back;
                    prop_assert_eq!(together, circle(child).is_some() && circle(child) == circle(parent));
                    if there && !together {
                        prop_assert!(place(parent) < place(child));
                    }
                }
            }
        }
    }
}
