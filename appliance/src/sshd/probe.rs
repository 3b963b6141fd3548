//! The probe of sshd: one session of the appliance's own, on a private connection.

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

/// The time for an sshd to notice that its connection was cut.
const EXIT_GRACE: Duration = Duration::from_secs(1);
/// The most bytes of its log in an error: a line or two.
const LOG_BYTES: usize = 500;

/// Starts an sshd as for a machine, and begins a connection as a machine does.
pub(super) fn of(sshd: &Sshd, limit: Duration) -> Result<String> {
    let (ours, theirs) = pair().context("the appliance can't connect to itself")?;
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

/// Whether a failure is a shortage of processes, memory or files, and not a fault of sshd.
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
    ensure!(peer == ours.local_addr()?, "another connection came first");
    Ok((ours, theirs))
}

/// Reads the log of an sshd until it ends, without routine lines. Then this process' copy of its end of the connection is
/// cut.
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

/// Waits for a line of the log, or its end.
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
    fn a_shortage_is_no_fault() {
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
