//! What the tests of a program check what it brings by: a policy, a store, a kind of database, a network. What the laws and
//! contracts are is told where those are: [`core::policy`](crate::core::policy), [`store`](crate::store),
//! [`Table`](crate::store::linked::Table), [`transport::network`](crate::transport::network).
//!
//! | a program brings | it implements | its tests call |
//! |---|---|---|
//! | a policy | [`Policy`] | [`policy_laws`] |
//! | a store | [`Side`](crate::store::Side) | [`store_contract`] |
//! | a kind of database | [`Table`](crate::store::linked::Table) | [`table_contract`] |
//! | a network | [`Network`](crate::transport::Network) | [`network_contract`] |
//!
//! ```
//! use reknit::core::policy::{Judgement, Policy};
//! use reknit::core::{Content, Sibling};
//! use reknit::testing::{LawBroken, policy_laws};
//!
//! /// The longest value; of equally long ones the newest.
//! #[derive(Debug)]
//! struct Longest;
//!
//! impl Policy for Longest {
//!     fn id(&self) -> &str {
//!         "longest/1"
//!     }
//!
//!     fn judge(&self, versions: &[Sibling]) -> Judgement {
//!         let length = |version: &Sibling| version.value().map(Vec::len);
//!         let longest = versions.iter().map(length).max();
//!         Judgement::Version(versions.iter().position(|version| Some(length(version)) == longest).unwrap_or(0))
//!     }
//! }
//!
//! // Contents on which it might go wrong: of one length, empty, long.
//! let contents = ["", "Bern", "Thun", "Lausanne"].map(|text| Content::Live(text.into()));
//! assert_eq!(policy_laws(&Longest, &contents, 1), Ok(()));
//!
//! /// The second version, whether or not there is one.
//! #[derive(Debug)]
//! struct Second;
//!
//! impl Policy for Second {
//!     fn id(&self) -> &str {
//!         "second/1"
//!     }
//!
//!     fn judge(&self, _: &[Sibling]) -> Judgement {
//!         Judgement::Version(1)
//!     }
//! }
//!
//! let broken = policy_laws(&Second, &contents, 1);
//! assert!(matches!(broken, Err(LawBroken::NoSuchVersion(versions)) if versions.len() == 1));
//! ```

use crate::core::Content;
pub use crate::core::policy::LawBroken;
use crate::core::policy::{Policy, judged};
#[cfg(feature = "store")]
pub use crate::store::contract::{Make, run as store_contract};
#[cfg(feature = "store")]
pub use crate::store::linked::contract::{
    Can, Make as MakeTable, ROWS as TABLE_ROWS, Row as TableRow, run as table_contract,
};
#[cfg(feature = "node")]
pub use crate::transport::contract::run as network_contract;

/// After it the clock's second is the next.
const LATER: std::time::Duration = std::time::Duration::from_secs(1);

/// Checks a policy as [`core::policy::policy_laws`](crate::core::policy::policy_laws) does, and asks it about everything once more
/// a second later: what it says must not depend on the time.
///
/// # Errors
/// The first law that was found broken.
///
/// # Panics
/// Where the policy does.
pub fn policy_laws(policy: &dyn Policy, contents: &[Content], seed: u64) -> Result<(), LawBroken> {
    let judged = judged(policy, contents, seed)?;
    std::thread::sleep(LATER);
    judged.again(policy)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::core::Sibling;
    use crate::core::policy::Judgement;

    /// One version in one second, another in the next.
    #[derive(Debug)]
    struct BySecond;

    impl Policy for BySecond {
        fn id(&self) -> &str {
            "by-second/1"
        }

        fn judge(&self, versions: &[Sibling]) -> Judgement {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Judgement::Version(since.as_secs() as usize % versions.len())
        }
    }

    #[test]
    fn a_policy_that_goes_by_the_clock_is_noticed() {
        let broken = policy_laws(&BySecond, &[Content::Live(b"x".to_vec())], 1);
        assert!(matches!(broken, Err(LawBroken::TwoAnswers(set)) if set.len() > 1));
    }
}
