//! A daemon that is told to end in the middle of a session: what was written stays and is whole, whoever was served hears of it,
//! and the next session goes on from there.

use std::process::Stdio;

use crate::daemon::{Daemon, admit, at, until};
use crate::harness::{Place, Ran};

const RECORDS: usize = 1500;

/// Records of a thousand characters which nothing makes few.
fn records() -> String {
    let mut random = 1_u64;
    let mut word = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", random ^ (random >> 29))
    };
    (0..RECORDS).map(|n| format!("k{n:04}\t{}\n", (0..62).map(|_| word()).collect::<String>())).collect()
}

#[test]
fn a_daemon_that_is_told_to_end_ends_its_sessions_and_keeps_what_they_brought() {
    let place = Place::new();
    place.file("all.kv", records());
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    at(&place, "there", "id").ok();
    // So slow that there is a middle.
    place.file("there/config.toml", "[serve]\nbandwidth = '64KiB'\n");
    let daemon = Daemon::start(&place, "there", &["b"]);
    admit(&place, "there", "compare,read,write");
    let repair = ["repair", "a", daemon.address(), "--apply"];
    let child = place.command(&repair).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
    let records = |home: &str| {
        let shown = at(&place, home, "dataset show b --format jsonl").ok().summary();
        usize::try_from(shown["entries"].as_u64().expect("a count")).expect("few")
    };
    until(|| records("there") > 0);
    assert_eq!(daemon.end().code(), Some(0));
    let ran = Ran::of(child.wait_with_output().expect("its end")).exits(3);
    ran.says(&["the peer ended the session before its end", "the same command goes on [session.cut]"]);
    let kept = records("there");
    assert!((1..RECORDS).contains(&kept), "{kept}");
    place.run("verify b").ok();
    place.run("repair a b --apply").ok().says(&[&format!("{} to b", RECORDS - kept)]);
}
