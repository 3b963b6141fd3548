//! A TCP proxy that counts bytes and round trips, and can make the way longer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// What has passed, as a client sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections that were opened.
    pub connections: u64,
    /// Bytes from clients to the server.
    pub sent: u64,
    /// Bytes from the server to clients.
    pub received: u64,
    /// How often a client spoke after it had heard something since it last spoke, at most once in
    /// the time that a round trip takes: what it is told at once may come in pieces, and it may
    /// speak after each. With the opening of the connection (one more), that is how many round trips
    /// it has waited for.
    pub turns: u64,
}

#[derive(Debug)]
struct Tally {
    count: Count,
    heard: bool,
    /// How long no answer can take less.
    round_trip: Duration,
    /// When the last turn of this connection was.
    turned: Option<Instant>,
}

impl Tally {
    fn new(round_trip: Duration) -> Self {
        Tally {
            count: Count::default(),
            heard: false,
            round_trip,
            turned: None,
        }
    }

    fn connected(&mut self) {
        self.count.connections += 1;
        self.heard = false;
        self.turned = None;
    }

    fn sent(&mut self, bytes: usize) {
        self.count.sent += bytes as u64;
        let is_answer = self
            .turned
            .is_none_or(|turned| turned.elapsed() >= self.round_trip);
        if self.heard && is_answer {
            self.count.turns += 1;
            self.turned = Some(Instant::now());
        }
        self.heard = false;
    }

    fn received(&mut self, bytes: usize) {
        self.count.received += bytes as u64;
        self.heard = true;
    }
}

/// A proxy on a free port of 127.0.0.1, until it is dropped. Turns are only meaningful while one
/// connection at a time passes.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts to pass connections on to `server`, each way taking `one_way` longer than it would.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start(server: SocketAddr, one_way: Duration) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot start a proxy")?;
        let address = listener.local_addr()?;
        let tally = Arc::new(Mutex::new(Tally::new(one_way * 2)));
        let ended = Arc::new(AtomicBool::new(false));
        let proxy = Self {
            address,
            tally: Arc::clone(&tally),
            ended: Arc::clone(&ended),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                // A server that refuses ends the client's connection, as it would without a proxy.
                if let Ok(server) = TcpStream::connect(server) {
                    join(client, server, one_way, &tally).ok();
                }
            }
        });
        Ok(proxy)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has passed so far.
    #[must_use]
    pub fn count(&self) -> Count {
        lock(&self.tally).count
    }

    /// What has passed since the last call of this, or since the start; then counts from nothing.
    #[must_use]
    pub fn take_count(&self) -> Count {
        std::mem::take(&mut lock(&self.tally).count)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends.
        TcpStream::connect(self.address).ok();
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes both ways until both ends have closed. They are counted where the client is: when
/// it has sent them, and before it is given them.
fn join(
    client: TcpStream,
    server: TcpStream,
    one_way: Duration,
    tally: &Arc<Mutex<Tally>>,
) -> Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    lock(tally).connected();
    let (sent, received) = (Arc::clone(tally), Arc::clone(tally));
    pass(
        (client.try_clone()?, server.try_clone()?),
        one_way,
        move |bytes| lock(&sent).sent(bytes),
        |_| (),
    );
    pass(
        (server, client),
        one_way,
        |_| (),
        move |bytes| lock(&received).received(bytes),
    );
    Ok(())
}

/// Reads at once and writes later, so that a delay takes nothing from the bandwidth.
fn pass(
    (mut from, mut to): (TcpStream, TcpStream),
    delay: Duration,
    on_read: impl Fn(usize) + Send + 'static,
    on_write: impl Fn(usize) + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            on_read(length);
            if sender
                .send((Instant::now(), buffer[..length].to_vec()))
                .is_err()
            {
                break;
            }
        }
        from.shutdown(Shutdown::Read).ok();
    });
    thread::spawn(move || {
        for (read_at, bytes) in receiver {
            thread::sleep(delay.saturating_sub(read_at.elapsed()));
            on_write(bytes.len());
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write).ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what it is sent, until the client stops sending.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut answers = stream.try_clone().unwrap();
                thread::spawn(move || std::io::copy(&mut stream, &mut answers));
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream, question: &[u8]) {
        stream.write_all(question).unwrap();
        stream.read_exact(&mut vec![0; question.len()]).unwrap();
    }

    #[test]
    fn counts_a_question_after_an_answer_as_a_turn() {
        let proxy = Proxy::start(echo(), Duration::ZERO).unwrap();
        let mut stream = connect(&proxy);
        for question in [b"a", b"b", b"c"] {
            ask(&mut stream, question);
        }
        let count = proxy.count();
        let expected = Count {
            connections: 1,
            sent: 3,
            received: 3,
            turns: 2,
        };
        assert_eq!(count, expected);
    }

    #[test]
    fn a_long_question_is_one_turn_however_many_pieces_it_comes_in() {
        let proxy = Proxy::start(echo(), Duration::from_millis(250)).unwrap();
        let mut stream = connect(&proxy);
        ask(&mut stream, b"a");
        ask(&mut stream, &[b'b'; 5 * PIECE]);
        assert_eq!(proxy.take_count().turns, 1);
        ask(&mut stream, b"c");
        let count = proxy.count();
        assert_eq!((count.sent, count.received), (1, 1));
    }

    #[test]
    fn an_answer_in_pieces_is_one_turn_even_for_a_client_that_speaks_after_each() {
        let proxy = Proxy::start(echo(), Duration::from_millis(500)).unwrap();
        let mut stream = connect(&proxy);
        let mut piece = [0];
        stream.write_all(b"a").unwrap();
        thread::sleep(Duration::from_millis(20));
        stream.write_all(b"b").unwrap();
        for word in [b"c", b"d"] {
            stream.read_exact(&mut piece).unwrap();
            stream.write_all(word).unwrap();
        }
        stream.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(proxy.count().turns, 1);
    }

    #[test]
    fn passes_the_end_of_a_connection_on() {
        let proxy = Proxy::start(echo(), Duration::ZERO).unwrap();
        let mut stream = connect(&proxy);
        stream.write_all(b"last words").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "last words");
    }
}
