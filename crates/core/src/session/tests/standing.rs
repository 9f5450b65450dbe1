//! Which differences of bare contents stood still while both sides were written: values tell it, there are no versions.

use proptest::prelude::*;

use super::model::Model;
use super::world::{Followed, Run, World, run};
use super::*;
use crate::dataset::Profile;

/// A key that nobody writes.
const LOST: [u8; 2] = [0xff; 2];

proptest! {
    #![proptest_config(ProptestConfig { cases: 10000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_followed_in_time_never_stands_and_what_was_lost_does(seed: u64, turned: bool) {
        let (mut a, mut b) = (Model::new(1, Profile::Content, 64), Model::new(2, Profile::Content, 64));
        a.put_bare(&LOST, Some(vec![1]));
        let world = World { followed: Some(Followed::new(seed, turned)), ..World::quiet() };
        let options = Options { settle: 500, ..Options::new(Intent::Diff) };
        let Run { outcome, found, .. } = run(&mut a, &mut b, options, world);
        let stable: Vec<Vec<u8>> = found.iter().filter(|d| d.stable).map(|d| d.key.clone()).collect();
        prop_assert_eq!(stable, [LOST.to_vec()], "{:?}", outcome);
    }
}
