//! Follows the reports of a machine.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use bento_protocol::HostName;
use rustix::event::{PollFd, PollFlags, poll};

use super::{MachineReports, ReportEntry};
use crate::store::paths::State;
use crate::store::stamp::PathStamp;

/// The interval between two checks for new reports.
const INTERVAL: Duration = Duration::from_secs(1);

/// Passes reports to `show`, oldest first: the last `count`, and then each new one, until `ends` sends something.
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
    // Kept, so that the channel stays open if `ends` drops its sender.
    let (sender, end) = mpsc::channel();
    ends(sender.clone());
    let host = state.host(name);
    let mut known = None;
    let mut shown: Option<(Option<jiff::Timestamp>, u64)> = None;
    loop {
        // Before the reports are read, so that a change in between is read twice, not missed. The summary changes with
        // each report, the folder when the machine is removed.
        let stamps = [host.summary(), host.root().to_owned()].map(|path| PathStamp::of(&path));
        if known != Some(stamps) {
            known = Some(stamps);
            let reports = MachineReports::open(state, name)?;
            // A machine that was removed and added again has new report numbers.
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

/// Sends when our output is closed, for instance by `head`.
pub fn when_output_ends(end: Sender<()>) {
    thread::spawn(move || {
        let output = io::stdout();
        let mut output = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty())];
        // Without any flag, poll reports only a closed pipe.
        while poll(&mut output, None).is_ok_and(|ready| ready == 0) {}
        let _ = end.send(());
    });
}

/// Sends at the end of our input, which means that the remote caller is gone.
pub fn when_input_ends(end: Sender<()>) {
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut ignored = [0; 256];
        while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
        let _ = end.send(());
    });
}
