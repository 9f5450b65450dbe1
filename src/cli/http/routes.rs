//! What can be asked for: the paths with their methods, and who may.
//!
//! What is in the answers is said in the files beside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use super::answer::{Answer, Outgoing, Refused};
use super::{Face, guard, metrics};
use crate::cli::daemon::Daemon;

/// Bytes of a path with its query.
const TARGET_MAX: usize = 1024;
/// Bytes of a body, of which nothing is taken but that there is none.
const BODY_MAX: usize = 1024;
/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Anybody: whether the process lives is no secret to whoever reaches it.
    Anyone,
    /// Whoever shows the token, if there is one.
    Holder,
    /// The same, for what changes something.
    Changer,
}

/// What answers a route.
enum By {
    /// The process, whatever state it is in.
    Process(fn(&Face) -> Answer),
    /// The daemon; it may read files, and wait for stores.
    Daemon(fn(&Daemon, &Asked) -> Result<Answer, Refused>),
}

/// A route.
struct Route {
    method: Method,
    /// Its path; a part in braces is any one part.
    path: &'static str,
    who: Who,
    by: By,
}

/// All that can be asked for; docs/schema/openapi-1.json says the same.
const ROUTES: &[Route] = &[
    Route { method: Method::GET, path: "/healthz", who: Who::Anyone, by: By::Process(health) },
    Route { method: Method::GET, path: "/readyz", who: Who::Anyone, by: By::Process(readiness) },
    Route { method: Method::GET, path: "/metrics", who: Who::Holder, by: By::Daemon(measured) },
];

/// What is asked of a route.
pub(super) struct Asked {
    /// The parts that its path leaves open.
    pub(super) parts: Vec<String>,
}

/// Answers a request.
pub(super) async fn answer(face: Arc<Face>, request: Request<Incoming>) -> Outgoing {
    answered(&face, request).await.unwrap_or_else(|refused| {
        tracing::debug!(status = refused.status.as_u16(), id = refused.id, "HTTP was refused");
        refused.outgoing()
    })
}

async fn answered(face: &Arc<Face>, request: Request<Incoming>) -> Result<Outgoing, Refused> {
    let (head, body) = request.into_parts();
    let (route, asked) = find(&head.method, &head.uri)?;
    if route.who != Who::Anyone {
        guard::admit(&head.headers, face.token.as_ref(), face.at, route.who == Who::Changer)?;
    }
    nothing_in(body).await?;
    let answer = match route.by {
        By::Process(answer) => answer(face),
        By::Daemon(answer) => {
            let daemon = face.daemon.get().cloned();
            let starting = "the stores are being opened; /readyz says when they are";
            let daemon =
                daemon.ok_or_else(|| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "http.starting", starting))?;
            let _place = face.at_work.acquire().await;
            let answered = tokio::task::spawn_blocking(move || answer(&daemon, &asked)).await;
            let defect = "this program broke its own promise; its log says more";
            answered.map_err(|_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", defect))??
        }
    };
    Ok(answer.outgoing())
}

/// The route of a request.
fn find(method: &Method, uri: &hyper::Uri) -> Result<(&'static Route, Asked), Refused> {
    let path = uri.path();
    let unknown = || Refused::new(StatusCode::NOT_FOUND, "http.path", "there is nothing by this path");
    if path.len() + uri.query().map_or(0, str::len) > TARGET_MAX {
        return Err(Refused::new(StatusCode::URI_TOO_LONG, "http.path", "no path here is so long"));
    }
    let fits: Vec<(&Route, Vec<String>)> =
        ROUTES.iter().filter_map(|route| Some((route, fits(route.path, path)?))).collect();
    if fits.is_empty() {
        return Err(unknown());
    }
    // Whatever can be got can be asked about.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let allow: Vec<&str> = fits.iter().map(|(route, _)| route.method.as_str()).collect();
    let allow = allow.join(", ");
    let Some((route, parts)) = fits.into_iter().find(|(route, _)| route.method == *method) else {
        let message = format!("this path takes {allow}");
        let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "http.method", message);
        return Err(Refused { allow: Some(allow), ..refused });
    };
    if uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "http.query", "this path takes no query"));
    }
    Ok((route, Asked { parts }))
}

/// The parts of a path that a pattern leaves open, if it fits.
fn fits(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut parts = Vec::new();
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(parts),
            (Some(open), Some(part)) if open.starts_with('{') && !part.is_empty() => parts.push(part.into()),
            (Some(known), Some(part)) if known == part => {}
            _ => return None,
        }
    }
}

/// No request says anything in its body; an empty object is nothing too.
async fn nothing_in(body: impl Body<Data = Bytes, Error = hyper::Error>) -> Result<(), Refused> {
    if body.is_end_stream() {
        return Ok(());
    }
    let body = std::pin::pin!(body);
    let read = tokio::time::timeout(BODY_WITHIN, Limited::new(body, BODY_MAX).collect()).await;
    let wrong = |status, message| Err(Refused::new(status, "http.body", message));
    match read {
        Err(_) => wrong(StatusCode::REQUEST_TIMEOUT, "the body did not come in time; nothing was done"),
        Ok(Err(_)) => wrong(StatusCode::PAYLOAD_TOO_LARGE, "no request has such a body; nothing was done"),
        Ok(Ok(read)) => match read.to_bytes().trim_ascii() {
            b"" | b"{}" => Ok(()),
            _ => wrong(StatusCode::BAD_REQUEST, "no request here has a body; nothing was done"),
        },
    }
}

fn health(_: &Face) -> Answer {
    Answer::json(&json!({ "alive": true, "version": env!("CARGO_PKG_VERSION") }))
}

fn readiness(face: &Face) -> Answer {
    let why = face.not_ready();
    let status = if why.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Answer::with(status, &json!({ "ready": why.is_empty(), "reasons": why }))
}

fn measured(daemon: &Daemon, _: &Asked) -> Result<Answer, Refused> {
    Ok(Answer::text(metrics::KIND, metrics::text(daemon)))
}
