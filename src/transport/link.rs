//! Links: the lanes of one session, over QUIC or in memory.
//!
//! A lane is a stream in both directions. The opener opens the control lane at once and the lane of
//! records when it first needs it; large records never hold up the conversation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::limits::{CONTROL_FRAME_BYTES_MAX, RECORD_LANE_FRAME_BYTES_MAX};
use super::{FrameReader, FrameWriter, RateLimit, TransportError};

/// What a lane carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LaneKind {
    /// Messages.
    Control = 0,
    /// Records.
    Records = 1,
}

impl LaneKind {
    /// Bytes of a frame on such a lane.
    pub fn limit(self) -> usize {
        match self {
            LaneKind::Control => CONTROL_FRAME_BYTES_MAX,
            LaneKind::Records => RECORD_LANE_FRAME_BYTES_MAX,
        }
    }
}

/// One lane.
pub struct Lane {
    /// What comes.
    pub reader: FrameReader,
    /// What goes.
    pub writer: FrameWriter,
}

pub(super) type Later = Pin<Box<dyn Future<Output = Result<Lane, TransportError>> + Send>>;

/// The lanes of one session.
pub struct Link {
    /// Messages.
    pub control: Lane,
    /// Opens the lane of records, or waits until the peer has opened it.
    pub records: Later,
    /// Why the connection under the link was closed, if that has a name.
    pub closed: Arc<dyn Fn() -> Option<TransportError> + Send + Sync>,
    /// What the session keeps to.
    pub rate_limit: RateLimit,
}

impl Link {
    /// Two ends of a link in this process.
    pub fn pair() -> (Link, Link) {
        let lane = |kind: LaneKind| {
            let (near, far) = tokio::io::duplex(64 << 10);
            let end = |io| {
                let (read, write) = tokio::io::split(io);
                Lane { reader: FrameReader::new(read, kind.limit()), writer: FrameWriter::new(write, kind.limit()) }
            };
            (end(near), end(far))
        };
        let (control, records) = (lane(LaneKind::Control), lane(LaneKind::Records));
        let later = |lane: Lane| -> Later { Box::pin(async move { Ok(lane) }) };
        let near = Link {
            control: control.0,
            records: later(records.0),
            closed: Arc::new(|| None),
            rate_limit: RateLimit::default(),
        };
        (
            near,
            Link {
                control: control.1,
                records: later(records.1),
                closed: Arc::new(|| None),
                rate_limit: RateLimit::default(),
            },
        )
    }
}
