//! Sessions that another node holds for this one: its store with a third node's, and no record passes here.
//!
//! The asking side needs the right `operate` there. What a session is and how it ends is not told
//! apart from one that was opened here: the same options go in, the same events and report come out.

use std::time::Duration;

use reknit_core::CollectionId;
use reknit_core::difference::Difference;
use reknit_core::session::{Counts, Intent, Options, Outcome, Unproven, Verdict};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::{mpsc, watch};

use super::serve::{Node, Serving};
use super::{Budget, NodeError, Over, Progress, SessionReport, Traffic};
use crate::clock::millis;
use crate::store::{Side as Sided, SideInfo, StoreError, for_session};
use crate::transport::{Address, CloseCode, FrameWriter, Link, PeerId, TransportError};

/// The first byte of a frame that asks for a session with a third node.
pub(super) const FRAME_HOLD: u8 = 66;
/// The first byte of a frame that tells of it.
const FRAME_TOLD: u8 = 67;
/// Bytes of a layout that is told.
const LAYOUT_BYTES_MAX: usize = 64 << 10;
/// Differences that are told; more are counted.
const TOLD_MAX: u64 = 1_000_000;

/// A session that a node is asked to hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldRequest {
    /// The dataset there, by name or id.
    pub dataset: String,
    /// The third node, as an address.
    pub with: String,
    /// How to go about it; collections are told by name in `collections`.
    pub options: Options,
    /// The collections that it is about; none named: all.
    pub collections: Vec<String>,
    /// After how many milliseconds it ends with what is known then.
    pub max_ms: Option<u64>,
    /// After how many bytes it ends with what is known then.
    pub max_bytes: Option<u64>,
}

/// What a node says about the store that it holds a session for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStore {
    /// The dataset's collections.
    pub collections: Vec<String>,
    /// How the rows of the first are laid out, if that is known.
    #[serde(with = "serde_bytes")]
    pub layout: Option<Vec<u8>>,
    /// How those of the others are, by their places, where that is known of any; empty where it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ByteBuf>,
}

impl HeldStore {
    /// What there is to say of a side. Layouts too long for a frame are left out: keys are then shown as they are kept.
    ///
    /// # Errors
    /// What the store met.
    pub fn of(side: &dyn Sided) -> Result<Self, StoreError> {
        let collections: Vec<String> =
            side.describe().definition.collections.iter().map(|of| of.name.clone()).collect();
        let mut room = LAYOUT_BYTES_MAX;
        let mut layout = |place: usize| -> Result<Option<Vec<u8>>, StoreError> {
            let layout = side.layout(CollectionId(place as u16))?.filter(|layout| layout.len() <= room);
            room -= layout.as_ref().map_or(0, Vec::len);
            Ok(layout)
        };
        let first = layout(0)?;
        let others =
            (1..collections.len()).map(|place| layout(place).map(Option::unwrap_or_default).map(ByteBuf::from));
        let mut others = others.collect::<Result<Vec<_>, _>>()?;
        others.truncate(others.iter().rposition(|bytes| !bytes.is_empty()).map_or(0, |last| last + 1));
        Ok(Self { collections, layout: first, others })
    }
}

/// How bad it is that a held session has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldFailure {
    /// It could not begin.
    NotBegun,
    /// It ended without an outcome; what was applied is valid.
    Undetermined,
    /// It was refused for safety.
    Refused,
}

#[derive(Serialize, Deserialize)]
enum Told {
    Store(HeldStore),
    Found(Box<Difference>),
    Counted(Box<Counts>, u32),
    Ended {
        outcome: Box<Outcome>,
        traffic: Traffic,
        elapsed_ms: u64,
    },
    Failed(HeldFailure, String),
    /// Where nothing was proven, behind the end, where releases of before look no more.
    Unproven(Unproven),
}

