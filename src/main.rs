//! The `reknit` program: parse, run, exit.

use std::process::ExitCode;

/// A session frees on one thread what it allocated on another, and a batch allocates much: `benches/README.md` has what it brings.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    reknit::cli::main()
}
