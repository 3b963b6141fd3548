//! A TCP proxy that counts bytes and round trips, and can make the way longer, or lose it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
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
    /// the time that a round trip takes: an answer may come in pieces, and it may
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Stalled,
    Cut,
}

/// What connections pass, and which pass it.
#[derive(Debug, Default)]
struct Way {
    connections: Mutex<(State, Vec<Weak<TcpStream>>)>,
    changed: Condvar,
}

impl Way {
    fn set(&self, state: State) {
        let mut guarded = lock(&self.connections);
        guarded.0 = state;
        if state == State::Cut {
            for stream in guarded.1.drain(..).filter_map(|it| it.upgrade()) {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
        self.changed.notify_all();
    }

    fn add(&self, stream: &Arc<TcpStream>) {
        let streams = &mut lock(&self.connections).1;
        streams.retain(|known| known.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    fn is_cut(&self) -> bool {
        lock(&self.connections).0 == State::Cut
    }

    fn await_passage(&self) {
        let guarded = lock(&self.connections);
        let passage = self
            .changed
            .wait_while(guarded, |(state, _)| *state == State::Stalled);
        drop(passage.unwrap_or_else(PoisonError::into_inner));
    }
}

/// A proxy on a free port, until it is dropped. Turns are only meaningful while one connection at a
/// time passes.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    way: Arc<Way>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts to pass connections on to `server`, each way taking `one_way` longer than it would.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start(server: SocketAddr, one_way: Duration) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), server, one_way)
    }

    /// Does so at another address of this machine, e.g. [`Guest::host_address`](crate::Guest::host_address).
    ///
    /// # Errors
    /// If there is no free port, or no such address.
    pub fn start_at(here: IpAddr, server: SocketAddr, one_way: Duration) -> Result<Self> {
        let listener = TcpListener::bind((here, 0))
            .with_context(|| format!("cannot start a proxy at {here}"))?;
        let proxy = Self {
            address: listener.local_addr()?,
            tally: Arc::new(Mutex::new(Tally::new(one_way * 2))),
            way: Arc::default(),
            ended: Arc::default(),
        };
        let (tally, way) = (Arc::clone(&proxy.tally), Arc::clone(&proxy.way));
        let ended = Arc::clone(&proxy.ended);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                if way.is_cut() {
                    continue;
                }
                // A server that refuses ends the client's connection, as it would without a proxy.
                if let Ok(server) = TcpStream::connect(server) {
                    join(client, server, one_way, &tally, &way).ok();
                }
            }
        });
        Ok(proxy)
    }

    /// Loses all that is sent from now on, as a network does that drops packets: connections stay, and
    /// nothing comes. What was on its way is there when the way is open again.
    pub fn stall(&self) {
        self.way.set(State::Stalled);
    }

    /// Ends all connections, and ends new ones at once.
    pub fn cut(&self) {
        self.way.set(State::Cut);
    }

    /// Opens the way again.
    pub fn mend(&self) {
        self.way.set(State::Open);
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
        // What waits for the way must not wait for ever.
        self.way.set(State::Cut);
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends.
        TcpStream::connect(self.address).ok();
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes both ways until both ends have closed. They are counted where the client is: when
/// it has sent them, and before it is given them.
fn join(
    client: TcpStream,
    server: TcpStream,
    one_way: Duration,
    tally: &Arc<Mutex<Tally>>,
    way: &Arc<Way>,
) -> Result<()> {
    let (client, server) = (Arc::new(client), Arc::new(server));
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        way.add(stream);
    }
    lock(tally).connected();
    let (sent, received) = (Arc::clone(tally), Arc::clone(tally));
    pass(
        (Arc::clone(&client), Arc::clone(&server)),
        (one_way, Arc::clone(way)),
        move |bytes| lock(&sent).sent(bytes),
        |_| (),
    );
    pass(
        (server, client),
        (one_way, Arc::clone(way)),
        |_| (),
        move |bytes| lock(&received).received(bytes),
    );
    Ok(())
}

/// Reads at once and writes later, so that a delay takes nothing from the bandwidth.
fn pass(
    (from, to): (Arc<TcpStream>, Arc<TcpStream>),
    (delay, way): (Duration, Arc<Way>),
    on_read: impl Fn(usize) + Send + 'static,
    on_write: impl Fn(usize) + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = (&*from).read(&mut buffer) {
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
            way.await_passage();
            on_write(bytes.len());
            if (&*to).write_all(&bytes).is_err() {
                break;
            }
        }
        // The end of a connection isn't heard of either.
        way.await_passage();
        to.shutdown(Shutdown::Write).ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anything takes here.
    const SHORT: Duration = Duration::from_secs(20);

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
        stream.set_read_timeout(Some(SHORT)).unwrap();
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
    fn what_is_sent_over_a_lost_way_comes_when_it_is_mended() {
        let proxy = Proxy::start(echo(), Duration::ZERO).unwrap();
        let mut stream = connect(&proxy);
        ask(&mut stream, b"a");
        proxy.stall();
        stream.write_all(b"b").unwrap();
        let limit = Some(Duration::from_millis(200));
        stream.set_read_timeout(limit).unwrap();
        let silence = stream.read(&mut [0]).unwrap_err();
        assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
        proxy.mend();
        stream.set_read_timeout(Some(SHORT)).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"b");
    }

    #[test]
    fn a_way_that_is_cut_ends_connections_old_and_new_until_it_is_mended() {
        let proxy = Proxy::start(echo(), Duration::ZERO).unwrap();
        let mut stream = connect(&proxy);
        ask(&mut stream, b"a");
        proxy.cut();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(connect(&proxy).read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(proxy.count().connections, 1);
        proxy.mend();
        ask(&mut connect(&proxy), b"b");
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
