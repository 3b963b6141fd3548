use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{Level, debug, error, info, warn};

use super::command::Sshd;
use super::event::SessionEvent;
use super::handshake::OWN_ADDRESS;
use super::log::Line;
use super::pending_connections::{PendingConnections, is_abandoned};
use super::poll::{Poll, Source};
use super::process::Process;
use super::session_table::Action;
use super::shared::SharedTable;
use crate::text::log_limiter::LogLimiter;

/// The pause after a shortage of files, memory or processes.
const PAUSE: Duration = Duration::from_secs(1);
/// The most lines of one session that are read before those of others.
const LINES_AT_ONCE: usize = 16;
/// The most connections that are accepted before sessions are served.
const ACCEPTED_AT_ONCE: usize = 64;

/// Accepts connections, gives each an sshd, and reads the sshds' logs: one thread for all.
pub(super) struct Listener<R: Fn(SessionEvent)> {
    poll: Poll,
    /// None once the sessions are closed.
    socket: Option<TcpListener>,
    /// Whether the socket is polled.
    listening: bool,
    pending: PendingConnections,
    processes: HashMap<u64, Process>,
    /// The end of a pause in accepting and starting, for want of files, memory or processes.
    paused_until: Option<Instant>,
    sshd: Sshd,
    shared: Arc<SharedTable>,
    reporter: Reporter<R>,
    /// Limits the log lines about connections that haven't authenticated: there are many of them on the Internet.
    log_limiter: LogLimiter,
}

/// Reports events. The last one is reported however the thread ends.
struct Reporter<R: Fn(SessionEvent)>(R);

impl<R: Fn(SessionEvent)> Drop for Reporter<R> {
    fn drop(&mut self) {
        (self.0)(SessionEvent::Stopped);
    }
}

impl<R: Fn(SessionEvent)> Listener<R> {
    pub(super) fn new(
        socket: TcpListener,
        sshd: Sshd,
        shared: Arc<SharedTable>,
        report: R,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.add(&shared.waker, Source::Wake)?;
        Ok(Listener {
            poll,
            socket: Some(socket),
            listening: false,
            pending: PendingConnections::new(),
            processes: HashMap::new(),
            paused_until: None,
            sshd,
            shared,
            reporter: Reporter(report),
            log_limiter: LogLimiter::default(),
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
            if let Err(error) = self.step() {
                error!("no connection can be accepted any more: {error}");
                return;
            }
        }
    }

    /// Does what is due, then waits for events and handles them.
    fn step(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        self.end_sessions(now);
        self.admit(now);
        self.poll_socket()?;
        let timeout = self
            .next_due()
            .map(|due| due.saturating_duration_since(now));
        for source in self.poll.wait(timeout)? {
            match source {
                Source::Wake => self.shared.clear_wakes(),
                Source::Listener => self.accept(),
                Source::Session(number) => self.read_log(number),
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.socket = None;
        self.pending = PendingConnections::new();
    }

    /// The time of the next action, if no event comes before.
    fn next_due(&self) -> Option<Instant> {
        let session = self.shared.table().next_due(self.pending.others());
        session.into_iter().chain(self.paused_until).min()
    }

    /// Ends the sessions that are due.
    fn end_sessions(&mut self, now: Instant) {
        let actions = self.shared.table().due(self.pending.others(), now);
        for action in actions {
            match action {
                Action::HangUp(session, reason) => {
                    let known = self.shared.table().is_known(session);
                    if known || self.may_log_unauthenticated() {
                        info!(session, "the session is ended: {reason}");
                    }
                    self.processes
                        .get(&session)
                        .inspect(|process| process.hang_up());
                }
                Action::Kill(session) => {
                    warn!(
                        session,
                        "sshd still runs after its connection was cut: it is killed"
                    );
                    self.processes
                        .get(&session)
                        .inspect(|process| process.kill());
                }
            }
        }
    }

    /// Polls the socket while there is room for another pending connection. Further ones wait in the kernel's queue.
    fn poll_socket(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let wanted = self.has_room() && self.paused_until.is_none();
        if wanted && !self.listening {
            self.poll.add(socket, Source::Listener)?;
        } else if !wanted && self.listening {
            self.poll.remove(socket)?;
        }
        self.listening = wanted;
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.pending.len() < self.shared.table().limits().pending
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            let Some(socket) = &self.socket else {
                return;
            };
            if !self.has_room() {
                return;
            }
            match socket
                .accept()
                .and_then(|(connection, peer)| self.enqueue(connection, peer.ip()))
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

    fn enqueue(&mut self, connection: TcpStream, peer: IpAddr) -> io::Result<()> {
        // Measured: sshd's small packets otherwise wait 40 ms for an acknowledgement.
        connection.set_nodelay(true)?;
        let own = peer.to_canonical() == IpAddr::V4(OWN_ADDRESS);
        self.pending.push(connection, own);
        Ok(())
    }

    /// Starts an sshd for as many pending connections as there are free slots.
    fn admit(&mut self, now: Instant) {
        for own in [true, false] {
            while self.paused_until.is_none() && self.shared.table().has_free_slot(own) {
                let Some(connection) = self.pending.pop(own) else {
                    break;
                };
                if !is_abandoned(&connection) {
                    self.start(connection, own, now);
                }
            }
        }
    }

    fn start(&mut self, connection: TcpStream, own: bool, now: Instant) {
        let session = self.shared.table().begin(own, now);
        match self
            .sshd
            .start(&connection)
            .and_then(|process| self.watch(session, process))
        {
            Ok(process) => _ = self.processes.insert(session, process),
            Err(error) => {
                error!(session, "sshd can't be started: {error}");
                self.end(session);
                self.pending.push_front(connection, own);
                self.paused_until = Some(now + PAUSE);
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
                Ok(Some(line)) => self.handle_line(session, &line),
                Ok(None) => return self.end(session),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    error!(session, "the log of a session can't be read: {error}");
                    return self.end(session);
                }
            }
        }
    }

    fn handle_line(&mut self, session: u64, line: &Line) {
        let mut table = self.shared.table();
        let own = table.is_own(session);
        let authenticated = table.identify(session, line.uid, Instant::now());
        let known = table.is_known(session);
        drop(table);
        let level = line.level(own);
        if level == Level::DEBUG || known || line.is_login() || self.may_log_unauthenticated() {
            line.emit(session, level);
        }
        if authenticated {
            self.report(SessionEvent::Authenticated {
                session,
                uid: line.uid,
            });
        }
    }

    /// Whether another line about a connection that hasn't authenticated may be logged.
    fn may_log_unauthenticated(&mut self) -> bool {
        let may = self.log_limiter.may_write(Instant::now());
        if may {
            let suppressed = self.log_limiter.take_suppressed();
            if suppressed > 0 {
                info!("… and {suppressed} more lines about connections that didn't log in");
            }
        }
        may
    }

    fn end(&mut self, session: u64) {
        self.processes.remove(&session);
        let uid = self.shared.table().remove(session);
        self.report(SessionEvent::Ended { session, uid });
    }

    fn report(&self, event: SessionEvent) {
        (self.reporter.0)(event);
    }
}

/// Whether an error of accept is a shortage of the system, and not a fault of one connection.
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
