//! Answers: documents and errors, as bytes with their headers.
//!
//! What is in a document is said by those who make it.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::cli::{CliError, Exit};

/// What goes out.
pub(super) type Outgoing = Response<BoxBody<Bytes, std::convert::Infallible>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What was asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    kind: HeaderValue,
    body: Bytes,
}

impl Answer {
    /// A document.
    pub(super) fn json(document: &Value) -> Answer {
        Answer::with(StatusCode::OK, document)
    }

    /// A document with another status than 200.
    pub(super) fn with(status: StatusCode, document: &Value) -> Answer {
        Answer { status, kind: JSON, body: Bytes::from(format!("{document}\n")) }
    }

    /// A text of this kind.
    pub(super) fn text(kind: &'static str, text: String) -> Answer {
        Answer { status: StatusCode::OK, kind: HeaderValue::from_static(kind), body: Bytes::from(text) }
    }

    /// As it goes out.
    pub(super) fn outgoing(self) -> Outgoing {
        outgoing(self.status, self.kind, Full::new(self.body).boxed())
    }
}

/// An answer with this body: nobody keeps it, nobody takes it for another kind.
pub(super) fn outgoing(
    status: StatusCode,
    kind: HeaderValue,
    body: BoxBody<Bytes, std::convert::Infallible>,
) -> Outgoing {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Why something was not answered; nothing was changed.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    /// Stable, as those of commands.
    pub(super) id: &'static str,
    pub(super) message: String,
    /// The methods that there are.
    pub(super) allow: Option<String>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, id: &'static str, message: impl Into<String>) -> Refused {
        Refused { status, id, message: message.into(), allow: None }
    }

    /// As it goes out.
    pub(super) fn outgoing(self) -> Outgoing {
        let document = json!({ "error": self.id, "message": self.message });
        let mut response = Answer::with(self.status, &document).outgoing();
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            response.headers_mut().insert(ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"reknit\""));
        }
        response
    }
}

impl From<CliError> for Refused {
    /// The same error as a command's; what nobody who asks can mend is 500.
    fn from(error: CliError) -> Refused {
        let status = match (error.id, error.exit) {
            ("config.job", _) => StatusCode::NOT_FOUND,
            (_, Exit::Refused) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refused::new(status, error.id, error.message)
    }
}