impl Node {
    /// Has the node at `address` hold a session, tells how it goes, and gives its report.
    ///
    /// Dropping the future ends the session there at once.
    ///
    /// # Errors
    /// [`NodeError::Held`] with what that node says, or as for [`super::open_session`].
    pub async fn hold(
        &self,
        address: &Address,
        request: &HoldRequest,
        mut stop: watch::Receiver<bool>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(HeldStore, SessionReport), NodeError> {
        let connection = self.connect(address).await?;
        let mut link = connection.open().await?;
        // A connection that was closed for a reason says more than the end of its lane.
        let lost = |error| (link.closed)().unwrap_or(error);
        link.control.writer.write(&frame(FRAME_HOLD, request)).await.map_err(lost)?;
        let mut store = HeldStore::default();
        let mut asked_to_stop = false;
        let mut report = loop {
            let read = tokio::select! {
                read = link.control.reader.read() => read,
                // The end of our side asks for the verdict with what is known.
                Ok(_) = stop.wait_for(|stop| *stop), if !asked_to_stop => {
                    asked_to_stop = true;
                    link.control.writer.finish().await?;
                    continue;
                }
            };
            let told = read.map_err(lost)?.ok_or_else(|| (link.closed)().map_or(NodeError::Cut, NodeError::from))?;
            match told.split_first() {
                Some((&FRAME_TOLD, body)) => match rmp_serde::from_slice(body).map_err(|_| NodeError::Cut)? {
                    Told::Store(held) => store = held,
                    Told::Found(difference) => progress(Progress::Found(difference)),
                    Told::Counted(counts, coverage) => progress(Progress::Counted(counts, coverage)),
                    Told::Ended { outcome, traffic, elapsed_ms } => {
                        let elapsed = Duration::from_millis(elapsed_ms);
                        let (runs, caught_up, strays) = ((None, None), (None, None), (0, 0));
                        let outcome = *outcome;
                        break SessionReport { outcome, traffic, elapsed, runs, caught_up, strays, lost: None };
                    }
                    Told::Failed(failure, message) => return Err(NodeError::Held { failure, message }),
                    Told::Unproven(_) => return Err(NodeError::Cut),
                },
                _ => return Err(NodeError::Cut),
            }
        };
        // A node of an earlier release says no more, and ends its side.
        if matches!(report.outcome.verdict, Verdict::Partial | Verdict::Undetermined)
            && let Ok(Some(told)) = link.control.reader.read().await
            && let Some((&FRAME_TOLD, body)) = told.split_first()
            && let Ok(Told::Unproven(unproven)) = rmp_serde::from_slice(body)
        {
            report.outcome.unproven = unproven.at_most();
        }
        connection.close(CloseCode::Done);
        Ok((store, report))
    }
}

impl Serving {
    /// Holds the session that `peer` asks for, and tells it how that goes.
    pub(super) async fn hold(self, link: Link, peer: PeerId, request: &[u8], mut over: Over) {
        let Link { control, .. } = link;
        let (mut reader, writer) = (control.reader, control.writer);
        let (tell, told) = mpsc::unbounded_channel();
        let telling = tokio::spawn(write(told, writer));
        let (stop, stopped) = watch::channel(false);
        let ended = {
            let holding = self.held(peer, request, stopped, &tell);
            tokio::pin!(holding);
            let mut listening = true;
            let mut all = self.stop.clone();
            loop {
                tokio::select! {
                    () = &mut over => return,
                    ended = &mut holding => break ended,
                    // Nothing more is said by whoever asked: a clean end asks for the verdict, a broken link for nothing.
                    heard = reader.read(), if listening => match heard {
                        Ok(_) => { listening = false; let _ = stop.send(true); }
                        Err(_) => return,
                    },
                    Ok(_) = all.wait_for(|stop| *stop), if listening => { listening = false; let _ = stop.send(true); }
                }
            }
        };
        let mut unproven = None;
        let last = match ended {
            Ok(SessionReport { mut outcome, traffic, elapsed, .. }) => {
                unproven = Some(std::mem::take(&mut outcome.unproven)).filter(|unproven| !unproven.ranges.is_empty());
                tracing::info!(peer = %peer.short(), verdict = outcome.verdict.name(), "session held");
                let elapsed_ms = millis(elapsed);
                Told::Ended { outcome: Box::new(outcome), traffic, elapsed_ms }
            }
            Err((failure, message)) => {
                tracing::warn!(peer = %peer.short(), message, "session held without an outcome");
                Told::Failed(failure, message)
            }
        };
        let _ = tell.send(last);
        unproven.into_iter().for_each(|unproven| drop(tell.send(Told::Unproven(unproven))));
        drop(tell);
        let _ = telling.await;
    }

