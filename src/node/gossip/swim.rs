//! Who is up: the failure detector (SWIM, by foca) as a value. Bytes go in and come out; time is an argument (`tick`), by a clock that
//! nobody sets: else no timer would be due until a clock that was set back has made up for it.
//!
//! What it says is a hint: whom to connect to, and whom not to wait for. Who may do what is the grants' word alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use foca::{
    Codec, Foca, Header, Identity, Member, Message, NoCustomBroadcast, OwnedNotification, PostcardCodec, Runtime, Timer,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use reknit_core::Millis;
use serde::{Deserialize, Serialize};

use crate::clock::millis;
use crate::transport::PeerId;

/// For so long whoever knows nobody waits before it asks again.
const ASKS_AGAIN: Millis = 1_000;

/// Whoever is displaced again so soon after is behind a life that it had, which it catches up with in ever longer steps.
const IN_A_ROW: Millis = 1_000;
/// A step is no longer than this power of two, in lives.
const STEP_BITS_MAX: u32 = 36;

/// A node as the failure detector knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Near {
    pub(crate) peer: [u8; 32],
    /// Where it takes in connections.
    pub(crate) at: SocketAddr,
    /// Rises each time it starts, and when it was wrongly taken for down.
    pub(crate) life: u64,
}

impl Near {
    pub(crate) fn peer(&self) -> PeerId {
        PeerId(self.peer)
    }
}

impl Identity for Near {
    type Addr = [u8; 32];

    fn addr(&self) -> [u8; 32] {
        self.peer
    }

    fn renew(&self) -> Option<Near> {
        Some(Near { life: self.life.checked_add(1)?, ..self.clone() })
    }

    fn win_addr_conflict(&self, other: &Near) -> bool {
        // Two nodes of one identity may come to one life: one of them has to hear that it is displaced.
        (self.life, self.at) > (other.life, other.at)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// These bytes are to be brought to that node.
    Send(Near, Vec<u8>),
    /// A node is up.
    Up(Near),
    /// A node is down, or has left.
    Down(Near),
    /// This node was taken for down, or for another of its identity, and has come back as another life.
    Displaced,
}

/// A timer with the moment that it is due at.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due(Millis, u64, Timer<Near>);

#[derive(Default)]
struct Outside {
    said: Vec<Said>,
    timers: Vec<(Timer<Near>, Duration)>,
}

impl Runtime<Near> for Outside {
    fn notify(&mut self, notification: foca::Notification<'_, Near>) {
        match notification.to_owned() {
            OwnedNotification::MemberUp(near) => self.said.push(Said::Up(near)),
            OwnedNotification::MemberDown(near) => self.said.push(Said::Down(near)),
            OwnedNotification::Rename(_, near) => self.said.push(Said::Up(near)),
            OwnedNotification::Rejoin(_) => self.said.push(Said::Displaced),
            _ => {}
        }
    }

