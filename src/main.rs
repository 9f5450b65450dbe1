//! The `reknit` program: parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    reknit::cli::main()
}
