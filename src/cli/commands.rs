//! One file for each subcommand.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod invite;
pub(crate) mod join;
pub(crate) mod repair;
pub(crate) mod serve;
pub(crate) mod sides;
pub(crate) mod status;
