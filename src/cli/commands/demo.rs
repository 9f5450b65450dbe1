//! `reknit demo`: the main job on real data. Two releases of the GeoNames gazetteer in two stores, one
//! of them served over QUIC on loopback by a second process: what differs, what a repair moves, one root.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use reknit_core::message::Rights;
use reknit_core::session::{Direction, Intent, Options};
use reknit_core::{DatasetId, DatasetKey, Definition};
use serde_json::{Map, Value};

use super::sides;
use crate::cli::args::{Demo, PaceFlags, Sides, TermFlags};
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::{show_bytes, show_count};
use crate::cli::{CliError, Exit};
use crate::format::{self, Format};
use crate::node::{Budget, Home, KnownPeer, between};
use crate::store::{Durability, Op, Store};

const RELEASES: [(&str, &[u8]); 2] = [
    ("1.6.0", include_bytes!("../../../data/geonames/cities15000-1.6.0.csv.zst")),
    ("2.0.0", include_bytes!("../../../data/geonames/cities15000-2.0.0.csv.zst")),
];
/// Differences that are shown.
const SHOWN: usize = 6;

pub(crate) fn run(args: &Demo, env: &mut Env) -> Result<Exit, CliError> {
    if env.text() {
        return Ok(tell(args, env)?.0);
    }
    // The story is for people; whoever asks for objects gets the summary.
    std::mem::swap(&mut env.out, &mut env.err);
    let told = tell(args, env);
    std::mem::swap(&mut env.out, &mut env.err);
    let (exit, summary) = told?;
    Printer::new(env).end(exit, "", summary)
}

/// Tells the story; gives how its last check ended, with what the repair before it wrote.
fn tell(args: &Demo, env: &mut Env) -> Result<(Exit, Map<String, Value>), CliError> {
    let scratch = match &args.keep {
        Some(dir) => Scratch { dir: env.path(dir), keep: true },
        None => Scratch::new()?,
    };
    let (a, b) = (scratch.dir.join("a"), scratch.dir.join("b"));
    writeln!(env.out, "Places of the GeoNames gazetteer (geonames.org, CC BY 4.0), two releases in two stores:")?;
    let copied = load(env, &a, &b)?;
    let homes = introduce(&scratch.dir)?;
    let server = Server::start(&b, &homes[1])?;
    writeln!(env.out, "\n$ reknit serve b              (a second process, QUIC on loopback)\n{}", server.line)?;
    env.global.home = Some(homes[0].clone());

    writeln!(env.out, "\n$ reknit diff a quic://…")?;
    let (b, settle) = (server.address.clone(), "100ms".to_string());
    let pair = Sides {
        map: Vec::new(),
        ignore_tables: Vec::new(),
        terms: TermFlags::default(),
        no_scan: false,
        pace: PaceFlags::default(),
        a: a.display().to_string(),
        b,
        settle,
        max_time: None,
        max_bytes: None,
        bandwidth: None,
        collections: Vec::new(),
        receipt: false,
        metrics_file: None,
    };
    show_diff(env, &pair)?;

    writeln!(env.out, "\n$ reknit repair a quic://… --apply")?;
    let repaired = show_repair(env, &pair, copied)?;

    writeln!(env.out, "\n$ reknit check a quic://…")?;
    let checked = sides::run(env, &pair, |_| Intent::Check, sides::Asked::default(), &mut |_, _| {})?;
    writeln!(env.out, "{} ({})", checked.verdict(), checked.cost())?;
    writeln!(env.out, "root of a {}", checked.report.outcome.root_mine.digest)?;
    writeln!(env.out, "root of b {}", checked.report.outcome.root_theirs.digest)?;
    if let Some(dir) = &args.keep {
        writeln!(env.out, "\nThe stores are kept in {}.", dir.display())?;
    }
    let mut summary = checked.summary();
    for name in ["wrote", "to_a", "to_b"] {
        summary.insert(name.into(), repaired[name].clone());
    }
    Ok((checked.exit(), summary))
}

/// Fills both stores: `a` holds the first release; `b` is filled from `a`, then follows to the second,
/// of which `a` hears nothing. Gives the bytes of a plain copy of `b`.
fn load(env: &mut Env, a: &Path, b: &Path) -> Result<u64, CliError> {
    let random = |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|e| CliError::new("randomness", e.to_string()));
    let (mut id, mut key) = ([0; 16], [0; 32]);
    random(&mut id)?;
    random(&mut key)?;
    let definition = Definition::simple(DatasetId(id), "cities");
    let options = env.store_options();
    let [first, second] =
        [a, b].map(|dir| Store::create(dir, definition.clone(), DatasetKey::from_bytes(key), &options));
    let (first, second) = (first?, second?);
    import(&first, 0)?;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let fill = Options::new(Intent::Repair(Direction::Both));
    let (from, to) = (Arc::new(first.clone()), Arc::new(second.clone()));
    let filled = sides::runtime()?.block_on(between(from, to, fill, Budget::default(), stopped, &mut |_| {}))?;
    let bytes = import(&second, 1)?;
    writeln!(env.out, "  a: release {}, {} records", RELEASES[0].0, show_count(first.root().count))?;
    writeln!(
        env.out,
        "  b: filled from a ({} records in {} ms), then brought to release {} while a was away",
        show_count(filled.outcome.counts.to_theirs.applied),
        filled.elapsed.as_millis(),
        RELEASES[1].0
    )?;
    Ok(bytes)
}

