//! A UDP relay before a daemon, for any number of others: it can lose, delay and cut, and lead to where the daemon is next.
//! It knows nothing of what it carries, and of faults only what it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reknit::store::engine::conformance::Draw;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Others that are known at once; whoever was met first is forgotten first, and is another one when it comes again.
const OTHERS_MAX: usize = 64;

/// What happens to datagrams, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Nothing passes.
    pub(crate) cut: bool,
    /// Lost, of a hundred.
    pub(crate) lost: usize,
    pub(crate) delay: Duration,
}

/// A running relay.
pub(crate) struct Relay {
    at: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Where the daemon is.
    to: SocketAddr,
    weather: Weather,
    draw: Draw,
}

impl Relay {
    pub(crate) fn start(runtime: &Runtime, seed: u64) -> Relay {
        let front = Arc::new(runtime.block_on(bound()));
        let at = front.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State { to: at, weather: Weather::default(), draw: Draw(seed) }));
        runtime.spawn(forth(front, state.clone()));
        Relay { at, state }
    }

    /// Where others find the daemon, wherever it is.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    pub(crate) fn lead_to(&self, to: SocketAddr) {
        self.state.lock().expect("no panic there").to = to;
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.state.lock().expect("no panic there").weather = weather;
    }
}

async fn bound() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a port of the system's choice")
}

async fn forth(front: Arc<UdpSocket>, state: Arc<Mutex<State>>) {
    let mut others: VecDeque<(SocketAddr, Arc<UdpSocket>, AbortHandle)> = VecDeque::new();
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error tells of a datagram that found nobody.
        let Ok((len, from)) = front.recv_from(&mut bytes).await else { continue };
        let known = others.iter().find(|(other, ..)| *other == from).map(|(_, back, _)| back.clone());
        let back = match known {
            Some(back) => back,
            None => {
                let back = Arc::new(bound().await);
                let task = tokio::spawn(home(back.clone(), front.clone(), from, state.clone()));
                others.push_back((from, back.clone(), task.abort_handle()));
                if others.len() > OTHERS_MAX {
                    others.pop_front().into_iter().for_each(|(_, _, task)| task.abort());
                }
                back
            }
        };
        let to = state.lock().expect("no panic there").to;
        pass(&state, &back, &bytes[..len], to).await;
    }
}

async fn home(back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, state: Arc<Mutex<State>>) {
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((len, _)) = back.recv_from(&mut bytes).await else { continue };
        pass(&state, &front, &bytes[..len], to).await;
    }
}

async fn pass(state: &Mutex<State>, by: &Arc<UdpSocket>, bytes: &[u8], to: SocketAddr) {
    let delay = {
        let mut state = state.lock().expect("no panic there");
        let weather = state.weather;
        if weather.cut || state.draw.below(100) < weather.lost {
            return;
        }
        weather.delay
    };
    // Where nobody listens a datagram is lost, as on any network.
    if delay.is_zero() {
        let _ = by.send_to(bytes, to).await;
    } else {
        let (by, bytes) = (by.clone(), bytes.to_vec());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = by.send_to(&bytes, to).await;
        });
    }
}
