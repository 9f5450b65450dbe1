//! What can be asked for: the paths with their methods, and who may.
//!
//! What is in the answers is said in the files beside.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::{HeaderMap, Method, Request, StatusCode};
use reknit_core::agenda::HISTORY_MAX;
use serde_json::json;

use super::answer::{Answer, Outgoing, Refused};
use super::{Face, documents, guard, metrics, stream};
use crate::cli::daemon::Daemon;

/// Bytes of a path with its query.
const TARGET_MAX: usize = 1024;
/// Bytes of a body, of which nothing is taken but that there is none.
const BODY_MAX: usize = 1024;
/// How long a body may take.
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long a request waits until it is taken up.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);

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

/// Begins an answer that goes on as long as somebody listens.
type Begin = fn(&Arc<Face>, &Arc<Daemon>, &HeaderMap) -> Result<Outgoing, Refused>;

/// What answers a route.
enum By {
    /// The process, whatever state it is in.
    Process(fn(&Face) -> Answer),
    /// The daemon; it may read files, and wait for stores.
    Daemon(fn(&Daemon, &Asked) -> Result<Answer, Refused>),
    /// The daemon, again and again.
    Stream(Begin),
}

/// A route.
struct Route {
    /// Its path; a part in braces is any one part.
    path: &'static str,
    who: Who,
    by: By,
    /// The most that `limit` may ask for, where it takes one.
    limit: Option<usize>,
}

impl Route {
    /// What changes something is posted, all else is got.
    fn method(&self) -> Method {
        if self.who == Who::Changer { Method::POST } else { Method::GET }
    }
}

const fn get(path: &'static str, answer: fn(&Daemon, &Asked) -> Result<Answer, Refused>) -> Route {
    Route { path, who: Who::Holder, by: By::Daemon(answer), limit: None }
}

const fn post(path: &'static str, answer: fn(&Daemon, &Asked) -> Result<Answer, Refused>) -> Route {
    Route { path, who: Who::Changer, by: By::Daemon(answer), limit: None }
}

const fn open(path: &'static str, answer: fn(&Face) -> Answer) -> Route {
    Route { path, who: Who::Anyone, by: By::Process(answer), limit: None }
}

/// All that can be asked for; docs/schema/openapi-1.json says the same.
const ROUTES: &[Route] = &[
    open("/healthz", health),
    open("/readyz", readiness),
    get("/metrics", measured),
    get("/api/v1/status", documents::status),
    get("/api/v1/jobs", documents::jobs),
    Route { limit: Some(HISTORY_MAX), ..get("/api/v1/jobs/{job}", documents::job) },
    post("/api/v1/jobs/{job}/run", documents::run),
    post("/api/v1/jobs/{job}/pause", documents::pause),
    post("/api/v1/jobs/{job}/resume", documents::resume),
    post("/api/v1/jobs/{job}/cancel", documents::cancel),
    Route { limit: Some(1_000), ..get("/api/v1/runs", documents::runs) },
    get("/api/v1/peers", documents::peers),
    get("/api/v1/members", documents::members),
    Route { limit: Some(64), ..get("/api/v1/drift", documents::drift) },
    Route { path: "/api/v1/events", who: Who::Holder, by: By::Stream(stream::begin), limit: None },
];

/// What is asked of a route.
pub(super) struct Asked {
    /// What its path leaves open.
    part: String,
    limit: Option<usize>,
}

impl Asked {
    /// The name in the path.
    pub(super) fn name(&self) -> &str {
        &self.part
    }

    /// How much is asked for, or what is told unless it is said.
    pub(super) fn limit(&self, usual: usize) -> usize {
        self.limit.unwrap_or(usual)
    }
}

/// Answers a request that came from there.
pub(super) async fn answer(face: Arc<Face>, from: IpAddr, request: Request<Incoming>) -> Outgoing {
    let answer = answered(&face, request).await.unwrap_or_else(|refused| {
        tracing::debug!(status = refused.status.as_u16(), id = refused.id, %from, "HTTP was refused");
        if let ("http.wrong-token", Some(daemon)) = (refused.id, face.daemon.get()) {
            daemon.guessed(from);
        }
        refused.outgoing()
    });
    if let Some(daemon) = face.daemon.get() {
        daemon.requested(answer.status().as_u16());
    }
    answer
}

async fn answered(face: &Arc<Face>, request: Request<Incoming>) -> Result<Outgoing, Refused> {
    let (head, body) = request.into_parts();
    let (route, asked) = find(&head.method, &head.uri)?;
    if route.who != Who::Anyone {
        guard::admit(&head.headers, face.token.borrow().as_ref(), face.at, route.who == Who::Changer)?;
    }
    nothing_in(body).await?;
    if let By::Process(answer) = route.by {
        return Ok(answer(face).outgoing());
    }
    let starting = "the stores are being opened; /readyz says when they are";
    let starting = || Refused::new(StatusCode::SERVICE_UNAVAILABLE, "http.starting", starting);
    let daemon = face.daemon.get().ok_or_else(starting)?;
    match route.by {
        By::Process(answer) => Ok(answer(face).outgoing()),
        By::Stream(begin) => begin(face, daemon, &head.headers),
        By::Daemon(answer) => {
            let place = tokio::time::timeout(BEGUN_WITHIN, face.at_work.clone().acquire_owned()).await;
            let busy = "as much is being answered as may be at once; try again later";
            let Ok(Ok(place)) = place else {
                return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "http.busy", busy));
            };
            let daemon = daemon.clone();
            let answered = tokio::task::spawn_blocking(move || {
                let answered = answer(&daemon, &asked);
                drop(place);
                answered
            });
            let defect = "this program broke its own promise; its log says more";
            let defect = |_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", defect);
            Ok(answered.await.map_err(defect)??.outgoing())
        }
    }
}

