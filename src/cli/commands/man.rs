//! `reknit man`: the manual page, or one for each command, made from their definition.

use clap::CommandFactory;
use serde_json::json;

use crate::cli::args::{Cli, Man};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Man, env: &mut Env) -> Result<Exit, CliError> {
    let mut command = Cli::command();
    command.build();
    let Some(typed) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return super::completions::print(&page, env);
    };
    let dir = env.path(typed);
    let pages = std::fs::create_dir_all(&dir).and_then(|()| write(&command, &dir));
    let pages =
        pages.map_err(|error| CliError::new("output", format!("{} cannot be written: {error}", typed.display())))?;
    let text = format!("wrote {pages} pages to {}", typed.display());
    Printer::new(env).end(Exit::Done, &text, fields(json!({ "pages": pages, "dir": dir.display().to_string() })))
}

fn write(command: &clap::Command, dir: &std::path::Path) -> std::io::Result<u64> {
    if command.is_hide_set() {
        return Ok(0);
    }
    clap_mangen::Man::new(command.clone()).generate_to(dir)?;
    command.get_subcommands().try_fold(1, |pages, below| Ok(pages + write(below, dir)?))
}
