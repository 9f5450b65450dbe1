//! The architecture, read from the sources: who may import whom, what a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the product, and what each may import of ours besides the core.
const MAY_IMPORT: [(&str, &[&str]); 6] = [
    ("clock", &[]),
    ("format", &[]),
    ("store", &["clock", "format"]),
    ("transport", &["clock"]),
    ("node", &["clock", "store", "transport"]),
    ("cli", &["clock", "format", "store", "transport", "node"]),
];
/// A file beyond this is trying to be two things; unit tests at its foot do not count.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module of the product that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a source of ours");
    let first = inside.components().next().expect("a file").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

/// What a source imports by `crate::`, tests at its foot aside.
fn imports(text: &str) -> BTreeSet<String> {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let names: String = part.chars().take_while(|c| c.is_alphanumeric() || "_{, ".contains(*c)).collect();
        for name in names.trim_start_matches('{').split(',') {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.insert(name);
            if !names.starts_with('{') {
                break;
            }
        }
    }
    found
}

fn forbidden(module: &str, text: &str) -> Vec<String> {
    let Some((_, may)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else { return Vec::new() };
    let modules = MAY_IMPORT.iter().map(|(name, _)| *name);
    let others: BTreeSet<&str> = modules.filter(|name| *name != module && !may.contains(name)).collect();
    imports(text).into_iter().filter(|name| others.contains(name.as_str())).collect()
}

#[test]
fn modules_import_only_what_lies_below_them() {
    for path in files(&root().join("src"), ".rs") {
        let text = fs::read_to_string(&path).expect("a source");
        let found = forbidden(&module(&path), &text);
        assert!(found.is_empty(), "{} imports {found:?}", path.display());
    }
}

#[test]
fn the_check_of_imports_would_notice() {
    assert_eq!(forbidden("store", "use crate::node::Home;"), ["node"]);
    assert_eq!(forbidden("store", "let x = crate::cli::main();"), ["cli"]);
    assert_eq!(forbidden("transport", "use crate::{core, store};"), ["store"]);
    assert!(forbidden("node", "use crate::store::Store; // crate::cli\n//! crate::cli").is_empty());
}

#[test]
fn the_core_depends_on_three_crates_and_nothing_of_ours() {
    let manifest = fs::read_to_string(root().join("crates/core/Cargo.toml")).expect("the core's manifest");
    let section = manifest.split("[dependencies]").nth(1).expect("dependencies").split("\n[").next().expect("them");
    let names: Vec<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains('='))
        .map(|line| line.split([' ', '=']).next().unwrap_or_default())
        .collect();
    assert_eq!(names, ["blake3", "serde", "rmp-serde"]);
    for path in files(&root().join("crates/core/src"), ".rs") {
        let text = fs::read_to_string(&path).expect("a source");
        for word in ["tokio", "std::fs", "std::net", "std::thread", "SystemTime", "Instant", "HashMap"] {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn every_source_fits_in_the_head_and_says_what_it_is_for() {
    let mut sources = files(&root().join("src"), ".rs");
    sources.extend(files(&root().join("crates"), ".rs"));
    sources.extend(files(&root().join("tests"), ".rs"));
    sources.extend(files(&root().join("benches"), ".rs"));
    sources.extend(files(&root().join("examples"), ".rs"));
    for path in sources {
        let text = fs::read_to_string(&path).expect("a source");
        let name = path.display();
        let body = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        assert!(body.lines().count() <= LINES_MAX, "{name} has {} lines", body.lines().count());
        let ours = path.starts_with(root().join("src")) || path.starts_with(root().join("crates/core/src"));
        let tests = path.ends_with("tests.rs");
        assert!(text.starts_with("//!") || tests || !ours, "{name} does not say what it is for");
        for word in ["TO".to_string() + "DO", "FIX".to_string() + "ME", "unimple".to_string() + "mented!"] {
            assert!(!text.contains(&word), "{name} has a {word}");
        }
        if ours {
            for place in ["\"/home/", "\"/tmp/", "\"/root/", "\"/work/"] {
                assert!(!text.contains(place), "{name} names a place of one machine");
            }
            for stem in ["util", "common", "misc", "helpers"] {
                assert_ne!(path.file_stem().and_then(|s| s.to_str()), Some(stem), "{name} says nothing by its name");
            }
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_everywhere() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for manifest in ["Cargo.toml", "crates/core/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest} does not take the lints");
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    for manifest in ["Cargo.toml", "crates/core/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
        let section = text.split("\n[dependencies]\n").nth(1).expect("dependencies").split("\n[").next().expect("them");
        let mut reason = false;
        for line in section.lines() {
            let ours = line.starts_with("reknit-core");
            assert!(!line.contains('=') || line.starts_with('#') || reason || ours, "{manifest}: why {line}?");
            // One reason may stand above a pair that belongs together.
            reason = line.starts_with('#') || (reason && !line.is_empty());
        }
    }
}

/// Each MUST of the protocol has a number, and the code names it where it is kept.
#[test]
fn every_must_of_the_protocol_is_cited_where_it_is_kept() {
    let protocol = fs::read_to_string(root().join("docs/protocol.md")).expect("the protocol");
    let musts: BTreeSet<&str> = protocol.split("**").filter(|word| word.starts_with('M')).collect();
    assert!(musts.len() >= 12, "{musts:?}");
    let code: String = [root().join("src"), root().join("crates")]
        .iter()
        .flat_map(|dir| files(dir, ".rs"))
        .map(|path| fs::read_to_string(path).expect("a source"))
        .collect();
    for must in musts {
        let cited = code.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == must);
        assert!(cited, "no source cites {must}");
    }
}

#[test]
fn links_between_documents_lead_somewhere_and_every_document_is_in_the_index() {
    let mut documents: Vec<PathBuf> = files(&root().join("docs"), ".md");
    documents.extend(fs::read_dir(root()).expect("the root").flatten().map(|entry| entry.path()));
    documents.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    let mut linked: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in &documents {
        let text = fs::read_to_string(path).expect("a document");
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let full = path.parent().expect("a directory").join(target);
            assert!(full.exists(), "{} links to {target}, which is not there", path.display());
            linked.entry(path.clone()).or_default().insert(full.canonicalize().expect("it is there"));
        }
    }
    let index = linked.get(&root().join("docs/README.md")).expect("docs/README.md links to the documents");
    for path in documents.iter().filter(|path| path.starts_with(root().join("docs"))) {
        let known = path.ends_with("docs/README.md") || index.contains(&path.canonicalize().expect("it is there"));
        assert!(known, "{} is not in docs/README.md", path.display());
    }
}

#[test]
fn every_error_id_has_its_row_in_the_documents() {
    let documented = fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md");
    let mut found = 0;
    for path in files(&root().join("src/cli"), ".rs") {
        let text = fs::read_to_string(&path).expect("a source");
        // What HTTP refuses has a status before its id.
        let refused = text.split("Refused::new(StatusCode::").skip(1).filter_map(|part| part.split_once(", "));
        let refused = refused.map(|(_, part)| part);
        for part in text.split("CliError::new(").chain(text.split("CliError::refused(")).skip(1).chain(refused) {
            let Some(rest) = part.trim_start().strip_prefix('"') else { continue };
            let id = rest.split('"').next().unwrap_or_default();
            found += 1;
            assert!(documented.contains(&format!("`{id}`")), "{id} of {} is not in docs/errors.md", path.display());
        }
    }
    assert!(found > 20, "the search for ids found {found}");
}