/// The route of a request.
fn find(method: &Method, uri: &hyper::Uri) -> Result<(&'static Route, Asked), Refused> {
    let path = uri.path();
    let unknown = || Refused::new(StatusCode::NOT_FOUND, "http.path", "there is nothing by this path");
    if path.len() + uri.query().map_or(0, str::len) > TARGET_MAX {
        return Err(Refused::new(StatusCode::URI_TOO_LONG, "http.path", "no path here is so long"));
    }
    let fits: Vec<(&Route, &str)> = ROUTES.iter().filter_map(|route| Some((route, fits(route.path, path)?))).collect();
    if fits.is_empty() {
        return Err(unknown());
    }
    // Whatever can be got can be asked about.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let allow: Vec<String> = fits.iter().map(|(route, _)| route.method().to_string()).collect();
    let allow = allow.join(", ");
    let Some((route, part)) = fits.into_iter().find(|(route, _)| route.method() == *method) else {
        let message = format!("this path takes {allow}");
        let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "http.method", message);
        return Err(Refused { allow: Some(allow), ..refused });
    };
    let limit = uri.query().filter(|query| !query.is_empty()).map(|query| limited(query, route.limit)).transpose()?;
    Ok((route, Asked { part: part.into(), limit }))
}

/// What `limit=N` asks for, which is all that a query can say.
fn limited(query: &str, most: Option<usize>) -> Result<usize, Refused> {
    let wrong = |message: String| Refused::new(StatusCode::BAD_REQUEST, "http.query", message);
    let most = most.ok_or_else(|| wrong("this path takes no query".into()))?;
    let digits = |text: &&str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    let asked = query.strip_prefix("limit=").filter(digits).and_then(|text| text.parse().ok());
    let asked = asked.filter(|limit| (1..=most).contains(limit));
    asked.ok_or_else(|| wrong(format!("this path takes limit=N, N from 1 to {most}, and nothing else")))
}

/// What a pattern leaves open of a path that fits it; it leaves one part open at most.
fn fits<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut open = "";
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(open),
            (Some(any), Some(part)) if any.starts_with('{') && !part.is_empty() => open = part,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use serde_json::Value;

    fn document() -> Value {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/openapi-1.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("the document")).expect("JSON")
    }

    #[test]
    fn the_document_tells_of_every_route_and_of_none_that_there_is_not() {
        let document = document();
        let mut told = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, what) in methods.as_object().expect("methods") {
                let limit = what["parameters"].as_array().into_iter().flatten().find(|one| one["name"] == "limit");
                let limit = limit.map(|limit| limit["schema"]["maximum"].as_u64().expect("a bound"));
                let open = what["security"].as_array().is_some_and(Vec::is_empty);
                told.insert((path.clone(), method.to_uppercase(), limit, open));
            }
        }
        let there = ROUTES.iter().map(|route| {
            let limit = route.limit.map(|limit| limit as u64);
            (route.path.to_string(), route.method().to_string(), limit, route.who == Who::Anyone)
        });
        assert_eq!(there.collect::<BTreeSet<_>>(), told);
        assert_eq!(document["info"]["version"], "1", "the version is that of the paths");
    }

    #[test]
    fn paths_fit_whole_and_queries_are_bounded() {
        let found = |method: Method, target: &str| {
            let uri = target.parse().expect("a target");
            find(&method, &uri)
                .map(|(route, asked)| (route.path, asked.part, asked.limit))
                .map_err(|refused| refused.id)
        };
        assert_eq!(found(Method::GET, "/api/v1/jobs/a"), Ok(("/api/v1/jobs/{job}", "a".into(), None)));
        assert_eq!(found(Method::POST, "/api/v1/jobs/a/run"), Ok(("/api/v1/jobs/{job}/run", "a".into(), None)));
        assert_eq!(found(Method::GET, "/api/v1/runs?limit=1000"), Ok(("/api/v1/runs", String::new(), Some(1000))));
        assert_eq!(found(Method::HEAD, "/healthz?"), Ok(("/healthz", String::new(), None)));
        for path in ["/api/v1/jobs/", "/api/v1/jobs//run", "/api/v1/jobs/a/b/run", "/api/v1", "/healthz/", "/Healthz"] {
            assert_eq!(found(Method::GET, path), Err("http.path"), "{path}");
        }
        assert_eq!(found(Method::GET, "/api/v1/jobs/a/run"), Err("http.method"));
        for query in ["limit=0", "limit=1001", "limit=", "limit=-1", "limit=1&limit=2", "x=1", "limit=+1", "limit=1e1"]
        {
            assert_eq!(found(Method::GET, &format!("/api/v1/runs?{query}")), Err("http.query"), "{query}");
        }
        assert_eq!(found(Method::GET, "/api/v1/jobs?limit=1"), Err("http.query"));
    }
}
