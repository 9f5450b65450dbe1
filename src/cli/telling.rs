//! Tells one alert to somebody: by a command that gets JSON on stdin, or by JSON that is posted to a webhook; one try, bounded.
//!
//! What is told, and when again, is for others.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reknit_core::alert::Event;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Url, redirect};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::config::{AlertsTable, COMMAND};

/// Bytes that are read of what a command prints, and of the file with the header.
const OUTPUT_BYTES_MAX: u64 = 4 << 10;
/// Bytes of the file of authorities; a bundle of all that the world trusts has a quarter of it.
const CA_BYTES_MAX: u64 = 1 << 20;

/// An event as it is told.
pub(crate) fn object(event: &Event, node: &str, now: u64) -> Value {
    json!({
        "alert": event.id,
        "state": if event.resolved.is_some() { "resolved" } else { "firing" },
        "kind": event.trouble.kind.name(),
        "about": event.trouble.about,
        "message": event.trouble.message,
        "since_ms": event.since,
        "resolved_ms": event.resolved,
        "repeated": event.again && event.resolved.is_none(),
        "at_ms": now,
        "node": node,
    })
}

/// Tells it by one way.
///
/// # Errors
/// Why it was not heard, in words; without secrets.
pub(crate) fn tell(table: &AlertsTable, way: &str, object: &Value) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("threads cannot be started: {error}"))?;
    let body = object.to_string();
    runtime.block_on(async {
        match (way, &table.webhook) {
            (COMMAND, _) => command(&table.command, body, table.timeout).await,
            (_, Some(url)) => post(url, table, body).await,
            _ => Err("it is no longer configured".into()),
        }
    })
}

async fn command(argv: &[String], body: String, timeout: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = argv else { return Err("there is no command".into()) };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // A group of its own: what it began itself ends with it.
    let mut child = command.process_group(0).spawn().map_err(|error| format!("{program} cannot be run: {error}"))?;
    let group = Group(child.id());
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let done = async {
        let feed = async {
            if let Some(mut input) = input {
                // Whoever does not read it has heard what it wanted to.
                let _ = input.write_all(format!("{body}\n").as_bytes()).await;
            }
        };
        let ((), out, err, status) = tokio::join!(feed, read(out), read(err), child.wait());
        (status, [out, err])
    };
    let (status, said) = tokio::time::timeout(timeout, done)
        .await
        .map_err(|_| format!("{program} did not end within {timeout:?}, and was killed"))?;
    let status = status.map_err(|error| format!("{program}: {error}"))?;
    group.keep();
    for line in said.iter().flat_map(|said| said.lines()) {
        tracing::info!(program, line, "what a command of [alerts] said");
    }
    match status.success() {
        true => Ok(()),
        false => Err(format!("{program} failed ({status})")),
    }
}

/// The processes that a command has begun, itself among them; they end with this.
struct Group(Option<u32>);

impl Group {
    /// Lets those go on that are left.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Those that have ended cannot be ended.
        let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
    }
}

/// The beginning of what is said; the rest is read, so that nobody waits for a reader, and dropped.
async fn read(from: Option<impl AsyncReadExt + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut bytes = Vec::new();
    // What cannot be read is not logged.
    let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn post(url: &Url, table: &AlertsTable, body: String) -> Result<(), String> {
    // Whoever set one before has set this one: TLS is by ring in all of the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let host = url.host_str().unwrap_or_default();
    // An address may hold a secret: errors are told without it.
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(deeper) = cause {
            why = format!("{why}: {deeper}");
            cause = deeper.source();
        }
        format!("the webhook at {host}: {why}")
    };
    let mut client = Client::builder().timeout(table.timeout).redirect(redirect::Policy::none());
    if let Some(file) = &table.ca_file {
        client = client.tls_certs_only(read_authorities(file)?);
    }
    let client = client.build().map_err(failed)?;
    let mut request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body);
    if let Some(file) = &table.header_file {
        let (name, value) = read_header(file)?;
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(failed)?;
    match response.status().is_success() {
        true => Ok(()),
        false => Err(format!("the webhook at {host} answered {}", response.status())),
    }
}

/// The certificates of authorities in a file.
fn read_authorities(file: &Path) -> Result<Vec<Certificate>, String> {
    let wrong = |why: &str| format!("the authorities in {} {why}", file.display());
    let mut pem = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(CA_BYTES_MAX).read_to_end(&mut pem));
    read.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(authorities) if !authorities.is_empty() => Ok(authorities),
        _ => Err(wrong("are no certificates in PEM")),
    }
}

/// The header in a file, `Name: value`.
fn read_header(file: &Path) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = |why: &str| format!("the header in {} {why}", file.display());
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(OUTPUT_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let line = text.lines().next().unwrap_or_default();
    let (name, value) = line.split_once(':').ok_or_else(|| wrong("is not `Name: value`"))?;
    let name = name.trim().parse().map_err(|_| wrong("has a name that is none"))?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong("has a value that is none"))?;
    value.set_sensitive(true);
    Ok((name, value))
}
