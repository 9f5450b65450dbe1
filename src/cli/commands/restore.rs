//! `reknit restore BACKUP DIR`: makes a store from a backup, with a life of its own.

use crate::cli::args::Restore;
use crate::cli::env::Env;
use crate::cli::progress::Progress;
use crate::cli::{CliError, Exit};
use crate::store::Store;

pub(crate) fn run(args: &Restore, env: &mut Env) -> Result<Exit, CliError> {
    let (backup, dir, options) = (env.path(&args.backup), env.path(&args.dir), env.store_options());
    let store = {
        let mut progress = Progress::new(env, "copying rows");
        Store::restore(&backup, &dir, &options, &mut |rows| progress.at(rows, None))?
    };
    super::init::made(&store, &args.dir, env)
}
