//! A peer that refuses in the middle takes in no more: that its lane of records fails is not what ended the session.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use reknit_core::brakes::{Brakes, Limit};
use reknit_core::message::RefuseCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::transport::limits::{CONTROL_FRAME_BYTES_MAX, RECORD_LANE_FRAME_BYTES_MAX};
use crate::transport::{Lane, TransportError};

/// A lane that takes bytes on, and fails for whoever wrote them.
struct Stopped<W> {
    to: W,
    failed: Arc<AtomicBool>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Stopped<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.to).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.to).poll_flush(cx))?;
        self.failed.store(true, Ordering::SeqCst);
        Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "stopped by the peer")))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(cx)
    }
}

/// A lane on which what comes after another has failed comes once nothing else goes on.
struct Late<R> {
    from: R,
    failed: Arc<AtomicBool>,
    wait: Pin<Box<tokio::time::Sleep>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Late<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.failed.load(Ordering::SeqCst) {
            ready!(self.wait.as_mut().poll(cx));
        }
        Pin::new(&mut self.from).poll_read(cx, into)
    }
}

/// A push of `a` to `b`, which may lose so much; the lane of records fails as soon as they are sent.
async fn push(a: Store, b: Store, brakes: Option<Brakes>) -> (Result<SessionReport, NodeError>, Option<RefuseCode>) {
    let failed = Arc::new(AtomicBool::new(false));
    let ends = || tokio::io::duplex(64 << 10);
    let ((control, far_control), (records, far_records)) = (ends(), ends());
    let lane = |reader: Box<dyn AsyncRead + Send + Unpin>, writer: Box<dyn AsyncWrite + Send + Unpin>, limit| Lane {
        reader: FrameReader::new(reader, limit),
        writer: FrameWriter::new(writer, limit),
    };
    let (mut near, mut far) = Link::pair();
    let (from, to) = tokio::io::split(control);
    // Later than all that happens at once, which a clock that goes on by itself tells.
    let wait = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
    let late = Late { from, failed: failed.clone(), wait };
    near.control = lane(Box::new(late), Box::new(to), CONTROL_FRAME_BYTES_MAX);
    let (from, to) = tokio::io::split(far_control);
    far.control = lane(Box::new(from), Box::new(to), CONTROL_FRAME_BYTES_MAX);
    let (from, to) = tokio::io::split(records);
    let stopped = lane(Box::new(from), Box::new(Stopped { to, failed }), RECORD_LANE_FRAME_BYTES_MAX);
    near.records = Box::pin(async { Ok(stopped) });
    let (from, to) = tokio::io::split(far_records);
    let lane = lane(Box::new(from), Box::new(to), RECORD_LANE_FRAME_BYTES_MAX);
    far.records = Box::pin(async { Ok(lane) });
    let (_stop, stop) = tokio::sync::watch::channel(false);
    let grant = Grant::everywhere(Rights::ALL);
    let answering = answer_with(Arc::new(b), far, grant, None, stop.clone(), Whom::unnamed(), (brakes, None));
    let mut progress = |_| ();
    let opening = open_session(Arc::new(a), near, options(REPAIR, &[]), Budget::default(), stop, &mut progress);
    let (opened, answered) = tokio::join!(opening, answering);
    (opened, answered.ok().and_then(|answered| answered.refused))
}

#[test]
fn why_a_peer_stopped_reading_is_heard_behind_that_it_did() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (a, b) = (store(3), store(0));
        answered(&a, &b, options(REPAIR, &[]), Grant::everywhere(Rights::ALL)).await;
        a.collection("users").expect("there").put(&0u32.to_be_bytes(), b"another").expect("put");
        let nothing = Brakes { change: Limit::records(0), ..Brakes::default() };
        let (opened, refused) = push(a, b, Some(nothing)).await;
        let report = opened.expect("an outcome");
        let heard = report.outcome.refusal.as_ref().map(|refusal| refusal.code);
        let brakes = Some(RefuseCode::Brakes);
        assert_eq!((report.outcome.verdict, heard, refused), (Verdict::Refused, brakes, brakes));
        assert!(report.lost.is_none(), "{:?}", report.lost);
    });
}

#[test]
fn a_lane_that_is_gone_though_nobody_says_why_is_not_waited_for_long() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let began = tokio::time::Instant::now();
        let (opened, refused) = push(store(3), store(0), None).await;
        let report = opened.expect("what was known");
        let lost = report.lost.expect("it was lost").to_string();
        assert!(report.outcome.verdict == Verdict::Partial && lost.contains("stopped by the peer"), "{lost}");
        assert!(refused.is_none() && began.elapsed() < crate::transport::limits::SILENCE_MAX, "{:?}", began.elapsed());
    });
}

#[test]
fn a_peer_that_said_why_it_closed_is_believed_though_its_last_lane_ends_well() {
    run(async {
        let (mut near, far) = Link::pair();
        near.closed = Arc::new(|| Some(TransportError::Busy));
        drop(far);
        let (_stop, stop) = tokio::sync::watch::channel(false);
        let (side, mut progress) = (Arc::new(store(3)), |_| ());
        let opened = open_session(side, near, options(REPAIR, &[]), Budget::default(), stop, &mut progress);
        let ended = opened.await.expect_err("nothing is known");
        assert!(matches!(ended, NodeError::Transport(TransportError::Busy)), "{ended}");
    });
}
