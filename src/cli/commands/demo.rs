//! `reknit demo`: the main job on real data. Two releases of the GeoNames gazetteer in two stores, one
//! of them served over QUIC on loopback by a second process: what differs, what a repair moves, one root.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reknit_core::message::Rights;
use reknit_core::session::{Direction, Intent, Verdict};

use super::sides::{self, Ran};
use crate::cli::args::{Demo, Sides};
use crate::cli::env::Env;
use crate::cli::format::{self, Format};
use crate::cli::units::{show_bytes, show_count};
use crate::cli::{CliError, Exit};
use crate::node::{Home, KnownPeer};
use crate::store::Store;

const RELEASES: [(&str, &[u8]); 2] = [
    ("1.6.0", include_bytes!("../../../data/geonames/cities15000-1.6.0.csv.zst")),
    ("2.0.0", include_bytes!("../../../data/geonames/cities15000-2.0.0.csv.zst")),
];
/// Differences that are shown.
const SHOWN: usize = 6;

pub(crate) fn run(args: &Demo, env: &mut Env) -> Result<Exit, CliError> {
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
    let pair = Sides {
        a: a.display().to_string(),
        b: server.address.clone(),
        settle: "100ms".into(),
        max_time: None,
        max_bytes: None,
    };
    let mut shown = Vec::new();
    let found = sides::run(env, &pair, |_| Intent::Diff, None, &mut |difference, swapped| {
        if shown.len() < SHOWN {
            shown.push((difference.clone(), swapped));
        }
    })?;
    for (difference, swapped) in &shown {
        writeln!(env.out, "{}", sides::line(difference, *swapped, &found.layout))?;
    }
    let differences = found.report.outcome.counts.differences();
    writeln!(
        env.out,
        "… {} keys differ{} ({})",
        show_count(differences),
        super::diff::described(&found),
        found.cost()
    )?;

    writeln!(env.out, "\n$ reknit repair a quic://… --apply")?;
    let repaired = sides::run(env, &pair, |_| Intent::Repair(Direction::Both), None, &mut |_, _| {})?;
    tell_repair(env, &repaired, copied)?;

    writeln!(env.out, "\n$ reknit check a quic://…")?;
    let checked = sides::run(env, &pair, |_| Intent::Check, None, &mut |_, _| {})?;
    writeln!(env.out, "{} ({})", checked.verdict(), checked.cost())?;
    writeln!(env.out, "root of a {}", checked.report.outcome.root_mine.digest)?;
    writeln!(env.out, "root of b {}", checked.report.outcome.root_theirs.digest)?;
    if let (Some(dir), false) = (&args.keep, checked.report.outcome.verdict != Verdict::InSync) {
        writeln!(env.out, "\nThe stores are kept in {}.", dir.display())?;
    }
    Ok(checked.exit())
}

/// Loads the releases; gives the bytes of a plain copy of the second.
fn load(env: &mut Env, a: &Path, b: &Path) -> Result<u64, CliError> {
    let mut copied = 0;
    let mut like: Option<Store> = None;
    for (dir, (release, packed)) in [a, b].into_iter().zip(RELEASES) {
        let options = env.store_options();
        let store = match &like {
            None => {
                let random = |bytes: &mut [u8]| {
                    getrandom::fill(bytes).map_err(|error| CliError::new("randomness", error.to_string()))
                };
                let (mut id, mut key) = ([0; 16], [0; 32]);
                random(&mut id)?;
                random(&mut key)?;
                let definition = reknit_core::Definition::simple(reknit_core::DatasetId(id), "cities");
                Store::create(dir, definition, reknit_core::DatasetKey::from_bytes(key), &options)?
            }
            Some(first) => {
                let definition = (**first.definition()).clone();
                Store::create(dir, definition, first.dataset_key().clone(), &options)?
            }
        };
        let plain = zstd::decode_all(packed).map_err(|error| CliError::new("defect", error.to_string()))?;
        let name = format!("cities15000-{release}.csv");
        let key = ["geonameid".to_string()];
        let mut reader = format::Reader::new(&name, Box::new(std::io::Cursor::new(plain)), Format::Csv, &key)?;
        let mut bytes = 0u64;
        let begun = std::time::Instant::now();
        let rows = reader.by_ref().map(|row| {
            let (key, value) = row?;
            bytes += (key.len() + value.len()) as u64;
            Ok::<_, format::FormatError>((key, value))
        });
        let imported = store.first().import(rows, &mut |_| {});
        imported.map_err(|error| CliError::new("defect", format!("the demo's own data: {error:?}")))?;
        store.first().set_layout(Some(reader.layout().to_bytes()))?;
        copied = bytes;
        let side = if like.is_none() { "a" } else { "b" };
        let ms = begun.elapsed().as_millis();
        let records = show_count(store.root().count);
        writeln!(env.out, "  {side}: release {release}, {records} records, loaded in {ms} ms")?;
        like = Some(store);
    }
    Ok(copied)
}

fn tell_repair(env: &mut Env, ran: &Ran, copied: u64) -> Result<(), CliError> {
    let (to_a, to_b) = ran.moves();
    let traffic = ran.report.traffic;
    let moved = traffic.total();
    let ratio = copied as f64 / moved.max(1) as f64;
    writeln!(env.out, "{}", ran.verdict())?;
    writeln!(
        env.out,
        "moved {} records to a and {} to b in {}: {} in all, {ratio:.0} times less than copying everything ({})",
        show_count(to_a.applied),
        show_count(to_b.applied),
        ran.cost(),
        show_bytes(moved),
        show_bytes(copied)
    )?;
    Ok(())
}

/// Two homes; the second admits the first.
fn introduce(dir: &Path) -> Result<[PathBuf; 2], CliError> {
    let homes = [dir.join("home-a"), dir.join("home-b")];
    let open = [Home::open(&homes[0])?, Home::open(&homes[1])?];
    let peer = open[0].identity()?.peer();
    open[1].add_peer(&KnownPeer { peer, may: Rights::ALL, name: Some("a".into()) })?;
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
            .args(["--listen", "127.0.0.1:0", "--home"])
            .arg(home)
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
