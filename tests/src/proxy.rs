//! A TCP proxy that counts bytes and round trips, and can make the way longer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What has passed, as a client sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections that were opened.
    pub connections: u64,
    /// Bytes from clients to the server.
    pub sent: u64,
    /// Bytes from the server to clients.
    pub received: u64,
    /// How often a client spoke after it had heard something since it last spoke. With the opening
    /// of the connection (one more), that is how many round trips it has waited for.
    pub turns: u64,
}

#[derive(Debug, Default)]
struct Tally {
    count: Count,
    heard: bool,
}

impl Tally {
    fn sent(&mut self, bytes: usize) {
        self.count.sent += bytes as u64;
        self.count.turns += u64::from(self.heard);
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
        let tally = Arc::new(Mutex::new(Tally::default()));
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
        std::mem::take(&mut *lock(&self.tally)).count
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
    lock(tally).count.connections += 1;
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
        let mut buffer = vec![0; 64 * 1024];
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

    /// Answers each byte with one byte, until the client stops sending.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut byte = [0];
                    while let Ok(1..) = stream.read(&mut byte) {
                        stream.write_all(&byte).unwrap();
                    }
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream, question: &[u8]) {
        stream.write_all(question).unwrap();
        stream.read_exact(&mut vec![0; question.len()]).unwrap();
    }

    #[test]
    fn counts_a_question_after_an_answer_as_a_turn() {
        let proxy = Proxy::start(echo(), Duration::ZERO).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
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
    fn questions_asked_at_once_cost_one_turn_on_a_long_way() {
        let proxy = Proxy::start(echo(), Duration::from_millis(100)).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        ask(&mut stream, b"a");
        ask(&mut stream, b"many at once");
        assert_eq!(proxy.take_count().turns, 1);
        ask(&mut stream, b"b");
        assert_eq!(
            proxy.count(),
            Count {
                connections: 0,
                sent: 1,
                received: 1,
                turns: 0
            }
        );
    }

    #[test]
    fn passes_the_end_of_a_connection_on() {
        let proxy = Proxy::start(echo(), Duration::ZERO).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream.write_all(b"last words").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "last words");
    }
}
