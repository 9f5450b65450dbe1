//! `reknit backup STORE DIR`: copies an open store as of one moment.

use std::time::Instant;

use serde_json::json;

use crate::cli::args::Backup;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::progress::Progress;
use crate::cli::units::{show_count, show_duration};
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Backup, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let dir = env.path(&args.dir);
    let options = env.store_options();
    let began = Instant::now();
    let mut rows = 0;
    {
        let mut progress = Progress::new(env, "copying rows");
        store.backup(&dir, &options, &mut |so_far| {
            rows = so_far;
            progress.at(so_far, None);
        })?;
    }
    let took = began.elapsed();
    let text = format!(
        "copied {} rows of {} to {} in {}\nmake a store of it with: reknit restore {} DIR",
        show_count(rows),
        args.store.display(),
        args.dir.display(),
        show_duration(took),
        args.dir.display()
    );
    let summary = json!({ "rows": rows, "backup": dir.display().to_string(), "seconds": took.as_secs_f64() });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}
