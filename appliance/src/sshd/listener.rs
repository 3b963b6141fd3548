use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use tracing::{Level, debug, error, info, warn};

use super::command::Sshd;
use super::handshake::OWN_ADDRESS;
use super::log::Line;
use super::pending_connections::{IDENTIFICATION_BYTES, Introduction, PendingConnections};
use super::poll::{Poll, Source};
use super::process::Process;
use super::session_table::Action;
use super::sessions::{Event, Shared};
use super::tcp_info;
use crate::text::log_limiter::LogLimiter;

/// How long to wait when the system has no more files, memory or processes to give.
const PAUSE: Duration = Duration::from_secs(1);
/// How often those who have slots are looked at while others wait for one.
const LOOK: Duration = Duration::from_millis(100);
/// How many lines of one session are read before others have their turn.
const LINES_AT_ONCE: usize = 16;
/// How many connections are accepted before sessions have their turn.
const GUESTS_AT_ONCE: usize = 64;

/// Accepts connections, gives each an sshd, and watches what becomes of them: one thread for all.
pub(super) struct Acceptor<R: Fn(Event)> {
    poll: Poll,
    listener: Option<TcpListener>,
    listening: bool,
    lobby: PendingConnections,
    processes: HashMap<u64, Process>,
    /// Until when nothing is accepted, and nothing started: the system has nothing to give.
    paused_until: Option<Instant>,
    sshd: Sshd,
    shared: Arc<Shared>,
    reporter: Reporter<R>,
    /// What is told of who hasn't logged in.
    strangers: LogLimiter,
}

/// Tells of events, the last one also when the thread ends in any other way than it should.
struct Reporter<R: Fn(Event)>(R);

impl<R: Fn(Event)> Drop for Reporter<R> {
    fn drop(&mut self) {
        (self.0)(Event::Stopped);
    }
}

impl<R: Fn(Event)> Acceptor<R> {
    pub(super) fn new(
        listener: TcpListener,
        sshd: Sshd,
        shared: Arc<Shared>,
        report: R,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.add(&shared.wake, Source::Wake)?;
        Ok(Acceptor {
            poll,
            listener: Some(listener),
            listening: false,
            lobby: PendingConnections::new(),
            processes: HashMap::new(),
            paused_until: None,
            sshd,
            shared,
            reporter: Reporter(report),
            strangers: LogLimiter::default(),
        })
    }

    /// Runs until the sessions are closed and the last one has ended.
    pub(super) fn run(mut self) {
        loop {
            if self.shared.is_closed() {
                self.close();
                if self.processes.is_empty() {
                    return;
                }
            }
            if let Err(error) = self.turn() {
                error!("no connection can be accepted any more: {error}");
                return;
            }
        }
    }

