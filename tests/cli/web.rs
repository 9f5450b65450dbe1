//! A small client of HTTP, as far as the tests need one: one request a connection, or a stream that is read as it comes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// What a daemon answered.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// Where requests go, and with what.
pub(crate) struct Web {
    pub(crate) at: SocketAddr,
    pub(crate) headers: Vec<(String, String)>,
}

impl Web {
    pub(crate) fn at(at: SocketAddr) -> Web {
        Web { at, headers: Vec::new() }
    }

    pub(crate) fn with(at: SocketAddr, headers: &[(&str, &str)]) -> Web {
        Web { at, headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect() }
    }

    pub(crate) fn get(&self, path: &str) -> Got {
        self.send("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str) -> Got {
        self.send("POST", path, "")
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Got {
        let mut reader = self.open(method, path, body);
        let (status, headers) = head(&mut reader);
        let mut rest = String::new();
        // One that ends early is shorter than it says.
        if headers.get("transfer-encoding").is_some_and(|how| how == "chunked") {
            return Got { status, headers, body: chunks(reader) };
        }
        let read = reader.read_to_string(&mut rest);
        let length: Option<usize> = headers.get("content-length").and_then(|length| length.parse().ok());
        if method != "HEAD" {
            assert_eq!((read.expect("a body"), length), (rest.len(), Some(rest.len())), "{rest}");
        }
        Got { status, headers, body: rest }
    }

    /// Sends a request, and gives what comes.
    pub(crate) fn open(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let own = |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !own("host") {
            request += &format!("Host: {}\r\n", self.at);
        }
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        raw(self.at, format!("{request}\r\n{body}").as_bytes())
    }
}

/// A body that comes in chunks, whole.
fn chunks(mut reader: BufReader<TcpStream>) -> String {
    let mut body = Vec::new();
    loop {
        let mut length = String::new();
        reader.read_line(&mut length).expect("a length");
        let length = usize::from_str_radix(length.trim_end(), 16).expect("hex digits");
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).expect("a chunk");
        if length == 0 {
            return String::from_utf8(body).expect("text");
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

/// Sends bytes, and gives what comes.
pub(crate) fn raw(at: SocketAddr, bytes: &[u8]) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(at).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a deadline");
    // Whoever is refused early does not hear everything.
    let _ = stream.write_all(bytes);
    BufReader::new(stream)
}

/// The status and the headers of what comes.
pub(crate) fn head(reader: &mut BufReader<TcpStream>) -> (u16, BTreeMap<String, String>) {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    (status.unwrap_or_else(|| panic!("no status in {line:?}")), headers)
}

impl Got {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Got {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Was refused with the error of this id.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, id: &str) -> Got {
        let got = self.is(status);
        let document = got.json();
        assert_eq!(document["error"], id, "{got:?}");
        assert!(document["message"].as_str().is_some_and(|message| !message.is_empty()), "{got:?}");
        got
    }
}
