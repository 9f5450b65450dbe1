//! Peers and the identity in the configuration: rights by `[peer.NAME]`, how they go together with those of the home, and which peer a
//! home is.

use std::os::unix::fs::PermissionsExt;

use crate::daemon::{Daemon, at, until};
use crate::harness::Place;
use crate::schema;

/// A daemon of the home `node` that serves the store `s`, with this configuration; another home knows it as `@node`.
fn served(config: impl Fn(&str) -> String) -> (Place, Daemon, String) {
    let place = Place::with_file("a.kv", "a\tb\n", "");
    place.run("init t --like s").ok();
    let me = place.run("id").ok().out.trim().to_string();
    at(&place, "node", "id").ok();
    place.file("node/config.toml", config(&me));
    let daemon = Daemon::start(&place, "node", &["s"]);
    let node = at(&place, "node", "id").ok().out.trim().to_string();
    place.file("home/config.toml", format!("[peer.node]\nid = '{node}'\naddress = '{}'\n", daemon.socket()));
    (place, daemon, me)
}

fn peer(id: &str, may: &str) -> String {
    format!("[peer.branch]\nid = '{id}'\nmay = {may}\n")
}

#[test]
fn a_peer_may_what_the_configuration_says_until_it_is_removed_and_no_file_brings_that_back() {
    let (place, daemon, me) = served(|me| peer(me, "['compare']"));
    let listed = |words: &str| {
        let listed = at(&place, "node", "peers list --format jsonl").ok();
        schema::holds(&listed.objects());
        at(&place, "node", "peers list").ok().prints(&format!("{me} (branch) may {words}\n"));
    };
    listed("compare");
    place.run("check t @node/s").exits(1);
    place.run("repair t @node/s --apply").exits(4).says(&["[peer.rights]"]);
    // What is typed takes away, and gives no more than the file does.
    let add = |may: &str| at(&place, "node", &format!("peers add {me} --may {may} --name branch")).ok();
    add("compare,read,write").says(&["may compare here: config.toml lets it no more"]);
    place.run("repair t @node/s --apply").exits(4).says(&["[peer.rights]"]);
    at(&place, "node", &format!("peers remove {me}")).ok().says(&["it may nothing here"]);
    listed("nothing; config.toml says compare");
    until(|| place.run("check t @node/s").err.contains("[peer.not-admitted]"));
    at(&place, "node", &format!("peers remove {me}")).exits(1).says(&["was not known"]);
    // Neither a change of the file nor another daemon lets it in again.
    let wide = peer(&me, "['compare', 'read', 'write']");
    place.file("node/config.toml", format!("{wide}[serve]\njobs_at_once = 3\nmax_change = '1%'\n"));
    // A file that the daemon has not read is not what goes.
    listed("nothing; config.toml says compare");
    daemon.signal("-HUP");
    until(|| at(&place, "node", "status").out.contains("is taken up when the daemon begins again"));
    place.run("check t @node/s").fails("peer.not-admitted");
    listed("nothing; config.toml says compare, read, write");
    // Who is added again may what both say, as soon as the file is read again.
    add("compare,read").says(&["may compare, read here\n"]);
    until(|| place.run("check t @node/s").exit == Some(1));
    listed("compare, read; config.toml says compare, read, write");
    place.run("repair t @node/s --to a --apply").ok().says(&["wrote 1 records to a"]);
    place.file("node/config.toml", peer(&me, "[]"));
    daemon.signal("-HUP");
    until(|| place.run("check t @node/s").err.contains("[peer.not-admitted]"));
    // Where the file says nothing of what it may, the home alone does.
    place.file("node/config.toml", format!("[peer.branch]\nid = '{me}'\nbandwidth = '1MiB'\n"));
    daemon.signal("-HUP");
    until(|| place.run("check t @node/s").exit == Some(0));
    listed("compare, read");
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn rights_can_be_taken_away_while_the_configuration_cannot_be_read() {
    let (place, daemon, me) = served(|me| peer(me, "'compare'"));
    place.run("check t @node/s").exits(1);
    let config = place.read("node/config.toml");
    place.file("node/config.toml", "nonsense");
    // The daemon knows what goes by it. Whether it answers is nothing to who takes rights away.
    at(&place, "node", "peers list").ok().prints(&format!("{me} (branch) may compare\n"));
    daemon.signal("-STOP");
    at(&place, "node", &format!("peers remove {me}")).ok().says(&[
        "is not known",
        "config.toml:1: ",
        "it may nothing here",
    ]);
    daemon.signal("-CONT");
    until(|| place.run("check t @node/s").err.contains("[peer.not-admitted]"));
    assert_eq!(daemon.end().code(), Some(0));
    at(&place, "node", "peers list").fails("config.malformed");
    place.file("node/config.toml", config);
    at(&place, "node", "peers list").ok().says(&["may nothing; config.toml says compare"]);
    // Who may write the file grants rights by it.
    let mode = |mode| std::fs::set_permissions(place.path("node/config.toml"), std::fs::Permissions::from_mode(mode));
    mode(0o664).expect("a mode");
    at(&place, "node", "config check")
        .ok()
        .says(&["says what peers may, and others than its owner may write it: chmod go-w "]);
    mode(0o644).expect("a mode");
    assert_eq!(at(&place, "node", "config check").ok().err, "");
}

#[test]
fn a_peer_with_an_address_is_named_wherever_a_side_is() {
    let (place, _daemon, _) = served(|me| peer(me, "'compare,read'"));
    let config = place.read("home/config.toml");
    let jobs = "[job.look]\na = '../t'\nb = '@node/s'\n[gossip]\nseeds = ['@node/s']\n";
    place.file("home/config.toml", format!("{config}{jobs}"));
    place.run("config check").ok().says(&["peer\tnode\t", " at 127.0.0.1:", "check ../t @node/s", "1 peers, 1 jobs"]);
    schema::holds(&place.json("config check").ok().objects());
    place.run("run look").exits(1).says(&["differs"]);
    place.run("check t @node").fails("config.store").says(&["is a peer", "@node/DATASET"]);
    place.run("check t @nod/s").fails("config.store").says(&["did you mean `node`?"]);
    for (more, line, words) in [
        ("[store.node]\nurl = '../s'\n", 1, "[peer.node] has the name of [store.node]"),
        ("[peer.far]\nid = 'x'\naddress = 'a/b'\n", 6, "`address` in [peer.far]: `a/b` is no host[:port]"),
        ("[peer.far]\nid = 'x'\nmay = ['reed']\n", 6, "`may` in [peer.far]: `reed` is no right"),
        ("[job.far]\na = 'x:y'\nb = '@nod/s'\n", 6, "did you mean `node`?"),
        ("[gossip]\nseeds = ['@nod/s']\n", 5, "`seeds` in [gossip]: there is no [store.nod]"),
    ] {
        place.file("home/config.toml", format!("{config}{more}"));
        place.run("config check").fails("config.malformed").says(&[words, &format!("config.toml:{line}: ")]);
    }
    place.file(
        "home/config.toml",
        config.lines().filter(|line| !line.starts_with("address")).collect::<Vec<_>>().join("\n"),
    );
    place.run("check t @node/s").fails("config.store").says(&["[peer.node] has no `address`"]);
}

#[test]
fn a_home_that_is_another_peer_than_the_configuration_says_serves_nothing() {
    let place = Place::with_store();
    let other = at(&place, "other", "id").ok().out.trim().to_string();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    place.file("home/config.toml", format!("[identity]\npeer = '{other}'\n"));
    let wrong = "config.toml:2: `peer` in [identity]: this home";
    place.run("serve s --listen 127.0.0.1:0").fails("config.identity").says(&[wrong, "has no key yet"]);
    assert!(!place.path("home/identity.key").exists(), "none was made");
    let me = place.run("id").ok().out.trim().to_string();
    place.run("serve s --listen 127.0.0.1:0").fails("config.identity").says(&[wrong, &me, &other]);
    place.run("config check").fails("config.identity").says(&[wrong]);
    place.file("home/config.toml", format!("[identity]\npeer = '{me}'\n"));
    place.run("config check").ok();
    let daemon = Daemon::start(&place, "home", &["s"]);
    place.file("home/config.toml", format!("[identity]\npeer = '{other}'\n"));
    daemon.signal("-HUP");
    until(|| place.run("status").out.contains("[config.identity]"));
    assert_eq!(daemon.end().code(), Some(0));
    // A key that this home had before is this home.
    place.file("home/config.toml", format!("[identity]\npeer = '{me}'\n"));
    place.run("id rotate --overlap 0").ok();
    place.run("config check").ok();
    Daemon::start(&place, "home", &["s"]);
}
