//! A relay of datagrams between a client and a daemon: what has passed is known, and where it leads can change.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Carries datagrams both ways until the test ends.
pub(crate) struct Relay {
    at: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    /// Where datagrams of the client go.
    to: SocketAddr,
    /// Where it was heard last.
    client: Option<SocketAddr>,
    /// Bytes that it sent.
    sent: u64,
    /// After so many, nothing of the client's passes.
    most: u64,
}

impl Relay {
    pub(crate) fn start(to: SocketAddr) -> Relay {
        let bind = || Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port of the system's choice"));
        let (front, back) = (bind(), bind());
        let at = front.local_addr().expect("its address");
        let state = Arc::new((Mutex::new(State { to, client: None, sent: 0, most: u64::MAX }), Condvar::new()));
        let relay = Relay { at, state: state.clone() };
        let (near, far, state_of) = (front.clone(), back.clone(), state);
        thread::spawn(move || {
            let mut bytes = [0; 65_536];
            loop {
                let Ok((n, from)) = near.recv_from(&mut bytes) else { continue };
                let to = {
                    let mut state = relay_state(&state_of.0);
                    state.client = Some(from);
                    if state.sent >= state.most {
                        state_of.1.notify_all();
                        continue;
                    }
                    state.sent += n as u64;
                    state.to
                };
                // Where nobody listens a datagram is lost, as on any network.
                let _ = far.send_to(&bytes[..n], to);
            }
        });
        let state = relay.state.clone();
        thread::spawn(move || {
            let mut bytes = [0; 65_536];
            loop {
                let Ok((n, _)) = back.recv_from(&mut bytes) else { continue };
                let client = relay_state(&state.0).client;
                if let Some(client) = client {
                    let _ = front.send_to(&bytes[..n], client);
                }
            }
        });
        relay
    }

    /// The address of a daemon, by way of the relay.
    pub(crate) fn address(&self, address: &str) -> String {
        let (peer, rest) = address.split_once('@').expect("a peer");
        let (_, dataset) = rest.split_once('/').expect("a dataset");
        format!("{peer}@{}/{dataset}", self.at)
    }

    /// Lets nothing of the client's pass once it has sent so many bytes; what it is told arrives.
    pub(crate) fn hold_after(&self, bytes: u64) {
        relay_state(&self.state.0).most = bytes;
    }

    /// Waits until something is held.
    pub(crate) fn holds(&self) {
        let state = relay_state(&self.state.0);
        let waited = self.state.1.wait_timeout_while(state, Duration::from_secs(120), |state| state.sent < state.most);
        assert!(!waited.expect("no panic there").1.timed_out(), "so many bytes were never sent");
    }

    /// Leads to another daemon from now on, and holds nothing.
    pub(crate) fn lead_to(&self, to: SocketAddr) {
        let mut state = relay_state(&self.state.0);
        (state.to, state.most) = (to, u64::MAX);
    }
}

fn relay_state(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().expect("no panic there")
}
