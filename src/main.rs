//! The `reknit` program.

fn main() {}
