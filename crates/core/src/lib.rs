//! The reconciler as values and state machines.