    /// Does what is due, then waits for something to happen, and takes note of it.
    fn turn(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        self.keep_rules(now);
        self.admit(now);
        self.tend_listener()?;
        let timeout = self
            .next_due(now)
            .map(|due| due.saturating_duration_since(now));
        for (source, is_gone) in self.poll.wait(timeout)? {
            match source {
                Source::Wake => self.drain_wake(),
                Source::Listener => self.accept(),
                Source::PendingConnection(number) => self.hear_guest(number, is_gone),
                Source::Session(number) => self.read_log(number),
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.listener = None;
        self.lobby = PendingConnections::new();
    }

    fn drain_wake(&self) {
        // Several wakes at once count as one.
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
    }

    /// When time alone gives something to do.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        let registry = self.shared.registry();
        let lobby = self
            .lobby
            .next_due(registry.slots(now), registry.limits(), now);
        let look = (self.lobby.waiting() > 0).then(|| now + LOOK);
        [registry.next_due(now), lobby, look, self.paused_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Looks at what those who have slots do with them, if somebody waits for one.
    fn make_room(&self, now: Instant) {
        let waiting = self.lobby.waiting();
        if waiting == 0 {
            return;
        }
        let mut registry = self.shared.registry();
        for number in registry.unauthenticated() {
            let process = self.processes.get(&number);
            if let Some(turn) = process.and_then(|process| tcp_info::of(process.connection())) {
                registry.observe(number, turn, now);
            }
        }
        registry.make_room(waiting, now);
    }

    /// Ends the sessions and sends away the guests whose time has come.
    fn keep_rules(&mut self, now: Instant) {
        self.make_room(now);
        let actions = self.shared.registry().due(now);
        for action in actions {
            match action {
                Action::HangUp(session, reason) => {
                    let known = self.shared.registry().is_known(session);
                    if known || self.may_tell_of_strangers() {
                        info!(session, "the session is ended: {reason}");
                    }
                    self.processes
                        .get(&session)
                        .inspect(|process| process.hang_up());
                }
                Action::Kill(session) => {
                    warn!(
                        session,
                        "sshd is still there after its wire was cut: it is killed"
                    );
                    self.processes
                        .get(&session)
                        .inspect(|process| process.kill());
                }
            }
        }
        let grace = self.shared.registry().limits().grace;
        for number in self.lobby.overdue(grace, now) {
            debug!("a connection that didn't introduce itself is closed");
            self.lobby.leave(number);
        }
    }

    /// Listens as long as there is room for another guest. Those that come meanwhile wait in the kernel's queue.
    fn tend_listener(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        let room = self.lobby.len() < self.shared.registry().limits().guests;
        let wanted = room && self.paused_until.is_none();
        if wanted && !self.listening {
            self.poll.add(listener, Source::Listener)?;
        } else if !wanted && self.listening {
            self.poll.remove(listener)?;
        }
        self.listening = wanted;
        Ok(())
    }

    fn accept(&mut self) {
        for _ in 0..GUESTS_AT_ONCE {
            let Some(listener) = &self.listener else {
                return;
            };
            if self.lobby.len() >= self.shared.registry().limits().guests {
                return;
            }
            match listener
                .accept()
                .and_then(|(connection, peer)| self.receive(connection, peer.ip()))
            {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if lacks_resources(&error) => {
                    warn!("connections must wait: {error}");
                    self.paused_until = Some(Instant::now() + PAUSE);
                    return;
                }
                // The connection was gone before it was accepted.
                Err(error) => debug!("a connection failed: {error}"),
            }
        }
    }

    fn receive(&mut self, connection: TcpStream, peer: IpAddr) -> io::Result<()> {
        // Measured: sshd's small packets otherwise wait 40 ms for an acknowledgement.
        connection.set_nodelay(true)?;
        let own = peer.to_canonical() == IpAddr::V4(OWN_ADDRESS);
        let number = self.lobby.enter(connection, own, Instant::now());
        let Some(connection) = self.lobby.get(number) else {
            return Ok(());
        };
        // What a guest has said stays unread.
        let added = self
            .poll
            .add_once(connection, Source::PendingConnection(number));
        if added.is_err() {
            self.lobby.leave(number);
        }
        added
    }

    fn hear_guest(&mut self, number: u64, is_gone: bool) {
        let Some(connection) = self.lobby.get(number) else {
            return;
        };
        let mut bytes = [0; IDENTIFICATION_BYTES + 1];
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let introduction = match recv(connection, &mut bytes, peek) {
            Ok((_, length)) => Introduction::of(&bytes[..length]),
            Err(rustix::io::Errno::AGAIN) => Introduction::Silent,
            Err(_) => Introduction::Foreign,
        };
        if is_gone || introduction == Introduction::Foreign {
            debug!("a connection that isn't SSH, or has gone, is closed");
            self.lobby.leave(number);
        } else {
            self.lobby.hear(number, introduction);
        }
    }

    /// Gives an sshd to as many guests as there are slots.
    fn admit(&mut self, now: Instant) {
        while self.paused_until.is_none() {
            let mut registry = self.shared.registry();
            let guest = self
                .lobby
                .next_guest(registry.slots(now), registry.limits().patience, now);
            let Some((number, guest)) = guest else { return };
            let session = registry.begin(guest.own, now);
            drop(registry);
            match self
                .sshd
                .start(&guest.connection)
                .and_then(|process| self.watch(session, process))
            {
                Ok(process) => {
                    // sshd's copy of the socket would keep it in there.
                    let _ = self.poll.remove(&guest.connection);
                    self.lobby.leave(number);
                    self.processes.insert(session, process);
                }
                // The guest stays, and is the next one again.
                Err(error) => {
                    error!(session, "sshd can't be started: {error}");
                    self.end(session);
                    self.paused_until = Some(now + PAUSE);
                }
            }
        }
    }

    fn watch(&self, session: u64, process: Process) -> io::Result<Process> {
        self.poll.add(&process.log, Source::Session(session))?;
        Ok(process)
    }

    fn read_log(&mut self, session: u64) {
        for _ in 0..LINES_AT_ONCE {
            let Some(process) = self.processes.get(&session) else {
                return;
            };
            match process.log.next() {
                Ok(Some(line)) => self.take_note(session, &line),
                Ok(None) => return self.end(session),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    error!(session, "the log of a session can't be read: {error}");
                    return self.end(session);
                }
            }
        }
    }

    fn take_note(&mut self, session: u64, line: &Line) {
        let mut registry = self.shared.registry();
        let own = registry.is_own(session);
        let authenticated = registry.identify(session, line.uid, Instant::now());
        let known = registry.is_known(session);
        drop(registry);
        let level = line.level(own);
        if level == Level::DEBUG || known || line.is_login() || self.may_tell_of_strangers() {
            line.emit(session, level);
        }
        if authenticated {
            self.report(Event::Authenticated {
                session,
                uid: line.uid,
            });
        }
    }

    /// Whether there may be another line about who hasn't logged in: there are many of them on the Internet.
    fn may_tell_of_strangers(&mut self) -> bool {
        let may = self.strangers.may_write(Instant::now());
        if may {
            let kept_back = self.strangers.kept_back();
            if kept_back > 0 {
                info!("… and {kept_back} more lines about connections that didn't log in");
            }
        }
        may
    }

    fn end(&mut self, session: u64) {
        self.processes.remove(&session);
        let uid = self.shared.registry().ended(session);
        self.report(Event::Ended { session, uid });
    }

    fn report(&self, event: Event) {
        (self.reporter.0)(event);
    }
}

/// Whether an error of accept says that the system has nothing more to give, rather than something about one
/// connection.
fn lacks_resources(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacking = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::NOSPC,
    ];
    Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
}
