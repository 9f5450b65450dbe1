//! `reknit status`: one screen of stores, peers and last verdicts; exits as the worst of them.

use serde_json::{Map, json};

use crate::cli::args::Status;
use crate::cli::control;
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::{show_count, show_duration};
use crate::cli::verdicts::{self, Last};
use crate::cli::{CliError, Exit};

pub(crate) fn run(_: &Status, env: &mut Env) -> Result<Exit, CliError> {
    let home = env.home()?;
    let (peer, peers, lasts) = (home.identity()?.peer(), home.peers()?, verdicts::read(&home)?);
    let serving = control::is_alive(&home.socket());
    let exit = lasts.iter().map(exit_of).max_by_key(|exit| rank(*exit)).unwrap_or(Exit::Done);
    let now = verdicts::now();
    let mut lines = vec![
        format!("node   {peer}"),
        format!("home   {}{}", home.dir().display(), if serving { ", a daemon is running" } else { "" }),
    ];
    let mut stores = Vec::new();
    for (dir, store) in &env.open {
        let (definition, root) = (store.definition(), store.root());
        let (dir, records) = (dir.display().to_string(), store.stats()?.records);
        let digest = root.digest.to_string();
        lines.push(format!(
            "store  {dir}: dataset {}, {} records, root {}…",
            definition.name,
            show_count(records),
            &digest[..16]
        ));
        stores.push(json!({ "store": dir, "dataset": definition.name, "records": records, "root": digest }));
    }
    for known in &peers {
        let name = known.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        lines.push(format!("peer   {}{name} may {}", known.peer.short(), known.may.names().join(", ")));
    }
    if lasts.is_empty() {
        lines.push("pairs  none was compared yet: reknit check A B".into());
    }
    for last in &lasts {
        let ago = show_duration(std::time::Duration::from_secs(u64::try_from(now - last.at).unwrap_or(0)));
        let differ = match last.differences {
            0 => String::new(),
            n => format!(", {} differed", show_count(u64::try_from(n).unwrap_or(0))),
        };
        let Last { a, b, verdict, command, .. } = last;
        lines.push(format!("pair   {a} and {b}: {verdict}{differ} ({command} {ago} ago)"));
    }
    let summary = json!({
        "node": peer.to_string(),
        "home": home.dir().display().to_string(),
        "serving": serving,
        "stores": stores,
        "peers": peers.iter().map(|p| json!({ "peer": p.peer.to_string(), "may": p.may.names(), "name": p.name })).collect::<Vec<_>>(),
        "pairs": lasts,
    });
    Printer::new(env).end(exit, &lines.join("\n"), summary.as_object().cloned().unwrap_or_else(Map::new))
}

fn exit_of(last: &Last) -> Exit {
    match last.verdict.as_str() {
        "in_sync" | "converged" => Exit::Done,
        "differs" => Exit::Differs,
        "refused" => Exit::Refused,
        _ => Exit::Undetermined,
    }
}

/// If several apply: refused, cannot judge, differs, undetermined, done.
fn rank(exit: Exit) -> u8 {
    match exit {
        Exit::Refused => 4,
        Exit::CannotJudge => 3,
        Exit::Differs => 2,
        Exit::Undetermined => 1,
        _ => 0,
    }
}
