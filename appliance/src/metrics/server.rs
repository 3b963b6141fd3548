//! Answers `GET /metrics` by HTTP/1.1, for Prometheus.
//!
//! It has threads of its own, a fixed number of them, and every connection has its time: whoever stalls keeps only
//! other scrapes waiting, never the appliance.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{info, warn};

/// How many connections are answered at a time; others wait in the kernel's queue.
const THREADS: usize = 4;
/// The longest head of a request, in bytes. Prometheus' has about 300.
const HEAD_BYTES: usize = 8 << 10;
/// The most headers in it.
const HEADERS: usize = 64;
/// How long a connection may take to send its request, and then again to take the answer: as long as Prometheus waits.
const LIMIT: Duration = Duration::from_secs(10);
/// How old the metrics may be. Reading the state of 1,000 machines takes up to 0.3 s; within this time it is done once,
/// however many ask, and Prometheus, which asks every 15 s or more, always gets what is new.
const MAX_AGE: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more connections to give, and for what is still said after an answer.
const PAUSE: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Where metrics are asked for.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
    limit: Duration,
}

impl MetricsServer {
    /// Takes the address.
    ///
    /// # Errors
    /// When it is taken or isn't this machine's.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| {
            format!("--metrics {address} can't be listened on: name an address of this machine and a free port")
        })?;
        Ok(MetricsServer {
            listener,
            limit: LIMIT,
        })
    }

    /// The address, with the port that the system chose if none was named.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts to answer, with what `read` gives; it is called by one thread at a time.
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
                .context("no thread can be started for --metrics")?;
        }
        info!(%address, "metrics are answered");
        Ok(())
    }
}

/// Gives the metrics, and reads them anew when they are too old.
struct Cache<F> {
    read: F,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl<F: Fn() -> anyhow::Result<String>> Cache<F> {
    fn text(&self) -> anyhow::Result<Arc<str>> {
        // Whoever asks meanwhile waits for the same answer.
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
            // Who goes away, or is too slow, gets no answer.
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
    // What nobody has read when a connection is closed takes the answer with it.
    connection.shutdown(Shutdown::Write)?;
    let until = Instant::now() + PAUSE;
    let mut rest = [0; 1024];
    while read_until(connection, &mut rest, until)? > 0 {}
    Ok(())
}

/// What a connection asks for.
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

    /// Reads the head of a request; none while it isn't whole.
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

/// What a connection gets.
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
                    warn!("metrics can't be read: {error:#}");
                    let text = "the metrics can't be read: the appliance's log says why\n";
                    ("500 Internal Server Error", PLAIN, text.into())
                }
            },
            Request::OtherPath => ("404 Not Found", PLAIN, "there is only /metrics\n".into()),
            Request::OtherMethod => (
                "405 Method Not Allowed",
                PLAIN,
                "there is only GET\n".into(),
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

/// Writes within a time, also to one who takes a byte now and then.
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
    // A timeout of zero would be none at all.
    if remaining.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(remaining)
}

#[cfg(test)]
mod tests;
