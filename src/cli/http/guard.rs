//! Who may ask what: a token where one is set; on this machine alone no page of a browser that was led here by a name.
//!
//! What is answered then is said by the routes.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hyper::header::{AUTHORIZATION, HOST};
use hyper::{HeaderMap, StatusCode};

use super::answer::Refused;
use crate::cli::CliError;

/// Letters of a token, without what is around it.
const TOKEN_LEAST: usize = 16;
const TOKEN_MAX: usize = 512;
/// Rights of others than the owner, in the mode of a file.
const OTHERS: u32 = 0o077;
/// What a page of another site cannot send without being asked first, which is never answered.
pub(super) const CHANGES: &str = "x-reknit";

/// What has to be shown, as its digest: digests are compared in constant time, whatever their texts are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Token(blake3::Hash);

impl Token {
    /// The token in a file; `otherwise` says what holds where there is none.
    ///
    /// # Errors
    /// `http.token`.
    pub(super) fn read(path: &Path, otherwise: &str) -> Result<Token, CliError> {
        let wrong = |why: String| {
            let message = format!("{} holds no token for HTTP: {why}; {otherwise}", path.display());
            CliError::new("http.token", message)
        };
        let found = std::fs::metadata(path).map_err(|cause| wrong(cause.to_string()))?;
        let most = (TOKEN_MAX + 2) as u64;
        if found.len() > most {
            return Err(wrong(format!("it has more than {most} bytes")));
        }
        if found.mode() & OTHERS != 0 {
            return Err(wrong(format!("others than its owner may read it: chmod 600 {}", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(|cause| wrong(cause.to_string()))?;
        Token::parse(&text).ok_or_else(|| {
            wrong(format!("one is {TOKEN_LEAST} to {TOKEN_MAX} letters, digits and -._~+/= on one line, as `openssl rand -hex 32` prints"))
        })
    }

    fn parse(text: &str) -> Option<Token> {
        let token = text.trim_end_matches(['\r', '\n']);
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let is = (TOKEN_LEAST..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(known);
        is.then(|| Token(blake3::hash(token.as_bytes())))
    }

    fn is(&self, shown: &[u8]) -> bool {
        self.0 == blake3::hash(shown)
    }
}

/// That whoever asks may see; `changes` if something is to be done.
pub(super) fn admit(headers: &HeaderMap, token: Option<&Token>, at: SocketAddr, changes: bool) -> Result<(), Refused> {
    let Some(token) = token else {
        led_by_name(headers, at)?;
        let unasked = changes && !headers.contains_key(CHANGES);
        let message = "where no token is set, what changes something is sent with the header X-Reknit: 1, which no page of another site can send; nothing was changed";
        return if unasked { Err(Refused::new(StatusCode::FORBIDDEN, "http.cross-site", message)) } else { Ok(()) };
    };
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (first, more) = (shown.next(), shown.next().is_some());
    let Some(first) = first else {
        let message = "a token is asked for here: send it as `Authorization: Bearer TOKEN`";
        return Err(Refused::new(StatusCode::UNAUTHORIZED, "http.no-token", message));
    };
    match bearer(first.as_bytes()).is_some_and(|shown| token.is(shown)) && !more {
        true => Ok(()),
        false => {
            Err(Refused::new(StatusCode::UNAUTHORIZED, "http.wrong-token", "this is not the token of this daemon"))
        }
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A name that a stranger owns may be made to mean this machine, and a browser then takes what is here for that stranger's: only
/// addresses, `localhost`, and whatever this is bound to are answered to.
fn led_by_name(headers: &HeaderMap, at: SocketAddr) -> Result<(), Refused> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).filter(|_| hosts.next().is_none());
    match host {
        Some(host) if is_here(host, at) => Ok(()),
        _ => {
            let message = format!("asked for as another host than this; ask for http://{at}/, or set a token");
            Err(Refused::new(StatusCode::MISDIRECTED_REQUEST, "http.host", message))
        }
    }
}

fn is_here(host: &str, at: SocketAddr) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.eq_ignore_ascii_case(&at.to_string()) {
        return true;
    }
    let digits = |port: &str| !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && digits(port) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn at() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7474))
    }

    #[test]
    fn hosts_that_a_stranger_could_own_are_not_answered_to() {
        for host in ["127.0.0.1:7474", "127.0.0.1", "localhost:9", "LOCALHOST", "[::1]:7474", "[::1]", "10.0.0.1:80"] {
            assert!(is_here(host, at()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7474",
            "localhost.evil.example",
            "",
            ":7474",
            "127.0.0.1.nip.io:7474",
            "localhost:x",
            "localhost:",
        ] {
            assert!(!is_here(host, at()), "{host}");
        }
        let refused = |all: &[_]| admit(&headers(all), None, at(), false).map_err(|refused| refused.id);
        assert_eq!(refused(&[("host", "localhost")]), Ok(()));
        assert_eq!(refused(&[]), Err("http.host"));
        assert_eq!(refused(&[("host", "localhost"), ("host", "evil.example")]), Err("http.host"));
    }

    #[test]
    fn a_token_is_shown_whole_or_not_at_all() {
        let token = Token::parse("0123456789abcdef\n").expect("a token");
        let refused = |all: &[_]| admit(&headers(all), Some(&token), at(), true).map_err(|refused| refused.id);
        assert_eq!(refused(&[("authorization", "Bearer 0123456789abcdef")]), Ok(()));
        assert_eq!(refused(&[("authorization", "bearer  0123456789abcdef ")]), Ok(()));
        for wrong in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "",
        ] {
            let wrong = HeaderValue::from_static(wrong);
            let mut all = HeaderMap::new();
            all.insert("authorization", wrong.clone());
            let refused = admit(&all, Some(&token), at(), false).map_err(|refused| refused.id);
            assert_eq!(refused, Err("http.wrong-token"), "{wrong:?}");
        }
        assert_eq!(refused(&[]), Err("http.no-token"));
        let twice = [("authorization", "Bearer 0123456789abcdef"), ("authorization", "Bearer x")];
        assert_eq!(refused(&twice), Err("http.wrong-token"));
        for text in ["", "short", "0123456789 abcdef", "0123456789abcdef\n0123456789abcdef", "0123456789abcdéf"] {
            assert!(Token::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn without_a_token_what_changes_something_is_not_sent_by_a_page_of_another_site() {
        let may = |all: &[_]| admit(&headers(all), None, at(), true).map_err(|refused| refused.id);
        assert_eq!(may(&[("host", "localhost:7474")]), Err("http.cross-site"));
        assert_eq!(may(&[("host", "localhost:7474"), ("x-reknit", "1")]), Ok(()));
    }
}
