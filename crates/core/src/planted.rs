//! Bugs that the simulation plants, to prove that it would notice them. Without the feature `planted-bugs`, which nothing
//! but a test ever asks for, there are none: [`planted`] is `false` before anything is compiled.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says what is wrong")]
pub enum Bug {
    XorLeaves,
    KeyOnlyDigest,
    FinalRootCheckSkipped,
    LastChildDropped,
    AcknowledgedBeforeSync,
    StampBeforeCausality,
    PolicyJudgedPairwise,
    BeforeImageAfter,
    CommitLoweredByUndo,
    SiblingsLostAtCap,
    EchoRestamped,
    ClockFollowsWithoutBound,
    TombstoneCollectedEarly,
    ReceiptOfAnotherCut,
    LapsedPushesFirst,
    ActorReusedAfterRestore,
    QuarantinedRecordApplied,
    ExpiryByLocalClock,
    OtherSidePreferred,
    HistoryDroppedEarly,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 20] = [
        Bug::XorLeaves,
        Bug::KeyOnlyDigest,
        Bug::FinalRootCheckSkipped,
        Bug::LastChildDropped,
        Bug::AcknowledgedBeforeSync,
        Bug::StampBeforeCausality,
        Bug::PolicyJudgedPairwise,
        Bug::BeforeImageAfter,
        Bug::CommitLoweredByUndo,
        Bug::SiblingsLostAtCap,
        Bug::EchoRestamped,
        Bug::ClockFollowsWithoutBound,
        Bug::TombstoneCollectedEarly,
        Bug::ReceiptOfAnotherCut,
        Bug::LapsedPushesFirst,
        Bug::ActorReusedAfterRestore,
        Bug::QuarantinedRecordApplied,
        Bug::ExpiryByLocalClock,
        Bug::OtherSidePreferred,
        Bug::HistoryDroppedEarly,
    ];
}

/// Whether this bug is planted.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub use active::{plant, planted};

#[cfg(feature = "planted-bugs")]
mod active {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this bug is planted in what this thread runs.
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants a bug in what this thread runs from now on, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}
