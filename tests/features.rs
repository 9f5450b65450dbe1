//! What each choice of features costs in dependencies, counted from the resolved tree.

use std::collections::BTreeSet;
use std::process::Command;

fn packages(features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", "reknit"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names");
    text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

fn has(packages: &BTreeSet<String>, names: &[&str]) -> Vec<String> {
    names.iter().filter(|name| packages.contains(**name)).map(|name| (*name).to_string()).collect()
}

#[test]
fn a_program_that_embeds_the_library_gets_no_command_line_and_no_driver() {
    let bare = packages(&["--no-default-features"]);
    let heavy = ["clap", "tokio", "quinn", "rustls", "fjall", "redb", "serde_json", "indicatif", "zstd", "ring"];
    assert_eq!(has(&bare, &heavy), Vec::<String>::new());
    assert!(bare.len() <= 40, "{} packages: {bare:?}", bare.len());
}

#[test]
fn each_feature_brings_what_it_names_and_no_more() {
    let redb = packages(&["--no-default-features", "--features", "embedded-redb"]);
    assert_eq!(has(&redb, &["redb", "fjall", "tokio", "clap"]), ["redb"]);
    let fjall = packages(&["--no-default-features", "--features", "embedded-fjall"]);
    assert_eq!(has(&fjall, &["redb", "fjall", "tokio", "clap"]), ["fjall"]);
    let sqlite = packages(&["--no-default-features", "--features", "linked-sqlite"]);
    assert_eq!(has(&sqlite, &["rusqlite", "redb", "fjall", "tokio", "clap"]), ["rusqlite"]);
    let postgres = packages(&["--no-default-features", "--features", "linked-postgres"]);
    assert_eq!(has(&postgres, &["postgres", "rusqlite", "redb", "fjall", "clap"]), ["postgres"]);
    let node = packages(&["--no-default-features", "--features", "node"]);
    assert_eq!(has(&node, &["tokio", "quinn", "clap", "indicatif", "fjall", "redb"]), ["tokio", "quinn"]);
}

#[test]
fn there_is_one_provider_of_cryptography() {
    let all = packages(&[]);
    assert_eq!(has(&all, &["ring", "aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"]), ["ring"]);
    // About 50 of them read Parquet and buckets.
    assert!(all.len() <= 265, "{} packages", all.len());
}

#[test]
fn what_a_program_gets_is_what_the_document_says() {
    let document = include_str!("../docs/start/embed.md");
    let count = |features: &str| packages(&["--no-default-features", "--features", features]).len();
    let rows = [
        format!("| none: the core alone | {} |", packages(&["--no-default-features"]).len()),
        format!("or `embedded-fjall`: stores | {}, or {} |", count("embedded-redb"), count("embedded-fjall")),
        format!("or of the program's own | {} |", count("node")),
        format!("or with `embedded-fjall` | {}, or {} |", count("node,embedded-redb"), count("node,embedded-fjall")),
    ];
    for row in rows {
        assert!(document.contains(&row), "docs/start/embed.md does not say {row:?}");
    }
}
