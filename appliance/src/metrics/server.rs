//! The HTTP/1.1 server for `GET /metrics`.
//!
//! It has a fixed number of threads, and a time limit for each connection: a stalled connection delays only other
//! scrapes, never the appliance.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{info, warn};

/// The number of threads, and so of parallel connections; others wait in the kernel's queue.
const THREADS: usize = 4;
/// The longest head of a request, in bytes; Prometheus' has about 300.
const HEAD_BYTES: usize = 8 << 10;
/// The most headers of a request.
const HEADERS: usize = 64;
/// The time limit for a request, and again for the answer: as long as Prometheus waits.
const LIMIT: Duration = Duration::from_secs(10);
/// The maximum age of metrics. Reading the state of 1,000 machines takes up to 0.3 s, and happens at most once in this
/// time. Prometheus, which scrapes every 15 s or more, always gets new values.
const MAX_AGE: Duration = Duration::from_secs(5);
/// The delay after a failed accept, and the time limit for the rest of a request after the answer.
const PAUSE: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The server for metrics.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
    limit: Duration,
}

impl MetricsServer {
    /// Binds to an address.
    ///
    /// # Errors
    /// When the address is in use, or isn't one of this machine.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| {
            format!("can't listen on --metrics {address}: use an address of this machine and a free port")
        })?;
        Ok(MetricsServer {
            listener,
            limit: LIMIT,
        })
    }

    /// The address, with the port that the system chose if none was named.
    ///
    /// # Errors
    /// When the system doesn't return it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts to serve the text that `read` returns; only one thread at a time calls it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        self,
        read: impl Fn() -> anyhow::Result<String> + Send + Sync + 'static,
    ) -> anyhow::Result<()> {
        let address = self.address()?;
        let cache = Arc::new(Cache {
            read,
            last: Mutex::new(None),
        });
        let listener = Arc::new(self.listener);
        for _ in 0..THREADS {
            let (listener, cache) = (Arc::clone(&listener), Arc::clone(&cache));
            thread::Builder::new()
                .name("metrics".into())
                .spawn(move || serve(&listener, &cache, self.limit))
                .context("can't start a thread for --metrics")?;
        }
        info!(%address, "serving metrics");
        Ok(())
    }
}

/// Caches the metrics for [`MAX_AGE`].
struct Cache<F> {
    read: F,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl<F: Fn() -> anyhow::Result<String>> Cache<F> {
    fn text(&self) -> anyhow::Result<Arc<str>> {
        // Concurrent requests wait for the same answer.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, text)) if at.elapsed() < MAX_AGE => Ok(Arc::clone(text)),
            _ => {
                let text: Arc<str> = (self.read)()?.into();
                *last = Some((Instant::now(), Arc::clone(&text)));
                Ok(text)
            }
        }
    }
}

fn serve<F: Fn() -> anyhow::Result<String>>(
    listener: &TcpListener,
    cache: &Cache<F>,
    limit: Duration,
) {
    loop {
        match listener.accept() {
            // A closed or slow connection gets no answer.
            Ok((connection, _)) => drop(serve_one(&connection, cache, limit)),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn serve_one<F: Fn() -> anyhow::Result<String>>(
    connection: &TcpStream,
    cache: &Cache<F>,
    limit: Duration,
) -> io::Result<()> {
    let request = Request::receive(connection, Instant::now() + limit)?;
    let answer = Answer::to(request, cache);
    answer.send(connection, Instant::now() + limit)?;
    // Closing with unread input would discard the answer.
    connection.shutdown(Shutdown::Write)?;
    let until = Instant::now() + PAUSE;
    let mut rest = [0; 1024];
    while read_until(connection, &mut rest, until)? > 0 {}
    Ok(())
}

/// The request of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Metrics { only_head: bool },
    OtherPath,
    OtherMethod,
    Malformed,
}

impl Request {
    fn receive(connection: &TcpStream, until: Instant) -> io::Result<Self> {
        let mut head = Vec::new();
        let mut bytes = [0; 1024];
        loop {
            if let Some(request) = Request::parse(&head) {
                return Ok(request);
            }
            match read_until(connection, &mut bytes, until)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => head.extend_from_slice(&bytes[..length]),
            }
        }
    }

    /// Parses the head of a request; none while it is incomplete.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let parsed = head.parse(bytes);
        match parsed {
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => return None,
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) | Err(_) => return Some(Request::Malformed),
        }
        let path = head.path.unwrap_or_default();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        Some(match (head.method.unwrap_or_default(), path) {
            ("GET", "/metrics") => Request::Metrics { only_head: false },
            ("HEAD", "/metrics") => Request::Metrics { only_head: true },
            (_, "/metrics") => Request::OtherMethod,
            _ => Request::OtherPath,
        })
    }
}

/// The answer to a request.
struct Answer {
    head: String,
    body: Arc<str>,
}

impl Answer {
    fn to<F: Fn() -> anyhow::Result<String>>(request: Request, cache: &Cache<F>) -> Self {
        let (status, kind, body) = match request {
            Request::Metrics { .. } => match cache.text() {
                Ok(text) => ("200 OK", TEXT, text),
                Err(error) => {
                    warn!("can't read the metrics: {error:#}");
                    let text = "can't read the metrics: see the appliance's log\n";
                    ("500 Internal Server Error", PLAIN, text.into())
                }
            },
            Request::OtherPath => ("404 Not Found", PLAIN, "only /metrics exists\n".into()),
            Request::OtherMethod => (
                "405 Method Not Allowed",
                PLAIN,
                "only GET is allowed\n".into(),
            ),
            Request::Malformed => ("400 Bad Request", PLAIN, "this isn't HTTP/1.1\n".into()),
        };
        let length = body.len();
        let allow = match request {
            Request::OtherMethod => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: \
             close\r\n\r\n"
        );
        let is_sent = !matches!(request, Request::Metrics { only_head: true });
        let body = if is_sent { body } else { "".into() };
        Answer { head, body }
    }

    fn send(&self, connection: &TcpStream, until: Instant) -> io::Result<()> {
        write_all(connection, self.head.as_bytes(), until)?;
        write_all(connection, self.body.as_bytes(), until)
    }
}

fn read_until(mut connection: &TcpStream, bytes: &mut [u8], until: Instant) -> io::Result<usize> {
    connection.set_read_timeout(Some(remaining(until)?))?;
    connection.read(bytes)
}

/// Writes all bytes within a time limit, also to a slow reader.
fn write_all(mut connection: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        connection.set_write_timeout(Some(remaining(until)?))?;
        let length = connection.write(bytes)?;
        bytes = &bytes[length..];
    }
    Ok(())
}

fn remaining(until: Instant) -> io::Result<Duration> {
    let remaining = until.saturating_duration_since(Instant::now());
    // A timeout of zero would mean no timeout.
    if remaining.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(remaining)
}

#[cfg(test)]
mod tests;
