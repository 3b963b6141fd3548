//! The proof that sshd can serve: one session of the appliance's own, on a connection that nobody else has.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Sshd;
use super::handshake::handshake_on;
use super::log::is_routine;
use super::process::Process;

/// How long an sshd may take to notice that its connection was cut.
const EXIT_GRACE: Duration = Duration::from_secs(1);
/// How much of what it says is kept, in bytes: a line or two.
const LOG_BYTES: usize = 500;

/// Starts an sshd as for a machine, and begins a connection with it as a machine does.
pub(super) fn of(sshd: &Sshd, limit: Duration) -> Result<String> {
    let (ours, theirs) = pair().context("can't connect to myself")?;
    let process = sshd.start(&theirs).context("sshd can't be started")?;
    let deadline = Instant::now() + limit + EXIT_GRACE;
    thread::scope(|scope| {
        // Not Scope::spawn, which panics where there are no threads left.
        let log = thread::Builder::new()
            .spawn_scoped(scope, || read_log(&process, deadline))
            .context("a thread can't be started")?;
        let answer = handshake_on(ours, limit);
        process.hang_up();
        let log = log.join().unwrap_or_default();
        answer.map_err(|error| match log.is_empty() {
            true => error,
            false => anyhow!("{error:#}; it said: {log}"),
        })
    })
}

/// Whether a failure says that the system has no more processes, memory or files to give, rather than something
/// about sshd.
pub fn is_shortage(error: &anyhow::Error) -> bool {
    let scarce = [
        Errno::AGAIN,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
    ];
    error
        .downcast_ref::<io::Error>()
        .and_then(Errno::from_io_error)
        .is_some_and(|errno| scarce.contains(&errno))
}

/// Both ends of a connection, as machines have one: sshd treats other sockets differently.
fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (theirs, peer) = listener.accept()?;
    ensure!(peer == ours.local_addr()?, "somebody else came first");
    Ok((ours, theirs))
}

/// Hears what sshd says beside what it always says, until it ends. Then its end of the connection, of which this
/// process has a copy, is cut.
fn read_log(process: &Process, deadline: Instant) -> String {
    let mut lines: Vec<String> = Vec::new();
    loop {
        match process.log.next() {
            Ok(Some(line)) if is_routine(&line.text) => {}
            Ok(Some(line)) => lines.push(line.text),
            Ok(None) => break process.hang_up(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || wait(process, left).is_err() {
                    break process.kill();
                }
            }
            Err(_) => break process.kill(),
        }
    }
    let mut log = lines.join("; ");
    // Every line is ASCII.
    log.truncate(LOG_BYTES);
    log
}

/// Waits for sshd to say something, or to end.
fn wait(process: &Process, limit: Duration) -> io::Result<()> {
    let limit = Timespec::try_from(limit).ok();
    let mut sources = [PollFd::new(&process.log, PollFlags::IN)];
    match poll(&mut sources, limit.as_ref()) {
        Err(Errno::INTR) => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_from_a_fault() {
        let failure = |errno: Errno| {
            anyhow::Error::from(io::Error::from(errno)).context("sshd can't be started")
        };
        for errno in [Errno::AGAIN, Errno::NOMEM, Errno::MFILE] {
            assert!(is_shortage(&failure(errno)), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOEXEC] {
            assert!(!is_shortage(&failure(errno)), "{errno}");
        }
        assert!(!is_shortage(&anyhow!("it took too long")));
    }
}
