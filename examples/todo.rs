//! A list of things to do that several people keep, each in a terminal. Each goes on without the others, and gossip makes
//! their lists one again.
//!
//! `cargo run --example todo -- new DIR` prints a ticket, with which one other joins:
//! `cargo run --example todo -- join OTHER_DIR TICKET`.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use reknit::core::message::Rights;
use reknit::core::policy::{KEEP_BOTH, NEWEST};
use reknit::core::{Collection, DatasetId, Definition};
use reknit::node::embed::Watch;
use reknit::node::{GossipOptions, Node, blocking::Running};
use reknit::store::{Cursor, Origin};

const USAGE: &str = "todo new DIR [ADDRESS], todo join DIR TICKET [ADDRESS] or todo open DIR [ADDRESS], where others reach \
this node at ADDRESS (127.0.0.1:0)";
const COMMANDS: &str =
    "add TITLE, edit N TITLE, done N, drop N, list, invite, away, back or quit; N as the last list says";
const TITLES: &str = "todo/titles";
const DONE: &str = "todo/done";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (command, dir, rest) = match words.as_slice() {
        [command @ ("new" | "open" | "join"), dir, rest @ ..] => (*command, *dir, rest),
        _ => return Err(USAGE.into()),
    };
    let (ticket, address) = match (command, rest) {
        ("join", [ticket]) => (Some(*ticket), None),
        ("join", [ticket, address]) => (Some(*ticket), Some(*address)),
        ("new" | "open", []) => (None, None),
        ("new" | "open", [address]) => (None, Some(*address)),
        _ => return Err(USAGE.into()),
    };
    let address: SocketAddr = address.unwrap_or("127.0.0.1:0").parse()?;
    // What somebody missed who was away is found by a session, which is held each second here.
    let often = GossipOptions { every: Duration::from_secs(1), ..GossipOptions::default() };
    let builder = Node::builder().home(dir).listen(address).gossip(often);
    let node = if command == "new" { builder.definition(todo()) } else { builder }.start_blocking()?;
    if let Some(ticket) = ticket {
        let at = node.join(ticket)?;
        // What there is comes at once; what is written from now on is told by gossip.
        node.sync_at(&at)?;
    }
    let mut list = List { node, shown: Vec::new() };
    let watch = list.node.watch("todo", Some(Cursor(0)))?;
    let telling = std::thread::spawn(move || tell(watch));
    if command == "new" {
        list.obey("invite")?;
    }
    println!("{COMMANDS}");
    for line in std::io::stdin().lines() {
        let line = line?;
        if line.trim() == "quit" {
            break;
        }
        if let Err(error) = list.obey(line.trim()) {
            println!("{error}");
        }
    }
    list.node.shutdown()?;
    telling.join().map_err(|_| "the thread that tells of changes has failed".into())
}

/// Titles and what is done lie apart, so that whoever changes a title does not undo what another did meanwhile. Of a title
/// that two change at once both are kept until one of them decides, and one who drops it does not win over one who changes it.
fn todo() -> Definition {
    let collection = |name: &str, policy: &str| Collection { name: name.into(), policy: policy.into() };
    let collections = vec![collection("titles", KEEP_BOTH), collection("done", NEWEST)];
    Definition { collections, ..Definition::simple(DatasetId([0; 16]), "todo") }
}

struct List {
    node: Running,
    /// The keys of the list as it was last printed.
    shown: Vec<String>,
}

impl List {
    fn obey(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (command, rest) {
            ("add", title) if !title.is_empty() => {
                let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
                // In the order in which they were added, and never the same on two nodes.
                let key = format!("{millis:012x}-{}", self.node.peer().short());
                self.node.put(TITLES, key.as_bytes(), title.as_bytes())?;
            }
            ("edit", rest) => {
                let (nth, title) = rest.split_once(' ').ok_or(COMMANDS)?;
                self.node.put(TITLES, self.key(nth)?, title.as_bytes())?;
            }
            ("done", nth) => drop(self.node.put(DONE, self.key(nth)?, b"")?),
            ("drop", nth) => {
                self.node.delete(TITLES, self.key(nth)?)?;
                self.node.delete(DONE, self.key(nth)?)?;
            }
            ("list", "") => self.list()?,
            ("invite", "") => println!("ticket {}", self.node.invite("todo", Rights::ALL, DAY)?),
            ("away", "") => self.node.suspend()?,
            ("back", "") => self.node.resume()?,
            _ => return Err(COMMANDS.into()),
        }
        Ok(())
    }

    fn key(&self, nth: &str) -> Result<&[u8], Box<dyn Error>> {
        let nth: usize = nth.parse().map_err(|_| COMMANDS)?;
        let key = nth.checked_sub(1).and_then(|nth| self.shown.get(nth));
        Ok(key.ok_or("there is no such line in the last list")?.as_bytes())
    }

    fn list(&mut self) -> Result<(), Box<dyn Error>> {
        self.shown.clear();
        let conflicts = self.node.store("todo")?.collection("titles")?.conflicts(None, 1000)?;
        for (key, title) in self.node.list(TITLES, b"", 1000)? {
            self.shown.push(String::from_utf8(key.clone())?);
            let done = if self.node.get(DONE, &key)?.is_some() { "x" } else { " " };
            println!("{:>2} [{done}] {}", self.shown.len(), String::from_utf8_lossy(&title));
            // Whoever edits it now decides for all.
            let versions = conflicts.iter().filter(|conflict| conflict.key == key).flat_map(|found| &found.versions);
            for other in versions.filter_map(|version| version.value()).filter(|other| **other != title) {
                println!("   or: {}", String::from_utf8_lossy(other));
            }
        }
        println!("{} in all", self.shown.len());
        Ok(())
    }
}

/// Prints what others change, until the node ends.
fn tell(mut watch: Watch) {
    let mut titles: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    while let Some(change) = watch.blocking_next() {
        let change = match change {
            Ok(change) => change,
            Err(error) => return println!("changes are not told any more: {error}"),
        };
        let title = change.value.as_deref().map(|title| String::from_utf8_lossy(title).into_owned());
        let known = titles.get(&change.key).cloned();
        let name = known.clone().unwrap_or_else(|| "something".into());
        let told = match (change.collection.as_str(), title) {
            ("done", Some(_)) => format!("done: {name}"),
            ("done", None) => format!("not done: {name}"),
            (_, None) => {
                titles.remove(&change.key);
                format!("dropped: {name}")
            }
            (_, Some(title)) => {
                titles.insert(change.key, title.clone());
                if known.is_some() { format!("changed: {name}, now {title}") } else { format!("added: {title}") }
            }
        };
        if change.origin == Some(Origin::Session) {
            println!("{told}");
        }
    }
}
