//! Connections: how many there may be, how much each may send, and how long it may take.
//!
//! What is answered is said by the routes.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::{Face, routes};

/// Connections that may be open; more wait until one is not.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request before its body.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a request may take to arrive, and a connection to bring the next one.
const ARRIVES_WITHIN: Duration = Duration::from_secs(15);
/// How long nothing may be taken of an answer.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// How long is waited where the system gives no connection.
const NO_CONNECTION: Duration = Duration::from_millis(100);

/// Answers whoever connects.
pub(super) async fn listen(listener: TcpListener, face: Arc<Face>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // It is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let face = face.clone();
                tokio::spawn(async move {
                    serve(stream, from.ip(), face).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection of HTTP can be taken up");
                tokio::time::sleep(NO_CONNECTION).await;
            }
        }
    }
}

/// Answers on one connection until it ends.
async fn serve(stream: impl AsyncRead + AsyncWrite + Send + 'static, from: IpAddr, face: Arc<Face>) {
    let answer = service_fn(move |request| {
        let face = face.clone();
        async move { Ok::<_, Infallible>(routes::answer(face, from, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(ARRIVES_WITHIN);
    http.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let patient = Patient { stream: Box::pin(stream), waits: None };
    if let Err(error) = http.serve_connection(TokioIo::new(patient), answer).await {
        tracing::debug!(%error, "a connection of HTTP has ended");
    }
}

/// A stream that ends where nothing that is written is taken for too long.
struct Patient<S> {
    stream: Pin<Box<S>>,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// What a write came to: where it has to wait, an error after a while.
    fn within<T>(&mut self, came: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if came.is_ready() {
            self.waits = None;
            return came;
        }
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKEN_WITHIN)));
        ready!(waits.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl<S: AsyncWrite> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let came = self.stream.as_mut().poll_write(context, bytes);
        self.within(came, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let came = self.stream.as_mut().poll_flush(context);
        self.within(came, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let came = self.stream.as_mut().poll_shutdown(context);
        self.within(came, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    /// Runs on a clock that goes on where everybody waits.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(test);
    }

    /// A connection to a process that still opens its stores, of which so many bytes are under way at most.
    fn connection(bytes: usize) -> (DuplexStream, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(bytes);
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], 7474));
        let (_, stop) = watch::channel(false);
        let face = Arc::new(Face::new(at, None, stop));
        (near, tokio::spawn(serve(far, at.ip(), face)))
    }

    /// What comes for a request, until the connection ends.
    async fn asked(request: &str) -> String {
        let (mut near, _serving) = connection(1 << 16);
        near.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("text");
        answer
    }

    #[test]
    fn while_stores_are_opened_it_lives_and_is_not_ready() {
        run(async {
            let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert!(asked(&get("/healthz")).await.starts_with("HTTP/1.1 200 "));
            let answer = asked(&get("/readyz")).await;
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"stores are being opened\""), "{answer}");
            for path in ["/metrics", "/api/v1/status", "/api/v1/events"] {
                let answer = asked(&get(path)).await;
                assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("http.starting"), "{answer}");
            }
        });
    }

    #[test]
    fn whoever_is_slow_is_not_waited_for_longer_than_is_said() {
        run(async {
            let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
            // Nothing, half a request, and one after which nothing more comes.
            for (sent, answered) in [("", false), (head, false), (&format!("{head}\r\n"), true)] {
                let began = Instant::now();
                let answer = asked(sent).await;
                assert_eq!(
                    (began.elapsed().as_secs(), answer.contains("200 OK")),
                    (ARRIVES_WITHIN.as_secs(), answered)
                );
            }
            let began = Instant::now();
            let answer = asked(&format!("{head}Connection: close\r\nContent-Length: 5\r\n\r\n{{")).await;
            assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("http.body"), "{answer}");
            assert_eq!(began.elapsed(), routes::BODY_WITHIN);
            // An answer that nobody takes.
            let (mut near, serving) = connection(32);
            let request = format!("{head}\r\n");
            let began = Instant::now();
            near.write_all(request.as_bytes()).await.expect("sent");
            serving.await.expect("it ends");
            assert_eq!(began.elapsed().as_secs(), TAKEN_WITHIN.as_secs());
        });
    }
}
