//! The reports of a machine as they come.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use bento_protocol::HostName;
use rustix::event::{PollFd, PollFlags, poll};

use super::{MachineReports, ReportEntry};
use crate::store::paths::State;
use crate::store::stamp::Stamp;

/// The interval between two looks for new reports.
const INTERVAL: Duration = Duration::from_secs(1);

/// Gives each report to `show`, oldest first: the last `count` that there are, and then each that comes, until `ends` sends
/// something.
///
/// # Errors
/// When `show` fails, or the machine was removed.
pub fn follow(
    state: &State,
    name: &HostName,
    count: usize,
    ends: impl FnOnce(Sender<()>),
    mut show: impl FnMut(&ReportEntry) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Kept as well, so that the waiting doesn't end where `ends` drops its own.
    let (sender, end) = mpsc::channel();
    ends(sender.clone());
    let host = state.host(name);
    let mut known = None;
    let mut shown: Option<(Option<jiff::Timestamp>, u64)> = None;
    loop {
        // Before the reports are read: a change in between is read twice rather than never. The summary changes with
        // each report, the folder where the machine is removed.
        let stamps = [host.summary(), host.root().to_owned()].map(|path| Stamp::of(&path));
        if known != Some(stamps) {
            known = Some(stamps);
            let reports = MachineReports::open(state, name)?;
            // A name that was removed and came again is another machine, with report numbers of its own.
            let after = shown.filter(|(since, _)| *since == reports.since());
            let number = after.map(|(_, number)| number);
            let mut newest: Vec<ReportEntry> = match number {
                None => reports.entries().take(count).collect(),
                Some(number) => reports
                    .entries()
                    .take_while(|entry| entry.number > number)
                    .collect(),
            };
            newest.reverse();
            newest.iter().try_for_each(&mut show)?;
            let last = newest.last().map(|entry| entry.number).or(number);
            shown = Some((reports.since(), last.unwrap_or_default()));
        }
        if end.recv_timeout(INTERVAL).is_ok() {
            return Ok(());
        }
    }
}

/// Sends when our output is closed, as by a `head` that has read enough.
pub fn when_output_ends(end: Sender<()>) {
    thread::spawn(move || {
        let output = io::stdout();
        let mut output = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty())];
        // Without any flag, poll reports only that the other end is closed.
        while poll(&mut output, None).is_ok_and(|ready| ready == 0) {}
        let _ = end.send(());
    });
}

/// Sends when our input ends: with it ends the command that asked from another machine.
pub fn when_input_ends(end: Sender<()>) {
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut ignored = [0; 256];
        while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
        let _ = end.send(());
    });
}
