//! Follows the status: on a full screen, or as one document on each line.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use super::screen::FullScreen;
use super::source::StatusSource;
use super::view::{Key, View};
use crate::status;
use crate::text::terminal::{Terminal, legible};

/// The interval at which ages are redrawn.
const AGE: Duration = Duration::from_secs(30);

/// Prints each changed status as one line, until the reader is gone.
///
/// # Errors
/// When the source has ended, with the cause.
pub(super) fn print(command: &super::StatusCommand, output: &mut dyn Write) -> anyhow::Result<()> {
    let mut source = StatusSource::of(command.appliance.find()?)?;
    let mut last = None;
    loop {
        if let Some(mut status) = source.next()? {
            if last.is_none() {
                status.require(&command.filter.names)?;
            }
            command.filter.apply(&mut status);
            let same = |last: &status::Status| last.says_the_same_as(&status);
            if !last.as_ref().is_some_and(same) {
                serde_json::to_writer(&mut *output, &status).map_err(std::io::Error::from)?;
                output.write_all(b"\n")?;
                output.flush()?;
                last = Some(status);
            }
        }
        let stdin = rustix::stdio::stdin();
        let mut fds = source.fds();
        let own = fds.len();
        // Without any flag, poll still reports that the reader is gone.
        fds.push(PollFd::from_borrowed_fd(
            rustix::stdio::stdout(),
            PollFlags::empty(),
        ));
        if command.end_with_input && is_pipe(stdin) {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        wait(&mut fds, source.due())?;
        let input_is_ready = fds.get(own + 1).is_some_and(|fd| !fd.revents().is_empty());
        if !fds[own].revents().is_empty() || input_is_ready && has_ended(stdin) {
            return Ok(());
        }
    }
}

/// Draws the status on the terminal, until the user quits or the terminal is closed.
///
/// # Errors
/// When the source has ended, with the cause; the terminal is restored.
pub(super) fn show(command: &super::StatusCommand) -> anyhow::Result<()> {
    let mut source = StatusSource::of(command.appliance.find()?)?;
    // Not before there is a status: until then, ssh may ask for a password.
    let first = loop {
        if let Some(status) = source.next()? {
            break status;
        }
        wait(&mut source.fds(), source.due())?;
    };
    first.require(&command.filter.names)?;
    let (mut received, mut view) = (Instant::now(), filtered_view(command, first));

    let terminal = Terminal::of_output();
    let colours = terminal.is_some_and(|terminal| terminal.colours);
    let signals = Signals::catch()?;
    let mut screen = FullScreen::enter().context("can't control the terminal")?;
    loop {
        let size = screen.size();
        let lines = view.draw(moment(&view, received), size, colours);
        let lines: Vec<_> = lines
            .into_iter()
            .map(|line| legible(line, terminal))
            .collect();
        if screen.draw(&lines).is_err() {
            return Ok(());
        }
        let redraw = Instant::now() + AGE;
        loop {
            let mut fds = vec![
                PollFd::from_borrowed_fd(screen.keys(), PollFlags::IN),
                PollFd::new(&signals.resized, PollFlags::IN),
                PollFd::new(&signals.ended, PollFlags::IN),
            ];
            fds.extend(source.fds());
            let due = source.due().map_or(redraw, |due| due.min(redraw));
            wait(&mut fds, Some(due))?;
            let [pressed, resized, ended] = [0, 1, 2].map(|which| !fds[which].revents().is_empty());
            if ended {
                return Ok(());
            }
            if pressed {
                let Some(keys) = screen.read_keys() else {
                    return Ok(());
                };
                if keys.contains(&Key::Quit) {
                    return Ok(());
                }
                keys.iter().for_each(|key| view.press(*key, size));
            }
            if resized {
                signals.forget_resize();
            }
            let status = source.next()?;
            let is_new = status.is_some();
            if let Some(mut status) = status {
                received = Instant::now();
                let of = command.filter.apply(&mut status);
                view.show(status, of);
            }
            if pressed || resized || is_new || Instant::now() >= redraw {
                break;
            }
        }
    }
}

fn filtered_view(command: &super::StatusCommand, mut status: status::Status) -> View {
    let of = command.filter.apply(&mut status);
    View::of(status, of)
}

/// The current time of the appliance.
fn moment(view: &View, received: Instant) -> Timestamp {
    let since = SignedDuration::try_from(received.elapsed()).unwrap_or_default();
    view.at().saturating_add(since).unwrap_or(view.at())
}

/// Waits until a file descriptor is ready, or a time.
fn wait(fds: &mut [PollFd<'_>], due: Option<Instant>) -> anyhow::Result<()> {
    let left = due.map(|due| due.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("can't wait for changes"),
    }
}

fn is_pipe(fd: impl AsFd) -> bool {
    let kind = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket))
}

/// Whether a readable file descriptor is at its end.
fn has_ended(fd: impl AsFd) -> bool {
    !matches!(
        rustix::io::read(fd, &mut [0; 1 << 10]),
        Ok(1..) | Err(Errno::INTR | Errno::AGAIN)
    )
}

/// Signals as file descriptors.
struct Signals {
    resized: UnixStream,
    ended: UnixStream,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let pipe = |signals: &[i32]| -> std::io::Result<UnixStream> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            Ok(read)
        };
        let catch = || {
            Ok::<_, std::io::Error>(Signals {
                resized: pipe(&[SIGWINCH])?,
                ended: pipe(&[SIGHUP, SIGINT, SIGTERM])?,
            })
        };
        catch().context("can't handle signals")
    }

    fn forget_resize(&self) {
        let mut buffer = [0; 64];
        while matches!(rustix::io::read(&self.resized, &mut buffer), Ok(1..)) {}
    }
}