    fn send_to(&mut self, to: Near, data: &[u8]) {
        self.said.push(Said::Send(to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Near>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// The failure detector of one node.
pub(crate) struct Swim {
    foca: Foca<Near, PostcardCodec, SmallRng, NoCustomBroadcast>,
    timers: BinaryHeap<Reverse<Due>>,
    submitted: u64,
    /// When it was last displaced, and how often in a row before that.
    displaced: Option<(Millis, u32)>,
}

impl Swim {
    /// One that knows of nobody.
    pub(crate) fn new(me: Near, seed: u64) -> Swim {
        let config = foca::Config::new_lan(NonZeroU32::new(100).unwrap_or(NonZeroU32::MIN));
        let foca = Foca::new(me, config, SmallRng::seed_from_u64(seed), PostcardCodec);
        Swim { foca, timers: BinaryHeap::new(), submitted: 0, displaced: None }
    }

    /// Asks a node to take this one in.
    pub(crate) fn announce(&mut self, to: Near, tick: Millis) -> Vec<Said> {
        self.drive(tick, |foca, outside| foca.announce(to, outside))
    }

    /// Bytes came from another node.
    pub(crate) fn heard(&mut self, bytes: &[u8], tick: Millis) -> Vec<Said> {
        self.drive(tick, |foca, outside| foca.handle_data(bytes, outside))
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, tick: Millis) -> Vec<Said> {
        let mut said = Vec::new();
        while self.timers.peek().is_some_and(|Reverse(due)| due.0 <= tick) {
            if let Some(Reverse(Due(_, _, timer))) = self.timers.pop() {
                said.extend(self.drive(tick, |foca, outside| foca.handle_timer(timer, outside)));
            }
        }
        said
    }

    /// The tick at which [`Swim::tick`] has something to do.
    pub(crate) fn wakes(&self) -> Option<Millis> {
        self.timers.peek().map(|Reverse(due)| due.0)
    }

    /// When whoever last asked to be taken in at `asked` does so again; never once it knows somebody.
    pub(crate) fn asks_again(&self, asked: Millis) -> Option<Millis> {
        self.up().next().is_none().then_some(asked + ASKS_AGAIN)
    }

    /// Says goodbye, so that nobody has to suspect this node first.
    pub(crate) fn leave(&mut self, tick: Millis) -> Vec<Said> {
        self.drive(tick, |foca, outside| foca.leave_cluster(outside))
    }

    /// Nodes that are up.
    pub(crate) fn up(&self) -> impl Iterator<Item = &Near> {
        self.foca.iter_members().map(foca::Member::id)
    }

    fn drive(
        &mut self,
        tick: Millis,
        call: impl FnOnce(
            &mut Foca<Near, PostcardCodec, SmallRng, NoCustomBroadcast>,
            &mut Outside,
        ) -> Result<(), foca::Error>,
    ) -> Vec<Said> {
        let mut outside = Outside::default();
        // What is said to another node, or makes no sense, changes nothing here.
        if let Err(error) = call(&mut self.foca, &mut outside) {
            tracing::debug!(%error, "what was said of who is up is of no use");
        }
        if outside.said.contains(&Said::Displaced) {
            self.catch_up(tick, &mut outside);
        }
        for (timer, after) in outside.timers {
            self.submitted += 1;
            let due = tick + millis(after);
            self.timers.push(Reverse(Due(due, self.submitted, timer)));
        }
        outside.said
    }
}

impl Swim {
    /// Takes a life beyond that which displaced this one. How far that is ahead is told by nobody: its clock may have been ahead when
    /// it last began, or another node runs with this identity.
    fn catch_up(&mut self, tick: Millis, outside: &mut Outside) {
        let row = match self.displaced {
            Some((at, row)) if tick < at + IN_A_ROW => row + 1,
            _ => 0,
        };
        self.displaced = Some((tick, row));
        if row > 0 {
            let me = self.foca.identity();
            let life = me.life.saturating_add(1 << row.min(STEP_BITS_MAX));
            let next = Near { life, ..me.clone() };
            let taken = self.foca.change_identity(next, &mut *outside);
            // It begins to probe again, as after a life that it takes by itself.
            let taken = taken.and_then(|()| self.foca.apply_many(std::iter::empty(), true, outside));
            if let Err(error) = taken {
                tracing::debug!(%error, "no other life could be taken");
            }
        }
    }
}

/// A message without what it says of nodes that may not be spoken of, and who says it. None if it is about such a node, or means
/// nothing.
pub(crate) fn sifted(bytes: &[u8], may: impl Fn(PeerId) -> bool) -> Option<(PeerId, Vec<u8>)> {
    let (mut codec, mut rest) = (PostcardCodec, bytes);
    let header: Header<Near> = codec.decode_header(&mut rest).ok()?;
    let about = match &header.message {
        Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => Some(target),
        Message::IndirectPing { origin, .. } | Message::ForwardedAck { origin, .. } => Some(origin),
        _ => None,
    };
    if about.is_some_and(|near| !may(near.peer())) {
        return None;
    }
    let (before, says) = (bytes.len() - rest.len(), header.src.peer());
    let mut kept: Vec<Member<Near>> = Vec::new();
    let mut dropped = false;
    if let Some((count, members)) = rest.split_first_chunk::<2>() {
        rest = members;
        for _ in 0..u16::from_be_bytes(*count) {
            let member: Member<Near> = codec.decode_member(&mut rest).ok()?;
            match may(Member::id(&member).peer()) {
                true => kept.push(member),
                false => dropped = true,
            }
        }
    }
    if !dropped {
        return Some((says, bytes.to_vec()));
    }
    let mut out = bytes[..before].to_vec();
    out.extend_from_slice(&u16::try_from(kept.len()).ok()?.to_be_bytes());
    for member in &kept {
        codec.encode_member(member, &mut out).ok()?;
    }
    Some((says, out))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use super::*;

    /// Nodes in one thread, of which some are silent, and of which each knows those of its own circles.
    struct World {
        nodes: Vec<(Swim, BTreeSet<u8>)>,
        silent: BTreeSet<u8>,
        circles: Vec<BTreeSet<u8>>,
        now: Millis,
        displaced: usize,
    }

    fn near(nth: u8) -> Near {
        Near { peer: [nth; 32], at: ([127, 0, 0, 1], 1000 + u16::from(nth)).into(), life: 1 }
    }

    impl World {
        fn carry(&mut self, from: u8, said: Vec<Said>) {
            let mut under_way: VecDeque<(u8, Said)> = said.into_iter().map(|said| (from, said)).collect();
            while let Some((by, said)) = under_way.pop_front() {
                match said {
                    Said::Up(near) => drop(self.nodes[usize::from(by)].1.insert(near.peer[0])),
                    Said::Down(near) => drop(self.nodes[usize::from(by)].1.remove(&near.peer[0])),
                    Said::Displaced => self.displaced += 1,
                    Said::Send(to, bytes) => {
                        let to = to.peer[0];
                        let share =
                            |a: u8, b: u8| a == b || self.circles.iter().any(|of| of.contains(&a) && of.contains(&b));
                        let hears = !self.silent.contains(&by) && !self.silent.contains(&to);
                        // As a node does before it says something, and before it hears it.
                        let told = sifted(&bytes, |peer| share(by, peer.0[0]) && share(peer.0[0], to));
                        let told = told.filter(|_| hears && share(by, to));
                        if let Some((says, told)) = told {
                            assert_eq!(says.0, [by; 32]);
                            let said = self.nodes[usize::from(to)].0.heard(&told, self.now);
                            under_way.extend(said.into_iter().map(|said| (to, said)));
                        }
                    }
                }
            }
        }

        fn pass(&mut self, millis: Millis) {
            let until = self.now + millis;
            loop {
                let wakes: BTreeMap<Millis, u8> =
                    (0..).zip(&self.nodes).filter_map(|(nth, (swim, _))| Some((swim.wakes()?, nth))).collect();
                let Some((at, nth)) = wakes.into_iter().next().filter(|(at, _)| *at <= until) else { break };
                self.now = self.now.max(at);
                let said = self.nodes[usize::from(nth)].0.tick(self.now);
                self.carry(nth, said);
            }
            self.now = until;
        }
    }

    #[test]
    fn who_joins_by_one_address_is_known_to_all_and_who_is_silent_or_leaves_is_down() {
        let nodes = (0..10).map(|nth| (Swim::new(near(nth), u64::from(nth)), BTreeSet::new())).collect();
        let circles = vec![(0..10).collect()];
        let mut world = World { nodes, silent: BTreeSet::new(), circles, now: 0, displaced: 0 };
        for nth in 1..10 {
            let said = world.nodes[usize::from(nth)].0.announce(near(0), world.now);
            world.carry(nth, said);
        }
        world.pass(20_000);
        for (nth, (swim, up)) in (0u8..).zip(&world.nodes) {
            assert_eq!(*up, (0..10).filter(|other| *other != nth).collect(), "what {nth} knows");
            assert_eq!(swim.up().count(), 9);
            assert_eq!(swim.asks_again(0), None, "{nth} has nothing to ask, and is not woken for it");
        }
        world.silent.insert(3);
        world.pass(60_000);
        for (nth, (_, up)) in (0u8..).zip(&world.nodes).filter(|(nth, _)| *nth != 3) {
            assert!(!up.contains(&3), "{nth} has noticed");
            assert_eq!(up.len(), 8);
        }
        // It is heard again, and takes another life.
        world.silent.clear();
        world.pass(300_000);
        assert!(world.nodes.iter().all(|(_, up)| up.len() == 9));
        let said = world.nodes[5].0.leave(world.now);
        world.carry(5, said);
        world.silent.insert(5);
        world.pass(3_000);
        assert!((0..).zip(&world.nodes).all(|(nth, (_, up))| nth == 5 || !up.contains(&5)));
    }

    #[test]
    fn who_knows_nobody_asks_again_and_sleeps_until_then() {
        let alone = Swim::new(near(0), 0);
        assert_eq!((alone.asks_again(0), alone.asks_again(70)), (Some(1_000), Some(1_070)));
    }

    /// Node 0 is of both circles: it speaks to each of its own, and nobody suspects anybody.
    #[test]
    fn each_hears_of_those_alone_with_whom_it_shares_something() {
        let nodes = (0..9).map(|nth| (Swim::new(near(nth), u64::from(nth)), BTreeSet::new())).collect();
        let circles: Vec<BTreeSet<u8>> = vec![(0..5).collect(), [0, 5, 6, 7, 8].into()];
        let mut world = World { nodes, silent: BTreeSet::new(), circles: circles.clone(), now: 0, displaced: 0 };
        for nth in 1..9 {
            let said = world.nodes[usize::from(nth)].0.announce(near(0), world.now);
            world.carry(nth, said);
        }
        world.pass(40_000);
        for _ in 0..20 {
            for (nth, (swim, up)) in (0u8..).zip(&world.nodes) {
                let mut knows: BTreeSet<u8> =
                    circles.iter().filter(|of| of.contains(&nth)).flatten().copied().collect();
                knows.remove(&nth);
                assert_eq!(*up, knows, "what {nth} knows");
                assert!(swim.up().all(|near| knows.contains(&near.peer[0])));
            }
            world.pass(5_000);
        }
        world.silent.insert(7);
        world.pass(60_000);
        assert!((0..).zip(&world.nodes).all(|(nth, (_, up))| nth == 7 || !up.contains(&7)));
        assert!(world.nodes[1].1.contains(&2));
    }

    #[test]
    fn of_two_nodes_of_one_identity_one_is_displaced_again_and_again() {
        // As far apart as some steps of catching up come together, too: then both have one life.
        for ahead in (0..40).chain([4_999, 65_535]) {
            let displaced = displaced_of_two(ahead);
            assert!(displaced[0] + displaced[1] >= 3 && displaced[2] == 0, "{ahead} ahead: {displaced:?}");
        }
    }

    /// How often each was displaced in half a minute: two of one identity of which the second began so much later, and a third.
    fn displaced_of_two(ahead: u64) -> [usize; 3] {
        let mut nodes: Vec<Swim> = [(1, 1001, 1), (1, 1002, 1 + ahead), (2, 1003, 1)]
            .map(|(peer, port, life)| Near { peer: [peer; 32], at: ([127, 0, 0, 1], port).into(), life })
            .map(|near| Swim::new(near.clone(), u64::from(near.at.port())))
            .into();
        let mut displaced = [0, 0, 0];
        let third = Near { peer: [2; 32], at: ([127, 0, 0, 1], 1003).into(), life: 1 };
        let mut under_way: VecDeque<(usize, Said)> = VecDeque::new();
        for nth in [0, 1] {
            under_way.extend(nodes[nth].announce(third.clone(), 0).into_iter().map(|said| (nth, said)));
        }
        for now in (0..30_000).step_by(50) {
            for (nth, node) in nodes.iter_mut().enumerate() {
                under_way.extend(node.tick(now).into_iter().map(|said| (nth, said)));
            }
            // What it takes to come to rest within one moment is not bounded where two quarrel.
            for _ in 0..100 {
                let Some((by, said)) = under_way.pop_front() else { break };
                match said {
                    Said::Displaced => displaced[by] += 1,
                    Said::Send(to, bytes) => {
                        let to = usize::from(to.at.port() - 1001);
                        under_way.extend(nodes[to].heard(&bytes, now).into_iter().map(|said| (to, said)));
                    }
                    Said::Up(_) | Said::Down(_) => {}
                }
            }
        }
        displaced
    }

    #[test]
    fn whoever_begins_again_with_a_clock_far_behind_is_up_within_few_lives() {
        for behind in [1, 60_000, 3_600_000, 1_800_000_000_000] {
            let life = 1_800_000_000_001;
            let of = |nth: u8, life: u64| Swim::new(Near { life, ..near(nth) }, u64::from(nth));
            let nodes = vec![(of(0, 1), BTreeSet::new()), (of(1, life), BTreeSet::new()), (of(2, 1), BTreeSet::new())];
            let mut world =
                World { nodes, silent: BTreeSet::new(), circles: vec![(0..3).collect()], now: 0, displaced: 0 };
            for nth in 1..3 {
                let said = world.nodes[usize::from(nth)].0.announce(near(0), world.now);
                world.carry(nth, said);
            }
            world.pass(20_000);
            // It is killed, and begins again before anybody has noticed.
            world.nodes[1] = (of(1, life - behind), BTreeSet::new());
            let said = world.nodes[1].0.announce(near(0), world.now);
            world.carry(1, said);
            world.pass(5_000);
            assert_eq!(world.nodes[1].0.up().count(), 2, "{behind} ms behind");
            for nth in [0, 2] {
                assert!(world.nodes[nth].1.contains(&1) && world.nodes[nth].0.up().count() == 2, "{behind} ms behind");
            }
            assert!(world.displaced <= 100, "{} times, {behind} ms behind", world.displaced);
        }
    }

    #[test]
    fn bytes_that_mean_nothing_change_nothing() {
        let mut swim = Swim::new(near(1), 1);
        for bytes in [&[][..], &[0xff; 100], &[0; 2000]] {
            assert_eq!(swim.heard(bytes, 1), []);
        }
        assert_eq!(swim.up().count(), 0);
    }
}