/// Makes the store hold exactly a release: changed rows are put, rows that it lacks are deleted.
fn import(store: &Store, release: usize) -> Result<u64, CliError> {
    let (name, packed) = RELEASES[release];
    let plain = zstd::decode_all(packed).map_err(|error| CliError::new("defect", error.to_string()))?;
    let name = format!("cities15000-{name}.csv");
    let key = ["geonameid".to_string()];
    let mut reader = format::Reader::new(&name, Box::new(std::io::Cursor::new(plain)), Format::Csv, &key)?;
    let (mut bytes, mut keys) = (0u64, BTreeSet::new());
    let rows = reader.by_ref().map(|row| {
        let (key, value) = row?;
        bytes += (key.len() + value.len()) as u64;
        keys.insert(key.clone());
        Ok::<_, format::FormatError>((key, value))
    });
    let imported = store.first().import(rows, &mut |_| {});
    imported.map_err(|error| CliError::new("defect", format!("the demo's own data: {error:?}")))?;
    store.first().set_layout(Some(reader.layout().to_bytes()))?;
    let mut gone = Vec::new();
    for record in store.scan(b"")? {
        let (key, _) = record?;
        if !keys.contains(&key) {
            gone.push(Op::delete(key));
        }
    }
    store.batch(gone, Durability::Synced)?;
    Ok(bytes)
}

fn show_diff(env: &mut Env, pair: &Sides) -> Result<(), CliError> {
    let mut shown = Vec::new();
    let ran = sides::run(env, pair, |_| Intent::Diff, sides::Asked::default(), &mut |difference, swapped| {
        if shown.len() < SHOWN {
            shown.push((difference.clone(), swapped));
        }
    })?;
    for (difference, swapped) in &shown {
        writeln!(env.out, "{}", sides::line(difference, *swapped, &ran.layouts))?;
    }
    let differences = show_count(ran.report.outcome.counts.differences());
    writeln!(env.out, "… {differences} keys differ{} ({})", super::diff::described(&ran), ran.cost())?;
    Ok(())
}

fn show_repair(env: &mut Env, pair: &Sides, copied: u64) -> Result<Map<String, Value>, CliError> {
    let ran = sides::run(env, pair, |_| Intent::Repair(Direction::Both), sides::Asked::default(), &mut |_, _| {})?;
    let (to_a, to_b) = ran.moves();
    let moved = ran.report.traffic.total();
    let ratio = copied as f64 / moved.max(1) as f64;
    writeln!(env.out, "{}", ran.verdict())?;
    writeln!(
        env.out,
        "wrote {} records to a and {} to b in {} ({} ms)",
        show_count(to_a.applied),
        show_count(to_b.applied),
        ran.cost(),
        ran.report.elapsed.as_millis()
    )?;
    let (moved, copied) = (show_bytes(moved), show_bytes(copied));
    writeln!(env.out, "{moved} in all, {ratio:.0} times less than a copy of everything ({copied})")?;
    Ok(ran.summary())
}

/// Two homes; the second admits the first.
fn introduce(dir: &Path) -> Result<[PathBuf; 2], CliError> {
    let homes = [dir.join("home-a"), dir.join("home-b")];
    let open = [Home::open(&homes[0])?, Home::open(&homes[1])?];
    let peer = open[0].identity()?.peer();
    open[1].add_peer(&KnownPeer { peer, may: Rights::ALL.into(), name: Some("a".into()) })?;
    Ok(homes)
}

/// The second process; it ends with this one.
struct Server {
    child: Child,
    line: String,
    address: String,
}

impl Server {
    fn start(store: &Path, home: &Path) -> Result<Server, CliError> {
        let failed =
            |error: std::io::Error| CliError::new("demo.server", format!("the second process failed: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg(store)
            .args(["--listen", "127.0.0.1:0", "--format", "text", "--home"])
            .arg(home)
            .env_remove("REKNIT_QUIET")
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        let stdout = child.stdout.take();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let line = line.trim_end().to_string();
        let address = line.split(" at ").nth(1).unwrap_or_default().to_string();
        let server = Server { child, line, address };
        if server.address.is_empty() {
            return Err(CliError::new("demo.server", "the second process did not serve; its message is above"));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory of the demo; removed at the end unless it is to be kept.
struct Scratch {
    dir: PathBuf,
    keep: bool,
}

impl Scratch {
    fn new() -> Result<Scratch, CliError> {
        let dir = std::env::temp_dir().join(format!("reknit-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Scratch { dir, keep: false })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
