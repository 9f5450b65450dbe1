//! What happens, as server-sent events: each listener goes at its own pace, and is told how much it missed.
//!
//! What happens is told by the daemon.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::Face;
use super::answer::{Outgoing, Refused, outgoing};
use crate::cli::daemon::Daemon;
use crate::cli::daemon::events::{Event, Events, Heard};

/// Events that are read at once.
const TOGETHER: usize = 64;
/// Parts of the stream that wait for a listener; what is behind them waits in the row of events.
const WAITING: usize = 4;
/// How often something is sent where nothing happens, so that whoever has gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);
/// Bytes of what a listener says that it was told last.
const ID_MAX: usize = 64;
const LAST_EVENT_ID: &str = "last-event-id";

/// A body that comes part by part.
struct Parts(mpsc::Receiver<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

/// Begins a stream.
pub(super) fn begin(face: &Arc<Face>, daemon: &Arc<Daemon>, headers: &HeaderMap) -> Result<Outgoing, Refused> {
    let heard = match headers.get(LAST_EVENT_ID).map(HeaderValue::to_str) {
        None => daemon.events().now(),
        Some(Ok(id)) if id.len() <= ID_MAX => daemon.events().heard(id),
        Some(_) => {
            let message = "Last-Event-ID is the id of an event of this stream";
            return Err(Refused::new(StatusCode::BAD_REQUEST, "http.event", message));
        }
    };
    let place = face.listeners.clone().try_acquire_owned().map_err(|_| {
        let message = "as many listen already as may; try again later";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "http.busy", message)
    })?;
    let (sender, parts) = mpsc::channel(WAITING);
    let body = Parts(parts);
    let (daemon, stop, mut token) = (daemon.clone(), face.stop.clone(), face.token.subscribe());
    tokio::spawn(async move {
        tokio::select! {
            () = tell(daemon.events(), heard, sender, stop) => {}
            // Whoever has shown the one before has to show the one that holds now.
            _ = token.changed() => {}
        }
        drop(place);
    });
    Ok(outgoing(StatusCode::OK, HeaderValue::from_static("text/event-stream"), body.boxed()))
}

/// Tells what happens until nobody listens any more, or the daemon ends.
async fn tell(events: &Events, mut heard: Heard, to: mpsc::Sender<Bytes>, mut stop: watch::Receiver<bool>) {
    let mut wakes = events.wakes();
    // Whoever listens knows at once that it does.
    let mut text = ": events of reknit\n\n".to_string();
    loop {
        wakes.mark_unchanged();
        let (next, now) = events.after(heard, TOGETHER);
        heard = now;
        if let Some(lost) = next.lost {
            text += &said(None, "lost", &json!({ "events": lost }));
        }
        next.events.iter().for_each(|event| text += &told(events, event));
        if !text.is_empty() && to.send(Bytes::from(std::mem::take(&mut text))).await.is_err() {
            return;
        }
        if next.events.len() == TOGETHER {
            continue;
        }
        tokio::select! {
            _ = wakes.changed() => {}
            () = tokio::time::sleep(ALIVE) => text = ":\n\n".into(),
            () = to.closed() => return,
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

fn told(events: &Events, event: &Event) -> String {
    said(Some(events.id(event.number)), event.kind, &event.body)
}

/// An event as the format has it; JSON has no line breaks.
fn said(id: Option<String>, kind: &str, body: &Value) -> String {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    format!("{id}event: {kind}\ndata: {body}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::daemon::events::KEPT_MAX;

    #[test]
    fn whoever_reads_slowly_is_told_how_much_it_missed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let events = Arc::new(Events::new(7));
            let (sender, parts) = mpsc::channel(WAITING);
            let mut body = Parts(parts);
            let (_end, stop) = watch::channel(false);
            let (tells, heard) = (events.clone(), events.now());
            tokio::spawn(async move { tell(&tells, heard, sender, stop).await });
            let mut read = async || -> String {
                let frame = body.frame().await.expect("a part").expect("readable");
                String::from_utf8_lossy(&frame.into_data().expect("data")).into_owned()
            };
            assert_eq!(read().await, ": events of reknit\n\n");
            events.tell("x", json!({ "n": 1 }));
            assert_eq!(read().await, "id: 7-1\nevent: x\ndata: {\"n\":1}\n\n");
            assert_eq!(read().await, ":\n\n", "it is shown to be alive");
            // More than is kept happens while it waits for room; what it had read ahead is told.
            let all = 3 * KEPT_MAX as u64;
            for n in 2..=all {
                events.tell("x", json!({ "n": n }));
                tokio::task::yield_now().await;
            }
            let (mut last, mut lost) = (1, 0);
            while last < all {
                let text = read().await;
                for part in text.split("\n\n").filter(|part| part.contains("data: ")) {
                    let data: Value = serde_json::from_str(part.rsplit_once("data: ").expect("data").1).expect("JSON");
                    if part.contains("event: lost") {
                        let missed = data["events"].as_u64().expect("a number");
                        (last, lost) = (last + missed, lost + missed);
                    } else {
                        assert_eq!(data["n"], last + 1, "{part}");
                        last += 1;
                    }
                }
            }
            assert!(lost > 0 && last == all, "{lost} lost");
        });
    }
}