    async fn held(
        &self,
        peer: PeerId,
        request: &[u8],
        stopped: watch::Receiver<bool>,
        tell: &mpsc::UnboundedSender<Told>,
    ) -> Result<SessionReport, (HeldFailure, String)> {
        let not_begun = |message: String| (HeldFailure::NotBegun, message);
        let request: HoldRequest = rmp_serde::from_slice(request)
            .map_err(|_| not_begun("the request is not understood; this node is of another release".into()))?;
        let refused = || (HeldFailure::Refused, format!("no right to operate {} there", request.dataset));
        let side = for_session(&self.side_named(&request.dataset).ok_or_else(refused)?);
        let SideInfo { definition, writable, .. } = side.describe();
        // M12.
        if !self.may_operate(peer, &definition) {
            return Err(refused());
        }
        if !writable && matches!(request.options.intent, Intent::Repair(_)) {
            let message = format!("{} is a table there, which is compared with peers and not written", request.dataset);
            return Err((HeldFailure::Refused, message));
        }
        let mut options = request.options;
        options.scope = Vec::new();
        for name in &request.collections {
            let unknown = || not_begun(format!("the dataset has no collection {name}"));
            options.scope.push(definition.collection(name).ok_or_else(unknown)?);
        }
        let address: Address = request.with.parse().map_err(|error| not_begun(format!("{}: {error}", request.with)))?;
        let held = HeldStore::of(&*side).map_err(|error| not_begun(error.to_string()))?;
        let _ = tell.send(Told::Store(held));
        let budget = Budget { time: request.max_ms.map(Duration::from_millis), bytes: request.max_bytes };
        let mut told = 0;
        let mut progress = |progress: Progress| {
            let event = match progress {
                Progress::Found(_) if told == TOLD_MAX => return,
                Progress::Found(difference) => Told::Found(difference),
                Progress::Counted(counts, coverage) => Told::Counted(counts, coverage),
            };
            told += u64::from(matches!(event, Told::Found(_)));
            let _ = tell.send(event);
        };
        let report = self.node().session(&address, side, options, budget, stopped, &mut progress).await;
        report.map_err(|error| classed(&error))
    }
}

fn classed(error: &NodeError) -> (HeldFailure, String) {
    use TransportError::{Impostor, Io, NotAdmitted, Tls, Unreachable, Version};
    let failure = match error {
        NodeError::Transport(Impostor { .. }) => HeldFailure::Refused,
        NodeError::Transport(Unreachable { .. } | NotAdmitted { .. } | Version { .. } | Io { .. } | Tls(_)) => {
            HeldFailure::NotBegun
        }
        NodeError::Store(_) | NodeError::Stuck { .. } | NodeError::Home(_) => HeldFailure::NotBegun,
        _ => HeldFailure::Undetermined,
    };
    (failure, error.to_string())
}

async fn write(mut told: mpsc::UnboundedReceiver<Told>, mut writer: FrameWriter) {
    while let Some(event) = told.recv().await {
        if writer.write(&frame(FRAME_TOLD, &event)).await.is_err() {
            return;
        }
    }
    let _ = writer.finish().await;
}

fn frame<T: Serialize>(kind: u8, body: &T) -> Vec<u8> {
    let mut bytes = vec![kind];
    // Values of ours always have a form; an empty frame would be refused by name.
    let _ = rmp_serde::encode::write(&mut bytes, body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::difference::{Kind, Side};
    use reknit_core::session::Direction;
    use reknit_core::{CollectionId, Position};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Two releases must understand each other: these bytes change with the protocol's version only.
    #[test]
    fn what_is_asked_and_told_has_these_bytes() {
        let request = HoldRequest {
            dataset: "shop".into(),
            with: "quic://x".into(),
            options: Options::new(Intent::Repair(Direction::To(Side::Theirs))),
            collections: vec!["users".into()],
            max_ms: Some(1000),
            max_bytes: None,
        };
        assert_eq!(
            hex(&frame(FRAME_HOLD, &request)),
            "4296a473686f70a8717569633a2f2f789981a652657061697281a2546fa6546865697273cd01f406c01090931c0802c0c391a57573657273cd03e8c0"
        );
        // What a release before did not know is told only where it is asked for.
        let options = Options { prefer: Some(Side::Mine), ..request.options.clone() };
        let preferring = frame(FRAME_HOLD, &HoldRequest { options: options.clone(), ..request });
        assert_eq!(
            hex(&preferring),
            "4296a473686f70a8717569633a2f2f789a81a652657061697281a2546fa6546865697273cd01f406c01090931c0802c0c3a44d696e6591a57573657273cd03e8c0"
        );
        let back: HoldRequest = rmp_serde::from_slice(&preferring[1..]).expect("understood");
        assert_eq!(back.options, options);
        let store = HeldStore { collections: vec!["users".into()], layout: Some(vec![1, 2]), others: Vec::new() };
        assert_eq!(hex(&frame(FRAME_TOLD, &Told::Store(store))), "4381a553746f72659291a57573657273c4020102");
        let two = HeldStore {
            collections: vec!["users".into(), "carts".into()],
            layout: None,
            others: vec![ByteBuf::from([3])],
        };
        // Told where there is something to tell, which no release before could make by its commands.
        let framed = frame(FRAME_TOLD, &Told::Store(two.clone()));
        assert_eq!(hex(&framed), "4381a553746f72659392a57573657273a56361727473c091c40103");
        let Ok(Told::Store(back)) = rmp_serde::from_slice(&framed[1..]) else { panic!("understood") };
        assert_eq!(back, two);
        let difference = Difference {
            collection: CollectionId(1),
            position: Position(7),
            key: b"k".to_vec(),
            kind: Kind::Newer(Side::Mine),
            mine: None,
            theirs: None,
            entries: [Some(5), None],
            shared: Vec::new(),
            stable: true,
        };
        assert_eq!(
            hex(&frame(FRAME_TOLD, &Told::Found(Box::new(difference)))),
            "4381a5466f756e64980107c4016b81a54e65776572a44d696e65c0c09205c0c3"
        );
        let counted = Told::Counted(Box::new(Counts { messages: 3, ..Counts::default() }), 5);
        assert_eq!(
            hex(&frame(FRAME_TOLD, &counted)),
            "4381a7436f756e746564929e00000000000000000095000000000095000000000000030005"
        );
        assert_eq!(
            hex(&frame(FRAME_TOLD, &Told::Failed(HeldFailure::Refused, "no".into()))),
            "4381a64661696c656492a752656675736564a26e6f"
        );
    }
}
