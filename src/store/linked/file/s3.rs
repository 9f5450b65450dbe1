//! A file in a bucket of S3, or of what speaks like it: read by ranges, of one version.
//!
//! Credentials, region and endpoint are those of the environment, as AWS's own tools name them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, RetryConfig};

use super::source::{Opened, Source, Version};

/// How an address in a bucket begins.
pub(super) const SCHEME: &str = "s3://";
/// Bytes that are asked for at once.
const BLOCK_BYTES: usize = 8 << 20;
/// How often, and how long, an answer that failed is asked for again.
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// One object of a bucket.
#[derive(Clone)]
pub(super) struct Object {
    asks: SyncSender<Ask>,
}

/// What is asked of the bucket, and who waits for the answer.
struct Ask {
    options: GetOptions,
    answer: SyncSender<io::Result<(Version, Bytes)>>,
}

impl Object {
    /// The object of an address, `s3://bucket/path`; nothing is asked yet.
    pub(super) fn new(address: &str) -> io::Result<Object> {
        let (bucket, path) = address.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).unwrap_or_default();
        if bucket.is_empty() || path.is_empty() {
            return Err(io::Error::other("an object is s3://BUCKET/PATH"));
        }
        let path = Path::parse(path).map_err(io::Error::other)?;
        // Whoever set one before has set this one: TLS is by ring in all of the program.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
        if endpoint.starts_with("http://") && std::env::var("AWS_ALLOW_HTTP").ok().as_deref() != Some("true") {
            let message =
                format!("the endpoint {endpoint} is not encrypted; set AWS_ALLOW_HTTP=true if that is as it should be");
            return Err(io::Error::other(message));
        }
        let store = builder.build().map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (asks, asked) = sync_channel(1);
        // Callers block, some of them in threads that belong to another runtime.
        std::thread::Builder::new().name("s3".into()).spawn(move || answer(&runtime, &store, &path, &asked))?;
        Ok(Object { asks })
    }

    fn ask(&self, options: GetOptions) -> io::Result<(Version, Bytes)> {
        let (answer, answered) = sync_channel(1);
        let gone = || io::Error::other("the thread that asks the bucket has ended");
        self.asks.send(Ask { options, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

/// Answers one after the other until nobody can ask any more.
fn answer(runtime: &tokio::runtime::Runtime, store: &AmazonS3, path: &Path, asked: &Receiver<Ask>) {
    for ask in asked {
        let answer = runtime.block_on(async {
            let head = ask.options.head;
            let got = store.get_opts(path, ask.options).await?;
            let version = Version {
                bytes: got.meta.size,
                mark: got.meta.e_tag.clone().unwrap_or_else(|| got.meta.last_modified.to_rfc3339()),
            };
            let bytes = if head { Bytes::new() } else { got.bytes().await? };
            Ok((version, bytes))
        });
        // Who asked may have given up.
        let _ = ask.answer.send(answer.map_err(told));
    }
}

fn told(error: Error) -> io::Error {
    io::Error::other(match error {
        Error::NotFound { path, .. } => format!("there is no object {path} in the bucket, or no bucket"),
        Error::Precondition { .. } => "it was changed meanwhile".into(),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            "the credentials of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) may not read it".into()
        }
        other => other.to_string(),
    })
}

impl Source for Object {
    fn version(&self) -> io::Result<Version> {
        self.ask(GetOptions { head: true, ..GetOptions::default() }).map(|(version, _)| version)
    }

    fn open(&self) -> io::Result<Arc<dyn Opened>> {
        let version = self.version()?;
        Ok(Arc::new(ObjectVersion { object: self.clone(), version }))
    }
}

struct ObjectVersion {
    object: Object,
    version: Version,
}

impl Opened for ObjectVersion {
    fn version(&self) -> &Version {
        &self.version
    }

    fn block(&self) -> usize {
        BLOCK_BYTES
    }

    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.version.bytes);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let range = Some(GetRange::Bounded(start..end));
        // A server that knows of no marks answers with whatever is there: it is compared below.
        let quoted = self.version.mark.starts_with(['"', 'W']);
        let if_match = quoted.then(|| self.version.mark.clone());
        let (version, bytes) = self.object.ask(GetOptions { range, if_match, ..GetOptions::default() })?;
        if version != self.version || bytes.len() != length {
            return Err(io::Error::other("it was changed meanwhile"));
        }
        Ok(bytes)
    }
}
