//! A pass through a store of which a command makes a part: where it goes on, and to whom it tells how far it came.
//!
//! What a pass is, is the core's; what is remembered of it is the daemon's.

use std::time::{Duration, Instant};

use reknit_core::agenda::Pass;

/// How often it is told how far a pass came while it goes on.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Where a command goes on, and how far it came.
pub(crate) struct Passing {
    pass: Pass,
    moved: bool,
    told: Instant,
    tell: Box<dyn Fn(&Pass) + Send>,
}

impl Passing {
    /// One that goes on there, and tells now and then how far it came.
    pub(crate) fn new(pass: Pass, tell: impl Fn(&Pass) + Send + 'static) -> Passing {
        Passing { pass, moved: false, told: Instant::now(), tell: Box::new(tell) }
    }

    pub(crate) fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Begins another pass if this one goes through something else, or is over.
    pub(crate) fn through(&mut self, store: &str, collections: u16, now: u64) {
        let pass = self.pass.clone().through(store, collections, now);
        self.pass = pass;
    }

    /// It came further.
    pub(crate) fn came(&mut self, further: impl FnOnce(&mut Pass)) {
        further(&mut self.pass);
        self.moved = true;
        if self.told.elapsed() >= TOLD_EVERY {
            (self.tell)(&self.pass);
            self.told = Instant::now();
        }
    }

    /// A part was given up before its end: it came nowhere, unless the next can be smaller.
    pub(crate) fn gave_up(&mut self) {
        self.moved |= self.pass.give_up();
    }

    /// How far it came, if it came anywhere.
    pub(crate) fn end(self) -> Option<Pass> {
        self.moved.then_some(self.pass)
    }
}
