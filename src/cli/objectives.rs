//! An objective as it is told, of a job or of a store and its peer by gossip.

use std::time::Duration;

use reknit_core::Millis;
use reknit_core::objective::Objective;
use serde_json::{Value, json};

use super::units::{show_duration, typed_duration};

/// What is wrong, if it is broken; of sides that were not proven equal at all, as far as is remembered, `never` is said too.
pub(crate) fn broken(objective: &Objective, never: &str, now: Millis) -> Option<String> {
    let since = objective.broken_since()?;
    let within = typed_duration(objective.within);
    let ago = show_duration(Duration::from_millis(now.saturating_sub(since)));
    let never = if objective.proven { "" } else { never };
    Some(format!("it is not proven equal within {within}{never}, for {ago}"))
}

/// For machines.
pub(crate) fn object(objective: &Objective) -> Value {
    json!({
        "within_ms": objective.within, "state": objective.state.name(), "from_ms": objective.from,
        "proven": objective.proven, "breaks_ms": objective.breaks(), "broken_ms": objective.broken_since(),
    })
}
