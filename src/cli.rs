//! The subcommands: what was typed, what it means, what is printed.

pub mod format;
