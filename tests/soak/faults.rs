//! What happens to the nodes of a soak: drawn from a seed, done one after the other, and over when it returns.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use reknit::store::engine::conformance::Draw;

use crate::cluster::{Cluster, NODES, Node, Ran, STEADY};
use crate::relay::Weather;

/// How many of each there were.
pub(crate) type Faults = BTreeMap<&'static str, u64>;

/// What is called so, and how it is done.
type Kind = (&'static str, fn(&Cluster, &mut Draw));

const KINDS: [Kind; 12] = [
    ("killed", kill),
    ("stopped", stop),
    ("cut off", cut),
    ("bad line", bad),
    ("forgotten", forget),
    ("configured", configure),
    ("misconfigured", misconfigure),
    ("wrong token", tokens),
    ("half requests", half),
    ("garbage", garbage),
    ("stranger", stranger),
    ("client killed", client),
];

/// Does one of them.
pub(crate) fn one(cluster: &Cluster, draw: &mut Draw, faults: &mut Faults) {
    // What ends a life is drawn more often than the rest.
    let (name, act) = KINDS[if draw.below(5) == 0 { 0 } else { draw.below(KINDS.len()) }];
    act(cluster, draw);
    *faults.entry(name).or_default() += 1;
    look(any(cluster, draw));
}

/// Panics if some of them never happened, which a soak of minutes has time for.
pub(crate) fn assert_all(faults: &Faults) {
    for (name, _) in KINDS {
        assert!(faults.contains_key(name), "nothing was {name}: {faults:?}");
    }
}

fn any<'a>(cluster: &'a Cluster, draw: &mut Draw) -> &'a Node {
    &cluster.nodes[draw.below(NODES)]
}

/// How long a fault lasts.
fn lasting(draw: &mut Draw, most_millis: usize) {
    std::thread::sleep(Duration::from_millis(draw.below(most_millis) as u64));
}

/// What operators do meanwhile.
fn look(node: &Node) {
    node.run("status --format jsonl");
    node.run("jobs show look");
    for path in ["/api/v1/status", "/healthz", "/readyz", "/metrics"] {
        node.living().and_then(|living| living.asked(path));
    }
}

fn kill(cluster: &Cluster, draw: &mut Draw) {
    let node = &cluster.nodes[STEADY + draw.below(NODES - STEADY)];
    node.kill();
    lasting(draw, 4000);
    node.start();
}

fn stop(cluster: &Cluster, draw: &mut Draw) {
    let node = any(cluster, draw);
    node.signal("-STOP");
    lasting(draw, 8000);
    node.signal("-CONT");
}

fn cut(cluster: &Cluster, draw: &mut Draw) {
    let node = any(cluster, draw);
    node.relay.set(Weather { cut: true, ..Weather::default() });
    lasting(draw, 8000);
    node.fair();
}

fn bad(cluster: &Cluster, draw: &mut Draw) {
    let node = any(cluster, draw);
    node.relay.set(Weather { cut: false, lost: 15, delay: Duration::from_millis(40) });
    lasting(draw, 8000);
    node.fair();
}

fn forget(cluster: &Cluster, draw: &mut Draw) {
    let at = draw.below(NODES);
    let other = &cluster.nodes[(at + 1 + draw.below(NODES - 1)) % NODES].id;
    cluster.nodes[at].run(&format!("peers remove {other}")).is(&[0]);
    lasting(draw, 4000);
    cluster.nodes[at].admit(other).is(&[0]);
}

fn configure(cluster: &Cluster, draw: &mut Draw) {
    reread(cluster, draw, "[job.more]\nstore = '../s'\ndo = 'verify'\nevery = '1s'\n", 4000);
}

fn misconfigure(cluster: &Cluster, draw: &mut Draw) {
    reread(cluster, draw, "[job.more]\nstore = '../s'\ndo = 'nothing'\n", 2000);
}

/// More of a configuration for a while.
fn reread(cluster: &Cluster, draw: &mut Draw, more: &str, at_most: usize) {
    let node = any(cluster, draw);
    node.configure(more);
    node.signal("-HUP");
    lasting(draw, at_most);
    node.configure("");
    node.signal("-HUP");
}

fn tokens(cluster: &Cluster, draw: &mut Draw) {
    let living = any(cluster, draw).living().expect("it runs");
    for _ in 0..20 {
        let wrong = format!("{:032x}", draw.bits());
        let answer = living.get("/metrics", &wrong).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

/// Requests that never end, bytes that are none, and streams that nobody reads to their end.
fn half(cluster: &Cluster, draw: &mut Draw) {
    let living = any(cluster, draw).living().expect("it runs");
    let mut open: Vec<_> = (0..20).filter_map(|_| living.connect()).collect();
    for (nth, stream) in open.iter_mut().enumerate() {
        // Whoever is refused early does not hear everything.
        let _ = match nth % 4 {
            0 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: "),
            1 => stream.write_all(&draw.bytes(3000)),
            2 => Ok(()),
            _ => {
                let asked = format!(
                    "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
                    living.http,
                    crate::cluster::TOKEN
                );
                stream.write_all(asked.as_bytes()).and_then(|()| stream.read(&mut [0; 100]).map(drop))
            }
        };
    }
    lasting(draw, 3000);
}

fn garbage(cluster: &Cluster, draw: &mut Draw) {
    let node = any(cluster, draw);
    let (socket, from) = (node.living().expect("it runs").socket, UdpSocket::bind("127.0.0.1:0").expect("a port"));
    for nth in 0..500 {
        let len = 1 + draw.below(1400);
        let mut bytes = draw.bytes(len);
        // Every other one looks like the beginning of a connection, for so long as nobody checks.
        if nth % 2 == 0 {
            bytes.splice(..0, [0xc3, 0, 0, 0, 1, 8]);
            bytes.resize(1200, 0);
        }
        let to = if nth % 4 < 2 { socket } else { node.relay.at() };
        let _ = from.send_to(&bytes, to);
    }
}

fn stranger(cluster: &Cluster, draw: &mut Draw) {
    let address = cluster.address(draw.below(NODES));
    for _ in 0..3 {
        let mut command = cluster.stranger();
        command.args(["check", "stranger", &address, "--settle", "0ms"]);
        let ran = Ran::of(command, b"");
        assert!(ran.exit != 0 && ran.exit != 1, "a stranger was answered: {}", ran.out);
    }
}

fn client(cluster: &Cluster, draw: &mut Draw) {
    let at = draw.below(NODES);
    let address = cluster.address((at + 1) % NODES);
    let mut child = cluster.nodes[at].command(&["repair", "s", &address, "--apply"]).spawn().expect("the binary");
    lasting(draw, 300);
    // It ends with whoever runs it for a limited time.
    assert!(Command::new("kill").arg(child.id().to_string()).status().expect("kill").success());
    child.wait().expect("its end");
}
